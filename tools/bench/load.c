/* SPDX-License-Identifier: MIT */
/*
 * load.c: the load generator, with one thread and epoll. It has four kinds of run:
 *
 *   echo       (default)      rounds of masked messages on all connections, every reply compared
 *   connect    (--connects)   opening handshake, closing handshake, end of TCP, repeated
 *   idle       (--idle)       idle connections: their memory and CPU cost for the server
 *   broadcast  (--broadcast)  all connections get what one of them sends, every delivery compared
 *
 * Prints figures per message or connection. Prints one line to stderr and exits with status 1 as
 * soon as the server deviates in a single byte, or when the time is over.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "audience.h"
#include "client.h"
#include "measure.h"
#include "options.h"
#include "report.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, SECOND = 1000000000, OPENING_MAX = 64, IDLE_WARMUP = 64 };

typedef struct run run;
struct run {
    options options;
    plan plan;
    audience audience;
    client *clients;
    unsigned total;     /* clients */
    unsigned workers;   /* echo: the number of clients that send, the first ones */
    unsigned connected; /* clients for which connect was called */
    unsigned opened, closed;
    void (*on_news)(run *r, client *c, client_news news);
    uint64_t done; /* messages, deliveries or connections since the start */
    uint64_t now, deadline;
    bool measuring, stopping;
    unsigned at_work; /* echo: clients with a round in flight */
    sample begin, end;
    histogram latency;
};

/* ---- common to the four -------------------------------------------------------------------- */

static void take_sample(const run *r, sample *s)
{
    sample_take(s, r->options.pid, r->done);
}

/* Handles ready events, or waits for them until `until`. The send of a server has to wake up a
 * sleeping generator, but never one that spins. */
static void turn(run *r, uint64_t until)
{
    static struct epoll_event events[EVENTS_MAX];
    int wait = until > r->now && !r->options.spin ? (int)((until - r->now) / 1000000) + 1 : 0;
    int n = epoll_wait(r->plan.poller, events, EVENTS_MAX, wait < 100 ? wait : 100);

    for (int i = 0; i < n; i++) {
        client *c = events[i].data.ptr;
        client_news news = client_handle(c, events[i].events);
        if (news != NEWS_NONE) {
            r->on_news(r, c, news);
        }
    }
    r->now = measure_now();
    if (r->now > r->deadline) {
        die("timeout: %u of %u connections open, %llu %s done", r->opened, r->total,
            (unsigned long long)r->done, r->options.connects ? "connects" : "messages");
    }
}

/* Runs turns for some seconds. */
static void pass(run *r, double seconds)
{
    uint64_t until = r->now + (uint64_t)(seconds * SECOND);

    while (r->now < until) {
        turn(r, until);
    }
}

/* Opens `count` connections in all, a few at a time, because the server's backlog is finite. */
static void open_clients(run *r, unsigned count)
{
    while (r->opened < count) {
        while (r->connected < count && r->connected - r->opened < OPENING_MAX) {
            client_connect(&r->clients[r->connected], &r->plan, r->connected);
            r->connected++;
        }
        turn(r, r->deadline);
    }
}

/* Closes all connections. This is not measured, so it may also fail. */
static void close_clients(run *r)
{
    uint64_t until = r->now + SECOND;

    for (unsigned i = 0; i < r->opened; i++) {
        client_close(&r->clients[i]);
    }
    while (r->closed < r->opened && r->now < until) {
        turn(r, until);
    }
}

/* ---- echo ---------------------------------------------------------------------------------- */

static void send_round(run *r, client *c, uint64_t now)
{
    unsigned count = r->plan.pipeline;

    if (r->options.messages > 0 && c->quota < count) {
        count = (unsigned)c->quota;
    }
    if (count == 0 || r->stopping) {
        r->at_work--;
        return;
    }
    c->quota -= count;
    c->started = now;
    client_send_round(c, count);
}

