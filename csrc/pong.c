/* SPDX-License-Identifier: MIT */
/*
 * pong.c: taking answers to Pings out of the queue that a newer one replaces. The queue consists of
 * whole frames from the oldest Pong on, which is the stream's mark; what has left the queue is
 * still there in front of it.
 */
#include "pong.h"
#include "frame.h"

#include <string.h>

/* Bytes of the frame, which is whole and one of ours. */
static size_t frame_size(const char *frame, size_t available)
{
    struct ws__frame header;
    int known;
    int n = ws__frame_decode(&header, (const uint8_t *)frame, available, &known);
    return (size_t)n + (size_t)header.length;
}

/* A Pong that has not begun to leave. */
static bool waits(struct ws__buffer *queue, const char *frame)
{
    return (frame[0] & WS__FRAME_OPCODE) == WS_PONG && frame >= ws__buffer_data(queue);
}

static void take_out_marked(struct ws__stream *s)
{
    struct ws__buffer *b = s->out;
    char *pong = b->bytes + b->end - s->mark;
    size_t length = frame_size(pong, s->mark);
    memmove(pong, pong + length, s->mark - length);
    b->end -= length;
}

/* Returns NULL if no Pong between `from` and `end` waits. */
static char *find_newest(struct ws__buffer *queue, char *from, const char *end)
{
    char *newest = NULL;
    for (; from < end; from += frame_size(from, (size_t)(end - from)))
        if (waits(queue, from))
            newest = from;
    return newest;
}

/* Takes all Pongs that wait out of the queue, except for the newest, and marks that one. */
static void keep_newest(struct ws__stream *s)
{
    struct ws__buffer *b = s->out;
    char *end = b->bytes + b->end, *from = end - s->mark, *to = from;
    char *newest = find_newest(b, from, end);
    size_t n;
    s->mark = newest ? (uint32_t)(end - newest) : 0;
    if (!newest)
        return;
    for (; from < newest; from += n) {
        n = frame_size(from, (size_t)(newest - from));
        if (waits(b, from))
            continue;
        memmove(to, from, n);
        to += n;
    }
    memmove(to, newest, s->mark);
    b->end = (size_t)(to - b->bytes) + s->mark;
}

void ws__pong_queued(ws_conn *c, size_t size)
{
    struct ws__stream *s = &c->stream;
    size_t length = ws__buffer_length(s->out);
    if (!length)
        return;
    if (s->blocked && s->mark) { /* there is one at most */
        if (s->mark <= length)
            take_out_marked(s);
        s->mark = 0;
    }
    c->pongs = s->mark;
    if (!c->pongs)
        s->mark = (uint32_t)size;
}

void ws__pong_left(ws_conn *c)
{
    if (c->pongs)
        keep_newest(&c->stream);
    c->pongs = false;
}
