/*
 * load.c: load generator: one thread, epoll; three kinds of run.
 *
 *   echo     (default)     rounds of masked messages on all connections, every reply compared
 *   connect  (--connects)  opening handshake, closing handshake, end of TCP, again and again
 *   idle     (--idle)      connections that do nothing: memory and CPU that they cost the server
 *
 * Prints figures per message or connection. Exit status 1 and one line on stderr as soon as the
 * server deviates in a single byte, or when the time is over.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "client.h"
#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, SECOND = 1000000000, OPENING_MAX = 64, IDLE_WARMUP = 64 };

typedef struct options {
    const char *host, *path;
    unsigned port;
    unsigned conns, pipeline, connects, idle;
    size_t size;
    uint64_t messages;
    double seconds, warmup, timeout;
    pid_t pid;
    int opcode;
    bool json;
} options;

/* What is read at both ends of the measured time. */
typedef struct sample {
    uint64_t now, done, rss;
    uint64_t server_cpu, client_cpu;
    uint64_t server_wait, client_wait; /* ready, but the core was taken */
} sample;

typedef struct run run;
struct run {
    options options;
    plan plan;
    client *clients;
    unsigned total;     /* clients */
    unsigned connected; /* of these, connect was called */
    unsigned opened, closed;
    void (*on_news)(run *r, client *c, client_news news);
    uint64_t done; /* messages or connections, since the start */
    uint64_t now, deadline;
    bool measuring, stopping;
    unsigned at_work; /* echo: clients with a round on its way */
    sample begin, end;
    histogram latency;
};

/* ---- common to the three ------------------------------------------------------------------- */

static void take_sample(const run *r, sample *s)
{
    pid_t pid = r->options.pid;

    s->done = r->done;
    s->now = measure_now();
    s->client_cpu = measure_cpu(getpid());
    s->client_wait = measure_wait(getpid());
    if (pid == 0) {
        return;
    }
    s->server_cpu = measure_cpu(pid);
    s->server_wait = measure_wait(pid);
    s->rss = measure_rss(pid);
    if (s->server_cpu == UINT64_MAX || s->rss == UINT64_MAX) {
        die("cannot read the CPU time and memory of process %d", (int)pid);
    }
}

/* Handles what is ready, or waits for it until `until`. */
static void turn(run *r, uint64_t until)
{
    static struct epoll_event events[EVENTS_MAX];
    int wait = until > r->now ? (int)((until - r->now) / 1000000) + 1 : 0;
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
        die("time is over: %u of %u connections open, %llu %s done", r->opened, r->total,
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

/* Opens connections up to number `count`, a few at a time: the server's backlog is finite. */
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

/* A polite end of the run: not what is measured, so it may also fail to come. */
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
        r->done += c->to_get / r->plan.reply_length;
        if (r->measuring) {
            histogram_add(&r->latency, now - c->started);
        }
        send_round(r, c, now);
    }
}

static void start_rounds(run *r)
{
    uint64_t share = r->options.messages / r->total, rest = r->options.messages % r->total;

    r->at_work = r->total;
    for (unsigned i = 0; i < r->total; i++) {
        r->clients[i].quota = share + (i < rest);
        send_round(r, &r->clients[i], measure_now());
    }
}

