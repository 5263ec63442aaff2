/* SPDX-License-Identifier: MIT */
/* ws.c: the server: life cycle, the turns of the loop, shutdown, and calls from other threads. */
#include "bus.h"
#include "close.h"
#include "config.h"
#include "forwarded.h"
#include "input.h"
#include "quota.h"
#include "listen.h"
#include "proxy.h"
#include "route.h"
#include "serve.h"
#include "share.h"
#include "tls.h"
#include "utf8.h"
#include "watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKED_MS = 1000 };

/* Values of loop data; those of connections start at 1 << 24. */
enum {
    DATA_INTERRUPT = WS__LOOP_FIRST_DATA,
    DATA_LISTENER,
    DATA_BUS = 1 << 20,
    DATA_CONNECTION = 1 << 24,
    DATA_WATCH = DATA_CONNECTION - WS__MAX_WATCHES
};

struct deferred {
    struct deferred *next;
    void (*fn)(void *argument);
    void *argument;
};

struct ws_server {
    struct ws__hub hub; /* first: ws__hub_of relies on it */
    struct ws__listeners listeners;
    struct ws__watches watches;
    int interrupt_fd; /* -1: not set */
    bool interrupted;
    struct ws__timer shutdown_timer;
    struct ws__timer_queue *shutdown_queue; /* of that one timer */
    void (*alarm)(void *argument);
    void *alarm_argument;
    uint32_t seen, expected; /* events since timers ran, and those to be seen before they run */
    bool stopped;  /* the shutdown is over */
    atomic_uint in_defer; /* calls of ws_server_defer, by any thread */
    struct deferred no_more; /* `deferred` points here once no more calls are accepted */
    _Atomic(struct deferred *) deferred; /* newest first; pushed to by any thread */
};

/* ---- library ---- */

const char *ws_strerror(int error)
{
    switch (error) {
    case WS_OK:
        return "success";
#define WS_ERROR_CASE(name, value, text)                                                           \
    case value:                                                                                    \
        return text;
        WS_ERROR_MAP(WS_ERROR_CASE)
#undef WS_ERROR_CASE
    default:
        return "unknown error";
    }
}

int ws_abi(void)
{
    return WS_ABI;
}

const char *ws_version(void)
{
    return WS_VERSION;
}

size_t ws_struct_size(const char *name)
{
    static const struct {
        char name[20];
        uint32_t size;
    } structs[] = {{"ws_config", sizeof(ws_config)},
                   {"ws_behavior", sizeof(ws_behavior)},
                   {"ws_listen_options", sizeof(ws_listen_options)},
                   {"ws_stats", sizeof(ws_stats)},
                   {"ws_relay", sizeof(ws_relay)},
                   {"ws_bus_options", sizeof(ws_bus_options)},
                   {"ws_bus_stats", sizeof(ws_bus_stats)}};
    for (size_t i = 0; i < sizeof structs / sizeof *structs; i++)
        if (!strcmp(structs[i].name, name))
            return structs[i].size;
    return 0;
}

bool ws_compression_available(void)
{
    return ws__deflate_available();
}

/* ---- life cycle ---- */

/* The allocator that makes the server itself, before its counted memory exists. */
__attribute__((cold)) static void *
resize_server(const ws_config *config, void *server, size_t old_size, size_t size)
{
    struct ws__memory memory;
    ws__memory_init(&memory, &config->allocator, 0);
    memory.used = old_size;
    return ws__memory_resize(&memory, server, old_size, size);
}

/* What a server has beside its hub's own. The queue of the shutdown gets its duration when that is
 * known. */
static int make_parts(ws_server *s, const ws_config *config)
{
    struct ws__hub *hub = &s->hub;
    int error = ws__proxies_new(&hub->proxies, &hub->memory, config->trusted_proxies);
    if (!error)
        error = ws__quota_new(&hub->quota, &hub->memory, config, hub->topics.seed);
    s->shutdown_queue = ws__loop_queue(&hub->loop, &hub->memory, 0, WS__TIMER_SHUTDOWN);
    if (!error && s->shutdown_queue)
        return ws__listeners_init(&s->listeners, hub, DATA_LISTENER);
    return error ? error : WS_ENOMEM;
}

