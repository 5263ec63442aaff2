/* SPDX-License-Identifier: MIT */
/*
 * heartbeat.c: the silence of a peer: Pings while it lasts, the end when it lasts too long. Any
 * byte received ends a silence: a Pong is no more than that, except for the round trip that it
 * shows. RFC 6455 sections 5.5.2, 5.5.3.
 *
 *      last byte        first Ping            last Ping              end
 *          ├─────────────────┼────────── ... ─────┼───────────────────┤
 *               h->first           h->between            h->last
 */
#include "heartbeat.h"

static const uint64_t MILLISECOND = 1000000, LARGEST_MARGIN = UINT64_C(16000000000),
                      LARGEST_SLACK = 50000000;

/* ---- a route ---- */

/* Nanoseconds of silence between Pings; 0: none are sent. */
static uint64_t ping_interval(const ws_behavior *b)
{
    uint64_t idle = b->idle_timeout * MILLISECOND, margin = idle / 3;
    if (b->ping_interval != WS_DERIVED)
        return b->ping_interval * MILLISECOND;
    return idle - (margin < LARGEST_MARGIN ? margin : LARGEST_MARGIN);
}

/* ping_timeout counts from the first Ping of a silence. Returns nanoseconds from the last byte; 0
 * if ping_timeout ends nothing. */
static uint64_t end_by_ping(const ws_behavior *b, uint64_t interval)
{
    if (!interval || !b->ping_timeout || b->ping_timeout == WS_DERIVED)
        return 0;
    return interval + b->ping_timeout * MILLISECOND;
}

/* duration 0: no queue is needed. Returns false if out of memory. */
static bool find_queue(struct ws__hub *hub, struct ws__timer_queue **queue, uint64_t duration,
                       enum ws__timer_kind kind)
{
    *queue = NULL;
    if (duration)
        *queue = ws__loop_queue_ns(&hub->loop, &hub->memory, duration, (int)kind);
    return *queue || !duration;
}

/* `first` lasts longer than `silence` by a slack: a byte that arrives so soon after the timer was
 * started need not move it. */
__attribute__((cold)) int
ws__heartbeat_init(struct ws__hub *hub, struct ws__heartbeat *h, const ws_behavior *behavior)
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
    return find_queue(hub, &h->first, h->silence + slack, WS__TIMER_STREAM) &&
                   find_queue(hub, &h->between, h->pings > 1 ? interval : 0, WS__TIMER_STREAM) &&
                   find_queue(hub, &h->last, last, WS__TIMER_STREAM) &&
                   find_queue(hub, &h->lifetime, behavior->max_lifetime * MILLISECOND,
                              WS__TIMER_LIFETIME)
               ? WS_OK
               : WS_ENOMEM;
}

/* ---- a connection ---- */

/* Restarting a running timer only postpones its deadline, so a sleeping loop need not be woken. */
void ws__heartbeat_restart(struct ws__stream *s, const struct ws__heartbeat *h)
{
    if (!s->timer.next)
        ws__hub_touch(s->hub);
    s->count = 0;
    if (h->first)
        ws__timer_start(&s->hub->loop, h->first, &s->timer);
}

/* The present, also between turns, when no turn has read the clock. */
static uint64_t read_time(const struct ws__hub *hub)
{
    return hub->in_turn ? hub->loop.now : hub->loop.clock(hub->loop.user);
}

void ws__heartbeat_sent(struct ws__stream *s, const struct ws__heartbeat *h)
{
    s->hub->loop.now = read_time(s->hub);
    ws__heartbeat_heard(s, h);
}

/* Each step counts from the time when the previous one really happened: if a busy loop sent a Ping
 * late, the peer still gets the full time to answer. The timer is stopped while the Ping is sent,
 * so that a Ping does not count as activity on routes where other sends do. */
void ws__heartbeat_pinged(struct ws__stream *s, const struct ws__heartbeat *h)
{
    s->count = h->pings == UINT32_MAX ? 0 : s->count + 1;
    ws__timer_start(&s->hub->loop, s->count == h->pings ? h->last : h->between, &s->timer);
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

static uint32_t microseconds(const struct ws__stream *s)
{
    return (uint32_t)(read_time(s->hub) / 1000);
}

void ws__heartbeat_payload(const struct ws__stream *s, char payload[WS__HEARTBEAT_PAYLOAD])
{
    uint32_t time = microseconds(s);
    for (int i = 0; i < WS__HEARTBEAT_PAYLOAD; i++)
        payload[i] = (char)(time >> (24 - 8 * i) & 0xff);
}

void ws__heartbeat_ping(const struct ws__stream *s, struct ws__pulse *pulse, const void *data,
                        size_t length)
{
    uint32_t time = microseconds(s);
    pulse->ping_mark = hash(data, length);
    pulse->ping_time = time ? time : 1;
}

/* RFC 6455 5.5.3: a Pong "must have identical 'Application data'" as the Ping that it answers. */
void ws__heartbeat_pong(const struct ws__stream *s, struct ws__pulse *pulse, const void *data,
                        size_t length)
{
    if (!pulse->ping_time || hash(data, length) != pulse->ping_mark)
        return;
    uint32_t took = microseconds(s) - pulse->ping_time;
    pulse->latency = took ? took : 1;
    pulse->ping_time = 0;
}
