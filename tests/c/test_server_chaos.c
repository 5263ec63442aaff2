/* SPDX-License-Identifier: MIT */
/*
 * test_server_chaos.c: random peers, random handlers, random failures of memory and jumps of time
 * against one server; what must hold at the end: one on_close for each on_open, nothing leaked,
 * and a server that still serves. The same seeds on every run.
 */
#include "harness.h"
#include "ws_cluster.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { PEERS = 24, STEPS = 6000, SEEDS = 8 };

static struct harness h;
static struct client peers[PEERS];
static char payload[70000], labelled[70000] = "\0\n";
static uint32_t state;

static uint32_t random_below(uint32_t limit)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 4) * limit >> 28);
}

static ws_conn *any_conn(void)
{
    return h.opened ? conn_at(&h, (int)random_below((uint32_t)h.opened)) : NULL;
}

static void forget(ws_request *request, void *user)
{
    (void)request, (void)user;
    h.deferred = NULL;
}

static void answer(ws_request *request)
{
    switch (random_below(h.deferred ? 6 : 8)) {
    case 0:
        ws_request_respond(request, 403, NULL, payload, random_below(100));
        break;
    case 1:
        ws_request_abort(request);
        break;
    case 2:
        break;
    case 6:
    case 7:
        if (ws_request_defer(request, forget, NULL) == WS_OK)
            h.deferred = request;
        break;
    default:
        if (ws_request_is_upgrade(request))
            ws_request_upgrade(request, NULL, 0, NULL);
        else
            ws_request_respond(request, 200, NULL, payload, random_below(sizeof payload));
    }
}

/* Topics, with and without labels. */
static void use_topic(ws_conn *conn, int opcode)
{
    const char *topic = random_below(2) ? "a" : "b";
    const size_t length = random_below(random_below(3) ? 300 : 20000);
    switch (random_below(7)) {
    case 0:
    case 1:
        ws_conn_subscribe(conn, topic, 1);
        break;
    case 2:
        ws_conn_unsubscribe(conn, topic, 1);
        break;
    case 3:
        ws_conn_take_labels(conn);
        break;
    case 4:
        ws_conn_publish(conn, topic, 1, payload, length, opcode, random_below(2));
        break;
    case 5:
        if (random_below(30) == 0)
            ws_server_end_topic(h.server, topic, 1, 1000, "", 0);
        break;
    default:
        ws_server_deliver(h.server, topic, 1, labelled, 2 + length,
                          opcode | WS_LABELLED | (random_below(3) ? 0 : WS_NOTICE));
    }
}

static void use(ws_conn *conn)
{
    int opcode = random_below(2) ? WS_TEXT : WS_BINARY;
    switch (random_below(20)) {
    case 9:
    case 10:
    case 11:
    case 12:
        use_topic(conn, opcode);
        break;
    case 13:
        ws_conn_send(conn, labelled, 2 + random_below(300), opcode | WS_LABELLED);
        break;
    case 0:
        ws_conn_end(conn, 1000, "end", 3);
        break;
    case 1:
        ws_conn_close(conn);
        break;
    case 2:
    case 3:
        ws_conn_send_fragment(conn, payload, random_below(3000), opcode, random_below(2));
        break;
    case 4:
    case 5:
        ws_conn_send_fragment(conn, payload, random_below(3000), WS_CONTINUATION, random_below(2));
        break;
    case 6:
        ws_conn_send(conn, payload, random_below(126), WS_PING);
        break;
    case 7:
        ws_conn_send(conn, payload, random_below(sizeof payload), opcode);
        break;
    case 8:
        ws_conn_cork(conn);
        ws_conn_send(conn, payload, random_below(500), opcode);
        ws_conn_send(conn, payload, random_below(20000), opcode);
        ws_conn_uncork(conn);
        break;
    default:
        ws_conn_send(conn, payload, random_below(300), opcode);
    }
}

static int depth;

