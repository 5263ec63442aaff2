/* SPDX-License-Identifier: MIT */
/*
 * test_regressions.c: faults that were found by reading, each with the rule that it broke: slow
 * readers, fragments, requests and routes, listening where system calls fail. Time is virtual;
 * bounds are counted, never measured.
 */
#include "one_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Default segments and a receive buffer of 64 KiB: the peer's part of what is on its way. */
static void connect_narrow(void)
{
    int size = 64 * 1024;
    memset(&c, 0, sizeof c);
    c.h = &h;
    c.fd = client_socket(&h, 0);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    turns(&h, 2);
}

/* Something happens at the client or in the server, or a quarter of a second passes. */
static void wait_a_little(void)
{
    struct pollfd fds[2] = {{c.fd, POLLIN, 0}, {ws_server_fd(h.server), POLLIN, 0}};
    poll(fds, 2, 250);
}

/* ---- slow readers ---- */

static ws_allocator plain;
static size_t moved, moves;

static void *count_moves(void *context, void *ptr, size_t old_size, size_t size)
{
    if (ptr && size) {
        moved += old_size < size ? old_size : size;
        moves++;
    }
    return plain.resize(context, ptr, old_size, size);
}

static void test_large_queue(void)
{
    harness_init(&h);
    h.send_buffer = 16 * 1024;
    h.quiet = true;
    h.behavior.max_backpressure = 0;
    plain = h.config.allocator;
    h.config.allocator.resize = count_moves;
    harness_start(&h);
    connect_narrow();
    client_say(&c, handshake_request);
    turns(&h, 2);
    ws_conn *conn = conn_at(&h, 0);
    size_t before = h.memory.bytes, late = 0;
    ws_conn_send(conn, payload, sizeof payload, WS_BINARY);
    size_t queue = ws_conn_buffered_amount(conn), left = queue;
    int writes = 0;
    moved = moves = 0;
    for (int idle = 0; left && idle < 100; idle++) {
        client_read(&c);
        c.in_length = 0;
        turns(&h, 1);
        size_t amount = ws_conn_buffered_amount(conn);
        if (amount == left)
            wait_a_little();
        if (amount != left)
            writes++, idle = 0;
        left = amount;
        if (left && left < queue / 8)
            late = h.memory.bytes - before;
    }
    is_int((long long)left, 0, "S33: a queue of 4 MiB reaches a slow reader");
    ok(writes > 20, "in many partial writes");
    ok(moved <= 2 * queue, "the queue is not moved at each of them: at most twice in all");
    ok(moves <= 32, "by a few calls of the allocator");
    diag("%d writes, %zu calls, %zu bytes of %zu moved", writes, moves, moved, queue);
    ok(late < queue / 2, "S42: memory is given back while it shrinks");
    stop("a large queue");
}

static char got[sizeof payload + 4096];
static size_t got_length;

