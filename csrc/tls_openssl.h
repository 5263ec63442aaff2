/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl.h: what the files about OpenSSL share: numbers that its functions take and return,
 * and the state of a ws_openssl. tls_openssl.c has the sessions, tls_openssl_contexts.c their
 * contexts, tls_openssl_tickets.c the keys of session tickets.
 */
#ifndef TLS_OPENSSL_H
#define TLS_OPENSSL_H

#include "tls_names.h"
#include "ws_openssl.h"

/* X(number, name). tls_openssl_linked.c compares them with the headers of OpenSSL. */
#define WS__OPENSSL_NUMBERS(X)                                                                     \
    X(0x01, BIO_FLAGS_READ)                                                                        \
    X(0x02, BIO_FLAGS_WRITE)                                                                       \
    X(0x08, BIO_FLAGS_SHOULD_RETRY)                                                                \
    X(11, BIO_CTRL_FLUSH)                                                                          \
    X(0x400, BIO_TYPE_SOURCE_SINK)                                                                 \
    X(33, SSL_CTRL_MODE)                                                                           \
    X(44, SSL_CTRL_SET_SESS_CACHE_MODE)                                                            \
    X(58, SSL_CTRL_GET_TLSEXT_TICKET_KEYS)                                                         \
    X(59, SSL_CTRL_SET_TLSEXT_TICKET_KEYS)                                                         \
    X(72, SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB)                                                       \
    X(78, SSL_CTRL_CLEAR_MODE)                                                                     \
    X(92, SSL_CTRL_SET_GROUPS_LIST)                                                                \
    X(123, SSL_CTRL_SET_MIN_PROTO_VERSION)                                                         \
    X(0, SSL_SESS_CACHE_OFF)                                                                       \
    X(0x01, SSL_MODE_ENABLE_PARTIAL_WRITE)                                                         \
    X(0x04, SSL_MODE_AUTO_RETRY)                                                                   \
    X(0x10, SSL_MODE_RELEASE_BUFFERS)                                                              \
    X(0x40000000, SSL_OP_NO_RENEGOTIATION)                                                         \
    X(2, SSL_ERROR_WANT_READ)                                                                      \
    X(3, SSL_ERROR_WANT_WRITE)                                                                     \
    X(6, SSL_ERROR_ZERO_RETURN)                                                                    \
    X(40, SSL_AD_HANDSHAKE_FAILURE)                                                                \
    X(112, SSL_AD_UNRECOGNIZED_NAME)                                                               \
    X(0, SSL_CLIENT_HELLO_ERROR)                                                                   \
    X(1, SSL_CLIENT_HELLO_SUCCESS)                                                                 \
    X(-1, SSL_CLIENT_HELLO_RETRY)                                                                  \
    X(1, SSL_FILETYPE_PEM)                                                                         \
    X(0, SSL_TLSEXT_ERR_OK)                                                                        \
    X(2, SSL_TLSEXT_ERR_ALERT_FATAL)                                                               \
    X(0, TLSEXT_NAMETYPE_host_name)                                                                \
    X(0, TLSEXT_TYPE_server_name)                                                                  \
    X(51, TLSEXT_TYPE_key_share)                                                                   \
    X(23, SSL3_RT_APPLICATION_DATA)                                                                \
    X(256, SSL3_RT_HEADER)                                                                         \
    X(257, SSL3_RT_INNER_CONTENT_TYPE)                                                             \
    X(0x0303, TLS1_2_VERSION)

#define WS__OPENSSL_NUMBER(number, name) name = number,
#ifndef WS__OPENSSL_LINKED
enum { WS__OPENSSL_NUMBERS(WS__OPENSSL_NUMBER) };
#endif

enum { WS__OPENSSL_ID_LENGTH = 32 };

/* A context, and what must be equal in the sessions that are resumed with it. */
struct ws__openssl_host {
    struct ssl_ctx_st *context;
    unsigned char id[WS__OPENSSL_ID_LENGTH];
};

/* The contexts by name. */
struct ws__openssl_hosts {
    struct ws__tls_names names;
    struct ws__openssl_host *list;
};

struct ws_openssl {
    ws_tls tls;
    ws_openssl_functions functions;
    struct bio_method_st *method;
    struct ws__openssl_hosts hosts; /* none until they are set */
    /* A context without a certificate, whose sessions read a ClientHello to find the name of the
     * server, where the context depends on that. NULL until it is needed. */
    struct ssl_ctx_st *reader;
    bool is_common;  /* see ws__openssl_are_common */
    size_t periods;  /* of `keys`; 0: each context has keys of its own */
    unsigned char keys[WS_OPENSSL_TICKET_PERIODS][WS_OPENSSL_TICKET_KEYS];
};

/* Forgets the errors that OpenSSL keeps for the thread. */
void ws__openssl_forget_errors(const ws_openssl_functions *functions);

/* Returns the context for the name that a client has sent, with a length of 0 for no name, or
 * NULL. */
const struct ws__openssl_host *ws__openssl_find_host(const ws_openssl *openssl, const char *name,
                                                     size_t length);

/* Returns the ws_openssl whose session has called OpenSSL in this thread if `ssl` belongs to that
 * session; otherwise NULL. */
const ws_openssl *ws__openssl_owner(const struct ssl_st *ssl);

/* The callback of all contexts for a ClientHello. */
int ws__openssl_on_client_hello(struct ssl_st *ssl, int *alert, void *user);

/* Sets *are_common to whether the functions are those that came first in this process. Returns
 * false if out of memory. */
bool ws__openssl_are_common(const ws_openssl_functions *functions, bool *are_common);

/* Makes contexts use keys for tickets; `newest` are the first of them. Returns false if out of
 * memory. */
bool ws__openssl_use_keys(const ws_openssl *openssl, const struct ws__openssl_hosts *hosts,
                          const unsigned char *newest);

/* Releases the contexts. */
void ws__openssl_drop_hosts(const ws_openssl *openssl, struct ws__openssl_hosts *hosts);

#endif
