/*
 * test_listen.c: where a server listens: names with several addresses, files of Unix sockets that
 * other processes replace, sockets of the caller, and an accept that fails. The resolver and some
 * system calls are those of this file, so that the machine needs neither IPv6 nor /etc/hosts.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static struct harness h;
static ws_listen_options options;

/* ---- what takes the place of the kernel and the resolver ---- */

static struct {
    const char *name; /* resolves to `addresses` */
    const char *addresses[40];
    struct addrinfo nodes[40];
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sockaddrs[40];
    bool no_ipv6;
    const char *taken;   /* bind to this address fails with bind_error ... */
    int bind_error;
    int bind_failures;   /* ... so many times */
    int binds;
    void (*on_refused)(void); /* a connect was refused */
    void (*before_listen)(void);
    int listens;
    int accept_errors[2]; /* errno of accept4 for these ... */
    int failing_fds[2];   /* ... descriptors */
    int accepts;          /* calls that failed so */
    int epoll_errors;     /* so many calls of epoll_ctl succeed, then none; -1: all do */
    bool unlink_fails;
} fake;

static void reset_fake(void)
{
    memset(&fake, 0, sizeof fake);
    fake.failing_fds[0] = fake.failing_fds[1] = fake.epoll_errors = -1;
}

static bool parse(const char *text, int i)
{
    memset(&fake.sockaddrs[i], 0, sizeof fake.sockaddrs[i]);
    bool v6 = strchr(text, ':') != NULL;
    fake.sockaddrs[i].any.sa_family = v6 ? AF_INET6 : AF_INET;
    fake.nodes[i] = (struct addrinfo){
        .ai_family = v6 ? AF_INET6 : AF_INET,
        .ai_socktype = SOCK_STREAM,
        .ai_addrlen = v6 ? sizeof fake.sockaddrs[i].v6 : sizeof fake.sockaddrs[i].v4,
        .ai_addr = &fake.sockaddrs[i].any,
    };
    return inet_pton(v6 ? AF_INET6 : AF_INET, text,
                     v6 ? (void *)&fake.sockaddrs[i].v6.sin6_addr
                        : (void *)&fake.sockaddrs[i].v4.sin_addr) == 1;
}

/* These take the place of the C library's. */
int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    (void)service, (void)hints;
    *found = fake.nodes;
    if (!fake.name || strcmp(node, fake.name))
        return parse(node, 0) ? 0 : EAI_NONAME;
    for (int i = 0; fake.addresses[i]; i++) {
        parse(fake.addresses[i], i);
        fake.nodes[i].ai_next = fake.addresses[i + 1] ? &fake.nodes[i + 1] : NULL;
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *found)
{
    (void)found;
}

int socket(int family, int type, int protocol)
{
    if (!fake.no_ipv6 || family != AF_INET6)
        return (int)syscall(SYS_socket, family, type, protocol);
    errno = EAFNOSUPPORT;
    return -1;
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    char text[INET6_ADDRSTRLEN] = "";
    const void *bytes = address->sa_family == AF_INET6
                            ? (const void *)((const char *)address +
                                             offsetof(struct sockaddr_in6, sin6_addr))
                            : (const char *)address + offsetof(struct sockaddr_in, sin_addr);
    fake.binds++;
    if (address->sa_family != AF_UNIX)
        inet_ntop(address->sa_family, bytes, text, sizeof text);
    if (!fake.taken || strcmp(text, fake.taken) || !fake.bind_failures)
        return (int)syscall(SYS_bind, fd, address, length);
    fake.bind_failures--;
    errno = fake.bind_error;
    return -1;
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    int result = (int)syscall(SYS_connect, fd, address, length);
    if (result && errno == ECONNREFUSED && fake.on_refused) {
        fake.on_refused();
        errno = ECONNREFUSED;
    }
    return result;
}

