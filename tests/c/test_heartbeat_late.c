/* SPDX-License-Identifier: MIT */
/*
 * test_heartbeat_late.c: heartbeats of a loop that is held up, of one with many connections, and of
 * full kernel buffers: no peer times out because of the server's own delay.
 */
#include "heartbeats.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- many ---- */

struct one {
    uint64_t opened, closed;
    int fd, pings;
};

static struct one *all;
static int all_opened;

static void on_one_open(ws_conn *conn, void *user)
{
    (void)user;
    ws_conn_set_user(conn, &all[all_opened]);
    all[all_opened++].opened = h.now;
}

static void on_one_close(ws_conn *conn, int code, const char *reason, size_t length, void *user)
{
    struct one *one = ws_conn_user(conn);
    (void)length, (void)user;
    one->closed = code == 1006 && !strcmp(reason, "idle timeout") ? h.now : 1;
}

/* A Unix socket without a name in the file system: ten thousand ports would be too many. */
static struct sockaddr_un make_address(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "pyws-heartbeat-%d", (int)getpid());
    return address;
}

static int listen_on(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) || listen(fd, 128))
        printf("Bail out! no Unix socket\n");
    return fd;
}

static void open_one(struct one *one, const struct sockaddr_un *address)
{
    one->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connect(one->fd, (const struct sockaddr *)address, sizeof *address) ||
        write(one->fd, handshake_request, strlen(handshake_request)) < 0)
        one->opened = 1;
    turns(&h, 2);
}

static int how_many(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > 20100 ? 10000 : (int)(limit.rlim_cur - 100) / 2;
}

static void test_crowd(void)
{
    struct sockaddr_un address = make_address();
    ws_listen_options options;
    int count = how_many(), right = 0, pinged = 0;
    all = calloc((size_t)count, sizeof *all);
    all_opened = 0;
    harness_init(&h);
    h.behavior.idle_timeout = 12000;
    h.behavior.on_open = on_one_open;
    h.behavior.on_close = on_one_close;
    h.behavior.on_closed = NULL;
    harness_create(&h);
    harness_route(&h, "/");
    ws_listen_options_init(&options, sizeof options);
    options.fd = listen_on(&address);
    ws_server_listen(h.server, &options);
    for (int i = 0; i < count; i++) {
        sleep_until(h.now + MS);
        open_one(&all[i], &address);
    }
    is_int(all_opened, count, "T54: open, one each millisecond");
    int wakeups = sleep_until(h.now + 30 * SECOND);
    for (int i = 0; i < count; i++) {
        char bytes[512];
        ssize_t n = read(all[i].fd, bytes, sizeof bytes);
        pinged += n > 6 && bytes[n - 6] == (char)0x89 && bytes[n - 5] == 4;
        right += in_window(all[i].closed - all[i].opened, 12 * SECOND);
        close(all[i].fd);
    }
    is_int(pinged, count, "S38: each got its Ping");
    is_int(right, count, "S41, T54: each was cut in its own window");
    ok(wakeups <= 2 * count, "T57: %d wake-ups for %d connections", wakeups, count);
    harness_stop(&h, "crowd");
    free(all);
}

/* ---- a loop that is held up ---- */

enum { CROWD = 700 };

static struct client crowd[CROWD];
static int leave; /* so many of them go in the same turn */

static void gather(uint32_t idle, uint32_t interval)
{
    harness_init(&h);
    h.behavior.idle_timeout = idle;
    h.behavior.ping_interval = interval;
    h.quiet = true;
    how_many();
    harness_start(&h);
    for (int i = 0; i < CROWD; i++)
        client_open(&crowd[i], &h);
}

static int dismiss(void)
{
    int open = (int)stats_of(&h).open;
    for (int i = 0; i < CROWD; i++)
        client_close(&crowd[i]);
    turns(&h, 8);
    return open;
}

static void block(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)request, (void)length;
    if (event != ON_MESSAGE)
        return;
    if (!strncmp(data, "block", 5)) {
        wake_by_time();
        for (int i = 1; i < CROWD; i++)
            client_text(&crowd[i], i <= leave ? "leave" : "alive");
        harness->now += 1000 * SECOND;
    } else if (!strncmp(data, "leave", 5)) {
        ws_conn_close(conn);
    }
}

/* The kernel tells 256 at a time; time itself is the first of them, and many leave before others
 * were heard. */
static void test_blocked(int how_many_leave, uint32_t interval)
{
    leave = how_many_leave;
    gather(12000, interval);
    h.hook = block;
    h.now += 3 * SECOND;
    client_text(&crowd[0], "block");
    turns(&h, 1);
    turns(&h, 10);
    is_int(stats_of(&h).open, CROWD - leave, "a loop that was held up kills no one who is alive");
    advance(&h, 7990); /* who said nothing since is judged as ever */
    is_int(stats_of(&h).open, CROWD - leave, "S38: not early");
    sleep_until(h.now + 5 * SECOND);
    is_int(dismiss(), 0, "S41: and cut in time");
    harness_stop(&h, "blocked");
}

static int wasted;

static void waste_time(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)request, (void)length, (void)data;
    if (event != ON_MESSAGE)
        return;
    harness->now += 400 * MS;
    if (++wasted % 400 == 0 && wasted < 6000)
        client_text(&c, "more");
}

/* Some time passes between any two turns. */
static void real_turns(int count)
{
    while (count-- > 0) {
        h.now++;
        turns(&h, 1);
    }
}

