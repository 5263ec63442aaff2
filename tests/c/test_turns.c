/* SPDX-License-Identifier: MIT */
/*
 * test_turns.c: a turn of the loop is bounded by count and by time, so that a few busy connections,
 * or slow handlers, delay others only a little. The clock is the test's: it advances by `tick` each
 * time it is read, and a turn takes 8 ms (TURN_TIME) before it is late.
 */
#include "harness.h"

#include <stdlib.h>

enum { FLOODERS = 20, MANY = 400, MESSAGES = 1000, STEP = 16 /* WS__TURN_STEP */ };

static struct harness h;
static struct client clients[MANY];
static int seen[MANY], requests, rings;

static void count(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)data, (void)length;
    if (event == ON_MESSAGE)
        seen[(uintptr_t)ws_conn_user(conn)]++;
    if (event != ON_HTTP)
        return;
    requests++;
    ws_request_respond(request, 200, NULL, "", 0);
}

static int sum(void)
{
    int total = 0;
    for (int i = 0; i < MANY; i++)
        total += seen[i];
    return total;
}

static void start(int connections)
{
    harness_init(&h);
    memset(seen, 0, sizeof seen);
    requests = 0;
    h.hook = count;
    h.answers = true;
    h.quiet = true;
    h.behavior.on_upgrade = NULL;
    h.config.recv_buffer_size = 256 * 1024;
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    for (int i = 0; i < connections; i++)
        client_open(&clients[i], &h);
}

static void stop(int connections, const char *name)
{
    for (int i = 0; i < connections; i++)
        client_close(&clients[i]);
    turns(&h, 5);
    h.opened = h.closed; /* no handler of ours counts them */
    harness_stop(&h, name);
}

static void flood_by(int connections, int messages)
{
    char bytes[MESSAGES * 6], *end = bytes;
    for (int i = 0; i < messages; i++)
        end += make_frame(end, 0x81, "", 0);
    for (int i = 0; i < connections; i++)
        client_write(&clients[i], bytes, (size_t)(end - bytes));
}

static void flood(void)
{
    flood_by(FLOODERS, MESSAGES);
}

static void test_messages(void)
{
    start(FLOODERS);
    flood();
    turns(&h, 1);
    is_int(sum(), FLOODERS * MESSAGES, "while no time passes, the count alone is the limit");

    memset(seen, 0, sizeof seen);
    h.tick = 2000000;
    flood();
    turns(&h, 1);
    int first = sum(), least = seen[0], most = seen[0];
    ok(first <= STEP * (5 + 2 * FLOODERS), "S50: once it is late, %d messages of %d", first,
       FLOODERS * MESSAGES);
    for (int i = 0; i < FLOODERS; i++)
        least = seen[i] < least ? seen[i] : least;
    ok(least >= STEP, "but every connection has %d at least", least);
    turns(&h, 4);
    for (int i = 0; i < FLOODERS; i++) {
        least = seen[i] < least || !i ? seen[i] : least;
        most = seen[i] > most ? seen[i] : most;
    }
    ok(most - least <= STEP * 9, "S36: and their turn: from %d to %d after 5 turns", least, most);
    turns(&h, 200);
    is_int(sum(), FLOODERS * MESSAGES, "all of them arrive");

    h.tick = 100; /* nothing takes long: as before */
    memset(seen, 0, sizeof seen);
    flood();
    turns(&h, 1);
    is_int(sum(), FLOODERS * MESSAGES, "a turn that is not late does all of it");
    stop(FLOODERS, "messages");
}

/* Fragments are no messages, but take time: any number of them, without a byte of payload. */
static void test_fragments(void)
{
    enum { FRAGMENTS = 8000 };
    static char bytes[FRAGMENTS * 6], *end;
    end = bytes;
    for (int i = 0; i < FRAGMENTS; i++)
        end += make_frame(end, i == 0 ? 0x01 : i < FRAGMENTS - 1 ? 0x00 : 0x80, "", 0);
    start(FLOODERS);
    h.tick = 2000000;
    for (int i = 0; i < FLOODERS; i++)
        client_write(&clients[i], bytes, (size_t)(end - bytes));
    turns(&h, 1);
    int first = sum();
    ok(first <= 2, "S50: once it is late, %d of %d long rows of fragments", first, FLOODERS);
    turns(&h, 200);
    is_int(sum(), FLOODERS, "F16: each is a message");
    stop(FLOODERS, "fragments");
}

static void test_requests(void)
{
    start(0);
    client_connect(&clients[0], &h);
    h.tick = 10000000;
    for (int i = 0; i < 60; i++)
        client_say(&clients[0], "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 1);
    ok(requests >= STEP && requests <= 3 * STEP, "S50: slow requests: %d of 60", requests);
    turns(&h, 5);
    is_int(requests, 60, "all of them are answered");
    stop(1, "requests");
}

static void ring(void *argument)
{
    (void)argument;
    rings++;
}

/* However many flood: at most 256 that epoll names, and 64 that wait (LATE_CONNECTIONS). */
static void test_alarm_among_many(void)
{
    enum { TURNS = 20, PER_CONNECTION = 200, MOST = STEP * (256 + 64 + 10) };
    start(MANY);
    h.tick = 2000000;
    flood_by(MANY, PER_CONNECTION);
    turns(&h, 1);
    rings = 0;
    int worst = 0, least = PER_CONNECTION;
    for (int i = 0, before = sum(); i < TURNS; i++, before = sum()) {
        ws_server_set_alarm(h.server, 0, ring, NULL);
        turns(&h, 1);
        worst = sum() - before > worst ? sum() - before : worst;
    }
    is_int(rings, TURNS, "the alarm is looked at in every turn");
    ok(worst <= MOST, "S50: and no turn is longer than %d messages, of %d that wait", worst,
       MANY * PER_CONNECTION);
    for (int i = 0; i < MANY; i++)
        least = seen[i] < least ? seen[i] : least;
    ok(least >= STEP, "S36: each of %d connections has had its turn: %d messages", MANY, least);
    turns(&h, 400);
    is_int(sum(), MANY * PER_CONNECTION, "all of them arrive");
    stop(MANY, "an alarm among many");
}

static void cases(void)
{
    CASE(test_messages());
    CASE(test_fragments());
    CASE(test_requests());
    CASE(test_alarm_among_many());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
