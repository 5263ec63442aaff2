/*
 * test_conn_deflate.c: permessage-deflate (RFC 7692) through a running server: what arrives
 * compressed in every split, what leaves compressed to a peer that keeps its window, and what
 * compression holds of memory. The peer's side is zlib's.
 */
#include "harness.h"

#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
    SHARED = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR,
    DEDICATED = WS_DEDICATED_COMPRESSOR_256KB | WS_DEDICATED_DECOMPRESSOR_32KB,
    ZTEXT = WS_TEXT | WS_COMPRESS,
    ZBINARY = WS_BINARY | WS_COMPRESS,
    SPACE = 1 << 20
};

/* A client that speaks permessage-deflate, with a window that it keeps. */
struct peer {
    struct client c;
    z_stream in, out;
    bool isolated; /* each message of the server is a stream of its own */
    bool isolates; /* and each of ours */
    char seen[16384];
};

static struct harness h;
static struct peer p;
static char fill_bytes[1000], hex[SPACE], noise[4096], expected[16384];

static void make_data(void)
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

static void peer_connect(struct peer *peer, bool small, const char *extensions)
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

static void peer_close(struct peer *peer)
{
    deflateEnd(&peer->out);
    inflateEnd(&peer->in);
    client_close(&peer->c);
    turns(&h, 3);
}

static void start_with(unsigned compression, size_t max_payload)
{
    harness_init(&h);
    h.behavior.compression = compression;
    if (max_payload)
        h.behavior.max_payload_length = max_payload;
}

static void start(unsigned compression)
{
    start_with(compression, 0);
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    harness_events(&h);
}

static void stop(const char *name)
{
    peer_close(&p);
    harness_stop(&h, name);
}

/* A message as it stands in a frame with RSV1. */
static size_t pack(struct peer *peer, const void *data, size_t n, char *to)
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

static void say_packed(struct peer *peer, int first, const void *data, size_t n)
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

/* All messages received: "zTEXT hello, BINARY/3 abc, PONG x, CLOSE 1000"; z: compressed, /3: in so
 * many frames; "[length checksum]" above 40 bytes. Plain fill_bytes are left out. */
static const char *peer_messages(struct peer *peer)
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

static void expect(const char *kind, const char *data, size_t n)
{
    char text[128];
    size_t at = strlen(expected);
    label(text, sizeof text, data, n);
    snprintf(expected + at, sizeof expected - at, "%s%s%s", at ? ", " : "", kind, text);
}

static void is_seen(const char *want, const char *name)
{
    is_text(peer_messages(&p), want, name);
}

static void is_expected(const char *name)
{
    is_seen(expected, name);
    expected[0] = '\0';
}

static size_t zlib_memory(void)
{
    return stats_of(&h).compression_memory;
}

/* ---- negotiation ---- */

static void decline(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                    const char *data, size_t length)
{
    (void)harness, (void)conn, (void)data, (void)length;
    if (event != ON_UPGRADE)
        return;
    ws_request_decline_extensions(request);
    ws_request_upgrade(request, NULL, 0, NULL);
}

static void is_compression(unsigned options, const char *offer, const char *want)
{
    char text[128], short_text[8], line[256];
    start_with(options, 0);
    harness_start(&h);
    peer_connect(&p, false, offer);
    size_t n = ws_conn_compression(conn_at(&h, 0), text, sizeof text);
    snprintf(line, sizeof line, "X1-X6: %x with \"%s\": ws_conn_compression", options,
             offer ? offer : "");
    is_text(text, want, line);
    is_int((long long)n, (long long)strlen(want), "its length");
    is_int((long long)ws_conn_compression(conn_at(&h, 0), short_text, sizeof short_text),
           (long long)n, "also when it is cut");
    ok(!strncmp(short_text, want, 7) && strlen(short_text) < 8, "cut, and terminated");
    is_int((long long)ws_conn_compression(conn_at(&h, 0), NULL, 0), (long long)n, "no room");
    snprintf(line, sizeof line, "Sec-WebSocket-Extensions: %s\r\n", want);
    ok(*want ? head_has(&p.c, line) : !head_has(&p.c, "Extensions"), "the same is in the 101");
    stop("negotiation");
}

