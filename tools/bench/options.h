/* SPDX-License-Identifier: MIT */
/*
 * options.h: the command line of the load generator.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct options {
    const char *host, *path;
    unsigned port;
    unsigned conns, pipeline, beside; /* beside: additional idle connections */
    unsigned connects, idle, broadcast, publishers;
    size_t size;
    uint64_t messages;
    double seconds, warmup, timeout;
    pid_t pid;
    int opcode;
    bool records, deflate, spin, tls, resume;
    bool json;
} options;

/* Fills *o; exits with the usage after a mistake and for --help. */
void options_parse(options *o, int argc, char **argv);

#endif
