/* SPDX-License-Identifier: MIT */
/*
 * quota.c: counts and paces by address. Peers choose their addresses, IPv6 ones almost freely. So
 * the hash is keyed, counts exist only while there are connections, and paces have a table of a
 * fixed size.
 */
#include "quota.h"
#ifndef WS_NO_ADDRESS_LIMITS

#include <string.h>

static const uint64_t ns_per_second = 1000000000;

/* No IPv6 address of a host begins with 0xff. */
static uint64_t key_of(const struct ws__address *address)
{
    uint8_t bytes[8] = {0xff, address->length};
    uint64_t key;
    if (address->length == 4)
        memcpy(bytes + 4, address->bytes, 4);
    memcpy(&key, address->length > 4 ? address->bytes : bytes, sizeof key);
    return key;
}

int ws__quota_new(struct ws__quota **quota, struct ws__memory *memory, const ws_config *config,
                   const uint64_t seed[2])
{
    const uint32_t rate = config->max_handshakes_per_second_per_address;
    *quota = NULL;
    if (!rate && !config->max_connections_per_address)
        return WS_OK;
    struct ws__quota *l = ws__memory_zalloc(memory, sizeof *l);
    if (!l)
        return WS_ENOMEM;
    ws__topics_init(&l->addresses, memory, seed);
    l->max_connections = config->max_connections_per_address;
    l->interval = rate ? ns_per_second / rate : 0;
    *quota = l;
    return WS_OK;
}

void ws__quota_free(struct ws__quota *quota)
{
    if (!quota)
        return;
    ws__topics_deinit(&quota->addresses);
    ws__memory_free(quota->addresses.memory, quota, sizeof *quota);
}

bool ws__quota_enter(struct ws__quota *quota, const struct ws__address *address)
{
    const uint64_t key = key_of(address);
    struct ws__topic *t = ws__topics_pin_name(&quota->addresses, (const char *)&key, sizeof key);
    if (t && t->pins <= quota->max_connections)
        return true;
    if (t)
        ws__topics_unpin(&quota->addresses, t);
    return false;
}

void ws__quota_leave(struct ws__quota *quota, const struct ws__address *address)
{
    const uint64_t key = key_of(address);
    ws__topics_unpin(&quota->addresses,
                     ws__topics_find(&quota->addresses, (const char *)&key, sizeof key));
}

static struct ws__pace *pace_of(struct ws__quota *quota, const struct ws__address *address)
{
    const uint64_t key = key_of(address);
    const uint64_t hash = ws__topics_hash(&quota->addresses, (const char *)&key, sizeof key);
    struct ws__pace *set = quota->paces[hash % WS__QUOTA_SETS], *oldest = set;
    for (struct ws__pace *p = set; p < set + WS__QUOTA_WAYS; p++) {
        if (p->key == key)
            return p;
        if (p->full_at < oldest->full_at)
            oldest = p;
    }
    *oldest = (struct ws__pace){.key = key};
    return oldest;
}

/* A bucket that holds as many tokens as one second brings. */
bool ws__quota_pace(struct ws__quota *quota, const struct ws__address *address, uint64_t now)
{
    if (!quota->interval)
        return true;
    struct ws__pace *p = pace_of(quota, address);
    const uint64_t full_at = (p->full_at > now ? p->full_at : now) + quota->interval;
    if (full_at - now > ns_per_second)
        return false;
    p->full_at = full_at;
    return true;
}

bool ws__quota_may_log(struct ws__quota *quota, const struct ws__address *address, uint64_t now)
{
    struct ws__pace *p = pace_of(quota, address);
    if (p->quiet_to > now)
        return false;
    p->quiet_to = now + 60 * ns_per_second;
    if (p->full_at < now)
        p->full_at = now;
    return true;
}

#endif
