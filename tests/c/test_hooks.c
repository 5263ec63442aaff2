/* SPDX-License-Identifier: MIT */
/*
 * test_hooks.c: what an application may put in the place of the wall clock and of the kernel's
 * random numbers, and the lines about peers that are refused. E4.
 */
#include "harness.h"

#include <stdlib.h>

static struct harness h;
static struct client c;

/* ---- the wall clock ---- */

static uint64_t seconds;
static int looks, busy;

static uint64_t wall_clock(void *user)
{
    struct harness *harness = user;
    looks++;
    busy += harness->server && ws_server_step(harness->server, 0) == WS_EBUSY;
    return seconds;
}

static void start(void)
{
    harness_init(&h);
    h.config.wall_clock = wall_clock;
    looks = busy = 0;
}

static void get(void)
{
    client_connect(&c, &h);
    client_say(&c, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    client_responses(&c);
    client_close(&c);
    turns(&h, 3);
}

static void serve_page(void)
{
    harness_create(&h);
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
}

static void test_clock(void)
{
    start();
    serve_page();
    seconds = 784111777;
    get();
    ok(head_has(&c, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "E4: Date is what the hook says");
    get();
    is_int(looks, 2, "it is asked for each response");
    is_int(busy, 2, "and is a callback like others");
    seconds++;
    get();
    ok(head_has(&c, "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"), "the next second");
    seconds = 0;
    get();
    ok(head_has(&c, "200 OK") && !head_has(&c, "Date:"), "E4: no Date while it does not know");
    seconds = 1;
    get();
    ok(head_has(&c, "Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n"), "once it knows, there is one");
    seconds = UINT64_MAX;
    get();
    ok(head_has(&c, "200 OK") && head_has(&c, " GMT\r\n"), "no value is too large");
    harness_stop(&h, "a wall clock");
}

static void test_no_clock(void)
{
    start();
    h.config.wall_clock = NULL;
    serve_page();
    get();
    ok(head_has(&c, "200 OK") && head_has(&c, "Content-Length: 5\r\n"), "there is a response");
    ok(!head_has(&c, "Date:"), "E4: without a clock it has no Date");
    harness_stop(&h, "no clock");
    harness_init(&h);
    serve_page();
    get();
    ok(head_has(&c, "Date: "), "by default there is a clock");
    harness_stop(&h, "the default clock");
}

/* ---- random bytes ---- */

static int draws;
static size_t drawn;

static void fill(void *user, void *bytes, size_t length)
{
    (void)user;
    memset(bytes, 0x5a, length);
    draws++;
    drawn += length;
}

static void test_random(void)
{
    harness_init(&h);
    h.config.random = fill;
    draws = 0;
    drawn = 0;
    harness_start(&h);
    client_open(&c, &h);
    is_int(ws_conn_subscribe(conn_at(&h, 0), "topic", 5), 1, "topics are found");
    is_int(ws_conn_subscribe(conn_at(&h, 0), "topic", 5), 0, "again");
    is_int(draws, 1, "E4: the hook is called once");
    is_int((long long)drawn, 16, "for 16 bytes");
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, "random");
}

/* ---- refusals ---- */

static const char *const origins[] = {"https://good.example", NULL};

static void refuse(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                   const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event == ON_UPGRADE)
        ws_request_respond(request, 401, NULL, "who are you?", 12);
    else
        ws_request_respond(request, 404, NULL, "not here", 8);
}

static const char upgrade[] = "GET /socket HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

static void say_twice(const char *head, const char *more)
{
    client_connect(&c, &h);
    client_say(&c, head);
    client_say(&c, more);
    client_responses(&c);
    client_close(&c);
    turns(&h, 3);
}

static int lines(void)
{
    int count = 0;
    for (size_t i = 0; i < h.log_length; i++)
        count += h.log[i] == '\n';
    return count;
}

