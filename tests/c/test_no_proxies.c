/* SPDX-License-Identifier: MIT */
/*
 * test_no_proxies.c: a server that knows no proxies (-DWS_NO_PROXIES). E2.
 */
#include "one_client.h"

static void test_functions(void)
{
    static const char *const all[] = {"0.0.0.0/0", NULL}, *const none[] = {NULL};
    char address[46];
    ws_server *server;
    ws_listen_options options;
    harness_init(&h);
    h.config.trusted_proxies = all;
    is_int(ws_server_new(&server, &h.config), WS_ENOTSUP, "E2: trusted proxies");
    h.config.trusted_proxies = none;
    harness_start(&h);
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.proxy_protocol = true;
    is_int(ws_server_listen(h.server, &options), WS_ENOTSUP, "E2: a listener for PROXY headers");
    client_connect(&c, &h);
    client_say(&c, "GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                   "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    turns(&h, 2);
    ws_conn_remote_address(conn_at(&h, 0), address, sizeof address);
    is_text(address, "127.0.0.1", "E2: the client is whoever has connected");
    expect_alive();
    stop("no proxies");
}

static void cases(void)
{
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
