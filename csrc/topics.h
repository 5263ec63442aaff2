/*
 * topics.h: which subscriber takes part in which topic. Sans-IO: knows nothing of connections or
 * messages; whoever wants to take part embeds a struct ws__subscriber.
 * Both sides hold arrays that name each other's positions: publishing walks one array, and starting
 * and ending a subscription cost no allocation of their own.
 */
#ifndef WS__TOPICS_H
#define WS__TOPICS_H

#include "buffer.h"

/* One subscription, as the topic sees it, ... Either array may move with every change. */
struct ws__member {
    struct ws__subscriber *subscriber;
    uint32_t position; /* in subscriber->list */
};
/* ... and as the subscriber does. */
struct ws__subscription {
    struct ws__topic *topic;
    uint32_t position; /* in topic->members */
};

/* Exists while it has members, or is pinned. */
struct ws__topic {
    struct ws__topic *next; /* in its bucket */
    uint64_t hash;
    struct ws__member *members;
    uint32_t count, capacity; /* of members */
    uint32_t pins;
    size_t length;
    char name[]; /* no NUL */
};

/* Zero it to begin. */
struct ws__subscriber {
    struct ws__subscription *list;
    uint32_t count, capacity;
};

struct ws__topics {
    struct ws__memory *memory;
    struct ws__topic **buckets;
    size_t bucket_count, topic_count; /* bucket_count: 0 or a power of 2 */
    uint64_t seed[2];
};

/* `seed` is as random as the kernel allows, so that peers cannot choose names that fall into one
 * bucket. */
void ws__topics_init(struct ws__topics *topics, struct ws__memory *memory, const uint64_t seed[2]);
/* No subscriber may have a subscription left; pins end. */
void ws__topics_deinit(struct ws__topics *topics);

/* NULL: nobody takes part in it. A pinned one may have lost its members: count 0. */
struct ws__topic *ws__topics_find(const struct ws__topics *topics, const char *name, size_t length);

/* 1: made, 0: was there already; *topic is set for both. WS_ENOMEM: nothing has changed. `name` is
 * copied; NULL is fine for length 0. */
int ws__topics_subscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                         const char *name, size_t length, struct ws__topic **topic);

/* Position of the topic in subscriber->list; subscriber->count: it is not there. Takes the shorter
 * way of the two. */
uint32_t ws__topics_position(const struct ws__subscriber *subscriber,
                             const struct ws__topic *topic);

/* Ends the subscription at that position of subscriber->list; the last one moves there, and the
 * topic's last member to its place. A topic without members and pins is freed. */
void ws__topics_unsubscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                            uint32_t position);

/* Between these two the topic stays, also without members. Pins nest. */
void ws__topics_pin(struct ws__topic *topic);
void ws__topics_unpin(struct ws__topics *topics, struct ws__topic *topic);

#endif
