/* SPDX-License-Identifier: MIT */
/*
 * test_bus_members.c: members of a local bus that come, go, are killed and replaced, that do not
 * read, or are not there yet; datagrams that are lost, stale or no datagrams; memory that runs out.
 */
#include "members.h"
#include "record.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct client c[MEMBERS];
static char large[24 << 20];

static void open_client(int i)
{
    client_open(&c[i], &members[i].h);
}

static void start(int count)
{
    members_start(count);
    for (int i = 0; i < count; i++)
        open_client(i);
}

static void stop(const char *name)
{
    for (int i = 0; i < member_count; i++)
        if (members[i].alive)
            client_close(&c[i]);
    members_turns(3);
    members_stop(name);
}

static void kill_member(int i)
{
    client_close(&c[i]);
    members_kill(i);
}

static void replace(int i)
{
    members_join(i);
    open_client(i);
}

/* ---- coming and going ---- */

static void test_late_comer(void)
{
    members_sockets(3);
    members_join(0);
    open_client(0);
    members_subscribe(0, "a");
    is_int(members_stats(0).members, 0, "no other member is there yet");
    is_int(members_publish(0, "b", "1"), 1, "what the others need is not known yet");
    replace(1);
    members_subscribe(1, "b");
    members_publish(0, "b", "2");
    members_publish(1, "a", "3");
    members_frames(&c[0], "TEXT 3", "B1: the topics of before are announced");
    members_frames(&c[1], "TEXT 2", "B1: and those of the new one");
    is_int(members_stats(0).members, 1, "one other");
    replace(2);
    members_settle();
    for (int i = 0; i < 3; i++)
        is_int(members_stats(i).members, 2, "all know each other");
    stop("late comer");
}

static void test_killed(void)
{
    start(3);
    for (int i = 0; i < 3; i++)
        members_subscribe(i, "a");
    members_settle();
    ws_server_publish(members[1].h.server, "a", 1, large, 100000, WS_BINARY);
    kill_member(1);
    members_publish(0, "a", "1");
    members_gone(1);
    members_settle();
    client_drain(&c[0]);
    client_drain(&c[2]);
    is_int((long long)c[2].in_length, 100010 + 3, "what it has sent arrives");
    c[0].in_length = c[2].in_length = 0;
    is_int(members_stats(0).members, 1, "the parent's report: one other is left");
    is_int(members_tell(0, WS_ALL_MEMBERS, "x"), 1, "nothing is sent to who is gone");
    uint64_t before = members_stats(0).sent;
    members_publish(0, "a", "2");
    is_int((long long)(members_stats(0).sent - before), 1, "nothing is sent to who is gone");
    replace(1);
    members_subscribe(1, "a");
    members_publish(0, "a", "3");
    members_settle();
    members_publish(1, "a", "4");
    members_frames(&c[0], "TEXT 2, TEXT 3, TEXT 4", "B4: the replacement publishes");
    members_frames(&c[1], "TEXT 3, TEXT 4", "B4: and gets what follows, not what was for another");
    members_frames(&c[2], "TEXT 2, TEXT 3, TEXT 4", "B4: the third is not affected");
    is_int((long long)(members_stats(0).lost + members_stats(2).lost), 0, "nothing is lost");
    stop("killed");
}

/* The report of the parent comes after the replacement has joined. */
static void test_late_report(void)
{
    start(2);
    kill_member(1);
    replace(1);
    members_subscribe(1, "a");
    members_settle();
    members[1].options.epoch--;
    members_gone(1);
    members[1].options.epoch++;
    members_settle();
    is_int(members_stats(0).members, 1, "the end of an older one");
    is_int(members_publish(0, "a", "1"), 1, "the newer one is there");
    members_frames(&c[1], "TEXT 1", "the newer one is there");
    is_int(ws_bus_announce_end(NULL, 2, 2, 1), WS_EINVAL, "no such member");
    is_int(ws_bus_announce_end(NULL, 2, 1, 0), WS_EINVAL, "no such epoch");
    stop("late report");
}

