/* SPDX-License-Identifier: MIT */
/*
 * test_deflate_data.c: what a peer may send as compressed data: bombs, limits, streams that are
 * cut, broken, or end early, and text that is not UTF-8.
 */
#include "buffer.h"
#include "deflate_side.h"
#include "guard.h"

#include <stdlib.h>
#include <time.h>

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
    ws__deflate_trim(&s.pool, 64 * 1024);
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
    BODY("garbage after a last block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x06",
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
    is_int(text_result(100000, "\xff", 1, 200000), WS__INFLATE_TOO_BIG, "after it, it does not");
}

static void cases(void)
{
    CASE(test_bomb(false));
    CASE(test_bomb(true));
    CASE(test_limits());
    CASE(test_cut(0x101, 300, 6, true));
    CASE(test_cut(0x101, 300, 1, true));
    CASE(test_cut(0x101, 300, 0, false));
    CASE(test_cut(0x101, 5000, 9, false));
    CASE(test_cut(0x101, 5000, 9, true));
    CASE(test_corrupt(0x101));
    CASE(test_cut(0xf01, 300, 6, true));
    CASE(test_cut(0xf01, 300, 1, true));
    CASE(test_cut(0xf01, 300, 0, false));
    CASE(test_cut(0xf01, 5000, 9, false));
    CASE(test_cut(0xf01, 5000, 9, true));
    CASE(test_corrupt(0xf01));
    CASE(test_bodies());
    CASE(test_many_last_blocks());
    CASE(test_utf8());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
