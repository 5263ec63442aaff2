/* SPDX-License-Identifier: MIT */
/*
 * test_adopt.c: connections that were accepted elsewhere (ws_server_adopt): what was read of them
 * already, cut anywhere; sockets that cannot be served, which stay the caller's; limits, and what
 * fails on the way.
 */
#include "listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static struct client c;
static char frames[200000];
static size_t frames_length;

static void add_text(const char *text)
{
    frames_length += make_frame(frames + frames_length, 0x81, text, strlen(text));
}

static void start(void)
{
    frames_length = 0;
    reset_fake();
    harness_init(&h);
    h.echo = true;
}

static void create(void)
{
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
}

static void begin_server(void)
{
    start();
    create();
}

/* A client whose connection is Unix's, or TCP's. Returns the other end. */
static int connect_client(bool tcp)
{
    int pair[2] = {-1, -1};
    c = (struct client){.h = &h, .fd = -1, .served_fd = -1};
    if (!tcp && socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return -1;
    if (tcp) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t length = sizeof address;
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bind(listener, (struct sockaddr *)&address, sizeof address);
        listen(listener, 1);
        getsockname(listener, (struct sockaddr *)&address, &length);
        pair[0] = connect_to("127.0.0.1", ntohs(address.sin_port));
        pair[1] = accept4(listener, NULL, NULL, 0);
        close(listener);
    }
    c.fd = pair[0];
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return pair[1];
}

static int adopt(int fd, const void *bytes, size_t length)
{
    return ws_server_adopt(h.server, fd, bytes, length);
}

static void adopted(int fd, const void *bytes, size_t length)
{
    is_int(adopt(fd, bytes, length), WS_OK, "a connection is adopted");
}

static void end(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    is_int(stats_of(&h).connections, 0, "%s: no connection is left", name);
    harness_stop(&h, name);
}

/* The 101, and the frames after it. */
static bool opens(const char *want)
{
    const char *got = client_responses(&c);
    const bool shaken = !strncmp(got, "101", 3);
    if (!shaken)
        diag("%s", got);
    return shaken && !strcmp(client_frames(&c), want);
}

static void is_open(const char *want, const char *name)
{
    const char *got = client_responses(&c);
    ok(!strncmp(got, "101", 3), "%s: a 101", name);
    is_frames(&c, want, name);
}

/* ---- what was read of it already ---- */

static void test_whole_handshake(bool tcp)
{
    begin_server();
    int fd = connect_client(tcp);
    char copy[400];
    size_t length = strlen(handshake_request);
    memcpy(copy, handshake_request, length);
    adopted(fd, copy, length);
    memset(copy, 'x', sizeof copy); /* the bytes are copied */
    is_events(&h, "", "no handler runs before the next turn");
    struct pollfd server = {ws_server_fd(h.server), POLLIN, 0};
    is_int(poll(&server, 1, 0), 1, "a foreign loop sees that there is something to do");
    turns(&h, 1);
    is_events(&h, "open", "it does in that");
    ok(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC,
       "the descriptor is non-blocking and close-on-exec");
    client_text(&c, "hello");
    is_open("TEXT hello", "E5: the connection is like any other");
    char address[46];
    ws_conn_remote_address(conn_at(&h, 0), address, sizeof address);
    is_text(address, tcp ? "127.0.0.1" : "", "its peer has its address");
    ok((ws_conn_remote_port(conn_at(&h, 0)) != 0) == tcp, "and its port");
    is_text(ws_conn_scheme(conn_at(&h, 0)), "ws", "and no TLS");
    is_int((long long)stats_of(&h).accepted, 1, "it counts as accepted");
    harness_events(&h);
    end("a whole handshake");
}

static void test_nothing(void)
{
    begin_server();
    adopted(connect_client(true), NULL, 0);
    client_say(&c, handshake_request);
    client_text(&c, "hello");
    is_open("TEXT hello", "E5: nothing was read of it");
    harness_events(&h);
    end("nothing");
}

