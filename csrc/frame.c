/*
 * frame.c: the frame header (RFC 6455 section 5.2) and masking (5.3).
 * Reads and writes headers only: knows nothing of what a header is allowed to say, nor of the
 * frames before it. Endian-neutral, and reads words through memcpy only.
 */
#include "frame.h"

#include <string.h>

enum { MASK_BIT = 0x80, LENGTH7 = 0x7f, LENGTH_16 = 126, LENGTH_64 = 127, KEY = 4 };

/* Bytes of the extended payload length. */
static size_t extended_size(uint8_t length7)
{
    return length7 < LENGTH_16 ? 0 : length7 == LENGTH_16 ? 2 : 8;
}

/* Network byte order (RFC 6455 5.2). */
static uint64_t load(const uint8_t *in, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | in[i];
    return value;
}

static void store(uint8_t *out, size_t size, uint64_t value)
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
    frame->length = size > 2 ? load(in + 2, size - 2) : frame->length7;
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
    store(out + 2, size, length);
    return 2 + size;
}

/* The key twice, as the payload meets it from `offset` on (RFC 6455 5.3). */
static uint64_t turn_key(const uint8_t key[4], uint64_t offset)
{
    uint8_t twice[2 * KEY];
    uint32_t turned;
    memcpy(twice, key, KEY);
    memcpy(twice + KEY, key, KEY);
    memcpy(&turned, twice + offset % KEY, sizeof turned);
    return (uint64_t)turned << 32 | turned;
}

static uint64_t mask_word(uint8_t *bytes, uint64_t key)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    word ^= key;
    memcpy(bytes, &word, sizeof word);
    return word;
}

/* What compilers turn into vector instructions where there are any, into words elsewhere. */
typedef uint64_t block __attribute__((vector_size(16)));

static block mask_block(uint8_t *bytes, block key)
{
    block b;
    memcpy(&b, bytes, sizeof b);
    b ^= key;
    memcpy(bytes, &b, sizeof b);
    return b;
}

/* bytes[n], n a multiple of 64. Returns all results or-ed. */
static uint64_t mask_blocks(uint8_t *bytes, size_t n, uint64_t key)
{
    const block turned = {key, key};
    block seen = {0, 0};
    for (size_t i = 0; i < n; i += 4 * sizeof turned) {
        seen |= mask_block(bytes + i, turned);
        seen |= mask_block(bytes + i + 16, turned);
        seen |= mask_block(bytes + i + 32, turned);
        seen |= mask_block(bytes + i + 48, turned);
    }
    return seen[0] | seen[1];
}

static uint8_t mask_tail(uint8_t *bytes, size_t n, uint64_t key)
{
    uint8_t turned[sizeof key], seen = 0;
    memcpy(turned, &key, sizeof key);
    for (size_t i = 0; i < n; i++)
        seen |= bytes[i] ^= turned[i];
    return seen;
}

bool ws__frame_mask(void *bytes, size_t n, const uint8_t key[4], uint64_t offset)
{
    uint8_t *p = bytes, tail = 0;
    uint64_t turned = turn_key(key, offset), seen;
    size_t i = n & ~(size_t)63;
    seen = mask_blocks(p, i, turned);
    for (; n - i >= 8; i += 8)
        seen |= mask_word(p + i, turned);
    if (i < n)
        tail = mask_tail(p + i, n - i, turned);
    return !(seen & 0x8080808080808080u) && tail < 0x80;
}
