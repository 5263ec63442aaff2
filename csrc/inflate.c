/* SPDX-License-Identifier: MIT */
/*
 * inflate.c: compressed messages on their way to the handler, and what all connections together may
 * spend on them in one turn. RFC 7692 section 7.2.2.
 */
#include "inflate.h"
#ifndef WS_NO_DEFLATE

#include <stdio.h>
#include <string.h>

/* A message that is inflated in several turns. */
struct ws__suspended {
    struct ws__inflation inflation;
    struct ws__buffer *input; /* all of its compressed bytes */
    int opcode;
};

/* The cost of inflating is measured, because it cannot be predicted: a byte of an ordinary message
 * costs 5 ns, a byte of blocks made to be expensive 250 ns. The limits are in nanoseconds. */
enum {
    TURN = 8000000,  /* for all connections in one turn */
    MOST = TURN / 2, /* for one connection, however few others wait */
    LEAST = TURN / 8 /* for one connection, however many others wait */
};

/* Between two looks at the clock: 4 KiB of input, or 256 KiB of output, 1 ms at the very worst.
 * What is shorter is inflated in one go. */
enum { SLICE = 4 * 1024 * WS__INFLATE_PRICE };

/* The budget that the first message of a connection in a turn gets even if no time is left: 512
 * bytes of input or 32 KiB of output, which takes at most 0.13 ms. So short messages are answered
 * at once, however many connections wait with long ones. */
enum { SHORT = 512 * WS__INFLATE_PRICE };

/* Returns the connection's share of the turn. Suspended messages are served after the sockets that
 * are ready, so half of the turn is reserved for them: new messages cannot starve them. */
static uint64_t share_of(const ws_conn *c)
{
    const struct ws__hub *hub = c->stream.hub;
    uint64_t used = hub->turn_inflating;
    uint64_t total = hub->inflating && !c->stream.busy ? TURN / 2 : TURN;
    uint64_t share = hub->inflating < TURN / MOST ? MOST : TURN / hub->inflating;
    uint64_t left = used < total ? total - used : 0;
    if (share < LEAST)
        share = LEAST;
    return left < share ? left : share;
}

void ws__inflate_forget(ws_conn *c)
{
    struct ws__hub *hub = c->stream.hub;
    struct ws__suspended *s = c->extra ? c->extra->suspended : NULL;
    if (!s)
        return;
    c->extra->suspended = NULL;
    hub->inflating--;
    ws__deflate_abandon(&hub->deflate, &s->inflation);
    ws__buffer_free(&hub->memory, &s->input);
    ws__memory_free(&hub->memory, s, sizeof *s);
    ws__stream_set_busy(&c->stream, false); /* the peer's Close may still come */
}

/* The event becomes the failure that `result` means. */
static enum ws__inflated fail(const ws_conn *c, int result, struct ws__event *event)
{
    size_t limit = ws__conn_settings(c)->behavior.max_payload_length;
    event->type = WS__EVENT_FAIL;
    event->code = result == WS__INFLATE_TOO_BIG ? 1009 : result < 0 ? 1011 : 1007;
    snprintf(event->why, sizeof event->why, "%s",
             result < 0                       ? "out of memory"
             : result == WS__INFLATE_NOT_UTF8 ? "invalid UTF-8 in text message"
                                              : "invalid compressed data");
    if (result == WS__INFLATE_TOO_BIG)
        snprintf(event->why, sizeof event->why,
                 "message exceeds max_payload_length %zu when inflated", limit);
    event->data = event->why;
    event->length = strlen(event->why);
    return WS__INFLATED_FAILED;
}

/* Inflates until *share is used up, in slices; the first one needs no share. WS__INFLATE_OK:
 * event->data and length are what came out. */
static int spend(ws_conn *c, struct ws__inflation *m, size_t slice, uint64_t *share,
                 struct ws__event *event)
{
    struct ws__hub *hub = c->stream.hub;
    struct ws__deflate_streams none = {NULL, NULL}, *streams = &none;
    if (!c->terms.client_no_context)
        streams = ws__conn_extra(c) ? &c->extra->streams : NULL;
    if (!streams)
        return WS_ENOMEM;
    uint64_t start = hub->loop.clock(hub->loop.user), spent;
    int result;
    do {
        m->budget = slice;
        result = ws__deflate_decompress(&hub->deflate, &c->terms, streams, m, event->data,
                                        event->length, &event->data, &event->length);
        spent = hub->loop.clock(hub->loop.user) - start;
    } while (result == WS__INFLATE_MORE && spent < *share);
    if (*share) /* a first slice without a share is not taken from those that wait */
        hub->turn_inflating += spent;
    *share -= spent < *share ? spent : *share;
    return result;
}

/* The message continues in another turn. */
static enum ws__inflated suspend(ws_conn *c, const struct ws__inflation *m,
                                 struct ws__event *event)
{
    struct ws__hub *hub = c->stream.hub;
    struct ws__inflation inflation = *m;
    struct ws__suspended *s = NULL;
    if (ws__conn_extra(c))
        s = ws__memory_zalloc(&hub->memory, sizeof *s);
    if (!s || ws__protocol_take(&c->protocol, &hub->memory, event, &s->input)) {
        ws__memory_free(&hub->memory, s, sizeof *s);
        ws__deflate_abandon(&hub->deflate, &inflation);
        return fail(c, WS_ENOMEM, event);
    }
    s->inflation = inflation;
    s->opcode = event->opcode;
    c->extra->suspended = s;
    hub->inflating++;
    ws__stream_make_more(&c->stream);
    ws__stream_set_busy(&c->stream, true);
    return WS__INFLATED_LATER;
}

enum ws__inflated ws__inflate_message(ws_conn *c, struct ws__event *event, uint64_t *share)
{
    struct ws__inflation m = {.limit = ws__conn_settings(c)->behavior.max_payload_length,
                              .text = event->opcode == WS_TEXT};
    bool first = *share == WS__INFLATE_SHARE_UNKNOWN;
    int result = WS__INFLATE_MORE;
    if (first)
        *share = share_of(c);
    if (*share)
        result = spend(c, &m, SLICE, share, event);
    else if (first || !event->length) /* one without any bytes is invalid, and not worth keeping */
        result = spend(c, &m, SHORT, share, event);
    if (result == WS__INFLATE_MORE)
        return suspend(c, &m, event);
    return result ? fail(c, result, event) : WS__INFLATED;
}

enum ws__inflated ws__inflate_resume(ws_conn *c, struct ws__event *event)
{
    struct ws__suspended *s = c->extra->suspended;
    uint64_t share = share_of(c);
    if (!share) {
        ws__stream_postpone(&c->stream);
        return WS__INFLATED_LATER;
    }
    event->type = WS__EVENT_MESSAGE;
    event->opcode = s->opcode;
    event->data = ws__buffer_data(s->input);
    event->length = ws__buffer_length(s->input);
    int result = spend(c, &s->inflation, SLICE, &share, event);
    if (result == WS__INFLATE_MORE) {
        ws__stream_make_more(&c->stream);
        return WS__INFLATED_LATER;
    }
    ws__inflate_forget(c);
    return result ? fail(c, result, event) : WS__INFLATED;
}

#endif
