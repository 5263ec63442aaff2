/* SPDX-License-Identifier: MIT */
/*
 * test_request_defer.c: answers that come after the handler has returned: what arrives meanwhile,
 * a peer that leaves, a time that is over, a server that goes down.
 */
#include "one_request.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int aborted;

static void on_aborted(ws_request *request, void *user)
{
    aborted++;
    ok(request == h.deferred && user == &h, "on_aborted gets what was given");
    is_int(ws_request_upgrade(request, NULL, 0, NULL), WS_ECLOSED, "too late to answer");
    is_int(ws_request_respond(request, 200, NULL, "", 0), WS_ECLOSED, "too late to answer");
    h.deferred = NULL;
}

static void defer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event != ON_UPGRADE && event != ON_HTTP)
        return;
    if (ws_request_defer(request, on_aborted, harness) == WS_OK)
        harness->deferred = request;
}

static void start(void)
{
    harness_init(&h);
    h.hook = defer;
    h.answers = true;
    h.deferred = NULL;
    aborted = 0;
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    client_connect(&c, &h);
}

static void ask(void)
{
    client_say(&c, handshake_request);
    turns(&h, 2);
    ok(h.deferred != NULL, "deferred");
}

static void test_later(void)
{
    size_t n;
    start();
    ask();
    is_responses(&c, "", "no answer yet");
    is_events(&h, "", "no event yet");
    const char *key = ws_request_header(h.deferred, "sec-websocket-key", &n);
    is_mem(key, n, "dGhlIHNhbXBsZSBub25jZQ==", 24, "the request stays valid");
    is_int(ws_request_defer(h.deferred, NULL, NULL), WS_ECLOSED, "deferred once");
    client_text(&c, "early");
    turns(&h, 2);
    is_events(&h, "", "S26: no message before open");
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "upgraded later");
    is_events(&h, "open", "S6: on_open runs before ws_request_upgrade returns");
    turns(&h, 2);
    is_events(&h, "message TEXT early", "H15: what came meanwhile is handled");
    is_responses(&c, "101", "101");
    client_text(&c, "late");
    turns(&h, 2);
    is_events(&h, "message TEXT late", "and what comes then");
    is_int(aborted, 0, "no on_aborted after the answer");
    stop("an upgrade later");
    is_int(aborted, 0, "none at all");
}

static void test_refused_later(void)
{
    start();
    ask();
    client_text(&c, "early");
    turns(&h, 1);
    is_int(ws_request_respond(h.deferred, 403, NULL, "no", 2), WS_OK, "refused later");
    is_responses(&c, "403, EOF", "a refused upgrade closes the connection");
    stop("a refusal later");

    start();
    ask();
    is_int(ws_request_abort(h.deferred), WS_OK, "aborted later");
    is_responses(&c, "EOF", "closed without an answer");
    is_int(aborted, 0, "no on_aborted for our own abort");
    stop("an abort later");
}

static void test_http(void)
{
    start();
    client_say(&c, NEXT NEXT);
    turns(&h, 2);
    ws_request *first = h.deferred;
    ok(first != NULL, "the first request");
    turns(&h, 3);
    ok(h.deferred == first, "H23: the next one waits for its answer");
    h.deferred = NULL;
    is_int(ws_request_respond(first, 200, NULL, "one", 3), WS_OK, "answered");
    turns(&h, 2);
    ok(h.deferred != NULL, "H23: the next one is parsed after it");
    advance(&h, 12000);
    is_int(ws_request_respond(h.deferred, 200, NULL, "two", 3), WS_OK, "answered, after 12 s");
    is_responses(&c, "200 one, 200 two", "H23: in order");
    stop("plain requests");
}

/* Two requests in one packet, of which the first is answered as the last one of its connection. */
static void test_close_after(void)
{
    start();
    client_say(&c, NEXT NEXT);
    turns(&h, 2);
    ws_request_close_after(h.deferred);
    is_int(ws_request_respond(h.deferred, 200, NULL, "one", 3), WS_OK, "answered");
    is_responses(&c, "200 one, EOF", "H23: the next request is not read");
    ok(head_has(&c, "Connection: close\r\n"), "H23: and the client knows");
    stop("ws_request_close_after");

    start();
    ask();
    ws_request_close_after(h.deferred);
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "upgraded");
    client_text(&c, "x");
    turns(&h, 2);
    is_events(&h, "open; message TEXT x", "ws_request_close_after does nothing to a 101");
    stop("ws_request_close_after of a 101");
}

static void test_peer_leaves(void)
{
    start();
    ask();
    client_close(&c);
    turns(&h, 2);
    is_int(aborted, 1, "FIN: on_aborted");
    stop("FIN");

    start();
    ask();
    client_reset(&c);
    turns(&h, 2);
    is_int(aborted, 1, "RST: on_aborted");
    stop("RST");

    start();
    ask();
    harness_stop(&h, "freed while deferred");
    is_int(aborted, 1, "ws_server_free: on_aborted");
    client_close(&c);
}

