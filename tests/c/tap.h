/* SPDX-License-Identifier: MIT */
/*
 * tap.h: checks that print a line of the Test Anything Protocol each, and the cases of a program.
 *
 *     static void cases(void)
 *     {
 *         CASE(test_empty());
 *         CASE(test_length(300));
 *     }
 *
 *     int main(int argc, char **argv)
 *     {
 *         return run_cases(argc, argv, cases);
 *     }
 *
 * The program runs all cases, or only those that its arguments name; --list prints the names.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Each check prints one line; the text that follows its values names what must hold. They return
 * whether it holds. */
__attribute__((format(printf, 2, 3))) bool ok(bool pass, const char *format, ...);
__attribute__((format(printf, 3, 4))) bool is_int(long long got, long long want,
                                                  const char *format, ...);
__attribute__((format(printf, 5, 6))) bool is_mem(const void *got, size_t got_length,
                                                  const void *want, size_t want_length,
                                                  const char *format, ...);
bool is_text(const char *got, const char *want, const char *name);

/* Prints a comment. */
__attribute__((format(printf, 1, 2))) void diag(const char *format, ...);

/* A case is a call of a function, which gives it its name. Several calls of one function are one
 * case: they run together. Cases must not depend on those before them. */
#define CASE(call) \
    do { \
        if (case_runs(#call, true)) \
            call; \
    } while (0)

/* A case that takes too long to run with the others: it runs only when it is named. */
#define CASE_IF_NAMED(call) \
    do { \
        if (case_runs(#call, false)) \
            call; \
    } while (0)

/* Whether the case of this name runs now: what the macros ask. A "(" ends the name. */
bool case_runs(const char *call, bool unnamed);

/* Calls cases() twice: to learn the names, when no case runs, and to run them. Returns the exit
 * status of the program: 0 if all checks held, 1 if one failed, 2 for a name that is no case. */
int run_cases(int argc, char **argv, void (*cases)(void));

/* What run_cases ends with, for a program that has no cases: prints how many checks there were and
 * returns the exit status. */
int done_testing(void);

#endif
