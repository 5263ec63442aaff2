/* SPDX-License-Identifier: MIT */
/*
 * quota_none.c: takes the place of quota.c with -DWS_NO_ADDRESS_LIMITS. There are no quotas then,
 * so only the first function is called.
 */
#include "quota.h"
#ifdef WS_NO_ADDRESS_LIMITS

int ws__quota_new(struct ws__quota **quota, struct ws__memory *memory, const ws_config *config,
                   const uint64_t seed[2])
{
    (void)memory;
    (void)seed;
    *quota = NULL;
    return config->max_handshakes_per_second_per_address || config->max_connections_per_address
               ? WS_ENOTSUP
               : WS_OK;
}

void ws__quota_free(struct ws__quota *quota)
{
    (void)quota;
}

bool ws__quota_enter(struct ws__quota *quota, const struct ws__address *address)
{
    (void)quota;
    (void)address;
    return true;
}

void ws__quota_leave(struct ws__quota *quota, const struct ws__address *address)
{
    (void)quota;
    (void)address;
}

bool ws__quota_pace(struct ws__quota *quota, const struct ws__address *address, uint64_t now)
{
    (void)quota;
    (void)address;
    (void)now;
    return true;
}

bool ws__quota_may_log(struct ws__quota *quota, const struct ws__address *address, uint64_t now)
{
    (void)quota;
    (void)address;
    (void)now;
    return false;
}

#endif