static void free_parts(struct ws__hub *hub)
{
    ws__proxies_free(hub->proxies, &hub->memory);
    ws__quota_free(hub->quota);
    ws__tls_deinit(hub);
    ws__hub_deinit(hub);
}

__attribute__((cold)) int
ws_server_new(ws_server **server, const ws_config *config)
{
    ws_config copy;
    *server = NULL;
    ws_config_init(&copy, sizeof copy);
    if (config) {
        int error = ws__config_check(config);
        if (error)
            return error;
        copy = *config;
    }
    ws_server *s = resize_server(&copy, NULL, 0, sizeof *s);
    if (!s)
        return WS_ENOMEM;
    memset(s, 0, sizeof *s);
    s->interrupt_fd = -1;
    int error = ws__hub_init(&s->hub, s, &copy), number = errno;
    s->hub.run = ws__input_on_ready;
    s->hub.release = ws__stream_free;
    ws__watches_init(&s->watches, &s->hub, DATA_WATCH);
    if (!error) {
        error = make_parts(s, &copy);
        if (!error) {
            *server = s;
            return WS_OK;
        }
        free_parts(&s->hub);
    }
    resize_server(&copy, s, sizeof *s, 0);
    errno = number; /* the allocator may have changed it */
    return error;
}

/* Runs the deferred calls accepted so far and leaves `leave` in their place: NULL, or &s->no_more
 * to refuse further calls. One exchange does both, so no call from another thread is lost. */
static void run_deferred(ws_server *s, struct deferred *leave)
{
    if (!leave && !atomic_load_explicit(&s->deferred, memory_order_relaxed))
        return; /* a plain read is cheaper; the wake-up that follows a push brings the next turn */
    struct deferred *newest = atomic_exchange(&s->deferred, leave), *first = NULL;
    while (newest && newest != &s->no_more) { /* reversed: the oldest first */
        struct deferred *next = newest->next;
        newest->next = first;
        first = newest;
        newest = next;
    }
    while (first) {
        struct deferred d = *first;
        resize_server(&s->hub.config, first, sizeof *first, 0);
        first = d.next;
        WS__CALL(&s->hub, d.fn, d.argument);
    }
}

/* Callbacks run in turns, and in calls between turns. */
static bool in_callback(const ws_server *s)
{
    return s->hub.in_turn || s->hub.in_callbacks;
}

static void drop_all(struct ws__hub *hub, const char *reason)
{
    for (uint32_t i = 0; i < hub->slot_count; i++)
        if (hub->slots[i].stream)
            ws__stream_drop(ws__stream_of_link(hub->slots[i].stream), reason, false);
}

__attribute__((cold)) int ws_server_free(ws_server *server)
{
    if (!server)
        return WS_OK;
    struct ws__hub *hub = &server->hub;
    bool forked = ws__loop_is_shared(&hub->loop); /* other threads are not there, then */
    if (in_callback(server) || (!forked && atomic_load(&server->in_defer)))
        return WS_EBUSY;
    ws_config config = hub->config;
    hub->forked = forked;
    hub->in_turn = true;
    hub->draining = hub->stopping = true;
    ws__listeners_close(&server->listeners);
    drop_all(hub, "the server was freed");
    run_deferred(server, &server->no_more);
    ws__hub_run_ready(hub); /* empties the list, so that every connection can be freed */
    if (ws__buffer_length(hub->published))
        ws__share_flush(hub);
    if (hub->bus)
        hub->bus_calls->free(hub);
    ws__hub_free_dead(hub);
    ws__router_deinit(&hub->websocket_routes, ws__target_free, &hub->memory);
    ws__router_deinit(&hub->http_routes, ws__target_free, &hub->memory);
    ws__watches_deinit(&server->watches);
    free_parts(hub);
    resize_server(&config, server, sizeof *server, 0);
    return WS_OK;
}

