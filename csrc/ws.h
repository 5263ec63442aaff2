/* SPDX-License-Identifier: MIT */
/*
 * ws.h: the public interface of pyws, a WebSocket server for Linux (RFC 6455, RFC 9112), with
 * ws_http.h, which it includes.
 *
 * A server owns one event loop (epoll) and belongs to one thread: the one that calls ws_server_run
 * or ws_server_step. All functions must be called from that thread, unless their comment says "Any
 * thread". Two servers in two threads share nothing.
 *
 * The library never exits the process, never prints, never raises or handles a signal (it sends
 * with MSG_NOSIGNAL, so there is no SIGPIPE), and keeps no global state.
 *
 * Three words describe ownership: a *borrowed* pointer is valid until the callback that received it
 * returns; a *copied* argument may be freed as soon as the call returns; a *kept* pointer must stay
 * valid for as long as its comment says. The library never frees a pointer of the caller.
 *
 * Errors are negative ws_error values. The comment of each function lists those that it returns.
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

/* Raised whenever a struct or a prototype of this file, ws_http.h, ws_cluster.h or ws_tls.h changes
 * incompatibly. */
#define WS_ABI 11

/* ---- errors ------------------------------------------------------------------------------- */

/* X(name, value, text) for each error: the enum, ws_strerror and the bindings are made of them. */
#define WS_ERROR_MAP(X)                                                                            \
    X(ENOMEM, -1, "out of memory, or above max_memory")                                            \
    X(EINVAL, -2, "invalid argument")                                                              \
    X(EBUSY, -3, "the server is running a turn or a callback")                                     \
    X(ECLOSED, -4, "the connection is closed, or the request is already answered")                 \
    X(EORDER, -5, "fragments sent in the wrong order")                                             \
    X(EEXIST, -6, "a route with this pattern is already registered")                               \
    X(EABI, -7, "the struct size does not match this library")                                     \
    X(ESTOPPED, -8, "the server is shutting down and no longer accepts this call")                 \
    X(ESYSTEM, -9, "a system call failed, see errno")                                              \
    X(ENOTSUP, -10, "not supported: built without it, or the TLS library is too old")              \
    X(ELIMIT, -11, "the limit is reached: max_topics, or max_connections")                         \
    X(EFORKED, -12, "the server belongs to the process that made it, not to a forked child")

typedef enum ws_error {
    WS_OK = 0,
#define WS_ERROR_ENUM(name, value, text) WS_##name = value,
    WS_ERROR_MAP(WS_ERROR_ENUM)
#undef WS_ERROR_ENUM
} ws_error;

/* Returns a static English text, "unknown error" if `error` is not a ws_error. Any thread. */
WS_API const char *ws_strerror(int error);

/* ---- library ------------------------------------------------------------------------------ */

/* Returns the WS_ABI of the loaded library. Any thread. */
WS_API int ws_abi(void);

/* Returns the WS_VERSION of the loaded library, a static string. Any thread. */
WS_API const char *ws_version(void);

/* Returns the size in bytes of the struct called `name` in the loaded library: any struct of this
 * file or of ws_cluster.h that has a size. Returns 0 for any other name. Any thread. */
WS_API size_t ws_struct_size(const char *name);

/* Returns true if the `length` bytes at `data` are valid UTF-8 (RFC 3629). Any thread. */
WS_API bool ws_utf8_valid(const void *data, size_t length);

/* Returns true if the library was built with permessage-deflate (RFC 7692). Any thread. */
WS_API bool ws_compression_available(void);

typedef struct ws_server ws_server;
typedef struct ws_conn ws_conn;
typedef struct ws_request ws_request;
typedef struct ws_tls ws_tls; /* ws_tls.h */

/* Identifies one connection and is never reused: 24 bits of slot, 40 bits of generation. No
 * connection has the id 0. For anything that outlives a callback, keep the id and look the
 * connection up with ws_server_find. */
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

/* A flag to be or-ed with WS_TEXT or WS_BINARY: the message is sent compressed if compression was
 * negotiated and makes the message smaller. */
enum { WS_COMPRESS = 0x100 };

/* Values of ws_behavior.compression: 0, or one compressor or-ed with one decompressor. If only one
 * of the two is given, the other is shared.
 * Shared: each message is compressed on its own, by the server's one such compressor, of 256 KB
 * unless the name says less. It is made anew where a message needs another size: that of another
 * route, or, if it exceeds the window that its client has asked for, that window.
 * Dedicated: the connection keeps its window between messages. The name gives the size of the
 * window and the hash tables. The comment gives the bytes that a connection really uses from its
 * first compressed message on, including zlib's own state, measured with zlib 1.2.13 on a 64-bit
 * machine. (A shared compressor uses 268,320 while a message is sent compressed in fragments.) */
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
    WS_SHARED_COMPRESSOR_4KB = 4242, WS_SHARED_COMPRESSOR_8KB = 4259,
    WS_SHARED_COMPRESSOR_16KB = 4276, WS_SHARED_COMPRESSOR_32KB = 4293,
    WS_SHARED_COMPRESSOR_64KB = 4310, WS_SHARED_COMPRESSOR_128KB = 4327,
    WS_SHARED_DECOMPRESSOR = 256,
    WS_DEDICATED_DECOMPRESSOR_512B = 2304,    /* 7,848 */
    WS_DEDICATED_DECOMPRESSOR_1KB = 2560,     /* 8,360 */
    WS_DEDICATED_DECOMPRESSOR_2KB = 2816,     /* 9,384 */
    WS_DEDICATED_DECOMPRESSOR_4KB = 3072,     /* 11,432 */
    WS_DEDICATED_DECOMPRESSOR_8KB = 3328,     /* 15,528 */
    WS_DEDICATED_DECOMPRESSOR_16KB = 3584,    /* 23,720 */
    WS_DEDICATED_DECOMPRESSOR_32KB = 3840     /* 40,104 */
};

