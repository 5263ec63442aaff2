/* SPDX-License-Identifier: MIT */
#include "tls_peer.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* A failure here is none of what is tested. */
static void *need(void *pointer)
{
    if (!pointer) {
        ERR_print_errors_fp(stdout);
        abort();
    }
    return pointer;
}

static void need_true(long result)
{
    if (result <= 0) {
        ERR_print_errors_fp(stdout);
        abort();
    }
}

/* ---- certificates ------------------------------------------------------------------------- */

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *maker = need(EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL));
    need_true(EVP_PKEY_keygen_init(maker));
    need_true(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(maker, NID_X9_62_prime256v1));
    need_true(EVP_PKEY_keygen(maker, &key));
    EVP_PKEY_CTX_free(maker);
    return key;
}

static void extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *e = need(X509V3_EXT_conf_nid(NULL, NULL, nid, (char *)(uintptr_t)value));
    need_true(X509_add_ext(certificate, e, -1));
    X509_EXTENSION_free(e);
}

struct identity *identity_new(const char *name, struct identity *issuer)
{
    static long serial = 1;
    char names[300];
    struct identity *i = need(calloc(1, sizeof *i));
    i->issuer = issuer;
    i->key = make_key();
    X509 *x = i->certificate = need(X509_new());
    X509_NAME *subject = X509_get_subject_name(x);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 24 * 3600);
    need_true(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name,
                                         -1, -1, 0));
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer->certificate : x));
    X509_set_pubkey(x, i->key);
    extend(x, NID_basic_constraints, "CA:TRUE");
    snprintf(names, sizeof names, "DNS:%s", name);
    extend(x, NID_subject_alt_name, names);
    need_true(X509_sign(x, issuer ? issuer->key : i->key, EVP_sha256()));
    return i;
}

void identity_free(struct identity *identity)
{
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
    free(identity);
}

SSL_CTX *server_context(const struct identity *identity)
{
    SSL_CTX *context = need(SSL_CTX_new(TLS_server_method()));
    need_true(SSL_CTX_use_certificate(context, identity->certificate));
    need_true(SSL_CTX_use_PrivateKey(context, identity->key));
    for (const struct identity *i = identity->issuer; i; i = i->issuer)
        need_true(SSL_CTX_add1_chain_cert(context, i->certificate));
    return context;
}

SSL_CTX *client_context(void)
{
    return need(SSL_CTX_new(TLS_client_method()));
}

void identity_write(const struct identity *identity, const char *path, int what,
                    const char *password)
{
    FILE *file = need(fopen(path, "w"));
    if (what & WRITE_CERTIFICATE)
        for (const struct identity *i = identity; i; i = i->issuer)
            need_true(PEM_write_X509(file, i->certificate));
    if (what & WRITE_KEY)
        need_true(PEM_write_PKCS8PrivateKey(file, identity->key,
                                            password ? EVP_aes_128_cbc() : NULL,
                                            (char *)(uintptr_t)password,
                                            password ? (int)strlen(password) : 0, NULL, NULL));
    fclose(file);
}

/* ---- the two ends ------------------------------------------------------------------------- */

void link_adopt(struct tls_link *link, const ws_tls *tls, void *session, SSL_CTX *context,
                const char *name)
{
    *link = (struct tls_link){.tls = tls, .session = session, .clean = true};
    link->room = 64 * 1024;
    link->piece = WS_TLS_CHUNK;
    link->client = need(SSL_new(context));
    SSL_set_bio(link->client, need(BIO_new(BIO_s_mem())), need(BIO_new(BIO_s_mem())));
    SSL_set_connect_state(link->client);
    if (name)
        SSL_set_tlsext_host_name(link->client, name);
}

bool link_open(struct tls_link *link, const ws_tls *tls, SSL_CTX *context, const char *name)
{
    void *session = tls->open(tls->context);
    if (!session)
        return false;
    link_adopt(link, tls, session, context, name);
    return true;
}

void link_close(struct tls_link *link)
{
    if (link->session)
        link->tls->free(link->session);
    SSL_free(link->client);
    free(link->in);
    *link = (struct tls_link){.session = NULL};
}

void client_sends_raw(struct tls_link *link, const void *bytes, size_t length)
{
    link->in = need(realloc(link->in, link->in_length + length + 1));
    memcpy(link->in + link->in_length, bytes, length);
    link->in_length += length;
}

size_t client_take_raw(struct tls_link *link, char *bytes, size_t size)
{
    const int n = BIO_read(SSL_get_wbio(link->client), bytes, (int)size);
    return n > 0 ? (size_t)n : 0;
}

static void take_from_client(struct tls_link *link)
{
    char bytes[4096];
    size_t n;
    while ((n = client_take_raw(link, bytes, sizeof bytes)))
        client_sends_raw(link, bytes, n);
}

void (*around_calls)(bool before);

