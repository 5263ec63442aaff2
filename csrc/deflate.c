/* SPDX-License-Identifier: MIT */
/*
 * deflate.c: permessage-deflate (RFC 7692) on top of zlib: negotiates, and compresses and
 * decompresses one message at a time. Counts all memory, and limits the result while it grows.
 * Knows nothing of frames, RSV1 or connections. The only file that includes zlib.h.
 */
#include "deflate.h"
#ifndef WS_NO_DEFLATE
#include "text.h"
#include "utf8.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

enum {
    MAX_BITS = 15,
    MIN_BITS = 8,            /* the fewest window bits of an offer (RFC 7692 7.1.2) */
    MIN_OUR_BITS = 9,        /* zlib cannot make raw deflate data with an 8-bit window */
    SHARED_SIZE = 0xf8,      /* window bits and memLevel: the largest of the table in ws.h */
    LEVEL = 6,               /* zlib's default */
    FIRST_SPACE = 16 * 1024, /* the least output space */
    MARKER = 7,              /* zlib.h: with less room than this, zlib repeats the flush marker */
    TAIL = 4,                /* 00 00 ff ff */
    AT_BLOCK_BOUNDARY = 128, /* z_stream.data_type: a block has ended, and no bits are left over */
    CHUNK = INT_MAX / 2      /* the most bytes for one call of zlib, which counts in uInt */
};

struct ws__deflate_stream {
    z_stream z;
    int (*end_zlib)(z_streamp z); /* deflateEnd or inflateEnd */
    bool stale;              /* must be reset before it is used again */
    uint8_t bits, level;     /* of a compressor: window bits, memLevel */
};

bool ws__deflate_available(void)
{
    return true;
}

/* ---- negotiation (RFC 7692 7.1) ---- */

bool ws__deflate_options_valid(unsigned options)
{
    static const uint8_t compressors[] = {0, 1, 0x91, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8};
    unsigned bits = (options & ~(unsigned)WS__COMPRESS_ISOLATED) >> 8;
    int least = options & WS__COMPRESS_ISOLATED ? 2 : 0;
    return (bits <= 1 || (bits >= 9 && bits <= MAX_BITS)) &&
           memchr(compressors + least, (int)(options & WS__COMPRESS_MASK),
                  sizeof compressors - (size_t)least);
}

enum parameter { SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT, SERVER_BITS, CLIENT_BITS, PARAMETERS };

/* Values of a parameter other than 8 to 15. */
enum { ABSENT = -1, BARE = 0, BROKEN = -2 };

/* Returns window bits, or BROKEN. RFC 7692 7.1.2.1: "a decimal integer value without leading zeroes
 * between 8 to 15, inclusive". */
static int bits_of(struct ws__text value)
{
    int bits = 0;
    while (value.length) {
        const char c = ws__text_take_unescaped(&value);
        if (c < (bits ? '0' : '1') || c > '9')
            return BROKEN;
        bits = 10 * bits + (c - '0');
        if (bits > MAX_BITS)
            return BROKEN;
    }
    return bits < MIN_BITS ? BROKEN : bits;
}

/* Sets the value of one parameter. Returns false if the offer must be declined (RFC 7692 7.1),
 * because the parameter is unknown, invalid or repeated. */
static bool set_parameter(const struct ws__text_parameter *parameter, int values[PARAMETERS])
{
    static const char names[PARAMETERS][27] = {
        [SERVER_NO_CONTEXT] = "server_no_context_takeover",
        [CLIENT_NO_CONTEXT] = "client_no_context_takeover",
        [SERVER_BITS] = "server_max_window_bits",
        [CLIENT_BITS] = "client_max_window_bits",
    };
    int i = 0;
    while (i < PARAMETERS && !ws__text_same(parameter->name.at, parameter->name.length, names[i]))
        i++;
    if (i == PARAMETERS || values[i] != ABSENT)
        return false;
    values[i] = parameter->value.at ? bits_of(parameter->value) : BARE;
    if (i == SERVER_BITS)
        return values[i] >= MIN_BITS;
    return values[i] == BARE || (i == CLIENT_BITS && values[i] >= MIN_BITS);
}

static bool parse_offer(struct ws__text offer, int values[PARAMETERS])
{
    struct ws__text_parameter parameter;
    const struct ws__text name = ws__text_take_token(&offer);
    int more;
    for (int i = 0; i < PARAMETERS; i++)
        values[i] = ABSENT;
    if (!ws__text_same(name.at, name.length, "permessage-deflate"))
        return false;
    while ((more = ws__text_next_parameter(&offer, &parameter)) > 0)
        if (!set_parameter(&parameter, values))
            return false;
    return !more;
}

