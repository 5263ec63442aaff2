/* SPDX-License-Identifier: MIT */
/* minimal.c: an echo server in twenty lines, at ws://127.0.0.1:8000. Ctrl-C ends it. */
#include "ws.h"

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode);
}

int main(void)
{
    ws_server *server;
    ws_behavior behavior;
    ws_listen_options options;
    ws_behavior_init(&behavior, sizeof behavior);
    ws_listen_options_init(&options, sizeof options);
    behavior.on_message = on_message;
    options.host = "127.0.0.1";
    options.port = 8000;
    return ws_server_new(&server, NULL) || ws_server_ws(server, "/", &behavior) ||
           ws_server_listen(server, &options) < 0 || ws_server_run(server);
}
