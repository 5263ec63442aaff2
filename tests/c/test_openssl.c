/* SPDX-License-Identifier: MIT */
/*
 * test_openssl.c: sessions of OpenSSL (ws_openssl.h) against a client of OpenSSL, in memory:
 * handshakes, data, and clients that mean no good.
 */
#include "ws_openssl.h"

#include "tap.h"
#include "tls_peer.h"

#include <openssl/err.h>
#include <stdlib.h>

static struct identity *root, *identity;
static ws_openssl *openssl;
static SSL_CTX *context, *clients;

/* A ws_openssl whose context depends on the name, or does not, and clients of one version. */
static void start(int version, bool by_name)
{
    root = identity_new("root", NULL);
    identity = identity_new("example.org", root);
    context = server_context(identity);
    clients = client_context();
    SSL_CTX_set_min_proto_version(clients, version);
    SSL_CTX_set_max_proto_version(clients, version);
    const ws_openssl_context contexts[] = {{"*", context}, {"example.org", context}};
    is_int(ws_openssl_new(&openssl, ws_openssl_linked()), WS_OK, "new");
    is_int(ws_openssl_set_contexts(openssl, contexts, by_name ? 2 : 1), WS_OK, "set contexts");
}

static void stop(void)
{
    ws_openssl_free(openssl);
    SSL_CTX_free(context);
    SSL_CTX_free(clients);
    identity_free(identity);
    identity_free(root);
}

static void begin(struct tls_link *link)
{
    if (!link_open(link, ws_openssl_tls(openssl), clients, "example.org"))
        ok(false, "open");
}

static void end(struct tls_link *link)
{
    if (!link->clean)
        ok(false, "no error of OpenSSL is left in the thread");
    link_close(link);
}

/* Begins and completes the handshake. */
static void connect_link(struct tls_link *link)
{
    begin(link);
    is_int(link_shake(link), WS_TLS_DONE, "the handshake is complete");
}

/* `why` is what OpenSSL says, which depends on its version, or NULL. */
static void failed(struct tls_link *link, int result, const char *why)
{
    const char *error = link->tls->error(link->session);
    is_int(result, WS_TLS_FAILED, "failed: %s", error ? error : "without a reason");
    if (why)
        is_text(error ? error : "", why, "the reason");
    else
        ok(error, "there is a reason");
}

static bool writes(struct tls_link *link, const char *bytes, size_t length)
{
    size_t at = 0, n;
    for (; at < length; at += n) {
        n = length - at < WS_TLS_CHUNK ? length - at : WS_TLS_CHUNK;
        link->room = n + WS_TLS_OVERHEAD;
        if (link_write(link, bytes + at, n) != WS_TLS_DONE)
            return false;
    }
    return true;
}

/* Bytes in both directions; false if not all of them arrive, in order. */
static bool talks(struct tls_link *link, size_t length)
{
    char *sent = malloc(length), *received = malloc(length);
    size_t got = 0;
    int error;
    for (size_t i = 0; i < length; i++)
        sent[i] = (char)(i * 7 + i / 251);
    SSL_write(link->client, sent, (int)length);
    bool result = link_read(link, received, length, &got) == WS_TLS_MORE && got == length &&
                  !memcmp(sent, received, length);
    result = result && writes(link, sent, length);
    memset(received, 0, length);
    result = result && client_read(link, received, length, &error) == (int)length &&
             !memcmp(sent, received, length);
    free(sent);
    free(received);
    return result;
}

/* ---- handshakes and data ------------------------------------------------------------------ */

static void test_version(int version, const char *name, bool by_name)
{
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    start(version, by_name);
    connect_link(&link);
    is_int(ws_openssl_get_info(link.session, &info), WS_OK, "info");
    is_text(info.version, name, "version");
    is_text(info.server_name, "example.org", "server_name");
    is_text(info.cipher, SSL_CIPHER_get_name(SSL_get_current_cipher(link.client)), "cipher");
    ok(!info.protocol && !info.resumed, "no protocol, not resumed");
    info.size++;
    is_int(ws_openssl_get_info(link.session, &info), WS_EABI, "info of another size");
    ok(talks(&link, 1) && talks(&link, 100000), "data");
    end(&link);
    stop();
}

