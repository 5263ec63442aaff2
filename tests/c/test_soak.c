/* SPDX-License-Identifier: MIT */
/*
 * test_soak.c: everything at once, for as long as one likes: peers that come in all ways and leave
 * in all ways, handlers that use the whole of ws.h, failing memory, jumps of time, shutdowns; then
 * 100,000 connections. Both sides check each byte they get; what is held must return to its base.
 *
 *   SOAK_SECONDS=30 SOAK_SEED=7 test_soak     rounds of seed 7, 8, ...: the first repeats a failure
 */
#include "soak.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    STEPS = 2500,    /* of one life of a server */
    LIVES = 3,       /* of a server, in one round */
    RSS_GROWTH = 512 /* KiB that the resident set may grow in the last 4/5 of the flood */
};

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* ---- rounds ---- */

/* The allocator fails now and then, each time once. */
static void fail_at_times(void)
{
    if (!failing || h.memory.calls < h.memory.fail_at)
        return;
    h.memory.fail_at = h.memory.calls + 1 + draw(2000);
    count.failures++;
}

static int descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;
    if (!folder)
        return 0;
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void add_route(const char *path, uint32_t compression, bool strict)
{
    h.behavior.compression = ws_compression_available() ? compression : 0;
    h.behavior.close_on_backpressure_limit = strict;
    harness_route(&h, path);
}

static void start(void)
{
    static const uint32_t dedicated[] = {WS_DEDICATED_COMPRESSOR_3KB, WS_DEDICATED_COMPRESSOR_16KB,
                                         WS_DEDICATED_COMPRESSOR_256KB};
    harness_init(&h);
    h.quiet = h.answers = true;
    h.hook = react;
    h.send_buffer = draw(2) ? 4608 : 0;
    h.config.max_connections = draw(4) ? 1000 : PEERS / 2;
    h.behavior.max_payload_length = LARGEST;
    h.behavior.max_backpressure = draw(4) ? 30000 + draw(200000) : 0;
    h.behavior.close_timeout = 2000;
    h.behavior.idle_timeout = 20000 + draw(100000);
    h.behavior.ping_timeout = draw(2) ? 3000 : 0;
    h.behavior.max_lifetime = draw(4) ? 0 : 100000;
    h.behavior.reset_idle_timeout_on_send = draw(2);
    harness_create(&h);
    add_route("/shared", WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR, false);
    add_route("/dedicated", dedicated[draw(3)] | WS_DEDICATED_DECOMPRESSOR_32KB, false);
    add_route("/strict", 0, true);
    add_route("/", 0, false);
#ifndef WS_NO_HTTP
    harness_http(&h, "GET", "/page");
#endif
    harness_listen(&h);
    memset(apps, 0, sizeof apps);
}

/* A paused connection does not notice its peer leaving, and may pause again with each message. */
static void resume_all(void)
{
    for (int i = 0; i < MAX_CONNS; i++)
        if (apps[i].state == OPENED)
            ws_conn_resume(conn_at(&h, i));
}

/* Everybody leaves, or the server does. False: it does not end. */
static bool finish(void)
{
    bool shutdown_first = draw(2);
    int result = 1;
    if (shutdown_first) {
        ws_server_shutdown(h.server, 1001, "see you", 7, draw(5000));
        count.shutdowns++;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0 && !(shutdown_first && draw(2)))
            peer_leave(&peers[i], draw(2));
    for (int rounds = 0; rounds < 100 && result > 0; rounds++) {
        result = ws_server_step(h.server, 0);
        for (int i = 0; i < PEERS; i++)
            if (peers[i].fd >= 0)
                peer_read(&peers[i]);
        if (!shutdown_first)
            resume_all();
        h.now += (uint64_t)rounds * 50000000;
        if (!shutdown_first && !stats_of(&h).connections && rounds > 20)
            result = WS_OK;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0)
            peer_leave(&peers[i], true);
    if (shutdown_first && result == WS_OK)
        harness_listen(&h);
    return result == WS_OK || fault("the end does not come", result);
}

static size_t size_of(const struct ws__buffer *b)
{
    return b ? sizeof *b + b->capacity : 0;
}

/* What a server keeps for those to come: slots, two blocks of bounded size, shared streams. */
static size_t kept(void)
{
    const struct ws__hub *hub = ws__hub_of(h.server);
    size_t blocks = size_of(hub->spare) + size_of(hub->published);
    if (blocks > 3 * (size_t)hub->config.cork_size + 2 * sizeof *hub->spare)
        fault("large blocks are kept", (long)blocks);
    return blocks + hub->slot_capacity * sizeof *hub->slots + stats_of(&h).compression_memory;
}