/* As many messages as asked for, without a warm-up: the same work whenever it is run. */
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
    for (unsigned i = 0; i < r->total; i++) {
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
            histogram_add(&r->latency, now - c->started);
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

/* ---- report -------------------------------------------------------------------------------- */

static bool json;
static const char *separator = "";

static void print_name(const char *name)
{
    printf(json ? "%s\"%s\": " : "%s%s ", separator, name);
    separator = json ? ", " : "\n";
}

static void print_text(const char *name, const char *text)
{
    print_name(name);
    printf(json ? "\"%s\"" : "%s", text);
}

static void print_number(const char *name, double value, int decimals)
{
    print_name(name);
    printf("%.*f", decimals, value);
}

/* A side is the limit when it never slept, which is not to say that it always had its core;
 * "none": both waited for something else. */
static const char *name_limit(double server, double own)
{
    const double busy = 0.95;

    if (server >= busy && own >= busy) {
        return "both";
    }
    return server >= busy ? "server" : own >= busy ? "client" : "none";
}

static void report_rates(const run *r, const char *unit, const char *plural)
{
    char name[64];
    double seconds = (double)(r->end.now - r->begin.now) / SECOND;
    double done = (double)(r->end.done - r->begin.done);
    double server = (double)(r->end.server_cpu - r->begin.server_cpu) / SECOND;
    double own = (double)(r->end.client_cpu - r->begin.client_cpu) / SECOND;
    double server_wait = (double)(r->end.server_wait - r->begin.server_wait) / SECOND;
    double own_wait = (double)(r->end.client_wait - r->begin.client_wait) / SECOND;

    print_number(plural, done, 0);
    print_number("seconds", seconds, 4);
    print_number("rate", done / seconds, 1);
    if (r->options.pid != 0) {
        snprintf(name, sizeof(name), "cpu_us_per_%s", unit);
        print_number(name, server * 1e6 / done, 4);
    }
    snprintf(name, sizeof(name), "client_cpu_us_per_%s", unit);
    print_number(name, own * 1e6 / done, 4);
    print_number("latency_us_p50", (double)histogram_quantile(&r->latency, 0.50) / 1e3, 1);
    print_number("latency_us_p99", (double)histogram_quantile(&r->latency, 0.99) / 1e3, 1);
    print_number("latency_us_max", (double)r->latency.max / 1e3, 1);
    print_number("client_cpu_fraction", own / seconds, 4);
    print_number("client_wait_fraction", own_wait / seconds, 4);
    if (r->options.pid != 0) {
        print_number("server_cpu_fraction", server / seconds, 4);
        print_number("server_wait_fraction", server_wait / seconds, 4);
        print_text("limit",
                   name_limit((server + server_wait) / seconds, (own + own_wait) / seconds));
    }
}

static void report_idle(const run *r)
{
    double seconds = (double)(r->end.now - r->begin.now) / SECOND;
    double server = (double)(r->end.server_cpu - r->begin.server_cpu) / SECOND;
    double growth = (double)r->end.rss - (double)r->begin.rss;

    print_number("connections", (double)r->options.idle, 0);
    print_number("seconds", seconds, 4);
    print_number("rss_bytes_per_connection", growth / (double)r->options.idle, 1);
    print_number("rss_bytes", (double)r->end.rss, 0);
    print_number("server_cpu_fraction", server / seconds, 6);
}

static void report(const run *r)
{
    const options *o = &r->options;

    json = o->json;
    printf(json ? "{" : "");
    print_text("mode", o->connects ? "connect" : o->idle ? "idle" : "echo");
    if (o->idle) {
        report_idle(r);
    } else if (o->connects) {
        print_number("conns", o->conns, 0);
        report_rates(r, "connect", "connects");
    } else {
        print_number("conns", o->conns, 0);
        print_number("size", (double)o->size, 0);
        print_number("pipeline", o->pipeline, 0);
        print_text("opcode", o->opcode == 1 ? "text" : "binary");
        report_rates(r, "message", "messages");
    }
    printf(json ? "}\n" : "\n");
}

/* ---- options ------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: load --port P [options]\n"
    "  --host A         IPv4 address of the server (127.0.0.1)\n"
    "  --path T         request target (/)\n"
    "  --pid N          process of the server: its CPU time and memory are read\n"
    "  --conns N        connections (100)\n"
    "  --size N         payload bytes of a message (64)\n"
    "  --pipeline N     messages in flight on each connection (1)\n"
    "  --text, --binary kind of the messages (text)\n"
    "  --seconds S      measured time (3)\n"
    "  --warmup S       time before it (0.5)\n"
    "  --messages N     exactly N messages in all, no warm-up, instead of --seconds\n"
    "  --connects N     N times: connect, handshake, close; --conns of them at a time\n"
    "  --idle N         N connections that do nothing; needs --pid\n"
    "  --timeout S      for everything but warm-up and measured time (30)\n"
    "  --json           one JSON object instead of lines\n";

enum {
    PORT,
    PID,
    CONNS,
    SIZE,
    PIPELINE,
    SECONDS,
    WARMUP,
    MESSAGES,
    CONNECTS,
    IDLE,
    TIMEOUT,
    NUMBERS, /* those above take a number */
    HOST = NUMBERS,
    PATH,
    TEXT,
    BINARY,
    JSON,
    HELP
};