static void on_echo(run *r, client *c, client_news news)
{
    if (news == NEWS_OPENED) {
        r->opened++;
    } else if (news == NEWS_CLOSED) {
        r->closed++;
    } else {
        uint64_t now = measure_now();
        unsigned more = c->answered - c->counted;
        c->counted = c->answered;
        r->done += more;
        if (r->measuring) {
            histogram_add(&r->latency, now - c->started, more);
        }
        if (news == NEWS_ROUND) {
            send_round(r, c, now);
        }
    }
}

static void start_rounds(run *r)
{
    uint64_t share = r->options.messages / r->workers, rest = r->options.messages % r->workers;

    r->at_work = r->workers;
    for (unsigned i = 0; i < r->workers; i++) {
        r->clients[i].quota = share + (i < rest);
        send_round(r, &r->clients[i], measure_now());
    }
}

/* Sends the requested number of messages without a warm-up: every run does the same work. */
static void count_messages(run *r)
{
    r->measuring = true;
    take_sample(r, &r->begin);
    start_rounds(r);
    while (r->at_work > 0) {
        turn(r, r->deadline);
    }
    take_sample(r, &r->end);
}

static void count_seconds(run *r)
{
    start_rounds(r);
    pass(r, r->options.warmup);
    r->measuring = true;
    take_sample(r, &r->begin);
    pass(r, r->options.seconds);
    while (!sample_suffices(&r->begin, r->options.pid, r->done)) {
        turn(r, r->deadline);
    }
    take_sample(r, &r->end);
    r->measuring = false;
    r->stopping = true;
    while (r->at_work > 0) {
        turn(r, r->deadline);
    }
}

static void run_echo(run *r)
{
    r->on_news = on_echo;
    for (unsigned i = 0; i < r->workers; i++) {
        r->clients[i].plan = &r->plan;
        r->clients[i].index = i;
        client_compose(&r->clients[i]);
    }
    open_clients(r, r->total);
    if (r->options.messages > 0) {
        count_messages(r);
    } else {
        count_seconds(r);
    }
    close_clients(r);
}

/* ---- connect ------------------------------------------------------------------------------- */

static void connect_next(run *r, client *c, uint64_t now)
{
    if (r->connected < r->options.connects) {
        c->started = now;
        client_connect(c, &r->plan, (unsigned)(c - r->clients));
        r->connected++;
    }
}

/* The first tenth is the warm-up. */
static void on_connect(run *r, client *c, client_news news)
{
    uint64_t now = measure_now();

    if (news == NEWS_OPENED) {
        r->opened++;
        if (r->measuring) {
            histogram_add(&r->latency, now - c->started, 1);
        }
        client_close(c);
        return;
    }
    r->closed++;
    r->done++;
    if (!r->measuring && r->done >= r->options.connects / 10) {
        r->measuring = true;
        take_sample(r, &r->begin);
    }
    connect_next(r, c, now);
}

static void run_connect(run *r)
{
    r->on_news = on_connect;
    take_sample(r, &r->begin);
    for (unsigned i = 0; i < r->total; i++) {
        connect_next(r, &r->clients[i], measure_now());
    }
    while (r->closed < r->options.connects) {
        turn(r, r->deadline);
    }
    take_sample(r, &r->end);
}

/* ---- idle ---------------------------------------------------------------------------------- */

/* The first connections pay for what the server allocates once. */
static void run_idle(run *r)
{
    sample opened;
    unsigned warmup = r->options.idle < IDLE_WARMUP ? 0 : IDLE_WARMUP;

    r->on_news = on_echo;
    open_clients(r, warmup);
    pass(r, 0.2);
    take_sample(r, &r->begin);
    open_clients(r, warmup + r->options.idle);
    r->done = r->options.idle;
    pass(r, 0.2);
    take_sample(r, &opened);
    pass(r, r->options.seconds);
    take_sample(r, &r->end);
    /* Memory grew since `begin`, CPU is counted for the quiet time only. */
    opened.rss = r->begin.rss;
    opened.done = r->begin.done;
    r->begin = opened;
    close_clients(r);
}

