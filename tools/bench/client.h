/*
 * client.h: one connection of the load generator: opens it, sends rounds of masked messages that
 * were built beforehand, and compares every byte that comes back with what must come back.
 *
 * It knows nothing of time, of counting and of the other connections. Any deviation of the server
 * ends the process through die().
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accept.h"

/* Prints "load: " and one line to stderr and exits with 1. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* What header and mask, or compression, may add to a payload. */
enum { CLIENT_OVERHEAD_MAX = 64 };

/* What all connections of a run have in common. */
typedef struct plan {
    struct sockaddr_in address;
    int poller; /* epoll instance; event data is the pointer to the client */
    char request[1024];
    size_t request_length;
    char accept[ACCEPT_LENGTH + 1];
    int opcode;
    size_t size;       /* payload bytes of a message, before it is compressed */
    bool records;      /* payloads are those of records.h, not letters */
    bool deflate;      /* permessage-deflate is asked for and used, every message on its own */
    unsigned pipeline; /* messages of a round */
    struct audience *audience; /* what open connections receive goes there; NULL: replies */
} plan;

/* Fills request and accept. */
void plan_prepare(plan *p, const char *host, unsigned port, const char *path);

typedef enum client_state {
    CLIENT_CONNECTING, /* the request is not sent yet */
    CLIENT_HANDSHAKE,  /* waits for the 101 */
    CLIENT_OPEN,
    CLIENT_CLOSING, /* a Close is sent, waits for the server's and for the end of TCP */
    CLIENT_CLOSED
} client_state;

typedef struct client {
    const plan *plan;
    int fd;
    unsigned index;
    client_state state;
    unsigned asked;          /* messages of the round that is on its way */
    unsigned answered;       /* of these, whose replies are complete */
    unsigned counted;        /* of these, for the caller */
    size_t to_send, sent;    /* bytes of `messages` on their way out */
    size_t to_get, got;      /* bytes of the round on its way back */
    uint64_t quota;          /* messages left to send; for the caller */
    uint64_t started;        /* when the round was sent; for the caller */
    unsigned char *messages; /* the masked messages of one round */
    unsigned char *replies;  /* what must come back */
    size_t *message_ends;    /* of each message of a round, the offset of its end */
    size_t *reply_ends;      /* of each reply that is known */
    unsigned known;          /* replies whose bytes are known; see learn_replies */
    char head[2048];         /* the server's answer to the request, later its Close */
    size_t head_length;
} client;

/* What an event has brought about. */
typedef enum client_news {
    NEWS_NONE,
    NEWS_OPENED,
    NEWS_REPLIES, /* some more are complete, see `answered` */
    NEWS_ROUND,   /* all are */
    NEWS_CLOSED
} client_news;

/* Builds the messages; wanted before client_send_round. */
void client_compose(client *c);

void client_connect(client *c, const plan *p, unsigned index);

/* `events` are those of epoll. */
client_news client_handle(client *c, uint32_t events);

/* Sends the first `length` bytes of c->messages. */
void client_send(client *c, size_t length);

/* Sends `count` messages, at most a round; NEWS_REPLIES may follow, NEWS_ROUND when all
 * have come back. */
void client_send_round(client *c, unsigned count);

/* Starts the closing handshake; NEWS_CLOSED follows. */
void client_close(client *c);

#endif
