/*
 * test_publish.c: topics through a running server: what on_subscription tells, the order of what is
 * published and sent from every place, slow and dying receivers, handlers that change everything
 * while a publish is under way, failing allocations.
 */
#include "harness.h"
#include "conn.h"
#include "kernel.h"

#include <stdlib.h>

enum { CLIENTS = 8 };

static struct harness h;
static struct client c[CLIENTS];
static int clients;
static char payload[1 << 20];

static void prepare(void)
{
    harness_init(&h);
    clients = 0;
    kernel_reset(0);
}

static void run(int count)
{
    harness_start(&h);
    kernel_reset(h.port);
    for (clients = 0; clients < count; clients++)
        client_open(&c[clients], &h);
    harness_events(&h);
}

static void start(int count)
{
    prepare();
    run(count);
}

static void stop(const char *name)
{
    h.hook = NULL;
    for (int i = 0; i < clients; i++)
        client_close(&c[i]);
    turns(&h, 3);
    harness_stop(&h, name);
}

static int join(int i, const char *topic)
{
    return ws_conn_subscribe(conn_at(&h, i), topic, strlen(topic));
}

static int leave(int i, const char *topic)
{
    return ws_conn_unsubscribe(conn_at(&h, i), topic, strlen(topic));
}

static int publish(const char *topic, const char *text)
{
    return ws_server_publish(h.server, topic, strlen(topic), text, strlen(text), WS_TEXT);
}

static int publish_bytes(const char *topic, char fill, size_t n)
{
    memset(payload, fill, n);
    return ws_server_publish(h.server, topic, strlen(topic), payload, n, WS_BINARY);
}

static int send_text(int i, const char *text)
{
    ws_conn *conn = conn_at(&h, i);
    return conn ? ws_conn_send(conn, text, strlen(text), WS_TEXT) : WS_DROPPED;
}

static uint32_t subscribers(const char *topic)
{
    return ws_server_subscribers(h.server, topic, strlen(topic));
}

/* The kernel takes so many bytes more for client i. */
static void give_room(int i, size_t room)
{
    int fd = conn_at(&h, i)->fd;
    kernel.sockets[fd].limited = true;
    kernel.sockets[fd].room = room;
}

static void call(void *argument)
{
    void (*fn)(void);
    memcpy(&fn, argument, sizeof fn);
    fn();
}

/* fn within a turn. */
static void in_turn(void (*fn)(void))
{
    static void (*kept)(void);
    kept = fn;
    ws_server_defer(h.server, call, &kept);
    turns(&h, 1);
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
    is_int(subscribers("a"), 0, "S42: nobody is left");
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
    is_int(ws_conn_subscribe(conn, "a\0c", 3), 1, "T64: another one behind the NUL");
    is_int(ws_conn_subscribe(conn, "a", 1), 1, "T64: a name of which they are no prefix");
    memset(large, 'x', sizeof large);
    is_int(ws_conn_subscribe(conn, large, sizeof large), WS_EINVAL, "T64: 1 MiB is refused");
    is_int(ws_conn_subscribe(conn, large, 1025), WS_EINVAL, "max_topic_length: one byte more");
    is_int(ws_conn_subscribe(conn, large, 1024), 1, "max_topic_length: exactly");
    ok(!ws_conn_is_subscribed(conn, large, sizeof large), "T64: 1 MiB: is not subscribed");
    is_int(ws_conn_unsubscribe(conn, large, sizeof large), 0, "T64: 1 MiB: nothing to end");
    is_int(ws_server_publish(h.server, large, sizeof large, "x", 1, WS_TEXT), 0, "T64: nobody");
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
    is_int(subscribers("e"), 0, "T53: refused: nobody");
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

/* ---- order, from every place ---- */

static int spoken, results;

/* 0 is in a and b, 1 in b alone. */
static void speak(void)
{
    if (spoken++)
        return;
    results = publish("a", "1") == 1 && send_text(0, "2") <= WS_SUCCESS && publish("a", "3") == 1 &&
              publish("b", "4") == 1 && publish("a", "5") == 1 && send_text(1, "6") <= WS_SUCCESS &&
              publish("b", "7") == 1;
}

static enum event spoken_in;

static void speak_here(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)length, (void)data;
    if (event == spoken_in)
        speak();
}

static void speak_then(void *argument)
{
    (void)argument;
    speak();
}

static bool waiting_speaks;

static void before_wait(void *user)
{
    (void)user;
    if (waiting_speaks)
        speak();
}

static void spoke(const char *where)
{
    ok(spoken && results, "T63: %s: every publish reaches somebody", where);
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 7", where);
    is_frames(&c[1], "TEXT 4, TEXT 6, TEXT 7", where);
}

static void begin(void)
{
    prepare();
    h.config.before_wait = before_wait;
    h.config.after_wait = before_wait;
    h.behavior.max_backpressure = 1000;
    run(4);
    join(0, "a");
    join(0, "b");
    join(1, "b");
    spoken = results = 0;
    kernel.writes = 0;
}

static void end(const char *name)
{
    waiting_speaks = false;
    stop(name);
}

static void test_order_outside(void)
{
    begin();
    speak();
    spoke("order: outside of a turn");
    end("order outside");

    begin();
    in_turn(speak);
    is_int(kernel.writes, 2 + 2, "one write for each send, one for what was published behind it");
    spoke("order: from ws_server_defer");
    end("order in a deferred call");

    begin();
    ws_server_set_alarm(h.server, 1000000, speak_then, NULL);
    advance(&h, 2);
    spoke("order: from the alarm");
    end("order in the alarm");

    begin();
    waiting_speaks = true;
    turns(&h, 1);
    spoke("order: from before_wait");
    end("order in before_wait");
}

