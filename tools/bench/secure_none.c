/* SPDX-License-Identifier: MIT */
/*
 * secure_none.c: see secure.h: there is no OpenSSL.
 */
#include "secure.h"

bool secure_available(void)
{
    return false;
}

struct ssl_ctx_st *secure_clients(bool resume)
{
    (void)resume;
    return NULL;
}

struct ssl_ctx_st *secure_servers(const char *cert_file, const char *key_file, bool release)
{
    (void)cert_file;
    (void)key_file;
    (void)release;
    return NULL;
}

struct ssl_st *secure_begin(struct ssl_ctx_st *context, int fd)
{
    (void)context;
    (void)fd;
    return NULL;
}

bool secure_shake(struct ssl_st *ssl)
{
    (void)ssl;
    return false;
}

ssize_t secure_send(struct ssl_st *ssl, const void *data, size_t length)
{
    (void)ssl;
    (void)data;
    (void)length;
    return -1;
}

ssize_t secure_recv(struct ssl_st *ssl, void *buffer, size_t size)
{
    (void)ssl;
    (void)buffer;
    (void)size;
    return -1;
}

void secure_end(struct ssl_st *ssl)
{
    (void)ssl;
}

const char *secure_error(void)
{
    return "";
}
