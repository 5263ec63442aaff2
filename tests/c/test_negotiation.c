/* SPDX-License-Identifier: MIT */
/*
 * test_negotiation.c: permessage-deflate is agreed on the wire (RFC 7692 5 and 7.1): offers in the
 * opening handshake of a running server, whole, byte by byte and at every two-way split, and the
 * exact 101 that each gets. test_deflate.c has the same rules, one function below.
 */
#include "harness.h"

#include <stdlib.h>

enum { BYTEWISE = -1, WHOLE = 0, DECLINED = -1, MOST_BITS = 15 };

static struct harness h;

/* ---- one handshake ---- */

static void start(unsigned options)
{
    harness_init(&h);
    h.quiet = true;
    h.behavior.compression = options;
    harness_start(&h);
}

/* Under valgrind, one of so many. */
static int thinned(int step)
{
    return getenv("UNDER_VALGRIND") ? 40 * step : step;
}

static size_t write_request(char *request, size_t size, const char *fields)
{
    return (size_t)snprintf(request, size, "%.*s%s\r\n", (int)strlen(handshake_request) - 2,
                            handshake_request, fields);
}

static void deliver(struct client *c, const char *bytes, size_t n, long cut)
{
    for (size_t done = 0, part; done < n; done += part) {
        part = cut == BYTEWISE ? 1 : cut && !done ? (size_t)cut : n - done;
        client_write(c, bytes + done, part);
        turns(&h, 1);
    }
}

/* extension: what is agreed; "": nothing; NULL: the answer is 400. */
static bool is_answered(const char *fields, long cut, const char *extension)
{
    char request[4096], want[1024] = "";
    struct client c;
    size_t n = write_request(request, sizeof request, fields);
    if (extension)
        snprintf(want, sizeof want,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                 "%s%s%s\r\n",
                 *extension ? "Sec-WebSocket-Extensions: " : "", extension,
                 *extension ? "\r\n" : "");
    client_connect(&c, &h);
    deliver(&c, request, n, cut);
    const char *responses = client_responses(&c);
    bool good = !strcmp(responses, extension ? "101" : "400, EOF") &&
                (!extension || !strcmp(c.head, want));
    if (!good)
        diag("cut %ld: %s\n# got %s: %s", cut, fields, responses, c.head);
    client_reset(&c);
    turns(&h, 1);
    return good;
}

/* ---- every combination of the four parameters ---- */

/* How a parameter can look. bits: what it asks for, or DECLINED. */
struct form {
    const char *value; /* after the name; NULL: it is absent */
    int bits;
    bool twice;
};

static const struct form flag_forms[] = {
    {NULL, 0, false}, {"", 0, false}, {"=1", DECLINED, false}, {"=\"true\"", DECLINED, false},
    {"", DECLINED, true},
};
static const struct form server_forms[] = {
    {NULL, 0, false},       {"=9", 9, false},         {"=15", 15, false},
    {"=\"12\"", 12, false}, {"=8", DECLINED, false},  {"=16", DECLINED, false},
    {"=010", DECLINED, false}, {"", DECLINED, false}, {"=10", DECLINED, true},
};
static const struct form client_forms[] = {
    {NULL, 0, false},       {"", 15, false},         {"=8", 8, false},
    {"=\"12\"", 12, false}, {"=15", 15, false},      {"=7", DECLINED, false},
    {"=08", DECLINED, false}, {"=10", DECLINED, true},
};
enum { FLAGS = 5, SERVER = 9, CLIENT = 8, COMBINATIONS = FLAGS * FLAGS * SERVER * CLIENT };

/* windows: of what is kept between messages; 0: nothing is. */
struct mode {
    const char *name;
    unsigned options;
    int ours, theirs;
};

static const struct mode modes[] = {
    {"shared", WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR, 0, 0},
    {"dedicated", WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB, 15, 15},
    {"small windows", WS_DEDICATED_COMPRESSOR_8KB | WS_DEDICATED_DECOMPRESSOR_2KB, 10, 11},
    {"a compressor only", WS_DEDICATED_COMPRESSOR_16KB, 11, 0},
    {"a decompressor only", WS_DEDICATED_DECOMPRESSOR_512B, 0, 9},
};