static void test_negotiation(void)
{
    is_compression(0, "permessage-deflate", "");
    is_compression(SHARED, NULL, "");
    is_compression(SHARED, "x-other, permessage-deflate; nonsense", "");
    is_compression(SHARED, "permessage-deflate",
                   "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    is_compression(DEDICATED, "permessage-deflate; client_max_window_bits", "permessage-deflate");
    is_compression(DEDICATED, "permessage-deflate; a=b, permessage-deflate; "
                              "server_max_window_bits=10; client_max_window_bits=11",
                   "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11");
    is_compression(WS_DEDICATED_COMPRESSOR_8KB, "permessage-deflate; server_no_context_takeover",
                   "permessage-deflate; server_no_context_takeover; client_no_context_takeover");

    start_with(DEDICATED, 0);
    h.answers = true;
    h.hook = decline;
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    char text[128];
    ok(!head_has(&p.c, "Extensions"), "ws_request_decline_extensions: none in the 101");
    is_int((long long)ws_conn_compression(conn_at(&h, 0), text, sizeof text), 0, "and none agreed");
    ws_conn_send(conn_at(&h, 0), hex, 500, ZTEXT);
    expect("TEXT", hex, 500);
    is_expected("X13: WS_COMPRESS sends plain then");
    harness_events(&h);
    client_frame(&p.c, 0xc1, "abc", 3);
    turns(&h, 2);
    is_events(&h, "close 1002 reserved bits set without an extension", "X7, F1: RSV1 is refused");
    stop("declined");
}

/* ---- what arrives: every split ---- */

struct script {
    char bytes[8192];
    size_t n;
};

static void put(struct script *s, int first, const void *data, size_t n)
{
    s->n += make_frame(s->bytes + s->n, first, data, n);
}

/* Split before byte `at`; 0: whole; -1: byte by byte. */
static void deliver(const struct script *s, long at)
{
    size_t done = 0;
    peer_connect(&p, false, "permessage-deflate");
    harness_events(&h);
    while (done < s->n) {
        size_t n = at < 0 ? 1 : at && !done ? (size_t)at : s->n - done;
        client_write(&p.c, s->bytes + done, n);
        turns(&h, 1);
        done += n;
    }
    turns(&h, 2);
}

static void is_every_split(const struct script *s, const char *events, const char *replies,
                           const char *name)
{
    long wrong = 0, right = 0;
    for (long at = -1; at < (long)s->n; at++) {
        deliver(s, at);
        const char *got = harness_events(&h);
        bool good = !strcmp(got, events);
        if (!good && wrong++ < 3)
            diag("at %ld: got \"%s\", want \"%s\"", at, got, events);
        got = peer_messages(&p);
        if (strcmp(got, replies) && wrong++ < 3)
            diag("at %ld: replies \"%s\", want \"%s\"", at, got, replies);
        right += good;
        peer_close(&p);
        harness_events(&h);
        h.opened = h.closed = 0; /* the next one is number 0 again */
    }
    ok(!wrong && right == (long)s->n + 1, "%s: the same in all %zu splits", name, s->n);
}

/* RFC 7692 7.2.3.4: a message whose last block has BFINAL set, and the octet behind it. */
static size_t pack_final(const void *data, size_t n, char *to)
{
    z_stream z;
    memset(&z, 0, sizeof z);
    deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)n;
    z.next_out = (Bytef *)to;
    z.avail_out = 1000;
    deflate(&z, Z_FINISH);
    deflateEnd(&z);
    size_t length = 1000 - z.avail_out;
    to[length] = 0;
    return length + 1;
}

