/* SPDX-License-Identifier: MIT */
/*
 * test_fallback.c: ws_server_set_fallback: responses of the application to requests that no route
 * takes.
 */
#include "harness.h"

#include <string.h>

#define HOST "Host: t\r\n\r\n"
#define UPGRADE \
    "Host: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static struct harness h;
static struct client last;

enum what { RESPOND, NOTHING, DEFER, ABORT, SHUT_DOWN };

static struct {
    enum what what;
    int calls, status;
    bool bare; /* no pattern, no parameter */
    ws_request *deferred;
} fallback;

static void on_fallback(ws_request *request, int status, void *user)
{
    static const char page[] = "our page";
    size_t length;
    fallback.calls++;
    fallback.status = status;
    fallback.bare = user == &fallback && ws_request_pattern(request)[0] == '\0' &&
                    !ws_request_parameter(request, 0, &length);
    if (fallback.what == SHUT_DOWN)
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    if (fallback.what == DEFER)
        ws_request_defer(request, NULL, NULL);
    if (fallback.what == DEFER)
        fallback.deferred = request;
    else if (fallback.what == ABORT)
        ws_request_abort(request);
    else if (fallback.what != NOTHING)
        ws_request_respond(request, status, NULL, page, sizeof page - 1);
}

static void start(enum what what)
{
    memset(&fallback, 0, sizeof fallback);
    fallback.what = what;
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/ws");
    harness_http(&h, "GET", "/page/:name");
    harness_listen(&h);
    ws_server_set_fallback(h.server, on_fallback, &fallback);
}

static void expect(const char *request, const char *want, const char *name)
{
    client_connect(&last, &h);
    client_say(&last, request);
    is_responses(&last, want, name);
    client_close(&last);
    turns(&h, 2);
}

static void test_statuses(void)
{
    start(RESPOND);
    expect("GET /none HTTP/1.1\r\n" HOST "GET /page/1 HTTP/1.1\r\n" HOST,
           "404, 200 /page/1", "W4, H21: 404 in our words, the connection is kept");
    ok(head_has(&last, "Content-Length: 7\r\n"), "W4: a route answers itself");
    ok(fallback.status == 404 && fallback.bare, "W4: with its status, no pattern, no parameter");
    expect("DELETE /page/1 HTTP/1.1\r\n" HOST "GET /page/1 HTTP/1.1\r\n" HOST,
           "405, 200 /page/1", "W4: 405 in our words");
    ok(fallback.status == 405 && fallback.bare, "W4: and its status");
    expect("DELETE /page/1 HTTP/1.1\r\n" HOST, "405", "W4: 405 again");
    ok(head_has(&last, "Allow: GET, HEAD"), "W4: a 405 has Allow");
    ok(head_has(&last, "Content-Length: 8\r\n"), "W4: and the body is ours");
    expect("PUT /ws HTTP/1.1\r\n" HOST, "405", "W4: of a ws route, too");
    expect("HEAD /none HTTP/1.1\r\n" HOST, "404", "W4, H24: HEAD gets no body");
    expect("GET /none HTTP/1.1\r\n" UPGRADE, "404", "W4: an upgrade request, no such path");
    expect("POST /none HTTP/1.1\r\nContent-Length: 1\r\nHost: t\r\n\r\n-GET / HTTP/1.1\r\n" HOST,
           "404, 404", "W4: its body is discarded");
    const int calls = fallback.calls;
    expect("GET /ws HTTP/1.1\r\n" HOST, "426, EOF", "W4, H8: 426 stays the library's");
    expect("PUT /ws HTTP/1.1\r\n" UPGRADE, "405, EOF", "W4, H1: so does what a handshake gets");
    expect("nonsense\r\n\r\n", "400, EOF", "W4: and an error of syntax");
    ok(fallback.calls == calls, "W4: the fallback was not asked");
    ws_server_set_fallback(h.server, NULL, NULL);
    expect("GET /none HTTP/1.1\r\n" HOST, "404", "W4: without it, the library answers again");
    harness_stop(&h, "statuses");
}

static void test_what_it_may_do(void)
{
    start(NOTHING);
    expect("DELETE /page/1 HTTP/1.1\r\n" HOST, "500, EOF", "W4: a fallback without an answer: 500");
    ok(!head_has(&last, "Allow:"), "W4: which has no Allow");
    harness_stop(&h, "nothing");
    start(ABORT);
    expect("GET /none HTTP/1.1\r\n" HOST, "EOF", "W4: it may drop the connection");
    harness_stop(&h, "abort");
    start(SHUT_DOWN);
    expect("GET /none HTTP/1.1\r\n" HOST, "404, EOF", "W4: it may shut the server down");
    harness_stop(&h, "shutdown");
    start(DEFER);
    client_connect(&last, &h);
    client_say(&last, "DELETE /page/1 HTTP/1.1\r\n" HOST);
    turns(&h, 3);
    if (ok(fallback.deferred != NULL, "W4: it may defer"))
        ws_request_respond(fallback.deferred, 405, NULL, "later", 5);
    is_responses(&last, "405", "W4: and answer later");
    ok(head_has(&last, "Allow: GET, HEAD"), "W4: with Allow");
    client_close(&last);
    harness_stop(&h, "defer");
}

static void cases(void)
{
    CASE(test_statuses());
    CASE(test_what_it_may_do());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
