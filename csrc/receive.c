/* SPDX-License-Identifier: MIT */
/*
 * receive.c: frames in: the messages, Pings, Pongs and Closes that protocol.c finds in the input go
 * to the handlers. What is allowed on the wire is decided by protocol.c.
 * RFC 6455 sections 5.5.2, 5.5.3, 7.1.
 */
#include "receive.h"
#include "close.h"
#include "inflate.h"
#include "input.h"
#include "pong.h"
#include "send.h"

enum { TURN_INFLATED = 1024 * 1024 }; /* bytes into and out of inflate per connection and turn */

/* ---- events ---- */

static inline void hand_out(ws_conn *c, const struct ws__event *event)
{
    const ws_behavior *b = &ws__conn_settings(c)->behavior;
    c->stream.hub->stats.messages_in++;
    if (b->on_message)
        b->on_message(c, event->data, event->length, event->opcode, b->user);
}

static inline void on_message(ws_conn *c, struct ws__event *event, uint64_t *share)
{
    if (event->compressed) {
        enum ws__inflated inflated = ws__inflate_message(c, event, share);
        if (inflated == WS__INFLATED_FAILED)
            ws__close_fail(c, event->code, event->data, event->length);
        if (inflated != WS__INFLATED)
            return;
    }
    hand_out(c, event);
}

static void event_while_open(ws_conn *c, struct ws__event *event, uint64_t *share)
{
    const ws_behavior *b = &ws__conn_settings(c)->behavior;
    switch (event->type) {
    case WS__EVENT_MESSAGE:
        on_message(c, event, share);
        break;
    case WS__EVENT_PING: /* RFC 6455 5.5.2: "It SHOULD respond with Pong frame as soon as is
                            practical" */
        ws__send_pong(c, event->data, event->length);
        if (b->on_ping)
            b->on_ping(c, event->data, event->length, b->user);
        break;
    case WS__EVENT_PONG: /* RFC 6455 5.5.3: an unsolicited one gets no reply */
        ws__heartbeat_pong(&c->stream, &c->pulse, event->data, event->length);
        if (b->on_pong)
            b->on_pong(c, event->data, event->length, b->user);
        break;
    case WS__EVENT_CLOSE:
        ws__close_on_frame(c, event->code, event->data, event->length);
        break;
    case WS__EVENT_FAIL:
        ws__close_fail(c, event->code, event->data, event->length);
        break;
    case WS__EVENT_NONE:
        break;
    }
}

/* After our Close only the peer's matters; data is discarded (RFC 6455 7.1.3, S26). */
static void event_while_closing(ws_conn *c, const struct ws__event *event)
{
    if (event->type == WS__EVENT_CLOSE)
        ws__close_on_frame(c, event->code, event->data, event->length);
    else if (event->type == WS__EVENT_FAIL)
        ws__close_linger(c);
}

/* How much of TURN_INFLATED a compressed message uses up. In a late turn a long one uses all of it,
 * because it keeps its handler busy, too. */
static size_t inflated_size(const ws_conn *c, size_t compressed, size_t length, uint64_t share)
{
    bool enough = !share || (length >= WS__COPY_LIMIT && ws__hub_is_late(c->stream.hub));
    return enough ? TURN_INFLATED : compressed + length;
}

/* The idle time of a lost peer continues. */
static void stop_reading(struct ws__stream *s)
{
    if (s->paused)
        return;
    if (!s->gone)
        ws__timer_stop(&s->timer);
    ws__stream_pause(s);
}

/* Stops before a data frame that must wait. What follows it waits, too, since order is kept; what
 * was read of that already is kept. Returns true if the rest of the input must wait. */
__attribute__((cold, noinline)) static bool stop_before_data(ws_conn *c, const struct ws__input *in)
{
    if (!c->stream.paused && ws__protocol_in_data(&c->protocol, in))
        stop_reading(&c->stream);
    return c->stream.paused;
}

