/* SPDX-License-Identifier: MIT */
/*
 * source.c: content of a response that is sent from where it lies.
 */
#include "source.h"

enum { TURN_CONTENT = 256 * 1024 }; /* bytes of one stream in one turn */

enum ws__source_result ws__source_send(struct ws__source *source, struct ws__stream *s)
{
    const size_t n = source->left < TURN_CONTENT ? (size_t)source->left : TURN_CONTENT;
    ssize_t sent;
    if (source->bytes)
        sent = (ssize_t)ws__stream_offer(s, source->bytes + source->offset, n);
    else
        sent = ws__stream_offer_file(s, source->fd, source->offset, n);
    if (sent < 0)
        return WS__SOURCE_FAILED;
    source->offset += (uint64_t)sent;
    source->left -= (uint64_t)sent;
    if (!source->left)
        return WS__SOURCE_END;
    s->drain_due = true;
    if (!s->blocked) /* others come first */
        ws__stream_make_ready(s);
    return WS__SOURCE_MORE;
}

void ws__source_close(struct ws__source *source)
{
    if (source->open && !source->bytes)
        ws__net_close(source->fd);
    source->open = false;
}
