/*
 * test_soak.c: everything at once, for as long as one likes: peers that come in all ways and leave
 * in all ways, handlers that use the whole of ws.h, failing memory, jumps of time, shutdowns; then
 * 100,000 connections. Both sides check each byte they get; what is held must return to its base.
 *
 *   SOAK_SECONDS=30 SOAK_SEED=7 test_soak     rounds of seed 7, 8, ...: the first repeats a failure
 */
#include "harness.h"
#include "conn.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum {
    PEERS = 48,
    STEPS = 2500,          /* of one life of a server */
    LIVES = 3,             /* of a server, in one round */
    TOPICS = 6,
    HEADER = 9,            /* of a message: kind, number, length */
    LARGEST = 70000,       /* max_payload_length */
    ROOM = LARGEST + 1000,
    RSS_GROWTH = 512       /* KiB that the resident set may grow in the last 4/5 of the flood */
};

/* What the application knows of a connection; by the harness' index. */
struct app {
    enum { FREE, OPENED, CLOSED } state;
    int peer;              /* -1: not known */
    uint32_t heard;        /* messages of the peer until now */
    uint32_t promised;     /* sends that were not dropped */
    bool inexact;          /* held-back messages went with it */
    bool fragmenting;      /* a message in pieces is under way: */
    bool refused;          /* its first piece was dropped */
    uint32_t in_piece;     /* depth of calls that send one of them */
    uint32_t number;
    size_t total, done;
};

enum phase { ANSWERS, FRAMES, OVER }; /* OVER: a Close came */

/* A client, and what it knows. */
struct peer {
    int fd; /* -1: none */
    uint32_t serial;
    int app;               /* index of its connection, -1: not known */
    enum phase phase;
    const char *path;
    bool stalled, mute, said_close, broken, finished;
    bool deflate, isolated; /* compression was negotiated; without a window between messages */
    struct ws__deflate_streams streams;
    char *in, *out, *message; /* received; to be sent; of frames without FIN */
    size_t in_length, in_size, out_length, out_size, message_length;
    int opcode;            /* of the message in hand, 0: none */
    bool compressed;
    uint32_t said, pinged, ponged;
    uint32_t last, got;    /* number of the last message; how many of those that were sent */
};

static struct harness h;
static struct app apps[MAX_CONNS];
static struct peer peers[PEERS];
static char letters[ROOM + 26], scratch[ROOM], framed[ROOM + 14];
static struct ws__memory memory;     /* of the clients */
static struct ws__deflate_pool pool; /* too */
static const struct ws__deflate_terms isolated = {9, 15, 1, true, true, false, false};
static uint64_t state;
static uint32_t seed, step, next_number, depth;
static bool failed, failing; /* a check; the allocator */
static struct {
    unsigned long connections, messages, sent, published, dropped, delivered, compared, resets,
        closes, timeouts, shutdowns, failures;
} count;

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static bool fault(const char *what, long detail)
{
    if (!failed)
        diag("seed %u, step %u: %s (%ld)", (unsigned)seed, (unsigned)step, what, detail);
    failed = true;
    return false;
}

/* ---- messages: kind and number tell all of their bytes ---- */

static void put_digits(char *to, uint32_t value, int digits)
{
    for (int i = 0; i < digits; i++, value >>= 6)
        to[i] = (char)('0' + (value & 63));
}

static uint32_t get_digits(const char *from, int digits)
{
    uint32_t value = 0;
    for (int i = digits - 1; i >= 0; i--)
        value = value << 6 | (uint32_t)(from[i] - '0');
    return value;
}

static void make_message(char *to, char kind, uint32_t number, size_t n)
{
    to[0] = kind;
    put_digits(to + 1, number, 5);
    put_digits(to + 6, (uint32_t)n, 3);
    memcpy(to + HEADER, letters + number % 26, n - HEADER);
}

static bool is_message(const char *data, size_t n)
{
    return n >= HEADER && get_digits(data + 6, 3) == n &&
           !memcmp(data + HEADER, letters + get_digits(data + 1, 5) % 26, n - HEADER);
}

/* 0, or room for the header at least. */
static size_t draw_size(void)
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

static const char *const topics[TOPICS] = {"", "a", "news", "news/1", "x", "yy"};

static struct app *app_of(const ws_conn *conn)
{
    return &apps[(uintptr_t)ws_conn_user(conn)];
}

static ws_conn *any_conn(void)
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