/* Sets the terms for what we send. A client that asks for isolated messages gets them from a shared
 * stream, even if the options give the connection a window of its own. */
static bool agree_on_compressor(const int offer[PARAMETERS], unsigned options,
                                struct ws__deflate_terms *terms)
{
    const bool small = options & WS__COMPRESS_ISOLATED;
    unsigned size = options & WS__COMPRESS_MASK;
    bool dedicated = size > WS__COMPRESS_SHARED && !small && offer[SERVER_NO_CONTEXT] == ABSENT;
    if (!dedicated && !small)
        size = SHARED_SIZE;
    int bits = (int)size >> 4;
    if (offer[SERVER_BITS] != ABSENT && offer[SERVER_BITS] < bits)
        bits = offer[SERVER_BITS]; /* "or smaller" (RFC 7692 7.1.2.1) */
    terms->server_no_context = !dedicated;
    terms->server_bits = (unsigned)bits & 15;
    terms->memory_level = size & 15;
    terms->answer_server_bits = offer[SERVER_BITS] != ABSENT;
    return bits >= MIN_OUR_BITS;
}

/* Sets the terms for what the peer sends. The response may limit the window only of a client that
 * offered client_max_window_bits (RFC 7692 7.1.2.2), and does so only if the connection keeps the
 * window between messages: otherwise it needs no memory. */
static void agree_on_decompressor(const int offer[PARAMETERS], unsigned own,
                                  struct ws__deflate_terms *terms)
{
    bool dedicated = own > WS__DECOMPRESS_SHARED && offer[CLIENT_NO_CONTEXT] == ABSENT;
    int bits = offer[CLIENT_BITS] >= MIN_BITS ? offer[CLIENT_BITS] : MAX_BITS;
    if (dedicated && offer[CLIENT_BITS] != ABSENT && (int)(own >> 8) < bits)
        bits = (int)(own >> 8);
    terms->client_no_context = !dedicated;
    terms->client_bits = (unsigned)bits & 15;
    terms->answer_client_bits = dedicated && offer[CLIENT_BITS] != ABSENT && bits < MAX_BITS;
}

bool ws__deflate_accept(const char *offer, size_t length, unsigned options,
                        struct ws__deflate_terms *terms)
{
    int values[PARAMETERS];
    struct ws__deflate_terms agreed = {0};
    if (!options || !parse_offer((struct ws__text){offer, length}, values))
        return false;
    if (!agree_on_compressor(values, options, &agreed))
        return false;
    agree_on_decompressor(values, options & WS__DECOMPRESS_MASK, &agreed);
    *terms = agreed;
    return true;
}

size_t ws__deflate_answer(const struct ws__deflate_terms *terms,
                          char answer[WS__DEFLATE_ANSWER_MAX])
{
    char server[32] = "", client[32] = "";
    if (terms->answer_server_bits)
        snprintf(server, sizeof server, "; server_max_window_bits=%d", terms->server_bits);
    if (terms->answer_client_bits)
        snprintf(client, sizeof client, "; client_max_window_bits=%d", terms->client_bits);
    return (size_t)snprintf(answer, WS__DEFLATE_ANSWER_MAX, "permessage-deflate%s%s%s%s",
                            terms->server_no_context ? "; server_no_context_takeover" : "",
                            terms->client_no_context ? "; client_no_context_takeover" : "",
                            server, client);
}

/* ---- memory ---- */

/* Precedes every block of zlib, which does not pass the size of what it frees. */
struct zlib_block {
    _Alignas(max_align_t) size_t size;
};

static void *zlib_alloc(void *context, uInt items, uInt size)
{
    struct ws__deflate_pool *pool = context;
    if (size && items > (SIZE_MAX - sizeof(struct zlib_block)) / size)
        return NULL;
    size_t total = sizeof(struct zlib_block) + (size_t)items * size;
    struct zlib_block *block = ws__memory_resize(pool->memory, NULL, 0, total);
    if (!block)
        return NULL;
    block->size = total;
    pool->used += total;
    return block + 1;
}

static void zlib_free(void *context, void *ptr)
{
    struct ws__deflate_pool *pool = context;
    struct zlib_block *block = (struct zlib_block *)ptr - 1;
    pool->used -= block->size;
    ws__memory_free(pool->memory, block, block->size);
}

/* Doubles the space, up to `most` bytes. It has at least FIRST_SPACE bytes. Returns false if out of
 * memory. */
