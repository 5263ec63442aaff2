/* SPDX-License-Identifier: MIT */
/*
 * test_listen.c: where a server listens: names with several addresses, ports that are taken,
 * missing families of addresses, an end of listening; and what stays open when it fails.
 */
#include "listeners.h"

#include <errno.h>
#include <net/if.h>
#include <strings.h>
#include <unistd.h>

/* ---- names with several addresses ---- */

static void resolve_to(const char *one, const char *two, const char *three)
{
    fake.name = "several.example";
    fake.addresses[0] = one;
    fake.addresses[1] = two;
    fake.addresses[2] = three;
    fake.addresses[3] = NULL;
    options.host = "several.example";
}

/* The addresses are not 127.0.0.x, where other tests use ports and leave them in TIME-WAIT. */
static void test_all_addresses(void)
{
    begin();
    resolve_to("127.0.1.1", "127.0.1.2", "127.0.1.3");
    int port = ws_server_listen(h.server, &options);
    ok(port > 0, "port 0 of a name with three addresses");
    ok(answers("127.0.1.1", port) && answers("127.0.1.2", port) && answers("127.0.1.3", port),
       "the same port at all of them");
    ok(connect_to("127.0.1.4", port) < 0, "and at no other");
    resolve_to("127.0.1.4", "127.0.1.4", "127.0.1.5");
    options.port = (uint16_t)port;
    is_int(ws_server_listen(h.server, &options), port, "an address that the resolver finds twice");
    ok(answers("127.0.1.4", port) && answers("127.0.1.5", port), "is bound once");
    is_int(lines_with("listen"), 0, "nothing of that is logged");
    harness_stop(&h, "several addresses");
}

static void test_one_address_is_taken(void)
{
    begin();
    options.host = "127.0.1.2";
    int port = ws_server_listen(h.server, &options);
    char line[100];
    resolve_to("127.0.1.1", "127.0.1.2", "127.0.1.3");
    options.port = (uint16_t)port;
    fails_with(EADDRINUSE, "a port that is taken at the second address");
    ok(connect_to("127.0.1.1", port) < 0, "the first one is free again");
    snprintf(line, sizeof line, "cannot listen on 127.0.1.2:%d: ", port);
    ok(log_has(&h, line), "the log says which one it was");
    options.host = "127.0.1.2";
    fails_with(EADDRINUSE, "the same at a single address");
    is_int(lines_with("cannot listen"), 1, "needs no line");
    options.host = "several.example";
    options.port = 0;
    fake.taken = "127.0.1.3";
    fake.bind_error = EACCES;
    fake.bind_failures = 1;
    fails_with(EACCES, "an address where binding is not allowed");
    harness_stop(&h, "a taken address");
}

static void test_picked_port_is_taken(void)
{
    begin();
    resolve_to("127.0.1.1", "127.0.1.2", "127.0.1.3");
    fake.taken = "127.0.1.3";
    fake.bind_error = EADDRINUSE;
    fake.bind_failures = 5;
    int before = descriptors(), port = ws_server_listen(h.server, &options);
    ok(port > 0, "the port that the kernel picked is taken elsewhere: another one");
    is_int(descriptors(), before + 3, "nothing is left of the attempts");
    ok(answers("127.0.1.1", port) && answers("127.0.1.3", port), "served at all addresses");
    is_int(lines_with("listen"), 0, "that is not worth a line");
    fake.binds = 0;
    fake.bind_failures = 1000000;
    fails_with(EADDRINUSE, "no port is free everywhere");
    ok(fake.binds >= 9 && fake.binds <= 100, "the attempts are few: %d binds", fake.binds);
    harness_stop(&h, "a picked port");
}

static void test_missing_addresses(void)
{
    begin();
    fake.no_ipv6 = true;
    resolve_to("::1", "127.0.1.1", NULL);
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.1.1", port), "without IPv6 the other addresses are served");
    ok(log_has(&h, "cannot listen on [::1]:0: "), "and the log names the one that is not");
    fake.taken = "127.0.1.2";
    fake.bind_error = EADDRNOTAVAIL;
    fake.bind_failures = 2;
    resolve_to("127.0.1.1", "127.0.1.2", NULL);
    port = ws_server_listen(h.server, &options);
    char line[100];
    snprintf(line, sizeof line, "cannot listen on 127.0.1.2:%d: ", port);
    ok(port > 0 && answers("127.0.1.1", port), "so it is with an address of another machine");
    ok(log_has(&h, line), "which the log names, too");
    resolve_to("127.0.1.2", "::1", NULL);
    fails_with(EADDRNOTAVAIL, "no address is this machine's");
    fake.bind_failures = 1;
    options.port = (uint16_t)port;
    resolve_to("127.0.1.2", "127.0.1.1", NULL);
    fails_with(EADDRINUSE, "one is missing, and one is taken");
    fake.bind_error = EINVAL;
    fake.bind_failures = 1;
    options.port = 0;
    resolve_to("127.0.1.1", "127.0.1.2", NULL);
    port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.1.1", port), "and with one of a link that is not named");
    harness_stop(&h, "missing addresses");
}

