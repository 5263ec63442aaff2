/* SPDX-License-Identifier: MIT */
/*
 * pack_none.c: see pack.h: there is no zlib.
 */
#include "pack.h"

bool pack_available(void)
{
    return false;
}

size_t pack(const void *data, size_t length, unsigned char *out, size_t room)
{
    (void)data;
    (void)length;
    (void)out;
    (void)room;
    return 0;
}

bool pack_gives(const unsigned char *packed, size_t length, const void *want, size_t want_length)
{
    (void)packed;
    (void)length;
    (void)want;
    (void)want_length;
    return false;
}
