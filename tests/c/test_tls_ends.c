/* SPDX-License-Identifier: MIT */
/*
 * test_tls_ends.c: what goes wrong on a stream over TLS (csrc/tls.c), and how it ends: faults of
 * the session, of memory and of the peer; handlers that drop; close_notify from either side.
 */
#include "kernel.h"
#include "tls_client.h"

#include <stdlib.h>

#define GET "GET /page HTTP/1.1\r\nHost: t\r\n\r\n"
#define GET_LAST "GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

static char payload[200000];

/* ---- faults ---- */

/* Goes through a life, of which any call may fail. Returns true if it got to its end. */
static bool live(void)
{
    connect_shaken();
    add_text(FAKE_DATA, handshake_request);
    for (int i = 0; i < 3; i++)
        add_frame(0x81, "hello");
    send_all();
    turns(&h, 2);
    client_read(&c);
    add_frame(0x88, "\x03\xe8");
    send_all();
    client_drain(&c);
    const bool whole = c.tls->closed && !c.tls->alert && c.eof;
    client_close(&c);
    turns(&h, 3);
    return whole;
}

static void test_session_fails(void)
{
    unsigned *const calls[] = {&fake_tls.fail_open, &fake_tls.fail_handshake, &fake_tls.fail_read,
                               &fake_tls.fail_write};
    static const char *const names[] = {"open", "handshake", "read", "write"};
    for (int i = 0; i < 4; i++) {
        unsigned failed = 0;
        prepare();
        h.echo = true;
        h.quiet = true;
        begin();
        for (unsigned at = 1; at < 20; at++) {
            fake_tls.opened = 0;
            fake_tls.handshakes = fake_tls.reads = fake_tls.writes = 0;
            *calls[i] = at;
            if (live())
                break;
            failed++;
        }
        ok(failed > 0 && failed < 19, "L4: each of %u calls of %s fails", failed, names[i]);
        ok(i == 0 || log_has(&h, "as the test wants it"), "L4: which is logged");
        *calls[i] = 0;
        expect_alive();
        stop("failing sessions");
    }
    for (int i = 0; i < 2; i++) {
        prepare();
        h.echo = true;
        h.quiet = true;
        begin();
        connect_shaken();
        fake_tls.keeps_input = !i;
        fake_tls.empty = i;
        add_text(FAKE_DATA, handshake_request);
        send_all();
        client_drain(&c);
        ok(c.eof, i ? "a session that says there is something" : "a session that takes nothing");
        expect_alive();
        stop("odd sessions");
    }
}

static bool run_failing(size_t n, bool long_answer)
{
    bool failed = true; /* before there is a server */
    prepare();
    h.echo = true;
    h.quiet = true;
    h.memory.fail_at = n;
    harness_create(&h);
    if (h.server && !ws_server_ws(h.server, "/", &h.behavior))
        harness_listen(&h);
    if (!h.server || h.port <= 0)
        goto end;
    if (long_answer) {
        kernel_reset(h.port);
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd] = (struct kernel_socket){.limited = true, .room = 1200};
    }
    connect_raw();
    add_handshake();
    add_text(FAKE_DATA, handshake_request);
    for (int i = 0; i < 30; i++)
        add_frame(0x81, "hello");
    send_all();
    turns(&h, 3);
    for (int fd = 0; fd < KERNEL_FDS; fd++)
        kernel.sockets[fd].limited = false;
    client_drain(&c);
    client_close(&c);
    turns(&h, 5);
    failed = h.memory.calls >= n;
    kernel_reset(0);
    h.memory.fail_at = 0;
    expect_alive();
end:
    kernel_reset(0);
    if (h.server && !harness_free(&h))
        ok(false, "T68: allocation %zu fails", n);
    return failed;
}

static void test_memory_fails(bool long_answer)
{
    size_t n = 1;
    while (n < 500 && run_failing(n, long_answer))
        n++;
    ok(n > 10 && n < 500, "L4, T86: each of %zu allocations fails, and that ends only one peer", n);
}

