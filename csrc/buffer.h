/*
 * buffer.h: memory with a limit, and a byte queue in one heap block.
 * A leaf: knows nothing of sockets or protocols. An empty queue is a NULL pointer, so that an
 * idle connection pays eight bytes for each of its queues.
 */
#ifndef WS__BUFFER_H
#define WS__BUFFER_H

#include "ws.h"

/* Every byte that a server holds for its connections is counted here. */
struct ws__memory {
    ws_allocator allocator;
    size_t used, limit; /* limit 0: none */
};

void ws__memory_init(struct ws__memory *memory, const ws_allocator *allocator, size_t limit);
/* As ws_allocator.resize, counted; NULL above the limit (a block may always shrink). */
void *ws__memory_resize(struct ws__memory *memory, void *ptr, size_t old_size, size_t size);
/* Zeroed. */
void *ws__memory_zalloc(struct ws__memory *memory, size_t size);
void ws__memory_free(struct ws__memory *memory, void *ptr, size_t size);

struct ws__buffer {
    size_t capacity, start, end; /* bytes[start..end) are queued */
    char bytes[];
};

static inline size_t ws__buffer_length(const struct ws__buffer *b)
{
    return b ? b->end - b->start : 0;
}
static inline char *ws__buffer_data(struct ws__buffer *b)
{
    return b->bytes + b->start;
}

/* Where n more bytes fit as the queue is; NULL: they do not. */
static inline char *ws__buffer_room(struct ws__buffer *b, size_t n)
{
    return b && n <= b->capacity - b->end ? b->bytes + b->end : NULL;
}
/* Room for n more bytes behind the end: where to write, or NULL (*b is unchanged). May move *b.
 * A block that grows has half as much again as is needed, so that appending stays linear: the
 * capacity is at most 1.5 of the most that was queued and reserved at a time. */
char *ws__buffer_reserve(struct ws__memory *memory, struct ws__buffer **b, size_t n);
/* n of the reserved bytes were written. */
static inline void ws__buffer_commit(struct ws__buffer *b, size_t n)
{
    if (b)
        b->end += n;
}
/* reserve + copy + commit. WS_ENOMEM. */
int ws__buffer_append(struct ws__memory *memory, struct ws__buffer **b, const void *data, size_t n);
/* The first n queued bytes are done with. */
void ws__buffer_consume(struct ws__buffer *b, size_t n);
/* Gives back what is not used, best effort. */
void ws__buffer_fit(struct ws__memory *memory, struct ws__buffer **b);
/* Frees and sets *b to NULL. */
void ws__buffer_free(struct ws__memory *memory, struct ws__buffer **b);

#endif
