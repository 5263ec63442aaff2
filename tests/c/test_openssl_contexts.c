/* SPDX-License-Identifier: MIT */
/*
 * test_openssl_contexts.c: the contexts of ws_openssl.h: names, certificates of clients, protocols
 * (ALPN), replacement, and files; test_openssl_tickets.c has resumption.
 */
#include "tap.h"
#include "tls_peer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <unistd.h>

/* It comes last: macros of OpenSSL must not change it. */
#include "ws_openssl.h"

enum { SERVERS = 3 };

static struct identity *root, *identities[SERVERS], *client_identity;
static SSL_CTX *contexts[SERVERS], *clients;
static ws_openssl *openssl;

static void start(void)
{
    static const char *const names[SERVERS] = {"default.test", "example.org", "*.example.org"};
    root = identity_new("root", NULL);
    for (int i = 0; i < SERVERS; i++) {
        identities[i] = identity_new(names[i], root);
        contexts[i] = server_context(identities[i]);
    }
    client_identity = identity_new("client", root);
    clients = client_context();
    is_int(ws_openssl_new(&openssl, ws_openssl_linked()), WS_OK, "new");
}

static void stop(void)
{
    ws_openssl_free(openssl);
    for (int i = 0; i < SERVERS; i++) {
        SSL_CTX_free(contexts[i]);
        identity_free(identities[i]);
    }
    SSL_CTX_free(clients);
    identity_free(client_identity);
    identity_free(root);
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

static int shake(struct tls_link *link, ws_openssl *o, const char *name)
{
    if (!link_open(link, ws_openssl_tls(o), clients, name))
        ok(false, "open");
    return link_shake(link);
}

static void end(struct tls_link *link)
{
    if (!link->clean)
        ok(false, "no error of OpenSSL is left in the thread");
    link_close(link);
}

/* ---- names -------------------------------------------------------------------------------- */

static void chooses(const char *name, int index)
{
    struct tls_link link;
    is_int(shake(&link, openssl, name), WS_TLS_DONE, "%s", name ? name : "no name");
    X509 *got = SSL_get_peer_certificate(link.client);
    ok(!X509_cmp(got, identities[index]->certificate), "the certificate of number %d", index);
    X509_free(got);
    end(&link);
}

static void test_names(int version)
{
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    set_all();
    chooses("example.org", 1);
    chooses("EXAMPLE.org", 1);
    chooses("example.org.", 1);
    chooses("www.example.org.", 2);
    chooses("www.example.org", 2);
    chooses("a.b.example.org", 0);
    chooses("other.test", 0);
    chooses(NULL, 0);
    set(openssl, "*", contexts[2]);
    chooses("example.org", 2);
    chooses(NULL, 2);
    stop();
}

static void refuses(const char *name)
{
    struct tls_link link;
    is_int(shake(&link, openssl, name), WS_TLS_FAILED, "%s", name ? name : "no name");
    is_text(link.tls->error(link.session), "there is no context for the name of the server",
            "the reason");
    is_int(link.client_reason, SSL_AD_REASON_OFFSET + SSL_AD_UNRECOGNIZED_NAME,
           "the client gets the alert");
    end(&link);
}

static void test_unknown_names(int version)
{
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    set(openssl, "*.example.org", contexts[2]);
    chooses("www.example.org", 2);
    refuses("example.org");
    refuses("other.test");
    refuses(NULL);
    stop();
}

/* The settings of a context hold for its name alone: versions, and who must show a certificate. */
static void test_settings_of_a_name(void)
{
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    start();
    SSL_CTX_set_max_proto_version(contexts[1], TLS1_2_VERSION);
    SSL_CTX_set_min_proto_version(contexts[2], TLS1_3_VERSION);
    SSL_CTX_set_verify(contexts[2], SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    set_all();
    is_int(shake(&link, openssl, "example.org"), WS_TLS_DONE, "example.org");
    ws_openssl_get_info(link.session, &info);
    is_text(info.version, "TLSv1.2", "has TLS 1.2");
    end(&link);
    is_int(shake(&link, openssl, "www.example.org"), WS_TLS_FAILED, "www.example.org");
    is_text(link.tls->error(link.session), "peer did not return a certificate",
            "asks for a certificate");
    end(&link);
    chooses("other.test", 0);
    stop();
}

static void test_many_names(void)
{
    enum { COUNT = 3000 };
    static char names[COUNT][32];
    static ws_openssl_context many[COUNT];
    start();
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "host-%d.test", i * 7919 % COUNT);
        many[i] = (ws_openssl_context){names[i], contexts[i % SERVERS]};
    }
    is_int(ws_openssl_set_contexts(openssl, many, COUNT), WS_OK, "3,000 names");
    chooses(names[7], 1);
    chooses(names[2999], 2);
    refuses("host-3000.test");
    stop();
}

