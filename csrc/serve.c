/* SPDX-License-Identifier: MIT */
/*
 * serve.c: the HTTP protocol of a stream: requests and their bodies in, one at a time, to the
 * handlers of their routes. http.c and body.c decide about syntax, handshake.c about opening
 * handshakes. RFC 9112 section 9 (connection management), RFC 9110 section 15.
 */
#include "serve.h"
#include "admit.h"
#include "answer.h"
#include "forwarded.h"
#include "handshake.h"
#include "input.h"
#include "respond.h"
#include "tls.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TURN_REQUESTS = 64 };    /* handled per stream and turn */
enum { REFUSED_RESERVE = 64 };  /* streams above max_connections that still get a 503 */
enum { PROGRESS = 16 * 1024 };  /* bytes of a body after which its time starts again */

/* ---- routing ---- */

static const struct ws__target *target_for_method(const ws_request *r, const struct ws__target *t)
{
    const struct ws__target *get = NULL, *any = NULL;
    for (; t; t = t->next) {
        if (ws__request_method_is(r, t->method))
            return t;
        if (ws__request_method_is(r, "HEAD") && !strcmp(t->method, "GET"))
            get = t;
        if (t->method[0] == '*')
            any = t;
    }
    return get ? get : any;
}

static bool accepts_method(void *context, void *target)
{
    return target_for_method(context, target) != NULL;
}

static const struct ws__route *find_route(ws_request *r, const struct ws__router *router,
                                          bool any_method)
{
    return ws__router_find(router, r->bytes + r->head.path.offset, r->head.path.length,
                           any_method ? NULL : accepts_method, r, &r->match);
}

/* RFC 9110 15.5.6: with a 405, the server "MUST generate an Allow header field". Returns false if
 * there was no memory for it. */
static bool add_allow(ws_request *r)
{
    const struct ws__span *path = &r->head.path, *method = &r->head.method;
    if (!ws__route_allow(r->conn->stream.hub, r->bytes + path->offset, path->length,
                         r->bytes + method->offset, method->length, &r->fields))
        return true;
    ws__stream_drop(&r->conn->stream, "out of memory", false);
    return false;
}

static void shut_down(ws_conn *c);

/* A function of the application that may answer the request, end the stream and shut the server
 * down has returned; see shut_down. */
static void after_callback(ws_request *r)
{
    ws_conn *c = r->conn;
    const struct ws__hub *hub = c->stream.hub;
    r->in_use = false;
    ws__request_free(r);
    bool over = hub->stopping || (hub->draining && !c->request);
    if (over && ws__conn_is_http(c))
        shut_down(c);
}

static void before_handler(ws_request *r)
{
    ws__request_set_state(r, WS__REQUEST_HANDLING);
    r->in_use = true;
}

/* The handler may answer, defer, or drop the connection. One that does nothing is a fault of the
 * application, to which the client gets a 500. */
static void after_handler(ws_request *r)
{
    struct ws__hub *hub = r->conn->stream.hub;
    if (r->state == WS__REQUEST_HANDLING) {
        ws__buffer_free(&hub->memory, &r->fields); /* they described another response */
        ws__respond_refuse(r, 500, NULL, false);
        ws__hub_log(hub, WS_LOG_ERROR, "the handler of %.100s did not answer the request",
                    r->pattern[0] ? r->pattern : "ws_server_set_fallback");
    }
    after_callback(r);
}

static void handle_upgrade(ws_request *r, const struct ws__route *route)
{
    const struct ws__target *t = route->target;
    const char *why = NULL;
    if ((r->conn->stream.hub->proxies || r->conn->stream.hub->quota) && !ws__admit_handshake(r))
        return;
    int status = ws__handshake_check(&r->head, r->bytes, !ws__body_ended(&r->body),
                                     t->settings.behavior.origins,
                                     t->settings.behavior.origin_optional, &why);
    r->target = t;
    r->pattern = route->pattern;
    if (status == -405 && !add_allow(r))
        return;
    if (status) {
        ws__respond_refuse(r, -status, why, false);
    } else if (t->settings.behavior.on_upgrade) {
        before_handler(r);
        t->settings.behavior.on_upgrade(r, t->settings.behavior.user);
        after_handler(r);
    } else {
        ws_request_upgrade(r, NULL, 0, NULL); /* whatever comes of it, r is done with */
    }
}