/* Results of ws_conn_send and ws_conn_send_fragment that are not errors. */
enum {
    WS_BACKPRESSURE = 0, /* queued, because the kernel's buffer is full; on_drain follows */
    WS_SUCCESS = 1,      /* passed to the kernel, or corked and flushed when the handler returns */
    WS_DROPPED = 2       /* discarded: the queue is at its limit, or the peer is gone */
};

/* Levels of ws_config.log; the same numbers as in Python's logging module. */
enum { WS_LOG_DEBUG = 10, WS_LOG_INFO = 20, WS_LOG_WARNING = 30, WS_LOG_ERROR = 40 };

/* ---- server ------------------------------------------------------------------------------- */

/* An allocator is one function. It frees `ptr` and returns NULL if `size` is 0, allocates if `ptr`
 * is NULL, and otherwise resizes the block, whose size is `old_size`. It returns NULL if out of
 * memory; the old block then stays valid. ws_server_defer calls it in the calling thread. */
typedef struct ws_allocator {
    void *(*resize)(void *context, void *ptr, size_t old_size, size_t size);
    void *context;
} ws_allocator;

/* The settings of a server. Begin with ws_config_init, then change what you need. All functions
 * here, including the allocator, are callbacks: inside them ws_server_run, ws_server_step and
 * ws_server_free return WS_EBUSY. The allocator and the clock run in the middle of other calls, so
 * the only function of this header that they may call is ws_server_wakeup. (During ws_server_defer,
 * which may run in any thread, only ws_server_free returns WS_EBUSY to the allocator.) */
typedef struct ws_config {
    size_t size;            /* sizeof(ws_config), set by ws_config_init */
    ws_allocator allocator; /* if its `resize` is NULL: realloc and free of the C library */
    void *user;             /* kept; passed to the six functions below */
    /* Returns the nanoseconds of a clock that never steps back. NULL: CLOCK_MONOTONIC. The clock is
     * read a few times per turn, around each compressed message and for every 4 KiB of it, after
     * every 16 messages that a connection handles in one turn and every long one that arrived
     * compressed, and by calls that start a timer, set the alarm or shorten a shutdown. With a
     * clock that stands still during a turn, only the numbers of messages and bytes limit what is
     * done in that turn. */
    uint64_t (*clock)(void *user);
    /* Returns the seconds since 1970 for the Date of a response (RFC 9110 6.6.1), or 0 while
     * they are not known: then it has none. Default: time(). NULL: there is never a Date. */
    uint64_t (*wall_clock)(void *user);
    /* Fills bytes[length] with what no peer can guess, once, against floods of hash tables. NULL:
     * getrandom(2) or /dev/urandom. */
    void (*random)(void *user, void *bytes, size_t length);
    /* Receives one line (borrowed, printable ASCII, at most 200 bytes, no newline) and its level
     * WS_LOG_*. NULL: nothing is logged. */
    void (*log)(void *user, int level, const char *line, size_t length);
    /* Runs before each wait of the loop, even if the wait does not block. May be NULL. */
    void (*before_wait)(void *user);
    /* Runs after each wait of the loop. May be NULL. */
    void (*after_wait)(void *user);
    /* The bytes that the server may hold for its connections, its routes and its receive buffer;
     * default 0 = no limit. An allocation beyond it fails as if memory had run out. */
    size_t max_memory;
    /* Bytes of a response in parts that may wait for a slow client, default 1048576; 0 = no limit;
     * see ws_request_write. */
    size_t max_response_backpressure;
    uint32_t max_connections;    /* sockets at a time, default 1,000,000; 1 to 16,000,000 */
    uint32_t max_header_size;    /* bytes of a request head, default 16384; 1024 to 1048576; the
                                    request line may take half of it */
    uint32_t max_headers;        /* fields of a request head, default 100; 1 to 10000 */
    uint32_t recv_buffer_size;   /* bytes of the one buffer for reading, of which a connection keeps
                                    what must wait; default 262144; 4096 to 16777216 */
    uint32_t cork_size;          /* bytes of the one block that gathers what handlers send (four for
                                    what is published), default 65536; 1024 to 16777216. What does
                                    not fit leaves at once, and is queued if the kernel is full */
    uint32_t handshake_timeout;  /* ms from accept to a complete request head, default 10000 */
    uint32_t keep_alive_timeout; /* ms until an idle HTTP connection is closed, default 10000 */
    uint32_t body_timeout;       /* ms for the body of a request, which start again with each 16 KiB
                                    that arrive, default 30000; see ws_request_read_body */
    uint32_t upgrade_timeout;    /* ms for a deferred answer (ws_request_defer), default 30000 */
    /* Limits for each address, default 0 = none. All of an IPv6 /64 is one address. Unix sockets
     * and trusted proxies have no limits; a client of such a proxy that sends Forwarded or
     * X-Forwarded-For counts by its own address, from its opening handshake on. Clients beyond a
     * limit are answered 503 or 429, or cut if there are many, before any handler runs. */
    uint32_t max_connections_per_address;           /* sockets at a time */
    uint32_t max_handshakes_per_second_per_address; /* opening handshakes, and as many at once; at
                                                       most 1000000 */
    /* Whose Forwarded, X-Forwarded-For and X-Forwarded-Proto fields are believed: a NULL-terminated
     * list (copied) of addresses ("10.0.0.5", "::1"), networks ("10.0.0.0/8") and "unix", which
     * means the peers of Unix sockets. NULL: no one's. Their client is the rightmost address of
     * Forwarded, or without it of X-Forwarded-For, that is not in this list. If both fields are
     * there and name different clients, neither is believed. */
    const char *const *trusted_proxies;
    bool log_refusals; /* a WS_LOG_DEBUG line for each handshake that is not accepted, and each
                          request and socket that the library refuses; default false */
} ws_config;

