/* SPDX-License-Identifier: MIT */
/*
 * close.h: the end of a connection: the closing handshake, and what the application learns of it.
 * RFC 6455 sections 5.5.1, 7.1.
 */
#ifndef WS__CLOSE_H
#define WS__CLOSE_H

#include "conn.h"

/* The peer's Close has arrived: answers it unless our Close was sent, and reports the end. */
void ws__close_on_frame(ws_conn *c, int code, const char *reason, size_t length);
/* Fails the connection (RFC 6455 7.1.7): sends a Close frame and reports it. */
void ws__close_fail(ws_conn *c, int code, const char *reason, size_t length);
/* No Close is awaited any more: the stream lingers. */
void ws__close_linger(ws_conn *c);
/* The max_lifetime of the connection is over whose ws__extra.lifetime this is. */
void ws__close_on_lifetime(struct ws__timer *lifetime);

/* For ws__stream_protocol: the stream is dead. */
void ws__close_on_end(struct ws__stream *stream, const char *reason, bool by_peer);
/* The peer has sent FIN. */
bool ws__close_on_eof(struct ws__stream *stream);
/* The server shuts down, or a message could not be sent. */
void ws__close_end(struct ws__stream *stream, int code, const char *reason, size_t length);

#endif
