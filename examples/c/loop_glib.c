/* SPDX-License-Identifier: MIT */
/*
 * loop_glib.c: a server in the main loop of GLib, as programs for GTK and D-Bus have it.
 *
 *     loop_glib [PORT]
 *
 * To the loop, the whole server is one descriptor: when that is readable, ws_server_step has
 * something to do. A timer of GLib sends "tick" to all clients every second, while what a client
 * sends goes back to it. With port 0, the default, the kernel chooses a port. SIGINT and SIGTERM
 * shut down gracefully.
 */
#include "ws.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static ws_server *server;
static GMainLoop *loop;
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

static gboolean on_ready(gint fd, GIOCondition condition, gpointer user)
{
    (void)fd, (void)condition, (void)user;
    result = ws_server_step(server, 0);
    if (result > 0)
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(loop); /* the shutdown is over */
    return G_SOURCE_REMOVE;
}

static gboolean on_second(gpointer user)
{
    (void)user;
    ws_server_publish(server, "clock", 5, "tick", 4, WS_TEXT);
    return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer user)
{
    (void)user;
    ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
    return G_SOURCE_CONTINUE;
}

static void run_loop(void)
{
    loop = g_main_loop_new(NULL, FALSE);
    g_unix_fd_add(ws_server_fd(server), G_IO_IN, on_ready, NULL);
    g_unix_signal_add(SIGINT, on_signal, NULL);
    g_unix_signal_add(SIGTERM, on_signal, NULL);
    g_timeout_add_seconds(1, on_second, NULL);
    g_main_loop_run(loop);
    g_main_loop_unref(loop);
}

int main(int argc, char **argv)
{
    result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        printf("listening on ws://127.0.0.1:%d\n", result);
        fflush(stdout);
        run_loop();
    }
    if (result)
        fprintf(stderr, "loop_glib: %s\n", ws_strerror(result));
    ws_server_free(server);
    return result != 0;
}
