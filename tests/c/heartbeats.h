/* SPDX-License-Identifier: MIT */
/*
 * heartbeats.h: a server with heartbeats and one client, in virtual time that moves from
 * deadline to deadline, as it does for a loop that sleeps. Only the timer itself shows what it is
 * set to, so the loop's is read here.
 */
#ifndef HEARTBEATS_H
#define HEARTBEATS_H

#include "conn.h"
#include "harness.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

extern struct harness h;
extern struct client c;
extern size_t said; /* bytes of a frame that c never finishes */

void start(uint32_t idle, uint32_t interval, uint32_t timeout); /* ms: the settings of the route */
void stop(const char *name);

struct ws__loop *loop_of(void);
void wake_by_time(void); /* the timer expires, whatever it is set to */

/* sleep_once lets the timer expire and runs a turn. If the timer is set to a time after `until`, it
 * only moves the time to `until` and returns false. sleep_until returns the number of turns. */
bool sleep_once(uint64_t until);
int sleep_until(uint64_t until);

/* How late something may be that is due after so much silence, and whether it is in time. */
uint64_t tolerance(uint64_t silence);
bool in_window(uint64_t at, uint64_t due);

/* Takes the frames that a client has received. Returns how many were Pings; ping is the payload of
 * the last one. */
int take_pings(struct client *who);
extern char ping[4];

#endif
