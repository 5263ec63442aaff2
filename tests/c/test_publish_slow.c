/* SPDX-License-Identifier: MIT */
/*
 * test_publish_slow.c: publishing to receivers that are slow, stalled, over max_backpressure, reset
 * or broken: they lose what their limit says and delay no other.
 */
#include "subscribers.h"

#include <errno.h>
#include <stdlib.h>

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
    kernel_of(conn_at(&h, 1))->room = 100000;
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
    kernel_of(conn_at(&h, 0))->room = 100000;
    turns(&h, 3);
    is_events(&h, "drain", "S31: one drain");
    is_frames(&c[0], "BINARY [996], BINARY [996], TEXT x", "S35: exactly these");
    give_room(0, 3500);
    in_turn(publish_four);
    is_int(results, 4, "S34: the kernel takes the first ones when the limit is met");
    turns(&h, 3);
    is_events(&h, "", "nothing is dropped, nothing has drained yet");
    kernel_of(conn_at(&h, 0))->room = 100000;
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
    memset(kernel.sockets, 0, sizeof kernel.sockets);
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
    publish("a", "1");
    kernel_of(conn_at(&h, 0))->error = EPIPE;
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
    start_in_topics();
    join(3, "a");
    harness_events(&h);
    in_turn(publish_to_broken);
    turns(&h, 3);
    is_events(&h, "-b 1; -a 1; close 1006 connection reset by peer", "T82: a failed write ends it");
    is_frames(&c[3], "TEXT 1, TEXT 2, TEXT 4", "T82: the others continue");
    stop("broken");

    prepare(); /* the write at the end of the turn fails, and there is more before it is noticed */
    h.behavior.max_backpressure = 0;
    run(2);
    h.quiet = true;
    join(0, "a");
    join(1, "other");
    kernel_of(conn_at(&h, 0))->error = ECONNRESET;
    in_turn(publish_some);
    send_text(0, "x");
    publish_much();
    turns(&h, 3);
    ok(!conn_at(&h, 0), "T82: a failed write at the end of the turn");
    h.quiet = false;
    stop("broken at the end of the turn");

    start_in_topics();
    h.quiet = true;
    kernel_of(conn_at(&h, 0))->error = ECONNRESET;
    in_turn(publish_much);
    turns(&h, 3);
    ok(!conn_at(&h, 0), "T82: a failed write in the middle of the turn");
    h.quiet = false;
    stop("broken in the middle of the turn");
}

/* A Pong that waits is taken out of the queue by the next one, whatever comes after it. */
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
    kernel_of(conn_at(&h, 0))->limited = false;
    is_frames(&c[0], "TEXT 1, TEXT 2, TEXT x, TEXT x, TEXT x, TEXT x, TEXT x, PONG second, TEXT 3",
              "F12: the newest Pong alone, between what is published");
    stop("Pongs");
}

static void publish_each_turn(struct harness *harness, enum event event, ws_conn *conn,
                              ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)length;
    if (event == ON_MESSAGE)
        ws_conn_publish(conn, "a", 1, data, 1, WS_TEXT, false);
}

/* The end of a turn leaves bytes, then none; published to in each turn meanwhile. */
static void test_drain_while_published(void)
{
    prepare();
    run(2);
    join(0, "a");
    give_room(0, 3);
    publish("a", "0123456789");
    harness_events(&h);
    kernel_of(conn_at(&h, 0))->limited = false;
    h.hook = publish_each_turn; /* by conn 1 */
    int drains = 0, turn = 0;
    for (; turn < 20 && !drains; turn++) {
        client_text(&c[1], "x");
        turns(&h, 1);
        drains = strstr(harness_events(&h), "drain") != NULL;
    }
    ok(drains, "S31: drain comes though every turn publishes to it");
    stop("drain while published to");
}

static void cases(void)
{
    CASE(test_slow());
    CASE(test_stalled());
    CASE(test_slow_in_turn());
    CASE(test_strict());
    CASE(test_reset());
    CASE(test_broken());
    CASE(test_pongs());
    CASE(test_drain_while_published());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