static size_t write_parameter(char *to, const char *name, const struct form *form)
{
    size_t n = 0;
    for (int i = 0; form->value && i <= form->twice; i++)
        n += (size_t)sprintf(to + n, "; %s%s", name, form->value);
    return n;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Combination number i: the field that offers it, and what is agreed. */
static void write_combination(int i, const struct mode *mode, char *field, char *answer)
{
    const struct form *sn = &flag_forms[i % FLAGS], *cn = &flag_forms[i / FLAGS % FLAGS],
                      *sb = &server_forms[i / FLAGS / FLAGS % SERVER],
                      *cb = &client_forms[i / FLAGS / FLAGS / SERVER];
    bool keeps = mode->ours && !sn->value, hears = mode->theirs && !cn->value;
    char *p = field + sprintf(field, "Sec-WebSocket-Extensions: permessage-deflate");
    p += write_parameter(p, "server_no_context_takeover", sn);
    p += write_parameter(p, "client_no_context_takeover", cn);
    p += write_parameter(p, "server_max_window_bits", sb);
    p += write_parameter(p, "client_max_window_bits", cb);
    sprintf(p, "\r\n");
    *answer = '\0';
    if (sn->bits < 0 || cn->bits < 0 || sb->bits < 0 || cb->bits < 0)
        return;
    p = answer + sprintf(answer, "permessage-deflate");
    p += sprintf(p, "%s", keeps ? "" : "; server_no_context_takeover");
    p += sprintf(p, "%s", hears ? "" : "; client_no_context_takeover");
    if (sb->value)
        p += sprintf(p, "; server_max_window_bits=%d", keeps ? least(sb->bits, mode->ours)
                                                             : sb->bits);
    if (cb->value && hears && least(cb->bits, mode->theirs) < MOST_BITS)
        sprintf(p, "; client_max_window_bits=%d", least(cb->bits, mode->theirs));
}

static int wrong_answers(const struct mode *mode, long cut, int step)
{
    char field[512], answer[256];
    int wrong = 0;
    for (int i = 0; i < COMBINATIONS; i += step) {
        write_combination(i, mode, field, answer);
        wrong += !is_answered(field, cut, answer);
    }
    return wrong;
}

static void test_combinations(void)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        start(modes[i].options);
        is_int(wrong_answers(&modes[i], WHOLE, thinned(1)), 0,
               "X1 X2 X3 X4 X5 X6 T44: every combination of parameters: %s", modes[i].name);
        is_int(wrong_answers(&modes[i], BYTEWISE, thinned(19)), 0,
               "X1 X2 X3 X4 X5 X6 T2: byte by byte: %s", modes[i].name);
        harness_stop(&h, modes[i].name);
    }
}

/* ---- lists of offers ---- */

#define FIELD "Sec-WebSocket-Extensions: "
#define PMD "permessage-deflate"
#define SNCT "; server_no_context_takeover"
#define CNCT "; client_no_context_takeover"
#define SMWB "; server_max_window_bits"
#define CMWB "; client_max_window_bits"

