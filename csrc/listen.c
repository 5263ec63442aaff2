/* SPDX-License-Identifier: MIT */
/*
 * listen.c: where the connections of a server come from: its listening sockets, and the
 * application. Knows nothing of what is spoken on them.
 */
#include "listen.h"
#include "serve.h"
#include "tls.h"

#include <errno.h>
#include <string.h>

enum { ACCEPTS_PER_TURN = 64, ACCEPT_PAUSE_MS = 100 };
#define ACCEPT_PAUSE_TEXT "100 ms"

int ws__listeners_init(struct ws__listeners *listeners, struct ws__hub *hub, uint64_t first_data)
{
    *listeners = (struct ws__listeners){.hub = hub, .first_data = first_data};
    listeners->queue =
        ws__loop_queue(&hub->loop, &hub->memory, ACCEPT_PAUSE_MS, WS__TIMER_ACCEPT);
    return listeners->queue ? WS_OK : WS_ENOMEM;
}

/* ---- opening and closing ---- */

static bool resize_list(struct ws__listeners *listeners, uint32_t capacity)
{
    size_t one = sizeof *listeners->all;
    struct ws__listener *all = ws__memory_resize(&listeners->hub->memory, listeners->all,
                                                 listeners->capacity * one, capacity * one);
    if (capacity && !all)
        return false;
    listeners->all = all;
    listeners->capacity = capacity;
    return true;
}

/* Returns NULL if out of memory. */
static char *copy_path(struct ws__memory *memory, const char *path)
{
    size_t size = strlen(path) + 1;
    char *copy = ws__memory_resize(memory, NULL, 0, size);
    return copy ? memcpy(copy, path, size) : NULL;
}

static void free_path(struct ws__memory *memory, char *path)
{
    if (path)
        ws__memory_free(memory, path, strlen(path) + 1);
}

/* All that listens, or nothing. */
static int add(struct ws__listeners *listeners, const struct ws__endpoints *found, char *path,
               const ws_listen_options *options)
{
    uint32_t before = listeners->count;
    if (!resize_list(listeners, before + found->count))
        return WS_ENOMEM;
    for (uint32_t i = 0; i < found->count; i++) {
        if (found->all[i].fd < 0)
            continue;
        struct ws__listener *l = &listeners->all[listeners->count];
        *l = (struct ws__listener){.fd = found->all[i].fd,
                                   .first = listeners->count == before,
                                   .proxied = options->proxy_protocol,
                                   .tls = options->tls,
                                   .path = path,
                                   .file = found->file};
        if (ws__loop_add(&listeners->hub->loop, l->fd, WS__LOOP_READ,
                         listeners->first_data + listeners->count))
            goto failed;
        listeners->count++;
    }
    return WS_OK;
failed:
    while (listeners->count > before)
        ws__loop_remove(&listeners->hub->loop, listeners->all[--listeners->count].fd);
    return WS_ESYSTEM;
}

static void remove_file(struct ws__hub *hub, const char *path, const struct ws__file *file)
{
    if (path && ws__net_unlink(path, file))
        ws__hub_log(hub, WS_LOG_WARNING, "cannot remove %s: %s", path, strerror(errno));
}

/* A descriptor that was given stays the caller's. */
static void discard(struct ws__hub *hub, const struct ws__endpoints *found,
                    const ws_listen_options *options, const char *path)
{
    if (options->fd >= 0)
        return;
    remove_file(hub, path, &found->file);
    for (uint32_t i = 0; i < found->count; i++)
        if (found->all[i].fd >= 0)
            ws__net_close(found->all[i].fd);
}

/* Of several addresses of a name: errno, and what the application sees, does not say which. */
static void log_failures(struct ws__hub *hub, const struct ws__endpoints *found)
{
    char text[WS__NET_PLACE_SIZE];
    for (uint32_t i = 0; found->count > 1 && i < found->count; i++) {
        const struct ws__endpoint *e = &found->all[i];
        ws__net_endpoint_text(&e->address, text);
        if (e->error)
            ws__hub_log(hub, WS_LOG_WARNING, "cannot listen on %s: %s", text, strerror(e->error));
    }
}

__attribute__((cold)) static int
open_all(struct ws__listeners *listeners, const ws_listen_options *options, char *path,
         uint16_t *port)
{
    struct ws__endpoints found;
    int error = ws__net_listen(options, &found), number = errno;
    if (!error && (error = add(listeners, &found, path, options))) {
        number = errno;
        discard(listeners->hub, &found, options, path);
    }
    for (uint32_t i = 0; !error && i < found.count; i++)
        if (found.all[i].fd >= 0)
            *port = found.all[i].address.port;
    log_failures(listeners->hub, &found);
    errno = number;
    return error;
}

int ws__listeners_open(struct ws__listeners *listeners, const ws_listen_options *options,
                       uint16_t *port)
{
    struct ws__memory *memory = &listeners->hub->memory;
    char *path = NULL;
    const int unfit = options->tls ? ws__tls_prepare(listeners->hub, options->tls) : WS_OK;
    if (unfit)
        return unfit;
    if (options->path && options->fd < 0 && !(path = copy_path(memory, options->path)))
        return WS_ENOMEM;
    int error = open_all(listeners, options, path, port), number = errno;
    if (error)
        free_path(memory, path);
    if (listeners->capacity > listeners->count) /* addresses that are missing */
        resize_list(listeners, listeners->count);
    errno = number; /* the allocator may have changed it */
    return error;
}

