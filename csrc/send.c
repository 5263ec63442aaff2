/*
 * send.c: how frames leave a connection: gathered while corked, written in one call, queued only
 * when the kernel is full, dropped whole above max_backpressure. RFC 6455 sections 5.1, 5.4, 5.5.
 */
#include "conn.h"
#include "frame.h"

#include <string.h>

/* ws_conn.fragmenting */
enum { FRAGMENTS_NONE, FRAGMENTS_SENT, FRAGMENTS_DROPPED };

/* One frame on its way: header and payload, not yet copied. */
struct outgoing {
    uint8_t header[WS__FRAME_SEND_MAX];
    size_t header_length; /* 0: it stands in data, too */
    const void *data;
    size_t length;
};

static size_t total(const struct outgoing *f)
{
    return f->header_length + f->length;
}

static struct outgoing make_frame(uint8_t first, const void *data, size_t length)
{
    struct outgoing f;
    f.header_length = ws__frame_encode(f.header, first, length);
    f.data = data;
    f.length = length;
    return f;
}

static int opcode_of(const struct outgoing *f)
{
    return f->header[0] & WS__FRAME_OPCODE;
}

/* Would this data frame take the queue above max_backpressure? */
static inline bool is_over_limit(const ws_conn *c, const struct outgoing *f)
{
    size_t limit = c->target->behavior.max_backpressure;
    size_t amount = ws__conn_queued(c);
    return limit && opcode_of(f) < WS_CLOSE && (amount > limit || total(f) > limit - amount);
}

/* Control frames are exempt from the limit, but not without bounds: a handler may send one for
 * each message of a peer that reads nothing. */
static bool reserve_used(const ws_conn *c)
{
    enum { RESERVE = 4096 };
    size_t limit = c->target->behavior.max_backpressure;
    size_t amount = ws__conn_queued(c);
    return c->blocked && limit && amount > limit && amount - limit >= RESERVE;
}

/* ---- the queue ---- */

static void lend_spare(ws_conn *c)
{
    if (c->out || !c->corked)
        return;
    c->out = c->hub->spare;
    c->hub->spare = NULL;
    if (!c->out)
        ws__buffer_reserve(&c->hub->memory, &c->out, WS__CORK_SIZE); /* or grow as needed */
}

static inline int append(ws_conn *c, const void *first, size_t n, const void *second, size_t m)
{
    char *to = ws__buffer_room(c->out, n + m);
    if (!to) {
        lend_spare(c);
        to = ws__buffer_reserve(&c->hub->memory, &c->out, n + m);
        if (!to)
            return WS_ENOMEM;
    }
    memcpy(to, first, n);
    if (m)
        memcpy(to + n, second, m);
    ws__buffer_commit(c->out, n + m);
    if (c->pong_back) /* beyond the range it is kept */
        c->pong_back = n + m < UINT32_MAX - c->pong_back ? c->pong_back + (uint32_t)(n + m) : 0;
    return WS_OK;
}

void ws__send_own(ws_conn *c)
{
    uint32_t n = ws__conn_published(c);
    if (!n || c->broken)
        return;
    const char *bytes = c->hub->published->bytes + c->extra->published_from;
    c->extra->published_from = c->extra->published_to = 0;
    if (append(c, bytes, n, NULL, 0))
        ws__conn_break(c, true);
}

/* The queue is empty: its block goes back to be lent again, or is freed. */
static void recycle(ws_conn *c)
{
    struct ws__buffer *b = c->out;
    c->pong_back = 0;
    if (!b)
        return;
    if (c->hub->spare || b->capacity != WS__CORK_SIZE) {
        ws__buffer_free(&c->hub->memory, &c->out);
        return;
    }
    b->start = b->end = 0;
    c->hub->spare = b;
    c->out = NULL;
}

/* The kernel is full: nothing is written until it has told that it has room. */
static void block(ws_conn *c)
{
    c->blocked = true;
    c->drain_due = true;
    ws__conn_update_interest(c);
}

