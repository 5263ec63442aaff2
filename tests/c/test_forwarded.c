/* SPDX-License-Identifier: MIT */
/*
 * test_forwarded.c: the client behind trusted proxies (RFC 7239): lists of them, the walk from the
 * right, and what a client writes to be taken for another one. Heads lie flush against an
 * unreadable page.
 */
#include "forwarded.h"

#include "guard.h"
#include "tap.h"

static struct ws__memory memory;
static struct ws__proxies *proxies;
static struct ws__http_field table[100];
static struct ws__http_head head;
static const char *bytes;

static int trust(const char *const *texts)
{
    ws__proxies_free(proxies, &memory);
    return ws__proxies_new(&proxies, &memory, texts);
}

static struct ws__address address_of(const char *text)
{
    struct ws__address a = {.length = 0};
    if (*text && !ws__net_parse_address(text, strlen(text), &a))
        ok(false, "%s is an address", text);
    return a;
}

/* ---- lists of proxies --------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *trusted[3], *others[4];
} lists[] = {
    {"10.0.0.5", {"10.0.0.5", "::ffff:10.0.0.5"}, {"10.0.0.4", "::a00:5", "", "10.0.0.50"}},
    {"10.0.0.0/8", {"10.0.0.0", "10.255.255.255"}, {"11.0.0.0", "9.255.255.255", "a00::"}},
    {"10.0.0.77/31", {"10.0.0.76", "10.0.0.77"}, {"10.0.0.78", "10.0.0.75"}},
    {"192.0.2.128/25", {"192.0.2.128", "192.0.2.255"}, {"192.0.2.127", "192.0.3.128"}},
    {"0.0.0.0/0", {"0.0.0.0", "255.255.255.255"}, {"::", "::1", ""}},
    {"::1", {"::1"}, {"::", "::2", "127.0.0.1", ""}},
    {"fd00::/8", {"fd00::", "fdff::1"}, {"fc00::", "fe00::", "253.0.0.0"}},
    {"2001:db8::/33", {"2001:db8:7fff::"}, {"2001:db8:8000::", "2001:db9::"}},
    {"::/0", {"::", "ffff::"}, {"1.2.3.4", ""}},
    {"::ffff:10.0.0.5", {"10.0.0.5"}, {"10.0.0.6"}},
    {"unix", {""}, {"0.0.0.0", "::"}},
};

static void test_lists(void)
{
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const char *const texts[] = {"203.0.113.1", lists[i].text, NULL};
        is_int(trust(texts), WS_OK, "W5: %s is understood", lists[i].text);
        for (int k = 0; k < 3 && lists[i].trusted[k]; k++) {
            struct ws__address a = address_of(lists[i].trusted[k]);
            ok(ws__proxies_trust(proxies, &a), "W5: \"%s\" is in %s", lists[i].trusted[k],
               lists[i].text);
        }
        for (int k = 0; k < 4 && lists[i].others[k]; k++) {
            struct ws__address a = address_of(lists[i].others[k]);
            ok(!ws__proxies_trust(proxies, &a), "W5: \"%s\" is not in %s", lists[i].others[k],
               lists[i].text);
        }
    }
}

static void test_wrong_lists(void)
{
    static const char *const wrong[] = {
        "", "/", "/8", "10.0.0.5/", "10.0.0.5/33", "10.0.0.5/-1", "10.0.0.5/08", "10.0.0.5/8 ",
        " 10.0.0.5", "10.0.0", "10.0.0.05", "10.0.0.256", "10.0.0.5:80", "::1/129", "[::1]",
        "fe80::1%lo", "::ffff:10.0.0.0/104", "1::2::3", "unix/0", "Unix", "*", "localhost",
        "10.0.0.5/8/8", "10.0.0.5/99999999999999999999",
        "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *const texts[] = {"::1", wrong[i], "unix", NULL};
        is_int(trust(texts), WS_EINVAL, "W5: \"%s\" is refused", wrong[i]);
    }
    const char *const none[] = {NULL};
    struct ws__address a = address_of("");
    ok(trust(none) == WS_OK && !proxies, "W5: an empty list is none");
    ok(trust(NULL) == WS_OK && !proxies && !ws__proxies_trust(proxies, &a), "W5: no list");
    is_int((long long)memory.used, 0, "all memory is freed");
}

/* ---- the walk ----------------------------------------------------------------------------- */

static void given(const char *lines)
{
    static char text[65536];
    size_t n = (size_t)snprintf(text, sizeof text, "GET / HTTP/1.1\r\n%s\r\n", lines);
    bytes = (const char *)guard_copy(text, n);
    head = (struct ws__http_head){.fields = table, .max_fields = 100};
    if (ws__http_parse(&head, bytes, n, sizeof text) != (int)n)
        ok(false, "parsing %s", lines);
}

