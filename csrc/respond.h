/*
 * respond.h: responses to HTTP requests, and the 101 that makes a WebSocket connection of a stream.
 * RFC 9110 sections 6 to 10, RFC 9112 section 9, RFC 6455 section 4.2.2.
 */
#ifndef WS__RESPOND_H
#define WS__RESPOND_H

#include "request.h"

/* Sends the library's own response: one line of text that says what was wrong (why may be NULL). */
void ws__respond_refuse(ws_request *r, int status, const char *why, bool keep);
#endif
