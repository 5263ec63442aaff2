/* SPDX-License-Identifier: MIT */
/*
 * test_request.c: HTTP and the opening handshake as a peer sees them, and limits of virtual time.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define FIELDS "Host: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define REST KEY VERSION "\r\n"

static struct harness h;
static const char *const protocols[] = {"chat", "superchat", NULL};
static const char *const origins[] = {"https://example.com", NULL};

static void start(void)
{
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/ws");
    h.behavior.subprotocols = protocols;
    harness_route(&h, "/sub");
    h.behavior.origins = origins;
    harness_route(&h, "/origin");
    harness_http(&h, "GET", "/page");
    harness_http(&h, "POST", "/form");
    harness_http(&h, "*", "/any/*");
    harness_http(&h, "GET", "/both");
    harness_http(&h, "POST", "/shared");
    harness_http(&h, "PUT", "/shared");
    harness_http(&h, "GET", "/list/:name");
    harness_http(&h, "POST", "/list/:name");
    harness_http(&h, "DELETE", "/list/*");
    harness_http(&h, "POST", "/list/*");
    harness_http(&h, "OPTIONS", "/list/all");
    h.behavior.origins = NULL;
    harness_route(&h, "/both");
    harness_route(&h, "/shared");
    harness_route(&h, "/any/ws");
    harness_listen(&h);
}

static struct client last; /* of expect, for its head */

/* One request on a connection of its own. */
static void expect(const char *request, const char *want, const char *name)
{
    client_connect(&last, &h);
    client_say(&last, request);
    turns(&h, (int)(strlen(request) / 4096)); /* a small receive buffer takes many */
    is_responses(&last, want, name);
    client_close(&last);
    turns(&h, 2);
}

static void test_statuses(void)
{
    start();
    expect("POST /ws HTTP/1.1\r\n" FIELDS REST, "405, EOF", "H0, H1: upgrade by POST: 405");
    ok(head_has(&last, "Allow: GET\r\n"), "H1: with Allow");
    expect("GET /ws HTTP/1.0\r\n" FIELDS REST, "400, EOF", "H2: upgrade in HTTP/1.0: 400");
    expect("GET /ws HTTP/1.5\r\n" FIELDS REST, "101", "H2: 1.5 is as 1.1");
    expect("GET /ws HTTP/2.0\r\n" FIELDS REST, "505, EOF", "H2: 2.0: 505");
    expect("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" REST, "400, EOF",
           "H3: no Host: 400");
    expect("GET /ws HTTP/1.1\r\nHost: u\r\n" FIELDS REST, "400, EOF", "H3: two Hosts: 400");
    expect("GET /ws HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" REST, "400, EOF",
           "H2, H3: an upgrade in HTTP/1.0 without Host: 400");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n" REST, "400, EOF",
           "H5: no Connection: 400");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: h2c, WebSocket\r\nConnection: keep-alive, "
           "Upgrade\r\n" REST, "101", "H4, H5, T3: lists, any case");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: close\r\n"
           "Connection: UPGRADE\r\n" REST, "101", "H4, H5: split over lines");
    expect("GET /ws HTTP/1.1\r\n" FIELDS VERSION "\r\n", "400, EOF", "H6: no key: 400");
    expect("GET /ws HTTP/1.1\r\n" FIELDS KEY REST, "400, EOF", "H6: two keys: 400");
    expect("GET /ws HTTP/1.1\r\n" FIELDS VERSION "Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n", "400, EOF",
           "H6: a short key: 400");
    expect("GET /ws HTTP/1.1\r\n" FIELDS KEY "Sec-WebSocket-Version: 12\r\n\r\n", "426, EOF",
           "H7, T5: version 12: 426");
    ok(head_has(&last, "Sec-WebSocket-Version: 13\r\n") && head_has(&last, "Upgrade: websocket") &&
           head_has(&last, "Connection: Upgrade, close\r\n"),
       "H7: the 426 says what is wanted");
    expect("GET /origin HTTP/1.1\r\n" FIELDS "Origin: https://evil.example\r\n" REST, "403, EOF",
           "H9, T12: another origin: 403");
    expect("GET /origin HTTP/1.1\r\n" FIELDS "Origin: https://example.com\r\n" REST, "101",
           "H9: the allowed origin");
    expect("GET /ws HTTP/1.1\r\n" FIELDS "Content-Length: 4\r\n" REST "abcd", "400, EOF",
           "H14: a body: 400");
    expect("GET /ws HTTP/1.1\r\n" FIELDS "Transfer-Encoding: chunked\r\n" REST "0\r\n\r\n",
           "400, EOF", "H14: a chunked body: 400");
    expect("GET http://t/ws?x=1 HTTP/1.1\r\n" FIELDS REST, "101", "H16: absolute-form");
    expect("\r\nGET /ws HTTP/1.1\r\n" FIELDS REST, "101", "H17: a leading CRLF");
    expect("GET /ws HTTP/1.1\r\n" FIELDS "Sec-WebSocket-Extensions: ;;\r\n" REST, "400, EOF",
           "H13: malformed extension list: 400");
    expect("GET /ws HTTP/1.1\r\n" FIELDS
           "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n" REST,
           "101", "H13: a bad parameter is declined");
    h.quiet = true;
    harness_stop(&h, "statuses");
}

