/* SPDX-License-Identifier: MIT */
/*
 * soak_peers.c: the peers of test_soak.c, see soak.h: they come in all ways, say right and wrong
 * things, check what they receive, and leave in all ways.
 */
#include "soak.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct ws__deflate_terms isolated = {9, 15, 1, true, true, false, false};

/* ---- the peers: what they say ---- */

/* From changing addresses: their ports rest for a minute after some ways to close. */
static int dial(uint32_t nth, bool small)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, size = 4096;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + nth / 4096 % 200);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)h.port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (small)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&from, sizeof from))
        fault("bind", errno);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fault("connect", errno);
    return fd;
}

static void flush(struct peer *p)
{
    if (p->tls) {
        fake_peer_flush(p->tls, p->fd);
        return;
    }
    ssize_t n = p->out_length ? send(p->fd, p->out, p->out_length, MSG_NOSIGNAL) : 0;
    if (n <= 0)
        return;
    p->out_length -= (size_t)n;
    memmove(p->out, p->out + n, p->out_length);
}

/* Bytes that the kernel has not taken. */
static size_t waiting(const struct peer *p)
{
    return p->tls ? p->tls->out_length + p->tls->later_length : p->out_length;
}

bool say(struct peer *p, const void *bytes, size_t n)
{
    if (waiting(p) > 4 * ROOM || p->finished)
        return false;
    if (!n)
        return true; /* there may be no buffer yet */
    if (p->tls) {
        fake_peer_queue(p->tls, FAKE_DATA, bytes, n, 1 + draw(16384));
        flush(p);
        return true;
    }
    if (p->out_size < p->out_length + n) {
        p->out_size = (p->out_length + n) * 2;
        p->out = realloc(p->out, p->out_size);
        if (!p->out)
            abort();
    }
    memcpy(p->out + p->out_length, bytes, n);
    p->out_length += n;
    flush(p);
    return true;
}

static bool say_frame(struct peer *p, int first, const void *payload, size_t n)
{
    return say(p, framed, make_frame(framed, first, payload, n));
}

size_t make_request(const struct peer *p, char text[512])
{
    static const char *const offers[] = {"", "permessage-deflate",
                                         "permessage-deflate; client_max_window_bits",
                                         "permessage-deflate; server_no_context_takeover"};
    const char *offer = offers[draw(4)];
    return (size_t)snprintf(text, 512,
                            "GET %s?%d.%u HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n%s%s%s"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                            p->path, (int)(p - peers), (unsigned)p->serial,
                            *offer ? "Sec-WebSocket-Extensions: " : "", offer,
                            *offer ? "\r\n" : "");
}

void peer_connect(struct peer *p, const char *path, bool small)
{
    static uint32_t serial;
    struct peer fresh = {.in = p->in, .in_size = p->in_size, .out = p->out, .out_size = p->out_size,
                         .message = p->message};
    *p = fresh;
    p->serial = ++serial;
    p->fd = dial(serial, small);
    p->tls = over_tls() ? fake_peer_new() : NULL;
    p->app = -1;
    p->path = path;
    if (!p->message)
        p->message = malloc(2 * ROOM);
    if (!p->message)
        abort();
}

void peer_leave(struct peer *p, bool reset)
{
    struct linger hard = {1, 0};
    if (reset)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    count.resets += reset;
    close(p->fd);
    p->fd = -1;
    fake_peer_free(p->tls);
    p->tls = NULL;
    ws__deflate_streams_deinit(&pool, &p->streams);
}

void say_close(struct peer *p, int code)
{
    char bytes[140];
    if (say(p, bytes, make_close(bytes, code, "")))
        p->said_close = true;
}

void say_message(struct peer *p, size_t n)
{
    struct ws__deflate_streams none = {NULL, NULL};
    int first = draw(2) ? 0x81 : 0x82;
    const char *bytes = scratch;
    if (n)
        make_message(scratch, 'c', p->said, n);
    if (n && p->deflate && draw(2) &&
        !ws__deflate_compress(&pool, &isolated, &none, scratch, n, true, true, &bytes, &n))
        first |= 0x40;
    bool numbered = n > 0;
    if (n > 4 && draw(3) == 0) { /* in pieces, a Ping between them */
        size_t half = draw((uint32_t)n);
        char ping[8];
        if (waiting(p) > ROOM)
            return;
        put_digits(ping, ++p->pinged, 5);
        say_frame(p, first & 0x7f, bytes, half);
        say_frame(p, 0x89, ping, 5);
        say_frame(p, 0, bytes + half, 0);
        say_frame(p, 0x80, bytes + half, n - half);
    } else if (!say_frame(p, first, bytes, n)) {
        return;
    }
    p->said += numbered;
}

