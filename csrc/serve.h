/* SPDX-License-Identifier: MIT */
/*
 * serve.h: the HTTP protocol of a stream, from accept to the last response or the 101.
 */
#ifndef WS__SERVE_H
#define WS__SERVE_H

#include "stream.h"

/* Takes over an accepted descriptor; closes it if out of memory, and answers 503 above
 * max_connections. `proxied`: it must be a trusted proxy, and begin with a PROXY header. `tls`: it
 * speaks TLS, after that header; or NULL. Returns WS_OK, or WS_ESYSTEM with errno where the loop
 * cannot watch it, so that it was closed. */
int ws__serve(struct ws__hub *hub, int fd, const struct ws__address *peer, bool proxied,
              const ws_tls *tls);

/* The server drains: ends a stream that waits for an HTTP request. */
void ws__serve_drain(struct ws__stream *s);

#endif