static void test_syntax(void)
{
    static const char *const bad[] = {
        "GET /ws HTTP/1.1\nHost: t\n\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nA : b\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nA: b\r\n c\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nA\x01: b\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nA: b\rc\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nContent-Length: 4, 5\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "SSH-2.0-OpenSSH_9.6\r\n",
    };
    start();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect(bad[i], "400, EOF", "H18, H19, H21, T7, T8, T15: 400, readable, then EOF");
    ok(head_has(&last, "Connection: close\r\n") && head_has(&last, "Content-Length: "),
       "H21: an error has Content-Length and Connection: close");
    expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505, EOF", "H28, T15: HTTP/2 preface: 505");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", "501, EOF",
           "H19: unknown transfer coding: 501");
    char *big = malloc(40000);
    if (!big)
        return;
    memset(big, 'a', 40000);
    big[39999] = '\0';
    memcpy(big, "GET /", 5);
    expect(big, "414, EOF", "H20, T6: long request line: 414, readable though more was sent");
    memcpy(big, "GET / HTTP/1.1\r\nA: ", 19);
    expect(big, "431, EOF", "H20, T6: long head: 431, readable though more was sent");
    free(big);
    harness_stop(&h, "syntax");
}

static void shut_down(ws_request *request, int status, size_t length, const char *why,
                      size_t why_length, void *user)
{
    (void)request, (void)status, (void)length, (void)why, (void)why_length, (void)user;
    ws_server_shutdown(h.server, 1001, NULL, 0, 10000);
}

