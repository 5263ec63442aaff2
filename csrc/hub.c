/* SPDX-License-Identifier: MIT */
/*
 * hub.c: what all streams of one server share: memory, ids, the list of streams that have work left
 * and of those that are dead. Knows nothing of what they do.
 */
#include "hub.h"
#include "random.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* An id is a generation and the index of a slot. */
enum { SLOT_BITS = 24, SLOT_MASK = 0xffffff, NO_SLOT = SLOT_MASK };
enum { TURN_TIME = 8000000 };   /* nanoseconds until a turn is late */
enum { LATE_STREAMS = 64 };     /* of the ready list, served in a turn that is late */

static struct ws__timer_queue *make_queue(struct ws__hub *hub, uint32_t duration_ms)
{
    return ws__loop_queue(&hub->loop, &hub->memory, duration_ms, WS__TIMER_STREAM);
}

static bool make_queues(struct ws__hub *hub)
{
    const ws_config *config = &hub->config;
    enum { LINGER_MS = 5000, LAST_MS = 1000 };
    return (hub->handshake_queue = make_queue(hub, config->handshake_timeout)) &&
           (hub->keep_alive_queue = make_queue(hub, config->keep_alive_timeout)) &&
           (hub->body_queue = make_queue(hub, config->body_timeout)) &&
           (hub->upgrade_queue = make_queue(hub, config->upgrade_timeout)) &&
           (hub->linger_queue = make_queue(hub, LINGER_MS)) &&
           (hub->last_queue = make_queue(hub, LAST_MS));
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The clock and the allocator of the application are callbacks, too. */
static uint64_t read_clock(void *user)
{
    struct ws__hub *hub = user;
    hub->in_callbacks++;
    uint64_t now = hub->config.clock(hub->config.user);
    hub->in_callbacks--;
    return now;
}

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct ws__hub *hub = context;
    hub->in_callbacks++;
    void *block = hub->config.allocator.resize(hub->config.allocator.context, ptr, old_size, size);
    hub->in_callbacks--;
    return block;
}

__attribute__((cold)) int
ws__hub_init(struct ws__hub *hub, ws_server *server, const ws_config *config)
{
    ws_allocator allocator = {config->allocator.resize ? resize : NULL, hub};
    memset(hub, 0, sizeof *hub);
    hub->server = server;
    hub->config = *config;
    hub->config.trusted_proxies = NULL; /* the caller's; see hub->proxies */
    hub->free_slot = NO_SLOT;
    hub->copy_limit = least(config->cork_size, WS__COPY_LIMIT);
    hub->early_limit = least(config->recv_buffer_size, WS__EARLY_LIMIT);
    hub->deflate.memory = &hub->memory;
    ws__memory_init(&hub->memory, &allocator, config->max_memory);
    uint64_t seed[2];
    if (config->random)
        WS__CALL(hub, config->random, config->user, seed, sizeof seed);
    else
        ws__random(seed, sizeof seed);
    ws__topics_init(&hub->topics, &hub->memory, seed);
    ws__router_init(&hub->websocket_routes, &hub->memory);
    ws__router_init(&hub->http_routes, &hub->memory);
    int error = ws__loop_init(&hub->loop, config->clock ? read_clock : NULL, hub);
    if (error)
        return error;
    hub->recv_buffer = ws__memory_resize(&hub->memory, NULL, 0, config->recv_buffer_size);
    if (hub->recv_buffer && make_queues(hub))
        return WS_OK;
    ws__hub_deinit(hub);
    return WS_ENOMEM;
}

void ws__hub_deinit(struct ws__hub *hub)
{
    ws__deflate_pool_deinit(&hub->deflate);
    ws__topics_deinit(&hub->topics);
    ws__buffer_free(&hub->memory, &hub->published);
    ws__buffer_free(&hub->memory, &hub->spare);
    ws__memory_free(&hub->memory, hub->recv_buffer, hub->config.recv_buffer_size);
    ws__memory_free(&hub->memory, hub->slots, hub->slot_capacity * sizeof *hub->slots);
    ws__loop_deinit(&hub->loop, &hub->memory);
}

void ws__hub_touch(struct ws__hub *hub)
{
    if (hub->in_turn)
        return;
    hub->loop.now = hub->loop.clock(hub->loop.user);
    ws__loop_wakeup(&hub->loop);
}

