/* SPDX-License-Identifier: MIT */
/*
 * soak.h: the two sides of test_soak.c, which check each other: an application whose handlers use
 * the whole of ws.h (soak_app.c), and its peers (soak_peers.c). Every message says who sent it, its
 * number and its length, so that each side knows what must come.
 */
#ifndef SOAK_H
#define SOAK_H

#include "conn.h"
#include "harness.h"

enum {
    PEERS = 48,
    TOPICS = 6,
    HEADER = 9,      /* of a message: kind, number, length */
    LARGEST = 70000, /* max_payload_length */
    ROOM = LARGEST + 1000
};

/* What the application knows of a connection; by the harness' index. */
struct app {
    enum { FREE, OPENED, CLOSED } state;
    int peer;              /* -1: not known */
    uint32_t heard;        /* messages of the peer until now */
    uint32_t promised;     /* sends that were not dropped */
    bool inexact;          /* held-back messages went with it */
    bool fragmenting;      /* a message in pieces is under way: */
    bool refused;          /* its first piece was dropped */
    uint32_t in_piece;     /* depth of calls that send one of them */
    uint32_t number;
    size_t total, done;
};

enum phase { ANSWERS, FRAMES, OVER }; /* OVER: a Close came */

/* A client, and what it knows. */
struct peer {
    int fd; /* -1: none */
    struct fake_peer *tls; /* NULL: it speaks no TLS */
    uint32_t serial;
    int app;               /* index of its connection, -1: not known */
    enum phase phase;
    const char *path;
    bool stalled, mute, said_close, broken, finished;
    bool deflate, isolated; /* compression was negotiated; without a window between messages */
    struct ws__deflate_streams streams;
    char *in, *out, *message; /* received; to be sent; of frames without FIN */
    size_t in_length, in_size, out_length, out_size, message_length;
    int opcode;            /* of the current message, 0: none */
    bool compressed;
    uint32_t said, pinged, ponged;
    uint32_t last, got;    /* number of the last message; how many of those that were sent */
};

extern struct harness h;
extern struct app apps[MAX_CONNS];
extern struct peer peers[PEERS];
extern char letters[ROOM + 26], scratch[ROOM], framed[ROOM + 14];
extern struct ws__memory memory;     /* of the peers */
extern struct ws__deflate_pool pool; /* of the peers */
extern uint64_t state;               /* of draw() */
extern uint32_t seed, step;          /* to repeat a failure */
extern uint32_t next_number;         /* of a message of the application */
extern uint32_t depth;               /* of handlers inside of each other */
extern bool failed;                  /* a check has */
extern bool failing;                 /* the allocator does now and then */
extern struct soak_count {
    unsigned long connections, messages, sent, published, dropped, delivered, compared, resets,
        closes, timeouts, shutdowns, failures;
} count;

uint32_t draw(uint32_t below);
bool fault(const char *what, long detail); /* reports the first one; false */

/* ---- messages ---- */

void put_digits(char *to, uint32_t value, int digits);
uint32_t get_digits(const char *from, int digits);
void make_message(char *to, char kind, uint32_t number, size_t n);
bool is_message(const char *data, size_t n);
size_t draw_size(void); /* 0, or room for the header at least */

/* ---- the application ---- */

extern const char *const topics[TOPICS];

struct app *app_of(const ws_conn *conn);
ws_conn *any_conn(void);
void send_one(ws_conn *conn, size_t n);
void publish_one(ws_conn *conn);
void answer_now(ws_request *request);
void use(ws_conn *conn); /* one of all things that a handler may do */

/* Checks that events come once each, in their order, and what they bring. */
void account(enum event event, ws_conn *conn, const char *data, size_t length);

/* The hook of the harness: account, and some of all things that a handler may do. */
void react(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
           const char *data, size_t length);

/* ---- the peers ---- */

size_t make_request(const struct peer *p, char text[512]);
void peer_connect(struct peer *p, const char *path, bool small);
void peer_leave(struct peer *p, bool reset);
bool peer_read(struct peer *p);                        /* false: the end came, and p has left */
bool say(struct peer *p, const void *bytes, size_t n);   /* false: too much waits already */
void say_close(struct peer *p, int code);
void say_message(struct peer *p, size_t n);
void move_one(void); /* one of the peers does something */

#endif
