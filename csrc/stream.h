/* SPDX-License-Identifier: MIT */
/*
 * stream.h: a connected socket as a stream of bytes: what may be read, the queue of bytes to be
 * sent, cork and flush, FIN and lingering; input.c reads. Knows no protocol: the one that is spoken
 * on the stream (serve.c: HTTP; receive.c: WebSocket) is a table of functions that the stream
 * calls.
 *
 *        accept            nothing more to send               EOF, timeout
 *      ──────────▶ OPEN ───────────────────────▶ LINGERING ────────────────▶ DEAD
 *                    └───────────────────────────────────────────────────────▲
 *                       ws__stream_drop: by the application, reset, EOF, timeout
 *
 * LINGERING: once the queue is sent, FIN follows, and input is read and discarded until the peer's
 * FIN, so that the last bytes sent are not destroyed by a reset (RFC 6455 7.1.1, RFC 9112 9.6).
 * DEAD: the socket is closed. The memory is freed after the turn, so that any handler may drop any
 * stream.
 */
#ifndef WS__STREAM_H
#define WS__STREAM_H

#include "hub.h"
#include "net.h"

#include <string.h>

enum ws__stream_state { WS__STREAM_OPEN, WS__STREAM_LINGERING, WS__STREAM_DEAD };

struct ws__stream;

/* What is spoken on a stream. The stream's functions may be called from all of these; whatever may
 * run a handler of the application may drop the stream. */
struct ws__stream_protocol {
    size_t size; /* of the block that begins with the stream */
    /* Input is not read while output is blocked: an HTTP client gets its response before its next
     * request is read. What arrives is appended to input that is left over. */
    bool half_duplex;
    const char *eof_reason; /* passed to on_end when the peer has sent FIN */
    /* Handles input from the front of *in. What it leaves there is presented again together with
     * what arrives later. */
    void (*on_input)(struct ws__stream *stream, struct ws__input *in);
    /* A turn on the ready list. `more`: there is input for ws__input_handle_kept. */
    void (*on_ready)(struct ws__stream *stream, bool more);
    /* The timer has expired, and the stream is open. */
    void (*on_timer)(struct ws__stream *stream);
    /* The kernel has room again. May be NULL. */
    void (*on_writable)(struct ws__stream *stream);
    /* The kernel has taken bytes. May be NULL. */
    void (*on_sent)(struct ws__stream *stream);
    /* The kernel took only a part of a queue with a mark. */
    void (*on_mark_left)(struct ws__stream *stream);
    /* The peer has sent FIN while bytes were queued, or an answer was awaited. Returns true if
     * bytes are still to be sent, after which ws__stream_linger is due; false if the stream is to
     * be dropped. */
    bool (*on_eof)(struct ws__stream *stream);
    /* The peer is lost, but what it had sent before is still to be handled. The protocol discards
     * what it has queued itself, by ws__stream_refuse. May be NULL. */
    void (*on_lost)(struct ws__stream *stream);
    /* Ends the stream as the protocol does it: with a Close frame, or a 503. */
    void (*end)(struct ws__stream *stream, int code, const char *reason, size_t length);
    /* The stream is dead. by_peer is true if the peer ended it. */
    void (*on_end)(struct ws__stream *stream, const char *reason, bool by_peer);
    /* Frees what the block owns in addition to the stream. */
    void (*release)(struct ws__stream *stream);
    /* The filter has found that the peer does not speak to it; nothing is filtered from now on.
     * NULL where the filter has done its work already. */
    void (*on_unfiltered)(struct ws__stream *stream);
};

/* What stands between the streams that are `filtered` and their sockets, such as TLS (tls.c). It
 * keeps data of its own in the block of each, after those of the protocol. */
struct ws__stream_filter {
    size_t size; /* of these data, which are zero at first */
    /* Reads the socket, and passes the bytes to ws__input_take. */
    void (*read)(struct ws__stream *stream);
    /* Do what ws__net_writev and ws__sendfile do. Bytes count as written that the filter has taken
     * and keeps; then it has called ws__stream_block. */
    ssize_t (*write)(struct ws__stream *stream, const struct iovec *parts, int count);
    ssize_t (*write_file)(struct ws__stream *stream, int file, uint64_t offset, size_t n);
    /* The kernel has room again. Returns true if the queue may be written: what the filter has kept
     * comes first. */
    bool (*resume)(struct ws__stream *stream);
    /* FIN is due, or the socket is about to be closed. Returns false if something is kept that has
     * to be sent before. */
    bool (*finish)(struct ws__stream *stream);
    /* Returns true if bytes were received that wait in the filter for those that follow them. */
    bool (*holds)(const struct ws__stream *stream);
    /* Drops a stream if its filter has failed, and says why. Returns false if it has not. */
    bool (*drop_failed)(struct ws__stream *stream);
    /* Frees what its data own. */
    void (*release)(struct ws__stream *stream);
};

