/*
 * test_heartbeat.c: silent peers: when Pings go out and when the end comes, for all settings, against
 * a model; what counts as a sign of life; how often the loop wakes up; lifetimes; round trips;
 * loops that were held up; the alarm. Time is virtual and moves from deadline to deadline.
 */
#include "conn.h"
#include "harness.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

static struct harness h;
static struct client c;

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

static struct ws__loop *loop_of(void)
{
    return &ws__hub_of(h.server)->loop;
}

static void wake_by_time(void)
{
    static const struct itimerspec at_once = {.it_value = {0, 1}};
    struct pollfd timer = {loop_of()->timer_fd, POLLIN, 0};
    timerfd_settime(timer.fd, 0, &at_once, NULL);
    poll(&timer, 1, 5000);
}

/* The loop sleeps until the time that its timerfd is set to. */
static bool sleep_once(uint64_t until)
{
    struct ws__loop *loop = loop_of();
    if (loop->armed > until) {
        h.now = until > h.now ? until : h.now;
        return false;
    }
    wake_by_time();
    h.now = loop->armed > h.now ? loop->armed : h.now;
    turns(&h, 1);
    return true;
}

static int sleep_until(uint64_t until)
{
    int wakeups = 0;
    while (sleep_once(until))
        wakeups++;
    return wakeups;
}

static size_t said; /* bytes of a frame that is never finished */

static void start(uint32_t idle, uint32_t interval, uint32_t timeout)
{
    harness_init(&h);
    h.behavior.idle_timeout = idle;
    h.behavior.ping_interval = interval;
    h.behavior.ping_timeout = timeout;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    said = 0;
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, name);
}

/* How late something may be that is due after so much silence. */
static uint64_t tolerance(uint64_t silence)
{
    return silence / 100 > 50 * MS ? silence / 100 : 50 * MS;
}

static bool in_window(uint64_t at, uint64_t due)
{
    return at >= due && at <= due + tolerance(due);
}

/* Takes the frames that have arrived; the number of Pings, the last one's payload in ping[]. */
static char ping[4];
static int take_pings(struct client *who)
{
    int pings = 0;
    size_t at = 0;
    client_read(who);
    while (who->in_length - at >= 2 && who->in_length - at >= 2u + (unsigned char)who->in[at + 1]) {
        size_t n = (unsigned char)who->in[at + 1];
        if ((unsigned char)who->in[at] == 0x89 && n == 4) {
            memcpy(ping, who->in + at + 2, 4);
            pings++;
        }
        at += 2 + n;
    }
    who->in_length -= at;
    memmove(who->in, who->in + at, who->in_length);
    return pings;
}

/* ---- the rule ---- */

static void test_silence(uint32_t idle_ms, uint64_t ping_at)
{
    uint64_t idle = idle_ms * MS;
    start(idle_ms, WS_DERIVED, WS_DERIVED);
    uint64_t opened = h.now;
    is_int(sleep_until(opened + ping_at - 1), 0, "S39, T57: %u ms: no wake-up before the Ping",
           idle_ms);
    is_int(take_pings(&c), 0, "S38: nor is it early");
    ok(sleep_once(NEVER) && in_window(h.now - opened, ping_at),
       "S38, S39, T54: %u ms: the loop wakes up at %.3f s", idle_ms,
       (double)(h.now - opened) / 1e9);
    is_int(take_pings(&c), 1, "S38, S39: and a Ping goes out");
    is_events(&h, "", "S4: nobody is disturbed");
    ok(sleep_once(NEVER) && in_window(h.now - opened, idle),
       "S41, T54, T57: the next wake-up is the end, at %.3f s", (double)(h.now - opened) / 1e9);
    is_events(&h, "close 1006 idle timeout", "S4, S14, S41, S50: 1006, and why");
    turns(&h, 1);
    client_read(&c);
    ok(c.eof && !c.in_length, "S41: TCP is dropped without a Close");
    ok(loop_of()->armed == NEVER || !sleep_until(NEVER - 1), "T57: no further wake-up");
    stop("silence");
}

