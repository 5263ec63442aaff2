/* SPDX-License-Identifier: MIT */
/*
 * client.c: see client.h. RFC 6455 4.1 (handshake), 5.2 and 5.3 (frames), 7.1 (closing).
 *
 * Sockets are registered once, edge-triggered, so a round costs one send and one recv.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "client.h"
#include "audience.h"
#include "pack.h"
#include "records.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 256 * 1024, MASKED = 0x80, FIN = 0x80, RSV1 = 0x40, OPCODE_CLOSE = 8 };
enum { GONE_EVENTS = EPOLLRDHUP | EPOLLHUP | EPOLLERR };

static const char key[] = "cHl3cyBsb2FkIHRlc3Rlcg==";
static char buffer[BUFFER_SIZE];

/* ---- plan --------------------------------------------------------------------------------- */

void plan_prepare(plan *p, const char *host, unsigned port, const char *path)
{
    static const char offer[] = "Sec-WebSocket-Extensions: permessage-deflate; "
                                "server_no_context_takeover; client_no_context_takeover\r\n";
    int n = snprintf(p->request, sizeof(p->request),
                     "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     path, host, port, key, p->deflate ? offer : "");

    if (n < 0 || (size_t)n >= sizeof(p->request)) {
        die("--host or --path is too long");
    }
    p->request_length = (size_t)n;
    accept_value(key, p->accept);
}

/* ---- messages ----------------------------------------------------------------------------- */

static size_t size_header(size_t payload)
{
    return payload < 126 ? 2 : payload < 65536 ? 4 : 10;
}

static unsigned char *write_header(unsigned char *at, int first, size_t payload, unsigned masked)
{
    size_t size = size_header(payload);

    at[0] = (unsigned char)first;
    at[1] = (unsigned char)(masked | (size == 2 ? payload : size == 4 ? 126 : 127));
    for (size_t i = size; i-- > 2; payload >>= 8) {
        at[i] = (unsigned char)payload;
    }
    return at + size;
}

/* Letters that depend on the connection and the position in the round, so that a reply to the
 * wrong connection or in the wrong order is detected. */
static unsigned char letter(unsigned connection, unsigned message, size_t i)
{
    return (unsigned char)('!' + (connection * 37 + message * 7 + i * 5 + (i >> 6) * 3) % 93);
}

static void write_payload(const client *c, unsigned message, char *to)
{
    if (c->plan->records) {
        record_write(c->index * c->plan->pipeline + message, to, c->plan->size);
        return;
    }
    for (size_t i = 0; i < c->plan->size; i++) {
        to[i] = (char)letter(c->index, message, i);
    }
}

static unsigned char *write_message(unsigned char *at, int first, const unsigned char *payload,
                                    size_t length, const unsigned char mask[4])
{
    at = write_header(at, first, length, MASKED);
    memcpy(at, mask, 4);
    at += 4;
    for (size_t i = 0; i < length; i++) {
        *at++ = payload[i] ^ mask[i & 3];
    }
    return at;
}

static void compose_plain(client *c, unsigned message, const char *payload,
                          const unsigned char mask[4])
{
    unsigned char *at = c->messages + (message > 0 ? c->message_ends[message - 1] : 0);
    unsigned char *reply = c->replies + (message > 0 ? c->reply_ends[message - 1] : 0);
    size_t size = c->plan->size;

    at = write_message(at, FIN | c->plan->opcode, (const unsigned char *)payload, size, mask);
    c->message_ends[message] = (size_t)(at - c->messages);
    reply = write_header(reply, FIN | c->plan->opcode, size, 0);
    memcpy(reply, payload, size);
    c->reply_ends[message] = (size_t)(reply - c->replies) + size;
    c->known++;
}

/* How the server compresses its reply is unknown until the first one arrives. */
static void compose_packed(client *c, unsigned message, const char *payload,
                           const unsigned char mask[4])
{
    unsigned char *at = c->messages + (message > 0 ? c->message_ends[message - 1] : 0);
    unsigned char *packed = (unsigned char *)buffer + c->plan->size;
    size_t length = pack(payload, c->plan->size, packed, BUFFER_SIZE - c->plan->size);

    if (length == 0 || length > c->plan->size) {
        die("cannot compress the messages");
    }
    at = write_message(at, FIN | RSV1 | c->plan->opcode, packed, length, mask);
    c->message_ends[message] = (size_t)(at - c->messages);
}

void client_compose(client *c)
{
    uint32_t random = 0x9e3779b9u * (c->index + 1);
    unsigned count = c->plan->pipeline;
    char *payload = c->plan->deflate ? buffer : malloc(c->plan->size + 1);

    c->messages = malloc((c->plan->size + CLIENT_OVERHEAD_MAX) * count);
    c->replies = malloc((c->plan->size + CLIENT_OVERHEAD_MAX) * count);
    c->message_ends = calloc(count, sizeof(size_t));
    c->reply_ends = calloc(count, sizeof(size_t));
    if (c->messages == NULL || c->replies == NULL || c->message_ends == NULL ||
        c->reply_ends == NULL || payload == NULL) {
        die("out of memory for the messages");
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned char mask[4];
        random = random * 1664525u + 1013904223u;
        memcpy(mask, &random, 4);
        write_payload(c, i, payload);
        (c->plan->deflate ? compose_packed : compose_plain)(c, i, payload, mask);
    }
    if (payload != buffer) {
        free(payload);
    }
}

/* ---- sending ------------------------------------------------------------------------------ */

/* Returns the bytes that the kernel accepted. */
static size_t push(client *c, const void *data, size_t length)
{
    ssize_t n = c->ssl != NULL ? secure_send(c->ssl, data, length)
                               : send(c->fd, data, length, MSG_NOSIGNAL);

    if (n >= 0) {
        return (size_t)n;
    }
    if (errno != EAGAIN) {
        die("connection %u: send: %s", c->index, strerror(errno));
    }
    return 0;
}

static void push_request(client *c)
{
    if (push(c, c->plan->request, c->plan->request_length) > 0) {
        c->state = CLIENT_HANDSHAKE;
    }
}

/* TLS takes a record at a time. */
static void push_round(client *c)
{
    size_t before;

    do {
        before = c->sent;
        c->sent += push(c, c->messages + c->sent, c->to_send - c->sent);
    } while (c->ssl != NULL && c->sent > before && c->sent < c->to_send);
}

static void secure(client *c)
{
    if (c->state == CLIENT_CONNECTING) {
        c->ssl = secure_begin(c->plan->secure, c->fd);
        if (c->ssl == NULL) {
            die("connection %u: out of memory for TLS", c->index);
        }
        c->state = CLIENT_SECURING;
    }
    if (secure_shake(c->ssl)) {
        push_request(c);
    } else if (errno != EAGAIN) {
        die("connection %u: TLS handshake: %s: %s", c->index, strerror(errno), secure_error());
    }
}

void client_connect(client *c, const plan *p, unsigned index)
{
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};

    event.data.ptr = c;
    c->plan = p;
    c->index = index;
    c->state = CLIENT_CONNECTING;
    c->process = 0;
    c->head_length = 0;
    c->ssl = NULL;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        die("connection %u: socket: %s", index, strerror(errno));
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->fd, (const struct sockaddr *)&p->address, sizeof(p->address)) != 0 &&
        errno != EINPROGRESS) {
        die("connection %u: connect: %s", index, strerror(errno));
    }
    if (epoll_ctl(p->poller, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        die("connection %u: epoll_ctl: %s", index, strerror(errno));
    }
}