static void trigger(enum event event)
{
    switch (event) {
    case ON_OPEN:
        client_open(&c[clients++], &h);
        break;
    case ON_MESSAGE:
        client_text(&c[2], "x");
        break;
    case ON_PING:
        client_frame(&c[2], 0x89, "x", 1);
        break;
    case ON_PONG:
        client_frame(&c[2], 0x8a, "x", 1);
        break;
    case ON_SUBSCRIPTION:
        join(2, "other");
        break;
    case ON_CLOSE:
    case ON_CLOSED:
        client_send_close(&c[2], 1000, "");
        break;
    default: /* ON_DRAIN, ON_DROPPED */
        give_room(2, 10);
        send_text(2, "0123456789");
        ws_conn_send(conn_at(&h, 2), payload, 2000, WS_BINARY);
        give_room(2, 1000);
        break;
    }
    turns(&h, 3);
}

static void test_order_in_handlers(void)
{
    static const struct {
        enum event event;
        const char *name;
    } places[] = {{ON_OPEN, "order: in on_open"},       {ON_MESSAGE, "order: in on_message"},
                  {ON_PING, "order: in on_ping"},       {ON_PONG, "order: in on_pong"},
                  {ON_CLOSE, "order: in on_close"},     {ON_CLOSED, "order: in on_closed"},
                  {ON_DRAIN, "order: in on_drain"},     {ON_DROPPED, "order: in on_dropped"},
                  {ON_SUBSCRIPTION, "order: in on_subscription"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        begin();
        spoken_in = places[i].event;
        h.hook = speak_here;
        trigger(spoken_in);
        spoke(places[i].name);
        end(places[i].name);
    }
    begin(); /* the end of a connection that is in a topic of its own */
    join(2, "other");
    spoken_in = ON_SUBSCRIPTION;
    h.hook = speak_here;
    ws_conn_end(conn_at(&h, 2), 1000, NULL, 0);
    spoke("order: in on_subscription at close");
    end("order in on_subscription at close");
}

/* A handler of the very connection that is in the topics: it is corked. */
static void test_order_own_handler(void)
{
    begin();
    spoken_in = ON_MESSAGE;
    h.hook = speak_here;
    client_text(&c[0], "x");
    turns(&h, 1);
    is_int(kernel.writes, 2 + 1, "T63: in its own handler: one write for all, and the other's two");
    spoke("order: in its own on_message");
    end("order in its own handler");

    begin();
    h.echo = true;
    spoken_in = ON_MESSAGE;
    h.hook = speak_here;
    client_text(&c[0], "x");
    client_text(&c[0], "y");
    is_frames(&c[0], "TEXT x, TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 7, TEXT y",
              "T63: between echoes");
    end("order between echoes");
}

static void publish_then_end(void)
{
    publish("a", "1");
    send_text(0, "2");
    publish("b", "3");
    ws_conn_end(conn_at(&h, 0), 1000, "bye", 3);
    publish("b", "4");
    publish("a", "5");
}

static void publish_then_close(void)
{
    publish("b", "1");
    ws_conn_close(conn_at(&h, 0));
    is_int(publish("a", "2"), 0, "nobody is there any more");
    publish("b", "3");
}

static void publish_corked(void)
{
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_cork(conn);
    send_text(0, "1");
    publish("a", "2");
    send_text(0, "3");
    publish("b", "4");
    ws_conn_uncork(conn);
    publish("b", "5");
    ws_conn_cork(conn);
    publish("a", "6");
    ws_conn_uncork(conn);
}

static void publish_nobody_reads(void)
{
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 0)), 0, "S28: nothing is buffered");
    publish("a", "123");
    send_text(0, "4");
    publish("a", "5");
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 0)), 0,
           "S28: what was published in this turn was not refused");
}

static void test_order_of_one(void)
{
    begin();
    in_turn(publish_then_end);
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, CLOSE 1000 bye", "T63, C8: publish, then end");
    is_frames(&c[1], "TEXT 3, TEXT 4", "T63: the other one");
    end("publish then end");

    begin();
    publish_then_end();
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, CLOSE 1000 bye", "T63, C8: the same between turns");
    end("publish then end between turns");

    begin();
    in_turn(publish_then_close);
    is_frames(&c[0], "EOF", "T63: closed before the end of the turn: nothing has gone out");
    is_frames(&c[1], "TEXT 1, TEXT 3", "T63: the other one gets it");
    end("publish then close");

    begin();
    in_turn(publish_corked);
    is_int(kernel.writes, 1 + 1 + 1, "T63: corked: one write, and one for the rest");
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 6", "T63: corked: in order");
    is_frames(&c[1], "TEXT 4, TEXT 5", "T63: corked: the other one");
    end("corked");

    begin();
    publish_corked();
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 6",
              "T63: corked, between turns");
    end("corked between turns");

    begin();
    in_turn(publish_nobody_reads);
    is_frames(&c[0], "TEXT 123, TEXT 4, TEXT 5", "in order");
    end("buffered amount");
}

static void publish_ten(void)
{
    for (int i = 0; i < 10; i++)
        publish(i & 1 ? "a" : "b", "x");
}

static void publish_writes(void)
{
    for (int i = 0; i < 10; i++) {
        publish_bytes("a", 'x', 10000);
        results += kernel.writes > 0;
    }
}

