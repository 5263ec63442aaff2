/* SPDX-License-Identifier: MIT */
/*
 * conn.c: the data of a WebSocket connection: its state, what it holds, and what the application
 * may ask about it.
 */
#include "conn.h"
#include "quota.h"
#include "tls.h"

#include <stdio.h>
#include <string.h>

void ws__conn_set_state(ws_conn *c, enum ws__conn_state state)
{
    if (c->stream.phase == WS__CONN_OPEN && c->extra)
        ws__timer_stop(&c->extra->lifetime);
    c->stream.phase = (uint8_t)state;
}

struct ws__extra *ws__conn_extra(ws_conn *c)
{
    if (!c->extra)
        c->extra = ws__memory_zalloc(&c->stream.hub->memory, sizeof *c->extra);
    if (c->extra)
        c->extra->conn = c;
    return c->extra;
}

void ws__conn_release(struct ws__stream *stream)
{
    ws_conn *c = ws__conn_of(stream);
    struct ws__memory *memory = &stream->hub->memory;
    stream->hub->label_takers -= c->labels;
    ws__protocol_deinit(&c->protocol, memory);
    if (c->counted)
        ws__quota_leave(stream->hub->quota, &stream->peer);
    if (c->refused)
        stream->hub->quota->refusing--;
    if (!c->extra)
        return;
    ws__buffer_free(memory, &c->extra->held);
    ws__memory_free(memory, c->extra, sizeof *c->extra);
}

/* ---- ws.h ---- */

ws_conn_id ws_conn_get_id(const ws_conn *conn)
{
    return conn->stream.id;
}

ws_server *ws_conn_server(const ws_conn *conn)
{
    return conn->stream.hub->server;
}

void *ws_conn_user(const ws_conn *conn)
{
    return conn->user;
}

void ws_conn_set_user(ws_conn *conn, void *user)
{
    conn->user = user;
}

ws_request *ws_conn_request(const ws_conn *conn)
{
    const struct ws__hub *hub = conn->stream.hub;
    return conn == hub->opening ? hub->opening_request : NULL;
}

bool ws_conn_closed_by_peer(const ws_conn *conn)
{
    return conn->by_peer;
}

uint32_t ws_conn_latency(const ws_conn *conn)
{
    return conn->pulse.latency;
}

size_t ws_conn_compression(const ws_conn *conn, char *text, size_t size)
{
    char answer[WS__DEFLATE_ANSWER_MAX] = "";
    size_t length = conn->terms.server_bits ? ws__deflate_answer(&conn->terms, answer) : 0;
    if (size)
        snprintf(text, size, "%s", answer);
    return length;
}

size_t ws_conn_remote_address(const ws_conn *conn, char *text, size_t size)
{
    return ws__net_address_text(&conn->stream.peer, text, size);
}

size_t ws_conn_remote_address_bytes(const ws_conn *conn, uint8_t bytes[16])
{
    memcpy(bytes, conn->stream.peer.bytes, conn->stream.peer.length);
    return conn->stream.peer.length;
}

uint16_t ws_conn_remote_port(const ws_conn *conn)
{
    return conn->stream.peer.port;
}

const char *ws_conn_scheme(const ws_conn *conn)
{
    return conn->stream.peer.secure ? "wss" : "ws";
}

/* ---- ws_tls.h ---- */

void *ws_conn_tls(const ws_conn *conn)
{
    return ws__tls_session(&conn->stream);
}
