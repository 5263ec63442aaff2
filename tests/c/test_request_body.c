/* SPDX-License-Identifier: MIT */
/*
 * test_request_body.c: bodies of requests as an application reads them and as a peer sends them:
 * pieces, backpressure, 100-continue, limits, time, what is discarded, and what becomes of the
 * connection.
 */
#include "one_request.h"

#include <stdlib.h>

#define POST "POST /up HTTP/1.1\r\nHost: t\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define EXPECT "Expect: 100-continue\r\n"

static struct {
    ws_request *request; /* until it is answered */
    char content[1 << 20];
    size_t length, most; /* bytes of content; of a piece */
    int pieces, lasts, aborted;
    int refusal; /* what on_aborted learns */
    uint64_t max_size;
    int result; /* of ws_request_read_body */
    /* What is done, and at which piece (from 1; 0: never). */
    int answer_at, pause_at, abort_at, shutdown_at;
    bool later, silent, defers; /* reads later; does not answer; by ws_request_defer first */
} up;

static void on_aborted(ws_request *request, void *user)
{
    ok(request == up.request && user == &up, "on_aborted gets what was given");
    is_int(ws_request_read_body(request, 1, NULL, NULL), WS_ECLOSED, "too late to read");
    up.aborted++;
    up.refusal = ws_request_refusal(request);
    up.request = NULL;
}

static void answer(void)
{
    char text[64];
    ws_request *request = up.request;
    int n = snprintf(text, sizeof text, "%zu", up.length);
    up.request = NULL;
    is_int(ws_request_respond(request, 200, NULL, text, (size_t)n), WS_OK, "answered");
}

static void on_body(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    ok(request == up.request && user == &up, "on_body gets what was given");
    up.pieces++;
    up.lasts += last;
    up.most = length > up.most ? length : up.most;
    if (up.length + length <= sizeof up.content)
        memcpy(up.content + up.length, data, length);
    up.length += length;
    if (up.pieces == up.pause_at)
        ws_request_pause_body(request);
    if (up.pieces == up.shutdown_at)
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    if (up.pieces == up.abort_at) {
        up.request = NULL;
        ws_request_abort(request);
    } else if (up.pieces == up.answer_at || (last && !up.silent && !up.answer_at)) {
        answer();
    }
}

static void read_now(void)
{
    up.result = ws_request_read_body(up.request, up.max_size, on_body, &up);
}

static void handler(ws_request *request, void *user)
{
    (void)user;
    ok(!up.request, "the request before is done with");
    up.request = request;
    up.length = 0;
    up.pieces = up.lasts = 0;
    up.result = WS_OK;
    if (up.defers || up.later)
        up.result = ws_request_defer(request, on_aborted, &up);
    if (!up.later && !up.result)
        read_now();
    if (up.result)
        up.request = NULL; /* answered, or the library answers it with a 500 */
}

static void ignore(ws_request *request, void *user)
{
    (void)user;
    ws_request_respond(request, 200, NULL, "ignored", 7);
}

static void start(void)
{
    memset(&up, 0, sizeof up);
    up.max_size = sizeof up.content;
    up.defers = true;
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/");
    ws_server_http(h.server, "POST", "/up", handler, NULL);
    ws_server_http(h.server, "GET", "/up", handler, NULL);
    ws_server_http(h.server, "POST", "/ignore", ignore, NULL);
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    client_connect(&c, &h);
}

/* A request on a connection of its own: the body, and the answers. */
static void expect(const char *request, const char *body, const char *want, const char *name)
{
    up.length = 0;
    up.aborted = up.pieces = up.lasts = 0;
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, request);
    is_responses(&c, want, name);
    if (body) {
        is_mem(up.content, up.length, body, strlen(body), "%s: the body", name);
        is_int(up.lasts, 1, "one last piece");
    }
}