/* What follows from an empty queue: FIN where everything is said, on_drain where it is owed. */
static void settle(ws_conn *c)
{
    if (ws__buffer_length(c->out))
        return;
    recycle(c);
    if (c->state == WS__LINGERING && !c->finished) {
        c->finished = true;
        ws__net_finish(c->fd);
        if (c->eof)
            ws__conn_break(c, false);
        else if (c->hub->stopping)
            ws__conn_linger_briefly(c);
    }
    if (c->drain_due && c->state == WS__OPEN)
        ws__conn_make_ready(c);
}

/* The kernel took something: where the route wants it, that is a sign of life. */
static inline void note_sent(ws_conn *c)
{
    if (c->state == WS__OPEN && c->target->behavior.reset_idle_timeout_on_send)
        ws__heartbeat_sent(c);
}

/* Writes the queue and, behind it, what was published to the connection, in one call. */
static ssize_t write_queue(const ws_conn *c, size_t queued, size_t shared)
{
    char *published = c->hub->published->bytes + c->extra->published_from;
    if (!queued)
        return ws__net_write(c->fd, published, shared);
    struct iovec parts[2] = {{ws__buffer_data(c->out), queued}, {published, shared}};
    return ws__net_writev(c->fd, parts, 2);
}

/* The kernel took n bytes of the queue, and was offered all of it. */
static inline void take_queued(ws_conn *c, size_t n)
{
    ws__buffer_consume(c->out, n);
    if (c->pong_back)
        ws__pong_written(c);
}

/* The kernel took `sent` bytes of all these. */
static void consume(ws_conn *c, size_t queued, size_t shared, size_t sent)
{
    size_t head = sent < queued ? sent : queued;
    take_queued(c, head);
    if (shared) {
        c->extra->published_from += (uint32_t)(sent - head);
        ws__send_own(c);
    }
    if (sent < queued + shared) {
        if (c->out && c->out->start >= c->out->capacity / 2) /* else: moving it costs too much */
            ws__buffer_fit(&c->hub->memory, &c->out);
        block(c);
    }
}

void ws__send_flush(ws_conn *c)
{
    if (c->corked || c->blocked || c->broken || c->state == WS__DEAD)
        return;
    size_t queued = ws__buffer_length(c->out), shared = ws__conn_published(c);
    if (queued + shared) {
        ssize_t sent = shared ? write_queue(c, queued, shared)
                              : ws__net_write(c->fd, ws__buffer_data(c->out), queued);
        if (sent == WS__NET_ERROR) {
            ws__conn_break(c, false);
            return;
        }
        if (sent > 0)
            note_sent(c);
        consume(c, queued, shared, sent > 0 ? (size_t)sent : 0);
    }
    settle(c);
}

static void flush_cork(ws_conn *c)
{
    uint16_t corked = c->corked;
    c->corked = 0;
    ws__send_flush(c);
    c->corked = corked;
}

/* The peer is gone. What it does not get counts as refused, so that a loop which sends until enough
 * was refused comes to its end. */
static int refuse(ws_conn *c, size_t n)
{
    c->refused = n < UINT32_MAX - c->refused ? c->refused + (uint32_t)n : UINT32_MAX;
    return WS_DROPPED;
}

void ws__send_discard(ws_conn *c)
{
    refuse(c, ws__conn_queued(c));
    c->blocked = false;
    ws__buffer_free(&c->hub->memory, &c->out);
    if (!c->extra)
        return;
    c->extra->published_from = c->extra->published_to = 0;
    ws__buffer_free(&c->hub->memory, &c->extra->held);
}

/* A response that the peer is taking is no idle connection (H22): its time starts again. */
static void restart_time(ws_conn *c)
{
    struct ws__hub *hub = c->hub;
    if (c->target || c->waiting)
        return;
    ws__conn_set_timer(c, c->state == WS__LINGERING ? hub->linger_queue
                          : c->request              ? hub->handshake_queue
                                                    : hub->keep_alive_queue);
}