static bool grow_space(struct ws__deflate_pool *pool, struct ws__deflate_space *space, size_t most)
{
    size_t capacity = space->capacity <= most / 2 ? 2 * space->capacity : most;
    if (capacity < FIRST_SPACE)
        capacity = FIRST_SPACE;
    char *bytes = ws__memory_resize(pool->memory, space->bytes, space->capacity, capacity);
    if (!bytes)
        return false;
    pool->used += capacity - space->capacity;
    *space = (struct ws__deflate_space){bytes, capacity};
    return true;
}

/* Frees the space if it has more than `keep` bytes. */
static void drop_space(struct ws__deflate_pool *pool, struct ws__deflate_space *space, size_t keep)
{
    if (space->capacity <= keep)
        return;
    pool->used -= space->capacity;
    ws__memory_free(pool->memory, space->bytes, space->capacity);
    *space = (struct ws__deflate_space){NULL, 0};
}

static struct ws__deflate_stream *new_stream(struct ws__deflate_pool *pool, int (*end)(z_streamp z))
{
    struct ws__deflate_stream *s = zlib_alloc(pool, 1, sizeof *s);
    const z_stream z = {.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = pool};
    if (s)
        *s = (struct ws__deflate_stream){.z = z, .end_zlib = end};
    return s;
}

static struct ws__deflate_stream *new_deflater(struct ws__deflate_pool *pool, int bits, int level)
{
    struct ws__deflate_stream *s = new_stream(pool, deflateEnd);
    if (!s)
        return NULL;
    s->bits = (uint8_t)bits;
    s->level = (uint8_t)level;
    if (deflateInit2(&s->z, LEVEL, Z_DEFLATED, -bits, level, Z_DEFAULT_STRATEGY) == Z_OK)
        return s;
    zlib_free(pool, s);
    return NULL;
}

static struct ws__deflate_stream *new_inflater(struct ws__deflate_pool *pool, int bits)
{
    struct ws__deflate_stream *s = new_stream(pool, inflateEnd);
    if (!s || inflateInit2(&s->z, -bits) == Z_OK)
        return s;
    zlib_free(pool, s);
    return NULL;
}

static void free_stream(struct ws__deflate_pool *pool, struct ws__deflate_stream **s)
{
    if (!*s)
        return;
    (*s)->end_zlib(&(*s)->z);
    zlib_free(pool, *s);
    *s = NULL;
}

void ws__deflate_pool_deinit(struct ws__deflate_pool *pool)
{
    free_stream(pool, &pool->deflater);
    free_stream(pool, &pool->inflater);
    drop_space(pool, &pool->deflated, 0);
    drop_space(pool, &pool->inflated, 0);
}

void ws__deflate_streams_deinit(struct ws__deflate_pool *pool, struct ws__deflate_streams *streams)
{
    if (!streams)
        return;
    free_stream(pool, &streams->deflater);
    free_stream(pool, &streams->inflater);
}

/* ---- compression ---- */

/* Compresses data[length] and a flush marker into the pool's space. Sets *produced to the number of
 * bytes. */
static int run_deflate(struct ws__deflate_pool *pool, z_stream *z, const char *data, size_t length,
                       size_t *produced)
{
    struct ws__deflate_space *space = &pool->deflated;
    *produced = 0;
    do {
        if (space->capacity - *produced < MARKER && !grow_space(pool, space, SIZE_MAX / 2))
            return WS_ENOMEM;
        size_t room = space->capacity - *produced;
        uInt in = (uInt)(length < CHUNK ? length : CHUNK);
        uInt out = (uInt)(room < CHUNK ? room : CHUNK);
        z->next_in = (const Bytef *)data;
        z->avail_in = in;
        z->next_out = (Bytef *)space->bytes + *produced;
        z->avail_out = out;
        /* The only possible failure is a lack of output space, which the loop handles. */
        deflate(z, in < length ? Z_NO_FLUSH : Z_SYNC_FLUSH);
        data += in - z->avail_in;
        length -= in - z->avail_in;
        *produced += out - z->avail_out;
    } while (length || !z->avail_out);
    return WS_OK;
}

/* Ends each piece with a flush, so that it ends at a byte boundary and the peer can decompress all
 * of it. */
static int compress_piece(struct ws__deflate_pool *pool, int bits, int level,
                          struct ws__deflate_stream **d, const void *data, size_t length,
                          size_t *produced)
{
    if (!*d && !(*d = new_deflater(pool, bits, level)))
        return WS_ENOMEM;
    if ((*d)->stale)
        deflateReset(&(*d)->z);
    int result = run_deflate(pool, &(*d)->z, data, length, produced);
    (*d)->stale = result != WS_OK;
    return result;
}

