/* SPDX-License-Identifier: MIT */
/*
 * echo_mbedtls.c: a WebSocket echo server that speaks TLS (wss) by Mbed TLS 2.28 or 3.x.
 *
 *     echo_mbedtls --cert FILE --key FILE [--port N]
 *
 * The two files are in PEM format, and the key is not encrypted. With port 0, the default, the
 * kernel chooses a port, which the first line of output shows. SIGHUP reads the files again: new
 * connections get the renewed certificate. SIGINT and SIGTERM shut down gracefully.
 */
#include "ws_mbedtls.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

/* A certificate and what connections with it do. */
struct identity {
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
};

static ws_server *server;
static ws_mbedtls mbedtls;
static struct identity identities[2]; /* the current one, and the one before */
static size_t current;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context drbg;
static const char *certificate_file, *key_file;
static const char *protocols[] = {"http/1.1", NULL};

/* ---- TLS ---------------------------------------------------------------------------------- */

static bool complain(const char *what, int error)
{
    char text[200];
    mbedtls_strerror(error, text, sizeof text);
    fprintf(stderr, "echo_mbedtls: %s: %s\n", what, text);
    return false;
}

static int load_key(mbedtls_pk_context *key)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_pk_parse_keyfile(key, key_file, NULL, mbedtls_ctr_drbg_random, &drbg);
#else
    return mbedtls_pk_parse_keyfile(key, key_file, NULL);
#endif
}

static void init_identity(struct identity *i)
{
    mbedtls_ssl_config_init(&i->config);
    mbedtls_x509_crt_init(&i->certificate);
    mbedtls_pk_init(&i->key);
}

static void free_identity(struct identity *i)
{
    mbedtls_ssl_config_free(&i->config);
    mbedtls_x509_crt_free(&i->certificate);
    mbedtls_pk_free(&i->key);
}

static bool load_identity(struct identity *i)
{
    int error = mbedtls_x509_crt_parse_file(&i->certificate, certificate_file);
    if (error)
        return complain(certificate_file, error);
    error = load_key(&i->key);
    if (error)
        return complain(key_file, error);
    error = mbedtls_ssl_config_defaults(&i->config, MBEDTLS_SSL_IS_SERVER,
                                        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (!error)
        error = mbedtls_ssl_conf_own_cert(&i->config, &i->certificate, &i->key);
    if (!error)
        error = mbedtls_ssl_conf_alpn_protocols(&i->config, protocols);
    if (error)
        return complain("configuration", error);
    mbedtls_ssl_conf_rng(&i->config, mbedtls_ctr_drbg_random, &drbg);
#if MBEDTLS_VERSION_NUMBER < 0x03000000 /* which would also speak TLS 1.0 and 1.1 */
    mbedtls_ssl_conf_min_version(&i->config, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    return true;
}

static bool start_tls(void)
{
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    init_identity(&identities[0]);
    init_identity(&identities[1]);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (psa_crypto_init())
        return complain("random numbers", MBEDTLS_ERR_ENTROPY_SOURCE_FAILED);
#endif
    const int error = mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0);
    if (error)
        return complain("random numbers", error);
    return load_identity(&identities[0]) &&
           ws_mbedtls_init(&mbedtls, sizeof mbedtls, &identities[0].config) == WS_OK;
}

/* The other identity is free once the connections that have begun with it are closed. If a file
 * cannot be used, everything stays as it is. */
static void reload(void)
{
    struct identity *next = &identities[!current];
    if (ws_mbedtls_outdated(&mbedtls)) {
        fputs("echo_mbedtls: there are still connections with the certificate before\n", stderr);
        return;
    }
    free_identity(next);
    init_identity(next);
    if (!load_identity(next))
        return;
    ws_mbedtls_set_config(&mbedtls, &next->config);
    current = !current;
}

static void stop_tls(void)
{
    free_identity(&identities[0]);
    free_identity(&identities[1]);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_psa_crypto_free();
#endif
}

/* ---- the server --------------------------------------------------------------------------- */

static volatile sig_atomic_t caught; /* a signal, until it is handled */

static void on_signal(int number)
{
    signal(number, on_signal); /* ISO C may have reset it, as glibc does with -std=c11 */
    caught = number;
    ws_server_wakeup(server);
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode | WS_COMPRESS);
}

static int add_routes(void)
{
    ws_behavior behavior;
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.on_message = on_message;
    behavior.max_payload_length = 16 << 20;
    behavior.max_backpressure = 128 << 20;
    behavior.compression = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR;
    const int error = ws_server_ws(server, "/*", &behavior);
    if (error != WS_ENOTSUP)
        return error;
    behavior.compression = 0; /* the library was built without zlib */
    return ws_server_ws(server, "/*", &behavior);
}

/* Returns the port or an error. */
static int listen_on(uint16_t port)
{
    ws_listen_options options;
    int error = ws_server_new(&server, NULL);
    if (!error)
        error = add_routes();
    if (error)
        return error;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.port = port;
    options.tls = &mbedtls.tls;
    return ws_server_listen(server, &options);
}

static int serve(int port)
{
    int result;
    printf("listening on wss://127.0.0.1:%d\n", port);
    fflush(stdout);
    signal(SIGHUP, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0) {
        const int number = caught;
        caught = 0;
        if (number == SIGHUP)
            reload();
        else if (number)
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
    }
    return result;
}

/* Every option has a value. Returns the port, or -1 if the command line is not as it should be. */
static long parse(int argc, char **argv)
{
    long port = 0;
    for (int i = 1; i + 1 < argc; i += 2)
        if (!strcmp(argv[i], "--cert"))
            certificate_file = argv[i + 1];
        else if (!strcmp(argv[i], "--key"))
            key_file = argv[i + 1];
        else if (!strcmp(argv[i], "--port"))
            port = atol(argv[i + 1]);
        else
            return -1;
    return argc % 2 && certificate_file && key_file && port <= 65535 ? port : -1;
}

int main(int argc, char **argv)
{
    const long port = parse(argc, argv);
    if (port < 0) {
        fputs("usage: echo_mbedtls --cert FILE --key FILE [--port N]\n", stderr);
        return 2;
    }
    bool fine = start_tls();
    if (fine) {
        int result = listen_on((uint16_t)port);
        if (result > 0)
            result = serve(result);
        if (result < 0)
            fprintf(stderr, "echo_mbedtls: %s\n", ws_strerror(result));
        fine = result >= 0;
    }
    ws_server_free(server);
    stop_tls();
    return fine ? 0 : 1;
}