void client_send(client *c, size_t length)
{
    c->to_send = length;
    c->sent = 0;
    push_round(c);
}

void client_send_round(client *c, unsigned count)
{
    c->asked = count;
    c->answered = c->counted = 0;
    c->to_get = c->reply_ends[count - 1];
    c->got = 0;
    client_send(c, c->message_ends[count - 1]);
}

void client_close(client *c)
{
    /* Close 1000, masked with zeros. */
    static const unsigned char frame[] = {FIN | OPCODE_CLOSE, MASKED | 2, 0, 0, 0, 0, 0x03, 0xe8};

    if (push(c, frame, sizeof(frame)) != sizeof(frame)) {
        die("connection %u: no room for a Close", c->index);
    }
    c->state = CLIENT_CLOSING;
    c->head_length = 0;
}

void client_drop(client *c)
{
    secure_end(c->ssl);
    close(c->fd);
    c->state = CLIENT_CLOSED;
}

/* ---- receiving ---------------------------------------------------------------------------- */

/* Returns the value of the first field with that name, given as "\r\nname:", or NULL. */
static const char *find_field(const client *c, const char *name)
{
    const char *at = strcasestr(c->head, name);

    if (at == NULL) {
        return NULL;
    }
    at += strlen(name);
    return at + strspn(at, " \t");
}

/* A server that accepts must also agree to no context takeover (RFC 7692 7.1.1.1). */
static void check_extensions(const client *c)
{
    const char *value = find_field(c, "\r\nsec-websocket-extensions:");
    char line[256];

    if (!c->plan->deflate && value != NULL) {
        die("connection %u: an extension that was not offered", c->index);
    }
    if (!c->plan->deflate) {
        return;
    }
    snprintf(line, sizeof(line), "%.*s", value != NULL ? (int)strcspn(value, "\r\n") : 0, value);
    if (strncasecmp(line, "permessage-deflate", 18) != 0 ||
        strcasestr(line, "server_no_context_takeover") == NULL) {
        die("connection %u: permessage-deflate was not accepted: \"%s\"", c->index, line);
    }
}

