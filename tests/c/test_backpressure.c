/* SPDX-License-Identifier: MIT */
/*
 * test_backpressure.c: connections whose kernel takes random amounts, or nothing: how much memory
 * their queues take, which Pongs wait, and what counts as buffered.
 */
#include "conn.h"
#include "harness.h"
#include "kernel.h"

#include <stdlib.h>

enum { SEEDS = 100, STEPS = 300 };

static struct harness h;
static struct client c;
static char payload[1 << 20];
static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

/* How much the kernel takes of what the server writes to connection number `index` from now on. */
static void give_room(int index, size_t room)
{
    kernel_give_room(conn_at(&h, index), room);
}

static void give_all_room(int index)
{
    kernel_of(conn_at(&h, index))->limited = false;
}

/* ---- memory ---- */

static size_t largest; /* message that send_random sends */
static bool fragments; /* it sends some, too */
static bool fragmenting; /* the last one is missing */

static void send_random(ws_conn *conn)
{
    size_t n = draw(2) ? draw(200) : draw((uint32_t)largest + 1);
    switch (draw(16)) {
    case 0:
        ws_conn_send(conn, payload, draw(126), WS_PING);
        break;
    case 2: /* what is sent until the last one is held back */
        if (fragments) {
            bool last = fragmenting && draw(4) == 0;
            ws_conn_send_fragment(conn, payload, draw(50), fragmenting ? 0 : WS_BINARY, last);
            fragmenting = !last;
        }
        break;
    case 1:
        ws_conn_publish(conn, "topic", 5, payload, n, WS_BINARY, false);
        break;
    default:
        ws_conn_send(conn, payload, n, WS_BINARY);
    }
}

static void send_many(ws_conn *conn)
{
    bool corked = draw(2);
    if (corked)
        ws_conn_cork(conn);
    for (uint32_t n = draw(120); n; n--)
        send_random(conn);
    if (corked)
        ws_conn_uncork(conn);
}

static void send_on_drain(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "topic", 5);
    else if (event == ON_DRAIN && draw(2))
        send_many(conn);
}

/* What is counted for the connection: all but the blocks that the server itself keeps. */
static size_t held(void)
{
    const struct ws__hub *hub = ws__hub_of(h.server);
    size_t own = hub->spare ? sizeof *hub->spare + hub->spare->capacity : 0;
    return h.memory.bytes - own - (hub->published ? hub->published->capacity : 0);
}

/* A fragment above the limit ends the connection. */
static size_t run_random(size_t base)
{
    size_t most = 0;
    for (int step = 0; step < STEPS && conn_at(&h, 0); step++) {
        give_room(0, draw(3) ? draw(draw(2) ? 300 : 40000) : 0);
        send_many(conn_at(&h, 0));
        if (held() - base > most)
            most = held() - base;
        if (draw(2))
            turns(&h, 1);
        if (held() - base > most)
            most = held() - base;
        client_read(&c);
        c.in_length = 0;
    }
    return most;
}

/* Control frames have a reserve of 4 KiB above the limit. */
static void test_memory(size_t max_backpressure, size_t largest_message, bool with_fragments)
{
    size_t most = 0, queue = largest_message;
    if (queue < max_backpressure)
        queue = max_backpressure;
    largest = largest_message;
    fragments = with_fragments;
    const uint64_t seeds = getenv("UNDER_VALGRIND") ? SEEDS / 5 : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        state = seed;
        fragmenting = false;
        harness_init(&h);
        h.quiet = true;
        h.hook = send_on_drain;
        h.behavior.max_backpressure = max_backpressure;
        harness_start(&h);
        kernel_reset(h.port);
        client_open(&c, &h);
        turns(&h, 3);
        size_t now = run_random(held());
        most = now > most ? now : most;
        client_close(&c);
        turns(&h, 3);
        if (!harness_free(&h))
            ok(false, "T68: seed %u", (unsigned)seed);
    }
    size_t held_back = with_fragments ? max_backpressure : 0;
    size_t encrypted = over_tls() ? 4 * (WS_TLS_CHUNK + WS_TLS_OVERHEAD) : 0; /* a batch */
    ok(most <= (queue + 4608 + held_back) * 3 / 2 + encrypted,
       "S34, T50: max_backpressure %zu, messages up to %zu%s: a slow peer's queue takes %zu bytes",
       max_backpressure, largest_message, with_fragments ? ", fragments" : "", most);
}