/* ---- updates: what a session has to say while it reads ---- */

static void test_updates(void)
{
    prepare();
    h.echo = true;
    begin();
    kernel_reset(h.port);
    connect_shaken();
    add_text(FAKE_DATA, handshake_request);
    send_all();
    is_responses(&c, "101", "a connection");
    for (int i = 0; i < 1000; i++)
        add_text(FAKE_UPDATE, "");
    add_frame(0x81, "after");
    send_all();
    is_frames(&c, "TEXT after", "L2: what follows updates is read");
    is_int((int)c.tls->updates, 1000, "L2: and each has an answer");

    ws_conn *conn = conn_at(&h, 0);
    kernel_give_room(conn, 10);
    for (int i = 0; i < 1000; i++)
        add_text(FAKE_UPDATE, "");
    add_frame(0x81, "blocked");
    send_all();
    turns(&h, 5);
    ws_conn_send(conn, "sent", 4, WS_TEXT);
    kernel_of(conn)->limited = false;
    client_drain(&c);
    is_int((int)c.tls->updates, 2000, "L2: answers wait for room");
    is_frames(&c, "TEXT blocked, TEXT sent", "L2: and what is sent comes after them");

    kernel_give_room(conn, 10);
    fake_tls.answer = 10000;
    size_t used = h.memory.bytes, most = used;
    for (int i = 0; i < 100 && stats_of(&h).connections; i++) {
        add_text(FAKE_UPDATE, "");
        send_all();
        turns(&h, 1);
        if (h.memory.bytes > most)
            most = h.memory.bytes;
    }
    is_int(stats_of(&h).connections, 0, "L4, T86: who does not read the answers is dropped");
    ok(most - used < 256 * 1024, "T86: they took %zu bytes", most - used);
    kernel_reset(0);
    stop("updates");
}

/* ---- pausing ---- */

static int pauses;

static void pause_in(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    ws_conn_pause(conn);
    pauses++;
}

/* Everything comes in one read, and every message pauses; the peer's end comes last. */
static void test_pause(uint32_t recv_buffer_size, int end)
{
    static const char *const names[] = {"close_notify", "close_notify and FIN", "FIN"};
    enum { MESSAGES = 200 };
    prepare();
    h.config.recv_buffer_size = recv_buffer_size;
    h.hook = pause_in;
    h.quiet = true;
    pauses = 0;
    begin();
    connect_shaken();
    add_text(FAKE_DATA, handshake_request);
    for (int i = 0; i < MESSAGES; i++)
        add_frame(0x81, "a message");
    if (end < 2)
        add_close_notify();
    send_all();
    if (end)
        client_finish(&c);
    turns(&h, 5);
    is_int(pauses, 1, "L2: paused by the first message");
    for (int i = 1; i < 3 * MESSAGES && h.closed == 0; i++) {
        ws_conn_resume(conn_at(&h, 0));
        turns(&h, 2);
    }
    is_int(pauses, MESSAGES, "L2, S36: %s waits for all messages", names[end]);
    turns(&h, 3);
    is_int(h.closed, 1, "L2: then it ends the connection");
    client_drain(&c);
    ok(c.eof && c.tls->closed, "L2: with close_notify");
    stop("pauses");
}

static ws_request *later[300];
static int waiting;

static void defer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event == ON_HTTP && !ws_request_defer(request, NULL, NULL))
        later[waiting++] = request;
}

