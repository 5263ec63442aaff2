/* SPDX-License-Identifier: MIT */
/*
 * admit.h: which peers may connect, who they are behind a proxy, and how much one address may do.
 */
#ifndef WS__ADMIT_H
#define WS__ADMIT_H

#include "request.h"

/* Without both of its parts, every peer is admitted as the one that it is. */
#if defined(WS_NO_PROXIES) && defined(WS_NO_ADDRESS_LIMITS)
enum { WS__ADMIT_AVAILABLE = false };
#else
enum { WS__ADMIT_AVAILABLE = true };
#endif

/* Answers the request of a connection, or one that has not arrived, and says when the client may
 * come again (Retry-After). `why`: as for ws__respond_refuse. */
void ws__admit_refuse(ws_conn *c, int status, const char *why);
/* Counts a connection whose peer is known. One that is too much for its address is refused, or
 * dropped. */
void ws__admit_connection(ws_conn *c);
/* Takes a PROXY header from the front of the input. Returns true once the peer is known and the
 * connection is still open. */
bool ws__admit_header(ws_conn *c, struct ws__input *in);
/* Finds out whose opening handshake it is: from now on the client is the peer of the connection.
 * Returns false if it is refused. */
bool ws__admit_handshake(ws_request *r);

#endif
