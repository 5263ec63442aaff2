/* SPDX-License-Identifier: MIT */
/*
 * kernel.c: what the kernel takes of a server's writes, see kernel.h.
 */
#include "kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct kernel kernel;

void kernel_reset(int port)
{
    memset(&kernel, 0, sizeof kernel);
    kernel.port = port;
}

static bool is_served(int fd)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    return kernel.port && fd >= 0 && fd < KERNEL_FDS &&
           !getsockname(fd, (struct sockaddr *)&address, &size) &&
           ntohs(address.sin_port) == kernel.port;
}

/* Only the kernel knows the server's descriptor of a connection: the one with its peer's port. */
struct kernel_socket *kernel_of(const ws_conn *conn)
{
    for (int fd = 0; fd < KERNEL_FDS; fd++) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        if (is_served(fd) && !getpeername(fd, (struct sockaddr *)&peer, &size) &&
            ntohs(peer.sin_port) == ws_conn_remote_port(conn))
            return &kernel.sockets[fd];
    }
    abort(); /* the test could not continue */
}

void kernel_give_room(const ws_conn *conn, size_t room)
{
    struct kernel_socket *socket = kernel_of(conn);
    socket->limited = true;
    socket->room = room;
}

/* How many of n bytes may continue; -1 with errno: none. */
static ssize_t admit(int fd, size_t n)
{
    if (!is_served(fd))
        return (ssize_t)n;
    kernel.writes++;
    kernel.sockets[fd].writes++;
    if (kernel.sockets[fd].error) {
        errno = kernel.sockets[fd].error;
        return -1;
    }
    if (!kernel.sockets[fd].limited)
        return (ssize_t)n;
    if (n > kernel.sockets[fd].room)
        n = kernel.sockets[fd].room;
    kernel.sockets[fd].room -= n;
    if (!n)
        errno = EAGAIN;
    return n ? (ssize_t)n : -1;
}

#ifdef __GLIBC__
typedef unsigned long ioctl_request;
#else
typedef int ioctl_request; /* as POSIX has it */
#endif

/* These take the place of the C library's. */
int ioctl(int fd, ioctl_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    int *result = va_arg(arguments, int *);
    va_end(arguments);
    if (request == TIOCOUTQ && kernel.acks != ACKS_REAL && is_served(fd)) {
        *result = kernel.acks == ACKS_NONE;
        return 0;
    }
    return (int)syscall(SYS_ioctl, fd, request, result);
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    ssize_t part = n ? admit(fd, n) : 0;
    return part < 0 ? -1 : (ssize_t)syscall(SYS_sendto, fd, bytes, (size_t)part, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static char bytes[8 << 20];
    size_t n = 0;
    for (size_t i = 0; i < (size_t)message->msg_iovlen; i++) {
        const struct iovec *part = &message->msg_iov[i];
        size_t m = part->iov_len < sizeof bytes - n ? part->iov_len : sizeof bytes - n;
        if (m)
            memcpy(bytes + n, part->iov_base, m);
        n += m;
    }
    return send(fd, bytes, n, flags);
}