static void send_one(ws_conn *conn, size_t n)
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

static void publish_one(ws_conn *conn)
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

static void use(ws_conn *conn);

static void use_later(void *none)
{
    ws_conn *conn = any_conn();
    (void)none;
    if (conn)
        use(conn);
}

/* One of all things that a handler may do. */
static void use(ws_conn *conn)
{
    switch (draw(24)) {
    case 0:
        if (draw(4) == 0)
            end_one(conn);
        break;
    case 1:
        ws_conn_pause(conn);
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

static void answer_now(ws_request *request)
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
        fault("a message of the peer is missing", a->heard);
}

/* on_open, others, on_close, on_closed: once each, in that order. */
static void account(enum event event, ws_conn *conn, const char *data, size_t length)
{
    struct app *a = app_of(conn);
    if (event == ON_OPEN) {
        if (a->state != FREE)
            fault("on_open of a connection that is not over", a->state);
        meet(conn, a);
        count.connections++;
    } else if (event == ON_CLOSED) {
        if (a->state != CLOSED)
            fault("on_closed without on_close", a->state);
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

static void react(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
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

/* ---- the peers: what they say ---- */

/* From changing addresses: their ports rest for a minute after some ways to close. */
static int dial(uint32_t nth, bool small)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, size = 4096;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + nth / 4096 % 200);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)h.port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (small)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&from, sizeof from))
        fault("bind", errno);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fault("connect", errno);
    return fd;
}

static void flush(struct peer *p)
{
    ssize_t n = p->out_length ? send(p->fd, p->out, p->out_length, MSG_NOSIGNAL) : 0;
    if (n <= 0)
        return;
    p->out_length -= (size_t)n;
    memmove(p->out, p->out + n, p->out_length);
}

/* false: too much waits already. */
static bool say(struct peer *p, const void *bytes, size_t n)
{
    if (p->out_length > 4 * ROOM || p->finished)
        return false;
    if (!n)
        return true; /* there may be no buffer yet */
    if (p->out_size < p->out_length + n) {
        p->out_size = (p->out_length + n) * 2;
        p->out = realloc(p->out, p->out_size);
        if (!p->out)
            abort();
    }
    memcpy(p->out + p->out_length, bytes, n);
    p->out_length += n;
    flush(p);
    return true;
}

static bool say_frame(struct peer *p, int first, const void *payload, size_t n)
{
    return say(p, framed, make_frame(framed, first, payload, n));
}

static size_t make_request(const struct peer *p, char text[512])
{
    static const char *const offers[] = {"", "permessage-deflate",
                                         "permessage-deflate; client_max_window_bits",
                                         "permessage-deflate; server_no_context_takeover"};
    const char *offer = offers[draw(4)];
    return (size_t)snprintf(text, 512,
                            "GET %s?%d.%u HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n%s%s%s"
                            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                            p->path, (int)(p - peers), (unsigned)p->serial,
                            *offer ? "Sec-WebSocket-Extensions: " : "", offer, *offer ? "\r\n" : "");
}

static void peer_connect(struct peer *p, const char *path, bool small)
{
    static uint32_t serial;
    struct peer fresh = {.in = p->in, .in_size = p->in_size, .out = p->out, .out_size = p->out_size,
                         .message = p->message};
    *p = fresh;
    p->serial = ++serial;
    p->fd = dial(serial, small);
    p->app = -1;
    p->path = path;
    if (!p->message)
        p->message = malloc(2 * ROOM);
    if (!p->message)
        abort();
}

static void peer_leave(struct peer *p, bool reset)
{
    struct linger hard = {1, 0};
    if (reset)
        setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    count.resets += reset;
    close(p->fd);
    p->fd = -1;
    ws__deflate_streams_deinit(&pool, &p->streams);
}

static void say_close(struct peer *p, int code)
{
    char bytes[140];
    if (say(p, bytes, make_close(bytes, code, "")))
        p->said_close = true;
}

