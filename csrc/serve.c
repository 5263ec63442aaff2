/* SPDX-License-Identifier: MIT */
/*
 * serve.c: the HTTP protocol of a stream: requests in, one at a time, to the handlers of their
 * routes, and their bodies to upload.c. http.c decides about syntax, handshake.c about opening
 * handshakes. RFC 9112 section 9 (connection management), RFC 9110 section 15.
 */
#include "serve.h"
#include "admit.h"
#include "answer.h"
#include "ending.h"
#include "forwarded.h"
#include "handshake.h"
#include "input.h"
#include "methods.h"
#include "respond.h"
#include "tls.h"
#include "upload.h"

enum { TURN_REQUESTS = 64 };   /* handled per stream and turn */
enum { REFUSED_RESERVE = 64 }; /* streams above max_connections that still get a 503 */

/* ---- routing ---- */

static bool accepts_method(void *context, void *target)
{
    return ws__methods_find(context, target) != NULL;
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
    if (!ws__methods_allow(r))
        return true;
    ws__stream_drop(&r->conn->stream, "out of memory", false);
    return false;
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
    ws__ending_after_callback(r);
}

static void handle_upgrade(ws_request *r, const struct ws__route *route)
{
    const struct ws__hub *hub = r->conn->stream.hub;
    const struct ws__target *t = route->target;
    const char *why = NULL;
    if (WS__ADMIT_AVAILABLE && (hub->proxies || hub->quota) && !ws__admit_handshake(r))
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
    const struct ws__route *route =
        WS__HTTP_AVAILABLE ? find_route(r, &hub->http_routes, false) : NULL;
    if (route) {
        const struct ws__target *t = ws__methods_find(r, route->target);
        r->target = t;
        r->pattern = t->pattern;
        before_handler(r);
        t->handler(r, t->user);
        after_handler(r);
        return;
    }
    const bool http = WS__HTTP_AVAILABLE && find_route(r, &hub->http_routes, true);
    const bool websocket = find_route(r, &hub->websocket_routes, true);
    if (websocket && (ws__request_method_is(r, "GET") || ws__request_method_is(r, "HEAD")))
        ws__respond_refuse(r, 426, "this resource speaks the WebSocket protocol only", false);
    else if (!http && !websocket)
        refuse_plain(r, 404);
    else if (add_allow(r))
        refuse_plain(r, 405);
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
    if (length && !ws__upload_begin(r, length)) {
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
        if (!ws__conn_is_http(c) || s->awaiting || (s->blocked && !ws__upload_is_on(s)))
            return;
        if (had_turn(s, handled, in)) {
            ws__stream_make_more(s);
            return;
        }
        if (ws__upload_is_on(s))
            ws__upload_read(c->request, in);
        else if (!read_request(c, in))
            return;
    }
}

/* What a handler has written of its answer may be more than the client takes. */
static void http_uncork(ws_conn *c)
{
    ws_conn_uncork(c);
    if (c->stream.blocked && ws__conn_is_http(c) && c->request &&
        ws__request_is_sending(c->request))
        ws__request_set_timer(c->request);
}

/* What follows a request that is upgraded belongs to WebSocket. */
static void http_input(struct ws__stream *s, struct ws__input *in)
{
    ws_conn *c = ws__conn_of(s);
    if (WS__ADMIT_AVAILABLE && s->count == WS__PROXY_HEADER &&
        (!ws__admit_header(c, in) || ws__stream_is_filtered(s)))
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
    if (!ws__conn_is_http(c) || !r || !ws__request_is_sending(r))
        return;
    if (ws__request_has_source(r)) {
        ws__answer_continue(r);
        return;
    }
    ws__request_set_timer(r);
    r->in_use = true;
    WS__CALL(c->stream.hub, r->answer.on_writable, r, r->answer.writable_user);
    ws__ending_after_callback(r);
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

/* ---- time, room, and the end ---- */

static void http_timer(struct ws__stream *s)
{
    ws_request *r = ws__conn_of(s)->request;
    if (!r)
        ws__stream_drop(s, "timeout", false);
    else if (ws__request_is_discarding(r))
        ws__ending_discarded(r, false);
    else if (ws__request_is_sending(r) && !ws__upload_is_on(s))
        ws__stream_drop(s, "timeout", false);
    else
        ws__ending_refuse(r, s->awaiting ? 503 : 408, NULL); /* RFC 9110 15.6.4, 15.5.9 */
}

/* A response that the peer is taking is no idle connection (H22): its time starts again. */
static void http_writable(struct ws__stream *s)
{
    const struct ws__hub *hub = s->hub;
    const ws_request *r = s->state == WS__STREAM_OPEN ? ws__conn_of(s)->request : NULL;
    if (ws__upload_is_on(s) || (s->awaiting && !ws__request_is_sending(r)))
        return;
    ws__stream_set_timer(s, s->awaiting ? hub->upgrade_queue
                            : s->state == WS__STREAM_LINGERING ? hub->linger_queue
                            : r ? hub->handshake_queue
                                : hub->keep_alive_queue);
}

static void http_end(struct ws__stream *s, int code, const char *reason, size_t length)
{
    (void)code;
    (void)reason;
    (void)length;
    ws__ending_shut_down(ws__conn_of(s));
}

static void http_on_end(struct ws__stream *s, const char *reason, bool by_peer)
{
    ws_request *r = ws__conn_of(s)->request;
    (void)reason;
    (void)by_peer;
    if (!r)
        return;
    ws__ending_abort(r);
    ws__request_free(r);
}

/* No one would read a response that is not there yet; those in the queue, and one from a source,
 * are still sent. */
static bool http_eof(struct ws__stream *s)
{
    const ws_request *r = ws__conn_of(s)->request;
    if (r && ws__request_has_source(r))
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
        ws__ending_refuse(ws__conn_of(s)->request, 400, "this port speaks TLS (https, wss)");
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
    const bool foreign = WS__ADMIT_AVAILABLE && proxied &&
                         ((tls && count >= limit) ||
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
    else if (WS__ADMIT_AVAILABLE && !proxied && hub->quota)
        ws__admit_connection(ws__conn_of(s));
    if (tls)
        ws__buffer_fit(&hub->memory, &s->out); /* a refusal waits for the handshake */
    return WS_OK;
}

void ws__serve_drain(struct ws__stream *s)
{
    ws_conn *c = ws__conn_of(s);
    if (ws__conn_is_http(c) && !c->request && !s->in && !ws__net_has_input(s->fd) &&
        !(ws__stream_is_filtered(s) && s->hub->filter->holds(s)))
        ws__ending_shut_down(c);
}

/* ---- ws.h ---- */

void ws_server_set_fallback(ws_server *server,
                            void (*fn)(ws_request *request, int status, void *user), void *user)
{
    struct ws__hub *hub = ws__hub_of(server);
    hub->fallback = fn;
    hub->fallback_user = user;
}
