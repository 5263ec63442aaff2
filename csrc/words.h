/*
 * words.h: byte arrays, read a machine word at a time. A leaf without code of its own.
 * Where loads from any address are cheap, a word may lie anywhere. Elsewhere compilers put such a
 * load together from single bytes, and what goes word by word is slower than a plain loop: there a
 * word lies at a multiple of its size, and the bytes up to the first one are handled singly.
 */
#ifndef WS__WORDS_H
#define WS__WORDS_H

#include <stddef.h>
#include <stdint.h>

/* WS__ALIGNED_WORDS is for tests: the other way, on any machine. */
#if !defined(WS__ALIGNED_WORDS) &&                                                                 \
    (defined(__x86_64__) || defined(__i386__) || defined(__ARM_FEATURE_UNALIGNED) ||               \
     defined(__powerpc64__) || defined(__s390__) || defined(__riscv_misaligned_fast))
enum { WS__WORD_ALIGNMENT = 1 };
typedef size_t ws__word __attribute__((may_alias, aligned(1)));
#else
enum { WS__WORD_ALIGNMENT = sizeof(size_t) };
typedef size_t ws__word __attribute__((may_alias));
#endif

/* A vector is worth its set-up where the CPU has them and takes them from any address. */
#if !defined(WS__ALIGNED_WORDS) &&                                                                 \
    (defined(__SSE2__) || (defined(__ARM_NEON) && defined(__ARM_FEATURE_UNALIGNED)))
#define WS__VECTORS 1
#else
#define WS__VECTORS 0
#endif

/* A word of which every byte is `byte`. */
#define WS__EACH_BYTE(byte) (SIZE_MAX / 255 * (byte))

/* Bytes from p to the first place for a word. */
static inline size_t ws__word_distance(const void *p)
{
    return (size_t)(-(uintptr_t)p % WS__WORD_ALIGNMENT);
}

#endif