void ws__send_unblock(ws_conn *c)
{
    if (!c->blocked || c->state == WS__DEAD)
        return;
    c->blocked = false;
    restart_time(c);
    flush_cork(c); /* a cork gathers what is new, not what waits */
    ws__conn_update_interest(c);
    if (!c->blocked && c->in && c->state == WS__HTTP) /* it was not read meanwhile */
        ws__conn_make_more(c);
}

void ws__send_run_drain(ws_conn *c)
{
    const ws_behavior *b = c->target ? &c->target->behavior : NULL;
    /* What is published leaves with the turn. */
    bool queued = ws__buffer_length(c->out) && !c->in_publishing;
    if (!c->drain_due || c->blocked || queued || c->state != WS__OPEN)
        return;
    c->drain_due = false;
    ws_conn_cork(c);
    if (b->on_drain)
        b->on_drain(c, b->user);
    ws_conn_uncork(c);
}

int ws__send_bytes(ws_conn *c, const void *bytes, size_t n)
{
    if (c->broken)
        return WS_OK;
    int error = append(c, bytes, n, NULL, 0);
    if (!error)
        ws__send_flush(c);
    return error;
}

/* ---- frames ---- */

/* A handler of the end may send to others that are over their limit, too: they come later, or
 * handlers would nest as deeply as there are connections. */
static void end_soon(ws_conn *c, int code)
{
    struct ws__hub *hub = c->hub;
    c->ending = (uint16_t)code;
    if (hub->in_ending || hub->in_dropped) {
        ws__conn_make_ready(c);
        return;
    }
    hub->in_ending = true;
    ws__conn_end_now(c);
    hub->in_ending = false;
}

/* What is dropped inside is told by its result alone, or each drop might lead to many. */
static void run_dropped(ws_conn *c, const void *message, size_t length, int opcode)
{
    const ws_behavior *b = &c->target->behavior;
    struct ws__hub *hub = c->hub;
    if (!b->on_dropped || hub->in_dropped || c->state != WS__OPEN)
        return;
    hub->in_dropped = true;
    WS__CALL(hub, b->on_dropped, c, length ? message : "", length, opcode, b->user);
    hub->in_dropped = false;
}

/* Nothing of the message was queued. The connection ends where the route wants it, and where a
 * frame continues a message, which cannot be dropped in its middle. */
static int drop(ws_conn *c, const void *message, size_t length, int opcode)
{
    bool later = c->fragmenting == FRAGMENTS_SENT && !c->blocked;
    if (later) /* the message in hand is in the way, not the kernel */
        c->drain_later = true;
    else
        c->drain_due = true;
    if (c->target->behavior.close_on_backpressure_limit || opcode == WS_CONTINUATION)
        end_soon(c, 1008);
    else
        run_dropped(c, message, length, opcode);
    if (c->state == WS__OPEN && !c->blocked && !later && !ws__conn_queued(c))
        ws__conn_make_ready(c);
    return WS_DROPPED;
}

static inline int queue_frame(ws_conn *c, const struct outgoing *f)
{
    int error = append(c, f->header, f->header_length, f->data, f->length);
    if (error)
        return error;
    if (!c->blocked)
        return WS_SUCCESS;
    c->drain_due = true;
    return WS_BACKPRESSURE;
}

/* `sent` bytes of the queue and then of the frame were taken; the frame has begun. */
static int queue_rest(ws_conn *c, const struct outgoing *f, size_t sent)
{
    size_t head = sent < f->header_length ? sent : f->header_length;
    size_t body = sent - head;
    recycle(c);
    if (append(c, f->header + head, f->header_length - head, (const char *)f->data + body,
               f->length - body)) {
        ws__conn_break(c, true); /* half a frame cannot be taken back */
        return WS_DROPPED;
    }
    return WS_BACKPRESSURE;
}

