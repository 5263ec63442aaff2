/* SPDX-License-Identifier: MIT */
/*
 * fake_tls.h: no TLS, but with its shape: what the server calls through ws_tls.h, and what the
 * clients of the tests speak with it. A record is a type, a length of two bytes, and as many bytes
 * of content, each XORed. The client's hello is answered by a flight of any length, the client's
 * end of the handshake by a ticket.
 */
#ifndef FAKE_TLS_H
#define FAKE_TLS_H

#include "ws_tls.h"

#include <stdatomic.h>

enum { FAKE_ALERT = 0x15, FAKE_HANDSHAKE = 0x16, FAKE_DATA = 0x17, FAKE_UPDATE = 0x18 };
enum { FAKE_HEAD = 3, FAKE_RECORD_MAX = 3 + 16384 };

extern struct fake_tls {
    ws_tls table; /* to be listened with; the context may be another atomic_int */
    atomic_int sessions; /* open ones, which the context of the table counts */
    atomic_int opened;   /* all in all */
    atomic_int misused;  /* calls that ws_tls.h rules out */
    atomic_uint writes, reads, handshakes, closes;
    /* Switches. fake_reset turns them off. */
    size_t flight;       /* bytes of content of the server's flight; else 1000 */
    unsigned fail_open, fail_handshake, fail_read, fail_write; /* the call of this number fails */
    bool lazy;           /* read never returns bytes with MORE, so that it needs one more call */
    size_t piece;        /* read returns at most so many bytes at once; 0: all */
    size_t answer;       /* bytes of content of the answer to a FAKE_UPDATE; else 1 */
    bool keeps_input;    /* a fault: read takes nothing */
    bool empty;          /* a fault: read returns DONE without bytes */
    void (*hook)(const char *call); /* called first by each function */
} fake_tls;

/* All is off, and nothing is counted. Sessions must be freed. */
void fake_reset(void);

/* Writes one record with n bytes of content, at most 16384, to out[FAKE_HEAD + n]. Returns its
 * length. */
size_t fake_record(char *out, int type, const void *bytes, size_t n);

/* A client's side. */
struct fake_peer {
    char *out; /* records that the kernel has not taken */
    size_t out_length, out_capacity;
    char *later; /* and those that wait for the end of the handshake */
    size_t later_length, later_capacity;
    char *raw; /* received, less than a record */
    size_t raw_length, raw_capacity;
    size_t records; /* of data received */
    size_t updates; /* answers to FAKE_UPDATE */
    bool shaken;    /* the ticket has come */
    bool answered;  /* the flight has come */
    bool closed;    /* close_notify has come */
    int alert;      /* another alert has come; 0: none */
};

/* Begins: the hello is in `out`. */
struct fake_peer *fake_peer_new(void);
void fake_peer_free(struct fake_peer *peer);
/* Queues bytes in records of at most `size` bytes. */
void fake_peer_queue(struct fake_peer *peer, int type, const void *bytes, size_t n, size_t size);
/* Sends what is queued; returns true if nothing is left of it. */
bool fake_peer_flush(struct fake_peer *peer, int fd);
/* Takes n received bytes. Returns how many bytes of content were written to `to`, which has room
 * for them and those of a record before. */
size_t fake_peer_take(struct fake_peer *peer, const char *bytes, size_t n, char *to);

#endif
