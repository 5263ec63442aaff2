/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c: the two calls that any thread may make, ws_server_defer and ws_server_wakeup,
 * from four threads at once: while connections come and go, and while the server shuts down and
 * runs again; and two servers in two threads. Made for -Db_sanitize=thread, true without it, too.
 */
#include "harness.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PRODUCERS = 4, WATCHERS = 2, CHURNERS = 2, SERVERS = 2, RECORD = 8 };
enum { MOST = (MAX_CONNS - WATCHERS) / CHURNERS };

/* A thread that defers calls numbered from 0; `ran` and `disorder` are the server's thread's. */
struct producer {
    pthread_t thread;
    unsigned wanted; /* 0: until `stop` */
    unsigned accepted, refused, failed;
    unsigned ran, disorder;
};

struct call {
    struct producer *producer;
    unsigned number;
};

static struct harness h;
static struct producer producers[PRODUCERS];
static _Atomic int port; /* of h, which listens again and again */
static atomic_bool stop;
static bool running;             /* the server's thread is in ws_server_run */
static unsigned outside;         /* calls that ran while it was not */
static unsigned until_shutdown;  /* calls of a life; 0: no end */
static unsigned ran_in_life;

static unsigned amount(unsigned most)
{
    return getenv("UNDER_VALGRIND") ? most / 50 : most;
}

/* The default allocator: a lock of ours would order what the library must order itself. */
static void prepare(struct harness *harness)
{
    harness_init(harness);
    harness->config.allocator = (ws_allocator){NULL, NULL};
    harness->behavior.max_backpressure = 0;
    harness->quiet = true;
}

/* ---- the server's thread ---- */

static void tell(const struct call *call)
{
    uint32_t record[RECORD / 4] = {(uint32_t)(call->producer - producers), call->number};
    if (call->number & 1) {
        ws_server_publish(h.server, "all", 3, record, sizeof record, WS_BINARY);
        return;
    }
    for (int i = 0; i < WATCHERS; i++)
        if (i < h.opened && conn_at(&h, i))
            ws_conn_send(conn_at(&h, i), record, sizeof record, WS_BINARY);
}

static void run_call(void *argument)
{
    struct call *call = argument;
    struct producer *p = call->producer;
    p->disorder += call->number != p->ran++;
    outside += !running;
    tell(call);
    if (until_shutdown && ++ran_in_life == until_shutdown)
        ws_server_shutdown(h.server, 1001, NULL, 0, 20);
    free(call);
}

static void on_event(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    (void)request, (void)data, (void)length;
    if (event == ON_OPEN && harness->opened <= WATCHERS)
        ws_conn_subscribe(conn, "all", 3);
}

static void *serve(void *result)
{
    running = true;
    *(int *)result = ws_server_run(h.server);
    running = false;
    return NULL;
}

/* ---- other threads ---- */

static void defer_one(struct producer *p)
{
    struct call *call = malloc(sizeof *call);
    if (!call)
        abort();
    *call = (struct call){p, p->accepted};
    int error = ws_server_defer(h.server, run_call, call);
    p->accepted += !error;
    p->refused += error == WS_ESTOPPED;
    p->failed += error && error != WS_ESTOPPED;
    if (!error)
        return;
    free(call);
    sched_yield();
}

static void *produce(void *argument)
{
    struct producer *p = argument;
    while (p->wanted ? p->accepted < p->wanted : !atomic_load(&stop)) {
        defer_one(p);
        if (p->accepted % 16 == 0) {
            ws_server_wakeup(h.server);
            usleep(20); /* the others want a share of the core */
        }
    }
    return NULL;
}

/* A client's end, whose socket does not block. */
struct line {
    int fd;
    struct fake_peer *tls; /* NULL: it speaks no TLS */
    char in[FAKE_RECORD_MAX + 2048]; /* received */
    size_t length;
};

static bool dial(struct line *l)
{
    struct harness place = {.port = atomic_load(&port)};
    l->fd = client_socket(&place, 0);
    l->tls = over_tls() && l->fd >= 0 ? fake_peer_new() : NULL;
    l->length = 0;
    return l->fd >= 0;
}

static void hang_up(struct line *l)
{
    fake_peer_free(l->tls);
    close(l->fd);
}

static bool wait_for(int fd, short events)
{
    struct pollfd one = {fd, events, 0};
    return poll(&one, 1, 30000) > 0;
}

/* Records wait in the line until they are read. */
static bool write_all(struct line *l, const void *bytes, size_t n)
{
    if (!wait_for(l->fd, POLLOUT))
        return false;
    if (!l->tls)
        return send(l->fd, bytes, n, MSG_NOSIGNAL) == (ssize_t)n;
    fake_peer_queue(l->tls, FAKE_DATA, bytes, n, 16384);
    return fake_peer_flush(l->tls, l->fd);
}

