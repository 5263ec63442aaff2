/* SPDX-License-Identifier: MIT */
/*
 * net.c: TCP and Unix sockets. Knows nothing of WebSocket. Every descriptor is non-blocking and
 * close-on-exec. No caller ever sees EINTR.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif

#include "net.h"

#include "resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* glibc 2.17 does not define this option. A kernel that does not know it returns an error. */
#ifndef TCP_NOTSENT_LOWAT
#define TCP_NOTSENT_LOWAT 25
#endif

union address {
    struct sockaddr any;
    union ws__host_address host;
    struct sockaddr_un unix_path;
};

__attribute__((noinline)) static int set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Closes fd, keeps errno, and returns -1. */
static int close_failed(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Also for the address of a Unix socket, of which only the family is read. */
static void set_address(struct ws__address *out, const union ws__host_address *in)
{
    memset(out, 0, sizeof *out);
    if (in->any.sa_family == AF_INET) {
        ws__net_set_address(out, &in->v4.sin_addr, 4);
        out->port = ntohs(in->v4.sin_port);
    } else if (in->any.sa_family == AF_INET6) {
        ws__net_set_address(out, &in->v6.sin6_addr, 16);
        out->port = ntohs(in->v6.sin6_port);
    }
}

/* ---- listening ---- */

/* Adds a listening descriptor, which then belongs to *endpoints. Returns 0, or -1 with errno; the
 * descriptor then still belongs to the caller. */
static int add_endpoint(struct ws__endpoints *endpoints, int fd)
{
    union address a;
    socklen_t length = sizeof a;
    struct ws__endpoint *e = &endpoints->all[endpoints->count];
    memset(&a, 0, sizeof a);
    if (getsockname(fd, &a.any, &length))
        return -1;
    e->fd = fd;
    e->error = 0;
    set_address(&e->address, &a.host);
    endpoints->count++;
    return 0;
}

static int add_or_close(struct ws__endpoints *endpoints, int fd)
{
    return fd < 0 || !add_endpoint(endpoints, fd) ? fd : close_failed(fd);
}

/* Linux would cut a name that is too long, and take none for any interface. Returns 0 or -1. */
static int bind_device(int fd, const char *device)
{
    const size_t length = strlen(device);
    errno = ENODEV;
    return length && length < IFNAMSIZ
               ? setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)length)
               : -1;
}

/* Returns a listening socket, or -1 with errno. Accepted sockets inherit TCP_NODELAY. A failure to
 * set SO_REUSEADDR or TCP_NODELAY is ignored: bind() may then fail, or small messages are slower.
 * Without the other options, the socket would not be what the caller asked for. */
static int bind_tcp(const union ws__host_address *a, const ws_listen_options *options)
{
    bool v6 = a->any.sa_family == AF_INET6;
    int fd = new_socket(a->any.sa_family);
    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if ((options->reuse_port && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) ||
        (options->device && bind_device(fd, options->device)) ||
        (v6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, options->host != NULL)) ||
        bind(fd, &a->any, v6 ? sizeof a->v6 : sizeof a->v4) || listen(fd, options->backlog))
        return close_failed(fd);
    return fd;
}

/* Returns true if the machine does not have the address. EINVAL and ENODEV mean a link-local
 * address whose link is missing or wrong. */
static bool is_missing(int error)
{
    return error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == EINVAL || error == ENODEV;
}

static void set_port(union ws__host_address *a, uint16_t port)
{
    if (a->any.sa_family == AF_INET6)
        a->v6.sin6_port = htons(port);
    else
        a->v4.sin_port = htons(port);
}

static int listen_any(const ws_listen_options *options, struct ws__endpoints *endpoints)
{
    union ws__host_address a;
    memset(&a, 0, sizeof a);
    a.any.sa_family = AF_INET6;
    set_port(&a, options->port);
    int fd = bind_tcp(&a, options);
    if (fd < 0 && is_missing(errno)) { /* a machine without IPv6 */
        memset(&a, 0, sizeof a);
        a.any.sa_family = AF_INET;
        set_port(&a, options->port);
        fd = bind_tcp(&a, options);
    }
    return add_or_close(endpoints, fd);
}

static int close_endpoints(struct ws__endpoints *endpoints)
{
    int error = errno;
    for (uint32_t i = 0; i < endpoints->count; i++)
        if (endpoints->all[i].fd >= 0)
            close(endpoints->all[i].fd);
    errno = error;
    return -1;
}

