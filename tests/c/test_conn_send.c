/* SPDX-License-Identifier: MIT */
/*
 * test_conn_send.c: what leaves a connection: statuses of sends, backpressure and its limit,
 * drain, fragments and held messages, cork, Pongs, sends to other connections.
 */
#include "harness.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

static struct harness h;
static struct client c;
static char payload[1 << 20];

/* A small kernel buffer on both sides. */
static void start(size_t max_backpressure)
{
    harness_init(&h);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = max_backpressure;
    harness_start(&h);
    client_open_small(&c, &h);
    harness_events(&h);
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, name);
}

/* Sends until the kernel is full, and stays so; how many messages. One is queued then. */
static int fill(ws_conn *conn, size_t size)
{
    int count = 0;
    for (int still = 0; still < 5 && count < 10000;) {
        if (ws_conn_buffered_amount(conn)) {
            struct pollfd writable = {ws_server_fd(h.server), POLLIN, 0};
            poll(&writable, 1, 20); /* a delayed ACK may still make room */
            turns(&h, 2);
            still = ws_conn_buffered_amount(conn) ? still + 1 : 0;
            continue;
        }
        while (ws_conn_send(conn, payload, size, WS_BINARY) == WS_SUCCESS)
            count++;
        count++;
    }
    harness_events(&h);
    return count;
}

static int count_of(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void test_statuses(void)
{
    start(64 * 1024);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_send(conn, "a", 1, WS_TEXT), WS_SUCCESS, "S32: SUCCESS: the kernel has it");
    is_int((long long)ws_conn_buffered_amount(conn), 0, "S28: nothing is buffered");
    is_int(ws_conn_send(conn, NULL, 0, WS_BINARY), WS_SUCCESS, "F16: an empty message");
    is_int(ws_conn_send(conn, "a", 1, WS_CLOSE), WS_EINVAL, "no Close by hand");
    is_int(ws_conn_send(conn, "a", 1, WS_CONTINUATION), WS_EINVAL, "no continuation by hand");
    is_int(ws_conn_send(conn, payload, 126, WS_PING), WS_EINVAL, "a Ping has at most 125 bytes");
    is_int(ws_conn_send(conn, payload, 125, WS_PING), WS_SUCCESS, "a Ping");
    is_frames(&c, "TEXT a, BINARY, PING [125]", "F2: on the wire");
    int sent = fill(conn, 1000);
    size_t amount = ws_conn_buffered_amount(conn);
    ok(amount > 0 && amount <= 1004, "S32: BACKPRESSURE: the rest is queued");
    is_int(ws_conn_send(conn, "b", 1, WS_TEXT), WS_BACKPRESSURE, "S33: queued");
    is_int((long long)ws_conn_buffered_amount(conn), (long long)amount + 3, "S28: and counted");
    turns(&h, 3);
    is_events(&h, "", "S31: no drain while the kernel is full");
    client_drain(&c);
    is_int((long long)ws_conn_buffered_amount(conn), 0, "S33: all is gone");
    is_events(&h, "drain", "S31, S10: exactly one drain");
    const char *got = client_frames(&c);
    is_int(count_of(got, "BINARY [1000]"), sent, "S33: every queued message arrives");
    ok(strstr(got, ", TEXT b") != NULL, "in order");
    turns(&h, 3);
    is_events(&h, "", "S31: and no other drain");
    stop("statuses");
}

