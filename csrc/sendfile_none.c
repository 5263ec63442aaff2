/* SPDX-License-Identifier: MIT */
/*
 * sendfile_none.c: takes the place of sendfile.c with -DWS_NO_HTTP_FILES, for programs that send no
 * files. ws_request_respond_file is then WS_ENOTSUP, so none of this is called.
 */
#include "sendfile.h"
#ifdef WS_NO_HTTP_FILES

ssize_t ws__sendfile(int fd, int file, uint64_t offset, size_t n)
{
    (void)fd;
    (void)file;
    (void)offset;
    (void)n;
    return 0;
}

size_t ws__sendfile_read(int file, uint64_t offset, void *bytes, size_t n)
{
    (void)file;
    (void)offset;
    (void)bytes;
    (void)n;
    return 0;
}

#endif