int listen(int fd, int backlog)
{
    fake.listens++;
    if (fake.before_listen)
        fake.before_listen();
    return (int)syscall(SYS_listen, fd, backlog);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    for (int i = 0; i < 2; i++)
        if (fd == fake.failing_fds[i] && fake.accept_errors[i]) {
            fake.accepts++;
            errno = fake.accept_errors[i];
            return -1;
        }
    return (int)syscall(SYS_accept4, fd, address, length, flags);
}

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (operation != EPOLL_CTL_DEL && fake.epoll_errors >= 0 && !fake.epoll_errors--) {
        fake.epoll_errors = 0;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

int unlink(const char *path)
{
    if (!fake.unlink_fails)
        return unlinkat(AT_FDCWD, path, 0);
    errno = EROFS;
    return -1;
}

/* ---- what the tests have in common ---- */

static void begin(void)
{
    reset_fake();
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/");
    ws_listen_options_init(&options, sizeof options);
}

static int lines_with(const char *text)
{
    int n = 0;
    for (const char *p = h.log; (p = strstr(p, text)); p++)
        n++;
    return n;
}

static int connect_to(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, host, &address.sin_addr);
    if (!connect(fd, (struct sockaddr *)&address, sizeof address))
        return fd;
    close(fd);
    return -1;
}

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int connect_path(const char *path)
{
    struct sockaddr_un address = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!connect(fd, (struct sockaddr *)&address, sizeof address))
        return fd;
    close(fd);
    return -1;
}

/* The server takes the connection; fd is closed. */
static bool is_accepted(int fd)
{
    uint64_t before = stats_of(&h).accepted;
    turns(&h, 3);
    bool accepted = fd >= 0 && stats_of(&h).accepted == before + 1;
    close(fd);
    turns(&h, 3);
    return accepted;
}

static bool answers(const char *host, int port)
{
    return is_accepted(connect_to(host, port));
}

static int rival = -1; /* a socket of another process */

static int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1000; fd++)
        n += fd != rival && fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void fails_with(int error, const char *name)
{
    int before = descriptors();
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "%s: WS_ESYSTEM", name);
    is_int(errno, error, "%s: its errno", name);
    is_int(descriptors(), before, "%s: nothing stays open", name);
}

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

static void test_all_addresses(void)
{
    begin();
    resolve_to("127.0.0.1", "127.0.0.2", "127.0.0.3");
    int port = ws_server_listen(h.server, &options);
    ok(port > 0, "port 0 of a name with three addresses");
    ok(answers("127.0.0.1", port) && answers("127.0.0.2", port) && answers("127.0.0.3", port),
       "the same port at all of them");
    ok(connect_to("127.0.0.4", port) < 0, "and at no other");
    resolve_to("127.0.0.4", "127.0.0.4", "127.0.0.5");
    options.port = (uint16_t)port;
    is_int(ws_server_listen(h.server, &options), port, "an address that the resolver finds twice");
    ok(answers("127.0.0.4", port) && answers("127.0.0.5", port), "is bound once");
    is_int(lines_with("listen"), 0, "nothing of that is logged");
    harness_stop(&h, "several addresses");
}

static void test_one_address_is_taken(void)
{
    begin();
    options.host = "127.0.0.2";
    int port = ws_server_listen(h.server, &options);
    char line[100];
    resolve_to("127.0.0.1", "127.0.0.2", "127.0.0.3");
    options.port = (uint16_t)port;
    fails_with(EADDRINUSE, "a port that is taken at the second address");
    ok(connect_to("127.0.0.1", port) < 0, "the first one is free again");
    snprintf(line, sizeof line, "cannot listen on 127.0.0.2:%d: ", port);
    ok(log_has(&h, line), "the log says which one it was");
    options.host = "127.0.0.2";
    fails_with(EADDRINUSE, "the same at a single address");
    is_int(lines_with("cannot listen"), 1, "needs no line");
    options.host = "several.example";
    options.port = 0;
    fake.taken = "127.0.0.3";
    fake.bind_error = EACCES;
    fake.bind_failures = 1;
    fails_with(EACCES, "an address where binding is not allowed");
    harness_stop(&h, "a taken address");
}

