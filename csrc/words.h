/* SPDX-License-Identifier: MIT */
/*
 * words.h: how to read bytes a machine word at a time. A leaf without a .c file.
 * Some CPUs load words from any address cheaply. For the others, compilers build an unaligned load
 * from single bytes, which makes a loop over words slower than one over bytes. There a word must
 * lie at a multiple of its size, and the bytes in front of the first such address are handled one
 * by one.
 */
#ifndef WS__WORDS_H
#define WS__WORDS_H

#include <stddef.h>
#include <stdint.h>

/* Tests define WS__ALIGNED_WORDS to get aligned words on any CPU. */
#if !defined(WS__ALIGNED_WORDS) &&                                                                 \
    (defined(__x86_64__) || defined(__i386__) || defined(__ARM_FEATURE_UNALIGNED) ||               \
     defined(__powerpc64__) || defined(__s390__) || defined(__riscv_misaligned_fast))
enum { WS__WORD_ALIGNMENT = 1 };
typedef size_t ws__word __attribute__((may_alias, aligned(1)));
#else
enum { WS__WORD_ALIGNMENT = sizeof(size_t) };
typedef size_t ws__word __attribute__((may_alias));
#endif

/* Vectors are used if the CPU has them and loads them from any address. */
#if !defined(WS__ALIGNED_WORDS) &&                                                                 \
    (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__ARM_FEATURE_UNALIGNED)))
#define WS__VECTORS 1
#else
#define WS__VECTORS 0
#endif

/* The word whose bytes are all `byte`. */
#define WS__EACH_BYTE(byte) (SIZE_MAX / 255 * (byte))

/* Returns the number of bytes from p to the first address where a word can be read. */
static inline size_t ws__word_distance(const void *p)
{
    return (size_t)(-(uintptr_t)p % WS__WORD_ALIGNMENT);
}

#endif
