/* SPDX-License-Identifier: MIT */
/*
 * stream.c: a connected socket as a stream of bytes. What the bytes mean is the protocol's affair.
 * RFC 6455 section 7.1.1, RFC 9112 section 9.6 (closing without losing what was sent).
 */
#include "stream.h"
#include "sendfile.h"

#include <errno.h>

/* ---- the socket: every byte that is sent passes one of these three ---- */

__attribute__((cold, noinline)) static ssize_t filter_bytes(struct ws__stream *s,
                                                            const void *bytes, size_t n)
{
    return s->hub->filter->write(s, &(struct iovec){(void *)bytes, n}, 1);
}

static inline ssize_t transmit(struct ws__stream *s, const void *bytes, size_t n)
{
    if (s->hub->before_output)
        s->hub->before_output(s->hub);
    return ws__stream_is_filtered(s) ? filter_bytes(s, bytes, n) : ws__net_write(s->fd, bytes, n);
}

static inline ssize_t transmit_parts(struct ws__stream *s, const struct iovec *parts, int count)
{
    if (s->hub->before_output)
        s->hub->before_output(s->hub);
    if (ws__stream_is_filtered(s))
        return s->hub->filter->write(s, parts, count);
    return count == 1 ? ws__net_write(s->fd, parts->iov_base, parts->iov_len)
                      : ws__net_writev(s->fd, parts, count);
}

static inline ssize_t transmit_file(struct ws__stream *s, int file, uint64_t offset, size_t n)
{
    if (s->hub->before_output)
        s->hub->before_output(s->hub);
    return ws__stream_is_filtered(s) ? s->hub->filter->write_file(s, file, offset, n)
                                     : ws__sendfile(s->fd, file, offset, n);
}

/* Closing alone would neither end the watch nor reach the peer where a forked child has a copy of
 * the descriptor. */
static void close_socket(struct ws__stream *s)
{
    if (!s->hub->forked) {
        if (ws__stream_is_filtered(s))
            s->hub->filter->finish(s);
        ws__loop_remove(&s->hub->loop, s->fd);
        ws__net_cut(s->fd);
    }
    ws__net_close(s->fd);
    s->fd = -1;
}

/* ---- what the loop watches ---- */

/* What a client sends ahead of an answer is bounded. */
static bool can_read(const struct ws__stream *s)
{
    if (s->eof || s->paused || s->busy)
        return false;
    return !ws__stream_is_half_duplex(s) || s->uploading ||
           (!s->blocked && !(s->awaiting && ws__buffer_length(s->in) >= s->hub->early_limit));
}

static int watch(struct ws__stream *s, unsigned interest, bool unwatched)
{
    struct ws__loop *loop = &s->hub->loop;
    bool was_unwatched = s->unwatched;
    s->unwatched = unwatched;
    if (!unwatched)
        return was_unwatched ? ws__loop_add(loop, s->fd, interest, s->id)
                             : ws__loop_change(loop, s->fd, interest, s->id);
    ws__loop_remove(loop, s->fd);
    return WS_OK;
}

/* epoll reports the hang-up of a lost peer whatever is watched. So its stream must leave the loop
 * while it is not read. */
__attribute__((cold)) void ws__stream_update_interest(struct ws__stream *s)
{
    unsigned interest = (can_read(s) ? (unsigned)WS__LOOP_READ : 0) |
                        (s->blocked ? (unsigned)WS__LOOP_WRITE : 0);
    bool unwatched = s->gone && !interest;
    if ((interest == s->interest && unwatched == s->unwatched) || s->state == WS__STREAM_DEAD)
        return;
    s->interest = interest & 3;
    if (watch(s, interest, unwatched))
        ws__stream_break(s, true);
}

/* ---- life cycle ---- */

__attribute__((cold)) int
ws__stream_new(struct ws__hub *hub, int fd, const struct ws__address *peer, bool filtered,
               const struct ws__stream_protocol *protocol, struct ws__stream **stream)
{
    const size_t size = protocol->size + (filtered ? hub->filter->size : 0);
    struct ws__stream *s = ws__memory_zalloc(&hub->memory, size);
    int error = WS_ENOMEM, number = 0;
    if (!s || !(s->id = ws__hub_take_slot(hub, &s->link)))
        goto failed;
    s->hub = hub;
    s->protocol = protocol;
    s->fd = fd;
    s->peer = *peer;
    s->interest = WS__LOOP_READ;
    s->filtered = filtered;
    if (!(error = ws__loop_add(&hub->loop, fd, WS__LOOP_READ, s->id))) {
        hub->stats.connections++;
        *stream = s;
        return WS_OK;
    }
    number = errno;
    ws__hub_release_slot(hub, s->id);
failed:
    ws__memory_free(&hub->memory, s, size);
    errno = number; /* the allocator may have changed it */
    return error;
}