static void check_head(client *c, size_t length)
{
    c->head[length] = '\0';
    if (strncmp(c->head, "HTTP/1.1 101", 12) != 0) {
        die("connection %u: refused: %.*s", c->index, (int)strcspn(c->head, "\r\n"), c->head);
    }
    const char *accept = find_field(c, "\r\nsec-websocket-accept:");
    if (accept == NULL) {
        die("connection %u: no Sec-WebSocket-Accept", c->index);
    }
    if (strncmp(accept, c->plan->accept, ACCEPT_LENGTH) != 0) {
        die("connection %u: wrong Sec-WebSocket-Accept", c->index);
    }
    const char *process = find_field(c, "\r\nx-process:");
    c->process = process != NULL ? strtol(process, NULL, 10) : 0;
    check_extensions(c);
}

static void gather(client *c, const char *data, size_t length)
{
    if (c->head_length + length >= sizeof(c->head)) {
        die("connection %u: expected an HTTP head or a Close, got more than %zu bytes",
            c->index, sizeof(c->head));
    }
    memcpy(c->head + c->head_length, data, length);
    c->head_length += length;
}

static void drop_head(client *c, size_t length)
{
    c->head_length -= length;
    memmove(c->head, c->head + length, c->head_length);
}

/* Answers the packet 0 (open) of Engine.IO with the 40 (connect) of Socket.IO, whose own 40 means
 * that the connection is open. Both are text frames of less than 64 KiB. */
static client_news take_greeting(client *c)
{
    static const unsigned char connect_packet[] = {FIN | 1, MASKED | 2, 0, 0, 0, 0, '4', '0'};

    while (c->head_length >= 4) {
        const unsigned char *at = (const unsigned char *)c->head;
        size_t header = at[1] < 126 ? 2 : 4;
        size_t payload = header == 2 ? at[1] : (size_t)at[2] << 8 | at[3];
        if (c->head_length < header + payload) {
            break;
        }
        bool connected = memcmp(at + header, "40", 2) == 0;
        if (!connected && at[header] != '0') {
            die("connection %u: this is no greeting of Socket.IO", c->index);
        }
        drop_head(c, header + payload);
        if (connected) {
            c->state = CLIENT_OPEN;
            return NEWS_OPENED;
        }
        if (push(c, connect_packet, sizeof(connect_packet)) != sizeof(connect_packet)) {
            die("connection %u: no room for a packet", c->index);
        }
    }
    return NEWS_NONE;
}

static client_news take_head(client *c, const char *data, size_t length)
{
    gather(c, data, length);
    const char *end = memmem(c->head, c->head_length, "\r\n\r\n", 4);
    if (end == NULL) {
        return NEWS_NONE;
    }
    size_t used = (size_t)(end - c->head) + 4;
    if (used != c->head_length && !c->plan->engine) {
        die("connection %u: unexpected bytes after the 101", c->index);
    }
    check_head(c, used - 2);
    if (c->plan->engine) {
        c->state = CLIENT_GREETING;
        drop_head(c, used);
        return take_greeting(c);
    }
    c->state = CLIENT_OPEN;
    return NEWS_OPENED;
}

/* Reports where the reply is wrong; `got` is the offset of the first wrong byte in the round. */
static void explain(const client *c, size_t got, unsigned char byte)
{
    unsigned reply = 0;

    while (got >= c->reply_ends[reply]) {
        reply++;
    }
    size_t start = reply > 0 ? c->reply_ends[reply - 1] : 0, offset = got - start;
    unsigned size = c->replies[start + 1] & 0x7f;
    size_t header = size < 126 ? 2 : size == 126 ? 4 : 10;
    const char *what = offset == 0 ? "opcode byte" : offset < header ? "length" : "payload";

    die("connection %u: reply %u of the round: wrong %s: byte %zu is 0x%02x, expected 0x%02x",
        c->index, reply, what, offset, byte, c->replies[got]);
}

/* Updates which replies are complete. */
static client_news note_replies(client *c)
{
    unsigned before = c->answered;

    while (c->answered < c->asked && c->answered < c->known &&
           c->reply_ends[c->answered] <= c->got) {
        c->answered++;
    }
    return c->answered == c->asked ? NEWS_ROUND : c->answered > before ? NEWS_REPLIES : NEWS_NONE;
}

