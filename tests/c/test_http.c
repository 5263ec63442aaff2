/* SPDX-License-Identifier: MIT */
/*
 * test_http.c: request heads. Every input is parsed whole, byte by byte and in every two-way
 * split, each time from a fresh copy that lies flush against an unreadable page: the result and
 * the recorded offsets must be the same. A refused input ends with the byte that decides, so all
 * of its proper prefixes must still be waiting for more.
 */
#include "http.h"

#include <stddef.h>
#include <time.h>

#include "guard.h"
#include "tap.h"

#define LINE "GET / HTTP/1.1\r\n"

enum { MAX_HEADER_SIZE = 16384, MAX_FIELDS = 100 };

static struct ws__http_field whole_fields[MAX_FIELDS], parts_fields[MAX_FIELDS];
static struct ws__http_head whole = {.fields = whole_fields, .max_fields = MAX_FIELDS};
static struct ws__http_head parts = {.fields = parts_fields, .max_fields = MAX_FIELDS};

static void reset(struct ws__http_head *head)
{
    memset(head, 0, offsetof(struct ws__http_head, max_fields));
}

static int feed(struct ws__http_head *head, const char *input, size_t length, size_t limit)
{
    return ws__http_parse(head, (const char *)guard_copy(input, length), length, limit);
}

static bool same_heads(void)
{
    return !memcmp(&whole, &parts, offsetof(struct ws__http_head, max_fields)) &&
           !memcmp(whole.fields, parts.fields, whole.field_count * sizeof(whole.fields[0]));
}

/* Growing by one byte: 0 for every proper prefix, then the result, and again when asked again. */
static bool bytewise(const char *input, size_t length, size_t limit, int verdict)
{
    reset(&parts);
    for (size_t n = 0; n < length; n++)
        if (feed(&parts, input, n, limit) != 0)
            return diag("result after %zu of %zu bytes", n, length), false;
    return feed(&parts, input, length, limit) == verdict &&
           feed(&parts, input, length, limit) == verdict && (verdict < 0 || same_heads());
}

static bool in_two(const char *input, size_t length, size_t limit, int verdict)
{
    for (size_t n = 1; n < length; n++) {
        reset(&parts);
        if (feed(&parts, input, n, limit) != 0 || feed(&parts, input, length, limit) != verdict ||
            (verdict > 0 && !same_heads()))
            return diag("split at %zu", n), false;
    }
    return true;
}

/* What comes after the deciding byte does not matter. */
static bool with_more(const char *input, size_t length, size_t limit, int verdict)
{
    static char longer[GUARD_SIZE];
    memcpy(longer, input, length);
    memcpy(longer + length, "\0\r\n\r\nGET ", 9);
    reset(&parts);
    return feed(&parts, longer, length + 9, limit) == verdict && (verdict < 0 || same_heads());
}

/* Leaves the parsed head in `whole`. */
static bool parse(const char *input, size_t length, size_t limit, int verdict)
{
    int got;
    reset(&whole);
    got = feed(&whole, input, length, limit);
    if (got != verdict)
        return diag("got %d, want %d", got, verdict), false;
    return bytewise(input, length, limit, verdict) && in_two(input, length, limit, verdict) &&
           with_more(input, length, limit, verdict);
}

/* ---- heads that are accepted -------------------------------------------------------------- */

static char *put_span(char *out, const char *input, struct ws__span span, const char *after)
{
    memcpy(out, input + span.offset, span.length);
    strcpy(out + span.length, after);
    return out + span.length + strlen(after);
}

/* "METHOD target path?query major.minor", then a line "name=value" for each field. */
static const char *dump(const char *input)
{
    static char text[4 * MAX_HEADER_SIZE];
    char *out = put_span(text, input, whole.method, " ");
    out = put_span(out, input, whole.target, " ");
    out = put_span(out, input, whole.path, whole.has_query ? "?" : "");
    out = put_span(out, input, whole.query, " ");
    out += sprintf(out, "%d.%d", whole.major, whole.minor);
    for (int i = 0; i < whole.field_count; i++) {
        *out++ = '\n';
        out = put_span(out, input, whole.fields[i].name, "=");
        out = put_span(out, input, whole.fields[i].value, "");
    }
    return text;
}