static void test_one_write(void)
{
    begin();
    in_turn(publish_ten);
    is_int(kernel.writes, 2, "S36: ten messages of a turn leave in one write for each subscriber");
    is_frames(&c[0],
              "TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x",
              "all ten");
    is_frames(&c[1], "TEXT x, TEXT x, TEXT x, TEXT x, TEXT x", "five of them");
    end("one write");

    prepare();
    h.behavior.max_backpressure = 0;
    run(1);
    join(0, "a");
    kernel.writes = 0;
    results = 0;
    in_turn(publish_writes);
    is_int(kernel.writes, 2, "100 KB in a turn: two writes");
    is_int(results, 4, "one as soon as there are 64 KiB");
    stop("large cork");
}

static void publish_in_fragments(void)
{
    ws_conn *conn = conn_at(&h, 0);
    publish("a", "0");
    ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false);
    is_int(publish("a", "1"), 1, "between fragments: held back");
    send_text(0, "2");
    is_int(publish("b", "3"), 1, "between fragments: held back, too");
    ok(ws_conn_buffered_amount(conn) >= 9, "S28: what is held back counts");
    ws_conn_send_fragment(conn, "y", 1, WS_CONTINUATION, false);
    publish("a", "4");
    ws_conn_send_fragment(conn, "z", 1, WS_CONTINUATION, true);
    publish("a", "5");
}

static void test_fragments(void)
{
    static const char want[] = "TEXT 0, TEXT+ x, CONT+ y, CONT z, TEXT 1, TEXT 2, TEXT 3, TEXT 4, "
                               "TEXT 5";
    for (int between = 0; between < 2; between++) {
        begin();
        if (between)
            publish_in_fragments();
        else
            in_turn(publish_in_fragments);
        is_frames(&c[0], want, "RFC 6455 5.4: behind the last fragment, in order");
        is_frames(&c[1], "TEXT 3", "the other one");
        end("fragments");
    }
    begin();
    ws_conn_send_fragment(conn_at(&h, 0), "x", 1, WS_TEXT, false);
    publish("a", "1");
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    is_frames(&c[0], "TEXT+ x, CLOSE 1000", "ended between fragments: only Close can follow");
    end("end in fragments");

    begin(); /* the limit is 1,000 */
    ws_conn_send_fragment(conn_at(&h, 0), "x", 1, WS_TEXT, false);
    is_int(publish_bytes("b", 'b', 900), 1, "held back: fits");
    harness_events(&h);
    is_int(publish_bytes("a", 'a', 900), 0, "held back: above the limit: dropped");
    is_events(&h, "dropped BINARY [900]", "S35: on_dropped");
    ws_conn_send_fragment(conn_at(&h, 0), "y", 1, WS_CONTINUATION, true);
    is_frames(&c[0], "TEXT+ x, CONT y, BINARY [900]", "S35: the one that fitted");
    is_frames(&c[1], "BINARY [900]", "S36: the other one is not concerned");
    end("limit of what is held back");
}

static void publish_large(void)
{
    send_text(0, "1");
    publish("a", "2");
    publish_bytes("a", 'x', 16383);
    publish_bytes("b", 'y', 16384);
    publish_bytes("a", 'z', 100000);
    publish("a", "3");
    publish_bytes("b", 'w', 70000);
}

static const char large[] = "TEXT 1, TEXT 2, BINARY [16383], BINARY [16384], BINARY [100000], "
                            "TEXT 3, BINARY [70000]";

static size_t most; /* memory that publish_much has seen */

static void publish_much(void)
{
    most = 0;
    for (int i = 0; i < 60; i++) {
        size_t memory = stats_of(&h).memory;
        most = memory > most ? memory : most;
        publish_bytes("a", (char)i, 10000);
        if (i % 7 == 0)
            publish_bytes("b", (char)i, 9000);
    }
}

static int check_much(struct client *client, bool both)
{
    int count = 0;
    client_drain(client);
    const unsigned char *at = (const unsigned char *)client->in;
    for (int i = 0; i < 60; i++)
        for (int b = 0; b < 2; b++) {
            if (b ? i % 7 : !both)
                continue;
            size_t n = b ? 9000 : 10000;
            size_t left = client->in_length - (size_t)(at - (unsigned char *)client->in);
            if (left < n + 4 || at[0] != 0x82 || (size_t)(at[2] << 8 | at[3]) != n ||
                at[4] != i || memcmp(at + 4, at + 5, n - 1))
                return -1;
            at += n + 4;
            count++;
        }
    size_t rest = client->in_length - (size_t)(at - (unsigned char *)client->in);
    client->in_length = 0;
    return rest ? -2 : count;
}

