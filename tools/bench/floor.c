/* SPDX-License-Identifier: MIT */
/*
 * floor.c: the minimum of work for an echo server, with which other servers are compared.
 *
 * It calls recv once into a shared buffer, shortens headers and unmasks payloads in place, and
 * calls send once for everything that it received. It checks nothing (no UTF-8, no RFC rule, no
 * limit, no timeout, and it assumes that every frame is masked) and assembles nothing: it forwards
 * the bytes of an incomplete frame as they arrive. Never run it on a network.
 *
 * Connections to /broadcast form one group: the frames of a recv, converted in the same way, go to
 * each member in one send. It forwards only complete frames there, and a split one may have at most
 * 4 KiB.
 *
 * With FLOOR_TLS it speaks TLS, by one SSL_read and one SSL_write for each record, which is what
 * OpenSSL needs at least. With --release it has no buffers for idle connections.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "accept.h"
#include "secure.h"

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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 256 * 1024, HELD_MAX = 4096, EVENTS_MAX = 512, KEY_LENGTH = 24 };
enum { GONE_EVENTS = EPOLLRDHUP | EPOLLHUP | EPOLLERR };

typedef struct peer {
    uint64_t left;        /* payload bytes of the current frame that have not arrived */
    unsigned char key[4]; /* its mask, rotated so that key[0] is for the next byte */
    bool open;            /* the 101 is sent */
    bool closing;         /* a Close was echoed */
    bool member;          /* is in the group */
    unsigned place;       /* its index in members */
    unsigned held_length; /* bytes in held: an incomplete request or frame header */
    char *held;           /* HELD_MAX bytes, allocated when needed */
    char *unsent;         /* bytes that the kernel refused; reading stops meanwhile */
    size_t unsent_at, unsent_end;
#ifdef FLOOR_TLS
    struct ssl_st *ssl;
#endif
} peer;

static unsigned char buffer[BUFFER_SIZE];
static peer *peers; /* by descriptor */
static int *members; /* their descriptors */
static unsigned member_count;
static int poller;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- the socket --------------------------------------------------------------------------- */

#ifdef FLOOR_TLS
enum { RECEIVES_ALL = 0 }; /* recv returns a record, and there may be more */
static struct ssl_ctx_st *context;

static void begin(int fd)
{
    if ((peers[fd].ssl = secure_begin(context, fd)) == NULL) {
        die("TLS");
    }
}

static ssize_t transmit(int fd, const void *data, size_t length)
{
    size_t sent = 0;
    ssize_t n = 0;

    while (sent < length && (n = secure_send(peers[fd].ssl, (const char *)data + sent,
                                             length - sent)) > 0) {
        sent += (size_t)n;
    }
    return sent > 0 ? (ssize_t)sent : n;
}

static ssize_t receive(int fd, void *to, size_t size)
{
    return secure_recv(peers[fd].ssl, to, size);
}

static void end(int fd)
{
    secure_end(peers[fd].ssl);
}

static void prepare_tls(int argc, char **argv)
{
    bool release = argc == 8 && strcmp(argv[7], "--release") == 0;

    if ((argc != 7 && !release) || strcmp(argv[3], "--cert") != 0 ||
        strcmp(argv[5], "--key") != 0) {
        fprintf(stderr, "usage: floor_tls --port PORT --cert FILE --key FILE [--release]\n");
        exit(2);
    }
    if ((context = secure_servers(argv[4], argv[6], release)) == NULL) {
        fprintf(stderr, "floor_tls: %s\n", secure_error());
        exit(1);
    }
}
#else
enum { RECEIVES_ALL = 1 };

static void begin(int fd)
{
    (void)fd;
}

static ssize_t transmit(int fd, const void *data, size_t length)
{
    return send(fd, data, length, MSG_NOSIGNAL);
}

static ssize_t receive(int fd, void *to, size_t size)
{
    return recv(fd, to, size, 0);
}

static void end(int fd)
{
    (void)fd;
}

static void prepare_tls(int argc, char **argv)
{
    (void)argv;
    if (argc != 3) {
        fprintf(stderr, "usage: floor --port PORT\n");
        exit(2);
    }
}
#endif

/* ---- connections -------------------------------------------------------------------------- */