static const struct {
    const char *name, *input, *want;
} accepted[] = {
    {"H16 origin-form", "GET /a HTTP/1.1\r\n\r\n", "GET /a /a 1.1"},
    {"H16 root", "GET / HTTP/1.1\r\n\r\n", "GET / / 1.1"},
    {"H16 query", "GET /a?b=c&d HTTP/1.1\r\n\r\n", "GET /a?b=c&d /a?b=c&d 1.1"},
    {"H16 empty query", "GET /? HTTP/1.1\r\n\r\n", "GET /? /? 1.1"},
    {"H16 a query holds ? and /", "GET /?a?/b HTTP/1.1\r\n\r\n", "GET /?a?/b /?a?/b 1.1"},
    {"H16 double slash is a path", "GET //a//b HTTP/1.1\r\n\r\n", "GET //a//b //a//b 1.1"},
    {"H16 percent-encoding is kept", "GET /%41%0d HTTP/1.1\r\n\r\n", "GET /%41%0d /%41%0d 1.1"},
    {"H16 visible ASCII", "GET /\"<>\\^`{|}~@[] HTTP/1.1\r\n\r\n",
     "GET /\"<>\\^`{|}~@[] /\"<>\\^`{|}~@[] 1.1"},
    {"H16 absolute-form", "GET http://h:80/a?b HTTP/1.1\r\n\r\n", "GET http://h:80/a?b /a?b 1.1"},
    {"H16 absolute-form without path", "GET ws://h HTTP/1.1\r\n\r\n", "GET ws://h / 1.1"},
    {"H16 absolute-form, only query", "GET ws://h?q HTTP/1.1\r\n\r\n", "GET ws://h?q /?q 1.1"},
    {"H16 absolute-form, empty query", "GET http://h? HTTP/1.1\r\n\r\n", "GET http://h? /? 1.1"},
    {"H16 absolute-form, root", "GET HTTPS://h/ HTTP/1.1\r\n\r\n", "GET HTTPS://h/ / 1.1"},
    {"H16 absolute-form, IPv6", "GET http://[::1]:8/a HTTP/1.1\r\n\r\n",
     "GET http://[::1]:8/a /a 1.1"},
    {"H16 absolute-form, path with colon and @", "GET a+b-1.c://h/:@ HTTP/1.1\r\n\r\n",
     "GET a+b-1.c://h/:@ /:@ 1.1"},
    {"H16 asterisk-form", "OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS * * 1.1"},
    {"H17 one CRLF first", "\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / / 1.1\nA=b"},
    {"H2 HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET / / 1.0"},
    {"H2 HTTP/1.9", "GET / HTTP/1.9\r\n\r\n", "GET / / 1.9"},
    {"method is any token", "!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\n\r\n",
     "!#$%&'*+-.^_`|~09azAZ / / 1.1"},
    {"method of one letter", "G / HTTP/1.1\r\n\r\n", "G / / 1.1"},
    {"T3 OWS is trimmed", "GET / HTTP/1.1\r\nA: \t b \t c\t \r\nB:d\r\n\r\n",
     "GET / / 1.1\nA=b \t c\nB=d"},
    {"T3 empty values", LINE "A:\r\nB: \r\nC:\t \t\r\n\r\n", "GET / / 1.1\nA=\nB=\nC="},
    {"obs-text in a value", "GET / HTTP/1.1\r\nA: \x80\xff\r\n\r\n", "GET / / 1.1\nA=\x80\xff"},
    {"colons in a value", "GET / HTTP/1.1\r\nA: :b:\r\n\r\n", "GET / / 1.1\nA=:b:"},
    {"repeated fields are kept", "GET / HTTP/1.1\r\na: 1\r\nA: 2\r\n\r\n", "GET / / 1.1\na=1\nA=2"},
    {"values longer than a word", "GET / HTTP/1.1\r\nA: 0123456789abcdef0123\t456789\r\n\r\n",
     "GET / / 1.1\nA=0123456789abcdef0123\t456789"},
    {"T1 T2 the handshake of RFC 6455 1.2",
     "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
     "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
     "Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n"
     "Sec-WebSocket-Version: 13\r\n\r\n",
     "GET /chat /chat 1.1\nHost=server.example.com\nUpgrade=websocket\nConnection=Upgrade\n"
     "Sec-WebSocket-Key=dGhlIHNhbXBsZSBub25jZQ==\nOrigin=http://example.com\n"
     "Sec-WebSocket-Protocol=chat, superchat\nSec-WebSocket-Version=13"},
};

static void test_accepted(void)
{
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        const char *input = accepted[i].input, *got;
        size_t length = strlen(input);
        bool fine = parse(input, length, MAX_HEADER_SIZE, (int)length);
        got = dump(input);
        ok(fine, "%s: same in every split", accepted[i].name);
        is_mem(got, strlen(got), accepted[i].want, strlen(accepted[i].want), "%s: what it holds",
               accepted[i].name);
    }
}

/* ---- heads that are refused --------------------------------------------------------------- */

#define BYTES(text) text, sizeof(text) - 1

