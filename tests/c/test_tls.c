/* SPDX-License-Identifier: MIT */
/*
 * test_tls.c: streams over TLS (csrc/tls.c), with sessions of fake_tls.c: how bytes become records
 * and records bytes, however they are cut; the handshake; the end.
 */
#include "kernel.h"
#include "sendfile.h"
#include "tls_client.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define GET "GET /page HTTP/1.1\r\nHost: t\r\n\r\n"
#define GET_LAST "GET /page HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

static char payload[1 << 20];

/* ---- records ---- */

/* A client's whole life, with records of any kind in it. */
static void add_life(void)
{
    char frame[300];
    add_handshake();
    add_text(FAKE_DATA, handshake_request);
    add_frame(0x81, "hello");
    add_record(FAKE_DATA, "", 0);
    size_t n = make_frame(frame, 0x81, payload, 200);
    for (size_t i = 0; i < n; i += 50) /* over records */
        add_record(FAKE_DATA, frame + i, n - i < 50 ? n - i : 50);
    add_text(FAKE_UPDATE, "");
    n = make_frame(frame, 0x89, "p", 1);
    add_record(FAKE_DATA, frame, n + make_frame(frame + n, 0x82, "two", 3)); /* two in one */
    n = make_close(frame, 1000, "bye");
    add_record(FAKE_DATA, frame, n);
    add_close_notify();
}

static const char life_events[] = "open; message TEXT hello; message TEXT [200]; ping p; "
                                  "message BINARY two; close 1000 bye; closed 1000 bye by peer";
static const char life_frames[] =
    "TEXT hello, TEXT [200], PONG p, BINARY two, CLOSE 1000, EOF";

static bool lives(void)
{
    char *end;
    client_drain(&c);
    end = c.in_length ? memmem(c.in, c.in_length, "\r\n\r\n", 4) : NULL;
    if (!end)
        return false;
    c.in_length -= (size_t)(end + 4 - c.in);
    memmove(c.in, end + 4, c.in_length);
    const char *frames = client_frames(&c);
    bool fine = !strcmp(frames, life_frames) && c.tls->closed && !c.tls->alert &&
                c.tls->updates == 1 && !strcmp(harness_events(&h), life_events);
    if (!fine)
        diag("%s", frames);
    client_close(&c);
    turns(&h, 3);
    harness_events(&h);
    h.opened = h.closed = 0; /* the next one is number 0 again */
    return fine;
}

static void test_cuts(bool lazy, size_t piece)
{
    int wrong = 0, runs = 0;
    prepare();
    h.echo = true;
    h.quiet = false;
    begin();
    fake_tls.lazy = lazy;
    fake_tls.piece = piece;
    add_life();
    const size_t all = wire_length;
    for (size_t cut = 0; cut <= all; cut++, runs++) {
        connect_raw();
        send_wire(0, cut);
        turns(&h, 2);
        send_wire(cut, all);
        wrong += !lives();
    }
    is_int(wrong, 0, "L2, T86: cut at each of %d bytes", runs);
    connect_raw();
    for (size_t i = 0; i < all; i++) {
        send_wire(i, i + 1);
        turns(&h, 1);
    }
    ok(lives(), "L2, T86: byte by byte");
    stop("cuts");
}

/* What is large stays whole, whatever the sizes of records, messages and the receive buffer. */
static void test_sizes(uint32_t recv_buffer_size, size_t record, size_t message)
{
    enum { MESSAGES = 5 };
    prepare();
    h.config.recv_buffer_size = recv_buffer_size;
    h.behavior.max_payload_length = sizeof payload;
    h.behavior.max_backpressure = 0;
    h.echo = true;
    h.quiet = true;
    begin();
    client_open(&c, &h);
    char *frame = malloc(message + 14);
    for (int i = 0; i < MESSAGES && frame; i++) {
        const size_t n = make_frame(frame, 0x82, payload, message);
        fake_peer_queue(c.tls, FAKE_DATA, frame, n, record);
        for (int j = 0; j < 10000 && !fake_peer_flush(c.tls, c.fd); j++) {
            turns(&h, 1);
            client_read(&c);
        }
    }
    turns(&h, 2000);
    client_drain(&c);
    bool same = c.in_length >= MESSAGES * message;
    for (size_t i = 1; i <= MESSAGES && same; i++) {
        size_t head = c.in_length / MESSAGES - message;
        same = !memcmp(c.in + i * (message + head) - message, payload, message);
    }
    ok(same, "L2: messages of %zu, records of %zu, a buffer of %u", message, record,
       (unsigned)recv_buffer_size);
    free(frame);
    stop("sizes");
}

