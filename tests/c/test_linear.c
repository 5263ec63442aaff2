/* SPDX-License-Identifier: MIT */
/*
 * test_linear.c: every byte is copied a bounded number of times, whatever pieces it comes in and
 * however many turns it waits. What the server asks of its allocator is counted: a copy that is
 * made again in each turn or at each read asks for a block each time.
 */
#include "harness.h"

#include <stdlib.h>

static struct harness h;
static struct client c;
static int seen;

/* recv_buffer_size: of a default size, and less than a head may have. */
enum { LARGE = 1024 * 1024, SMALL = 4096 };

static void count(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness, (void)conn, (void)request, (void)data, (void)length;
    seen += event == ON_MESSAGE;
}

static void start(uint32_t recv_buffer_size)
{
    harness_init(&h);
    h.hook = count;
    h.quiet = true;
    h.config.recv_buffer_size = recv_buffer_size;
    seen = 0;
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
}

static void stop(const char *name)
{
    client_close(&c);
    turns(&h, 3);
    harness_stop(&h, name);
}

/* One read brings more messages than a turn handles. */
static void test_leftovers(void)
{
    enum { MESSAGES = 30 * 1024 };
    char *bytes = malloc(MESSAGES * 6), *end = bytes;
    if (!bytes)
        return;
    for (int i = 0; i < MESSAGES; i++)
        end += make_frame(end, 0x81, "", 0);
    size_t n = (size_t)(end - bytes);
    start(LARGE);
    client_open(&c, &h);
    size_t before = h.memory.asked, idle = h.memory.bytes;
    is_int((long long)client_write(&c, bytes, n), (long long)n, "the kernel takes all of it");
    turns(&h, 2);
    ok(seen && seen < MESSAGES / 4, "the budget of a turn ends first, %d messages", seen);
    turns(&h, 60);
    is_int(seen, MESSAGES, "every message arrives");
    size_t asked = h.memory.asked - before;
    ok(asked < 4 * n, "leftovers are moved a few times at most: %zu bytes asked for %zu", asked, n);
    ok(h.memory.bytes == idle, "and nothing of them stays");
    free(bytes);
    stop("leftovers");
}

/* What a turn leaves is a few bytes of the next frame: they do not keep the large block. */
static void test_small_rest(uint32_t recv_buffer_size)
{
    char bytes[3000 * 6], *end = bytes;
    start(recv_buffer_size);
    client_open(&c, &h);
    size_t idle = h.memory.bytes;
    for (int i = 0; i < 3000; i++)
        end += make_frame(end, 0x81, "", 0);
    client_write(&c, bytes, (size_t)(end - bytes) - 3);
    turns(&h, 10);
    is_int(seen, 2999, "all but the last one");
    ok(h.memory.bytes < idle + 100, "the rest is small, and so is its block: %zu bytes",
       h.memory.bytes - idle);
    client_write(&c, end - 3, 3);
    turns(&h, 2);
    is_int(seen, 3000, "which comes when it is whole");
    stop("a small rest");
}

/* A head that comes byte by byte. */
static void drip(const char *request, size_t n, size_t piece)
{
    for (size_t at = 0; at < n; at += piece) {
        client_write(&c, request + at, n - at < piece ? n - at : piece);
        turns(&h, 1);
    }
}

/* Blocks that every request takes: its table of fields, and the queue of the answer. */
enum { ONCE = 68 * 1024 };

static void test_head(uint32_t recv_buffer_size, const char *request, size_t n, size_t piece,
                      const char *answer)
{
    start(recv_buffer_size);
    client_connect(&c, &h);
    size_t before = h.memory.asked;
    drip(request, n, piece);
    size_t asked = h.memory.asked - before;
    ok(asked < 6 * n + ONCE, "a head of %zu bytes in pieces of %zu: %zu bytes asked for", n, piece,
       asked);
    is_responses(&c, answer, "and it is answered");
    stop("a head in pieces");
}

/* The request, a long field, and then what follows the head: text in a frame or another request. */
static void test_heads(uint32_t recv_buffer_size)
{
    enum { FILL = 12000 };
    static char request[FILL + 1000], fill[FILL];
    memset(fill, 'x', sizeof fill);
    int n = snprintf(request, sizeof request,
                     "GET /page HTTP/1.1\r\nHost: t\r\nX-Fill: %.*s\r\n\r\n", FILL, fill);
    test_head(recv_buffer_size, request, (size_t)n, 1, "200 /page");
    test_head(recv_buffer_size, request, (size_t)n, 700, "200 /page");
    n += snprintf(request + n, sizeof request - (size_t)n, "GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
    test_head(recv_buffer_size, request, (size_t)n, 5, "200 /page, 200 /page");
    test_head(recv_buffer_size, request, (size_t)n, 11000, "200 /page, 200 /page");

    n = snprintf(request, sizeof request, "GET / HTTP/1.1\r\nX-Fill: %.*s%s", FILL, fill,
                 strchr(handshake_request, '\r'));
    n += (int)make_frame(request + n, 0x81, "hello", 5);
    n += (int)make_frame(request + n, 0x81, "again", 5);
    static const size_t pieces[] = {1, 3, 1000, 12200, 12250};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        test_head(recv_buffer_size, request, (size_t)n, pieces[i], "101");
        is_int(seen, 2, "with the messages that follow it");
    }
}

/* A frame header, and a message in pieces. */
static void test_fragments(uint32_t recv_buffer_size)
{
    enum { LENGTH = 16000 };
    static char payload[LENGTH], frame[LENGTH + 14];
    size_t n = make_frame(frame, 0x82, payload, LENGTH);
    start(recv_buffer_size);
    client_open(&c, &h);
    size_t before = h.memory.asked;
    drip(frame, n, 1);
    size_t asked = h.memory.asked - before;
    ok(asked < 8 * n, "a message of %zu bytes, byte by byte: %zu bytes asked for", n, asked);
    is_int(seen, 1, "arrives");
    before = h.memory.asked;
    for (int i = 0; i < 4000; i++) {
        n = make_frame(frame, i ? 0x00 : 0x02, payload, 4);
        client_write(&c, frame, n);
        turns(&h, i % 3 == 0);
    }
    client_frame(&c, 0x80, "", 0);
    turns(&h, 8);
    asked = h.memory.asked - before;
    ok(asked < 8 * LENGTH, "a message in 4,000 fragments: %zu bytes asked for", asked);
    is_int(seen, 2, "arrives");
    stop("fragments");
}

static void cases(void)
{
    CASE(test_leftovers());
    CASE(test_small_rest(LARGE));
    CASE(test_small_rest(SMALL));
    CASE(test_heads(LARGE));
    CASE(test_heads(SMALL));
    CASE(test_fragments(LARGE));
    CASE(test_fragments(SMALL));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
