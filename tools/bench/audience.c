/* SPDX-License-Identifier: MIT */
/*
 * audience.c: see audience.h.
 */
#include "audience.h"
#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIN = 0x80, MASKED = 0x80, MASK_LENGTH = 4, PUBLISHER_DIGITS = 4 };
enum { PROBE = 0xffff }; /* the publisher of probes */

static size_t header_length(const audience *a)
{
    return a->payload_length < 126 ? 2 : 4;
}

static void *allocate(size_t count, size_t size)
{
    void *block = calloc(count, size);

    if (block == NULL) {
        die("out of memory for the subscribers");
    }
    return block;
}

void audience_prepare(audience *a)
{
    a->start_length = a->start != NULL ? strlen(a->start) : 0;
    a->payload_length = a->start_length + a->size + (a->end != NULL ? strlen(a->end) : 0);
    a->frame_length = header_length(a) + a->payload_length;
    a->each = allocate(a->publishers, sizeof(audience_publisher));
    a->all = allocate(a->members, sizeof(audience_member));
    for (unsigned i = 0; i < a->publishers; i++) {
        a->each[i].slots = allocate(a->window, sizeof(audience_slot));
        a->each[i].frames = allocate(a->window, a->frame_length);
    }
    for (unsigned i = 0; i < a->members; i++) {
        a->all[i].next = allocate(a->publishers, sizeof(uint64_t));
        a->all[i].held = allocate(1, a->frame_length);
    }
}

/* ---- publishing --------------------------------------------------------------------------- */

unsigned audience_room(const audience *a, unsigned publisher)
{
    const audience_publisher *p = &a->each[publisher];

    return a->window - (unsigned)(p->sent - p->done);
}

static void write_header(const audience *a, unsigned char *to, unsigned masked)
{
    to[0] = (unsigned char)(FIN | a->opcode);
    to[1] = (unsigned char)(masked | (a->payload_length < 126 ? a->payload_length : 126));
    if (a->payload_length >= 126) {
        to[2] = (unsigned char)(a->payload_length >> 8);
        to[3] = (unsigned char)a->payload_length;
    }
}

/* The text has only letters and digits, so it may stand in JSON. */
static void write_frame(const audience *a, unsigned publisher, uint64_t number, unsigned char *to)
{
    unsigned char *text = to + header_length(a) + a->start_length;
    char digits[AUDIENCE_SIZE_MIN + 1];

    write_header(a, to, 0);
    if (a->start_length > 0) {
        memcpy(text - a->start_length, a->start, a->start_length);
    }
    snprintf(digits, sizeof(digits), "%04x%012" PRIx64, publisher & 0xffff,
             number & 0xffffffffffff);
    memcpy(text, digits, AUDIENCE_SIZE_MIN);
    for (size_t i = AUDIENCE_SIZE_MIN; i < a->size; i++) {
        text[i] = (unsigned char)('a' + (publisher * 37 + number * 7 + i * 5) % 26);
    }
    if (a->end != NULL) {
        memcpy(text + a->size, a->end, strlen(a->end));
    }
}

/* Writes the frame as a client sends it, masked with zeros, and returns its length. */
static size_t write_masked(const audience *a, const unsigned char *frame, unsigned char *to)
{
    size_t header = header_length(a);

    write_header(a, to, MASKED);
    memset(to + header, 0, MASK_LENGTH);
    memcpy(to + header + MASK_LENGTH, frame + header, a->payload_length);
    return header + MASK_LENGTH + a->payload_length;
}

size_t audience_publish(audience *a, unsigned publisher, unsigned count, uint64_t now,
                        unsigned char *to)
{
    audience_publisher *p = &a->each[publisher];
    unsigned char *at = to;

    for (; count > 0; count--, p->sent++) {
        size_t slot = (size_t)(p->sent % a->window);
        unsigned char *frame = p->frames + slot * a->frame_length;
        write_frame(a, publisher, p->sent, frame);
        p->slots[slot] = (audience_slot){.missing = a->members, .started = now};
        at += write_masked(a, frame, at);
    }
    return (size_t)(at - to);
}

size_t audience_probe(const audience *a, unsigned char *to)
{
    unsigned char *frame = a->each[0].frames;

    write_frame(a, PROBE, 0, frame);
    return write_masked(a, frame, to);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static const unsigned char *text_of(const audience *a, const unsigned char *frame)
{
    return frame + header_length(a) + a->start_length;
}

static unsigned read_publisher(const audience *a, const unsigned char *frame)
{
    char digits[PUBLISHER_DIGITS + 1] = {0};

    if (a->publishers == 1) {
        return 0;
    }
    memcpy(digits, text_of(a, frame), PUBLISHER_DIGITS);
    unsigned long publisher = strtoul(digits, NULL, 16);
    return publisher < a->publishers ? (unsigned)publisher : 0;
}

static void take_probe(audience *a, unsigned member)
{
    a->reached += !a->all[member].reached;
    a->all[member].reached = true;
}

static void take_frame(audience *a, unsigned member, const unsigned char *frame)
{
    if (a->probing && memcmp(text_of(a, frame), "ffff", PUBLISHER_DIGITS) == 0) {
        take_probe(a, member);
        return;
    }
    unsigned publisher = read_publisher(a, frame);
    audience_publisher *p = &a->each[publisher];
    uint64_t number = a->all[member].next[publisher];
    size_t slot = (size_t)(number % a->window);

    if (number == p->sent) {
        die("subscriber %u: more messages than were published", member);
    }
    if (memcmp(frame, p->frames + slot * a->frame_length, a->frame_length) != 0) {
        die("subscriber %u: expected message %" PRIu64 " of publisher %u, got \"%.*s\"",
            member, number, publisher, AUDIENCE_SIZE_MIN, (const char *)text_of(a, frame));
    }
    a->all[member].next[publisher]++;
    a->deliveries++;
    p->slots[slot].missing--;
    while (p->done < p->sent && p->slots[p->done % a->window].missing == 0) {
        p->done++;
    }
}

void audience_take(audience *a, unsigned member, const unsigned char *data, size_t length)
{
    audience_member *m = &a->all[member];

    if (m->held_length > 0) {
        size_t want = a->frame_length - m->held_length, n = length < want ? length : want;
        memcpy(m->held + m->held_length, data, n);
        m->held_length += n;
        data += n;
        length -= n;
        if (m->held_length < a->frame_length) {
            return;
        }
        m->held_length = 0;
        take_frame(a, member, m->held);
    }
    for (; length >= a->frame_length; length -= a->frame_length, data += a->frame_length) {
        take_frame(a, member, data);
    }
    memcpy(m->held, data, length);
    m->held_length = length;
}
