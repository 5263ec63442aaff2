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
    int fd = conn_at(&h, index)->fd;
    kernel.sockets[fd].limited = true;
    kernel.sockets[fd].room = room;
}

/* ---- memory ---- */

static size_t largest; /* message that send_random sends */

static void send_random(ws_conn *conn)
{
    size_t n = draw(2) ? draw(200) : draw((uint32_t)largest + 1);
    switch (draw(16)) {
    case 0:
        ws_conn_send(conn, payload, draw(126), WS_PING);
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

static size_t run_random(size_t base)
{
    size_t most = 0;
    for (int step = 0; step < STEPS; step++) {
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
static void test_memory(size_t max_backpressure, size_t largest_message)
{
    size_t most = 0, queue = largest_message;
    if (queue < max_backpressure)
        queue = max_backpressure;
    largest = largest_message;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        state = seed;
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
    ok(most <= (queue + 4608) * 3 / 2,
       "S34, T50: max_backpressure %zu, messages up to %zu: a slow peer's queue takes %zu bytes",
       max_backpressure, largest_message, most);
}

int main(void)
{
    test_memory(1000, 500);
    test_memory(36000, 1000);
    test_memory(65536, 1000);
    test_memory(20000, 20000);
    test_memory(65536, 16000);
    test_memory(300000, 100000);
    return done_testing();
}