/* Returns true if the rest of the input must wait. */
static inline bool is_paused(ws_conn *c, const struct ws__input *in)
{
    return (c->stream.paused || c->stream.holding) && stop_before_data(c, in);
}

static void read_frames(ws_conn *c, struct ws__input *in)
{
    struct ws__stream *s = &c->stream;
    struct ws__memory *memory = &s->hub->memory;
    size_t limit = ws__conn_settings(c)->behavior.max_payload_length;
    uint64_t share = WS__INFLATE_SHARE_UNKNOWN;
    struct ws__event event;
    size_t inflated = 0;
    int result = 1;
    for (unsigned handled = 1; in->length && inflated < TURN_INFLATED && !is_paused(c, in);
         handled++) {
        result = ws__protocol_next(&c->protocol, memory, limit, in, &event);
        if (result <= 0)
            break;
        size_t compressed = event.length;
        if (c->stream.phase == WS__CONN_OPEN)
            event_while_open(c, &event, &share);
        else
            event_while_closing(c, &event);
        ws__protocol_release(&c->protocol, memory);
        if (event.compressed)
            inflated += inflated_size(c, compressed, event.length, share);
        if (c->stream.phase == WS__CONN_CLOSED || s->busy)
            return;
        if (ws__hub_had_turn(s->hub, handled, in))
            break;
    }
    if (result < 0 && c->stream.phase == WS__CONN_CLOSING) /* our Close was the last word (5.5.1) */
        ws__close_linger(c);
    else if (result < 0)
        ws__close_fail(c, 1011, "out of memory", 13);
    else if (result > 0 && in->length && !s->paused) /* others are served first */
        ws__stream_make_more(s);
}

/* ---- for the stream ---- */

static void websocket_input(struct ws__stream *s, struct ws__input *in)
{
    ws_conn *c = ws__conn_of(s);
    if (c->stream.phase == WS__CONN_OPEN)
        ws__heartbeat_heard(s, &ws__conn_settings(c)->heartbeat);
    ws_conn_cork(c);
    read_frames(c, in);
    ws_conn_uncork(c);
}

/* The message that was suspended comes before what is kept, and is all that its connection handles
 * in this turn. The peer is not idle while we work. */
static void resume_message(ws_conn *c)
{
    struct ws__stream *s = &c->stream;
    struct ws__event event;
    if (c->stream.phase == WS__CONN_OPEN)
        ws__heartbeat_heard(s, &ws__conn_settings(c)->heartbeat);
    ws_conn_cork(c);
    enum ws__inflated inflated = ws__inflate_resume(c, &event);
    if (inflated == WS__INFLATED_FAILED)
        ws__close_fail(c, event.code, event.data, event.length);
    else if (inflated == WS__INFLATED)
        hand_out(c, &event);
    ws_conn_uncork(c);
    if (s->in && !s->busy && s->state == WS__STREAM_OPEN)
        ws__stream_make_more(s);
}

static void websocket_ready(struct ws__stream *s, bool more)
{
    ws_conn *c = ws__conn_of(s);
    ws__send_end_due(c);
    if (more && s->busy && !s->paused)
        resume_message(c);
    else if (more)
        ws__input_handle_kept(s);
    ws__send_run_drain(c);
}

static void send_ping(ws_conn *c)
{
    char payload[WS__HEARTBEAT_PAYLOAD];
    ws__heartbeat_payload(&c->stream, payload);
    ws_conn_send(c, payload, sizeof payload, WS_PING);
}

__attribute__((cold)) static void websocket_timer(struct ws__stream *s)
{
    ws_conn *c = ws__conn_of(s);
    const struct ws__heartbeat *h = &ws__conn_settings(c)->heartbeat;
    if (c->stream.phase == WS__CONN_CLOSING) {
        ws__stream_drop(s, "close timeout", false);
    } else if (!ws__heartbeat_timed_out(s, h)) {
        send_ping(c);
        ws__heartbeat_pinged(s, h);
    } else {
        ws__stream_drop(s,
                        s->gone      ? "connection reset by peer"
                        : h->by_ping ? "ping timeout"
                                     : "idle timeout",
                        s->gone);
    }
}

