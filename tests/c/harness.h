/* SPDX-License-Identifier: MIT */
/*
 * harness.h: a server and its clients in one thread: what the tests of the connection layer and
 * of the server stand on. Time is virtual, memory is counted (and can be made to fail), every
 * event of the server becomes a piece of text, and so does all that a client received.
 * With WS_TEST_TLS=fake in the environment, the harness listens with fake_tls.h, which its clients
 * speak.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "fake_tls.h"
#include "tap.h"
#include "ws.h"

#include <stdint.h>

enum event {
    ON_UPGRADE,
    ON_OPEN,
    ON_MESSAGE,
    ON_DRAIN,
    ON_DROPPED,
    ON_PING,
    ON_PONG,
    ON_CLOSE,
    ON_HTTP,
    ON_ABORTED,
    ON_SUBSCRIPTION,
    ON_CLOSED
};

enum { MAX_CONNS = 4096, EVENTS_SIZE = 64 * 1024, LOG_SIZE = 16 * 1024 };

/* What an allocator counts. Blocks carry their size, so that a wrong old_size is found, too. */
struct counter {
    size_t bytes, blocks, calls;
    size_t peak;     /* the most bytes so far; a test may set it back */
    size_t asked;    /* sizes of all blocks that were asked for, all in all */
    size_t fail_at;  /* the call of this number fails; 0: none */
    bool fail_after; /* and all after it */
    uint32_t also;   /* with fail_at: bit i stands for the call i + 1 after that one, which fails */
    bool mismatch;   /* old_size was not the size of the block */
};

struct harness {
    ws_server *server;
    ws_config config;
    ws_behavior behavior;
    int port;
    int send_buffer; /* SO_SNDBUF of accepted sockets, 0: the kernel's */
    uint64_t now;    /* nanoseconds */
    uint64_t tick;   /* by which each look at the clock moves it */
    bool real_time, echo;
    bool answers; /* the hook answers requests; else: upgrade, 200 */
    bool tls;     /* listens with fake_tls.h; false: not even if the environment says so */
    ws_tls tls_table;    /* of fake_tls.h; it counts */
    atomic_int sessions; /* of TLS that are open */
    struct counter memory;
    /* Called by each handler once its event is recorded; at most one of conn and request is set. */
    void (*hook)(struct harness *h, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length);
    bool quiet; /* record nothing */
    bool tells_closed; /* record on_closed, too */
    char events[EVENTS_SIZE];
    size_t events_length;
    char log[LOG_SIZE];
    size_t log_length;
    ws_conn_id ids[MAX_CONNS]; /* in the order of on_open; conn_user is the index */
    int opened;
    uint8_t closes[MAX_CONNS]; /* on_close of each */
    int closed;
    uint8_t overs[MAX_CONNS]; /* on_closed of each */
    int miscounts; /* on_subscription with counts that do not fit */
    ws_request *deferred; /* for hooks that take one for later */
};

struct client {
    struct harness *h;
    int fd;
    char *in; /* received, not yet looked at */
    size_t in_length, in_capacity;
    size_t received; /* all in all */
    size_t records;  /* the same, as it came from the kernel */
    bool eof, reset;
    bool hasty;    /* client_drain does not wait for what the kernel is slow to deliver */
    int served_fd; /* the server's end; -1: not known */
    struct fake_peer *tls; /* NULL: it speaks no TLS */
    char head[2048]; /* of the last response */
};

bool over_tls(void); /* WS_TEST_TLS is set */

/* Defaults: virtual time, counted memory, all handlers recorded. Change *h, then start it. */
void harness_init(struct harness *h);
void harness_create(struct harness *h);                      /* the server alone */
void harness_listen(struct harness *h);                      /* 127.0.0.1, any port */
const ws_tls *harness_tls(struct harness *h); /* for ws_listen_options; NULL: without TLS */
void harness_route(struct harness *h, const char *pattern);  /* h->behavior */
void harness_http(struct harness *h, const char *method, const char *pattern);
/* create, route "/", listen. */
void harness_start(struct harness *h);
/* Frees the server. True: no leak, and each on_open had one on_close. */
bool harness_free(struct harness *h);

void turns(struct harness *h, int count);
void advance(struct harness *h, uint64_t ms); /* and two turns */
ws_conn *conn_at(struct harness *h, int index);
ws_stats stats_of(struct harness *h);
/* Text of the events since the last call: "open; message TEXT hello; close 1000 bye". Events of
 * connections other than number 0 are led by "1:". "+a 2" and "-a 1": on_subscription, topic a
 * has 2, then 1; with "?" where the counts do not fit. "closed 1000 bye by peer": on_closed, clean;
 * "closed unclean": not. */
const char *harness_events(struct harness *h);
bool log_has(const struct harness *h, const char *text);

int client_socket(struct harness *h, int receive_buffer); /* connected, or on its way */
void client_connect(struct client *c, struct harness *h); /* and the handshake of TLS */
void client_connect_small(struct client *c, struct harness *h); /* with a small SO_RCVBUF */
void client_open(struct client *c, struct harness *h);          /* + handshake for "/" */
void client_open_small(struct client *c, struct harness *h);
void client_close(struct client *c);
void client_reset(struct client *c); /* RST instead of FIN */
void client_finish(struct client *c); /* FIN only */
size_t client_write(struct client *c, const void *bytes, size_t n); /* what the kernel took */
void client_say(struct client *c, const char *bytes);  /* as they are */
void client_text(struct client *c, const char *text); /* in a frame */
/* One masked frame; first: FIN and opcode. */
void client_frame(struct client *c, int first, const void *payload, size_t n);
size_t make_frame(char *out, int first, const void *payload, size_t n);
size_t make_close(char *out, int code, const char *reason);
void client_send_close(struct client *c, int code, const char *reason);
void client_read(struct client *c); /* all that is there */
void client_read_some(struct client *c, size_t n); /* at most n bytes from the kernel */
/* Reads and turns until nothing more comes, and nothing is on its way in the kernel. */
void client_drain(struct client *c);
/* turns, reads; all frames received: "TEXT hello, PONG p, CLOSE 1000 bye, EOF". A frame without
 * FIN has a "+"; payloads above 60 bytes are "[length]"; "RST" for a reset. */
const char *client_frames(struct client *c);
/* The same for HTTP: "200 body, 404, EOF": bodies of errors are left out. */
const char *client_responses(struct client *c);
bool head_has(const struct client *c, const char *text);

extern const char handshake_request[]; /* for "/" */

/* Checks of what the server's handlers and its clients have seen. */
bool is_events(struct harness *h, const char *want, const char *name);
bool is_frames(struct client *c, const char *want, const char *name);
bool is_responses(struct client *c, const char *want, const char *name);
void harness_stop(struct harness *h, const char *name); /* harness_free, which must be true */

#endif
