/*
 * send.c: how frames leave a connection: gathered while corked, written in one call, queued only
 * when the kernel is full, dropped whole above max_backpressure. RFC 6455 sections 5.1, 5.4, 5.5.
 */
#include "conn.h"
#include "frame.h"

#include <string.h>

/* ws_conn.fragmenting */
enum { FRAGMENTS_NONE, FRAGMENTS_SENT, FRAGMENTS_DROPPED };

/* One frame on its way: header and payload, not yet copied; and the message it was made of. */
struct outgoing {
    uint8_t header[WS__FRAME_SEND_MAX];
    size_t header_length;
    const void *data;
    size_t length;
    const void *message;
    size_t message_length;
};

static size_t total(const struct outgoing *f)
{
    return f->header_length + f->length;
}

static struct outgoing make_frame(uint8_t first, const void *data, size_t length)
{
    struct outgoing f;
    f.header_length = ws__frame_encode(f.header, first, length);
    f.data = f.message = data;
    f.length = f.message_length = length;
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
    size_t amount = ws_conn_buffered_amount(c);
    return limit && opcode_of(f) < WS_CLOSE && (amount > limit || total(f) > limit - amount);
}

/* Control frames are exempt from the limit, but not without bounds: a handler may send one for
 * each message of a peer that reads nothing. */
static bool reserve_used(const ws_conn *c)
{
    enum { RESERVE = 4096 };
    size_t limit = c->target->behavior.max_backpressure;
    size_t amount = ws_conn_buffered_amount(c);
    return c->blocked && limit && amount > limit && amount - limit >= RESERVE;
}

/* ---- the queue ---- */

/* The stream is damaged or gone: no handler may run here, inside a send, so the end comes with
 * the turn. */
static void break_connection(ws_conn *c)
{
    c->broken = true;
    ws__conn_make_ready(c);
}

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
    if (c->pong_back)
        c->pong_back += n + m;
    return WS_OK;
}

/* The queue is empty: its block goes back to be lent again, or is freed. */
static void recycle(ws_conn *c)
{
    struct ws__buffer *b = c->out;
    c->pong_back = 0;
    if (!b)
        return;
    if (c->hub->spare || b->capacity < WS__CORK_SIZE || b->capacity > 2 * WS__CORK_SIZE) {
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
            break_connection(c);
    }
    if (c->drain_due && c->state == WS__OPEN && !c->held)
        ws__conn_make_ready(c);
}

void ws__send_flush(ws_conn *c)
{
    if (c->corked || c->blocked || c->broken || c->state == WS__DEAD)
        return;
    size_t queued = ws__buffer_length(c->out);
    if (queued) {
        ssize_t sent = ws__net_write(c->fd, ws__buffer_data(c->out), queued);
        if (sent == WS__NET_ERROR) {
            break_connection(c);
            return;
        }
        ws__buffer_consume(c->out, sent > 0 ? (size_t)sent : 0);
        if (sent < 0 || (size_t)sent < queued) {
            if (c->out->start >= c->out->capacity / 2) /* else: moving it would cost too much */
                ws__buffer_fit(&c->hub->memory, &c->out);
            block(c);
        }
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
    ws__send_flush(c);
    ws__conn_update_interest(c);
    if (!c->blocked && c->in)
        ws__conn_make_ready(c);
}

void ws__send_run_drain(ws_conn *c)
{
    const ws_behavior *b = c->target ? &c->target->behavior : NULL;
    if (!c->drain_due || c->blocked || c->state != WS__OPEN || ws_conn_buffered_amount(c))
        return;
    c->drain_due = false;
    ws_conn_cork(c);
    if (b->on_drain)
        b->on_drain(c, b->user);
    ws_conn_uncork(c);
}

int ws__send_bytes(ws_conn *c, const void *bytes, size_t n)
{
    int error = append(c, bytes, n, NULL, 0);
    if (!error)
        ws__send_flush(c);
    return error;
}

/* ---- frames ---- */

/* Above the limit: nothing of the frame is queued. The connection ends where the route wants it,
 * and where the frame continues a message, which cannot be dropped in its middle. */
static int drop_frame(ws_conn *c, const struct outgoing *f)
{
    static const char reason[] = "max_backpressure exceeded";
    const ws_behavior *b = &c->target->behavior;
    int opcode = opcode_of(f);
    c->drain_due = true;
    if (f->header[0] & WS__FRAME_RSV1) /* the peer never sees it: on_dropped may send, too */
        ws__deflate_forget(c->streams);
    if (b->close_on_backpressure_limit || opcode == WS_CONTINUATION) {
        ws_conn_end(c, 1008, reason, sizeof reason - 1);
    } else if (b->on_dropped && !c->in_dropped) {
        c->in_dropped = true;
        c->hub->in_handlers++;
        b->on_dropped(c, f->message_length ? f->message : "", f->message_length, opcode, b->user);
        c->hub->in_handlers--;
        c->in_dropped = false;
    }
    if (c->state == WS__OPEN && !c->blocked && !ws_conn_buffered_amount(c))
        ws__conn_make_ready(c);
    return WS_DROPPED;
}

static int queue_frame(ws_conn *c, const struct outgoing *f)
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
        break_connection(c); /* half a frame cannot be taken back */
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
        break_connection(c);
        return WS_DROPPED;
    }
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
        ws__buffer_consume(c->out, sent);
    return is_over_limit(c, f) ? drop_frame(c, f) : queue_frame(c, f);
}

