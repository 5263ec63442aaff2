/*
 * test_deflate.c: permessage-deflate against a model of the negotiation that is written as a list
 * of rules, and against zlib itself at the other end: every window and mode, broken and cut data,
 * bounded output, memory that is counted and given back, and every allocation made to fail.
 */
#include "buffer.h"
#include "deflate.h"
#include "guard.h"
#include "tap.h"

#include <stdlib.h>
#include <time.h>
#include <zlib.h>

enum { BIG = 1 << 20, NONE = 999 };

static const unsigned compressors[] = {0, 1, 145, 146, 163, 180, 197, 214, 231, 248};
static const unsigned decompressors[] = {0, 256, 2304, 2560, 2816, 3072, 3328, 3584, 3840};
enum { COMPRESSORS = 10, DECOMPRESSORS = 9 };

/* ---- a server's end, with an allocator that counts and can be made to fail ---- */

struct side {
    struct ws__memory memory;
    struct ws__deflate_pool pool;
    struct ws__deflate_streams streams;
    struct ws__deflate_terms terms;
    size_t held, peak;
    int fail_at; /* countdown; 0: never */
};

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct side *s = context;
    if (size && s->fail_at && !--s->fail_at)
        return NULL;
    s->held += size - old_size;
    if (s->held > s->peak)
        s->peak = s->held;
    if (size)
        return realloc(ptr, size);
    free(ptr);
    return NULL;
}

static void side_init(struct side *s, struct ws__deflate_terms terms)
{
    const ws_allocator allocator = {resize, s};
    *s = (struct side){.terms = terms};
    ws__memory_init(&s->memory, &allocator, 0);
    s->pool.memory = &s->memory;
}

/* Whether everything that was counted was given back. */
static bool side_deinit(struct side *s)
{
    ws__deflate_streams_deinit(&s->pool, &s->streams);
    ws__deflate_pool_deinit(&s->pool);
    return !s->held && !s->memory.used && !s->pool.used;
}

static struct ws__deflate_terms terms_of(const char *offer, unsigned options)
{
    struct ws__deflate_terms terms = {0};
    if (!ws__deflate_accept(offer, strlen(offer), options, &terms))
        diag("declined: %s", offer);
    return terms;
}

static int compress_piece(struct side *s, const void *data, size_t n, bool first, bool last,
                          const char **out, size_t *length)
{
    return ws__deflate_compress(&s->pool, &s->terms, &s->streams, data, n, first, last, out,
                                length);
}

static int compress_whole(struct side *s, const void *data, size_t n, const char **out,
                          size_t *length)
{
    return compress_piece(s, data, n, true, true, out, length);
}

static int decompress(struct side *s, const void *data, size_t n, size_t limit, bool text,
                      char **out, size_t *length)
{
    struct ws__inflation m = {.limit = limit, .text = text, .budget = SIZE_MAX};
    return ws__deflate_decompress(&s->pool, &s->terms, &s->streams, &m, data, n, out, length);
}

/* ---- the peer's end: zlib as it comes ---- */

static uint8_t wire[2 * BIG], plain[2 * BIG], message[BIG];

static uint32_t seed = 1;

static uint32_t roll(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static void fill(uint8_t *bytes, size_t n, bool repetitive)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = repetitive ? (uint8_t)("{\"name\": \"value\", \"n\": 12}"[(i + i / 97) % 26])
                              : (uint8_t)(roll() >> 11);
}

static void peer_deflater(z_stream *z, int bits)
{
    *z = (z_stream){0};
    deflateInit2(z, 6, Z_DEFLATED, bits == 8 ? -9 : -bits, 8, Z_DEFAULT_STRATEGY);
}

static void peer_inflater(z_stream *z, int bits)
{
    *z = (z_stream){0};
    inflateInit2(z, -bits);
}

/* data[n] as a peer sends it, into wire; the length. */
static size_t peer_deflate(z_stream *z, const void *data, size_t n, int flush)
{
    z->next_in = (Bytef *)(uintptr_t)data;
    z->avail_in = (uInt)n;
    z->next_out = wire;
    z->avail_out = sizeof wire;
    deflate(z, flush);
    size_t length = sizeof wire - z->avail_out;
    if (!length) { /* zlib sees nothing to flush */
        wire[0] = 0;
        return 1;
    }
    return flush == Z_SYNC_FLUSH ? length - 4 : length;
}

/* Appends the tail and inflates into plain; the length, or SIZE_MAX. */
static size_t peer_inflate(z_stream *z, const void *data, size_t n)
{
    memcpy(wire, data, n);
    memcpy(wire + n, "\0\0\xff\xff", 4);
    z->next_in = wire;
    z->avail_in = (uInt)(n + 4);
    z->next_out = plain;
    z->avail_out = sizeof plain;
    int status = inflate(z, Z_SYNC_FLUSH);
    return status == Z_OK && !z->avail_in && z->data_type == 128 ? sizeof plain - z->avail_out
                                                                  : SIZE_MAX;
}

