/* SPDX-License-Identifier: MIT */
/*
 * conn.h: a WebSocket connection, a block that begins with its stream. These files implement the
 * WebSocket protocol, and each calls only the files before it:
 *
 *     heartbeat.c   how long the peer has been silent
 *     conn.c        the data of a connection
 *     label.c       labels in front of messages
 *     share.c       published frames that are waiting to be sent to it
 *     pong.c        answers to Pings that are waiting in its queue
 *     send.c        frames out
 *     relay.c       what other processes learn of topics
 *     publish.c     its topics, and messages to all subscribers of one
 *     inflate.c     compressed messages
 *     close.c       the closing handshake, and what the application learns of the end
 *     receive.c     frames in
 *
 *          101               ws_conn_end            the peer's Close, or a violation
 *    NONE ───────▶ OPEN ─────────────────────▶ CLOSING ──────────────────────────────▶ CLOSED
 *                    └────────────────────────────────────────────────────────────────▲
 *                        the peer's Close, a violation, or the end of the stream
 *
 * NONE: the stream still speaks HTTP. CLOSING: our Close is sent, the peer's is awaited (RFC 6455
 * 7.1.3). CLOSED: the stream lingers, or is dead.
 */
#ifndef WS__CONN_H
#define WS__CONN_H

#include "heartbeat.h"
#include "protocol.h"
#include "stream.h"

enum { WS__CLOSE_REASON_MAX = 123 }; /* bytes beside the code in a Close frame (RFC 6455 5.5) */

/* ws__stream.phase of a stream that begins a ws_conn. */
enum ws__conn_state { WS__CONN_NONE, WS__CONN_OPEN, WS__CONN_CLOSING, WS__CONN_CLOSED };

/* A connection that ends because something could not be sent to it. */
enum ws__ending {
    WS__ENDING_NONE,
    WS__ENDING_LIMIT, /* above max_backpressure */
    WS__ENDING_MEMORY /* out of memory while a message was compressed */
};

/* Which handler of the application runs next at the end: on_open is followed by one on_close, and
 * on_close by one on_closed. Until on_close has returned, on_closed is not due. */
enum ws__report { WS__REPORT_NONE, WS__REPORT_CLOSE, WS__REPORT_CLOSED };

/* The settings of a WebSocket route, and what is derived from them. */
struct ws__settings {
    struct ws__stream_protocol protocol; /* first: ws_conn.stream.protocol points here */
    ws_behavior behavior;
    /* How many corked or published bytes are gathered before they are written: at most half of
     * max_backpressure, so that an application which checks the buffered amount before each send,
     * which does not include corked bytes, loses nothing even if the kernel refuses all of them. */
    size_t cork_limit;
    struct ws__timer_queue *close_queue;
    struct ws__heartbeat heartbeat;
};

/* What only few connections need. It is allocated when it is first needed. */
struct ws__extra {
    ws_conn *conn;
    struct ws__subscriber subscriber; /* publish.c */
    uint32_t shared_from, shared_to;  /* share.c: range of hub->published to be sent after `out` */
    struct ws__extra *next_sharing;
    struct ws__buffer *held; /* send.c: frames that wait for the last fragment of another message */
    struct ws__deflate_streams streams; /* its own, where a window is kept between messages */
    struct ws__suspended *suspended;    /* inflate.c: the message that keeps the stream busy */
    struct ws__timer lifetime;          /* until max_lifetime is over */
};

/* What is used most comes first, see struct ws__hub. */
struct ws_conn {
    struct ws__stream stream;
    struct ws__extra *extra;
    struct ws__deflate_terms terms; /* of permessage-deflate */
    uint8_t report : 2;      /* enum ws__report: what is due */
    uint8_t ending : 2;      /* enum ws__ending */
    uint8_t fragmenting : 2; /* enum in send.c */
    bool labels : 1;         /* it takes labels; with the last two, one test of a byte in send.c */
    bool compressing : 1;    /* the fragmented message that is being sent is compressed */
    bool by_peer : 1;        /* the peer began to close, or broke off */
    bool drain_later : 1;    /* on_drain is due after the fragmented message */
    bool pongs : 1;          /* several wait in the queue, the oldest is marked */
    bool sharing : 1;        /* extra is on hub->sharing */
    bool topics_full : 1;    /* max_topics was reached and logged */
    bool unsent_limited : 1; /* respond.c: UNSENT_LIMIT was set */
    bool counted : 1;        /* admit.c: it counts for its address */
    bool refused : 1;        /* admit.c: it counts as one that is being refused */
    struct ws__pulse pulse;
    union {
        ws_request *request; /* WS__CONN_NONE: once its first byte has arrived */
        void *user;          /* the application's */
    };
    struct ws__protocol protocol;
};

static inline ws_conn *ws__conn_of(struct ws__stream *stream)
{
    return (ws_conn *)(void *)stream;
}

/* True if the stream speaks HTTP and is open. */
static inline bool ws__conn_is_http(const ws_conn *c)
{
    return c->stream.state == WS__STREAM_OPEN && c->stream.phase == WS__CONN_NONE;
}

/* The connection is or was open. */
static inline const struct ws__settings *ws__conn_settings(const ws_conn *c)
{
    return (const struct ws__settings *)(const void *)c->stream.protocol;
}

void ws__conn_set_state(ws_conn *c, enum ws__conn_state state);
/* Returns c->extra, made if need be; NULL if out of memory. */
struct ws__extra *ws__conn_extra(ws_conn *c);
/* Bytes that wait here, for whatever reason. */
static inline size_t ws__conn_queued(const ws_conn *c)
{
    const struct ws__extra *extra = c->extra;
    size_t amount = ws__buffer_length(c->stream.out);
    return extra ? amount + (extra->shared_to - extra->shared_from) + ws__buffer_length(extra->held)
                 : amount;
}
/* Frees what the connection holds beside its stream: for ws__stream_protocol. */
void ws__conn_release(struct ws__stream *stream);

#endif