/* To a server with a window of its own, of 32 KiB, in both directions. */
static const struct {
    const char *name, *fields, *extension;
} lists[] = {
    {"X1: no field", "", ""},
    {"X1: an empty field", FIELD "\r\n", ""},
    {"X1: only empty elements", FIELD ", ,,\r\n", ""},
    {"X1: an unknown extension", FIELD "x-webkit-deflate-frame\r\n", ""},
    {"X1: after unknown ones", FIELD "x-a; b=c, x-d; e=\"f\", " PMD "\r\n", PMD},
    {"X1: between empty elements", FIELD ",, " PMD " ,,\r\n", PMD},
    {"X1: the first of two that fit",
     FIELD PMD SMWB "=10, " PMD SMWB "=12\r\n", PMD SMWB "=10"},
    {"X1 X4 X14: the second, the first asks for 8 bits",
     FIELD PMD SMWB "=8, " PMD SMWB "=9\r\n", PMD SMWB "=9"},
    {"X1: the third, after an unknown and a repeated parameter",
     FIELD PMD "; a, " PMD SNCT SNCT ", " PMD SNCT "\r\n", PMD SNCT},
    {"X1 X5: what browsers send", FIELD PMD CMWB "\r\n", PMD},
    {"X1 X2 X3: a wish, and what is less", FIELD PMD SNCT CNCT CMWB "=9, " PMD "\r\n",
     PMD SNCT CNCT},
    {"X1: none fits", FIELD PMD SMWB "=8, " PMD "; b, " PMD CMWB "=0\r\n", ""},
    {"X1 H12: one offer on each line",
     FIELD "x-a\r\n" FIELD PMD SMWB "=7\r\n" FIELD PMD SMWB "=11\r\n" FIELD PMD "\r\n",
     PMD SMWB "=11"},
    {"X1 H12: lines with other fields between them",
     FIELD PMD "; a\r\nX-Other: " PMD "\r\nsec-websocket-extensions:" PMD CMWB "=12\r\n",
     PMD CMWB "=12"},
    {"X1 H12: an empty line of it in front", FIELD "\r\n" FIELD " ,\r\n" FIELD PMD "\r\n", PMD},
    {"X6: names in any case, blanks anywhere",
     FIELD "PerMessage-Deflate ;\tSERVER_max_window_BITS = 10 ; Client_Max_Window_Bits\t=\t9 \r\n",
     PMD SMWB "=10" CMWB "=9"},
    {"X6: quoted numbers, also escaped",
     FIELD PMD SMWB "=\"1\\1\"" CMWB "=\"\\9\"\r\n", PMD SMWB "=11" CMWB "=9"},
    {"X6: a quoted comma is refused", FIELD PMD "; a=\"b,c\", " PMD "\r\n", NULL},
    {"X6: a quoted semicolon is refused", FIELD PMD SMWB "=\"10; a\"\r\n", NULL},
    {"X6: an empty quoted value is refused", FIELD PMD CMWB "=\"\"\r\n", NULL},
    {"X6: an open quote is refused", FIELD PMD CMWB "=\"9\r\n", NULL},
    {"X6: a quoted sign declines", FIELD PMD CMWB "=\"+9\", " PMD CMWB "=-9\r\n", ""},
    {"X6: a missing value is refused", FIELD PMD CMWB "=\r\n", NULL},
    {"X1: a missing parameter is refused", FIELD PMD ";\r\n", NULL},
    {"X1: two words are refused", FIELD PMD " " PMD "\r\n", NULL},
    {"X1 H12: a broken element after one that fits is refused",
     FIELD PMD "\r\n" FIELD "a b\r\n", NULL},
    {"T9: numbers that no integer holds",
     FIELD PMD SMWB "=99999999999999999999, " PMD CMWB "=4294967305\r\n", ""},
};

static bool is_answered_in_every_split(const char *fields, const char *extension)
{
    char request[4096];
    long n = (long)write_request(request, sizeof request, fields);
    for (long cut = 1; cut < n; cut += thinned(1))
        if (!is_answered(fields, cut, extension))
            return false;
    return true;
}

static void test_lists(void)
{
    start(WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const char *fields = lists[i].fields, *want = lists[i].extension;
        ok(is_answered(fields, WHOLE, want) && is_answered(fields, BYTEWISE, want), "%s",
           lists[i].name);
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strstr(lists[i].name, "H12") || strstr(lists[i].name, "X6"))
            ok(is_answered_in_every_split(lists[i].fields, lists[i].extension),
               "T2, at every split: %s", lists[i].name);
    harness_stop(&h, "lists of offers");
}

/* T9: as many as fit into a head; the last one is the first that fits. */
static void test_many(void)
{
    char fields[8192], request[16384];
    size_t n = 0;
    struct client c;
    start(WS_SHARED_COMPRESSOR);
    for (int i = 0; i < 60; i++)
        n += (size_t)sprintf(fields + n, FIELD PMD SMWB "=%d\r\n", i < 59 ? 16 + i : 14);
    n = write_request(request, sizeof request, fields);
    client_connect(&c, &h);
    deliver(&c, request, n, WHOLE);
    is_responses(&c, "101", "T9: sixty lines of offers");
    ok(head_has(&c, FIELD PMD SNCT CNCT SMWB "=14\r\n"), "X1: the last one fits");
    client_reset(&c);
    turns(&h, 1);
    harness_stop(&h, "many");
}

static void cases(void)
{
    CASE(test_combinations());
    CASE(test_lists());
    CASE(test_many());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
