/*
 * request.c: the HTTP phase of a connection: requests in, responses and 101s out, one request in
 * hand at a time. Syntax is judged by http.c, opening handshakes by handshake.c.
 * RFC 9112 section 9 (connection management), RFC 6455 section 4.2.2.
 */
#include "conn.h"
#include "handshake.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TURN_REQUESTS = 64, MAX_METHOD = 32 };

struct ws_request {
    ws_conn *conn;
    const struct ws__target *target;
    const char *pattern;
    struct ws__match match;
    const char *bytes; /* the head: in the receive buffer, or `copy` */
    size_t length;
    char *copy; /* after ws_request_defer */
    struct ws__buffer *fields; /* of ws_request_add_header */
    void (*on_aborted)(ws_request *request, void *user);
    void *aborted_user;
    const char *selected; /* subprotocol of the 101 */
    size_t selected_length;
    bool is_upgrade, has_body, handling, answered, no_extensions;
    struct ws__http_head head; /* its table of fields lies after the request, in the same block */
};

static size_t request_size(const struct ws__hub *hub)
{
    return sizeof(ws_request) + hub->config.max_headers * sizeof(struct ws__http_field);
}

static void free_request(ws_request *r)
{
    ws_conn *c = r->conn;
    struct ws__memory *memory = &c->hub->memory;
    if (r->handling || !r->answered)
        return;
    if (!c->target && c->request == r)
        c->request = NULL;
    ws__memory_free(memory, r->copy, r->copy ? r->length : 0);
    ws__buffer_free(memory, &r->fields);
    ws__memory_free(memory, r, request_size(c->hub));
}

/* ---- responses ---- */

/* The Date of this second (RFC 9110 6.6.1), made once per second. */
static const char *date(struct ws__hub *hub)
{
    int64_t now = (int64_t)time(NULL);
    if (now != hub->date_second) {
        hub->date_second = now;
        ws__http_date(now, hub->date);
    }
    return hub->date;
}

/* RFC 9110 6.4.1: these have no content; 9.3.2: nor has the answer to HEAD. */
static bool has_content(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static bool is_head(const ws_request *r)
{
    const struct ws__span *m = &r->head.method;
    return m->length == 4 && !memcmp(r->bytes + m->offset, "HEAD", 4);
}

static bool keeps_alive(const ws_request *r)
{
    return !r->is_upgrade && !r->has_body && !r->conn->hub->stopping &&
           ws__http_keep_alive(&r->head, r->bytes);
}

/* HTTP/1.1 connections persist unless told otherwise, 1.0 ones do not (RFC 9112 9.3). */
static const char *connection_field(const ws_request *r, int status, bool keep)
{
    if (status == 426) /* RFC 9110 15.5.22 and 7.8 */
        return "Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n";
    if (!keep)
        return "Connection: close\r\n";
    return r->head.minor ? "" : "Connection: keep-alive\r\n";
}

/* A slow download shows its progress by frequent EPOLLOUTs, if the kernel holds little of it. What
 * the kernel has taken already would count: this is for before the first byte. */
static void limit_unsent(ws_conn *c, size_t length)
{
    if (c->limited || length < WS__UNSENT_LIMIT)
        return;
    ws__net_limit_unsent(c->fd, WS__UNSENT_LIMIT);
    c->limited = true;
}

static int send_response(ws_request *r, int status, const char *reason, const char *body,
                         size_t length, bool keep)
{
    ws_conn *c = r->conn;
    char head[512], content[48] = "";
    if (has_content(status))
        snprintf(content, sizeof content, "Content-Length: %zu\r\n", length);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %d %.200s\r\nDate: %s\r\n%s%s", status,
                     reason ? reason : ws__http_reason(status), date(c->hub), content,
                     connection_field(r, status, keep));
    limit_unsent(c, length);
    ws_conn_cork(c);
    int error = ws__send_bytes(c, head, (size_t)n);
    if (!error && r->fields)
        error = ws__send_bytes(c, ws__buffer_data(r->fields), ws__buffer_length(r->fields));
    if (!error)
        error = ws__send_bytes(c, "\r\n", 2);
    if (!error && length && has_content(status) && !is_head(r))
        error = ws__send_bytes(c, body, length);
    if (error)
        ws__conn_drop(c, "out of memory");
    ws_conn_uncork(c);
    return error;
}

/* The request is answered; the connection goes on with the next one, or ends. */
static void finish(ws_request *r, bool keep)
{
    ws_conn *c = r->conn;
    bool waited = c->waiting;
    r->answered = true;
    c->waiting = false;
    if (c->state == WS__HTTP) {
        if (!keep)
            ws__conn_linger(c);
        else
            ws__conn_set_timer(c, c->hub->keep_alive_queue);
        c->idle = true;
    }
    if (waited && c->state < WS__LINGERING) {
        ws__conn_update_interest(c);
        if (c->in)
            ws__conn_make_more(c);
    }
    free_request(r);
}