void ws__hub_log(struct ws__hub *hub, int level, const char *format, ...)
{
    char line[201];
    va_list arguments;
    if (!hub->config.log)
        return;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    size_t shown = (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
    for (size_t i = 0; i < shown; i++)
        if (line[i] < ' ' || line[i] > '~') /* a peer may have chosen these bytes */
            line[i] = '?';
    WS__CALL(hub, hub->config.log, hub->config.user, level, line, shown);
}

void ws__hub_log_refusal(struct ws__hub *hub, const struct ws__address *peer, const char *why)
{
    char place[WS__NET_PLACE_SIZE];
    if (!hub->config.log_refusals)
        return;
    ws__net_endpoint_text(peer, place);
    ws__hub_log(hub, WS_LOG_DEBUG, "refused %s: %s", peer->length ? place : "a Unix socket", why);
}

/* ---- ids ---- */

static bool grow_slots(struct ws__hub *hub)
{
    uint32_t capacity = hub->slot_capacity ? hub->slot_capacity * 2 : 16;
    if (capacity > NO_SLOT)
        capacity = NO_SLOT;
    if (capacity == hub->slot_capacity)
        return false;
    void *slots = ws__memory_resize(&hub->memory, hub->slots,
                                    hub->slot_capacity * sizeof *hub->slots,
                                    capacity * sizeof *hub->slots);
    if (!slots)
        return false;
    hub->slots = slots;
    hub->slot_capacity = capacity;
    return true;
}

ws_conn_id ws__hub_take_slot(struct ws__hub *hub, struct ws__link *stream)
{
    uint32_t index = hub->free_slot;
    if (index != NO_SLOT) {
        hub->free_slot = (uint32_t)hub->slots[index].next_free;
    } else {
        if (hub->slot_count == hub->slot_capacity && !grow_slots(hub))
            return 0;
        index = hub->slot_count++;
        hub->slots[index].generation = 1; /* ids with generation 0 name no connection */
    }
    hub->slots[index].stream = stream;
    return index | (uint64_t)hub->slots[index].generation << SLOT_BITS;
}

/* A slot whose generation would wrap is retired. */
void ws__hub_release_slot(struct ws__hub *hub, ws_conn_id id)
{
    uint32_t index = (uint32_t)(id & SLOT_MASK);
    struct ws__slot *slot = &hub->slots[index];
    slot->stream = NULL;
    slot->generation++;
    if (!slot->generation)
        return;
    slot->next_free = hub->free_slot & SLOT_MASK;
    hub->free_slot = index;
}

struct ws__link *ws__hub_find(const struct ws__hub *hub, ws_conn_id id)
{
    uint32_t index = (uint32_t)(id & SLOT_MASK);
    if (index >= hub->slot_count || hub->slots[index].generation != id >> SLOT_BITS)
        return NULL;
    return hub->slots[index].stream;
}

/* ---- turns ---- */

bool ws__hub_is_late(struct ws__hub *hub)
{
    uint64_t now = hub->loop.clock(hub->loop.user);
    if (!hub->turn_deadline) {
        hub->turn_deadline = now + TURN_TIME;
        ws__hub_touch(hub); /* the account ends with a turn */
    }
    hub->late = now >= hub->turn_deadline;
    return hub->late;
}

void ws__hub_append(struct ws__list *list, struct ws__link *stream)
{
    stream->next = NULL;
    if (list->last)
        list->last->next = stream;
    else
        list->first = stream;
    list->last = stream;
}

/* Moves all of `from` to the end of `to`. */
static void move_list(struct ws__list *to, struct ws__list *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    *from = (struct ws__list){NULL, NULL};
}

/* Once the turn is late, LATE_STREAMS more are served: timers are due as well, however many streams
 * wait. The next turn begins with those that were postponed, continues with those that were not
 * served or were served when it was late already, and ends with those that had all they wanted. */
static void run_ready(struct ws__hub *hub)
{
    struct ws__list list = {NULL, NULL}, served = {NULL, NULL};
    int left = LATE_STREAMS;
    move_list(&list, &hub->ready);
    while (list.first && left) {
        struct ws__link *stream = list.first;
        bool late = hub->late;
        list.first = stream->next;
        left -= late;
        hub->run(stream);
        if (!late)
            move_list(&served, &hub->ready);
    }
    move_list(&hub->postponed, &list);
    move_list(&hub->postponed, &hub->ready);
    move_list(&hub->postponed, &served);
    move_list(&hub->ready, &hub->postponed);
}

void ws__hub_run_ready(struct ws__hub *hub)
{
    if (hub->ready.first)
        run_ready(hub);
}

void ws__hub_bury(struct ws__hub *hub, struct ws__link *stream)
{
    stream->next = hub->dead;
    hub->dead = stream;
}

void ws__hub_free_dead(struct ws__hub *hub)
{
    struct ws__link *stream = hub->dead;
    hub->dead = NULL;
    while (stream) {
        struct ws__link *next = stream->next;
        hub->release(stream);
        stream = next;
    }
}
