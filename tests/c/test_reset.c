/* SPDX-License-Identifier: MIT */
/*
 * test_reset.c: what a peer had sent before it reset the connection, or before a write to it
 * failed, is handled: messages, its Close, requests; read at once or while paused, in every state,
 * and bounded by every time limit. T36.
 */
#include "harness.h"
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

enum { MESSAGES = 5000 }; /* more than one turn handles */

static struct harness h;
static struct client c;
static int messages, requests, drains, dropped, pause_every, end_at;
static char payload[70000];

static void on_event(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    (void)harness, (void)data, (void)length;
    requests += event == ON_HTTP;
    drains += event == ON_DRAIN;
    dropped += event == ON_DROPPED;
    if (event == ON_HTTP && h.answers)
        ws_request_respond(request, 200, NULL, payload, 1000);
    if (event != ON_MESSAGE)
        return;
    messages++;
    if (pause_every && messages % pause_every == 0)
        ws_conn_pause(conn);
    if (messages == end_at)
        ws_conn_end(conn, 1001, NULL, 0);
}

static void prepare(void)
{
    harness_init(&h);
    h.tells_closed = true;
    h.echo = true;
    h.hook = on_event;
    h.behavior.max_payload_length = sizeof payload;
    messages = requests = drains = dropped = pause_every = end_at = 0;
}

static void begin(void)
{
    harness_start(&h);
    kernel_reset(h.port);
    client_open(&c, &h);
    harness_events(&h);
}

/* `count` messages and, unless code is 0, a Close. */
static void say_all(int count, int code)
{
    size_t capacity = (size_t)count * 24 + 64, n = 0;
    char *bytes = malloc(capacity);
    if (!bytes)
        abort();
    for (int i = 0; i < count; i++) {
        char text[16];
        n += make_frame(bytes + n, 0x81, text, (size_t)snprintf(text, sizeof text, "%d", i));
    }
    if (code)
        n += make_close(bytes + n, code, "bye");
    is_int((long long)client_write(&c, bytes, n), (long long)n, "the kernel has all of it");
    free(bytes);
}

static char ending[400];

/* The events of some turns, from on_close on; what is paused continues. */
static const char *run(int count)
{
    ending[0] = '\0';
    for (; count; count--) {
        ws_conn *conn = conn_at(&h, 0);
        if (conn)
            ws_conn_resume(conn);
        turns(&h, 1);
        const char *events = harness_events(&h), *end = strstr(events, "close");
        if (end)
            snprintf(ending + strlen(ending), sizeof ending - strlen(ending), "%s%s",
                     ending[0] ? "; " : "", end);
    }
    return ending;
}

static bool busy(void)
{
    struct pollfd fd = {ws_server_fd(h.server), POLLIN, 0};
    turns(&h, 3);
    return poll(&fd, 1, 5) > 0;
}

static void stop(const char *name)
{
    turns(&h, 3);
    harness_stop(&h, name);
}

/* ---- messages and a Close in one go, and then a reset with unread answers ---- */

static const char all_and_close[] = "close 1000 bye; closed 1000 bye by peer";

static void test_reset(int pause, bool full)
{
    prepare();
    pause_every = pause;
    begin();
    kernel_of(conn_at(&h, 0))->limited = full;
    say_all(MESSAGES, 1000);
    if (pause)
        turns(&h, 2);
    client_reset(&c);
    if (pause)
        ok(!busy(), "paused: no busy loop");
    is_text(run(pause ? MESSAGES / pause + 20 : 20), all_and_close, "T36: the Close's code");
    is_int(messages, MESSAGES, "T36: every message is handled");
    stop("reset");
}

