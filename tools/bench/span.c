/* SPDX-License-Identifier: MIT */
/*
 * span.c: the load generator for topics that span processes. One connection publishes, others
 * subscribe, in the same process of the server and in another one. Every delivery is compared.
 *
 *   default   a burst of messages whenever all subscribers have received the last one
 *   --rate    bursts at a steady rate, but at most half of what the server can do
 *
 * Prints one JSON object with the CPU time per message of each process, and with the times from
 * the send of a message to its last delivery.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "audience.h"
#include "client.h"
#include "measure.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, SECOND = 1000000000, OPENING_MAX = 64, PROBE_INTERVAL = SECOND / 20 };
enum { WINDOW = 8192 };         /* messages in flight at a steady rate */
enum { CAPACITY_WINDOW = 16 };  /* and while it is measured what the server can do */

static const char usage[] =
    "usage: span --port P [options]\n"
    "  --port N        the port for the publisher, at 127.0.0.1\n"
    "  --other-port N  the port of the other process. Without it, both accept at --port, and\n"
    "                  name themselves in the field X-Process of their responses\n"
    "  --pid N         the process of --port; without it, that of the publisher's X-Process\n"
    "  --other-pid N   the process of --other-port\n"
    "  --broker N      the process of a broker\n"
    "  --here N        subscribers in the process of the publisher (0)\n"
    "  --there N       subscribers in the other one (0)\n"
    "  --publish T     request target of the publisher (/publish)\n"
    "  --subscribe T   request target of the subscribers (/subscribe)\n"
    "  --start T       what stands in front of the text of each message (nothing)\n"
    "  --end T         and after it\n"
    "  --engine        the server speaks Engine.IO 4 and Socket.IO 5\n"
    "  --answers       the server answers the publisher, which ignores that\n"
    "  --spin          never sleep, so that the server does not have to wake up the generator\n"
    "  --size N        bytes of a text (64)\n"
    "  --burst N       messages that are sent at once (1)\n"
    "  --rate N        messages a second; 0: as soon as the last ones have arrived (0)\n"
    "  --seconds S     measured time (1)\n"
    "  --warmup S      time before it (0.2)\n"
    "  --messages N    at most about N messages in each of the two, without --rate (no limit)\n"
    "  --timeout S     time limit for everything else (30)\n";

enum {
    PORT,
    OTHER_PORT,
    PID,
    OTHER_PID,
    BROKER,
    HERE,
    THERE,
    SIZE,
    BURST,
    RATE,
    SECONDS,
    WARMUP,
    MESSAGES,
    TIMEOUT,
    NUMBERS, /* the options above take a number */
    PUBLISH = NUMBERS,
    SUBSCRIBE,
    START,
    END,
    ENGINE,
    ANSWERS,
    SPIN,
    OPTIONS
};

static const struct option table[OPTIONS + 1] = {
    [PORT] = {"port", 1, NULL, PORT},
    [OTHER_PORT] = {"other-port", 1, NULL, OTHER_PORT},
    [PID] = {"pid", 1, NULL, PID},
    [OTHER_PID] = {"other-pid", 1, NULL, OTHER_PID},
    [BROKER] = {"broker", 1, NULL, BROKER},
    [HERE] = {"here", 1, NULL, HERE},
    [THERE] = {"there", 1, NULL, THERE},
    [SIZE] = {"size", 1, NULL, SIZE},
    [BURST] = {"burst", 1, NULL, BURST},
    [RATE] = {"rate", 1, NULL, RATE},
    [SECONDS] = {"seconds", 1, NULL, SECONDS},
    [WARMUP] = {"warmup", 1, NULL, WARMUP},
    [MESSAGES] = {"messages", 1, NULL, MESSAGES},
    [TIMEOUT] = {"timeout", 1, NULL, TIMEOUT},
    [PUBLISH] = {"publish", 1, NULL, PUBLISH},
    [SUBSCRIBE] = {"subscribe", 1, NULL, SUBSCRIBE},
    [START] = {"start", 1, NULL, START},
    [END] = {"end", 1, NULL, END},
    [ENGINE] = {"engine", 0, NULL, ENGINE},
    [ANSWERS] = {"answers", 0, NULL, ANSWERS},
    [SPIN] = {"spin", 0, NULL, SPIN},
};

