/*
 * deflate.h: permessage-deflate (RFC 7692): negotiation, compression, bounded decompression.
 * Sans-IO; knows nothing of frames or connections. deflate.c is the only file that includes zlib.h;
 * deflate_none.c stands in for it where the library is built without compression.
 */
#ifndef WS__DEFLATE_H
#define WS__DEFLATE_H

#include "buffer.h"

/* ws_behavior.compression, as CompressOptions of the bindings: memLevel in bits 0-3 and window bits
 * in bits 4-7 of the compressor, window bits of the decompressor in bits 8-11. */
enum {
    WS__COMPRESS_SHARED = 0x001,
    WS__DECOMPRESS_SHARED = 0x100,
    WS__COMPRESS_MASK = 0x0ff,
    WS__DECOMPRESS_MASK = 0xf00
};

/* What both sides agreed on. All zero: no compression. */
struct ws__deflate_terms {
    uint8_t server_bits : 4;     /* window of our compressor, 9 to 15 */
    uint8_t client_bits : 4;     /* window of the peer's compressor, 8 to 15 */
    uint8_t memory_level : 4;    /* of our compressor, 1 to 9 */
    bool server_no_context : 1;  /* our messages are isolated streams */
    bool client_no_context : 1;  /* the peer's messages are */
    bool answer_server_bits : 1; /* server_max_window_bits stands in the answer */
    bool answer_client_bits : 1; /* client_max_window_bits does */
};

/* False where the library was built without zlib: every offer is declined then. */
bool ws__deflate_available(void);

/* A value that ws_behavior.compression may have: 0, or a compressor and a decompressor of the table
 * in ws.h (either may be missing). */
bool ws__deflate_options_valid(unsigned options);

/* Judges one element of Sec-WebSocket-Extensions (RFC 7692 7.1; names in any case). True: it is
 * permessage-deflate with parameters that can be met, *terms is set. False: declined, also where
 * options is 0. */
bool ws__deflate_accept(const char *offer, size_t length, unsigned options,
                        struct ws__deflate_terms *terms);

/* The element that answers it, NUL-terminated; returns its length. 128 bytes always suffice. */
enum { WS__DEFLATE_ANSWER_MAX = 128 };
size_t ws__deflate_answer(const struct ws__deflate_terms *terms,
                          char answer[WS__DEFLATE_ANSWER_MAX]);

struct ws__deflate_space {
    char *bytes;
    size_t capacity;
};

/* Shared streams and output space of all connections of a server. Zero it to begin, set `memory`,
 * and do not move it: zlib keeps its address. `memory` counts all that is held, `used` is what is
 * held now for compression: streams of the pool and of connections, and output space. */
struct ws__deflate_pool {
    struct ws__memory *memory;
    size_t used;
    struct ws__deflate_stream *deflaters[16]; /* by window bits */
    struct ws__deflate_stream *inflater;      /* 15 bits: takes any smaller window, too */
    struct ws__deflate_space deflated;        /* output of the last ws__deflate_compress */
    struct ws__deflate_space inflated;        /* and of the last message decompressed */
    uint64_t deflate_calls, inflate_calls;    /* messages, for tests and stats */
};
void ws__deflate_pool_deinit(struct ws__deflate_pool *pool);

/* A connection's own streams, each made when it is first needed; NULL: none yet. */
struct ws__deflate_streams {
    struct ws__deflate_stream *deflater;
    struct ws__deflate_stream *inflater;
};
void ws__deflate_streams_deinit(struct ws__deflate_pool *pool, struct ws__deflate_streams *streams);

/* Compresses one message, or one piece of it: `first` and `last` are both true for a whole one. The
 * bytes 00 00 ff ff are taken off the last piece (RFC 7692 7.2.1). *out is borrowed until the next
 * ws__deflate_compress or ws__deflate_trim of this pool; `data` may be what ws__deflate_decompress
 * put out. An empty piece that is not the last one gives no bytes. A shared compressor uses a
 * stream of the pool for a whole message, and lends a private one (in *streams) from the first to
 * the last piece. WS_ENOMEM: nothing came out, the stream begins anew. */
int ws__deflate_compress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                         struct ws__deflate_streams *streams, const void *data, size_t length,
                         bool first, bool last, const char **out, size_t *out_length);

/* The last message did not go out as it was compressed: what follows must not refer to it. */
void ws__deflate_forget(struct ws__deflate_streams *streams);

enum ws__inflate_result {
    WS__INFLATE_OK = 0,
    WS__INFLATE_TOO_BIG = 1,  /* more than `limit` bytes would come out */
    WS__INFLATE_INVALID = 2,  /* the compressed data is broken or cut (RFC 7692 7.2.2) */
    WS__INFLATE_NOT_UTF8 = 3, /* `text`, and the bytes so far cannot be UTF-8 */
    WS__INFLATE_MORE = 4      /* the budget is used up before the message is done */
};

/* Inflating is paid for by what goes in and comes out, in units of one byte that comes out. A
 * compressed byte can cost as much as WS__INFLATE_PRICE of them without any output: blocks may be
 * empty, and a few bytes describe tables that take microseconds to build. */
enum { WS__INFLATE_PRICE = 64 };

/* One message that is being decompressed. Zero it and set the first three to begin. */
struct ws__inflation {
    size_t limit;  /* bytes of the largest message */
    bool text;     /* the result must be UTF-8 */
    size_t budget; /* units that may be spent; reduced by what was spent; may be raised again */
    /* Private: of a message that is not done, whose stream and space are nobody else's. */
    struct ws__deflate_stream *stream;
    struct ws__deflate_space space;
    size_t consumed, produced;
    uint32_t utf8;
    bool full;  /* the space was: perhaps there is more to come without further input */
    bool ended; /* with a block that says it is the last one */
};

/* Decompresses one whole message of at most m->limit bytes; never holds more than limit bytes and a
 * fixed amount. Checked as it comes out: the first byte that is one too many or cannot be UTF-8
 * decides, then the deflate data itself. *out (may be written to) is borrowed until the next
 * message is done and until ws__deflate_trim of this pool, and never NULL.
 * WS__INFLATE_MORE: *m holds the message as far as it got; to be called again with the same bytes,
 * or to be given up by ws__deflate_abandon. All other results end the message: an enum
 * ws__inflate_result, or WS_ENOMEM; when not WS__INFLATE_OK the stream begins anew, and WS_ENOMEM
 * may leave *out as it was. */
int ws__deflate_decompress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                           struct ws__deflate_streams *streams, struct ws__inflation *m,
                           const void *data, size_t length, char **out, size_t *out_length);

/* Frees what a message holds that is not done. */
void ws__deflate_abandon(struct ws__deflate_pool *pool, struct ws__inflation *m);

/* Gives back output space that is larger than most messages need. After messages, when nothing that
 * the two functions above put out is in use. */
void ws__deflate_trim(struct ws__deflate_pool *pool);

#endif
