/* SPDX-License-Identifier: MIT */
/*
 * records.h: JSON-like messages that are the same in every run. They compress like the data of
 * applications, which consecutive letters do not.
 */
#ifndef BENCH_RECORDS_H
#define BENCH_RECORDS_H

#include <stddef.h>

enum { RECORD_MIN = 256 };

/* Writes record `number`, a JSON object of exactly `size` bytes (at least RECORD_MIN), to `to`. */
void record_write(unsigned number, char *to, size_t size);

#endif
