/* SPDX-License-Identifier: MIT */
/*
 * route.c: what ws_server_ws registers: behaviors, with copies of all their texts. router.c finds
 * which path belongs to which route.
 */
#include "route.h"
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