/* What arrives is cut in pieces of 1, 2, ... bytes, and in two pieces at every byte. */
static void test_cuts(int version, bool by_name)
{
    struct tls_link link;
    start(version, by_name);
    for (size_t cut = 1; cut < 100; cut = cut * 3 / 2 + 1) {
        begin(&link);
        link.cut = cut;
        ok(link_shake(&link) == WS_TLS_DONE && talks(&link, 20000), "pieces of %zu bytes", cut);
        end(&link);
    }
    stop();
}

/* The first bytes of a flight in one call, the rest in the next. */
static int shake_with_a_cut(struct tls_link *link, size_t at)
{
    char flight[4096];
    SSL_do_handshake(link->client);
    const size_t length = client_take_raw(link, flight, sizeof flight);
    if (at >= length)
        return -1;
    client_sends_raw(link, flight, at);
    if (at && link_feed(link) != WS_TLS_MORE)
        return 0;
    client_sends_raw(link, flight + at, length - at);
    return link_shake(link) == WS_TLS_DONE;
}

static void test_every_cut(int version, bool by_name)
{
    struct tls_link link;
    int result = 1;
    size_t at = 0;
    start(version, by_name);
    for (; result == 1; at++) {
        begin(&link);
        result = shake_with_a_cut(&link, at);
        if (result > 0 && !talks(&link, 10))
            result = 0;
        end(&link);
    }
    ok(result < 0 && at > 100, "T86: a ClientHello that is cut at any of %zu bytes", at - 1);
    stop();
}

/* A session that is freed at any point of the handshake; the sanitizers look for leaks. */
static void test_freed_early(bool by_name)
{
    struct tls_link link;
    int result = WS_TLS_MORE;
    start(TLS1_3_VERSION, by_name);
    for (int calls = 0; result == WS_TLS_MORE; calls++) {
        begin(&link);
        link.cut = 50;
        for (int i = 0; i < calls && result == WS_TLS_MORE; i++)
            result = link_step(&link);
        end(&link);
    }
    is_int(result, WS_TLS_DONE, "at last it is complete");
    stop();
}

/* Small rooms: a flight is larger than `out`. */
static void test_rooms(int version)
{
    struct tls_link link;
    struct identity *chain[10];
    start(version, false);
    chain[0] = root;
    for (int i = 1; i < 10; i++)
        chain[i] = identity_new("a-long-name-of-an-intermediate-authority.example", chain[i - 1]);
    SSL_CTX *long_chain = server_context(chain[9]);
    const ws_openssl_context all = {"*", long_chain};
    is_int(ws_openssl_set_contexts(openssl, &all, 1), WS_OK, "a chain of 10 certificates");
    for (size_t room = 1; room < 4000; room = room * 4 + 3) {
        begin(&link);
        link.room = room;
        is_int(link_shake(&link), WS_TLS_DONE, "room for %zu bytes", room);
        ok(link.sent > 4000, "a flight of %zu bytes", link.sent);
        ok(talks(&link, 1000), "data");
        end(&link);
    }
    SSL_CTX_free(long_chain);
    for (int i = 1; i < 10; i++)
        identity_free(chain[i]);
    stop();
}

/* `read` with room for a few bytes. */
static void test_pieces(int version)
{
    struct tls_link link;
    start(version, false);
    connect_link(&link);
    for (size_t piece = 1; piece < 20000; piece = piece * 5 + 1) {
        link.piece = piece;
        ok(talks(&link, 40000), "read by %zu bytes", piece);
    }
    end(&link);
    stop();
}