/* ---- negotiation ---- */

/* What a parameter can look like. Values above 0 are window bits. */
struct form {
    const char *text; /* behind the name; NULL: the parameter is absent */
    int value;        /* 0: none; -1: broken */
};

static const struct form flag_forms[] = {{NULL, 0}, {"", 0}, {"=15", -1}};
static const struct form bits_forms[] = {
    {NULL, 0},      {"", 0},        {"=8", 8},       {"=9", 9},      {"=10", 10},    {"=11", 11},
    {"=12", 12},    {"=13", 13},    {"=14", 14},     {"=15", 15},    {"=\"8\"", 8},  {"=\"9\"", 9},
    {"=\"15\"", 15}, {" = 12 ", 12}, {"=\"1\\0\"", 10}, {"=7", -1},   {"=16", -1},    {"=08", -1},
    {"=1", -1},     {"=0", -1},     {"=150", -1},    {"=+9", -1},    {"=9.0", -1},   {"=a", -1},
    {"=\" 9\"", -1}, {"=\"9", -1},  {"=", -1},       {"=-9", -1},
    {"=\"09\"", -1}, {"=99999999999", -1},
};
enum { FLAG_FORMS = 3, BITS_FORMS = sizeof bits_forms / sizeof *bits_forms };

struct expected {
    bool accepted;
    char answer[200];
    struct ws__deflate_terms terms;
};

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The rules, one a line; sn, cn, sb, cb: the four parameters in the order of RFC 7692 7.1. */
static struct expected model(unsigned options, struct form sn, struct form cn, struct form sb,
                             struct form cb)
{
    struct expected e = {0};
    unsigned c = options & 255, d = options >> 8;
    bool takeover = c > 1 && !sn.text, keeps = d > 1 && !cn.text;
    bool bad = (sn.text && *sn.text) || (cn.text && *cn.text) || (sb.text && sb.value < 9) ||
               (cb.text && cb.value < 0) || !options;
    int ours = takeover ? (int)(c / 16) : 15, theirs = cb.value ? cb.value : 15;
    ours = sb.text ? least(ours, sb.value) : ours;
    theirs = keeps && cb.text ? least(theirs, (int)d) : theirs;
    e.accepted = !bad;
    e.terms.server_bits = (unsigned)ours & 15;
    e.terms.client_bits = (unsigned)theirs & 15;
    e.terms.memory_level = (uint8_t)(takeover ? c % 16 : 8);
    e.terms.server_no_context = !takeover;
    e.terms.client_no_context = !keeps;
    char *p = e.answer + sprintf(e.answer, "permessage-deflate");
    p += sprintf(p, "%s", takeover ? "" : "; server_no_context_takeover");
    p += sprintf(p, "%s", keeps ? "" : "; client_no_context_takeover");
    if (sb.text)
        p += sprintf(p, "; server_max_window_bits=%d", ours);
    if (cb.text && keeps && theirs < 15)
        p += sprintf(p, "; client_max_window_bits=%d", theirs);
    return e;
}

static size_t write_offer(char *offer, const struct form *forms[4], unsigned rotation)
{
    static const char *const names[] = {"server_no_context_takeover", "client_no_context_takeover",
                                        "server_max_window_bits", "client_max_window_bits"};
    char *p = offer + sprintf(offer, "permessage-deflate");
    for (unsigned k = 0; k < 4; k++) {
        unsigned i = (k + rotation) % 4;
        if (forms[i]->text)
            p += sprintf(p, rotation % 2 ? " ;\t%s%s" : "; %s%s", names[i], forms[i]->text);
    }
    return (size_t)(p - offer);
}

static bool agrees(unsigned options, const struct form *forms[4], unsigned rotation)
{
    char offer[400], answer[WS__DEFLATE_ANSWER_MAX];
    size_t n = write_offer(offer, forms, rotation);
    struct expected e = model(options, *forms[0], *forms[1], *forms[2], *forms[3]);
    struct ws__deflate_terms t = {0};
    bool accepted = ws__deflate_accept((char *)guard_copy(offer, n), n, options, &t);
    if (accepted != e.accepted)
        return diag("%u: %s: %d", options, offer, accepted), false;
    if (!accepted)
        return true;
    size_t length = ws__deflate_answer(&t, answer);
    bool same = length == strlen(e.answer) && !strcmp(answer, e.answer) &&
                t.server_bits == e.terms.server_bits && t.client_bits == e.terms.client_bits &&
                t.memory_level == e.terms.memory_level &&
                t.server_no_context == e.terms.server_no_context &&
                t.client_no_context == e.terms.client_no_context;
    if (!same)
        diag("%u: %s: got %s, want %s", options, offer, answer, e.answer);
    return same;
}