static void say_message(struct peer *p, size_t n)
{
    struct ws__deflate_streams none = {NULL, NULL};
    int first = draw(2) ? 0x81 : 0x82;
    const char *bytes = scratch;
    if (n)
        make_message(scratch, 'c', p->said, n);
    if (n && p->deflate && draw(2) &&
        !ws__deflate_compress(&pool, &isolated, &none, scratch, n, true, true, &bytes, &n))
        first |= 0x40;
    bool numbered = n > 0;
    if (n > 4 && draw(3) == 0) { /* in pieces, a Ping between them */
        size_t half = draw((uint32_t)n);
        char ping[8];
        if (p->out_length > ROOM)
            return;
        put_digits(ping, ++p->pinged, 5);
        say_frame(p, first & 0x7f, bytes, half);
        say_frame(p, 0x89, ping, 5);
        say_frame(p, 0, bytes + half, 0);
        say_frame(p, 0x80, bytes + half, n - half);
    } else if (!say_frame(p, first, bytes, n)) {
        return;
    }
    p->said += numbered;
}

static void say_nonsense(struct peer *p)
{
    static const char *const bytes[] = {"\x81\x01x", "\xf1\x80mask", "\x83\x80mask", "\x89\xfe\1\1",
                                        "\x80\x80mask", "\x81\xfe\0\1", "\x88\x81maskx"};
    static const uint8_t lengths[] = {3, 6, 6, 4, 6, 4, 7};
    uint32_t i = draw(7);
    say(p, bytes[i], lengths[i]);
    p->finished = p->broken = true;
}

/* ---- the peers: what they get ---- */

static void pongs_are_mine(struct peer *p, const char *payload, size_t n)
{
    uint32_t number = n == 5 ? get_digits(payload, 5) : 0;
    if (!number || number <= p->ponged || number > p->pinged)
        fault("a Pong to no Ping", (long)n);
    p->ponged = number;
}

/* A whole message has come. */
static bool take_message(struct peer *p, char *data, size_t n)
{
    const struct ws__deflate_terms terms = {15, 15, 8, false, p->isolated, false, false};
    struct ws__inflation m = {.limit = ROOM, .text = p->opcode == WS_TEXT, .budget = SIZE_MAX};
    if (p->compressed &&
        ws__deflate_decompress(&pool, &terms, &p->streams, &m, data, n, &data, &n))
        return fault("a compressed message does not inflate", (long)n);
    p->opcode = 0;
    count.delivered++;
    p->got += !n || data[0] == 's';
    if (!n)
        return true;
    if (!is_message(data, n) || (data[0] != 's' && data[0] != 'p'))
        return fault("a message was not what was sent", (long)n);
    uint32_t number = get_digits(data + 1, 5);
    if (number < p->last)
        return fault("messages out of order", (long)number);
    p->last = number + 1;
    return true;
}

/* Nothing comes behind it, and all that was sent came before it (RFC 6455 5.5.1). */
static bool take_close(struct peer *p, const char *payload, size_t n)
{
    int code = n >= 2 ? (uint8_t)payload[0] << 8 | (uint8_t)payload[1] : 1005;
    const struct app *a = p->app >= 0 ? &apps[p->app] : NULL;
    p->phase = OVER;
    count.closes++;
    if (n == 1 || code < 1000)
        return fault("a wrong Close", code);
    if (a && a->peer == (int)(p - peers) && !a->inexact) {
        count.compared++;
        if (a->promised != p->got) {
            diag("%s: %u promised, %u came, Close %d %.*s", p->path, (unsigned)a->promised,
                 (unsigned)p->got, code, n > 2 ? (int)n - 2 : 0, payload + 2);
            return fault("messages are missing at the Close", code);
        }
    }
    if (!p->said_close && !p->broken && draw(8))
        say_close(p, code);
    return true;
}

static bool take_control(struct peer *p, int opcode, const char *payload, size_t n)
{
    if (opcode == WS_CLOSE)
        return take_close(p, payload, n);
    if (opcode == WS_PONG)
        pongs_are_mine(p, payload, n);
    if (opcode == WS_PING && !p->mute && !p->said_close)
        say_frame(p, 0x8a, payload, n);
    return opcode <= WS_PONG || fault("an unknown opcode", opcode);
}

/* The rules for what a server may send: RFC 6455 5.1, 5.2, 5.4, 5.5, RFC 7692 6. */
static bool take_frame(struct peer *p, uint8_t first, char *payload, size_t n)
{
    int opcode = first & 15;
    bool fin = first & 0x80;
    if (opcode >= WS_CLOSE)
        return (fin && n < 126 && !(first & 0x70)) ? take_control(p, opcode, payload, n)
                                                   : fault("a wrong control frame", first);
    if (opcode > WS_BINARY || !opcode != !!p->opcode || first & 0x30 ||
        (first & 0x40 && (!p->deflate || !opcode)))
        return fault("a wrong data frame", first);
    if (opcode) {
        p->opcode = opcode;
        p->compressed = first & 0x40;
        p->message_length = 0;
        if (fin)
            return take_message(p, payload, n);
    }
    if (p->message_length + n > 2 * ROOM)
        return fault("a message is too long", (long)n);
    memcpy(p->message + p->message_length, payload, n);
    p->message_length += n;
    return !fin || take_message(p, p->message, p->message_length);
}

