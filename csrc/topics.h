/* SPDX-License-Identifier: MIT */
/*
 * topics.h: which subscriber has subscribed to which topic. Sans-IO: knows nothing of connections
 * or messages. What can subscribe embeds a struct ws__subscriber.
 * Topics and subscribers have arrays that hold each other's positions: publishing walks one array,
 * and a subscription needs no allocation of its own.
 */
#ifndef WS__TOPICS_H
#define WS__TOPICS_H

#include "buffer.h"

/* Without it no one subscribes, and publish_none.c takes the place of publish.c. The table itself
 * is left out, by topics_none.c, where quota.c does not need it either. */
#ifdef WS_NO_TOPICS
enum { WS__TOPICS_AVAILABLE = false };
#else
enum { WS__TOPICS_AVAILABLE = true };
#endif

/* One subscription in the array of its topic, which may move with every change. */
struct ws__member {
    struct ws__subscriber *subscriber;
    uint32_t position; /* in subscriber->list */
};

/* The same subscription in the array of its subscriber, which may move with every change. */
struct ws__subscription {
    struct ws__topic *topic;
    uint32_t position; /* in topic->members */
};

/* A topic exists while it has members or is pinned. */
struct ws__topic {
    struct ws__topic *next; /* in the same bucket */
    uint64_t hash;
    struct ws__member *members;
    uint32_t count, capacity; /* of members */
    uint32_t pins;
    size_t length;
    char name[]; /* not NUL-terminated */
};

/* A subscriber and its subscriptions. Zero it to begin. */
struct ws__subscriber {
    struct ws__subscription *list;
    uint32_t count, capacity;
};

struct ws__topics {
    struct ws__memory *memory;
    struct ws__topic **buckets;
    size_t bucket_count; /* 0 or a power of 2 */
    size_t topic_count;
    uint64_t seed[2];
};

/* `seed` must be random, so that peers cannot choose names that all fall into one bucket. */
void ws__topics_init(struct ws__topics *topics, struct ws__memory *memory, const uint64_t seed[2]);

/* Sets another seed. There must be no topic. */
void ws__topics_set_seed(struct ws__topics *topics, const uint64_t seed[2]);

/* Returns the hash that a topic of this name has. */
uint64_t ws__topics_hash(const struct ws__topics *topics, const char *name, size_t length);

/* Frees all topics, even pinned ones. No subscriber may have a subscription left. */
void ws__topics_deinit(struct ws__topics *topics);

/* Returns the topic, or NULL if it does not exist. A pinned topic may have no members. */
struct ws__topic *ws__topics_find(const struct ws__topics *topics, const char *name, size_t length);

/* Returns the topic after `topic`, or the first one if it is NULL, in no particular order. Returns
 * NULL after the last one. */
struct ws__topic *ws__topics_next(const struct ws__topics *topics, const struct ws__topic *topic);

/* Subscribes to a topic and sets *topic. Returns 1, 0 if the subscription existed already, or
 * WS_ENOMEM; nothing is changed then. `name` is copied, and may be NULL if its length is 0. */
int ws__topics_subscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                         const char *name, size_t length, struct ws__topic **topic);

/* Returns the position of the topic in subscriber->list, or subscriber->count if it is not there.
 * Searches the shorter one of the two arrays. */
uint32_t ws__topics_position(const struct ws__subscriber *subscriber,
                             const struct ws__topic *topic);

/* Ends the subscription at this position of subscriber->list. The last element of each of the two
 * arrays takes its position. Frees a topic without members and pins. */
void ws__topics_unsubscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                            uint32_t position);

/* Keeps the topic, even without members, until ws__topics_unpin. Calls nest. */
void ws__topics_pin(struct ws__topic *topic);

/* Does the same for the topic of this name, which is made if it does not exist. Returns it, or NULL
 * if out of memory. */
struct ws__topic *ws__topics_pin_name(struct ws__topics *topics, const char *name, size_t length);

/* Ends the effect of one ws__topics_pin, which may free the topic. */
void ws__topics_unpin(struct ws__topics *topics, struct ws__topic *topic);

#endif
