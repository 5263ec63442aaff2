/* SPDX-License-Identifier: MIT */
/*
 * test_answer.c: responses in parts: chunks and lengths, slow clients, clients that leave, uploads
 * that are sent back, the end of the server.
 */
#include "one_request.h"

#define GET "GET /part HTTP/1.1\r\nHost: t\r\n\r\n"

static struct {
    ws_request *request; /* until it is answered */
    int aborted, writable;
    void (*begin)(ws_request *request);
    void (*on_writable)(void);
    size_t at; /* bytes of big that were written */
} part;

static void on_aborted(ws_request *request, void *user)
{
    ok(request == part.request && user == &part, "on_aborted gets what was given");
    is_int(ws_request_write(request, "x", 1), WS_ECLOSED, "too late to write");
    is_int(ws_request_finish(request), WS_ECLOSED, "too late to finish");
    part.request = NULL;
    part.aborted++;
}

static void writable(ws_request *request, void *user)
{
    ok(request == part.request && user == &part, "on_writable gets what was given");
    part.writable++;
    if (part.on_writable)
        part.on_writable();
}

static void handler(ws_request *request, void *user)
{
    (void)user;
    part.request = request;
    ws_request_defer(request, on_aborted, &part);
    part.begin(request);
}

static void finish(void)
{
    ws_request *request = part.request;
    part.request = NULL;
    is_int(ws_request_finish(request), WS_OK, "finished");
}

static void start(void (*begin)(ws_request *request))
{
    memset(&part, 0, sizeof part);
    part.begin = begin;
    serve("*", "/part", handler);
    count_reports();
}

static void unknown(ws_request *request)
{
    is_int(ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH), WS_OK, "begun");
    is_int(ws_request_respond(request, 200, NULL, "", 0), WS_ECLOSED, "it is answered");
    is_int(ws_request_begin(request, 200, NULL, 1), WS_ECLOSED, "begun once");
    is_int(ws_request_add_header(request, "A", 1, "b", 1), WS_ECLOSED, "the head is sent");
    is_int(ws_request_defer(request, NULL, NULL), WS_ECLOSED, "too late to defer");
    is_int(ws_request_upgrade(request, NULL, 0, NULL), WS_ECLOSED, "too late to upgrade");
    ws_request_on_writable(request, writable, &part);
}

static void known(ws_request *request)
{
    is_int(ws_request_begin(request, 200, NULL, 10), WS_OK, "begun");
}

static void at_once(ws_request *request)
{
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    ws_request_write(request, "hello", 5);
    finish();
}

static void test_chunks(void)
{
    start(unknown);
    client_say(&c, GET NEXT);
    is_body("", "W2: the head leaves at once");
    ok(head_has(&c, "Transfer-Encoding: chunked\r\n") && !head_has(&c, "Content-Length"),
       "W2: chunks");
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
    is_int(ws_request_write(part.request, "", 0), WS_SUCCESS, "an empty part is no end");
    client_read(&c);
    is_mem(c.in, c.in_length, "5\r\nhello\r\n", 10, "W2: a part leaves at once");
    c.in_length = 0;
    size_t n;
    const char *path = ws_request_path(part.request, &n);
    is_mem(path, n, "/part", 5, "the request stays valid");
    advance(&h, 100000);
    is_int(part.aborted, 0, "W2: an application that is slow has time");
    finish();
    client_read(&c);
    is_mem(c.in, c.in_length, "0\r\n\r\n", 5, "the end");
    c.in_length = 0;
    is_int(reports, 1, "on_response");
    is_int((int)reported, 5, "W2: the bytes of the body");
    is_responses(&c, "200 /page", "H23: the connection goes on with the request that waited");
    part.begin = at_once;
    client_say(&c, GET);
    is_body("5\r\nhello\r\n0\r\n\r\n", "W2: all of it in the handler");
    client_say(&c, GET NEXT);
    turns(&h, 2);
    client_drain(&c);
    ok(memmem(c.in, c.in_length, "0\r\n\r\nHTTP/1.1 200 OK\r\n", 22), "H23: pipelined");
    stop("chunks");
}

static void test_lengths(void)
{
    start(known);
    client_say(&c, GET);
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
    is_int(ws_request_write(part.request, "worlds", 6), WS_EINVAL, "W2: more than was announced");
    is_int(ws_request_write(part.request, "world", 5), WS_SUCCESS, "written");
    finish();
    is_body("helloworld", "W2: a known length");
    ok(head_has(&c, "Content-Length: 10\r\n"), "W2: it is announced");
    client_say(&c, GET);
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
    ws_request *request = part.request;
    part.request = NULL;
    is_int(ws_request_finish(request), WS_EINVAL, "W2: less than was announced");
    size_t n;
    raw(&n);
    ok(n == 5 && c.eof, "W2: the connection is dropped");
    ok(log_has(&h, "ended before its Content-Length"), "and that is logged");
    is_int(part.aborted, 0, "without on_aborted");
    stop("lengths");
}