static void test_split_messages(unsigned options, const char *name)
{
    char packed[2048], title[128];
    struct peer maker;
    start_with(options, 200);
    harness_start(&h);
    for (int takeover = 0; takeover <= (options == DEDICATED); takeover++) {
        struct script s = {.n = 0};
        memset(&maker, 0, sizeof maker);
        deflateInit2(&maker.out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
        for (int i = 0; i < 3; i++) {
            if (!takeover)
                deflateReset(&maker.out);
            size_t n = pack(&maker, "hello hello hello \xc3\xa9", 20, packed), cut = n / 2;
            put(&s, i ? 0x41 : 0xc1, packed, i ? 1 : n);
            if (i)
                put(&s, 0x89, "ping", 4);
            if (i == 1) {
                put(&s, 0x00, "", 0);
                put(&s, 0x80, packed + 1, n - 1);
            } else if (i == 2) {
                put(&s, 0x00, packed + 1, cut > 1 ? cut - 1 : 0);
                put(&s, 0x8a, "", 0);
                put(&s, 0x80, packed + (cut > 1 ? cut : 1), n - (cut > 1 ? cut : 1));
            }
        }
        put(&s, 0x81, "plain", 5);
        put(&s, 0x01, "pla", 3);
        put(&s, 0x80, "in", 2);
        if (!takeover)
            deflateReset(&maker.out);
        put(&s, 0xc2, packed, pack(&maker, "", 0, packed));
        put(&s, 0x42, "", 0);
        put(&s, 0x80, "\x00", 1);
        put(&s, 0xc1, packed, pack_final("final final final", 17, packed));
        snprintf(title, sizeof title, "X8, X9, X10, X11, X12: %s%s", name,
                 takeover ? ", takeover" : "");
        is_every_split(&s,
                       "message TEXT hello hello hello \xc3\xa9; ping ping; "
                       "message TEXT hello hello hello \xc3\xa9; ping ping; pong; "
                       "message TEXT hello hello hello \xc3\xa9; message TEXT plain; "
                       "message TEXT plain; message BINARY; message BINARY; "
                       "message TEXT final final final",
                       "PONG ping, PONG ping", title);
        deflateEnd(&maker.out);
    }
    ok(harness_free(&h), "T68: %s: nothing is left", name);
}

static size_t pack_once(const void *data, size_t n, char *to)
{
    struct peer maker;
    memset(&maker, 0, sizeof maker);
    deflateInit2(&maker.out, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    n = pack(&maker, data, n, to);
    deflateEnd(&maker.out);
    return n;
}

/* One message in one frame and in three, with a Ping between. */
static void is_failure(int opcode, const char *packed, size_t n, const char *events,
                       const char *close, const char *name)
{
    struct script s = {.n = 0};
    char text[512];
    put(&s, 0xc0 | opcode, packed, n);
    put(&s, 0x81, "not seen", 8);
    is_every_split(&s, events, close, name);
    s.n = 0;
    put(&s, 0x40 | opcode, packed, 1);
    put(&s, 0x89, "p", 1);
    put(&s, 0x00, packed + 1, n / 2);
    put(&s, 0x80, packed + 1 + n / 2, n - 1 - n / 2);
    put(&s, 0x81, "not seen", 8);
    char replies[64];
    snprintf(text, sizeof text, "ping p; %s", events);
    snprintf(replies, sizeof replies, "PONG p, %s", close);
    is_every_split(&s, text, replies, name);
}

static void test_split_failures(unsigned options)
{
    char packed[2048], data[1000];
    static const char bad_text[] = "good text, then \xff and more";
    memset(data, 'a', sizeof data);
    start_with(options, 200);
    harness_start(&h);
    size_t n = pack_once(bad_text, sizeof bad_text - 1, packed);
    is_failure(WS_TEXT, packed, n, "close 1007 invalid UTF-8 in text message", "CLOSE 1007",
               "F11, X12: text that is not UTF-8");
    n = pack_once("cut \xc3", 5, packed);
    is_failure(WS_TEXT, packed, n, "close 1007 invalid UTF-8 in text message", "CLOSE 1007",
               "F11, X12: text that ends inside a character");
    is_failure(WS_BINARY, "\x07garbage", 8, "close 1007 invalid compressed data", "CLOSE 1007",
               "X12: broken data");
    n = pack_once(hex, 60, packed);
    is_failure(WS_BINARY, packed, n - 4, "close 1007 invalid compressed data", "CLOSE 1007",
               "X12: cut data");
    n = pack_once(data, 201, packed);
    is_failure(WS_BINARY, packed, n,
               "close 1009 message exceeds max_payload_length 200 when inflated", "CLOSE 1009",
               "X12: one byte too many");
    n = pack_once(data, 1000, packed);
    is_failure(WS_TEXT, packed, n,
               "close 1009 message exceeds max_payload_length 200 when inflated", "CLOSE 1009",
               "X12: many too many");
    ok(harness_free(&h), "T68: failures: nothing is left");
}

/* X7: each first byte that RFC 7692 6.1 does not allow. */
static void test_reserved_bits(void)
{
    static const struct {
        int before, first;
        const char *why;
    } cases[] = {
        {0, 0xa1, "reserved bits set without an extension"},
        {0, 0x91, "reserved bits set without an extension"},
        {0, 0xe1, "reserved bits set without an extension"},
        {0, 0xd2, "reserved bits set without an extension"},
        {0x41, 0xc0, "RSV1 on a frame that does not start a message"},
        {0x41, 0x40, "RSV1 on a frame that does not start a message"},
        {0x01, 0xc0, "RSV1 on a frame that does not start a message"},
        {0, 0xc8, "RSV1 on a frame that does not start a message"},
        {0, 0xc9, "RSV1 on a frame that does not start a message"},
        {0, 0xca, "RSV1 on a frame that does not start a message"},
        {0x41, 0xc9, "RSV1 on a frame that does not start a message"},
        {0, 0xc0, "RSV1 on a frame that does not start a message"},
        {0, 0xc3, "RSV1 on a frame that does not start a message"},
        {0x41, 0xc1, "new message inside a fragmented message"},
        {0x01, 0xc1, "new message inside a fragmented message"},
    };
    start_with(SHARED, 0);
    harness_start(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct script s = {.n = 0};
        char events[128], name[80];
        if (cases[i].before)
            put(&s, cases[i].before, "\x4a", 1);
        put(&s, cases[i].first, "\x4c\x04", 2);
        snprintf(events, sizeof events, "close 1002 %s", cases[i].why);
        snprintf(name, sizeof name, "X7: %02x after %02x", (unsigned)cases[i].first,
                 (unsigned)cases[i].before);
        is_every_split(&s, events, "CLOSE 1002", name);
    }
    ok(harness_free(&h), "T68: reserved bits: nothing is left");
}

/* ---- limits ---- */

/* n bytes in one stored block, `empty` empty ones, and the byte that stays of the flush. */
static size_t store(char *to, size_t n, int empty)
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

static void is_limited(int first, const char *packed, size_t n, size_t cut, const char *events,
                       const char *name)
{
    peer_connect(&p, false, "permessage-deflate");
    harness_events(&h);
    if (cut) {
        client_frame(&p.c, first & 0x7f, packed, cut);
        client_frame(&p.c, 0x80, packed + cut, n - cut);
    } else {
        client_frame(&p.c, first, packed, n);
    }
    turns(&h, 3);
    is_events(&h, events, name);
    peer_close(&p);
    h.opened = h.closed = 0;
    harness_events(&h);
}

static void test_limits(void)
{
    static char packed[SPACE];
    char data[1001];
    memset(data, 'a', sizeof data);
    start_with(SHARED, 1000);
    harness_start(&h);
    size_t n = store(packed, 998, 15);
    is_int((long long)n, 1000 + 1000 / 64 + 64, "max + max/64 + 64 bytes");
    is_limited(0xc2, packed, n, 0, "message BINARY [998]", "X12: the wire limit is reached");
    is_limited(0xc2, packed, n, 500, "message BINARY [998]", "X12: in two frames");
    is_limited(0xc2, packed, n, n - 1, "message BINARY [998]", "X12: and elsewhere");
    n = store(packed, 999, 15);
    static const char too_big[] =
        "close 1009 message of 1080 bytes exceeds max_payload_length 1000";
    is_limited(0xc2, packed, n, 0, too_big, "X12: one byte above the wire limit");
    is_limited(0xc2, packed, n, 500, too_big, "X12: in two frames");
    is_limited(0xc2, packed, n, n - 1, too_big, "X12: by its last byte");
    n = pack_once(data, 1000, packed);
    is_limited(0xc1, packed, n, 0, "message TEXT [1000]", "X12: max_payload_length, inflated");
    n = pack_once(data, 1001, packed);
    is_limited(0xc1, packed, n, 0,
               "close 1009 message exceeds max_payload_length 1000 when inflated",
               "X12: one byte above");
    is_limited(0x81, data, 1000, 0, "message TEXT [1000]", "X8: a plain message of the limit");
    is_limited(0x81, data, 1001, 0,
               "close 1009 message of 1001 bytes exceeds max_payload_length 1000",
               "X8: gets no bytes more than that");
    is_limited(0x81, data, 1001, 500,
               "close 1009 message of 1001 bytes exceeds max_payload_length 1000",
               "X8: nor does a fragmented one");
    ok(harness_free(&h), "T68: limits: nothing is left");
}

/* ---- memory ---- */

static ws_allocator inner;
static size_t peak;

static void *resize_watched(void *context, void *ptr, size_t old_size, size_t size)
{
    void *block = inner.resize(context, ptr, old_size, size);
    if (h.memory.bytes > peak)
        peak = h.memory.bytes;
    return block;
}

static void test_bombs(void)
{
    enum { COUNT = 50, LIMIT = 64 * 1024, BOMB = 2 << 20 };
    static struct peer peers[COUNT];
    static char bomb[16384], packed[SPACE];
    char *zeros = calloc(1, BOMB);
    start_with(SHARED, LIMIT);
    inner = h.config.allocator;
    h.config.allocator.resize = resize_watched;
    harness_start(&h);
    size_t n = zeros ? pack_once(zeros, BOMB, packed) : 0;
    ok(n && n < sizeof bomb, "a bomb of %zu bytes", n);
    free(zeros);
    memcpy(bomb, packed, n);
    for (int i = 0; i < COUNT; i++)
        peer_connect(&peers[i], false, "permessage-deflate");
    turns(&h, 2);
    size_t before = h.memory.bytes, most = 0;
    peak = before;
    for (int i = 0; i < COUNT; i++) {
        if (i % 2) {
            client_frame(&peers[i].c, 0xc2, bomb, n);
        } else {
            client_frame(&peers[i].c, 0x42, bomb, n / 2);
            client_frame(&peers[i].c, 0x80, bomb + n / 2, n - n / 2);
        }
    }
    for (int i = 0; i < 200; i++) {
        turns(&h, 1);
        most = zlib_memory() > most ? zlib_memory() : most;
    }
    is_int(h.closed, COUNT, "T40: every bomb is found out");
    ok(strstr(harness_events(&h), "1007") == NULL, "X12: with 1009");
    ok(peak - before <= LIMIT + 256 * 1024, "T40: %zu bytes at the most: one output space",
       peak - before);
    ok(most <= LIMIT + 128 * 1024, "T40: compression_memory is bounded, too (%zu)", most);
    for (int i = 0; i < COUNT; i++)
        peer_close(&peers[i]);
    ok(harness_free(&h), "T68: bombs: nothing is left");
}

enum ending {
    CLIENT_CLOSE,
    RESET,
    CLOSE_IN_MESSAGE,
    END_IN_MESSAGE,
    END_IN_FRAGMENTS,
    DROP_IN_SEND,
    BAD_DATA,
    END_IN_PING,
    ENDINGS
};
static enum ending ending;

static void end_somehow(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_DROPPED)
        ws_conn_close(conn);
    if (event == ON_CLOSE) {
        ws_conn_send(conn, "late late late late", 19, ZTEXT);
        ws_conn_send_fragment(conn, "late late late late", 19, ZTEXT, false);
    }
    if (event == ON_PING)
        ws_conn_end(conn, 1001, NULL, 0);
    if (event != ON_MESSAGE)
        return;
    ws_conn_send(conn, data, length, ZTEXT);
    if (ending == CLOSE_IN_MESSAGE)
        ws_conn_close(conn);
    if (ending == END_IN_MESSAGE)
        ws_conn_end(conn, 1000, data, 5);
    if (ending == END_IN_FRAGMENTS) {
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, hex, 1000, WS_CONTINUATION, false);
        ws_conn_send(conn, hex, 1000, ZTEXT); /* held */
        ws_conn_end(conn, 1000, NULL, 0);
        is_int(ws_conn_send_fragment(conn, hex, 10, WS_CONTINUATION, true), WS_DROPPED,
               "no fragment after the end");
    }
    if (ending == DROP_IN_SEND)
        for (int i = 0; i < 2000 && ws_conn_send(conn, hex, 20000, ZTEXT) != WS_DROPPED; i++)
            ;
    if (ending == CLOSE_IN_MESSAGE || ending == DROP_IN_SEND)
        is_int(ws_conn_send(conn, data, length, ZTEXT), WS_DROPPED, "nothing after the end");
}

