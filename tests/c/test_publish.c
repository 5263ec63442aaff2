/* SPDX-License-Identifier: MIT */
/*
 * test_publish.c: the order of what is published and sent, from every handler and outside of
 * them, within a turn and between turns, between fragments, in small and large messages; and in how
 * few writes it leaves.
 */
#include "subscribers.h"

static int spoken;

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

static void start_speakers(void)
{
    prepare();
    h.config.before_wait = before_wait;
    h.config.after_wait = before_wait;
    run_in_topics();
    spoken = 0;
}

static void stop_speakers(const char *name)
{
    waiting_speaks = false;
    stop(name);
}

static void test_order_outside(void)
{
    start_speakers();
    speak();
    spoke("order: outside of a turn");
    stop_speakers("order outside");

    start_speakers();
    in_turn(speak);
    is_int(kernel.writes, 2 + 2, "one write for each send, one for what was published after it");
    spoke("order: from ws_server_defer");
    stop_speakers("order in a deferred call");

    start_speakers();
    ws_server_set_alarm(h.server, 1000000, speak_then, NULL);
    advance(&h, 2);
    spoke("order: from the alarm");
    stop_speakers("order in the alarm");

    start_speakers();
    waiting_speaks = true;
    turns(&h, 1);
    spoke("order: from before_wait");
    stop_speakers("order in before_wait");
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
        start_speakers();
        spoken_in = places[i].event;
        h.hook = speak_here;
        trigger(spoken_in);
        spoke(places[i].name);
        stop_speakers(places[i].name);
    }
    start_speakers(); /* the end of a connection that is in a topic of its own */
    join(2, "other");
    spoken_in = ON_SUBSCRIPTION;
    h.hook = speak_here;
    ws_conn_end(conn_at(&h, 2), 1000, NULL, 0);
    spoke("order: in on_subscription at close");
    stop_speakers("order in on_subscription at close");
}

/* A handler of the very connection that is in the topics: it is corked. */
static void test_order_own_handler(void)
{
    start_speakers();
    spoken_in = ON_MESSAGE;
    h.hook = speak_here;
    client_text(&c[0], "x");
    turns(&h, 1);
    is_int(kernel.writes, 2 + 1, "T63: in its own handler: one write for all, and the other's two");
    spoke("order: in its own on_message");
    stop_speakers("order in its own handler");

    start_speakers();
    h.echo = true;
    spoken_in = ON_MESSAGE;
    h.hook = speak_here;
    client_text(&c[0], "x");
    client_text(&c[0], "y");
    is_frames(&c[0], "TEXT x, TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 7, TEXT y",
              "T63: between echoes");
    stop_speakers("order between echoes");
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
    is_int(publish("a", "2"), 0, "no one is there any more");
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
    start_in_topics();
    in_turn(publish_then_end);
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, CLOSE 1000 bye", "T63, C8: publish, then end");
    is_frames(&c[1], "TEXT 3, TEXT 4", "T63: the other one");
    stop("publish then end");

    start_in_topics();
    publish_then_end();
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, CLOSE 1000 bye", "T63, C8: the same between turns");
    stop("publish then end between turns");

    start_in_topics();
    in_turn(publish_then_close);
    is_frames(&c[0], "EOF", "T63: closed before the end of the turn: nothing has gone out");
    is_frames(&c[1], "TEXT 1, TEXT 3", "T63: the other one gets it");
    stop("publish then close");

    start_in_topics();
    in_turn(publish_corked);
    is_int(kernel.writes, 1 + 1 + 1, "T63: corked: one write, and one for the rest");
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 6", "T63: corked: in order");
    is_frames(&c[1], "TEXT 4, TEXT 5", "T63: corked: the other one");
    stop("corked");

    start_in_topics();
    publish_corked();
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT 3, TEXT 4, TEXT 5, TEXT 6",
              "T63: corked, between turns");
    stop("corked between turns");

    start_in_topics();
    in_turn(publish_nobody_reads);
    is_frames(&c[0], "TEXT 123, TEXT 4, TEXT 5", "in order");
    stop("buffered amount");
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
    start_in_topics();
    in_turn(publish_ten);
    is_int(kernel.writes, 2, "S36: ten messages of a turn leave in one write for each subscriber");
    is_frames(&c[0],
              "TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x",
              "all ten");
    is_frames(&c[1], "TEXT x, TEXT x, TEXT x, TEXT x, TEXT x", "five of them");
    stop("one write");

    prepare();
    h.behavior.max_backpressure = 0;
    run(1);
    join(0, "a");
    kernel.writes = 0;
    results = 0;
    in_turn(publish_writes);
    is_int(kernel.writes, h.tls ? 3 : 2, "100 KB in a turn: two writes, or three batches of TLS");
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
        start_in_topics();
        if (between)
            publish_in_fragments();
        else
            in_turn(publish_in_fragments);
        is_frames(&c[0], want, "RFC 6455 5.4: after the last fragment, in order");
        is_frames(&c[1], "TEXT 3", "the other one");
        stop("fragments");
    }
    start_in_topics();
    ws_conn_send_fragment(conn_at(&h, 0), "x", 1, WS_TEXT, false);
    publish("a", "1");
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    is_frames(&c[0], "TEXT+ x, CLOSE 1000", "ended between fragments: only Close can follow");
    stop("end in fragments");

    start_in_topics(); /* the limit is 1,000 */
    ws_conn_send_fragment(conn_at(&h, 0), "x", 1, WS_TEXT, false);
    is_int(publish_bytes("b", 'b', 900), 1, "held back: fits");
    harness_events(&h);
    is_int(publish_bytes("a", 'a', 900), 0, "held back: above the limit: dropped");
    is_events(&h, "dropped BINARY [900]", "S35: on_dropped");
    ws_conn_send_fragment(conn_at(&h, 0), "y", 1, WS_CONTINUATION, true);
    is_frames(&c[0], "TEXT+ x, CONT y, BINARY [900]", "S35: the one that fitted");
    is_frames(&c[1], "BINARY [900]", "S36: the other one is not concerned");
    stop("limit of what is held back");
}

static const char large_frames[] = "TEXT 1, TEXT 2, BINARY [16383], BINARY [16384], "
                                   "BINARY [100000], TEXT 3, BINARY [70000]";

static void test_large(void)
{
    start_in_topics();
    in_turn(publish_large);
    is_frames(&c[0], large_frames, "T52: small and large ones, in order");
    is_frames(&c[1], "BINARY [16384], BINARY [70000]", "T52: the other one");
    publish_large();
    is_frames(&c[0], large_frames, "T52: the same between turns");
    is_frames(&c[1], "BINARY [16384], BINARY [70000]", "T52: the other one");
    stop("large ones");

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
    start_in_topics();
    h.hook = publish_and_leave;
    client_text(&c[0], "go");
    is_frames(&c[0], "TEXT 1, TEXT 3", "T63: published before it left is delivered");
    stop("leave after publish");
}

static void cases(void)
{
    CASE(test_order_outside());
    CASE(test_order_in_handlers());
    CASE(test_order_own_handler());
    CASE(test_order_of_one());
    CASE(test_one_write());
    CASE(test_fragments());
    CASE(test_large());
    CASE(test_published_memory());
    CASE(test_leave_after_publish());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
