/* SPDX-License-Identifier: MIT */
/*
 * label_none.c: takes the place of label.c with -DWS_NO_CLUSTER. No connection takes labels then,
 * and no message begins with one.
 */
#undef WS_BUILDING /* what is left out is not exported */
#include "label.h"
#ifdef WS_NO_CLUSTER
#include "ws_cluster.h"

size_t ws__label_length(const void *data, size_t length)
{
    (void)data;
    (void)length;
    return 0;
}

char *ws__label_prepend(struct ws__memory *memory, const void *data, size_t length)
{
    (void)memory;
    (void)data;
    (void)length;
    return NULL;
}

/* ---- ws_cluster.h ---- */

int ws_conn_take_labels(ws_conn *conn)
{
    (void)conn;
    return WS_ENOTSUP;
}

#endif
