/* SPDX-License-Identifier: MIT */
/*
 * ws_tls.h: TLS by any library, an addition to ws.h.
 *
 * The server links no TLS library. It asks a table of functions, struct ws_tls, which turns the
 * bytes that arrive into those that the peer meant, and back. The functions do no input or output:
 * the server reads and writes the sockets itself. ws_listen_options.tls names the table of a
 * listening socket, all of whose connections then speak TLS (https, wss); a PROXY header comes
 * before TLS. With -DWS_NO_TLS, ws_server_listen returns WS_ENOTSUP for such a listener.
 *
 * A *session* is what the table keeps for one connection. The server calls its functions in this
 * order:
 *
 *     open        when the first byte of TLS has arrived
 *     handshake   until DONE, which no byte of the application precedes, in either direction
 *     read, write as often as is needed, one independent of the other
 *     close       at most once, after which nothing is written; it may still be read
 *     free        once, at any time. Once any function has returned FAILED, only `error` is called
 *                 before it
 *
 * All functions of a session are called from the thread of its server. A table, and its context,
 * may serve servers in several threads if it is made for that. The functions run in the middle of
 * other calls: of this header and ws.h they may call only ws_server_wakeup and ws_server_defer.
 * They must not block.
 *
 * The words for ownership, threads and errors are those of ws.h.
 */
#ifndef WS_TLS_H
#define WS_TLS_H

#include "ws.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Encrypted bytes on their way between the socket and a session. Valid during one call. */
typedef struct ws_tls_wire ws_tls_wire;
struct ws_tls_wire {
    /* Bytes that were received. The session takes some or all of them: it moves `in` past them and
     * lowers in_length. It must take, and keep, all of them before it asks for more. */
    const char *in;
    size_t in_length;
    /* Bytes to be sent. The session appends them at out + out_length, raises out_length, and stops
     * at out_size. What is there already stays as it is. Everything that was appended is sent, in
     * this order, also after a failure. */
    char *out;
    size_t out_length, out_size;
};

/* Results of the functions of a session. */
enum {
    WS_TLS_MORE = 0,    /* needs more received bytes, or more room in `out` */
    WS_TLS_DONE = 1,
    WS_TLS_CLOSED = -1, /* the peer has sent close_notify: nothing more will come from it */
    WS_TLS_FAILED = -2  /* a fault of the peer, of the library, or out of memory */
};

/* `write` gets at most WS_TLS_CHUNK bytes, and room in `out` for them and WS_TLS_OVERHEAD more: a
 * client may insist on records of 512 bytes (max_fragment_length, RFC 6066 section 4). The other
 * functions get room for at least WS_TLS_CHUNK + WS_TLS_OVERHEAD bytes. */
enum { WS_TLS_CHUNK = 16384, WS_TLS_OVERHEAD = 4096 };

/* The table. Only `context` and `error` may be NULL. */
struct ws_tls {
    size_t size;   /* sizeof(struct ws_tls) of the caller */
    void *context; /* kept; passed to `open`, never dereferenced */

    /* Returns a session, the server's side, for one more connection, or NULL if out of memory.
     * Another configuration, such as new certificates, is the table's own affair: it makes the
     * sessions that follow with it, while those that exist keep theirs. */
    void *(*open)(void *context);

    /* Continues the handshake with what was received. Returns DONE once it is complete; bytes that
     * are left in `in` are then passed to `read`. MORE: it is called again once more bytes were
     * received, and also, if it has appended any, once there is room again. FAILED, CLOSED: the
     * connection ends; an alert may have been appended to `out`, which is sent. */
    int (*handshake)(void *session, ws_tls_wire *wire);

    /* Decrypts. Writes at most n bytes to `bytes` and their number to *got, which is 0 before the
     * call; n is never 0. Returns
     * - DONE: *got is above 0, and there may be more bytes, even if `in` is empty;
     * - MORE: all that was received is taken and handed over. *got may be above 0 here, too, which
     *   saves the server one more call;
     * - CLOSED or FAILED: as above; *got is not looked at.
     * May append to `out`, such as an answer to a KeyUpdate or an alert. If it returns MORE because
     * there is no room for that, it is called again once there is. Is called until it returns
     * another result than DONE, even while the application does not read, and not again after
     * CLOSED. */
    int (*read)(void *session, ws_tls_wire *wire, char *bytes, size_t n, size_t *got);

    /* Returns true if the session keeps bytes of the peer that no call has handed over: a part of a
     * record. Called after the handshake. */
    bool (*pending)(void *session);

    /* Encrypts all of bytes[n] and appends the records to `out`. Returns DONE, or FAILED. There is
     * room for them, and `in` is empty. May be called after `read` has returned CLOSED: the peer
     * has ended only its own direction. */
    int (*write)(void *session, ws_tls_wire *wire, const char *bytes, size_t n);

    /* Appends close_notify to `out`, if the session is still able to. `in` is empty. */
    void (*close)(void *session, ws_tls_wire *wire);

    /* Frees the session, whatever state it is in. */
    void (*free)(void *session);

    /* Returns why a function has returned FAILED, for the log: a short line, borrowed until the
     * next call, that is not made of bytes of the peer. May return NULL, and be NULL itself. */
    const char *(*error)(void *session);
};

/* Returns what `open` has returned for this connection, to be passed to functions of the TLS
 * library that tell the version, the cipher, the names or the certificate of the peer. NULL without
 * TLS. Valid as long as conn, and inside on_close and on_closed. */
WS_API void *ws_conn_tls(const ws_conn *conn);

/* Does the same for a request. */
WS_API void *ws_request_tls(const ws_request *request);

#ifdef __cplusplus
}
#endif

#endif
