/* SPDX-License-Identifier: MIT */
/*
 * measure.c: see measure.h.
 *
 * The CPU clock of a process is exact to the nanosecond and includes the running time slice. utime
 * and stime of /proc/PID/stat count ticks of 10 ms, and schedstat is only updated at a tick.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "measure.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) != 0) {
        return UINT64_MAX;
    }
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t measure_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* ---- a process and its descendants --------------------------------------------------------- */

/* Returns the sum of `read` for a process and all its descendants, or UINT64_MAX if it returns that
 * for the process. A kernel without /proc/PID/task/TID/children shows no descendants. */
static uint64_t sum_family(pid_t pid, uint64_t (*read)(pid_t pid))
{
    char path[300];
    uint64_t sum = read(pid);
    struct dirent *task;
    int child;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = sum != UINT64_MAX ? opendir(path) : NULL;
    if (tasks == NULL) {
        return sum;
    }
    while ((task = readdir(tasks)) != NULL) {
        snprintf(path, sizeof(path), "/proc/%d/task/%.200s/children", (int)pid, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "re");
        while (file != NULL && fscanf(file, "%d", &child) == 1) {
            uint64_t part = sum_family(child, read);
            sum += part != UINT64_MAX ? part : 0; /* it may have just exited */
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    closedir(tasks);
    return sum;
}

/* Returns the CPU time of children that were waited for. */
static uint64_t read_reaped(pid_t pid)
{
    char line[1024];
    unsigned long long user = 0, kernel = 0;

    snprintf(line, sizeof(line), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(line, "re");
    if (file == NULL) {
        return 0;
    }
    const char *after = fgets(line, sizeof(line), file) != NULL ? strrchr(line, ')') : NULL;
    if (after != NULL && sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u "
                                       "%llu %llu", &user, &kernel) != 2) {
        user = kernel = 0;
    }
    fclose(file);
    return (user + kernel) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t read_cpu(pid_t pid)
{
    clockid_t clock;
    uint64_t own = clock_getcpuclockid(pid, &clock) == 0 ? read_clock(clock) : UINT64_MAX;

    return own != UINT64_MAX ? own + read_reaped(pid) : own;
}

uint64_t measure_cpu(pid_t pid)
{
    return sum_family(pid, read_cpu);
}

static uint64_t read_wait(pid_t pid)
{
    char path[280];
    unsigned long long wait;
    uint64_t sum = 0;
    struct dirent *task;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return 0;
    }
    while ((task = readdir(tasks)) != NULL) {
        snprintf(path, sizeof(path), "/proc/%d/task/%.200s/schedstat", (int)pid, task->d_name);
        FILE *file = task->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file != NULL) {
            sum += fscanf(file, "%*u %llu", &wait) == 1 ? (uint64_t)wait : 0;
            fclose(file);
        }
    }
    closedir(tasks);
    return sum;
}

uint64_t measure_wait(pid_t pid)
{
    return sum_family(pid, read_wait);
}

/* Returns the number in the first matching line of the file, or 0 if there is none. */
static uint64_t find_number(pid_t pid, const char *name, const char *format, uint64_t unit)
{
    char line[256];
    unsigned long long value = 0;

    snprintf(line, sizeof(line), "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(line, "re");
    if (file == NULL) {
        return 0;
    }
    while (value == 0 && fgets(line, sizeof(line), file) != NULL) {
        value = sscanf(line, format, &value) == 1 ? value : 0;
    }
    fclose(file);
    return (uint64_t)value * unit;
}

/* smaps_rollup walks the page tables; its fallback statm may lag by some pages. */
static uint64_t read_rss(pid_t pid)
{
    uint64_t rss = find_number(pid, "smaps_rollup", "Rss: %llu", 1024);

    if (rss == 0) {
        rss = find_number(pid, "statm", "%*u %llu", (uint64_t)sysconf(_SC_PAGESIZE));
    }
    return rss != 0 ? rss : UINT64_MAX;
}

uint64_t measure_rss(pid_t pid)
{
    return sum_family(pid, read_rss);
}

/* ---- histogram ----------------------------------------------------------------------------- */

/* Values below 64 have one bin each. Above that, every power of two has 64 bins. */
static unsigned find_bin(uint64_t value)
{
    unsigned shift = 0;

    while (value >> shift >= 2u << HISTOGRAM_BITS) {
        shift++;
    }
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

void histogram_add(histogram *h, uint64_t value, uint64_t times)
{
    unsigned bin = find_bin(value);

    h->bins[bin < HISTOGRAM_SIZE ? bin : HISTOGRAM_SIZE - 1] += times;
    h->count += times;
    if (value > h->max) {
        h->max = value;
    }
}

uint64_t histogram_quantile(const histogram *h, double fraction)
{
    uint64_t rank = (uint64_t)(fraction * (double)h->count);
    uint64_t seen = 0;

    for (unsigned bin = 0; bin < HISTOGRAM_SIZE; bin++) {
        seen += h->bins[bin];
        if (seen > rank) {
            unsigned shift = bin >> HISTOGRAM_BITS > 1 ? (bin >> HISTOGRAM_BITS) - 1 : 0;
            uint64_t top = (uint64_t)(bin - (shift << HISTOGRAM_BITS)) << shift;
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}