static void test_picked_port_is_taken(void)
{
    begin();
    resolve_to("127.0.0.1", "127.0.0.2", "127.0.0.3");
    fake.taken = "127.0.0.3";
    fake.bind_error = EADDRINUSE;
    fake.bind_failures = 5;
    int before = descriptors(), port = ws_server_listen(h.server, &options);
    ok(port > 0, "the port that the kernel picked is taken elsewhere: another one");
    is_int(descriptors(), before + 3, "nothing is left of the attempts");
    ok(answers("127.0.0.1", port) && answers("127.0.0.3", port), "served at all addresses");
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
    resolve_to("::1", "127.0.0.1", NULL);
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "without IPv6 the other addresses are served");
    ok(log_has(&h, "cannot listen on [::1]:0: "), "and the log names the one that is not");
    fake.taken = "127.0.0.2";
    fake.bind_error = EADDRNOTAVAIL;
    fake.bind_failures = 2;
    resolve_to("127.0.0.1", "127.0.0.2", NULL);
    port = ws_server_listen(h.server, &options);
    char line[100];
    snprintf(line, sizeof line, "cannot listen on 127.0.0.2:%d: ", port);
    ok(port > 0 && answers("127.0.0.1", port), "so it is with an address of another machine");
    ok(log_has(&h, line), "which the log names, too");
    resolve_to("127.0.0.2", "::1", NULL);
    fails_with(EADDRNOTAVAIL, "no address is this machine's");
    fake.bind_failures = 1;
    options.port = (uint16_t)port;
    resolve_to("127.0.0.2", "127.0.0.1", NULL);
    fails_with(EADDRINUSE, "one is missing, and one is taken");
    fake.bind_error = EINVAL;
    fake.bind_failures = 1;
    options.port = 0;
    resolve_to("127.0.0.1", "127.0.0.2", NULL);
    port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "and with one of a link that is not named");
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
        snprintf(texts[i], sizeof texts[i], "127.0.0.%d", i + 1);
        fake.addresses[i] = texts[i];
    }
    fake.addresses[36] = NULL;
    fails_with(E2BIG, "more addresses than a name may have");
    fake.addresses[32] = NULL;
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.32", port), "32 are served");
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    for (int i = 0; i < 40; i++)
        port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "the number of places has no limit");
    harness_stop(&h, "many addresses");
}

static void test_listening_fails_half_way(void)
{
    begin();
    resolve_to("127.0.0.1", "127.0.0.2", NULL);
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
    ok(answers("127.0.0.1", port) && answers("127.0.0.2", port), "later it goes");
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
    resolve_to("127.0.0.1", "127.0.0.2", NULL);
    fake.epoll_errors = 1;
    fails_with(ENOSPC, "callbacks that change errno, a name");
    fake.epoll_errors = -1;
    harness_stop(&h, "callbacks that change errno");
}

/* ---- files of Unix sockets ---- */

static char directory[] = "/tmp/pyws-XXXXXX";
static char path[64], other[64];
static struct harness successor;

static ws_server *listen_at(struct harness *server, const char *where)
{
    ws_listen_options_init(&options, sizeof options);
    options.path = where;
    harness_init(server);
    harness_create(server);
    int result = ws_server_listen(server->server, &options);
    ok(!result, "listen on a path");
    return server->server;
}

static bool exists(const char *where)
{
    struct stat status;
    return !lstat(where, &status);
}

static bool can_connect(void)
{
    int fd = connect_path(path);
    close(fd);
    return fd >= 0;
}

static void test_successor_after_rm(void)
{
    reset_fake();
    listen_at(&h, path);
    unlink(path);
    listen_at(&successor, path);
    harness_stop(&h, "rm and start of a successor");
    ok(can_connect(), "the successor's socket stays when the first server is freed");
    listen_at(&h, other);
    ws_server_shutdown(successor.server, 1001, NULL, 0, 0);
    ok(!exists(path), "and is removed when the successor shuts down");
    harness_stop(&successor, "a successor");
    harness_stop(&h, "another path");
}

static void test_successor_by_rename(void)
{
    reset_fake();
    listen_at(&h, path);
    listen_at(&successor, other);
    ok(!rename(other, path), "a successor's socket is renamed over the path");
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
    ok(can_connect(), "it stays when the first server shuts down");
    harness_stop(&h, "rename over the path");
    harness_stop(&successor, "a successor whose socket was renamed");
    ok(exists(path), "the successor does not know of that name");
    listen_at(&h, path);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    harness_stop(&h, "data in the place of the socket");
    ok(exists(path), "data stays, too");
    unlink(path);
}

