/* SPDX-License-Identifier: MIT */
/*
 * harness_private.h: what the two files of the harness share, and no test needs.
 */
#ifndef HARNESS_PRIVATE_H
#define HARNESS_PRIVATE_H

#include "harness.h"

extern const char *const opcode_names[16];

/* Ends the program if a call has failed, unless the allocator fails: without it nothing else makes
 * sense. */
void expect_fine(const struct harness *h, int result, const char *what);

#endif
