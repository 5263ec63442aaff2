/* SPDX-License-Identifier: MIT */
/*
 * test_closed.c: on_closed: once for each connection, after on_close, with what came of the closing
 * handshake (RFC 6455 7.1.4), and who began it, for every way in which a connection ends.
 */
#include "harness.h"

#include <stdlib.h>

static struct harness h;
static struct client c;
static int by_peer, by_peer_closed; /* as on_close and on_closed were told; -1: did not run */
static bool found, named;

/* What a handler does on one event. */
static enum event acting;
static void (*action)(ws_conn *conn);

static void watch(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)request, (void)data, (void)length;
    if (event == ON_CLOSE)
        by_peer = ws_conn_closed_by_peer(conn);
    if (event == ON_CLOSED) {
        by_peer_closed = ws_conn_closed_by_peer(conn);
        found = ws_server_find(harness->server, ws_conn_get_id(conn)) != NULL;
        named = ws_conn_get_id(conn) == harness->ids[(uintptr_t)ws_conn_user(conn)];
    }
    if (event == acting && action)
        action(conn);
}

static void prepare(void)
{
    harness_init(&h);
    h.tells_closed = true;
    h.hook = watch;
    h.behavior.close_timeout = 3000;
    by_peer = by_peer_closed = -1;
    found = named = false;
    action = NULL;
    acting = ON_UPGRADE;
}

static void run(void)
{
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
}

static void start(void)
{
    prepare();
    run();
}

static void check(const char *events, bool peer, const char *name)
{
    turns(&h, 3);
    is_events(&h, events, name);
    is_int(by_peer, peer, "closed_by_peer in on_close: %s", name);
    is_int(by_peer_closed, peer, "closed_by_peer in on_closed: %s", name);
    ok(named && !found, "conn is named by its id, and not found any more: %s", name);
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    is_events(&h, "", "nothing after on_closed");
    harness_stop(&h, name);
}

static void end(void)
{
    ws_conn_end(conn_at(&h, 0), 1001, "bye", 3);
}

static void test_by_peer(void)
{
    start();
    client_send_close(&c, 1000, "done");
    check("close 1000 done; closed 1000 done by peer", true, "S7: the peer's Close");
    is_frames(&c, "CLOSE 1000, EOF", "C1: answered");
    stop("the peer's Close");

    start();
    client_send_close(&c, 0, "");
    check("close 1005; closed 1005 by peer", true, "S7, C5: the peer's Close without a code");
    stop("Close without a code");

    start();
    client_finish(&c);
    check("close 1006 connection closed without a Close frame; closed unclean by peer", true,
          "C5: EOF");
    stop("EOF");

    start();
    client_reset(&c);
    check("close 1006 connection reset by peer; closed unclean by peer", true, "T36: RST");
    stop("RST");

    start();
    client_text(&c, "last");
    client_send_close(&c, 3000, "x");
    client_finish(&c);
    check("message TEXT last; close 3000 x; closed 3000 x by peer", true, "T36: Close and EOF");
    stop("Close and EOF");

    start();
    client_send_close(&c, 4000, "");
    client_reset(&c);
    turns(&h, 3);
    const char *events = harness_events(&h);
    ok(!strcmp(events, "close 4000; closed 4000 by peer") ||
           !strcmp(events, "close 1006 connection reset by peer; closed unclean by peer"),
       "T36: Close and RST: one or the other");
    stop("Close and RST");
}

static void test_answered(void)
{
    start();
    end();
    is_events(&h, "close 1001 bye", "S27: on_close comes at once, on_closed does not");
    turns(&h, 3);
    is_events(&h, "", "the peer's Close is awaited");
    client_send_close(&c, 1001, "bye");
    check("closed 1001 bye", false, "our Close, answered");
    is_frames(&c, "CLOSE 1001 bye, EOF", "C6");
    stop("our Close, answered");

    start();
    end();
    client_text(&c, "late");
    client_frame(&c, 0x01, "part", 4);
    client_frame(&c, 0x89, "ping", 4);
    turns(&h, 3);
    client_frame(&c, 0x80, "rest", 4);
    client_send_close(&c, 4001, "other");
    check("close 1001 bye; closed 4001 other", false,
          "S26: answered after more data, with another code");
    is_frames(&c, "CLOSE 1001 bye, EOF", "F14: no Pong");
    stop("answered late");

    start();
    end();
    char bytes[140];
    size_t n = make_close(bytes, 1001, "split");
    for (size_t i = 0; i < n; i++) {
        client_write(&c, bytes + i, 1);
        turns(&h, 1);
    }
    check("close 1001 bye; closed 1001 split", false, "answered byte by byte");
    stop("byte by byte");

    start();
    client_send_close(&c, 1000, "mine");
    end(); /* not read yet */
    check("close 1001 bye; closed 1000 mine", false, "T36: both at once: ours was the first");
    stop("both at once");

    start();
    end();
    client_send_close(&c, 0, "");
    check("close 1001 bye; closed 1005", false, "C5: answered without a code");
    stop("answered without a code");

    start();
    ws_conn_end(conn_at(&h, 0), 0, NULL, 0);
    client_send_close(&c, 1000, "");
    check("close 1005; closed 1000", false, "C5: ours without a code");
    stop("ours without a code");
}

