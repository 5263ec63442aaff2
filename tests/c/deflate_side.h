/* SPDX-License-Identifier: MIT */
/*
 * deflate_side.h: a server's side of permessage-deflate without a server, with memory that is
 * counted and made to fail, and the peer's side, which is zlib's.
 */
#ifndef DEFLATE_SIDE_H
#define DEFLATE_SIDE_H

#include "deflate.h"
#include "tap.h"

#include <zlib.h>

enum { BIG = 1 << 20, NONE = 999, COMPRESSORS = 10, DECOMPRESSORS = 9 };

/* All values of the options of ws.h. */
extern const unsigned compressors[COMPRESSORS], decompressors[DECOMPRESSORS];

/* ---- a server's side ---- */

struct side {
    struct ws__memory memory;
    struct ws__deflate_pool pool;
    struct ws__deflate_streams streams;
    struct ws__deflate_terms terms;
    size_t held, peak; /* bytes */
    int fail_at;       /* this allocation from now on fails; 0: none */
};

void side_init(struct side *s, struct ws__deflate_terms terms);
bool side_deinit(struct side *s); /* whether all that was counted was given back */
struct ws__deflate_terms terms_of(const char *offer, unsigned options);
int decompress(struct side *s, const void *data, size_t n, size_t limit, bool text, char **out,
               size_t *length);

/* ---- the peer's side: zlib as it comes ---- */

extern uint8_t wire[2 * BIG], plain[2 * BIG], message[BIG];

uint32_t roll(void);
void fill(uint8_t *bytes, size_t n, bool repetitive);
void peer_deflater(z_stream *z, int bits);

/* Compresses data[n] as a peer sends it, into wire, and returns the length. */
size_t peer_deflate(z_stream *z, const void *data, size_t n, int flush);

/* Sends n bytes from the peer to the server's side; whether they arrive under that limit. */
bool receives(struct side *s, z_stream *peer, size_t n);

#endif
