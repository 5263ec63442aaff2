/* SPDX-License-Identifier: MIT */
/*
 * test_vectors.c: runs the text vectors (tests/vectors/README.md) through protocol.c: each one
 * whole, byte by byte, and at every two-way split (the large ones at 200 splits and around every
 * line). All must give the same events (T29). The input lies flush against a page that may not be
 * touched; data of an event is written over, as a handler may do.
 * Each file of vectors is a case.
 */
#include "vectors.h"

#include "guard.h"
#include "protocol.h"
#include "tap.h"

enum { TAIL = 130, ALL_SPLITS = 600, SOME_SPLITS = 200 };

/* ---- one run ------------------------------------------------------------------------------- */

struct run {
    const struct vector *vector;
    struct ws__protocol protocol;
    struct ws__memory memory;
    size_t fed, left; /* bytes presented so far; the last ones of them that were not consumed */
    size_t events;
    const char *problem;
};

static const char *kind_of(const struct ws__event *event)
{
    switch (event->type) {
    case WS__EVENT_MESSAGE:
        return event->opcode == WS_TEXT ? "TEXT" : event->opcode == WS_BINARY ? "BINARY" : "?";
    case WS__EVENT_PING:
        return "PING";
    case WS__EVENT_PONG:
        return "PONG";
    case WS__EVENT_CLOSE:
        return "CLOSE";
    case WS__EVENT_NONE:
        break;
    case WS__EVENT_FAIL:
        return "FAIL";
    }
    return "?";
}

static bool same_event(const struct ws__event *event, const struct expected *want)
{
    return !strcmp(kind_of(event), want->kind) && event->code == want->code && event->data &&
           event->length == want->data.length &&
           (!event->length || !memcmp(event->data, want->data.data, event->length));
}

static void take(struct run *r, struct ws__event *event)
{
    const struct vector *v = r->vector;
    if (event->type == WS__EVENT_NONE)
        return;
    if (r->events >= v->event_count || !same_event(event, &v->events[r->events])) {
        diag("event %zu: %s %d, %zu bytes: %.*s", r->events, kind_of(event), event->code,
             event->length, event->length < 96 ? (int)event->length : 96, event->data);
        r->problem = "unexpected event";
    }
    r->events++;
    memset(event->data, 0x5a, event->length);
    ws__protocol_release(&r->protocol, &r->memory);
}

/* Presents the bytes up to `to`, after those that were not consumed. */
static void feed(struct run *r, size_t to)
{
    const uint8_t *wire = r->vector->wire.data;
    size_t n = r->left + to - r->fed;
    struct ws__input in = {(char *)guard_copy(wire + to - n, n), n};
    struct ws__event event;
    int rc;
    while ((rc = ws__protocol_next(&r->protocol, &r->memory, r->vector->limit, &in, &event)) > 0)
        take(r, &event);
    if (rc)
        r->problem = "error";
    if (in.length > TAIL || (r->protocol.ended && in.length))
        r->problem = "too many bytes left";
    else if (in.length && memcmp(in.data, wire + to - in.length, in.length))
        r->problem = "bytes left were changed";
    r->fed = to;
    r->left = in.length;
}

static void begin(struct run *r, const struct vector *v)
{
    *r = (struct run){.vector = v};
    ws__memory_init(&r->memory, NULL, 0);
}

static bool end(struct run *r, const char *how, size_t at)
{
    if (!r->problem && r->events != r->vector->event_count)
        r->problem = "events are missing";
    ws__protocol_deinit(&r->protocol, &r->memory);
    if (!r->problem && r->memory.used)
        r->problem = "memory is still held";
    if (r->problem)
        diag("%s %zu: %s", how, at, r->problem);
    return !r->problem;
}

static bool run_pieces(const struct vector *v, size_t piece)
{
    struct run r;
    begin(&r, v);
    for (size_t to = 0; to < v->wire.length && !r.problem;) {
        to = v->wire.length - to > piece ? to + piece : v->wire.length;
        feed(&r, to);
    }
    return end(&r, "pieces of", piece);
}

static bool run_split(const struct vector *v, size_t at)
{
    struct run r;
    if (at == 0 || at >= v->wire.length)
        return true;
    begin(&r, v);
    feed(&r, at);
    if (!r.problem)
        feed(&r, v->wire.length);
    return end(&r, "split at", at);
}

static bool run_splits(const struct vector *v)
{
    size_t n = v->wire.length, step = n <= ALL_SPLITS ? 1 : n / SOME_SPLITS;
    for (size_t at = 1; at < n; at += step)
        if (!run_split(v, at))
            return false;
    for (size_t i = 0; step > 1 && i < v->mark_count; i++)
        for (size_t near = 0; near < 32; near++)
            if (!run_split(v, v->marks[i] + near - 16) || !run_split(v, n - near))
                return false;
    return true;
}

static bool run_vector(const struct vector *v)
{
    return v->wire.length < GUARD_SIZE - TAIL && run_pieces(v, v->wire.length) &&
           run_pieces(v, 1) && run_splits(v);
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
