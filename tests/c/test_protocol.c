/* SPDX-License-Identifier: MIT */
/*
 * test_protocol.c: what the vectors cannot show of protocol.c: memory, allocation failures, life
 * times, lengths around size_t, and random streams cut at random (T29).
 */
#include "guard.h"
#include "protocol.h"
#include "tap.h"

#include <stdlib.h>

enum { LIMIT = 16384, TAIL = 130, FRAGMENTS = 1000 * 1000, EMPTY = 2 * 1000 * 1000 };

/* ---- an allocator that counts, and fails on demand ------------------------------------------- */

struct heap {
    size_t calls, live, peak;
    size_t fail_from, fail_count; /* calls number fail_from .. fail_from + fail_count - 1 fail */
};

static void *heap_resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct heap *heap = context;
    if (!size) {
        heap->live -= old_size;
        free(ptr);
        return NULL;
    }
    heap->calls++;
    if (heap->calls >= heap->fail_from && heap->calls - heap->fail_from < heap->fail_count)
        return NULL;
    ptr = realloc(ptr, size);
    heap->live += size - old_size;
    if (heap->live > heap->peak)
        heap->peak = heap->live;
    return ptr;
}

/* A receiving side with everything that it needs. */
struct side {
    struct ws__protocol protocol;
    struct ws__memory memory;
    struct ws__input in;
    struct ws__event event;
    struct heap heap;
    size_t limit;
};

static void side_init(struct side *s, size_t limit)
{
    memset(s, 0, sizeof *s);
    s->limit = limit;
    ws__memory_init(&s->memory, &(ws_allocator){heap_resize, &s->heap}, 0);
}

static int next(struct side *s)
{
    return ws__protocol_next(&s->protocol, &s->memory, s->limit, &s->in, &s->event);
}

/* Presents a copy of bytes[n]; the result of the first call. */
static int present(struct side *s, const void *bytes, size_t n)
{
    s->in = (struct ws__input){(char *)guard_copy(bytes, n), n};
    return next(s);
}

static void side_deinit(struct side *s, const char *what)
{
    ws__protocol_release(&s->protocol, &s->memory);
    ws__protocol_deinit(&s->protocol, &s->memory);
    ok(!s->heap.live && !s->memory.used, "%s: nothing is left", what);
}

/* ---- frames, masked with a zero key unless another one is given ------------------------------ */

static size_t put_header(uint8_t *out, int first, uint64_t length)
{
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    size_t n = 0;
    out[n++] = (uint8_t)first;
    out[n++] = (uint8_t)(0x80 | (extended == 0 ? (int)length : extended == 2 ? 126 : 127));
    for (int i = extended; i-- > 0;)
        out[n++] = (uint8_t)(length >> 8 * i);
    memset(out + n, 0, 4);
    return n + 4;
}

