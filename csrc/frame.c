/* SPDX-License-Identifier: MIT */
/*
 * frame.c: the frame header (RFC 6455 section 5.2) and masking (5.3).
 * Knows nothing of the frames before a header, nor of what a header may contain. Works on CPUs of
 * either byte order.
 */
#include "frame.h"
#include "words.h"

#include <string.h>

enum { MASK_BIT = 0x80, LENGTH7 = 0x7f, LENGTH_16 = 126, LENGTH_64 = 127, KEY = 4 };

/* Returns the number of bytes of the extended payload length. */
static size_t extended_size(uint8_t length7)
{
    return length7 < LENGTH_16 ? 0 : length7 == LENGTH_16 ? 2 : 8;
}

/* Reads an integer in network byte order (RFC 6455 5.2). */
static uint64_t load_integer(const uint8_t *in, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | in[i];
    return value;
}

static void store_integer(uint8_t *out, size_t size, uint64_t value)
{
    for (size_t i = size; i-- > 0; value >>= 8)
        out[i] = (uint8_t)value;
}

int ws__frame_decode(struct ws__frame *frame, const uint8_t *in, size_t n, int *known)
{
    *frame = (struct ws__frame){0};
    *known = n < 2 ? (int)n : 2;
    if (n > 0)
        frame->first = in[0];
    if (n < 2)
        return 0;
    frame->masked = in[1] & MASK_BIT;
    frame->length7 = in[1] & LENGTH7;
    size_t size = 2 + extended_size(frame->length7);
    if (n < size)
        return 0;
    frame->length = size > 2 ? load_integer(in + 2, size - 2) : frame->length7;
    *known = 3;
    if (!frame->masked)
        return (int)size;
    if (n < size + KEY)
        return 0;
    memcpy(frame->key, in + size, KEY);
    return (int)(size + KEY);
}

size_t ws__frame_encode(uint8_t out[WS__FRAME_SEND_MAX], uint8_t first, uint64_t length)
{
    /* "the minimal number of bytes MUST be used to encode the length" (RFC 6455 5.2) */
    uint8_t length7 = length < LENGTH_16    ? (uint8_t)length
                      : length <= UINT16_MAX ? LENGTH_16
                                             : LENGTH_64;
    size_t size = extended_size(length7);
    out[0] = first;
    out[1] = length7;
    store_integer(out + 2, size, length);
    return 2 + size;
}

/* Returns a word of repeated keys, rotated so that its first byte is for the payload byte at
 * `offset`. RFC 6455 5.3: "j = i MOD 4". */
static size_t turn_key(const uint8_t key[4], uint64_t offset)
{
    const bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    const unsigned turn = 8 * (unsigned)((little ? offset : -offset) % KEY);
    uint32_t word = (uint32_t)key[little ? 0 : 3] | (uint32_t)key[little ? 1 : 2] << 8 |
                    (uint32_t)key[little ? 2 : 1] << 16 | (uint32_t)key[little ? 3 : 0] << 24;
    word = word >> turn | word << (-turn % 32);
    return word * (SIZE_MAX / UINT32_MAX);
}

/* Masks fewer bytes than a word has. Like the functions below, it returns all results or-ed. */
static uint8_t mask_bytes(uint8_t *bytes, size_t n, size_t key)
{
    uint8_t turned[sizeof key], seen = 0;
    memcpy(turned, &key, sizeof key);
    for (size_t i = 0; i < n; i++)
        seen |= bytes[i] ^= turned[i];
    return seen;
}

/* Masks bytes one by one. For a few this is faster than building a word of keys. */
static uint8_t mask_singly(uint8_t *bytes, size_t n, const uint8_t key[4], size_t offset)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < n; i++)
        seen |= bytes[i] ^= key[(offset + i) % KEY];
    return seen;
}

static size_t mask_word(uint8_t *bytes, size_t key)
{
    return *(ws__word *)(void *)bytes ^= key;
}

enum {
    MASK_BLOCK = 64,
    MASK_SHORT = 16 /* bytes: fewer are masked one by one where words must be aligned */
};

#if WS__VECTORS
typedef size_t vector __attribute__((vector_size(16)));

static vector mask_vector(uint8_t *bytes, vector key)
{
    vector v;
    memcpy(&v, bytes, sizeof v);
    v ^= key;
    memcpy(bytes, &v, sizeof v);
    return v;
}

/* Masks n bytes, a multiple of MASK_BLOCK. */
static size_t mask_blocks(uint8_t *bytes, size_t n, size_t key)
{
    const vector turned = (vector){0} + key;
    vector seen = {0};
    size_t all = 0;
    for (const uint8_t *end = bytes + n; bytes != end; bytes += MASK_BLOCK) {
        seen |= mask_vector(bytes, turned);
        seen |= mask_vector(bytes + 16, turned);
        seen |= mask_vector(bytes + 32, turned);
        seen |= mask_vector(bytes + 48, turned);
    }
    for (size_t i = 0; i < sizeof seen / sizeof key; i++)
        all |= seen[i];
    return all;
}
#else
static size_t mask_blocks(uint8_t *bytes, size_t n, size_t key)
{
    size_t seen = 0;
    for (size_t i = 0; i < n; i += 4 * sizeof key) {
        seen |= mask_word(bytes + i, key);
        seen |= mask_word(bytes + i + sizeof key, key);
        seen |= mask_word(bytes + i + 2 * sizeof key, key);
        seen |= mask_word(bytes + i + 3 * sizeof key, key);
    }
    return seen;
}
#endif

bool ws__frame_mask(void *bytes, size_t n, const uint8_t key[4], uint64_t offset)
{
    uint8_t *p = bytes, odd = 0;
    size_t turned, seen, blocks;
    const size_t first = ws__word_distance(p);
    if (WS__WORD_ALIGNMENT > 1 && n < MASK_SHORT)
        return mask_singly(p, n, key, offset % KEY) < 0x80;
    if (first) {
        odd = mask_singly(p, first, key, offset % KEY);
        p += first;
        n -= first;
    }
    turned = turn_key(key, offset + first);
    blocks = n & ~(size_t)(MASK_BLOCK - 1);
    seen = mask_blocks(p, blocks, turned);
    p += blocks;
    n -= blocks;
    for (; n >= sizeof turned; p += sizeof turned, n -= sizeof turned)
        seen |= mask_word(p, turned);
    if (n)
        odd |= mask_bytes(p, n, turned);
    return !(seen & WS__EACH_BYTE(0x80)) && odd < 0x80;
}
