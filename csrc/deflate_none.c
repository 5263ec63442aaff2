/* SPDX-License-Identifier: MIT */
/*
 * deflate_none.c: takes the place of deflate.c with -DWS_NO_DEFLATE, which needs no zlib. Every
 * offer is declined, so nothing is ever compressed or decompressed.
 */
#include "deflate.h"
#ifdef WS_NO_DEFLATE

bool ws__deflate_available(void)
{
    return false;
}

bool ws__deflate_options_valid(unsigned options)
{
    (void)options; /* the error for any compression is then WS_ENOTSUP, not WS_EINVAL */
    return true;
}

bool ws__deflate_accept(const char *offer, size_t length, unsigned options,
                        struct ws__deflate_terms *terms)
{
    (void)offer;
    (void)length;
    (void)options;
    (void)terms;
    return false;
}

size_t ws__deflate_answer(const struct ws__deflate_terms *terms,
                          char answer[WS__DEFLATE_ANSWER_MAX])
{
    (void)terms;
    answer[0] = '\0';
    return 0;
}

void ws__deflate_pool_deinit(struct ws__deflate_pool *pool)
{
    (void)pool;
}

void ws__deflate_streams_deinit(struct ws__deflate_pool *pool, struct ws__deflate_streams *streams)
{
    (void)pool;
    (void)streams;
}

int ws__deflate_compress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                         struct ws__deflate_streams *streams, const void *data, size_t length,
                         bool first, bool last, const char **out, size_t *out_length)
{
    (void)pool;
    (void)terms;
    (void)streams;
    (void)data;
    (void)length;
    (void)first;
    (void)last;
    (void)out;
    (void)out_length;
    return WS_ENOMEM;
}

void ws__deflate_forget(struct ws__deflate_streams *streams)
{
    (void)streams;
}

int ws__deflate_decompress(struct ws__deflate_pool *pool, const struct ws__deflate_terms *terms,
                           struct ws__deflate_streams *streams, struct ws__inflation *m,
                           const void *data, size_t length, char **out, size_t *out_length)
{
    (void)pool;
    (void)terms;
    (void)streams;
    (void)m;
    (void)data;
    (void)length;
    (void)out;
    (void)out_length;
    return WS_ENOMEM;
}

void ws__deflate_abandon(struct ws__deflate_pool *pool, struct ws__inflation *m)
{
    (void)pool;
    (void)m;
}

void ws__deflate_trim(struct ws__deflate_pool *pool, size_t keep)
{
    (void)pool;
    (void)keep;
}

#endif
