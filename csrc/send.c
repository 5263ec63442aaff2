/* SPDX-License-Identifier: MIT */
/*
 * send.c: how frames leave a connection: gathered while it is corked, written in one call, queued
 * only when the kernel is full, dropped whole above max_backpressure.
 * RFC 6455 sections 5.1 (frames of a server are not masked), 5.4, 5.5.
 */
#include "send.h"
#include "frame.h"
#include "label.h"
#include "pong.h"
#include "share.h"
#include "ws_cluster.h"

#include <string.h>

/* ws_conn.fragmenting */
enum { FRAGMENTS_NONE, FRAGMENTS_SENT, FRAGMENTS_DROPPED };

/* A frame on its way: header and payload, not yet copied. */
struct outgoing {
    uint8_t header[WS__FRAME_SEND_MAX];
    size_t header_length; /* 0: `data` begins with it */
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

/* ---- max_backpressure ---- */

/* Would this data frame take the queue above max_backpressure? */
static inline bool is_over_limit(const ws_conn *c, const struct outgoing *f)
{
    size_t limit = ws__conn_settings(c)->behavior.max_backpressure;
    size_t amount = ws__conn_queued(c);
    return limit && opcode_of(f) < WS_CLOSE && (amount > limit || total(f) > limit - amount);
}

/* Control frames are exempt from the limit, but not without bounds: a handler may send one for
 * each message of a peer that reads nothing. */
static bool reserve_used(const ws_conn *c)
{
    enum { RESERVE = 4096 };
    size_t limit = ws__conn_settings(c)->behavior.max_backpressure;
    size_t amount = ws__conn_queued(c);
    return c->stream.blocked && limit && amount > limit && amount - limit >= RESERVE;
}

static void end_now(ws_conn *c)
{
    bool limit = c->ending == WS__ENDING_LIMIT;
    const char *reason = limit ? "max_backpressure exceeded" : "out of memory";
    c->ending = WS__ENDING_NONE;
    c->stream.protocol->end(&c->stream, limit ? 1008 : 1011, reason, strlen(reason));
}

/* Ends the connection now, or later if this is inside on_dropped or inside another such end. The
 * handlers of an end may send to further connections that are over their limit. If those ended at
 * once, handlers would nest as deeply as there are connections. */
static void end_soon(ws_conn *c, enum ws__ending ending)
{
    struct ws__hub *hub = c->stream.hub;
    c->ending = ending & 3;
    if (hub->in_ending || hub->in_dropped) {
        ws__stream_make_ready(&c->stream);
        return;
    }
    hub->in_ending = true;
    end_now(c);
    hub->in_ending = false;
}

/* Runs on_dropped, but never inside itself, because each drop might cause many others. A message
 * that is dropped there is reported only by the result of the send. */
static void run_dropped(ws_conn *c, const void *message, size_t length, int opcode)
{
    const ws_behavior *b = &ws__conn_settings(c)->behavior;
    struct ws__hub *hub = c->stream.hub;
    if (!b->on_dropped || hub->in_dropped || c->stream.phase != WS__CONN_OPEN)
        return;
    hub->in_dropped = true;
    WS__CALL(hub, b->on_dropped, c, length ? message : "", length, opcode, b->user);
    hub->in_dropped = false;
}

/* Reports a message of which nothing was queued. Ends the connection instead if the route asks for
 * that, or if the frame is a continuation: a message cannot be dropped halfway. */
__attribute__((cold)) static void
drop_message(ws_conn *c, const void *message, size_t length, int opcode)
{
    struct ws__stream *s = &c->stream;
    bool later = c->fragmenting == FRAGMENTS_SENT && !s->blocked;
    if (later) /* the fragmented message is in the way, not the kernel */
        c->drain_later = true;
    else
        s->drain_due = true;
    s->hub->stats.dropped++;
    if (ws__conn_settings(c)->behavior.close_on_backpressure_limit || opcode == WS_CONTINUATION)
        end_soon(c, WS__ENDING_LIMIT);
    else
        run_dropped(c, message, length, opcode);
    if (c->stream.phase == WS__CONN_OPEN && !s->blocked && !later && !ws__conn_queued(c))
        ws__stream_make_ready(s); /* for on_drain */
}

int ws__send_conclude(ws_conn *c, enum ws__sent sent, const void *message, size_t length,
                      int opcode)
{
    switch (sent) {
    case WS__SENT_QUEUED:
    case WS__SENT:
    case WS__SENT_DROPPED:
        return (int)sent;
    case WS__SENT_OVER_LIMIT:
        drop_message(c, message, length, opcode & ~WS_COMPRESS);
        return WS_DROPPED;
    case WS__SENT_NOT_COMPRESSED:
        end_soon(c, WS__ENDING_MEMORY);
        return WS_DROPPED;
    case WS__SENT_NO_MEMORY:
        break;
    }
    return WS_ENOMEM;
}

void ws__send_end_due(ws_conn *c)
{
    if (c->ending)
        end_now(c);
}

/* ---- one frame ---- */

/* The peer is gone: what it does not get counts as refused. */
static enum ws__sent refuse(ws_conn *c, size_t n)
{
    ws__stream_refuse(&c->stream, n);
    return WS__SENT_DROPPED;
}

static inline enum ws__sent queue_frame(ws_conn *c, const struct outgoing *f)
{
    struct ws__stream *s = &c->stream;
    if (ws__stream_queue(s, f->header, f->header_length, f->data, f->length))
        return WS__SENT_NO_MEMORY;
    if (!s->blocked)
        return WS__SENT;
    s->drain_due = true;
    return WS__SENT_QUEUED;
}

static inline enum ws__sent push(ws_conn *c, const struct outgoing *f)
{
    struct ws__stream *s = &c->stream;
    if (ws__share_length(c))
        ws__share_queue(c);
    if (s->broken)
        return refuse(c, total(f));
    bool over = is_over_limit(c, f);
    if (s->blocked) {
        if (over)
            return WS__SENT_OVER_LIMIT;
    } else if (!s->corked || over || f->length >= WS__COPY_LIMIT ||
               ws__buffer_length(s->out) + total(f) > ws__conn_settings(c)->cork_limit) {
        switch (ws__stream_write(s, f->header, f->header_length, f->data, f->length)) {
        case WS__WRITTEN_ALL:
            return WS__SENT;
        case WS__WRITTEN_PART:
            return WS__SENT_QUEUED;
        case WS__WRITTEN_BROKEN:
            return WS__SENT_DROPPED;
        case WS__WRITTEN_NONE:
            if (is_over_limit(c, f))
                return WS__SENT_OVER_LIMIT;
        }
    }
    return queue_frame(c, f);
}

/* For all but plain messages, which need no call. */
__attribute__((noinline)) static enum ws__sent
push_frame(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    return push(c, &f);
}

enum ws__sent ws__send_frame(ws_conn *c, const char *frame, size_t length)
{
    struct outgoing f;
    f.header[0] = (uint8_t)frame[0];
    f.header_length = 0;
    f.data = frame;
    f.length = length;
    return push(c, &f);
}

/* ---- compression (RFC 7692) ---- */

/* One message, or a piece of one. `first`: FIN and opcode as it would be uncompressed. */
__attribute__((cold)) static enum ws__sent
push_compressed(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    bool starts = (first & WS__FRAME_OPCODE) != WS_CONTINUATION, fin = first & WS__FRAME_FIN;
    struct ws__deflate_streams none = {NULL, NULL}, *streams = &none;
    const char *out;
    size_t out_length;
    if (!c->terms.server_no_context || !starts || !fin) {
        struct ws__extra *extra = ws__conn_extra(c);
        streams = extra ? &extra->streams : NULL;
    }
    if (!streams || ws__deflate_compress(&c->stream.hub->deflate, &c->terms, streams, data, length,
                                         starts, fin, &out, &out_length))
        return WS__SENT_NOT_COMPRESSED;
    if (starts && fin && out_length >= length) { /* legal for each message (RFC 7692 6.1) */
        ws__deflate_forget(streams);
        return push_frame(c, first, data, length);
    }
    enum ws__sent sent = push_frame(c, starts ? first | WS__FRAME_RSV1 : first, out, out_length);
    if (sent == WS__SENT_OVER_LIMIT || sent == WS__SENT_NO_MEMORY)
        ws__deflate_forget(streams); /* the peer never sees it */
    return sent;
}

/* A shared compressor lends a stream to each fragmented message; this one was given up. */
static void return_stream(ws_conn *c)
{
    if (!c->extra || !c->terms.server_no_context)
        return;
    struct ws__deflate_streams lent = {c->extra->streams.deflater, NULL};
    c->extra->streams.deflater = NULL;
    ws__deflate_streams_deinit(&c->stream.hub->deflate, &lent);
}

/* ---- messages ---- */

/* Another message cannot stand between the fragments of one (RFC 6455 5.4: "The fragments of one
 * message MUST NOT be interleaved between the fragments of another message"). */
__attribute__((cold)) static enum ws__sent
hold(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct outgoing f = make_frame(first, data, length);
    if (is_over_limit(c, &f))
        ws__stream_flush_cork(&c->stream); /* only what the kernel refuses counts */
    if (c->stream.broken)
        return refuse(c, total(&f));
    if (is_over_limit(c, &f))
        return WS__SENT_OVER_LIMIT;
    struct ws__memory *memory = &c->stream.hub->memory;
    struct ws__extra *extra = ws__conn_extra(c);
    char *to = extra ? ws__buffer_reserve(memory, &extra->held, total(&f)) : NULL;
    if (!to)
        return WS__SENT_NO_MEMORY;
    memcpy(to, f.header, f.header_length);
    if (length)
        memcpy(to + f.header_length, data, length);
    ws__buffer_commit(extra->held, total(&f));
    c->drain_later = true;
    return WS__SENT_QUEUED;
}

/* The message that was in the way is whole. */
__attribute__((cold)) static void release_held(ws_conn *c)
{
    struct ws__buffer *held = c->extra ? c->extra->held : NULL;
    if (!c->drain_later)
        return;
    c->drain_later = false;
    c->stream.drain_due = true;
    if (held) {
        c->extra->held = NULL; /* no longer counted twice while it moves to the queue */
        if (ws__stream_send(&c->stream, ws__buffer_data(held), ws__buffer_length(held)))
            ws__stream_break(&c->stream, true);
        ws__buffer_free(&c->stream.hub->memory, &held);
    }
    if (!ws__buffer_length(c->stream.out) && c->stream.phase == WS__CONN_OPEN)
        ws__stream_make_ready(&c->stream); /* for on_drain */
}

static inline enum ws__sent send_plainly(ws_conn *c, const void *data, size_t length, int opcode)
{
    uint8_t first = (uint8_t)(WS__FRAME_FIN | (opcode & WS__FRAME_OPCODE));
    if (ws__send_compresses(c, opcode, length))
        return push_compressed(c, first, data, length);
    struct outgoing f = make_frame(first, data, length);
    return push(c, &f);
}

/* To a connection that is between fragments, takes labels, or will be ended. */
__attribute__((cold, noinline)) static enum ws__sent
send_specially(ws_conn *c, const void *data, size_t length, int opcode)
{
    struct ws__memory *memory = &c->stream.hub->memory;
    char *copy = NULL;
    enum ws__sent sent;
    if (c->ending)
        return WS__SENT_DROPPED;
    if (c->labels && !(opcode & WS_LABELLED) && ws__label_is_needed(data, length, true)) {
        data = copy = ws__label_prepend(memory, data, length);
        length += WS__LABEL_EMPTY;
        if (!copy)
            return WS__SENT_NO_MEMORY;
    }
    if (c->fragmenting == FRAGMENTS_SENT)
        sent = hold(c, (uint8_t)(WS__FRAME_FIN | (opcode & WS__FRAME_OPCODE)), data, length);
    else
        sent = send_plainly(c, data, length, opcode);
    ws__memory_free(memory, copy, copy ? length : 0);
    return sent;
}

static inline enum ws__sent send_message(ws_conn *c, const void *data, size_t length, int opcode)
{
    if (c->stream.phase != WS__CONN_OPEN)
        return WS__SENT_DROPPED;
    if (c->ending || c->fragmenting || c->labels) /* one test: bits of one byte */
        return send_specially(c, data, length, opcode);
    return send_plainly(c, data, length, opcode);
}

/* Not for ws_conn_send, which has this inlined. */
__attribute__((cold, noinline)) enum ws__sent
ws__send_message(ws_conn *c, const void *data, size_t length, int opcode)
{
    return send_message(c, data, length, opcode);
}

/* ---- control frames ---- */

__attribute__((cold)) void ws__send_close(ws_conn *c, int code, const char *reason, size_t length)
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
    /* Messages that wait for the end of another one can no longer be sent (C8). */
    if (c->extra)
        ws__buffer_free(&c->stream.hub->memory, &c->extra->held);
    if (push_frame(c, WS__FRAME_FIN | WS_CLOSE, body, n) == WS__SENT_NO_MEMORY)
        ws__stream_break(&c->stream, true);
}

