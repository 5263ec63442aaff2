/* SPDX-License-Identifier: MIT */
/*
 * test_between_turns.c: handlers and calls that run between two turns of the loop: they find all as
 * it is within a turn, and the wait that follows does not sleep over what they did.
 */
#include "fake_tls.h"
#include "one_client.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static bool descriptor_ready(void)
{
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    return poll(&ready, 1, 0) == 1;
}

/* ---- calls that must not sleep ---- */

static int interrupt_pipe[2];
static volatile sig_atomic_t slept;

static void on_alarm(int signal_number)
{
    (void)signal_number;
    slept = 1;
    if (write(interrupt_pipe[1], "x", 1) < 0)
        slept = 2;
}

/* A call that waits for nothing is ended after 20 s, and `slept` tells. */
static int bounded(int (*call)(void))
{
    struct itimerval limit = {{0, 0}, {20, 0}}, none = {{0, 0}, {0, 0}};
    char bytes[8];
    slept = 0;
    ws_server_set_interrupt_fd(h.server, interrupt_pipe[0]);
    setitimer(ITIMER_REAL, &limit, NULL);
    int result = call();
    setitimer(ITIMER_REAL, &none, NULL);
    ws_server_set_interrupt_fd(h.server, -1);
    while (read(interrupt_pipe[0], bytes, sizeof bytes) > 0)
        ;
    return result;
}

static int run(void)
{
    return ws_server_run(h.server);
}

static int step(void)
{
    return ws_server_step(h.server, -1);
}

/* ---- handlers between two turns ---- */

static enum event trigger;
static int reentered;

static void reenter(void)
{
    uint64_t before = stats_of(&h).turns;
    reentered++;
    is_int(ws_server_step(h.server, 0), WS_EBUSY, "WS_EBUSY: ws_server_step");
    is_int(bounded(run), WS_EBUSY, "WS_EBUSY: ws_server_run");
    is_int(ws_server_free(h.server), WS_EBUSY, "WS_EBUSY: ws_server_free");
    is_int((long long)stats_of(&h).turns, (long long)before, "and nothing was done");
}

static void reenter_hook(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event == ON_UPGRADE && !harness->deferred &&
        ws_request_defer(request, NULL, NULL) == WS_OK)
        harness->deferred = request;
    if (event == trigger)
        reenter();
}

static void on_aborted(ws_request *request, void *user)
{
    (void)request, (void)user;
    reenter();
}

static void reentered_once(const char *name)
{
    is_int(reentered, 1, "%s ran between two turns", name);
    reentered = 0;
}

static void test_between_turns(void)
{
    harness_init(&h);
    h.send_buffer = 4608;
    harness_start(&h);
    trigger = ON_CLOSE;
    for (int hard = 0; hard < 2; hard++) {
        client_open(&c, &h);
        h.hook = reenter_hook;
        if (hard)
            ws_conn_close(conn_at(&h, h.opened - 1));
        else
            ws_conn_end(conn_at(&h, h.opened - 1), 1000, NULL, 0);
        reentered_once(hard ? "on_close of ws_conn_close" : "on_close of ws_conn_end");
        expect_alive();
        client_close(&c);
    }
    trigger = ON_DROPPED;
    client_open_small(&c, &h);
    ws_conn *conn = conn_at(&h, h.opened - 1);
    fill(conn, 1000);
    h.hook = reenter_hook;
    is_int(ws_conn_send(conn, payload, 1 << 20, WS_BINARY), WS_DROPPED, "a drop");
    reentered_once("on_dropped");
    expect_alive();
    stop("handlers between turns");
}

static void test_open_between_turns(void)
{
    harness_init(&h);
    harness_start(&h);
    trigger = ON_OPEN;
    h.hook = reenter_hook;
    h.answers = true;
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    turns(&h, 2);
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "an upgrade later");
    reentered_once("on_open");
    expect_alive();
    stop("on_open between turns");
}

static void defer_request(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event == ON_UPGRADE)
        ws_request_defer(request, on_aborted, harness);
}

static void test_abort_between_turns(void)
{
    harness_init(&h);
    harness_start(&h);
    h.hook = defer_request;
    h.answers = true;
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    turns(&h, 2);
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    reentered_once("on_aborted");
    is_responses(&c, "503, EOF", "and the client is answered");
    stop("on_aborted between turns");
}

/* What is done in before_wait ends the wait that follows. */
static int action;

static void before_wait(void *user)
{
    struct harness *harness = user;
    int now = action;
    ws_conn *conn = harness->opened ? conn_at(harness, 0) : NULL;
    action = 0;
    if (now && conn && ws_server_step(harness->server, 0) != WS_EBUSY)
        now = 0;
    if (now == 1) {
        ws_conn_send_fragment(conn, "a", 1, WS_TEXT, false);
        ws_conn_send(conn, "b", 1, WS_TEXT); /* held back: a drain is due */
        ws_conn_send_fragment(conn, "c", 1, WS_CONTINUATION, true);
    } else if (now == 2) {
        ws_conn_end(conn, 1000, NULL, 0);
    } else if (now == 3) {
        ws_conn_close(conn);
    }
}

static void start_before_wait(void)
{
    harness_init(&h);
    h.config.before_wait = before_wait;
    h.config.handshake_timeout = 3600000; /* or its timer would end the wait */
    action = 0;
    harness_start(&h);
    client_open(&c, &h);
    while (descriptor_ready())
        turns(&h, 1);
    harness_events(&h);
}