static const struct option table[] = {
    {"port", 1, NULL, PORT},     {"pid", 1, NULL, PID},           {"conns", 1, NULL, CONNS},
    {"size", 1, NULL, SIZE},     {"pipeline", 1, NULL, PIPELINE}, {"seconds", 1, NULL, SECONDS},
    {"warmup", 1, NULL, WARMUP}, {"messages", 1, NULL, MESSAGES}, {"connects", 1, NULL, CONNECTS},
    {"idle", 1, NULL, IDLE},     {"timeout", 1, NULL, TIMEOUT},   {"host", 1, NULL, HOST},
    {"path", 1, NULL, PATH},     {"text", 0, NULL, TEXT},         {"binary", 0, NULL, BINARY},
    {"json", 0, NULL, JSON},     {"help", 0, NULL, HELP},         {NULL, 0, NULL, 0},
};

static const struct {
    double low, high, initial;
} numbers[NUMBERS] = {
    [PORT] = {1, 65535, 0},    [PID] = {1, 1 << 30, 0},    [CONNS] = {1, 1000000, 100},
    [SIZE] = {0, 1 << 28, 64}, [PIPELINE] = {1, 65536, 1}, [SECONDS] = {0, 86400, 3},
    [WARMUP] = {0, 3600, 0.5}, [MESSAGES] = {1, 1e12, 0},  [CONNECTS] = {1, 1e9, 0},
    [IDLE] = {1, 1000000, 0},  [TIMEOUT] = {0, 86400, 30},
};

static double parse_number(int which, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' ||
        !(value >= numbers[which].low && value <= numbers[which].high)) {
        die("--%s takes a number from %.0f to %.0f", table[which].name, numbers[which].low,
            numbers[which].high);
    }
    return value;
}

static void set_numbers(options *o, const double n[NUMBERS])
{
    o->port = (unsigned)n[PORT];
    o->pid = (pid_t)n[PID];
    o->conns = (unsigned)n[CONNS];
    o->size = (size_t)n[SIZE];
    o->pipeline = (unsigned)n[PIPELINE];
    o->seconds = n[SECONDS];
    o->warmup = n[WARMUP];
    o->messages = (uint64_t)n[MESSAGES];
    o->connects = (unsigned)n[CONNECTS];
    o->idle = (unsigned)n[IDLE];
    o->timeout = n[TIMEOUT];
}

static void set_word(options *o, int which, const char *text)
{
    if (which == HOST) {
        o->host = text;
    } else if (which == PATH) {
        o->path = text;
    } else if (which == JSON) {
        o->json = true;
    } else {
        o->opcode = which == TEXT ? 1 : 2;
    }
}

static void parse_options(options *o, int argc, char **argv)
{
    int which;
    double n[NUMBERS];

    for (int i = 0; i < NUMBERS; i++) {
        n[i] = numbers[i].initial;
    }
    while ((which = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (which == '?' || which == HELP) {
            fputs(usage, which == HELP ? stdout : stderr);
            exit(which == HELP ? 0 : 2);
        }
        if (which < NUMBERS) {
            n[which] = parse_number(which, optarg);
        } else {
            set_word(o, which, optarg);
        }
    }
    set_numbers(o, n);
    if (optind < argc || o->port == 0 || (o->idle > 0 && o->pid == 0)) {
        fputs(usage, stderr);
        exit(2);
    }
}

/* ---- main ---------------------------------------------------------------------------------- */

static void prepare(run *r)
{
    options *o = &r->options;
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    r->total = o->idle ? o->idle + IDLE_WARMUP : o->conns;
    r->clients = calloc(r->total, sizeof(client));
    if (r->clients == NULL) {
        die("no memory for %u connections", r->total);
    }
    r->now = measure_now();
    r->deadline = r->now + (uint64_t)((o->warmup + o->seconds + o->timeout) * SECOND);
    r->plan.poller = epoll_create1(EPOLL_CLOEXEC);
    r->plan.opcode = o->opcode;
    r->plan.size = o->size;
    r->plan.pipeline = o->pipeline;
    r->plan.address.sin_family = AF_INET;
    r->plan.address.sin_port = htons((uint16_t)o->port);
    if (inet_pton(AF_INET, o->host, &r->plan.address.sin_addr) != 1) {
        die("--host takes an IPv4 address");
    }
    plan_prepare(&r->plan, o->host, o->port, o->path);
}

int main(int argc, char **argv)
{
    static run r = {.options = {.host = "127.0.0.1", .path = "/", .opcode = 1}};

    parse_options(&r.options, argc, argv);
    prepare(&r);
    if (r.options.idle > 0) {
        run_idle(&r);
    } else if (r.options.connects > 0) {
        run_connect(&r);
    } else {
        run_echo(&r);
    }
    report(&r);
    return 0;
}
