/* SPDX-License-Identifier: MIT */
/*
 * test_bus.c: several servers in one thread on a local bus: who gets what, and in which order.
 */
#include "members.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct client c[MEMBERS];

/* Each member has one client, its connection 0. */
static void start(int count)
{
    members_start(count);
    for (int i = 0; i < count; i++)
        client_open(&c[i], &members[i].h);
}

static void stop(const char *name)
{
    for (int i = 0; i < member_count; i++)
        client_close(&c[i]);
    members_turns(3);
    members_stop(name);
}

static void test_publish(void)
{
    start(3);
    for (int i = 0; i < 3; i++)
        is_int(members_stats(i).members, 2, "member %d knows the others", i);
    is_int(members_publish(0, "a", "0"), 0, "no subscriber anywhere");
    members_subscribe(1, "a");
    members_settle();
    is_int(members_publish(0, "a", "1"), 1, "B1: a subscriber elsewhere");
    is_int(members_publish(0, "b", "2"), 0, "B3: but not of this topic");
    members_subscribe(0, "a");
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

/* Every kind of message, and what is not text. */
static void test_kinds(void)
{
    static const char topic[] = "nul\0\xff";
    start(2);
    ws_conn *conn = conn_at(&members[1].h, 0);
    ws_server *server = members[0].h.server;
    ws_conn_subscribe(conn, topic, sizeof topic);
    ws_conn_subscribe(conn, "", 0);
    is_int(ws_server_publish(server, topic, sizeof topic, "\0x", 2, WS_BINARY), 1, "bytes");
    is_int(ws_server_publish(server, NULL, 0, NULL, 0, WS_TEXT), 1, "nothing, to the empty topic");
    is_int(ws_server_publish(server, "", 0, "zz", 2, WS_TEXT | WS_COMPRESS), 1, "compressed");
    is_int(ws_server_publish(server, "", 0, "x", 1, WS_PING), WS_EINVAL, "no Ping");
    members_settle();
    client_read(&c[1]);
    is_mem(c[1].in, c[1].in_length, "\x82\x02\0x\x81\0\x81\x02zz", 10, "B2: as they were sent");
    c[1].in_length = 0;
    stop("kinds");
}

static void publish_numbers(int from, int count, const char *topic)
{
    char text[32];
    for (int i = 0; i < count; i++) {
        snprintf(text, sizeof text, "%d.%d", from, i);
        members_publish(from, topic, text);
    }
}

/* Returns how many messages a client has of each member; negative if they are out of order. */
static int numbers_received(struct client *client, int counts[MEMBERS])
{
    int total = 0;
    memset(counts, 0, MEMBERS * sizeof *counts);
    client_read(client);
    for (size_t at = 0; at < client->in_length;) {
        int from = -1, number = -1;
        size_t n = (unsigned char)client->in[at + 1];
        char text[128];
        memcpy(text, client->in + at + 2, n);
        text[n] = '\0';
        if (sscanf(text, "%d.%d", &from, &number) != 2 || counts[from]++ != number)
            return -1;
        at += n + 2;
        total++;
    }
    client->in_length = 0;
    return total;
}

static void publish_here(void *argument)
{
    struct member *m = argument;
    publish_numbers(m->number, 200, "a");
}

static void test_order(void)
{
    int counts[MEMBERS];
    start(4);
    for (int i = 0; i < 4; i++)
        members_subscribe(i, "a");
    members_settle();
    for (int i = 0; i < 4; i++)
        ws_server_defer(members[i].h.server, publish_here, &members[i]);
    members_settle();
    for (int i = 0; i < 4; i++)
        is_int(numbers_received(&c[i], counts), 800, "B2: client %d: each once, in order", i);
    for (int i = 0; i < 4; i++)
        publish_numbers(i, 50, "a");
    members_settle();
    for (int i = 0; i < 4; i++)
        is_int(numbers_received(&c[i], counts), 200, "B2: client %d: also between turns", i);
    stop("order");
}

/* ---- a client that knows of its subscription ---- */

static void subscribe_and_answer(struct harness *harness, enum event event, ws_conn *conn,
                                 ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_MESSAGE)
        return;
    ws_conn_subscribe(conn, data, length);
    ws_conn_send(conn, "done", 4, WS_TEXT);
}

