/* SPDX-License-Identifier: MIT */
/*
 * test_conn_deflate_send.c: permessage-deflate through a running server: what leaves compressed, to
 * a peer that keeps its window or does not, whole and in fragments, while the kernel is full.
 */
#include "deflate_peer.h"
#include "ws_cluster.h"

/* ---- what leaves ---- */

static void test_send(unsigned options)
{
    start(options);
    ws_conn *conn = conn_at(&h, 0);
    for (int i = 0; i < 3; i++) {
        ws_conn_send(conn, hex, 3000, ZTEXT);
        expect("zTEXT", hex, 3000);
        ws_conn_send(conn, hex, 3000, WS_TEXT);
        expect("TEXT", hex, 3000);
        ws_conn_send(conn, "", 0, ZTEXT);
        expect("TEXT", "", 0);
        ws_conn_send(conn, noise, 300, ZBINARY);
        expect("BINARY", noise, 300);
    }
    is_expected("X13, X15: compression is per message, and never makes one larger");
    ws_conn_send(conn, NULL, 0, ZBINARY);
    ws_conn_send(conn, "p", 1, WS_PING);
    is_seen("BINARY, PING p", "X13: an empty message, and a Ping, are plain");
    is_int(ws_conn_send(conn, "p", 1, WS_PING | WS_COMPRESS), WS_EINVAL, "no compressed Ping");
    stop("sends");
}

static void echo_compressed(struct harness *harness, enum event event, ws_conn *conn,
                            ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_MESSAGE)
        ws_conn_send(conn, data, length, ZTEXT);
}

static void test_echo(unsigned options)
{
    static char data[200000];
    start_with(options, sizeof data);
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    h.hook = echo_compressed;
    for (size_t n = 30; n < sizeof data; n = n * 3 + 1) {
        memcpy(data, hex + n, n);
        memset(data, 'x', 20);
        say_packed(&p, 0xc1, data, n);
        expect("zTEXT", data, n);
    }
    is_expected("X13: the echo of what was inflated: input and output do not clash");
    stop("echo");
}

/* A full kernel, and something queued. */
static ws_conn *start_blocked(unsigned options, size_t limit)
{
    start_with(options, 0);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = limit;
    harness_start(&h);
    peer_connect(&p, true, "permessage-deflate");
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_send(conn, hex, 1000, ZTEXT);
    expect("zTEXT", hex, 1000);
    for (int still = 0; still < 6;) {
        if (ws_conn_send(conn, fill_bytes, sizeof fill_bytes, WS_BINARY) == WS_SUCCESS) {
            still = 0;
            continue;
        }
        turns(&h, 3);
        still = ws_conn_buffered_amount(conn) ? still + 1 : 0;
        if (ws_conn_buffered_amount(conn) > 5000)
            break;
    }
    harness_events(&h);
    return conn;
}

static const char *dropped_data;
static size_t dropped_length;

static void send_in_dropped(struct harness *harness, enum event event, ws_conn *conn,
                            ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_DROPPED)
        return;
    dropped_data = data;
    dropped_length = length;
    if (ws_conn_send(conn, data, 700, ZTEXT) == WS_BACKPRESSURE)
        expect("zTEXT", data, 700);
}

static void test_window(unsigned options, const char *name)
{
    ws_conn *conn = start_blocked(options, 40000);
    for (int i = 0; i < 2; i++) {
        is_int(ws_conn_send(conn, hex, 100000, ZTEXT), WS_DROPPED, "S34: above the limit: DROPPED");
        is_events(&h, "dropped TEXT [100000]", "S35: on_dropped gets what was sent, not the form");
        is_int(ws_conn_send(conn, hex + 99000, 900, ZTEXT), WS_BACKPRESSURE, "X15: a part of it");
        expect("zTEXT", hex + 99000, 900);
        is_int(ws_conn_send(conn, noise, 300, ZBINARY), WS_BACKPRESSURE, "X15: it would grow");
        expect("BINARY", noise, 300);
        char twice[600];
        memcpy(twice, noise, 300);
        memcpy(twice + 300, noise, 300);
        is_int(ws_conn_send(conn, twice, 600, ZBINARY), WS_BACKPRESSURE, "X15: the same, twice");
        expect("zBINARY", twice, 600);
        h.memory.fail_at = h.memory.calls + 1;
        h.memory.fail_after = true;
        int status = ws_conn_send(conn, hex + 200000, 20000, ZTEXT);
        h.memory.fail_at = 0;
        h.memory.fail_after = false;
        if (status == WS_BACKPRESSURE)
            expect("zTEXT", hex + 200000, 20000);
        else
            is_int(status, WS_ENOMEM, "X15: refused, no memory for the queue");
        if (!i)
            is_int(status, WS_ENOMEM, "X15: at least once");
        is_int(ws_conn_send(conn, hex + 219000, 900, ZTEXT), WS_BACKPRESSURE, "X15: a part of it");
        expect("zTEXT", hex + 219000, 900);
        is_int(ws_conn_send(conn, hex, 5, WS_CLOSE), WS_EINVAL, "X15: refused");
    }
    h.hook = send_in_dropped;
    is_int(ws_conn_send(conn, hex + 300000, 100000, ZTEXT), WS_DROPPED, "dropped once more");
    ok(dropped_data == hex + 300000 && dropped_length == 100000, "S35: the caller's own bytes");
    h.hook = NULL;
    ws_conn_send(conn, hex + 399000, 800, ZTEXT);
    expect("zTEXT", hex + 399000, 800);
    char title[128];
    snprintf(title, sizeof title, "X15: %s: a peer that keeps its window understands all", name);
    is_expected(title);
    stop(name);
}

