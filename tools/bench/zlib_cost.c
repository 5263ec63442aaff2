/* SPDX-License-Identifier: MIT */
/*
 * zlib_cost.c: the CPU time of only the zlib calls that a server needs to echo a compressed message
 * as a compressed message. Each is an isolated stream: inflate with a 15-bit window, deflate like
 * the library's shared compressor (level 6, 15-bit window, memLevel 8), with streams that are kept
 * and reset.
 *
 * The messages are those of `load --deflate`. There are no sockets and no frames, and one check
 * before the clock starts. Needs zlib.
 */
#include "measure.h"
#include "pack.h"
#include "records.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ZLIB_CONST
#include <zlib.h>

enum { WINDOW_BITS = 15, LEVEL = 6, MEMORY_LEVEL = 8, SPACE = 16 * 1024, SECOND = 1000000000 };

typedef struct message {
    unsigned char *packed; /* including the tail, so that one call inflates it */
    size_t length;
} message;

typedef struct job {
    unsigned count;
    size_t size;
    double seconds;
    message *messages;
    z_stream inflater, deflater;
    size_t replied; /* compressed bytes of all replies */
} job;

static unsigned char plain[SPACE], reply[SPACE];

static void die(const char *what)
{
    fprintf(stderr, "zlib_cost: %s\n", what);
    exit(1);
}

static void prepare_message(message *m, unsigned number, size_t size)
{
    static const unsigned char tail[PACK_TAIL] = {0x00, 0x00, 0xff, 0xff};

    record_write(number, (char *)plain, size);
    size_t length = pack(plain, size, reply, sizeof(reply));
    m->length = length + PACK_TAIL;
    m->packed = malloc(m->length);
    if (length == 0 || m->packed == NULL) {
        die("cannot compress the messages");
    }
    memcpy(m->packed, reply, length);
    memcpy(m->packed + length, tail, PACK_TAIL);
}

static void prepare(job *j)
{
    j->messages = calloc(j->count, sizeof(message));
    if (j->messages == NULL || inflateInit2(&j->inflater, -WINDOW_BITS) != Z_OK ||
        deflateInit2(&j->deflater, LEVEL, Z_DEFLATED, -WINDOW_BITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        die("out of memory");
    }
    for (unsigned i = 0; i < j->count; i++) {
        prepare_message(&j->messages[i], i, j->size);
    }
}

/* Returns the size of the inflated data, and sets *produced to that of the deflated data. */
static size_t turn_around(job *j, const message *m, size_t *produced)
{
    z_stream *in = &j->inflater, *out = &j->deflater;

    inflateReset(in);
    in->next_in = m->packed;
    in->avail_in = (uInt)m->length;
    in->next_out = plain;
    in->avail_out = SPACE;
    inflate(in, Z_SYNC_FLUSH);
    size_t length = SPACE - in->avail_out;
    deflateReset(out);
    out->next_in = plain;
    out->avail_in = (uInt)length;
    out->next_out = reply;
    out->avail_out = SPACE;
    deflate(out, Z_SYNC_FLUSH);
    *produced = SPACE - out->avail_out - PACK_TAIL;
    return length;
}

static void check(job *j)
{
    static char want[SPACE];
    size_t produced;

    for (unsigned i = 0; i < j->count; i++) {
        record_write(i, want, j->size);
        if (turn_around(j, &j->messages[i], &produced) != j->size ||
            !pack_gives(reply, produced, want, j->size)) {
            die("a message is not restored");
        }
        j->replied += produced;
    }
}

static uint64_t burn(job *j, uint64_t *cpu)
{
    uint64_t until = measure_now() + (uint64_t)(j->seconds * SECOND), done = 0;
    size_t produced;

    *cpu = measure_cpu(getpid());
    while (measure_now() < until) {
        for (unsigned i = 0; i < j->count; i++) {
            turn_around(j, &j->messages[i], &produced);
        }
        done += j->count;
    }
    *cpu = measure_cpu(getpid()) - *cpu;
    return done;
}

static bool parse(job *j, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        double value = i + 1 < argc ? strtod(argv[i + 1], NULL) : 0;
        if (!(value > 0 && value <= 1e6)) {
            return false;
        } else if (strcmp(argv[i], "--messages") == 0) {
            j->count = (unsigned)value;
        } else if (strcmp(argv[i], "--size") == 0) {
            j->size = (size_t)value;
        } else if (strcmp(argv[i], "--seconds") == 0) {
            j->seconds = value;
        } else {
            return false;
        }
    }
    return j->count > 0 && j->size >= RECORD_MIN && j->size < SPACE;
}

int main(int argc, char **argv)
{
    static job j = {.count = 100, .size = 1024, .seconds = 1.5};
    uint64_t cpu;

    if (!parse(&j, argc, argv)) {
        fprintf(stderr, "usage: zlib_cost [--messages N] [--size BYTES] [--seconds S]\n"
                        "N different messages (100) of 256 to 16383 BYTES (1024)\n");
        return 2;
    }
    prepare(&j);
    check(&j);
    uint64_t done = burn(&j, &cpu);
    printf("{\"mode\": \"zlib\", \"messages\": %llu, \"cpu_us_per_message\": %.4f, "
           "\"reply_size\": %.2f}\n",
           (unsigned long long)done, (double)cpu / 1e3 / (double)done,
           (double)j.replied / j.count);
    return 0;
}