static void test_limit(void)
{
    start(5000);
    ws_conn *conn = conn_at(&h, 0);
    int sent = fill(conn, 1000), queued = 0, status;
    size_t before = ws_conn_buffered_amount(conn);
    while ((status = ws_conn_send(conn, payload, 996, WS_BINARY)) == WS_BACKPRESSURE && ++queued)
        before += 1000;
    is_int(status, WS_DROPPED, "S34: above the limit: DROPPED");
    is_int((long long)ws_conn_buffered_amount(conn), (long long)before, "S35: nothing was queued");
    ok(before <= 5000 && before + 1000 > 5000, "S34: the limit is strict");
    is_events(&h, "dropped BINARY [996]", "S35: on_dropped");
    size_t left = 5000 - before;
    if (left >= 2)
        is_int(ws_conn_send(conn, payload, left - (left > 127 ? 4 : 2), WS_BINARY),
               WS_BACKPRESSURE, "S34: exactly the limit is accepted");
    else
        ok(true, "no room left");
    is_int((long long)ws_conn_buffered_amount(conn), 5000, "S34: exactly");
    is_int(ws_conn_send(conn, "", 0, WS_TEXT), WS_DROPPED, "S34: one byte more is not");
    is_int(ws_conn_send(conn, "p", 1, WS_PING), WS_BACKPRESSURE, "a Ping is exempt");
    for (int i = 0; i < 100000 && ws_conn_send(conn, payload, 125, WS_PING) != WS_DROPPED; i++)
        ;
    ok(ws_conn_buffered_amount(conn) <= 5000 + 8192,
       "but its reserve is small: every queue has a limit");
    harness_events(&h);
    client_drain(&c);
    is_events(&h, "drain", "S31: one drain for all");
    const char *got = client_frames(&c);
    is_int(count_of(got, "BINARY [1000]"), sent, "S33: what was accepted arrives");
    is_int(count_of(got, "BINARY [996]"), queued, "S35: nothing of what was dropped");
    stop("the limit");
}

/* A message that alone exceeds the limit: taken if the kernel takes any of it, else dropped. */
static void test_large(void)
{
    start(5000);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_send(conn, payload, 500000, WS_BINARY), WS_BACKPRESSURE,
           "S34: the kernel took some of it: the rest is queued");
    ok(ws_conn_buffered_amount(conn) > 5000, "S34: above the limit");
    is_int(ws_conn_send(conn, "x", 1, WS_TEXT), WS_DROPPED, "S34: but nothing else then");
    harness_events(&h);
    client_drain(&c);
    is_frames(&c, "BINARY [500000]", "whole");
    is_events(&h, "drain", "S31: one drain");
    ws_conn_send(conn, payload, 500000, WS_BINARY);
    while (ws_conn_buffered_amount(conn) > 5000) {
        char bytes[4096];
        c.received += (size_t)recv(c.fd, bytes, sizeof bytes, 0);
        turns(&h, 1);
    }
    stop("large messages");

    /* The kernel is full to the last byte, and the queue is empty. */
    start(5000);
    conn = conn_at(&h, 0);
    size_t dropped = 0;
    for (int i = 0; i < 200 && !dropped; i++) {
        ws_conn_cork(conn);
        ws_conn_uncork(conn);
        if (!ws_conn_buffered_amount(conn))
            dropped += ws_conn_send(conn, payload, 3, WS_BINARY) == WS_DROPPED;
        else
            break;
    }
    size_t amount = ws_conn_buffered_amount(conn);
    ok(amount <= 5, "a tiny message");
    is_int(ws_conn_send(conn, payload, 6000, WS_BINARY), WS_DROPPED,
           "S34: the kernel takes none and it is above the limit: DROPPED");
    is_int((long long)ws_conn_buffered_amount(conn), (long long)amount, "S35: nothing of it");
    client_drain(&c);
    ok(!strstr(client_frames(&c), "6000"), "S35: nothing on the wire");
    stop("a full kernel");
}

static void test_no_limit_and_close(void)
{
    start(0);
    ws_conn *conn = conn_at(&h, 0);
    for (int i = 0; i < 10; i++)
        ws_conn_send(conn, payload, 100000, WS_BINARY);
    ok(ws_conn_buffered_amount(conn) > 800000, "max_backpressure 0: no limit");
    client_drain(&c);
    is_int(count_of(client_frames(&c), "BINARY [100000]"), 10, "all arrive");
    stop("no limit");

    harness_init(&h);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 5000;
    h.behavior.close_on_backpressure_limit = true;
    harness_start(&h);
    client_open_small(&c, &h);
    harness_events(&h);
    conn = conn_at(&h, 0);
    int sent = fill(conn, 1000);
    while (ws_conn_send(conn, payload, 1000, WS_BINARY) == WS_BACKPRESSURE)
        sent++;
    is_events(&h, "close 1008 max_backpressure exceeded", "close_on_backpressure_limit: 1008");
    client_drain(&c);
    client_send_close(&c, 1008, "");
    const char *got = client_frames(&c);
    is_int(count_of(got, "BINARY [1000]"), sent, "C8: the queue goes first");
    ok(strstr(got, "CLOSE 1008 max_backpressure exceeded, EOF") != NULL, "then the Close");
    stop("close_on_backpressure_limit");
}

