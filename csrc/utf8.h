/*
 * utf8.h: incremental UTF-8 validation (RFC 3629): overlong forms, surrogates and code points
 * above U+10FFFF are invalid, and rejected at the first byte that makes them so. A leaf.
 */
#ifndef WS__UTF8_H
#define WS__UTF8_H

#include <stddef.h>
#include <stdint.h>

enum { WS__UTF8_ACCEPT = 0, WS__UTF8_REJECT = 1 }; /* any other state: inside a character */

/* The state after n more bytes; start with WS__UTF8_ACCEPT. REJECT is final. */
uint32_t ws__utf8_next(uint32_t state, const void *bytes, size_t n);

/* Length of the longest prefix of bytes[n] (valid UTF-8) that is at most `limit` bytes and ends
 * on a character boundary. */
size_t ws__utf8_cut(const void *bytes, size_t n, size_t limit);

#endif