__attribute__((cold)) void ws__stream_free(struct ws__link *link)
{
    struct ws__stream *s = ws__stream_of_link(link);
    struct ws__memory *memory = &s->hub->memory;
    size_t size = s->protocol->size;
    s->protocol->release(s);
    if (ws__stream_is_filtered(s)) {
        s->hub->filter->release(s);
        size += s->hub->filter->size;
    }
    ws__buffer_free(memory, &s->in);
    ws__buffer_free(memory, &s->out);
    ws__memory_free(memory, s, size);
}

/* What was not read while the old protocol was blocked may be read now. */
__attribute__((cold)) void
ws__stream_set_protocol(struct ws__stream *s, const struct ws__stream_protocol *protocol)
{
    ws__timer_stop(&s->timer);
    s->protocol = protocol;
    s->drain_due = false;
    ws__stream_update_interest(s);
}

static void flush(struct ws__stream *s);

static void on_linger_timer(struct ws__stream *s)
{
    if (s->count > 1 && ws__net_unacknowledged(s->fd)) {
        s->count--;
        ws__stream_set_timer(s, s->hub->last_queue);
        return;
    }
    ws__stream_drop(s, "close timeout", false);
}

__attribute__((cold)) void ws__stream_on_timer(struct ws__stream *s)
{
    if (s->state == WS__STREAM_LINGERING)
        on_linger_timer(s);
    else
        s->protocol->on_timer(s);
}

void ws__stream_set_timer(struct ws__stream *s, struct ws__timer_queue *queue)
{
    ws__hub_touch(s->hub);
    ws__timer_start(&s->hub->loop, queue, &s->timer);
}

static void enlist(struct ws__stream *s, struct ws__list *list)
{
    s->in_ready = true;
    ws__hub_append(list, &s->link);
}

__attribute__((noinline)) void ws__stream_make_ready(struct ws__stream *s)
{
    if (s->in_ready || s->state == WS__STREAM_DEAD)
        return;
    ws__hub_touch(s->hub);
    enlist(s, &s->hub->ready);
}

void ws__stream_make_more(struct ws__stream *s)
{
    s->more = true;
    ws__stream_make_ready(s);
}

void ws__stream_postpone(struct ws__stream *s)
{
    s->more = true;
    if (!s->in_ready) /* it is listed already if its peer was lost in this turn */
        enlist(s, &s->hub->postponed);
}

__attribute__((cold)) void
ws__stream_linger(struct ws__stream *s, struct ws__timer_queue *queue)
{
    if (s->state != WS__STREAM_OPEN)
        return;
    s->state = WS__STREAM_LINGERING;
    s->paused = s->holding = false;
    s->count = 0;
    if (queue)
        ws__stream_set_timer(s, queue);
    ws__stream_update_interest(s);
    flush(s);
}

/* A peer that keeps TCP open would hold up the shutdown until the deadline. Once its kernel has
 * acknowledged everything, including FIN, the peer gets at most one more second to read it. */
__attribute__((cold)) static void linger_briefly(struct ws__stream *s)
{
    ws__hub_touch(s->hub);
    uint64_t duration = s->hub->last_queue->duration, now = s->hub->loop.now;
    if (s->timer.deadline <= now + duration)
        return;
    s->count = (uint32_t)((s->timer.deadline - now) / duration); /* C10: no longer than before */
    ws__stream_set_timer(s, s->hub->last_queue);
}

__attribute__((cold)) void
ws__stream_shutdown(struct ws__stream *s, int code, const char *reason, size_t length)
{
    if (s->state == WS__STREAM_OPEN)
        s->protocol->end(s, code, reason, length);
    else if (s->state == WS__STREAM_LINGERING && s->finished)
        linger_briefly(s);
}

void ws__stream_drop(struct ws__stream *s, const char *reason, bool by_peer)
{
    struct ws__hub *hub = s->hub;
    if (s->state == WS__STREAM_DEAD)
        return;
    s->state = WS__STREAM_DEAD;
    ws__timer_stop(&s->timer);
    close_socket(s);
    hub->stats.connections--;
    s->protocol->on_end(s, reason, by_peer);
    ws__hub_release_slot(hub, s->id);
    if (!s->in_ready) /* otherwise ws__stream_on_ready does it */
        ws__hub_bury(hub, &s->link);
    ws__hub_touch(hub); /* a turn must free its memory, and perhaps end a shutdown */
}

__attribute__((cold)) void ws__stream_break(struct ws__stream *s, bool starved)
{
    if (!s->broken)
        s->refused = 0;
    s->starved = s->starved || (starved && (!s->broken || s->gone));
    s->broken = true;
    ws__stream_make_ready(s);
}

/* ---- what may be read ---- */

