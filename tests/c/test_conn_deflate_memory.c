/* SPDX-License-Identifier: MIT */
/*
 * test_conn_deflate_memory.c: permessage-deflate through a running server: the memory and time that
 * compression takes for bombs, many connections and long turns, and what happens when an allocation
 * fails.
 */
#include "deflate_peer.h"

#include <stdlib.h>

/* ---- memory ---- */

static ws_allocator inner;
static size_t peak;

static void *resize_watched(void *context, void *ptr, size_t old_size, size_t size)
{
    void *block = inner.resize(context, ptr, old_size, size);
    if (h.memory.bytes > peak)
        peak = h.memory.bytes;
    return block;
}

static void test_bombs(void)
{
    enum { COUNT = 50, LIMIT = 64 * 1024, BOMB = 2 << 20 };
    static struct peer peers[COUNT];
    static char bomb[16384], packed[SPACE];
    char *zeros = calloc(1, BOMB);
    start_with(SHARED, LIMIT);
    inner = h.config.allocator;
    h.config.allocator.resize = resize_watched;
    harness_start(&h);
    size_t n = zeros ? pack_once(zeros, BOMB, packed) : 0;
    ok(n && n < sizeof bomb, "a bomb of %zu bytes", n);
    free(zeros);
    memcpy(bomb, packed, n);
    for (int i = 0; i < COUNT; i++)
        peer_connect(&peers[i], false, "permessage-deflate");
    turns(&h, 2);
    size_t before = h.memory.bytes, most = 0;
    peak = before;
    for (int i = 0; i < COUNT; i++) {
        if (i % 2) {
            client_frame(&peers[i].c, 0xc2, bomb, n);
        } else {
            client_frame(&peers[i].c, 0x42, bomb, n / 2);
            client_frame(&peers[i].c, 0x80, bomb + n / 2, n - n / 2);
        }
    }
    for (int i = 0; i < 200; i++) {
        turns(&h, 1);
        most = zlib_memory() > most ? zlib_memory() : most;
    }
    is_int(h.closed, COUNT, "T40: every bomb is found out");
    ok(strstr(harness_events(&h), "1007") == NULL, "X12: with 1009");
    ok(peak - before <= LIMIT + 256 * 1024, "T40: %zu bytes at the most: one output space",
       peak - before);
    ok(most <= LIMIT + 128 * 1024, "T40: compression_memory is bounded, too (%zu)", most);
    for (int i = 0; i < COUNT; i++)
        peer_close(&peers[i]);
    ok(harness_free(&h), "T68: bombs: nothing is left");
}

enum ending {
    CLIENT_CLOSE,
    RESET,
    CLOSE_IN_MESSAGE,
    END_IN_MESSAGE,
    END_IN_FRAGMENTS,
    DROP_IN_SEND,
    BAD_DATA,
    END_IN_PING,
    ENDINGS
};

static enum ending ending;

static void end_somehow(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_DROPPED)
        ws_conn_close(conn);
    if (event == ON_CLOSE) {
        ws_conn_send(conn, "late late late late", 19, ZTEXT);
        ws_conn_send_fragment(conn, "late late late late", 19, ZTEXT, false);
    }
    if (event == ON_PING)
        ws_conn_end(conn, 1001, NULL, 0);
    if (event != ON_MESSAGE)
        return;
    ws_conn_send(conn, data, length, ZTEXT);
    if (ending == CLOSE_IN_MESSAGE)
        ws_conn_close(conn);
    if (ending == END_IN_MESSAGE)
        ws_conn_end(conn, 1000, data, 5);
    if (ending == END_IN_FRAGMENTS) {
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, hex, 1000, WS_CONTINUATION, false);
        ws_conn_send(conn, hex, 1000, ZTEXT); /* held */
        ws_conn_end(conn, 1000, NULL, 0);
        is_int(ws_conn_send_fragment(conn, hex, 10, WS_CONTINUATION, true), WS_DROPPED,
               "no fragment after the end");
    }
    if (ending == DROP_IN_SEND)
        for (int i = 0; i < 2000 && ws_conn_send(conn, hex, 20000, ZTEXT) != WS_DROPPED; i++)
            ;
    if (ending == CLOSE_IN_MESSAGE || ending == DROP_IN_SEND)
        is_int(ws_conn_send(conn, data, length, ZTEXT), WS_DROPPED, "nothing after the end");
}

