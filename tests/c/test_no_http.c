/* SPDX-License-Identifier: MIT */
/*
 * test_no_http.c: a server without handlers of other requests than opening handshakes, without
 * bodies, and without responses in parts (-DWS_NO_HTTP). E2.
 */
#include "one_client.h"
#include "ws_http.h"

#include <sys/socket.h>
#include <unistd.h>

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

static bool is_path(const ws_request *request, const char *path)
{
    size_t n;
    const char *text = ws_request_path(request, &n);
    return n == strlen(path) && !memcmp(text, path, n);
}

/* "/refuse", "/defer", "/abort", "/end", "/forget" and other paths. */
static void hook(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event != ON_UPGRADE)
        return;
    if (is_path(request, "/forget"))
        return;
    if (is_path(request, "/end"))
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    if (is_path(request, "/refuse"))
        refuse(request);
    else if (is_path(request, "/abort"))
        is_int(ws_request_abort(request), WS_OK, "E2: ws_request_abort");
    else if (is_path(request, "/defer") && ws_request_defer(request, on_aborted, NULL) == WS_OK)
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
    ok(head_has(&c, "Connection: close\r\n"), "the response says that the connection ends");
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

static void on_fallback_later(ws_request *request, int status, void *user)
{
    (void)user;
    ok(status == 404 && !ws_request_defer(request, on_aborted, NULL), "E2: not yet");
    h.deferred = request;
}

/* What has arrived of the body, and what follows it, is discarded. */
static void test_fallback_later(void)
{
    harness_init(&h);
    harness_create(&h);
    harness_listen(&h);
    ws_server_set_fallback(h.server, on_fallback_later, NULL);
    client_connect(&c, &h);
    client_say(&c, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    client_write(&c, payload, 50000);
    is_responses(&c, "", "E2: a request with a body waits");
    is_int(ws_request_respond(h.deferred, 200, NULL, "done", 4), WS_OK, "and is answered");
    client_write(&c, payload, 50000);
    is_responses(&c, "200 done, EOF", "E2: the answer arrives, and the connection ends");
    client_close(&c);
    expect("HEAD /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "", "E2: HTTP/1.0 waits, too");
    is_int(ws_request_respond(h.deferred, 200, NULL, "done", 4), WS_OK, "and is answered");
    is_responses(&c, "200, EOF", "E2: HEAD, and the connection ends");
    ok(head_has(&c, "Content-Length: 4\r\nConnection: close\r\n"), "as its head says");
    client_close(&c);
    expect("GET / HTTP/1.1\r\n" HOST "\r\n", "", "E2: and one that is");
    is_int(ws_request_abort(h.deferred), WS_OK, "aborted");
    ok(!*client_responses(&c) || !strcmp(client_responses(&c), "EOF"), "gets no answer");
    client_close(&c);
    harness_stop(&h, "fallback that answers later");
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
    is_frames(&c, "TEXT hello", "the connection works");
    client_close(&c);
    expect("GET /forget HTTP/1.1\r\n" UPGRADE "\r\n", "500, EOF", "E2: one is forgotten");
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, "GET /abort HTTP/1.1\r\n" UPGRADE "\r\n");
    client_drain(&c);
    ok((c.eof || c.reset) && !c.in_length, "E2: one is aborted");
    expect_alive();
    stop("handshakes");
}

/* The handler of a handshake ends the server. */
static void test_end_in_a_handler(void)
{
    start();
    expect("GET /end HTTP/1.1\r\n" UPGRADE "\r\n", "503, EOF", "E2: no one is let in any more");
    stop("end");
}

static void adopt(const char *bytes, size_t kept, const char *want, const char *name)
{
    int ends[2];
    char text[1000];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends);
    is_int(ws_server_adopt(h.server, ends[0], bytes, strlen(bytes) - kept), WS_OK, name);
    turns(&h, 2);
    send(ends[1], bytes + strlen(bytes) - kept, kept, MSG_NOSIGNAL);
    turns(&h, 2);
    const ssize_t n = recv(ends[1], text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    text[strlen(want)] = '\0';
    is_text(text, want, "its answer");
    close(ends[1]);
    turns(&h, 3);
}

static void test_adopted(void)
{
    static const char plain[] = "POST /x HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n---";
    static const char handshake[] = "GET /ws HTTP/1.1\r\n" UPGRADE "\r\n\x89\x80----";
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\n";
    start();
    for (size_t kept = 0; kept < 20; kept++) {
        adopt(plain, kept, "HTTP/1.1 405 Method Not Allowed\r\n", "E2: adopted, with a body");
        adopt(handshake, kept, answer, "E2: adopted, a handshake and a frame");
    }
    harness_stop(&h, "adopted");
}

/* The first bytes, then `step` at a time. */
static bool is_answered(const char *request, size_t first, size_t step, const char *want)
{
    const size_t length = strlen(request);
    client_connect(&c, &h);
    for (size_t at = 0, n = first; at < length; at += n, n = step) {
        n = n < length - at ? n : length - at;
        client_write(&c, request + at, n);
        turns(&h, 1);
    }
    const bool same = !strcmp(client_responses(&c), want);
    client_close(&c);
    return same;
}

static void test_splits(void)
{
    static const char *const requests[][2] = {
        {"GET /ws HTTP/1.1\r\n" UPGRADE "\r\n", "101"},
        {"PUT /ws HTTP/1.1\r\n" UPGRADE "\r\n", "405, EOF"},
        {"POST /ws HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\n---GET", "405, EOF"},
        {"PUT /ws HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\n-\r\n0\r\n\r\n",
         "405, EOF"},
        {"GET /ws HTTP/1.1\r\n" UPGRADE "Content-Length: 3\r\n\r\n---", "400, EOF"},
    };
    start();
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const char *request = requests[i][0], *want = requests[i][1];
        size_t wrong = !is_answered(request, 1, 1, want);
        for (size_t first = 1; first < strlen(request); first++)
            wrong += !is_answered(request, first, SIZE_MAX, want);
        ok(!wrong, "E2: request %zu, byte by byte, and in two parts", i);
    }
    harness_stop(&h, "splits");
}

static void test_ends(void)
{
    start();
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    client_close(&c);
    turns(&h, 3);
    ok(aborted == 1 && refusal == 0, "E2: its client leaves");
    expect("GET /defer HTTP/1.1\r\n" UPGRADE "\r\n", "", "E2: one waits");
    advance(&h, h.config.upgrade_timeout - 1);
    is_responses(&c, "", "E2: for as long as it may");
    advance(&h, 1);
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
    CASE(test_fallback_later());
    CASE(test_handshakes());
    CASE(test_end_in_a_handler());
    CASE(test_adopted());
    CASE(test_splits());
    CASE(test_ends());
    CASE(test_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
