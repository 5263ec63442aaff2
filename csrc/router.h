/* SPDX-License-Identifier: MIT */
/*
 * router.h: finds the route whose pattern matches a path. The most specific one wins, whatever the
 * order in which they were added. Knows nothing of what a route does.
 */
#ifndef WS__ROUTER_H
#define WS__ROUTER_H

#include "buffer.h"

enum { WS__ROUTER_MAX_PARAMETERS = 16 };

struct ws__route {
    struct ws__route *next; /* the next less specific one */
    char *pattern;          /* owned by the router */
    void *target;           /* the caller's */
};

struct ws__router {
    struct ws__memory *memory;
    struct ws__route *first;
};

/* What one ":name" or "*" of a pattern matched. */
struct ws__parameter {
    uint32_t offset, length; /* in the path */
};

struct ws__match {
    uint32_t count;
    struct ws__parameter parameters[WS__ROUTER_MAX_PARAMETERS];
};

void ws__router_init(struct ws__router *router, struct ws__memory *memory);

/* Frees all routes, and calls free_target, unless it is NULL, for the target of each. */
void ws__router_deinit(struct ws__router *router, void (*free_target)(void *context, void *target),
                       void *context);

/* Returns the route whose pattern matches the same paths as `pattern`, which must be valid, or
 * NULL. */
struct ws__route *ws__router_same(const struct ws__router *router, const char *pattern);

/* Adds a route. Returns WS_OK; WS_EINVAL if the pattern does not begin with "/" ("*" alone is the
 * same as "/" and "*"), has an empty ":" name, a name twice, a "*" before its end, more than 16
 * parameters, "?", "#", or a byte outside 0x21-0x7e; WS_EEXIST if there is a route that differs in
 * the names of parameters only; or WS_ENOMEM. */
int ws__router_add(struct ws__router *router, const char *pattern, void *target);

/* Returns the most specific route that matches path[length] and for which accept(context, target)
 * is true, or NULL. `accept` may be NULL. Fills *match. ":name" matches one non-empty segment, and
 * "*" the rest of the path, even an empty one. Patterns are compared from left to right: a literal
 * segment is more specific than ":name", which is more specific than "*". */
const struct ws__route *ws__router_find(const struct ws__router *router, const char *path,
                                        size_t length, bool (*accept)(void *context, void *target),
                                        void *context, struct ws__match *match);

#endif
