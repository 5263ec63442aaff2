/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h: what the fuzz targets share: the parameters that lead every input, memory that is counted
 * and can fail, and how a broken promise is reported. A target is one file with an entry point for
 * libFuzzer; replay.c runs it without one. See README.md.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "buffer.h"

enum { FUZZ_HEADER = 6 }; /* bytes of parameters; all zero: sensible ones */

struct fuzz_input {
    unsigned flags, options; /* each target says what they are */
    uint32_t cuts;           /* where the bytes are cut */
    size_t limit;
    const uint8_t *data;
    size_t length;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* flags, cuts, options, 3 bytes of limit (0: 16384), then the data. False: too short. */
bool fuzz_read(struct fuzz_input *input, const uint8_t *data, size_t size);
/* The length of the next piece, 1 to `left`. */
size_t fuzz_cut(struct fuzz_input *input, size_t left);

/* What must hold; ends the process when it does not. */
__attribute__((format(printf, 2, 3))) void must(bool holds, const char *format, ...);

/* `memory` counts, `held` checks it. Every block moves when it is resized. */
struct fuzz_memory {
    struct ws__memory memory;
    size_t held, peak;
    unsigned fail_every; /* every n-th allocation fails; 0: none does */
    unsigned calls, failures;
};
void fuzz_memory_init(struct fuzz_memory *m, unsigned fail_every);

#endif