/* One record for what leaves together, and one write for a batch of them. */
static void test_writes(void)
{
    prepare();
    h.echo = true;
    h.quiet = true;
    h.behavior.max_backpressure = 0;
    h.behavior.max_payload_length = sizeof payload;
    begin();
    kernel_reset(h.port);
    client_open(&c, &h);
    kernel.writes = fake_tls.writes = 0;
    client_text(&c, "hello");
    is_frames(&c, "TEXT hello", "an echo");
    is_int(fake_tls.writes, 1, "L2: is one record");
    is_int(kernel.writes, 1, "and one write");
    for (int i = 0; i < 10; i++)
        client_text(&c, "hello");
    kernel.writes = fake_tls.writes = 0;
    turns(&h, 1);
    is_int(fake_tls.writes, 1, "L2: ten echoes of one turn are one record");
    is_int(kernel.writes, 1, "and one write");
    client_drain(&c);
    c.in_length = 0;
    kernel.writes = fake_tls.writes = 0;
    ws_conn_send(conn_at(&h, 0), payload, 60000, WS_BINARY);
    is_int(fake_tls.writes, 4, "L2: 60,000 bytes are four records");
    is_int(kernel.writes, 1, "and one write");
    stop("writes");
}

/* The kernel takes any part of what is written. */
static void test_short_writes(void)
{
    enum { MESSAGES = 40 };
    int wrong = 0;
    prepare();
    h.quiet = true;
    h.behavior.max_backpressure = 0;
    begin();
    kernel_reset(h.port);
    client_open(&c, &h);
    for (size_t room = 0; room < 900; room++) {
        ws_conn *conn = conn_at(&h, 0);
        kernel_give_room(conn, room);
        for (int i = 0; i < MESSAGES; i++)
            ws_conn_send(conn, payload, 20, WS_BINARY);
        kernel_give_room(conn, room / 2);
        turns(&h, 2);
        kernel_of(conn)->limited = false;
        client_drain(&c);
        wrong += c.in_length != MESSAGES * 22 || ws_conn_buffered_amount(conn);
        for (size_t i = 0; i + 22 <= c.in_length; i += 22)
            wrong += memcmp(c.in + i, "\x82\x14", 2) || memcmp(c.in + i + 2, payload, 20);
        c.in_length = 0;
    }
    is_int(wrong, 0,
           "L2, T82: the kernel stops at any byte of the records: the stream is the same");
    stop("short writes");
}

/* The client reads while the server encrypts, so that the kernel always has room. */
static void read_meanwhile(const char *call)
{
    if (!strcmp(call, "write"))
        client_read(&c);
}

/* Encrypting takes long. What would make a turn too long is encrypted in later ones. */
static void test_long_messages(bool published)
{
    struct client other;
    enum { LENGTH = sizeof payload + 10 }; /* with the header of the frame */
    unsigned most, before;
    prepare();
    h.echo = true;
    h.quiet = true;
    h.behavior.max_backpressure = 0;
    begin();
    client_open(&c, &h);
    client_open(&other, &h);
    ws_conn_subscribe(conn_at(&h, 0), "all", 3);
    fake_tls.hook = read_meanwhile;
    h.tick = 3000000;
    before = fake_tls.writes;
    if (published)
        ws_server_publish(h.server, "all", 3, payload, sizeof payload, WS_BINARY);
    else
        ws_conn_send(conn_at(&h, 0), payload, sizeof payload, WS_BINARY);
    most = fake_tls.writes - before;
    before = fake_tls.writes;
    int turns_needed = 0, answers = 0;
    for (; c.in_length < LENGTH && turns_needed < 100; turns_needed++) {
        client_text(&other, "x");
        turns(&h, 1);
        client_read(&other);
        client_read(&c);
        answers += other.in_length == 3;
        other.in_length = 0;
        most = fake_tls.writes - before > most ? fake_tls.writes - before : most;
        before = fake_tls.writes;
    }
    ok(most < 25, "T30: one turn encrypts %u records of a message of 64", most);
    ok(turns_needed > 2 && answers == turns_needed,
       "T30: the echo of another client comes in each of %d turns", turns_needed);
    is_int((long long)c.in_length, LENGTH, "L2: the message arrives");
    ok(!memcmp(c.in + 10, payload, sizeof payload), "L2: as it was sent");
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 0)), 0, "S31: nothing is left");
    fake_tls.hook = NULL;
    h.tick = 0;
    client_close(&other);
    stop("long messages");
}