static void test_bodies(void)
{
    start();
    expect(POST "Content-Length: 5\r\n\r\nhello", "hello", "200 5", "W1: Content-Length");
    expect(POST CHUNKED "\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nA: b\r\n\r\n", "hello world",
           "200 11", "W1, H26: chunks, an extension, a trailer");
    expect(POST CHUNKED "\r\n0\r\n\r\n", "", "200 0", "W1: no chunk");
    expect(POST "Content-Length: 0\r\n\r\n", "", "200 0", "W1: an empty body");
    expect(POST "\r\n", "", "200 0", "W1: none");
    expect("GET /up HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc", "abc", "200 3",
           "W1: a body on GET");
    expect("POST /up HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "abc", "200 3, EOF",
           "W1: in HTTP/1.0");
    expect(POST "Content-Length: 3\r\n\r\nabc" POST CHUNKED "\r\n2\r\nde\r\n0\r\n\r\n" NEXT, "de",
           "200 3, 200 2, 200 /page", "W1, H23: pipelined after bodies");
    stop("bodies");
}

/* Two requests with bodies and one without, at every split and byte by byte. */
static void test_splits(void)
{
    static const char all[] =
        POST "Content-Length: 5\r\n\r\nhello" POST CHUNKED "\r\n3\r\nabc\r\n0\r\n\r\n" NEXT;
    const size_t n = sizeof all - 1;
    int failures = 0;
    start();
    h.quiet = true;
    for (size_t at = 0; at < n; at++) {
        client_close(&c);
        client_connect(&c, &h);
        for (size_t i = 0; at == 0 && i < n; i++) {
            client_write(&c, all + i, 1);
            turns(&h, 1);
        }
        if (at) {
            client_write(&c, all, at);
            turns(&h, 2);
            client_write(&c, all + at, n - at);
        }
        if (strcmp(client_responses(&c), "200 5, 200 3, 200 /page")) {
            failures++;
            diag("split at %zu", at);
        }
    }
    is_int(failures, 0, "W1, H23: the same in every split");
    stop("splits");
}

/* Sends a request, and looks for a text in what comes back. */
static void expect_text(const char *request, const char *want, const char *name)
{
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, request);
    client_drain(&c);
    ok(c.in && memmem(c.in, c.in_length, want, strlen(want)), "%s", name);
}

static void test_refused(void)
{
    static const char why[] = "\r\n\r\n413 Content Too Large: max_body_size is 10 bytes\n";
    start();
    up.max_size = 10;
    expect_text(POST "Content-Length: 11\r\n\r\n", why, "H26: a 413 names the limit");
    expect_text(POST CHUNKED "\r\n6\r\n123456\r\n5\r\n12345\r\n0\r\n\r\n", why,
                "H26: also where a chunk exceeds it");
    expect_text(POST "Transfer-Encoding: gzip\r\n\r\n",
                "\r\n\r\n501 Not Implemented: chunked is the only known transfer coding\n",
                "H19: a 501 says what is not implemented");
    expect(POST "Content-Length: 10\r\n\r\n0123456789", "0123456789", "200 10", "the limit");
    expect(POST "Content-Length: 11\r\n" EXPECT "\r\n", NULL, "413, EOF", "H26: 413 before a 100");
    is_int(up.aborted, 1, "on_aborted");
    is_int(up.refusal, 413, "W1: which learns of the 413");
    is_int(up.pieces, 0, "nothing is handed out");
    expect(POST CHUNKED "\r\n6\r\n123456\r\n5\r\n12345\r\n0\r\n\r\n", NULL, "413, EOF",
           "H26: chunks above the limit: 413");
    is_int(up.aborted, 1, "on_aborted");
    is_int(up.refusal, 413, "which learns of it");
    is_mem(up.content, up.length, "123456", 6, "what was within it");
    expect(POST CHUNKED "\r\n6\r\n123456x\r\n", NULL, "400, EOF", "H26: malformed: 400");
    is_int(up.aborted, 1, "on_aborted");
    is_int(up.refusal, 400, "which learns of the 400");
    expect(POST CHUNKED EXPECT "\r\n", NULL, "100", "W1: the 100 of a chunked body");
    client_close(&c);
    turns(&h, 2);
    up.defers = false;
    expect(POST "Content-Length: 11\r\n\r\n01234567890", NULL, "413, EOF",
           "H26: 413 without an on_aborted");
    up.request = NULL;
    expect(POST CHUNKED "\r\nx", NULL, "400, EOF", "H26: 400 without one");
    up.request = NULL;
    expect("POST / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Content-Length: 1\r\n\r\nx", NULL, "400, EOF", "H14: an upgrade with a body");
    stop("refused");
}

