/* SPDX-License-Identifier: MIT */
/*
 * test_http_chaos.c: random clients that pipeline requests with bodies, and an application that
 * does whatever it may with any request in any callback, while memory fails and time jumps. What
 * must hold: no byte of a body is ever taken for a request, on_body gets exactly what was sent,
 * clients get well-formed responses in the order of their requests, each request is answered or
 * on_aborted runs, and nothing is left. The same seeds on every run.
 */
#include "harness.h"
#include "sendfile.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PEERS = 10, STEPS = 4000, SEEDS = 8, REQUESTS = 5, MAX_IDS = 1 << 16, BODY = 90000 };

/* What bodies consist of. Its handler must not run. */
static const char evil[] = "GET /evil HTTP/1.1\r\nHost: t\r\n\r\n";

/* A request, by the id in its query. */
struct sent {
    bool head, chunked, tame;
    size_t length;
    /* What the application knows. */
    ws_request *request; /* while it may use it */
    bool ends_known;     /* on_aborted will run */
    bool begun;
    size_t got; /* bytes of the body */
    bool complete;
};

struct peer {
    struct client client;
    char *script;
    size_t length, written;
    int ids[REQUESTS]; /* in their order */
    int count, answered;
    bool tame; /* what it sends is valid */
};

static struct harness h;
static struct sent sent[MAX_IDS];
static int ids, live, faults;
static struct peer peers[PEERS];
static char filler[200000];
static uint32_t state;
static int depth, file; /* with the bytes of filler */

static uint32_t random_below(uint32_t limit)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 4) * limit >> 28);
}

static void fault(const char *what, int id)
{
    if (faults++ < 10)
        diag("%s: request %d", what, id);
}

/* ---- the application ---- */

static void done(struct sent *s)
{
    live -= s->request && s->ends_known;
    s->request = NULL;
}

static void on_aborted(ws_request *request, void *user)
{
    struct sent *s = user;
    if (s->request != request)
        fault("on_aborted of a request that was answered", (int)(s - sent));
    done(s);
    ws_request_pause_body(request);
    ws_request_resume_body(request);
    if (ws_request_respond(request, 200, NULL, "x", 1) != WS_ECLOSED ||
        ws_request_abort(request) != WS_ECLOSED)
        fault("aborted, but open", (int)(s - sent));
}

static void act(struct sent *s);

static void act_on_any(void)
{
    if (!live || !ids || depth > 2)
        return;
    int id = ids - 1;
    for (int tries = 0; tries < 40 && id >= 0; tries++, id -= 1 + (int)random_below(3))
        if (sent[id].request && sent[id].ends_known && random_below(2)) {
            depth++;
            act(&sent[id]);
            depth--;
            return;
        }
}

/* on_response may act on any request, so this one is not open any more. */
static void answer(struct sent *s, int status, size_t length)
{
    ws_request *r = s->request;
    done(s);
    if (ws_request_respond(r, status, NULL, filler, length) == WS_ECLOSED)
        fault("closed, but neither answered nor aborted", (int)(s - sent));
}

static void on_body(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    struct sent *s = user;
    const int id = (int)(s - sent);
    (void)request;
    if (!s->request || s->complete)
        fault("on_body of a request that is answered or complete", id);
    for (size_t i = 0; i < length && s->tame; i++)
        if (data[i] != evil[(s->got + i) % (sizeof evil - 1)]) {
            fault("another body", id);
            break;
        }
    s->got += length;
    s->complete = last;
    if (s->tame && (s->got > s->length || (last && s->got != s->length)))
        fault("a body of another length", id);
    if (random_below(3) == 0)
        act_on_any();
    while (s->request && random_below(last ? 3 : 6) == 0)
        act(s);
    if (s->request && !s->ends_known && last) /* no one would know of its end */
        answer(s, 200, random_below(1000));
}

/* Nothing more will be written: the request is not open any more. */
static void finish(struct sent *s)
{
    ws_request *r = s->request;
    done(s);
    ws_request_finish(r);
}

static void on_writable(ws_request *request, void *user)
{
    struct sent *s = user;
    if (s->request != request || !s->begun)
        fault("on_writable of a request that is not being answered", (int)(s - sent));
    else
        act(s);
}

/* A request whose response has begun. */
static void go_on(struct sent *s)
{
    const size_t most = random_below(3) ? 3000 : 60000;
    if (random_below(5) == 0)
        finish(s);
    else if (ws_request_write(s->request, filler, random_below((uint32_t)most)) == WS_EINVAL)
        finish(s); /* more than was announced; perhaps too little, which drops it */
}