/* Another process begins to listen at the path. */
static void let_rival_listen(void)
{
    fake.on_refused = fake.before_listen = NULL;
    struct sockaddr_un address = unix_address(path);
    unlink(path);
    rival = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(!bind(rival, (struct sockaddr *)&address, sizeof address) && !listen(rival, 1),
       "another process listens in between");
}

static void end_rival(void)
{
    close(rival);
    rival = -1;
    unlink(path);
}

static void test_two_begin_at_once(void)
{
    begin();
    options.path = path;
    fake.before_listen = let_rival_listen;
    fails_with(EADDRINUSE, "the file was replaced before listen");
    ok(can_connect(), "the other one's stays");
    end_rival();
    struct sockaddr_un address = unix_address(path);
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bind(stale, (struct sockaddr *)&address, sizeof address);
    close(stale);
    fake.on_refused = let_rival_listen;
    fails_with(EADDRINUSE, "a stale file was replaced before it was removed");
    ok(can_connect(), "the other one's stays");
    end_rival();
    is_int(ws_server_listen(h.server, &options), 0, "the path is free again");
    fake.unlink_fails = true;
    harness_stop(&h, "two at once");
    ok(log_has(&h, path) && log_has(&h, strerror(EROFS)), "a file that stays behind is logged");
    fake.unlink_fails = false;
    unlink(path);
}

/* ---- the end of listening at one place ---- */

static void test_unlisten(void)
{
    begin();
    ok(!ws_server_unlisten(h.server), "a server that listens nowhere");
    options.host = "127.0.0.1";
    int before = descriptors(), port = ws_server_listen(h.server, &options);
    resolve_to("127.0.0.2", "127.0.0.3", NULL);
    int second = ws_server_listen(h.server, &options);
    int client = connect_to("127.0.0.3", second);
    turns(&h, 2);
    ok(ws_server_unlisten(h.server), "the last place");
    ok(connect_to("127.0.0.2", second) < 0 && connect_to("127.0.0.3", second) < 0,
       "is left at all of its addresses");
    char byte;
    ok(recv(client, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN, "what was accepted there stays");
    close(client);
    ok(answers("127.0.0.1", port), "the place before stays");
    options.host = NULL;
    options.path = path;
    is_int(ws_server_listen(h.server, &options), 0, "a Unix socket");
    ok(exists(path), "has a file");
    ok(ws_server_unlisten(h.server) && !exists(path), "and the file goes with it");
    ok(ws_server_unlisten(h.server) && connect_to("127.0.0.1", port) < 0, "the first place");
    ok(!ws_server_unlisten(h.server), "then there is none");
    turns(&h, 3);
    is_int(descriptors(), before, "no descriptor stays");
    options.path = NULL;
    resolve_to("127.0.0.2", NULL, NULL);
    port = ws_server_listen(h.server, &options);
    ok(answers("127.0.0.2", port), "it may listen again");
    harness_stop(&h, "unlisten");
}

/* ---- sockets of the caller ---- */

static void refuses(int fd, int error, const char *name)
{
    options.fd = fd;
    fails_with(error, name);
    ok(fcntl(fd, F_GETFD) >= 0, "%s: stays the caller's", name);
    close(fd);
}

static int bound(int type)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    bind(fd, (struct sockaddr *)&address, sizeof address);
    return fd;
}

static void test_sockets_that_cannot_accept(void)
{
    int pair[2];
    begin();
    refuses(bound(SOCK_DGRAM), ESOCKTNOSUPPORT, "a UDP socket");
    refuses(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), ESOCKTNOSUPPORT, "SOCK_SEQPACKET");
    refuses(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), EDESTADDRREQ, "an unbound TCP socket");
    refuses(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), EDESTADDRREQ, "an unbound Unix socket");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return;
    refuses(pair[0], EISCONN, "one of a pair");
    close(pair[1]);
    refuses(open("/dev/null", O_RDWR | O_CLOEXEC), ENOTSOCK, "no socket");
    options.fd = -1;
    options.host = "127.0.0.1";
    int port = ws_server_listen(h.server, &options);
    refuses(connect_to("127.0.0.1", port), EISCONN, "a TCP connection");
    harness_stop(&h, "sockets that cannot accept");
}

