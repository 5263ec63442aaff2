/* SPDX-License-Identifier: MIT */
/*
 * record.h: what the members of a local bus send each other: records, in a stream for each pair of
 * sender and receiver, which is cut into datagrams anywhere. Sans-IO. All members run on one
 * machine, so numbers have its byte order.
 *
 *     datagram:  magic, sender, epoch, to_epoch, sequence, first (4 bytes each), then a part of the
 *                stream; `first` is the offset in it at which the first record begins
 *     record:    type, 0 (1 byte each), code (2), topic_length, length (4 each), topic, data
 */
#ifndef WS__RECORD_H
#define WS__RECORD_H

#include "buffer.h"

enum { WS__DATAGRAM_HEAD = 24, WS__DATAGRAM_MAX = 64 * 1024 };

enum ws__record_type {
    WS__RECORD_SYNC = 1, /* all topics of the sender follow; code 1: answer with yours */
    WS__RECORD_ADD,      /* topics with these hashes have got subscribers: 8 bytes each */
    WS__RECORD_REMOVE,   /* the topics with these hashes have no subscribers any more */
    WS__RECORD_SYNCED,   /* those were all */
    WS__RECORD_ASK,      /* begin again with WS__RECORD_SYNC: something was lost */
    WS__RECORD_PUBLISH,  /* code: opcode */
    WS__RECORD_END,      /* ws_server_end_topic; data: reason */
    WS__RECORD_MESSAGE,  /* ws_server_tell */
    WS__RECORD_BYE,      /* the sender wants nothing more */
    WS__RECORD_GONE      /* from the parent: member and epoch (4 bytes each) have ended */
};

struct ws__record {
    enum ws__record_type type;
    int code; /* 0 to 65535 */
    const char *topic; /* borrowed */
    size_t topic_length;
    const char *data; /* borrowed */
    size_t length;
};

/* The head of a datagram. */
struct ws__datagram {
    uint32_t sender, epoch;
    uint32_t to_epoch; /* 0: the sender does not know that of the receiver */
    uint32_t sequence, first;
};

/* Writes the head of a datagram. */
void ws__record_write_head(char bytes[WS__DATAGRAM_HEAD], const struct ws__datagram *head);

/* Reads it and moves *in past it. Returns false if this is no datagram of a bus. */
bool ws__record_read_head(struct ws__datagram *head, struct ws__input *in);

/* Records on their way to one receiver. Zero it to begin. */
struct ws__record_queue {
    struct ws__buffer *bytes;
    size_t next;       /* offset at which the first whole record begins */
    uint32_t sequence; /* of the next datagram */
};

/* Returns how many bytes a record takes; SIZE_MAX if it is too long. */
size_t ws__record_size(const struct ws__record *record);

/* Writes a record of ws__record_size bytes. */
void ws__record_write(char *bytes, const struct ws__record *record);

/* Reads the record that bytes[n] begins with. Returns 1, 0 if it is not whole, or WS_EINVAL. */
int ws__record_read(const char *bytes, size_t n, struct ws__record *record);

/* Queues a record. Returns WS_OK, or WS_ENOMEM; nothing is changed then. */
int ws__record_queue_add(struct ws__record_queue *queue, struct ws__memory *memory,
                         const struct ws__record *record);

/* Returns the offset at which a record begins in the first n queued bytes; n if none does. */
uint32_t ws__record_queue_first(const struct ws__record_queue *queue, size_t n);

/* The first n queued bytes were sent in one datagram. */
void ws__record_queue_sent(struct ws__record_queue *queue, struct ws__memory *memory, size_t n);

/* Forgets everything. The receiver sees a gap if it has a part of a record. */
void ws__record_queue_clear(struct ws__record_queue *queue, struct ws__memory *memory);

/* The stream of one sender. Zero it to begin. */
struct ws__record_stream {
    struct ws__buffer *partial; /* a record of which only a part has arrived */
    uint32_t sequence;          /* of the next datagram */
    bool aligned;               /* it is known where the next record begins */
    bool used;                  /* the record that was read last lies in `partial` */
};

/* A datagram has arrived, of which *in is the part after the head. Returns false if a part of the
 * stream is missing: what belongs to a record that has begun there is skipped. */
bool ws__record_stream_begin(struct ws__record_stream *stream, struct ws__memory *memory,
                             const struct ws__datagram *head, struct ws__input *in);

/* Reads the next record of the datagram, which is borrowed until the next call. Returns 1, or 0 at
 * the end of the datagram. Errors: WS_ENOMEM, WS_EINVAL (not a record); the rest of the datagram
 * is lost then. */
int ws__record_stream_next(struct ws__record_stream *stream, struct ws__memory *memory,
                           struct ws__input *in, struct ws__record *record);

/* Begins anew: with the next datagram, at the first record that begins in it. */
void ws__record_stream_clear(struct ws__record_stream *stream, struct ws__memory *memory);

#endif
