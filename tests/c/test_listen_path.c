/* SPDX-License-Identifier: MIT */
/*
 * test_listen_path.c: listening at files of Unix sockets, which other processes remove, rename
 * and replace meanwhile.
 */
#include "listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct harness successor;

static ws_server *listen_at(struct harness *server, const char *where)
{
    ws_listen_options_init(&options, sizeof options);
    options.path = where;
    harness_init(server);
    harness_create(server);
    int result = ws_server_listen(server->server, &options);
    ok(!result, "listen on a path");
    return server->server;
}

static bool can_connect(void)
{
    int fd = connect_path(path);
    close(fd);
    return fd >= 0;
}

static void test_successor_after_rm(void)
{
    reset_fake();
    listen_at(&h, path);
    unlink(path);
    listen_at(&successor, path);
    harness_stop(&h, "rm and start of a successor");
    ok(can_connect(), "the successor's socket stays when the first server is freed");
    listen_at(&h, other);
    ws_server_shutdown(successor.server, 1001, NULL, 0, 0);
    ok(!exists(path), "and is removed when the successor shuts down");
    harness_stop(&successor, "a successor");
    harness_stop(&h, "another path");
}

static void test_successor_by_rename(void)
{
    reset_fake();
    listen_at(&h, path);
    listen_at(&successor, other);
    ok(!rename(other, path), "a successor's socket is renamed over the path");
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
    ok(can_connect(), "it stays when the first server shuts down");
    harness_stop(&h, "rename over the path");
    harness_stop(&successor, "a successor whose socket was renamed");
    ok(exists(path), "the successor does not know of that name");
    listen_at(&h, path);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    harness_stop(&h, "data in the place of the socket");
    ok(exists(path), "data stays, too");
    unlink(path);
}

/* Another process begins to listen at the path. */
static void let_rival_listen(void)
{
    fake.on_refused = fake.before_listen = NULL;
    struct sockaddr_un address = unix_address(path);
    unlink(path);
    rival = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(!bind(rival, (struct sockaddr *)&address, sizeof address) && !listen(rival, 1),
       "another process listens in between");
}

static void end_rival(void)
{
    close(rival);
    rival = -1;
    unlink(path);
}

static void test_two_begin_at_once(void)
{
    begin();
    options.path = path;
    fake.before_listen = let_rival_listen;
    fails_with(EADDRINUSE, "the file was replaced before listen");
    ok(can_connect(), "the other one's stays");
    end_rival();
    struct sockaddr_un address = unix_address(path);
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bind(stale, (struct sockaddr *)&address, sizeof address);
    close(stale);
    fake.on_refused = let_rival_listen;
    fails_with(EADDRINUSE, "a stale file was replaced before it was removed");
    ok(can_connect(), "the other one's stays");
    end_rival();
    is_int(ws_server_listen(h.server, &options), 0, "the path is free again");
    fake.unlink_fails = true;
    harness_stop(&h, "two at once");
    ok(log_has(&h, path) && log_has(&h, strerror(EROFS)), "a file that stays behind is logged");
    fake.unlink_fails = false;
    unlink(path);
}

static void cases(void)
{
    CASE(test_successor_after_rm());
    CASE(test_successor_by_rename());
    CASE(test_two_begin_at_once());
}

int main(int argc, char **argv)
{
    return run_listening(argc, argv, cases);
}
