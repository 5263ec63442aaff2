/* SPDX-License-Identifier: MIT */
/*
 * test_bus_threads.c: members of a local bus in threads of their own, as their processes would be:
 * a client that knows of its subscription is reached from every member, whatever else is going on;
 * and a forked child that frees its copy of a member.
 */
#include "members.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 3, BOUND_MS = 60000 };

static atomic_bool stopping;
static pthread_t threads[SERVERS];

static int amount(int most)
{
    return getenv("UNDER_VALGRIND") ? most / 20 : most;
}

/* ---- servers ---- */

/* "+topic" subscribes, "=topic" publishes the topic to it; both are answered. */
static void obey(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)opcode, (void)user;
    if (length && data[0] == '+')
        ws_conn_subscribe(conn, data + 1, length - 1);
    else if (length && data[0] == '-')
        ws_conn_unsubscribe(conn, data + 1, length - 1);
    else if (length)
        ws_conn_publish(conn, data + 1, length - 1, data + 1, length - 1, WS_TEXT, false);
    ws_conn_send(conn, "ok", 2, WS_TEXT);
}

static void *serve_member(void *argument)
{
    struct member *m = argument;
    for (int i = 0; !atomic_load(&stopping); i++) {
        ws_server_step(m->h.server, 5);
        for (int k = 0; k < 3; k++) /* noise: announcements and messages of all sizes */
            ws_server_publish(m->h.server, "noise", 5, "0123456789", (size_t)(i + k) % 10, WS_TEXT);
    }
    return NULL;
}

static void begin(void)
{
    members_sockets(SERVERS);
    for (int i = 0; i < SERVERS; i++) {
        members_prepare(i);
        members[i].h.real_time = true;
        members[i].h.quiet = true;
        members[i].h.config.allocator = (ws_allocator){NULL, NULL};
        members[i].h.behavior.on_message = obey;
        members[i].h.behavior.max_backpressure = 0;
        if (members_try(i))
            ok(false, "member %d joins", i);
    }
    atomic_store(&stopping, false);
    for (int i = 0; i < SERVERS; i++)
        pthread_create(&threads[i], NULL, serve_member, &members[i]);
}

static void end(const char *name)
{
    atomic_store(&stopping, true);
    for (int i = 0; i < SERVERS; i++)
        pthread_join(threads[i], NULL);
    members_turns(3);
    members_stop(name);
}

/* ---- clients, which wait ---- */

static bool wait_frame(struct client *client, const char *want)
{
    size_t n = strlen(want);
    struct pollfd readable = {client->fd, POLLIN, 0};
    while (client->in_length < n + 2) {
        if (poll(&readable, 1, BOUND_MS) != 1 || client->eof || client->reset)
            return false;
        client_read(client);
    }
    bool same = client->in[0] == (char)0x81 && (size_t)client->in[1] == n &&
                !memcmp(client->in + 2, want, n);
    client->in_length -= n + 2;
    memmove(client->in, client->in + n + 2, client->in_length);
    return same;
}

/* Not client_open: the server has its own thread. */
static void open_waiting(struct client *client, int member)
{
    struct pollfd readable;
    client_connect(client, &members[member].h);
    client_say(client, handshake_request);
    readable = (struct pollfd){client->fd, POLLIN, 0};
    while (!client->in_length || !memmem(client->in, client->in_length, "\r\n\r\n", 4)) {
        if (poll(&readable, 1, BOUND_MS) != 1 || client->eof || client->reset)
            break;
        client_read(client);
    }
    client->in_length = 0;
}

static bool command(struct client *client, char what, const char *topic)
{
    char text[64];
    snprintf(text, sizeof text, "%c%s", what, topic);
    client_text(client, text);
    return true;
}

static void test_knowledge(void)
{
    static struct client c[SERVERS], noise[SERVERS];
    char topic[32];
    bool right = true;
    begin();
    for (int i = 0; i < SERVERS; i++) {
        open_waiting(&c[i], i);
        open_waiting(&noise[i], i);
        command(&noise[i], '+', "noise");
    }
    int rounds = amount(3000);
    for (int i = 0; i < rounds && right; i++) {
        struct client *subscriber = &c[i % SERVERS];
        struct client *publisher = &c[(i + 1 + i / SERVERS % (SERVERS - 1)) % SERVERS];
        snprintf(topic, sizeof topic, "topic %d", i);
        command(subscriber, '+', topic);
        right = wait_frame(subscriber, "ok");
        command(publisher, '=', topic);
        right = right && wait_frame(publisher, "ok") && wait_frame(subscriber, topic);
        if (i % 3 == 0) {
            command(subscriber, '-', topic);
            right = right && wait_frame(subscriber, "ok");
        }
        for (int k = 0; k < SERVERS; k++) {
            client_read(&noise[k]);
            noise[k].in_length = 0;
        }
        if (!right)
            diag("round %d", i);
    }
    ok(right, "B1: a client that knows of its subscription is reached from everywhere");
    for (int i = 0; i < SERVERS; i++) {
        client_close(&c[i]);
        client_close(&noise[i]);
    }
    end("threads");
}

/* ---- a forked child ---- */

static void test_fork(void)
{
    static struct client c[2];
    members_start(2);
    client_open(&c[0], &members[0].h);
    client_open(&c[1], &members[1].h);
    members_subscribe(1, "a");
    members_subscribe(0, "b");
    members_settle();
    pid_t child = fork();
    if (!child) {
        ws_bus_options o = members[0].options;
        bool refused = ws_server_join(members[0].h.server, &o) < 0;
        int freed = ws_server_free(members[0].h.server);
        execl("/bin/sh", "sh", "-c", refused && !freed ? "exit 0" : "exit 1", (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    is_int(status, 0, "T76: a forked child frees its copy");
    is_int(members_stats(1).members, 1, "T76: the others know nothing of it");
    members_publish(0, "a", "1");
    members_publish(1, "b", "2");
    members_frames(&c[0], "TEXT 2", "T76: the parent's continues");
    members_frames(&c[1], "TEXT 1", "T76: in both directions");
    client_close(&c[0]);
    client_close(&c[1]);
    members_turns(3);
    members_stop("fork");
}

static void cases(void)
{
    CASE(test_knowledge());
    CASE(test_fork());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
