/*
 * ws.h: the public interface of pyws, a WebSocket server for Linux (RFC 6455, RFC 9112).
 *
 * One server owns one event loop (epoll) and belongs to one thread: the one that calls
 * ws_server_run or ws_server_step. Every function is to be called from that thread only, except
 * ws_server_wakeup and ws_server_defer, which any thread may call. Two servers in two threads
 * share nothing.
 *
 * The library never exits, never prints, never raises or handles a signal (no SIGPIPE: every
 * send is MSG_NOSIGNAL), and keeps no global state.
 *
 * Ownership, in three words used throughout: a *borrowed* pointer is valid until the callback
 * that received it returns; a *copied* argument may be freed as soon as the call returns; a *kept*
 * pointer must stay valid for as long as the text says. The library never frees a pointer of the
 * caller's.
 *
 * Errors are negative ws_error values; each function lists those that it returns.
 */
#ifndef WS_H
#define WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(WS_BUILDING) && defined(__GNUC__)
#define WS_API __attribute__((visibility("default")))
#else
#define WS_API
#endif

#define WS_VERSION "0.1.0"
/* Raised whenever a struct or a prototype of this file changes in an incompatible way. */
#define WS_ABI 4

/* ---- errors ------------------------------------------------------------------------------- */

/* X(name, value, text): the one list from which the enum, ws_strerror and the bindings are made. */
#define WS_ERROR_MAP(X)                                                                            \
    X(ENOMEM, -1, "out of memory, or above max_memory")                                            \
    X(EINVAL, -2, "invalid argument")                                                              \
    X(EBUSY, -3, "the server is running a turn or a callback")                                     \
    X(ECLOSED, -4, "the connection or the request is closed or already answered")                  \
    X(EORDER, -5, "fragments sent in the wrong order")                                             \
    X(EEXIST, -6, "a route with this pattern is registered already")                               \
    X(EABI, -7, "struct size does not match this library")                                         \
    X(ESTOPPED, -8, "the server no longer accepts this call, it is shutting down")                 \
    X(ESYSTEM, -9, "a system call failed, see errno")                                              \
    X(ENOTSUP, -10, "this library was built without compression")                                  \
    X(ELIMIT, -11, "the connection has max_topics subscriptions already")                          \
    X(EFORKED, -12, "the server belongs to the process that made it, not to a forked child")

typedef enum ws_error {
    WS_OK = 0,
#define WS_ERROR_ENUM(name, value, text) WS_##name = value,
    WS_ERROR_MAP(WS_ERROR_ENUM)
#undef WS_ERROR_ENUM
} ws_error;

/* What `error` means, in English; never NULL; static. "unknown error" for any other value. */
WS_API const char *ws_strerror(int error);

/* ---- library ------------------------------------------------------------------------------ */

/* WS_ABI and WS_VERSION of the library that was loaded (any thread). */
WS_API int ws_abi(void);
WS_API const char *ws_version(void);

/* Size in bytes that the library was built with of the struct called `name` ("ws_config",
 * "ws_behavior", "ws_listen_options", "ws_stats"); 0 for any other name (any thread). */
WS_API size_t ws_struct_size(const char *name);

/* True when the `length` bytes at `data` are valid UTF-8 (RFC 3629; any thread). */
WS_API bool ws_utf8_valid(const void *data, size_t length);

/* True when permessage-deflate (RFC 7692) was built in (any thread). */
WS_API bool ws_compression_available(void);

typedef struct ws_server ws_server;
typedef struct ws_conn ws_conn;
typedef struct ws_request ws_request;

/* Names one connection for ever: 24 bits of slot, 40 bits of generation; 0 names none. For
 * anything that outlives a callback, keep the id and ask ws_server_find. */
typedef uint64_t ws_conn_id;

