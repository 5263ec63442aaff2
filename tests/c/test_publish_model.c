/* SPDX-License-Identifier: MIT */
/*
 * test_publish_model.c: T66: random subscribing, publishing, sending, fragments, ends and resets
 * over many connections and topics, some of which take labels, from turns, between turns and inside
 * handlers, while the kernel takes as little as it likes; against a model that holds, for each
 * socket, the exact list of messages to come. PUBLISH_SEED tries another sequence.
 */
#include "harness.h"
#include "conn.h"
#include "kernel.h"
#include "ws_cluster.h"

#include <stdlib.h>

enum { PEERS = 40, TOPICS = 15, LABEL_MAX = 24 };
enum {
    OPTIONAL = 1u << 31, /* it may be missing: dropped where no handler could be told */
    CLOSING_NOW = 1u << 30
};

/* One client, and what the model knows of its connection. */
struct peer {
    struct client c;
    bool used, gone, strict; /* gone: it reads nothing more */
    bool labels;             /* it takes them */
    bool closed;             /* on_close ran */
    ws_conn_id id;
    bool topics[TOPICS];
    uint32_t *expected; /* ids of messages, CLOSING_NOW: the Close */
    size_t first, count, capacity;
    uint32_t fragments, *held; /* id of the fragmented current message; after it: */
    size_t held_count, held_capacity;
    int pieces; /* sent of it */
    size_t last_piece; /* while it is sent: from here on nothing may come, SIZE_MAX: it is not */
    char *message; /* received of a fragmented one */
    size_t message_length;
    bool close_seen;
    size_t matched;
};

static struct harness h;
static struct peer peers[PEERS];
static uint32_t next_id = 1, first_of_operation;
static uint32_t under_way[64], under_way_count; /* current publishes, the outer ones first */
static uint32_t watched, watched_drops; /* the current publish, and who dropped it */
static int depth;
static uint64_t state;
static bool failed;
static unsigned long operations, dropped, limited, compared, ended;
static char other[1 << 17];

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static bool complain(const char *what, int i)
{
    if (!failed)
        diag("peer %d: %s (operation %lu, id %u)", i, what, operations, (unsigned)next_id);
    failed = true;
    return false;
}

/* ---- messages: the id tells all of their bytes, and whether they have a label ---- */

static size_t size_of(uint32_t id)
{
    uint32_t r = id * 2654435761u >> 7;
    if (r % 211 == 1)
        return 60000;
    return r % 61 == 0 ? 16380 + r % 9 : r % 17 == 2 ? 1000 + r % 3000 : 4 + r % 140;
}

static size_t make_message(char *to, uint32_t id)
{
    size_t n = size_of(id);
    memset(to, (char)id, n);
    for (uint32_t i = 0; i < n && i < 4; i++)
        to[i] = (char)(id >> (id & 1 ? 8 * i : 24 - 8 * i) & 0xff); /* even ones begin with zero */
    return n;
}

static bool is_labelled(uint32_t id)
{
    return id * 2654435761u >> 30 == 0;
}

/* With its label, if it has one. */
static size_t make_labelled(char *to, uint32_t id)
{
    size_t label = 0;
    if (is_labelled(id)) {
        to[0] = '\0';
        label = (size_t)snprintf(to + 1, LABEL_MAX, "{%u}\n", (unsigned)id) + 1;
    }
    return label + make_message(to + label, id);
}

static void push(uint32_t **list, size_t *count, size_t *capacity, uint32_t id)
{
    if (*count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 64;
        *list = realloc(*list, *capacity * sizeof **list);
        if (!*list)
            abort();
    }
    (*list)[(*count)++] = id;
}

static ws_conn *conn_of(const struct peer *p)
{
    return p->used && !p->closed ? ws_server_find(h.server, p->id) : NULL;
}

/* What is dropped inside on_dropped, or by a connection that is to be ended later, is not told. */
static bool is_untold(const struct peer *p)
{
    const struct ws__hub *hub = ws__hub_of(h.server);
    const ws_conn *conn = conn_of(p);
    return hub->in_dropped || (hub->in_ending && (p->strict || p->fragments)) ||
           (conn && conn->ending);
}

static void expect(struct peer *p, uint32_t id)
{
    if (id != CLOSING_NOW && is_untold(p))
        id |= OPTIONAL;
    if (p->fragments && id != CLOSING_NOW)
        push(&p->held, &p->held_count, &p->held_capacity, id);
    else
        push(&p->expected, &p->count, &p->capacity, id);
}