static void answer_in_parts(struct sent *s)
{
    ws_request *r = s->request;
    ws_request_on_writable(r, on_writable, s);
    s->begun = true;
    uint64_t length = random_below(3) ? WS_UNKNOWN_LENGTH : random_below(100000);
    if (ws_request_begin(r, random_below(9) ? 200 : 204, NULL, length) != WS_OK) {
        done(s);
        return;
    }
    for (uint32_t n = random_below(4); s->request == r && n; n--)
        go_on(s);
    if (s->request == r && !s->ends_known)
        finish(s);
}

static void answer_from_source(struct sent *s)
{
    ws_request *r = s->request;
    const uint32_t from = random_below(1000), left = (uint32_t)sizeof filler - from;
    const size_t n = random_below(20) ? random_below(left) : left + 1; /* more than there is */
    int fd = WS__SENDFILE_AVAILABLE && random_below(2) ? dup(file) : -1;
    done(s);
    if (fd < 0)
        ws_request_respond_static(r, 200, NULL, filler, random_below(sizeof filler));
    else if (ws_request_respond_file(r, 200, NULL, fd, from, n) != WS_OK)
        close(fd);
}

static void answer_somehow(struct sent *s)
{
    switch (random_below(3)) {
    case 0:
        answer(s, random_below(9) ? 200 : 204,
               random_below(random_below(4) ? 300 : sizeof filler));
        break;
    case 1:
        answer_in_parts(s);
        break;
    default:
        answer_from_source(s);
    }
}

static void use_body(struct sent *s)
{
    ws_request *r = s->request;
    switch (random_below(4)) {
    case 0:
        ws_request_pause_body(r);
        if (!s->ends_known || random_below(2))
            ws_request_resume_body(r);
        break;
    case 1:
        if (s->ends_known)
            ws_request_read_body(r, random_below(8) ? BODY : random_below(BODY), on_body, s);
        break;
    default:
        ws_request_resume_body(r);
    }
}

/* One thing that may be done with a request that is not answered. */
static void act(struct sent *s)
{
    ws_request *r = s->request;
    size_t length;
    switch (random_below(20)) {
    case 0:
        if (random_below(4) == 0)
            ws_request_close_after(r);
        break;
    case 1:
        ws_request_query(r, &length);
        ws_request_header(r, "host", &length);
        break;
    case 2:
        if (random_below(4) == 0) {
            done(s);
            ws_request_abort(r);
        }
        break;
    case 3:
        act_on_any();
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
        use_body(s);
        break;
    default:
        if (s->begun)
            go_on(s);
        else
            answer_somehow(s);
    }
}

/* A byte of the request may have been changed. */
static int key_of(int id)
{
    return (int)(((uint32_t)id + 1) * 2654435761u >> 8);
}

static int id_of(ws_request *request)
{
    size_t length;
    const char *query = ws_request_query(request, &length);
    const int id = query && length > 3 ? atoi(query + 3) : -1;
    const char *key = ws_request_header(request, "x-key", &length);
    return key && length && atoi(key) == key_of(id) ? id : -1;
}

static void handler(ws_request *request, void *user)
{
    char value[16];
    const int id = id_of(request);
    (void)user;
    if (id < 0 || id >= ids || sent[id].request) {
        ws_request_respond(request, 400, NULL, "x", 1);
        return;
    }
    struct sent *s = &sent[id];
    s->request = request;
    s->got = 0;
    s->complete = s->begun = s->ends_known = false;
    int n = snprintf(value, sizeof value, "%d", id);
    ws_request_add_header(request, "X-Id", 4, value, (size_t)n);
    if (random_below(8) == 0)
        act_on_any();
    if (random_below(4) && ws_request_defer(request, on_aborted, s) == WS_OK) {
        s->ends_known = true;
        live++;
    }
    if (random_below(4)) {
        int result = ws_request_read_body(request, BODY, on_body, s);
        if (s->request && s->ends_known && result == WS_ECLOSED)
            fault("closed, but not aborted", id);
        if (result == WS_ECLOSED)
            done(s);
    }
    while (s->request && random_below(3) == 0)
        act(s);
    if (s->request && !s->ends_known && !random_below(3))
        answer(s, 200, random_below(300));
}

static void evil_handler(ws_request *request, void *user)
{
    (void)user;
    fault("a body was taken for a request", -1);
    ws_request_abort(request);
}

static void on_response(ws_request *request, int status, size_t length, const char *why,
                        size_t why_length, void *user)
{
    (void)request, (void)status, (void)length, (void)why, (void)why_length, (void)user;
    if (random_below(6) == 0)
        act_on_any();
}

static void on_log(void *user, int level, const char *line, size_t length)
{
    (void)user, (void)level, (void)line, (void)length;
    act_on_any();
}

/* ---- clients ---- */

static void put(struct peer *p, const void *bytes, size_t n)
{
    memcpy(p->script + p->length, bytes, n);
    p->length += n;
}

