/* SPDX-License-Identifier: MIT */
/*
 * close.c: the end of a connection: the closing handshake, and what the application learns of it.
 * RFC 6455 sections 5.5.1, 7.1.
 */
#include "close.h"
#include "inflate.h"
#include "publish.h"
#include "relay.h"
#include "send.h"
#include "share.h"
#include "utf8.h"

#include <string.h>

/* ---- reports ---- */

/* Codes from 3000 on (RFC 6455 7.4.2) share two counts: a peer may send any of them. */
static void count_code(ws_stats *stats, int code)
{
    int place = code < 3000 ? code - 1000 : 13 + code / 1000;
    stats->closed_with[place]++;
}

/* Runs on_close, once. The subscriptions end and the compression streams are freed with it (S42).
 * While on_close runs nothing is due, so that no handler runs twice. */
static void report_close(ws_conn *c, int code, const char *reason, size_t length)
{
    const ws_behavior *behavior = &ws__conn_settings(c)->behavior;
    struct ws__hub *hub = c->stream.hub;
    if (c->report != WS__REPORT_CLOSE)
        return;
    c->report = WS__REPORT_NONE;
    ws__inflate_forget(c);
    ws__publish_leave(c);
    hub->stats.closed++;
    hub->stats.open--;
    count_code(&hub->stats, code);
    if (behavior->user_is_place && c->user)
        *(ws_conn **)c->user = NULL;
    WS__CALL(hub, behavior->on_close, c, code, length ? reason : "", length, behavior->user);
    if (c->extra)
        ws__deflate_streams_deinit(&hub->deflate, &c->extra->streams);
    c->report = WS__REPORT_CLOSED;
}

/* Runs on_closed, once, after on_close. */
static void report_closed(ws_conn *c, bool clean, int code, const char *reason,
                          size_t length)
{
    const ws_behavior *behavior = &ws__conn_settings(c)->behavior;
    if (c->report != WS__REPORT_CLOSED)
        return;
    c->report = WS__REPORT_NONE;
    WS__CALL(c->stream.hub, behavior->on_closed, c, clean, code, length ? reason : "", length,
             behavior->user);
}

/* The end was begun here; a handler may have dropped the connection meanwhile. */
static void report_own_close(ws_conn *c, int code, const char *reason, size_t length)
{
    report_close(c, code, reason, length);
    if (c->stream.state == WS__STREAM_DEAD)
        report_closed(c, false, 0, NULL, 0);
}

/* ---- the closing handshake ---- */

/* RFC 6455 5.5.1: "When sending a Close frame in response, the endpoint typically echos the status
 * code it received." After our own Close only the peer's matters (RFC 6455 7.1.3, S26). */
void ws__close_on_frame(ws_conn *c, int code, const char *reason, size_t length)
{
    if (c->stream.phase == WS__CONN_OPEN) {
        c->by_peer = true;
        ws__send_close(c, code, NULL, 0);
    }
    ws__close_linger(c);
    report_close(c, code, reason, length);
    report_closed(c, true, code, reason, length);
}

void ws__close_fail(ws_conn *c, int code, const char *reason, size_t length)
{
    ws__send_close(c, code, reason, length);
    ws__close_linger(c);
    report_own_close(c, code, reason, length);
}

/* All of closing takes at most one close_timeout, which has begun if our Close was sent (C10). */
void ws__close_linger(ws_conn *c)
{
    bool begun = c->stream.phase == WS__CONN_CLOSING;
    if (c->stream.state != WS__STREAM_OPEN)
        return;
    ws__conn_set_state(c, WS__CONN_CLOSED);
    ws__stream_linger(&c->stream, begun ? NULL : ws__conn_settings(c)->close_queue);
}

/* RFC 6455 7.4.1: 1000 "indicates a normal closure, meaning that the purpose for which the
 * connection was established has been fulfilled." */
void ws__close_on_lifetime(struct ws__timer *lifetime)
{
    static const char reason[] = "please reconnect";
    const struct ws__extra *extra =
        (struct ws__extra *)(void *)((char *)lifetime - offsetof(struct ws__extra, lifetime));
    ws_conn_end(extra->conn, 1000, reason, sizeof reason - 1);
}