/* RFC 6455 5.5.3: an endpoint "MAY elect to send a Pong frame for only the most recently processed
 * Ping frame": that is done only once the kernel is full. */
void ws__send_pong(ws_conn *c, const void *data, size_t length)
{
    enum ws__sent sent = push_frame(c, WS__FRAME_FIN | WS_PONG, data, length);
    if (sent == WS__SENT || sent == WS__SENT_QUEUED)
        ws__pong_queued(c, length + 2);
}

static int send_control(ws_conn *c, const void *data, size_t length, int opcode)
{
    if (length > WS__FRAME_CONTROL_MAX) /* RFC 6455 5.5 */
        return WS_EINVAL;
    if (c->stream.phase != WS__CONN_OPEN || reserve_used(c))
        return WS_DROPPED;
    if (opcode == WS_PONG && c->stream.mark) /* or it might be taken for an answer */
        ws__stream_flush_cork(&c->stream);
    enum ws__sent sent = push_frame(c, (uint8_t)(WS__FRAME_FIN | opcode), data, length);
    if (sent == WS__SENT_NO_MEMORY)
        return WS_ENOMEM;
    if (opcode == WS_PING)
        ws__heartbeat_ping(&c->stream, &c->pulse, data, length);
    return (int)sent;
}

/* ---- what follows ---- */

