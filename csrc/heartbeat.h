/* SPDX-License-Identifier: MIT */
/*
 * heartbeat.h: the silence of a peer: when a Ping is due, when the connection has timed out, how
 * long a round trip takes, and the end that a route sets to every connection's life. Decides when;
 * what is sent or closed is the caller's. RFC 6455 sections 5.5.2, 5.5.3.
 */
#ifndef WS__HEARTBEAT_H
#define WS__HEARTBEAT_H

#include "stream.h"

/* The times of a route. */
struct ws__heartbeat {
    struct ws__timer_queue *first;    /* from the last byte to the first action; NULL: no limit */
    struct ws__timer_queue *between;  /* from one Ping to the next ... */
    struct ws__timer_queue *last;     /* ... and from the last one to the end */
    struct ws__timer_queue *lifetime; /* NULL: no limit */
    uint64_t silence; /* ns from the last byte to the first action; `first` lasts a little longer */
    uint32_t pings;   /* sent in one silence; UINT32_MAX: no limit */
    bool by_ping;     /* the end is due to ping_timeout, not idle_timeout */
};

/* The state of a connection. Its timer is the stream's, which also counts the Pings that were sent
 * in this silence (`count`). */
struct ws__pulse {
    uint32_t ping_mark; /* hash of the payload of the last Ping, ... */
    uint32_t ping_time; /* ... and when it was sent, microseconds; 0: no Pong is awaited */
    uint32_t latency;   /* microseconds; 0: no Pong has arrived yet */
};

/* Makes the queues and times of a route from its settings. Returns WS_ENOMEM if out of memory. */
int ws__heartbeat_init(struct ws__hub *hub, struct ws__heartbeat *h, const ws_behavior *behavior);

/* A new silence begins, of a connection that was opened or resumed, or has received a byte. */
void ws__heartbeat_restart(struct ws__stream *s, const struct ws__heartbeat *h);
/* A byte was received on an open connection. The timer stays where it is while it would not expire
 * too early: most reads of a busy connection cost this comparison. The deadline of a stopped timer
 * is never reached. */
static inline void ws__heartbeat_heard(struct ws__stream *s, const struct ws__heartbeat *h)
{
    if (s->hub->loop.now + h->silence >= s->timer.deadline)
        ws__heartbeat_restart(s, h);
}
/* Bytes were sent, on a route where that counts as if some had been received. */
void ws__heartbeat_sent(struct ws__stream *s, const struct ws__heartbeat *h);
/* When the timer has expired: true if the silence has lasted too long, false if a Ping is due. */
static inline bool ws__heartbeat_timed_out(const struct ws__stream *s,
                                           const struct ws__heartbeat *h)
{
    return s->count == h->pings;
}
/* The Ping that was due has been sent: starts the timer for what follows it. */
void ws__heartbeat_pinged(struct ws__stream *s, const struct ws__heartbeat *h);

/* The payload of a Ping, different for each. */
enum { WS__HEARTBEAT_PAYLOAD = 4 };
void ws__heartbeat_payload(const struct ws__stream *s, char payload[WS__HEARTBEAT_PAYLOAD]);
/* A Ping was sent, a Pong was received. */
void ws__heartbeat_ping(const struct ws__stream *s, struct ws__pulse *pulse, const void *data,
                        size_t length);
void ws__heartbeat_pong(const struct ws__stream *s, struct ws__pulse *pulse, const void *data,
                        size_t length);

#endif