struct ws__stream {
    struct ws__link link; /* first: a struct ws__link is the stream that begins with it */
    struct ws__hub *hub;
    const struct ws__stream_protocol *protocol;
    ws_conn_id id;
    struct ws__timer timer; /* the one deadline of the present state */
    struct ws__buffer *in;  /* received, not yet handled */
    struct ws__buffer *out; /* to be sent */
    struct ws__address peer;
    int fd;
    union {
        uint32_t mark;    /* bytes from a marked place to the end of `out`; 0: nothing is marked */
        uint32_t refused; /* once broken: bytes that could not be sent any more */
    };
    uint32_t count;  /* OPEN: the protocol's own; LINGERING: runs of last_queue that are left */
    uint16_t corked; /* depth */
    uint8_t state;   /* enum ws__stream_state */
    uint8_t phase;   /* the protocol's own state, 0 at first */
    /* Reading. */
    unsigned interest : 2; /* what the loop watches: WS__LOOP_READ, WS__LOOP_WRITE */
    bool paused : 1;       /* nothing is read */
    bool holding : 1;      /* the protocol pauses before what the application does not take now */
    bool busy : 1;         /* input that was taken is still being worked on, nothing follows it */
    bool awaiting : 1;     /* input waits until the application has answered */
    bool uploading : 1;    /* input is the body of a request: read also while output is blocked */
    bool more : 1;         /* there is input to be handled without further bytes */
    bool eof : 1;          /* FIN was received, the queue is still being sent */
    bool unwatched : 1;    /* gone, and not read: epoll does not know it */
    bool filtered : 1;     /* hub->filter reads and writes the socket */
    /* Sending, and the end. */
    bool blocked : 1;      /* the kernel refused bytes, EPOLLOUT is awaited */
    bool drain_due : 1;    /* on_ready is due as soon as the queue is empty */
    bool finished : 1;     /* FIN was sent */
    bool broken : 1;       /* a write failed, or memory ran out: on_ready sees to it */
    bool starved : 1;      /* broken, by a lack of memory */
    bool gone : 1;         /* broken by the peer; what it had sent before is still handled */
    bool in_ready : 1;     /* is on hub->ready or hub->postponed */
};

static inline struct ws__stream *ws__stream_of_link(struct ws__link *link)
{
    return (struct ws__stream *)(void *)link;
}

/* What the field says, and false where there is no filter. */
static inline bool ws__stream_is_filtered(const struct ws__stream *s)
{
#ifdef WS_NO_TLS
    (void)s;
    return false;
#else
    return s->filtered;
#endif
}

static inline bool ws__stream_is_half_duplex(const struct ws__stream *s)
{
    return s->protocol->half_duplex && s->state == WS__STREAM_OPEN;
}

/* Makes the loop watch the socket for what the stream can do now: to be called after a change of
 * the fields that decide about that. */
void ws__stream_update_interest(struct ws__stream *s);

/* ---- life cycle ---- */

/* Makes a stream of an accepted descriptor, at the beginning of a block of protocol->size bytes
 * that are zero, and hub->filter->size more if it is `filtered`. Returns WS_OK, WS_ENOMEM, or
 * WS_ESYSTEM with errno if the loop cannot watch the descriptor, which is then the caller's. */
int ws__stream_new(struct ws__hub *hub, int fd, const struct ws__address *peer, bool filtered,
                   const struct ws__stream_protocol *protocol, struct ws__stream **stream);
/* For hub->release. */
void ws__stream_free(struct ws__link *link);

/* Exchanges the protocol of an open stream. The timer is stopped, and on_ready is no longer due. */
void ws__stream_set_protocol(struct ws__stream *s, const struct ws__stream_protocol *protocol);

/* The timer has expired. */
void ws__stream_on_timer(struct ws__stream *s);

/* Sets the deadline of the present state. */
void ws__stream_set_timer(struct ws__stream *s, struct ws__timer_queue *queue);
/* Puts the stream on the ready list, so that on_ready is called. */
void ws__stream_make_ready(struct ws__stream *s);
/* Does the same with `more` set. */
void ws__stream_make_more(struct ws__stream *s);
/* Does the same for a stream that got no share of this turn. In the next turn it is served before
 * those that got one, unless it is already on the ready list. */
void ws__stream_postpone(struct ws__stream *s);

/* Nothing more will be sent: FIN follows the queue, then the stream waits for the peer's FIN.
 * `queue` is the time limit for that; if it is NULL, the deadline stays as it is. */
