/* SPDX-License-Identifier: MIT */
/*
 * test_heartbeat.c: silent peers: when Pings are sent and when the connection ends, for all
 * settings, against a model; what counts as a sign of life; lifetimes; round trips. Time is virtual
 * and moves from deadline to deadline.
 */
#include "heartbeats.h"

#include <stdlib.h>
#include <sys/timerfd.h>

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
    is_events(&h, "", "S4: no one is disturbed");
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
        is_int(stats_of(&h).open, 1, "S38: not early after the last one");
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
    uint64_t from = h.now, deadline = conn->stream.timer.deadline;
    ok(deadline > from + 104 * SECOND && deadline <= from + 104 * SECOND + 50 * MS, "a slack");
    int moves = 0;
    for (int i = 0; i < 1000; i++) {
        h.now += MS;
        client_text(&c, "x");
        turns(&h, 1);
        moves += conn->stream.timer.deadline != deadline;
        deadline = conn->stream.timer.deadline;
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
    is_events(&h, "close 1000 please reconnect", "max_lifetime continues, and ends a pause");
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
    CASE(test_clock((UINT64_C(1) << 63) - SECOND, 2000));
    CASE(test_clock((UINT64_C(1) << 63) - 1000 * SECOND, 1));
    CASE(test_clock((UINT64_C(1) << 63) - 1000 * SECOND, UINT32_MAX));
    CASE(test_clock(1, 12000));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