static const struct {
    const char *name, *input;
    size_t length;
    int verdict;
} refused[] = {
    {"H28 T15 TLS ClientHello", BYTES("\x16"), -400},
    {"H28 T15 preface of HTTP/2", BYTES("PRI * HTTP/2.0\r\n\r\n"), -505},
    {"T15 SSH banner", BYTES("SSH-2.0-OpenSSH_9.6\r"), -400},
    {"T15 PROXY header", BYTES("PROXY TCP4 "), -400},
    {"T15 PROXY header, version 2", BYTES("\r\n\r"), -400},
    {"H17 two CRLF first", BYTES("\r\n\r"), -400},
    {"H17 H18 LF first", BYTES("\n"), -400},
    {"H17 H18 bare CR first", BYTES("\rG"), -400},
    {"H17 CRLF, then NUL", BYTES("\r\n\0"), -400},
    {"no method", BYTES(" "), -400},
    {"CRLF, then no method", BYTES("\r\n "), -400},
    {"tab after the method", BYTES("GET\t"), -400},
    {"method without target", BYTES("GET\r"), -400},
    {"non-token method", BYTES("GE("), -400},
    {"two spaces", BYTES("GET  "), -400},
    {"two spaces before the version", BYTES("GET /  "), -400},
    {"T7 NUL in the target", BYTES("GET /\0"), -400},
    {"tab in the target", BYTES("GET /\t"), -400},
    {"DEL in the target", BYTES("GET /\x7f"), -400},
    {"obs-text in the target", BYTES("GET /\x80"), -400},
    {"fragment in the path", BYTES("GET /a#"), -400},
    {"fragment in the query", BYTES("GET /a?b#"), -400},
    {"H16 relative target", BYTES("GET a/"), -400},
    {"H16 query as target", BYTES("GET ?"), -400},
    {"H16 authority-form", BYTES("CONNECT h"), -400},
    {"H16 authority-form, an address", BYTES("CONNECT 1"), -400},
    {"H16 CONNECT in another form", BYTES("CONNECT /"), -400},
    {"H16 asterisk-form with GET", BYTES("GET * HTTP/1.1\r"), -400},
    {"H16 asterisk-form with a longer method", BYTES("OPTIONSS * HTTP/1.1\r"), -400},
    {"H16 asterisk and more", BYTES("OPTIONS *a"), -400},
    {"H16 asterisk and query", BYTES("OPTIONS *?"), -400},
    {"H16 scheme without slashes", BYTES("GET http:/h"), -400},
    {"H16 scheme with none", BYTES("GET http:h"), -400},
    {"H16 three slashes: no host", BYTES("GET http:///"), -400},
    {"H16 no host at all", BYTES("GET http:// "), -400},
    {"H16 query instead of a host", BYTES("GET http://?"), -400},
    {"H16 port without host", BYTES("GET http://:80/"), -400},
    {"H16 userinfo", BYTES("GET http://u:p@"), -400},
    {"H16 fragment after the host", BYTES("GET http://h#"), -400},
    {"no version", BYTES("GET /\r"), -400},
    {"no version, query", BYTES("GET /?a\r"), -400},
    {"empty version", BYTES("GET / \r"), -400},
    {"H2 lower-case name", BYTES("GET / h"), -400},
    {"H2 other protocol", BYTES("GET / HTTPS"), -400},
    {"H2 two digits, major", BYTES("GET / HTTP/11"), -400},
    {"H2 two digits, minor", BYTES("GET / HTTP/1.11"), -400},
    {"H2 comma", BYTES("GET / HTTP/1,"), -400},
    {"H2 no minor", BYTES("GET / HTTP/1\r"), -400},
    {"H2 no minor digit", BYTES("GET / HTTP/1.\r"), -400},
    {"H2 letters", BYTES("GET / HTTP/x"), -400},
    {"H2 sign", BYTES("GET / HTTP/-"), -400},
    {"H2 space after the version", BYTES("GET / HTTP/1.1 "), -400},
    {"H2 HTTP/2.0", BYTES("GET / HTTP/2.0\r\n\r\n"), -505},
    {"H2 HTTP/0.9", BYTES("GET / HTTP/0.9\r\nA: b\r\n\r\n"), -505},
    {"H2 HTTP/3.1 after CRLF", BYTES("\r\nGET / HTTP/3.1\r\n\r\n"), -505},
    {"H0 syntax wins over the version", BYTES("GET / HTTP/2.0\r\nA "), -400},
    {"H0 syntax wins over the version up to the end", BYTES("GET / HTTP/2.0\r\n\rx"), -400},
    {"H18 LF only, request line", BYTES("GET / HTTP/1.1\n"), -400},
    {"H18 bare CR, request line", BYTES("GET / HTTP/1.1\rA"), -400},
    {"H18 two CR, request line", BYTES("GET / HTTP/1.1\r\r"), -400},
    {"H18 T7 space before the first field", BYTES(LINE " "), -400},
    {"H18 T7 tab before the first field", BYTES(LINE "\t"), -400},
    {"H18 T7 obs-fold", BYTES(LINE "A: b\r\n "), -400},
    {"H18 T7 obs-fold with tab", BYTES(LINE "A: b\r\n\t"), -400},
    {"H18 T7 space before the colon", BYTES(LINE "A "), -400},
    {"H18 T7 tab before the colon", BYTES(LINE "A\t"), -400},
    {"H18 T7 no colon", BYTES(LINE "Abc\r"), -400},
    {"H18 no colon, LF", BYTES(LINE "Abc\n"), -400},
    {"H18 T7 empty name", BYTES(LINE ":"), -400},
    {"H18 T7 NUL in a name", BYTES(LINE "A\0"), -400},
    {"H18 T7 non-token name", BYTES(LINE "A("), -400},
    {"H18 obs-text in a name", BYTES(LINE "A\xc3"), -400},
    {"H18 T7 NUL in a value", BYTES(LINE "A: b\0"), -400},
    {"H18 T7 NUL before a value", BYTES(LINE "A: \0"), -400},
    {"H18 T7 CTL in a value", BYTES(LINE "A: 0123456789\x1f"), -400},
    {"H18 T7 DEL in a value", BYTES(LINE "A: 0123456789\x7f"), -400},
    {"H18 T7 bare CR in a value", BYTES(LINE "A: b\rc"), -400},
    {"H18 T7 two CR after a value", BYTES(LINE "A: b\r\r"), -400},
    {"H18 LF only after a value", BYTES(LINE "A: b\n"), -400},
    {"H18 LF only after the colon", BYTES(LINE "A:\n"), -400},
    {"H18 LF only, empty line", BYTES(LINE "A: b\r\n\n"), -400},
    {"H18 T7 bare CR, empty line", BYTES(LINE "A: b\r\n\rx"), -400},
};

