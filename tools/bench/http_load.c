/* SPDX-License-Identifier: MIT */
/*
 * http_load.c: the load generator of http.py, with one thread and epoll. On each of its connections
 * it sends a number of equal requests, and sends them again when all of them are answered.
 *
 * Prints figures per request. Prints one line to stderr and exits with status 1 as soon as a
 * response has another status, length or content than was expected, or when the time is over.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "measure.h"
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, SECOND = 1000000000, BUFFER_SIZE = 256 * 1024, HEAD_MAX = 4096 };
enum { GONE_EVENTS = EPOLLRDHUP | EPOLLHUP | EPOLLERR };

static const char usage[] =
    "usage: http_load --port P --path T --expect FILE [options]\n"
    "  --expect FILE    every response must have the content of this file\n"
    "  --upload N       POST requests with N bytes of content, not GET\n"
    "  --pid N          process id of the server, to read its CPU time\n"
    "  --conns N        connections (100)\n"
    "  --pipeline N     requests in flight on each connection (1)\n"
    "  --spin           never sleep, so that the server does not have to wake up the generator\n"
    "  --seconds S      measured time (3); more until the server has used 20 ms of CPU time\n"
    "  --warmup S       time before it (0.5)\n"
    "  --requests N     exactly N requests in total, without warm-up, instead of --seconds\n"
    "  --timeout S      time limit for everything except warm-up and measured time (30)\n"
    "  --json           one JSON object instead of lines\n";

typedef struct client {
    int fd;
    unsigned asked, answered; /* requests of the round */
    size_t sent, to_send;     /* bytes of the round */
    uint64_t started;
    uint64_t quota;           /* --requests: what is left to send */
    size_t head_length;       /* of an incomplete head, in head */
    size_t got;               /* bytes of the content that have arrived */
    bool in_content;
    char head[HEAD_MAX];
} client;

enum { PORT, PID, CONNS, PIPELINE, UPLOAD, REQUESTS, SECONDS, WARMUP, TIMEOUT, NUMBERS };
enum { PATH = NUMBERS, EXPECT, SPIN, JSON, HELP };

static const struct option table[] = {
    {"port", 1, NULL, PORT},         {"pid", 1, NULL, PID},         {"conns", 1, NULL, CONNS},
    {"pipeline", 1, NULL, PIPELINE}, {"upload", 1, NULL, UPLOAD},   {"requests", 1, NULL, REQUESTS},
    {"seconds", 1, NULL, SECONDS},   {"warmup", 1, NULL, WARMUP},   {"timeout", 1, NULL, TIMEOUT},
    {"path", 1, NULL, PATH},         {"expect", 1, NULL, EXPECT},   {"spin", 0, NULL, SPIN},
    {"json", 0, NULL, JSON},         {"help", 0, NULL, HELP},       {NULL, 0, NULL, 0},
};

static const struct {
    double low, high, initial;
} numbers[NUMBERS] = {
    [PORT] = {1, 65535, 0},      [PID] = {1, 1 << 30, 0},    [CONNS] = {1, 10000, 100},
    [PIPELINE] = {1, 1024, 1},   [UPLOAD] = {0, 1 << 28, 0}, [REQUESTS] = {1, 1e12, 0},
    [SECONDS] = {0, 86400, 3},   [WARMUP] = {0, 3600, 0.5},  [TIMEOUT] = {0, 86400, 30},
};

static double number[NUMBERS];
static const char *path, *expect;
static bool spin, json;

static unsigned conns, pipeline;
static client *clients;
static int poller;
static char *round_of_requests, *expected;
static size_t request_length, expected_length;
static uint64_t now, deadline, done;
static unsigned at_work; /* clients with requests in flight */
static bool measuring, stopping;
static sample begin, end;
static histogram latency;

/* ---- responses ------------------------------------------------------------------------------ */

/* Checks a head, including the empty line (RFC 9112 section 2.1). */
static void check_head(const char *head, size_t length)
{
    static const char field[] = "\ncontent-length:";
    static const char status[] = "HTTP/1.1 200 ";
    const char *at = head, *stop = head + length;

    if (length < sizeof(status) || memcmp(head, status, sizeof(status) - 1) != 0) {
        die("not a 200: %.*s", (int)strcspn(head, "\r\n"), head);
    }
    while ((at = memchr(at, '\n', (size_t)(stop - at))) != NULL) {
        if ((size_t)(stop - at) > sizeof(field) &&
            strncasecmp(at, field, sizeof(field) - 1) == 0) {
            unsigned long long value = strtoull(at + sizeof(field) - 1, NULL, 10);
            if (value != expected_length) {
                die("a response of %llu bytes, not %zu", value, expected_length);
            }
            return;
        }
        at++;
    }
    die("a response without Content-Length");
}

