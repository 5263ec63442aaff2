/* SPDX-License-Identifier: MIT */
/*
 * source.h: content of a response that is not copied into the queue of its stream, but sent from
 * where it lies when the kernel has room: constant bytes, or a file.
 */
#ifndef WS__SOURCE_H
#define WS__SOURCE_H

#include "stream.h"

struct ws__source {
    const char *bytes; /* NULL: a file */
    int fd;            /* of a file; closed by ws__source_close */
    bool open;
    uint64_t offset, left; /* where the rest begins, and how long it is */
};

enum ws__source_result {
    WS__SOURCE_MORE,  /* on_ready of the stream's protocol follows, with drain_due set */
    WS__SOURCE_END,   /* all is sent */
    WS__SOURCE_FAILED /* the file cannot be read, or has become too short */
};
/* Sends as much as the kernel takes, up to 256 KiB, after what is queued. */
enum ws__source_result ws__source_send(struct ws__source *source, struct ws__stream *s);

void ws__source_close(struct ws__source *source);

#endif