static void watch(int fd, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.fd = fd};

    if (epoll_ctl(poller, operation, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

static void join(int fd, peer *p)
{
    p->member = true;
    p->place = member_count;
    members[member_count++] = fd;
}

/* The last member takes its place in the array. */
static void part(const peer *p)
{
    int last = members[--member_count];

    members[p->place] = last;
    peers[last].place = p->place;
}

static void drop(int fd)
{
    if (peers[fd].member) {
        part(&peers[fd]);
    }
    end(fd);
    free(peers[fd].held);
    free(peers[fd].unsent);
    memset(&peers[fd], 0, sizeof(peers[fd]));
    close(fd);
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        begin(fd);
        watch(fd, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
    }
}

/* Returns false if the peer is gone for any reason. */
static bool hold(peer *p, const unsigned char *data, size_t length)
{
    if (length > HELD_MAX || (p->held == NULL && (p->held = malloc(HELD_MAX)) == NULL)) {
        return false;
    }
    memcpy(p->held, data, length);
    p->held_length = (unsigned)length;
    return true;
}

static bool send_all(int fd, peer *p, const void *data, size_t length)
{
    ssize_t n = transmit(fd, data, length);

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
    memcpy(p->unsent, (const char *)data + length - p->unsent_end, p->unsent_end);
    watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    return true;
}

static bool send_rest(int fd, peer *p)
{
    ssize_t n = transmit(fd, p->unsent + p->unsent_at, p->unsent_end - p->unsent_at);

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

/* ---- opening handshake -------------------------------------------------------------------- */

static const char *find_key(const char *at, const char *end)
{
    static const char name[] = "sec-websocket-key:";

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if ((size_t)(end - at) > sizeof(name) + KEY_LENGTH &&
            strncasecmp(at, name, sizeof(name) - 1) == 0) {
            at += sizeof(name) - 1;
            return at + strspn(at, " \t");
        }
    }
    return NULL;
}

/* Returns the size of the answered request head, 0 if it is incomplete, or -1 to drop the peer. */
static int shake_hands(int fd, peer *p, unsigned char *data, size_t length)
{
    static char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Accept: "
                           "0123456789012345678901234567\r\n\r\n";
    static const char group[] = "GET /broadcast ";
    char *value = answer + sizeof(answer) - 1 - 4 - ACCEPT_LENGTH;
    const char *start = (const char *)data;
    const char *end = memmem(data, length, "\r\n\r\n", 4);
    const char *key;
    char accept[ACCEPT_LENGTH + 1];

    if (end == NULL) {
        return hold(p, data, length) ? 0 : -1;
    }
    end += 4;
    key = find_key(start, end);
    if (key == NULL || end - key < KEY_LENGTH) {
        return -1;
    }
    accept_value(key, accept);
    memcpy(value, accept, ACCEPT_LENGTH);
    p->open = true;
    if (memcmp(start, group, sizeof(group) - 1) == 0) {
        join(fd, p);
    }
    return send_all(fd, p, answer, sizeof(answer) - 1) ? (int)(end - start) : -1;
}

/* ---- frames ------------------------------------------------------------------------------- */

typedef uint64_t lanes __attribute__((vector_size(16)));

static lanes load(const unsigned char *from, lanes mask)
{
    lanes block;

    memcpy(&block, from, sizeof(block));
    return block ^ mask;
}

/* Copies and unmasks (RFC 6455 5.3); `to` is at or before `from`, so a block is read before it
 * can be overwritten. */
static void unmask(unsigned char *to, const unsigned char *from, size_t length,
                   const unsigned char key[4])
{
    uint32_t word;
    size_t i = 0;

    memcpy(&word, key, 4);
    const uint64_t pair = (uint64_t)word << 32 | word;
    const lanes mask = {pair, pair};
    for (; i + 64 <= length; i += 64) {
        const lanes a = load(from + i, mask), b = load(from + i + 16, mask);
        const lanes c = load(from + i + 32, mask), d = load(from + i + 48, mask);
        memcpy(to + i, &a, 16);
        memcpy(to + i + 16, &b, 16);
        memcpy(to + i + 32, &c, 16);
        memcpy(to + i + 48, &d, 16);
    }
    for (; i + 8 <= length; i += 8) {
        uint64_t block;
        memcpy(&block, from + i, 8);
        block ^= pair;
        memcpy(to + i, &block, 8);
    }
    for (; i < length; i++) {
        to[i] = from[i] ^ key[i & 3];
    }
}

/* Returns the size of the masked header at `at` (RFC 6455 5.2), or 0 if it is incomplete. */
static size_t read_header(const unsigned char *at, size_t length, uint64_t *payload)
{
    size_t size = 6;

    if (length < size) {
        return 0;
    }
    *payload = at[1] & 0x7f;
    if (*payload >= 126) {
        size_t extra = *payload == 126 ? 2 : 8;
        size += extra;
        *payload = 0;
        for (size_t i = 0; i < extra; i++) {
            *payload = *payload << 8 | at[2 + i];
        }
    }
    return length < size ? 0 : size;
}

/* Moves the available part of the current payload and returns its size. */
static size_t move_payload(peer *p, unsigned char *to, const unsigned char *from, size_t length)
{
    unsigned char turned[4];

    if (length >= p->left) {
        length = (size_t)p->left;
        unmask(to, from, length, p->key);
        p->left = 0;
        return length;
    }
    unmask(to, from, length, p->key);
    for (unsigned i = 0; i < 4; i++) {
        turned[i] = p->key[(i + length) & 3];
    }
    memcpy(p->key, turned, 4);
    p->left -= length;
    return length;
}

/* Writes the answer in front of the unread input. An unmasked header is 4 bytes shorter, so the
 * first payload stays in place and the next ones move down. */
static bool echo(int fd, peer *p, unsigned char *at, unsigned char *end)
{
    unsigned char *first = at, *last = at;

    for (;;) {
        size_t moved = move_payload(p, last, at, (size_t)(end - at));
        at += moved;
        last += moved;
        if (at == end) {
            break;
        }
        size_t header = read_header(at, (size_t)(end - at), &p->left);
        if (header == 0) {
            if (!hold(p, at, (size_t)(end - at))) {
                return false;
            }
            break;
        }
        if (last == first) {
            first = last = at + 4;
        }
        memcpy(p->key, at + header - 4, 4);
        p->closing |= (at[0] & 0x0f) == 8;
        memmove(last, at, header - 4);
        last[1] &= 0x7f;
        last += header - 4;
        at += header;
    }
    return last == first || send_all(fd, p, first, (size_t)(last - first));
}

/* ---- the group ----------------------------------------------------------------------------- */

/* A member that is gone is dropped when epoll reports it. */
static void send_member(int fd, const void *data, size_t length)
{
    peer *p = &peers[fd];

    if (p->unsent == NULL) {
        (void)send_all(fd, p, data, length);
        return;
    }
    char *unsent = realloc(p->unsent, p->unsent_end + length);
    if (unsent == NULL) {
        die("realloc");
    }
    memcpy(unsent + p->unsent_end, data, length);
    p->unsent = unsent;
    p->unsent_end += length;
}

/* Like echo, but to all members. A Close and what follows it goes back to its sender. */
static bool spread(int fd, peer *p, unsigned char *at, unsigned char *end)
{
    unsigned char *first = at + 4, *last = first;
    bool closing = false;

    for (;;) {
        uint64_t payload = 0;
        size_t header = read_header(at, (size_t)(end - at), &payload);
        closing = header > 0 && (at[0] & 0x0f) == 8;
        if (header == 0 || closing || payload > (size_t)(end - at) - header) {
            break;
        }
        unsigned char key[4];
        memcpy(key, at + header - 4, 4);
        memmove(last, at, header - 4);
        last[1] &= 0x7f;
        last += header - 4;
        unmask(last, at + header, (size_t)payload, key);
        last += payload;
        at += header + payload;
    }
    for (unsigned i = 0; i < member_count && last > first; i++) {
        send_member(members[i], first, (size_t)(last - first));
    }
    if (closing) {
        return echo(fd, p, at, end);
    }
    return at == end || hold(p, at, (size_t)(end - at));
}

/* ---- the loop ----------------------------------------------------------------------------- */

/* Returns false if the peer must be dropped. */
static bool digest(int fd, peer *p, size_t length)
{
    int head = 0;

    p->held_length = 0;
    if (!p->open) {
        head = shake_hands(fd, p, buffer, length);
        if (head <= 0 || (size_t)head == length) {
            return head >= 0;
        }
    }
    if (!(p->member ? spread : echo)(fd, p, buffer + head, buffer + length)) {
        return false;
    }
    return !p->closing || p->left > 0;
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
        size_t held = p->held_length;
        if (held > 0) {
            memcpy(buffer, p->held, held);
        }
        ssize_t n = receive(fd, buffer + held, BUFFER_SIZE - held);
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0 || !digest(fd, p, held + (size_t)n)) {
            drop(fd);
            return;
        }
        if (RECEIVES_ALL && held + (size_t)n < BUFFER_SIZE && (events & GONE_EVENTS) == 0) {
            return;
        }
    }
}

static int listen_on(uint16_t port)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    /* Accepted sockets inherit it, which saves a call for each. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        die("listen");
    }
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

static void allocate_peers(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max > 1 << 20) {
        limit.rlim_max = 1 << 20;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    peers = calloc((size_t)limit.rlim_cur, sizeof(peer));
    members = calloc((size_t)limit.rlim_cur, sizeof(int));
    if (peers == NULL || members == NULL) {
        die("calloc");
    }
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS_MAX];

    if (argc < 3 || strcmp(argv[1], "--port") != 0) {
        argc = 0; /* prints the usage */
    }
    prepare_tls(argc, argv);
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    allocate_peers();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on((uint16_t)atoi(argv[2]));
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
