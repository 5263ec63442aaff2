/* SPDX-License-Identifier: MIT */
/*
 * request.h: one HTTP request: what was parsed of it, and how far it has got. In this order, each
 * may call those before it: source.c (content that is not copied), request.c (the data), methods.c
 * (handlers), respond.c (responses and the 101), answer.c (responses in parts), ending.c (requests
 * that get no answer), upload.c (bodies), serve.c (the HTTP protocol of a stream).
 *
 *      first byte           whole head           ws_request_defer
 *     ───────────▶ READING ───────────▶ HANDLING ────────────────▶ DEFERRED
 *                     │                  │ └─────────▶ SENDING ◀──────┤  a response in parts
 *                     └──────────────────┴──────────▶ ANSWERED ◀──────┘
 *
 * ANSWERED also means: given up, because the peer is gone or was dropped. A request whose body has
 * not arrived completely then stays until that is discarded.
 */
#ifndef WS__REQUEST_H
#define WS__REQUEST_H

#include "body.h"
#include "route.h"
#include "source.h"

enum ws__request_state {
    WS__REQUEST_READING,
    WS__REQUEST_HANDLING,
    WS__REQUEST_DEFERRED,
    WS__REQUEST_SENDING,
    WS__REQUEST_ANSWERED
};

/* A response in parts (answer.c). */
struct ws__answer {
    uint64_t left; /* bytes of content that were announced and not given yet, WS_UNKNOWN_LENGTH */
    uint64_t sent; /* bytes of content that were given */
    void (*on_writable)(ws_request *request, void *user);
    void *writable_user;
    struct ws__source source; /* open: the content, of which the application gives none */
    int status;
    bool chunked;
    bool silent; /* the content is not sent */
    bool keep;   /* the head says that the connection persists */
};

enum { WS__DISCARD_LIMIT = 256 * 1024 }; /* bytes of a body that are read for nothing */

/* What comes next on a stream that speaks HTTP: values of ws__stream.count. */
enum { WS__FIRST_REQUEST, WS__LATER_REQUEST, WS__PROXY_HEADER };

/* What is used most comes first, see struct ws__hub. */
struct ws_request {
    ws_conn *conn;
    const struct ws__target *target; /* the route, once it is found */
    const char *pattern;
    const char *bytes; /* the head: in the receive buffer, or `copy` */
    size_t length;
    char *copy;                /* after ws_request_defer */
    struct ws__buffer *fields; /* of ws_request_add_header */
    void (*on_body)(ws_request *request, const char *data, size_t length, bool last, void *user);
    enum ws__request_state state;
    uint16_t refusal; /* the status that the library answers with, after on_aborted; or 0 */
    bool in_use; /* by a callback, after which it is freed */
    bool is_upgrade, no_extensions;
    bool last;             /* of its connection: ws_request_close_after */
    bool expects_continue; /* and was not sent it; the client may wait for it with the body */
    bool followed;         /* by bytes that arrived together with its head */
    bool body_paused;
    bool timing_body; /* body_timeout runs */
    bool discarding; /* it is answered, and the rest of the body makes way for the next request */
    struct ws__body body; /* what has arrived of it */
    struct ws__answer answer;
    struct ws__http_head head; /* its table of fields lies after the request, in the same block */
    struct ws__match match;
    void (*on_aborted)(ws_request *request, void *user);
    void *aborted_user;
    ws_request **place; /* of ws_request_track, or NULL */
    void *body_user;
    uint64_t max_size; /* of the body, as ws_request_read_body was told */
    /* Of body_timeout, which a pause holds: when it went on last, and nanoseconds before that. */
    uint64_t since, spent;
    uint32_t progress;  /* bytes of the body since its time was renewed */
    uint32_t discarded; /* bytes of the body since the request was answered */
    const char *selected; /* subprotocol of the 101 */
    size_t selected_length;
};

/* These three say what the fields say. With -DWS_NO_HTTP that is always false, and the compiler
 * leaves out what follows from it. */
static inline bool ws__request_is_sending(const ws_request *r)
{
    return WS__HTTP_AVAILABLE && r->state == WS__REQUEST_SENDING;
}

static inline bool ws__request_is_discarding(const ws_request *r)
{
    return WS__HTTP_AVAILABLE && r->discarding;
}

static inline bool ws__request_has_source(const ws_request *r)
{
    return WS__HTTP_AVAILABLE && r->answer.source.open;
}

/* Returns NULL if out of memory. The request is the one of its connection. */
ws_request *ws__request_new(ws_conn *c);
/* Frees a request once it is answered and not in use; does nothing until then. */
void ws__request_free(ws_request *r);
void ws__request_set_state(ws_request *r, enum ws__request_state state);
/* Tells the stream what may be read now. To be called after changes of the body. */
void ws__request_watch_body(ws_request *r);
/* Starts the timer for what a request that is not answered waits for: its body, the answer, or a
 * client that takes no more of it. It does not run while it is the application that is waited for,
 * which has paused the body or begun the answer. */
void ws__request_set_timer(ws_request *r);
/* The time for the body starts again: enough of it has arrived. */
void ws__request_renew_body_time(ws_request *r);
/* True if more than body_timeout has passed, pauses not counted, though the timer, which starts
 * again after each pause, has not expired. */
bool ws__request_is_overdue(const ws_request *r);
/* Copies the head, so that the request stays valid after its handler. Returns WS_ENOMEM if out of
 * memory. */
int ws__request_keep(ws_request *r);
/* The request is answered, and the connection persists: what is left of the body is discarded. */
void ws__request_discard_body(ws_request *r);
/* Empties a head that is incomplete or malformed, so that nothing of it is looked at. */
void ws__request_forget_head(ws_request *r);
bool ws__request_method_is(const ws_request *r, const char *method);
/* True if the connection can go on after the answer: the rest of the body is not too long. */
bool ws__request_keeps_alive(const ws_request *r);

#endif