static void test_no_content(void)
{
    start(unknown);
    client_say(&c, "HEAD /part HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "H24: taken");
    finish();
    is_body("", "H24: nothing is sent to HEAD");
    ok(head_has(&c, "Transfer-Encoding: chunked\r\n"), "H24: but the fields");
    client_say(&c, NEXT);
    is_responses(&c, "200 /page", "H24: the connection is kept");
    client_say(&c, "GET /part HTTP/1.0\r\n\r\n");
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
    finish();
    is_body("hello", "W2: HTTP/1.0 knows no chunks");
    ok(c.eof && head_has(&c, "Connection: close\r\n"), "the end of the connection is the end");
    stop("no content");
}

static void no_content(ws_request *request)
{
    ws_request_begin(request, 204, NULL, WS_UNKNOWN_LENGTH);
    ws_request_write(request, "x", 1);
    finish();
}

static void test_204(void)
{
    start(no_content);
    client_say(&c, GET NEXT);
    client_drain(&c);
    ok(c.in && !memmem(c.in, c.in_length, "chunked", 7), "H24: no field for a 204");
    is_responses(&c, "204, 200 /page", "H24: 204");
    stop("204");
}

/* Writes until the kernel is full. */
static void fill(void)
{
    int result = WS_SUCCESS;
    while (result == WS_SUCCESS && part.at < BIG) {
        size_t n = BIG - part.at < 100000 ? BIG - part.at : 100000;
        result = ws_request_write(part.request, big + part.at, n);
        part.at += result == WS_DROPPED ? 0 : n;
    }
    if (part.at == BIG)
        finish();
}

static void begin_big(ws_request *request)
{
    ws_request_begin(request, 200, NULL, BIG);
    ws_request_on_writable(request, writable, &part);
    part.on_writable = fill;
    fill();
}

static void test_slow_client(void)
{
    size_t n;
    start(begin_big);
    ask_slowly(GET);
    ok(part.at < BIG / 2, "W2: the client is slow: %zu", part.at);
    size_t before = part.at;
    is_int(part.writable, 0, "nothing is writable");
    is_int(ws_request_write(part.request, big + part.at, 2000000), WS_DROPPED,
           "W2: above max_response_backpressure nothing is taken");
    is_int(ws_request_write(part.request, big + part.at, 1000), WS_BACKPRESSURE, "below it is");
    part.at += 1000;
    ok(stats_of(&h).memory < 700000, "W2: little is kept: %zu", stats_of(&h).memory);
    const char *body = raw(&n);
    ok(n == BIG && !memcmp(body, big, BIG), "W2: all arrives, in order: %zu", n);
    ok(part.writable > 0 && before, "on_writable ran");
    is_int(part.aborted, 0, "no on_aborted");
    stop("a slow client");
}

static void test_stuck_client(void)
{
    start(begin_big);
    ask_slowly(GET);
    advance(&h, 29999);
    is_int(part.aborted, 0, "T14: before upgrade_timeout");
    advance(&h, 1);
    is_int(part.aborted, 1, "T14, W2: a client that takes nothing: on_aborted");
    is_int(reports, 1, "on_response");
    stop("a reader that never reads");
}

static void test_client_leaves(void)
{
    for (int how = 0; how < 3; how++) {
        start(unknown);
        client_say(&c, GET);
        turns(&h, 2);
        is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
        if (how == 0)
            client_close(&c);
        else if (how == 1)
            client_reset(&c);
        else
            client_finish(&c);
        turns(&h, 3);
        is_int(part.aborted, 1, "W2: the client leaves: on_aborted");
        is_int(reports, 1, "on_response");
        is_int((int)reported, 5, "with what was written");
        stop("a client that leaves");
    }
    start(begin_big);
    ask_slowly(GET);
    client_reset(&c);
    turns(&h, 3);
    is_int(part.aborted, 1, "W2: in the middle: on_aborted");
    stop("a client that leaves in the middle");

    start(unknown);
    client_say(&c, GET);
    turns(&h, 2);
    harness_stop(&h, "freed in a response");
    is_int(part.aborted, 1, "ws_server_free: on_aborted");
    client_close(&c);

    start(unknown);
    client_say(&c, GET);
    turns(&h, 2);
    ws_request *request = part.request;
    part.request = NULL;
    is_int(ws_request_abort(request), WS_OK, "aborted");
    is_int(part.aborted, 0, "no on_aborted for our own abort");
    is_int(reports, 1, "on_response");
    stop("an abort");
}

static void break_off(ws_request *request)
{
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    ws_request_write(request, "hello", 5);
    ws_request_abort(request);
}

static void test_abort_at_once(void)
{
    static const char end[] = "\r\n\r\n5\r\nhello\r\n";
    start(break_off);
    client_say(&c, NEXT GET);
    client_drain(&c);
    ok(c.in && memmem(c.in, c.in_length, "/page", 5), "W2: the answer before it is sent");
    ok(c.in_length > sizeof end &&
           !memcmp(c.in + c.in_length - (sizeof end - 1), end, sizeof end - 1),
       "W2: an abort in the same turn: what was written is sent, and breaks off");
    ok(c.eof, "and the connection ends");
    stop("an abort at once");
}

static void test_shutdown(void)
{
    start(unknown);
    client_say(&c, GET);
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "written");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_int(part.aborted, 1, "a shutdown: on_aborted");
    is_body("5\r\nhello\r\n", "the client sees that it is not complete");
    ok(c.eof, "the connection ends");
    stop("a shutdown");

    start(unknown);
    client_say(&c, GET);
    turns(&h, 2);
    ws_server_drain(h.server);
    turns(&h, 2);
    is_int(ws_request_write(part.request, "hello", 5), WS_SUCCESS, "a drain waits");
    finish();
    is_body("5\r\nhello\r\n0\r\n\r\n", "for the end");
    ok(c.eof, "the connection ends");
    stop("a drain");
}

