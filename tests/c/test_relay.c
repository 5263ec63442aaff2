/* SPDX-License-Identifier: MIT */
/*
 * test_relay.c: what a relay learns of topics, publishes and ends, in which order, and what arrives
 * from other processes by ws_server_deliver; the end of all subscribers of a topic.
 */
#include "subscribers.h"
#include "ws_cluster.h"

#include <stdarg.h>
#include <stdlib.h>

static char told[4096];

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...)
{
    size_t length = strlen(told);
    va_list arguments;
    va_start(arguments, format);
    if (length)
        length += (size_t)snprintf(told + length, sizeof told - length, "; ");
    vsnprintf(told + length, sizeof told - length, format, arguments);
    va_end(arguments);
}

static const char *learned(void)
{
    static char text[sizeof told];
    memcpy(text, told, sizeof text);
    told[0] = '\0';
    return text;
}

static void on_topic(const char *topic, size_t length, bool exists, void *user)
{
    (void)user;
    note("%c%.*s", exists ? '+' : '-', (int)length, topic);
}

static void on_publish(const char *topic, size_t topic_length, const char *data, size_t length,
                       int opcode, void *user)
{
    (void)user;
    note("%.*s: %.*s%s%s", (int)topic_length, topic, (int)length, data,
         (opcode & ~WS_COMPRESS) == WS_BINARY ? " binary" : "",
         opcode & WS_COMPRESS ? " compressed" : "");
}

static void on_end(const char *topic, size_t topic_length, int code, const char *reason,
                   size_t length, void *user)
{
    (void)user;
    note("end %.*s %d %.*s", (int)topic_length, topic, code, (int)length, reason);
}

static ws_relay make_relay(void)
{
    ws_relay relay;
    ws_relay_init(&relay, sizeof relay);
    relay.on_topic = on_topic;
    relay.on_publish = on_publish;
    relay.on_end = on_end;
    return relay;
}

static void start_with_relay(int count)
{
    ws_relay relay = make_relay();
    start(count);
    told[0] = '\0';
    is_int(ws_server_set_relay(h.server, &relay), WS_OK, "a relay is set");
}

static int deliver(const char *topic, const char *text)
{
    return ws_server_deliver(h.server, topic, strlen(topic), text, strlen(text), WS_TEXT);
}

static int end_topic(const char *topic, int code, const char *reason)
{
    return ws_server_end_topic(h.server, topic, strlen(topic), code, reason, strlen(reason));
}

static void test_topics(void)
{
    start_with_relay(3);
    join(0, "a");
    join(1, "a");
    join(1, "b");
    is_text(learned(), "+a; +b", "the first subscriber of each topic");
    ws_conn_unsubscribe(conn_at(&h, 0), "a", 1);
    is_text(learned(), "", "one of two leaves");
    client_close(&c[1]);
    turns(&h, 2);
    is_text(learned(), "-b; -a", "the last subscriber is gone");
    join(2, "a");
    ws_conn_close(conn_at(&h, 2));
    is_text(learned(), "+a; -a", "and again");
    stop("topics of a relay");
}

static void test_publish(void)
{
    start_with_relay(1);
    join(0, "a");
    learned();
    is_int(publish("a", "1"), 1, "a subscriber here");
    is_int(publish("b", "2"), 0, "no subscriber here");
    ws_server_publish(h.server, "", 0, NULL, 0, WS_BINARY | WS_COMPRESS);
    is_text(learned(), "a: 1; b: 2; :  binary compressed", "the relay gets all that is published");
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_PING), WS_EINVAL, "no Ping");
    is_int(deliver("a", "3"), 1, "delivered from elsewhere");
    is_int(deliver("b", "4"), 0, "for no one");
    is_int(ws_server_deliver(h.server, "a", 1, "x", 1, WS_PING), WS_EINVAL, "nor a Ping delivered");
    is_text(learned(), "", "what came from elsewhere does not go back");
    is_frames(&c[0], "TEXT 1, TEXT 3", "the subscriber here gets both");
    ws_conn_publish(conn_at(&h, 0), "a", 1, "5", 1, WS_TEXT, true);
    is_text(learned(), "a: 5", "exclude_self excludes no one elsewhere");
    is_frames(&c[0], "", "but itself");
    is_int(ws_server_set_relay(h.server, NULL), WS_OK, "the relay ends");
    publish("a", "6");
    join(0, "c");
    is_text(learned(), "", "and learns nothing more");
    is_frames(&c[0], "TEXT 6", "while all goes on here");
    stop("publish with a relay");
}

