/* SPDX-License-Identifier: MIT */
/*
 * uloop.h: the part of libubox that examples/c/loop_uloop.c uses, around poll(2), for one
 * descriptor and one timer. Debian 12 has no libubox, and its authors make no releases, so that
 * this takes its place in the tests. As in libubox, SIGINT and SIGTERM end uloop_run, a timer is
 * set anew in each of its calls, and uloop_fd_add makes its descriptor non-blocking.
 */
#ifndef ULOOP_STUB_H
#define ULOOP_STUB_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define ULOOP_READ (1 << 0)

struct uloop_fd {
    void (*cb)(struct uloop_fd *fd, unsigned int events);
    int fd;
};

struct uloop_timeout {
    void (*cb)(struct uloop_timeout *timeout);
    int64_t due; /* ms; libubox has a struct timeval here */
};

static struct {
    struct uloop_fd *fd;
    struct uloop_timeout *timeout;
    volatile sig_atomic_t cancelled;
    void (*before[2])(int number);
} uloop;

static inline void uloop_end(void)
{
    uloop.cancelled = 1;
}

static inline void uloop_on_signal(int number)
{
    (void)number;
    uloop_end();
}

static inline int64_t uloop_now(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline int uloop_init(void)
{
    uloop.cancelled = 0;
    return 0;
}

static inline int uloop_fd_add(struct uloop_fd *fd, unsigned int flags)
{
    uloop.fd = flags & ULOOP_READ ? fd : NULL;
    return fcntl(fd->fd, F_SETFL, fcntl(fd->fd, F_GETFL) | O_NONBLOCK);
}

static inline int uloop_fd_delete(struct uloop_fd *fd)
{
    (void)fd;
    uloop.fd = NULL;
    return 0;
}

static inline int uloop_timeout_set(struct uloop_timeout *timeout, int ms)
{
    timeout->due = uloop_now() + ms;
    uloop.timeout = timeout;
    return 0;
}

static inline int uloop_wait(void)
{
    const int64_t left = uloop.timeout ? uloop.timeout->due - uloop_now() : -1;
    struct pollfd ready = {uloop.fd ? uloop.fd->fd : -1, POLLIN, 0};
    return poll(&ready, 1, uloop.timeout && left < 0 ? 0 : (int)left) > 0;
}

static inline int uloop_run(void)
{
    uloop.before[0] = signal(SIGINT, uloop_on_signal);
    uloop.before[1] = signal(SIGTERM, uloop_on_signal);
    while (!uloop.cancelled) {
        const int ready = uloop_wait();
        struct uloop_timeout *timeout = uloop.timeout;
        if (timeout && timeout->due <= uloop_now()) {
            uloop.timeout = NULL;
            timeout->cb(timeout);
        }
        if (ready && uloop.fd)
            uloop.fd->cb(uloop.fd, ULOOP_READ);
    }
    signal(SIGINT, uloop.before[0]);
    signal(SIGTERM, uloop.before[1]);
    return 0;
}

static inline void uloop_done(void)
{
    uloop.fd = NULL;
    uloop.timeout = NULL;
}

#endif