static void websocket_sent(struct ws__stream *s)
{
    const ws_conn *c = ws__conn_of(s);
    if (c->stream.phase == WS__CONN_OPEN)
        ws__heartbeat_sent(s, &ws__conn_settings(c)->heartbeat);
}

static void websocket_mark_left(struct ws__stream *s)
{
    ws__pong_left(ws__conn_of(s));
}

/* The idle time starts again, also while reading is paused: it is what ends a paused connection
 * whose peer is gone. */
static void websocket_lost(struct ws__stream *s)
{
    ws_conn *c = ws__conn_of(s);
    ws__send_discard(c);
    if (c->stream.phase == WS__CONN_OPEN)
        ws__heartbeat_restart(s, &ws__conn_settings(c)->heartbeat);
}

const struct ws__stream_protocol ws__receive_protocol = {
    .size = sizeof(ws_conn),
    .eof_reason = "connection closed without a Close frame",
    .on_input = websocket_input,
    .on_ready = websocket_ready,
    .on_timer = websocket_timer,
    .on_sent = websocket_sent,
    .on_mark_left = websocket_mark_left,
    .on_eof = ws__close_on_eof,
    .on_lost = websocket_lost,
    .end = ws__close_end,
    .on_end = ws__close_on_end,
    .release = ws__conn_release,
};

/* ---- opening ---- */

/* Returns false if out of memory: the connection cannot have the time limits of its route. */
static bool start_heartbeat(ws_conn *c)
{
    const struct ws__heartbeat *h = &ws__conn_settings(c)->heartbeat;
    ws__heartbeat_restart(&c->stream, h);
    if (!h->lifetime)
        return true;
    if (!ws__conn_extra(c))
        return false;
    ws__timer_start(&c->stream.hub->loop, h->lifetime, &c->extra->lifetime);
    return true;
}

void ws__receive_open(ws_conn *c, ws_request *request, const struct ws__settings *settings,
                      void *user)
{
    struct ws__stream *s = &c->stream;
    struct ws__hub *hub = s->hub;
    ws_conn *outer = hub->opening;
    ws_request *outer_request = hub->opening_request;
    ws__stream_set_protocol(s, &settings->protocol);
    c->user = user;
    c->report = WS__REPORT_CLOSE;
    ws__conn_set_state(c, WS__CONN_OPEN);
    if (!start_heartbeat(c))
        ws__stream_break(s, true);
    hub->stats.opened++;
    hub->stats.open++;
    hub->opening = c;
    hub->opening_request = request;
    WS__CALL(hub, settings->behavior.on_open, c, settings->behavior.user);
    hub->opening = outer;
    hub->opening_request = outer_request;
}

/* ---- ws.h ---- */

__attribute__((cold)) void ws_conn_pause(ws_conn *conn)
{
    if (conn->stream.phase == WS__CONN_OPEN)
        stop_reading(&conn->stream);
}

/* A message that has begun is held with what has arrived of it, and the rest is not read. */
__attribute__((cold)) void ws_conn_pause_messages(ws_conn *conn)
{
    struct ws__stream *s = &conn->stream;
    if (conn->stream.phase != WS__CONN_OPEN)
        return;
    s->holding = true;
    if (s->busy || conn->protocol.in_frame)
        stop_reading(s);
}

void ws_conn_resume(ws_conn *conn)
{
    struct ws__stream *s = &conn->stream;
    if (s->paused && conn->stream.phase == WS__CONN_OPEN)
        ws__heartbeat_restart(s, &ws__conn_settings(conn)->heartbeat);
    ws__stream_resume(s);
}
