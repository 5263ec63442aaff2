/* SPDX-License-Identifier: MIT */
/*
 * deflate.h: permessage-deflate (RFC 7692): negotiation, compression, bounded decompression.
 * Sans-IO; knows nothing of frames or connections. deflate.c is the only file that includes zlib.h;
 * deflate_none.c replaces it if the library is built without compression.
 */
#ifndef WS__DEFLATE_H
#define WS__DEFLATE_H

#include "buffer.h"

/* Parts of ws_behavior.compression: for the compressor zlib's memLevel in bits 0-3 and window bits
 * in bits 4-7, or 1, a shared one of the largest size; for the decompressor window bits in bits
 * 8-11, or 1, a shared one; and in bit 12 whether the compressor is shared, whatever its size. */
enum {
    WS__COMPRESS_SHARED = 0x001,
    WS__DECOMPRESS_SHARED = 0x100,
    WS__COMPRESS_ISOLATED = 0x1000,
    WS__COMPRESS_MASK = 0x0ff,
    WS__DECOMPRESS_MASK = 0xf00
};

/* What was negotiated. All members are zero if there is no compression. */
struct ws__deflate_terms {
    uint8_t server_bits : 4;     /* window bits of our compressor, 9 to 15 */
    uint8_t client_bits : 4;     /* window bits of the peer's compressor, 8 to 15 */
    uint8_t memory_level : 4;    /* memLevel of our compressor, 1 to 9 */
    bool server_no_context : 1;  /* our messages are isolated streams */
    bool client_no_context : 1;  /* the peer's messages are isolated streams */
    bool answer_server_bits : 1; /* the response has server_max_window_bits */
    bool answer_client_bits : 1; /* the response has client_max_window_bits */
};

/* Returns false if the library was built without zlib. Every offer is declined then. */
bool ws__deflate_available(void);

/* Returns true if ws_behavior.compression may have this value: 0, or a compressor or a decompressor
 * of the table in ws.h, or both. */
bool ws__deflate_options_valid(unsigned options);

/* Returns true and sets *terms if one element of Sec-WebSocket-Extensions is permessage-deflate
 * with parameters that can be accepted (RFC 7692 7.1). Returns false if the offer is declined, as
 * it always is if `options` is 0. */
bool ws__deflate_accept(const char *offer, size_t length, unsigned options,
                        struct ws__deflate_terms *terms);

enum { WS__DEFLATE_ANSWER_MAX = 128 };

/* Writes the element of the response that accepts the offer, NUL-terminated. Returns its length. */
size_t ws__deflate_answer(const struct ws__deflate_terms *terms,
                          char answer[WS__DEFLATE_ANSWER_MAX]);

/* Space for output, which grows. */
struct ws__deflate_space {
    char *bytes;
    size_t capacity;
};

/* The shared streams and output space of all connections of a server. Zero it to begin, set
 * `memory`, and do not move it: zlib keeps its address. */
struct ws__deflate_pool {
    struct ws__memory *memory;             /* counts everything below */
    size_t used;                           /* bytes of streams, also of connections, and space */
    struct ws__deflate_stream *deflater;   /* of the size that was needed last */
    struct ws__deflate_stream *inflater;   /* has 15 window bits, enough for all */
    struct ws__deflate_space deflated;     /* output of the last ws__deflate_compress */
    struct ws__deflate_space inflated;     /* the last decompressed message */
    uint64_t deflate_calls, inflate_calls; /* numbers of messages, for tests */
};

/* Frees all streams and space of the pool. */
void ws__deflate_pool_deinit(struct ws__deflate_pool *pool);

/* The streams that belong to one connection. Each is made when it is first needed, and NULL
 * before. */
struct ws__deflate_streams {
    struct ws__deflate_stream *deflater;
    struct ws__deflate_stream *inflater;
};

/* Frees the streams. `streams` may be NULL. */
void ws__deflate_streams_deinit(struct ws__deflate_pool *pool, struct ws__deflate_streams *streams);

/* Compresses one message, or one piece of it; `first` and `last` are both true for a whole message.
 * RFC 7692 7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end." An empty
 * piece that is not the last one has no output. *out is borrowed until the next
 * ws__deflate_compress or ws__deflate_trim of this pool. `data` may be the output of
 * ws__deflate_decompress. A shared compressor uses a stream of the pool for a whole message, and
 * one in *streams for a message in pieces, until the last piece. Returns WS_OK, or WS_ENOMEM: then
 * there is no output, and the next message does not refer to earlier ones. */
int ws__deflate_compress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                         struct ws__deflate_streams *streams, const void *data, size_t length,
                         bool first, bool last, const char **out, size_t *out_length);

/* Must be called if the last compressed message was not sent, so that the next one does not refer
 * to it. `streams` may be NULL. */
void ws__deflate_forget(struct ws__deflate_streams *streams);

enum ws__inflate_result {
    WS__INFLATE_OK = 0,
    WS__INFLATE_TOO_BIG = 1,  /* the message has more than `limit` bytes */
    WS__INFLATE_INVALID = 2,  /* the compressed data is invalid or truncated (RFC 7692 7.2.2) */
    WS__INFLATE_NOT_UTF8 = 3, /* the message is a text and not valid UTF-8 */
    WS__INFLATE_MORE = 4      /* the budget was spent before the message was complete */
};

/* The cost of decompression is counted in units of one output byte. One compressed byte can cost as
 * much as WS__INFLATE_PRICE output bytes without any output: blocks may be empty, and a few bytes
 * describe tables that take microseconds to build. */
enum { WS__INFLATE_PRICE = 64 };

/* One message that is being decompressed. Zero it and set the first three members to begin. */
struct ws__inflation {
    size_t limit;  /* bytes of the largest message */
    bool text;     /* the message must be valid UTF-8 */
    size_t budget; /* units that may be spent; each call subtracts what it spent */
    /* The rest is private. An unfinished message has its stream and space to itself. */
    struct ws__deflate_stream *stream;
    struct ws__deflate_space space;
    size_t consumed, produced;
    uint32_t utf8;
    bool full;  /* the last output filled its room, so there may be more without further input */
    bool ended; /* the last block had BFINAL set */
};

/* Decompresses one whole message of at most m->limit bytes, and never holds more than that and a
 * fixed amount. The output is checked as it is produced: the first byte above the limit or outside
 * UTF-8 ends the message, then an error in the compressed data. *out is never NULL, may be
 * modified, and is borrowed until the next message is complete or ws__deflate_trim is called for
 * this pool.
 * Returns WS__INFLATE_MORE if the budget is spent: *m holds what was decompressed so far, and the
 * function must be called again with the same bytes, or ws__deflate_abandon be called. Every other
 * enum ws__inflate_result, and WS_ENOMEM, ends the message. If it is not WS__INFLATE_OK, the stream
 * is reset; WS_ENOMEM may leave *out unchanged. */
int ws__deflate_decompress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                           struct ws__deflate_streams *streams, struct ws__inflation *m,
                           const void *data, size_t length, char **out, size_t *out_length);

/* Frees what an unfinished message holds. */
void ws__deflate_abandon(struct ws__deflate_pool *pool, struct ws__inflation *m);

/* Frees output space of more than `keep` bytes. No output of the functions above may be in use. */
void ws__deflate_trim(struct ws__deflate_pool *pool, size_t keep);

#endif
