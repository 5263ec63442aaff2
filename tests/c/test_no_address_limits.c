/* SPDX-License-Identifier: MIT */
/*
 * test_no_address_limits.c: a server without limits for one address
 * (-DWS_NO_ADDRESS_LIMITS). E2.
 */
#include "one_client.h"

static void test_functions(void)
{
    ws_server *server;
    harness_init(&h);
    h.config.max_connections_per_address = 1;
    is_int(ws_server_new(&server, &h.config), WS_ENOTSUP, "E2: max_connections_per_address");
    h.config.max_connections_per_address = 0;
    h.config.max_handshakes_per_second_per_address = 1;
    is_int(ws_server_new(&server, &h.config), WS_ENOTSUP,
           "E2: max_handshakes_per_second_per_address");
    h.config.max_handshakes_per_second_per_address = 0;
    harness_start(&h);
    client_open(&c, &h);
    expect_alive();
    is_int((long long)stats_of(&h).limited, 0, "E2: no one is refused");
    stop("no limits");
}

static void cases(void)
{
    CASE(test_functions());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