/* Its bytes; 0: not all are there. */
static size_t take_whole_frame(struct peer *p, char *bytes, size_t n)
{
    uint8_t *head = (uint8_t *)bytes;
    size_t header = n < 2 ? 2 : head[1] < 126 ? 2 : head[1] == 126 ? 4 : 10, length = 0;
    if (n < header)
        return 0;
    for (size_t i = 2; i < header; i++)
        length = length << 8 | head[i];
    if (header == 2)
        length = head[1];
    if (head[1] & 0x80 || length < (header == 10 ? 65536u : header == 4 ? 126u : 0u))
        fault("a wrong length", (long)length);
    if (n - header < length)
        return 0;
    if (p->phase == OVER)
        fault("a frame behind the Close", head[0]);
    take_frame(p, head[0], bytes + header, length);
    return header + length;
}

static size_t take_answer(struct peer *p, char *bytes, size_t n)
{
    char *end = memmem(bytes, n, "\r\n\r\n", 4), head[1024];
    if (!end)
        return 0;
    size_t length = (size_t)(end - bytes) + 4, body = 0;
    snprintf(head, sizeof head, "%.*s", (int)length, bytes);
    int status = memcmp(head, "HTTP/1.1 ", 9) ? 0 : atoi(head + 9);
    const char *field = strstr(head, "Content-Length: ");
    if (status == 101) {
        p->phase = FRAMES;
        p->deflate = strstr(head, "permessage-deflate") != NULL;
        p->isolated = strstr(head, "server_no_context_takeover") != NULL;
        return length;
    }
    if (status < 200 || status > 599 || !field)
        fault("a wrong answer", status);
    body = field ? (size_t)atol(field + 16) : 0;
    return n - length < body ? 0 : length + body;
}

static void parse(struct peer *p)
{
    size_t done = 0, n = 1;
    while (!failed && n && done < p->in_length) {
        char *bytes = p->in + done;
        n = p->phase == ANSWERS ? take_answer(p, bytes, p->in_length - done)
                                : take_whole_frame(p, bytes, p->in_length - done);
        done += n;
    }
    p->in_length -= done;
    memmove(p->in, p->in + done, p->in_length);
}

/* What is there. False: the end came, the peer has left. */
static bool peer_read(struct peer *p)
{
    ssize_t n;
    do {
        if (p->in_size < p->in_length + 65536) {
            p->in_size = p->in_length + 131072;
            p->in = realloc(p->in, p->in_size);
            if (!p->in)
                abort();
        }
        n = recv(p->fd, p->in + p->in_length, p->in_size - p->in_length, 0);
        if (n > 0) {
            p->in_length += (size_t)n;
            parse(p);
        }
    } while (n > 0);
    if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
        return true;
    if (p->phase == OVER && p->in_length)
        fault("bytes behind the Close", (long)p->in_length);
    peer_leave(p, false);
    return false;
}

/* ---- what a peer may do ---- */

static void begin(struct peer *p)
{
    static const char *const paths[] = {"/", "/", "/shared", "/dedicated", "/strict", "/page"};
    static const char pages[] = "GET /page HTTP/1.1\r\nHost: t\r\n\r\nGET /page HTTP/1.1\r\nHost: t\r\n\r\n";
    char text[512];
    peer_connect(p, paths[draw(6)], draw(3) == 0);
    p->mute = draw(6) == 0;
    size_t n = make_request(p, text);
    uint32_t kind = draw(16);
    if (kind == 0)
        return; /* says nothing */
    if (kind == 1)
        n = draw((uint32_t)n); /* half of it */
    if (!strcmp(p->path, "/page"))
        say(p, pages, draw(sizeof pages));
    else
        say(p, text, n);
    p->finished = kind == 1; /* what would come behind is none of its messages */
}