/* Queue, header and payload in one call. */
static int write_frame(ws_conn *c, const struct outgoing *f)
{
    size_t queued = ws__buffer_length(c->out);
    struct iovec parts[3] = {{queued ? ws__buffer_data(c->out) : NULL, queued},
                             {(void *)f->header, f->header_length},
                             {(void *)f->data, f->length}};
    ssize_t result = ws__net_writev(c->fd, parts + !queued, queued ? 3 : 2);
    size_t sent = result > 0 ? (size_t)result : 0;
    if (result == WS__NET_ERROR) {
        ws__conn_break(c, false);
        return WS_DROPPED;
    }
    if (sent)
        note_sent(c);
    if (sent == queued + total(f)) {
        if (queued)
            ws__buffer_consume(c->out, queued);
        settle(c);
        return WS_SUCCESS;
    }
    block(c);
    if (sent > queued)
        return queue_rest(c, f, sent - queued);
    if (queued)
        take_queued(c, sent);
    return is_over_limit(c, f) ? WS__SEND_OVER : queue_frame(c, f);
}

static inline int push(ws_conn *c, const struct outgoing *f)
{
    if (ws__conn_published(c))
        ws__send_own(c);
    if (c->broken)
        return refuse(c, total(f));
    bool over = is_over_limit(c, f);
    if (c->blocked)
        return over ? WS__SEND_OVER : queue_frame(c, f);
    if (!c->corked || over || f->length >= WS__COPY_LIMIT ||
        ws__buffer_length(c->out) + total(f) > c->target->cork_limit)
        return write_frame(c, f);
    return queue_frame(c, f);
}

static int push_frame(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    return length > SIZE_MAX / 2 ? WS_EINVAL : push(c, &f);
}

/* ---- compression (RFC 7692) ---- */

/* One message, or a piece of one. `first`: FIN and opcode as it would be uncompressed. */
static int push_compressed(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    bool starts = (first & WS__FRAME_OPCODE) != WS_CONTINUATION, fin = first & WS__FRAME_FIN;
    struct ws__deflate_streams none = {NULL, NULL}, *streams = &none;
    const char *out;
    size_t out_length;
    if (!c->terms.server_no_context || !starts || !fin) {
        struct ws__extra *extra = ws__conn_extra(c);
        streams = extra ? &extra->streams : NULL;
    }
    if (!streams || ws__deflate_compress(&c->hub->deflate, &c->terms, streams, data, length, starts,
                                         fin, &out, &out_length))
        return WS__SEND_NO_MEMORY;
    if (starts && fin && out_length >= length) { /* legal for each message (RFC 7692 6.1) */
        ws__deflate_forget(streams);
        return push_frame(c, first, data, length);
    }
    int result = push_frame(c, starts ? first | WS__FRAME_RSV1 : first, out, out_length);
    if (result == WS__SEND_OVER || result < 0)
        ws__deflate_forget(streams); /* the peer never sees it */
    return result;
}

/* A shared compressor lends a stream to each fragmented message; this one was given up. */
static void return_stream(ws_conn *c)
{
    if (!c->extra || !c->terms.server_no_context)
        return;
    struct ws__deflate_streams lent = {c->extra->streams.deflater, NULL};
    c->extra->streams.deflater = NULL;
    ws__deflate_streams_deinit(&c->hub->deflate, &lent);
}

void ws__send_close(ws_conn *c, int code, const char *reason, size_t length)
{
    char body[2 + WS__CLOSE_REASON_MAX];
    size_t n = 0;
    if (code != 1005) { /* 1005 stands for a Close without a body (RFC 6455 7.4.1) */
        body[0] = (char)(code >> 8);
        body[1] = (char)(code & 0xff);
        if (length)
            memcpy(body + 2, reason, length);
        n = length + 2;
    }
    /* Messages that wait for the end of another one cannot be sent any more (C8). */
    if (c->extra)
        ws__buffer_free(&c->hub->memory, &c->extra->held);
    if (push_frame(c, WS__FRAME_FIN | WS_CLOSE, body, n) < 0)
        ws__conn_break(c, true);
}

