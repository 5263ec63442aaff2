/* SPDX-License-Identifier: MIT */
/*
 * harness.c: the server of harness.h, and its allocator; harness_client.c has the clients.
 */
#include "harness_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

const char *const opcode_names[16] = {"CONT",  "TEXT", "BINARY", "3",  "4",  "5",  "6",  "7",
                                      "CLOSE", "PING", "PONG",   "11", "12", "13", "14", "15"};

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
    if (m->bytes > m->peak)
        m->peak = m->bytes;
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

bool over_tls(void)
{
    return getenv("WS_TEST_TLS") != NULL;
}

void harness_init(struct harness *h)
{
    memset(h, 0, sizeof *h);
    h->now = UINT64_C(1000000000000);
    h->tls = over_tls();
    fake_reset();
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

void expect_fine(const struct harness *h, int result, const char *what)
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
    options.tls = harness_tls(h);
    if (h->send_buffer) {
        options.host = NULL;
        options.fd = listen_with_send_buffer(h->send_buffer);
    }
    h->port = ws_server_listen(h->server, &options);
    expect_fine(h, h->port, "ws_server_listen");
    if (h->port < 0 && options.fd >= 0)
        close(options.fd);
}

const ws_tls *harness_tls(struct harness *h)
{
    h->tls_table = fake_tls.table;
    h->tls_table.context = &h->sessions;
    return h->tls ? &h->tls_table : NULL;
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
    bool clean = !h->memory.bytes && !h->memory.blocks && !h->memory.mismatch &&
                 !h->sessions && !fake_tls.sessions && !fake_tls.misused;
    if (!once || !balanced)
        diag("opened %d, closed %d", h->opened, h->closed);
    if (!clean)
        diag("%zu bytes in %zu blocks left%s", h->memory.bytes, h->memory.blocks,
             h->memory.mismatch ? ", wrong old_size" : "");
    if (h->sessions || fake_tls.sessions || fake_tls.misused)
        diag("%d sessions of TLS left, %d misused", h->sessions + fake_tls.sessions,
             fake_tls.misused);
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
    return memmem(h->log, h->log_length, text, strlen(text)) != NULL;
}
