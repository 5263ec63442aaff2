/* SPDX-License-Identifier: MIT */
/*
 * upload_none.c: takes the place of upload.c with -DWS_NO_HTTP. A request with a body is refused,
 * and the connection ends.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "upload.h"
#ifdef WS_NO_HTTP

bool ws__upload_begin(ws_request *r, uint64_t length)
{
    ws__body_init(&r->body, length, 0, 0);
    return true;
}

void ws__upload_read(ws_request *r, struct ws__input *in)
{
    (void)r;
    (void)in;
}

int ws_request_read_body(ws_request *request, uint64_t max_size,
                         void (*on_body)(ws_request *request, const char *data, size_t length,
                                         bool last, void *user),
                         void *user)
{
    (void)request;
    (void)max_size;
    (void)on_body;
    (void)user;
    return WS_ENOTSUP;
}

void ws_request_pause_body(ws_request *request)
{
    (void)request;
}

void ws_request_resume_body(ws_request *request)
{
    (void)request;
}

#endif
