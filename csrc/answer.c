/* SPDX-License-Identifier: MIT */
/*
 * answer.c: responses that are sent in parts. The head goes out first, with the length of the
 * content or as chunks (RFC 9112 7.1); an answer in HTTP/1.0 whose length is not known ends with
 * its connection.
 */
#include "answer.h"
#include "respond.h"
#include "sendfile.h"

#include <stdio.h>
#ifndef WS_NO_HTTP

/* ---- the beginning and the end ---- */

/* The connection ends here, and on_aborted does not run: the caller knows. The request stays valid
 * until the application has heard of it: its log function may act on any request. `format`: of a
 * line to be logged, or NULL. */
__attribute__((format(printf, 2, 0))) static void drop_answer(ws_request *r, const char *format)
{
    const bool outer = r->in_use;
    r->in_use = true;
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    ws__respond_abort(r);
    if (r->answer.status) /* its head was sent */
        ws__respond_report(r);
    if (format)
        ws__hub_log(r->conn->stream.hub, WS_LOG_ERROR, format, r->pattern);
    r->in_use = outer;
    ws__request_free(r);
}

static int begin_answer(ws_request *r, int status, const char *reason, uint64_t length)
{
    struct ws__answer *a = &r->answer;
    const bool known = length != WS_UNKNOWN_LENGTH;
    if (!ws__respond_valid(status, reason) || (known && length > INT64_MAX))
        return WS_EINVAL;
    if (r->state >= WS__REQUEST_SENDING)
        return WS_ECLOSED;
    ws__request_set_state(r, WS__REQUEST_SENDING);
    a->left = length;
    a->chunked = !known && r->head.minor;
    a->silent = !ws__respond_has_content(r, status);
    a->keep = ws__request_keeps_alive(r) && status != 426 && (known || r->head.minor);
    if (ws__respond_head(r, status, reason, length, a->keep)) {
        drop_answer(r, NULL);
        return WS_ENOMEM;
    }
    a->status = status;
    return WS_OK;
}

/* ---- pieces ---- */

static int queue_piece(struct ws__stream *s, const char *size, size_t n, const char *data,
                       size_t length)
{
    const size_t tail = n ? 2 : 0;
    if (!ws__stream_reserve(s, n + length + tail))
        return WS_ENOMEM;
    ws__stream_cork(s);
    ws__stream_send(s, size, n);
    ws__stream_send(s, data, length);
    ws__stream_send(s, "\r\n", tail);
    ws__stream_uncork(s);
    if (ws__buffer_length(s->out) >= s->hub->config.cork_size)
        ws__stream_flush_cork(s);
    return WS_OK;
}

/* A long piece is offered to the kernel uncopied, with its size before it in the queue. */
static int write_piece(struct ws__stream *s, const char *size, size_t n, const char *data,
                       size_t length)
{
    const size_t tail = n ? 2 : 0;
    if (n && ws__stream_append(s, size, n, NULL, 0))
        return WS_ENOMEM;
    const enum ws__written written = ws__stream_write(s, data, length, "\r\n", tail);
    if (written == WS__WRITTEN_NONE && ws__stream_append(s, data, length, "\r\n", tail))
        ws__stream_break(s, true); /* the size cannot be taken back */
    return s->broken ? WS_ECLOSED : WS_OK;
}

static int send_piece(struct ws__stream *s, const char *data, size_t length, bool chunked)
{
    char size[24];
    const size_t n = chunked ? (size_t)snprintf(size, sizeof size, "%zx\r\n", length) : 0;
    if (length < s->hub->copy_limit || s->blocked)
        return queue_piece(s, size, n, data, length);
    return write_piece(s, size, n, data, length);
}

static bool takes_pieces(const ws_request *r)
{
    return r->state == WS__REQUEST_SENDING && !r->answer.source.open;
}

/* True if so much waits already that nothing more is taken. */
static bool is_full(const struct ws__stream *s, size_t length)
{
    const size_t limit = s->hub->config.max_response_backpressure;
    return s->blocked && limit &&
           (length > limit || ws__buffer_length(s->out) > limit - length);
}

/* ---- sources ---- */

static void shrunk(ws_request *r)
{
    drop_answer(r, "the file for %.100s is too short, or cannot be read");
}

