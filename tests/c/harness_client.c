/* SPDX-License-Identifier: MIT */
/*
 * harness_client.c: the clients of harness.h, and the checks of what they and the server have seen.
 */
#include "harness_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

const char handshake_request[] = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

int client_socket(struct harness *h, int receive_buffer)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    address.sin_port = htons((uint16_t)h->port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (receive_buffer) {
        int segment = 1000; /* with larger ones a small window stalls */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void connect_with(struct client *c, struct harness *h, int receive_buffer)
{
    memset(c, 0, sizeof *c);
    c->h = h;
    c->served_fd = -1;
    c->fd = client_socket(h, receive_buffer);
    expect_fine(h, c->fd, "connect");
    turns(h, 1);
    c->tls = h->tls && c->fd >= 0 ? fake_peer_new() : NULL;
    for (int i = 0; i < 20 && c->tls && !c->tls->shaken && !c->eof && !c->reset; i++) {
        client_read(c);
        turns(h, 1);
    }
}

void client_connect(struct client *c, struct harness *h)
{
    connect_with(c, h, 0);
}

void client_connect_small(struct client *c, struct harness *h)
{
    connect_with(c, h, 4096);
}

/* Takes the response to the handshake from what was received. */
static void shake(struct client *c)
{
    client_write(c, handshake_request, strlen(handshake_request));
    turns(c->h, 2);
    client_read(c);
    char *end = c->in_length ? memmem(c->in, c->in_length, "\r\n\r\n", 4) : NULL;
    if (!end || memcmp(c->in, "HTTP/1.1 101", 12)) {
        expect_fine(c->h, WS_ECLOSED, "handshake");
        return;
    }
    size_t head = (size_t)(end - c->in) + 4;
    memmove(c->in, c->in + head, c->in_length - head);
    c->in_length -= head;
}

void client_open(struct client *c, struct harness *h)
{
    client_connect(c, h);
    shake(c);
}

void client_open_small(struct client *c, struct harness *h)
{
    client_connect_small(c, h);
    shake(c);
}

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    free(c->in);
    c->in = NULL;
    fake_peer_free(c->tls);
    c->tls = NULL;
    c->in_length = c->in_capacity = 0;
}

void client_reset(struct client *c)
{
    struct linger hard = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    client_close(c);
}

void client_finish(struct client *c)
{
    shutdown(c->fd, SHUT_WR);
}

/* Records that the kernel takes in part count as taken: their rest follows later. */
static size_t write_records(struct client *c, const char *bytes, size_t n)
{
    enum { SIZE = 4000 };
    size_t sent = 0;
    while (sent < n && fake_peer_flush(c->tls, c->fd)) {
        const size_t part = n - sent < SIZE ? n - sent : SIZE;
        fake_peer_queue(c->tls, FAKE_DATA, bytes + sent, part, SIZE);
        sent += part;
    }
    fake_peer_flush(c->tls, c->fd);
    return sent;
}

size_t client_write(struct client *c, const void *bytes, size_t n)
{
    size_t sent = 0;
    if (c->tls)
        return write_records(c, bytes, n);
    while (sent < n) {
        ssize_t m = send(c->fd, (const char *)bytes + sent, n - sent, MSG_NOSIGNAL);
        if (m <= 0)
            break;
        sent += (size_t)m;
    }
    return sent;
}

size_t make_frame(char *out, int first, const void *payload, size_t n)
{
    static const char key[4] = {0x37, (char)0xfa, 0x21, 0x3d};
    const char *bytes = payload;
    size_t at = 0;
    out[at++] = (char)first;
    if (n < 126) {
        out[at++] = (char)(0x80 | n);
    } else {
        int width = n < 65536 ? 2 : 8;
        out[at++] = (char)(0x80 | (n < 65536 ? 126 : 127));
        for (int i = width - 1; i >= 0; i--)
            out[at++] = (char)((uint64_t)n >> (8 * i) & 0xff);
    }
    memcpy(out + at, key, 4);
    at += 4;
    for (size_t i = 0; i < n; i++)
        out[at++] = (char)(bytes[i] ^ key[i & 3]);
    return at;
}

void client_frame(struct client *c, int first, const void *payload, size_t n)
{
    char *bytes = malloc(n + 14);
    if (bytes)
        client_write(c, bytes, make_frame(bytes, first, payload, n));
    free(bytes);
}

void client_say(struct client *c, const char *bytes)
{
    client_write(c, bytes, strlen(bytes));
}

void client_text(struct client *c, const char *text)
{
    client_frame(c, 0x81, text, strlen(text));
}

size_t make_close(char *out, int code, const char *reason)
{
    char body[125] = {(char)(code >> 8), (char)(code & 0xff)};
    size_t n = strlen(reason);
    memcpy(body + 2, reason, n);
    return make_frame(out, 0x88, body, code ? n + 2 : 0);
}

void client_send_close(struct client *c, int code, const char *reason)
{
    char bytes[140];
    client_write(c, bytes, make_close(bytes, code, reason));
}

/* Received bytes stand at the end of what was received; records become their content. */
static size_t take_records(struct client *c, size_t n)
{
    char *bytes = malloc(n);
    if (!bytes)
        abort();
    memcpy(bytes, c->in + c->in_length, n);
    n = fake_peer_take(c->tls, bytes, n, c->in + c->in_length);
    free(bytes);
    fake_peer_flush(c->tls, c->fd);
    return n;
}

void client_read_some(struct client *c, size_t limit)
{
    while (limit && c->fd >= 0 && !c->eof && !c->reset) {
        if (c->in_capacity - c->in_length < 65536) {
            c->in_capacity = c->in_capacity * 2 + 131072;
            c->in = realloc(c->in, c->in_capacity);
            if (!c->in)
                abort();
        }
        size_t room = c->in_capacity - c->in_length - (c->tls ? FAKE_RECORD_MAX : 0);
        ssize_t n = recv(c->fd, c->in + c->in_length, limit < room ? limit : room, 0);
        if (n > 0) {
            limit -= (size_t)n;
            c->records += (size_t)n;
            n = c->tls ? (ssize_t)take_records(c, (size_t)n) : n;
            c->received += (size_t)n;
            c->in_length += (size_t)n;
        } else if (!n) {
            c->eof = true;
        } else if (errno == EAGAIN || errno == EINTR) {
            return;
        } else {
            c->reset = true;
        }
    }
}

void client_read(struct client *c)
{
    if (c->tls && c->fd >= 0)
        fake_peer_flush(c->tls, c->fd);
    client_read_some(c, SIZE_MAX);
}

/* The port at one end of a socket; 0: it has none. */
static int port_of(int fd, int (*name)(int fd, struct sockaddr *address, socklen_t *length))
{
    struct sockaddr_in address = {.sin_family = AF_UNSPEC};
    socklen_t length = sizeof address;
    bool known = !name(fd, (struct sockaddr *)&address, &length) && address.sin_family == AF_INET;
    return known ? ntohs(address.sin_port) : 0;
}

/* The server's end of the connection, which is usually the next descriptor; -1: it is closed, or
 * in another process. */
static int served_fd(struct client *c)
{
    enum { FDS = 4096 };
    int port = port_of(c->fd, getsockname);
    if (c->served_fd >= 0 && port_of(c->served_fd, getpeername) == port)
        return c->served_fd;
    c->served_fd = -1;
    for (int i = 1; i < FDS && port && c->served_fd < 0; i++)
        if (port_of((c->fd + i) % FDS, getpeername) == port)
            c->served_fd = (c->fd + i) % FDS;
    return c->served_fd;
}

/* Bytes are in the kernel on their way to the client: a window that was full opens with timers of
 * the kernel, and what came while it was full is sent again. Programs with kernel.c have an ioctl
 * of their own. */
static bool is_under_way(struct client *c)
{
    int one = 1, bytes = 0;
    int fd = c->hasty || c->fd < 0 || c->eof || c->reset ? -1 : served_fd(c);
    if (fd < 0)
        return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one); /* acknowledges what came */
    return !syscall(SYS_ioctl, fd, SIOCOUTQ, &bytes) && bytes > 0;
}