/* ---- listening ---- */

int ws_listen_options_init(ws_listen_options *options, size_t size)
{
    if (size != sizeof *options)
        return WS_EABI;
    memset(options, 0, sizeof *options);
    options->size = size;
    options->mode = 0660;
    options->backlog = 1024;
    options->fd = -1;
    return WS_OK;
}

/* A server that has shut down may start again. */
static void restart(ws_server *s)
{
    if (!s->stopped)
        return;
    s->hub.draining = s->hub.stopping = false;
    s->stopped = false;
    atomic_store(&s->deferred, NULL);
    if (s->hub.bus)
        s->hub.bus_calls->come_back(&s->hub);
}

__attribute__((cold)) int ws_server_listen(ws_server *server, const ws_listen_options *options)
{
    struct ws__hub *hub = &server->hub;
    uint16_t port = 0;
    if (options->size != sizeof *options)
        return WS_EABI;
    if (ws__loop_is_shared(&hub->loop))
        return WS_EFORKED;
    if (hub->draining && !server->stopped)
        return WS_ESTOPPED;
    if (options->backlog < 1 || (options->path && options->host) ||
        (options->device && (options->path || options->fd >= 0)))
        return WS_EINVAL;
    if (options->proxy_protocol && !WS__PROXY_AVAILABLE)
        return WS_ENOTSUP;
    int error = ws__listeners_open(&server->listeners, options, &port);
    if (error)
        return error;
    restart(server);
    return port;
}

bool ws_server_unlisten(ws_server *server)
{
    return ws__listeners_close_last(&server->listeners);
}

/* ---- turns ---- */

static void on_event(ws_server *s, struct ws__loop_event event)
{
    if (event.data >= DATA_CONNECTION) {
        struct ws__link *stream = ws__hub_find(&s->hub, event.data);
        if (stream) /* otherwise it was closed earlier in this turn */
            ws__input_on_event(ws__stream_of_link(stream), event.ready);
    } else if (event.data >= DATA_WATCH) {
        ws__watches_on_event(&s->watches, (uint32_t)(event.data - DATA_WATCH), event.ready);
    } else if (event.data >= DATA_BUS) {
        s->hub.bus_calls->on_event(&s->hub, (uint32_t)(event.data - DATA_BUS));
    } else if (event.data == DATA_INTERRUPT) {
        if (s->interrupt_fd >= 0)
            ws__net_drain(s->interrupt_fd);
        s->interrupted = true;
    } else {
        ws__listeners_accept(&s->listeners, (uint32_t)(event.data - DATA_LISTENER));
    }
}

static struct ws__stream *stream_of(struct ws__timer *timer)
{
    return (struct ws__stream *)(void *)((char *)timer - offsetof(struct ws__stream, timer));
}

static void run_timer(ws_server *s, struct ws__timer *timer, int kind)
{
    switch (kind) {
    case WS__TIMER_STREAM:
        ws__stream_on_timer(stream_of(timer));
        break;
    case WS__TIMER_LIFETIME:
        ws__close_on_lifetime(timer);
        break;
    case WS__TIMER_ACCEPT:
        ws__listeners_resume(&s->listeners);
        break;
    case WS__TIMER_SHUTDOWN:
        drop_all(&s->hub, "shutdown timeout");
        break;
    }
}

/* Other members of the bus get it first. */
static inline void send_published(struct ws__hub *hub)
{
    if (hub->bus)
        hub->bus_calls->end_turn(hub);
    if (ws__buffer_length(hub->published))
        ws__share_flush(hub);
}

/* Returns true once every socket that was ready has been read once; timers wait for that. epoll is
 * fair: it reports all sockets that are ready before it reports any of them again. */