void ws__answer_continue(ws_request *r)
{
    struct ws__answer *a = &r->answer;
    const uint64_t before = a->source.left;
    const enum ws__source_result result = ws__source_send(&a->source, &r->conn->stream);
    a->sent += before - a->source.left;
    if (result == WS__SOURCE_END)
        ws__respond_end(r);
    else if (result == WS__SOURCE_FAILED)
        shrunk(r);
    else
        ws__request_set_timer(r);
}

/* The application has no more to do with the request. */
static void begin_source(ws_request *r, const struct ws__source *source)
{
    struct ws__answer *a = &r->answer;
    const bool outer = r->in_use;
    r->on_aborted = NULL;
    r->on_body = NULL;
    a->source = *source;
    a->source.open = true;
    ws__request_watch_body(r);
    if (a->silent || !source->left) {
        a->sent = source->left;
        ws__respond_end(r);
        return;
    }
    r->in_use = true;
    ws__answer_continue(r);
    r->in_use = outer;
    if (r->state == WS__REQUEST_SENDING && ws__request_keep(r))
        drop_answer(r, NULL);
    else
        ws__request_free(r);
}

static int respond_from(ws_request *r, int status, const char *reason, struct ws__source source)
{
    struct ws__stream *s = &r->conn->stream;
    ws__stream_cork(s);
    const int error = begin_answer(r, status, reason, source.left);
    if (!error)
        begin_source(r, &source);
    ws__stream_uncork(s);
    return error;
}

/* ---- ws_http.h ---- */

int ws_request_begin(ws_request *request, int status, const char *reason, uint64_t length)
{
    struct ws__stream *s = &request->conn->stream;
    if (request->state < WS__REQUEST_SENDING && ws__request_keep(request)) {
        drop_answer(request, NULL);
        return WS_ENOMEM;
    }
    ws__stream_cork(s);
    const int error = begin_answer(request, status, reason, length);
    ws__stream_uncork(s);
    if (!error)
        ws__request_set_timer(request);
    return error;
}

int ws_request_write(ws_request *request, const char *data, size_t length)
{
    struct ws__stream *s = &request->conn->stream;
    struct ws__answer *a = &request->answer;
    const bool blocked = s->blocked;
    if (!takes_pieces(request) || s->broken)
        return WS_ECLOSED;
    if (length > a->left)
        return WS_EINVAL;
    if (length && !a->silent) {
        if (is_full(s, length))
            return WS_DROPPED;
        const int error = send_piece(s, data, length, a->chunked);
        if (error)
            return error;
    }
    a->sent += length;
    if (a->left != WS_UNKNOWN_LENGTH)
        a->left -= length;
    if (s->blocked && !blocked)
        ws__request_set_timer(request);
    return s->blocked ? WS_BACKPRESSURE : WS_SUCCESS;
}

void ws_request_on_writable(ws_request *request, void (*fn)(ws_request *request, void *user),
                            void *user)
{
    request->answer.on_writable = fn;
    request->answer.writable_user = user;
}

int ws_request_finish(ws_request *request)
{
    ws_request *r = request;
    struct ws__answer *a = &r->answer;
    if (!takes_pieces(r))
        return WS_ECLOSED;
    if (a->left && a->left != WS_UNKNOWN_LENGTH && !a->silent) {
        drop_answer(r, "the response of %.100s ended before its Content-Length");
        return WS_EINVAL;
    }
    if (a->chunked && !a->silent && ws__stream_send(&r->conn->stream, "0\r\n\r\n", 5)) {
        drop_answer(r, NULL);
        return WS_ENOMEM;
    }
    ws__respond_end(r);
    return WS_OK;
}

int ws_request_respond_static(ws_request *request, int status, const char *reason,
                              const char *bytes, size_t length)
{
    if (length < request->conn->stream.hub->copy_limit) /* one write with its head is cheaper */
        return ws_request_respond(request, status, reason, bytes, length);
    return respond_from(request, status, reason,
                        (struct ws__source){.bytes = bytes, .left = length});
}

int ws_request_respond_file(ws_request *request, int status, const char *reason, int fd,
                            uint64_t offset, uint64_t length)
{
    if (!WS__SENDFILE_AVAILABLE)
        return WS_ENOTSUP;
    if (fd < 0 || offset > INT64_MAX || length > INT64_MAX - offset)
        return WS_EINVAL;
    return respond_from(request, status, reason,
                        (struct ws__source){.fd = fd, .offset = offset, .left = length});
}

#endif
