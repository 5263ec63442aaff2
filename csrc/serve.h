/* SPDX-License-Identifier: MIT */
/*
 * serve.h: the HTTP protocol of a stream, from accept to the last response or the 101.
 */
#ifndef WS__SERVE_H
#define WS__SERVE_H

#include "stream.h"

/* Takes over an accepted descriptor, and answers 503 above max_connections. `proxied`: it must be a
 * trusted proxy, and begin with a PROXY header. `tls`: it speaks TLS, after that header; or NULL.
 * `in` was read of it already; or NULL. Returns WS_OK, or an error, after which the descriptor and
 * `in` are the caller's: WS_ENOMEM, WS_ELIMIT (far too many connections, or no trusted proxy), or
 * WS_ESYSTEM with errno where the loop cannot watch it. */
int ws__serve(struct ws__hub *hub, int fd, const struct ws__address *peer, bool proxied,
              const ws_tls *tls, struct ws__buffer *in);

/* The server drains: ends a stream that waits for an HTTP request. */
void ws__serve_drain(struct ws__stream *s);

#endif
