/* SPDX-License-Identifier: MIT */
/*
 * protocol.c: turns frames into messages (RFC 6455 sections 5-7).
 * The stream is checked from left to right and fails at the first offending byte, so the result
 * never depends on how TCP cut it into pieces. Bytes that are left in the input were not changed:
 * only consumed bytes are unmasked. Knows nothing of sockets, time, handlers or sending.
 */
#include "protocol.h"

#include "frame.h"
#include "utf8.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Close codes (RFC 6455 7.4.1). */
enum { PROTOCOL_ERROR = 1002, NO_CODE = 1005, INVALID_DATA = 1007, TOO_BIG = 1009 };

enum {
    CONTROL_BIT = 0x08,        /* set in the opcode of control frames (RFC 6455 5.5) */
    SMALL_HEADER = 6,          /* bytes of a header without extended length */
    PAYLOAD_BLOCK = 16 * 1024, /* bytes unmasked, validated and copied while in the cache */
    STEPS = 128                /* frames and blocks that are read until WS__EVENT_NONE */
};

static int set_event(struct ws__event *event, enum ws__event_type type, int opcode, char *data,
                     size_t length)
{
    event->type = type;
    event->opcode = opcode;
    event->code = 0;
    event->compressed = false;
    event->data = data;
    event->length = length;
    return 1;
}

__attribute__((cold, format(printf, 4, 5))) static int
fail_with(struct ws__protocol *p, struct ws__event *event, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(event->why, sizeof event->why, format, arguments);
    va_end(arguments);
    set_event(event, WS__EVENT_FAIL, 0, event->why, strlen(event->why));
    event->code = code;
    p->ended = true;
    return 1;
}

static int fail_text(struct ws__protocol *p, struct ws__event *event)
{
    /* RFC 6455 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the
     * byte stream is not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket
     * Connection_." */
    return fail_with(p, event, INVALID_DATA, "invalid UTF-8 in text message");
}

/* ---- the header, byte by byte -------------------------------------------------------------- */

/* Checks FIN, the reserved bits and the opcode. */
static int check_first_byte(struct ws__protocol *p, uint8_t first, struct ws__event *event)
{
    int opcode = first & WS__FRAME_OPCODE;
    bool starts = opcode == WS_TEXT || opcode == WS_BINARY;
    if (p->deflate && (first & WS__FRAME_RSV) == WS__FRAME_RSV1 && !starts) /* RFC 7692 6.1 */
        return fail_with(p, event, PROTOCOL_ERROR, "RSV1 on a frame that does not start a message");
    /* RFC 6455 5.2: "MUST be 0 unless an extension is negotiated" */
    if (first & WS__FRAME_RSV & ~(p->deflate ? WS__FRAME_RSV1 : 0))
        return fail_with(p, event, PROTOCOL_ERROR, "reserved bits set without an extension");
    if ((opcode & ~CONTROL_BIT) > 2) /* RFC 6455 5.2: 3 to 7, 11 to 15 */
        return fail_with(p, event, PROTOCOL_ERROR, "reserved opcode %d", opcode);
    if (opcode & CONTROL_BIT) {
        if (!(first & WS__FRAME_FIN)) /* RFC 6455 5.5: "MUST NOT be fragmented" */
            return fail_with(p, event, PROTOCOL_ERROR, "fragmented control frame");
        return 0;
    }
    /* RFC 6455 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
     * another message" */
    if (opcode == WS_CONTINUATION && !p->opcode)
        return fail_with(p, event, PROTOCOL_ERROR,
                         "continuation frame without a message to continue");
    if (opcode != WS_CONTINUATION && p->opcode)
        return fail_with(p, event, PROTOCOL_ERROR, "new message inside a fragmented message");
    return 0;
}

/* Checks the MASK bit and the 7-bit length. */
static int check_second_byte(struct ws__protocol *p, const struct ws__frame *frame,
                             struct ws__event *event)
{
    if (!frame->masked) /* RFC 6455 5.1: "a client MUST mask all frames" */
        return fail_with(p, event, PROTOCOL_ERROR, "client frame is not masked");
    if (frame->first & CONTROL_BIT && frame->length7 > WS__FRAME_CONTROL_MAX) /* RFC 6455 5.5 */
        return fail_with(p, event, PROTOCOL_ERROR, "control frame payload exceeds %d bytes",
                         WS__FRAME_CONTROL_MAX);
    return 0;
}

