/*
 * harness.c: one server and its clients in one thread, see harness.h.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

const char handshake_request[] = "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static const char *const opcode_names[16] = {"CONT", "TEXT", "BINARY", "3",  "4",  "5",  "6",  "7",
                                             "CLOSE", "PING", "PONG",  "11", "12", "13", "14", "15"};

/* ---- the allocator ---- */

enum { OVERHEAD = 16 }; /* what a malloc takes beside the block; our own head as well */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* ws_server_defer allocates anywhere */

static void *resize_locked(struct counter *m, void *ptr, size_t old_size, size_t size)
{
    char *block = ptr ? (char *)ptr - OVERHEAD : NULL;
    if (block && *(size_t *)(void *)block != old_size)
        m->mismatch = true;
    if (size) {
        size_t call = ++m->calls;
        m->asked += size;
        if (m->fail_at && call >= m->fail_at) {
            size_t later = call - m->fail_at;
            if (!later || m->fail_after || (later <= 32 && m->also >> (later - 1) & 1))
                return NULL;
        }
    }
    if (block) {
        m->bytes -= old_size + OVERHEAD;
        m->blocks--;
    }
    if (!size) {
        free(block);
        return NULL;
    }
    /* Always another place, so that a pointer into the old block is found out. */
    char *moved = malloc(size + OVERHEAD);
    if (!moved)
        abort();
    if (block)
        memcpy(moved + OVERHEAD, ptr, old_size < size ? old_size : size);
    free(block);
    *(size_t *)(void *)moved = size;
    m->bytes += size + OVERHEAD;
    m->blocks++;
    return moved + OVERHEAD;
}

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    pthread_mutex_lock(&lock);
    void *block = resize_locked(context, ptr, old_size, size);
    pthread_mutex_unlock(&lock);
    return block;
}

/* ---- the server's side ---- */

static uint64_t read_clock(void *user)
{
    struct harness *h = user;
    return h->now += h->tick;
}

static void take_log(void *user, int level, const char *line, size_t length)
{
    struct harness *h = user;
    (void)level;
    if (h->log_length + length + 2 > sizeof h->log)
        return;
    memcpy(h->log + h->log_length, line, length);
    h->log_length += length;
    h->log[h->log_length++] = '\n';
    h->log[h->log_length] = '\0';
}

__attribute__((format(printf, 3, 4))) static void record(struct harness *h, const ws_conn *conn,
                                                         const char *format, ...)
{
    va_list arguments;
    size_t room = sizeof h->events - h->events_length;
    if (h->quiet || room < 512)
        return;
    char *to = h->events + h->events_length;
    size_t index = conn ? (size_t)(uintptr_t)ws_conn_user(conn) : 0;
    int n = snprintf(to, 16, "%s", h->events_length ? "; " : "");
    if (index)
        n += snprintf(to + n, 16, "%zu:", index);
    va_start(arguments, format);
    n += vsnprintf(to + n, room - (size_t)n, format, arguments);
    va_end(arguments);
    h->events_length = strlen(h->events);
}

static void describe(char out[80], const char *data, size_t length)
{
    if (length > 60)
        snprintf(out, 80, " [%zu]", length);
    else
        snprintf(out, 80, "%s%.*s", length ? " " : "", (int)length, data);
}

static void call_hook(struct harness *h, enum event event, ws_conn *conn, ws_request *request,
                      const char *data, size_t length)
{
    if (h->hook)
        h->hook(h, event, conn, request, data, length);
}

static void on_upgrade(ws_request *request, void *user)
{
    struct harness *h = user;
    if (h->answers)
        call_hook(h, ON_UPGRADE, NULL, request, NULL, 0);
    else
        ws_request_upgrade(request, NULL, 0, NULL);
}

static void on_open(ws_conn *conn, void *user)
{
    struct harness *h = user;
    int index = h->opened++ % MAX_CONNS;
    if (h->opened > MAX_CONNS && !h->overs[index]) {
        diag("more than %d connections while the first of them is open", MAX_CONNS);
        abort(); /* what is counted for one would be taken for the other's */
    }
    h->ids[index] = ws_conn_get_id(conn);
    h->closes[index] = h->overs[index] = 0;
    ws_conn_set_user(conn, (void *)(uintptr_t)index);
    record(h, conn, "open");
    call_hook(h, ON_OPEN, conn, NULL, NULL, 0);
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    struct harness *h = user;
    char text[80];
    describe(text, data, length);
    record(h, conn, "message %s%s", opcode_names[opcode & 15], text);
    if (h->echo)
        ws_conn_send(conn, data, length, opcode);
    call_hook(h, ON_MESSAGE, conn, NULL, data, length);
}

