/* SPDX-License-Identifier: MIT */
/*
 * fuzz_protocol.c: frames to messages (RFC 6455 5 to 7). The bytes are presented whole, one by one
 * and in pieces, also while allocations fail: the events must be the same, and each one must be
 * what its type allows. The bytes lie flush against a page that may not be touched.
 * flags: 1 permessage-deflate was negotiated; limit: of messages.
 */
#include "fuzz.h"

#include "guard.h"
#include "protocol.h"

enum { DEFLATE = 1, LEFT = 130, SLACK = 256 };

struct log {
    uint8_t *bytes;
    size_t length, capacity;
};

struct run {
    const struct fuzz_input *input;
    struct ws__protocol protocol;
    struct fuzz_memory memory;
    size_t fed, left; /* bytes presented so far; the last of them that were not consumed */
    bool over;        /* Close or failure seen */
    struct log log;
};

static size_t wire_limit(const struct fuzz_input *input, bool compressed)
{
    return input->limit + (compressed ? input->limit / 64 + 64 : 0);
}

/* ---- the log ---- */

static void note(struct log *log, const void *bytes, size_t n)
{
    if (log->capacity - log->length < n) {
        log->capacity = 2 * log->capacity + n;
        log->bytes = realloc(log->bytes, log->capacity);
        must(log->bytes, "the machine has no memory");
    }
    if (n)
        memcpy(log->bytes + log->length, bytes, n);
    log->length += n;
}

static void note_event(struct log *log, const struct ws__event *e)
{
    const size_t numbers[] = {e->type, (size_t)e->opcode, (size_t)e->code, e->compressed,
                              e->length};
    note(log, numbers, sizeof numbers);
    note(log, e->data, e->length);
}

/* ---- what each event may be ---- */

static void check_message(const struct fuzz_input *input, const struct ws__event *e)
{
    must(e->opcode == WS_TEXT || e->opcode == WS_BINARY, "opcode %d", e->opcode);
    must(!e->compressed || input->flags & DEFLATE, "compressed, but that was not negotiated");
    must(e->length <= wire_limit(input, e->compressed), "a message of %zu bytes", e->length);
    if (e->opcode == WS_TEXT && !e->compressed)
        must(ws_utf8_valid(e->data, e->length), "text that is not UTF-8");
}

static void check_close(const struct ws__event *e)
{
    must(e->code == 1005 || ws__protocol_code_valid(e->code), "code %d", e->code);
    must(e->length <= 123 && (e->code != 1005 || !e->length), "a reason of %zu", e->length);
    must(ws_utf8_valid(e->data, e->length), "a reason that is not UTF-8");
}

static void check_failure(const struct ws__event *e)
{
    must(e->code == 1002 || e->code == 1007 || e->code == 1009, "fails with %d", e->code);
    must(e->length && e->length <= 123 && !e->data[e->length], "a text of %zu", e->length);
    for (size_t i = 0; i < e->length; i++)
        must(e->data[i] >= ' ' && e->data[i] <= '~', "byte %02x in a text", (unsigned)e->data[i]);
}

static void check_event(struct run *r, const struct ws__event *e)
{
    must(!r->over, "event %d after the end", (int)e->type);
    must(e->data, "data is NULL");
    r->over = e->type == WS__EVENT_CLOSE || e->type == WS__EVENT_FAIL;
    must(r->protocol.ended == r->over, "ended: %d", r->protocol.ended);
    must(e->type != WS__EVENT_NONE || !e->length, "nothing, of %zu bytes", e->length);
    if (e->type == WS__EVENT_MESSAGE)
        check_message(r->input, e);
    else if (e->type == WS__EVENT_CLOSE)
        check_close(e);
    else if (e->type == WS__EVENT_FAIL)
        check_failure(e);
    else
        must(e->length <= 125, "a control frame of %zu bytes", e->length);
}

/* ---- runs ---- */

static void take(struct run *r, struct ws__event *e)
{
    check_event(r, e);
    if (e->type != WS__EVENT_NONE) /* how many there are depends on how the bytes were cut */
        note_event(&r->log, e);
    memset(e->data, 0x5a, e->length); /* as a handler may do */
    ws__protocol_release(&r->protocol, &r->memory.memory);
}

/* Growth by half, of what has arrived and of what may arrive (RFC 6455 10.4). */
static void check_memory(const struct run *r)
{
    size_t most = wire_limit(r->input, r->protocol.deflate);
    most = r->fed < most ? r->fed : most;
    must(r->memory.held <= most + most / 2 + SLACK, "%zu bytes held after %zu", r->memory.held,
         r->fed);
    must(r->memory.held == r->memory.memory.used, "not all is counted");
}

/* Presents the bytes up to `to`, after those that were not consumed. */
static void feed(struct run *r, size_t to)
{
    const uint8_t *wire = r->input->data;
    size_t n = r->left + to - r->fed;
    struct ws__input in = {(char *)guard_copy(wire + to - n, n), n};
    struct ws__event event;
    unsigned failures;
    int rc;
    r->fed = to;
    do {
        failures = r->memory.failures;
        rc = ws__protocol_next(&r->protocol, &r->memory.memory, r->input->limit, &in, &event);
        if (rc > 0)
            take(r, &event);
        must(rc >= 0 || (rc == WS_ENOMEM && r->memory.failures > failures), "result %d", rc);
        check_memory(r);
    } while (rc);
    must(in.length <= LEFT && !(r->over && in.length), "%zu bytes are left", in.length);
    must(!in.length || !memcmp(in.data, wire + to - in.length, in.length), "changed what is left");
    r->left = in.length;
}

static void begin(struct run *r, const struct fuzz_input *input, unsigned fail_every)
{
    *r = (struct run){.input = input, .protocol.deflate = input->flags & DEFLATE};
    fuzz_memory_init(&r->memory, fail_every);
}

static void end(struct run *r)
{
    ws__protocol_deinit(&r->protocol, &r->memory.memory);
    must(!r->memory.held, "%zu bytes are not given back", r->memory.held);
}

static void compare(const struct run *whole, struct run *r, const char *how)
{
    end(r);
    must(r->log.length == whole->log.length &&
             (!r->log.length || !memcmp(r->log.bytes, whole->log.bytes, r->log.length)),
         "%s: other events, %zu bytes of them, not %zu", how, r->log.length, whole->log.length);
    free(r->log.bytes);
}

static void run_cut(const struct run *whole, const struct fuzz_input *input, bool bytewise,
                    unsigned fail_every, const char *how)
{
    struct fuzz_input cut = *input;
    struct run r;
    begin(&r, input, fail_every);
    while (r.fed < input->length)
        feed(&r, r.fed + (bytewise ? 1 : fuzz_cut(&cut, input->length - r.fed)));
    compare(whole, &r, how);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    struct run whole;
    if (!fuzz_read(&input, data, size) || input.length > GUARD_SIZE - LEFT)
        return 0;
    begin(&whole, &input, 0);
    feed(&whole, input.length);
    end(&whole);
    run_cut(&whole, &input, true, 0, "byte by byte");
    run_cut(&whole, &input, false, 0, "in pieces");
    run_cut(&whole, &input, false, 2, "with little memory");
    free(whole.log.bytes);
    return 0;
}
