/* SPDX-License-Identifier: MIT */
/*
 * test_pause_messages.c: ws_conn_pause_messages (P2): Pings, Pongs and Closes are handled until the
 * next data frame, which is held with all that follows it; what a peer can make the server keep;
 * how the connection may end meanwhile; Pings of our own and idle_timeout; a model.
 */
#include "one_client.h"

#include <poll.h>
#include <stdlib.h>

static enum event acting;
static void (*action)(ws_conn *conn);

static void act(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == acting && action)
        action(conn);
}

static void prepare(enum event event, void (*what)(ws_conn *conn))
{
    harness_init(&h);
    h.tells_closed = true;
    h.hook = act;
    h.behavior.idle_timeout = 0;
    acting = event;
    action = what;
}

static void start(enum event event, void (*what)(ws_conn *conn))
{
    prepare(event, what);
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
}

static void end_case(const char *name)
{
    action = NULL;
    stop(name);
}

/* As the handler of messages does when what it fills is full. */
static void start_full(void)
{
    start(ON_MESSAGE, ws_conn_pause_messages);
}

static void resume(void)
{
    ws_conn_resume(conn_at(&h, 0));
    turns(&h, 3);
}

/* Does the server's descriptor say that there is something to do? */
static bool busy(void)
{
    struct pollfd fd = {ws_server_fd(h.server), POLLIN, 0};
    turns(&h, 3);
    return poll(&fd, 1, 5) > 0;
}

static char packet[4096];
static size_t packed;

static void pack(int first, const char *text)
{
    packed += make_frame(packet + packed, first, text, strlen(text));
}

static void send_packet(void)
{
    client_write(&c, packet, packed);
    packed = 0;
    turns(&h, 3);
}

enum { TEXT = 0x81, PART = 0x01, LAST = 0x80, PING = 0x89, PONG = 0x8a };

static void say(int first, const char *text)
{
    pack(first, text);
    send_packet();
}

/* ---- what is handled ---- */

static void test_control_frames(void)
{
    start_full();
    say(TEXT, "a");
    say(PING, "1");
    is_frames(&c, "PONG 1", "P2: a Ping is answered while messages wait");
    say(PONG, "unasked");
    say(PING, "2");
    is_frames(&c, "PONG 2", "P2: and another one");
    is_events(&h, "message TEXT a; ping 1; pong unasked; ping 2", "their handlers run");
    say(TEXT, "b");
    ok(!busy(), "P2: a message is held: no busy loop");
    is_events(&h, "", "it is not handed out");
    say(PING, "3");
    say(TEXT, "c");
    ok(!busy(), "P2: what follows is not read: no busy loop");
    is_frames(&c, "", "P2: a Ping that follows a held message waits");
    resume();
    is_frames(&c, "PONG 3", "P2: until the message is handed out");
    is_events(&h, "message TEXT b; ping 3", "P2: in their order, and the next message is held");
    resume();
    is_events(&h, "message TEXT c", "P2: until it is its turn");
    action = NULL;
    resume();
    say(TEXT, "d");
    say(TEXT, "e");
    is_events(&h, "message TEXT d; message TEXT e", "resumed: as ever");
    end_case("control frames");
}

/* Wherever TCP cuts it. */
static void test_cuts(void)
{
    static const char want[] = "message TEXT a; ping 1; pong p";
    size_t total = 2;
    for (size_t cut = 1; cut < total; cut++) {
        bool fits = true;
        start_full();
        pack(TEXT, "a");
        pack(PING, "1");
        pack(PONG, "p");
        pack(TEXT, "bb");
        pack(PING, "2");
        total = packed;
        client_write(&c, packet, cut);
        turns(&h, 3);
        client_write(&c, packet + cut, total - cut);
        packed = 0;
        fits = !busy() && !strcmp(client_frames(&c), "PONG 1") && fits;
        fits = !strcmp(harness_events(&h), want) && fits;
        resume();
        fits = !strcmp(client_frames(&c), "PONG 2") && fits;
        fits = !strcmp(harness_events(&h), "message TEXT bb; ping 2") && fits;
        ok(fits, "P2: cut after %zu bytes", cut);
        end_case("cuts");
    }
    start_full();
    pack(TEXT, "a");
    pack(PING, "1");
    pack(PONG, "p");
    pack(TEXT, "bb");
    pack(PING, "2");
    for (size_t i = 0; i < packed; i++) {
        client_write(&c, packet + i, 1);
        turns(&h, 2);
    }
    packed = 0;
    is_events(&h, want, "P2: byte by byte");
    ok(!busy(), "no busy loop");
    resume();
    is_events(&h, "message TEXT bb; ping 2", "P2: and the rest");
    end_case("byte by byte");
}

