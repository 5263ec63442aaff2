/* SPDX-License-Identifier: MIT */
/*
 * test_mbedtls.c: sessions of Mbed TLS (ws_mbedtls.h) against a client of OpenSSL, in memory.
 */
#include "ws_mbedtls.h"

#include "tap.h"
#include "tls_peer.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
#define HAS_TLS_1_3 1
#else
#define HAS_TLS_1_3 0
#endif

static struct identity *identity;
static SSL_CTX *clients;
static ws_mbedtls mbedtls;
static mbedtls_ssl_config config;
static mbedtls_x509_crt certificate, authority;
static mbedtls_pk_context key;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;

/* ---- allocations that fail ---------------------------------------------------------------- */

static size_t allocations, failing; /* failing: this one does; 0: none */

/* The linker puts these two around the calloc of the program and of a static Mbed TLS, which calls
 * nothing else (--wrap). */
void *__wrap_calloc(size_t n, size_t size);
void *__real_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
    return ++allocations == failing ? NULL : __real_calloc(n, size);
}

/* ---- both ends ---------------------------------------------------------------------------- */

static void need(int error)
{
    if (error) {
        diag("error -0x%04X of Mbed TLS", (unsigned)-error);
        abort();
    }
}

static void parse_identity(void)
{
    char path[] = "/tmp/test_mbedtls-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0)
        abort();
    close(file);
    identity_write(identity, path, WRITE_CERTIFICATE | WRITE_KEY, NULL);
    need(mbedtls_x509_crt_parse_file(&certificate, path));
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    need(mbedtls_pk_parse_keyfile(&key, path, NULL, mbedtls_ctr_drbg_random, &drbg));
#else
    need(mbedtls_pk_parse_keyfile(&key, path, NULL));
#endif
    unlink(path);
}

static void init_config(mbedtls_ssl_config *c)
{
    mbedtls_ssl_config_init(c);
    need(mbedtls_ssl_config_defaults(c, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(c, mbedtls_ctr_drbg_random, &drbg);
}

/* A table for one certificate, and a context of clients. */
static void start(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    psa_crypto_init();
#endif
    identity = identity_new("example.org", NULL);
    clients = client_context();
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    mbedtls_x509_crt_init(&certificate);
    mbedtls_x509_crt_init(&authority);
    mbedtls_pk_init(&key);
    need(mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0));
    parse_identity();
    init_config(&config);
    need(mbedtls_ssl_conf_own_cert(&config, &certificate, &key));
    is_int(ws_mbedtls_init(&mbedtls, sizeof mbedtls, &config), WS_OK, "init");
}

static void stop(void)
{
    is_int((long long)mbedtls.sessions, 0, "no session is left");
    mbedtls_ssl_config_free(&config);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&authority);
    mbedtls_x509_crt_free(&certificate);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
    SSL_CTX_free(clients);
    identity_free(identity);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_psa_crypto_free();
#endif
}

static void only_version(int version)
{
    SSL_CTX_set_min_proto_version(clients, version);
    SSL_CTX_set_max_proto_version(clients, version);
}

static void begin(struct tls_link *link)
{
    ok(link_open(link, &mbedtls.tls, clients, "example.org"), "open");
}

/* Returns whether `length` bytes, at most 100,000, arrive in both directions. */
static bool talks(struct tls_link *link, size_t length)
{
    static char sent[100000], received[sizeof sent];
    size_t got = 0;
    int error;
    for (size_t i = 0; i < length; i++)
        sent[i] = (char)(i * 7 + i / 251);
    SSL_write(link->client, sent, (int)length);
    bool fine = link_read(link, received, length, &got) == WS_TLS_MORE && got == length &&
                !memcmp(received, sent, length);
    memset(received, 0, length);
    for (size_t at = 0; at < length; at += WS_TLS_CHUNK) {
        const size_t n = length - at < WS_TLS_CHUNK ? length - at : WS_TLS_CHUNK;
        fine = link_write(link, sent + at, n) == WS_TLS_DONE && fine;
    }
    return client_read(link, received, length, &error) == (int)length &&
           !memcmp(received, sent, length) && fine;
}

