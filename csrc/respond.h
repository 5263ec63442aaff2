/* SPDX-License-Identifier: MIT */
/*
 * respond.h: responses to HTTP requests, and the 101 that makes a WebSocket connection of a stream.
 * RFC 9110 sections 6 to 10, RFC 9112 section 9, RFC 6455 section 4.2.2.
 */
#ifndef WS__RESPOND_H
#define WS__RESPOND_H

#include "request.h"

/* True if the response to r with this status has content: not to HEAD, and no 204, 205 or 304. */
bool ws__respond_has_content(const ws_request *r, int status);
/* Sends the head of a response; `length` may be WS_UNKNOWN_LENGTH. To be called corked. Returns
 * WS_ENOMEM if out of memory: the stream is then to be dropped. */
int ws__respond_head(ws_request *r, int status, const char *reason, uint64_t length, bool keep);
/* Calls on_response for an answer that was sent in parts. */
void ws__respond_report(ws_request *r);
/* Such an answer is complete. */
void ws__respond_end(ws_request *r);
/* Drops the connection. What the application sent in this turn leaves before: answers to earlier
 * requests, and the beginning of this one, so that its client sees that it breaks off. */
void ws__respond_abort(ws_request *r);
/* Sends the library's own response: one line of text that says what was wrong (why may be NULL). */
void ws__respond_refuse(ws_request *r, int status, const char *why, bool keep);
/* False for WS_EINVAL. */
bool ws__respond_valid(int status, const char *reason);

#endif
