/* SPDX-License-Identifier: MIT */
/*
 * test_loop.c: the event loop: descriptors, wake-ups, timers in virtual time, and the one
 * descriptor behind which all of it stands.
 */
#include "loop.h"
#include "tap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

static uint64_t now = 1;
static struct ws__memory memory;
static struct ws__loop loop;

static uint64_t read_clock(void *user)
{
    (void)user;
    return now;
}

static bool is_ready(int ms)
{
    struct pollfd fd = {loop.epoll_fd, POLLIN, 0};
    return poll(&fd, 1, ms) == 1;
}

static void start(void)
{
    ws__memory_init(&memory, NULL, 0);
    is_int(ws__loop_init(&loop, read_clock, NULL), WS_OK, "init");
}

static void stop(void)
{
    ws__loop_deinit(&loop, &memory);
    is_int((long long)memory.used, 0, "T84: nothing is left");
}

static struct ws__loop_event first(void)
{
    return ws__loop_event(&loop, 0);
}

static void test_descriptors(void)
{
    enum { DATA = 77 };
    int pair[2];
    char byte;
    start();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair))
        return;
    is_int(ws__loop_add(&loop, pair[0], WS__LOOP_READ, DATA), WS_OK, "add");
    is_int(ws__loop_add(&loop, pair[0], WS__LOOP_READ, DATA), WS_ESYSTEM, "add twice");
    is_int(errno, EEXIST, "with errno");
    is_int(ws__loop_wait(&loop, 0), 0, "nothing yet");
    ok(write(pair[1], "x", 1) == 1 && is_ready(0), "readable: shown by the one descriptor");
    is_int(ws__loop_wait(&loop, -1), 1, "one event");
    ok(first().data == DATA && first().ready == WS__LOOP_READ, "that one");
    is_int(ws__loop_wait(&loop, 0), 1, "again, while it is not read");
    ok(read(pair[0], &byte, 1) == 1, "read");
    is_int(ws__loop_change(&loop, pair[0], WS__LOOP_READ | WS__LOOP_WRITE, DATA + 1), WS_OK,
           "change");
    is_int(ws__loop_wait(&loop, -1), 1, "writable");
    ok(first().data == DATA + 1 && first().ready == WS__LOOP_WRITE, "with the new data");
    ws__loop_change(&loop, pair[0], 0, DATA);
    ok(write(pair[1], "x", 1) == 1, "written");
    is_int(ws__loop_wait(&loop, 0), 0, "no interest, no event");
    close(pair[1]);
    is_int(ws__loop_wait(&loop, 0), 1, "a hang-up is always told");
    ok(first().ready & WS__LOOP_HANGUP, "T81: HUP");
    uint32_t count = loop.count;
    ok(ws__loop_add(&loop, pair[0], WS__LOOP_READ, 1) == WS_ESYSTEM && loop.count == count,
       "a descriptor counts once");
    ws__loop_remove(&loop, pair[0]);
    ws__loop_remove(&loop, pair[0]);
    is_int((long long)loop.count, (long long)count - 1, "and is removed once");
    is_int(ws__loop_wait(&loop, 0), 0, "removed");
    close(pair[0]);
    stop();
}

static void *wake(void *argument)
{
    usleep(20000);
    ws__loop_wakeup(argument);
    return NULL;
}

static void nothing(int number)
{
    (void)number;
}

static void test_wakeups(void)
{
    pthread_t thread;
    start();
    ws__loop_wakeup(&loop);
    ws__loop_wakeup(&loop);
    ok(is_ready(0), "a wake-up shows");
    is_int(ws__loop_wait(&loop, -1), 0, "and ends a wait");
    ok(!is_ready(0), "two of them are one");
    pthread_create(&thread, NULL, wake, &loop);
    is_int(ws__loop_wait(&loop, 60000), 0, "from another thread");
    pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = nothing}, old;
    struct itimerval soon = {{0, 0}, {0, 20000}};
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &soon, NULL);
    is_int(ws__loop_wait(&loop, 60000), 0, "T81: EINTR is no error");
    sigaction(SIGALRM, &old, NULL);
    int epoll_fd = loop.epoll_fd;
    loop.epoll_fd = -1;
    is_int(ws__loop_wait(&loop, 0), WS_ESYSTEM, "T81: EBADF is one");
    loop.epoll_fd = epoll_fd;
    stop();
}

