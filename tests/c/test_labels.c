/* SPDX-License-Identifier: MIT */
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
    ws_conn *conn = conn_at(&h, i);
    return conn ? ws_conn_send(conn, data, length, opcode) : WS_DROPPED;
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

/* ---- what is too long to be copied ---- */

/* The next frame that a client has received is a binary message: `label`, then payload[n]. */
static bool is_next(int i, const char *label, size_t label_length, size_t n)
{
    client_drain(&c[i]);
    const unsigned char *head = (const unsigned char *)c[i].in;
    size_t length = label_length + n, header = length < 126 ? 2 : length < 65536 ? 4 : 10, told = 0;
    if (c[i].in_length < header + length || head[0] != 0x82)
        return false;
    for (size_t k = header == 2 ? 1 : 2; k < header; k++)
        told = told << 8 | head[k];
    bool same = told == length && !memcmp(c[i].in + header, label, label_length) &&
                !memcmp(c[i].in + header + label_length, payload, n);
    c[i].in_length -= header + length;
    memmove(c[i].in, c[i].in + header + length, c[i].in_length);
    return same;
}

static void test_long(void)
{
    static const size_t sizes[] = {123,   124,   125,   126,   16380, 16381, 16382, 16383,
                                   16384, 16385, 65532, 65533, 65534, 65535, 65536, 500000};
    static char labelled[1 << 20] = "\0{}\n";
    prepare();
    h.behavior.max_backpressure = 0;
    run(4);
    for (int i = 0; i < 4; i++)
        join(i, "a");
    ws_conn_take_labels(conn_at(&h, 0));
    ws_conn_take_labels(conn_at(&h, 2));
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k], wrong = 0;
        for (size_t i = 0; i < n; i++)
            payload[i] = (char)(i % 251);
        memcpy(labelled + 4, payload, n);
        for (int i = 0; i < 2; i++)
            send_bytes(i, payload, n, WS_BINARY);
        publish_at(payload, n);
        ws_conn_publish(conn_at(&h, 0), "a", 1, payload, n, WS_BINARY, true);
        deliver(labelled, n + 4, WS_BINARY | WS_LABELLED);
        for (int i = 0; i < 2; i++)
            wrong += !is_next(i, "\0\n", i ? 0 : 2, n);
        for (int i = 0; i < 4; i++) {
            wrong += !is_next(i, "\0\n", i & 1 ? 0 : 2, n);
            wrong += i && !is_next(i, "\0\n", i & 1 ? 0 : 2, n);
            wrong += !is_next(i, "\0{}\n", i & 1 ? 0 : 4, n) || c[i].in_length;
        }
        is_int((long long)wrong, 0, "B7: %zu bytes: sent, published, without self, delivered", n);
    }
    stop("long messages with labels");
}

/* ---- one form for each kind of receiver ---- */

