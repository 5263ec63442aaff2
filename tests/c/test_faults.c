/* SPDX-License-Identifier: MIT */
/*
 * test_faults.c: one scenario with all that a server does, in which each allocation, and then each
 * system call, fails once: only the peer that it was for suffers, nothing leaks, the server
 * continues.
 */
#include "deflate_peer.h"
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The last one watches: it is connected from the beginning to the end. The others come one after
 * the other, while nothing else is under way. */
enum { COMPRESSED, PLAIN, UPLOADS, READS, ADOPTED, LATE, WATCHES, PEERS };

static struct client peers[PEERS];
static struct {
    char *bytes;
    size_t length;
} wanted[PEERS]; /* what each peer receives if nothing fails */
static int pipe_fds[2], piped, deferred;
static int victims; /* how many peers the last failure has affected */
static size_t failing; /* the allocation that fails; 0: none */
static char path[64], file_path[64];

/* ---- the application ---- */

static void on_part(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    static char head[64];
    static size_t total;
    (void)user;
    total += length;
    if (!last)
        return;
    snprintf(head, sizeof head, "%zu bytes, the last one is %c", total, length ? data[length - 1]
                                                                               : '-');
    total = 0;
    ws_request_add_header(request, "X-Name", 6, "value", 5);
    ws_request_respond(request, 200, NULL, head, strlen(head));
}

static void upload(ws_request *request, void *user)
{
    ws_request_read_body(request, 1 << 20, on_part, user);
}

static void send_file(ws_request *request, void *user)
{
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);
    (void)user;
    if (fd < 0 || ws_request_respond_file(request, 200, NULL, fd, 10, 50000)) {
        ws_request_respond(request, 500, NULL, "", 0);
        if (fd >= 0)
            close(fd);
    }
}

static void send_parts(ws_request *request, void *user)
{
    (void)user;
    ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH);
    for (int i = 0; i < 3; i++)
        ws_request_write(request, noise, sizeof noise);
    ws_request_finish(request);
}

static void send_constant(ws_request *request, void *user)
{
    (void)user;
    ws_request_respond_static(request, 200, NULL, hex, 100000);
}

static void on_piped(int fd, unsigned ready, void *user)
{
    char byte;
    (void)ready, (void)user;
    piped += read(fd, &byte, 1) == 1;
}

static void on_deferred(void *argument)
{
    ++*(int *)argument;
}

static void on_event(struct harness *server, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    (void)server, (void)request;
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "room", 4);
    if (event == ON_MESSAGE && length == 3 && !memcmp(data, "end", 3))
        ws_conn_end(conn, 1000, "bye", 3);
    else if (event == ON_MESSAGE)
        ws_conn_send(conn, data, length, ZTEXT);
}

/* ---- the scenario ---- */

static void serve(void)
{
    advance(&h, 150); /* a listener that could not accept tries again after 100 ms */
    for (int i = 0; i < 4; i++)
        turns(&h, 1); /* one that fails does not keep the others from running */
}

/* Tries again what the library has reported as failed: then it succeeds. */
#define PERSIST(call, succeeded) \
    do { \
        int result_ = (call); \
        if (!(succeeded)) \
            result_ = (call); \
        if (!(succeeded)) \
            diag("%s: %d again", #call, result_); \
    } while (0)

static void make_stale_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address))
        diag("no stale socket at %s", path);
    close(fd);
}

/* Listens at a path, where a dead process has left a file, and on a socket of the application. */
static void listen_elsewhere(void)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    options.path = path;
    make_stale_socket();
    PERSIST(ws_server_listen(h.server, &options), result_ >= 0);
    options.path = NULL;
    options.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    if (bind(options.fd, (struct sockaddr *)&any, sizeof any))
        diag("a socket cannot be bound");
    PERSIST(ws_server_listen(h.server, &options), result_ >= 0);
}

static void set_up(void)
{
    memset(peers, 0, sizeof peers);
    harness_init(&h);
    h.hook = on_event;
    h.quiet = true;
    h.behavior.compression = DEDICATED;
    h.memory.fail_at = failing ? failing : SIZE_MAX; /* connections may fail in either case */
    PERSIST(ws_server_new(&h.server, &h.config), !result_);
    PERSIST(ws_server_ws(h.server, "/", &h.behavior), !result_);
    PERSIST(ws_server_http(h.server, "POST", "/upload", upload, NULL), !result_);
    PERSIST(ws_server_http(h.server, "GET", "/file", send_file, NULL), !result_);
    PERSIST(ws_server_http(h.server, "GET", "/parts", send_parts, NULL), !result_);
    PERSIST(ws_server_http(h.server, "GET", "/constant", send_constant, NULL), !result_);
    PERSIST((harness_listen(&h), h.port), result_ >= 0);
    listen_elsewhere();
    PERSIST(ws_server_watch(h.server, pipe_fds[0], WS_READABLE, on_piped, NULL), !result_);
}

