/* SPDX-License-Identifier: MIT */
/*
 * test_handshake.c: the rules of the opening handshake (RFC 6455 section 4.2). Each request lies
 * flush against an unreadable page.
 */
#include "handshake.h"

#include "guard.h"
#include "tap.h"

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"
#define GOOD GET HOST UPGRADE CONNECTION VERSION KEY

static struct ws__http_field table[100];
static struct ws__http_head head;
static const char *bytes;

/* Parses the request made of `lines` and the empty line; leaves it in head and bytes. */
static void given(const char *lines)
{
    static char text[65536];
    size_t n = (size_t)snprintf(text, sizeof(text), "%s\r\n", lines);
    bytes = (const char *)guard_copy(text, n);
    head = (struct ws__http_head){.fields = table, .max_fields = 100};
    if (ws__http_parse(&head, bytes, n, sizeof(text)) != (int)n)
        ok(false, "parsing %s", lines);
}

static int judge_optional(const char *const *origins, bool optional)
{
    const char *why = NULL;
    uint64_t body;
    int status = ws__http_check(&head, bytes, &body);
    if (status)
        return status;
    status = ws__handshake_check(&head, bytes, body > 0, origins, optional, &why);
    if (!why || !*why != !status)
        return diag("a reason that does not fit: %s", why ? why : "NULL"), 1;
    return status;
}

/* The result on what was given, as the connection would reach it. */
static int judge(const char *const *origins)
{
    return judge_optional(origins, false);
}

static const struct {
    const char *name, *lines;
    bool want;
} upgrades[] = {
    {"H4 websocket", GET UPGRADE, true},
    {"H4 without case", GET "upgrade: WebSocket\r\n", true},
    {"H4 H27 among others", GET "Upgrade: h2c, websocket , foo\r\n", true},
    {"H4 split over lines", GET "Upgrade: h2c\r\nUpgrade: websocket\r\n", true},
    {"H0 no field", GET HOST KEY VERSION, false},
    {"H27 h2c", GET "Upgrade: h2c\r\n", false},
    {"H27 a longer word", GET "Upgrade: websockets\r\n", false},
    {"H27 a shorter word", GET "Upgrade: web\r\n", false},
    {"H27 with a version", GET "Upgrade: websocket/13\r\n", false},
    {"H27 two words", GET "Upgrade: h2c websocket\r\n", false},
    {"H0 empty", GET "Upgrade:\r\n", false},
};

static void test_upgrades(void)
{
    for (size_t i = 0; i < sizeof(upgrades) / sizeof(upgrades[0]); i++) {
        given(upgrades[i].lines);
        is_int(ws__handshake_is_upgrade(&head, bytes), upgrades[i].want, "is_upgrade: %s",
               upgrades[i].name);
    }
}

#define NO_KEY GET HOST UPGRADE CONNECTION VERSION
#define NO_VERSION GET HOST UPGRADE CONNECTION KEY
#define NO_CONNECTION GET HOST UPGRADE VERSION KEY
#define REST HOST UPGRADE CONNECTION VERSION KEY
#define NAMED_KEY NO_KEY "Sec-WebSocket-Key: "
#define PROTOCOL GOOD "Sec-WebSocket-Protocol: "
#define EXTENSIONS GOOD "Sec-WebSocket-Extensions: "