/* RFC 6455 5.5.3: all Pings are answered while the kernel takes it, then the newest alone is. */
void ws__send_pong(ws_conn *c, const void *data, size_t length)
{
    int result = push_frame(c, WS__FRAME_FIN | WS_PONG, data, length);
    if (result == WS_SUCCESS || result == WS_BACKPRESSURE)
        ws__pong_queued(c, length + 2);
}

/* Between the fragments of a message another one cannot stand (RFC 6455 5.4). */
static int hold(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    if (length > SIZE_MAX / 2)
        return WS_EINVAL;
    if (is_over_limit(c, &f))
        flush_cork(c); /* only what the kernel refuses counts */
    if (c->broken)
        return refuse(c, total(&f));
    if (is_over_limit(c, &f))
        return WS__SEND_OVER;
    struct ws__extra *extra = ws__conn_extra(c);
    char *to = extra ? ws__buffer_reserve(&c->hub->memory, &extra->held, total(&f)) : NULL;
    if (!to)
        return WS_ENOMEM;
    memcpy(to, f.header, f.header_length);
    if (length)
        memcpy(to + f.header_length, data, length);
    ws__buffer_commit(extra->held, total(&f));
    c->drain_later = true;
    return WS_BACKPRESSURE;
}

/* The message that was in the way is whole. */
static void release_held(ws_conn *c)
{
    struct ws__buffer *held = ws__conn_held(c);
    if (!c->drain_later)
        return;
    c->drain_later = false;
    c->drain_due = true;
    if (held) {
        c->extra->held = NULL; /* no longer counted twice while it moves to the queue */
        if (ws__send_bytes(c, ws__buffer_data(held), ws__buffer_length(held)))
            ws__conn_break(c, true);
        ws__buffer_free(&c->hub->memory, &held);
    }
    settle(c);
}

static inline int offer(ws_conn *c, const void *data, size_t length, int opcode)
{
    uint8_t first = (uint8_t)(WS__FRAME_FIN | (opcode & ~WS_COMPRESS));
    if (c->state != WS__OPEN || c->ending)
        return WS_DROPPED;
    if (c->fragmenting == FRAGMENTS_SENT)
        return hold(c, first, data, length);
    if (ws__send_compresses(c, opcode, length))
        return push_compressed(c, first, data, length);
    return push_frame(c, first, data, length);
}

int ws__send_offer(ws_conn *c, const void *data, size_t length, int opcode)
{
    return offer(c, data, length, opcode);
}

int ws__send_published(ws_conn *c, uint32_t from, uint32_t to)
{
    struct outgoing f;
    const char *bytes = c->hub->published->bytes + from;
    f.header[0] = (uint8_t)bytes[0];
    f.header_length = 0;
    f.data = bytes;
    f.length = to - from;
    return push(c, &f);
}

int ws__send_conclude(ws_conn *c, int result, const void *message, size_t length, int opcode)
{
    if (result == WS__SEND_OVER)
        return drop(c, message, length, opcode & ~WS_COMPRESS);
    if (result != WS__SEND_NO_MEMORY)
        return result;
    end_soon(c, 1011);
    return WS_DROPPED;
}

/* ---- ws.h: sending ---- */

static int send_control(ws_conn *c, const void *data, size_t length, int opcode)
{
    if (length > WS__FRAME_CONTROL_MAX)
        return WS_EINVAL;
    if (c->state != WS__OPEN || reserve_used(c))
        return WS_DROPPED;
    if (opcode == WS_PONG && c->pong_back) /* else this one might be taken for an answer */
        flush_cork(c);
    int result = push_frame(c, (uint8_t)(WS__FRAME_FIN | opcode), data, length);
    if (opcode == WS_PING && result >= 0)
        ws__heartbeat_ping(c, data, length);
    return result;
}