/* RFC 6455 5.4: control frames stand between the fragments of a message. */
static void test_fragments(void)
{
    start(ON_PING, ws_conn_pause_messages);
    say(PART, "he");
    say(PING, "1");
    say(PING, "2");
    is_events(&h, "ping 1; ping 2", "P2: between fragments, too");
    say(LAST, "llo");
    say(PING, "3");
    ok(!busy(), "no busy loop");
    is_events(&h, "", "the next fragment is held");
    action = NULL;
    resume();
    is_events(&h, "message TEXT hello; ping 3", "resumed: the message is whole");
    end_case("fragments");

    start(ON_PING, NULL);
    say(PART, "he");
    ws_conn_pause_messages(conn_at(&h, 0)); /* not by a handler of this connection */
    say(PING, "1");
    pack(LAST, "llo");
    pack(PING, "2");
    send_packet();
    is_events(&h, "ping 1", "P2: the last fragment is held");
    resume();
    is_events(&h, "message TEXT hello; ping 2", "resumed");
    end_case("between fragments");

    for (int first = PART; first <= TEXT; first += TEXT - PART) {
        start(ON_PING, NULL);
        pack(first, "hello");
        size_t length = packed - 2;
        client_write(&c, packet, length);
        turns(&h, 2);
        ws_conn_pause_messages(conn_at(&h, 0));
        client_write(&c, packet + length, 2);
        packed = 0;
        say(PING, "1");
        ok(!busy(), "paused inside a frame: no busy loop");
        is_events(&h, "", "the rest of the frame is not read, nor what follows");
        resume();
        is_events(&h, first == TEXT ? "message TEXT hello; ping 1" : "ping 1", "resumed");
        end_case("inside a frame");
    }

    start(ON_PING, NULL);
    pack(PING, "one");
    client_write(&c, packet, packed - 2);
    turns(&h, 2);
    ws_conn_pause_messages(conn_at(&h, 0));
    client_write(&c, packet + packed - 2, 2);
    packed = 0;
    is_frames(&c, "PONG one", "P2: paused inside a Ping: it is answered");
    end_case("inside a Ping");
}

static void test_calls(void)
{
    start(ON_PING, ws_conn_resume);
    h.hook = NULL;
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_pause_messages(conn);
    ws_conn_pause_messages(conn);
    ws_conn_pause(conn);
    say(PING, "1");
    is_frames(&c, "", "ws_conn_pause then stops everything");
    ws_conn_pause_messages(conn);
    turns(&h, 2);
    is_frames(&c, "", "and ws_conn_pause_messages changes nothing then");
    resume();
    say(TEXT, "a");
    is_events(&h, "ping 1; message TEXT a", "one ws_conn_resume ends all");
    ws_conn_pause(conn);
    say(PING, "2");
    ws_conn_resume(conn);
    ws_conn_pause_messages(conn);
    say(TEXT, "b");
    is_events(&h, "ping 2", "from the one to the other");
    h.hook = act;
    ws_conn_resume(conn);
    ws_conn_pause_messages(conn);
    turns(&h, 3);
    ok(!busy(), "held again: no busy loop");
    is_events(&h, "", "what is held stays held");
    resume();
    is_events(&h, "message TEXT b", "resumed");
    ws_conn_pause_messages(conn);
    pack(PING, "3");
    pack(TEXT, "c");
    send_packet();
    is_events(&h, "ping 3; message TEXT c", "resumed by the handler of a Ping: a message follows");
    ws_conn_pause_messages(conn);
    ws_conn_end(conn, 1000, NULL, 0);
    ws_conn_pause_messages(conn);
    pack(TEXT, "late");
    packed += make_close(packet + packed, 1000, "");
    send_packet();
    is_events(&h, "close 1000; closed 1000", "an ended connection is not paused");
    end_case("calls");

    prepare(ON_OPEN, ws_conn_pause_messages);
    harness_start(&h);
    client_connect(&c, &h);
    packed = strlen(handshake_request);
    memcpy(packet, handshake_request, packed);
    pack(PING, "1");
    pack(TEXT, "early");
    send_packet();
    is_responses(&c, "101, ..3", "paused in on_open");
    is_frames(&c, "PONG 1", "P2: a Ping is answered");
    is_events(&h, "open; ping 1", "H15: the early message is held");
    resume();
    is_events(&h, "message TEXT early", "resumed");
    end_case("in on_open");
}

/* ---- bounds ---- */