static void test_not_answered(void)
{
    start();
    end();
    turns(&h, 2);
    advance(&h, 2990);
    is_events(&h, "close 1001 bye", "C10: not before close_timeout");
    advance(&h, 20);
    check("closed unclean", false, "T33: our Close, never answered");
    stop("never answered");

    start();
    end();
    client_finish(&c);
    check("close 1001 bye; closed unclean", false, "T36: our Close, EOF");
    stop("our Close, EOF");

    start();
    end();
    client_reset(&c);
    check("close 1001 bye; closed unclean", false, "T36: our Close, RST");
    stop("our Close, RST");

    start();
    end();
    client_write(&c, "\x81\x01x", 3); /* unmasked */
    client_finish(&c);
    check("close 1001 bye; closed unclean", false, "F1: our Close, and the peer breaks a rule");
    stop("our Close, broken rule");

    start();
    end();
    ws_server_shutdown(h.server, 1000, NULL, 0, 0);
    check("close 1001 bye; closed unclean", false, "our Close, then a shutdown that does not wait");
    stop("our Close, shutdown");
}

static void test_failed(void)
{
    start();
    client_write(&c, "\x81\x01x", 3);
    turns(&h, 2);
    const char *events = harness_events(&h);
    ok(!strncmp(events, "close 1002 ", 11) && !strstr(events, "closed"), "F1: on_close with 1002");
    client_send_close(&c, 1002, "");
    client_finish(&c);
    check("closed unclean", false, "C7: a broken rule: the end was begun here");
    stop("broken rule");

    start();
    client_send_close(&c, 1006, "");
    turns(&h, 2);
    events = harness_events(&h);
    ok(!strncmp(events, "close 1002 ", 11) && !strstr(events, "closed"), "C3: a bad Close: 1002");
    client_finish(&c);
    check("closed unclean", false, "C3: a Close that is none");
    stop("bad Close");

    start();
    client_write(&c, "\x81\x01x", 3);
    turns(&h, 2);
    harness_events(&h);
    advance(&h, 3100);
    check("closed unclean", false, "C6: a broken rule, and the peer stays: close_timeout");
    stop("broken rule, peer stays");

    prepare();
    h.behavior.max_backpressure = 100;
    h.behavior.close_on_backpressure_limit = true;
    h.send_buffer = 4608;
    harness_start(&h);
    client_open_small(&c, &h);
    harness_events(&h);
    static char large[200000];
    for (int i = 0; i < 100 && conn_at(&h, 0); i++)
        ws_conn_send(conn_at(&h, 0), large, sizeof large, WS_BINARY);
    is_events(&h, "close 1008 max_backpressure exceeded", "S37: on_close");
    client_reset(&c);
    check("closed unclean", false, "S37: the limit");
    stop("the limit");
}

