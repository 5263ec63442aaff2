/* SPDX-License-Identifier: MIT */
/*
 * test_conn_inflate.c: compressed messages that cost more than they look like (RFC 7692; X12, T46):
 * how many turns they take, who is served meanwhile, and all that can happen to a connection whose
 * message is half inflated. The clock is the test's: a millisecond passes whenever it is read, so
 * that what a turn does can be counted.
 */
#include "harness.h"

#include <stdlib.h>
#include <sys/socket.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
    SHARED = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR,
    DEDICATED = WS_SHARED_COMPRESSOR | WS_DEDICATED_DECOMPRESSOR_32KB,
    LIMIT = 512 * 1024,    /* max_payload_length */
    HEAVY = 400 * 1000,    /* bytes of empty blocks in front of a message */
    SLICE = 4 * 1024,      /* bytes between two looks at the clock, inflate.c, ... */
    TURN = 8,              /* slices of all connections in one turn, as our clock goes, ... */
    MOST = TURN / 2        /* ... and of one of them */
};

/* Frames of compressed messages. */
struct frame {
    char *bytes;
    size_t length;
};

static struct harness h;
static struct client attackers[40], honest;
static char big[LIMIT + 1];

/* ---- messages ---- */

/* `blocks` empty stored blocks, then the text, in an isolated stream or in one that continues. */
static struct frame make_message(z_stream *z, int first, size_t blocks, const char *text, size_t n)
{
    z_stream own = {0};
    size_t size = n + 100000;
    char *payload = malloc(5 * blocks + size);
    struct frame f = {malloc(5 * blocks + size + 14), 0};
    if (!payload || !f.bytes)
        abort();
    for (size_t i = 0; i < blocks; i++)
        memcpy(payload + 5 * i, "\0\0\0\xff\xff", 5);
    if (!z)
        deflateInit2(&own, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    z = z ? z : &own;
    z->next_in = (const Bytef *)text;
    z->avail_in = (uInt)n;
    z->next_out = (Bytef *)payload + 5 * blocks;
    z->avail_out = (uInt)size;
    deflate(z, Z_SYNC_FLUSH);
    size_t length = 5 * blocks + size - z->avail_out - 4;
    deflateEnd(&own);
    f.length = make_frame(f.bytes, 0x40 | first, payload, length);
    free(payload);
    return f;
}

static struct frame heavy(const char *text)
{
    return make_message(NULL, 0x81, HEAVY / 5, text, strlen(text));
}

static void say(struct client *c, struct frame f)
{
    size_t at = 0;
    for (int i = 0; at < f.length && i < 1000; i++) {
        at += client_write(c, f.bytes + at, f.length - at);
        if (at < f.length)
            turns(&h, 1);
    }
    free(f.bytes);
}

/* All of it but the last byte arrives; it begins with a call of fire. */
static void load(struct client *c, struct frame f)
{
    char last = f.bytes[--f.length];
    say(c, f);
    turns(&h, 30);
    c->head[0] = last;
}

static void fire(struct client *c)
{
    client_write(c, c->head, 1);
}

/* ---- connections ---- */

static void open_with(struct client *c, const char *offer)
{
    char request[1024];
    client_connect(c, &h);
    snprintf(request, sizeof request, "%.*sSec-WebSocket-Extensions: %s\r\n\r\n",
             (int)strlen(handshake_request) - 2, handshake_request, offer);
    client_say(c, request);
    client_responses(c);
}

static void prepare(unsigned compression)
{
    harness_init(&h);
    h.behavior.compression = compression;
    h.behavior.max_payload_length = LIMIT;
    h.tick = 1000000;
}

/* Number 0 is the honest one. */
static void start(unsigned compression, int count)
{
    prepare(compression);
    harness_start(&h);
    open_with(&honest, "permessage-deflate");
    for (int i = 0; i < count; i++)
        open_with(&attackers[i], "permessage-deflate");
    harness_events(&h);
}

static void stop(int count, const char *name)
{
    client_close(&honest);
    for (int i = 0; i < count; i++)
        client_close(&attackers[i]);
    for (int i = 0; i < 5000 && stats_of(&h).connections; i++)
        turns(&h, 1);
    is_int(stats_of(&h).connections, 0, "%s: no connection is left", name);
    harness_stop(&h, name);
}

/* Turns until the events so far have this text. */
static int turns_until(const char *text, int most)
{
    int count = 0;
    while (count < most && !strstr(h.events, text)) {
        turns(&h, 1);
        count++;
    }
    return count;
}

static int count_of(const char *events, const char *text)
{
    int seen = 0;
    while ((events = strstr(events, text)) != NULL) {
        seen++;
        events++;
    }
    return seen;
}

/* ---- how much a turn does ---- */

static void test_slices(void)
{
    start(SHARED, 1);
    load(&attackers[0], heavy("done"));
    fire(&attackers[0]);
    int count = turns_until("done", 1000), least = HEAVY / SLICE / MOST;
    ok(count >= least && count <= least + 2, "X12: %d bytes of empty blocks take %d turns", HEAVY,
       count);
    is_events(&h, "1:message TEXT done", "and are a message like any other");
    say(&attackers[0], heavy(""));
    say(&attackers[0], make_message(NULL, 0x81, 0, "x", 1));
    turns_until("x", 1000);
    is_events(&h, "1:message TEXT; 1:message TEXT x", "X10: an empty one, too");
    stop(1, "slices");
}

/* Output counts as well: one message of 200 KiB is within the turn, many are not. */
static void test_output(void)
{
    start(SHARED, 1);
    memset(big, 'a', sizeof big);
    for (int i = 0; i < 20; i++)
        say(&attackers[0], make_message(NULL, 0x82, 0, big, 200 * 1024));
    turns(&h, 1);
    int first = count_of(harness_events(&h), "[204800]");
    ok(first >= 3 && first <= 12, "T46: one turn does not inflate all 20 messages of 200 KiB (%d)",
       first);
    turns(&h, 20);
    is_int(first + count_of(harness_events(&h), "[204800]"), 20, "but all of them come");
    stop(1, "output");
}

/* Messages that are within the budget take no memory: streams and space are the server's. */
static void test_ordinary(void)
{
    start(SHARED, 1);
    say(&attackers[0], make_message(NULL, 0x81, 0, "warm", 4));
    turns(&h, 2);
    size_t calls = h.memory.calls;
    for (int i = 0; i < 50; i++) {
        struct frame f = make_message(NULL, 0x81, 0, "message", 7);
        say(&attackers[0], f);
        turns(&h, 2);
    }
    is_int((long long)(h.memory.calls - calls), 0, "an ordinary message allocates nothing");
    stop(1, "ordinary");
}

/* ---- others ---- */

/* Plain messages are answered in the turn in which they arrive, whatever attackers do. */
static void test_plain_of_others(int count)
{
    int late = 0, rounds = 0;
    h.echo = true;
    for (int i = 0; i < count; i++)
        load(&attackers[i], heavy("attack"));
    harness_events(&h);
    for (int i = 0; i < count; i++)
        fire(&attackers[i]);
    while (h.events_length < 16000 && !strstr(h.events, "attack") && rounds < 400) {
        client_text(&honest, "hi");
        turns(&h, 1);
        client_read(&honest);
        late += honest.in_length != 4;
        honest.in_length = 0;
        rounds++;
    }
    ok(rounds > 2 && !late, "S50: %d attackers: %d of %d plain messages are not answered at once",
       count, late, rounds);
}

/* The sum of what is spent in a turn is bounded, too; those who wait take turns. */
static void test_sum(void)
{
    enum { COUNT = 32 };
    for (int i = 0; i < COUNT; i++)
        load(&attackers[i], heavy("attack"));
    harness_events(&h);
    for (int i = 0; i < COUNT; i++)
        fire(&attackers[i]);
    int first = turns_until("attack", 4000), all;
    for (all = first; all < 4000 && count_of(h.events, "attack") < COUNT; all++)
        turns(&h, 1);
    int least = COUNT * (HEAVY / SLICE) / TURN;
    ok(all >= least, "T46: %d times %d bytes take %d turns, at least %d", COUNT, HEAVY, all, least);
    ok(all < 2 * least, "and not many more");
    ok(all - first < all / 4, "S36: they take turns: the first is done after %d, the last after %d",
       first, all);
}

/* A short compressed message is handled in the turn in which it arrives, whatever others have sent:
 * messages that take many turns, or in each turn new ones that take a moment. */
static void test_compressed_of_others(int count)
{
    int worst = 0;
    for (int i = 0; i < count; i++)
        load(&attackers[i], heavy("attack"));
    harness_events(&h);
    for (int i = 0; i < count; i++)
        fire(&attackers[i]);
    for (int i = 0; i < 20; i++) {
        say(&honest, make_message(NULL, 0x81, 0, "honest", 6));
        int took = turns_until("honest", 1000);
        worst = took > worst ? took : worst;
        harness_events(&h);
    }
    is_int(worst, 1, "S50: %d attackers: a compressed message waits for no other turn", count);
}

static void test_compressed_among_short(int count)
{
    enum { ROUNDS = 20 };
    int late = 0;
    for (int round = 0; round < ROUNDS; round++) {
        h.quiet = true;
        for (int i = 0; i < count; i++)
            say(&attackers[i], make_message(NULL, 0x81, 3000, "", 0));
        h.quiet = false;
        say(&honest, make_message(NULL, 0x81, 0, "honest", 6));
        turns(&h, 1);
        late += !strstr(harness_events(&h), "honest");
    }
    is_int(late, 0, "S50: %d attackers with shorter messages: none of %d waits", count, ROUNDS);
    h.quiet = true;
    turns(&h, 500);
    h.quiet = false;
    harness_events(&h);
}

static void test_others(void)
{
    static const int counts[] = {1, 8, 32};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        start(SHARED, counts[i]);
        test_plain_of_others(counts[i]);
        stop(counts[i], "plain messages of others");
        start(SHARED, counts[i]);
        test_compressed_of_others(counts[i]);
        stop(counts[i], "compressed messages of others");
        start(SHARED, counts[i]);
        test_compressed_among_short(counts[i]);
        stop(counts[i], "short messages of others");
    }
    start(SHARED, 32);
    test_sum();
    stop(32, "32 attackers");
}

