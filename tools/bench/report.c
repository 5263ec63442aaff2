/* SPDX-License-Identifier: MIT */
/*
 * report.c: see report.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SECOND = 1000000000 };

static bool json;
static const char *separator;

void die(const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void sample_take(sample *s, pid_t pid, uint64_t done)
{
    s->done = done;
    s->now = measure_now();
    s->client_cpu = measure_cpu(getpid());
    s->client_wait = measure_wait(getpid());
    if (pid == 0) {
        return;
    }
    s->server_cpu = measure_cpu(pid);
    s->server_wait = measure_wait(pid);
    s->rss = measure_rss(pid);
    if (s->server_cpu == UINT64_MAX || s->rss == UINT64_MAX) {
        die("cannot read the CPU time and memory of process %d", (int)pid);
    }
}

bool sample_suffices(const sample *begin, pid_t pid, uint64_t done)
{
    const uint64_t least = 20 * 1000 * 1000;

    return done > begin->done && (pid == 0 || measure_cpu(pid) - begin->server_cpu >= least);
}

void report_begin(bool as_json)
{
    json = as_json;
    separator = "";
    printf(json ? "{" : "");
}

void report_end(void)
{
    printf(json ? "}\n" : "\n");
}

static void print_name(const char *name)
{
    printf(json ? "%s\"%s\": " : "%s%s ", separator, name);
    separator = json ? ", " : "\n";
}

void report_text(const char *name, const char *text)
{
    print_name(name);
    printf(json ? "\"%s\"" : "%s", text);
}

void report_number(const char *name, double value, int decimals)
{
    print_name(name);
    printf("%.*f", decimals, value);
}

/* A side is the limit if it never slept, even if it did not always have its core. "none" means
 * that both waited for something else. */
static const char *name_limit(double server, double own)
{
    const double busy = 0.95;

    if (server >= busy && own >= busy) {
        return "both";
    }
    return server >= busy ? "server" : own >= busy ? "client" : "none";
}

void report_rates(const sample *begin, const sample *end, const histogram *latency, pid_t pid,
                  const char *unit, const char *plural)
{
    char name[64];
    double seconds = (double)(end->now - begin->now) / SECOND;
    double done = (double)(end->done - begin->done);
    double server = (double)(end->server_cpu - begin->server_cpu) / SECOND;
    double own = (double)(end->client_cpu - begin->client_cpu) / SECOND;
    double server_wait = (double)(end->server_wait - begin->server_wait) / SECOND;
    double own_wait = (double)(end->client_wait - begin->client_wait) / SECOND;

    report_number(plural, done, 0);
    report_number("seconds", seconds, 4);
    report_number("rate", done / seconds, 1);
    if (pid != 0) {
        snprintf(name, sizeof(name), "cpu_us_per_%s", unit);
        report_number(name, server * 1e6 / done, 4);
    }
    snprintf(name, sizeof(name), "client_cpu_us_per_%s", unit);
    report_number(name, own * 1e6 / done, 4);
    report_number("latency_us_p50", (double)histogram_quantile(latency, 0.50) / 1e3, 1);
    report_number("latency_us_p99", (double)histogram_quantile(latency, 0.99) / 1e3, 1);
    report_number("latency_us_max", (double)latency->max / 1e3, 1);
    report_number("client_cpu_fraction", own / seconds, 4);
    report_number("client_wait_fraction", own_wait / seconds, 4);
    if (pid != 0) {
        report_number("server_cpu_fraction", server / seconds, 4);
        report_number("server_wait_fraction", server_wait / seconds, 4);
        report_text("limit",
                   name_limit((server + server_wait) / seconds, (own + own_wait) / seconds));
    }
}
