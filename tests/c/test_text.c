/* SPDX-License-Identifier: MIT */
/*
 * test_text.c: text.c. Case and character classes for every byte; lists and the parameters of an
 * extension for every short text, against a second reader that is written differently. Inputs lie
 * flush against an unreadable page.
 */
#include "guard.h"
#include "tap.h"
#include "text.h"

static struct ws__text guarded(const char *text, size_t length)
{
    return (struct ws__text){(const char *)guard_copy(text, length), length};
}

/* ---- characters --------------------------------------------------------------------------- */

static bool is_among(int c, const char *these)
{
    return c && strchr(these, c);
}

static bool is_letter(int c)
{
    return is_among(c, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

static bool is_token_byte(int c)
{
    return is_letter(c) || is_among(c, "0123456789!#$%&'*+-.^_`|~");
}

static void test_classes(void)
{
    int wrong[7] = {0};
    for (int i = 0; i < 256; i++) {
        const char c = (char)i;
        const bool visible = i > 0x20 && i < 0x7f;
        const bool alphanumeric = is_letter(i) || is_among(i, "0123456789");
        wrong[0] += ws__text_is(WS__TEXT_TOKEN, c) != is_token_byte(i);
        wrong[1] += ws__text_is(WS__TEXT_VALUE, c) != (i == '\t' || (i >= 0x20 && i != 0x7f));
        wrong[2] += ws__text_is(WS__TEXT_PATH, c) != (visible && !is_among(i, "?#"));
        wrong[3] += ws__text_is(WS__TEXT_QUERY, c) != (visible && i != '#');
        wrong[4] += ws__text_is(WS__TEXT_AUTHORITY, c) !=
                    (alphanumeric || is_among(i, "-._~%!$&'()*+,;=:[]"));
        wrong[5] += ws__text_is(WS__TEXT_SCHEME, c) != (alphanumeric || is_among(i, "+-."));
        wrong[6] += ws__text_is(WS__TEXT_BLANK, c) != (i == ' ' || i == '\t');
    }
    is_int(wrong[0], 0, "class: token");
    is_int(wrong[1], 0, "class: value");
    is_int(wrong[2], 0, "class: path");
    is_int(wrong[3], 0, "class: query");
    is_int(wrong[4], 0, "class: authority");
    is_int(wrong[5], 0, "class: scheme");
    is_int(wrong[6], 0, "class: blank");
}

static void test_case(void)
{
    int wrong = 0;
    for (int a = 0; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            const char text = (char)a, other[] = {(char)b, '\0'};
            const bool same = a == b || (is_letter(a) && is_letter(b) && (a | 0x20) == (b | 0x20));
            wrong += ws__text_same(&text, 1, other) != same;
        }
        const bool upper = a >= 'A' && a <= 'Z';
        wrong += ws__text_lower((char)a) != (char)(upper ? a - 'A' + 'a' : a);
        wrong += ws__text_is_letter((char)a) != is_letter(a);
    }
    is_int(wrong, 0, "case: all pairs of bytes");
    ok(ws__text_same(guarded("WebSocket", 9).at, 9, "websocket"), "case: a word");
    ok(ws__text_same(guarded("websocket", 9).at, 9, "WebSocket"), "case: on either side");
    ok(!ws__text_same(guarded("websocket", 9).at, 9, "websockets"), "case: the other is longer");
    ok(!ws__text_same(guarded("websockets", 10).at, 10, "websocket"), "case: the text is longer");
    ok(!ws__text_same(guarded("a\0", 2).at, 2, "a"), "case: NUL is a byte of the text");
    ok(ws__text_same(guarded("", 0).at, 0, ""), "case: two empty texts");
    ok(!ws__text_same(guarded("", 0).at, 0, "a"), "case: an empty text");
}

static void test_words(void)
{
    int wrong = 0;
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        wrong += ws__text_is_token(text, 3) != is_token_byte(c);
        wrong += ws__text_is_value(text, 3) != (c == '\t' || (c >= ' ' && c != 0x7f));
    }
    is_int(wrong, 0, "T10 is_token and is_value: all 256 bytes");
    ok(!ws__text_is_token("", 0), "T10 an empty name is no token");
    ok(ws__text_is_value("", 0), "T10 a value may be empty");
    ok(!ws__text_is_value(guarded("ab\n", 3).at, 3), "T10 LF as the last byte");
    ok(ws__text_is_value(guarded("ab\n", 2).at, 2), "T10 the length counts");
}