/* Returns the size of the largest message on the wire. Compression can make a message a little
 * larger. */
static size_t wire_limit(size_t max_payload, bool compressed)
{
    size_t more = compressed ? max_payload / 64 + 64 : 0;
    return more > SIZE_MAX - max_payload ? SIZE_MAX : max_payload + more;
}

/* Checks the length of a data frame. Control frames do not count towards the limit. */
static int check_payload_length(struct ws__protocol *p, const struct ws__frame *frame,
                                size_t max_payload, struct ws__event *event)
{
    size_t held = ws__buffer_length(p->message);
    size_t limit = wire_limit(max_payload, p->compressed || frame->first & WS__FRAME_RSV1);
    if (frame->length >> 63) /* RFC 6455 5.2: "the most significant bit MUST be 0" */
        return fail_with(p, event, PROTOCOL_ERROR,
                         "most significant bit of the 64-bit length is set");
    /* RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length" */
    if ((frame->length7 == 126 && frame->length < 126) ||
        (frame->length7 == 127 && frame->length <= UINT16_MAX))
        return fail_with(p, event, PROTOCOL_ERROR, "length %" PRIu64 " is not in its shortest form",
                         frame->length);
    if (frame->length > limit || held > limit - frame->length) /* RFC 6455 10.4 */
        return fail_with(p, event, TOO_BIG,
                         "message of %" PRIu64 " bytes exceeds max_payload_length %zu",
                         held + frame->length, max_payload);
    return 0;
}

/* Checks as much of the header as is known. Returns 0 if nothing is wrong so far. */
static int check_header(struct ws__protocol *p, const struct ws__frame *frame, int known,
                        size_t max_payload, struct ws__event *event)
{
    int rc = 0;
    if (known >= 1)
        rc = check_first_byte(p, frame->first, event);
    if (!rc && known >= 2)
        rc = check_second_byte(p, frame, event);
    if (!rc && known >= 3 && !(frame->first & CONTROL_BIT))
        rc = check_payload_length(p, frame, max_payload, event);
    return rc;
}

/* ---- the payload --------------------------------------------------------------------------- */

static char *take_input(struct ws__input *in, size_t n)
{
    char *bytes = in->data;
    in->data += n;
    in->length -= n;
    return bytes;
}

/* Unmasks bytes[n] in place and, if they are text, returns the UTF-8 state after them. Does so in
 * blocks, so that each is still in the cache when it is read for the second time. */
static uint32_t open_payload(char *bytes, size_t n, const uint8_t key[4], uint64_t offset,
                             bool text, uint32_t utf8)
{
    size_t part;
    for (size_t done = 0; done < n && utf8 != WS__UTF8_REJECT; done += part) {
        part = n - done < PAYLOAD_BLOCK ? n - done : PAYLOAD_BLOCK;
        bool ascii = ws__frame_mask(bytes + done, part, key, offset + done);
        if (text && !(ascii && utf8 == WS__UTF8_ACCEPT))
            utf8 = ws__utf8_next(utf8, bytes + done, part);
    }
    return utf8;
}

/* Handles a message of one frame that has arrived whole. It stays in the input buffer. */
static int read_message(struct ws__protocol *p, const struct ws__frame *frame, struct ws__input *in,
                        struct ws__event *event)
{
    size_t length = (size_t)frame->length;
    char *payload = take_input(in, length);
    int opcode = frame->first & WS__FRAME_OPCODE;
    bool compressed = frame->first & WS__FRAME_RSV1;
    if (open_payload(payload, length, frame->key, 0, opcode == WS_TEXT && !compressed,
                     WS__UTF8_ACCEPT) != WS__UTF8_ACCEPT)
        return fail_text(p, event);
    set_event(event, WS__EVENT_MESSAGE, opcode, payload, length);
    event->compressed = compressed;
    return 1;
}

