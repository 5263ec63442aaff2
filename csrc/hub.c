/*
 * hub.c: what all connections of one server share: memory, ids, the lists of those that have
 * something left to do and of those that are gone. Knows nothing of what they do.
 */
#include "conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SLOT_BITS = 24 };

enum { TURN_TIME = 8000000 };   /* nanoseconds */
enum { LATE_CONNECTIONS = 64 }; /* of the ready list, in a turn that is late */

static struct ws__timer_queue *make_queue(struct ws__hub *hub, uint32_t duration_ms)
{
    return ws__loop_queue(&hub->loop, &hub->memory, duration_ms, WS__TIMER_CONN);
}

static bool make_queues(struct ws__hub *hub)
{
    const ws_config *config = &hub->config;
    enum { LINGER_MS = 5000, LAST_MS = 1000 };
    return (hub->handshake_queue = make_queue(hub, config->handshake_timeout)) &&
           (hub->keep_alive_queue = make_queue(hub, config->keep_alive_timeout)) &&
           (hub->upgrade_queue = make_queue(hub, config->upgrade_timeout)) &&
           (hub->linger_queue = make_queue(hub, LINGER_MS)) &&
           (hub->last_queue = make_queue(hub, LAST_MS));
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

int ws__hub_init(struct ws__hub *hub, ws_server *server, const ws_config *config)
{
    ws_allocator allocator = {config->allocator.resize ? resize : NULL, hub};
    memset(hub, 0, sizeof *hub);
    hub->server = server;
    hub->config = *config;
    hub->free_slot = WS__MAX_SLOTS;
    hub->deflate.memory = &hub->memory;
    ws__memory_init(&hub->memory, &allocator, config->max_memory);
    uint64_t seed[2];
    ws__net_random(seed, sizeof seed);
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

/* ---- ids ---- */

static bool grow_slots(struct ws__hub *hub)
{
    uint32_t capacity = hub->slot_capacity ? hub->slot_capacity * 2 : 16;
    if (capacity > WS__MAX_SLOTS)
        capacity = WS__MAX_SLOTS;
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

bool ws__hub_take_slot(struct ws__hub *hub, ws_conn *c)
{
    uint32_t index = hub->free_slot;
    if (index != WS__MAX_SLOTS) {
        hub->free_slot = (uint32_t)hub->slots[index].next_free;
    } else {
        if (hub->slot_count == hub->slot_capacity && !grow_slots(hub))
            return false;
        index = hub->slot_count++;
        hub->slots[index].generation = 1; /* 0 is left to ids that are no connection */
    }
    hub->slots[index].conn = c;
    c->id = index | (uint64_t)hub->slots[index].generation << SLOT_BITS;
    return true;
}

/* A slot whose generation would wrap is retired. */
void ws__hub_release_slot(struct ws__hub *hub, ws_conn_id id)
{
    uint32_t index = (uint32_t)(id & WS__MAX_SLOTS);
    struct ws__slot *slot = &hub->slots[index];
    slot->conn = NULL;
    slot->generation++;
    if (!slot->generation)
        return;
    slot->next_free = hub->free_slot & WS__MAX_SLOTS;
    hub->free_slot = index;
}

ws_conn *ws__hub_find(const struct ws__hub *hub, ws_conn_id id)
{
    uint32_t index = (uint32_t)(id & WS__MAX_SLOTS);
    if (index >= hub->slot_count || hub->slots[index].generation != id >> SLOT_BITS)
        return NULL;
    return hub->slots[index].conn;
}

/* ---- lists ---- */

bool ws__hub_is_late(struct ws__hub *hub)
{
    uint64_t now = hub->loop.clock(hub->loop.user);
    if (!hub->turn_deadline)
        hub->turn_deadline = now + TURN_TIME;
    hub->late = now >= hub->turn_deadline;
    return hub->late;
}

static void append(struct ws__list *list, ws_conn *c)
{
    c->next = NULL;
    if (list->last)
        list->last->next = c;
    else
        list->first = c;
    list->last = c;
}

/* Moves all of `from` to the end of `to`. */
static void move(struct ws__list *to, struct ws__list *from)
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

void ws__hub_append(struct ws__hub *hub, ws_conn *c)
{
    append(&hub->ready, c);
}

void ws__hub_postpone(ws_conn *c)
{
    c->more = true;
    if (c->in_ready)
        return; /* its peer was lost in this turn, which has put it on the other list */
    c->in_ready = true;
    append(&c->hub->postponed, c);
}

/* Once the turn is late, LATE_CONNECTIONS more are looked at: timers are due as well, however many
 * wait. In the next turn those come first that were postponed, then those that were not looked at
 * or had their turn when it was late already, at last those that had all they wanted. */
static void run_ready(struct ws__hub *hub)
{
    struct ws__list list = {NULL, NULL}, served = {NULL, NULL};
    int left = LATE_CONNECTIONS;
    move(&list, &hub->ready);
    while (list.first && left) {
        ws_conn *c = list.first;
        bool late = hub->late;
        list.first = c->next;
        left -= late;
        ws__conn_on_ready(c);
        if (!late)
            move(&served, &hub->ready);
    }
    move(&hub->postponed, &list);
    move(&hub->postponed, &hub->ready);
    move(&hub->postponed, &served);
    move(&hub->ready, &hub->postponed);
}

void ws__hub_run_ready(struct ws__hub *hub)
{
    if (hub->ready.first)
        run_ready(hub);
    hub->turn_inflating = hub->turn_deadline = 0;
    hub->late = false;
}

void ws__hub_free_dead(struct ws__hub *hub)
{
    ws_conn *c = hub->dead;
    hub->dead = NULL;
    while (c) {
        ws_conn *next = c->next;
        ws__conn_free(c);
        c = next;
    }
}

void ws__hub_shutdown(struct ws__hub *hub, int code, const char *reason, size_t length)
{
    for (uint32_t i = 0; i < hub->slot_count; i++) {
        ws_conn *c = hub->slots[i].conn;
        if (c && c->state == WS__HTTP)
            ws__request_shutdown(c);
        else if (c && c->state == WS__OPEN)
            ws_conn_end(c, code, reason, length);
        else if (c && c->state == WS__LINGERING && c->finished) /* not: dead, in on_closed */
            ws__conn_linger_briefly(c);
    }
}

void ws__hub_drop_all(struct ws__hub *hub, const char *reason)
{
    for (uint32_t i = 0; i < hub->slot_count; i++)
        if (hub->slots[i].conn)
            ws__conn_drop(hub->slots[i].conn, reason);
}
