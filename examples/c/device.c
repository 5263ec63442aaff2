/* SPDX-License-Identifier: MIT */
/*
 * device.c: the web page of a small device in C, with an upload, as for its firmware.
 *
 *     device [--port N]
 *
 * GET / is a page that is a constant of the program: it is sent to any number of slow browsers
 * without a copy. POST /upload takes up to 64 MiB, of which only one piece is in memory at a time,
 * and answers with their number and a checksum. GET /log is a response in parts, of a length that
 * is not known in advance; it waits for slow clients. With port 0, the default, the kernel chooses
 * a port, which the first line of output shows.
 */
#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_UPLOAD = 64 * 1024 * 1024, LOG_LINES = 100000 };

static ws_server *server;

static const char page[] =
    "<!doctype html><title>Device</title>"
    "<h1>Device</h1><input type=file id=file> <progress id=bar max=1 value=0></progress>"
    "<p id=out><a href=/log>Log</a></p>"
    "<script>\n"
    "file.onchange = () => {\n"
    "  const request = new XMLHttpRequest();\n"
    "  request.upload.onprogress = (e) => bar.value = e.loaded / e.total;\n"
    "  request.onload = () => out.textContent = request.responseText;\n"
    "  request.open('POST', '/upload');\n"
    "  request.send(file.files[0]);\n"
    "};\n"
    "</script>";

static void content_type(ws_request *request, const char *type)
{
    ws_request_add_header(request, "Content-Type", 12, type, strlen(type));
}

static void get_page(ws_request *request, void *user)
{
    (void)user;
    content_type(request, "text/html; charset=utf-8");
    ws_request_respond_static(request, 200, NULL, page, sizeof page - 1);
}

/* ---- upload ---- */

struct upload {
    unsigned long long bytes;
    unsigned sum; /* FNV-1a */
};

static void on_upload_aborted(ws_request *request, void *user)
{
    (void)request;
    free(user);
}

static void on_upload(ws_request *request, const char *data, size_t length, bool last, void *user)
{
    struct upload *upload = user;
    char text[80];
    upload->bytes += length;
    for (size_t i = 0; i < length; i++)
        upload->sum = (upload->sum ^ (unsigned char)data[i]) * 16777619u;
    if (!last)
        return;
    int n = snprintf(text, sizeof text, "%llu bytes, checksum %08x\n", upload->bytes, upload->sum);
    free(upload);
    ws_request_respond(request, 200, NULL, text, (size_t)n);
}

static void post_upload(ws_request *request, void *user)
{
    struct upload *upload = malloc(sizeof *upload);
    (void)user;
    if (!upload)
        return; /* the client gets a 500 */
    *upload = (struct upload){.sum = 2166136261u};
    if (ws_request_defer(request, on_upload_aborted, upload))
        free(upload);
    else /* if it is too large, on_upload_aborted has run when this returns */
        ws_request_read_body(request, MAX_UPLOAD, on_upload, upload);
}

/* ---- log ---- */

static void on_log_aborted(ws_request *request, void *user)
{
    (void)request;
    free(user);
}

/* Writes until the client is too slow; runs again when it has caught up. */
static void write_log(ws_request *request, void *user)
{
    int *line = user, result = WS_SUCCESS;
    char text[64];
    while (*line < LOG_LINES && result == WS_SUCCESS) {
        int n = snprintf(text, sizeof text, "line %d of the log\n", ++*line);
        result = ws_request_write(request, text, (size_t)n);
    }
    if (result < 0 || *line < LOG_LINES)
        return; /* on_log_aborted or another call of this follows */
    free(line);
    ws_request_finish(request);
}

static void get_log(ws_request *request, void *user)
{
    int *line = calloc(1, sizeof *line);
    (void)user;
    if (!line)
        return;
    content_type(request, "text/plain");
    if (ws_request_defer(request, on_log_aborted, line)) {
        free(line);
        return;
    }
    if (ws_request_begin(request, 200, NULL, WS_UNKNOWN_LENGTH)) {
        free(line); /* the connection was dropped, without on_log_aborted */
        return;
    }
    ws_request_on_writable(request, write_log, line);
    write_log(request, line);
}

/* ---- the server ---- */

static volatile sig_atomic_t stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopping = 1;
    ws_server_wakeup(server);
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "device: %s: %s\n", what, ws_strerror(error));
    return 1;
}

static int add_routes(void)
{
    int error = ws_server_http(server, "GET", "/", get_page, NULL);
    if (!error)
        error = ws_server_http(server, "POST", "/upload", post_upload, NULL);
    return error ? error : ws_server_http(server, "GET", "/log", get_log, NULL);
}

static int serve(void)
{
    int result;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0)
        if (stopping) {
            stopping = 0;
            ws_server_shutdown(server, 1001, NULL, 0, 5000);
        }
    return result ? fail("run", result) : 0;
}

int main(int argc, char **argv)
{
    ws_listen_options options;
    int error = ws_server_new(&server, NULL);
    if (error)
        return fail("new", error);
    error = add_routes();
    if (error)
        return fail("route", error);
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    if (argc == 3 && !strcmp(argv[1], "--port"))
        options.port = (uint16_t)atoi(argv[2]);
    int port = ws_server_listen(server, &options);
    if (port < 0)
        return fail("listen", port);
    printf("listening on 127.0.0.1:%d\n", port);
    fflush(stdout);
    int status = serve();
    ws_server_free(server);
    return status;
}