/* ---- handshakes and data ------------------------------------------------------------------ */

static void test_version(int version, const char *name)
{
    struct tls_link link;
    start();
    only_version(version);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_DONE, "%s", name);
    const mbedtls_ssl_context *ssl = ws_mbedtls_ssl(link.session);
    is_text(mbedtls_ssl_get_version(ssl), name, "version");
    is_text(SSL_get_version(link.client), name, "version of the client");
    ok(talks(&link, 1), "one byte");
    ok(talks(&link, 100000), "many bytes");
    is_int(link_write(&link, "", 0), WS_TLS_DONE, "no bytes");
    ok(talks(&link, WS_TLS_CHUNK), "one record");
    link_close(&link);
    stop();
}

/* All that the session receives comes in pieces of that size. */
static void test_cut(int version, size_t cut)
{
    struct tls_link link;
    start();
    only_version(version);
    begin(&link);
    link.cut = cut;
    is_int(link_shake(&link), WS_TLS_DONE, "handshake in pieces of %zu", cut);
    ok(talks(&link, 3000), "data in pieces of %zu", cut);
    link_close(&link);
    stop();
}

/* There is little room for what the handshake sends, or little for what is read. */
static void test_small(int version, size_t room, size_t piece)
{
    struct tls_link link;
    start();
    only_version(version);
    begin(&link);
    link.room = room;
    is_int(link_shake(&link), WS_TLS_DONE, "handshake with room for %zu bytes", room);
    link.room = WS_TLS_CHUNK + WS_TLS_OVERHEAD;
    link.piece = piece;
    ok(talks(&link, 20000), "read of %zu bytes at a time", piece);
    link_close(&link);
    stop();
}

/* What the client sends together with the last flight of its handshake is left to `read`. */
static void test_data_with_the_handshake(void)
{
    struct tls_link link;
    char bytes[4096];
    size_t got;
    start();
    only_version(TLS1_2_VERSION);
    begin(&link);
    int steps = 0;
    while (SSL_do_handshake(link.client) != 1 && ++steps < 10) {
        ERR_clear_error();
        is_int(link_shake(&link), WS_TLS_DONE, "handshake");
    }
    SSL_write(link.client, "early", 5);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_MORE, "read");
    is_mem(bytes, got, "early", 5, "what came");
    link_close(&link);
    stop();
}

/* A client may insist on small records, with the ciphers that add most to each. */
static void test_small_records(const char *cipher)
{
    struct tls_link link;
    start();
    only_version(TLS1_2_VERSION);
    SSL_CTX_set_tlsext_max_fragment_length(clients, TLSEXT_max_fragment_length_512);
    SSL_CTX_set_cipher_list(clients, cipher);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_DONE, "handshake");
    const size_t before = link.sent;
    link.room = WS_TLS_CHUNK + WS_TLS_OVERHEAD;
    ok(talks(&link, WS_TLS_CHUNK), "a chunk in records of 512 bytes fits");
    diag("%s: %zu bytes", SSL_get_cipher(link.client), link.sent - before);
    ok(link.sent - before > WS_TLS_CHUNK + 31 * 21, "it is many records");
    link_close(&link);
    stop();
}

/* ---- tickets and configurations ----------------------------------------------------------- */

