/* SPDX-License-Identifier: MIT */
/*
 * fuzz_inflate.c: compressed messages (RFC 7692 7.2.2). The bytes are sent in one frame and in
 * several, and inflated within a limit: the result, the output and the memory that it took are
 * checked against zlib, fed byte by byte, with a window that is made anew for each block that says
 * it is the last. Three messages in a row, so that the window between them counts.
 * flags: 1 text, 2 context takeover, 4 little memory, too; options: 8 + options % 8 bits of
 * window; limit: of what comes out.
 */
#include "fuzz.h"

#include "deflate.h"
#include "guard.h"
#include "protocol.h"
#include "utf8.h"

#include <zlib.h>

enum {
    TEXT = 1,
    TAKEOVER = 2,
    LITTLE_MEMORY = 4,
    MOST_INPUT = 65536,
    WINDOW = 32768,
    OUTPUT = 1 << 20, /* the largest limit */
    TAIL = 4,
    AT_BLOCK_BOUNDARY = 128,
    FIRST_SPACE = 16 * 1024,
    STREAM = 64 * 1024 /* more than an inflater takes, window and all */
};

/* ---- what zlib makes of it ---- */

/* A decoder that looks back `window` bytes and not one more: it puts out one byte at a time. */
struct reference {
    z_stream z;
    size_t window;
    uint8_t history[2 * WINDOW + 1];
    size_t kept;
};

static uint8_t output[OUTPUT + 1];

static void begin_block(struct reference *r)
{
    size_t n = r->kept < r->window ? r->kept : r->window;
    inflateReset(&r->z);
    if (n)
        inflateSetDictionary(&r->z, r->history + r->kept - n, (uInt)n);
}

static void remember(struct reference *r, uint8_t byte)
{
    if (r->kept == sizeof r->history) {
        memmove(r->history, r->history + r->kept - WINDOW, WINDOW);
        r->kept = WINDOW;
    }
    r->history[r->kept++] = byte;
}

/* All that comes of one more byte, but at most one byte more than `limit`. False: broken. */
static bool push(struct reference *r, uint8_t byte, size_t *n, size_t limit, bool *last)
{
    int status;
    r->z.next_in = &byte;
    r->z.avail_in = 1;
    do {
        uint8_t out;
        r->z.next_out = &out;
        r->z.avail_out = 1;
        status = inflate(&r->z, Z_SYNC_FLUSH);
        if (!r->z.avail_out) {
            remember(r, out);
            output[(*n)++] = out;
        }
        *last = status == Z_STREAM_END;
    } while (status == Z_OK && (!r->z.avail_out || r->z.avail_in) && *n <= limit);
    if (*last)
        begin_block(r);
    return status == Z_OK || status == Z_BUF_ERROR || *last;
}

/* The first byte that is one too many or no UTF-8 decides, then the data, then the end. */
static int judge(struct reference *r, const uint8_t *data, size_t length,
                 const struct fuzz_input *input, size_t *n)
{
    static const uint8_t tail[TAIL] = {0x00, 0x00, 0xff, 0xff};
    bool sound = length > 0, last = false;
    size_t limit = input->limit, before;
    *n = 0;
    for (size_t i = 0; i < length && sound && *n <= limit; i++)
        sound = push(r, data[i], n, limit, &last);
    before = *n;
    bool needs_tail = !last;
    for (size_t i = 0; i < TAIL && needs_tail && sound && before <= limit; i++)
        sound = push(r, tail[i], n, limit, &last) && *n == before;
    if (sound && before <= limit && !last)
        sound = r->z.data_type == AT_BLOCK_BOUNDARY;
    uint32_t utf8 = WS__UTF8_ACCEPT;
    if (input->flags & TEXT)
        utf8 = ws__utf8_next(utf8, output, before < limit ? before : limit);
    if (utf8 == WS__UTF8_REJECT)
        return WS__INFLATE_NOT_UTF8;
    if (before > limit)
        return WS__INFLATE_TOO_BIG;
    if (!sound)
        return WS__INFLATE_INVALID;
    return utf8 == WS__UTF8_ACCEPT ? WS__INFLATE_OK : WS__INFLATE_NOT_UTF8;
}

