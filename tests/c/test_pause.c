/* SPDX-License-Identifier: MIT */
/*
 * test_pause.c: ws_conn_pause and ws_conn_resume: in every handler, with whole and cut frames in
 * hand, while the peer ends or breaks off, with time, backpressure and shutdown; that a paused
 * connection costs nothing; and that what is left over of one never keeps it from being read.
 */
#include "harness.h"

#include <poll.h>
#include <stdlib.h>

static struct harness h;
static struct client c, d;
static enum event acting;
static void (*action)(ws_conn *conn);

static void act(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == acting && action)
        action(conn);
}

static void pause_it(ws_conn *conn)
{
    ws_conn_pause(conn);
}

static void pause_and_resume(ws_conn *conn)
{
    ws_conn_pause(conn);
    ws_conn_pause(conn);
    ws_conn_resume(conn);
    ws_conn_resume(conn);
}

static void pause_first(ws_conn *conn)
{
    (void)conn;
    ws_conn_pause(conn_at(&h, 0));
}

static void resume_first(ws_conn *conn)
{
    (void)conn;
    ws_conn_resume(conn_at(&h, 0));
}

static void prepare(void)
{
    harness_init(&h);
    h.tells_closed = true;
    h.hook = act;
    h.behavior.idle_timeout = 0;
    acting = ON_MESSAGE;
    action = NULL;
}

static void start(enum event event, void (*what)(ws_conn *conn))
{
    prepare();
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    acting = event;
    action = what;
}

static void stop(const char *name)
{
    action = NULL;
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, name);
}

static void resume(void)
{
    ws_conn_resume(conn_at(&h, 0));
    turns(&h, 2);
}

/* Does the server's descriptor say that there is something to do? */
static bool busy(void)
{
    struct pollfd fd = {ws_server_fd(h.server), POLLIN, 0};
    turns(&h, 3);
    return poll(&fd, 1, 5) > 0;
}

static size_t frame(char *out, const char *text)
{
    return make_frame(out, 0x81, text, strlen(text));
}

/* "a", "b", "c" in one packet, `cut` bytes short. */
static void say_three(size_t cut)
{
    char bytes[64];
    size_t n = frame(bytes, "a");
    n += frame(bytes + n, "b");
    n += frame(bytes + n, "c");
    client_write(&c, bytes, n - cut);
    turns(&h, 2);
}

static void test_in_message(void)
{
    start(ON_MESSAGE, pause_it);
    say_three(0);
    is_events(&h, "message TEXT a", "S26: paused: nothing more, though it is here already");
    client_text(&c, "d");
    ok(!busy(), "paused: no busy loop, with input kept and waiting");
    is_events(&h, "", "nothing at all");
    resume();
    is_events(&h, "message TEXT b", "resumed: one more, and paused again");
    ok(!busy(), "paused again: no busy loop");
    resume();
    is_events(&h, "message TEXT c", "another one");
    resume();
    is_events(&h, "message TEXT d", "what waited in the kernel");
    resume();
    is_events(&h, "", "that is all");
    client_text(&c, "e");
    turns(&h, 2);
    is_events(&h, "message TEXT e", "it is read again");
    stop("pause in on_message");

    for (size_t cut = 1; cut < 14; cut++) { /* the last frame, and the one before, are incomplete */
        start(ON_MESSAGE, pause_it);
        say_three(cut);
        is_events(&h, "message TEXT a", "paused with a cut frame after");
        char bytes[64];
        size_t n = frame(bytes, "b");
        n += frame(bytes + n, "c");
        n += frame(bytes + n, "d");
        size_t sent = 14 - cut;
        client_write(&c, bytes + sent, n - sent);
        ok(!busy(), "no busy loop, %zu bytes short", cut);
        action = NULL;
        resume();
        turns(&h, 2);
        is_events(&h, "message TEXT b; message TEXT c; message TEXT d", "resumed: whole, in order");
        stop("cut frames");
    }

    start(ON_MESSAGE, pause_and_resume);
    say_three(0);
    client_text(&c, "d");
    turns(&h, 2);
    is_events(&h, "message TEXT a; message TEXT b; message TEXT c; message TEXT d",
              "paused and resumed in the handler: as if not");
    stop("pause and resume");
}

