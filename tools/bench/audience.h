/*
 * audience.h: what the subscribers of one topic must receive: every message of every publisher,
 * once, whole, and those of one publisher in order.
 *
 * It knows nothing of sockets and of time. A message stays outstanding until the last subscriber
 * has it, and a publisher has at most `window` of these, so what must come is always at hand.
 */
#ifndef BENCH_AUDIENCE_H
#define BENCH_AUDIENCE_H

#include <stddef.h>
#include <stdint.h>

enum { AUDIENCE_SIZE_MIN = 16 }; /* payload bytes: the message says whose it is, and its number */

typedef struct audience_slot {
    unsigned missing; /* subscribers that do not have it yet */
    uint64_t started; /* when it was sent; for the caller */
} audience_slot;

typedef struct audience_publisher {
    uint64_t sent, done;   /* messages begun; those of them that everybody has */
    uint64_t noted;        /* for the caller */
    audience_slot *slots;  /* of the messages from `done` to `sent`, by number modulo window */
    unsigned char *frames; /* what subscribers must get, in the same order */
} audience_publisher;

typedef struct audience_member {
    uint64_t *next;      /* number of the next message of each publisher */
    unsigned char *held; /* the beginning of a frame that has not arrived as a whole */
    size_t held_length;
} audience_member;

typedef struct audience {
    unsigned members, publishers, window;
    size_t size;         /* payload bytes */
    size_t frame_length; /* with a server's header */
    int opcode;
    audience_publisher *each;
    audience_member *all;
    uint64_t deliveries;
} audience;

/* Allocates what is needed; the numbers and size and opcode are set. Dies without memory. */
void audience_prepare(audience *a);

/* How many messages `publisher` may begin now. */
unsigned audience_room(const audience *a, unsigned publisher);

/* Begins its next `count` messages, masked with zeros, into `to`; returns their length. */
size_t audience_publish(audience *a, unsigned publisher, unsigned count, uint64_t now,
                        unsigned char *to);

/* These bytes came to `member`; dies when they are not what must come. */
void audience_take(audience *a, unsigned member, const unsigned char *data, size_t length);

#endif