static void test_streams_are_freed(unsigned options, const char *name)
{
    static const char text[] = "hello hello hello hello hello";
    for (enum ending this = 0; this < ENDINGS; this++) {
        start_with(options, 0);
        h.send_buffer = 4608;
        h.behavior.max_backpressure = 5000;
        h.quiet = true;
        h.hook = end_somehow;
        harness_start(&h);
        struct peer other;
        ending = CLIENT_CLOSE;
        peer_connect(&other, false, "permessage-deflate"); /* what is shared is made */
        say_packed(&other, 0xc1, text, sizeof text - 1);
        peer_messages(&other);
        ending = this;
        size_t before = zlib_memory();
        peer_connect(&p, true, "permessage-deflate");
        is_int((long long)zlib_memory(), (long long)before, "nothing is held before it is needed");
        if (ending == DROP_IN_SEND)
            for (int i = 0; i < 500 && !ws_conn_buffered_amount(conn_at(&h, 1)); i++)
                ws_conn_send(conn_at(&h, 1), fill_bytes, sizeof fill_bytes, WS_BINARY);
        say_packed(&p, 0xc1, text, sizeof text - 1);
        turns(&h, 3);
        if (ending == CLIENT_CLOSE && options == DEDICATED)
            ok(zlib_memory() > before + 32768, "a dedicated connection holds its windows");
        if (ending == END_IN_FRAGMENTS)
            ok(strstr(peer_messages(&p), "CLOSE 1000") != NULL, "then the Close");
        if (ending == CLIENT_CLOSE)
            client_send_close(&p.c, 1000, "");
        if (ending == RESET)
            client_reset(&p.c);
        if (ending == BAD_DATA)
            client_frame(&p.c, 0xc1, "\x07", 1);
        if (ending == END_IN_PING) { /* between fragments, which are not inflated any more */
            client_frame(&p.c, 0x41, "\x4c", 1);
            client_frame(&p.c, 0x89, "", 0);
            client_frame(&p.c, 0x80, "\x04\x00", 2);
        }
        turns(&h, 4);
        is_int(h.closed, 1, "%s, ending %d: closed", name, (int)ending);
        is_int((long long)zlib_memory(), (long long)before,
               "T68: %s, ending %d: its streams are freed with on_close", name, (int)ending);
        peer_close(&p);
        ending = CLIENT_CLOSE;
        say_packed(&other, 0xc1, text, sizeof text - 1);
        is_text(peer_messages(&other), "zTEXT hello hello hello hello hello", "others go on");
        peer_close(&other);
        ok(harness_free(&h), "T68: %s, ending %d: nothing is left", name, (int)this);
    }
}

