/* SPDX-License-Identifier: MIT */
/*
 * test_server_memory.c: every allocation can fail, and nothing leaks: the n-th allocation of a
 * long scenario fails, alone or with all after it; thousands of connections come and go; what an
 * idle connection costs.
 */
#include "harness.h"

#include <poll.h>
#include <stdlib.h>

static struct harness h;
static char payload[100000];

static void forget(ws_request *request, void *user)
{
    struct harness *harness = user;
    (void)request;
    harness->deferred = NULL;
}

static void defer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)data, (void)length;
    if (event == ON_UPGRADE || event == ON_HTTP) {
        size_t n;
        ws_request_path(request, &n);
        ws_request_add_header(request, "X-Name", 6, "value", 5);
        if (n == 1)
            ws_request_upgrade(request, NULL, 0, NULL);
        else if (event == ON_HTTP)
            ws_request_respond(request, 200, NULL, payload, 1000);
        else if (ws_request_defer(request, forget, harness) == WS_OK)
            harness->deferred = request;
        else
            ws_request_respond(request, 500, NULL, NULL, 0);
    } else if (event == ON_MESSAGE && conn) {
        ws_conn_send(conn, "answer", 6, WS_TEXT);
    }
}

static void do_nothing(void *argument)
{
    (void)argument;
}

/* Handshake, messages, fragments, backpressure, held messages, plain HTTP, pipelining, a deferred
 * upgrade with early data, Closes from both sides. Nothing is expected of it but to end. */
static void run_scenario(void)
{
    struct client c;
    client_open_small(&c, &h);
    c.hasty = true;
    ws_conn *conn = h.opened ? conn_at(&h, 0) : NULL;
    client_text(&c, "hello");
    client_frame(&c, 0x01, "part", 4);
    turns(&h, 2);
    client_frame(&c, 0x80, payload, 3000);
    client_frame(&c, 0x89, "ping", 4);
    client_frame(&c, 0x82, payload, 16000);
    turns(&h, 3);
    if (conn && conn == conn_at(&h, 0)) {
        ws_conn_send_fragment(conn, "a", 1, WS_TEXT, false);
        ws_conn_send(conn, "held", 4, WS_TEXT);
        ws_conn_send_fragment(conn, "b", 1, WS_CONTINUATION, true);
        for (int i = 0; i < 100; i++)
            ws_conn_send(conn, payload, 1000, WS_BINARY);
        ws_conn_send(conn, payload, sizeof payload, WS_BINARY);
    }
    client_frame(&c, 0x89, "ping", 4);
    turns(&h, 2);
    client_drain(&c);
    conn = h.opened ? conn_at(&h, 0) : NULL;
    if (conn)
        ws_conn_end(conn, 1000, "bye", 3);
    client_send_close(&c, 1000, "");
    client_drain(&c);
    client_close(&c);
    turns(&h, 2);

    client_connect_small(&c, &h);
    c.hasty = true;
    for (int i = 0; i < 30; i++)
        client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    client_say(&c, "PUT /page HTTP/1.1\r\nHost: t\r\n\r\nGET /nothing HTTP/1.1\r\n");
    turns(&h, 2);
    client_say(&c, "Host: t\r\n\r\nGET /deferred HTTP/1.1\r\n\r\n");
    client_drain(&c);
    client_close(&c);
    turns(&h, 2);

    client_connect(&c, &h);
    h.deferred = NULL;
    client_say(&c, "GET /deferred HTTP/1.1\r\n");
    turns(&h, 1);
    client_say(&c, strchr(handshake_request, '\n') + 1);
    turns(&h, 2);
    client_text(&c, "early");
    turns(&h, 2);
    if (h.deferred && stats_of(&h).connections)
        ws_request_upgrade(h.deferred, NULL, 0, NULL);
    turns(&h, 3);
    client_send_close(&c, 1000, "");
    client_drain(&c);
    client_close(&c);
    ws_server_defer(h.server, do_nothing, &h);
    turns(&h, 3);
}

static void prepare(void)
{
    harness_init(&h);
    h.hook = defer;
    h.answers = true;
    h.quiet = true;
    h.send_buffer = 8192;
    h.behavior.max_backpressure = 20000;
}

static void set_up(void)
{
    harness_create(&h);
    if (!h.server)
        return;
    harness_route(&h, "/");
    harness_route(&h, "/deferred");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
}

