/* SPDX-License-Identifier: MIT */
/*
 * test_buffer.c: buffer.c on an allocator that moves every block, checks every size it is told,
 * and fails on demand; and a long random run against a plain array.
 */
#include "buffer.h"
#include "tap.h"

#include <stdlib.h>

struct heap {
    size_t live, blocks, calls;
    size_t largest;   /* size asked for */
    size_t fail_from; /* every call from this one on fails; 0: none */
    bool wrong;       /* an old_size was not what the block was allocated with */
};

/* The size is kept in front of the block. */
union head {
    size_t size;
    max_align_t align;
};

static void *heap_resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct heap *heap = context;
    union head *old = ptr ? (union head *)ptr - 1 : NULL, *block = NULL;
    heap->calls++;
    heap->largest = size > heap->largest ? size : heap->largest;
    heap->wrong |= (old ? old->size : 0) != old_size;
    if (size) {
        if (size > SIZE_MAX / 4 || (heap->fail_from && heap->calls >= heap->fail_from))
            return NULL;
        block = malloc(sizeof *block + size);
        if (!block)
            abort();
        block->size = size;
        memset(block + 1, 0xa5, size);
        if (old)
            memcpy(block + 1, ptr, old_size < size ? old_size : size);
    }
    heap->live += size - old_size;
    heap->blocks += (size_t)(block != NULL) - (size_t)(old != NULL);
    free(old);
    return block ? block + 1 : NULL;
}

static void start(struct ws__memory *memory, struct heap *heap, size_t limit)
{
    ws_allocator allocator = {heap_resize, heap};
    *heap = (struct heap){0};
    ws__memory_init(memory, &allocator, limit);
}

static void finish(const struct ws__memory *memory, const struct heap *heap, const char *what)
{
    ok(memory->used == 0 && heap->live == 0 && heap->blocks == 0 && !heap->wrong,
       "%s: everything freed, every size right", what);
}

static bool holds(struct ws__buffer *b, const char *text)
{
    return ws__buffer_length(b) == strlen(text) &&
           !memcmp(ws__buffer_data(b), text, strlen(text));
}

static void test_memory(void)
{
    static const char zeros[40];
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 100);
    char *block = ws__memory_zalloc(&memory, 40);
    is_mem(block, 40, zeros, 40, "zalloc gives zeros");
    is_int((long long)memory.used, 40, "and counts them");
    block = ws__memory_resize(&memory, block, 40, 100);
    ok(block && memory.used == 100, "the limit itself may be reached");
    ok(!ws__memory_resize(&memory, block, 100, 101) && memory.used == 100, "not more");
    ok(!ws__memory_zalloc(&memory, 1), "nor another block");
    ok(!ws__memory_resize(&memory, NULL, 0, SIZE_MAX), "nor a size that wraps around");
    memory.limit = 10;
    block = ws__memory_resize(&memory, block, 100, 50);
    ok(block && memory.used == 50, "a block above the limit may shrink");
    ok(!ws__memory_resize(&memory, block, 50, 51) && memory.used == 50, "but not grow");
    memory.limit = 100;
    char *other = ws__memory_resize(&memory, NULL, 77, 10);
    ok(other && memory.used == 60, "NULL holds nothing, whatever its old size is said to be");
    ws__memory_free(&memory, other, 10);
    ok(!ws__memory_resize(&memory, block, 50, 0) && memory.used == 0, "size 0 frees");
    ws__memory_free(&memory, NULL, 0);
    ws__memory_free(&memory, NULL, 77);
    ok(memory.used == 0, "freeing NULL does nothing, the count stays at zero");
    ok(!ws__memory_zalloc(&memory, 0), "no block of no bytes");
    finish(&memory, &heap, "memory");
}