static void test_half_duplex(uint32_t recv_buffer_size)
{
    enum { REQUESTS = 300 };
    prepare();
    h.config.recv_buffer_size = recv_buffer_size;
    h.hook = defer;
    h.answers = true;
    waiting = 0;
    begin();
    connect_shaken();
    for (int i = 0; i < REQUESTS; i++)
        add_text(FAKE_DATA, GET);
    send_all();
    int answered = 0;
    size_t got = 0;
    for (int i = 0; i < 3000 && answered < REQUESTS; i++) {
        turns(&h, 1);
        if (waiting > answered + 1)
            break;
        if (waiting > answered)
            ws_request_respond(later[answered++], 200, NULL, payload, 1000);
    }
    turns(&h, 3);
    client_drain(&c);
    const char *const end = c.in + c.in_length;
    for (char *at = c.in; at; at = memmem(at, (size_t)(end - at), "HTTP/1.1 200", 12))
        at++, got++;
    is_int((int)got, REQUESTS, "L2, H23: requests in one read are answered one after the other");
    stop("half-duplex");
}

/* ---- drops in handlers ---- */

static enum event drop_at;
static int drop_after;

static void drop_in(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                    const char *data, size_t length)
{
    (void)harness, (void)data, (void)length;
    if (event == ON_UPGRADE) {
        if (drop_at != ON_UPGRADE)
            ws_request_upgrade(request, NULL, 0, NULL);
        else if (!ws_request_defer(request, NULL, NULL))
            ws_request_abort(request);
    } else if (event == ON_HTTP) {
        if (drop_at == ON_HTTP)
            ws_request_abort(request);
        else
            ws_request_respond(request, 200, NULL, "body", 4);
    } else if (event == drop_at && conn && drop_after-- == 0) {
        ws_conn_close(conn);
    }
    if (event == drop_at && event == ON_CLOSED)
        ws_server_unlisten(h.server);
}

static void test_drops(void)
{
    static const enum event events[] = {ON_UPGRADE, ON_OPEN, ON_MESSAGE, ON_PING, ON_PONG,
                                        ON_CLOSE,   ON_CLOSED, ON_DRAIN, ON_HTTP};
    prepare();
    h.hook = drop_in;
    h.answers = true;
    h.echo = true;
    h.quiet = true;
    begin();
    for (int i = 0; i < 9; i++) {
        for (int after = 0; after < 3; after++) {
            drop_at = events[i];
            drop_after = after;
            connect_shaken();
            add_text(FAKE_DATA, GET);
            add_text(FAKE_DATA, handshake_request);
            for (int j = 0; j < 4; j++) {
                add_frame(0x81, "text");
                add_frame(0x89, "ping");
                add_frame(0x8a, "pong");
                add_text(FAKE_UPDATE, "");
            }
            add_frame(0x88, "\x03\xe8");
            add_close_notify();
            send_all();
            client_drain(&c);
            turns(&h, 2);
            if (stats_of(&h).connections)
                ok(false, "event %d drops, and the connection is there", (int)drop_at);
            client_close(&c);
        }
        if (drop_at == ON_CLOSED)
            harness_listen(&h);
    }
    ok(true, "L2: a handler may drop its connection in the middle of what was decrypted");
    h.hook = NULL;
    stop("drops");
}

/* A record is longer than what is received at once, and the next one has begun. */
static void test_drop_before_rest(void)
{
    char frames[16384];
    size_t n = 0;
    prepare();
    h.config.recv_buffer_size = 4096;
    h.hook = drop_in;
    h.answers = true;
    drop_at = ON_MESSAGE;
    drop_after = 0;
    begin();
    connect_shaken();
    add_text(FAKE_DATA, handshake_request);
    send_all();
    turns(&h, 2);
    while (n + 1000 < sizeof frames)
        n += make_frame(frames + n, 0x82, payload, 900);
    add_record(FAKE_DATA, frames, n);
    add_record(FAKE_DATA, frames, n);
    send_all();
    client_drain(&c);
    ok(c.eof && c.tls->closed, "L2: a handler drops while received bytes wait");
    is_int(fake_tls.misused, 0, "L2: which close does not see");
    h.hook = NULL;
    stop("drop before the rest");
}

/* ---- the end ---- */

/* RFC 8446 6.1: "Any data received after a closure alert has been received MUST be ignored." The
 * alert is the end of what is received at once, while there is more in the kernel. */
