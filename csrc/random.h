/* SPDX-License-Identifier: MIT */
/*
 * random.h: random bytes, as for the seeds of hash tables.
 */
#ifndef WS__RANDOM_H
#define WS__RANDOM_H

#include <stddef.h>

/* Writes at most 256 random bytes. They come from the kernel, unless a sandbox denies them. */
void ws__random(void *bytes, size_t n);

#endif