/* The same with pieces of one message. */
static void fill_by_fragments(ws_conn *conn)
{
    int still = 0;
    while (still < 5) {
        struct pollfd writable = {ws_server_fd(h.server), POLLIN, 0};
        if (!ws_conn_buffered_amount(conn)) {
            ws_conn_send_fragment(conn, payload, 40000, WS_CONTINUATION, false);
            still = 0;
            continue;
        }
        poll(&writable, 1, 20); /* a delayed ACK may still make room */
        turns(&h, 2);
        still++;
    }
    harness_events(&h);
}

/* ---- drain ---- */

static int refills;

static void refill(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                   const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_DRAIN && refills-- > 0)
        ws_conn_send(conn, payload, 400000, WS_BINARY);
}

static void test_drain(void)
{
    start(0);
    h.hook = refill;
    refills = 3;
    ws_conn_send(conn_at(&h, 0), payload, 400000, WS_BINARY);
    client_drain(&c);
    is_events(&h, "drain; drain; drain; drain", "S31: one drain for each time it was full");
    is_int(count_of(client_frames(&c), "BINARY [400000]"), 4, "all arrive");
    h.hook = NULL;

    ws_conn *conn = conn_at(&h, 0);
    ws_conn_cork(conn);
    for (int i = 0; i < 60; i++)
        is_int(ws_conn_send(conn, payload, 1000, WS_BINARY), WS_SUCCESS, "S32: corked: SUCCESS");
    is_int((long long)ws_conn_buffered_amount(conn), 0, "S28: corked bytes do not count");
    ws_conn_uncork(conn);
    ok(over_tls() || ws_conn_buffered_amount(conn) > 0, "the flush left bytes");
    client_drain(&c);
    is_events(&h, "drain", "S31: drain after a corked flush that left bytes");
    client_frames(&c);
    ws_conn_send(conn, payload, 400000, WS_BINARY);
    ws_conn_end(conn, 1000, NULL, 0);
    client_drain(&c);
    is_events(&h, "close 1000", "S31: none after end");
    stop("drain");
}

static void send_again(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_DRAIN)
        ws_conn_send(conn, payload, 100000, WS_BINARY);
}

/* What is in the way is the current message, not the kernel: on_drain comes after it. */
static void test_drain_between_fragments(void)
{
    start(64 * 1024);
    ws_conn *conn = conn_at(&h, 0);
    h.hook = send_again;
    ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false);
    is_int(ws_conn_send(conn, payload, 100000, WS_BINARY), WS_DROPPED, "S35: more than may wait");
    is_events(&h, "dropped BINARY [100000]", "S35: on_dropped");
    turns(&h, 50);
    is_events(&h, "", "S31: no drain as long as it could change nothing");
    h.hook = NULL;
    ws_conn_send_fragment(conn, "y", 1, WS_CONTINUATION, true);
    turns(&h, 3);
    is_events(&h, "drain", "S31: one drain when it could");

    ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false);
    fill_by_fragments(conn);
    is_int(ws_conn_send(conn, "held", 4, WS_TEXT), WS_BACKPRESSURE, "a message is held back");
    client_drain(&c);
    is_events(&h, "drain", "S31: drain for the fragments, else they never went on");
    ws_conn_send_fragment(conn, "y", 1, WS_CONTINUATION, true);
    client_drain(&c);
    is_events(&h, "drain", "S31: and one for what was held back");
    ok(strstr(client_frames(&c), "TEXT held") != NULL, "which arrives");
    stop("drain between fragments");
}

/* ---- cork ---- */

static void many(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    for (int i = 0; i < 5; i++)
        ws_conn_send(conn, "abc", 3, WS_TEXT);
}

