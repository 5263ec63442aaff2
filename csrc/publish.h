/*
 * publish.h: subscriptions of connections, and messages to all subscribers of a topic.
 */
#ifndef WS__PUBLISH_H
#define WS__PUBLISH_H

#include "conn.h"

/* Ends all subscriptions of a connection that is closing. */
void ws__publish_leave(ws_conn *c);

#endif