static int disagreements(unsigned options)
{
    int bad = 0;
    unsigned rotation = 0;
    for (int sn = 0; sn < FLAG_FORMS; sn++)
        for (int cn = 0; cn < FLAG_FORMS; cn++)
            for (int sb = 0; sb < BITS_FORMS; sb++)
                for (int cb = 0; cb < BITS_FORMS; cb++) {
                    const struct form *forms[4] = {&flag_forms[sn], &flag_forms[cn],
                                                   &bits_forms[sb], &bits_forms[cb]};
                    bad += !agrees(options, forms, rotation++);
                }
    return bad;
}

static void test_negotiation(void)
{
    for (int c = 0; c < COMPRESSORS; c++)
        for (int d = 0; d < DECOMPRESSORS; d++)
            is_int(disagreements(compressors[c] | decompressors[d]), 0,
                   "X1 X2 X3 X4 X5 X6 T44 every offer to %u | %u: the exact answer",
                   compressors[c], decompressors[d]);
}

static void test_options(void)
{
    int bad = 0;
    for (unsigned options = 0; options < 0x20000; options++) {
        bool want = false;
        for (int c = 0; c < COMPRESSORS; c++)
            for (int d = 0; d < DECOMPRESSORS; d++)
                want = want || options == (compressors[c] | decompressors[d]);
        bad += ws__deflate_options_valid(options) != want;
    }
    ok(ws__deflate_available(), "X13 compression is there");
    is_int(bad, 0, "X13 exactly the named options are valid");
}

static void test_offers(void)
{
    static const struct {
        const char *offer;
        bool accepted;
    } cases[] = {
        {"permessage-deflate", true},
        {"PerMessage-Deflate; Client_Max_Window_Bits", true},
        {"permessage-deflate  ", true},
        {"permessage-deflate;server_max_window_bits=9;client_max_window_bits=\"9\"", true},
        {"x-webkit-deflate-frame", false},
        {"permessage-deflat", false},
        {"permessage-deflate2", false},
        {"permessage-deflate=1", false},
        {"permessage-bzip2", false},
        {"", false},
        {";", false},
        {"permessage-deflate;", false},
        {"permessage-deflate; ;client_max_window_bits", false},
        {"permessage-deflate; unknown", false},
        {"permessage-deflate; client_max_window_bit", false},
        {"permessage-deflate; client_max_window_bits2", false},
        {"permessage-deflate; client_max_window_bits; client_max_window_bits", false},
        {"permessage-deflate; client_max_window_bits=9; Client_max_window_bits=9", false},
        {"permessage-deflate; server_no_context_takeover; server_no_context_takeover", false},
        {"permessage-deflate; client_no_context_takeover; client_no_context_takeover", false},
        {"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", false},
        {"permessage-deflate; server_no_context_takeover=1", false},
        {"permessage-deflate; server_no_context_takeover=\"\"", false},
        {"permessage-deflate; client_no_context_takeover=\"true\"", false},
        {"permessage-deflate; client_no_context_takeover=", false},
        {"permessage-deflate; server_max_window_bits=9 9", false},
        {"permessage-deflate; server_max_window_bits=\"9\"9", false},
        {"permessage-deflate; client_max_window_bits=\"9\\", false},
        {"permessage-deflate client_max_window_bits", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].offer);
        struct ws__deflate_terms t = {.memory_level = 15};
        bool got = ws__deflate_accept((char *)guard_copy(cases[i].offer, n), n, 0x9f8, &t);
        ok(got == cases[i].accepted && (got || t.memory_level == 15), "X1 %s: %s",
           cases[i].accepted ? "accepted" : "declined", cases[i].offer);
    }
}

/* ---- round trips ---- */

static const size_t sizes[] = {0,    1,    2,     3,     10,    100,   125,   126,   511,   1000,
                               4096, 9999, 16383, 16384, 16385, 32768, 40000, 65536, 99999, 100000};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* One message in `pieces`, from us to the peer. */
static bool sends(struct side *s, z_stream *peer, size_t n, int pieces)
{
    static uint8_t joined[2 * BIG];
    size_t length = 0, from = 0;
    for (int i = 0; i < pieces; i++) {
        size_t to = i == pieces - 1 ? n : from + (roll() % 3 ? roll() % (n - from + 1) : 0);
        const char *out;
        size_t out_length;
        if (compress_piece(s, message + from, to - from, !i, i == pieces - 1, &out, &out_length))
            return false;
        memcpy(joined + length, out, out_length);
        length += out_length;
        from = to;
    }
    if (s->terms.server_no_context)
        inflateReset(peer);
    return peer_inflate(peer, joined, length) == n && !memcmp(plain, message, n) &&
           (!s->terms.server_no_context || !s->streams.deflater);
}

/* One from the peer to us, and nothing above n bytes. */
static bool receives(struct side *s, z_stream *peer, size_t n)
{
    char *out = NULL;
    size_t out_length = 0;
    if (s->terms.client_no_context)
        deflateReset(peer);
    size_t length = peer_deflate(peer, message, n, Z_SYNC_FLUSH);
    int result = decompress(s, guard_copy(wire, length), length, n, false, &out, &out_length);
    return !result && out && out_length == n && !memcmp(out, message, n);
}

