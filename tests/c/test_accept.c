/* SPDX-License-Identifier: MIT */
/*
 * test_accept.c: accepting: sockets of the caller, an accept4 or an epoll_ctl that fails, listeners
 * that another process has shut down.
 */
#include "listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* ---- sockets of the caller ---- */

static void refuses(int fd, int error, const char *name)
{
    options.fd = fd;
    fails_with(error, name);
    ok(fcntl(fd, F_GETFD) >= 0, "%s: stays the caller's", name);
    close(fd);
}

static int bound(int type)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    bind(fd, (struct sockaddr *)&address, sizeof address);
    return fd;
}

static void test_sockets_that_cannot_accept(void)
{
    int pair[2];
    begin();
    refuses(bound(SOCK_DGRAM), ESOCKTNOSUPPORT, "a UDP socket");
    refuses(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ESOCKTNOSUPPORT, "SOCK_SEQPACKET");
    refuses(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EDESTADDRREQ, "an unbound TCP socket");
    refuses(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), EDESTADDRREQ, "an unbound Unix socket");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return;
    refuses(pair[0], EISCONN, "one of a pair");
    close(pair[1]);
    refuses(open("/dev/null", O_RDWR | O_CLOEXEC), ENOTSOCK, "no socket");
    options.fd = -1;
    options.host = "127.0.0.1";
    int port = ws_server_listen(h.server, &options);
    refuses(connect_to("127.0.0.1", port), EISCONN, "a TCP connection");
    harness_stop(&h, "sockets that cannot accept");
}

static void test_sockets_that_can_accept(void)
{
    struct sockaddr_un address = unix_address(path);
    begin();
    options.fd = bound(SOCK_STREAM);
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "a bound TCP socket is listened on");
    options.fd = bound(SOCK_STREAM);
    listen(options.fd, 1);
    fake.listens = 0;
    port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "one that listens is served");
    is_int(fake.listens, 0, "and keeps its backlog");
    for (int listens = 0; listens <= 1; listens++) {
        options.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bind(options.fd, (struct sockaddr *)&address, sizeof address);
        if (listens)
            listen(options.fd, 1);
        is_int(ws_server_listen(h.server, &options), 0, "a Unix socket that was given");
        ok(is_accepted(connect_path(path)), "is served");
        ws_server_shutdown(h.server, 1001, NULL, 0, 0);
        turns(&h, 2);
        ok(exists(path), "its file is the caller's");
        unlink(path);
    }
    harness_stop(&h, "sockets that can accept");
}

/* ---- an accept that fails ---- */

static bool loop_sleeps(void)
{
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    turns(&h, 3); /* also sees to wake-ups that are under way */
    return poll(&ready, 1, 0) == 0;
}

static void test_accept_fails(int error, const char *name)
{
    int port, healthy;
    char line[100];
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &port);
    listen_and_find("127.0.0.2", &healthy);
    snprintf(line, sizeof line, "accept on 127.0.0.1:%d: ", port);
    for (int time = 1; time <= 2; time++) {
        fake.accept_errors[0] = error;
        fake.accepts = 0;
        int client = connect_to("127.0.0.1", port);
        ok(loop_sleeps(), "T80: %s: the loop does not spin", name);
        is_int(fake.accepts, 1, "%s: accept is not called again at once", name);
        ok(answers("127.0.0.2", healthy), "T80: %s: the other listener continues", name);
        for (int i = 0; i < 10; i++)
            advance(&h, 100);
        ok(fake.accepts >= 5 && fake.accepts <= 11, "%s: tried again every 100 ms: %d", name,
           fake.accepts);
        is_int(lines_with(line), time, "T80, T89: %s: logged once, until it works again",
               name);
        uint64_t before = stats_of(&h).accepted;
        fake.accept_errors[0] = 0;
        advance(&h, 100);
        is_int((long long)(stats_of(&h).accepted - before), 1, "T80: %s: then it is accepted",
               name);
        close(client);
        turns(&h, 3);
    }
    ok(log_has(&h, strerror(error)) || error == EMFILE || error == ENOMEM, "%s: with its reason",
       name);
    harness_stop(&h, name);
}