/* A response that the application may give in its own words. */
static void refuse_plain(ws_request *r, int status)
{
    const struct ws__hub *hub = r->conn->stream.hub;
    if (!hub->fallback) {
        ws__respond_refuse(r, status, NULL, ws__request_keeps_alive(r));
        return;
    }
    r->pattern = "";
    r->match.count = 0; /* of a route with another method */
    before_handler(r);
    hub->fallback(r, status, hub->fallback_user);
    after_handler(r);
}

static void handle_plain(ws_request *r)
{
    struct ws__hub *hub = r->conn->stream.hub;
    const struct ws__route *route = find_route(r, &hub->http_routes, false);
    if (route) {
        const struct ws__target *t = target_for_method(r, route->target);
        r->target = t;
        r->pattern = t->pattern;
        before_handler(r);
        t->handler(r, t->user);
        after_handler(r);
        return;
    }
    const bool http = find_route(r, &hub->http_routes, true);
    const bool websocket = find_route(r, &hub->websocket_routes, true);
    if (websocket && (ws__request_method_is(r, "GET") || ws__request_method_is(r, "HEAD")))
        ws__respond_refuse(r, 426, "this resource speaks the WebSocket protocol only", false);
    else if (!http && !websocket)
        refuse_plain(r, 404);
    else if (add_allow(r))
        refuse_plain(r, 405);
}

/* RFC 9110 10.1.1: a server that gets an expectation other than 100-continue "MAY respond with a
 * 417 (Expectation Failed) status code", and one in HTTP/1.0 is ignored. Returns false for 417. */
static bool begin_body(ws_request *r, uint64_t length)
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

static void handle_request(ws_request *r)
{
    struct ws__hub *hub = r->conn->stream.hub;
    uint64_t length;
    int status = ws__http_check(&r->head, r->bytes, &length);
    if (status) {
        ws__respond_refuse(r, -status,
                           status == -501
                               ? "chunked is the only known transfer coding"
                               : "one Host field and one clear length of the body are needed",
                           false);
        return;
    }
    if (length && !begin_body(r, length)) {
        ws__respond_refuse(r, 417, "100-continue is the only expectation that can be met", false);
        return;
    }
    if (ws__handshake_is_upgrade(&r->head, r->bytes)) {
        const struct ws__route *route = find_route(r, &hub->websocket_routes, true);
        r->is_upgrade = route != NULL;
        if (route) {
            handle_upgrade(r, route);
            return;
        }
    }
    handle_plain(r);
}

static void refuse_syntax(ws_request *r, int status, const char *bytes)
{
    enum { TLS_HANDSHAKE = 0x16 };
    const char *why = bytes[0] == TLS_HANDSHAKE ? "TLS ClientHello on a port without TLS"
                      : status == 400           ? "the request head is malformed"
                      : status == 505           ? "the request is not HTTP/1"
                                                : NULL;
    ws__request_forget_head(r);
    ws__respond_refuse(r, status, why, false);
}

/* ---- reading ---- */

/* The first byte of a later request starts its time (H22). */
static ws_request *begin_request(ws_conn *c)
{
    if (c->request)
        return c->request;
    ws_request *r = ws__request_new(c);
    if (!r)
        ws__stream_drop(&c->stream, "out of memory", false);
    else if (c->stream.count == WS__LATER_REQUEST)
        ws__stream_set_timer(&c->stream, c->stream.hub->handshake_queue);
    return r;
}

/* Returns false if no request was handled, for want of bytes or because the request is refused. */
static bool read_request(ws_conn *c, struct ws__input *in)
{
    ws_request *r = begin_request(c);
    if (!r)
        return false;
    int size = ws__http_parse(&r->head, in->data, in->length,
                              c->stream.hub->config.max_header_size);
    if (size == 0)
        return false;
    if (size < 0) {
        refuse_syntax(r, -size, in->data);
        return false;
    }
    r->bytes = in->data;
    r->length = (size_t)size;
    in->data += size;
    in->length -= (size_t)size;
    r->followed = in->length > 0;
    handle_request(r);
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
        after_callback(r);
}