static const struct {
    double low, high, initial;
} numbers[NUMBERS] = {
    [PORT] = {1, 65535, 0},        [OTHER_PORT] = {1, 65535, 0},
    [PID] = {1, 1 << 30, 0},       [OTHER_PID] = {1, 1 << 30, 0},
    [BROKER] = {1, 1 << 30, 0},    [HERE] = {0, 100000, 0},
    [THERE] = {0, 100000, 0},      [SIZE] = {AUDIENCE_SIZE_MIN, 32768, 64},
    [BURST] = {1, 1024, 1},        [RATE] = {0, 1e7, 0},
    [SECONDS] = {0.01, 3600, 1},   [WARMUP] = {0.01, 3600, 0.2},
    [MESSAGES] = {1, 1e12, 0},     [TIMEOUT] = {0.1, 3600, 30},
};

enum { PUBLISHER, OTHER, OF_BROKER, PROCESSES };

typedef struct span_sample {
    uint64_t now, done, own;
    uint64_t cpu[PROCESSES];
} span_sample;

typedef struct run {
    double number[NUMBERS];
    const char *publish, *subscribe;
    plan publishing, here, there;
    audience audience;
    client publisher;
    client *subscribers;
    pid_t pids[PROCESSES]; /* 0: there is none, or it is not known yet */
    unsigned burst;
    uint64_t now, deadline;
    int timer;         /* at a steady rate */
    uint64_t due;      /* bursts to send now */
    double rate, capacity;
    bool spin, measuring;
    span_sample begin, end;
    histogram latency;
} run;

/* ---- turns --------------------------------------------------------------------------------- */

static void note_latency(run *r)
{
    audience_publisher *p = &r->audience.each[0];

    for (; p->noted < p->done; p->noted++) {
        uint64_t started = p->slots[p->noted % r->audience.window].started;
        if (r->measuring) {
            histogram_add(&r->latency, r->now - started, 1);
        }
    }
}

static bool is_right_process(const run *r, const client *c)
{
    bool same = c->process == r->pids[PUBLISHER];

    return c->process == 0 || c == &r->publisher || same == (c->plan == &r->here);
}

static void on_opened(run *r, client *c)
{
    if (!is_right_process(r, c)) {
        const plan *again = c->plan;
        client_drop(c);
        client_connect(c, again, c->index);
    } else if (c->process != 0) {
        r->pids[c->plan == &r->there ? OTHER : PUBLISHER] = (pid_t)c->process;
    }
}

/* Waits until something happens, and handles it. With `spin`, it never sleeps, as the send of a
 * server would have to wake it up. */
static void turn(run *r)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(r->publishing.poller, events, EVENTS_MAX, r->spin ? 0 : 10);

    r->now = measure_now();
    for (int i = 0; i < n; i++) {
        client *c = events[i].data.ptr;
        uint64_t ticks;
        if (c != NULL) {
            if (client_handle(c, events[i].events) == NEWS_OPENED) {
                on_opened(r, c);
            }
            note_latency(r);
        } else if (read(r->timer, &ticks, sizeof(ticks)) == sizeof(ticks)) {
            r->due += ticks;
        }
    }
    if (r->now > r->deadline) {
        const audience *a = &r->audience;
        die("timeout: %u of %u subscribers reached, %llu of %llu messages done", a->reached,
            a->members, (unsigned long long)a->each[0].done, (unsigned long long)a->each[0].sent);
    }
}

/* ---- connecting ---------------------------------------------------------------------------- */

static void open_one(run *r, client *c, const plan *p, unsigned index)
{
    client_connect(c, p, index);
    while (c->state != CLIENT_OPEN) {
        turn(r);
    }
}

/* A server's backlog is finite, so a few at a time. */
static void open_subscribers(run *r)
{
    unsigned here = (unsigned)r->number[HERE], total = r->audience.members;

    for (unsigned first = 0; first < total; first += OPENING_MAX) {
        unsigned last = first + OPENING_MAX < total ? first + OPENING_MAX : total;
        for (unsigned i = first; i < last; i++) {
            client_connect(&r->subscribers[i], i < here ? &r->here : &r->there, i);
        }
        for (unsigned i = first; i < last; i++) {
            while (r->subscribers[i].state != CLIENT_OPEN) {
                turn(r);
            }
        }
    }
}

