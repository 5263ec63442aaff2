/* SPDX-License-Identifier: MIT */
/*
 * utf8.h: incremental UTF-8 validation (RFC 3629). Overlong forms, surrogates and code points above
 * U+10FFFF are invalid, and rejected at the first byte that makes them so. A leaf.
 */
#ifndef WS__UTF8_H
#define WS__UTF8_H

#include <stddef.h>
#include <stdint.h>

/* States: at the end of a character, or invalid. Any other state is inside a character. */
enum { WS__UTF8_ACCEPT = 0, WS__UTF8_REJECT = 1 };

/* Returns the state after n more bytes. The first state is WS__UTF8_ACCEPT; WS__UTF8_REJECT is
 * final. */
uint32_t ws__utf8_next(uint32_t state, const void *bytes, size_t n);

/* Returns the length of the longest prefix of bytes[n], which is valid UTF-8, that has at most
 * `limit` bytes and ends at a character boundary. */
size_t ws__utf8_cut(const void *bytes, size_t n, size_t limit);

#endif
