/* SPDX-License-Identifier: MIT */
/*
 * test_openssl_memory.c: each allocation of OpenSSL and of ws_openssl.h fails once. What was asked
 * for then fails or succeeds, and the next attempt succeeds, while another connection notices
 * nothing. The sanitizers and valgrind look for leaks, too.
 */
#include "ws_openssl.h"

#include "tap.h"
#include "tls_peer.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

static bool counting;
static long countdown; /* the allocation that fails; 0: none */
static bool has_failed;
static long blocks; /* that OpenSSL has */

static bool fails(void)
{
    if (!counting || countdown <= 0 || --countdown)
        return false;
    has_failed = true;
    return true;
}

static void around(bool before)
{
    counting = before;
}

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    void *block = fails() ? NULL : malloc(size);
    blocks += block != NULL;
    return block;
}

static void *crypto_realloc(void *pointer, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    void *block = fails() ? NULL : realloc(pointer, size);
    blocks += block && !pointer;
    return block;
}

static void crypto_free(void *pointer, const char *file, int line)
{
    (void)file, (void)line;
    blocks -= pointer != NULL;
    free(pointer);
}

/* The linker puts these in place of the functions of the C library. */
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *pointer, size_t size);
void *__wrap_realloc(void *pointer, size_t size);

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *pointer, size_t size)
{
    return fails() ? NULL : __real_realloc(pointer, size);
}

static struct identity *identity;
static ws_openssl *openssl;
static SSL_CTX *context, *clients;

/* Returns false if anything has failed. Whatever fails must say so. */
static bool converse(const char *name)
{
    struct tls_link link;
    char bytes[32];
    size_t got = 0;
    int error;
    around(true);
    void *session = ws_openssl_tls(openssl)->open(ws_openssl_tls(openssl)->context);
    around(false);
    if (!session)
        return false;
    link_adopt(&link, ws_openssl_tls(openssl), session, clients, name);
    bool works = link_shake(&link) == WS_TLS_DONE;
    SSL_write(link.client, "question", 8);
    works = works && link_read(&link, bytes, sizeof bytes, &got) == WS_TLS_MORE && got == 8;
    if (works && SSL_version(link.client) == TLS1_3_VERSION)
        works = SSL_key_update(link.client, SSL_KEY_UPDATE_REQUESTED) == 1 &&
                SSL_do_handshake(link.client) == 1 &&
                link_read(&link, bytes, sizeof bytes, &got) == WS_TLS_MORE;
    works = works && link_write(&link, "answer", 6) == WS_TLS_DONE;
    link_shut(&link);
    works = works && client_read(&link, bytes, 6, &error) == 6 && !memcmp(bytes, "answer", 6) &&
            client_read(&link, bytes, 1, &error) == -1 && error == SSL_ERROR_ZERO_RETURN;
    if (!link.clean)
        ok(false, "no error of OpenSSL is left in the thread");
    link_close(&link);
    return works;
}

static void start(int version, bool by_name)
{
    identity = identity_new("example.org", NULL);
    context = server_context(identity);
    clients = client_context();
    SSL_CTX_set_min_proto_version(clients, version);
    SSL_CTX_set_max_proto_version(clients, version);
    const ws_openssl_context contexts[] = {{"*", context}, {"example.org", context}};
    is_int(ws_openssl_new(&openssl, ws_openssl_linked()), WS_OK, "new");
    is_int(ws_openssl_set_contexts(openssl, contexts, by_name ? 2 : 1), WS_OK, "set contexts");
    around_calls = around;
}

static void stop(void)
{
    around_calls = NULL;
    ws_openssl_free(openssl);
    SSL_CTX_free(context);
    SSL_CTX_free(clients);
    identity_free(identity);
}

/* A client that has been connected since before. */
static bool is_served(struct tls_link *honest)
{
    char bytes[8];
    size_t got;
    int error;
    SSL_write(honest->client, "mine", 4);
    return link_read(honest, bytes, sizeof bytes, &got) == WS_TLS_MORE && got == 4 &&
           link_write(honest, "yours", 5) == WS_TLS_DONE &&
           client_read(honest, bytes, 5, &error) == 5 && !memcmp(bytes, "yours", 5);
}

