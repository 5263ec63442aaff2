/*
 * conn.c: the life of a connection: accept, read, hand events to the handlers, close. What is
 * allowed on the wire is judged by protocol.c and handshake.c; how bytes leave is send.c's.
 * RFC 6455 sections 5.5.1, 7.1 (closing).
 */
#include "conn.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- life cycle ---- */

void ws__conn_set_state(ws_conn *c, enum ws__state state)
{
    if (c->state == WS__OPEN)
        ws__heartbeat_stop(c);
    c->state = (uint8_t)state;
}

void ws__conn_set_timer(ws_conn *c, struct ws__timer_queue *queue)
{
    ws__hub_touch(c->hub);
    ws__timer_start(&c->hub->loop, queue, &c->timer);
}

static struct ws__timer_queue *close_queue(const ws_conn *c)
{
    return c->target ? c->target->close_queue : c->hub->linger_queue;
}

int ws__conn_accept(struct ws__hub *hub, int fd, const struct ws__address *peer)
{
    bool refused = hub->stats.connections >= hub->config.max_connections;
    ws_conn *c = NULL;
    int error = WS_OK, number = 0;
    hub->stats.accepted++;
    if (hub->stats.connections < hub->config.max_connections + WS__REFUSED_RESERVE)
        c = ws__memory_zalloc(&hub->memory, sizeof *c);
    if (!c || !ws__hub_take_slot(hub, c))
        goto refuse;
    c->hub = hub;
    c->fd = fd;
    c->peer = *peer;
    c->reported = c->over = true;
    c->interest = WS__LOOP_READ;
    if ((error = ws__loop_add(&hub->loop, fd, WS__LOOP_READ, c->id))) {
        number = errno;
        ws__hub_release_slot(hub, c->id);
        goto refuse;
    }
    hub->stats.connections++;
    hub->stats.refused += refused;
    ws__conn_set_timer(c, hub->handshake_queue);
    if (refused)
        ws__request_refuse(c);
    return WS_OK;
refuse:
    hub->stats.refused++;
    ws__memory_free(&hub->memory, c, sizeof *c);
    ws__net_cut(fd);
    ws__net_close(fd);
    errno = number;
    return error;
}

void ws__conn_open(ws_conn *c, ws_request *request, const struct ws__target *target, void *user)
{
    struct ws__hub *hub = c->hub;
    ws_conn *outer = hub->opening;
    ws_request *outer_request = hub->opening_request;
    ws__timer_stop(&c->timer);
    c->target = target;
    c->user = user;
    c->reported = false;
    c->drain_due = false; /* of an answer before */
    ws__conn_set_state(c, WS__OPEN);
    if (!ws__heartbeat_start(c)) /* a connection without its time limits is none */
        ws__conn_break(c, true);
    hub->stats.opened++;
    hub->stats.open++;
    hub->opening = c;
    hub->opening_request = request;
    WS__CALL(hub, target->behavior.on_open, c, target->behavior.user);
    hub->opening = outer;
    hub->opening_request = outer_request;
}

struct ws__extra *ws__conn_extra(ws_conn *c)
{
    if (!c->extra)
        c->extra = ws__memory_zalloc(&c->hub->memory, sizeof *c->extra);
    if (c->extra)
        c->extra->conn = c;
    return c->extra;
}

/* S42: what it took part in and what it compressed with goes with the connection. */
void ws__conn_report_close(ws_conn *c, int code, const char *reason, size_t length)
{
    const ws_behavior *behavior = &c->target->behavior;
    if (c->reported)
        return;
    c->reported = true;
    ws__inflate_forget(c);
    ws__publish_leave(c);
    c->hub->stats.closed++;
    c->hub->stats.open--;
    WS__CALL(c->hub, behavior->on_close, c, code, length ? reason : "", length, behavior->user);
    if (c->extra)
        ws__deflate_streams_deinit(&c->hub->deflate, &c->extra->streams);
    c->over = false;
}

