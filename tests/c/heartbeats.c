/* SPDX-License-Identifier: MIT */
/*
 * heartbeats.c: virtual time and the Pings in it, see heartbeats.h.
 */
#include "heartbeats.h"

#include <poll.h>
#include <sys/timerfd.h>

struct harness h;
struct client c;

struct ws__loop *loop_of(void)
{
    return &ws__hub_of(h.server)->loop;
}

void wake_by_time(void)
{
    static const struct itimerspec at_once = {.it_value = {0, 1}};
    struct pollfd timer = {loop_of()->timer_fd, POLLIN, 0};
    timerfd_settime(timer.fd, 0, &at_once, NULL);
    poll(&timer, 1, 5000);
}

bool sleep_once(uint64_t until)
{
    struct ws__loop *loop = loop_of();
    if (loop->armed > until) {
        h.now = until > h.now ? until : h.now;
        return false;
    }
    wake_by_time();
    h.now = loop->armed > h.now ? loop->armed : h.now;
    turns(&h, 1);
    return true;
}

int sleep_until(uint64_t until)
{
    int wakeups = 0;
    while (sleep_once(until))
        wakeups++;
    return wakeups;
}

size_t said;

void start(uint32_t idle, uint32_t interval, uint32_t timeout)
{
    harness_init(&h);
    h.behavior.idle_timeout = idle;
    h.behavior.ping_interval = interval;
    h.behavior.ping_timeout = timeout;
    harness_start(&h);
    client_open(&c, &h);
    harness_events(&h);
    said = 0;
}

void stop(const char *name)
{
    client_close(&c);
    turns(&h, 2);
    harness_stop(&h, name);
}

uint64_t tolerance(uint64_t silence)
{
    return silence / 100 > 50 * MS ? silence / 100 : 50 * MS;
}

bool in_window(uint64_t at, uint64_t due)
{
    return at >= due && at <= due + tolerance(due);
}

char ping[4];

int take_pings(struct client *who)
{
    int pings = 0;
    size_t at = 0;
    client_read(who);
    while (who->in_length - at >= 2 && who->in_length - at >= 2u + (unsigned char)who->in[at + 1]) {
        size_t n = (unsigned char)who->in[at + 1];
        if ((unsigned char)who->in[at] == 0x89 && n == 4) {
            memcpy(ping, who->in + at + 2, 4);
            pings++;
        }
        at += 2 + n;
    }
    who->in_length -= at;
    memmove(who->in, who->in + at, who->in_length);
    return pings;
}
