/* SPDX-License-Identifier: MIT */
/*
 * kernel.h: stands between the server of a test and the kernel. It counts the server's writes, and
 * determines how many bytes each socket still takes and whether peers acknowledge what was sent.
 * Programs that use it are linked with kernel.c, whose send, sendmsg and ioctl replace those of the
 * C library.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "ws.h"

enum { KERNEL_FDS = 4096 };

struct kernel_socket {
    bool limited;
    size_t room; /* bytes, where limited */
    unsigned writes;
    int error; /* of the next write; 0: none */
};

extern struct kernel {
    int port;        /* of the server; 0: all goes through */
    unsigned writes; /* by the server, also refused ones */
    enum acks { ACKS_REAL, ACKS_NONE, ACKS_ALL } acks; /* what peers acknowledge of what was sent */
    struct kernel_socket sockets[KERNEL_FDS];     /* by descriptor */
} kernel;

/* Forgets all, and knows the server by its port from now on. */
void kernel_reset(int port);

/* The server's socket of a connection, which its peer has not closed. */
struct kernel_socket *kernel_of(const ws_conn *conn);

/* The kernel takes so many bytes more of what the server writes to a connection. */
void kernel_give_room(const ws_conn *conn, size_t room);

#endif