/* Fills *config with the defaults. `size` is sizeof(ws_config) of the caller. Returns WS_OK, or
 * WS_EABI if the library was built with another size. Any thread. */
WS_API int ws_config_init(ws_config *config, size_t size);

/* Creates a server, which the caller frees with ws_server_free. `config` is copied; NULL means all
 * defaults. Returns WS_OK, or sets *server to NULL and returns WS_ENOMEM, WS_EINVAL (a value is out
 * of range, or no address), WS_ENOTSUP, WS_EABI or WS_ESYSTEM (with errno). Any thread. */
WS_API int ws_server_new(ws_server **server, const ws_config *config);

/* Drops every connection (on_close runs with code 1006, then on_closed; on_aborted runs for a
 * deferred request), runs what was deferred, and frees the server. `server` may be NULL. Returns
 * WS_OK, or frees nothing and returns WS_EBUSY inside a callback of this server, or while another
 * thread is inside ws_server_defer.
 *
 * A server belongs to the process that created it. A forked child shares its descriptors and may
 * call no other function than this one, which then only releases the child's memory and
 * descriptors: no handler runs, and neither the parent nor a peer is affected. In the child,
 * ws_server_run, ws_server_listen, ws_server_adopt, ws_server_shutdown, ws_server_watch and
 * ws_server_set_interrupt_fd return WS_EFORKED; other calls are not checked. A child that was
 * forked during a turn gets WS_EBUSY: it must not return from the callback, but end with exec or
 * _exit. */
WS_API int ws_server_free(ws_server *server);

/* Where to listen. Begin with ws_listen_options_init. */
typedef struct ws_listen_options {
    size_t size;
    const char *host; /* copied; an IPv4 or IPv6 address, or a name, of which all addresses are
                         listened on; NULL: all interfaces */
    const char *path; /* copied; the path of a Unix socket; NULL: TCP */
    uint32_t mode;    /* permission bits of `path`, default 0660 */
    uint16_t port;    /* 0: the kernel picks one, see ws_server_listen */
    bool reuse_port;  /* the port is shared with other processes (SO_REUSEPORT) */
    bool proxy_protocol; /* each connection begins with a PROXY header (version 1 or 2), which must
                            be complete within handshake_timeout and names the client. Others are
                            dropped, and so are peers that are not in trusted_proxies, if there are
                            any; otherwise make sure that only the proxy can connect */
    int backlog;      /* default 1024 */
    int fd;           /* a stream socket that is bound or already listens, instead of an address; it
                         belongs to the server once the call succeeds, and becomes non-blocking for
                         all processes that share it; -1 (default): not used */
    const ws_tls *tls; /* kept until the server is freed; the functions of a TLS library, see
                          ws_tls.h; NULL: no TLS */
    const char *device; /* copied; with a TCP address: only connections that come through this
                           network interface are accepted (SO_BINDTODEVICE, which before Linux 5.7
                           needs CAP_NET_RAW); NULL: through any */
} ws_listen_options;

/* Fills *options with the defaults. `size` is sizeof(ws_listen_options) of the caller. Returns
 * WS_OK or WS_EABI. Any thread. */
WS_API int ws_listen_options_init(ws_listen_options *options, size_t size);

/* Starts to listen; connections are accepted during the turns of the loop. Returns the port (0 for
 * a Unix socket) or an error. The port is not shared unless reuse_port is set. A server may listen
 * on any number of addresses.
 * The C library resolves a name, which may block. A name may have at most 32 addresses (else
 * E2BIG), which all get the same port. An address that this machine does not have (::1 without
 * IPv6) is skipped with a warning in the log, as long as another one remains. Any other failure on
 * one address is a failure of the call, after which nothing stays open.
 * The file of a Unix socket is removed when the server stops listening, unless `path` leads to
 * another file by then. A file that a dead process left is replaced.
 * Errors: WS_ESYSTEM with errno (EADDRINUSE, EACCES, ENOENT for a name that does not resolve; for
 * `fd` ESOCKTNOSUPPORT if it is not a stream socket, EISCONN if it is connected, EDESTADDRREQ if it
 * is not bound ...), WS_EINVAL, WS_ENOTSUP, WS_EABI, WS_ENOMEM, WS_ESTOPPED, WS_EFORKED. */