static void publish_to(struct harness *harness, enum event event, ws_conn *conn,
                       ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_MESSAGE)
        ws_conn_publish(conn, data, length, data, length, WS_TEXT, false);
}

/* Only member 0 has a turn until its client has the answer. */
static void answer(const char *topic)
{
    client_text(&c[0], topic);
    for (int i = 0; i < 100 && !c[0].in_length; i++) {
        turns(&members[0].h, 1);
        client_read(&c[0]);
    }
    is_frames(&c[0], "TEXT done", "the client knows of its subscription");
}

static void test_causality(void)
{
    start(2);
    members[0].h.hook = subscribe_and_answer;
    members[1].h.hook = publish_to;
    answer("a");
    client_text(&c[1], "a");
    turns(&members[1].h, 1);
    members_frames(&c[0], "TEXT a", "B1: published in a turn of another member: it arrives");
    answer("b");
    members_publish(1, "b", "1");
    members_frames(&c[0], "TEXT 1", "B1: published between turns: it arrives");
    stop("causality");
}

/* The inbox has more than a turn reads: then it is not known who has subscribed. */
static void test_causality_behind(void)
{
    enum { SIZE = 30000, COUNT = 60 };
    static char bytes[SIZE];
    start(3);
    members[0].h.hook = subscribe_and_answer;
    members_subscribe(1, "noise");
    members_settle();
    for (int i = 0; i < COUNT; i++)
        ws_server_publish(members[2].h.server, "noise", 5, bytes, SIZE, WS_BINARY);
    answer("a");
    is_int(members_publish(1, "a", "1"), 0, "the inbox has more: not known");
    members_frames(&c[0], "TEXT 1", "B1: it arrives, as all members get it");
    client_drain(&c[1]);
    is_int((long long)c[1].in_length, COUNT * (SIZE + 4), "B2: all of the noise arrives");
    c[1].in_length = 0;
    stop("causality with a full inbox");
}

/* ---- ends and other messages ---- */

static void test_end(void)
{
    start(3);
    for (int i = 0; i < 3; i++)
        members_subscribe(i, "user");
    members_settle();
    is_int(ws_server_end_topic(members[0].h.server, "user", 4, 4001, "out", 3), 1,
           "B6: the number of those here");
    for (int i = 0; i < 3; i++)
        members_frames(&c[i], "CLOSE 4001 out", "B6: ended on every member");
    is_int(ws_server_end_topic(members[0].h.server, "user", 4, 4001, "out", 3), 0, "B6: no more");
    stop("end");
}

static void fail_memory(int i, bool fails)
{
    members[i].h.memory.fail_at = fails ? members[i].h.memory.calls + 1 : 0;
    members[i].h.memory.fail_after = fails;
}

/* How many messages until a member that was sent everything gets only what it needs again. */
static int needless(int most)
{
    int count = 0;
    while (count < most && members_publish(0, "no one", "x"))
        if (++count % 10 == 0)
            members_settle();
    return count;
}

/* The topics of a member do not fit into the memory of another one, which sends it everything until
 * they do. */
static void test_interest_without_memory(void)
{
    start(2);
    for (int i = 0; i < 4; i++)
        members_subscribe(1, (const char *[]){"a", "b", "c", "d"}[i]);
    members_settle();
    is_int(needless(1), 0, "B3: what it needs is known");
    fail_memory(0, true);
    members_subscribe(1, "e");
    turns(&members[1].h, 1);
    turns(&members[0].h, 1);
    fail_memory(0, false);
    is_int(members_publish(0, "e", "1"), 1, "T84: no memory for the fifth");
    int count = needless(5000);
    ok(count > 100 && count < 5000, "B3: known again after %d messages", count);
    is_int(members_publish(0, "e", "2"), 1, "B3: the fifth is known");
    members_frames(&c[1], "TEXT 1, TEXT 2", "B1: what it needs arrives");
    for (int i = 0; i < 3; i++)
        members_subscribe(1, (const char *[]){"f", "g", "h"}[i]);
    members_settle();
    fail_memory(0, true);
    members_subscribe(1, "i");
    turns(&members[1].h, 1);
    turns(&members[0].h, 1);
    uint64_t before = members_stats(1).bytes_out;
    for (int i = 0; i < 5000; i++) {
        fail_memory(0, false);
        members_publish(0, "no one", "x");
        turns(&members[1].h, 1);
        fail_memory(0, true);
        turns(&members[0].h, 1);
    }
    fail_memory(0, false);
    int asked = (int)(members_stats(1).bytes_out - before);
    ok(asked > 200 && asked < 1500, "T84: without memory it is seldom asked: %d bytes", asked);
    count = needless(5000);
    ok(count < 5000, "B3: known again after %d messages more", count);
    is_int(members_publish(0, "i", "3"), 1, "B3: the ninth is known");
    stop("interest without memory");
}

