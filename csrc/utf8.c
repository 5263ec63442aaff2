/* SPDX-License-Identifier: MIT */
/*
 * utf8.c: incremental UTF-8 validation (RFC 3629 section 4), which RFC 6455 section 8.1 requires.
 * An automaton that makes one shift per byte, with a short cut for ASCII. Knows nothing of frames:
 * takes a state and bytes, and returns a state.
 */
#include "utf8.h"
#include "words.h"
#include "ws.h"

#include <stdbool.h>

/* A state is what must follow: that many continuation bytes (80-BF), where some lead bytes allow
 * only a part of the range for the first one. */
enum utf8_state {
    ACCEPT = WS__UTF8_ACCEPT,
    REJECT = WS__UTF8_REJECT,
    ONE,
    TWO,
    THREE,
    AFTER_E0, /* A0-BF: less is overlong */
    AFTER_ED, /* 80-9F: more is a surrogate */
    AFTER_F0, /* 90-BF: less is overlong */
    AFTER_F4  /* 80-8F: more is above U+10FFFF */
};

/* Two bytes are of one class if they lead to the same state from every state. */
enum byte_class {
    ASCII,
    LOW,    /* 80-8F */
    MIDDLE, /* 90-9F */
    HIGH,   /* A0-BF */
    NEVER,  /* C0 and C1: overlong; F5-FF: above U+10FFFF */
    LEAD2,
    LEAD3,
    LEAD_E0,
    LEAD_ED,
    LEAD4,
    LEAD_F0,
    LEAD_F4,
    CLASSES
};

static const uint8_t class_of[256] = {
    [0x80] = LOW,   LOW,     LOW,    LOW,    LOW,    LOW,    LOW,    LOW,
    LOW,    LOW,     LOW,    LOW,    LOW,    LOW,    LOW,    LOW,
    MIDDLE, MIDDLE,  MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE,
    MIDDLE, MIDDLE,  MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE,
    HIGH,   HIGH,    HIGH,   HIGH,   HIGH,   HIGH,   HIGH,   HIGH,
    HIGH,   HIGH,    HIGH,   HIGH,   HIGH,   HIGH,   HIGH,   HIGH,
    HIGH,   HIGH,    HIGH,   HIGH,   HIGH,   HIGH,   HIGH,   HIGH,
    HIGH,   HIGH,    HIGH,   HIGH,   HIGH,   HIGH,   HIGH,   HIGH,
    NEVER,  NEVER,   LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,
    LEAD2,  LEAD2,   LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,
    LEAD2,  LEAD2,   LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,
    LEAD2,  LEAD2,   LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,  LEAD2,
    LEAD_E0, LEAD3,  LEAD3,  LEAD3,  LEAD3,  LEAD3,  LEAD3,  LEAD3,
    LEAD3,  LEAD3,   LEAD3,  LEAD3,  LEAD3,  LEAD_ED, LEAD3, LEAD3,
    LEAD_F0, LEAD4,  LEAD4,  LEAD4,  LEAD_F4, NEVER, NEVER,  NEVER,
    NEVER,  NEVER,   NEVER,  NEVER,  NEVER,  NEVER,  NEVER,  NEVER,
};

enum { ASCII_BLOCK = 16 };

#if SIZE_MAX > UINT32_MAX
/* A row holds the next state for each state, in fields of six bits. A field holds the position of
 * the next state's field, so `row >> position & 63` is a whole step, of which only the shift
 * depends on the step before. */
typedef uint64_t next_states;
enum { STATE_BITS = 6, STATE_MASK = 63 };

#define ENTRY(from, to) ((uint64_t)(STATE_BITS * (to)) << STATE_BITS * (from))
#define ROW(accept, one, two, three, e0, ed, f0, f4)                                               \
    ENTRY(ACCEPT, accept) | ENTRY(REJECT, REJECT) | ENTRY(ONE, one) | ENTRY(TWO, two) |            \
        ENTRY(THREE, three) | ENTRY(AFTER_E0, e0) | ENTRY(AFTER_ED, ed) | ENTRY(AFTER_F0, f0) |    \
        ENTRY(AFTER_F4, f4)
