/* SPDX-License-Identifier: MIT */
/*
 * http_pyws.c: what http.py measures of the library in C.
 *
 *     http_pyws FILE
 *
 * GET /text is a short text, GET /file is the file. POST /read keeps the content in memory, and
 * POST /drop only counts it; both answer with its number of bytes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "ws.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_MAX = 16 * 1024, DROP_MAX = 16 * 1024 * 1024 };

typedef struct body {
    size_t length;
    char content[]; /* only of /read */
} body;

static ws_server *server;
static const char *path;

static void get_text(ws_request *request, void *user)
{
    static const char text[] = "Hello, world!\n";

    (void)user;
    ws_request_add_header(request, "Content-Type", 12, "text/plain", 10);
    ws_request_respond(request, 200, NULL, text, sizeof(text) - 1);
}

/* As other servers do without a cache, it opens the file for each request. */
static void get_file(ws_request *request, void *user)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    (void)user;
    if (fd < 0) {
        return;
    }
    ws_request_add_header(request, "Content-Type", 12, "text/plain", 10);
    if (fstat(fd, &status) != 0 ||
        ws_request_respond_file(request, 200, NULL, fd, 0, (uint64_t)status.st_size) != WS_OK) {
        close(fd);
    }
}

static void on_aborted(ws_request *request, void *user)
{
    (void)request;
    free(user);
}

static void answer(ws_request *request, body *b)
{
    char number[24];
    int n = snprintf(number, sizeof(number), "%zu", b->length);

    free(b);
    ws_request_add_header(request, "Content-Type", 12, "text/plain", 10);
    ws_request_respond(request, 200, NULL, number, (size_t)n);
}

static void on_read(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    body *b = user;

    if (length > 0) { /* the limit of ws_request_read_body is the size of content */
        memcpy(b->content + b->length, data, length);
    }
    b->length += length;
    if (last) {
        answer(request, b);
    }
}

static void on_drop(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    body *b = user;

    (void)data;
    b->length += length;
    if (last) {
        answer(request, b);
    }
}

static void post(ws_request *request, void *user)
{
    bool reads = user != NULL;
    body *b = malloc(sizeof(body) + (reads ? READ_MAX : 0));

    if (b == NULL) {
        return; /* the client gets a 500 */
    }
    b->length = 0;
    if (ws_request_defer(request, on_aborted, b) != WS_OK) {
        free(b);
    } else if (reads) {
        ws_request_read_body(request, READ_MAX, on_read, b);
    } else {
        ws_request_read_body(request, DROP_MAX, on_drop, b);
    }
}

static volatile sig_atomic_t stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopping = 1;
    ws_server_wakeup(server);
}

int main(int argc, char **argv)
{
    static int reads;
    ws_listen_options options;
    int port, result;

    if (argc != 2) {
        fprintf(stderr, "usage: http_pyws FILE\n");
        return 2;
    }
    path = argv[1];
    if (ws_server_new(&server, NULL) != WS_OK ||
        ws_server_http(server, "GET", "/text", get_text, NULL) != WS_OK ||
        ws_server_http(server, "GET", "/file", get_file, NULL) != WS_OK ||
        ws_server_http(server, "POST", "/read", post, &reads) != WS_OK ||
        ws_server_http(server, "POST", "/drop", post, NULL) != WS_OK) {
        fprintf(stderr, "http_pyws: no server\n");
        return 1;
    }
    ws_listen_options_init(&options, sizeof(options));
    options.host = "127.0.0.1";
    port = ws_server_listen(server, &options);
    if (port < 0) {
        fprintf(stderr, "http_pyws: %s\n", ws_strerror(port));
        return 1;
    }
    signal(SIGTERM, on_signal);
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);
    while ((result = ws_server_step(server, -1)) > 0 && !stopping) {
        continue;
    }
    ws_server_free(server);
    return result < 0;
}
