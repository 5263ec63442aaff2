/*
 * ws_http.h: requests and responses, the part of ws.h that is about HTTP (RFC 9110, RFC 9112). It
 * comes with ws.h. The words for ownership, threads and errors are those of ws.h.
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
 * if a trusted proxy says that the client uses TLS. A static string. */
WS_API const char *ws_request_scheme(const ws_request *request);

/* Adds a header field (copied) to the response, which may be a 101. Returns WS_OK, WS_EINVAL (the
 * name is not a token, the value holds CR, LF or NUL, or the library itself writes the field: Date,
 * Content-Length, Connection, Upgrade, Transfer-Encoding, Sec-WebSocket-*), WS_ECLOSED or
 * WS_ENOMEM. */
WS_API int ws_request_add_header(ws_request *request, const char *name, size_t name_length,
                                 const char *value, size_t value_length);

/* Makes the response, unless it is a 101, the last one of its connection ("Connection: close"). */
WS_API void ws_request_close_after(ws_request *request);

/* Sends a complete response. `status` is 200 to 599. `reason` is cut to 200 bytes; NULL means the
 * standard phrase. `body` is copied. It is left out if the status does not allow one (204, 304) or
 * the method was HEAD. The response to an opening handshake closes the connection. Returns WS_OK,
 * WS_EINVAL (invalid status; CR, LF or NUL in the reason), WS_ECLOSED (already answered, or the
 * peer is gone) or WS_ENOMEM (the connection was dropped). */
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

/* Reads the body of the request: on_body(request, data, length, last, user) gets the pieces as they
 * arrive (borrowed). `last` is true once, perhaps with length 0; without a body that is before this
 * returns. May be called once, in the handler of the request or after ws_request_defer; if that was
 * not called, this does it, without an on_aborted. The request may be answered before its body is
 * complete, and on_body does not run after the answer. A body that is not read, or its rest, is
 * discarded: if it is longer than 256 KiB, the connection ends with the answer.
 *
 * A client that waits for it gets a 100 (Continue). If more than max_size bytes are announced, or a
 * chunk (RFC 9112 section 7.1) exceeds them, the client gets a 413; if the body is malformed, a
 * 400; if it is not complete after body_timeout, which starts again with each 16 KiB that arrive, a
 * 408. In these cases on_aborted runs. Once the body is complete, upgrade_timeout limits the time
 * for the answer.
 *
 * `user` is kept. Returns WS_OK, WS_EINVAL (`on_body` is NULL, or this was called before),
 * WS_ECLOSED (already answered, or the client has got a 413) or WS_ENOMEM. */
WS_API int ws_request_read_body(ws_request *request, uint64_t max_size,
                                void (*on_body)(ws_request *request, const char *data,
                                                size_t length, bool last, void *user),
                                void *user);

/* Reads no more of the body until ws_request_resume_body: what the client sends waits in the
 * kernel, but for 64 KiB, and slows the client down. Meanwhile on_body does not run, and no time
 * limit applies. Has no effect once the body is complete. */
WS_API void ws_request_pause_body(ws_request *request);

/* Reads the body again after ws_request_pause_body. */
WS_API void ws_request_resume_body(ws_request *request);

/* Drops the connection without a response. Returns WS_OK or WS_ECLOSED. */
WS_API int ws_request_abort(ws_request *request);

#ifdef __cplusplus
}
#endif
#endif