/* ---- what leaves ---- */

static void test_send(unsigned options)
{
    start(options);
    ws_conn *conn = conn_at(&h, 0);
    for (int i = 0; i < 3; i++) {
        ws_conn_send(conn, hex, 3000, ZTEXT);
        expect("zTEXT", hex, 3000);
        ws_conn_send(conn, hex, 3000, WS_TEXT);
        expect("TEXT", hex, 3000);
        ws_conn_send(conn, "", 0, ZTEXT);
        expect("TEXT", "", 0);
        ws_conn_send(conn, noise, 300, ZBINARY);
        expect("BINARY", noise, 300);
    }
    is_expected("X13, X15: compression is per message, and never makes one larger");
    ws_conn_send(conn, NULL, 0, ZBINARY);
    ws_conn_send(conn, "p", 1, WS_PING);
    is_seen("BINARY, PING p", "X13: an empty message, and a Ping, are plain");
    is_int(ws_conn_send(conn, "p", 1, WS_PING | WS_COMPRESS), WS_EINVAL, "no compressed Ping");
    stop("sends");
}

static void test_echo(unsigned options)
{
    static char data[200000];
    start_with(options, sizeof data);
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    h.hook = end_somehow;
    ending = CLIENT_CLOSE;
    for (size_t n = 30; n < sizeof data; n = n * 3 + 1) {
        memcpy(data, hex + n, n);
        memset(data, 'x', 20);
        say_packed(&p, 0xc1, data, n);
        expect("zTEXT", data, n);
    }
    is_expected("X13: the echo of what was inflated: input and output do not clash");
    stop("echo");
}

/* A full kernel, and something queued. */
static ws_conn *start_blocked(unsigned options, size_t limit)
{
    start_with(options, 0);
    h.send_buffer = 4608;
    h.behavior.max_backpressure = limit;
    harness_start(&h);
    peer_connect(&p, true, "permessage-deflate");
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_send(conn, hex, 1000, ZTEXT);
    expect("zTEXT", hex, 1000);
    for (int still = 0; still < 6;) {
        if (ws_conn_send(conn, fill_bytes, sizeof fill_bytes, WS_BINARY) == WS_SUCCESS) {
            still = 0;
            continue;
        }
        turns(&h, 3);
        still = ws_conn_buffered_amount(conn) ? still + 1 : 0;
        if (ws_conn_buffered_amount(conn) > 5000)
            break;
    }
    harness_events(&h);
    return conn;
}

static const char *dropped_data;
static size_t dropped_length;

static void send_in_dropped(struct harness *harness, enum event event, ws_conn *conn,
                            ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event != ON_DROPPED)
        return;
    dropped_data = data;
    dropped_length = length;
    if (ws_conn_send(conn, data, 700, ZTEXT) == WS_BACKPRESSURE)
        expect("zTEXT", data, 700);
}

