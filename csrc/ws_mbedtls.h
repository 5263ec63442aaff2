/* SPDX-License-Identifier: MIT */
/*
 * ws_mbedtls.h: TLS by Mbed TLS 2.28 or 3.x, as a table of ws_tls.h.
 *
 *     static ws_mbedtls mbedtls;
 *     ws_mbedtls_init(&mbedtls, sizeof mbedtls, &ssl_config);
 *     listen_options.tls = &mbedtls.tls;
 *
 * The application makes the mbedtls_ssl_config, of a server with MBEDTLS_SSL_TRANSPORT_STREAM, with
 * the functions of Mbed TLS: certificates (also by host name, mbedtls_ssl_conf_sni), versions,
 * ciphers, client certificates, session tickets, protocols (mbedtls_ssl_conf_alpn_protocols). With
 * version 3.x it calls psa_crypto_init first, which TLS 1.3 needs. Early data and asynchronous
 * private keys are not supported: such a handshake fails.
 *
 * The library libpyws_mbedtls is built with -Dtls=mbedtls. What Mbed TLS allocates is not counted
 * by max_memory. A ws_mbedtls belongs to the thread of the servers that use its table, and all
 * functions must be called from it. Several threads may use one mbedtls_ssl_config, each with its
 * own ws_mbedtls, if Mbed TLS is built with MBEDTLS_THREADING_C.
 *
 * The words for ownership, threads and errors are those of ws.h.
 */
#ifndef WS_MBEDTLS_H
#define WS_MBEDTLS_H

#include "ws_tls.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mbedtls_ssl_config;
struct mbedtls_ssl_context;

typedef struct ws_mbedtls {
    ws_tls tls; /* for ws_listen_options.tls */
    /* The rest is private. */
    const struct mbedtls_ssl_config *config;
    size_t sessions;   /* all */
    size_t current;    /* those of `config` */
    size_t generation; /* of `config` */
    char error[128];   /* of the session that has failed last */
} ws_mbedtls;

/* Makes a table whose connections use `config` (kept). `size` is sizeof(ws_mbedtls) of the caller.
 * There is nothing to be freed, but *mbedtls must live until the servers that listen with it are
 * freed. Returns WS_OK or WS_EABI. */
WS_API int ws_mbedtls_init(ws_mbedtls *mbedtls, size_t size,
                           const struct mbedtls_ssl_config *config);

/* Lets the connections that follow use another configuration (kept), such as one with renewed
 * certificates. Connections that exist keep theirs, which must live as long as they do. */
WS_API void ws_mbedtls_set_config(ws_mbedtls *mbedtls, const struct mbedtls_ssl_config *config);

/* Returns the number of connections with other configurations than the current one. If it is 0, all
 * others may be freed. */
WS_API size_t ws_mbedtls_outdated(const ws_mbedtls *mbedtls);

/* Returns what Mbed TLS knows of a connection: `session` is what ws_conn_tls or ws_request_tls have
 * returned. The application may ask it (mbedtls_ssl_get_version, mbedtls_ssl_get_ciphersuite,
 * mbedtls_ssl_get_alpn_protocol, mbedtls_ssl_get_peer_cert), but must change nothing. Valid as long
 * as the session. */
WS_API const struct mbedtls_ssl_context *ws_mbedtls_ssl(void *session);

#ifdef __cplusplus
}
#endif

#endif
