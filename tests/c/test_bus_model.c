/* SPDX-License-Identifier: MIT */
/*
 * test_bus_model.c: random operations on members of a local bus against a model: who was subscribed
 * when something was published, and still is, gets it exactly once; whoever was not gets nothing;
 * the messages of one publisher arrive in order. Meanwhile members shut down, still publish, and
 * start again, or are killed and replaced.
 */
#include "members.h"

#include <stdlib.h>

enum { COUNT = 4, TOPICS = 6, MESSAGES = 512, STEPS = 400 };

struct message {
    int from, number, topic, step;
};

static struct client c[COUNT];
static struct message sent[MESSAGES];
static int sent_count, numbers[COUNT], step;
/* Since which step a client has been subscribed (0: it is not), and when it last was. */
static int since[COUNT][TOPICS], until[COUNT][TOPICS];
static bool down[COUNT]; /* shuts down, or has shut down */
static uint64_t noise;

static int pick(int n)
{
    noise = noise * 6364136223846793005u + 1442695040888963407u;
    return (int)((noise >> 33) % (unsigned)n);
}

static const char *name_of(int topic)
{
    static const char *const names[TOPICS] = {"a", "b", "", "topic", "another topic", "f"};
    return names[topic];
}

static void publish_one(int from)
{
    char text[64];
    if (sent_count == MESSAGES)
        return;
    struct message *m = &sent[sent_count++];
    *m = (struct message){from, numbers[from]++, pick(TOPICS), step};
    snprintf(text, sizeof text, "%d %d %d", m->from, m->number, m->topic);
    members_publish(from, name_of(m->topic), text);
}

static void publish_some(void *argument)
{
    struct member *m = argument;
    for (int i = pick(4); i >= 0; i--)
        publish_one(m->number);
}

static void change(int i, int topic)
{
    const char *name = name_of(topic);
    if (since[i][topic]) {
        ws_conn_unsubscribe(conn_at(&members[i].h, 0), name, strlen(name));
        since[i][topic] = 0;
        until[i][topic] = step;
    } else {
        members_subscribe(i, name);
        since[i][topic] = step;
    }
}

static void replace(int i)
{
    client_close(&c[i]);
    members_kill(i);
    if (pick(2)) {
        uint32_t epoch = members[i].options.epoch;
        int inboxes[COUNT];
        for (int k = 0; k < COUNT; k++)
            inboxes[k] = members_inbox(k, false);
        ws_bus_announce_end(inboxes, COUNT, (uint32_t)i, epoch);
    }
    members_join(i);
    client_open(&c[i], &members[i].h);
    memset(since[i], 0, sizeof since[i]);
    memset(until[i], 0, sizeof until[i]);
    down[i] = false;
}

static void go_down(int i)
{
    ws_server_shutdown(members[i].h.server, 1001, NULL, 0, 1000);
    down[i] = true;
    memset(since[i], 0, sizeof since[i]);
    memset(until[i], 0, sizeof until[i]);
}

/* What its client got until the Close is not looked at. */
static void come_up(int i)
{
    struct harness *h = &members[i].h;
    client_drain(&c[i]);
    c[i].in_length = 0;
    client_close(&c[i]);
    advance(h, 2000);
    turns(h, 2);
    harness_listen(h);
    h->ids[0] = 0;
    client_open(&c[i], h);
    h->ids[0] = h->ids[h->opened - 1];
    down[i] = false;
}

/* Compares what a client has received with what it should have. */
static bool check(int i)
{
    static int got[MESSAGES];
    int last[COUNT] = {-1, -1, -1, -1};
    memset(got, 0, sizeof got);
    client_drain(&c[i]);
    for (size_t at = 0; at < c[i].in_length;) {
        int from, number, topic, k = 0;
        char text[128];
        size_t n = (unsigned char)c[i].in[at + 1];
        memcpy(text, c[i].in + at + 2, n);
        text[n] = '\0';
        if (sscanf(text, "%d %d %d", &from, &number, &topic) != 3 || number <= last[from]) {
            diag("client %d: out of order: %s after %d", i, text, last[from]);
            return false;
        }
        last[from] = number;
        while (k < sent_count && (sent[k].from != from || sent[k].number != number))
            k++;
        if (k == sent_count || (!since[i][topic] && until[i][topic] < sent[k].step)) {
            diag("client %d: not for it: %s", i, text);
            return false;
        }
        got[k]++;
        at += n + 2;
    }
    c[i].in_length = 0;
    for (int k = 0; k < sent_count; k++) {
        int from = since[i][sent[k].topic];
        if (from && from < sent[k].step && got[k] != 1) {
            diag("client %d: %d times: message %d of %d to topic %d", i, got[k], sent[k].number,
                 sent[k].from, sent[k].topic);
            return false;
        }
    }
    return true;
}

static bool run(unsigned seed, bool kills)
{
    bool right = true;
    noise = seed;
    step = sent_count = 0;
    memset(numbers, 0, sizeof numbers);
    memset(since, 0, sizeof since);
    memset(until, 0, sizeof until);
    memset(down, 0, sizeof down);
    members_start(COUNT);
    for (int i = 0; i < COUNT; i++)
        client_open(&c[i], &members[i].h);
    while (++step < STEPS && right) {
        int i = pick(COUNT), what = pick(100);
        if (what < 25 && !down[i]) {
            change(i, pick(TOPICS));
        } else if (what < 50) {
            publish_one(i);
        } else if (what < 60) {
            ws_server_defer(members[i].h.server, publish_some, &members[i]);
            turns(&members[i].h, 1);
        } else if (what < 90) {
            turns(&members[i].h, 1);
        } else if (what < 94) {
            if (down[i])
                come_up(i);
            else
                go_down(i);
        } else if (what < 96 && kills) {
            replace(i);
        } else if (what >= 97) {
            members_settle();
            for (int k = 0; k < COUNT; k++)
                right = (down[k] || check(k)) && right;
            sent_count = 0;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        if (down[i])
            come_up(i);
        client_drain(&c[i]);
        client_close(&c[i]);
    }
    members_turns(3);
    bool clean = true;
    for (int i = 0; i < COUNT; i++)
        clean = harness_free(&members[i].h) && clean;
    members_forget();
    if (!right || !clean)
        diag("seed %u", seed);
    return right && clean;
}

static void test_model(void)
{
    bool right = true;
    unsigned seed = 1, most = getenv("UNDER_VALGRIND") ? 5 : 200;
    for (; seed <= most && right; seed++)
        right = run(seed, false);
    ok(right, "B1, B2: random operations: each client got exactly its messages, in order");
    for (seed = 1; seed <= most && right; seed++)
        right = run(seed, true);
    ok(right, "B4: the same while members are killed and replaced");
}

static void cases(void)
{
    CASE(test_model());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