static void test_large(void)
{
    begin();
    in_turn(publish_large);
    is_frames(&c[0], large, "T52: small and large ones, in order");
    is_frames(&c[1], "BINARY [16384], BINARY [70000]", "T52: the other one");
    publish_large();
    is_frames(&c[0], large, "T52: the same between turns");
    is_frames(&c[1], "BINARY [16384], BINARY [70000]", "T52: the other one");
    end("large ones");

    prepare();
    run(3);
    h.quiet = true;
    join(0, "a");
    join(0, "b");
    join(1, "b");
    turns(&h, 2);
    size_t before = stats_of(&h).memory;
    in_turn(publish_much);
    is_int(check_much(&c[0], true), 69, "T52: 660 KB in one turn: all there, in order");
    is_int(check_much(&c[1], false), 9, "T52: the other one");
    ok(most <= before + 500000, "T52: not all of it was held at a time");
    turns(&h, 2);
    ok(stats_of(&h).memory <= before + 66000, "T52: and the memory is back");
    h.quiet = false;
    stop("much in one turn");
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
    is_int(results, 0, "0: nobody else is there");
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
    is_frames(&c[0], "CLOSE 1001, EOF", "T64: nothing behind the Close");
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

/* ---- slow receivers ---- */

static void test_slow(void)
{
    prepare();
    h.behavior.max_backpressure = 5000;
    run(3);
    for (int i = 0; i < 3; i++)
        join(i, "a");
    harness_events(&h);
    give_room(1, 1500);
    for (int i = 0; i < 20; i++)
        is_int(publish_bytes("a", (char)('a' + i), 996), 1, "S36: %d: the others get it", i);
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 1)), 4500, "S34: bounded by its limit");
    const char *dropped = harness_events(&h);
    int drops = 0;
    for (const char *p = dropped; (p = strstr(p, "1:dropped BINARY [996]")); p++)
        drops++;
    is_int(drops, 14, "S35: on_dropped for each message that is lost");
    ok(!strstr(dropped, "drain") && !strstr(dropped, "2:"), "S35: and for no other");
    is_int(publish("a", "0123456789"), 1, "S34: a small one still fits");
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 1)), 4512, "S34: counted");
    kernel.sockets[conn_at(&h, 1)->fd].room = 100000;
    turns(&h, 3);
    is_events(&h, "1:drain", "S31: exactly one drain");
    client_drain(&c[1]);
    is_int((long long)c[1].in_length, 6012, "S36: what was accepted arrives");
    bool same = true;
    for (int i = 0; i < 6; i++)
        for (int j = 4; j < 1000; j++)
            same = same && c[1].in[i * 1000 + j] == 'a' + i;
    ok(same && !memcmp(c[1].in + 6002, "0123456789", 10), "S36: byte by byte, in order");
    for (int i = 0; i < 3; i += 2) {
        client_drain(&c[i]);
        same = c[i].in_length == 20012;
        for (int k = 0; same && k < 20; k++)
            for (int j = 4; j < 1000; j++)
                same = same && c[i].in[k * 1000 + j] == 'a' + k;
        ok(same, "S36, T92: client %d got everything, in order", i);
    }
    stop("slow");
}

enum { NUMBERED = 1000, NUMBERED_SIZE = 700 };

static bool lost[NUMBERED];

static void note_lost(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                      const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_DROPPED)
        return;
    int number = atoi(data);
    results += ws_conn_user(conn) != (void *)1 || length != NUMBERED_SIZE || lost[number];
    lost[number] = true;
}

/* Takes the numbered messages off a client; how many, or -1: not those, or not in this order. */
static int take_numbered(struct client *client, bool all)
{
    int number = 0, taken = 0;
    for (size_t at = 0; at < client->in_length; at += NUMBERED_SIZE + 4, taken++) {
        while (!all && number < NUMBERED && lost[number])
            number++;
        if (client->in_length - at < NUMBERED_SIZE + 4 || atoi(client->in + at + 4) != number++)
            return -1;
    }
    client->in_length = 0;
    return taken;
}

/* The same with a real kernel: one client reads nothing for a while. */
static void test_stalled(void)
{
    prepare();
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 20000;
    harness_start(&h);
    client_open(&c[0], &h);
    client_open_small(&c[1], &h);
    client_open(&c[2], &h);
    clients = 3;
    for (int i = 0; i < clients; i++)
        join(i, "a");
    harness_events(&h);
    h.hook = note_lost;
    h.quiet = true;
    results = 0;
    size_t longest = 0;
    bool all = true;
    for (int i = 0; i < NUMBERED; i++) {
        memset(payload, ' ', NUMBERED_SIZE);
        snprintf(payload, 16, "%d", i);
        all = ws_server_publish(h.server, "a", 1, payload, NUMBERED_SIZE, WS_TEXT) == 1 && all;
        size_t amount = ws_conn_buffered_amount(conn_at(&h, 1));
        longest = amount > longest ? amount : longest;
        client_drain(&c[0]);
        client_drain(&c[2]);
    }
    int drops = 0;
    for (int i = 0; i < NUMBERED; i++)
        drops += lost[i];
    ok(all && drops > NUMBERED / 2, "T52: %d of %d dropped for the stalled one", drops, NUMBERED);
    ok(longest <= 20000, "S34, S37: its queue is bounded: %zu bytes", longest);
    ok(!results, "S35: on_dropped: each lost message once, its own connection");
    is_int(take_numbered(&c[0], true), NUMBERED, "S36: the others have all, in order");
    is_int(take_numbered(&c[2], true), NUMBERED, "S36: the others have all, in order");
    h.quiet = false;
    harness_events(&h);
    client_drain(&c[1]);
    is_events(&h, "1:drain", "S31: it reads again: one drain");
    is_int(take_numbered(&c[1], false), NUMBERED - drops, "S35: exactly those not dropped");
    stop("stalled");
}

static void publish_four(void)
{
    results = 0;
    for (int i = 0; i < 4; i++)
        results += publish_bytes("a", (char)('a' + i), 996);
}

/* Within a turn nothing is written before the limit is met, and the limit is that of what the
 * kernel has refused. */
