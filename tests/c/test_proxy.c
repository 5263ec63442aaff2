/* SPDX-License-Identifier: MIT */
/*
 * test_proxy.c: the header of the PROXY protocol, whole and cut at each byte. Each input lies flush
 * against an unreadable page.
 */
#include "proxy.h"

#include "guard.h"
#include "tap.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2(rest) {SIGNATURE rest, sizeof(SIGNATURE rest) - 1}
#define V1(text) {text, sizeof(text) - 1}
#define FOUR "\1\2\3\4\5\6\7\x8\x1f\x90\0\x50"
#define ZEROS "\0\0\0\0\0\0\0\0\0\0"
#define SIX                                                                                        \
    "\x20\1\xd\xb8" ZEROS "\0\1" "\x20\1\xd\xb8" ZEROS "\0\2\x1f\x90\0\x50"
#define MAPPED ZEROS "\xff\xff\1\2\3\4" ZEROS "\xff\xff\5\6\7\x8\x1f\x90\0\x50"

struct input {
    const char *bytes;
    size_t length;
};

static struct ws__address peer;

static int parse(const char *bytes, size_t length)
{
    peer = (struct ws__address){.bytes = {127, 0, 0, 1}, .length = 4, .port = 9};
    return ws__proxy_parse((const char *)guard_copy(bytes, length), length, &peer);
}

static const char *parsed(void)
{
    static char text[80];
    char address[46];
    ws__net_address_text(&peer, address, sizeof address);
    snprintf(text, sizeof text, "%s %d%s", address, peer.port, peer.secure ? " TLS" : "");
    return text;
}