/* Whoever comes with new messages all the time does not starve the one that waits. */
static void test_no_starvation(void)
{
    enum { COUNT = 30 };
    start(SHARED, COUNT + 1);
    load(&attackers[COUNT], heavy("patient"));
    harness_events(&h);
    fire(&attackers[COUNT]);
    int count = 0, most = HEAVY / SLICE * (COUNT / MOST + 1);
    for (; count < 2 * most && !strstr(h.events, "patient"); count++) {
        h.quiet = true;
        for (int i = 0; i < COUNT; i++)
            say(&attackers[i], make_message(NULL, 0x81, 300, "", 0));
        h.quiet = false;
        turns(&h, 1);
    }
    ok(count < most, "S36: a message that waits comes through (%d turns of %d)", count, most);
    stop(COUNT + 1, "starvation");
}

/* ---- order and context ---- */

static void test_order(void)
{
    start(SHARED, 1);
    struct client *c = &attackers[0];
    load(c, heavy("first"));
    fire(c);
    client_frame(c, 0x89, "ping", 4);
    client_text(c, "second");
    client_frame(c, 0x01, "th", 2);
    client_frame(c, 0x80, "ird", 3);
    client_send_close(c, 1000, "bye");
    turns(&h, 2);
    is_events(&h, "", "nothing overtakes the message");
    turns(&h, 100);
    is_events(&h,
              "1:message TEXT first; 1:ping ping; 1:message TEXT second; 1:message TEXT third; "
              "1:close 1000 bye",
              "F12, F15: and everything follows in order");
    is_frames(c, "PONG ping, CLOSE 1000, EOF", "Pong, then the Close");
    stop(1, "order");
}