static void test_resumption(void)
{
    struct tls_link link;
    mbedtls_ssl_ticket_context tickets;
    start();
    only_version(TLS1_2_VERSION);
    mbedtls_ssl_ticket_init(&tickets);
    need(mbedtls_ssl_ticket_setup(&tickets, mbedtls_ctr_drbg_random, &drbg,
                                  MBEDTLS_CIPHER_AES_256_GCM, 3600));
    mbedtls_ssl_conf_session_tickets_cb(&config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse,
                                        &tickets);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_DONE, "first handshake");
    ok(!SSL_session_reused(link.client), "it is a full one");
    ok(talks(&link, 100), "data");
    SSL_SESSION *session = SSL_get1_session(link.client);
    const size_t full = link.sent;
    SSL_shutdown(link.client); /* or else OpenSSL does not resume it */
    link_close(&link);
    begin(&link);
    SSL_set_session(link.client, session);
    is_int(link_shake(&link), WS_TLS_DONE, "second handshake");
    ok(SSL_session_reused(link.client), "the session was resumed");
    ok(link.sent < full, "which takes less: %zu bytes after %zu", link.sent, full);
    ok(talks(&link, 100), "data");
    SSL_SESSION_free(session);
    link_close(&link);
    mbedtls_ssl_ticket_free(&tickets);
    stop();
}

/* Connections keep the configuration with which they have begun. */
static void test_another_configuration(void)
{
    struct tls_link old, new;
    mbedtls_ssl_config other;
    start();
    init_config(&other);
    need(mbedtls_ssl_conf_own_cert(&other, &certificate, &key));
    static const char *protocols[] = {"http/1.1", NULL};
    need(mbedtls_ssl_conf_alpn_protocols(&other, protocols));
    SSL_CTX_set_alpn_protos(clients, (const unsigned char *)"\x08http/1.1", 9);
    begin(&old);
    is_int((long long)ws_mbedtls_outdated(&mbedtls), 0, "no connection is outdated");
    ws_mbedtls_set_config(&mbedtls, &other);
    begin(&new);
    is_int((long long)ws_mbedtls_outdated(&mbedtls), 1, "one connection is outdated");
    is_int(link_shake(&old), WS_TLS_DONE, "the old one");
    is_int(link_shake(&new), WS_TLS_DONE, "the new one");
    ok(!mbedtls_ssl_get_alpn_protocol(ws_mbedtls_ssl(old.session)), "the old one has no protocol");
    is_text(mbedtls_ssl_get_alpn_protocol(ws_mbedtls_ssl(new.session)), "http/1.1", "protocol");
    link_close(&old);
    is_int((long long)ws_mbedtls_outdated(&mbedtls), 0, "it is closed");
    mbedtls_ssl_config_free(&config);
    mbedtls_ssl_config_init(&config);
    ok(talks(&new, 100), "data");
    link_close(&new);
    is_int((long long)ws_mbedtls_outdated(&mbedtls), 0, "none is left");
    mbedtls_ssl_config_free(&other);
    stop();
}

static void test_another_library(void)
{
    start();
    is_int(ws_mbedtls_init(&mbedtls, sizeof mbedtls - 1, &config), WS_EABI, "another size");
    stop();
}

/* ---- the end ------------------------------------------------------------------------------ */

static void test_client_closes(int version)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    int error;
    start();
    only_version(version);
    begin(&link);
    link_shake(&link);
    SSL_write(link.client, "bye", 3);
    SSL_shutdown(link.client);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_CLOSED, "close_notify");
    is_mem(bytes, got, "bye", 3, "after what was sent before");
    is_int(link_write(&link, "yet", 3), WS_TLS_DONE, "write is possible");
    is_int(client_read(&link, bytes, sizeof bytes, &error), 3, "and is received");
    link_shut(&link);
    is_int(client_read(&link, bytes, sizeof bytes, &error), -1, "the end");
    is_int(error, SSL_ERROR_ZERO_RETURN, "by close_notify");
    ok(!link.tls->error(link.session), "there is no error");
    link_close(&link);
    stop();
}

