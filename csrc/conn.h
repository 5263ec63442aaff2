/*
 * conn.h: one connection, from accept to the last byte, shared by the files of this layer:
 * conn.c (life cycle, reading), send.c (frames out, cork, queue, backpressure), pong.c (answers to
 * Pings in the queue), publish.c (topics), heartbeat.c (silence, Pings, lifetime), request.c (the
 * HTTP phase), route.c (what to do with requests), inflate.c (compressed messages) and hub.c
 * (struct ws__hub: what all connections of one server share).
 *
 *      accept          101              ws_conn_end                 peer's Close
 *   ──────────▶ HTTP ──────▶ OPEN ─────────────────────▶ CLOSING ───────────────┐
 *                │            │                                                 ▼
 *                │ error      │ peer's Close, or the peer broke a rule       LINGERING
 *                └────────────┴───────────────────────────────────────────▶     │
 *        any state: ws_conn_close, reset, EOF, timeout ──▶ DEAD ◀───────────────┘ EOF, timeout
 *
 * HTTP: RFC 6455's CONNECTING. CLOSING: our Close is sent (RFC 6455 7.1.3), the peer's is awaited.
 * LINGERING: everything is said; after the queue went out FIN follows and input is discarded
 * until EOF, so that what was said can be read (RFC 6455 7.1.1, RFC 9112 9.6). DEAD: the socket is
 * closed; the memory is freed after the turn, so that any handler may close any connection.
 */
#ifndef WS__CONN_H
#define WS__CONN_H

#include "deflate.h"
#include "http.h"
#include "loop.h"
#include "net.h"
#include "protocol.h"
#include "router.h"
#include "topics.h"

enum ws__state { WS__HTTP, WS__OPEN, WS__CLOSING, WS__LINGERING, WS__DEAD };

enum {
    WS__CORK_SIZE = 64 * 1024,       /* corked bytes that leave at once, see cork_limit, too */
    WS__COPY_LIMIT = 16 * 1024,      /* payloads from here on are offered to the kernel uncopied */
    WS__UNSENT_LIMIT = 128 * 1024,   /* bytes of a response that the kernel holds unsent */
    WS__EARLY_LIMIT = 64 * 1024,     /* bytes kept while an upgrade waits for its answer */
    WS__TURN_INFLATED = 1024 * 1024, /* bytes into and out of inflate per connection and turn */
    WS__TURN_MESSAGES = 1024,        /* events handled per connection and turn ... */
    WS__TURN_STEP = 16,              /* ... and per look at the clock */
    WS__TURN_DISCARD = 1024 * 1024,  /* bytes discarded per lingering connection and turn */
    WS__PUBLISHED_SIZE = 256 * 1024, /* published bytes of one turn that leave at once */
    WS__UNCOMPRESSED = 8,            /* bytes of a message that compression cannot make shorter */
    WS__CLOSE_REASON_MAX = 123,      /* bytes beside the code in a control frame (RFC 6455 5.5) */
    WS__REFUSED_RESERVE = 64,        /* connections above max_connections that still get a 503 */
    WS__MAX_SLOTS = 0xffffff
};

/* What the loop's timers are for. */
enum ws__timer_kind {
    WS__TIMER_CONN,     /* ws_conn.timer */
    WS__TIMER_LIFETIME, /* ws__extra.lifetime */
    WS__TIMER_ACCEPT,
    WS__TIMER_SHUTDOWN
};

/* Silence of the peer, as a route judges it; all from ws__heartbeat_init. */
struct ws__heartbeat {
    struct ws__timer_queue *first;    /* from the last byte to the first action; NULL: none */
    struct ws__timer_queue *between;  /* from one Ping to the next ... */
    struct ws__timer_queue *last;     /* ... and from the last one to the end */
    struct ws__timer_queue *lifetime; /* NULL: no end */
    uint64_t silence; /* ns from the last byte to the first action; `first` lasts a little longer */
    uint32_t pings;   /* how many go out in one silence; UINT32_MAX: no end to them */
    bool by_ping;     /* the end is due to ping_timeout, not idle_timeout */
};

