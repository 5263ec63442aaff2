/* SPDX-License-Identifier: MIT */
/*
 * test_source.c: responses whose content is sent from where it lies: constants and files, for slow
 * clients, for clients that leave, and until the end of the server.
 */
#include "one_request.h"
#include "sendfile.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GET "GET /part HTTP/1.1\r\nHost: t\r\n\r\n"

static size_t source_length;
static int source_result, file = -1;

static void never(ws_request *request, void *user)
{
    (void)request, (void)user;
    ok(false, "on_aborted does not run");
}

static void start(void (*handler)(ws_request *request, void *user))
{
    serve("GET", "/part", handler);
    count_reports();
}

static void from_static(ws_request *request, void *user)
{
    (void)user;
    ws_request_defer(request, never, NULL);
    source_result = ws_request_respond_static(request, 200, NULL, big, source_length);
    is_int(ws_request_respond(request, 200, NULL, "", 0), WS_ECLOSED, "it is answered");
    is_int(ws_request_write(request, "x", 1), WS_ECLOSED, "nothing can be added");
    is_int(ws_request_abort(request), WS_ECLOSED, "nor can it be aborted");
}

static void from_file(ws_request *request, void *user)
{
    (void)user;
    source_result = ws_request_respond_file(request, 200, NULL, file, 1000, source_length);
    if (source_result)
        ws_request_respond(request, 500, NULL, "", 0);
}

/* A descriptor of a file with the bytes of big. */
static int make_file(size_t n)
{
    char path[] = "/tmp/test_answer.XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    if (fd >= 0 && write(fd, big, n) != (ssize_t)n)
        diag("cannot write the file");
    return fd;
}

static void test_static(void)
{
    size_t n;
    start(from_static);
    source_length = BIG;
    ask_slowly(GET NEXT);
    is_int(source_result, WS_OK, "answered");
    is_int(reports, 0, "on_response has not run yet");
    ok(stats_of(&h).memory < 400000, "W2: nothing is copied: %zu", stats_of(&h).memory);
    advance(&h, 29000);
    const char *body = raw(&n);
    ok(n > BIG && !memcmp(body, big, BIG), "W2: all arrives");
    ok(!strncmp(body + BIG, "HTTP/1.1 200 OK\r\n", 17), "H23: then the next answer");
    is_int(reports, 2, "on_response");
    c.in_length = 0;
    client_say(&c, "HEAD /part HTTP/1.1\r\nHost: t\r\n\r\n");
    is_body("", "H24: HEAD");
    ok(head_has(&c, "Content-Length: 8388608\r\n"), "H24: with the length");
    is_int((int)reported, BIG, "the bytes of the body");
    source_length = 100;
    client_say(&c, GET);
    raw(&n);
    is_int((int)n, 100, "W2: a short one");
    stop("static");

    start(from_static);
    source_length = BIG;
    ask_slowly(GET);
    client_finish(&c);
    raw(&n);
    ok(n == BIG && c.eof, "W2: a client that sends FIN gets all of it: %zu", n);
    stop("FIN in a static answer");

    start(from_static);
    ask_slowly(GET);
    ws_server_shutdown(h.server, 1001, NULL, 0, 10000);
    raw(&n);
    ok(n == BIG && c.eof, "a shutdown lets it end: %zu", n);
    stop("a shutdown in a static answer");

    start(from_static);
    ask_slowly(GET);
    advance(&h, 30000);
    turns(&h, 1);
    is_int(reports, 1, "T14, W2: a client that takes nothing is dropped");
    stop("a reader that never reads");
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_file(void)
{
    size_t n;
    start(from_file);
    source_length = BIG - 1000;
    file = make_file(BIG);
    ask_slowly(GET NEXT);
    ok(is_open(file), "it is open while it is sent");
    ok(stats_of(&h).memory < 400000, "W3: nothing is copied: %zu", stats_of(&h).memory);
    const char *body = raw(&n);
    ok(n > BIG - 1000 && !memcmp(body, big + 1000, BIG - 1000), "W3: a part of a file");
    ok(!is_open(file), "W3: it is closed");
    c.in_length = 0;
    source_length = 0;
    file = make_file(10);
    client_say(&c, GET);
    is_body("", "W3: no byte of a file");
    ok(!is_open(file), "W3: it is closed");
    source_length = 5;
    file = make_file(1005);
    client_say(&c, "HEAD /part HTTP/1.1\r\nHost: t\r\n\r\n");
    is_body("", "H24: HEAD");
    ok(!is_open(file), "W3: it is closed");
    source_length = 6;
    file = make_file(1005);
    client_say(&c, GET);
    raw(&n);
    ok(n == 5 && c.eof, "W3: a file that is shorter: dropped");
    ok(log_has(&h, "is too short, or cannot be read") && !is_open(file), "logged, and closed");
    stop("file");

    start(from_file);
    source_length = BIG - 1000;
    file = make_file(BIG);
    ask_slowly(GET);
    client_reset(&c);
    turns(&h, 3);
    ok(!is_open(file), "W3: closed when the client leaves");
    file = open("/proc/self/status", O_RDONLY);
    client_connect(&c, &h);
    client_say(&c, GET);
    client_drain(&c);
    ok(c.eof && !is_open(file), "W3: not readable this way: dropped");
    file = -1;
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, GET);
    is_responses(&c, "500", "W3: no descriptor");
    is_int(source_result, WS_EINVAL, "is refused");
    stop("a file that is not sent");
}