static bool fails(const struct side *s, int rc, int code, const char *why)
{
    bool good = rc == 1 && s->event.type == WS__EVENT_FAIL && s->event.code == code &&
                s->event.length == strlen(why) && !memcmp(s->event.data, why, s->event.length);
    if (!good)
        diag("rc %d, code %d, %.*s", rc, s->event.code, (int)s->event.length, s->event.data);
    return good;
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void test_codes(void)
{
    size_t valid = 0;
    for (int code = -1; code <= 65536; code++)
        valid += ws__protocol_code_valid(code);
    is_int((long long)valid, 4 + 8 + 2000, "C3 C4 T32 as many valid close codes as there are");
    for (int code = 1000; code <= 1015; code++)
        is_int(ws__protocol_code_valid(code), code <= 1003 || (code >= 1007 && code <= 1014),
               "C3 C4 close code %d", code);
    ok(ws__protocol_code_valid(3000) && ws__protocol_code_valid(4999) &&
           !ws__protocol_code_valid(2999) && !ws__protocol_code_valid(5000),
       "C3 close codes of libraries and applications");
}

static void test_whole_message(void)
{
    struct side s;
    side_init(&s, LIMIT);
    s.heap.fail_from = 1, s.heap.fail_count = SIZE_MAX;
    static const char hello[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x80";
    is_int(present(&s, hello, 13), 1, "F16 a whole message");
    is_mem(s.event.data, s.event.length, "Hello", 5, "F2 its data");
    is_int(s.event.opcode, WS_TEXT, "its opcode");
    ok((uint8_t *)s.event.data == guard_end() - 7, "it lies where it was received");
    is_int((long long)s.heap.calls, 0, "and costs no allocation");
    is_int(next(&s), 0, "the rest is incomplete");
    is_mem(s.in.data, s.in.length, "\x89\x80", 2, "and stays where it is");
    side_deinit(&s, "a whole message");
}

static void test_empty_data(void)
{
    static const uint8_t frames[] = {0x01, 0x80, 0, 0, 0, 0, 0x80, 0x80, 0, 0, 0, 0,
                                     0x82, 0x80, 0, 0, 0, 0, 0x8a, 0x80, 0, 0, 0, 0,
                                     0x88, 0x80, 0, 0, 0, 0};
    struct side s;
    side_init(&s, LIMIT);
    int rc = present(&s, frames, sizeof frames);
    for (size_t i = 0; i < 4; i++, rc = next(&s))
        ok(rc == 1 && s.event.data && s.event.length == 0, "F16 empty event %zu is not NULL", i);
    is_int(rc, 0, "no further event");
    is_int((long long)s.heap.calls, 0, "F16 empty events cost no allocation");
    side_deinit(&s, "empty events");
}

static void test_promises(void)
{
    enum { DECLARED = 512 << 20, PART = 64 << 10 };
    static uint8_t part[PART];
    uint8_t header[14];
    struct side s;
    size_t n = put_header(header, 0x82, DECLARED);
    side_init(&s, LIMIT);
    ok(fails(&s, present(&s, header, n), 1009,
             "message of 536870912 bytes exceeds max_payload_length 16384"),
       "T23 F17 a header that declares 512 MiB");
    is_int((long long)s.heap.calls, 0, "T23 costs no allocation");
    side_deinit(&s, "a refused header");

    side_init(&s, DECLARED);
    is_int(present(&s, header, n), 0, "T23 a legal header of 512 MiB");
    is_int((long long)s.heap.calls, 0, "T23 costs no allocation");
    bool bounded = true;
    for (size_t got = PART; got <= 20 * PART; got += PART)
        bounded &= present(&s, part, PART) == 0 && s.memory.used <= got + got / 2 + 64;
    ok(bounded, "T23 memory follows what was received");
    ws__protocol_deinit(&s.protocol, &s.memory);
    is_int((long long)s.heap.live, 0, "T23 deinit frees an incomplete message");
    is_int(present(&s, part, PART), 0, "F15 nothing is read after deinit");
    is_int((long long)s.in.length, 0, "F15 the input is discarded after deinit");
}

static void test_empty_fragments(void)
{
    enum { BATCH = 10000 };
    static uint8_t batch[BATCH * 6];
    struct side s;
    bool quiet = true;
    int pauses = 0;
    for (size_t i = 0; i < BATCH; i++)
        put_header(batch + 6 * i, WS_CONTINUATION, 0);
    side_init(&s, LIMIT);
    present(&s, "\x01\x81\0\0\0\0a", 7);
    size_t calls = s.heap.calls, live = s.heap.live;
    for (size_t i = 0; i < EMPTY / BATCH; i++) {
        int result = present(&s, batch, sizeof batch);
        for (; result == 1 && s.event.type == WS__EVENT_NONE; pauses++)
            result = next(&s);
        quiet &= result == 0 && s.in.length == 0;
    }
    ok(quiet, "T25 F16 2M empty continuations are legal");
    ok(pauses > EMPTY / 200, "S50: the caller may look at the time meanwhile (%d times)", pauses);
    ok(s.heap.calls == calls && s.heap.live == live, "T25 and cost no memory");
    is_int(present(&s, "\x80\x81\0\0\0\0b", 7), 1, "F16 the message ends");
    is_mem(s.event.data, s.event.length, "ab", 2, "F16 whole");
    side_deinit(&s, "empty continuations");
}

static void test_tiny_fragments(void)
{
    struct side s;
    bool bounded = true;
    uint8_t frame[7] = {WS_BINARY, 0x81, 0, 0, 0, 0, 'x'};
    side_init(&s, FRAGMENTS);
    for (size_t i = 1; i <= FRAGMENTS; i++) {
        frame[0] = (uint8_t)(i == 1 ? WS_BINARY : i == FRAGMENTS ? 0x80 : WS_CONTINUATION);
        bounded &= present(&s, frame, sizeof frame) == (i == FRAGMENTS);
        bounded &= s.heap.peak <= 2 * i + 128;
    }
    ok(bounded, "T26 1M one-byte fragments hold at most twice their payload");
    is_int((long long)s.event.length, FRAGMENTS, "T26 the message is whole");
    ok(s.heap.live >= FRAGMENTS, "the message is held while its handler runs");
    ws__protocol_release(&s.protocol, &s.memory);
    is_int((long long)s.heap.live, 0, "T26 release frees it");
    side_deinit(&s, "one-byte fragments");
}

static void test_life_time(void)
{
    struct side s;
    side_init(&s, LIMIT);
    is_int(present(&s, "\x01\x81\0\0\0\0a\x89\x81\0\0\0\0p", 14), 1, "F8 a ping between fragments");
    size_t live = s.heap.live;
    ws__protocol_release(&s.protocol, &s.memory);
    ok(live && s.heap.live == live, "F8 its release keeps the fragments");
    is_int(present(&s, "\x80\x81\0\0\0\0b", 7), 1, "F8 the message");
    is_int(present(&s, "\x82\x80\0\0\0\0", 6), 1, "F16 the next message, without a release");
    is_int((long long)s.heap.live, 0, "the next call releases, too");

    present(&s, "\x01\x81\0\0\0\0a\x80\x81\0\0\0\0b", 14);
    ws__protocol_deinit(&s.protocol, &s.memory);
    is_mem(s.event.data, s.event.length, "ab", 2, "S27 deinit in a handler: its message stays");
    ws__protocol_release(&s.protocol, &s.memory);
    is_int((long long)s.heap.live, 0, "S27 until it is released");
    is_int(next(&s), 0, "S26 nothing follows a deinit");

    side_init(&s, LIMIT);
    present(&s, "\x01\x81\0\0\0\0a\x88\x80\0\0\0\0", 13);
    is_int(s.event.type, WS__EVENT_CLOSE, "F8 a close between fragments");
    is_int((long long)s.heap.live, 0, "F15 frees them at once");
    side_init(&s, LIMIT);
    present(&s, "\x01\x81\0\0\0\0a\x82", 8);
    is_int(s.event.type, WS__EVENT_FAIL, "F10 a failure between fragments");
    is_int((long long)s.heap.live, 0, "F10 frees them at once");
}

static void test_lengths(void)
{
    static const struct {
        uint64_t length;
        size_t limit;
        const char *alone, *behind; /* why it fails alone, and after a fragment of 3 bytes */
    } cases[] = {
        {UINT64_C(0xffffffffffffffff), UINT32_MAX, "msb", "msb"},
        {UINT64_C(0x8000000000000000), UINT32_MAX, "msb", "msb"},
        {UINT64_C(0x7fffffffffffffff), UINT32_MAX, "9223372036854775807", "9223372036854775810"},
        {UINT64_C(0x100000005), UINT32_MAX, "4294967301", "4294967304"},
        {UINT64_C(0x100000000), UINT32_MAX, "4294967296", "4294967299"},
        {UINT64_C(0xffffffff), UINT32_MAX, NULL, "4294967298"},
        {UINT64_C(0xfffffffd), UINT32_MAX, NULL, "4294967296"},
        {UINT64_C(0xfffffffc), UINT32_MAX, NULL, NULL},
        {UINT64_C(0xfffffff2), UINT32_MAX, NULL, NULL},
        {UINT64_C(0x80000000), 0x7fffffff, "2147483648", "2147483651"},
        {UINT64_C(0x7fffffff), 0x7fffffff, NULL, "2147483650"},
        {UINT64_C(0x7ffffffc), 0x7fffffff, NULL, NULL},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct side s;
        uint8_t header[14];
        char why[96];
        bool behind = i & 1;
        const char *number = behind ? cases[i / 2].behind : cases[i / 2].alone;
        bool msb = number && !strcmp(number, "msb");
        snprintf(why, sizeof why, "message of %s bytes exceeds max_payload_length %zu",
                 number ? number : "no", cases[i / 2].limit);
        side_init(&s, cases[i / 2].limit);
        if (behind)
            present(&s, "\x02\x83\0\0\0\0abc", 9);
        size_t live = s.heap.live;
        put_header(header, behind ? 0x80 : 0x82, cases[i / 2].length);
        int rc = present(&s, header, 14);
        ok(number ? fails(&s, rc, msb ? 1002 : 1009,
                          msb ? "most significant bit of the 64-bit length is set" : why)
                  : rc == 0 && s.heap.live == live,
           "T20 T21 F6 F17 length %llx%s", (unsigned long long)cases[i / 2].length,
           behind ? " after a fragment" : "");
        side_deinit(&s, "T20");
    }
}

/* ---- allocation failures --------------------------------------------------------------------- */

/* A fragmented message with a ping inside. */
static size_t put_scenario(uint8_t *out)
{
    static const uint16_t sizes[] = {1, 40, 0, 200, 3000, 7};
    size_t n = 0, count = sizeof sizes / sizeof *sizes;
    for (size_t i = 0; i < count; i++) {
        n += put_header(out + n, (i ? 0 : WS_TEXT) | (i + 1 == count ? 0x80 : 0), sizes[i]);
        memset(out + n, 'a' + (int)i, sizes[i]);
        n += sizes[i];
        if (i == 2)
            n += put_header(out + n, 0x80 | WS_PING, 0);
    }
    return n;
}

struct outcome {
    size_t events, errors;
    size_t message; /* length of the message */
    bool good;
};

/* Presents the scenario in pieces. With `retry` an error is followed by the next try with the same
 * input, else it ends the run. */
static struct outcome run_scenario(struct side *s, const uint8_t *wire, size_t n, size_t piece,
                                   bool retry)
{
    struct outcome result = {.good = true};
    size_t left = 0;
    for (size_t at = 0; at < n && (retry || !result.errors);) {
        size_t part = piece < n - at ? piece : n - at;
        at += part;
        left += part;
        int rc = present(s, wire + at - left, left);
        for (; rc == 1 || (rc < 0 && retry); rc = next(s)) {
            result.good &= rc == 1 || rc == WS_ENOMEM;
            result.errors += rc < 0;
            result.events += rc == 1;
            if (rc == 1 && s->event.type == WS__EVENT_MESSAGE)
                result.message = s->event.length;
        }
        result.good &= rc == 0 || rc == WS_ENOMEM;
        result.errors += rc < 0;
        left = s->in.length;
    }
    return result;
}

static void test_allocation_failures(size_t piece)
{
    static uint8_t wire[4096];
    size_t n = put_scenario(wire), failed = 0, sites;
    struct side s;
    struct outcome got;
    bool good = true, clean = true;
    side_init(&s, LIMIT);
    got = run_scenario(&s, wire, n, piece, false);
    ok(got.events == 2 && got.message == 3248 && !got.errors, "pieces of %zu: no failure", piece);
    sites = s.heap.calls;
    side_deinit(&s, "no failure");
    for (size_t site = 1; site <= sites; site++)
        for (size_t mode = 0; mode < 3; mode++) {
            static const size_t counts[] = {1, 2, SIZE_MAX};
            side_init(&s, LIMIT);
            s.heap.fail_from = site;
            s.heap.fail_count = counts[mode];
            got = run_scenario(&s, wire, n, piece, mode < 2);
            failed += got.errors;
            good &= got.good && (mode < 2 ? got.events == 2 && got.message == 3248
                                          : got.errors == 1 && got.events < 2);
            ws__protocol_release(&s.protocol, &s.memory);
            ws__protocol_deinit(&s.protocol, &s.memory);
            clean &= !s.heap.live && !s.memory.used;
        }
    ok(good && failed, "T84 pieces of %zu: WS_ENOMEM at each of %zu sites, and a retry continues",
       piece, sites);
    ok(clean, "T84 pieces of %zu: no leak", piece);
}

static void test_memory_limit(void)
{
    static uint8_t frame[14 + 5000];
    struct side s;
    size_t n = put_header(frame, WS_BINARY, 5000);
    side_init(&s, LIMIT);
    s.memory.limit = 4096;
    is_int(present(&s, frame, n + 1000), 0, "below max_memory");
    is_int(present(&s, frame + n + 1000, 4000), WS_ENOMEM, "above max_memory");
    ok(s.memory.used <= 4096, "max_memory holds");
    side_deinit(&s, "max_memory");
}

/* ---- random streams -------------------------------------------------------------------------- */

enum { STREAMS = 1500, CUTS = 6, STREAM_MAX = 60000 };

static uint32_t pick(uint32_t below)
{
    static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static size_t put_text(uint8_t *out, size_t n)
{
    static const char *const characters[] = {"a", "xyz", "\xc3\xa9", "\xe2\x82\xac",
                                             "\xf0\x9f\x98\x80", "0123456789abcdef"};
    size_t done = 0;
    while (done < n) {
        const char *c = characters[pick(6)];
        size_t size = strlen(c) < n - done ? strlen(c) : n - done;
        memcpy(out + done, c, size);
        done += size;
    }
    return n;
}

static size_t put_random_frame(uint8_t *out, bool *open)
{
    static const uint16_t sizes[] = {0, 1, 2, 5, 8, 17, 64, 124, 125, 126, 127, 300, 5000};
    uint32_t kind = pick(10);
    bool control = kind < 2, fin = pick(3) > 0;
    size_t size = sizes[pick(control ? 9 : 13)];
    int opcode = kind == 0 ? WS_PING : kind == 1 ? WS_PONG : *open ? 0 : kind < 7 ? WS_TEXT
                                                                                 : WS_BINARY;
    if (pick(40) == 0)
        opcode = (int)pick(16);
    size_t head = put_header(out, opcode | (fin || control ? 0x80 : 0), size);
    put_text(out + head, size);
    for (size_t i = 0; i < 4; i++)
        out[head - 4 + i] = (uint8_t)pick(256);
    for (size_t i = 0; i < size; i++)
        out[head + i] ^= out[head - 4 + i % 4];
    if (!control)
        *open = !fin;
    return head + size;
}

static size_t put_stream(uint8_t *out)
{
    bool open = false;
    size_t n = 0;
    for (uint32_t frames = 1 + pick(12); frames > 0; frames--)
        n += put_random_frame(out + n, &open);
    if (pick(3) == 0)
        out[pick((uint32_t)n)] ^= (uint8_t)(1 << pick(8));
    return n - (pick(4) ? 0 : pick((uint32_t)n));
}

struct log {
    uint64_t hash;
    size_t count;
};

static void log_bytes(struct log *log, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        log->hash = (log->hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
}

/* Reads the stream in pieces of at most `most` bytes. */
static struct log read_stream(const uint8_t *wire, size_t n, uint32_t most, bool *good)
{
    struct log log = {.hash = UINT64_C(0xcbf29ce484222325)};
    struct side s;
    size_t left = 0;
    side_init(&s, LIMIT);
    for (size_t at = 0; at < n;) {
        size_t piece = most < n - at ? 1 + pick(most) : n - at;
        at += piece;
        left += piece;
        for (int rc = present(&s, wire + at - left, left); rc; rc = next(&s)) {
            int numbers[] = {rc, (int)s.event.type, s.event.opcode, s.event.code,
                             (int)s.event.length};
            log_bytes(&log, numbers, sizeof numbers);
            log_bytes(&log, s.event.data, s.event.length);
            memset(s.event.data, 0, s.event.length);
            log.count++;
        }
        left = s.in.length;
        *good &= left <= TAIL && !memcmp(s.in.data, wire + at - left, left);
    }
    ws__protocol_release(&s.protocol, &s.memory);
    ws__protocol_deinit(&s.protocol, &s.memory);
    *good &= s.heap.live == 0;
    return log;
}

static void test_random_streams(void)
{
    static const uint32_t cuts[CUTS] = {1, 2, 7, 40, 200, 3000};
    static uint8_t wire[STREAM_MAX + 6000];
    bool same = true, good = true;
    size_t events = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        size_t n = put_stream(wire);
        struct log whole = read_stream(wire, n, UINT32_MAX, &good);
        events += whole.count;
        for (size_t j = 0; j < CUTS; j++) {
            struct log cut = read_stream(wire, n, cuts[j], &good);
            same &= cut.hash == whole.hash && cut.count == whole.count;
        }
    }
    ok(same && events > STREAMS, "T29 %d random streams, each cut in %d ways", STREAMS, CUTS);
    ok(good, "T29 what is left of the input is short and unchanged, and no memory is left");
    diag("%zu events", events);
}

static void cases(void)
{
    CASE(test_codes());
    CASE(test_whole_message());
    CASE(test_empty_data());
    CASE(test_promises());
    CASE(test_empty_fragments());
    CASE(test_tiny_fragments());
    CASE(test_life_time());
    CASE(test_lengths());
    CASE(test_allocation_failures(1));
    CASE(test_allocation_failures(100));
    CASE(test_allocation_failures(SIZE_MAX));
    CASE(test_memory_limit());
    CASE(test_random_streams());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
