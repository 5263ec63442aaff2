/* SPDX-License-Identifier: MIT */
/*
 * one_request.c: a server and one client that sends requests, see one_request.h.
 */
#include "one_request.h"

#include <stdlib.h>

struct harness h;
struct client c;
char *big;
int reports;
size_t reported;

static void on_response(ws_request *request, int status, size_t length, const char *why,
                        size_t why_length, void *user)
{
    (void)request, (void)status, (void)why, (void)why_length, (void)user;
    reports++;
    reported = length;
}

void serve(const char *method, const char *path, void (*handler)(ws_request *request, void *user))
{
    harness_init(&h);
    harness_create(&h);
    ws_server_http(h.server, method, path, handler, NULL);
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    client_connect(&c, &h);
    if (big)
        return;
    big = malloc(BIG);
    for (size_t i = 0; big && i < BIG; i++)
        big[i] = (char)(i * 2654435761u >> 13);
}

void count_reports(void)
{
    reports = 0;
    ws_server_set_on_response(h.server, on_response, NULL);
}

void ask_slowly(const char *request)
{
    client_close(&c);
    client_connect_small(&c, &h);
    client_say(&c, request);
    turns(&h, 5);
}

const char *raw(size_t *n)
{
    client_drain(&c);
    char *end = c.in_length ? memmem(c.in, c.in_length, "\r\n\r\n", 4) : NULL;
    if (!end) {
        *n = 0;
        return "";
    }
    snprintf(c.head, sizeof c.head, "%.*s", (int)(end - c.in) + 4, c.in);
    *n = c.in_length - (size_t)(end + 4 - c.in);
    return end + 4;
}

void is_body(const char *want, const char *name)
{
    size_t n;
    const char *body = raw(&n);
    is_mem(body, n, want, strlen(want), "%s", name);
    c.in_length = 0;
}

void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    is_int(stats_of(&h).connections, 0, "no socket is left");
    harness_stop(&h, name);
}

bool stop_failing(size_t n)
{
    const bool failed = h.memory.calls >= h.memory.fail_at;
    client_close(&c);
    turns(&h, 3);
    if (!harness_free(&h))
        ok(false, "T68: the allocation %zu fails", n);
    return failed;
}