void ws__send_run_drain(ws_conn *c)
{
    const ws_behavior *b = &ws__conn_settings(c)->behavior;
    struct ws__stream *s = &c->stream;
    /* What is shared leaves at the end of the turn. */
    bool queued = ws__buffer_length(s->out) && !c->sharing;
    if (!s->drain_due || s->blocked || queued || c->stream.phase != WS__CONN_OPEN)
        return;
    s->drain_due = false;
    ws_conn_cork(c);
    if (b->on_drain)
        b->on_drain(c, b->user);
    ws_conn_uncork(c);
}

void ws__send_discard(ws_conn *c)
{
    struct ws__extra *extra = c->extra;
    if (!extra)
        return;
    ws__stream_refuse(&c->stream, ws__share_length(c) + ws__buffer_length(extra->held));
    ws__share_forget(c);
    ws__buffer_free(&c->stream.hub->memory, &extra->held);
}

/* ---- ws.h ---- */

static int not_sent(ws_conn *c, enum ws__sent sent, const void *data, size_t length, int opcode)
{
    c->stream.hub->not_sent++;
    return ws__send_conclude(c, sent, data, length, opcode);
}

__attribute__((cold, noinline)) static int send_labelled(ws_conn *c, const void *data,
                                                         size_t length, int opcode)
{
    int plain = opcode & ~(WS_LABELLED | WS_COMPRESS);
    bool valid = (plain == WS_TEXT || plain == WS_BINARY) && length <= SIZE_MAX / 2;
    size_t label = valid ? ws__label_length(data, length) : 0;
    const char *rest = (const char *)data + label;
    if (!label)
        return WS_EINVAL;
    if (!c->labels)
        return ws_conn_send(c, rest, length - label, opcode & ~WS_LABELLED);
    c->stream.hub->stats.messages_out++;
    enum ws__sent sent = ws__send_message(c, data, length, opcode);
    return sent < WS__SENT_DROPPED ? (int)sent : not_sent(c, sent, rest, length - label, plain);
}