/* In any state of a message that is on its way, and of the announcements. */
static void test_killed_anywhere(void)
{
    bool right = true;
    for (int step = 0; step < 40 && right; step++) {
        start(2);
        members_subscribe(0, "a");
        members_subscribe(1, "a");
        for (int i = 0; i < step % 8; i++)
            turns(&members[i & 1].h, 1);
        ws_server_publish(members[1].h.server, "a", 1, large, 200000, WS_BINARY);
        ws_server_publish(members[0].h.server, "a", 1, large, 200000, WS_BINARY);
        for (int i = 0; i < step / 8; i++)
            turns(&members[i & 1].h, 1);
        kill_member(1);
        if (step & 1)
            members_gone(1);
        replace(1);
        members_subscribe(1, "a");
        client_drain(&c[0]);
        c[0].in_length = 0;
        members_publish(0, "a", "1");
        members_settle();
        members_publish(1, "a", "2");
        members_settle();
        client_drain(&c[0]);
        client_drain(&c[1]);
        static const char both[] = "\x81\x01" "1\x81\x01" "2";
        right = c[0].in_length >= 6 && !memcmp(c[0].in + c[0].in_length - 6, both, 6) &&
                c[1].in_length == 6 && !memcmp(c[1].in, both, 6);
        if (!right)
            diag("step %d: %zu and %zu bytes", step, c[0].in_length, c[1].in_length);
        c[0].in_length = c[1].in_length = 0;
        stop("killed anywhere");
    }
    ok(right, "B4: killed and replaced at any moment");
}

static void test_shutdown(void)
{
    start(3);
    for (int i = 0; i < 3; i++)
        members_subscribe(i, "a");
    members_settle();
    ws_server_shutdown(members[1].h.server, 1001, NULL, 0, 1000);
    members_publish(0, "a", "1");
    is_int(members_publish(1, "a", "2"), 1, "B4: who shuts down still publishes");
    members_frames(&c[0], "TEXT 1, TEXT 2", "B4: to the others");
    is_int(members_tell(0, WS_ALL_MEMBERS, "x"), 1, "and gets nothing more");
    advance(&members[1].h, 2000);
    client_close(&c[1]);
    members_subscribe(0, "b");
    ws_conn_unsubscribe(conn_at(&members[0].h, 0), "a", 1);
    harness_listen(&members[1].h);
    members[1].h.ids[0] = 0;
    client_open(&c[1], &members[1].h);
    members[1].h.ids[0] = members[1].h.ids[members[1].h.opened - 1];
    members_subscribe(1, "c");
    members_publish(0, "c", "3");
    members_publish(1, "b", "4");
    members_frames(&c[0], "TEXT 4", "B1: it starts again, and knows the topics of now");
    members_frames(&c[1], "TEXT 3", "B1: it starts again, and is known");
    is_int(members_publish(1, "nothing", "5"), 0, "B3: nothing is sent in vain");
    stop("shutdown");
}

/* ---- a member that does not read ---- */

static void test_stopped(void)
{
    enum { SIZE = 5000, COUNT = 4000 };
    start(3);
    members[1].alive = false; /* has no turns */
    kill_member(2);
    members_sockets_room(1, 100000);
    members_prepare(2);
    members[2].options.max_queue = 500000;
    is_int(members_try(2), WS_OK, "joins");
    open_client(2);
    members_subscribe(1, "a");
    members_settle();
    uint64_t before = members_stats(2).sent;
    size_t memory = stats_of(&members[2].h).memory;
    for (int i = 0; i < COUNT; i++)
        ws_server_publish(members[2].h.server, "a", 1, large, SIZE, WS_BINARY);
    ws_bus_stats s = members_stats(2);
    uint64_t sent = s.sent - before;
    is_int((long long)(sent + s.lost), COUNT, "B4: each is sent or counted as lost");
    ok(s.lost > COUNT / 2, "B4: most are lost");
    ok(s.queued >= 500000 && s.queued < 500000 + 2 * SIZE, "B4: max_queue holds: %zu", s.queued);
    ok(stats_of(&members[2].h).memory - memory < 900000, "B4: so does the memory");
    ok(log_has(&members[2].h, "member 1 does not keep up"), "B4: it is logged");
    ok(!strstr(strstr(members[2].h.log, "does not") + 1, "does not"), "B4: once");
    members_subscribe(2, "b");
    members[1].alive = true;
    uint64_t received = members_stats(1).received;
    members_settle();
    is_int((long long)(members_stats(1).received - received), (long long)sent,
           "B4: it continues: what was sent arrives");
    ok(log_has(&members[2].h, "keeps up again"), "B4: that is logged, too");
    is_int((long long)members_stats(2).queued, 0, "B4: nothing waits");
    is_int(members_publish(1, "b", "1"), 1, "B4: announcements are not lost");
    client_drain(&c[1]);
    c[1].in_length = 0;
    members_publish(2, "a", "2");
    members_frames(&c[1], "TEXT 2", "B4: and it gets what follows");
    members_frames(&c[2], "TEXT 1", "B4: and it gets what follows");
    stop("stopped");
}

