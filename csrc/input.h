/*
 * input.h: what arrives on a stream, and the end of it: reading the socket, input that is left
 * over, EOF, the loss of the peer.
 */
#ifndef WS__INPUT_H
#define WS__INPUT_H

#include "stream.h"

/* Presents the input that is left over to the protocol. To be called by on_ready. */
void ws__input_handle_kept(struct ws__stream *s);

/* The loop reports the stream as WS__LOOP_*; it is its turn on the ready list (for hub->run). */
void ws__input_on_event(struct ws__stream *s, unsigned ready);
void ws__input_on_ready(struct ws__link *link);

#endif
