/* SPDX-License-Identifier: MIT */
/*
 * tls_names.c: sorted host names. There may be thousands of them.
 */
#include "tls_names.h"
#ifndef WS_NO_TLS

#include <stdlib.h>
#include <string.h>

enum { LABEL_MAX_LENGTH = 63 };

int ws__tls_names_init(struct ws__tls_names *names, size_t count)
{
    names->sorted = calloc(count, sizeof *names->sorted);
    names->count = names->sorted ? count : 0;
    return names->sorted || !count ? WS_OK : WS_ENOMEM;
}

void ws__tls_names_deinit(struct ws__tls_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->sorted[i].text);
    free(names->sorted);
    *names = (struct ws__tls_names){.count = 0};
}

/* ASCII alone, whatever the locale is. */
static void copy_in_lower_case(char *to, const char *from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        to[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] | 0x20 : from[i]);
}

/* An underscore is in no host name, but in names that are used. */
static bool is_label(const char *label, size_t length)
{
    static const char others[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    return length && length <= LABEL_MAX_LENGTH && strspn(label, others) >= length;
}

static bool is_host_name(const char *text, size_t length)
{
    if (length > WS__HOST_NAME_MAX_LENGTH)
        return false;
    if (!strcmp(text, "*"))
        return true;
    if (!strncmp(text, "*.", 2))
        text += 2;
    for (;;) {
        const size_t label = strcspn(text, ".");
        if (!is_label(text, label))
            return false;
        if (!text[label])
            return true;
        text += label + 1;
    }
}

int ws__tls_names_set(struct ws__tls_names *names, size_t index, const char *text)
{
    struct ws__tls_name *n = &names->sorted[index];
    n->index = index;
    n->length = strlen(text);
    n->text = calloc(1, n->length + 1);
    if (!n->text)
        return WS_ENOMEM;
    copy_in_lower_case(n->text, text, n->length);
    return is_host_name(n->text, n->length) ? WS_OK : WS_EINVAL;
}

static int compare_names(const void *left, const void *right)
{
    const struct ws__tls_name *a = left, *b = right;
    const int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

int ws__tls_names_sort(struct ws__tls_names *names)
{
    qsort(names->sorted, names->count, sizeof *names->sorted, compare_names);
    for (size_t i = 1; i < names->count; i++)
        if (!compare_names(&names->sorted[i - 1], &names->sorted[i]))
            return WS_EINVAL;
    return WS_OK;
}

bool ws__tls_names_only_default(const struct ws__tls_names *names)
{
    return names->count == 1 && !strcmp(names->sorted->text, "*");
}

static const struct ws__tls_name *search(const struct ws__tls_names *names, char *text,
                                         size_t length)
{
    const struct ws__tls_name key = {.text = text, .length = length};
    return bsearch(&key, names->sorted, names->count, sizeof key, compare_names);
}

/* "example.org." is the same host (RFC 1034 section 3.1). RFC 6066 section 3 wants it "without a
 * trailing dot", but some clients leave in what a user has typed. */
static size_t length_without_dot(const char *text, size_t length)
{
    return length && text[length - 1] == '.' ? length - 1 : length;
}

ptrdiff_t ws__tls_names_find(const struct ws__tls_names *names, const char *text, size_t length)
{
    char name[WS__HOST_NAME_MAX_LENGTH];
    const struct ws__tls_name *found = NULL;
    length = length_without_dot(text, length);
    if (length <= sizeof name) {
        copy_in_lower_case(name, text, length);
        found = search(names, name, length);
        char *dot = memchr(name, '.', length);
        if (!found && dot && dot > name) {
            dot[-1] = '*';
            found = search(names, dot - 1, length - (size_t)(dot - 1 - name));
        }
    }
    if (!found)
        found = search(names, (char[]){'*'}, 1);
    return found ? (ptrdiff_t)found->index : -1;
}

#endif