static void test_in_others(void)
{
    static const enum event events[] = {ON_PING, ON_PONG, ON_SUBSCRIPTION, ON_DROPPED, ON_DRAIN};
    static const char *const names[] = {"on_ping", "on_pong", "on_subscription", "on_dropped",
                                        "on_drain"};
    static char large[300000];
    for (size_t i = 0; i < 5; i++) {
        prepare();
        h.behavior.max_backpressure = 1000;
        h.send_buffer = 4608;
        harness_start(&h);
        client_open_small(&c, &h);
        acting = events[i];
        action = pause_it;
        ws_conn *conn = conn_at(&h, 0);
        if (events[i] == ON_PING)
            client_frame(&c, 0x89, "p", 1);
        else if (events[i] == ON_PONG)
            client_frame(&c, 0x8a, "p", 1);
        else if (events[i] == ON_SUBSCRIPTION)
            ws_conn_subscribe(conn, "t", 1);
        for (int k = 0; k < 2 && i >= 3; k++)
            ws_conn_send(conn, large, sizeof large, WS_BINARY);
        if (events[i] == ON_DRAIN)
            client_drain(&c);
        client_text(&c, "x");
        turns(&h, 2);
        client_drain(&c);
        ok(!strstr(harness_events(&h), "message"), "paused in %s: nothing is handed out", names[i]);
        ok(!busy(), "paused in %s: no busy loop", names[i]);
        action = NULL;
        resume();
        is_events(&h, "message TEXT x", "resumed");
        stop(names[i]);
    }

    prepare(); /* messages stand after the handshake in one packet */
    harness_start(&h);
    acting = ON_OPEN;
    action = pause_it;
    client_connect(&c, &h);
    char bytes[400];
    size_t n = strlen(handshake_request);
    memcpy(bytes, handshake_request, n);
    n += frame(bytes + n, "early");
    n += frame(bytes + n, "cut");
    client_write(&c, bytes, n - 1);
    turns(&h, 3);
    is_events(&h, "open", "S26: paused in on_open");
    is_responses(&c, "101", "the answer goes out");
    client_write(&c, bytes + n - 1, 1);
    ok(!busy(), "paused in on_open: no busy loop");
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT early; message TEXT cut", "H15: resumed: nothing is lost");
    stop("pause in on_open");

    start(ON_CLOSE, pause_it);
    client_send_close(&c, 1000, "");
    turns(&h, 2);
    is_events(&h, "close 1000; closed 1000 by peer", "paused in on_close: too late");
    is_frames(&c, "CLOSE 1000, EOF", "it ends as ever");
    stop("pause in on_close");

    start(ON_MESSAGE, NULL);
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_resume(conn);
    ws_conn_pause(conn);
    ws_conn_pause(conn);
    client_text(&c, "x");
    turns(&h, 2);
    ws_conn_resume(conn);
    turns(&h, 2);
    is_events(&h, "message TEXT x", "pausing does not nest");
    stop("no nesting");
}

static ws_request *waiting;

static void defer_it(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    (void)harness, (void)data, (void)length;
    if (event == ON_UPGRADE && ws_request_defer(request, NULL, NULL) == WS_OK)
        waiting = request;
    if (event == ON_OPEN)
        ws_conn_pause(conn);
}

static void test_deferred_upgrade(void)
{
    prepare();
    h.answers = true;
    h.hook = defer_it;
    harness_start(&h);
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    turns(&h, 2);
    client_text(&c, "early");
    turns(&h, 2);
    ws_request_upgrade(waiting, NULL, 0, NULL);
    turns(&h, 3);
    client_text(&c, "later");
    ok(!busy(), "paused at a deferred upgrade: no busy loop");
    is_events(&h, "open", "paused: what came early waits");
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT early; message TEXT later", "resumed: in order");
    stop("deferred upgrade");
}

static void resume_later(void *argument)
{
    ws_conn_resume(conn_at(argument, 0));
}

static bool wait_resumes;

static void before_wait(void *user)
{
    struct harness *harness = user;
    if (wait_resumes && harness->opened && conn_at(harness, 0))
        ws_conn_resume(conn_at(harness, 0));
}

