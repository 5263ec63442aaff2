/* SPDX-License-Identifier: MIT */
/*
 * test_deflate_offers.c: the negotiation of permessage-deflate against a model that is written as a
 * list of rules: every combination of parameters, for every setting.
 */
#include "deflate_side.h"
#include "guard.h"

#include <stdlib.h>

/* ---- negotiation ---- */

/* What a parameter can look like. Values above 0 are window bits. */
struct form {
    const char *text; /* after the name; NULL: the parameter is absent */
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

enum { ISOLATED = 0x1000 }; /* a shared compressor with the size of a dedicated one */

/* The rules, one a line; sn, cn, sb, cb: the four parameters in the order of RFC 7692 7.1. */
static struct expected model(unsigned options, struct form sn, struct form cn, struct form sb,
                             struct form cb)
{
    struct expected e = {0};
    unsigned c = options & 255, d = options >> 8 & 15;
    bool isolated = options & ISOLATED;
    bool takeover = c > 1 && !isolated && !sn.text, keeps = d > 1 && !cn.text;
    bool sized = takeover || isolated;
    bool bad = (sn.text && *sn.text) || (cn.text && *cn.text) || (sb.text && sb.value < 9) ||
               (cb.text && cb.value < 0) || !options;
    int ours = sized ? (int)(c / 16) : 15, theirs = cb.value ? cb.value : 15;
    ours = sb.text ? least(ours, sb.value) : ours;
    theirs = keeps && cb.text ? least(theirs, (int)d) : theirs;
    e.accepted = !bad;
    e.terms.server_bits = (unsigned)ours & 15;
    e.terms.client_bits = (unsigned)theirs & 15;
    e.terms.memory_level = (uint8_t)(sized ? c % 16 : 8);
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
            for (unsigned isolated = 0; isolated <= (c > 1 ? ISOLATED : 0u); isolated += ISOLATED)
                is_int(disagreements(isolated | compressors[c] | decompressors[d]), 0,
                       "X1 X2 X3 X4 X5 X6 T44 every offer to %u | %u: the exact answer",
                       isolated | compressors[c], decompressors[d]);
}

static void test_options(void)
{
    int bad = 0;
    for (unsigned options = 0; options < 0x20000; options++) {
        bool want = false;
        for (int c = 0; c < COMPRESSORS; c++)
            for (int d = 0; d < DECOMPRESSORS; d++)
                want = want || options == (compressors[c] | decompressors[d]) ||
                       (c > 1 && options == (ISOLATED | compressors[c] | decompressors[d]));
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

static void cases(void)
{
    CASE(test_options());
    CASE(test_offers());
    CASE(test_negotiation());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