static void test_streams_are_freed(unsigned options, const char *name)
{
    static const char text[] = "hello hello hello hello hello";
    for (enum ending this = 0; this < ENDINGS; this++) {
        start_with(options, 0);
        h.send_buffer = 4608;
        h.behavior.max_backpressure = 5000;
        h.quiet = true;
        h.hook = end_somehow;
        harness_start(&h);
        struct peer other;
        ending = CLIENT_CLOSE;
        peer_connect(&other, false, "permessage-deflate"); /* what is shared is made */
        say_packed(&other, 0xc1, text, sizeof text - 1);
        peer_messages(&other);
        ending = this;
        size_t before = zlib_memory();
        peer_connect(&p, true, "permessage-deflate");
        is_int((long long)zlib_memory(), (long long)before, "nothing is held before it is needed");
        if (ending == DROP_IN_SEND)
            for (int i = 0; i < 500 && !ws_conn_buffered_amount(conn_at(&h, 1)); i++)
                ws_conn_send(conn_at(&h, 1), fill_bytes, sizeof fill_bytes, WS_BINARY);
        say_packed(&p, 0xc1, text, sizeof text - 1);
        turns(&h, 3);
        if (ending == CLIENT_CLOSE && options == DEDICATED)
            ok(zlib_memory() > before + 32768, "a dedicated connection holds its windows");
        if (ending == END_IN_FRAGMENTS)
            ok(strstr(peer_messages(&p), "CLOSE 1000") != NULL, "then the Close");
        if (ending == CLIENT_CLOSE)
            client_send_close(&p.c, 1000, "");
        if (ending == RESET)
            client_reset(&p.c);
        if (ending == BAD_DATA)
            client_frame(&p.c, 0xc1, "\x07", 1);
        if (ending == END_IN_PING) { /* between fragments, which are not inflated any more */
            client_frame(&p.c, 0x41, "\x4c", 1);
            client_frame(&p.c, 0x89, "", 0);
            client_frame(&p.c, 0x80, "\x04\x00", 2);
        }
        turns(&h, 4);
        is_int(h.closed, 1, "%s, ending %d: closed", name, (int)ending);
        is_int((long long)zlib_memory(), (long long)before,
               "T68: %s, ending %d: its streams are freed with on_close", name, (int)ending);
        peer_close(&p);
        ending = CLIENT_CLOSE;
        say_packed(&other, 0xc1, text, sizeof text - 1);
        is_text(peer_messages(&other), "zTEXT hello hello hello hello hello", "others continue");
        peer_close(&other);
        ok(harness_free(&h), "T68: %s, ending %d: nothing is left", name, (int)this);
    }
}

/* ---- allocation failures ---- */

static void busy(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_MESSAGE && length > 100) {
        ws_conn_send(conn, data, length, ZTEXT);
        ws_conn_send_fragment(conn, data, length, ZTEXT, false);
        ws_conn_send(conn, data, length, ZTEXT);
        ws_conn_send_fragment(conn, hex, 30000, WS_CONTINUATION, false);
        ws_conn_send_fragment(conn, data, length, WS_CONTINUATION, true);
        ws_conn_send(conn, hex, 50000, ZTEXT);
    }
}

static bool is_fair(const char *events)
{
    const char *end = strstr(events, "1:close ");
    return !end || !strncmp(end + 8, "1011", 4) || !strncmp(end + 8, "1006", 4);
}

/* True while there was an allocation of that number. */
static bool fail_nth(unsigned options, size_t n, bool after, int *wrong)
{
    struct client other;
    static char data[3000];
    start_with(options, 16384);
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    client_open(&other, &h);
    h.hook = busy;
    h.memory.fail_at = h.memory.calls + n;
    h.memory.fail_after = after;
    peer_connect(&p, false, "permessage-deflate");
    memcpy(data, hex, sizeof data);
    say_packed(&p, 0xc1, data, 2000);
    turns(&h, 3);
    char *packed = malloc(SPACE);
    size_t length = packed ? pack(&p, data, 3000, packed) : 0;
    client_frame(&p.c, 0x41, packed, length / 2);
    turns(&h, 1);
    client_frame(&p.c, 0x80, packed + length / 2, length - length / 2);
    free(packed);
    const char *got = peer_messages(&p);
    bool reached = h.memory.calls >= h.memory.fail_at;
    h.memory.fail_at = 0;
    bool readable = !strstr(got, "BROKEN") && !strstr(got, "RSV");
    h.hook = NULL;
    client_text(&other, "still there");
    turns(&h, 3);
    const char *events = harness_events(&h);
    bool fair = is_fair(events) && strstr(events, "message TEXT still there") &&
                !strstr(events, "; close");
    struct peer next;
    peer_connect(&next, false, "permessage-deflate");
    bool on = ws_conn_send(conn_at(&h, h.opened - 1), hex, 1000, ZTEXT) == WS_SUCCESS &&
              !strncmp(peer_messages(&next), "zTEXT [1000", 11);
    peer_close(&next);
    peer_close(&p);
    client_close(&other);
    turns(&h, 3);
    bool clean = harness_free(&h);
    if (!(readable && fair && on && clean) && (*wrong)++ < 3)
        diag("allocation %zu%s: readable %d, fair %d, on %d, clean %d: %s; %s", n,
             after ? " and all after" : "", readable, fair, on, clean, events, p.seen);
    return reached;
}

