/* SPDX-License-Identifier: MIT */
/*
 * one_client.c: a server and one client, see one_client.h.
 */
#include "one_client.h"

#include <poll.h>

struct harness h;
struct client c;
char payload[4 << 20];

void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, name);
}

void fill(ws_conn *conn, size_t size)
{
    for (int still = 0; still < 5;) {
        while (!ws_conn_buffered_amount(conn))
            ws_conn_send(conn, payload, size, WS_BINARY);
        struct pollfd writable = {ws_server_fd(h.server), POLLIN, 0};
        poll(&writable, 1, 20); /* a delayed ACK may still make room */
        turns(&h, 2);
        still = ws_conn_buffered_amount(conn) ? still + 1 : 0;
    }
    harness_events(&h);
}

void expect_alive(void)
{
    struct client other;
    h.hook = NULL;
    h.answers = false;
    client_open(&other, &h);
    client_frame(&other, 0x89, "alive", 5);
    is_frames(&other, "PONG alive", "the server continues");
    client_close(&other);
}