static void test_by_us(void)
{
    start();
    ws_conn_close(conn_at(&h, 0));
    check("close 1006 closed by the server; closed unclean", false, "S27: ws_conn_close");
    stop("ws_conn_close");

    start();
    end();
    harness_events(&h);
    client_text(&c, "x");
    turns(&h, 1);
    ok(!conn_at(&h, 0), "a connection that is ended cannot be found");
    client_send_close(&c, 1001, "");
    check("closed 1001", false, "so ws_conn_close is no matter");
    stop("find after end");

    prepare();
    h.behavior.idle_timeout = 1000;
    h.behavior.ping_interval = 0;
    run();
    advance(&h, 1100);
    check("close 1006 idle timeout; closed unclean", false, "S41: idle timeout");
    stop("idle timeout");

    prepare();
    h.behavior.idle_timeout = 0;
    h.behavior.ping_interval = 1000;
    h.behavior.ping_timeout = 500;
    run();
    advance(&h, 1100);
    advance(&h, 600);
    check("close 1006 ping timeout; closed unclean", false, "ping timeout");
    stop("ping timeout");

    prepare();
    h.behavior.max_lifetime = 1000;
    run();
    advance(&h, 1100);
    is_events(&h, "close 1000 please reconnect", "max_lifetime: on_close");
    client_send_close(&c, 1000, "");
    check("closed 1000", false, "max_lifetime, answered");
    stop("max_lifetime");

    start();
    ws_server_shutdown(h.server, 1001, "down", 4, 1000);
    is_events(&h, "close 1001 down", "shutdown: on_close");
    client_send_close(&c, 1001, "");
    check("closed 1001", false, "shutdown, answered");
    stop("shutdown, answered");

    start();
    ws_server_shutdown(h.server, 1001, "down", 4, 1000);
    advance(&h, 1100);
    check("close 1001 down; closed unclean", false, "shutdown, not answered");
    stop("shutdown, not answered");
}

static void drop(ws_conn *conn)
{
    ws_conn_close(conn);
}

static void end_again(ws_conn *conn)
{
    ws_conn_end(conn, 1000, "again", 5);
    ws_conn_send(conn, "x", 1, WS_TEXT);
    ws_conn_pause(conn);
    ws_conn_resume(conn);
    ws_conn_subscribe(conn, "new", 3);
}

static void subscribe(ws_conn *conn)
{
    ws_conn_subscribe(conn, "topic", 5);
}