static void test_time(void)
{
    start();
    ask();
    advance(&h, 29999);
    is_int(aborted, 0, "before upgrade_timeout");
    advance(&h, 1);
    is_int(aborted, 1, "upgrade_timeout: on_aborted");
    is_responses(&c, "503, EOF", "and the client gets 503");
    stop("upgrade_timeout");
}

static void test_shutdown(void)
{
    start();
    ask();
    is_int(ws_server_shutdown(h.server, 1001, NULL, 0, 1000), WS_OK, "shutdown");
    is_int(aborted, 1, "shutdown: on_aborted");
    client_read(&c);
    is_responses(&c, "503, EOF", "half-open handshakes get 503");
    stop("shutdown");
}

static int when;

/* Shutdown inside the handler that defers: before or after. */
static void defer_and_shut_down(struct harness *harness, enum event event, ws_conn *conn,
                                ws_request *request, const char *data, size_t length)
{
    if (event != ON_UPGRADE && event != ON_HTTP)
        return;
    if (when == 0)
        ws_server_shutdown(harness->server, 1001, NULL, 0, 60000);
    if (when < 2)
        defer(harness, event, conn, request, data, length);
    else
        ws_request_respond(request, 200, NULL, "ok", 2);
    if (when > 0)
        ws_server_shutdown(harness->server, 1001, NULL, 0, 60000);
}

/* An upgrade that is deferred while the kernel is full of the response before. */
static void answer_or_defer(struct harness *harness, enum event event, ws_conn *conn,
                            ws_request *request, const char *data, size_t length)
{
    static const char page[60000]; /* less than a cork: the next request is read before it leaves */
    (void)conn;
    (void)data;
    (void)length;
    if (event == ON_HTTP)
        ws_request_respond(request, 200, NULL, page, sizeof page);
    if (event == ON_UPGRADE && !ws_request_defer(request, NULL, NULL))
        harness->deferred = request;
}

/* The client reads nothing until the kernel takes no more. */
static void upgrade_behind_response(void)
{
    char two[512];
    harness_init(&h);
    h.hook = answer_or_defer;
    h.answers = true;
    h.send_buffer = 4096;
    harness_create(&h);
    harness_http(&h, "GET", "/page");
    harness_route(&h, "/");
    harness_listen(&h);
    client_connect_small(&c, &h);
    snprintf(two, sizeof two, NEXT "%s", handshake_request);
    client_say(&c, two);
    for (int i = 0; i < 20; i++) {
        turns(&h, 2);
        usleep(5000);
    }
    is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "an upgrade while blocked");
    h.deferred = NULL;
    turns(&h, 3);
}

static void test_upgrade_behind_response(void)
{
    upgrade_behind_response();
    client_text(&c, "hello");
    turns(&h, 5);
    is_events(&h, "open; message TEXT hello", "a message is read while the kernel is full");
    client_finish(&c);
    turns(&h, 5);
    is_events(&h, "close 1006 connection closed without a Close frame", "so is the end");
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, "upgrade after a response");
}

/* The fields that were added describe the 101 that is not sent. */
static void shut_down_and_upgrade(struct harness *harness, enum event event, ws_conn *conn,
                                  ws_request *request, const char *data, size_t length)
{
    (void)conn;
    (void)data;
    (void)length;
    if (event != ON_UPGRADE)
        return;
    ws_server_shutdown(harness->server, 1001, NULL, 0, 60000);
    ws_request_add_header(request, "X-Room", 6, "blue", 4);
    is_int(ws_request_upgrade(request, NULL, 0, NULL), WS_ECLOSED, "upgrade after shutdown");
}

static void test_upgrade_after_shutdown(void)
{
    start();
    h.hook = shut_down_and_upgrade;
    client_say(&c, handshake_request);
    turns(&h, 3);
    client_read(&c);
    ok(c.in_length && !memmem(c.in, c.in_length, "X-Room", 6), "H21: the 503 has no 101's field");
    is_responses(&c, "503, EOF", "H21: an upgrade in a shutdown gets a 503");
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, "upgrade after shutdown");
}

static void test_shutdown_in_handler(void)
{
    static const char *const want[] = {"503, EOF", "503, EOF", "200 ok, EOF"};
    for (when = 0; when < 3; when++) {
        start();
        h.hook = defer_and_shut_down;
        client_say(&c, NEXT);
        turns(&h, 3);
        is_responses(&c, want[when], "T67: shutdown in the handler of a request");
        client_close(&c);
        turns(&h, 2);
        is_int(ws_server_step(h.server, 0), WS_OK, "T67: and the server is down");
        harness_stop(&h, "shutdown in a handler");
    }
}