static void test_slow_in_turn(void)
{
    prepare();
    h.behavior.max_backpressure = 2500;
    run(1);
    join(0, "a");
    harness_events(&h);
    give_room(0, 0);
    in_turn(publish_four);
    is_int(results, 2, "S34: two of four fit");
    is_events(&h, "dropped BINARY [996]; dropped BINARY [996]", "S35: the others are dropped");
    is_int(publish("a", "x"), 1, "S32: 1: queued is enough");
    is_int(publish_bytes("a", 'e', 996), 0, "S36: 0: all drop it");
    harness_events(&h);
    kernel.sockets[conn_at(&h, 0)->fd].room = 100000;
    turns(&h, 3);
    is_events(&h, "drain", "S31: one drain");
    is_frames(&c[0], "BINARY [996], BINARY [996], TEXT x", "S35: exactly these");
    give_room(0, 3500);
    in_turn(publish_four);
    is_int(results, 4, "S34: the kernel takes the first ones when the limit is met");
    turns(&h, 3);
    is_events(&h, "", "nothing is dropped, nothing has drained yet");
    kernel.sockets[conn_at(&h, 0)->fd].room = 100000;
    turns(&h, 3);
    is_events(&h, "drain", "S31: one drain");
    is_frames(&c[0], "BINARY [996], BINARY [996], BINARY [996], BINARY [996]", "S34: all four");
    stop("slow in a turn");
}

static void test_strict(void)
{
    prepare();
    h.behavior.max_backpressure = 2500;
    h.behavior.close_on_backpressure_limit = true;
    run(3);
    for (int i = 0; i < 3; i++)
        join(i, "a");
    harness_events(&h);
    give_room(0, 0);
    give_room(2, 100);
    in_turn(publish_four);
    is_int(results, 4, "T92: the good one gets all");
    const char *events = harness_events(&h);
    ok(strstr(events, "-a 2; close 1008 max_backpressure exceeded"), "S37: 1008");
    ok(strstr(events, "2:-a 1; 2:close 1008 max_backpressure exceeded"), "S37: each by itself");
    ok(!strstr(events, "dropped"), "S37: instead of on_dropped");
    for (int i = 0; i < 3; i += 2)
        memset(&kernel.sockets[h.server ? ws__hub_of(h.server)->slots[i].conn->fd : 0], 0,
               sizeof kernel.sockets[0]);
    is_frames(&c[0], "BINARY [996], BINARY [996], CLOSE 1008 max_backpressure exceeded",
              "S37, C8: what was queued, and the Close");
    is_frames(&c[1], "BINARY [996], BINARY [996], BINARY [996], BINARY [996]", "S36: the good one");
    stop("strict");
}

/* Everything dies in the turn in which it is published to. */
static void test_reset(void)
{
    enum { MANY = 100 };
    static struct client many[MANY];
    for (int large_ones = 0; large_ones < 2; large_ones++) {
        start(1);
        h.quiet = true;
        for (int i = 0; i < MANY; i++) {
            client_open(&many[i], &h);
            join(i + 1, "a");
        }
        join(0, "a");
        join(0, "b");
        for (int i = 0; i < MANY; i++)
            client_reset(&many[i]);
        if (large_ones) {
            for (int i = 0; i < 20; i++)
                publish_bytes("a", (char)i, 30000);
            client_drain(&c[0]);
            is_int((long long)c[0].in_length, 20 * 30004, "T65: 20 x 30 KB reach who is left");
        } else {
            in_turn(publish_much);
            is_int(check_much(&c[0], true), 69, "T65: 600 KB in one turn reach who is left");
        }
        turns(&h, 3);
        is_int(subscribers("a"), 1, "T65: the others are gone");
        h.quiet = false;
        stop("reset");
    }
}

static void publish_to_broken(void)
{
    int fd = conn_at(&h, 0)->fd;
    publish("a", "1");
    kernel.sockets[fd].error = EPIPE;
    publish_bytes("b", 'x', 100000); /* written at once: broken */
    publish("a", "2");
    send_text(0, "3");
    publish("a", "4");
}

/* Less than is written at once to either, but much together. */
static void publish_some(void)
{
    for (int i = 0; i < 5; i++) {
        publish_bytes("a", 'x', 10000);
        publish_bytes("other", 'y', 10000);
    }
}

static void test_broken(void)
{
    begin();
    join(3, "a");
    harness_events(&h);
    in_turn(publish_to_broken);
    turns(&h, 3);
    is_events(&h, "-b 1; -a 1; close 1006 connection reset by peer", "T82: a failed write ends it");
    is_frames(&c[3], "TEXT 1, TEXT 2, TEXT 4", "T82: the others go on");
    end("broken");

    prepare(); /* the write at the end of the turn fails, and there is more before it is noticed */
    h.behavior.max_backpressure = 0;
    run(2);
    h.quiet = true;
    join(0, "a");
    join(1, "other");
    kernel.sockets[conn_at(&h, 0)->fd].error = ECONNRESET;
    in_turn(publish_some);
    send_text(0, "x");
    publish_much();
    turns(&h, 3);
    ok(!conn_at(&h, 0), "T82: a failed write at the end of the turn");
    h.quiet = false;
    stop("broken at the end of the turn");

    begin();
    h.quiet = true;
    kernel.sockets[conn_at(&h, 0)->fd].error = ECONNRESET;
    in_turn(publish_much);
    turns(&h, 3);
    ok(!conn_at(&h, 0), "T82: a failed write in the middle of the turn");
    h.quiet = false;
    end("broken in the middle of the turn");
}

/* A Pong that waits is taken out of the queue by the next one, whatever stands behind it. */
static void test_pongs(void)
{
    prepare();
    run(1);
    join(0, "a");
    give_room(0, 0);
    publish("a", "1");
    client_frame(&c[0], 0x89, "first", 5);
    turns(&h, 2);
    publish("a", "2");
    in_turn(publish_ten);
    client_frame(&c[0], 0x89, "second", 6);
    turns(&h, 2);
    publish("a", "3");
    kernel.sockets[conn_at(&h, 0)->fd].limited = false;
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, PONG second, TEXT 3",
              "F12: the newest Pong alone, between what is published");
    stop("Pongs");
}

