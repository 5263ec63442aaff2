/* SPDX-License-Identifier: MIT */
/*
 * label.c: labels, and which connections take them.
 */
#include "label.h"
#ifndef WS_NO_CLUSTER
#include "ws_cluster.h"

#include <string.h>

size_t ws__label_length(const void *data, size_t length)
{
    const char *end = length && !*(const char *)data ? memchr(data, '\n', length) : NULL;
    return end ? (size_t)(end - (const char *)data) + 1 : 0;
}

char *ws__label_prepend(struct ws__memory *memory, const void *data, size_t length)
{
    char *copy = ws__memory_resize(memory, NULL, 0, WS__LABEL_EMPTY + length);
    if (!copy)
        return NULL;
    copy[0] = '\0';
    copy[1] = '\n';
    if (length)
        memcpy(copy + WS__LABEL_EMPTY, data, length);
    return copy;
}

/* ---- ws_cluster.h ---- */

int ws_conn_take_labels(ws_conn *conn)
{
    if (conn->stream.phase != WS__CONN_OPEN)
        return WS_ECLOSED;
    conn->stream.hub->label_takers += !conn->labels;
    conn->labels = true;
    return WS_OK;
}

#endif