/* A slow upload may take any time, a trickle may not. */
static void note_progress(ws_request *r, size_t n)
{
    r->progress += (uint32_t)n; /* what was read at once */
    if (r->progress >= PROGRESS && r->conn->stream.uploading)
        ws__request_renew_body_time(r);
}

/* The answer is sent, and the body has ended or is given up: the request is finished. */
static void end_discarding(ws_request *r, bool keep)
{
    ws_conn *c = r->conn;
    struct ws__stream *s = &c->stream;
    r->discarding = false;
    if (keep)
        ws__stream_set_timer(s, s->hub->keep_alive_queue);
    else
        ws__stream_linger(s, s->hub->linger_queue);
    ws__request_free(r);
    if (keep && s->hub->draining)
        shut_down(c);
}

__attribute__((cold)) static void give_up(ws_request *r, int status, const char *why);

/* RFC 9110 15.5.14. The text names the limit, which the owner of the server may raise. */
static void give_up_long_body(ws_request *r)
{
    char why[64];
    snprintf(why, sizeof why, "max_body_size is %" PRIu64 " bytes", r->max_size);
    give_up(r, 413, why);
}

/* Hands out a piece, or discards all that is there. */
static void read_body(ws_request *r, struct ws__input *in)
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
            end_discarding(r, last);
    } else if (result == -413) {
        give_up_long_body(r);
    } else if (result < 0) {
        give_up(r, -result, result == -400 ? "the request body is malformed" : NULL);
    } else if (!last && ws__request_is_overdue(r)) {
        give_up(r, 408, NULL);
    } else if (result != WS__BODY_MORE) {
        pass_on(r, data, length, last);
    }
}

/* Requests, or pieces of a body, of which `handled` were handled in this turn. */
static bool had_turn(const struct ws__stream *s, unsigned handled, const struct ws__input *in)
{
    return (handled >= TURN_REQUESTS && !s->uploading) ||
           (handled && ws__hub_had_turn(s->hub, handled, in)) ||
           /* to be sent first */
           (!s->blocked && ws__buffer_length(s->out) >= s->hub->config.cork_size);
}

static void read_requests(ws_conn *c, struct ws__input *in)
{
    struct ws__stream *s = &c->stream;
    for (unsigned handled = 0; in->length; handled++) {
        if (!ws__conn_is_http(c) || s->awaiting || (s->blocked && !s->uploading))
            return;
        if (had_turn(s, handled, in)) {
            ws__stream_make_more(s);
            return;
        }
        if (s->uploading)
            read_body(c->request, in);
        else if (!read_request(c, in))
            return;
    }
}

/* What a handler has written of its answer may be more than the client takes. */
static void http_uncork(ws_conn *c)
{
    ws_conn_uncork(c);
    if (c->stream.blocked && ws__conn_is_http(c) && c->request &&
        c->request->state == WS__REQUEST_SENDING)
        ws__request_set_timer(c->request);
}

/* What follows a request that is upgraded belongs to WebSocket. */
static void http_input(struct ws__stream *s, struct ws__input *in)
{
    ws_conn *c = ws__conn_of(s);
    if (s->count == WS__PROXY_HEADER && (!ws__admit_header(c, in) || s->filtered))
        return;
    ws_conn_cork(c);
    read_requests(c, in);
    if (c->stream.phase != WS__CONN_NONE && in->length && s->state == WS__STREAM_OPEN)
        s->protocol->on_input(s, in);
    http_uncork(c);
}

/* The queue is empty after it was not. */
static void http_drained(ws_conn *c)
{
    ws_request *r = c->request;
    c->stream.drain_due = false;
    if (!ws__conn_is_http(c) || !r || r->state != WS__REQUEST_SENDING)
        return;
    if (r->answer.source.open) {
        ws__answer_continue(r);
        return;
    }
    ws__request_set_timer(r);
    r->in_use = true;
    WS__CALL(c->stream.hub, r->answer.on_writable, r, r->answer.writable_user);
    after_callback(r);
}