/* ---- broadcast ----------------------------------------------------------------------------- */

/* Returns what all subscribers have received since the last call. */
static void note_latency(run *r, audience_publisher *p)
{
    for (; p->noted < p->done; p->noted++) {
        uint64_t started = p->slots[p->noted % r->audience.window].started;
        if (r->measuring) {
            histogram_add(&r->latency, r->now - started, 1);
        }
    }
}

/* Fills the window of a publisher with one send. */
static void publish(run *r, unsigned publisher)
{
    audience *a = &r->audience;
    client *c = &r->clients[publisher];
    unsigned count = audience_room(a, publisher);

    if (r->options.messages > 0 && c->quota < count) {
        count = (unsigned)c->quota;
    }
    if (r->stopping || count == 0 || c->sent < c->to_send) {
        return;
    }
    c->quota -= count;
    client_send(c, audience_publish(a, publisher, count, measure_now(), c->messages));
}

/* Returns the messages in flight and those still to be sent. */
static uint64_t count_pending(const run *r)
{
    uint64_t pending = 0;

    for (unsigned i = 0; i < r->audience.publishers; i++) {
        const audience_publisher *p = &r->audience.each[i];
        pending += p->sent - p->done + (r->stopping ? 0 : r->clients[i].quota);
    }
    return pending;
}

/* Publishes whenever there is room until the time is over and something was delivered. If `until`
 * is 0, publishes everything. */
static void broadcast(run *r, uint64_t until)
{
    audience *a = &r->audience;
    uint64_t before = r->done;

    while (until > 0 ? r->now < until || r->done == before : count_pending(r) > 0) {
        for (unsigned i = 0; i < a->publishers; i++) {
            publish(r, i);
        }
        turn(r, until > r->now ? until : r->deadline);
        r->done = a->deliveries;
        for (unsigned i = 0; i < a->publishers; i++) {
            note_latency(r, &a->each[i]);
        }
    }
}

static void prepare_audience(run *r)
{
    audience *a = &r->audience;
    const options *o = &r->options;
    size_t room = (o->size + CLIENT_OVERHEAD_MAX) * o->pipeline;

    a->members = r->total;
    a->publishers = o->publishers;
    a->window = o->pipeline;
    a->size = o->size;
    a->opcode = o->opcode;
    audience_prepare(a);
    r->plan.audience = a;
    for (unsigned i = 0; i < a->publishers; i++) {
        r->clients[i].messages = malloc(room);
        r->clients[i].quota = o->messages / a->publishers + (i < o->messages % a->publishers);
        if (r->clients[i].messages == NULL) {
            die("out of memory for the messages");
        }
    }
}

static void run_broadcast(run *r)
{
    r->on_news = on_echo;
    prepare_audience(r);
    open_clients(r, r->total);
    if (r->options.messages == 0) {
        broadcast(r, r->now + (uint64_t)(r->options.warmup * SECOND));
    }
    r->measuring = true;
    take_sample(r, &r->begin);
    broadcast(r, r->options.messages > 0 ? 0 : r->now + (uint64_t)(r->options.seconds * SECOND));
    take_sample(r, &r->end);
    r->measuring = false;
    r->stopping = true;
    broadcast(r, 0);
    close_clients(r);
}

/* ---- report -------------------------------------------------------------------------------- */

static void report_idle(const run *r)
{
    double seconds = (double)(r->end.now - r->begin.now) / SECOND;
    double server = (double)(r->end.server_cpu - r->begin.server_cpu) / SECOND;
    double growth = (double)r->end.rss - (double)r->begin.rss;

    report_number("connections", (double)r->options.idle, 0);
    report_number("seconds", seconds, 4);
    report_number("rss_bytes_per_connection", growth / (double)r->options.idle, 1);
    report_number("rss_bytes", (double)r->end.rss, 0);
    report_number("server_cpu_fraction", server / seconds, 6);
}

