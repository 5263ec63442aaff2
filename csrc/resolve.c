/* SPDX-License-Identifier: MIT */
/*
 * resolve.c: the addresses of a host. Knows nothing of sockets.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* getaddrinfo */
#endif

#include "resolve.h"

#include "text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

/* Adds an address, unless it is there already: resolvers return an address once for each line of
 * /etc/hosts. Returns 0, or -1 with errno. */
static int add_address(struct ws__host_addresses *addresses, const struct sockaddr *address)
{
    union ws__host_address a;
    bool v6 = address->sa_family == AF_INET6;
    memset(&a, 0, sizeof a);
    if (!v6 && address->sa_family != AF_INET)
        return 0;
    memcpy(&a, address, v6 ? sizeof a.v6 : sizeof a.v4);
    for (uint32_t i = 0; i < addresses->count; i++)
        if (!memcmp(&a, &addresses->all[i], sizeof a))
            return 0;
    if (addresses->count == WS__NET_MAX_ENDPOINTS) {
        errno = E2BIG;
        return -1;
    }
    addresses->all[addresses->count++] = a;
    return 0;
}

/* RFC 6761 section 6.3: localhost means the loopback addresses, even on a machine that cannot
 * resolve the name. */
static int add_loopback(struct ws__host_addresses *addresses)
{
    union ws__host_address v6, v4;
    memset(&v6, 0, sizeof v6);
    memset(&v4, 0, sizeof v4);
    v6.v6.sin6_family = AF_INET6;
    v6.v6.sin6_addr.s6_addr[15] = 1;
    v4.v4.sin_family = AF_INET;
    v4.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return add_address(addresses, &v6.any) || add_address(addresses, &v4.any) ? -1 : 0;
}

#ifdef WS_NO_RESOLVER

/* An address, as it is written. */
static int look_up(const char *host, struct ws__host_addresses *addresses)
{
    union ws__host_address a;
    const bool v6 = strchr(host, ':');
    memset(&a, 0, sizeof a);
    a.any.sa_family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(a.any.sa_family, host,
                  v6 ? (void *)&a.v6.sin6_addr : (void *)&a.v4.sin_addr) == 1)
        return add_address(addresses, &a.any);
    errno = ENOENT;
    return -1;
}

#else

static int look_up(const char *host, struct ws__host_addresses *addresses)
{
    struct addrinfo hints = {0}, *found = NULL;
    hints.ai_flags = AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    int result = getaddrinfo(host, NULL, &hints, &found);
    if (result) {
        errno = result == EAI_MEMORY ? ENOMEM : result == EAI_SYSTEM ? errno : ENOENT;
        return -1;
    }
    for (const struct addrinfo *a = found; a && !result; a = a->ai_next)
        result = add_address(addresses, a->ai_addr);
    int error = errno;
    freeaddrinfo(found);
    errno = addresses->count ? error : ENOENT;
    return addresses->count ? result : -1;
}

#endif

int ws__resolve(const char *host, struct ws__host_addresses *addresses)
{
    addresses->count = 0;
    int result = look_up(host, addresses);
    if (result && !addresses->count && ws__text_same(host, strlen(host), "localhost"))
        result = add_loopback(addresses);
    return result;
}