static void test_by_others(void)
{
    for (int way = 0; way < 4; way++) {
        prepare();
        h.config.before_wait = before_wait;
        harness_start(&h);
        client_open(&c, &h);
        client_open(&d, &h);
        acting = ON_MESSAGE;
        action = pause_first;
        client_text(&d, "pause");
        turns(&h, 1);
        client_text(&c, "1");
        client_text(&c, "2");
        turns(&h, 3);
        is_events(&h, "open; 1:open; 1:message TEXT pause", "paused by another one's handler");
        action = resume_first;
        if (way == 0)
            client_text(&d, "resume");
        else if (way == 1)
            ws_server_defer(h.server, resume_later, &h);
        else if (way == 2)
            ws_server_set_alarm(h.server, 0, resume_later, &h);
        wait_resumes = way == 3;
        turns(&h, 3);
        wait_resumes = false;
        is_events(&h, way ? "message TEXT 1; message TEXT 2"
                          : "1:message TEXT resume; message TEXT 1; message TEXT 2",
                  "resumed by a handler, a deferred call, the alarm, before_wait");
        client_close(&d);
        stop("by others");
    }
}

/* More messages than a turn handles. */
static int seen, pause_each;
static bool in_order;

static void count(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_MESSAGE)
        return;
    char text[16];
    snprintf(text, sizeof text, "%d", seen++);
    in_order = in_order && length == strlen(text) && !memcmp(text, data, length);
    if (seen % pause_each == 0)
        ws_conn_pause(conn);
}

static void test_many(void)
{
    enum { MANY = 5000 };
    static const int steps[] = {1, 5, 1023, 1024, 1025, 3000};
    static char bytes[MANY * 12];
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        size_t n = 0;
        char text[16];
        start(ON_MESSAGE, NULL);
        h.hook = count;
        h.quiet = true;
        seen = 0;
        in_order = true;
        pause_each = steps[s];
        for (int i = 0; i < MANY; i++) {
            snprintf(text, sizeof text, "%d", i);
            n += frame(bytes + n, text);
        }
        client_write(&c, bytes, n);
        for (int k = 0; k < MANY + 100 && seen < MANY; k++) {
            int before = seen;
            ws_conn_resume(conn_at(&h, 0));
            turns(&h, 1);
            in_order = in_order && seen - before <= pause_each;
            if (k < 5)
                turns(&h, 8);
        }
        ok(seen == MANY && in_order, "T30: 5000 messages in a packet, paused after each %d",
           steps[s]);
        h.quiet = false;
        stop("many");
    }
}

/* What a paused peer sends stays in the kernel. */
static void test_memory(void)
{
    static char chunk[60000];
    start(ON_MESSAGE, NULL);
    h.quiet = true;
    size_t before = stats_of(&h).memory, sent = 0, n;
    ws_conn_pause(conn_at(&h, 0));
    do {
        n = client_write(&c, chunk, sizeof chunk);
        sent += n;
        turns(&h, 3);
    } while (n == sizeof chunk && sent < 64u << 20);
    ok(sent < 64u << 20, "paused: the peer is slowed down, after %zu bytes", sent);
    is_int((long long)stats_of(&h).memory, (long long)before, "paused: nothing is kept");
    ws_conn_close(conn_at(&h, 0));
    h.quiet = false;
    stop("memory");
}

