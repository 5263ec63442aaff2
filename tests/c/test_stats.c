/* SPDX-License-Identifier: MIT */
/*
 * test_stats.c: what ws_server_stats counts.
 */
#include "harness.h"

#include <string.h>

static struct harness h;

static void start(void)
{
    harness_init(&h);
    harness_start(&h);
}

static void test_messages(void)
{
    struct client c;
    start();
    client_open(&c, &h);
    client_text(&c, "hello");
    client_frame(&c, 0x02, "ab", 2); /* one message in two fragments */
    client_frame(&c, 0x80, "c", 1);
    client_frame(&c, 0x89, "ping", 4);
    client_drain(&c);
    ws_stats s = stats_of(&h);
    is_int((long long)s.messages_in, 2, "whole messages, no control frames");
    is_int((long long)s.messages_out, 0, "a Pong is no message");
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_send(conn, "12345678", 8, WS_TEXT);
    ws_conn_send(conn, "", 0, WS_BINARY);
    ws_conn_send(conn, "p", 1, WS_PING);
    ws_conn_send_fragment(conn, "123", 3, WS_TEXT, false);
    ws_conn_send(conn, "4", 1, WS_TEXT); /* held back until the message is whole */
    ws_conn_send_fragment(conn, "56", 2, WS_CONTINUATION, true);
    s = stats_of(&h);
    is_int((long long)s.messages_out, 4, "messages, however many fragments they have");
    ws_conn_end(conn, 1000, NULL, 0);
    ws_conn_close(conn);
    is_int((long long)stats_of(&h).messages_out, 4, "no Close");
    client_close(&c);
    harness_stop(&h, "messages");
}

static void test_publications(void)
{
    struct client c[3];
    start();
    for (int i = 0; i < 3; i++) {
        client_open(&c[i], &h);
        ws_conn_subscribe(conn_at(&h, i), "news", 4);
    }
    ws_conn_subscribe(conn_at(&h, 0), "other", 5);
    is_int((long long)stats_of(&h).topics, 2, "topics");
    ws_server_publish(h.server, "news", 4, "1234", 4, WS_TEXT);
    ws_conn_publish(conn_at(&h, 0), "news", 4, "1", 1, WS_TEXT, true);
    ws_server_publish(h.server, "none", 4, "1234", 4, WS_TEXT);
    ws_stats s = stats_of(&h);
    is_int((long long)s.messages_out, 5, "once for each subscriber");
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    turns(&h, 2);
    is_int((long long)stats_of(&h).topics, 0, "no topics without subscribers");
    harness_stop(&h, "publications");
}

static void test_slow_clients(void)
{
    static const char data[20000];
    struct client c;
    harness_init(&h);
    h.send_buffer = 4096;
    harness_start(&h);
    client_open_small(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    int sent = 0;
    while (ws_conn_send(conn, data, sizeof data, WS_BINARY) != WS_DROPPED)
        sent++;
    ws_conn_send(conn, data, sizeof data, WS_BINARY);
    ws_stats s = stats_of(&h);
    is_int((long long)s.dropped, 2, "messages above max_backpressure");
    is_int((long long)s.messages_out, sent, "which were not sent");
    is_int((long long)s.backpressure, 1, "the kernel was full once");
    client_drain(&c);
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, "slow clients");
}

static void close_with(int code)
{
    struct client c;
    char frame[8];
    client_open(&c, &h);
    if (code)
        client_write(&c, frame, make_close(frame, code, ""));
    else
        client_frame(&c, 0x88, "", 0);
    client_drain(&c);
    client_close(&c);
    turns(&h, 2);
}

static void test_close_codes(void)
{
    struct client c;
    start();
    static const int codes[] = {1000, 1000, 1001, 1014, 3000, 3999, 4000, 4500, 4999, 0};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        close_with(codes[i]);
    client_open(&c, &h);
    client_close(&c); /* 1006 */
    turns(&h, 3);
    close_with(999); /* 1002 */
    static const uint64_t want[18] = {[0] = 2, [1] = 1, [2] = 1, [5] = 1, [6] = 1, [14] = 1,
                                      [16] = 2, [17] = 3};
    ws_stats s = stats_of(&h);
    uint64_t total = 0;
    for (int i = 0; i < 18; i++) {
        is_int((long long)s.closed_with[i], (long long)want[i], "code at %d", i);
        total += s.closed_with[i];
    }
    is_int((long long)total, (long long)s.closed, "each close has one code");
    harness_stop(&h, "close codes");
}

static void ask(const char *request)
{
    struct client c;
    client_connect(&c, &h);
    client_say(&c, request);
    client_responses(&c);
    client_close(&c);
    turns(&h, 2);
}

static void respond(ws_request *request, void *user)
{
    ws_request_respond(request, *(int *)user, NULL, "no", 2);
}

static long long refused(int status)
{
    ws_stats s = stats_of(&h);
    for (int i = 0; i < 24; i++)
        if (s.refused_status[i] == status && s.refused_with[i])
            return (long long)s.refused_with[i];
    return 0;
}

static void test_refusals(void)
{
    int status = 403;
    start();
    h.behavior.on_upgrade = respond;
    h.behavior.user = &status;
    ws_server_ws(h.server, "/refused", &h.behavior);
    ws_server_http(h.server, "GET", "/page", respond, &status);
    char handshake[300];
    snprintf(handshake, sizeof handshake, "GET /refused %s", strstr(handshake_request, "HTTP"));
    ask("GET /none HTTP/1.1\r\nHost: t\r\n\r\n");
    ask("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    ask("\r\n\x16\r\n\r\n");
    ask("GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    ask(handshake_request);
    ask(handshake);
    ask(handshake);
    is_int(refused(404), 1, "by the library: 404");
    is_int(refused(426), 1, "426");
    is_int(refused(400), 1, "400");
    is_int(refused(403), 2, "handshakes that the application refused, but no other answer");
    for (status = 430; status < 460; status++)
        ask(handshake);
    is_int(refused(430), 1, "as many statuses as there are places");
    is_int(refused(448), 1, "as many statuses as there are places");
    is_int(refused(449), 0, "then no more");
    is_int(refused(0), 11, "but their sum");
    harness_stop(&h, "refusals");
}

static void cases(void)
{
    CASE(test_messages());
    CASE(test_publications());
    CASE(test_slow_clients());
    CASE(test_close_codes());
    CASE(test_refusals());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
