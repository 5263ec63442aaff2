/* SPDX-License-Identifier: MIT */
/*
 * faults.h: makes a single system call of the server fail. A program that uses it is linked with
 * faults.c and with --wrap for each name in FAULTS and FAULTS_SERVER, so that the calls of the
 * library go through it. Those of the test and its clients go on to the kernel.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

/* X(name, error, other error): what the library calls, and the two errors with which it fails. The
 * ones of a name that ends with 64 are the same as of the one without. */
#define FAULTS(X) \
    X(accept4, EMFILE, EPERM) \
    X(bind, EADDRINUSE, EACCES) \
    X(chmod, EPERM, EIO) \
    X(close, EIO, EINTR) \
    X(connect, EAGAIN, EACCES) \
    X(epoll_create1, EMFILE, ENOMEM) \
    X(epoll_ctl, ENOMEM, ENOSPC) \
    X(epoll_wait, EINTR, EINVAL) \
    X(eventfd, EMFILE, ENOMEM) \
    X(fcntl, EINVAL, EPERM) \
    X(fstat, EIO, ENOMEM) \
    X(getaddrinfo, 0, 0) \
    X(getpeername, ENOBUFS, ENOBUFS) \
    X(getsockname, ENOBUFS, ENOBUFS) \
    X(getsockopt, ENOPROTOOPT, ENOBUFS) \
    X(ioctl, EINVAL, ENOMEM) \
    X(listen, EADDRINUSE, ENOBUFS) \
    X(lstat, EACCES, EIO) \
    X(open, EMFILE, EACCES) \
    X(pread, EIO, EINTR) \
    X(read, EAGAIN, EINTR) \
    X(recv, ECONNRESET, EINTR) \
    X(send, EPIPE, EINTR) \
    X(sendfile, EIO, EPIPE) \
    X(sendmsg, ECONNRESET, EAGAIN) \
    X(setsockopt, ENOBUFS, ENOPROTOOPT) \
    X(shutdown, ENOTCONN, ENOBUFS) \
    X(socket, EMFILE, ENOBUFS) \
    X(syscall, ENOSYS, EINTR) \
    X(timerfd_create, EMFILE, ENOMEM) \
    X(timerfd_settime, EINVAL, ENOMEM) \
    X(unlink, EACCES, EIO) \
    X(write, EAGAIN, EINTR)

/* What the test calls of the library: only inside these do calls count, and fail. */
#define FAULTS_SERVER(X) \
    X(ws_server_new) \
    X(ws_server_free) \
    X(ws_server_listen) \
    X(ws_server_adopt) \
    X(ws_server_step) \
    X(ws_server_watch) \
    X(ws_server_publish) \
    X(ws_server_defer) \
    X(ws_server_join) \
    X(ws_server_tell) \
    X(ws_server_end_topic) \
    X(ws_server_drain) \
    X(ws_server_shutdown)

extern struct faults {
    unsigned calls;     /* so far */
    unsigned fail_at;   /* the call of this number fails; 0: none */
    bool other;         /* with the other error */
    const char *failed; /* the name of the one that did; NULL: none so far */
} faults;

#endif