static void test_data_after_close_notify(void)
{
    enum { LENGTH = 4096 - FAKE_HEAD - 1 - FAKE_HEAD - 8 };
    char frame[LENGTH + 8];
    prepare();
    h.config.recv_buffer_size = 4096;
    begin();
    connect_shaken();
    add_text(FAKE_DATA, handshake_request);
    send_all();
    turns(&h, 2);
    harness_events(&h);
    add_record(FAKE_DATA, frame, make_frame(frame, 0x82, payload, LENGTH));
    add_close_notify();
    is_int((long long)wire_length, 4096, "a message and close_notify");
    add_frame(0x81, "late");
    send_all();
    turns(&h, 5);
    is_events(&h,
              "message BINARY [4081]; close 1006 connection closed without a Close frame; "
              "closed unclean by peer",
              "L2: what follows close_notify is ignored, also if it is read later");
    ok(fake_tls.misused == 0, "L2: and the session does not see it");
    stop("data after close_notify");
}

static void test_close_notify(void)
{
    prepare();
    begin();
    client_connect(&c, &h);
    client_say(&c, GET_LAST);
    is_responses(&c, "200 /page, EOF", "a response that ends its connection");
    ok(c.tls->closed, "L2: close_notify before FIN");
    client_close(&c);

    client_connect(&c, &h);
    client_say(&c, GET);
    is_responses(&c, "200 /page", "a response");
    advance(&h, h.config.keep_alive_timeout + 1);
    client_drain(&c);
    ok(c.eof && c.tls->closed, "L2: also where an idle connection ends");
    client_close(&c);

    connect_shaken();
    add_text(FAKE_DATA, GET);
    add_close_notify();
    send_all();
    is_responses(&c, "200 /page, EOF", "L2: a request, close_notify: the response");
    ok(c.tls->closed, "and close_notify");
    client_close(&c);

    connect_shaken();
    add_close_notify();
    add_text(FAKE_DATA, GET);
    send_all();
    client_drain(&c);
    ok(c.eof && !c.received, "L2: nothing is read after close_notify");
    client_close(&c);

    client_open(&c, &h);
    ws_conn_close(conn_at(&h, 0));
    client_drain(&c);
    ok(c.eof && c.tls->closed, "L2: a connection that is dropped");
    client_close(&c);
    harness_events(&h);

    client_open(&c, &h);
    client_finish(&c);
    turns(&h, 3);
    is_text(strstr(h.events, "close"),
            "close 1006 connection closed without a Close frame; 1:closed unclean by peer",
            "L2, T86: EOF without close_notify and Close: 1006");
    client_close(&c);
    harness_events(&h);

    client_open(&c, &h);
    fake_peer_queue(c.tls, FAKE_ALERT, "\0", 1, 1);
    fake_peer_flush(c.tls, c.fd);
    turns(&h, 3);
    is_text(strstr(h.events, "close"),
            "close 1006 connection closed without a Close frame; 2:closed unclean by peer",
            "L2: close_notify without Close: 1006");
    client_drain(&c);
    ok(c.eof && c.tls->closed, "L2: which is answered");
    client_close(&c);
    harness_events(&h);

    client_open(&c, &h);
    fake_peer_queue(c.tls, FAKE_DATA, "\x81", 1, 1);
    fake_peer_queue(c.tls, FAKE_HANDSHAKE, "again", 5, 5);
    fake_peer_flush(c.tls, c.fd);
    turns(&h, 3);
    is_text(strstr(h.events, "close"), "close 1006 TLS failure; 3:closed unclean by peer",
            "L2, T86: a renegotiation ends the connection");
    client_drain(&c);
    is_int(c.tls->alert, 40, "L2: with an alert");
    ok(log_has(&h, "TLS with 127.0.0.1:") && log_has(&h, "no record of this type"), "and a line");
    stop("ends");
}