static void test_no_policy(void)
{
    start(0, WS_DERIVED, WS_DERIVED);
    turns(&h, 2);
    ok(loop_of()->armed == NEVER, "S5, T57: idle_timeout 0: no timer at all");
    struct itimerspec left;
    timerfd_gettime(loop_of()->timer_fd, &left);
    ok(!left.it_value.tv_sec && !left.it_value.tv_nsec, "T57: neither in the kernel");
    for (int i = 0; i < 50; i++)
        advance(&h, UINT32_MAX);
    is_int(take_pings(&c), 0, "S5: no Ping in years");
    is_events(&h, "", "S5: nor an end");
    client_text(&c, "still here");
    turns(&h, 2);
    is_events(&h, "message TEXT still here", "S5: it works");
    stop("no policy");
}

static void test_defaults(void)
{
    ws_behavior b;
    memset(&b, 0xff, sizeof b);
    is_int(ws_behavior_init(&b, sizeof b), WS_OK, "ws_behavior_init");
    is_int(b.idle_timeout, 120000, "S39: idle_timeout");
    ok(b.ping_interval == WS_DERIVED && b.ping_timeout == WS_DERIVED, "S38: Pings are derived");
    ok(!b.max_lifetime && !b.reset_idle_timeout_on_send, "no lifetime, sending does not count");
    ok(b.max_topics == 1000 && b.max_topic_length == 1024, "topics");
}

/* ---- what counts ---- */

static void say_something(int what)
{
    static const char unfinished[] = "\x81\xfe\x40\x00kkkk";
    if (what == 0)
        client_text(&c, "x");
    else if (what == 1)
        client_frame(&c, 0x89, "p", 1);
    else if (what == 2)
        client_frame(&c, 0x8a, "unasked", 7);
    else if (what == 3)
        client_frame(&c, 0x8a, ping, 4);
    else /* one byte of a frame that is never finished */
        client_write(&c, said < 8 ? unfinished + said : "z", 1);
    said += what == 4;
}

static void test_signs_of_life(void)
{
    static const char *const names[] = {"a message", "a Ping", "an unsolicited Pong", "the Pong",
                                        "one byte of an incomplete frame"};
    for (int what = 0; what < 5; what++) {
        start(12000, WS_DERIVED, WS_DERIVED);
        h.quiet = true;
        int pings = 0;
        for (int i = 0; i < 20; i++) { /* just before the Ping, just after it, before the end */
            static const uint64_t pauses[] = {7999, 8100, 11990};
            sleep_until(h.now + pauses[i % 3] * MS);
            pings += take_pings(&c);
            say_something(what);
            turns(&h, 1);
        }
        take_pings(&c);
        is_int(pings, 13, "S39, S40, S51, F13: %s re-arms, a Ping in each silence above 8 s",
               names[what]);
        is_int(stats_of(&h).open, 1, "S40: open after %s of three minutes", names[what]);
        uint64_t last = h.now;
        sleep_until(last + 12 * SECOND - 1);
        is_int(stats_of(&h).open, 1, "S38: not early behind the last one");
        sleep_until(last + 12 * SECOND + tolerance(12 * SECOND));
        is_int(stats_of(&h).open, 0, "S41: nor late");
        stop(names[what]);
    }
}

/* Receiving is nearly free: the timer moves only where it would be too early. */
static void test_busy(void)
{
    start(120000, WS_DERIVED, WS_DERIVED);
    h.quiet = true;
    const ws_conn *conn = conn_at(&h, 0);
    uint64_t from = h.now, deadline = conn->timer.deadline;
    ok(deadline > from + 104 * SECOND && deadline <= from + 104 * SECOND + 50 * MS, "a slack");
    int moves = 0;
    for (int i = 0; i < 1000; i++) {
        h.now += MS;
        client_text(&c, "x");
        turns(&h, 1);
        moves += conn->timer.deadline != deadline;
        deadline = conn->timer.deadline;
        if (deadline < h.now + 104 * SECOND)
            ok(false, "S38: too early after %d messages", i);
    }
    ok(moves > 15 && moves < 25, "1000 messages in a second moved the timer %d times", moves);
    stop("busy");
}

/* What arrives once the server has ended a connection gives it no more time (C10). */
static void test_closing(void)
{
    start(12000, WS_DERIVED, WS_DERIVED);
    uint64_t from = h.now;
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    for (int i = 1; i < 50; i++) {
        sleep_until(from + (uint64_t)i * 100 * MS);
        client_text(&c, "talks on");
        turns(&h, 1);
    }
    is_int(stats_of(&h).connections, 1, "C10: waits for the peer's Close");
    sleep_until(from + 5 * SECOND);
    is_int(stats_of(&h).connections, 0, "C10: close_timeout holds, whatever the peer sends");
    stop("closing");
}

