/*
 * pong.c: which answers to Pings wait in the queue. All Pings are answered while the kernel takes
 * the answers; once it is full only the newest is kept (RFC 6455 5.5.3, F12), also of those that
 * were corked before that was known. The queue is send.c's; it consists of whole frames from the
 * oldest Pong on (ws_conn.pong_back), and what has left it is still there in front of it.
 */
#include "conn.h"
#include "frame.h"

#include <string.h>

/* Of a whole frame of ours. */
static size_t frame_size(const char *frame, size_t available)
{
    struct ws__frame header;
    int known;
    int n = ws__frame_decode(&header, (const uint8_t *)frame, available, &known);
    return (size_t)n + (size_t)header.length;
}

/* A Pong that has not begun to leave. */
static bool waits(const ws_conn *c, const char *frame)
{
    return (frame[0] & WS__FRAME_OPCODE) == WS_PONG && frame >= ws__buffer_data(c->out);
}

static void take_out(ws_conn *c)
{
    struct ws__buffer *b = c->out;
    char *pong = b->bytes + b->end - c->pong_back;
    size_t length = frame_size(pong, c->pong_back);
    memmove(pong, pong + length, c->pong_back - length);
    b->end -= length;
}

static char *newest_pong(const ws_conn *c, char *from, const char *end)
{
    char *newest = NULL;
    for (; from < end; from += frame_size(from, (size_t)(end - from)))
        if (waits(c, from))
            newest = from;
    return newest;
}

/* Takes all Pongs that wait out of the queue, but for the newest. */
static void thin(ws_conn *c)
{
    struct ws__buffer *b = c->out;
    char *end = b->bytes + b->end, *from = end - c->pong_back, *to = from;
    char *newest = newest_pong(c, from, end);
    size_t n;
    c->pongs = false;
    c->pong_back = newest ? (uint32_t)(end - newest) : 0;
    if (!newest)
        return;
    for (; from < newest; from += n) {
        n = frame_size(from, (size_t)(newest - from));
        if (waits(c, from))
            continue;
        memmove(to, from, n);
        to += n;
    }
    memmove(to, newest, c->pong_back);
    b->end = (size_t)(to - b->bytes) + c->pong_back;
}

void ws__pong_queued(ws_conn *c, size_t size)
{
    size_t length = ws__buffer_length(c->out);
    if (!length)
        return;
    if (c->blocked && c->pong_back) { /* there is one at most */
        if (c->pong_back <= length)
            take_out(c);
        c->pong_back = 0;
    }
    c->pongs = c->pong_back;
    if (!c->pongs)
        c->pong_back = (uint32_t)size;
}

void ws__pong_written(ws_conn *c)
{
    if (!ws__buffer_length(c->out))
        c->pong_back = 0;
    else if (c->pongs)
        thin(c);
}