/* The rest of the bytes is in the kernel when the connection is adopted, or follows later. */
static void test_every_split(bool later)
{
    char bytes[600];
    bool fine = true;
    start();
    add_text("one");
    add_text("two");
    size_t head = strlen(handshake_request), all = head + frames_length;
    memcpy(bytes, handshake_request, head);
    memcpy(bytes + head, frames, frames_length);
    create();
    for (size_t cut = 0; cut <= all && fine; cut++) {
        int fd = connect_client(cut % 2);
        if (!later)
            client_write(&c, bytes + cut, all - cut);
        fine = adopt(fd, bytes, cut) == WS_OK;
        if (later) {
            turns(&h, 3);
            client_write(&c, bytes + cut, all - cut);
        }
        fine = fine && opens("TEXT one, TEXT two");
        client_close(&c);
        turns(&h, 3);
        if (!fine)
            diag("cut at %zu of %zu", cut, all);
    }
    ok(fine, "E5: cut anywhere, the rest %s", later ? "later" : "in the kernel");
    harness_events(&h);
    harness_stop(&h, "every split");
}

static void test_end_of_file(void)
{
    begin_server();
    int fd = connect_client(true);
    client_finish(&c);
    adopted(fd, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n", 31);
    is_responses(&c, "200 /page, EOF", "a request whose client has sent FIN is answered");
    end("an end of file");

    begin_server();
    fd = connect_client(false);
    adopted(fd, handshake_request, strlen(handshake_request));
    client_close(&c);
    turns(&h, 3);
    ok(h.opened == h.closed, "a client that has left");
    harness_events(&h);
    end("a client that has left");
}

/* ---- more than the server would have read ---- */

static void pause_at_first(struct harness *harness, enum event event, ws_conn *conn,
                           ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_OPEN)
        ws_conn_pause(conn);
}

static void test_more_than_the_buffer(bool pauses)
{
    enum { MESSAGES = 150 };
    static char payload[1000], want[8192];
    start();
    h.config.recv_buffer_size = 4096;
    h.behavior.max_backpressure = 0;
    h.hook = pauses ? pause_at_first : NULL;
    create();
    int fd = connect_client(true);
    size_t head = strlen(handshake_request), at = 0;
    memcpy(frames, handshake_request, head);
    frames_length = head;
    for (int i = 0; i < MESSAGES; i++) {
        size_t n = (size_t)snprintf(payload, sizeof payload, "%d", i);
        frames_length += make_frame(frames + frames_length, 0x81, payload,
                                    i % 2 ? n : sizeof payload);
        at += (size_t)snprintf(want + at, 32, "%sTEXT %s", i ? ", " : "", i % 2 ? payload : "");
        at += (size_t)snprintf(want + at, 32, "%s", i % 2 ? "" : "[1000]");
    }
    adopted(fd, frames, frames_length);
    turns(&h, 3);
    client_frame(&c, 0x89, "last", 4);
    turns(&h, 3);
    if (pauses) {
        is_events(&h, "open", "a connection that is paused handles nothing of it");
        ws_conn_resume(conn_at(&h, 0));
    }
    strcat(want, ", PONG last");
    is_open(want, "E5: far more than the receive buffer holds");
    harness_events(&h);
    end("more than the buffer");
}

static void keep_request(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event == ON_HTTP && ws_request_defer(request, NULL, NULL) == WS_OK)
        harness->deferred = request;
}

/* What follows a deferred request is early input, of which the server would have read 64 KiB. */
static void test_many_requests(void)
{
    static const char request[] = "GET /page HTTP/1.1\r\nHost: t\r\n\r\n";
    enum { REQUESTS = 5000, SIZE = sizeof request - 1 };
    start();
    h.answers = true;
    h.hook = keep_request;
    create();
    int fd = connect_client(true);
    for (int i = 0; i < REQUESTS; i++)
        memcpy(frames + i * SIZE, request, SIZE);
    adopted(fd, frames, REQUESTS * SIZE);
    client_say(&c, request);
    int answered = 0;
    for (int i = 0; i <= REQUESTS; i++) {
        h.deferred = NULL;
        for (int n = 0; n < 20 && !h.deferred; n++)
            turns(&h, 1);
        if (!h.deferred)
            break;
        answered += ws_request_respond(h.deferred, 204, NULL, NULL, 0) == WS_OK;
        client_read(&c);
    }
    is_int(answered, REQUESTS + 1, "requests, each of which is answered later");
    c.in_length = 0;
    end("many requests");
}