/* The room that `write` is promised suffices, also if the client wants records of 512 bytes. */
static void test_overhead(int version, const char *cipher, bool short_records)
{
    struct tls_link link;
    start(version, false);
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_security_level(clients, 0);
    if (cipher)
        SSL_CTX_set_cipher_list(clients, cipher);
    if (short_records)
        SSL_CTX_set_tlsext_max_fragment_length(clients, TLSEXT_max_fragment_length_512);
    connect_link(&link);
    const char *name = SSL_CIPHER_get_name(SSL_get_current_cipher(link.client));
    ok(talks(&link, 100000), "%s, %s records", name, short_records ? "short" : "long");
    bool all = true;
    for (size_t n = 1; n < 300; n++)
        all = all && talks(&link, n);
    ok(all, "1 to 299 bytes");
    end(&link);
    stop();
}

static void test_hello_retry(bool by_name)
{
    struct tls_link link;
    start(TLS1_3_VERSION, by_name);
    SSL_CTX_set1_groups_list(context, "P-384");
    SSL_CTX_set1_groups_list(clients, "X25519:P-384");
    connect_link(&link);
    ok(talks(&link, 1000), "data");
    end(&link);
    stop();
}

/* Errors of other users of OpenSSL in the thread are not mistaken for own ones. */
static void test_foreign_errors(int version)
{
    struct tls_link link;
    start(version, true);
    begin(&link);
    link.dirty = true;
    is_int(link_shake(&link), WS_TLS_DONE, "the handshake is complete");
    link.cut = 7;
    ok(talks(&link, 1000), "data");
    end(&link);
    stop();
}

/* ---- the end ------------------------------------------------------------------------------ */

static void test_client_closes(int version)
{
    struct tls_link link;
    char bytes[10];
    size_t got;
    int error;
    start(version, false);
    connect_link(&link);
    SSL_write(link.client, "last", 4);
    SSL_shutdown(link.client);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_CLOSED, "close_notify");
    is_mem(bytes, got, "last", 4, "what was sent before it is read");
    is_int(link_write(&link, "answer", 6), WS_TLS_DONE, "it may still be answered");
    is_int(client_read(&link, bytes, 6, &error), 6, "the client reads that");
    link_shut(&link);
    is_int(client_read(&link, bytes, 1, &error), -1, "then the end");
    is_int(error, SSL_ERROR_ZERO_RETURN, "by close_notify");
    end(&link);
    stop();
}

static void test_session_closes(int version)
{
    struct tls_link link;
    char bytes[10];
    size_t got;
    int error;
    start(version, false);
    begin(&link);
    link_shut(&link);
    is_int((int)link.sent, 0, "nothing to close before the handshake");
    is_int(link_shake(&link), WS_TLS_DONE, "the handshake is complete");
    is_int(client_read(&link, bytes, 1, &error), -1, "tickets");
    link_shut(&link);
    is_int(client_read(&link, bytes, 1, &error), -1, "the client reads the end");
    is_int(error, SSL_ERROR_ZERO_RETURN, "close_notify");
    SSL_write(link.client, "late", 4);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_MORE, "the session still reads");
    is_mem(bytes, got, "late", 4, "what was sent");
    const size_t sent = link.sent;
    link_shut(&link);
    is_int((int)(link.sent - sent), 0, "there is one close_notify");
    end(&link);
    stop();
}

/* ---- clients that mean no good ------------------------------------------------------------ */

static int feed(struct tls_link *link, const void *bytes, size_t length)
{
    client_sends_raw(link, bytes, length);
    return link_feed(link);
}

static void test_garbage(bool by_name, const char *bytes, size_t length, const char *why)
{
    struct tls_link link;
    start(TLS1_3_VERSION, by_name);
    begin(&link);
    failed(&link, feed(&link, bytes, length), why);
    link_shut(&link);
    end(&link);
    stop();
}

/* Nothing of what a seeded generator makes is accepted, or reads or writes where it must not. */
static void test_random_bytes(bool by_name)
{
    struct tls_link link;
    char bytes[600];
    unsigned seed = 12345;
    int accepted = 0;
    start(TLS1_3_VERSION, by_name);
    for (int run = 0; run < 300; run++) {
        const size_t length = 1 + (size_t)rand_r(&seed) % sizeof bytes;
        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)rand_r(&seed);
        if (run % 2)
            memcpy(bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                   length < 11 ? length : 11);
        begin(&link);
        accepted += feed(&link, bytes, length) == WS_TLS_DONE;
        end(&link);
    }
    is_int(accepted, 0, "T86: 300 times random bytes");
    stop();
}

