/* SPDX-License-Identifier: MIT */
/*
 * relay_none.c: takes the place of relay.c with -DWS_NO_CLUSTER. hub->relaying is never true then,
 * so the internal functions are not called.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "relay.h"
#ifdef WS_NO_CLUSTER

void ws__relay_topic(struct ws__hub *hub, const struct ws__topic *topic, bool exists)
{
    (void)hub;
    (void)topic;
    (void)exists;
}

bool ws__relay_take(struct ws__hub *hub, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode)
{
    (void)hub;
    (void)topic;
    (void)topic_length;
    (void)data;
    (void)length;
    (void)opcode;
    return false;
}

bool ws__relay_message(struct ws__hub *hub, const struct ws__topic *found, const char *topic,
                       size_t topic_length, const void *data, size_t length, int opcode)
{
    (void)hub;
    (void)found;
    (void)topic;
    (void)topic_length;
    (void)data;
    (void)length;
    (void)opcode;
    return false;
}

void ws__relay_end(struct ws__hub *hub, const char *topic, size_t topic_length, int code,
                   const char *reason, size_t length)
{
    (void)hub;
    (void)topic;
    (void)topic_length;
    (void)code;
    (void)reason;
    (void)length;
}

/* ---- ws_cluster.h ---- */

int ws_relay_init(ws_relay *relay, size_t size)
{
    (void)relay;
    (void)size;
    return WS_ENOTSUP;
}

int ws_server_set_relay(ws_server *server, const ws_relay *relay)
{
    (void)server;
    (void)relay;
    return WS_ENOTSUP;
}

const char *ws_server_next_topic(const ws_server *server, const char *topic, size_t topic_length,
                                 size_t *length)
{
    (void)server;
    (void)topic;
    (void)topic_length;
    *length = 0;
    return NULL;
}

#endif
