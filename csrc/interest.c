/* SPDX-License-Identifier: MIT */
/*
 * interest.c: a hash table with open addressing and linear probing, at most half full. Knows
 * nothing of topics: its elements are hashes already.
 */
#include "interest.h"
#ifndef WS_NO_CLUSTER

enum { FEWEST_SLOTS = 8 };

/* Returns the slot of the hash, or the free one where it belongs. */
static size_t probe(const struct ws__interest *set, uint64_t hash)
{
    size_t mask = set->capacity - 1, i = (size_t)hash & mask;
    while (set->slots[i] && set->slots[i] != hash)
        i = (i + 1) & mask;
    return i;
}

static bool set_slots(struct ws__interest *set, struct ws__memory *memory, size_t capacity)
{
    struct ws__interest grown = {.capacity = capacity, .count = set->count,
                                 .has_zero = set->has_zero};
    if (capacity > SIZE_MAX / sizeof *grown.slots)
        return false;
    grown.slots = ws__memory_zalloc(memory, capacity * sizeof *grown.slots);
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->slots[i])
            grown.slots[probe(&grown, set->slots[i])] = set->slots[i];
    ws__memory_free(memory, set->slots, set->capacity * sizeof *set->slots);
    *set = grown;
    return true;
}

int ws__interest_add(struct ws__interest *set, struct ws__memory *memory, uint64_t hash)
{
    if (ws__interest_has(set, hash))
        return WS_OK;
    if (!hash) {
        set->has_zero = true;
        return WS_OK;
    }
    if (set->count >= set->capacity / 2 &&
        !set_slots(set, memory, set->capacity ? 2 * set->capacity : FEWEST_SLOTS))
        return WS_ENOMEM;
    set->slots[probe(set, hash)] = hash;
    set->count++;
    return WS_OK;
}

/* Moves later elements of the run into the gap, so that none becomes unreachable. */
static void close_gap(struct ws__interest *set, size_t gap)
{
    size_t mask = set->capacity - 1;
    for (size_t i = (gap + 1) & mask; set->slots[i]; i = (i + 1) & mask) {
        size_t home = (size_t)set->slots[i] & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) /* its run begins after the gap */
            continue;
        set->slots[gap] = set->slots[i];
        gap = i;
    }
    set->slots[gap] = 0;
}

void ws__interest_remove(struct ws__interest *set, struct ws__memory *memory, uint64_t hash)
{
    if (!hash)
        set->has_zero = false;
    if (!hash || !ws__interest_has(set, hash))
        return;
    close_gap(set, probe(set, hash));
    if (!--set->count)
        ws__memory_free(memory, set->slots, set->capacity * sizeof *set->slots);
    if (!set->count)
        *set = (struct ws__interest){.has_zero = set->has_zero};
    else if (set->count < set->capacity / 8)
        set_slots(set, memory, set->capacity / 2); /* without memory it stays larger */
}

bool ws__interest_has(const struct ws__interest *set, uint64_t hash)
{
    if (!hash)
        return set->has_zero;
    return set->count && set->slots[probe(set, hash)] == hash;
}

void ws__interest_clear(struct ws__interest *set, struct ws__memory *memory)
{
    ws__memory_free(memory, set->slots, set->capacity * sizeof *set->slots);
    *set = (struct ws__interest){0};
}

#endif