/* The end of a turn leaves bytes, then none; published to in each turn meanwhile. */
static void test_drain_while_published(void)
{
    prepare();
    run(2);
    join(0, "a");
    h.echo = false;
    spoken_in = ON_MESSAGE;
    give_room(0, 3);
    publish("a", "0123456789");
    harness_events(&h);
    kernel.sockets[conn_at(&h, 0)->fd].limited = false;
    h.hook = publish_as; /* conn 1 publishes in each turn */
    int drains = 0, turn = 0;
    for (; turn < 20 && !drains; turn++) {
        client_text(&c[1], "x");
        turns(&h, 1);
        drains = strstr(harness_events(&h), "drain") != NULL;
    }
    ok(drains, "S31: drain comes though every turn publishes to it");
    stop("drain while published to");
}

/* The memory of published frames is lent for a turn, whoever gets them. */
static void test_published_memory(void)
{
    prepare();
    h.behavior.max_backpressure = 10;
    run(1);
    join(0, "a");
    give_room(0, 0);
    publish("a", "12345");
    turns(&h, 2);
    h.quiet = true;
    size_t before = stats_of(&h).memory;
    in_turn(publish_writes); /* 100 KB, and all is dropped */
    turns(&h, 1);
    ok(stats_of(&h).memory <= before + 66000, "T52: all receivers are stalled: nothing is kept");
    h.quiet = false;
    stop("memory of published frames");
}

/* ---- handlers that change everything ---- */

enum action {
    JOIN_MORE, LEAVE_ALL, PUBLISH_SAME, PUBLISH_OTHER, CLOSE_OTHERS, CLOSE_ALL, END_SELF,
    CLOSE_SELF, END_ALL, LEAVE_OTHERS, SEND_ALL, FRAGMENTS, ACTIONS
};

static const char *const action_names[ACTIONS] = {
    "subscribe", "unsubscribe", "publish again", "publish to another topic", "close the others",
    "close all", "end itself", "close itself", "end all", "unsubscribe the others", "send to all",
    "send fragments"
};

static enum action action;
static enum event action_event;
static int depth, acted;

static void act_on(ws_conn *conn, int i)
{
    ws_conn *other = conn_at(&h, i);
    if (!other)
        return;
    if (action == JOIN_MORE)
        ws_conn_subscribe(other, "more", 4);
    else if (action == LEAVE_ALL || (action == LEAVE_OTHERS && other != conn))
        ws_conn_unsubscribe(other, "a", 1);
    else if (action == CLOSE_ALL || (action == CLOSE_OTHERS && other != conn))
        ws_conn_close(other);
    else if (action == END_ALL)
        ws_conn_end(other, 1000, "all", 3);
    else if (action == SEND_ALL)
        ws_conn_send(other, "sent", 4, WS_TEXT);
}

static void send_pieces(ws_conn *conn)
{
    if (ws_conn_send_fragment(conn, "f", 1, WS_TEXT, false) < 0)
        return;
    publish("a", "held");
    ws_conn_send_fragment(conn, "g", 1, WS_CONTINUATION, true);
}

static void act(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != action_event || depth >= 2)
        return;
    depth++;
    acted++;
    for (int i = 0; i < clients; i++)
        act_on(conn, i);
    if (action == PUBLISH_SAME)
        publish("a", "again");
    else if (action == PUBLISH_OTHER)
        publish("b", "other");
    else if (action == END_SELF && event < ON_CLOSE)
        ws_conn_end(conn, 1000, "self", 4);
    else if (action == CLOSE_SELF && event < ON_CLOSE)
        ws_conn_close(conn);
    else if (action == FRAGMENTS && event < ON_CLOSE)
        send_pieces(conn);
    publish("a", "after");
    depth--;
}

static void provoke(void)
{
    publish_bytes("a", 'x', 300);
    publish_bytes("b", 'y', 400);
    for (int i = 0; i < clients; i++) {
        if (conn_at(&h, i) && action_event == ON_SUBSCRIPTION)
            join(i, i & 1 ? "new" : "a");
        if (conn_at(&h, i) && action_event == ON_CLOSE && i == 3)
            ws_conn_end(conn_at(&h, i), 1000, NULL, 0);
    }
    publish_bytes("a", 'z', 20000);
}

/* What a client got must be whole frames, and nothing behind a Close. */
static bool is_sound(struct client *client)
{
    const char *frames = client_frames(client), *end = strstr(frames, "CLOSE");
    bool cut = strstr(frames, "..") && !strstr(frames, "EOF") && !strstr(frames, "RST");
    return !cut && !strstr(frames, "!") && (!end || !strchr(end, ','));
}

