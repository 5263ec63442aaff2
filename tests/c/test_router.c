/* SPDX-License-Identifier: MIT */
/*
 * test_router.c: the most specific route wins, whatever the order of adding; against a second,
 * naive matcher, too. Paths lie flush against an unreadable page.
 */
#include "router.h"

#include "guard.h"
#include "tap.h"

static struct ws__memory memory;
static struct ws__router router;

static int add(const char *pattern)
{
    return ws__router_add(&router, pattern, (void *)(uintptr_t)pattern);
}

static const struct ws__route *find(const char *path, struct ws__match *match)
{
    size_t length = strlen(path);
    return ws__router_find(&router, (const char *)guard_copy(path, length), length, NULL, NULL,
                           match);
}

static void begin(void)
{
    ws__memory_init(&memory, NULL, 0);
    ws__router_init(&router, &memory);
}

static void end(void)
{
    ws__router_deinit(&router, NULL, NULL);
}

/* ---- patterns ----------------------------------------------------------------------------- */

static const struct {
    const char *pattern;
    int want;
} patterns[] = {
    {"/", WS_OK},
    {"/a", WS_OK},
    {"/a/", WS_OK},
    {"//", WS_OK},
    {"/:a", WS_OK},
    {"/:a/:b/x", WS_OK},
    {"/:a/:ab/:b", WS_OK},
    {"/a/:a/a", WS_OK},
    {"/*", WS_OK},
    {"*", WS_OK},
    {"/a/*", WS_OK},
    {"/:a/*", WS_OK},
    {"/a:b", WS_OK},
    {"/a/b:", WS_OK},
    {"/~!$&'()+,;=@%41\"", WS_OK},
    {"/:1/:2/:3/:4/:5/:6/:7/:8/:9/:a/:b/:c/:d/:e/:f/:g", WS_OK},
    {"/:1/:2/:3/:4/:5/:6/:7/:8/:9/:a/:b/:c/:d/:e/:f/*", WS_OK},
    {"/:1/:2/:3/:4/:5/:6/:7/:8/:9/:a/:b/:c/:d/:e/:f/:g/:h", WS_EINVAL},
    {"/:1/:2/:3/:4/:5/:6/:7/:8/:9/:a/:b/:c/:d/:e/:f/:g/*", WS_EINVAL},
    {"", WS_EINVAL},
    {"a", WS_EINVAL},
    {":a", WS_EINVAL},
    {"**", WS_EINVAL},
    {"*/", WS_EINVAL},
    {"/:", WS_EINVAL},
    {"/:/a", WS_EINVAL},
    {"/:a/:a", WS_EINVAL},
    {"/:a/b/:c/:a", WS_EINVAL},
    {"/*/a", WS_EINVAL},
    {"/*/", WS_EINVAL},
    {"/**", WS_EINVAL},
    {"/*a", WS_EINVAL},
    {"/a*", WS_EINVAL},
    {"/a*/b", WS_EINVAL},
    {"/:a*", WS_EINVAL},
    {"/a b", WS_EINVAL},
    {"/a?b", WS_EINVAL},
    {"/a#b", WS_EINVAL},
    {"/a\x7f", WS_EINVAL},
    {"/a\x80", WS_EINVAL},
    {"/a\t", WS_EINVAL},
    {"/:a\n", WS_EINVAL},
};

static void test_patterns(void)
{
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        begin();
        is_int(add(patterns[i].pattern), patterns[i].want, "S2 pattern \"%s\"",
               patterns[i].pattern);
        is_int(router.first != NULL, patterns[i].want == WS_OK, "S2 \"%s\": added or not",
               patterns[i].pattern);
        end();
    }
}

static const struct {
    const char *first, *second;
    int want;
} pairs[] = {
    {"/a", "/a", WS_EEXIST},        {"/a/:b", "/a/:c", WS_EEXIST},  {"/*", "*", WS_EEXIST},
    {"/:a/x/*", "/:b/x/*", WS_EEXIST}, {"/:a/:b", "/:b/:a", WS_EEXIST}, {"/", "/", WS_EEXIST},
    {"/a", "/a/", WS_OK},           {"/a", "/A", WS_OK},            {"/a", "/ab", WS_OK},
    {"/ab", "/a", WS_OK},           {"/a", "/:a", WS_OK},           {"/:a", "/*", WS_OK},
    {"/:a/x", "/:a/y", WS_OK},      {"/x/:a", "/y/:a", WS_OK},      {"/:a", "/:a/", WS_OK},
    {"/", "/*", WS_OK},             {"/%41", "/A", WS_OK},
};

static void test_pairs(void)
{
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        begin();
        add(pairs[i].first);
        is_int(add(pairs[i].second), pairs[i].want, "S2 \"%s\" beside \"%s\"", pairs[i].second,
               pairs[i].first);
        end();
    }
}

