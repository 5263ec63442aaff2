/* SPDX-License-Identifier: MIT */
/*
 * methods.c: what ws_server_http registers: a handler for each method of a pattern, with copies of
 * their texts.
 */
#include "methods.h"
#ifndef WS_NO_HTTP
#include "text.h"

#include <string.h>

const struct ws__target *ws__methods_find(const ws_request *r, const struct ws__target *t)
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

struct allow {
    struct ws__memory *memory;
    struct ws__buffer *methods; /* "GET, POST" */
    const char *refused;
    size_t refused_length;
    int error;
};

static bool is_listed(struct ws__buffer *methods, const char *method, size_t n)
{
    size_t length = ws__buffer_length(methods);
    const char *at = length ? ws__buffer_data(methods) : NULL;
    while (length) {
        const char *comma = memchr(at, ',', length);
        const size_t part = comma ? (size_t)(comma - at) : length;
        if (part == n && !memcmp(at, method, n))
            return true;
        const size_t step = comma ? part + 2 : part;
        at += step;
        length -= step;
    }
    return false;
}

static void allow_method(struct allow *allow, const char *method)
{
    const size_t n = strlen(method), gap = ws__buffer_length(allow->methods) ? 2 : 0;
    if (!strcmp(method, "*") || is_listed(allow->methods, method, n) ||
        (n == allow->refused_length && !memcmp(method, allow->refused, n)))
        return;
    char *to = ws__buffer_reserve(allow->memory, &allow->methods, gap + n);
    if (!to) {
        allow->error = WS_ENOMEM;
        return;
    }
    memcpy(to, ", ", gap);
    memcpy(to + gap, method, n);
    ws__buffer_commit(allow->methods, gap + n);
}

/* For ws__router_find, which continues with the next route that matches. */
static bool allow_target(void *context, void *target)
{
    for (const struct ws__target *t = target; t; t = t->next) {
        allow_method(context, t->method);
        if (!strcmp(t->method, "GET"))
            allow_method(context, "HEAD");
    }
    return false;
}

/* Appends a whole line, or nothing of it. */
static int append_line(struct ws__memory *memory, struct ws__buffer **fields,
                       struct ws__buffer *methods)
{
    const size_t n = ws__buffer_length(methods);
    char *to = ws__buffer_reserve(memory, fields, n + 9);
    if (!to)
        return WS_ENOMEM;
    memcpy(to, "Allow: ", 7);
    if (n)
        memcpy(to + 7, ws__buffer_data(methods), n);
    memcpy(to + 7 + n, "\r\n", 2);
    ws__buffer_commit(*fields, n + 9);
    return WS_OK;
}

int ws__methods_allow(ws_request *r)
{
    struct ws__hub *hub = r->conn->stream.hub;
    const struct ws__span *path = &r->head.path, *method = &r->head.method;
    struct allow allow = {&hub->memory, NULL, r->bytes + method->offset, method->length, WS_OK};
    struct ws__match match;
    const char *at = r->bytes + path->offset;
    if (ws__router_find(&hub->websocket_routes, at, path->length, NULL, NULL, &match))
        allow_method(&allow, "GET");
    ws__router_find(&hub->http_routes, at, path->length, allow_target, &allow, &match);
    if (!allow.error)
        allow.error = append_line(&hub->memory, &r->fields, allow.methods);
    ws__buffer_free(&hub->memory, &allow.methods);
    return allow.error;
}

/* ---- ws.h ---- */

static struct ws__target *new_http_target(struct ws__memory *memory, const char *method,
                                          const char *pattern)
{
    size_t size = strlen(method) + 1;
    struct ws__target *t = ws__memory_zalloc(memory, sizeof *t);
    if (!t)
        return NULL;
    t->strings_size = size + strlen(pattern) + 1;
    t->strings = t->method = ws__memory_resize(memory, NULL, 0, t->strings_size);
    if (t->strings) {
        t->pattern = t->strings + size;
        memcpy(t->strings, method, size);
        memcpy(t->strings + size, pattern, strlen(pattern) + 1);
        return t;
    }
    t->strings_size = 0;
    ws__target_free(memory, t);
    return NULL;
}

/* The methods of one pattern form a list. */
static int add_method(struct ws__target *list, struct ws__target *t)
{
    for (;; list = list->next) {
        if (!strcmp(list->method, t->method))
            return WS_EEXIST;
        if (!list->next)
            break;
    }
    list->next = t;
    return WS_OK;
}

__attribute__((cold)) int
ws_server_http(ws_server *server, const char *method, const char *pattern,
               void (*handler)(ws_request *request, void *user), void *user)
{
    struct ws__hub *hub = ws__hub_of(server);
    if (!handler || (strcmp(method, "*") && !ws__text_is_token(method, strlen(method))))
        return WS_EINVAL;
    struct ws__target *t = new_http_target(&hub->memory, method, pattern);
    if (!t)
        return WS_ENOMEM;
    t->handler = handler;
    t->user = user;
    int error = ws__router_add(&hub->http_routes, pattern, t);
    if (error == WS_EEXIST)
        error = add_method(ws__router_same(&hub->http_routes, pattern)->target, t);
    if (error)
        ws__target_free(&hub->memory, t);
    return error;
}

#endif
