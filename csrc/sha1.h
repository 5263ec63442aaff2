/* SPDX-License-Identifier: MIT */
/*
 * sha1.h: SHA-1 (FIPS 180-4), which is not a secure hash, for Sec-WebSocket-Accept (RFC 6455
 * section 4.2.2) and nothing else. A leaf.
 */
#ifndef WS__SHA1_H
#define WS__SHA1_H

#include <stddef.h>
#include <stdint.h>

/* Sets `digest` to the SHA-1 of data[length]. */
void ws__sha1(const void *data, size_t length, uint8_t digest[20]);

#endif
