/* SPDX-License-Identifier: MIT */
/*
 * chat.c: a page from memory, and a chat on the sockets that it opens.
 *
 *     chat [PORT]
 *
 * GET / is a constant of the program, sent without a copy. A client that connects to /chat/kitchen
 * subscribes to the topic "kitchen", and what it sends goes to all subscribers of it. With port 0,
 * the default, the kernel chooses a port. SIGINT and SIGTERM shut down gracefully.
 */
#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ws_server *server;
static volatile sig_atomic_t stopping;

static const char page[] =
    "<!doctype html><title>Chat</title>"
    "<form><input id=text autofocus autocomplete=off></form><pre id=log></pre>"
    "<script>\n"
    "const room = location.hash.slice(1) || 'kitchen';\n"
    "const socket = new WebSocket(location.origin.replace('http', 'ws') + '/chat/' + room);\n"
    "socket.onmessage = (e) => log.textContent += e.data + '\\n';\n"
    "socket.onclose = () => log.textContent += 'The connection is closed.\\n';\n"
    "document.forms[0].onsubmit = (e) => {\n"
    "  e.preventDefault();\n"
    "  socket.send(text.value);\n"
    "  text.value = '';\n"
    "};\n"
    "</script>";

static void get_page(ws_request *request, void *user)
{
    static const char type[] = "text/html; charset=utf-8";
    (void)user;
    ws_request_add_header(request, "Content-Type", 12, type, sizeof type - 1);
    ws_request_respond_static(request, 200, NULL, page, sizeof page - 1);
}

static void on_open(ws_conn *conn, void *user)
{
    size_t length;
    const char *room = ws_request_parameter(ws_conn_request(conn), 0, &length);
    (void)user;
    ws_conn_subscribe(conn, room, length);
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    size_t room_length;
    const char *room = ws_conn_topic_at(conn, 0, &room_length);
    (void)user;
    if (room) /* otherwise there was no memory for it */
        ws_conn_publish(conn, room, room_length, data, length, opcode, false);
}

/* Returns the port or an error. */
static int start(uint16_t port)
{
    ws_behavior chat;
    ws_listen_options options;
    int error = ws_server_new(&server, NULL);
    ws_behavior_init(&chat, sizeof chat);
    chat.on_open = on_open;
    chat.on_message = on_message;
    if (!error)
        error = ws_server_ws(server, "/chat/:room", &chat);
    if (!error)
        error = ws_server_http(server, "GET", "/", get_page, NULL);
    if (error)
        return error;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.port = port;
    return ws_server_listen(server, &options);
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    ws_server_wakeup(server);
}

static int serve(void)
{
    int result;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0)
        if (stopping)
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
    return result;
}

int main(int argc, char **argv)
{
    int result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        printf("listening on http://127.0.0.1:%d\n", result);
        fflush(stdout);
        result = serve();
    }
    if (result)
        fprintf(stderr, "chat: %s\n", ws_strerror(result));
    ws_server_free(server);
    return result != 0;
}
