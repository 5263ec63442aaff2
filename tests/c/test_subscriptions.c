/* SPDX-License-Identifier: MIT */
/*
 * test_subscriptions.c: who is in a topic: names and their limits, what on_subscription reports,
 * and who receives what is published: other routes, exclude_self, a server that has stopped.
 */
#include "subscribers.h"

static int leave(int i, const char *topic)
{
    return ws_conn_unsubscribe(conn_at(&h, i), topic, strlen(topic));
}

/* ---- subscriptions ---- */

static void test_counts(void)
{
    start(3);
    is_int(join(0, "a"), 1, "S15: the first subscriber");
    is_int(join(1, "a"), 1, "S15: the second");
    is_int(join(2, "a"), 1, "S15: the third");
    is_events(&h, "+a 1; 1:+a 2; 2:+a 3", "S15: subscribe: (n, n-1), at that moment already");
    is_int(join(1, "a"), 0, "T64: subscribed twice: it was there");
    is_int(leave(0, "b"), 0, "T64: unknown topic: it was not");
    is_events(&h, "", "T64, S15: neither is an event");
    is_int(leave(0, "a"), 1, "S15: unsubscribe");
    is_int(leave(0, "a"), 0, "T64: only once");
    is_events(&h, "-a 2", "S15: unsubscribe: (n-1, n)");
    ok(!ws_conn_is_subscribed(conn_at(&h, 0), "a", 1), "is not");
    ok(ws_conn_is_subscribed(conn_at(&h, 1), "a", 1), "is");
    join(1, "b");
    harness_events(&h);
    ws_conn_end(conn_at(&h, 1), 1000, "x", 1);
    is_events(&h, "1:-b 0; 1:-a 1; 1:close 1000 x",
              "S15, S42: close: one for each topic, before on_close");
    ws_conn_close(conn_at(&h, 2));
    is_events(&h, "2:-a 0; 2:close 1006 closed by the server", "S15, S42: also a hard one");
    is_int(subscribers("a"), 0, "S42: no subscriber is left");
    is_int(subscribers("b"), 0, "S42: nor there");
    stop("counts");
}

static void test_names(void)
{
    static char large[1 << 20];
    prepare();
    h.behavior.max_topic_length = 1024;
    run(1);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_subscribe(conn, "", 0), 1, "T64: the empty topic");
    is_int(ws_conn_subscribe(conn, NULL, 0), 0, "T64: also as NULL");
    is_int(ws_conn_subscribe(conn, "a\0b", 3), 1, "T64: NUL in a name");
    is_int(ws_conn_subscribe(conn, "a\0c", 3), 1, "T64: another one after the NUL");
    is_int(ws_conn_subscribe(conn, "a", 1), 1, "T64: a name of which they are no prefix");
    memset(large, 'x', sizeof large);
    is_int(ws_conn_subscribe(conn, large, sizeof large), WS_EINVAL, "T64: 1 MiB is refused");
    is_int(ws_conn_subscribe(conn, large, 1025), WS_EINVAL, "max_topic_length: one byte more");
    is_int(ws_conn_subscribe(conn, large, 1024), 1, "max_topic_length: exactly");
    ok(!ws_conn_is_subscribed(conn, large, sizeof large), "T64: 1 MiB: is not subscribed");
    is_int(ws_conn_unsubscribe(conn, large, sizeof large), 0, "T64: 1 MiB: nothing to end");
    is_int(ws_server_publish(h.server, large, sizeof large, "x", 1, WS_TEXT), 0, "T64: no one");
    is_int(ws_server_publish(h.server, "", 0, "1", 1, WS_TEXT), 1, "T64: publish to the empty one");
    is_int(ws_server_publish(h.server, "a\0b", 3, "2", 1, WS_TEXT), 1, "T64: to that with the NUL");
    is_int(ws_server_publish(h.server, "a\0d", 3, "3", 1, WS_TEXT), 0, "T64: to a third");
    is_int(ws_server_publish(h.server, "a", 1, NULL, 0, WS_TEXT), 1, "F16: an empty message");
    is_int(ws_server_publish(h.server, large, 1024, "4", 1, WS_BINARY), 1, "T64: to the long one");
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT, BINARY 4", "T64: each to its topic");
    size_t length, seen = 0;
    for (size_t i = 0; i < 5; i++)
        seen += ws_conn_topic_at(conn, i, &length) ? length : 100000;
    is_int((long long)seen, 0 + 3 + 3 + 1 + 1024, "ws_conn_topic_at: all five");
    ok(!ws_conn_topic_at(conn, 5, &length) && !length, "ws_conn_topic_at: and no sixth");
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_PING), WS_EINVAL, "no Ping");
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_CONTINUATION), WS_EINVAL, "no fragment");
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_COMPRESS), WS_EINVAL, "no opcode");
    stop("names");
}