static void say_nonsense(struct peer *p)
{
    static const char *const bytes[] = {"\x81\x01x", "\xf1\x80mask", "\x83\x80mask", "\x89\xfe\1\1",
                                        "\x80\x80mask", "\x81\xfe\0\1", "\x88\x81maskx"};
    static const uint8_t lengths[] = {3, 6, 6, 4, 6, 4, 7};
    uint32_t i = draw(7);
    say(p, bytes[i], lengths[i]);
    p->finished = p->broken = true;
}

/* ---- the peers: what they get ---- */

static void pongs_are_mine(struct peer *p, const char *payload, size_t n)
{
    uint32_t number = n == 5 ? get_digits(payload, 5) : 0;
    if (!number || number <= p->ponged || number > p->pinged)
        fault("a Pong to no Ping", (long)n);
    p->ponged = number;
}

/* A whole message has come. */
static bool take_message(struct peer *p, char *data, size_t n)
{
    const struct ws__deflate_terms terms = {15, 15, 8, false, p->isolated, false, false};
    struct ws__inflation m = {.limit = ROOM, .text = p->opcode == WS_TEXT, .budget = SIZE_MAX};
    if (p->compressed &&
        ws__deflate_decompress(&pool, &terms, &p->streams, &m, data, n, &data, &n))
        return fault("a compressed message does not inflate", (long)n);
    p->opcode = 0;
    count.delivered++;
    p->got += !n || data[0] == 's';
    if (!n)
        return true;
    if (!is_message(data, n) || (data[0] != 's' && data[0] != 'p'))
        return fault("a message was not what was sent", (long)n);
    uint32_t number = get_digits(data + 1, 5);
    if (number < p->last)
        return fault("messages out of order", (long)number);
    p->last = number + 1;
    return true;
}

/* Nothing comes after it, and all that was sent came before it (RFC 6455 5.5.1). */
static bool take_close(struct peer *p, const char *payload, size_t n)
{
    int code = n >= 2 ? (uint8_t)payload[0] << 8 | (uint8_t)payload[1] : 1005;
    const struct app *a = p->app >= 0 ? &apps[p->app] : NULL;
    p->phase = OVER;
    count.closes++;
    if (n == 1 || code < 1000)
        return fault("a wrong Close", code);
    if (a && a->peer == (int)(p - peers) && !a->inexact) {
        count.compared++;
        if (a->promised != p->got) {
            diag("%s: %u promised, %u came, Close %d %.*s", p->path, (unsigned)a->promised,
                 (unsigned)p->got, code, n > 2 ? (int)n - 2 : 0, payload + 2);
            return fault("messages are missing at the Close", code);
        }
    }
    if (!p->said_close && !p->broken && draw(8))
        say_close(p, code);
    return true;
}

static bool take_control(struct peer *p, int opcode, const char *payload, size_t n)
{
    if (opcode == WS_CLOSE)
        return take_close(p, payload, n);
    if (opcode == WS_PONG)
        pongs_are_mine(p, payload, n);
    if (opcode == WS_PING && !p->mute && !p->said_close)
        say_frame(p, 0x8a, payload, n);
    return opcode <= WS_PONG || fault("an unknown opcode", opcode);
}

/* The rules for what a server may send: RFC 6455 5.1, 5.2, 5.4, 5.5, RFC 7692 6. */
static bool take_frame(struct peer *p, uint8_t first, char *payload, size_t n)
{
    int opcode = first & 15;
    bool fin = first & 0x80;
    if (opcode >= WS_CLOSE)
        return (fin && n < 126 && !(first & 0x70)) ? take_control(p, opcode, payload, n)
                                                   : fault("a wrong control frame", first);
    if (opcode > WS_BINARY || !opcode != !!p->opcode || first & 0x30 ||
        (first & 0x40 && (!p->deflate || !opcode)))
        return fault("a wrong data frame", first);
    if (opcode) {
        p->opcode = opcode;
        p->compressed = first & 0x40;
        p->message_length = 0;
        if (fin)
            return take_message(p, payload, n);
    }
    if (p->message_length + n > 2 * ROOM)
        return fault("a message is too long", (long)n);
    memcpy(p->message + p->message_length, payload, n);
    p->message_length += n;
    return !fin || take_message(p, p->message, p->message_length);
}

/* Its bytes; 0: not all are there. */
static size_t take_whole_frame(struct peer *p, char *bytes, size_t n)
{
    uint8_t *head = (uint8_t *)bytes;
    size_t header = n < 2 ? 2 : head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10, length = 0;
    if (n < header)
        return 0;
    for (size_t i = 2; i < header; i++)
        length = length << 8 | head[i];
    if (header == 2)
        length = head[1];
    if (head[1] & 0x80 || length < (header == 10 ? 65536u : header == 4 ? 126u : 0u))
        fault("a wrong length", (long)length);
    if (n - header < length)
        return 0;
    if (p->phase == OVER)
        fault("a frame after the Close", head[0]);
    take_frame(p, head[0], bytes + header, length);
    return header + length;
}