void ws__stream_linger(struct ws__stream *s, struct ws__timer_queue *queue);
/* Ends the stream because the server is shutting down. An open stream is ended by its protocol. A
 * lingering one then waits only until its FIN is acknowledged, not for the peer's FIN. */
void ws__stream_shutdown(struct ws__stream *s, int code, const char *reason, size_t length);
/* Closes the socket; on_end runs. */
void ws__stream_drop(struct ws__stream *s, const char *reason, bool by_peer);
/* Marks the stream as broken: a write failed, or memory ran out (starved). Sends call this, so no
 * handler runs here; the ready list drops the stream, after a lost peer only once all that it had
 * sent before is handled. */
void ws__stream_break(struct ws__stream *s, bool starved);

/* ---- for a filter ---- */

static inline void *ws__stream_filter_data(const struct ws__stream *s)
{
    return (char *)s + s->protocol->size;
}

/* ---- what may be read ---- */

void ws__stream_pause(struct ws__stream *s);
/* Ends `paused` and `holding`. */
void ws__stream_resume(struct ws__stream *s);
/* Sets `busy`: nothing is read or handled, and a lost peer is kept, until it is cleared. */
void ws__stream_set_busy(struct ws__stream *s, bool busy);
/* Sets `awaiting` (little is read ahead, and nothing is handled) and `uploading`, of which one at
 * most is true. While one is, a lost peer ends the stream at once. */
void ws__stream_set_awaiting(struct ws__stream *s, bool awaiting, bool uploading);
/* ---- sending ---- */

/* The kernel is full: nothing is written until it reports that it has room. */
void ws__stream_block(struct ws__stream *s);

/* Room for n more bytes at the end of the queue. Returns NULL if out of memory. */
char *ws__stream_reserve(struct ws__stream *s, size_t n);
/* Appends first[n] and second[m] to the queue. WS_ENOMEM: nothing was appended. */
static inline int ws__stream_queue(struct ws__stream *s, const void *first, size_t n,
                                   const void *second, size_t m)
{
    char *to = ws__buffer_room(s->out, n + m);
    if (!to && !(to = ws__stream_reserve(s, n + m)))
        return WS_ENOMEM;
    memcpy(to, first, n);
    if (m)
        memcpy(to + n, second, m);
    ws__buffer_commit(s->out, n + m);
    if (s->mark) /* beyond the range of the type the mark is lost */
        s->mark = n + m < UINT32_MAX - s->mark ? s->mark + (uint32_t)(n + m) : 0;
    return WS_OK;
}
/* The same as a call, for those that need not be fast. */
int ws__stream_append(struct ws__stream *s, const void *first, size_t n, const void *second,
                      size_t m);
/* Queues bytes, and writes the queue unless the stream is corked or blocked. Does nothing on a
 * broken stream. Returns WS_ENOMEM if out of memory. */
int ws__stream_send(struct ws__stream *s, const void *bytes, size_t n);
/* Writes what was gathered so far, in spite of the cork, unless the stream is blocked. */
void ws__stream_flush_cork(struct ws__stream *s);

enum ws__written {
    WS__WRITTEN_ALL,
    WS__WRITTEN_PART,   /* the kernel is full; what is left of the bytes was queued */
    WS__WRITTEN_NONE,   /* the kernel is full; the bytes were neither written nor queued */
    WS__WRITTEN_BROKEN, /* the stream is broken */
};
/* Writes the queue, first[n] and second[m] in one call, whether corked or not. The stream is not
 * blocked. */
enum ws__written ws__stream_write(struct ws__stream *s, const void *first, size_t n,
                                  const void *second, size_t m);

/* Writes the queue and as much of bytes[n] as the kernel takes, whether corked or not. Nothing is
 * queued. Returns how many of the bytes were taken; if not all were, the stream is blocked, or
 * broken. */
size_t ws__stream_offer(struct ws__stream *s, const void *bytes, size_t n);
/* Does the same for n bytes of a file. Returns -1 if they cannot be read. */
ssize_t ws__stream_offer_file(struct ws__stream *s, int file, uint64_t offset, size_t n);

static inline void ws__stream_cork(struct ws__stream *s)
{
    s->corked++;
}
/* Flushes when this ends the outermost cork. */
void ws__stream_uncork(struct ws__stream *s);

/* Counts n bytes for a peer that is gone as refused, so that a loop that sends until the kernel
 * refuses enough bytes comes to an end. */
void ws__stream_refuse(struct ws__stream *s, size_t n);

/* The kernel has room again. */
void ws__stream_unblock(struct ws__stream *s);

#endif