static void test_server_closes(int version)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    int error;
    start();
    only_version(version);
    begin(&link);
    link_shut(&link);
    is_int((long long)link.sent, 0, "nothing is sent before the handshake");
    link_shake(&link);
    link_write(&link, "bye", 3);
    link_shut(&link);
    is_int(client_read(&link, bytes, sizeof bytes, &error), 3, "the client reads");
    is_int(error, SSL_ERROR_ZERO_RETURN, "and close_notify");
    SSL_write(link.client, "late", 4);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_MORE, "what comes is read");
    is_mem(bytes, got, "late", 4, "it");
    link_close(&link);
    stop();
}

/* ---- failures ----------------------------------------------------------------------------- */

static void fails(struct tls_link *link, const char *what, int result)
{
    is_int(result, WS_TLS_FAILED, "%s", what);
    const char *why = link->tls->error(link->session);
    ok(why, "with a reason");
    diag("%s: %s", what, why ? why : "");
    const size_t before = link->sent;
    link_shut(link);
    ok(link->sent == before, "close_notify is not sent");
    link_close(link);
}

static void test_garbage(void)
{
    struct tls_link link;
    char request[] = "GET / HTTP/1.1\r\n\r\n", zeros[600] = {0};
    struct {
        const char *what;
        const void *bytes;
        size_t length;
    } rows[] = {
        {"plain HTTP", request, sizeof request - 1},
        {"zero bytes", zeros, sizeof zeros},
        {"an empty record", "\x16\x03\x01\0\0\x16\x03\x01\0\0", 10},
        {"a record that is too long", "\x16\x03\x01\xff\xff", 5},
        {"an alert", "\x15\x03\x01\0\x02\x02\x28", 7},
        {"data in the clear", "\x17\x03\x03\0\x05hello", 10},
        {"a message that is no ClientHello", "\x16\x03\x01\0\x04\x10\0\0\0", 9},
        {"a ClientHello of nothing", "\x16\x03\x01\0\x04\x01\0\0\0", 9},
    };
    start();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin(&link);
        char bytes[4096];
        SSL_do_handshake(link.client);
        client_take_raw(&link, bytes, sizeof bytes);
        client_sends_raw(&link, rows[i].bytes, rows[i].length);
        fails(&link, rows[i].what, link_shake(&link));
    }
    stop();
}

/* Each byte of the ClientHello is changed once. Nothing crashes, and a handshake either fails, or
 * waits or succeeds if the byte does not matter to the server. */
static void test_changed_hello(void)
{
    struct tls_link link;
    char bytes[4096];
    size_t length = 1;
    int failures = 0;
    start();
    for (size_t at = 0; at < length; at++) {
        if (!link_open(&link, &mbedtls.tls, clients, "example.org"))
            abort();
        SSL_do_handshake(link.client);
        length = client_take_raw(&link, bytes, sizeof bytes);
        bytes[at] = (char)(bytes[at] ^ (int)(1 + at % 255));
        client_sends_raw(&link, bytes, length);
        failures += link_shake(&link) == WS_TLS_FAILED;
        link_close(&link);
    }
    ok(failures > 20, "%d of %zu changes fail", failures, length);
    stop();
}

static void test_changed_record(int version)
{
    struct tls_link link;
    char bytes[4096];
    size_t got;
    start();
    only_version(version);
    begin(&link);
    link_shake(&link);
    SSL_write(link.client, "before", 6);
    link_read(&link, bytes, sizeof bytes, &got);
    SSL_write(link.client, "changed", 7);
    const size_t length = client_take_raw(&link, bytes, sizeof bytes);
    bytes[length - 1] ^= 1;
    client_sends_raw(&link, bytes, length);
    const size_t before = link.sent;
    const int result = link_read(&link, bytes, sizeof bytes, &got);
    ok(link.sent > before, "an alert is sent");
    fails(&link, "a changed record", result);
    stop();
}

static void test_no_certificate(void)
{
    struct tls_link link;
    mbedtls_ssl_config bare;
    start();
    init_config(&bare);
    ws_mbedtls_set_config(&mbedtls, &bare);
    begin(&link);
    fails(&link, "no certificate", link_shake(&link));
    mbedtls_ssl_config_free(&bare);
    stop();
}

