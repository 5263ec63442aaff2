/* SPDX-License-Identifier: MIT */
/*
 * test_drain.c: ws_server_drain: no new connections, the old ones may finish.
 */
#include "harness.h"

#include <string.h>

#define PAGE "GET /page HTTP/1.1\r\nHost: t\r\n\r\n"

static struct harness h;

static void answer_later(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event != ON_HTTP)
        return;
    ws_request_defer(request, NULL, NULL);
    harness->deferred = request;
}

static void start(void)
{
    harness_init(&h);
    h.echo = true;
    harness_start(&h);
    harness_http(&h, "GET", "/page");
}

static bool is_over(void)
{
    return ws_server_step(h.server, 0) == WS_OK;
}

static void test_sockets_go_on(void)
{
    struct client c, late;
    start();
    client_open(&c, &h);
    is_int(ws_server_drain(h.server), WS_OK, "P9: drain");
    is_int(ws_server_drain(h.server), WS_OK, "P9: twice");
    ok(!ws_server_unlisten(h.server), "P9: it no longer listens");
    client_connect(&late, &h);
    turns(&h, 3);
    client_say(&late, handshake_request);
    is_int((long long)stats_of(&h).accepted, 1, "P9: nothing more is accepted");
    client_close(&late);
    client_text(&c, "x");
    is_frames(&c, "TEXT x", "P9: an open socket is served as before");
    advance(&h, 60000);
    ok(!is_over(), "P9: for as long as it is there");
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    is_int(ws_server_listen(h.server, &options), WS_ESTOPPED, "P9: nor may it listen again");
    client_send_close(&c, 1000, "");
    is_frames(&c, "CLOSE 1000, EOF", "P9: the client has finished");
    client_close(&c);
    turns(&h, 2);
    ok(is_over(), "P9: the server has shut down with its last connection");
    ok(is_over(), "P9: and stays so");
    ok(ws_server_listen(h.server, &options) > 0, "P9: it may listen again");
    ok(!is_over(), "P9: and run");
    harness_stop(&h, "P9: a drain that ends by itself");
}

static void test_nothing_to_wait_for(void)
{
    start();
    ws_server_drain(h.server);
    ok(is_over(), "P9: without connections it is over at once");
    harness_stop(&h, "P9: a drain without connections");
}

static void test_shutdown_ends_it(void)
{
    struct client c;
    start();
    client_open(&c, &h);
    ws_server_drain(h.server);
    turns(&h, 3);
    is_int(ws_server_shutdown(h.server, 1012, "restart", 7, 1000), WS_OK, "P9: shutdown");
    is_int(ws_server_drain(h.server), WS_OK, "P9: too late, which is no error");
    is_frames(&c, "CLOSE 1012 restart", "P9: then the Close goes out");
    ok(!is_over(), "P9: the client may answer");
    advance(&h, 1001);
    ok(is_over(), "P9: within the time of the shutdown");
    client_close(&c);
    harness_stop(&h, "P9: a drain that a shutdown ends");
}

static void test_http_connections(void)
{
    struct client idle, half, busy, sent;
    start();
    client_connect(&idle, &h);
    client_say(&idle, PAGE);
    is_responses(&idle, "200 /page", "an HTTP connection that is kept");
    client_connect(&half, &h);
    client_say(&half, "GET /page HTTP/1.1\r\n");
    h.answers = true;
    h.hook = answer_later;
    client_connect(&busy, &h);
    client_say(&busy, PAGE);
    turns(&h, 3);
    h.hook = NULL;
    h.answers = false;
    client_connect(&sent, &h);
    turns(&h, 2);
    client_say(&sent, PAGE);
    ws_server_drain(h.server);
    is_responses(&idle, "EOF", "P9: one without a request ends");
    client_close(&idle);
    is_responses(&sent, "200 /page, EOF", "P9: but not if a request has arrived");
    ok(head_has(&sent, "Connection: close"), "P9: which says that it is the last one");
    client_say(&half, "Host: t\r\n\r\n" PAGE);
    is_responses(&half, "200 /page, EOF", "P9: half a request may be completed");
    is_int(ws_request_respond(h.deferred, 200, NULL, "late", 4), WS_OK, "a deferred answer");
    is_responses(&busy, "200 late, EOF", "P9: a deferred answer is the last one");
    client_close(&busy);
    client_close(&half);
    client_close(&sent);
    turns(&h, 3);
    ok(is_over(), "P9: then it is over");
    harness_stop(&h, "P9: HTTP connections");
}

static void test_handshakes(void)
{
    struct client c;
    start();
    client_connect(&c, &h);
    client_write(&c, handshake_request, 20);
    turns(&h, 3);
    ws_server_drain(h.server);
    client_say(&c, handshake_request + 20);
    is_responses(&c, "503, EOF", "P9: a handshake that is completed too late gets a 503");
    client_close(&c);
    turns(&h, 2);
    ok(is_over(), "P9: and holds nothing up");
    harness_stop(&h, "P9: handshakes");
}

static bool answers_first;

static void drain_at_once(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event == ON_HTTP && answers_first)
        ws_request_respond(request, 200, NULL, "first", 5);
    ws_server_drain(harness->server);
    if (event == ON_HTTP && !answers_first)
        ws_request_respond(request, 200, NULL, "then", 4);
}

static void test_in_a_request(void)
{
    struct client c;
    start();
    h.hook = drain_at_once;
    h.answers = true;
    client_connect(&c, &h);
    client_say(&c, PAGE PAGE);
    is_responses(&c, answers_first ? "200 first, EOF" : "200 then, EOF",
                 "P9: no request after the current one");
    client_close(&c);
    turns(&h, 2);
    ok(is_over(), "P9: then it is over");
    harness_stop(&h, "P9: in the handler of a request");
}

static void test_in_handlers(void)
{
    struct client c;
    answers_first = false;
    test_in_a_request();
    answers_first = true;
    test_in_a_request();
    start();
    h.hook = drain_at_once;
    client_open(&c, &h);
    client_text(&c, "x");
    client_drain(&c);
    is_frames(&c, "TEXT x", "P9: in every handler of a socket");
    client_close(&c);
    turns(&h, 2);
    ok(is_over(), "P9: then it is over");
    harness_stop(&h, "P9: in every handler of a socket");
}

static void cases(void)
{
    CASE(test_sockets_go_on());
    CASE(test_nothing_to_wait_for());
    CASE(test_shutdown_ends_it());
    CASE(test_http_connections());
    CASE(test_handshakes());
    CASE(test_in_handlers());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
