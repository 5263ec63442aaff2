/* SPDX-License-Identifier: MIT */
/*
 * handshake.c: the server's side of the opening handshake (RFC 6455 section 4.2): the rules that a
 * well-formed HTTP request must meet, and the response to its key.
 * Knows nothing of sockets, routes or what an extension means.
 */
#include "handshake.h"

#include <string.h>

#include "sha1.h"

bool ws__handshake_is_upgrade(const struct ws__http_head *head, const char *bytes)
{
    return ws__http_list_has(head, bytes, "upgrade", "websocket");
}

/* Returns the value of the field called `name`, or NULL if there is no such field or more than
 * one. */
static const char *only(const struct ws__http_head *head, const char *bytes, const char *name,
                        uint32_t *length)
{
    const int i = ws__http_find(head, bytes, name, 0);
    if (i < 0 || ws__http_find(head, bytes, name, i + 1) >= 0)
        return NULL;
    *length = head->fields[i].value.length;
    return bytes + head->fields[i].value.offset;
}

static bool is_base64(char c)
{
    return ws__text_is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

/* RFC 6455 4.2.1 item 5: a base64-encoded value "that, when decoded, is 16 bytes in length". The
 * pad bits need not be zero: the 24 characters themselves are hashed, and an example of the RFC has
 * pad bits that are set. */
static bool is_key(const char *text, uint32_t length)
{
    int i = 0;
    if (length != 24)
        return false;
    while (i < 22 && is_base64(text[i]))
        i++;
    return i == 22 && text[22] == '=' && text[23] == '=';
}

static bool protocols_are_tokens(const struct ws__http_head *head, const char *bytes)
{
    struct ws__http_list list = {0};
    struct ws__text name;
    while (ws__http_next_element(head, bytes, "sec-websocket-protocol", &list, &name))
        if (!ws__text_is_token(name.at, name.length))
            return false;
    return true;
}

/* RFC 6455 9.1: an extension is a token and its parameters. */
static bool is_extension(struct ws__text offer)
{
    struct ws__text_parameter parameter;
    int more = ws__text_take_token(&offer).length ? 1 : -1;
    while (more > 0)
        more = ws__text_next_parameter(&offer, &parameter);
    return !more;
}

static bool extensions_are_fine(const struct ws__http_head *head, const char *bytes)
{
    struct ws__http_list list = {0};
    struct ws__text offer;
    while (ws__http_next_element(head, bytes, "sec-websocket-extensions", &list, &offer))
        if (!is_extension(offer))
            return false;
    return true;
}

/* RFC 6455 4.2.2 item 4 and 10.2. Where a list is given, a request without Origin is refused as
 * well, unless it is optional: browsers always send an Origin, other programs seldom do. */
static bool origin_allowed(const struct ws__http_head *head, const char *bytes,
                           const char *const *origins, bool optional)
{
    uint32_t length;
    const char *origin = only(head, bytes, "origin", &length);
    if (optional && ws__http_find(head, bytes, "origin", 0) < 0)
        return true;
    for (; origin && *origins; origins++)
        if (ws__text_same(origin, length, *origins))
            return true;
    return false;
}

static int deny(int status, const char **why, const char *text)
{
    *why = text;
    return -status;
}

int ws__handshake_check(const struct ws__http_head *head, const char *bytes, bool has_body,
                        const char *const *origins, bool origin_optional, const char **why)
{
    const char *text;
    uint32_t length = 0;
    *why = "";
    if (has_body)
        return deny(400, why, "an opening handshake must not have a body");
    /* RFC 6455 4.2.1, item by item. */
    if (head->method.length != 3 || memcmp(bytes + head->method.offset, "GET", 3))
        return deny(405, why, "the method of an opening handshake must be GET");
    if (head->minor == 0)
        return deny(400, why, "an opening handshake needs HTTP/1.1");
    if (!ws__http_list_has(head, bytes, "connection", "upgrade"))
        return deny(400, why, "the Connection header does not list upgrade");
    text = only(head, bytes, "sec-websocket-version", &length);
    if (!text || length != 2 || memcmp(text, "13", 2)) /* RFC 6455 4.2.2 item 4, 4.4 */
        return deny(426, why, "Sec-WebSocket-Version is not 13");
    text = only(head, bytes, "sec-websocket-key", &length);
    if (!text || !is_key(text, length))
        return deny(400, why, "Sec-WebSocket-Key is not one base64 value of 16 bytes");
    if (!protocols_are_tokens(head, bytes))
        return deny(400, why, "Sec-WebSocket-Protocol is not a list of tokens");
    if (!extensions_are_fine(head, bytes))
        return deny(400, why, "Sec-WebSocket-Extensions is malformed");
    if (origins && !origin_allowed(head, bytes, origins, origin_optional))
        return deny(403, why, "Origin is not allowed");
    return 0;
}

bool ws__handshake_offered(const struct ws__http_head *head, const char *bytes, const char *name,
                           size_t length)
{
    struct ws__http_list list = {0};
    struct ws__text offer;
    while (ws__http_next_element(head, bytes, "sec-websocket-protocol", &list, &offer))
        if (offer.length == length && !memcmp(offer.at, name, length))
            return true;
    return false;
}

const char *ws__handshake_select(const struct ws__http_head *head, const char *bytes,
                                 const char *const *names)
{
    struct ws__http_list list = {0};
    struct ws__text offer;
    if (!names)
        return NULL;
    while (ws__http_next_element(head, bytes, "sec-websocket-protocol", &list, &offer))
        for (const char *const *name = names; *name; name++)
            if (strlen(*name) == offer.length && !memcmp(offer.at, *name, offer.length))
                return *name;
    return NULL;
}

/* Writes 20 bytes as base64: 27 characters, one "=", and NUL. */
static void encode(const uint8_t digest[20], char out[29])
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 7; i++) {
        const uint32_t last = i < 6 ? digest[3 * i + 2] : 0;
        const uint32_t group =
            (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | last;
        for (int k = 0; k < 4; k++)
            out[4 * i + k] = alphabet[group >> (18 - 6 * k) & 63];
    }
    out[27] = '=';
    out[28] = '\0';
}

bool ws__handshake_deflate(const struct ws__http_head *head, const char *bytes, unsigned options,
                           struct ws__deflate_terms *terms)
{
    struct ws__http_list list = {0};
    struct ws__text offer;
    while (options &&
           ws__http_next_element(head, bytes, "sec-websocket-extensions", &list, &offer))
        if (ws__deflate_accept(offer.at, offer.length, options, terms))
            return true;
    return false;
}

void ws__handshake_accept(const struct ws__http_head *head, const char *bytes, char accept[29])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const int i = ws__http_find(head, bytes, "sec-websocket-key", 0);
    char text[24 + sizeof(guid) - 1];
    uint8_t digest[20];
    memcpy(text, bytes + head->fields[i].value.offset, 24);
    memcpy(text + 24, guid, sizeof(guid) - 1);
    ws__sha1(text, sizeof(text), digest);
    encode(digest, accept);
}
