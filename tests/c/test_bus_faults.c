/* SPDX-License-Identifier: MIT */
/*
 * test_bus_faults.c: two members of a local bus, of which each system call fails once, from the
 * moment when one of them joins: at most messages are lost, nothing leaks, the bus continues.
 */
#include "faults.h"
#include "members.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    ROOM = 20000, /* bytes that an inbox takes */
    LONG = 300000 /* of a message that takes several datagrams, which wait */
};

static struct client c[2];
static char filler[LONG];

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void start(void)
{
    members_sockets(2);
    for (int i = 0; i < 2; i++)
        members_sockets_room(i, ROOM);
    members_join(0);
    members_prepare(1);
    members_create(1);
    for (int i = 0; i < 2; i++) {
        client_open(&c[i], &members[i].h);
        c[i].hasty = true;
    }
}

/* Returns false if the second member has not joined, not even when it tried again. */
static bool use_bus(void)
{
    int result = members_join_created(1);
    if (result == WS_ESYSTEM)
        result = members_join_created(1);
    if (result)
        return false;
    for (int i = 0; i < 2; i++) {
        if (conn_at(&members[i].h, 0))
            members_subscribe(i, "a");
        members_settle();
    }
    members_publish(0, "a", "1");
    members_publish(1, "a", "2");
    ws_server_publish(members[0].h.server, "a", 1, filler, LONG, WS_TEXT);
    members_settle();
    members_tell(0, 1, "3");
    members_tell(1, 0, filler);
    ws_server_end_topic(members[1].h.server, "a", 1, 4000, "over", 4);
    members_settle();
    return true;
}

/* A member to which nothing can be written is taken for one that has ended. */
static bool has_ended(void)
{
    return log_has(&members[0].h, "cannot write to member 1") ||
           log_has(&members[1].h, "cannot write to member 0");
}

/* Whether a new client of member `to` gets what the other member publishes. */
static bool reaches(int to)
{
    struct harness *h = &members[to].h;
    client_close(&c[to]);
    members_settle();
    client_open(&c[to], h);
    h->ids[0] = h->ids[h->opened - 1];
    members_subscribe(to, "b");
    members_settle();
    members_publish(!to, "b", "again");
    members_settle();
    return !strcmp(client_frames(&c[to]), "TEXT again");
}

/* Returns whether all was as it must be, if the call of this number fails; 0: none. */
static bool run_once(unsigned number, bool other)
{
    const int before = count_descriptors();
    bool joined, continues, clean = true;
    start();
    faults.calls = 0;
    faults.failed = NULL;
    faults.other = other;
    faults.fail_at = number;
    joined = use_bus();
    if (faults.failed)
        faults.fail_at = 0;
    continues = joined && (has_ended() || !faults.failed || (reaches(0) && reaches(1)));
    for (int i = 0; i < 2; i++)
        client_close(&c[i]);
    members_turns(3);
    for (int i = 0; i < 2; i++)
        clean = harness_free(&members[i].h) && clean;
    faults.fail_at = 0;
    members_forget();
    const int left = count_descriptors() - before;
    if (!joined || !continues || !clean || left)
        diag("call %u (%s): joined %d, continues %d, clean %d, %d descriptors left", number,
             faults.failed ? faults.failed : "-", joined, continues, clean, left);
    return joined && continues && clean && !left;
}

static void test_failing_calls(bool other)
{
    const unsigned step = getenv("UNDER_VALGRIND") ? 11 : 1;
    unsigned n = 1;
    bool right = true;
    memset(filler, 'x', LONG - 1);
    ok(run_once(0, other), "without a failure");
    for (faults.failed = ""; faults.failed; n += step)
        right = run_once(n, other) && right;
    diag("%u system calls", n - 1 - step);
    ok(n > 60, "there are many");
    ok(right, "B4: each system call fails with %s error: the bus continues",
       other ? "another" : "one");
}

static void cases(void)
{
    CASE(test_failing_calls(false));
    CASE(test_failing_calls(true));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
