/* SPDX-License-Identifier: MIT */
/*
 * tap.c: the checks and the cases of a test program, see tap.h.
 */
#include "tap.h"

#include <stdarg.h>
#include <stdlib.h>

enum { MAX_CASES = 256, NAME_SIZE = 80 };

static int count, failures;

static struct {
    char names[MAX_CASES][NAME_SIZE]; /* of all cases, in their order */
    int name_count;
    bool running; /* the names are complete, and the cases run */
    char **wanted; /* the arguments; none: all cases */
    int wanted_count;
} program;

/* ---- the checks ---- */

void diag(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("# ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

static bool print_result(bool pass, const char *format, va_list arguments)
{
    char name[512];
    vsnprintf(name, sizeof name, format, arguments);
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~') /* a name is one line of text, whatever was tested */
            *c = '?';
    count++;
    failures += !pass;
    printf("%s %d - %s\n", pass ? "ok" : "not ok", count, name);
    fflush(stdout);
    return pass;
}

bool ok(bool pass, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_result(pass, format, arguments);
    va_end(arguments);
    return pass;
}

bool is_int(long long got, long long want, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    bool same = print_result(got == want, format, arguments);
    va_end(arguments);
    if (!same)
        diag("got %lld, want %lld", got, want);
    return same;
}

bool is_mem(const void *got, size_t got_length, const void *want, size_t want_length,
            const char *format, ...)
{
    bool same = got_length == want_length && (!want_length || !memcmp(got, want, want_length));
    va_list arguments;
    va_start(arguments, format);
    print_result(same, format, arguments);
    va_end(arguments);
    if (!same)
        diag("got %zu bytes \"%.*s\", want %zu bytes \"%.*s\"", got_length, (int)got_length,
             (const char *)got, want_length, (int)want_length, (const char *)want);
    return same;
}

bool is_text(const char *got, const char *want, const char *name)
{
    bool same = ok(!strcmp(got, want), "%s", name);
    if (!same)
        diag("got:  %s\n# want: %s", got, want);
    return same;
}

/* ---- the cases ---- */

static bool is_case(const char *name)
{
    for (int i = 0; i < program.name_count; i++)
        if (!strcmp(program.names[i], name))
            return true;
    return false;
}

static void add_case(const char *name)
{
    if (is_case(name))
        return;
    if (program.name_count == MAX_CASES)
        abort();
    strcpy(program.names[program.name_count++], name);
}

static bool is_wanted(const char *name)
{
    for (int i = 0; i < program.wanted_count; i++)
        if (!strcmp(program.wanted[i], name))
            return true;
    return false;
}

bool case_runs(const char *call, bool unnamed)
{
    char name[NAME_SIZE];
    size_t length = strcspn(call, "(");
    if (length >= sizeof name)
        abort();
    memcpy(name, call, length);
    name[length] = '\0';
    if (!program.running)
        add_case(name);
    else if (program.wanted_count ? !is_wanted(name) : !unnamed)
        return false;
    if (program.running)
        diag("%s", call);
    return program.running;
}

static const char *unknown_name(void)
{
    for (int i = 0; i < program.wanted_count; i++)
        if (!is_case(program.wanted[i]))
            return program.wanted[i];
    return NULL;
}

int run_cases(int argc, char **argv, void (*cases)(void))
{
    memset(&program, 0, sizeof program); /* of a parent, in the child of test_tap.c */
    count = failures = 0;
    cases();
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (int i = 0; i < program.name_count; i++)
            puts(program.names[i]);
        return 0;
    }
    program.wanted = argv + 1;
    program.wanted_count = argc - 1;
    const char *unknown = unknown_name();
    if (unknown) {
        fprintf(stderr, "%s: there is no case \"%s\"; --list prints the names\n", argv[0], unknown);
        return 2;
    }
    program.running = true;
    cases();
    return done_testing();
}

int done_testing(void)
{
    printf("1..%d\n", count);
    return failures != 0;
}