void ws__conn_report_closed(ws_conn *c, bool clean, int code, const char *reason, size_t length)
{
    const ws_behavior *behavior = &c->target->behavior;
    if (c->over)
        return;
    c->over = true;
    WS__CALL(c->hub, behavior->on_closed, c, clean, code, length ? reason : "", length,
             behavior->user);
}

/* The end was begun here; a handler may have dropped the connection meanwhile. */
static void report_own_close(ws_conn *c, int code, const char *reason, size_t length)
{
    ws__conn_report_close(c, code, reason, length);
    if (c->state == WS__DEAD)
        ws__conn_report_closed(c, false, 0, NULL, 0);
}

void ws__conn_linger(ws_conn *c)
{
    if (c->state >= WS__LINGERING)
        return;
    bool timed = c->state == WS__CLOSING;
    ws__conn_set_state(c, WS__LINGERING);
    c->paused = false;
    c->pings = 0;
    if (!timed) /* the time for all of closing is one close_timeout (C10) */
        ws__conn_set_timer(c, close_queue(c));
    ws__conn_update_interest(c);
    ws__send_flush(c);
}

/* A peer that keeps TCP open would hold up the shutdown until its close_timeout. Once its kernel
 * has everything, the Close or the answer and FIN, a second is left to read it. */
void ws__conn_linger_briefly(ws_conn *c)
{
    ws__hub_touch(c->hub);
    uint64_t duration = c->hub->last_queue->duration, now = c->hub->loop.now;
    if (c->timer.deadline <= now + duration)
        return;
    c->pings = (uint32_t)((c->timer.deadline - now) / duration); /* C10: no longer than before */
    ws__conn_set_timer(c, c->hub->last_queue);
}

static void on_linger_timer(ws_conn *c)
{
    if (c->pings > 1 && ws__net_unacknowledged(c->fd)) {
        c->pings--;
        ws__conn_set_timer(c, c->hub->last_queue);
        return;
    }
    ws__conn_drop(c, "close timeout");
}

void ws__conn_fail(ws_conn *c, int code, const char *reason, size_t length)
{
    ws__send_close(c, code, reason, length);
    ws__conn_linger(c);
    report_own_close(c, code, reason, length);
}

/* ws__hub_free_dead will free it. */
static void bury(ws_conn *c)
{
    c->next = c->hub->dead;
    c->hub->dead = c;
}

/* Closing alone would neither end the watch nor tell the peer where a forked child has a copy of
 * the descriptor. */
static void close_socket(ws_conn *c)
{
    if (!c->hub->forked) {
        ws__loop_remove(&c->hub->loop, c->fd);
        ws__net_cut(c->fd);
    }
    ws__net_close(c->fd);
    c->fd = -1;
}

void ws__conn_drop(ws_conn *c, const char *reason)
{
    struct ws__hub *hub = c->hub;
    if (c->state == WS__DEAD)
        return;
    ws__conn_set_state(c, WS__DEAD);
    ws__timer_stop(&c->timer);
    close_socket(c);
    if (c->extra)
        c->extra->published_from = c->extra->published_to = 0;
    hub->stats.connections--;
    if (c->target) {
        ws__conn_report_close(c, 1006, reason, strlen(reason));
        ws__conn_report_closed(c, false, 0, NULL, 0);
    }
    ws__request_abandon(c);
    ws__hub_release_slot(hub, c->id);
    if (!c->in_ready) /* else ws__conn_on_ready does it */
        bury(c);
    ws__hub_touch(hub); /* its memory waits for a turn, perhaps the end of a shutdown, too */
}

void ws__conn_free(ws_conn *c)
{
    struct ws__memory *memory = &c->hub->memory;
    ws__protocol_deinit(&c->protocol, memory);
    ws__buffer_free(memory, &c->in);
    ws__buffer_free(memory, &c->out);
    if (c->extra) {
        ws__buffer_free(memory, &c->extra->held);
        ws__memory_free(memory, c->extra, sizeof *c->extra);
    }
    ws__memory_free(memory, c, sizeof *c);
}

/* ---- reading ---- */

