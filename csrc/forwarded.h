/* SPDX-License-Identifier: MIT */
/*
 * forwarded.h: which proxies are trusted, and who the client behind them is: Forwarded (RFC 7239)
 * and X-Forwarded-For. Sans-IO. Fields of a peer that is not trusted are never looked at.
 */
#ifndef WS__FORWARDED_H
#define WS__FORWARDED_H

#include "buffer.h"
#include "http.h"
#include "net.h"

struct ws__proxies;

/* Parses a NULL-terminated list of addresses, networks and "unix", which may be NULL. Sets *proxies
 * to NULL if it is empty. Returns WS_OK, WS_EINVAL or WS_ENOMEM. */
int ws__proxies_new(struct ws__proxies **proxies, struct ws__memory *memory,
                    const char *const *texts);
void ws__proxies_free(struct ws__proxies *proxies, struct ws__memory *memory);
/* `proxies` may be NULL. */
bool ws__proxies_trust(const struct ws__proxies *proxies, const struct ws__address *address);

/* Replaces the address of a peer, and whether it uses TLS, by what trusted proxies say about their
 * client. Proxies append to these fields, and what lies left of a trusted one's entry may be a lie
 * of its client. So the walk goes from the right to the first address that is not trusted; the
 * last address is that of the client, also where the walk ends because no further one is known.
 * Returns false if that is because an entry names no address, or because Forwarded and
 * X-Forwarded-For contradict each other: a proxy that writes one of them may pass on its client's
 * other one. */
bool ws__forwarded_client(const struct ws__proxies *proxies, const struct ws__http_head *head,
                          const char *bytes, struct ws__address *client);

#endif