static void on_drain(ws_conn *conn, void *user)
{
    record(user, conn, "drain");
    call_hook(user, ON_DRAIN, conn, NULL, NULL, 0);
}

static void on_dropped(ws_conn *conn, const char *data, size_t length, int opcode, void *user)
{
    char text[80];
    describe(text, data, length);
    record(user, conn, "dropped %s%s", opcode_names[opcode & 15], text);
    call_hook(user, ON_DROPPED, conn, NULL, data, length);
}

static void on_ping(ws_conn *conn, const char *data, size_t length, void *user)
{
    char text[80];
    describe(text, data, length);
    record(user, conn, "ping%s", text);
    call_hook(user, ON_PING, conn, NULL, data, length);
}

static void on_pong(ws_conn *conn, const char *data, size_t length, void *user)
{
    char text[80];
    describe(text, data, length);
    record(user, conn, "pong%s", text);
    call_hook(user, ON_PONG, conn, NULL, data, length);
}

static void on_close(ws_conn *conn, int code, const char *reason, size_t length, void *user)
{
    struct harness *h = user;
    int index = (int)(uintptr_t)ws_conn_user(conn);
    h->closed++;
    h->closes[index]++;
    record(h, conn, "close %d%s%.*s", code, length ? " " : "", (int)length, reason);
    call_hook(h, ON_CLOSE, conn, NULL, reason, length);
}

/* The counts must be those that the server tells at this moment, and one apart. */
static void on_subscription(ws_conn *conn, const char *topic, size_t length, uint32_t now,
                            uint32_t before, void *user)
{
    uint32_t told = ws_server_subscribers(ws_conn_server(conn), topic, length);
    bool fits = told == now && (now == before + 1 || before == now + 1);
    ((struct harness *)user)->miscounts += !fits;
    record(user, conn, "%s%.*s %u%s", now > before ? "+" : "-", length < 60 ? (int)length : 60,
           topic, (unsigned)now, fits ? "" : "?");
    call_hook(user, ON_SUBSCRIPTION, conn, NULL, topic, length);
}

static void on_closed(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                      void *user)
{
    struct harness *h = user;
    int index = (int)(uintptr_t)ws_conn_user(conn);
    h->overs[index]++;
    if (h->tells_closed) {
        const char *who = ws_conn_closed_by_peer(conn) ? " by peer" : "";
        if (clean)
            record(h, conn, "closed %d%s%.*s%s", code, length ? " " : "", (int)length, reason, who);
        else
            record(h, conn, "closed %s%s", code || length ? "?" : "unclean", who);
    }
    call_hook(h, ON_CLOSED, conn, NULL, reason, length);
}

static void on_http(ws_request *request, void *user)
{
    struct harness *h = user;
    if (h->answers) {
        call_hook(h, ON_HTTP, NULL, request, NULL, 0);
        return;
    }
    size_t length;
    const char *path = ws_request_path(request, &length);
    ws_request_respond(request, 200, NULL, path, length);
}

void harness_init(struct harness *h)
{
    memset(h, 0, sizeof *h);
    h->now = UINT64_C(1000000000000);
    ws_config_init(&h->config, sizeof h->config);
    h->config.user = h;
    h->config.clock = read_clock;
    h->config.log = take_log;
    h->config.allocator = (ws_allocator){resize, &h->memory};
    h->config.recv_buffer_size = 64 * 1024;
    ws_behavior_init(&h->behavior, sizeof h->behavior);
    h->behavior.user = h;
    h->behavior.on_upgrade = on_upgrade;
    h->behavior.on_open = on_open;
    h->behavior.on_message = on_message;
    h->behavior.on_drain = on_drain;
    h->behavior.on_dropped = on_dropped;
    h->behavior.on_ping = on_ping;
    h->behavior.on_pong = on_pong;
    h->behavior.on_close = on_close;
    h->behavior.on_subscription = on_subscription;
    h->behavior.on_closed = on_closed;
}

/* Without this nothing else makes sense. */
static void expect_fine(const struct harness *h, int result, const char *what)
{
    if (result >= 0 || h->memory.fail_at)
        return;
    printf("Bail out! %s: %s (%s)\n", what, ws_strerror(result), strerror(errno));
    exit(1);
}

