/* SPDX-License-Identifier: MIT */
/*
 * tls_client.c: see tls_client.h.
 */
#include "tls_client.h"

#include <sys/socket.h>

struct harness h;
struct client c;
char wire[1 << 21];
size_t wire_length;

void prepare(void)
{
    harness_init(&h);
    h.tls = true;
    h.tells_closed = true;
    wire_length = 0;
    memset(&c, 0, sizeof c);
    c.fd = -1;
}

void begin(void)
{
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
}

void connect_raw(void)
{
    h.tls = false;
    client_connect(&c, &h);
    h.tls = true;
    c.tls = fake_peer_new();
    c.tls->out_length = 0;
    c.tls->answered = true;
}

void connect_shaken(void)
{
    connect_raw();
    add_handshake();
    send_all();
    turns(&h, 2);
    client_read(&c);
}

void add_record(int type, const void *bytes, size_t n)
{
    wire_length += fake_record(wire + wire_length, type, bytes, n);
}

void add_text(int type, const char *text)
{
    add_record(type, text, strlen(text));
}

void add_handshake(void)
{
    wire_length = 0;
    add_text(FAKE_HANDSHAKE, "hello");
    add_text(FAKE_HANDSHAKE, "end");
}

void add_frame(int first, const char *text)
{
    char frame[1000];
    add_record(FAKE_DATA, frame, make_frame(frame, first, text, strlen(text)));
}

void add_close_notify(void)
{
    add_record(FAKE_ALERT, "\0", 1);
}

void send_wire(size_t from, size_t to)
{
    while (from < to) {
        ssize_t n = send(c.fd, wire + from, to - from, MSG_NOSIGNAL);
        if (n > 0)
            from += (size_t)n;
        else
            turns(&h, 1);
        if (n < 0 && !stats_of(&h).connections)
            return;
    }
}

void send_all(void)
{
    send_wire(0, wire_length);
    wire_length = 0;
}

void expect_alive(void)
{
    struct client other;
    unsigned reads = fake_tls.fail_read, writes = fake_tls.fail_write;
    fake_tls.fail_open = fake_tls.fail_handshake = fake_tls.fail_read = fake_tls.fail_write = 0;
    fake_tls.keeps_input = fake_tls.empty = false;
    h.hook = NULL;
    h.answers = false;
    client_open(&other, &h);
    client_frame(&other, 0x89, "alive", 5);
    is_frames(&other, "PONG alive", "the server continues");
    client_close(&other);
    turns(&h, 3);
    fake_tls.fail_read = reads;
    fake_tls.fail_write = writes;
}

void stop(const char *name)
{
    client_close(&c);
    for (int i = 0; i < 1000 && stats_of(&h).connections; i++)
        turns(&h, 1);
    is_int(stats_of(&h).connections, 0, "no socket is left");
    harness_stop(&h, name);
}
