/* SPDX-License-Identifier: MIT */
/*
 * publish_none.c: takes the place of publish.c with -DWS_NO_TOPICS, for programs that send to each
 * connection by itself.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "publish.h"
#ifdef WS_NO_TOPICS

#ifndef WS_NO_CLUSTER
#error "WS_NO_TOPICS needs WS_NO_CLUSTER: there are no topics that could span processes"
#endif

void ws__publish_leave(ws_conn *c)
{
    (void)c;
}

int ws_conn_subscribe(ws_conn *conn, const char *topic, size_t length)
{
    (void)conn;
    (void)topic;
    (void)length;
    return WS_ENOTSUP;
}

int ws_conn_unsubscribe(ws_conn *conn, const char *topic, size_t length)
{
    (void)conn;
    (void)topic;
    (void)length;
    return WS_ENOTSUP;
}

bool ws_conn_is_subscribed(const ws_conn *conn, const char *topic, size_t length)
{
    (void)conn;
    (void)topic;
    (void)length;
    return false;
}

const char *ws_conn_topic_at(const ws_conn *conn, size_t i, size_t *length)
{
    (void)conn;
    (void)i;
    *length = 0;
    return NULL;
}

uint32_t ws_server_subscribers(const ws_server *server, const char *topic, size_t length)
{
    (void)server;
    (void)topic;
    (void)length;
    return 0;
}

int ws_server_publish(ws_server *server, const char *topic, size_t topic_length, const void *data,
                      size_t length, int opcode)
{
    (void)server;
    (void)topic;
    (void)topic_length;
    (void)data;
    (void)length;
    (void)opcode;
    return WS_ENOTSUP;
}

int ws_conn_publish(ws_conn *conn, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode, bool exclude_self)
{
    (void)conn;
    (void)topic;
    (void)topic_length;
    (void)data;
    (void)length;
    (void)opcode;
    (void)exclude_self;
    return WS_ENOTSUP;
}

int ws_server_deliver(ws_server *server, const char *topic, size_t topic_length, const void *data,
                      size_t length, int opcode)
{
    return ws_server_publish(server, topic, topic_length, data, length, opcode);
}

#endif