/* ---- all settings, against a model ---- */

struct happening {
    uint64_t at;
    char what; /* P: a Ping, I: "idle timeout", T: "ping timeout" */
};
enum { MAX_HAPPENINGS = 4096, GAPS = 8 };
struct log {
    struct happening list[MAX_HAPPENINGS];
    int count;
};
static struct log expected, seen;

static void note(struct log *log, uint64_t at, char what)
{
    if (log->count < MAX_HAPPENINGS)
        log->list[log->count++] = (struct happening){at, what};
}

struct settings {
    uint64_t idle, interval, timeout; /* nanoseconds, 0: none */
};

static struct settings in_words_of_the_manual(uint32_t idle, uint32_t interval, uint32_t timeout)
{
    struct settings s = {idle * MS, interval * MS, timeout * MS};
    if (interval == WS_DERIVED)
        s.interval = s.idle - (s.idle / 3 < 16 * SECOND ? s.idle / 3 : 16 * SECOND);
    if (timeout == WS_DERIVED)
        s.timeout = 0;
    return s;
}

/* What happens in a silence of that length; true: it was the end. */
static bool model(const struct settings *s, uint64_t from, uint64_t length, struct log *log)
{
    uint64_t end = s->idle ? s->idle : NEVER;
    char why = 'I';
    if (s->interval && s->timeout && s->interval + s->timeout < end) {
        end = s->interval + s->timeout;
        why = 'T';
    }
    for (uint64_t at = s->interval; at && at < end && at <= length; at += s->interval)
        note(log, from + at, 'P');
    if (end > length)
        return false;
    note(log, from + end, why);
    return true;
}

/* How late the library is, which must not be later than it may be. */
static uint64_t slack(const struct settings *s)
{
    uint64_t shortest = s->interval ? s->interval : s->idle;
    return shortest / 100 < 50 * MS ? shortest / 100 : 50 * MS;
}

/* Nothing may be due so shortly before the next byte that it is open which of both comes first. */
static bool is_clear(const struct settings *s, uint64_t length)
{
    static struct log before, after;
    before.count = after.count = 0;
    model(s, 0, length < slack(s) ? 0 : length - slack(s) - 1, &before);
    model(s, 0, length, &after);
    return before.count == after.count;
}

static uint64_t draw(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* How long a silence is to be watched: a few Pings, and the end where that is not too far. */
static uint64_t enough(const struct settings *s, uint64_t pings)
{
    uint64_t most = s->idle ? s->idle : s->interval ? s->interval * pings : 1000 * SECOND;
    if (s->interval && s->timeout && s->interval + s->timeout < most)
        most = s->interval + s->timeout;
    return s->interval && most / s->interval > pings ? pings * s->interval : most;
}

/* Mostly, the connection survives it. */
static uint64_t draw_gap(const struct settings *s)
{
    uint64_t most = enough(s, 10), gap;
    do
        gap = draw() % 8 ? draw() % most : draw() % (most + most / 100 + 1);
    while (!is_clear(s, gap));
    return gap;
}

static void record_end(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)request, (void)length;
    if (event == ON_CLOSE)
        note(&seen, harness->now, strcmp(data, "ping timeout") ? 'I' : 'T');
}

static void watch(uint64_t until)
{
    bool more = true;
    while (more && seen.count < MAX_HAPPENINGS) {
        more = sleep_once(until);
        for (int n = take_pings(&c); n > 0; n--)
            note(&seen, h.now, 'P');
    }
}

static bool is_expected(uint64_t late, const char *name)
{
    bool same = seen.count == expected.count;
    for (int i = 0; same && i < seen.count; i++)
        same = seen.list[i].what == expected.list[i].what &&
               seen.list[i].at >= expected.list[i].at &&
               seen.list[i].at <= expected.list[i].at + late;
    ok(same, "S38-S41, T54: %s: as the model, %d events", name, expected.count);
    for (int i = 0; !same && i < 20 && (i < seen.count || i < expected.count); i++)
        diag("%c %.6f, want %c %.6f", i < seen.count ? seen.list[i].what : '-',
             (double)seen.list[i].at / 1e9, i < expected.count ? expected.list[i].what : '-',
             (double)expected.list[i].at / 1e9);
    return same;
}

