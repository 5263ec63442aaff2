/* SPDX-License-Identifier: MIT */
/*
 * tls_openssl_tickets.c: the keys of session tickets (RFC 5077, RFC 8446 section 4.6.1). A context
 * of OpenSSL has the keys of one period; a callback, which works as OpenSSL does without it, also
 * finds those of earlier periods.
 */
#include "tls_openssl.h"
#ifndef WS_NO_TLS

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What OpenSSL makes of the bytes of a period. Each ticket begins with the name. */
struct keys {
    unsigned char name[16], hmac[32], aes[32];
};

_Static_assert(sizeof(struct keys) == WS_OPENSSL_TICKET_KEYS, "the length of the keys");

/* Results of the callback. */
enum { TICKET_FAILED = -1, TICKET_UNKNOWN, TICKET_ACCEPTED, TICKET_RENEWED };

/* A program may use a context that has the callback for connections of its own, too, and nothing
 * leads from these to a ws_openssl. They get the functions that came first to ws_openssl_new, which
 * are the only ones in nearly all processes. Never freed: contexts may live on. */
static _Atomic(const ws_openssl_functions *) common;

bool ws__openssl_are_common(const ws_openssl_functions *functions, bool *are_common)
{
    const ws_openssl_functions *first = atomic_load(&common);
    if (!first) {
        ws_openssl_functions *copy = calloc(1, sizeof *copy);
        if (!copy)
            return false;
        *copy = *functions;
        if (atomic_compare_exchange_strong(&common, &first, copy))
            first = copy;
        else
            free(copy); /* another thread has been faster */
    }
    *are_common = !memcmp(first, functions, sizeof *first);
    return true;
}

/* Returns keys of `o` by the name in a ticket, or NULL. */
static const struct keys *find_keys(const ws_openssl *o, const unsigned char *name)
{
    for (size_t i = 0; o && i < o->periods; i++)
        if (!memcmp(o->keys[i], name, sizeof(((struct keys *)0)->name)))
            return (const struct keys *)(const void *)o->keys[i];
    return NULL;
}

static bool begin_ticket(const ws_openssl_functions *f, const struct keys *keys,
                         const unsigned char *iv, struct evp_cipher_ctx_st *cipher,
                         struct hmac_ctx_st *hmac, int encrypts)
{
    return f->EVP_CipherInit_ex(cipher, f->EVP_aes_256_cbc(), NULL, keys->aes, iv, encrypts) &&
           f->HMAC_Init_ex(hmac, keys->hmac, sizeof keys->hmac, f->EVP_sha256(), NULL);
}

/* RFC 8446 C.4: "Clients SHOULD NOT reuse a ticket for multiple connections", so that with TLS 1.3
 * each resumption leads to a new one. */
static int accept_ticket(const ws_openssl_functions *f, const struct ssl_st *ssl, bool is_current)
{
    return is_current && strcmp(f->SSL_get_version(ssl), "TLSv1.3") != 0 ? TICKET_ACCEPTED
                                                                         : TICKET_RENEWED;
}

/* Runs for each ticket that is issued (then it chooses `name` and `iv`) or presented. */
static int on_ticket(struct ssl_st *ssl, unsigned char *name, unsigned char *iv,
                     struct evp_cipher_ctx_st *cipher, struct hmac_ctx_st *hmac, int issues)
{
    enum { IV_LENGTH = 16 };
    const ws_openssl *o = ws__openssl_owner(ssl);
    const ws_openssl_functions *f = o ? &o->functions : atomic_load(&common);
    struct keys newest;
    const struct keys *keys = &newest;
    if (f->SSL_CTX_ctrl(f->SSL_get_SSL_CTX(ssl), SSL_CTRL_GET_TLSEXT_TICKET_KEYS, sizeof newest,
                        &newest) != 1)
        return TICKET_FAILED;
    if (issues)
        memcpy(name, newest.name, sizeof newest.name);
    else if (memcmp(name, newest.name, sizeof newest.name) != 0)
        keys = find_keys(o, name);
    int result = issues ? TICKET_ACCEPTED : TICKET_UNKNOWN;
    if (!issues && keys)
        result = accept_ticket(f, ssl, keys == &newest);
    if (keys && ((issues && f->RAND_bytes(iv, IV_LENGTH) != 1) ||
                 !begin_ticket(f, keys, iv, cipher, hmac, issues)))
        result = TICKET_FAILED;
    f->OPENSSL_cleanse(&newest, sizeof newest);
    return result;
}

bool ws__openssl_use_keys(const ws_openssl *openssl, const struct ws__openssl_hosts *hosts,
                          const unsigned char *newest)
{
    const ws_openssl_functions *f = &openssl->functions;
    for (size_t i = 0; i < hosts->names.count; i++) {
        struct ssl_ctx_st *context = hosts->list[i].context;
        if (f->SSL_CTX_ctrl(context, SSL_CTRL_SET_TLSEXT_TICKET_KEYS, WS_OPENSSL_TICKET_KEYS,
                            (void *)(uintptr_t)newest) != 1)
            return false;
        if (openssl->is_common)
            f->SSL_CTX_callback_ctrl(context, SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB,
                                     (void (*)(void))on_ticket);
    }
    return true;
}

int ws_openssl_set_ticket_keys(ws_openssl *openssl, const void *keys, size_t length)
{
    const size_t periods = length / WS_OPENSSL_TICKET_KEYS;
    if (!periods || periods > WS_OPENSSL_TICKET_PERIODS || length % WS_OPENSSL_TICKET_KEYS)
        return WS_EINVAL;
    if (!ws__openssl_use_keys(openssl, &openssl->hosts, keys)) {
        openssl->functions.ERR_clear_error();
        return WS_ENOMEM;
    }
    openssl->functions.OPENSSL_cleanse(openssl->keys, sizeof openssl->keys);
    memcpy(openssl->keys, keys, length);
    openssl->periods = periods;
    return WS_OK;
}

#endif