static void test_peer_ends(void)
{
    start(ON_MESSAGE, pause_it);
    say_three(0);
    client_finish(&c);
    ok(!busy(), "the peer ends while paused: no busy loop");
    is_events(&h, "message TEXT a", "not seen while paused");
    action = NULL;
    resume();
    turns(&h, 2);
    is_events(&h,
              "message TEXT b; message TEXT c; close 1006 connection closed without a Close frame; "
              "closed unclean by peer",
              "resumed: the messages, then the end");
    stop("EOF while paused");

    start(ON_MESSAGE, pause_it);
    say_three(0);
    client_send_close(&c, 3001, "x");
    client_finish(&c);
    ok(!busy(), "the peer closes while paused: no busy loop");
    action = NULL;
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT a; message TEXT b; message TEXT c; close 3001 x; "
                  "closed 3001 x by peer",
              "resumed: the messages, then the Close");
    stop("Close while paused");

    start(ON_MESSAGE, pause_it);
    say_three(0);
    client_reset(&c);
    turns(&h, 3);
    is_events(&h, "message TEXT a", "T36: reset while paused: not seen, as messages wait");
    ok(!busy(), "no busy loop");
    action = NULL;
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT b; message TEXT c; close 1006 connection reset by peer; "
                  "closed unclean by peer",
              "T36: resumed: the messages, then the end");
    stop("RST while paused");

    start(ON_MESSAGE, pause_it);
    client_text(&c, "a");
    turns(&h, 2);
    client_reset(&c);
    turns(&h, 3);
    is_events(&h, "message TEXT a; close 1006 connection reset by peer; closed unclean by peer",
              "T36: reset while paused, and nothing is left: at once");
    stop("RST while paused, nothing left");

    start(ON_MESSAGE, pause_it);
    say_three(0);
    client_finish(&c);
    turns(&h, 2);
    ws_conn_send(conn_at(&h, 0), "still", 5, WS_TEXT);
    is_frames(&c, "TEXT still", "paused, half-closed: sends go out");
    client_close(&c); /* unread or not: what we send now is answered by RST */
    ws_conn_send(conn_at(&h, 0), "more", 4, WS_TEXT);
    turns(&h, 5);
    is_events(&h, "message TEXT a", "paused, the peer is gone: messages wait");
    ok(!busy(), "no busy loop");
    is_int(ws_conn_send(conn_at(&h, 0), "x", 1, WS_TEXT), WS_DROPPED, "sends are dropped");
    action = NULL;
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT b; message TEXT c; close 1006 connection reset by peer; "
                  "closed unclean by peer",
              "resumed: the messages, then the end");
    stop("gone while paused");
}

static void test_we_end(void)
{
    char bytes[200];
    size_t n;
    start(ON_MESSAGE, pause_it);
    ws_conn_pause(conn_at(&h, 0));
    ws_conn_end(conn_at(&h, 0), 1000, "bye", 3);
    turns(&h, 2);
    is_events(&h, "close 1000 bye", "ended while paused");
    client_text(&c, "late");
    client_send_close(&c, 1000, "ok");
    turns(&h, 2);
    is_events(&h, "closed 1000 ok", "ended while paused: the peer's Close is read");
    is_frames(&c, "CLOSE 1000 bye, EOF", "C6");
    stop("end while paused");

    start(ON_MESSAGE, pause_it); /* the Close is here already, after kept messages */
    n = frame(bytes, "a");
    n += frame(bytes + n, "b");
    n += make_close(bytes + n, 3002, "kept");
    client_write(&c, bytes, n);
    turns(&h, 2);
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    turns(&h, 3);
    is_events(&h, "message TEXT a; close 1000; closed 3002 kept", "ended: the kept Close is found");
    is_frames(&c, "CLOSE 1000, EOF", "C6");
    stop("kept Close");

    start(ON_MESSAGE, pause_it);
    say_three(0);
    ws_server_shutdown(h.server, 1001, "down", 4, 1000);
    client_send_close(&c, 1001, "");
    turns(&h, 4);
    is_events(&h, "message TEXT a; close 1001 down; closed 1001", "shutdown while paused");
    stop("shutdown while paused");

    start(ON_MESSAGE, pause_it);
    say_three(0);
    ws_conn_close(conn_at(&h, 0));
    is_events(&h, "message TEXT a; close 1006 closed by the server; closed unclean",
              "closed while paused");
    stop("close while paused");

    start(ON_MESSAGE, pause_it);
    say_three(1);
    is_int(ws_server_free(h.server), WS_OK, "freed while paused");
    is_events(&h, "message TEXT a; close 1006 the server was freed; closed unclean", "freed");
    ok(!h.memory.bytes && !h.memory.blocks, "T68: all memory is back");
    client_close(&c);
}

static void test_time(void)
{
    prepare();
    h.behavior.idle_timeout = 9000; /* a Ping at 6 s */
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    advance(&h, 5000);
    ws_conn_pause(conn_at(&h, 0));
    for (int i = 0; i < 10; i++)
        advance(&h, 10000);
    is_frames(&c, "", "S50: paused: no Ping");
    is_events(&h, "", "S50: paused: idle_timeout stands still");
    ws_conn_resume(conn_at(&h, 0));
    turns(&h, 2);
    advance(&h, 5900);
    is_frames(&c, "", "resumed: silence begins anew");
    advance(&h, 200);
    ok(!strncmp(client_frames(&c), "PING", 4), "S39: then a Ping");
    advance(&h, 3100);
    is_events(&h, "close 1006 idle timeout; closed unclean", "S41: then the end");
    stop("time");

    prepare();
    h.behavior.idle_timeout = 9000;
    h.behavior.max_lifetime = 20000;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    ws_conn_pause(conn_at(&h, 0));
    advance(&h, 20100);
    is_events(&h, "close 1000 please reconnect", "max_lifetime ends a paused one, too");
    client_send_close(&c, 1000, "");
    turns(&h, 2);
    is_events(&h, "closed 1000", "whose Close is read");
    stop("lifetime");
}