static bool still_serves(void)
{
    struct client c;
    int before = h.opened;
    h.memory.fail_at = 0;
    client_open(&c, &h);
    client_text(&c, "hi");
    const char *got = client_frames(&c);
    bool fine = h.opened == before + 1 && !strcmp(got, "TEXT answer");
    if (!fine)
        diag("opened %d, got %s", h.opened - before, got);
    client_close(&c);
    turns(&h, 3);
    if (stats_of(&h).connections)
        diag("%d connections", (int)stats_of(&h).connections);
    return fine && !stats_of(&h).connections;
}

static void test_failing_allocations(void)
{
    prepare();
    set_up();
    run_scenario();
    size_t calls = h.memory.calls;
    ok(harness_free(&h), "T84: the scenario itself: %zu allocations", calls);
    int failures = 0;
    for (size_t n = 1; n <= calls + 2; n++) {
        for (int mode = 0; mode < 2; mode++) {
            prepare();
            h.memory.fail_at = n;
            h.memory.fail_after = mode;
            set_up();
            if (!h.server) {
                failures += h.memory.blocks != 0;
                continue;
            }
            if (h.port > 0)
                run_scenario();
            bool serves = h.port > 0 ? true : !stats_of(&h).connections;
            h.memory.fail_at = 0;
            if (h.port > 0 && n > 40)
                serves = still_serves();
            bool clean = harness_free(&h);
            failures += !serves || !clean;
            if (!serves || !clean)
                diag("allocation %zu fails%s: serves %d, clean %d", n, mode ? " for good" : "",
                     serves, clean);
        }
    }
    is_int(failures, 0, "T84: whichever allocation fails: no crash, no leak, the server continues");
}

/* Each line of the head is the status line or a field; `field` is among them. */
static bool well_formed(const struct client *c, const char *field)
{
    for (const char *line = strchr(c->head, '\n') + 1; *line != '\r'; line = strchr(line, '\n') + 1)
        if (strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-") !=
            strcspn(line, ":\r"))
            return false;
    return head_has(c, field);
}

