/* SPDX-License-Identifier: MIT */
/*
 * inflate.h: compressed messages on their way to the handler. What all connections together may
 * spend on them in one turn is bounded: a message that needs more is suspended. Its stream is busy
 * then: the connection keeps what has come out so far and the bytes that are still to go in,
 * handles nothing that follows, and continues in later turns. RFC 7692 section 7.2.2.
 */
#ifndef WS__INFLATE_H
#define WS__INFLATE_H

#include "conn.h"

enum ws__inflated {
    WS__INFLATED,       /* the event is the message, borrowed until the next one */
    WS__INFLATED_LATER, /* the message is suspended; the event need not be kept */
    WS__INFLATED_FAILED /* the event has become a WS__EVENT_FAIL */
};

/* Gives up the message that keeps the stream busy, if there is one. */
void ws__inflate_forget(ws_conn *c);

#define WS__INFLATE_SHARE_UNKNOWN UINT64_MAX

/* Inflates a compressed message that has just arrived. *share: nanoseconds that the connection may
 * still spend in this turn; WS__INFLATE_SHARE_UNKNOWN before its first message. */
enum ws__inflated ws__inflate_message(ws_conn *c, struct ws__event *event, uint64_t *share);
/* Goes on with the message that keeps the stream busy. */
enum ws__inflated ws__inflate_resume(ws_conn *c, struct ws__event *event);

#endif
