/* SPDX-License-Identifier: MIT */
/* embedded_libwebsockets.c: the echo server that embedded.py measures of libwebsockets. */
#include <libwebsockets.h>

#include <stdio.h>
#include <string.h>

static unsigned char message[LWS_PRE + 4096];

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *data,
                    size_t length)
{
    (void)user;
    if (reason != LWS_CALLBACK_RECEIVE)
        return 0;
    if (length > sizeof message - LWS_PRE)
        return -1;
    memcpy(message + LWS_PRE, data, length);
    return lws_write(wsi, message + LWS_PRE, length, LWS_WRITE_TEXT) < 0;
}

int main(void)
{
    static const struct lws_protocols protocols[] = {{.name = "echo", .callback = on_event}, {0}};
    struct lws_context_creation_info info = {0};
    struct lws_context *context;

    lws_set_log_level(0, NULL);
    info.iface = "127.0.0.1";
    info.protocols = protocols;
    context = lws_create_context(&info);
    if (context == NULL)
        return 1;
    printf("listening on 127.0.0.1:%d\n",
           lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default")));
    fflush(stdout);
    while (lws_service(context, 0) >= 0)
        continue;
    return 1;
}