static void test_continue(void)
{
    start();
    client_say(&c, POST "Content-Length: 5\r\n" EXPECT "\r\n");
    is_responses(&c, "100", "H25: the handler wants the body: 100");
    ok(!strcmp(c.head, "HTTP/1.1 100 Continue\r\n\r\n"), "H25: which has no field");
    client_say(&c, "hello" NEXT);
    is_responses(&c, "200 5, 200 /page", "then the answer, and the connection is kept");
    up.later = true;
    client_say(&c, POST "Content-Length: 5\r\n" EXPECT "\r\n");
    is_responses(&c, "", "H25: no 100 before the body is read");
    read_now();
    is_responses(&c, "100", "H25: 100 once it is");
    client_say(&c, "hello");
    is_responses(&c, "200 5", "and the answer");
    client_say(&c, POST "Content-Length: 5\r\n" EXPECT "\r\nhel");
    turns(&h, 2);
    read_now();
    client_say(&c, "lo");
    is_responses(&c, "200 5", "H25: no 100 for a client that did not wait");
    up.later = false;
    expect(POST "Content-Length: 5\r\n" EXPECT "\r\nhello", "hello", "200 5",
           "H25: nor together with the head");
    expect("POST /up HTTP/1.0\r\nContent-Length: 5\r\n" EXPECT "\r\nhello", "hello", "200 5, EOF",
           "H25: ignored in HTTP/1.0");
    expect(POST "Content-Length: 5\r\nExpect: 200-maybe\r\n\r\n", NULL, "417, EOF",
           "H25: another expectation: 417");
    expect(POST "Expect: 200-maybe\r\n\r\n", "", "200 0", "H25: without a body, it is ignored");
    expect("POST /ignore HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n" EXPECT "\r\n", NULL,
           "200 ignored, EOF", "H25: a final answer without a 100 ends the connection");
    ok(head_has(&c, "Connection: close\r\n"), "and says so");
    expect("POST /none HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n" EXPECT "\r\n", NULL,
           "404, EOF", "H25: so does a 404");
    stop("100-continue");
}

/* n bytes of body, of which the client sends `sent`. */
static void ignored(const char *framing, size_t sent, const char *tail, const char *want,
                    const char *name)
{
    static char body[600 * 1024];
    char head[200];
    snprintf(head, sizeof head, "POST /ignore HTTP/1.1\r\nHost: t\r\n%s\r\n\r\n", framing);
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, head);
    memset(body, '0', sizeof body); /* also the digits of a size */
    for (size_t done = 0, tries = 0; done < sent && tries < 1000; tries++) {
        done += client_write(&c, body, sent - done);
        turns(&h, 1);
    }
    client_say(&c, tail);
    client_say(&c, NEXT);
    is_responses(&c, want, name);
}

static void test_discarded(void)
{
    start();
    ignored("Content-Length: 1000", 1000, "", "200 ignored, 200 /page",
            "W1: what is not read is discarded");
    ignored("Content-Length: 262144", 262144, "", "200 ignored, 200 /page", "W1: up to 256 KiB");
    ignored("Content-Length: 262145", 262145, "", "200 ignored, EOF", "W1: more: it ends");
    ok(head_has(&c, "Connection: close\r\n"), "and the client knows");
    ignored("Content-Length: 600000", 600000, "", "200 ignored, EOF", "W1: readable, no reset");
    ignored("Transfer-Encoding: chunked\r\nA: b", 0, "5\r\nhello\r\n0\r\n\r\n",
            "200 ignored, 200 /page", "W1: chunks are discarded");
    ignored("Transfer-Encoding: chunked\r\nA: b", 0, "5\r\nhellox\r\n0\r\n\r\n",
            "200 ignored, EOF", "W1: chunks that are malformed after the answer");
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, "POST /none HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nabcd" NEXT);
    is_responses(&c, "404, 200 /page", "H21, W1: a 404 with a body");
    client_say(&c, "PUT /page HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nabcd" NEXT);
    is_responses(&c, "405, 200 /page", "H21, W1: a 405 with a body");
    stop("discarded");
}

