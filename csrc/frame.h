/*
 * frame.h: the frame header (RFC 6455 section 5.2) and masking (5.3), in both directions.
 * Reads and writes headers only; whether a header is allowed is protocol.c's to judge.
 */
#ifndef WS__FRAME_H
#define WS__FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WS__FRAME_FIN = 0x80, WS__FRAME_RSV1 = 0x40, WS__FRAME_RSV = 0x70, WS__FRAME_OPCODE = 0x0f };
enum { WS__FRAME_SEND_MAX = 10, WS__FRAME_CONTROL_MAX = 125 };

struct ws__frame {
    uint8_t first;     /* FIN, RSV1-3, opcode as sent */
    bool masked;
    uint8_t length7;   /* the 7-bit length field: 126 and 127 mean that `length` was extended */
    uint8_t key[4];    /* masking key; zero when not masked */
    uint64_t length;   /* payload length as sent, top bit included */
};

/* Reads the header at in[n]. Returns its length once complete, 0 when more bytes are needed.
 * *known tells how far it got: 0, 1 (first is set), 2 (masked, length7 are set too), 3 (length is
 * set too). */
int ws__frame_decode(struct ws__frame *frame, const uint8_t *in, size_t n, int *known);

/* Writes an unmasked header (servers do not mask, 5.1), with the shortest length form.
 * Returns its length, 2, 4 or 10. `first`: FIN | RSV1 | opcode. */
size_t ws__frame_encode(uint8_t out[WS__FRAME_SEND_MAX], uint8_t first, uint64_t length);

/* XORs bytes[n] with the key in place; `offset` is the position of bytes[0] in the payload.
 * True when the result is ASCII, which saves looking for invalid UTF-8. */
bool ws__frame_mask(void *bytes, size_t n, const uint8_t key[4], uint64_t offset);

#endif