static bool all_seen(ws_server *s, int n)
{
    if (!s->seen)
        s->expected = s->hub.loop.count;
    s->seen += (uint32_t)n;
    return !s->hub.loop.full || s->seen > s->expected;
}

static void run_timers(ws_server *s)
{
    struct ws__timer *timer;
    int kind;
    s->seen = 0;
    while ((timer = ws__loop_expired(&s->hub.loop, &kind)))
        run_timer(s, timer, kind);
}

static void run_alarm(ws_server *s)
{
    if (ws__loop_take_alarm(&s->hub.loop))
        s->alarm(s->alarm_argument);
}

static void note_blocked(ws_server *s)
{
    struct ws__hub *hub = &s->hub;
    uint64_t took = ws__loop_end_turn(&hub->loop) / 1000000;
    if (took < BLOCKED_MS)
        return;
    if (!hub->stats.blocked++)
        ws__hub_log(hub, WS_LOG_WARNING, "loop blocked for %llu s",
                    (unsigned long long)(took / 1000));
}

/* Is there anything for the next turn, even if nothing happens until then? */
static inline bool has_work(const struct ws__hub *hub)
{
    return hub->ready.first || (hub->bus && hub->bus_calls->has_more(hub->bus));
}

/* Waits for events. before_wait runs as if between turns: what it does can end the wait, and the
 * wait counts from the time at which it returns. */
static int wait_for(ws_server *s, int timeout_ms)
{
    struct ws__hub *hub = &s->hub;
    if (hub->config.before_wait) {
        hub->in_turn = false;
        WS__CALL(hub, hub->config.before_wait, hub->config.user);
        hub->in_turn = true;
        hub->loop.now = hub->loop.clock(hub->loop.user); /* what the wait is counted from */
    }
    int n = ws__loop_wait(&hub->loop, has_work(hub) ? 0 : timeout_ms);
    if (hub->config.after_wait)
        hub->config.after_wait(hub->config.user);
    return n;
}

/* Other members of the bus come first, because a client may know already what they have sent. Then
 * come sockets, then what is left over, then time: a loop that was held up times no one out whose
 * bytes are here already. */
static int turn(ws_server *s, int timeout_ms)
{
    struct ws__hub *hub = &s->hub;
    int n = wait_for(s, timeout_ms);
    if (n < 0)
        return n;
    hub->stats.turns++;
    bool complete = all_seen(s, n);
    if (hub->bus)
        hub->bus_calls->receive(hub, n);
    for (int i = 0; i < n; i++)
        on_event(s, ws__loop_event(&hub->loop, i));
    ws__hub_run_ready(hub);
    if (complete)
        run_timers(s);
    run_alarm(s);
    run_deferred(s, NULL);
    send_published(hub);
    ws__hub_end_turn(hub);
    if (hub->dead)
        ws__hub_free_dead(hub);
    if (hub->deflate.deflated.capacity || hub->deflate.inflated.capacity)
        ws__deflate_trim(&hub->deflate, hub->config.cork_size);
    note_blocked(s);
    return WS_OK;
}

/* Nothing is left to do of a shutdown; what was deferred until now still runs. */
__attribute__((cold)) static void finish_shutdown(ws_server *s)
{
    struct ws__hub *hub = &s->hub;
    if (!s->stopped)
        ws__loop_set_alarm(&hub->loop, WS__LOOP_NEVER);
    ws__timer_stop(&s->shutdown_timer);
    s->stopped = true;
    hub->in_turn = true;
    if (hub->bus)
        hub->bus_calls->say_bye(hub);
    run_deferred(s, &s->no_more);
    ws__hub_run_ready(hub); /* empties the list, so that every connection can be freed */
    send_published(hub);
    ws__hub_free_dead(hub);
    hub->in_turn = false;
}

static inline bool is_over(ws_server *s)
{
    if (!s->hub.draining || s->hub.stats.connections)
        return false;
    finish_shutdown(s);
    return true;
}