/* ---- every short text --------------------------------------------------------------------- */

enum { LONGEST = 7 };
static const char alphabet[] = {'a', ' ', ',', ';', '=', '"', '\\', '('};
enum { LETTERS = sizeof alphabet };

/* The number of texts of at most LONGEST characters for which check() is false; `skipped` is left
 * out of them. The first one is printed. */
static int count_wrong(bool (*check)(const char *text, size_t length), char skipped)
{
    int wrong = 0;
    for (size_t length = 0; length <= LONGEST; length++) {
        size_t all = 1;
        for (size_t i = 0; i < length; i++)
            all *= LETTERS;
        for (size_t code = 0; code < all; code++) {
            char text[LONGEST + 1] = "";
            for (size_t i = 0, rest = code; i < length; i++, rest /= LETTERS)
                text[i] = alphabet[rest % LETTERS];
            if (memchr(text, skipped, length) || check(text, length))
                continue;
            if (!wrong++)
                diag("first wrong text: [%s]", text);
        }
    }
    return wrong;
}

/* The list as element|element|, read character by character with a state. */
static void split(const char *text, size_t length, char *out)
{
    bool quoted = false, escaped = false;
    char *start = out;
    for (size_t i = 0; i <= length; i++) {
        const bool end = i == length || (text[i] == ',' && !quoted);
        if (!end && (text[i] != ' ' || out > start)) /* no blanks in front */
            *out++ = text[i];
        if (end) {
            while (out > start && out[-1] == ' ')
                out--;
            if (out > start)
                *out++ = '|';
            start = out;
            quoted = escaped = false;
        } else if (escaped) {
            escaped = false;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else {
            escaped = quoted && text[i] == '\\';
        }
    }
    *out = '\0';
}

static bool list_is_right(const char *text, size_t length)
{
    char want[2 * LONGEST + 2], got[2 * LONGEST + 2], *out = got;
    struct ws__text list = guarded(text, length), element;
    while (ws__text_next_element(&list, &element)) {
        memcpy(out, element.at, element.length);
        out += element.length;
        *out++ = '|';
    }
    *out = '\0';
    split(text, length, want);
    return !strcmp(got, want) && !list.length && !ws__text_next_element(&list, &element);
}

/* RFC 6455 9.1 as a machine of one state per place; out: name=value|, the value unescaped. */
static bool read_extension(const char *text, char *out)
{
    enum { NAME, IN_NAME, AFTER_NAME, VALUE, IN_VALUE, QUOTED, ESCAPED, AFTER } at = NAME;
    bool first = true; /* the extension's own name takes no value */
    size_t quoted = 0;
    for (; *text; text++) {
        const char c = *text;
        const bool token = c == 'a', blank = c == ' ';
        if (at == QUOTED || at == ESCAPED) {
            if (at == QUOTED && c == '"') {
                if (!quoted)
                    return false;
                at = AFTER;
            } else if (at == QUOTED && c == '\\') {
                at = ESCAPED;
            } else if (token) {
                *out++ = c;
                quoted++;
                at = QUOTED;
            } else {
                return false;
            }
        } else if (token && (at == NAME || at == IN_NAME)) {
            *out++ = c;
            at = IN_NAME;
        } else if (token && (at == VALUE || at == IN_VALUE)) {
            *out++ = c;
            at = IN_VALUE;
        } else if (c == '"' && at == VALUE) {
            at = QUOTED;
            quoted = 0;
        } else if (blank) {
            at = at == IN_NAME ? AFTER_NAME : at == IN_VALUE ? AFTER : at;
        } else if (c == '=' && !first && (at == IN_NAME || at == AFTER_NAME)) {
            *out++ = '=';
            at = VALUE;
        } else if (c == ';' && at != NAME && at != VALUE) {
            *out++ = '|';
            first = false;
            at = NAME;
        } else {
            return false;
        }
    }
    *out++ = '|';
    *out = '\0';
    return at == IN_NAME || at == AFTER_NAME || at == IN_VALUE || at == AFTER;
}

static char *put(char *out, struct ws__text text)
{
    memcpy(out, text.at, text.length);
    return out + text.length;
}

/* The same by text.c. */
static bool take_extension(struct ws__text in, char *out)
{
    struct ws__text_parameter parameter;
    struct ws__text name = ws__text_take_token(&in);
    int more;
    if (!name.length)
        return false;
    out = put(out, name);
    *out++ = '|';
    while ((more = ws__text_next_parameter(&in, &parameter)) > 0) {
        out = put(out, parameter.name);
        if (parameter.value.at)
            *out++ = '=';
        while (parameter.value.length)
            *out++ = ws__text_take_unescaped(&parameter.value);
        *out++ = '|';
    }
    *out = '\0';
    return !more;
}

static bool extension_is_right(const char *text, size_t length)
{
    char want[2 * LONGEST + 2], got[2 * LONGEST + 2];
    const bool valid = read_extension(text, want);
    return take_extension(guarded(text, length), got) == valid && (!valid || !strcmp(got, want));
}

static void test_every_short_text(void)
{
    is_int(count_wrong(list_is_right, '('), 0, "H12 H13 lists: every short text");
    is_int(count_wrong(extension_is_right, ','), 0, "H13 extensions: every short text");
}

/* ---- examples ----------------------------------------------------------------------------- */

static const struct {
    const char *text, *want; /* want NULL: malformed */
} extensions[] = {
    {"permessage-deflate", "permessage-deflate|"},
    {"x; server_max_window_bits=10", "x|server_max_window_bits=10|"},
    {"x;a=\"10\";b", "x|a=10|b|"},
    {"x\t;\ta\t=\t\"\\1\\0\"\t", "x|a=10|"},
    {"\tx", "x|"},
    {"", NULL},
    {";", NULL},
    {"x;", NULL},
    {"x y", NULL},
    {"x=1", NULL},
    {"x;a=", NULL},
    {"x;a=\"\"", NULL},
    {"x;a=\"1", NULL},
    {"x;a=\"1 0\"", NULL},
    {"x;a=\"1\\\"0\"", NULL},
    {"x;a=\"1\"0", NULL},
    {"x;a=1\"0\"", NULL},
};

static void test_extensions(void)
{
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        const char *text = extensions[i].text, *want = extensions[i].want;
        char got[64];
        const bool valid = take_extension(guarded(text, strlen(text)), got);
        ok(want ? valid && !strcmp(got, want) : !valid, "H13 extension: %s", text);
    }
}

