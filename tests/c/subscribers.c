/* SPDX-License-Identifier: MIT */
/*
 * subscribers.c: clients in topics, and what is published to them, see subscribers.h.
 */
#include "subscribers.h"

struct harness h;
struct client c[CLIENTS];
int clients, results;
char payload[1 << 20];
size_t most;

void prepare(void)
{
    harness_init(&h);
    clients = 0;
    kernel_reset(0);
}

void run(int count)
{
    harness_start(&h);
    kernel_reset(h.port);
    for (clients = 0; clients < count; clients++)
        client_open(&c[clients], &h);
    harness_events(&h);
}

void start(int count)
{
    prepare();
    run(count);
}

void stop(const char *name)
{
    h.hook = NULL;
    for (int i = 0; i < clients; i++)
        client_close(&c[i]);
    turns(&h, 3);
    harness_stop(&h, name);
}

int join(int i, const char *topic)
{
    return ws_conn_subscribe(conn_at(&h, i), topic, strlen(topic));
}

int publish(const char *topic, const char *text)
{
    return ws_server_publish(h.server, topic, strlen(topic), text, strlen(text), WS_TEXT);
}

int publish_bytes(const char *topic, char fill, size_t n)
{
    memset(payload, fill, n);
    return ws_server_publish(h.server, topic, strlen(topic), payload, n, WS_BINARY);
}

int send_text(int i, const char *text)
{
    ws_conn *conn = conn_at(&h, i);
    return conn ? ws_conn_send(conn, text, strlen(text), WS_TEXT) : WS_DROPPED;
}

uint32_t subscribers(const char *topic)
{
    return ws_server_subscribers(h.server, topic, strlen(topic));
}

void give_room(int i, size_t room)
{
    kernel_give_room(conn_at(&h, i), room);
}

static void call(void *argument)
{
    void (*fn)(void);
    memcpy(&fn, argument, sizeof fn);
    fn();
}

void in_turn(void (*fn)(void))
{
    static void (*kept)(void);
    kept = fn;
    ws_server_defer(h.server, call, &kept);
    turns(&h, 1);
}

void run_in_topics(void)
{
    h.behavior.max_backpressure = 1000;
    run(4);
    join(0, "a");
    join(0, "b");
    join(1, "b");
    results = 0;
    kernel.writes = 0;
}

void start_in_topics(void)
{
    prepare();
    run_in_topics();
}

void publish_ten(void)
{
    for (int i = 0; i < 10; i++)
        publish(i & 1 ? "a" : "b", "x");
}

void publish_large(void)
{
    send_text(0, "1");
    publish("a", "2");
    publish_bytes("a", 'x', 16383);
    publish_bytes("b", 'y', 16384);
    publish_bytes("a", 'z', 100000);
    publish("a", "3");
    publish_bytes("b", 'w', 70000);
}

void publish_much(void)
{
    most = 0;
    for (int i = 0; i < 60; i++) {
        size_t memory = stats_of(&h).memory;
        most = memory > most ? memory : most;
        publish_bytes("a", (char)i, 10000);
        if (i % 7 == 0)
            publish_bytes("b", (char)i, 9000);
    }
}

int check_much(struct client *client, bool both)
{
    int count = 0;
    client_drain(client);
    const unsigned char *at = (const unsigned char *)client->in;
    for (int i = 0; i < 60; i++)
        for (int b = 0; b < 2; b++) {
            if (b ? i % 7 : !both)
                continue;
            size_t n = b ? 9000 : 10000;
            size_t left = client->in_length - (size_t)(at - (unsigned char *)client->in);
            if (left < n + 4 || at[0] != 0x82 || (size_t)(at[2] << 8 | at[3]) != n ||
                at[4] != i || memcmp(at + 4, at + 5, n - 1))
                return -1;
            at += n + 4;
            count++;
        }
    size_t rest = client->in_length - (size_t)(at - (unsigned char *)client->in);
    client->in_length = 0;
    return rest ? -2 : count;
}

void publish_four(void)
{
    results = 0;
    for (int i = 0; i < 4; i++)
        results += publish_bytes("a", (char)('a' + i), 996);
}