static void test_memory_failure(void)
{
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 0);
    char *block = ws__memory_zalloc(&memory, 8);
    ok(!ws__memory_resize(&memory, block, 8, SIZE_MAX), "without a limit, too, nothing wraps");
    heap.fail_from = 1;
    ok(!ws__memory_zalloc(&memory, 8) && memory.used == 8, "a failed allocation is not counted");
    ok(!ws__memory_resize(&memory, block, 8, 16) && memory.used == 8, "nor a failed growth");
    ok(!ws__memory_resize(&memory, block, 8, 4) && memory.used == 8, "nor a failed shrink");
    memory.used = 3;
    ws__memory_free(&memory, block, 8);
    is_int((long long)memory.used, 0, "the count never goes below zero");
    finish(&memory, &heap, "memory failures");
}

static void test_default_allocator(void)
{
    ws_allocator none = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        struct ws__memory memory;
        struct ws__buffer *b = NULL;
        ws__memory_init(&memory, i ? &none : NULL, 0);
        for (int k = 0; k < 1000; k++)
            ws__buffer_append(&memory, &b, "0123456789", 10);
        ok(ws__buffer_length(b) == 10000 && memory.used >= 10000, "realloc is the default");
        ws__buffer_free(&memory, &b);
        ok(!b && memory.used == 0, "and free");
    }
}

static void test_null(void)
{
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *b = NULL;
    start(&memory, &heap, 0);
    is_int((long long)ws__buffer_length(NULL), 0, "an empty queue is NULL");
    ws__buffer_commit(NULL, 0);
    ws__buffer_consume(NULL, 0);
    ws__buffer_fit(&memory, &b);
    ws__buffer_free(&memory, &b);
    is_int(ws__buffer_append(&memory, &b, NULL, 0), WS_OK, "appending nothing to it");
    ok(!b && heap.calls == 0, "calls for no allocation");
    ok(ws__buffer_reserve(&memory, &b, 0) && ws__buffer_length(b) == 0, "room for nothing");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "NULL");
}

static void test_queue(void)
{
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *b = NULL;
    start(&memory, &heap, 0);
    is_int(ws__buffer_append(&memory, &b, "hello ", 6), WS_OK, "append");
    char *room = ws__buffer_reserve(&memory, &b, 100);
    memcpy(room, "world", 5);
    ok(holds(b, "hello "), "reserved bytes do not count");
    ws__buffer_commit(b, 5);
    ok(holds(b, "hello world"), "committed ones do");
    ws__buffer_consume(b, 6);
    ok(holds(b, "world"), "consume takes from the front");
    size_t capacity = b->capacity;
    ws__buffer_consume(b, 5);
    ok(b->start == 0 && b->end == 0 && b->capacity == capacity,
       "consuming the rest rewinds and keeps the block");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "queue");
}

/* A block of exactly 100 bytes that is full; the first `consumed` are done with. */
static struct ws__buffer *hundred(struct ws__memory *memory, size_t consumed)
{
    struct ws__buffer *b = NULL;
    char bytes[100];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)('a' + i % 26);
    ws__buffer_append(memory, &b, bytes, sizeof bytes);
    ws__buffer_fit(memory, &b);
    ws__buffer_consume(b, consumed);
    return b;
}

static void test_reuse(void)
{
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 0);
    struct ws__buffer *b = hundred(&memory, 50), *before = b;
    size_t calls = heap.calls;
    char *room = ws__buffer_reserve(&memory, &b, 50);
    ok(b == before && heap.calls == calls && room == b->bytes + 50 && b->start == 0 &&
           b->bytes[0] == 'a' + 50 % 26, "half of the block consumed: it is reused");
    ws__buffer_free(&memory, &b);

    b = hundred(&memory, 49);
    before = b;
    calls = heap.calls;
    room = ws__buffer_reserve(&memory, &b, 16);
    ok(b == before && heap.calls == calls && room == b->bytes + 51 && b->start == 0 &&
           b->bytes[0] == 'a' + 49 % 26, "so it is where a third of it would still be free");
    ws__buffer_free(&memory, &b);

    b = hundred(&memory, 49);
    room = ws__buffer_reserve(&memory, &b, 30);
    ok(room == b->bytes + 51 && b->start == 0 && b->bytes[0] == 'a' + 49 % 26 &&
           b->capacity == 121, "less: it grows to half as much again as is needed");
    ws__buffer_free(&memory, &b);

    b = hundred(&memory, 50);
    room = ws__buffer_reserve(&memory, &b, 51);
    ok(room == b->bytes + 50 && b->capacity >= 150, "so it does when the front is not enough");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "reuse");
}