/* max_queue is for what the socket does not take. */
static void publish_ten(void *argument)
{
    const struct member *m = argument;
    for (int i = 0; i < 10; i++)
        members_publish(m->number, "a", "more than a tenth of max_queue");
}

static void test_small_queue(void)
{
    members_sockets(2);
    members_prepare(0);
    members[0].options.max_queue = 100;
    members_try(0);
    open_client(0);
    replace(1);
    members_subscribe(1, "a");
    members_settle();
    uint64_t received = members_stats(1).received;
    ws_server_defer(members[0].h.server, publish_ten, &members[0]);
    members_settle();
    is_int((long long)(members_stats(1).received - received), 10,
           "B4: nothing is lost while the socket has room");
    client_drain(&c[1]);
    c[1].in_length = 0;
    stop("small queue");
}

/* Subscriptions that come and go while a member is stopped need no memory without end. */
static void test_churn(void)
{
    start(2);
    kill_member(0);
    members_sockets_room(1, 20000);
    members_prepare(0);
    members[0].options.max_queue = 20000;
    members_try(0);
    open_client(0);
    members_settle();
    members[1].alive = false;
    members[0].h.quiet = true;
    ws_conn *conn = conn_at(&members[0].h, 0);
    ws_conn_subscribe(conn, "kept", 4);
    for (int i = 0; i < 20000; i++) {
        ws_conn_subscribe(conn, "a", 1);
        ws_conn_unsubscribe(conn, "a", 1);
    }
    ok(members_stats(0).queued < 30000, "bounded: %zu", members_stats(0).queued);
    members[1].alive = true;
    members_settle();
    is_int(members_publish(1, "kept", "1"), 1, "B1: it knows what there is now");
    is_int(members_publish(1, "a", "1"), 0, "B3: and what there is not");
    members_frames(&c[0], "TEXT 1", "it arrives");
    members[0].h.quiet = false;
    stop("churn");
}

/* ---- large and many ---- */

static bool is_pattern(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != (char)(i * 7 + i / 251))
            return false;
    return true;
}

static void test_large(void)
{
    static const size_t sizes[] = {65000, 65488, 65500, 65512, 131000, 1 << 20, 20 << 20};
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 7 + i / 251);
    members_sockets(2);
    for (int i = 0; i < 2; i++) {
        members_prepare(i);
        members[i].h.behavior.max_backpressure = 0;
        members_try(i);
        open_client(i);
    }
    members_subscribe(1, "a");
    members_settle();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        members_publish(0, "a", "x");
        ws_server_publish(members[0].h.server, "a", 1, large, sizes[i], WS_BINARY);
        members_publish(0, "a", "y");
        for (int k = 0; k < 1000 && members_stats(1).received < 3 * (i + 1); k++)
            members_settle();
        client_drain(&c[1]);
        size_t head = sizes[i] < 65536 ? 4 : 10;
        is_int((long long)c[1].in_length, (long long)(6 + head + sizes[i]), "a message of %zu",
               sizes[i]);
        ok(c[1].in_length > head && is_pattern(c[1].in + 3 + head, sizes[i]), "B2: is whole");
        c[1].in_length = 0;
    }
    turns(&members[0].h, 2);
    ok(stats_of(&members[0].h).memory < 600000, "memory is back");
    ok(stats_of(&members[1].h).memory < 600000, "memory is back there, too");
    stop("large");
}

