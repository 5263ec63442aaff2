/* SPDX-License-Identifier: MIT */
/*
 * test_no_http.c: a server without handlers of other requests than opening handshakes, without
 * bodies, and without responses in parts (-DWS_NO_HTTP). E2.
 */
#include "one_client.h"
#include "ws_http.h"

#define HOST "Host: t\r\n"
#define UPGRADE \
    HOST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static int aborted, refusal;

static void on_aborted(ws_request *request, void *user)
{
    (void)user;
    aborted++;
    refusal = ws_request_refusal(request);
}

static void on_body(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    (void)request, (void)data, (void)length, (void)last, (void)user;
    ok(false, "E2: no body is read");
}

static void on_writable(ws_request *request, void *user)
{
    (void)request, (void)user;
    ok(false, "E2: no response is in parts");
}

static void on_request(ws_request *request, void *user)
{
    (void)user;
    ws_request_respond(request, 200, NULL, NULL, 0);
}

/* What the library is built without has no effect on the request. */
static void refuse(ws_request *request)
{
    is_int(ws_request_read_body(request, 1, on_body, NULL), WS_ENOTSUP, "E2: ws_request_read_body");
    ws_request_pause_body(request);
    ws_request_resume_body(request);
    is_int(ws_request_begin(request, 200, NULL, 1), WS_ENOTSUP, "E2: ws_request_begin");
    is_int(ws_request_write(request, "-", 1), WS_ENOTSUP, "E2: ws_request_write");
    is_int(ws_request_finish(request), WS_ENOTSUP, "E2: ws_request_finish");
    is_int(ws_request_respond_file(request, 200, NULL, 0, 0, 1), WS_ENOTSUP,
           "E2: ws_request_respond_file");
    ws_request_on_writable(request, on_writable, NULL);
    is_int(ws_request_add_header(request, "WWW-Authenticate", 16, "Basic", 5), WS_OK, "a field");
    is_int(ws_request_respond(request, 401, NULL, "no", 2), WS_OK, "E2: ws_request_respond");
    is_int(ws_request_respond(request, 401, NULL, "no", 2), WS_ECLOSED, "once");
}

/* "/refuse", "/defer" and other paths. */
static void hook(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event != ON_UPGRADE)
        return;
    size_t n;
    const char *path = ws_request_path(request, &n);
    if (n == 7 && !memcmp(path, "/refuse", n))
        refuse(request);
    else if (n == 6 && !memcmp(path, "/defer", n) &&
             ws_request_defer(request, on_aborted, NULL) == WS_OK)
        harness->deferred = request;
    else
        ws_request_upgrade(request, NULL, 0, NULL);
}

static void start(void)
{
    aborted = refusal = 0;
    harness_init(&h);
    h.echo = h.answers = true;
    h.hook = hook;
    harness_create(&h);
    harness_route(&h, "/*");
    harness_listen(&h);
}

static void expect(const char *request, const char *want, const char *name)
{
    client_connect(&c, &h);
    client_say(&c, request);
    is_responses(&c, want, name);
}

static void test_requests(void)
{
    harness_init(&h);
    harness_create(&h);
    is_int(ws_server_http(h.server, "GET", "/", on_request, NULL), WS_ENOTSUP,
           "E2: ws_server_http");
    harness_route(&h, "/ws");
    harness_listen(&h);
    expect("GET / HTTP/1.1\r\n" HOST "\r\n", "404, EOF", "E2: there is nothing else");
    ok(head_has(&c, "Connection: close\r\n"), "the connection ends, and the client is told so");
    client_close(&c);
    expect("GET /ws HTTP/1.1\r\n" HOST "\r\n", "426, EOF", "E2: the path of a route");
    ok(head_has(&c, "Upgrade: websocket\r\n"), "with what it speaks");
    client_close(&c);
    expect("PUT /ws HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n--", "405, EOF",
           "E2: another method");
    ok(head_has(&c, "Allow: GET\r\n"), "with the one that it has");
    client_close(&c);
    expect("PUT /ws HTTP/1.1\r\n" UPGRADE "\r\n", "405, EOF", "E2: one that asks for WebSocket");
    ok(head_has(&c, "Allow: GET\r\n"), "with the one that it has, too");
    client_close(&c);
    expect("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\n-\r\n0\r\n\r\n"
           "GET / HTTP/1.1\r\n" HOST "\r\n",
           "404, EOF", "E2: a body ends the connection, and what follows is no request");
    client_close(&c);
    expect("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n",
           "404, EOF", "E2: no one waits for a body");
    client_close(&c);
    expect("GET /ws HTTP/1.1\r\n" UPGRADE "Content-Length: 1\r\n\r\n-", "400, EOF",
           "E2: an opening handshake has none");
    client_close(&c);
    expect("GET / HTTP/1.1\r\n\r\n", "400, EOF", "what is malformed");
    client_close(&c);
    harness_stop(&h, "requests");
}