static bool forget_in(uint32_t *list, size_t first, size_t *count, uint32_t id)
{
    for (size_t i = *count; i-- > first;)
        if ((list[i] & ~OPTIONAL) == id) {
            memmove(list + i, list + i + 1, (*count - i - 1) * sizeof *list);
            (*count)--;
            return true;
        }
    return false;
}

static bool forget(struct peer *p, uint32_t id)
{
    return forget_in(p->held, 0, &p->held_count, id) ||
           forget_in(p->expected, p->first, &p->count, id);
}

/* ---- what arrives ---- */

/* What a client gets of a message. */
static size_t make_expected(const struct peer *p, char *to, uint32_t id)
{
    size_t n = p->labels ? make_labelled(to, id) : make_message(to, id);
    if (!p->labels || is_labelled(id) || to[0])
        return n;
    memmove(to + 2, to, n);
    to[1] = '\n';
    return n + 2;
}

static void match(struct peer *p, const char *data, size_t n)
{
    int i = (int)(p - peers);
    for (;;) {
        if (p->first == p->count) {
            complain("a message that no one sent", i);
            return;
        }
        uint32_t id = p->expected[p->first++];
        size_t want = id == CLOSING_NOW ? 0 : make_expected(p, other, id & ~OPTIONAL);
        if (id != CLOSING_NOW && want == n && (!n || !memcmp(other, data, n)))
            break;
        if (!(id & OPTIONAL)) {
            complain(id == CLOSING_NOW ? "a message after the end" : "not the message to come", i);
            return;
        }
    }
    p->matched++;
    compared++;
}

static void on_frame(struct peer *p, const unsigned char *head, const char *data, size_t n)
{
    int opcode = head[0] & 15, i = (int)(p - peers);
    if (p->close_seen || head[0] & 0x70)
        complain("a frame that may not be", i);
    if (opcode == WS_CLOSE) {
        while (p->first < p->count && p->expected[p->first] & OPTIONAL)
            p->first++;
        if (p->first == p->count || p->expected[p->first++] != CLOSING_NOW)
            complain("a Close before all was there", i);
        p->close_seen = true;
        ended++;
        client_send_close(&p->c, 1000, "");
        return;
    }
    if (opcode > WS_CLOSE)
        return;
    if (!(head[0] & 0x80) || !opcode) {
        p->message = realloc(p->message, p->message_length + n + 1);
        if (!p->message)
            abort();
        if (n)
            memcpy(p->message + p->message_length, data, n);
        p->message_length += n;
        if (head[0] & 0x80) {
            match(p, p->message, p->message_length);
            p->message_length = 0;
        }
        return;
    }
    if (p->message_length)
        complain("a message inside another one", i);
    match(p, data, n);
}

static void take(struct peer *p)
{
    size_t done = 0;
    if (!p->used || p->gone)
        return;
    client_read(&p->c);
    while (p->c.in_length - done >= 2) {
        const unsigned char *head = (const unsigned char *)p->c.in + done;
        size_t header = head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10, n = head[1];
        if (p->c.in_length - done < header)
            break;
        if (header > 2) {
            n = 0;
            for (size_t i = 2; i < header; i++)
                n = n << 8 | head[i];
        }
        if (p->c.in_length - done - header < n)
            break;
        on_frame(p, head, (const char *)head + header, n);
        done += header + n;
    }
    p->c.in_length -= done;
    if (done && p->c.in_length)
        memmove(p->c.in, p->c.in + done, p->c.in_length);
}

/* ---- operations ---- */

static struct peer *peer_of(const ws_conn *conn)
{
    for (int i = 0; i < PEERS; i++)
        if (peers[i].used && peers[i].id == ws_conn_get_id(conn))
            return &peers[i];
    return NULL;
}

/* A descriptor is used again: by then the kernel takes all. */
static void widen_unused(void)
{
    static bool used[KERNEL_FDS];
    memset(used, 0, sizeof used);
    for (int i = 0; i < PEERS; i++)
        if (conn_of(&peers[i]))
            used[kernel_of(conn_of(&peers[i])) - kernel.sockets] = true;
    for (int fd = 0; fd < KERNEL_FDS; fd++)
        if (!used[fd])
            kernel.sockets[fd].limited = false;
}