/* A route of ws_server_ws or ws_server_http. */
struct ws__target {
    ws_behavior behavior;                              /* of a WebSocket route */
    void (*handler)(ws_request *request, void *user);  /* of an HTTP route, else NULL */
    void *user;
    char *method;                                      /* of an HTTP route */
    const char *pattern;                               /* of an HTTP route, with its own names */
    char *strings;                                     /* copies of all these texts */
    size_t strings_size;
    /* Corked or published bytes that leave at once. Should the kernel refuse all of them, there is
     * still as much room below max_backpressure: who looks at the buffered amount before each send,
     * which corked bytes are no part of, loses nothing. */
    size_t cork_limit;
    struct ws__timer_queue *close_queue;
    struct ws__heartbeat heartbeat;
    struct ws__target *next; /* another method of the same pattern */
};

/* A slot is free (conn NULL) or holds the connection whose id has this generation. */
struct ws__slot {
    ws_conn *conn;
    uint64_t generation : 40;
    uint64_t next_free : 24; /* index; WS__MAX_SLOTS: none */
};

/* Connections in the order in which they were appended. */
struct ws__list {
    ws_conn *first, *last;
};

struct ws__hub {
    struct ws__memory memory;
    struct ws__loop loop;
    ws_config config;
    ws_server *server;
    struct ws__router websocket_routes, http_routes;
    struct ws__slot *slots;
    uint32_t slot_count, slot_capacity, free_slot;
    char *recv_buffer;        /* config.recv_buffer_size bytes */
    struct ws__deflate_pool deflate;
    struct ws__buffer *spare; /* WS__CORK_SIZE bytes, lent to the connection that is corked */
    /* Lists by ws_conn.next: a connection is on one of them at most. */
    struct ws__list ready;     /* has something left to do */
    struct ws__list postponed; /* the same, and comes before those that had their turn */
    ws_conn *dead;
    uint32_t inflating;       /* connections with a message that waits to be inflated */
    uint64_t turn_inflating;  /* nanoseconds that inflating has taken in this turn */
    uint64_t turn_deadline;   /* see ws__hub_is_late; 0: not yet needed in this turn */
    struct ws__topics topics;
    struct ws__buffer *published; /* frames of this turn, see publish.c */
    struct ws__extra *publishing; /* list by next_published: to whom they are to be sent */
    struct ws__timer_queue *handshake_queue, *keep_alive_queue, *upgrade_queue, *linger_queue;
    struct ws__timer_queue *last_queue; /* of a shutdown: for one look at what is acknowledged */
    ws_conn *opening; /* whose on_open runs now, ... */
    ws_request *opening_request; /* ... and its request */
    bool stopping, in_turn;
    bool late;            /* ws__hub_is_late said so in this turn */
    bool in_dropped;      /* some on_dropped runs */
    bool in_ending;       /* a send that cannot be done ends its connection: handlers run */
    bool forked;           /* a forked child frees its copy: all descriptors are the parent's */
    uint32_t in_callbacks; /* depth of callbacks of the application, see WS__CALL */
    /* NULL unless the application wants to know of responses. */
    void (*on_response)(ws_request *request, int status, size_t length, const char *why,
                        size_t why_length, void *user);
    void *response_user;
    int64_t date_second; /* of date */
    char date[30];
    ws_stats stats;
};

/* The hub is what a server begins with. */
static inline struct ws__hub *ws__hub_of(ws_server *server)
{
    return (struct ws__hub *)server;
}

/* Calls a function of the application, if there is one. Until it returns the server can neither be
 * freed nor run a turn (WS_EBUSY). Handlers that only turns call (on_message, ...) need no count,
 * for `in_turn` refuses the same. A forked child calls none: they are for the parent to call. */
