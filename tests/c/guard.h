/* SPDX-License-Identifier: MIT */
/*
 * guard.h: bytes that lie flush against a PROT_NONE page, so that reading or writing one byte
 * after them crashes, with or without a sanitizer. One region, at most GUARD_SIZE bytes.
 */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARD_SIZE = 1 << 20 };

/* The first address that may not be touched. */
static inline uint8_t *guard_end(void)
{
    static uint8_t *end;
    if (end)
        return end;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *start = mmap(NULL, GUARD_SIZE + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || mprotect(start + GUARD_SIZE, page, PROT_NONE)) {
        perror("guard");
        exit(2);
    }
    return end = start + GUARD_SIZE;
}

/* n bytes in front of the page; with what they held before. */
static inline uint8_t *guard_tail(size_t n)
{
    return guard_end() - n;
}

/* A copy of data[n] in front of the page. Valid until the next copy. */
static inline uint8_t *guard_copy(const void *data, size_t n)
{
    return n ? memcpy(guard_tail(n), data, n) : guard_end();
}

#endif
