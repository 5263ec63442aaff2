/* SPDX-License-Identifier: MIT */
/*
 * sha1.c: SHA-1 in one call (FIPS 180-4 sections 5.1.1 and 6.1.2).
 * Knows nothing of the handshake that needs it.
 */
#include "sha1.h"

#include <string.h>

enum { SHA1_BLOCK = 64, LENGTH_FIELD = 8 };

static uint32_t rotl32(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

static uint32_t load_word(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The functions of FIPS 180-4 4.1.1. */
#define CH(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define PARITY(x, y, z) ((x) ^ (y) ^ (z))
#define MAJ(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))

/* One round (FIPS 180-4 6.1.2), after which the variables have moved on by one: what was e is a. */
#define ROUND(f, a, b, c, d, e)                                                                    \
    e += rotl32(a, 5) + f(b, c, d) + K + *w++;                                                     \
    b = rotl32(b, 30);

/* Twenty rounds, five at a time, so that each variable is in its old place again. */
#define TWENTY_ROUNDS(f)                                                                           \
    for (const uint32_t *end = w + 20; w != end;) {                                                \
        ROUND(f, a, b, c, d, e)                                                                    \
        ROUND(f, e, a, b, c, d)                                                                    \
        ROUND(f, d, e, a, b, c)                                                                    \
        ROUND(f, c, d, e, a, b)                                                                    \
        ROUND(f, b, c, d, e, a)                                                                    \
    }

/* Adds one block to the hash (FIPS 180-4 6.1.2). `schedule` is that of the message. */
static void add_block(uint32_t hash[5], const uint8_t *block)
{
    static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t schedule[80], a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4];
    uint32_t *w = schedule;
    for (; w != schedule + 16; block += 4)
        *w++ = load_word(block);
    for (; w != schedule + 80; w++)
        *w = rotl32(w[-3] ^ w[-8] ^ w[-14] ^ w[-16], 1);
    w = schedule;
    for (int part = 0; part < 4; part++) {
        const uint32_t K = constants[part];
        if (part == 0)
            TWENTY_ROUNDS(CH)
        else if (part == 2)
            TWENTY_ROUNDS(MAJ)
        else
            TWENTY_ROUNDS(PARITY)
    }
    hash[0] += a;
    hash[1] += b;
    hash[2] += c;
    hash[3] += d;
    hash[4] += e;
}

void ws__sha1(const void *data, size_t length, uint8_t digest[20])
{
    uint32_t hash[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *in = data;
    size_t whole = length - length % SHA1_BLOCK, rest = length % SHA1_BLOCK;
    for (size_t i = 0; i < whole; i += SHA1_BLOCK)
        add_block(hash, in + i);

    /* FIPS 180-4 5.1.1: a one bit, zeros, and the length in bits at the end of the last block. */
    uint8_t tail[2 * SHA1_BLOCK] = {0};
    size_t padded = rest + 1 + LENGTH_FIELD <= SHA1_BLOCK ? SHA1_BLOCK : 2 * SHA1_BLOCK;
    if (rest)
        memcpy(tail, in + whole, rest);
    tail[rest] = 0x80;
    for (unsigned i = 0; i < LENGTH_FIELD; i++)
        tail[padded - 1 - i] = (uint8_t)((uint64_t)length * 8 >> 8 * i);
    for (size_t i = 0; i < padded; i += SHA1_BLOCK)
        add_block(hash, tail + i);

    for (unsigned i = 0; i < 20; i++)
        digest[i] = (uint8_t)(hash[i / 4] >> (24 - 8 * (i % 4)));
}