/* ---- matching ----------------------------------------------------------------------------- */

/* Of one pattern; want: the parameters, each followed by "|"; NULL: no match. */
static const struct {
    const char *pattern, *path, *want;
} matches[] = {
    {"/", "/", ""},
    {"/", "", NULL},
    {"/", "//", NULL},
    {"/", "/a", NULL},
    {"/a", "/a", ""},
    {"/a", "/a/", NULL},
    {"/a/", "/a", NULL},
    {"/a/", "/a/", ""},
    {"/a", "/A", NULL},
    {"/a", "/ab", NULL},
    {"/ab", "/a", NULL},
    {"/a/b", "/a", NULL},
    {"/a/b", "/a/b/c", NULL},
    {"/a", "a", NULL},
    {"/a", "*", NULL},
    {"/A", "/%41", NULL},
    {"//a", "//a", ""},
    {"//a", "/a", NULL},
    {"/:x", "/a", "a|"},
    {"/:x", "/", NULL},
    {"/:x", "/a/", NULL},
    {"/:x", "/a/b", NULL},
    {"/:x", "/%2f", "%2f|"},
    {"/:x/", "/a/", "a|"},
    {"/:x/:y", "/a/bc", "a|bc|"},
    {"/:x/:y", "/a/", NULL},
    {"/:x/:y", "//b", NULL},
    {"/a/:x/b", "/a/c/b", "c|"},
    {"/a/:x/b", "/a/c/d", NULL},
    {"/a/:x/b", "/a/c", NULL},
    {"/*", "/", "|"},
    {"/*", "/a", "a|"},
    {"/*", "/a/b/", "a/b/|"},
    {"/*", "", NULL},
    {"/*", "*", NULL},
    {"*", "/a/b", "a/b|"},
    {"/a/*", "/a/", "|"},
    {"/a/*", "/a/b/c", "b/c|"},
    {"/a/*", "/a", NULL},
    {"/a/*", "/ab/c", NULL},
    {"/:x/b/*", "/a/b/c/d", "a|c/d|"},
    {"/a:b", "/a:b", ""},
    {"/a:b", "/axb", NULL},
    {"/:1/:2/:3/:4/:5/:6/:7/:8/:9/:a/:b/:c/:d/:e/:f/*", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q",
     "a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p/q|"},
};

static char *parameters(const char *path, const struct ws__match *match)
{
    static char text[256];
    char *out = text;
    *out = '\0';
    for (uint32_t i = 0; i < match->count; i++)
        out += sprintf(out, "%.*s|", (int)match->parameters[i].length,
                       path + match->parameters[i].offset);
    return text;
}

static void test_matches(void)
{
    for (size_t i = 0; i < sizeof(matches) / sizeof(matches[0]); i++) {
        const char *want = matches[i].want, *got;
        struct ws__match match;
        begin();
        add(matches[i].pattern);
        got = find(matches[i].path, &match) ? parameters(matches[i].path, &match) : NULL;
        ok(got && want ? !strcmp(got, want) : got == want && match.count == 0,
           "S2 \"%s\" on \"%s\": %s", matches[i].path, matches[i].pattern, want ? want : "none");
        end();
    }
}

/* ---- specificity -------------------------------------------------------------------------- */

/* From the most specific one for "/a/b" to the least. */
static const char *const ladder[] = {"/a/b", "/a/:y", "/a/*", "/:x/b", "/:x/:y", "/:x/*", "/*"};
enum { RUNGS = sizeof(ladder) / sizeof(ladder[0]) };

static bool finds(const char *path, const char *want)
{
    struct ws__match match;
    const struct ws__route *route = find(path, &match);
    return want ? route && route->target == want : !route;
}