int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)
{
    enum ws__sent sent;
    switch (opcode) {
    case WS_TEXT | WS_COMPRESS:
    case WS_BINARY | WS_COMPRESS:
    case WS_TEXT:
    case WS_BINARY:
        if (length > SIZE_MAX / 2)
            return WS_EINVAL;
        conn->stream.hub->stats.messages_out++; /* counting afterwards would cost more */
        sent = send_message(conn, data, length, opcode);
        return sent < WS__SENT_DROPPED ? (int)sent : not_sent(conn, sent, data, length, opcode);
    case WS_PING:
    case WS_PONG:
        return send_control(conn, data, length, opcode);
    default:
        return opcode & WS_LABELLED ? send_labelled(conn, data, length, opcode) : WS_EINVAL;
    }
}

static enum ws__sent push_fragment(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    return c->compressing ? push_compressed(c, first, data, length)
                          : push_frame(c, first, data, length);
}

/* With the empty label in front. */
__attribute__((cold, noinline)) static enum ws__sent
push_first_labelled(ws_conn *c, uint8_t first, const void *data, size_t length)
{
    struct ws__memory *memory = &c->stream.hub->memory;
    char *copy = ws__label_prepend(memory, data, length);
    if (!copy)
        return WS__SENT_NO_MEMORY;
    enum ws__sent sent = push_fragment(c, first, copy, WS__LABEL_EMPTY + length);
    ws__memory_free(memory, copy, WS__LABEL_EMPTY + length);
    return sent;
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
    enum ws__sent sent = c->labels && ws__label_is_needed(data, length, false)
                             ? push_first_labelled(c, first, data, length)
                             : push_fragment(c, first, data, length);
    if (sent == WS__SENT_NO_MEMORY) {
        c->fragmenting = FRAGMENTS_NONE;
    } else if (sent < WS__SENT_DROPPED) {
        c->fragmenting = FRAGMENTS_SENT;
        c->stream.hub->stats.messages_out++;
    }
    if (c->fragmenting != FRAGMENTS_SENT)
        return_stream(c);
    return ws__send_conclude(c, sent, data, length, opcode);
}