void ws__stream_pause(struct ws__stream *s)
{
    s->paused = true;
    ws__stream_update_interest(s);
}

void ws__stream_resume(struct ws__stream *s)
{
    s->holding = false;
    if (!s->paused)
        return;
    s->paused = false;
    if (s->in || s->busy)
        ws__stream_make_more(s);
    ws__stream_update_interest(s);
}

void ws__stream_set_busy(struct ws__stream *s, bool busy)
{
    s->busy = busy;
    ws__stream_update_interest(s);
}

void ws__stream_set_awaiting(struct ws__stream *s, bool awaiting, bool uploading)
{
    s->awaiting = awaiting;
    s->uploading = uploading;
    ws__stream_update_interest(s);
}

/* ---- sending ---- */

static void lend_spare(struct ws__stream *s)
{
    if (s->out || !s->corked)
        return;
    s->out = s->hub->spare;
    s->hub->spare = NULL;
    if (!s->out)
        ws__buffer_reserve(&s->hub->memory, &s->out, s->hub->config.cork_size); /* or grow */
}

/* The queue is empty: its block goes back to be lent again, or is freed. */
static inline void recycle(struct ws__stream *s)
{
    struct ws__buffer *b = s->out;
    s->mark = 0;
    if (!b)
        return;
    if (s->hub->spare || b->capacity != s->hub->config.cork_size) {
        ws__buffer_free(&s->hub->memory, &s->out);
        return;
    }
    b->start = b->end = 0;
    s->hub->spare = b;
    s->out = NULL;
}

void ws__stream_block(struct ws__stream *s)
{
    s->hub->stats.backpressure += !s->blocked;
    s->blocked = true;
    s->drain_due = true;
    ws__stream_update_interest(s);
}

/* Everything is sent, perhaps by a filter that still keeps some of it. */
__attribute__((cold)) static void end_output(struct ws__stream *s)
{
    if (s->finished || s->blocked || (ws__stream_is_filtered(s) && !s->hub->filter->finish(s)))
        return;
    s->finished = true;
    ws__net_finish(s->fd);
    if (s->eof)
        ws__stream_break(s, false);
    else if (s->hub->stopping)
        linger_briefly(s);
}

/* What follows from an empty queue: FIN where everything is said, on_ready where it is due. */
static void settle(struct ws__stream *s)
{
    if (ws__buffer_length(s->out))
        return;
    recycle(s);
    if (s->state == WS__STREAM_LINGERING)
        end_output(s);
    if (s->drain_due && s->state == WS__STREAM_OPEN)
        ws__stream_make_ready(s);
}

static inline void note_sent(struct ws__stream *s, size_t n)
{
    s->hub->stats.bytes_out += n;
    if (s->protocol->on_sent)
        s->protocol->on_sent(s);
}

/* The kernel took n bytes of the queue, and no more. A block is made smaller only where little of
 * it is left: moving more would cost too much. */
__attribute__((cold)) static void take_part(struct ws__stream *s, size_t n)
{
    ws__buffer_consume(s->out, n);
    if (!ws__buffer_length(s->out))
        s->mark = 0;
    else if (s->mark)
        s->protocol->on_mark_left(s);
    if (s->out && s->out->start >= s->out->capacity / 2)
        ws__buffer_fit(&s->hub->memory, &s->out);
    ws__stream_block(s);
}

char *ws__stream_reserve(struct ws__stream *s, size_t n)
{
    lend_spare(s);
    return ws__buffer_reserve(&s->hub->memory, &s->out, n);
}

__attribute__((cold, noinline)) int
ws__stream_append(struct ws__stream *s, const void *first, size_t n, const void *second, size_t m)
{
    return ws__stream_queue(s, first, n, second, m);
}

/* EPOLLOUT is awaited for what the kernel does not take. */
__attribute__((noinline)) static void flush(struct ws__stream *s)
{
    if (s->corked || s->blocked || s->broken || s->state == WS__STREAM_DEAD)
        return;
    size_t queued = ws__buffer_length(s->out);
    if (queued) {
        ssize_t sent = transmit(s, ws__buffer_data(s->out), queued);
        if (sent == WS__NET_ERROR) {
            ws__stream_break(s, false);
            return;
        }
        if (sent > 0)
            note_sent(s, (size_t)sent);
        if (sent != (ssize_t)queued) {
            take_part(s, sent > 0 ? (size_t)sent : 0);
            return;
        }
        ws__buffer_consume(s->out, queued);
    }
    settle(s);
}

int ws__stream_send(struct ws__stream *s, const void *bytes, size_t n)
{
    if (s->broken)
        return WS_OK;
    int error = ws__stream_queue(s, bytes, n, NULL, 0);
    if (!error && !s->corked) /* otherwise flush has nothing to do */
        flush(s);
    return error;
}

