/* SPDX-License-Identifier: MIT */
/*
 * hub.h: what all streams of one server share: memory, the event loop, ids, the list of streams
 * that have work left, the list of those that are dead, and how much a turn may do. Knows nothing
 * of what a stream is: it is handed over as a struct ws__link, which a stream begins with.
 */
#ifndef WS__HUB_H
#define WS__HUB_H

#include "deflate.h"
#include "loop.h"
#include "net.h"
#include "router.h"
#include "topics.h"
#include "ws_cluster.h"

/* A stream in the lists below, of which it is on one at most. */
struct ws__link {
    struct ws__link *next;
};

/* Links in the order in which they were appended. */
struct ws__list {
    struct ws__link *first, *last;
};

/* What hub->copy_limit and hub->early_limit are at most. */
enum { WS__COPY_LIMIT = 16 * 1024, WS__EARLY_LIMIT = 64 * 1024 };

/* A slot is free (stream NULL) or holds the stream whose id has this generation. */
struct ws__slot {
    struct ws__link *stream;
    uint64_t generation : 40;
    uint64_t next_free : 24; /* index; all bits are set in the last free slot */
};

/* What the timers of the loop are for. */
enum ws__timer_kind {
    WS__TIMER_STREAM,   /* ws__stream.timer */
    WS__TIMER_LIFETIME, /* ws__extra.lifetime */
    WS__TIMER_ACCEPT,
    WS__TIMER_SHUTDOWN
};

/* What is used in many places comes first: a distance from the beginning of at most 127 bytes takes
 * one byte in an instruction of x86-64, and four otherwise. */
struct ws__hub {
    struct ws__memory memory;
    struct ws__bus *bus;          /* bus.c: NULL unless the server is a member of one */
    struct ws__buffer *published; /* share.c: frames of this turn */
    char *recv_buffer;            /* config.recv_buffer_size bytes */
    const struct ws__stream_filter *filter; /* stream.h: NULL unless some streams have it */
    /* Called before bytes of a stream are written: other processes must learn something first that
     * the peer may conclude from them. Usually NULL. */
    void (*before_output)(struct ws__hub *hub);
    struct ws__tls_room *tls; /* tls.c: NULL until a listener speaks TLS */
    struct ws__slot *slots;
    uint32_t slot_count, slot_capacity, free_slot;
    uint32_t in_callbacks; /* depth of callbacks of the application, see WS__CALL */
    bool in_turn;
    bool draining;   /* it shuts down once no connection is left, and opens no more */
    bool stopping;   /* it shuts down now, too */
    bool forked;     /* a forked child frees its copy: all descriptors are the parent's */
    bool late;       /* ws__hub_is_late returned true in this turn */
    bool relaying;   /* relay.c: other processes must know what is published here */
    bool in_dropped; /* send.c: an on_dropped is running */
    bool in_ending;  /* send.c: a send that failed ends its connection: handlers run */
    struct ws__timer_queue *linger_queue;
    struct ws__loop loop;

    ws_config config;
    ws_server *server;
    struct ws__list ready;     /* streams with work left */
    struct ws__list postponed; /* the same; they come before those that had a turn */
    struct ws__link *dead;
    void (*run)(struct ws__link *stream);     /* gives a stream its turn on the ready list */
    void (*release)(struct ws__link *stream); /* frees a dead stream */
    uint64_t turn_deadline; /* see ws__hub_is_late; 0: not yet needed in this turn */
    struct ws__timer_queue *handshake_queue, *keep_alive_queue, *body_queue, *upgrade_queue;
    struct ws__timer_queue *last_queue; /* during a shutdown: between two looks at what the peer's
                                           kernel has acknowledged */
    struct ws__buffer *spare; /* stream.c: of config.cork_size, lent to the stream that is corked */
    uint32_t copy_limit;  /* payloads of this size are offered to the kernel uncopied */
    uint32_t early_limit; /* bytes read ahead while an answer is awaited */

