/* SPDX-License-Identifier: MIT */
/*
 * soak_app.c: the application of test_soak.c, see soak.h: its messages, and handlers that do all
 * that ws.h allows.
 */
#include "soak.h"

#include <stdlib.h>

struct harness h;
struct app apps[MAX_CONNS];
struct peer peers[PEERS];
char letters[ROOM + 26], scratch[ROOM], framed[ROOM + 14];
struct ws__memory memory;
struct ws__deflate_pool pool;
uint64_t state;
uint32_t seed, step, next_number, depth;
bool failed, failing;
struct soak_count count;

uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

bool fault(const char *what, long detail)
{
    if (!failed)
        diag("seed %u, step %u: %s (%ld)", (unsigned)seed, (unsigned)step, what, detail);
    failed = true;
    return false;
}

/* ---- messages: kind and number tell all of their bytes ---- */

void put_digits(char *to, uint32_t value, int digits)
{
    for (int i = 0; i < digits; i++, value >>= 6)
        to[i] = (char)('0' + (value & 63));
}

uint32_t get_digits(const char *from, int digits)
{
    uint32_t value = 0;
    for (int i = digits - 1; i >= 0; i--)
        value = value << 6 | (uint32_t)(from[i] - '0');
    return value;
}

void make_message(char *to, char kind, uint32_t number, size_t n)
{
    to[0] = kind;
    put_digits(to + 1, number, 5);
    put_digits(to + 6, (uint32_t)n, 3);
    memcpy(to + HEADER, letters + number % 26, n - HEADER);
}

bool is_message(const char *data, size_t n)
{
    return n >= HEADER && get_digits(data + 6, 3) == n &&
           !memcmp(data + HEADER, letters + get_digits(data + 1, 5) % 26, n - HEADER);
}

size_t draw_size(void)
{
    switch (draw(32)) {
    case 0:
        return 0;
    case 1:
        return 65530 + draw(12);
    case 2:
        return 16370 + draw(30);
    case 3:
        return 9 + draw(LARGEST - 9);
    case 4:
    case 5:
        return 1000 + draw(4000);
    case 6:
    case 7:
        return 120 + draw(12);
    default:
        return 9 + draw(120);
    }
}

/* ---- the application ---- */

const char *const topics[TOPICS] = {"", "a", "news", "news/1", "x", "yy"};

struct app *app_of(const ws_conn *conn)
{
    return &apps[(uintptr_t)ws_conn_user(conn)];
}

ws_conn *any_conn(void)
{
    uint32_t known = h.opened < MAX_CONNS ? (uint32_t)h.opened : MAX_CONNS;
    uint32_t back = known < 2 * PEERS ? known : 2 * PEERS;
    if (!known)
        return NULL;
    return conn_at(&h, (h.opened - 1 - (int)draw(back)) % MAX_CONNS);
}

static int draw_opcode(void)
{
    return (draw(2) ? WS_TEXT : WS_BINARY) | (draw(3) ? 0 : WS_COMPRESS);
}

static void note_result(struct app *a, int result)
{
    if (result == WS_BACKPRESSURE || result == WS_SUCCESS)
        a->promised++;
    else if (result == WS_DROPPED)
        count.dropped++;
    else if (!failing)
        fault("a send failed", result);
    count.sent++;
}

void send_one(ws_conn *conn, size_t n)
{
    char *bytes = malloc(n + 1);
    struct app *a = app_of(conn);
    if (!bytes)
        abort();
    if (n)
        make_message(bytes, 's', next_number++, n);
    note_result(a, ws_conn_send(conn, bytes, n, draw_opcode()));
    free(bytes);
}

/* The next piece of a message, or its first one. */
static void send_piece(ws_conn *conn)
{
    struct app *a = app_of(conn);
    char *bytes = malloc(ROOM);
    if (!bytes)
        abort();
    int opcode = a->fragmenting ? WS_CONTINUATION : draw_opcode();
    if (!a->fragmenting) {
        a->fragmenting = true;
        a->number = next_number++;
        a->total = HEADER + draw_size();
        a->done = 0;
    }
    make_message(bytes, 's', a->number, a->total);
    size_t left = a->total - a->done, n = draw(3) ? draw((uint32_t)left + 1) : left;
    bool fin = n == left;
    const char *piece = bytes + a->done;
    a->done += n;
    a->fragmenting = !fin;
    a->in_piece++;
    int result = ws_conn_send_fragment(conn, piece, n, opcode, fin);
    a->in_piece--;
    if (fin && result >= 0)
        note_result(a, result);
    if (opcode != WS_CONTINUATION)
        a->refused = result == WS_DROPPED;
    else if (result == WS_DROPPED && !a->refused) /* above the limit: the end of the connection */
        a->inexact = true;
    if (result < 0) { /* no memory; or on_dropped of one may not begin another one */
        a->inexact = true;
        a->fragmenting = opcode == WS_CONTINUATION && !fin;
    }
    free(bytes);
}