/* One byte of the client is changed: anywhere in a flight, or in a record with data. */
static void test_changed_bytes(int version, bool by_name)
{
    struct tls_link link;
    char flight[4096];
    int failures = 0, others = 0;
    size_t length = 1;
    start(version, by_name);
    for (size_t at = 0; at < length; at += 3) {
        begin(&link);
        SSL_do_handshake(link.client);
        length = client_take_raw(&link, flight, sizeof flight);
        flight[at] ^= 0x55;
        client_sends_raw(&link, flight, length);
        if (link_shake(&link) == WS_TLS_DONE)
            others++;
        else
            failures++;
        end(&link);
    }
    ok(failures > 50 && others < 20, "a changed ClientHello: %d fail, %d do not", failures, others);
    begin(&link);
    is_int(link_shake(&link), WS_TLS_DONE, "the handshake is complete");
    SSL_write(link.client, "data", 4);
    length = client_take_raw(&link, flight, sizeof flight);
    flight[length - 1] ^= 1;
    client_sends_raw(&link, flight, length);
    failed(&link, link_read(&link, flight, sizeof flight, &length), NULL);
    end(&link);
    stop();
}

/* A ClientHello with random changes is taken or refused alike, whether its name is read or not. */
static void test_changed_hellos(int version)
{
    struct tls_link link;
    char flight[4096];
    unsigned seed = 54321;
    int differ = 0, taken = 0;
    start(version, false);
    const ws_openssl_context contexts[] = {{"*", context}, {"example.org", context}};
    for (int run = 0; run < 1000; run++) {
        begin(&link);
        SSL_do_handshake(link.client);
        const size_t length = client_take_raw(&link, flight, sizeof flight);
        for (int changes = 1 + run % 3; changes; changes--)
            flight[5 + (size_t)rand_r(&seed) % (length - 5)] = (char)rand_r(&seed);
        const int result = feed(&link, flight, length);
        end(&link);
        ws_openssl_set_contexts(openssl, contexts, 2);
        begin(&link);
        differ += feed(&link, flight, length) != result;
        end(&link);
        ws_openssl_set_contexts(openssl, contexts, 1);
        taken += result == WS_TLS_MORE;
    }
    ok(taken > 100 && taken < 900, "%d of 1,000 are taken", taken);
    is_int(differ, 0, "by the same sessions");
    stop();
}

static void test_old_version(int version, bool by_name)
{
    struct tls_link link;
    start(version, by_name);
    SSL_CTX_set_security_level(clients, 0);
    SSL_CTX_set_cipher_list(clients, "ALL");
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    begin(&link);
    failed(&link, link_shake(&link), "unsupported protocol");
    is_int(link.client_error, SSL_ERROR_SSL, "the client gets an alert");
    end(&link);
    stop();
}

static void test_long_hello(bool by_name, const char *why)
{
    struct tls_link link;
    static char record[5 + 16384];
    int result = WS_TLS_MORE;
    size_t total = 0;
    start(TLS1_3_VERSION, by_name);
    begin(&link);
    memcpy(record, "\x16\x03\x01\x40\x00", 5);
    memcpy(record + 5, by_name ? "\x01\x01\xff\xfc" : "\x01\xff\xff\xff", 4);
    for (; result == WS_TLS_MORE && total < 1 << 20; total += sizeof record) {
        result = feed(&link, record, sizeof record);
        memset(record + 5, 0, 6);
    }
    failed(&link, result, why);
    end(&link);
    stop();
}

