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

/* The next three are sums over a process with all its threads, and all that descend from it. */

/* Nanoseconds of CPU time, user and system, those of children that ended and were waited for
 * included (in steps of a clock tick). UINT64_MAX: there is no such process. */
uint64_t measure_cpu(pid_t pid);

/* Nanoseconds that the threads were ready to run but had to wait for a core; 0 where the kernel
 * does not report it. */
uint64_t measure_wait(pid_t pid);

/* Resident sets in bytes; UINT64_MAX: that of the process itself cannot be read. */
uint64_t measure_rss(pid_t pid);

enum { HISTOGRAM_BITS = 6, HISTOGRAM_SIZE = 64 << HISTOGRAM_BITS };

/* Counts of durations, exact to 1/64 of the value. Zeroed memory is an empty one. */
typedef struct histogram {
    uint64_t count;
    uint64_t max;
    uint64_t bins[HISTOGRAM_SIZE];
} histogram;

/* The same value, `times` times. */
void histogram_add(histogram *h, uint64_t value, uint64_t times);

/* The value that `fraction` of all values do not exceed; 0 when empty. */
uint64_t histogram_quantile(const histogram *h, double fraction);

#endif