/* ---- files and long answers ---- */

static size_t file_length;

static void send_file(ws_request *request, void *user)
{
    char name[] = "/tmp/test_tls_XXXXXX";
    int fd = mkstemp(name);
    (void)user;
    unlink(name);
    if (fd < 0 || write(fd, payload, file_length) != (ssize_t)file_length)
        abort();
    ws_request_respond_file(request, 200, NULL, fd, 0, 500000);
}

static void test_file(size_t length)
{
    prepare();
    file_length = length;
    begin();
    ws_server_http(h.server, "GET", "/file", send_file, NULL);
    client_connect(&c, &h);
    client_say(&c, "GET /file HTTP/1.1\r\nHost: t\r\n\r\n");
    client_drain(&c);
    char *end = memmem(c.in, c.in_length, "\r\n\r\n", 4);
    size_t n = end ? c.in_length - (size_t)(end + 4 - c.in) : 0;
    ok(n == length && !memcmp(end + 4, payload, n), "L2, W7: %zu bytes of a file", length);
    if (length < 500000)
        ok(c.eof && !c.tls->closed, "L2: a file that is too short ends without close_notify");
    else
        is_int(c.eof, 0, "the connection persists");
    stop("a file");
}

/* ---- the handshake ---- */

static void test_timeout(void)
{
    prepare();
    begin();
    add_handshake();
    const size_t all = wire_length;
    for (size_t n = 0; n < all; n++) {
        connect_raw();
        send_wire(0, n);
        turns(&h, 2);
        advance(&h, h.config.handshake_timeout - 1);
        if (stats_of(&h).connections != 1)
            ok(false, "ended too early after %zu bytes", n);
        advance(&h, 2);
        if (stats_of(&h).connections)
            ok(false, "not ended after %zu bytes", n);
        client_close(&c);
    }
    ok(true, "L4, T86: a handshake that stalls at any byte ends at handshake_timeout");
    connect_raw();
    send_wire(0, 5);
    turns(&h, 2);
    client_finish(&c);
    client_drain(&c);
    ok(c.eof && !stats_of(&h).connections, "L4: EOF in it ends it at once");
    client_close(&c);
    connect_raw();
    send_wire(0, 5);
    client_reset(&c);
    turns(&h, 3);
    is_int(stats_of(&h).connections, 0, "L4: so does a reset");
    expect_alive();
    stop("timeouts");
}

static void test_garbage(void)
{
    static const char *const kinds[] = {"\x80\x2e\x01\x03", "\x17\x00\x01x", "\x16\x00\x00",
                                        "\x16\xff\xff", "\x00\x00\x00", "get / http"};
    static const size_t lengths[] = {4, 4, 3, 3, 3, 10};
    prepare();
    begin();
    for (int i = 0; i < 6; i++) {
        h.log_length = 0;
        connect_raw();
        memcpy(wire, kinds[i], lengths[i]);
        wire_length = lengths[i];
        memset(wire + wire_length, 'x', 100000);
        if (i != 3)
            wire_length += 100000;
        send_all();
        client_drain(&c);
        if (i == 3) { /* a record that is too long is not waited for in vain */
            advance(&h, h.config.handshake_timeout + 1);
            client_drain(&c);
        } else {
            ok(c.tls->alert == 40 && c.eof && !c.reset, "L4, T86: garbage %d: an alert, EOF", i);
            ok(log_has(&h, "TLS handshake with 127.0.0.1:"), "L4: a line in the log");
        }
        client_close(&c);
        turns(&h, 3);
    }
    is_int(stats_of(&h).connections, 0, "L4: they are gone");
    is_events(&h, "", "and no handler has run");
    expect_alive();
    stop("garbage");
}