/* ---- Pongs ---- */

/* Where the kernel stopped: all that came until then, numbered, and how much of it is out. */
struct stop {
    unsigned number;
    size_t received;
};

enum { ROUNDS = 60 };
static struct stop stops[ROUNDS];
static unsigned numbered;

/* Pings and messages, each with the next number, in one piece. */
static void say_numbered(unsigned count)
{
    static char bytes[64 * 1024];
    size_t n = 0;
    for (; count; count--) {
        char text[16];
        int length = snprintf(text, sizeof text, "%u", ++numbered);
        n += make_frame(bytes + n, draw(4) ? 0x89 : 0x81, text, (size_t)length);
    }
    client_write(&c, bytes, n);
    turns(&h, 1);
}

/* How many Pongs of numbers up to that of `stop` came after it; SIZE_MAX: not all is in order. */
static size_t pongs_after(const struct stop *stop)
{
    unsigned last = 0;
    size_t pongs = 0;
    for (size_t at = 0; at + 2 <= c.in_length; at += 2 + (size_t)c.in[at + 1]) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", c.in[at + 1], c.in + at + 2);
        unsigned number = (unsigned)atoi(text);
        if (number <= last || c.in[at + 1] > 10)
            return SIZE_MAX;
        last = number;
        pongs += c.in[at] == (char)0x8a && number <= stop->number && at >= stop->received;
    }
    return pongs;
}

static size_t count_frames(int first)
{
    size_t count = 0;
    for (size_t at = 0; at + 2 <= c.in_length; at += 2 + (size_t)c.in[at + 1])
        count += (unsigned char)c.in[at] == first;
    return count;
}

static void start_echo(void)
{
    harness_init(&h);
    h.echo = h.quiet = true;
    harness_start(&h);
    kernel_reset(h.port);
    client_open(&c, &h);
    numbered = 0;
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, name);
}

static void test_pongs_of_one_read(void)
{
    char bytes[256];
    size_t n = 0;
    start_echo();
    state = 1;
    say_numbered(501);
    client_drain(&c);
    ok(count_frames(0x8a) + count_frames(0x81) == 501,
       "F12: 501 Pings and messages in one read: each is answered while the kernel takes it");
    client_frames(&c);
    give_room(0, 0);
    for (const char *text = "1a2b3c"; *text; text++)
        n += make_frame(bytes + n, *text < 'a' ? 0x89 : 0x81, text, 1);
    client_write(&c, bytes, n);
    turns(&h, 2);
    give_all_room(0);
    client_drain(&c);
    is_frames(&c, "TEXT a, TEXT b, PONG 3, TEXT c",
              "F12: the kernel took nothing of a read: the newest Pong is kept, where it was");
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_cork(conn);
    give_room(0, 3 + 1); /* the first Pong, and a byte more */
    client_write(&c, bytes, n);
    turns(&h, 2);
    is_int(ws_conn_send(conn, "own", 3, WS_PONG), WS_BACKPRESSURE, "the application's own Pong");
    ws_conn_uncork(conn);
    client_write(&c, bytes, n);
    turns(&h, 2);
    give_all_room(0);
    client_drain(&c);
    is_frames(&c, "PONG 1, TEXT a, TEXT b, TEXT c, PONG own, TEXT a, TEXT b, PONG 3, TEXT c",
              "F12: what has begun to leave continues, and a Pong that no one asked for is kept");
    stop("Pongs of one read");
}

/* Whatever the kernel takes of a cork, of the Pongs left at most one, the newest, waits. */
static void test_one_pong_waits(void)
{
    size_t waited = 0, most = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        size_t count = 0;
        state = seed;
        start_echo();
        for (int round = 0; round < ROUNDS; round++) {
            give_room(0, draw(2) ? draw(400) : draw(8));
            say_numbered(1 + draw(draw(8) ? 30 : 600));
            client_read(&c);
            if (conn_at(&h, 0)->stream.blocked)
                stops[count++] = (struct stop){numbered, c.in_length};
        }
        give_all_room(0);
        client_drain(&c);
        for (size_t i = 0; i < count; i++) {
            size_t pongs = pongs_after(&stops[i]);
            waited += pongs == 1;
            most = pongs > most ? pongs : most;
        }
        client_close(&c);
        turns(&h, 3);
        if (!harness_free(&h))
            ok(false, "T68: seed %u", (unsigned)seed);
    }
    ok(most == 1, "F12, T28: at most one Pong waits: %zu; all else arrives, in order", most);
    ok(waited > SEEDS, "and is sent in the end: %zu times", waited);
}