#define WS__CALL(hub, function, ...)                                                               \
    do {                                                                                           \
        if ((function) && !(hub)->forked) {                                                        \
            (hub)->in_callbacks++;                                                                 \
            (function)(__VA_ARGS__);                                                               \
            (hub)->in_callbacks--;                                                                 \
        }                                                                                          \
    } while (0)

/* A compressed message that is inflated in several turns. */
struct ws__suspended {
    struct ws__inflation inflation;
    struct ws__buffer *input; /* all of its compressed bytes */
    int opcode;
};

/* What few connections need; made when they do. */
struct ws__extra {
    ws_conn *conn;
    struct ws__subscriber subscriber; /* to topics */
    uint32_t published_from, published_to; /* of hub->published: sent to it, behind out */
    struct ws__extra *next_published;
    struct ws__buffer *held; /* frames that wait for the last fragment of another message */
    struct ws__deflate_streams streams; /* of its own */
    struct ws__suspended *suspended; /* where ws_conn.inflating */
    struct ws__timer lifetime;
};

struct ws_conn {
    struct ws__hub *hub;
    const struct ws__target *target; /* NULL in the HTTP phase */
    union {
        ws_request *request; /* in the HTTP phase, once its first byte is there */
        void *user;          /* once there is a target */
    };
    ws_conn_id id;
    struct ws__timer timer; /* the one deadline of the present state */
    struct ws__buffer *in;  /* received, not yet handled */
    struct ws__buffer *out; /* to be sent */
    struct ws__extra *extra; /* once it is needed */
    ws_conn *next; /* on hub->ready, hub->postponed or hub->dead */
    struct ws__protocol protocol;
    struct ws__address peer;
    int fd;
    union {
        uint32_t pong_back; /* from a waiting Pong's first byte to the end of out; 0: none */
        uint32_t refused;   /* once broken: bytes that could not be sent any more */
    };
    uint32_t ping_mark;  /* hash of the payload of the last Ping, ... */
    uint32_t ping_time;  /* ... and when it was sent, microseconds */
    uint32_t latency;    /* microseconds; 0: no Pong yet */
    uint16_t corked; /* depth */
    uint16_t ending; /* the code that ws__conn_on_ready will end it with; 0: none */
    uint8_t state;          /* enum ws__state */
    uint8_t fragmenting;    /* enum in send.c */
    struct ws__deflate_terms terms; /* of permessage-deflate */
    uint32_t pings;         /* sent in this silence; LINGERING: how often last_queue may run */
    unsigned interest : 2;  /* what the loop watches */
    bool blocked : 1;       /* the kernel refused bytes, EPOLLOUT is awaited */
    bool drain_due : 1;     /* on_drain is owed */
    bool in_ready : 1;      /* is on hub->ready or hub->postponed */
    bool in_publishing : 1; /* extra is on hub->publishing */
    bool more : 1;          /* there is what can be handled without further bytes */
    bool inflating : 1;     /* a message waits to be inflated further, before all of in */
    bool paused : 1;        /* ws_conn_pause */
    bool pinged : 1;        /* ping_mark and ping_time wait for a Pong */
    bool topics_full : 1;   /* max_topics was reached and logged */
    bool drain_later : 1;   /* it will be, behind the fragmented message in hand */
    bool starved : 1;       /* broken, by a lack of memory */
    bool compressing : 1;   /* the fragmented message in hand is compressed */
    bool limited : 1;       /* HTTP: WS__UNSENT_LIMIT was set */
    bool finished : 1;      /* FIN was sent */
    bool eof : 1;           /* FIN was received, the queue still goes out */
    bool waiting : 1;       /* HTTP: the answer was deferred */
    bool idle : 1;          /* HTTP: no byte of the next request yet */
    bool reported : 1;      /* on_close ran, or never will: on_open did not */
    bool over : 1;          /* on_closed ran, or never will: on_close did not yet */
    bool by_peer : 1;       /* the peer began to close, or broke off */
    bool pongs : 1;         /* several wait in the cork, pong_back is that of the oldest */
    bool broken : 1;        /* a write failed, or memory did: ws__conn_on_ready sees to it */
    bool gone : 1;          /* broken by the peer; what it had sent before is still handled */
    bool unwatched : 1;     /* gone and paused: the loop knows nothing of it */
};