static void go_on(struct peer *p)
{
    switch (draw(40)) {
    case 0:
        peer_leave(p, draw(2));
        return;
    case 1:
        shutdown(p->fd, SHUT_WR);
        p->finished = true;
        return;
    case 2:
    case 3:
        p->stalled = !p->stalled;
        return;
    case 4:
        if (p->phase == FRAMES && !p->said_close && draw(2))
            say_close(p, draw(2) ? 1000 : 0);
        return;
    case 5:
        if (draw(8) == 0)
            say_nonsense(p);
        return;
    default:
        if (p->phase == FRAMES && !p->said_close)
            for (uint32_t n = draw(4); n; n--)
                say_message(p, draw_size());
    }
}

static void move_one(void)
{
    struct peer *p = &peers[draw(PEERS)];
    ws_conn *conn = draw(4) ? NULL : any_conn();
    if (conn)
        use(conn);
    if (h.deferred && draw(10) == 0) {
        ws_request *request = h.deferred;
        h.deferred = NULL;
        answer_now(request);
    }
    if (p->fd < 0) {
        begin(p);
        return;
    }
    if (!p->stalled && !peer_read(p))
        return;
    flush(p);
    go_on(p);
}

/* ---- rounds ---- */

/* The allocator fails now and then, each time once. */
static void fail_at_times(void)
{
    if (!failing || h.memory.calls < h.memory.fail_at)
        return;
    h.memory.fail_at = h.memory.calls + 1 + draw(2000);
    count.failures++;
}

static int descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;
    if (!folder)
        return 0;
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void add_route(const char *path, uint32_t compression, bool strict)
{
    h.behavior.compression = ws_compression_available() ? compression : 0;
    h.behavior.close_on_backpressure_limit = strict;
    harness_route(&h, path);
}

static void start(void)
{
    static const uint32_t dedicated[] = {WS_DEDICATED_COMPRESSOR_3KB, WS_DEDICATED_COMPRESSOR_16KB,
                                         WS_DEDICATED_COMPRESSOR_256KB};
    harness_init(&h);
    h.quiet = h.answers = true;
    h.hook = react;
    h.send_buffer = draw(2) ? 4608 : 0;
    h.config.max_connections = draw(4) ? 1000 : PEERS / 2;
    h.behavior.max_payload_length = LARGEST;
    h.behavior.max_backpressure = draw(4) ? 30000 + draw(200000) : 0;
    h.behavior.close_timeout = 2000;
    h.behavior.idle_timeout = 20000 + draw(100000);
    h.behavior.ping_timeout = draw(2) ? 3000 : 0;
    h.behavior.max_lifetime = draw(4) ? 0 : 100000;
    h.behavior.reset_idle_timeout_on_send = draw(2);
    harness_create(&h);
    add_route("/shared", WS_SHARED_COMPRESSOR | WS_SHARED_DECOMPRESSOR, false);
    add_route("/dedicated", dedicated[draw(3)] | WS_DEDICATED_DECOMPRESSOR_32KB, false);
    add_route("/strict", 0, true);
    add_route("/", 0, false);
    harness_http(&h, "GET", "/page");
    harness_listen(&h);
    memset(apps, 0, sizeof apps);
}

/* A paused connection does not see that its peer has left, and may pause again with each message. */
static void resume_all(void)
{
    for (int i = 0; i < MAX_CONNS; i++)
        if (apps[i].state == OPENED)
            ws_conn_resume(conn_at(&h, i));
}

/* Everybody leaves, or the server does. False: it does not end. */
static bool finish(void)
{
    bool shutdown_first = draw(2);
    int result = 1;
    if (shutdown_first) {
        ws_server_shutdown(h.server, 1001, "see you", 7, draw(5000));
        count.shutdowns++;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0 && !(shutdown_first && draw(2)))
            peer_leave(&peers[i], draw(2));
    for (int rounds = 0; rounds < 100 && result > 0; rounds++) {
        result = ws_server_step(h.server, 0);
        for (int i = 0; i < PEERS; i++)
            if (peers[i].fd >= 0)
                peer_read(&peers[i]);
        if (!shutdown_first)
            resume_all();
        h.now += (uint64_t)rounds * 50000000;
        if (!shutdown_first && !stats_of(&h).connections && rounds > 20)
            result = WS_OK;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0)
            peer_leave(&peers[i], true);
    if (shutdown_first && result == WS_OK)
        harness_listen(&h);
    return result == WS_OK || fault("the end does not come", result);
}

static size_t size_of(const struct ws__buffer *b)
{
    return b ? sizeof *b + b->capacity : 0;
}