/* In all of them: once each, and what had come of the handshake before the handler acted. */
static void test_in_handlers(void)
{
    static const struct {
        enum event event;
        void (*action)(ws_conn *conn);
        const char *name;
    } cases[] = {{ON_CLOSE, drop, "ws_conn_close in on_close"},
                 {ON_SUBSCRIPTION, drop, "ws_conn_close in on_subscription at close"},
                 {ON_CLOSED, drop, "ws_conn_close in on_closed"},
                 {ON_CLOSE, end_again, "ws_conn_end in on_close"},
                 {ON_SUBSCRIPTION, end_again, "ws_conn_end in on_subscription at close"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool drops = cases[i].action == drop && cases[i].event != ON_CLOSED;
        bool topic = cases[i].event == ON_SUBSCRIPTION;
        for (int way = 0; way < 4; way++) {
            char want[200], name[200];
            static const char *const ways[] = {"the peer's Close", "our Close", "RST", "1002"};
            static const char *const ends[] = {
                "close 1000 done", "close 1001 bye", "close 1006 connection reset by peer",
                "close 1002 unmasked frame from client"};
            static const char *const overs[] = {"closed 1000 done by peer", "closed 1001",
                                                "closed unclean by peer", "closed unclean"};
            start();
            if (topic) {
                subscribe(conn_at(&h, 0));
                harness_events(&h);
            }
            acting = cases[i].event;
            action = cases[i].action;
            if (way == 0)
                client_send_close(&c, 1000, "done");
            else if (way == 1)
                end(), client_send_close(&c, 1001, "");
            else if (way == 2)
                client_reset(&c);
            else
                client_write(&c, "\x81\x01x", 3), client_finish(&c);
            turns(&h, 3);
            const char *got = harness_events(&h);
            snprintf(want, sizeof want, "%s%s; %s", topic ? "-topic 0; " : "", ends[way],
                     drops && way == 1 ? "closed unclean" : overs[way]);
            snprintf(name, sizeof name, "%s: %s", cases[i].name, ways[way]);
            if (way == 3) { /* the text of the reason is not the matter here */
                const char *over = strstr(got, "; closed");
                ok(strstr(got, "close 1002 ") && over && !strcmp(over, "; closed unclean"), "%s",
                   name);
            } else {
                is_text(got, want, name);
            }
            is_int(by_peer_closed, way == 0 || way == 2, "closed_by_peer: %s", name);
            stop(name);
        }
    }
}

static void test_free(void)
{
    for (int way = 0; way < 3; way++) {
        start();
        if (way)
            end();
        if (way == 2) {
            client_write(&c, "\x88", 1);
            turns(&h, 1);
        }
        harness_events(&h);
        bool clean = harness_free(&h);
        is_events(&h, way ? "closed unclean" : "close 1006 the server was freed; closed unclean",
                  "ws_server_free");
        ok(clean, "T68: ws_server_free: once, and all memory is back");
        client_close(&c);
    }
}

/* on_closed does to others what it likes. */
static struct client others[8];

static void disturb(ws_conn *conn)
{
    (void)conn;
    action = NULL; /* theirs do not */
    ws_server_publish(h.server, "topic", 5, "gone", 4, WS_TEXT);
    for (int i = 1; i < 9; i++) {
        if (i & 1)
            ws_conn_close(conn_at(&h, i));
        else
            ws_conn_end(conn_at(&h, i), 1000, NULL, 0);
    }
}

static void test_others(void)
{
    start();
    for (int i = 0; i < 8; i++) {
        client_open(&others[i], &h);
        subscribe(conn_at(&h, i + 1));
    }
    harness_events(&h);
    acting = ON_CLOSED;
    action = disturb;
    client_send_close(&c, 1000, "");
    turns(&h, 3);
    for (int i = 0; i < 8; i++) {
        is_frames(&others[i], i & 1 ? "TEXT gone, CLOSE 1000" : "EOF",
                  "T60: on_closed publishes to all, and ends all others");
        client_send_close(&others[i], 1000, "");
        client_drain(&others[i]);
        client_close(&others[i]);
    }
    harness_events(&h);
    stop("others");
}

static void shut_down(ws_conn *conn)
{
    (void)conn;
    ws_server_shutdown(h.server, 1001, NULL, 0, 10000);
}

/* FIN was sent long before the connection is dropped; a shutdown begins while it is. */
static void test_shutdown_in_on_closed(void)
{
    for (int resets = 0; resets < 2; resets++) {
        start();
        acting = ON_CLOSED;
        action = shut_down;
        client_write(&c, "\x81\x01x", 3); /* unmasked */
        turns(&h, 2);
        if (resets)
            client_reset(&c);
        else
            client_finish(&c);
        turns(&h, 2);
        harness_events(&h);
        advance(&h, 5000);
        is_int(ws_server_step(h.server, 0), WS_OK, "the shutdown is over");
        stop("a shutdown in on_closed of a connection that lingered");
    }
}

/* What leads to a connection, and is forgotten before on_close. */
static ws_conn *place;
static void *user_of_conn;
static bool kept_in_close;

static void keep(ws_conn *conn, void *user)
{
    (void)user;
    place = conn;
    ws_conn_set_user(conn, user_of_conn);
}

static void look(ws_conn *conn, int code, const char *reason, size_t length, void *user)
{
    (void)code, (void)reason, (void)length, (void)user;
    kept_in_close = place == conn;
    by_peer = ws_conn_closed_by_peer(conn);
}

static void test_place(void)
{
    static const char *const ways[] = {"the peer's Close", "our Close", "RST", "ws_server_free"};
    for (int kind = 0; kind < 3; kind++) {
        for (int way = 0; way < 4; way++) {
            prepare();
            user_of_conn = kind == 1 ? NULL : &place;
            h.behavior.user_is_place = kind < 2;
            h.behavior.on_open = keep;
            h.behavior.on_close = look;
            h.behavior.on_closed = NULL;
            run();
            ok(place && ws_conn_user(place) == user_of_conn, "the address stays while it is open");
            if (way == 0)
                client_send_close(&c, 1000, "");
            else if (way == 1)
                ws_conn_end(place, 1001, "", 0);
            else if (way == 2)
                client_reset(&c);
            turns(&h, way < 3 ? 2 : 0);
            client_close(&c);
            turns(&h, way < 3 ? 2 : 0);
            if (way < 3)
                harness_stop(&h, ways[way]);
            else
                ok(harness_free(&h), "ws_server_free: all memory is back");
            ok(by_peer >= 0 && kept_in_close == (kind > 0), "user %d, %s: the address is %s", kind,
               ways[way], kind ? "left alone" : "forgotten before on_close");
        }
    }
}

static void cases(void)
{
    CASE(test_by_peer());
    CASE(test_answered());
    CASE(test_not_answered());
    CASE(test_failed());
    CASE(test_by_us());
    CASE(test_in_handlers());
    CASE(test_free());
    CASE(test_others());
    CASE(test_shutdown_in_on_closed());
    CASE(test_place());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
