/* SPDX-License-Identifier: MIT */
/*
 * measure.h: clocks, CPU time and memory of this and other processes, and a latency histogram.
 * It knows nothing about sockets.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t measure_now(void);

/* The next three are sums over a process, all its threads, and all its descendants. */

/* Returns user and system CPU time in nanoseconds, including that of children that were waited for
 * (in clock ticks). Returns UINT64_MAX if there is no such process. */
uint64_t measure_cpu(pid_t pid);

/* Returns the nanoseconds that threads were ready to run but had to wait for a core, or 0 if the
 * kernel does not report it. */
uint64_t measure_wait(pid_t pid);

/* Returns resident sets in bytes, or UINT64_MAX if that of the process cannot be read. */
uint64_t measure_rss(pid_t pid);

enum { HISTOGRAM_BITS = 6, HISTOGRAM_SIZE = 64 << HISTOGRAM_BITS };

/* Counts of durations, exact to 1/64 of the value. Zeroed memory is an empty histogram. */
typedef struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t bins[HISTOGRAM_SIZE];
} histogram;

/* Adds a value `times` times. */
void histogram_add(histogram *h, uint64_t value, uint64_t times);

/* Returns the value that `fraction` of all values do not exceed, or 0 if empty. */
uint64_t histogram_quantile(const histogram *h, double fraction);

#endif
