/* SPDX-License-Identifier: MIT */
/*
 * test_tap.c: the command line of every test program (tap.h): all cases, cases by name, their list,
 * and a name that is wrong. A program of its own runs in a child, which prints into a pipe.
 */
#include "tap.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_first(void)
{
    ok(true, "first");
}

static void test_second(int number, const char *text)
{
    ok(number != 3, "second %d %s", number, text);
}

static void test_long(void)
{
    ok(true, "long");
}

static void cases_of_child(void)
{
    CASE(test_first());
    CASE(test_second(1, "a, b"));
    CASE(test_second(2, ")"));
    if (getenv("FAILING_CASE"))
        CASE(test_second(3, "fails"));
    CASE_IF_NAMED(test_long());
}

/* Runs the child with at most two arguments. Returns its exit status and what it printed. */
static int run(const char *first, const char *second, char printed[4096])
{
    char *arguments[] = {"test_child", (char *)first, (char *)second, NULL};
    int ends[2], status = -1;
    if (pipe(ends))
        return -1;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(run_cases(1 + !!first + !!second, arguments, cases_of_child));
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t m;
    while (n < 4095 && (m = read(ends[0], printed + n, 4095 - n)) > 0)
        n += (size_t)m;
    printed[n] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(const char *first, const char *second, int status, const char *want,
                   const char *name)
{
    char printed[4096];
    is_int(run(first, second, printed), status, "%s: exit status", name);
    is_text(printed, want, name);
}

#define FIRST "# test_first()\nok 1 - first\n"

static void test_all(void)
{
    expect(NULL, NULL, 0,
           FIRST "# test_second(1, \"a, b\")\nok 2 - second 1 a, b\n"
                 "# test_second(2, \")\")\nok 3 - second 2 )\n1..3\n",
           "all cases run in their order, but for one that must be named");
}

static void test_names(void)
{
    expect("test_first", NULL, 0, FIRST "1..1\n", "a case alone");
    expect("test_second", "test_first", 0,
           FIRST "# test_second(1, \"a, b\")\nok 2 - second 1 a, b\n"
                 "# test_second(2, \")\")\nok 3 - second 2 )\n1..3\n",
           "two cases, one of them with every call of its function");
    expect("test_long", NULL, 0, "# test_long()\nok 1 - long\n1..1\n",
           "a case that runs only when it is named");
}

static void test_list(void)
{
    expect("--list", NULL, 0, "test_first\ntest_second\ntest_long\n", "each name once, no case");
}

static void test_unknown_name(void)
{
    expect("test_lost", NULL, 2,
           "test_child: there is no case \"test_lost\"; --list prints the names\n",
           "a name that is no case");
    expect("test_first", "test_fir", 2,
           "test_child: there is no case \"test_fir\"; --list prints the names\n",
           "no case runs if one of the names is wrong");
    expect("--lists", NULL, 2,
           "test_child: there is no case \"--lists\"; --list prints the names\n",
           "an option that is not known");
}

static void test_failure(void)
{
    setenv("FAILING_CASE", "1", 1);
    expect("test_second", NULL, 1,
           "# test_second(1, \"a, b\")\nok 1 - second 1 a, b\n"
           "# test_second(2, \")\")\nok 2 - second 2 )\n"
           "# test_second(3, \"fails\")\nnot ok 3 - second 3 fails\n1..3\n",
           "a check that fails");
    unsetenv("FAILING_CASE");
}

static void cases(void)
{
    CASE(test_all());
    CASE(test_names());
    CASE(test_list());
    CASE(test_unknown_name());
    CASE(test_failure());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
