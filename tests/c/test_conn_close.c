/* SPDX-License-Identifier: MIT */
/*
 * test_conn_close.c: how connections end (RFC 6455 section 7): the closing handshake from both
 * sides, failures, races, time limits, and that what was said can be read: FIN, never RST.
 */
#include "harness.h"
#include "kernel.h"

#include <poll.h>
#include <stdlib.h>

static struct harness h;
static struct client c;

static void start(void)
{
    harness_init(&h);
    harness_start(&h);
    client_open(&c, &h);
    is_events(&h, "open", "open");
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    is_int(stats_of(&h).connections, 0, "no socket is left");
    harness_stop(&h, name);
}

/* ---- the peer begins ---- */

static void test_peer_closes(void)
{
    static const int good[] = {1000, 1001, 1002, 1003, 1007, 1010, 1011, 1014, 3000, 4999};
    static const int bad[] = {1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535};
    char want[200];
    start();
    client_send_close(&c, 0, "");
    is_frames(&c, "CLOSE, EOF", "C1, C6: an empty Close is answered by an empty one, then FIN");
    is_events(&h, "close 1005", "C5, S7: on_close with 1005");
    client_close(&c);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        client_open(&c, &h);
        client_send_close(&c, good[i], "why");
        snprintf(want, sizeof want, "CLOSE %d, EOF", good[i]);
        is_frames(&c, want, "C1, C3, T32: a valid code is echoed");
        client_close(&c);
        turns(&h, 2);
    }
    h.events_length = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        client_open(&c, &h);
        harness_events(&h);
        client_send_close(&c, bad[i], "why");
        snprintf(want, sizeof want, "CLOSE 1002 close code %d is not allowed on the wire, EOF",
                 bad[i]);
        is_frames(&c, want, "C3, C4, T32: an invalid code: 1002");
        client_close(&c);
        turns(&h, 2);
    }
    client_open(&c, &h);
    client_frame(&c, 0x88, "\x03", 1);
    ok(!strncmp(client_frames(&c), "CLOSE 1002 ", 11), "C2, T32: a body of one byte: 1002");
    client_close(&c);
    client_open(&c, &h);
    client_send_close(&c, 1000, "\xff");
    ok(!strncmp(client_frames(&c), "CLOSE 1007 ", 11), "C2, T32: a reason not in UTF-8: 1007");
    stop("the peer closes");
}

static void test_after_peers_close(void)
{
    char bytes[256];
    start();
    size_t n = make_close(bytes, 1000, "");
    n += make_frame(bytes + n, 0x81, "late", 4);
    n += make_frame(bytes + n, 0x89, "late", 4);
    n += make_frame(bytes + n, 0x83, "bad", 3);
    client_write(&c, bytes, n);
    is_frames(&c, "CLOSE 1000, EOF", "F15, T34: what follows a Close is ignored, no Pong");
    client_text(&c, "later");
    turns(&h, 3);
    client_text(&c, "much later");
    turns(&h, 3);
    client_read(&c);
    ok(c.eof && !c.reset, "C6: input is discarded, no RST");
    is_int(stats_of(&h).connections, 1, "C6: until EOF");
    is_events(&h, "close 1000", "C9: one event");
    client_close(&c);
    turns(&h, 2);
    is_int(stats_of(&h).connections, 0, "C6: gone at EOF");

    client_open(&c, &h);
    client_send_close(&c, 1000, "");
    is_frames(&c, "CLOSE 1000, EOF", "a peer that never closes TCP");
    advance(&h, 4999);
    is_int(stats_of(&h).connections, 1, "C6: waited for");
    advance(&h, 1);
    is_int(stats_of(&h).connections, 0, "C6, C10: but not beyond close_timeout");
    stop("after the peer's Close");
}

/* ---- the server begins ---- */

