/* SPDX-License-Identifier: MIT */
/*
 * upload.c: bodies of requests on their way to the application. body.c decides about syntax.
 * RFC 9110 sections 10.1.1 (Expect) and 15.5.14 (413).
 */
#include "upload.h"
#ifndef WS_NO_HTTP
#include "ending.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>

enum { PROGRESS = 16 * 1024 }; /* bytes of a body after which its time starts again */

bool ws__upload_begin(ws_request *r, uint64_t length)
{
    struct ws__http_list list = {0};
    struct ws__text expectation;
    ws__body_init(&r->body, length, UINT64_MAX, r->conn->stream.hub->config.max_header_size);
    while (r->head.minor &&
           ws__http_next_element(&r->head, r->bytes, "expect", &list, &expectation)) {
        if (!ws__text_same(expectation.at, expectation.length, "100-continue"))
            return false;
        r->expects_continue = true;
    }
    return true;
}

/* Passes content on. The rest of a body that is complete waits for the answer. */
static void pass_on(ws_request *r, const char *data, size_t length, bool last)
{
    const bool outer = r->in_use;
    if (last) {
        ws__request_watch_body(r);
        ws__request_set_timer(r);
    }
    r->in_use = true;
    WS__CALL(r->conn->stream.hub, r->on_body, r, data, length, last, r->body_user);
    if (!outer)
        ws__ending_after_callback(r);
}

/* A slow upload may take any time, a trickle may not. */
static void note_progress(ws_request *r, size_t n)
{
    r->progress += (uint32_t)n; /* what was read at once */
    if (r->progress >= PROGRESS && r->conn->stream.uploading)
        ws__request_renew_body_time(r);
}

/* RFC 9110 15.5.14. The text names the limit, which the owner of the server may raise. */
static void refuse_long_body(ws_request *r)
{
    char why[64];
    snprintf(why, sizeof why, "max_body_size is %" PRIu64 " bytes", r->max_size);
    ws__ending_refuse(r, 413, why);
}

void ws__upload_read(ws_request *r, struct ws__input *in)
{
    const size_t before = in->length;
    const char *data;
    size_t length;
    int result;
    do
        result = ws__body_next(&r->body, in, &data, &length);
    while (r->discarding && result == WS__BODY_PIECE);
    const bool last = result == WS__BODY_LAST;
    note_progress(r, before - in->length);
    if (r->discarding) {
        r->discarded += (uint32_t)(before - in->length);
        if (last || result < 0 || r->discarded > WS__DISCARD_LIMIT)
            ws__ending_discarded(r, last);
    } else if (result == -413) {
        refuse_long_body(r);
    } else if (result < 0) {
        ws__ending_refuse(r, -result, result == -400 ? "the request body is malformed" : NULL);
    } else if (!last && ws__request_is_overdue(r)) {
        ws__ending_refuse(r, 408, NULL);
    } else if (result != WS__BODY_MORE) {
        pass_on(r, data, length, last);
    }
}

/* ---- ws_http.h ---- */

/* RFC 9110 10.1.1: the 100 can be left out if a part of the body has arrived. Once the final
 * response has begun, it is too late for one (15.2). */
static int send_continue(ws_request *r)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct ws__stream *s = &r->conn->stream;
    if (!r->expects_continue || ws__request_is_sending(r))
        return WS_OK;
    r->expects_continue = false;
    if (r->in_use ? r->followed : ws__buffer_length(s->in) > 0)
        return WS_OK;
    const int error = ws__stream_send(s, line, sizeof line - 1);
    if (error)
        ws__stream_drop(s, "out of memory", false);
    return error;
}

/* The body is read from now on, or no longer. What was kept of it meanwhile comes first. */
static void watch_body(ws_request *r)
{
    struct ws__stream *s = &r->conn->stream;
    ws__request_watch_body(r);
    ws__request_set_timer(r);
    if (s->in && s->uploading)
        ws__stream_make_more(s);
}

int ws_request_read_body(ws_request *request, uint64_t max_size,
                         void (*on_body)(ws_request *request, const char *data, size_t length,
                                         bool last, void *user),
                         void *user)
{
    ws_request *r = request;
    const uint64_t left = ws__body_left(&r->body);
    if (r->state == WS__REQUEST_ANSWERED || ws__request_has_source(r))
        return WS_ECLOSED;
    if (r->on_body || !on_body)
        return WS_EINVAL;
    if (r->state == WS__REQUEST_HANDLING && ws_request_defer(r, NULL, NULL))
        return WS_ENOMEM;
    r->on_body = on_body;
    r->body_user = user;
    r->body.limit = r->max_size = max_size;
    if (!left) {
        pass_on(r, "", 0, true);
        return WS_OK;
    }
    if (left != WS__HTTP_CHUNKED && left > max_size) {
        refuse_long_body(r);
        return WS_ECLOSED;
    }
    if (send_continue(r))
        return WS_ENOMEM;
    watch_body(r);
    return WS_OK;
}

void ws_request_pause_body(ws_request *request)
{
    if (ws__body_ended(&request->body) || request->state == WS__REQUEST_ANSWERED)
        return;
    request->body_paused = true;
    watch_body(request);
}

void ws_request_resume_body(ws_request *request)
{
    if (!request->body_paused || request->state == WS__REQUEST_ANSWERED)
        return;
    request->body_paused = false;
    watch_body(request);
}

#endif
