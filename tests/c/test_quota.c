/* SPDX-License-Identifier: MIT */
/*
 * test_quota.c: how many connections an address may have, and how fast its handshakes may come.
 */
#include "quota.h"

#include "tap.h"

#include <stdlib.h>

static const uint64_t seed[2] = {1, 2}, second = 1000000000;
static struct ws__memory memory;
static struct ws__quota *quota;

static void start(uint32_t connections, uint32_t rate)
{
    ws_config config;
    ws_config_init(&config, sizeof config);
    config.max_connections_per_address = connections;
    config.max_handshakes_per_second_per_address = rate;
    ws__memory_init(&memory, NULL, 0);
    is_int(ws__quota_new(&quota, &memory, &config, seed), WS_OK, "new");
}

static void stop(void)
{
    ws__quota_free(quota);
    is_int((long long)memory.used, 0, "all memory is freed");
}

static struct ws__address address_of(const char *text)
{
    struct ws__address a = {.length = 0};
    if (*text)
        ws__net_parse_address(text, strlen(text), &a);
    return a;
}

static bool enter(const char *text)
{
    const struct ws__address a = address_of(text);
    return ws__quota_enter(quota, &a);
}

static void leave(const char *text)
{
    const struct ws__address a = address_of(text);
    ws__quota_leave(quota, &a);
}

static bool pace(const char *text, uint64_t now)
{
    const struct ws__address a = address_of(text);
    return ws__quota_pace(quota, &a, now);
}

static void test_none(void)
{
    start(0, 0);
    ok(!quota, "W6: without limits there is nothing");
    stop();
}

static void test_counts(void)
{
    start(2, 0);
    const size_t idle = memory.used;
    ok(enter("1.2.3.4") && enter("1.2.3.4"), "W6: two connections");
    ok(!enter("1.2.3.4"), "W6: not three");
    ok(enter("1.2.3.5") && enter(""), "W6: others are not affected");
    leave("1.2.3.4");
    ok(enter("1.2.3.4") && !enter("1.2.3.4"), "W6: one may come when one has gone");
    ok(enter("2001:db8::1") && enter("2001:db8::ffff:0:0:1"), "W6: two of a /64");
    ok(!enter("2001:db8::2"), "W6: which are all that it may have");
    ok(enter("2001:db8:0:1::1"), "W6: the next /64 is another one");
    ok(enter("::1") && enter("0.0.0.0") && enter("::"), "W6: short ones are not taken for another");
    ok(!enter("::2"), "W6: ::1 and :: are of one /64");
    static const char *const all[] = {"1.2.3.4", "1.2.3.4", "1.2.3.5", "", "2001:db8::1",
                                      "2001:db8::1", "2001:db8:0:1::1", "::", "::1", "0.0.0.0"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        leave(all[i]);
    is_int((long long)memory.used, (long long)idle, "W6: nothing is left of those that went");
    stop();
}

/* Against an array of counts. */
static void test_many_counts(void)
{
    enum { ADDRESSES = 3000 };
    static int counts[ADDRESSES];
    int wrong = 0;
    start(3, 0);
    const size_t idle = memory.used;
    srand(1);
    for (int i = 0; i < 100000; i++) {
        const int k = rand() % ADDRESSES;
        char text[32];
        snprintf(text, sizeof text, k % 2 ? "10.0.%d.%d" : "fd00:0:%d:%d::1", k / 200, k % 200);
        if (rand() % 2) {
            const bool may = enter(text);
            wrong += may != (counts[k] < 3);
            counts[k] += may;
        } else if (counts[k]) {
            counts[k]--;
            leave(text);
        }
    }
    is_int(wrong, 0, "W6: counts of 3,000 addresses");
    ok(memory.used < idle + ADDRESSES * 100, "W6: take less than 100 bytes each");
    memset(counts, 0, sizeof counts);
    stop();
}

static void test_pace(void)
{
    uint64_t now = 5 * second;
    start(0, 10);
    int n = 0;
    while (pace("1.2.3.4", now))
        n++;
    is_int(n, 10, "W6: as many at once as in a second");
    ok(!pace("1.2.3.4", now + second / 10 - 1), "W6: the next one comes too soon");
    ok(pace("1.2.3.4", now + second / 10), "W6: until its time has come");
    ok(pace("1.2.3.5", now), "W6: others are not affected");
    for (n = 0; n < 1000; n++, now += second / 10)
        if (!pace("::1", now))
            break;
    is_int(n, 1000, "W6: ten a second may go on");
    int allowed = 0;
    for (now += 2 * second, n = 0; n < 10000; n++, now += second / 1000)
        allowed += pace("1.2.3.4", now);
    ok(allowed >= 109 && allowed <= 110, "W6: of 1,000 a second, ten: %d", allowed);
    stop();
    start(0, 1000000);
    for (n = 0; pace("1.2.3.4", 1) && n < 2000000; n++)
        ;
    is_int(n, 1000000, "W6: the highest limit");
    stop();
}

static void test_many_paces(void)
{
    uint64_t now = second;
    int first = 0, second_time = 0;
    char text[32];
    start(0, 1);
    const size_t idle = memory.used;
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "127.0.%d.%d", i / 250, i % 250);
        first += pace(text, now);
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "127.0.%d.%d", i / 250, i % 250);
        second_time += pace(text, now);
    }
    is_int(first, 1000, "W6: 1,000 addresses, each its own");
    ok(second_time < 20, "W6: which are remembered: %d of them are not", second_time);
    for (int i = 0; i < 1000000; i++) {
        snprintf(text, sizeof text, "fd00:%x:%x::1", i >> 16, i & 0xffff);
        pace(text, now += 10);
    }
    is_int((long long)memory.used, (long long)idle, "W6: a million take no memory");
    stop();
}

static void test_lines(void)
{
    const struct ws__address a = address_of("1.2.3.4"), b = address_of("1.2.3.5");
    int n = 0;
    start(1, 0);
    for (uint64_t now = second; now < 181 * second; now += second / 2)
        n += ws__quota_may_log(quota, &a, now);
    is_int(n, 3, "W6: one line a minute");
    ok(ws__quota_may_log(quota, &b, 180 * second), "W6: for each address");
    stop();
}

static void *no_memory(void *context, void *ptr, size_t old_size, size_t size)
{
    int *left = context;
    (void)old_size;
    if (size && !(*left)--)
        return NULL;
    if (!size) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, size);
}

static void test_without_memory(void)
{
    for (int after = 0; after < 3; after++) {
        int left = after;
        const ws_allocator allocator = {no_memory, &left};
        ws_config config;
        ws_config_init(&config, sizeof config);
        config.max_connections_per_address = 2;
        ws__memory_init(&memory, &allocator, 0);
        const int error = ws__quota_new(&quota, &memory, &config, seed);
        is_int(error, after ? WS_OK : WS_ENOMEM, "allocation %d fails", after);
        if (!error) {
            ok(!enter("1.2.3.4"), "W6: what cannot be counted is refused");
            left = 100;
            ok(enter("1.2.3.4") && enter("1.2.3.4") && !enter("1.2.3.4"), "W6: later it counts");
            leave("1.2.3.4");
            leave("1.2.3.4");
        }
        ws__quota_free(quota);
        is_int((long long)memory.used, 0, "all memory is freed");
    }
}

static void cases(void)
{
    CASE(test_none());
    CASE(test_counts());
    CASE(test_many_counts());
    CASE(test_pace());
    CASE(test_many_paces());
    CASE(test_lines());
    CASE(test_without_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
