/* SPDX-License-Identifier: MIT */
/*
 * inflate_none.c: takes the place of inflate.c with -DWS_NO_DEFLATE. No message is compressed then:
 * protocol.c refuses the bit that would say so.
 */
#include "inflate.h"
#ifdef WS_NO_DEFLATE

void ws__inflate_forget(ws_conn *c)
{
    (void)c;
}

enum ws__inflated ws__inflate_message(ws_conn *c, struct ws__event *event, uint64_t *share)
{
    (void)c;
    (void)event;
    (void)share;
    return WS__INFLATED_LATER;
}

enum ws__inflated ws__inflate_resume(ws_conn *c, struct ws__event *event)
{
    (void)c;
    (void)event;
    return WS__INFLATED_LATER;
}

#endif
