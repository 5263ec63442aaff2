/* SPDX-License-Identifier: MIT */
/*
 * share.c: ranges of published frames on their way to the receivers.
 */
#include "share.h"
#ifndef WS_NO_TOPICS

void ws__share_queue(ws_conn *c)
{
    uint32_t n = ws__share_length(c);
    if (!n || c->stream.broken)
        return;
    const char *bytes = c->stream.hub->published->bytes + c->extra->shared_from;
    ws__share_forget(c);
    if (ws__stream_append(&c->stream, bytes, n, NULL, 0))
        ws__stream_break(&c->stream, true);
}

void ws__share_send(ws_conn *c)
{
    struct ws__stream *s = &c->stream;
    uint32_t n = ws__share_length(c);
    if (!n || s->blocked || s->broken)
        return;
    const char *bytes = s->hub->published->bytes + c->extra->shared_from;
    switch (ws__stream_write(s, bytes, n, "", 0)) {
    case WS__WRITTEN_NONE:
        ws__share_queue(c);
        break;
    case WS__WRITTEN_ALL:
    case WS__WRITTEN_PART:
        ws__share_forget(c);
        break;
    case WS__WRITTEN_BROKEN:
        break;
    }
}

void ws__share_flush(struct ws__hub *hub)
{
    struct ws__extra *extra = hub->sharing;
    hub->sharing = NULL;
    while (extra) {
        ws_conn *c = extra->conn;
        extra = extra->next_sharing;
        c->sharing = false;
        if (c->stream.corked)
            ws__share_queue(c);
        else
            ws__share_send(c);
        ws__share_forget(c); /* a broken stream still has its range */
    }
    if (hub->published && hub->published->capacity > hub->config.cork_size)
        ws__buffer_free(&hub->memory, &hub->published);
    else
        ws__buffer_consume(hub->published, ws__buffer_length(hub->published));
}

#endif