/* Returns the bytes of `data` that belong to the head; if it is complete, the content follows. */
static size_t take_head(client *c, const char *data, size_t length)
{
    const char *stop = c->head_length == 0 ? memmem(data, length, "\r\n\r\n", 4) : NULL;
    size_t before = c->head_length, taken = length;

    if (stop != NULL) {
        check_head(data, (size_t)(stop - data) + 4);
        c->in_content = true;
        return (size_t)(stop - data) + 4;
    }
    if (taken > HEAD_MAX - 1 - before) {
        taken = HEAD_MAX - 1 - before;
    }
    memcpy(c->head + before, data, taken);
    c->head[before + taken] = '\0';
    stop = memmem(c->head, before + taken, "\r\n\r\n", 4);
    if (stop == NULL) {
        if (taken < length) {
            die("a head of more than %d bytes", HEAD_MAX - 1);
        }
        c->head_length += taken;
        return taken;
    }
    check_head(c->head, (size_t)(stop - c->head) + 4);
    c->in_content = true;
    c->head_length = 0;
    return (size_t)(stop - c->head) + 4 - before;
}

static size_t take_content(client *c, const char *data, size_t length)
{
    if (length > expected_length - c->got) {
        length = expected_length - c->got;
    }
    if (memcmp(data, expected + c->got, length) != 0) {
        die("the content of a response is wrong");
    }
    c->got += length;
    return length;
}

/* Returns how many responses are complete. */
static unsigned take(client *c, const char *data, size_t length)
{
    unsigned complete = 0;
    size_t at = 0;

    while (at < length) {
        if (c->answered + complete == c->asked) {
            die("more responses than requests");
        }
        at += c->in_content ? take_content(c, data + at, length - at)
                            : take_head(c, data + at, length - at);
        if (c->in_content && c->got == expected_length) {
            c->in_content = false;
            c->got = 0;
            complete++;
        }
    }
    return complete;
}

/* ---- connections ---------------------------------------------------------------------------- */

/* Edge-triggered: writing goes on when epoll reports that there is room again. */
static void send_more(client *c)
{
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, round_of_requests + c->sent, c->to_send - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            die("send: %s", strerror(errno));
        }
        c->sent += (size_t)n;
    }
}

static void send_round(client *c)
{
    unsigned count = pipeline;

    if (number[REQUESTS] > 0 && c->quota < count) {
        count = (unsigned)c->quota;
    }
    if (stopping || count == 0) {
        at_work--;
        return;
    }
    c->quota -= count;
    c->asked = count;
    c->answered = 0;
    c->sent = 0;
    c->to_send = request_length * count;
    c->started = measure_now();
    send_more(c);
}

static void on_responses(client *c, unsigned complete)
{
    c->answered += complete;
    done += complete;
    if (measuring && complete > 0) {
        histogram_add(&latency, measure_now() - c->started, complete);
    }
    if (complete > 0 && c->answered == c->asked) {
        if (c->sent < c->to_send) {
            die("a request was answered before all of it was sent");
        }
        send_round(c);
    }
}

/* A short recv means that the socket is empty, unless the server has closed the connection. */
static void receive(client *c, uint32_t events)
{
    static char buffer[BUFFER_SIZE];

    for (;;) {
        ssize_t n = recv(c->fd, buffer, BUFFER_SIZE, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            die("the server has closed the connection%s%s", n < 0 ? ": " : "",
                n < 0 ? strerror(errno) : "");
        }
        on_responses(c, take(c, buffer, (size_t)n));
        if (n < BUFFER_SIZE && (events & GONE_EVENTS) == 0) {
            return;
        }
    }
}

static void turn(uint64_t until)
{
    static struct epoll_event events[EVENTS_MAX];
    int wait = until > now && !spin ? (int)((until - now) / 1000000) + 1 : 0;
    int n = epoll_wait(poller, events, EVENTS_MAX, wait < 100 ? wait : 100);

    for (int i = 0; i < n; i++) {
        client *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) {
            send_more(c);
        }
        if (events[i].events & ~(uint32_t)EPOLLOUT) {
            receive(c, events[i].events);
        }
    }
    now = measure_now();
    if (now > deadline) {
        die("timeout: %llu requests done, %u connections wait", (unsigned long long)done, at_work);
    }
}

static void pass(double seconds)
{
    uint64_t until = now + (uint64_t)(seconds * SECOND);

    while (now < until) {
        turn(until);
    }
}

