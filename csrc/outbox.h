/* SPDX-License-Identifier: MIT */
/*
 * outbox.h: what is on its way to one member of a local bus: a queue of records, and the socket
 * that takes them as datagrams. Nothing blocks: what the socket does not take waits in the queue,
 * and messages beyond a limit are lost.
 */
#ifndef WS__OUTBOX_H
#define WS__OUTBOX_H

#include "hub.h"
#include "record.h"

struct ws__outbox {
    struct ws__record_queue queue;
    struct ws__datagram head; /* sender, epoch and to_epoch of its datagrams */
    uint64_t data;            /* what the loop reports when the socket has room */
    uint64_t bytes;           /* written */
    uint64_t lost;            /* messages, while the member did not keep up; 0 once logged */
    uint32_t member;
    uint32_t part; /* bytes of a datagram after its head */
    int fd;
    int error;    /* errno of a write that failed, to be logged */
    bool blocked; /* the loop watches fd */
    bool late;    /* the member does not keep up */
    bool told;    /* ... which was logged */
};

void ws__outbox_init(struct ws__outbox *box, uint32_t member, int fd, uint64_t data);

static inline size_t ws__outbox_length(const struct ws__outbox *box)
{
    return ws__buffer_length(box->queue.bytes);
}

/* Queues an announcement. Returns WS_OK or WS_ENOMEM. */
int ws__outbox_add(struct ws__outbox *box, struct ws__hub *hub, enum ws__record_type type, int code,
                   const void *data, size_t length);
/* Queues a message, unless `most` bytes wait already or memory runs out: then it is lost. Returns
 * whether it was queued. */
bool ws__outbox_add_message(struct ws__outbox *box, struct ws__hub *hub,
                            const struct ws__record *record, size_t most);
/* Writes until the queue is empty or the socket is full, of which the loop reports the end. Returns
 * WS_OK, or WS_ESYSTEM with errno if nothing can be written to the socket. */
int ws__outbox_write(struct ws__outbox *box, struct ws__hub *hub);
/* The loop watches the socket no longer. */
void ws__outbox_unblock(struct ws__outbox *box, struct ws__hub *hub);
/* Is there something to be logged? */
static inline bool ws__outbox_has_news(const struct ws__outbox *box)
{
    return box->error || (box->lost > 0 && !box->told) || (box->told && !box->late);
}

/* Logs it. The log function of the application may do anything, so this must not run while bytes
 * are being written, or while something is changed. */
void ws__outbox_report(struct ws__outbox *box, struct ws__hub *hub);
/* Forgets the queue. */
void ws__outbox_clear(struct ws__outbox *box, struct ws__hub *hub);

#endif