/* The client takes n bytes more, however long they need. False: they never came. */
static bool take(size_t n)
{
    size_t goal = got_length + n;
    for (int idle = 0; got_length < goal && idle < 40; idle++) {
        ssize_t m = recv(c.fd, got + got_length, goal - got_length, 0);
        if (m == 0 || (m < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (m > 0) {
            got_length += (size_t)m;
            idle = 0;
        }
        turns(&h, 1);
        if (m < 0)
            wait_a_little();
    }
    return got_length == goal;
}

static void answer_large(struct harness *harness, enum event event, ws_conn *conn,
                         ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event == ON_HTTP)
        ws_request_respond(request, 200, NULL, payload, sizeof payload);
}

/* 16 KiB in a fortieth of the time: all of it takes six times as long as an idle peer has. */
static void download(bool keep, uint64_t timeout_ms)
{
    enum { CHUNK = 16 * 1024 };
    harness_init(&h);
    h.answers = true;
    h.hook = answer_large;
    harness_create(&h);
    harness_http(&h, "GET", "/");
    harness_listen(&h);
    connect_narrow();
    got_length = 0;
    client_say(&c, "GET / HTTP/1.1\r\nHost: t\r\n");
    client_say(&c, keep ? "\r\n" : "Connection: close\r\n\r\n");
    turns(&h, 2);
    bool all = take(512);
    char *body = memmem(got, got_length, "\r\n\r\n", 4);
    size_t total = body ? (size_t)(body - got) + 4 + sizeof payload : 0;
    while (all && got_length < total) {
        advance(&h, timeout_ms / 40);
        all = take(total - got_length < CHUNK ? total - got_length : CHUNK);
    }
    ok(all && total, "H22: %s: a peer that takes bytes is not dropped",
       keep ? "keep_alive_timeout" : "the linger time");
    if (!all || !total)
        diag("%zu bytes of %zu", got_length, total);
    ok(total && !memcmp(got + total - sizeof payload, payload, sizeof payload),
       "and gets all of the response");
}

static void test_slow_downloads(void)
{
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)(i * 7 + (i >> 11));
    download(true, 10000);
    is_int(stats_of(&h).connections, 1, "H23: the connection persists");
    got_length = 0;
    client_say(&c, "GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    ok(take(1 << 20), "H23: for the next request");
    for (int i = 0; i < 3; i++)
        advance(&h, 10000);
    is_int(stats_of(&h).connections, 0, "H22: but a peer that takes nothing is dropped in time");
    stop("a slow download");

    download(false, 5000);
    client_read(&c);
    ok(c.eof && !c.reset, "H23: FIN follows");
    client_close(&c);
    turns(&h, 2);
    is_int(stats_of(&h).connections, 0, "and that is the end");
    stop("a slow download, Connection: close");
    memset(payload, 0, sizeof payload);
}

/* The peer said FIN, and still reads what stood before our Close. */
static void test_half_closed(void)
{
    harness_init(&h);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    client_open_small(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    fill(conn, 1000);
    ws_conn_send(conn, payload, 100000, WS_BINARY);
    ws_conn_send(conn, "last", 4, WS_TEXT);
    ws_conn_end(conn, 1000, NULL, 0);
    client_finish(&c);
    turns(&h, 3);
    const char *frames = client_frames(&c);
    ok(strstr(frames, ", TEXT last, CLOSE 1000, EOF"),
       "C8: a queue before our Close still goes to a peer that has sent FIN");
    stop("a half-closed peer");
}

static int lines_with(const char *text)
{
    int n = 0;
    for (const char *p = h.log; (p = strstr(p, text)); p++)
        n++;
    return n;
}

static void test_exhausted(void)
{
    struct rlimit limit, low;
    harness_init(&h);
    harness_start(&h);
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int time = 1; time <= 2; time++) {
        memset(&c, 0, sizeof c);
        c.h = &h;
        c.fd = client_socket(&h, 0);
        int next = dup(c.fd);
        close(next);
        low = limit;
        low.rlim_cur = (rlim_t)next;
        setrlimit(RLIMIT_NOFILE, &low);
        for (int i = 0; i < 30; i++)
            advance(&h, 50);
        setrlimit(RLIMIT_NOFILE, &limit);
        is_int(lines_with("out of file descriptors"), time,
               "T80, T89: EMFILE is reported once per exhaustion, not at every attempt");
        /* valgrind imitates the limit after the call: there that connection is lost. */
        int again = getenv("UNDER_VALGRIND") ? client_socket(&h, 0) : -1;
        advance(&h, 100);
        is_int(stats_of(&h).connections, 1, "T80: accepted when there is room again");
        close(again);
        client_close(&c);
        turns(&h, 2);
    }
    stop("exhaustion");
}

/* ---- fragments ---- */

static int begun;

static void begin_another(struct harness *harness, enum event event, ws_conn *conn,
                          ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event == ON_DROPPED)
        begun = ws_conn_send_fragment(conn, "in", 2, WS_TEXT, false);
}

static void test_dropped_fragment(void)
{
    harness_init(&h);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 16 * 1024;
    harness_start(&h);
    client_open_small(&c, &h);
    ws_conn *conn = conn_at(&h, 0);
    fill(conn, 1000);
    h.hook = begin_another;
    begun = 1;
    is_int(ws_conn_send_fragment(conn, payload, 20000, WS_TEXT, false), WS_DROPPED,
           "S35: the first fragment is dropped");
    is_int(begun, WS_EORDER, "S35: on_dropped may not begin another fragmented message");
    is_int(ws_conn_send_fragment(conn, "z", 1, WS_CONTINUATION, true), WS_DROPPED,
           "the rest is dropped as well");
    is_int(ws_conn_send(conn, "w", 1, WS_TEXT), WS_BACKPRESSURE, "a whole message");
    is_int(ws_conn_send_fragment(conn, "x", 1, WS_TEXT, false), WS_BACKPRESSURE, "and one");
    is_int(ws_conn_send_fragment(conn, "y", 1, WS_CONTINUATION, true), WS_BACKPRESSURE, "in two");
    const char *frames = client_frames(&c), *tail = strstr(frames, ", TEXT");
    is_text(tail ? tail : frames, ", TEXT w, TEXT+ x, CONT y",
            "RFC 6455 5.4: the wire stays valid");
    stop("a dropped fragment");
}