/* The list of the connections that are to be ended does not fit into memory. */
static void test_end_without_memory(void)
{
    start(2);
    members_subscribe(1, "a");
    members_settle();
    for (int i = 0; i < 2; i++) { /* so that the bus needs no new buffer */
        members_publish(0, "a", "x");
        members_settle();
    }
    members[1].h.memory.fail_at = members[1].h.memory.calls + 1;
    ws_server_end_topic(members[0].h.server, "a", 1, 1000, NULL, 0);
    members_turns(2);
    is_int((long long)members_stats(1).lost, 1, "T84: an end that is lost is counted");
    members[1].h.memory.fail_at = 0;
    members_frames(&c[1], "TEXT x, TEXT x", "T84: nothing was done");
    stop("end without memory");
}

static void answer_message(struct member *m, uint32_t from, const char *data, size_t length)
{
    if (length == 1 && data[0] == '?')
        members_tell(m->number, from, "!");
}

static void test_tell(void)
{
    start(3);
    is_int(members_tell(0, 1, "hello"), 1, "to one");
    is_int(members_tell(0, WS_ALL_MEMBERS, "all"), 2, "to all others");
    is_int(members_tell(0, 0, "x"), WS_EINVAL, "not to itself");
    is_int(members_tell(0, 3, "x"), WS_EINVAL, "not to a member that does not exist");
    members_settle();
    is_text(members_told(1), "0: hello; 0: all", "B2: in order");
    is_text(members_told(2), "0: all", "only what is for it");
    is_text(members_told(0), "", "nothing for itself");
    members[1].on_message = members[2].on_message = answer_message;
    members_tell(0, WS_ALL_MEMBERS, "?");
    members_settle();
    ok(!strcmp(members[0].told, "1: !; 2: !") || !strcmp(members[0].told, "2: !; 1: !"),
       "on_message may answer: %s", members[0].told);
    members_told(1);
    members_subscribe(1, "a");
    members_settle();
    members_publish(0, "a", "1");
    members_tell(0, 1, "2");
    members_publish(0, "a", "3");
    members_settle();
    is_text(members_told(1), "0: 2", "among messages");
    is_frames(&c[1], "TEXT 1, TEXT 3", "which arrive, too");
    stop("tell");
}

/* ---- handlers that do anything ---- */

static void act_on_message(struct member *m, uint32_t from, const char *data, size_t length)
{
    (void)from;
    if (length == 1 && data[0] == 'p') {
        members_publish(m->number, "a", "published");
    } else if (length == 1 && data[0] == 'e') {
        ws_server_end_topic(m->h.server, "a", 1, 1000, NULL, 0);
    } else if (length == 1 && data[0] == 's') {
        is_int(ws_server_free(m->h.server), WS_EBUSY, "not freed in on_message");
        is_int(ws_server_step(m->h.server, 0), WS_EBUSY, "no turn in on_message");
        ws_server_shutdown(m->h.server, 1001, NULL, 0, 1000);
    }
}

