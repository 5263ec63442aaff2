/* SPDX-License-Identifier: MIT */
/*
 * sendfile.c: sendfile(2), which has no MSG_NOSIGNAL, and pread(2).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sigtimedwait */
#endif

#include "sendfile.h"
#ifndef WS_NO_HTTP_FILES
#include <errno.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <time.h>
#include <unistd.h>

/* SIGPIPE is held back and taken off again; one that was pending before stays. It is also raised
 * where the connection is lost after a part of the bytes was sent. On Linux sigprocmask is for the
 * calling thread alone. */
static ssize_t send_quietly(int fd, int file, off_t offset, size_t n)
{
    static const struct timespec now;
    sigset_t pipe, before, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigemptyset(&pending);
    sigprocmask(SIG_BLOCK, &pipe, &before);
    if (sigismember(&before, SIGPIPE))
        sigpending(&pending);
    ssize_t sent = sendfile(fd, file, &offset, n);
    int number = errno;
    if (sent < (ssize_t)n && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe, NULL, &now);
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = number;
    return sent;
}

ssize_t ws__sendfile(int fd, int file, uint64_t offset, size_t n)
{
    ssize_t sent;
    if ((uint64_t)(off_t)offset != offset)
        return 0;
    do
        sent = send_quietly(fd, file, (off_t)offset, n);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return sent;
    switch (errno) {
    case EAGAIN:
    case ENOBUFS:
        return -1;
    case EINVAL:
    case EBADF:
    case EIO:
    case ESPIPE:
    case EOVERFLOW:
        return 0;
    default:
        return -2;
    }
}

size_t ws__sendfile_read(int file, uint64_t offset, void *bytes, size_t n)
{
    ssize_t got;
    if ((uint64_t)(off_t)offset != offset)
        return 0;
    do
        got = pread(file, bytes, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got > 0 ? (size_t)got : 0;
}

#endif
