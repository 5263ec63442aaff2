/* SPDX-License-Identifier: MIT */
/*
 * test_publish_deflate.c: what is published with WS_COMPRESS (RFC 7692): compressed once for all
 * whose compressor is shared and has the same window, once for each that keeps its own, not at all
 * for those who did not negotiate it; and every receiver inflates the right message. The peer's
 * side is zlib's.
 */
#include "harness.h"
#include "conn.h"
#include "kernel.h"
#include "ws_cluster.h"

#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
    SHARED = WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR,
    DEDICATED = WS_DEDICATED_COMPRESSOR_32KB | WS_SHARED_DECOMPRESSOR,
    ZTEXT = WS_TEXT | WS_COMPRESS,
    SPACE = 1 << 21,
    PEERS = 500
};

struct peer {
    struct client c;
    z_stream z;
    bool compresses, isolated;
    size_t wire; /* bytes of its last message */
};

static struct harness h;
static struct peer peers[PEERS];
static int count;
static char data[SPACE], space[SPACE];

/* Hexadecimal noise: compresses to about half, with any window. */
static void make_data(size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = "0123456789abcdef"[seed >> 28];
    }
}

static void prepare(void)
{
    harness_init(&h);
    h.quiet = true;
    count = 0;
    kernel_reset(0);
}

static void open_peer(const char *path, const char *offer)
{
    struct peer *p = &peers[count++];
    char request[1024];
    memset(p, 0, sizeof *p);
    client_connect(&p->c, &h);
    snprintf(request, sizeof request, "GET %s %.*s%s%s%s\r\n", path,
             (int)strlen(handshake_request + 6) - 2, handshake_request + 6,
             offer ? "Sec-WebSocket-Extensions: " : "", offer ? offer : "", offer ? "\r\n" : "");
    client_say(&p->c, request);
    client_responses(&p->c);
    p->compresses = head_has(&p->c, "permessage-deflate");
    p->isolated = head_has(&p->c, "server_no_context_takeover");
    inflateInit2(&p->z, -15);
    ws_conn_subscribe(conn_at(&h, h.opened - 1), "t", 1);
}

static void start(unsigned compression)
{
    prepare();
    h.behavior.compression = compression;
    h.behavior.max_backpressure = 0;
    harness_start(&h);
    kernel_reset(h.port);
}

static void stop(const char *name)
{
    for (int i = 0; i < count; i++) {
        inflateEnd(&peers[i].z);
        client_close(&peers[i].c);
    }
    turns(&h, 20);
    h.quiet = false;
    harness_stop(&h, name);
}

static uint64_t deflate_calls(void)
{
    return ws__hub_of(h.server)->deflate.deflate_calls;
}

static int publish(size_t n, int opcode)
{
    return ws_server_publish(h.server, "t", 1, data, n, opcode);
}

static bool inflate_message(struct peer *p, const unsigned char *bytes, size_t n, size_t *length)
{
    static const unsigned char tail[4] = {0, 0, 0xff, 0xff};
    if (p->isolated)
        inflateReset(&p->z);
    p->z.next_out = (Bytef *)space;
    p->z.avail_out = SPACE;
    for (int i = 0; i < 2; i++) {
        p->z.next_in = i ? tail : bytes;
        p->z.avail_in = i ? 4 : (uInt)n;
        int status = inflate(&p->z, Z_SYNC_FLUSH);
        if ((status != Z_OK && status != Z_BUF_ERROR) || p->z.avail_in)
            return false;
    }
    *length = SPACE - p->z.avail_out;
    return true;
}

/* Takes the next frame; it must be the n bytes at `want`, and compressed or not as told. */
static bool got(struct peer *p, const char *want, size_t n, bool compressed)
{
    client_read(&p->c);
    const unsigned char *head = (const unsigned char *)p->c.in;
    size_t have = p->c.in_length, header, length = 0, plain;
    if (have < 2)
        return false;
    header = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10;
    for (size_t i = header > 2 ? 2 : 1; have >= header && i < header; i++)
        length = length << 8 | head[i];
    if (have - header < length || (head[0] != (compressed ? 0xc1 : 0x81)))
        return false;
    plain = length;
    bool same = compressed ? inflate_message(p, head + header, length, &plain) : true;
    const char *message = compressed ? space : (const char *)head + header;
    same = same && plain == n && (!n || !memcmp(message, want, n));
    p->wire = header + length;
    p->c.in_length -= p->wire;
    memmove(p->c.in, p->c.in + p->wire, p->c.in_length);
    return same;
}