static void connect_client(client *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    int one = 1;

    address.sin_port = htons((uint16_t)number[PORT]);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        die("connect: %s", strerror(errno));
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    event.data.ptr = c;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

/* ---- the run -------------------------------------------------------------------------------- */

static void read_expected(void)
{
    FILE *file = fopen(expect, "re");
    long size = -1;

    if (file != NULL && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
    }
    if (size <= 0) {
        die("--expect %s: cannot be read, or is empty", expect);
    }
    expected_length = (size_t)size;
    expected = malloc(expected_length);
    rewind(file);
    if (expected == NULL || fread(expected, 1, expected_length, file) != expected_length) {
        die("--expect %s: cannot be read", expect);
    }
    fclose(file);
}

static void compose(void)
{
    char head[1024], length[128] = "";
    size_t upload = (size_t)number[UPLOAD];

    if (upload > 0) {
        snprintf(length, sizeof(length),
                 "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n", upload);
    }
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: bench\r\n"
                     "Accept: */*\r\n%s\r\n",
                     upload > 0 ? "POST" : "GET", path, (int)number[PORT], length);
    if (n < 0 || (size_t)n >= sizeof(head)) {
        die("--path is too long");
    }
    request_length = (size_t)n + upload;
    round_of_requests = malloc(request_length * pipeline);
    if (round_of_requests == NULL) {
        die("out of memory for the requests");
    }
    for (unsigned i = 0; i < pipeline; i++) {
        char *at = round_of_requests + i * request_length;
        memcpy(at, head, (size_t)n);
        for (size_t j = 0; j < upload; j++) {
            at[(size_t)n + j] = (char)('a' + j % 26);
        }
    }
}

static void start_rounds(void)
{
    uint64_t share = (uint64_t)number[REQUESTS] / conns, rest = (uint64_t)number[REQUESTS] % conns;

    at_work = conns;
    for (unsigned i = 0; i < conns; i++) {
        clients[i].quota = share + (i < rest);
        send_round(&clients[i]);
    }
}

static void finish_rounds(void)
{
    while (at_work > 0) {
        turn(deadline);
    }
}

static void measure(void)
{
    bool timed = number[REQUESTS] <= 0;

    if (timed) {
        start_rounds();
        pass(number[WARMUP]);
    }
    measuring = true;
    sample_take(&begin, (pid_t)number[PID], done);
    if (timed) {
        pass(number[SECONDS]);
        while (!sample_suffices(&begin, (pid_t)number[PID], done)) {
            turn(deadline);
        }
    } else {
        start_rounds();
        finish_rounds();
    }
    sample_take(&end, (pid_t)number[PID], done);
    measuring = false;
    stopping = true;
    finish_rounds();
}

static void report(void)
{
    report_begin(json);
    report_text("mode", "http");
    report_number("conns", conns, 0);
    report_number("pipeline", pipeline, 0);
    report_number("upload", number[UPLOAD], 0);
    report_number("size", (double)expected_length, 0);
    report_rates(&begin, &end, &latency, (pid_t)number[PID], "request", "requests");
    report_end();
}

/* ---- options -------------------------------------------------------------------------------- */

static void parse_number(int which, const char *text)
{
    char *stop;
    double value = strtod(text, &stop);

    if (stop == text || *stop != '\0' ||
        !(value >= numbers[which].low && value <= numbers[which].high)) {
        die("--%s takes a number from %.0f to %.0f", table[which].name, numbers[which].low,
            numbers[which].high);
    }
    number[which] = value;
}

static void parse_options(int argc, char **argv)
{
    int which;

    for (int i = 0; i < NUMBERS; i++) {
        number[i] = numbers[i].initial;
    }
    while ((which = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (which == '?' || which == HELP) {
            fputs(usage, which == HELP ? stdout : stderr);
            exit(which == HELP ? 0 : 2);
        }
        if (which < NUMBERS) {
            parse_number(which, optarg);
        } else if (which == PATH || which == EXPECT) {
            *(which == PATH ? &path : &expect) = optarg;
        } else {
            *(which == SPIN ? &spin : &json) = true;
        }
    }
    if (optind < argc || number[PORT] <= 0 || path == NULL || expect == NULL) {
        fputs(usage, stderr);
        exit(2);
    }
    conns = (unsigned)number[CONNS];
    pipeline = (unsigned)number[PIPELINE];
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    read_expected();
    compose();
    now = measure_now();
    deadline = now + (uint64_t)((number[WARMUP] + number[SECONDS] + number[TIMEOUT]) * SECOND);
    poller = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(conns, sizeof(client));
    if (clients == NULL) {
        die("out of memory for %u connections", conns);
    }
    for (unsigned i = 0; i < conns; i++) {
        connect_client(&clients[i]);
    }
    measure();
    report();
    return 0;
}