/* A window that is kept continues where it was, also after a message in many turns. */
static void test_takeover(void)
{
    z_stream z = {0};
    deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    start(DEDICATED, 2);
    say(&attackers[0], make_message(&z, 0x81, 0, "a text that comes again", 23));
    say(&attackers[0], make_message(&z, 0x81, HEAVY / 5, "a text that comes again", 23));
    say(&attackers[1], heavy("of another one"));
    turns_until("another", 200);
    say(&attackers[0], make_message(&z, 0x81, 0, "a text that comes again", 23));
    turns(&h, 10);
    is_int(count_of(harness_events(&h), "1:message TEXT a text that comes again"), 3,
           "X3: three messages in one context");
    deflateEnd(&z);
    stop(2, "takeover");
}

static void test_results(unsigned compression)
{
    start(compression, 4);
    memset(big, 'a', sizeof big);
    say(&attackers[0], make_message(NULL, 0x81, HEAVY / 5, big, LIMIT));
    say(&attackers[1], make_message(NULL, 0x81, HEAVY / 5, big, LIMIT + 1));
    say(&attackers[2], heavy("caf\xe9"));
    struct frame f = heavy("x");
    f.bytes[f.length - 6] ^= 0x7f; /* in an empty block after the others */
    f.bytes[f.length - 9] ^= 0x7f;
    say(&attackers[3], f);
    turns(&h, 300);
    const char *events = harness_events(&h);
    ok(strstr(events, "1:message TEXT [524288]") != NULL, "X12: exactly the limit");
    ok(strstr(events, "2:close 1009") != NULL, "X12: one byte more");
    ok(strstr(events, "3:close 1007 invalid UTF-8") != NULL, "F11: no UTF-8");
    ok(strstr(events, "4:close 1007 invalid compressed data") != NULL, "X12: broken data");
    if (h.events_length || !strstr(events, "4:close"))
        diag("%s", events);
    stop(4, "results");
}

