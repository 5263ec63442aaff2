/* SPDX-License-Identifier: MIT */
/*
 * test_admit.c: who may connect, who they are behind a proxy, and how much one address may do: on
 * a server, with clients from many addresses of 127.0.0.0/8.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GET(fields) "GET /who HTTP/1.1\r\nHost: t\r\n" fields "\r\n"
#define UPGRADE(fields)                                                                            \
    "GET / HTTP/1.1\r\nHost: t\r\n" fields "Upgrade: websocket\r\nConnection: Upgrade\r\n"         \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static struct harness h;
static char opened[200];
static const char *const loopback[] = {"127.0.0.1", NULL};
static bool refuses; /* on_upgrade does */
static int upgrades, lines;

static void describe_request(ws_request *request, char text[80])
{
    char address[46];
    ws_request_remote_address(request, address, sizeof address);
    snprintf(text, 80, "%s:%d %s", address, ws_request_remote_port(request),
             ws_request_scheme(request));
}

static void on_event(struct harness *harness, enum event event, ws_conn *conn, ws_request *request,
                     const char *data, size_t length)
{
    char text[80], address[46];
    (void)harness, (void)data, (void)length;
    if (request)
        describe_request(request, text);
    if (event == ON_HTTP) {
        ws_request_respond(request, 200, NULL, text, strlen(text));
    } else if (event == ON_UPGRADE) {
        upgrades++;
        if (refuses)
            ws_request_respond(request, 403, NULL, text, strlen(text));
        else
            ws_request_upgrade(request, NULL, 0, NULL);
    } else if (event == ON_OPEN) {
        describe_request(ws_conn_request(conn), text);
        ws_conn_remote_address(conn, address, sizeof address);
        snprintf(opened, sizeof opened, "%s, %s:%d %s", text, address, ws_conn_remote_port(conn),
                 ws_conn_scheme(conn));
    }
}

static void count_lines(void *user, int level, const char *line, size_t length)
{
    (void)user;
    lines += level == WS_LOG_WARNING && length > 8 && !memcmp(line, "too many", 8);
}

static void prepare(void)
{
    harness_init(&h);
    h.answers = true;
    h.hook = on_event;
    refuses = false;
    upgrades = lines = 0;
    opened[0] = '\0';
}

static void start(bool proxied)
{
    ws_listen_options options;
    harness_create(&h);
    harness_route(&h, "/");
    harness_http(&h, "GET", "/who");
    ws_listen_options_init(&options, sizeof options);
    options.host = "0.0.0.0";
    options.proxy_protocol = proxied;
    h.port = ws_server_listen(h.server, &options);
    ok(h.port > 0, "listens");
}

/* A client that connects from this address. */
static void connect_from(struct client *c, const char *address)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    *c = (struct client){.h = &h, .served_fd = -1};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    from.sin_addr.s_addr = inet_addr(address);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)h.port);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from) ||
        (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS))
        ok(false, "connects from %s", address);
    turns(&h, 2);
}

static void ask(const char *bytes, const char *want, const char *name)
{
    struct client c;
    client_connect(&c, &h);
    client_say(&c, bytes);
    is_responses(&c, want, name);
    client_close(&c);
    turns(&h, 2);
}

static void upgrade(const char *bytes, const char *want, const char *name)
{
    struct client c;
    opened[0] = '\0';
    client_connect(&c, &h);
    client_say(&c, bytes);
    turns(&h, 3);
    is_text(opened, want, name);
    client_close(&c);
    turns(&h, 2);
}

/* ---- Forwarded ---------------------------------------------------------------------------- */

