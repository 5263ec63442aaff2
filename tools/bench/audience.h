/* SPDX-License-Identifier: MIT */
/*
 * audience.h: what the subscribers of one topic must receive: every message of every publisher
 * exactly once and complete, with the messages of one publisher in order.
 *
 * It knows nothing about sockets or time. A message is outstanding until the last subscriber has
 * received it. A publisher has at most `window` outstanding messages, so all of them are stored.
 */
#ifndef BENCH_AUDIENCE_H
#define BENCH_AUDIENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AUDIENCE_SIZE_MIN = 16 }; /* bytes of a text for the publisher and the message number */

typedef struct audience_slot {
    unsigned missing; /* subscribers that do not have it yet */
    uint64_t started; /* when it was sent; for the caller */
} audience_slot;

typedef struct audience_publisher {
    uint64_t sent, done;   /* messages started; those that all subscribers have */
    uint64_t noted;        /* for the caller */
    audience_slot *slots;  /* for messages `done` to `sent`, by number modulo window */
    unsigned char *frames; /* what subscribers must receive, in the same order */
} audience_publisher;

typedef struct audience_member {
    uint64_t *next;      /* number of the next message of each publisher */
    unsigned char *held; /* the beginning of an incomplete frame */
    size_t held_length;
    bool reached; /* by a probe */
} audience_member;

typedef struct audience {
    unsigned members, publishers, window;
    size_t size;            /* bytes of a text */
    const char *start, *end; /* what stands before and after it in a payload; NULL: nothing */
    size_t start_length;
    size_t payload_length;
    size_t frame_length; /* with a server's header */
    int opcode;
    audience_publisher *each;
    audience_member *all;
    uint64_t deliveries;
    bool probing;     /* probes are sent */
    unsigned reached; /* members that have received one */
} audience;

/* Allocates memory after counts, size and opcode were set. Exits if out of memory. */
void audience_prepare(audience *a);

/* Returns how many messages `publisher` may start now. */
unsigned audience_room(const audience *a, unsigned publisher);

/* Writes its next `count` messages, masked with zeros, to `to`; returns their length. */
size_t audience_publish(audience *a, unsigned publisher, unsigned count, uint64_t now,
                        unsigned char *to);

/* Writes a probe, a message that members need not receive, to `to`; returns its length. No message
 * of a publisher is outstanding. */
size_t audience_probe(const audience *a, unsigned char *to);

/* Checks bytes that `member` received; exits if they are wrong. */
void audience_take(audience *a, unsigned member, const unsigned char *data, size_t length);

#endif