/* Segments are counted by the kernel: one write of few bytes is one segment. An emulator of another
 * CPU may not pass the count on: -1. */
static int segments(const struct client *client)
{
    enum { TCP = 6, INFO = 11, OFFSET = 152 }; /* of tcpi_data_segs_in */
    struct {
        uint8_t bytes[512];
    } info = {{0}};
    socklen_t length = sizeof info;
    uint32_t in;
    if (getsockopt(client->fd, TCP, INFO, &info, &length) || length < OFFSET + sizeof in)
        return -1;
    memcpy(&in, info.bytes + OFFSET, sizeof in);
    return (int)in;
}

static void is_one_segment(int before, const char *name)
{
    if (before < 0)
        ok(true, "%s # SKIP segments are not counted here", name);
    else
        is_int(segments(&c) - before, 1, "%s", name);
}

static void test_cork(void)
{
    harness_init(&h);
    h.hook = NULL;
    harness_start(&h);
    client_open(&c, &h);
    h.hook = many;
    int before = segments(&c);
    char bytes[64];
    size_t n = make_frame(bytes, 0x81, "1", 1);
    n += make_frame(bytes + n, 0x81, "2", 1);
    client_write(&c, bytes, n);
    is_int(count_of(client_frames(&c), "TEXT abc"), 10, "two messages, ten answers");
    is_one_segment(before, "S32: that left in one write");
    h.hook = NULL;
    ws_conn *conn = conn_at(&h, 0);
    before = segments(&c);
    ws_conn_cork(conn);
    ws_conn_cork(conn);
    ws_conn_send(conn, "a", 1, WS_TEXT);
    ws_conn_uncork(conn);
    ws_conn_send(conn, "b", 1, WS_TEXT);
    is_frames(&c, "", "cork nests");
    ws_conn_uncork(conn);
    is_frames(&c, "TEXT a, TEXT b", "uncorked");
    is_one_segment(before, "one write");
    before = segments(&c);
    ws_conn_cork(conn);
    ws_conn_send(conn, "a", 1, WS_TEXT);
    ws_conn_send(conn, payload, 20000, WS_BINARY);
    is_int((long long)ws_conn_buffered_amount(conn), 0, "a large payload leaves at once");
    ws_conn_uncork(conn);
    is_frames(&c, "TEXT a, BINARY [20000]", "after what was corked");
    is_one_segment(before, "in one write");
    ws_conn_cork(conn);
    ws_conn_send(conn, "a", 1, WS_TEXT);
    size_t calls = h.memory.calls;
    ws_conn_send(conn, payload, 70000, WS_BINARY); /* more than the corked queue has room for */
    is_int((long long)(h.memory.calls - calls), 0, "and is not copied while the kernel takes it");
    ws_conn_uncork(conn);
    is_frames(&c, "TEXT a, BINARY [70000]", "it arrives");
    ws_conn_cork(conn);
    for (int i = 0; i < 66; i++)
        ws_conn_send(conn, payload, 1000, WS_BINARY);
    turns(&h, 1);
    client_read(&c);
    ok(c.in_length > 60000, "S34: 64 KiB of corked bytes are flushed");
    ws_conn_uncork(conn);
    is_int(count_of(client_frames(&c), "BINARY [1000]"), 66, "all arrive");
    ws_conn_cork(conn);
    ws_conn_send(conn, "a", 1, WS_TEXT);
    ws_conn_end(conn, 1000, NULL, 0);
    ws_conn_uncork(conn);
    is_frames(&c, "TEXT a, CLOSE 1000", "end, corked");
    stop("cork");
}