static void test_sockets_that_can_accept(void)
{
    struct sockaddr_un address = unix_address(path);
    begin();
    options.fd = bound(SOCK_STREAM);
    int port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "a bound TCP socket is listened on");
    options.fd = bound(SOCK_STREAM);
    listen(options.fd, 1);
    fake.listens = 0;
    port = ws_server_listen(h.server, &options);
    ok(port > 0 && answers("127.0.0.1", port), "one that listens is served");
    is_int(fake.listens, 0, "and keeps its backlog");
    for (int listens = 0; listens <= 1; listens++) {
        options.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bind(options.fd, (struct sockaddr *)&address, sizeof address);
        if (listens)
            listen(options.fd, 1);
        is_int(ws_server_listen(h.server, &options), 0, "a Unix socket that was given");
        ok(is_accepted(connect_path(path)), "is served");
        ws_server_shutdown(h.server, 1001, NULL, 0, 0);
        turns(&h, 2);
        ok(exists(path), "its file is the caller's");
        unlink(path);
    }
    harness_stop(&h, "sockets that can accept");
}

/* ---- an accept that fails ---- */

static bool loop_sleeps(void)
{
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    turns(&h, 3); /* also sees to wake-ups that are under way */
    return poll(&ready, 1, 0) == 0;
}

/* The newest descriptor of the server: that of the listener. */
static int listen_and_find(const char *host, int *port)
{
    int last = -1;
    options.host = host;
    *port = ws_server_listen(h.server, &options);
    for (int fd = 0; fd < 1000; fd++) {
        struct sockaddr_in address = {0};
        socklen_t length = sizeof address;
        if (!getsockname(fd, (struct sockaddr *)&address, &length) &&
            address.sin_family == AF_INET && ntohs(address.sin_port) == *port)
            last = fd;
    }
    return last;
}

static void test_accept_fails(int error, const char *name)
{
    int port, healthy;
    char line[100];
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &port);
    listen_and_find("127.0.0.2", &healthy);
    snprintf(line, sizeof line, "accept on 127.0.0.1:%d: ", port);
    for (int time = 1; time <= 2; time++) {
        fake.accept_errors[0] = error;
        fake.accepts = 0;
        int client = connect_to("127.0.0.1", port);
        ok(loop_sleeps(), "T80: %s: the loop does not spin", name);
        is_int(fake.accepts, 1, "%s: accept is not called again at once", name);
        ok(answers("127.0.0.2", healthy), "T80: %s: the other listener goes on", name);
        for (int i = 0; i < 10; i++)
            advance(&h, 100);
        ok(fake.accepts >= 5 && fake.accepts <= 11, "%s: tried again every 100 ms: %d", name,
           fake.accepts);
        is_int(lines_with(line), time, "T80, T89: %s: logged once, until it works again",
               name);
        uint64_t before = stats_of(&h).accepted;
        fake.accept_errors[0] = 0;
        advance(&h, 100);
        is_int((long long)(stats_of(&h).accepted - before), 1, "T80: %s: then it is accepted",
               name);
        close(client);
        turns(&h, 3);
    }
    ok(log_has(&h, strerror(error)) || error == EMFILE || error == ENOMEM, "%s: with its reason",
       name);
    harness_stop(&h, name);
}

static void test_two_listeners_fail(void)
{
    int one, two;
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &one);
    fake.failing_fds[1] = listen_and_find("127.0.0.2", &two);
    fake.accept_errors[0] = fake.accept_errors[1] = EPERM;
    int first = connect_to("127.0.0.1", one), second = connect_to("127.0.0.2", two);
    for (int i = 0; i < 10; i++)
        advance(&h, 100);
    is_int(lines_with("accept on"), 2, "two listeners that fail: a line of each");
    fake.accept_errors[1] = 0;
    uint64_t before = stats_of(&h).accepted;
    advance(&h, 100);
    is_int((long long)(stats_of(&h).accepted - before), 1, "each of them recovers by itself");
    close(first);
    close(second);
    ws_server_shutdown(h.server, 1001, NULL, 0, 0);
    for (int i = 0; i < 10; i++)
        advance(&h, 100);
    harness_stop(&h, "two listeners that fail");
}