static void test_plain(void)
{
    static const char *const requests[] = {GET, "POST /", "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
                                           "G"};
    prepare();
    begin();
    for (int i = 0; i < 4; i++) {
        h.tls = false;
        client_connect(&c, &h);
        h.tls = true;
        client_say(&c, requests[i]);
        is_responses(&c, "400, EOF", "L2, T86: plain HTTP: 400");
        ok(head_has(&c, "Connection: close"), "H21: it says that it closes");
        client_close(&c);
    }
    h.tls = false;
    client_connect(&c, &h);
    client_say(&c, GET);
    h.tls = true;
    client_drain(&c);
    ok(memmem(c.in, c.in_length, "this port speaks TLS", 20) != NULL, "L2: with the reason");
    is_int((long long)stats_of(&h).refused_with[0], 5, "which is counted");
    is_int(fake_tls.opened, 0, "and no session was opened");
    stop("plain HTTP");
}

static void test_scheme_in(struct harness *harness, enum event event, ws_conn *conn,
                           ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)data, (void)length;
    static void *session;
    if (event == ON_UPGRADE) {
        session = ws_request_tls(request);
        ok(session != NULL, "L1: the session of a request");
        is_text(ws_request_scheme(request), "wss", "L2: the scheme of an opening handshake");
        ws_request_upgrade(request, NULL, 0, NULL);
    } else if (event == ON_OPEN || event == ON_CLOSED) {
        ok(ws_conn_tls(conn) == session, "L1: the same");
        is_text(ws_conn_scheme(conn), "wss", "L2: the scheme of a connection");
    } else if (event == ON_HTTP) {
        ok(ws_request_tls(request) != NULL, "L1: the session of a request");
        is_text(ws_request_scheme(request), "https", "L2: the scheme of a request");
        ws_request_respond(request, 200, NULL, NULL, 0);
    }
}

static void test_scheme(void)
{
    prepare();
    h.hook = test_scheme_in;
    h.answers = true;
    begin();
    client_connect(&c, &h);
    client_say(&c, GET);
    is_responses(&c, "200", "a request");
    client_say(&c, handshake_request);
    is_responses(&c, "101", "an upgrade");
    client_close(&c);
    turns(&h, 3);
    stop("the scheme");
}

/* A flight that is larger than what is encrypted at once, and larger than what the kernel takes. */
static void test_flights(void)
{
    static const size_t sizes[] = {1, 999, 1000, 69000, 70000, 1000000};
    prepare();
    h.echo = true;
    begin();
    for (int i = 0; i < 6; i++) {
        fake_tls.flight = sizes[i];
        client_open(&c, &h);
        client_text(&c, "x");
        is_text(client_frames(&c), "TEXT x", "L2: a long flight");
        client_close(&c);
        turns(&h, 3);
    }
    for (int i = 0; i < 2; i++) {
        fake_tls.flight = i ? 1000000 : 100000;
        kernel_reset(h.port);
        connect_raw();
        add_handshake();
        struct pollfd there = {ws_server_fd(h.server), POLLIN, 0};
        poll(&there, 1, 0);
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd] = (struct kernel_socket){.limited = true, .room = 1500};
        send_wire(0, 8);
        turns(&h, 3);
        is_int(stats_of(&h).connections, !i,
               i ? "T86: one that no one reads is not kept" : "a flight waits for room");
        for (int fd = 0; fd < KERNEL_FDS; fd++)
            kernel.sockets[fd].limited = false;
        client_drain(&c);
        send_wire(8, wire_length);
        turns(&h, 2);
        client_read(&c);
        if (!i)
            ok(c.tls->shaken && c.records > 100000, "L2: and leaves then");
        client_close(&c);
        turns(&h, 3);
        kernel_reset(0);
    }
    fake_tls.flight = 0;
    harness_events(&h);
    expect_alive();
    stop("flights");
}