/* S34: before a frame is dropped the cork is flushed. */
static void test_cork_and_limit(void)
{
    harness_init(&h);
    h.behavior.max_backpressure = 1000;
    harness_start(&h);
    client_open(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_cork(conn);
    for (int i = 0; i < 40; i++)
        if (ws_conn_send(conn, payload, 900, WS_BINARY) != WS_SUCCESS)
            ok(false, "S34: only what the kernel refused counts");
    ws_conn_uncork(conn);
    is_int(count_of(client_frames(&c), "BINARY [900]"), 40, "S34: a cork is no backpressure");
    stop("cork and limit");
}

/* ---- fragments ---- */

static void test_fragments(void)
{
    harness_init(&h);
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    ws_conn *conn = conn_at(&h, 0);
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_CONTINUATION, true), WS_EORDER,
           "a continuation of nothing");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_PING, true), WS_EINVAL, "no fragmented Ping");
    is_int(ws_conn_send_fragment(conn, "one", 3, WS_TEXT, false), WS_SUCCESS, "the first");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false), WS_EORDER, "a second first");
    is_int(ws_conn_send(conn, "held1", 5, WS_TEXT), WS_BACKPRESSURE, "a message is held back");
    is_int((long long)ws_conn_buffered_amount(conn), 7, "and counted");
    is_int(ws_conn_send(conn, "ping", 4, WS_PING), WS_SUCCESS, "a Ping is not held back");
    is_int(ws_conn_send_fragment(conn, "", 0, WS_CONTINUATION, false), WS_SUCCESS, "an empty one");
    is_int(ws_conn_send(conn, "held2", 5, WS_BINARY), WS_BACKPRESSURE, "another one");
    is_frames(&c, "TEXT+ one, PING ping, CONT+", "F18: on the wire so far");
    is_events(&h, "", "S31: no drain yet");
    is_int(ws_conn_send_fragment(conn, "two", 3, WS_CONTINUATION, true), WS_SUCCESS, "the last");
    is_frames(&c, "CONT two, TEXT held1, BINARY held2", "F18: then what was held, in order");
    is_events(&h, "drain", "S31: and one drain");
    is_int(ws_conn_send_fragment(conn, "whole", 5, WS_TEXT, true), WS_SUCCESS, "first and last");
    is_frames(&c, "TEXT whole", "is a plain message");
    is_int(ws_conn_send_fragment(conn, "open", 4, WS_BINARY, false), WS_SUCCESS, "a first one");
    ws_conn_send(conn, "held", 4, WS_TEXT);
    is_int(ws_conn_end(conn, 1000, NULL, 0), WS_OK, "end in the middle");
    is_frames(&c, "BINARY+ open, CLOSE 1000", "what cannot be sent any more is not");
    stop("fragments");
}

static void test_fragment_limits(void)
{
    start(5000);
    ws_conn *conn = conn_at(&h, 0);
    int sent = fill(conn, 1000);
    while (ws_conn_send(conn, payload, 1000, WS_BINARY) == WS_BACKPRESSURE)
        sent++;
    harness_events(&h);
    is_int(ws_conn_send_fragment(conn, payload, 1001, WS_BINARY, false), WS_DROPPED,
           "the limit is judged at the first fragment");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_CONTINUATION, false), WS_DROPPED,
           "the rest of a dropped message is dropped");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_CONTINUATION, true), WS_DROPPED, "to its end");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_CONTINUATION, true), WS_EORDER, "which it was");
    is_events(&h, "dropped BINARY [1001]", "on_dropped once");
    client_drain(&c);
    is_int(count_of(client_frames(&c), "BINARY"), sent, "S35: nothing on the wire");
    is_events(&h, "drain", "S31: a drain after all");

    fill(conn, 1000);
    is_int(ws_conn_send_fragment(conn, "a", 1, WS_TEXT, false), WS_BACKPRESSURE, "a first one");
    is_int(ws_conn_send(conn, payload, 6000, WS_BINARY), WS_DROPPED, "held messages have a limit");
    int status = WS_BACKPRESSURE;
    while (status == WS_BACKPRESSURE)
        status = ws_conn_send_fragment(conn, payload, 1000, WS_CONTINUATION, false);
    is_int(status, WS_DROPPED, "later fragments above the limit");
    ok(strstr(harness_events(&h), "; close 1008 ") != NULL, "close with 1008");
    client_drain(&c);
    ok(strstr(client_frames(&c), "CLOSE 1008 ") != NULL, "on the wire, too");
    stop("fragments and the limit");

    start(5000);
    conn = conn_at(&h, 0);
    ws_conn_send_fragment(conn, "a", 1, WS_TEXT, false);
    ws_conn_send(conn, "held", 4, WS_TEXT);
    is_int(ws_conn_send_fragment(conn, payload, 4000, WS_CONTINUATION, false), WS_SUCCESS, "fits");
    is_int(ws_conn_send_fragment(conn, payload, 300000, WS_CONTINUATION, true), WS_BACKPRESSURE,
           "the kernel began to take it");
    client_drain(&c);
    is_frames(&c, "TEXT+ a, CONT+ [4000], CONT [300000], TEXT held", "the order is kept");
    is_events(&h, "drain", "S31: one drain, at the very end");
    stop("fragments and the queue");
}

