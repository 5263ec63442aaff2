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

static size_t header_length(const audience *a)
{
    return a->size < 126 ? 2 : 4;
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
    a->frame_length = header_length(a) + a->size;
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
    to[1] = (unsigned char)(masked | (a->size < 126 ? a->size : 126));
    if (a->size >= 126) {
        to[2] = (unsigned char)(a->size >> 8);
        to[3] = (unsigned char)a->size;
    }
}

static void write_frame(const audience *a, unsigned publisher, uint64_t number, unsigned char *to)
{
    unsigned char *payload = to + header_length(a);
    char digits[AUDIENCE_SIZE_MIN + 1];

    write_header(a, to, 0);
    snprintf(digits, sizeof(digits), "%04x%012" PRIx64, publisher & 0xffff,
             number & 0xffffffffffff);
    memcpy(payload, digits, AUDIENCE_SIZE_MIN);
    for (size_t i = AUDIENCE_SIZE_MIN; i < a->size; i++) {
        payload[i] = (unsigned char)('!' + (publisher * 37 + number * 7 + i * 5) % 93);
    }
}

size_t audience_publish(audience *a, unsigned publisher, unsigned count, uint64_t now,
                        unsigned char *to)
{
    audience_publisher *p = &a->each[publisher];
    unsigned char *at = to;
    size_t header = header_length(a);

    for (; count > 0; count--, p->sent++) {
        size_t slot = p->sent % a->window;
        unsigned char *frame = p->frames + slot * a->frame_length;
        write_frame(a, publisher, p->sent, frame);
        p->slots[slot] = (audience_slot){.missing = a->members, .started = now};
        write_header(a, at, MASKED);
        memset(at + header, 0, MASK_LENGTH);
        memcpy(at + header + MASK_LENGTH, frame + header, a->size);
        at += header + MASK_LENGTH + a->size;
    }
    return (size_t)(at - to);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static unsigned read_publisher(const audience *a, const unsigned char *frame)
{
    char digits[PUBLISHER_DIGITS + 1] = {0};

    if (a->publishers == 1) {
        return 0;
    }
    memcpy(digits, frame + header_length(a), PUBLISHER_DIGITS);
    unsigned long publisher = strtoul(digits, NULL, 16);
    return publisher < a->publishers ? (unsigned)publisher : 0;
}

static void take_frame(audience *a, unsigned member, const unsigned char *frame)
{
    unsigned publisher = read_publisher(a, frame);
    audience_publisher *p = &a->each[publisher];
    uint64_t number = a->all[member].next[publisher];
    size_t slot = number % a->window;

    if (number == p->sent) {
        die("subscriber %u: more messages than were published", member);
    }
    if (memcmp(frame, p->frames + slot * a->frame_length, a->frame_length) != 0) {
        die("subscriber %u: expected message %" PRIu64 " of publisher %u, got \"%.*s\"",
            member, number, publisher, AUDIENCE_SIZE_MIN, (const char *)frame + header_length(a));
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
