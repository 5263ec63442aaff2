/* SPDX-License-Identifier: MIT */
/*
 * test_topics.c: topics.c on an allocator that moves every block, checks every size it is told and
 * fails on demand; a long random run against a matrix; names made to collide; and the hash
 * against a second implementation and published values.
 */
#include "topics.h"

#include "tap.h"

#include <stdlib.h>

struct heap {
    size_t live, calls;
    size_t fail_at;  /* the call of this number fails; 0: none */
    bool fail_after; /* and all after it */
    bool wrong;      /* an old_size was not what the block was allocated with */
};

/* The size is kept in front of the block. */
union head {
    size_t size;
    max_align_t align;
};

static void leave_all(struct ws__topics *topics, struct ws__subscriber *subscriber)
{
    while (subscriber->count)
        ws__topics_unsubscribe(topics, subscriber, subscriber->count - 1);
}

static struct heap heap;
static struct ws__memory memory;
static struct ws__topics topics;

static void *heap_resize(void *context, void *ptr, size_t old_size, size_t size)
{
    union head *old = ptr ? (union head *)ptr - 1 : NULL, *block = NULL;
    (void)context;
    heap.wrong |= (old ? old->size : 0) != old_size;
    if (size) {
        heap.calls++;
        if (heap.fail_at && (heap.fail_after ? heap.calls >= heap.fail_at
                                             : heap.calls == heap.fail_at))
            return NULL;
        block = malloc(sizeof *block + size);
        if (!block)
            abort();
        block->size = size;
        memset(block + 1, 0xa5, size);
        if (old)
            memcpy(block + 1, ptr, old_size < size ? old_size : size);
    }
    heap.live += size - old_size;
    free(old);
    return block ? block + 1 : NULL;
}

