/* SPDX-License-Identifier: MIT */
/*
 * test_utf8.c: utf8.c against a second decoder that works on code points, not on states: every
 * boundary byte in every place, whole and at every split. Inputs end at a PROT_NONE page.
 * `test_utf8 test_exhaustive` compares all 2^32 sequences of four bytes instead (about a minute).
 */
#include "guard.h"
#include "tap.h"
#include "utf8.h"

/* The first and last byte of every range that RFC 3629 section 4 tells apart. */
static const uint8_t edges[] = {
    0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0,
    0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
};
enum { EDGES = sizeof edges };

enum verdict { VALID, INVALID, UNFINISHED };

/* Length that a lead byte announces; 0: not a lead byte at all. */
static int announced(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >> 5 == 6)
        return 2;
    if (lead >> 4 == 14)
        return 3;
    return lead >> 3 == 30 ? 4 : 0;
}

/* Whether a character of `size` bytes may stand for any code point in [low, high]. */
static bool any_allowed(int size, uint32_t low, uint32_t high)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (low < least[size])
        low = least[size];
    if (high > 0x10ffff)
        high = 0x10ffff;
    return low <= high && !(low >= 0xd800 && high <= 0xdfff);
}

/* Takes one character off p[n]: bytes taken, 0 when it is unfinished, -1 when it is impossible. */
static int decode_one(const uint8_t *p, size_t n)
{
    int size = announced(p[0]);
    if (!size)
        return -1;
    uint32_t code = size == 1 ? p[0] : p[0] & (0x7fu >> size);
    for (int i = 1;; i++) {
        /* What the missing bytes can still make of it: all 80 up to all BF. */
        int missing = 6 * (size - i);
        uint32_t low = code << missing;
        if (!any_allowed(size, low, low | ((1u << missing) - 1)))
            return -1;
        if (i == size)
            return size;
        if ((size_t)i == n)
            return 0;
        if (p[i] >> 6 != 2)
            return -1;
        code = code << 6 | (p[i] & 0x3f);
    }
}

static enum verdict judge(const uint8_t *p, size_t n)
{
    while (n) {
        int taken = decode_one(p, n);
        if (taken <= 0)
            return taken ? INVALID : UNFINISHED;
        p += taken;
        n -= (size_t)taken;
    }
    return VALID;
}

static enum verdict verdict_of(uint32_t state)
{
    return state == WS__UTF8_ACCEPT ? VALID : state == WS__UTF8_REJECT ? INVALID : UNFINISHED;
}

/* In one piece and in every division into pieces (bit i of `cuts`: cut after byte i + 1): after
 * each piece the state is what the bytes so far deserve. */
static bool agrees(const uint8_t *p, size_t n)
{
    for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
        uint32_t state = WS__UTF8_ACCEPT;
        size_t from = 0;
        for (size_t i = 1; i <= n; i++) {
            if (i < n && !(cuts >> (i - 1) & 1))
                continue;
            state = ws__utf8_next(state, p + from, i - from);
            if (state > UINT8_MAX || verdict_of(state) != judge(p, i))
                return false;
            from = i;
        }
    }
    return true;
}

/* All sequences of n edge bytes. */
static bool all_agree(size_t n)
{
    uint8_t *p = guard_tail(n);
    size_t count = 1;
    for (size_t i = 0; i < n; i++)
        count *= EDGES;
    for (size_t k = 0; k < count; k++) {
        size_t rest = k;
        for (size_t i = 0; i < n; i++, rest /= EDGES)
            p[i] = edges[rest % EDGES];
        if (!agrees(p, n)) {
            diag("%02x %02x %02x %02x", p[0], p[1 % n], p[2 % n], p[3 % n]);
            return false;
        }
    }
    return true;
}

static void test_edges(void)
{
    bool good = true;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        good = good && agrees(guard_copy(&one, 1), 1);
    }
    ok(good, "T37 all single bytes");
    for (size_t n = 2; n <= 4; n++)
        ok(all_agree(n), "T37 F11 all sequences of %zu edge bytes at all splits", n);
}

