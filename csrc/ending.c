/* SPDX-License-Identifier: MIT */
/*
 * ending.c: how requests end that get no response of the application, or not all of it, and what
 * becomes of their streams. RFC 9112 section 9.6 (closing without losing what was sent).
 */
#include "ending.h"
#include "respond.h"

void ws__ending_abort(ws_request *r)
{
    const enum ws__request_state state = r->state;
    const bool outer = r->in_use;
    r->discarding = false;
    ws__request_set_state(r, WS__REQUEST_ANSWERED);
    r->in_use = true;
    if (state == WS__REQUEST_DEFERRED || state == WS__REQUEST_SENDING)
        WS__CALL(r->conn->stream.hub, r->on_aborted, r, r->aborted_user);
    if (state == WS__REQUEST_SENDING)
        ws__respond_report(r);
    r->in_use = outer;
}

void ws__ending_refuse(ws_request *r, int status, const char *why)
{
    ws_conn *c = r->conn;
    const bool begun = ws__request_is_sending(r);
    if (r->state == WS__REQUEST_READING)
        ws__request_forget_head(r);
    r->refusal = begun ? 0 : (uint16_t)status;
    ws__ending_abort(r);
    ws__buffer_free(&c->stream.hub->memory, &r->fields); /* they described another response */
    if (ws__conn_is_http(c) && !begun) {
        ws__respond_refuse(r, status, why, false);
        return;
    }
    if (ws__stream_is_filtered(&c->stream) && r->answer.left == WS_UNKNOWN_LENGTH &&
        !r->answer.chunked) {
        ws__respond_abort(r); /* its end is that of the connection */
        return;
    }
    ws__stream_linger(&c->stream, c->stream.hub->linger_queue);
    ws__request_free(r);
}

void ws__ending_discarded(ws_request *r, bool keep)
{
    ws_conn *c = r->conn;
    struct ws__stream *s = &c->stream;
    r->discarding = false;
    if (keep)
        ws__stream_set_timer(s, s->hub->keep_alive_queue);
    else
        ws__stream_linger(s, s->hub->linger_queue);
    ws__request_free(r);
    if (keep && s->hub->draining)
        ws__ending_shut_down(c);
}

void ws__ending_shut_down(ws_conn *c)
{
    struct ws__stream *s = &c->stream;
    if (c->request && c->request->in_use)
        return; /* until its handler has returned */
    if (c->request && ws__request_has_source(c->request))
        return; /* until it has ended, or the time of the shutdown */
    if (c->request && ws__request_is_discarding(c->request))
        ws__ending_discarded(c->request, false);
    else if (c->request)
        ws__ending_refuse(c->request, 503, NULL);
    else if (ws__buffer_length(s->out) || s->blocked) /* a filter may have kept all of it */
        ws__stream_linger(s, s->hub->linger_queue);
    else
        ws__stream_drop(s, "shutdown", false);
}

void ws__ending_after_callback(ws_request *r)
{
    ws_conn *c = r->conn;
    const struct ws__hub *hub = c->stream.hub;
    r->in_use = false;
    ws__request_free(r);
    bool over = hub->stopping || (hub->draining && !c->request);
    if (over && ws__conn_is_http(c))
        ws__ending_shut_down(c);
}

/* ---- ws_http.h ---- */

int ws_request_abort(ws_request *request)
{
    const bool begun = ws__request_is_sending(request), outer = request->in_use;
    if (request->state == WS__REQUEST_ANSWERED || ws__request_has_source(request))
        return WS_ECLOSED;
    ws__request_set_state(request, WS__REQUEST_ANSWERED);
    if (begun) {
        request->in_use = true;
        ws__respond_report(request);
        request->in_use = outer;
    }
    ws__respond_abort(request);
    return WS_OK;
}