/* The request is not done with while on_response runs. */
static void test_shutdown_in_on_response(void)
{
    static const struct {
        const char *request, *want;
    } cases[] = {{"\x16\x03\x01\x02", "400, EOF"},
                 {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505, EOF"},
                 {"GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "200 /page, EOF"},
                 {"GET /none HTTP/1.1\r\nHost: t\r\n\r\n", "404, EOF"},
                 {"POST /page HTTP/1.1\r\nHost: t\r\n\r\n", "405, EOF"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start();
        ws_server_set_on_response(h.server, shut_down, NULL);
        expect(cases[i].request, cases[i].want, "a shutdown in on_response");
        is_int(ws_server_step(h.server, 0), WS_OK, "the shutdown is over");
        harness_stop(&h, "a shutdown in on_response");
    }
}

/* `line` bytes of request line and `fields` fields beside Host. */
static void expect_size(size_t line, int fields, const char *want, const char *name)
{
    char *request = malloc(line + 64 + 8 * (size_t)fields), *end = request + line;
    if (!request)
        return;
    memset(request, 'x', line);
    memcpy(request, "GET /any/", 9);
    memcpy(end - 9, " HTTP/1.1", 9);
    end += sprintf(end, "\r\nHost: t\r\n");
    while (fields--)
        end += sprintf(end, "A: b\r\n");
    sprintf(end, "\r\n");
    expect(request, want, name);
    free(request);
}

static void test_limits(void)
{
    start();
    expect_size(8193, 0, "414, EOF", "H20: half of max_header_size and one byte: 414");
    expect_size(100, 100, "431, EOF", "H20: max_headers and one more: 431");
    expect_size(100, 99, "200 [87]", "H20: max_headers");
    harness_stop(&h, "default limits");
    static const int counts[] = {1, 3, 10000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        harness_init(&h);
        h.config.max_header_size = 300000;
        h.config.max_headers = (uint32_t)counts[i];
        h.config.recv_buffer_size = 4096;
        harness_create(&h);
        harness_http(&h, "*", "/any/*");
        harness_listen(&h);
        expect_size(9000, 0, "200 [8987]", "H20: a long token in the request line");
        expect_size(150000, 0, "200 [149987]", "H20: exactly half of max_header_size");
        expect_size(150001, 0, "414, EOF", "H20: one byte more: 414");
        expect_size(100, counts[i] - 1, "200 [87]", "H20: max_headers");
        expect_size(100, counts[i], "431, EOF", "H20: one more: 431");
        harness_stop(&h, "limits");
    }
}

static void test_101(void)
{
    start();
    expect("GET /ws HTTP/1.1\r\n" FIELDS REST, "101", "T1: the RFC's example");
    static const char want[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    is_mem(last.head, strlen(last.head), want, strlen(want), "H10, H24: exactly this, no Date");
    expect("GET /sub HTTP/1.1\r\n" FIELDS "Sec-WebSocket-Protocol: x,, superchat\r\n"
           "Sec-WebSocket-Protocol: chat\r\n" REST, "101", "H12: one list over two lines");
    ok(head_has(&last, "Sec-WebSocket-Protocol: superchat\r\n"), "H11: the client's first");
    expect("GET /sub HTTP/1.1\r\n" FIELDS "Sec-WebSocket-Protocol: x\r\n" REST, "101", "H11");
    ok(!head_has(&last, "Sec-WebSocket-Protocol"), "H11: none in common, none sent");
    expect("GET /sub HTTP/1.1\r\n" FIELDS "Sec-WebSocket-Protocol: a b\r\n" REST, "400, EOF",
           "H13: a protocol that is no token: 400");
    harness_stop(&h, "101");
}

static void test_plain(void)
{
    start();
    expect("GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "200 /page", "H23: the connection is kept");
    ok(head_has(&last, "\r\nDate: ") && head_has(&last, " GMT\r\n"), "H24: Date");
    ok(head_has(&last, "Content-Length: 5\r\n"), "H24: Content-Length");
    expect("GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", "200 /page, EOF",
           "H23: Connection: close");
    expect("GET /page HTTP/1.0\r\nHost: t\r\n\r\n", "200 /page, EOF", "H23: 1.0 closes");
    expect("GET /page HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n", "200 /page",
           "H23: 1.0 with keep-alive");
    expect("HEAD /any/aaaaa HTTP/1.1\r\nHost: t\r\n\r\nGET /page1 HTTP/1.1\r\nHost: t\r\n\r\n",
           "200, 404", "H24: HEAD has no body");
    expect("GET /none HTTP/1.1\r\nHost: t\r\n\r\nGET /page HTTP/1.1\r\nHost: t\r\n\r\n",
           "404, 200 /page", "H8, H21: 404 keeps the connection");
    expect("DELETE /page HTTP/1.1\r\nHost: t\r\n\r\nGET /page HTTP/1.1\r\nHost: t\r\n\r\n",
           "405, 200 /page", "H21: 405 keeps the connection");
    expect("DELETE /page HTTP/1.1\r\nHost: t\r\n\r\n", "405", "405");
    ok(head_has(&last, "Allow: GET, HEAD\r\n"), "405 has Allow, with HEAD where GET is");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\n\r\n", "426, EOF", "H8: GET of a ws resource: 426");
    ok(head_has(&last, "Upgrade: websocket\r\n"), "H7, H8: with Upgrade");
    expect("HEAD /ws HTTP/1.1\r\nHost: t\r\n\r\n", "426, EOF", "H8: HEAD too");
    expect("PUT /ws HTTP/1.1\r\nHost: t\r\n\r\n", "405", "H8: other methods: 405");
    expect("GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
           "426, EOF", "H0, H27: another Upgrade token is ignored");
    expect("GET /both HTTP/1.1\r\nHost: t\r\n\r\n", "200 /both", "S2: plain on a shared path");
    expect("GET /both HTTP/1.1\r\n" FIELDS REST, "101", "S2: upgrade on a shared path");
    expect("GET /page HTTP/1.1\r\n" FIELDS REST, "200 /page",
           "S2: an upgrade request that no ws route takes is plain");
    expect("PUT /any/x HTTP/1.1\r\nHost: t\r\n\r\n", "200 /any/x", "any method");
    expect("POST /form HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
           "200 /form, EOF", "H25: no 100 without a wish for the body");
    expect("GET /page HTTP/1.1\r\nHost: t\r\n\r\nnonsense\r\n\r\n", "200 /page, 400, EOF",
           "H23: an answer, then the error of the next");
    harness_stop(&h, "plain");
}

static void test_health_checks(void)
{
    start();
    expect("GET /page HTTP/1.0\r\n\r\n", "200 /page, EOF", "H3: HTTP/1.0 without Host");
    expect("OPTIONS / HTTP/1.0\r\n\r\n", "404, EOF", "H3: HAProxy's default check, no such page");
    expect("OPTIONS /page HTTP/1.0\r\n\r\n", "405, EOF", "H3: HAProxy's default check");
    expect("HEAD /page HTTP/1.0\r\n\r\n", "200, EOF", "H3: HEAD in HTTP/1.0 without Host");
    expect("GET /page HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "400, EOF",
           "H3: two Hosts in HTTP/1.0: 400");
    expect("GET /page HTTP/1.1\r\n\r\n", "400, EOF", "H3: none in HTTP/1.1: 400");
    harness_stop(&h, "health checks");
}

/* A WebSocket route and HTTP routes match the same path. */
static void test_shared_paths(void)
{
    start();
    expect("GET /shared HTTP/1.1\r\nHost: t\r\n\r\n", "426, EOF",
           "H8: GET where a ws route shares the path with POST: 426");
    expect("HEAD /shared HTTP/1.1\r\nHost: t\r\n\r\n", "426, EOF", "H8: HEAD too");
    expect("DELETE /shared HTTP/1.1\r\nHost: t\r\n\r\n", "405", "H8: another method: 405");
    ok(head_has(&last, "Allow: GET, POST, PUT\r\n"), "H8: Allow names what upgrades, and the rest");
    expect("DELETE /both HTTP/1.1\r\nHost: t\r\n\r\n", "405",
           "H8: the ws route shares its path with GET: 405");
    ok(head_has(&last, "Allow: GET, HEAD\r\n"), "H8: Allow names each method once");
    expect("DELETE /ws HTTP/1.1\r\nHost: t\r\n\r\n", "405", "H8: a ws route alone: 405");
    ok(head_has(&last, "Allow: GET\r\n"), "H8: HEAD is not among what it allows");
    expect("PUT /list/all HTTP/1.1\r\nHost: t\r\n\r\n", "405", "405 where several routes match");
    ok(head_has(&last, "Allow: OPTIONS, GET, HEAD, POST, DELETE\r\n"),
       "Allow names the methods of all routes that match, each once");
    expect("PUT /shared HTTP/1.1\r\n" FIELDS REST, "405, EOF", "H1: upgrade by PUT: 405");
    ok(head_has(&last, "Allow: GET, POST\r\n"), "H1: Allow does not name what was refused");
    expect("PUT /any/ws HTTP/1.1\r\n" FIELDS REST, "405, EOF", "H1: upgrade by PUT: 405");
    ok(head_has(&last, "Allow: GET\r\n"), "H1: \"any method\" is no name of one");
    expect("GET /any/ws HTTP/1.1\r\nHost: t\r\n\r\n", "200 /any/ws", "any method takes GET, too");
    harness_stop(&h, "shared paths");
}

/* Hooks answer /page with a number that grows. */
static int served;
static size_t body_size;

static void answer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                   const char *data, size_t length)
{
    static char body[1 << 20];
    (void)conn, (void)data, (void)length;
    if (event == ON_HTTP) {
        snprintf(body, sizeof body, "%d", served++);
        ws_request_respond(request, 200, NULL, body, body_size ? body_size : strlen(body));
    } else if (event == ON_UPGRADE) {
        ws_request_upgrade(request, NULL, 0, NULL);
    }
    (void)harness;
}

static void test_pipelining(void)
{
    static const char one[] = "GET /page HTTP/1.1\r\nHost: t\r\n\r\n";
    struct client c;
    char want[2048] = "";
    int failures = 0;
    start();
    h.hook = answer;
    h.answers = true;
    served = 0;
    client_connect(&c, &h);
    for (int i = 0; i < 200; i++)
        client_say(&c, one);
    for (int i = 0; i < 200; i++)
        snprintf(want + strlen(want), 16, "%s200 %d", i ? ", " : "", i);
    is_responses(&c, want, "H23: 200 pipelined requests, answered in order");
    client_close(&c);
    for (size_t at = 1; at < 2 * strlen(one); at++) {
        char two[128];
        snprintf(two, sizeof two, "%s%s", one, one);
        served = 0;
        client_connect(&c, &h);
        client_write(&c, two, at);
        turns(&h, 2);
        client_write(&c, two + at, strlen(two) - at);
        failures += strcmp(client_responses(&c), "200 0, 200 1") != 0;
        client_close(&c);
    }
    is_int(failures, 0, "H23, T2: two requests in every split");

    client_connect(&c, &h);
    served = 0;
    for (int i = 0; i < 100; i++)
        client_say(&c, one);
    client_finish(&c);
    const char *got = client_responses(&c);
    ok(strstr(got, "200 99, EOF") != NULL, "H23: a half-close after the requests: all answered");
    client_close(&c);
    harness_stop(&h, "pipelining");
}

/* Reads at 40 bytes a millisecond of virtual time, which stands still while the kernel needs real
 * time to move the bytes. False: the end, or nothing comes. */
static bool read_slowly(struct client *c)
{
    char bytes[4000];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n > 0) {
        c->received += (size_t)n;
        advance(&h, (uint64_t)n / 40);
        return true;
    }
    struct pollfd either[2] = {{c->fd, POLLIN, 0}, {ws_server_fd(h.server), POLLIN, 0}};
    if (!n || errno != EAGAIN || poll(either, 2, 20000) <= 0)
        return false;
    turns(&h, 1);
    return true;
}

/* Large answers to a peer that reads late. */
static void test_slow_reader(void)
{
    static const char one[] = "GET /page HTTP/1.1\r\nHost: t\r\n\r\n";
    struct client c;
    start();
    h.hook = answer;
    h.answers = true;
    served = 0;
    body_size = 300000;
    client_connect_small(&c, &h);
    for (int i = 0; i < 50; i++)
        client_say(&c, one);
    turns(&h, 10);
    ok(served < 50, "the next request waits while the kernel is full");
    size_t most = h.memory.bytes;
    ok(most < 6u << 20, "pipelined answers do not pile up");
    if (most >= 6u << 20)
        diag("%zu bytes, %d served", most, served);
    client_drain(&c);
    for (int i = 0; i < 200 && served < 50; i++)
        client_drain(&c);
    is_int(served, 50, "H23: all are answered in the end");
    ok(c.received > 50u * 300000, "and arrive");
    client_close(&c);

    client_connect_small(&c, &h);
    client_say(&c, one);
    client_say(&c, "GET /pa");
    turns(&h, 4);
    client_drain(&c);
    uint64_t before = stats_of(&h).turns;
    turns(&h, 3);
    client_say(&c, "ge HTTP/1.1\r\n" FIELDS "\r\n");
    client_drain(&c);
    ok(c.received > 600000, "H23: a slow answer, half a request after it, then its rest");
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    ok(!poll(&ready, 1, 0) && stats_of(&h).turns > before, "T57: and nothing spins");
    client_close(&c);

    body_size = 1000000;
    client_connect_small(&c, &h);
    client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    turns(&h, 4);
    client_finish(&c);
    turns(&h, 4);
    client_drain(&c);
    ok(c.received > 1000000 && c.eof && !c.reset,
       "H21: a peer that half-closed reads its answer to the end");
    client_close(&c);
    for (int closes = 0; closes < 2; closes++) {
        client_connect_small(&c, &h);
        if (closes)
            client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        else
            client_say(&c, one);
        turns(&h, 4);
        uint64_t began = h.now;
        while (c.received < 1000000 && read_slowly(&c))
            ;
        ok(c.received >= 1000000 && h.now - began > UINT64_C(20000000000),
           "H22: a download in progress is no idle connection");
        client_close(&c);
    }
    body_size = 0;
    harness_stop(&h, "slow reader");
}

static void test_timeouts(void)
{
    struct client c;
    start();
    client_connect(&c, &h);
    advance(&h, 9999);
    is_responses(&c, "", "H22, T14: silent, just before handshake_timeout");
    advance(&h, 1);
    is_responses(&c, "EOF", "H22, T14: silent: closed without a word");
    client_close(&c);

    client_connect(&c, &h);
    const char *slow = "GET /page HTTP/1.1\r\nHost: t\r\n";
    for (int i = 0; i < 20; i++) {
        client_write(&c, slow + i, 1);
        advance(&h, 490);
    }
    is_responses(&c, "", "H22: slow drip, before the time");
    advance(&h, 200);
    is_responses(&c, "408, EOF", "H22, T14: slow drip: 408, counted from accept");
    client_close(&c);

    client_connect(&c, &h);
    client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    is_responses(&c, "200 /page", "keep-alive");
    advance(&h, 9000);
    client_say(&c, "G");
    turns(&h, 2);
    advance(&h, 9999);
    is_responses(&c, "", "H22: a later request's time counts from its first byte");
    advance(&h, 1);
    is_responses(&c, "408, EOF", "H22: a later partial request: 408");
    client_close(&c);

    client_connect(&c, &h);
    client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    is_responses(&c, "200 /page", "keep-alive");
    advance(&h, 9999);
    is_responses(&c, "", "H22: idle keep-alive, before the time");
    advance(&h, 1);
    is_responses(&c, "EOF", "H22: idle keep-alive: closed silently");
    client_close(&c);

    client_connect(&c, &h);
    client_say(&c, "bad\r\n\r\n");
    is_responses(&c, "400, EOF", "H21: lingering");
    is_int(stats_of(&h).connections, 1, "H21: until the peer closes, too");
    for (int i = 0; i < 10; i++)
        client_say(&c, "more and more and more");
    turns(&h, 3);
    client_read(&c);
    ok(!c.reset, "H21: what a lingering peer still sends gets no RST");
    advance(&h, 5000);
    is_int(stats_of(&h).connections, 0, "H21, C10: lingering is bounded");
    client_close(&c);
    harness_stop(&h, "timeouts");
}

/* ---- handlers ---- */

static char seen[1024];

/* 80 characters. */
#define LONG_NAME                                                                                  \
    "X-Twenty-Characters-X-Twenty-Characters-X-Twenty-Characters-X-Twenty-Characters-"

static void look(struct harness *harness, enum event event, ws_conn *conn, ws_request *r,
                 const char *data, size_t length)
{
    size_t n, m, name_length;
    const char *name, *value;
    char address[46];
    (void)conn, (void)data, (void)length, (void)harness;
    if (event != ON_UPGRADE)
        return;
    const char *query = ws_request_query(r, &n), *path = ws_request_path(r, &m);
    const char *header = ws_request_header(r, "X-Thing", &length);
    ws_request_remote_address(r, address, sizeof address);
    snprintf(seen, sizeof seen, "%.*s|%.*s|%.*s|%s|%d|%s", (int)m, path, (int)n, query, (int)length,
             header, ws_request_pattern(r), ws_request_is_upgrade(r), address);
    n = 0;
    for (size_t i = 0; ws_request_header_at(r, i, &name, &name_length, &value, &m); i++)
        n++;
    snprintf(seen + strlen(seen), 32, "|%zu", n);
    value = ws_request_subprotocol(r, &n);
    snprintf(seen + strlen(seen), 32, "|%.*s", (int)n, value ? value : "");
    ok(!ws_request_header(r, "missing", &n) && !n, "a missing header is NULL");
    value = ws_request_header(r, LONG_NAME, &n);
    ok(value && n == 4 && !memcmp(value, "here", 4), "a name of any length is found");
    is_int(ws_request_add_header(r, "X\r\nY", 4, "1", 1), WS_EINVAL, "T10: CRLF in a name");
    is_int(ws_request_add_header(r, "X", 1, "1\r\nY: 2", 7), WS_EINVAL, "T10: CRLF in a value");
    is_int(ws_request_add_header(r, "X", 1, "a\0b", 3), WS_EINVAL, "T10: NUL in a value");
    is_int(ws_request_add_header(r, "X", 1, "a\x1b", 2), WS_EINVAL, "T10: a control character");
    is_int(ws_request_add_header(r, "Upgrade", 7, "x", 1), WS_EINVAL, "T10: a reserved name");
    is_int(ws_request_add_header(r, "Set-Cookie", 10, "a=b", 3), WS_OK, "a cookie on the 101");
    is_int(ws_request_respond(r, 200, "a\r\nb", "", 0), WS_EINVAL, "T10: CRLF in a reason");
    is_int(ws_request_respond(r, 101, NULL, "", 0), WS_EINVAL, "no 1xx by hand");
    is_int(ws_request_upgrade(r, "unheard", 7, NULL), WS_EINVAL, "H11: a protocol not offered");
    is_int(ws_request_upgrade(r, "chat", 4, &seen), WS_OK, "H11: one that was offered");
    is_int(ws_request_upgrade(r, NULL, 0, NULL), WS_ECLOSED, "a second answer");
    is_int(ws_request_respond(r, 200, NULL, "", 0), WS_ECLOSED, "a second answer");
    is_int(ws_request_defer(r, NULL, NULL), WS_ECLOSED, "deferring too late");
    is_int(ws_request_abort(r), WS_ECLOSED, "aborting too late");
}

static void test_getters(void)
{
    start();
    h.hook = look;
    h.answers = true;
    expect("GET /sub?a=1 HTTP/1.1\r\n" FIELDS "X-THING: 7\r\nSec-WebSocket-Protocol: superchat, "
           "chat\r\n" LONG_NAME ": here\r\n" REST,
           "101", "answered by the handler");
    ok(!strcmp(seen, "/sub|a=1|7|/sub|1|127.0.0.1|8|superchat"), "what a handler sees");
    if (strcmp(seen, "/sub|a=1|7|/sub|1|127.0.0.1|8|superchat"))
        diag("%s", seen);
    ok(head_has(&last, "Set-Cookie: a=b\r\n") && head_has(&last, "Protocol: chat\r\n"),
       "what a handler added is in the 101");
    h.hook = NULL;
    is_events(&h, "open; close 1006 connection closed without a Close frame", "events");
    harness_stop(&h, "getters");
}

static int choice;

static void choose(struct harness *harness, enum event event, ws_conn *conn, ws_request *r,
                   const char *data, size_t length)
{
    (void)conn, (void)data, (void)length, (void)harness;
    if (event == ON_OPEN && choice == 3)
        ok(ws_conn_request(conn) != NULL, "the request is there during on_open");
    if (event == ON_MESSAGE)
        ok(ws_conn_request(conn) == NULL, "and no longer later");
    if (event != ON_UPGRADE && event != ON_HTTP)
        return;
    if (choice == 1)
        ws_request_respond(r, 403, NULL, "no", 2);
    else if (choice == 2)
        ws_request_abort(r);
    else if (choice == 3)
        ws_request_upgrade(r, NULL, 0, NULL);
    else if (choice == 4)
        ws_request_respond(r, 204, NULL, "never", 5);
    else if (choice == 5)
        ws_request_respond(r, 200, "Fine", NULL, 0);
}

static void test_handlers(void)
{
    struct client c;
    start();
    h.hook = choose;
    h.answers = true;
    for (choice = 0; choice < 3; choice++) {
        static const char *const want[] = {"500, EOF", "403, EOF", "EOF"};
        expect("GET /ws HTTP/1.1\r\n" FIELDS REST, want[choice],
               "an upgrade handler that does nothing (500), refuses, aborts");
    }
    for (choice = 0; choice < 3; choice++) {
        static const char *const want[] = {"500, EOF", "403, 403", "EOF"};
        expect("GET /page HTTP/1.1\r\nHost: t\r\n\r\nGET /page HTTP/1.1\r\nHost: t\r\n\r\n",
               want[choice], "an HTTP handler that does nothing (500), answers, aborts");
    }
    ok(log_has(&h, "did not answer"), "a line about the handler that did nothing");
    choice = 4;
    expect("GET /page HTTP/1.1\r\nHost: t\r\n\r\nGET /page HTTP/1.1\r\nHost: t\r\n\r\n", "204, 204",
           "H24: 204 without a body");
    ok(!head_has(&last, "Content-Length"), "H24: nor a length of it");
    choice = 5;
    expect("GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "200", "an empty body");
    ok(head_has(&last, "HTTP/1.1 200 Fine\r\n") && head_has(&last, "Content-Length: 0\r\n"),
       "reason and length");
    choice = 3;
    client_connect(&c, &h);
    client_say(&c, "GET /ws HTTP/1.1\r\n" FIELDS REST);
    is_responses(&c, "101", "accepted");
    client_text(&c, "x");
    turns(&h, 2);
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, "handlers");
}

/* Frames after the request, in the same or another segment, at every split of the whole. */
static void test_early_frames(void)
{
    char bytes[512];
    struct client c;
    int failures = 0;
    size_t n = strlen(handshake_request);
    harness_init(&h);
    h.echo = true;
    harness_start(&h);
    memcpy(bytes, handshake_request, n);
    n += make_frame(bytes + n, 0x81, "hello", 5);
    n += make_frame(bytes + n, 0x89, "p", 1);
    n += make_frame(bytes + n, 0x02, "ab", 2);
    n += make_frame(bytes + n, 0x80, "c", 1);
    n += make_close(bytes + n, 4001, "bye");
    n += make_frame(bytes + n, 0x81, "late", 4);
    for (size_t at = 1; at <= n; at++) {
        h.opened = h.closed = 0;
        h.events[0] = '\0';
        h.events_length = 0;
        client_connect(&c, &h);
        client_write(&c, bytes, at);
        turns(&h, 2);
        client_write(&c, bytes + at, n - at);
        bool fine = !strcmp(client_responses(&c), "101, ..19, EOF") &&
                    !strcmp(client_frames(&c), "TEXT hello, PONG p, BINARY abc, CLOSE 4001, EOF") &&
                    !strcmp(h.events, "open; message TEXT hello; ping p; message BINARY abc; "
                                      "close 4001 bye");
        failures += !fine;
        if (!fine && failures == 1)
            diag("split at %zu: %s", at, h.events);
        client_close(&c);
        turns(&h, 2);
    }
    is_int(failures, 0, "H15, T2, T11, F14, F15: handshake and frames in every split");
    h.opened = h.closed = 0;
    client_connect(&c, &h);
    for (size_t i = 0; i < n; i++) {
        client_write(&c, bytes + i, 1);
        turns(&h, 1);
    }
    ok(!strcmp(client_responses(&c), "101, ..19, EOF"), "H15, T29: byte by byte");
    client_close(&c);
    harness_stop(&h, "early frames");
}

static void cases(void)
{
    CASE(test_statuses());
    CASE(test_syntax());
    CASE(test_shutdown_in_on_response());
    CASE(test_limits());
    CASE(test_101());
    CASE(test_plain());
    CASE(test_health_checks());
    CASE(test_shared_paths());
    CASE(test_pipelining());
    CASE(test_slow_reader());
    CASE(test_timeouts());
    CASE(test_getters());
    CASE(test_handlers());
    CASE(test_early_frames());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