    /* The state of the upper layers that belongs to a server as a whole. */
    struct ws__router websocket_routes, http_routes; /* route.c */
    struct ws__topics topics;                        /* publish.c */
    struct ws__extra *sharing;                       /* share.c: connections with a range of it */
    uint32_t label_takers;                           /* label.c: connections that take labels */
    uint32_t inflating;      /* inflate.c: connections whose message waits to be inflated */
    uint64_t turn_inflating; /* inflate.c: nanoseconds spent in this turn */
    struct ws__deflate_pool deflate;
    ws_conn *opening; /* receive.c: whose on_open is running, and its request */
    ws_request *opening_request;
    /* respond.c: NULL unless the application wants to know of responses. */
    void (*on_response)(ws_request *request, int status, size_t length, const char *why,
                        size_t why_length, void *user);
    void *response_user;
    void (*fallback)(ws_request *request, int status, void *user); /* serve.c: or NULL */
    void *fallback_user;
    ws_relay relay;              /* relay.c: the application's */
    const struct ws__bus_calls *bus_calls; /* bus.h: the functions of `bus` */
    struct ws__proxies *proxies; /* forwarded.c: NULL unless there are some to be trusted */
    struct ws__quota *quota;     /* quota.c: NULL unless there is one for each address */
    uint64_t date_second;        /* respond.c: the second that `date` shows */
    char date[30];
    uint64_t not_sent; /* send.c: how many of stats.messages_out were discarded */
    ws_stats stats;
};

/* A server begins with its hub. */
static inline struct ws__hub *ws__hub_of(ws_server *server)
{
    return (struct ws__hub *)server;
}

/* Calls a function of the application, if there is one. Until it returns, the server can neither be
 * freed nor run a turn (WS_EBUSY). Handlers that only turns call (on_message, ...) need no count,
 * because `in_turn` has the same effect. A forked child calls none of them: they belong to the
 * parent. */
#define WS__CALL(hub, function, ...)                                                               \
    do {                                                                                           \
        if ((function) && !(hub)->forked) {                                                        \
            (hub)->in_callbacks++;                                                                 \
            (function)(__VA_ARGS__);                                                               \
            (hub)->in_callbacks--;                                                                 \
        }                                                                                          \
    } while (0)

/* Returns WS_OK, WS_ENOMEM, or WS_ESYSTEM with errno. Afterwards set `run` and `release`. */
__attribute__((cold)) int ws__hub_init(struct ws__hub *hub, ws_server *server,
                                       const ws_config *config);
void ws__hub_deinit(struct ws__hub *hub);
/* There is something to do in the next turn. Between turns the time of the loop may be stale, and a
 * foreign loop that watches ws_server_fd may be asleep: updates the one and wakes the other. */
void ws__hub_touch(struct ws__hub *hub);
/* Writes one line to config.log, cut to 200 bytes. */
void ws__hub_log(struct ws__hub *hub, int level, const char *format, ...)
    __attribute__((cold, format(printf, 3, 4)));

/* Writes a line about a peer that is refused, where the application wants to know of each. */
void ws__hub_log_refusal(struct ws__hub *hub, const struct ws__address *peer, const char *why)
    __attribute__((cold));

/* Gives a stream its id, which is never given again. Returns 0 if out of memory. */
ws_conn_id ws__hub_take_slot(struct ws__hub *hub, struct ws__link *stream);
void ws__hub_release_slot(struct ws__hub *hub, ws_conn_id id);
/* Returns NULL if the stream with this id is gone. */
struct ws__link *ws__hub_find(const struct ws__hub *hub, ws_conn_id id);

/* True once the turn has taken so long that a stream which has had WS__TURN_STEP messages in it
 * should wait for the next one. Reads the clock; counts from the first call in a turn. A call
 * between turns counts for the next one, which therefore comes at once. */
bool ws__hub_is_late(struct ws__hub *hub);

enum { WS__TURN_MESSAGES = 1024, WS__TURN_STEP = 16 };
/* True when a stream that has handled so many messages in its turn, and has more, should let others
 * go first: after WS__TURN_MESSAGES, or, once the turn is late, after each WS__TURN_STEP. */
static inline bool ws__hub_had_turn(struct ws__hub *hub, unsigned handled,
                                    const struct ws__input *in)
{
    return handled % WS__TURN_STEP == 0 && in->length &&
           (handled >= WS__TURN_MESSAGES || ws__hub_is_late(hub));
}

/* Appends a stream that is on no list. */
void ws__hub_append(struct ws__list *list, struct ws__link *stream);
/* Gives the streams on the ready list their turn. */
void ws__hub_run_ready(struct ws__hub *hub);
/* Ends the account of the turn's time, at its very end. */
static inline void ws__hub_end_turn(struct ws__hub *hub)
{
    hub->turn_inflating = hub->turn_deadline = 0;
    hub->late = false;
}
/* To be freed by ws__hub_free_dead, when no handler can be running in it. */
void ws__hub_bury(struct ws__hub *hub, struct ws__link *stream);
void ws__hub_free_dead(struct ws__hub *hub);

#endif