/* More than a turn handles; a turn takes longer than the peer may be silent, which it is not: but
 * what it sends waits in the kernel until all before is done. */
static void test_left_over(void)
{
    static char many[6000 * 7];
    harness_init(&h);
    h.behavior.idle_timeout = 5000;
    h.behavior.ping_interval = 0;
    h.quiet = true;
    h.hook = waste_time;
    harness_start(&h);
    client_open(&c, &h);
    for (int i = 0; i < 6000; i++)
        make_frame(many + 7 * i, 0x81, "x", 1);
    is_int((long long)client_write(&c, many, sizeof many), sizeof many, "6000 messages at once");
    real_turns(500);
    is_int(stats_of(&h).open, 1, "40 minutes to handle them: the peer is not cut off meanwhile");
    sleep_until(h.now + 4 * SECOND);
    is_int(stats_of(&h).open, 1, "S38: not early");
    sleep_until(h.now + SECOND + tolerance(5 * SECOND));
    is_int(stats_of(&h).open, 0, "S41: afterwards as ever");
    stop("left over");
}

static void block_once(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)request, (void)length;
    if ((event != ON_MESSAGE || strncmp(data, "block", 5)) &&
        (event != ON_OPEN || harness->opened != 3))
        return;
    harness->now += 1000 * SECOND;
    client_text(&c, "alive");
}

/* What began in a turn that took long begins with its end. */
static void test_long_turn(void)
{
    struct client other, third;
    start(5000, 0, WS_DERIVED);
    h.hook = block_once;
    client_connect(&other, &h);
    real_turns(2);
    client_say(&other, handshake_request);
    client_text(&c, "block");
    real_turns(3);
    is_int(stats_of(&h).open, 2, "a handshake in the turn of a handler that held up the loop");
    client_connect(&third, &h);
    client_say(&third, handshake_request); /* its on_open takes long */
    real_turns(3);
    is_int(stats_of(&h).open, 2, "who said nothing for a quarter of an hour is cut");
    ok(!conn_at(&h, 1) && conn_at(&h, 0), "that one");
    uint64_t blocked = h.now;
    sleep_until(blocked + 4 * SECOND);
    is_int(stats_of(&h).open, 2, "S38: others are not cut early");
    sleep_until(blocked + 5 * SECOND + tolerance(5 * SECOND));
    is_int(stats_of(&h).open, 0, "S41: nor late");
    client_close(&other);
    client_close(&third);
    stop("a long turn");
}

/* A held-up loop sent the Ping late: the peer gets its time to answer. */
static void test_late_ping(void)
{
    start(12000, WS_DERIVED, WS_DERIVED);
    advance(&h, 100000);
    is_int(take_pings(&c), 1, "100 s too late a Ping goes out");
    is_events(&h, "", "but no end without it");
    uint64_t pinged = h.now;
    sleep_until(pinged + 4 * SECOND - 1);
    is_events(&h, "", "until the peer had its time to answer");
    sleep_until(pinged + 4 * SECOND);
    is_events(&h, "close 1006 idle timeout", "S41: in vain");
    stop("a late Ping");
}

/* A peer that reads nothing: Pings wait after the queue, and do not grow without end. */
static void test_full_kernel(void)
{
    static char big[300000];
    harness_init(&h);
    h.send_buffer = 8192;
    h.behavior.ping_interval = 1000;
    h.behavior.idle_timeout = 0;
    harness_start(&h);
    client_open_small(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    while (ws_conn_send(conn, big, 1000, WS_BINARY) != WS_DROPPED)
        ;
    sleep_until(h.now + 10000 * SECOND);
    is_int(stats_of(&h).open, 1, "no idle_timeout: no one is cut for not reading");
    ok(ws_conn_buffered_amount(conn) <= h.behavior.max_backpressure + 4096 + 6,
       "10000 Pings: %zu bytes are queued", ws_conn_buffered_amount(conn));
    client_drain(&c);
    ok(c.received > 60000, "and all of it is read");
    stop("full kernel");
}

static bool opened;
static struct itimerspec left;

static void note_open(struct harness *harness, enum event event, ws_conn *conn,
                      ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    opened = opened || event == ON_OPEN;
}

static void take_long(void *user)
{
    (void)user;
    if (!opened)
        return;
    h.now += 50 * SECOND;
    ws_server_wakeup(h.server);
}

static void look_at_timer(void *user)
{
    (void)user;
    if (!opened)
        return;
    timerfd_gettime(loop_of()->timer_fd, &left);
    opened = false;
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
}

/* The wait for a timer that was just started is counted from its beginning, not from that of
 * before_wait. */
static void test_before_wait(void)
{
    opened = false;
    harness_init(&h);
    h.hook = note_open;
    h.config.before_wait = take_long;
    h.config.after_wait = look_at_timer;
    h.config.handshake_timeout = 100000;
    h.behavior.idle_timeout = 60000;
    h.behavior.ping_interval = 0;
    harness_start(&h);
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    ws_server_run(h.server);
    ok(left.it_value.tv_sec <= 11, "S41: the timer expires in %ld s", (long)left.it_value.tv_sec);
    client_close(&c);
    ok(harness_free(&h), "T68: before_wait: nothing is left");
}

static void cases(void)
{
    CASE(test_before_wait());
    CASE(test_crowd());
    CASE(test_blocked(0, WS_DERIVED));
    CASE(test_blocked(0, 0));
    CASE(test_blocked(500, 0));
    CASE(test_left_over());
    CASE(test_long_turn());
    CASE(test_late_ping());
    CASE(test_full_kernel());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