static void run_settings(uint32_t idle, uint32_t interval, uint32_t timeout)
{
    struct settings s = in_words_of_the_manual(idle, interval, timeout);
    char name[80];
    snprintf(name, sizeof name, "idle_timeout %u, ping_interval %d, ping_timeout %d", idle,
             (int)interval, (int)timeout);
    expected.count = seen.count = 0;
    start(idle, interval, timeout);
    h.hook = record_end;
    bool over = false, bytes = draw() % 2;
    uint64_t from = h.now;
    for (int i = 0; !over && i < GAPS; i++) {
        uint64_t gap = draw_gap(&s);
        over = model(&s, from, gap, &expected);
        from += gap;
        watch(from);
        say_something(bytes ? 4 : (int)(draw() % 4));
        turns(&h, 1);
    }
    uint64_t rest = enough(&s, 600);
    while (!is_clear(&s, rest))
        rest += slack(&s) + 1;
    if (!over)
        over = model(&s, from, rest, &expected);
    watch(from + rest);
    is_expected(slack(&s), name);
    is_int(stats_of(&h).open, !over, "S41: and %s", over ? "gone" : "open");
    stop(name);
}

static void test_settings(void)
{
    static const uint32_t idle[] = {0, 1, 500, 12000, 120000, UINT32_MAX};
    static const uint32_t interval[] = {WS_DERIVED, 0, 1, 250, 3000, 12000, 50000, UINT32_MAX - 1};
    static const uint32_t timeout[] = {WS_DERIVED, 0, 1, 400, 9000, 70000, UINT32_MAX - 1};
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        for (size_t k = 0; k < sizeof interval / sizeof *interval; k++)
            for (size_t m = 0; m < sizeof timeout / sizeof *timeout; m++)
                run_settings(idle[i], interval[k], timeout[m]);
}

/* ---- what does not count, and what does on request ---- */

static void test_sends(bool count, bool between_turns)
{
    harness_init(&h);
    h.behavior.idle_timeout = 12000;
    h.behavior.reset_idle_timeout_on_send = count;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    uint64_t opened = h.now;
    int pings = 0;
    for (int i = 0; i < 20; i++) {
        sleep_until(h.now + 5 * SECOND);
        pings += take_pings(&c);
        if (!between_turns)
            turns(&h, 1); /* reads the clock */
        if (conn_at(&h, 0))
            ws_conn_send(conn_at(&h, 0), "news", 4, WS_TEXT);
    }
    if (count) {
        is_int(pings, 0, "S50: reset_idle_timeout_on_send: no Ping while something is sent");
        is_int(stats_of(&h).open, 1, "S50: nor an end");
        opened = h.now;
        sleep_until(opened + 8 * SECOND - 1);
        is_int(take_pings(&c), 0, "S50: the last send counts from when it was");
        sleep_until(opened + 12 * SECOND - 1);
        is_int(take_pings(&c), 1, "S50: then silence takes its course");
        is_int(stats_of(&h).open, 1, "S41: not early");
        sleep_until(opened + 12 * SECOND + tolerance(12 * SECOND));
    }
    is_int(take_pings(&c) + (count ? 1 : pings), 1, "S50: a Ping of ours is no sign of life");
    is_events(&h, "close 1006 idle timeout", "S50: the end comes to who says nothing");
    stop("sends");
}

