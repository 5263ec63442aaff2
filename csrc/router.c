/* SPDX-License-Identifier: MIT */
/*
 * router.c: a list of patterns, sorted when a route is added, so that the first match is the right
 * one: no memory, no backtracking. Knows nothing of HTTP or WebSocket. Paths are compared as they
 * were sent: percent-encoding is not decoded, and "/a" is not "/a/".
 */
#include "router.h"

#include <string.h>

/* Kinds of segments of a pattern, the most specific one first. */
enum kind { END, LITERAL, PARAMETER, WILDCARD };

/* Returns the kind of the segment whose slash is at p. */
static enum kind kind_of(const char *p)
{
    if (*p == '\0')
        return END;
    return p[1] == ':' ? PARAMETER : p[1] == '*' ? WILDCARD : LITERAL;
}

/* Returns the slash after the segment whose slash is at p, or the end of the pattern. */
static const char *next_segment(const char *p)
{
    return p + 1 + strcspn(p + 1, "/");
}

/* Returns true if the segment whose slash is at p is valid. If it is a parameter, its name must not
 * be that of an earlier one. */
static bool segment_valid(const char *pattern, const char *p)
{
    const char *end = next_segment(p);
    const size_t length = (size_t)(end - p);
    for (const char *c = p; c < end; c++)
        if (*c < 0x21 || *c > 0x7e || *c == '?' || *c == '#')
            return false;
    if (kind_of(p) == WILDCARD)
        return length == 2 && *end == '\0';
    if (memchr(p, '*', length) || (kind_of(p) == PARAMETER && length == 2))
        return false;
    for (const char *q = pattern; kind_of(p) == PARAMETER && q < p; q = next_segment(q))
        if ((size_t)(next_segment(q) - q) == length && !memcmp(p, q, length))
            return false;
    return true;
}

static bool pattern_valid(const char *pattern)
{
    int parameters = 0;
    if (*pattern != '/')
        return false;
    for (const char *p = pattern; *p; p = next_segment(p)) {
        if (!segment_valid(pattern, p))
            return false;
        parameters += kind_of(p) != LITERAL;
    }
    return parameters <= WS__ROUTER_MAX_PARAMETERS;
}

/* Returns a negative number if a is more specific than b. The text of literals does not matter,
 * because no path matches two different ones. */
static int compare(const char *a, const char *b)
{
    while (*a && kind_of(a) == kind_of(b)) {
        a = next_segment(a);
        b = next_segment(b);
    }
    return (int)kind_of(a) - (int)kind_of(b);
}

/* Returns true if both patterns, whose segments are of the same kinds, match the same paths. */
static bool same_shape(const char *a, const char *b)
{
    for (; *a; a = next_segment(a), b = next_segment(b)) {
        const size_t length = (size_t)(next_segment(a) - a);
        if (kind_of(a) == LITERAL &&
            ((size_t)(next_segment(b) - b) != length || memcmp(a, b, length)))
            return false;
    }
    return true;
}

void ws__router_init(struct ws__router *router, struct ws__memory *memory)
{
    *router = (struct ws__router){memory, NULL};
}

/* Returns the size of a route, whose pattern follows it in the same block. */
static size_t size_of(const char *pattern)
{
    return sizeof(struct ws__route) + strlen(pattern) + 1;
}

void ws__router_deinit(struct ws__router *router, void (*free_target)(void *context, void *target),
                       void *context)
{
    while (router->first) {
        struct ws__route *route = router->first;
        router->first = route->next;
        if (free_target)
            free_target(context, route->target);
        ws__memory_free(router->memory, route, size_of(route->pattern));
    }
}

struct ws__route *ws__router_same(const struct ws__router *router, const char *pattern)
{
    if (!strcmp(pattern, "*"))
        pattern = "/*";
    for (struct ws__route *route = router->first; route; route = route->next)
        if (!compare(route->pattern, pattern) && same_shape(route->pattern, pattern))
            return route;
    return NULL;
}

__attribute__((cold)) int
ws__router_add(struct ws__router *router, const char *pattern, void *target)
{
    struct ws__route **link = &router->first, *route;
    if (!strcmp(pattern, "*"))
        pattern = "/*";
    if (!pattern_valid(pattern))
        return WS_EINVAL;
    for (; *link && compare((*link)->pattern, pattern) <= 0; link = &(*link)->next)
        if (!compare((*link)->pattern, pattern) && same_shape((*link)->pattern, pattern))
            return WS_EEXIST;
    route = ws__memory_resize(router->memory, NULL, 0, size_of(pattern));
    if (!route)
        return WS_ENOMEM;
    *route = (struct ws__route){*link, (char *)(route + 1), target};
    memcpy(route->pattern, pattern, strlen(pattern) + 1);
    *link = route;
    return WS_OK;
}

static void add_parameter(struct ws__match *match, const char *path, const char *from,
                          const char *to)
{
    match->parameters[match->count++] =
        (struct ws__parameter){(uint32_t)(from - path), (uint32_t)(to - from)};
}

/* Returns true if the pattern p matches path[length], and fills *match. `s` is at the slash of the
 * segment that is compared with the one at p. */
static bool matches(const char *p, const char *path, size_t length, struct ws__match *match)
{
    const char *s = path, *end = path + length;
    match->count = 0;
    for (; *p && s < end && *s == '/'; p = next_segment(p)) {
        const char *segment = s + 1;
        const size_t size = (size_t)(next_segment(p) - p);
        if (kind_of(p) == WILDCARD) {
            add_parameter(match, path, segment, end);
            return true;
        }
        s = memchr(segment, '/', (size_t)(end - segment));
        s = s ? s : end;
        if (kind_of(p) == PARAMETER && s > segment)
            add_parameter(match, path, segment, s);
        else if (kind_of(p) == PARAMETER || (size_t)(s - segment) + 1 != size ||
                 memcmp(p, segment - 1, size))
            return false;
    }
    return !*p && s == end;
}

const struct ws__route *ws__router_find(const struct ws__router *router, const char *path,
                                        size_t length, bool (*accept)(void *context, void *target),
                                        void *context, struct ws__match *match)
{
    for (const struct ws__route *route = router->first; route; route = route->next)
        if (matches(route->pattern, path, length, match) &&
            (!accept || accept(context, route->target)))
            return route;
    match->count = 0;
    return NULL;
}
