/* SPDX-License-Identifier: MIT */
/*
 * share.h: published frames, shared by their receivers. Every frame of a turn lies in
 * hub->published; a connection notes which range of it is to be sent after its own queue, and the
 * end of the turn writes queue and range in one call. Where the range would get a gap, where the
 * connection is sent something else, or where the kernel takes less, the bytes are copied to the
 * queue.
 */
#ifndef WS__SHARE_H
#define WS__SHARE_H

#include "conn.h"

/* How many bytes in hub->published are still to be sent to c. */
static inline uint32_t ws__share_length(const ws_conn *c)
{
    return c->extra ? c->extra->shared_to - c->extra->shared_from : 0;
}

/* Copies what is still shared to the queue: something else is about to follow it. */
void ws__share_queue(ws_conn *c);
/* Notes the range from..to of hub->published, for a connection that has c->extra and holds no
 * message back. Returns false if the range must be sent or queued at once. */
static inline bool ws__share_note(ws_conn *c, uint32_t from, uint32_t to)
{
    struct ws__extra *extra = c->extra;
    uint32_t shared = extra->shared_to - extra->shared_from;
    size_t amount = ws__buffer_length(c->stream.out) + shared + (to - from);
    if (c->stream.blocked || c->stream.broken || amount > ws__conn_settings(c)->cork_limit)
        return false;
    if (!shared || extra->shared_to != from) {
        ws__share_queue(c);
        extra->shared_from = from;
    }
    extra->shared_to = to;
    if (!c->sharing) {
        c->sharing = true;
        extra->next_sharing = c->stream.hub->sharing;
        c->stream.hub->sharing = extra;
    }
    return true;
}
/* Writes queue and range. */
void ws__share_send(ws_conn *c);
/* The range will not be sent. */
static inline void ws__share_forget(ws_conn *c)
{
    if (c->extra)
        c->extra->shared_from = c->extra->shared_to = 0;
}
/* Sends all ranges and empties hub->published: at the end of a turn, between turns at once, or when
 * it holds four times cork_size. */
void ws__share_flush(struct ws__hub *hub);

#endif