/* ---- what counts as buffered ---- */

enum { BOUND = 50000, TOTAL = 20000 };
static unsigned given; /* messages */
static size_t bound_exceeded, corked_amount;

/* The loop that the manual of this API teaches. */
static void give_while_below(ws_conn *conn)
{
    while (given < TOTAL && ws_conn_buffered_amount(conn) < BOUND) {
        ws_conn_send(conn, payload, 1000, WS_BINARY);
        given++;
    }
    bound_exceeded += ws_conn_buffered_amount(conn) > BOUND + 1004;
}

static void publish_while_below(ws_conn *conn)
{
    while (given < TOTAL && ws_conn_buffered_amount(conn) < BOUND) {
        ws_conn_publish(conn, "topic", 5, payload, 1000, WS_BINARY, false);
        given++;
    }
}

static void (*give)(ws_conn *conn);

static void give_on_event(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "topic", 5);
    if (event == ON_MESSAGE || event == ON_DRAIN)
        give(conn);
}

static void test_loop(void (*function)(ws_conn *conn), const char *name)
{
    harness_init(&h);
    h.quiet = true;
    h.hook = give_on_event;
    harness_start(&h);
    kernel_reset(0);
    give = function;
    given = 0;
    client_open(&c, &h);
    client_text(&c, "go");
    turns(&h, 1);
    ok(given > 65 && given < TOTAL && ws_conn_buffered_amount(conn_at(&h, 0)) >= BOUND,
       "S28: %s: the loop continues until the kernel refuses: %u messages", name, given);
    size_t before = c.received;
    client_drain(&c);
    is_int((long long)(c.received - before), TOTAL * 1004LL, "S28: the rest from on_drain");
    is_int((long long)bound_exceeded, 0, "S28: no further than it says");
    stop(name);
}

/* Messages of any size up to half of the limit, any kernel, corked or not. */
static void give_random(ws_conn *conn)
{
    size_t half = h.behavior.max_backpressure / 2;
    while (given && ws_conn_buffered_amount(conn) <= half) {
        size_t n = draw((uint32_t)(draw(3) && half > 304 ? 300 : half - 3));
        give_room(0, draw(50) ? kernel_of(conn)->room : draw(60000));
        if (draw(2))
            bound_exceeded += ws_conn_send(conn, payload, n, WS_BINARY) == WS_DROPPED;
        else
            bound_exceeded += !ws_conn_publish(conn, "topic", 5, payload, n, WS_BINARY, false);
        given--;
    }
}

static void test_nothing_dropped(size_t max_backpressure)
{
    state = 1;
    harness_init(&h);
    h.hook = give_on_event;
    h.behavior.max_backpressure = max_backpressure;
    harness_start(&h);
    kernel_reset(h.port);
    give = give_random;
    given = getenv("UNDER_VALGRIND") ? TOTAL / 10 : TOTAL;
    client_open(&c, &h);
    harness_events(&h);
    h.quiet = true;
    client_text(&c, "go");
    for (int i = 0; i < 100000 && given; i++) {
        give_room(0, draw(3) ? draw(60000) : 0);
        turns(&h, 1);
        client_read(&c);
        c.in_length = 0;
    }
    ok(!given && !bound_exceeded,
       "S28: max_backpressure %zu: nothing is dropped while the amount is at most half of it",
       max_backpressure);
    stop("nothing is dropped");
}

static void note_amount(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "topic", 5);
    if (event != ON_MESSAGE)
        return;
    ws_conn_send(conn, "corked", 6, WS_TEXT);
    ws_conn_publish(conn, "topic", 5, "published", 9, WS_TEXT, false);
    corked_amount = ws_conn_buffered_amount(conn);
}

