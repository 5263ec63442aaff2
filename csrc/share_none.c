/* SPDX-License-Identifier: MIT */
/*
 * share_none.c: takes the place of share.c with -DWS_NO_TOPICS. Nothing is published then.
 */
#include "share.h"
#ifdef WS_NO_TOPICS

void ws__share_queue(ws_conn *c)
{
    (void)c;
}

void ws__share_send(ws_conn *c)
{
    (void)c;
}

void ws__share_flush(struct ws__hub *hub)
{
    (void)hub;
}

#endif