static void open_peer(struct peer *p)
{
    struct peer fresh = {
        .used = true, .strict = draw(6) == 0, .labels = draw(3) == 0, .last_piece = SIZE_MAX};
    fresh.expected = p->expected;
    fresh.capacity = p->capacity;
    fresh.held = p->held;
    fresh.held_capacity = p->held_capacity;
    free(p->message);
    client_close(&p->c);
    *p = fresh;
    client_connect(&p->c, &h);
    widen_unused();
    client_say(&p->c, p->strict ? "GET /strict " : "GET / ");
    client_say(&p->c, handshake_request + strlen("GET / "));
    client_responses(&p->c);
    p->id = h.ids[(h.opened - 1) % MAX_CONNS];
    if (!conn_of(p))
        complain("did not open", (int)(p - peers));
    else if (p->labels)
        ws_conn_take_labels(conn_of(p));
}

static int topic_name(int topic, char name[24])
{
    return topic == 3 ? 0 : snprintf(name, 24, "topic number %d", topic);
}

static void subscribe(struct peer *p, int topic)
{
    char name[24];
    size_t length = (size_t)topic_name(topic, name);
    ws_conn *conn = conn_of(p);
    bool was = p->topics[topic];
    p->topics[topic] = true; /* before its handler runs */
    if (ws_conn_is_subscribed(conn, name, length) != was)
        complain("is_subscribed is wrong", (int)(p - peers));
    if (ws_conn_subscribe(conn, name, length) != !was)
        complain("subscribe is wrong", (int)(p - peers));
}

static void unsubscribe(struct peer *p, int topic)
{
    char name[24];
    size_t length = (size_t)topic_name(topic, name);
    bool was = p->topics[topic];
    p->topics[topic] = false;
    if (ws_conn_unsubscribe(conn_of(p), name, length) != was)
        complain("unsubscribe is wrong", (int)(p - peers));
}

static void publish(struct peer *p, int topic)
{
    char name[24];
    size_t length = (size_t)topic_name(topic, name), n;
    uint32_t id = next_id++, receivers = 0;
    bool except = draw(4) == 0 && !is_labelled(id), certain = depth == 0;
    int closed = h.closed;
    for (int i = 0; i < PEERS; i++) {
        struct peer *q = &peers[i];
        if (!conn_of(q) || !q->topics[topic] || (except && q == p))
            continue;
        receivers++;
        certain = certain && !q->gone && !is_untold(q);
        expect(q, id);
    }
    char *message = malloc(1 << 17);
    n = make_labelled(message, id);
    if (certain) {
        watched = id;
        watched_drops = 0;
    }
    depth++;
    under_way[under_way_count++] = id;
    int result = is_labelled(id) ? ws_server_deliver(h.server, name, length, message, n,
                                                     WS_BINARY | WS_LABELLED)
                 : p ? ws_conn_publish(conn_of(p), name, length, message, n, WS_BINARY, except)
                     : ws_server_publish(h.server, name, length, message, n, WS_BINARY);
    depth--;
    under_way_count--;
    free(message);
    if (certain && h.closed == closed && result != (receivers > watched_drops))
        complain("publish returns what is not so", topic);
}

static void send_one(struct peer *p)
{
    uint32_t id = next_id++;
    expect(p, id);
    char *message = malloc(1 << 17);
    size_t n = make_labelled(message, id);
    unsigned long drops = dropped, ends = limited;
    int result = ws_conn_send(conn_of(p), message, n,
                              WS_BINARY | (is_labelled(id) ? WS_LABELLED : 0));
    free(message);
    if (result < 0 || result > WS_DROPPED)
        complain("send fails", (int)(p - peers));
    if (result == WS_DROPPED && dropped == drops && limited == ends)
        forget(p, id); /* no handler could be told */
}