static void send_plain_fragment(struct harness *harness, enum event event, ws_conn *conn,
                                ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)length;
    if (event == ON_DROPPED) {
        is_int(ws_conn_send_fragment(conn, data, 10, ZTEXT, false), WS_EORDER,
               "S36: no other fragmented message inside the dropped one");
        if (ws_conn_send(conn, data, 700, ZTEXT) == WS_BACKPRESSURE)
            expect("zTEXT", data, 700);
    }
}

static void test_fragments(unsigned options, const char *name)
{
    char title[128];
    start(options);
    ws_conn *conn = conn_at(&h, 0);
    for (int i = 0; i < 2; i++) {
        ws_conn_send(conn, hex, 2000, ZTEXT);
        expect("zTEXT", hex, 2000);
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, hex + 1000, 0, WS_CONTINUATION, false);
        is_int(ws_conn_send(conn, hex + 500, 800, ZTEXT), WS_BACKPRESSURE, "held back");
        is_int(ws_conn_send(conn, "ping", 4, WS_PING), WS_SUCCESS, "a Ping is not");
        ws_conn_send_fragment(conn, hex + 1000, 1000, WS_CONTINUATION, false);
        ws_conn_send_fragment(conn, hex + 2000, 1000, WS_CONTINUATION, true);
        expect("PING", "ping", 4);
        expect("zTEXT/4", hex, 3000);
        expect("TEXT", hex + 500, 800);
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true);
        expect("zTEXT/2", hex, 1000);
        ws_conn_send_fragment(conn, NULL, 0, ZBINARY, false);
        ws_conn_send_fragment(conn, "a", 1, WS_CONTINUATION, true);
        expect("zBINARY/2", "a", 1);
        ws_conn_send_fragment(conn, NULL, 0, ZBINARY, false);
        ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true);
        expect("zBINARY/2", "", 0);
        ws_conn_send_fragment(conn, "plain", 5, WS_TEXT, false);
        ws_conn_send_fragment(conn, " text", 5, WS_CONTINUATION, true);
        expect("TEXT/2", "plain text", 10);
        ws_conn_send_fragment(conn, hex, 900, ZTEXT, true);
        expect("zTEXT", hex, 900);
    }
    snprintf(title, sizeof title, "X9, X15: %s: fragments, what was held back is plain", name);
    is_expected(title);
    stop(name);

    conn = start_blocked(options, 20000);
    ws_conn_send(conn, NULL, 0, WS_TEXT);
    expect("TEXT", "", 0);
    is_int(ws_conn_send(conn, hex, 100000, ZTEXT), WS_DROPPED, "all output space is there");
    harness_events(&h);
    size_t before = zlib_memory();
    for (int i = 0; i < 2; i++) {
        h.hook = send_plain_fragment;
        is_int(ws_conn_send_fragment(conn, hex, 100000, ZTEXT, false), WS_DROPPED,
               "S36: the first fragment is dropped");
        h.hook = NULL;
        is_events(&h, "dropped TEXT [100000]", "S35: and handed back as it was");
        is_int(ws_conn_send_fragment(conn, hex, 100, WS_CONTINUATION, false), WS_DROPPED,
               "S36: and the next");
        is_int(ws_conn_send(conn, hex + 99000, 300, ZTEXT), WS_BACKPRESSURE, "a message between");
        expect("zTEXT", hex + 99000, 300);
        is_int(ws_conn_send_fragment(conn, hex, 100, WS_CONTINUATION, true), WS_DROPPED,
               "S36: and the last");
        if (options == SHARED)
            is_int((long long)zlib_memory(), (long long)before,
                   "T68: shared: the stream that was lent to it is given back");
        is_int(ws_conn_send_fragment(conn, hex + 99000, 500, ZTEXT, false), WS_BACKPRESSURE,
               "a new one");
        is_int(ws_conn_send_fragment(conn, hex + 99500, 500, WS_CONTINUATION, true),
               WS_BACKPRESSURE, "its end");
        expect("zTEXT/2", hex + 99000, 1000);
        ws_conn_send(conn, hex + 99100, 800, ZTEXT);
        expect("zTEXT", hex + 99100, 800);
    }
    snprintf(title, sizeof title, "X15: %s: after a dropped first fragment", name);
    is_expected(title);
    h.hook = NULL;
    stop(name);

    conn = start_blocked(options, 20000);
    is_int(ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false), WS_BACKPRESSURE, "a fragment");
    is_int(ws_conn_send_fragment(conn, hex, 100000, WS_CONTINUATION, false), WS_DROPPED,
           "S36: a later one is above the limit");
    is_events(&h, "close 1008 max_backpressure exceeded", "S36: 1008");
    expected[0] = '\0';
    is_int(h.closed, 1, "closed once");
    stop(name);
}