/* Another process that has the socket, too, has shut it down: epoll reports a hang-up again and
 * again, whatever it was asked for. */
static void test_listener_is_shut_down(void)
{
    int port, fd;
    begin();
    fd = listen_and_find("127.0.0.1", &port);
    shutdown(fd, SHUT_RDWR);
    ok(loop_sleeps(), "a socket that no longer listens does not make the loop spin");
    is_int(lines_with("accept on"), 1, "and is logged");
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    listen(fd, 10);
    getsockname(fd, (struct sockaddr *)&address, &length);
    advance(&h, 100);
    ok(is_accepted(connect_to("127.0.0.1", ntohs(address.sin_port))), "listening again, it is served");
    harness_stop(&h, "a listener that was shut down");
}

static void test_watching_again_fails(void)
{
    int port;
    begin();
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &port);
    fake.accept_errors[0] = EMFILE;
    int client = connect_to("127.0.0.1", port);
    turns(&h, 2);
    fake.accept_errors[0] = 0;
    fake.epoll_errors = 0;
    for (int i = 0; i < 5; i++)
        advance(&h, 100);
    is_int((long long)stats_of(&h).accepted, 0, "a paused listener cannot be watched again");
    fake.epoll_errors = -1;
    for (int i = 0; i < 2; i++)
        advance(&h, 100);
    is_int((long long)stats_of(&h).accepted, 1, "that is tried until it can");
    close(client);
    harness_stop(&h, "watching again");
}

static void test_connections_cannot_be_watched(void)
{
    int port;
    begin();
    listen_and_find("127.0.0.1", &port);
    for (int time = 1; time <= 2; time++) {
        fake.epoll_errors = 0;
        for (int i = 0; i < 5; i++)
            answers("127.0.0.1", port);
        is_int((long long)stats_of(&h).refused, 5 * time, "connections that cannot be watched");
        is_int(lines_with("connections are refused"), time, "are refused, which is logged once");
        fake.epoll_errors = -1;
        ok(answers("127.0.0.1", port), "later they can");
    }
    harness_stop(&h, "connections that cannot be watched");
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
    fake.failing_fds[0] = listen_and_find("127.0.0.1", &port);
    listen_and_find("127.0.0.2", &port);
    fake.accept_errors[0] = EPERM;
    int client = connect_to("127.0.0.1", port);
    close(client);
    turns(&h, 5);
    harness_stop(&h, "a log callback that closes the listeners");
}

static void cases(void)
{
    CASE(test_unlisten());
    CASE(test_all_addresses());
    CASE(test_one_address_is_taken());
    CASE(test_picked_port_is_taken());
    CASE(test_missing_addresses());
    CASE(test_localhost());
    CASE(test_too_many_addresses());
    CASE(test_listening_fails_half_way());
    CASE(test_errno_is_kept());
    CASE(test_successor_after_rm());
    CASE(test_successor_by_rename());
    CASE(test_two_begin_at_once());
    CASE(test_sockets_that_cannot_accept());
    CASE(test_sockets_that_can_accept());
    CASE(test_accept_fails(EPERM, "EPERM of a security module"));
    CASE(test_accept_fails(EINVAL, "EINVAL"));
    CASE(test_accept_fails(EPROTO, "EPROTO"));
    CASE(test_accept_fails(EMFILE, "EMFILE"));
    CASE(test_accept_fails(ENOMEM, "ENOMEM"));
    CASE(test_accept_fails(9999, "an errno that no one knows"));
    CASE(test_two_listeners_fail());
    CASE(test_listener_is_shut_down());
    CASE(test_watching_again_fails());
    CASE(test_connections_cannot_be_watched());
    CASE(test_log_callback_closes());
}

int main(int argc, char **argv)
{
    if (!mkdtemp(directory))
        return 2;
    snprintf(path, sizeof path, "%s/socket", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    int status = run_cases(argc, argv, cases);
    rmdir(directory);
    return status;
}