static inline int push(ws_conn *c, const struct outgoing *f)
{
    bool over = is_over_limit(c, f);
    if (c->broken)
        return WS_DROPPED;
    if (c->blocked)
        return over ? drop_frame(c, f) : queue_frame(c, f);
    if (!c->corked || over || f->length >= WS__COPY_LIMIT ||
        ws__buffer_length(c->out) + total(f) > WS__CORK_SIZE)
        return write_frame(c, f);
    return queue_frame(c, f);
}

static int push_frame(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    return length > SIZE_MAX / 2 ? WS_EINVAL : push(c, &f);
}

/* ---- compression (RFC 7692) ---- */

struct ws__deflate_streams *ws__send_streams(ws_conn *c)
{
    if (!c->streams)
        c->streams = ws__memory_zalloc(&c->hub->memory, sizeof *c->streams);
    return c->streams;
}

/* One message, or a piece of one. `first`: FIN and opcode as it would be uncompressed. */
static int push_compressed(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    bool starts = (first & WS__FRAME_OPCODE) != WS_CONTINUATION, fin = first & WS__FRAME_FIN;
    struct ws__deflate_streams none = {NULL, NULL}, *streams = &none;
    const char *out;
    size_t out_length;
    if (!c->terms.server_no_context || !starts || !fin)
        streams = ws__send_streams(c);
    if (!streams || ws__deflate_compress(&c->hub->deflate, &c->terms, streams, data, length, starts,
                                         fin, &out, &out_length)) {
        ws_conn_end(c, 1011, "out of memory", 13);
        return WS_DROPPED;
    }
    if (starts && fin && out_length >= length) { /* legal for each message (RFC 7692 6.1) */
        ws__deflate_forget(streams);
        return push_frame(c, first, data, length);
    }
    struct outgoing f = make_frame(starts ? first | WS__FRAME_RSV1 : first, out, out_length);
    f.message = data;
    f.message_length = length;
    int result = push(c, &f);
    if (result < 0)
        ws__deflate_forget(c->streams); /* the peer never sees it; see drop_frame, too */
    return result;
}

/* A shared compressor lends a stream to each fragmented message; this one was given up. */
static void return_stream(ws_conn *c)
{
    if (!c->streams || !c->terms.server_no_context)
        return;
    struct ws__deflate_streams lent = {c->streams->deflater, NULL};
    c->streams->deflater = NULL;
    ws__deflate_streams_deinit(&c->hub->deflate, &lent);
}

static bool wants_compression(const ws_conn *c, int opcode, size_t length)
{
    return opcode & WS_COMPRESS && c->protocol.deflate && length && length <= UINT32_MAX / 2;
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
    ws__buffer_free(&c->hub->memory, &c->held);
    if (push_frame(c, WS__FRAME_FIN | WS_CLOSE, body, n) < 0)
        break_connection(c);
}