static void test_refused(void)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        ok(parse(refused[i].input, refused[i].length, MAX_HEADER_SIZE, refused[i].verdict),
           "%s: %d at its last byte", refused[i].name, refused[i].verdict);
}

/* ---- every byte in every place ------------------------------------------------------------ */

static bool is_alphanumeric(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool token_byte(int c)
{
    return is_alphanumeric(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool target_byte(int c)
{
    return c > 0x20 && c < 0x7f && c != '#';
}

static bool value_byte(int c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static bool authority_byte(int c)
{
    return is_alphanumeric(c) || (c && strchr("-._~!$&'()*+,;=:[]%", c));
}

static bool scheme_byte(int c)
{
    return is_alphanumeric(c) || (c && strchr("+-.", c));
}

/* `before`, the byte, then `after`: accepted when the byte is one of the class, or one of `also`,
 * which has another meaning there. */
static const struct {
    const char *name, *before, *after;
    bool (*allowed)(int c);
    const char *also;
} places[] = {
    {"method, first", "", "ET / HTTP/1.1\r\n\r\n", token_byte, ""},
    {"method", "G", "T / HTTP/1.1\r\n\r\n", token_byte, ""},
    {"path", "GET /a", "b HTTP/1.1\r\n\r\n", target_byte, ""},
    {"query", "GET /?a", "b HTTP/1.1\r\n\r\n", target_byte, ""},
    {"authority", "GET http://a", "b/c HTTP/1.1\r\n\r\n", authority_byte, "/?"},
    {"scheme", "GET h", "t://b/c HTTP/1.1\r\n\r\n", scheme_byte, ""},
    {"name, first", LINE, "b: c\r\n\r\n", token_byte, ""},
    {"name", LINE "A", "b: c\r\n\r\n", token_byte, ":"},
    {"value, first", LINE "A:", "c\r\n\r\n", value_byte, ""},
    {"value", LINE "A: b", "c\r\n\r\n", value_byte, ""},
    {"value, within a word", LINE "A: bcd", "efghijklmno\r\n\r\n", value_byte, ""},
    {"value, last", LINE "A: b", "\r\n\r\n", value_byte, ""},
};

static void test_places(void)
{
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int wrong = 0;
        for (int c = 0; c < 256; c++) {
            char input[128];
            size_t before = strlen(places[i].before), after = strlen(places[i].after);
            bool allowed = places[i].allowed(c) || (c && strchr(places[i].also, c));
            memcpy(input, places[i].before, before);
            input[before] = (char)c;
            memcpy(input + before + 1, places[i].after, after);
            reset(&whole);
            wrong += (feed(&whole, input, before + 1 + after, MAX_HEADER_SIZE) > 0) != allowed;
        }
        is_int(wrong, 0, "H18 T7 all 256 bytes in: %s", places[i].name);
    }
}

/* ---- limits ------------------------------------------------------------------------------- */

static char big[4 * MAX_HEADER_SIZE];

static size_t add(size_t at, const char *text)
{
    memcpy(big + at, text, strlen(text));
    return at + strlen(text);
}

/* Into big: `before` and as many x as make n bytes of both. */
static size_t fill(size_t at, const char *before, size_t n)
{
    memset(big + at, 'x', n);
    add(at, before);
    return at + n;
}

static void test_line_limit(void)
{
    const size_t line = MAX_HEADER_SIZE / 2;
    size_t n = add(fill(0, "GET /", line - 9), " HTTP/1.1\r\n\r\n");
    ok(parse(big, n, MAX_HEADER_SIZE, (int)n), "H20 request line of 8192 bytes");
    n = add(add(fill(add(0, "\r\n"), "GET /?", line - 9), " HTTP/1.1\r\n"), "\r\n");
    ok(parse(big, n, MAX_HEADER_SIZE, (int)n), "H20 H17 the same after CRLF");
    n = add(fill(0, "GET /", line - 8), " HTTP/1.1");
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 T6 8193 bytes: 414 at the one too many");
    n = add(fill(add(0, "\r\n"), "GET /", line - 8), " HTTP/1.1");
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 H17 the same after CRLF");
    n = fill(0, "GET /", line + 1);
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 T6 a path without end: 414");
    n = fill(0, "GET http://h/?", line + 1);
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 T6 a query without end: 414");
    n = fill(0, "GET http://", line + 1);
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 a host without end: 414");
    n = fill(0, "", line + 1);
    ok(parse(big, n, MAX_HEADER_SIZE, -414), "H20 T15 a method without end: 414");
    n = add(fill(0, "GET /", line), "\r");
    ok(parse(big, n, MAX_HEADER_SIZE, -400), "H20 CR too early in the 8193rd byte: 400");
    fill(0, "GET /", line);
    big[line - 1] = '\0';
    ok(parse(big, line, MAX_HEADER_SIZE, -400), "H20 H18 NUL in the last byte allowed: 400");
    n = add(fill(0, "GET /", 512 - 9), " HTTP/1.1\r\n\r\n");
    ok(parse(big, n, 1024, (int)n), "H20 half of a small max_header_size");
    n = add(fill(0, "GET /", 512 - 8), " HTTP/1.1");
    ok(parse(big, n, 1024, -414), "H20 one byte more than half of it: 414");
    n = add(fill(0, "GET /", 1001 - 9), " HTTP/1.1\r\n\r\n");
    ok(parse(big, n, 2003, (int)n), "H20 half of an odd max_header_size");
    n = add(fill(0, "GET /", 1001 - 8), " HTTP/1.1");
    ok(parse(big, n, 2003, -414), "H20 one byte more than half of it: 414");
    n = add(fill(0, "GET /?token=", 8700), " HTTP/1.1\r\n\r\n");
    ok(parse(big, n, 2 * MAX_HEADER_SIZE, (int)n), "H20 T6 a long token where the limit allows it");
}

static void test_block_limit(void)
{
    size_t n = add(fill(add(0, LINE), "A: ", 1024 - sizeof(LINE) + 1 - 4), "\r\n\r\n");
    is_int((long long)n, 1024, "an input of 1024 bytes");
    ok(parse(big, n, 1024, 1024), "H20 exactly max_header_size");
    ok(parse(big, n, 1023, -431), "H20 one byte above it, the last one");
    n = fill(add(0, LINE), "A: ", 1025 - sizeof(LINE) + 1);
    ok(parse(big, n, 1024, -431), "H20 T6 a value without end: 431");
    n = fill(add(0, LINE), "A", 1025 - sizeof(LINE) + 1);
    ok(parse(big, n, 1024, -431), "H20 T6 a name without end: 431");
    n = add(0, LINE "A:");
    memset(big + n, ' ', 1025 - n);
    ok(parse(big, 1025, 1024, -431), "H20 blanks without end: 431");
    n = fill(add(0, LINE), "A: ", 1024 - sizeof(LINE) + 1);
    big[n - 1] = '\0';
    ok(parse(big, n, 1024, -400), "H20 H18 NUL in the last byte allowed: 400");
}

static void test_field_limit(void)
{
    size_t n = add(0, LINE);
    for (int i = 0; i < MAX_FIELDS; i++)
        n = add(n, "A:\r\n");
    ok(parse(big, add(n, "\r\n"), MAX_HEADER_SIZE, (int)n + 2), "H20 100 fields");
    is_int(whole.field_count, 100, "H20 100 fields: all are kept");
    ok(parse(big, add(n, "B"), MAX_HEADER_SIZE, -431), "H20 T6 101 fields: 431 at the first byte");
    big[n] = ' ';
    ok(parse(big, n + 1, MAX_HEADER_SIZE, -400), "H20 obs-fold after 100 fields: 400");
    whole.max_fields = parts.max_fields = 1;
    n = add(0, LINE "A: b\r\n\r\n");
    ok(parse(big, n, MAX_HEADER_SIZE, (int)n), "H20 max_headers 1: one field");
    n = add(0, LINE "A: b\r\nB");
    ok(parse(big, n, MAX_HEADER_SIZE, -431), "H20 max_headers 1: 431 at the second");
    whole.max_fields = parts.max_fields = MAX_FIELDS;
}

/* ---- what a complete head means ----------------------------------------------------------- */

static const char *head_bytes;

/* A head with these fields, lines ending with CRLF; it stays in place for the queries. */
static void given(const char *line, const char *fields)
{
    size_t n = (size_t)snprintf(big, sizeof(big), "%s\r\n%s\r\n", line, fields);
    head_bytes = (const char *)guard_copy(big, n);
    reset(&whole);
    if (ws__http_parse(&whole, head_bytes, n, MAX_HEADER_SIZE) != (int)n)
        ok(false, "parsing %s", fields);
}

static const struct {
    const char *name, *version, *fields;
    int status;
    uint64_t body;
} checks[] = {
    {"H3 T4 no Host", "1.1", "", -400, 0},
    {"H3 T4 two Hosts", "1.1", "Host: a\r\nhost: a\r\n", -400, 0},
    {"H3 T4 no Host, HTTP/1.2", "1.2", "", -400, 0},
    {"H3 no Host, HTTP/1.0", "1.0", "", 0, 0},
    {"H3 one Host, HTTP/1.0", "1.0", "Host: a\r\n", 0, 0},
    {"H3 two Hosts, HTTP/1.0", "1.0", "Host: a\r\nHost: a\r\n", -400, 0},
    {"H3 an invalid Host, HTTP/1.0", "1.0", "Host: a/b\r\n", -400, 0},
    {"H3 H19 no Host, the framing counts, HTTP/1.0", "1.0", "Transfer-Encoding: chunked\r\n", -400,
     0},
    {"H3 one Host", "1.1", "HOST: a.b:80\r\n", 0, 0},
    {"H3 Host is IPv6", "1.1", "Host: [::1]:80\r\n", 0, 0},
    {"H3 empty Host", "1.1", "Host:\r\n", 0, 0},
    {"H3 two hosts in one", "1.1", "Host: a, b\r\n", -400, 0},
    {"H3 path in Host", "1.1", "Host: a/b\r\n", -400, 0},
    {"H3 userinfo in Host", "1.1", "Host: a@b\r\n", -400, 0},
    {"H3 obs-text in Host", "1.1", "Host: a\xe9\r\n", -400, 0},
    {"H3 a name that only begins like Host", "1.1", "Hos: a\r\nHosts: a\r\n", -400, 0},
    {"H14 Content-Length 0", "1.1", "Host: a\r\nContent-Length: 0\r\n", 0, 0},
    {"H14 Content-Length 5", "1.1", "Host: a\r\nCONTENT-LENGTH: 5\r\n", 0, 5},
    {"H19 leading zeros", "1.1", "Host: a\r\nContent-Length: 007\r\n", 0, 7},
    {"H19 2^63-1", "1.1", "Host: a\r\nContent-Length: 9223372036854775807\r\n", 0,
     INT64_MAX},
    {"H19 2^63", "1.1", "Host: a\r\nContent-Length: 9223372036854775808\r\n", -400, 0},
    {"H19 T8 2^64+4", "1.1", "Host: a\r\nContent-Length: 18446744073709551620\r\n", -400, 0},
    {"H19 10^30", "1.1", "Host: a\r\nContent-Length: 1000000000000000000000000000000\r\n", -400,
     0},
    {"H19 T8 -100", "1.1", "Host: a\r\nContent-Length: -100\r\n", -400, 0},
    {"H19 T8 +4", "1.1", "Host: a\r\nContent-Length: +4\r\n", -400, 0},
    {"H19 0x4", "1.1", "Host: a\r\nContent-Length: 0x4\r\n", -400, 0},
    {"H19 4 4", "1.1", "Host: a\r\nContent-Length: 4 4\r\n", -400, 0},
    {"H19 empty length", "1.1", "Host: a\r\nContent-Length:\r\n", -400, 0},
    {"H19 T8 listed, different", "1.1", "Host: a\r\nContent-Length: 4, 5\r\n", -400, 0},
    {"H19 listed, equal", "1.1", "Host: a\r\nContent-Length: 4,4\r\n", -400, 0},
    {"H19 T8 repeated, different", "1.1", "Host: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n",
     -400, 0},
    {"H19 repeated, equal", "1.1", "Host: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n", -400,
     0},
    {"H19 chunked", "1.1", "Host: a\r\nTransfer-Encoding: Chunked\r\n", 0, WS__HTTP_CHUNKED},
    {"H19 chunked, empty elements", "1.1", "Host: a\r\nTransfer-Encoding: ,chunked ,\r\n", 0,
     WS__HTTP_CHUNKED},
    {"H19 T8 TE with CL", "1.1", "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n",
     -400, 0},
    {"H19 T8 CL with TE", "1.1", "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n",
     -400, 0},
    {"H19 unknown TE with CL", "1.1", "Host: a\r\nTransfer-Encoding: x\r\nContent-Length: 0\r\n",
     -400, 0},
    {"H19 TE in HTTP/1.0", "1.0", "Host: a\r\nTransfer-Encoding: chunked\r\n", -400, 0},
    {"H19 T8 unknown TE", "1.1", "Host: a\r\nTransfer-Encoding: xchunked\r\n", -501, 0},
    {"H19 gzip", "1.1", "Host: a\r\nTransfer-Encoding: gzip\r\n", -501, 0},
    {"H19 gzip, chunked", "1.1", "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", -501, 0},
    {"H19 identity", "1.1", "Host: a\r\nTransfer-Encoding: identity\r\n", -501, 0},
    {"H19 chunked not last", "1.1", "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n", -400, 0},
    {"H19 chunked twice", "1.1", "Host: a\r\nTransfer-Encoding: chunked, chunked\r\n", -400, 0},
    {"H19 chunked not last, two lines", "1.1",
     "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", -400, 0},
    {"H19 chunked with a parameter", "1.1", "Host: a\r\nTransfer-Encoding: chunked;a=b\r\n", -400,
     0},
    {"H19 chunked in quotes", "1.1", "Host: a\r\nTransfer-Encoding: \"chunked\"\r\n", -400, 0},
    {"H19 empty TE", "1.1", "Host: a\r\nTransfer-Encoding:\r\n", -400, 0},
};

static void test_checks(void)
{
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        char line[] = "POST / HTTP/1.1";
        uint64_t body = 1;
        int status;
        line[14] = checks[i].version[2];
        given(line, checks[i].fields);
        status = ws__http_check(&whole, head_bytes, &body);
        is_int(status, checks[i].status, "%s", checks[i].name);
        if (status == 0)
            ok(body == checks[i].body, "%s: the body", checks[i].name);
    }
}

static const struct {
    const char *name, *fields, *want; /* the elements, each followed by "|" */
} lists[] = {
    {"no field", "A: b\r\n", ""},
    {"one element", "L: a\r\n", "a|"},
    {"H4 H5 several, OWS", "L: a ,\tb,c d \t\r\n", "a|b|c d|"},
    {"H5 H12 lines are one list", "L: a, b\r\nX: y\r\nl: c\r\n", "a|b|c|"},
    {"H12 empty elements", "L: , ,a,,b, \t,\r\n", "a|b|"},
    {"H12 only empty elements", "L: ,\r\nL:\r\nL: , ,\r\n", ""},
    {"H12 an empty line between", "L: a\r\nL:\r\nL: b\r\n", "a|b|"},
    {"H13 comma in quotes", "L: a; b=\"c,d\", e\r\n", "a; b=\"c,d\"|e|"},
    {"H13 escaped quote", "L: a=\"b\\\",c\", d\r\n", "a=\"b\\\",c\"|d|"},
    {"H13 escaped backslash", "L: a=\"b\\\\\", c\r\n", "a=\"b\\\\\"|c|"},
    {"H13 quote without end", "L: a=\"b, c\r\nL: d\r\n", "a=\"b, c|d|"},
    {"H13 escape at the end", "L: a=\"b\\\r\nL: d\r\n", "a=\"b\\|d|"},
    {"H13 no escape outside quotes", "L: a\\, b\r\n", "a\\|b|"},
};

static void test_lists(void)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct ws__http_list list = {0};
        struct ws__text element;
        char got[256] = "", *out = got;
        given("GET / HTTP/1.1", lists[i].fields);
        while (ws__http_next_element(&whole, head_bytes, "l", &list, &element))
            out += sprintf(out, "%.*s|", (int)element.length, element.at);
        is_mem(got, strlen(got), lists[i].want, strlen(lists[i].want), "list: %s", lists[i].name);
        ok(!ws__http_next_element(&whole, head_bytes, "l", &list, &element), "list: %s: ends",
           lists[i].name);
    }
}

