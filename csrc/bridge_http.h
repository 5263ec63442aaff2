/* SPDX-License-Identifier: MIT */
/*
 * bridge_http.h: bridge.h for requests of HTTP. C programs leave bridge_http.c out, too.
 */
#ifndef WS_BRIDGE_HTTP_H
#define WS_BRIDGE_HTTP_H

#include "bridge.h"

/* A handler of ws_server_route that makes the objects of a request, and calls
 * ws_bridge_route.request. */
WS_API void ws_bridge_on_request(ws_request *request, void *user);

/* The method Response.end (METH_FASTCALL | METH_KEYWORDS). Passes bodies of type str and bytes to
 * ws_request_respond, and every other call to the method called ws_bridge.end. Returns a new
 * reference, or NULL with an exception set. */
WS_API void *ws_bridge_end(void *self, void *const *args, ptrdiff_t count, void *names);

/* The method Response._respond (METH_FASTCALL | METH_KEYWORDS): a body, and the names and values of
 * header fields, all of type bytes, with the rest of what it knows, to ws_request_respond. Returns
 * the negative of what that or ws_request_add_header returns, or NULL with an exception set. After
 * WS_ENOMEM the connection was dropped, and the request is over. */
WS_API void *ws_bridge_respond(void *self, void *const *args, ptrdiff_t count, void *names);

#endif
