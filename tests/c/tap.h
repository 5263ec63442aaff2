/*
 * tap.h: the Test Anything Protocol for C unit tests: one file, no dependencies.
 * Call ok, is_int or is_mem once per case and end main with `return done_testing();`.
 */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 1, 2), unused)) static void diag(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("# ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

static void tap_line(bool pass, const char *format, va_list arguments)
{
    char name[512];
    vsnprintf(name, sizeof name, format, arguments);
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~') /* a name is one line of text, whatever was tested */
            *c = '?';
    tap_count++;
    tap_failed += !pass;
    printf("%s %d - %s\n", pass ? "ok" : "not ok", tap_count, name);
    fflush(stdout);
}

__attribute__((format(printf, 2, 3), unused)) static bool ok(bool pass, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tap_line(pass, format, arguments);
    va_end(arguments);
    return pass;
}

__attribute__((format(printf, 3, 4), unused)) static bool is_int(long long got, long long want,
                                                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tap_line(got == want, format, arguments);
    va_end(arguments);
    if (got != want)
        diag("got %lld, want %lld", got, want);
    return got == want;
}

__attribute__((format(printf, 5, 6), unused)) static bool
is_mem(const void *got, size_t got_length, const void *want, size_t want_length,
       const char *format, ...)
{
    bool same = got_length == want_length && (!want_length || !memcmp(got, want, want_length));
    va_list arguments;
    va_start(arguments, format);
    tap_line(same, format, arguments);
    va_end(arguments);
    if (!same)
        diag("got %zu bytes \"%.*s\", want %zu bytes \"%.*s\"", got_length, (int)got_length,
             (const char *)got, want_length, (int)want_length, (const char *)want);
    return same;
}

__attribute__((unused)) static int done_testing(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed != 0;
}

#endif
