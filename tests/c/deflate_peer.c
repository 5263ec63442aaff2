/* SPDX-License-Identifier: MIT */
/*
 * deflate_peer.c: a client that speaks permessage-deflate, see deflate_peer.h.
 */
#include "deflate_peer.h"

#include <stdlib.h>

struct harness h;
struct peer p;
char fill_bytes[1000], hex[SPACE], noise[4096], expected[16384];

void make_data(void)
{
    uint32_t state = 12345;
    for (size_t i = 0; i < sizeof hex; i++) {
        state = state * 1664525 + 1013904223;
        hex[i] = "0123456789abcdef"[state >> 28];
        if (i < sizeof noise)
            noise[i] = (char)(state >> 23);
    }
}

/* ---- the peer ---- */

static void label(char *to, size_t size, const char *data, size_t n)
{
    if (n <= 40)
        snprintf(to, size, "%s%.*s", n ? " " : "", (int)n, data);
    else
        snprintf(to, size, " [%zu %lx]", n, adler32(1, (const Bytef *)data, (uInt)n));
}

void peer_connect(struct peer *peer, bool small, const char *extensions)
{
    char request[1024];
    memset(peer, 0, sizeof *peer);
    deflateInit2(&peer->out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    inflateInit2(&peer->in, -15);
    (small ? client_connect_small : client_connect)(&peer->c, &h);
    snprintf(request, sizeof request, "%.*s%s%s%s\r\n", (int)strlen(handshake_request) - 2,
             handshake_request, extensions ? "Sec-WebSocket-Extensions: " : "",
             extensions ? extensions : "", extensions ? "\r\n" : "");
    client_say(&peer->c, request);
    client_responses(&peer->c);
    peer->isolated = head_has(&peer->c, "server_no_context_takeover");
    peer->isolates = head_has(&peer->c, "client_no_context_takeover");
}

void peer_close(struct peer *peer)
{
    deflateEnd(&peer->out);
    inflateEnd(&peer->in);
    client_close(&peer->c);
    turns(&h, 3);
}

void start_with(unsigned compression, size_t max_payload)
{
    harness_init(&h);
    h.behavior.compression = compression;
    if (max_payload)
        h.behavior.max_payload_length = max_payload;
}

void start(unsigned compression)
{
    start_with(compression, 0);
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    harness_events(&h);
}

void stop(const char *name)
{
    peer_close(&p);
    harness_stop(&h, name);
}

size_t pack(struct peer *peer, const void *data, size_t n, char *to)
{
    if (peer->isolates)
        deflateReset(&peer->out);
    peer->out.next_in = (const Bytef *)data;
    peer->out.avail_in = (uInt)n;
    peer->out.next_out = (Bytef *)to;
    peer->out.avail_out = SPACE;
    deflate(&peer->out, Z_SYNC_FLUSH);
    if (peer->out.avail_out == SPACE) { /* zlib does not flush twice (RFC 7692 7.2.3.6) */
        *to = 0;
        return 1;
    }
    return SPACE - peer->out.avail_out - 4;
}

void say_packed(struct peer *peer, int first, const void *data, size_t n)
{
    char *bytes = malloc(SPACE);
    if (bytes)
        client_frame(&peer->c, first, bytes, pack(peer, data, n, bytes));
    free(bytes);
}

/* Inflates a message of the server, with the four bytes that it left out. */
static bool unpack(struct peer *peer, const char *data, size_t n, char *to, size_t *length)
{
    static const char tail[4] = {0, 0, (char)0xff, (char)0xff};
    if (peer->isolated)
        inflateReset(&peer->in);
    peer->in.next_out = (Bytef *)to;
    peer->in.avail_out = SPACE;
    for (int i = 0; i < 2; i++) {
        peer->in.next_in = (const Bytef *)(i ? tail : data);
        peer->in.avail_in = i ? 4 : (uInt)n;
        int status = inflate(&peer->in, Z_SYNC_FLUSH);
        if ((status != Z_OK && status != Z_BUF_ERROR) || peer->in.avail_in)
            return false;
    }
    *length = SPACE - peer->in.avail_out;
    return true;
}

static void note(struct peer *peer, const char *kind, const char *data, size_t n)
{
    char text[128];
    size_t at = strlen(peer->seen);
    label(text, sizeof text, data, n);
    if (at + 160 < sizeof peer->seen)
        snprintf(peer->seen + at, 160, "%s%s%s", at ? ", " : "", kind, text);
}

static void take_message(struct peer *peer, int first, int frames, const char *data, size_t n)
{
    static char inflated[SPACE];
    char kind[32];
    bool compressed = first & 0x40;
    snprintf(kind, sizeof kind, "%s%s", compressed ? "z" : "",
             (first & 15) == WS_TEXT ? "TEXT" : "BINARY");
    if (frames > 1)
        snprintf(kind + strlen(kind), 16, "/%d", frames);
    if (!compressed && n == sizeof fill_bytes && !memcmp(data, fill_bytes, n))
        return;
    if (!compressed)
        note(peer, kind, data, n);
    else if (unpack(peer, data, n, inflated, &n))
        note(peer, kind, inflated, n);
    else
        note(peer, "BROKEN", "", 0);
}

const char *peer_messages(struct peer *peer)
{
    static char message[SPACE];
    size_t done = 0, length = 0;
    int first = 0, frames = 0;
    client_drain(&peer->c);
    peer->seen[0] = '\0';
    while (peer->c.in_length - done >= 2) {
        const unsigned char *head = (const unsigned char *)peer->c.in + done;
        size_t n = head[1], header = n < 126 ? 2 : n == 126 ? 4 : 10;
        if (n >= 126) {
            n = 0;
            for (size_t i = 2; i < header; i++)
                n = n << 8 | head[i];
        }
        if (peer->c.in_length - done < header + n)
            break;
        const char *data = (const char *)head + header;
        done += header + n;
        if (head[0] == 0x88) {
            char code[16];
            snprintf(code, sizeof code, "CLOSE %d", n ? head[2] << 8 | head[3] : 0);
            note(peer, code, "", 0);
        } else if (head[0] & 8) {
            note(peer, (head[0] & 15) == WS_PING ? "PING" : "PONG", data, n);
        } else {
            if (head[0] & 15) {
                first = head[0];
                length = 0;
                frames = 0;
            } else if (head[0] & 0x70) {
                note(peer, "RSV", "", 0); /* RFC 7692 6.1: only on the first */
            }
            frames++;
            memcpy(message + length, data, n);
            length += n;
            if (head[0] & 0x80)
                take_message(peer, first, frames, message, length);
        }
    }
    if (done < peer->c.in_length)
        note(peer, "REST", "", 0);
    peer->c.in_length = 0;
    return peer->seen;
}

void expect(const char *kind, const char *data, size_t n)
{
    char text[128];
    size_t at = strlen(expected);
    label(text, sizeof text, data, n);
    snprintf(expected + at, sizeof expected - at, "%s%s%s", at ? ", " : "", kind, text);
}

void is_seen(const char *want, const char *name)
{
    is_text(peer_messages(&p), want, name);
}

void is_expected(const char *name)
{
    is_seen(expected, name);
    expected[0] = '\0';
}

size_t zlib_memory(void)
{
    return stats_of(&h).compression_memory;
}

size_t pack_once(const void *data, size_t n, char *to)
{
    struct peer maker;
    memset(&maker, 0, sizeof maker);
    deflateInit2(&maker.out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    n = pack(&maker, data, n, to);
    deflateEnd(&maker.out);
    return n;
}

size_t store(char *to, size_t n, int empty)
{
    size_t at = 0;
    for (int i = -1; i < empty; i++) {
        size_t length = i < 0 ? n : 0;
        to[at++] = 0;
        to[at++] = (char)(length & 0xff);
        to[at++] = (char)(length >> 8);
        to[at++] = (char)(~length & 0xff);
        to[at++] = (char)(~length >> 8 & 0xff);
        memset(to + at, 's', length);
        at += length;
    }
    to[at++] = 0;
    return at;
}
