/* SPDX-License-Identifier: MIT */
/*
 * tls_client.h: a server that listens with fake_tls.h, and a client that may send it anything.
 */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H

#include "harness.h"

extern struct harness h;
extern struct client c;

/* Bytes for the wire, made of records. */
extern char wire[1 << 21];
extern size_t wire_length;

/* Defaults with TLS; then change h, then `begin`. */
void prepare(void);
void begin(void); /* also GET /page; the client is c, not connected */
void connect_raw(void); /* c sends what it is told, and understands what it gets */
void connect_shaken(void); /* c is through its handshake */

void add_record(int type, const void *bytes, size_t n);
void add_text(int type, const char *text);
void add_handshake(void);  /* what a client of TLS sends, in an empty wire */
void add_frame(int first, const char *text); /* in a record of its own */
void add_close_notify(void);
void send_wire(size_t from, size_t to); /* bytes of the wire, as they are */
void send_all(void); /* all of it, and empties it */

/* Checks with another client that the server still answers. */
void expect_alive(void);
void stop(const char *name);

#endif
