/* SPDX-License-Identifier: MIT */
/*
 * ws_http.h: requests and responses, the part of ws.h that is about HTTP (RFC 9110, RFC 9112). It
 * comes with ws.h. The words for ownership, threads and errors are those of ws.h. With -DWS_NO_HTTP
 * there are neither bodies nor responses in parts: functions for these return WS_ENOTSUP, or have
 * no effect, and ws_request_respond_static is like ws_request_respond. Of statuses that neither
 * refuse nor redirect, only 200 has its standard phrase then.
 */
#ifndef WS_HTTP_H
#define WS_HTTP_H

#include "ws.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A ws_request is valid until the handler that received it returns or, after ws_request_defer,
 * until it is answered or on_aborted has run. What the getters return is borrowed for as long and
 * is not NUL-terminated. If there is no such thing, they return NULL and set *length to 0. */

/* Returns the method, which is case-sensitive ("GET"). */
WS_API const char *ws_request_method(const ws_request *request, size_t *length);

/* Returns the request target as it was sent (RFC 9112 section 3.2). */
WS_API const char *ws_request_target(const ws_request *request, size_t *length);

/* Returns the path of the target, percent-encoded as it was sent. */
WS_API const char *ws_request_path(const ws_request *request, size_t *length);

/* Returns the query of the target: what follows "?". */
WS_API const char *ws_request_query(const ws_request *request, size_t *length);

/* Returns the value of the first header field called `name`, in any case. */
WS_API const char *ws_request_header(const ws_request *request, const char *name, size_t *length);

/* Sets *name and *value to those of the i-th header field, from 0, in the order received. Returns
 * false if there are not so many. */
WS_API bool ws_request_header_at(const ws_request *request, size_t i, const char **name,
                                 size_t *name_length, const char **value, size_t *value_length);

/* Returns what the i-th ":name" or "*" of the pattern matched, percent-encoded as it was sent. */
WS_API const char *ws_request_parameter(const ws_request *request, size_t i, size_t *length);

/* Returns the pattern of the route ("/chat/:room"), NUL-terminated. */
WS_API const char *ws_request_pattern(const ws_request *request);

/* Returns true for an opening handshake and false for any other request. */
WS_API bool ws_request_is_upgrade(const ws_request *request);

/* Returns the subprotocol that ws_request_upgrade(request, NULL, 0, ...) would select. Inside
 * on_open it is the one that was selected. */
WS_API const char *ws_request_subprotocol(const ws_request *request, size_t *length);

/* See ws_conn_remote_address. */
WS_API size_t ws_request_remote_address(const ws_request *request, char *text, size_t size);

/* See ws_conn_remote_port. */
WS_API uint16_t ws_request_remote_port(const ws_request *request);

/* Returns the scheme of the URL that the client has asked for: "http" or "ws", or "https" or "wss"
 * if the client uses TLS, to this server or, as a trusted proxy says, to that. A static string. */
WS_API const char *ws_request_scheme(const ws_request *request);

/* Has *place set to NULL when the request is freed: for those who keep its address, and may be
 * interrupted before they can forget it. `place` is kept until then, or until the next call; NULL
 * ends this. */
WS_API void ws_request_track(ws_request *request, ws_request **place);

/* Adds a header field (copied) to the response, which may be a 101. Returns WS_OK, WS_EINVAL (the
 * name is not a token, the value holds a control character other than HTAB, or the library itself
 * writes the field: Date, Content-Length, Connection, Upgrade, Transfer-Encoding, Sec-WebSocket-*),
 * WS_ECLOSED or WS_ENOMEM. */
WS_API int ws_request_add_header(ws_request *request, const char *name, size_t name_length,
                                 const char *value, size_t value_length);

/* Makes the response, unless it is a 101, the last one of its connection ("Connection: close"). */
WS_API void ws_request_close_after(ws_request *request);

/* Sends a complete response. `status` is 200 to 599. `reason` is cut to 200 bytes; NULL means the
 * standard phrase. `body` is copied. It is left out if the status does not allow one (204, 304) or
 * the method was HEAD. The response to an opening handshake closes the connection. Returns WS_OK,
 * WS_EINVAL (invalid status; a control character in the reason), WS_ECLOSED (already answered, or
 * the peer is gone) or WS_ENOMEM (the connection was dropped). */
WS_API int ws_request_respond(ws_request *request, int status, const char *reason,
                              const char *body, size_t length);

/* Makes the 101 accept no extension, whatever the client offers. */
WS_API void ws_request_decline_extensions(ws_request *request);

/* Accepts the opening handshake with a 101; on_open runs before this returns. `protocol` (borrowed)
 * must be one that the client offered. NULL selects the first of the client's list that the route
 * supports, and length 0 selects none. ws_conn_user returns `conn_user` (kept). Returns WS_OK,
 * WS_EINVAL (not offered, or not an opening handshake), WS_ECLOSED (already answered, or the server
 * is shutting down and the client got a 503) or WS_ENOMEM (the connection was dropped). */
WS_API int ws_request_upgrade(ws_request *request, const char *protocol, size_t length,
                              void *conn_user);

/* Lets the handler return before it has answered. The request stays valid until it is answered,
 * which must happen within upgrade_timeout, or the client gets a 503. on_aborted(request, user)
 * runs if the peer leaves, the time expires or the server shuts down first; it may be NULL. `user`
 * is kept. Returns WS_OK, WS_ECLOSED or WS_ENOMEM. */
