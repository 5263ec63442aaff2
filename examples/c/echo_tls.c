/* SPDX-License-Identifier: MIT */
/*
 * echo_tls.c: a WebSocket echo server that speaks TLS (wss), with OpenSSL.
 *
 *     echo_tls --cert FILE --key FILE [--port N] [--host ADDRESS] [--max-payload BYTES]
 *              [--max-backpressure BYTES] [--compression shared|dedicated]
 *
 * The files are in PEM format; the first one has the certificates of intermediate authorities, too.
 * For a try, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj
 * /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem` makes both.
 *
 * A message to /broadcast goes to every connection of that path, including its sender. With port 0,
 * the default, the kernel chooses a port. The first line of output shows it. SIGHUP loads the files
 * again: new connections get the new certificate, and others are not disturbed. SIGINT and SIGTERM
 * shut down gracefully.
 */
#include "ws.h"
#include "ws_openssl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ws_server *server;
static ws_openssl *openssl;
static const char *cert_file, *key_file, *host = "127.0.0.1";
static size_t port, max_payload = 16 * 1024 * 1024, max_backpressure;
static uint32_t compression; /* with --compression, clients may offer permessage-deflate */
static int compress;         /* WS_COMPRESS or 0 */
static const char topic[] = "broadcast";

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode | compress);
}

static void on_broadcast_open(ws_conn *conn, void *user)
{
    (void)user;
    ws_conn_subscribe(conn, topic, strlen(topic));
}

static void on_broadcast(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_publish(conn, topic, strlen(topic), data, length, opcode | compress,
                    false);
}

static int add_routes(void)
{
    ws_behavior echo;
    ws_behavior_init(&echo, sizeof echo);
    echo.max_payload_length = max_payload;
    echo.compression = compression;
    if (max_backpressure)
        echo.max_backpressure = max_backpressure;
    echo.on_message = on_message;
    ws_behavior broadcast = echo;
    broadcast.on_open = on_broadcast_open;
    broadcast.on_message = on_broadcast;
    const int error = ws_server_ws(server, "/*", &echo);
    return error ? error : ws_server_ws(server, "/broadcast", &broadcast);
}

/* Uses the certificate for all names. If it cannot be loaded, the previous one stays in use. */
static bool load_certificate(void)
{
    char error[WS_OPENSSL_ERROR_SIZE];
    struct ssl_ctx_st *context;
    if (ws_openssl_load_context(openssl, cert_file, key_file, NULL, &context, error)) {
        fprintf(stderr, "echo_tls: %s\n", error);
        return false;
    }
    const ws_openssl_context all = {"*", context};
    const bool done = ws_openssl_set_contexts(openssl, &all, 1) == WS_OK;
    ws_openssl_free_context(openssl, context); /* set_contexts keeps it */
    return done;
}

/* A signal handler may do no more than set a flag and wake up the loop. */
static volatile sig_atomic_t stopping, reloading;

static void on_signal(int number)
{
    signal(number, on_signal); /* ISO C may have reset it, as glibc does with -std=c11 */
    if (number == SIGHUP)
        reloading = 1;
    else
        stopping = 1;
    ws_server_wakeup(server);
}

static int serve(void)
{
    int result;
    signal(SIGHUP, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0) {
        if (reloading) {
            reloading = 0;
            load_certificate();
        }
        if (stopping) {
            stopping = 0;
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
        }
    }
    return result;
}

static size_t number(const char *name, const char *text, size_t most)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value > most) {
        fprintf(stderr, "echo_tls: %s is from 0 to %zu, not '%s'\n", name, most, text);
        exit(2);
    }
    return (size_t)value;
}

static bool parse_compression(const char *text)
{
    compress = WS_COMPRESS;
    if (!strcmp(text, "shared"))
        compression = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR;
    else if (!strcmp(text, "dedicated"))
        compression = WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB;
    return compression;
}

/* Every option has a value. Returns false if the command line is not as it should be. */
static bool parse(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (!strcmp(argv[i], "--cert"))
            cert_file = argv[i + 1];
        else if (!strcmp(argv[i], "--key"))
            key_file = argv[i + 1];
        else if (!strcmp(argv[i], "--host"))
            host = argv[i + 1];
        else if (!strcmp(argv[i], "--port"))
            port = number(argv[i], argv[i + 1], 65535);
        else if (!strcmp(argv[i], "--max-payload"))
            max_payload = number(argv[i], argv[i + 1], SIZE_MAX / 4);
        else if (!strcmp(argv[i], "--max-backpressure"))
            max_backpressure = number(argv[i], argv[i + 1], SIZE_MAX / 4);
        else if (strcmp(argv[i], "--compression") != 0 || !parse_compression(argv[i + 1]))
            return false;
    return argc % 2 && cert_file && key_file;
}

/* Returns the port or an error. */
static int start(void)
{
    ws_listen_options options;
    int error = ws_openssl_new(&openssl, ws_openssl_linked());
    if (error || (error = ws_server_new(&server, NULL)) || (error = add_routes()))
        return error;
    if (!load_certificate())
        exit(1);
    ws_listen_options_init(&options, sizeof options);
    options.host = host;
    options.port = (uint16_t)port;
    options.tls = ws_openssl_tls(openssl);
    return ws_server_listen(server, &options);
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fputs("usage: echo_tls --cert FILE --key FILE [--port N] [--host ADDRESS]\n"
              "                [--max-payload BYTES] [--max-backpressure BYTES]\n"
              "                [--compression shared|dedicated]\n",
              stderr);
        return 2;
    }
    int result = start();
    if (result >= 0) {
        printf("listening on %s:%d\n", host, result);
        fflush(stdout);
        result = serve();
    }
    if (result)
        fprintf(stderr, "echo_tls: %s%s%s\n", ws_strerror(result),
                result == WS_ESYSTEM ? ": " : "", result == WS_ESYSTEM ? strerror(errno) : "");
    /* The server comes first: it uses the table of the other one. */
    ws_server_free(server);
    ws_openssl_free(openssl);
    return result != 0;
}