/* Listens on all addresses. If *port is 0, the kernel picks one for the first address, and the
 * others get the same. */
static int listen_all(struct ws__host_addresses *addresses, uint16_t *port,
                      const ws_listen_options *options, struct ws__endpoints *endpoints)
{
    int missing = 0;
    bool any = false;
    endpoints->count = 0;
    for (uint32_t i = 0; i < addresses->count; i++) {
        union ws__host_address *a = &addresses->all[i];
        set_port(a, *port);
        if (add_or_close(endpoints, bind_tcp(a, options)) >= 0) {
            *port = endpoints->all[endpoints->count - 1].address.port;
            any = true;
            continue;
        }
        struct ws__endpoint *failed = &endpoints->all[endpoints->count++];
        failed->fd = -1;
        failed->error = errno;
        set_address(&failed->address, a);
        if (!is_missing(errno))
            return close_endpoints(endpoints);
        if (!missing)
            missing = errno;
    }
    errno = missing;
    return any ? 0 : -1;
}

/* A port that the kernel picked for the first address may be in use on another one. Then another
 * port is tried. */
__attribute__((cold)) static int listen_host(const ws_listen_options *options,
                                             struct ws__endpoints *endpoints)
{
    enum { ATTEMPTS = 16 };
    struct ws__host_addresses addresses;
    if (ws__resolve(options->host, &addresses))
        return -1;
    for (int i = 1;; i++) {
        uint16_t port = options->port;
        if (!listen_all(&addresses, &port, options, endpoints))
            return 0;
        bool unlucky = errno == EADDRINUSE && port != options->port;
        if (!unlucky || i == ATTEMPTS)
            return -1;
    }
}

/* ---- Unix sockets ---- */

static struct ws__file file_of(const struct stat *status)
{
    return (struct ws__file){(uint64_t)status->st_dev, (uint64_t)status->st_ino};
}

/* Returns true if the path leads to this very file. Otherwise sets errno, to 0 if it leads to
 * another file. */
static bool leads_to(const char *path, const struct ws__file *file)
{
    struct stat status;
    if (lstat(path, &status))
        return false;
    struct ws__file now = file_of(&status);
    errno = 0;
    return ws__net_same_file(&now, file);
}

/* Returns true if no process listens on the socket file. */
static bool refuses(const union address *a)
{
    int fd = new_socket(AF_UNIX);
    bool refused = fd >= 0 && connect(fd, &a->any, sizeof a->unix_path) && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return refused;
}

/* Removes a socket file on which no process listens: one that died has left it. Files of other
 * kinds refuse a connection as well, but are data of someone. While the file is open, a file that
 * another process puts in its place cannot have the same inode number. */
static bool remove_stale(const union address *a)
{
    const char *path = a->unix_path.sun_path;
    struct stat status;
    int pin = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (pin < 0)
        return false;
    bool removed = false;
    if (!fstat(pin, &status) && S_ISSOCK(status.st_mode) && refuses(a)) {
        struct ws__file file = file_of(&status);
        removed = leads_to(path, &file) && !unlink(path);
    }
    close(pin);
    return removed;
}

static int bind_path(int fd, const union address *a)
{
    int result = bind(fd, &a->any, sizeof a->unix_path);
    if (!result || errno != EADDRINUSE)
        return result;
    if (remove_stale(a))
        return bind(fd, &a->any, sizeof a->unix_path);
    errno = EADDRINUSE;
    return -1;
}

/* Listens on the Unix socket fd. Until listen() is called, its file looks like a stale one, so
 * another process that started at the same time may have removed it. */
static int listen_at(int fd, const ws_listen_options *options, struct ws__endpoints *endpoints)
{
    const char *path = options->path;
    struct stat status;
    if (lstat(path, &status))
        return -1;
    endpoints->file = file_of(&status);
    if (!chmod(path, (mode_t)options->mode) && !listen(fd, options->backlog)) {
        if (leads_to(path, &endpoints->file) && !add_endpoint(endpoints, fd))
            return fd;
        errno = EADDRINUSE;
    }
    int error = errno;
    ws__net_unlink(path, &endpoints->file);
    errno = error;
    return -1;
}

