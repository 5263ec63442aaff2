/* SPDX-License-Identifier: MIT */
/*
 * proxy.c: the PROXY protocol, section 2.1 (version 1, text) and 2.2 (version 2, binary). Strict:
 * whoever may send this header decides about the address of the client.
 */
#include "proxy.h"
#ifndef WS_NO_PROXIES

#include <string.h>

#include "text.h"

enum { TEXT_MAX = 107, BINARY_MAX = 4096 }; /* of a line; after the fixed part of a header */

/* Takes what comes before the next space, or before the end of the line for the last word. */
static bool take_word(struct ws__text *line, bool last, struct ws__text *word)
{
    const char *space = memchr(line->at, ' ', line->length);
    if (last == (space != NULL))
        return false;
    *word = *line;
    if (last)
        return true;
    word->length = (size_t)(space - line->at);
    line->at = space + 1;
    line->length -= word->length + 1;
    return true;
}

/* "TCP4 192.0.2.1 192.0.2.2 56324 443", or "UNKNOWN" and anything. */
static bool read_line(struct ws__text line, struct ws__address *peer)
{
    struct ws__text words[5];
    struct ws__address addresses[2];
    int ports[2];
    if (line.length >= 7 && !memcmp(line.at, "UNKNOWN", 7))
        return line.length == 7 || line.at[7] == ' ';
    if (line.length < 5 || memcmp(line.at, "TCP", 3) || (line.at[3] != '4' && line.at[3] != '6'))
        return false;
    for (int i = 0; i < 5; i++)
        if (!take_word(&line, i == 4, &words[i]))
            return false;
    for (int i = 0; i < 2; i++) {
        const struct ws__text *host = &words[1 + i], *port = &words[3 + i];
        const bool v6 = memchr(host->at, ':', host->length);
        ports[i] = ws__text_number(port->at, port->length, UINT16_MAX);
        if (v6 != (words[0].at[3] == '6') || ports[i] < 0 ||
            !ws__net_parse_address(host->at, host->length, &addresses[i]))
            return false;
    }
    addresses[0].port = (uint16_t)ports[0];
    addresses[0].secure = peer->secure;
    *peer = addresses[0];
    return words[0].length == 4;
}

static int parse_text(const char *bytes, size_t length, struct ws__address *peer)
{
    const char *end = memchr(bytes, '\r', length < TEXT_MAX - 1 ? length : TEXT_MAX - 1);
    if (!end)
        return length < TEXT_MAX - 1 ? 0 : -1;
    const size_t n = (size_t)(end - bytes);
    if (length == n + 1)
        return 0;
    return end[1] == '\n' && read_line((struct ws__text){bytes + 6, n - 6}, peer) ? (int)n + 2 : -1;
}

static size_t two_bytes(const char *at)
{
    return (size_t)((uint8_t)at[0] << 8 | (uint8_t)at[1]);
}

/* Type, length and value of each: only PP2_TYPE_SSL is of interest. */
static bool read_extras(const char *at, size_t length, struct ws__address *peer)
{
    enum { TLS = 0x20, TLS_SIZE = 5, BY_TLS = 1 };
    while (length) {
        if (length < 3 || two_bytes(at + 1) > length - 3)
            return false;
        const size_t n = two_bytes(at + 1);
        if (*at == TLS && n < TLS_SIZE)
            return false;
        if (*at == TLS)
            peer->secure = at[3] & BY_TLS;
        at += 3 + n;
        length -= 3 + n;
    }
    return true;
}

static int parse_binary(const char *bytes, size_t length, struct ws__address *peer)
{
    enum { FIXED = 16, LOCAL = 0x20, BY_PROXY = 0x21, TCP4 = 0x11, TCP6 = 0x21, UNIX = 0x31 };
    if (length < FIXED)
        return 0;
    const size_t n = two_bytes(bytes + 14);
    const uint8_t command = (uint8_t)bytes[12], family = (uint8_t)bytes[13];
    const size_t each = family == TCP4 ? 4 : family == TCP6 ? 16 : 0;
    const size_t addresses = each ? 2 * each + 4 : family == UNIX ? 216 : 0;
    if ((command != LOCAL && command != BY_PROXY) || n > BINARY_MAX)
        return -1;
    if (length < FIXED + n)
        return 0;
    if (command == LOCAL) /* the proxy speaks for itself; the rest says nothing */
        return (int)(FIXED + n);
    if ((family && !addresses) || n < addresses)
        return -1;
    if (each) {
        const bool secure = peer->secure;
        ws__net_set_address(peer, bytes + FIXED, each);
        peer->secure = secure;
        peer->port = (uint16_t)two_bytes(bytes + FIXED + 2 * each);
    }
    return read_extras(bytes + FIXED + addresses, n - addresses, peer) ? (int)(FIXED + n) : -1;
}

int ws__proxy_parse(const char *bytes, size_t length, struct ws__address *peer)
{
    static const char text[] = "PROXY ", binary[] = "\r\n\r\n\0\r\nQUIT\n";
    const bool is_text = *bytes == 'P';
    const size_t n = is_text ? sizeof text - 1 : sizeof binary - 1;
    if (memcmp(bytes, is_text ? text : binary, length < n ? length : n))
        return -1;
    if (length < n)
        return 0;
    return is_text ? parse_text(bytes, length, peer) : parse_binary(bytes, length, peer);
}

#endif