static void test_growth(void)
{
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *b = NULL;
    start(&memory, &heap, 0);
    for (int i = 0; i < 1000000; i++)
        ws__buffer_append(&memory, &b, "x", 1);
    ok(heap.calls < 40, "a million appends, %zu allocations", heap.calls);
    ok(memory.used <= 1500000 + 100, "and at most half of it unused");
    ws__buffer_free(&memory, &b);
    ws__buffer_reserve(&memory, &b, 1);
    ok(memory.used <= 64, "the smallest block has 64 bytes");
    ws__buffer_free(&memory, &b);
    ws__buffer_reserve(&memory, &b, 10000);
    is_int((long long)memory.used, 10000 + (long long)sizeof *b, "a large first block is exact");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "growth");
}

/* A queue that always holds `most` bytes, and from which less than half is taken at a time: what is
 * consumed must never make the block grow. */
static void test_steady_queue(void)
{
    enum { MOST = 65536 };
    static char bytes[MOST];
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *b = NULL;
    size_t largest = 0;
    start(&memory, &heap, 0);
    for (size_t part = 1; part < MOST; part += part / 2 + 1)
        for (int i = 0; i < 100; i++) {
            ws__buffer_append(&memory, &b, bytes, MOST - ws__buffer_length(b));
            largest = memory.used > largest ? memory.used : largest;
            ws__buffer_consume(b, part);
        }
    ok(largest <= MOST / 2 * 3 + sizeof *b, "a queue of %d bytes takes 1.5 of that: %zu",
       (int)MOST, largest);
    ok(heap.calls < 20, "and is seldom moved to another block");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "a steady queue");
}

static void test_sizes_that_overflow(void)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 24, SIZE_MAX - 99, SIZE_MAX / 2 + 1,
                                   SIZE_MAX / 2, SIZE_MAX / 2 - 24, SIZE_MAX / 2 - 200,
                                   SIZE_MAX / 3};
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *none = NULL;
    start(&memory, &heap, 0);
    struct ws__buffer *b = hundred(&memory, 10), *before = b;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ok(!ws__buffer_reserve(&memory, &b, sizes[i]) && b == before && b->start == 10 &&
               b->end == 100, "no room for %#zx bytes, nothing changed", sizes[i]);
        ok(!ws__buffer_reserve(&memory, &none, sizes[i]) && !none, "nor in an empty queue");
    }
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "overflow");
}

/* No machine has a block this large, so that its size is only claimed. */
static void test_huge_block(void)
{
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 0);
    struct ws__buffer *b = hundred(&memory, 0);
    b->capacity = b->end = SIZE_MAX / 5 * 2;
    ok(!ws__buffer_reserve(&memory, &b, 1) && heap.largest == SIZE_MAX / 2,
       "half as much again ends at half of the address space");
    b->capacity = b->end = 100;
    heap.wrong = false;
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "huge block");
}

static void test_limit(void)
{
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 0);
    struct ws__buffer *b = hundred(&memory, 40), *before = b;
    memory.limit = memory.used + 20;
    ok(ws__buffer_reserve(&memory, &b, 55) && b->capacity == 115,
       "near the limit the block grows to what is needed");
    ok(!ws__buffer_reserve(&memory, &b, 100), "not above it");
    is_int(ws__buffer_append(&memory, &b, memory.allocator.context, 100), WS_ENOMEM, "append");
    ok(ws__buffer_length(b) == 60 && *ws__buffer_data(b) == 'a' + 40 % 26, "nothing is lost");
    ws__buffer_free(&memory, &b);

    b = hundred(&memory, 40);
    before = b;
    memory.limit = memory.used;
    ok(ws__buffer_reserve(&memory, &b, 40) && b == before && b->start == 0 &&
           b->bytes[0] == 'a' + 40 % 26, "at the limit a consumed front of any size is reused");
    ok(!ws__buffer_reserve(&memory, &b, 41) && b == before, "as far as it goes");
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "limit");
}

