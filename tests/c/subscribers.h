/* SPDX-License-Identifier: MIT */
/*
 * subscribers.h: a server and clients in its topics: what the programs that test topics and
 * publishing stand on, beside harness.h. Topics and texts are short strings; client i has
 * connection number i.
 */
#ifndef SUBSCRIBERS_H
#define SUBSCRIBERS_H

#include "harness.h"
#include "kernel.h"

enum { CLIENTS = 8 };

extern struct harness h;
extern struct client c[CLIENTS];
extern int clients; /* of c, from 0 on, are connected */
extern char payload[1 << 20];
extern int results; /* for handlers: what their publishing returned */

void prepare(void);          /* the defaults of the harness, which may be changed before run() */
void run(int count);         /* the server and its clients */
void start(int count);       /* both */
void stop(const char *name); /* the name is for the report */

/* Four clients, of which 0 is in the topics a and b, 1 in b alone; max_backpressure is 1,000. */
void run_in_topics(void);
void start_in_topics(void);

/* The calls of ws.h of these names; publish_bytes publishes n bytes `fill`. */
int join(int i, const char *topic);
int publish(const char *topic, const char *text);
int publish_bytes(const char *topic, char fill, size_t n);
int send_text(int i, const char *text);
uint32_t subscribers(const char *topic);

void give_room(int i, size_t room); /* kernel_give_room for client i */
void in_turn(void (*fn)(void));     /* calls fn within a turn */

void publish_ten(void);   /* texts, to b and a by turns */
void publish_four(void);  /* 996 bytes to a; results: how many have reached somebody */
void publish_large(void); /* to a and b: messages around and above 16 KiB, among small ones */

/* Publishes 660 KB to a, and some to b. `most` is the largest amount of memory in use meanwhile.
 * check_much checks what a client of a, or of both, has received; returns the number of messages,
 * negative if they are wrong. */
extern size_t most;
void publish_much(void);
int check_much(struct client *client, bool both);

#endif
