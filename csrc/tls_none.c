/* SPDX-License-Identifier: MIT */
/*
 * tls_none.c: takes the place of tls.c with -DWS_NO_TLS. No listener speaks TLS then, so no stream
 * is filtered.
 */
#include "tls.h"
#ifdef WS_NO_TLS

#if defined(WS_TLS_OPENSSL) || defined(WS_TLS_MBEDTLS)
#error "a TLS library is of no use with WS_NO_TLS: leave out one of them"
#endif

int ws__tls_prepare(struct ws__hub *hub, const ws_tls *table)
{
    (void)hub;
    (void)table;
    return WS_ENOTSUP;
}

void ws__tls_deinit(struct ws__hub *hub)
{
    (void)hub;
}

void ws__tls_begin(struct ws__stream *s, const ws_tls *table, bool header)
{
    (void)s;
    (void)table;
    (void)header;
}

void *ws__tls_session(const struct ws__stream *s)
{
    (void)s;
    return NULL;
}

#endif