static void test_refusals(bool logged)
{
    harness_init(&h);
    h.config.log_refusals = logged;
    h.config.max_connections = 2;
    h.behavior.origins = origins;
    h.answers = true;
    h.hook = refuse;
    harness_create(&h);
    harness_route(&h, "/socket");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    say_twice(upgrade, "Origin: https://bad.example\r\n\r\n");
    say_twice(upgrade, "Origin: https://good.example\r\n\r\n");
    say_twice("GET /socket HTTP/1.1\r\n", "Host: t\r\n\r\n");
    say_twice("GET /other HTTP/1.1\r\n", "Host: t\r\n\r\n");
    say_twice("GET / HTTP/1.1\r\nbroken\r\n", "\r\n");
    say_twice("GET /\x01\r\n HTTP/1.1\r\nHost: t\r\n", "\r\n");
    is_int(lines(), logged ? 6 : 0, "E4: %s", logged ? "a line for each" : "no lines by default");
    if (logged) {
        ok(log_has(&h, "refused 127.0.0.1:") && log_has(&h, ": 403 Forbidden"), "an Origin");
        ok(log_has(&h, ", /socket\n"), "with its path");
        ok(log_has(&h, ": 401 Unauthorized, /socket\n"), "what the application refuses");
        ok(log_has(&h, ": 426 Upgrade Required: this resource speaks"), "a plain request");
        ok(log_has(&h, ": 404 Not Found, /other\n"), "an unknown path");
        ok(log_has(&h, ": 400 Bad Request: the request head is malformed\n"), "a broken head");
    }
    say_twice("GET /page HTTP/1.1\r\n", "Host: t\r\n\r\n");
    is_int(lines(), logged ? 6 : 0, "an answer of the application is no refusal");
    harness_stop(&h, "refusals");
}

static void test_sockets(void)
{
    enum { RESERVE = 64, LIMIT = 2, ALL = RESERVE + LIMIT + 3 };
    static struct client clients[ALL];
    harness_init(&h);
    h.tls = false;
    h.config.log_refusals = true;
    h.config.max_connections = LIMIT;
    harness_start(&h);
    for (int i = 0; i < ALL; i++)
        client_connect(&clients[i], &h);
    turns(&h, 3);
    int cut = 0, answered = 0;
    for (const char *at = h.log; (at = strstr(at, "refused 127.0.0.1:")); at++) {
        cut += !strncmp(strchr(at, ' ') + 1 + strcspn(strchr(at, ' ') + 1, " "),
                        " max_connections\n", 17);
        answered += strstr(at, ": 503 Service Unavailable\n") != NULL;
    }
    is_int(cut, 3, "E4: a line for each socket that is closed at once");
    ok(answered > 0, "and for those that get an answer");
    is_int(lines(), RESERVE + 3, "one for each");
    for (int i = 0; i < ALL; i++)
        client_close(&clients[i]);
    turns(&h, 5);
    harness_stop(&h, "sockets");
}

/* The log function may do what callbacks may. */
static void shut_down(void *user, int level, const char *line, size_t length)
{
    struct harness *harness = user;
    (void)line, (void)length;
    if (level == WS_LOG_DEBUG)
        ws_server_shutdown(harness->server, 1001, NULL, 0, 1000);
}

static void test_log_function(void)
{
    harness_init(&h);
    h.config.log_refusals = true;
    h.config.log = shut_down;
    harness_start(&h);
    say_twice("GET /other HTTP/1.1\r\n", "Host: t\r\n\r\n");
    turns(&h, 5);
    is_int(ws_server_step(h.server, 0), WS_OK, "a log function that shuts the server down");
    harness_stop(&h, "the log function");
}

static void cases(void)
{
    CASE(test_clock());
    CASE(test_no_clock());
    CASE(test_random());
    CASE(test_refusals(false));
    CASE(test_refusals(true));
    CASE(test_sockets());
    CASE(test_log_function());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
