/* SPDX-License-Identifier: MIT */
/*
 * loop.c: epoll, a timerfd and an eventfd behind one descriptor. Knows nothing of WebSocket.
 * The timerfd is set only if the first deadline becomes earlier, or later by more than GRACE. So a
 * busy connection, whose timer moves all the time, needs no system call each time, and a timer that
 * was stopped wakes no one up.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* clock_gettime */
#endif

#include "loop.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { DATA_WAKE = 0, DATA_TIMER = 1 };
#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000u

/* Nanoseconds by which the timerfd may expire too early. */
#define GRACE NS_PER_S

/* Seconds that fit into any time_t. */
#define LONGEST_WAIT ((uint64_t)1 << 30)

static uint64_t monotonic(void *user)
{
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

__attribute__((cold)) int
ws__loop_init(struct ws__loop *loop, uint64_t (*clock)(void *user), void *user)
{
    loop->clock = clock ? clock : monotonic;
    loop->user = user;
    loop->queues = loop->active = loop->first_queue = NULL;
    loop->armed = loop->alarm = loop->first = WS__LOOP_NEVER;
    loop->count = 0;
    loop->full = false;
    loop->now = loop->clock(user);
    loop->process = (int)getpid();
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

__attribute__((cold)) void ws__loop_deinit(struct ws__loop *loop, struct ws__memory *memory)
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

bool ws__loop_is_shared(const struct ws__loop *loop)
{
    return loop->process != (int)getpid();
}

__attribute__((cold)) static int
control(struct ws__loop *loop, int operation, int fd, unsigned interest, uint64_t data)
{
    struct epoll_event event = {0};
    event.events = (interest & WS__LOOP_READ ? (uint32_t)EPOLLIN : 0) |
                   (interest & WS__LOOP_WRITE ? (uint32_t)EPOLLOUT : 0) |
                   (interest & WS__LOOP_QUIET ? (uint32_t)EPOLLET : 0);
    event.data.u64 = data;
    return epoll_ctl(loop->epoll_fd, operation, fd, &event) ? WS_ESYSTEM : WS_OK;
}

int ws__loop_add(struct ws__loop *loop, int fd, unsigned interest, uint64_t data)
{
    int error = control(loop, EPOLL_CTL_ADD, fd, interest, data);
    loop->count += !error;
    return error;
}

int ws__loop_change(struct ws__loop *loop, int fd, unsigned interest, uint64_t data)
{
    return control(loop, EPOLL_CTL_MOD, fd, interest, data);
}

bool ws__loop_remove(struct ws__loop *loop, int fd)
{
    bool removed = !control(loop, EPOLL_CTL_DEL, fd, 0, 0);
    loop->count -= removed;
    return removed;
}

void ws__loop_note_closed(struct ws__loop *loop)
{
    loop->count--;
}

static void drain(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) > 0)
        ;
}

/* Those of the loop itself are seen to here, and left out. */
int ws__loop_wait(struct ws__loop *loop, int timeout_ms)
{
    struct epoll_event *events = loop->events;
    ws__loop_arm(loop);
    int n = epoll_wait(loop->epoll_fd, events, WS__LOOP_MAX_EVENTS, timeout_ms);
    if (n < 0 && errno != EINTR)
        return WS_ESYSTEM;
    loop->now = loop->clock(loop->user);
    loop->full = n == WS__LOOP_MAX_EVENTS;
    int count = 0;
    for (int i = 0; i < n; i++) {
        uint64_t data = events[i].data.u64;
        if (data == DATA_WAKE) {
            drain(loop->wake_fd);
        } else if (data == DATA_TIMER) {
            drain(loop->timer_fd);
            loop->armed = WS__LOOP_NEVER;
        } else {
            events[count++] = events[i];
        }
    }
    return count;
}

/* Sets loop->first. Removes empty queues from the active list, so that its length does not grow
 * with the number of durations that were ever used. Few turns need it, so it is not inlined. */
__attribute__((noinline)) static void find_first(struct ws__loop *loop)
{
    struct ws__timer_queue **link = &loop->active, *q;
    loop->first = WS__LOOP_NEVER;
    loop->first_queue = NULL;
    while ((q = *link)) {
        const struct ws__timer *timer = q->list.next;
        if (timer == &q->list) {
            *link = q->next_active;
            q->active = false;
            continue;
        }
        if (timer->deadline < loop->first) {
            loop->first = timer->deadline;
            loop->first_queue = q;
        }
        link = &q->next_active;
    }
}