static void begin_or_go_on(struct peer *p)
{
    ws_conn *conn = conn_of(p);
    char *message = malloc(1 << 17);
    if (!p->fragments) {
        uint32_t id = next_id++;
        while (is_labelled(id)) /* fragments have no label */
            id = next_id++;
        size_t n = make_message(message, id);
        expect(p, id); /* on_dropped takes it back */
        unsigned long drops = dropped, ends = limited;
        int result = ws_conn_send_fragment(conn, message, n / 3, WS_BINARY, false);
        if (result == WS_DROPPED && dropped == drops && limited == ends)
            forget(p, id);
        p->pieces = result == WS_DROPPED ? -1 : 1;
        if (!p->closed && (result == WS_SUCCESS || result == WS_BACKPRESSURE)) {
            forget(p, id);
            p->fragments = id;
        } else if (!p->closed) {
            ws_conn_send_fragment(conn, NULL, 0, WS_CONTINUATION, true); /* it is dropped */
        }
    } else {
        uint32_t id = p->fragments;
        size_t n = make_message(message, id), third = n / 3;
        bool fin = p->pieces++ == 2;
        if (fin) {
            p->fragments = 0;
            p->last_piece = p->count;
            push(&p->expected, &p->count, &p->capacity, id);
            for (size_t i = 0; i < p->held_count; i++)
                push(&p->expected, &p->count, &p->capacity, p->held[i]);
            p->held_count = 0;
        }
        size_t from = fin ? 2 * third : third;
        ws_conn_send_fragment(conn, message + from, fin ? n - from : third, WS_CONTINUATION, fin);
        p->last_piece = SIZE_MAX;
    }
    free(message);
}

static void narrow(struct peer *p)
{
    struct kernel_socket *socket = kernel_of(conn_of(p));
    socket->limited = draw(3) != 0;
    socket->room = draw(2) ? draw(50) : draw(20000);
}

/* Any operation on any connection; at any depth. */
static void operate(void)
{
    struct peer *p = &peers[draw(PEERS)];
    uint32_t kind = draw(depth ? 90 : 100);
    if (!conn_of(p))
        return;
    operations++;
    if (kind < 14)
        subscribe(p, (int)draw(TOPICS));
    else if (kind < 22)
        unsubscribe(p, (int)draw(TOPICS));
    else if (kind < 45)
        publish(p, (int)draw(TOPICS));
    else if (kind < 58)
        publish(NULL, (int)draw(TOPICS));
    else if (kind < 72)
        send_one(p);
    else if (kind < 84 && !is_untold(p) && !ws__hub_of(h.server)->in_ending)
        begin_or_go_on(p);
    else if (kind < 86 && draw(4) == 0)
        ws_conn_end(conn_of(p), 1000, "end", 3);
    else if (kind == 86 && draw(4) == 0)
        p->gone = true, ws_conn_close(conn_of(p));
    else if (kind < 90)
        ws_conn_cork(conn_of(p)), ws_conn_uncork(conn_of(p));
    else if (kind < 98)
        narrow(p);
}

static void operate_nested(void)
{
    if (depth > 2 || failed)
        return;
    depth++;
    for (uint32_t i = draw(3); i; i--)
        operate();
    depth--;
}

/* It closes before a publish that it drops has come to tell it so. */
static void excuse(struct peer *p)
{
    for (size_t i = p->first; i < p->count; i++)
        for (uint32_t j = 0; j < under_way_count; j++)
            if (p->expected[i] == under_way[j])
                p->expected[i] |= OPTIONAL;
}

static void on_event(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    struct peer *p = conn ? peer_of(conn) : NULL;
    (void)harness, (void)request;
    if (!p)
        return;
    if (event == ON_DROPPED) {
        uint32_t id = 0;
        for (uint32_t i = next_id; i-- > first_of_operation && !id;) {
            size_t n = make_message(other, i);
            if ((n == length || n / 3 == length) && (!length || !memcmp(other, data, length)))
                id = forget(p, i) ? i : 0;
        }
        if (!id)
            complain("on_dropped of what was not sent", (int)(p - peers));
        dropped++;
        watched_drops += id == watched;
        operate_nested();
    } else if (event == ON_CLOSE) {
        p->closed = true;
        p->held_count = 0;
        excuse(p);
        if (strstr(h.events, "close 1008")) { /* what came to it in this operation may be missing */
            limited++;
            for (size_t i = p->first; i < p->count; i++)
                if (i >= p->last_piece || p->expected[i] >= first_of_operation)
                    p->expected[i] |= OPTIONAL;
        }
        p->fragments = 0;
        expect(p, CLOSING_NOW);
        operate_nested();
    } else if (event != ON_CLOSED && event != ON_OPEN) {
        if (event == ON_SUBSCRIPTION && !ws_server_find(h.server, p->id))
            p->closed = true; /* it leaves, before on_close: no handler can reach it */
        operate_nested();
    }
    if (h.miscounts)
        complain("counts of on_subscription are wrong", (int)(p - peers));
    if (h.events_length > EVENTS_SIZE / 2 || event == ON_CLOSE)
        harness_events(&h);
}

