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

#endif
