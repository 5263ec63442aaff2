/* SPDX-License-Identifier: MIT */
/*
 * topics.c: a hash table of topics, and arrays on both sides of a subscription. Knows nothing of
 * connections or messages.
 * Names may come from peers. So the hash is keyed (SipHash-1-3), which keeps a peer from choosing
 * names that collide, and tables and arrays release their memory when they shrink.
 */
#include "topics.h"
#if !defined(WS_NO_TOPICS) || !defined(WS_NO_ADDRESS_LIMITS)

#include <string.h>

enum { MIN_ELEMENTS = 4 };

_Static_assert(sizeof(struct ws__member) == sizeof(struct ws__subscription),
               "element_size is for both arrays");

static const size_t element_size = sizeof(struct ws__member);
static const size_t max_elements =
    SIZE_MAX / sizeof(struct ws__member) < UINT32_MAX ? SIZE_MAX / sizeof(struct ws__member)
                                                      : UINT32_MAX;

/* ---- SipHash-1-3 -------------------------------------------------------------------------- */

/* Reads eight bytes in little-endian order. */
static uint64_t load64(const char *bytes)
{
    unsigned char b[8];
    memcpy(b, bytes, sizeof(b));
    return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24 |
           (uint64_t)b[4] << 32 | (uint64_t)b[5] << 40 | (uint64_t)b[6] << 48 |
           (uint64_t)b[7] << 56;
}

