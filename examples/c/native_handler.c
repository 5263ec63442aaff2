/* SPDX-License-Identifier: MIT */
/*
 * native_handler.c: C handlers for the Python server examples/py/native_handler.py.
 *
 *     cc -shared -fPIC -I csrc -o native_handler.so examples/c/native_handler.c
 *
 * It links to no library: it uses the functions of the libpyws.so in the Python process.
 */
#include "ws.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT void echo(ws_conn *conn, char *data, size_t length, int opcode, void *user);
EXPORT void count_ping(ws_conn *conn, const char *data, size_t length, void *user);
EXPORT unsigned long echoed(void);
EXPORT unsigned long pings(void);

static unsigned long echo_count, ping_count;

/* A ws_behavior.on_message. Only pyws may use `user`. */
void echo(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    echo_count++;
    ws_conn_send(conn, data, length, opcode);
}

/* A ws_behavior.on_ping. */
void count_ping(ws_conn *conn, const char *data, size_t length, void *user)
{
    (void)conn;
    (void)data;
    (void)length;
    (void)user;
    ping_count++;
}

unsigned long echoed(void)
{
    return echo_count;
}

unsigned long pings(void)
{
    return ping_count;
}