/* X11: two bytes are a last block, too. */
static void test_last_blocks(void)
{
    struct frame f = {malloc(HEAVY + 14), 0};
    char *payload = malloc(HEAVY);
    if (!payload || !f.bytes)
        abort();
    start(SHARED, 1);
    for (size_t i = 0; i < HEAVY; i += 2)
        memcpy(payload + i, "\x03\x00", 2);
    f.length = make_frame(f.bytes, 0xc2, payload, HEAVY);
    say(&attackers[0], f);
    client_text(&attackers[0], "next");
    ok(turns_until("next", 200) > 5, "X11: last blocks cost as much");
    is_events(&h, "1:message BINARY; 1:message TEXT next", "X11: and give an empty message");
    free(payload);
    stop(1, "last blocks");
}

/* ---- what may happen meanwhile ---- */

static void begin(unsigned compression)
{
    start(compression, 1);
    load(&attackers[0], heavy("half"));
    harness_events(&h);
    fire(&attackers[0]);
    client_text(&attackers[0], "after");
    turns(&h, 3);
    is_events(&h, "", "half of it is inflated");
}

static void test_ends(unsigned compression)
{
    begin(compression);
    ws_conn_close(conn_at(&h, 1));
    is_events(&h, "1:close 1006 closed by the server", "S27: closed meanwhile");
    turns(&h, 100);
    is_events(&h, "", "S26: and no message");
    stop(1, "closed");

    begin(compression);
    ws_conn_end(conn_at(&h, 1), 1000, "enough", 6);
    is_events(&h, "1:close 1000 enough", "S27: ended meanwhile");
    turns(&h, 3);
    client_send_close(&attackers[0], 1000, "");
    is_frames(&attackers[0], "CLOSE 1000 enough, EOF", "C1: the peer's Close is found");
    is_events(&h, "", "S26: and no message");
    stop(1, "ended");

    begin(compression);
    client_reset(&attackers[0]);
    turns(&h, 100);
    is_events(&h,
              "1:message TEXT half; 1:message TEXT after; 1:close 1006 connection reset by peer",
              "the peer is gone: what was read is handled first");
    stop(1, "reset");

    begin(compression);
    ws_server_shutdown(h.server, 1001, "later", 5, 1000);
    turns(&h, 3);
    is_events(&h, "close 1001 later; 1:close 1001 later", "shutdown");
    advance(&h, 2000);
    stop(1, "shutdown");

    begin(compression);
    harness_events(&h);
    ok(ws_server_free(h.server) == WS_OK, "freed meanwhile");
    h.server = NULL;
    ok(!h.memory.bytes && !h.memory.blocks, "T68: and nothing is left");
    client_close(&attackers[0]);
    client_close(&honest);
}