static void try_action(bool turning)
{
    prepare();
    h.behavior.max_backpressure = 500;
    run(CLIENTS);
    h.quiet = true;
    depth = acted = 0;
    for (int i = 0; i < clients; i++) {
        join(i, "a");
        if (i & 1)
            join(i, "b");
        if (action_event == ON_DROPPED && i % 3)
            give_room(i, (size_t)i);
    }
    h.hook = act;
    if (action_event == ON_MESSAGE)
        for (int i = 0; i < clients; i++)
            client_text(&c[i], "go");
    if (turning)
        in_turn(provoke);
    else
        provoke();
    turns(&h, 3);
    bool sound = acted > 0;
    memset(kernel.sockets, 0, sizeof kernel.sockets);
    for (int i = 0; i < clients; i++)
        sound = is_sound(&c[i]) && sound;
    ok(sound, "T60, T63: %s in %s%s", action_names[action],
       action_event == ON_DROPPED  ? "on_dropped"
       : action_event == ON_CLOSE  ? "on_close"
       : action_event == ON_MESSAGE ? "on_message"
                                    : "on_subscription",
       turning ? " in a turn" : "");
    h.hook = NULL;
    for (int i = 0; i < clients; i++)
        if (conn_at(&h, i))
            ws_conn_close(conn_at(&h, i));
    is_int(subscribers("a") + subscribers("b") + subscribers("more") + subscribers("new"), 0,
           "S42: nobody is left");
    h.quiet = false;
    stop(action_names[action]);
}

static void test_actions(void)
{
    static const enum event events[] = {ON_DROPPED, ON_SUBSCRIPTION, ON_CLOSE, ON_MESSAGE};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        action_event = events[i];
        for (action = 0; action < ACTIONS; action++) {
            try_action(false);
            try_action(true);
        }
    }
}

/* Who is closing gets nothing, though it has not left the topic yet. */
static void publish_both(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_SUBSCRIPTION || conn != ws__hub_of(h.server)->slots[0].conn)
        return;
    publish("a", "a");
    publish("b", "b");
    publish_bytes("a", 'x', 20000);
    ws_conn_publish(conn, "a", 1, "own", 3, WS_TEXT, false);
}

static void end_first(void)
{
    ws_conn_end(conn_at(&h, 0), 1000, "bye", 3);
}

static void close_first(void)
{
    ws_conn_close(conn_at(&h, 0));
}

static void test_leaving(void)
{
    begin();
    h.hook = publish_both;
    in_turn(end_first);
    is_frames(&c[0], "CLOSE 1000 bye", "F14: nothing behind the Close, also while topics are left");
    is_frames(&c[1], "TEXT b, TEXT b", "S42: the others get it");
    end("leaving");

    begin();
    h.hook = publish_both;
    in_turn(close_first);
    is_frames(&c[0], "EOF", "T61: nothing to a dead one");
    is_frames(&c[1], "TEXT b, TEXT b", "S42: the others get it");
    end("leaving, dead");

    begin();
    h.hook = publish_both;
    client_send_close(&c[0], 1000, "");
    is_frames(&c[0], "CLOSE 1000, EOF", "F14: the peer's Close: nothing behind the answer");
    end("leaving, by the peer");
}

static void publish_and_leave(struct harness *harness, enum event event, ws_conn *conn,
                              ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    publish("a", "1");
    ws_conn_unsubscribe(conn, "a", 1);
    publish("a", "2");
    ws_conn_subscribe(conn, "a", 1);
    publish("a", "3");
}

static void test_leave_after_publish(void)
{
    begin();
    h.hook = publish_and_leave;
    client_text(&c[0], "go");
    is_frames(&c[0], "TEXT 1, TEXT 3", "T63: published before it left is delivered");
    end("leave after publish");
}

/* ---- memory fails ---- */

static void prepare_memory(void)
{
    prepare();
    h.quiet = true;
    h.behavior.max_backpressure = 3000;
    h.hook = speak_here;
    spoken_in = ON_DROPPED;
    spoken = 1;
}

static void run_memory(void)
{
    for (clients = 0; clients < 3; clients++) {
        client_open(&c[clients], &h);
        c[clients].small = false;
    }
    for (int i = 0; i < 3 && i < h.opened; i++) {
        for (char name[2] = "a"; *name < 'g' && conn_at(&h, i); name[0]++)
            join(i, name);
        if (i == 1 && conn_at(&h, i)) {
            give_room(i, 500);
            ws_conn_send_fragment(conn_at(&h, i), "f", 1, WS_TEXT, false);
        }
    }
    in_turn(publish_much);
    publish_large();
    if (h.opened > 1 && conn_at(&h, 1))
        ws_conn_send_fragment(conn_at(&h, 1), "f", 1, WS_CONTINUATION, true);
    publish("b", "x");
    memset(kernel.sockets, 0, sizeof kernel.sockets);
    turns(&h, 3);
    in_turn(publish_four);
    for (int i = 0; i < clients; i++) {
        client_send_close(&c[i], 1000, "");
        client_drain(&c[i]);
        client_close(&c[i]);
    }
    turns(&h, 3);
    clients = 0;
}

static void start_memory(size_t fail_at, bool after)
{
    prepare_memory();
    harness_create(&h);
    harness_route(&h, "/");
    harness_listen(&h);
    kernel_reset(h.port);
    h.memory.calls = 0;
    h.memory.fail_at = fail_at;
    h.memory.fail_after = after;
}

static void test_failing_memory(void)
{
    start_memory(0, false);
    run_memory();
    size_t calls = h.memory.calls;
    ok(harness_free(&h), "T84: the scenario without a failure");
    diag("%zu allocations", calls);
    size_t step = getenv("UNDER_VALGRIND") ? 17 : 1;
    for (int after = 0; after < 2; after++) {
        bool clean = true, served = true;
        size_t n;
        for (n = 1; n <= calls && clean && served; n += step) {
            start_memory(n, after);
            run_memory();
            h.memory.fail_at = 0;
            turns(&h, 5);
            client_open(&c[0], &h); /* memory is there again: so is the server */
            int last = h.opened - 1;
            served = last >= 0 && join(last, "a") == 1 && publish("a", "x") == 1 &&
                     !strcmp(client_frames(&c[0]), "TEXT x") && stats_of(&h).connections == 1;
            client_close(&c[0]);
            turns(&h, 3);
            clean = subscribers("a") == 0 && harness_free(&h);
        }
        ok(clean, "T84: allocation 1 to %zu fails%s: no leak", n - 1,
           after ? ", all behind it" : "");
        ok(served, "T84: and the server goes on");
    }
}

