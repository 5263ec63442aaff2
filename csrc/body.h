/* SPDX-License-Identifier: MIT */
/*
 * body.h: where the body of a request ends, and what belongs to it (RFC 9112 sections 6 and 7.1):
 * a number of bytes, or chunks. Sans-IO: bytes in, pieces of content out, without a copy. Every
 * byte is looked at once and not needed again: the struct holds the state between two calls.
 * The result never depends on how the bytes were split.
 */
#ifndef WS__BODY_H
#define WS__BODY_H

#include "buffer.h"
#include "http.h"

/* The most bytes of chunk extensions in one line. */
enum { WS__BODY_MAX_EXTENSIONS = 4096 };

/* A zeroed one is at its end, as that of a request without a body. */
struct ws__body {
    uint64_t left;  /* bytes of content that follow: of the body, or of the chunk */
    uint64_t limit; /* bytes of content that it may still have */
    uint32_t max_trailer, skipped;
    uint8_t state, digits;
};

/* Begins a body of `length` bytes, or one of chunks (WS__HTTP_CHUNKED). If more than `limit` bytes
 * of content are announced, the result is -413, in chunks as soon as one is too long. `max_trailer`
 * limits the bytes of the trailer section. */
void ws__body_init(struct ws__body *body, uint64_t length, uint64_t limit, uint32_t max_trailer);

enum ws__body_result {
    WS__BODY_MORE,  /* more bytes are needed */
    WS__BODY_PIECE, /* data[length] is content */
    WS__BODY_LAST   /* data[length] is the rest of the content, perhaps nothing: this is the end */
};
/* Takes bytes from the front of *in: all of them, or those up to the end of a piece, which is
 * borrowed from the input. Returns an enum ws__body_result, or minus the status to respond with,
 * again at each further call: -400 (malformed), -413, or -431 (the trailer section is too long).
 * The content before a fault is handed out. Must not be called after the end. */
int ws__body_next(struct ws__body *body, struct ws__input *in, const char **data, size_t *length);

static inline bool ws__body_ended(const struct ws__body *body)
{
    return !body->state;
}

/* Returns the bytes of content that follow, or WS__HTTP_CHUNKED if their number is not known. */
uint64_t ws__body_left(const struct ws__body *body);

#endif