WS_API int ws_server_listen(ws_server *server, const ws_listen_options *options);

/* Undoes the last successful ws_server_listen that was not undone yet. Connections that were
 * accepted stay open. Returns false if the server is not listening. */
WS_API bool ws_server_unlisten(ws_server *server);

/* Takes over a connection that the application has accepted itself, or got from another process,
 * with the `length` bytes (copied) that it has read of it: a part of the first request, all of it,
 * or also what follows. Any number is possible. `fd` is a connected stream socket, TCP or Unix,
 * that speaks HTTP without TLS. From now on the server does what it does with a connection that it
 * accepts: handshake_timeout begins, limits and trusted_proxies are those for the address of the
 * peer, and above max_connections the client gets a 503. Handlers run in the next turn.
 * If this returns WS_OK, `fd` belongs to the server. Otherwise it is still the caller's, although
 * it may be non-blocking and close-on-exec by then. May be called inside any callback except the
 * allocator and the clock. Errors: WS_ELIMIT (many above max_connections are being answered),
 * WS_ENOMEM, WS_EFORKED, WS_ESTOPPED (a drain or a shutdown has begun, and no ws_server_listen has
 * followed), WS_ESYSTEM with errno: EBADF, ENOTSOCK, ESOCKTNOSUPPORT (it is no stream socket),
 * ENOTCONN, EEXIST (the server watches it already) ... */
WS_API int ws_server_adopt(ws_server *server, int fd, const void *bytes, size_t length);

/* Runs turns until the server has shut down, which returns WS_OK, or until the interrupt descriptor
 * becomes readable, which returns 1. Errors: WS_EBUSY inside a callback, WS_ESYSTEM with errno,
 * WS_EFORKED. */
WS_API int ws_server_run(ws_server *server);

/* Runs one turn: waits at most timeout_ms (-1: until something happens, 0: not at all), then
 * handles what is ready. Returns 1 while the server runs and WS_OK once it has shut down. Errors:
 * WS_EBUSY inside a callback, WS_ESYSTEM with errno. */
WS_API int ws_server_step(ws_server *server, int timeout_ms);

/* Returns a descriptor that is readable whenever ws_server_step has something to do, for use with
 * another event loop. It belongs to the server: remove it from that loop before you free the
 * server. */
WS_API int ws_server_fd(const ws_server *server);

/* Watches `fd` (kept, non-blocking) in place of the previous one. When it is readable, it is
 * drained, and ws_server_run returns 1 at the end of that turn. This is meant for the wake-up
 * descriptor of signals. -1 ends the watch; end it before you close the descriptor. Returns WS_OK,
 * or WS_ESYSTEM with errno or WS_EFORKED; then nothing is watched. */
WS_API int ws_server_set_interrupt_fd(ws_server *server, int fd);

enum { WS_READABLE = 1, WS_WRITABLE = 2 }; /* for ws_server_watch */

/* Watches a descriptor of the application: fn(fd, ready, user) runs in each turn in which `fd` is
 * ready for one of `events` (WS_READABLE, WS_WRITABLE or both). A hang-up or an error counts as all
 * of them. A second call for `fd` changes the watch; `events` 0 ends it, if there is one. `fd` is
 * still the caller's, and non-blocking best. End the watch before you close it. `user` is kept.
 * fn may do what handlers may (see ws_behavior), and change any watch. After its end a watch does
 * not run, even if `fd` was ready. A shutdown does not end watches; ws_server_free does. Returns
 * WS_OK, WS_EINVAL, WS_ENOMEM, WS_EFORKED, or WS_ESYSTEM with errno: EBADF (not open), EPERM (a
 * file, which is always ready), EEXIST (the server itself watches `fd`) ... */
WS_API int ws_server_watch(ws_server *server, int fd, unsigned events,
                           void (*fn)(int fd, unsigned ready, void *user), void *user);

/* Begins a graceful shutdown: stops listening, sends a Close frame with `code` and `reason`
 * (copied, cut to 123 bytes at a character boundary) to every open connection, whose on_close runs
 * with that code, and answers unfinished requests with 503. Connections that are left after
 * timeout_ms are dropped. `code` is 1000-1003, 1007-1014 or 3000-4999; it cannot be left out.
 * A second call can only shorten the time; its code and reason have no effect. If it does not
 * shorten the time, it does nothing, so it may be repeated in every turn. The end of the shutdown
 * cancels the alarm. The server may listen and run again once ws_server_run or ws_server_step has
 * returned WS_OK.
 * Returns WS_OK, WS_EINVAL (invalid code, or a reason that is not UTF-8) or WS_EFORKED. May be
 * called inside any callback except the allocator and the clock. */
WS_API int ws_server_shutdown(ws_server *server, int code, const char *reason, size_t length,
                              uint32_t timeout_ms);

/* Begins a shutdown in which the clients may finish: stops listening and answers new opening
 * handshakes with 503, but leaves the open connections alone. An HTTP connection ends after the
 * response to its current request, or at once if it has none. The server has shut down once no
 * connection is left. Usually ws_server_shutdown follows after some time, which ends those that
 * remain. Does nothing during a shutdown. Returns WS_OK or WS_EFORKED. May be called inside any
 * callback except the allocator and the clock. */