static const uint64_t MS = 1000000;
enum { KIND = 3, OTHER = 4 };

static void pass(uint64_t ms)
{
    now += ms * MS;
    ws__loop_wait(&loop, 0);
}

static struct ws__timer *expired(void)
{
    int kind = -1;
    struct ws__timer *timer = ws__loop_expired(&loop, &kind);
    if (timer && kind != KIND)
        ok(false, "kind %d", kind);
    return timer;
}

static struct ws__timer_queue *queue(uint32_t ms)
{
    return ws__loop_queue(&loop, &memory, ms, KIND);
}

static void test_timers(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a, c = a;
    start();
    struct ws__timer_queue *ten = queue(10), *five = queue(5);
    ok(ten && five && ten != five, "queues");
    ok(queue(10) == ten, "one for each duration");
    pass(0);
    ws__timer_start(&loop, ten, &a);
    ws__timer_start(&loop, five, &b);
    pass(1);
    ws__timer_start(&loop, ten, &c);
    pass(3);
    ok(!expired(), "S38: never early");
    pass(1);
    ok(expired() == &b && !expired(), "the first, once");
    pass(5);
    ok(expired() == &a && !expired(), "the second");
    ws__timer_start(&loop, ten, &a);
    pass(9);
    ws__timer_start(&loop, ten, &c);
    ok(!expired(), "a restart counts from then");
    ws__timer_stop(&a);
    ws__timer_stop(&a);
    ws__timer_stop(&b);
    ok(a.deadline == WS__LOOP_NEVER, "a stopped one has no deadline");
    pass(10);
    ok(expired() == &c && !expired(), "a stopped one never expires");
    ws__timer_start(&loop, queue(0), &a);
    ok(expired() == &a, "T83: a duration of 0");
    ws__timer_start(&loop, queue(UINT32_MAX), &a);
    pass(UINT32_MAX - 1u);
    ok(!expired(), "T83: the longest, not early");
    pass(1);
    ok(expired() == &a, "T83: nor late");
    now = (UINT64_C(1) << 63) - 5 * MS;
    pass(0);
    ws__timer_start(&loop, ten, &a);
    pass(9);
    ok(!expired(), "T83: around 2^63 ns, not early");
    pass(1);
    ok(expired() == &a, "T83: nor late");
    stop();
}

static void test_kinds(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a, c = a;
    int kind;
    start();
    struct ws__timer_queue *one = queue(10);
    struct ws__timer_queue *two = ws__loop_queue(&loop, &memory, 10, OTHER);
    ok(one != two, "kinds do not share a queue");
    ok(ws__loop_queue_ns(&loop, &memory, 10 * MS, OTHER) == two, "milliseconds, nanoseconds");
    struct ws__timer_queue *odd = ws__loop_queue_ns(&loop, &memory, 10 * MS + 1, OTHER);
    ok(odd != two, "exact durations");
    pass(1);
    ws__timer_start(&loop, odd, &c);
    ws__timer_start(&loop, two, &b);
    pass(1);
    ws__timer_start(&loop, one, &a);
    pass(20);
    ok(ws__loop_expired(&loop, &kind) == &b && kind == OTHER, "in the order of their deadlines");
    ok(ws__loop_expired(&loop, &kind) == &c && kind == OTHER, "over all queues");
    ok(ws__loop_expired(&loop, &kind) == &a && kind == KIND, "each with its kind");
    ok(!ws__loop_expired(&loop, &kind), "no more");
    stop();
}