static void test_amount(void)
{
    harness_init(&h);
    h.quiet = true;
    h.hook = note_amount;
    harness_start(&h);
    kernel_reset(h.port);
    client_open(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    corked_amount = 1;
    client_text(&c, "go");
    turns(&h, 1);
    is_int((long long)corked_amount, 0, "S28: neither corked nor published bytes count");
    is_frames(&c, "TEXT corked, TEXT published", "in order");
    give_room(0, 0);
    client_text(&c, "go");
    turns(&h, 1);
    is_int((long long)ws_conn_buffered_amount(conn), 8 + 11, "S28: what the kernel refused counts");
    ws_conn_cork(conn);
    ws_conn_send(conn, "more", 4, WS_TEXT);
    is_int((long long)ws_conn_buffered_amount(conn), 8 + 11 + 6, "S28: and what is queued after");
    ws_conn_uncork(conn);
    give_all_room(0);
    turns(&h, 2);
    is_int((long long)ws_conn_buffered_amount(conn), 0, "S28: until it is out");
    stop("the buffered amount");
}

/* ---- short writes ---- */

/* Small ones in a cork, published ones, one that is offered uncopied, and fragments. */
static void send_all_kinds(ws_conn *conn)
{
    ws_conn_cork(conn);
    ws_conn_send(conn, payload, 20, WS_TEXT);
    ws_conn_publish(conn, "topic", 5, payload + 20, 130, WS_BINARY, false);
    ws_conn_send(conn, payload + 150, 125, WS_PING);
    ws_conn_uncork(conn);
    ws_conn_publish(conn, "topic", 5, payload + 300, 200, WS_BINARY, false);
    ws_conn_send(conn, payload + 500, 20000, WS_BINARY);
    ws_conn_send_fragment(conn, payload, 30, WS_BINARY, false);
    ws_conn_send_fragment(conn, payload + 30, 10, WS_CONTINUATION, true);
}

/* What the client gets where the kernel takes `room` bytes at first, one more in each of three
 * turns, and then all. */
static size_t received_with(size_t room)
{
    give_room(0, room);
    send_all_kinds(conn_at(&h, 0));
    for (int i = 0; i < 3; i++) {
        turns(&h, 1);
        give_room(0, 1);
    }
    give_all_room(0);
    turns(&h, 2);
    client_read(&c);
    return c.in_length;
}

static void test_short_writes(void)
{
    static char whole[32 * 1024];
    size_t n, wrong = 0, count = 0;
    for (size_t i = 0; i < sizeof whole; i++)
        payload[i] = (char)('a' + i % 26);
    harness_init(&h);
    h.quiet = true;
    harness_start(&h);
    kernel_reset(h.port);
    client_open(&c, &h);
    ws_conn_subscribe(conn_at(&h, 0), "topic", 5);
    n = received_with(SIZE_MAX);
    ok(n > 20500 && n < sizeof whole, "%zu bytes", n);
    memcpy(whole, c.in, n);
    const size_t step = getenv("UNDER_VALGRIND") ? 53 : 1;
    for (size_t room = 0; room <= n; room += room < 700 || room > n - 100 ? step : 61, count++) {
        c.in_length = 0;
        wrong += received_with(room) != n || memcmp(c.in, whole, n);
    }
    is_int((long long)wrong, 0, "T82: the kernel stops at any of %zu bytes: the stream is the same",
           count);
    stop("short writes");
}

static void cases(void)
{
    CASE(test_memory(1000, 500, false));
    CASE(test_memory(36000, 1000, false));
    CASE(test_memory(65536, 1000, false));
    CASE(test_memory(20000, 20000, false));
    CASE(test_memory(65536, 16000, false));
    CASE(test_memory(300000, 100000, false));
    CASE(test_memory(65536, 1000, true));
    if (!over_tls()) { /* where a batch that the kernel takes in part counts as sent */
        CASE(test_pongs_of_one_read());
        CASE(test_one_pong_waits());
        CASE(test_amount());
    }
    CASE(test_short_writes());
    CASE(test_loop(give_while_below, "send"));
    CASE(test_loop(publish_while_below, "publish"));
    CASE(test_nothing_dropped(65536));
    CASE(test_nothing_dropped(10000));
    CASE(test_nothing_dropped(300));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