static const struct {
    const char *name, *lines;
    int want;
} verdicts[] = {
    {"T1 H10 a valid handshake", GOOD, 0},
    {"T3 names and tokens without case",
     GET "HOST: a\r\nupgrade: WEBSOCKET\r\nCONNECTION: uPGRADE\r\nsec-websocket-version:13\r\n"
         "SEC-WEBSOCKET-KEY:\t dGhlIHNhbXBsZSBub25jZQ== \r\n",
     0},
    {"T3 H5 Connection list", NO_CONNECTION "Connection: keep-alive,\tUpgrade\r\n", 0},
    {"T3 H5 two Connection lines", NO_CONNECTION "Connection: a\r\nConnection: ,upgrade\r\n", 0},
    {"H2 HTTP/1.7", "GET / HTTP/1.7\r\n" REST, 0},
    {"H1 T4 POST", "POST / HTTP/1.1\r\n" REST, -405},
    {"H1 HEAD", "HEAD / HTTP/1.1\r\n" REST, -405},
    {"H1 lower-case method", "get / HTTP/1.1\r\n" REST, -405},
    {"H1 a method that begins like GET", "GETS / HTTP/1.1\r\n" REST, -405},
    {"H2 T4 HTTP/1.0", "GET / HTTP/1.0\r\n" REST, -400},
    {"H3 T4 no Host", GET UPGRADE CONNECTION VERSION KEY, -400},
    {"H3 T4 two Hosts", GOOD HOST, -400},
    {"H5 T4 no Connection", NO_CONNECTION, -400},
    {"H5 T4 no token", NO_CONNECTION "Connection: keep-alive\r\n", -400},
    {"H5 a longer token", NO_CONNECTION "Connection: upgrades\r\n", -400},
    {"H7 T5 no version", NO_VERSION, -426},
    {"H7 T5 version 12", NO_VERSION "Sec-WebSocket-Version: 12\r\n", -426},
    {"H7 version 130", NO_VERSION "Sec-WebSocket-Version: 130\r\n", -426},
    {"H7 version 1", NO_VERSION "Sec-WebSocket-Version: 1\r\n", -426},
    {"H7 version 013", NO_VERSION "Sec-WebSocket-Version: 013\r\n", -426},
    {"H7 version list", NO_VERSION "Sec-WebSocket-Version: 13, 8\r\n", -426},
    {"H7 empty version", NO_VERSION "Sec-WebSocket-Version:\r\n", -426},
    {"H7 version twice", GOOD VERSION, -426},
    {"H6 T4 no key", NO_KEY, -400},
    {"H6 T4 key twice", GOOD KEY, -400},
    {"H6 T4 empty key", NAMED_KEY "\r\n", -400},
    {"H6 T4 short key", NAMED_KEY "dGhlIHNhbXBsZSBub25jZ==\r\n", -400},
    {"H6 long key", NAMED_KEY "dGhlIHNhbXBsZSBub25jZQQ==\r\n", -400},
    {"H6 text after the key", NAMED_KEY "dGhlIHNhbXBsZSBub25jZQ==Q\r\n", -400},
    {"H6 17 bytes", NAMED_KEY "dGhlIHNhbXBsZSBub25jZQQ=\r\n", -400},
    {"H6 18 bytes", NAMED_KEY "dGhlIHNhbXBsZSBub25jZQQQ\r\n", -400},
    {"H6 pad too early", NAMED_KEY "dGhlIHNhbXBsZSBub25jZ===\r\n", -400},
    {"H6 pad wrong", NAMED_KEY "dGhlIHNhbXBsZSBub25jZQ=-\r\n", -400},
    {"H6 URL alphabet", NAMED_KEY "dGhlIHNhbXBsZSBub25jZ-==\r\n", -400},
    {"H6 underscore", NAMED_KEY "dGhlIHNhbXBsZSBub25j_Q==\r\n", -400},
    {"H6 space inside", NAMED_KEY "dGhlIHNhbXBs SBub25jZQ==\r\n", -400},
    {"H6 obs-text inside", NAMED_KEY "dGhlIHNhbXBs\xe9SBub25jZQ==\r\n", -400},
    {"H6 plus and slash", NAMED_KEY "+/hlIHNhbXBsZSBub25j+/==\r\n", 0},
    {"H6 pad bits set", NAMED_KEY "dGhlIHNhbXBsZSBub25jZf==\r\n", 0},
    {"H6 all zero", NAMED_KEY "AAAAAAAAAAAAAAAAAAAAAA==\r\n", 0},
    {"H14 T8 body", GOOD "Content-Length: 1\r\n", -400},
    {"H14 empty body", GOOD "Content-Length: 0\r\n", 0},
    {"H14 T8 chunked", GOOD "Transfer-Encoding: chunked\r\n", -400},
    {"H19 unknown coding", GOOD "Transfer-Encoding: gzip\r\n", -501},
    {"H13 one protocol", PROTOCOL "chat\r\n", 0},
    {"H12 protocols over lines", PROTOCOL "a, b\r\nSec-WebSocket-Protocol: c\r\n", 0},
    {"H12 empty elements", PROTOCOL ", a,, b ,\r\n", 0},
    {"H13 a protocol twice", PROTOCOL "a, a\r\n", 0},
    {"H13 every token byte", PROTOCOL "!#$%&'*+-.^_`|~\r\n", 0},
    {"H13 T9 protocol with space", PROTOCOL "a b\r\n", -400},
    {"H13 T9 protocol with slash", PROTOCOL "a, b/c\r\n", -400},
    {"H13 T9 protocol in quotes", PROTOCOL "\"a\"\r\n", -400},
    {"H13 T9 protocol with semicolon", PROTOCOL "a;b\r\n", -400},
    {"H13 T9 obs-text", PROTOCOL "caf\xc3\xa9\r\n", -400},
    {"H13 T9 second line malformed", PROTOCOL "a\r\nSec-WebSocket-Protocol: (\r\n", -400},
    {"H13 an extension", EXTENSIONS "permessage-deflate\r\n", 0},
    {"H13 with parameters",
     EXTENSIONS "permessage-deflate; client_max_window_bits; server_max_window_bits=10\r\n", 0},
    {"H13 quoted", EXTENSIONS "permessage-deflate; server_max_window_bits=\"10\"\r\n", 0},
    {"H13 quoted with escape", EXTENSIONS "x; a=\"1\\0\"\r\n", 0},
    {"H13 blanks everywhere", EXTENSIONS " x\t; a = \"1\" ;b\t=2 ; c , y;d\r\n", 0},
    {"H12 H13 empty elements", EXTENSIONS ",x,,y,\r\nSec-WebSocket-Extensions: z\r\n", 0},
    {"H13 T9 bits 7", EXTENSIONS "permessage-deflate; server_max_window_bits=7\r\n", 0},
    {"H13 T9 bits -1", EXTENSIONS "permessage-deflate; server_max_window_bits=-1\r\n", 0},
    {"H13 T9 bits 99999999999", EXTENSIONS "permessage-deflate; a=99999999999\r\n", 0},
    {"H13 T9 no name", EXTENSIONS "; a\r\n", -400},
    {"H13 T9 semicolon at the end", EXTENSIONS "x;\r\n", -400},
    {"H13 T9 two semicolons", EXTENSIONS "x;;a\r\n", -400},
    {"H13 T9 no parameter name", EXTENSIONS "x; =1\r\n", -400},
    {"H13 T9 no value", EXTENSIONS "x; a=\r\n", -400},
    {"H13 T9 no value, more", EXTENSIONS "x; a=;b\r\n", -400},
    {"H13 T9 two values", EXTENSIONS "x; a=1=2\r\n", -400},
    {"H13 T9 two words", EXTENSIONS "x y\r\n", -400},
    {"H13 T9 two words as value", EXTENSIONS "x; a=1 2\r\n", -400},
    {"H13 T9 value on the name", EXTENSIONS "x=1\r\n", -400},
    {"H13 T9 quoted name", EXTENSIONS "\"x\"\r\n", -400},
    {"H13 T9 empty quotes", EXTENSIONS "x; a=\"\"\r\n", -400},
    {"H13 T9 quote without end", EXTENSIONS "x; a=\"1\r\n", -400},
    {"H13 T9 lone quote", EXTENSIONS "x; a=\"\r\n", -400},
    {"H13 T9 escape at the end", EXTENSIONS "x; a=\"1\\\r\n", -400},
    {"H13 T9 escaped quote", EXTENSIONS "x; a=\"1\\\"\"\r\n", -400},
    {"H13 T9 comma in quotes", EXTENSIONS "x; a=\"1,2\"\r\n", -400},
    {"H13 T9 space in quotes", EXTENSIONS "x; a=\"1 2\"\r\n", -400},
    {"H13 T9 text after quotes", EXTENSIONS "x; a=\"1\"2\r\n", -400},
    {"H13 T9 obs-text", EXTENSIONS "x; a=\xff\r\n", -400},
    {"H13 T9 the second offer malformed", EXTENSIONS "x, y;\r\n", -400},
    {"H0 framing before method", "POST / HTTP/1.1\r\n" REST "Content-Length: 1\r\n", -400},
    {"H0 method before HTTP/1.0", "POST / HTTP/1.0\r\n" HOST UPGRADE, -405},
    {"H0 HTTP/1.0 before version", "GET / HTTP/1.0\r\n" HOST UPGRADE CONNECTION, -400},
    {"H0 Connection before version", GET HOST UPGRADE, -400},
    {"H0 version before key", GET HOST UPGRADE CONNECTION, -426},
};