/* Against a list that is searched: starts, restarts, stops, in any order. */
static void test_any_order(void)
{
    enum { TIMERS = 60, QUEUES = 20, STEPS = 20000 };
    static struct ws__timer timers[TIMERS];
    struct ws__timer_queue *queues[QUEUES];
    int wrong = 0;
    start();
    memset(timers, 0, sizeof timers);
    for (uint32_t i = 0; i < QUEUES; i++)
        queues[i] = queue(i * i);
    for (int step = 0; step < STEPS; step++) {
        struct ws__timer *timer = &timers[rand() % TIMERS], *got;
        if (rand() % 3)
            ws__timer_start(&loop, queues[rand() % QUEUES], timer);
        else
            ws__timer_stop(timer);
        pass(rand() % 4 ? 0 : (uint64_t)(rand() % 40));
        uint64_t before = 0;
        while ((got = expired())) { /* its deadline is gone: the clock tells whether it was due */
            wrong += got < timers || got >= timers + TIMERS;
            before++;
        }
        uint64_t first = WS__LOOP_NEVER;
        for (int i = 0; i < TIMERS; i++)
            first = timers[i].next && timers[i].deadline < first ? timers[i].deadline : first;
        wrong += first <= loop.now || before > TIMERS;
        ws__loop_arm(&loop);
        wrong += loop.armed > first || (first - loop.armed >= 1000 * MS);
    }
    is_int(wrong, 0, "any order: whatever is due expires, and the timerfd is never late");
    for (int i = 0; i < TIMERS; i++)
        ws__timer_stop(&timers[i]);
    ws__loop_arm(&loop);
    ok(loop.armed == WS__LOOP_NEVER && !loop.active, "and empty queues are out of the way");
    stop();
}

static void test_alarm(void)
{
    struct ws__timer a = {NULL, NULL, 0};
    start();
    ok(!ws__loop_take_alarm(&loop), "alarm: none");
    now += 5 * MS; /* which no wait has seen */
    ws__loop_set_alarm(&loop, 10 * MS);
    pass(9);
    ok(!ws__loop_take_alarm(&loop), "alarm: counts from the call");
    pass(1);
    ok(ws__loop_take_alarm(&loop) && !ws__loop_take_alarm(&loop), "alarm: once");
    ws__loop_set_alarm(&loop, 0);
    pass(0);
    ok(ws__loop_take_alarm(&loop), "alarm: delay 0");
    ws__timer_start(&loop, queue(5000), &a);
    ws__loop_set_alarm(&loop, 3000 * MS);
    ws__loop_arm(&loop);
    ok(loop.armed == now + 3000 * MS, "alarm: the timerfd is set to the nearer of both");
    ws__loop_set_alarm(&loop, 6000 * MS);
    ws__loop_arm(&loop);
    ok(loop.armed == a.deadline, "alarm: the timer is nearer");
    ws__loop_set_alarm(&loop, WS__LOOP_NEVER);
    ws__timer_stop(&a);
    pass(1000000);
    ok(!ws__loop_take_alarm(&loop) && loop.armed == WS__LOOP_NEVER, "alarm: called off");
    now = WS__LOOP_NEVER - 10;
    ws__loop_set_alarm(&loop, 9);
    ok(loop.alarm == WS__LOOP_NEVER - 1, "T83, alarm: the last nanosecond");
    ws__loop_set_alarm(&loop, 10);
    ok(loop.alarm == WS__LOOP_NEVER, "T83, alarm: no later one");
    ws__loop_set_alarm(&loop, 1000 * MS);
    ok(loop.alarm == WS__LOOP_NEVER, "T83, alarm: no overflow");
    stop();
}

static void test_long_turn(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a, c = a;
    start();
    struct ws__timer_queue *ten = queue(10);
    ws__timer_start(&loop, ten, &a);
    pass(2);
    ws__timer_start(&loop, ten, &b);
    ws__timer_start(&loop, queue(3), &c);
    now += MS - 1;
    ok(ws__loop_end_turn(&loop) == MS - 1, "a short turn");
    ok(b.deadline == now + 9 * MS + 1, "moves nothing");
    now += 9 * MS + 1;
    ok(ws__loop_end_turn(&loop) == 10 * MS && loop.now == now, "a long one");
    pass(2);
    ok(expired() == &a && !expired(), "what was started before it is due as ever");
    pass(1);
    ok(expired() == &c && !expired(), "what was started in it counts from its end");
    pass(6);
    ok(!expired(), "T83: not early");
    pass(1);
    ok(expired() == &b && !expired(), "T83: nor late");
    stop();
}

/* What the kernel was told, to the second. */
static long long left(void)
{
    struct itimerspec when;
    timerfd_gettime(loop.timer_fd, &when);
    return when.it_value.tv_sec + (when.it_value.tv_nsec > 500000000);
}