/* Returns the timer that expires first, or NULL if none is started. */
static inline struct ws__timer *first_timer(struct ws__loop *loop)
{
    const struct ws__timer_queue *q = loop->first_queue;
    if (!q || q->list.next->deadline != loop->first)
        find_first(loop); /* the timer was stopped or restarted */
    return loop->first_queue ? loop->first_queue->list.next : NULL;
}

/* The timerfd is set relative to now, so that a custom clock can have another origin. */
void ws__loop_arm(struct ws__loop *loop)
{
    const struct ws__timer *timer = first_timer(loop);
    uint64_t first = timer && timer->deadline < loop->alarm ? timer->deadline : loop->alarm;
    if (first >= loop->armed && first - loop->armed < GRACE)
        return;
    struct itimerspec when = {0}; /* this disarms the timerfd */
    if (first != WS__LOOP_NEVER) {
        uint64_t wait = first > loop->now ? first - loop->now : 1;
        uint64_t seconds = wait / NS_PER_S;
        when.it_value.tv_sec = (time_t)(seconds < LONGEST_WAIT ? seconds : LONGEST_WAIT);
        when.it_value.tv_nsec = (long)(wait % NS_PER_S);
    }
    if (!timerfd_settime(loop->timer_fd, 0, &when, NULL)) /* otherwise the next wait tries again */
        loop->armed = first;
}

void ws__loop_wakeup(const struct ws__loop *loop)
{
    int error = errno; /* a signal handler may be the caller */
    uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof one);
    (void)written; /* if it fails, a wake-up is pending already */
    errno = error;
}

struct ws__timer_queue *ws__loop_queue(struct ws__loop *loop, struct ws__memory *memory,
                                       uint32_t duration_ms, int kind)
{
    return ws__loop_queue_ns(loop, memory, (uint64_t)duration_ms * NS_PER_MS, kind);
}

struct ws__timer_queue *ws__loop_queue_ns(struct ws__loop *loop, struct ws__memory *memory,
                                          uint64_t duration, int kind)
{
    struct ws__timer_queue *q = loop->queues;
    while (q && (q->duration != duration || q->kind != kind))
        q = q->next_queue;
    if (q)
        return q;
    q = ws__memory_zalloc(memory, sizeof *q);
    if (!q)
        return NULL;
    q->duration = duration;
    q->kind = kind;
    q->list.next = q->list.previous = &q->list;
    q->list.deadline = WS__LOOP_NEVER; /* the first deadline of an empty queue */
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
    if (!queue->active) {
        queue->active = true;
        queue->next_active = loop->active;
        loop->active = queue;
    }
    if (timer->deadline < loop->first) {
        loop->first = timer->deadline;
        loop->first_queue = queue;
    }
}

void ws__timer_stop(struct ws__timer *timer)
{
    if (!timer->next)
        return;
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
    timer->next = timer->previous = NULL;
    timer->deadline = WS__LOOP_NEVER;
}

struct ws__timer *ws__loop_expired(struct ws__loop *loop, int *kind)
{
    if (loop->first > loop->now)
        return NULL;
    struct ws__timer *timer = first_timer(loop);
    if (!timer || timer->deadline > loop->now)
        return NULL;
    *kind = loop->first_queue->kind;
    ws__timer_stop(timer);
    return timer;
}

void ws__loop_set_alarm(struct ws__loop *loop, uint64_t delay)
{
    uint64_t now = loop->clock(loop->user);
    loop->alarm = delay < WS__LOOP_NEVER - now ? now + delay : WS__LOOP_NEVER;
}

bool ws__loop_take_alarm(struct ws__loop *loop)
{
    if (loop->alarm > loop->now)
        return false;
    loop->alarm = WS__LOOP_NEVER;
    return true;
}

uint64_t ws__loop_end_turn(struct ws__loop *loop)
{
    uint64_t began = loop->now, took = loop->clock(loop->user) - began;
    if (took < NS_PER_MS)
        return took;
    for (struct ws__timer_queue *q = loop->active; q; q = q->next_active)
        for (struct ws__timer *t = q->list.previous;
             t != &q->list && t->deadline == began + q->duration; t = t->previous)
            t->deadline += took;
    loop->now = began + took;
    return took;
}
