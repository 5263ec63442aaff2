/* SPDX-License-Identifier: MIT */
/*
 * vectors.c: the text format of tests/vectors/README.md, read into structs.
 */
#include "vectors.h"

#include "tap.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#ifndef VECTORS_DIR
#define VECTORS_DIR "tests/vectors"
#endif

enum { LINE = 4096 };

static const uint8_t mask_key[4] = {0x37, 0xfa, 0x21, 0x3d};

static void put(struct bytes *b, const void *data, size_t n)
{
    if (b->length + n > b->capacity) {
        b->capacity = b->length + n + b->capacity / 2 + 64;
        b->data = realloc(b->data, b->capacity);
        if (!b->data)
            abort();
    }
    if (n)
        memcpy(b->data + b->length, data, n);
    b->length += n;
}

static void put_byte(struct bytes *b, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put(b, &byte, 1);
}

/* ---- the text format ----------------------------------------------------------------------- */

static bool take_hex(const char **p, unsigned *value)
{
    const char *s = *p;
    if (!isxdigit((unsigned char)s[0]) || !isxdigit((unsigned char)s[1]))
        return false;
    char digits[3] = {s[0], s[1], 0};
    *value = (unsigned)strtoul(digits, NULL, 16);
    *p += 2;
    return true;
}

static bool take_string(const char **p, struct bytes *out)
{
    const char *s = *p + 1;
    unsigned value;
    for (; *s && *s != '"'; put_byte(out, value)) {
        if (*s != '\\')
            value = (unsigned char)*s++;
        else if (s[1] == 'x' && (s += 2, !take_hex(&s, &value)))
            return false;
        else if (*s == '\\' && (s[1] == '\\' || s[1] == '"'))
            value = (unsigned char)s[1], s += 2;
    }
    *p = s + 1;
    return *s == '"';
}

/* One item: hex digits or a string, perhaps repeated. */
static bool take_item(const char **p, struct bytes *out)
{
    struct bytes item = {0};
    unsigned value;
    unsigned long times = 1;
    bool good;
    if (**p == '"') {
        good = take_string(p, &item);
    } else {
        while (take_hex(p, &value))
            put_byte(&item, value);
        good = item.length > 0;
    }
    if (good && **p == '*') {
        char *end;
        times = strtoul(*p + 1, &end, 10);
        *p = end;
    }
    for (; good && times > 0; times--)
        put(out, item.data, item.length);
    free(item.data);
    return good && (!**p || **p == ' ');
}

static bool take_items(const char *p, struct bytes *out)
{
    for (;;) {
        while (*p == ' ')
            p++;
        if (!*p)
            return true;
        if (!take_item(&p, out))
            return false;
    }
}

static bool take_word(const char **p, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*p, word, n) || ((*p)[n] && (*p)[n] != ' '))
        return false;
    for (*p += n; **p == ' ';)
        ++*p;
    return true;
}

static int take_opcode(const char **p)
{
    static const struct {
        const char *name;
        int opcode;
    } names[] = {{"continuation", 0}, {"text", 1}, {"binary", 2},
                 {"close", 8},        {"ping", 9}, {"pong", 10}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (take_word(p, names[i].name))
            return names[i].opcode;
    char *end;
    long number = strtol(*p, &end, 10);
    if (end == *p || number < 0 || number > 15)
        return -1;
    *p = end;
    return (int)number;
}

static void put_header(struct bytes *out, unsigned first, unsigned mask_bit, uint64_t length)
{
    int extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    put_byte(out, first);
    put_byte(out, mask_bit | (extended == 0 ? (unsigned)length : extended == 2 ? 126u : 127u));
    for (int i = extended; i-- > 0;)
        put_byte(out, (unsigned)(length >> 8 * i & 0xff));
}

static bool take_frame(const char *p, struct bytes *out)
{
    static const char *const flags[] = {"fin", "rsv1", "rsv2", "rsv3"};
    struct bytes payload = {0};
    unsigned first = 0, mask_bit = 0x80;
    for (size_t i = 0; i < 4; i++)
        if (take_word(&p, flags[i]))
            first |= 0x80u >> i;
    if (take_word(&p, "unmasked"))
        mask_bit = 0;
    int opcode = take_opcode(&p);
    if (opcode < 0 || !take_items(p, &payload)) {
        free(payload.data);
        return false;
    }
    put_header(out, first | (unsigned)opcode, mask_bit, payload.length);
    if (mask_bit)
        put(out, mask_key, 4);
    for (size_t i = 0; i < payload.length; i++)
        put_byte(out, mask_bit ? payload.data[i] ^ mask_key[i % 4] : payload.data[i]);
    free(payload.data);
    return true;
}

static bool take_event(struct vector *v, const char *p)
{
    if (v->event_count == EVENTS)
        return false;
    struct expected *e = &v->events[v->event_count++];
    size_t n = strcspn(p, " ");
    if (n >= sizeof e->kind)
        return false;
    memcpy(e->kind, p, n);
    p += n;
    if (!strcmp(e->kind, "CLOSE") || !strcmp(e->kind, "FAIL")) {
        char *end;
        e->code = (int)strtol(p, &end, 10);
        p = end;
    }
    return take_items(p, &e->data);
}

static bool take_wire(struct vector *v, const char *p)
{
    if (v->mark_count < MARKS)
        v->marks[v->mark_count++] = v->wire.length;
    return take_word(&p, "frame") ? take_frame(p, &v->wire) : take_items(p, &v->wire);
}

static void take_line(struct vector *v, const char *line)
{
    bool good = true;
    if (!strncmp(line, "> ", 2))
        good = take_wire(v, line + 2);
    else if (!strncmp(line, "< ", 2))
        good = take_event(v, line + 2);
    else if (!strncmp(line, "limit ", 6))
        v->limit = strtoul(line + 6, NULL, 10);
    else if (line[0] == '#' && !v->name[0])
        snprintf(v->name, sizeof v->name, "%.190s", line + 2);
    else if (line[0] != '#')
        good = false;
    if (!good)
        printf("# cannot read: %.200s\n", line);
    v->broken |= !good;
}

bool read_vector(FILE *file, struct vector *v)
{
    char line[LINE];
    *v = (struct vector){.limit = 16384};
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0]) {
            take_line(v, line);
            continue;
        }
        if (v->wire.length)
            return true;
        *v = (struct vector){.limit = 16384, .broken = v->broken};
    }
    return v->wire.length > 0;
}

void free_vector(struct vector *v)
{
    for (size_t i = 0; i < v->event_count; i++)
        free(v->events[i].data.data);
    free(v->wire.data);
}

bool run_vector_file(const char *path, vector_function *run)
{
    struct vector v;
    const char *slash = strrchr(path, '/');
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    while (read_vector(file, &v)) {
        run(slash ? slash + 1 : path, &v);
        free_vector(&v);
    }
    fclose(file);
    return true;
}

static int is_vector_file(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && !strcmp(dot, ".txt");
}

void run_vector_cases(vector_function *run)
{
    const char *installed = getenv("VECTORS_DIR"), *folder = installed ? installed : VECTORS_DIR;
    struct dirent **entries;
    char path[LINE];
    int n = scandir(folder, &entries, is_vector_file, alphasort);
    if (n <= 0) {
        printf("Bail out! there are no vectors in %s\n", folder);
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (case_runs(name, true))
            ok(run_vector_file(path, run), "%s was read", name);
        free(entries[i]);
    }
    free(entries);
}