static void test_handlers(void)
{
    start(3);
    for (int i = 0; i < 3; i++) {
        members[i].on_message = act_on_message;
        members_subscribe(i, "a");
    }
    members_settle();
    members_tell(0, 1, "p");
    members_tell(0, 1, "p");
    for (int i = 0; i < 3; i++)
        members_frames(&c[i], "TEXT published, TEXT published", "on_message publishes");
    members_tell(0, 1, "e");
    for (int i = 0; i < 3; i++)
        members_frames(&c[i], "CLOSE 1000", "B6: on_message ends a topic");
    members_tell(0, 1, "s");
    members_tell(0, 1, "p");
    members_settle();
    advance(&members[1].h, 2000);
    ok(!ws_server_step(members[1].h.server, 0), "on_message shuts down");
    is_int(members_tell(0, WS_ALL_MEMBERS, "x"), 1, "the others know that it has left");
    stop("handlers");
}

/* ---- members that shut down ---- */

/* What is subscribed after its BYE is not announced to it. */
static void test_subscribed_during_shutdown(void)
{
    start(3);
    client_close(&c[2]);
    members_kill(2);
    ws_server_shutdown(members[1].h.server, 1001, NULL, 0, 1000);
    members_settle();
    members_subscribe(0, "new");
    members_settle();
    is_int(members_publish(1, "new", "1"), 1, "B1: who shuts down does not know who subscribes");
    members_frames(&c[0], "TEXT 1", "B1: so all get what it publishes");
    members_join(2);
    client_open(&c[2], &members[2].h);
    members_settle();
    members_subscribe(2, "newer");
    members_settle();
    members_publish(1, "newer", "2");
    members_frames(&c[2], "TEXT 2", "B1: also who joins meanwhile");
    stop("subscribed during a shutdown");
}

static void restart(int i)
{
    client_close(&c[i]);
    members_turns(2);
    harness_listen(&members[i].h);
    members[i].h.ids[0] = 0;
    client_open(&c[i], &members[i].h);
    members[i].h.ids[0] = members[i].h.ids[members[i].h.opened - 1];
}

static void test_shutdown_of_both(void)
{
    start(2);
    for (int i = 0; i < 2; i++)
        ws_server_shutdown(members[i].h.server, 1001, NULL, 0, 1000);
    members_settle();
    for (int i = 0; i < 2; i++)
        advance(&members[i].h, 2000);
    client_drain(&c[0]);
    client_drain(&c[1]);
    c[0].in_length = c[1].in_length = 0;
    restart(0);
    restart(1);
    members_subscribe(0, "a");
    members_settle();
    is_int(members_publish(1, "a", "1"), 1, "B1: both shut down at one time and start again");
    members_frames(&c[0], "TEXT 1", "B1: and know each other");
    is_int(members_stats(0).members + members_stats(1).members, 2, "completely");
    stop("shutdown of both");
}

/* ---- a log function that does anything ---- */

static int logs;

/* The server's log function gets the harness, with which a member begins. */
static void publish_in_log(void *user, int level, const char *line, size_t length)
{
    const struct member *m = user;
    (void)level, (void)line, (void)length;
    if (++logs < 100)
        members_publish(m->number, "log", "x");
}

static void send_in_log(void *user, int level, const char *line, size_t length)
{
    struct member *m = user;
    (void)level, (void)line, (void)length;
    logs++;
    ws_conn_send(conn_at(&m->h, 0), "logged", 6, WS_TEXT);
}

static void close_in_log(void *user, int level, const char *line, size_t length)
{
    struct member *m = user;
    (void)level, (void)line, (void)length;
    logs++;
    for (int i = 1; i >= 0; i--)
        if (conn_at(&m->h, i))
            ws_conn_close(conn_at(&m->h, i));
}

/* Two members, of which number 1 does not exist any more, nor does its inbox. */
static void start_with_log(void (*log)(void *user, int level, const char *line, size_t length))
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    members_sockets(2);
    members_prepare(0);
    members[0].h.config.log = log;
    members_try(0);
    for (int i = 0; i < 3; i += 2) {
        client_open(&c[i], &members[0].h);
        ws_conn_subscribe(conn_at(&members[0].h, i / 2), "t", 1);
    }
    members_join(1);
    client_open(&c[1], &members[1].h);
    members_subscribe(1, "a");
    members_subscribe(1, "log");
    members_settle();
    client_close(&c[1]);
    members_kill(1);
    dup2(nowhere, members_inbox(1, true));
    close(nowhere);
    logs = 0;
}

