/* SPDX-License-Identifier: MIT */
/*
 * record.c: records of a local bus as bytes: written to a queue, cut into datagrams, put together
 * again. Every length is checked, although the sender is a process of the same program: what it
 * sends must not harm the others, whatever has happened to it.
 */
#include "record.h"
#ifndef WS_NO_CLUSTER

#include <string.h>

enum { RECORD_HEAD = 12 };
static const uint32_t magic = 0x70797731; /* "pyw1" */

static uint32_t load32(const char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void store32(char *bytes, size_t value)
{
    uint32_t word = (uint32_t)value;
    memcpy(bytes, &word, sizeof word);
}

/* ---- heads of datagrams ---- */

void ws__record_write_head(char bytes[WS__DATAGRAM_HEAD], const struct ws__datagram *head)
{
    store32(bytes, magic);
    store32(bytes + 4, head->sender);
    store32(bytes + 8, head->epoch);
    store32(bytes + 12, head->to_epoch);
    store32(bytes + 16, head->sequence);
    store32(bytes + 20, head->first);
}

bool ws__record_read_head(struct ws__datagram *head, struct ws__input *in)
{
    if (in->length < WS__DATAGRAM_HEAD || load32(in->data) != magic)
        return false;
    head->sender = load32(in->data + 4);
    head->epoch = load32(in->data + 8);
    head->to_epoch = load32(in->data + 12);
    head->sequence = load32(in->data + 16);
    head->first = load32(in->data + 20);
    in->data += WS__DATAGRAM_HEAD;
    in->length -= WS__DATAGRAM_HEAD;
    return head->first <= in->length;
}

/* ---- one record ---- */

size_t ws__record_size(const struct ws__record *record)
{
    const size_t most = UINT32_MAX / 4;
    if (record->topic_length > most || record->length > most)
        return SIZE_MAX;
    return RECORD_HEAD + record->topic_length + record->length;
}

void ws__record_write(char *bytes, const struct ws__record *record)
{
    uint16_t code = (uint16_t)record->code;
    bytes[0] = (char)record->type;
    bytes[1] = 0;
    memcpy(bytes + 2, &code, sizeof code);
    store32(bytes + 4, record->topic_length);
    store32(bytes + 8, record->length);
    bytes += RECORD_HEAD;
    if (record->topic_length)
        memcpy(bytes, record->topic, record->topic_length);
    if (record->length)
        memcpy(bytes + record->topic_length, record->data, record->length);
}

/* Does this record have the fields that its type needs, and no others? */
static bool is_valid(const struct ws__record *record)
{
    bool has_topic = record->topic_length > 0;
    switch (record->type) {
    case WS__RECORD_SYNC:
    case WS__RECORD_SYNCED:
    case WS__RECORD_ASK:
    case WS__RECORD_BYE:
        return !has_topic && !record->length;
    case WS__RECORD_ADD:
    case WS__RECORD_REMOVE:
        return !has_topic && record->length % sizeof(uint64_t) == 0;
    case WS__RECORD_GONE:
        return !has_topic && record->length == 2 * sizeof(uint32_t);
    case WS__RECORD_MESSAGE:
        return !has_topic;
    case WS__RECORD_PUBLISH:
    case WS__RECORD_END:
        return true;
    }
    return false;
}

/* Reads the head of a record, and sets the lengths. */
static void read_head(const char *bytes, struct ws__record *record)
{
    uint16_t code;
    memcpy(&code, bytes + 2, sizeof code);
    record->type = (enum ws__record_type)(unsigned char)bytes[0];
    record->code = code;
    record->topic_length = load32(bytes + 4);
    record->length = load32(bytes + 8);
}

int ws__record_read(const char *bytes, size_t n, struct ws__record *record)
{
    if (n < RECORD_HEAD)
        return 0;
    read_head(bytes, record);
    size_t size = ws__record_size(record);
    if (bytes[1] || size == SIZE_MAX || !is_valid(record))
        return WS_EINVAL;
    if (n < size)
        return 0;
    record->topic = bytes + RECORD_HEAD;
    record->data = record->topic + record->topic_length;
    return 1;
}

/* ---- the queue ---- */

int ws__record_queue_add(struct ws__record_queue *queue, struct ws__memory *memory,
                         const struct ws__record *record)
{
    size_t size = ws__record_size(record);
    char *to = size < SIZE_MAX ? ws__buffer_reserve(memory, &queue->bytes, size) : NULL;
    if (!to)
        return WS_ENOMEM;
    ws__record_write(to, record);
    ws__buffer_commit(queue->bytes, size);
    return WS_OK;
}

uint32_t ws__record_queue_first(const struct ws__record_queue *queue, size_t n)
{
    return (uint32_t)(queue->next < n ? queue->next : n);
}

void ws__record_queue_sent(struct ws__record_queue *queue, struct ws__memory *memory, size_t n)
{
    struct ws__record record;
    while (queue->next < n) {
        read_head(ws__buffer_data(queue->bytes) + queue->next, &record);
        queue->next += ws__record_size(&record);
    }
    queue->next -= n;
    queue->sequence++;
    ws__buffer_consume(queue->bytes, n);
    if (!ws__buffer_length(queue->bytes) && queue->bytes->capacity > WS__DATAGRAM_MAX)
        ws__buffer_free(memory, &queue->bytes);
}

void ws__record_queue_clear(struct ws__record_queue *queue, struct ws__memory *memory)
{
    ws__buffer_free(memory, &queue->bytes);
    if (queue->next)
        queue->sequence++;
    queue->next = 0;
}

/* ---- the stream ---- */

bool ws__record_stream_begin(struct ws__record_stream *stream, struct ws__memory *memory,
                             const struct ws__datagram *head, struct ws__input *in)
{
    bool continues = head->sequence == stream->sequence && !head->first == !stream->partial;
    bool gap = stream->aligned && !continues;
    if (gap)
        ws__record_stream_clear(stream, memory);
    if (!stream->aligned) {
        in->data += head->first;
        in->length -= head->first;
        stream->aligned = in->length > 0;
    }
    stream->sequence = head->sequence + 1;
    return !gap;
}

/* Moves n bytes of the datagram to the partial record. */
static int keep_part(struct ws__record_stream *stream, struct ws__memory *memory,
                     struct ws__input *in, size_t n)
{
    if (n > in->length)
        n = in->length;
    int error = ws__buffer_append(memory, &stream->partial, in->data, n);
    in->data += n;
    in->length -= n;
    return error;
}

/* Completes the partial record as far as the datagram allows. */
static int complete(struct ws__record_stream *stream, struct ws__memory *memory,
                    struct ws__input *in, struct ws__record *record)
{
    size_t have = ws__buffer_length(stream->partial);
    if (have < RECORD_HEAD) {
        int error = keep_part(stream, memory, in, RECORD_HEAD - have);
        if (error)
            return error;
    }
    have = ws__buffer_length(stream->partial);
    int result = ws__record_read(ws__buffer_data(stream->partial), have, record);
    if (!result && have >= RECORD_HEAD) {
        int error = keep_part(stream, memory, in, ws__record_size(record) - have);
        if (error)
            return error;
        have = ws__buffer_length(stream->partial);
        result = ws__record_read(ws__buffer_data(stream->partial), have, record);
    }
    stream->used = result > 0;
    return result;
}

static int next_record(struct ws__record_stream *stream, struct ws__memory *memory,
                       struct ws__input *in, struct ws__record *record)
{
    if (stream->used)
        ws__buffer_free(memory, &stream->partial);
    stream->used = false;
    if (!in->length)
        return 0;
    if (stream->partial)
        return complete(stream, memory, in, record);
    int result = ws__record_read(in->data, in->length, record);
    if (!result)
        return keep_part(stream, memory, in, in->length);
    if (result > 0) {
        size_t size = ws__record_size(record);
        in->data += size;
        in->length -= size;
    }
    return result;
}

int ws__record_stream_next(struct ws__record_stream *stream, struct ws__memory *memory,
                           struct ws__input *in, struct ws__record *record)
{
    int result = next_record(stream, memory, in, record);
    if (result < 0) {
        ws__record_stream_clear(stream, memory);
        in->length = 0;
    }
    return result;
}

void ws__record_stream_clear(struct ws__record_stream *stream, struct ws__memory *memory)
{
    ws__buffer_free(memory, &stream->partial);
    stream->aligned = stream->used = false;
}

#endif
