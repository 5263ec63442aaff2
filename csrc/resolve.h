/* SPDX-License-Identifier: MIT */
/*
 * resolve.h: finds the addresses of a host to listen on, with the resolver of the C library, which
 * is a sixth of a small static program. With -DWS_NO_RESOLVER, which meson sets for
 * -Dresolver=false, a host is an address or "localhost".
 */
#ifndef WS__RESOLVE_H
#define WS__RESOLVE_H

#include "net.h"

#include <netinet/in.h>

union ws__host_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct ws__host_addresses {
    union ws__host_address all[WS__NET_MAX_ENDPOINTS];
    uint32_t count;
};

/* Sets *addresses to those of the host, without a port, each once. Returns 0, or -1 with errno:
 * ENOENT if there are none, E2BIG if there are too many ... It may block. */
__attribute__((cold)) int ws__resolve(const char *host, struct ws__host_addresses *addresses);

#endif