/* The file is removed while the socket is open, see ws__net_unlink. Closing alone would not end
 * the watch where another process has a copy of the descriptor. */
static void close_listener(struct ws__listeners *listeners, struct ws__listener *l)
{
    struct ws__hub *hub = listeners->hub;
    if (!hub->forked) {
        remove_file(hub, l->path, &l->file);
        ws__loop_remove(&hub->loop, l->fd);
    }
    free_path(&hub->memory, l->path);
    ws__net_close(l->fd);
}

bool ws__listeners_close_last(struct ws__listeners *listeners)
{
    bool first = false;
    while (listeners->count && !first) {
        struct ws__listener last = listeners->all[--listeners->count];
        first = last.first;
        close_listener(listeners, &last);
    }
    return first;
}

/* What is logged on the way may make the application open or close listeners. */
void ws__listeners_close(struct ws__listeners *listeners)
{
    ws__timer_stop(&listeners->timer);
    while (listeners->count) {
        struct ws__listener last = listeners->all[--listeners->count];
        close_listener(listeners, &last);
    }
    resize_list(listeners, 0);
}

/* ---- accepting ---- */

/* One line until it works again. */
static void log_failure(struct ws__hub *hub, struct ws__listener *l, int level,
                        const char *reason, const char *consequence)
{
    char text[WS__NET_PLACE_SIZE];
    if (l->failing)
        return;
    l->failing = true;
    ws__net_place_text(l->fd, text);
    ws__hub_log(hub, level, "accept on %s: %s, %s", text, reason, consequence);
}

static int watch_listener(struct ws__listeners *listeners, uint32_t i, unsigned interest)
{
    return ws__loop_change(&listeners->hub->loop, listeners->all[i].fd, interest,
                           listeners->first_data + i);
}

/* Trying again at once would spin, as the backlog stays readable. */
static void pause_accept(struct ws__listeners *listeners, uint32_t i, bool exhausted)
{
    struct ws__listener *l = &listeners->all[i];
    const char *reason = exhausted ? "out of file descriptors or memory" : strerror(errno);
    watch_listener(listeners, i, WS__LOOP_QUIET);
    l->paused = true;
    if (!listeners->timer.next)
        ws__timer_start(&listeners->hub->loop, listeners->queue, &listeners->timer);
    log_failure(listeners->hub, l, exhausted ? WS_LOG_WARNING : WS_LOG_ERROR, reason,
                "trying again every " ACCEPT_PAUSE_TEXT);
}

/* What is closed alone stays open for its peer where another process has a copy. Keeps errno. */
static void discard_connection(int fd)
{
    const int number = errno;
    ws__net_cut(fd);
    ws__net_close(fd);
    errno = number;
}

/* Logging may make the application open or close listeners, which moves or frees all of them. */
void ws__listeners_accept(struct ws__listeners *listeners, uint32_t i)
{
    struct ws__hub *hub = listeners->hub;
    struct ws__address peer;
    for (int n = 0; n < ACCEPTS_PER_TURN && i < listeners->count; n++) {
        struct ws__listener *l = &listeners->all[i];
        int fd = l->paused ? WS__NET_AGAIN : ws__net_accept(l->fd, &peer);
        if (fd == WS__NET_AGAIN)
            return;
        if (fd < 0) {
            pause_accept(listeners, i, fd == WS__NET_EXHAUSTED);
            return;
        }
        int error = ws__serve(hub, fd, &peer, l->proxied, l->tls, NULL);
        if (error)
            discard_connection(fd);
        if (i >= listeners->count)
            return;
        l = &listeners->all[i];
        if (error == WS_ESYSTEM)
            log_failure(hub, l, WS_LOG_WARNING, strerror(errno), "connections are refused");
        else
            l->failing = false;
    }
}

void ws__listeners_resume(struct ws__listeners *listeners)
{
    for (uint32_t i = 0; i < listeners->count; i++) {
        struct ws__listener *l = &listeners->all[i];
        if (!l->paused)
            continue;
        l->paused = false;
        if (watch_listener(listeners, i, WS__LOOP_READ))
            pause_accept(listeners, i, false);
    }
}

/* ---- ws.h ---- */

int ws_server_adopt(ws_server *server, int fd, const void *bytes, size_t length)
{
    struct ws__hub *hub = ws__hub_of(server);
    struct ws__address peer;
    struct ws__buffer *in = NULL;
    if (ws__loop_is_shared(&hub->loop))
        return WS_EFORKED;
    if (hub->draining)
        return WS_ESTOPPED;
    if (!ws__net_take(fd, &peer))
        return WS_ESYSTEM;
    if (length && ws__buffer_append(&hub->memory, &in, bytes, length))
        return WS_ENOMEM;
    int error = ws__serve(hub, fd, &peer, false, NULL, in), number = errno;
    if (error)
        ws__buffer_free(&hub->memory, &in);
    errno = number; /* the allocator may have changed it */
    return error;
}