/* Opcodes (RFC 6455 section 5.2). */
enum {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

/* Or-ed to WS_TEXT or WS_BINARY: send this message compressed, where that was negotiated and makes
 * it smaller. */
enum { WS_COMPRESS = 0x100 };

/* ws_behavior.compression: 0, or one compressor or-ed with one decompressor; where one of the two
 * is missing it is shared. Shared: every message is an isolated stream, no memory per connection.
 * Dedicated: the window is kept between messages; the name tells its size in memory (window and
 * hash tables). Beside each: the bytes that a connection really costs from its first compressed
 * message on, measured with zlib 1.2.13 on a 64-bit machine, zlib's own state included. (A shared
 * compressor costs 268,320 while a message is sent compressed in fragments.) */
enum {
    WS_COMPRESSION_DISABLED = 0,
    WS_SHARED_COMPRESSOR = 1,
    WS_DEDICATED_COMPRESSOR_3KB = 145,        /* 9,248 */
    WS_DEDICATED_COMPRESSOR_4KB = 146,        /* 10,272 */
    WS_DEDICATED_COMPRESSOR_8KB = 163,        /* 14,368 */
    WS_DEDICATED_COMPRESSOR_16KB = 180,       /* 22,560 */
    WS_DEDICATED_COMPRESSOR_32KB = 197,       /* 38,944 */
    WS_DEDICATED_COMPRESSOR_64KB = 214,       /* 71,712 */
    WS_DEDICATED_COMPRESSOR_128KB = 231,      /* 137,248 */
    WS_DEDICATED_COMPRESSOR_256KB = 248,      /* 268,320 */
    WS_SHARED_DECOMPRESSOR = 256,
    WS_DEDICATED_DECOMPRESSOR_512B = 2304,    /* 7,848 */
    WS_DEDICATED_DECOMPRESSOR_1KB = 2560,     /* 8,360 */
    WS_DEDICATED_DECOMPRESSOR_2KB = 2816,     /* 9,384 */
    WS_DEDICATED_DECOMPRESSOR_4KB = 3072,     /* 11,432 */
    WS_DEDICATED_DECOMPRESSOR_8KB = 3328,     /* 15,528 */
    WS_DEDICATED_DECOMPRESSOR_16KB = 3584,    /* 23,720 */
    WS_DEDICATED_DECOMPRESSOR_32KB = 3840     /* 40,104 */
};

/* Results of ws_conn_send and its relatives, when not a negative ws_error. */
enum {
    WS_BACKPRESSURE = 0, /* queued, the kernel's buffer is full; on_drain follows */
    WS_SUCCESS = 1,      /* handed to the kernel, or corked and flushed at the end of the handler */
    WS_DROPPED = 2       /* nothing queued, nothing on the wire: the limit, or no peer any more */
};

enum { WS_LOG_DEBUG = 10, WS_LOG_INFO = 20, WS_LOG_WARNING = 30, WS_LOG_ERROR = 40 };

/* ---- server ------------------------------------------------------------------------------- */

/* One function is the whole allocator. size 0 frees ptr and returns NULL; ptr NULL allocates;
 * otherwise the block is resized, old_size being what it was allocated with. Returns NULL when
 * there is no memory, the old block then stays valid. ws_server_defer calls it from the calling
 * thread. */
typedef struct ws_allocator {
    void *(*resize)(void *context, void *ptr, size_t old_size, size_t size);
    void *context;
} ws_allocator;

/* Settings of a server. Begin with ws_config_init, then change what you need. All functions here,
 * the allocator included, are callbacks: from inside of them ws_server_run, _step and _free return
 * WS_EBUSY. The allocator and the clock run in the middle of other calls: of this header they may
 * call ws_server_wakeup alone. (In ws_server_defer, where any thread may be, _free alone is refused
 * to the allocator.) */
typedef struct ws_config {
    size_t size;            /* sizeof(ws_config), set by ws_config_init */
    ws_allocator allocator; /* resize == NULL: realloc and free of the C library */
    void *user;             /* kept; handed to the four functions below */
    /* Nanoseconds of a clock that never steps back; NULL: CLOCK_MONOTONIC. It is read a few times
     * per turn, around each compressed message and for every 4 KiB of it, after every 16 messages
     * that a connection handles in one turn and every long one that came compressed, and by calls
     * that start a timer, set the alarm or shorten a shutdown. One that stands still during a turn
     * leaves only the counts of messages and bytes as limits of what a turn does. */
    uint64_t (*clock)(void *user);
    /* Receives one line (borrowed, no newline, printable ASCII, at most 200 bytes); NULL: no log.
     * level is one of WS_LOG_*. */
    void (*log)(void *user, int level, const char *line, size_t length);
    /* Called around every wait of the loop, also when it does not block; NULL: nothing. */
    void (*before_wait)(void *user);
    void (*after_wait)(void *user);
    /* Bytes that the server may hold: its connections, and also its routes and its receive buffer;
     * 0 = no limit (default). What exceeds it fails as if memory had run out. */
    size_t max_memory;
    uint32_t max_connections;    /* sockets at a time, default 1,000,000; 1 to 16,000,000 */
    /* Bytes of a request head, default 16384; 1024 to 1048576. Half of it for the request line. */
    uint32_t max_header_size;
    uint32_t max_headers;        /* fields of a request head, default 100; 1 to 10000 */
    uint32_t recv_buffer_size;   /* bytes, one per server, default 262144; 4096 to 16777216 */
    uint32_t handshake_timeout;  /* ms from accept to a complete request head, default 10000 */
    uint32_t keep_alive_timeout; /* ms that an idle HTTP connection is kept, default 10000 */
    uint32_t upgrade_timeout;    /* ms for a deferred answer (ws_request_defer), default 30000 */
} ws_config;

/* Fills *config with the defaults. `size` is sizeof(ws_config) of the caller.
 * WS_EABI when the library was built with another size. */
WS_API int ws_config_init(ws_config *config, size_t size);

/* A new server (free it with ws_server_free). `config` is copied; NULL: all defaults.
 * On failure *server is NULL. WS_ENOMEM, WS_EINVAL (a value out of range), WS_EABI, WS_ESYSTEM. */
WS_API int ws_server_new(ws_server **server, const ws_config *config);

/* Drops every connection (on_close runs with code 1006, then on_closed; on_aborted for a deferred
 * request), runs what was deferred, and frees the server. NULL is fine.
 * WS_EBUSY from inside a callback of this server, or where another thread is inside
 * ws_server_defer; then nothing is freed.
 *
 * A server belongs to the process that made it. A forked child shares its descriptors, and may call
 * nothing but this function, which then gives back the child's memory and descriptors and does no
 * more: no handler runs, and neither the parent nor a peer notices. ws_server_run,
 * ws_server_listen, ws_server_shutdown and ws_server_set_interrupt_fd return WS_EFORKED there;
 * other calls are not checked. A child that was forked during a turn gets WS_EBUSY: it must not
 * return from the callback, but end by exec or _exit. */
WS_API int ws_server_free(ws_server *server);

/* Where to listen. Begin with ws_listen_options_init. */
typedef struct ws_listen_options {
    size_t size;
    const char *host; /* copied; an IPv4 or IPv6 address, or a name, whose addresses are all
                         listened on; NULL: all interfaces */
    const char *path; /* copied; a Unix socket instead of TCP; NULL: TCP */
    uint32_t mode;    /* permission bits of `path`, default 0660 */
    uint16_t port;    /* 0: the kernel picks one, see ws_server_listen */
    bool reuse_port;  /* share the port with other processes (SO_REUSEPORT) */
    int backlog;      /* default 1024 */
    int fd;           /* a stream socket that listens, or is bound; the server's from success on
                         (and non-blocking, for all who have a copy of it); -1: none */
} ws_listen_options;

WS_API int ws_listen_options_init(ws_listen_options *options, size_t size);

/* Starts to listen; connections are accepted during the turns of the loop. Returns the port (0 for
 * a Unix socket). The port is taken exclusively unless reuse_port. A server may listen at any
 * number of places.
 * A name is resolved by the C library, which may block. It may have 32 addresses (else E2BIG), and
 * all of them get the same port. An address that this machine does not have (::1 without IPv6) is
 * left out, with a warning in the log, as long as there is another one; any other failure at one of
 * them is that of the call, and nothing stays open.
 * The file of a Unix socket is removed when the server stops listening, unless `path` leads to
 * another file by then. One that a dead process left behind is replaced.
 * WS_ESYSTEM with errno (EADDRINUSE, EACCES, ENOENT for a name that does not resolve; of `fd`:
 * ESOCKTNOSUPPORT for what is not a stream socket, EISCONN for a connection, EDESTADDRREQ for a
 * socket that is not bound ...), WS_EINVAL, WS_EABI, WS_ENOMEM, WS_ESTOPPED, WS_EFORKED. */
WS_API int ws_server_listen(ws_server *server, const ws_listen_options *options);

/* Stops listening at the place of the last ws_server_listen that succeeded and was not undone yet;
 * what was accepted there stays open. Returns false if the server listens nowhere. */
WS_API bool ws_server_unlisten(ws_server *server);

/* Runs turns until the server has shut down (returns WS_OK) or the interrupt descriptor became
 * readable (returns 1). WS_EBUSY from inside a callback, WS_ESYSTEM, WS_EFORKED. */
WS_API int ws_server_run(ws_server *server);

/* One turn: waits at most timeout_ms (-1: until something happens, 0: not at all), then handles
 * what is ready. Returns 1 while there is more to do, WS_OK when the server has shut down.
 * WS_EBUSY from inside a callback, WS_ESYSTEM. */
WS_API int ws_server_step(ws_server *server, int timeout_ms);

/* A descriptor that is readable whenever ws_server_step has something to do: for any other
 * event loop. Borrowed from the server: remove it from that loop before the server is freed. */
WS_API int ws_server_fd(const ws_server *server);

/* `fd` (kept, non-blocking) is watched in place of the one before; when it is readable it is
 * drained and ws_server_run returns 1 at the end of that turn. For signal wake-ups. -1 ends the
 * watch. End the watch before you close the descriptor. WS_ESYSTEM with errno: nothing is watched.
 * WS_EFORKED. */
WS_API int ws_server_set_interrupt_fd(ws_server *server, int fd);

/* Graceful shutdown: stops listening, sends a Close frame with `code` and `reason` (copied, cut to
 * 123 bytes on a character boundary) to every open connection (on_close runs with that code), 503
 * to half-open handshakes; what is not gone after timeout_ms is dropped. code: 1000-1003, 1007-1014
 * or 3000-4999; there is no form without a code. A second call may only shorten the time; its code
 * and reason have no effect, and one that is not shorter does nothing at all, so that it may follow
 * every turn. The alarm is called off when the shutdown is over. The server may listen and run
 * again once ws_server_run or ws_server_step returned WS_OK.
 * WS_EINVAL (code, or a reason that is not UTF-8), WS_EFORKED. Safe from inside any callback but
 * the allocator and the clock. */
WS_API int ws_server_shutdown(ws_server *server, int code, const char *reason, size_t length,
                              uint32_t timeout_ms);

/* Ends the wait of the loop (any thread, also a signal handler). */
WS_API void ws_server_wakeup(ws_server *server);

/* fn(argument) runs once in the server's thread, in the next turn, in the order of the calls of one
 * thread (any thread). Everything accepted runs before ws_server_run returns WS_OK. The server may
 * be freed only when no other thread is inside this call or ws_server_wakeup.
 * WS_ENOMEM, WS_ESTOPPED after the shutdown is over. */
WS_API int ws_server_defer(ws_server *server, void (*fn)(void *argument), void *argument);

/* The open connection of that id, or NULL once it is closing. */
WS_API ws_conn *ws_server_find(ws_server *server, ws_conn_id id);

/* fn(argument) runs once in the server's thread, in the first turn after delay_ns nanoseconds, or
 * not at all where a shutdown is over first. There is one alarm: setting it again replaces it; fn
 * NULL: none. */
WS_API void ws_server_set_alarm(ws_server *server, uint64_t delay_ns, void (*fn)(void *argument),
                                void *argument);

/* fn runs after each HTTP answer except 101, of the application or of the library itself; for logs.
 * length: bytes of the body. why (borrowed): NULL if the application has answered, else what was
 * wrong, "" if the status says it all. The getters of a request that could not be read return NULL.
 * fn NULL: nothing runs. */
WS_API void ws_server_set_on_response(ws_server *server,
                                      void (*fn)(ws_request *request, int status, size_t length,
                                                 const char *why, size_t why_length, void *user),
                                      void *user);

typedef struct ws_stats {
    size_t size;
    uint64_t accepted;    /* sockets since the start */
    uint64_t opened;      /* on_open since the start; equals closed + open at any time */
    uint64_t closed;      /* on_close since the start */
    uint64_t refused;     /* sockets refused: max_connections, no memory, or none for epoll */
    uint64_t turns;       /* turns of the loop */
    uint64_t blocked;     /* turns whose callbacks took longer than 1 s */
    size_t memory;        /* bytes that count towards max_memory now */
    size_t compression_memory; /* bytes of these held by zlib */
    uint32_t connections; /* sockets now, HTTP ones included */
    uint32_t open;        /* open WebSocket connections now */
} ws_stats;

/* Fills *stats; `size` is sizeof(ws_stats) of the caller. WS_EABI. */
WS_API int ws_server_stats(const ws_server *server, ws_stats *stats, size_t size);

/* ---- routes ------------------------------------------------------------------------------- */

/* ws_behavior.ping_interval and ping_timeout: to be derived from idle_timeout. */
#define WS_DERIVED UINT32_MAX

/* What one route does with its connections. Begin with ws_behavior_init. Every handler may be
 * NULL, and may call anything of this header on any connection, but for ws_server_run, _step and
 * _free. `user` is kept and handed to each. Data pointers are borrowed. */
typedef struct ws_behavior {
    size_t size;
    void *user;
    /* A valid opening handshake arrived (RFC 6455 section 4.2). Answer with ws_request_upgrade,
     * ws_request_respond or ws_request_defer; a handler that does none of them gives the client
     * 500. NULL: every handshake is accepted. */
    void (*on_upgrade)(ws_request *request, void *user);
    /* Once per connection, the 101 is queued, no message has been seen yet. */
    void (*on_open)(ws_conn *conn, void *user);
    /* A whole message, also of a peer that has reset the connection since: WS_TEXT (valid UTF-8) or
     * WS_BINARY; data is never NULL, and may be written to (the bytes lie in a buffer of the
     * library's). */
    void (*on_message)(ws_conn *conn, char *data, size_t length, int opcode, void *user);
    /* The queue is empty again after a WS_BACKPRESSURE, a WS_DROPPED or a flush that left bytes. */
    void (*on_drain)(ws_conn *conn, void *user);
    /* A message was WS_DROPPED because of max_backpressure. Not for what is sent or published
     * inside on_dropped: the result tells. */
    void (*on_dropped)(ws_conn *conn, const char *data, size_t length, int opcode, void *user);
    /* A Ping (already answered) or Pong arrived; at most 125 bytes. */
    void (*on_ping)(ws_conn *conn, const char *data, size_t length, void *user);
    void (*on_pong)(ws_conn *conn, const char *data, size_t length, void *user);
    /* The number of subscribers of a topic changed from `before` to `now`: conn subscribed,
     * unsubscribed, or is closing (then once for each of its topics, before on_close). */
    void (*on_subscription)(ws_conn *conn, const char *topic, size_t length, uint32_t now,
                            uint32_t before, void *user);
    /* Once per on_open, the last event but on_closed. code: RFC 6455 section 7.4, 1005 = the peer's
     * Close had none, 1006 = no Close frame came. reason: UTF-8, never NULL. conn is invalid
     * afterwards. */
    void (*on_close)(ws_conn *conn, int code, const char *reason, size_t length, void *user);
    /* Once, after on_close: the closing handshake is over. clean: the peer's Close frame came, with
     * this code (1005: none) and reason; else code is 0: TCP ended without one, or close_timeout
     * did. conn serves to be compared, for ws_conn_get_id, ws_conn_user and ws_conn_closed_by_peer,
     * no more. */
    void (*on_closed)(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                      void *user);
    size_t max_payload_length; /* bytes of the largest message, default 16384; larger: 1009 */
    size_t max_backpressure;   /* bytes, default 65536; 0 = no limit; see ws_conn_send */
    uint32_t close_timeout;    /* ms, longest wait for the peer's Close and EOF, default 5000 */
    uint32_t compression;      /* WS_..._COMPRESSOR | WS_..._DECOMPRESSOR, default 0 */
    uint32_t idle_timeout;     /* ms without a received byte until the connection is dropped (1006,
                                  "idle timeout"), default 120000; 0 = never */
    uint32_t ping_interval;    /* ms without a received byte until a Ping goes out, again after each
                                  further interval of silence; 0 = no Pings; WS_DERIVED (default):
                                  idle_timeout less a third of it, at most 16 s less */
    uint32_t ping_timeout;     /* ms of silence after a Ping until the connection is dropped (1006,
                                  "ping timeout"); 0, WS_DERIVED (default): idle_timeout decides */
    uint32_t max_lifetime;     /* ms from on_open until ws_conn_end(1000, "please reconnect");
                                  default 0 = no end */
    uint32_t max_topics;       /* subscriptions of one connection, default 1000 */
    uint32_t max_topic_length; /* bytes of a topic's name, default 1024 */
    bool close_on_backpressure_limit; /* close with 1008 instead of WS_DROPPED */
    bool reset_idle_timeout_on_send;  /* what the kernel took counts as a received byte */
    bool origin_optional;             /* with `origins`: a handshake without Origin is accepted */
    const char *const *subprotocols;  /* copied; NULL-terminated list of tokens, NULL = none */
    const char *const *origins;       /* copied; NULL-terminated list, NULL = any Origin */
} ws_behavior;

WS_API int ws_behavior_init(ws_behavior *behavior, size_t size);

/* Upgrade requests for `pattern` (copied) go to `behavior` (copied). A pattern is a path whose
 * segments are literal, ":name" (one non-empty segment; each name once) or, as the last one, "*"
 * (the rest, also empty); "*" alone is the same as "/" and "*". It has at most 16 such parameters,
 * and holds printable ASCII without space, "?" and "#". The most specific route wins (literal
 * before :name before *), whatever the order of registration. WS_EINVAL (pattern, token of
 * subprotocols, compression), WS_EEXIST, WS_ENOMEM, WS_EABI, WS_ENOTSUP (compression). */
WS_API int ws_server_ws(ws_server *server, const char *pattern, const ws_behavior *behavior);

/* Other requests with this method (copied, case-sensitive; "*": any that has no handler of its own)
 * go to handler(request, user). A GET route answers HEAD, too. WS_EINVAL (pattern, a method that is
 * no token, no handler), WS_EEXIST, WS_ENOMEM. */
WS_API int ws_server_http(ws_server *server, const char *method, const char *pattern,
                          void (*handler)(ws_request *request, void *user), void *user);

/* ---- requests ----------------------------------------------------------------------------- */

/* A ws_request is valid until the handler that received it returns, or, after ws_request_defer,
 * until it is answered or on_aborted ran. What the getters return is borrowed for as long, is not
 * NUL-terminated, and is NULL with *length 0 where there is nothing. */

WS_API const char *ws_request_method(const ws_request *request, size_t *length);
/* The target as sent, its path, and the query behind "?" (RFC 9112 section 3.2). */
WS_API const char *ws_request_target(const ws_request *request, size_t *length);
WS_API const char *ws_request_path(const ws_request *request, size_t *length);
WS_API const char *ws_request_query(const ws_request *request, size_t *length);
/* The first header field called `name` (any case). */
WS_API const char *ws_request_header(const ws_request *request, const char *name, size_t *length);
/* Header field number i from 0, in the order received; false past the last. */
WS_API bool ws_request_header_at(const ws_request *request, size_t i, const char **name,
                                 size_t *name_length, const char **value, size_t *value_length);
/* Segment that matched the i-th ":name" or "*" of the pattern, as sent (percent-encoded). */
WS_API const char *ws_request_parameter(const ws_request *request, size_t i, size_t *length);
/* The pattern of the route ("/chat/:room"); NUL-terminated. */
WS_API const char *ws_request_pattern(const ws_request *request);
/* True for an opening handshake, false for plain HTTP. */
WS_API bool ws_request_is_upgrade(const ws_request *request);
/* The subprotocol that ws_request_upgrade(request, NULL, 0, ...) would select; inside on_open the
 * one that the call of ws_request_upgrade under way has selected. */
WS_API const char *ws_request_subprotocol(const ws_request *request, size_t *length);
/* As ws_conn_remote_address and ws_conn_remote_port. */
WS_API size_t ws_request_remote_address(const ws_request *request, char *text, size_t size);
WS_API uint16_t ws_request_remote_port(const ws_request *request);

/* Adds a header field (copied) to the answer, also to a 101. WS_EINVAL: the name is not a token,
 * the value holds CR, LF or NUL, or the field is one that the library writes (Date, Content-Length,
 * Connection, Upgrade, Transfer-Encoding, Sec-WebSocket-*). WS_ECLOSED, WS_ENOMEM. */
WS_API int ws_request_add_header(ws_request *request, const char *name, size_t name_length,
                                 const char *value, size_t value_length);

/* Answers with a complete response; `reason` NULL: the standard phrase, else cut to 200 bytes;
 * `body` is copied, and left out where the status has none (204, 304) or the method was HEAD.
 * A refused opening handshake closes the connection afterwards. status: 200 to 599.
 * WS_EINVAL (status; CR, LF or NUL in the reason), WS_ECLOSED (already answered, or the peer is
 * gone), WS_ENOMEM (the connection was dropped). */
WS_API int ws_request_respond(ws_request *request, int status, const char *reason,
                              const char *body, size_t length);

/* The 101 to come will accept no extension, whatever the client offers. */
WS_API void ws_request_decline_extensions(ws_request *request);

/* Accepts the opening handshake with 101: on_open runs before this returns. `protocol` (borrowed)
 * NULL: the first of the client's list that the route speaks; length 0: none; else it must be one
 * that the client offered. conn_user: see ws_conn_user. WS_EINVAL (not offered; not an upgrade),
 * WS_ECLOSED (already answered; or the server is shutting down, and the client got 503), WS_ENOMEM
 * (the connection was dropped). */
WS_API int ws_request_upgrade(ws_request *request, const char *protocol, size_t length,
                              void *conn_user);

/* The answer comes after the handler has returned: within upgrade_timeout, else the client gets
 * 503. Until then the request stays valid. on_aborted(request, user) runs if the peer leaves, the
 * time is over or the server shuts down first; NULL: nothing runs. WS_ECLOSED, WS_ENOMEM. */
WS_API int ws_request_defer(ws_request *request,
                            void (*on_aborted)(ws_request *request, void *user), void *user);

/* Drops the connection without an answer. WS_ECLOSED. */
WS_API int ws_request_abort(ws_request *request);

/* ---- connections -------------------------------------------------------------------------- */

/* A ws_conn is valid from on_open until its on_close has returned. */

WS_API ws_conn_id ws_conn_get_id(const ws_conn *conn);
WS_API ws_server *ws_conn_server(const ws_conn *conn);

/* The pointer given to ws_request_upgrade, or set later (kept, never followed). */
WS_API void *ws_conn_user(const ws_conn *conn);
WS_API void ws_conn_set_user(ws_conn *conn, void *user);

/* The request of the opening handshake while on_open runs, else NULL. */
WS_API ws_request *ws_conn_request(const ws_conn *conn);

/* Sends one message (copied unless the kernel takes it at once). opcode: WS_TEXT (the caller
 * answers for valid UTF-8, see ws_utf8_valid) or WS_BINARY, also with WS_COMPRESS; or WS_PING and
 * WS_PONG with at most 125 bytes. Returns WS_SUCCESS, WS_BACKPRESSURE or WS_DROPPED: a data message
 * that would take what the kernel left above max_backpressure is dropped whole and on_dropped runs.
 * Control frames have a reserve of 4 KiB above the limit. Between fragments (below) a message is
 * held back until the last one. Where memory fails while a message is compressed, the connection is
 * ended with 1011 and the result is WS_DROPPED.
 * After on_close has begun, and once the peer is gone: WS_DROPPED. WS_EINVAL (opcode, control frame
 * too long), WS_ENOMEM (nothing was queued). */
WS_API int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode);

