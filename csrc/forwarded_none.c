/* SPDX-License-Identifier: MIT */
/*
 * forwarded_none.c: takes the place of forwarded.c with -DWS_NO_PROXIES. No proxy is trusted then:
 * the client is whoever has connected.
 */
#include "forwarded.h"
#ifdef WS_NO_PROXIES

int ws__proxies_new(struct ws__proxies **proxies, struct ws__memory *memory,
                    const char *const *texts)
{
    (void)memory;
    *proxies = NULL;
    return texts && texts[0] ? WS_ENOTSUP : WS_OK;
}

void ws__proxies_free(struct ws__proxies *proxies, struct ws__memory *memory)
{
    (void)proxies;
    (void)memory;
}

bool ws__proxies_trust(const struct ws__proxies *proxies, const struct ws__address *address)
{
    (void)proxies;
    (void)address;
    return false;
}

bool ws__forwarded_client(const struct ws__proxies *proxies, const struct ws__http_head *head,
                          const char *bytes, struct ws__address *client)
{
    (void)proxies;
    (void)head;
    (void)bytes;
    (void)client;
    return true;
}

#endif
