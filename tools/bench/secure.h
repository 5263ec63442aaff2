/* SPDX-License-Identifier: MIT */
/*
 * secure.h: TLS for the load generator and the floor, by OpenSSL. secure_none.c replaces secure.c
 * if OpenSSL is missing.
 */
#ifndef BENCH_SECURE_H
#define BENCH_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct ssl_st;     /* SSL */
struct ssl_ctx_st; /* SSL_CTX */

/* Returns false if OpenSSL is missing; nothing else here may be called then. */
bool secure_available(void);

/* Clients speak TLS 1.3 with TLS_AES_128_GCM_SHA256 and check no certificate. With `resume`, each
 * connection resumes the session of the previous one, if there was any. */
struct ssl_ctx_st *secure_clients(bool resume);

/* `release`: connections have no buffers while they are idle. */
struct ssl_ctx_st *secure_servers(const char *cert_file, const char *key_file, bool release);

/* Begins on a socket. */
struct ssl_st *secure_begin(struct ssl_ctx_st *context, int fd);

/* Returns true once the handshake is complete; false with EAGAIN if it is not. */
bool secure_shake(struct ssl_st *ssl);

/* Like send and recv of a non-blocking socket, with errno. secure_recv returns at most one record,
 * and 0 at the end of the stream; without close_notify, OpenSSL 3 makes that EPROTO. The handshake
 * is done as well. A send that has failed with EAGAIN must be repeated with the same bytes, and may
 * have more of them. */
ssize_t secure_send(struct ssl_st *ssl, const void *data, size_t length);
ssize_t secure_recv(struct ssl_st *ssl, void *buffer, size_t size);

/* Frees it without a word to the peer. `ssl` may be NULL. */
void secure_end(struct ssl_st *ssl);

/* Returns why the last call has failed, as text. */
const char *secure_error(void);

#endif