static void on_fallback(ws_request *request, int status, void *user)
{
    static const char page[] = "our page";
    (void)user;
    is_int(ws_request_respond_static(request, status, NULL, page, sizeof page - 1), WS_OK,
           "E2: ws_request_respond_static");
}

static void test_fallback(void)
{
    harness_init(&h);
    harness_create(&h);
    harness_listen(&h);
    ws_server_set_fallback(h.server, on_fallback, NULL);
    expect("GET / HTTP/1.1\r\n" HOST "\r\n", "404, EOF", "E2: in our words");
    ok(head_has(&c, "Content-Length: 8\r\n"), "that is ours");
    client_close(&c);
    harness_stop(&h, "fallback");
}

static void test_handshakes(void)
{
    start();
    expect("GET /refuse HTTP/1.1\r\n" UPGRADE "\r\n", "401, EOF", "E2: a handshake is refused");
    ok(head_has(&c, "HTTP/1.1 401 Unauthorized\r\n") && head_has(&c, "WWW-Authenticate: Basic\r\n"),
       "with its reason and its field");
    client_close(&c);
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "and is granted");
    is_responses(&c, "101", "later");
    client_text(&c, "hello");
    is_frames(&c, "TEXT hello", "and goes on");
    expect_alive();
    stop("handshakes");
}

static void test_ends(void)
{
    start();
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    client_close(&c);
    turns(&h, 3);
    ok(aborted == 1 && refusal == 0, "E2: its client leaves");
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    advance(&h, h.config.upgrade_timeout);
    is_responses(&c, "503, EOF", "E2: too long");
    ok(aborted == 2 && refusal == 503, "and the application hears of it");
    client_close(&c);
    expect("GET /refuse HTTP/1.1\r\n", "", "a head that does not end");
    advance(&h, h.config.handshake_timeout);
    is_responses(&c, "408, EOF", "E2: is refused");
    client_close(&c);
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_responses(&c, "503, EOF", "E2: the server ends");
    ok(aborted == 3 && refusal == 503, "and the application hears of it");
    client_close(&c);
    harness_stop(&h, "ends");
}

/* Each allocation fails once; what is answered then is no matter. */
static void test_memory(void)
{
    size_t n = 0;
    bool failed;
    do {
        start();
        h.memory.fail_at = h.memory.calls + ++n;
        client_connect(&c, &h);
        client_say(&c, "PUT /ws HTTP/1.1\r\n" UPGRADE "\r\n");
        turns(&h, 3);
        client_close(&c);
        client_connect(&c, &h);
        client_say(&c, "GET /defer HTTP/1.1\r\n" UPGRADE "\r\n");
        turns(&h, 3);
        if (h.deferred)
            ws_request_upgrade(h.deferred, NULL, 0, NULL);
        client_close(&c);
        turns(&h, 3);
        failed = h.memory.calls >= h.memory.fail_at;
        h.memory.fail_at = 0;
        if (failed)
            expect_alive();
        harness_stop(&h, "memory");
    } while (failed);
    ok(n > 4, "%zu allocations", n - 1);
}

static void cases(void)
{
    CASE(test_requests());
    CASE(test_fallback());
    CASE(test_handshakes());
    CASE(test_ends());
    CASE(test_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
