/* SPDX-License-Identifier: MIT */
/*
 * test_deflate_shared.c: the one compressor that the connections of a server share: small sizes of
 * it, and clients that have asked for different windows. What they get is inflated with the window
 * that they have asked for, in small steps, so that a distance beyond it is found out. E4.
 */
#include "deflate_side.h"

enum {
    ISOLATED = 0x1000, /* WS_SHARED_COMPRESSOR_..., with the size of a dedicated one */
    SHARED = 0x101,
    LARGEST = 268320, /* bytes of a compressor of 256 KB, see ws.h; zlib-ng has others */
    SPACE = 16 * 1024
};

static bool is_zlib_ng(void)
{
    return strstr(zlibVersion(), "zlib-ng") != NULL;
}

/* Compresses message[n]; the length, or SIZE_MAX. */
static size_t compressed(struct side *s, size_t n, const char **out)
{
    size_t length = 0;
    int error = ws__deflate_compress(&s->pool, &s->terms, &s->streams, message, n, true, true, out,
                                     &length);
    return error ? SIZE_MAX : length;
}

/* Inflates with a window of so many bits, 64 bytes at a time. */
static bool inflates(const char *data, size_t length, int bits, size_t want)
{
    enum { STEP = 64 };
    z_stream z = {0};
    size_t n = 0;
    int status = Z_OK;
    memcpy(wire, data, length);
    memcpy(wire + length, "\0\0\xff\xff", 4);
    inflateInit2(&z, -bits);
    z.next_in = wire;
    z.avail_in = (uInt)(length + 4);
    while (status == Z_OK && n + STEP <= sizeof plain) {
        z.next_out = plain + n;
        z.avail_out = STEP;
        status = inflate(&z, Z_SYNC_FLUSH);
        n += STEP - z.avail_out;
        if (z.avail_out && !z.avail_in)
            break;
    }
    inflateEnd(&z);
    return (status == Z_OK || status == Z_BUF_ERROR) && n == want && !memcmp(plain, message, n);
}

/* Noise that comes again after `distance` bytes. */
static void fill_with_repeats(size_t n, size_t distance)
{
    fill(message, n, false);
    for (size_t i = distance; i < n; i++)
        message[i] = message[i - distance];
}

static bool passes(struct side *s, size_t n)
{
    const char *out = "";
    size_t length = compressed(s, n, &out);
    return length != SIZE_MAX && inflates(out, length, s->terms.server_bits, n);
}

/* ---- windows ---- */

static void set_window(struct side *s, int bits)
{
    char offer[80];
    snprintf(offer, sizeof offer, "permessage-deflate; server_max_window_bits=%d", bits);
    s->terms = terms_of(offer, SHARED);
}

static void test_windows(void)
{
    static const size_t lengths[] = {1, 100, 511, 512, 513, 4096, 5000, 32768, 40000, 100000};
    struct side s;
    int bad = 0;
    side_init(&s, (struct ws__deflate_terms){0});
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t distance = 100; distance <= 1 << 15; distance *= 3)
            for (int bits = 9; bits <= 15; bits++) {
                set_window(&s, bits);
                fill_with_repeats(lengths[i], distance);
                bad += !passes(&s, lengths[i]);
            }
    ok(!bad, "X4: each client can inflate what it gets (%d cannot)", bad);
    size_t streams = s.pool.used - s.pool.deflated.capacity;
    ok(streams <= LARGEST || is_zlib_ng(), "E4: seven windows, one compressor: %zu bytes", streams);
    ok(side_deinit(&s), "T68: windows: nothing is left");
}

/* Only a message that exceeds the window of its client needs another stream. */
static void test_short_messages(void)
{
    struct side s;
    const char *out, *first = NULL;
    static char copy[600];
    size_t length;
    int allocations = 0, different = 0;
    side_init(&s, (struct ws__deflate_terms){0});
    set_window(&s, 15);
    fill_with_repeats(511, 400);
    length = compressed(&s, 511, &first);
    memcpy(copy, first, length);
    for (int bits = 9; bits < 15; bits++) {
        set_window(&s, bits);
        s.fail_at = 1;
        size_t again = compressed(&s, 511, &out);
        allocations += s.fail_at != 1;
        different += again != length || memcmp(out, copy, length) != 0;
        s.fail_at = 0;
    }
    ok(length < 470, "a short message refers back by 400 bytes: %zu", length);
    is_int(allocations, 0, "E4: short messages have the same stream, whatever the window");
    is_int(different, 0, "and the same bytes");
    set_window(&s, 9);
    fill_with_repeats(600, 100);
    s.fail_at = 1;
    ok(compressed(&s, 600, &out) == SIZE_MAX, "T84: no memory for the stream of a long one");
    s.fail_at = 0;
    ok(passes(&s, 600), "then there is");
    set_window(&s, 15);
    ok(passes(&s, 600), "and back again");
    ok(side_deinit(&s), "T68: short messages: nothing is left");
}

/* ---- sizes ---- */

static void test_sizes(void)
{
    static const struct {
        unsigned size;
        size_t bytes; /* see the table in ws.h */
    } sizes[] = {{0x91, 9248},  {0x92, 10272},  {0xa3, 14368},  {0xb4, 22560},
                 {0xc5, 38944}, {0xd6, 71712}, {0xe7, 137248}, {0xf8, LARGEST}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct side s;
        unsigned size = sizes[i].size;
        side_init(&s, terms_of("permessage-deflate", ISOLATED | size));
        ok(s.terms.server_no_context && s.terms.server_bits == size >> 4 &&
               s.terms.memory_level == (size & 15) && !s.terms.answer_server_bits,
           "E4: a shared compressor of size %02x", size);
        fill(message, 5000, true);
        ok(passes(&s, 5000) && passes(&s, 200) && !s.streams.deflater, "its messages are isolated");
        size_t bytes = s.pool.used - s.pool.deflated.capacity;
        ok(bytes <= sizes[i].bytes || is_zlib_ng(), "E4: it takes %zu bytes", bytes);
        ok(side_deinit(&s), "T68: nothing is left");
    }
}

static void test_routes(void)
{
    struct side s;
    side_init(&s, terms_of("permessage-deflate", SHARED));
    fill(message, 5000, true);
    bool good = passes(&s, 5000);
    s.terms = terms_of("permessage-deflate", ISOLATED | 0x92);
    good = good && passes(&s, 5000);
    size_t bytes = s.pool.used - s.pool.deflated.capacity;
    ok(good && (bytes <= 10272 || is_zlib_ng()), "E4: another route, another size: %zu", bytes);
    s.terms = terms_of("permessage-deflate; server_no_context_takeover", 0x92);
    ok(s.terms.server_no_context && s.terms.server_bits == 15, "X2: not for dedicated ones");
    ok(side_deinit(&s), "T68: routes: nothing is left");
}

static void test_options(void)
{
    static const unsigned valid[] = {0x1091, 0x1092, 0x10e7, 0x10f8, 0x1192, 0x1f92, 0x1992};
    static const unsigned invalid[] = {0x1000, 0x1001, 0x1100, 0x1101, 0x1093, 0x2092, 0x3092,
                                       0x1892, 0x11092};
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        ok(ws__deflate_options_valid(valid[i]), "%x is valid", valid[i]);
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        ok(!ws__deflate_options_valid(invalid[i]), "%x is not", invalid[i]);
}

static void cases(void)
{
    CASE(test_windows());
    CASE(test_short_messages());
    CASE(test_sizes());
    CASE(test_routes());
    CASE(test_options());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