static void test_two_listeners_fail(void)
{
    int one, two;
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &one);
    fake.failing_fds[1] = listen_and_find("127.0.0.2", &two);
    fake.accept_errors[0] = fake.accept_errors[1] = EPERM;
    int first = connect_to("127.0.0.1", one), second = connect_to("127.0.0.2", two);
    for (int i = 0; i < 10; i++)
        advance(&h, 100);
    is_int(lines_with("accept on"), 2, "two listeners that fail: a line of each");
    fake.accept_errors[1] = 0;
    uint64_t before = stats_of(&h).accepted;
    advance(&h, 100);
    is_int((long long)(stats_of(&h).accepted - before), 1, "each of them recovers by itself");
    close(first);
    close(second);
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
    for (int i = 0; i < 10; i++)
        advance(&h, 100);
    harness_stop(&h, "two listeners that fail");
}

/* Another process that has the socket, too, has shut it down: epoll reports a hang-up again and
 * again, whatever it was asked for. */
static void test_listener_is_shut_down(void)
{
    int port, fd;
    begin();
    fd = listen_and_find("127.0.0.1", &port);
    shutdown(fd, SHUT_RDWR);
    ok(loop_sleeps(), "a socket that no longer listens does not make the loop spin");
    is_int(lines_with("accept on"), 1, "and is logged");
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    listen(fd, 10);
    getsockname(fd, (struct sockaddr *)&address, &length);
    advance(&h, 100);
    ok(is_accepted(connect_to("127.0.0.1", ntohs(address.sin_port))), "served after a new listen");
    harness_stop(&h, "a listener that was shut down");
}

static void test_watching_again_fails(void)
{
    int port;
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &port);
    fake.accept_errors[0] = EMFILE;
    int client = connect_to("127.0.0.1", port);
    turns(&h, 2);
    fake.accept_errors[0] = 0;
    fake.epoll_errors = 0;
    for (int i = 0; i < 5; i++)
        advance(&h, 100);
    is_int((long long)stats_of(&h).accepted, 0, "a paused listener cannot be watched again");
    fake.epoll_errors = -1;
    for (int i = 0; i < 2; i++)
        advance(&h, 100);
    is_int((long long)stats_of(&h).accepted, 1, "that is tried until it can");
    close(client);
    harness_stop(&h, "watching again");
}

static void test_connections_cannot_be_watched(void)
{
    int port;
    begin();
    listen_and_find("127.0.0.1", &port);
    for (int time = 1; time <= 2; time++) {
        fake.epoll_errors = 0;
        for (int i = 0; i < 5; i++)
            answers("127.0.0.1", port);
        is_int((long long)stats_of(&h).refused, 5 * time, "connections that cannot be watched");
        is_int(lines_with("connections are refused"), time, "are refused, which is logged once");
        fake.epoll_errors = -1;
        ok(answers("127.0.0.1", port), "later they can");
    }
    harness_stop(&h, "connections that cannot be watched");
}

static void cases(void)
{
    CASE(test_sockets_that_cannot_accept());
    CASE(test_sockets_that_can_accept());
    CASE(test_accept_fails(EPERM, "EPERM of a security module"));
    CASE(test_accept_fails(EINVAL, "EINVAL"));
    CASE(test_accept_fails(EPROTO, "EPROTO"));
    CASE(test_accept_fails(EMFILE, "EMFILE"));
    CASE(test_accept_fails(ENOMEM, "ENOMEM"));
    CASE(test_accept_fails(9999, "an errno that no one knows"));
    CASE(test_two_listeners_fail());
    CASE(test_listener_is_shut_down());
    CASE(test_watching_again_fails());
    CASE(test_connections_cannot_be_watched());
}

int main(int argc, char **argv)
{
    return run_listening(argc, argv, cases);
}
