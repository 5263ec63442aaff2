/* SPDX-License-Identifier: MIT */
/*
 * watch.h: descriptors of the application that the loop of a server watches. Knows nothing of
 * streams, and reads and writes nothing.
 */
#ifndef WS__WATCH_H
#define WS__WATCH_H

#include "hub.h"
#include "net.h"

/* The most watches of a server. */
enum { WS__MAX_WATCHES = 1 << 23 };

/* An entry of the table, which is also the head of a bucket. */
struct ws__watch {
    void (*fn)(int fd, unsigned ready, void *user); /* NULL: the entry is free */
    void *user;
    struct ws__file file; /* what fd led to when it was watched first */
    uint64_t turn;        /* of a free entry: when its watch ended */
    int fd;
    unsigned events;
    uint32_t next;   /* index: in the chain of a bucket, or in the queue of free entries */
    uint32_t bucket; /* index: the first in the chain of the bucket with the index of this entry */
};

struct ws__watches {
    struct ws__hub *hub;
    struct ws__watch *all;
    uint32_t used, capacity; /* entries that were ever in use; all that there are, a power of two */
    uint32_t count;          /* descriptors that are watched now */
    uint32_t first_free, last_free; /* a queue: the entry whose watch ended first is used first */
    uint64_t first_data;            /* loop data of all[0]; those of the others follow */
};

void ws__watches_init(struct ws__watches *watches, struct ws__hub *hub, uint64_t first_data);

/* Frees the table. The descriptors belong to the application. */
void ws__watches_deinit(struct ws__watches *watches);

/* As ws_server_watch, of which it gets valid arguments. */
int ws__watches_set(struct ws__watches *watches, int fd, unsigned events,
                    void (*fn)(int fd, unsigned ready, void *user), void *user);

/* The loop reports entry number i. */
void ws__watches_on_event(struct ws__watches *watches, uint32_t i, unsigned ready);

#endif
