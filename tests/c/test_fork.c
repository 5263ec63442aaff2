/* SPDX-License-Identifier: MIT */
/*
 * test_fork.c: descriptors of which another process holds a copy. What the server closes is closed
 * for its peer and leaves the epoll set; a forked child that frees the server changes nothing of
 * the parent's. T76.
 */
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct harness h;
static struct client c, other;

/* More than any of these tests needs, and much less than a loop that spins would make. */
enum { FEW_TURNS = 40, WATCHED_MS = 100, BOUND_MS = 20000 };

static void begin(void)
{
    harness_init(&h);
    h.real_time = true;
    h.echo = true;
    harness_start(&h);
}

/* ---- children ---- */

static pid_t child;

/* Forks. The child ends with the parent, whatever happens to that. */
static bool in_child(void)
{
    pid_t parent = getpid();
    child = fork();
    if (child)
        return false;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    alarm(BOUND_MS / 1000); /* where a call waits that should be refused */
    return true;
}

/* Without an exit, at which valgrind would count the memory of the server that lives on. */
static void leave_by_exec(int status)
{
    char text[16];
    snprintf(text, sizeof text, "exit %d", status);
    execl("/bin/sh", "sh", "-c", text, (char *)NULL);
    _exit(127);
}

static void hold_copies(void)
{
    if (in_child()) {
        alarm(0);
        for (;;)
            pause();
    }
    ok(child > 0, "a child holds copies of all descriptors");
}

static void let_go(void)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static int status_of_child(void)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The child holds copies of the client's descriptors, too. */
static void leave(struct client *client)
{
    client_finish(client);
    client_close(client);
}

/* ---- what is observed ---- */

static void set_true(void *argument)
{
    *(bool *)argument = true;
}

/* How many turns the loop makes while nothing is to be done. */
static int idle_turns(void)
{
    bool over = false;
    ws_server_set_alarm(h.server, WATCHED_MS * 1000000u, set_true, &over);
    int before = (int)stats_of(&h).turns;
    while (!over && ws_server_step(h.server, -1) > 0)
        ;
    return (int)stats_of(&h).turns - before;
}

static void is_idle(const char *what)
{
    int count = idle_turns();
    ok(count < FEW_TURNS, "%s: the loop sleeps", what);
    if (count >= FEW_TURNS)
        diag("%d turns in %d ms", count, WATCHED_MS);
}

/* The client has read to the end. */
static bool has_ended(struct client *client)
{
    struct pollfd readable = {client->fd, POLLIN, 0};
    while (!client->eof && !client->reset && poll(&readable, 1, BOUND_MS) == 1)
        client_read(client);
    return client->eof || client->reset;
}

static void is_served(struct client *client, const char *name)
{
    client_text(client, name);
    for (int i = 0; i < BOUND_MS / 10 && client->in_length < strlen(name) + 2; i++) {
        ws_server_step(h.server, 10);
        client_read(client);
    }
    ok(client->in_length == strlen(name) + 2 && !client->eof && !client->reset, "%s", name);
    client->in_length = 0;
}

/* ---- connections ---- */

static void test_dropped(void)
{
    begin();
    client_open(&c, &h);
    hold_copies();
    ws_conn_close(conn_at(&h, 0));
    ok(has_ended(&c), "T76: the peer of a dropped connection sees its end");
    client_text(&c, "is anybody there?");
    is_idle("T76: after a connection was dropped");
    leave(&c);
    is_idle("T76: after its peer has gone");
    let_go();
    harness_stop(&h, "dropped");
}

static void test_dropped_unread(void)
{
    begin();
    client_open(&c, &h);
    hold_copies();
    ws_conn_pause(conn_at(&h, 0));
    client_text(&c, "never read");
    ws_conn_close(conn_at(&h, 0));
    ok(has_ended(&c), "T76: the same where input was waiting");
    is_idle("T76: which no one will read");
    let_go();
    leave(&c);
    harness_stop(&h, "dropped unread");
}

static void test_closed_by_handshake(void)
{
    begin();
    client_open(&c, &h);
    hold_copies();
    client_send_close(&c, 1000, "");
    is_frames(&c, "CLOSE 1000, EOF", "T76: a closing handshake ends with EOF");
    leave(&c);
    is_idle("T76: after a closing handshake");
    is_int(stats_of(&h).connections, 0, "and the connection is gone");
    let_go();
    harness_stop(&h, "closed by handshake");
}

