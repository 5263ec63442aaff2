/* SPDX-License-Identifier: MIT */
/*
 * watch.c: descriptors of the application that the loop of a server watches. They are in a hash
 * table by number. Programs close descriptors that they still watch, and the kernel gives the
 * number to the next one, perhaps a connection of this server. Therefore each entry remembers which
 * file its descriptor was, and nothing is changed in the epoll set for a number that leads to
 * another file by now.
 */
#include "watch.h"

#include <errno.h>

enum { FIRST_CAPACITY = 8 };
static const uint32_t NO_ENTRY = UINT32_MAX;

_Static_assert(WS_READABLE == (int)WS__LOOP_READ && WS_WRITABLE == (int)WS__LOOP_WRITE,
               "the events of ws.h are those of the loop");

void ws__watches_init(struct ws__watches *watches, struct ws__hub *hub, uint64_t first_data)
{
    *watches = (struct ws__watches){.hub = hub,
                                    .first_free = NO_ENTRY,
                                    .last_free = NO_ENTRY,
                                    .first_data = first_data};
}

void ws__watches_deinit(struct ws__watches *watches)
{
    ws__memory_free(&watches->hub->memory, watches->all,
                    watches->capacity * sizeof *watches->all);
}

/* ---- the table ---- */

static uint32_t *bucket_of(struct ws__watches *watches, int fd)
{
    return &watches->all[(uint32_t)fd & (watches->capacity - 1)].bucket;
}

/* Returns the index of the entry of fd, or NO_ENTRY. */
static uint32_t find_entry(struct ws__watches *watches, int fd)
{
    uint32_t i = watches->count ? *bucket_of(watches, fd) : NO_ENTRY;
    while (i != NO_ENTRY && watches->all[i].fd != fd)
        i = watches->all[i].next;
    return i;
}

static void link_entry(struct ws__watches *watches, uint32_t i)
{
    uint32_t *bucket = bucket_of(watches, watches->all[i].fd);
    watches->all[i].next = *bucket;
    *bucket = i;
}

static bool grow_table(struct ws__watches *watches)
{
    size_t one = sizeof *watches->all;
    uint32_t before = watches->capacity, capacity = before ? 2 * before : FIRST_CAPACITY;
    if (capacity > WS__MAX_WATCHES)
        return false;
    struct ws__watch *all = ws__memory_resize(&watches->hub->memory, watches->all, before * one,
                                              capacity * one);
    if (!all)
        return false;
    watches->all = all;
    watches->capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++)
        all[i].bucket = NO_ENTRY;
    for (uint32_t i = 0; i < watches->used; i++)
        if (all[i].fn)
            link_entry(watches, i);
    return true;
}

/* Returns true unless a turn may still report an event of the watch that was in this free entry.
 * Turns are counted after their wait, so the event may also be of the turn after the one in which
 * the watch ended. */
static bool is_settled(const struct ws__hub *hub, const struct ws__watch *watch)
{
    return !hub->in_turn || hub->stats.turns - watch->turn > 1;
}

/* Returns the index of a free entry, or NO_ENTRY if out of memory. */
static uint32_t take_entry(struct ws__watches *watches)
{
    uint32_t i = watches->first_free;
    if (i != NO_ENTRY && is_settled(watches->hub, &watches->all[i])) {
        watches->first_free = watches->all[i].next;
        return i;
    }
    if (watches->used == watches->capacity && !grow_table(watches))
        return NO_ENTRY;
    return watches->used++;
}

static void free_entry(struct ws__watches *watches, uint32_t i)
{
    struct ws__watch *watch = &watches->all[i];
    watch->fn = NULL;
    watch->turn = watches->hub->stats.turns;
    watch->next = NO_ENTRY;
    if (watches->first_free == NO_ENTRY)
        watches->first_free = i;
    else
        watches->all[watches->last_free].next = i;
    watches->last_free = i;
}

/* ---- watches ---- */

static void forget_watch(struct ws__watches *watches, uint32_t i)
{
    uint32_t *link = bucket_of(watches, watches->all[i].fd);
    while (*link != i)
        link = &watches->all[*link].next;
    *link = watches->all[i].next;
    watches->count--;
    free_entry(watches, i);
}

/* Its descriptor was closed, and has left the epoll set by that. */
static void forget_closed(struct ws__watches *watches, uint32_t i)
{
    ws__loop_note_closed(&watches->hub->loop);
    forget_watch(watches, i);
}

static int add_watch(struct ws__watches *watches, const struct ws__watch *watch)
{
    uint32_t i = take_entry(watches);
    if (i == NO_ENTRY)
        return WS_ENOMEM;
    uint32_t bucket = watches->all[i].bucket;
    watches->all[i] = *watch;
    watches->all[i].bucket = bucket;
    if (ws__loop_add(&watches->hub->loop, watch->fd, watch->events, watches->first_data + i)) {
        int error = errno;
        free_entry(watches, i);
        errno = error;
        return WS_ESYSTEM;
    }
    link_entry(watches, i);
    watches->count++;
    return WS_OK;
}

/* Returns false if the descriptor is not in the epoll set, with errno ENOENT. */
static bool change_watch(struct ws__watches *watches, uint32_t i, const struct ws__watch *new)
{
    struct ws__watch *watch = &watches->all[i];
    if (ws__loop_change(&watches->hub->loop, new->fd, new->events, watches->first_data + i))
        return false;
    watch->fn = new->fn;
    watch->user = new->user;
    watch->events = new->events;
    return true;
}

__attribute__((cold)) int
ws__watches_set(struct ws__watches *watches, int fd, unsigned events,
                void (*fn)(int fd, unsigned ready, void *user), void *user)
{
    struct ws__watch watch = {.fn = fn, .user = user, .fd = fd, .events = events};
    bool is_open = ws__net_file_of(fd, &watch.file);
    uint32_t i = find_entry(watches, fd);
    if (i != NO_ENTRY && !(is_open && ws__net_same_file(&watch.file, &watches->all[i].file))) {
        forget_closed(watches, i);
        i = NO_ENTRY;
    }
    if (!events && i != NO_ENTRY) {
        if (ws__loop_remove(&watches->hub->loop, fd))
            forget_watch(watches, i);
        else
            forget_closed(watches, i);
    }
    if (!events)
        return WS_OK;
    if (i != NO_ENTRY && change_watch(watches, i, &watch))
        return WS_OK;
    if (i != NO_ENTRY)
        forget_closed(watches, i); /* all files of some kinds have one inode, as of eventfd(2) */
    return is_open ? add_watch(watches, &watch) : WS_ESYSTEM;
}

void ws__watches_on_event(struct ws__watches *watches, uint32_t i, unsigned ready)
{
    struct ws__watch watch = watches->all[i]; /* a copy: fn may change the table */
    unsigned events = watch.events & (ready & WS__LOOP_HANGUP ? ~0u : ready);
    if (watch.fn && events) /* otherwise it ended earlier in this turn, or was changed */
        watch.fn(watch.fd, events, watch.user);
}
