/* SPDX-License-Identifier: MIT */
/*
 * input.c: what arrives on a stream, and the end of it. What the bytes mean is the protocol's
 * affair.
 */
#include "input.h"

enum { TURN_DISCARD = 1024 * 1024 }; /* bytes discarded for a lingering stream in one turn */

static bool can_handle(const struct ws__stream *s)
{
    return s->state == WS__STREAM_OPEN && !s->paused && !s->busy && !s->awaiting &&
           !(s->blocked && ws__stream_is_half_duplex(s) && !s->uploading);
}

/* ---- the end of the input ---- */

__attribute__((cold)) void ws__input_end(struct ws__stream *s, ssize_t result)
{
    if (result == WS__NET_AGAIN)
        return;
    if (result == 0 && !s->broken && (s->out || s->blocked || s->awaiting)) {
        /* the peer may still read */
        s->eof = true;
        if (s->state == WS__STREAM_LINGERING || s->protocol->on_eof(s)) {
            ws__stream_update_interest(s);
            return;
        }
    }
    ws__stream_drop(
        s, result || s->broken ? "connection reset by peer" : s->protocol->eof_reason, true);
}

/* RFC 6455 7.1.1: what arrives after everything is said is read and discarded, so that the last
 * bytes sent are not destroyed by a reset. */
__attribute__((cold)) void ws__input_discard(struct ws__stream *s)
{
    struct ws__hub *hub = s->hub;
    size_t left = TURN_DISCARD;
    ssize_t n;
    do {
        n = ws__net_read(s->fd, hub->recv_buffer, hub->config.recv_buffer_size);
        left -= n > 0 && (size_t)n < left ? (size_t)n : left;
        hub->stats.bytes_in += n > 0 ? (size_t)n : 0;
    } while (n > 0 && left);
    if (n <= 0)
        ws__input_end(s, n);
}

/* The peer has reset the connection, or a write has failed. What the peer sent before, messages and
 * perhaps its Close, is still handled, and the stream ends after that: at once if it is being read,
 * otherwise once it is resumed. If an answer is awaited, or a body is not complete, the stream is
 * dropped now, because no one is left to read the answer. */
__attribute__((cold)) static void lose_peer(struct ws__stream *s)
{
    bool left = s->in || s->busy || ws__net_has_input(s->fd);
    if (ws__stream_is_filtered(s) && s->hub->filter->drop_failed(s))
        return;
    if (s->starved || s->awaiting || s->uploading || s->state != WS__STREAM_OPEN || !left) {
        ws__stream_drop(s, s->starved ? "out of memory" : "connection reset by peer", !s->starved);
        return;
    }
    if (!s->broken)
        ws__stream_break(s, false);
    s->gone = true;
    ws__net_cut(s->fd); /* where a write alone has failed, the peer must stop sending, too */
    ws__stream_refuse(s, ws__buffer_length(s->out));
    s->blocked = false;
    ws__buffer_free(&s->hub->memory, &s->out);
    if (s->protocol->on_lost)
        s->protocol->on_lost(s);
    ws__stream_update_interest(s);
    if (s->in || s->busy)
        ws__stream_make_more(s);
}

/* ---- bytes ---- */

static void handle_input(struct ws__stream *s, struct ws__input *in)
{
    s->protocol->on_input(s, in);
    if (s->state != WS__STREAM_OPEN)
        in->length = 0;
}

/* What could not be handled yet is copied out of the receive buffer. */
static void keep_input(struct ws__stream *s, const struct ws__input *in)
{
    if (!in->length || s->state != WS__STREAM_OPEN)
        return;
    if (ws__buffer_append(&s->hub->memory, &s->in, in->data, in->length))
        ws__stream_drop(s, "out of memory", false);
    else
        ws__stream_update_interest(s);
}

/* The first n bytes of the kept input were handled. The rest is moved only once it fills at most
 * half of its block: moving it in each turn would take time quadratic in its length. */