static int watch(ws_conn *c, unsigned interest, bool unwatched)
{
    struct ws__loop *loop = &c->hub->loop;
    bool was_unwatched = c->unwatched;
    c->unwatched = unwatched;
    if (!unwatched)
        return was_unwatched ? ws__loop_add(loop, c->fd, interest, c->id)
                             : ws__loop_change(loop, c->fd, interest, c->id);
    ws__loop_remove(loop, c->fd);
    return WS_OK;
}

void ws__conn_update_interest(ws_conn *c)
{
    /* An HTTP client gets its answers before its next request is read, and what it sends ahead
     * of a deferred answer is bounded. Bytes that come after a suspended message wait for it. */
    bool paused = c->paused || c->inflating ||
                  (c->state == WS__HTTP &&
                   (c->blocked || (c->waiting && ws__buffer_length(c->in) >= WS__EARLY_LIMIT)));
    unsigned interest = (c->eof || paused ? 0 : (unsigned)WS__LOOP_READ) |
                        (c->blocked ? (unsigned)WS__LOOP_WRITE : 0);
    bool unwatched = c->gone && !interest; /* what epoll reports of it cannot be masked */
    if ((interest == c->interest && unwatched == c->unwatched) || c->state == WS__DEAD)
        return;
    c->interest = interest & 3;
    if (watch(c, interest, unwatched))
        ws__conn_break(c, true);
}

void ws__conn_make_ready(ws_conn *c)
{
    if (c->in_ready || c->state == WS__DEAD)
        return;
    ws__hub_touch(c->hub);
    c->in_ready = true;
    ws__hub_append(c->hub, c);
}

void ws__conn_break(ws_conn *c, bool starved)
{
    if (!c->broken)
        c->refused = 0;
    c->starved = c->starved || (starved && (!c->broken || c->gone));
    c->broken = true;
    ws__conn_make_ready(c);
}

void ws__conn_make_more(ws_conn *c)
{
    c->more = true;
    ws__conn_make_ready(c);
}

static void on_open_event(ws_conn *c, struct ws__event *event, uint64_t *share)
{
    const ws_behavior *b = &c->target->behavior;
    switch (event->type) {
    case WS__EVENT_MESSAGE:
        if (event->compressed && ws__inflate_message(c, event, share) != WS__INFLATE_DONE)
            break;
        if (b->on_message)
            b->on_message(c, event->data, event->length, event->opcode, b->user);
        break;
    case WS__EVENT_PING: /* RFC 6455 5.5.2: answered as soon as is practical */
        ws__send_pong(c, event->data, event->length);
        if (b->on_ping)
            b->on_ping(c, event->data, event->length, b->user);
        break;
    case WS__EVENT_PONG: /* RFC 6455 5.5.3: an unsolicited one gets no reply */
        ws__heartbeat_pong(c, event->data, event->length);
        if (b->on_pong)
            b->on_pong(c, event->data, event->length, b->user);
        break;
    case WS__EVENT_CLOSE: /* RFC 6455 5.5.1: answered with the code received */
        c->by_peer = true;
        ws__send_close(c, event->code, NULL, 0);
        ws__conn_linger(c);
        ws__conn_report_close(c, event->code, event->data, event->length);
        ws__conn_report_closed(c, true, event->code, event->data, event->length);
        break;
    case WS__EVENT_FAIL:
        ws__conn_fail(c, event->code, event->data, event->length);
        break;
    case WS__EVENT_NONE:
        break;
    }
}

/* After our Close only the peer's matters; data is discarded (RFC 6455 7.1.3, S26). */
static void on_closing_event(ws_conn *c, const struct ws__event *event)
{
    if (event->type == WS__EVENT_CLOSE)
        ws__conn_report_closed(c, true, event->code, event->data, event->length);
    if (event->type == WS__EVENT_CLOSE || event->type == WS__EVENT_FAIL)
        ws__conn_linger(c);
}