void ws__stream_flush_cork(struct ws__stream *s)
{
    uint16_t corked = s->corked;
    s->corked = 0;
    flush(s);
    s->corked = corked;
}

/* The queue and n bytes of the parts were written: queues the rest of them. */
__attribute__((cold)) static enum ws__written
queue_rest(struct ws__stream *s, const struct iovec parts[2], size_t n)
{
    size_t head = n < parts[0].iov_len ? n : parts[0].iov_len, body = n - head;
    recycle(s);
    ws__stream_block(s);
    if (!ws__stream_append(s, (const char *)parts[0].iov_base + head, parts[0].iov_len - head,
                           (const char *)parts[1].iov_base + body, parts[1].iov_len - body))
        return WS__WRITTEN_PART;
    ws__stream_break(s, true); /* half a frame cannot be taken back */
    return WS__WRITTEN_BROKEN;
}

enum ws__written ws__stream_write(struct ws__stream *s, const void *first, size_t n,
                                  const void *second, size_t m)
{
    size_t queued = ws__buffer_length(s->out);
    struct iovec parts[3] = {
        {queued ? ws__buffer_data(s->out) : NULL, queued}, {(void *)first, n}, {(void *)second, m}};
    ssize_t result = transmit_parts(s, parts + !queued, 1 + (queued > 0) + (m > 0));
    size_t sent = result > 0 ? (size_t)result : 0;
    if (result == WS__NET_ERROR) {
        ws__stream_break(s, false);
        return WS__WRITTEN_BROKEN;
    }
    if (sent)
        note_sent(s, sent);
    if (sent == queued + n + m) {
        ws__buffer_consume(s->out, queued);
        settle(s);
        return WS__WRITTEN_ALL;
    }
    if (sent > queued)
        return queue_rest(s, parts + 1, sent - queued);
    take_part(s, sent);
    return WS__WRITTEN_NONE;
}

__attribute__((cold)) size_t
ws__stream_offer(struct ws__stream *s, const void *bytes, size_t n)
{
    size_t queued = ws__buffer_length(s->out);
    struct iovec parts[2] = {{queued ? ws__buffer_data(s->out) : NULL, queued}, {(void *)bytes, n}};
    if (s->blocked || s->broken)
        return 0;
    ssize_t result = transmit_parts(s, parts + !queued, 1 + (queued > 0));
    size_t sent = result > 0 ? (size_t)result : 0;
    if (result == WS__NET_ERROR) {
        ws__stream_break(s, false);
        return 0;
    }
    if (sent)
        note_sent(s, sent);
    if (sent < queued) {
        take_part(s, sent);
        return 0;
    }
    ws__buffer_consume(s->out, queued);
    recycle(s);
    if (sent - queued < n)
        ws__stream_block(s);
    return sent - queued;
}

__attribute__((cold)) ssize_t
ws__stream_offer_file(struct ws__stream *s, int file, uint64_t offset, size_t n)
{
    ws__stream_flush_cork(s);
    if (s->blocked || s->broken)
        return 0;
    ssize_t sent = transmit_file(s, file, offset, n);
    if (sent == 0)
        return -1;
    if (sent == WS__NET_ERROR) {
        ws__stream_break(s, false);
        return 0;
    }
    sent = sent > 0 ? sent : 0;
    if (sent)
        note_sent(s, (size_t)sent);
    if ((size_t)sent < n)
        ws__stream_block(s);
    return sent;
}

void ws__stream_uncork(struct ws__stream *s)
{
    if (!s->corked || --s->corked)
        return;
    flush(s);
    /* A queue that remains gets a smaller block of its own, unless it fills two thirds of the lent
     * block: then its own block would be no smaller. */
    if (s->blocked && s->out && s->out->capacity >= s->hub->config.cork_size &&
        ws__buffer_length(s->out) < s->hub->config.cork_size / 3 * 2)
        ws__buffer_fit(&s->hub->memory, &s->out);
}

void ws__stream_refuse(struct ws__stream *s, size_t n)
{
    s->refused = n < UINT32_MAX - s->refused ? s->refused + (uint32_t)n : UINT32_MAX;
}

/* A cork holds back only new data, so the waiting queue is written even if the stream is corked. A
 * half-duplex stream handles the input that it did not read while it was blocked. */
__attribute__((cold)) void ws__stream_unblock(struct ws__stream *s)
{
    if (!s->blocked || s->state == WS__STREAM_DEAD)
        return;
    s->blocked = false;
    if (s->protocol->on_writable)
        s->protocol->on_writable(s);
    if (!ws__stream_is_filtered(s) || s->hub->filter->resume(s))
        ws__stream_flush_cork(s);
    ws__stream_update_interest(s);
    if (!s->blocked && s->in && ws__stream_is_half_duplex(s))
        ws__stream_make_more(s);
}