WS_API int ws_server_drain(ws_server *server);

/* Ends the current or the next wait of the loop. Any thread, and any signal handler. */
WS_API void ws_server_wakeup(ws_server *server);

/* Makes fn(argument) run once in the server's thread, in the next turn. The calls of one thread run
 * in order. Every accepted call runs before ws_server_run returns WS_OK. The server must not be
 * freed while another thread is inside this function or ws_server_wakeup. Returns WS_OK, WS_ENOMEM,
 * or WS_ESTOPPED once the shutdown is over. Any thread. */
WS_API int ws_server_defer(ws_server *server, void (*fn)(void *argument), void *argument);

/* Returns the open connection with this id, or NULL if it is closing or closed. */
WS_API ws_conn *ws_server_find(ws_server *server, ws_conn_id id);

/* Sets the alarm: fn(argument) runs once, in the first turn after delay_ns nanoseconds. The end of
 * a shutdown cancels it. A server has one alarm: setting it again replaces it, NULL cancels it. */
WS_API void ws_server_set_alarm(ws_server *server, uint64_t delay_ns, void (*fn)(void *argument),
                                void *argument);

/* Sets a function that runs after each HTTP response except 101, whether it was the application's
 * or the library's own; for logs. `length` is the size of the body. A response in parts is reported
 * at its end, also if the client left before, with what was written of it. `why` (borrowed) is NULL
 * if the application responded, and otherwise the reason, "" if the status says enough. The getters
 * of a request that could not be parsed return NULL. `user` is kept. `fn` NULL ends this. */
WS_API void ws_server_set_on_response(ws_server *server,
                                      void (*fn)(ws_request *request, int status, size_t length,
                                                 const char *why, size_t why_length, void *user),
                                      void *user);

/* Sets a function that responds to requests that no route of ws_server_http takes, in place of the
 * library: fn(request, status, user), with the status of the library's response: 404 for an unknown
 * path, 405 for a method that its path does not have (the response has its Allow field already).
 * `fn` is like a handler of such a route, with the pattern "". `user` is kept. NULL ends this. */
WS_API void ws_server_set_fallback(ws_server *server,
                                   void (*fn)(ws_request *request, int status, void *user),
                                   void *user);

/* What a server has done since it was created, and what it holds now. */
typedef struct ws_stats {
    size_t size;
    uint64_t accepted;         /* sockets accepted, or adopted */
    uint64_t opened;           /* calls of on_open; always equal to closed + open */
    uint64_t closed;           /* calls of on_close */
    uint64_t refused;          /* sockets refused: max_connections, no memory for them, or no proxy
                                  that may send a PROXY header */
    uint64_t limited;          /* sockets and opening handshakes that the limits of their address
                                  have refused */
    uint64_t turns;            /* turns of the loop */
    uint64_t blocked;          /* turns whose callbacks took longer than 1 s */
    uint64_t messages_in;      /* messages that were passed to on_message, or would have been */
    uint64_t messages_out;     /* messages that were queued or passed to the kernel; a published one
                                  counts once for each subscriber that gets it */
    uint64_t bytes_in;         /* read from sockets, HTTP and the headers of frames included, after
                                  decryption */
    uint64_t bytes_out;        /* written to sockets, before encryption */
    uint64_t dropped;          /* messages that max_backpressure made WS_DROPPED */
    uint64_t backpressure;     /* times that the kernel's buffer of a socket was full */
    uint64_t closed_with[18];  /* `closed` by the code of on_close: 1000 to 1015, then 3000 to 3999
                                  together, then 4000 to 4999 together */
    /* Opening handshakes that were not accepted, and requests that the library itself refused, by
     * HTTP status. A status is listed once it has occurred. The last count, with status 0, is of
     * all statuses that had no place in the list. */
    uint16_t refused_status[24];
    uint64_t refused_with[24];
    size_t memory;             /* bytes held that count towards max_memory */
    size_t compression_memory; /* those of them that zlib holds */
    uint32_t connections;      /* sockets now, including HTTP */
    uint32_t open;             /* open WebSocket connections now */
    size_t topics;             /* topics that have subscribers now */
} ws_stats;

/* Fills *stats. `size` is sizeof(ws_stats) of the caller. Returns WS_OK or WS_EABI. */
WS_API int ws_server_stats(const ws_server *server, ws_stats *stats, size_t size);

/* ---- routes ------------------------------------------------------------------------------- */

/* A value of ws_behavior.ping_interval and ping_timeout: derived from idle_timeout. */
#define WS_DERIVED UINT32_MAX

/* What one route does with its connections. Begin with ws_behavior_init. Any handler may be NULL.
 * A handler may call every function of this header on any connection, except ws_server_run,
 * ws_server_step and ws_server_free. `user` is kept and passed to each handler. Pointers to data
 * are borrowed. */
