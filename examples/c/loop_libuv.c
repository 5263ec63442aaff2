/* SPDX-License-Identifier: MIT */
/*
 * loop_libuv.c: a server in the loop of libuv.
 *
 *     loop_libuv [PORT]
 *
 * To the loop, the whole server is one descriptor: when that is readable, ws_server_step has
 * something to do. A timer of libuv sends "tick" to all clients every second, while what a client
 * sends goes back to it. With port 0, the default, the kernel chooses a port. SIGINT and SIGTERM
 * shut down gracefully.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* uv.h */
#endif

#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static ws_server *server;
static int result; /* of the server */

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

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    result = ws_server_step(server, 0);
    if (result <= 0)
        uv_stop(poll->loop); /* the shutdown is over */
}

static void on_second(uv_timer_t *timer)
{
    (void)timer;
    ws_server_publish(server, "clock", 5, "tick", 4, WS_TEXT);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)handle, (void)number;
    ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
}

static void run_loop(uv_loop_t *loop)
{
    uv_poll_t poll;
    uv_timer_t timer;
    uv_signal_t interrupt, terminate;
    uv_poll_init(loop, &poll, ws_server_fd(server));
    uv_poll_start(&poll, UV_READABLE, on_ready);
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, on_second, 1000, 1000);
    uv_signal_init(loop, &interrupt);
    uv_signal_start(&interrupt, on_signal, SIGINT);
    uv_signal_init(loop, &terminate);
    uv_signal_start(&terminate, on_signal, SIGTERM);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&poll, NULL); /* before its descriptor is closed */
    uv_close((uv_handle_t *)&timer, NULL);
    uv_close((uv_handle_t *)&interrupt, NULL);
    uv_close((uv_handle_t *)&terminate, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
    result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        printf("listening on ws://127.0.0.1:%d\n", result);
        fflush(stdout);
        run_loop(uv_default_loop());
    }
    if (result)
        fprintf(stderr, "loop_libuv: %s\n", ws_strerror(result));
    ws_server_free(server);
    return result != 0;
}
