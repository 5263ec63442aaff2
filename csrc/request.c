/* SPDX-License-Identifier: MIT */
/*
 * request.c: the data of one HTTP request, and what the application may ask about it.
 */
#include "request.h"
#include "forwarded.h"
#include "handshake.h"
#include "text.h"
#include "ws_tls.h"

#include <string.h>

static size_t request_size(const struct ws__hub *hub)
{
    return sizeof(ws_request) + hub->config.max_headers * sizeof(struct ws__http_field);
}

/* The table of fields is filled before it is read, and too large to be zeroed for nothing. */
ws_request *ws__request_new(ws_conn *c)
{
    struct ws__hub *hub = c->stream.hub;
    ws_request *r = ws__memory_resize(&hub->memory, NULL, 0, request_size(hub));
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->head.fields = (struct ws__http_field *)(r + 1);
    r->head.max_fields = (uint16_t)hub->config.max_headers;
    r->conn = c;
    c->request = r;
    return r;
}

void ws__request_free(ws_request *r)
{
    ws_conn *c = r->conn;
    struct ws__memory *memory = &c->stream.hub->memory;
    if (r->in_use || r->state != WS__REQUEST_ANSWERED ||
        (ws__request_is_discarding(r) && ws__conn_is_http(c)))
        return;
    if (c->stream.phase == WS__CONN_NONE && c->request == r)
        c->request = NULL;
    if (c->stream.uploading)
        ws__stream_set_awaiting(&c->stream, false, false);
    if (r->place)
        *r->place = NULL;
    ws__source_close(&r->answer.source);
    ws__memory_free(memory, r->copy, r->copy ? r->length : 0);
    ws__buffer_free(memory, &r->fields);
    ws__memory_free(memory, r, request_size(c->stream.hub));
}

void ws__request_set_state(ws_request *r, enum ws__request_state state)
{
    const struct ws__stream *s = &r->conn->stream;
    const bool answering = state == WS__REQUEST_HANDLING || state == WS__REQUEST_ANSWERED;
    r->state = state;
    if (!answering || s->awaiting || s->uploading) /* otherwise it is as it was */
        ws__request_watch_body(r);
}

void ws__request_watch_body(ws_request *r)
{
    struct ws__stream *s = &r->conn->stream;
    const bool open = r->state == WS__REQUEST_DEFERRED || ws__request_is_sending(r);
    const bool uploading =
        WS__HTTP_AVAILABLE && !ws__body_ended(&r->body) &&
        (ws__request_is_discarding(r) || (open && r->on_body && !r->body_paused));
    const bool awaiting = open && !uploading;
    if (s->awaiting != awaiting || s->uploading != uploading)
        ws__stream_set_awaiting(s, awaiting, uploading);
}

void ws__request_set_timer(ws_request *r)
{
    struct ws__stream *s = &r->conn->stream;
    if (!WS__HTTP_AVAILABLE) {
        ws__stream_set_timer(s, s->hub->upgrade_queue);
        return;
    }
    if (s->uploading && r->timing_body)
        return; /* the time of the body is running already */
    ws__hub_touch(s->hub);
    if (r->timing_body)
        r->spent += s->hub->loop.now - r->since;
    r->timing_body = s->uploading;
    r->since = s->hub->loop.now;
    if (s->uploading)
        ws__stream_set_timer(s, s->hub->body_queue);
    else if (ws__request_is_sending(r) ? !s->blocked
                                       : r->body_paused && !ws__body_ended(&r->body))
        ws__timer_stop(&s->timer);
    else
        ws__stream_set_timer(s, s->hub->upgrade_queue);
}

void ws__request_renew_body_time(ws_request *r)
{
    r->timing_body = false;
    r->progress = 0;
    r->spent = 0;
    ws__request_set_timer(r);
}

bool ws__request_is_overdue(const ws_request *r)
{
    const struct ws__hub *hub = r->conn->stream.hub;
    return r->spent && r->spent + (hub->loop.now - r->since) > hub->body_queue->duration;
}

int ws__request_keep(ws_request *r)
{
    if (r->copy)
        return WS_OK;
    r->copy = ws__memory_resize(&r->conn->stream.hub->memory, NULL, 0, r->length);
    if (!r->copy)
        return WS_ENOMEM;
    memcpy(r->copy, r->bytes, r->length);
    r->bytes = r->copy;
    return WS_OK;
}

void ws__request_discard_body(ws_request *r)
{
    r->discarding = true;
    ws__request_watch_body(r);
    ws__request_set_timer(r);
}

void ws__request_forget_head(ws_request *r)
{
    memset(&r->head, 0, offsetof(struct ws__http_head, max_fields));
    r->bytes = "";
}

bool ws__request_method_is(const ws_request *r, const char *method)
{
    const struct ws__span *m = &r->head.method;
    return strlen(method) == m->length && !memcmp(r->bytes + m->offset, method, m->length);
}

