/*
 * close.h: the end of a connection: the closing handshake, and what the application learns of it.
 * RFC 6455 sections 5.5.1, 7.1.
 */
#ifndef WS__CLOSE_H
#define WS__CLOSE_H

#include "conn.h"

/* Reports the end to the application, once: on_close gets `code` and reason. What the connection
 * was subscribed to and compressed with goes with it (S42). */
void ws__close_report(ws_conn *c, int code, const char *reason, size_t length);
/* Reports, once, that the closing handshake is over. */
void ws__close_report_closed(ws_conn *c, bool clean, int code, const char *reason, size_t length);
/* The peer's Close has arrived: it is answered, if that is due, and both ends are reported. */
void ws__close_on_frame(ws_conn *c, int code, const char *reason, size_t length);
/* Sends a Close frame and reports it (RFC 6455 7.1.7: fail the connection). */
void ws__close_fail(ws_conn *c, int code, const char *reason, size_t length);
/* Both Closes were sent, or the last one that matters: the stream lingers. */
void ws__close_linger(ws_conn *c);
/* max_lifetime is over, of the connection whose ws__extra.lifetime this is. */
void ws__close_on_lifetime(struct ws__timer *lifetime);

/* For ws__stream_protocol: the stream is dead; the peer has sent FIN; the server shuts down or a
 * message could not be sent. */
void ws__close_on_end(struct ws__stream *stream, const char *reason, bool by_peer);
bool ws__close_on_eof(struct ws__stream *stream);
void ws__close_end(struct ws__stream *stream, int code, const char *reason, size_t length);

#endif
