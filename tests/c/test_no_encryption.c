/* SPDX-License-Identifier: MIT */
/*
 * test_no_encryption.c: a server whose listeners do not speak TLS (-DWS_NO_TLS). E2.
 */
#include "one_client.h"

static void test_functions(void)
{
    ws_listen_options options;
    harness_init(&h);
    harness_start(&h);
    ws_listen_options_init(&options, sizeof options);
    options.host = "127.0.0.1";
    options.tls = &h.tls_table;
    is_int(ws_server_listen(h.server, &options), WS_ENOTSUP, "E2: a listener with TLS");
    options.tls = NULL;
    ok(ws_server_listen(h.server, &options) > 0, "one without");
    client_open(&c, &h);
    ok(!ws_conn_tls(conn_at(&h, 0)), "E2: ws_conn_tls");
    is_text(ws_conn_scheme(conn_at(&h, 0)), "ws", "the scheme");
    expect_alive();
    stop("no TLS");
}

static void cases(void)
{
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