static void test_fit(void)
{
    struct heap heap;
    struct ws__memory memory;
    start(&memory, &heap, 0);
    struct ws__buffer *b = hundred(&memory, 90);
    ws__buffer_fit(&memory, &b);
    ok(b->capacity == 10 && memory.used == sizeof *b + 10 && b->bytes[9] == 'a' + 99 % 26,
       "fit moves to the front and gives the rest back");
    size_t calls = heap.calls;
    ws__buffer_fit(&memory, &b);
    ok(heap.calls == calls, "nothing to give back, nothing done");
    ws__buffer_consume(b, 1);
    heap.fail_from = 1;
    ws__buffer_fit(&memory, &b);
    ok(ws__buffer_length(b) == 9 && b->capacity == 10, "a failed shrink keeps the block");
    ws__buffer_consume(b, 9);
    ws__buffer_fit(&memory, &b);
    ok(!b, "nothing queued: the block is freed");
    finish(&memory, &heap, "fit");
}

static unsigned pick(unsigned below)
{
    static uint32_t x = 2463534242u;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x % below;
}

struct model {
    char bytes[1 << 16];
    size_t length;
};

static void append_random(struct ws__memory *memory, struct ws__buffer **b, struct model *model)
{
    char bytes[300];
    size_t n = pick(pick(4) ? 40 : sizeof bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)pick(256);
    if (model->length + n > sizeof model->bytes || ws__buffer_append(memory, b, bytes, n))
        return;
    memcpy(model->bytes + model->length, bytes, n);
    model->length += n;
}

static void consume_random(struct ws__buffer *b, struct model *model)
{
    size_t n = pick(10) ? pick((unsigned)model->length + 1) : model->length;
    ws__buffer_consume(b, n);
    model->length -= n;
    memmove(model->bytes, model->bytes + n, model->length);
}

static bool agrees(const struct ws__memory *memory, struct ws__buffer *b, const struct model *model)
{
    size_t held = b ? sizeof *b + b->capacity : 0;
    if (ws__buffer_length(b) != model->length || memory->used != held)
        return false;
    return !model->length || (b->end <= b->capacity &&
                              !memcmp(ws__buffer_data(b), model->bytes, model->length));
}

static void test_random(size_t limit)
{
    static struct model model;
    struct heap heap;
    struct ws__memory memory;
    struct ws__buffer *b = NULL;
    bool good = true;
    start(&memory, &heap, limit);
    model.length = 0;
    for (int i = 0; i < 100000 && good; i++) {
        unsigned what = pick(100);
        heap.fail_from = pick(20) ? 0 : 1;
        if (what < 60)
            append_random(&memory, &b, &model);
        else if (what < 90)
            consume_random(b, &model);
        else
            ws__buffer_fit(&memory, &b);
        good = agrees(&memory, b, &model);
    }
    ok(good, "100,000 random steps equal a plain array, limit %zu", limit);
    ws__buffer_free(&memory, &b);
    finish(&memory, &heap, "random");
}

static void cases(void)
{
    CASE(test_memory());
    CASE(test_memory_failure());
    CASE(test_default_allocator());
    CASE(test_null());
    CASE(test_queue());
    CASE(test_reuse());
    CASE(test_growth());
    CASE(test_steady_queue());
    CASE(test_sizes_that_overflow());
    CASE(test_huge_block());
    CASE(test_limit());
    CASE(test_fit());
    CASE(test_random(0));
    CASE(test_random(400));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