/* What a server keeps for those to come: slots, two blocks of bounded size, shared streams. */
static size_t kept(void)
{
    const struct ws__hub *hub = ws__hub_of(h.server);
    size_t blocks = size_of(hub->spare) + size_of(hub->published);
    if (blocks > 3 * WS__CORK_SIZE + 2 * sizeof *hub->spare)
        fault("large blocks are kept", (long)blocks);
    return blocks + hub->slot_capacity * sizeof *hub->slots + stats_of(&h).compression_memory;
}

/* Nobody is there: nothing may be left. */
static void expect_rest(int fds, size_t base)
{
    ws_stats s = stats_of(&h);
    size_t held = s.memory - kept();
    if (s.connections || s.open || s.opened != s.closed || s.opened != (uint64_t)h.opened)
        fault("not balanced", (long)s.connections);
    for (int i = 0; i < MAX_CONNS; i++)
        if (apps[i].state != FREE)
            fault("a connection without an end", i);
    for (int i = 0; i < TOPICS; i++)
        if (ws_server_subscribers(h.server, topics[i], strlen(topics[i])))
            fault("a topic without members", i);
    if (h.miscounts || h.memory.mismatch)
        fault("wrong counts of subscribers, or sizes of blocks", h.miscounts);
    if (held != base)
        fault("memory is left", (long)(held - base));
    if (descriptors() != fds)
        fault("descriptors are left", descriptors() - fds);
}

static void live(void)
{
    for (step = 0; step < STEPS && !failed; step++) {
        fail_at_times();
        move_one();
        if (draw(3) == 0)
            turns(&h, 1);
        if (draw(100) == 0)
            advance(&h, draw(20000));
        ws_stats s = stats_of(&h);
        if (s.opened != s.closed + s.open || s.open > s.connections)
            fault("not balanced", (long)s.open);
    }
}