/* Sends one message in pieces (RFC 6455 section 5.4): opcode WS_TEXT or WS_BINARY (with
 * WS_COMPRESS: one compressed stream over all pieces) for the first one, WS_CONTINUATION for the
 * others; `fin` with the last. The limit is judged at the first piece; where a later one exceeds it
 * the connection is closed with 1008.
 * Results as ws_conn_send; WS_EORDER. */
WS_API int ws_conn_send_fragment(ws_conn *conn, const void *data, size_t length, int opcode,
                                 bool fin);

/* Until ws_conn_uncork (calls nest), sends are gathered and leave in one write, or one for each
 * 64 KiB (half of max_backpressure where that is less). Handlers run corked already. Every cork is
 * to be uncorked, also when the connection was closed in between: for that one call, in the same
 * callback, conn stays valid. */
WS_API void ws_conn_cork(ws_conn *conn);
WS_API void ws_conn_uncork(ws_conn *conn);

/* Graceful: a Close frame behind all queued data; on_close runs before this returns; waits for
 * the peer's Close up to close_timeout (RFC 6455 section 7.1.2). code: 1000-1003, 1007-1014,
 * 3000-4999, or 0 or 1005 for a Close without a code (on_close then sees 1005). `reason`: UTF-8,
 * copied, cut to 123 bytes on a character boundary. Nothing happens on a closed connection.
 * WS_EINVAL (code, reason without code, invalid UTF-8). */
