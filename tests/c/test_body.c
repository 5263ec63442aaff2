/* SPDX-License-Identifier: MIT */
/*
 * test_body.c: bodies of requests. Every input is read whole, byte by byte and in every two-way
 * split, each time from a fresh copy that lies flush against an unreadable page: content, result
 * and what is left over must be the same. A refused input ends with the byte that decides.
 */
#include "body.h"

#include "guard.h"
#include "tap.h"

enum { MAX_TRAILER = 100, NO_LIMIT = 1 << 30 };

struct reading {
    int result;
    size_t used, length; /* bytes of the input; bytes of content */
    char content[16384];
};

/* Reads a piece of the input that comes after `used` bytes. */
static void feed(struct reading *r, struct ws__body *b, const char *bytes, size_t n)
{
    struct ws__input in = {(char *)guard_copy(bytes, n), n};
    const char *data;
    size_t length;
    do {
        r->result = ws__body_next(b, &in, &data, &length);
        if (r->result == WS__BODY_PIECE || r->result == WS__BODY_LAST) {
            memcpy(r->content + r->length, data, length);
            r->length += length;
        }
    } while (r->result == WS__BODY_PIECE && in.length);
    r->used += n - in.length;
    if (r->result == WS__BODY_PIECE)
        r->result = WS__BODY_MORE;
    if (r->result < 0) { /* the same when it is asked again */
        int again = ws__body_next(b, &in, &data, &length);
        if (again != r->result)
            r->result = -1000 + again;
    }
}

static void read_split(struct reading *r, uint64_t body, uint64_t limit, const char *bytes,
                       size_t n, size_t at, size_t step)
{
    struct ws__body b;
    r->used = r->length = 0;
    r->result = WS__BODY_MORE;
    ws__body_init(&b, body, limit, MAX_TRAILER);
    for (size_t from = 0, size = at; from < n && r->result == WS__BODY_MORE; size = step) {
        size = size < n - from ? size : n - from;
        feed(r, &b, bytes + from, size);
        from += size;
    }
}

static bool same(const struct reading *a, const struct reading *b)
{
    return a->result == b->result && a->used == b->used && a->length == b->length &&
           !memcmp(a->content, b->content, a->length);
}

/* In every split; what comes after the end is left over. */
static bool read_all(struct reading *r, uint64_t body, uint64_t limit, const char *bytes, size_t n)
{
    static struct reading other;
    read_split(r, body, limit, bytes, n, n, n);
    read_split(&other, body, limit, bytes, n, 1, 1);
    if (!same(r, &other))
        return diag("bytewise: %d after %zu, whole: %d after %zu", other.result, other.used,
                    r->result, r->used), false;
    for (size_t at = 1; at < n; at++) {
        read_split(&other, body, limit, bytes, n, at, n);
        if (!same(r, &other))
            return diag("split at %zu: %d", at, other.result), false;
    }
    return true;
}

