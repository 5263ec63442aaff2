/* SPDX-License-Identifier: MIT */
/*
 * topics_none.c: takes the place of topics.c with -DWS_NO_TOPICS and -DWS_NO_ADDRESS_LIMITS, which
 * together leave nothing to be found.
 */
#include "topics.h"
#if defined(WS_NO_TOPICS) && defined(WS_NO_ADDRESS_LIMITS)

void ws__topics_init(struct ws__topics *topics, struct ws__memory *memory, const uint64_t seed[2])
{
    (void)topics;
    (void)memory;
    (void)seed;
}

void ws__topics_deinit(struct ws__topics *topics)
{
    (void)topics;
}

struct ws__topic *ws__topics_find(const struct ws__topics *topics, const char *name, size_t length)
{
    (void)topics;
    (void)name;
    (void)length;
    return NULL;
}

#endif