static void publish_more(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    if (event == ON_DROPPED)
        publish("a", "after");
    else if (event == ON_CLOSE)
        publish("a", "left");
    else if (event == ON_SUBSCRIPTION)
        publish("a", "counts");
}

static bool takes;

static bool on_take(const char *topic, size_t topic_length, const char *data, size_t length,
                    int opcode, void *user)
{
    (void)user;
    note("take %.*s: %.*s%s%s", (int)topic_length, topic, (int)length, data,
         (opcode & ~WS_COMPRESS) == WS_BINARY ? " binary" : "",
         opcode & WS_COMPRESS ? " compressed" : "");
    if (takes) /* a callback: the server cannot be freed */
        is_int(ws_server_free(h.server), WS_EBUSY, "inside on_take");
    return takes;
}

/* A relay may take a message over, and deliver it later. */
static void test_take(void)
{
    ws_relay relay = make_relay();
    relay.on_take = on_take;
    start(2);
    join(0, "a");
    join(1, "a");
    ws_server_set_relay(h.server, &relay);
    told[0] = '\0';
    takes = true;
    is_int(publish("a", "1"), 1, "B7: taken over");
    is_int(ws_server_publish(h.server, "", 0, NULL, 0, WS_BINARY | WS_COMPRESS), 1,
           "B7: without subscribers here");
    is_int(ws_conn_publish(conn_at(&h, 0), "a", 1, "2", 1, WS_TEXT, true), 1, "B7: by a client");
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_PING), WS_EINVAL, "an invalid one");
    is_text(learned(), "take a: 1; take :  binary compressed; take a: 2",
            "B7: no one else learns of it");
    is_frames(&c[0], "", "B7: nor gets it");
    is_int(deliver("a", "1"), 1, "delivered");
    is_text(learned(), "", "B7: what is delivered is not taken again");
    is_frames(&c[0], "TEXT 1", "it arrives");
    takes = false;
    is_int(publish("a", "3"), 1, "not taken");
    is_int(publish("b", "4"), 0, "for no one");
    is_text(learned(), "take a: 3; a: 3; take b: 4; b: 4", "B7: on_take comes first");
    is_frames(&c[1], "TEXT 1, TEXT 3", "all goes on");
    takes = true;
    h.hook = publish_more;
    ws_conn_end(conn_at(&h, 1), 1000, NULL, 0);
    is_text(learned(), "take a: counts; take a: left", "B7: what handlers publish");
    is_int(ws_conn_publish(conn_at(&h, 0), "a", 1, "5", 1, WS_TEXT, false), 1, "by another");
    learned();
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_text(learned(), "-a; take a: counts; take a: left", "B7: during a shutdown, too");
    h.hook = NULL;
    stop("a relay that takes over");
}

/* What a handler publishes because of a message comes after that message, also elsewhere. */
static void test_order(void)
{
    prepare();
    h.behavior.max_backpressure = 100;
    run(2);
    ws_relay relay = make_relay();
    ws_server_set_relay(h.server, &relay);
    join(0, "a");
    give_room(0, 0);
    publish_bytes("a", 'x', 90);
    told[0] = '\0';
    h.hook = publish_more;
    publish("a", "first of the two");
    is_text(learned(), "a: first of the two; a: after", "on_dropped comes later");
    join(1, "a");
    is_text(learned(), "a: counts; a: after", "on_subscription");
    join(1, "b");
    is_text(learned(), "+b; a: counts; a: after", "on_topic comes before on_subscription");
    h.hook = NULL;
    stop("order of a relay");
}

/* Other processes do not stop with this one. */
static void test_stopping(void)
{
    start_with_relay(1);
    join(0, "a");
    learned();
    h.hook = publish_more;
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_text(learned(), "-a; a: counts; a: left", "published during a shutdown");
    is_frames(&c[0], "CLOSE 1001", "no one here gets it");
    h.hook = NULL;
    stop("stopping with a relay");
}