/* Whether the client of an unanswered 100-continue sends the body can no longer be known. */
static bool can_discard_body(const ws_request *r)
{
    const uint64_t left = ws__body_left(&r->body);
    if (ws__request_is_sending(r) && r->on_body)
        return true; /* it will be read */
    return !left || (!r->expects_continue &&
                     (left == WS__HTTP_CHUNKED || left <= WS__DISCARD_LIMIT));
}

bool ws__request_keeps_alive(const ws_request *r)
{
    return WS__HTTP_AVAILABLE && !r->is_upgrade && !r->last && can_discard_body(r) &&
           !r->conn->stream.hub->draining && ws__http_keep_alive(&r->head, r->bytes);
}

/* ---- ws.h ---- */

static const char *text_of(const ws_request *r, struct ws__span span, size_t *length)
{
    *length = span.length;
    return span.length ? r->bytes + span.offset : NULL;
}

const char *ws_request_method(const ws_request *request, size_t *length)
{
    return text_of(request, request->head.method, length);
}

const char *ws_request_target(const ws_request *request, size_t *length)
{
    return text_of(request, request->head.target, length);
}

const char *ws_request_path(const ws_request *request, size_t *length)
{
    return text_of(request, request->head.path, length);
}

const char *ws_request_query(const ws_request *request, size_t *length)
{
    return text_of(request, request->head.query, length);
}

const char *ws_request_header(const ws_request *request, const char *name, size_t *length)
{
    const struct ws__http_field *f = request->head.fields, *end = f + request->head.field_count;
    while (f < end && !ws__text_same(request->bytes + f->name.offset, f->name.length, name))
        f++;
    *length = f < end ? f->value.length : 0;
    return f < end ? request->bytes + f->value.offset : NULL;
}

bool ws_request_header_at(const ws_request *request, size_t i, const char **name,
                          size_t *name_length, const char **value, size_t *value_length)
{
    if (i >= request->head.field_count)
        return false;
    const struct ws__http_field *f = &request->head.fields[i];
    *name = request->bytes + f->name.offset;
    *name_length = f->name.length;
    *value = request->bytes + f->value.offset;
    *value_length = f->value.length;
    return true;
}

const char *ws_request_parameter(const ws_request *request, size_t i, size_t *length)
{
    *length = 0;
    if (i >= request->match.count)
        return NULL;
    *length = request->match.parameters[i].length;
    return request->bytes + request->head.path.offset + request->match.parameters[i].offset;
}

const char *ws_request_pattern(const ws_request *request)
{
    return request->pattern;
}

bool ws_request_is_upgrade(const ws_request *request)
{
    return request->is_upgrade;
}

const char *ws_request_subprotocol(const ws_request *request, size_t *length)
{
    const char *name = request->selected;
    *length = request->selected_length;
    if (name || !request->is_upgrade || request->state >= WS__REQUEST_SENDING)
        return name;
    name = ws__handshake_select(&request->head, request->bytes,
                                request->target->settings.behavior.subprotocols);
    *length = name ? strlen(name) : 0;
    return name;
}

/* Several clients may share the connection of a proxy, one after the other. That of an opening
 * handshake is its client's already (ws__admit_handshake). */
static struct ws__address client_of(const ws_request *r)
{
    struct ws__address client = r->conn->stream.peer;
    if (!r->is_upgrade)
        ws__forwarded_client(r->conn->stream.hub->proxies, &r->head, r->bytes, &client);
    return client;
}

size_t ws_request_remote_address(const ws_request *request, char *text, size_t size)
{
    const struct ws__address client = client_of(request);
    return ws__net_address_text(&client, text, size);
}

uint16_t ws_request_remote_port(const ws_request *request)
{
    return client_of(request).port;
}

const char *ws_request_scheme(const ws_request *request)
{
    static const char schemes[][6] = {"http", "https", "ws", "wss"};
    return schemes[2 * request->is_upgrade + client_of(request).secure];
}

void ws_request_track(ws_request *request, ws_request **place)
{
    request->place = place;
}

void *ws_request_tls(const ws_request *request)
{
    return ws_conn_tls(request->conn);
}

int ws_request_defer(ws_request *request, void (*on_aborted)(ws_request *request, void *user),
                     void *user)
{
    ws_request *r = request;
    if (r->state > WS__REQUEST_HANDLING)
        return WS_ECLOSED;
    if (ws__request_keep(r))
        return WS_ENOMEM;
    r->on_aborted = on_aborted;
    r->aborted_user = user;
    ws__request_set_state(r, WS__REQUEST_DEFERRED);
    ws__request_set_timer(r);
    return WS_OK;
}

int ws_request_refusal(const ws_request *request)
{
    return request->refusal;
}