/* ---- refusals, and limits ---- */

static void test_refused(void)
{
    struct client first;
    prepare();
    h.config.max_connections = 1;
    begin();
    client_open(&first, &h);
    connect_raw();
    turns(&h, 2);
    size_t used = h.memory.bytes;
    add_handshake();
    send_all();
    is_responses(&c, "503, EOF", "L2, S1: above max_connections: 503, after the handshake");
    ok(c.tls->closed, "with close_notify");
    client_close(&c);
    connect_raw();
    client_say(&c, "");
    ok(h.memory.bytes < used + 4096, "what waits for it takes no more than it needs");
    client_close(&c);
    h.tls = false;
    client_connect(&c, &h);
    h.tls = true;
    client_say(&c, GET);
    is_responses(&c, "503, EOF", "L2: in the clear for a client that speaks no TLS");
    client_close(&c);
    connect_raw();
    advance(&h, 5001);
    ok(stats_of(&h).connections == 1, "one that says nothing ends");
    client_close(&first);
    stop("refusals");
}

static void test_late(void)
{
    enum { CLIENTS = 30 };
    static struct client many[CLIENTS];
    prepare();
    h.config.handshake_timeout = 10000000;
    h.quiet = true;
    begin();
    for (int i = 0; i < CLIENTS; i++) {
        connect_raw();
        many[i] = c;
    }
    add_handshake();
    for (int i = 0; i < CLIENTS; i++) {
        c = many[i];
        send_wire(0, wire_length);
    }
    h.tick = 5000000;
    unsigned before = fake_tls.handshakes, turns_needed = 0;
    turns(&h, 1);
    ok(fake_tls.handshakes - before < 10, "T86: a turn that is late makes %u handshakes of %d wait",
       CLIENTS - (fake_tls.handshakes - before), CLIENTS);
    h.tick = 20000000; /* each is late at once */
    for (; fake_tls.handshakes - before < CLIENTS && turns_needed < 100; turns_needed++)
        turns(&h, 1);
    ok(turns_needed <= CLIENTS, "T86: but one in each turn goes on");
    h.tick = 0;
    for (int i = 0; i < CLIENTS; i++)
        client_close(&many[i]);
    c.fd = -1;
    c.in = NULL;
    c.tls = NULL;
    turns(&h, 3);
    stop("late turns");
}

static void begin_response(struct harness *harness, enum event event, ws_conn *conn,
                           ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event == ON_HTTP) {
        ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
        ws_request_write(request, "part", 4);
    }
}

/* Input is also what the session keeps, half a record or half a handshake. */
static void test_drain(void)
{
    int wrong = 0;
    size_t all = 1, cut = 0, shaken;
    for (; cut <= all; cut++) {
        prepare();
        begin();
        connect_raw();
        add_handshake();
        shaken = wire_length;
        add_text(FAKE_DATA, GET);
        all = wire_length;
        send_wire(0, cut);
        turns(&h, 2);
        ws_server_drain(h.server);
        turns(&h, 2);
        if (cut && cut != shaken) {
            send_wire(cut, all);
            wrong += strcmp(client_responses(&c), "200 /page, EOF") != 0;
        } else {
            wrong += strcmp(client_responses(&c), "EOF") != 0; /* nothing has begun */
        }
        client_close(&c);
        turns(&h, 2);
        wrong += ws_server_step(h.server, 0) != WS_OK || !harness_free(&h);
    }
    is_int(wrong, 0, "P9, L2: a request that has begun before a drain is answered, cut at any of "
                     "%zu bytes", cut - 1);
    prepare();
    begin();
    client_connect(&c, &h);
    for (int i = 0; i < 2; i++) {
        client_say(&c, GET);
        is_responses(&c, "200 /page", "a request");
    }
    ws_server_drain(h.server);
    is_responses(&c, "EOF", "P9, L2: a connection without a request ends at once");
    ok(c.tls->closed, "L2: with close_notify");
    stop("draining");
}