static int send_next(ws_conn *c, const void *data, size_t length, bool fin)
{
    unsigned state = c->fragmenting;
    if (state == FRAGMENTS_NONE)
        return WS_EORDER;
    if (fin)
        c->fragmenting = FRAGMENTS_NONE;
    if (state == FRAGMENTS_DROPPED)
        return WS_DROPPED;
    enum ws__sent sent = push_fragment(c, fin ? WS__FRAME_FIN : 0, data, length);
    if (sent == WS__SENT_NO_MEMORY) /* the message has a hole */
        ws__stream_break(&c->stream, true);
    else if (sent <= WS__SENT_DROPPED && fin)
        release_held(c);
    return ws__send_conclude(c, sent, data, length, WS_CONTINUATION);
}

__attribute__((cold)) int
ws_conn_send_fragment(ws_conn *conn, const void *data, size_t length, int opcode, bool fin)
{
    int plain = opcode & ~WS_COMPRESS;
    if (plain < WS_CONTINUATION || plain > WS_BINARY || opcode == WS_COMPRESS ||
        length > SIZE_MAX / 2)
        return WS_EINVAL;
    if (conn->stream.phase != WS__CONN_OPEN || conn->ending)
        return WS_DROPPED;
    if (opcode == WS_CONTINUATION)
        return send_next(conn, data, length, fin);
    return send_first(conn, data, length, opcode, fin);
}

void ws_conn_cork(ws_conn *conn)
{
    ws__stream_cork(&conn->stream);
}

void ws_conn_uncork(ws_conn *conn)
{
    struct ws__stream *s = &conn->stream;
    if (s->corked == 1 && ws__share_length(conn)) {
        if (!s->out) { /* the end of the turn has more for it */
            s->corked = 0;
            return;
        }
        ws__share_send(conn);
    }
    ws__stream_uncork(s);
}

/* What is corked or published may still be taken: nothing of it was refused. */
size_t ws_conn_buffered_amount(const ws_conn *conn)
{
    const struct ws__stream *s = &conn->stream;
    if (s->broken)
        return s->refused + ws__conn_queued(conn);
    return (s->blocked ? ws__buffer_length(s->out) : 0) +
           (conn->extra ? ws__buffer_length(conn->extra->held) : 0);
}
