/* SPDX-License-Identifier: MIT */
/*
 * tls_names.h: the host names for which an application has certificates, and which of them is meant
 * by the name that a client asks for (server name indication, RFC 6066 section 3). For the files
 * that connect a TLS library; the server itself does not use this.
 *
 * A name is "example.org", "*.example.org", which stands for all names of one more label, as in
 * certificates (RFC 6125 section 6.4.3), or "*", which stands for everything else.
 */
#ifndef TLS_NAMES_H
#define TLS_NAMES_H

#include "ws.h"

/* The bytes of a host name (RFC 1035 section 2.3.4, without the dot at its end). */
enum { WS__HOST_NAME_MAX_LENGTH = 253 };

struct ws__tls_name {
    char *text; /* in lower case */
    size_t length;
    size_t index; /* what it was added as */
};

struct ws__tls_names {
    struct ws__tls_name *sorted;
    size_t count;
};

/* Makes room for `count` names. Returns WS_OK or WS_ENOMEM. */
int ws__tls_names_init(struct ws__tls_names *names, size_t count);

/* Frees it, also if names are missing or ws__tls_names_init has failed. */
void ws__tls_names_deinit(struct ws__tls_names *names);

/* Sets the name (copied) of an index, once for each. Returns WS_OK, WS_EINVAL (not a host name in
 * ASCII) or WS_ENOMEM. */
int ws__tls_names_set(struct ws__tls_names *names, size_t index, const char *text);

/* Must be called when all names are set. Returns WS_OK, or WS_EINVAL if one is there twice. */
int ws__tls_names_sort(struct ws__tls_names *names);

/* Returns true if the only name is "*". */
bool ws__tls_names_only_default(const struct ws__tls_names *names);

/* Returns the index for the name that a client has sent, with or without a dot at its end and with
 * a length of 0 for no name, or -1. */
ptrdiff_t ws__tls_names_find(const struct ws__tls_names *names, const char *text, size_t length);

#endif