static void test_window(unsigned options, const char *name)
{
    ws_conn *conn = start_blocked(options, 40000);
    for (int i = 0; i < 2; i++) {
        is_int(ws_conn_send(conn, hex, 100000, ZTEXT), WS_DROPPED, "S34: above the limit: DROPPED");
        is_events(&h, "dropped TEXT [100000]", "S35: on_dropped gets what was sent, not the form");
        is_int(ws_conn_send(conn, hex + 99000, 900, ZTEXT), WS_BACKPRESSURE, "X15: a part of it");
        expect("zTEXT", hex + 99000, 900);
        is_int(ws_conn_send(conn, noise, 300, ZBINARY), WS_BACKPRESSURE, "X15: it would grow");
        expect("BINARY", noise, 300);
        char twice[600];
        memcpy(twice, noise, 300);
        memcpy(twice + 300, noise, 300);
        is_int(ws_conn_send(conn, twice, 600, ZBINARY), WS_BACKPRESSURE, "X15: the same, twice");
        expect("zBINARY", twice, 600);
        h.memory.fail_at = h.memory.calls + 1;
        h.memory.fail_after = true;
        int status = ws_conn_send(conn, hex + 200000, 20000, ZTEXT);
        h.memory.fail_at = 0;
        h.memory.fail_after = false;
        if (status == WS_BACKPRESSURE)
            expect("zTEXT", hex + 200000, 20000);
        else
            is_int(status, WS_ENOMEM, "X15: refused, no memory for the queue");
        if (!i)
            is_int(status, WS_ENOMEM, "X15: at least once");
        is_int(ws_conn_send(conn, hex + 219000, 900, ZTEXT), WS_BACKPRESSURE, "X15: a part of it");
        expect("zTEXT", hex + 219000, 900);
        is_int(ws_conn_send(conn, hex, 5, WS_CLOSE), WS_EINVAL, "X15: refused");
    }
    h.hook = send_in_dropped;
    is_int(ws_conn_send(conn, hex + 300000, 100000, ZTEXT), WS_DROPPED, "dropped once more");
    ok(dropped_data == hex + 300000 && dropped_length == 100000, "S35: the caller's own bytes");
    h.hook = NULL;
    ws_conn_send(conn, hex + 399000, 800, ZTEXT);
    expect("zTEXT", hex + 399000, 800);
    char title[128];
    snprintf(title, sizeof title, "X15: %s: a peer that keeps its window understands all", name);
    is_expected(title);
    stop(name);
}

static void send_plain_fragment(struct harness *harness, enum event event, ws_conn *conn,
                                ws_request *request, const char *data, size_t length)
{
    (void)harness, (void)request, (void)length;
    if (event == ON_DROPPED) {
        is_int(ws_conn_send_fragment(conn, data, 10, ZTEXT, false), WS_EORDER,
               "S36: no other fragmented message inside the dropped one");
        if (ws_conn_send(conn, data, 700, ZTEXT) == WS_BACKPRESSURE)
            expect("zTEXT", data, 700);
    }
}

static void test_fragments(unsigned options, const char *name)
{
    char title[128];
    start(options);
    ws_conn *conn = conn_at(&h, 0);
    for (int i = 0; i < 2; i++) {
        ws_conn_send(conn, hex, 2000, ZTEXT);
        expect("zTEXT", hex, 2000);
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, hex + 1000, 0, WS_CONTINUATION, false);
        is_int(ws_conn_send(conn, hex + 500, 800, ZTEXT), WS_BACKPRESSURE, "held back");
        is_int(ws_conn_send(conn, "ping", 4, WS_PING), WS_SUCCESS, "a Ping is not");
        ws_conn_send_fragment(conn, hex + 1000, 1000, WS_CONTINUATION, false);
        ws_conn_send_fragment(conn, hex + 2000, 1000, WS_CONTINUATION, true);
        expect("PING", "ping", 4);
        expect("zTEXT/4", hex, 3000);
        expect("TEXT", hex + 500, 800);
        ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false);
        ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true);
        expect("zTEXT/2", hex, 1000);
        ws_conn_send_fragment(conn, NULL, 0, ZBINARY, false);
        ws_conn_send_fragment(conn, "a", 1, WS_CONTINUATION, true);
        expect("zBINARY/2", "a", 1);
        ws_conn_send_fragment(conn, NULL, 0, ZBINARY, false);
        ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true);
        expect("zBINARY/2", "", 0);
        ws_conn_send_fragment(conn, "plain", 5, WS_TEXT, false);
        ws_conn_send_fragment(conn, " text", 5, WS_CONTINUATION, true);
        expect("TEXT/2", "plain text", 10);
        ws_conn_send_fragment(conn, hex, 900, ZTEXT, true);
        expect("zTEXT", hex, 900);
    }
    snprintf(title, sizeof title, "X9, X15: %s: fragments, what was held back is plain", name);
    is_expected(title);
    stop(name);

    conn = start_blocked(options, 20000);
    ws_conn_send(conn, NULL, 0, WS_TEXT);
    expect("TEXT", "", 0);
    is_int(ws_conn_send(conn, hex, 100000, ZTEXT), WS_DROPPED, "all output space is there");
    harness_events(&h);
    size_t before = zlib_memory();
    for (int i = 0; i < 2; i++) {
        h.hook = send_plain_fragment;
        is_int(ws_conn_send_fragment(conn, hex, 100000, ZTEXT, false), WS_DROPPED,
               "S36: the first fragment is dropped");
        h.hook = NULL;
        is_events(&h, "dropped TEXT [100000]", "S35: and handed back as it was");
        is_int(ws_conn_send_fragment(conn, hex, 100, WS_CONTINUATION, false), WS_DROPPED,
               "S36: and the next");
        is_int(ws_conn_send(conn, hex + 99000, 300, ZTEXT), WS_BACKPRESSURE, "a message between");
        expect("zTEXT", hex + 99000, 300);
        is_int(ws_conn_send_fragment(conn, hex, 100, WS_CONTINUATION, true), WS_DROPPED,
               "S36: and the last");
        if (options == SHARED)
            is_int((long long)zlib_memory(), (long long)before,
                   "T68: shared: the stream that was lent to it is given back");
        is_int(ws_conn_send_fragment(conn, hex + 99000, 500, ZTEXT, false), WS_BACKPRESSURE,
               "a new one");
        is_int(ws_conn_send_fragment(conn, hex + 99500, 500, WS_CONTINUATION, true),
               WS_BACKPRESSURE, "its end");
        expect("zTEXT/2", hex + 99000, 1000);
        ws_conn_send(conn, hex + 99100, 800, ZTEXT);
        expect("zTEXT", hex + 99100, 800);
    }
    snprintf(title, sizeof title, "X15: %s: after a dropped first fragment", name);
    is_expected(title);
    h.hook = NULL;
    stop(name);

    conn = start_blocked(options, 20000);
    is_int(ws_conn_send_fragment(conn, hex, 1000, ZTEXT, false), WS_BACKPRESSURE, "a fragment");
    is_int(ws_conn_send_fragment(conn, hex, 100000, WS_CONTINUATION, false), WS_DROPPED,
           "S36: a later one is above the limit");
    is_events(&h, "close 1008 max_backpressure exceeded", "S36: 1008");
    expected[0] = '\0';
    is_int(h.closed, 1, "closed once");
    stop(name);
}