static void test_verdicts(void)
{
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        given(verdicts[i].lines);
        is_int(judge(NULL), verdicts[i].want, "%s", verdicts[i].name);
    }
}

static void test_large(void)
{
    static char lines[65536];
    int n = sprintf(lines, "%sCookie: %07168d\r\n", GOOD, 0);
    for (int i = 0; i < 60; i++)
        n += sprintf(lines + n, "X-%d: %d\r\n", i, i);
    given(lines);
    is_int(judge(NULL), 0, "T3 a cookie of 7 KiB and 60 other fields");
    n = sprintf(lines, "%s", GOOD);
    for (int i = 0; i < 60; i++)
        n += sprintf(lines + n, "Sec-WebSocket-Extensions: x; a=%d, y;b=\"%d\"\r\n", i, i);
    given(lines);
    is_int(judge(NULL), 0, "T9 120 offers");
}

static const char *const listed[] = {"https://Example.com", "null", NULL};
static const char *const nobody[] = {NULL};

static const struct {
    const char *name, *lines;
    const char *const *origins;
    int want;
} from[] = {
    {"any, none sent", GOOD, NULL, 0},
    {"any", GOOD "Origin: http://evil\r\n", NULL, 0},
    {"any, two", GOOD "Origin: a\r\nOrigin: b\r\n", NULL, 0},
    {"listed", GOOD "Origin: https://Example.com\r\n", listed, 0},
    {"listed, other case", GOOD "Origin: HTTPS://eXAMPLE.COM\r\n", listed, 0},
    {"listed null", GOOD "Origin: null\r\n", listed, 0},
    {"null is not listed", GOOD "Origin: null\r\n", listed + 2, -403},
    {"not listed", GOOD "Origin: https://example.org\r\n", listed, -403},
    {"other scheme", GOOD "Origin: http://example.com\r\n", listed, -403},
    {"longer", GOOD "Origin: https://example.com.evil\r\n", listed, -403},
    {"with a port", GOOD "Origin: https://example.com:443\r\n", listed, -403},
    {"shorter", GOOD "Origin: https://example.co\r\n", listed, -403},
    {"empty", GOOD "Origin:\r\n", listed, -403},
    {"absent", GOOD, listed, -403},
    {"two, both listed", GOOD "Origin: null\r\nOrigin: null\r\n", listed, -403},
    {"no one is listed", GOOD "Origin: https://example.com\r\n", nobody, -403},
    {"H0 the key is judged first", NO_KEY, listed, -400},
    {"H0 the version is judged first", NO_VERSION, listed, -426},
    {"H0 H13 syntax is judged first", PROTOCOL "(\r\n", listed, -400},
};