void publish_one(ws_conn *conn)
{
    const char *topic = topics[draw(TOPICS)];
    size_t n = HEADER + draw_size(), length = strlen(topic);
    char *bytes = malloc(n);
    if (!bytes)
        abort();
    make_message(bytes, 'p', next_number++, n);
    int result = conn ? ws_conn_publish(conn, topic, length, bytes, n, draw_opcode(), draw(2))
                      : ws_server_publish(h.server, topic, length, bytes, n, draw_opcode());
    if (result < 0 && !failing)
        fault("publishing failed", result);
    count.published++;
    free(bytes);
}

static void subscribe_one(ws_conn *conn)
{
    const char *topic = topics[draw(TOPICS)];
    if (draw(4))
        ws_conn_subscribe(conn, topic, strlen(topic));
    else
        ws_conn_unsubscribe(conn, topic, strlen(topic));
}

static void end_one(ws_conn *conn)
{
    static const int codes[] = {0, 1000, 1001, 1011, 3000, 4999};
    int code = codes[draw(6)];
    if (draw(3) == 0)
        ws_conn_close(conn);
    else
        ws_conn_end(conn, code, "the end", code ? draw(8) : 0);
}

static void use_later(void *none)
{
    ws_conn *conn = any_conn();
    (void)none;
    if (conn)
        use(conn);
}

void use(ws_conn *conn)
{
    switch (draw(24)) {
    case 0:
        if (draw(4) == 0)
            end_one(conn);
        break;
    case 1:
        (draw(2) ? ws_conn_pause : ws_conn_pause_messages)(conn);
        break;
    case 2:
    case 3:
        ws_conn_resume(conn);
        break;
    case 4:
    case 5:
        send_piece(conn);
        break;
    case 6:
        ws_conn_send(conn, letters, draw(126), WS_PING);
        break;
    case 7:
        ws_server_defer(h.server, use_later, NULL);
        break;
    case 8:
        ws_conn_cork(conn);
        send_one(conn, HEADER + draw(500));
        send_one(conn, HEADER + draw(20000));
        ws_conn_uncork(conn);
        break;
    case 9:
    case 10:
    case 11:
        subscribe_one(conn);
        break;
    case 12:
    case 13:
        publish_one(draw(2) ? conn : NULL);
        break;
    default:
        send_one(conn, draw_size());
    }
}

static void forget(ws_request *request, void *user)
{
    (void)request, (void)user;
    h.deferred = NULL;
}

void answer_now(ws_request *request)
{
    if (ws_request_is_upgrade(request))
        ws_request_upgrade(request, NULL, 0, NULL);
    else
        ws_request_respond(request, 200, NULL, letters, draw(ROOM));
}

static void answer(ws_request *request)
{
    uint32_t kind = draw(40);
    if (kind == 0)
        ws_request_respond(request, 403, NULL, letters, draw(100));
    else if (kind == 1)
        ws_request_abort(request);
    else if (kind > 4 || h.deferred)
        answer_now(request);
    else if (kind > 2 && ws_request_defer(request, forget, NULL) == WS_OK)
        h.deferred = request;
}

/* ?12.345 in the request names the peer and its serial number. */
static void meet(const ws_conn *conn, struct app *a)
{
    size_t length;
    char query[32] = "";
    unsigned i = 0, serial = 0;
    const char *text = ws_request_query(ws_conn_request(conn), &length);
    memcpy(query, text ? text : "", length < sizeof query ? length : 0);
    *a = (struct app){.state = OPENED, .peer = -1};
    if (sscanf(query, "%u.%u", &i, &serial) == 2 && i < PEERS && peers[i].serial == serial) {
        a->peer = (int)i;
        peers[i].app = (int)(a - apps);
    }
}

/* Everything that the peer said, in its order, nothing twice. */
static void hear(struct app *a, const char *data, size_t length)
{
    count.messages++;
    if (!length)
        return;
    if (!is_message(data, length) || data[0] != 'c')
        fault("a message was not what the peer said", (long)length);
    else if (get_digits(data + 1, 5) != a->heard++)
        fault("a message of the peer is missing", (long)a->heard);
}

void account(enum event event, ws_conn *conn, const char *data, size_t length)
{
    struct app *a = app_of(conn);
    if (event == ON_OPEN) {
        if (a->state != FREE)
            fault("on_open of a connection that is not over", (long)a->state);
        meet(conn, a);
        count.connections++;
    } else if (event == ON_CLOSED) {
        if (a->state != CLOSED)
            fault("on_closed without on_close", (long)a->state);
        a->state = FREE;
    } else if (a->state != OPENED) {
        fault("an event of a connection that is not open", (long)event);
    } else if (event == ON_CLOSE) {
        a->state = CLOSED;
        a->inexact = a->inexact || a->fragmenting || a->in_piece;
        count.timeouts += length > 7 && !memcmp(data + length - 7, "timeout", 7);
    } else if (event == ON_MESSAGE) {
        hear(a, data, length);
    }
}

void react(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                  const char *data, size_t length)
{
    (void)harness;
    if (request) {
        answer(request);
        return;
    }
    account(event, conn, data, length);
    if (depth > 2)
        return;
    depth++;
    for (uint32_t n = event < ON_CLOSE ? draw(3) : 0; n; n--)
        use(conn);
    if (draw(6) == 0)
        use_later(NULL);
    depth--;
}
