/* SPDX-License-Identifier: MIT */
/*
 * test_frame.c: frame.c: headers at every cut length and length form, and masking against the
 * byte loop of RFC 6455 section 5.3. All input ends at a PROT_NONE page.
 */
#include "frame.h"
#include "guard.h"
#include "tap.h"

enum { HEADER_MAX = 14 }; /* extended length of 8 bytes, masking key */

static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};

static const struct {
    uint64_t length;
    int form; /* bytes of the extended length */
} lengths[] = {
    {0, 0},          {1, 0},          {124, 0},        {125, 0},
    {126, 2},        {127, 2},        {255, 2},        {256, 2},
    {65534, 2},      {65535, 2},      {65536, 8},      {(1ull << 31), 8},
    {(1ull << 32) - 14, 8}, {(1ull << 32), 8}, {(1ull << 32) + 5, 8}, {INT64_MAX, 8},
};
enum { LENGTHS = sizeof lengths / sizeof *lengths };

/* A header with any length form, minimal or not. */
static size_t build(uint8_t *out, uint8_t first, bool masked, int form, uint64_t length)
{
    size_t n = 2;
    out[0] = first;
    out[1] = (uint8_t)(form == 0 ? length : form == 2 ? 126 : 127);
    for (int i = form; i-- > 0;)
        out[n++] = (uint8_t)(length >> 8 * i);
    if (masked) {
        out[1] |= 0x80;
        memcpy(out + n, key, sizeof key);
        n += sizeof key;
    }
    return n;
}

static bool decodes_to(const uint8_t *in, size_t n, int form, bool masked, uint64_t length)
{
    static const uint8_t none[4];
    struct ws__frame frame;
    int known = -1;
    size_t header = 2 + (size_t)form + (masked ? 4 : 0);
    int length7 = form == 0 ? (int)length : form == 2 ? 126 : 127;
    return ws__frame_decode(&frame, guard_copy(in, n), n, &known) == (int)header && known == 3 &&
           frame.first == in[0] && frame.masked == masked && frame.length7 == length7 &&
           frame.length == length && !memcmp(frame.key, masked ? key : none, sizeof key);
}

/* Every prefix: 0 bytes consumed, and exactly what its bytes tell. */
static bool cuts_are_right(const uint8_t *in, size_t header, int form)
{
    struct ws__frame whole, frame;
    int known;
    ws__frame_decode(&whole, in, header, &known);
    for (size_t n = 0; n < header; n++) {
        int want = n < 2 ? (int)n : n < 2 + (size_t)form ? 2 : 3;
        memset(&frame, 0xa5, sizeof frame);
        known = -1;
        if (ws__frame_decode(&frame, guard_copy(in, n), n, &known) != 0 || known != want)
            return false;
        if ((known >= 1 && frame.first != whole.first) ||
            (known >= 2 && (frame.masked != whole.masked || frame.length7 != whole.length7)) ||
            (known >= 3 && frame.length != whole.length))
            return false;
    }
    return true;
}

static void test_lengths(bool masked)
{
    uint8_t in[HEADER_MAX + 3] = {0};
    const char *how = masked ? "masked" : "unmasked";
    for (int i = 0; i < LENGTHS; i++) {
        uint64_t length = lengths[i].length;
        int form = lengths[i].form;
        size_t n = build(in, 0x82, masked, form, length);
        ok(decodes_to(in, n, form, masked, length), "decode %s, length %llu", how,
           (unsigned long long)length);
        ok(decodes_to(in, n + 3, form, masked, length), "decode %s, payload after it", how);
        ok(cuts_are_right(in, n, form), "decode %s, known at every cut, %zu bytes", how, n);
    }
}

static void test_first_bytes(void)
{
    uint8_t in[HEADER_MAX];
    bool good = true;
    for (unsigned first = 0; first < 256; first++) {
        size_t n = build(in, (uint8_t)first, true, 0, 5);
        good = good && decodes_to(in, n, 0, true, 5);
    }
    ok(good, "F3 F4 decode keeps all 256 first bytes as sent");
}

/* The judge is protocol.c; here: the header shows what it has to judge, before the key is in. */
static bool shows(int form, uint64_t length)
{
    uint8_t in[HEADER_MAX];
    struct ws__frame frame;
    int known = 0;
    size_t n = build(in, 0x82, true, form, length) - sizeof key;
    int consumed = ws__frame_decode(&frame, guard_copy(in, n), n, &known);
    return !consumed && known == 3 && frame.length == length &&
           frame.length7 == (form == 2 ? 126 : 127);
}

static void test_facts(void)
{
    static const uint64_t huge[] = {UINT64_MAX, 1ull << 63, INT64_MAX, (1ull << 32) + 5,
                                    (1ull << 32) - 14, 1ull << 31};
    static const uint64_t small[] = {0, 1, 125, 126, 65535};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
        ok(shows(8, huge[i]), "T20 F6 length %#llx is reported as sent",
           (unsigned long long)huge[i]);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        ok(shows(8, small[i]), "T22 F5 64-bit form of %d is recognized", (int)small[i]);
    for (size_t i = 0; i < 3; i++)
        ok(shows(2, small[i]), "T22 F5 16-bit form of %d is recognized", (int)small[i]);
}