WS_API int ws_request_defer(ws_request *request,
                            void (*on_aborted)(ws_request *request, void *user), void *user);

/* Inside on_aborted: returns the status of the response that the library sends next (503, or 400,
 * 408 or 413 for the body), or 0 if the client gets none. */
WS_API int ws_request_refusal(const ws_request *request);

/* Reads the body of the request: on_body(request, data, length, last, user) gets the pieces as they
 * arrive (borrowed). `last` is true once, perhaps with length 0; without a body that is before this
 * returns. May be called once, in the handler of the request or after ws_request_defer; if that was
 * not called, this does it, without an on_aborted. The request may be answered before its body is
 * complete, and on_body does not run after the answer. A body that is not read, or its rest, is
 * discarded: if it is longer than 256 KiB, the connection ends with the answer.
 *
 * A client that waits for it gets a 100 (Continue). If more than max_size bytes are announced, or a
 * chunk (RFC 9112 section 7.1) exceeds them, the client gets a 413, which calls this limit
 * max_body_size; if the body is malformed, a 400; if it is not complete after body_timeout, which
 * starts again with each 16 KiB that arrive and is held by a pause, a 408. In these cases
 * on_aborted runs. Once the body is complete, upgrade_timeout limits the time for the answer.
 *
 * `user` is kept. Returns WS_OK, WS_EINVAL (`on_body` is NULL, or this was called before),
 * WS_ECLOSED (already answered, or the client has got a 413) or WS_ENOMEM. */
WS_API int ws_request_read_body(ws_request *request, uint64_t max_size,
                                void (*on_body)(ws_request *request, const char *data,
                                                size_t length, bool last, void *user),
                                void *user);

/* Reads no more of the body until ws_request_resume_body. At most 64 KiB more are read ahead; the
 * rest waits in the kernel and slows the client down. Meanwhile on_body does not run, no time limit
 * applies, and the end of a client that sent more than that is noticed only after the resumption.
 * Has no effect once the body is complete. */
WS_API void ws_request_pause_body(ws_request *request);

/* Reads the body again after ws_request_pause_body. */
WS_API void ws_request_resume_body(ws_request *request);

/* ---- responses in parts ---- */

#define WS_UNKNOWN_LENGTH UINT64_MAX

/* Sends the head of a response whose body follows with ws_request_write: of `length` bytes, or, for
 * WS_UNKNOWN_LENGTH, in chunks (RFC 9112 section 7.1; in HTTP/1.0 the end of the connection ends
 * the body). The request stays valid until ws_request_finish, or until the connection has ended:
 * the client has left, or has taken no byte for upgrade_timeout, or the server is shut down. Then
 * the on_aborted of ws_request_defer runs, which must be called before this. The body of the
 * request may be read meanwhile; if ws_request_read_body is called before this, the connection can
 * go on after a long one. Returns what ws_request_respond returns. */
WS_API int ws_request_begin(ws_request *request, int status, const char *reason, uint64_t length);

/* Sends a part of the body (copied, unless the kernel takes it at once). Returns
 * WS_SUCCESS: passed to the kernel, or corked and flushed when the handler returns;
 * WS_BACKPRESSURE: taken, but the kernel's buffer is full, and no more should be sent before
 * on_writable;
 * WS_DROPPED: not taken, because with it more than max_response_backpressure would wait (a part of
 * any size is taken while nothing waits).
 * If the response has no body (HEAD, 204, 304), all parts are taken and none is sent, and none is
 * needed. Errors:
 * WS_EINVAL (more than was announced), WS_ECLOSED (not begun, finished, or the client is gone),
 * WS_ENOMEM (not taken). */
WS_API int ws_request_write(ws_request *request, const char *data, size_t length);

/* Sets a function that runs when nothing waits any more after WS_BACKPRESSURE or WS_DROPPED. `user`
 * is kept. `fn` NULL ends this. */
WS_API void ws_request_on_writable(ws_request *request,
                                   void (*fn)(ws_request *request, void *user), void *user);

/* Ends the response. Returns WS_OK, WS_ECLOSED (not begun, or finished already), WS_ENOMEM, or
 * WS_EINVAL if less was written than announced: the client cannot be told otherwise, so the
 * connection was dropped. on_aborted does not run. */
WS_API int ws_request_finish(ws_request *request);

/* Sends a complete response, as ws_request_respond does. `bytes` are kept until the server is
 * freed, and never copied if they are 16 KiB or more, however slow the clients are: this is for
 * constants. on_aborted does not run after this. */
WS_API int ws_request_respond_static(ws_request *request, int status, const char *reason,
                                     const char *bytes, size_t length);

/* Does the same with `length` bytes of a file from `offset` on, without a copy (sendfile(2)). If
 * this returns WS_OK, `fd` belongs to the server. If the file turns out to be shorter, or cannot be
 * read, that is logged, and the connection is dropped. WS_EINVAL: also for an invalid range. */
WS_API int ws_request_respond_file(ws_request *request, int status, const char *reason, int fd,
                                   uint64_t offset, uint64_t length);

/* Drops the connection without a response, or in the middle of one. Returns WS_OK or WS_ECLOSED. */
WS_API int ws_request_abort(ws_request *request);

#ifdef __cplusplus
}
#endif
#endif
