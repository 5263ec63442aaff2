/* SPDX-License-Identifier: MIT */
/*
 * zlib.h: the names of zlib that deflate.c and its tests use, for the native interface of zlib-ng.
 * With -Dzlib=ng, this header is found instead of zlib's own; see docs/compression.md.
 */
#ifndef WS__ZLIB_NG_H
#define WS__ZLIB_NG_H

#include <zlib-ng.h>

typedef uint8_t Bytef;
typedef uint32_t uInt;
typedef zng_stream z_stream;
typedef zng_streamp z_streamp;

/* Members of structs also have these two names, so they cannot be macros. */
static inline int deflate(z_stream *z, int flush)
{
    return zng_deflate(z, flush);
}
static inline int inflate(z_stream *z, int flush)
{
    return zng_inflate(z, flush);
}

#define deflateEnd zng_deflateEnd
#define deflateInit2 zng_deflateInit2
#define deflateReset zng_deflateReset
#define inflateEnd zng_inflateEnd
#define inflateInit2 zng_inflateInit2
#define inflateReset zng_inflateReset
#define inflateResetKeep zng_inflateResetKeep

/* Only the tests use these. */
#define adler32(sum, data, length) ((unsigned long)zng_adler32((uint32_t)(sum), data, length))
#define deflateSetDictionary zng_deflateSetDictionary
#define inflateSetDictionary zng_inflateSetDictionary
#define zlibVersion() ("zlib-ng " ZLIBNG_VERSION)

#endif