/* Publishes probes until all subscribers have received one: a broker needs its time. */
static void probe(run *r)
{
    uint64_t next = 0;

    r->audience.probing = true;
    while (r->audience.reached < r->audience.members) {
        if (r->now >= next) {
            client_send(&r->publisher, audience_probe(&r->audience, r->publisher.messages));
            next = r->now + PROBE_INTERVAL;
        }
        turn(r);
    }
}

/* ---- messages ------------------------------------------------------------------------------ */

static bool publish(run *r, unsigned window)
{
    audience *a = &r->audience;
    unsigned in_flight = a->window - audience_room(a, 0);
    client *c = &r->publisher;

    if (in_flight + r->burst > window || c->sent < c->to_send) {
        return false;
    }
    client_send(c, audience_publish(a, 0, r->burst, measure_now(), c->messages));
    return true;
}

/* Publishes with a window for some seconds, and until something has been delivered. */
static void publish_at_once(run *r, double seconds, unsigned window)
{
    const audience_publisher *p = &r->audience.each[0];
    uint64_t until = r->now + (uint64_t)(seconds * SECOND), before = p->done;
    uint64_t most = r->number[MESSAGES] > 0 ? (uint64_t)r->number[MESSAGES] : UINT64_MAX;

    while (p->done - before < most && (r->now < until || p->done == before)) {
        while (publish(r, window)) {
            continue;
        }
        turn(r);
    }
}

static void publish_steadily(run *r, double seconds)
{
    uint64_t until = r->now + (uint64_t)(seconds * SECOND);

    while (r->now < until) {
        while (r->due > 0 && publish(r, WINDOW)) {
            r->due--;
        }
        turn(r);
    }
}

static void drain(run *r)
{
    while (r->audience.each[0].done < r->audience.each[0].sent) {
        turn(r);
    }
}

static void start_timer(run *r)
{
    struct epoll_event event = {.events = EPOLLIN};
    uint64_t interval = (uint64_t)(SECOND * r->burst / r->rate);
    struct itimerspec every = {
        .it_interval = {(time_t)(interval / SECOND), (long)(interval % SECOND)},
        .it_value = {(time_t)(interval / SECOND), (long)(interval % SECOND)},
    };

    r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (r->timer < 0 || timerfd_settime(r->timer, 0, &every, NULL) != 0 ||
        epoll_ctl(r->publishing.poller, EPOLL_CTL_ADD, r->timer, &event) != 0) {
        die("no timer");
    }
}

static void take_sample(const run *r, span_sample *s)
{
    s->now = measure_now();
    s->done = r->audience.each[0].done;
    s->own = measure_cpu(getpid());
    for (int i = 0; i < PROCESSES; i++) {
        s->cpu[i] = r->pids[i] != 0 ? measure_cpu(r->pids[i]) : 0;
        if (s->cpu[i] == UINT64_MAX) {
            die("cannot read the CPU time of process %d", (int)r->pids[i]);
        }
    }
}

static void measure(run *r)
{
    unsigned window = r->burst;
    uint64_t before = r->audience.each[0].done, began = r->now;

    if (r->number[RATE] > 0) {
        window = r->burst > CAPACITY_WINDOW ? r->burst : CAPACITY_WINDOW;
    }
    publish_at_once(r, r->number[WARMUP], window);
    r->capacity = (double)(r->audience.each[0].done - before) * SECOND / (double)(r->now - began);
    drain(r);
    if (r->number[RATE] > 0) {
        r->rate = r->number[RATE] < r->capacity / 2 ? r->number[RATE] : r->capacity / 2;
        start_timer(r);
        publish_steadily(r, r->number[WARMUP] / 2);
    }
    r->measuring = true;
    take_sample(r, &r->begin);
    if (r->number[RATE] > 0) {
        publish_steadily(r, r->number[SECONDS]);
    } else {
        publish_at_once(r, r->number[SECONDS], window);
    }
    take_sample(r, &r->end);
    drain(r);
}

/* ---- report -------------------------------------------------------------------------------- */

