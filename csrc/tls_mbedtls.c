/* SPDX-License-Identifier: MIT */
/*
 * tls_mbedtls.c: sessions of Mbed TLS that read and write memory (-DWS_TLS_MBEDTLS). The only file
 * that includes its headers; it uses nothing that 2.28 and 3.x do not have in common.
 */
#include "ws_mbedtls.h"
#ifdef WS_TLS_MBEDTLS

#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER < 0x021C0000
#error "pyws needs Mbed TLS 2.28 or later"
#endif

struct mbed_session {
    mbedtls_ssl_context ssl;
    ws_mbedtls *owner;
    ws_tls_wire *wire; /* during a call */
    size_t generation; /* of the configuration */
    int error;         /* of Mbed TLS; 0: none */
    bool usable;       /* the handshake is complete, and nothing has failed */
    bool pending;      /* has taken bytes since the last record with data */
};

/* ---- the wire ----------------------------------------------------------------------------- */

static size_t mbed_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static int mbed_receive(void *user, unsigned char *bytes, size_t n)
{
    struct mbed_session *s = user;
    ws_tls_wire *wire = s->wire;
    n = mbed_least(n, wire->in_length);
    if (!n)
        return MBEDTLS_ERR_SSL_WANT_READ;
    memcpy(bytes, wire->in, n);
    wire->in += n;
    wire->in_length -= n;
    s->pending = true;
    return (int)n;
}

static int mbed_send(void *user, const unsigned char *bytes, size_t n)
{
    ws_tls_wire *wire = ((struct mbed_session *)user)->wire;
    n = mbed_least(n, wire->out_size - wire->out_length);
    if (!n)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    memcpy(wire->out + wire->out_length, bytes, n);
    wire->out_length += n;
    return (int)n;
}

/* ---- sessions ----------------------------------------------------------------------------- */

static int failed(struct mbed_session *s, int error)
{
    s->error = error;
    s->usable = false;
    return WS_TLS_FAILED;
}

/* What a negative result of Mbed TLS means. */
static int meaning(struct mbed_session *s, int error)
{
    if (error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE)
        return WS_TLS_MORE;
    if (error == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return WS_TLS_CLOSED;
    return failed(s, error);
}

/* A configuration that does not fit is no lack of memory: the handshake fails and says why. */
static void *mbed_open(void *context)
{
    ws_mbedtls *owner = context;
    struct mbed_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    mbedtls_ssl_init(&s->ssl);
    const int error = mbedtls_ssl_setup(&s->ssl, owner->config);
    if (error == MBEDTLS_ERR_SSL_ALLOC_FAILED) {
        mbedtls_ssl_free(&s->ssl);
        free(s);
        return NULL;
    }
    mbedtls_ssl_set_bio(&s->ssl, s, mbed_send, mbed_receive, NULL);
    s->owner = owner;
    s->generation = owner->generation;
    s->error = error;
    owner->sessions++;
    owner->current++;
    return s;
}

/* With MBEDTLS_ECP_RESTARTABLE a call may stop in the middle of a calculation. */
static int mbed_handshake(void *session, ws_tls_wire *wire)
{
    struct mbed_session *s = session;
    int result = s->error;
    s->wire = wire;
    if (!result)
        do
            result = mbedtls_ssl_handshake(&s->ssl);
        while (result == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS);
    if (result)
        return meaning(s, result);
    s->usable = true;
    s->pending = false;
    return WS_TLS_DONE;
}

/* Mbed TLS itself refuses many records without data in a row, and renegotiation unless it is
 * configured. */
static int mbed_read(void *session, ws_tls_wire *wire, char *bytes, size_t n, size_t *got)
{
    struct mbed_session *s = session;
    s->wire = wire;
    const int result =
        mbedtls_ssl_read(&s->ssl, (unsigned char *)bytes, mbed_least(n, WS_TLS_CHUNK));
    if (result < 0)
        return meaning(s, result);
    if (!result)
        return WS_TLS_CLOSED;
    *got = (size_t)result;
    s->pending = mbedtls_ssl_check_pending(&s->ssl);
    return wire->in_length || s->pending ? WS_TLS_DONE : WS_TLS_MORE;
}

/* Mbed TLS reads no further than to the end of a record. */
static bool mbed_pending(void *session)
{
    return ((struct mbed_session *)session)->pending;
}

/* Records may have to be smaller than `bytes`: MBEDTLS_SSL_OUT_CONTENT_LEN, max_fragment_length. */
static int mbed_write(void *session, ws_tls_wire *wire, const char *bytes, size_t n)
{
    struct mbed_session *s = session;
    s->wire = wire;
    while (n) {
        const int result = mbedtls_ssl_write(&s->ssl, (const unsigned char *)bytes, n);
        if (result == MBEDTLS_ERR_SSL_WANT_WRITE)
            return failed(s, MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL);
        if (result <= 0)
            return failed(s, result);
        bytes += result;
        n -= (size_t)result;
    }
    return WS_TLS_DONE;
}

static void mbed_close(void *session, ws_tls_wire *wire)
{
    struct mbed_session *s = session;
    s->wire = wire;
    if (s->usable)
        mbedtls_ssl_close_notify(&s->ssl);
}

static void mbed_free(void *session)
{
    struct mbed_session *s = session;
    s->owner->sessions--;
    if (s->generation == s->owner->generation)
        s->owner->current--;
    mbedtls_ssl_free(&s->ssl);
    free(s);
}

static const char *mbed_error(void *session)
{
    const struct mbed_session *s = session;
    char *text = s->owner->error;
    const size_t size = sizeof s->owner->error;
    if (!s->error)
        return NULL;
#ifdef MBEDTLS_ERROR_C
    mbedtls_strerror(s->error, text, size);
    if (strncmp(text, "UNKNOWN", 7) != 0)
        return text;
#endif
    snprintf(text, size, "error -0x%04X of Mbed TLS", (unsigned)-s->error);
    return text;
}

/* ---- the public functions ----------------------------------------------------------------- */

int ws_mbedtls_init(ws_mbedtls *mbedtls, size_t size, const struct mbedtls_ssl_config *config)
{
    if (size != sizeof *mbedtls)
        return WS_EABI;
    *mbedtls = (ws_mbedtls){.config = config};
    mbedtls->tls = (ws_tls){
        .size = sizeof mbedtls->tls,
        .context = mbedtls,
        .open = mbed_open,
        .handshake = mbed_handshake,
        .read = mbed_read,
        .pending = mbed_pending,
        .write = mbed_write,
        .close = mbed_close,
        .free = mbed_free,
        .error = mbed_error,
    };
    return WS_OK;
}

void ws_mbedtls_set_config(ws_mbedtls *mbedtls, const struct mbedtls_ssl_config *config)
{
    mbedtls->config = config;
    mbedtls->generation++;
    mbedtls->current = 0;
}

size_t ws_mbedtls_outdated(const ws_mbedtls *mbedtls)
{
    return mbedtls->sessions - mbedtls->current;
}

const struct mbedtls_ssl_context *ws_mbedtls_ssl(void *session)
{
    return &((struct mbed_session *)session)->ssl;
}

#endif
