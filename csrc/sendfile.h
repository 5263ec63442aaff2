/* SPDX-License-Identifier: MIT */
/*
 * sendfile.h: bytes of a file to a socket without a copy, or to where they are encrypted. Raises no
 * SIGPIPE.
 */
#ifndef WS__SENDFILE_H
#define WS__SENDFILE_H

#include "ws.h"

#include <sys/types.h>

/* Without it, the functions below are those of sendfile_none.c, which send and read nothing. */
#ifdef WS_NO_HTTP_FILES
enum { WS__SENDFILE_AVAILABLE = false };
#else
enum { WS__SENDFILE_AVAILABLE = true };
#endif

/* Returns the number of bytes that the kernel took, which may be fewer than n, 0 if the file cannot
 * be read there, as after its end, or what ws__net_write returns otherwise: -1 if the kernel takes
 * no more now, -2 if the connection is lost. */
ssize_t ws__sendfile(int fd, int file, uint64_t offset, size_t n);

/* Reads at most n bytes of a file. Returns how many were read, 0 at its end or after an error. */
size_t ws__sendfile_read(int file, uint64_t offset, void *bytes, size_t n);

#endif
