/*
 * test_labels.c: labels in front of messages: who gets them, and in front of what the server puts
 * an empty one, so that no message can be taken for a label: sent, in fragments, held back,
 * published, delivered. In what is compared here, ^ stands for a zero byte and | for a line end.
 */
#include "subscribers.h"
#include "hub.h"
#include "ws_cluster.h"

#include <stdlib.h>

/* Replaces bytes of payloads by what stands for them. */
static void translate(struct client *client)
{
    client_drain(client);
    for (size_t at = 0; at + 2 <= client->in_length;) {
        const unsigned char *head = (const unsigned char *)client->in + at;
        size_t header = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10, n = header == 2 ? head[1] : 0;
        for (size_t i = 2; i < header && header > 2; i++)
            n = n << 8 | head[i];
        for (size_t i = at + header; i < at + header + n && i < client->in_length; i++)
            client->in[i] = client->in[i] == '\0'   ? '^'
                            : client->in[i] == '\n' ? '|'
                                                    : client->in[i];
        at += header + n;
    }
}

static bool is_seen(int i, const char *want, const char *name)
{
    translate(&c[i]);
    return is_frames(&c[i], want, name);
}

/* Client 0 takes labels, client 1 does not; both are in the topic. */
static void start_with_labels(void)
{
    start(3);
    is_int(ws_conn_take_labels(conn_at(&h, 0)), WS_OK, "it takes labels");
    join(0, "a");
    join(1, "a");
    harness_events(&h);
}

static int send_bytes(int i, const char *data, size_t length, int opcode)
{
    return ws_conn_send(conn_at(&h, i), data, length, opcode);
}

static int deliver(const char *data, size_t length, int opcode)
{
    return ws_server_deliver(h.server, "a", 1, data, length, opcode);
}

static int publish_at(const char *data, size_t length)
{
    return ws_server_publish(h.server, "a", 1, data, length, WS_BINARY);
}

static void test_send(void)
{
    start_with_labels();
    for (int i = 0; i < 2; i++) {
        send_bytes(i, "plain", 5, WS_TEXT);
        send_bytes(i, "", 0, WS_TEXT);
        send_bytes(i, "\0zero", 5, WS_BINARY);
        send_bytes(i, "\0", 1, WS_TEXT);
        send_bytes(i, "\0no\nlabel", 9, WS_TEXT);
        send_bytes(i, "a\0", 2, WS_TEXT);
        send_bytes(i, "\0{}\nlabelled", 12, WS_TEXT | WS_LABELLED);
        send_bytes(i, "\0{}\n\0zero", 9, WS_BINARY | WS_LABELLED);
        send_bytes(i, "\0{}\n", 4, WS_TEXT | WS_LABELLED);
        send_bytes(i, "\0", 1, WS_PING);
    }
    is_seen(0, "TEXT plain, TEXT, BINARY ^|^zero, TEXT ^|^, TEXT ^|^no|label, TEXT a^, "
               "TEXT ^{}|labelled, BINARY ^{}|^zero, TEXT ^{}|, PING ^",
            "B7: what begins with a zero byte has a label, an empty one if need be");
    is_seen(1, "TEXT plain, TEXT, BINARY ^zero, TEXT ^, TEXT ^no|label, TEXT a^, TEXT labelled, "
               "BINARY ^zero, TEXT, PING ^",
            "B7: who takes no labels gets none");
    stop("labels of messages");
}

static void test_arguments(void)
{
    static const int opcodes[] = {WS_LABELLED,           WS_LABELLED | WS_PING,
                                  WS_LABELLED | WS_CLOSE, WS_LABELLED | WS_COMPRESS,
                                  WS_LABELLED | WS_TEXT | 0x800};
    start_with_labels();
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof opcodes / sizeof *opcodes; k++)
            is_int(send_bytes(i, "\0\nx", 3, opcodes[k]), WS_EINVAL, "opcode %#x", opcodes[k]);
        is_int(send_bytes(i, "x", 1, WS_TEXT | WS_LABELLED), WS_EINVAL, "no label");
        is_int(send_bytes(i, "\0x", 2, WS_TEXT | WS_LABELLED), WS_EINVAL, "no end of the label");
        is_int(send_bytes(i, NULL, 0, WS_TEXT | WS_LABELLED), WS_EINVAL, "nothing at all");
        is_int(send_bytes(i, "\0\n", 2, WS_TEXT | WS_NOTICE), WS_EINVAL, "no notice is sent");
        is_int(send_bytes(i, "\0\n", 2, WS_TEXT | WS_LABELLED | WS_NOTICE), WS_EINVAL, "nor so");
        is_int(send_bytes(i, "\0\n", SIZE_MAX, WS_TEXT | WS_LABELLED), WS_EINVAL, "too long");
        is_int(ws_conn_send_fragment(conn_at(&h, i), "\0\n", 2, WS_TEXT | WS_LABELLED, false),
               WS_EINVAL, "no labels in fragments");
    }
    is_int(ws_server_publish(h.server, "a", 1, "\0\n", 2, WS_TEXT | WS_LABELLED), WS_EINVAL,
           "nor published");
    is_int(ws_conn_publish(conn_at(&h, 0), "a", 1, "\0\n", 2, WS_TEXT | WS_LABELLED, false),
           WS_EINVAL, "nor by a connection");
    for (size_t k = 0; k < sizeof opcodes / sizeof *opcodes; k++)
        is_int(deliver("\0\nx", 3, opcodes[k]), WS_EINVAL, "delivered: opcode %#x", opcodes[k]);
    is_int(deliver("x", 1, WS_TEXT | WS_LABELLED), WS_EINVAL, "delivered: no label");
    is_int(deliver(NULL, 0, WS_TEXT | WS_LABELLED), WS_EINVAL, "delivered: nothing at all");
    is_int(deliver("\0\n", 2, WS_TEXT | WS_NOTICE), WS_EINVAL, "a notice has a label");
    is_int(deliver("\0\n", SIZE_MAX, WS_TEXT | WS_LABELLED), WS_EINVAL, "delivered: too long");
    is_int(ws_conn_take_labels(conn_at(&h, 0)), WS_OK, "again");
    is_seen(0, "", "nothing was sent");
    is_seen(1, "", "to none");
    stop("arguments");
}

