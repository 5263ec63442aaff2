/* SPDX-License-Identifier: MIT */
/*
 * pack.c: see pack.h.
 */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

enum { WINDOW_BITS = 15, LEVEL = 6, MEMORY_LEVEL = 8 };

static const unsigned char tail[PACK_TAIL] = {0x00, 0x00, 0xff, 0xff};

bool pack_available(void)
{
    return true;
}

size_t pack(const void *data, size_t length, unsigned char *out, size_t room)
{
    z_stream z = {.next_in = data, .avail_in = (uInt)length, .next_out = out};
    size_t produced = 0;

    z.avail_out = (uInt)room;
    if (deflateInit2(&z, LEVEL, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return 0;
    }
    if (deflate(&z, Z_SYNC_FLUSH) == Z_OK && z.avail_in == 0 && z.avail_out > 0) {
        produced = room - z.avail_out - PACK_TAIL;
    }
    deflateEnd(&z);
    return produced;
}

static size_t inflate_all(z_stream *z, const unsigned char *packed, size_t length)
{
    z->next_in = packed;
    z->avail_in = (uInt)length;
    int first = inflate(z, Z_SYNC_FLUSH);
    z->next_in = tail;
    z->avail_in = PACK_TAIL;
    int second = inflate(z, Z_SYNC_FLUSH);
    bool good = (first == Z_OK || first == Z_BUF_ERROR) && second == Z_OK && z->avail_in == 0;
    return good ? z->total_out : 0;
}

bool pack_gives(const unsigned char *packed, size_t length, const void *want, size_t want_length)
{
    z_stream z = {.avail_out = (uInt)want_length + 1};
    unsigned char *got = malloc(want_length + 1);
    bool same = false;

    z.next_out = got;
    if (got != NULL && inflateInit2(&z, -WINDOW_BITS) == Z_OK) {
        same = inflate_all(&z, packed, length) == want_length &&
               memcmp(got, want, want_length) == 0;
        inflateEnd(&z);
    }
    free(got);
    return same;
}