static void test_backpressure(void)
{
    static char large[100000];
    prepare();
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    client_open_small(&c, &h);
    harness_events(&h);
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_pause(conn);
    is_int(ws_conn_send(conn, large, sizeof large, WS_BINARY), WS_BACKPRESSURE,
           "paused: sends wait");
    client_text(&c, "x");
    turns(&h, 3);
    is_events(&h, "", "nothing is read");
    is_frames(&c, "BINARY [100000]", "paused: all goes out");
    is_events(&h, "drain", "S31: on_drain comes while paused");
    resume();
    is_events(&h, "message TEXT x", "resumed");
    stop("backpressure");
}

static void publish(void *argument)
{
    (void)argument;
    ws_server_publish(h.server, "t", 1, "x", 1, WS_TEXT);
}

/* An incomplete frame is kept, and there is something to send in each turn. */
static void test_starvation(void)
{
    for (int way = 0; way < 3; way++) {
        char bytes[200];
        start(ON_MESSAGE, NULL);
        ws_conn_subscribe(conn_at(&h, 0), "t", 1);
        harness_events(&h);
        size_t n = make_frame(bytes, 0x81, "message", 7);
        for (size_t i = 0; i < n; i++) {
            client_write(&c, bytes + i, 1);
            if (way != 1)
                ws_server_defer(h.server, publish, NULL);
            if (way != 0)
                publish(NULL);
            turns(&h, 1);
        }
        turns(&h, 1);
        is_events(&h, "message TEXT message", "published to in every turn: it is read");
        stop("starvation");
    }
}

/* A stream of messages in random pieces, paused and resumed at random. */
static uint64_t state = 7;
static int at;
static bool paused, good;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static void toss(ws_conn *conn)
{
    while (draw(3) == 0) {
        paused = draw(2);
        (paused ? ws_conn_pause : ws_conn_resume)(conn);
    }
}

static size_t length_of(int i)
{
    return (size_t)i * 7919 % 13 == 0 ? (size_t)i * 31 % 9000 : (size_t)i % 130;
}

static void take(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_MESSAGE)
        return;
    good = good && !paused && length == length_of(at);
    for (size_t i = 0; i < length; i++)
        good = good && data[i] == (char)at;
    at++;
    toss(conn);
}

static void test_random(void)
{
    const int many = getenv("UNDER_VALGRIND") ? 500 : 5000;
    static char body[9000], pending[20000];
    size_t length = 0, done = 0;
    start(ON_MESSAGE, NULL);
    h.hook = take;
    h.quiet = true;
    good = true;
    paused = false;
    at = 0;
    for (int next = 0, rounds = 0; at < many && good && rounds < many * 1000; rounds++) {
        while (next < many && length - done < 5000) {
            memmove(pending, pending + done, length - done);
            length -= done;
            done = 0;
            memset(body, next, length_of(next));
            length += make_frame(pending + length, 0x82, body, length_of(next));
            next++;
        }
        size_t piece = draw(4) ? draw(300) : draw(10000);
        done += client_write(&c, pending + done, piece < length - done ? piece : length - done);
        toss(conn_at(&h, 0));
        turns(&h, 1);
        good = good && conn_at(&h, 0);
    }
    ok(good && at == many, "random pieces, random pauses: %d messages, none while paused, in order",
       at);
    h.quiet = false;
    stop("random");
}

static void cases(void)
{
    CASE(test_in_message());
    CASE(test_in_others());
    CASE(test_deferred_upgrade());
    CASE(test_by_others());
    CASE(test_many());
    CASE(test_memory());
    CASE(test_peer_ends());
    CASE(test_we_end());
    CASE(test_time());
    CASE(test_backpressure());
    CASE(test_starvation());
    CASE(test_random());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