static void read_frames(ws_conn *c, struct ws__input *in)
{
    struct ws__memory *memory = &c->hub->memory;
    size_t limit = c->target->behavior.max_payload_length;
    uint64_t share = WS__SHARE_UNKNOWN;
    struct ws__event event;
    size_t inflated = 0;
    int result = 1;
    for (unsigned handled = 1; in->length && inflated < WS__TURN_INFLATED && !c->paused;
         handled++) {
        result = ws__protocol_next(&c->protocol, memory, limit, in, &event);
        if (result <= 0)
            break;
        size_t compressed = event.length;
        if (c->state == WS__OPEN)
            on_open_event(c, &event, &share);
        else
            on_closing_event(c, &event);
        ws__protocol_release(&c->protocol, memory);
        if (event.compressed) {
            bool long_one = event.length >= WS__COPY_LIMIT; /* its handler has much to do, too */
            bool enough = !share || (long_one && ws__hub_is_late(c->hub));
            inflated += enough ? WS__TURN_INFLATED : compressed + event.length;
        }
        if (c->state >= WS__LINGERING || c->inflating)
            return;
        if (ws__conn_had_turn(c, handled, in))
            break;
    }
    if (result < 0 && c->state == WS__CLOSING) /* our Close was the last word (RFC 6455 5.5.1) */
        ws__conn_linger(c);
    else if (result < 0)
        ws__conn_fail(c, 1011, "out of memory", 13);
    else if (result > 0 && in->length && !c->paused) /* others are served first */
        ws__conn_make_more(c);
}

static void handle_input(ws_conn *c, struct ws__input *in)
{
    ws_conn_cork(c);
    if (c->state == WS__HTTP)
        ws__request_read(c, in);
    if (c->state == WS__OPEN || c->state == WS__CLOSING)
        read_frames(c, in);
    if (c->state >= WS__LINGERING)
        in->length = 0;
    ws_conn_uncork(c);
}

/* What could not be handled yet is copied out of the receive buffer. */
static void keep_input(ws_conn *c, const struct ws__input *in)
{
    if (c->state >= WS__LINGERING || !in->length)
        return;
    if (ws__buffer_append(&c->hub->memory, &c->in, in->data, in->length))
        ws__conn_drop(c, "out of memory");
    else
        ws__conn_update_interest(c);
}

/* The first n bytes of what was kept were handled. The rest stays where it is while it is most of
 * its block: moved in each turn, a long one would cost the square of its length. */
static void fit_kept_input(ws_conn *c, size_t n)
{
    ws__buffer_consume(c->in, n);
    if (n && ws__buffer_length(c->in) <= c->in->capacity / 2)
        ws__buffer_fit(&c->hub->memory, &c->in);
}

/* The message that was suspended comes before what is kept, and is all that its connection handles
 * in this turn. */
static void resume_message(ws_conn *c)
{
    const ws_behavior *b = &c->target->behavior;
    struct ws__event event;
    ws__heartbeat_heard(c); /* the peer is not idle while we work */
    ws_conn_cork(c);
    if (ws__inflate_resume(c, &event) == WS__INFLATE_DONE && b->on_message)
        b->on_message(c, event.data, event.length, event.opcode, b->user);
    ws_conn_uncork(c);
    if (c->in && !c->inflating && c->state < WS__LINGERING)
        ws__conn_make_more(c);
    ws__conn_update_interest(c);
}

static void handle_kept_input(ws_conn *c)
{
    size_t before = ws__buffer_length(c->in);
    struct ws__input in = {ws__buffer_data(c->in), before};
    ws__heartbeat_heard(c); /* as good as received now: the socket is read only afterwards */
    handle_input(c, &in);
    if (c->state >= WS__LINGERING)
        in.length = 0;
    fit_kept_input(c, before - in.length);
    ws__conn_update_interest(c);
}

/* The peer has reset the connection, or a write has failed. What it had sent before, messages and
 * perhaps its Close, is still handled, and on_read_end comes after the last of it: at once where
 * the connection reads, else when the application resumes it. Who waits for an answer gets none. */
