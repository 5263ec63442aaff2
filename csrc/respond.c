/* SPDX-License-Identifier: MIT */
/*
 * respond.c: responses, and the 101 that makes a WebSocket connection of a stream. handshake.c
 * decides what an opening handshake is granted. RFC 9112 section 9 (connection management),
 * RFC 6455 section 4.2.2.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strnlen */
#endif

#include "respond.h"
#include "handshake.h"
#include "receive.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

enum { UNSENT_LIMIT = 128 * 1024 }; /* bytes of a response that the kernel holds unsent */

/* ---- responses ---- */

/* RFC 9110 6.4.1: a 1xx, 204 or 304 ends with its head. The response to HEAD has no content either,
 * but the fields of one (9.3.2): see send_response. */
static bool has_content(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* RFC 9110 15.3.6: a 205 has no content, but clients expect to be told so. */
bool ws__respond_has_content(const ws_request *r, int status)
{
    return has_content(status) && status != 205 && !ws__request_method_is(r, "HEAD");
}

/* HTTP/1.1 connections persist unless a field says otherwise, 1.0 ones do not (RFC 9112 9.3). */
static const char *connection_field(const ws_request *r, int status, bool keep)
{
    if (status == 426) /* RFC 9110 15.5.22 and 7.8 */
        return "Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n";
    if (!keep)
        return "Connection: close\r\n";
    return r->head.minor ? "" : "Connection: keep-alive\r\n";
}

/* Limits how much of a long response the kernel holds, so that frequent EPOLLOUTs show the progress
 * of a slow download. Must be called before the first byte is sent, because bytes that the kernel
 * already holds count. */
static void limit_unsent(ws_conn *c, uint64_t length)
{
    if (c->unsent_limited || length < UNSENT_LIMIT)
        return;
    ws__net_limit_unsent(c->stream.fd, UNSENT_LIMIT);
    c->unsent_limited = true;
}

/* A printf would be a third of all that a short request costs. */
static char *put(char *at, const char *text, size_t length)
{
    memcpy(at, text, length);
    return at + length;
}

static char *put_decimal(char *at, uint64_t n)
{
    char digits[20], *first = digits + sizeof digits;
    do
        *--first = (char)('0' + n % 10);
    while (n /= 10);
    return put(at, first, (size_t)(digits + sizeof digits - first));
}

/* RFC 9110 6.6.1: a server with a clock "MUST generate a Date", one without "MUST NOT". The text is
 * made once per second. */
static char *put_date(char *at, struct ws__hub *hub)
{
    enum { DATE_LENGTH = 29 };
    uint64_t now = 0;
    if (hub->config.wall_clock) {
        hub->in_callbacks++;
        now = hub->config.wall_clock(hub->config.user);
        hub->in_callbacks--;
    }
    if (!now)
        return at;
    if (now != hub->date_second) {
        hub->date_second = now;
        ws__http_date((int64_t)now, hub->date);
    }
    return put(put(put(at, "Date: ", 6), hub->date, DATE_LENGTH), "\r\n", 2);
}

/* The field that says how long the content is (RFC 9112 6.3). */
static char *put_framing(char *at, const ws_request *r, int status, uint64_t length)
{
    static const char chunked[] = "Transfer-Encoding: chunked\r\n", known[] = "Content-Length: ";
    if (!has_content(status))
        return at;
    if (status == 205)
        length = 0;
    if (length == WS_UNKNOWN_LENGTH)
        return r->head.minor ? put(at, chunked, sizeof chunked - 1) : at;
    return put(put_decimal(put(at, known, sizeof known - 1), length), "\r\n", 2);
}

int ws__respond_head(ws_request *r, int status, const char *reason, uint64_t length, bool keep)
{
    enum { REASON_MAX = 200 };
    struct ws__stream *s = &r->conn->stream;
    const char *phrase = reason ? reason : ws__http_reason(status);
    const char *connection = connection_field(r, status, keep);
    char head[512], *at = put(head, "HTTP/1.1 ", 9);
    at = put(put_decimal(at, (uint64_t)status), " ", 1);
    at = put(put(at, phrase, strnlen(phrase, REASON_MAX)), "\r\n", 2);
    at = put_date(at, s->hub);
    at = put(put_framing(at, r, status, length), connection, strlen(connection));
    limit_unsent(r->conn, length);
    int error = ws__stream_send(s, head, (size_t)(at - head));
    if (!error && r->fields)
        error = ws__stream_send(s, ws__buffer_data(r->fields), ws__buffer_length(r->fields));
    return error ? error : ws__stream_send(s, "\r\n", 2);
}

/* A body that does not fit into the cork is offered to the kernel uncopied, with the head before it
 * in the queue. */
static int send_body(struct ws__stream *s, const char *body, size_t length)
{
    if (length > s->hub->config.cork_size && !s->blocked && !s->broken &&
        ws__stream_write(s, body, length, "", 0) != WS__WRITTEN_NONE)
        return s->starved ? WS_ENOMEM : WS_OK;
    return ws__stream_send(s, body, length);
}

static int send_response(ws_request *r, int status, const char *reason, const char *body,
                         size_t length, bool keep)
{
    struct ws__stream *s = &r->conn->stream;
    ws__stream_cork(s);
    int error = ws__respond_head(r, status, reason, length, keep);
    if (!error && length && ws__respond_has_content(r, status))
        error = send_body(s, body, length);
    if (error)
        ws__stream_drop(s, "out of memory", false);
    ws__stream_uncork(s);
    return error;
}

/* The request is answered; the connection reads the next one, or ends. `deferred`: it waited for
 * this, and input may have waited for it. */
static void finish(ws_request *r, bool keep, bool deferred)
{
    ws_conn *c = r->conn;
    struct ws__stream *s = &c->stream;
    if (ws__conn_is_http(c)) {
        s->count = WS__LATER_REQUEST;
        if (!keep || s->eof)
            ws__stream_linger(s, s->hub->linger_queue);
        else if (!WS__HTTP_AVAILABLE || ws__body_ended(&r->body))
            ws__stream_set_timer(s, s->hub->keep_alive_queue);
        else
            ws__request_discard_body(r);
    }
    if (deferred && s->in && s->state == WS__STREAM_OPEN)
        ws__stream_make_more(s);
    ws__request_free(r);
}

static void count_refusal(ws_stats *stats, int status)
{
    enum { LAST = sizeof stats->refused_status / sizeof *stats->refused_status - 1 };
    int i = 0;
    while (i < LAST && stats->refused_status[i] && stats->refused_status[i] != status)
        i++;
    if (i < LAST)
        stats->refused_status[i] = (uint16_t)status;
    stats->refused_with[i]++;
}

__attribute__((cold)) static void log_refusal(ws_request *r, int status, const char *why)
{
    const struct ws__span *path = &r->head.path;
    char text[160];
    snprintf(text, sizeof text, "%d %s%s%s%s%.*s", status, ws__http_reason(status),
             *why ? ": " : "", why, path->length ? ", " : "", (int)path->length,
             r->bytes + path->offset);
    ws__hub_log_refusal(r->conn->stream.hub, &r->conn->stream.peer, text);
}

/* why: see ws_server_set_on_response. */
static void report_response(ws_request *r, int status, uint64_t length, const char *why)
{
    struct ws__hub *hub = r->conn->stream.hub;
    if (why || r->is_upgrade) {
        count_refusal(&hub->stats, status);
        if (hub->config.log_refusals)
            log_refusal(r, status, why ? why : "");
    }
    WS__CALL(hub, hub->on_response, r, status, (size_t)length, why, why ? strlen(why) : 0,
             hub->response_user);
}

void ws__respond_report(ws_request *r)
{
    report_response(r, r->answer.status, r->answer.sent, NULL);
}

void ws__respond_end(ws_request *r)
{
    const bool outer = r->in_use;
    r->in_use = true;
    ws__source_close(&r->answer.source);
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    ws__respond_report(r);
    r->in_use = outer;
    finish(r, r->answer.keep && ws__request_keeps_alive(r), true);
}

void ws__respond_abort(ws_request *r)
{
    struct ws__stream *s = &r->conn->stream;
    ws__stream_flush_cork(s);
    ws__stream_break(s, false); /* no close_notify, with which it would look whole */
    ws__stream_drop(s, "aborted by the server", false);
}

static int respond(ws_request *r, int status, const char *reason, const char *why,
                   const char *body, size_t length, bool keep)
{
    bool outer = r->in_use, deferred = r->state == WS__REQUEST_DEFERRED;
    r->in_use = true; /* should this fail, r is still to be finished here */
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    int error = send_response(r, status, reason, body, length, keep);
    if (!error)
        report_response(r, status, length, why);
    r->in_use = outer;
    finish(r, keep && !r->conn->stream.hub->draining, deferred);
    return error;
}

void ws__respond_refuse(ws_request *r, int status, const char *why, bool keep)
{
    char body[160];
    int n = snprintf(body, sizeof body, "%d %s%s%s\n", status, ws__http_reason(status),
                     why ? ": " : "", why ? why : "");
    static const char type[] = "Content-Type: text/plain\r\n";
    ws__buffer_append(&r->conn->stream.hub->memory, &r->fields, type, sizeof type - 1);
    respond(r, status, NULL, why ? why : "", body, (size_t)n, keep);
}

/* ---- ws.h: responses ---- */

/* Fields that frame the message or belong to the handshake are the library's alone. */
static bool is_reserved(const char *name, size_t length)
{
    static const char names[][18] = {"content-length", "transfer-encoding", "connection",
                                     "upgrade", "date", "sec-websocket-"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        bool prefix = names[i][n - 1] == '-';
        if (ws__text_same(name, prefix && length > n ? n : length, names[i]))
            return true;
    }
    return false;
}

int ws_request_add_header(ws_request *request, const char *name, size_t name_length,
                          const char *value, size_t value_length)
{
    struct ws__memory *memory = &request->conn->stream.hub->memory;
    if (!ws__text_is_token(name, name_length) || !ws__text_is_value(value, value_length) ||
        is_reserved(name, name_length) || name_length > SIZE_MAX / 4 ||
        value_length > SIZE_MAX / 4)
        return WS_EINVAL;
    if (request->state >= WS__REQUEST_SENDING)
        return WS_ECLOSED;
    size_t n = name_length + value_length + 4;
    char *to = ws__buffer_reserve(memory, &request->fields, n);
    if (!to)
        return WS_ENOMEM;
    memcpy(to, name, name_length);
    memcpy(to + name_length, ": ", 2);
    if (value_length)
        memcpy(to + name_length + 2, value, value_length);
    memcpy(to + n - 2, "\r\n", 2);
    ws__buffer_commit(request->fields, n);
    return WS_OK;
}

void ws_request_close_after(ws_request *request)
{
    request->last = true;
}

bool ws__respond_valid(int status, const char *reason)
{
    return status >= 200 && status <= 599 &&
           (!reason || ws__text_is_value(reason, strlen(reason)));
}

int ws_request_respond(ws_request *request, int status, const char *reason, const char *body,
                       size_t length)
{
    if (!ws__respond_valid(status, reason))
        return WS_EINVAL;
    if (request->state >= WS__REQUEST_SENDING)
        return WS_ECLOSED;
    return respond(request, status, reason, NULL, body, length,
                   ws__request_keeps_alive(request) && status != 426);
}

#ifdef WS_NO_HTTP /* otherwise, see answer.c */
int ws_request_respond_static(ws_request *request, int status, const char *reason,
                              const char *bytes, size_t length)
{
    return ws_request_respond(request, status, reason, bytes, length);
}
#endif

static int send_extension(ws_conn *c)
{
    char answer[WS__DEFLATE_ANSWER_MAX], line[WS__DEFLATE_ANSWER_MAX + 32];
    ws__deflate_answer(&c->terms, answer);
    int n = snprintf(line, sizeof line, "Sec-WebSocket-Extensions: %s\r\n", answer);
    return ws__stream_send(&c->stream, line, (size_t)n);
}

/* RFC 6455 4.2.2: the 101, with nothing in it that was not asked for (H10). */
static int send_101(ws_request *r)
{
    ws_conn *c = r->conn;
    struct ws__stream *s = &c->stream;
    char accept[29], head[160];
    ws__handshake_accept(&r->head, r->bytes, accept);
    unsigned options = r->no_extensions ? 0 : r->target->settings.behavior.compression;
    struct ws__deflate_terms terms = {0};
    c->protocol.deflate = ws__handshake_deflate(&r->head, r->bytes, options, &terms);
    if (c->protocol.deflate)
        c->terms = terms;
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
                     accept);
    int error = ws__stream_send(s, head, (size_t)n);
    if (!error && r->selected_length) {
        static const char field[] = "Sec-WebSocket-Protocol: ";
        error = ws__stream_send(s, field, sizeof field - 1);
        if (!error)
            error = ws__stream_send(s, r->selected, r->selected_length);
        if (!error)
            error = ws__stream_send(s, "\r\n", 2);
    }
    if (!error && c->protocol.deflate)
        error = send_extension(c);
    if (!error && r->fields)
        error = ws__stream_send(s, ws__buffer_data(r->fields), ws__buffer_length(r->fields));
    return error ? error : ws__stream_send(s, "\r\n", 2);
}

