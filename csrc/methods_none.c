/* SPDX-License-Identifier: MIT */
/*
 * methods_none.c: takes the place of methods.c with -DWS_NO_HTTP. The only routes are those of
 * WebSocket.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "methods.h"
#ifdef WS_NO_HTTP

const struct ws__target *ws__methods_find(const ws_request *r, const struct ws__target *t)
{
    (void)r;
    (void)t;
    return NULL;
}

int ws__methods_allow(ws_request *r)
{
    static const char line[] = "Allow: GET\r\n";
    return ws__buffer_append(&r->conn->stream.hub->memory, &r->fields, line, sizeof line - 1);
}

int ws_server_http(ws_server *server, const char *method, const char *pattern,
                   void (*handler)(ws_request *request, void *user), void *user)
{
    (void)server;
    (void)method;
    (void)pattern;
    (void)handler;
    (void)user;
    return WS_ENOTSUP;
}

#endif