/* RFC 6455 5.5.1: the body is empty, or begins with a 2-byte code that a reason may follow. */
static int read_close(struct ws__protocol *p, char *body, size_t length, struct ws__event *event)
{
    int code = NO_CODE;
    if (length == 1)
        return fail_with(p, event, PROTOCOL_ERROR, "close frame with a body of 1 byte");
    if (length) {
        code = (uint8_t)body[0] << 8 | (uint8_t)body[1];
        if (!ws__protocol_code_valid(code))
            return fail_with(p, event, PROTOCOL_ERROR, "close code %d is not allowed on the wire",
                             code);
        body += 2;
        length -= 2;
    }
    if (ws__utf8_next(WS__UTF8_ACCEPT, body, length) != WS__UTF8_ACCEPT)
        return fail_with(p, event, INVALID_DATA, "invalid UTF-8 in close reason");
    set_event(event, WS__EVENT_CLOSE, WS_CLOSE, body, length);
    event->code = code;
    p->ended = true; /* RFC 6455 5.5.1: a peer "MUST NOT send any more data frames" after a Close */
    return 1;
}

static int read_control(struct ws__protocol *p, const struct ws__frame *frame, struct ws__input *in,
                        struct ws__event *event)
{
    size_t length = (size_t)frame->length;
    char *payload = take_input(in, length);
    int opcode = frame->first & WS__FRAME_OPCODE;
    ws__frame_mask(payload, length, frame->key, 0);
    if (opcode == WS_CLOSE)
        return read_close(p, payload, length, event);
    return set_event(event, opcode == WS_PING ? WS__EVENT_PING : WS__EVENT_PONG, opcode, payload,
                     length);
}

static void start_frame(struct ws__protocol *p, const struct ws__frame *frame)
{
    if (!p->opcode) {
        p->opcode = frame->first & WS__FRAME_OPCODE;
        p->utf8 = WS__UTF8_ACCEPT;
        p->compressed = frame->first & WS__FRAME_RSV1;
    }
    memcpy(p->key, frame->key, sizeof p->key);
    p->phase = 0;
    p->remaining = frame->length;
    p->fin = frame->first & WS__FRAME_FIN;
    p->in_frame = true;
}

/* The payload of the current data frame is complete. */
static int end_frame(struct ws__protocol *p, struct ws__event *event)
{
    int opcode = p->opcode;
    p->in_frame = false;
    if (!p->fin)
        return 0;
    if (p->utf8 != WS__UTF8_ACCEPT) /* the text ends inside a character */
        return fail_text(p, event);
    p->opcode = 0;
    set_event(event, WS__EVENT_MESSAGE, opcode,
              p->message ? ws__buffer_data(p->message) : event->why,
              ws__buffer_length(p->message));
    event->compressed = p->compressed;
    p->compressed = false;
    return 1;
}

/* Moves up to a block of the current data frame to p->message, which grows by what has arrived,
 * never by the length that a header announces, and not beyond what a message may have. */
static int read_payload(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
                        struct ws__input *in, struct ws__event *event)
{
    size_t n = in->length < p->remaining ? in->length : (size_t)p->remaining;
    if (n) {
        size_t most = wire_limit(max_payload, p->compressed);
        char *room = ws__buffer_reserve_most(memory, &p->message, n, most), *bytes;
        if (!room)
            return WS_ENOMEM;
        n = n < PAYLOAD_BLOCK ? n : PAYLOAD_BLOCK;
        bytes = take_input(in, n);
        p->utf8 = (uint8_t)open_payload(bytes, n, p->key, p->phase,
                                        p->opcode == WS_TEXT && !p->compressed, p->utf8);
        memcpy(room, bytes, n);
        ws__buffer_commit(p->message, n);
        p->phase = (p->phase + n) & 3;
        p->remaining -= n;
    }
    if (p->utf8 == WS__UTF8_REJECT)
        return fail_text(p, event);
    return p->remaining ? 0 : end_frame(p, event);
}

