/* SPDX-License-Identifier: MIT */
/*
 * loop_uloop.c: a server in the loop of libubox, as programs for OpenWrt have it.
 *
 *     loop_uloop [PORT]
 *
 * To the loop, the whole server is one descriptor: when that is readable, ws_server_step has
 * something to do. A timer of libubox sends "tick" to all clients every second, while what a client
 * sends goes back to it. With port 0, the default, the kernel chooses a port. SIGINT and SIGTERM
 * shut down gracefully.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* uloop.h */
#endif

#include "ws.h"

#include <libubox/uloop.h>
#include <stdio.h>
#include <stdlib.h>

static ws_server *server;

static void on_open(ws_conn *conn, void *user)
{
    (void)user;
    ws_conn_subscribe(conn, "clock", 5);
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

static void on_ready(struct uloop_fd *fd, unsigned events)
{
    (void)fd, (void)events;
    if (ws_server_step(server, 0) < 0)
        uloop_end();
}

static void on_second(struct uloop_timeout *timeout)
{
    ws_server_publish(server, "clock", 5, "tick", 4, WS_TEXT);
    uloop_timeout_set(timeout, 1000);
}

/* SIGINT and SIGTERM end uloop_run. The clients get their Close frames after that. */
static int run_loop(void)
{
    struct uloop_fd ready = {.cb = on_ready, .fd = ws_server_fd(server)};
    struct uloop_timeout second = {.cb = on_second};
    uloop_init();
    uloop_fd_add(&ready, ULOOP_READ);
    uloop_timeout_set(&second, 1000);
    uloop_run();
    uloop_fd_delete(&ready); /* before it is closed */
    uloop_done();
    ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
    return ws_server_run(server);
}

int main(int argc, char **argv)
{
    int result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        printf("listening on ws://127.0.0.1:%d\n", result);
        fflush(stdout);
        result = run_loop();
    }
    if (result)
        fprintf(stderr, "loop_uloop: %s\n", ws_strerror(result));
    ws_server_free(server);
    return result != 0;
}