static void test_bad_contexts(void)
{
    start();
    const ws_openssl_context no_name = {NULL, contexts[0]}, no_context = {"*", NULL},
                             bad = {"a b", contexts[0]},
                             twice[] = {{"a", contexts[0]}, {"A", contexts[1]}};
    ok(!ws_openssl_tls(openssl)->open(ws_openssl_tls(openssl)->context),
       "no session without a context");
    set(openssl, "*", contexts[1]);
    is_int(ws_openssl_set_contexts(openssl, twice, 0), WS_EINVAL, "none");
    is_int(ws_openssl_set_contexts(openssl, &no_name, 1), WS_EINVAL, "without a name");
    is_int(ws_openssl_set_contexts(openssl, &no_context, 1), WS_EINVAL, "without a context");
    is_int(ws_openssl_set_contexts(openssl, &bad, 1), WS_EINVAL, "a bad name");
    is_int(ws_openssl_set_contexts(openssl, twice, 2), WS_EINVAL, "the same name twice");
    chooses("example.org", 1);
    SSL_CTX *empty = SSL_CTX_new(TLS_server_method());
    ok(!ws_openssl_has_certificate(openssl, empty), "a context without a certificate");
    ok(ws_openssl_has_certificate(openssl, contexts[0]), "one with a certificate");
    SSL_CTX_free(empty);
    stop();
}

/* Contexts are replaced while there are sessions, in every state, and freed by their owner. */
static void test_replacement(bool by_name)
{
    struct tls_link old[3], link;
    char bytes[10];
    size_t got;
    int error;
    start();
    if (by_name)
        set_all();
    else
        set(openssl, "*", contexts[1]);
    is_int(shake(&old[0], openssl, "example.org"), WS_TLS_DONE, "a session");
    link_open(&old[1], ws_openssl_tls(openssl), clients, "example.org");
    link_open(&old[2], ws_openssl_tls(openssl), clients, "example.org");
    old[2].cut = 30;
    is_int(link_step(&old[2]), WS_TLS_MORE, "one in the middle of a handshake");
    const ws_openssl_context names[] = {{"example.org", contexts[2]}, {"*", contexts[0]}};
    is_int(ws_openssl_set_contexts(openssl, names, 2), WS_OK, "replaced");
    SSL_CTX_free(contexts[1]);
    contexts[1] = NULL;
    is_int(link_shake(&old[1]), WS_TLS_DONE, "one that had not begun");
    is_int(link_shake(&old[2]), WS_TLS_DONE, "one that had begun");
    for (int i = 0; i < 3; i++) {
        SSL_write(old[i].client, "data", 4);
        is_int(link_read(&old[i], bytes, sizeof bytes, &got), WS_TLS_MORE, "old sessions read");
        is_int(link_write(&old[i], "data", 4), WS_TLS_DONE, "and write");
        is_int(client_read(&old[i], bytes, 4, &error), 4, "to the client");
        end(&old[i]);
    }
    chooses("example.org", 2);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "another one");
    end(&link);
    stop();
}

/* ---- certificates of clients -------------------------------------------------------------- */