static void test_localhost(void)
{
    begin();
    options.host = "localhost";
    fake.no_ipv6 = true;
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "RFC 6761 6.3: localhost needs no resolver");
    options.host = "LocalHost.example";
    fails_with(ENOENT, "no other name does without");
    harness_stop(&h, "localhost");
}

static void test_too_many_addresses(void)
{
    static char texts[36][16];
    begin();
    resolve_to(NULL, NULL, NULL);
    for (int i = 0; i < 36; i++) {
        snprintf(texts[i], sizeof texts[i], "127.0.1.%d", i + 1);
        fake.addresses[i] = texts[i];
    }
    fake.addresses[36] = NULL;
    fails_with(E2BIG, "more addresses than a name may have");
    fake.addresses[32] = NULL;
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.1.32", port), "32 are served");
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.1.1";
    for (int i = 0; i < 40; i++)
        port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.1.1", port), "the number of places has no limit");
    harness_stop(&h, "many addresses");
}

static void test_listening_fails_half_way(void)
{
    begin();
    resolve_to("127.0.1.1", "127.0.1.2", NULL);
    fake.epoll_errors = 1;
    fails_with(ENOSPC, "T85: the second one cannot be watched");
    fake.epoll_errors = -1;
    turns(&h, 2);
    size_t blocks = h.memory.blocks;
    int before = descriptors();
    h.memory.fail_at = h.memory.calls + 1;
    is_int(ws_server_listen(h.server, &options), WS_ENOMEM, "T85: out of memory");
    is_int(descriptors(), before, "T85: nothing stays open");
    is_int((long long)h.memory.blocks, (long long)blocks, "T85: and nothing allocated");
    h.memory.fail_at = 0;
    int port = ws_server_listen(h.server, &options);
    ok(answers("127.0.1.1", port) && answers("127.0.1.2", port), "later it goes");
    harness_stop(&h, "half-way failures");
}

static ws_config counted; /* what the harness has */

static void *resize_without_errno(void *context, void *ptr, size_t old_size, size_t size)
{
    void *block = counted.allocator.resize(context, ptr, old_size, size);
    errno = 0;
    return block;
}

static void log_without_errno(void *user, int level, const char *line, size_t length)
{
    counted.log(user, level, line, length);
    errno = 0;
}

/* free() of old C libraries changes it as well. */
static void test_errno_is_kept(void)
{
    reset_fake();
    harness_init(&h);
    counted = h.config;
    h.config.allocator.resize = resize_without_errno;
    h.config.log = log_without_errno;
    fake.epoll_errors = 0;
    is_int(ws_server_new(&h.server, &h.config), WS_ESYSTEM, "ws_server_new fails");
    is_int(errno, ENOSPC, "callbacks that change errno, ws_server_new");
    is_int((long long)h.memory.blocks, 0, "and nothing stays allocated");
    fake.epoll_errors = -1;
    harness_create(&h);
    ws_listen_options_init(&options, sizeof options);
    options.path = "/nowhere/of/pyws";
    fails_with(ENOENT, "callbacks that change errno, a path");
    options.path = NULL;
    resolve_to("127.0.1.1", "127.0.1.2", NULL);
    fake.epoll_errors = 1;
    fails_with(ENOSPC, "callbacks that change errno, a name");
    fake.epoll_errors = -1;
    harness_stop(&h, "callbacks that change errno");
}

/* ---- the end of listening at one place ---- */

