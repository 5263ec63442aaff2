/* SPDX-License-Identifier: MIT */
/*
 * test_tls_names.c: which certificate serves which name.
 */
#include "tls_names.h"

#include "tap.h"

static struct ws__tls_names names;

/* Sets the names of a list that ends with NULL. */
static int set(const char *const *list)
{
    size_t count = 0;
    while (list[count])
        count++;
    int error = ws__tls_names_init(&names, count);
    for (size_t i = 0; i < count && !error; i++)
        error = ws__tls_names_set(&names, i, list[i]);
    return error ? error : ws__tls_names_sort(&names);
}

static void finds(const char *name, int index)
{
    is_int(ws__tls_names_find(&names, name, strlen(name)), index, "'%s'", name);
}

static void test_choice(void)
{
    is_int(set((const char *[]){"www.example.org", "*.Example.org", "example.org", "*",
                                "a.b.example.org", NULL}),
           WS_OK, "set");
    ok(!ws__tls_names_only_default(&names), "there are others than '*'");
    finds("www.example.org", 0);
    finds("WWW.EXAMPLE.ORG", 0);
    finds("other.example.org", 1);
    finds("*.example.org", 1);
    finds("example.org", 2);
    finds("b.example.org", 1);
    finds("a.b.example.org", 4);
    finds("c.b.example.org", 3);
    finds(".example.org", 3);
    finds("example.org.", 2);
    finds("www.example.org.", 0);
    finds("other.example.org.", 1);
    finds("example.org..", 3);
    finds(".", 3);
    finds("example.com", 3);
    finds("xample.org", 3);
    finds("", 3);
    finds("*", 3);
    is_int(ws__tls_names_find(&names, "example.org\0.evil", 17), 3, "a zero byte ends no name");
    is_int(ws__tls_names_find(&names, "www.example.orgs", 15), 0, "the length ends a name");
    ws__tls_names_deinit(&names);
}

static void test_without_default(void)
{
    is_int(set((const char *[]){"*.example.org", NULL}), WS_OK, "set");
    finds("a.example.org", 0);
    finds("example.org", -1);
    finds("", -1);
    ws__tls_names_deinit(&names);
}

static void test_only_default(void)
{
    is_int(set((const char *[]){"*", NULL}), WS_OK, "set");
    ok(ws__tls_names_only_default(&names), "there is only '*'");
    finds("", 0);
    finds("a.example.org", 0);
    ws__tls_names_deinit(&names);
}

/* `length` bytes in labels of 63, then a last one of `last`. */
static const char *long_name(size_t labels, size_t last)
{
    static char text[400];
    memset(text, 'a', sizeof text);
    for (size_t i = 1; i <= labels; i++)
        text[i * 64 - 1] = '.';
    text[labels * 64 + last] = 0;
    return text;
}

static void test_long_names(void)
{
    const char *longest = long_name(3, 61);
    is_int((int)strlen(longest), WS__HOST_NAME_MAX_LENGTH, "the longest name");
    is_int(set((const char *[]){longest, NULL}), WS_OK, "is taken");
    finds(longest, 0);
    char with_dot[300];
    snprintf(with_dot, sizeof with_dot, "%s.", longest);
    finds(with_dot, 0);
    finds(long_name(3, 62), -1);
    finds(long_name(5, 63), -1);
    ws__tls_names_deinit(&names);
    is_int(set((const char *[]){long_name(3, 62), NULL}), WS_EINVAL, "no longer one");
    ws__tls_names_deinit(&names);
    is_int(set((const char *[]){long_name(0, 63), NULL}), WS_OK, "the longest label");
    ws__tls_names_deinit(&names);
    is_int(set((const char *[]){long_name(0, 64), NULL}), WS_EINVAL, "no longer label");
    ws__tls_names_deinit(&names);
}

static void test_bad_names(void)
{
    static const char *const bad[] = {"",       ".",       "a.",        ".a",      "a..b", "**",
                                      "*a",     "a.*",     "*.",        "*.*",     "*.*.a", "a b",
                                      "a:443",  "[::1]",   ("b\xc3\xbc" "cher.de"),  "a/b",  "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        is_int(set((const char *[]){"good", bad[i], NULL}), WS_EINVAL, "'%s'", bad[i]);
        ws__tls_names_deinit(&names);
    }
    is_int(set((const char *[]){"a.b", "c.d", "A.B", NULL}), WS_EINVAL, "twice the same");
    ws__tls_names_deinit(&names);
    is_int(set((const char *[]){"localhost", "127.0.0.1", "xn--bcher-kva.de", "_a.b-c", NULL}),
           WS_OK, "good names");
    ws__tls_names_deinit(&names);
}

static void cases(void)
{
    CASE(test_choice());
    CASE(test_without_default());
    CASE(test_only_default());
    CASE(test_long_names());
    CASE(test_bad_names());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
