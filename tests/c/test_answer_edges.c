/* SPDX-License-Identifier: MIT */
/*
 * test_answer_edges.c: bodies and responses that meet: uploads while a response is sent, log
 * functions that act on requests, peers that are lost before their last request is handled.
 */
#include "one_request.h"
#include "sendfile.h"

#include <fcntl.h>
#include <unistd.h>

#define POST "POST /up HTTP/1.1\r\nHost: t\r\n"
#define GET "GET /up HTTP/1.1\r\nHost: t\r\n\r\n"

static ws_request *request; /* until it is answered */
static int aborted, pieces, file;

static void on_aborted(ws_request *r, void *user)
{
    (void)user;
    ok(r == request, "on_aborted of the open request");
    request = NULL;
    aborted++;
}

static void start(void (*handler)(ws_request *r, void *user))
{
    request = NULL;
    aborted = pieces = 0;
    file = -1;
    serve("*", "/up", handler);
}

static void ignore_body(ws_request *r, const char *data, size_t length, bool last, void *user)
{
    (void)r, (void)data, (void)length, (void)last, (void)user;
    pieces++;
}

static void begin_then_read(ws_request *r, void *user)
{
    (void)user;
    request = r;
    ws_request_defer(r, on_aborted, NULL);
    ws_request_begin(r, 200, NULL, 5);
    ws_request_read_body(r, 1000, ignore_body, NULL);
}

