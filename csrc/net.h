/* SPDX-License-Identifier: MIT */
/*
 * net.h: TCP and Unix sockets: listen, accept, read, write, shut down. The only file with socket
 * calls. Knows nothing of WebSocket. No function raises SIGPIPE, and none blocks, except that
 * ws__net_listen asks the resolver if the host is a name.
 */
#ifndef WS__NET_H
#define WS__NET_H

#include "ws.h"

#include <sys/types.h>
#include <sys/uio.h>

/* The address of a peer or of a listening socket. */
struct ws__address {
    uint8_t bytes[16]; /* network order; IPv4-mapped addresses are stored as IPv4 */
    uint16_t port;
    uint8_t length; /* 4, 16, or 0 for a Unix socket */
    bool secure;    /* the client uses TLS, here or, as a proxy says, there */
};

/* Identifies a file for as long as it exists, while its path may lead to another file. */
struct ws__file {
    uint64_t device, inode;
};

/* Results of ws__net_accept, ws__net_read and ws__net_write that are not descriptors or counts. */
enum { WS__NET_AGAIN = -1, WS__NET_ERROR = -2, WS__NET_EXHAUSTED = -3 };

/* The most addresses that a name may have. */
enum { WS__NET_MAX_ENDPOINTS = 32 };

/* One address that was to be listened on. */
struct ws__endpoint {
    int fd;    /* non-blocking and listening, or -1 if that failed */
    int error; /* the errno of the failure */
    struct ws__address address;
};

struct ws__endpoints {
    struct ws__endpoint all[WS__NET_MAX_ENDPOINTS];
    uint32_t count;
    struct ws__file file; /* the file of a Unix socket */
};

/* Listens on all addresses that the options name, on the same port. An address that this machine
 * does not have is skipped, as long as another one remains. After any other failure nothing stays
 * open, and the last endpoint is the one that failed. Returns WS_OK, or WS_ESYSTEM with errno. It
 * is cold: it and what it alone calls are built for size. Its caller has a large frame, too. */
__attribute__((cold, noinline)) int ws__net_listen(const ws_listen_options *options,
                                                   struct ws__endpoints *endpoints);

/* Removes the file of a Unix socket, unless `path` leads to another file by now. Must be called
 * while the socket is open: until it is closed, no other file has the same inode number. Returns
 * WS_OK, or WS_ESYSTEM with errno if the file still exists. */
int ws__net_unlink(const char *path, const struct ws__file *file);

/* Sets *file to the file that an open descriptor leads to. Returns false with errno if fd is not
 * open. */
bool ws__net_file_of(int fd, struct ws__file *file);

bool ws__net_same_file(const struct ws__file *a, const struct ws__file *b);

/* Makes a connection of the caller one like those that are accepted here: non-blocking and
 * close-on-exec. Returns false with errno if it is no stream socket, or not connected. */
bool ws__net_take(int fd, struct ws__address *peer);

/* Returns the descriptor of a new connection, which is non-blocking, or WS__NET_AGAIN if no
 * connection waits, or the waiting one is gone. After any other result the listening socket may
 * stay readable, so trying again at once would spin: WS__NET_EXHAUSTED (out of descriptors or
 * memory) or WS__NET_ERROR with errno. */
int ws__net_accept(int listen_fd, struct ws__address *peer);

/* Returns the number of bytes read, 0 at end of file, WS__NET_AGAIN or WS__NET_ERROR. */
ssize_t ws__net_read(int fd, void *bytes, size_t n);

/* Returns the number of bytes that the kernel took, which may be fewer than n, WS__NET_AGAIN or
 * WS__NET_ERROR. */
ssize_t ws__net_write(int fd, const void *bytes, size_t n);

/* Does the same for bytes in several places. */
ssize_t ws__net_writev(int fd, const struct iovec *parts, int count);

/* Returns true if there are bytes to read, even if the peer has reset the connection. */
bool ws__net_has_input(int fd);

/* Sends FIN after everything that was written. */
void ws__net_finish(int fd);

/* Nothing more is expected: what is there can be read, then end of file. */
void ws__net_end_input(int fd);

/* Returns true until the peer's kernel has acknowledged everything that was sent, including FIN. */
bool ws__net_unacknowledged(int fd);

/* Ends the connection for its peer, even if another process has a copy of fd. */
void ws__net_cut(int fd);

void ws__net_close(int fd);

/* Reads and discards everything. */
void ws__net_drain(int fd);

/* Makes the kernel take no more bytes while it has this many that it has not sent. */
void ws__net_limit_unsent(int fd, int bytes);

/* Makes one end of a pair of datagram sockets non-blocking and gives it as much room for what it
 * sends as the system allows. Returns false with errno. */
bool ws__net_prepare_datagrams(int fd);

/* Sets the address to bytes[length], 4 or 16 of them in network order, and the rest to zero. */
void ws__net_set_address(struct ws__address *address, const void *bytes, size_t length);

/* Reads an address without a port, as ws__net_set_address sets it. Returns false if the text is
 * none. */
bool ws__net_parse_address(const char *text, size_t length, struct ws__address *address);

/* Writes the address without its port to text[size], NUL-terminated, and cut if it does not fit.
 * Returns its length before the cut. */
size_t ws__net_address_text(const struct ws__address *address, char *text, size_t size);

enum { WS__NET_PLACE_SIZE = 128 };

/* Writes the address with its port: "[::1]:8000". */
void ws__net_endpoint_text(const struct ws__address *address, char text[WS__NET_PLACE_SIZE]);

/* Writes the address of a listening socket: the same, or the path of a Unix socket. */
void ws__net_place_text(int fd, char text[WS__NET_PLACE_SIZE]);

#endif