typedef struct ws_behavior {
    size_t size;
    void *user;
    /* A valid opening handshake has arrived (RFC 6455 section 4.2). Answer it with
     * ws_request_upgrade or ws_request_respond, or call ws_request_defer; otherwise the client gets
     * a 500. NULL: every handshake is accepted. */
    void (*on_upgrade)(ws_request *request, void *user);
    /* The connection is open: the 101 is queued, no message has been handled. Runs once. */
    void (*on_open)(ws_conn *conn, void *user);
    /* A whole message has arrived, perhaps from a peer that has reset the connection since. The
     * opcode is WS_TEXT (valid UTF-8) or WS_BINARY. `data` is never NULL, and the handler may
     * modify the bytes, which lie in a buffer of the library. */
    void (*on_message)(ws_conn *conn, char *data, size_t length, int opcode, void *user);
    /* The queue is empty again after WS_BACKPRESSURE, WS_DROPPED, or a flush that left bytes. */
    void (*on_drain)(ws_conn *conn, void *user);
    /* max_backpressure made a message WS_DROPPED. Does not run for messages that are sent or
     * published inside on_dropped; their result says so. */
    void (*on_dropped)(ws_conn *conn, const char *data, size_t length, int opcode, void *user);
    /* A Ping has arrived, and is already answered. It holds at most 125 bytes. */
    void (*on_ping)(ws_conn *conn, const char *data, size_t length, void *user);
    /* A Pong has arrived. It holds at most 125 bytes. */
    void (*on_pong)(ws_conn *conn, const char *data, size_t length, void *user);
    /* The number of subscribers of a topic has changed from `before` to `now`, because conn
     * subscribed or unsubscribed, or because it is closing: then this runs once for each of its
     * topics, before on_close. */
    void (*on_subscription)(ws_conn *conn, const char *topic, size_t length, uint32_t now,
                            uint32_t before, void *user);
    /* The connection is closed. Runs exactly once for each on_open, and only on_closed follows. See
     * RFC 6455 section 7.4 for the code: 1005 if the peer's Close had none, 1006 if no Close frame
     * arrived. `reason` is UTF-8 and never NULL. conn is invalid afterwards. */
    void (*on_close)(ws_conn *conn, int code, const char *reason, size_t length, void *user);
    /* The closing handshake is over. Runs once, after on_close. `clean`: the peer's Close frame
     * arrived, with this code (1005 if it had none) and reason. Otherwise the code is 0: TCP ended
     * without a Close, or close_timeout expired. conn may only be compared and passed to
     * ws_conn_get_id, ws_conn_user and ws_conn_closed_by_peer. */
    void (*on_closed)(ws_conn *conn, bool clean, int code, const char *reason, size_t length,
                      void *user);
    size_t max_payload_length; /* bytes of the largest message, default 16384; a larger one closes
                                  the connection with 1009 */
    size_t max_backpressure;   /* bytes, default 65536; 0 = no limit; see ws_conn_send */
    uint32_t close_timeout;    /* ms to wait for the peer's Close and EOF, default 5000 */
    uint32_t compression;      /* WS_..._COMPRESSOR | WS_..._DECOMPRESSOR, default 0 */
    uint32_t idle_timeout;     /* ms without a received byte until the connection is dropped (1006,
                                  "idle timeout"), default 120000; 0 = never */
    uint32_t ping_interval;    /* ms without a received byte until a Ping is sent, and then again
                                  after each further interval of silence; 0 = no Pings; WS_DERIVED
                                  (default): idle_timeout minus a third of it, or minus 16 s if that
                                  is less */
    uint32_t ping_timeout;     /* ms of silence after a Ping until the connection is dropped (1006,
                                  "ping timeout"); 0 or WS_DERIVED (default): idle_timeout alone
                                  drops it */
    uint32_t max_lifetime;     /* ms from on_open until ws_conn_end(1000, "please reconnect");
                                  default 0 = no limit */
    uint32_t max_topics;       /* subscriptions of one connection, default 1000 */
    uint32_t max_topic_length; /* bytes of a topic's name, default 1024 */
    bool close_on_backpressure_limit; /* closes with 1008 instead of returning WS_DROPPED */
    bool reset_idle_timeout_on_send;  /* bytes that the kernel took count as received bytes */
    bool origin_optional;             /* with `origins`: a handshake without Origin is accepted */
    bool user_is_place;               /* ws_conn_user is NULL or leads to a ws_conn *, which is set
                                         to NULL before on_close: for those who keep conn, and may
                                         be interrupted before they can forget it */
    const char *const *subprotocols;  /* copied; NULL-terminated list of tokens; NULL: none */
    const char *const *origins;       /* copied; NULL-terminated list; NULL: any Origin */
} ws_behavior;

/* Fills *behavior with the defaults. `size` is sizeof(ws_behavior) of the caller. Returns WS_OK or
 * WS_EABI. Any thread. */
WS_API int ws_behavior_init(ws_behavior *behavior, size_t size);

/* Registers `behavior` (copied) for the upgrade requests that match `pattern` (copied). A pattern
 * is a path. Each segment is literal, ":name", which matches one non-empty segment, or, as the last
 * one, "*", which matches the rest of the path, even an empty one; "*" alone is the same as "/" and
 * "*". A pattern has at most 16 such parameters, uses each name once, and holds printable ASCII
 * without space, "?" and "#". The most specific route wins (literal before :name before *),
 * whatever the order of registration.
 * Returns WS_OK, WS_EINVAL (invalid pattern, subprotocol or compression), WS_EEXIST, WS_ENOMEM,
 * WS_EABI, or WS_ENOTSUP (compression, which the library was built without). */
WS_API int ws_server_ws(ws_server *server, const char *pattern, const ws_behavior *behavior);

