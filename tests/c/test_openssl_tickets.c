/* SPDX-License-Identifier: MIT */
/*
 * test_openssl_tickets.c: clients that resume sessions with contexts of ws_openssl.h: by which
 * keys, and at which names.
 */
#include "tap.h"
#include "tls_peer.h"

#include <openssl/err.h>
#include <openssl/rand.h>

/* It comes last: macros of OpenSSL must not change it. */
#include "ws_openssl.h"

enum { SERVERS = 3 };

static struct identity *identity;
static SSL_CTX *contexts[SERVERS], *clients;
static ws_openssl *openssl;

static void start(void)
{
    identity = identity_new("example.org", NULL);
    for (int i = 0; i < SERVERS; i++)
        contexts[i] = server_context(identity);
    clients = client_context();
    is_int(ws_openssl_new(&openssl, ws_openssl_linked()), WS_OK, "new");
}

static void stop(void)
{
    ws_openssl_free(openssl);
    for (int i = 0; i < SERVERS; i++)
        SSL_CTX_free(contexts[i]);
    SSL_CTX_free(clients);
    identity_free(identity);
}

static void set(ws_openssl *o, const char *name, SSL_CTX *context)
{
    const ws_openssl_context one = {name, context};
    is_int(ws_openssl_set_contexts(o, &one, 1), WS_OK, "the context of '%s' is set", name);
}

static void set_all(void)
{
    const ws_openssl_context all[] = {
        {"*", contexts[0]}, {"example.org", contexts[1]}, {"*.example.org", contexts[2]}};
    is_int(ws_openssl_set_contexts(openssl, all, SERVERS), WS_OK, "three contexts");
}

static void end(struct tls_link *link)
{
    if (!link->clean)
        ok(false, "no error of OpenSSL is left in the thread");
    link_close(link);
}

/* Connects with a session of the client (may be NULL), which is exchanged for a new one. Returns
 * whether it was resumed. */
static bool resumes(ws_openssl *o, const char *name, SSL_SESSION **saved)
{
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    char byte;
    int error;
    link_open(&link, ws_openssl_tls(o), clients, name);
    if (*saved)
        SSL_set_session(link.client, *saved);
    is_int(link_shake(&link), WS_TLS_DONE, "the handshake is complete");
    link_write(&link, "x", 1);
    is_int(client_read(&link, &byte, 1, &error), 1, "tickets and a byte");
    ws_openssl_get_info(link.session, &info);
    ok(info.resumed == SSL_session_reused(link.client), "both agree");
    is_text(info.server_name ? info.server_name : "", name, "the name of the server");
    SSL_SESSION_free(*saved);
    *saved = SSL_get1_session(link.client);
    SSL_shutdown(link.client);
    end(&link);
    return info.resumed;
}

static void test_resumption(int version)
{
    SSL_SESSION *saved = NULL;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    set(openssl, "*", contexts[0]);
    ok(!resumes(openssl, "a.test", &saved), "first");
    ok(resumes(openssl, "a.test", &saved), "again");
    ok(resumes(openssl, "a.test", &saved), "and again");
    set(openssl, "*", contexts[1]);
    ok(!resumes(openssl, "a.test", &saved), "another context has other keys");
    SSL_SESSION_free(saved);
    stop();
}

static void test_ticket_keys(int version)
{
    unsigned char keys[WS_OPENSSL_TICKET_KEYS];
    SSL_SESSION *saved = NULL;
    ws_openssl *other;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    ws_openssl_new(&other, ws_openssl_linked());
    RAND_bytes(keys, sizeof keys);
    is_int(ws_openssl_set_ticket_keys(openssl, keys, 79), WS_EINVAL, "too short");
    is_int(ws_openssl_set_ticket_keys(openssl, keys, sizeof keys), WS_OK, "before the contexts");
    set(openssl, "*", contexts[0]);
    set(other, "*", contexts[1]);
    is_int(ws_openssl_set_ticket_keys(other, keys, sizeof keys), WS_OK, "after the contexts");
    ok(!resumes(openssl, "a.test", &saved), "first");
    ok(resumes(other, "a.test", &saved), "at another one with the same keys");
    ok(resumes(openssl, "a.test", &saved), "and back");
    set(openssl, "*", contexts[2]);
    ok(resumes(openssl, "a.test", &saved), "with a new context");
    keys[40] ^= 1;
    is_int(ws_openssl_set_ticket_keys(openssl, keys, sizeof keys), WS_OK, "new keys");
    ok(!resumes(openssl, "a.test", &saved), "end that");
    SSL_SESSION_free(saved);
    ws_openssl_free(other);
    stop();
}