/* ---- ours ---- */

struct side {
    struct fuzz_memory memory;
    struct ws__deflate_pool pool;
    struct ws__deflate_streams streams;
    struct ws__deflate_terms terms;
};

static void side_init(struct side *s, const struct fuzz_input *input, unsigned fail_every)
{
    *s = (struct side){.terms = {.server_bits = 15,
                                 .client_bits = (uint8_t)(8 + input->options % 8),
                                 .memory_level = 8,
                                 .server_no_context = true,
                                 .client_no_context = !(input->flags & TAKEOVER)}};
    fuzz_memory_init(&s->memory, fail_every);
    s->pool.memory = &s->memory.memory;
}

static void side_deinit(struct side *s)
{
    ws__deflate_streams_deinit(&s->pool, &s->streams);
    ws__deflate_pool_deinit(&s->pool);
    must(!s->memory.held && !s->pool.used, "%zu bytes are not given back", s->memory.held);
}

/* X12: at most what may come out, one byte to see that it is too much, and a fixed amount. */
static void check_memory(const struct side *s, size_t limit)
{
    size_t space = limit + 1 > FIRST_SPACE ? limit + 1 : FIRST_SPACE;
    must(s->memory.peak <= space + STREAM, "%zu bytes for a limit of %zu", s->memory.peak, limit);
    must(s->pool.used == s->memory.held, "%zu bytes are not counted",
         s->memory.held - s->pool.used);
}

static int decompress(struct side *s, const struct fuzz_input *input, const uint8_t *data,
                      size_t length, char **out, size_t *out_length)
{
    struct ws__inflation m = {.limit = input->limit, .text = input->flags & TEXT};
    int result;
    do { /* in one go, or in many small ones */
        m.budget = input->cuts & 1 ? WS__INFLATE_PRICE * (1 + input->cuts / 2 % 9) : SIZE_MAX;
        result = ws__deflate_decompress(&s->pool, &s->terms, &s->streams, &m, data, length, out,
                                        out_length);
    } while (result == WS__INFLATE_MORE);
    bool failed = result == WS_ENOMEM && s->memory.failures;
    check_memory(s, input->limit);
    must(failed || (result >= WS__INFLATE_OK && result <= WS__INFLATE_NOT_UTF8), "result %d",
         result);
    must(failed || (*out && (!result || !*out_length)), "output of a message that is refused");
    must(result || *out_length <= input->limit, "%zu bytes came out", *out_length);
    if (!result && input->flags & TEXT)
        must(ws_utf8_valid(*out, *out_length), "text that is not UTF-8");
    return result;
}

/* ---- on the wire ---- */

static size_t put_frame(uint8_t *to, unsigned first, const uint8_t *data, size_t n)
{
    size_t at = 0;
    to[at++] = (uint8_t)first;
    to[at++] = (uint8_t)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127));
    for (int width = n < 126 ? 0 : n < 65536 ? 2 : 8; width-- > 0;)
        to[at++] = (uint8_t)(width < 4 ? n >> 8 * width : 0);
    memset(to + at, 0, 4); /* a mask that changes nothing */
    memcpy(to + at + 4, data, n);
    return at + 4 + n;
}

/* The message, sent in frames cut anywhere, comes out of the protocol machine as it was. */
static void check_frames(const struct fuzz_input *input, const uint8_t *data, size_t length)
{
    static uint8_t wire[15 * MOST_INPUT];
    struct fuzz_input cut = *input;
    struct fuzz_memory memory;
    struct ws__protocol protocol = {.deflate = true};
    struct ws__event event;
    size_t n = 0, done = 0, piece;
    do {
        piece = done < length ? fuzz_cut(&cut, length - done) : 0;
        unsigned first = done ? WS_CONTINUATION : 0x40u | WS_TEXT;
        n += put_frame(wire + n, first | (done + piece == length ? 0x80u : 0), data + done, piece);
        done += piece;
    } while (done < length);
    struct ws__input in = {(char *)wire, n};
    fuzz_memory_init(&memory, 0);
    int rc = ws__protocol_next(&protocol, &memory.memory, MOST_INPUT, &in, &event);
    must(rc == 1 && event.type == WS__EVENT_MESSAGE && event.compressed, "no message");
    must(event.length == length && (!length || !memcmp(event.data, data, length)) && !in.length,
         "%zu bytes in frames became %zu", length, event.length);
    ws__protocol_release(&protocol, &memory.memory);
    must(!memory.held, "a message is still held");
}

