/*
 * router.h: path patterns to routes; the most specific one wins, whatever the order of adding.
 * Knows nothing of what a route does.
 */
#ifndef WS__ROUTER_H
#define WS__ROUTER_H

#include "buffer.h"

enum { WS__ROUTER_MAX_PARAMETERS = 16 };

struct ws__route {
    struct ws__route *next; /* in order of specificity */
    char *pattern;          /* owned by the router */
    void *target;           /* the caller's */
};
struct ws__router {
    struct ws__memory *memory;
    struct ws__route *first;
};
struct ws__parameter {
    uint32_t offset, length; /* in the path */
};
struct ws__match {
    uint32_t count;
    struct ws__parameter parameters[WS__ROUTER_MAX_PARAMETERS];
};

void ws__router_init(struct ws__router *router, struct ws__memory *memory);
/* free_target is called for each target; NULL: not. */
void ws__router_deinit(struct ws__router *router, void (*free_target)(void *context, void *target),
                       void *context);
/* The route whose pattern matches the same paths as `pattern` (a valid one), or NULL. */
struct ws__route *ws__router_same(const struct ws__router *router, const char *pattern);
/* WS_EINVAL: not beginning with "/" (but "*" alone is the same as "/" + "*"), an empty ":" name, a
 * name twice, "*" before the end, more than 16 parameters, a byte outside 0x21-0x7e, "?" or "#".
 * WS_EEXIST: a route of the same shape is there (names of parameters do not count). WS_ENOMEM. */
int ws__router_add(struct ws__router *router, const char *pattern, void *target);
/* The most specific route that matches path[length] and for which accept(context, target) is true
 * (accept NULL: any); NULL: none. Fills *match. Segments compare: literal before :name before *,
 * from left to right. ":name" takes one non-empty segment, "*" the rest, also an empty one. */
const struct ws__route *ws__router_find(const struct ws__router *router, const char *path,
                                        size_t length, bool (*accept)(void *context, void *target),
                                        void *context, struct ws__match *match);

#endif
