/* SPDX-License-Identifier: MIT */
/*
 * serial.c: a serial port in the browser: a page from memory, and a socket that is the port.
 *
 *     serial DEVICE [PORT]
 *
 * The loop of the server watches the device, too (ws_server_watch): what it sends goes to all
 * clients, and what they send goes to it. A device is slow, so that what it does not take at once
 * waits, and a client that sends more than there is room for is closed with 1013. The speed is
 * 115200 baud. With port 0, the default, the kernel chooses a port. SIGINT and SIGTERM shut down
 * gracefully.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* cfmakeraw, cfsetspeed */
#endif

#include "ws.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static ws_server *server;
static volatile sig_atomic_t stopping;
static int device;
static char waiting[4096]; /* for the device */
static size_t waiting_length;
static const char topic[] = "device";

static const char page[] =
    "<!doctype html><title>Serial port</title><pre id=log></pre>"
    "<form><input id=text autofocus autocomplete=off></form>"
    "<script>\n"
    "const socket = new WebSocket(location.origin.replace('http', 'ws') + '/port');\n"
    "const decoder = new TextDecoder();\n"
    "socket.binaryType = 'arraybuffer';\n"
    "socket.onmessage = (e) => log.textContent += decoder.decode(e.data, {stream: true});\n"
    "document.forms[0].onsubmit = (e) => {\n"
    "  e.preventDefault();\n"
    "  socket.send(text.value + '\\r\\n');\n"
    "  text.value = '';\n"
    "};\n"
    "</script>";

static void get_page(ws_request *request, void *user)
{
    static const char type[] = "text/html; charset=utf-8";
    (void)user;
    ws_request_add_header(request, "Content-Type", 12, type, sizeof type - 1);
    ws_request_respond_static(request, 200, NULL, page, sizeof page - 1);
}

/* ---- the device ---- */

static bool open_device(const char *path)
{
    struct termios settings;
    device = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (device < 0 || tcgetattr(device, &settings))
        return false;
    cfmakeraw(&settings);
    cfsetspeed(&settings, B115200);
    return !tcsetattr(device, TCSANOW, &settings);
}

static void read_device(void)
{
    char bytes[4096];
    const ssize_t n = read(device, bytes, sizeof bytes);
    if (n > 0) {
        ws_server_publish(server, topic, strlen(topic), bytes, (size_t)n, WS_BINARY);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) { /* it was unplugged */
        fputs("serial: the device is gone\n", stderr);
        stopping = 1;
    }
}

static void on_device(int fd, unsigned ready, void *user);

/* Writes what the device takes. It is watched for more room only while something waits. */
static void write_device(void)
{
    const ssize_t n = write(device, waiting, waiting_length);
    if (n > 0) {
        waiting_length -= (size_t)n;
        memmove(waiting, waiting + n, waiting_length);
    }
    ws_server_watch(server, device, waiting_length ? WS_READABLE | WS_WRITABLE : WS_READABLE,
                    on_device, NULL);
}

static void on_device(int fd, unsigned ready, void *user)
{
    (void)fd, (void)user;
    if (ready & WS_READABLE)
        read_device();
    if (ready & WS_WRITABLE)
        write_device();
}

/* ---- the clients ---- */

static void on_open(ws_conn *conn, void *user)
{
    (void)user;
    ws_conn_subscribe(conn, topic, strlen(topic));
}

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    (void)opcode, (void)user;
    if (length > sizeof waiting - waiting_length) {
        ws_conn_end(conn, 1013, "the device is slow", 18);
        return;
    }
    memcpy(waiting + waiting_length, data, length);
    waiting_length += length;
    write_device();
}

/* ---- the server ---- */

/* Returns the port or an error. */
static int start(uint16_t port)
{
    ws_behavior behavior;
    ws_listen_options options;
    int error = ws_server_new(&server, NULL);
    ws_behavior_init(&behavior, sizeof behavior);
    behavior.on_open = on_open;
    behavior.on_message = on_message;
    if (!error)
        error = ws_server_ws(server, "/port", &behavior);
    if (!error)
        error = ws_server_http(server, "GET", "/", get_page, NULL);
    if (!error)
        error = ws_server_watch(server, device, WS_READABLE, on_device, NULL);
    if (error)
        return error;
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.port = port;
    return ws_server_listen(server, &options);
}

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
    ws_server_wakeup(server);
}

static int serve(void)
{
    int result;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    while ((result = ws_server_step(server, -1)) > 0)
        if (stopping) {
            ws_server_watch(server, device, 0, NULL, NULL);
            ws_server_shutdown(server, 1001, "server shutting down", 20, 5000);
        }
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: serial DEVICE [PORT]\n", stderr);
        return 2;
    }
    if (!open_device(argv[1])) {
        perror(argv[1]);
        return 1;
    }
    int result = start((uint16_t)(argc > 2 ? atoi(argv[2]) : 0));
    if (result >= 0) {
        printf("listening on http://127.0.0.1:%d\n", result);
        fflush(stdout);
        result = serve();
    }
    if (result)
        fprintf(stderr, "serial: %s\n", ws_strerror(result));
    ws_server_free(server);
    close(device);
    return result != 0;
}