static void test_no_common_version(void)
{
    struct tls_link link;
    start();
    only_version(TLS1_2_VERSION);
    mbedtls_ssl_conf_max_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, 0);
    begin(&link);
    fails(&link, "no common version", link_shake(&link));
    stop();
}

static void test_client_certificate(void)
{
    struct tls_link link;
    start();
    only_version(TLS1_2_VERSION);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&config, &certificate, NULL);
    begin(&link);
    fails(&link, "no certificate of the client", link_shake(&link));
    SSL_CTX_use_certificate(clients, identity->certificate);
    SSL_CTX_use_PrivateKey(clients, identity->key);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_DONE, "with one");
    ok(mbedtls_ssl_get_peer_cert(ws_mbedtls_ssl(link.session)), "which is known");
    link_close(&link);
    stop();
}

static void test_renegotiation(void)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    start();
    only_version(TLS1_2_VERSION);
    begin(&link);
    link_shake(&link);
    SSL_renegotiate(link.client);
    SSL_do_handshake(link.client);
    ERR_clear_error();
    const size_t before = link.sent;
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_MORE, "it is ignored");
    ok(link.sent - before < 100, "or refused");
    SSL_do_handshake(link.client);
    ERR_clear_error();
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_FAILED, "T86: the client gives up");
    is_text(link.tls->error(link.session), "SSL - A fatal alert message was received from our peer",
            "the reason");
    link_close(&link);
    stop();
}

static int no_random(void *user, unsigned char *bytes, size_t length)
{
    (void)user, (void)bytes, (void)length;
    return -0x0f80;
}

/* What a function of the application returns is no error of Mbed TLS. */
static void test_errors_of_others(void)
{
    struct tls_link link;
    start();
    only_version(TLS1_2_VERSION);
    mbedtls_ssl_conf_rng(&config, no_random, NULL);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_FAILED, "a function of the application fails");
    is_text(link.tls->error(link.session), "error -0x0F80 of Mbed TLS", "the reason");
    link_close(&link);
    stop();
}

/* RFC 8446 4.6.3: Mbed TLS does not know a KeyUpdate, and must not go on as if it had. */
static void test_key_update(void)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    start();
    only_version(TLS1_3_VERSION);
    begin(&link);
    link_shake(&link);
    SSL_key_update(link.client, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(link.client);
    SSL_write(link.client, "after", 5);
    fails(&link, "T86: a KeyUpdate", link_read(&link, bytes, sizeof bytes, &got));
    is_int((long long)got, 0, "nothing is read");
    stop();
}

/* The server gives enough room, so that this is a fault. */
static void test_no_room(void)
{
    struct tls_link link;
    char bytes[1000] = {0};
    start();
    only_version(TLS1_2_VERSION);
    begin(&link);
    link_shake(&link);
    link.room = 100;
    fails(&link, "T86: a record that does not fit", link_write(&link, bytes, sizeof bytes));
    stop();
}

/* What the session keeps of a record. */
static void test_pending(int version)
{
    struct tls_link link;
    char record[4096], bytes[100];
    size_t got;
    start();
    only_version(version);
    begin(&link);
    link_shake(&link);
    ok(talks(&link, 100), "data");
    ok(!link.tls->pending(link.session), "nothing is kept");
    SSL_write(link.client, "data", 4);
    const size_t length = client_take_raw(&link, record, sizeof record);
    for (size_t i = 0; i + 1 < length; i++) {
        client_sends_raw(&link, record + i, 1);
        if (link_read(&link, bytes, sizeof bytes, &got) != WS_TLS_MORE || got ||
            !link.tls->pending(link.session))
            ok(false, "%zu of %zu bytes of a record are kept", i + 1, length);
    }
    client_sends_raw(&link, record + length - 1, 1);
    link_read(&link, bytes, sizeof bytes, &got);
    is_mem(bytes, got, "data", 4, "all of it");
    ok(!link.tls->pending(link.session), "nothing is kept");
    SSL_write(link.client, "data", 4);
    SSL_write(link.client, "data", 4);
    size_t both = client_take_raw(&link, record, sizeof record);
    client_sends_raw(&link, record, both - 1);
    link_read(&link, bytes, sizeof bytes, &got);
    is_int((long long)got, 4, "a record and most of another one");
    ok(link.tls->pending(link.session), "which is kept");
    link_close(&link);
    stop();
}

