/* SPDX-License-Identifier: MIT */
/*
 * upload.h: bodies of requests on their way to the application.
 */
#ifndef WS__UPLOAD_H
#define WS__UPLOAD_H

#include "request.h"

static inline bool ws__upload_is_on(const struct ws__stream *s)
{
    return WS__HTTP_AVAILABLE && s->uploading;
}

/* RFC 9110 10.1.1: a server that gets an expectation other than 100-continue "MAY respond with a
 * 417 (Expectation Failed) status code", and one in HTTP/1.0 is ignored. Returns false for 417. */
bool ws__upload_begin(ws_request *r, uint64_t length);
/* Hands out a piece, or discards all that is there. */
void ws__upload_read(ws_request *r, struct ws__input *in);

#endif