static void test_end(void)
{
    start_with_relay(4);
    join(0, "a");
    join(1, "a");
    join(2, "b");
    learned();
    harness_events(&h);
    is_int(end_topic("a", 999, ""), WS_EINVAL, "an invalid code");
    is_int(end_topic("a", 0, "why"), WS_EINVAL, "a reason without a code");
    is_int(end_topic("a", 1000, "\xff"), WS_EINVAL, "a reason that is not UTF-8");
    is_text(learned(), "", "nothing is done");
    is_int(end_topic("a", 4001, "bye"), 2, "B6: both are ended");
    is_text(learned(), "end a 4001 bye; -a", "B6: the relay learns of it first");
    is_events(&h, "-a 1; close 4001 bye; 1:-a 0; 1:close 4001 bye", "in order");
    is_int(end_topic("a", 4001, "bye"), 0, "no one is left");
    is_text(learned(), "end a 4001 bye", "elsewhere there may be some");
    is_int(ws_server_end_topic_here(h.server, "b", 1, 0, NULL, 0), 1, "ended from elsewhere");
    is_text(learned(), "-b", "and does not go back");
    is_frames(&c[0], "CLOSE 4001 bye", "the Close");
    is_frames(&c[2], "CLOSE", "without a code");
    is_frames(&c[3], "", "whoever was not subscribed stays");
    stop("end of a topic");
}

static void take_place(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    if (event != ON_CLOSE)
        return;
    join(3, "a");
    ws_conn *other = conn_at(&h, 1);
    if (other)
        ws_conn_close(other);
}

static void test_end_handlers(void)
{
    start(4);
    for (int i = 0; i < 3; i++)
        join(i, "a");
    h.hook = take_place;
    is_int(end_topic("a", 1000, ""), 2, "one is closed by the handler of another");
    h.hook = NULL;
    is_int(subscribers("a"), 1, "who came meanwhile stays");
    is_frames(&c[3], "", "open");
    h.memory.fail_at = h.memory.calls + 1;
    is_int(end_topic("a", 1000, ""), WS_ENOMEM, "T84: no memory");
    h.memory.fail_at = 0;
    is_int(subscribers("a"), 1, "T84: nothing was done");
    stop("handlers of an end");
}

static void test_walk(void)
{
    enum { COUNT = 3000 };
    static bool seen[COUNT];
    char name[32];
    size_t length = 1;
    prepare();
    h.behavior.max_topics = COUNT;
    run(1);
    h.quiet = true;
    ok(!ws_server_next_topic(h.server, NULL, 0, &length) && !length, "there is no topic");
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%d", i);
        join(0, name);
    }
    int count = 0;
    bool once = true;
    const char *topic = ws_server_next_topic(h.server, NULL, 0, &length);
    for (; topic; topic = ws_server_next_topic(h.server, topic, length, &length)) {
        snprintf(name, sizeof name, "%.*s", (int)length, topic);
        int i = atoi(name);
        once = once && !seen[i];
        seen[i] = true;
        count++;
    }
    is_int(count, COUNT, "every topic");
    ok(once, "once");
    ok(!ws_server_next_topic(h.server, "x", 1, &length) && !length, "none after an unknown one");
    h.quiet = false;
    stop("walk over topics");
}

static void test_sizes(void)
{
    ws_relay relay;
    start(1);
    is_int(ws_relay_init(&relay, sizeof relay - 1), WS_EABI, "T77: another size");
    is_int(ws_relay_init(&relay, sizeof relay), WS_OK, "the right size");
    relay.size--;
    is_int(ws_server_set_relay(h.server, &relay), WS_EABI, "T77: another size");
    is_int((long long)ws_struct_size("ws_relay"), (long long)sizeof relay, "T77: ws_struct_size");
    relay.size++;
    is_int(ws_server_set_relay(h.server, &relay), WS_OK, "no function is needed");
    join(0, "a");
    is_int(publish("a", "x"), 1, "published");
    is_int(end_topic("a", 1000, ""), 1, "ended");
    stop("sizes of a relay");
}

static void cases(void)
{
    CASE(test_topics());
    CASE(test_publish());
    CASE(test_take());
    CASE(test_order());
    CASE(test_stopping());
    CASE(test_end());
    CASE(test_end_handlers());
    CASE(test_walk());
    CASE(test_sizes());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