static size_t take_answer(struct peer *p, char *bytes, size_t n)
{
    char *end = memmem(bytes, n, "\r\n\r\n", 4), head[1024];
    if (!end)
        return 0;
    size_t length = (size_t)(end - bytes) + 4, body = 0;
    snprintf(head, sizeof head, "%.*s", (int)length, bytes);
    int status = memcmp(head, "HTTP/1.1 ", 9) ? 0 : atoi(head + 9);
    const char *field = strstr(head, "Content-Length: ");
    if (status == 101) {
        p->phase = FRAMES;
        p->deflate = strstr(head, "permessage-deflate") != NULL;
        p->isolated = strstr(head, "server_no_context_takeover") != NULL;
        return length;
    }
    if (status < 200 || status > 599 || !field)
        fault("a wrong answer", status);
    body = field ? (size_t)atol(field + 16) : 0;
    return n - length < body ? 0 : length + body;
}

static void parse(struct peer *p)
{
    size_t done = 0, n = 1;
    while (!failed && n && done < p->in_length) {
        char *bytes = p->in + done;
        n = p->phase == ANSWERS ? take_answer(p, bytes, p->in_length - done)
                                : take_whole_frame(p, bytes, p->in_length - done);
        done += n;
    }
    p->in_length -= done;
    memmove(p->in, p->in + done, p->in_length);
}

/* Received bytes become what they mean. */
static void take_received(struct peer *p, const char *bytes, size_t n)
{
    if (p->in_size < p->in_length + n + FAKE_RECORD_MAX) {
        p->in_size = p->in_length + n + 131072;
        p->in = realloc(p->in, p->in_size);
        if (!p->in)
            abort();
    }
    if (p->tls) {
        n = fake_peer_take(p->tls, bytes, n, p->in + p->in_length);
        flush(p); /* the end of the handshake */
    } else {
        memcpy(p->in + p->in_length, bytes, n);
    }
    p->in_length += n;
    parse(p);
}

bool peer_read(struct peer *p)
{
    static char bytes[65536];
    ssize_t n;
    flush(p);
    do {
        n = recv(p->fd, bytes, sizeof bytes, 0);
        if (n > 0)
            take_received(p, bytes, (size_t)n);
    } while (n > 0);
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
        return true;
    if (p->phase == OVER && p->in_length)
        fault("bytes after the Close", (long)p->in_length);
    peer_leave(p, false);
    return false;
}

/* ---- what a peer may do ---- */

static void begin(struct peer *p)
{
    static const char *const paths[] = {"/", "/", "/shared", "/dedicated", "/strict", "/page"};
    static const char pages[] = "GET /page HTTP/1.1\r\nHost: t\r\n\r\n"
                                "GET /page HTTP/1.1\r\nHost: t\r\n\r\n";
    char text[512];
    peer_connect(p, paths[draw(6)], draw(3) == 0);
    p->mute = draw(6) == 0;
    size_t n = make_request(p, text);
    uint32_t kind = draw(16);
    if (kind == 0)
        return; /* says nothing */
    if (kind == 1)
        n = draw((uint32_t)n); /* half of it */
    if (!strcmp(p->path, "/page"))
        say(p, pages, draw(sizeof pages));
    else
        say(p, text, n);
    p->finished = kind == 1; /* what would come after is none of its messages */
}

static void go_on(struct peer *p)
{
    switch (draw(40)) {
    case 0:
        peer_leave(p, draw(2));
        return;
    case 1:
        shutdown(p->fd, SHUT_WR);
        p->finished = true;
        return;
    case 2:
    case 3:
        p->stalled = !p->stalled;
        return;
    case 4:
        if (p->phase == FRAMES && !p->said_close && draw(2))
            say_close(p, draw(2) ? 1000 : 0);
        return;
    case 5:
        if (draw(8) == 0)
            say_nonsense(p);
        return;
    default:
        if (p->phase == FRAMES && !p->said_close)
            for (uint32_t n = draw(4); n; n--)
                say_message(p, draw_size());
    }
}

void move_one(void)
{
    struct peer *p = &peers[draw(PEERS)];
    ws_conn *conn = draw(4) ? NULL : any_conn();
    if (conn)
        use(conn);
    if (h.deferred && draw(10) == 0) {
        ws_request *request = h.deferred;
        h.deferred = NULL;
        answer_now(request);
    }
    if (p->fd < 0) {
        begin(p);
        return;
    }
    if (!p->stalled && !peer_read(p))
        return;
    flush(p);
    go_on(p);
}