/* ---- for the stream ---- */

void ws__close_on_end(struct ws__stream *stream, const char *reason, bool by_peer)
{
    ws_conn *c = ws__conn_of(stream);
    c->by_peer = c->by_peer || (by_peer && c->stream.phase == WS__CONN_OPEN);
    ws__conn_set_state(c, WS__CONN_CLOSED);
    ws__share_forget(c);
    report_close(c, 1006, reason, strlen(reason));
    report_closed(c, false, 0, NULL, 0);
}

/* The peer has ended TCP without a Close. The queue is worth sending only if ours was sent. */
bool ws__close_on_eof(struct ws__stream *stream)
{
    ws_conn *c = ws__conn_of(stream);
    if (c->stream.phase == WS__CONN_OPEN)
        return false;
    ws__close_linger(c);
    return true;
}

void ws__close_end(struct ws__stream *stream, int code, const char *reason, size_t length)
{
    ws_conn_end(ws__conn_of(stream), code, reason, length);
}

/* ---- ws.h ---- */

/* 1005 stands for a Close without a code (RFC 6455 7.4.1). */
static bool can_close_with(int code, const char *reason, size_t length)
{
    if (!code || code == 1005)
        return !length;
    return ws__protocol_code_valid(code) && (!length || ws_utf8_valid(reason, length));
}

int ws_conn_end(ws_conn *conn, int code, const char *reason, size_t length)
{
    int sent = code ? code : 1005;
    if (!can_close_with(code, reason, length))
        return WS_EINVAL;
    if (conn->stream.phase != WS__CONN_OPEN)
        return WS_OK;
    length = ws__utf8_cut(reason, length, WS__CLOSE_REASON_MAX);
    ws__send_close(conn, sent, reason, length);
    ws__conn_set_state(conn, WS__CONN_CLOSING);
    ws__stream_set_timer(&conn->stream, ws__conn_settings(conn)->close_queue);
    ws__stream_resume(&conn->stream); /* for the peer's Close */
    report_own_close(conn, sent, reason, length);
    return WS_OK;
}

void ws_conn_close(ws_conn *conn)
{
    ws__stream_drop(&conn->stream, "closed by the server", false);
}

/* Handlers that run for one connection may end others, and change who is subscribed: a list of ids
 * is made first. */
static int end_topic(struct ws__hub *hub, const char *topic, size_t topic_length, int code,
                     const char *reason, size_t length, bool here)
{
    const struct ws__topic *found = ws__topics_find(&hub->topics, topic, topic_length);
    uint32_t count = found ? found->count : 0;
    int ended = 0;
    if (!WS__TOPICS_AVAILABLE)
        return WS_ENOTSUP;
    if (!can_close_with(code, reason, length))
        return WS_EINVAL;
    ws_conn_id *ids = ws__memory_resize(&hub->memory, NULL, 0, count * sizeof *ids);
    if (count && !ids)
        return WS_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = ws__publish_receiver(&found->members[i])->stream.id;
    if (hub->relaying && !here)
        ws__relay_end(hub, topic, topic_length, code, reason, length);
    for (uint32_t i = 0; i < count; i++) {
        struct ws__link *stream = ws__hub_find(hub, ids[i]);
        ws_conn *c = stream ? ws__conn_of(ws__stream_of_link(stream)) : NULL;
        if (!c || c->stream.phase != WS__CONN_OPEN)
            continue;
        ended++;
        ws_conn_end(c, code, reason, length);
    }
    ws__memory_free(&hub->memory, ids, count * sizeof *ids);
    return ended;
}

int ws_server_end_topic(ws_server *server, const char *topic, size_t topic_length, int code,
                        const char *reason, size_t length)
{
    return end_topic(ws__hub_of(server), topic, topic_length, code, reason, length, false);
}

int ws_server_end_topic_here(ws_server *server, const char *topic, size_t topic_length, int code,
                             const char *reason, size_t length)
{
    return end_topic(ws__hub_of(server), topic, topic_length, code, reason, length, true);
}