static void stop_with_log(const char *name)
{
    client_close(&c[0]);
    client_close(&c[2]);
    members_turns(3);
    members_stop(name);
}

static void test_log_publishes(void)
{
    start_with_log(publish_in_log);
    members_publish(0, "a", "1");
    members_turns(2);
    is_int(logs, 1, "B4: a broken socket is logged once, although the log is published");
    stop_with_log("the log is published");
}

/* An announcement leaves before the answer to the client does, which must not be in use then. */
static void test_log_sends(void)
{
    start_with_log(send_in_log);
    members[0].h.hook = subscribe_and_answer;
    client_text(&c[0], "b");
    members_turns(3);
    client_read(&c[0]);
    is_frames(&c[0], "TEXT done, TEXT logged", "each once, although the log is sent");
    is_int(logs, 1, "logged once");
    stop_with_log("the log is sent");
}

static char long_text[100000];

static void subscribe_and_publish(struct harness *harness, enum event event, ws_conn *conn,
                                  ws_request *request, const char *data, size_t length)
{
    (void)request, (void)data, (void)length;
    if (event != ON_MESSAGE)
        return;
    ws_conn_subscribe(conn, "new", 3);
    ws_server_publish(harness->server, "t", 1, long_text, sizeof long_text, WS_BINARY);
}

/* Long messages are written while the subscribers are walked over. */
static void test_log_closes(void)
{
    start_with_log(close_in_log);
    members[0].h.hook = subscribe_and_publish;
    client_text(&c[0], "go");
    members_turns(3);
    is_int(logs, 1, "the log function closes the subscribers of a message on its way");
    stop_with_log("the log function closes");
}

/* What arrives in a turn is handed out at most until the turn is late, then sockets are served. */
static void test_late(void)
{
    start(2);
    members[1].h.echo = true;
    members_subscribe(1, "a");
    members_settle();
    publish_numbers(0, 100, "a");
    client_text(&c[1], "x");
    members[1].h.tick = 5000000;
    turns(&members[1].h, 1);
    client_read(&c[1]);
    ok(members_stats(1).received < 100, "late: %d messages in this turn",
       (int)members_stats(1).received);
    ok(c[1].in_length && !memcmp(c[1].in + c[1].in_length - 3, "\x81\x01x", 3),
       "late: sockets are served");
    c[1].in_length = 0;
    struct ws_stats before = stats_of(&members[1].h);
    ws_server_step(members[1].h.server, -1);
    is_int((long long)(stats_of(&members[1].h).turns - before.turns), 1,
           "late: the next turn does not wait for an event");
    members[1].h.tick = 0;
    members_settle();
    is_int((long long)members_stats(1).received, 100, "late: the rest follows");
    client_read(&c[1]);
    c[1].in_length = 0;
    stop("late");
}

static void test_relay_and_bus(void)
{
    ws_relay relay;
    start(2);
    ws_relay_init(&relay, sizeof relay);
    members_subscribe(1, "a");
    members_settle();
    ws_server_set_relay(members[0].h.server, &relay);
    members_publish(0, "a", "1");
    ws_server_set_relay(members[0].h.server, NULL);
    members_publish(0, "a", "2");
    is_int(ws_server_deliver(members[0].h.server, "a", 1, "3", 1, WS_TEXT), 0, "here alone");
    members_frames(&c[1], "TEXT 1, TEXT 2", "B1: a relay that comes and goes changes nothing");
    stop("relay and bus");
}

static void cases(void)
{
    CASE(test_publish());
    CASE(test_kinds());
    CASE(test_order());
    CASE(test_causality());
    CASE(test_causality_behind());
    CASE(test_end());
    CASE(test_interest_without_memory());
    CASE(test_end_without_memory());
    CASE(test_tell());
    CASE(test_handlers());
    CASE(test_subscribed_during_shutdown());
    CASE(test_shutdown_of_both());
    CASE(test_log_publishes());
    CASE(test_log_sends());
    CASE(test_log_closes());
    CASE(test_late());
    CASE(test_relay_and_bus());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