/* Answers that are made of several parts, each of which takes memory. */
static const struct {
    const char *request, *want, *field;
} answers[] = {
    {"PATCH /page HTTP/1.1\r\nHost: t\r\n\r\n", "405", "\r\nAllow: GET, HEAD, DELETE, "},
    {"POST /deferred HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n\r\n", "405, EOF",
     "\r\nAllow: GET\r\n"},
    {"GET /deferred HTTP/1.1\r\nHost: t\r\n\r\n", "426, EOF",
     "\r\nSec-WebSocket-Version: 13\r\n"},
    {"GET /none HTTP/1.1\r\nHost: t\r\n\r\n", "404", "\r\nContent-Length: "},
    {"GET /none\r\n", "400, EOF", "\r\nContent-Length: "},
    {"GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "200 /page", "\r\nContent-Length: 5\r\n"},
    {handshake_request, "101", "\r\nSec-WebSocket-Accept: "},
};

/* An answer is right, or does not come at all: the connection is dropped. */
static bool answers_or_drops(size_t i, uint32_t failing)
{
    struct client c;
    client_connect(&c, &h);
    turns(&h, 2);
    h.memory.fail_at = failing ? h.memory.calls + 1 : 0;
    while (failing && !(failing & 1)) {
        h.memory.fail_at++;
        failing >>= 1;
    }
    h.memory.also = failing >> 1;
    client_say(&c, answers[i].request);
    const char *got = client_responses(&c);
    bool fine = !strcmp(got, answers[i].want) ? well_formed(&c, answers[i].field)
                                              : failing && !strcmp(got, "EOF");
    if (!fine)
        diag("%s: %s", got, c.head);
    h.memory.fail_at = 0;
    client_close(&c);
    turns(&h, 2);
    return fine;
}

static void test_answers(void)
{
    int failures = 0;
    harness_init(&h);
    h.quiet = true;
    set_up();
    harness_http(&h, "DELETE", "/page");
    harness_http(&h, "A-METHOD-WITH-A-LONG-NAME-OF-ITS-OWN", "/page");
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        for (uint32_t failing = 0; failing < 1024; failing++)
            failures += !answers_or_drops(i, failing);
    is_int(failures, 0, "H21: whichever allocations fail: a whole answer, or none");
    harness_stop(&h, "answers");
}

static size_t settle(void)
{
    struct client c; /* what is lent from one connection to the next is in place afterwards */
    client_open(&c, &h);
    client_text(&c, "x");
    client_drain(&c);
    client_close(&c);
    turns(&h, 3);
    return h.memory.bytes;
}

static void test_churn(void)
{
    struct client c;
    harness_init(&h);
    h.quiet = true;
    h.echo = true;
    harness_start(&h);
    client_connect(&c, &h);
    client_close(&c);
    size_t base = settle();
    size_t held = stats_of(&h).memory;
    for (int i = 0; i < 3000; i++) {
        h.opened %= MAX_CONNS - 1;
        h.closed = h.opened;
        int kind = i % 6;
        client_connect(&c, &h);
        if (kind < 3)
            client_say(&c, handshake_request);
        if (kind == 1)
            client_frame(&c, 0x01, payload, 10000);
        if (kind == 2)
            client_say(&c, "\x82\xfe\x10");
        if (kind == 3)
            client_say(&c, "POST / HTTP/1.1\r\n" /* refused */
                           "Host: t\r\nUpgrade: websocket\r\n\r\n");
        if (kind == 4)
            client_say(&c, "GET / HT");
        turns(&h, 1);
        if (i % 4)
            client_close(&c);
        else
            client_reset(&c);
        if (i % 3 == 0)
            turns(&h, 1);
    }
    turns(&h, 10);
    ws_stats s = stats_of(&h);
    is_int(s.connections, 0, "T55: 3000 connects, refusals and aborts: none left");
    is_int((long long)(s.opened - s.closed), 0, "T68: opened == closed");
    is_int((long long)h.memory.bytes, (long long)base, "T55: memory is back to the byte");
    is_int((long long)s.memory, (long long)held, "T55: ws_stats.memory, too");
    h.opened = h.closed = 0;
    harness_stop(&h, "churn");
}

static void test_idle(void)
{
    enum { COUNT = 1000 };
    static struct client clients[COUNT];
    harness_init(&h);
    h.quiet = true;
    harness_start(&h);
    settle();
    size_t base = stats_of(&h).memory;
    int opened = 0;
    for (int i = 0; i < COUNT; i++) {
        client_open(&clients[i], &h);
        if (i < 100)
            client_text(&clients[i], "used once");
    }
    turns(&h, 5);
    opened = (int)stats_of(&h).open;
    is_int(opened, COUNT, "1000 connections");
    size_t each = (stats_of(&h).memory - base + COUNT - 1) / COUNT;
    ok(each <= (h.tls ? 232u : 192u),
       "T56: an idle connection costs at most 192 bytes, its slot included, and 40 with TLS");
    diag("%zu bytes for each", each);
    uint64_t before = stats_of(&h).turns;
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    is_int(poll(&ready, 1, 150), 0, "T57: idle connections wake no one up");
    is_int((long long)stats_of(&h).turns, (long long)before, "T57: no turns");
    for (int i = 0; i < COUNT; i++)
        client_close(&clients[i]);
    turns(&h, 20);
    is_int(stats_of(&h).connections, 0, "all gone");
    harness_stop(&h, "idle connections");
}

/* A message of each connection every second, answered before the next second begins. */
static void test_load(void)
{
    enum { COUNT = 1000, SECONDS = 60, WARM = 5 };
    static struct client clients[COUNT];
    int count = getenv("UNDER_VALGRIND") ? 50 : COUNT, lost = 0;
    size_t held = 0;
    harness_init(&h);
    h.quiet = true;
    h.echo = true;
    harness_start(&h);
    for (int i = 0; i < count; i++)
        client_open(&clients[i], &h);
    for (int second = 1; second <= SECONDS; second++) {
        char text[16];
        snprintf(text, sizeof text, "second %d", second);
        size_t length = strlen(text);
        for (int i = 0; i < count; i++)
            client_text(&clients[i], text);
        turns(&h, 1 + count / 200);
        for (int i = 0; i < count; i++) {
            client_read(&clients[i]);
            lost += clients[i].in_length != length + 2 || memcmp(clients[i].in + 2, text, length);
            clients[i].in_length = 0;
        }
        advance(&h, 1000);
        if (second == WARM)
            held = h.memory.bytes;
    }
    is_int(lost, 0, "T90: %d messages of %d connections: each is answered in its second",
           count * SECONDS, count);
    is_int((long long)h.memory.bytes, (long long)held, "T90: memory is what it was at first");
    is_int(stats_of(&h).open, count, "T90: all are connected");
    for (int i = 0; i < count; i++)
        client_close(&clients[i]);
    turns(&h, 20);
    harness_stop(&h, "load");
}

static void test_max_memory(void)
{
    struct client c[64];
    harness_init(&h);
    h.quiet = true;
    h.config.max_memory = 400 * 1024;
    h.behavior.max_payload_length = 1 << 20;
    harness_start(&h);
    for (int i = 0; i < 12; i++) {
        client_open(&c[i], &h);
        client_frame(&c[i], 0x01, payload, 90000);
        turns(&h, 2);
        client_read(&c[i]);
    }
    turns(&h, 5);
    ok(stats_of(&h).memory <= 400 * 1024, "T58: max_memory holds");
    ok(stats_of(&h).closed > 0, "T58: who needs more is closed");
    ok(stats_of(&h).open > 0, "T58: the others continue");
    int found = 0;
    for (int i = 0; i < 12; i++) {
        found += strstr(client_frames(&c[i]), "CLOSE 1011 ") != NULL;
        client_close(&c[i]);
    }
    ok(found > 0, "T58: and learns why");
    turns(&h, 5);
    harness_stop(&h, "max_memory");
}

/* ---- what hostile HTTP clients make the server hold: the formula of ARCHITECTURE ---- */

enum { PART = 30000 };

static void pause(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    (void)data, (void)length, (void)last, (void)user;
    ws_request_pause_body(request);
}

static void upload(ws_request *request, void *user)
{
    ws_request_read_body(request, 1 << 30, pause, user);
}

static void stream(ws_request *request, void *user)
{
    (void)user;
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    while (ws_request_write(request, payload, PART) != WS_DROPPED)
        continue;
}

static void wait(ws_request *request, void *user)
{
    ws_request_defer(request, NULL, user);
}

static void test_http_bound(void)
{
    enum { COUNT = 64, EARLY = 400000 };
    static struct client clients[COUNT];
    static char early[EARLY], head[16000] = "GET /page HTTP/1.1\r\nHost: t\r\nX: ";
    static const char *const begins[] = {
        "POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: t\r\n\r\n", "GET /wait HTTP/1.1\r\nHost: t\r\n\r\n", ""};
    prepare();
    h.config.max_response_backpressure = 100000;
    harness_create(&h);
    ws_server_http(h.server, "POST", "/upload", upload, NULL);
    ws_server_http(h.server, "GET", "/stream", stream, NULL);
    ws_server_http(h.server, "GET", "/wait", wait, NULL);
    harness_listen(&h);
    memset(early, 'x', sizeof early);
    memset(head + strlen(head), 'y', sizeof head - strlen(head));
    for (int i = 0; i < COUNT; i++) {
        client_connect_small(&clients[i], &h);
        client_say(&clients[i], begins[i % 4]);
        for (int k = 0; k < 20; k++) {
            if (i % 4 == 3)
                client_write(&clients[i], head + 800 * k, 800);
            else
                client_write(&clients[i], early, sizeof early);
            turns(&h, 1);
        }
    }
    const size_t max_header_size = 16384, max_headers = 100;
    const size_t http = 1024 + 16 * max_headers + max_header_size * 5 / 2 + 96 * 1024 +
                        (100000 + PART) * 3 / 2;
    const size_t bound =
        h.config.recv_buffer_size + 128 * 1024 + 16 * COUNT + COUNT * (256 + http);
    const size_t held = stats_of(&h).memory;
    is_int(stats_of(&h).connections, COUNT, "all are connected");
    ok(held <= bound, "T58: hostile HTTP clients hold %zu bytes, at most %zu", held, bound);
    ok(held >= COUNT / 4 * (100000 + 2 * 60000), "and a good part of it: they are hostile");
    for (int i = 0; i < COUNT; i++)
        client_close(&clients[i]);
    turns(&h, 20);
    harness_stop(&h, "the bound of HTTP");
}

static void cases(void)
{
    CASE(test_failing_allocations());
    CASE(test_answers());
    CASE(test_churn());
    CASE(test_idle());
    CASE(test_load());
    CASE(test_max_memory());
    CASE(test_http_bound());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