static void send_corked(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    ws_conn_send(conn, payload, 15000, WS_BINARY);
    ws_conn_send(conn, payload, 15000, WS_BINARY);
    is_int((long long)ws_conn_buffered_amount(conn), 0, "corked, the kernel is empty");
    is_int(ws_conn_send_fragment(conn, "a", 1, WS_TEXT, false), WS_SUCCESS, "a fragment");
    is_int(ws_conn_send(conn, payload, 10000, WS_BINARY), WS_BACKPRESSURE,
           "S35: a held-back message is judged after corked bytes were flushed");
    is_int(ws_conn_send_fragment(conn, "b", 1, WS_CONTINUATION, true), WS_SUCCESS, "the last one");
}

static void test_held_back(void)
{
    harness_init(&h);
    h.behavior.max_backpressure = 32 * 1024;
    harness_start(&h);
    client_open(&c, &h);
    h.hook = send_corked;
    client_text(&c, "go");
    is_frames(&c, "BINARY [15000], BINARY [15000], TEXT+ a, CONT b, BINARY [10000]",
              "RFC 6455 5.4: and leaves behind the last fragment");
    stop("a held-back message");
}

/* ---- requests ---- */

static void add_fields(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)conn, (void)data, (void)length;
    if (event != ON_HTTP && event != ON_UPGRADE)
        return;
    ws_request_add_header(request, "X-Page", 6, "1", 1);
    ws_request_add_header(request, "Content-Type", 12, "image/png", 9);
    if (harness->opened) /* stands for: the answer comes later */
        ws_request_defer(request, NULL, NULL);
}

/* One request; after ms, or at the shutdown (0), the library answers by itself. */
static void expect_own(bool upgrade, bool deferred, uint64_t ms, const char *want)
{
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    h.answers = true;
    h.hook = add_fields;
    h.opened = deferred;
    client_connect(&c, &h);
    client_say(&c, upgrade ? handshake_request : "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    turns(&h, 2);
    if (ms)
        advance(&h, ms);
    else
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    h.opened = 0;
    is_responses(&c, want, "an answer of the library's own");
    ok(!head_has(&c, "X-Page") && !head_has(&c, "image/png"),
       "headers of an answer that never came do not travel on it");
    ok(head_has(&c, "Content-Type: text/plain\r\n"), "it has its own");
    stop("headers");
}

static void test_headers_of_no_answer(void)
{
    for (int upgrade = 0; upgrade < 2; upgrade++) {
        expect_own(upgrade, false, 1, "500, EOF");
        expect_own(upgrade, true, 30000, "503, EOF");
        expect_own(upgrade, true, 0, "503, EOF");
    }
}

static void answer_name(ws_request *request, void *user)
{
    ws_request_add_header(request, "X-Route", 7, user, strlen(user));
    ws_request_respond(request, 200, NULL, "", 0);
}

static void answer_pattern(ws_request *request, void *user)
{
    const char *pattern = ws_request_pattern(request);
    (void)user;
    ws_request_add_header(request, "X-Route", 7, pattern, strlen(pattern));
    ws_request_respond(request, 200, NULL, "", 0);
}

static void route(const char *method, const char *pattern, const char *name)
{
    is_int(ws_server_http(h.server, method, pattern, name ? answer_name : answer_pattern,
                          (void *)(uintptr_t)name),
           WS_OK, "a route: %s %s", method, pattern);
}

static void expect_route(const char *request, const char *want, const char *name)
{
    char line[100];
    client_say(&c, request);
    client_say(&c, " HTTP/1.1\r\nHost: t\r\n\r\n");
    client_responses(&c);
    snprintf(line, sizeof line, "X-Route: %s\r\n", want);
    if (!ok(head_has(&c, line), "%s: %s", name, request))
        diag("%s", c.head);
}

static void test_methods(void)
{
    static const char *const orders[][3] = {{"GET", "HEAD", "*"}, {"HEAD", "GET", "*"},
                                            {"*", "GET", "HEAD"}, {"GET", "*", "HEAD"},
                                            {"HEAD", "*", "GET"}, {"*", "HEAD", "GET"}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        harness_init(&h);
        harness_create(&h);
        for (int k = 0; k < 3; k++)
            route(orders[i][k], "/h", orders[i][k]);
        route("*", "/g", "*");
        route("GET", "/g", "GET");
        harness_listen(&h);
        client_connect(&c, &h);
        expect_route("HEAD /h", "HEAD", "H24: an explicit HEAD route wins, whatever the order");
        expect_route("GET /h", "GET", "GET has its own");
        expect_route("POST /h", "*", "and any other one, too");
        expect_route("HEAD /g", "GET", "H24: a GET route answers HEAD");
        stop("methods");
    }
}

static void test_patterns(void)
{
    harness_init(&h);
    harness_create(&h);
    route("GET", "/p/:id", NULL);
    route("POST", "/p/:name", NULL);
    route("*", "/p/:anything", NULL);
    harness_listen(&h);
    client_connect(&c, &h);
    expect_route("GET /p/1", "/p/:id", "routes of one shape keep their own pattern text");
    expect_route("POST /p/1", "/p/:name", "routes of one shape keep their own pattern text");
    expect_route("HEAD /p/1", "/p/:id", "routes of one shape keep their own pattern text");
    expect_route("PUT /p/1", "/p/:anything", "routes of one shape keep their own pattern text");
    stop("patterns");
}

/* ---- listening, where system calls fail ---- */

static bool chmod_fails, epoll_fails;

/* Instead of those of libc. */
int chmod(const char *path, mode_t mode)
{
    if (!chmod_fails)
        return fchmodat(AT_FDCWD, path, mode, 0);
    errno = EPERM;
    return -1;
}

/* See listeners.c. */
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (!epoll_fails)
        return __real_epoll_ctl(epoll_fd, operation, fd, event);
    errno = ENOSPC;
    return -1;
}