static client_news compare_replies(client *c, const char *data, size_t length)
{
    if (length > c->to_get - c->got) {
        die("connection %u: %zu unexpected bytes", c->index,
            length - (c->to_get - c->got));
    }
    if (memcmp(data, c->replies + c->got, length) != 0) {
        size_t i = 0;
        while ((unsigned char)data[i] == c->replies[c->got + i]) {
            i++;
        }
        explain(c, c->got + i, (unsigned char)data[i]);
    }
    c->got += length;
    return note_replies(c);
}

/* Checks that the reply at `at`, one frame, is the message, compressed or, if the server decided
 * against compression, plain. Returns its length, or 0 if it is incomplete. */
static size_t check_reply(const client *c, const unsigned char *at, size_t length)
{
    static char want[BUFFER_SIZE];
    size_t header = length < 2 ? 2 : (at[1] & 0x7f) < 126 ? 2 : 4;
    size_t payload = length < header ? 0 : header == 2 ? at[1] : (size_t)at[2] << 8 | at[3];

    if (length < header || length - header < payload) {
        return 0;
    }
    if ((at[0] & ~RSV1) != (FIN | c->plan->opcode) || at[1] > 126) {
        die("connection %u: reply %u: wrong frame header", c->index, c->known);
    }
    write_payload(c, c->known, want);
    bool packed = (at[0] & RSV1) != 0;
    if (packed ? !pack_gives(at + header, payload, want, c->plan->size)
               : payload != c->plan->size || memcmp(at + header, want, payload) != 0) {
        die("connection %u: reply %u is not the message", c->index, c->known);
    }
    return header + payload;
}

/* Inflates the first reply to each message and compares it with the message byte by byte. Messages
 * are isolated streams (no context takeover), so later replies to the same message have the same
 * bytes. Comparing these bytes keeps the generator from becoming the bottleneck. */
static client_news learn_replies(client *c, const char *data, size_t length)
{
    size_t start = c->known > 0 ? c->reply_ends[c->known - 1] : 0, size;

    if (length > (c->plan->size + CLIENT_OVERHEAD_MAX) * c->asked - c->got) {
        die("connection %u: unexpected bytes", c->index);
    }
    memcpy(c->replies + c->got, data, length);
    c->got += length;
    while (c->known < c->asked && (size = check_reply(c, c->replies + start, c->got - start)) > 0) {
        start += size;
        c->reply_ends[c->known++] = start;
    }
    if (c->known == c->asked && c->got > start) {
        die("connection %u: %zu unexpected bytes", c->index, c->got - start);
    }
    return note_replies(c);
}

static client_news take(client *c, const char *data, size_t length)
{
    if (c->state == CLIENT_OPEN && c->plan->audience != NULL) {
        audience_take(c->plan->audience, c->index, (const unsigned char *)data, length);
        return NEWS_NONE;
    }
    if (c->state == CLIENT_OPEN && c->plan->answers) {
        return NEWS_NONE;
    }
    if (c->state == CLIENT_OPEN) {
        return (c->known < c->asked ? learn_replies : compare_replies)(c, data, length);
    }
    if (c->state == CLIENT_CLOSING) {
        gather(c, data, length);
        return NEWS_NONE;
    }
    if (c->state == CLIENT_GREETING) {
        gather(c, data, length);
        return take_greeting(c);
    }
    return take_head(c, data, length);
}

/* The server has ended TCP, which is correct only after its Close (RFC 6455 7.1.1). */
static client_news end(client *c, const char *how)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (c->state != CLIENT_CLOSING) {
        die("connection %u: lost: %s", c->index, how);
    }
    if (c->head_length < 4 || memcmp(c->head + 2, "\x03\xe8", 2) != 0 ||
        (unsigned char)c->head[0] != (FIN | OPCODE_CLOSE)) {
        die("connection %u: ended without a Close 1000: %s", c->index, how);
    }
    /* Leaves no TIME_WAIT on either side, so a run can be repeated immediately. */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    secure_end(c->ssl);
    close(c->fd);
    c->state = CLIENT_CLOSED;
    return NEWS_CLOSED;
}

client_news client_handle(client *c, uint32_t events)
{
    client_news news = NEWS_NONE;
    ssize_t n;

    if (c->state <= CLIENT_SECURING) {
        (c->plan->secure != NULL ? secure : push_request)(c);
        return NEWS_NONE;
    }
    if (c->sent < c->to_send) {
        push_round(c);
    }
    do {
        n = c->ssl != NULL ? secure_recv(c->ssl, buffer, sizeof(buffer))
                           : recv(c->fd, buffer, sizeof(buffer), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            return end(c, n == 0 ? "closed by the server" : strerror(errno));
        }
        client_news more = n > 0 ? take(c, buffer, (size_t)n) : NEWS_NONE;
        news = more != NEWS_NONE ? more : news;
    } while (n == BUFFER_SIZE || (n > 0 && (c->ssl != NULL || (events & GONE_EVENTS) != 0)));
    return news;
}