/* The end waits for the kernel: the last record, close_notify, FIN. */
static void test_blocked_end(void)
{
    prepare();
    begin();
    kernel_reset(h.port);
    for (size_t room = 0; room < 140; room++) {
        client_open(&c, &h);
        ws_conn *conn = conn_at(&h, h.opened - 1);
        kernel_give_room(conn, room);
        struct kernel_socket *socket = kernel_of(conn);
        ws_conn_send(conn, payload, 100, WS_BINARY);
        client_send_close(&c, 1000, "");
        turns(&h, 3);
        if (c.eof)
            ok(false, "EOF came early");
        socket->limited = false;
        is_text(client_frames(&c), "BINARY [100], CLOSE 1000, EOF", "L2: the end waits for room");
        if (!c.tls->closed)
            ok(false, "no close_notify, room for %zu", room);
        client_close(&c);
        turns(&h, 2);
    }
    client_open(&c, &h);
    const uint64_t refusals = stats_of(&h).backpressure;
    kernel_give_room(conn_at(&h, h.opened - 1), 50);
    ws_conn_send(conn_at(&h, h.opened - 1), payload, sizeof payload, WS_BINARY);
    is_int((long long)(stats_of(&h).backpressure - refusals), 1, "L2: one refusal counts once");
    ws_conn_close(conn_at(&h, h.opened - 1));
    client_close(&c);
    turns(&h, 2);
    kernel_reset(h.port);
    for (int i = 0; i < 2; i++) { /* a shutdown, with a client that reads and one that does not */
        client_open(&c, &h);
        ws_conn *conn = conn_at(&h, h.opened - 1);
        kernel_give_room(conn, 50);
        struct kernel_socket *socket = kernel_of(conn);
        ws_conn_send(conn, payload, 1000, WS_BINARY);
        ws_server_shutdown(h.server, 1001, "", 0, 3000);
        turns(&h, 3);
        is_int(stats_of(&h).connections, 1, "C10: a shutdown waits for output");
        if (i) {
            advance(&h, 3001);
        } else {
            socket->limited = false;
            is_frames(&c, "BINARY [1000], CLOSE 1001", "C10: which leaves");
            client_send_close(&c, 1001, "");
            is_frames(&c, "EOF", "C10: and the end");
            ok(c.tls->closed, "L2: with close_notify");
        }
        client_close(&c);
        turns(&h, 3);
        is_int(stats_of(&h).connections, 0, "C10: it is over");
        if (!i)
            harness_listen(&h);
        kernel_reset(h.port);
    }
    kernel_reset(0);
    stop("blocked ends");
}

/* The kernel has taken half of a record, and the queue is empty. */
static void test_blocked_response(void)
{
    for (int i = 0; i < 2; i++) {
        prepare();
        begin();
        kernel_reset(h.port);
        client_connect(&c, &h);
        client_drain(&c);
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd] = (struct kernel_socket){.limited = true, .room = 50};
        client_say(&c, GET);
        turns(&h, 3);
        if (i)
            ws_server_drain(h.server);
        else
            ws_server_shutdown(h.server, 1001, "", 0, 3000);
        turns(&h, 3);
        is_int(stats_of(&h).connections, 1, "C10: %s waits for a response",
               i ? "draining" : "a shutdown");
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd].limited = false;
        is_responses(&c, "200 /page, EOF", "C10: which leaves");
        ok(c.tls->closed, "L2: with close_notify");
        kernel_reset(0);
        stop("blocked responses");
    }
}

static void test_unlisten(void)
{
    ws_listen_options options;
    ws_tls table;
    prepare();
    h.echo = true;
    begin();
    client_open(&c, &h);
    ok(ws_server_unlisten(h.server), "the listener is closed");
    client_text(&c, "still");
    is_frames(&c, "TEXT still", "L3: its connections live on");
    table = fake_tls.table;
    table.size--;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.tls = &table;
    is_int(ws_server_listen(h.server, &options), WS_EABI, "L1: a table of another size");
    stop("unlisten");
}

/* ---- PROXY, then TLS ---- */

static char seen[100];