WS_API int ws_conn_end(ws_conn *conn, int code, const char *reason, size_t length);

/* Hard: TCP is dropped, on_close runs with 1006 before this returns: an on_close that closes the
 * next connection nests, as deeply as there are connections. */
WS_API void ws_conn_close(ws_conn *conn);

/* In on_close and on_closed: the peer's Close, or the loss of the connection, came first; false:
 * the end was begun here (ws_conn_end, ws_conn_close, a timeout, a rule that the peer broke). */
WS_API bool ws_conn_closed_by_peer(const ws_conn *conn);

/* Reading stops until ws_conn_resume: no further message, Ping, Pong or Close is handled, what the
 * peer sends waits in the kernel and slows it down, and idle_timeout stands still. A connection
 * that is ended reads on. Where the peer resets the connection meanwhile, what it had sent before
 * still waits for ws_conn_resume, and on_close comes after it; from then on idle_timeout counts,
 * anew with each ws_conn_resume. */
WS_API void ws_conn_pause(ws_conn *conn);
WS_API void ws_conn_resume(ws_conn *conn);

/* Round trip in microseconds of the last Ping that was answered by a Pong with its payload; 0: none
 * yet. As exact as turns of the loop are short. */
WS_API uint32_t ws_conn_latency(const ws_conn *conn);