/* ---- bad input ---- */

static void test_bad_input(void)
{
    static const struct {
        const char *bytes, *want;
    } all[] = {{"\x16\x03\x01\x02", "400, EOF"},
               {"no request\r\n\r\n", "400, EOF"},
               {"GET / HTTP/1.1\r\nHost: t\r\n: x\r\n\r\n", "400, EOF"},
               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505, EOF"},
               {"GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n", "404"}};
    begin_server();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        adopted(connect_client(i % 2), all[i].bytes, strlen(all[i].bytes));
        is_responses(&c, all[i].want, all[i].bytes);
        client_close(&c);
        turns(&h, 3);
    }
    memset(frames, 'a', 20000);
    memcpy(frames, "GET /", 5);
    adopted(connect_client(true), frames, 20000);
    is_responses(&c, "414, EOF", "a request line that is too long");
    end("bad input");
}

static void test_timeout(void)
{
    begin_server();
    int fd = connect_client(true);
    advance(&h, 5000);
    adopted(fd, "GET / HTTP/1.1\r\n", 16);
    advance(&h, 9900);
    is_responses(&c, "", "the time of the handshake begins when it is adopted");
    advance(&h, 200);
    is_responses(&c, "408, EOF", "and ends after handshake_timeout");
    end("timeout");
}

/* ---- sockets that cannot be served ---- */

static void is_refused(int fd, int number, const char *name)
{
    const size_t before = h.memory.bytes;
    is_int(adopt(fd, "GET", 3), WS_ESYSTEM, "%s: WS_ESYSTEM", name);
    is_int(errno, number, "%s: its errno", name);
    ok(h.memory.bytes == before, "E5: %s: nothing is kept", name);
    if (fd >= 0 && number != EBADF)
        is_int(close(fd), 0, "E5: %s: it is still the caller's", name);
}

static void test_wrong_descriptors(void)
{
    int ends[2], one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    begin_server();
    is_refused(-1, EBADF, "no descriptor");
    is_refused(one, ENOTCONN, "a socket that is not connected");
    is_refused(one, EBADF, "a descriptor that is closed");
    one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listen(one, 1);
    is_refused(one, ENOTCONN, "a socket that listens");
    if (!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        close(ends[1]);
        is_refused(ends[0], ESOCKTNOSUPPORT, "SOCK_SEQPACKET");
    }
    if (!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends)) {
        close(ends[1]);
        is_refused(ends[0], ESOCKTNOSUPPORT, "SOCK_DGRAM");
    }
    is_refused(open("/dev/null", O_RDWR | O_CLOEXEC), ENOTSOCK, "no socket");
    one = connect_client(true);
    client_reset(&c);
    is_refused(one, ENOTCONN, "a connection that was reset");
    is_int(stats_of(&h).connections, 0, "none of them is a connection of the server");
    harness_stop(&h, "wrong descriptors");
}

static void do_nothing(int fd, unsigned ready, void *user)
{
    (void)fd, (void)ready, (void)user;
}

static void test_twice(void)
{
    begin_server();
    int fd = connect_client(false);
    ws_server_watch(h.server, fd, WS_READABLE, do_nothing, NULL);
    is_int(adopt(fd, handshake_request, 10), WS_ESYSTEM, "what is watched cannot be adopted");
    is_int(errno, EEXIST, "its errno");
    ws_server_watch(h.server, fd, 0, NULL, NULL);
    adopted(fd, handshake_request, strlen(handshake_request));
    is_int(adopt(fd, handshake_request, 10), WS_ESYSTEM, "nor twice");
    is_int(errno, EEXIST, "its errno");
    is_open("", "the first one is served");
    harness_events(&h);
    end("twice");
}