/* Chunks without an end. */
static void test_discard_limit(void)
{
    static char chunk[1024 + 8];
    size_t sent = 0;
    start();
    client_say(&c, "POST /ignore HTTP/1.1\r\nHost: t\r\n" CHUNKED "\r\n");
    memset(chunk, 'x', sizeof chunk);
    memcpy(chunk, "400\r\n", 5);
    memcpy(chunk + 5 + 1024, "\r\n", 2);
    for (int i = 0; i < 1000 && !c.eof; i++) {
        sent += client_write(&c, chunk, 5 + 1024 + 2);
        turns(&h, 1);
        client_read(&c);
    }
    is_responses(&c, "200 ignored, EOF", "W1: chunks without an end: answered, then FIN");
    ok(sent < 400 * 1024, "W1: after about 256 KiB: %zu", sent);
    stop("the limit of discarding");
}

static void test_answered_early(void)
{
    start();
    up.answer_at = 1;
    client_say(&c, POST CHUNKED "\r\n5\r\nhello\r\n");
    is_responses(&c, "200 5", "W1: answered before the body is complete");
    client_say(&c, "5\r\nworld\r\n0\r\n\r\n" NEXT);
    is_responses(&c, "200 /page", "the rest is discarded");
    is_int(up.pieces, 1, "on_body does not run after the answer");
    is_int(up.lasts, 0, "not even at the end");
    up.answer_at = 0;
    client_say(&c, POST "Content-Length: 4\r\n\r\nab");
    turns(&h, 2);
    answer();
    client_say(&c, "cd" NEXT);
    is_responses(&c, "200 2, 200 /page", "W1: answered between two pieces");
    up.abort_at = 1;
    client_say(&c, POST "Content-Length: 4\r\n\r\nab");
    is_responses(&c, "EOF", "aborted in on_body");
    is_int(up.aborted, 0, "no on_aborted for our own abort");
    stop("answered early");
}

static void test_backpressure(void)
{
    static char block[64 * 1024];
    size_t sent = 0, before;
    start();
    up.max_size = 10000000;
    up.pause_at = 1;
    client_say(&c, POST "Content-Length: 10000000\r\n\r\n0123");
    turns(&h, 2);
    is_int(up.pieces, 1, "the first piece");
    before = stats_of(&h).memory;
    for (int i = 0; i < 1000; i++) {
        sent += client_write(&c, block, sizeof block);
        turns(&h, 1);
    }
    is_int(up.pieces, 1, "W1: nothing is handed out while it is paused");
    ok(sent < 9000000, "W1: the client is slowed down: %zu", sent);
    ok(stats_of(&h).memory - before < 110 * 1024, "W1: at most 64 KiB are kept, in a block: %zu",
       stats_of(&h).memory - before);
    advance(&h, 100000);
    is_int(up.aborted, 0, "W1: no time limit while it is paused");
    ws_request_resume_body(up.request);
    for (int i = 0; i < 10000 && sent < 10000000 - 4; i++) {
        size_t left = 10000000 - 4 - sent;
        sent += client_write(&c, block, left < sizeof block ? left : sizeof block);
        turns(&h, 1);
    }
    turns(&h, 200);
    is_responses(&c, "200 10000000", "W1: resumed, and complete");
    ok(up.most <= 64 * 1024, "pieces of at most 64 KiB");
    stop("backpressure");
}

