/* SPDX-License-Identifier: MIT */
/*
 * members.c: servers on a local bus, see members.h.
 */
#include "members.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct member members[MEMBERS];
int member_count;
static int reading[MEMBERS], writing[MEMBERS], rooms[MEMBERS];

void members_sockets(int count)
{
    member_count = count;
    memset(members, 0, sizeof members);
    memset(rooms, 0, sizeof rooms);
    for (int i = 0; i < count; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
            abort();
        reading[i] = pair[0];
        writing[i] = pair[1];
        members[i].number = i;
        members[i].epoch = 1;
    }
}

void members_sockets_room(int i, int bytes)
{
    rooms[i] = bytes;
}

static void take_message(uint32_t from, const char *data, size_t length, void *user)
{
    struct member *m = user;
    size_t at = strlen(m->told);
    const char *separator = at ? "; " : "";
    if (length > 60)
        snprintf(m->told + at, sizeof m->told - at, "%s%u: [%zu]", separator, (unsigned)from,
                 length);
    else
        snprintf(m->told + at, sizeof m->told - at, "%s%u: %.*s", separator, (unsigned)from,
                 (int)length, data);
    if (m->on_message)
        m->on_message(m, from, data, length);
}

void members_prepare(int i)
{
    struct member *m = &members[i];
    harness_init(&m->h);
    ws_bus_options_init(&m->options, sizeof m->options);
    m->options.self = (uint32_t)i;
    m->options.count = (uint32_t)member_count;
    m->options.epoch = m->epoch++;
    m->options.key[0] = 1;
    m->options.key[1] = 2;
    m->options.on_message = take_message;
    m->options.user = m;
    m->told[0] = '\0';
}

void members_create(int i)
{
    harness_start(&members[i].h);
    members[i].alive = true;
}

int members_try(int i)
{
    members_create(i);
    return members_join_created(i);
}

int members_join_created(int i)
{
    struct member *m = &members[i];
    int *inboxes = m->inboxes, result;
    m->options.inbox = dup(reading[i]);
    for (int k = 0; k < member_count; k++)
        inboxes[k] = k == i ? -1 : dup(writing[k]);
    m->options.inboxes = inboxes;
    result = ws_server_join(m->h.server, &m->options);
    for (int k = 0; k < member_count; k++)
        if (rooms[k]) /* the server has asked for as much as it can get */
            setsockopt(writing[k], SOL_SOCKET, SO_SNDBUF, &rooms[k], sizeof rooms[k]);
    m->options.inboxes = NULL;
    if (!result)
        return result;
    close(m->options.inbox);
    for (int k = 0; k < member_count; k++)
        if (k != i)
            close(inboxes[k]);
    return result;
}

void members_join(int i)
{
    members_prepare(i);
    if (members_try(i))
        ok(false, "member %d joins", i);
}

void members_start(int count)
{
    members_sockets(count);
    for (int i = 0; i < count; i++)
        members_join(i);
    members_settle();
}

/* A process that is killed says no BYE: its descriptors that write are replaced before the server
 * is freed. */
void members_kill(int i)
{
    struct member *m = &members[i];
    int nowhere[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, nowhere))
        abort();
    for (int k = 0; k < member_count; k++)
        if (k != i)
            dup2(nowhere[0], m->inboxes[k]);
    m->alive = false;
    m->h.hook = NULL;
    harness_free(&m->h);
    close(nowhere[0]);
    close(nowhere[1]);
}

void members_gone(int i)
{
    is_int(ws_bus_announce_end(writing, (uint32_t)member_count, (uint32_t)i,
                               members[i].options.epoch),
           WS_OK, "the parent reports the end of %d", i);
}

void members_stop(const char *name)
{
    for (int i = 0; i < member_count; i++) {
        members[i].h.hook = NULL;
        members[i].on_message = NULL;
        if (members[i].alive)
            harness_stop(&members[i].h, name);
    }
    members_forget();
}

void members_forget(void)
{
    for (int i = 0; i < member_count; i++) {
        close(reading[i]);
        close(writing[i]);
    }
    member_count = 0;
}

void members_turns(int count)
{
    while (count-- > 0)
        for (int i = 0; i < member_count; i++)
            if (members[i].alive)
                turns(&members[i].h, 1);
}

static uint64_t traffic(void)
{
    uint64_t bytes = 0;
    for (int i = 0; i < member_count; i++)
        if (members[i].alive) {
            ws_bus_stats s = members_stats(i);
            bytes += s.bytes_in + s.bytes_out + s.received;
        }
    return bytes;
}

void members_settle(void)
{
    uint64_t before;
    int quiet = 0;
    for (int i = 0; i < 100000 && quiet < 3; i++) {
        before = traffic();
        members_turns(1);
        quiet = traffic() == before ? quiet + 1 : 0;
    }
}

int members_inbox(int i, bool for_reading)
{
    return for_reading ? reading[i] : writing[i];
}

int members_subscribe(int i, const char *topic)
{
    return ws_conn_subscribe(conn_at(&members[i].h, 0), topic, strlen(topic));
}

int members_publish(int i, const char *topic, const char *text)
{
    return ws_server_publish(members[i].h.server, topic, strlen(topic), text, strlen(text),
                             WS_TEXT);
}

int members_tell(int i, uint32_t to, const char *text)
{
    return ws_server_tell(members[i].h.server, to, text, strlen(text));
}

ws_bus_stats members_stats(int i)
{
    ws_bus_stats stats;
    ws_server_bus_stats(members[i].h.server, &stats, sizeof stats);
    return stats;
}

const char *members_told(int i)
{
    static char text[TOLD_SIZE];
    memcpy(text, members[i].told, sizeof text);
    members[i].told[0] = '\0';
    return text;
}

bool members_frames(struct client *c, const char *want, const char *name)
{
    members_settle();
    return is_frames(c, want, name);
}