static void http_ready(struct ws__stream *s, bool more)
{
    ws_conn *c = ws__conn_of(s);
    if (s->drain_due && !s->blocked && !ws__buffer_length(s->out)) {
        ws_conn_cork(c);
        http_drained(c);
        http_uncork(c);
    }
    if (more && ws__conn_is_http(c))
        ws__input_handle_kept(s);
}

/* ---- requests that get no other response ---- */

/* Runs on_aborted, once; whatever the application does with the request then has no effect. */
static void abort_request(ws_request *r)
{
    const enum ws__request_state state = r->state;
    const bool outer = r->in_use;
    r->discarding = false;
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    r->in_use = true;
    if (state == WS__REQUEST_DEFERRED || state == WS__REQUEST_SENDING)
        WS__CALL(r->conn->stream.hub, r->on_aborted, r, r->aborted_user);
    if (state == WS__REQUEST_SENDING)
        ws__respond_report(r);
    r->in_use = outer;
}

/* Answers a request, whole or not, which is not answered. An answer that has begun ends early. */
static void give_up(ws_request *r, int status, const char *why)
{
    ws_conn *c = r->conn;
    const bool begun = r->state == WS__REQUEST_SENDING;
    if (r->state == WS__REQUEST_READING)
        ws__request_forget_head(r);
    r->refusal = begun ? 0 : (uint16_t)status;
    abort_request(r);
    ws__buffer_free(&c->stream.hub->memory, &r->fields); /* they described another response */
    if (ws__conn_is_http(c) && !begun) {
        ws__respond_refuse(r, status, why, false);
        return;
    }
    if (c->stream.filtered && r->answer.left == WS_UNKNOWN_LENGTH && !r->answer.chunked) {
        ws__respond_abort(r); /* its end is that of the connection */
        return;
    }
    ws__stream_linger(&c->stream, c->stream.hub->linger_queue);
    ws__request_free(r);
}

static void http_timer(struct ws__stream *s)
{
    ws_request *r = ws__conn_of(s)->request;
    if (!r)
        ws__stream_drop(s, "timeout", false);
    else if (r->discarding)
        end_discarding(r, false);
    else if (r->state == WS__REQUEST_SENDING && !s->uploading)
        ws__stream_drop(s, "timeout", false);
    else
        give_up(r, s->awaiting ? 503 : 408, NULL); /* RFC 9110 15.6.4, 15.5.9 */
}

/* A response that the peer is taking is no idle connection (H22): its time starts again. */
static void http_writable(struct ws__stream *s)
{
    const struct ws__hub *hub = s->hub;
    const ws_request *r = s->state == WS__STREAM_OPEN ? ws__conn_of(s)->request : NULL;
    if (s->uploading || (s->awaiting && r->state != WS__REQUEST_SENDING))
        return;
    ws__stream_set_timer(s, s->awaiting ? hub->upgrade_queue
                            : s->state == WS__STREAM_LINGERING ? hub->linger_queue
                            : r ? hub->handshake_queue
                                : hub->keep_alive_queue);
}

/* 503 to a request that has begun; a response on its way may still arrive. */
static void shut_down(ws_conn *c)
{
    struct ws__stream *s = &c->stream;
    if (c->request && c->request->in_use)
        return; /* until its handler has returned */
    if (c->request && c->request->answer.source.open)
        return; /* until it has ended, or the time of the shutdown */
    if (c->request && c->request->discarding)
        end_discarding(c->request, false);
    else if (c->request)
        give_up(c->request, 503, NULL);
    else if (ws__buffer_length(s->out) || s->blocked) /* a filter may have kept all of it */
        ws__stream_linger(s, s->hub->linger_queue);
    else
        ws__stream_drop(s, "shutdown", false);
}

static void http_end(struct ws__stream *s, int code, const char *reason, size_t length)
{
    (void)code;
    (void)reason;
    (void)length;
    shut_down(ws__conn_of(s));
}

static void http_on_end(struct ws__stream *s, const char *reason, bool by_peer)
{
    ws_request *r = ws__conn_of(s)->request;
    (void)reason;
    (void)by_peer;
    if (!r)
        return;
    abort_request(r);
    ws__request_free(r);
}