static void test_server_closes(void)
{
    start();
    is_int(ws_conn_end(conn_at(&h, 0), 4000, "reason", 6), WS_OK, "ws_conn_end");
    is_events(&h, "close 4000 reason", "S27: on_close runs before ws_conn_end returns");
    is_frames(&c, "CLOSE 4000 reason", "C6: Close, and FIN not before the peer's");
    ok(!conn_at(&h, 0), "the id finds nothing any more");
    client_text(&c, "ignored");
    client_frame(&c, 0x89, "ping", 4);
    is_frames(&c, "", "F14: nothing after a sent Close, no Pong");
    client_send_close(&c, 4000, "");
    is_frames(&c, "EOF", "C6: after both Closes the server closes first");
    is_events(&h, "", "C9, S26: no further event");
    client_close(&c);
    turns(&h, 2);
    is_int(stats_of(&h).connections, 0, "and that is the end");

    client_open(&c, &h);
    harness_events(&h);
    ws_conn_end(conn_at(&h, 1), 0, NULL, 0);
    is_frames(&c, "CLOSE", "an empty Close");
    is_events(&h, "1:close 1005", "is reported as 1005");
    advance(&h, 4999);
    is_int(stats_of(&h).connections, 1, "T33: waited for");
    advance(&h, 1);
    is_int(stats_of(&h).connections, 0, "T33, C10: never answered: ended at close_timeout");
    is_events(&h, "", "T33, C9: exactly one on_close");
    client_read(&c);
    stop("the server closes");
}

static void test_codes(void)
{
    static const int bad[] = {-1, 1, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65536 + 1000};
    char reason[201];
    start();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        is_int(ws_conn_end(conn_at(&h, 0), bad[i], NULL, 0), WS_EINVAL, "C4, T35: %d is refused",
               bad[i]);
    is_int(ws_conn_end(conn_at(&h, 0), 1000, "\xc3", 1), WS_EINVAL, "T35: reason not UTF-8");
    is_int(ws_conn_end(conn_at(&h, 0), 1005, "x", 1), WS_EINVAL, "a reason without a code");
    is_frames(&c, "", "T35: nothing was sent");
    memset(reason, 'a', sizeof reason);
    memcpy(reason + 122, "\xc3\xa4", 2); /* two bytes over the limit of 123 */
    is_int(ws_conn_end(conn_at(&h, 0), 1000, reason, 124), WS_OK, "a long reason");
    client_drain(&c);
    is_int((unsigned char)c.in[1], 124, "T35: the reason is cut on a character boundary");
    c.in_length = 0;
    stop("codes");
}

static void end_twice(struct harness *harness, enum event event, ws_conn *conn,
                      ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    is_int(ws_conn_send(conn, "first", 5, WS_TEXT), WS_SUCCESS, "a message before");
    is_int(ws_conn_end(conn, 1001, "a", 1), WS_OK, "ended");
    is_int(ws_conn_end(conn, 1002, "b", 1), WS_OK, "S27: a second call does nothing");
    is_int(ws_conn_send(conn, "x", 1, WS_TEXT), WS_DROPPED, "F14: DROPPED after end");
    is_int(ws_conn_send(conn, "x", 1, WS_PING), WS_DROPPED, "F14: pings, too");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false), WS_DROPPED, "F14: fragments, too");
}

static void test_end_in_handler(void)
{
    char bytes[256];
    start();
    h.hook = end_twice;
    size_t n = make_frame(bytes, 0x81, "1", 1);
    n += make_frame(bytes + n, 0x81, "2", 1);
    n += make_frame(bytes + n, 0x89, "3", 1);
    client_write(&c, bytes, n);
    is_frames(&c, "TEXT first, CLOSE 1001 a", "C8: what was sent before goes first");
    is_events(&h, "message TEXT 1; close 1001 a",
              "S26: no event for frames already received in the same packet");
    stop("end in a handler");
}

static void test_hard_close(void)
{
    start();
    ws_conn_close(conn_at(&h, 0));
    is_events(&h, "close 1006 closed by the server", "S27: on_close with 1006 at once");
    turns(&h, 1);
    client_read(&c);
    ok(c.eof && !c.in_length, "TCP is dropped without a Close");
    stop("hard close");
}

/* ---- failures ---- */