/* ---- a connection ---- */

struct peers {
    struct side ours;
    struct reference strict, lax; /* with the agreed window, and with the largest one */
    size_t length;
};

static int expect(struct peers *p, struct reference *r, const uint8_t *data, size_t length,
                  const struct fuzz_input *input, size_t *n)
{
    if (p->ours.terms.client_no_context) {
        r->kept = 0;
        begin_block(r);
    }
    return judge(r, data, length, input, n);
}

static void check_output(int result, const char *out, size_t got, int want, size_t n)
{
    must(result == want, "result %d, not %d", result, want);
    must(result || (got == n && (!n || !memcmp(out, output, n))), "%zu bytes, not %zu", got, n);
}

/* A peer that looks back further than was agreed may be understood, or not. Returns whether the
 * connection continues. */
static bool check_message(struct peers *p, const struct fuzz_input *input, const uint8_t *data,
                          size_t length)
{
    char *out = NULL;
    size_t got = 0, n;
    data = guard_copy(data, length);
    int result = decompress(&p->ours, input, data, length, &out, &got);
    int lax = expect(p, &p->lax, data, length, input, &n);
    if (result == lax)
        check_output(result, out, got, lax, n);
    int strict = expect(p, &p->strict, data, length, input, &n);
    if (strict == lax || result != lax)
        check_output(result, out, got, strict, n);
    must(p->ours.terms.client_no_context || p->ours.terms.client_bits < 15 || strict == lax,
         "the reference disagrees with itself");
    return !result;
}

static void reference_init(struct reference *r, int bits)
{
    r->z = (z_stream){0};
    r->window = (size_t)1 << bits;
    r->kept = 0;
    must(inflateInit2(&r->z, -bits) == Z_OK, "inflateInit2");
}

/* A new connection gets its message, whatever another one's was. */
static void check_other(struct side *s, const struct fuzz_input *input)
{
    /* RFC 7692 7.2.3.1 */
    static const uint8_t hello[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    char *out;
    size_t n;
    ws__deflate_streams_deinit(&s->pool, &s->streams);
    int result = decompress(s, input, hello, sizeof hello, &out, &n);
    must(result == (input->limit < 5 ? WS__INFLATE_TOO_BIG : WS__INFLATE_OK), "hello: %d", result);
    must(result || (n == 5 && !memcmp(out, "Hello", 5)), "hello: %.*s", (int)n, out);
    ws__deflate_streams_deinit(&s->pool, &s->streams);
}

static void run(const struct fuzz_input *input)
{
    static struct peers p;
    side_init(&p.ours, input, 0);
    int bits = p.ours.terms.client_no_context ? 15 : p.ours.terms.client_bits;
    reference_init(&p.strict, bits);
    reference_init(&p.lax, 15);
    bool open = true;
    check_other(&p.ours, input);
    for (int i = 0; i < 3 && open; i++)
        open = check_message(&p, input, input->data, input->length);
    check_other(&p.ours, input);
    inflateEnd(&p.strict.z);
    inflateEnd(&p.lax.z);
    side_deinit(&p.ours);
}

/* WS_ENOMEM, or the result; nothing is lost of what others hold. */
static void run_with_little_memory(const struct fuzz_input *input)
{
    struct side s;
    char *out;
    size_t n;
    side_init(&s, input, 1 + input->cuts % 7);
    for (int i = 0; i < 3; i++)
        decompress(&s, input, input->data, input->length, &out, &n);
    s.memory.fail_every = 0;
    ws__deflate_trim(&s.pool, 64 * 1024);
    check_other(&s, input);
    side_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_read(&input, data, size) || input.length > MOST_INPUT)
        return 0;
    input.limit = input.limit < OUTPUT ? input.limit : OUTPUT;
    check_frames(&input, input.data, input.length);
    run(&input);
    if (input.flags & LITTLE_MEMORY)
        run_with_little_memory(&input);
    return 0;
}