static void test_forwarded(void)
{
    prepare();
    h.config.trusted_proxies = loopback;
    start(false);
    ask(GET("Forwarded: for=\"1.2.3.4:5\";proto=https\r\n")
        GET("X-Forwarded-For: 9.9.9.9, 2001:db8::1\r\n"),
        "200 1.2.3.4:5 https, 200 2001:db8::1:0 http", "W5: each request has its client");
    upgrade(UPGRADE("Forwarded: for=\"1.2.3.4:5\";proto=https\r\n"),
            "1.2.3.4:5 wss, 1.2.3.4:5 wss", "W5: and so has a connection");
    upgrade(UPGRADE("X-Forwarded-For: 1.2.3.4\r\n"), "1.2.3.4:0 ws, 1.2.3.4:0 ws",
            "W5: X-Forwarded-For");
    refuses = true;
    ask(UPGRADE("X-Forwarded-For: 1.2.3.4\r\n"), "403, EOF", "W5: refused by its address");
    harness_stop(&h, "forwarded");
    prepare();
    static const char *const other[] = {"127.0.0.2", "::1", "unix", NULL};
    h.config.trusted_proxies = other;
    start(false);
    struct client c;
    connect_from(&c, "127.0.0.3");
    client_say(&c, UPGRADE("Forwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 1.2.3.4\r\n"
                           "X-Forwarded-Proto: https\r\n"));
    turns(&h, 3);
    ok(!strncmp(opened, "127.0.0.3:", 10) && strstr(opened, " ws, 127.0.0.3:") &&
           !strstr(opened, "wss"),
       "W5: a stranger is who it is: %s", opened);
    client_close(&c);
    harness_stop(&h, "strangers");
}

static void test_wrong_config(void)
{
    static const char *const wrong[] = {"127.0.0.1", "example.org", NULL};
    prepare();
    h.config.trusted_proxies = wrong;
    is_int(ws_server_new(&h.server, &h.config), WS_EINVAL, "W5: a name is no address");
    h.config.trusted_proxies = NULL;
    h.config.max_handshakes_per_second_per_address = 1000001;
    is_int(ws_server_new(&h.server, &h.config), WS_EINVAL, "W6: a limit that is too high");
    is_int((long long)h.memory.bytes, 0, "no memory is left");
}

/* ---- PROXY protocol ----------------------------------------------------------------------- */

#define TEXT "PROXY TCP4 1.2.3.4 5.6.7.8 8080 80\r\n"

static void test_header_in_pieces(void)
{
    const char bytes[] = TEXT GET("");
    const size_t length = sizeof bytes - 1;
    prepare();
    start(true);
    for (size_t cut = 0; cut < length; cut++) {
        struct client c;
        client_connect(&c, &h);
        client_write(&c, bytes, cut);
        turns(&h, 2);
        client_write(&c, bytes + cut, length - cut);
        if (strcmp(client_responses(&c), "200 1.2.3.4:8080 http") || c.eof)
            ok(false, "W5: cut at %zu", cut);
        client_close(&c);
        turns(&h, 2);
    }
    struct client c;
    client_connect(&c, &h);
    for (size_t i = 0; i < length; i++) {
        client_write(&c, bytes + i, 1);
        turns(&h, 1);
    }
    is_responses(&c, "200 1.2.3.4:8080 http", "W5: byte by byte");
    client_say(&c, GET(""));
    is_responses(&c, "200 1.2.3.4:8080 http", "W5: the next request needs no header");
    client_close(&c);
    upgrade(TEXT UPGRADE(""), "1.2.3.4:8080 ws, 1.2.3.4:8080 ws", "W5: with the handshake");
    harness_stop(&h, "a header in pieces");
}