static void lose_peer(ws_conn *c)
{
    bool left = c->in || c->inflating || ws__net_has_input(c->fd);
    if (c->starved || c->waiting || c->state >= WS__LINGERING || !left) {
        c->by_peer = c->by_peer || (c->state == WS__OPEN && !c->starved);
        ws__conn_drop(c, c->starved ? "out of memory" : "connection reset by peer");
        return;
    }
    if (!c->broken)
        ws__conn_break(c, false);
    c->gone = true;
    ws__net_cut(c->fd); /* where a write alone has failed, the peer shall not go on */
    ws__send_discard(c);
    if (c->state == WS__OPEN) /* also where it is paused: this silence has an end */
        ws__heartbeat_restart(c);
    ws__conn_update_interest(c);
    if (c->in || c->inflating)
        ws__conn_make_more(c);
}

static void on_read_end(ws_conn *c, ssize_t result)
{
    if (result == WS__NET_AGAIN)
        return;
    bool unsent = result == 0 && c->out && c->state != WS__OPEN;
    c->by_peer = c->by_peer || c->state == WS__OPEN;
    if (!unsent) {
        ws__conn_drop(c, result || c->broken ? "connection reset by peer"
                                             : "connection closed without a Close frame");
        return;
    }
    c->eof = true; /* half-closed by the peer, which may still read */
    ws__request_abandon(c);
    ws__conn_linger(c);
    ws__conn_update_interest(c);
}

/* RFC 6455 7.1.1: what arrives after both Closes is read and thrown away, so that the last bytes
 * sent are not destroyed by a reset. */
static void discard(ws_conn *c)
{
    struct ws__hub *hub = c->hub;
    size_t left = WS__TURN_DISCARD;
    ssize_t n;
    do {
        n = ws__net_read(c->fd, hub->recv_buffer, hub->config.recv_buffer_size);
        left -= n > 0 && (size_t)n < left ? (size_t)n : left;
    } while (n > 0 && left);
    if (n <= 0)
        on_read_end(c, n);
}

/* How much to read; what is kept while an answer is outstanding is bounded by this, also when it
 * comes together with the request. */
static size_t room_for(const ws_conn *c, size_t kept)
{
    size_t room = c->hub->config.recv_buffer_size - kept;
    size_t early = WS__EARLY_LIMIT - (c->waiting ? ws__buffer_length(c->in) : 0);
    return c->state == WS__HTTP && early < room ? early : room;
}

/* Of a frame at most a header and a control frame are kept: they move to the front of the receive
 * buffer. An unfinished request head may be long: what comes is appended to it, and both are
 * handled there, so that a head that arrives in many pieces is copied once. */
static void read_socket(ws_conn *c)
{
    struct ws__hub *hub = c->hub;
    bool append = c->state == WS__HTTP && c->in;
    size_t kept = append ? 0 : ws__buffer_length(c->in);
    ssize_t n = ws__net_read(c->fd, hub->recv_buffer + kept, room_for(c, kept));
    if (n <= 0) {
        on_read_end(c, n);
        return;
    }
    struct ws__input in = {hub->recv_buffer, kept + (size_t)n};
    if (kept) {
        memcpy(hub->recv_buffer, ws__buffer_data(c->in), kept);
        ws__buffer_free(&hub->memory, &c->in);
    }
    ws__heartbeat_heard(c);
    if (!append && !c->waiting)
        handle_input(c, &in);
    keep_input(c, &in);
    if (append && !c->waiting && c->state == WS__HTTP)
        handle_kept_input(c);
}

void ws__conn_on_event(ws_conn *c, unsigned ready)
{
    if (ready & WS__LOOP_WRITE)
        ws__send_unblock(c);
    if (!(ready & (WS__LOOP_READ | WS__LOOP_HANGUP)) || c->state == WS__DEAD)
        return;
    if (!(c->interest & WS__LOOP_READ)) {
        if (ready & WS__LOOP_HANGUP)
            lose_peer(c);
    } else if (c->state == WS__LINGERING) {
        discard(c);
    } else if (!c->more) { /* else: what was left over comes first */
        read_socket(c);
    }
}

void ws__conn_on_timer(ws_conn *c)
{
    if (c->state == WS__HTTP)
        ws__request_on_timer(c);
    else if (c->state == WS__OPEN)
        ws__heartbeat_on_timer(c);
    else if (c->state == WS__LINGERING)
        on_linger_timer(c);
    else
        ws__conn_drop(c, "close timeout");
}