static int nested, deepest, ran;

/* What many programs do: tell the others. */
static void tell_others(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    if (event != ON_DROPPED && event != ON_CLOSE)
        return;
    ran++;
    if (++nested > deepest)
        deepest = nested;
    if (ran < 5000)
        publish("a", "one less");
    nested--;
}

/* A peer with many connections that read nothing must not make handlers nest as deeply, nor each of
 * them call all others. */
static void test_cascade(bool closing)
{
    enum { STALLED = 40 };
    static struct client many[STALLED];
    harness_init(&h);
    h.quiet = true;
    h.behavior.max_backpressure = 2;
    h.behavior.close_on_backpressure_limit = closing;
    harness_start(&h);
    kernel_reset(h.port);
    for (int i = 0; i < STALLED; i++) {
        client_open(&many[i], &h);
        join(i, "a");
        kernel.sockets[conn_at(&h, i)->fd].limited = true;
        kernel.sockets[conn_at(&h, i)->fd].room = 0;
    }
    h.hook = tell_others;
    nested = deepest = ran = 0;
    publish("a", "hello");
    turns(&h, 5);
    is_int(ran, STALLED, "T63: %s: one event for each connection", closing ? "1008" : "dropped");
    ok(deepest <= 2, "T63: no deeper than two, it was %d", deepest);
    is_int(stats_of(&h).open, closing ? 0 : STALLED, "S36: who is over the limit ends, or stays");
    h.hook = NULL;
    for (int i = 0; i < STALLED; i++)
        client_close(&many[i]);
    turns(&h, 3);
    ok(harness_free(&h), "T68: cascade: nothing is left");
}

enum end_of_other { BY_END, BY_SHUTDOWN, BY_PEER, BY_RULE };
static enum end_of_other end_of_other;

/* The first one was ended by the limit; the second one is above it, too, ... */
static void end_other(struct harness *harness, enum event event, ws_conn *conn,
                      ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_CLOSE || ws_conn_get_id(conn) != h.ids[0])
        return;
    ws_conn *other = conn_at(&h, 1);
    is_int(ws_conn_send(other, payload, 5000, WS_TEXT), WS_DROPPED, "S35: dropped");
    is_int(ws_conn_send(other, "x", 1, WS_TEXT), WS_DROPPED, "and so is what follows");
    is_int(publish("ending", "x"), 0, "also what is published");
    if (end_of_other == BY_END)
        ws_conn_end(other, 1000, "bye", 3);
    if (end_of_other == BY_SHUTDOWN)
        ws_server_shutdown(h.server, 1001, "down", 4, 60000);
}

/* ... and gets its Close frame, also where something else ends it before its turn comes. */
static void test_end_of_other(enum end_of_other how, const char *want)
{
    prepare();
    h.behavior.max_backpressure = 1000;
    h.behavior.close_on_backpressure_limit = true;
    run(2);
    for (int i = 0; i < 2; i++) {
        kernel.sockets[conn_at(&h, i)->fd].limited = true;
        kernel.sockets[conn_at(&h, i)->fd].room = 0;
    }
    end_of_other = how;
    join(1, "ending");
    h.hook = end_other;
    if (how == BY_PEER)
        client_send_close(&c[1], 1000, "peer");
    if (how == BY_RULE)
        client_frame(&c[1], 0x83, "x", 1);
    ws_conn_send(conn_at(&h, 0), payload, 5000, WS_TEXT);
    memset(kernel.sockets, 0, sizeof kernel.sockets);
    turns(&h, 3);
    is_frames(&c[1], want, "C1, C7: a Close frame");
    harness_events(&h);
    for (int i = 0; i < clients; i++)
        client_close(&c[i]);
    turns(&h, 3);
    ok(harness_free(&h), "T68: ends: nothing is left");
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
    is_int(subscribers("solo"), 0, "S15: nobody is left");
    stop("leave at once");
}

static void cases(void)
{
    CASE(test_leave_at_once());
    CASE(test_end_of_other(BY_END, "CLOSE 1000 bye"));
    CASE(test_end_of_other(BY_SHUTDOWN, "CLOSE 1001 down"));
    CASE(test_end_of_other(BY_PEER, "CLOSE 1000, EOF"));
    CASE(test_end_of_other(BY_RULE, "CLOSE 1002 reserved opcode 3, EOF"));
    CASE(test_cascade(false));
    CASE(test_cascade(true));
    CASE(test_counts());
    CASE(test_names());
    CASE(test_max_topics());
    CASE(test_memory_back());
    CASE(test_order_outside());
    CASE(test_order_in_handlers());
    CASE(test_order_own_handler());
    CASE(test_order_of_one());
    CASE(test_one_write());
    CASE(test_fragments());
    CASE(test_large());
    CASE(test_exclude_self());
    CASE(test_routes());
    CASE(test_slow());
    CASE(test_stalled());
    CASE(test_slow_in_turn());
    CASE(test_strict());
    CASE(test_reset());
    CASE(test_broken());
    CASE(test_pongs());
    CASE(test_drain_while_published());
    CASE(test_published_memory());
    CASE(test_actions());
    CASE(test_leaving());
    CASE(test_leave_after_publish());
    CASE(test_failing_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
