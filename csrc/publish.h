/* SPDX-License-Identifier: MIT */
/*
 * publish.h: subscriptions of connections, and messages to all subscribers of a topic.
 */
#ifndef WS__PUBLISH_H
#define WS__PUBLISH_H

#include "conn.h"

/* Returns the connection whose subscription this is. */
static inline ws_conn *ws__publish_receiver(const struct ws__member *member)
{
    void *extra = (char *)member->subscriber - offsetof(struct ws__extra, subscriber);
    return ((struct ws__extra *)extra)->conn;
}

/* Ends all subscriptions of a connection that is closing. */
void ws__publish_leave(ws_conn *c);

#endif