static void test_early_limit(void)
{
    char *bytes = malloc(1 << 20);
    size_t n = 0;
    if (!bytes)
        return;
    while (n < 1000000)
        n += make_frame(bytes + n, 0x82, "0123456789", 10);
    for (int together = 0; together < 2; together++) {
        start();
        h.config.recv_buffer_size = 256 * 1024;
        h.quiet = true;
        size_t before, at = 0;
        if (!together)
            ask();
        before = h.memory.bytes;
        if (together)
            client_say(&c, handshake_request);
        for (int i = 0; i < 50; i++) {
            at += client_write(&c, bytes + at, n - at);
            turns(&h, 1);
        }
        ok(h.deferred != NULL, "deferred");
        size_t held = h.memory.bytes - before;
        size_t room = h.tls ? 60u * 1024 : together ? 44u * 1024 : 1024u; /* TLS: and a record */
        ok(held < 64 * 1024 + room,
           "H15: at most 64 KiB are kept (and half as much of room)");
        if (held > 108 * 1024)
            diag("%zu bytes", held);
        struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
        is_int(poll(&ready, 1, 0), 0, "H15: then reading pauses");
        ws_request_upgrade(h.deferred, NULL, 0, NULL);
        for (int i = 0; i < 3000 && at < n; i++) {
            at += client_write(&c, bytes + at, n - at);
            turns(&h, 1);
        }
        client_send_close(&c, 1000, "");
        turns(&h, 300);
        client_responses(&c);
        client_drain(&c);
        is_int(h.closed, 1, "after the answer all of it is read");
        ok(c.eof, "to the end");
        stop("early data");
    }
    free(bytes);
}

static int seen;

static void count_messages(struct harness *harness, enum event event, ws_conn *conn,
                           ws_request *request, const char *data, size_t length)
{
    seen += event == ON_MESSAGE;
    defer(harness, event, conn, request, data, length);
}

static void test_early_count(void)
{
    char bytes[20000];
    size_t n = 0;
    start();
    h.hook = count_messages;
    h.quiet = true;
    ask();
    for (int i = 0; i < 1800; i++)
        n += make_frame(bytes + n, 0x82, "1234", 4);
    client_write(&c, bytes, n);
    turns(&h, 3);
    seen = 0;
    ws_request_upgrade(h.deferred, NULL, 0, NULL);
    turns(&h, 5);
    is_int(seen, 1800, "H15: none lost, none twice");
    stop("early messages");
}

static void close_in_open(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    defer(harness, event, conn, request, data, length);
    if (event == ON_OPEN && when)
        ws_conn_close(conn);
    else if (event == ON_OPEN)
        ws_conn_end(conn, 1000, NULL, 0);
}

static void test_close_in_open(void)
{
    for (when = 0; when < 2; when++) {
        start();
        h.hook = close_in_open;
        ask();
        client_text(&c, "early");
        turns(&h, 2);
        is_int(ws_request_upgrade(h.deferred, NULL, 0, NULL), WS_OK, "T61: closed in on_open");
        turns(&h, 3);
        is_events(&h, when ? "open; close 1006 closed by the server" : "open; close 1000",
                  "T61, S26: open and close, no message");
        stop("close in on_open, deferred");
    }
}

static void respond_403(ws_request *request)
{
    ws_request_respond(request, 403, NULL, "no", 2);
}

static void accept_it(ws_request *request)
{
    ws_request_upgrade(request, NULL, 0, NULL);
}

static void abort_it(ws_request *request)
{
    ws_request_abort(request);
}

static void peer_leaves(ws_request *request)
{
    (void)request;
    client_close(&c);
}

static void time_expires(ws_request *request)
{
    (void)request;
    advance(&h, 40000);
}

static void abort_untracked(ws_request *request)
{
    ws_request_track(request, NULL);
    ws_request_abort(request);
}

static void test_track(void)
{
    static const struct {
        const char *name;
        void (*end)(ws_request *request);
        bool kept;
    } cases[] = {{"answered", respond_403, false},   {"upgraded", accept_it, false},
                 {"aborted", abort_it, false},       {"the peer leaves", peer_leaves, false},
                 {"its time is over", time_expires, false},
                 {"not tracked any more", abort_untracked, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_request *place;
        start();
        ask();
        place = h.deferred;
        ws_request_track(place, &place);
        turns(&h, 2);
        ok(place && place == h.deferred, "the address stays while the request lives");
        cases[i].end(place);
        turns(&h, 2);
        ok(cases[i].kept == (place != NULL), "%s: the address is %s", cases[i].name,
           cases[i].kept ? "left alone" : "forgotten");
        stop(cases[i].name);
    }
}

static void cases(void)
{
    CASE(test_later());
    CASE(test_refused_later());
    CASE(test_http());
    CASE(test_close_after());
    CASE(test_peer_leaves());
    CASE(test_time());
    CASE(test_shutdown());
    CASE(test_shutdown_in_handler());
    CASE(test_upgrade_after_shutdown());
    CASE(test_upgrade_behind_response());
    CASE(test_early_limit());
    CASE(test_early_count());
    CASE(test_close_in_open());
    CASE(test_track());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
