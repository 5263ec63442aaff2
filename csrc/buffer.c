/* SPDX-License-Identifier: MIT */
/*
 * buffer.c: the counted allocator and the queue of bytes.
 * Every size is checked before it is added, because lengths come from peers. Knows nothing of
 * sockets or of what the bytes mean.
 */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_CAPACITY = 64 - sizeof(struct ws__buffer) };

/* With this limit, neither half as much again nor the head of the block can overflow. */
static const size_t max_capacity = SIZE_MAX / 2 - sizeof(struct ws__buffer);

static void *resize_default(void *context, void *ptr, size_t old_size, size_t size)
{
    (void)context;
    (void)old_size;
    if (size)
        return realloc(ptr, size);
    free(ptr);
    return NULL;
}

void ws__memory_init(struct ws__memory *memory, const ws_allocator *allocator, size_t limit)
{
    *memory = (struct ws__memory){.limit = limit};
    if (allocator)
        memory->allocator = *allocator;
    if (!memory->allocator.resize)
        memory->allocator.resize = resize_default;
}

static bool may_grow(const struct ws__memory *memory, size_t growth)
{
    size_t limit = memory->limit ? memory->limit : SIZE_MAX;
    return memory->used <= limit && growth <= limit - memory->used;
}

void *ws__memory_resize(struct ws__memory *memory, void *ptr, size_t old_size, size_t size)
{
    size_t held = ptr ? old_size : 0;
    if (size > held && !may_grow(memory, size - held))
        return NULL;
    if (!ptr && !size)
        return NULL;
    void *block = memory->allocator.resize(memory->allocator.context, ptr, held, size);
    if (!block && size)
        return NULL;
    memory->used = (memory->used > held ? memory->used - held : 0) + size;
    return block;
}

void *ws__memory_zalloc(struct ws__memory *memory, size_t size)
{
    void *block = ws__memory_resize(memory, NULL, 0, size);
    return block ? memset(block, 0, size) : NULL;
}

void ws__memory_free(struct ws__memory *memory, void *ptr, size_t size)
{
    ws__memory_resize(memory, ptr, size, 0);
}

static size_t block_size(const struct ws__buffer *b)
{
    return b ? sizeof *b + b->capacity : 0;
}

/* Gives the block another capacity, of at least old->end. Returns NULL if out of memory; the old
 * block is unchanged then. */
__attribute__((noinline)) static struct ws__buffer *
resize_block(struct ws__memory *memory, struct ws__buffer *old, size_t capacity)
{
    struct ws__buffer *b;
    b = ws__memory_resize(memory, old, block_size(old), sizeof *b + capacity);
    if (!b)
        return NULL;
    if (!old)
        b->start = b->end = 0;
    b->capacity = capacity;
    return b;
}

static void move_to_front(struct ws__buffer *b)
{
    size_t length = b->end - b->start;
    if (b->start)
        memmove(b->bytes, b->bytes + b->start, length);
    b->start = 0;
    b->end = length;
}

/* Grows the block to half as much again as `need`, but not beyond `most`, and only to `need` if the
 * limit does not allow more. The new capacity follows from what is queued, never from the old
 * capacity: otherwise the block would grow without end if the queue is always refilled before it is
 * empty. */
static bool grow(struct ws__memory *memory, struct ws__buffer **b, size_t need, size_t most)
{
    size_t capacity = *b ? need + need / 2 : MIN_CAPACITY;
    if (capacity > most)
        capacity = most;
    if (capacity < need)
        capacity = need;
    struct ws__buffer *grown = resize_block(memory, *b, capacity);
    if (!grown && need < capacity && need > (*b ? (*b)->capacity : 0))
        grown = resize_block(memory, *b, need);
    if (grown)
        *b = grown;
    return grown;
}

/* Returns true if the queued bytes can move to the front so that `need` bytes fit. The move must
 * make room in proportion to what is moved: otherwise appending would not take linear time. */
static bool may_move(const struct ws__buffer *b, size_t need)
{
    bool half_consumed = b->start >= b->capacity - b->start;
    return need <= (half_consumed ? b->capacity : b->capacity - b->capacity / 3);
}

__attribute__((cold)) char *
ws__buffer_reserve(struct ws__memory *memory, struct ws__buffer **b, size_t n)
{
    return ws__buffer_reserve_most(memory, b, n, max_capacity);
}

__attribute__((cold)) char *
ws__buffer_reserve_most(struct ws__memory *memory, struct ws__buffer **b, size_t n, size_t most)
{
    size_t length = ws__buffer_length(*b);
    char *room = ws__buffer_room(*b, n);
    if (room)
        return room;
    if (n > max_capacity - length)
        return NULL;
    size_t need = length + n;
    bool fits = *b && need <= (*b)->capacity;
    if (!(*b && may_move(*b, need)) && !grow(memory, b, need, most) && !fits)
        return NULL;
    move_to_front(*b);
    return (*b)->bytes + (*b)->end;
}

int ws__buffer_append(struct ws__memory *memory, struct ws__buffer **b, const void *data, size_t n)
{
    if (!n)
        return WS_OK;
    char *out = ws__buffer_reserve(memory, b, n);
    if (!out)
        return WS_ENOMEM;
    memcpy(out, data, n);
    ws__buffer_commit(*b, n);
    return WS_OK;
}

void ws__buffer_consume(struct ws__buffer *b, size_t n)
{
    if (!b)
        return;
    if (n < b->end - b->start)
        b->start += n;
    else
        b->start = b->end = 0;
}

__attribute__((cold)) void ws__buffer_fit(struct ws__memory *memory, struct ws__buffer **b)
{
    size_t length = ws__buffer_length(*b);
    if (!length) {
        ws__buffer_free(memory, b);
        return;
    }
    move_to_front(*b);
    struct ws__buffer *smaller = length < (*b)->capacity ? resize_block(memory, *b, length) : NULL;
    if (smaller)
        *b = smaller;
}

void ws__buffer_free(struct ws__memory *memory, struct ws__buffer **b)
{
    ws__memory_free(memory, *b, block_size(*b));
    *b = NULL;
}
