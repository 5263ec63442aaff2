/* SPDX-License-Identifier: MIT */
/*
 * byte_cost.c: calls masking and the check of UTF-8, and loops over bytes that do the same, with
 * mark() in between: byte_cost.py counts the instructions from one mark to the next. Prints a line
 * for each case. Knows of csrc only frame.h and utf8.h.
 */
#include "frame.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>

enum { OFFSETS = 4, MOST = 1000 };

static uint8_t bytes[MOST + OFFSETS + 8] __attribute__((aligned(16)));
static volatile uint32_t result;

__attribute__((noinline)) void mark(void);
void mark(void)
{
    __asm__ volatile("" ::: "memory");
}

/* RFC 6455 section 5.3, and whether the result is ASCII. */
__attribute__((noinline)) static bool loop_mask(uint8_t *p, size_t n, const uint8_t key[4],
                                                size_t offset)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < n; i++)
        seen |= p[i] ^= key[(offset + i) % 4];
    return seen < 0x80;
}

/* RFC 3629 section 4, with a state for what must follow: the same as in utf8.h for the two that it
 * names. */
static uint8_t lead(uint8_t byte)
{
    return byte < 0x80   ? 0
           : byte < 0xc2 ? 1
           : byte < 0xe0 ? 2
           : byte < 0xf0 ? (byte == 0xe0 ? 5 : byte == 0xed ? 6 : 3)
           : byte < 0xf5 ? (byte == 0xf0 ? 7 : byte == 0xf4 ? 8 : 4)
                         : 1;
}

static const struct {
    uint8_t from, to, next;
} follow[9] = {[2] = {0x80, 0xbf, 0}, {0x80, 0xbf, 2}, {0x80, 0xbf, 3}, {0xa0, 0xbf, 2},
               {0x80, 0x9f, 2},       {0x90, 0xbf, 3}, {0x80, 0x8f, 3}};

__attribute__((noinline)) static uint32_t loop_utf8(uint32_t state, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && state != 1; i++) {
        const uint8_t byte = p[i];
        if (state)
            state = byte < follow[state].from || byte > follow[state].to ? 1 : follow[state].next;
        else if (byte >= 0x80)
            state = lead(byte);
    }
    return state;
}

static void fill(const char *text, size_t offset)
{
    const size_t length = strlen(text);
    for (size_t i = offset; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)text[(i - offset) % length];
}

static void compare_masks(size_t offset, size_t n)
{
    static const uint8_t key[4] = {1, 2, 3, 4};
    printf("mask %zu %zu\n", offset, n);
    mark();
    result = ws__frame_mask(bytes + offset, n, key, 0);
    mark();
    result = loop_mask(bytes + offset, n, key, 0);
    mark();
}

static void compare_texts(const char *name, size_t offset, size_t n)
{
    printf("%s %zu %zu\n", name, offset, n);
    mark();
    result = ws__utf8_next(0, bytes + offset, n);
    mark();
    result = loop_utf8(0, bytes + offset, n);
    mark();
}

int main(void)
{
    static const size_t lengths[] = {1, 4, 7, 15, 16, 31, 32, 64, 125, 300, MOST};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t offset = 0; offset < OFFSETS; offset++) {
            fill("text", offset);
            compare_masks(offset, lengths[i]);
            compare_texts("ascii", offset, lengths[i]);
            fill("\xc3\xa9t\xe2\x82\xac", offset);
            compare_texts("utf8", offset, lengths[i]);
        }
    return 0;
}