static void report(const run *r)
{
    static const char *const names[PROCESSES] = {"publisher", "receiver", "broker"};
    double done = (double)(r->end.done - r->begin.done), sum = 0;
    double seconds = (double)(r->end.now - r->begin.now) / SECOND;

    if (done == 0) {
        die("nothing was delivered");
    }
    printf("{\"messages\": %.0f, \"seconds\": %.4f, \"rate\": %.1f, \"capacity\": %.1f", done,
           seconds, done / seconds, r->capacity);
    for (int i = 0; i < PROCESSES; i++) {
        double cpu = (double)(r->end.cpu[i] - r->begin.cpu[i]) / 1e3 / done;
        if (r->pids[i] != 0) {
            printf(", \"%s_us\": %.4f", names[i], cpu);
        }
        sum += cpu;
    }
    printf(", \"cpu_us_per_message\": %.4f, \"client_us\": %.4f", sum,
           (double)(r->end.own - r->begin.own) / 1e3 / done);
    printf(", \"latency_us_p50\": %.1f, \"latency_us_p99\": %.1f, \"latency_us_max\": %.1f}\n",
           (double)histogram_quantile(&r->latency, 0.50) / 1e3,
           (double)histogram_quantile(&r->latency, 0.99) / 1e3, (double)r->latency.max / 1e3);
}

/* ---- main ---------------------------------------------------------------------------------- */

static void misuse(void)
{
    fputs(usage, stderr);
    exit(2);
}

static double parse_number(int which, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' ||
        !(value >= numbers[which].low && value <= numbers[which].high)) {
        die("--%s takes a number from %g to %g", table[which].name, numbers[which].low,
            numbers[which].high);
    }
    return value;
}

static void parse(run *r, int argc, char **argv)
{
    int which;

    r->publish = "/publish";
    r->subscribe = "/subscribe";
    for (int i = 0; i < NUMBERS; i++) {
        r->number[i] = numbers[i].initial;
    }
    while ((which = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (which == '?') {
            misuse();
        } else if (which == ENGINE) {
            r->publishing.engine = true;
        } else if (which == ANSWERS) {
            r->publishing.answers = true;
        } else if (which == SPIN) {
            r->spin = true;
        } else if (which == PUBLISH || which == SUBSCRIBE) {
            *(which == PUBLISH ? &r->publish : &r->subscribe) = optarg;
        } else if (which == START || which == END) {
            *(which == START ? &r->audience.start : &r->audience.end) = optarg;
        } else {
            r->number[which] = parse_number(which, optarg);
        }
    }
    if (optind < argc || r->number[PORT] == 0 || r->number[HERE] + r->number[THERE] == 0) {
        misuse();
    }
}

static void prepare_plan(run *r, plan *p, unsigned port, const char *path)
{
    p->poller = r->publishing.poller;
    p->engine = r->publishing.engine;
    p->opcode = 1;
    p->size = r->audience.size;
    p->address.sin_family = AF_INET;
    p->address.sin_port = htons((uint16_t)port);
    p->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    p->audience = p != &r->publishing ? &r->audience : NULL;
    plan_prepare(p, "127.0.0.1", port, path);
}

static void prepare(run *r)
{
    unsigned port = (unsigned)r->number[PORT], other = (unsigned)r->number[OTHER_PORT];
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    r->burst = (unsigned)r->number[BURST];
    r->pids[PUBLISHER] = (pid_t)r->number[PID];
    r->pids[OTHER] = (pid_t)r->number[OTHER_PID];
    r->pids[OF_BROKER] = (pid_t)r->number[BROKER];
    r->audience.members = (unsigned)(r->number[HERE] + r->number[THERE]);
    r->audience.publishers = 1;
    r->audience.window = WINDOW;
    r->audience.size = (size_t)r->number[SIZE];
    r->audience.opcode = 1;
    audience_prepare(&r->audience);
    r->publishing.poller = epoll_create1(EPOLL_CLOEXEC);
    prepare_plan(r, &r->publishing, port, r->publish);
    prepare_plan(r, &r->here, port, r->subscribe);
    prepare_plan(r, &r->there, other != 0 ? other : port, r->subscribe);
    r->subscribers = calloc(r->audience.members, sizeof(client));
    r->publisher.messages = malloc((r->audience.frame_length + CLIENT_OVERHEAD_MAX) * r->burst);
    if (r->subscribers == NULL || r->publisher.messages == NULL) {
        die("out of memory");
    }
    r->now = measure_now();
    r->deadline = r->now + (uint64_t)((r->number[SECONDS] + 2 * r->number[WARMUP] +
                                       r->number[TIMEOUT]) * SECOND);
}

int main(int argc, char **argv)
{
    static run r;

    parse(&r, argc, argv);
    prepare(&r);
    open_one(&r, &r.publisher, &r.publishing, 0);
    open_subscribers(&r);
    probe(&r);
    measure(&r);
    report(&r);
    return 0;
}
