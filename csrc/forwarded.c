/* SPDX-License-Identifier: MIT */
/*
 * forwarded.c: the client behind trusted proxies. RFC 7239 section 4 (the syntax of Forwarded),
 * section 6 (node identifiers), section 7.4 (X-Forwarded-For).
 */
#include "forwarded.h"
#ifndef WS_NO_PROXIES

#include <string.h>

/* ---- trust ---- */

struct network {
    struct ws__address address;
    int bits;
};

struct ws__proxies {
    size_t count;
    struct network all[];
};

static size_t proxies_size(size_t count)
{
    return sizeof(struct ws__proxies) + count * sizeof(struct network);
}

static bool parse_network(const char *text, struct network *network)
{
    const char *slash = strchr(text, '/');
    struct ws__text host = {text, slash ? (size_t)(slash - text) : strlen(text)};
    memset(network, 0, sizeof *network);
    if (!strcmp(text, "unix"))
        return true;
    if (!ws__net_parse_address(host.at, host.length, &network->address))
        return false;
    network->bits = 8 * network->address.length;
    if (slash)
        network->bits = ws__text_number(slash + 1, strlen(slash + 1), network->bits);
    return network->bits >= 0;
}

int ws__proxies_new(struct ws__proxies **proxies, struct ws__memory *memory,
                    const char *const *texts)
{
    size_t count = 0;
    while (texts && texts[count])
        count++;
    *proxies = NULL;
    if (!count)
        return WS_OK;
    struct ws__proxies *p = ws__memory_resize(memory, NULL, 0, proxies_size(count));
    if (!p)
        return WS_ENOMEM;
    p->count = count;
    *proxies = p;
    while (count && parse_network(texts[count - 1], &p->all[count - 1]))
        count--;
    return count ? WS_EINVAL : WS_OK;
}

void ws__proxies_free(struct ws__proxies *proxies, struct ws__memory *memory)
{
    if (proxies)
        ws__memory_free(memory, proxies, proxies_size(proxies->count));
}

static bool contains(const struct network *network, const struct ws__address *address)
{
    const uint8_t *a = network->address.bytes, *b = address->bytes;
    const size_t whole = (size_t)network->bits / 8;
    const int rest = network->bits % 8;
    return network->address.length == address->length && !memcmp(a, b, whole) &&
           (!rest || !((a[whole] ^ b[whole]) >> (8 - rest)));
}

bool ws__proxies_trust(const struct ws__proxies *proxies, const struct ws__address *address)
{
    size_t i = proxies ? proxies->count : 0;
    while (i && !contains(&proxies->all[i - 1], address))
        i--;
    return i;
}

/* ---- elements, from the right ---- */

struct place {
    int field;            /* what is left begins in it */
    struct ws__text rest; /* of it */
};

/* Takes the last element of the list, without what surrounds it. A comma between quotes does not
 * separate. Only a quote after "=" opens a quoted string (others are escaped), so nothing left of
 * an element can change where it begins. */
static struct ws__text take_last(struct ws__text *list)
{
    const char *at = list->at;
    size_t end = list->length, start = end;
    for (bool quoted = false; start && (quoted || at[start - 1] != ','); start--)
        if (at[start - 1] == '"')
            quoted = !quoted || (start > 1 && at[start - 2] != '=');
    list->length = start ? start - 1 : 0;
    while (start < end && ws__text_is(WS__TEXT_BLANK, at[start]))
        start++;
    while (start < end && ws__text_is(WS__TEXT_BLANK, at[end - 1]))
        end--;
    return (struct ws__text){at + start, end - start};
}

/* Takes the last element of the list that all fields called `name` form together. */
static bool last_element(const struct ws__http_head *head, const char *bytes, const char *name,
                         struct place *place, struct ws__text *element)
{
    for (;;) {
        while (place->rest.length) {
            *element = take_last(&place->rest);
            if (element->length)
                return true;
        }
        if (!place->field)
            return false;
        const struct ws__http_field *f = &head->fields[--place->field];
        if (ws__text_same(bytes + f->name.offset, f->name.length, name))
            place->rest = (struct ws__text){bytes + f->value.offset, f->value.length};
    }
}

