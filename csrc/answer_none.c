/* SPDX-License-Identifier: MIT */
/*
 * answer_none.c: takes the place of answer.c with -DWS_NO_HTTP, where each response is sent as a
 * whole.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "answer.h"
#ifdef WS_NO_HTTP

void ws__answer_continue(ws_request *r)
{
    (void)r;
}

int ws_request_begin(ws_request *request, int status, const char *reason, uint64_t length)
{
    (void)request;
    (void)status;
    (void)reason;
    (void)length;
    return WS_ENOTSUP;
}

int ws_request_write(ws_request *request, const char *data, size_t length)
{
    (void)request;
    (void)data;
    (void)length;
    return WS_ENOTSUP;
}

void ws_request_on_writable(ws_request *request, void (*fn)(ws_request *request, void *user),
                            void *user)
{
    (void)request;
    (void)fn;
    (void)user;
}

int ws_request_finish(ws_request *request)
{
    (void)request;
    return WS_ENOTSUP;
}

int ws_request_respond_file(ws_request *request, int status, const char *reason, int fd,
                            uint64_t offset, uint64_t length)
{
    (void)request;
    (void)status;
    (void)reason;
    (void)fd;
    (void)offset;
    (void)length;
    return WS_ENOTSUP;
}

#endif
