/* SPDX-License-Identifier: MIT */
/*
 * quota.h: how many connections each address has, and how fast its opening handshakes come. An
 * IPv6 address counts with all of its /64, which is what one client gets. Sans-IO: the caller says
 * what time it is.
 */
#ifndef WS__QUOTA_H
#define WS__QUOTA_H

#include "net.h"
#include "topics.h"

enum { WS__QUOTA_SETS = 1024, WS__QUOTA_WAYS = 4 };

/* The pace of one address. */
struct ws__pace {
    uint64_t key;
    uint64_t full_at;  /* when as many handshakes as in one second may come at once again */
    uint64_t quiet_to; /* no line is logged about it until then */
};

struct ws__quota {
    struct ws__topics addresses; /* a topic for each, with a pin for each connection */
    uint32_t max_connections;    /* of one address; 0: no limit */
    uint32_t refusing;           /* the caller's: connections that are being refused */
    uint64_t interval;           /* nanoseconds between two handshakes; 0: no limit */
    /* A new address takes the place of the one in its set that was limited least lately. */
    struct ws__pace paces[WS__QUOTA_SETS][WS__QUOTA_WAYS];
};

/* Returns WS_OK, with *quota NULL if there is no limit, or WS_ENOMEM. `seed` must be random. */
int ws__quota_new(struct ws__quota **quota, struct ws__memory *memory, const ws_config *config,
                   const uint64_t seed[2]);
void ws__quota_free(struct ws__quota *quota);

/* Counts a connection of this address. Returns false, and counts nothing, if it has too many, or
 * there is no memory for the count. */
bool ws__quota_enter(struct ws__quota *quota, const struct ws__address *address);
/* Ends what ws__quota_enter began. */
void ws__quota_leave(struct ws__quota *quota, const struct ws__address *address);
/* Returns false if an opening handshake of this address comes too soon. */
bool ws__quota_pace(struct ws__quota *quota, const struct ws__address *address, uint64_t now);
/* Returns true at most once a minute for an address. */
bool ws__quota_may_log(struct ws__quota *quota, const struct ws__address *address, uint64_t now);

#endif
