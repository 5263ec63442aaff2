/* SPDX-License-Identifier: MIT */
/*
 * test_alarm.c: the alarm of a server (ws_server_set_alarm): when it rings, set again from inside
 * its call, among other timers, and as a foreign loop sees it.
 */
#include "heartbeats.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- the alarm ---- */

static int rings;
static uint64_t ring_again, rang_at;

static void ring(void *argument)
{
    rings++;
    rang_at = h.now;
    if (argument)
        ws_server_set_alarm(h.server, ring_again, ring, rings < 5 ? argument : NULL);
}

static void begin_alarm(void)
{
    harness_init(&h);
    harness_start(&h);
    turns(&h, 1);
    rings = 0;
}

static void test_alarm(void)
{
    begin_alarm();
    uint64_t from = h.now;
    ws_server_set_alarm(h.server, 1500000001, ring, NULL);
    is_int(sleep_until(from + 1500000000), 0, "alarm: no wake-up before");
    is_int(rings, 0, "alarm: not early");
    is_int(sleep_until(from + 1500000001), 1, "alarm: one wake-up");
    ok(rings == 1 && rang_at == from + 1500000001, "alarm: to the nanosecond, once");
    is_int(sleep_until(from + 1000 * SECOND), 0, "T57: and that was all");

    ws_server_set_alarm(h.server, 10 * SECOND, ring, NULL);
    ws_server_set_alarm(h.server, 5 * SECOND, ring, NULL);
    from = h.now;
    sleep_until(from + 100 * SECOND);
    ok(rings == 2 && rang_at == from + 5 * SECOND, "alarm: a second one replaces the first");
    ws_server_set_alarm(h.server, 5 * SECOND, ring, NULL);
    ws_server_set_alarm(h.server, 10 * SECOND, ring, NULL);
    from = h.now;
    sleep_until(from + 100 * SECOND);
    ok(rings == 3 && rang_at == from + 10 * SECOND, "alarm: also one that is later");
    ws_server_set_alarm(h.server, 5 * SECOND, ring, NULL);
    ws_server_set_alarm(h.server, 0, NULL, NULL);
    sleep_until(h.now + 100 * SECOND);
    is_int(rings, 3, "alarm: NULL is none");
    h.now += 50 * SECOND; /* no turn sees this time pass */
    from = h.now;
    ws_server_set_alarm(h.server, 2 * SECOND, ring, NULL);
    struct itimerspec left;
    timerfd_gettime(loop_of()->timer_fd, &left);
    ok(left.it_value.tv_sec <= 2, "alarm: the kernel, too, knows when");
    turns(&h, 2);
    is_int(rings, 3, "alarm: between turns it counts from the call");
    sleep_until(from + 2 * SECOND);
    ok(rings == 4 && rang_at == from + 2 * SECOND, "alarm: exactly");
    harness_stop(&h, "alarm");
}

static void test_alarm_again(void)
{
    begin_alarm();
    ring_again = 0;
    ws_server_set_alarm(h.server, 0, ring, &h);
    is_int(rings, 0, "alarm: delay 0 runs nothing at once");
    turns(&h, 1);
    is_int(rings, 1, "alarm: but in the next turn");
    turns(&h, 1);
    is_int(rings, 2, "alarm: set from inside with delay 0: one for each turn");
    turns(&h, 20);
    is_int(rings, 6, "alarm: until it is not set again");
    rings = 0;
    ring_again = SECOND;
    ws_server_set_alarm(h.server, SECOND, ring, &h);
    uint64_t from = h.now;
    is_int(sleep_until(from + 100 * SECOND), 6, "T57, alarm: a wake-up for each, no more");
    ok(rings == 6 && rang_at == from + 6 * SECOND, "alarm: from inside, on time");
    ws_server_set_alarm(h.server, UINT64_MAX, ring, NULL);
    is_int(sleep_until(from + 36500 * (86400 * SECOND)), 0, "alarm: a huge delay is never");
    ws_server_set_alarm(h.server, UINT64_MAX - 1 - h.now, ring, NULL);
    is_int(rings, 6, "alarm: the last nanosecond of the clock");
    h.now = UINT64_MAX - 1;
    turns(&h, 1);
    is_int(rings, 7, "alarm: is reached");
    harness_stop(&h, "alarm again");
}

static void alarm_late(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)request, (void)length, (void)data;
    if (event != ON_MESSAGE)
        return;
    harness->now += 10 * SECOND;
    ws_server_set_alarm(harness->server, 2 * SECOND, ring, NULL);
}

static void test_alarm_and_others(void)
{
    begin_alarm();
    client_open(&c, &h);
    h.hook = alarm_late;
    client_text(&c, "x");
    uint64_t from = h.now;
    turns(&h, 3);
    is_int(rings, 0, "alarm: in a long turn, too, it counts from the call");
    sleep_until(from + 12 * SECOND);
    ok(rings == 1 && rang_at == from + 12 * SECOND, "alarm: exactly");
    ws_server_set_alarm(h.server, 2 * SECOND, ring, NULL);
    ws_server_shutdown(h.server, 1001, NULL, 0, 3000);
    sleep_until(h.now + 2 * SECOND);
    is_int(rings, 2, "alarm: runs during a shutdown");
    ws_server_set_alarm(h.server, 20 * SECOND, ring, NULL);
    sleep_until(h.now + 3 * SECOND);
    is_int(ws_server_step(h.server, 0), WS_OK, "it is over");
    harness_listen(&h);
    sleep_until(h.now + 100 * SECOND);
    is_int(rings, 2, "alarm: never runs once a shutdown is over");
    ws_server_set_alarm(h.server, SECOND, ring, NULL);
    sleep_until(h.now + SECOND);
    is_int(rings, 3, "alarm: may be set again");
    stop("alarm and others");
}

static void count_ring(void *argument)
{
    ++*(int *)argument;
}

/* Real time: a foreign loop, which sleeps on the descriptor, is told. */
static void test_alarm_descriptor(void)
{
    int rang = 0;
    harness_init(&h);
    h.real_time = true;
    harness_start(&h);
    turns(&h, 3);
    struct pollfd fd = {ws_server_fd(h.server), POLLIN, 0};
    is_int(poll(&fd, 1, 30), 0, "T57: nothing to do");
    ws_server_set_alarm(h.server, 20 * MS, count_ring, &rang);
    unsigned long long before = stats_of(&h).turns;
    for (int i = 0; i < 10 && !rang; i++) {
        is_int(poll(&fd, 1, 30000), 1, "alarm: the descriptor becomes readable");
        ws_server_step(h.server, 0);
    }
    is_int(rang, 1, "alarm: runs in that step");
    is_int((long long)(stats_of(&h).turns - before), 1, "T57: the first one");
    ws_server_set_alarm(h.server, 10 * MS, count_ring, &rang);
    for (int i = 0; i < 10 && rang < 2; i++)
        is_int(ws_server_step(h.server, -1), 1, "alarm: ends a wait without limit");
    is_int(rang, 2, "alarm: once more");
    harness_stop(&h, "alarm and descriptor");
}

static void cases(void)
{
    CASE(test_alarm());
    CASE(test_alarm_again());
    CASE(test_alarm_and_others());
    CASE(test_alarm_descriptor());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
