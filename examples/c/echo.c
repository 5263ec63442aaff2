/*
 * echo.c: a WebSocket echo server in C: every message goes back to its sender.
 *
 *     echo [--port N] [--host ADDRESS] [--max-payload BYTES] [--max-backpressure BYTES]
 *
 * Port 0 (the default) lets the kernel pick one; the first line printed tells which. SIGINT and
 * SIGTERM shut down gracefully.
 */
#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ws_server *server;

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode);
}

static void shut_down(void *argument)
{
    (void)argument;
    ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
}

/* ws_server_defer allocates, which a signal handler may not: only a flag and a wake-up here. */
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

static int listen_on(const char *host, unsigned long port)
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
        if (stopping)
            shut_down(NULL);
    return result ? fail("run", result) : 0;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1";
    unsigned long port = 0;
    ws_behavior behavior;
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.on_message = on_message;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port"))
            port = strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--host"))
            host = argv[i + 1];
        else if (!strcmp(argv[i], "--max-payload"))
            behavior.max_payload_length = strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--max-backpressure"))
            behavior.max_backpressure = strtoul(argv[i + 1], NULL, 10);
    }
    int error = ws_server_new(&server, NULL);
    if (error)
        return fail("new", error);
    error = ws_server_ws(server, "/*", &behavior);
    if (error)
        return fail("route", error);
    int real_port = listen_on(host, port);
    if (real_port < 0)
        return fail("listen", real_port);
    printf("listening on %s:%d\n", host, real_port);
    fflush(stdout);
    int status = serve();
    ws_server_free(server);
    return status;
}
