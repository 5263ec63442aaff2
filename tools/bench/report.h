/* SPDX-License-Identifier: MIT */
/*
 * report.h: what the load generators of this folder share: how they fail, what they read before and
 * after the measured time, and the figures that they print.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "measure.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Prints the name of the program and one line to stderr and exits with 1. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Values read at the start and end of the measured time. */
typedef struct sample {
    uint64_t now, done, rss;
    uint64_t server_cpu, client_cpu;
    uint64_t server_wait, client_wait; /* ready, but the core was in use */
} sample;

/* Fills *s, without the values of a server if `pid` is 0. */
void sample_take(sample *s, pid_t pid, uint64_t done);

/* Returns whether something has been done since `begin`, and whether the server has used so much
 * CPU time that its clock shows it. The clock of another process advances only at ticks of up to
 * 10 ms and when it leaves its core. On a busy machine, it may stand still for long. */
bool sample_suffices(const sample *begin, pid_t pid, uint64_t done);

/* Starts and ends a report: one JSON object, or lines. */
void report_begin(bool as_json);
void report_end(void);

void report_text(const char *name, const char *text);
void report_number(const char *name, double value, int decimals);

/* Reports what was done between two samples; `unit` and `plural` name it. */
void report_rates(const sample *begin, const sample *end, const histogram *latency, pid_t pid,
                  const char *unit, const char *plural);

#endif
