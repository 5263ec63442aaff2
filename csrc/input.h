/* SPDX-License-Identifier: MIT */
/*
 * input.h: what arrives on a stream, and the end of it: reading the socket, input that is left
 * over, EOF, the loss of the peer.
 */
#ifndef WS__INPUT_H
#define WS__INPUT_H

#include "stream.h"

/* The socket has no bytes: a result of ws__net_read that is not positive. */
void ws__input_end(struct ws__stream *s, ssize_t result);
/* Reads and discards, so that the last bytes sent are not destroyed by a reset. */
void ws__input_discard(struct ws__stream *s);

/* Presents the input that is left over to the protocol. To be called by on_ready. */
void ws__input_handle_kept(struct ws__stream *s);

/* How much to read from the socket, where `kept` bytes come before it in the receive buffer. */
size_t ws__input_room(const struct ws__stream *s, size_t kept);

/* A filter has put n bytes into the receive buffer. They are handled now, unless what came before
 * them must wait: then they wait as well. */
__attribute__((cold)) void ws__input_take(struct ws__stream *s, size_t n);

/* The loop reports the stream as WS__LOOP_*; it is its turn on the ready list (for hub->run). */
void ws__input_on_event(struct ws__stream *s, unsigned ready);
void ws__input_on_ready(struct ws__link *link);

#endif
