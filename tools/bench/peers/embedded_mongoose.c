/* SPDX-License-Identifier: MIT */
/* embedded_mongoose.c: the echo server that embedded.py measures of mongoose. */
#include "mongoose.h"

static void on_event(struct mg_connection *conn, int event, void *data)
{
    if (event == MG_EV_HTTP_MSG) {
        mg_ws_upgrade(conn, data, NULL);
    } else if (event == MG_EV_WS_MSG) {
        struct mg_ws_message *message = data;
        mg_ws_send(conn, message->data.buf, message->data.len, message->flags & 15);
    }
}

int main(void)
{
    struct mg_mgr manager;
    struct mg_connection *listener;

    mg_log_set(MG_LL_NONE);
    mg_mgr_init(&manager);
    listener = mg_http_listen(&manager, "http://127.0.0.1:0", on_event, NULL);
    if (listener == NULL)
        return 1;
    printf("listening on 127.0.0.1:%d\n", mg_ntohs(listener->loc.port));
    fflush(stdout);
    for (;;)
        mg_mgr_poll(&manager, 1000);
}