static void test_failures(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        int code;
    } cases[] = {
        {"\x81\x01x", 3, 1002},                     /* F1 */
        {"\xc1\x80kkkk", 6, 1002},                  /* F3 */
        {"\x83\x80kkkk", 6, 1002},                  /* F4 */
        {"\x81\xfe\0\1kkkk", 8, 1002},              /* F5 */
        {"\x82\xff\x80\0\0\0\0\0\0\0kkkk", 14, 1002}, /* F6 */
        {"\x82\xff\0\0\0\0\x7f\0\0\0kkkk", 14, 1009}, /* F6, F17 */
        {"\x89\xfe\0\x7ekkkk", 8, 1002},            /* F7 */
        {"\x09\x80kkkk", 6, 1002},                  /* F7 */
        {"\x80\x80kkkk", 6, 1002},                  /* F9 */
        {"\x01\x80kkkk\x81\x80kkkk", 12, 1002},     /* F10 */
        {"\x81\x81\0\0\0\0\xff", 7, 1007},          /* F11 */
    };
    static char more[64 * 1024];
    char want[32];
    harness_init(&h);
    harness_start(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        client_open(&c, &h);
        client_write(&c, cases[i].bytes, cases[i].n);
        for (int k = 0; k < 30; k++) { /* T31: a peer that continues sending */
            client_write(&c, more, sizeof more);
            turns(&h, 1);
        }
        const char *got = client_frames(&c);
        snprintf(want, sizeof want, "CLOSE %d ", cases[i].code);
        ok(!strncmp(got, want, 11) && strlen(got) > 15 && !strcmp(got + strlen(got) - 5, ", EOF"),
           "C6, C7, T16-T22, T31: case %zu: %sand a reason, then EOF, no RST", i, want);
        if (strncmp(got, want, 11))
            diag("%s", got);
        client_write(&c, more, sizeof more);
        turns(&h, 2);
        client_read(&c);
        ok(!c.reset, "C6, T27: input is still being discarded");
        ok(strstr(h.events, want + 6) != NULL, "S7: on_close gets the code");
        harness_events(&h);
        client_close(&c);
        turns(&h, 3);
        is_int(stats_of(&h).connections, 0, "gone");
    }
    client_open(&c, &h);
    size_t before = h.memory.bytes;
    client_write(&c, "\xff", 1);
    for (int i = 0; i < 1024; i++) {
        client_write(&c, more, sizeof more);
        turns(&h, 1);
    }
    ok(h.memory.bytes <= before, "T27: 64 MiB after a protocol error cost no memory");
    advance(&h, 5000);
    is_int(stats_of(&h).connections, 0, "T27, C10: ended at close_timeout");
    stop("failures");
}

/* ---- without a Close ---- */

static void test_broken(void)
{
    start();
    client_finish(&c);
    turns(&h, 2);
    is_events(&h, "close 1006 connection closed without a Close frame", "C5, T34: FIN: 1006");
    client_read(&c);
    ok(c.eof, "T34: ended at once");
    client_close(&c);
    client_open(&c, &h);
    harness_events(&h);
    client_frame(&c, 0x01, "half", 4);
    turns(&h, 1);
    client_reset(&c);
    turns(&h, 2);
    is_events(&h, "1:close 1006 connection reset by peer", "C5: RST: 1006");
    client_open(&c, &h);
    harness_events(&h);
    client_write(&c, "\x81\xfe\x10", 3);
    turns(&h, 2);
    client_close(&c);
    turns(&h, 2);
    is_events(&h, "2:close 1006 connection closed without a Close frame", "EOF in a header");
    client_open(&c, &h);
    client_text(&c, "last words");
    client_finish(&c);
    turns(&h, 2);
    is_events(&h, "3:open; 3:message TEXT last words; 3:close 1006 connection closed without a "
                  "Close frame",
              "what came before the FIN is handled");
    stop("broken");
}

/* ---- C8: the queue goes first ---- */

static void test_queue_first(void)
{
    enum { SIZE = 50000, COUNT = 20 };
    static char payload[SIZE];
    harness_init(&h);
    h.send_buffer = 8192;
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    for (int who = 0; who < 4; who++) {
        client_open_small(&c, &h);
        ws_conn *conn = conn_at(&h, who);
        for (int i = 0; i < COUNT; i++)
            ws_conn_send(conn, payload, SIZE, WS_BINARY);
        ok(ws_conn_buffered_amount(conn) > SIZE, "much is queued");
        harness_events(&h);
        if (who == 0 || who == 3)
            ws_conn_end(conn, 1000, NULL, 0);
        else if (who == 1)
            client_send_close(&c, 1000, "");
        else
            client_write(&c, "\xff\x80kkkk", 6);
        turns(&h, 3);
        if (who == 3) /* FIN instead of a Close: the peer still reads */
            client_finish(&c);
        client_drain(&c);
        if (who == 0) {
            client_send_close(&c, 1000, "");
            client_drain(&c);
        }
        const char *got = client_frames(&c);
        size_t n = 0;
        for (const char *p = got; (p = strstr(p, "BINARY [50000], ")); p++)
            n++;
        is_int((long long)n, COUNT, "C8: all that was queued goes first");
        ok(strstr(got, "CLOSE 100") && strstr(got, ", EOF"), "C8: then Close and FIN");
        const char *events = harness_events(&h);
        ok(!strstr(events, "drain"), "S31: no drain after the end");
        client_close(&c);
        turns(&h, 3);
    }
    client_open_small(&c, &h);
    for (int i = 0; i < COUNT; i++)
        ws_conn_send(conn_at(&h, 4), payload, SIZE, WS_BINARY);
    ws_conn_end(conn_at(&h, 4), 1000, NULL, 0);
    advance(&h, 4999);
    is_int(stats_of(&h).connections, 1, "C10: a peer that reads nothing");
    advance(&h, 2);
    is_int(stats_of(&h).connections, 0, "C10: is waited for no longer than close_timeout");
    stop("the queue first");
}

