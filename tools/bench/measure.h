/*
 * measure.h: clocks, CPU time and memory of this and of another process, and a latency histogram.
 * It knows nothing of sockets.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>
#include <sys/types.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t measure_now(void);

/* Nanoseconds of CPU time, user and system, of all threads of a process, but not of its children.
 * UINT64_MAX: there is no such process. */
uint64_t measure_cpu(pid_t pid);

/* Nanoseconds that the threads of a process were ready to run but had to wait for a core; 0 where
 * the kernel does not tell. */
uint64_t measure_wait(pid_t pid);

/* Resident set of a process in bytes; UINT64_MAX: it cannot be read. */
uint64_t measure_rss(pid_t pid);

enum { HISTOGRAM_BITS = 6, HISTOGRAM_SIZE = 64 << HISTOGRAM_BITS };

/* Counts of durations, exact to 1/64 of the value. Zeroed memory is an empty one. */
typedef struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t bins[HISTOGRAM_SIZE];
} histogram;

void histogram_add(histogram *h, uint64_t value);

/* The value that `fraction` of all values do not exceed; 0 when empty. */
uint64_t histogram_quantile(const histogram *h, double fraction);

#endif
