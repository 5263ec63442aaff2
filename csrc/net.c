/*
 * net.c: TCP and Unix sockets. Knows nothing of WebSocket. Every descriptor is non-blocking and
 * close-on-exec; EINTR never leaves this file.
 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un unix_path;
};

static void set_option(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

static int new_socket(int family)
{
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int close_failed(int fd)
{
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Options are set before bind; accepted sockets inherit TCP_NODELAY. */
static int bind_tcp(const struct sockaddr *address, socklen_t length,
                    const ws_listen_options *options)
{
    int fd = new_socket(address->sa_family);
    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, options->reuse_port);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (address->sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, options->host != NULL);
    if (bind(fd, address, length) || listen(fd, options->backlog))
        return close_failed(fd);
    return fd;
}

static int listen_any(const ws_listen_options *options)
{
    union address a;
    memset(&a, 0, sizeof a);
    a.v6.sin6_family = AF_INET6;
    a.v6.sin6_port = htons(options->port);
    int fd = bind_tcp(&a.any, sizeof a.v6, options);
    if (fd >= 0 || (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL))
        return fd;
    memset(&a, 0, sizeof a); /* a machine without IPv6 */
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons(options->port);
    return bind_tcp(&a.any, sizeof a.v4, options);
}

static int listen_host(const ws_listen_options *options)
{
    struct addrinfo hints = {0}, *found = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", (unsigned)options->port);
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    int result = getaddrinfo(options->host, port, &hints, &found);
    if (result) {
        errno = result == EAI_MEMORY ? ENOMEM : result == EAI_SYSTEM ? errno : ENOENT;
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = bind_tcp(a->ai_addr, a->ai_addrlen, options);
    int error = errno;
    freeaddrinfo(found);
    errno = error;
    return fd;
}

/* A socket file that nobody listens on was left behind by a process that died. Connecting to a
 * file of any other kind is refused as well: those are somebody's data. */
static bool is_stale(const union address *a)
{
    struct stat file;
    if (lstat(a->unix_path.sun_path, &file) || !S_ISSOCK(file.st_mode))
        return false;
    int fd = new_socket(AF_UNIX);
    bool stale = fd >= 0 && connect(fd, &a->any, sizeof a->unix_path) && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return stale;
}

static int listen_path(const ws_listen_options *options)
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
    int result = bind(fd, &a.any, sizeof a.unix_path);
    if (result && errno == EADDRINUSE) {
        if (is_stale(&a) && !unlink(options->path))
            result = bind(fd, &a.any, sizeof a.unix_path);
        else
            errno = EADDRINUSE;
    }
    if (result)
        return close_failed(fd);
    if (!chmod(options->path, (mode_t)options->mode) && !listen(fd, options->backlog))
        return fd;
    int error = errno;
    unlink(options->path);
    errno = error;
    return close_failed(fd);
}

static int adopt(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

static void set_address(struct ws__address *out, const union address *in)
{
    memset(out, 0, sizeof *out);
    if (in->any.sa_family == AF_INET) {
        out->length = 4;
        memcpy(out->bytes, &in->v4.sin_addr, 4);
        out->port = ntohs(in->v4.sin_port);
    } else if (in->any.sa_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->v6.sin6_addr);
        out->length = mapped ? 4 : 16;
        memcpy(out->bytes, in->v6.sin6_addr.s6_addr + (mapped ? 12 : 0), out->length);
        out->port = ntohs(in->v6.sin6_port);
    }
}

int ws__net_listen(const ws_listen_options *options, int *fd, uint16_t *port)
{
    union address a;
    socklen_t length = sizeof a;
    struct ws__address address;
    *fd = options->fd >= 0  ? adopt(options->fd)
          : options->path   ? listen_path(options)
          : options->host   ? listen_host(options)
                            : listen_any(options);
    if (*fd < 0)
        return WS_ESYSTEM;
    memset(&a, 0, sizeof a);
    if (getsockname(*fd, &a.any, &length)) {
        *fd = options->fd >= 0 ? -1 : close_failed(*fd);
        return WS_ESYSTEM;
    }
    set_address(&address, &a);
    *port = address.port;
    return WS_OK;
}

int ws__net_accept(int listen_fd, struct ws__address *peer)
{
    union address a;
    socklen_t length = sizeof a;
    int fd;
    memset(&a, 0, sizeof a);
    do
        fd = accept4(listen_fd, &a.any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0) {
        set_address(peer, &a);
        return fd;
    }
    switch (errno) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return WS__NET_EXHAUSTED;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
    case EOPNOTSUPP:
        return WS__NET_ERROR;
    default: /* EAGAIN, or a connection that died in the backlog (accept(2)) */
        return WS__NET_AGAIN;
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
    message.msg_iovlen = (size_t)count;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return result_of(sent);
}

void ws__net_finish(int fd)
{
    shutdown(fd, SHUT_WR);
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

void ws__net_unlink(const char *path)
{
    unlink(path);
}

void ws__net_random(void *bytes, size_t n)
{
    if (getrandom(bytes, n, GRND_NONBLOCK) == (ssize_t)n)
        return;
    /* Denied, or early at boot: where memory lies and what time it is has to do. */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t mix = (uint64_t)(uintptr_t)bytes ^ (uint64_t)now.tv_nsec << 20 ^ (uint64_t)getpid();
    for (size_t i = 0; i < n; i++) {
        mix = mix * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)bytes)[i] = (uint8_t)(mix >> 56);
    }
}

size_t ws__net_address_text(const struct ws__address *address, char *text, size_t size)
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