static void publish_and_deliver(void)
{
    publish_at("\0zero", 5);
    deliver("\0{1}\none", 8, WS_TEXT | WS_LABELLED);
    deliver("\0{2}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE);
    publish_at("plain", 5);
}

static void test_shared(void)
{
    start(8);
    for (int i = 0; i < 8; i++) {
        join(i, "a");
        if (i & 1)
            ws_conn_take_labels(conn_at(&h, i));
    }
    kernel.writes = 0;
    in_turn(publish_and_deliver);
    is_int((long long)kernel.writes, 8, "one write for each receiver");
    for (int i = 0; i < 8; i++)
        is_seen(i, i & 1 ? "BINARY ^|^zero, TEXT ^{1}|one, TEXT ^{2}|, BINARY plain"
                         : "BINARY ^zero, TEXT one, BINARY plain",
                "B7: in order");
    kernel.writes = 0;
    size_t before = h.memory.calls;
    in_turn(publish_and_deliver);
    ok(h.memory.calls - before < 30, "built once: %zu allocations", h.memory.calls - before);
    stop("forms of a labelled message");
}

/* ---- backpressure ---- */

static void test_limit(void)
{
    prepare();
    h.behavior.max_backpressure = 1000;
    run(2);
    ws_conn_take_labels(conn_at(&h, 0));
    for (int i = 0; i < 2; i++) {
        join(i, "a");
        give_room(i, 0);
    }
    harness_events(&h);
    memset(payload, 0, 1000);
    is_int(send_bytes(0, payload, 996, WS_BINARY), WS_DROPPED, "S34: 4 + 2 + 996 bytes");
    is_events(&h, "dropped BINARY [996]", "S35: on_dropped gets what was sent");
    is_int(send_bytes(1, payload, 996, WS_BINARY), WS_BACKPRESSURE, "S34: 4 + 996 are not");
    is_int(send_bytes(0, payload, 500, WS_BINARY), WS_BACKPRESSURE, "S34: shorter");
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 0)), 506, "S28: the label counts");
    is_int(deliver("\0{}\nx", 5, WS_TEXT | WS_LABELLED), 1, "B7: delivered to one of them");
    is_events(&h, "1:dropped TEXT x", "S35: dropped by the other");
    is_int((long long)ws_conn_buffered_amount(conn_at(&h, 0)), 506 + 7, "S28: with its label");
    is_int(publish_at(payload, 482), 0, "S34: 4 + 2 + 482 bytes");
    is_events(&h, "dropped BINARY [482]; 1:dropped BINARY [482]", "S35: published: what was");
    is_int(publish_at(payload, 481), 1, "S34: one less");
    is_events(&h, "1:dropped BINARY [481]", "S35: dropped by the other");
    is_int(send_bytes(0, "\0{}\nx", 5, WS_BINARY | WS_LABELLED | WS_COMPRESS), WS_DROPPED, "full");
    is_int(send_bytes(1, "\0{}\nx", 5, WS_TEXT | WS_LABELLED), WS_DROPPED, "both are");
    is_events(&h, "dropped BINARY x; 1:dropped TEXT x", "S35: without the label");
    is_int(deliver("\0{n}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE), 0, "a notice");
    is_events(&h, "dropped TEXT", "S35: what follows the label of a notice is nothing");
    give_room(0, SIZE_MAX / 2);
    give_room(1, SIZE_MAX / 2);
    turns(&h, 2);
    is_events(&h, "drain; 1:drain", "S31: then they drain");
    is_seen(0, "BINARY [502], TEXT ^{}|x, BINARY [483]", "B7: what was accepted arrives");
    is_seen(1, "BINARY [996]", "also there");
    ws_conn_send_fragment(conn_at(&h, 0), "f", 1, WS_TEXT, false);
    is_int(send_bytes(0, payload, 995, WS_BINARY), WS_DROPPED, "S34: held back: too many");
    is_int(send_bytes(0, payload, 994, WS_BINARY), WS_BACKPRESSURE, "S34: not too many");
    is_int(publish_at("\0", 1), 1, "the other one gets it");
    is_events(&h, "dropped BINARY [995]; dropped BINARY ", "S35: both that were too many");
    ws_conn_send_fragment(conn_at(&h, 0), "g", 1, WS_CONTINUATION, true);
    is_seen(0, "TEXT+ f, CONT g, BINARY [996]", "B7: after the last fragment");
    is_seen(1, "BINARY ^", "B7: without");
    stop("labels and max_backpressure");
}

static void test_closing(void)
{
    start_with_labels();
    ws_conn *conn = conn_at(&h, 0);
    ws_conn_end(conn, 1000, NULL, 0);
    is_int(ws_conn_send(conn, "\0", 1, WS_TEXT), WS_DROPPED, "it is closing");
    is_int(ws_conn_send(conn, "\0\nx", 3, WS_TEXT | WS_LABELLED), WS_DROPPED, "with a label");
    is_int(ws_conn_take_labels(conn), WS_ECLOSED, "and takes none");
    is_int(ws__hub_of(h.server)->label_takers, 1, "it counts until it is freed");
    client_send_close(&c[0], 1000, "");
    client_close(&c[0]);
    turns(&h, 3);
    is_int(ws__hub_of(h.server)->label_takers, 0, "but no longer");
    stop("closing with labels");
}

/* ---- handlers ---- */

static int depth;

/* What a handler publishes because of a message comes after that message, for all. */
static void answer(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                   const char *data, size_t length)
{
    (void)harness, (void)request, (void)length;
    if (event == ON_OPEN)
        ws_conn_take_labels(conn);
    if (event == ON_MESSAGE) {
        publish_at("\0m", 2);
        ws_conn_publish(conn, "a", 1, "\0s", 2, WS_BINARY, true);
        deliver("\0{m}\nm", 6, WS_TEXT | WS_LABELLED);
        ws_conn_send(conn, "\0e", 2, WS_BINARY);
    } else if (event == ON_DROPPED && !depth++) {
        ok(length == 900 && data[0] == 'x', "S35: what the connection lost");
        deliver("\0{d}\nd", 6, WS_TEXT | WS_LABELLED);
        publish_at("\0d", 2);
    } else if (event == ON_CLOSE) {
        deliver("\0{c}\nc", 6, WS_TEXT | WS_LABELLED);
        deliver("\0{n}\n", 5, WS_TEXT | WS_LABELLED | WS_NOTICE);
    }
}

static void test_handlers(void)
{
    static char large[905] = "\0{l}\n";
    prepare();
    h.behavior.max_backpressure = 800;
    h.hook = answer;
    run(2);
    ws_conn_take_labels(conn_at(&h, 0));
    h.hook = NULL;
    client_open(&c[clients++], &h);
    h.hook = answer;
    for (int i = 0; i < 3; i++)
        join(i, "a");
    is_int(ws__hub_of(h.server)->label_takers, 2, "two take labels from on_open on, one does not");
    client_text(&c[1], "go");
    turns(&h, 2);
    is_seen(0, "BINARY ^|^m, BINARY ^|^s, TEXT ^{m}|m", "B7: published in on_message");
    is_seen(1, "BINARY ^|^m, TEXT ^{m}|m, BINARY ^|^e", "B7: without its own, and sent");
    is_seen(2, "BINARY ^m, BINARY ^s, TEXT m", "B7: no labels");
    memset(large + 5, 'x', 900);
    depth = 0;
    give_room(0, 0);
    is_int(deliver(large, 905, WS_TEXT | WS_LABELLED), 1, "two get it");
    give_room(0, SIZE_MAX / 2);
    is_seen(0, "TEXT ^{d}|d, BINARY ^|^d", "B7: what on_dropped has published");
    is_seen(1, "TEXT [905], TEXT ^{d}|d, BINARY ^|^d", "B7: comes after what was dropped");
    is_seen(2, "TEXT [900], TEXT d, BINARY ^d", "B7: for all");
    ws_conn_close(conn_at(&h, 1));
    is_seen(0, "TEXT ^{c}|c, TEXT ^{n}|", "B7: published in on_close");
    is_seen(2, "TEXT c", "B7: no notice");
    stop("labels in handlers");
}

/* ---- memory ---- */

/* Every allocation fails, once, or with all after it. */
static void test_memory(bool after)
{
    int ended = 0, refused = 0;
    bool right = true, reached = true;
    size_t n = 0;
    while (reached && right && ++n < 200) {
        prepare();
        h.quiet = true;
        run(4);
        for (int i = 0; i < 4; i++) {
            join(i, "a");
            if (i & 1)
                ws_conn_take_labels(conn_at(&h, i));
        }
        give_room(3, 0);
        memset(payload, 0, 20000);
        h.memory.calls = 0;
        h.memory.fail_at = n;
        h.memory.fail_after = after;
        publish_and_deliver();
        int sent = send_bytes(1, "\0sent", 5, WS_BINARY);
        int large = send_bytes(3, payload, 20000, WS_BINARY);
        ws_conn *one = conn_at(&h, 1);
        int fragment = one ? ws_conn_send_fragment(one, "\0f", 2, WS_BINARY, false) : 0;
        publish_at(payload, 20000);
        reached = h.memory.calls >= n;
        h.memory.fail_at = 0;
        turns(&h, 3);
        refused += (sent == WS_ENOMEM) + (large == WS_ENOMEM) + (fragment == WS_ENOMEM);
        ended += h.closed;
        right = (after || h.closed <= 1) && conn_at(&h, 0) && conn_at(&h, 2);
        translate(&c[2]);
        const char *seen = client_frames(&c[2]);
        right = right && strstr(seen, "BINARY ^zero, TEXT one, BINARY plain") == seen;
        for (int i = 0; i < 4; i++)
            client_close(&c[i]);
        turns(&h, 3);
        right = harness_free(&h) && right;
    }
    ok(right && n > 10, "T84: allocation %zu fails%s: those who take no labels get everything", n,
       after ? ", and all after it" : "");
    ok(ended && refused, "T84: %d others ended, %d sends refused", ended, refused);
}

static void cases(void)
{
    CASE(test_send());
    CASE(test_arguments());
    CASE(test_deliver());
    CASE(test_fragments());
    CASE(test_long());
    CASE(test_shared());
    CASE(test_limit());
    CASE(test_closing());
    CASE(test_handlers());
    CASE(test_memory(false));
    CASE(test_memory(true));
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