static void test_find(void)
{
    given("GET / HTTP/1.1", "Ab: 1\r\nC: x\r\naB: 2\r\nAbc: 3\r\nA: 4\r\nUp: h2c, WebSocket\r\n");
    is_int(ws__http_find(&whole, head_bytes, "ab", 0), 0, "find: the first one");
    is_int(ws__http_find(&whole, head_bytes, "ab", 1), 2, "find: the next one");
    is_int(ws__http_find(&whole, head_bytes, "ab", 3), -1, "find: no other");
    is_int(ws__http_find(&whole, head_bytes, "a", 0), 4, "find: the whole name counts");
    is_int(ws__http_find(&whole, head_bytes, "abcd", 0), -1, "find: a longer name");
    ok(ws__http_list_has(&whole, head_bytes, "up", "websocket"), "H4 H27 list_has without case");
    ok(!ws__http_list_has(&whole, head_bytes, "up", "web"), "list_has: a prefix is not it");
    ok(!ws__http_list_has(&whole, head_bytes, "up", "websocket2"), "list_has: nor is a longer one");
    ok(!ws__http_list_has(&whole, head_bytes, "no", "websocket"), "list_has: no such field");
}

static const struct {
    const char *line, *fields;
    bool want;
} persistence[] = {
    {"GET / HTTP/1.1", "", true},
    {"GET / HTTP/1.1", "Connection: keep-alive\r\n", true},
    {"GET / HTTP/1.1", "Connection: Upgrade, CLOSE\r\n", false},
    {"GET / HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false},
    {"GET / HTTP/1.1", "Connection: closed\r\n", true},
    {"GET / HTTP/1.5", "", true},
    {"GET / HTTP/1.0", "", false},
    {"GET / HTTP/1.0", "Connection: Keep-Alive\r\n", true},
    {"GET / HTTP/1.0", "Connection: keep-alive, close\r\n", false},
    {"GET / HTTP/1.0", "Connection: upgrade\r\n", false},
};

static void test_persistence(void)
{
    for (size_t i = 0; i < sizeof(persistence) / sizeof(persistence[0]); i++) {
        given(persistence[i].line, persistence[i].fields);
        is_int(ws__http_keep_alive(&whole, head_bytes), persistence[i].want, "H23 %s %.*s",
               persistence[i].line, (int)strcspn(persistence[i].fields, "\r"),
               persistence[i].fields);
    }
}

/* ---- words -------------------------------------------------------------------------------- */

static void test_words(void)
{
    ok(!strcmp(ws__http_reason(200), "OK"), "reason of 200");
    ok(!strcmp(ws__http_reason(431), "Request Header Fields Too Large"), "reason of 431");
#ifndef WS_NO_HTTP
    ok(!strcmp(ws__http_reason(101), "Switching Protocols"), "reason of 101");
    ok(!strcmp(ws__http_reason(511), "Network Authentication Required"), "reason of 511");
#endif
    ok(!strcmp(ws__http_reason(299), "Unknown"), "reason of a status without one");
    ok(!strcmp(ws__http_reason(-1), "Unknown"), "reason of nonsense");
}

static void is_date(int64_t seconds, const char *want)
{
    char got[30];
    ws__http_date(seconds, got);
    is_mem(got, 30, want, 30, "H24 date of %lld", (long long)seconds);
}

static void test_dates(void)
{
    int wrong = 0;
    is_date(784111777, "Sun, 06 Nov 1994 08:49:37 GMT"); /* the example of RFC 9110 5.6.7 */
    is_date(0, "Thu, 01 Jan 1970 00:00:00 GMT");
    is_date(951782399, "Mon, 28 Feb 2000 23:59:59 GMT");
    is_date(951782400, "Tue, 29 Feb 2000 00:00:00 GMT");
    is_date(4107542400, "Mon, 01 Mar 2100 00:00:00 GMT");
    is_date(INT64_C(253402300799), "Fri, 31 Dec 9999 23:59:59 GMT");
    is_date(-1, "Thu, 01 Jan 1970 00:00:00 GMT");
    is_date(INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
    is_date(INT64_MIN, "Thu, 01 Jan 1970 00:00:00 GMT");
    for (int64_t day = 0; day < 24800; day++) { /* up to 2037: a time_t of 32 bits can tell */
        time_t t = (time_t)(day * 86400 + day % 86400);
        char got[30], want[30];
        struct tm tm;
        gmtime_r(&t, &tm);
        strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        ws__http_date(t, got);
        wrong += strcmp(got, want) != 0;
    }
    is_int(wrong, 0, "H24 dates of 24800 days agree with strftime");
}

static void cases(void)
{
    CASE(test_accepted());
    CASE(test_refused());
    CASE(test_places());
    CASE(test_line_limit());
    CASE(test_block_limit());
    CASE(test_field_limit());
    CASE(test_checks());
    CASE(test_lists());
    CASE(test_find());
    CASE(test_persistence());
    CASE(test_words());
    CASE(test_dates());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
