/* SPDX-License-Identifier: MIT */
/*
 * pack.h: messages compressed for permessage-deflate (RFC 7692 7.2), each an isolated stream.
 * pack_none.c replaces pack.c if zlib is missing.
 */
#ifndef BENCH_PACK_H
#define BENCH_PACK_H

#include <stdbool.h>
#include <stddef.h>

enum { PACK_TAIL = 4 }; /* 00 00 ff ff, removed from every message */

/* Returns false if zlib is missing; nothing else here may be called then. */
bool pack_available(void);

/* Compresses data[length] into out[room] with zlib's default level and memory and a 15-bit window.
 * Returns the length without the tail, or 0 if it does not fit. */
size_t pack(const void *data, size_t length, unsigned char *out, size_t room);

/* Returns true if `packed`, without its tail, is an isolated stream of want[want_length]. */
bool pack_gives(const unsigned char *packed, size_t length, const void *want, size_t want_length);

#endif
