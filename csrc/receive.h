/* SPDX-License-Identifier: MIT */
/*
 * receive.h: frames in: what a peer sends on an open connection goes to the handlers of its route.
 */
#ifndef WS__RECEIVE_H
#define WS__RECEIVE_H

#include "conn.h"

/* WebSocket, for ws__settings.protocol. */
extern const struct ws__stream_protocol ws__receive_protocol;

/* The 101 is queued: from now on WebSocket is spoken on the stream. Runs on_open, during which the
 * request of the opening handshake is at hand; afterwards it is no longer the connection's. */
void ws__receive_open(ws_conn *c, ws_request *request, const struct ws__settings *settings,
                      void *user);

#endif