static void test_three_bytes(void)
{
    uint8_t *p = guard_tail(3);
    bool good = true;
    for (uint32_t x = 0; x < 1u << 24 && good; x++) {
        p[0] = (uint8_t)(x >> 16);
        p[1] = (uint8_t)(x >> 8);
        p[2] = (uint8_t)x;
        good = verdict_of(ws__utf8_next(WS__UTF8_ACCEPT, p, 3)) == judge(p, 3);
    }
    ok(good, "T37 all 2^24 sequences of three bytes");
}

static unsigned pick(unsigned below)
{
    static uint32_t x = 2463534242u;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x % below;
}

static size_t put(uint8_t *out, uint32_t code)
{
    size_t size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(size == 1 ? code : (0xf00u >> size & 0xff) | code);
    return size;
}

static uint32_t random_code(void)
{
    static const uint32_t limits[] = {0x80, 0x800, 0x10000, 0x110000};
    uint32_t code = pick(limits[pick(4)]);
    return code >= 0xd800 && code < 0xe000 ? 0xfffd : code;
}

/* At least n bytes of valid text, at most n + 3. */
static size_t random_text(uint8_t *out, size_t n)
{
    size_t length = 0;
    while (length < n)
        length += put(out + length, random_code());
    return length;
}

static void test_eight_bytes(void)
{
    uint8_t text[16];
    bool good = true;
    int valid = 0;
    for (int k = 0; k < 4000 && good; k++) {
        random_text(text, 8);
        if (k % 2)
            text[pick(8)] = pick(2) ? edges[pick(EDGES)] : (uint8_t)pick(256);
        valid += judge(text, 8) == VALID;
        good = agrees(guard_copy(text, 8), 8);
    }
    ok(good && valid > 100, "T37 T39 4000 texts of 8 bytes (%d valid) at all 128 splits", valid);
}

/* Around the blocks of 16: one sequence in ASCII, at every place, in one piece and in two. */
static bool agrees_within(const uint8_t *sequence, size_t n, size_t before, size_t after)
{
    uint8_t text[80], *p;
    size_t all = before + n + after;
    memset(text, 'a', sizeof text);
    memcpy(text + before, sequence, n);
    p = guard_copy(text, all);
    enum verdict want = judge(p, all);
    for (size_t cut = 0; cut <= all; cut++) {
        uint32_t state = ws__utf8_next(WS__UTF8_ACCEPT, p, cut);
        if (verdict_of(state) != judge(p, cut) ||
            verdict_of(ws__utf8_next(state, p + cut, all - cut)) != want)
            return false;
    }
    return true;
}

static void test_blocks(void)
{
    static const char *const sequences[] = {
        "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf", "\x80", "\xc0\x80", "\xe0\x80", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82", "\xf0\x9f\x98", "\xc3",
        "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
    };
    for (size_t k = 0; k < sizeof sequences / sizeof *sequences; k++) {
        const uint8_t *sequence = (const uint8_t *)sequences[k];
        size_t n = strlen(sequences[k]);
        bool good = true;
        for (size_t before = 0; before <= 34; before++)
            for (size_t after = 0; after <= 34; after++)
                good = good && agrees_within(sequence, n, before, after);
        ok(good, "T38 T39 %zu bytes %02x.. at every place around the 16-byte blocks", n,
           sequence[0]);
    }
}

static void test_all_code_points(void)
{
    static uint8_t text[0x110000 * 4];
    size_t n = 0;
    for (uint32_t code = 0; code < 0x110000; code++)
        if (code < 0xd800 || code > 0xdfff)
            n += put(text + n, code);
    is_int(ws__utf8_next(WS__UTF8_ACCEPT, text, n), WS__UTF8_ACCEPT, "every code point there is");
    uint32_t state = WS__UTF8_ACCEPT;
    for (size_t i = 0; i < n; i++)
        state = ws__utf8_next(state, text + i, 1);
    is_int(state, WS__UTF8_ACCEPT, "and byte by byte");
    bool good = true;
    for (uint32_t code = 0xd800; code < 0x120000; code += code == 0xdfff ? 0x110000 - 0xdfff : 1)
        good = good &&
               ws__utf8_next(WS__UTF8_ACCEPT, text, put(text, code)) == WS__UTF8_REJECT;
    ok(good, "T38 no surrogate, nothing above U+10FFFF");
}

