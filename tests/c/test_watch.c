/* SPDX-License-Identifier: MIT */
/*
 * test_watch.c: descriptors of the application in the loop of a server (ws_server_watch): what they
 * are ready for, watches that end and change while others run, and descriptors that are closed
 * while they are watched, so that their numbers belong to something else.
 */
#include "one_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BOTH = WS_READABLE | WS_WRITABLE };

/* ---- what is watched ---- */

static char calls[256];         /* "a:r b:rw": by name, in the order of the calls */
static void (*inside)(int fd); /* runs in each call */

static void note(int fd, unsigned ready, void *user)
{
    size_t length = strlen(calls);
    snprintf(calls + length, sizeof calls - length, "%s%s:%s%s", length ? " " : "",
             (const char *)user, ready & WS_READABLE ? "r" : "", ready & WS_WRITABLE ? "w" : "");
    if (inside)
        inside(fd);
}

static int watch_as(int fd, unsigned events, const char *name)
{
    return ws_server_watch(h.server, fd, events, note, (void *)(uintptr_t)name);
}

/* Runs one turn and compares the calls in it. */
static void is_calls(const char *want, const char *name)
{
    calls[0] = '\0';
    turns(&h, 1);
    is_text(calls, want, name);
}

static void make_pipe(int ends[2])
{
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
        perror("pipe2");
        exit(2);
    }
}

static void close_both(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void put(int fd)
{
    ok(write(fd, "x", 1) == 1, "something to read");
}

static void take(int fd)
{
    char byte;
    ok(read(fd, &byte, 1) == 1, "it is read");
}

static void begin(void)
{
    harness_init(&h);
    h.echo = true;
    harness_start(&h);
    turns(&h, 1);
    inside = NULL;
}

/* ---- readiness ---- */

static void test_readiness(void)
{
    int a[2], b[2];
    begin();
    make_pipe(a);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b))
        return;
    is_int(watch_as(a[0], WS_READABLE, "a"), WS_OK, "a pipe is watched");
    is_calls("", "nothing to read: no call");
    put(a[1]);
    struct pollfd server = {ws_server_fd(h.server), POLLIN, 0};
    is_int(poll(&server, 1, 0), 1, "a foreign loop sees that a watched descriptor is ready");
    is_calls("a:r", "readable: one call in a turn");
    is_calls("a:r", "and again in the next one, until it is read");
    take(a[0]);
    is_calls("", "it was read: no call");
    is_int(watch_as(b[0], BOTH, "b"), WS_OK, "a socket is watched for both");
    is_calls("b:w", "it is writable");
    put(b[1]);
    is_calls("b:rw", "readable and writable: one call says both");
    is_int(watch_as(b[0], WS_READABLE, "c"), WS_OK, "a second call changes the watch");
    is_calls("c:r", "its events and its user");
    is_int(watch_as(b[0], 0, NULL), WS_OK, "events 0 ends it");
    is_calls("", "no call any more");
    is_int(watch_as(b[0], 0, NULL), WS_OK, "where there is no watch, events 0 does nothing");
    is_int(watch_as(b[0], WS_READABLE, "b"), WS_OK, "it may be watched again");
    is_calls("b:r", "and is reported");
    close_both(a);
    close_both(b);
    harness_stop(&h, "readiness");
}

static void test_hang_up(void)
{
    int a[2], b[2], c_[2];
    begin();
    make_pipe(a);
    make_pipe(b);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, c_))
        return;
    watch_as(a[0], WS_READABLE, "a");
    close(a[1]);
    is_calls("a:r", "the writer has left: readable, so that the end of file is found");
    watch_as(a[0], 0, NULL);
    while (write(b[1], payload, sizeof payload) > 0)
        ;
    watch_as(b[1], WS_WRITABLE, "b");
    is_calls("", "a full pipe is not writable");
    close(b[0]);
    is_calls("b:w", "the reader has left: writable, so that EPIPE is found");
    watch_as(b[1], WS_READABLE, "b");
    is_calls("b:r", "an error counts as whatever is watched");
    watch_as(b[1], 0, NULL);
    watch_as(c_[0], BOTH, "c");
    close(c_[1]);
    is_calls("c:rw", "a hang-up counts as both where both are watched");
    watch_as(c_[0], 0, NULL);
    close(a[0]);
    close(b[1]);
    close(c_[0]);
    harness_stop(&h, "hang-up");
}

/* ---- errors ---- */

static void is_refused(int result, int number, const char *name)
{
    int error = errno;
    is_int(result, WS_ESYSTEM, "%s: WS_ESYSTEM", name);
    is_int(error, number, "%s: errno", name);
}

