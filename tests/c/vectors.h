/* SPDX-License-Identifier: MIT */
/*
 * vectors.h: reads the text vectors; tests/vectors/README.md describes their format.
 */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { EVENTS = 64, MARKS = 64 };

struct bytes {
    uint8_t *data;
    size_t length, capacity;
};

struct expected {
    char kind[16];
    int code;
    struct bytes data;
};

struct vector {
    char name[200];
    size_t limit;
    struct bytes wire;
    struct expected events[EVENTS];
    size_t event_count;
    size_t marks[MARKS]; /* where lines begin and end on the wire */
    size_t mark_count;
    bool broken; /* does not follow the format */
};

/* The next block that sends something; false at the end of the file. Free it with free_vector. */
bool read_vector(FILE *file, struct vector *v);
void free_vector(struct vector *v);

/* Takes a vector of the file of this name. */
typedef void vector_function(const char *file, const struct vector *v);

/* Calls run for each vector of a file. Returns false if it cannot be opened. */
bool run_vector_file(const char *path, vector_function *run);

/* For cases() of tap.h: each file of VECTORS_DIR is a case of its name. */
void run_vector_cases(vector_function *run);

#endif