/* ---- allocation failures ---- */

static void busy(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                 const char *data, size_t length)
{
    (void)harness, (void)request;
    if (event == ON_MESSAGE && length > 100) {
        ws_conn_send(conn, data, length, ZTEXT);
        ws_conn_send_fragment(conn, data, length, ZTEXT, false);
        ws_conn_send(conn, data, length, ZTEXT);
        ws_conn_send_fragment(conn, hex, 30000, WS_CONTINUATION, false);
        ws_conn_send_fragment(conn, data, length, WS_CONTINUATION, true);
        ws_conn_send(conn, hex, 50000, ZTEXT);
    }
}

static bool is_fair(const char *events)
{
    const char *end = strstr(events, "1:close ");
    return !end || !strncmp(end + 8, "1011", 4) || !strncmp(end + 8, "1006", 4);
}

/* True while there was an allocation of that number. */
static bool fail_nth(unsigned options, size_t n, bool after, int *wrong)
{
    struct client other;
    static char data[3000];
    start_with(options, 16384);
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    client_open(&other, &h);
    h.hook = busy;
    h.memory.fail_at = h.memory.calls + n;
    h.memory.fail_after = after;
    peer_connect(&p, false, "permessage-deflate");
    memcpy(data, hex, sizeof data);
    say_packed(&p, 0xc1, data, 2000);
    turns(&h, 3);
    char *packed = malloc(SPACE);
    size_t length = packed ? pack(&p, data, 3000, packed) : 0;
    client_frame(&p.c, 0x41, packed, length / 2);
    turns(&h, 1);
    client_frame(&p.c, 0x80, packed + length / 2, length - length / 2);
    free(packed);
    const char *got = peer_messages(&p);
    bool reached = h.memory.calls >= h.memory.fail_at;
    h.memory.fail_at = 0;
    bool readable = !strstr(got, "BROKEN") && !strstr(got, "RSV");
    h.hook = NULL;
    client_text(&other, "still there");
    turns(&h, 3);
    const char *events = harness_events(&h);
    bool fair = is_fair(events) && strstr(events, "message TEXT still there") &&
                !strstr(events, "; close");
    struct peer next;
    peer_connect(&next, false, "permessage-deflate");
    bool on = ws_conn_send(conn_at(&h, h.opened - 1), hex, 1000, ZTEXT) == WS_SUCCESS &&
              !strncmp(peer_messages(&next), "zTEXT [1000", 11);
    peer_close(&next);
    peer_close(&p);
    client_close(&other);
    turns(&h, 3);
    bool clean = harness_free(&h);
    if (!(readable && fair && on && clean) && (*wrong)++ < 3)
        diag("allocation %zu%s: readable %d, fair %d, on %d, clean %d: %s; %s", n,
             after ? " and all after" : "", readable, fair, on, clean, events, p.seen);
    return reached;
}

static void test_no_memory(unsigned options, const char *name)
{
    for (int after = 0; after < 2; after++) {
        int wrong = 0;
        size_t n = 1;
        while (fail_nth(options, n, after, &wrong) && n < 500)
            n++;
        ok(!wrong && n > 10 && n < 500,
           "T84: %s: %s of %zu allocations fails: only that connection", name,
           after ? "all from one" : "each", n - 1);
    }
}

/* A stream that cannot be made ends its own connection, with 1011, and no other. zlib allocates up
 * to five blocks for one, zlib-ng 2.3 a single one. */
static void test_no_stream(bool sending)
{
    size_t n = 0;
    bool failed;
    do {
        start(DEDICATED);
        struct peer bystander;
        peer_connect(&bystander, false, "permessage-deflate");
        harness_events(&h);
        h.memory.fail_at = h.memory.calls + ++n;
        if (sending)
            ws_conn_send(conn_at(&h, 0), hex, 1000, ZTEXT);
        else
            say_packed(&p, 0xc1, hex, 1000);
        turns(&h, 3);
        failed = h.memory.calls >= h.memory.fail_at;
        const char *events = harness_events(&h), *seen = peer_messages(&p);
        if (failed && (strcmp(events, "close 1011 out of memory") || strcmp(seen, "CLOSE 1011"))) {
            diag("allocation %zu: %s, %s", n, events, seen);
            break;
        }
        failed = failed && stats_of(&h).open == 1;
        peer_close(&p);
        peer_close(&bystander);
        turns(&h, 3);
        harness_free(&h);
    } while (failed && n < 100);
    ok(!failed && n > 3, "X12, X13: %s without memory for allocation 1 to %zu: 1011",
       sending ? "sending" : "receiving", n - 1);
}

/* Messages behind one another in one read, and another connection behind them: what of all that is
 * handled before the other's turn comes. */
static int messages_before(struct peer *next, const char *packed, size_t n, int count)
{
    for (int i = 0; i < count; i++)
        client_frame(&p.c, 0xc2, packed, n);
    client_text(&next->c, "next");
    turns(&h, 1);
    const char *events = harness_events(&h), *end = strstr(events, "next");
    int seen = 0;
    for (const char *at = events; end && (at = strstr(at, "BINARY")) && at < end; at++)
        seen++;
    return seen;
}