static unsigned char periods[5][WS_OPENSSL_TICKET_KEYS];

/* Issues tickets with the keys of one period, and accepts those of the one before. */
static void use_periods(ws_openssl *o, int current)
{
    unsigned char keys[2][WS_OPENSSL_TICKET_KEYS];
    memcpy(keys[0], periods[current], sizeof keys[0]);
    memcpy(keys[1], periods[current - 1], sizeof keys[1]);
    is_int(ws_openssl_set_ticket_keys(o, keys, sizeof keys), WS_OK, "period %d", current);
}

/* Like `resumes`, but `saved` stays as it is. */
static bool resumes_again(ws_openssl *o, SSL_SESSION *saved)
{
    SSL_SESSION *copy = SSL_SESSION_dup(saved);
    const bool result = resumes(o, "a.test", &copy);
    SSL_SESSION_free(copy);
    return result;
}

/* Returns whether two sessions of a client have the same ticket. */
static bool same_ticket(const SSL_SESSION *a, const SSL_SESSION *b)
{
    const unsigned char *tickets[2];
    size_t lengths[2];
    SSL_SESSION_get0_ticket(a, &tickets[0], &lengths[0]);
    SSL_SESSION_get0_ticket(b, &tickets[1], &lengths[1]);
    return lengths[0] == lengths[1] && !memcmp(tickets[0], tickets[1], lengths[0]);
}

static void test_earlier_ticket_keys(int version)
{
    SSL_SESSION *saved = NULL, *first;
    ws_openssl *late;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    RAND_bytes(periods[0], sizeof periods);
    set(openssl, "*", contexts[0]);
    for (size_t length = 0; length <= sizeof periods; length++)
        if (ws_openssl_set_ticket_keys(openssl, periods, length) == WS_OK &&
            (length % WS_OPENSSL_TICKET_KEYS || !length ||
             length > WS_OPENSSL_TICKET_PERIODS * WS_OPENSSL_TICKET_KEYS))
            ok(false, "keys of %zu bytes", length);
    use_periods(openssl, 1);
    ok(!resumes(openssl, "a.test", &saved), "L3: a first handshake");
    first = SSL_SESSION_dup(saved);
    ok(resumes(openssl, "a.test", &saved), "L3: resumed in the same period");
    ok(same_ticket(first, saved) == (version == TLS1_2_VERSION),
       "L3: with TLS 1.3 by another ticket, with TLS 1.2 by the same");
    use_periods(openssl, 2);
    ok(resumes_again(openssl, first), "L3: a ticket of the period before is accepted");
    ok(resumes(openssl, "a.test", &saved), "L3: also this one");
    ok(!same_ticket(first, saved), "L3: the client has got a new ticket");
    use_periods(openssl, 3);
    ok(!resumes_again(openssl, first), "L3: one of the period before that is not accepted");
    ok(resumes(openssl, "a.test", &saved), "L3: but the new one is");

    ws_openssl_new(&late, ws_openssl_linked());
    use_periods(late, 4);
    set(late, "*", contexts[1]);
    ok(resumes_again(late, saved), "L3: by any ws_openssl with these keys");
    ok(!resumes_again(late, first), "L3: which knows no others");
    ws_openssl_free(late);
    is_int(ws_openssl_set_ticket_keys(openssl, periods, 4 * sizeof periods[0]), WS_OK, "four");
    ok(resumes_again(openssl, saved), "L3: the last of four periods");
    is_int(ws_openssl_set_ticket_keys(openssl, periods[4], sizeof periods[4]), WS_OK, "one");
    ok(!resumes_again(openssl, saved), "L3: keys that are taken away");
    SSL_SESSION_free(first);
    SSL_SESSION_free(saved);
    stop();
}

