/*
 * handshake.h: the opening handshake (RFC 6455 section 4.2): is this request an upgrade, is it
 * valid, which subprotocol, what goes into the 101. Sans-IO, no user code.
 */
#ifndef WS__HANDSHAKE_H
#define WS__HANDSHAKE_H

#include "deflate.h"
#include "http.h"

/* The Upgrade list contains websocket: an opening handshake is meant (H0). */
bool ws__handshake_is_upgrade(const struct ws__http_head *head, const char *bytes);

/* Judges an upgrade request whose syntax, Host and framing are fine (ws__http_check), in this
 * order: has_body 400, method 405, HTTP/1.0 400, Connection 400, version 426, key 400, syntax of
 * the protocol and extension lists 400, origin 403. 0 or minus the status; *why (static text) says
 * what was wrong. origins: NULL-terminated list, NULL = any; compared without case.
 * origin_optional: with a list, a request without Origin passes, too. */
int ws__handshake_check(const struct ws__http_head *head, const char *bytes, bool has_body,
                        const char *const *origins, bool origin_optional, const char **why);

/* The client offered this subprotocol (section 4.1: case-sensitive). */
bool ws__handshake_offered(const struct ws__http_head *head, const char *bytes, const char *name,
                           size_t length);
/* The first of the client's list that is in `names` (NULL-terminated; NULL: none). Points into
 * `names`; NULL when there is none in common. */
const char *ws__handshake_select(const struct ws__http_head *head, const char *bytes,
                                 const char *const *names);

/* The first of the client's offers of permessage-deflate that these options
 * (ws_behavior.compression) can meet (RFC 7692 5). False: none. */
bool ws__handshake_deflate(const struct ws__http_head *head, const char *bytes, unsigned options,
                           struct ws__deflate_terms *terms);

/* Sec-WebSocket-Accept (section 4.2.2 item 5.4) of the request's key, NUL-terminated. */
void ws__handshake_accept(const struct ws__http_head *head, const char *bytes, char accept[29]);

#endif