static const struct {
    const char *name, *input;
    int result;
    const char *content;
    size_t left; /* bytes after the end, or after the one that decides */
} chunked[] = {
    {"H26 no chunk", "0\r\n\r\n", WS__BODY_LAST, "", 0},
    {"H26 one chunk", "5\r\nhello\r\n0\r\n\r\n", WS__BODY_LAST, "hello", 0},
    {"H26 two chunks", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", WS__BODY_LAST, "hello world", 0},
    {"H26 what follows is left", "1\r\nx\r\n0\r\n\r\nGET ", WS__BODY_LAST, "x", 4},
    {"H26 hex in any case", "A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n", WS__BODY_LAST,
     "0123456789abcdefghij", 0},
    {"H26 leading zeros", "0000000000000001\r\nx\r\n000\r\n\r\n", WS__BODY_LAST, "x", 0},
    {"H26 CRLF in the content", "4\r\n\r\n\r\n\r\n0\r\n\r\n", WS__BODY_LAST, "\r\n\r\n", 0},
    {"H26 not whole", "5\r\nhell", WS__BODY_MORE, "hell", 0},
    {"H26 the last CRLF is missing", "0\r\n", WS__BODY_MORE, "", 0},
    {"H26 an extension", "1;a\r\nx\r\n0;b=c\r\n\r\n", WS__BODY_LAST, "x", 0},
    {"H26 blanks around extensions", "1 \t; a = b ;c\r\nx\r\n0\r\n\r\n", WS__BODY_LAST, "x", 0},
    {"H26 a bare CR in a quoted value", "1;a=\"b;\\\"c\\\r\"\r\nx\r\n", -400, "", 7},
    {"H26 a quoted value with escapes", "1;a=\"b;\\\"c \xe9\";d=\"\"\r\nx\r\n0\r\n\r\n",
     WS__BODY_LAST, "x", 0},
    {"H26 trailers", "0\r\nA: b\r\nC:\r\n\r\n", WS__BODY_LAST, "", 0},
    {"H26 what a trailer says is dropped", "0\r\nContent-Length: 5\r\n\r\nhello", WS__BODY_LAST, "",
     5},

    {"H26 no size", "\r\n", -400, "", 2},
    {"H26 a sign", "+1\r\n", -400, "", 4},
    {"H26 minus", "-1\r\n", -400, "", 4},
    {"H26 0x", "0x1\r\n", -400, "", 4},
    {"H26 a blank first", " 1\r\n", -400, "", 4},
    {"H26 a blank after the size", "1 \r\nx", -400, "", 3},
    {"H26 a tab after the size", "1\t\r\nx", -400, "", 3},
    {"H26 an underscore", "1_0\r\n", -400, "", 4},
    {"H26 not hex", "g\r\n", -400, "", 3},
    {"H26 a control character", "1\001\r\n", -400, "", 3},
    {"H26 17 digits", "00000000000000001\r\n", -400, "", 3},
    {"H26 2^64", "10000000000000000\r\n", -400, "", 3},
    {"H26 2^64-1", "ffffffffffffffff\r\n", -413, "", 1},
    {"H26 a bare LF after the size", "1\nx\n", -400, "", 3},
    {"H26 a bare CR after the size", "1\rx", -400, "", 1},
    {"H26 two CR", "1\r\r\nx", -400, "", 3},
    {"H26 a bare LF after the content", "1\r\nx\n0\r\n\r\n", -400, "x", 6},
    {"H26 the content is longer", "1\r\nxy\r\n0\r\n\r\n", -400, "x", 8},
    {"H26 the content is shorter", "3\r\nx\r\n0\r\n\r\n", -400, "x\r\n", 5},
    {"H26 a bare LF at the end", "0\r\n\n", -400, "", 1},
    {"H26 a bare LF in an extension", "1;a\nx", -400, "", 2},
    {"H26 a bare CR in an extension", "1;a\rb", -400, "", 1},
    {"H26 an extension without a name", "1;\r\nx", -400, "", 3},
    {"H26 an extension without a value", "1;a=\r\nx", -400, "", 3},
    {"H26 an extension that is no token", "1;a b\r\nx", -400, "", 4},
    {"H26 a blank after an extension", "1;a \r\nx", -400, "", 3},
    {"H26 a quoted value without an end", "1;a=\"b\r\nx", -400, "", 3},
    {"H26 after a quoted value", "1;a=\"b\"c\r\nx", -400, "", 4},
    {"H26 a control character in a quoted value", "1;a=\"\x01\"\r\n", -400, "", 4},
    {"H26 a trailer without a name", "0\r\n: a\r\n\r\n", -400, "", 7},
    {"H26 a trailer without a colon", "0\r\nA\r\n\r\n", -400, "", 4},
    {"H26 a folded trailer", "0\r\nA: b\r\n c\r\n\r\n", -400, "", 6},
    {"H26 a blank before the colon of a trailer", "0\r\nA : b\r\n\r\n", -400, "", 8},
    {"H26 a bare LF in a trailer", "0\r\nA: b\n\r\n", -400, "", 3},
    {"H26 a bare CR in a trailer", "0\r\nA: b\rc\r\n\r\n", -400, "", 5},
};

static void test_chunks(void)
{
    static struct reading r;
    for (size_t i = 0; i < sizeof chunked / sizeof *chunked; i++) {
        const size_t n = strlen(chunked[i].input);
        bool fine = read_all(&r, WS__HTTP_CHUNKED, NO_LIMIT, chunked[i].input, n);
        ok(fine, "%s: in every split", chunked[i].name);
        is_int(r.result, chunked[i].result, "%s", chunked[i].name);
        is_mem(r.content, r.length, chunked[i].content, strlen(chunked[i].content), "%s: content",
               chunked[i].name);
        is_int((long long)(n - r.used), (long long)chunked[i].left, "%s: left over",
               chunked[i].name);
    }
}

/* Bytes that no text holds, at each place. */
static void test_nul(void)
{
    static const char whole[] = "2;a=\"b\"\r\nxy\r\n0\r\nA: b\r\n\r\n";
    static struct reading r;
    char bytes[sizeof whole];
    for (size_t i = 0; i < sizeof whole - 1; i++) {
        memcpy(bytes, whole, sizeof whole);
        bytes[i] = '\0';
        bool content = i == 9 || i == 10;
        ok(read_all(&r, WS__HTTP_CHUNKED, NO_LIMIT, bytes, sizeof whole - 1), "in every split");
        is_int(r.result, content ? WS__BODY_LAST : -400, "H26: NUL at %zu", i);
    }
}

static void test_length(void)
{
    static struct reading r;
    ok(read_all(&r, 5, NO_LIMIT, "hello", 5), "in every split");
    is_int(r.result, WS__BODY_LAST, "H19: a body of a length");
    is_mem(r.content, r.length, "hello", 5, "its content");
    ok(read_all(&r, 5, 5, "helloGET", 8), "in every split");
    is_int((long long)r.used, 5, "H19: what follows is left");
    ok(read_all(&r, 5, NO_LIMIT, "hell", 4), "in every split");
    is_int(r.result, WS__BODY_MORE, "H19: not whole");
    ok(read_all(&r, 5, 4, "hello", 5), "in every split");
    is_int(r.result, -413, "H26: longer than the limit");
    is_int((long long)r.used, 0, "at once");
    struct ws__body b;
    ws__body_init(&b, 0, 0, 0);
    ok(ws__body_ended(&b), "no body");
    ws__body_init(&b, INT64_MAX, UINT64_MAX, 0);
    ok(!ws__body_ended(&b) && ws__body_left(&b) == INT64_MAX, "a long one");
    ws__body_init(&b, WS__HTTP_CHUNKED, 0, 0);
    ok(!ws__body_ended(&b) && ws__body_left(&b) == WS__HTTP_CHUNKED, "chunks");
}

static void test_limits(void)
{
    static struct reading r;
    static char bytes[16384];
    static const char two[] = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    ok(read_all(&r, WS__HTTP_CHUNKED, 5, two, sizeof two - 1), "in every split");
    is_int(r.result, WS__BODY_LAST, "H26: exactly the limit");
    ok(read_all(&r, WS__HTTP_CHUNKED, 4, two, sizeof two - 1), "in every split");
    is_int(r.result, -413, "H26: a byte more");
    is_mem(r.content, r.length, "abc", 3, "without the chunk that is too long");
    for (int over = 0; over < 2; over++) {
        int n = 2 + 4095 + over; /* and the CR */
        memset(bytes, 'a', sizeof bytes);
        memcpy(bytes, "1;", 2);
        n += sprintf(bytes + n, "\r\nx\r\n0;b\r\n\r\n");
        read_split(&r, WS__HTTP_CHUNKED, 5, bytes, (size_t)n, (size_t)n, (size_t)n);
        is_int(r.result, over ? -400 : WS__BODY_LAST, "H26: 4 KiB of extensions%s",
               over ? " and a byte" : "");
    }
    for (int over = 0; over < 2; over++) {
        int n = sprintf(bytes, "0\r\nA: ");
        memset(bytes + n, 'b', 100);
        n += MAX_TRAILER - 3 - 4 + over; /* the last CRLF counts */
        n += sprintf(bytes + n, "\r\n\r\n");
        ok(read_all(&r, WS__HTTP_CHUNKED, 0, bytes, (size_t)n), "in every split");
        is_int(r.result, over ? -431 : WS__BODY_LAST, "H26: the longest trailer section%s",
               over ? " and a byte" : "");
    }
}

static void cases(void)
{
    CASE(test_chunks());
    CASE(test_nul());
    CASE(test_length());
    CASE(test_limits());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