static void test_origins(void)
{
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        given(from[i].lines);
        is_int(judge(from[i].origins), from[i].want, "H9 T12 %s", from[i].name);
    }
}

static void test_optional_origin(void)
{
    given(GOOD);
    is_int(judge_optional(listed, true), 0, "H9 T12 absent, and optional");
    is_int(judge_optional(nobody, true), 0, "H9 T12 absent, optional, and none is listed");
    given(GOOD "Origin: null\r\n");
    is_int(judge_optional(listed, true), 0, "H9 T12 listed, and optional");
    given(GOOD "Origin: https://example.org\r\n");
    is_int(judge_optional(listed, true), -403, "H9 T12 optional, but another is sent");
    given(GOOD "Origin: a\r\nOrigin: null\r\n");
    is_int(judge_optional(listed, true), -403, "H9 T12 optional, but two are sent");
    given(GOOD "Origin:\r\n");
    is_int(judge_optional(listed, true), -403, "H9 T12 optional, but an empty one is sent");
}

static void test_protocols(void)
{
    static const char *const speaks[] = {"mqtt", "chat", "Superchat", NULL};
    given(PROTOCOL "soap, superchat\r\nSec-WebSocket-Protocol: chat,mqtt\r\n");
    ok(ws__handshake_select(&head, bytes, speaks) == speaks[1], "H11 H12 the client's order");
    ok(!ws__handshake_select(&head, bytes, speaks + 2), "H11 names are case-sensitive");
    ok(!ws__handshake_select(&head, bytes, nobody), "H11 the route speaks none");
    ok(!ws__handshake_select(&head, bytes, NULL), "H11 the route has no list");
    ok(ws__handshake_offered(&head, bytes, "mqtt", 4), "H11 H12 offered on the second line");
    ok(ws__handshake_offered(&head, bytes, "soap", 4), "H11 offered first");
    ok(!ws__handshake_offered(&head, bytes, "soap", 3), "H11 a prefix was not offered");
    ok(!ws__handshake_offered(&head, bytes, "soap2", 5), "H11 a longer name was not");
    ok(!ws__handshake_offered(&head, bytes, "Soap", 4), "H11 nor one in other case");
    ok(!ws__handshake_offered(&head, bytes, "", 0), "H11 nor an empty one");
    given(GOOD);
    ok(!ws__handshake_select(&head, bytes, speaks), "H11 the client offers none");
    ok(!ws__handshake_offered(&head, bytes, "chat", 4), "H11 so none is offered");
}

static const struct {
    const char *lines, *want;
} accepts[] = {
    {GOOD, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, /* RFC 6455 1.3 */
    {NAMED_KEY "x3JJHMbDL1EzLkh9GBhXDw==\r\n", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="},
    {NAMED_KEY "AAAAAAAAAAAAAAAAAAAAAA==\r\n", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="},
    {NAMED_KEY "/////////////////////w==\r\n", "XXpj4jYzLM2yUE0C7TIgMwTQh2g="},
};

static void test_accepts(void)
{
    for (size_t i = 0; i < sizeof(accepts) / sizeof(accepts[0]); i++) {
        char accept[29];
        given(accepts[i].lines);
        ws__handshake_accept(&head, bytes, accept);
        is_mem(accept, 29, accepts[i].want, 29, "T1 H10 Accept %s", accepts[i].want);
    }
}

static void cases(void)
{
    CASE(test_upgrades());
    CASE(test_verdicts());
    CASE(test_large());
    CASE(test_origins());
    CASE(test_optional_origin());
    CASE(test_protocols());
    CASE(test_accepts());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
