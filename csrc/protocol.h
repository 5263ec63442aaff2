/*
 * protocol.h: frames to messages (RFC 6455 sections 5-7): a pull machine, bytes in, events out.
 * Sans-IO: no socket, no clock, no ws_conn, no user code. Every rule about what a client may send
 * once the connection is open is enforced here, at the first byte that breaks it.
 */
#ifndef WS__PROTOCOL_H
#define WS__PROTOCOL_H

#include "buffer.h"

enum ws__event_type {
    WS__EVENT_MESSAGE, /* opcode WS_TEXT or WS_BINARY, data: the whole message */
    WS__EVENT_PING,
    WS__EVENT_PONG,
    WS__EVENT_CLOSE, /* the peer's Close: code (1005: none), data: the reason */
    WS__EVENT_FAIL,  /* the peer broke a rule: code to close with, data: why, in English */
    WS__EVENT_NONE   /* many fragments of a message went in, there is more: others may come first */
};

struct ws__event {
    enum ws__event_type type;
    int opcode, code;
    bool compressed; /* data is what RFC 7692 made of the message: to be inflated, then judged */
    char *data; /* borrowed until the next call; never NULL; may be written to */
    size_t length;
    char why[96]; /* room for the text of a WS__EVENT_FAIL */
};

/* An open connection's receiving side. Zero it to begin. */
struct ws__protocol {
    struct ws__buffer *message; /* what has arrived of a message that is not whole yet */
    uint64_t remaining;         /* payload bytes missing of the data frame in hand */
    uint8_t key[4];             /* its masking key, ... */
    uint8_t utf8;               /* state of its text so far */
    uint8_t opcode;             /* of the message in hand; 0: none */
    uint8_t phase : 2;          /* ... rotated by this many bytes */
    bool fin : 1;               /* the data frame in hand is the last of its message */
    bool in_frame : 1;          /* the header of a data frame was read */
    bool ended : 1;             /* Close or failure seen: whatever follows is ignored */
    bool deflate : 1;           /* set by the caller: permessage-deflate was negotiated */
    bool compressed : 1;        /* the message in hand has RSV1 */
};

struct ws__input {
    char *data; /* consumed from the front; unmasked in place */
    size_t length;
};

/* Takes the next event out of *in. 1: *event is set; 0: more bytes are needed (what is left in
 * *in, at most 130 bytes, must be presented again in front of them); WS_ENOMEM (nothing is lost,
 * the same call may be tried again).
 * max_payload: bytes of the largest message. */
int ws__protocol_next(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
                      struct ws__input *in, struct ws__event *event);

/* The message handed out last is done with, its memory too: called after its handler, also when the
 * machine has been deinitialized in that handler. */
void ws__protocol_release(struct ws__protocol *p, struct ws__memory *memory);

/* The data of the event handed out last, a message, for later: in a block of its own, without a
 * copy where it is in one already. Called before ws__protocol_release. WS_ENOMEM. */
int ws__protocol_take(struct ws__protocol *p, struct ws__memory *memory,
                      const struct ws__event *event, struct ws__buffer **data);

/* Frees all memory; the machine is as new, but `ended`. Safe inside a handler: the message that was
 * handed out last stays valid until ws__protocol_release. */
void ws__protocol_deinit(struct ws__protocol *p, struct ws__memory *memory);

/* RFC 6455 7.4: may this code stand in a Close frame on the wire? (C3, C4) */
bool ws__protocol_code_valid(int code);

#endif