int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)
{
    int result;
    switch (opcode) {
    case WS_TEXT | WS_COMPRESS:
    case WS_BINARY | WS_COMPRESS:
    case WS_TEXT:
    case WS_BINARY:
        result = offer(conn, data, length, opcode);
        return result <= WS_DROPPED ? result
                                    : ws__send_conclude(conn, result, data, length, opcode);
    case WS_PING:
    case WS_PONG:
        return send_control(conn, data, length, opcode);
    default:
        return WS_EINVAL;
    }
}

static int send_first(ws_conn *c, const void *data, size_t length, int opcode, bool fin)
{
    if (c->fragmenting != FRAGMENTS_NONE)
        return WS_EORDER;
    if (fin)
        return ws_conn_send(c, data, length, opcode);
    c->fragmenting = FRAGMENTS_DROPPED; /* on_dropped, if it runs, may not begin another one */
    c->compressing = opcode & WS_COMPRESS && c->protocol.deflate;
    uint8_t first = (uint8_t)(opcode & ~WS_COMPRESS);
    int result = c->compressing ? push_compressed(c, first, data, length)
                                : push_frame(c, first, data, length);
    if (result < 0)
        c->fragmenting = FRAGMENTS_NONE;
    else if (result < WS_DROPPED)
        c->fragmenting = FRAGMENTS_SENT;
    if (c->fragmenting != FRAGMENTS_SENT)
        return_stream(c);
    return ws__send_conclude(c, result, data, length, opcode);
}

static int send_next(ws_conn *c, const void *data, size_t length, bool fin)
{
    uint8_t state = c->fragmenting;
    if (state == FRAGMENTS_NONE)
        return WS_EORDER;
    if (fin)
        c->fragmenting = FRAGMENTS_NONE;
    if (state == FRAGMENTS_DROPPED)
        return WS_DROPPED;
    uint8_t first = fin ? WS__FRAME_FIN : 0;
    int result = c->compressing ? push_compressed(c, first, data, length)
                                : push_frame(c, first, data, length);
    if (result < 0) /* the message has a hole */
        ws__conn_break(c, true);
    if (result > WS_DROPPED)
        return ws__send_conclude(c, result, data, length, WS_CONTINUATION);
    if (fin)
        release_held(c);
    return result;
}

int ws_conn_send_fragment(ws_conn *conn, const void *data, size_t length, int opcode, bool fin)
{
    int plain = opcode & ~WS_COMPRESS;
    if (plain < WS_CONTINUATION || plain > WS_BINARY || opcode == WS_COMPRESS)
        return WS_EINVAL;
    if (conn->state != WS__OPEN || conn->ending)
        return WS_DROPPED;
    if (opcode == WS_CONTINUATION)
        return send_next(conn, data, length, fin);
    return send_first(conn, data, length, opcode, fin);
}

void ws_conn_cork(ws_conn *conn)
{
    conn->corked++;
}

void ws_conn_uncork(ws_conn *conn)
{
    if (!conn->corked || --conn->corked)
        return;
    if (conn->out || !ws__conn_published(conn)) /* else: the end of the turn has more for it */
        ws__send_flush(conn);
    /* A queue that stays does not keep the block that was lent to it, unless it fills two thirds:
     * its own block would be no smaller. */
    if (conn->blocked && conn->out && conn->out->capacity >= WS__CORK_SIZE &&
        ws__buffer_length(conn->out) < WS__CORK_SIZE / 3 * 2)
        ws__buffer_fit(&conn->hub->memory, &conn->out);
}

/* What is corked or published may still be taken: nothing of it was refused. */
size_t ws_conn_buffered_amount(const ws_conn *conn)
{
    if (conn->broken)
        return conn->refused + ws__conn_queued(conn);
    size_t refused = conn->blocked ? ws__buffer_length(conn->out) : 0;
    return refused + ws__buffer_length(ws__conn_held(conn));
}
