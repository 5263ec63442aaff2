/* SPDX-License-Identifier: MIT */
/* config.h: the settings of a server. */
#ifndef WS__CONFIG_H
#define WS__CONFIG_H

#include "ws.h"

/* Returns WS_OK, WS_EABI, or WS_EINVAL if a number is out of its range. */
int ws__config_check(const ws_config *config);

#endif