/* Nothing is read once a message is held. */
static void test_memory(void)
{
    start_full();
    h.quiet = true;
    say(TEXT, "a");
    size_t before = stats_of(&h).memory, sent = 0, n;
    for (int i = 0; i < 1000; i++)
        say(PING, "ping");
    is_int((long long)stats_of(&h).memory, (long long)before, "P2: Pings: nothing is kept");
    client_frames(&c);
    packed = 0;
    do {
        n = client_write(&c, payload, sizeof payload);
        sent += n;
        turns(&h, 3);
    } while (n == sizeof payload && sent < 64u << 20);
    /* payload is zeros: they would be continuation frames, and do not get so far */
    ok(sent < 64u << 20, "P2: held: the peer is slowed down, after %zu bytes", sent);
    size_t kept = stats_of(&h).memory - before;
    ok(kept && kept <= h.config.recv_buffer_size * 3 / 2 + 100, "P2: %zu bytes are kept", kept);
    ok(!busy(), "no busy loop");
    h.quiet = false;
    action = NULL;
    resume();
    turns(&h, 5);
    is_events(&h, "close 1002 continuation frame without a message to continue",
              "F9: what breaks a rule is found when it is its turn");
    end_case("memory");
}

/* As many Pings as fit into one read: others are served meanwhile, and all are answered. */
static void test_flood(void)
{
    enum { FLOOD = 5000 };
    static char flood[FLOOD * 8 + 20];
    struct client other;
    size_t n = 0, done = 0;
    start_full();
    client_open(&other, &h);
    harness_events(&h);
    h.quiet = true;
    say(TEXT, "a");
    for (int i = 0; i < FLOOD; i++)
        n += make_frame(flood + n, PING, "p", 1);
    n += make_frame(flood + n, TEXT, "end", 3);
    size_t pongs = 0;
    for (int i = 0; i < 1000 && (done < n || i < 500); i++) {
        done += client_write(&c, flood + done, n - done);
        turns(&h, 1);
        client_read(&c);
        pongs = c.in_length / 3;
        if (i == 0) {
            client_frame(&other, PING, "o", 1);
            turns(&h, 2);
            client_read(&other);
            is_int((long long)other.in_length, 3, "T30: another client is served meanwhile");
        }
        if (pongs == FLOOD)
            break;
    }
    is_int((long long)pongs, FLOOD, "P2: a flood of Pings is answered while messages wait");
    h.quiet = false;
    resume();
    is_events(&h, "message TEXT end", "and the message after it is there");
    client_close(&other);
    end_case("flood");
}

/* ---- ends ---- */

static void test_peer_ends(void)
{
    start_full();
    say(TEXT, "a");
    client_send_close(&c, 3001, "x");
    turns(&h, 2);
    is_events(&h, "message TEXT a; close 3001 x; closed 3001 x by peer",
              "P2: the Close of a peer is handled at once");
    is_frames(&c, "CLOSE 3001, EOF", "C1: and answered");
    end_case("Close");

    start_full();
    say(TEXT, "a");
    pack(TEXT, "b");
    packed += make_close(packet + packed, 3001, "x");
    send_packet();
    client_finish(&c);
    ok(!busy(), "no busy loop");
    is_events(&h, "message TEXT a", "P2: a Close that follows a held message waits");
    resume();
    is_events(&h, "message TEXT b; close 3001 x; closed 3001 x by peer", "P2: order is kept");
    end_case("Close after a message");

    for (int way = 0; way < 2; way++) {
        static const char *const reasons[] = {"connection closed without a Close frame",
                                              "connection reset by peer"};
        const char *why = reasons[way];
        char want[200];
        start_full();
        say(TEXT, "a");
        (way ? client_reset : client_finish)(&c);
        turns(&h, 3);
        snprintf(want, sizeof want, "message TEXT a; close 1006 %s; closed unclean by peer", why);
        is_events(&h, want, "T36: nothing is held: the end is seen at once");
        end_case("end without Close");

        start_full();
        say(TEXT, "a");
        pack(PING, "1");
        pack(TEXT, "b");
        pack(TEXT, "c");
        send_packet();
        (way ? client_reset : client_finish)(&c);
        ok(!busy(), "no busy loop");
        is_events(&h, "message TEXT a; ping 1", "T36: messages wait: the end comes after them");
        resume();
        is_events(&h, "message TEXT b", "resumed: one more");
        ok(!busy(), "held again: no busy loop");
        action = NULL;
        resume();
        snprintf(want, sizeof want, "message TEXT c; close 1006 %s; closed unclean by peer", why);
        is_events(&h, want, "T36: the last message, then the end");
        end_case("end after messages");
    }

    start_full(); /* a write finds that the peer is gone, what it had sent is in the kernel */
    say(TEXT, "a");
    pack(PING, "1");
    pack(TEXT, "b");
    client_write(&c, packet, packed);
    packed = 0;
    client_close(&c);
    ws_conn_send(conn_at(&h, 0), "x", 1, WS_TEXT);
    ws_conn_send(conn_at(&h, 0), "y", 1, WS_TEXT);
    ok(!busy(), "T36: the peer is gone: no busy loop");
    is_events(&h, "message TEXT a; ping 1", "T36: the message is held, the end waits");
    is_int(ws_conn_send(conn_at(&h, 0), "x", 1, WS_TEXT), WS_DROPPED, "sends are dropped");
    resume();
    turns(&h, 2);
    is_events(&h, "message TEXT b; close 1006 connection reset by peer; closed unclean by peer",
              "T36: resumed: the message, then the end");
    end_case("gone");

    start_full();
    say(TEXT, "a");
    say(0x09, "fragmented");
    is_events(&h, "message TEXT a; close 1002 fragmented control frame",
              "F5: a control frame that breaks a rule is found at once");
    end_case("violation");
}

