/* SPDX-License-Identifier: MIT */
/*
 * accept.c: SHA-1 (FIPS 180-4) and base64 (RFC 4648), just enough for one opening handshake.
 *
 * The tools share no code with the library that they measure and test, so that a mistake in the
 * library cannot be hidden by the same mistake here.
 */
#include "accept.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 64, DIGEST = 20, KEY_LENGTH = 24, GUID_LENGTH = 36 };

static uint32_t rotate(uint32_t x, unsigned bits)
{
    return x << bits | x >> (32 - bits);
}

static uint32_t mix(unsigned round, uint32_t b, uint32_t c, uint32_t d)
{
    switch (round / 20) {
    case 0:
        return ((b & c) | (~b & d)) + 0x5a827999;
    case 1:
        return (b ^ c ^ d) + 0x6ed9eba1;
    case 2:
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    default:
        return (b ^ c ^ d) + 0xca62c1d6;
    }
}

static void expand(const unsigned char *block, uint32_t w[80])
{
    for (unsigned i = 0; i < 16; i++, block += 4) {
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 |
               block[3];
    }
    for (unsigned i = 16; i < 80; i++) {
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
}

static void digest_block(uint32_t state[5], const unsigned char *block)
{
    uint32_t w[80];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    expand(block, w);
    for (unsigned i = 0; i < 80; i++) {
        uint32_t next = rotate(a, 5) + mix(i, b, c, d) + e + w[i];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static void encode_base64(const unsigned char digest[DIGEST + 1], char *text)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (unsigned i = 0; i < DIGEST + 1; i += 3, text += 4) {
        uint32_t bits = (uint32_t)digest[i] << 16 | (uint32_t)digest[i + 1] << 8 | digest[i + 2];
        text[0] = alphabet[bits >> 18];
        text[1] = alphabet[bits >> 12 & 63];
        text[2] = alphabet[bits >> 6 & 63];
        text[3] = alphabet[bits & 63];
    }
}

void accept_value(const char key[24], char text[ACCEPT_LENGTH + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char message[2 * BLOCK] = {0};
    unsigned char digest[DIGEST + 1] = {0};
    const unsigned bits = (KEY_LENGTH + GUID_LENGTH) * 8;

    memcpy(message, key, KEY_LENGTH);
    memcpy(message + KEY_LENGTH, guid, GUID_LENGTH);
    message[KEY_LENGTH + GUID_LENGTH] = 0x80;
    message[2 * BLOCK - 2] = (unsigned char)(bits >> 8);
    message[2 * BLOCK - 1] = (unsigned char)bits;
    digest_block(state, message);
    digest_block(state, message + BLOCK);
    for (unsigned i = 0; i < DIGEST; i++) {
        digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    }
    encode_base64(digest, text);
    text[ACCEPT_LENGTH - 1] = '=';
    text[ACCEPT_LENGTH] = '\0';
}