#define NEXT(row, position) ((size_t)((row) >> ((position) & STATE_MASK)))
#else
/* A shift of 64 bits is many instructions here, so a row is an array. */
typedef uint8_t next_states[16];
enum { STATE_BITS = 1, STATE_MASK = 15 };

#define ROW(accept, one, two, three, e0, ed, f0, f4)                                               \
    {accept, REJECT, one, two, three, e0, ed, f0, f4}
#define NEXT(row, position) ((row)[position])
#endif
#define FIRST(next) ROW(next, REJECT, REJECT, REJECT, REJECT, REJECT, REJECT, REJECT)

static const next_states rows[CLASSES] = {
    [ASCII] = FIRST(ACCEPT),
    [LOW] = ROW(REJECT, ACCEPT, ONE, TWO, REJECT, ONE, REJECT, TWO),
    [MIDDLE] = ROW(REJECT, ACCEPT, ONE, TWO, REJECT, ONE, TWO, REJECT),
    [HIGH] = ROW(REJECT, ACCEPT, ONE, TWO, ONE, REJECT, TWO, REJECT),
    [NEVER] = FIRST(REJECT),
    [LEAD2] = FIRST(ONE),
    [LEAD3] = FIRST(TWO),
    [LEAD_E0] = FIRST(AFTER_E0),
    [LEAD_ED] = FIRST(AFTER_ED),
    [LEAD4] = FIRST(THREE),
    [LEAD_F0] = FIRST(AFTER_F0),
    [LEAD_F4] = FIRST(AFTER_F4),
};

/* Makes a step for each byte. */
static size_t step(size_t position, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        position = NEXT(rows[class_of[p[i]]], position);
    return position & STATE_MASK;
}

/* The same for few bytes where words must be aligned: the ASCII in front needs no steps. */
static size_t step_few(size_t position, const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (position == STATE_BITS * ACCEPT && i < n && p[i] < 0x80)
        i++;
    return step(position, p + i, n - i);
}

static bool is_ascii(const uint8_t block[ASCII_BLOCK])
{
    const ws__word *words = (const ws__word *)(const void *)block;
    size_t seen = 0;
    for (size_t i = 0; i < ASCII_BLOCK / sizeof *words; i++)
        seen |= words[i];
    return !(seen & WS__EACH_BYTE(0x80));
}

uint32_t ws__utf8_next(uint32_t state, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    size_t position = STATE_BITS * state, i = ws__word_distance(p);
    if (WS__WORD_ALIGNMENT > 1 && n < 2 * ASCII_BLOCK) /* too short for an aligned block */
        return (uint32_t)step_few(position, p, n) / STATE_BITS;
    if (i)
        position = step(position, p, i);
    for (; n - i >= ASCII_BLOCK && position != STATE_BITS * REJECT; i += ASCII_BLOCK) {
        if (position != STATE_BITS * ACCEPT || !is_ascii(p + i))
            position = step(position, p + i, ASCII_BLOCK);
    }
    if (position != STATE_BITS * REJECT && i < n)
        position = step(position, p + i, n - i);
    return (uint32_t)position / STATE_BITS;
}

size_t ws__utf8_cut(const void *bytes, size_t n, size_t limit)
{
    const uint8_t *p = bytes;
    if (n <= limit)
        return n;
    while (limit > 0 && class_of[p[limit]] >= LOW && class_of[p[limit]] <= HIGH)
        limit--;
    return limit;
}

/* ---- ws.h ---- */

bool ws_utf8_valid(const void *data, size_t length)
{
    return ws__utf8_next(WS__UTF8_ACCEPT, data, length) == WS__UTF8_ACCEPT;
}