/* ---- Pongs ---- */

static void test_pongs(void)
{
    char bytes[256];
    harness_init(&h);
    h.echo = true;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    size_t n = make_frame(bytes, 0x01, "a", 1);
    n += make_frame(bytes + n, 0x89, "p", 1);
    n += make_frame(bytes + n, 0x8a, "unasked", 7);
    n += make_frame(bytes + n, 0x80, "b", 1);
    n += make_frame(bytes + n, 0x89, "", 0);
    client_write(&c, bytes, n);
    is_frames(&c, "PONG p, TEXT ab, PONG", "F8, F12, T19: inside a message, before later data");
    is_events(&h, "ping p; pong unasked; message TEXT ab; ping", "F8, F13: in order");
    stop("Pongs");

    start(64 * 1024);
    ws_conn *conn = conn_at(&h, 0);
    int sent = fill(conn, 1000);
    for (int i = 0; i < 30; i++, sent++) /* however much room the next ACKs make */
        ws_conn_send(conn, payload, 1000, WS_BINARY);
    client_frame(&c, 0x89, "first", 5);
    turns(&h, 1);
    ok(ws_conn_buffered_amount(conn) > 0, "the kernel is full");
    ws_conn_send(conn, "data", 4, WS_TEXT);
    client_frame(&c, 0x89, "second", 6);
    client_frame(&c, 0x89, "newest!", 7);
    turns(&h, 1);
    ws_conn_send(conn, "later", 5, WS_TEXT);
    client_drain(&c);
    const char *got = client_frames(&c);
    is_int(count_of(got, "BINARY [1000]"), sent, "data");
    is_int(count_of(got, "PONG"), 1, "F12, T28: only the newest Pong was kept");
    ok(strstr(got, "TEXT data, PONG newest!, TEXT later") != NULL, "F12: before later data");
    is_events(&h, "ping first; ping second; ping newest!; drain", "each Ping is an event");
    stop("Pongs under backpressure");

    /* However far the queue has gone when the next Ping comes, the stream stays whole. */
    start(0);
    conn = conn_at(&h, 0);
    h.quiet = true;
    int broken = 0, texts = 0;
    for (int i = 0; i < 3000; i++) {
        char name[16];
        int length = snprintf(name, sizeof name, "ping %d", i);
        ws_conn_send(conn, payload, (size_t)(i * 7 % 300), WS_BINARY);
        texts++;
        client_frame(&c, 0x89, name, (size_t)length);
        turns(&h, 1);
        if (i % 3)
            client_read_some(&c, (size_t)(i % 691) + 1);
    }
    client_drain(&c);
    size_t at = 0, newest = 0;
    while (at + 2 <= c.in_length) {
        size_t length = (unsigned char)c.in[at + 1], header = 2;
        if (length == 126) {
            length = (size_t)(unsigned char)c.in[at + 2] << 8 | (unsigned char)c.in[at + 3];
            header = 4;
        }
        if ((unsigned char)c.in[at] == 0x8a) {
            char digits[8]; /* what follows the last Pong in memory may be a digit, too */
            snprintf(digits, sizeof digits, "%.*s", (int)length - 5, c.in + at + header + 5);
            size_t number = (size_t)atoi(digits);
            broken += number < newest || length < 6;
            newest = number;
        } else {
            texts--;
            broken += (unsigned char)c.in[at] != 0x82;
        }
        at += header + length;
    }
    ok(!broken && at == c.in_length && !texts && newest == 2999,
       "F12: 3000 Pings at any state of the queue: stream whole, no data lost, newest Pong last");
    if (broken || at != c.in_length || texts || newest != 2999)
        diag("broken %d, at %zu of %zu, texts %d, newest %zu", broken, at, c.in_length, texts,
             newest);
    stop("many Pongs");
}

