/*
 * pack.h: messages compressed as permessage-deflate wants them (RFC 7692 7.2), each an isolated
 * stream. pack_none.c stands in for pack.c where zlib is missing.
 */
#ifndef BENCH_PACK_H
#define BENCH_PACK_H

#include <stdbool.h>
#include <stddef.h>

enum { PACK_TAIL = 4 }; /* 00 00 ff ff, taken off every message */

/* False where zlib is missing: nothing else here may be called then. */
bool pack_available(void);

/* Compresses data[length] into out[room]; returns the length without the tail, 0: it does not fit.
 * zlib's default level and memory, a 15-bit window. */
size_t pack(const void *data, size_t length, unsigned char *out, size_t room);

/* True when `packed`, its tail taken off, is an isolated stream of exactly want[want_length]. */
bool pack_gives(const unsigned char *packed, size_t length, const void *want, size_t want_length);

#endif
