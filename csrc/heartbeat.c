/*
 * heartbeat.c: silence of a peer: Pings when it lasts, the end when it lasts too long; and the end
 * that a route sets to every connection's life. Any byte received ends a silence, so a Pong is no
 * more than that, but for the round trip that it tells. RFC 6455 sections 5.5.2, 5.5.3.
 *
 *      last byte        first Ping            last Ping              end
 *          ├─────────────────┼────────── ... ─────┼───────────────────┤
 *               h->first           h->between            h->last
 */
#include "conn.h"

static const uint64_t MILLISECOND = 1000000, LARGEST_MARGIN = UINT64_C(16000000000),
                      LARGEST_SLACK = 50000000;

/* ---- a route ---- */

/* Nanoseconds of silence between Pings; 0: none. */
static uint64_t ping_interval(const ws_behavior *b)
{
    uint64_t idle = b->idle_timeout * MILLISECOND, margin = idle / 3;
    if (b->ping_interval != WS_DERIVED)
        return b->ping_interval * MILLISECOND;
    return idle - (margin < LARGEST_MARGIN ? margin : LARGEST_MARGIN);
}

/* The first Ping of a silence is the one that ping_timeout is about. 0: no end by it. */
static uint64_t end_by_ping(const ws_behavior *b, uint64_t interval)
{
    if (!interval || !b->ping_timeout || b->ping_timeout == WS_DERIVED)
        return 0;
    return interval + b->ping_timeout * MILLISECOND;
}

/* A duration is never 0 here; 0 stands for a queue that is not needed. */
static bool make_queue(struct ws__hub *hub, struct ws__timer_queue **queue, uint64_t duration,
                       enum ws__timer_kind kind)
{
    *queue = NULL;
    if (duration)
        *queue = ws__loop_queue_ns(&hub->loop, &hub->memory, duration, (int)kind);
    return *queue || !duration;
}

/* `first` lasts longer than the silence it stands for by a slack: a byte that comes so soon after
 * the timer was started needs not move it. */
int ws__heartbeat_init(struct ws__hub *hub, struct ws__heartbeat *h, const ws_behavior *behavior)
{
    uint64_t interval = ping_interval(behavior), end = behavior->idle_timeout * MILLISECOND;
    uint64_t by_ping = end_by_ping(behavior, interval);
    h->by_ping = by_ping && (!end || by_ping < end);
    if (h->by_ping)
        end = by_ping;
    if (end && interval >= end)
        interval = 0;
    h->pings = !interval ? 0 : end ? (uint32_t)((end - 1) / interval) : UINT32_MAX;
    h->silence = interval ? interval : end;
    uint64_t slack = h->silence / 128 < LARGEST_SLACK ? h->silence / 128 : LARGEST_SLACK;
    uint64_t last = end && interval ? end - h->pings * interval : 0;
    return make_queue(hub, &h->first, h->silence + slack, WS__TIMER_CONN) &&
                   make_queue(hub, &h->between, h->pings > 1 ? interval : 0, WS__TIMER_CONN) &&
                   make_queue(hub, &h->last, last, WS__TIMER_CONN) &&
                   make_queue(hub, &h->lifetime, behavior->max_lifetime * MILLISECOND,
                              WS__TIMER_LIFETIME)
               ? WS_OK
               : WS_ENOMEM;
}

/* ---- a connection ---- */

bool ws__heartbeat_start(ws_conn *c)
{
    const struct ws__heartbeat *h = &c->target->heartbeat;
    struct ws__extra *extra = h->lifetime ? ws__conn_extra(c) : NULL;
    if (h->lifetime && !extra)
        return false;
    ws__heartbeat_restart(c);
    if (extra)
        ws__timer_start(&c->hub->loop, h->lifetime, &extra->lifetime);
    return true;
}

void ws__heartbeat_pause(ws_conn *c)
{
    ws__timer_stop(&c->timer);
}

/* A timer that runs moves back only: a loop that sleeps needs not be told. */
void ws__heartbeat_restart(ws_conn *c)
{
    if (!c->timer.next)
        ws__hub_touch(c->hub);
    c->pings = 0;
    if (c->target->heartbeat.first)
        ws__timer_start(&c->hub->loop, c->target->heartbeat.first, &c->timer);
}

void ws__heartbeat_stop(ws_conn *c)
{
    if (c->extra)
        ws__timer_stop(&c->extra->lifetime);
}

/* The present, also where no turn has read the clock. */
static uint64_t read_time(const struct ws__hub *hub)
{
    return hub->in_turn ? hub->loop.now : hub->loop.clock(hub->loop.user);
}

void ws__heartbeat_sent(ws_conn *c)
{
    c->hub->loop.now = read_time(c->hub);
    ws__heartbeat_heard(c);
}

/* ---- Ping and Pong ---- */

/* FNV-1a: the payload of an application's Ping is not kept. */
static uint32_t hash(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ bytes[i]) * 16777619u;
    return h;
}

static uint32_t microseconds(const struct ws__hub *hub)
{
    return (uint32_t)(read_time(hub) / 1000);
}

void ws__heartbeat_ping(ws_conn *c, const void *data, size_t length)
{
    c->ping_mark = hash(data, length);
    c->ping_time = microseconds(c->hub);
    c->pinged = true;
}

/* RFC 6455 5.5.3: the answer has the payload of the Ping; unsolicited Pongs tell nothing. */
void ws__heartbeat_pong(ws_conn *c, const void *data, size_t length)
{
    if (!c->pinged || hash(data, length) != c->ping_mark)
        return;
    uint32_t took = microseconds(c->hub) - c->ping_time;
    c->latency = took ? took : 1;
    c->pinged = false;
}

/* The payload is what tells this Ping from the one before. */
static void send_ping(ws_conn *c)
{
    uint32_t mark = microseconds(c->hub);
    const char payload[4] = {(char)(mark >> 24), (char)(mark >> 16 & 0xff),
                             (char)(mark >> 8 & 0xff), (char)(mark & 0xff)};
    ws_conn_send(c, payload, sizeof payload, WS_PING);
}

/* Every step counts from the one before as it really was: a Ping that a busy loop sent late leaves
 * the peer as much time for its answer. The timer stands still meanwhile, so that a Ping is no sign
 * of life where other sends are. */
void ws__heartbeat_on_timer(ws_conn *c)
{
    const struct ws__heartbeat *h = &c->target->heartbeat;
    uint32_t sent = c->pings;
    if (sent == h->pings) {
        c->by_peer = c->gone;
        ws__conn_drop(c, c->gone      ? "connection reset by peer"
                         : h->by_ping ? "ping timeout"
                                      : "idle timeout");
        return;
    }
    send_ping(c);
    c->pings = h->pings == UINT32_MAX ? 0 : sent + 1;
    ws__timer_start(&c->hub->loop, c->pings == h->pings ? h->last : h->between, &c->timer);
}

/* RFC 6455 7.4.1: 1000, the purpose of the connection is fulfilled. */
void ws__heartbeat_on_lifetime(ws_conn *c)
{
    static const char reason[] = "please reconnect";
    ws_conn_end(c, 1000, reason, sizeof reason - 1);
}

/* ---- ws.h ---- */

uint32_t ws_conn_latency(const ws_conn *conn)
{
    return conn->latency;
}