/* ---- others ---- */

static void tell_other(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)request;
    for (int i = 0; event == ON_MESSAGE && i < harness->opened; i++) {
        ws_conn *other = conn_at(harness, i);
        if (other && other != conn)
            ws_conn_send(other, data, length, WS_TEXT);
    }
}

static void test_cross(void)
{
    struct client d;
    harness_init(&h);
    h.hook = tell_other;
    harness_start(&h);
    client_open(&c, &h);
    client_open(&d, &h);
    harness_events(&h);
    client_text(&c, "to d");
    client_text(&d, "to c");
    turns(&h, 2);
    is_frames(&c, "TEXT to c", "a send from another connection's handler");
    is_frames(&d, "TEXT to d", "and the other way round");
    client_close(&d);
    stop("cross-connection sends");
}

/* A peer that is gone: sends have no effect, and one on_close tells. */
static void test_dead_peer(void)
{
    harness_init(&h);
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    ws_conn *conn = conn_at(&h, 0);
    client_reset(&c);
    int last = WS_SUCCESS;
    for (int i = 0; i < 300; i++)
        last = ws_conn_send(conn, payload, 1000, WS_BINARY);
    is_int(last, WS_DROPPED, "T62, T65: sends to a peer that is gone, no signal");
    is_events(&h, "", "no handler runs inside a send");
    turns(&h, 2);
    is_events(&h, "close 1006 connection reset by peer", "C9: one on_close");
    ok(!conn_at(&h, 0), "the id finds nothing");
    harness_stop(&h, "a dead peer");
}

static void send_in_dropped(struct harness *harness, enum event event, ws_conn *conn,
                            ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_DROPPED) {
        is_int(ws_conn_send(conn, payload, 9000, WS_BINARY), WS_DROPPED, "a send in on_dropped");
        ws_conn_close(conn);
        is_int(ws_conn_send(conn, "x", 1, WS_TEXT), WS_DROPPED, "T61: and after close in it");
    }
}

static void test_dropped_handler(void)
{
    start(5000);
    h.hook = send_in_dropped;
    ws_conn *conn = conn_at(&h, 0);
    fill(conn, 1000);
    is_int(ws_conn_send(conn, payload, 8000, WS_BINARY), WS_DROPPED, "T61: close in on_dropped");
    is_events(&h, "dropped BINARY [8000]; close 1006 closed by the server", "one on_dropped");
    stop("on_dropped");
}

/* Outside of turns: what is due is shown by the descriptor of a foreign loop. */
static void test_half_dead_echo(void)
{
    start(64 * 1024);
    h.echo = true;
    h.quiet = true;
    size_t base = h.memory.bytes, most = 0;
    char *frame = malloc(20000);
    if (!frame)
        return;
    size_t n = make_frame(frame, 0x82, payload, 16000), at = 0;
    for (int i = 0; i < 4000; i++) { /* T51: echo requests, answers unread */
        at += client_write(&c, frame + at, n - at);
        at = at == n ? 0 : at;
        turns(&h, 1);
        most = h.memory.bytes > most ? h.memory.bytes : most;
    }
    free(frame);
    ok(most < base + 4 * 64 * 1024, "T50, T51: what a peer that reads nothing costs is bounded");
    stop("a peer that reads nothing");
}

static void cases(void)
{
    CASE(test_statuses());
    CASE(test_limit());
    CASE(test_large());
    CASE(test_no_limit_and_close());
    CASE(test_drain());
    CASE(test_drain_between_fragments());
    CASE(test_cork());
    CASE(test_cork_and_limit());
    CASE(test_fragments());
    CASE(test_fragment_limits());
    CASE(test_pongs());
    CASE(test_cross());
    CASE(test_dead_peer());
    CASE(test_dropped_handler());
    CASE(test_half_dead_echo());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
