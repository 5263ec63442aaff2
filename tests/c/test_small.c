/* SPDX-License-Identifier: MIT */
/*
 * test_small.c: the settings of small machines are obeyed as they are written (E4): how many bytes
 * a server with small buffers holds at the most, counted by its allocator, while clients send and
 * get what the buffers are too small for.
 */
#include "harness.h"
#include "kernel.h"

#include <stdlib.h>

enum { RECV = 4096, CORK = 2048, MESSAGE = 16384, MANY = 300, EARLY = 100000 };

/* What a connection, its request and the heads of blocks take beside the buffers. */
enum { SLACK = 1024 };

static struct harness h;
static struct client c;
static char payload[EARLY];

static void start(void)
{
    harness_init(&h);
    h.quiet = true;
    h.config.recv_buffer_size = RECV;
    h.config.cork_size = CORK;
}

static void open_client(void)
{
    harness_start(&h);
    client_open(&c, &h);
    turns(&h, 3);
    kernel_reset(h.port);
}

/* What the server holds from now on, at the most. */
static size_t base;

static void mark(void)
{
    base = h.memory.peak = h.memory.bytes;
}

static void holds(size_t most, const char *what)
{
    ok(h.memory.peak - base <= most + SLACK, "E4: %s: %zu bytes more, %zu expected", what,
       h.memory.peak - base, most);
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 5);
    h.quiet = false;
    kernel_reset(0);
    harness_stop(&h, name);
}

static void test_ranges(void)
{
    static const struct {
        uint32_t recv, cork;
        int result;
    } cases[] = {{4095, CORK, WS_EINVAL},     {4096, 1023, WS_EINVAL}, {4096, 1024, WS_OK},
                 {4096, 16777217, WS_EINVAL}, {4096, 0, WS_EINVAL},    {16777216, 16777216, WS_OK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_server *server;
        start();
        h.config.recv_buffer_size = cases[i].recv;
        h.config.cork_size = cases[i].cork;
        is_int(ws_server_new(&server, &h.config), cases[i].result,
               "recv_buffer_size %u, cork_size %u", (unsigned)cases[i].recv,
               (unsigned)cases[i].cork);
        ws_server_free(server);
    }
}

/* ---- what arrives ---- */

static void test_idle_server(void)
{
    size_t small, large;
    start();
    harness_start(&h);
    small = h.memory.bytes;
    harness_stop(&h, "a small server");
    start();
    h.config.recv_buffer_size = 1 << 20;
    harness_start(&h);
    large = h.memory.bytes;
    harness_stop(&h, "a large server");
    is_int((long long)(large - small), h.tls ? 2 * ((1 << 20) - RECV) : (1 << 20) - RECV,
           "E4: recv_buffer_size is what it says");
}

static void test_messages(void)
{
    start();
    open_client();
    mark();
    for (int i = 0; i < 10; i++)
        client_frame(&c, 0x82, payload, 200);
    turns(&h, 10);
    holds(RECV, "short messages");
    mark();
    char *frame = malloc(MESSAGE + 14);
    size_t n = make_frame(frame, 0x82, payload, MESSAGE);
    for (size_t at = 0; at < n; at += RECV) {
        client_write(&c, frame + at, n - at < RECV ? n - at : RECV);
        turns(&h, 1);
    }
    holds(MESSAGE, "a message in pieces");
    free(frame);
    mark();
    for (int i = 0; i < 16; i++) {
        client_frame(&c, i ? i == 15 ? 0x80 : 0 : 2, payload, MESSAGE / 16);
        turns(&h, 1);
    }
    holds(MESSAGE, "a message in fragments");
    is_int((long long)stats_of(&h).messages_in, 12, "all have arrived");
    stop("messages");
}

static void pause_messages(struct harness *harness, enum event event, ws_conn *conn,
                           ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_MESSAGE)
        ws_conn_pause_messages(conn);
}

static void test_paused(void)
{
    start();
    h.hook = pause_messages;
    open_client();
    mark();
    client_text(&c, "the first");
    turns(&h, 1);
    client_write(&c, payload, EARLY);
    turns(&h, 10);
    holds(RECV, "a connection that is paused");
    stop("paused");
}

