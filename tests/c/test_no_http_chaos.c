/* SPDX-License-Identifier: MIT */
/*
 * test_no_http_chaos.c: random clients of a server without HTTP beside WebSocket (-DWS_NO_HTTP),
 * and an application that does whatever it may with any request in any callback, while memory fails
 * and time jumps. What must hold: nothing that belongs to a body or follows a refusal is taken for
 * a request, each request is answered or on_aborted runs, each connection ends although no client
 * leaves, and nothing is left. The same seeds on every run.
 */
#include "harness.h"
#include "ws_http.h"

enum { PEERS = 12, STEPS = 10000, SEEDS = 12, LIVE = 12 };

static struct harness h;
static struct client peers[PEERS];
static ws_request *live[LIVE]; /* deferred, by their place in it */
static int depth, faults, deferred, aborted, ended;
static uint32_t state;
static char page[100000];

static uint32_t random_below(uint32_t limit)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 4) * limit >> 28);
}

static void fault(const char *what)
{
    if (faults++ < 10)
        diag("%s", what);
}

/* ---- the application ---- */

static bool is_live(const ws_request *request)
{
    for (int i = 0; i < LIVE; i++)
        if (live[i] == request)
            return true;
    return false;
}

static void forget(const ws_request *request)
{
    for (int i = 0; i < LIVE; i++)
        if (live[i] == request)
            live[i] = NULL;
}

static void act(ws_request *request, bool first);

static void act_on_any(void)
{
    ws_request *request = live[random_below(LIVE)];
    if (!request || depth > 3)
        return;
    depth++;
    act(request, false);
    depth--;
}

static void on_aborted(ws_request *request, void *user)
{
    if (user != live || !is_live(request))
        fault("on_aborted of a request that was answered");
    forget(request);
    aborted++;
    const int refusal = ws_request_refusal(request);
    if (refusal && refusal != 503 && refusal != 408)
        fault("another refusal");
    if (ws_request_respond(request, 200, NULL, "x", 1) != WS_ECLOSED ||
        ws_request_abort(request) != WS_ECLOSED ||
        ws_request_upgrade(request, NULL, 0, NULL) != WS_ECLOSED ||
        ws_request_defer(request, NULL, NULL) != WS_ECLOSED)
        fault("aborted, but open");
    act_on_any();
}

static void defer(ws_request *request)
{
    for (int i = 0; i < LIVE && !is_live(request); i++)
        if (!live[i]) {
            live[i] = request;
            if (ws_request_defer(request, on_aborted, live))
                live[i] = NULL;
            else
                deferred++;
            return;
        }
}

static void act(ws_request *request, bool first)
{
    size_t n;
    const char *path = ws_request_path(request, &n);
    if (n >= 5 && !memcmp(path, "/evil", 5))
        fault("a handler got a request that is malformed");
    if (random_below(4) == 0)
        ws_request_add_header(request, "X-Field", 7, page, random_below(300));
    switch (random_below(first ? 12 : 8)) {
    case 0:
        forget(request);
        ws_request_abort(request);
        break;
    case 1:
        forget(request);
        ws_request_respond_static(request, 404, NULL, page, random_below(sizeof page));
        break;
    case 2:
        forget(request);
        ws_request_respond(request, 200 + (int)random_below(300), NULL, page,
                           random_below(random_below(8) ? 100 : sizeof page));
        break;
    case 3:
        if (random_below(100) == 0) {
            ended++;
            ws_server_shutdown(h.server, 1001, NULL, 0, random_below(5000));
        } else if (random_below(100) == 0) {
            ended++;
            ws_server_drain(h.server);
        }
        break;
    case 4:
        act_on_any();
        break;
    case 5:
    case 6:
        if (ws_request_is_upgrade(request)) {
            forget(request);
            ws_request_upgrade(request, NULL, 0, NULL);
        }
        break;
    case 7:
        break;
    default:
        defer(request);
    }
}

static void hook(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)data, (void)length, (void)conn;
    if (event == ON_UPGRADE)
        act(request, true);
    else if (random_below(3) == 0)
        act_on_any();
}

static void on_fallback(ws_request *request, int status, void *user)
{
    (void)user;
    if (status != 404 && status != 405)
        fault("another status");
    act(request, true);
}

static void on_response(ws_request *request, int status, size_t length, const char *why,
                        size_t why_length, void *user)
{
    (void)status, (void)length, (void)why, (void)why_length, (void)user;
    if (ws_request_respond(request, 200, NULL, "x", 1) != WS_ECLOSED)
        fault("answered, but open");
    if (random_below(3) == 0)
        act_on_any();
}

/* ---- the clients ---- */

#define HOST "Host: t\r\n"
#define UPGRADE \
    HOST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"
#define EVIL "GET /evil HTTP/1.1\r\n" HOST "\r\n"

enum { HANDSHAKES = 2 }; /* the first of these */

