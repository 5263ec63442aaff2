/*
 * listen.c: the listening sockets of a server. Knows nothing of what is spoken on the sockets that
 * it accepts.
 */
#include "listen.h"

#include <string.h>

enum { ACCEPTS_PER_TURN = 64, ACCEPT_PAUSE_MS = 100 };

int ws__listeners_init(struct ws__listeners *listeners, struct ws__hub *hub, uint64_t first_data)
{
    *listeners = (struct ws__listeners){.hub = hub, .first_data = first_data};
    listeners->queue =
        ws__loop_queue(&hub->loop, &hub->memory, ACCEPT_PAUSE_MS, WS__TIMER_ACCEPT);
    return listeners->queue ? WS_OK : WS_ENOMEM;
}

/* ---- opening and closing ---- */

static bool resize(struct ws__listeners *listeners, uint32_t capacity)
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

static int open_listener(struct ws__listeners *listeners, const ws_listen_options *options,
                         struct ws__listener *l, uint16_t *port)
{
    struct ws__hub *hub = listeners->hub;
    int error = ws__net_listen(options, &l->fd, port);
    if (error)
        return error;
    if (!ws__loop_add(&hub->loop, l->fd, WS__LOOP_READ, listeners->first_data + listeners->count))
        return WS_OK;
    if (options->fd < 0)
        ws__net_close(l->fd);
    if (l->path)
        ws__net_unlink(l->path);
    return WS_ESYSTEM;
}

int ws__listeners_open(struct ws__listeners *listeners, const ws_listen_options *options,
                       uint16_t *port)
{
    struct ws__memory *memory = &listeners->hub->memory;
    struct ws__listener new = {-1, NULL};
    if (options->path && options->fd < 0 && !(new.path = copy_path(memory, options->path)))
        return WS_ENOMEM;
    int error = resize(listeners, listeners->count + 1) ? WS_OK : WS_ENOMEM;
    if (!error && (error = open_listener(listeners, options, &new, port)))
        resize(listeners, listeners->count);
    if (error) {
        free_path(memory, new.path);
        return error;
    }
    listeners->all[listeners->count++] = new;
    return WS_OK;
}

void ws__listeners_close(struct ws__listeners *listeners)
{
    for (uint32_t i = 0; i < listeners->count; i++) {
        struct ws__listener *l = &listeners->all[i];
        ws__net_close(l->fd);
        if (l->path)
            ws__net_unlink(l->path);
        free_path(&listeners->hub->memory, l->path);
    }
    listeners->count = 0;
    resize(listeners, 0);
    ws__timer_stop(&listeners->timer);
}

/* ---- accepting ---- */

static void watch(struct ws__listeners *listeners, unsigned interest)
{
    for (uint32_t i = 0; i < listeners->count; i++)
        ws__loop_change(&listeners->hub->loop, listeners->all[i].fd, interest,
                        listeners->first_data + i);
}

/* Out of descriptors: accepting again at once would spin, as the backlog stays readable. */
static void pause_accept(struct ws__listeners *listeners)
{
    struct ws__hub *hub = listeners->hub;
    watch(listeners, 0);
    ws__timer_start(&hub->loop, listeners->queue, &listeners->timer);
    if (!listeners->exhausted)
        ws__hub_log(hub, WS_LOG_WARNING,
                    "accept: out of file descriptors or memory, trying again every %d ms",
                    ACCEPT_PAUSE_MS);
    listeners->exhausted = true;
}

void ws__listeners_accept(struct ws__listeners *listeners, uint32_t i)
{
    struct ws__hub *hub = listeners->hub;
    struct ws__address peer;
    /* What is logged on the way may make the application close all of them. */
    for (int n = 0; n < ACCEPTS_PER_TURN && i < listeners->count; n++) {
        int fd = ws__net_accept(listeners->all[i].fd, &peer);
        if (fd >= 0) {
            listeners->exhausted = false;
            ws__conn_accept(hub, fd, &peer);
            continue;
        }
        if (fd == WS__NET_EXHAUSTED)
            pause_accept(listeners);
        if (fd == WS__NET_ERROR)
            ws__loop_remove(&hub->loop, listeners->all[i].fd);
        return;
    }
}

void ws__listeners_resume(struct ws__listeners *listeners)
{
    watch(listeners, WS__LOOP_READ);
}