static void connect_peer(int i, const char *request)
{
    client_connect(&peers[i], &h);
    peers[i].hasty = true;
    serve();
    client_say(&peers[i], request);
    serve();
    client_drain(&peers[i]);
}

static void say(int i, const char *bytes)
{
    client_say(&peers[i], bytes);
    serve();
    client_drain(&peers[i]);
}

static void say_frame(int i, int first, const char *data, size_t n)
{
    client_frame(&peers[i], first, data, n);
    serve();
    client_drain(&peers[i]);
}

static void open_compressed(int i)
{
    static char packed[SPACE];
    char request[512];
    snprintf(request, sizeof request, "%.*sSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
             (int)strlen(handshake_request) - 2, handshake_request);
    connect_peer(i, request);
    say_frame(i, 0xc1, packed, pack_once(hex, 40, packed));
    say_frame(i, 0xc1, packed, pack_once(hex, 9000, packed));
    say_frame(i, 0x81, hex, 9000);
}

static void publish(void)
{
    PERSIST(ws_server_publish(h.server, "room", 4, "to all", 6, WS_TEXT), result_ == 1);
    PERSIST(ws_server_publish(h.server, "room", 4, hex, 3000, ZTEXT), result_ == 1);
    serve();
    PERSIST(ws_server_publish(h.server, "room", 4, noise, 2000, WS_BINARY), result_ == 1);
    serve();
    for (int i = 0; i < PEERS; i++)
        if (peers[i].h) /* it is connected */
            client_drain(&peers[i]);
}