/* Nobody is there: nothing may be left. */
static void expect_rest(int fds, size_t base)
{
    ws_stats s = stats_of(&h);
    size_t held = s.memory - kept();
    if (s.connections || s.open || s.opened != s.closed || s.opened != (uint64_t)h.opened)
        fault("not balanced", (long)s.connections);
    for (int i = 0; i < MAX_CONNS; i++)
        if (apps[i].state != FREE)
            fault("a connection without an end", i);
    for (int i = 0; i < TOPICS; i++)
        if (ws_server_subscribers(h.server, topics[i], strlen(topics[i])))
            fault("a topic without members", i);
    if (h.miscounts || h.memory.mismatch)
        fault("wrong counts of subscribers, or sizes of blocks", h.miscounts);
    if (held != base)
        fault("memory is left", (long)(held - base));
    if (descriptors() != fds)
        fault("descriptors are left", descriptors() - fds);
}

static void live(void)
{
    for (step = 0; step < STEPS && !failed; step++) {
        fail_at_times();
        move_one();
        if (draw(3) == 0)
            turns(&h, 1);
        if (draw(100) == 0)
            advance(&h, draw(20000));
        ws_stats s = stats_of(&h);
        if (s.opened != s.closed + s.open || s.open > s.connections)
            fault("not balanced", (long)s.open);
    }
}