void ws_request_decline_extensions(ws_request *request)
{
    request->no_extensions = true;
}

int ws_request_upgrade(ws_request *request, const char *protocol, size_t length, void *conn_user)
{
    ws_request *r = request;
    ws_conn *c = r->conn;
    if (r->state >= WS__REQUEST_SENDING)
        return WS_ECLOSED;
    if (!r->is_upgrade ||
        (protocol && length && !ws__handshake_offered(&r->head, r->bytes, protocol, length)))
        return WS_EINVAL;
    if (c->stream.hub->draining) {
        ws__buffer_free(&c->stream.hub->memory, &r->fields); /* they described the 101 */
        ws__respond_refuse(r, 503, NULL, false);
        return WS_ECLOSED;
    }
    r->selected = protocol ? protocol : ws_request_subprotocol(r, &length);
    r->selected_length = length;
    bool outer = r->in_use, deferred = r->state == WS__REQUEST_DEFERRED;
    r->in_use = true; /* valid until on_open has returned */
    ws_conn_cork(c);
    int error = send_101(r);
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    if (error)
        ws__stream_drop(&c->stream, "out of memory", false);
    else
        ws__receive_open(c, r, &r->target->settings, conn_user);
    ws_conn_uncork(c);
    if (protocol) { /* it was borrowed */
        r->selected = NULL;
        r->selected_length = 0;
    }
    r->in_use = outer;
    finish(r, true, deferred);
    return error;
}