/* Returns the mean payload size of a reply on the wire over all different messages. */
static double average_reply(const run *r)
{
    double bytes = 0, replies = 0;

    for (unsigned i = 0; i < r->total; i++) {
        const client *c = &r->clients[i];
        for (unsigned j = 0; j < c->known; j++) {
            size_t start = j > 0 ? c->reply_ends[j - 1] : 0;
            unsigned size = c->replies[start + 1] & 0x7f;
            bytes += (double)(c->reply_ends[j] - start) - (size < 126 ? 2 : size == 126 ? 4 : 10);
        }
        replies += c->known;
    }
    return replies > 0 ? bytes / replies : 0;
}

static const char *name_mode(const options *o)
{
    return o->connects ? "connect" : o->idle ? "idle" : o->broadcast ? "broadcast" : "echo";
}

static void report(const run *r)
{
    const options *o = &r->options;

    report_begin(o->json);
    report_text("mode", name_mode(o));
    if (o->idle) {
        report_idle(r);
    } else if (o->broadcast) {
        report_number("subscribers", o->broadcast, 0);
        report_number("publishers", o->publishers, 0);
        report_number("size", (double)o->size, 0);
        report_number("pipeline", o->pipeline, 0);
        report_rates(&r->begin, &r->end, &r->latency, o->pid, "delivery", "deliveries");
    } else if (o->connects) {
        report_number("conns", o->conns, 0);
        report_rates(&r->begin, &r->end, &r->latency, o->pid, "connect", "connects");
    } else {
        report_number("conns", o->conns, 0);
        report_number("size", (double)o->size, 0);
        report_number("pipeline", o->pipeline, 0);
        report_text("opcode", o->opcode == 1 ? "text" : "binary");
        report_number("reply_size", average_reply(r), 2);
        report_rates(&r->begin, &r->end, &r->latency, o->pid, "message", "messages");
    }
    report_end();
}

/* ---- main ---------------------------------------------------------------------------------- */

static void prepare(run *r)
{
    options *o = &r->options;
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    r->workers = o->conns;
    r->total = o->idle        ? o->idle + IDLE_WARMUP
               : o->broadcast ? o->broadcast
                              : o->conns + o->beside;
    r->clients = calloc(r->total, sizeof(client));
    if (r->clients == NULL) {
        die("out of memory for %u connections", r->total);
    }
    r->now = measure_now();
    r->deadline = r->now + (uint64_t)((o->warmup + o->seconds + o->timeout) * SECOND);
    r->plan.poller = epoll_create1(EPOLL_CLOEXEC);
    r->plan.opcode = o->opcode;
    r->plan.size = o->size;
    r->plan.records = o->records;
    r->plan.deflate = o->deflate;
    r->plan.pipeline = o->pipeline;
    if (o->tls && (r->plan.secure = secure_clients(o->resume)) == NULL) {
        die("out of memory for TLS");
    }
    r->plan.address.sin_family = AF_INET;
    r->plan.address.sin_port = htons((uint16_t)o->port);
    if (inet_pton(AF_INET, o->host, &r->plan.address.sin_addr) != 1) {
        die("--host takes an IPv4 address");
    }
    plan_prepare(&r->plan, o->host, o->port, o->path);
}

int main(int argc, char **argv)
{
    static run r;

    options_parse(&r.options, argc, argv);
    prepare(&r);
    if (r.options.idle > 0) {
        run_idle(&r);
    } else if (r.options.connects > 0) {
        run_connect(&r);
    } else if (r.options.broadcast > 0) {
        run_broadcast(&r);
    } else {
        run_echo(&r);
    }
    report(&r);
    return 0;
}
