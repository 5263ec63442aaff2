/*
 * test_openssl.c: sessions of OpenSSL (ws_openssl.h) against a client of OpenSSL, in memory.
 */
#include "ws_openssl.h"

#include "tap.h"
#include "tls_peer.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

static struct identity *identity;
static ws_openssl *openssl;
static SSL_CTX *context, *clients;

/* A ws_openssl with one context for every name, and a context of clients. */
static void start(void)
{
    identity = identity_new("example.org", NULL);
    context = server_context(identity);
    clients = client_context();
    const ws_openssl_context all = {"*", context};
    is_int(ws_openssl_new(&openssl, ws_openssl_linked()), WS_OK, "new");
    is_int(ws_openssl_set_contexts(openssl, &all, 1), WS_OK, "set contexts");
}

static void stop(void)
{
    ws_openssl_free(openssl);
    SSL_CTX_free(context);
    SSL_CTX_free(clients);
    identity_free(identity);
}

static void begin(struct tls_link *link, const char *name)
{
    ok(link_open(link, ws_openssl_tls(openssl), clients, name), "open");
}

static void end(struct tls_link *link)
{
    ok(link->clean, "no error of OpenSSL is left in the thread");
    link_close(link);
}

/* ---- handshakes and data ------------------------------------------------------------------ */

/* Bytes in both directions. */
static void talk(struct tls_link *link, size_t length)
{
    char *sent = malloc(length), *received = malloc(length);
    size_t got = 0;
    int error;
    for (size_t i = 0; i < length; i++)
        sent[i] = (char)(i * 7 + i / 251);
    SSL_write(link->client, sent, (int)length);
    is_int(link_read(link, received, length, &got), WS_TLS_MORE, "the session has read all");
    is_mem(received, got, sent, length, "the session reads what the client has sent");
    for (size_t at = 0; at < length; at += WS_TLS_CHUNK) {
        const size_t n = length - at < WS_TLS_CHUNK ? length - at : WS_TLS_CHUNK;
        if (link_write(link, sent + at, n) != WS_TLS_DONE)
            ok(false, "write");
    }
    const int n = client_read(link, received, length, &error);
    is_mem(received, n < 0 ? 0 : (size_t)n, sent, length, "the client reads what was written");
    free(sent);
    free(received);
}

static void test_version(int version, const char *name)
{
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    start();
    SSL_CTX_set_min_proto_version(clients, version);
    SSL_CTX_set_max_proto_version(clients, version);
    begin(&link, "example.org");
    is_int(link_shake(&link), WS_TLS_DONE, "%s", name);
    is_int(ws_openssl_get_info(link.session, &info), WS_OK, "info");
    is_text(info.version, name, "version");
    is_text(info.server_name, "example.org", "server_name");
    is_text(info.cipher, SSL_CIPHER_get_name(SSL_get_current_cipher(link.client)), "cipher");
    talk(&link, 1);
    talk(&link, 100000);
    end(&link);
    stop();
}

static void cases(void)
{
    CASE(test_version(TLS1_2_VERSION, "TLSv1.2"));
    CASE(test_version(TLS1_3_VERSION, "TLSv1.3"));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
