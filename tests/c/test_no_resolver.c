/* SPDX-License-Identifier: MIT */
/*
 * test_no_resolver.c: the hosts that can be listened on where the resolver is left out
 * (-DWS_NO_RESOLVER): addresses and localhost. E2.
 */
#include "resolve.h"
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>

static struct ws__host_addresses found;

static const char *text(uint32_t i)
{
    static char at[INET6_ADDRSTRLEN];
    const union ws__host_address *a = &found.all[i];
    const void *bytes = a->any.sa_family == AF_INET6 ? (const void *)&a->v6.sin6_addr
                                                     : (const void *)&a->v4.sin_addr;
    return inet_ntop(a->any.sa_family, bytes, at, sizeof at) ? at : "none";
}

static void is_address(const char *host)
{
    is_int(ws__resolve(host, &found), 0, "E2: %s is an address", host);
    ok(found.count == 1 && !found.all[0].v4.sin_port, "one, without a port");
    is_text(text(0), host, "that one");
}

static void test_addresses(void)
{
    is_address("127.0.0.1");
    is_address("0.0.0.0");
    is_address("255.1.2.3");
    is_address("::");
    is_address("::1");
    is_address("2001:db8::17");
}

static void test_localhost(void)
{
    is_int(ws__resolve("LocalHost", &found), 0, "E2, RFC 6761 6.3: localhost needs no resolver");
    is_int(found.count, 2, "and has two addresses");
    is_text(text(0), "::1", "IPv6");
    is_text(text(1), "127.0.0.1", "IPv4");
}

static void test_names(void)
{
    static const char *const names[] = {"",          "a",          "example.org", "127.0.0.256",
                                        "127.0.0",   "127.0.0.1 ", "::1%lo",      "[::1]",
                                        "localhos",  "localhost.", "1.2.3.4:5",   "2130706433"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        errno = 0;
        is_int(ws__resolve(names[i], &found), -1, "\"%s\" is none", names[i]);
        is_int(errno, ENOENT, "ENOENT");
    }
}

static void cases(void)
{
    CASE(test_addresses());
    CASE(test_localhost());
    CASE(test_names());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
