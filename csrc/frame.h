/* SPDX-License-Identifier: MIT */
/*
 * frame.h: the frame header (RFC 6455 section 5.2) and masking (5.3), in both directions. Reads and
 * writes headers; protocol.c decides whether a header is allowed.
 */
#ifndef WS__FRAME_H
#define WS__FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits of the first byte. */
enum { WS__FRAME_FIN = 0x80, WS__FRAME_RSV1 = 0x40, WS__FRAME_RSV = 0x70, WS__FRAME_OPCODE = 0x0f };

enum {
    WS__FRAME_SEND_MAX = 10,    /* bytes of the longest header without a masking key */
    WS__FRAME_CONTROL_MAX = 125 /* payload bytes of the longest control frame (RFC 6455 5.5) */
};

struct ws__frame {
    uint8_t first;   /* FIN, RSV1-3 and the opcode, as sent */
    bool masked;
    uint8_t length7; /* the 7-bit length field: 126 and 127 mean that `length` was extended */
    uint8_t key[4];  /* the masking key; zero if the frame is not masked */
    uint64_t length; /* the payload length as sent, including the most significant bit */
};

/* Reads the header at in[n]. Returns its length once it is complete, and 0 if more bytes are
 * needed. Sets *known to what was read so far: 0, 1 (`first`), 2 (also `masked` and `length7`) or 3
 * (also `length`). */
int ws__frame_decode(struct ws__frame *frame, const uint8_t *in, size_t n, int *known);

/* Writes a header without a masking key: "A server MUST NOT mask any frames that it sends to the
 * client" (RFC 6455 5.1). `first` is FIN | RSV1 | opcode. Returns the length: 2, 4 or 10. */
size_t ws__frame_encode(uint8_t out[WS__FRAME_SEND_MAX], uint8_t first, uint64_t length);

/* XORs bytes[n] with the key in place (RFC 6455 5.3). `offset` is the position of bytes[0] in the
 * payload. Returns true if the result is ASCII, and so cannot be invalid UTF-8. */
bool ws__frame_mask(void *bytes, size_t n, const uint8_t key[4], uint64_t offset);

#endif