static void test_we_end(void)
{
    start_full();
    say(TEXT, "a");
    say(TEXT, "b");
    ws_conn_end(conn_at(&h, 0), 1000, "bye", 3);
    turns(&h, 2);
    is_frames(&c, "CLOSE 1000 bye", "ended while a message is held");
    client_send_close(&c, 1000, "ok");
    turns(&h, 3);
    is_events(&h, "message TEXT a; close 1000 bye; closed 1000 ok", "S26: which is discarded");
    end_case("end");

    start_full();
    say(TEXT, "a");
    ws_server_shutdown(h.server, 1001, "down", 4, 1000);
    client_send_close(&c, 1001, "");
    turns(&h, 4);
    is_events(&h, "message TEXT a; close 1001 down; closed 1001", "shutdown");
    end_case("shutdown");

    start_full();
    say(TEXT, "a");
    say(TEXT, "b");
    is_int(ws_server_free(h.server), WS_OK, "freed");
    is_events(&h, "message TEXT a; close 1006 the server was freed; closed unclean", "freed");
    ok(!h.memory.bytes && !h.memory.blocks, "T68: all memory is back");
    client_close(&c);
}

/* ---- time ---- */

static void start_timed(void)
{
    prepare(ON_MESSAGE, ws_conn_pause_messages);
    h.behavior.idle_timeout = 9000; /* a Ping at 6 s */
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
}

static void answer_ping(void)
{
    client_drain(&c);
    ok(c.in_length == 6 && (unsigned char)c.in[0] == 0x89, "S39: a Ping");
    client_frame(&c, PONG, c.in + 2, 4);
    c.in_length = 0;
    turns(&h, 2);
    harness_events(&h);
}

static void test_time(void)
{
    start_timed();
    advance(&h, 5000);
    say(TEXT, "a");
    harness_events(&h);
    for (int i = 0; i < 5; i++) {
        advance(&h, 6100);
        answer_ping();
    }
    ok(conn_at(&h, 0) != NULL, "S50: a peer that answers our Pings is kept while messages wait");
    ok(ws_conn_latency(conn_at(&h, 0)), "and its Pongs are read");
    advance(&h, 6100);
    advance(&h, 3100);
    is_events(&h, "close 1006 idle timeout; closed unclean", "S41: one that does not is ended");
    end_case("idle");

    start_timed();
    say(TEXT, "a");
    advance(&h, 5000);
    resume();
    advance(&h, 500);
    is_frames(&c, "", "S39: not early");
    advance(&h, 600);
    ok(!strncmp(client_frames(&c), "PING", 4), "S50: to pause and to resume is no sign of life");
    end_case("no sign of life");

    start_timed();
    say(TEXT, "a");
    say(TEXT, "b");
    harness_events(&h);
    advance(&h, 1000000);
    is_frames(&c, "", "S50: held, so nothing is read: no Ping");
    is_events(&h, "", "S50: and idle_timeout stands still");
    resume();
    is_events(&h, "message TEXT b", "resumed");
    advance(&h, 5900);
    is_frames(&c, "", "silence begins anew");
    advance(&h, 200);
    ok(!strncmp(client_frames(&c), "PING", 4), "S39: then a Ping");
    advance(&h, 3100);
    is_events(&h, "close 1006 idle timeout; closed unclean", "S41: then the end");
    end_case("held");

    start_timed();
    say(TEXT, "a");
    pack(TEXT, "b");
    pack(TEXT, "c");
    send_packet();
    client_reset(&c);
    turns(&h, 3);
    resume();
    is_events(&h, "message TEXT a; message TEXT b", "T36: reset, and held");
    advance(&h, 6100);
    advance(&h, 2800);
    is_events(&h, "", "from the reset on idle_timeout counts, anew after each ws_conn_resume");
    advance(&h, 300);
    is_events(&h, "close 1006 connection reset by peer; closed unclean by peer", "T54: the end");
    end_case("reset");

    prepare(ON_MESSAGE, ws_conn_pause_messages);
    h.behavior.idle_timeout = 0;
    h.behavior.ping_interval = 2000;
    h.behavior.ping_timeout = 1000;
    harness_start(&h);
    client_open(&c, &h);
    say(TEXT, "a");
    harness_events(&h);
    advance(&h, 2100);
    answer_ping();
    advance(&h, 2100);
    advance(&h, 1100);
    is_events(&h, "close 1006 ping timeout; closed unclean", "S50: ping_timeout, too");
    end_case("ping_timeout");
}