static void note_client(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    char address[46];
    if (event != ON_HTTP)
        return;
    ws_request_remote_address(request, address, sizeof address);
    snprintf(seen, sizeof seen, "%s %d %s", address, ws_request_remote_port(request),
             ws_request_scheme(request));
    ws_request_respond(request, 200, NULL, "ok", 2);
}

static void listen_proxied(void)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.proxy_protocol = true;
    options.tls = &fake_tls.table;
    h.port = ws_server_listen(h.server, &options);
    h.hook = note_client;
    h.answers = true;
}

static void test_proxy(void)
{
    static const char header[] = "PROXY TCP4 1.2.3.4 5.6.7.8 1000 443\r\n";
    static const char unsafe[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\1\2\3\4\5\6\7\x8\3\xe8\1\xbb"
                                 "\x20\0\5\0\0\0\0\0"; /* the client used no TLS */
    int wrong = 0;
    prepare();
    begin();
    listen_proxied();
    wire_length = 1;
    for (size_t cut = 0; cut <= wire_length; cut++) {
        connect_raw();
        add_handshake();
        add_text(FAKE_DATA, GET_LAST);
        memmove(wire + sizeof header - 1, wire, wire_length);
        memcpy(wire, header, sizeof header - 1);
        wire_length += sizeof header - 1;
        send_wire(0, cut);
        turns(&h, 2);
        send_wire(cut, wire_length);
        wrong += strcmp(client_responses(&c), "200 ok, EOF") != 0 || !c.tls->closed;
        wrong += strcmp(seen, "1.2.3.4 1000 https") != 0;
        client_close(&c);
    }
    is_int(wrong, 0, "L2, W5: the header of a proxy, then TLS, cut anywhere");
    connect_raw();
    memcpy(wire, unsafe, sizeof unsafe - 1);
    wire_length = sizeof unsafe - 1;
    send_all();
    add_handshake();
    add_text(FAKE_DATA, GET);
    send_all();
    is_responses(&c, "200 ok", "a header of version 2");
    is_text(seen, "1.2.3.4 1000 http", "W5: a proxy may say that its client uses no TLS");
    client_close(&c);
    connect_raw();
    add_handshake();
    send_all();
    client_drain(&c);
    ok(c.eof && !c.tls->shaken, "W5: without the header: dropped");
    client_close(&c);
    connect_raw();
    client_finish(&c);
    turns(&h, 2);
    is_int(stats_of(&h).connections, 0, "W5: EOF before it");
    stop("a proxy");

    prepare(); /* limits are those of the client */
    h.config.max_connections_per_address = 1;
    begin();
    listen_proxied();
    struct client first;
    for (int i = 0; i < 2; i++) {
        connect_raw();
        memcpy(wire, header, sizeof header - 1);
        wire_length = sizeof header - 1;
        send_all();
        turns(&h, 2);
        add_handshake();
        send_all();
        client_drain(&c);
        if (!i)
            first = c;
    }
    is_responses(&c, "503, EOF", "W5, L2: a refusal after the header comes over TLS");
    ok(c.tls->closed, "with close_notify");
    client_close(&first);
    stop("limits behind a proxy");
}

static void cases(void)
{
    memset(payload, 'x', sizeof payload);
    CASE(test_session_fails());
    CASE(test_memory_fails(false));
    CASE(test_memory_fails(true));
    CASE(test_updates());
    CASE(test_pause(262144, 0));
    CASE(test_pause(262144, 1));
    CASE(test_pause(262144, 2));
    CASE(test_pause(4096, 0));
    CASE(test_pause(4096, 1));
    CASE(test_half_duplex(262144));
    CASE(test_half_duplex(4096));
    CASE(test_drops());
    CASE(test_close_notify());
    CASE(test_blocked_end());
    CASE(test_blocked_response());
    CASE(test_drop_before_rest());
    CASE(test_data_after_close_notify());
    CASE(test_unlisten());
    CASE(test_proxy());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
