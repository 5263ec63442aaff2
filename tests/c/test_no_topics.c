/* SPDX-License-Identifier: MIT */
/*
 * test_no_topics.c: a server to whose messages no one subscribes (-DWS_NO_TOPICS). E2.
 */
#include "one_client.h"

static void test_functions(void)
{
    size_t length = 1;
    harness_init(&h);
    h.echo = true;
    harness_start(&h);
    client_open(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_subscribe(conn, "t", 1), WS_ENOTSUP, "E2: ws_conn_subscribe");
    is_int(ws_conn_unsubscribe(conn, "t", 1), WS_ENOTSUP, "E2: ws_conn_unsubscribe");
    ok(!ws_conn_is_subscribed(conn, "t", 1), "E2: ws_conn_is_subscribed");
    ok(!ws_conn_topic_at(conn, 0, &length) && !length, "E2: ws_conn_topic_at");
    is_int(ws_server_subscribers(h.server, "t", 1), 0, "E2: ws_server_subscribers");
    is_int(ws_server_publish(h.server, "t", 1, "x", 1, WS_TEXT), WS_ENOTSUP,
           "E2: ws_server_publish");
    is_int(ws_conn_publish(conn, "t", 1, "x", 1, WS_TEXT, false), WS_ENOTSUP,
           "E2: ws_conn_publish");
    client_text(&c, "hello");
    is_frames(&c, "TEXT hello", "a message of its own");
    is_int((long long)stats_of(&h).topics, 0, "no topics");
    expect_alive();
    stop("no topics");
}

static void cases(void)
{
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
