/* SPDX-License-Identifier: MIT */
/*
 * client.h: one connection of the load generator. It opens the connection, sends rounds of masked
 * messages that were built in advance, and compares every received byte with the expected one.
 *
 * It knows nothing about time, counting or other connections. Any deviation of the server ends the
 * process through die().
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accept.h"
#include "report.h"
#include "secure.h"

/* The bytes that header and mask, or compression, may add to a payload. */
enum { CLIENT_OVERHEAD_MAX = 64 };

/* What all connections of a run share. */
typedef struct plan {
    struct sockaddr_in address;
    int poller; /* epoll instance; event data is the pointer to the client */
    char request[1024];
    size_t request_length;
    char accept[ACCEPT_LENGTH + 1];
    int opcode;
    size_t size;       /* payload bytes of a message before compression */
    bool records;      /* payloads are records.h, not letters */
    bool deflate;      /* permessage-deflate is used for isolated messages */
    bool engine;       /* the server speaks Engine.IO 4 and Socket.IO 5: a greeting comes first */
    bool answers;      /* the server may send anything to open connections; it is ignored */
    unsigned pipeline; /* messages of a round */
    struct ssl_ctx_st *secure; /* connections speak TLS; NULL: they do not */
    struct audience *audience; /* checks received data; NULL: replies are expected */
} plan;

/* Fills request and accept. */
void plan_prepare(plan *p, const char *host, unsigned port, const char *path);

typedef enum client_state {
    CLIENT_CONNECTING, /* the request is not sent yet */
    CLIENT_SECURING,   /* nor is the TLS handshake complete */
    CLIENT_HANDSHAKE,  /* waits for the 101 */
    CLIENT_GREETING,   /* waits for the greeting of `engine` */
    CLIENT_OPEN,
    CLIENT_CLOSING, /* sent a Close, waits for the server's and the end of TCP */
    CLIENT_CLOSED
} client_state;

typedef struct client {
    const plan *plan;
    int fd;
    struct ssl_st *ssl; /* NULL: there is no TLS */
    unsigned index;
    client_state state;
    unsigned asked;          /* messages of the current round */
    unsigned answered;       /* those with complete replies */
    unsigned counted;        /* those that the caller has counted */
    size_t to_send, sent;    /* bytes of `messages` to send */
    size_t to_get, got;      /* bytes of the round to receive */
    uint64_t quota;          /* messages left to send; for the caller */
    uint64_t started;        /* when the round was sent; for the caller */
    unsigned char *messages; /* the masked messages of one round */
    unsigned char *replies;  /* the expected replies */
    size_t *message_ends;    /* end offset of each message of a round */
    size_t *reply_ends;      /* end offset of each known reply */
    unsigned known;          /* replies whose bytes are known; see learn_replies */
    long process;            /* what the server's field X-Process says; 0 without */
    char head[2048];         /* the server's response head, its greeting, later its Close */
    size_t head_length;
} client;

/* The result of an event. */
typedef enum client_news {
    NEWS_NONE,
    NEWS_OPENED,
    NEWS_REPLIES, /* more replies are complete, see `answered` */
    NEWS_ROUND,   /* all replies are complete */
    NEWS_CLOSED
} client_news;

/* Builds the messages; needed before client_send_round. */
void client_compose(client *c);

void client_connect(client *c, const plan *p, unsigned index);

/* `events` are those of epoll. */
client_news client_handle(client *c, uint32_t events);

/* Sends the first `length` bytes of c->messages. */
void client_send(client *c, size_t length);

/* Sends `count` messages, at most a round. NEWS_REPLIES may follow, and NEWS_ROUND when all
 * replies have arrived. */
void client_send_round(client *c, unsigned count);

/* Starts the closing handshake; NEWS_CLOSED follows. */
void client_close(client *c);

/* Closes the socket at once. The client may connect again. */
void client_drop(client *c);

#endif