static uint64_t rotl64(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static void mix(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl64(v[1], 13) ^ v[0];
    v[3] = rotl64(v[3], 16) ^ v[2];
    v[0] = rotl64(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = rotl64(v[3], 21) ^ v[0];
    v[1] = rotl64(v[1], 17) ^ v[2];
    v[2] = rotl64(v[2], 32);
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

static uint64_t hash_of(const uint64_t seed[2], const char *name, size_t length)
{
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
                     seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573};
    char tail[8] = {0};
    size_t i;
    for (i = 0; length - i >= 8; i += 8)
        absorb(v, load64(name + i));
    if (i < length)
        memcpy(tail, name + i, length - i);
    absorb(v, load64(tail) | (uint64_t)length << 56);
    v[2] ^= 0xff;
    mix(v);
    mix(v);
    mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the table ---------------------------------------------------------------------------- */

/* Returns the capacity that an array with `count` elements needs for one more. */
static size_t larger(size_t count, size_t capacity)
{
    if (count < capacity)
        return capacity;
    return capacity ? capacity * 2 : MIN_ELEMENTS;
}

/* Returns the capacity after an element was removed: half, once less than a quarter is used. */
static size_t smaller(size_t count, size_t capacity)
{
    if (!count)
        return 0;
    return count < capacity / 4 ? capacity / 2 : capacity;
}

/* If out of memory, the table stays as it is. The product cannot overflow, because there is a
 * topic, which is larger than a bucket, for every second bucket. */
static void set_bucket_count(struct ws__topics *topics, size_t count)
{
    struct ws__topic **buckets = NULL;
    if (count == topics->bucket_count)
        return;
    if (count && !(buckets = ws__memory_zalloc(topics->memory, count * sizeof(*buckets))))
        return;
    for (size_t i = 0; i < topics->bucket_count; i++) {
        for (struct ws__topic *t = topics->buckets[i], *next; t; t = next) {
            struct ws__topic **bucket = &buckets[t->hash & (count - 1)];
            next = t->next;
            t->next = *bucket;
            *bucket = t;
        }
    }
    ws__memory_free(topics->memory, topics->buckets, topics->bucket_count * sizeof(*buckets));
    topics->buckets = buckets;
    topics->bucket_count = count;
}

void ws__topics_init(struct ws__topics *topics, struct ws__memory *memory, const uint64_t seed[2])
{
    *topics = (struct ws__topics){.memory = memory, .seed = {seed[0], seed[1]}};
}

void ws__topics_set_seed(struct ws__topics *topics, const uint64_t seed[2])
{
    topics->seed[0] = seed[0];
    topics->seed[1] = seed[1];
}

uint64_t ws__topics_hash(const struct ws__topics *topics, const char *name, size_t length)
{
    return hash_of(topics->seed, name, length);
}

static void free_topic(struct ws__memory *memory, struct ws__topic *topic)
{
    ws__memory_free(memory, topic, sizeof(*topic) + topic->length);
}

void ws__topics_deinit(struct ws__topics *topics)
{
    for (size_t i = 0; i < topics->bucket_count; i++) {
        for (struct ws__topic *t = topics->buckets[i], *next; t; t = next) {
            next = t->next;
            free_topic(topics->memory, t);
        }
    }
    topics->topic_count = 0;
    ws__memory_free(topics->memory, topics->buckets,
                    topics->bucket_count * sizeof(*topics->buckets));
    topics->buckets = NULL;
    topics->bucket_count = 0;
}

static struct ws__topic *find_hashed(const struct ws__topics *topics, uint64_t hash,
                                     const char *name, size_t length)
{
    struct ws__topic *t = NULL;
    if (topics->bucket_count)
        t = topics->buckets[hash & (topics->bucket_count - 1)];
    while (t && (t->hash != hash || t->length != length ||
                 (length && memcmp(t->name, name, length))))
        t = t->next;
    return t;
}

struct ws__topic *ws__topics_find(const struct ws__topics *topics, const char *name, size_t length)
{
    return find_hashed(topics, hash_of(topics->seed, name, length), name, length);
}

struct ws__topic *ws__topics_next(const struct ws__topics *topics, const struct ws__topic *topic)
{
    if (topic && topic->next)
        return topic->next;
    size_t i = topic ? (size_t)(topic->hash & (topics->bucket_count - 1)) + 1 : 0;
    while (i < topics->bucket_count && !topics->buckets[i])
        i++;
    return i < topics->bucket_count ? topics->buckets[i] : NULL;
}

/* Adds a topic without members. Returns NULL if out of memory. */
static struct ws__topic *add_topic(struct ws__topics *topics, uint64_t hash, const char *name,
                                   size_t length)
{
    struct ws__topic *t, **bucket;
    t = ws__memory_resize(topics->memory, NULL, 0, sizeof(*t) + length);
    if (!t)
        return NULL;
    *t = (struct ws__topic){.hash = hash, .length = length};
    if (length)
        memcpy(t->name, name, length);
    if (!topics->bucket_count)
        set_bucket_count(topics, larger(0, 0));
    if (!topics->bucket_count) {
        free_topic(topics->memory, t);
        return NULL;
    }
    bucket = &topics->buckets[hash & (topics->bucket_count - 1)];
    t->next = *bucket;
    *bucket = t;
    topics->topic_count++;
    return t;
}

static void free_if_unused(struct ws__topics *topics, struct ws__topic *topic)
{
    struct ws__topic **link;
    if (topic->count || topic->pins)
        return;
    link = &topics->buckets[topic->hash & (topics->bucket_count - 1)];
    while (*link != topic)
        link = &(*link)->next;
    *link = topic->next;
    free_topic(topics->memory, topic);
    topics->topic_count--;
    set_bucket_count(topics, smaller(topics->topic_count, topics->bucket_count));
}

/* ---- both sides of a subscription --------------------------------------------------------- */

/* Returns the array after the change of its capacity, or as it was if out of memory. */
static void *set_capacity(struct ws__memory *memory, void *array, uint32_t *capacity, size_t wanted)
{
    void *block;
    if (wanted == *capacity || wanted > max_elements)
        return array;
    block = ws__memory_resize(memory, array, *capacity * element_size, wanted * element_size);
    if (!block && wanted)
        return array;
    *capacity = (uint32_t)wanted;
    return block;
}

static void set_capacities(struct ws__memory *memory, struct ws__subscriber *s, size_t of_list,
                           struct ws__topic *t, size_t of_members)
{
    s->list = set_capacity(memory, s->list, &s->capacity, of_list);
    t->members = set_capacity(memory, t->members, &t->capacity, of_members);
}

/* Adds a subscription. Returns false if out of memory; nothing is changed then. */
static bool join(struct ws__memory *memory, struct ws__subscriber *s, struct ws__topic *t)
{
    const uint32_t of_list = s->capacity, of_members = t->capacity;
    set_capacities(memory, s, larger(s->count, of_list), t, larger(t->count, of_members));
    if (s->count == s->capacity || t->count == t->capacity) {
        set_capacities(memory, s, of_list, t, of_members);
        return false;
    }
    t->members[t->count] = (struct ws__member){s, s->count};
    s->list[s->count++] = (struct ws__subscription){t, t->count++};
    return true;
}

int ws__topics_subscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                         const char *name, size_t length, struct ws__topic **topic)
{
    const uint64_t hash = hash_of(topics->seed, name, length);
    struct ws__topic *t = find_hashed(topics, hash, name, length);
    if (t && ws__topics_position(subscriber, t) < subscriber->count) {
        *topic = t;
        return 0;
    }
    if (!t && !(t = add_topic(topics, hash, name, length)))
        return WS_ENOMEM;
    if (!join(topics->memory, subscriber, t)) {
        free_if_unused(topics, t);
        return WS_ENOMEM;
    }
    /* This comes last, because it may fail. Then the chains are longer than usual. */
    set_bucket_count(topics, larger(topics->topic_count, topics->bucket_count));
    *topic = t;
    return 1;
}

uint32_t ws__topics_position(const struct ws__subscriber *subscriber, const struct ws__topic *topic)
{
    uint32_t i = 0;
    if (topic->count < subscriber->count) {
        while (i < topic->count && topic->members[i].subscriber != subscriber)
            i++;
        return i < topic->count ? topic->members[i].position : subscriber->count;
    }
    while (i < subscriber->count && subscriber->list[i].topic != topic)
        i++;
    return i;
}

void ws__topics_unsubscribe(struct ws__topics *topics, struct ws__subscriber *subscriber,
                            uint32_t position)
{
    const struct ws__subscription gone = subscriber->list[position];
    struct ws__topic *t = gone.topic;
    if (position < --subscriber->count) {
        const struct ws__subscription last = subscriber->list[subscriber->count];
        subscriber->list[position] = last;
        last.topic->members[last.position].position = position;
    }
    if (gone.position < --t->count) {
        const struct ws__member last = t->members[t->count];
        t->members[gone.position] = last;
        last.subscriber->list[last.position].position = gone.position;
    }
    set_capacities(topics->memory, subscriber, smaller(subscriber->count, subscriber->capacity), t,
                   smaller(t->count, t->capacity));
    free_if_unused(topics, t);
}

void ws__topics_pin(struct ws__topic *topic)
{
    topic->pins++;
}

struct ws__topic *ws__topics_pin_name(struct ws__topics *topics, const char *name, size_t length)
{
    const uint64_t hash = hash_of(topics->seed, name, length);
    struct ws__topic *t = find_hashed(topics, hash, name, length);
    if (!t && !(t = add_topic(topics, hash, name, length)))
        return NULL;
    t->pins++;
    set_bucket_count(topics, larger(topics->topic_count, topics->bucket_count));
    return t;
}

void ws__topics_unpin(struct ws__topics *topics, struct ws__topic *topic)
{
    topic->pins--;
    free_if_unused(topics, topic);
}

#endif