/* Returns the window that an isolated message of this length is compressed with. A peer may have
 * asked for a small one, but a message that fits into it cannot refer back any further. So all
 * short messages have the largest one that goes with the memLevel in the table of ws.h, and only a
 * long one for such a peer needs another stream. */
static int shared_bits(const struct ws__deflate_terms *terms, size_t length)
{
    if (length >> terms->server_bits)
        return terms->server_bits;
    return terms->memory_level < 2 ? MIN_OUR_BITS : terms->memory_level + 7;
}

/* Returns where the pool has its stream, which is freed if it has another size. */
static struct ws__deflate_stream **shared_deflater(struct ws__deflate_pool *pool, int bits,
                                                   int level)
{
    const struct ws__deflate_stream *d = pool->deflater;
    if (d && (d->bits != bits || d->level != level))
        free_stream(pool, &pool->deflater);
    return &pool->deflater;
}

int ws__deflate_compress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                         struct ws__deflate_streams *streams, const void *data, size_t length,
                         bool first, bool last, const char **out, size_t *out_length)
{
    bool isolated = terms->server_no_context, lent = isolated && !(first && last);
    bool shared = isolated && !lent;
    int bits = shared ? shared_bits(terms, length) : terms->server_bits;
    struct ws__deflate_stream **d =
        shared ? shared_deflater(pool, bits, terms->memory_level) : &streams->deflater;
    int result = WS_OK;
    pool->deflate_calls += first;
    if (isolated && first) /* of a message that was never finished */
        free_stream(pool, &streams->deflater);
    *out_length = 0;
    if (length)
        result = compress_piece(pool, bits, terms->memory_level, d, data, length, out_length);
    if (shared && *d)
        (*d)->stale = true;
    if (lent && last)
        free_stream(pool, d);
    if (result)
        return result;
    *out = length ? pool->deflated.bytes : "";
    if (last) /* RFC 7692 7.2.3.6: an empty message, or last piece, is one byte 0x00 */
        *out_length = length ? *out_length - TAIL : 1;
    return WS_OK;
}

void ws__deflate_forget(struct ws__deflate_streams *streams)
{
    if (streams && streams->deflater)
        streams->deflater->stale = true;
}

/* ---- decompression ---- */

/* Checks n more bytes of output. The first offending byte decides, so the result does not depend on
 * how the output was cut. */
static int check_output(struct ws__inflation *m, size_t n)
{
    const char *bytes = m->space.bytes + m->produced;
    size_t allowed = n < m->limit - m->produced ? n : m->limit - m->produced;
    m->produced += n;
    if (m->text)
        m->utf8 = ws__utf8_next(m->utf8, bytes, allowed);
    if (m->utf8 == WS__UTF8_REJECT)
        return WS__INFLATE_NOT_UTF8;
    return n > allowed ? WS__INFLATE_TOO_BIG : WS__INFLATE_OK;
}

/* What follows a block with BFINAL = 1 may refer to the window before it (RFC 7692 7.2.3.4), which
 * zlib would forget. Keeping the window must be cheap, because such a block can have two bytes. */
static int check_status(struct ws__inflation *m, int status, size_t input_left)
{
    m->ended = status == Z_STREAM_END;
    if (m->ended)
        inflateResetKeep(&m->stream->z);
    if (status == Z_MEM_ERROR)
        return WS_ENOMEM;
    bool good = m->ended || status == Z_OK || (status == Z_BUF_ERROR && !input_left);
    return good ? WS__INFLATE_OK : WS__INFLATE_INVALID;
}

/* Returns how many of n bytes zlib may handle in one call. */
static uInt portion(size_t n, size_t budget)
{
    if (n > budget)
        n = budget;
    return (uInt)(n < CHUNK ? n : CHUNK);
}

/* Decompresses data[length]. Produces up to one byte more than the limit, to detect that there is
 * one. */
static int feed(struct ws__deflate_pool *pool, struct ws__inflation *m, const void *data,
                size_t length)
{
    size_t most = m->limit + 1;
    z_stream *z = &m->stream->z;
    const Bytef *in = data;
    int result;
    do {
        if (m->budget < WS__INFLATE_PRICE)
            return WS__INFLATE_MORE;
        if (m->produced == m->space.capacity && !grow_space(pool, &m->space, most))
            return WS_ENOMEM;
        size_t room = (m->space.capacity < most ? m->space.capacity : most) - m->produced;
        uInt taken = portion(length, m->budget / WS__INFLATE_PRICE);
        uInt put = portion(room, m->budget);
        z->next_in = in;
        z->avail_in = taken;
        z->next_out = (Bytef *)m->space.bytes + m->produced;
        z->avail_out = put;
        int status = inflate(z, Z_SYNC_FLUSH);
        taken -= z->avail_in;
        put -= z->avail_out;
        in += taken;
        length -= taken;
        m->consumed += taken;
        m->full = !z->avail_out;
        size_t price = (size_t)taken * WS__INFLATE_PRICE + put;
        m->budget -= price < m->budget ? price : m->budget;
        result = check_output(m, put);
        if (!result)
            result = check_status(m, status, length);
    } while (!result && (length || (m->full && !m->ended)));
    return result;
}