static void test_unescaped(void)
{
    struct ws__text quoted = guarded("a\\", 2);
    is_int(ws__text_take_unescaped(&quoted), 'a', "unescaped: a character");
    is_int(ws__text_take_unescaped(&quoted), '\\', "unescaped: a backslash that hides nothing");
    is_int((long long)quoted.length, 0, "unescaped: the end");
}

static int number(const char *text, int max)
{
    const struct ws__text digits = guarded(text, strlen(text));
    return ws__text_number(digits.at, digits.length, max);
}

static void test_numbers(void)
{
    static const char *const wrong[] = {"", "-1", "+1", " 1", "1 ", "01", "00", "0x1", "1.", "a",
                                        "65536", "655350", "4294967296", "99999999999999999999"};
    is_int(number("0", 65535), 0, "number: 0");
    is_int(number("65535", 65535), 65535, "number: the largest");
    is_int(number("10", 10), 10, "number: exactly");
    is_int(number("11", 10), -1, "number: one more");
    is_int(number("2147483647", 2147483647), 2147483647, "number: of an int");
    is_int(number("2147483648", 2147483647), -1, "number: too large for an int");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        is_int(number(wrong[i], 65535), -1, "number: not \"%s\"", wrong[i]);
}

static void test_steps(void)
{
    struct ws__text in = guarded(" \t=\"a\\\"b\"c", 11);
    ok(!ws__text_skip(&in, ';') && in.length == 9, "skip: blanks, but no other character");
    ok(ws__text_skip(&in, '=') && in.length == 8, "skip: the character");
    is_int((long long)ws__text_quoted_length(&in), 7 - 1, "quoted: up to its end");
    in = guarded("\"a\\\"", 4);
    is_int((long long)ws__text_quoted_length(&in), 0, "quoted: without an end");
    in.length = 0;
    ok(!ws__text_skip(&in, '='), "skip: nothing is left");
}

static void cases(void)
{
    CASE(test_classes());
    CASE(test_case());
    CASE(test_words());
    CASE(test_every_short_text());
    CASE(test_extensions());
    CASE(test_unescaped());
    CASE(test_numbers());
    CASE(test_steps());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