void harness_create(struct harness *h)
{
    if (h->real_time)
        h->config.clock = NULL;
    expect_fine(h, ws_server_new(&h->server, &h->config), "ws_server_new");
}

static int listen_with_send_buffer(int size)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 128)) {
        close(fd);
        return -1;
    }
    return fd;
}

void harness_listen(struct harness *h)
{
    ws_listen_options options;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    if (h->send_buffer) {
        options.host = NULL;
        options.fd = listen_with_send_buffer(h->send_buffer);
    }
    h->port = ws_server_listen(h->server, &options);
    expect_fine(h, h->port, "ws_server_listen");
    if (h->port < 0 && options.fd >= 0)
        close(options.fd);
}

void harness_route(struct harness *h, const char *pattern)
{
    expect_fine(h, ws_server_ws(h->server, pattern, &h->behavior), "ws_server_ws");
}

void harness_http(struct harness *h, const char *method, const char *pattern)
{
    expect_fine(h, ws_server_http(h->server, method, pattern, on_http, h), "ws_server_http");
}

void harness_start(struct harness *h)
{
    harness_create(h);
    harness_route(h, "/");
    harness_listen(h);
}

bool harness_free(struct harness *h)
{
    ws_stats s = stats_of(h);
    bool balanced = s.opened == s.closed + s.open;
    int error = ws_server_free(h->server);
    h->server = NULL;
    bool once = h->opened == h->closed;
    for (int i = 0; i < h->opened && i < MAX_CONNS; i++)
        once = once && h->closes[i] == 1 && h->overs[i] == 1;
    bool clean = !h->memory.bytes && !h->memory.blocks && !h->memory.mismatch;
    if (!once || !balanced)
        diag("opened %d, closed %d", h->opened, h->closed);
    if (!clean)
        diag("%zu bytes in %zu blocks left%s", h->memory.bytes, h->memory.blocks,
             h->memory.mismatch ? ", wrong old_size" : "");
    return !error && balanced && once && clean;
}

void turns(struct harness *h, int count)
{
    while (count-- > 0 && ws_server_step(h->server, 0) > 0)
        ;
}

void advance(struct harness *h, uint64_t ms)
{
    h->now += ms * 1000000u;
    turns(h, 2);
}

ws_conn *conn_at(struct harness *h, int index)
{
    return ws_server_find(h->server, h->ids[index]);
}

ws_stats stats_of(struct harness *h)
{
    ws_stats stats;
    ws_server_stats(h->server, &stats, sizeof stats);
    return stats;
}

const char *harness_events(struct harness *h)
{
    static char events[EVENTS_SIZE];
    memcpy(events, h->events, h->events_length + 1);
    h->events[0] = '\0';
    h->events_length = 0;
    return events;
}

bool log_has(const struct harness *h, const char *text)
{
    return strstr(h->log, text) != NULL;
}

/* ---- clients ---- */

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
    c->small = receive_buffer != 0;
    c->fd = client_socket(h, receive_buffer);
    expect_fine(h, c->fd, "connect");
    turns(h, 1);
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

size_t client_write(struct client *c, const void *bytes, size_t n)
{
    size_t sent = 0;
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

void client_read(struct client *c)
{
    while (c->fd >= 0 && !c->eof && !c->reset) {
        if (c->in_capacity - c->in_length < 65536) {
            c->in_capacity = c->in_capacity * 2 + 131072;
            c->in = realloc(c->in, c->in_capacity);
            if (!c->in)
                abort();
        }
        ssize_t n = recv(c->fd, c->in + c->in_length, c->in_capacity - c->in_length, 0);
        if (n > 0) {
            c->in_length += (size_t)n;
            c->received += (size_t)n;
        } else if (!n) {
            c->eof = true;
        } else if (errno == EAGAIN || errno == EINTR) {
            return;
        } else {
            c->reset = true;
        }
    }
}

/* A small window opens with the kernel's timers: true when something happens in time. */
static bool wait_for(const struct client *c)
{
    struct pollfd fds[2] = {{c->fd, POLLIN, 0}, {ws_server_fd(c->h->server), POLLIN, 0}};
    return c->small && !c->eof && !c->reset && poll(fds, 2, 250) > 0;
}

void client_drain(struct client *c)
{
    for (int quiet = 0, rounds = 0; quiet < 4 && rounds < 100000; rounds++) {
        size_t before = c->received;
        client_read(c);
        turns(c->h, 1);
        quiet = c->received == before ? quiet + 1 : 0;
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