/* ---- T36: races ---- */

static void act(char what)
{
    ws_conn *conn = conn_at(&h, 0);
    if (what == 'S' && conn)
        ws_conn_end(conn, 1001, "server", 6);
    else if (what == 'C')
        client_send_close(&c, 4001, "peer");
    else if (what == 'F')
        client_finish(&c);
    else if (what == 'R')
        client_reset(&c);
}

/* The first that the server sees decides the code; how the bytes met may leave two answers. */
static bool right_code(const char *order, bool turn_each)
{
    const char *close = h.events;
    bool local = !strcmp(close, "close 1001 server");
    bool peer = !strcmp(close, "close 4001 peer");
    bool broken = !strncmp(close, "close 1006 ", 11);
    if (!turn_each && strchr(order, 'S')) /* the API call is always first to be seen */
        return local;
    switch (order[0]) {
    case 'S':
        return local;
    case 'C':
        return peer || (!turn_each && strchr(order, 'R') && broken);
    default:
        return broken;
    }
}

static void test_races(void)
{
    static const char *const orders[] = {"SCF", "SCR", "SFC", "SRC", "CSF", "CSR", "CFS", "CRS",
                                         "FSC", "RSC", "FCS", "RCS", "CF",  "CR",  "F",   "R"};
    for (size_t i = 0; i < 2 * sizeof orders / sizeof *orders; i++) {
        const char *order = orders[i / 2];
        bool turn_each = i & 1;
        harness_init(&h);
        harness_start(&h);
        client_open(&c, &h);
        harness_events(&h);
        for (const char *p = order; *p; p++) {
            bool gone = strchr("C", *p) && (c.fd < 0 || (p > order && strchr(order, 'F') &&
                                                         strchr(order, 'F') < p));
            if (!gone)
                act(*p);
            if (turn_each)
                turns(&h, 3);
        }
        turns(&h, 3);
        bool fine = h.closed == 1 && right_code(order, turn_each);
        ok(fine, "T36, C9: order %s%s: one on_close, the right code", order,
           turn_each ? ", a turn each" : "");
        if (!fine)
            diag("%s", h.events);
        client_close(&c);
        turns(&h, 3);
        is_int(stats_of(&h).connections, 0, "C10: nothing is left");
        harness_stop(&h, "races");
    }
}

/* Both Closes cross on the wire. */
static void test_crossing(void)
{
    start();
    client_send_close(&c, 4001, "peer");
    ws_conn_end(conn_at(&h, 0), 1001, "server", 6);
    is_frames(&c, "CLOSE 1001 server, EOF", "C6, F14: one Close only, then FIN");
    is_events(&h, "close 1001 server", "C9: one event");
    stop("crossing");

    start();
    ws_conn_end(conn_at(&h, 0), 1001, "server", 6);
    client_write(&c, "\xff", 1);
    is_frames(&c, "CLOSE 1001 server, EOF", "F14: a failure after our Close sends no second one");
    is_events(&h, "close 1001 server", "C9: one event");
    stop("a failure after our Close");

    start();
    ws_conn_end(conn_at(&h, 0), 1001, "server", 6);
    client_finish(&c);
    is_frames(&c, "CLOSE 1001 server, EOF", "a FIN instead of a Close");
    stop("a FIN after our Close");
}

/* Time that passed outside of turns is not held against anybody. */
static void test_stale_clock(void)
{
    start();
    h.now += UINT64_C(3600) * 1000000000; /* a foreign loop had nothing to do for an hour */
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    turns(&h, 2);
    is_int(stats_of(&h).connections, 1, "C10: close_timeout counts from the call");
    advance(&h, 5000);
    is_int(stats_of(&h).connections, 0, "C10: and ends the connection");
    stop("a stale clock");
}

/* ---- a shutdown, and peers that keep TCP open ---- */

