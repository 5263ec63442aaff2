/* SPDX-License-Identifier: MIT */
/*
 * label.h: labels, see ws_cluster.h. A message whose first byte is zero begins with a label, for a
 * connection that takes labels. One that the application sends without a label, and that begins
 * with a zero byte itself, is preceded by the empty label there, so that it cannot be confused with
 * a label.
 */
#ifndef WS__LABEL_H
#define WS__LABEL_H

#include "conn.h"

enum { WS__LABEL_EMPTY = 2 }; /* bytes of the empty label */

/* Returns the length of the label that data[length] begins with; 0 if it begins with none. */
size_t ws__label_length(const void *data, size_t length);
/* True if data that has no label needs the empty one. It may be the first fragment of a message: if
 * that is empty, the next one might begin with a zero byte. */
static inline bool ws__label_is_needed(const void *data, size_t length, bool fin)
{
    return length ? !*(const char *)data : !fin;
}
/* Returns a copy of data[length] after the empty label, to be freed by the caller; NULL if out of
 * memory. */
char *ws__label_prepend(struct ws__memory *memory, const void *data, size_t length);

#endif
