/*
 * measure.c: see measure.h.
 *
 * The CPU clock of a process is exact to the nanosecond and includes the slice that is running;
 * utime and stime of /proc/PID/stat count ticks of 10 ms, and schedstat is brought up to date only
 * at a tick.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "measure.h"

#include <dirent.h>
#include <stdio.h>
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

uint64_t measure_cpu(pid_t pid)
{
    clockid_t clock;

    return clock_getcpuclockid(pid, &clock) == 0 ? read_clock(clock) : UINT64_MAX;
}

uint64_t measure_wait(pid_t pid)
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

/* The first line of the file that fits gives the number; 0 when there is none. */
static uint64_t read_rss(pid_t pid, const char *name, const char *format, uint64_t unit)
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

/* smaps_rollup counts the page tables; statm, where that is missing, may lag by some pages. */
uint64_t measure_rss(pid_t pid)
{
    uint64_t rss = read_rss(pid, "smaps_rollup", "Rss: %llu", 1024);

    if (rss == 0) {
        rss = read_rss(pid, "statm", "%*u %llu", (uint64_t)sysconf(_SC_PAGESIZE));
    }
    return rss != 0 ? rss : UINT64_MAX;
}

/* Values below 64 have a bin each; above, every power of two has 64 bins. */
static unsigned find_bin(uint64_t value)
{
    unsigned shift = 0;

    while (value >> shift >= 2u << HISTOGRAM_BITS) {
        shift++;
    }
    return (shift << HISTOGRAM_BITS) + (unsigned)(value >> shift);
}

void histogram_add(histogram *h, uint64_t value)
{
    unsigned bin = find_bin(value);

    h->bins[bin < HISTOGRAM_SIZE ? bin : HISTOGRAM_SIZE - 1]++;
    h->count++;
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
