/* SPDX-License-Identifier: MIT */
/*
 * members.h: servers on a local bus, all in one thread, each with a harness of its own, and the
 * sockets that their parent would keep.
 */
#ifndef MEMBERS_H
#define MEMBERS_H

#include "harness.h"
#include "ws_cluster.h"

enum { MEMBERS = 8, TOLD_SIZE = 4096 };

struct member {
    struct harness h;
    ws_bus_options options;
    int number;
    int inboxes[MEMBERS]; /* descriptors of the server: where it writes to the others */
    uint32_t epoch; /* of the next one that joins */
    bool alive;
    char told[TOLD_SIZE]; /* by on_message: "0: hello; 2: [1000]" */
    void (*on_message)(struct member *m, uint32_t from, const char *data, size_t length);
};

extern struct member members[MEMBERS];
extern int member_count;

void members_sockets(int count);   /* the inboxes; no member is there yet */
void members_prepare(int i);       /* the defaults of the harness and of the bus */
void members_create(int i);        /* the server, which has not joined */
int members_join_created(int i);   /* what ws_server_join returns */
int members_try(int i);            /* both */
void members_join(int i);          /* prepare, and join, which must succeed */
void members_start(int count);     /* sockets and all members */
void members_sockets_room(int i, int bytes); /* of inbox i, for who joins later */
void members_kill(int i);          /* ends without a word; nothing is left */
void members_gone(int i);          /* what the parent reports after that */
void members_stop(const char *name);
void members_forget(void); /* closes the sockets; the servers are freed */

void members_turns(int count); /* of all members that are alive */
void members_settle(void);     /* turns, until nothing is on its way */
/* Their server's descriptors: both ends of an inbox, as the parent has them. */
int members_inbox(int i, bool reading);

int members_subscribe(int i, const char *topic); /* connection 0 of the member */
int members_publish(int i, const char *topic, const char *text);
int members_tell(int i, uint32_t to, const char *text);
ws_bus_stats members_stats(int i);
const char *members_told(int i); /* since the last call */
/* What a client has received, once everything has arrived. */
bool members_frames(struct client *c, const char *want, const char *name);

#endif
