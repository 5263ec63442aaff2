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
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static uint64_t now = 1;
static struct ws__memory memory;
static struct ws__loop loop;
static struct ws__loop_event events[WS__LOOP_MAX_EVENTS];

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
    is_int(ws__loop_wait(&loop, events, 0), 0, "nothing yet");
    ok(write(pair[1], "x", 1) == 1 && is_ready(0), "readable: shown by the one descriptor");
    is_int(ws__loop_wait(&loop, events, -1), 1, "one event");
    ok(events[0].data == DATA && events[0].ready == WS__LOOP_READ, "that one");
    is_int(ws__loop_wait(&loop, events, 0), 1, "again, while it is not read");
    ok(read(pair[0], &byte, 1) == 1, "read");
    is_int(ws__loop_change(&loop, pair[0], WS__LOOP_READ | WS__LOOP_WRITE, DATA + 1), WS_OK,
           "change");
    is_int(ws__loop_wait(&loop, events, -1), 1, "writable");
    ok(events[0].data == DATA + 1 && events[0].ready == WS__LOOP_WRITE, "with the new data");
    ws__loop_change(&loop, pair[0], 0, DATA);
    ok(write(pair[1], "x", 1) == 1, "written");
    is_int(ws__loop_wait(&loop, events, 0), 0, "no interest, no event");
    close(pair[1]);
    is_int(ws__loop_wait(&loop, events, 0), 1, "a hang-up is always told");
    ok(events[0].ready & WS__LOOP_HANGUP, "T81: HUP");
    ws__loop_remove(&loop, pair[0]);
    is_int(ws__loop_wait(&loop, events, 0), 0, "removed");
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
    is_int(ws__loop_wait(&loop, events, -1), 0, "and ends a wait");
    ok(!is_ready(0), "two of them are one");
    pthread_create(&thread, NULL, wake, &loop);
    is_int(ws__loop_wait(&loop, events, 60000), 0, "from another thread");
    pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = nothing}, old;
    struct itimerval soon = {{0, 0}, {0, 20000}};
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &soon, NULL);
    is_int(ws__loop_wait(&loop, events, 60000), 0, "T81: EINTR is no error");
    sigaction(SIGALRM, &old, NULL);
    int epoll_fd = loop.epoll_fd;
    loop.epoll_fd = -1;
    is_int(ws__loop_wait(&loop, events, 0), WS_ESYSTEM, "T81: EBADF is one");
    loop.epoll_fd = epoll_fd;
    stop();
}

static const uint64_t MS = 1000000;

static void pass(uint64_t ms)
{
    now += ms * MS;
    ws__loop_wait(&loop, events, 0);
}

static void test_timers(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a, c = a;
    start();
    struct ws__timer_queue *ten = ws__loop_queue(&loop, &memory, 10);
    struct ws__timer_queue *five = ws__loop_queue(&loop, &memory, 5);
    ok(ten && five && ten != five, "queues");
    ok(ws__loop_queue(&loop, &memory, 10) == ten, "one for each duration");
    pass(0);
    ws__timer_start(&loop, ten, &a);
    ws__timer_start(&loop, five, &b);
    pass(1);
    ws__timer_start(&loop, ten, &c);
    pass(3);
    ok(!ws__loop_expired(&loop), "S38: never early");
    pass(1);
    ok(ws__loop_expired(&loop) == &b && !ws__loop_expired(&loop), "the first, once");
    pass(5);
    ok(ws__loop_expired(&loop) == &a && !ws__loop_expired(&loop), "the second");
    ws__timer_start(&loop, ten, &a);
    pass(9);
    ws__timer_start(&loop, ten, &c);
    ok(!ws__loop_expired(&loop), "a restart counts from then");
    ws__timer_stop(&a);
    ws__timer_stop(&a);
    ws__timer_stop(&b);
    pass(10);
    ok(ws__loop_expired(&loop) == &c && !ws__loop_expired(&loop), "a stopped one never expires");
    struct ws__timer_queue *zero = ws__loop_queue(&loop, &memory, 0);
    ws__timer_start(&loop, zero, &a);
    ok(ws__loop_expired(&loop) == &a, "T83: a duration of 0");
    struct ws__timer_queue *longest = ws__loop_queue(&loop, &memory, UINT32_MAX);
    ws__timer_start(&loop, longest, &a);
    pass(UINT32_MAX - 1u);
    ok(!ws__loop_expired(&loop), "T83: the longest, not early");
    pass(1);
    ok(ws__loop_expired(&loop) == &a, "T83: nor late");
    now = UINT64_C(1) << 62;
    pass(0);
    ws__timer_start(&loop, ten, &a);
    pass(10);
    ok(ws__loop_expired(&loop) == &a, "T83: far in the future");
    stop();
}

/* Real time: the descriptor alone tells that a timer is due. */
static void test_descriptor_of_timers(void)
{
    struct ws__timer a = {NULL, NULL, 0}, b = a;
    ws__memory_init(&memory, NULL, 0);
    ws__loop_init(&loop, NULL, NULL);
    struct ws__timer_queue *later = ws__loop_queue(&loop, &memory, 60000);
    struct ws__timer_queue *soon = ws__loop_queue(&loop, &memory, 20);
    ws__timer_start(&loop, later, &b);
    ws__loop_arm(&loop);
    ok(!is_ready(0), "T57: nothing is due, nothing shows");
    ws__timer_start(&loop, soon, &a);
    ws__loop_arm(&loop);
    ok(is_ready(5000), "an earlier deadline replaces a later one");
    int n = 0;
    while (!(a.next == NULL) && n++ < 100) {
        ws__loop_wait(&loop, events, 1000);
        if (ws__loop_expired(&loop) == &a)
            break;
    }
    ok(!a.next, "it expires");
    ws__timer_stop(&b);
    ws__loop_wait(&loop, events, 0);
    ok(!is_ready(50), "T57: and that was all");
    ws__timer_start(&loop, soon, &a);
    is_int(ws__loop_wait(&loop, events, -1), 0, "a wait without limit ends with the deadline");
    ws__timer_stop(&a);
    stop();
}

int main(void)
{
    test_descriptors();
    test_wakeups();
    test_timers();
    test_descriptor_of_timers();
    return done_testing();
}