static void put_content(struct peer *p, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p->script[p->length++] = p->tame ? evil[(from + i) % (sizeof evil - 1)] : '0';
}

static void put_chunks(struct peer *p, size_t length)
{
    static const char *const extensions[] = {"", "", "", ";a", "; a=b", ";a=\"b;\\\"c\""};
    char line[64];
    const uint32_t most = random_below(3) ? 20000 : 40;
    if (most < 100 && length > 4000)
        length = 4000;
    for (size_t at = 0; at < length;) {
        size_t n = 1 + random_below(most);
        n = n < length - at ? n : length - at;
        put(p, line, (size_t)snprintf(line, sizeof line, "%zx%s\r\n", n,
                                      extensions[random_below(6)]));
        put_content(p, at, n);
        put(p, "\r\n", 2);
        at += n;
    }
    put(p, "0\r\n", 3);
    if (random_below(3) == 0)
        put(p, "T: railer\r\n", 11);
    put(p, "\r\n", 2);
    sent[ids].length = length;
}

static void put_request(struct peer *p)
{
    char head[200];
    struct sent *s = &sent[ids];
    memset(s, 0, sizeof *s);
    s->head = random_below(12) == 0;
    s->chunked = random_below(2);
    s->length = random_below(3) ? random_below(200) : random_below(BODY);
    s->tame = p->tame;
    const bool body = random_below(4);
    int n = snprintf(head, sizeof head, "%s /up?id=%d HTTP/1.1\r\nHost: t\r\nX-Key: %d\r\n%s",
                     s->head ? "HEAD" : body ? "POST" : "GET", ids, key_of(ids),
                     random_below(6) ? "" : "Expect: 100-continue\r\n");
    put(p, head, (size_t)n);
    if (!body) {
        s->length = 0;
        put(p, "\r\n", 2);
    } else if (s->chunked) {
        put(p, head, (size_t)snprintf(head, sizeof head, "Transfer-Encoding: chunked\r\n\r\n"));
        put_chunks(p, s->length);
    } else {
        put(p, head, (size_t)snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n",
                                      s->length));
        put_content(p, 0, s->length);
    }
    p->ids[p->count++] = ids++;
}

static void begin_peer(struct peer *p)
{
    memset(p, 0, sizeof *p);
    p->script = malloc((size_t)REQUESTS * (3 * BODY));
    p->tame = random_below(5);
    for (uint32_t n = 1 + random_below(REQUESTS); n; n--)
        put_request(p);
    for (int n = p->tame ? 0 : 3; n; n--)
        p->script[random_below((uint32_t)p->length)] = (char)random_below(128);
    if (random_below(2))
        client_connect_small(&p->client, &h);
    else
        client_connect(&p->client, &h);
    p->client.hasty = true;
}

static void end_peer(struct peer *p, bool hard)
{
    if (hard && p->client.fd >= 0)
        client_reset(&p->client);
    client_close(&p->client);
    free(p->script);
    p->script = NULL;
}

/* Returns the length of the chunks that bytes[length] begins with, or 0 if they are not whole. */
static size_t chunks_length(const char *bytes, size_t length)
{
    for (size_t at = 0;;) {
        const char *end = memmem(bytes + at, length - at, "\r\n", 2);
        if (!end)
            return 0;
        const size_t n = (size_t)strtol(bytes + at, NULL, 16);
        at = (size_t)(end - bytes) + 2 + n + 2;
        if (at > length)
            return 0;
        if (memcmp(bytes + at - 2, "\r\n", 2) || (n && end[2] != 'x'))
            fault("malformed chunks", -1);
        if (!n)
            return at;
    }
}

static bool is_head(const char *bytes, size_t length)
{
    return !memcmp(bytes, "HTTP/1.1 ", length < 9 ? length : 9);
}

/* Takes the response that bytes[length] begins with. Returns its length; 0 if it is not whole. */
static size_t take_response(struct peer *p, char *bytes, size_t length)
{
    char *end = memmem(bytes, length, "\r\n\r\n", 4), *at;
    const int id = p->answered < p->count ? p->ids[p->answered] : -1;
    if (!is_head(bytes, length)) {
        fault("no response", id);
        p->tame = false;
    }
    if (!end || !p->tame)
        return 0;
    const size_t head = (size_t)(end - bytes) + 4;
    const int status = atoi(bytes + 9);
    if (status == 100)
        return head;
    *end = '\0';
    size_t n = (at = strstr(bytes, "Content-Length: ")) ? (size_t)atol(at + 16) : 0;
    const bool chunked = strstr(bytes, "Transfer-Encoding: chunked");
    if ((at = strstr(bytes, "X-Id: ")) && atoi(at + 6) != id)
        fault("the response to another request", id);
    if (id < 0)
        fault("a response without a request", -1);
    *end = '\r';
    if (id >= 0 && sent[id].head && status != 408 && status != 503)
        n = 0;
    else if (chunked && !(n = chunks_length(bytes + head, length - head)))
        return 0;
    if (length < head + n)
        return 0;
    p->answered++;
    return head + n;
}

