/* SPDX-License-Identifier: MIT */
/*
 * one_client.h: a server and one client of it, which may be slow.
 */
#ifndef ONE_CLIENT_H
#define ONE_CLIENT_H

#include "harness.h"

extern struct harness h;
extern struct client c;
extern char payload[4 << 20];

void stop(const char *name); /* c closes, and the server is freed */

/* Sends messages of this size until the kernel takes no more, so that something is queued. */
void fill(ws_conn *conn, size_t size);

/* Checks with another client that the server still answers. */
void expect_alive(void);

#endif