/* Bytes that wait here because the kernel has refused some; 0 while it takes all. A message held
 * back between fragments counts, too. What is corked, or published in this turn, does not: it has
 * not been offered yet. So a handler may send while this is below a bound, and go on in on_drain,
 * which follows. Nothing is dropped by that where neither the bound nor any message with its header
 * is above half of max_backpressure. Once the peer is gone all that is sent counts as refused,
 * though nothing of it is kept. */
WS_API size_t ws_conn_buffered_amount(const ws_conn *conn);

/* What was negotiated, as it stands in Sec-WebSocket-Extensions ("permessage-deflate; ..."), into
 * text[size], NUL-terminated; 128 bytes always suffice; "" without compression. Returns its
 * length. */
WS_API size_t ws_conn_compression(const ws_conn *conn, char *text, size_t size);

/* The peer's address as text ("127.0.0.1", "2001:db8::1", "" for a Unix socket) into
 * text[size], NUL-terminated; 46 bytes always suffice. Returns its length. IPv4 on a dual-stack
 * listener is shown as IPv4. */
WS_API size_t ws_conn_remote_address(const ws_conn *conn, char *text, size_t size);
/* The same as 4 or 16 bytes in network order; returns 4, 16 or 0. */
WS_API size_t ws_conn_remote_address_bytes(const ws_conn *conn, uint8_t bytes[16]);
WS_API uint16_t ws_conn_remote_port(const ws_conn *conn);

