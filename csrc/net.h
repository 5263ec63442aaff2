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

/* Identifies a file for as long as it exists. Its path may lead to another one by then. */
struct ws__file {
    uint64_t device, inode;
};

/* Results of the functions below that are not counts. */
enum { WS__NET_AGAIN = -1, WS__NET_ERROR = -2, WS__NET_EXHAUSTED = -3 };

/* How many addresses a name may have. */
enum { WS__NET_MAX_ENDPOINTS = 32 };

/* One address of a place to listen at. */
struct ws__endpoint {
    int fd;    /* non-blocking and listening; -1 where that failed */
    int error; /* the errno of that failure */
    struct ws__address address;
};

struct ws__endpoints {
    struct ws__endpoint all[WS__NET_MAX_ENDPOINTS];
    uint32_t count;
    struct ws__file file; /* of a Unix socket */
};

/* Listens at every address of the place, at one port. An address that this machine does not have
 * is left out as long as there is another one. After any other failure nothing is left open, and
 * the last endpoint is the one that failed.
 * Returns WS_ESYSTEM with errno. */
int ws__net_listen(const ws_listen_options *options, struct ws__endpoints *endpoints);

/* Removes the file of a Unix socket, unless `path` leads to another file by now. To be called
 * while the socket is open: as long as it is, no other file has the same inode number.
 * Returns WS_ESYSTEM with errno where the file is still there. */
int ws__net_unlink(const char *path, const struct ws__file *file);

/* A new connection, non-blocking; WS__NET_AGAIN: none waits (or that one is gone already).
 * Otherwise the listening socket may stay readable, so that trying again at once would spin:
 * WS__NET_EXHAUSTED: out of descriptors or memory; WS__NET_ERROR with errno: anything else. */
int ws__net_accept(int listen_fd, struct ws__address *peer);

/* Bytes read, 0 at end of file, WS__NET_AGAIN or WS__NET_ERROR. */
ssize_t ws__net_read(int fd, void *bytes, size_t n);

/* Bytes taken (also fewer than given), WS__NET_AGAIN or WS__NET_ERROR. */
ssize_t ws__net_write(int fd, const void *bytes, size_t n);
ssize_t ws__net_writev(int fd, const struct iovec *parts, int count);

/* Is there something to read, be it after a reset of the peer's? */
bool ws__net_has_input(int fd);
/* Sends FIN behind what was written. */
void ws__net_finish(int fd);
/* Has the peer's kernel not acknowledged all that was sent yet, FIN included? */
bool ws__net_unacknowledged(int fd);
/* Ends the connection for its peer, also where another process holds a copy of fd. */
void ws__net_cut(int fd);
void ws__net_close(int fd);
/* Reads away everything. */
void ws__net_drain(int fd);
/* The kernel takes no more while it holds that many bytes that were never sent. */
void ws__net_limit_unsent(int fd, int bytes);

/* At most 256 random bytes, from the kernel if it gives any: a sandbox may deny them. */
void ws__net_random(void *bytes, size_t n);

/* Text form into text[size], NUL-terminated, cut if it must be; returns its length. */
size_t ws__net_address_text(const struct ws__address *address, char *text, size_t size);

/* Text form of an address with its port, "[::1]:8000". */
enum { WS__NET_PLACE_SIZE = 128 };
void ws__net_endpoint_text(const struct ws__address *address, char text[WS__NET_PLACE_SIZE]);
/* Where a socket listens: the same, or the path of a Unix socket. */
void ws__net_place_text(int fd, char text[WS__NET_PLACE_SIZE]);

#endif