static void test_pause(void)
{
    begin(SHARED);
    ws_conn_pause(conn_at(&h, 1));
    turns(&h, 100);
    is_events(&h, "", "paused: nothing is handed out");
    ws_conn_resume(conn_at(&h, 1));
    turns(&h, 100);
    is_events(&h, "1:message TEXT half; 1:message TEXT after", "resumed: it continues");
    stop(1, "pause");

    begin(SHARED);
    ws_conn_pause_messages(conn_at(&h, 1));
    client_frame(&attackers[0], 0x89, "p", 1);
    turns(&h, 100);
    is_events(&h, "", "P2: messages paused: it is held, as is what follows");
    ws_conn_resume(conn_at(&h, 1));
    turns(&h, 100);
    is_events(&h, "1:message TEXT half; 1:message TEXT after; 1:ping p", "resumed: it continues");
    stop(1, "pause of messages");

    begin(SHARED); /* with nothing after the message */
    turns(&h, 100);
    harness_events(&h);
    load(&attackers[0], heavy("alone"));
    fire(&attackers[0]);
    turns(&h, 2);
    ws_conn_pause(conn_at(&h, 1));
    turns(&h, 2);
    ws_conn_resume(conn_at(&h, 1));
    turns(&h, 100);
    is_events(&h, "1:message TEXT alone", "resumed, though nothing more arrives");
    client_text(&attackers[0], "next");
    turns(&h, 2);
    is_events(&h, "1:message TEXT next", "and the socket is read again");
    stop(1, "pause without more");
}

/* The peer is not idle while we work. */
static void test_idle(void)
{
    prepare(SHARED);
    h.behavior.idle_timeout = 12000;
    harness_start(&h);
    open_with(&honest, "permessage-deflate");
    open_with(&attackers[0], "permessage-deflate");
    load(&attackers[0], heavy("slow"));
    harness_events(&h);
    fire(&attackers[0]);
    for (int i = 0; i < 6; i++) {
        h.now += UINT64_C(7000000000);
        client_text(&honest, "");
        turns(&h, 1);
    }
    ok(!strstr(h.events, "close"), "S40: 42 s of work are no silence of the peer");
    turns(&h, 60);
    ok(strstr(h.events, "slow") != NULL, "and the message arrives");
    is_frames(&attackers[0], "", "without a Ping");
    stop(1, "idle");
}

/* What is held is counted, given back, and bounded. */
static void test_memory(unsigned compression)
{
    enum { STREAM = 48 * 1024, FIRST_SPACE = 16 * 1024 };
    start(compression, 20);
    for (int i = 0; i < 20; i++)
        say(&attackers[i], make_message(NULL, 0x81, 0, "warm", 4));
    turns(&h, 30);
    size_t idle = h.memory.bytes, first = h.memory.blocks, counted = stats_of(&h).memory;
    for (int i = 0; i < 20; i++)
        load(&attackers[i], heavy("attack"));
    for (int i = 0; i < 20; i++)
        fire(&attackers[i]);
    turns(&h, 10);
    size_t held = (h.memory.bytes - idle) / 20, blocks = h.memory.blocks;
    ok(held <= HEAVY * 3 / 2 + STREAM + FIRST_SPACE + 4096, "%zu bytes for each that waits", held);
    is_int((long long)(stats_of(&h).memory - counted),
           (long long)(h.memory.bytes - idle - 16 * (blocks - first)),
           "max_memory: all of it is counted");
    turns(&h, 1000);
    ok(h.memory.bytes <= idle + STREAM + 65536, "and given back: %zu bytes more",
       h.memory.bytes - idle);
    stop(20, "memory");
}