static void test_peer_leaves(void)
{
    for (int paused = 0; paused < 2; paused++) {
        start();
        up.pause_at = paused;
        client_say(&c, POST "Content-Length: 10\r\n\r\n0123");
        turns(&h, 2);
        client_finish(&c);
        turns(&h, 2);
        is_int(up.aborted, 1, "FIN in the body: on_aborted");
        is_int(up.refusal, 0, "W1: the client has left, and gets nothing");
        stop("FIN");
        start();
        up.pause_at = paused;
        client_say(&c, POST "Content-Length: 10\r\n\r\n0123");
        turns(&h, 2);
        client_reset(&c);
        turns(&h, 2);
        is_int(up.aborted, 1, "RST in the body: on_aborted");
        is_int(up.refusal, 0, "nor here");
        stop("RST");
    }
    start();
    client_say(&c, POST "Content-Length: 10\r\n\r\n0123");
    turns(&h, 2);
    harness_stop(&h, "freed in a body");
    is_int(up.aborted, 1, "ws_server_free: on_aborted");
    client_close(&c);

    start();
    client_say(&c, POST "Content-Length: 4\r\n\r\n0123");
    client_finish(&c);
    is_responses(&c, "200 4, EOF", "a client that sends FIN after the body is answered");
    stop("FIN after the body");
}