static void test_unlisten(void)
{
    begin();
    ok(!ws_server_unlisten(h.server), "a server that listens nowhere");
    options.host = "127.0.1.1";
    int before = descriptors(), port = ws_server_listen(h.server, &options);
    resolve_to("127.0.1.2", "127.0.1.3", NULL);
    int second = ws_server_listen(h.server, &options);
    int client = connect_to("127.0.1.3", second);
    turns(&h, 2);
    ok(ws_server_unlisten(h.server), "the last place");
    ok(connect_to("127.0.1.2", second) < 0 && connect_to("127.0.1.3", second) < 0,
       "is left at all of its addresses");
    char byte;
    ok(recv(client, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "what it accepted stays");
    close(client);
    ok(answers("127.0.1.1", port), "the place before stays");
    options.host = NULL;
    options.path = path;
    is_int(ws_server_listen(h.server, &options), 0, "a Unix socket");
    ok(exists(path), "has a file");
    ok(ws_server_unlisten(h.server) && !exists(path), "and the file goes with it");
    ok(ws_server_unlisten(h.server) && connect_to("127.0.1.1", port) < 0, "the first place");
    ok(!ws_server_unlisten(h.server), "then there is none");
    turns(&h, 3);
    is_int(descriptors(), before, "no descriptor stays");
    options.path = NULL;
    resolve_to("127.0.1.2", NULL, NULL);
    port = ws_server_listen(h.server, &options);
    ok(answers("127.0.1.2", port), "it may listen again");
    harness_stop(&h, "unlisten");
}

/* ---- log callbacks that open and close ---- */

static void close_all(void *user, int level, const char *line, size_t length)
{
    (void)user, (void)level, (void)line, (void)length;
    h.config.log = NULL;
    if (h.server)
        ws_server_shutdown(h.server, 1001, NULL, 0, 0);
}

static void test_log_callback_closes(void)
{
    int port;
    reset_fake();
    harness_init(&h);
    h.config.log = close_all;
    harness_create(&h);
    ws_listen_options_init(&options, sizeof options);
    fake.failing_fds[0] = listen_and_find("127.0.1.1", &port);
    listen_and_find("127.0.1.2", &port);
    fake.accept_errors[0] = EPERM;
    int client = connect_to("127.0.1.1", port);
    close(client);
    turns(&h, 5);
    harness_stop(&h, "a log callback that closes the listeners");
}

/* ---- one network interface ---- */

/* Of a machine without other ones, "". */
static const char *other_than_loopback(void)
{
    static char name[IF_NAMESIZE];
    struct if_nameindex *all = if_nameindex();
    for (int i = 0; all && all[i].if_name; i++)
        if (strcmp(all[i].if_name, "lo"))
            snprintf(name, sizeof name, "%s", all[i].if_name);
    if_freenameindex(all);
    return name;
}

static void test_device(void)
{
    begin();
    resolve_to("127.0.1.1", "127.0.1.2", NULL);
    options.device = "lo";
    int port = ws_server_listen(h.server, &options);
    ok(port > 0, "an interface");
    ok(answers("127.0.1.1", port) && answers("127.0.1.2", port), "what comes through it");
    options.host = NULL;
    port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.1.1", port), "at any address");
    options.device = other_than_loopback();
    if (*options.device) {
        port = ws_server_listen(h.server, &options);
        ok(port > 0, "another interface");
        ok(connect_to("127.0.1.1", port) < 0, "what comes through lo does not reach it");
    }
    harness_stop(&h, "a device");
}

static void test_wrong_device(void)
{
    static const char *const wrong[] = {"", "nosuchdevice", "lo-and-14-more-x", "lo lo"};
    begin();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.device = wrong[i];
        options.host = NULL;
        fails_with(ENODEV, wrong[i]);
        options.host = "127.0.1.1";
        fails_with(ENODEV, wrong[i]);
    }
    options.device = "lo";
    options.host = NULL;
    options.path = path;
    is_int(ws_server_listen(h.server, &options), WS_EINVAL, "a device of a Unix socket");
    ok(!exists(path), "which is not made");
    options.path = NULL;
    options.fd = 0;
    is_int(ws_server_listen(h.server, &options), WS_EINVAL, "or of a socket that is given");
    harness_stop(&h, "wrong devices");
}

static void cases(void)
{
    CASE(test_device());
    CASE(test_wrong_device());
    CASE(test_unlisten());
    CASE(test_all_addresses());
    CASE(test_one_address_is_taken());
    CASE(test_picked_port_is_taken());
    CASE(test_missing_addresses());
    CASE(test_localhost());
    CASE(test_too_many_addresses());
    CASE(test_listening_fails_half_way());
    CASE(test_errno_is_kept());
    CASE(test_log_callback_closes());
}

int main(int argc, char **argv)
{
    return run_listening(argc, argv, cases);
}
