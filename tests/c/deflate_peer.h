/* SPDX-License-Identifier: MIT */
/*
 * deflate_peer.h: a client that speaks permessage-deflate (RFC 7692) by means of zlib, and its
 * server: what the programs that test compressed connections stand on, beside harness.h.
 */
#ifndef DEFLATE_PEER_H
#define DEFLATE_PEER_H

#include "harness.h"

#define ZLIB_CONST
#include <zlib.h>

enum {
    SHARED = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR,
    DEDICATED = WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB,
    ZTEXT = WS_TEXT | WS_COMPRESS,
    ZBINARY = WS_BINARY | WS_COMPRESS,
    SPACE = 1 << 20
};

/* A client that keeps its window, unless it has agreed not to. */
struct peer {
    struct client c;
    z_stream in, out;
    bool isolated; /* each message of the server is a stream of its own */
    bool isolates; /* and each of ours */
    char seen[16384];
};

extern struct harness h;
extern struct peer p;
extern char fill_bytes[1000]; /* zeros, which peer_messages leaves out */
extern char hex[SPACE];       /* digits at random: deflate halves them */
extern char noise[4096];      /* bytes that do not compress */

void make_data(void); /* hex and noise; once */

void start_with(unsigned compression, size_t max_payload); /* the settings alone; 0: the default */
void start(unsigned compression);                          /* the server and p */
void stop(const char *name);
void peer_connect(struct peer *peer, bool small, const char *extensions);
void peer_close(struct peer *peer);
size_t zlib_memory(void); /* of the server */

/* Compress data as it is in a frame with RSV1, and return its length: as the next message of a
 * peer, as the first of a new one, or as one stored block with `empty` empty ones after it, which
 * is n times the letter s. */
size_t pack(struct peer *peer, const void *data, size_t n, char *to);
size_t pack_once(const void *data, size_t n, char *to);
size_t store(char *to, size_t n, int empty);
void say_packed(struct peer *peer, int first, const void *data, size_t n); /* pack, and send */

/* All messages received: "zTEXT hello, BINARY/3 abc, PONG x, CLOSE 1000"; z: compressed, /3: in so
 * many frames; "[length checksum]" above 40 bytes. Plain fill_bytes are left out. */
const char *peer_messages(struct peer *peer);

/* What p has received; is_expected: what expect() was called with since the last time. */
void is_seen(const char *want, const char *name);
void expect(const char *kind, const char *data, size_t n);
void is_expected(const char *name);
extern char expected[16384]; /* so far */

#endif
