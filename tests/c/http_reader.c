/* SPDX-License-Identifier: MIT */
/*
 * http_reader.c: says what csrc/http.c and csrc/body.c read in a request, for
 * tests/py/test_http_readers.py, which compares that with other readers. Input: any number of
 * requests, each after the number of its bytes (32 bits, little-endian), with anything after its
 * end. Output: a line for each. Its first word is minus the status of a refusal, 0 if something is
 * missing, or the length of the request. If the head is whole and valid, its length follows, then,
 * in hexadecimal or "-" if empty, the content, the method, the target, and names and values of the
 * fields.
 */
#include "body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 16384, MAX_FIELDS = 100 };

static char space[2 * MAX_HEADER], content[2 * MAX_HEADER];
static char *const end_of_space = space + sizeof space;

static void print_span(const char *at, size_t length)
{
    fputs(length ? " " : " -", stdout);
    for (size_t i = 0; i < length; i++)
        printf("%02x", (unsigned)(uint8_t)at[i]);
}

/* Returns what is printed first; the content ends at *end. */
static int read_body(uint64_t length, const char *bytes, struct ws__input *in, char **end)
{
    struct ws__body body;
    int result = WS__BODY_LAST;
    ws__body_init(&body, length, UINT64_MAX, MAX_HEADER);
    while (!ws__body_ended(&body)) {
        const char *piece;
        size_t n;
        result = ws__body_next(&body, in, &piece, &n);
        if (result <= WS__BODY_MORE)
            return result;
        memcpy(*end, piece, n);
        *end += n;
    }
    return (int)(in->data - bytes);
}

/* The request ends where the space does, so that AddressSanitizer sees who reads beyond it. */
static void read_request(size_t length)
{
    char *bytes = end_of_space - length;
    struct ws__http_field fields[MAX_FIELDS];
    struct ws__http_head head = {.fields = fields, .max_fields = MAX_FIELDS};
    uint64_t body = 0;
    int size = ws__http_parse(&head, bytes, length, MAX_HEADER);
    int refusal = size > 0 ? ws__http_check(&head, bytes, &body) : size;
    if (size <= 0 || refusal) {
        printf("%d\n", refusal);
        return;
    }
    struct ws__input in = {bytes + size, length - (size_t)size};
    char *end = content;
    printf("%d %d", read_body(body, bytes, &in, &end), size);
    print_span(content, (size_t)(end - content));
    print_span(bytes + head.method.offset, head.method.length);
    print_span(bytes + head.target.offset, head.target.length);
    for (int i = 0; i < head.field_count; i++) {
        print_span(bytes + fields[i].name.offset, fields[i].name.length);
        print_span(bytes + fields[i].value.offset, fields[i].value.length);
    }
    putchar('\n');
}

int main(void)
{
    uint8_t n[4];
    while (fread(n, 1, sizeof n, stdin) == sizeof n) {
        size_t length = n[0] | (size_t)n[1] << 8 | (size_t)n[2] << 16 | (size_t)n[3] << 24;
        if (length > sizeof space || fread(end_of_space - length, 1, length, stdin) != length)
            return EXIT_FAILURE;
        read_request(length);
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
