/* SPDX-License-Identifier: MIT */
/*
 * tls.h: TLS between streams and their sockets: the filter (stream.h) that calls a table of
 * functions of any TLS library (ws_tls.h).
 *
 *             first byte of TLS       the library is content      close_notify, or a failure
 *    HEADER ──────────▶ SHAKING ─────────────────────▶ OPEN ─────────────────▶ OVER
 *                          └──────▶ PLAIN  the first byte is that of an HTTP request
 *
 * HEADER: the header of a proxy comes first, in the clear. Until the stream is OPEN, or PLAIN, it
 * is corked, so that what the protocol sends, such as a refusal, waits.
 */
#ifndef WS__TLS_H
#define WS__TLS_H

#include "stream.h"
#include "ws_tls.h"

/* Checks the table of a listener, and gives the hub what streams with TLS need. Returns WS_OK,
 * WS_EABI or WS_ENOMEM. */
__attribute__((cold)) int ws__tls_prepare(struct ws__hub *hub, const ws_tls *table);
void ws__tls_deinit(struct ws__hub *hub);

/* Begins with a stream that is new and filtered. `header`: that of a proxy comes first. */
void ws__tls_begin(struct ws__stream *s, const ws_tls *table, bool header);

/* Returns the session of a stream, or NULL if it has none. */
void *ws__tls_session(const struct ws__stream *s);

#endif