static void test_client_certificates(int version)
{
    struct tls_link link;
    unsigned char der[2000], *end_of_der = der, got[2000];
    char byte;
    size_t n;
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(contexts[0]), root->certificate);
    SSL_CTX_set_verify(contexts[0], SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    set(openssl, "*", contexts[0]);
    is_int(shake(&link, openssl, NULL), WS_TLS_FAILED, "without a certificate");
    is_text(link.tls->error(link.session), "peer did not return a certificate", "the reason");
    end(&link);

    SSL_CTX_use_certificate(clients, client_identity->certificate);
    SSL_CTX_use_PrivateKey(clients, client_identity->key);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "with a certificate");
    const int length = i2d_X509(client_identity->certificate, &end_of_der);
    is_int(ws_openssl_peer_certificate(link.session, NULL, 0), length, "its length");
    is_int(ws_openssl_peer_certificate(link.session, got, (size_t)length - 1), length, "too small");
    is_int(ws_openssl_peer_certificate(link.session, got, sizeof got), length, "enough room");
    is_mem(got, (size_t)length, der, (size_t)length, "the certificate");
    end(&link);

    SSL_CTX_set_verify(contexts[0], SSL_VERIFY_PEER, NULL);
    set(openssl, "*", contexts[1]);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "a context that asks for none");
    is_int(ws_openssl_peer_certificate(link.session, got, sizeof got), 0, "there is none");
    end(&link);

    struct identity *stranger = identity_new("stranger", NULL);
    set(openssl, "*", contexts[0]);
    SSL_CTX_use_certificate(clients, stranger->certificate);
    SSL_CTX_use_PrivateKey(clients, stranger->key);
    int result = shake(&link, openssl, NULL);
    if (result == WS_TLS_DONE)
        result = link_read(&link, &byte, 1, &n);
    is_int(result, WS_TLS_FAILED, "a certificate of an unknown authority");
    const char *why = link.tls->error(link.session);
    ok(why && strstr(why, "self"), "%s", why);
    end(&link);
    identity_free(stranger);
    stop();
}

/* ---- protocols ---------------------------------------------------------------------------- */

static void test_protocols(int version)
{
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    start();
    SSL_CTX_set_max_proto_version(clients, version);
    set(openssl, "*", contexts[0]);
    SSL_CTX_set_alpn_protos(clients, (const unsigned char *)"\2h2\10http/1.1", 12);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "h2 or http/1.1");
    ws_openssl_get_info(link.session, &info);
    is_mem(info.protocol, info.protocol_length, "http/1.1", 8, "http/1.1 is selected");
    end(&link);
    SSL_CTX_set_alpn_protos(clients, (const unsigned char *)"\10http/1.0", 9);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "http/1.0, as curl -0 offers it");
    ws_openssl_get_info(link.session, &info);
    is_mem(info.protocol, info.protocol_length, "http/1.0", 8, "is selected");
    end(&link);
    SSL_CTX_set_alpn_protos(clients, (const unsigned char *)"\2h2\2h3", 6);
    is_int(shake(&link, openssl, NULL), WS_TLS_FAILED, "h2 or h3");
    is_int(link.client_reason, SSL_AD_REASON_OFFSET + TLS1_AD_NO_APPLICATION_PROTOCOL,
           "is refused");
    end(&link);
    stop();
}

/* ---- files -------------------------------------------------------------------------------- */

static char folder[sizeof "/tmp/test_openssl_XXXXXX"];
static char error[WS_OPENSSL_ERROR_SIZE];

static const char *in_folder(const char *name)
{
    static char paths[4][300];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int load(const char *cert, const char *key, const char *password, struct ssl_ctx_st **loaded)
{
    memset(error, 'x', sizeof error);
    const char *key_file = key ? in_folder(key) : NULL;
    const int result =
        ws_openssl_load_context(openssl, in_folder(cert), key_file, password, loaded, error);
    if (ERR_peek_error())
        ok(false, "no error of OpenSSL is left in the thread");
    return result;
}

static void loads(const char *cert, const char *key, const char *password)
{
    struct ssl_ctx_st *loaded;
    struct tls_link link;
    ws_openssl_info info = {.size = sizeof info};
    is_int(load(cert, key, password, &loaded), WS_OK, "%s, %s", cert, key ? key : "no key");
    set(openssl, "*", loaded);
    ws_openssl_free_context(openssl, loaded);
    is_int(shake(&link, openssl, NULL), WS_TLS_DONE, "the handshake is complete");
    is_int(sk_X509_num(SSL_get_peer_cert_chain(link.client)), 2, "with the chain");
    ws_openssl_get_info(link.session, &info);
    is_text(info.version, "TLSv1.3", "version");
    end(&link);
}

static void does_not_load(const char *cert, const char *key, const char *password, int want,
                          const char *file, const char *what)
{
    struct ssl_ctx_st *loaded;
    char text[400];
    is_int(load(cert, key, password, &loaded), want, "%s, %s", cert, key);
    ok(!loaded, "there is no context");
    snprintf(text, sizeof text, "%s: %s", in_folder(file), what);
    ok(memchr(error, 0, sizeof error) && !strncmp(error, text, strlen(text)), "%s", error);
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "w");
    fputs(text, file);
    fclose(file);
}