static void operate_deferred(void *argument)
{
    for (int i = *(int *)argument; i && !failed; i--) {
        if (!depth)
            first_of_operation = next_id;
        operate();
    }
}

/* ---- the whole ---- */

static bool check_counts(void)
{
    char name[24];
    for (int t = 0; t < TOPICS; t++) {
        uint32_t want = 0;
        for (int i = 0; i < PEERS; i++)
            want += conn_of(&peers[i]) && peers[i].topics[t];
        if (ws_server_subscribers(h.server, name, (size_t)topic_name(t, name)) != want)
            return complain("ws_server_subscribers is wrong", t);
    }
    return true;
}

/* Dead ones come back. */
static void renew(void)
{
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &peers[i];
        take(p);
        bool over = !p->used || p->gone || p->c.eof || p->c.reset || p->c.fd < 0;
        if (over && p->used && !p->gone && p->closed && !p->close_seen && !p->c.reset)
            complain("EOF before the Close", i);
        if (over && (!p->used || p->closed) && draw(3) == 0)
            open_peer(p);
    }
}

static void settle(void)
{
    turns(&h, 1); /* what was deferred may narrow a socket once more */
    memset(kernel.sockets, 0, sizeof kernel.sockets);
    for (int round = 0; round < 40; round++) {
        turns(&h, 2);
        for (int i = 0; i < PEERS; i++)
            take(&peers[i]);
    }
    for (int i = 0; i < PEERS; i++) {
        struct peer *p = &peers[i];
        if (!conn_of(p) || p->gone)
            continue;
        while (p->first < p->count && p->expected[p->first] & OPTIONAL)
            p->first++;
        if (p->first < p->count)
            complain("a message is missing", i);
    }
}

static void step(void)
{
    static int amount;
    uint32_t kind = draw(20);
    first_of_operation = next_id;
    amount = 1 + (int)draw(30);
    if (kind < 8) {
        ws_server_defer(h.server, operate_deferred, &amount);
    } else if (kind < 13) {
        operate_deferred(&amount);
    } else if (kind < 18) {
        struct peer *p = &peers[draw(PEERS)];
        if (conn_of(p) && !p->gone)
            client_text(&p->c, "go");
    } else if (kind == 18 && draw(4) == 0) {
        struct peer *p = &peers[draw(PEERS)];
        if (conn_of(p) && !p->gone) {
            p->gone = true;
            client_reset(&p->c);
        }
    }
    if (kind == 19) {
        struct peer *p = &peers[draw(PEERS)];
        if (conn_of(p) && !p->gone)
            client_frame(&p->c, 0x89, "01234567890123456789", draw(20));
    }
    if (draw(20)) {
        first_of_operation = next_id;
        turns(&h, 1);
    }
    if (draw(8) == 0)
        renew();
    if (draw(50) == 0)
        check_counts();
    if (draw(400) == 0)
        settle();
}

static void test_model(void)
{
    const unsigned long wanted = getenv("UNDER_VALGRIND") ? 10000 : 200000;
    const char *seed = getenv("PUBLISH_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 66;
    harness_init(&h);
    h.behavior.max_backpressure = 30000;
    h.hook = on_event;
    harness_start(&h);
    h.behavior.close_on_backpressure_limit = true;
    harness_route(&h, "/strict");
    kernel_reset(h.port);
    for (int i = 0; i < PEERS; i++) {
        peers[i].c.fd = -1;
        open_peer(&peers[i]);
    }
    while (operations < wanted && !failed)
        step();
    settle();
    check_counts();
    ok(!failed, "T66: %lu random operations: every socket got exactly its messages, in order",
       wanted);
    diag("%lu operations, %lu messages compared, %lu dropped, %lu over the limit, %lu Closes, "
         "%d connections", operations, compared, dropped, limited, ended, h.opened);
    ok(compared > operations / 4 && dropped && limited && ended, "T66: and all of that happened");
    h.hook = NULL;
    for (int i = 0; i < PEERS; i++) {
        client_close(&peers[i].c);
        free(peers[i].expected);
        free(peers[i].held);
        free(peers[i].message);
    }
    turns(&h, 3);
    harness_stop(&h, "T66");
}

static void cases(void)
{
    CASE(test_model());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