static void test_binary_header(void)
{
    static const char bytes[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\1\2\3\4\5\6\7\x8\x1f\x90\0\x50"
                                "\x20\0\5\1\0\0\0\0" GET("") UPGRADE("");
    struct client c;
    prepare();
    start(true);
    client_connect(&c, &h);
    client_write(&c, bytes, sizeof bytes - 1);
    turns(&h, 3);
    is_text(opened, "1.2.3.4:8080 wss, 1.2.3.4:8080 wss", "W5: version 2, with TLS");
    client_read(&c);
    ok(memmem(c.in, c.in_length, "1.2.3.4:8080 https", 18), "W5: for requests, too");
    client_close(&c);
    harness_stop(&h, "a binary header");
}

static void test_wrong_headers(void)
{
    prepare();
    start(true);
    ask(GET(""), "EOF", "W5: no header");
    ask("PROXY TCP4 1.2.3.4 5.6.7.8 08080 80\r\n" GET(""), "EOF", "W5: a wrong one");
    ok(log_has(&h, "no valid PROXY header from 127.0.0.1"), "W5: which is logged");
    ask(TEXT TEXT GET(""), "400, EOF", "W5: two headers");
    ask("PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n" GET(""), "400, EOF", "W5: of another kind");
    struct client c;
    client_connect(&c, &h);
    client_say(&c, "PROXY TCP4 1.2.3.4");
    turns(&h, 2);
    advance(&h, h.config.handshake_timeout / 2);
    client_say(&c, " ");
    advance(&h, h.config.handshake_timeout / 2 + 100);
    is_responses(&c, "EOF", "W5, T14: half a header, within handshake_timeout of accept");
    client_close(&c);
    client_connect(&c, &h);
    client_say(&c, "PROXY TCP4 1.2.3.4");
    turns(&h, 2);
    ws_server_drain(h.server);
    turns(&h, 2);
    is_int((long long)stats_of(&h).connections, 1, "W5: a drain leaves it its time");
    ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
    turns(&h, 3);
    is_responses(&c, "EOF", "W5: a shutdown does not");
    client_close(&c);
    harness_stop(&h, "wrong headers");
    prepare();
    h.config.trusted_proxies = loopback;
    start(false);
    ask(TEXT GET(""), "400, EOF", "W5, T15: a header on a plain port");
    harness_stop(&h, "a plain port");
}

static void test_who_may_send_headers(void)
{
    struct client c;
    prepare();
    h.config.trusted_proxies = loopback;
    start(true);
    connect_from(&c, "127.0.0.2");
    client_say(&c, TEXT GET(""));
    is_responses(&c, "EOF", "W5: a stranger may not connect");
    is_int((long long)stats_of(&h).refused, 1, "W5: and is counted");
    client_close(&c);
    ask(TEXT GET("X-Forwarded-For: 9.9.9.9\r\n"), "200 1.2.3.4:8080 http",
        "W5: the proxy's client is a stranger, too");
    ask("PROXY TCP4 127.0.0.1 5.6.7.8 8080 80\r\n" GET("X-Forwarded-For: 9.9.9.9\r\n"),
        "200 9.9.9.9:0 http", "W5: unless it is trusted");
    harness_stop(&h, "who may send headers");
}

/* ---- connections of an address ------------------------------------------------------------ */

static void test_connections(void)
{
    enum { LIMIT = 3 };
    struct client c[LIMIT], more, other;
    prepare();
    h.config.max_connections_per_address = LIMIT;
    start(false);
    for (int i = 0; i < LIMIT; i++)
        client_open(&c[i], &h);
    is_int(h.opened, LIMIT, "W6: as many as the limit");
    client_connect(&more, &h);
    is_responses(&more, "503, EOF", "W6: one more is answered");
    ok(head_has(&more, "Retry-After: 1\r\n"), "W6: when to come again");
    client_close(&more);
    turns(&h, 2);
    ok(log_has(&h, "too many connections from one address: 127.0.0.1"), "W6: it is logged");
    connect_from(&other, "127.0.0.2");
    client_say(&other, GET(""));
    ok(!strncmp(client_responses(&other), "200 127.0.0.2:", 14), "W6: others are served");
    client_close(&other);
    client_close(&c[0]);
    turns(&h, 3);
    client_open(&c[0], &h);
    is_int(h.opened, LIMIT + 1, "W6: one may come when one has gone");
    ws_stats s = stats_of(&h);
    is_int((long long)s.limited, 1, "W6: what was refused is counted");
    is_int((long long)s.refused, 0, "W6: apart from others");
    for (int i = 0; i < LIMIT; i++)
        client_close(&c[i]);
    harness_stop(&h, "connections of an address");
}

/* Those that are refused are few at a time, and do not count for their address. */
static void test_refused_connections(void)
{
    enum { MANY = 200 };
    static struct client c[MANY];
    int answered = 0;
    prepare();
    h.config.max_connections_per_address = 1;
    h.config.log = count_lines;
    start(false);
    client_open(&c[0], &h);
    const size_t memory = h.memory.bytes;
    for (int i = 1; i < MANY; i++)
        client_connect(&c[i], &h);
    turns(&h, 3);
    ok(stats_of(&h).connections <= 1 + 64, "W6, T58: a bounded number is there at a time: %u",
       stats_of(&h).connections);
    ok(h.memory.bytes < memory + 64 * 1000, "W6: with little memory");
    for (int i = 1; i < MANY; i++) {
        const char *got = client_responses(&c[i]);
        answered += !strcmp(got, "503, EOF");
        if (strcmp(got, "503, EOF") && strcmp(got, "EOF") && strcmp(got, "RST"))
            ok(false, "W6: %s", got);
    }
    is_int(answered, 64, "W6: and answered; the others are cut");
    is_int(lines, 1, "W6: one line is logged");
    client_close(&c[0]);
    turns(&h, 3);
    struct client again;
    client_open(&again, &h);
    is_int(h.opened, 2, "W6: the address may come again while they linger");
    client_close(&again);
    for (int i = 1; i < MANY; i++)
        client_close(&c[i]);
    turns(&h, 5);
    is_int((long long)stats_of(&h).connections, 0, "W6: none is left");
    harness_stop(&h, "refused connections");
}

static void test_connections_behind_proxies(void)
{
    struct client c[4];
    prepare();
    h.config.max_connections_per_address = 1;
    h.config.trusted_proxies = loopback;
    start(false);
    for (int i = 0; i < 4; i++) {
        client_connect(&c[i], &h);
        client_say(&c[i], GET("X-Forwarded-For: 1.2.3.4\r\n"));
        is_responses(&c[i], "200 1.2.3.4:0 http", "W6: the proxy's connections are not limited");
    }
    client_say(&c[0], UPGRADE("X-Forwarded-For: 1.2.3.4\r\n"));
    client_say(&c[1], UPGRADE("X-Forwarded-For: 1.2.3.5\r\n"));
    turns(&h, 3);
    is_int(h.opened, 2, "W6: those of its clients are, from the upgrade on");
    client_say(&c[2], UPGRADE("X-Forwarded-For: 1.2.3.4\r\n"));
    is_responses(&c[2], "503, EOF", "W6: a second one of the client");
    is_int(upgrades, 2, "W6: of which the application learns nothing");
    client_close(&c[2]);
    client_close(&c[0]);
    turns(&h, 3);
    client_say(&c[3], UPGRADE("X-Forwarded-For: 1.2.3.4\r\n"));
    turns(&h, 3);
    is_int(h.opened, 3, "W6: one may come when one has gone");
    client_close(&c[1]);
    client_close(&c[3]);
    turns(&h, 3);
    for (int i = 0; i < 3; i++) {
        client_connect(&c[i], &h);
        client_say(&c[i], UPGRADE(""));
        turns(&h, 3);
    }
    is_int(h.opened, 6, "W6: the proxy itself is not limited");
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    harness_stop(&h, "connections behind proxies");
}

/* A client that makes its address unknown gets no more for that. */
static void test_hiding_clients(void)
{
    struct client c[2];
    prepare();
    h.config.max_connections_per_address = 1;
    h.config.trusted_proxies = loopback;
    start(false);
    for (int i = 0; i < 2; i++) {
        client_connect(&c[i], &h);
        client_say(&c[i], UPGRADE("Forwarded: for=9.9.9.9\r\nX-Forwarded-For: 1.2.3.4\r\n"));
        turns(&h, 3);
    }
    is_int(h.opened, 1, "W5, W6: all that hide are one address");
    is_responses(&c[1], "503, EOF", "W5, W6: which is limited");
    client_close(&c[0]);
    client_close(&c[1]);
    harness_stop(&h, "hiding clients");
}

static void test_connections_with_headers(void)
{
    struct client c[3];
    prepare();
    h.config.max_connections_per_address = 1;
    start(true);
    for (int i = 0; i < 3; i++)
        client_connect(&c[i], &h);
    is_int((long long)stats_of(&h).limited, 0, "W6: no one is limited before the header");
    client_say(&c[0], TEXT);
    client_say(&c[1], "PROXY TCP4 1.2.3.5 5.6.7.8 8080 80\r\n");
    turns(&h, 2);
    client_say(&c[2], TEXT GET(""));
    is_responses(&c[2], "503, EOF", "W6: but by the address that it names");
    client_say(&c[0], GET(""));
    is_responses(&c[0], "200 1.2.3.4:8080 http", "W6: the first one stays");
    client_say(&c[1], GET(""));
    is_responses(&c[1], "200 1.2.3.5:8080 http", "W6: and so does the other address");
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    harness_stop(&h, "connections with headers");
}

/* ---- handshakes of an address ------------------------------------------------------------- */

static const char *shake(const char *bytes)
{
    static char got[80];
    struct client c;
    const int before = h.opened;
    client_connect(&c, &h);
    client_say(&c, bytes);
    turns(&h, 3);
    snprintf(got, sizeof got, "%s", h.opened > before ? "open" : client_responses(&c));
    if (h.opened == before && !head_has(&c, "Retry-After: 1\r\n"))
        strcat(got, " without Retry-After");
    client_close(&c);
    turns(&h, 2);
    return got;
}

static void test_handshakes(void)
{
    prepare();
    h.config.max_handshakes_per_second_per_address = 3;
    h.config.log = count_lines;
    start(false);
    for (int i = 0; i < 3; i++)
        is_text(shake(UPGRADE("")), "open", "W6: as many at once as in a second");
    for (int i = 0; i < 3; i++)
        is_text(shake(UPGRADE("")), "429, EOF", "W6: then no more");
    is_int(upgrades, 3, "W6: of which the application learns nothing");
    struct client c;
    client_connect(&c, &h);
    client_say(&c, GET("") GET("") GET("") GET(""));
    ok(!strstr(client_responses(&c), "429, EOF"), "W6: plain requests are not limited");
    client_close(&c);
    turns(&h, 2);
    advance(&h, 334);
    is_text(shake(UPGRADE("")), "open", "W6: a third of a second later, one");
    is_text(shake(UPGRADE("")), "429, EOF", "W6: and not two");
    advance(&h, 1000);
    is_text(shake(UPGRADE("Sec-WebSocket-Key: two\r\n")), "400, EOF without Retry-After",
            "W6: one that fails counts, too");
    is_text(shake(UPGRADE("")), "open", "W6: the second");
    is_text(shake(UPGRADE("")), "open", "W6: the third");
    is_text(shake(UPGRADE("")), "429, EOF", "W6: the fourth");
    is_int((long long)stats_of(&h).limited, 5, "W6: what was refused is counted");
    is_int(lines, 1, "W6: one line is logged");
    advance(&h, 60000);
    for (int i = 0; i < 4; i++)
        shake(UPGRADE(""));
    is_int(lines, 2, "W6: in a minute");
    harness_stop(&h, "handshakes of an address");
}

static void test_handshakes_behind_proxies(void)
{
    prepare();
    h.config.max_handshakes_per_second_per_address = 1;
    h.config.trusted_proxies = loopback;
    start(false);
    is_text(shake(UPGRADE("X-Forwarded-For: 1.2.3.4\r\n")), "open", "W6: the first of a client");
    is_text(shake(UPGRADE("X-Forwarded-For: 1.2.3.4\r\n")), "429, EOF", "W6: the second");
    is_text(shake(UPGRADE("X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n")), "429, EOF", "W5: forged");
    is_text(shake(UPGRADE("X-Forwarded-For: 1.2.3.5\r\n")), "open", "W6: another client");
    is_text(shake(UPGRADE("")), "open", "W6: the proxy");
    is_text(shake(UPGRADE("")), "open", "W6: which has no limit");
    is_text(shake(UPGRADE("X-Forwarded-For: 127.0.0.1\r\n")), "open", "W6: even by name");
    is_text(shake(UPGRADE("X-Forwarded-For: 127.0.0.1\r\n")), "open", "W6: and again");
    is_text(shake(UPGRADE("Forwarded: for=a\r\n")), "open", "W5, W6: a client that hides");
    is_text(shake(UPGRADE("Forwarded: for=b\r\n")), "429, EOF", "W5, W6: gets no more for that");
    harness_stop(&h, "handshakes behind proxies");
}

/* A flood from 1,000 addresses costs memory for those that are let in. */
static void test_flood(void)
{
    enum { ADDRESSES = 1000, EACH = 4 };
    prepare();
    h.quiet = true;
    h.config.max_connections_per_address = 1;
    h.config.max_handshakes_per_second_per_address = 1;
    h.config.log = count_lines;
    start(false);
    is_text(shake(UPGRADE("")), "open", "W6: one client"); /* for which the server makes a buffer */
    upgrades = 0;
    const size_t idle = h.memory.bytes;
    size_t most = idle;
    for (int i = 0; i < ADDRESSES; i++) {
        struct client c[EACH];
        char address[20];
        snprintf(address, sizeof address, "127.1.%d.%d", i / 250, 1 + i % 250);
        for (int k = 0; k < EACH; k++) {
            connect_from(&c[k], address);
            client_say(&c[k], UPGRADE(""));
        }
        turns(&h, 2);
        most = h.memory.bytes > most ? h.memory.bytes : most;
        for (int k = 0; k < EACH; k++)
            client_reset(&c[k]);
        turns(&h, 2);
    }
    is_int(upgrades, ADDRESSES, "W6, T14, T58: each address has had one handshake");
    ok(most < idle + 20000, "W6: with little memory: %zu bytes", most - idle);
    ok(h.memory.bytes <= idle + 4000, "W6: of which nothing is left: %zu", h.memory.bytes - idle);
    is_int((long long)stats_of(&h).connections, 0, "W6: and no connection");
    is_int(lines, ADDRESSES, "W6: one line for each");
    harness_stop(&h, "a flood");
}

/* ---- without memory ----------------------------------------------------------------------- */

static void scenario(void)
{
    struct client c[3];
    for (int i = 0; i < 3; i++) {
        client_connect(&c[i], &h);
        client_say(&c[i], i ? UPGRADE("X-Forwarded-For: 1.2.3.4\r\n") : GET("Forwarded: a\r\n"));
        turns(&h, 2);
    }
    for (int i = 0; i < 3; i++)
        client_close(&c[i]);
    turns(&h, 2);
}

static bool fails_at(size_t call, bool after)
{
    prepare();
    h.quiet = true;
    h.config.max_connections_per_address = 1;
    h.config.max_handshakes_per_second_per_address = 100;
    h.config.trusted_proxies = loopback;
    h.memory.fail_at = call;
    h.memory.fail_after = after;
    if (!ws_server_new(&h.server, &h.config)) {
        ws_listen_options options;
        ws_listen_options_init(&options, sizeof options);
        options.host = "127.0.0.1";
        ws_server_http(h.server, "GET", "/who", NULL, NULL);
        ws_server_ws(h.server, "/", &h.behavior);
        h.port = ws_server_listen(h.server, &options);
        if (h.port > 0)
            scenario();
        if (!harness_free(&h))
            ok(false, "allocation %zu fails", call);
    } else if (h.memory.bytes) {
        ok(false, "allocation %zu fails, %zu bytes are left", call, h.memory.bytes);
    }
    return h.memory.calls >= call;
}

static void test_without_memory(void)
{
    size_t call = 1;
    while (fails_at(call, false) && fails_at(call, true))
        call++;
    ok(call > 20, "W5, W6: %zu allocations that fail", call - 1);
}

static void cases(void)
{
    CASE(test_forwarded());
    CASE(test_wrong_config());
    CASE(test_header_in_pieces());
    CASE(test_binary_header());
    CASE(test_wrong_headers());
    CASE(test_who_may_send_headers());
    CASE(test_connections());
    CASE(test_refused_connections());
    CASE(test_connections_behind_proxies());
    CASE(test_hiding_clients());
    CASE(test_connections_with_headers());
    CASE(test_handshakes());
    CASE(test_handshakes_behind_proxies());
    CASE(test_flood());
    CASE(test_without_memory());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