static void test_no_memory(unsigned options, const char *name)
{
    for (int after = 0; after < 2; after++) {
        int wrong = 0;
        size_t n = 1;
        while (fail_nth(options, n, after, &wrong) && n < 500)
            n++;
        ok(!wrong && n > 10 && n < 500,
           "T84: %s: %s of %zu allocations fails: only that connection", name,
           after ? "all from one" : "each", n - 1);
    }
}

/* A stream that cannot be made ends its own connection, with 1011, and no other. zlib allocates up
 * to five blocks for one, zlib-ng 2.3 a single one. */
static void test_no_stream(bool sending)
{
    size_t n = 0;
    bool failed;
    do {
        start(DEDICATED);
        struct peer bystander;
        peer_connect(&bystander, false, "permessage-deflate");
        harness_events(&h);
        h.memory.fail_at = h.memory.calls + ++n;
        if (sending)
            ws_conn_send(conn_at(&h, 0), hex, 1000, ZTEXT);
        else
            say_packed(&p, 0xc1, hex, 1000);
        turns(&h, 3);
        failed = h.memory.calls >= h.memory.fail_at;
        const char *events = harness_events(&h), *seen = peer_messages(&p);
        if (failed && (strcmp(events, "close 1011 out of memory") || strcmp(seen, "CLOSE 1011"))) {
            diag("allocation %zu: %s, %s", n, events, seen);
            break;
        }
        failed = failed && stats_of(&h).open == 1;
        peer_close(&p);
        peer_close(&bystander);
        turns(&h, 3);
        harness_free(&h);
    } while (failed && n < 100);
    ok(!failed && n > 3, "X12, X13: %s without memory for allocation 1 to %zu: 1011",
       sending ? "sending" : "receiving", n - 1);
}

/* Messages one after another in one read, and another connection after them: what of all that is
 * handled before the other's turn comes. */
static int messages_before(struct peer *next, const char *packed, size_t n, int count)
{
    for (int i = 0; i < count; i++)
        client_frame(&p.c, 0xc2, packed, n);
    client_text(&next->c, "next");
    turns(&h, 1);
    const char *events = harness_events(&h), *end = strstr(events, "next");
    int seen = 0;
    for (const char *at = events; end && (at = strstr(at, "BINARY")) && at < end; at++)
        seen++;
    return seen;
}

static void test_turn_budget(void)
{
    enum { TURN = 1 << 20 }; /* WS__TURN_INFLATED */
    static char zeros[TURN / 2], packed[SPACE], empty[TURN + 64];
    static struct peer next;
    start_with(SHARED, TURN);
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    peer_connect(&next, false, "permessage-deflate");
    harness_events(&h);
    size_t n = pack_once(zeros, sizeof zeros, packed);
    is_int(messages_before(&next, packed, n, 8), 2, "T46: 1 MiB comes out, then others are served");
    turns(&h, 5);
    harness_events(&h);
    n = store(empty, 0, TURN / 5); /* blocks without output cost time, too */
    client_frame(&p.c, 0x42, empty, n - 10);
    turns(&h, 20);
    client_frame(&p.c, 0x80, empty + n - 10, 10);
    is_int(messages_before(&next, "\0", 1, 3), 1, "T46: 1 MiB goes in, then others are served");
    peer_close(&p);
    peer_close(&next);
    turns(&h, 3);
    ok(harness_free(&h), "T68: turns: nothing is left");
}

/* Connections that compress come and go: nothing stays. */
static void test_many(void)
{
    enum { COUNT = 2000 };
    int count = getenv("UNDER_VALGRIND") ? 100 : COUNT;
    size_t first = 0;
    start_with(DEDICATED, 0);
    h.quiet = true;
    harness_start(&h);
    for (int i = 0; i < count; i++) {
        peer_connect(&p, false, "permessage-deflate");
        say_packed(&p, 0xc1, hex, 1000);
        ws_conn_send(conn_at(&h, h.opened - 1), hex, 1000, ZTEXT);
        turns(&h, 2);
        peer_close(&p);
        turns(&h, 3);
        if (i == 20)
            first = h.memory.bytes;
    }
    is_int((long long)h.memory.bytes, (long long)first, "T47: %d connections: no growth", count);
    ok(zlib_memory() <= 128 * 1024, "S42: only output space is left, %zu bytes", zlib_memory());
    ok(harness_free(&h), "T68: many: nothing is left");
}

static void cases(void)
{
    CASE(test_many());
    CASE(test_turn_budget());
    CASE(test_no_stream(true));
    CASE(test_no_stream(false));
    CASE(test_bombs());
    CASE(test_streams_are_freed(SHARED, "shared"));
    CASE(test_streams_are_freed(DEDICATED, "dedicated"));
    CASE(test_no_memory(SHARED, "shared"));
    CASE(test_no_memory(DEDICATED, "dedicated"));
}

int main(int argc, char **argv)
{
    make_data();
    return run_cases(argc, argv, cases);
}
