/* SPDX-License-Identifier: MIT */
/*
 * loop_poll.c: a server in a program that has a loop of its own, here around poll(2).
 *
 *     loop_poll [PORT]
 *
 * To the loop, the whole server is one descriptor: when that is readable, ws_server_step has
 * something to do. The other descriptor of this loop is standard input: what is typed there goes to
 * all clients, while what a client sends goes back to it. With port 0, the default, the kernel
 * chooses a port. SIGINT and SIGTERM shut down gracefully.
 */
#include "ws.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ws_server *server;
static volatile sig_atomic_t stopping;

static void on_open(ws_conn *conn, void *user)
{
    (void)user;
    ws_conn_subscribe(conn, "input", 5);
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode);
}

/* Returns the port or an error. */
static int start(uint16_t port)
{
    ws_behavior behavior;
    ws_listen_options options;
    int error = ws_server_new(&server, NULL);
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.on_open = on_open;
    behavior.on_message = on_message;
    if (!error)
        error = ws_server_ws(server, "/", &behavior);
    if (error)
        return error;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.port = port;
    return ws_server_listen(server, &options);
}

/* The wake-up makes the descriptor of the server readable, so that no signal is missed. */
static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    ws_server_wakeup(server);
}

/* Returns false at the end of the input. */
static bool read_input(void)
{
    char text[4096];
    const ssize_t n = read(STDIN_FILENO, text, sizeof text);
    if (n > 0)
        ws_server_publish(server, "input", 5, text, (size_t)n, WS_BINARY);
    return n > 0 || (n < 0 && errno == EINTR);
}

static int run_loop(void)
{
    struct pollfd fds[] = {{ws_server_fd(server), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    int result = 1;
    while (result > 0) {
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR: a signal */
        if (fds[1].revents && !read_input())
            fds[1].fd = -1; /* poll ignores it */
        if (stopping)
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
        if (fds[0].revents || stopping)
            result = ws_server_step(server, 0);
    }
    return result;
}

int main(int argc, char **argv)
{
    int result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        printf("listening on ws://127.0.0.1:%d\n", result);
        fflush(stdout);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        result = run_loop();
    }
    if (result)
        fprintf(stderr, "loop_poll: %s\n", ws_strerror(result));
    ws_server_free(server);
    return result != 0;
}