/* True when something happens before all has arrived. That is looked at again and again: what a
 * client which has sent its FIN receives is acknowledged late, and with no event. */
static bool wait_for(struct client *c)
{
    enum { ATTEMPTS = 1000, MS = 10 };
    struct pollfd fds[2] = {{c->fd, POLLIN, 0}, {ws_server_fd(c->h->server), POLLIN, 0}};
    int attempts = 0;
    for (; attempts < ATTEMPTS && is_under_way(c); attempts++)
        if (poll(fds, 2, MS) > 0)
            return true;
    return attempts > 0 && poll(fds, 2, 0) > 0; /* the last of it may have come in between */
}

void client_drain(struct client *c)
{
    for (int quiet = 0, rounds = 0; quiet < 4 && rounds < 100000; rounds++) {
        size_t before = c->records;
        client_read(c);
        turns(c->h, 1);
        quiet = c->records == before ? quiet + 1 : 0;
        if (quiet == 3 && wait_for(c))
            quiet = 0;
    }
    client_read(c);
}

static char text[32768];

static size_t add(size_t at, const char *format, ...) __attribute__((format(printf, 2, 3)));
static size_t add(size_t at, const char *format, ...)
{
    va_list arguments;
    if (at > sizeof text - 256)
        return at;
    if (at)
        at += (size_t)snprintf(text + at, 8, ", ");
    va_start(arguments, format);
    vsnprintf(text + at, 200, format, arguments);
    va_end(arguments);
    return at + strlen(text + at);
}

