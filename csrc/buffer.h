/* SPDX-License-Identifier: MIT */
/*
 * buffer.h: counted memory with a limit, and a queue of bytes in one heap block.
 * A leaf: knows nothing of sockets or protocols. An empty queue is a NULL pointer, so an idle
 * connection spends eight bytes on each of its queues.
 */
#ifndef WS__BUFFER_H
#define WS__BUFFER_H

#include "ws.h"

/* Counts every byte that a server holds for its connections. */
struct ws__memory {
    ws_allocator allocator;
    size_t used;
    size_t limit; /* of `used`; 0 = no limit */
};

/* `allocator` (copied) may be NULL, or its `resize`: then the memory comes from the C library. */
void ws__memory_init(struct ws__memory *memory, const ws_allocator *allocator, size_t limit);

/* Does what ws_allocator.resize does, and counts. Returns NULL if out of memory or above the limit;
 * a block can always shrink. */
void *ws__memory_resize(struct ws__memory *memory, void *ptr, size_t old_size, size_t size);

/* Returns a zeroed block, or NULL if out of memory. */
void *ws__memory_zalloc(struct ws__memory *memory, size_t size);

/* Frees a block of `size` bytes. `ptr` may be NULL. */
void ws__memory_free(struct ws__memory *memory, void *ptr, size_t size);

/* A queue of bytes: bytes[start] to bytes[end - 1] are queued. */
struct ws__buffer {
    size_t capacity, start, end;
    char bytes[];
};

/* Returns the number of queued bytes. `b` may be NULL. */
static inline size_t ws__buffer_length(const struct ws__buffer *b)
{
    return b ? b->end - b->start : 0;
}

/* Returns the first queued byte. `b` must not be NULL. */
static inline char *ws__buffer_data(struct ws__buffer *b)
{
    return b->bytes + b->start;
}

/* Returns the address for n more bytes if they fit without a move, or NULL. `b` may be NULL. */
static inline char *ws__buffer_room(struct ws__buffer *b, size_t n)
{
    return b && n <= b->capacity - b->end ? b->bytes + b->end : NULL;
}

/* Makes room for n more bytes at the end, and returns its address. May move *b. Returns NULL if out
 * of memory; *b is unchanged then. A block that grows gets half as much again as is needed, so that
 * appending takes linear time: the capacity is at most 1.5 times the most bytes that were queued
 * and reserved at one time. */
char *ws__buffer_reserve(struct ws__memory *memory, struct ws__buffer **b, size_t n);

/* Does the same for a queue that will not hold more than `most` bytes: its block does not grow
 * beyond that. */
char *ws__buffer_reserve_most(struct ws__memory *memory, struct ws__buffer **b, size_t n,
                              size_t most);

/* Queues n of the reserved bytes, which the caller has written. `b` may be NULL if n is 0. */
static inline void ws__buffer_commit(struct ws__buffer *b, size_t n)
{
    if (b)
        b->end += n;
}

/* Queues a copy of data[n]. Returns WS_OK, or WS_ENOMEM; *b is unchanged then. */
int ws__buffer_append(struct ws__memory *memory, struct ws__buffer **b, const void *data, size_t n);

/* Removes the first n queued bytes, or all if there are fewer. `b` may be NULL. */
void ws__buffer_consume(struct ws__buffer *b, size_t n);

/* Shrinks the block to the queued bytes, if the allocator can. */
void ws__buffer_fit(struct ws__memory *memory, struct ws__buffer **b);

/* Frees the queue and sets *b to NULL. */
void ws__buffer_free(struct ws__memory *memory, struct ws__buffer **b);

/* Bytes that were received, borrowed. Whoever handles some of them moves `data` past them; they may
 * be written to. */
struct ws__input {
    char *data;
    size_t length;
};

#endif
