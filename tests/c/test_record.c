/* SPDX-License-Identifier: MIT */
/*
 * test_record.c: records of a local bus in every cut into datagrams, with each datagram lost, and
 * with each byte changed; and the set of hashes against a model.
 */
#include "interest.h"
#include "record.h"
#include "tap.h"

#include <stdlib.h>

static struct ws__memory memory;

static const struct ws__record samples[] = {
    {WS__RECORD_SYNC, 1, NULL, 0, NULL, 0},
    {WS__RECORD_ADD, 0, NULL, 0, "0123456789abcdef", 16},
    {WS__RECORD_SYNCED, 0, NULL, 0, NULL, 0},
    {WS__RECORD_PUBLISH, 0x101, "topic", 5, "hello", 5},
    {WS__RECORD_PUBLISH, 2, NULL, 0, NULL, 0},
    {WS__RECORD_END, 4999, "t", 1, "why", 3},
    {WS__RECORD_MESSAGE, 0, NULL, 0, "a longer message that may be cut at many places", 47},
    {WS__RECORD_ASK, 0, NULL, 0, NULL, 0},
    {WS__RECORD_BYE, 0, NULL, 0, NULL, 0},
};
enum { SAMPLES = sizeof samples / sizeof *samples };

static bool same(const struct ws__record *a, const struct ws__record *b)
{
    return a->type == b->type && a->code == b->code && a->topic_length == b->topic_length &&
           a->length == b->length &&
           (!a->topic_length || !memcmp(a->topic, b->topic, a->topic_length)) &&
           (!a->length || !memcmp(a->data, b->data, a->length));
}

struct datagram {
    char bytes[1024];
    size_t length;
};

/* Cuts the samples into datagrams of at most `part` bytes of the stream. */
static int cut(size_t part, struct datagram *to)
{
    struct ws__record_queue queue = {0};
    int count = 0;
    for (int i = 0; i < SAMPLES; i++)
        if (ws__record_queue_add(&queue, &memory, &samples[i]))
            abort();
    while (ws__buffer_length(queue.bytes)) {
        size_t length = ws__buffer_length(queue.bytes), n = length < part ? length : part;
        struct ws__datagram head = {1, 2, 3, queue.sequence, ws__record_queue_first(&queue, n)};
        ws__record_write_head(to[count].bytes, &head);
        memcpy(to[count].bytes + WS__DATAGRAM_HEAD, ws__buffer_data(queue.bytes), n);
        to[count++].length = WS__DATAGRAM_HEAD + n;
        ws__record_queue_sent(&queue, &memory, n);
    }
    ws__record_queue_clear(&queue, &memory);
    return count;
}

/* Reads one datagram; next[] says which sample is expected. Returns what is wrong: 0 nothing, 1 a
 * gap or an error, 2 another record than the next ones. */
static int take(struct ws__record_stream *stream, const struct datagram *d, int *next)
{
    char *copy = malloc(d->length ? d->length : 1); /* of the exact size, for the sanitizers */
    struct ws__input in = {copy, d->length};
    struct ws__datagram head;
    struct ws__record record;
    int wrong = 0, result;
    if (!copy)
        abort();
    memcpy(copy, d->bytes, d->length);
    if (!ws__record_read_head(&head, &in)) {
        free(copy);
        return 1;
    }
    wrong = !ws__record_stream_begin(stream, &memory, &head, &in);
    while ((result = ws__record_stream_next(stream, &memory, &in, &record)) > 0) {
        while (*next < SAMPLES && !same(&record, &samples[*next]))
            ++*next;
        if (*next == SAMPLES)
            wrong = 2;
        else
            ++*next;
    }
    free(copy);
    return result < 0 ? 1 : wrong;
}

static struct datagram datagrams[1024];

static void test_cuts(void)
{
    bool right = true;
    for (size_t part = 1; part <= 300; part++) {
        struct ws__record_stream stream = {0};
        int count = cut(part, datagrams), next = 0, seen = 0;
        for (int i = 0; i < count && right; i++) {
            int before = next;
            right = !take(&stream, &datagrams[i], &next);
            seen += next - before;
        }
        right = right && seen == SAMPLES && !stream.partial;
        ws__record_stream_clear(&stream, &memory);
    }
    ok(right, "B2: every cut: all records, in order");
    is_int((long long)memory.used, 0, "nothing is left");
}

static void test_losses(void)
{
    bool right = true;
    for (size_t part = 1; part <= 120; part++) {
        int count = cut(part, datagrams);
        for (int lost = 0; lost < count && right; lost++) {
            struct ws__record_stream stream = {0};
            int next = 0, gaps = 0;
            for (int i = 0; i < count && right; i++) {
                int wrong = i == lost ? 0 : take(&stream, &datagrams[i], &next);
                right = wrong < 2;
                gaps += wrong;
            }
            right = right && gaps == (lost > 0 && lost < count - 1);
            ws__record_stream_clear(&stream, &memory);
        }
    }
    ok(right, "B2: each datagram lost: one gap, and what is read is whole and in order");
    is_int((long long)memory.used, 0, "nothing is left");
}

