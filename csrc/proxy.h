/* SPDX-License-Identifier: MIT */
/*
 * proxy.h: the header that a proxy puts in front of a connection (the PROXY protocol, versions 1
 * and 2: haproxy.org/download/2.9/doc/proxy-protocol.txt). Sans-IO.
 */
#ifndef WS__PROXY_H
#define WS__PROXY_H

#include "net.h"

/* Without it, the function is that of proxy_none.c, which finds no valid header. */
#ifdef WS_NO_PROXIES
enum { WS__PROXY_AVAILABLE = false };
#else
enum { WS__PROXY_AVAILABLE = true };
#endif

/* Parses the header at the beginning of bytes[length]. Returns its length, 0 if more bytes are
 * needed, or -1 if there is no valid header. Sets *peer to the address of the client, and whether
 * it uses TLS; what the header does not say stays as it is. */
int ws__proxy_parse(const char *bytes, size_t length, struct ws__address *peer);

#endif