static void fit_kept_input(struct ws__stream *s, size_t n)
{
    ws__buffer_consume(s->in, n);
    if (n && ws__buffer_length(s->in) <= s->in->capacity / 2)
        ws__buffer_fit(&s->hub->memory, &s->in);
}

void ws__input_handle_kept(struct ws__stream *s)
{
    if (!s->in || !can_handle(s))
        return;
    size_t before = ws__buffer_length(s->in);
    struct ws__input in = {ws__buffer_data(s->in), before};
    handle_input(s, &in);
    fit_kept_input(s, before - in.length);
    ws__stream_update_interest(s);
}

/* What is kept while an answer is awaited is bounded by this, also when it arrives together with
 * the request. */
size_t ws__input_room(const struct ws__stream *s, size_t kept)
{
    size_t room = s->hub->config.recv_buffer_size - kept;
    if (!ws__stream_is_half_duplex(s))
        return room;
    size_t early = s->hub->early_limit - (s->awaiting ? ws__buffer_length(s->in) : 0);
    return early < room ? early : room;
}

/* If only a few bytes were kept (at most a frame header and a control frame), they are moved to the
 * front of the receive buffer. An unfinished request head may be long, so new input is appended to
 * it instead and handled there: a head that arrives in many pieces is copied only once. */
static void read_socket(struct ws__stream *s)
{
    struct ws__hub *hub = s->hub;
    bool append = s->in && ws__stream_is_half_duplex(s);
    size_t kept = append ? 0 : ws__buffer_length(s->in);
    ssize_t n = ws__net_read(s->fd, hub->recv_buffer + kept, ws__input_room(s, kept));
    if (n <= 0) {
        ws__input_end(s, n);
        return;
    }
    hub->stats.bytes_in += (size_t)n;
    struct ws__input in = {hub->recv_buffer, kept + (size_t)n};
    if (kept) {
        memcpy(hub->recv_buffer, ws__buffer_data(s->in), kept);
        ws__buffer_free(&hub->memory, &s->in);
    }
    if (!append && !s->awaiting)
        handle_input(s, &in);
    keep_input(s, &in);
    if (append)
        ws__input_handle_kept(s);
}

__attribute__((cold)) void ws__input_take(struct ws__stream *s, size_t n)
{
    const bool now = can_handle(s) && !s->more, append = s->in;
    struct ws__input in = {s->hub->recv_buffer, n};
    s->hub->stats.bytes_in += n;
    if (now && !append)
        handle_input(s, &in);
    keep_input(s, &in);
    if (now && append)
        ws__input_handle_kept(s);
}

/* ---- events ---- */

__attribute__((cold)) static void read_otherwise(struct ws__stream *s)
{
    if (ws__stream_is_filtered(s))
        s->hub->filter->read(s);
    else if (s->state == WS__STREAM_LINGERING)
        ws__input_discard(s);
    /* Or there is more that was left over, which comes first. */
}

void ws__input_on_event(struct ws__stream *s, unsigned ready)
{
    if (ready & WS__LOOP_WRITE)
        ws__stream_unblock(s);
    if (!(ready & (WS__LOOP_READ | WS__LOOP_HANGUP)) || s->state == WS__STREAM_DEAD)
        return;
    if (!(s->interest & WS__LOOP_READ)) {
        if (ready & WS__LOOP_HANGUP)
            lose_peer(s);
    } else if (ws__stream_is_filtered(s) || s->more || s->state == WS__STREAM_LINGERING) {
        read_otherwise(s);
    } else {
        read_socket(s);
    }
}

void ws__input_on_ready(struct ws__link *link)
{
    struct ws__stream *s = ws__stream_of_link(link);
    bool more = s->more;
    s->in_ready = s->more = false;
    if (s->state == WS__STREAM_DEAD) {
        ws__hub_bury(s->hub, link);
        return;
    }
    if (s->broken && (!s->gone || s->starved || s->awaiting))
        lose_peer(s);
    if (s->state != WS__STREAM_DEAD)
        s->protocol->on_ready(s, more);
}
