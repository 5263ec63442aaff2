/* SPDX-License-Identifier: MIT */
/*
 * test_on_response.c: what ws_server_set_on_response reports: each HTTP answer once, the library's
 * own included, with the reason that the peer reads.
 */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#define HANDSHAKE                                                                                  \
    "Host: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                     \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static struct harness h;
static char seen[2000];
static bool shuts_down;

static void on_response(ws_request *request, int status, size_t length,
                        const char *why, size_t why_length, void *user)
{
    char address[46];
    size_t method_length, path_length, at = strlen(seen);
    const char *method = ws_request_method(request, &method_length);
    const char *path = ws_request_path(request, &path_length);
    is_int(user == seen, true, "user is handed on");
    is_int((int)why_length, why ? (int)strlen(why) : 0, "the length of the reason");
    ws_request_remote_address(request, address, sizeof address);
    is_text(address, "127.0.0.1", "the peer's address");
    is_int(ws_request_respond(request, 200, NULL, "", 0), WS_ECLOSED, "it is answered already");
    snprintf(seen + at, sizeof seen - at, "%.*s %.*s %d %s %s; ", (int)method_length,
             method ? method : "", (int)path_length, path ? path : "", status,
             why ? why : "(application)", length ? "+" : "-");
    if (shuts_down)
        ws_server_shutdown(h.server, 1001, NULL, 0, 1000);
}

static void respond(ws_request *request, void *user)
{
    (void)user;
    ws_request_respond(request, 403, NULL, "no", 2);
}

static void start(void)
{
    static const char *const origins[] = {"https://example.com", NULL};
    harness_init(&h);
    harness_create(&h);
    harness_route(&h, "/ws");
    h.behavior.origins = origins;
    harness_route(&h, "/origin");
    ws_server_http(h.server, "GET", "/page", respond, NULL);
    h.behavior.origins = NULL;
    h.behavior.on_upgrade = respond;
    ws_server_ws(h.server, "/refused", &h.behavior);
    harness_listen(&h);
    ws_server_set_on_response(h.server, on_response, seen);
}

static void expect(const char *request, size_t length, const char *want)
{
    struct client c;
    seen[0] = '\0';
    client_connect(&c, &h);
    client_write(&c, request, length);
    client_responses(&c);
    client_close(&c);
    turns(&h, 2);
    is_text(seen, want, want);
}

#define EXPECT(request, want) expect(request, sizeof request - 1, want)

static void test_reports(void)
{
    start();
    EXPECT("GET /page HTTP/1.1\r\nHost: t\r\n\r\n", "GET /page 403 (application) +; ");
    EXPECT("GET /page HTTP/1.1\r\nHost: t\r\n\r\nHEAD /page HTTP/1.1\r\nHost: t\r\n\r\n",
           "GET /page 403 (application) +; HEAD /page 403 (application) +; ");
    EXPECT("GET /none HTTP/1.1\r\nHost: t\r\n\r\n", "GET /none 404  +; ");
    EXPECT("GET /ws HTTP/1.1\r\nHost: t\r\n\r\n",
           "GET /ws 426 this resource speaks the WebSocket protocol only +; ");
    EXPECT("GET /ws HTTP/1.1\r\n" HANDSHAKE "Sec-WebSocket-Version: 8\r\n\r\n",
           "GET /ws 426 Sec-WebSocket-Version is not 13 +; ");
    EXPECT("GET /ws HTTP/1.1\r\n" HANDSHAKE "Sec-WebSocket-Version: 13\r\n\r\n", "");
    EXPECT("GET /origin HTTP/1.1\r\n" HANDSHAKE "Sec-WebSocket-Version: 13\r\n\r\n",
           "GET /origin 403 Origin is not allowed +; ");
    EXPECT("GET /refused HTTP/1.1\r\n" HANDSHAKE "Sec-WebSocket-Version: 13\r\n\r\n",
           "GET /refused 403 (application) +; ");
    EXPECT("GET /x y HTTP/1.1\r\n\r\n", "  400 the request head is malformed +; ");
    EXPECT("\x16\x03\x01\x02\x00\x01", "  400 TLS ClientHello on a port without TLS +; ");
    EXPECT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "  505 the request is not HTTP/1 +; ");
    ws_server_set_on_response(h.server, NULL, NULL);
    EXPECT("GET /none HTTP/1.1\r\nHost: t\r\n\r\n", "");
    harness_stop(&h, "reports");
}

static void test_shutdown_inside(void)
{
    struct client c;
    start();
    shuts_down = true;
    client_connect(&c, &h);
    client_say(&c, "GET /none HTTP/1.1\r\nHost: t\r\n\r\n");
    is_text(client_responses(&c), "404, EOF", "a connection that would have been kept ends");
    client_close(&c);
    turns(&h, 2);
    is_int(ws_server_step(h.server, 0), WS_OK, "the shutdown is over");
    shuts_down = false;
    harness_stop(&h, "a shutdown inside of it");
}

static void cases(void)
{
    CASE(test_reports());
    CASE(test_shutdown_inside());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