static void test_begin_anywhere(void)
{
    bool right = true;
    for (size_t part = 1; part <= 120; part++) {
        int count = cut(part, datagrams);
        for (int first = 0; first < count && right; first++) {
            struct ws__record_stream stream = {0};
            int next = 0;
            for (int i = first; i < count && right; i++)
                right = !take(&stream, &datagrams[i], &next);
            ws__record_stream_clear(&stream, &memory);
        }
    }
    ok(right, "B2: a reader may begin with any datagram: whole records only, and no gap");
    is_int((long long)memory.used, 0, "nothing is left");
}

static void test_changed(void)
{
    uint32_t noise = 7;
    for (int round = 0; round < 20000; round++) {
        struct ws__record_stream stream = {0};
        int count = cut(1 + (size_t)round % 97, datagrams), next;
        for (int i = 0; i < count; i++) {
            noise = noise * 1664525 + 1013904223;
            if (noise >> 31) {
                datagrams[i].bytes[(noise >> 8) % datagrams[i].length] = (char)(noise >> 4);
                datagrams[i].length -= noise >> 30 == 3 ? (noise >> 16) % datagrams[i].length : 0;
            }
            next = 0;
            take(&stream, &datagrams[i], &next);
        }
        ws__record_stream_clear(&stream, &memory);
    }
    is_int((long long)memory.used, 0, "T94: changed bytes: no harm, nothing is left");
}

static void test_limits(void)
{
    struct ws__record record = {WS__RECORD_PUBLISH, 1, "", 0, "", (size_t)1 << 30};
    char bytes[64];
    ok(ws__record_size(&record) == SIZE_MAX, "1 GiB is too long");
    record.length -= 2;
    ok(ws__record_size(&record) == ((size_t)1 << 30) - 2 + 12, "a little less is not");
    record.length = 3;
    record.data = "abc";
    ws__record_write(bytes, &record);
    is_int(ws__record_read(bytes, 11, &record), 0, "not even a head");
    is_int(ws__record_read(bytes, 14, &record), 0, "not whole");
    is_int(ws__record_read(bytes, 15, &record), 1, "whole");
    bytes[0] = 0;
    is_int(ws__record_read(bytes, 15, &record), WS_EINVAL, "not a type");
    bytes[0] = WS__RECORD_BYE;
    is_int(ws__record_read(bytes, 15, &record), WS_EINVAL, "not the fields of the type");
    bytes[0] = WS__RECORD_ADD;
    is_int(ws__record_read(bytes, 15, &record), WS_EINVAL, "not whole hashes");
}

/* ---- the set ---- */

static void test_interest(void)
{
    enum { KEYS = 600, STEPS = 200000 };
    static bool model[KEYS];
    struct ws__interest set = {0};
    uint64_t noise = 1;
    size_t count = 0;
    bool right = true;
    for (int i = 0; i < STEPS && right; i++) {
        noise = noise * 6364136223846793005u + 1442695040888963407u;
        size_t key = (size_t)(noise >> 33) % KEYS;
        /* Few home slots, so that runs are long and wrap. */
        uint64_t hash = key * 0x100000000u + key % 5 + (key % 3 ? 0 : UINT64_MAX - 2);
        bool filling = i / 10000 % 2 == 0;
        if ((noise >> 60) < (filling ? 12 : 4)) {
            right = !ws__interest_add(&set, &memory, hash);
            count += !model[key];
            model[key] = true;
        } else {
            ws__interest_remove(&set, &memory, hash);
            count -= model[key];
            model[key] = false;
        }
        right = right && set.count + set.has_zero == count;
        for (size_t k = 0; k < KEYS && i % 500 == 0; k++) {
            hash = k * 0x100000000u + k % 5 + (k % 3 ? 0 : UINT64_MAX - 2);
            right = right && ws__interest_has(&set, hash) == model[k];
        }
    }
    ok(right, "B3: %d random steps agree with a model", STEPS);
    ws__interest_clear(&set, &memory);
    ok(!ws__interest_has(&set, 1) && !ws__interest_has(&set, 0), "empty");
    ws__interest_add(&set, &memory, 0);
    ok(ws__interest_has(&set, 0) && !ws__interest_has(&set, 1), "the hash 0");
    ws__interest_remove(&set, &memory, 0);
    ok(!ws__interest_has(&set, 0), "is removed");
    is_int((long long)memory.used, 0, "nothing is left");
}

static void test_interest_memory(void)
{
    struct ws__interest set = {0};
    memory.limit = memory.used + 8 * 64;
    uint64_t i = 1;
    while (!ws__interest_add(&set, &memory, i))
        i++;
    memory.limit = 0;
    is_int((long long)set.count, (long long)i - 1, "T84: what there was is kept");
    ok(ws__interest_has(&set, i - 1) && !ws__interest_has(&set, i), "T84: nothing else");
    is_int(ws__interest_add(&set, &memory, i), WS_OK, "T84: with memory, it works again");
    ws__interest_clear(&set, &memory);
    is_int((long long)memory.used, 0, "nothing is left");
}

static void cases(void)
{
    CASE(test_cuts());
    CASE(test_losses());
    CASE(test_begin_anywhere());
    CASE(test_changed());
    CASE(test_limits());
    CASE(test_interest());
    CASE(test_interest_memory());
}

int main(int argc, char **argv)
{
    ws__memory_init(&memory, NULL, 0);
    return run_cases(argc, argv, cases);
}