static void test_close_timeout(void)
{
    harness_init(&h);
    h.real_time = true;
    h.behavior.close_timeout = 20;
    harness_start(&h);
    client_open(&c, &h);
    hold_copies();
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    for (int i = 0; i < BOUND_MS / 20 && stats_of(&h).connections; i++)
        ws_server_step(h.server, 20);
    is_int(stats_of(&h).connections, 0, "a client that does not answer a Close is dropped");
    ok(has_ended(&c), "T76: and sees that");
    is_idle("T76: after close_timeout");
    let_go();
    leave(&c);
    harness_stop(&h, "close timeout");
}

static void test_http(void)
{
    harness_init(&h);
    h.real_time = true;
    harness_create(&h);
    harness_http(&h, "GET", "/");
    harness_listen(&h);
    client_connect(&c, &h);
    hold_copies();
    client_say(&c, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    is_responses(&c, "200 /, EOF", "T76: an answer to HTTP ends with EOF");
    leave(&c);
    is_idle("T76: after an answer to HTTP");
    let_go();
    harness_stop(&h, "HTTP");
}

/* ---- listening sockets ---- */

/* Shuts down with one client that does not answer, while another one connects to what no longer
 * listens here. */
static void shut_down_listening(const char *what)
{
    client_open(&c, &h);
    ws_server_shutdown(h.server, 1001, NULL, 0, 60000);
    int fd = client_socket(&h, 0);
    ok(fd >= 0, "a connection to a port that somebody else holds");
    is_idle(what);
    close(fd);
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
    for (int i = 0; i < BOUND_MS / 10 && ws_server_step(h.server, 10) > 0; i++)
        ;
    ok(has_ended(&c), "the shutdown ends");
    leave(&c);
}

static void test_inherited_listener(void)
{
    ws_listen_options options;
    begin();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(!listen(fd, 10), "a socket that another process made");
    ws_listen_options_init(&options, sizeof options);
    options.fd = dup(fd);
    options.tls = harness_tls(&h);
    h.port = ws_server_listen(h.server, &options);
    ok(h.port > 0, "is given as fd");
    shut_down_listening("T76: a shutdown with an inherited listening socket");
    close(fd);
    harness_stop(&h, "an inherited listener");
}

static void test_listener_in_child(void)
{
    begin();
    hold_copies();
    shut_down_listening("T76: a shutdown while a child holds the listening socket");
    let_go();
    harness_stop(&h, "a listener in a child");
}

/* ---- the interrupt descriptor ---- */

static void test_interrupt(void)
{
    int ends[2];
    begin();
    ok(!pipe(ends), "pipe");
    is_int(ws_server_set_interrupt_fd(h.server, ends[0]), WS_OK, "an interrupt descriptor");
    hold_copies();
    is_int(ws_server_set_interrupt_fd(h.server, -1), WS_OK, "is no longer watched");
    close(ends[0]);
    ok(write(ends[1], "x", 1) == 1, "but a child holds it");
    is_idle("T76: after an interrupt descriptor was closed");
    close(ends[1]);
    let_go();
    harness_stop(&h, "interrupt");
}

/* ---- a child that frees the server ---- */

static int handlers;

static void count(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)event, (void)conn, (void)request, (void)data, (void)length;
    handlers++;
}

static void count_deferred(void *argument)
{
    (*(int *)argument)++;
}

static void listen_path(const char *path)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    options.path = path;
    is_int(ws_server_listen(h.server, &options), 0, "a Unix socket");
}

static const char topic[] = "topic";

static void test_child_frees(void)
{
    static char folder[] = "/tmp/ws-fork-XXXXXX";
    char path[64];
    struct stat file;
    int deferred = 0;
    struct client idle;
    begin();
    ok(mkdtemp(folder) != NULL, "a folder");
    snprintf(path, sizeof path, "%s/socket", folder);
    listen_path(path);
    client_open(&c, &h);
    client_open(&other, &h);
    client_connect(&idle, &h);
    ws_conn_subscribe(conn_at(&h, 0), topic, strlen(topic));
    is_int(ws_server_defer(h.server, count_deferred, &deferred), WS_OK, "a deferred call");
    if (in_child()) {
        h.hook = count;
        int error = ws_server_free(h.server);
        bool clean = !h.memory.bytes && !h.memory.blocks && !h.memory.mismatch;
        _exit(error ? 2 : handlers || deferred ? 3 : clean ? 42 : 4);
    }
    is_int(status_of_child(), 42, "T76: a child frees the server: no handler runs, no leak");
    ok(!stat(path, &file), "T76: the Unix socket stays");
    is_idle("T76: after a child has freed the server");
    is_int(deferred, 1, "T76: what was deferred runs in the parent");
    is_served(&c, "T76: connections of the parent continue");
    is_served(&other, "T76: all of them");
    client_close(&other);
    client_open(&other, &h);
    is_served(&other, "T76: and new ones come");
    leave(&c);
    client_close(&other);
    client_close(&idle);
    turns(&h, 5);
    harness_stop(&h, "a child frees");
    ok(stat(path, &file) != 0, "the parent removes its Unix socket");
    rmdir(folder);
}