static void test_many_topics(void)
{
    enum { COUNT = 100000 };
    char name[32];
    members_sockets(3);
    for (int i = 0; i < 2; i++) {
        members_prepare(i);
        members[i].h.behavior.max_topics = COUNT;
        members_try(i);
        open_client(i);
        members[i].h.quiet = true;
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%d", i);
        members_subscribe(i & 1, name);
        if (i % 10000 == 0)
            members_settle();
    }
    replace(2);
    members_settle();
    bool right = true;
    for (int i = 0; i < COUNT; i += 997) {
        snprintf(name, sizeof name, "%d", i);
        right = right && members_publish(2, name, "x") == 1 && members_publish(!(i & 1), name, "x");
    }
    ok(right, "B3: %d topics are known everywhere", COUNT);
    is_int(members_publish(2, "100000", "x"), 0, "B3: and no other");
    uint64_t sent = members_stats(2).sent;
    is_int((long long)sent, (COUNT + 996) / 997, "B3: each goes to one member");
    members_settle();
    size_t held = stats_of(&members[2].h).memory;
    client_close(&c[0]);
    client_close(&c[1]);
    members_settle();
    is_int(members_publish(2, "1", "x") + members_publish(2, "2", "x"), 0, "B3: all are gone");
    ok(stats_of(&members[2].h).memory < held - 1000000, "B3: the memory is back");
    members[0].h.quiet = members[1].h.quiet = false;
    client_open(&c[0], &members[0].h);
    client_open(&c[1], &members[1].h);
    stop("many topics");
}

/* ---- datagrams that are lost, stale or malformed ---- */

/* One of the datagrams of a message is lost. */
static void test_gap(void)
{
    enum { DATAGRAMS = 4 };
    static char datagrams[DATAGRAMS][WS__DATAGRAM_MAX];
    for (int lost = 0; lost < DATAGRAMS; lost++) {
        ssize_t sizes[DATAGRAMS];
        start(2);
        members_subscribe(0, "a");
        members_subscribe(1, "a");
        members_settle();
        ws_server_publish(members[0].h.server, "a", 1, large, 200000, WS_BINARY);
        int n = 0;
        while (n < DATAGRAMS && (sizes[n] = recv(members_inbox(1, true), datagrams[n],
                                                 WS__DATAGRAM_MAX, 0)) > 0)
            n++;
        is_int(n, DATAGRAMS, "a message of some datagrams");
        for (int i = 0; i < n; i++)
            if (i != lost)
                send(members_inbox(1, false), datagrams[i], (size_t)sizes[i], 0);
        members_publish(0, "a", "1");
        members_settle();
        is_int((long long)members_stats(1).lost, 1, "B2: datagram %d is lost: counted", lost);
        ws_conn_unsubscribe(conn_at(&members[0].h, 0), "a", 1);
        members_settle();
        members_publish(0, "a", "2");
        members_frames(&c[1], "TEXT 1, TEXT 2", "B2: what follows arrives");
        is_int(members_publish(1, "a", "3"), 1, "here it has a subscriber");
        is_int(members_publish(1, "b", "3"), 0, "B3: what the other one needs is known again");
        client_drain(&c[0]);
        c[0].in_length = c[1].in_length = 0;
        stop("gap");
    }
}

static void test_stale(void)
{
    char bytes[200];
    struct ws__datagram head = {.sender = 0, .epoch = 1, .sequence = 1000};
    const struct ws__record record = {WS__RECORD_MESSAGE, 0, NULL, 0, "stale", 5};
    size_t n = WS__DATAGRAM_HEAD + ws__record_size(&record);
    start(2);
    kill_member(0);
    replace(0);
    members_settle();
    members_told(1);
    ws__record_write(bytes + WS__DATAGRAM_HEAD, &record);
    ws__record_write_head(bytes, &head);
    send(members_inbox(1, false), bytes, n, 0);
    members_settle();
    is_text(members_told(1), "", "B2: from a member that was replaced: ignored");
    head.epoch = 2;
    head.to_epoch = 7;
    ws__record_write_head(bytes, &head);
    send(members_inbox(1, false), bytes, n, 0);
    members_settle();
    is_text(members_told(1), "", "B2: for a member that was replaced: ignored");
    is_int((long long)members_stats(1).lost, 0, "not counted");
    members_tell(0, 1, "fresh");
    members_settle();
    is_text(members_told(1), "0: fresh", "the stream is not disturbed");
    stop("stale");
}

