/*
 * records.h: JSON-like messages, the same ones in every run: text that compresses as the data of
 * applications does, which letters in a row do not.
 */
#ifndef BENCH_RECORDS_H
#define BENCH_RECORDS_H

#include <stddef.h>

enum { RECORD_MIN = 256 };

/* Writes record `number`, a JSON object of exactly `size` bytes (RECORD_MIN or more), to `to`. */
void record_write(unsigned number, char *to, size_t size);

#endif
