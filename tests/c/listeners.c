/* SPDX-License-Identifier: MIT */
/*
 * listeners.c: the resolver and the system calls that listeners.h describes.
 */
#include "listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct harness h;
ws_listen_options options;

/* ---- what takes the place of the kernel and the resolver ---- */

struct fake fake;

void reset_fake(void)
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

/* The linker leads calls of epoll_ctl here (--wrap), because in a static musl it comes with other
 * functions. */
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    if (operation != EPOLL_CTL_DEL && fake.epoll_errors >= 0 && !fake.epoll_errors--) {
        fake.epoll_errors = 0;
        errno = ENOSPC;
        return -1;
    }
    return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

int unlink(const char *name)
{
    if (!fake.unlink_fails)
        return unlinkat(AT_FDCWD, name, 0);
    errno = EROFS;
    return -1;
}

void begin(void)
{
    reset_fake();
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/");
    ws_listen_options_init(&options, sizeof options);
}

int lines_with(const char *text)
{
    int n = 0;
    for (const char *p = h.log; (p = strstr(p, text)); p++)
        n++;
    return n;
}

int connect_to(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, host, &address.sin_addr);
    if (!connect(fd, (struct sockaddr *)&address, sizeof address))
        return fd;
    close(fd);
    return -1;
}

struct sockaddr_un unix_address(const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", where);
    return address;
}

int connect_path(const char *where)
{
    struct sockaddr_un address = unix_address(where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!connect(fd, (struct sockaddr *)&address, sizeof address))
        return fd;
    close(fd);
    return -1;
}

bool is_accepted(int fd)
{
    uint64_t before = stats_of(&h).accepted;
    turns(&h, 3);
    bool accepted = fd >= 0 && stats_of(&h).accepted == before + 1;
    close(fd);
    turns(&h, 3);
    return accepted;
}

bool answers(const char *host, int port)
{
    return is_accepted(connect_to(host, port));
}

int rival = -1;

int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1000; fd++)
        n += fd != rival && fcntl(fd, F_GETFD) >= 0;
    return n;
}

void fails_with(int error, const char *name)
{
    int before = descriptors();
    is_int(ws_server_listen(h.server, &options), WS_ESYSTEM, "%s: WS_ESYSTEM", name);
    is_int(errno, error, "%s: its errno", name);
    is_int(descriptors(), before, "%s: nothing stays open", name);
}

static char directory[] = "/tmp/pyws-XXXXXX";
char path[64], other[64];

bool exists(const char *where)
{
    struct stat status;
    return !lstat(where, &status);
}

int listen_and_find(const char *host, int *port)
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

int run_listening(int argc, char **argv, void (*cases)(void))
{
    if (!mkdtemp(directory))
        return 2;
    snprintf(path, sizeof path, "%s/socket", directory);
    snprintf(other, sizeof other, "%s/other", directory);
    int status = run_cases(argc, argv, cases);
    rmdir(directory);
    return status;
}