static void react(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)data, (void)length, (void)event;
    if (request) {
        answer(request);
        return;
    }
    if (depth > 3)
        return;
    depth++;
    for (uint32_t n = random_below(3); n; n--)
        use(conn);
    ws_conn *other = random_below(4) ? NULL : any_conn();
    if (other)
        use(other);
    depth--;
}

static void speak(struct client *c)
{
    static const char *const heads[] = {
        "GET / HTTP/1.1\r\nHost: t\r\n\r\n", "GET /page HTTP/1.1\r\n", "Host: t\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: t\r\n\r\n", "GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "\r\n", "x"};
    char bytes[8];
    switch (random_below(14)) {
    case 0:
        client_say(c, heads[random_below(sizeof heads / sizeof *heads)]);
        break;
    case 1:
        client_send_close(c, random_below(8) ? 1000 : 1005, "");
        break;
    case 2:
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (char)random_below(256);
        if (random_below(8) == 0)
            client_write(c, bytes, random_below(sizeof bytes));
        break;
    case 3:
        client_frame(c, (int)random_below(3), payload, random_below(2000));
        break;
    case 4:
        client_frame(c, 0x80, payload, random_below(2000));
        break;
    case 5:
        client_frame(c, 0x89, payload, random_below(126));
        break;
    case 6:
        client_frame(c, 0x82, payload, random_below(30000));
        break;
    case 7:
        client_write(c, handshake_request, random_below((uint32_t)strlen(handshake_request)));
        break;
    default:
        for (uint32_t n = random_below(20); n; n--)
            client_text(c, "text");
    }
}

static void act(void)
{
    struct client *c = &peers[random_below(PEERS)];
    ws_conn *conn;
    if (c->fd < 0) {
        client_connect_small(c, &h);
        c->hasty = true;
        if (random_below(4))
            client_say(c, handshake_request);
        return;
    }
    switch (random_below(24)) {
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
        if ((conn = any_conn()))
            use(conn);
        break;
    case 7:
        if (h.deferred) {
            ws_request *request = h.deferred;
            h.deferred = NULL;
            if (ws_request_is_upgrade(request))
                ws_request_upgrade(request, NULL, 0, NULL);
            else
                ws_request_respond(request, 200, NULL, payload, random_below(sizeof payload));
        }
        break;
    default:
        speak(c);
    }
}

static bool still_serves(void)
{
    struct client c;
    h.memory.fail_at = 0;
    h.hook = NULL;
    h.answers = false;
    h.echo = true;
    client_open(&c, &h);
    client_text(&c, "alive");
    bool alive = !strcmp(client_frames(&c), "TEXT alive");
    client_close(&c);
    return alive;
}

static void run(uint32_t seed, bool failures)
{
    harness_init(&h);
    state = seed * 2654435761u;
    h.quiet = true;
    h.send_buffer = 4608;
    h.behavior.max_backpressure = 20000;
    h.behavior.close_timeout = 2000;
    h.hook = react;
    h.answers = true;
    harness_create(&h);
    harness_route(&h, "/");
#ifndef WS_NO_HTTP
    harness_http(&h, "GET", "/page");
#endif
    harness_listen(&h);
    for (int i = 0; i < PEERS; i++)
        peers[i] = (struct client){.fd = -1};
    for (int i = 0; i < STEPS && h.opened < MAX_CONNS - 1; i++) {
        if (failures && random_below(20) == 0)
            h.memory.fail_at = h.memory.calls + 1 + random_below(10);
        act();
        if (random_below(3) == 0)
            turns(&h, 1);
        if (random_below(200) == 0)
            advance(&h, random_below(12000));
    }
    for (int i = 0; i < PEERS; i++)
        client_close(&peers[i]);
    turns(&h, 20);
    advance(&h, 60000);
    ws_stats s = stats_of(&h);
    ok(!s.connections && !s.open && s.opened == s.closed,
       "T68, T93: seed %u%s: balanced, %d opened", seed, failures ? ", memory fails" : "",
       h.opened);
    ok(still_serves(), "T84, T94: the server still serves");
    turns(&h, 5);
    harness_stop(&h, "chaos");
}

static void test_seeds(void)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
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