/* Some more bytes, which are perhaps none of the content. */
static bool receive_some(struct line *l)
{
    char bytes[2048];
    ssize_t n = wait_for(l->fd, POLLIN) ? recv(l->fd, bytes, sizeof bytes, 0) : 0;
    if (n <= 0)
        return false;
    if (l->tls) {
        l->length += fake_peer_take(l->tls, bytes, (size_t)n, l->in + l->length);
        return fake_peer_flush(l->tls, l->fd);
    }
    memcpy(l->in + l->length, bytes, (size_t)n);
    l->length += (size_t)n;
    return true;
}

/* All of it, or false. At most as much as a record. */
static bool receive(struct line *l, void *bytes, size_t n)
{
    while (l->length < n)
        if (!receive_some(l))
            return false;
    memcpy(bytes, l->in, n);
    l->length -= n;
    memmove(l->in, l->in + n, l->length);
    return true;
}

/* Up to the empty line after the head of the answer. */
static bool shake_hands(struct line *l)
{
    char last[5] = "";
    if (!write_all(l, handshake_request, strlen(handshake_request)))
        return false;
    while (strcmp(last, "\r\n\r\n")) {
        memmove(last, last + 1, 3);
        if (!receive(l, last + 3, 1))
            return false;
    }
    return true;
}

struct watcher {
    pthread_t thread;
    struct line line;
    unsigned seen[PRODUCERS], wanted, disorder;
};

/* Every record of every producer, each in its order. */
static void *watch(void *argument)
{
    struct watcher *w = argument;
    unsigned char frame[2 + RECORD];
    uint32_t record[RECORD / 4];
    for (unsigned i = 0; i < w->wanted * PRODUCERS; i++) {
        if (!receive(&w->line, frame, sizeof frame))
            return NULL;
        memcpy(record, frame + 2, sizeof record);
        bool fits = frame[0] == 0x82 && frame[1] == RECORD && record[0] < PRODUCERS;
        if (!fits || record[1] != w->seen[record[0]]++)
            w->disorder++;
    }
    return NULL;
}

struct churner {
    pthread_t thread;
    unsigned count, least;
};

/*
 * Connections that come, say something or nothing, and go in one way or another: not so many that
 * the harness, which knows MAX_CONNS, takes the last for the first, which the watchers hold open.
 */
static void *churn(void *argument)
{
    struct churner *c = argument;
    struct line line;
    char bytes[64];
    while (c->count < MOST && (!atomic_load(&stop) || c->count < c->least)) {
        struct linger hard = {c->count % 3 == 0, 0};
        if (!dial(&line)) {
            sched_yield();
            continue;
        }
        if (c->count % 4)
            shake_hands(&line);
        if (c->count % 2)
            write_all(&line, bytes, make_frame(bytes, 0x81, "churn", 5));
        setsockopt(line.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        hang_up(&line);
        c->count++;
    }
    return NULL;
}

static void start_producers(unsigned wanted)
{
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.wanted = wanted};
        pthread_create(&producers[i].thread, NULL, produce, &producers[i]);
    }
}

static void finish_producers(const char *name)
{
    unsigned accepted = 0, refused = 0, failed = 0, ran = 0, disorder = 0;
    for (int i = 0; i < PRODUCERS; i++) {
        const struct producer *p = &producers[i];
        accepted += p->accepted;
        refused += p->refused;
        failed += p->failed;
        ran += p->ran;
        disorder += p->disorder;
    }
    is_int(ran, accepted, "T74: %s: each accepted call ran", name);
    is_int(disorder, 0, "T74: %s: in the order of its thread, once", name);
    is_int(outside, 0, "T74: %s: and only inside ws_server_run", name);
    is_int(failed, 0, "T74: %s: no other result than WS_OK and WS_ESTOPPED", name);
    diag("%s: %u calls accepted, %u refused, %d connections", name, accepted, refused, h.opened);
}

static void join_producers(void)
{
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i].thread, NULL);
}

static void stop_server(void *server)
{
    ws_server_shutdown(server, 1001, NULL, 0, 1000);
}

/* ---- T74: order, and none lost ---- */

static void start_watchers(struct watcher *watchers, unsigned wanted)
{
    for (int i = 0; i < WATCHERS; i++) {
        memset(&watchers[i], 0, sizeof watchers[i]);
        watchers[i].wanted = wanted;
        ok(dial(&watchers[i].line) && shake_hands(&watchers[i].line), "a client that watches");
        pthread_create(&watchers[i].thread, NULL, watch, &watchers[i]);
    }
}

static void join_watchers(struct watcher *watchers)
{
    for (int i = 0; i < WATCHERS; i++) {
        unsigned seen = 0;
        pthread_join(watchers[i].thread, NULL);
        for (int j = 0; j < PRODUCERS; j++)
            seen += watchers[i].seen[j];
        is_int(seen, watchers[i].wanted * PRODUCERS, "T74: sends and publishes: none lost");
        is_int(watchers[i].disorder, 0, "T74: in the order of each thread");
        hang_up(&watchers[i].line);
    }
}