static void test_records(int version)
{
    static const char too_long[] = "\x17\x03\x03\x48\x01";
    struct tls_link link;
    char bytes[100];
    size_t got;
    start(version, false);
    connect_link(&link);
    client_sends_raw(&link, too_long, 5);
    failed(&link, link_read(&link, bytes, sizeof bytes, &got), NULL);
    end(&link);
    connect_link(&link);
    client_sends_raw(&link, "\x17\x03\x03\x00\x00", 5);
    is_int(link_read(&link, bytes, sizeof bytes, &got), WS_TLS_FAILED, "a record without anything");
    end(&link);
    connect_link(&link);
    client_sends_raw(&link, "\x17\x02\x03\x00\x20", 5);
    failed(&link, link_read(&link, bytes, sizeof bytes, &got), "wrong version number");
    end(&link);
    stop();
}

static void test_renegotiation(void)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    start(TLS1_2_VERSION, false);
    SSL_CTX_set_options(context, SSL_OP_LEGACY_SERVER_CONNECT);
#ifdef SSL_OP_ALLOW_CLIENT_RENEGOTIATION
    SSL_CTX_set_options(context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
#endif
    connect_link(&link);
    is_int(SSL_renegotiate(link.client), 1, "the client renegotiates");
    SSL_do_handshake(link.client);
    const int result = link_read(&link, bytes, sizeof bytes, &got);
    is_int(result, WS_TLS_MORE, "T86: renegotiation is refused");
    is_int(SSL_do_handshake(link.client), -1, "the client");
    is_int(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION, "learns it");
    ERR_clear_error();
    end(&link);
    stop();
}

/* What the session keeps of a record. */
static void test_pending(int version, bool by_name)
{
    struct tls_link link;
    char record[4096], bytes[100];
    size_t got;
    start(version, by_name);
    connect_link(&link);
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
    const size_t both = client_take_raw(&link, record, sizeof record);
    client_sends_raw(&link, record, both - 1);
    link_read(&link, bytes, sizeof bytes, &got);
    is_int((long long)got, 4, "a record and most of another one");
    ok(link.tls->pending(link.session), "which is kept");
    end(&link);
    stop();
}

static void update_keys(struct tls_link *link)
{
    if (SSL_key_update(link->client, SSL_KEY_UPDATE_REQUESTED) != 1 ||
        SSL_do_handshake(link->client) != 1)
        ok(false, "SSL_key_update");
}

/* What `read` has to send waits for room, and `write` gets enough of it. */
static void test_room_for_answers(void)
{
    struct tls_link link;
    char bytes[1000] = {0};
    size_t got = 0;
    start(TLS1_3_VERSION, false);
    connect_link(&link);
    link.room = 5;
    for (int i = 0; i < 10; i++)
        update_keys(&link);
    SSL_write(link.client, "data", 4);
    int result = WS_TLS_MORE;
    for (int i = 0; i < 100 && result >= 0 && got != 4; i++)
        result = link_read(&link, bytes, sizeof bytes, &got);
    is_mem(bytes, got, "data", 4, "T86: what follows is read once all answers are sent");
    ok(talks(&link, 1000), "the client has got them");
    link.room = 100;
    failed(&link, link_write(&link, bytes, sizeof bytes), "a record is too long");
    end(&link);
    stop();
}

static void test_key_updates(void)
{
    struct tls_link link;
    char bytes[100];
    size_t got;
    int result = WS_TLS_MORE, times = 0;
    start(TLS1_3_VERSION, false);
    connect_link(&link);
    for (int i = 0; i < 5; i++) {
        update_keys(&link);
        ok(talks(&link, 100), "data after a KeyUpdate");
    }
    for (; times < 100; times++) {
        update_keys(&link);
        if (!talks(&link, 16384))
            break;
    }
    is_int(times, 100, "any number of them, with enough data");
    for (times = 0; times < 1000 && result == WS_TLS_MORE; times++) {
        update_keys(&link);
        result = link_read(&link, bytes, sizeof bytes, &got);
    }
    failed(&link, result, "too many records without data");
    ok(times > 10 && times < 60, "T86: %d KeyUpdates without data are too many", times);
    end(&link);

    connect_link(&link);
    for (times = 0; times < 1000; times++)
        update_keys(&link);
    SSL_write(link.client, "data", 4);
    failed(&link, link_read(&link, bytes, sizeof bytes, &got), "too many records without data");
    ok(link.sent < 6000, "1,000 at once are answered by %zu bytes", link.sent);
    end(&link);
    stop();
}