/* why: see ws_server_set_on_response. */
static int respond(ws_request *r, int status, const char *reason, const char *why,
                   const char *body, size_t length, bool keep)
{
    struct ws__hub *hub = r->conn->hub;
    bool outer = r->handling;
    r->handling = r->answered = true; /* should this fail, r is still to be finished here */
    int error = send_response(r, status, reason, body, length, keep);
    if (!error)
        WS__CALL(hub, hub->on_response, r, status, length, why, why ? strlen(why) : 0,
                 hub->response_user);
    r->handling = outer;
    finish(r, keep && !hub->stopping);
    return error;
}

/* An answer of the library's own: one line of text that says what was wrong. */
static void refuse(ws_request *r, int status, const char *why, bool keep)
{
    char body[160];
    int n = snprintf(body, sizeof body, "%d %s%s%s\n", status, ws__http_reason(status),
                     why ? ": " : "", why ? why : "");
    static const char type[] = "Content-Type: text/plain\r\n";
    ws__buffer_append(&r->conn->hub->memory, &r->fields, type, sizeof type - 1);
    respond(r, status, NULL, why ? why : "", body, (size_t)n, keep);
}

/* ---- requests ---- */

static bool begin_request(ws_conn *c)
{
    if (c->request)
        return true;
    c->request = ws__memory_resize(&c->hub->memory, NULL, 0, request_size(c->hub));
    if (!c->request)
        return false;
    /* The table of fields is filled before it is read, and too large to be zeroed for nothing. */
    memset(c->request, 0, sizeof *c->request);
    c->request->head.fields = (struct ws__http_field *)(c->request + 1);
    c->request->head.max_fields = (uint16_t)c->hub->config.max_headers;
    c->request->conn = c;
    if (c->idle) /* the first byte of a later request starts its time (H22) */
        ws__conn_set_timer(c, c->hub->handshake_queue);
    c->idle = false;
    return true;
}

static bool method_is(const ws_request *r, const char *method)
{
    const struct ws__span *m = &r->head.method;
    return strlen(method) == m->length && !memcmp(r->bytes + m->offset, method, m->length);
}