/* Registers handler(request, user) for the other requests with this method and a path that matches
 * `pattern` (see ws_server_ws). `method` (copied) is case-sensitive; "*" is any method without a
 * handler of its own. A handler of GET also gets HEAD. `user` is kept. Returns WS_OK, WS_EINVAL
 * (invalid pattern, method or `handler`), WS_EEXIST, WS_ENOMEM, or WS_ENOTSUP (-DWS_NO_HTTP). */
WS_API int ws_server_http(ws_server *server, const char *method, const char *pattern,
                          void (*handler)(ws_request *request, void *user), void *user);

/* ---- connections -------------------------------------------------------------------------- */

/* A ws_conn is valid from on_open until its on_close has returned; see on_closed for what may be
 * done with it there. */

/* Returns the id of the connection. */
WS_API ws_conn_id ws_conn_get_id(const ws_conn *conn);

/* Returns the server of the connection. */
WS_API ws_server *ws_conn_server(const ws_conn *conn);

/* Returns the pointer that was passed to ws_request_upgrade or ws_conn_set_user. */
WS_API void *ws_conn_user(const ws_conn *conn);

/* Sets that pointer, which is kept, and dereferenced with ws_behavior.user_is_place alone. */
WS_API void ws_conn_set_user(ws_conn *conn, void *user);

/* Returns the request of the opening handshake while on_open runs, and NULL afterwards. */
WS_API ws_request *ws_conn_request(const ws_conn *conn);

/* Sends one message (copied, unless the kernel takes it at once). `opcode` is WS_TEXT or WS_BINARY,
 * perhaps or-ed with WS_COMPRESS, or WS_PING or WS_PONG with at most 125 bytes. The caller must
 * make sure that a text is valid UTF-8; see ws_utf8_valid.
 * Returns WS_SUCCESS, WS_BACKPRESSURE or WS_DROPPED. If the bytes that the kernel did not take
 * would exceed max_backpressure with a data message, the whole message is dropped and on_dropped
 * runs. Control frames may exceed the limit by 4 KiB. Between the fragments of another message
 * (ws_conn_send_fragment) a message is held back until the last one. If memory runs out while a
 * message is compressed, it is WS_DROPPED and the connection is ended with 1011. Once on_close has
 * begun or the peer is gone, every message is WS_DROPPED.
 * Errors: WS_EINVAL (invalid opcode, or a control frame that is too long), WS_ENOMEM (nothing was
 * queued). */
WS_API int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode);

/* Sends one message in fragments (RFC 6455 section 5.4). The `opcode` of the first one is WS_TEXT
 * or WS_BINARY, perhaps or-ed with WS_COMPRESS, which compresses the whole message; that of the
 * others is WS_CONTINUATION. `fin` marks the last one. Only the first fragment can be dropped
 * because of max_backpressure; if a later one exceeds it, the connection is closed with 1008.
 * Returns what ws_conn_send returns, or WS_EORDER. */
WS_API int ws_conn_send_fragment(ws_conn *conn, const void *data, size_t length, int opcode,
                                 bool fin);

/* Gathers what is sent until ws_conn_uncork, so that it leaves in one write, or in one for each
 * 64 KiB (or half of max_backpressure if that is less). Calls nest. Handlers run corked. */
WS_API void ws_conn_cork(ws_conn *conn);

/* Ends the effect of one ws_conn_cork. Every cork needs this call, even if the connection was
 * closed in between: conn stays valid for this one call in the same callback. */
WS_API void ws_conn_uncork(ws_conn *conn);

/* Starts the closing handshake (RFC 6455 section 7.1.2): sends a Close frame after all queued data,
 * and waits for the peer's Close for at most close_timeout. on_close runs before this returns.
 * `code` is 1000-1003, 1007-1014 or 3000-4999; 0 or 1005 sends a Close without a code, and on_close
 * gets 1005. `reason` is UTF-8 (copied, cut to 123 bytes at a character boundary). Has no effect on
 * a connection that is closed. Returns WS_OK, or WS_EINVAL (invalid code, a reason without a code,
 * or invalid UTF-8). */
WS_API int ws_conn_end(ws_conn *conn, int code, const char *reason, size_t length);

/* Drops the TCP connection at once. on_close runs with 1006 before this returns, so an on_close
 * that closes the next connection nests as deeply as there are connections. */
WS_API void ws_conn_close(ws_conn *conn);

/* Inside on_close and on_closed: returns true if the peer sent the first Close or the connection
 * was lost, and false if this side began to close it (ws_conn_end, ws_conn_close, a timeout, or a
 * protocol error of the peer). */
WS_API bool ws_conn_closed_by_peer(const ws_conn *conn);

/* Stops reading until ws_conn_resume. No further message, Ping, Pong or Close is handled; what the
 * peer sends waits in the kernel and slows the peer down; idle_timeout is suspended. A connection
 * that is ended with ws_conn_end reads on. If the peer resets a paused connection, what it had sent
 * before still waits for ws_conn_resume, and on_close runs after that. From the reset on,
 * idle_timeout counts, and starts again with each ws_conn_resume. */
WS_API void ws_conn_pause(ws_conn *conn);

