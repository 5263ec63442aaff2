/* SPDX-License-Identifier: MIT */
/*
 * send.h: frames out: one message, the fragments of one, Pings, Pongs and the Close frame, bounded
 * by max_backpressure, compressed where that was negotiated. RFC 6455 sections 5.1, 5.4, 5.5,
 * RFC 7692 section 7.2.1.
 */
#ifndef WS__SEND_H
#define WS__SEND_H

#include "conn.h"

enum { WS__SEND_UNCOMPRESSED = 8 }; /* bytes; compression makes no message of this size shorter */

/* What happened to a message. The first three are results of ws_conn_send; ws__send_conclude turns
 * the others into one of them. */
enum ws__sent {
    WS__SENT_QUEUED = WS_BACKPRESSURE,
    WS__SENT = WS_SUCCESS,
    WS__SENT_DROPPED = WS_DROPPED, /* the connection is closing, or its peer is gone */
    WS__SENT_OVER_LIMIT,           /* it would take the queue above max_backpressure */
    WS__SENT_NOT_COMPRESSED,       /* out of memory while it was compressed */
    WS__SENT_NO_MEMORY             /* out of memory for the queue */
};

/* Acts on a result: runs on_dropped, or ends the connection. Returns what ws_conn_send returns. */
int ws__send_conclude(ws_conn *c, enum ws__sent sent, const void *message, size_t length,
                      int opcode);
/* Ends the connection if ws__send_conclude has put that off. */
void ws__send_end_due(ws_conn *c);

/* Sends a whole frame as ws_conn_send does, except that no handler runs. */
enum ws__sent ws__send_frame(ws_conn *c, const char *frame, size_t length);
/* Sends a data message of at most SIZE_MAX / 2 bytes as ws_conn_send does, except that no handler
 * runs. With WS_LABELLED it begins with a label, and the connection takes labels. */
enum ws__sent ws__send_message(ws_conn *c, const void *data, size_t length, int opcode);
/* True if a message is compressed (RFC 7692 6): very short ones would only grow. */
static inline bool ws__send_compresses(const ws_conn *c, int opcode, size_t length)
{
    return opcode & WS_COMPRESS && c->protocol.deflate && length > WS__SEND_UNCOMPRESSED &&
           length <= UINT32_MAX / 2;
}

/* Sends a Close frame after everything that is queued, without a body if the code is 1005. The
 * reason has at most WS__CLOSE_REASON_MAX bytes. */
void ws__send_close(ws_conn *c, int code, const char *reason, size_t length);
/* Answers a Ping. */
void ws__send_pong(ws_conn *c, const void *data, size_t length);
/* Runs on_drain if it is due and the queue is empty. */
void ws__send_run_drain(ws_conn *c);
/* Discards what waits outside of the stream for a peer that is lost; it counts as refused. */
void ws__send_discard(ws_conn *c);

#endif
