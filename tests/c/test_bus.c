/*
 * test_bus.c: several servers in one thread on a local bus: who gets what, in which order, and what
 * happens when members come and go.
 */
#include "members.h"

#include <stdlib.h>

static struct client c[MEMBERS];

/* A client for each member, which is its connection 0. */
static void open_clients(void)
{
    for (int i = 0; i < member_count; i++)
        client_open(&c[i], &members[i].h);
}

static void close_clients(void)
{
    for (int i = 0; i < member_count; i++)
        client_close(&c[i]);
}

static void stop(const char *name)
{
    close_clients();
    members_turns(3);
    members_stop(name);
}

static void start(int count)
{
    members_start(count);
    open_clients();
}

static void test_publish(void)
{
    start(3);
    for (int i = 0; i < 3; i++)
        is_int(members_stats(i).members, 2, "member %d knows the others", i);
    is_int(members_publish(0, "a", "0"), 0, "no subscriber anywhere");
    members_join_topic(1, 0, "a");
    members_settle();
    is_int(members_publish(0, "a", "1"), 1, "B1: a subscriber elsewhere");
    is_int(members_publish(0, "b", "2"), 0, "B3: but not of this topic");
    members_join_topic(0, 0, "a");
    is_int(members_publish(2, "a", "3"), 1, "B1: at once: the announcement is read first");
    members_frames(&c[0], "TEXT 3", "B1: each gets what was published after it subscribed");
    members_frames(&c[1], "TEXT 1, TEXT 3", "B1: each gets what was published after it subscribed");
    members_frames(&c[2], "", "nothing for who did not subscribe");
    is_int((long long)members_stats(0).sent, 1, "B3: sent to the member that has a subscriber");
    is_int((long long)members_stats(2).received, 0, "B3: and to no other");
    ws_conn_unsubscribe(conn_at(&members[1].h, 0), "a", 1);
    members_settle();
    is_int(members_publish(2, "a", "4"), 1, "one is left");
    members_settle();
    is_int((long long)members_stats(1).received, 2, "B3: nothing after the last one has left");
    members_frames(&c[0], "TEXT 4", "the other one");
    stop("publish");
}

static void cases(void)
{
    CASE(test_publish());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
