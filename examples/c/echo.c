/* SPDX-License-Identifier: MIT */
/*
 * echo.c: a WebSocket echo server in C: every message goes back to its sender.
 *
 *     echo [--port N] [--host ADDRESS] [--max-payload BYTES] [--max-backpressure BYTES]
 *          [--compression shared|dedicated] [--print-port]
 *
 * A message to /broadcast goes to every connection of that path, including its sender. With
 * --compression, clients that offer permessage-deflate get compressed messages. With port 0, the
 * default, the kernel chooses a port. The first line of output shows it; with --print-port, that
 * line contains only the port. SIGINT and SIGTERM shut down gracefully.
 */
#include "ws.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ws_server *server;
static int compress; /* WS_COMPRESS or 0 */
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
    ws_conn_publish(conn, topic, strlen(topic), data, length, opcode | compress, false);
}

static void shut_down(void)
{
    ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
}

/* A signal handler may not call ws_server_defer, which allocates, so set a flag and wake up. */
static volatile sig_atomic_t stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopping = 1;
    ws_server_wakeup(server);
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "echo: %s: %s\n", what, ws_strerror(error));
    if (error == WS_ESYSTEM)
        perror("echo");
    return 1;
}

static int listen_on(const char *host, size_t port)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    options.host = host;
    options.port = (uint16_t)port;
    return ws_server_listen(server, &options);
}

static int serve(void)
{
    int result;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0)
        if (stopping) {
            stopping = 0;
            shut_down();
        }
    return result ? fail("run", result) : 0;
}

static const char usage[] =
    "usage: echo [--port N] [--host ADDRESS] [--max-payload BYTES] [--max-backpressure BYTES]\n"
    "            [--compression shared|dedicated] [--print-port]\n";

/* Parses a number from 0 to `most`; exits for anything else. */
static size_t number(const char *name, const char *text, size_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value > most) {
        fprintf(stderr, "echo: %s must be a number from 0 to %zu, not '%s'\n", name, most, text);
        exit(2);
    }
    return (size_t)value;
}

static uint32_t compression(const char *text)
{
    compress = WS_COMPRESS;
    if (!strcmp(text, "shared"))
        return WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR;
    if (!strcmp(text, "dedicated"))
        return WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB;
    fprintf(stderr, "echo: --compression must be shared or dedicated, not '%s'\n", text);
    exit(2);
}

struct arguments {
    const char *host;
    size_t port;
    bool print_port;
    ws_behavior behavior;
};

/* Handles an option and returns whether it exists. Its value is NULL at the end of the command. */
static bool take(struct arguments *a, const char *name, const char *value)
{
    if (value && !strcmp(name, "--port"))
        a->port = number(name, value, 65535);
    else if (value && !strcmp(name, "--host"))
        a->host = value;
    else if (value && !strcmp(name, "--max-payload"))
        a->behavior.max_payload_length = number(name, value, SIZE_MAX / 4);
    else if (value && !strcmp(name, "--max-backpressure"))
        a->behavior.max_backpressure = number(name, value, SIZE_MAX / 4);
    else if (value && !strcmp(name, "--compression"))
        a->behavior.compression = compression(value);
    else
        return false;
    return true;
}

static void parse(struct arguments *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--print-port"))
            a->print_port = true;
        else if (take(a, argv[i], argv[i + 1])) /* argv[argc] is NULL */
            i++;
        else {
            fputs(usage, stderr);
            exit(2);
        }
    }
}

static int add_routes(const ws_behavior *echo)
{
    ws_behavior broadcast = *echo;
    broadcast.on_open = on_broadcast_open;
    broadcast.on_message = on_broadcast;
    int error = ws_server_ws(server, "/*", echo);
    return error ? error : ws_server_ws(server, "/broadcast", &broadcast);
}

int main(int argc, char **argv)
{
    struct arguments a = {.host = "127.0.0.1"};
    ws_behavior_init(&a.behavior, sizeof a.behavior);
    a.behavior.on_message = on_message;
    parse(&a, argc, argv);
    int error = ws_server_new(&server, NULL);
    if (error)
        return fail("new", error);
    error = add_routes(&a.behavior);
    if (error)
        return fail("route", error);
    int real_port = listen_on(a.host, a.port);
    if (real_port < 0)
        return fail("listen", real_port);
    if (a.print_port)
        printf("%d\n", real_port);
    else
        printf("listening on %s:%d\n", a.host, real_port);
    fflush(stdout);
    int status = serve();
    ws_server_free(server);
    return status;
}