/* Every allocation of a suspended message fails once. */
static void test_no_memory(unsigned compression)
{
    int failures = 0;
    for (size_t n = 1; n < 60; n++) {
        start(compression, 2);
        load(&attackers[0], heavy("one"));
        load(&attackers[1], heavy("two"));
        harness_events(&h);
        size_t calls = h.memory.calls;
        h.memory.fail_at = calls + n;
        fire(&attackers[0]);
        fire(&attackers[1]);
        client_text(&attackers[0], "after");
        turns(&h, 100);
        bool failed = h.memory.calls >= h.memory.fail_at;
        h.memory.fail_at = 0;
        const char *events = harness_events(&h);
        bool sound = (strstr(events, "1:message TEXT one; 1:message TEXT after") ||
                      strstr(events, "1:close 1011 out of memory") ||
                      strstr(events, "1:close 1006 out of memory")) &&
                     (strstr(events, "2:message TEXT two") ||
                      strstr(events, "2:close 1011 out of memory"));
        failures += failed;
        if (!sound)
            ok(false, "allocation %zu fails: %s", n, events);
        client_text(&honest, "hi");
        turns(&h, 2);
        if (!strstr(h.events, "message TEXT hi"))
            ok(false, "allocation %zu fails: the others are served", n);
        client_close(&honest);
        client_close(&attackers[0]);
        client_close(&attackers[1]);
        turns(&h, 3);
        if (!harness_free(&h))
            ok(false, "allocation %zu fails: something is left", n);
        if (!failed)
            break;
    }
    ok(failures > 3, "T41: %d allocations failed, one at a time", failures);
}

/* Nothing that follows has been read: nothing but the socket can bring the peer's Close. */
static void test_end_without_more(unsigned compression)
{
    start(compression, 1);
    load(&attackers[0], heavy("half"));
    harness_events(&h);
    fire(&attackers[0]);
    turns(&h, 3);
    ws_conn_end(conn_at(&h, 1), 1000, "enough", 6);
    turns(&h, 3);
    client_send_close(&attackers[0], 1000, "");
    is_frames(&attackers[0], "CLOSE 1000 enough, EOF", "C1: ended: the socket is read again");
    is_events(&h, "1:close 1000 enough", "S26: and no message");
    stop(1, "ended without more");
}

/* An empty payload is no message (RFC 7692 7.2.2), even if others have used up the turn. */
static void test_empty_payload(void)
{
    enum { COUNT = 20 };
    start(SHARED, COUNT);
    load(&attackers[0], heavy("attack"));
    fire(&attackers[0]);
    turns(&h, 1);
    harness_events(&h);
    for (int i = 1; i < COUNT; i++)
        client_frame(&attackers[i], 0xc1, "", 0);
    turns(&h, 100);
    is_int(count_of(harness_events(&h), "close 1007 invalid compressed data"), COUNT - 1,
           "X12: empty payloads: 1007");
    stop(COUNT, "empty payloads");
}

static int victim;

static void lose_victim(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE || conn != conn_at(harness, 0))
        return;
    client_reset(&attackers[victim]);
    ws_conn_send(conn_at(harness, victim + 1), "x", 1, WS_TEXT);
}

/* A send fails in the turn in which the connection's message gets no share of the time. */
static void test_lost_while_postponed(void)
{
    enum { COUNT = 20 };
    for (victim = 0; victim < COUNT; victim += 3) {
        start(SHARED, COUNT);
        for (int i = 0; i < COUNT; i++)
            load(&attackers[i], heavy("attack"));
        for (int i = 0; i < COUNT; i++)
            fire(&attackers[i]);
        turns(&h, 3);
        harness_events(&h);
        h.hook = lose_victim;
        client_text(&honest, "now");
        turns(&h, 1000);
        h.hook = NULL;
        is_int(count_of(harness_events(&h), "message TEXT attack"), COUNT,
               "all messages are handled though number %d is gone", victim);
        stop(COUNT, "lost while postponed");
    }
}

static void cases(void)
{
    CASE(test_slices());
    CASE(test_output());
    CASE(test_ordinary());
    CASE(test_others());
    CASE(test_no_starvation());
    CASE(test_order());
    CASE(test_takeover());
    CASE(test_results(SHARED));
    CASE(test_results(DEDICATED));
    CASE(test_last_blocks());
    CASE(test_ends(SHARED));
    CASE(test_ends(DEDICATED));
    CASE(test_end_without_more(SHARED));
    CASE(test_end_without_more(DEDICATED));
    CASE(test_empty_payload());
    CASE(test_lost_while_postponed());
    CASE(test_pause());
    CASE(test_idle());
    CASE(test_memory(SHARED));
    CASE(test_memory(DEDICATED));
    CASE(test_no_memory(SHARED));
    CASE(test_no_memory(DEDICATED));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
