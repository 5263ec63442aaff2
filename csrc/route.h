/* SPDX-License-Identifier: MIT */
/*
 * route.h: what is registered for a path: WebSocket routes with their settings, HTTP routes with
 * their handlers.
 */
#ifndef WS__ROUTE_H
#define WS__ROUTE_H

#include "conn.h"

/* A route of ws_server_ws or ws_server_http; router.h keeps it with its pattern. */
struct ws__target {
    struct ws__settings settings;                     /* of a WebSocket route */
    void (*handler)(ws_request *request, void *user); /* of an HTTP route, else NULL */
    void *user;
    char *method;            /* of an HTTP route */
    const char *pattern;     /* of an HTTP route, with its own names of parameters */
    char *strings;           /* copies of all these texts */
    size_t strings_size;
    struct ws__target *next; /* another method of the same pattern */
};

/* For ws__router_deinit: `context` is the memory, `target` the first of a list. */
void ws__target_free(void *context, void *target);
/* Appends an Allow field (RFC 9110 10.2.1) that names the methods of all routes for a path, without
 * the one that is refused. Returns WS_ENOMEM if out of memory. */
int ws__route_allow(struct ws__hub *hub, const char *path, size_t length, const char *refused,
                    size_t refused_length, struct ws__buffer **fields);

#endif