/* "192.0.2.1:80 https", with a "?" if something was there that could not be believed. */
static const char *client_of(const char *peer, const char *lines)
{
    static char text[100];
    char address[46];
    given(lines);
    struct ws__address a = address_of(peer);
    const bool believed = ws__forwarded_client(proxies, &head, bytes, &a);
    ws__net_address_text(&a, address, sizeof address);
    snprintf(text, sizeof text, "%s:%d %s%s", address, a.port, a.secure ? "https" : "http",
             believed ? "" : " ?");
    return text;
}

#define P "10.0.0.1"
#define F "Forwarded: "
#define X "X-Forwarded-For: "
#define PROTO "X-Forwarded-Proto: "

static const struct {
    const char *peer, *lines, *want;
} walks[] = {
    /* Peers. */
    {"192.0.2.9", F "for=1.2.3.4\r\n" X "1.2.3.4\r\n" PROTO "https\r\n", "192.0.2.9:0 http"},
    {"", F "for=1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, "", P ":0 http"},
    {P, F "\r\n" X ",, ,\r\n", P ":0 http"},
    {P, PROTO "https\r\n", P ":0 https"},
    /* Forwarded. */
    {P, F "for=1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, F "For=\"1.2.3.4:80\";proto=https;by=203.0.113.43\r\n", "1.2.3.4:80 https"},
    {P, F "proto=HTTPS;host=a;FOR=\"[2001:db8::17]:4711\"\r\n", "2001:db8::17:4711 https"},
    {P, F "for=\"[2001:db8::17]\"; proto=wss\r\n", "2001:db8::17:0 https"},
    {P, F "for=\"1.2.3.4:_port\"\r\n", "1.2.3.4:0 http"},
    {P, F "for=1.2.3.4;proto=gopher\r\n", "1.2.3.4:0 http"},
    {P, F "for=1.2.3.4;proto=\"https\"\r\n", "1.2.3.4:0 https"},
    {P, F "for=1.2.3.4;proto=ws\r\n" PROTO "https\r\n", "1.2.3.4:0 http"},
    {P, F "for=1.2.3.4\r\n" PROTO "https\r\n", "1.2.3.4:0 http"},
    {P, F ";;for=1.2.3.4;;proto=https;\r\n", "1.2.3.4:0 https"},
    {P, F "for=1.2.3.4;ext=\"a,b;c=\\\"d\\\"\"\r\n", "1.2.3.4:0 http"},
    {P, F "for=9.9.9.9, for=1.2.3.4;host=\"a\\\",for=8.8.8.8\"\r\n", "1.2.3.4:0 http"},
    {P, F "for=9.9.9.9\r\n" F "for=1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, F "for=1.2.3.4;proto=https, for=10.0.0.2;proto=http\r\n", "1.2.3.4:0 https"},
    {P, F "for=1.2.3.4, for=unknown, for=10.0.0.2\r\n", "10.0.0.2:0 http ?"},
    {P, F "for=10.0.0.3, for=10.0.0.2;proto=https\r\n", "10.0.0.3:0 http"},
    {P, F "for=\"::ffff:1.2.3.4\"\r\n", "1.2.3.4:0 http"},
    /* Names that are hidden or wrong end the walk. */
    {P, F "for=_hidden\r\n", P ":0 http ?"},
    {P, F "for=unknown;proto=https\r\n", P ":0 http ?"},
    {P, F "proto=https\r\n", P ":0 http ?"},
    {P, F "for=\r\n", P ":0 http ?"},
    {P, F "for=\"\"\r\n", P ":0 http ?"},
    {P, F "1.2.3.4\r\n", P ":0 http ?"},
    {P, F "for 1.2.3.4\r\n", P ":0 http ?"},
    {P, F "for=1.2.3.4 proto=https\r\n", P ":0 http ?"},
    {P, F "for=1.2.3.4;for=5.6.7.8\r\n", P ":0 http ?"},
    {P, F "for=1.2.3.4;proto=http;proto=https\r\n", P ":0 http ?"},
    {P, F "for=\"1.2.3.4\r\n", P ":0 http ?"},
    {P, F "for=\"[1.2.3.4]\"\r\n", P ":0 http ?"},
    {P, F "for=\"[::1\"\r\n", P ":0 http ?"},
    {P, F "for=\"[::1]x\"\r\n", P ":0 http ?"},
    {P, F "for=\"[::1]:\"\r\n", P ":0 http ?"},
    {P, F "for=\"1.2.3.4:\"\r\n", P ":0 http ?"},
    {P, F "for=\"1.2.3.4:65536\"\r\n", P ":0 http ?"},
    {P, F "for=\"1.2.3.4:080\"\r\n", P ":0 http ?"},
    {P, F "for=1.2.3\r\n", P ":0 http ?"},
    {P, F "for=01.2.3.4\r\n", P ":0 http ?"},
    {P, F "for=\"fe80::1%eth0\"\r\n", P ":0 http ?"},
    /* X-Forwarded-For. */
    {P, X "1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, X "1.2.3.4\r\n" PROTO "https\r\n", "1.2.3.4:0 https"},
    {P, X "1.2.3.4\r\n" PROTO "http\r\n" PROTO "http, wss\r\n", "1.2.3.4:0 https"},
    {P, X "1.2.3.4\r\n" PROTO "https, http\r\n", "1.2.3.4:0 http"},
    {P, X "1.2.3.4:5678\r\n", "1.2.3.4:5678 http"},
    {P, X "2001:db8::1\r\n", "2001:db8::1:0 http"},
    {P, X "[2001:db8::1]:80\r\n", "2001:db8::1:80 http"},
    {P, X "9.9.9.9, 1.2.3.4 ,\t10.0.0.2,10.0.0.3\r\n", "1.2.3.4:0 http"},
    {P, X "9.9.9.9, 1.2.3.4\r\nX-A: b\r\n" X "10.0.0.2\r\n", "1.2.3.4:0 http"},
    {P, X "10.0.0.3,10.0.0.2\r\n", "10.0.0.3:0 http"},
    {P, X "1.2.3.4, unknown\r\n", P ":0 http ?"},
    {P, X "1.2.3.4, , 10.0.0.2\r\n", "1.2.3.4:0 http"},
    {P, X "for=1.2.3.4\r\n", P ":0 http ?"},
    /* What a client writes on the left changes nothing of what its proxy appends. */
    {P, F "for=10.0.0.9, for=1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, F "for=\"10.0.0.9, for=1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, F "for=\", for=\"[2001:db8::1]\"\r\n", "2001:db8::1:0 http"},
    {P, F "\"\\, for=1.2.3.4;host=\"x\"\r\n", "1.2.3.4:0 http"},
    {P, F "=\"=\"=\", for=1.2.3.4;by=\"a,b\"\r\n", "1.2.3.4:0 http"},
    {P, X "\"10.0.0.9, 1.2.3.4\r\n", "1.2.3.4:0 http"},
    {P, X "=\", 1.2.3.4\r\n", "1.2.3.4:0 http"},
    /* A client behind a proxy that writes one field, and passes on the other one. */
    {P, F "for=9.9.9.9\r\n" X "1.2.3.4\r\n", P ":0 http ?"},
    {P, X "9.9.9.9\r\n" F "for=1.2.3.4;proto=https\r\n", P ":0 http ?"},
    {P, F "for=1.2.3.4;proto=https\r\n" X "1.2.3.4\r\n", "1.2.3.4:0 https"},
    {P, F "for=\r\n" X "1.2.3.4\r\n", P ":0 http ?"},
};

static void test_walks(void)
{
    const char *const texts[] = {"10.0.0.0/8", "unix", NULL};
    trust(texts);
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++)
        is_text(client_of(walks[i].peer, walks[i].lines), walks[i].want, walks[i].lines);
    trust(NULL);
    is_text(client_of(P, X "1.2.3.4\r\n" PROTO "https\r\n"), P ":0 http", "W5: no one is trusted");
}

/* A long list costs no more than its length. */
static void test_long_list(void)
{
    static char lines[65536];
    const char *const texts[] = {"10.0.0.0/8", NULL};
    char *to = lines + sprintf(lines, X "1.2.3.4");
    for (int i = 0; i < 5000; i++)
        to += sprintf(to, ",10.0.0.1");
    strcpy(to, "\r\n");
    trust(texts);
    is_text(client_of(P, lines), "1.2.3.4:0 http", "W5: 5,000 proxies");
    for (char *c = lines + strlen(X); *c != '\r'; c++)
        *c = *c == ',' ? '"' : '=';
    is_text(client_of(P, lines), P ":0 http ?", "W5: 5,000 quotes");
    trust(NULL);
}

static void cases(void)
{
    ws__memory_init(&memory, NULL, 0);
    CASE(test_lists());
    CASE(test_wrong_lists());
    CASE(test_walks());
    CASE(test_long_list());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