static void test_pause(void)
{
    harness_init(&h);
    h.behavior.idle_timeout = 12000;
    h.behavior.reset_idle_timeout_on_send = true;
    h.behavior.max_lifetime = 3600000;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    uint64_t opened = h.now;
    sleep_until(h.now + 10 * SECOND);
    is_int(take_pings(&c), 1, "a Ping");
    ws_conn_pause(conn_at(&h, 0));
    ws_conn_send(conn_at(&h, 0), "x", 1, WS_TEXT);
    client_text(&c, "waits");
    turns(&h, 2);
    is_int(sleep_until(h.now + 1000 * SECOND), 0, "T57: paused: no wake-up");
    is_events(&h, "", "the idle clock stands still while nothing is read");
    ws_conn_resume(conn_at(&h, 0));
    uint64_t resumed = h.now;
    turns(&h, 2);
    is_events(&h, "message TEXT waits", "resumed");
    sleep_until(resumed + 8 * SECOND - 1);
    is_int(take_pings(&c), 0, "silence begins anew");
    sleep_until(resumed + 8 * SECOND + tolerance(8 * SECOND));
    is_int(take_pings(&c), 1, "as at first");
    ws_conn_pause(conn_at(&h, 0));
    sleep_until(h.now + 1000 * SECOND);
    ws_conn_resume(conn_at(&h, 0)); /* nothing has waited: no turn has seen this time */
    resumed = h.now;
    turns(&h, 1);
    sleep_until(resumed + 8 * SECOND - 1);
    is_int(take_pings(&c), 0, "between turns, too, it counts from the call");
    ws_conn_pause(conn_at(&h, 0));
    sleep_until(opened + 3600 * SECOND - 1);
    is_events(&h, "", "a pause of nearly an hour");
    sleep_until(opened + 3600 * SECOND);
    is_events(&h, "close 1000 please reconnect", "max_lifetime goes on, and ends a pause");
    stop("pause");
}

static void test_lifetime(void)
{
    harness_init(&h);
    h.behavior.max_lifetime = 60000;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    uint64_t opened = h.now;
    for (int i = 0; i < 59; i++) {
        sleep_until(opened + (uint64_t)(i + 1) * SECOND);
        client_text(&c, "busy");
        turns(&h, 1);
    }
    harness_events(&h);
    sleep_until(opened + 60 * SECOND - 1);
    is_events(&h, "", "max_lifetime: not early");
    sleep_until(opened + 60 * SECOND);
    is_events(&h, "close 1000 please reconnect", "max_lifetime: the end, however busy");
    is_frames(&c, "CLOSE 1000 please reconnect", "max_lifetime: by a Close");
    client_send_close(&c, 1000, "");
    turns(&h, 2);
    client_close(&c);
    turns(&h, 2);
    for (int i = 0; i < 4; i++) { /* ended before: the timer goes with the connection */
        client_open(&c, &h);
        if (i == 0)
            ws_conn_close(conn_at(&h, 1));
        else if (i == 1)
            ws_conn_end(conn_at(&h, 2), 1000, NULL, 0);
        else if (i == 2)
            client_reset(&c);
        turns(&h, 2);
        if (i < 3)
            client_close(&c);
    }
    advance(&h, 60000);
    ok(strstr(harness_events(&h), "4:close 1000 please reconnect") != NULL, "the others' is over");
    stop("lifetime");
}

/* ---- round trips ---- */

static void test_latency(void)
{
    start(12000, WS_DERIVED, WS_DERIVED);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_latency(conn), 0, "latency: none yet");
    client_frame(&c, 0x8a, "", 0);
    turns(&h, 1);
    is_int(ws_conn_latency(conn), 0, "F13: an unsolicited Pong tells nothing");
    sleep_until(h.now + 9 * SECOND);
    is_int(take_pings(&c), 1, "a Ping");
    client_frame(&c, 0x8a, "nope", 4);
    turns(&h, 1);
    is_int(ws_conn_latency(conn), 0, "nor does a Pong to another Ping");
    client_frame(&c, 0x8a, ping, 4);
    h.now += 5 * MS;
    turns(&h, 1);
    long long took = ws_conn_latency(conn);
    ok(took > 900000 && took < 1005001, "latency of the Ping of the library: %lld us", took);
    is_int(ws_conn_send(conn, "mine", 4, WS_PING), WS_SUCCESS, "a Ping of the application");
    client_frame(&c, 0x8a, "mine", 4);
    turns(&h, 1);
    is_int(ws_conn_latency(conn), 1, "latency: 1 at least");
    h.now += 7 * SECOND; /* without a turn: the loop's time is an old one */
    is_int(ws_conn_send(conn, "", 0, WS_PING), WS_SUCCESS, "an empty Ping between turns");
    h.now += 3 * MS;
    client_frame(&c, 0x8a, "", 0);
    turns(&h, 1);
    is_int(ws_conn_latency(conn), 3000, "latency: 3 ms");
    client_frame(&c, 0x8a, "", 0);
    advance(&h, 4);
    is_int(ws_conn_latency(conn), 3000, "a second answer is none");
    stop("latency");
}

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
    is_int(stats_of(&h).open, CROWD - leave, "a loop that was held up kills nobody who is alive");
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