static void round_trips(const char *offer, unsigned options)
{
    struct side s;
    z_stream deflater, inflater;
    side_init(&s, terms_of(offer, options));
    peer_deflater(&deflater, s.terms.client_bits);
    peer_inflater(&inflater, s.terms.server_bits);
    int bad = 0;
    for (int i = 0; i < 2 * SIZES; i++) {
        fill(message, sizes[i / 2], i % 2);
        bad += !sends(&s, &inflater, sizes[i / 2], 1);
        bad += !sends(&s, &inflater, sizes[i / 2], 2 + (int)(roll() % 4));
        bad += !receives(&s, &deflater, sizes[i / 2]);
        ws__deflate_trim(&s.pool);
    }
    is_int((long long)(s.pool.deflate_calls + s.pool.inflate_calls), 6 * SIZES, "%u: counted",
           options);
    deflateEnd(&deflater);
    inflateEnd(&inflater);
    bool clean = side_deinit(&s);
    ok(!bad && clean, "X2 X3 X4 X5 X9 T45 round trips to 100000 bytes, whole and in pieces: %u, %s",
       options, offer);
}

static void test_round_trips(void)
{
    char offer[200];
    for (int c = 1; c < COMPRESSORS; c++)
        round_trips("permessage-deflate; client_max_window_bits",
                    compressors[c] | decompressors[c - 1]);
    for (int bits = 9; bits <= 15; bits++) {
        sprintf(offer, "permessage-deflate; server_max_window_bits=%d; client_max_window_bits=%d",
                bits, bits - 1);
        round_trips(offer, 0x101);
        round_trips(offer, 0xff8);
    }
    round_trips("permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                0xff8);
    round_trips("permessage-deflate; server_no_context_takeover; server_max_window_bits=10", 0x991);
}

/* Compressed length of a message. */
static size_t compressed(struct side *s, const void *data, size_t n)
{
    const char *out;
    size_t length = 0;
    return compress_whole(s, data, n, &out, &length) ? SIZE_MAX : length;
}

static void test_takeover(void)
{
    struct side kept, isolated, told;
    side_init(&kept, terms_of("permessage-deflate", 0xff8));
    side_init(&isolated, terms_of("permessage-deflate", 0x101));
    side_init(&told, terms_of("permessage-deflate; server_no_context_takeover", 0xff8));
    fill(message, 1000, false);
    size_t first = compressed(&kept, message, 1000), second = compressed(&kept, message, 1000);
    ok(first > 1000 && second < 50, "X2 with context takeover: %zu, then %zu", first, second);
    ws__deflate_forget(&kept.streams);
    is_int((long long)compressed(&kept, message, 1000), (long long)first,
           "X15 forget: what follows does not refer to what went before");
    ok(compressed(&kept, message, 1000) < 50, "X15 and then again it does");
    first = compressed(&isolated, message, 1000);
    is_int((long long)compressed(&isolated, message, 1000), (long long)first,
           "shared: every message is isolated");
    first = compressed(&told, message, 1000);
    is_int((long long)compressed(&told, message, 1000), (long long)first,
           "X2 server_no_context_takeover is obeyed");
    ok(!told.streams.deflater && !isolated.streams.deflater, "no stream of the connection");
    ws__deflate_forget(&told.streams);
    ws__deflate_streams_deinit(&kept.pool, NULL);
    ok(side_deinit(&kept), "all given back: kept");
    ok(side_deinit(&isolated), "shared");
    ok(side_deinit(&told), "and told");
}

static void test_windows(void)
{
    for (int c = 2; c < COMPRESSORS; c++)
        for (int over = 0; over < 2; over++) {
            struct side s;
            side_init(&s, terms_of("permessage-deflate", compressors[c]));
            size_t n = ((size_t)1 << (compressors[c] >> 4)) - (over ? 200 : 262);
            fill(message, n, false);
            compressed(&s, message, n);
            size_t second = compressed(&s, message, n);
            if (over)
                ok(second > n, "S46 window of %u: %zu bytes again: %zu", compressors[c], n, second);
            else
                ok(second < n / 8 + 16, "S46 window of %u: %zu bytes again: %zu", compressors[c], n,
                   second);
            ok(side_deinit(&s), "given back");
        }
}

/* Pieces that were given up, and messages between them. */
static void test_abandoned(void)
{
    struct side s;
    z_stream peer;
    const char *out;
    size_t length;
    side_init(&s, terms_of("permessage-deflate", 0x101));
    peer_inflater(&peer, 15);
    fill(message, 5000, true);
    compress_piece(&s, message, 5000, true, false, &out, &length);
    ok(s.streams.deflater, "X2 pieces of a shared compressor have a private stream");
    ok(sends(&s, &peer, 5000, 3), "a message that was given up leaves nothing behind");
    compress_piece(&s, message, 5000, true, false, &out, &length);
    ok(sends(&s, &peer, 5000, 1), "neither to a whole one");
    compress_piece(&s, message, 0, true, false, &out, &length);
    is_mem(out, length, "", 0, "an empty piece is empty");
    compress_piece(&s, message, 0, false, true, &out, &length);
    is_mem(out, length, "\0", 1, "X10 and an empty end is one byte 00");
    compress_whole(&s, message, 0, &out, &length);
    is_mem(out, length, "\0", 1, "X10 T45 an empty message is one byte 00");
    ok(!s.streams.deflater, "no private stream is left");
    inflateEnd(&peer);
    ok(side_deinit(&s), "given back");
}

/* What was decompressed can be compressed where it lies. */
static void test_echo(void)
{
    struct side s;
    z_stream deflater, inflater;
    side_init(&s, terms_of("permessage-deflate; client_max_window_bits=8", 0x9c5));
    is_int(s.terms.client_bits, 8, "T44 a client's window of 8 bits");
    peer_deflater(&deflater, 9);
    peer_inflater(&inflater, 15);
    fill(message, 60000, true);
    char *in;
    const char *out;
    size_t length = peer_deflate(&deflater, message, 200, Z_SYNC_FLUSH), in_length;
    is_int(decompress(&s, wire, length, BIG, true, &in, &in_length), WS__INFLATE_OK,
           "X14 inflated");
    compress_whole(&s, in, in_length, &out, &length);
    length = peer_inflate(&inflater, out, length);
    is_mem(plain, length, message, 200, "an echo is compressed from where it was inflated to");
    deflateEnd(&deflater);
    inflateEnd(&inflater);
    ok(side_deinit(&s), "given back");
}

/* ---- limits ---- */

static void test_bomb(bool text)
{
    struct side s;
    z_stream peer;
    char *out;
    size_t length, out_length;
    uint8_t *zeros = calloc(10, 1000000);
    side_init(&s, terms_of("permessage-deflate", 0x101));
    peer_deflater(&peer, 15);
    length = peer_deflate(&peer, zeros, 10000000, Z_SYNC_FLUSH);
    is_int(decompress(&s, wire, length, 300000, text, &out, &out_length), WS__INFLATE_TOO_BIG,
           "X12 T40 a bomb of %zu bytes", length);
    is_int((long long)s.pool.inflated.capacity, 300001, "X12 T40 stops at one byte too many");
    ok(s.peak < 300000 + 65536 + 16384, "X12 T40 memory stays at the limit: %zu", s.peak);
    is_int(decompress(&s, wire, length, 10000000, text, &out, &out_length), WS__INFLATE_OK,
           "within the limit it is a message");
    is_mem(out, out_length, zeros, 10000000, "all of it");
    ws__deflate_trim(&s.pool);
    ok(s.pool.used < 65536, "large output space is given back: %zu", s.pool.used);
    deflateEnd(&peer);
    free(zeros);
    ok(side_deinit(&s), "given back");
}

static void limit_case(size_t limit, int over, unsigned options)
{
    struct side s;
    z_stream peer;
    char *out = NULL;
    size_t n = limit + (size_t)over, out_length;
    side_init(&s, terms_of("permessage-deflate", options));
    peer_deflater(&peer, 15);
    fill(message, n, true);
    size_t length = peer_deflate(&peer, message, n, Z_SYNC_FLUSH);
    int result = decompress(&s, wire, length, limit, true, &out, &out_length);
    if (over <= 0)
        ok(!result && out_length == n && !memcmp(out, message, n), "T41 limit %zu %+d: whole",
           limit, over);
    else
        ok(result == WS__INFLATE_TOO_BIG && !out_length, "X12 T41 limit %zu %+d: too big", limit,
           over);
    deflateReset(&peer);
    length = peer_deflate(&peer, message, limit, Z_SYNC_FLUSH);
    ok(!decompress(&s, wire, length, limit, true, &out, &out_length) && out_length == limit,
       "and the next message is fine");
    deflateEnd(&peer);
    ok(s.peak < limit + 128 * 1024 && side_deinit(&s), "given back");
}

static void test_limits(void)
{
    static const size_t limits[] = {1, 100, 16383, 16384, 16385, 32768, 65536, 100000};
    static const int over[] = {-1, 0, 1, 2, 100};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (size_t k = 0; k < sizeof over / sizeof *over; k++)
            limit_case(limits[i], over[k], i % 2 ? 0x101 : 0xf01);
    struct side s;
    char *out;
    size_t n;
    side_init(&s, terms_of("permessage-deflate", 0x101));
    is_int(decompress(&s, "\0", 1, 0, true, &out, &n), WS__INFLATE_OK, "X10 empty at limit 0");
    is_int(decompress(&s, "\x4a\x04", 3, 0, true, &out, &n), WS__INFLATE_TOO_BIG, "limit 0");
    is_int(decompress(&s, "\x4a\x04", 3, SIZE_MAX, true, &out, &n), WS__INFLATE_OK, "no limit");
    is_mem(out, n, "a", 1, "X9 the stripped tail is put back");
    ok(side_deinit(&s), "given back");
}

/* ---- broken data ---- */

static void test_cut(unsigned options, size_t n, int level, bool repetitive)
{
    struct side s;
    z_stream peer = {0};
    char *out;
    size_t out_length, accepted = 0;
    fill(message, n, repetitive);
    side_init(&s, terms_of("permessage-deflate", options));
    deflateInit2(&peer, level, Z_DEFLATED, -15, 8, level == 1 ? Z_FIXED : Z_DEFAULT_STRATEGY);
    size_t length = peer_deflate(&peer, message, n, Z_SYNC_FLUSH);
    for (size_t cut = 0; cut < length; cut++) {
        if (cut == 1 && !wire[0]) /* that is an empty message */
            continue;
        int result = decompress(&s, guard_copy(wire, cut), cut, BIG, false, &out, &out_length);
        accepted += result != WS__INFLATE_INVALID || out_length;
    }
    is_int((long long)accepted, 0, "X12 T42 cut at every byte: level %d, %zu bytes", level, length);
    ok(!decompress(&s, wire, length, BIG, false, &out, &out_length) && out_length == n,
       "and the whole is fine after that");
    deflateEnd(&peer);
    ok(side_deinit(&s), "given back");
}

/* Whatever 64 damaged bodies do, the next message is fine, and other connections do not notice. */
static void test_corrupt(unsigned options)
{
    struct side s;
    struct ws__deflate_streams other = {NULL, NULL};
    z_stream peer;
    char *out;
    size_t out_length, n = 3000;
    int broken = 0, bad = 0;
    fill(message, n, true);
    side_init(&s, terms_of("permessage-deflate", options));
    for (int i = 0; i < 64; i++) {
        peer_deflater(&peer, 15);
        size_t length = peer_deflate(&peer, message, n, Z_SYNC_FLUSH);
        for (int k = 0; k < 4; k++)
            wire[roll() % length] ^= (uint8_t)(1 + roll() % 255);
        int result = decompress(&s, guard_copy(wire, length), length, n, true, &out, &out_length);
        broken += result != WS__INFLATE_OK;
        bad += result < 0 || (result && out_length) || out_length > n;
        deflateReset(&peer);
        if (!result)
            ws__deflate_streams_deinit(&s.pool, &s.streams);
        bad += !receives(&s, &peer, n);
        deflateEnd(&peer);
        peer_deflater(&peer, 15);
        length = peer_deflate(&peer, message, n, Z_SYNC_FLUSH);
        struct ws__inflation m = {.limit = n, .text = true, .budget = SIZE_MAX};
        bad += ws__deflate_decompress(&s.pool, &s.terms, &other, &m, wire, length, &out,
                                      &out_length) != 0;
        deflateEnd(&peer);
        ws__deflate_streams_deinit(&s.pool, &other);
    }
    ok(broken > 48 && !bad, "X12 T42 64 corrupt bodies: %d broken", broken);
    ok(side_deinit(&s), "given back");
}

static void body(const char *name, unsigned options, const void *data, size_t n, int result,
                 const char *want)
{
    struct side s;
    char *out = NULL;
    size_t length;
    side_init(&s, terms_of("permessage-deflate", options));
    int got = decompress(&s, guard_copy(data, n), n, 1000, true, &out, &length);
    ok(got == result && (got || (length == strlen(want) && !memcmp(out, want, length))), "%s: %d",
       name, got);
    got = decompress(&s, "\xf2\x48\xcd\xc9\xc9\x07", 7, 5, true, &out, &length);
    is_mem(out, got ? 0 : length, "Hello", 5, "and the next message");
    ok(side_deinit(&s), "given back");
}

#define BODY(name, bytes, result, want)                                                            \
    body(name, 0x101, bytes, sizeof bytes - 1, result, want);                                      \
    body(name ", own window", 0xf01, bytes, sizeof bytes - 1, result, want)

static void test_bodies(void)
{
    BODY("RFC 7692 7.2.3.1", "\xf2\x48\xcd\xc9\xc9\x07\x00", WS__INFLATE_OK, "Hello");
    BODY("T45 RFC 7692 7.2.3.3, a stored block", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
         WS__INFLATE_OK, "Hello");
    BODY("X11 RFC 7692 7.2.3.4, BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", WS__INFLATE_OK,
         "Hello");
    BODY("X11 BFINAL at the very end", "\xf3\x48\xcd\xc9\xc9\x07\x00", WS__INFLATE_OK, "Hello");
    BODY("RFC 7692 7.2.3.5, two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
         WS__INFLATE_OK, "Hello");
    BODY("X10 RFC 7692 7.2.3.6, empty", "\x00", WS__INFLATE_OK, "");
    BODY("X11 only a last block, empty", "\x03\x00", WS__INFLATE_OK, "");
    BODY("X11 an empty last stored block", "\x01", WS__INFLATE_OK, "");
    BODY("X11 T45 two last blocks",
         "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", WS__INFLATE_OK,
         "HelloHello");
    BODY("X11 a last block, the second refers to it",
         "\xf3\x48\xcd\xc9\xc9\x07\x00\x02\x13\x00\x00", WS__INFLATE_OK, "HelloHello");
    BODY("no byte at all", "", WS__INFLATE_INVALID, "");
    BODY("block type 3", "\x06", WS__INFLATE_INVALID, "");
    BODY("length and its complement differ", "\x00\x05\x00\xfa\xfe\x48", WS__INFLATE_INVALID, "");
    BODY("stored block that would eat the tail", "\x00\x05\x00\xfa\xff\x48",
         WS__INFLATE_INVALID, "");
    BODY("refers to before the beginning", "\x02\x13\x00\x00", WS__INFLATE_INVALID, "");
    BODY("garbage behind a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x06",
         WS__INFLATE_INVALID, "");
}

/* Any number of last blocks in one message costs no more than its bytes. */
static void test_many_last_blocks(void)
{
    struct side s;
    char *out;
    size_t length;
    static uint8_t blocks[BIG];
    side_init(&s, terms_of("permessage-deflate", 0xf01));
    fill(message, 20000, false);
    z_stream peer;
    peer_deflater(&peer, 15);
    receives(&s, &peer, 20000);
    for (size_t i = 0; i < BIG; i += 2)
        memcpy(blocks + i, "\x03\x00", 2);
    clock_t start = clock();
    int result = decompress(&s, blocks, BIG, 0, true, &out, &length);
    diag("%.1f ms for half a million last blocks in 1 MiB",
         1e3 * (double)(clock() - start) / CLOCKS_PER_SEC);
    is_int(result, WS__INFLATE_OK, "X11 half a million last blocks");
    ok(receives(&s, &peer, 20000) && peer.total_out < 21000, "X11 and the window is kept");
    deflateEnd(&peer);
    ok(side_deinit(&s), "given back");
}

/* Messages that are finished streams, each with the last message as its dictionary. */
static void test_final_takeover(void)
{
    struct side s;
    char *out;
    size_t out_length, bad = 0, total = 0, n = 10000;
    side_init(&s, terms_of("permessage-deflate", 0xf01));
    fill(message, n, false);
    for (int i = 0; i < 20; i++) {
        z_stream peer;
        peer_deflater(&peer, 15);
        if (i)
            deflateSetDictionary(&peer, message, (uInt)n);
        size_t length = peer_deflate(&peer, message, n, Z_FINISH);
        total += length;
        if (i % 2)
            wire[length++] = 0;
        bad += decompress(&s, wire, length, n, false, &out, &out_length) || out_length != n ||
               memcmp(out, message, n) != 0;
        deflateEnd(&peer);
    }
    ok(!bad && total < 2 * n, "X11 finished streams keep the window: %zu bytes", total);
    ok(side_deinit(&s), "given back");
}

/* ---- UTF-8 ---- */

static int text_result(size_t at, const char *bytes, size_t n, size_t total)
{
    struct side s;
    z_stream peer;
    char *out;
    size_t length;
    side_init(&s, terms_of("permessage-deflate", 0x101));
    peer_deflater(&peer, 15);
    memset(message, 'x', total);
    memcpy(message + at, bytes, n);
    length = peer_deflate(&peer, message, total, Z_SYNC_FLUSH);
    int result = decompress(&s, wire, length, 100000, true, &out, &length);
    deflateEnd(&peer);
    side_deinit(&s);
    return result;
}

static void test_utf8(void)
{
    int good = 0, bad = 0, cut = 0, border = 16384;
    for (int at = border - 5; at <= border + 1; at++) {
        good += text_result((size_t)at, "\xf0\x9f\x98\x80", 4, 50000) == WS__INFLATE_OK;
        bad += text_result((size_t)at, "\xf0\x9f\x98x", 4, 50000) == WS__INFLATE_NOT_UTF8;
        cut += text_result((size_t)at, "\xf0\x9f\x98", 3, (size_t)at + 3) == WS__INFLATE_NOT_UTF8;
    }
    is_int(good, 7, "T37 a character across the border of output space");
    is_int(bad, 7, "T37 a broken one");
    is_int(cut, 7, "T37 an unfinished one at the end");
    is_int(text_result(99999, "\xff", 1, 200000), WS__INFLATE_NOT_UTF8,
           "a bad byte before the limit decides");
    is_int(text_result(100000, "\xff", 1, 200000), WS__INFLATE_TOO_BIG, "behind it, it does not");
}

/* ---- memory ---- */

static void test_memory(void)
{
    bool ng = strstr(zlibVersion(), "zlib-ng") != NULL; /* has tables of its own */
    for (int c = 1; c < COMPRESSORS; c++) {
        struct side s;
        side_init(&s, terms_of("permessage-deflate", compressors[c]));
        compressed(&s, "message", 7);
        size_t used = s.pool.used - s.pool.deflated.capacity;
        unsigned bits = compressors[c] > 1 ? compressors[c] >> 4 : 15;
        unsigned level = compressors[c] > 1 ? compressors[c] & 15 : 8;
        size_t formula = ((size_t)1 << (bits + 2)) + ((size_t)1 << (level + 9));
        size_t more = 8192 + ((size_t)1 << (level + 6)); /* some zlibs hold that much more */
        ok(ng || (used >= formula && used <= formula + more),
           "S46 compressor %u holds %zu: %zu and %zu", compressors[c], used, formula,
           used - formula);
        is_int((long long)s.pool.used, (long long)s.memory.used, "all of it counted");
        ok(!s.streams.deflater == (compressors[c] == 1), "of the connection, or of the pool");
        ok(side_deinit(&s), "given back");
    }
    for (int d = 1; d < DECOMPRESSORS; d++) {
        struct side s;
        z_stream peer;
        side_init(&s, terms_of("permessage-deflate; client_max_window_bits", decompressors[d]));
        peer_deflater(&peer, s.terms.client_bits);
        fill(message, 100, false);
        receives(&s, &peer, 100);
        size_t used = s.pool.used - s.pool.inflated.capacity;
        size_t formula = (size_t)1 << s.terms.client_bits;
        ok(ng || (used >= formula && used <= formula + 10240),
           "S46 decompressor %u holds %zu: %zu and %zu", decompressors[d], used, formula,
           used - formula);
        ok(!s.streams.inflater == (decompressors[d] == 256), "of the connection, or of the pool");
        deflateEnd(&peer);
        ok(side_deinit(&s), "given back");
    }
}

/* Messages in both directions while the n-th allocation fails. 0: it did not come to that. */
static int failing(struct side *s, int n, int *bad)
{
    z_stream deflater, inflater;
    int failures = 0;
    peer_deflater(&deflater, 15);
    peer_inflater(&inflater, 15);
    s->fail_at = n;
    for (int i = 0; i < 6; i++) {
        const char *out;
        char *text;
        size_t length, size = i % 3 == 1 ? 100000 : 3000;
        fill(message, size, i % 2);
        int result = compress_whole(s, message, size, &out, &length);
        *bad += result && result != WS_ENOMEM;
        failures += result != 0;
        if (s->terms.server_no_context || result)
            inflateReset(&inflater);
        *bad += !result && (peer_inflate(&inflater, out, length) != size ||
                            memcmp(plain, message, size) != 0);
        if (s->terms.client_no_context)
            deflateReset(&deflater);
        length = peer_deflate(&deflater, message, size, Z_SYNC_FLUSH);
        result = decompress(s, wire, length, size, false, &text, &length);
        *bad += result && result != WS_ENOMEM;
        *bad += !result && (length != size || memcmp(text, message, size) != 0);
        failures += result != 0;
        if (result) /* what a connection does not do: it is over. A new peer must find it clean. */
            deflateReset(&deflater);
        failures += compress_piece(s, message, 2000, true, false, &out, &length) != 0;
        failures += compress_piece(s, message, 100, false, true, &out, &length) != 0;
        inflateReset(&inflater);
        ws__deflate_forget(&s->streams);
        ws__deflate_trim(&s->pool);
    }
    deflateEnd(&deflater);
    inflateEnd(&inflater);
    return failures;
}

static void test_no_memory(unsigned options)
{
    int n = 1, bad = 0, leaks = 0, failures;
    do {
        struct side s;
        side_init(&s, terms_of("permessage-deflate", options));
        failures = failing(&s, n++, &bad);
        leaks += !side_deinit(&s);
    } while (failures);
    ok(n > 15 && !bad && !leaks, "T84 X15 %u: each of %d allocations fails once", options, n - 2);
}

static void cases(void)
{
    CASE(test_options());
    CASE(test_offers());
    CASE(test_negotiation());
    CASE(test_round_trips());
    CASE(test_takeover());
    CASE(test_windows());
    CASE(test_abandoned());
    CASE(test_echo());
    CASE(test_bomb(false));
    CASE(test_bomb(true));
    CASE(test_limits());
    for (unsigned i = 0; i < 2; i++) {
        unsigned options = i ? 0xf01 : 0x101;
        CASE(test_cut(options, 300, 6, true));
        CASE(test_cut(options, 300, 1, true));
        CASE(test_cut(options, 300, 0, false));
        CASE(test_cut(options, 5000, 9, false));
        CASE(test_cut(options, 5000, 9, true));
        CASE(test_corrupt(options));
        CASE(test_no_memory(i ? 0xff8 : 0x101));
    }
    CASE(test_bodies());
    CASE(test_many_last_blocks());
    CASE(test_final_takeover());
    CASE(test_utf8());
    CASE(test_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
