/*
 * loop.c: epoll, one timerfd and one eventfd behind one descriptor. Knows nothing of WebSocket.
 * The timerfd is set to the first deadline only when that moves forward: a timer that was stopped
 * in the meantime costs at most one early wake-up, instead of a system call for each stop.
 */
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { DATA_WAKE = 0, DATA_TIMER = 1 };
#define NANOSECONDS 1000000000u

static uint64_t monotonic(void *user)
{
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NANOSECONDS + (uint64_t)t.tv_nsec;
}

int ws__loop_init(struct ws__loop *loop, uint64_t (*clock)(void *user), void *user)
{
    loop->clock = clock ? clock : monotonic;
    loop->user = user;
    loop->queues = NULL;
    loop->armed = 0;
    loop->now = loop->clock(user);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->epoll_fd >= 0 && loop->wake_fd >= 0 && loop->timer_fd >= 0 &&
        !ws__loop_add(loop, loop->wake_fd, WS__LOOP_READ, DATA_WAKE) &&
        !ws__loop_add(loop, loop->timer_fd, WS__LOOP_READ, DATA_TIMER))
        return WS_OK;
    int error = errno;
    ws__loop_deinit(loop, NULL);
    errno = error;
    return WS_ESYSTEM;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void ws__loop_deinit(struct ws__loop *loop, struct ws__memory *memory)
{
    while (loop->queues) {
        struct ws__timer_queue *next = loop->queues->next_queue;
        ws__memory_free(memory, loop->queues, sizeof *loop->queues);
        loop->queues = next;
    }
    close_fd(&loop->timer_fd);
    close_fd(&loop->wake_fd);
    close_fd(&loop->epoll_fd);
}

static int control(struct ws__loop *loop, int operation, int fd, unsigned interest, uint64_t data)
{
    struct epoll_event event = {0};
    event.events = (interest & WS__LOOP_READ ? (uint32_t)EPOLLIN : 0) |
                   (interest & WS__LOOP_WRITE ? (uint32_t)EPOLLOUT : 0);
    event.data.u64 = data;
    return epoll_ctl(loop->epoll_fd, operation, fd, &event) ? WS_ESYSTEM : WS_OK;
}

int ws__loop_add(struct ws__loop *loop, int fd, unsigned interest, uint64_t data)
{
    return control(loop, EPOLL_CTL_ADD, fd, interest, data);
}

int ws__loop_change(struct ws__loop *loop, int fd, unsigned interest, uint64_t data)
{
    return control(loop, EPOLL_CTL_MOD, fd, interest, data);
}

void ws__loop_remove(struct ws__loop *loop, int fd)
{
    control(loop, EPOLL_CTL_DEL, fd, 0, 0);
}

static uint64_t first_deadline(const struct ws__loop *loop)
{
    uint64_t first = 0;
    for (const struct ws__timer_queue *q = loop->queues; q; q = q->next_queue)
        if (q->list.next != &q->list && (!first || q->list.next->deadline < first))
            first = q->list.next->deadline;
    return first;
}

static void drain(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) > 0)
        ;
}

static unsigned readiness(uint32_t events)
{
    return (events & EPOLLIN ? (unsigned)WS__LOOP_READ : 0) |
           (events & EPOLLOUT ? (unsigned)WS__LOOP_WRITE : 0) |
           (events & (EPOLLHUP | EPOLLERR) ? (unsigned)WS__LOOP_HANGUP : 0);
}

int ws__loop_wait(struct ws__loop *loop, struct ws__loop_event events[WS__LOOP_MAX_EVENTS],
                  int timeout_ms)
{
    struct epoll_event ready[WS__LOOP_MAX_EVENTS];
    ws__loop_arm(loop);
    int n = epoll_wait(loop->epoll_fd, ready, WS__LOOP_MAX_EVENTS, timeout_ms);
    if (n < 0 && errno != EINTR)
        return WS_ESYSTEM;
    loop->now = loop->clock(loop->user);
    int count = 0;
    for (int i = 0; i < n; i++) {
        uint64_t data = ready[i].data.u64;
        if (data == DATA_WAKE) {
            drain(loop->wake_fd);
        } else if (data == DATA_TIMER) {
            drain(loop->timer_fd);
            loop->armed = 0;
        } else {
            events[count].data = data;
            events[count++].ready = readiness(ready[i].events);
        }
    }
    return count;
}

/* Relative to now, so that a replaced clock with another origin works, too. */
void ws__loop_arm(struct ws__loop *loop)
{
    uint64_t first = first_deadline(loop);
    if (!first || (loop->armed && loop->armed <= first))
        return;
    uint64_t wait = first > loop->now ? first - loop->now : 1;
    struct itimerspec when = {0};
    when.it_value.tv_sec = (time_t)(wait / NANOSECONDS);
    when.it_value.tv_nsec = (long)(wait % NANOSECONDS);
    timerfd_settime(loop->timer_fd, 0, &when, NULL);
    loop->armed = first;
}

void ws__loop_wakeup(const struct ws__loop *loop)
{
    int error = errno; /* a signal handler may be the caller */
    uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof one);
    (void)written; /* full means: a wake-up is pending already */
    errno = error;
}

struct ws__timer_queue *ws__loop_queue(struct ws__loop *loop, struct ws__memory *memory,
                                       uint32_t duration_ms)
{
    uint64_t duration = (uint64_t)duration_ms * 1000000u;
    struct ws__timer_queue *q = loop->queues;
    while (q && q->duration != duration)
        q = q->next_queue;
    if (q)
        return q;
    q = ws__memory_zalloc(memory, sizeof *q);
    if (!q)
        return NULL;
    q->duration = duration;
    q->list.next = q->list.previous = &q->list;
    q->next_queue = loop->queues;
    loop->queues = q;
    return q;
}

void ws__timer_start(struct ws__loop *loop, struct ws__timer_queue *queue,
                     struct ws__timer *timer)
{
    ws__timer_stop(timer);
    timer->deadline = loop->now + queue->duration;
    timer->next = &queue->list;
    timer->previous = queue->list.previous;
    timer->previous->next = timer;
    queue->list.previous = timer;
}

void ws__timer_stop(struct ws__timer *timer)
{
    if (!timer->next)
        return;
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
    timer->next = timer->previous = NULL;
}

struct ws__timer *ws__loop_expired(struct ws__loop *loop)
{
    for (struct ws__timer_queue *q = loop->queues; q; q = q->next_queue) {
        struct ws__timer *first = q->list.next;
        if (first != &q->list && first->deadline <= loop->now) {
            ws__timer_stop(first);
            return first;
        }
    }
    return NULL;
}
