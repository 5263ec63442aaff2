/* SPDX-License-Identifier: MIT */
/*
 * test_wire.c: the text vectors (tests/vectors/README.md) through a real socket into the server:
 * each one whole, byte by byte, and at every two-way split (of the large ones: 40), a turn of the
 * loop between the parts. The handlers see the same events in each run, and a vector that ends the
 * connection is answered with the right Close, then FIN.
 * Each file of vectors is a case.
 */
#include "harness.h"
#include "vectors.h"

enum { ALL_SPLITS = 150, SOME_SPLITS = 40, TURNS = 100000 };

static struct harness h;

/* Handlers compare with the current vector. */
static struct {
    const struct vector *vector;
    size_t events;
    bool wrong, over;
} run;

static void take(const char *kind, int code, const char *data, size_t length)
{
    const struct expected *want = &run.vector->events[run.events];
    if (run.events++ >= run.vector->event_count || strcmp(want->kind, kind) ||
        want->code != code || want->data.length != length ||
        (length && memcmp(want->data.data, data, length)) != 0)
        run.wrong = true;
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)conn;
    (void)user;
    take(opcode == WS_TEXT ? "TEXT" : "BINARY", 0, data, length);
}

static void on_ping(ws_conn *conn, const char *data, size_t length, void *user)
{
    (void)conn;
    (void)user;
    take("PING", 0, data, length);
}

static void on_pong(ws_conn *conn, const char *data, size_t length, void *user)
{
    (void)conn;
    (void)user;
    take("PONG", 0, data, length);
}

/* The kind of the last expected event, "" without one. */
static const char *last_kind(void)
{
    size_t n = run.vector->event_count;
    return n ? run.vector->events[n - 1].kind : "";
}

static bool is_ended(void)
{
    return !strcmp(last_kind(), "CLOSE") || !strcmp(last_kind(), "FAIL");
}

static void on_close(ws_conn *conn, int code, const char *reason, size_t length, void *user)
{
    (void)conn;
    (void)user;
    run.wrong |= run.over;
    run.over = true;
    if (is_ended())
        take(last_kind(), code, reason, length);
    else
        run.wrong |= code != 1006; /* the test itself ends it */
}

static void start(const struct vector *v)
{
    ws_behavior behavior;
    harness_init(&h);
    harness_create(&h);
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.max_payload_length = v->limit;
    behavior.on_message = on_message;
    behavior.on_ping = on_ping;
    behavior.on_pong = on_pong;
    behavior.on_close = on_close;
    ws_server_ws(h.server, "/", &behavior);
    harness_listen(&h);
}

static void feed(struct client *c, size_t from, size_t to)
{
    for (int i = 0; from < to && i < TURNS && !run.over; i++) {
        from += client_write(c, run.vector->wire.data + from, to - from);
        turns(&h, 2);
    }
    turns(&h, 2);
}

/* After the parts: the Close frame and FIN, or nothing yet and the client leaves. */
static bool finish(struct client *c)
{
    char want[32];
    if (is_ended()) {
        int code = run.vector->events[run.vector->event_count - 1].code;
        const char *frames = client_frames(c);
        snprintf(want, sizeof want, code == 1005 ? "CLOSE" : "CLOSE %d", code);
        run.wrong |= !strstr(frames, want) || !c->eof || c->reset;
    } else {
        run.wrong |= run.over;
        client_finish(c);
        turns(&h, 3);
    }
    client_close(c);
    turns(&h, 3);
    return !run.wrong && run.over && run.events == run.vector->event_count;
}

static bool run_pieces(const struct vector *v, size_t first, size_t piece)
{
    struct client c;
    size_t n = v->wire.length;
    run.vector = v;
    run.events = 0;
    run.wrong = run.over = false;
    client_open(&c, &h);
    feed(&c, 0, first);
    for (size_t at = first; at < n; at += piece)
        feed(&c, at, n - at > piece ? at + piece : n);
    if (finish(&c))
        return true;
    diag("cut at %zu, then every %zu: %zu events%s", first, piece, run.events,
         run.wrong ? ", a wrong one" : "");
    return false;
}

static bool run_vector(const struct vector *v)
{
    size_t n = v->wire.length, step = n <= ALL_SPLITS ? 1 : n / SOME_SPLITS;
    start(v);
    bool good = run_pieces(v, n, n) && (n > 2000 || run_pieces(v, 1, 1));
    for (size_t at = 1; good && at < n; at += step)
        good = run_pieces(v, at, n);
    return harness_free(&h) && good;
}

static void test_vector(const char *file, const struct vector *v)
{
    ok(!v->broken && run_vector(v), "%s: %s", file, v->name);
}

static void cases(void)
{
    run_vector_cases(test_vector);
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
