/* SPDX-License-Identifier: MIT */
/*
 * test_publish_handlers.c: handlers that publish, leave, close and end connections while a publish
 * is under way, and a publish whose allocations fail.
 */
#include "subscribers.h"

#include <stdlib.h>

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

/* What a client got must be whole frames, and nothing after a Close. */
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
           "S42: no subscriber is left");
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
    if (event != ON_SUBSCRIPTION || ws_conn_get_id(conn) != h.ids[0])
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
    start_in_topics();
    h.hook = publish_both;
    in_turn(end_first);
    is_frames(&c[0], "CLOSE 1000 bye", "F14: nothing after the Close, also while topics are left");
    is_frames(&c[1], "TEXT b, TEXT b", "S42: the others get it");
    stop("leaving");

    start_in_topics();
    h.hook = publish_both;
    in_turn(close_first);
    is_frames(&c[0], "EOF", "T61: nothing to a dead one");
    is_frames(&c[1], "TEXT b, TEXT b", "S42: the others get it");
    stop("leaving, dead");

    start_in_topics();
    h.hook = publish_both;
    client_send_close(&c[0], 1000, "");
    is_frames(&c[0], "CLOSE 1000, EOF", "F14: the peer's Close: nothing after the answer");
    stop("leaving, by the peer");
}

/* Every connection announces that it leaves. All of them leave, so that no one is to be told. */
static void announce(struct harness *harness, enum event event, ws_conn *conn,
                     ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    if (event == ON_SUBSCRIPTION || event == ON_CLOSE)
        is_int(publish("b", "one has left"), 0, "no one is told");
}

static void test_shutdown(void)
{
    start_in_topics();
    h.hook = announce;
    ws_server_shutdown(h.server, 1001, "bye", 3, 1000);
    turns(&h, 1);
    h.hook = NULL;
    is_frames(&c[0], "CLOSE 1001 bye", "a shutdown: the Close alone");
    is_frames(&c[1], "CLOSE 1001 bye", "a shutdown: N notices are not sent to N connections");
    stop("shutdown");
}

/* ---- memory fails ---- */

static void prepare_memory(void)
{
    prepare();
    h.quiet = true;
    h.behavior.max_backpressure = 3000;
}

static void run_memory(void)
{
    for (clients = 0; clients < 3; clients++)
        client_open(&c[clients], &h);
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
           after ? ", all after it" : "");
        ok(served, "T84: and the server continues");
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
        give_room(i, 0);
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
        give_room(i, 0);
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

static void cases(void)
{
    CASE(test_end_of_other(BY_END, "CLOSE 1000 bye"));
    CASE(test_end_of_other(BY_SHUTDOWN, "CLOSE 1001 down"));
    CASE(test_end_of_other(BY_PEER, "CLOSE 1000, EOF"));
    CASE(test_end_of_other(BY_RULE, "CLOSE 1002 reserved opcode 3, EOF"));
    CASE(test_cascade(false));
    CASE(test_cascade(true));
    CASE(test_actions());
    CASE(test_leaving());
    CASE(test_shutdown());
    CASE(test_failing_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
