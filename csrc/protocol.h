/* SPDX-License-Identifier: MIT */
/*
 * protocol.h: turns frames into messages (RFC 6455 sections 5-7). The caller presents bytes and
 * pulls events. Sans-IO: no socket, no clock, no ws_conn, no user code. Every rule about what a
 * client may send on an open connection is enforced here, at the first byte that breaks it.
 */
#ifndef WS__PROTOCOL_H
#define WS__PROTOCOL_H

#include "buffer.h"

enum ws__event_type {
    WS__EVENT_MESSAGE, /* a whole message; the opcode is WS_TEXT or WS_BINARY */
    WS__EVENT_PING,
    WS__EVENT_PONG,
    WS__EVENT_CLOSE, /* the peer's Close; `code` is 1005 if it had none, `data` is the reason */
    WS__EVENT_FAIL,  /* the peer broke a rule; `code` is to close with, `data` is an English text */
    WS__EVENT_NONE   /* much was read without an event, and there is more: a chance to pause */
};

struct ws__event {
    enum ws__event_type type;
    int opcode, code;
    bool compressed; /* the message must be decompressed (RFC 7692), and its text is not checked */
    char *data;      /* borrowed until the next call; never NULL; may be modified */
    size_t length;
    char why[96]; /* holds the text of a WS__EVENT_FAIL */
};

/* The receiving side of an open connection. Zero it to begin. */
struct ws__protocol {
    struct ws__buffer *message; /* what has arrived of an unfinished message */
    uint64_t remaining;         /* payload bytes of the current data frame that are missing */
    uint8_t key[4];             /* masking key of the current data frame */
    uint8_t utf8;               /* state of the current text message */
    uint8_t opcode;             /* of the current message, 0 between messages */
    uint8_t phase : 2;          /* position in `key` of the next payload byte */
    bool fin : 1;               /* the current data frame is the last of its message */
    bool in_frame : 1;          /* the header of the current data frame was read */
    bool ended : 1;             /* a Close or a failure was seen: what follows is ignored */
    bool deflate : 1;           /* set by the caller: permessage-deflate was negotiated */
    bool compressed : 1;        /* RSV1 is set in the current message */
};

/* Takes the next event out of *in. `max_payload` is the size of the largest message. Returns 1 if
 * *event is set; 0 if more bytes are needed, in front of which the rest of *in, at most 130 bytes,
 * must be presented again; or WS_ENOMEM, after which the same call can be repeated. */
int ws__protocol_next(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
                      struct ws__input *in, struct ws__event *event);

/* Returns true if the next byte of *in belongs to a data frame. */
bool ws__protocol_in_data(const struct ws__protocol *p, const struct ws__input *in);

/* Frees the memory of the last message. Must be called after its handler, even if the handler has
 * called ws__protocol_deinit. */
void ws__protocol_release(struct ws__protocol *p, struct ws__memory *memory);

/* Moves the data of the last event, a message, to *data (NULL before), so that it outlives the
 * event. Copies only what is not in a block of its own. Must be called before ws__protocol_release.
 * Returns WS_OK or WS_ENOMEM. */
int ws__protocol_take(struct ws__protocol *p, struct ws__memory *memory,
                      const struct ws__event *event, struct ws__buffer **data);

/* Frees all memory, and ignores what follows. Safe inside a handler: its message stays valid until
 * ws__protocol_release. */
void ws__protocol_deinit(struct ws__protocol *p, struct ws__memory *memory);

/* Returns true if a Close frame may contain this code (RFC 6455 7.4). */
bool ws__protocol_code_valid(int code);

#endif