static void make_files(void)
{
    strcpy(folder, "/tmp/test_openssl_XXXXXX");
    if (!mkdtemp(folder))
        perror(folder);
    identity_write(identities[0], in_folder("cert"), WRITE_CERTIFICATE, NULL);
    identity_write(identities[0], in_folder("key"), WRITE_KEY, NULL);
    identity_write(identities[0], in_folder("secret"), WRITE_KEY, "hush");
    identity_write(identities[0], in_folder("both"), WRITE_CERTIFICATE | WRITE_KEY, NULL);
    identity_write(identities[1], in_folder("other"), WRITE_KEY, NULL);
    write_text("empty", "");
    write_text("text", "this is no certificate\n");
    write_text("broken", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
}

static void remove_files(void)
{
    static const char *const names[] = {"cert",  "key",   "secret", "both",
                                        "other", "empty", "text",   "broken"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_folder(names[i]));
    rmdir(folder);
}

static void test_files(void)
{
    start();
    make_files();
    loads("cert", "key", NULL);
    loads("cert", "key", "needless");
    loads("cert", "secret", "hush");
    loads("both", NULL, NULL);
    does_not_load("nowhere", "key", NULL, WS_ESYSTEM, "nowhere", "No such file or directory");
    is_int(errno, ENOENT, "errno");
    does_not_load("cert", "nowhere", NULL, WS_ESYSTEM, "nowhere", "No such file or directory");
    does_not_load(".", "key", NULL, WS_ESYSTEM, ".", "Is a directory");
    does_not_load("empty", "key", NULL, WS_EINVAL, "empty", "there is no usable certificate");
    does_not_load("text", "key", NULL, WS_EINVAL, "text", "there is no usable certificate");
    does_not_load("broken", "key", NULL, WS_EINVAL, "broken", "there is no usable certificate");
    does_not_load("key", "key", NULL, WS_EINVAL, "key", "there is no usable certificate");
    does_not_load("cert", "empty", NULL, WS_EINVAL, "empty", "there is no usable private key");
    does_not_load("cert", "text", NULL, WS_EINVAL, "text", "there is no usable private key");
    does_not_load("cert", "cert", NULL, WS_EINVAL, "cert", "there is no usable private key");
    does_not_load("cert", NULL, NULL, WS_EINVAL, "cert", "there is no usable private key");
    does_not_load("cert", "other", NULL, WS_EINVAL, "other",
                  "the private key does not belong to the certificate");
    does_not_load("cert", "secret", NULL, WS_EINVAL, "secret",
                  "the private key is encrypted, and no password was given");
    does_not_load("cert", "secret", "wrong", WS_EINVAL, "secret",
                  "the private key cannot be decrypted with this password");
    does_not_load("cert", "secret", "", WS_EINVAL, "secret",
                  "the private key cannot be decrypted with this password");
    remove_files();
    stop();
}

/* Whether a client that knows no other groups for the exchange of keys gets a connection. */
static void exchanges(const char *groups, bool accepted)
{
    struct tls_link link;
    if (!SSL_CTX_set1_groups_list(clients, groups))
        ok(false, "this OpenSSL has the groups %s", groups);
    const int result = shake(&link, openssl, NULL);
    is_int(result, accepted ? WS_TLS_DONE : WS_TLS_FAILED,
           "L4: a client that offers only %s", groups);
    if (!accepted)
        is_int(link.client_reason, SSL_AD_REASON_OFFSET + SSL_AD_HANDSHAKE_FAILURE, "the alert");
    end(&link);
}

/* The same where the server has these groups alone, and asks the client for another share. */
static void retries(const char *server, const char *groups, bool accepted)
{
    SSL_CTX_set1_groups_list(contexts[0], server);
    exchanges(groups, accepted);
}

/* L4: a client could make the server compute for 90 ms by one message, with FFDHE of 8192 bits. */
static void test_groups(void)
{
    struct ssl_ctx_st *loaded;
    start();
    make_files();
    is_int(load("cert", "key", NULL, &loaded), WS_OK, "a context");
    is_int(SSL_CTX_get_session_cache_mode(loaded), SSL_SESS_CACHE_OFF, "L4: it keeps no sessions");
    set(openssl, "*", loaded);
    ws_openssl_free_context(openssl, loaded);
    exchanges("X25519", true);
    exchanges("P-256", true);
    exchanges("P-384", true);
    exchanges("P-521:P-384", true);
    exchanges("P-521", false);
    exchanges("X448", false);
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    exchanges("ffdhe8192", false);
    exchanges("ffdhe2048", false);
#endif
#if OPENSSL_VERSION_NUMBER >= 0x30500000L
    exchanges("X25519MLKEM768", true);
#endif
    remove_files();
    stop();
}

/* Other contexts keep theirs but FFDHE, unless they are asked to have the same. */
static void test_groups_of_other_contexts(void)
{
    start();
    set(openssl, "*", contexts[0]);
    exchanges("P-521", true);
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    exchanges("X25519:ffdhe2048", true);
    exchanges("ffdhe2048", false);
    exchanges("ffdhe2048:X25519", false);
    retries("P-384", "X25519:P-384", true);
    retries("ffdhe2048", "P-384:ffdhe2048", false);
#endif
    is_int(ws_openssl_set_defaults(openssl, contexts[0]), WS_OK, "ws_openssl_set_defaults");
    exchanges("P-521", false);
    exchanges("X25519", true);
    stop();
}

/* ---- the table ---------------------------------------------------------------------------- */

static unsigned long old_version(void)
{
    return 0x1010012f;
}

static void test_functions(void)
{
    ws_openssl_functions functions = *ws_openssl_linked();
    ws_openssl *o = (void *)&functions;
    functions.size--;
    is_int(ws_openssl_new(&o, &functions), WS_EABI, "another size");
    ok(!o, "there is none");
    functions = *ws_openssl_linked();
    functions.SSL_write = NULL;
    is_int(ws_openssl_new(&o, &functions), WS_EINVAL, "a function is missing");
    functions = *ws_openssl_linked();
    functions.SSL_get1_peer_certificate = NULL;
    is_int(ws_openssl_new(&o, &functions), WS_EINVAL, "the last one is missing");
    functions = *ws_openssl_linked();
    functions.OpenSSL_version_num = old_version;
    is_int(ws_openssl_new(&o, &functions), WS_ENOTSUP, "OpenSSL 1.1.0");
    is_int(ws_openssl_abi(), WS_ABI, "ABI");
    ws_openssl_free(NULL);
}

static void cases(void)
{
    CASE(test_names(TLS1_2_VERSION));
    CASE(test_names(TLS1_3_VERSION));
    CASE(test_unknown_names(TLS1_2_VERSION));
    CASE(test_unknown_names(TLS1_3_VERSION));
    CASE(test_settings_of_a_name());
    CASE(test_many_names());
    CASE(test_bad_contexts());
    CASE(test_replacement(false));
    CASE(test_replacement(true));
    CASE(test_client_certificates(TLS1_2_VERSION));
    CASE(test_client_certificates(TLS1_3_VERSION));
    CASE(test_protocols(TLS1_2_VERSION));
    CASE(test_protocols(TLS1_3_VERSION));
    CASE(test_files());
    CASE(test_groups());
    CASE(test_groups_of_other_contexts());
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