/* Takes a token, "=" and a token or a quoted string, whose inside is the value. */
static bool take_pair(struct ws__text *in, struct ws__text *name, struct ws__text *value)
{
    *name = ws__text_take_token(in);
    if (!name->length || !ws__text_skip(in, '='))
        return false;
    const size_t quoted = in->length && *in->at == '"' ? ws__text_quoted_length(in) : 0;
    if (!quoted) {
        *value = ws__text_take_token(in);
        return value->length;
    }
    *value = (struct ws__text){in->at + 1, quoted - 2};
    in->at += quoted;
    in->length -= quoted;
    return true;
}

/* Reads forwarded-element: pairs that semicolons separate. `node` is the value of "for". */
static bool read_pairs(struct ws__text element, struct ws__text *node, struct ws__text *proto)
{
    struct ws__text name, value;
    bool separated = true;
    node->at = proto->at = NULL;
    for (;;) {
        while (ws__text_skip(&element, ';'))
            separated = true;
        if (!element.length)
            return node->at;
        if (!separated || !take_pair(&element, &name, &value))
            return false;
        struct ws__text *known = ws__text_same(name.at, name.length, "for")     ? node
                                 : ws__text_same(name.at, name.length, "proto") ? proto
                                                                                : NULL;
        if (known && known->at)
            return false; /* RFC 7239 4: "MUST NOT occur more than once" */
        if (known)
            *known = value;
        separated = false;
    }
}

/* ---- nodes ---- */

/* "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]:80", "2001:db8::1"; the port may be hidden ("_x"). */
static bool parse_node(struct ws__text node, struct ws__address *address)
{
    const char *end = node.at + node.length, *port = memchr(node.at, ':', node.length);
    struct ws__text host = node;
    if (*node.at == '[') {
        port = memchr(node.at, ']', node.length);
        if (!port || !memchr(node.at, ':', (size_t)(port - node.at)))
            return false;
        host = (struct ws__text){node.at + 1, (size_t)(port++ - node.at) - 1};
    } else if (port && !memchr(port + 1, ':', (size_t)(end - port) - 1)) {
        host.length = (size_t)(port - node.at);
    } else {
        port = end;
    }
    if (!ws__net_parse_address(host.at, host.length, address))
        return false;
    if (port == end)
        return true;
    const int number = ws__text_number(port + 1, (size_t)(end - port) - 1, UINT16_MAX);
    address->port = (uint16_t)(number > 0 ? number : 0);
    return *port == ':' && (number >= 0 || (end - port > 1 && port[1] == '_'));
}

static bool is_tls(struct ws__text scheme)
{
    return scheme.at && (ws__text_same(scheme.at, scheme.length, "https") ||
                         ws__text_same(scheme.at, scheme.length, "wss"));
}

/* Returns false if an entry names no address. Changes nothing without such a field. */
static bool walk(const struct ws__proxies *proxies, const struct ws__http_head *head,
                 const char *bytes, const char *name, struct ws__address *client)
{
    struct place place = {head->field_count, {NULL, 0}};
    struct ws__text node, proto = {NULL, 0};
    while (ws__proxies_trust(proxies, client) && last_element(head, bytes, name, &place, &node)) {
        struct ws__address next;
        if ((*name != 'x' && !read_pairs(node, &node, &proto)) || !node.length ||
            !parse_node(node, &next))
            return false;
        *client = next;
        client->secure = is_tls(proto);
    }
    return true;
}

bool ws__forwarded_client(const struct ws__proxies *proxies, const struct ws__http_head *head,
                          const char *bytes, struct ws__address *client)
{
    if (!ws__proxies_trust(proxies, client))
        return true;
    const bool standard = ws__http_find(head, bytes, "forwarded", 0) >= 0;
    struct ws__address a = *client, b = *client;
    const bool fine = walk(proxies, head, bytes, "forwarded", &a);
    const bool also = walk(proxies, head, bytes, "x-forwarded-for", &b);
    struct place place = {head->field_count, {NULL, 0}};
    struct ws__text proto;
    if (!standard) {
        *client = b;
        if (last_element(head, bytes, "x-forwarded-proto", &place, &proto))
            client->secure = is_tls(proto);
        return also;
    }
    if (ws__http_find(head, bytes, "x-forwarded-for", 0) >= 0 &&
        (a.length != b.length || memcmp(a.bytes, b.bytes, a.length)))
        return false;
    *client = a;
    return fine;
}

#endif
