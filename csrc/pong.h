/* SPDX-License-Identifier: MIT */
/*
 * pong.h: which answers to Pings wait in the queue. All Pings are answered while the kernel takes
 * the answers; once it is full only the newest answer is kept (RFC 6455 5.5.3, F12), also of those
 * that were corked before that was known.
 */
#ifndef WS__PONG_H
#define WS__PONG_H

#include "conn.h"

/* An answer to a Ping was queued, all of its `size` bytes unless some of it was written already. It
 * replaces one that waits while the kernel is full. */
void ws__pong_queued(ws_conn *c, size_t size);
/* The kernel took less than the queue, in which a Pong is marked. */
void ws__pong_left(ws_conn *c);

#endif