static int read_frame(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
                      struct ws__input *in, struct ws__event *event)
{
    struct ws__frame frame;
    int known;
    size_t header =
        (size_t)ws__frame_decode(&frame, (const uint8_t *)in->data, in->length, &known);
    int rc = check_header(p, &frame, known, max_payload, event);
    if (rc || !header)
        return rc;
    bool whole = frame.length <= in->length - header;
    bool control = frame.first & CONTROL_BIT;
    if (control && !whole)
        return 0;
    take_input(in, header);
    if (control)
        return read_control(p, &frame, in, event);
    if (whole && frame.first & WS__FRAME_FIN && !p->opcode)
        return read_message(p, &frame, in, event);
    start_frame(p, &frame);
    return read_payload(p, memory, max_payload, in, event);
}

/* Most messages are small and arrive whole. Returns true if the next one is like that and valid;
 * this takes far fewer steps than read_frame. */
static bool is_small_message(const struct ws__protocol *p, size_t max_payload,
                             const struct ws__input *in)
{
    const uint8_t *head = (const uint8_t *)in->data;
    if (in->length < SMALL_HEADER || p->opcode || p->message || p->ended)
        return false;
    size_t length = head[1] ^ 0x80u; /* above 125 unless masked and not extended */
    return (head[0] == (WS__FRAME_FIN | WS_TEXT) || head[0] == (WS__FRAME_FIN | WS_BINARY)) &&
           length < 126 && length <= max_payload && length <= in->length - SMALL_HEADER;
}

static int read_small_message(struct ws__protocol *p, struct ws__input *in, struct ws__event *event)
{
    const uint8_t *head = (const uint8_t *)in->data;
    size_t length = head[1] & 0x7f;
    int opcode = head[0] & WS__FRAME_OPCODE;
    char *payload = take_input(in, SMALL_HEADER + length) + SMALL_HEADER;
    bool ascii = ws__frame_mask(payload, length, head + 2, 0);
    if (opcode == WS_TEXT && !ascii &&
        ws__utf8_next(WS__UTF8_ACCEPT, payload, length) != WS__UTF8_ACCEPT)
        return fail_text(p, event);
    return set_event(event, WS__EVENT_MESSAGE, opcode, payload, length);
}

/* ---- the machine --------------------------------------------------------------------------- */

/* This is not inlined, because the common case needs none of its registers. It is built for size:
 * what takes time are the loops that it calls. */
__attribute__((noinline, cold)) static int
read_event(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
           struct ws__input *in, struct ws__event *event)
{
    size_t before;
    int rc, steps = 0;
    ws__protocol_release(p, memory);
    if (p->ended) { /* RFC 6455 1.4: "discards any further data received" */
        take_input(in, in->length);
        return 0;
    }
    do {
        before = in->length;
        if (p->in_frame)
            rc = read_payload(p, memory, max_payload, in, event);
        else
            rc = read_frame(p, memory, max_payload, in, event);
    } while (!rc && in->length != before && ++steps < STEPS);
    if (p->ended)
        ws__buffer_free(memory, &p->message);
    if (steps == STEPS && in->length) /* fragments may be empty, so bytes alone do not bound time */
        return set_event(event, WS__EVENT_NONE, 0, in->data, 0);
    return rc;
}

int ws__protocol_next(struct ws__protocol *p, struct ws__memory *memory, size_t max_payload,
                      struct ws__input *in, struct ws__event *event)
{
    if (is_small_message(p, max_payload, in))
        return read_small_message(p, in, event);
    return read_event(p, memory, max_payload, in, event);
}

bool ws__protocol_in_data(const struct ws__protocol *p, const struct ws__input *in)
{
    return p->in_frame || !(in->data[0] & CONTROL_BIT);
}

void ws__protocol_release(struct ws__protocol *p, struct ws__memory *memory)
{
    if (p->message && !p->opcode)
        ws__buffer_free(memory, &p->message);
}

int ws__protocol_take(struct ws__protocol *p, struct ws__memory *memory,
                      const struct ws__event *event, struct ws__buffer **data)
{
    if (!p->message || p->opcode || event->data != ws__buffer_data(p->message))
        return ws__buffer_append(memory, data, event->data, event->length);
    *data = p->message;
    p->message = NULL;
    return WS_OK;
}

void ws__protocol_deinit(struct ws__protocol *p, struct ws__memory *memory)
{
    if (p->opcode)
        ws__buffer_free(memory, &p->message);
    *p = (struct ws__protocol){.message = p->message, .ended = true};
}

bool ws__protocol_code_valid(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}
