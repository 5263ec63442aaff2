/* SPDX-License-Identifier: MIT */
/*
 * proxy_none.c: takes the place of proxy.c with -DWS_NO_PROXIES. No listener expects the header of
 * a proxy then, so this is not called.
 */
#include "proxy.h"
#ifdef WS_NO_PROXIES

int ws__proxy_parse(const char *bytes, size_t length, struct ws__address *peer)
{
    (void)bytes;
    (void)length;
    (void)peer;
    return -1;
}

#endif