static const uint64_t seed_a[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
static const uint64_t seed_b[2] = {0xdc504fd368cd90af, 0xb920bb9ffe99e9c1};

static void begin_with(const uint64_t seed[2])
{
    heap = (struct heap){0};
    ws__memory_init(&memory, &(ws_allocator){heap_resize, &heap}, 0);
    ws__topics_init(&topics, &memory, seed);
}

static void begin(void)
{
    begin_with(seed_a);
}

static void end(const char *what)
{
    ws__topics_deinit(&topics);
    ok(!memory.used && !heap.live && !heap.wrong && !topics.buckets && !topics.topic_count,
       "S42 %s: everything freed, every size right", what);
}

/* The results for a name that ends with NUL. */
static int subscribe(struct ws__subscriber *s, const char *name)
{
    struct ws__topic *topic = NULL;
    int result = ws__topics_subscribe(&topics, s, name, strlen(name), &topic);
    if (result >= 0 && (!topic || topic != ws__topics_find(&topics, name, strlen(name))))
        return -100; /* none of its results */
    return result;
}

static uint32_t position(const struct ws__subscriber *s, const char *name)
{
    const struct ws__topic *topic = ws__topics_find(&topics, name, strlen(name));
    return topic ? ws__topics_position(s, topic) : s->count;
}

static void unsubscribe(struct ws__subscriber *s, const char *name)
{
    ws__topics_unsubscribe(&topics, s, position(s, name));
}

/* -1: there is no such topic. */
static long members(const char *name)
{
    const struct ws__topic *topic = ws__topics_find(&topics, name, strlen(name));
    return topic ? (long)topic->count : -1;
}

/* Are the arrays of the subscriber and those of its topics each other's mirror? */
static bool list_agrees(const struct ws__subscriber *s)
{
    bool agrees = s->count <= s->capacity && !s->count == !s->list;
    for (uint32_t i = 0; i < s->count && agrees; i++) {
        const struct ws__topic *t = s->list[i].topic;
        const uint32_t at = s->list[i].position;
        agrees = at < t->count && t->members[at].subscriber == s &&
                 t->members[at].position == i && ws__topics_position(s, t) == i;
    }
    return agrees;
}

static bool topic_agrees(const struct ws__topic *t)
{
    bool agrees = t->count <= t->capacity && !t->count == !t->members && (t->count || t->pins);
    for (uint32_t i = 0; i < t->count && agrees; i++) {
        const struct ws__subscriber *s = t->members[i].subscriber;
        const uint32_t at = t->members[i].position;
        agrees = at < s->count && s->list[at].topic == t && s->list[at].position == i;
    }
    return agrees;
}

/* Every topic in its bucket, as many as are counted. */
static bool table_agrees(void)
{
    size_t found = 0;
    bool agrees = !topics.bucket_count == !topics.buckets;
    for (size_t i = 0; i < topics.bucket_count; i++)
        for (const struct ws__topic *t = topics.buckets[i]; t && agrees; t = t->next, found++)
            agrees = (t->hash & (topics.bucket_count - 1)) == i && topic_agrees(t);
    return agrees && found == topics.topic_count;
}

/* ---- one by one --------------------------------------------------------------------------- */

static void test_subscribe(void)
{
    struct ws__subscriber a = {0}, b = {0};
    begin();
    is_int(members("news"), -1, "T64 no one subscribed: no topic, in a table without buckets");
    is_int(subscribe(&a, "news"), 1, "T64 subscribe");
    is_int(subscribe(&a, "news"), 0, "T64 subscribe twice");
    is_int(members("news"), 1, "T64 counts once");
    is_int(subscribe(&b, "news"), 1, "T64 another subscriber");
    is_int(subscribe(&b, "sport"), 1, "T64 another topic");
    is_int(subscribe(&b, "news"), 0, "T64 twice, in the longer list");
    is_int(members("news"), 2, "T64 two members");
    is_int(position(&a, "sport"), a.count, "T64 not subscribed: no position");
    is_int(position(&a, "weather"), a.count, "T64 unknown topic: no position");
    is_int(position(&b, "sport"), 1, "T64 second of the list");
    ok(list_agrees(&a) && list_agrees(&b) && table_agrees(), "both sides agree");
    unsubscribe(&b, "news");
    is_int(position(&b, "sport"), 0, "the last one moves to the place of the one that goes");
    is_int(members("news"), 1, "one member left");
    ok(list_agrees(&a) && list_agrees(&b) && table_agrees(), "both sides agree");
    unsubscribe(&a, "news");
    is_int(members("news"), -1, "a topic without members is gone");
    ok(!a.list && !a.capacity, "a subscriber without subscriptions owns no memory");
    leave_all(&topics, &a);
    leave_all(&topics, &b);
    ok(!b.list && !b.count && !b.capacity && !memory.used, "S42 nor does anybody at the end");
    end("subscribe");
}

static void test_names(void)
{
    enum { LONG = 1024 * 1024 };
    static const char zeros[3];
    struct ws__subscriber s = {0};
    struct ws__topic *topic, *empty;
    char *name = calloc(1, LONG), *other = calloc(1, LONG);
    begin();
    is_int(ws__topics_subscribe(&topics, &s, NULL, 0, &empty), 1, "T64 the empty name");
    is_int(ws__topics_subscribe(&topics, &s, "", 0, &topic), 0, "T64 is one name");
    ok(topic == empty && ws__topics_find(&topics, NULL, 0) == empty && !empty->length,
       "T64 and found");
    for (size_t n = 1; n <= 3; n++)
        is_int(ws__topics_subscribe(&topics, &s, zeros, n, &topic), 1, "T64 %zu NUL bytes", n);
    is_int(ws__topics_subscribe(&topics, &s, "a\0b", 3, &topic), 1, "T64 a NUL within");
    is_mem(topic->name, topic->length, "a\0b", 3, "T64 is kept");
    is_int(ws__topics_subscribe(&topics, &s, "a\0c", 3, &topic), 1, "T64 what follows it counts");
    is_int(ws__topics_subscribe(&topics, &s, "a", 1, &topic), 1, "T64 names do not end at it");
    is_int(ws__topics_subscribe(&topics, &s, name, LONG, &topic), 1, "T64 a name of 1 MiB");
    other[LONG - 1] = 1;
    ok(!ws__topics_find(&topics, other, LONG), "T64 its last byte counts");
    ok(!ws__topics_find(&topics, name, LONG - 1), "T64 its length, too");
    other[LONG - 1] = 0;
    ok(ws__topics_find(&topics, other, LONG) == topic, "T64 names are copied and compared");
    is_int(s.count, 8, "T64 eight different names");
    ok(memory.used > LONG, "T64 names are counted");
    ok(list_agrees(&s) && table_agrees(), "T64 both sides agree");
    leave_all(&topics, &s);
    end("names");
    free(name);
    free(other);
}

static void test_pins(void)
{
    struct ws__subscriber a = {0}, b = {0};
    struct ws__topic *topic, *again;
    begin();
    subscribe(&a, "news");
    topic = ws__topics_find(&topics, "news", 4);
    ws__topics_pin(topic);
    ws__topics_pin(topic);
    leave_all(&topics, &a);
    ok(ws__topics_find(&topics, "news", 4) == topic && !topic->count && !topic->members,
       "T63 a pinned topic without members is found, with count 0");
    is_int(ws__topics_position(&b, topic), b.count, "T63 no one has a position in it");
    is_int(ws__topics_subscribe(&topics, &b, "news", 4, &again), 1, "T63 it can be joined again");
    ok(again == topic && topic->count == 1, "T63 it is the same one");
    ws__topics_unpin(&topics, topic);
    unsubscribe(&b, "news");
    is_int(members("news"), 0, "T63 pins nest");
    ws__topics_unpin(&topics, topic);
    is_int(members("news"), -1, "T63 freed at the last unpin");
    ok(!memory.used, "T63 with its memory");
    subscribe(&a, "news");
    topic = ws__topics_find(&topics, "news", 4);
    ws__topics_pin(topic);
    ws__topics_unpin(&topics, topic);
    is_int(members("news"), 1, "T63 the last unpin leaves a topic that has members");
    ws__topics_pin(topic);
    leave_all(&topics, &a);
    end("deinit with a pin");
    topic = ws__topics_pin_name(&topics, "news", 4);
    ok(topic && topic == ws__topics_pin_name(&topics, "news", 4), "T63 pinned by its name");
    ws__topics_unpin(&topics, topic);
    ws__topics_unpin(&topics, topic);
    ok(!memory.used, "T63 freed at the last unpin, with its memory");
}

/* The longer array is not looked at: here it holds nothing. */
static void test_shorter_way(void)
{
    static struct ws__subscription nothing[3];
    static struct ws__member nobody[3];
    struct ws__subscriber a = {0}, b = {0}, c = {0};
    begin();
    subscribe(&a, "x");
    subscribe(&a, "y");
    subscribe(&a, "news");
    struct ws__subscription *list = a.list;
    a.list = nothing;
    is_int(position(&a, "news"), 2, "a short array of members is searched, not the long list");
    a.list = list;
    subscribe(&b, "news");
    subscribe(&c, "news");
    struct ws__topic *topic = ws__topics_find(&topics, "news", 4);
    struct ws__member *all = topic->members;
    topic->members = nobody;
    is_int(position(&c, "news"), 0, "a short list is searched, not the long array of members");
    topic->members = all;
    leave_all(&topics, &a);
    leave_all(&topics, &b);
    leave_all(&topics, &c);
    end("the shorter way");
}

/* Arrays are neither much larger than what they hold, nor resized all the time. */
static void test_capacity(void)
{
    enum { MANY = 1000 };
    static struct ws__subscriber all[MANY];
    struct ws__topic *t = NULL;
    bool tight = true;
    begin();
    for (int i = 0; i < MANY; i++)
        subscribe(&all[i], "news");
    t = ws__topics_find(&topics, "news", 4);
    is_int(t->count, MANY, "%d members", MANY);
    ok(t->capacity >= MANY && t->capacity <= 2 * MANY, "room for at most twice as many");
    ok(heap.calls < 2 + MANY + 12, "growing is rare");
    ws__topics_pin(t);
    heap.calls = 0;
    for (int i = 0; i < MANY; i++) {
        leave_all(&topics, &all[i]);
        tight = tight && t->capacity <= 4 * t->count + 4;
    }
    ok(tight && !t->members && !t->capacity, "members that go give their memory back");
    ok(heap.calls < 12, "shrinking is rare, too");
    ws__topics_unpin(&topics, t);
    end("capacity");
}

/* A list so large that twice its size is no size; it is never looked at. */
static void test_too_many(void)
{
    const uint32_t large = sizeof(size_t) > 4 ? UINT32_C(1) << 31 : UINT32_C(1) << 28;
    struct ws__subscriber s = {NULL, large, large};
    begin();
    is_int(subscribe(&s, "news"), WS_ENOMEM, "T84 a capacity that would wrap around");
    ok(s.count == large && s.capacity == large && !s.list, "T84 leaves the list");
    ok(!memory.used && members("news") == -1, "T84 and the topics");
    end("too many");
}

/* ---- failing allocations ------------------------------------------------------------------ */

enum { ACTORS = 3, NAMES = 40 };

struct state {
    size_t used, topics, buckets;
    uint32_t counts[ACTORS], capacities[ACTORS];
};

static struct state state_of(const struct ws__subscriber *actors)
{
    struct state state;
    memset(&state, 0, sizeof(state)); /* is compared with its padding */
    state.used = memory.used;
    state.topics = topics.topic_count;
    state.buckets = topics.bucket_count;
    for (int i = 0; i < ACTORS; i++) {
        state.counts[i] = actors[i].count;
        state.capacities[i] = actors[i].capacity;
    }
    return state;
}

/* True: subscribed; where memory failed all was as before, and then it went well. */
static bool insist(struct ws__subscriber *actors, int actor, const char *name)
{
    const struct state before = state_of(actors);
    const size_t calls = heap.calls;
    int result = subscribe(&actors[actor], name);
    if (result == WS_ENOMEM) {
        const struct state after = state_of(actors);
        bool reached = heap.fail_at && heap.calls >= heap.fail_at &&
                       (heap.fail_after || heap.fail_at > calls);
        /* What grew may be unable to shrink while all calls fail. */
        bool same = heap.fail_after ? after.topics == before.topics &&
                                          !memcmp(after.counts, before.counts, sizeof(after.counts))
                                    : !memcmp(&after, &before, sizeof(after));
        if (!reached || !same || position(&actors[actor], name) < actors[actor].count ||
            !list_agrees(&actors[actor]) || !table_agrees())
            return false;
        heap.fail_at = 0;
        result = subscribe(&actors[actor], name);
    }
    return result == 1;
}

/* True: all was well. Growing, sharing, shrinking. */
static bool scenario(size_t fail_at, bool fail_after)
{
    struct ws__subscriber actors[ACTORS] = {0};
    char name[16];
    bool well = true;
    begin();
    heap.fail_at = fail_at;
    heap.fail_after = fail_after;
    for (int i = 0; i < NAMES; i++) {
        for (int actor = 0; actor < ACTORS && well; actor++) {
            sprintf(name, "%d", actor == 2 ? i % 7 * 100 + i : i);
            well = insist(actors, actor, name);
        }
    }
    for (int actor = 0; actor < ACTORS; actor++)
        well = well && list_agrees(&actors[actor]) && actors[actor].count == NAMES;
    for (int actor = 0; actor < ACTORS; actor++) {
        leave_all(&topics, &actors[actor]);
        well = well && table_agrees() && !actors[actor].list;
    }
    well = well && !memory.used && !heap.live && !heap.wrong;
    ws__topics_deinit(&topics);
    return well;
}

static void test_failures(void)
{
    size_t calls;
    int wrong = 0;
    ok(scenario(0, false), "T84 %d names, %d subscribers", NAMES, ACTORS);
    calls = heap.calls;
    for (size_t i = 1; i <= calls; i++)
        wrong += !scenario(i, false) + !scenario(i, true);
    ok(calls > 100, "T84 that are %zu allocations", calls);
    is_int(wrong, 0, "T84 each fails, alone and with all after it: WS_ENOMEM changes nothing");
}

/* ---- against a matrix --------------------------------------------------------------------- */

enum { SUBSCRIBERS = 40, TOPICS = 30 };

static struct ws__subscriber subscribers[SUBSCRIBERS];
static bool matrix[SUBSCRIBERS][TOPICS];
static unsigned pins[TOPICS];
static uint64_t random_state;

static unsigned random_below(unsigned n)
{
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

static const char *topic_name(unsigned topic)
{
    static char name[64];
    sprintf(name, "%.*s%u", (int)topic, "a long beginning, part of many names", topic);
    return name;
}

static uint32_t column(unsigned topic)
{
    uint32_t count = 0;
    for (int i = 0; i < SUBSCRIBERS; i++)
        count += matrix[i][topic];
    return count;
}

static bool topic_as_modelled(unsigned topic)
{
    const long count = members(topic_name(topic));
    return count == (column(topic) || pins[topic] ? (long)column(topic) : -1);
}

static bool all_as_modelled(void)
{
    bool right = table_agrees();
    for (unsigned s = 0; s < SUBSCRIBERS; s++) {
        uint32_t row = 0;
        for (unsigned topic = 0; topic < TOPICS; topic++) {
            const bool is = position(&subscribers[s], topic_name(topic)) < subscribers[s].count;
            row += matrix[s][topic];
            right = right && is == matrix[s][topic];
        }
        right = right && row == subscribers[s].count && list_agrees(&subscribers[s]);
    }
    for (unsigned topic = 0; topic < TOPICS; topic++)
        right = right && topic_as_modelled(topic);
    return right;
}

static bool random_subscribe(unsigned s, unsigned topic)
{
    const int want = !matrix[s][topic];
    heap.fail_at = random_below(4) ? 0 : heap.calls + 1 + random_below(3);
    int result = subscribe(&subscribers[s], topic_name(topic));
    bool failed = heap.fail_at && heap.calls >= heap.fail_at;
    heap.fail_at = 0;
    if (result == WS_ENOMEM)
        return failed && want;
    matrix[s][topic] = true;
    return result == want;
}

static bool random_unsubscribe(unsigned s, unsigned topic)
{
    if (!matrix[s][topic])
        return position(&subscribers[s], topic_name(topic)) == subscribers[s].count;
    heap.fail_at = random_below(4) ? 0 : heap.calls + 1;
    unsubscribe(&subscribers[s], topic_name(topic));
    heap.fail_at = 0;
    matrix[s][topic] = false;
    return true;
}

static bool random_pin(unsigned topic)
{
    struct ws__topic *t = ws__topics_find(&topics, topic_name(topic), strlen(topic_name(topic)));
    if (!t)
        return !pins[topic];
    if (pins[topic] && random_below(2)) {
        pins[topic]--;
        ws__topics_unpin(&topics, t);
    } else {
        pins[topic]++;
        ws__topics_pin(t);
    }
    return true;
}

/* `fill`: how many of 16 subscribe. */
static bool random_step(unsigned fill)
{
    const unsigned s = random_below(SUBSCRIBERS), topic = random_below(TOPICS);
    const unsigned what = random_below(256);
    bool right;
    if (what == 0) {
        leave_all(&topics, &subscribers[s]);
        memset(matrix[s], 0, sizeof(matrix[s]));
        return list_agrees(&subscribers[s]);
    }
    if (what < 16)
        right = random_pin(topic);
    else
        right = what % 16 < fill ? random_subscribe(s, topic) : random_unsubscribe(s, topic);
    return right && topic_as_modelled(topic);
}

static void test_model(void)
{
    const int steps = getenv("UNDER_VALGRIND") ? 10000 : 200000;
    int wrong = 0;
    size_t most = 0, least = SIZE_MAX;
    begin();
    random_state = 1;
    for (int i = 0; i < steps && !wrong; i++) {
        wrong += !random_step(i / 3000 % 2 ? 1 : 15);
        if (i % 32 == 0)
            wrong += !all_as_modelled();
        most = memory.used > most ? memory.used : most;
        if (i > 3000)
            least = memory.used < least ? memory.used : least;
    }
    is_int(wrong, 0, "T66 %d random steps agree with a matrix", steps);
    ok(least * 2 < most, "T66 full and almost empty (%zu to %zu bytes)", least, most);
    for (int i = 0; i < SUBSCRIBERS; i++)
        leave_all(&topics, &subscribers[i]);
    for (unsigned topic = 0; topic < TOPICS; topic++)
        for (; pins[topic]; pins[topic]--)
            ws__topics_unpin(&topics, ws__topics_find(&topics, topic_name(topic),
                                                      strlen(topic_name(topic))));
    ok(!memory.used && !topics.bucket_count, "T66 and in the end there is no memory");
    end("model");
}

/* ---- the hash ----------------------------------------------------------------------------- */

/* SipHash-c-d as its paper writes it: byte by byte, one line for each operation. */
static uint64_t left(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static void sip_rounds(uint64_t *v0, uint64_t *v1, uint64_t *v2, uint64_t *v3, int n)
{
    while (n--) {
        *v0 += *v1, *v1 = left(*v1, 13), *v1 ^= *v0, *v0 = left(*v0, 32);
        *v2 += *v3, *v3 = left(*v3, 16), *v3 ^= *v2;
        *v0 += *v3, *v3 = left(*v3, 21), *v3 ^= *v0;
        *v2 += *v1, *v1 = left(*v1, 17), *v1 ^= *v2, *v2 = left(*v2, 32);
    }
}

static uint64_t siphash(int c, int d, const uint64_t k[2], const void *data, size_t length)
{
    uint64_t v0 = k[0] ^ 0x736f6d6570736575, v1 = k[1] ^ 0x646f72616e646f6d;
    uint64_t v2 = k[0] ^ 0x6c7967656e657261, v3 = k[1] ^ 0x7465646279746573;
    for (size_t i = 0; i <= length; i += 8) {
        uint64_t m = i + 8 > length ? (uint64_t)length << 56 : 0;
        for (size_t j = 0; j < 8 && i + j < length; j++)
            m |= (uint64_t)((const unsigned char *)data)[i + j] << 8 * j;
        v3 ^= m;
        sip_rounds(&v0, &v1, &v2, &v3, c);
        v0 ^= m;
    }
    v2 ^= 0xff;
    sip_rounds(&v0, &v1, &v2, &v3, d);
    return v0 ^ v1 ^ v2 ^ v3;
}

static uint64_t hash_in_use(const uint64_t seed[2], const char *name, size_t length)
{
    struct ws__subscriber s = {0};
    struct ws__topic *topic;
    begin_with(seed);
    ws__topics_subscribe(&topics, &s, name, length, &topic);
    const uint64_t hash = topic->hash;
    leave_all(&topics, &s);
    return hash;
}

/* Of the bytes 1, 2, 3, ...: what CPython 3.11 computes, with PYTHONHASHSEED 0 (zeros) and 42
 * (seed_b). */
static const struct {
    size_t length;
    uint64_t with_zeros, with_b;
} published[] = {
    {1, 0x44bc103b1f8540ed, 0x89404b342d44cd29},  {7, 0xb1cd85cc334196fa, 0xafa4a69898709019},
    {8, 0x884ccc87cb0e5fb0, 0xcd17174de003c80e},  {9, 0x027ed508fe95acb3, 0x86b30533f96d57c3},
    {15, 0x75e46d4257851550, 0x322e33b210d93874}, {16, 0xe05d12a0a4b2d063, 0x4d9edba2b0c17d07},
    {17, 0x85e152444239b234, 0xed9aebb09978c08f}, {63, 0x6bafe9f92616651b, 0x048287785366e54f},
};

static void test_hash(void)
{
    static const uint64_t zeros[2];
    char bytes[256];
    int wrong = 0;
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    ok(siphash(2, 4, seed_a, "", 0) == 0x726fdb47dd0e0e31 &&
           siphash(2, 4, seed_a, bytes, 15) == 0xa129ca6149be45e5,
       "T13 the second implementation gives the values of the SipHash paper");
    for (size_t i = 0; i < sizeof(published) / sizeof(published[0]); i++) {
        const size_t length = published[i].length;
        ok(hash_in_use(zeros, bytes + 1, length) == published[i].with_zeros &&
               hash_in_use(seed_b, bytes + 1, length) == published[i].with_b,
           "T13 SipHash-1-3 of %zu bytes, as CPython has it", length);
    }
    for (size_t length = 0; length <= 200; length++)
        for (size_t from = 0; from < 9; from++)
            wrong += hash_in_use(seed_a, bytes + from, length) !=
                     siphash(1, 3, seed_a, bytes + from, length);
    is_int(wrong, 0, "T13 every length to 200 at every alignment, as the second implementation");
}

/* True: the topic "a" is not taken for `name` when it is given its hash and its bucket. */
static bool told_apart(const char *name)
{
    struct ws__subscriber s = {0};
    begin();
    subscribe(&s, "a");
    struct ws__topic *topic = topics.buckets[siphash(1, 3, seed_a, "a", 1) & 3];
    const uint64_t own = topic->hash, other = siphash(1, 3, seed_a, name, strlen(name));
    topics.buckets[own & 3] = NULL;
    topics.buckets[other & 3] = topic;
    topic->hash = other;
    const bool apart = members(name) == -1;
    leave_all(&topics, &s);
    return apart && !memory.used;
}

static void test_same_hash(void)
{
    ok(told_apart("b"), "T13 two names of one hash are two topics");
    ok(told_apart("ab") && told_apart(""), "T13 also where one is the beginning of the other");
}

static size_t longest_chain(void)
{
    size_t longest = 0;
    for (size_t i = 0; i < topics.bucket_count; i++) {
        size_t length = 0;
        for (const struct ws__topic *t = topics.buckets[i]; t; t = t->next)
            length++;
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* `count` names that share the last seven bits of their hash under seed_a. */
static size_t chain_of_colliding(const uint64_t seed[2], int count)
{
    struct ws__subscriber s = {0};
    char name[16];
    begin_with(seed);
    for (unsigned i = 0; count; i++) {
        size_t length = (size_t)sprintf(name, "%u", i);
        if (siphash(1, 3, seed_a, name, length) & 127)
            continue;
        struct ws__topic *topic;
        ws__topics_subscribe(&topics, &s, name, length, &topic);
        count--;
    }
    const size_t longest = longest_chain();
    leave_all(&topics, &s);
    return longest;
}

static void test_collisions(void)
{
    const int count = getenv("UNDER_VALGRIND") ? 1000 : 20000;
    const uint64_t third[2] = {seed_a[0] ^ 1, seed_a[1]};
    size_t known = chain_of_colliding(seed_a, count);
    ok(known > 50, "T13 %d names made for a known seed share buckets (%zu in one)", count, known);
    end("collisions");
    size_t longest = chain_of_colliding(seed_b, count);
    ok(longest <= 12, "T13 under another seed they do not (%zu)", longest);
    end("another seed");
    longest = chain_of_colliding(third, count);
    ok(longest <= 12, "T13 nor under one that differs by a bit (%zu)", longest);
    end("a bit");
}

static void cases(void)
{
    CASE(test_subscribe());
    CASE(test_names());
    CASE(test_pins());
    CASE(test_shorter_way());
    CASE(test_capacity());
    CASE(test_too_many());
    CASE(test_failures());
    CASE(test_model());
    CASE(test_hash());
    CASE(test_same_hash());
    CASE(test_collisions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
