/*
 * test_vectors.c: runs the text vectors (tests/vectors/README.md) through protocol.c: each one
 * whole, byte by byte, and at every two-way split (the large ones at 200 splits and around every
 * line). All must give the same events (T29). The input lies flush against a page that may not be
 * touched; data of an event is written over, as a handler may do.
 * Arguments: vector files; none: all of VECTORS_DIR.
 */
#include "guard.h"
#include "protocol.h"
#include "tap.h"

#include <ctype.h>
#include <dirent.h>

#ifndef VECTORS_DIR
#define VECTORS_DIR "tests/vectors"
#endif

enum { EVENTS = 64, MARKS = 64, TAIL = 130, ALL_SPLITS = 600, SOME_SPLITS = 200, LINE = 4096 };

static const uint8_t mask_key[4] = {0x37, 0xfa, 0x21, 0x3d};

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
        diag("cannot read: %.200s", line);
    v->broken |= !good;
}

/* The next block that sends something; false at the end of the file. */
static bool read_vector(FILE *file, struct vector *v)
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

static void free_vector(struct vector *v)
{
    for (size_t i = 0; i < v->event_count; i++)
        free(v->events[i].data.data);
    free(v->wire.data);
}

/* ---- one run ------------------------------------------------------------------------------- */

struct run {
    const struct vector *vector;
    struct ws__protocol protocol;
    struct ws__memory memory;
    size_t fed, left; /* bytes presented so far; the last ones of them that were not consumed */
    size_t events;
    const char *problem;
};

static const char *kind_of(const struct ws__event *event)
{
    switch (event->type) {
    case WS__EVENT_MESSAGE:
        return event->opcode == WS_TEXT ? "TEXT" : event->opcode == WS_BINARY ? "BINARY" : "?";
    case WS__EVENT_PING:
        return "PING";
    case WS__EVENT_PONG:
        return "PONG";
    case WS__EVENT_CLOSE:
        return "CLOSE";
    case WS__EVENT_FAIL:
        return "FAIL";
    }
    return "?";
}

static bool same_event(const struct ws__event *event, const struct expected *want)
{
    return !strcmp(kind_of(event), want->kind) && event->code == want->code && event->data &&
           event->length == want->data.length &&
           (!event->length || !memcmp(event->data, want->data.data, event->length));
}

static void take(struct run *r, struct ws__event *event)
{
    const struct vector *v = r->vector;
    if (r->events >= v->event_count || !same_event(event, &v->events[r->events])) {
        diag("event %zu: %s %d, %zu bytes: %.*s", r->events, kind_of(event), event->code,
             event->length, event->length < 96 ? (int)event->length : 96, event->data);
        r->problem = "unexpected event";
    }
    r->events++;
    memset(event->data, 0x5a, event->length);
    ws__protocol_release(&r->protocol, &r->memory);
}

/* Presents the bytes up to `to`, behind those that were not consumed. */
static void feed(struct run *r, size_t to)
{
    const uint8_t *wire = r->vector->wire.data;
    size_t n = r->left + to - r->fed;
    struct ws__input in = {(char *)guard_copy(wire + to - n, n), n};
    struct ws__event event;
    int rc;
    while ((rc = ws__protocol_next(&r->protocol, &r->memory, r->vector->limit, &in, &event)) > 0)
        take(r, &event);
    if (rc)
        r->problem = "error";
    if (in.length > TAIL || (r->protocol.ended && in.length))
        r->problem = "too many bytes left";
    else if (in.length && memcmp(in.data, wire + to - in.length, in.length))
        r->problem = "bytes left were changed";
    r->fed = to;
    r->left = in.length;
}

static void begin(struct run *r, const struct vector *v)
{
    *r = (struct run){.vector = v};
    ws__memory_init(&r->memory, NULL, 0);
}

static bool end(struct run *r, const char *how, size_t at)
{
    if (!r->problem && r->events != r->vector->event_count)
        r->problem = "events are missing";
    ws__protocol_deinit(&r->protocol, &r->memory);
    if (!r->problem && r->memory.used)
        r->problem = "memory is still held";
    if (r->problem)
        diag("%s %zu: %s", how, at, r->problem);
    return !r->problem;
}

static bool run_pieces(const struct vector *v, size_t piece)
{
    struct run r;
    begin(&r, v);
    for (size_t to = 0; to < v->wire.length && !r.problem;) {
        to = v->wire.length - to > piece ? to + piece : v->wire.length;
        feed(&r, to);
    }
    return end(&r, "pieces of", piece);
}

static bool run_split(const struct vector *v, size_t at)
{
    struct run r;
    if (at == 0 || at >= v->wire.length)
        return true;
    begin(&r, v);
    feed(&r, at);
    if (!r.problem)
        feed(&r, v->wire.length);
    return end(&r, "split at", at);
}

static bool run_splits(const struct vector *v)
{
    size_t n = v->wire.length, step = n <= ALL_SPLITS ? 1 : n / SOME_SPLITS;
    for (size_t at = 1; at < n; at += step)
        if (!run_split(v, at))
            return false;
    for (size_t i = 0; step > 1 && i < v->mark_count; i++)
        for (size_t near = 0; near < 32; near++)
            if (!run_split(v, v->marks[i] + near - 16) || !run_split(v, n - near))
                return false;
    return true;
}

static void run_file(const char *path)
{
    struct vector v;
    const char *slash = strrchr(path, '/');
    FILE *file = fopen(path, "r");
    if (!ok(file != NULL, "open %s", path))
        return;
    while (read_vector(file, &v)) {
        bool good = !v.broken && v.wire.length < GUARD_SIZE - TAIL &&
                    run_pieces(&v, v.wire.length) && run_pieces(&v, 1) && run_splits(&v);
        ok(good, "%s: %s", slash ? slash + 1 : path, v.name);
        free_vector(&v);
    }
    fclose(file);
}

static int is_vector_file(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && !strcmp(dot, ".txt");
}

static void run_directory(const char *directory)
{
    struct dirent **entries;
    char path[LINE];
    int n = scandir(directory, &entries, is_vector_file, alphasort);
    ok(n > 0, "vector files in %s", directory);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        run_file(path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        run_directory(VECTORS_DIR);
    for (int i = 1; i < argc; i++)
        run_file(argv[i]);
    return done_testing();
}