/* A handshake and some data, of which the n-th allocation fails (0: none). Returns whether all
 * went well. */
static bool works_without(size_t n)
{
    struct tls_link link;
    allocations = 0;
    failing = n;
    const bool is_open = link_open(&link, &mbedtls.tls, clients, "example.org");
    const bool fine = is_open && link_shake(&link) == WS_TLS_DONE && talks(&link, 100);
    failing = 0;
    if (is_open)
        link_close(&link);
    return fine;
}

/* The first allocations fail once each, and then some of the many that calculations need. */
static void test_out_of_memory(int version)
{
    struct tls_link honest;
    size_t works = 0, tried = 0, harmed = 0;
    start();
    only_version(version);
    ok(works_without(0), "there is enough memory");
    const size_t total = allocations;
    begin(&honest);
    is_int(link_shake(&honest), WS_TLS_DONE, "another connection");
    for (size_t n = 1; n <= total; n += n < 50 ? 1 : total / 50, tried++) {
        works += works_without(n);
        harmed += !talks(&honest, 100);
    }
    ok(works < tried, "T86: %zu of %zu allocations fail, which harms %zu times", tried, total,
       tried - works);
    is_int((long long)harmed, 0, "T86: and never the other connection");
    ok(works_without(0), "the next one works");
    link_close(&honest);
    stop();
}

static void cases(void)
{
    CASE(test_version(TLS1_2_VERSION, "TLSv1.2"));
    for (size_t cut = 1; cut < 8; cut++)
        CASE(test_cut(TLS1_2_VERSION, cut));
    CASE(test_small(TLS1_2_VERSION, 1, 1));
    CASE(test_small(TLS1_2_VERSION, 100, 5000));
    CASE(test_data_with_the_handshake());
    CASE(test_small_records("ECDHE-ECDSA-AES128-GCM-SHA256"));
    CASE(test_small_records("ECDHE-ECDSA-AES256-SHA384"));
    CASE(test_resumption());
    CASE(test_another_configuration());
    CASE(test_another_library());
    CASE(test_client_closes(TLS1_2_VERSION));
    CASE(test_server_closes(TLS1_2_VERSION));
    CASE(test_garbage());
    CASE(test_changed_hello());
    CASE(test_changed_record(TLS1_2_VERSION));
    CASE(test_no_certificate());
    CASE(test_no_common_version());
    CASE(test_client_certificate());
    CASE(test_renegotiation());
    CASE(test_errors_of_others());
    CASE(test_no_room());
    CASE(test_pending(TLS1_2_VERSION));
    CASE(test_out_of_memory(TLS1_2_VERSION));
    if (!HAS_TLS_1_3)
        return;
    CASE(test_version(TLS1_3_VERSION, "TLSv1.3"));
    for (size_t cut = 1; cut < 8; cut++)
        CASE(test_cut(TLS1_3_VERSION, cut));
    CASE(test_small(TLS1_3_VERSION, 1, 1));
    CASE(test_client_closes(TLS1_3_VERSION));
    CASE(test_server_closes(TLS1_3_VERSION));
    CASE(test_pending(TLS1_3_VERSION));
    CASE(test_key_update());
    CASE(test_changed_record(TLS1_3_VERSION));
    CASE(test_out_of_memory(TLS1_3_VERSION));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