/* A program may use a context for sockets of its own, too. */
static bool resumes_elsewhere(SSL_CTX *context, SSL_SESSION **saved)
{
    char byte;
    int result = -1;
    SSL *server = SSL_new(context), *client = SSL_new(clients);
    BIO *to_client = BIO_new(BIO_s_mem()), *to_server = BIO_new(BIO_s_mem());
    BIO_up_ref(to_client);
    BIO_up_ref(to_server);
    SSL_set_bio(server, to_server, to_client);
    SSL_set_bio(client, to_client, to_server);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    if (*saved)
        SSL_set_session(client, *saved);
    for (int i = 0; i < 10 && result != 1; i++) {
        SSL_do_handshake(client);
        result = SSL_do_handshake(server);
    }
    SSL_do_handshake(client);
    SSL_write(server, "x", 1);
    is_int(SSL_read(client, &byte, 1), 1, "a connection of the program itself");
    const bool reused = SSL_session_reused(server);
    SSL_SESSION_free(*saved);
    *saved = SSL_get1_session(client);
    SSL_shutdown(client);
    SSL_free(client);
    SSL_free(server);
    ERR_clear_error();
    return reused;
}

static void test_a_context_used_elsewhere(int version)
{
    SSL_SESSION *saved = NULL;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    RAND_bytes(periods[0], sizeof periods);
    set(openssl, "*", contexts[0]);
    use_periods(openssl, 1);
    ok(!resumes_elsewhere(contexts[0], &saved), "L3: a first handshake");
    ok(resumes_elsewhere(contexts[0], &saved), "L3: resumed");
    use_periods(openssl, 2);
    ok(!resumes_elsewhere(contexts[0], &saved), "L3: with the keys of the context alone");
    ws_openssl_free(openssl);
    openssl = NULL;
    ok(resumes_elsewhere(contexts[0], &saved), "L3: also when there is no ws_openssl any more");
    SSL_SESSION_free(saved);
    stop();
}

/* With shared keys, a session of one name is not resumed at another one. */
static void test_resumption_at_another_name(int version)
{
    unsigned char keys[WS_OPENSSL_TICKET_KEYS];
    SSL_SESSION *saved = NULL;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    RAND_bytes(keys, sizeof keys);
    is_int(ws_openssl_set_ticket_keys(openssl, keys, sizeof keys), WS_OK, "keys");
    set_all();
    ok(!resumes(openssl, "example.org", &saved), "first");
    ok(resumes(openssl, "example.org", &saved), "the same name");
    ok(!resumes(openssl, "www.example.org", &saved), "another name");
    SSL_CTX_set_verify(contexts[1], SSL_VERIFY_PEER, NULL);
    SSL_SESSION_free(saved);
    saved = NULL;
    ok(!resumes(openssl, "example.org", &saved), "anew");
    set_all();
    ok(!resumes(openssl, "example.org", &saved), "clients are asked for certificates now");
    ok(resumes(openssl, "example.org", &saved), "from then on");
    SSL_SESSION_free(saved);
    stop();
}

static void cases(void)
{
    CASE(test_resumption(TLS1_2_VERSION));
    CASE(test_resumption(TLS1_3_VERSION));
    CASE(test_ticket_keys(TLS1_2_VERSION));
    CASE(test_ticket_keys(TLS1_3_VERSION));
    CASE(test_earlier_ticket_keys(TLS1_2_VERSION));
    CASE(test_earlier_ticket_keys(TLS1_3_VERSION));
    CASE(test_a_context_used_elsewhere(TLS1_2_VERSION));
    CASE(test_a_context_used_elsewhere(TLS1_3_VERSION));
    CASE(test_resumption_at_another_name(TLS1_2_VERSION));
    CASE(test_resumption_at_another_name(TLS1_3_VERSION));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
