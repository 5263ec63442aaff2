/* SPDX-License-Identifier: MIT */
/*
 * route.c: what ws_server_ws and ws_server_http register: behaviors and handlers, with copies of
 * all their texts. router.c finds which path belongs to which route.
 */
#include "route.h"
#include "http.h"
#include "receive.h"
#include "text.h"

#include <string.h>

void ws__target_free(void *context, void *target)
{
    struct ws__memory *memory = context;
    struct ws__target *t = target;
    while (t) {
        struct ws__target *next = t->next;
        ws__memory_free(memory, t->strings, t->strings_size);
        ws__memory_free(memory, t, sizeof *t);
        t = next;
    }
}

int ws_behavior_init(ws_behavior *behavior, size_t size)
{
    if (size != sizeof *behavior)
        return WS_EABI;
    memset(behavior, 0, sizeof *behavior);
    behavior->size = size;
    behavior->max_payload_length = 16 * 1024;
    behavior->max_backpressure = 64 * 1024;
    behavior->close_timeout = 5000;
    behavior->idle_timeout = 120000;
    behavior->ping_interval = behavior->ping_timeout = WS_DERIVED;
    behavior->max_topics = 1000;
    behavior->max_topic_length = 1024;
    return WS_OK;
}

/* Bytes that a copy of the list takes: its pointers and its strings. */
static size_t list_size(const char *const *list, size_t *count)
{
    size_t size = sizeof *list;
    *count = 0;
    if (!list)
        return 0;
    for (; list[*count]; ++*count)
        size += sizeof *list + strlen(list[*count]) + 1;
    return size;
}

/* Pointers and strings are copied to `at`. */
static const char *const *copy_list(const char *const *list, size_t count, char *at)
{
    const char **pointers = (const char **)(void *)at;
    char *text = at + (count + 1) * sizeof *pointers;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(list[i]) + 1;
        memcpy(text, list[i], n);
        pointers[i] = text;
        text += n;
    }
    pointers[count] = NULL;
    return pointers;
}

static size_t round_up(size_t n)
{
    return (n + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
}

static int copy_strings(struct ws__memory *memory, struct ws__target *t)
{
    ws_behavior *b = &t->settings.behavior;
    size_t subprotocols, origins;
    size_t first = round_up(list_size(b->subprotocols, &subprotocols));
    t->strings_size = first + list_size(b->origins, &origins);
    if (!t->strings_size)
        return WS_OK;
    for (size_t i = 0; i < subprotocols; i++)
        if (!ws__text_is_token(b->subprotocols[i], strlen(b->subprotocols[i])))
            return WS_EINVAL;
    t->strings = ws__memory_resize(memory, NULL, 0, t->strings_size);
    if (!t->strings)
        return WS_ENOMEM;
    if (b->subprotocols)
        b->subprotocols = copy_list(b->subprotocols, subprotocols, t->strings);
    if (b->origins)
        b->origins = copy_list(b->origins, origins, t->strings + first);
    return WS_OK;
}

static int check_compression(uint32_t options)
{
    if (!ws__deflate_options_valid(options))
        return WS_EINVAL;
    return options && !ws__deflate_available() ? WS_ENOTSUP : WS_OK;
}

__attribute__((cold)) int
ws_server_ws(ws_server *server, const char *pattern, const ws_behavior *behavior)
{
    struct ws__hub *hub = ws__hub_of(server);
    if (behavior->size != sizeof *behavior)
        return WS_EABI;
    struct ws__target *t = ws__memory_zalloc(&hub->memory, sizeof *t);
    if (!t)
        return WS_ENOMEM;
    t->settings.protocol = ws__receive_protocol;
    if (!behavior->reset_idle_timeout_on_send)
        t->settings.protocol.on_sent = NULL;
    t->settings.behavior = *behavior;
    t->settings.cork_limit = hub->config.cork_size;
    if (behavior->max_backpressure && behavior->max_backpressure / 2 < hub->config.cork_size)
        t->settings.cork_limit = behavior->max_backpressure / 2;
    int error = check_compression(behavior->compression);
    if (!error)
        error = copy_strings(&hub->memory, t);
    t->settings.close_queue = ws__loop_queue(&hub->loop, &hub->memory, behavior->close_timeout,
                                             WS__TIMER_STREAM);
    if (!error && !t->settings.close_queue)
        error = WS_ENOMEM;
    if (!error)
        error = ws__heartbeat_init(hub, &t->settings.heartbeat, behavior);
    if (!error)
        error = ws__router_add(&hub->websocket_routes, pattern, t);
    if (error)
        ws__target_free(&hub->memory, t);
    return error;
}

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

/* ---- Allow ---- */

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

int ws__route_allow(struct ws__hub *hub, const char *path, size_t length, const char *refused,
                    size_t refused_length, struct ws__buffer **fields)
{
    struct allow allow = {&hub->memory, NULL, refused, refused_length, WS_OK};
    struct ws__match match;
    if (ws__router_find(&hub->websocket_routes, path, length, NULL, NULL, &match))
        allow_method(&allow, "GET");
    ws__router_find(&hub->http_routes, path, length, allow_target, &allow, &match);
    if (!allow.error)
        allow.error = append_line(&hub->memory, fields, allow.methods);
    ws__buffer_free(&hub->memory, &allow.methods);
    return allow.error;
}