static void test_cannot_be_watched(void)
{
    begin_server();
    int fd = connect_client(true);
    fake.epoll_errors = 0;
    is_int(adopt(fd, handshake_request, 10), WS_ESYSTEM, "epoll does not take it");
    is_int(errno, ENOSPC, "its errno");
    fake.epoll_errors = -1;
    adopted(fd, handshake_request, strlen(handshake_request));
    is_open("", "it is still the caller's, who may try again");
    harness_events(&h);
    end("cannot be watched");
}

static void test_shutdown(void)
{
    begin_server();
    options.host = "127.0.0.1";
    int fd = connect_client(true);
    adopted(fd, handshake_request, strlen(handshake_request));
    turns(&h, 2);
    client_responses(&c);
    struct client first = c;
    fd = connect_client(true);
    ws_server_drain(h.server);
    is_int(adopt(fd, "GET", 3), WS_ESTOPPED, "a server that drains: WS_ESTOPPED");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    is_int(adopt(fd, "GET", 3), WS_ESTOPPED, "one that shuts down: WS_ESTOPPED");
    client_close(&first);
    turns(&h, 5);
    is_int(ws_server_step(h.server, 0), WS_OK, "it has shut down");
    is_int(adopt(fd, "GET", 3), WS_ESTOPPED, "WS_ESTOPPED as well");
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    ok(ws_server_listen(h.server, &options) > 0, "it listens again");
    adopted(fd, handshake_request, strlen(handshake_request));
    is_open("", "then it may be adopted");
    harness_events(&h);
    end("shutdown");
}

/* ---- limits ---- */

static void test_too_many(void)
{
    enum { LIMIT = 2, RESERVE = 64 };
    static struct client all[LIMIT + RESERVE];
    start();
    h.config.max_connections = LIMIT;
    create();
    for (int i = 0; i < LIMIT + RESERVE; i++) {
        int fd = connect_client(false), result = adopt(fd, NULL, 0);
        if (result)
            is_int(result, WS_OK, "connection %d", i);
        all[i] = c;
    }
    c = all[LIMIT];
    is_responses(&c, "503, EOF", "T58: one above max_connections gets a 503");
    is_int((long long)stats_of(&h).refused, RESERVE, "and is counted");
    all[LIMIT] = c;
    int fd = connect_client(true);
    is_int(adopt(fd, handshake_request, 10), WS_ELIMIT, "E5: many above it: WS_ELIMIT");
    ok(write(fd, "mine", 4) == 4, "the connection is still the caller's");
    client_read(&c);
    is_mem(c.in, c.in_length, "mine", 4, "who may answer");
    close(fd);
    client_close(&c);
    for (int i = 0; i < LIMIT + RESERVE; i++)
        client_close(&all[i]);
    turns(&h, 3);
    harness_stop(&h, "too many");
}

static void test_too_many_of_one_address(void)
{
    start();
    h.config.max_connections_per_address = 1;
    create();
    adopted(connect_client(true), handshake_request, strlen(handshake_request));
    is_open("", "the first one of an address");
    struct client first = c;
    adopted(connect_client(true), handshake_request, strlen(handshake_request));
    is_responses(&c, "503, EOF", "the second one gets a 503");
    client_close(&c);
    for (int i = 0; i < 3; i++) {
        adopted(connect_client(false), handshake_request, strlen(handshake_request));
        is_open("", "Unix sockets have no limit");
        client_close(&c);
    }
    client_close(&first);
    turns(&h, 3);
    adopted(connect_client(true), handshake_request, strlen(handshake_request));
    is_open("", "when the first one has left, the next one is served");
    harness_events(&h);
    end("one address");
}

static void test_trusted_proxy(void)
{
    static const char *const loopback[] = {"127.0.0.1", NULL};
    static const char request[] = "GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\n";
    char address[46];
    start();
    h.config.trusted_proxies = loopback;
    create();
    int fd = connect_client(true);
    client_say(&c, strchr(handshake_request, '\n') + 1);
    adopted(fd, request, sizeof request - 1);
    is_open("", "the connection of a proxy");
    ws_conn_remote_address(conn_at(&h, 0), address, sizeof address);
    is_text(address, "192.0.2.7", "has the address of its client");
    harness_events(&h);
    end("a trusted proxy");
}

