/* SPDX-License-Identifier: MIT */
/*
 * activation.c: an echo server as a service of systemd, without libsystemd.
 *
 *     activation [PORT]
 *
 * The units in packaging/systemd start it: systemd listens, passes the sockets (LISTEN_FDS), and
 * learns that the server is ready, that it stops, and that it is alive (NOTIFY_SOCKET,
 * WATCHDOG_USEC). See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3), whose rules these
 * are. Started by hand, it listens on 127.0.0.1; with port 0, the default, the kernel chooses a
 * port. SIGINT and SIGTERM shut down gracefully.
 */
#include "ws.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3 }; /* SD_LISTEN_FDS_START */

static ws_server *server;
static volatile sig_atomic_t stopping;

/* ---- systemd ---- */

/* Returns the number in a variable of the environment, or 0. */
static unsigned long long number_in(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

/* Returns true if a variable names this process: the environment may have been inherited. */
static bool is_mine(const char *name)
{
    return number_in(name) == (unsigned long long)getpid();
}

/* Returns how many sockets systemd has passed. */
static int passed_sockets(void)
{
    return is_mine("LISTEN_PID") ? (int)number_in("LISTEN_FDS") : 0;
}

/* Tells systemd, if it wants to know. An abstract address begins with "@" in place of NUL. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const size_t size = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                         (socklen_t)size) < 0)
        perror("activation: NOTIFY_SOCKET");
    if (fd >= 0)
        close(fd);
}

/* Twice in the time that systemd allows. A loop that is stuck no longer gets here. */
static void keep_watchdog_quiet(void *argument)
{
    const unsigned long long allowed = number_in("WATCHDOG_USEC");
    (void)argument;
    if (!allowed || (getenv("WATCHDOG_PID") && !is_mine("WATCHDOG_PID")))
        return;
    notify("WATCHDOG=1");
    ws_server_set_alarm(server, allowed * 1000 / 2, keep_watchdog_quiet, NULL);
}

/* ---- the server ---- */

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)user;
    ws_conn_send(conn, data, length, opcode);
}

/* Returns the port (0 for a Unix socket) or an error. */
static int listen_somewhere(uint16_t port)
{
    const int passed = passed_sockets();
    ws_listen_options options;
    int result = 0;
    ws_listen_options_init(&options, sizeof options);
    for (int i = 0; i < passed && result >= 0; i++) {
        options.fd = FIRST_FD + i;
        result = ws_server_listen(server, &options);
    }
    if (passed)
        return result;
    options.host = "127.0.0.1";
    options.port = port;
    return ws_server_listen(server, &options);
}

static int start(uint16_t port)
{
    ws_behavior behavior;
    int error = ws_server_new(&server, NULL);
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.on_message = on_message;
    if (!error)
        error = ws_server_ws(server, "/*", &behavior);
    return error ? error : listen_somewhere(port);
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    ws_server_wakeup(server);
}

static int serve(void)
{
    int result;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    notify("READY=1");
    keep_watchdog_quiet(NULL);
    while ((result = ws_server_step(server, -1)) > 0)
        if (stopping == 1) {
            stopping = 2;
            notify("STOPPING=1");
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
        }
    return result;
}

int main(int argc, char **argv)
{
    int result = start((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    if (result >= 0) {
        if (result)
            printf("listening on port %d\n", result);
        fflush(stdout);
        result = serve();
    }
    if (result)
        fprintf(stderr, "activation: %s%s%s\n", ws_strerror(result),
                result == WS_ESYSTEM ? ": " : "", result == WS_ESYSTEM ? strerror(errno) : "");
    ws_server_free(server);
    return result != 0;
}