static void test_control(void)
{
    uint8_t in[HEADER_MAX];
    struct ws__frame frame;
    bool good = true;
    for (unsigned length = 0; length <= WS__FRAME_CONTROL_MAX; length++) {
        size_t n = build(in, 0x89, true, 0, length);
        good = good && decodes_to(in, n, 0, true, length);
    }
    ok(good, "T18 control frames of 0 to 125 bytes");
    for (unsigned length7 = 126; length7 < 128; length7++) {
        int known = 0;
        uint8_t two[2] = {0x09, (uint8_t)(0x80 | length7)};
        ws__frame_decode(&frame, guard_copy(two, 2), 2, &known);
        ok(known == 2 && frame.length7 > WS__FRAME_CONTROL_MAX && !(frame.first & WS__FRAME_FIN),
           "T18 F7 length7 %u and FIN=0 are known after two bytes", length7);
    }
}

static void test_encode(void)
{
    uint8_t want[HEADER_MAX];
    for (int i = 0; i < LENGTHS; i++) {
        int form = lengths[i].form;
        size_t n = build(want, 0xc1, false, form, lengths[i].length);
        uint8_t *out = guard_tail(n);
        size_t written = ws__frame_encode(out, 0xc1, lengths[i].length);
        is_mem(out, written, want, n, "F2 encode %llu: unmasked, shortest form",
               (unsigned long long)lengths[i].length);
        ok(decodes_to(want, written, form, false, lengths[i].length), "and it decodes again");
    }
}

static void mask_plainly(uint8_t *bytes, size_t n, uint64_t offset)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(bytes[i] ^ key[(i + offset % 4) % 4]);
}

/* n bytes, `behind` bytes before the page: so that every alignment occurs; the bytes around them
 * must stay as they are. high: the place of a byte that is not ASCII, n for none. */
static bool masks(size_t n, size_t behind, uint64_t offset, size_t high)
{
    uint8_t want[8 + 300 + 16], *got;
    size_t all = 8 + n + behind;
    for (size_t i = 0; i < all; i++)
        want[i] = (uint8_t)((i * 31 + n) & 0x7f);
    want[8 + high] |= 0x80;
    mask_plainly(want + 8, n, offset);
    got = guard_copy(want, all);
    mask_plainly(want + 8, n, offset);
    return ws__frame_mask(got + 8, n, key, offset) == (high == n) && !memcmp(got, want, all);
}

static void test_mask(void)
{
    static const uint64_t far[] = {65535, UINT32_MAX, 1ull << 32, (1ull << 32) + 5, INT64_MAX};
    for (size_t behind = 0; behind <= 16; behind++) {
        bool good = true;
        for (size_t n = 0; n <= 300; n++)
            for (uint64_t offset = 0; offset < 8; offset++)
                good = good && masks(n, behind, offset, n);
        ok(good, "mask 0 to 300 bytes at all offsets, ending %zu before the page", behind);
        for (size_t n = 1; n <= 150; n++)
            for (size_t high = 0; high < n; high++)
                good = good && masks(n, behind, n, high);
        ok(good, "a byte that is not ASCII is seen wherever it is, %zu before the page", behind);
    }
    for (size_t i = 0; i < sizeof far / sizeof *far; i++)
        ok(masks(77, 3, far[i], 77), "mask at payload offset %#llx", (unsigned long long)far[i]);
}

static void test_mask_pieces(void)
{
    uint8_t want[100], *got;
    bool good = true;
    for (size_t cut = 0; cut <= sizeof want; cut++) {
        memset(want, 0x5a, sizeof want);
        got = guard_copy(want, sizeof want);
        mask_plainly(want, sizeof want, 0);
        ws__frame_mask(got, cut, key, 0);
        ws__frame_mask(got + cut, sizeof want - cut, key, cut);
        good = good && !memcmp(got, want, sizeof want);
    }
    ok(ws__frame_mask(guard_copy(key, 0), 0, key, 3), "nothing, at the end of a page, is ASCII");
    ok(good, "masking in two pieces, cut anywhere, equals masking whole");
    uint8_t hello[] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
    ws__frame_mask(hello, sizeof hello, key, 0);
    is_mem(hello, sizeof hello, "Hello", 5, "RFC 6455 5.7, the masked \"Hello\"");
    ws__frame_mask(NULL, 0, key, 1);
    ok(true, "an empty payload may be NULL");
}

static void test_no_bytes(void)
{
    struct ws__frame frame;
    int known = -1;
    is_int(ws__frame_decode(&frame, NULL, 0, &known), 0, "no bytes");
    is_int(known, 0, "nothing known");
}

static void cases(void)
{
    CASE(test_no_bytes());
    CASE(test_lengths(true));
    CASE(test_lengths(false));
    CASE(test_first_bytes());
    CASE(test_facts());
    CASE(test_control());
    CASE(test_encode());
    CASE(test_mask());
    CASE(test_mask_pieces());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