static void test_unix_path(void)
{
    char directory[] = "/tmp/pyws-XXXXXX", path[64];
    struct stat file;
    ws_listen_options options;
    if (!ok(mkdtemp(directory) != NULL, "a directory"))
        return;
    snprintf(path, sizeof path, "%s/socket", directory);
    ws_listen_options_init(&options, sizeof options);
    options.path = path;
    harness_init(&h);
    harness_create(&h);
    chmod_fails = true;
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "T85: chmod fails");
    is_int(errno, EPERM, "T85: its errno is kept");
    chmod_fails = false;
    ok(lstat(path, &file), "T85: a failed listen on a Unix path leaves no socket file behind");
    unlink(path);
    epoll_fails = true;
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "T85: epoll_ctl fails");
    is_int(errno, ENOSPC, "T85: its errno is kept");
    epoll_fails = false;
    ok(lstat(path, &file), "T85: nor here");
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "a file of another kind");
    is_int(errno, EADDRINUSE, "is no stale socket");
    ok(!lstat(path, &file) && S_ISREG(file.st_mode), "and is not removed: it is somebody's data");
    close(fd);
    unlink(path);
    is_int(ws_server_listen(h.server, &options), 0, "a listen that succeeds");
    ok(!lstat(path, &file) && S_ISSOCK(file.st_mode), "makes the file");
    harness_stop(&h, "a Unix path");
    rmdir(directory);
}

static void test_callers_descriptor(void)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    harness_init(&h);
    harness_create(&h);
    options.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "T85: not a socket");
    is_int(errno, ENOTSOCK, "T85: its errno is kept");
    ok(fcntl(options.fd, F_GETFD) >= 0, "T85: the caller's descriptor stays open");
    close(options.fd);
    options.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listen(options.fd, 1);
    epoll_fails = true;
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "T85: epoll_ctl fails");
    epoll_fails = false;
    ok(fcntl(options.fd, F_GETFD) >= 0, "T85: the caller's descriptor stays open");
    ok((h.port = ws_server_listen(h.server, &options)) > 0, "and may be given again");
    harness_route(&h, "/");
    expect_alive();
    harness_stop(&h, "a caller's descriptor");
}

static void cases(void)
{
    CASE(test_large_queue());
    CASE(test_slow_downloads());
    CASE(test_half_closed());
    CASE(test_exhausted());
    CASE(test_dropped_fragment());
    CASE(test_held_back());
    CASE(test_headers_of_no_answer());
    CASE(test_methods());
    CASE(test_patterns());
    CASE(test_unix_path());
    CASE(test_callers_descriptor());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
