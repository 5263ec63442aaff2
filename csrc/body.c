/* SPDX-License-Identifier: MIT */
/*
 * body.c: a resumable state machine over the bytes of a request body. RFC 9112 7.1:
 *
 *     chunked-body = *chunk last-chunk trailer-section CRLF
 *     chunk        = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
 *     last-chunk   = 1*("0") [ chunk-ext ] CRLF
 *     chunk-ext    = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
 *
 * Extensions and trailers are checked and dropped. Whatever two programs could read differently, as
 * in request smuggling (RFC 9112 11.2), is malformed: a sign, a blank or a "0x" at the size, a bare
 * LF or CR.
 */
#include "body.h"
#include "text.h"

enum body_state {
    BODY_END, /* must be 0 */
    BODY_LENGTH,
    CHUNK_SIZE,
    EXT_BLANKS, /* before ";" */
    EXT_START,  /* after ";" */
    EXT_NAME,
    EXT_NAME_BLANKS,
    EXT_VALUE_START, /* after "=" */
    EXT_VALUE,
    EXT_QUOTED,
    EXT_ESCAPED,
    EXT_QUOTED_END, /* the last state of extensions */
    SIZE_LF,
    CHUNK_DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILERS_LF /* of the last CRLF; the last state of the trailer section */
};

enum { MAX_DIGITS = 16 };

void ws__body_init(struct ws__body *body, uint64_t length, uint64_t limit, uint32_t max_trailer)
{
    const bool chunked = length == WS__HTTP_CHUNKED;
    *body = (struct ws__body){
        .left = chunked ? 0 : length,
        .limit = limit,
        .max_trailer = max_trailer,
        .state = chunked ? CHUNK_SIZE : length ? BODY_LENGTH : BODY_END,
    };
}

static int hex_digit(char c)
{
    const char lower = ws__text_lower(c);
    if (c >= '0' && c <= '9')
        return c - '0';
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static int move(struct ws__body *b, bool allowed, enum body_state next)
{
    if (!allowed)
        return -400;
    b->state = (uint8_t)next;
    return 0;
}

/* What may follow a size, a name or a value. */
static int end_element(struct ws__body *b, char c)
{
    if (c == '\r')
        return move(b, true, SIZE_LF);
    return move(b, c == ';' || ws__text_is(WS__TEXT_BLANK, c), c == ';' ? EXT_START : EXT_BLANKS);
}

static int size_byte(struct ws__body *b, char c)
{
    const int digit = hex_digit(c);
    if (digit < 0)
        return b->digits ? end_element(b, c) : -400;
    if (b->digits == MAX_DIGITS)
        return -400;
    b->digits++;
    b->left = b->left << 4 | (unsigned)digit;
    return 0;
}

/* A byte of an extension, or after its name or value. */
static int extension_byte(struct ws__body *b, char c)
{
    const bool blank = ws__text_is(WS__TEXT_BLANK, c), token = ws__text_is(WS__TEXT_TOKEN, c);
    switch ((enum body_state)b->state) {
    case EXT_START:
        return blank ? 0 : move(b, token, EXT_NAME);
    case EXT_NAME:
    case EXT_NAME_BLANKS:
        if (c == '=')
            return move(b, true, EXT_VALUE_START);
        if (blank)
            return move(b, true, EXT_NAME_BLANKS);
        return c == ';' || b->state == EXT_NAME ? token ? 0 : end_element(b, c) : -400;
    case EXT_VALUE_START:
        return blank ? 0 : move(b, token || c == '"', c == '"' ? EXT_QUOTED : EXT_VALUE);
    case EXT_VALUE:
        return token ? 0 : end_element(b, c);
    case EXT_QUOTED:
        return move(b, ws__text_is(WS__TEXT_VALUE, c),
                    c == '"'    ? EXT_QUOTED_END
                    : c == '\\' ? EXT_ESCAPED
                                : EXT_QUOTED);
    case EXT_ESCAPED:
        return move(b, ws__text_is(WS__TEXT_VALUE, c), EXT_QUOTED);
    default: /* EXT_BLANKS, after which the line may not end, and EXT_QUOTED_END */
        return c == '\r' && b->state == EXT_BLANKS ? -400 : end_element(b, c);
    }
}

/* The chunk that begins may be the last one, or too long. */
static int begin_chunk(struct ws__body *b, char c)
{
    if (c != '\n')
        return -400;
    if (b->left > b->limit)
        return -413;
    b->limit -= b->left;
    b->state = b->left ? CHUNK_DATA : TRAILER;
    b->skipped = b->digits = 0;
    return 0;
}

/* Field lines have the same form as in a head (RFC 9112 7.1.2). */
static int trailer_byte(struct ws__body *b, char c)
{
    switch ((enum body_state)b->state) {
    case TRAILER:
        return c == '\r' ? move(b, true, TRAILERS_LF)
                         : move(b, ws__text_is(WS__TEXT_TOKEN, c), TRAILER_NAME);
    case TRAILER_NAME:
        return ws__text_is(WS__TEXT_TOKEN, c) ? 0 : move(b, c == ':', TRAILER_VALUE);
    case TRAILER_VALUE:
        return ws__text_is(WS__TEXT_VALUE, c) ? 0 : move(b, c == '\r', TRAILER_LF);
    default:
        return move(b, c == '\n', b->state == TRAILER_LF ? TRAILER : BODY_END);
    }
}

/* Handles one byte that is not content. Returns 0 or minus the status. */
static int framing_byte(struct ws__body *b, char c)
{
    const uint8_t state = b->state;
    if (state == CHUNK_SIZE)
        return size_byte(b, c);
    if (state == SIZE_LF)
        return begin_chunk(b, c);
    if (state == DATA_CR)
        return move(b, c == '\r', DATA_LF);
    if (state == DATA_LF)
        return move(b, c == '\n', CHUNK_SIZE);
    const bool extension = state <= EXT_QUOTED_END;
    if (b->skipped == (extension ? (uint32_t)WS__BODY_MAX_EXTENSIONS : b->max_trailer))
        return extension ? -400 : -431;
    const int status = extension ? extension_byte(b, c) : trailer_byte(b, c);
    b->skipped += !status;
    return status;
}

static int take_content(struct ws__body *b, struct ws__input *in, const char **data, size_t *length)
{
    const size_t n = b->left < in->length ? (size_t)b->left : in->length;
    *data = in->data;
    *length = n;
    in->data += n;
    in->length -= n;
    b->left -= n;
    if (!b->left)
        b->state = b->state == BODY_LENGTH ? BODY_END : DATA_CR;
    return b->state == BODY_END ? WS__BODY_LAST : WS__BODY_PIECE;
}

int ws__body_next(struct ws__body *body, struct ws__input *in, const char **data, size_t *length)
{
    if (body->state == BODY_LENGTH && body->left > body->limit)
        return -413;
    *data = in->data;
    *length = 0;
    while (in->length) {
        if (body->state == BODY_LENGTH || body->state == CHUNK_DATA)
            return take_content(body, in, data, length);
        const uint8_t state = body->state;
        const int status = framing_byte(body, *in->data);
        if (status) {
            body->state = state;
            return status;
        }
        in->data++;
        in->length--;
        if (body->state == BODY_END)
            return WS__BODY_LAST;
    }
    return WS__BODY_MORE;
}

uint64_t ws__body_left(const struct ws__body *body)
{
    return body->state == BODY_LENGTH || body->state == BODY_END ? body->left : WS__HTTP_CHUNKED;
}