static int one_turn(ws_server *s, int timeout_ms)
{
    if (in_callback(s))
        return WS_EBUSY;
    if (is_over(s))
        return WS_OK;
    s->hub.in_turn = true;
    int error = turn(s, timeout_ms);
    s->hub.in_turn = false;
    if (error)
        return error;
    return is_over(s) ? WS_OK : 1;
}

/* Whether this is a forked child is asked once: a system call in each turn would be dear. */
int ws_server_run(ws_server *server)
{
    int result;
    if (ws__loop_is_shared(&server->hub.loop))
        return WS_EFORKED;
    do
        result = one_turn(server, -1);
    while (result > 0 && !server->interrupted);
    if (result != WS_EBUSY) /* otherwise it belongs to the outer call */
        server->interrupted = false;
    return result;
}

int ws_server_step(ws_server *server, int timeout_ms)
{
    int result = one_turn(server, timeout_ms);
    if (result == WS_EBUSY)
        return result;
    ws__loop_arm(&server->hub.loop); /* a foreign loop waits for the descriptor alone, ... */
    if (has_work(&server->hub))      /* ... and must come back at once */
        ws__loop_wakeup(&server->hub.loop);
    return result;
}

int ws_server_fd(const ws_server *server)
{
    return server->hub.loop.epoll_fd;
}

__attribute__((cold)) int ws_server_set_interrupt_fd(ws_server *server, int fd)
{
    if (ws__loop_is_shared(&server->hub.loop))
        return WS_EFORKED;
    if (server->interrupt_fd >= 0)
        ws__loop_remove(&server->hub.loop, server->interrupt_fd);
    server->interrupt_fd = -1;
    if (fd < 0)
        return WS_OK;
    int error = ws__loop_add(&server->hub.loop, fd, WS__LOOP_READ, DATA_INTERRUPT);
    if (!error)
        server->interrupt_fd = fd;
    return error;
}

int ws_server_watch(ws_server *server, int fd, unsigned events,
                    void (*fn)(int fd, unsigned ready, void *user), void *user)
{
    const unsigned known = WS_READABLE | WS_WRITABLE;
    if (fd < 0 || (events & ~known) || (events && !fn))
        return WS_EINVAL;
    if (ws__loop_is_shared(&server->hub.loop))
        return WS_EFORKED;
    return ws__watches_set(&server->watches, fd, events, fn, user);
}

/* ---- shutdown ---- */

/* A shutdown that is under way may become shorter. Once its time is over it drops everything. */
static bool is_shorter(const ws_server *s, uint32_t timeout_ms)
{
    const struct ws__loop *loop = &s->hub.loop;
    uint64_t before = s->shutdown_timer.deadline;
    uint64_t deadline = loop->clock(loop->user) + (uint64_t)timeout_ms * 1000000u;
    return before != WS__LOOP_NEVER && deadline < before;
}

__attribute__((cold)) int ws_server_shutdown(ws_server *server, int code, const char *reason,
                                             size_t length, uint32_t timeout_ms)
{
    struct ws__hub *hub = &server->hub;
    if (!ws__protocol_code_valid(code) || (length && !ws_utf8_valid(reason, length)))
        return WS_EINVAL;
    if (ws__loop_is_shared(&hub->loop))
        return WS_EFORKED;
    if (server->stopped || (hub->stopping && !is_shorter(server, timeout_ms)))
        return WS_OK; /* without a wake-up, for it may be called after every turn */
    ws__hub_touch(hub);
    server->shutdown_queue->duration = (uint64_t)timeout_ms * 1000000u;
    ws__timer_start(&hub->loop, server->shutdown_queue, &server->shutdown_timer);
    if (hub->stopping)
        return WS_OK;
    hub->draining = hub->stopping = true;
    ws__listeners_close(&server->listeners);
    if (hub->bus)
        hub->bus_calls->say_bye(hub);
    for (uint32_t i = 0; i < hub->slot_count; i++)
        if (hub->slots[i].stream)
            ws__stream_shutdown(ws__stream_of_link(hub->slots[i].stream), code, reason, length);
    ws__loop_wakeup(&hub->loop);
    return WS_OK;
}

