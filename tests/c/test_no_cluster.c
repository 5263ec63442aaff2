/* SPDX-License-Identifier: MIT */
/*
 * test_no_cluster.c: a server without topics that span processes, and without labels
 * (-DWS_NO_CLUSTER). E2.
 */
#include "one_client.h"
#include "ws_cluster.h"

/* The opcode says that the message begins with a label. */
static void hear(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    is_int(ws_conn_take_labels(conn), WS_ENOTSUP, "E2: no connection takes labels");
    is_int(ws_conn_send(conn, "\0id\nx", 5, WS_TEXT | WS_LABELLED), WS_EINVAL,
           "nor has a message one");
    ws_conn_subscribe(conn, "t", 1);
}

#ifdef WS_NO_TOPICS
static void use_topics(void)
{
    is_int(ws_server_deliver(h.server, "t", 1, "", 0, WS_BINARY), WS_ENOTSUP, "E2: no topics");
    is_int(ws_server_end_topic(h.server, "t", 1, 1000, "", 0), WS_ENOTSUP, "E2: nor their ends");
}
#else
static void use_topics(void)
{
    is_int(ws_server_deliver(h.server, "t", 1, "\0", 1, WS_BINARY), 1, "E2: delivered here");
    ok(client_frames(&c) && c.received >= 3, "as it is");
    is_int(ws_server_end_topic(h.server, "t", 1, 1000, "over", 4), 1, "E2: ended here");
    is_frames(&c, "CLOSE 1000 over", "with the reason");
}
#endif

static void test_functions(void)
{
    ws_relay relay;
    ws_bus_options options;
    ws_bus_stats stats;
    int inbox = -1;
    size_t length = 1;
    memset(&options, 0, sizeof options);
    harness_init(&h);
    h.hook = hear;
    harness_start(&h);
    client_open(&c, &h);
    client_text(&c, "hello");
    turns(&h, 2);
    is_int(ws_relay_init(&relay, sizeof relay), WS_ENOTSUP, "E2: ws_relay_init");
    is_int(ws_server_set_relay(h.server, NULL), WS_ENOTSUP, "E2: ws_server_set_relay");
    is_int(ws_bus_options_init(&options, sizeof options), WS_ENOTSUP, "E2: ws_bus_options_init");
    is_int(ws_server_join(h.server, &options), WS_ENOTSUP, "E2: ws_server_join");
    is_int(ws_server_tell(h.server, WS_ALL_MEMBERS, "", 0), WS_ENOTSUP, "E2: ws_server_tell");
    is_int(ws_server_bus_stats(h.server, &stats, sizeof stats), WS_ENOTSUP,
           "E2: ws_server_bus_stats");
    is_int(ws_bus_announce_end(&inbox, 1, 0, 1), WS_ENOTSUP, "E2: ws_bus_announce_end");
    ok(!ws_server_next_topic(h.server, NULL, 0, &length) && !length, "E2: ws_server_next_topic");
    use_topics();
    expect_alive();
    stop("no cluster");
}

static void cases(void)
{
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
