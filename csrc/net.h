/*
 * net.h: TCP and Unix sockets: listen, accept, read, write, shut down. The only file with socket
 * calls. Knows nothing of WebSocket. No call here raises SIGPIPE. None blocks, with one exception:
 * ws__net_listen asks the resolver where the host is a name.
 */
#ifndef WS__NET_H
#define WS__NET_H

#include "ws.h"

#include <sys/types.h>
#include <sys/uio.h>

struct ws__address {
    uint8_t bytes[16]; /* network order; IPv4-mapped addresses are stored as IPv4 */
    uint16_t port;
    uint8_t length; /* 4, 16, or 0 for a Unix socket */
};

/* Results of the functions below that are no counts. */
enum { WS__NET_AGAIN = -1, WS__NET_ERROR = -2, WS__NET_EXHAUSTED = -3 };

/* A non-blocking listening socket; *port is the real one. WS_ESYSTEM with errno. */
int ws__net_listen(const ws_listen_options *options, int *fd, uint16_t *port);

/* A new connection, non-blocking; WS__NET_AGAIN: none waits (or that one is gone already);
 * WS__NET_EXHAUSTED: out of descriptors or memory, try again later; WS__NET_ERROR: the listening
 * socket is broken. */
int ws__net_accept(int listen_fd, struct ws__address *peer);

/* Bytes read, 0 at end of file, WS__NET_AGAIN or WS__NET_ERROR. */
ssize_t ws__net_read(int fd, void *bytes, size_t n);

/* Bytes taken (also fewer than given), WS__NET_AGAIN or WS__NET_ERROR. */
ssize_t ws__net_write(int fd, const void *bytes, size_t n);
ssize_t ws__net_writev(int fd, const struct iovec *parts, int count);

/* Sends FIN behind what was written. */
void ws__net_finish(int fd);
void ws__net_close(int fd);
/* Reads away everything. */
void ws__net_drain(int fd);
/* The kernel takes no more while it holds that many bytes that were never sent. */
void ws__net_limit_unsent(int fd, int bytes);
/* Removes the file of a Unix socket. */
void ws__net_unlink(const char *path);

/* At most 256 bytes that nobody else can guess. */
void ws__net_random(void *bytes, size_t n);

/* Text form into text[size], NUL-terminated, cut if it must be; returns its length. */
size_t ws__net_address_text(const struct ws__address *address, char *text, size_t size);

#endif