/* One message was published; how many got exactly it. */
static int receivers(size_t n)
{
    int right = 0;
    turns(&h, 4);
    for (int i = 0; i < count; i++) {
        struct peer *p = &peers[i];
        for (int k = 0; k < 100 && n > 10000; k++) {
            client_read(&p->c);
            turns(&h, 1);
        }
        right += got(p, data, n, p->compresses) && !p->c.in_length;
    }
    return right;
}

static void test_once(void)
{
    start(SHARED);
    for (int i = 0; i < PEERS; i++)
        open_peer("/", "permessage-deflate");
    make_data(1000, 1);
    uint64_t before = deflate_calls();
    is_int(publish(1000, ZTEXT), 1, "published");
    is_int((long long)(deflate_calls() - before), 1, "500 shared compressors: one deflate call");
    is_int(receivers(1000), PEERS, "each inflates to the message");
    before = deflate_calls();
    publish(1000, WS_TEXT);
    is_int((long long)(deflate_calls() - before), 0, "X13: not asked for: none");
    for (int i = 0; i < count; i++)
        peers[i].compresses = false;
    is_int(receivers(1000), PEERS, "X13: plain");
    publish(0, ZTEXT);
    is_int(receivers(0), PEERS, "X10: an empty message goes plain");
    stop("500 shared compressors");
}

static void test_windows(void)
{
    start(SHARED);
    for (int i = 0; i < 10; i++) {
        open_peer("/", "permessage-deflate");
        open_peer("/", "permessage-deflate; server_max_window_bits=9");
        open_peer("/", "permessage-deflate; server_max_window_bits=12");
        open_peer("/", NULL);
    }
    make_data(5000, 2);
    memcpy(data + 4000, data, 1000); /* a repeat beyond the smaller windows */
    uint64_t before = deflate_calls();
    is_int(publish(5000, ZTEXT), 1, "published");
    is_int((long long)(deflate_calls() - before), 3, "X4: one deflate call for each window");
    is_int(receivers(5000), 40, "X4: each inflates to the message, or gets it plain");
    ok(peers[0].wire < peers[1].wire && peers[1].wire < peers[3].wire,
       "X4: what a window is good for: %zu, %zu, plain %zu", peers[0].wire, peers[1].wire,
       peers[3].wire);
    before = deflate_calls();
    for (int i = 0; i < 5; i++) {
        publish(5000, ZTEXT);
        if (receivers(5000) != 40)
            ok(false, "round %d", i);
    }
    is_int((long long)(deflate_calls() - before), 15, "and so on");
    stop("windows");
}

/* Peers that keep a window, that keep none, and that have none, in one topic. */
static void open_mixed(void)
{
    start(DEDICATED);
    h.behavior.compression = SHARED;
    harness_route(&h, "/shared");
    for (int i = 0; i < 4; i++) {
        open_peer("/", "permessage-deflate");
        open_peer("/", "permessage-deflate; server_no_context_takeover");
        open_peer("/shared", "permessage-deflate");
        open_peer("/", NULL);
        open_peer("/shared", NULL);
    }
}

static void test_mixed(void)
{
    open_mixed();
    ok(!peers[0].isolated && peers[1].isolated && peers[2].isolated, "as they are meant");
    make_data(2000, 3);
    uint64_t before = deflate_calls();
    publish(2000, ZTEXT);
    is_int((long long)(deflate_calls() - before), 4 + 1,
           "one for each dedicated compressor, one for all that count as shared");
    is_int(receivers(2000), 20, "X15: each inflates to the message");
    publish(2000, ZTEXT);
    is_int(receivers(2000), 20, "S48: again");
    ok(peers[0].wire < 100 && peers[1].wire > 1000, "S48: the dedicated ones have kept the window");
    stop("mixed");
}

