/* SPDX-License-Identifier: MIT */
/*
 * test_conn_deflate.c: permessage-deflate (RFC 7692) through a running server: what is
 * negotiated, and what arrives compressed, cut at every byte: messages, errors, limits.
 */
#include "deflate_peer.h"

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

/* RFC 7692 7.2.3.4: a message whose last block has BFINAL set, and the octet after it. */
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

static void cases(void)
{
    CASE(test_short());
    CASE(test_windows_of_clients());
    CASE(test_negotiation());
    CASE(test_split_messages(SHARED, "shared"));
    CASE(test_split_messages(DEDICATED, "dedicated"));
    CASE(test_split_failures(SHARED));
    CASE(test_split_failures(DEDICATED));
    CASE(test_reserved_bits());
    CASE(test_limits());
}

int main(int argc, char **argv)
{
    make_data();
    return run_cases(argc, argv, cases);
}
