/* SPDX-License-Identifier: MIT */
/*
 * listeners.h: a server that listens, with a resolver and system calls that fail when they are set
 * to. A program that has it is linked with listeners.c, whose functions take the place of the C
 * library's, so that the machine needs neither IPv6 nor /etc/hosts.
 */
#ifndef LISTENERS_H
#define LISTENERS_H

#include "harness.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

extern struct fake {
    const char *name; /* resolves to `addresses` */
    const char *addresses[40];
    struct addrinfo nodes[40];
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sockaddrs[40];
    bool no_ipv6;
    const char *taken; /* bind to this address fails with bind_error ... */
    int bind_error;
    int bind_failures; /* ... so many times */
    int binds;
    void (*on_refused)(void); /* a connect was refused */
    void (*before_listen)(void);
    int listens;
    int accept_errors[2]; /* errno of accept4 for these ... */
    int failing_fds[2];   /* ... descriptors */
    int accepts;          /* calls that failed so */
    int epoll_errors;     /* so many calls of epoll_ctl succeed, then none; -1: all do */
    bool unlink_fails;
} fake;

extern struct harness h;
extern ws_listen_options options;

/* run_cases, with a directory in which `path` and `other` may become files. */
int run_listening(int argc, char **argv, void (*cases)(void));
extern char path[64], other[64];
bool exists(const char *where);

void reset_fake(void);
void begin(void); /* reset_fake, a server that does not listen yet, and its options to do so */

/* Listens, and returns the descriptor of the listener: the newest one of this port. */
int listen_and_find(const char *host, int *port);

/* Checks that ws_server_listen fails with this errno, and leaves no descriptor open. */
void fails_with(int error, const char *name);

int descriptors(void); /* that are open, but for this one: */
extern int rival;      /* a socket of another process; -1: none */
int lines_with(const char *text); /* of the log */

/* Connect; negative: refused. */
int connect_to(const char *host, int port);
int connect_path(const char *where);
struct sockaddr_un unix_address(const char *where);

/* Whether the server takes the connection; fd is closed. answers() connects, too. */
bool is_accepted(int fd);
bool answers(const char *host, int port);

#endif
