/* SPDX-License-Identifier: MIT */
/*
 * relay.h: what other processes learn of this server: which topics have subscribers here, what is
 * published here, and which topics are ended here. Callers check hub->relaying first.
 */
#ifndef WS__RELAY_H
#define WS__RELAY_H

#include "conn.h"
#include "ws_cluster.h"

/* The topic has got its first subscriber, or lost its last one. */
void ws__relay_topic(struct ws__hub *hub, const struct ws__topic *topic, bool exists);
/* A message is about to be published. Returns true if the application's relay has taken it over. */
bool ws__relay_take(struct ws__hub *hub, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode);
/* A message was published. `found` is its topic, NULL if that has no subscribers here. Returns true
 * if another member of the bus may have some. */
bool ws__relay_message(struct ws__hub *hub, const struct ws__topic *found, const char *topic,
                       size_t topic_length, const void *data, size_t length, int opcode);
/* The subscribers of a topic are about to be ended. */
void ws__relay_end(struct ws__hub *hub, const char *topic, size_t topic_length, int code,
                   const char *reason, size_t length);

#endif
