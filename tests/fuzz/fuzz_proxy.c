/* SPDX-License-Identifier: MIT */
/*
 * fuzz_proxy.c: what tells who the client behind a proxy is, see csrc/proxy.h and csrc/forwarded.h.
 * The bytes are a PROXY header, which grows byte by byte, or, by the flags, the value of a field to
 * which a proxy appends the address of its client, or all fields of a head.
 * flags: 0 a PROXY header, 1 Forwarded, 2 X-Forwarded-For, 3 a head.
 */
#include "forwarded.h"
#include "fuzz.h"
#include "guard.h"
#include "proxy.h"

enum { PROXY, FORWARDED, X_FORWARDED_FOR, HEAD, MOST = 60000 };

static const struct ws__address socket_address = {.bytes = {10, 0, 0, 1}, .port = 9, .length = 4};

static int parse(const struct fuzz_input *input, size_t n, struct ws__address *peer)
{
    *peer = socket_address;
    return ws__proxy_parse((const char *)guard_copy(input->data, n), n, peer);
}

static void read_header(const struct fuzz_input *input)
{
    struct ws__address peer, whole;
    if (!input->length)
        return;
    const int result = parse(input, input->length, &whole);
    must(result >= -1 && result <= (int)input->length && result <= 16 + 4096, "%d", result);
    must(whole.length == 4 || whole.length == 16, "an address of %d bytes", whole.length);
    for (size_t n = 1; n <= input->length && n < 5000; n++) {
        const int part = parse(input, n, &peer);
        if (!part)
            continue;
        must(part == -1 ? result == -1 : part == (int)n, "%d after %zu bytes", part, n);
        must(part == result, "%d with more bytes, %d without", result, part);
        must(part < 0 || !memcmp(&peer, &whole, sizeof peer), "another address");
        return;
    }
    must(!result || input->length >= 5000, "%d, but 0 after each byte", result);
}

/* The client that the fields name, if the head is valid. */
static bool client_of(const char *text, size_t n, struct ws__address *client)
{
    static const char *const trusted[] = {"10.0.0.0/8", "fd00::/8", NULL};
    static struct ws__http_field fields[100];
    struct ws__http_head head = {.fields = fields, .max_fields = 100};
    struct ws__memory memory;
    struct ws__proxies *proxies;
    const char *bytes = (const char *)guard_copy(text, n);
    if (ws__http_parse(&head, bytes, n, 2 * MOST) <= 0)
        return false;
    ws__memory_init(&memory, NULL, 0);
    must(!ws__proxies_new(&proxies, &memory, trusted), "a list of proxies");
    *client = socket_address;
    const bool believed = ws__forwarded_client(proxies, &head, bytes, client);
    must(client->length == 4 || client->length == 16, "an address of %d bytes", client->length);
    must(believed || ws__proxies_trust(proxies, client), "a client of a list that is wrong");
    ws__proxies_free(proxies, &memory);
    must(!memory.used, "%zu bytes are left", memory.used);
    return true;
}

/* Whatever stands left of it, the entry of the trusted proxy decides. */
static void read_appended(const struct fuzz_input *input, const char *name, const char *entry)
{
    static char text[2 * MOST];
    struct ws__address client;
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n%s: ", name);
    memcpy(text + n, input->data, input->length);
    n += input->length;
    n += (size_t)sprintf(text + n, ",%s\r\n\r\n", entry);
    if (memchr(input->data, '\n', input->length) || !client_of(text, n, &client))
        return;
    must(client.length == 4 && !memcmp(client.bytes, "\300\0\2\1", 4) && client.port == 7,
         "a client has chosen its address");
    must(client.secure == (*name == 'F'), "a client has chosen its scheme");
}

static void read_head(const struct fuzz_input *input)
{
    static char text[2 * MOST];
    struct ws__address client;
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
    memcpy(text + n, input->data, input->length);
    client_of(text, n + input->length, &client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_read(&input, data, size) || input.length > MOST)
        return 0;
    switch (input.flags & 3) {
    case PROXY:
        read_header(&input);
        break;
    case FORWARDED:
        read_appended(&input, "Forwarded",
                      "for=\"192.0.2.1:7\";proto=https;host=\"a\\\",for=192.0.2.9\"");
        break;
    case X_FORWARDED_FOR:
        read_appended(&input, "X-Forwarded-For", "192.0.2.1:7");
        break;
    case HEAD:
        read_head(&input);
        break;
    }
    return 0;
}