/* RFC 9110 15.2: a 1xx comes before the final response. */
static void test_no_continue_in_a_response(void)
{
    start(begin_then_read);
    client_say(&c, POST "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    turns(&h, 2);
    ws_request_write(request, "hello", 5);
    ws_request_finish(request);
    is_responses(&c, "200 hello, EOF", "H25: no 100 in the middle of a response");
    stop("100-continue after the head");
}

static void begin_big(ws_request *r, void *user)
{
    (void)user;
    request = r;
    ws_request_defer(r, on_aborted, NULL);
    ws_request_read_body(r, BIG, ignore_body, NULL);
    ws_request_begin(r, 200, NULL, BIG);
    ws_request_write(r, big, BIG);
}

static void trickle(int seconds)
{
    for (int i = 0; i < seconds && !aborted; i++) {
        advance(&h, 1000);
        client_say(&c, "x");
        turns(&h, 2);
    }
}

static void test_trickle_while_blocked(void)
{
    start(begin_big);
    ask_slowly(POST "Content-Length: 1000\r\n\r\n");
    trickle(40);
    is_int(aborted, 1, "T14: a trickle ends although the response is blocked, too");
    ok(pieces < 31, "T14: after body_timeout: %d", pieces);
    stop("a trickle in both directions");
}

static void pause_often(ws_request *r, const char *data, size_t length, bool last, void *user)
{
    (void)data, (void)length, (void)last, (void)user;
    pieces++;
    ws_request_pause_body(r);
    ws_request_resume_body(r);
}

static void read_with_pauses(ws_request *r, void *user)
{
    (void)user;
    request = r;
    ws_request_defer(r, on_aborted, NULL);
    ws_request_read_body(r, BIG, pause_often, NULL);
}

static void test_trickle_with_pauses(void)
{
    start(read_with_pauses);
    client_say(&c, POST "Content-Length: 100000\r\n\r\n");
    turns(&h, 2);
    trickle(100);
    is_int(aborted, 1, "T14: pauses of the application do not renew body_timeout");
    ok(pieces < 32, "T14: after body_timeout: %d", pieces);
    is_responses(&c, "408, EOF", "T14: 408");
    stop("a trickle with pauses");

    start(read_with_pauses);
    client_say(&c, POST "Content-Length: 1000000\r\n\r\n");
    for (int i = 0; i < 50; i++) {
        client_write(&c, big, 16 * 1024);
        turns(&h, 2);
        advance(&h, 29000);
    }
    is_int(aborted, 0, "W1: 16 KiB in each body_timeout are enough");
    ws_request_pause_body(request);
    advance(&h, 1000000);
    is_int(aborted, 0, "W1: a pause does not count");
    ws_request_resume_body(request);
    client_say(&c, "x");
    turns(&h, 2);
    is_int(aborted, 0, "W1: nor afterwards");
    stop("progress with pauses");
}

static void answer_early(ws_request *r, const char *data, size_t length, bool last, void *user)
{
    (void)data, (void)length, (void)last, (void)user;
    pieces++;
    ws_request_respond_static(r, 200, NULL, big, BIG);
}

static void read_then_static(ws_request *r, void *user)
{
    (void)user;
    ws_request_read_body(r, BIG, answer_early, NULL);
}

/* What is left of the body is not read before the response is sent: FIN does not cut it short. */
static void test_source_before_the_end_of_the_body(void)
{
    start(read_then_static);
    client_close(&c);
    client_connect_small(&c, &h);
    client_say(&c, POST "Content-Length: 1000\r\n\r\nx");
    turns(&h, 3);
    is_int(pieces, 1, "answered in the middle of the body");
    client_say(&c, "x");
    client_finish(&c);
    turns(&h, 3);
    client_drain(&c);
    ok(c.received > BIG && c.eof, "W2: the response is complete: %zu", c.received);
    is_int(pieces, 1, "nothing is handed out after the answer");
    stop("an early response from a source");
}

static void file_unread(ws_request *r, void *user)
{
    (void)user;
    file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ws_request_respond_file(r, 200, NULL, file, 0, 100);
}

static void test_closed_when_sent(void)
{
    start(file_unread);
    client_say(&c, POST "Content-Length: 1000\r\n\r\nx");
    turns(&h, 3);
    ok(file >= 0 && fcntl(file, F_GETFD) < 0, "W3: a file is closed once it is sent");
    ws_server_shutdown(h.server, 1001, NULL, 0, 60000);
    client_drain(&c);
    ok(c.eof, "a shutdown does not wait for the rest of the body");
    stop("a file, and a body that is discarded");
}

static void abort_it(void *user, int level, const char *line, size_t length)
{
    (void)user, (void)level, (void)line, (void)length;
    pieces++;
    is_int(ws_request_abort(request), WS_ECLOSED, "the log function comes too late");
}

static void begin_ten(ws_request *r, void *user)
{
    (void)user;
    request = r;
    ws_request_defer(r, on_aborted, NULL);
    ws_request_begin(r, 200, NULL, 10);
}

static void test_log_function_acts(void)
{
    start(begin_ten);
    harness_stop(&h, "to begin anew");
    client_close(&c);
    harness_init(&h);
    h.config.log = abort_it;
    harness_create(&h);
    ws_server_http(h.server, "*", "/up", begin_ten, NULL);
    harness_listen(&h);
    client_connect(&c, &h);
    client_say(&c, GET);
    turns(&h, 2);
    is_int(ws_request_finish(request), WS_EINVAL, "too short");
    is_int(pieces, 1, "which is logged");
    stop("a log function that acts");
}

static void test_head(void)
{
    start(begin_ten);
    client_say(&c, "HEAD /up HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 2);
    is_int(ws_request_finish(request), WS_OK, "H24: nothing has to be written for HEAD");
    client_read(&c);
    ok(memmem(c.in, c.in_length, "Content-Length: 10\r\n", 20), "H24: the fields are sent");
    c.in_length = 0;
    client_say(&c, NEXT);
    is_responses(&c, "200 /page", "H24: the connection goes on");
    stop("HEAD");
}

static void begin_without_memory(ws_request *r, void *user)
{
    (void)user;
    h.memory.fail_at = h.memory.calls + 1;
    is_int(ws_request_begin(r, 200, NULL, 10), WS_ENOMEM, "no memory");
    h.memory.fail_at = 0;
    is_int(ws_request_finish(r), WS_ECLOSED, "it is over");
}

static void test_begin_without_memory(void)
{
    start(begin_without_memory);
    client_say(&c, GET);
    is_responses(&c, "EOF", "WS_ENOMEM: the connection was dropped");
    stop("no memory");
}

static void big_then_static(ws_request *r, void *user)
{
    (void)user;
    if (pieces++)
        ws_request_respond_static(r, 200, NULL, big, BIG);
    else
        ws_request_respond(r, 200, NULL, big, BIG);
}

/* Its second request waits until the first one is answered, and is handled after the loss. */
static void test_source_for_a_lost_peer(void)
{
    start(big_then_static);
    client_close(&c);
    client_connect_small(&c, &h);
    client_say(&c, GET GET);
    turns(&h, 3);
    is_int(pieces, 1, "the first response is blocked");
    client_reset(&c);
    turns(&h, 10);
    is_int(pieces, 2, "what a lost peer had sent is handled");
    stop("a source for a peer that is lost");

    start(big_then_static);
    client_close(&c);
    client_connect_small(&c, &h);
    client_say(&c, GET GET);
    for (int i = 0; i < 5000; i++)
        client_say(&c, NEXT);
    turns(&h, 3);
    client_reset(&c);
    turns(&h, 10);
    is_int(pieces, 2, "what a lost peer had sent is handled");
    stop("a source for a lost peer that had sent much more");
}

static void cases(void)
{
    CASE(test_no_continue_in_a_response());
    CASE(test_trickle_while_blocked());
    CASE(test_trickle_with_pauses());
    CASE(test_source_before_the_end_of_the_body());
    if (WS__SENDFILE_AVAILABLE)
        CASE(test_closed_when_sent());
    CASE(test_log_function_acts());
    CASE(test_head());
    CASE(test_begin_without_memory());
    CASE(test_source_for_a_lost_peer());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