__attribute__((cold)) static int listen_path(const ws_listen_options *options,
                                             struct ws__endpoints *endpoints)
{
    union address a;
    memset(&a, 0, sizeof a);
    a.unix_path.sun_family = AF_UNIX;
    if (strlen(options->path) >= sizeof a.unix_path.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(a.unix_path.sun_path, options->path, strlen(options->path));
    int fd = new_socket(AF_UNIX);
    if (fd < 0)
        return -1;
    if (bind_path(fd, &a) || listen_at(fd, options, endpoints) < 0)
        return close_failed(fd);
    return fd;
}

/* ---- sockets of the caller ---- */

static int option_of(int fd, int option)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &length) ? -1 : value;
}

static bool is_of_type(int fd, int wanted)
{
    const int type = option_of(fd, SO_TYPE);
    if (type >= 0 && type != wanted)
        errno = ESOCKTNOSUPPORT;
    return type == wanted;
}

/* TCP_NODELAY fails on a Unix socket, which has no delay. */
static bool make_ours(int fd)
{
    const int flags = fcntl(fd, F_GETFL);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK) &&
           !fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static bool is_bound(int fd)
{
    union address a;
    struct ws__address address;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, &a.any, &length))
        return false;
    set_address(&address, &a.host);
    return address.length ? address.port != 0 : length > sizeof a.any.sa_family;
}

/* Listens on a socket of the caller. One that is not bound is refused, because listen() would bind
 * it to a random port. */
static int listen_given(int fd, int backlog)
{
    union address a;
    socklen_t length = sizeof a;
    if (!is_of_type(fd, SOCK_STREAM))
        return -1;
    if (option_of(fd, SO_ACCEPTCONN) > 0)
        return 0;
    if (!getpeername(fd, &a.any, &length)) {
        errno = EISCONN;
        return -1;
    }
    if (!is_bound(fd)) {
        errno = EDESTADDRREQ;
        return -1;
    }
    return listen(fd, backlog);
}

/* Takes over a socket of the caller. Returns 0, or -1 with errno; the socket then still belongs to
 * the caller. */
static int adopt(const ws_listen_options *options, struct ws__endpoints *endpoints)
{
    int fd = options->fd;
    if (listen_given(fd, options->backlog) || !make_ours(fd))
        return -1;
    return add_endpoint(endpoints, fd);
}

__attribute__((cold)) int
ws__net_listen(const ws_listen_options *options, struct ws__endpoints *endpoints)
{
    endpoints->count = 0;
    endpoints->file = (struct ws__file){0, 0};
    int result = options->fd >= 0 ? adopt(options, endpoints)
                 : options->path  ? listen_path(options, endpoints)
                 : options->host  ? listen_host(options, endpoints)
                                  : listen_any(options, endpoints);
    return result < 0 ? WS_ESYSTEM : WS_OK;
}

__attribute__((cold)) int ws__net_unlink(const char *path, const struct ws__file *file)
{
    bool gone = leads_to(path, file) ? !unlink(path) : !errno;
    return gone || errno == ENOENT || errno == ENOTDIR ? WS_OK : WS_ESYSTEM;
}

bool ws__net_file_of(int fd, struct ws__file *file)
{
    struct stat status;
    if (fstat(fd, &status))
        return false;
    *file = file_of(&status);
    return true;
}

bool ws__net_same_file(const struct ws__file *a, const struct ws__file *b)
{
    return a->device == b->device && a->inode == b->inode;
}

/* ---- connections ---- */

__attribute__((cold)) bool ws__net_take(int fd, struct ws__address *peer)
{
    union address a;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    if (!is_of_type(fd, SOCK_STREAM) || getpeername(fd, &a.any, &length) || !make_ours(fd))
        return false;
    set_address(peer, &a.host);
    return true;
}

__attribute__((cold)) int ws__net_accept(int listen_fd, struct ws__address *peer)
{
    union address a;
    socklen_t length = sizeof a;
    int fd;
    memset(&a, 0, sizeof a);
    do
        fd = accept4(listen_fd, &a.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0) {
        set_address(peer, &a.host);
        return fd;
    }
    switch (errno) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
    case ECONNABORTED: /* the connection ended while it was in the backlog */
        return WS__NET_AGAIN;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return WS__NET_EXHAUSTED;
    default:
        return WS__NET_ERROR;
    }
}

static ssize_t result_of(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? WS__NET_AGAIN
                                                                        : WS__NET_ERROR;
}

ssize_t ws__net_read(int fd, void *bytes, size_t n)
{
    ssize_t got;
    do
        got = recv(fd, bytes, n, 0);
    while (got < 0 && errno == EINTR);
    return result_of(got);
}

