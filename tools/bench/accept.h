/* SPDX-License-Identifier: MIT */
/*
 * accept.h: the Sec-WebSocket-Accept value (RFC 6455 4.2.2) for the two programs in this folder.
 */
#ifndef BENCH_ACCEPT_H
#define BENCH_ACCEPT_H

#include <stddef.h>

enum { ACCEPT_LENGTH = 28 };

/* Writes base64(SHA-1(key + GUID)) for the 24 characters at `key` to text[29], with a NUL. */
void accept_value(const char key[24], char text[ACCEPT_LENGTH + 1]);

#endif
