/* SPDX-License-Identifier: MIT */
/*
 * handshake.h: the server's side of the opening handshake (RFC 6455 section 4.2): whether a request
 * is one, whether it is valid, and what goes into the 101. Sans-IO; calls no user code.
 */
#ifndef WS__HANDSHAKE_H
#define WS__HANDSHAKE_H

#include "deflate.h"
#include "http.h"

/* Returns true if the request asks for a WebSocket: its Upgrade list contains "websocket". */
bool ws__handshake_is_upgrade(const struct ws__http_head *head, const char *bytes);

/* Checks an opening handshake that ws__http_check has accepted. Returns 0, or minus the status of
 * the first rule that it breaks and a static text in *why. The order is: has_body 400, method 405,
 * HTTP/1.0 400, Connection 400, version 426, key 400, syntax of the subprotocols and extensions
 * 400, origin 403. `origins` is a NULL-terminated list, compared without case; NULL allows any
 * origin. origin_optional allows a request without Origin even if there is a list. */
int ws__handshake_check(const struct ws__http_head *head, const char *bytes, bool has_body,
                        const char *const *origins, bool origin_optional, const char **why);

/* Returns true if the client offered this subprotocol. Names are case-sensitive. */
bool ws__handshake_offered(const struct ws__http_head *head, const char *bytes, const char *name,
                           size_t length);

/* Returns the first subprotocol of the client's list that is in `names`, or NULL if none is.
 * `names` is a NULL-terminated list or NULL; the result points to one of its strings. */
const char *ws__handshake_select(const struct ws__http_head *head, const char *bytes,
                                 const char *const *names);

/* Sets *terms to those of the first extension offer that can be accepted with these options
 * (ws_behavior.compression), as RFC 7692 5 requires. Returns false without an acceptable offer. */
bool ws__handshake_deflate(const struct ws__http_head *head, const char *bytes, unsigned options,
                           struct ws__deflate_terms *terms);

/* Writes the Sec-WebSocket-Accept (RFC 6455 4.2.2 item 5.4) for the key of the request, which was
 * checked, NUL-terminated. */
void ws__handshake_accept(const struct ws__http_head *head, const char *bytes, char accept[29]);

#endif