/* Every subset, of which each is added in an order that the seed shuffles. */
static int wrong_in_subset(unsigned set, unsigned seed)
{
    unsigned order[RUNGS], best = RUNGS;
    begin();
    for (unsigned i = 0; i < RUNGS; i++)
        order[i] = i;
    for (unsigned i = RUNGS - 1; i > 0; i--) {
        unsigned k = (seed = seed * 1103515245U + 12345U) / 65536 % (i + 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    for (unsigned i = 0; i < RUNGS; i++)
        if (set >> order[i] & 1) {
            add(ladder[order[i]]);
            best = order[i] < best ? order[i] : best;
        }
    best = !finds("/a/b", best < RUNGS ? ladder[best] : NULL);
    end();
    return (int)best;
}

static void test_specificity(void)
{
    int wrong = 0;
    for (unsigned set = 0; set < 1U << RUNGS; set++)
        for (unsigned seed = 0; seed < 40; seed++)
            wrong += wrong_in_subset(set, seed);
    is_int(wrong, 0, "S2 literal, then :name, then *, in every subset and many orders");
    begin();
    for (unsigned i = 0; i < RUNGS; i++)
        add(ladder[i]);
    add("/");
    add("/a");
    add("/:x");
    ok(finds("/", "/"), "S2 \"/\" is itself");
    ok(finds("/a", "/a"), "S2 a shorter literal");
    ok(finds("/b", "/:x"), "S2 a shorter parameter");
    ok(finds("/a/c", "/a/:y"), "S2 the first segment decides first");
    ok(finds("/c/b", "/:x/b"), "S2 then the second one");
    ok(finds("/c/d", "/:x/:y"), "S2 then parameters");
    ok(finds("/a/", "/a/*"), "S2 an empty segment is none for :name");
    ok(finds("/c/d/e", "/:x/*"), "S2 a longer path");
    ok(finds("//d/e", "/*"), "S2 an empty first segment");
    end();
}

/* ---- all patterns of a small alphabet against a naive matcher ----------------------------- */

static bool naive(const char *pattern, const char *path)
{
    if (!*pattern || !*path)
        return !*pattern && !*path;
    if (*path != '/')
        return false;
    if (pattern[1] == '*')
        return true;
    size_t n = strcspn(pattern + 1, "/") + 1, m = strcspn(path + 1, "/") + 1;
    if (pattern[1] == ':' ? m == 1 : n != m || strncmp(pattern, path, n))
        return false;
    return naive(pattern + n, path + m);
}

static void test_against_naive(void)
{
    static const char *const parts[] = {"", "/", "/a", "/b", "/:x", "/*"};
    static const char *const pieces[] = {"", "/", "/a", "/b", "/ab"};
    int wrong = 0;
    for (int i = 0; i < 6 * 6 * 6; i++) {
        char pattern[16];
        begin();
        sprintf(pattern, "%s%s%s", parts[i / 36], parts[i / 6 % 6], parts[i % 6]);
        bool added = add(pattern) == WS_OK;
        for (int k = 0; k < 5 * 5 * 5 && added; k++) {
            struct ws__match match;
            char path[16];
            sprintf(path, "%s%s%s", pieces[k / 25], pieces[k / 5 % 5], pieces[k % 5]);
            wrong += (find(path, &match) != NULL) != naive(pattern, path);
        }
        end();
    }
    is_int(wrong, 0, "S2 125 paths on all patterns of three parts agree with a naive matcher");
}

/* ---- accept, memory ----------------------------------------------------------------------- */

static bool is_not(void *context, void *target)
{
    return strcmp(context, target) != 0;
}

static void count(void *context, void *target)
{
    ++*(int *)context;
    ok(target == ladder[6] || target == ladder[0], "deinit hands over a target");
}

static void test_accept(void)
{
    struct ws__match match;
    const struct ws__route *route;
    char not[] = "/a/:y";
    begin();
    add("/*");
    add("/a/:y");
    route = ws__router_find(&router, "/a/b", 4, is_not, not, &match);
    ok(route && !strcmp(route->pattern, "/*"), "S2 what is not accepted falls through");
    is_int(match.count, 1, "S2 with the parameters of the accepted one");
    is_int(match.parameters[0].length, 3, "S2 the whole rest");
    not[1] = '*', not[2] = '\0';
    ok(!ws__router_find(&router, "/b", 2, is_not, not, &match), "S2 none is accepted");
    is_int(match.count, 0, "S2 then there are no parameters");
    end();
}

static void test_memory(void)
{
    int targets = 0;
    begin();
    add(ladder[6]);
    add(ladder[0]);
    add(ladder[0]);
    ok(memory.used > 0, "routes are counted");
    ok(router.first->pattern != ladder[0], "the pattern is copied");
    ws__router_deinit(&router, count, &targets);
    is_int(targets, 2, "deinit hands over every target once");
    is_int((long long)memory.used, 0, "deinit frees everything");
    ok(!router.first, "deinit leaves an empty router");
    ws__memory_init(&memory, NULL, 1);
    ws__router_init(&router, &memory);
    while (memory.limit < 4096 && add("/a") == WS_ENOMEM)
        memory.limit++;
    ok(router.first && memory.used == memory.limit, "WS_ENOMEM until there is just enough");
    is_int(add("/b"), WS_ENOMEM, "T84 WS_ENOMEM for a second one");
    ok(finds("/a", "/a") && finds("/b", NULL), "T84 the router is as it was");
    end();
}

static void cases(void)
{
    CASE(test_patterns());
    CASE(test_pairs());
    CASE(test_matches());
    CASE(test_specificity());
    CASE(test_against_naive());
    CASE(test_accept());
    CASE(test_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