static void test_deliver(void)
{
    start_with_labels();
    is_int(deliver("\0{1}\none", 8, WS_TEXT | WS_LABELLED), 1, "with a label");
    is_int(deliver("\0{2}\n", 5, WS_BINARY | WS_LABELLED), 1, "an empty message");
    is_int(deliver("\0{3}\n\0", 6, WS_BINARY | WS_LABELLED), 1, "one that begins with zero");
    is_int(deliver("\0{4}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE), 1, "a notice");
    is_int(deliver("plain", 5, WS_TEXT), 1, "without");
    is_int(publish_at("\0zero", 5), 1, "published");
    is_seen(0, "TEXT ^{1}|one, BINARY ^{2}|, BINARY ^{3}|^, TEXT ^{4}|, TEXT plain, BINARY ^|^zero",
            "B7: all labels");
    is_seen(1, "TEXT one, BINARY, BINARY ^, TEXT plain, BINARY ^zero", "B7: none of them");
    ws_conn_unsubscribe(conn_at(&h, 0), "a", 1);
    is_int(deliver("\0{5}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE), 0, "a notice for no one");
    client_close(&c[0]);
    turns(&h, 3);
    is_int(ws__hub_of(h.server)->label_takers, 0, "no one is left who takes labels");
    is_int(deliver("\0{6}\nsix", 8, WS_TEXT | WS_LABELLED), 1, "for those who take none");
    is_int(deliver("\0{7}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE), 0, "but no notice");
    is_seen(1, "TEXT six", "B7: without the label");
    stop("delivered labels");
}

static void test_fragments(void)
{
    start_with_labels();
    for (int i = 0; i < 2; i++) {
        ws_conn *conn = conn_at(&h, i);
        ws_conn_send_fragment(conn, "\0a", 2, WS_BINARY, false);
        send_bytes(i, "\0held", 5, WS_BINARY);
        send_bytes(i, "\0{}\nheld", 8, WS_TEXT | WS_LABELLED);
        ws_conn_send_fragment(conn, "\0b", 2, WS_CONTINUATION, true);
        ws_conn_send_fragment(conn, "", 0, WS_TEXT, false);
        ws_conn_send_fragment(conn, "\0c", 2, WS_CONTINUATION, true);
        ws_conn_send_fragment(conn, "d", 1, WS_TEXT, false);
        ws_conn_send_fragment(conn, "\0", 1, WS_CONTINUATION, true);
        ws_conn_send_fragment(conn, "\0e", 2, WS_TEXT, true);
        ws_conn_send_fragment(conn, "", 0, WS_TEXT, true);
        is_int(ws_conn_send_fragment(conn, "\0", 1, WS_CONTINUATION, true), WS_EORDER, "order");
    }
    is_seen(0, "BINARY+ ^|^a, CONT ^b, BINARY ^|^held, TEXT ^{}|held, TEXT+ ^|, "
               "CONT ^c, TEXT+ d, CONT ^, TEXT ^|^e, TEXT",
            "B7: fragments, and what waits behind them");
    is_seen(1, "BINARY+ ^a, CONT ^b, BINARY ^held, TEXT held, TEXT+, CONT ^c, "
               "TEXT+ d, CONT ^, TEXT ^e, TEXT",
            "B7: without labels");
    for (int i = 0; i < 2; i++)
        ws_conn_send_fragment(conn_at(&h, i), "f", 1, WS_TEXT, false);
    publish_at("\0p", 2);
    deliver("\0{}\nd", 5, WS_TEXT | WS_LABELLED);
    deliver("\0{n}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE);
    for (int i = 0; i < 2; i++)
        ws_conn_send_fragment(conn_at(&h, i), "g", 1, WS_CONTINUATION, true);
    is_seen(0, "TEXT+ f, CONT g, BINARY ^|^p, TEXT ^{}|d, TEXT ^{n}|",
            "B7: published between fragments");
    is_seen(1, "TEXT+ f, CONT g, BINARY ^p, TEXT d", "B7: without labels");
    stop("labels and fragments");
}

static void cases(void)
{
    CASE(test_send());
    CASE(test_arguments());
    CASE(test_deliver());
    CASE(test_fragments());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
