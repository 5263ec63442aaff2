/* SPDX-License-Identifier: MIT */
/*
 * admit.c: what stands between accept and a request, where a server has limits for each address
 * (quota.c) or trusts proxies (forwarded.c, proxy.c).
 */
#include "admit.h"
#include "forwarded.h"
#include "quota.h"
#include "proxy.h"
#include "respond.h"

enum { REFUSING_MAX = 64 }; /* connections that are being refused with a response */

void ws__admit_refuse(ws_conn *c, int status, const char *why)
{
    static const char retry[] = "Retry-After: 1\r\n";
    ws_request *r = c->request;
    if (!r && (r = ws__request_new(c)))
        ws__request_forget_head(r);
    if (r) {
        ws__buffer_append(&c->stream.hub->memory, &r->fields, retry, sizeof retry - 1);
        ws__respond_refuse(r, status, why, false);
    } else {
        ws__stream_drop(&c->stream, "out of memory", false);
    }
}

/* The log function comes last: it may do anything. */
static void turn_away(ws_conn *c, int status, const char *why)
{
    struct ws__hub *hub = c->stream.hub;
    const struct ws__address peer = c->stream.peer;
    hub->stats.limited++;
    ws__admit_refuse(c, status, why);
    if (ws__quota_may_log(hub->quota, &peer, hub->loop.now)) {
        char text[WS__NET_PLACE_SIZE];
        ws__net_address_text(&peer, text, sizeof text);
        ws__hub_log(hub, WS_LOG_WARNING, "%s: %s", why, text);
    }
}

static bool is_exempt(const struct ws__hub *hub, const struct ws__address *peer)
{
    return !peer->length || ws__proxies_trust(hub->proxies, peer);
}

/* Returns false if the address has too many connections. */
static bool count(ws_conn *c)
{
    struct ws__quota *quota = c->stream.hub->quota;
    if (!quota->max_connections || c->counted)
        return true;
    c->counted = ws__quota_enter(quota, &c->stream.peer);
    return c->counted;
}

static const char too_many[] = "too many connections from one address";

void ws__admit_connection(ws_conn *c)
{
    struct ws__hub *hub = c->stream.hub;
    if (!hub->quota || is_exempt(hub, &c->stream.peer) || count(c))
        return;
    if (hub->quota->refusing < REFUSING_MAX) {
        hub->quota->refusing++;
        c->refused = true;
        turn_away(c, 503, too_many);
    } else {
        hub->stats.limited++;
        ws__stream_drop(&c->stream, too_many, false);
        ws__hub_log_refusal(hub, &c->stream.peer, too_many);
    }
}

bool ws__admit_header(ws_conn *c, struct ws__input *in)
{
    struct ws__stream *s = &c->stream;
    struct ws__address peer = s->peer;
    const int size = in->length ? ws__proxy_parse(in->data, in->length, &peer) : 0;
    if (size < 0) {
        char text[WS__NET_PLACE_SIZE];
        ws__net_endpoint_text(&s->peer, text);
        ws__stream_drop(s, "no PROXY header", false);
        ws__hub_log(s->hub, WS_LOG_DEBUG, "no valid PROXY header from %s", text);
    }
    if (size <= 0)
        return false;
    in->data += size;
    in->length -= (size_t)size;
    s->peer = peer;
    s->count = WS__FIRST_REQUEST;
    ws__admit_connection(c);
    return ws__conn_is_http(c);
}

bool ws__admit_handshake(ws_request *r)
{
    ws_conn *c = r->conn;
    struct ws__stream *s = &c->stream;
    struct ws__hub *hub = s->hub;
    const bool believed = ws__forwarded_client(hub->proxies, &r->head, r->bytes, &s->peer);
    if (!hub->quota || (believed && is_exempt(hub, &s->peer)))
        return true;
    if (!ws__quota_pace(hub->quota, &s->peer, hub->loop.now))
        turn_away(c, 429, "too many opening handshakes from one address");
    else if (!count(c))
        turn_away(c, 503, too_many);
    else
        return true;
    return false;
}