static void play_round(void)
{
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
    start();
    failing = false;
    size_t base = stats_of(&h).memory - kept();
    int fds = descriptors();
    for (int i = 0; i < LIVES && !failed; i++) {
        failing = seed % 2 && i;
        live();
        failing = false;
        h.memory.fail_at = 0;
        if (finish())
            expect_rest(fds, base);
    }
    h.hook = NULL;
    if (!harness_free(&h))
        fault("memory or events are left at the end", 0);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double setting(const char *name, double otherwise)
{
    const char *text = getenv(name);
    return text ? atof(text) : otherwise;
}

static bool all_happened(void)
{
    return count.delivered && count.compared && count.timeouts && count.shutdowns &&
           count.failures;
}

/* A busy machine plays few rounds in the time: there are more until all of it has happened. */
static bool is_enough(uint32_t rounds, double end)
{
    enum { LEAST = 2, MOST = 40 };
    return rounds >= LEAST && now() >= end && (all_happened() || rounds >= MOST);
}

static void make_clients(void)
{
    for (size_t i = 0; i < sizeof letters; i++)
        letters[i] = (char)('a' + i % 26);
    ws__memory_init(&memory, &h.config.allocator, 0); /* the C library's */
    pool.memory = &memory;
    for (int i = 0; i < PEERS; i++)
        peers[i] = (struct peer){.fd = -1};
}

static void free_clients(void)
{
    for (int i = 0; i < PEERS; i++) {
        free(peers[i].in);
        free(peers[i].out);
        free(peers[i].message);
    }
    ws__deflate_pool_deinit(&pool);
    is_int((long long)memory.used, 0, "the clients left nothing, either");
}

static void test_rounds(void)
{
    double end = now() + setting("SOAK_SECONDS", 3);
    uint32_t first = (uint32_t)setting("SOAK_SEED", 1);
    diag("SOAK_SEED=%u", (unsigned)first);
    make_clients();
    for (seed = first; !failed && !is_enough(seed - first, end); seed++)
        play_round();
    ok(!failed, "T55, T66, T68, T93: every byte checked on both sides, all balanced, nothing left");
    diag("%u rounds, %lu connections, %lu messages heard, %lu sends, %lu publishes, %lu dropped",
         (unsigned)(seed - first), count.connections, count.messages, count.sent, count.published,
         count.dropped);
    diag("%lu delivered, %lu Closes (%lu with all sends before), %lu resets, %lu timeouts, "
         "%lu shutdowns, %lu failed allocations", count.delivered, count.closes, count.compared,
         count.resets, count.timeouts, count.shutdowns, count.failures);
    ok(all_happened(), "T93: and all of that happened");
    free_clients();
}

/* ---- 100,000 connections ---- */

static long resident(void)
{
    long pages = 0, size;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The eight ways of a connection in the flood, by the letter it says. */
static void serve_flood(struct harness *harness, enum event event, ws_conn *conn,
                        ws_request *request, const char *data, size_t length)
{
    (void)harness;
    if (request) {
        answer_now(request);
        return;
    }
    account(event, conn, data, length);
    if (event == ON_OPEN)
        ws_conn_subscribe(conn, "flood", 5);
    if (event != ON_MESSAGE)
        return;
    send_one(conn, HEADER + 300);
    switch (app_of(conn)->peer % 8) {
    case 3:
        ws_conn_close(conn);
        break;
    case 4:
        ws_conn_end(conn, 1000, "", 0);
        break;
    case 5:
        ws_conn_send_fragment(conn, "s", 1, WS_TEXT | WS_COMPRESS, false); /* and never more */
    }
}

static void flood_begin(int i)
{
    static const char *const paths[] = {"/", "/shared", "/dedicated"};
    struct peer *p = &peers[i];
    char text[512];
    peer_connect(p, paths[i % 3], false);
    size_t n = make_request(p, text);
    if (i % 8 == 7)
        return;
    say(p, text, i % 8 == 6 ? n / 2 : n);
}

static void flood_end(int i)
{
    struct peer *p = &peers[i];
    if (p->fd < 0 || !peer_read(p))
        return;
    if (i % 8 == 0 && p->phase == FRAMES)
        say_close(p, 1000);
    else
        peer_leave(p, i % 8 == 1);
}

/* PEERS connections come, are served, and go. */
static void flood_batch(void)
{
    for (int i = 0; i < PEERS; i++)
        flood_begin(i);
    turns(&h, 2);
    for (int i = 0; i < PEERS; i++)
        if (i % 8 < 6 && peers[i].fd >= 0 && peer_read(&peers[i]))
            say_message(&peers[i], HEADER + 20);
    turns(&h, 1);
    if (draw(4) == 0)
        publish_one(NULL);
    turns(&h, 1);
    for (int i = 0; i < PEERS; i++)
        flood_end(i);
    for (int rounds = 0; rounds < 200 && stats_of(&h).connections; rounds++) {
        turns(&h, 1);
        for (int i = 0; i < PEERS; i++)
            if (peers[i].fd >= 0)
                peer_read(&peers[i]);
        h.now += rounds > 20 ? UINT64_C(1000000000) : 0;
    }
    for (int i = 0; i < PEERS; i++)
        if (peers[i].fd >= 0)
            peer_leave(&peers[i], true);
}

static void test_flood(void)
{
    const uint64_t most = getenv("UNDER_VALGRIND") ? 1000 : SANITIZED ? 20000 : 100000;
    size_t base = 0;
    long early = 0;
    int fds = 0;
    state = seed = 55;
    make_clients();
    start();
    h.hook = serve_flood;
    for (step = 0; !failed && stats_of(&h).accepted < most; step++) {
        flood_batch();
        size_t held = stats_of(&h).memory;
        if (step == 4) {
            base = held;
            fds = descriptors();
        } else if (step > 4 && held != base) {
            fault("memory is not what it was before", (long)(held - base));
        }
        if (!early && stats_of(&h).accepted >= most / 5)
            early = resident();
    }
    long late = resident();
    ws_stats s = stats_of(&h);
    ok(!failed, "T55: %llu connections: each byte right, memory the same after each batch",
       (unsigned long long)s.accepted);
    is_int(descriptors(), fds, "T55, T91: and no descriptor more");
    ok(s.opened == s.closed && !s.connections, "T68: opened %llu, closed %llu",
       (unsigned long long)s.opened, (unsigned long long)s.closed);
    diag("resident after a fifth: %ld KiB, at the end: %ld KiB", early, late);
    ok(SANITIZED || getenv("UNDER_VALGRIND") || late - early < RSS_GROWTH,
       "T55, T91: the resident set is flat");
    h.hook = NULL;
    harness_stop(&h, "flood");
    free_clients();
}

static void cases(void)
{
    CASE(test_flood()); /* first, while the heap has no holes that would hide a leak */
    CASE(test_rounds());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