/* RFC 7692 7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload". They
 * must be what the peer removed, the rest of an empty stored block, and not what truncated data
 * lacks. A message that ends with a BFINAL block needs none. */
static int feed_tail(struct ws__deflate_pool *pool, struct ws__inflation *m)
{
    static const uint8_t tail[TAIL] = {0x00, 0x00, 0xff, 0xff};
    size_t left = m->budget;
    m->limit = m->produced;
    m->budget = TAIL * WS__INFLATE_PRICE; /* the tail is never left for another turn */
    int result = feed(pool, m, tail, TAIL);
    m->budget = left;
    bool whole = m->ended || m->stream->z.data_type == AT_BLOCK_BOUNDARY;
    return result >= 0 && (result || !whole) ? WS__INFLATE_INVALID : result;
}

static int inflate_message(struct ws__deflate_pool *pool, struct ws__inflation *m, const void *data,
                           size_t length)
{
    int result = length ? feed(pool, m, (const char *)data + m->consumed, length - m->consumed)
                        : WS__INFLATE_INVALID;
    if (!result && !m->ended)
        result = feed_tail(pool, m);
    return !result && m->utf8 != WS__UTF8_ACCEPT ? WS__INFLATE_NOT_UTF8 : result;
}

/* Moves the stream at *home and the pool's output space to the message, which keeps them until it
 * is complete. Other messages make their own meanwhile. */
static int begin_message(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                         struct ws__deflate_stream **home, struct ws__inflation *m)
{
    pool->inflate_calls++;
    m->stream = *home;
    *home = NULL;
    m->space = pool->inflated;
    pool->inflated = (struct ws__deflate_space){NULL, 0};
    if (m->limit > SIZE_MAX / 2)
        m->limit = SIZE_MAX / 2;
    if (!m->space.bytes && !grow_space(pool, &m->space, FIRST_SPACE))
        return WS_ENOMEM;
    if (!m->stream)
        m->stream = new_inflater(pool, terms->client_no_context ? MAX_BITS : terms->client_bits);
    if (!m->stream)
        return WS_ENOMEM;
    if (m->stream->stale)
        inflateReset(&m->stream->z);
    m->stream->stale = false;
    return WS__INFLATE_OK;
}

/* Moves the stream and the space back. Other messages may have made their own meanwhile: then only
 * one stream is kept, and the space that holds the result. */
static void finish_message(struct ws__deflate_pool *pool, struct ws__deflate_stream **home,
                           struct ws__inflation *m, bool stale)
{
    if (m->stream)
        m->stream->stale = stale;
    if (*home)
        free_stream(pool, &m->stream);
    else
        *home = m->stream;
    if (m->space.bytes) {
        drop_space(pool, &pool->inflated, 0);
        pool->inflated = m->space;
    }
    m->stream = NULL;
    m->space = (struct ws__deflate_space){NULL, 0};
}

int ws__deflate_decompress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                           struct ws__deflate_streams *streams, struct ws__inflation *m,
                           const void *data, size_t length, char **out, size_t *out_length)
{
    bool isolated = terms->client_no_context;
    struct ws__deflate_stream **home = isolated ? &pool->inflater : &streams->inflater;
    int result = m->stream ? WS__INFLATE_OK : begin_message(pool, terms, home, m);
    if (!result)
        result = inflate_message(pool, m, data, length);
    if (result == WS__INFLATE_MORE)
        return result;
    finish_message(pool, home, m, isolated || result);
    *out = pool->inflated.bytes;
    *out_length = result ? 0 : m->produced;
    return result;
}

void ws__deflate_abandon(struct ws__deflate_pool *pool, struct ws__inflation *m)
{
    free_stream(pool, &m->stream);
    drop_space(pool, &m->space, 0);
}

void ws__deflate_trim(struct ws__deflate_pool *pool, size_t keep)
{
    drop_space(pool, &pool->deflated, keep);
    drop_space(pool, &pool->inflated, keep);
}

#endif