/* Bytes published to c that are still shared. */
static inline uint32_t ws__conn_published(const ws_conn *c)
{
    return c->extra ? c->extra->published_to - c->extra->published_from : 0;
}

static inline struct ws__buffer *ws__conn_held(const ws_conn *c)
{
    return c->extra ? c->extra->held : NULL;
}

/* Bytes that wait here, whatever for. */
static inline size_t ws__conn_queued(const ws_conn *c)
{
    size_t amount = ws__buffer_length(c->out);
    return c->extra ? amount + ws__conn_published(c) + ws__buffer_length(c->extra->held) : amount;
}

/* ---- hub.c ---- */

int ws__hub_init(struct ws__hub *hub, ws_server *server, const ws_config *config);
void ws__hub_deinit(struct ws__hub *hub);
/* Something is to be done later. Outside of a turn the time may be an old one, and a foreign loop
 * sleeps that waits for ws_server_fd. */
void ws__hub_touch(struct ws__hub *hub);
/* One line to config.log, cut to 200 bytes. */
void ws__hub_log(struct ws__hub *hub, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Gives the connection its id; false: no memory. No id is ever given twice. */
bool ws__hub_take_slot(struct ws__hub *hub, ws_conn *c);
void ws__hub_release_slot(struct ws__hub *hub, ws_conn_id id);
ws_conn *ws__hub_find(const struct ws__hub *hub, ws_conn_id id);

/* True once a turn has taken so long that whoever has had WS__TURN_STEP messages in it should wait
 * for the next one. Reads the clock; counts from the first call in a turn. */
bool ws__hub_is_late(struct ws__hub *hub);
/* The end of hub->ready. */
void ws__hub_append(struct ws__hub *hub, ws_conn *c);
/* A connection that ran out of the turn's budget before it had any of it: it will be looked at
 * before those that had some, unless it is on hub->ready already. */
void ws__hub_postpone(ws_conn *c);
/* Runs what is due without an event: input that is left over, on_drain. */
void ws__hub_run_ready(struct ws__hub *hub);
void ws__hub_free_dead(struct ws__hub *hub);
/* For every connection: 1001 and the like (WS_OPEN), 503 (half-open), or drop. */
void ws__hub_shutdown(struct ws__hub *hub, int code, const char *reason, size_t length);
void ws__hub_drop_all(struct ws__hub *hub, const char *reason);

/* A connection has handled so many messages in its turn, and has more: do others come first? */
static inline bool ws__conn_had_turn(const ws_conn *c, unsigned handled, const struct ws__input *in)
{
    return handled % WS__TURN_STEP == 0 && in->length &&
           (handled >= WS__TURN_MESSAGES || ws__hub_is_late(c->hub));
}

/* ---- conn.c ---- */

/* Takes over an accepted descriptor; closes it when there is no memory. WS_ESYSTEM with errno:
 * the loop cannot watch it, so that it was closed. */
int ws__conn_accept(struct ws__hub *hub, int fd, const struct ws__address *peer);
void ws__conn_on_event(ws_conn *c, unsigned ready);
void ws__conn_on_timer(ws_conn *c);
/* Its turn on the ready list. */
void ws__conn_on_ready(ws_conn *c);
/* Of a connection that is dead. */
void ws__conn_free(ws_conn *c);
void ws__conn_set_state(ws_conn *c, enum ws__state state);
/* ws__hub_run_ready will look at it, ... */
void ws__conn_make_ready(ws_conn *c);
/* ... and handle what is in `in`. */
void ws__conn_make_more(ws_conn *c);
/* The deadline of the present state. */
void ws__conn_set_timer(ws_conn *c, struct ws__timer_queue *queue);
/* Tells the loop what this connection waits for, if that changed. */
void ws__conn_update_interest(ws_conn *c);
/* Reports the end to the application, once; `code` and reason as on_close gets them. */
void ws__conn_report_close(ws_conn *c, int code, const char *reason, size_t length);
/* Reports, once, that the closing handshake is over. */
void ws__conn_report_closed(ws_conn *c, bool clean, int code, const char *reason, size_t length);
/* NULL: no memory. */
struct ws__extra *ws__conn_extra(ws_conn *c);
/* Everything is said: FIN behind the queue, then wait for EOF. */
void ws__conn_linger(ws_conn *c);
/* FIN was sent and the server shuts down: wait for acknowledgements rather than for EOF. */
void ws__conn_linger_briefly(ws_conn *c);
/* TCP is dropped; on_close gets 1006 and `reason`. */
void ws__conn_drop(ws_conn *c, const char *reason);
/* Sends a Close frame and reports it (RFC 6455 7.1.7: fail the connection). */
void ws__conn_fail(ws_conn *c, int code, const char *reason, size_t length);
/* The stream is damaged or gone, by the peer or (starved) for want of memory. No handler runs here,
 * inside a send: ws__conn_on_ready drops the connection, by the peer's fault only once what it had
 * sent before was handled. */
void ws__conn_break(ws_conn *c, bool starved);
/* With the code in `ending`. */
void ws__conn_end_now(ws_conn *c);
/* The 101 is queued: OPEN, and on_open. The request is no longer the connection's. */
void ws__conn_open(ws_conn *c, ws_request *request, const struct ws__target *target, void *user);

/* ---- inflate.c ---- */

enum { WS__INFLATE_DONE, WS__INFLATE_SUSPENDED, WS__INFLATE_FAILED };
#define WS__SHARE_UNKNOWN UINT64_MAX

/* Inflates a compressed message that has just arrived. *share: nanoseconds that the connection may
 * still spend in this turn; WS__SHARE_UNKNOWN before its first message. WS__INFLATE_DONE:
 * event->data and length are the message, borrowed until the next one. WS__INFLATE_SUSPENDED:
 * c->inflating, and the event need not be kept. WS__INFLATE_FAILED: the connection was failed;
 * handlers ran. */
int ws__inflate_message(ws_conn *c, struct ws__event *event, uint64_t *share);
/* The same for the message that was suspended, where c->inflating: goes on with it, and sets
 * opcode, data and length of *event once it is done. */
int ws__inflate_resume(ws_conn *c, struct ws__event *event);
/* The message that was suspended, if there is one, is given up. */
void ws__inflate_forget(ws_conn *c);

/* ---- route.c ---- */

/* `context` is the memory, `target` the first of a list: for ws__router_deinit. */
void ws__target_free(void *context, void *target);
/* Appends an Allow field (RFC 9110 10.2.1) that names the methods of all routes for a path, but not
 * the one that is refused. WS_ENOMEM. */
int ws__route_allow(struct ws__hub *hub, const char *path, size_t length, const char *refused,
                    size_t refused_length, struct ws__buffer **fields);

/* ---- send.c ---- */

/* Queues bytes that are no frame (HTTP). WS_ENOMEM. */
int ws__send_bytes(ws_conn *c, const void *bytes, size_t n);
/* Moves what was published to c, and is still shared, to the end of its own queue. */
void ws__send_own(ws_conn *c);
/* As ws_conn_send for a data message, but no handler runs. What is neither an error nor a result of
 * ws_conn_send is to be given to ws__send_conclude. */
enum {
    WS__SEND_OVER = 3,     /* max_backpressure: on_dropped is owed */
    WS__SEND_NO_MEMORY = 4 /* 1011 is */
};
/* RFC 7692 6: is a message with this opcode compressed? Very short ones only grow. */
static inline bool ws__send_compresses(const ws_conn *c, int opcode, size_t length)
{
    return opcode & WS_COMPRESS && c->protocol.deflate && length > WS__UNCOMPRESSED &&
           length <= UINT32_MAX / 2;
}
int ws__send_offer(ws_conn *c, const void *data, size_t length, int opcode);
/* The same for the frame at from..to of hub->published. */
int ws__send_published(ws_conn *c, uint32_t from, uint32_t to);
/* Runs what such a result owes; the result of ws_conn_send. */
int ws__send_conclude(ws_conn *c, int result, const void *message, size_t length, int opcode);
/* A Close frame behind everything queued; code 1005: empty; reason: WS__CLOSE_REASON_MAX bytes. */
void ws__send_close(ws_conn *c, int code, const char *reason, size_t length);
void ws__send_pong(ws_conn *c, const void *data, size_t length);
/* Writes the queue; on what remains EPOLLOUT is awaited. Does nothing while corked or blocked. */
void ws__send_flush(ws_conn *c);
/* Nothing can be sent any more: forgets what waits. */
void ws__send_discard(ws_conn *c);
/* The kernel has room again. */
void ws__send_unblock(ws_conn *c);
/* on_drain, if it is owed and the queue is empty. */
void ws__send_run_drain(ws_conn *c);

/* ---- pong.c ---- */

/* An answer to a Ping was queued, all of its `size` bytes unless some of it was written already; it
 * replaces one that waits while the kernel is full. */
void ws__pong_queued(ws_conn *c, size_t size);
/* The queue was written, as far as the kernel took it; where pong_back is set. */
void ws__pong_written(ws_conn *c);

/* ---- publish.c ---- */

/* The end of a turn: what was published in it leaves. */
void ws__publish_flush(struct ws__hub *hub);
/* Ends all subscriptions of a connection that is closing. */
void ws__publish_leave(ws_conn *c);

/* ---- heartbeat.c ---- */

/* Queues and times of a route from its settings. WS_ENOMEM. */
int ws__heartbeat_init(struct ws__hub *hub, struct ws__heartbeat *h, const ws_behavior *behavior);
/* The connection opens. False: no memory. */
bool ws__heartbeat_start(ws_conn *c);
/* Silence is not counted from now on, ... */
void ws__heartbeat_pause(ws_conn *c);
/* ... or begins now. */
void ws__heartbeat_restart(ws_conn *c);
/* It leaves WS__OPEN; ws_conn.timer is the next state's. */
void ws__heartbeat_stop(ws_conn *c);
/* Bytes were sent, on a route where that counts as if some were received. */
void ws__heartbeat_sent(ws_conn *c);
/* A Ping was sent, a Pong was received. */
void ws__heartbeat_ping(ws_conn *c, const void *data, size_t length);
void ws__heartbeat_pong(ws_conn *c, const void *data, size_t length);
/* ws_conn.timer expired in WS__OPEN; ws__extra.lifetime did. */
void ws__heartbeat_on_timer(ws_conn *c);
void ws__heartbeat_on_lifetime(ws_conn *c);

/* A byte was received, in any state. The timer stays where it is while nothing would happen too
 * early: most reads of a busy connection cost this comparison. Stopped, its deadline is never. */
static inline void ws__heartbeat_heard(ws_conn *c)
{
    if (c->state == WS__OPEN &&
        c->hub->loop.now + c->target->heartbeat.silence >= c->timer.deadline)
        ws__heartbeat_restart(c);
}

/* ---- request.c ---- */

/* Input of the HTTP phase: handles as many requests as are whole. in is consumed from the front;
 * what is left is to be presented again. */
void ws__request_read(ws_conn *c, struct ws__input *in);
void ws__request_on_timer(ws_conn *c);
/* The server goes down: 503 for a request that has begun, else drop. */
void ws__request_shutdown(ws_conn *c);
/* The connection is gone: on_aborted if that is owed. */
void ws__request_abandon(ws_conn *c);
/* A 503 to a connection that is refused before it said anything. */
void ws__request_refuse(ws_conn *c);

#endif