/* Sends, fragments, drops and what is larger compressed: a dedicated window stays in step. */
static void test_in_step(void)
{
    open_mixed();
    ws_conn *conn = conn_at(&h, 0);
    char more[64];
    bool right = true;
    for (int round = 0; round < 50 && right; round++) {
        size_t n = 100 + (size_t)round * 37;
        make_data(n, (uint32_t)(round / 3));
        publish(n, ZTEXT);
        int length = snprintf(more, sizeof more, "sent, sent, sent, sent, sent %d", round);
        ws_conn_send(conn, more, (size_t)length, ZTEXT);
        publish(n / 2, ZTEXT);
        turns(&h, 2);
        right = got(&peers[0], data, n, true) && got(&peers[0], more, (size_t)length, true) &&
                got(&peers[0], data, n / 2, true);
        for (int i = 1; i < count; i++)
            right = right && got(&peers[i], data, n, peers[i].compresses) &&
                    got(&peers[i], data, n / 2, peers[i].compresses);
    }
    ok(right, "X15: published and sent in turns: the window stays in step");

    uint32_t noise = 5;
    for (int i = 0; i < 30; i++) {
        noise = noise * 1664525 + 1013904223;
        data[i] = (char)('!' + (noise >> 24) % 90);
    }
    publish(30, ZTEXT);
    for (int i = 0; i < count; i++)
        right = right && got(&peers[i], data, 30, false);
    ok(right, "RFC 7692 6.1: what does not get shorter goes plain, for all of them");
    make_data(500, 9);
    publish(500, ZTEXT);
    is_int(receivers(500), 20, "X15: and the next one is understood");

    ws_conn_send_fragment(conn, "abcabcabcabcabc", 15, ZTEXT, false);
    publish(500, ZTEXT);
    ws_conn_send_fragment(conn, "", 0, WS_CONTINUATION, true);
    turns(&h, 2);
    client_read(&peers[0].c);
    ok(peers[0].c.in_length > 500 && (peers[0].c.in[0] & 0xff) == 0x41,
       "held back after fragments, uncompressed");
    for (int i = 1; i < count; i++)
        right = right && got(&peers[i], data, 500, peers[i].compresses);
    ok(right, "the others are not concerned");
    stop("in step");
}

static void test_dropped(void)
{
    open_mixed();
    for (int i = 0; i < 3; i++) {
        ws_conn *conn = conn_at(&h, i);
        struct ws__settings *settings = (struct ws__settings *)(uintptr_t)ws__conn_settings(conn);
        settings->behavior.max_backpressure = 1500;
        kernel_give_room(conn, 0);
    }
    make_data(2000, 11); /* about 1,100 compressed: one fits */
    publish(2000, ZTEXT);
    char *first = malloc(2000);
    memcpy(first, data, 2000);
    make_data(2000, 12);
    publish(2000, ZTEXT);
    memset(kernel.sockets, 0, sizeof kernel.sockets);
    turns(&h, 3);
    bool right = true;
    for (int i = 0; i < count; i++)
        right = right && got(&peers[i], first, 2000, peers[i].compresses) &&
                (i < 3 ? !peers[i].c.in_length : got(&peers[i], data, 2000, peers[i].compresses));
    ok(right, "S35: dropped for the stalled ones alone");
    publish(2000, ZTEXT);
    is_int(receivers(2000), 20, "X15: after a drop the window begins anew");
    publish(2000, ZTEXT);
    is_int(receivers(2000), 20, "X15: and continues");
    free(first);
    stop("dropped");
}

static void test_large(void)
{
    static const size_t sizes[] = {16383, 16384, 40000, 65536, 300000, 1 << 20};
    open_mixed();
    turns(&h, 3);
    make_data(100, 1);
    publish(100, ZTEXT);
    receivers(100);
    size_t before = stats_of(&h).memory;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make_data(sizes[i], (uint32_t)i);
        uint64_t calls = deflate_calls();
        is_int(publish(sizes[i], ZTEXT), 1, "published: %zu bytes", sizes[i]);
        is_int((long long)(deflate_calls() - calls), 5, "one call for the shared ones");
        is_int(receivers(sizes[i]), 20, "T52: each gets all of it");
    }
    turns(&h, 3);
    ok(stats_of(&h).memory <= before + 70000, "T52: the memory is back");
    stop("large");
}

