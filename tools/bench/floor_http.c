/* SPDX-License-Identifier: MIT */
/*
 * floor_http.c: the minimum of work for an HTTP server, with which http.py compares other ones.
 *
 * It calls recv once into a shared buffer, looks for the end of each head and for Content-Length,
 * and calls send once for all responses. It answers GET /text with a fixed text, GET /file with a
 * file that it keeps in memory, and any POST with the number of bytes of its content, which it
 * does not look at. It checks nothing (no field, no limit, no timeout), and a head must arrive
 * whole. Never run it on a network.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 256 * 1024, PEERS_MAX = 4096, EVENTS_MAX = 512, HEAD_MAX = 128 };
enum { GONE_EVENTS = EPOLLRDHUP | EPOLLHUP | EPOLLERR };

typedef struct peer {
    uint64_t length, left; /* of the content that arrives */
    char *unsent;          /* bytes that the kernel refused; reading stops meanwhile */
    size_t unsent_at, unsent_end;
} peer;

static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                           "Content-Length: 14\r\n\r\nHello, world!\n";
static char buffer[BUFFER_SIZE];
static char *answers; /* what one recv is answered with */
static size_t answers_length, answers_room;
static char *file; /* the whole response */
static size_t file_length;
static peer peers[PEERS_MAX]; /* by descriptor */
static int poller;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int fd, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.fd = fd};

    if (epoll_ctl(poller, operation, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void drop(int fd)
{
    free(peers[fd].unsent);
    memset(&peers[fd], 0, sizeof(peers[fd]));
    close(fd);
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= PEERS_MAX) {
            close(fd);
            continue;
        }
        watch(fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
    }
}

/* ---- answers -------------------------------------------------------------------------------- */

static void answer(const char *data, size_t length)
{
    if (length > answers_room - answers_length) {
        answers_room = 2 * (answers_length + length);
        answers = realloc(answers, answers_room);
        if (answers == NULL) {
            die("realloc");
        }
    }
    memcpy(answers + answers_length, data, length);
    answers_length += length;
}

static bool send_all(int fd, peer *p, const char *data, size_t length)
{
    ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

    if (n == (ssize_t)length) {
        return true;
    }
    if (n < 0 && errno != EAGAIN) {
        return false;
    }
    p->unsent_at = 0;
    p->unsent_end = length - (n > 0 ? (size_t)n : 0);
    p->unsent = malloc(p->unsent_end);
    if (p->unsent == NULL) {
        return false;
    }
    memcpy(p->unsent, data + length - p->unsent_end, p->unsent_end);
    watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    return true;
}

static bool send_rest(int fd, peer *p)
{
    ssize_t n = send(fd, p->unsent + p->unsent_at, p->unsent_end - p->unsent_at, MSG_NOSIGNAL);

    if (n < 0) {
        return errno == EAGAIN;
    }
    p->unsent_at += (size_t)n;
    if (p->unsent_at == p->unsent_end) {
        free(p->unsent);
        p->unsent = NULL;
        watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
    }
    return true;
}

static void answer_content(const peer *p)
{
    char number[24], head[HEAD_MAX];
    int digits = snprintf(number, sizeof(number), "%llu", (unsigned long long)p->length);
    int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                         "Content-Length: %d\r\n\r\n%s", digits, number);

    answer(head, (size_t)n);
}

/* ---- requests ------------------------------------------------------------------------------- */

static uint64_t find_length(const char *at, const char *end)
{
    static const char name[] = "content-length:";

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if ((size_t)(end - at) > sizeof(name) &&
            strncasecmp(at, name, sizeof(name) - 1) == 0) {
            return strtoull(at + sizeof(name) - 1, NULL, 10);
        }
    }
    return 0;
}

/* Returns false if the peer must be dropped. */
static bool digest(peer *p, const char *at, const char *end)
{
    while (at < end) {
        if (p->left == 0) {
            const char *head = at;
            const char *stop = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
            if (stop == NULL) {
                return false;
            }
            at = stop + 4;
            if (head[0] == 'G' && head[5] == 't') {
                answer(text, sizeof(text) - 1);
                continue;
            }
            if (head[0] == 'G') {
                answer(file, file_length);
                continue;
            }
            p->length = p->left = find_length(head, stop);
        }
        size_t available = (size_t)(end - at);
        size_t taken = p->left < available ? (size_t)p->left : available;
        at += taken;
        p->left -= taken;
        if (p->left == 0) {
            answer_content(p);
        }
    }
    return true;
}

/* Edge-triggered: a short recv means that the socket is empty, unless the peer has closed. */
static void serve(int fd, uint32_t events)
{
    peer *p = &peers[fd];

    if (p->unsent != NULL && !send_rest(fd, p)) {
        drop(fd);
        return;
    }
    while (p->unsent == NULL) {
        ssize_t n = recv(fd, buffer, BUFFER_SIZE, 0);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        answers_length = 0;
        if (n <= 0 || !digest(p, buffer, buffer + n) ||
            (answers_length > 0 && !send_all(fd, p, answers, answers_length))) {
            drop(fd);
            return;
        }
        if (n < BUFFER_SIZE && (events & GONE_EVENTS) == 0) {
            return;
        }
    }
}

/* ---- the program ---------------------------------------------------------------------------- */

static int listen_on(uint16_t port)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        die("listen");
    }
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void read_file(const char *path)
{
    char head[HEAD_MAX];
    FILE *stream = fopen(path, "re");

    if (stream == NULL || fseek(stream, 0, SEEK_END) != 0) {
        die(path);
    }
    long size = ftell(stream);
    int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                         "Content-Length: %ld\r\n\r\n", size);
    file_length = (size_t)n + (size_t)size;
    file = malloc(file_length);
    rewind(stream);
    if (size < 0 || file == NULL || fread(file + n, 1, (size_t)size, stream) != (size_t)size) {
        die(path);
    }
    memcpy(file, head, (size_t)n);
    fclose(stream);
}

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS_MAX];

    if (argc != 2) {
        fprintf(stderr, "usage: floor_http FILE\n");
        return 2;
    }
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    read_file(argv[1]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(0);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(listener);
            } else {
                serve(events[i].data.fd, events[i].events);
            }
        }
    }
}