static void cases(void)
{
    CASE(test_version(TLS1_2_VERSION, "TLSv1.2", false));
    CASE(test_version(TLS1_2_VERSION, "TLSv1.2", true));
    CASE(test_version(TLS1_3_VERSION, "TLSv1.3", false));
    CASE(test_version(TLS1_3_VERSION, "TLSv1.3", true));
    CASE(test_cuts(TLS1_2_VERSION, false));
    CASE(test_cuts(TLS1_2_VERSION, true));
    CASE(test_cuts(TLS1_3_VERSION, false));
    CASE(test_cuts(TLS1_3_VERSION, true));
    CASE(test_every_cut(TLS1_2_VERSION, false));
    CASE(test_every_cut(TLS1_2_VERSION, true));
    CASE(test_every_cut(TLS1_3_VERSION, false));
    CASE(test_every_cut(TLS1_3_VERSION, true));
    CASE(test_freed_early(false));
    CASE(test_freed_early(true));
    CASE(test_rooms(TLS1_2_VERSION));
    CASE(test_rooms(TLS1_3_VERSION));
    CASE(test_pieces(TLS1_2_VERSION));
    CASE(test_pieces(TLS1_3_VERSION));
    CASE(test_overhead(TLS1_3_VERSION, NULL, false));
    CASE(test_overhead(TLS1_3_VERSION, NULL, true));
    CASE(test_overhead(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-SHA384", false));
    CASE(test_overhead(TLS1_2_VERSION, "ECDHE-ECDSA-AES256-SHA384", true));
    CASE(test_overhead(TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", true));
    CASE(test_overhead(TLS1_VERSION, "ECDHE-ECDSA-AES128-SHA", true));
    CASE(test_hello_retry(false));
    CASE(test_hello_retry(true));
    CASE(test_foreign_errors(TLS1_2_VERSION));
    CASE(test_foreign_errors(TLS1_3_VERSION));
    CASE(test_client_closes(TLS1_2_VERSION));
    CASE(test_client_closes(TLS1_3_VERSION));
    CASE(test_session_closes(TLS1_2_VERSION));
    CASE(test_session_closes(TLS1_3_VERSION));
    CASE(test_garbage(false, "GET / HTTP/1.1\r\n\r\n", 18, "http request"));
    CASE(test_garbage(true, "GET / HTTP/1.1\r\n\r\n", 18, "http request"));
    CASE(test_garbage(false, "\x16\x03\x01\xff\xff", 5, NULL));
    CASE(test_garbage(false, "\x17\x03\x03\x00\x01z", 6, NULL));
    CASE(test_garbage(true, "\x15\x03\x03\x00\x02\x02\x28", 7, NULL));
    CASE(test_random_bytes(false));
    CASE(test_random_bytes(true));
    CASE(test_changed_bytes(TLS1_2_VERSION, false));
    CASE(test_changed_bytes(TLS1_3_VERSION, true));
    CASE(test_changed_hellos(TLS1_2_VERSION));
    CASE(test_changed_hellos(TLS1_3_VERSION));
    CASE(test_old_version(TLS1_VERSION, false));
    CASE(test_old_version(TLS1_1_VERSION, true));
    CASE(test_long_hello(false, "excessive message size"));
    CASE(test_long_hello(true, "the ClientHello is too long"));
    CASE(test_records(TLS1_2_VERSION));
    CASE(test_records(TLS1_3_VERSION));
    CASE(test_renegotiation());
    CASE(test_pending(TLS1_2_VERSION, false));
    CASE(test_pending(TLS1_2_VERSION, true));
    CASE(test_pending(TLS1_3_VERSION, false));
    CASE(test_pending(TLS1_3_VERSION, true));
    CASE(test_key_updates());
    CASE(test_room_for_answers());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