enum call { SHAKE, READ, WRITE, CLOSE };

static int do_call(struct tls_link *link, enum call what, ws_tls_wire *wire, char *bytes, size_t n,
                   size_t *got)
{
    int result = WS_TLS_DONE;
    if (around_calls)
        around_calls(true);
    if (what == SHAKE)
        result = link->tls->handshake(link->session, wire);
    else if (what == READ)
        result = link->tls->read(link->session, wire, bytes, n, got);
    else if (what == WRITE)
        result = link->tls->write(link->session, wire, bytes, n);
    else
        link->tls->close(link->session, wire);
    if (around_calls)
        around_calls(false);
    return result;
}

/* Calls a function of the session with a wire, and passes on what it has sent. */
static int call(struct tls_link *link, enum call what, size_t in_length, char *bytes, size_t n,
                size_t *got)
{
    char *in = need(malloc(in_length + !in_length)), *out = need(malloc(link->room));
    ws_tls_wire wire = {.in = in, .in_length = in_length, .out = out, .out_size = link->room};
    if (in_length)
        memcpy(in, link->in, in_length);
    ERR_clear_error();
    if (link->dirty)
        ERR_put_error(ERR_LIB_SSL, 0, SSL_R_BAD_LENGTH, __FILE__, __LINE__);
    const int result = do_call(link, what, &wire, bytes, n, got);
    if (ERR_peek_error())
        link->clean = false;
    if (wire.in + wire.in_length != in + in_length || wire.out != out)
        abort();
    const size_t taken = in_length - wire.in_length;
    if (taken)
        memmove(link->in, link->in + taken, link->in_length - taken);
    link->in_length -= taken;
    if (wire.out_length)
        BIO_write(SSL_get_rbio(link->client), out, (int)wire.out_length);
    link->sent += wire.out_length;
    free(in);
    free(out);
    return result;
}

static size_t next_cut(const struct tls_link *link)
{
    return link->cut && link->cut < link->in_length ? link->cut : link->in_length;
}

static int shake_client(struct tls_link *link)
{
    const int result = SSL_do_handshake(link->client);
    link->client_error = SSL_get_error(link->client, result);
    if (link->client_error == SSL_ERROR_SSL)
        link->client_reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
    return result;
}

int link_shake(struct tls_link *link)
{
    int result = WS_TLS_MORE;
    for (bool done = false; result >= 0;) {
        const size_t before = link->in_length, sent = link->sent;
        const int client = shake_client(link);
        take_from_client(link);
        const size_t in_length = link->in_length;
        if (!done)
            result = call(link, SHAKE, next_cut(link), NULL, 0, NULL);
        done = result == WS_TLS_DONE;
        if (done && client == 1)
            return WS_TLS_DONE;
        const bool moved = in_length > before || link->in_length < in_length || link->sent > sent;
        if (!moved && !(done && BIO_pending(SSL_get_rbio(link->client)) > 0))
            break;
    }
    shake_client(link);
    return result;
}

int link_feed(struct tls_link *link)
{
    for (;;) {
        const size_t in_length = link->in_length;
        const int result = call(link, SHAKE, next_cut(link), NULL, 0, NULL);
        if (result != WS_TLS_MORE || !link->in_length || link->in_length == in_length)
            return result;
    }
}

int link_step(struct tls_link *link)
{
    shake_client(link);
    take_from_client(link);
    return call(link, SHAKE, next_cut(link), NULL, 0, NULL);
}

int link_read(struct tls_link *link, char *bytes, size_t size, size_t *got)
{
    *got = 0;
    take_from_client(link);
    for (;;) {
        const size_t in_length = link->in_length;
        size_t n = 0;
        char *piece = need(malloc(link->piece));
        const int result = call(link, READ, next_cut(link), piece, link->piece, &n);
        if (result >= 0) {
            if (n > size - *got)
                abort();
            memcpy(bytes + *got, piece, n);
            *got += n;
        }
        free(piece);
        const bool stuck = !link->in_length || link->in_length == in_length;
        if (result < 0 || (result == WS_TLS_MORE && stuck))
            return result;
    }
}

int link_write(struct tls_link *link, const char *bytes, size_t length)
{
    char *block = need(malloc(length + !length));
    if (length)
        memcpy(block, bytes, length);
    const int result = call(link, WRITE, 0, block, length, NULL);
    free(block);
    return result;
}

void link_shut(struct tls_link *link)
{
    call(link, CLOSE, 0, NULL, 0, NULL);
}

int client_read(struct tls_link *link, char *bytes, size_t size, int *error)
{
    int total = 0;
    *error = SSL_ERROR_NONE;
    while ((size_t)total < size) {
        const int n = SSL_read(link->client, bytes + total, (int)size - total);
        if (n <= 0) {
            *error = SSL_get_error(link->client, n);
            ERR_clear_error();
            return total ? total : -1;
        }
        total += n;
    }
    return total;
}