static void test_malformed(void)
{
    char bytes[200];
    uint32_t noise = 1;
    start(2);
    members_subscribe(1, "a");
    members_settle();
    members[1].h.quiet = true;
    for (int i = 0; i < 2000; i++) {
        uint32_t number = (uint32_t)i;
        struct ws__datagram head = {
            .sender = number % 3, .epoch = 1, .to_epoch = number & 1, .sequence = number};
        for (size_t k = 0; k < sizeof bytes; k++) {
            noise = noise * 1664525 + 1013904223;
            bytes[k] = (char)(noise >> (i % 5 ? 29 : 24));
        }
        if (i % 7)
            ws__record_write_head(bytes, &head);
        send(members_inbox(1, false), bytes, noise % sizeof bytes, 0);
        if (i % 50 == 0)
            members_settle();
    }
    members_settle();
    members_told(1);
    members[1].h.quiet = false;
    ok(log_has(&members[1].h, "malformed"), "malformed input is logged");
    ok(!strstr(strstr(members[1].h.log, "malformed") + 1, "malformed"), "once");
    client_drain(&c[1]);
    c[1].in_length = 0;
    members_publish(0, "a", "1");
    members_settle();
    members_publish(0, "a", "2");
    members_settle();
    client_drain(&c[1]);
    ok(c[1].in_length >= 3 && !memcmp(c[1].in + c[1].in_length - 3, "\x81\1" "2", 3),
       "what follows arrives");
    c[1].in_length = 0;
    stop("malformed");
}

/* ---- memory ---- */

/* Each allocation of a bus fails in turn: at most messages are lost. */
static void test_memory(void)
{
    bool right = true, reached = true;
    int n = 1;
    for (; reached && right && n < 400; n++) {
        members_sockets(2);
        members_join(0);
        open_client(0);
        members_prepare(1);
        members_create(1);
        members[1].h.memory.fail_at = members[1].h.memory.calls + (size_t)n;
        size_t first = members[1].h.memory.fail_at;
        int result = members_join_created(1);
        right = result == WS_OK || result == WS_ENOMEM;
        if (result == WS_OK) {
            client_open(&c[1], &members[1].h);
            bool opened = conn_at(&members[1].h, 0);
            if (opened) {
                members_subscribe(1, "a");
                members_publish(0, "a", "1");
                members_publish(1, "b", "2");
                members_tell(0, 1, "3");
                members_settle();
            }
            reached = members[1].h.memory.calls >= first;
            members[1].h.memory.fail_at = 0;
            client_close(&c[1]);
            members_settle();
            client_open(&c[1], &members[1].h);
            members[1].h.ids[0] = members[1].h.ids[members[1].h.opened - 1];
            client_drain(&c[1]);
            c[1].in_length = 0;
            members_subscribe(1, "c");
            members_settle();
            members_publish(0, "c", "4");
            members_settle();
            client_drain(&c[1]);
            right = right && c[1].in_length == 3;
            c[1].in_length = 0;
        } else {
            members[1].h.memory.fail_at = 0;
            client_open(&c[1], &members[1].h);
        }
        if (!right)
            diag("allocation %d", n);
        stop("memory");
    }
    ok(right && n > 10, "T84: allocation 1 to %d fails: the bus continues", n);
}

static void *(*plain_resize)(void *context, void *ptr, size_t old_size, size_t size);
static size_t largest_block; /* 0: no limit */

static void *resize_small(void *context, void *ptr, size_t old_size, size_t size)
{
    if (largest_block && size > old_size && size > largest_block)
        return NULL;
    return plain_resize(context, ptr, old_size, size);
}

/* The topics do not fit into memory when another process must be told. */
static void test_sync_without_memory(void)
{
    char name[32];
    members_sockets(2);
    members_prepare(0);
    plain_resize = members[0].h.config.allocator.resize;
    members[0].h.config.allocator.resize = resize_small;
    members[0].h.behavior.max_topics = 1000;
    members_try(0);
    open_client(0);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%d", i);
        members_subscribe(0, name);
    }
    harness_events(&members[0].h);
    members_settle();
    replace(1);
    uint64_t before = members_stats(0).bytes_out;
    largest_block = 2000;
    turns(&members[0].h, 5);
    ok(members_stats(0).bytes_out - before < 1000, "T84: no memory: tried once in a turn: %d bytes",
       (int)(members_stats(0).bytes_out - before));
    is_int(members_publish(1, "x", "1"), 1, "T84: not known yet");
    largest_block = 0;
    members_settle();
    is_int(members_publish(1, "999", "2"), 1, "T84: all are announced once there is memory");
    is_int(members_publish(1, "1000", "3"), 0, "T84: and no other");
    members_frames(&c[0], "TEXT 2", "T84: it arrives");
    stop("sync without memory");
}

