/* SPDX-License-Identifier: MIT */
/* config.c: the settings of a server: their defaults, and whether they are in their ranges. */
#include "config.h"

#include <string.h>
#include <time.h>

static uint64_t system_time(void *user)
{
    (void)user;
    return (uint64_t)time(NULL);
}

int ws_config_init(ws_config *config, size_t size)
{
    if (size != sizeof *config)
        return WS_EABI;
    memset(config, 0, sizeof *config);
    config->size = size;
    config->wall_clock = system_time;
    config->max_response_backpressure = 1024 * 1024;
    config->max_connections = 1000000;
    config->max_header_size = 16 * 1024;
    config->max_headers = 100;
    config->recv_buffer_size = 256 * 1024;
    config->cork_size = 64 * 1024;
    config->handshake_timeout = 10000;
    config->keep_alive_timeout = 10000;
    config->body_timeout = 30000;
    config->upgrade_timeout = 30000;
    return WS_OK;
}

static bool in_range(uint32_t value, uint32_t low, uint32_t high)
{
    return value >= low && value <= high;
}

int ws__config_check(const ws_config *config)
{
    if (config->size != sizeof *config)
        return WS_EABI;
    return in_range(config->max_connections, 1, 16000000) &&
                   in_range(config->max_header_size, 1024, 1024 * 1024) &&
                   in_range(config->max_headers, 1, 10000) &&
                   in_range(config->recv_buffer_size, 4096, 16 * 1024 * 1024) &&
                   in_range(config->cork_size, 1024, 16 * 1024 * 1024) &&
                   config->handshake_timeout && config->keep_alive_timeout &&
                   config->body_timeout && config->upgrade_timeout &&
                   config->max_handshakes_per_second_per_address <= 1000000
               ? WS_OK
               : WS_EINVAL;
}
