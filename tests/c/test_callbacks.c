/* SPDX-License-Identifier: MIT */
/*
 * test_callbacks.c: from inside of any callback of the application a server can neither be freed
 * nor run a turn, whether a turn calls it or a call between turns. T72.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

static struct harness h;
static struct client c;

enum kind { HANDLER, LOG, CLOCK, ALLOCATOR, BEFORE_WAIT, AFTER_WAIT, DEFERRED, ALARM, KINDS };

static const char *const names[KINDS] = {"a handler",   "log",        "clock",    "the allocator",
                                         "before_wait", "after_wait", "deferred", "the alarm"};

static struct {
    bool inside;  /* of a turn, or of ws_server_free */
    bool defers;  /* inside of ws_server_defer: a turn is harmless there */
    int runs[KINDS][2]; /* in a turn, between turns */
    int accepted;
    int accepted_kind;
} seen;

/* What comes of all three calls. Where a turn is not refused, freeing would end the test. */
static void try_all(enum kind kind)
{
    if (!h.server)
        return;
    seen.runs[kind][!seen.inside]++;
    bool refused = true;
    if (!seen.defers)
        refused = ws_server_step(h.server, 0) == WS_EBUSY && ws_server_run(h.server) == WS_EBUSY;
    if (refused && ws_server_free(h.server) == WS_EBUSY)
        return;
    seen.accepted++;
    seen.accepted_kind = (int)kind;
}

/* ---- callbacks ---- */

static ws_config counted; /* what the harness has */

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    try_all(ALLOCATOR);
    return counted.allocator.resize(context, ptr, old_size, size);
}

static uint64_t read_clock(void *user)
{
    try_all(CLOCK);
    return counted.clock(user);
}

static void take_log(void *user, int level, const char *line, size_t length)
{
    try_all(LOG);
    counted.log(user, level, line, length);
}

static void before_wait(void *user)
{
    (void)user;
    try_all(BEFORE_WAIT);
}

static void after_wait(void *user)
{
    (void)user;
    try_all(AFTER_WAIT);
}

static void deferred(void *argument)
{
    (void)argument;
    try_all(DEFERRED);
}

static void alarm_is_due(void *argument)
{
    (void)argument;
    try_all(ALARM);
}

static bool later; /* requests are answered between turns */

static void on_aborted(ws_request *request, void *user)
{
    (void)request, (void)user;
    try_all(HANDLER);
}

static void hook(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    try_all(HANDLER);
    if (event != ON_UPGRADE)
        return;
    if (!later)
        ws_request_upgrade(request, NULL, 0, NULL);
    else if (ws_request_defer(request, on_aborted, NULL) == WS_OK)
        harness->deferred = request;
}

/* ---- the life of a server ---- */

static void begin(void)
{
    memset(&seen, 0, sizeof seen);
    harness_init(&h);
    h.hook = hook;
    h.answers = true;
    h.behavior.max_topics = 1;
    counted = h.config;
    h.config.allocator.resize = resize;
    h.config.clock = read_clock;
    h.config.log = take_log;
    h.config.before_wait = before_wait;
    h.config.after_wait = after_wait;
    harness_start(&h);
}

static void inside_turns(int count)
{
    seen.inside = true;
    turns(&h, count);
    seen.inside = false;
}

static void open_client(void)
{
    seen.inside = true;
    client_open(&c, &h);
    seen.inside = false;
}

static void defer_call(void)
{
    seen.defers = true;
    is_int(ws_server_defer(h.server, deferred, NULL), WS_OK, "a deferred call");
    seen.defers = false;
}

static void ran(enum kind kind, bool between)
{
    const char *place = between ? "between turns" : "in turns";
    ok(seen.runs[kind][between] > 0, "%s ran %s", names[kind], place);
    seen.runs[kind][between] = 0;
}

static void all_refused(const char *what)
{
    is_int(seen.accepted, 0, "T72: run, step and free are refused: %s", what);
    if (seen.accepted)
        diag("not by %s", names[seen.accepted_kind]);
    seen.accepted = 0;
}

/* The last callbacks are those of ws_server_free. */
static void end(const char *name)
{
    client_close(&c);
    inside_turns(3);
    seen.inside = true;
    harness_stop(&h, name);
    seen.inside = false;
    all_refused("while the server is freed");
}

static void test_in_turns(void)
{
    begin();
    open_client();
    defer_call();
    ws_server_set_alarm(h.server, 1, alarm_is_due, NULL);
    client_text(&c, "a message");
    h.now += UINT64_C(10000000000);
    inside_turns(3);
    for (int kind = 0; kind < KINDS; kind++)
        if (kind != LOG)
            ran((enum kind)kind, false);
    all_refused("in turns");
    end("in turns");
}

static void test_between_turns(void)
{
    char *large = calloc(1, 1 << 20);
    begin();
    open_client();
    memset(seen.runs, 0, sizeof seen.runs);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_subscribe(conn, "a", 1), 1, "a subscription");
    ran(ALLOCATOR, true);
    ran(HANDLER, true);
    is_int(ws_conn_subscribe(conn, "b", 1), WS_ELIMIT, "another one, which is logged");
    ran(LOG, true);
    is_int(ws_server_publish(h.server, "a", 1, "x", 1, WS_TEXT), 1, "a publication");
    ran(ALLOCATOR, true);
    is_int(ws_conn_send(conn, "x", 1, WS_PING), WS_SUCCESS, "a Ping");
    ran(CLOCK, true);
    while (large && ws_conn_send(conn, large, 1 << 20, WS_BINARY) != WS_DROPPED)
        ;
    ran(HANDLER, true);
    ws_server_set_alarm(h.server, 1000, alarm_is_due, NULL);
    ran(CLOCK, true);
    is_int(ws_server_ws(h.server, "/more", &h.behavior), WS_OK, "a route");
    ran(ALLOCATOR, true);
    harness_listen(&h);
    ran(ALLOCATOR, true);
    defer_call();
    ran(ALLOCATOR, true);
    is_int(ws_conn_end(conn, 1000, NULL, 0), WS_OK, "the end");
    ran(HANDLER, true);
    ran(CLOCK, true);
    all_refused("between turns");
    end("between turns");
    free(large);
}

static void test_requests_between_turns(void)
{
    begin();
    later = true;
    seen.inside = true;
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    turns(&h, 2);
    memset(seen.runs, 0, sizeof seen.runs);
    seen.inside = false;
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "an upgrade later");
    ran(HANDLER, true);
    ran(CLOCK, true);
    ran(ALLOCATOR, true);
    ws_conn_close(conn_at(&h, 0));
    ran(HANDLER, true);
    client_close(&c);
    seen.inside = true;
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    turns(&h, 2);
    memset(seen.runs, 0, sizeof seen.runs);
    seen.inside = false;
    is_int(ws_server_shutdown(h.server, 1001, NULL, 0, 1000), WS_OK, "a shutdown");
    ran(HANDLER, true);
    ran(CLOCK, true);
    later = false;
    all_refused("between turns, with requests");
    end("requests between turns");
}

static void cases(void)
{
    CASE(test_in_turns());
    CASE(test_between_turns());
    CASE(test_requests_between_turns());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