__attribute__((cold)) int ws_server_drain(ws_server *server)
{
    struct ws__hub *hub = &server->hub;
    if (ws__loop_is_shared(&hub->loop))
        return WS_EFORKED;
    if (hub->draining)
        return WS_OK;
    hub->draining = true;
    ws__listeners_close(&server->listeners);
    for (uint32_t i = 0; i < hub->slot_count; i++)
        if (hub->slots[i].stream)
            ws__serve_drain(ws__stream_of_link(hub->slots[i].stream));
    ws__loop_wakeup(&hub->loop);
    return WS_OK;
}

/* ---- bus ---- */

int ws_server_join(ws_server *server, const ws_bus_options *options)
{
    static const struct ws__bus_handlers handlers = {ws_server_deliver, ws_server_end_topic_here};
    return ws__bus_join(&server->hub, options, DATA_BUS, &handlers);
}

/* ---- other threads ---- */

void ws_server_wakeup(ws_server *server)
{
    ws__loop_wakeup(&server->hub.loop);
}

__attribute__((cold)) static int
defer(ws_server *server, void (*fn)(void *argument), void *argument)
{
    struct deferred *d = resize_server(&server->hub.config, NULL, 0, sizeof *d);
    if (!d)
        return WS_ENOMEM;
    d->fn = fn;
    d->argument = argument;
    d->next = atomic_load(&server->deferred);
    do {
        if (d->next == &server->no_more) {
            resize_server(&server->hub.config, d, sizeof *d, 0);
            return WS_ESTOPPED;
        }
    } while (!atomic_compare_exchange_weak(&server->deferred, &d->next, d));
    ws__loop_wakeup(&server->hub.loop);
    return WS_OK;
}

/* The allocator is a callback here, too, but this may be any thread: it has a count of its own. */
int ws_server_defer(ws_server *server, void (*fn)(void *argument), void *argument)
{
    atomic_fetch_add(&server->in_defer, 1);
    int result = defer(server, fn, argument);
    atomic_fetch_sub(&server->in_defer, 1);
    return result;
}

/* ---- queries and settings ---- */

ws_conn *ws_server_find(ws_server *server, ws_conn_id id)
{
    struct ws__link *stream = ws__hub_find(&server->hub, id);
    ws_conn *c = stream ? ws__conn_of(ws__stream_of_link(stream)) : NULL;
    return c && c->report == WS__REPORT_CLOSE ? c : NULL;
}

void ws_server_set_on_response(ws_server *server,
                               void (*fn)(ws_request *request, int status, size_t length,
                                          const char *why, size_t why_length, void *user),
                               void *user)
{
    server->hub.on_response = fn;
    server->hub.response_user = user;
}

void ws_server_set_alarm(ws_server *server, uint64_t delay_ns, void (*fn)(void *argument),
                         void *argument)
{
    struct ws__loop *loop = &server->hub.loop;
    server->alarm = fn;
    server->alarm_argument = argument;
    ws__loop_set_alarm(loop, fn ? delay_ns : WS__LOOP_NEVER);
    if (server->hub.in_turn || !fn || ws__loop_is_shared(loop))
        return;
    loop->now = loop->clock(loop->user);
    ws__loop_arm(loop); /* wakes a foreign loop that is asleep */
}

int ws_server_stats(const ws_server *server, ws_stats *stats, size_t size)
{
    if (size != sizeof *stats)
        return WS_EABI;
    *stats = server->hub.stats;
    stats->size = size;
    stats->messages_out -= server->hub.not_sent;
    stats->memory = server->hub.memory.used;
    stats->compression_memory = server->hub.deflate.used;
    stats->topics = server->hub.topics.topic_count;
    return WS_OK;
}