static const struct ws__target *target_for_method(const ws_request *r, const struct ws__target *t)
{
    const struct ws__target *get = NULL, *any = NULL;
    for (; t; t = t->next) {
        if (method_is(r, t->method))
            return t;
        if (is_head(r) && !strcmp(t->method, "GET"))
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

/* 405 with Allow (RFC 9110 15.5.6), or no answer at all: one without it would be wrong. */
static void refuse_method(ws_request *r, const char *why, bool keep)
{
    const struct ws__span *path = &r->head.path, *method = &r->head.method;
    if (ws__route_allow(r->conn->hub, r->bytes + path->offset, path->length,
                        r->bytes + method->offset, method->length, &r->fields))
        ws__conn_drop(r->conn, "out of memory");
    else
        refuse(r, 405, why, keep);
}

/* The handler may answer, defer, or drop the connection; one that does nothing is a fault of the
 * application, which the client learns as 500. */
static void run_handler(ws_request *r, void (*handler)(ws_request *, void *), void *user)
{
    ws_conn *c = r->conn;
    r->handling = true;
    handler(r, user);
    if (!r->answered && !c->waiting) {
        ws__hub_log(c->hub, WS_LOG_ERROR, "the handler of %.100s did not answer the request",
                    r->pattern);
        ws__buffer_free(&c->hub->memory, &r->fields); /* they described another answer */
        refuse(r, 500, NULL, false);
    }
    r->handling = false;
    free_request(r);
    if (c->hub->stopping && c->state == WS__HTTP) /* the handler itself may have asked for it */
        ws__request_shutdown(c);
}

static void handle_upgrade(ws_request *r, const struct ws__route *route)
{
    const struct ws__target *t = route->target;
    const char *why = NULL;
    int status = ws__handshake_check(&r->head, r->bytes, r->has_body, t->behavior.origins,
                                     t->behavior.origin_optional, &why);
    r->target = t;
    r->pattern = route->pattern;
    if (status == -405)
        refuse_method(r, why, false);
    else if (status)
        refuse(r, -status, why, false);
    else if (t->behavior.on_upgrade)
        run_handler(r, t->behavior.on_upgrade, t->behavior.user);
    else
        ws_request_upgrade(r, NULL, 0, NULL); /* whatever comes of it, r is done with */
}

static void handle_plain(ws_request *r)
{
    struct ws__hub *hub = r->conn->hub;
    const struct ws__route *route = find_route(r, &hub->http_routes, false);
    bool keep = keeps_alive(r);
    if (route) {
        const struct ws__target *t = target_for_method(r, route->target);
        r->target = t;
        r->pattern = t->pattern;
        run_handler(r, t->handler, t->user);
        return;
    }
    const bool http = find_route(r, &hub->http_routes, true);
    const bool websocket = find_route(r, &hub->websocket_routes, true);
    if (websocket && (method_is(r, "GET") || is_head(r)))
        refuse(r, 426, "this resource speaks the WebSocket protocol only", false);
    else if (http || websocket)
        refuse_method(r, NULL, keep);
    else
        refuse(r, 404, NULL, keep);
}

static void handle_request(ws_request *r)
{
    struct ws__hub *hub = r->conn->hub;
    int status = ws__http_check(&r->head, r->bytes, &r->has_body);
    if (status) {
        refuse(r, -status, "one Host field and one clear length of the body are needed", false);
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
    /* The head is not known, so nothing of it may be looked at for the answer. */
    memset(&r->head, 0, offsetof(struct ws__http_head, max_fields));
    r->bytes = "";
    refuse(r, status, why, false);
}

void ws__request_read(ws_conn *c, struct ws__input *in)
{
    for (unsigned handled = 0; c->state == WS__HTTP && !c->waiting && !c->blocked; handled++) {
        if (!in->length)
            return;
        bool enough = handled == TURN_REQUESTS || (handled && ws__conn_had_turn(c, handled, in));
        if (enough || ws__buffer_length(c->out) >= WS__CORK_SIZE) { /* to be sent first */
            ws__conn_make_more(c);
            return;
        }
        if (!begin_request(c)) {
            ws__conn_drop(c, "out of memory");
            return;
        }
        ws_request *r = c->request;
        int size = ws__http_parse(&r->head, in->data, in->length, c->hub->config.max_header_size);
        if (size == 0)
            return;
        if (size < 0) {
            refuse_syntax(r, -size, in->data);
            return;
        }
        r->bytes = in->data;
        r->length = (size_t)size;
        in->data += size;
        in->length -= (size_t)size;
        handle_request(r);
    }
}

/* ---- the end of waiting ---- */

/* on_aborted, once, and whatever the application does with the request then has no effect. */
static void abort_request(ws_request *r)
{
    bool waiting = r->conn->waiting && !r->answered;
    r->answered = true;
    if (!waiting)
        return;
    r->conn->waiting = false;
    bool handling = r->handling;
    r->handling = true;
    WS__CALL(r->conn->hub, r->on_aborted, r, r->aborted_user);
    r->handling = handling;
}

void ws__request_abandon(ws_conn *c)
{
    ws_request *r = c->target ? NULL : c->request;
    if (!r)
        return;
    abort_request(r);
    free_request(r);
}

/* 503 or 408 to a request that is whole or not. */
static void give_up(ws_conn *c, int status)
{
    ws_request *r = c->request;
    if (!c->waiting) { /* not whole: its offsets mean nothing yet */
        memset(&r->head, 0, offsetof(struct ws__http_head, max_fields));
        r->bytes = "";
    }
    abort_request(r);
    ws__buffer_free(&c->hub->memory, &r->fields); /* they described another answer */
    if (c->state == WS__HTTP)
        refuse(r, status, NULL, false);
    else
        free_request(r);
}

void ws__request_on_timer(ws_conn *c)
{
    if (c->waiting)
        give_up(c, 503);
    else if (c->request)
        give_up(c, 408); /* RFC 9110 15.5.9 */
    else
        ws__conn_drop(c, "timeout");
}

void ws__request_shutdown(ws_conn *c)
{
    if (c->request && c->request->handling)
        return; /* until its handler has returned */
    if (c->request)
        give_up(c, 503);
    else if (ws__buffer_length(c->out)) /* an answer is on its way */
        ws__conn_linger(c);
    else
        ws__conn_drop(c, "shutdown");
}

void ws__request_refuse(ws_conn *c)
{
    if (begin_request(c))
        give_up(c, 503);
    else
        ws__conn_drop(c, "out of memory");
}

/* ---- ws.h: requests ---- */

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
    if (name || !request->is_upgrade || request->answered)
        return name;
    name = ws__handshake_select(&request->head, request->bytes,
                                request->target->behavior.subprotocols);
    *length = name ? strlen(name) : 0;
    return name;
}

size_t ws_request_remote_address(const ws_request *request, char *text, size_t size)
{
    return ws_conn_remote_address(request->conn, text, size);
}

uint16_t ws_request_remote_port(const ws_request *request)
{
    return ws_conn_remote_port(request->conn);
}

/* Fields that frame the message or belong to the handshake are the library's alone. */
static bool is_reserved(const char *name, size_t length)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "connection",
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
    struct ws__memory *memory = &request->conn->hub->memory;
    if (!ws__text_is_token(name, name_length) || !ws__text_is_value(value, value_length) ||
        is_reserved(name, name_length) || name_length > SIZE_MAX / 4 ||
        value_length > SIZE_MAX / 4)
        return WS_EINVAL;
    if (request->answered)
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

int ws_request_respond(ws_request *request, int status, const char *reason, const char *body,
                       size_t length)
{
    if (status < 200 || status > 599 || (reason && !ws__text_is_value(reason, strlen(reason))))
        return WS_EINVAL;
    if (request->answered)
        return WS_ECLOSED;
    return respond(request, status, reason, NULL, body, length,
                   keeps_alive(request) && status != 426);
}

static int send_extension(ws_conn *c)
{
    char answer[WS__DEFLATE_ANSWER_MAX], line[WS__DEFLATE_ANSWER_MAX + 32];
    ws__deflate_answer(&c->terms, answer);
    int n = snprintf(line, sizeof line, "Sec-WebSocket-Extensions: %s\r\n", answer);
    return ws__send_bytes(c, line, (size_t)n);
}

/* RFC 6455 4.2.2: the 101, with nothing in it that was not asked for (H10). */
static int send_101(ws_request *r)
{
    ws_conn *c = r->conn;
    char accept[29], head[160];
    ws__handshake_accept(&r->head, r->bytes, accept);
    unsigned options = r->no_extensions ? 0 : r->target->behavior.compression;
    struct ws__deflate_terms terms;
    c->protocol.deflate = ws__handshake_deflate(&r->head, r->bytes, options, &terms);
    if (c->protocol.deflate)
        c->terms = terms;
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
                     accept);
    int error = ws__send_bytes(c, head, (size_t)n);
    if (!error && r->selected_length) {
        static const char field[] = "Sec-WebSocket-Protocol: ";
        error = ws__send_bytes(c, field, sizeof field - 1);
        if (!error)
            error = ws__send_bytes(c, r->selected, r->selected_length);
        if (!error)
            error = ws__send_bytes(c, "\r\n", 2);
    }
    if (!error && c->protocol.deflate)
        error = send_extension(c);
    if (!error && r->fields)
        error = ws__send_bytes(c, ws__buffer_data(r->fields), ws__buffer_length(r->fields));
    return error ? error : ws__send_bytes(c, "\r\n", 2);
}

void ws_request_decline_extensions(ws_request *request)
{
    request->no_extensions = true;
}

int ws_request_upgrade(ws_request *request, const char *protocol, size_t length, void *conn_user)
{
    ws_request *r = request;
    ws_conn *c = r->conn;
    if (r->answered)
        return WS_ECLOSED;
    if (!r->is_upgrade ||
        (protocol && length && !ws__handshake_offered(&r->head, r->bytes, protocol, length)))
        return WS_EINVAL;
    if (c->hub->stopping) {
        refuse(r, 503, NULL, false);
        return WS_ECLOSED;
    }
    r->selected = protocol ? protocol : ws_request_subprotocol(r, &length);
    r->selected_length = length;
    bool outer = r->handling;
    r->handling = true; /* valid until on_open has returned */
    ws_conn_cork(c);
    int error = send_101(r);
    r->answered = true;
    if (error)
        ws__conn_drop(c, "out of memory");
    else
        ws__conn_open(c, r, r->target, conn_user);
    ws_conn_uncork(c);
    if (protocol) { /* it was borrowed */
        r->selected = NULL;
        r->selected_length = 0;
    }
    r->handling = outer;
    finish(r, true);
    return error;
}

int ws_request_defer(ws_request *request, void (*on_aborted)(ws_request *request, void *user),
                     void *user)
{
    ws_request *r = request;
    ws_conn *c = r->conn;
    if (r->answered || c->waiting)
        return WS_ECLOSED;
    r->copy = ws__memory_resize(&c->hub->memory, NULL, 0, r->length);
    if (!r->copy)
        return WS_ENOMEM;
    memcpy(r->copy, r->bytes, r->length);
    r->bytes = r->copy;
    r->on_aborted = on_aborted;
    r->aborted_user = user;
    c->waiting = true;
    ws__conn_set_timer(c, c->hub->upgrade_queue);
    return WS_OK;
}

int ws_request_abort(ws_request *request)
{
    if (request->answered)
        return WS_ECLOSED;
    request->answered = true;
    request->conn->waiting = false;
    ws__conn_drop(request->conn, "aborted by the server");
    return WS_OK;
}