static void play_round(void)
{
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
    start();
    failing = false;
    size_t base = stats_of(&h).memory - kept();
    int fds = descriptors();
    for (int i = 0; i < LIVES && !failed; i++) {
        failing = seed % 2 && i;
        live();
        failing = false;
        h.memory.fail_at = 0;
        if (finish())
            expect_rest(fds, base);
    }
    h.hook = NULL;
    if (!harness_free(&h))
        fault("memory or events are left at the end", 0);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double setting(const char *name, double otherwise)
{
    const char *text = getenv(name);
    return text ? atof(text) : otherwise;
}

static bool all_happened(void)
{
    return count.delivered && count.compared && count.timeouts && count.shutdowns &&
           count.failures;
}

/* A busy machine plays few rounds in the time: there are more until all of it has happened. */
static bool is_enough(uint32_t rounds, double end)
{
    enum { LEAST = 2, MOST = 40 };
    return rounds >= LEAST && now() >= end && (all_happened() || rounds >= MOST);
}

static void make_clients(void)
{
    for (size_t i = 0; i < sizeof letters; i++)
        letters[i] = (char)('a' + i % 26);
    ws__memory_init(&memory, NULL, 0); /* the C library's */
    pool.memory = &memory;
    for (int i = 0; i < PEERS; i++)
        peers[i] = (struct peer){.fd = -1};
}

static void free_clients(void)
{
    for (int i = 0; i < PEERS; i++) {
        free(peers[i].in);
        free(peers[i].out);
        free(peers[i].message);
    }
    ws__deflate_pool_deinit(&pool);
    is_int((long long)memory.used, 0, "the clients left nothing, either");
}

static void test_rounds(void)
{
    double end = now() + setting("SOAK_SECONDS", 3);
    uint32_t first = (uint32_t)setting("SOAK_SEED", 1);
    diag("SOAK_SEED=%u", (unsigned)first);
    make_clients();
    for (seed = first; !failed && !is_enough(seed - first, end); seed++)
        play_round();
    ok(!failed, "T55, T66, T68, T93: every byte checked on both sides, all balanced, nothing left");
    diag("%u rounds, %lu connections, %lu messages heard, %lu sends, %lu publishes, %lu dropped",
         (unsigned)(seed - first), count.connections, count.messages, count.sent, count.published,
         count.dropped);
    diag("%lu delivered, %lu Closes (%lu with all sends before), %lu resets, %lu timeouts, "
         "%lu shutdowns, %lu failed allocations", count.delivered, count.closes, count.compared,
         count.resets, count.timeouts, count.shutdowns, count.failures);
    ok(all_happened(), "T93: and all of that happened");
    free_clients();
}

/* ---- 100,000 connections ---- */

static long resident(void)
{
    long pages = 0, size;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The least of several looks, because what one batch needs for a moment comes and goes. */
static void note_resident(long *least)
{
    const long now_resident = resident();
    if (!*least || now_resident < *least)
        *least = now_resident;
}

/* qemu-user keeps some memory for each address that was ever in use, and the allocator of Zig takes
 * a new one for each large block. Where blocks that are freed at once leave a mark, the resident
 * set says nothing about the library. */
static bool blocks_leave_a_mark(void)
{
    enum { BLOCKS = 2000, SIZE = 72 * 1024 };
    const long before = resident();
    for (int i = 0; i < BLOCKS; i++) {
        char *volatile block = malloc(SIZE);
        if (block)
            memset(block, 1, SIZE);
        free(block);
    }
    return resident() - before > RSS_GROWTH / 2;
}

/* The eight ways of a connection in the flood, by the letter it says. */
static void serve_flood(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness;
    if (request) {
        answer_now(request);
        return;
    }
    account(event, conn, data, length);
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "flood", 5);
    if (event != ON_MESSAGE)
        return;
    send_one(conn, HEADER + 300);
    switch (app_of(conn)->peer % 8) {
    case 3:
        ws_conn_close(conn);
        break;
    case 4:
        ws_conn_end(conn, 1000, "", 0);
        break;
    case 5:
        ws_conn_send_fragment(conn, "s", 1, WS_TEXT | WS_COMPRESS, false); /* and never more */
    }
}

static void flood_begin(int i)
{
    static const char *const paths[] = {"/", "/shared", "/dedicated"};
    struct peer *p = &peers[i];
    char text[512];
    peer_connect(p, paths[i % 3], false);
    size_t n = make_request(p, text);
    if (i % 8 == 7)
        return;
    say(p, text, i % 8 == 6 ? n / 2 : n);
}

static void flood_end(int i)
{
    struct peer *p = &peers[i];
    if (p->fd < 0 || !peer_read(p))
        return;
    if (i % 8 == 0 && p->phase == FRAMES)
        say_close(p, 1000);
    else
        peer_leave(p, i % 8 == 1);
}

/* PEERS connections come, are served, and go. */
static void flood_batch(void)
{
    for (int i = 0; i < PEERS; i++)
        flood_begin(i);
    turns(&h, 2);
    for (int i = 0; i < PEERS; i++)
        if (i % 8 < 6 && peers[i].fd >= 0 && peer_read(&peers[i]))
            say_message(&peers[i], HEADER + 20);
    turns(&h, 1);
    if (draw(4) == 0)
        publish_one(NULL);
    turns(&h, 1);
    for (int i = 0; i < PEERS; i++)
        flood_end(i);
    for (int rounds = 0; rounds < 200 && stats_of(&h).connections; rounds++) {
        turns(&h, 1);
        for (int i = 0; i < PEERS; i++)
            if (peers[i].fd >= 0)
                peer_read(&peers[i]);
        h.now += rounds > 20 ? UINT64_C(1000000000) : 0;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0)
            peer_leave(&peers[i], true);
}

static void test_flood(void)
{
    const uint64_t most = getenv("UNDER_VALGRIND") ? 1000 : SANITIZED ? 20000 : 100000;
    size_t base = 0;
    long early = 0, late = 0;
    int fds = 0;
    state = seed = 55;
    make_clients();
    start();
    h.hook = serve_flood;
    for (step = 0; !failed && stats_of(&h).accepted < most; step++) {
        flood_batch();
        size_t held = stats_of(&h).memory;
        if (step == 4) {
            base = held;
            fds = descriptors();
        } else if (step > 4 && held != base) {
            fault("memory is not what it was before", (long)(held - base));
        }
        const uint64_t done = stats_of(&h).accepted * 20 / most;
        if (done == 4 || done >= 19)
            note_resident(done == 4 ? &early : &late);
    }
    ws_stats s = stats_of(&h);
    ok(!failed, "T55: %llu connections: each byte right, memory the same after each batch",
       (unsigned long long)s.accepted);
    is_int(descriptors(), fds, "T55, T91: and no descriptor more");
    ok(s.opened == s.closed && !s.connections, "T68: opened %llu, closed %llu",
       (unsigned long long)s.opened, (unsigned long long)s.closed);
    diag("resident after a fifth: %ld KiB, at the end: %ld KiB", early, late);
    if (blocks_leave_a_mark())
        diag("the resident set is not looked at: freed blocks leave a mark in it");
    else
        ok(SANITIZED || getenv("UNDER_VALGRIND") || late - early < RSS_GROWTH,
           "T55, T91: the resident set is flat");
    h.hook = NULL;
    harness_stop(&h, "flood");
    free_clients();
}

static void cases(void)
{
    CASE(test_flood()); /* first, while the heap has no holes that would hide a leak */
    CASE(test_rounds());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
