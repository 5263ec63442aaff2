/*
 * loop.h: waiting for descriptors (epoll), for time (one timerfd) and for other threads (one
 * eventfd). Knows nothing of WebSocket. Everything is behind the one epoll descriptor, so that a
 * foreign event loop needs to watch only that.
 */
#ifndef WS__LOOP_H
#define WS__LOOP_H

#include "buffer.h"

/* WS__LOOP_QUIET: a hang-up is reported once and not at each wait. */
enum { WS__LOOP_READ = 1, WS__LOOP_WRITE = 2, WS__LOOP_HANGUP = 4, WS__LOOP_QUIET = 8 };
enum { WS__LOOP_MAX_EVENTS = 256 };

/* Values of `data` below this one belong to the loop. */
enum { WS__LOOP_FIRST_DATA = 2 };

struct ws__loop_event {
    uint64_t data;
    unsigned ready; /* WS__LOOP_* */
};

#define WS__LOOP_NEVER UINT64_MAX

/* Timers of one kind and duration stand in one list, the next to expire first: starting one is
 * appending it, so no sorting is ever needed. */
struct ws__timer {
    struct ws__timer *previous, *next; /* NULL while not started */
    uint64_t deadline; /* nanoseconds of the loop's clock; WS__LOOP_NEVER once it was stopped */
};
struct ws__timer_queue {
    struct ws__timer_queue *next_queue, *next_active;
    struct ws__timer list; /* sentinel */
    uint64_t duration;     /* nanoseconds */
    int kind;              /* what its timers are for; told by ws__loop_expired */
    bool active;           /* is on loop->active */
};

struct ws__loop {
    int epoll_fd, wake_fd, timer_fd;
    int process; /* the id of the one that made these; a forked child shares them with it */
    uint64_t (*clock)(void *user);
    void *user;
    uint64_t now;   /* nanoseconds; read after each wait, and by calls between turns */
    uint64_t armed; /* deadline that timer_fd is set to */
    uint64_t alarm; /* a deadline of its own */
    uint64_t first; /* no timer expires before; one of first_queue expires then, or did */
    struct ws__timer_queue *first_queue;
    struct ws__timer_queue *queues, *active; /* all of them; those that may hold timers */
    bool full; /* the last wait had no room for more events */
};

/* clock NULL: CLOCK_MONOTONIC. WS_ESYSTEM with errno. */
int ws__loop_init(struct ws__loop *loop, uint64_t (*clock)(void *user), void *user);
void ws__loop_deinit(struct ws__loop *loop, struct ws__memory *memory);

/* True in a forked child: whatever is changed here is changed for the parent. One system call. */
bool ws__loop_is_shared(const struct ws__loop *loop);

/* Watches fd for `interest` (WS__LOOP_READ, _WRITE, _QUIET, 0; hang-ups are always reported).
 * WS_ESYSTEM with errno. */
int ws__loop_add(struct ws__loop *loop, int fd, unsigned interest, uint64_t data);
int ws__loop_change(struct ws__loop *loop, int fd, unsigned interest, uint64_t data);
/* To be called before fd is closed: close() alone removes a descriptor only where no other process
 * holds a copy of it (epoll(7)), as forked children do. */
void ws__loop_remove(struct ws__loop *loop, int fd);

/* Waits up to timeout_ms (-1: no limit) and until the first deadline. Returns the number of
 * events; 0 too when interrupted or woken up. Updates loop->now. WS_ESYSTEM with errno. */
int ws__loop_wait(struct ws__loop *loop, struct ws__loop_event events[WS__LOOP_MAX_EVENTS],
                  int timeout_ms);

/* Sets the timerfd to the first deadline, for those who wait for epoll_fd themselves. */
void ws__loop_arm(struct ws__loop *loop);

/* Ends the present or the next wait (any thread, signal handlers). */
void ws__loop_wakeup(const struct ws__loop *loop);

/* The queue for timers of that kind and duration; found or made. NULL: no memory. */
struct ws__timer_queue *ws__loop_queue(struct ws__loop *loop, struct ws__memory *memory,
                                       uint32_t duration_ms, int kind);
/* The same for a duration in nanoseconds. */
struct ws__timer_queue *ws__loop_queue_ns(struct ws__loop *loop, struct ws__memory *memory,
                                          uint64_t duration, int kind);

/* Starts or restarts *timer; it expires loop->now + duration. */
void ws__timer_start(struct ws__loop *loop, struct ws__timer_queue *queue,
                     struct ws__timer *timer);
/* Fine when not started. */
void ws__timer_stop(struct ws__timer *timer);
/* Takes out the first timer whose deadline is not after loop->now, and tells its kind; NULL:
 * none. */
struct ws__timer *ws__loop_expired(struct ws__loop *loop, int *kind);

/* A deadline `delay` nanoseconds from this very moment; replaces the one before. What lies beyond
 * the end of the clock, as WS__LOOP_NEVER does, is none. */
void ws__loop_set_alarm(struct ws__loop *loop, uint64_t delay);
/* True once, when loop->now has reached it. */
bool ws__loop_take_alarm(struct ws__loop *loop);

/* The turn is done. Where it took long, the timers that were started in it count from its end, not
 * from its beginning, and loop->now is that end. Returns how long it took, in nanoseconds. */
uint64_t ws__loop_end_turn(struct ws__loop *loop);

#endif