static void test_order(void)
{
    const unsigned wanted = amount(20000);
    struct watcher watchers[WATCHERS];
    struct churner churners[CHURNERS];
    pthread_t server;
    int result = -1;
    prepare(&h);
    h.real_time = true;
    h.hook = on_event;
    harness_start(&h);
    atomic_store(&port, h.port);
    pthread_create(&server, NULL, serve, &result);
    start_watchers(watchers, wanted);
    for (int i = 0; i < CHURNERS; i++) {
        churners[i] = (struct churner){.least = amount(100)};
        pthread_create(&churners[i].thread, NULL, churn, &churners[i]);
    }
    start_producers(wanted);
    join_producers();
    join_watchers(watchers);
    atomic_store(&stop, true);
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(churners[i].thread, NULL);
    is_int(ws_server_defer(h.server, stop_server, h.server), WS_OK, "the shutdown, deferred");
    pthread_join(server, NULL);
    is_int(result, WS_OK, "T67: ws_server_run returns");
    finish_producers("order");
    harness_stop(&h, "four threads");
}

/* ---- T67: shutdown and run again, under fire ---- */

static void test_lives(void)
{
    const unsigned lives = amount(100);
    struct churner churner = {.least = 0};
    unsigned over = 0;
    prepare(&h);
    h.real_time = true;
    harness_start(&h);
    atomic_store(&port, h.port);
    atomic_store(&stop, false);
    outside = 0;
    until_shutdown = 200;
    start_producers(0);
    pthread_create(&churner.thread, NULL, churn, &churner);
    for (unsigned i = 0; i < lives; i++) {
        int result;
        ran_in_life = 0;
        serve(&result);
        over += result == WS_OK;
        if (i % 4 == 0)
            usleep(1000); /* for refusals */
        if (i + 1 < lives)
            harness_listen(&h);
        atomic_store(&port, h.port);
    }
    atomic_store(&stop, true);
    join_producers();
    pthread_join(churner.thread, NULL);
    is_int(over, lives, "T67: shut down and run again");
    finish_producers("lives");
    harness_stop(&h, "many lives");
    until_shutdown = 0;
}

/* ---- two servers in two threads ---- */

struct pair {
    pthread_t thread;
    struct harness h;
    unsigned rounds, wrong;
    bool clean;
};

static const char deflate_request[] =
    "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/* Echo, a compressed answer, and what was published. */
static void answer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                   const char *data, size_t length)
{
    char text[300];
    (void)harness, (void)request;
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "topic", 5);
    if (event != ON_MESSAGE)
        return;
    memset(text, 'x', sizeof text);
    ws_conn_send(conn, data, length, WS_TEXT);
    ws_conn_send(conn, text, sizeof text, WS_TEXT | WS_COMPRESS);
    ws_conn_publish(conn, "topic", 5, data, length, WS_TEXT, false);
}

static bool talk(struct pair *pair, unsigned round)
{
    struct client c;
    char word[16], frame[20];
    int n = snprintf(word, sizeof word, "round %u", round);
    client_connect(&c, &pair->h);
    client_say(&c, round & 1 ? deflate_request : handshake_request);
    client_text(&c, word);
    turns(&pair->h, 4);
    client_read(&c);
    snprintf(frame, sizeof frame, "\x81%c%s", n, word);
    const char *first = memmem(c.in, c.in_length, frame, (size_t)n + 2);
    bool fine = first && memmem(first + 1, c.in_length - (size_t)(first + 1 - c.in), frame,
                                (size_t)n + 2);
    if (round % 3 == 0)
        client_send_close(&c, 1000, "");
    turns(&pair->h, 2);
    client_close(&c);
    advance(&pair->h, 1000);
    return fine;
}

static void *be_server(void *argument)
{
    struct pair *pair = argument;
    for (unsigned i = 0; i < pair->rounds; i++)
        pair->wrong += !talk(pair, i);
    pair->clean = harness_free(&pair->h);
    return NULL;
}

static void test_pair(void)
{
    static struct pair pairs[SERVERS];
    for (int i = 0; i < SERVERS; i++) {
        struct harness *own = &pairs[i].h;
        prepare(own);
        own->hook = answer;
        if (ws_compression_available())
            own->behavior.compression = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR;
        harness_start(own);
        pairs[i].rounds = amount(1000);
    }
    for (int i = 0; i < SERVERS; i++)
        pthread_create(&pairs[i].thread, NULL, be_server, &pairs[i]);
    for (int i = 0; i < SERVERS; i++) {
        pthread_join(pairs[i].thread, NULL);
        is_int(pairs[i].wrong, 0, "T67: two servers in two threads: each gives its own answers");
        ok(pairs[i].clean, "T68: and ends balanced");
    }
}

static void cases(void)
{
    CASE(test_order());
    CASE(test_lives());
    CASE(test_pair());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
