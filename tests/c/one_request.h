/* SPDX-License-Identifier: MIT */
/*
 * one_request.h: a server and one client of it that sends requests and gets long responses.
 */
#ifndef ONE_REQUEST_H
#define ONE_REQUEST_H

#include "harness.h"

#define NEXT "GET /page HTTP/1.1\r\nHost: t\r\n\r\n" /* what serve() answers with "/page" */

enum { BIG = 8 * 1024 * 1024 };

extern struct harness h;
extern struct client c;
extern char *big; /* BIG bytes that differ, from serve() on */

extern int reports;     /* of ws_server_set_on_response, since count_reports() */
extern size_t reported; /* length of the last one */

/* A server with this handler, and NEXT, to which c is connected. */
void serve(const char *method, const char *path, void (*handler)(ws_request *request, void *user));
void count_reports(void);
void ask_slowly(const char *request); /* c anew, as a client that does not read */

/* The bytes that c has got from now on, after their head. */
const char *raw(size_t *n);
void is_body(const char *want, const char *name);

void stop(const char *name); /* c closes, no socket is left, and the server is freed */

/* The same where the allocation h.memory.fail_at should fail, number n of a scenario. False: the
 * scenario had fewer. */
bool stop_failing(size_t n);

#endif