/* ---- no memory ---- */

static void test_failing_allocations(void)
{
    bool fine = true;
    int calls = 0, refused = 0;
    for (bool over = false; !over && fine; calls++) {
        begin_server();
        int fd = connect_client(true);
        client_text(&c, "after");
        h.memory.fail_at = h.memory.calls + 1 + (size_t)calls;
        int result = adopt(fd, handshake_request, strlen(handshake_request));
        refused += result == WS_ENOMEM;
        if (result == WS_ENOMEM)
            fine = fcntl(fd, F_GETFD) >= 0 && !stats_of(&h).connections && !close(fd);
        turns(&h, 3);
        client_read(&c);
        over = h.memory.calls < h.memory.fail_at;
        h.memory.fail_at = 0;
        fine = fine && (result == WS_OK || result == WS_ENOMEM);
        client_close(&c);
        turns(&h, 3);
        fine = fine && !stats_of(&h).connections && harness_free(&h);
    }
    ok(fine && calls > 4, "T84: whichever of %d allocations fails", calls);
    ok(refused >= 2, "those of the call itself: WS_ENOMEM, and the descriptor is the caller's");
}

/* ---- inside of a callback ---- */

static int inside_fd;
static enum event inside;

static void adopt_inside(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    if (event != inside || inside_fd < 0)
        return;
    is_int(adopt(inside_fd, handshake_request, strlen(handshake_request)), WS_OK,
           "inside a handler");
    inside_fd = -1;
}

static void test_inside_handlers(void)
{
    static const enum event all[] = {ON_OPEN, ON_MESSAGE, ON_CLOSE, ON_CLOSED};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        start();
        inside = all[i];
        h.hook = adopt_inside;
        create();
        int fd = connect_client(true);
        struct client first = c;
        inside_fd = connect_client(false);
        struct client second = c;
        add_text("hello");
        adopted(fd, handshake_request, strlen(handshake_request));
        client_write(&first, frames, frames_length);
        client_send_close(&first, 1000, "");
        turns(&h, 5);
        client_close(&first);
        turns(&h, 3);
        c = second;
        client_text(&c, "hello");
        is_open("TEXT hello", "the second one is served");
        harness_events(&h);
        end("inside a handler");
    }
}

/* A program that accepts and reads itself, in the same loop. */
static void accept_itself(int fd, unsigned ready, void *user)
{
    char bytes[64];
    int accepted = accept4(fd, NULL, NULL, 0);
    ssize_t n = read(accepted, bytes, sizeof bytes);
    (void)ready, (void)user;
    is_int(adopt(accepted, bytes, (size_t)n), WS_OK, "inside a watch");
}

static void test_inside_watch(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    begin_server();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&address, &length);
    ws_server_watch(h.server, listener, WS_READABLE, accept_itself, NULL);
    c = (struct client){.h = &h, .served_fd = -1};
    c.fd = connect_to("127.0.0.1", ntohs(address.sin_port));
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    client_say(&c, handshake_request);
    client_text(&c, "hello");
    is_open("TEXT hello", "a program that accepts itself");
    ws_server_watch(h.server, listener, 0, NULL, NULL);
    close(listener);
    harness_events(&h);
    end("inside a watch");
}

static void cases(void)
{
    CASE(test_whole_handshake(true));
    CASE(test_whole_handshake(false));
    CASE(test_nothing());
    CASE(test_every_split(false));
    CASE(test_every_split(true));
    CASE(test_end_of_file());
    CASE(test_more_than_the_buffer(false));
    CASE(test_more_than_the_buffer(true));
    CASE(test_many_requests());
    CASE(test_bad_input());
    CASE(test_timeout());
    CASE(test_wrong_descriptors());
    CASE(test_twice());
    CASE(test_cannot_be_watched());
    CASE(test_shutdown());
    CASE(test_too_many());
    CASE(test_too_many_of_one_address());
    CASE(test_trusted_proxy());
    CASE(test_failing_allocations());
    CASE(test_inside_handlers());
    CASE(test_inside_watch());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
