/*
 * sha1.h: SHA-1 (FIPS 180-4) of a short message, for Sec-WebSocket-Accept only
 * (RFC 6455 section 4.2.2): not for anything that needs a secure hash. A leaf.
 */
#ifndef WS__SHA1_H
#define WS__SHA1_H

#include <stddef.h>
#include <stdint.h>

void ws__sha1(const void *data, size_t length, uint8_t digest[20]);

#endif