static void test_before_wait(void)
{
    start_before_wait();
    action = 1;
    is_int(bounded(step), 1, "a turn");
    ok(!slept, "a drain that is due since before_wait: the loop does not sleep forever");
    is_events(&h, "drain", "S31: on_drain runs");
    is_frames(&c, "TEXT+ a, CONT c, TEXT b", "and the client got it all");
    h.now += UINT64_C(60000000000); /* nothing happened for a minute */
    action = 2;
    turns(&h, 1);
    is_events(&h, "close 1000", "ws_conn_end in before_wait");
    is_int(stats_of(&h).connections, 1, "C10: close_timeout counts from the call");
    advance(&h, 5000);
    is_int(stats_of(&h).connections, 0, "C10: and is not forgotten");
    stop("before_wait");

    start_before_wait();
    size_t before = h.memory.bytes;
    action = 3;
    is_int(bounded(step), 1, "a turn");
    ok(!slept, "ws_conn_close in before_wait: the loop does not sleep forever");
    is_events(&h, "close 1006 closed by the server", "on_close ran");
    ok(h.memory.bytes < before, "and the memory is freed");
    stop("closed in before_wait");
}

static void test_closed_between_turns(void)
{
    harness_init(&h);
    harness_start(&h);
    client_open(&c, &h);
    while (descriptor_ready())
        turns(&h, 1);
    size_t before = h.memory.bytes;
    ws_conn_close(conn_at(&h, 0));
    ok(descriptor_ready(), "a connection dropped between turns: ws_server_fd is readable");
    turns(&h, 1);
    ok(h.memory.bytes < before, "S42: and the next turn frees its memory");
    client_close(&c);

    client_open(&c, &h);
    ws_conn *conn = conn_at(&h, 1); /* good as long as its socket is there, to the library */
    before = h.memory.bytes;
    ws_server_shutdown(h.server, 1001, NULL, 0, 60000);
    while (descriptor_ready())
        turns(&h, 1);
    is_int(ws_server_step(h.server, 0), 1, "a shutdown waits for the last connection");
    ws_conn_close(conn);
    ok(descriptor_ready(), "dropped between turns: ws_server_fd is readable at once");
    is_int(ws_server_step(h.server, 0), WS_OK, "T67: and the shutdown is over before its time");
    ok(h.memory.bytes < before, "S42: its memory is freed by then");
    stop("closed between turns");
}

/* ---- the time of a turn ---- */

static void send_long(void *conn)
{
    ws_conn_send(conn, payload, 150000, WS_BINARY);
}

static void reply_long(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_MESSAGE)
        send_long(conn);
}

/* The client reads while the server encrypts, so that the kernel always has room. */
static void read_meanwhile(const char *call)
{
    if (!strcmp(call, "write"))
        client_read(&c);
}

/* A message over TLS leaves at once unless the turn is late, and a turn is late only for what has
 * happened in it, or shortly before. */
static void test_time_of_a_turn(void)
{
    harness_init(&h);
    h.tls = true;
    h.quiet = true;
    h.hook = reply_long;
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    client_open(&c, &h);
    fake_tls.hook = read_meanwhile;
    for (int i = 0; i < 4; i++, h.now += 1000000000) {
        send_long(conn_at(&h, 0));
        while (descriptor_ready())
            turns(&h, 1);
    }
    is_int((long long)stats_of(&h).backpressure, 0, "T30: one message a second, between turns");
    ws_server_defer(h.server, send_long, conn_at(&h, 0));
    turns(&h, 1);
    h.now += 1000000000;
    client_text(&c, "x");
    turns(&h, 1);
    is_int((long long)stats_of(&h).backpressure, 0, "T30: at the end of a turn, and in the next");
    fake_tls.hook = NULL;
    stop("the time of a turn");
}

/* ---- life of the server ---- */

static int inner;

static void run_inside(void *argument)
{
    (void)argument;
    inner = ws_server_run(h.server);
}

static void test_inner_run(void)
{
    harness_init(&h);
    harness_start(&h);
    ws_server_defer(h.server, run_inside, NULL);
    ok(write(interrupt_pipe[1], "x", 1) == 1, "an interrupt, and a run inside of the same turn");
    is_int(bounded(run), 1, "T72: the outer run returns 1");
    is_int(inner, WS_EBUSY, "the inner one WS_EBUSY");
    ok(!slept, "T72: the inner run does not eat the interrupt of the outer one");
    stop("an inner run");
}

static void nothing(void *argument)
{
    (void)argument;
}

static void test_failed_listen_stays_stopped(void)
{
    ws_listen_options options;
    harness_init(&h);
    harness_start(&h);
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_int(bounded(run), WS_OK, "shut down");
    ws_listen_options_init(&options, sizeof options);
    options.path = "/no such directory/socket";
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "then a listen that fails");
    is_int(bounded(run), WS_OK, "leaves the server stopped: ws_server_run returns at once");
    ok(!slept, "without a wait");
    is_int(ws_server_step(h.server, 0), WS_OK, "so does ws_server_step");
    is_int(ws_server_defer(h.server, nothing, NULL), WS_ESTOPPED, "ws_server_defer: WS_ESTOPPED");
    harness_listen(&h);
    is_int(ws_server_step(h.server, 0), 1, "a listen that succeeds starts it again");
    expect_alive();
    c.fd = -1;
    stop("a failed listen");
}

static void cases(void)
{
    CASE(test_between_turns());
    CASE(test_open_between_turns());
    CASE(test_abort_between_turns());
    CASE(test_before_wait());
    CASE(test_closed_between_turns());
    CASE(test_time_of_a_turn());
    CASE(test_inner_run());
    CASE(test_failed_listen_stays_stopped());
}

int main(int argc, char **argv)
{
    struct sigaction action_of_alarm = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action_of_alarm, NULL);
    if (pipe2(interrupt_pipe, O_NONBLOCK | O_CLOEXEC))
        return 2;
    return run_cases(argc, argv, cases);
}