/* The library was built without files. */
static void test_no_files(void)
{
    start(from_file);
    file = make_file(BIG);
    client_say(&c, GET);
    is_responses(&c, "500", "E2: a response from a file");
    is_int(source_result, WS_ENOTSUP, "is not supported");
    close(file);
    stop("no files");
}

/* A connection that is lost in the middle of the bytes: a part was sent, and the kernel raises the
 * signal. */
static bool lost_halfway;

ssize_t sendfile(int fd, int in, off_t *offset, size_t n)
{
#ifdef SYS_sendfile64
    const long number = SYS_sendfile64;
#else
    const long number = SYS_sendfile;
#endif
    const bool lost = lost_halfway;
    lost_halfway = false;
    if (lost)
        raise(SIGPIPE);
    return (ssize_t)syscall(number, fd, in, offset, lost ? n / 2 : n);
}

/* Writing to a socket that the peer has reset raises no signal. */
static void test_no_signal(void)
{
    size_t n;
    sigset_t pending;
    signal(SIGPIPE, SIG_DFL);
    start(from_file);
    source_length = BIG - 1000;
    for (int i = 0; i < 20; i++) {
        file = make_file(BIG);
        client_close(&c);
        client_connect_small(&c, &h);
        client_say(&c, GET);
        turns(&h, 1 + i % 4);
        client_reset(&c);
        turns(&h, 3);
    }
    sigpending(&pending);
    ok(!sigismember(&pending, SIGPIPE), "no SIGPIPE is pending, and none was raised");
    file = make_file(BIG);
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, GET);
    raw(&n);
    is_int((int)n, BIG - 1000, "served");
    c.in_length = 0;
    lost_halfway = true;
    file = make_file(BIG);
    client_say(&c, GET);
    raw(&n);
    is_int((int)n, BIG - 1000, "nor one after a part was sent");
    ok(h.tls || !lost_halfway, "where the kernel raised one");
    stop("no signal");
}

/* A fast client does not keep the others waiting. */
static void test_fair(void)
{
    struct client other;
    start(from_static);
    source_length = BIG;
    client_say(&c, GET);
    client_connect(&other, &h);
    client_say(&other, NEXT);
    turns(&h, 1);
    client_read(&c);
    turns(&h, 1);
    client_read(&other);
    ok(other.in_length > 0, "W2: another client is served meanwhile");
    client_close(&other);
    size_t n;
    raw(&n);
    is_int((int)n, BIG, "W2: and all arrives");
    stop("fairness");
}

static void from_failing(ws_request *request, void *user)
{
    static int number;
    (void)user;
    if (number++ % 2) {
        ws_request_respond_static(request, 200, NULL, big, 1000000);
        return;
    }
    file = make_file(100000);
    if (ws_request_respond_file(request, 200, NULL, file, 0, 100000) != WS_OK)
        close(file);
}

/* Every allocation of a scenario fails once. */
static void test_failing_allocations(void)
{
    bool more = true;
    for (size_t n = 1; more && n < 300; n++) {
        start(from_failing);
        h.quiet = true;
        client_close(&c);
        client_connect_small(&c, &h);
        h.memory.fail_at = h.memory.calls + n;
        client_say(&c, GET GET);
        turns(&h, 5);
        client_drain(&c);
        more = stop_failing(n);
    }
    ok(!more, "T68: each allocation has failed once");
}

static void cases(void)
{
    CASE(test_static());
    if (WS__SENDFILE_AVAILABLE) {
        CASE(test_file());
        CASE(test_no_signal());
    } else {
        CASE(test_no_files());
    }
    CASE(test_fair());
    CASE(test_failing_allocations());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
