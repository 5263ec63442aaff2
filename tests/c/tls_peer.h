/* SPDX-License-Identifier: MIT */
/*
 * tls_peer.h: a client of OpenSSL in memory that talks to a session of a ws_tls table, and
 * certificates for both. The session gets received bytes and room for what it sends in blocks of
 * exactly the size that it may touch, so that the sanitizers see more.
 */
#ifndef TLS_PEER_H
#define TLS_PEER_H

#include "ws_tls.h"

#include <openssl/ssl.h>

/* A certificate and its key. */
struct identity {
    X509 *certificate;
    EVP_PKEY *key;
    struct identity *issuer; /* NULL: itself */
};

/* Makes one for a host name, signed by `issuer` (kept; NULL: by itself). */
struct identity *identity_new(const char *name, struct identity *issuer);
void identity_free(struct identity *identity);

/* Contexts that the caller frees. That of a server has the certificate and those of its issuers. */
SSL_CTX *server_context(const struct identity *identity);
SSL_CTX *client_context(void);

/* Writes the certificate (with those of its issuers), the key (encrypted with `password` unless
 * that is NULL) or both to a file. */
enum { WRITE_CERTIFICATE = 1, WRITE_KEY = 2 };
void identity_write(const struct identity *identity, const char *path, int what,
                    const char *password);

/* Runs before and after each call of a session, unless it is NULL. */
extern void (*around_calls)(bool before);

/* Both ends. */
struct tls_link {
    const ws_tls *tls;
    void *session;
    SSL *client;
    size_t cut;       /* at most so many received bytes at a time; 0: all there are */
    size_t room;      /* the size of `out` */
    size_t piece;     /* how many bytes `read` is asked for */
    char *in;         /* what the session has not taken */
    size_t in_length;
    size_t sent;      /* bytes of the session in all */
    bool dirty;       /* an error of somebody else is in the thread before each call */
    bool clean;       /* no call of the session has left an error of OpenSSL */
    int client_error; /* SSL_get_error of the handshake of the client */
    int client_reason; /* of an SSL_ERROR_SSL, such as SSL_R_NO_RENEGOTIATION */
};

/* Begins with a client of `context` that asks for `name` (may be NULL). Returns false if there is
 * no session. */
bool link_open(struct tls_link *link, const ws_tls *tls, SSL_CTX *context, const char *name);
void link_close(struct tls_link *link);

/* Does the same with a session that exists. */
void link_adopt(struct tls_link *link, const ws_tls *tls, void *session, SSL_CTX *context,
                const char *name);

/* Lets both ends talk until the handshake is complete at both (returns WS_TLS_DONE), one of them
 * has failed, or nothing moves any more (WS_TLS_MORE). Returns what the session has returned last.
 */
int link_shake(struct tls_link *link);

/* Passes what the client has sent, in pieces, to the handshake of the session until all of it is
 * taken or the result is not WS_TLS_MORE. link_step makes one call, after the client has made one
 * of its own. */
int link_feed(struct tls_link *link);
int link_step(struct tls_link *link);

/* Lets the session read all that the client has sent, of which there is room for, and passes what
 * it answers to the client. Returns its last result; *got is the number of bytes. */
int link_read(struct tls_link *link, char *bytes, size_t size, size_t *got);

/* Writes with the session, and returns its result. */
int link_write(struct tls_link *link, const char *bytes, size_t length);

/* Lets the session close. */
void link_shut(struct tls_link *link);

/* What the client reads: the number of bytes, or -1 and its SSL_get_error in *error. */
int client_read(struct tls_link *link, char *bytes, size_t size, int *error);

/* Passes bytes to the session as if the client had sent them. */
void client_sends_raw(struct tls_link *link, const void *bytes, size_t length);

/* Takes what the client would send. Returns its length. */
size_t client_take_raw(struct tls_link *link, char *bytes, size_t size);

#endif