/* Passes no message to on_message until ws_conn_resume. The connection still reads and handles
 * Pings, Pongs and a Close until the first byte of the next data frame arrives. Then it is paused
 * as by ws_conn_pause: that frame and everything behind it in the stream, including Pings, wait for
 * ws_conn_resume, and at most recv_buffer_size bytes are kept. Has no effect on a connection that
 * ws_conn_pause has paused. */
WS_API void ws_conn_pause_messages(ws_conn *conn);

/* Reads again after ws_conn_pause and ws_conn_pause_messages. */
WS_API void ws_conn_resume(ws_conn *conn);

/* Returns the round-trip time in microseconds of the last Ping that a Pong with the same payload
 * answered, or 0 if there was none. It includes the time that the Pong waited for its turn. */
WS_API uint32_t ws_conn_latency(const ws_conn *conn);

/* Returns the bytes that are queued because the kernel did not take them, or 0 while it takes
 * everything. A message that is held back between fragments counts. What is corked, or was
 * published in this turn, does not: the kernel was not asked yet. So a handler can send while this
 * is below some bound, and continue in on_drain, which follows. Nothing is dropped that way if
 * neither the bound nor any message with its header exceeds half of max_backpressure. Once the peer
 * is gone, everything that is sent counts, though it is not kept. */
WS_API size_t ws_conn_buffered_amount(const ws_conn *conn);

/* Writes the negotiated extension, as in Sec-WebSocket-Extensions ("permessage-deflate; ..."), to
 * text[size], NUL-terminated; it is "" without compression. 128 bytes always suffice. Returns its
 * length. */
WS_API size_t ws_conn_compression(const ws_conn *conn, char *text, size_t size);

/* Writes the peer's address ("127.0.0.1", "2001:db8::1", "" for a Unix socket) to text[size],
 * NUL-terminated. 46 bytes always suffice. An IPv4 peer of a dual-stack listener has an IPv4
 * address. Behind a trusted proxy, the peer is the client of the proxy, also below. Returns the
 * length. */
WS_API size_t ws_conn_remote_address(const ws_conn *conn, char *text, size_t size);

/* Writes the same address as 4 or 16 bytes in network order. Returns 4, 16, or 0 for a Unix
 * socket. */
WS_API size_t ws_conn_remote_address_bytes(const ws_conn *conn, uint8_t bytes[16]);

/* Returns the peer's port, or 0 for a Unix socket or if a proxy does not tell it. */
WS_API uint16_t ws_conn_remote_port(const ws_conn *conn);

/* Returns "wss" if the peer uses TLS, and "ws" otherwise. */
WS_API const char *ws_conn_scheme(const ws_conn *conn);

/* ---- topics ------------------------------------------------------------------------------- */

/* A topic is any string of bytes, even an empty one, and needs no NUL. It exists while it has
 * subscribers. Topics belong to a server: a message reaches the subscribers of all its routes. Any
 * handler may subscribe, unsubscribe, publish, send to, end and close any connection, even during a
 * publish: the message goes to those that were subscribed when the publish began. */

/* Subscribes the connection to a topic (copied). Returns 1, after on_subscription has run, or 0 if
 * it was already subscribed. Errors: WS_ECLOSED, WS_ELIMIT (max_topics; the first time is logged),
 * WS_EINVAL (the topic is longer than max_topic_length), WS_ENOMEM. */
WS_API int ws_conn_subscribe(ws_conn *conn, const char *topic, size_t length);

/* Ends a subscription. Returns 1, after on_subscription has run, or 0 if it did not exist. Error:
 * WS_ECLOSED. */
WS_API int ws_conn_unsubscribe(ws_conn *conn, const char *topic, size_t length);

/* Returns true if the connection is subscribed to the topic. */
WS_API bool ws_conn_is_subscribed(const ws_conn *conn, const char *topic, size_t length);

/* Returns the i-th topic of the connection, from 0, in no particular order, or NULL if there are
 * not so many. It is borrowed until a subscription changes. */
WS_API const char *ws_conn_topic_at(const ws_conn *conn, size_t i, size_t *length);

/* Returns the number of subscribers of the topic. */
WS_API uint32_t ws_server_subscribers(const ws_server *server, const char *topic, size_t length);

/* Sends one message (copied) to every subscriber of the topic. `opcode` is WS_TEXT or WS_BINARY,
 * perhaps or-ed with WS_COMPRESS: the message is compressed once for all subscribers whose
 * compressor is shared and has the same window. The message leaves at the end of the turn, in one
 * write per subscriber for all publishes of the turn, in order with what else is sent to it. The
 * max_backpressure of each subscriber limits it as in ws_conn_send: a slow one loses the message
 * (on_dropped runs before this returns), the others get it. One for which memory runs out is ended
 * with 1011. Returns 1 if a subscriber gets the message, or another member of the bus may have one
 * (ws_server_join), 0 if no one does, as during a shutdown, or WS_EINVAL (invalid opcode). */
WS_API int ws_server_publish(ws_server *server, const char *topic, size_t topic_length,
                             const void *data, size_t length, int opcode);

/* Does the same for a connection, which does not get the message itself if exclude_self is set.
 * Returns 0 if conn is closing. */
WS_API int ws_conn_publish(ws_conn *conn, const char *topic, size_t topic_length, const void *data,
                           size_t length, int opcode, bool exclude_self);

#ifdef __cplusplus
}
#endif

/* What handlers do with requests. */
#include "ws_http.h"

#endif