/* No one would read a response that is not there yet; those in the queue, and one from a source,
 * are still sent. */
static bool http_eof(struct ws__stream *s)
{
    const ws_request *r = ws__conn_of(s)->request;
    if (r && r->answer.source.open)
        return true;
    if (!s->out && !s->blocked)
        return false;
    http_on_end(s, NULL, true);
    ws__stream_linger(s, s->hub->linger_queue);
    return true;
}

static void http_unfiltered(struct ws__stream *s)
{
    if (begin_request(ws__conn_of(s)))
        give_up(ws__conn_of(s)->request, 400, "this port speaks TLS (https, wss)");
}

static const struct ws__stream_protocol http = {
    .size = sizeof(ws_conn),
    .half_duplex = true,
    .eof_reason = "connection closed without a request",
    .on_input = http_input,
    .on_ready = http_ready,
    .on_timer = http_timer,
    .on_writable = http_writable,
    .on_eof = http_eof,
    .end = http_end,
    .on_end = http_on_end,
    .release = ws__conn_release,
    .on_unfiltered = http_unfiltered,
};

int ws__serve(struct ws__hub *hub, int fd, const struct ws__address *peer, bool proxied,
              const ws_tls *tls, struct ws__buffer *in)
{
    const uint32_t count = hub->stats.connections, limit = hub->config.max_connections;
    struct ws__stream *s;
    int error = WS_ELIMIT;
    hub->stats.accepted++;
    const bool foreign = proxied && ((tls && count >= limit) ||
                                     (hub->proxies && !ws__proxies_trust(hub->proxies, peer)));
    if (count < limit + REFUSED_RESERVE && !foreign)
        error = ws__stream_new(hub, fd, peer, tls, &http, &s);
    hub->stats.refused += count >= limit || error;
    if (error == WS_ELIMIT)
        ws__hub_log_refusal(hub, peer, count >= limit ? "max_connections" : "no trusted proxy");
    if (error)
        return error;
    s->in = in;
    if (in)
        ws__stream_make_more(s);
    ws__stream_set_timer(s, hub->handshake_queue);
    s->count = proxied ? WS__PROXY_HEADER : WS__FIRST_REQUEST;
    if (tls)
        ws__tls_begin(s, tls, proxied);
    if (count >= limit)
        ws__admit_refuse(ws__conn_of(s), 503, NULL);
    else if (!proxied && hub->quota)
        ws__admit_connection(ws__conn_of(s));
    if (tls)
        ws__buffer_fit(&hub->memory, &s->out); /* a refusal waits for the handshake */
    return WS_OK;
}

void ws__serve_drain(struct ws__stream *s)
{
    ws_conn *c = ws__conn_of(s);
    if (ws__conn_is_http(c) && !c->request && !s->in && !ws__net_has_input(s->fd) &&
        !(s->filtered && s->hub->filter->holds(s)))
        shut_down(c);
}

/* ---- ws.h ---- */

void ws_server_set_fallback(ws_server *server,
                            void (*fn)(ws_request *request, int status, void *user), void *user)
{
    struct ws__hub *hub = ws__hub_of(server);
    hub->fallback = fn;
    hub->fallback_user = user;
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

int ws_request_abort(ws_request *request)
{
    const bool begun = request->state == WS__REQUEST_SENDING, outer = request->in_use;
    if (request->state == WS__REQUEST_ANSWERED || request->answer.source.open)
        return WS_ECLOSED;
    ws__request_set_state(request, WS__REQUEST_ANSWERED);
    if (begun) {
        request->in_use = true;
        ws__respond_report(request);
        request->in_use = outer;
    }
    ws__respond_abort(request);
    return WS_OK;
}

/* RFC 9110 10.1.1: the 100 can be left out if a part of the body has arrived. Once the final
 * response has begun, it is too late for one (15.2). */
static int send_continue(ws_request *r)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct ws__stream *s = &r->conn->stream;
    if (!r->expects_continue || r->state == WS__REQUEST_SENDING)
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
    if (r->state == WS__REQUEST_ANSWERED || r->answer.source.open)
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
        give_up_long_body(r);
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