/* Takes a Pong that has not begun to leave out of the queue. */
static void remove_pong(ws_conn *c)
{
    struct ws__buffer *b = c->out;
    if (!c->pong_back || c->pong_back > ws__buffer_length(b))
        return;
    char *pong = b->bytes + b->end - c->pong_back;
    memmove(pong, pong + c->pong_length, c->pong_back - c->pong_length);
    b->end -= c->pong_length;
    c->pong_back = 0;
}

/* RFC 6455 5.5.3: while the kernel is full only the answer to the newest Ping is kept. */
void ws__send_pong(ws_conn *c, const void *data, size_t length)
{
    if (c->blocked)
        remove_pong(c);
    if (push_frame(c, WS__FRAME_FIN | WS_PONG, data, length) == WS_BACKPRESSURE) {
        c->pong_length = (uint8_t)(length + 2);
        c->pong_back = c->pong_length;
    }
}

/* Between the fragments of a message another one cannot stand (RFC 6455 5.4). */
static int hold(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    if (length > SIZE_MAX / 2)
        return WS_EINVAL;
    if (is_over_limit(c, &f))
        flush_cork(c); /* only what the kernel refuses counts */
    if (is_over_limit(c, &f))
        return drop_frame(c, &f);
    char *to = ws__buffer_reserve(&c->hub->memory, &c->held, total(&f));
    if (!to)
        return WS_ENOMEM;
    memcpy(to, f.header, f.header_length);
    if (length)
        memcpy(to + f.header_length, data, length);
    ws__buffer_commit(c->held, total(&f));
    c->drain_due = true;
    return WS_BACKPRESSURE;
}

static void release_held(ws_conn *c)
{
    struct ws__buffer *held = c->held;
    if (!held)
        return;
    c->held = NULL; /* no longer counted twice while it moves to the queue */
    if (ws__send_bytes(c, ws__buffer_data(held), ws__buffer_length(held)))
        break_connection(c);
    ws__buffer_free(&c->hub->memory, &held);
}

/* ---- ws.h: sending ---- */

int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)
{
    uint8_t first = (uint8_t)(WS__FRAME_FIN | (opcode & ~WS_COMPRESS));
    switch (opcode) {
    case WS_TEXT | WS_COMPRESS:
    case WS_BINARY | WS_COMPRESS:
    case WS_TEXT:
    case WS_BINARY:
        if (conn->state != WS__OPEN)
            return WS_DROPPED;
        if (conn->fragmenting == FRAGMENTS_SENT)
            return hold(conn, first, data, length);
        if (wants_compression(conn, opcode, length))
            return push_compressed(conn, first, data, length);
        return push_frame(conn, first, data, length);
    case WS_PING:
    case WS_PONG:
        if (length > WS__FRAME_CONTROL_MAX)
            return WS_EINVAL;
        if (conn->state != WS__OPEN || reserve_used(conn))
            return WS_DROPPED;
        return push_frame(conn, first, data, length);
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
    else if (result != WS_DROPPED)
        c->fragmenting = FRAGMENTS_SENT;
    if (c->fragmenting != FRAGMENTS_SENT)
        return_stream(c);
    return result;
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
        break_connection(c);
    if (fin)
        release_held(c);
    return result;
}

int ws_conn_send_fragment(ws_conn *conn, const void *data, size_t length, int opcode, bool fin)
{
    int plain = opcode & ~WS_COMPRESS;
    if (plain < WS_CONTINUATION || plain > WS_BINARY || opcode == WS_COMPRESS)
        return WS_EINVAL;
    if (conn->state != WS__OPEN)
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
    ws__send_flush(conn);
    /* A queue that stays does not keep the large block that was lent to it. */
    if (conn->blocked && conn->out && conn->out->capacity >= WS__CORK_SIZE &&
        ws__buffer_length(conn->out) < WS__CORK_SIZE / 2)
        ws__buffer_fit(&conn->hub->memory, &conn->out);
}

size_t ws_conn_buffered_amount(const ws_conn *conn)
{
    return ws__buffer_length(conn->out) + ws__buffer_length(conn->held);
}