static void test_turn_budget(void)
{
    enum { TURN = 1 << 20 }; /* WS__TURN_INFLATED */
    static char zeros[TURN / 2], packed[SPACE], empty[TURN + 64];
    static struct peer next;
    start_with(SHARED, TURN);
    harness_start(&h);
    peer_connect(&p, false, "permessage-deflate");
    peer_connect(&next, false, "permessage-deflate");
    harness_events(&h);
    size_t n = pack_once(zeros, sizeof zeros, packed);
    is_int(messages_before(&next, packed, n, 8), 2, "T46: 1 MiB comes out, then others are served");
    turns(&h, 5);
    harness_events(&h);
    n = store(empty, 0, TURN / 5); /* blocks without output cost time, too */
    client_frame(&p.c, 0x42, empty, n - 10);
    turns(&h, 20);
    client_frame(&p.c, 0x80, empty + n - 10, 10);
    is_int(messages_before(&next, "\0", 1, 3), 1, "T46: 1 MiB goes in, then others are served");
    peer_close(&p);
    peer_close(&next);
    turns(&h, 3);
    ok(harness_free(&h), "T68: turns: nothing is left");
}

/* A very short message goes plain, and leaves the window as it is. */
static void test_short(void)
{
    start(DEDICATED);
    for (int i = 0; i < 3; i++)
        ws_conn_send(conn_at(&h, 0), i == 1 ? "ok" : hex, i == 1 ? 2 : 1000, ZTEXT);
    client_drain(&p.c);
    size_t first = ((size_t)(uint8_t)p.c.in[2] << 8 | (uint8_t)p.c.in[3]) + 4;
    is_mem(p.c.in + first, 4, "\x81\x02ok", 4, "X13: two bytes are not compressed");
    ok((uint8_t)p.c.in[first + 4] == 0xc1 && p.c.in[first + 5] < 30,
       "S48: and what was sent before them is still known (%d bytes)", p.c.in[first + 5]);
    stop("short");
}

/* The shared decompressor serves every window, whoever came first. */
static void test_windows_of_clients(void)
{
    static char data[60000]; /* more than the output space begins with */
    struct peer small;
    start_with(SHARED, 1 << 20);
    harness_start(&h);
    peer_connect(&small, true, "permessage-deflate; client_max_window_bits=8");
    say_packed(&small, 0xc1, "small", 5);
    peer_connect(&p, false, "permessage-deflate");
    turns(&h, 3);
    uint32_t noise_state = 5;
    for (size_t i = 0; i < sizeof data; i++) { /* the second half repeats the first one */
        noise_state = noise_state * 1664525 + 1013904223;
        data[i] = i < sizeof data / 2 ? (char)(noise_state >> 24) : data[i - sizeof data / 2];
    }
    harness_events(&h);
    say_packed(&p, 0xc2, data, sizeof data);
    turns(&h, 3);
    is_events(&h, "1:message BINARY [60000]", "X5: a window of 32 KiB after one of 256 bytes");
    peer_close(&small);
    peer_close(&p);
    turns(&h, 3);
    ok(harness_free(&h), "T68: windows: nothing is left");
}

/* Connections that compress come and go: nothing stays. */
static void test_many(void)
{
    enum { COUNT = 2000 };
    int count = getenv("UNDER_VALGRIND") ? 100 : COUNT;
    size_t first = 0;
    start_with(DEDICATED, 0);
    h.quiet = true;
    harness_start(&h);
    for (int i = 0; i < count; i++) {
        peer_connect(&p, false, "permessage-deflate");
        say_packed(&p, 0xc1, hex, 1000);
        ws_conn_send(conn_at(&h, h.opened - 1), hex, 1000, ZTEXT);
        turns(&h, 2);
        peer_close(&p);
        turns(&h, 3);
        if (i == 20)
            first = h.memory.bytes;
    }
    is_int((long long)h.memory.bytes, (long long)first, "T47: %d connections: memory is flat", count);
    ok(zlib_memory() <= 128 * 1024, "S42: only output space is left, %zu bytes", zlib_memory());
    ok(harness_free(&h), "T68: many: nothing is left");
}

static void cases(void)
{
    CASE(test_short());
    CASE(test_windows_of_clients());
    CASE(test_many());
    CASE(test_turn_budget());
    CASE(test_no_stream(true));
    CASE(test_no_stream(false));
    CASE(test_negotiation());
    CASE(test_split_messages(SHARED, "shared"));
    CASE(test_split_messages(DEDICATED, "dedicated"));
    CASE(test_split_failures(SHARED));
    CASE(test_split_failures(DEDICATED));
    CASE(test_reserved_bits());
    CASE(test_limits());
    CASE(test_bombs());
    CASE(test_streams_are_freed(SHARED, "shared"));
    CASE(test_streams_are_freed(DEDICATED, "dedicated"));
    CASE(test_send(SHARED));
    CASE(test_send(DEDICATED));
    CASE(test_echo(SHARED));
    CASE(test_echo(DEDICATED));
    CASE(test_window(SHARED, "shared"));
    CASE(test_window(DEDICATED, "dedicated"));
    CASE(test_fragments(SHARED, "shared"));
    CASE(test_fragments(DEDICATED, "dedicated"));
    CASE(test_no_memory(SHARED, "shared"));
    CASE(test_no_memory(DEDICATED, "dedicated"));
}

int main(int argc, char **argv)
{
    make_data();
    return run_cases(argc, argv, cases);
}