static void shut_down(void)
{
    part.on_writable = NULL;
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
}

static void test_shutdown_when_writable(void)
{
    start(begin_big);
    ask_slowly(GET);
    part.on_writable = shut_down;
    client_drain(&c);
    is_int(part.aborted, 1, "a shutdown in on_writable: on_aborted");
    stop("a shutdown in on_writable");
}

/* ---- an upload that is sent back ---- */

static void echo(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    (void)user;
    if (ws_request_write(request, data, length) == WS_BACKPRESSURE)
        ws_request_pause_body(request);
    if (last)
        finish();
}

static void go_on(void)
{
    ws_request_resume_body(part.request);
}

static void begin_echo(ws_request *request)
{
    ws_request_read_body(request, BIG, echo, NULL);
    ws_request_begin(request, 200, NULL, BIG);
    ws_request_on_writable(request, writable, &part);
    part.on_writable = go_on;
}

static void test_echo(void)
{
    size_t n, sent = 0;
    char head[100];
    start(begin_echo);
    h.quiet = true;
    snprintf(head, sizeof head,
             "POST /part HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n", BIG);
    client_say(&c, head);
    for (int i = 0; i < 200 && sent < BIG; i++) { /* a client that does not read yet */
        sent += client_write(&c, big + sent, BIG - sent);
        turns(&h, 1);
    }
    ok(stats_of(&h).memory < 1200000, "W2: little is kept: %zu", stats_of(&h).memory);
    for (int i = 0; i < 20000 && sent < BIG; i++) {
        sent += client_write(&c, big + sent, BIG - sent);
        turns(&h, 1);
        client_read(&c);
    }
    turns(&h, 200);
    const char *body = raw(&n);
    ok(n == BIG && !memcmp(body, big, BIG), "W1, W2: an upload is sent back: %zu", n);
    c.in_length = 0;
    client_say(&c, NEXT);
    is_responses(&c, "200 /page", "W1: and the connection is kept");
    is_int(part.aborted, 0, "no on_aborted");
    stop("echo");
}

static void begin_bad(ws_request *request)
{
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    ws_request_read_body(request, BIG, echo, NULL);
}

static void test_malformed_body(void)
{
    start(begin_bad);
    client_say(&c, "POST /part HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "5\r\nhello\r\nx");
    is_body("5\r\nhello\r\n", "W1: malformed in the middle: the answer ends early");
    ok(c.eof, "with the connection");
    is_int(part.aborted, 1, "on_aborted");
    stop("a malformed body");
}

static void begin_failing(ws_request *request)
{
    ws_request *kept = part.request;
    part.request = NULL;
    if (ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH) == WS_OK)
        part.request = kept;
}

/* Every allocation of a scenario fails once. */
static void test_failing_allocations(void)
{
    bool more = true;
    for (size_t n = 1; more && n < 300; n++) {
        start(begin_failing);
        h.quiet = true;
        client_close(&c);
        client_connect_small(&c, &h);
        h.memory.fail_at = h.memory.calls + n;
        client_say(&c, GET);
        turns(&h, 2);
        for (int i = 0; part.request && i < 5; i++)
            ws_request_write(part.request, big, 5000u + 20000u * (unsigned)i);
        if (part.request) {
            ws_request *request = part.request;
            part.request = NULL;
            ws_request_finish(request);
        }
        client_drain(&c);
        client_read(&c);
        turns(&h, 5);
        client_drain(&c);
        more = stop_failing(n);
    }
    ok(!more, "T68: each allocation of an answer has failed once");
}

static void cases(void)
{
    CASE(test_chunks());
    CASE(test_lengths());
    CASE(test_no_content());
    CASE(test_abort_at_once());
    CASE(test_204());
    CASE(test_slow_client());
    CASE(test_stuck_client());
    CASE(test_client_leaves());
    CASE(test_shutdown());
    CASE(test_shutdown_when_writable());
    CASE(test_echo());
    CASE(test_malformed_body());
    CASE(test_failing_allocations());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