/* One allocation after the other fails, or each `step`th. Returns how often that was a failure. */
static long fail_each(struct tls_link *honest, long step, long *allocations)
{
    long failures = 0, harmed = 0;
    *allocations = 0;
    for (has_failed = true; has_failed; *allocations += step) {
        has_failed = false;
        countdown = *allocations + 1;
        failures += !converse("example.org");
        countdown = 0;
        harmed += !is_served(honest);
        if (*allocations % 50 == 0 && !converse("example.org"))
            ok(false, "with memory again");
    }
    is_int(harmed, 0, "T86: and each time another connection was served");
    return failures;
}

static void test_session(int version, bool by_name)
{
    struct tls_link honest;
    long n, failures;
    start(version, by_name);
    if (!link_open(&honest, ws_openssl_tls(openssl), clients, "example.org"))
        ok(false, "open");
    is_int(link_shake(&honest), WS_TLS_DONE, "with memory");
    const long step = getenv("UNDER_VALGRIND") ? 17 : 1;
    failures = fail_each(&honest, step, &n);
    ok(failures > 50 / step, "T86: %ld allocations, %ld times the connection failed", n - step,
       failures);
    ok(converse("example.org"), "with memory again");
    const long before = blocks; /* by now OpenSSL has allocated what it never frees */
    fail_each(&honest, 17, &n);
    is_int(blocks - before, 0, "T86: no block is left of those connections");
    link_close(&honest);
    stop();
}

/* Calls `attempt` with one allocation after the other failing, or only each `step`th one, until
 * none is left. */
static void try_all(const char *name, int (*attempt)(void), long step)
{
    long n = 1, failures = 0;
    int result = WS_OK;
    for (has_failed = true; has_failed; n += step) {
        has_failed = false;
        countdown = n;
        around(true);
        result = attempt();
        around(false);
        countdown = 0;
        failures += result != WS_OK;
        if (result != WS_OK && !has_failed)
            break;
        if (ERR_peek_error())
            ok(false, "no error of OpenSSL is left in the thread");
        ERR_clear_error();
    }
    is_int(result, WS_OK, "%s: %ld allocations, %ld failures", name, n - step, failures);
}

static int attempt_new(void)
{
    ws_openssl *o;
    const int result = ws_openssl_new(&o, ws_openssl_linked());
    ws_openssl_free(o);
    return result;
}

static int attempt_contexts(void)
{
    const ws_openssl_context contexts[] = {{"a", context}, {"b", context}};
    return ws_openssl_set_contexts(openssl, contexts, 2);
}

static int attempt_keys(void)
{
    static const char keys[WS_OPENSSL_TICKET_KEYS];
    return ws_openssl_set_ticket_keys(openssl, keys, sizeof keys);
}

static char path[] = "/tmp/test_openssl_memory_XXXXXX";

static int attempt_load(void)
{
    char error[WS_OPENSSL_ERROR_SIZE] = "";
    struct ssl_ctx_st *loaded;
    const int result = ws_openssl_load_context(openssl, path, NULL, "hush", &loaded, error);
    ws_openssl_free_context(openssl, loaded);
    if (result && !*error)
        ok(false, "there is an error text");
    return result;
}

static void test_functions(void)
{
    start(TLS1_3_VERSION, false);
    const int fd = mkstemp(path);
    if (fd >= 0)
        close(fd);
    identity_write(identity, path, WRITE_CERTIFICATE | WRITE_KEY, "hush");
    try_all("ws_openssl_new", attempt_new, 1);
    try_all("ws_openssl_set_contexts", attempt_contexts, 1);
    try_all("ws_openssl_set_ticket_keys", attempt_keys, 1);
    try_all("ws_openssl_load_context", attempt_load, 29);
    unlink(path);
    stop();
}

static void cases(void)
{
    CASE(test_session(TLS1_2_VERSION, false));
    CASE(test_session(TLS1_2_VERSION, true));
    CASE(test_session(TLS1_3_VERSION, false));
    CASE(test_session(TLS1_3_VERSION, true));
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
        return 1;
    return run_cases(argc, argv, cases);
}
