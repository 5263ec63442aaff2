/* SPDX-License-Identifier: MIT */
/*
 * methods.h: which handler of a path is for the method of a request (RFC 9110 section 9).
 */
#ifndef WS__METHODS_H
#define WS__METHODS_H

#include "request.h"

/* Returns the first of a list that is for the method of the request, or NULL. */
const struct ws__target *ws__methods_find(const ws_request *r, const struct ws__target *t);
/* Appends an Allow field (RFC 9110 10.2.1) to the fields of the response: the methods of all routes
 * for the path, without that of the request. Returns WS_ENOMEM if out of memory. */
int ws__methods_allow(ws_request *r);

#endif