static void wait(ws_request *request, void *user)
{
    ws_request_defer(request, NULL, user);
}

static void test_early(void)
{
    start();
    harness_create(&h);
    ws_server_http(h.server, "GET", "/wait", wait, NULL);
    harness_listen(&h);
    client_connect(&c, &h);
    mark();
    client_say(&c, "GET /wait HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 2);
    for (int i = 0; i < 20; i++) {
        client_write(&c, payload, EARLY / 20);
        turns(&h, 2);
    }
    holds(RECV + RECV / 2 + 16 * 100, "bytes before an answer");
    is_int((long long)stats_of(&h).bytes_in / RECV, 1, "no more of them is read");
    stop("early bytes");
}

/* ---- what is sent ---- */

static int sends;
static size_t length_of_each;

static void send_many(struct harness *harness, enum event event, ws_conn *conn,
                      ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    for (int i = 0; event == ON_MESSAGE && i < sends; i++)
        ws_conn_send(conn, payload, length_of_each, WS_BINARY);
}

static void ask(int count, size_t each)
{
    sends = count;
    length_of_each = each;
    client_text(&c, "go");
    turns(&h, 3);
    client_drain(&c);
    c.in_length = 0;
}

static void test_cork(void)
{
    start();
    h.hook = send_many;
    h.behavior.max_backpressure = 0;
    open_client();
    mark();
    kernel.writes = 0;
    ask(MANY, 98); /* 100 bytes with its header */
    holds(CORK, "a handler that sends much");
    is_int((long long)kernel.writes, (MANY + CORK / 100 - 1) / (CORK / 100),
           "a write for each cork that is full");
    mark();
    kernel.writes = 0;
    ask(3, 10 * CORK);
    holds(CORK, "large messages");
    is_int((long long)kernel.writes, 3, "which are written as they are");
    stop("corks");
}

static void publish_many(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)request, (void)data, (void)length;
    for (int i = 0; event == ON_MESSAGE && i < sends; i++)
        ws_server_publish(harness->server, "t", 1, payload, length_of_each, WS_BINARY);
}

static void test_publish(void)
{
    start();
    h.hook = publish_many;
    h.behavior.max_backpressure = 0;
    open_client();
    ws_conn_subscribe(conn_at(&h, 0), "t", 1);
    turns(&h, 1);
    mark();
    ask(MANY, 200);
    holds(CORK + 6 * CORK, "published messages");
    mark();
    ask(3, 10 * CORK);
    holds(CORK, "large published messages");
    ok(h.memory.bytes <= base + 2 * CORK, "E4: what is kept fits into two corks");
    stop("publishes");
}

static void respond(ws_request *request, void *user)
{
    (void)user;
    ws_request_respond(request, 200, NULL, payload, 10 * CORK);
}

static void respond_in_parts(ws_request *request, void *user)
{
    (void)user;
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    for (int i = 0; i < 10; i++)
        ws_request_write(request, payload, CORK);
    for (int i = 0; i < 100; i++)
        ws_request_write(request, payload, CORK / 10);
    ws_request_finish(request);
}

static void test_responses(void)
{
    start();
    harness_create(&h);
    ws_server_http(h.server, "GET", "/whole", respond, NULL);
    ws_server_http(h.server, "GET", "/parts", respond_in_parts, NULL);
    harness_listen(&h);
    client_connect(&c, &h);
    turns(&h, 3);
    mark();
    client_say(&c, "GET /whole HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 3);
    client_drain(&c);
    holds(RECV + CORK + 16 * 100, "a response");
    mark();
    client_say(&c, "GET /parts HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 3);
    client_drain(&c);
    holds(RECV + CORK + 16 * 100, "a response in parts");
    ok(c.received > 20 * CORK + 10 * CORK, "all of both has arrived");
    stop("responses");
}

static void cases(void)
{
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('a' + i % 26);
    CASE(test_ranges());
    CASE(test_idle_server());
    CASE(test_messages());
    CASE(test_paused());
    CASE(test_early());
    CASE(test_cork());
    CASE(test_publish());
    CASE(test_responses());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