static void test_max_topics(void)
{
    prepare();
    h.behavior.max_topics = 3;
    run(2);
    is_int(join(0, "a") + join(0, "b") + join(0, "c"), 3, "T53: max_topics: three");
    is_int(join(0, "d"), WS_ELIMIT, "T53: no fourth");
    is_int(join(0, "a"), 0, "T53: one of them again is fine");
    is_int(join(0, "e"), WS_ELIMIT, "T53: nor a fifth");
    ok(log_has(&h, "max_topics 3"), "T53: it is logged");
    ok(!strstr(strchr(h.log, '\n') + 1, "max_topics"), "T53, T89: once");
    is_int(join(1, "d"), 1, "T53: for each connection");
    is_int(leave(0, "b"), 1, "T53: one leaves");
    is_int(join(0, "d"), 1, "T53: another one fits");
    is_int(subscribers("d"), 2, "T53: counted");
    is_int(subscribers("e"), 0, "T53: refused: no one");
    stop("max_topics");

    prepare();
    h.behavior.max_topics = 0;
    run(1);
    is_int(join(0, "a"), WS_ELIMIT, "T53: max_topics 0: none at all");
    stop("max_topics 0");
}

static void test_memory_back(void)
{
    char name[32];
    prepare();
    h.behavior.max_topics = 50000;
    run(2);
    h.quiet = true;
    is_int(join(1, "same"), 1, "S42: somebody else stays");
    size_t before = stats_of(&h).memory;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 5000; i++) {
            snprintf(name, sizeof name, "topic %d", i);
            join(0, name);
        }
        join(0, "same");
        is_int(publish("topic 4999", "x"), 1, "T53: round %d: subscribed", round);
        is_int(subscribers("same"), 2, "T53: round %d: counted", round);
        client_close(&c[0]);
        turns(&h, 3);
        is_int(subscribers("topic 0") + subscribers("topic 4999"), 0, "S42: round %d: gone", round);
        is_int(subscribers("same"), 1, "S42: round %d: but the other one", round);
        client_open(&c[0], &h);
        h.ids[0] = h.ids[h.opened - 1];
        client_drain(&c[1]);
        ok(stats_of(&h).memory <= before + 66000, "S42, T53: round %d: memory is back", round);
    }
    h.quiet = false;
    stop("memory of topics");
}

/* ---- who gets it ---- */

static void publish_as(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)length;
    if (event == ON_MESSAGE)
        results = ws_conn_publish(conn, "a", 1, data, 1, WS_TEXT, data[1] == '-');
    else if (event == ON_CLOSE)
        results = ws_conn_publish(conn, "a", 1, "late", 4, WS_TEXT, false);
}

static void test_exclude_self(void)
{
    start(3);
    join(0, "a");
    join(1, "a");
    h.hook = publish_as;
    client_text(&c[0], "1");
    client_text(&c[1], "2-");
    is_frames(&c[0], "TEXT 1, TEXT 2", "publish reaches oneself");
    is_int(results, 1, "1: somebody else got it");
    is_frames(&c[1], "TEXT 1", "but with exclude_self");
    client_text(&c[2], "3-");
    is_frames(&c[0], "TEXT 3", "who publishes need not be subscribed");
    is_frames(&c[1], "TEXT 3", "who publishes need not be subscribed");
    leave(1, "a");
    client_text(&c[0], "4-");
    turns(&h, 2);
    is_int(results, 0, "0: no one else is there");
    results = -1;
    client_close(&c[2]);
    turns(&h, 2);
    is_int(results, 0, "0: its on_close has begun");
    is_frames(&c[0], "", "nothing came");
    is_int(publish("nothing", "x"), 0, "T64: no subscriber");
    stop("exclude_self");

    prepare();
    harness_create(&h);
    is_int(publish("a", "x"), 0, "T64: publish without a route");
    harness_stop(&h, "no route");

    start(1);
    join(0, "a");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_int(publish("a", "x"), 0, "T64: publish after shutdown");
    client_send_close(&c[0], 1001, "");
    is_frames(&c[0], "CLOSE 1001, EOF", "T64: nothing after the Close");
    client_close(&c[0]);
    turns(&h, 10);
    is_int(publish("a", "x"), 0, "T64: publish after the server has stopped");
    stop("after stop");
}

static void test_routes(void)
{
    prepare();
    harness_start(&h);
    harness_route(&h, "/other");
    client_open(&c[0], &h);
    client_connect(&c[1], &h);
    clients = 2;
    client_say(&c[1], "GET /other ");
    client_say(&c[1], handshake_request + strlen("GET / "));
    is_responses(&c[1], "101", "another route");
    join(0, "a");
    join(1, "a");
    is_int(publish("a", "x"), 1, "topics belong to the server");
    is_frames(&c[0], "TEXT x", "all routes");
    is_frames(&c[1], "TEXT x", "all routes");
    stop("routes");
}

static char topic_seen[16];

static void leave_at_once(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_SUBSCRIPTION || topic_seen[0])
        return;
    topic_seen[0] = '?';
    ws_conn_unsubscribe(conn, data, length);
    memcpy(topic_seen, data, length); /* borrowed until this returns */
}

/* The only subscriber leaves while it is told that it came. */
static void test_leave_at_once(void)
{
    start(1);
    memset(topic_seen, 0, sizeof topic_seen);
    h.hook = leave_at_once;
    is_int(join(0, "solo"), 1, "T63: subscribed, and gone again");
    ok(!strcmp(topic_seen, "solo"), "S15: the topic's name stays until the handler returns");
    is_int(subscribers("solo"), 0, "S15: no subscriber is left");
    stop("leave at once");
}

static void cases(void)
{
    CASE(test_leave_at_once());
    CASE(test_counts());
    CASE(test_names());
    CASE(test_max_topics());
    CASE(test_memory_back());
    CASE(test_exclude_self());
    CASE(test_routes());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