static const struct {
    struct input in;
    const char *want;
} good[] = {
    {V1("PROXY TCP4 1.2.3.4 5.6.7.8 8080 80\r\n"), "1.2.3.4 8080"},
    {V1("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255 65535"},
    {V1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0 0"},
    {V1("PROXY TCP6 2001:db8::1 2001:db8::2 8080 80\r\n"), "2001:db8::1 8080"},
    {V1("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
    {V1("PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n"), "1.2.3.4 1"},
    {V1("PROXY UNKNOWN\r\n"), "127.0.0.1 9"},
    {V1("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     "127.0.0.1 9"},
    {V2("\x21\x11\0\xc" FOUR), "1.2.3.4 8080"},
    {V2("\x21\x21\0\x24" SIX), "2001:db8::1 8080"},
    {V2("\x21\x21\0\x24" MAPPED), "1.2.3.4 8080"},
    {V2("\x21\x11\0\xf" FOUR "\4\0\0"), "1.2.3.4 8080"},
    {V2("\x21\x11\0\x12" FOUR "\x99\0\3abc"), "1.2.3.4 8080"},
    {V2("\x21\x11\0\x14" FOUR "\x20\0\5\1\0\0\0\0"), "1.2.3.4 8080 TLS"},
    {V2("\x21\x11\0\x14" FOUR "\x20\0\5\0\0\0\0\0"), "1.2.3.4 8080"},
    {V2("\x21\x11\0\x1a" FOUR "\x20\0\xb\7\0\0\0\0\x21\0\3abc"), "1.2.3.4 8080 TLS"},
    {V2("\x21\0\0\0"), "127.0.0.1 9"},
    {V2("\x21\0\0\x8\x20\0\5\1\0\0\0\0"), "127.0.0.1 9 TLS"},
    {V2("\x20\0\0\0"), "127.0.0.1 9"},
    {V2("\x20\x11\0\xc" FOUR), "127.0.0.1 9"},
    {V2("\x20\x99\0\3abc"), "127.0.0.1 9"},
};

static const struct input bad[] = {
    V1("GET / HTTP/1.1\r\n"), V1("PROXY\r\n"), V1("PROXZ"),
    V1("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), V1("proxy TCP4 "),
    V1("\r\n\r\nG"), V1("\x16\3\1"), V1("PROXY \r\n"), V1("PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n"),
    V1("PROXY TCP 1.2.3.4 5.6.7.8 1 2\r\n"), V1("PROXY TCP44 1.2.3.4 5.6.7.8 1 2\r\n"),
    V1("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"), V1("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"), V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n"), V1("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n"), V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 99999999999\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n"), V1("PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n"),
    V1("PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n"), V1("PROXY TCP4 1.2.3.4 5.6.7.256 1 2\r\n"),
    V1("PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n"), V1("PROXY TCP4 ::1 ::2 1 2\r\n"),
    V1("PROXY TCP4 1.2.3.4 ::2 1 2\r\n"), V1("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n"),
    V1("PROXY TCP6 ::1 5.6.7.8 1 2\r\n"), V1("PROXY TCP6 ::1::2 ::2 1 2\r\n"),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"
       "                                                                             "),
    V1("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r"), V1("PROXY TCP4 1.2.3.4\0 5.6.7.8 1 2\r\n"),
    V1("PROXY UNKNOWNS\r\n"), V1("PROXY UNKNOWN\rx"), V1("PROXY unknown\r\n"),
    V1("PROXY UNKNOWN "
       "                                                                                      "
       "      "),
    V2("\x11\x11\0\xc"), V2("\x31\x11\0\xc"), V2("\x22\x11\0\xc"), V2("\x2f\x11\0\xc"),
    V2("\x21\x11\0\xb" FOUR), V2("\x21\x21\0\xc" FOUR), V2("\x21\x12\0\xc" FOUR),
    V2("\x21\x22\0\x24" SIX), V2("\x21\x31\0\xc" FOUR), V2("\x21\x41\0\xc" FOUR),
    V2("\x21\1\0\xc" FOUR), V2("\x21\x10\0\xc" FOUR), V2("\x21\x11\x10\1"),
    V2("\x21\x11\xff\xff"), V2("\x21\x11\0\xd" FOUR "\4"), V2("\x21\x11\0\xe" FOUR "\4\0"),
    V2("\x21\x11\0\xf" FOUR "\4\0\1"), V2("\x21\x11\0\x13" FOUR "\x20\0\4\1\0\0\0"),
    V1("\r\n\r\n\0\r\nQUIT\r"),
};

static void test_good(void)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const struct input *in = &good[i].in;
        char longer[400] = {0};
        size_t n = 1;
        while (n < in->length && !parse(in->bytes, n))
            n++;
        is_int((long long)n, (long long)in->length, "W5: %zu: each byte is needed", i);
        is_int(parse(in->bytes, in->length), (int)in->length, "W5: %zu: the whole header", i);
        is_text(parsed(), good[i].want, "W5: the client");
        memcpy(longer, in->bytes, in->length);
        memcpy(longer + in->length, "\r\nGET /", 7);
        is_int(parse(longer, in->length + 7), (int)in->length, "W5: %zu: and not what follows", i);
    }
}

static void test_bad(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = 1;
        while (n < bad[i].length && !parse(bad[i].bytes, n))
            n++;
        is_int(parse(bad[i].bytes, n), -1, "W5: %zu: no header, found at byte %zu", i, n);
        is_int(parse(bad[i].bytes, bad[i].length), -1, "W5: %zu: nor as a whole", i);
    }
}

static void test_unix_and_long(void)
{
    static char bytes[16 + 4096];
    memcpy(bytes, SIGNATURE "\x21\x31\0\xd8", 16);
    memset(bytes + 16, '/', 216);
    is_int(parse(bytes, 231), 0, "W5: addresses of Unix sockets");
    is_int(parse(bytes, 232), 232, "W5: which are skipped");
    is_text(parsed(), "127.0.0.1 9", "W5: the socket's address stays");
    memcpy(bytes, SIGNATURE "\x21\x11\x10\0" FOUR "\4\x0f\xf1", 31);
    is_int(parse(bytes, 16 + 4095), 0, "W5: 4 KiB");
    is_int(parse(bytes, 16 + 4096), 16 + 4096, "W5: and no more");
}

static void cases(void)
{
    CASE(test_good());
    CASE(test_bad());
    CASE(test_unix_and_long());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