static void read_peer(struct peer *p)
{
    struct client *c = &p->client;
    size_t at = 0, n;
    client_read(c);
    while (p->tame && c->in_length > at && (n = take_response(p, c->in + at, c->in_length - at)))
        at += n;
    if (!p->tame)
        at = c->in_length;
    if (c->in_length)
        memmove(c->in, c->in + at, c->in_length - at);
    c->in_length -= at;
}

static void act_as_peer(void)
{
    struct peer *p = &peers[random_below(PEERS)];
    if (!p->script) {
        if (ids + REQUESTS < MAX_IDS)
            begin_peer(p);
        return;
    }
    const uint32_t what = random_below(40);
    if (what < 14) {
        size_t n = random_below(random_below(2) ? 200 : 40000);
        n = n < p->length - p->written ? n : p->length - p->written;
        p->written += client_write(&p->client, p->script + p->written, n);
    } else if (what < 36) {
        read_peer(p);
    } else if (what == 36 && random_below(4) == 0) {
        client_finish(&p->client);
    } else if (what == 37 && random_below(4) == 0) {
        end_peer(p, random_below(2));
    }
    if (p->client.eof || p->client.reset)
        end_peer(p, false);
}

/* ---- all of them ---- */

static void start(uint32_t seed)
{
    harness_init(&h);
    state = seed * 2654435761u;
    ids = live = faults = depth = 0;
    memset(filler, 'x', sizeof filler);
    file = memfd_create("filler", MFD_CLOEXEC);
    if (ftruncate(file, 0) || pwrite(file, filler, sizeof filler, 0) != (ssize_t)sizeof filler)
        diag("no file");
    h.quiet = true;
    h.send_buffer = seed & 2 ? 4608 : 0;
    h.config.log = on_log;
    harness_create(&h);
    ws_server_http(h.server, "*", "/up", handler, NULL);
    ws_server_http(h.server, "*", "/evil", evil_handler, NULL);
    ws_server_set_on_response(h.server, on_response, NULL);
    harness_listen(&h);
    memset(peers, 0, sizeof peers);
}

/* What only the application can end: a body that is paused, and a response that has begun. */
static void let_go(struct sent *s)
{
    if (s->begun)
        finish(s);
    else
        ws_request_resume_body(s->request);
}

/* Peers that neither send nor read, and a server that shuts down: only time ends them. */
static void shut_down(uint32_t seed)
{
    if (seed % 3 == 0)
        ws_server_drain(h.server);
    else
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000000);
    for (int i = 0; i < 20; i++) {
        turns(&h, 2);
        if (seed % 3)
            advance(&h, 6000);
    }
}

static void run(uint32_t seed, bool failures)
{
    start(seed);
    for (int i = 0; i < STEPS; i++) {
        if (failures && random_below(20) == 0)
            h.memory.fail_at = h.memory.calls + 1 + random_below(10);
        act_as_peer();
        if (random_below(3) == 0)
            act_on_any();
        if (random_below(3) == 0)
            turns(&h, 1);
        if (random_below(300) == 0)
            advance(&h, random_below(20000));
    }
    h.memory.fail_at = 0;
    if (seed % 4 == 0)
        shut_down(seed);
    if (seed % 4 == 0 && seed % 3)
        is_int(stats_of(&h).connections, 0, "T84: a shutdown does not depend on the peers");
    for (int i = 0; i < PEERS; i++)
        end_peer(&peers[i], i & 1);
    for (int i = 0; i < 20; i++) {
        for (int id = 0; id < ids; id++)
            if (sent[id].request && sent[id].ends_known)
                let_go(&sent[id]);
        advance(&h, 10000);
    }
    is_int(stats_of(&h).connections, 0, "seed %u: no connection is left", seed);
    is_int(live, 0, "each request was answered or aborted, of %d", ids);
    is_int(faults, 0, "and nothing else was wrong");
    harness_stop(&h, "http chaos");
    close(file);
}

static void test_seeds(void)
{
    const char *first = getenv("CHAOS_FIRST"), *count = getenv("CHAOS_SEEDS"); /* for more */
    const uint32_t from = first ? (uint32_t)atoi(first) : 1;
    const uint32_t end = from + (count ? (uint32_t)atoi(count) : SEEDS);
    for (uint32_t seed = from; seed < end; seed++)
        run(seed, seed & 1);
}

static void cases(void)
{
    CASE(test_seeds());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