ssize_t ws__net_write(int fd, const void *bytes, size_t n)
{
    ssize_t sent;
    do
        sent = send(fd, bytes, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return result_of(sent);
}

ssize_t ws__net_writev(int fd, const struct iovec *parts, int count)
{
    struct msghdr message;
    ssize_t sent;
    memset(&message, 0, sizeof message);
    message.msg_iov = (struct iovec *)parts; /* sendmsg only reads them */
    message.msg_iovlen = (__typeof__(message.msg_iovlen))count; /* size_t, and int in musl */
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return result_of(sent);
}

bool ws__net_has_input(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void ws__net_finish(int fd)
{
    shutdown(fd, SHUT_WR);
}

void ws__net_end_input(int fd)
{
    shutdown(fd, SHUT_RD);
}

/* tcp(7) calls TIOCOUTQ SIOCOUTQ. For a Unix socket it counts what the peer has not read. */
bool ws__net_unacknowledged(int fd)
{
    int bytes = 0;
    return !ioctl(fd, TIOCOUTQ, &bytes) && bytes > 0;
}

void ws__net_cut(int fd)
{
    shutdown(fd, SHUT_RDWR);
}

void ws__net_close(int fd)
{
    close(fd);
}

void ws__net_drain(int fd)
{
    char bytes[64];
    ssize_t n;
    do
        n = read(fd, bytes, sizeof bytes);
    while (n > 0 || (n < 0 && errno == EINTR));
}

void ws__net_limit_unsent(int fd, int bytes)
{
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, bytes);
}

__attribute__((cold)) bool ws__net_prepare_datagrams(int fd)
{
    enum { ROOM = 4 * 1024 * 1024 };
    if (!is_of_type(fd, SOCK_DGRAM))
        return false;
    if (set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, ROOM)) /* needs a privilege */
        set_option(fd, SOL_SOCKET, SO_SNDBUF, ROOM);
    return make_ours(fd);
}

__attribute__((noinline, cold)) void
ws__net_set_address(struct ws__address *address, const void *bytes, size_t length)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const size_t skipped = length == 16 && !memcmp(bytes, mapped, 12) ? 12 : 0;
    memset(address, 0, sizeof *address);
    address->length = (uint8_t)(length - skipped);
    memcpy(address->bytes, (const char *)bytes + skipped, address->length);
}

__attribute__((cold)) bool
ws__net_parse_address(const char *text, size_t length, struct ws__address *address)
{
    const bool v6 = memchr(text, ':', length);
    char copy[INET6_ADDRSTRLEN];
    uint8_t bytes[16];
    if (length >= sizeof copy || memchr(text, '\0', length))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (inet_pton(v6 ? AF_INET6 : AF_INET, copy, bytes) != 1)
        return false;
    ws__net_set_address(address, bytes, v6 ? 16 : 4);
    return true;
}

__attribute__((cold)) size_t
ws__net_address_text(const struct ws__address *address, char *text, size_t size)
{
    char full[INET6_ADDRSTRLEN] = "";
    if (address->length)
        inet_ntop(address->length == 4 ? AF_INET : AF_INET6, address->bytes, full, sizeof full);
    size_t length = strlen(full);
    if (!size)
        return length;
    size_t shown = length < size ? length : size - 1;
    memcpy(text, full, shown);
    text[shown] = '\0';
    return length;
}

__attribute__((cold)) void
ws__net_endpoint_text(const struct ws__address *address, char text[WS__NET_PLACE_SIZE])
{
    char host[INET6_ADDRSTRLEN];
    ws__net_address_text(address, host, sizeof host);
    snprintf(text, WS__NET_PLACE_SIZE, address->length == 4 ? "%s:%u" : "[%s]:%u", host,
             (unsigned)address->port);
}

__attribute__((cold)) void ws__net_place_text(int fd, char text[WS__NET_PLACE_SIZE])
{
    union address a;
    struct ws__address address;
    socklen_t length = sizeof a;
    memset(&a, 0, sizeof a);
    if (getsockname(fd, &a.any, &length)) {
        snprintf(text, WS__NET_PLACE_SIZE, "descriptor %d", fd);
        return;
    }
    set_address(&address, &a.host);
    if (address.length)
        ws__net_endpoint_text(&address, text);
    else /* an abstract name begins with NUL */
        snprintf(text, WS__NET_PLACE_SIZE, "%s%.107s", a.unix_path.sun_path[0] ? "" : "@",
                 a.unix_path.sun_path + !a.unix_path.sun_path[0]);
}
