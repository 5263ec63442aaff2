/* SPDX-License-Identifier: MIT */
/*
 * interest.h: a set of the hashes of topics that another process has subscribers of. Sans-IO. The
 * hashes are keyed, so no peer can choose names that collide here.
 */
#ifndef WS__INTEREST_H
#define WS__INTEREST_H

#include "buffer.h"

/* Zero it to begin. */
struct ws__interest {
    uint64_t *slots;         /* 0: free */
    size_t capacity, count;  /* capacity: 0 or a power of 2 */
    bool has_zero;           /* the hash 0, which no slot can hold */
};

/* Adds a hash, which may be there already. Returns WS_OK, or WS_ENOMEM; nothing is changed then. */
int ws__interest_add(struct ws__interest *set, struct ws__memory *memory, uint64_t hash);

/* Removes a hash, if it is there. */
void ws__interest_remove(struct ws__interest *set, struct ws__memory *memory, uint64_t hash);

bool ws__interest_has(const struct ws__interest *set, uint64_t hash);

/* Removes all of them and frees the memory. */
void ws__interest_clear(struct ws__interest *set, struct ws__memory *memory);

#endif
