/* SPDX-License-Identifier: MIT */
/*
 * loop.h: waits for descriptors (epoll), for time (a timerfd) and for other threads (an eventfd).
 * Knows nothing of WebSocket. The epoll set holds the other two descriptors, so another event loop
 * needs to watch only that one.
 */
#ifndef WS__LOOP_H
#define WS__LOOP_H

#include "buffer.h"

#include <sys/epoll.h>

/* Interest in a descriptor, and what it is ready for. With WS__LOOP_QUIET, a hang-up is reported
 * once instead of at each wait. */
enum { WS__LOOP_READ = 1, WS__LOOP_WRITE = 2, WS__LOOP_HANGUP = 4, WS__LOOP_QUIET = 8 };

/* The most events of one wait. */
enum { WS__LOOP_MAX_EVENTS = 256 };

/* The least value of `data` for a caller. */
enum { WS__LOOP_FIRST_DATA = 2 };

struct ws__loop_event {
    uint64_t data;
    unsigned ready; /* WS__LOOP_* */
};

/* A deadline that is not set. */
#define WS__LOOP_NEVER UINT64_MAX

/* A timer is in the queue of its kind and duration. */
struct ws__timer {
    struct ws__timer *previous, *next; /* NULL while it is not started */
    uint64_t deadline; /* nanoseconds of the loop's clock; WS__LOOP_NEVER once it was stopped */
};

/* The timers of one kind and duration, in the order in which they expire. As a new one expires
 * last, it is appended, and the list needs no sorting. */
struct ws__timer_queue {
    struct ws__timer_queue *next_queue, *next_active;
    struct ws__timer list; /* sentinel */
    uint64_t duration;     /* nanoseconds */
    int kind;              /* of its timers, for the caller; see ws__loop_expired */
    bool active;           /* is on loop->active */
};

struct ws__loop {
    int epoll_fd, wake_fd, timer_fd;
    int process; /* id of the process that made these descriptors */
    uint64_t (*clock)(void *user);
    void *user;
    uint64_t now;                        /* nanoseconds; read after each wait */
    uint64_t armed;                      /* the deadline that timer_fd is set to */
    uint64_t alarm;                      /* the deadline of the alarm */
    uint64_t first;                      /* no timer has an earlier deadline */
    struct ws__timer_queue *first_queue; /* where a timer has, or had, that deadline */
    struct ws__timer_queue *queues;      /* all queues */
    struct ws__timer_queue *active;      /* the queues that may hold timers */
    uint32_t count;                      /* watched descriptors */
    bool full;                           /* the last wait had no room for more events */
    struct epoll_event events[WS__LOOP_MAX_EVENTS]; /* of the last wait; see ws__loop_event */
};

/* `clock` NULL means CLOCK_MONOTONIC. Returns WS_OK, or WS_ESYSTEM with errno. */
int ws__loop_init(struct ws__loop *loop, uint64_t (*clock)(void *user), void *user);

/* Closes the descriptors and frees all queues. */
void ws__loop_deinit(struct ws__loop *loop, struct ws__memory *memory);

/* Returns true in a forked child, which shares the descriptors with its parent: a change would
 * affect both. Makes one system call. */
bool ws__loop_is_shared(const struct ws__loop *loop);

/* Watches fd for `interest`: WS__LOOP_READ, WS__LOOP_WRITE and WS__LOOP_QUIET, or 0. Hang-ups are
 * always reported. Returns WS_OK, or WS_ESYSTEM with errno. */
int ws__loop_add(struct ws__loop *loop, int fd, unsigned interest, uint64_t data);

/* Changes interest and data of a descriptor. Returns WS_OK, or WS_ESYSTEM with errno. */
int ws__loop_change(struct ws__loop *loop, int fd, unsigned interest, uint64_t data);

/* Ends the watch. Returns false if fd was not watched. Must be called before fd is closed: close()
 * alone ends the watch only if no other process has a copy of the descriptor (epoll(7)), as a
 * forked child has. */
bool ws__loop_remove(struct ws__loop *loop, int fd);

/* A descriptor was closed before its watch ended, with which the kernel has ended it. */
void ws__loop_note_closed(struct ws__loop *loop);

/* Waits for events for up to timeout_ms (-1: no limit), the first deadline, or a wake-up. Updates
 * loop->now. Returns the number of events, which may be 0, or WS_ESYSTEM with errno. */
int ws__loop_wait(struct ws__loop *loop, int timeout_ms);

/* Returns event number i of the last wait. */
static inline struct ws__loop_event ws__loop_event(const struct ws__loop *loop, int i)
{
    uint32_t events = loop->events[i].events;
    return (struct ws__loop_event){
        .data = loop->events[i].data.u64,
        .ready = (events & EPOLLIN ? (unsigned)WS__LOOP_READ : 0) |
                 (events & EPOLLOUT ? (unsigned)WS__LOOP_WRITE : 0) |
                 (events & (EPOLLHUP | EPOLLERR) ? (unsigned)WS__LOOP_HANGUP : 0)};
}

/* Sets the timerfd to the first deadline. ws__loop_wait does so itself; another event loop that
 * waits for epoll_fd needs it. */
void ws__loop_arm(struct ws__loop *loop);

/* Ends the current or the next wait. Any thread, and any signal handler. */
void ws__loop_wakeup(const struct ws__loop *loop);

/* Returns the queue for timers of this kind and duration, which is made if it does not exist.
 * Returns NULL if out of memory. */
struct ws__timer_queue *ws__loop_queue(struct ws__loop *loop, struct ws__memory *memory,
                                       uint32_t duration_ms, int kind);

/* Does the same for a duration in nanoseconds. */
struct ws__timer_queue *ws__loop_queue_ns(struct ws__loop *loop, struct ws__memory *memory,
                                          uint64_t duration, int kind);

/* Starts or restarts *timer, which expires at loop->now plus the duration of the queue. */
void ws__timer_start(struct ws__loop *loop, struct ws__timer_queue *queue,
                     struct ws__timer *timer);

/* Stops *timer, if it is started. */
void ws__timer_stop(struct ws__timer *timer);

/* Stops and returns the first timer whose deadline has come, and sets *kind, or returns NULL. */
struct ws__timer *ws__loop_expired(struct ws__loop *loop, int *kind);

/* Sets the alarm to `delay` nanoseconds from now by the clock, not by loop->now. WS__LOOP_NEVER
 * cancels it. */
void ws__loop_set_alarm(struct ws__loop *loop, uint64_t delay);

/* Returns true once when loop->now has reached the alarm. */
bool ws__loop_take_alarm(struct ws__loop *loop);

/* Must be called at the end of a turn. If the turn took long, timers that were started in it count
 * from its end, and loop->now is set to its end. Returns the nanoseconds that the turn took. */
uint64_t ws__loop_end_turn(struct ws__loop *loop);

#endif