static void use_http(void)
{
    connect_peer(UPLOADS, "POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n01234");
    say(UPLOADS, "56789POST /upload HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    say(UPLOADS, "5\r\nabcde\r\n0\r\n\r\nGET /nothing HTTP/1.1\r\nHost: t\r\n\r\n");
    connect_peer(READS, "GET /file HTTP/1.1\r\nHost: t\r\n\r\n");
    say(READS, "GET /parts HTTP/1.1\r\nHost: t\r\n\r\n");
    say(READS, "GET /constant HTTP/1.1\r\nHost: t\r\n\r\n");
}

/* A connection that the application has accepted, with a part of its first request. */
static void adopt_peer(int i)
{
    enum { READ = 30 };
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
        abort();
    peers[i] = (struct client){.h = &h, .fd = pair[0], .served_fd = -1, .hasty = true};
    PERSIST(ws_server_adopt(h.server, pair[1], handshake_request, READ), !result_);
    serve();
    say(i, handshake_request + READ);
    say_frame(i, 0x81, "hello", 5);
    say_frame(i, 0x88, "\x03\xe8", 2);
}

static void run_scenario(void)
{
    set_up();
    connect_peer(WATCHES, handshake_request);
    say_frame(WATCHES, 0x81, "hello", 5);
    open_compressed(COMPRESSED);
    connect_peer(PLAIN, handshake_request);
    say_frame(PLAIN, 0x01, "in ", 3);
    say_frame(PLAIN, 0x89, "ping", 4);
    say_frame(PLAIN, 0x80, "two frames", 10);
    say_frame(PLAIN, 0x82, noise, 4000);
    publish();
    use_http();
    adopt_peer(ADOPTED);
    PERSIST(ws_server_defer(h.server, on_deferred, &deferred), !result_);
    if (write(pipe_fds[1], "x", 1) != 1)
        diag("the pipe is full");
    serve();
    say_frame(PLAIN, 0x88, "\x03\xe8" "bye", 5);
    say_frame(COMPRESSED, 0x81, "end", 3);
    say_frame(COMPRESSED, 0x88, "\x03\xe8", 2);
    connect_peer(LATE, "GET / HTTP/1.1\r\n");
    say_frame(WATCHES, 0x81, "before the end", 14);
    ws_server_drain(h.server);
    serve();
    say(LATE, strchr(handshake_request, '\n') + 1);
    say_frame(WATCHES, 0x81, "at the end", 10);
    ws_server_shutdown(h.server, 1001, "over", 4, 3000);
    serve();
    client_drain(&peers[WATCHES]);
    say_frame(WATCHES, 0x88, "\x03\xe9", 2);
    advance(&h, 3000);
    serve();
    for (int i = 0; i < PEERS; i++)
        client_drain(&peers[i]);
}

/* ---- what is expected of it ---- */

/* The time of day is not part of what must be the same. */
static void hide_dates(struct client *c)
{
    static const char field[] = "\r\nDate: ";
    char *at = c->in, *found;
    while (c->in && (found = memmem(at, c->in_length - (size_t)(at - c->in), field, 8))) {
        memset(found, ' ', 37);
        at = found + 37;
    }
}

/* How many peers have not received what they would without a failure. */
static int count_victims(const char *what, unsigned number)
{
    int count = 0;
    for (int i = 0; i < PEERS; i++) {
        struct client *c = &peers[i];
        hide_dates(c);
        if (c->in_length == wanted[i].length && c->eof &&
            !memcmp(c->in, wanted[i].bytes, c->in_length))
            continue;
        if (count++)
            diag("%s %u: peer %d, too, has %zu of %zu bytes%s", what, number, i, c->in_length,
                 wanted[i].length, c->reset ? ", RST" : c->eof ? "" : ", no end");
    }
    return count;
}

static void keep_what_is_received(void)
{
    for (int i = 0; i < PEERS; i++) {
        hide_dates(&peers[i]);
        ok(peers[i].eof, "peer %d gets %zu bytes, and the end", i, peers[i].in_length);
        wanted[i].length = peers[i].in_length;
        wanted[i].bytes = malloc(peers[i].in_length);
        if (!wanted[i].bytes)
            abort();
        memcpy(wanted[i].bytes, peers[i].in, peers[i].in_length);
    }
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* After its shutdown it can listen again. */
static bool still_serves(void)
{
    struct client c;
    harness_listen(&h);
    if (h.port < 0)
        return false;
    client_connect(&c, &h);
    client_say(&c, handshake_request);
    client_responses(&c);
    client_text(&c, "again");
    bool fine = !strcmp(client_frames(&c), "TEXT again");
    client_close(&c);
    serve();
    return fine && !stats_of(&h).connections;
}

static void close_peers(void)
{
    for (int i = 0; i < PEERS; i++)
        client_close(&peers[i]);
    serve();
}

/* The scenario with one failure, or none. Returns how often something was not as it must be. */
static int run_once(const char *what, unsigned number, size_t *allocations)
{
    int before = count_descriptors(), wrong = 0;
    piped = deferred = 0;
    faults.calls = 0;
    faults.failed = NULL;
    run_scenario();
    victims = number ? count_victims(what, number) : 0;
    if (!number)
        keep_what_is_received();
    close_peers();
    *allocations = h.memory.calls;
    h.memory.fail_at = 0;
    faults.fail_at = 0;
    const bool served = still_serves();
    const bool called = piped == 1 && deferred == 1;
    const bool clean = harness_free(&h);
    const int left = count_descriptors() - before;
    const bool gone = access(path, F_OK) != 0 || log_has(&h, path);
    wrong = (victims > 1) + !served + !called + !clean + (left != 0) + !gone;
    if (wrong)
        diag("%s %u (%s): %d peers suffer, serves %d, called %d, clean %d, %d descriptors left, "
             "file gone %d",
             what, number, faults.failed ? faults.failed : "-", victims, served, called, clean,
             left, gone);
    return wrong;
}

static void make_files(void)
{
    snprintf(path, sizeof path, "/tmp/test_faults.%d", (int)getpid());
    snprintf(file_path, sizeof file_path, "/tmp/test_faults.file.%d", (int)getpid());
    make_data();
    int fd = open(file_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ok(fd >= 0 && write(fd, hex, 60000) == 60000, "a file");
    close(fd);
    ok(!pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), "a pipe");
}

static unsigned step; /* from one failure to the next */

/* What the cases need: the files, and what the peers receive if nothing fails. */
static void prepare(void)
{
    size_t allocations;
    if (step)
        return;
    step = getenv("UNDER_VALGRIND") ? 11 : 1;
    faults.fail_at = 0;
    make_files();
    is_int(run_once("nothing", 0, &allocations), 0, "the scenario, without a failure");
    is_int(run_once("nothing", 1, &allocations), 0, "and again");
    is_int(victims, 0, "with the same bytes for all peers");
}

static void test_failing_allocations(void)
{
    size_t allocations = SIZE_MAX;
    int wrong = 0;
    prepare();
    faults.fail_at = 0;
    for (failing = 1; failing <= allocations; failing += step)
        wrong += run_once("allocation", (unsigned)failing, &allocations);
    diag("%zu allocations", allocations);
    failing = 0;
    ok(allocations > 50, "there are many");
    is_int(wrong, 0, "T84: each allocation fails: one peer suffers, nothing leaks, it continues");
}

static void test_failing_calls(bool other)
{
    size_t allocations;
    unsigned n = 1;
    int wrong = 0;
    prepare();
    for (faults.failed = ""; faults.failed; n += step) {
        faults.fail_at = n;
        faults.other = other;
        wrong += run_once("call", n, &allocations);
    }
    diag("%u system calls", n - 1 - step);
    ok(n > 200, "there are many");
    is_int(wrong, 0, "T80, T82, T85: each system call fails with %s error: the same",
           other ? "another" : "one");
}

static void cases(void)
{
    CASE(test_failing_allocations());
    CASE(test_failing_calls(false));
    CASE(test_failing_calls(true));
}

int main(int argc, char **argv)
{
    int code = run_cases(argc, argv, cases);
    unlink(file_path);
    return code;
}