static int responded;

static void respond_long(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event == ON_HTTP)
        responded = ws_request_respond(request, 200, NULL, payload, 500000);
}

/* A session that cannot encrypt says why. */
static void test_failing_write(void)
{
    prepare();
    h.echo = true;
    begin();
    client_open(&c, &h);
    harness_events(&h);
    fake_tls.fail_write = fake_tls.writes + 1;
    client_text(&c, "x");
    turns(&h, 3);
    is_events(&h, "message TEXT x; close 1006 TLS failure; closed unclean by peer",
              "L4: a session that cannot encrypt ends its connection");
    ok(log_has(&h, "TLS with 127.0.0.1:") && log_has(&h, "failed: as the test wants it"),
       "L4: the log says why");
    ok(!log_has(&h, "memory"), "L4: which is no lack of memory");
    client_close(&c);
    client_open(&c, &h);
    fake_tls.fail_write = fake_tls.writes + 1;
    client_text(&c, "y");
    ws_conn_send(conn_at(&h, 1), "z", 1, WS_TEXT);
    turns(&h, 3);
    is_int(fake_tls.misused, 0, "L4: the session is not used any more, also if there is input");
    is_events(&h, "1:open; 1:close 1006 TLS failure; 1:closed unclean by peer",
              "L4: which is not handled");
    client_close(&c);
    client_connect(&c, &h);
    fake_tls.fail_write = fake_tls.writes + 1;
    h.log_length = 0;
    client_say(&c, GET);
    client_drain(&c);
    ok(c.eof || c.reset, "L4: likewise where a response is sent");
    ok(log_has(&h, "failed: as the test wants it"), "L4: with a line in the log");
    client_close(&c);
    h.hook = respond_long;
    h.answers = true;
    client_connect(&c, &h);
    fake_tls.fail_write = fake_tls.writes + 2;
    h.log_length = 0;
    client_say(&c, GET);
    client_drain(&c);
    is_int(responded, WS_OK, "L4: a long response that cannot be encrypted is given");
    ok(log_has(&h, "failed: as the test wants it"), "L4: and its connection ends as the others");
    h.answers = false;
    h.hook = NULL;
    fake_tls.fail_write = 0;
    expect_alive();
    stop("a failing write");
}

/* RFC 9112 9.8: a response whose end is that of the connection is whole only if a valid closure
 * alert was received. */
static void test_cut_response(void)
{
    prepare();
    h.answers = true;
    h.hook = begin_response;
    begin();
    client_connect(&c, &h);
    client_say(&c, "GET /page HTTP/1.0\r\n\r\n");
    turns(&h, 3);
    ws_server_shutdown(h.server, 1001, "", 0, 3000);
    client_drain(&c);
    ok(c.received > 4 && (c.eof || c.reset), "L2: a response in HTTP/1.0 is cut by a shutdown");
    ok(!c.tls->closed, "L2: without close_notify, with which it would look whole");
    stop("a cut response");
}

static void cases(void)
{
    CASE(test_cut_response());
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('a' + i * 2654435761u % 26);
    CASE(test_cuts(false, 0));
    CASE(test_cuts(true, 0));
    CASE(test_cuts(false, 7));
    CASE(test_sizes(4096, 16384, 100000));
    CASE(test_sizes(4096, 16384, 3000));
    CASE(test_sizes(4096, 1, 3000));
    CASE(test_sizes(65536, 16384, 1000000));
    CASE(test_sizes(262144, 100, 100000));
    CASE(test_sizes(262144, 5000, 16380));
    CASE(test_writes());
    CASE(test_short_writes());
    CASE(test_long_messages(false));
    CASE(test_long_messages(true));
    if (WS__SENDFILE_AVAILABLE) {
        CASE(test_file(500000));
        CASE(test_file(300000));
    }
    CASE(test_timeout());
    CASE(test_garbage());
    CASE(test_plain());
    CASE(test_scheme());
    CASE(test_flights());
    CASE(test_refused());
    CASE(test_late());
    CASE(test_drain());
    CASE(test_failing_write());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