void ws__conn_on_ready(ws_conn *c)
{
    bool more = c->more;
    c->in_ready = c->more = false;
    if (c->state == WS__DEAD) {
        bury(c);
        return;
    }
    if (c->broken && (!c->gone || c->starved))
        lose_peer(c);
    if (c->ending)
        ws__conn_end_now(c);
    if (more && c->inflating && !c->paused)
        resume_message(c);
    else if (more && c->in && c->state < WS__LINGERING && !c->waiting && !c->paused &&
             !(c->state == WS__HTTP && c->blocked))
        handle_kept_input(c);
    ws__send_run_drain(c);
}

void ws__conn_end_now(ws_conn *c)
{
    int code = c->ending;
    const char *reason = code == 1008 ? "max_backpressure exceeded" : "out of memory";
    c->ending = 0;
    ws_conn_end(c, code, reason, strlen(reason)); /* nothing where it is closed meanwhile */
}

/* ---- ws.h: connections ---- */

ws_conn_id ws_conn_get_id(const ws_conn *conn)
{
    return conn->id;
}

ws_server *ws_conn_server(const ws_conn *conn)
{
    return conn->hub->server;
}

void *ws_conn_user(const ws_conn *conn)
{
    return conn->user;
}

void ws_conn_set_user(ws_conn *conn, void *user)
{
    conn->user = user;
}

ws_request *ws_conn_request(const ws_conn *conn)
{
    return conn == conn->hub->opening ? conn->hub->opening_request : NULL;
}

int ws_conn_end(ws_conn *conn, int code, const char *reason, size_t length)
{
    int sent = code ? code : 1005;
    if (sent == 1005 ? length > 0 : !ws__protocol_code_valid(sent))
        return WS_EINVAL;
    if (length && !ws_utf8_valid(reason, length))
        return WS_EINVAL;
    if (conn->state != WS__OPEN)
        return WS_OK;
    length = ws__utf8_cut(reason, length, WS__CLOSE_REASON_MAX);
    ws__send_close(conn, sent, reason, length);
    ws__conn_set_state(conn, WS__CLOSING);
    ws__conn_set_timer(conn, close_queue(conn));
    ws_conn_resume(conn); /* for the peer's Close */
    report_own_close(conn, sent, reason, length);
    return WS_OK;
}

void ws_conn_close(ws_conn *conn)
{
    ws__conn_drop(conn, "closed by the server");
}

bool ws_conn_closed_by_peer(const ws_conn *conn)
{
    return conn->by_peer;
}

void ws_conn_pause(ws_conn *conn)
{
    if (conn->state != WS__OPEN || conn->paused)
        return;
    conn->paused = true;
    if (!conn->gone)
        ws__heartbeat_pause(conn);
    ws__conn_update_interest(conn);
}

void ws_conn_resume(ws_conn *conn)
{
    if (!conn->paused)
        return;
    conn->paused = false;
    if (conn->state == WS__OPEN)
        ws__heartbeat_restart(conn);
    if (conn->in || conn->inflating)
        ws__conn_make_more(conn);
    ws__conn_update_interest(conn);
}

size_t ws_conn_compression(const ws_conn *conn, char *text, size_t size)
{
    char answer[WS__DEFLATE_ANSWER_MAX] = "";
    size_t length = conn->terms.server_bits ? ws__deflate_answer(&conn->terms, answer) : 0;
    if (size)
        snprintf(text, size, "%s", answer);
    return length;
}

size_t ws_conn_remote_address(const ws_conn *conn, char *text, size_t size)
{
    return ws__net_address_text(&conn->peer, text, size);
}

size_t ws_conn_remote_address_bytes(const ws_conn *conn, uint8_t bytes[16])
{
    memcpy(bytes, conn->peer.bytes, conn->peer.length);
    return conn->peer.length;
}

uint16_t ws_conn_remote_port(const ws_conn *conn)
{
    return conn->peer.port;
}