static size_t add_end(const struct client *c, size_t at)
{
    if (c->in_length)
        at = add(at, "..%zu", c->in_length);
    if (c->eof)
        at = add(at, "EOF");
    return c->reset ? add(at, "RST") : at;
}

/* Takes n bytes off the front. */
static void consume(struct client *c, size_t n)
{
    c->in_length -= n;
    memmove(c->in, c->in + n, c->in_length);
}

static size_t add_frame(size_t at, const unsigned char *head, const char *payload, size_t n)
{
    int opcode = head[0] & 15;
    const char *name = opcode_names[opcode], *plus = head[0] & 0x80 ? "" : "+";
    const char *reserved = head[0] & 0x70 ? "!" : "";
    if (opcode == WS_CLOSE && n >= 2)
        return add(at, "CLOSE %d%s%.*s", (unsigned char)payload[0] << 8 | (unsigned char)payload[1],
                   n > 2 ? " " : "", (int)n - 2, payload + 2);
    if (n > 60)
        return add(at, "%s%s%s [%zu]", name, plus, reserved, n);
    return add(at, "%s%s%s%s%.*s", name, plus, reserved, n ? " " : "", (int)n, payload);
}

const char *client_frames(struct client *c)
{
    size_t at = 0, done = 0;
    text[0] = '\0';
    client_drain(c);
    for (;;) {
        const unsigned char *head = (const unsigned char *)c->in + done;
        size_t left = c->in_length - done, header = 2, n;
        if (left < 2)
            break;
        n = head[1]; /* the mask bit makes it wrong, and so does no server */
        if (n >= 126) {
            header = n == 126 ? 4 : 10;
            if (left < header)
                break;
            n = 0;
            for (size_t i = 2; i < header; i++)
                n = n << 8 | head[i];
        }
        if (left - header < n)
            break;
        at = add_frame(at, head, (const char *)head + header, n);
        done += header + n;
    }
    consume(c, done);
    add_end(c, at);
    return text;
}

const char *client_responses(struct client *c)
{
    size_t at = 0;
    text[0] = '\0';
    client_drain(c);
    for (;;) {
        char *end = c->in_length ? memmem(c->in, c->in_length, "\r\n\r\n", 4) : NULL;
        if (!end)
            break;
        size_t head = (size_t)(end - c->in) + 4;
        snprintf(c->head, sizeof c->head, "%.*s", (int)head, c->in);
        int status = atoi(c->head + 9);
        const char *field = strstr(c->head, "Content-Length: ");
        size_t body = field ? (size_t)atol(field + 16) : 0;
        if (c->in_length - head < body)
            body = c->in_length - head; /* cut */
        if (body >= 9 && !memcmp(c->in + head, "HTTP/1.1 ", 9))
            body = 0; /* the answer to HEAD */
        if (status >= 400 || !body)
            at = add(at, "%d", status);
        else if (body > 60)
            at = add(at, "%d [%zu]", status, body);
        else
            at = add(at, "%d %.*s", status, (int)body, c->in + head);
        consume(c, head + body);
        if (status == 101)
            break;
    }
    add_end(c, at);
    return text;
}

bool head_has(const struct client *c, const char *want)
{
    return strstr(c->head, want) != NULL;
}

/* ---- checks ---- */

bool is_events(struct harness *h, const char *want, const char *name)
{
    return is_text(harness_events(h), want, name);
}

bool is_frames(struct client *c, const char *want, const char *name)
{
    return is_text(client_frames(c), want, name);
}

bool is_responses(struct client *c, const char *want, const char *name)
{
    return is_text(client_responses(c), want, name);
}

void harness_stop(struct harness *h, const char *name)
{
    ok(harness_free(h), "T68: %s: one on_close for each on_open, all memory returned", name);
}