/* ---- topics ------------------------------------------------------------------------------- */

/* A topic is any string of bytes (no NUL needed, "" is one too); it exists while it has
 * subscribers. Topics belong to a server: publishing reaches the subscribers of all its routes. Any
 * handler may subscribe, unsubscribe, publish, send to, end and close any connection, also while a
 * publish is under way: whoever was subscribed when it began gets the message. */

/* on_subscription runs before these two return. 1: the subscription was made, or ended; 0: it was
 * there, or missing, already. WS_ECLOSED, WS_ELIMIT (max_topics; the first time is logged),
 * WS_EINVAL (longer than max_topic_length), WS_ENOMEM. */
WS_API int ws_conn_subscribe(ws_conn *conn, const char *topic, size_t length);
WS_API int ws_conn_unsubscribe(ws_conn *conn, const char *topic, size_t length);

WS_API bool ws_conn_is_subscribed(const ws_conn *conn, const char *topic, size_t length);

/* Topic number i from 0, in no particular order; borrowed until the next change of a subscription;
 * NULL past the last. */
WS_API const char *ws_conn_topic_at(const ws_conn *conn, size_t i, size_t *length);

WS_API uint32_t ws_server_subscribers(const ws_server *server, const char *topic, size_t length);

/* Sends one message (copied) to every subscriber of the topic, each bounded by its own
 * max_backpressure as ws_conn_send says: a slow one drops it (on_dropped runs before this returns),
 * the others get it. What is published in a turn leaves at its end, in one write for each
 * subscriber, in order with what is sent to it. opcode: WS_TEXT or WS_BINARY, also with
 * WS_COMPRESS: compressed once for all whose compressor is shared and has the same window.
 * Where memory fails for a subscriber, that one is ended with 1011.
 * 1: at least one subscriber got or queued it; 0: none. WS_EINVAL (opcode). */
WS_API int ws_server_publish(ws_server *server, const char *topic, size_t topic_length,
                             const void *data, size_t length, int opcode);
/* The same, `conn` itself left out with exclude_self. 0 once conn is closing. */
WS_API int ws_conn_publish(ws_conn *conn, const char *topic, size_t topic_length, const void *data,
                           size_t length, int opcode, bool exclude_self);

#ifdef __cplusplus
}
#endif
#endif
