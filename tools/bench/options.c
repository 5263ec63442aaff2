/* SPDX-License-Identifier: MIT */
/*
 * options.c: see options.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "options.h"
#include "audience.h"
#include "client.h"
#include "pack.h"
#include "records.h"
#include "secure.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: load --port P [options]\n"
    "  --host A         IPv4 address of the server (127.0.0.1)\n"
    "  --path T         request target (/, or /broadcast)\n"
    "  --pid N          process id of the server, to read its CPU time and memory\n"
    "  --conns N        connections (100)\n"
    "  --size N         payload bytes of a message (64)\n"
    "  --pipeline N     messages in flight on each connection (1)\n"
    "  --beside N       N additional idle connections\n"
    "  --text, --binary type of the messages (text)\n"
    "  --records        JSON-like messages of 256 bytes or more instead of letters\n"
    "  --deflate        the same, compressed without context (RFC 7692); below 64 KiB\n"
    "  --tls            over TLS 1.3 (AES-128-GCM); certificates are not checked\n"
    "  --resume         the same, and each connection resumes the session of an earlier one\n"
    "  --spin           never sleep, so that the server does not have to wake up the generator\n"
    "  --seconds S      measured time (3); more until the server has used 20 ms of CPU time\n"
    "  --warmup S       time before it (0.5)\n"
    "  --messages N     exactly N messages in total, without warm-up, instead of --seconds\n"
    "  --connects N     connect, handshake and close N times, --conns at a time\n"
    "  --idle N         N idle connections; needs --pid\n"
    "  --broadcast N    N connections to /broadcast, which get what one of them sends;\n"
    "                   --pipeline is the number of messages in flight to all of them\n"
    "  --publishers N   how many of these connections send (1)\n"
    "  --timeout S      time limit for everything except warm-up and measured time (30)\n"
    "  --json           one JSON object instead of lines\n";

enum {
    PORT,
    PID,
    CONNS,
    SIZE,
    PIPELINE,
    SECONDS,
    WARMUP,
    MESSAGES,
    CONNECTS,
    IDLE,
    BESIDE,
    BROADCAST,
    PUBLISHERS,
    TIMEOUT,
    NUMBERS, /* the options above take a number */
    HOST = NUMBERS,
    PATH,
    TEXT,
    BINARY,
    RECORDS,
    DEFLATE,
    TLS,
    RESUME,
    SPIN,
    JSON,
    HELP
};

static const struct option table[] = {
    {"port", 1, NULL, PORT},
    {"pid", 1, NULL, PID},
    {"conns", 1, NULL, CONNS},
    {"size", 1, NULL, SIZE},
    {"pipeline", 1, NULL, PIPELINE},
    {"seconds", 1, NULL, SECONDS},
    {"warmup", 1, NULL, WARMUP},
    {"messages", 1, NULL, MESSAGES},
    {"connects", 1, NULL, CONNECTS},
    {"idle", 1, NULL, IDLE},
    {"beside", 1, NULL, BESIDE},
    {"broadcast", 1, NULL, BROADCAST},
    {"publishers", 1, NULL, PUBLISHERS},
    {"timeout", 1, NULL, TIMEOUT},
    {"host", 1, NULL, HOST},
    {"path", 1, NULL, PATH},
    {"text", 0, NULL, TEXT},
    {"binary", 0, NULL, BINARY},
    {"records", 0, NULL, RECORDS},
    {"deflate", 0, NULL, DEFLATE},
    {"tls", 0, NULL, TLS},
    {"resume", 0, NULL, RESUME},
    {"spin", 0, NULL, SPIN},
    {"json", 0, NULL, JSON},
    {"help", 0, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static const struct {
    double low, high, initial;
} numbers[NUMBERS] = {
    [PORT] = {1, 65535, 0},        [PID] = {1, 1 << 30, 0},        [CONNS] = {1, 1000000, 100},
    [SIZE] = {0, 1 << 28, 64},     [PIPELINE] = {1, 65536, 1},     [SECONDS] = {0, 86400, 3},
    [WARMUP] = {0, 3600, 0.5},     [MESSAGES] = {1, 1e12, 0},      [CONNECTS] = {1, 1e9, 0},
    [IDLE] = {1, 1000000, 0},      [BESIDE] = {0, 1000000, 0},     [BROADCAST] = {1, 1000000, 0},
    [PUBLISHERS] = {1, 65536, 1},  [TIMEOUT] = {0, 86400, 30},
};

static double parse_number(int which, const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' ||
        !(value >= numbers[which].low && value <= numbers[which].high)) {
        die("--%s takes a number from %.0f to %.0f", table[which].name, numbers[which].low,
            numbers[which].high);
    }
    return value;
}

static void set_numbers(options *o, const double n[NUMBERS])
{
    o->port = (unsigned)n[PORT];
    o->pid = (pid_t)n[PID];
    o->conns = (unsigned)n[CONNS];
    o->size = (size_t)n[SIZE];
    o->pipeline = (unsigned)n[PIPELINE];
    o->seconds = n[SECONDS];
    o->warmup = n[WARMUP];
    o->messages = (uint64_t)n[MESSAGES];
    o->connects = (unsigned)n[CONNECTS];
    o->idle = (unsigned)n[IDLE];
    o->beside = (unsigned)n[BESIDE];
    o->broadcast = (unsigned)n[BROADCAST];
    o->publishers = (unsigned)n[PUBLISHERS];
    o->timeout = n[TIMEOUT];
}

static void set_word(options *o, int which, const char *text)
{
    if (which == HOST) {
        o->host = text;
    } else if (which == PATH) {
        o->path = text;
    } else if (which == JSON) {
        o->json = true;
    } else if (which == SPIN) {
        o->spin = true;
    } else if (which == TLS || which == RESUME) {
        o->tls = true;
        o->resume |= which == RESUME;
    } else if (which == RECORDS || which == DEFLATE) {
        o->records = true;
        o->deflate |= which == DEFLATE;
    } else {
        o->opcode = which == TEXT ? 1 : 2;
    }
}

static bool make_sense(const options *o)
{
    if (o->broadcast > 0 && (o->size < AUDIENCE_SIZE_MIN || o->size > UINT16_MAX ||
                             o->records || o->publishers > o->broadcast)) {
        return false;
    }
    return o->port != 0 && (o->idle == 0 || o->pid != 0) &&
           (!o->records || o->size >= RECORD_MIN) && (!o->deflate || o->size <= UINT16_MAX);
}

void options_parse(options *o, int argc, char **argv)
{
    int which;
    double n[NUMBERS];

    *o = (options){.host = "127.0.0.1", .opcode = 1};
    for (int i = 0; i < NUMBERS; i++) {
        n[i] = numbers[i].initial;
    }
    while ((which = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (which == '?' || which == HELP) {
            fputs(usage, which == HELP ? stdout : stderr);
            exit(which == HELP ? 0 : 2);
        }
        if (which < NUMBERS) {
            n[which] = parse_number(which, optarg);
        } else {
            set_word(o, which, optarg);
        }
    }
    set_numbers(o, n);
    if (o->path == NULL) {
        o->path = o->broadcast > 0 ? "/broadcast" : "/";
    }
    if (optind < argc || !make_sense(o)) {
        fputs(usage, stderr);
        exit(2);
    }
    if (o->deflate && !pack_available()) {
        die("--deflate: built without zlib");
    }
    if (o->tls && !secure_available()) {
        die("--tls: built without OpenSSL");
    }
}