/* F11: the state is REJECT as soon as the byte is in, and stays so. */
static void test_fail_fast(void)
{
    static const struct {
        const char *bytes;
        size_t at; /* length up to and with the first impossible byte */
    } cases[] = {
        {"\x80", 1},         {"\xbf", 1},         {"\xc0\x80", 1},         {"\xc1\xbf", 1},
        {"\xf5\x80", 1},     {"\xff", 1},         {"\xe0\x80\x80", 2},     {"\xe0\x9f\xbf", 2},
        {"\xed\xa0\x80", 2}, {"\xed\xbf\xbf", 2}, {"\xf0\x80\x80\x80", 2}, {"\xf0\x8f\xbf\xbf", 2},
        {"\xf4\x90\x80", 2}, {"\xc3(", 2},        {"\xe2\x82(", 3},        {"\xf0\x9f\x98(", 4},
        {"\xc3\xc3", 2},     {"\xe2\xe2", 2},     {"ok\xf8", 3},           {"\xe2\x82\xac\xac", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *p = cases[i].bytes;
        size_t last = cases[i].at - 1;
        uint32_t before = ws__utf8_next(WS__UTF8_ACCEPT, p, last);
        ok(before != WS__UTF8_REJECT && ws__utf8_next(before, p + last, 1) == WS__UTF8_REJECT,
           "T39 F11 case %zu fails at byte %zu, no later, no earlier", i, cases[i].at);
    }
    is_int(ws__utf8_next(WS__UTF8_REJECT, "valid text, 16+ bytes", 21), WS__UTF8_REJECT,
           "REJECT is final");
    is_int(ws__utf8_next(WS__UTF8_ACCEPT, NULL, 0), WS__UTF8_ACCEPT, "no bytes may be NULL");
}

static void test_late_error(void)
{
    static uint8_t text[70004];
    size_t n = random_text(text, 70000);
    is_int(ws__utf8_next(WS__UTF8_ACCEPT, guard_copy(text, n), n), WS__UTF8_ACCEPT,
           "70 kB of text");
    text[n++] = 0xff;
    is_int(ws__utf8_next(WS__UTF8_ACCEPT, guard_copy(text, n), n), WS__UTF8_REJECT,
           "T38 one wrong byte after 70 kB");
}

/* The definition, from the front: characters while they fit. */
static size_t cut_plainly(const uint8_t *p, size_t n, size_t limit)
{
    size_t at = 0;
    while (at < n && at + (size_t)announced(p[at]) <= limit)
        at += (size_t)announced(p[at]);
    return at;
}

static void test_cut(void)
{
    uint8_t text[44], *p;
    bool good = true;
    for (int k = 0; k < 500; k++) {
        size_t n = random_text(text, (size_t)k % 40);
        p = guard_copy(text, n);
        for (size_t limit = 0; limit < n + 3; limit++)
            good = good && ws__utf8_cut(p, n, limit) == cut_plainly(p, n, limit);
    }
    ok(good, "cut never splits a character, at any limit");
    is_int((long long)ws__utf8_cut("\xf0\x9f\x98\x80", 4, 3), 0, "nothing fits");
    is_int((long long)ws__utf8_cut(NULL, 0, 123), 0, "nothing to cut");
    is_int((long long)ws__utf8_cut("caf\xc3\xa9", 5, 4), 3, "before the character that is cut");
}

static void test_exhaustive(void)
{
    uint8_t p[4];
    uint64_t wrong = 0;
    for (uint64_t x = 0; x <= UINT32_MAX; x++) {
        for (unsigned i = 0; i < sizeof p; i++)
            p[i] = (uint8_t)(x >> (24 - 8 * i));
        wrong += verdict_of(ws__utf8_next(WS__UTF8_ACCEPT, p, sizeof p)) != judge(p, sizeof p);
    }
    is_int((long long)wrong, 0, "T37 all 2^32 sequences of four bytes");
}

static void cases(void)
{
    CASE(test_edges());
    CASE(test_three_bytes());
    CASE(test_eight_bytes());
    CASE(test_blocks());
    CASE(test_all_code_points());
    CASE(test_fail_fast());
    CASE(test_late_error());
    CASE(test_cut());
    CASE_IF_NAMED(test_exhaustive());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
