/* SPDX-License-Identifier: MIT */
/*
 * deflate_side.c: both sides of permessage-deflate, see deflate_side.h.
 */
#include "deflate_side.h"

#include "guard.h"

#include <stdlib.h>

const unsigned compressors[COMPRESSORS] = {0, 1, 145, 146, 163, 180, 197, 214, 231, 248};
const unsigned decompressors[DECOMPRESSORS] = {0, 256, 2304, 2560, 2816, 3072, 3328, 3584, 3840};

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct side *s = context;
    if (size && s->fail_at && !--s->fail_at)
        return NULL;
    s->held += size - old_size;
    if (s->held > s->peak)
        s->peak = s->held;
    if (size)
        return realloc(ptr, size);
    free(ptr);
    return NULL;
}

void side_init(struct side *s, struct ws__deflate_terms terms)
{
    const ws_allocator allocator = {resize, s};
    *s = (struct side){.terms = terms};
    ws__memory_init(&s->memory, &allocator, 0);
    s->pool.memory = &s->memory;
}

bool side_deinit(struct side *s)
{
    ws__deflate_streams_deinit(&s->pool, &s->streams);
    ws__deflate_pool_deinit(&s->pool);
    return !s->held && !s->memory.used && !s->pool.used;
}

struct ws__deflate_terms terms_of(const char *offer, unsigned options)
{
    struct ws__deflate_terms terms = {0};
    if (!ws__deflate_accept(offer, strlen(offer), options, &terms))
        diag("declined: %s", offer);
    return terms;
}

int decompress(struct side *s, const void *data, size_t n, size_t limit, bool text, char **out,
               size_t *length)
{
    struct ws__inflation m = {.limit = limit, .text = text, .budget = SIZE_MAX};
    return ws__deflate_decompress(&s->pool, &s->terms, &s->streams, &m, data, n, out, length);
}

/* ---- the peer's end: zlib as it comes ---- */

uint8_t wire[2 * BIG], plain[2 * BIG], message[BIG];
static uint32_t seed = 1;

uint32_t roll(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

void fill(uint8_t *bytes, size_t n, bool repetitive)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = repetitive ? (uint8_t)("{\"name\": \"value\", \"n\": 12}"[(i + i / 97) % 26])
                              : (uint8_t)(roll() >> 11);
}

void peer_deflater(z_stream *z, int bits)
{
    *z = (z_stream){0};
    deflateInit2(z, 6, Z_DEFLATED, bits == 8 ? -9 : -bits, 8, Z_DEFAULT_STRATEGY);
}

size_t peer_deflate(z_stream *z, const void *data, size_t n, int flush)
{
    z->next_in = (Bytef *)(uintptr_t)data;
    z->avail_in = (uInt)n;
    z->next_out = wire;
    z->avail_out = sizeof wire;
    deflate(z, flush);
    size_t length = sizeof wire - z->avail_out;
    if (!length) { /* zlib sees nothing to flush */
        wire[0] = 0;
        return 1;
    }
    return flush == Z_SYNC_FLUSH ? length - 4 : length;
}

bool receives(struct side *s, z_stream *peer, size_t n)
{
    char *out = NULL;
    size_t out_length = 0;
    if (s->terms.client_no_context)
        deflateReset(peer);
    size_t length = peer_deflate(peer, message, n, Z_SYNC_FLUSH);
    int result = decompress(s, guard_copy(wire, length), length, n, false, &out, &out_length);
    return !result && out && out_length == n && !memcmp(out, message, n);
}
