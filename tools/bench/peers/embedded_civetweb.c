/* SPDX-License-Identifier: MIT */
/* embedded_civetweb.c: the echo server that embedded.py measures of civetweb. */
#include <civetweb.h>

#include <stdio.h>
#include <unistd.h>

static int on_message(struct mg_connection *conn, int bits, char *data, size_t length, void *user)
{
    (void)user;
    return mg_websocket_write(conn, bits & 15, data, length) > 0;
}

int main(void)
{
    /* Each connection keeps a thread; embedded.py opens 500. */
    const char *options[] = {"listening_ports", "127.0.0.1:0", "num_threads", "520", NULL};
    struct mg_server_port port;
    struct mg_context *context;

    mg_init_library(0);
    context = mg_start(NULL, NULL, options);
    if (context == NULL || mg_get_server_ports(context, 1, &port) != 1)
        return 1;
    mg_set_websocket_handler(context, "/", NULL, NULL, on_message, NULL, NULL);
    printf("listening on 127.0.0.1:%d\n", port.port);
    fflush(stdout);
    return pause();
}
