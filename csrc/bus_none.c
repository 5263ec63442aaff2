/* SPDX-License-Identifier: MIT */
/*
 * bus_none.c: takes the place of bus.c, outbox.c, record.c and interest.c with -DWS_NO_CLUSTER, for
 * programs of one process. No server is a member of a bus then.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "bus.h"
#ifdef WS_NO_CLUSTER

int ws__bus_join(struct ws__hub *hub, const ws_bus_options *options, uint64_t first_data,
                 const struct ws__bus_handlers *handlers)
{
    (void)hub;
    (void)options;
    (void)first_data;
    (void)handlers;
    return WS_ENOTSUP;
}

/* ---- ws_cluster.h ---- */

int ws_server_tell(ws_server *server, uint32_t member, const void *data, size_t length)
{
    (void)server;
    (void)member;
    (void)data;
    (void)length;
    return WS_ENOTSUP;
}

int ws_server_bus_stats(const ws_server *server, ws_bus_stats *stats, size_t size)
{
    (void)server;
    (void)stats;
    (void)size;
    return WS_ENOTSUP;
}

int ws_bus_options_init(ws_bus_options *options, size_t size)
{
    (void)options;
    (void)size;
    return WS_ENOTSUP;
}

int ws_bus_announce_end(const int *inboxes, uint32_t count, uint32_t member, uint32_t epoch)
{
    (void)inboxes;
    (void)count;
    (void)member;
    (void)epoch;
    return WS_ENOTSUP;
}

#endif