/* A message that does not fit into max_memory is lost, and nothing else. */
static void test_max_memory(void)
{
    members_sockets(2);
    members_join(0);
    members_prepare(1);
    members[1].h.config.max_memory = 4 << 20;
    members[1].h.behavior.max_backpressure = 0;
    members_try(1);
    open_client(0);
    open_client(1);
    members_subscribe(1, "a");
    members_settle();
    members_publish(0, "a", "1");
    ws_server_publish(members[0].h.server, "a", 1, large, 10 << 20, WS_BINARY);
    members_publish(0, "a", "2");
    members_frames(&c[1], "TEXT 1, TEXT 2", "T84: a message above max_memory is lost");
    ok(members_stats(1).lost >= 1, "T84: and counted");
    members_subscribe(0, "b");
    members_settle();
    is_int(members_publish(1, "b", "3"), 1, "T84: what the other one needs is known");
    is_int(members_publish(1, "c", "3"), 0, "T84: exactly");
    members_frames(&c[0], "TEXT 3", "T84: it arrives");
    stop("max_memory");
}

/* ---- joining ---- */

static int join_with(ws_bus_options *o, int self, int count, uint32_t epoch, int inbox, int other)
{
    int inboxes[2] = {-1, other};
    ws_bus_options_init(o, sizeof *o);
    o->self = (uint32_t)self;
    o->count = (uint32_t)count;
    o->epoch = epoch;
    o->inbox = inbox;
    o->inboxes = inboxes;
    return ws_server_join(members[0].h.server, o);
}

static void test_join(void)
{
    ws_bus_options o;
    ws_bus_stats stats;
    members_sockets(2);
    members_prepare(0);
    members_create(0);
    open_client(0);
    int inbox = dup(members_inbox(0, true)), other = dup(members_inbox(1, false));
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    is_int(ws_bus_options_init(&o, 1), WS_EABI, "T77: another size");
    is_int(ws_server_bus_stats(members[0].h.server, &stats, 1), WS_EABI, "T77: another size");
    is_int(ws_server_bus_stats(members[0].h.server, &stats, sizeof stats), WS_OK, "not on a bus");
    is_int((long long)(stats.sent + stats.members), 0, "zeros");
    is_int(members_tell(0, WS_ALL_MEMBERS, "x"), WS_EINVAL, "not on a bus");
    is_int(join_with(&o, 2, 2, 1, inbox, other), WS_EINVAL, "self is not below count");
    is_int(join_with(&o, 0, 0, 1, inbox, other), WS_EINVAL, "count 0");
    is_int(join_with(&o, 0, 2, 0, inbox, other), WS_EINVAL, "epoch 0");
    is_int(join_with(&o, 0, 2, 1, -1, other), WS_ESYSTEM, "no inbox");
    is_int(join_with(&o, 0, 2, 1, inbox, file), WS_ESYSTEM, "not a socket");
    members_subscribe(0, "a");
    is_int(join_with(&o, 0, 2, 1, inbox, other), WS_EBUSY, "there are subscriptions");
    ws_conn_unsubscribe(conn_at(&members[0].h, 0), "a", 1);
    is_int(join_with(&o, 0, 2, 1, inbox, other), WS_OK, "joined");
    is_int(join_with(&o, 0, 2, 1, inbox, other), WS_EBUSY, "only once");
    close(file);
    members[0].inboxes[1] = other;
    stop("join");
    ok(fcntl(inbox, F_GETFD) < 0 && fcntl(other, F_GETFD) < 0, "ws_server_free closes them");

    members_sockets(1);
    members_join(0);
    open_client(0);
    members_subscribe(0, "a");
    is_int(members_publish(0, "a", "1"), 1, "a bus of one");
    is_int(members_tell(0, WS_ALL_MEMBERS, "x"), 0, "no other");
    members_frames(&c[0], "TEXT 1", "a bus of one");
    stop("alone");
}

static void cases(void)
{
    CASE(test_late_comer());
    CASE(test_killed());
    CASE(test_late_report());
    CASE(test_killed_anywhere());
    CASE(test_shutdown());
    CASE(test_stopped());
    CASE(test_small_queue());
    CASE(test_churn());
    CASE(test_large());
    CASE(test_many_topics());
    CASE(test_gap());
    CASE(test_stale());
    CASE(test_malformed());
    CASE(test_memory());
    CASE(test_sync_without_memory());
    CASE(test_max_memory());
    CASE(test_join());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
