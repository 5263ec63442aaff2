/* SPDX-License-Identifier: MIT */
/*
 * fuzz.c: parameters, memory and results for all fuzz targets, see fuzz.h.
 */
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LIMIT = 16384, HEAD = sizeof(max_align_t) };

bool fuzz_read(struct fuzz_input *input, const uint8_t *data, size_t size)
{
    if (size < FUZZ_HEADER)
        return false;
    size_t limit = (size_t)data[3] | (size_t)data[4] << 8 | (size_t)data[5] << 16;
    *input = (struct fuzz_input){
        .flags = data[0],
        .cuts = data[1] + 1u,
        .options = data[2],
        .limit = limit ? limit : DEFAULT_LIMIT,
        .data = data + FUZZ_HEADER,
        .length = size - FUZZ_HEADER,
    };
    return true;
}

/* Mostly a few bytes, at times many. */
size_t fuzz_cut(struct fuzz_input *input, size_t left)
{
    input->cuts ^= input->cuts << 13;
    input->cuts ^= input->cuts >> 17;
    input->cuts ^= input->cuts << 5;
    size_t most = input->cuts & 0x700 ? 8 : left, n = 1 + (input->cuts >> 11) % most;
    return n < left ? n : left;
}

void must(bool holds, const char *format, ...)
{
    va_list arguments;
    if (holds)
        return;
    va_start(arguments, format);
    fputs("broken: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

/* ---- memory ---- */

static bool fails(struct fuzz_memory *m)
{
    bool now = m->fail_every && ++m->calls % m->fail_every == 0;
    m->failures += now;
    return now;
}

static void *resize(void *context, void *ptr, size_t old_size, size_t size)
{
    struct fuzz_memory *m = context;
    char *old = ptr ? (char *)ptr - HEAD : NULL, *block = NULL;
    if (old)
        must(*(size_t *)(void *)old == old_size, "a block of %zu bytes is said to have %zu",
             *(size_t *)(void *)old, old_size);
    if (size) {
        if (fails(m))
            return NULL;
        block = malloc(HEAD + size);
        must(block, "the machine has no memory");
        *(size_t *)(void *)block = size;
        memcpy(block + HEAD, ptr ? ptr : "", old_size < size ? old_size : size);
    }
    free(old);
    m->held += size - old_size;
    m->peak = m->held > m->peak ? m->held : m->peak;
    return block ? block + HEAD : NULL;
}

void fuzz_memory_init(struct fuzz_memory *m, unsigned fail_every)
{
    const ws_allocator allocator = {resize, m};
    *m = (struct fuzz_memory){.fail_every = fail_every};
    ws__memory_init(&m->memory, &allocator, 0);
}