static void test_arming(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a;
    char path[64], text[512] = "";
    start();
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", loop.timer_fd);
    FILE *info = fopen(path, "r");
    size_t n = info ? fread(text, 1, sizeof text - 1, info) : 0;
    text[n] = '\0';
    ok(!info || strstr(text, "clockid: 1\n"), "T83: the timerfd follows CLOCK_MONOTONIC");
    if (info)
        fclose(info);
    ws__timer_start(&loop, queue(10000), &a);
    ws__loop_arm(&loop);
    is_int(left(), 10, "armed");
    ws__timer_start(&loop, queue(600000), &b);
    ws__timer_stop(&a);
    ws__loop_arm(&loop);
    is_int(left(), 600, "T57: what was called off wakes no one up");
    uint64_t armed = loop.armed;
    now += 900 * MS;
    pass(0);
    ws__timer_start(&loop, queue(600000), &b);
    ws__loop_arm(&loop);
    ok(loop.armed == armed, "a little later: no system call");
    now += 200 * MS;
    pass(0);
    ws__timer_start(&loop, queue(600000), &b);
    ws__loop_arm(&loop);
    ok(loop.armed == b.deadline, "much later: one");
    ws__timer_stop(&b);
    ws__loop_arm(&loop);
    is_int(left(), 0, "T57: no timer, nothing is armed");
    ws__timer_start(&loop, queue(UINT32_MAX), &a);
    ws__loop_arm(&loop);
    is_int(left(), 4294967, "T83: 50 days");
    ws__timer_stop(&a);
    ws__loop_set_alarm(&loop, WS__LOOP_NEVER - 1 - now);
    ws__loop_arm(&loop);
    ok(left() >= 1000000000, "T83: 584 years: as long as it can be");
    stop();
}

static void test_full(void)
{
    int pairs[WS__LOOP_MAX_EVENTS][2];
    start();
    for (int i = 0; i < WS__LOOP_MAX_EVENTS; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i]))
            return;
        ws__loop_add(&loop, pairs[i][0], WS__LOOP_WRITE, 100);
    }
    is_int(ws__loop_wait(&loop, 0), WS__LOOP_MAX_EVENTS, "a full batch");
    ok(loop.full, "is told");
    ws__loop_remove(&loop, pairs[0][0]);
    is_int(ws__loop_wait(&loop, 0), WS__LOOP_MAX_EVENTS - 1, "one less");
    ok(!loop.full, "is not full");
    ws__loop_wakeup(&loop);
    is_int(ws__loop_wait(&loop, 0), WS__LOOP_MAX_EVENTS - 1, "and a wake-up");
    ok(loop.full, "is, though the caller does not see it");
    for (int i = 0; i < WS__LOOP_MAX_EVENTS; i++) {
        close(pairs[i][0]);
        close(pairs[i][1]);
    }
    stop();
}

/* Real time: the descriptor alone tells that a timer is due. */
static void test_descriptor_of_timers(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a;
    ws__memory_init(&memory, NULL, 0);
    ws__loop_init(&loop, NULL, NULL);
    struct ws__timer_queue *later = queue(60000), *soon = queue(20);
    ws__timer_start(&loop, later, &b);
    ws__loop_arm(&loop);
    ok(!is_ready(0), "T57: nothing is due, nothing shows");
    ws__timer_start(&loop, soon, &a);
    ws__loop_arm(&loop);
    ok(is_ready(5000), "an earlier deadline replaces a later one");
    int n = 0;
    while (!(a.next == NULL) && n++ < 100) {
        ws__loop_wait(&loop, 1000);
        if (expired() == &a)
            break;
    }
    ok(!a.next, "it expires");
    ws__timer_stop(&b);
    ws__loop_wait(&loop, 0);
    ok(!is_ready(50), "T57: and that was all");
    ws__timer_start(&loop, soon, &a);
    is_int(ws__loop_wait(&loop, -1), 0, "a wait without limit ends with the deadline");
    ws__timer_stop(&a);
    stop();
}

static void cases(void)
{
    CASE(test_descriptors());
    CASE(test_wakeups());
    CASE(test_timers());
    CASE(test_kinds());
    CASE(test_any_order());
    CASE(test_alarm());
    CASE(test_long_turn());
    CASE(test_arming());
    CASE(test_full());
    CASE(test_descriptor_of_timers());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