static void test_time(void)
{
    start();
    client_say(&c, POST "Content-Length: 1000\r\n\r\n");
    turns(&h, 2);
    for (int i = 0; i < 29; i++) {
        advance(&h, 1000);
        client_say(&c, "x");
        turns(&h, 2);
    }
    is_int(up.aborted, 0, "T14: before body_timeout");
    advance(&h, 1000);
    is_int(up.aborted, 1, "T14, H22: a trickle does not extend body_timeout: on_aborted");
    is_int(up.refusal, 408, "which learns of the 408");
    is_responses(&c, "408, EOF", "T14, H22: and 408");
    stop("a trickle");

    start();
    client_say(&c, POST "Content-Length: 1000000\r\n\r\n");
    turns(&h, 2);
    for (int i = 0; i < 60; i++) {
        static const char block[16 * 1024];
        client_write(&c, block, sizeof block);
        turns(&h, 2);
        advance(&h, 29000);
    }
    is_int(up.aborted, 0, "W1: 16 KiB in each body_timeout are enough");
    up.silent = true;
    client_write(&c, up.content, 1000000 - 60 * 16 * 1024);
    turns(&h, 3);
    is_int(up.lasts, 1, "complete");
    advance(&h, 29999);
    is_int(up.aborted, 0, "upgrade_timeout counts from the end of the body");
    advance(&h, 1);
    is_int(up.aborted, 1, "then on_aborted");
    is_int(up.refusal, 503, "which learns of the 503");
    is_responses(&c, "503, EOF", "and 503");
    stop("progress");

    start();
    client_say(&c, "POST /ignore HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    is_responses(&c, "200 ignored", "answered");
    advance(&h, 29999);
    is_responses(&c, "", "W1: body_timeout counts for what is discarded");
    advance(&h, 1);
    is_responses(&c, "EOF", "W1: and ends the connection");
    stop("the time of discarding");
}

static void test_shutdown(void)
{
    start();
    client_say(&c, POST "Content-Length: 10\r\n\r\n0123");
    turns(&h, 2);
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_int(up.aborted, 1, "a shutdown in the middle of a body: on_aborted");
    is_responses(&c, "503, EOF", "and 503");
    stop("a shutdown");

    start();
    up.shutdown_at = 1;
    client_say(&c, POST "Content-Length: 10\r\n\r\n0123");
    is_responses(&c, "503, EOF", "a shutdown in on_body");
    is_int(up.aborted, 1, "on_aborted, once");
    stop("a shutdown in on_body");

    start();
    up.shutdown_at = 1;
    client_say(&c, POST "Content-Length: 4\r\n\r\n0123");
    is_responses(&c, "200 4, EOF", "a shutdown in the on_body that answers");
    stop("a shutdown and an answer");

    start();
    client_say(&c, POST "Content-Length: 8\r\n\r\n0123");
    turns(&h, 2);
    ws_server_drain(h.server);
    client_say(&c, "4567");
    is_responses(&c, "200 8, EOF", "a drain waits for the body and the answer");
    stop("a drain");

    start();
    client_say(&c, "POST /ignore HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    is_responses(&c, "200 ignored", "answered, and the body is not complete");
    ws_server_drain(h.server);
    client_say(&c, "defghij");
    is_responses(&c, "EOF", "a drain ends it once the body is discarded");
    stop("a drain while a body is discarded");

    start();
    client_say(&c, "POST /ignore HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc");
    is_responses(&c, "200 ignored", "answered, and the body is not complete");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_responses(&c, "EOF", "a shutdown ends it");
    stop("a shutdown while a body is discarded");
}

static void test_arguments(void)
{
    start();
    up.later = true;
    client_say(&c, POST "Content-Length: 4\r\n\r\n0123");
    turns(&h, 2);
    is_int(ws_request_read_body(up.request, 1, NULL, NULL), WS_EINVAL, "no on_body");
    ws_request_resume_body(up.request);
    up.silent = true;
    read_now();
    is_int(up.result, WS_OK, "read");
    is_int(ws_request_read_body(up.request, 1, on_body, &up), WS_EINVAL, "read twice");
    turns(&h, 2);
    is_int(up.lasts, 1, "complete");
    ws_request_pause_body(up.request);
    ws_request_resume_body(up.request);
    is_int(ws_request_defer(up.request, NULL, NULL), WS_ECLOSED, "deferred already");
    answer();
    is_responses(&c, "200 4", "answered");
    stop("arguments");
}

/* Many small chunks do not keep the others waiting, and are all handed out. */
static void test_small_chunks(void)
{
    static char bytes[6 * 20000 + 1];
    start();
    h.quiet = true;
    client_say(&c, POST CHUNKED "\r\n");
    for (int i = 0; i < 20000; i++)
        memcpy(bytes + 6 * i, "1\r\nx\r\n", 6);
    for (size_t done = 0, tries = 0; done < 120000 && tries < 1000; tries++) {
        done += client_write(&c, bytes + done, 120000 - done);
        turns(&h, 1);
        if (tries == 0)
            ok(up.pieces <= 2048, "a turn hands out at most 1024 pieces twice: %d", up.pieces);
    }
    client_say(&c, "0\r\n\r\n");
    turns(&h, 40);
    is_responses(&c, "200 20000", "W1: chunks of one byte");
    stop("small chunks");
}

/* Every allocation of a scenario fails once. */
static void test_failing_allocations(void)
{
    bool more = true;
    for (size_t n = 1; more && n < 200; n++) {
        start();
        h.quiet = true;
        h.memory.fail_at = h.memory.calls + n;
        client_say(&c, POST CHUNKED EXPECT "\r\n");
        turns(&h, 2);
        client_say(&c, "5\r\nhel");
        turns(&h, 2);
        if (up.request)
            ws_request_pause_body(up.request);
        client_say(&c, "lo\r\n0\r\n\r\n" POST "Content-Length: 3\r\n\r\n");
        turns(&h, 2);
        if (up.request)
            ws_request_resume_body(up.request);
        turns(&h, 2);
        client_say(&c, "abc");
        turns(&h, 2);
        client_drain(&c);
        more = stop_failing(n);
    }
    ok(!more, "T68: each allocation of a body has failed once");
}

static void cases(void)
{
    CASE(test_bodies());
    CASE(test_splits());
    CASE(test_refused());
    CASE(test_continue());
    CASE(test_discarded());
    CASE(test_discard_limit());
    CASE(test_answered_early());
    CASE(test_backpressure());
    CASE(test_peer_leaves());
    CASE(test_time());
    CASE(test_shutdown());
    CASE(test_arguments());
    CASE(test_small_chunks());
    CASE(test_failing_allocations());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