/* A write fails first, in the middle of a turn, and the peer is there. */
static void test_write_error(int error, int pause)
{
    prepare();
    pause_every = pause;
    begin();
    say_all(MESSAGES, 1000);
    kernel_of(conn_at(&h, 0))->error = error;
    is_text(run(pause ? MESSAGES / pause + 20 : 20), all_and_close, "T82: the Close's code");
    is_int(messages, MESSAGES, "T82: a write fails: what is here already is handled");
    client_read(&c);
    ok(c.eof || c.reset, "and the peer is cut off");
    client_close(&c);
    stop("a failed write");
}

static void test_no_close_frame(void)
{
    prepare();
    begin();
    say_all(MESSAGES, 0);
    client_reset(&c);
    is_text(run(20), "close 1006 connection reset by peer; closed unclean by peer",
            "T36: without a Close: 1006, after the messages");
    is_int(messages, MESSAGES, "all of them");
    stop("no Close");

    prepare();
    pause_every = 700;
    begin();
    say_all(MESSAGES, 0);
    client_finish(&c);
    is_text(run(40), "close 1006 connection closed without a Close frame; closed unclean by peer",
            "T36: FIN: the same");
    is_int(messages, MESSAGES, "all of them");
    client_close(&c);
    stop("FIN");
}

/* ---- bounds ---- */

/* Paused with messages left, and reset. */
static ws_conn *pause_and_reset(uint32_t idle_timeout, uint32_t max_lifetime)
{
    prepare();
    pause_every = 10;
    h.behavior.idle_timeout = idle_timeout;
    h.behavior.max_lifetime = max_lifetime;
    begin();
    say_all(100, 1000);
    turns(&h, 2);
    client_reset(&c);
    turns(&h, 3);
    harness_events(&h);
    is_int(messages, 10, "paused");
    return conn_at(&h, 0);
}

static void test_bounds(void)
{
    ws_conn *conn = pause_and_reset(10000, 0);
    advance(&h, 9000);
    ok(conn_at(&h, 0) == conn, "a paused one waits for idle_timeout");
    ws_conn_resume(conn);
    turns(&h, 2);
    is_int(messages, 20, "resumed: it continues");
    harness_events(&h);
    advance(&h, 9000);
    ok(conn_at(&h, 0) == conn, "and waits for as long again");
    advance(&h, 4000);
    is_events(&h, "close 1006 connection reset by peer; closed unclean by peer",
              "T54: idle_timeout ends it, though it is paused");
    stop("idle");

    pause_and_reset(0, 20000);
    advance(&h, 19000);
    is_events(&h, "", "without idle_timeout it waits");
    advance(&h, 2000);
    is_events(&h, "close 1000 please reconnect; closed 1000 bye",
              "max_lifetime ends it: the Close that had come is found");
    stop("lifetime");

    pause_and_reset(0, 0);
    ws_server_shutdown(h.server, 1001, NULL, 0, 5000);
    turns(&h, 3);
    is_events(&h, "close 1001; closed 1000 bye", "T87: so does a shutdown");
    stop("shutdown");

    conn = pause_and_reset(0, 0);
    ws_conn_close(conn);
    is_events(&h, "close 1006 closed by the server; closed unclean", "and ws_conn_close");
    stop("close");

    pause_and_reset(0, 0);
    ok(!busy(), "it costs no turn of the loop");
    ok(stats_of(&h).memory < 1 << 20, "and what was queued for it is gone");
    stop("free");
}

/* ---- sends to a peer that is gone ---- */

static size_t tried;

static void loop_until_refused(struct harness *harness, enum event event, ws_conn *conn,
                               ws_request *request, const char *data, size_t length)
{
    on_event(harness, event, conn, request, data, length);
    for (size_t i = 0; event == ON_MESSAGE && ws_conn_buffered_amount(conn) < 100000; i++) {
        tried = i;
        ws_conn_send(conn, payload, 1000, WS_BINARY);
    }
}