static void test_errors(void)
{
    int a[2];
    begin();
    make_pipe(a);
    is_int(watch_as(-1, WS_READABLE, "a"), WS_EINVAL, "a negative descriptor: WS_EINVAL");
    is_int(watch_as(a[0], 4, "a"), WS_EINVAL, "unknown events: WS_EINVAL");
    is_int(watch_as(a[0], 5, "a"), WS_EINVAL, "also among known ones");
    is_int(ws_server_watch(h.server, a[0], WS_READABLE, NULL, NULL), WS_EINVAL,
           "no function: WS_EINVAL");
    int file = open(__FILE__, O_RDONLY | O_CLOEXEC);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    is_refused(watch_as(null, WS_READABLE, "a"), EPERM, "a file");
    if (file >= 0)
        is_refused(watch_as(file, WS_READABLE, "a"), EPERM, "a regular file");
    close(file);
    close(null);
    is_refused(watch_as(null, WS_READABLE, "a"), EBADF, "a descriptor that is not open");
    is_int(ws_server_set_interrupt_fd(h.server, a[0]), WS_OK, "an interrupt descriptor");
    is_refused(watch_as(a[0], WS_READABLE, "a"), EEXIST, "a descriptor of the server");
    is_int(watch_as(a[0], 0, NULL), WS_OK, "which events 0 does not touch");
    put(a[1]);
    is_int(ws_server_run(h.server), 1, "it still interrupts");
    ws_server_set_interrupt_fd(h.server, -1);
    is_int(watch_as(a[0], WS_READABLE, "a"), WS_OK, "then it may be watched");
    is_refused(ws_server_set_interrupt_fd(h.server, a[0]), EEXIST,
               "what is watched cannot be an interrupt descriptor");
    put(a[1]);
    is_calls("a:r", "and the watch is as before");
    close_both(a);
    harness_stop(&h, "errors");
}

static void test_out_of_memory(void)
{
    int a[2];
    begin();
    make_pipe(a);
    put(a[1]);
    h.memory.fail_at = h.memory.calls + 1;
    is_int(watch_as(a[0], WS_READABLE, "a"), WS_ENOMEM, "no memory: WS_ENOMEM");
    is_calls("", "and no watch");
    h.memory.fail_at = 0;
    is_int(watch_as(a[0], WS_READABLE, "a"), WS_OK, "the next try succeeds");
    is_calls("a:r", "and is reported");
    close_both(a);
    harness_stop(&h, "out of memory");
}

/* ---- inside of a call ---- */

static int first[2], second[2];

static void begin_two(void)
{
    begin();
    make_pipe(first);
    make_pipe(second);
    put(first[1]);
    put(second[1]);
    watch_as(first[0], WS_READABLE, "a");
    watch_as(second[0], WS_READABLE, "b");
}

static void end_two(const char *name)
{
    inside = NULL;
    watch_as(first[0], 0, NULL);
    watch_as(second[0], 0, NULL);
    close_both(first);
    close_both(second);
    harness_stop(&h, name);
}

static void end_self(int fd)
{
    watch_as(fd, 0, NULL);
}

static int other_of(int fd)
{
    return fd == first[0] ? second[0] : first[0];
}

static void end_other(int fd)
{
    watch_as(other_of(fd), 0, NULL);
}

static void change_other(int fd)
{
    watch_as(other_of(fd), WS_READABLE, "new");
    inside = NULL;
}

static void want_less_of_other(int fd)
{
    watch_as(other_of(fd), WS_WRITABLE, "new"); /* the reading end of a pipe never is */
    inside = NULL;
}

static void test_changes_inside(void)
{
    begin_two();
    inside = end_self;
    is_calls("a:r b:r", "each ends its own watch");
    is_calls("", "and does not run again");
    end_two("ends itself");

    begin_two();
    inside = end_other;
    is_calls("a:r", "the first ends the other, which was ready in the same turn: no call");
    is_calls("a:r", "nor in the next turn");
    end_two("ends another");

    begin_two();
    inside = change_other;
    is_calls("a:r new:r", "the first changes the other: that runs as it is now");
    end_two("changes another");

    begin_two();
    inside = want_less_of_other;
    is_calls("a:r", "what the other is no longer watched for is not reported");
    end_two("wants less of another");
}

/* Ends the other watch, closes its descriptor, and has its number given to another pipe, which is
 * ready as well. */
static void replace_other(int fd)
{
    int other = other_of(fd), fresh[2];
    watch_as(other, 0, NULL);
    close_both(second);
    make_pipe(fresh);
    ok(fresh[0] == other, "the number is used again");
    put(fresh[1]);
    second[0] = fresh[0];
    second[1] = fresh[1];
    is_int(watch_as(fresh[0], WS_READABLE, "new"), WS_OK, "the new descriptor is watched");
    inside = NULL;
}