static const char *const requests[] = {
    "GET / HTTP/1.1\r\n" UPGRADE "\r\n",
    "GET / HTTP/1.1\r\n" UPGRADE "\r\n\x81\x82----\x0c\x0c",
    "GET / HTTP/1.1\r\n" UPGRADE "Content-Length: 31\r\n\r\n" EVIL,
    "PUT / HTTP/1.1\r\n" UPGRADE "\r\n" EVIL,
    "GET / HTTP/1.1\r\n" HOST "\r\n" EVIL,
    "HEAD / HTTP/1.1\r\n" HOST "\r\n" EVIL,
    "HEAD /page HTTP/1.0\r\n\r\n" EVIL,
    "GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" EVIL,
    "GET /page HTTP/1.1\r\n" UPGRADE "\r\n" EVIL,
    "POST /page HTTP/1.1\r\n" HOST "Content-Length: 31\r\n\r\n" EVIL EVIL,
    "POST /page HTTP/1.1\r\n" HOST CHUNKED "1f\r\n" EVIL "\r\n0\r\n\r\n" EVIL,
    "POST /page HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 31\r\n\r\n" EVIL,
    "POST / HTTP/1.1\r\n" HOST "Expect: what\r\nContent-Length: 31\r\n\r\n" EVIL,
    "POST /page HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551615\r\n\r\n" EVIL,
    "POST /page HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n" EVIL,
    "BREW /pot HTTP/1.1\r\n" HOST "\r\n" EVIL,
    "GET * HTTP/1.1\r\n\r\n" EVIL,
    "\x16\x03\x01",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
};

static struct script {
    const char *text;
    size_t left;
} scripts[PEERS];

/* All of it, a few bytes, or up to the rest. */
static void speak(int i)
{
    struct script *script = &scripts[i];
    size_t n = random_below(4)   ? script->left
               : random_below(2) ? 1
                                 : random_below((uint32_t)script->left + 1);
    if (n > script->left)
        n = script->left;
    if (n)
        n = client_write(&peers[i], script->text, n);
    script->text += n;
    script->left -= n;
    if (!script->left && random_below(4) == 0)
        client_write(&peers[i], page, random_below(20000)); /* also ahead of any answer */
}

static void move(int i)
{
    struct client *c = &peers[i];
    if (c->fd < 0) {
        const uint32_t count = sizeof requests / sizeof *requests;
        scripts[i].text = requests[random_below(random_below(2) ? HANDSHAKES : count)];
        scripts[i].left = strlen(scripts[i].text);
        if (random_below(2))
            client_connect_small(c, &h);
        else
            client_connect(c, &h);
        c->hasty = true;
        return;
    }
    switch (random_below(20)) {
    case 0:
        client_close(c);
        break;
    case 1:
        client_reset(c);
        break;
    case 2:
        client_finish(c);
        break;
    case 3:
    case 4:
    case 5:
        client_read(c);
        c->in_length = 0;
        break;
    case 6:
        act_on_any();
        break;
    default:
        speak(i);
    }
}

static int unanswered(void)
{
    int n = 0;
    for (int i = 0; i < LIVE; i++)
        n += live[i] != NULL;
    return n;
}

/* Whatever is left at the end has a timer: no client leaves, and no handler runs by itself. */
static void test_seed(uint32_t seed)
{
    const bool failures = seed & 1;
    harness_init(&h);
    state = seed * 2654435761u;
    faults = deferred = aborted = ended = 0;
    h.quiet = h.answers = true;
    h.hook = hook;
    h.send_buffer = 4608;
    h.behavior.idle_timeout = 20000;
    h.behavior.close_timeout = 2000;
    harness_create(&h);
    harness_route(&h, "/");
    if (seed % 4)
        ws_server_set_fallback(h.server, on_fallback, NULL);
    ws_server_set_on_response(h.server, on_response, NULL);
    harness_listen(&h);
    for (int i = 0; i < PEERS; i++)
        peers[i] = (struct client){.fd = -1};
    for (int i = 0; i < STEPS && h.opened < MAX_CONNS - 1 && !ended; i++) {
        if (failures && random_below(20) == 0)
            h.memory.fail_at = h.memory.calls + 1 + random_below(10);
        move((int)random_below(PEERS));
        if (random_below(3) == 0)
            turns(&h, 1);
        if (random_below(200) == 0)
            advance(&h, random_below(12000));
    }
    h.memory.fail_at = 0;
    for (int i = 0; i < 6; i++)
        advance(&h, 60000);
    ws_stats s = stats_of(&h);
    ok(!faults && !unanswered() && !s.connections && s.opened == s.closed,
       "E2, T93: seed %u%s%s: each request and each connection ends", seed,
       failures ? ", memory fails" : "", ended ? ", the server ends" : "");
    diag("%d opened, %d deferred, %d aborted; %d left, %d unanswered", h.opened, deferred, aborted,
         (int)s.connections, unanswered());
    for (int i = 0; i < PEERS; i++)
        client_close(&peers[i]);
    harness_stop(&h, "chaos");
}

static void cases(void)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        CASE(test_seed(seed));
}

int main(int argc, char **argv)
{
    memset(page, 'p', sizeof page);
    return run_cases(argc, argv, cases);
}