static void test_sends(void)
{
    ws_conn *conn = pause_and_reset(0, 0);
    size_t held = h.memory.bytes;
    for (int i = 0; i < 1000; i++)
        is_int(ws_conn_send(conn, payload, 60000, WS_BINARY), WS_DROPPED, "DROPPED");
    is_int(ws_conn_send(conn, "x", 1, WS_PING), WS_DROPPED, "Pings, too");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false), WS_DROPPED, "and fragments");
    ok(h.memory.bytes <= held && !dropped, "nothing is kept for a peer that is gone");
    ok(ws_conn_buffered_amount(conn) >= 60000000, "S28: it is counted as refused");
    is_text(run(40), all_and_close, "and the messages continue");
    is_int(messages, 100, "all of them");
    stop("sends");

    prepare();
    h.hook = loop_until_refused;
    begin();
    say_all(100, 1000);
    client_reset(&c);
    is_text(run(20), all_and_close, "S28: the loop of the manual ends where the peer is gone");
    is_int(messages, 100, "in each handler");
    ok(tried > 0, "it was under way");
    stop("the loop");
}

/* Who waits for on_drain is not left waiting. */
static void test_drain(void)
{
    prepare();
    h.echo = false;
    pause_every = 10;
    begin();
    say_all(100, 1000);
    turns(&h, 2);
    ws_conn *conn = conn_at(&h, 0);
    kernel_of(conn)->limited = true;
    is_int(ws_conn_send(conn, payload, 1000, WS_BINARY), h.tls ? WS_SUCCESS : WS_BACKPRESSURE,
           "the kernel is full");
    turns(&h, 2);
    client_reset(&c);
    turns(&h, 3);
    is_int(drains, 1, "S31: on_drain, as nothing is queued any more");
    ws_conn_send(conn, payload, 1000, WS_BINARY);
    turns(&h, 3);
    is_int(drains, 1, "S31: once");
    is_text(run(40), all_and_close, "and then all else");
    is_int(drains, 1, "S31: once");
    stop("drain");
}

/* ---- other states ---- */

static void test_closing(void)
{
    prepare();
    end_at = 50;
    begin();
    say_all(MESSAGES, 1000);
    client_reset(&c);
    is_text(run(20), "close 1001; closed 1000 bye", "T36: ended here: the peer's Close is found");
    is_int(messages, 50, "S26: no message after the end");
    stop("closing");
}

static void test_http(void)
{
    enum { REQUESTS = 300 };
    static const char get[] = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    static char gets[REQUESTS * sizeof get];
    for (int i = 0; i < REQUESTS; i++)
        strcat(gets, get);
    prepare();
    h.answers = true;
    harness_create(&h);
    harness_http(&h, "GET", "/x");
    harness_route(&h, "/");
    harness_listen(&h);
    kernel_reset(h.port);
    for (int limited = 0; limited < 2; limited++) {
        requests = 0;
        client_connect(&c, &h);
        turns(&h, 2);
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd].limited = limited;
        client_say(&c, gets);
        if (limited) /* the first answer fills the kernel */
            turns(&h, 3);
        client_reset(&c);
        turns(&h, 20);
        is_int(requests, REQUESTS, "H23: pipelined requests and a reset: all are handled");
        is_int(stats_of(&h).connections, 0, "and it is over");
    }
    stop("requests");

    prepare();
    harness_start(&h);
    kernel_reset(h.port);
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    say_all(MESSAGES, 1000);
    client_reset(&c);
    is_text(run(20), all_and_close, "H15: a handshake, messages, a Close and a reset");
    is_int(messages, MESSAGES, "all of them");
    stop("a handshake");
}

static void cases(void)
{
    for (int full = 0; full < 2; full++) {
        CASE(test_reset(0, full));
        CASE(test_reset(700, full));
        CASE(test_reset(50, full));
    }
    CASE(test_write_error(EPIPE, 0));
    CASE(test_write_error(ECONNRESET, 300));
    CASE(test_no_close_frame());
    CASE(test_bounds());
    CASE(test_sends());
    CASE(test_drain());
    CASE(test_closing());
    CASE(test_http());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