/* The same without an end of the watch. */
static void replace_other_rudely(int fd)
{
    int other = other_of(fd), fresh[2];
    close_both(second);
    make_pipe(fresh);
    ok(fresh[0] == other, "the number is used again");
    put(fresh[1]);
    second[0] = fresh[0];
    second[1] = fresh[1];
    is_int(watch_as(fresh[0], WS_READABLE, "new"), WS_OK, "the new descriptor is watched");
    inside = NULL;
}

static void test_same_number_inside(void)
{
    begin_two();
    inside = replace_other;
    is_calls("a:r", "an event of a watch that was ended is not reported to that of its successor");
    is_calls("a:r new:r", "its own event is, in the next turn");
    end_two("same number");

    begin_two();
    inside = replace_other_rudely;
    is_calls("a:r", "also if the descriptor was closed without an end of its watch");
    is_calls("a:r new:r", "the next turn reports the successor");
    end_two("same number, without an end");
}

static void use_server(int fd)
{
    is_int(ws_server_run(h.server), WS_EBUSY, "run inside a call: WS_EBUSY");
    is_int(ws_server_step(h.server, 0), WS_EBUSY, "step as well");
    is_int(ws_server_free(h.server), WS_EBUSY, "and free");
    ws_conn_send(conn_at(&h, 0), "sent", 4, WS_TEXT);
    ws_server_publish(h.server, "t", 1, "published", 9, WS_TEXT);
    ws_conn_close(conn_at(&h, 1));
    take(fd);
}

static void test_connections_inside(void)
{
    int a[2];
    struct client other;
    begin();
    make_pipe(a);
    client_open(&c, &h);
    client_open(&other, &h);
    ws_conn_subscribe(conn_at(&h, 0), "t", 1);
    watch_as(a[0], WS_READABLE, "a");
    put(a[1]);
    client_text(&other, "ready in the same turn");
    inside = use_server;
    turns(&h, 1);
    is_frames(&c, "TEXT sent, TEXT published", "a call may send and publish");
    is_frames(&other, "EOF", "and drop a connection");
    inside = NULL;
    client_close(&other);
    watch_as(a[0], 0, NULL);
    close_both(a);
    stop("connections inside");
}

static void end_loop(int fd)
{
    (void)fd;
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
}

static void test_shutdown(void)
{
    int a[2];
    begin();
    make_pipe(a);
    watch_as(a[0], WS_READABLE, "a");
    put(a[1]);
    inside = end_loop;
    is_int(ws_server_run(h.server), WS_OK, "a watch does not keep a shutdown waiting");
    inside = NULL;
    harness_listen(&h);
    is_calls("a:r", "the next run still has it");
    take(a[0]);
    client_open(&c, &h);
    expect_alive();
    int descriptor = a[0];
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, "shutdown");
    ok(fcntl(descriptor, F_GETFD) >= 0, "ws_server_free leaves the descriptor open");
    close_both(a);
}

/* ---- closed without an end ---- */

static void test_connection_with_the_number(void)
{
    int a[2], lower;
    begin();
    lower = eventfd(0, EFD_CLOEXEC);
    make_pipe(a);
    watch_as(a[0], WS_READABLE, "a");
    watch_as(a[1], WS_READABLE, "b");
    close(lower); /* a number for the client, */
    close_both(a); /* and one for the connection */
    client_open(&c, &h);
    is_int(c.fd, lower, "a connection has the number of a watched descriptor");
    is_int(watch_as(a[0], 0, NULL), WS_OK, "the end of that watch comes late");
    client_text(&c, "hello");
    is_frames(&c, "TEXT hello", "and does not touch the connection");
    is_refused(watch_as(a[0], WS_READABLE, "a"), EEXIST, "the number is the server's now");
    client_text(&c, "hello");
    is_frames(&c, "TEXT hello", "which does not touch the connection either");
    int fresh = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    ok(fresh == a[1], "a new descriptor has the other number");
    is_int(watch_as(fresh, WS_READABLE, "new"), WS_OK, "it may be watched");
    is_calls("new:r", "and is reported");
    close(fresh);
    fresh = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    ok(fresh == a[1], "another one of the same kind, whose inode is the same");
    is_calls("", "is not watched");
    is_int(watch_as(fresh, WS_READABLE, "newer"), WS_OK, "until that is asked for");
    is_calls("newer:r", "and is reported then");
    watch_as(fresh, 0, NULL);
    close(fresh);
    stop("the number of a connection");
}