/* A connection that takes labels: its window stays in step with labels of all kinds. */
static void test_labels(unsigned options, const char *name)
{
    static char zero[5000], whole[5010];
    char title[128];
    start(options);
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_take_labels(conn);
    memcpy(zero + 1, hex, sizeof zero - 1);
    memcpy(whole, "\0{\"id\":1}\n", 10);
    memcpy(whole + 10, zero, sizeof zero);
    char *escaped = whole + 8; /* once the label above was used */
    for (int i = 0; i < 2; i++) {
        whole[8] = '}';
        is_int(ws_conn_send(conn, whole, 2010, ZTEXT | WS_LABELLED), WS_SUCCESS, "with a label");
        expect("zTEXT", whole, 2010);
        escaped[0] = '\0';
        ws_conn_send(conn, zero, 2000, ZTEXT);
        expect("zTEXT", escaped, 2002);
        ws_conn_send_fragment(conn, zero, 1000, ZTEXT, false);
        is_int(ws_conn_send(conn, zero, 800, ZTEXT), WS_BACKPRESSURE, "held back");
        ws_conn_send_fragment(conn, zero + 1000, 1000, WS_CONTINUATION, true);
        expect("zTEXT/2", escaped, 2002);
        expect("TEXT", escaped, 802);
        ws_conn_send_fragment(conn, NULL, 0, ZBINARY, false);
        ws_conn_send_fragment(conn, zero, 2000, WS_CONTINUATION, true);
        expect("zBINARY/2", escaped, 2002);
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, zero, 1000, WS_CONTINUATION, false);
        h.memory.fail_at = h.memory.calls + 1;
        is_int(ws_conn_send(conn, zero, 800, ZTEXT), WS_ENOMEM, "no memory for a label");
        h.memory.fail_at = 0;
        ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true);
        memcpy(whole, hex, 1000); /* no label: it is the middle of a message */
        memcpy(whole + 1000, zero, 1000);
        expect("zTEXT/3", whole, 2000);
        memcpy(whole, "\0{\"id\":1}\n", 10);
        memcpy(whole + 10, zero, sizeof zero);
        h.memory.fail_at = h.memory.calls + 1;
        is_int(ws_conn_send(conn, zero, 2000, ZTEXT), WS_ENOMEM, "no memory for a label");
        h.memory.fail_at = h.memory.calls + 1;
        is_int(ws_conn_send_fragment(conn, zero, 2000, ZTEXT, false), WS_ENOMEM, "of a fragment");
        h.memory.fail_at = 0;
        is_int(ws_conn_send_fragment(conn, "", 0, WS_CONTINUATION, true), WS_EORDER, "none begun");
        ws_conn_send(conn, hex, 900, ZTEXT);
        expect("zTEXT", hex, 900);
    }
    snprintf(title, sizeof title, "B7, X15: %s: labels in a window that is kept", name);
    is_expected(title);
    stop(name);
}

static void cases(void)
{
    CASE(test_send(SHARED));
    CASE(test_send(DEDICATED));
    CASE(test_echo(SHARED));
    CASE(test_echo(DEDICATED));
    CASE(test_window(SHARED, "shared"));
    CASE(test_window(DEDICATED, "dedicated"));
    CASE(test_fragments(SHARED, "shared"));
    CASE(test_fragments(DEDICATED, "dedicated"));
    CASE(test_labels(SHARED, "shared"));
    CASE(test_labels(DEDICATED, "dedicated"));
}

int main(int argc, char **argv)
{
    make_data();
    return run_cases(argc, argv, cases);
}