/* More than a turn handles; each turn takes longer than the peer may be silent, which it is not: but
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

/* A peer that reads nothing: Pings wait behind the queue, and do not grow without end. */
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
    is_int(stats_of(&h).open, 1, "no idle_timeout: nobody is cut for not reading");
    ok(ws_conn_buffered_amount(conn) <= h.behavior.max_backpressure + 4096 + 6,
       "10000 Pings: %zu bytes are queued", ws_conn_buffered_amount(conn));
    client_drain(&c);
    ok(c.received > 60000, "and all of it is read");
    stop("full kernel");
}

/* ---- T83: clocks ---- */

static void test_clock(uint64_t begin, uint32_t idle)
{
    harness_init(&h);
    h.now = begin;
    h.behavior.idle_timeout = idle;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    uint64_t last = idle * MS, margin = last / 3 < 16 * SECOND ? last / 3 : 16 * SECOND;
    uint64_t late = tolerance(last - margin) < margin ? tolerance(last - margin) : margin - 1;
    sleep_until(begin + last - margin - 1);
    is_int(take_pings(&c), 0, "T83: from %llu, %u ms: not early", (unsigned long long)begin, idle);
    sleep_until(begin + last - margin + late);
    is_int(take_pings(&c), 1, "T83: the Ping");
    sleep_until(begin + last - 1);
    is_int(stats_of(&h).open, 1, "T83: the end is not early");
    sleep_until(begin + last + tolerance(last));
    is_int(stats_of(&h).open, 0, "T83: nor late");
    stop("clock");
}

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
    ok(left.it_value.tv_sec <= 11, "S41: the timerfd goes off in %ld s", (long)left.it_value.tv_sec);
    client_close(&c);
    ok(harness_free(&h), "T68: before_wait: nothing is left");
}

/* The peer has nothing to do with it. */
static void test_no_memory_for_lifetime(void)
{
    harness_init(&h);
    h.behavior.max_lifetime = 1000;
    h.tells_closed = true;
    harness_start(&h);
    bool told = false;
    for (size_t n = 1; n < 9 && !told; n++) {
        client_connect(&c, &h);
        client_say(&c, handshake_request);
        h.memory.fail_at = h.memory.calls + n;
        turns(&h, 3);
        h.memory.fail_at = 0;
        const char *events = harness_events(&h);
        told = strstr(events, "close 1006 out of memory") != NULL;
        ok(!told || !strstr(events, "by peer"), "S7: the end was begun here: %s", events);
        client_close(&c);
        turns(&h, 3);
        harness_events(&h);
    }
    ok(told, "T84: no memory for max_lifetime: 1006, out of memory");
    ok(harness_free(&h), "T68: no memory: nothing is left");
}

static void cases(void)
{
    CASE(test_before_wait());
    CASE(test_no_memory_for_lifetime());
    CASE(test_defaults());
    CASE(test_silence(120000, 104 * SECOND));
    CASE(test_silence(12000, 8 * SECOND));
    CASE(test_silence(500, 333333334));
    CASE(test_silence(1, 666667));
    CASE(test_no_policy());
    CASE(test_signs_of_life());
    CASE(test_busy());
    CASE(test_closing());
    CASE(test_settings());
    CASE(test_sends(false, false));
    CASE(test_sends(true, false));
    CASE(test_sends(true, true));
    CASE(test_pause());
    CASE(test_lifetime());
    CASE(test_latency());
    CASE(test_crowd());
    CASE(test_blocked(0, WS_DERIVED));
    CASE(test_blocked(0, 0));
    CASE(test_blocked(500, 0));
    CASE(test_left_over());
    CASE(test_long_turn());
    CASE(test_late_ping());
    CASE(test_full_kernel());
    CASE(test_clock((UINT64_C(1) << 63) - SECOND, 2000));
    CASE(test_clock((UINT64_C(1) << 63) - 1000 * SECOND, 1));
    CASE(test_clock((UINT64_C(1) << 63) - 1000 * SECOND, UINT32_MAX));
    CASE(test_clock(1, 12000));
    CASE(test_alarm());
    CASE(test_alarm_again());
    CASE(test_alarm_and_others());
    CASE(test_alarm_descriptor());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
