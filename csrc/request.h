/*
 * request.h: one HTTP request: what was parsed of it, and how far it has got. In this order, each
 * may call those before it: request.c (the data), respond.c (responses and the 101), serve.c (the
 * HTTP protocol of a stream: reading and routing requests).
 *
 *      first byte           whole head           ws_request_defer
 *     ───────────▶ READING ───────────▶ HANDLING ────────────────▶ DEFERRED
 *                     │                    │                          │
 *                     └────────────────────┴────────────▶ ANSWERED ◀──┘
 *
 * ANSWERED also means: given up, because the peer is gone or was dropped.
 */
#ifndef WS__REQUEST_H
#define WS__REQUEST_H

#include "http.h"
#include "route.h"

enum ws__request_state {
    WS__REQUEST_READING,
    WS__REQUEST_HANDLING,
    WS__REQUEST_DEFERRED,
    WS__REQUEST_ANSWERED
};

struct ws_request {
    ws_conn *conn;
    const struct ws__target *target; /* the route, once it is found */
    const char *pattern;
    struct ws__match match;
    const char *bytes; /* the head: in the receive buffer, or `copy` */
    size_t length;
    char *copy;                /* after ws_request_defer */
    struct ws__buffer *fields; /* of ws_request_add_header */
    void (*on_aborted)(ws_request *request, void *user);
    void *aborted_user;
    const char *selected; /* subprotocol of the 101 */
    size_t selected_length;
    enum ws__request_state state;
    bool in_use; /* by a callback, after which it is freed */
    bool is_upgrade, has_body, no_extensions;
    bool last; /* of its connection: ws_request_close_after */
    struct ws__http_head head; /* its table of fields lies after the request, in the same block */
};

/* Returns NULL if out of memory. The request is the one of its connection. */
ws_request *ws__request_new(ws_conn *c);
/* Frees a request once it is answered and not in use; does nothing until then. */
void ws__request_free(ws_request *r);
void ws__request_set_state(ws_request *r, enum ws__request_state state);
/* Empties a head that is incomplete or malformed, so that nothing of it is looked at. */
void ws__request_forget_head(ws_request *r);
bool ws__request_method_is(const ws_request *r, const char *method);
bool ws__request_keeps_alive(const ws_request *r);

#endif