enum { ANSWERS, CLOSES_FIRST, BREAKS_A_RULE, SPEAKS_NO_HTTP, WAYS };
static const char *const ways[WAYS] = {"answers the Close", "closed before",
                                       "broke a rule before", "got an HTTP error before"};

/* Everything is said and nothing more is to come, but the peer does not close TCP. */
static void shut_down(int way, enum acks acks)
{
    start();
    kernel_reset(h.port);
    kernel.acks = acks;
    if (way == SPEAKS_NO_HTTP) {
        client_close(&c);
        client_connect(&c, &h);
        client_say(&c, "nonsense\r\n\r\n");
    } else if (way == CLOSES_FIRST) {
        client_send_close(&c, 1000, "");
    } else if (way == BREAKS_A_RULE) {
        client_frame(&c, 0x83, "", 0);
    }
    client_drain(&c);
    ok(c.eof == (way != ANSWERS), "a peer that %s", ways[way]);
    ws_server_shutdown(h.server, 1001, NULL, 0, 60000);
    if (way == ANSWERS)
        client_send_close(&c, 1001, "");
    client_drain(&c);
    ok(c.eof, "has got FIN");
}

static void test_shutdown_of_lingering(void)
{
    for (int way = 0; way < WAYS; way++) {
        shut_down(way, ACKS_ALL);
        advance(&h, 999);
        is_int(ws_server_step(h.server, 0), 1, "C6: which has a second to read what was sent");
        advance(&h, 1);
        is_int(ws_server_step(h.server, 0), WS_OK, "T87: and is not waited for any longer");
        stop("a shutdown");

        shut_down(way, ACKS_NONE);
        for (int seconds = 1; seconds < 5; seconds++)
            advance(&h, 1000);
        is_int(ws_server_step(h.server, 0), 1, "C6: what was sent may still be on its way");
        advance(&h, 1000);
        is_int(ws_server_step(h.server, 0), WS_OK, "C10: but not beyond close_timeout");
        stop("a shutdown without acknowledgements");

        shut_down(way, ACKS_NONE);
        for (int i = 0; i < 5; i++)
            advance(&h, 500);
        kernel.acks = ACKS_ALL;
        advance(&h, 499);
        is_int(ws_server_step(h.server, 0), 1, "C6: acknowledged late");
        advance(&h, 1);
        is_int(ws_server_step(h.server, 0), WS_OK, "T87: which is looked for every second");
        stop("a shutdown with late acknowledgements");
    }
}

/* The close_timeout of one whose Close took a while to be answered is not begun anew. */
static void test_shutdown_after_a_late_answer(void)
{
    start();
    kernel_reset(h.port);
    kernel.acks = ACKS_NONE;
    ws_server_shutdown(h.server, 1001, NULL, 0, 60000);
    advance(&h, 2500);
    client_send_close(&c, 1001, "");
    is_frames(&c, "CLOSE 1001, EOF", "an answer after half of close_timeout");
    advance(&h, 1000);
    is_int(ws_server_step(h.server, 0), 1, "C6: unacknowledged");
    advance(&h, 1500);
    is_int(ws_server_step(h.server, 0), WS_OK, "C10: close_timeout is for all of closing");
    stop("a late answer");
}

/* As the kernel says it. */
static void test_shutdown_acknowledged(void)
{
    harness_init(&h);
    h.behavior.close_timeout = 60000;
    harness_start(&h);
    client_open(&c, &h);
    kernel_reset(h.port);
    ws_server_shutdown(h.server, 1001, NULL, 0, 600000);
    client_send_close(&c, 1001, "");
    is_frames(&c, "CLOSE 1001, EOF", "Close and FIN are in the peer's kernel");
    int seconds = 0;
    for (; seconds < 50 && stats_of(&h).connections; seconds++) {
        poll(NULL, 0, seconds ? 500 : 1); /* real time, until the kernel has seen it */
        advance(&h, 1000);
    }
    ok(seconds < 50, "T87: acknowledged");
    stop("the kernel's own word");
}

static void cases(void)
{
    CASE(test_peer_closes());
    CASE(test_after_peers_close());
    CASE(test_server_closes());
    CASE(test_codes());
    CASE(test_end_in_handler());
    CASE(test_hard_close());
    CASE(test_failures());
    CASE(test_broken());
    CASE(test_queue_first());
    CASE(test_races());
    CASE(test_crossing());
    CASE(test_stale_clock());
    CASE(test_shutdown_of_lingering());
    CASE(test_shutdown_after_a_late_answer());
    CASE(test_shutdown_acknowledged());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
