/* SPDX-License-Identifier: MIT */
/*
 * test_deflate.c: messages of permessage-deflate in both directions, against zlib at the other end:
 * every window and mode, takeover, memory that is counted and given back, and every allocation made
 * to fail.
 */
#include "buffer.h"
#include "deflate_side.h"
#include "guard.h"

#include <stdlib.h>
#include <time.h>

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

static void peer_inflater(z_stream *z, int bits)
{
    *z = (z_stream){0};
    inflateInit2(z, -bits);
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
        ws__deflate_trim(&s.pool, 64 * 1024);
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
        ws__deflate_trim(&s->pool, 64 * 1024);
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
    CASE(test_round_trips());
    CASE(test_takeover());
    CASE(test_windows());
    CASE(test_abandoned());
    CASE(test_echo());
    CASE(test_no_memory(0x101));
    CASE(test_no_memory(0xff8));
    CASE(test_final_takeover());
    CASE(test_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
