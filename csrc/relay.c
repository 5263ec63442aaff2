/* SPDX-License-Identifier: MIT */
/*
 * relay.c: what other processes learn of this server. The bus carries it to those of this machine,
 * and the application's relay to others.
 */
#include "relay.h"
#ifndef WS_NO_CLUSTER
#include "bus.h"

#include <string.h>

void ws__relay_topic(struct ws__hub *hub, const struct ws__topic *topic, bool exists)
{
    const ws_relay *relay = &hub->relay;
    if (hub->bus)
        hub->bus_calls->announce(hub, topic->hash, exists);
    WS__CALL(hub, relay->on_topic, topic->name, topic->length, exists, relay->user);
}

bool ws__relay_take(struct ws__hub *hub, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode)
{
    const ws_relay *relay = &hub->relay;
    bool taken = false;
    if (relay->on_take && !hub->forked) {
        hub->in_callbacks++;
        taken = relay->on_take(topic_length ? topic : "", topic_length, length ? data : "", length,
                               opcode, relay->user);
        hub->in_callbacks--;
    }
    return taken;
}

bool ws__relay_message(struct ws__hub *hub, const struct ws__topic *found, const char *topic,
                       size_t topic_length, const void *data, size_t length, int opcode)
{
    const ws_relay *relay = &hub->relay;
    bool reached = false;
    if (hub->bus) {
        const struct ws__record record = {WS__RECORD_PUBLISH, opcode,      topic,
                                          topic_length,       data, length};
        uint64_t hash = found ? found->hash : ws__topics_hash(&hub->topics, topic, topic_length);
        reached = hub->bus_calls->send(hub, hash, &record);
    }
    WS__CALL(hub, relay->on_publish, topic_length ? topic : "", topic_length, length ? data : "",
             length, opcode, relay->user);
    return reached;
}

void ws__relay_end(struct ws__hub *hub, const char *topic, size_t topic_length, int code,
                   const char *reason, size_t length)
{
    const ws_relay *relay = &hub->relay;
    if (hub->bus) {
        const struct ws__record record = {WS__RECORD_END, code,   topic,
                                          topic_length,   reason, length};
        hub->bus_calls->send(hub, ws__topics_hash(&hub->topics, topic, topic_length), &record);
    }
    WS__CALL(hub, relay->on_end, topic_length ? topic : "", topic_length, code,
             length ? reason : "", length, relay->user);
}

/* ---- ws_cluster.h ---- */

int ws_relay_init(ws_relay *relay, size_t size)
{
    if (size != sizeof *relay)
        return WS_EABI;
    memset(relay, 0, sizeof *relay);
    relay->size = size;
    return WS_OK;
}

int ws_server_set_relay(ws_server *server, const ws_relay *relay)
{
    struct ws__hub *hub = ws__hub_of(server);
    if (relay && relay->size != sizeof *relay)
        return WS_EABI;
    hub->relay = relay ? *relay : (ws_relay){0};
    hub->relaying = relay || hub->bus;
    return WS_OK;
}

const char *ws_server_next_topic(const ws_server *server, const char *topic, size_t topic_length,
                                 size_t *length)
{
    const struct ws__topics *topics = &ws__hub_of((ws_server *)server)->topics;
    const struct ws__topic *next = NULL;
    if (!topic)
        next = ws__topics_next(topics, NULL);
    else if ((next = ws__topics_find(topics, topic, topic_length)))
        next = ws__topics_next(topics, next);
    while (next && !next->count) /* it is left while its last subscription ends */
        next = ws__topics_next(topics, next);
    *length = next ? next->length : 0;
    return next ? next->name : NULL;
}

#endif