/* Every allocation of a publish with compression fails, once, or with all after it. */
static void test_failing_memory(void)
{
    bool right = true;
    size_t n = 1;
    for (int after = 0; after < 2; after++) {
        bool reached = true;
        for (n = 1; reached && right; n++) {
            open_mixed();
            h.memory.calls = 0;
            h.memory.fail_at = n;
            h.memory.fail_after = after;
            make_data(2000, 20);
            publish(2000, ZTEXT);
            turns(&h, 2);
            reached = h.memory.calls >= n;
            h.memory.fail_at = 0;
            turns(&h, 3);
            int served = 0;
            for (int i = 0; i < count; i++) {
                struct peer *p = &peers[i];
                client_read(&p->c);
                bool closed = p->c.eof || p->c.reset || !conn_at(&h, i);
                bool shorter = p->compresses && p->c.in_length && (p->c.in[0] & 0x40);
                right = right && (closed || !p->c.in_length || got(p, data, 2000, shorter));
                served += !closed;
            }
            right = right && (after || served >= 19);
            for (int i = 0; i < count; i++) {
                inflateEnd(&peers[i].z);
                client_close(&peers[i].c);
            }
            turns(&h, 20);
            right = harness_free(&h) && right;
        }
    }
    ok(right, "T84: allocations fail: at most that connection ends, no leak (%zu)", n);
}

/* The same for messages in front of which some receivers get a label; `whole` begins with it. */
static int labelled_receivers(const char *whole, size_t label, size_t n)
{
    int right = 0;
    turns(&h, 4);
    for (int i = 0; i < count; i++) {
        size_t skipped = conn_at(&h, i)->labels ? 0 : label;
        right += got(&peers[i], whole + skipped, label + n - skipped, peers[i].compresses) &&
                 !peers[i].c.in_length;
    }
    return right;
}

static void test_labels(void)
{
    static char whole[5004] = "\0{}\n", escaped[5002] = "\0\n";
    open_mixed();
    for (int i = 0; i < count; i += 2)
        ws_conn_take_labels(conn_at(&h, i));
    for (size_t n = 100; n <= 5000; n = n * 5 / 2) {
        make_data(n, (uint32_t)n);
        data[0] = '\0';
        memcpy(whole + 4, data, n);
        memcpy(escaped + 2, data, n);
        uint64_t before = deflate_calls();
        is_int(publish(n, ZTEXT), 1, "published: %zu bytes", n);
        is_int((long long)(deflate_calls() - before), 4 + 2,
               "X15: one for each dedicated compressor, two for all that count as shared");
        is_int(labelled_receivers(escaped, 2, n), 20, "B7: each inflates to the message");
        before = deflate_calls();
        is_int(ws_server_deliver(h.server, "t", 1, whole, n + 4, ZTEXT | WS_LABELLED), 1,
               "delivered");
        is_int((long long)(deflate_calls() - before), 4 + 2, "X15: likewise");
        is_int(labelled_receivers(whole, 4, n), 20, "B7: each inflates to it, with its label");
        data[0] = 'x';
        before = deflate_calls();
        publish(n, ZTEXT);
        is_int((long long)(deflate_calls() - before), 4 + 1, "X15: without a label there is one");
        is_int(receivers(n), 20, "B7: for all");
    }
    stop("labels of compressed messages");
}

static int nested, deepest, ended;

static void tell_others(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *bytes, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)bytes, (void)length;
    if (event != ON_CLOSE)
        return;
    ended++;
    deepest = ++nested > deepest ? nested : deepest;
    publish(1000, ZTEXT);
    nested--;
}

/* Where memory is used up, the ends of those who needed some do not nest. */
static void test_cascade(void)
{
    start(WS_DEDICATED_COMPRESSOR_256KB);
    for (int i = 0; i < 40; i++)
        open_peer("/", "permessage-deflate");
    struct ws__memory *memory = &ws__hub_of(h.server)->memory;
    memory->limit = memory->used + 100000;
    make_data(1000, 7);
    h.hook = tell_others;
    publish(1000, ZTEXT);
    turns(&h, 5);
    is_int(ended, 40, "T63, X13: no memory for any compressor");
    is_int(deepest, 1, "T63: no handler inside another");
    h.hook = NULL;
    memory->limit = 0;
    stop("cascade");
}

static void cases(void)
{
    CASE(test_cascade());
    CASE(test_once());
    CASE(test_windows());
    CASE(test_mixed());
    CASE(test_in_step());
    CASE(test_dropped());
    CASE(test_large());
    CASE(test_labels());
    CASE(test_failing_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
