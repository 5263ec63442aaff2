/* SPDX-License-Identifier: MIT */
/*
 * records.c: see records.h. A record is an order with a head, as many items as fit, and a note that
 * fills the rest. Numbers and words come from a generator that is seeded with the record's number.
 */
#include "records.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ITEM_MAX = 128, NOTE_MIN = 24 };

static const char *const words[] = {
    "amber", "basin",  "cedar", "delta",  "ember",  "fjord", "grove", "harbor",
    "inlet", "juniper", "knoll", "lagoon", "meadow", "north", "oasis", "prairie",
};

static unsigned draw(uint32_t *state, unsigned limit)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % limit;
}

static const char *draw_word(uint32_t *state)
{
    return words[draw(state, sizeof(words) / sizeof(*words))];
}

/* Separate statements, because the order of evaluation of arguments is unspecified. */
static size_t write_head(uint32_t *state, unsigned number, char *to, size_t room)
{
    unsigned day = 1 + draw(state, 28), hour = draw(state, 24), minute = draw(state, 60);
    const char *name = draw_word(state), *other = draw_word(state);
    unsigned customer = draw(state, 1000000);
    int n = snprintf(to, room,
                     "{\"id\":%u,\"type\":\"order.changed\",\"time\":\"2026-03-%02uT%02u:%02uZ\","
                     "\"customer\":{\"name\":\"%s %s\",\"number\":%u},\"items\":[",
                     100000 + number % 100000, day, hour, minute, name, other, customer);

    return (size_t)n;
}

static size_t write_item(uint32_t *state, char *to)
{
    const char *name = draw_word(state), *other = draw_word(state);
    unsigned article = draw(state, 100000), count = 1 + draw(state, 20);
    unsigned price = draw(state, 1000), cents = draw(state, 100);
    bool stock = draw(state, 4) > 0;
    int n = snprintf(to, ITEM_MAX,
                     "{\"article\":\"%05u\",\"name\":\"%s %s\",\"count\":%u,\"price\":%u.%02u,"
                     "\"stock\":%s},",
                     article, name, other, count, price, cents, stock ? "true" : "false");

    return (size_t)n;
}

/* Writes words separated by spaces and truncates the last one. */
static void write_note(uint32_t *state, char *to, size_t length)
{
    while (length > 0) {
        const char *word = draw_word(state);
        size_t n = strlen(word) < length ? strlen(word) : length;
        memcpy(to, word, n);
        to += n;
        length -= n;
        if (length > 0) {
            *to++ = ' ';
            length--;
        }
    }
}

void record_write(unsigned number, char *to, size_t size)
{
    static const char before[] = "],\"note\":\"", after[] = "\"}";
    const size_t rest = sizeof(before) - 1 + NOTE_MIN + sizeof(after) - 1;
    uint32_t state = 0x9e3779b9u * (number + 1);
    char *at = to + write_head(&state, number, to, size), *end = to + size;

    while ((size_t)(end - at) > rest + ITEM_MAX) {
        at += write_item(&state, at);
    }
    at -= at[-1] == ',';
    memcpy(at, before, sizeof(before) - 1);
    at += sizeof(before) - 1;
    end -= sizeof(after) - 1;
    write_note(&state, at, (size_t)(end - at));
    memcpy(end, after, sizeof(after) - 1);
}