static void test_closed(void)
{
    int a[2];
    begin();
    make_pipe(a);
    watch_as(a[0], WS_READABLE, "a");
    put(a[1]);
    close_both(a);
    is_calls("", "a descriptor that was closed is not reported");
    is_refused(watch_as(a[0], WS_READABLE, "a"), EBADF, "nor watched");
    is_int(watch_as(a[0], 0, NULL), WS_OK, "an end of its watch is no error");
    make_pipe(a);
    put(a[1]);
    is_int(watch_as(a[0], WS_READABLE, "a"), WS_OK, "its successor is watched");
    is_calls("a:r", "and reported");
    close_both(a);
    harness_stop(&h, "closed");
}

/* Timers wait until every descriptor that is ready was seen: closed ones must not count. */
static void test_closed_and_timers(void)
{
    enum { READY = 300, CLOSED = 20000 };
    static int ready[READY][2];
    int a[2];
    begin();
    client_open(&c, &h);
    for (int i = 0; i < CLOSED; i++) {
        make_pipe(a);
        watch_as(a[0], WS_READABLE, "a");
        close_both(a);
    }
    for (int i = 0; i < READY; i++) {
        make_pipe(ready[i]);
        watch_as(ready[i][0], WS_READABLE, "b");
        close(ready[i][1]);
    }
    h.now += UINT64_C(3600000000000);
    turns(&h, 8);
    client_read(&c);
    ok(c.in_length > 0, "timers run, although more descriptors are ready than a wait reports");
    c.in_length = 0;
    for (int i = 0; i < READY; i++) {
        watch_as(ready[i][0], 0, NULL);
        close(ready[i][0]);
    }
    stop("closed, and timers");
}

/* ---- against a model ---- */

enum { PAIRS = 400, ROUNDS = 3000 };

static struct {
    int ends[2];
    unsigned events, ready; /* watched for, and reported in this turn */
    bool full;              /* there is something to read */
} pairs[PAIRS];
static int surprises;
static unsigned random_state;

static unsigned any(unsigned bound)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % bound;
}

static void note_pair(int fd, unsigned ready, void *user)
{
    size_t i = (size_t)(uintptr_t)user;
    surprises += pairs[i].ends[0] != fd || pairs[i].ready || (ready & ~pairs[i].events);
    pairs[i].ready = ready;
}

static void open_pair(size_t i)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pairs[i].ends)) {
        perror("socketpair");
        exit(2);
    }
    pairs[i].full = false;
    pairs[i].events = 0;
}

static void watch_pair(size_t i, unsigned events)
{
    pairs[i].events = events;
    surprises += ws_server_watch(h.server, pairs[i].ends[0], events, events ? note_pair : NULL,
                                 (void *)(uintptr_t)i) != WS_OK;
}

static void change_one(void)
{
    char byte;
    size_t i = any(PAIRS);
    switch (any(5)) {
    case 0:
        watch_pair(i, 0);
        break;
    case 1: /* with or without an end of the watch */
        if (any(2))
            watch_pair(i, 0);
        close_both(pairs[i].ends);
        open_pair(i);
        break;
    case 2:
        if (!pairs[i].full)
            surprises += write(pairs[i].ends[1], "x", 1) != 1;
        else
            surprises += read(pairs[i].ends[0], &byte, 1) != 1;
        pairs[i].full = !pairs[i].full;
        break;
    default:
        watch_pair(i, 1 + any(3));
    }
}

static unsigned expected(size_t i)
{
    return pairs[i].events & (WS_WRITABLE | (pairs[i].full ? (unsigned)WS_READABLE : 0));
}

static void test_model(void)
{
    random_state = 16;
    begin();
    for (size_t i = 0; i < PAIRS; i++)
        open_pair(i);
    surprises = 0;
    int wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = any(20); i > 0; i--)
            change_one();
        for (size_t i = 0; i < PAIRS; i++)
            pairs[i].ready = 0;
        turns(&h, 1);
        int ready = 0;
        for (size_t i = 0; i < PAIRS; i++)
            ready += expected(i) != 0;
        for (size_t i = 0; i < PAIRS && ready < 200; i++) /* one wait reports them all */
            wrong += pairs[i].ready != expected(i);
        if (ready >= 200)
            for (size_t i = 0; i < PAIRS / 2; i++)
                watch_pair(i, 0);
    }
    is_int(wrong, 0, "every turn reports exactly what is ready and watched");
    is_int(surprises, 0, "to its own function, at most once, and no call fails");
    for (size_t i = 0; i < PAIRS; i++)
        close_both(pairs[i].ends);
    harness_stop(&h, "model");
}

static void cases(void)
{
    CASE(test_readiness());
    CASE(test_hang_up());
    CASE(test_errors());
    CASE(test_out_of_memory());
    CASE(test_changes_inside());
    CASE(test_same_number_inside());
    CASE(test_connections_inside());
    CASE(test_shutdown());
    CASE(test_connection_with_the_number());
    CASE(test_closed());
    CASE(test_closed_and_timers());
    CASE(test_model());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