/* ---- a model ---- */

/* Messages, fragmented or not, and Pings in random pieces, paused in all ways at random. */
static uint64_t state = 11;
static int at;
static enum { READS, HOLDS, STOPS } level;
static bool good;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static void set_level(ws_conn *conn)
{
    uint32_t kind = draw(8);
    if (kind == 0) {
        ws_conn_pause(conn);
        level = STOPS;
    } else if (kind < 4) {
        ws_conn_pause_messages(conn);
        level = level == STOPS ? STOPS : HOLDS;
    } else {
        ws_conn_resume(conn);
        level = READS;
    }
}

static void toss(ws_conn *conn)
{
    while (draw(3) == 0)
        set_level(conn);
}

static bool is_ping(int i)
{
    return i * 7 % 5 < 3;
}

static size_t length_of(int i)
{
    if (is_ping(i))
        return (size_t)i % 126;
    return (size_t)i * 7919 % 13 == 0 ? (size_t)i * 31 % 9000 : (size_t)i % 130;
}

static void take(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_MESSAGE && event != ON_PING)
        return;
    good = good && is_ping(at) == (event == ON_PING) && length == length_of(at);
    good = good && level != STOPS && !(level == HOLDS && event == ON_MESSAGE);
    for (size_t i = 0; i < length; i++)
        good = good && data[i] == (char)at;
    at++;
    toss(conn);
}

static void test_random(void)
{
    enum { MANY = 6000 };
    const int many = getenv("UNDER_VALGRIND") ? 600 : MANY;
    static char body[9000], pending[30000];
    static size_t ends[MANY]; /* in the stream */
    size_t length = 0, done = 0, written = 0, made = 0;
    start(ON_MESSAGE, NULL);
    h.hook = take;
    h.quiet = true;
    good = true;
    level = READS;
    at = 0;
    for (int next = 0, rounds = 0; at < many && good && rounds < many * 1000; rounds++) {
        while (next < many && length - done < 5000) {
            memmove(pending, pending + done, length - done);
            length -= done;
            done = 0;
            size_t before = length, size = length_of(next), part = draw((uint32_t)size + 1);
            memset(body, next, size);
            if (is_ping(next)) {
                length += make_frame(pending + length, PING, body, size);
            } else if (draw(2)) {
                length += make_frame(pending + length, 0x82, body, size);
            } else {
                length += make_frame(pending + length, 0x02, body, part);
                length += make_frame(pending + length, LAST, body, size - part);
            }
            made += length - before;
            ends[next++] = made;
        }
        size_t piece = draw(4) ? draw(300) : draw(10000);
        piece = client_write(&c, pending + done, piece < length - done ? piece : length - done);
        done += piece;
        written += piece;
        toss(conn_at(&h, 0));
        turns(&h, 6);
        client_read(&c);
        c.in_length = 0;
        good = good && conn_at(&h, 0);
        if (level != STOPS && at < next && is_ping(at) && ends[at] <= written)
            good = false; /* nothing is in front of it, and it has arrived */
    }
    ok(good && at == many, "P2: %d messages and Pings: none that is held, none that waits", at);
    h.quiet = false;
    end_case("random");
}

static void cases(void)
{
    CASE(test_control_frames());
    CASE(test_cuts());
    CASE(test_fragments());
    CASE(test_calls());
    CASE(test_memory());
    CASE(test_flood());
    CASE(test_peer_ends());
    CASE(test_we_end());
    CASE(test_time());
    CASE(test_random());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
