/* SPDX-License-Identifier: MIT */
/*
 * listen.h: the listening sockets of a server: opening them, accepting from them, closing them.
 */
#ifndef WS__LISTEN_H
#define WS__LISTEN_H

#include "hub.h"
#include "net.h"

struct ws__listener {
    int fd;
    bool paused;  /* not watched until the timer expires */
    bool failing; /* the last accept failed, which was logged */
    bool first;   /* of those that one call opened */
    bool proxied; /* connections begin with a PROXY header */
    const ws_tls *tls; /* or NULL */
    char *path;   /* of a Unix socket, whose file is removed at the end; else NULL */
    struct ws__file file;
};

struct ws__listeners {
    struct ws__hub *hub;
    struct ws__listener *all;
    uint32_t count, capacity;
    uint64_t first_data;    /* loop data of all[0]; those of the others follow */
    struct ws__timer timer; /* runs while one of them is paused */
    struct ws__timer_queue *queue;
};

/* Returns WS_ENOMEM if out of memory. */
int ws__listeners_init(struct ws__listeners *listeners, struct ws__hub *hub, uint64_t first_data);

/* As ws_server_listen; *port is the real one. After an error nothing has changed. */
int ws__listeners_open(struct ws__listeners *listeners, const ws_listen_options *options,
                       uint16_t *port);

/* Closes those that the last successful call opened. Returns false if there is nothing to close. */
bool ws__listeners_close_last(struct ws__listeners *listeners);
/* Closes all of them. */
void ws__listeners_close(struct ws__listeners *listeners);

/* The loop reports listener number i. */
void ws__listeners_accept(struct ws__listeners *listeners, uint32_t i);
/* The timer has expired: accept again. */
void ws__listeners_resume(struct ws__listeners *listeners);

#endif
