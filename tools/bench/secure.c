/* SPDX-License-Identifier: MIT */
/*
 * secure.c: see secure.h.
 */
#include "secure.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>

bool secure_available(void)
{
    return true;
}

/* ---- contexts ----------------------------------------------------------------------------- */

/* Tickets can be used once, so the newest one is the best. */
static SSL_SESSION *newest;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(newest);
    newest = session;
    return 1;
}

/* OpenSSL writes to a socket without MSG_NOSIGNAL. A peer that has gone is an error. */
static SSL_CTX *new_context(const SSL_METHOD *method)
{
    signal(SIGPIPE, SIG_IGN);
    return SSL_CTX_new(method);
}

struct ssl_ctx_st *secure_clients(bool resume)
{
    SSL_CTX *context = new_context(TLS_client_method());

    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1) {
        return NULL;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    if (resume) {
        SSL_CTX_set_session_cache_mode(context,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_session);
    }
    return context;
}

struct ssl_ctx_st *secure_servers(const char *cert_file, const char *key_file, bool release)
{
    SSL_CTX *context = new_context(TLS_server_method());

    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1) {
        return NULL;
    }
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  (release ? SSL_MODE_RELEASE_BUFFERS : 0));
    return context;
}

/* ---- connections -------------------------------------------------------------------------- */

struct ssl_st *secure_begin(struct ssl_ctx_st *context, int fd)
{
    SSL *ssl = SSL_new(context);

    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    if (SSL_is_server(ssl)) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        if (newest != NULL) {
            SSL_set_session(ssl, newest);
        }
    }
    return ssl;
}

static const char *reason;

/* Returns what recv and send do after a result that is not above 0. An error that is not cleared
 * would be that of the next connection. */
static ssize_t explain(SSL *ssl, int result)
{
    int error = SSL_get_error(ssl, result);

    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    if (error == SSL_ERROR_ZERO_RETURN || (error == SSL_ERROR_SYSCALL && errno == 0)) {
        return 0;
    }
    if (error == SSL_ERROR_SSL) {
        errno = EPROTO;
    }
    reason = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    return -1;
}

bool secure_shake(struct ssl_st *ssl)
{
    int result = SSL_do_handshake(ssl);

    if (result != 1 && explain(ssl, result) == 0) {
        errno = ECONNRESET;
    }
    return result == 1;
}

ssize_t secure_send(struct ssl_st *ssl, const void *data, size_t length)
{
    int result = SSL_write(ssl, data, length < INT_MAX ? (int)length : INT_MAX);

    return result > 0 ? result : explain(ssl, result);
}

ssize_t secure_recv(struct ssl_st *ssl, void *buffer, size_t size)
{
    int result;

    errno = 0;
    result = SSL_read(ssl, buffer, size < INT_MAX ? (int)size : INT_MAX);
    return result > 0 ? result : explain(ssl, result);
}

void secure_end(struct ssl_st *ssl)
{
    SSL_free(ssl);
}

const char *secure_error(void)
{
    if (reason == NULL) {
        reason = ERR_reason_error_string(ERR_peek_error());
    }
    return reason != NULL ? reason : "no reason";
}