static void test_child_frees_an_answer_to_come(void)
{
    begin();
    harness_http(&h, "GET", "/later");
    client_open(&c, &h);
    ws_conn_end(conn_at(&h, 0), 1000, NULL, 0);
    if (in_child())
        _exit(ws_server_free(h.server) ? 2 : h.memory.blocks ? 4 : 42);
    is_int(status_of_child(), 42, "T76: a child frees a server whose connections are closing");
    client_send_close(&c, 1000, "");
    is_frames(&c, "CLOSE 1000, EOF", "T76: the closing handshake continues");
    leave(&c);
    turns(&h, 3);
    harness_stop(&h, "closing connections in a child");
}

static void test_child_calls(void)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    begin();
    client_open(&c, &h);
    if (in_child()) {
        int refused = ws_server_run(h.server) == WS_EFORKED;
        refused += ws_server_listen(h.server, &options) == WS_EFORKED;
        refused += ws_server_shutdown(h.server, 1001, NULL, 0, 0) == WS_EFORKED;
        refused += ws_server_set_interrupt_fd(h.server, -1) == WS_EFORKED;
        refused += ws_server_watch(h.server, 0, 0, NULL, NULL) == WS_EFORKED;
        refused += ws_server_adopt(h.server, 0, NULL, 0) == WS_EFORKED;
        ws_server_set_alarm(h.server, 0, count_deferred, &refused);
        ws_server_wakeup(h.server);
        leave_by_exec(refused);
    }
    is_int(status_of_child(), 6,
           "T76: run, listen, shutdown, set_interrupt_fd, watch, adopt: WS_EFORKED");
    is_idle("T76: after that");
    is_served(&c, "T76: the parent continues");
    leave(&c);
    turns(&h, 3);
    harness_stop(&h, "calls of a child");
}

/* The alarm of the parent is in a descriptor that the child shares. */
static void test_child_leaves_the_alarm(void)
{
    bool over = false;
    begin();
    ws_server_set_alarm(h.server, WATCHED_MS * 1000000u, set_true, &over);
    if (in_child()) {
        ws_server_set_alarm(h.server, UINT64_C(3600) * 1000000000u, set_true, &over);
        _exit(ws_server_free(h.server) ? 2 : 42);
    }
    is_int(status_of_child(), 42, "a child sets an alarm, and frees the server");
    struct pollfd readable = {ws_server_fd(h.server), POLLIN, 0};
    is_int(poll(&readable, 1, BOUND_MS), 1, "T76: the alarm of the parent still comes");
    turns(&h, 2);
    ok(over, "T76: and runs");
    harness_stop(&h, "the alarm");
}

static int inner;

static void fork_inside(void *argument)
{
    (void)argument;
    if (in_child())
        leave_by_exec(ws_server_free(h.server) == WS_EBUSY ? 42 : 1);
    inner = status_of_child();
}

static void test_child_of_a_handler(void)
{
    begin();
    ws_server_defer(h.server, fork_inside, NULL);
    turns(&h, 2);
    is_int(inner, 42, "T76: the child of a handler cannot free what it would return to: WS_EBUSY");
    harness_stop(&h, "the child of a handler");
}

static void cases(void)
{
    CASE(test_dropped());
    CASE(test_dropped_unread());
    CASE(test_closed_by_handshake());
    CASE(test_close_timeout());
    CASE(test_http());
    CASE(test_inherited_listener());
    CASE(test_listener_in_child());
    CASE(test_interrupt());
    CASE(test_child_frees());
    CASE(test_child_frees_an_answer_to_come());
    CASE(test_child_calls());
    CASE(test_child_leaves_the_alarm());
    CASE(test_child_of_a_handler());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
