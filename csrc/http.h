/* SPDX-License-Identifier: MIT */
/*
 * http.h: request heads (RFC 9112 sections 2-5), reason phrases and dates. Sans-IO: bytes in,
 * offsets out. The parser is strict and looks at every byte once. The first byte that cannot be
 * part of a valid head ends it, so the result never depends on how the bytes were split.
 */
#ifndef WS__HTTP_H
#define WS__HTTP_H

#include "text.h"

/* With -DWS_NO_HTTP a server refuses what is no opening handshake, unless its fallback answers:
 * there are no handlers, no body is read, and no response is sent in parts (answer_none.c). */
#ifdef WS_NO_HTTP
enum { WS__HTTP_AVAILABLE = false };
#else
enum { WS__HTTP_AVAILABLE = true };
#endif

/* A part of the head. The offset counts from the first byte of the head. */
struct ws__span {
    uint32_t offset, length;
};

struct ws__http_field {
    struct ws__span name, value;
};

struct ws__http_head {
    struct ws__span method, target; /* as they were sent */
    struct ws__span path, query;    /* of the target, also of one in absolute-form */
    uint8_t major, minor;           /* the HTTP version */
    bool has_query;
    uint8_t state; /* private */
    uint16_t field_count;
    uint32_t position, mark; /* private */
    uint16_t max_fields;     /* room in `fields`; both belong to the caller */
    struct ws__http_field *fields;
};

/* Parses the head of a request. Zero *head, except for its table of fields, before the first call;
 * call again with all bytes received so far when more have arrived. The bytes may move between
 * calls. Returns the length of the complete head, 0 if more bytes are needed, or minus the status
 * to respond with: -400, -414 (the request line takes more than half of max_header_size), -431 (the
 * head exceeds max_header_size or max_fields), -505. One CRLF before the head is skipped and
 * counts. Only syntax and limits are checked. */
int ws__http_parse(struct ws__http_head *head, const char *bytes, size_t length,
                   size_t max_header_size);

/* The length of a body that is chunked. */
#define WS__HTTP_CHUNKED UINT64_MAX

/* Checks a complete head: the Host field (RFC 9112 3.2) and the length of the body (RFC 9112 6).
 * Returns 0, or minus the status to respond with: -400 or -501. Sets *body to the length, which is
 * 0 without a body. */
int ws__http_check(const struct ws__http_head *head, const char *bytes, uint64_t *body);

/* Returns the index of the first field called `name` (in any case) from index `from` on, or -1. */
int ws__http_find(const struct ws__http_head *head, const char *bytes, const char *name, int from);

/* A position in the list that all fields of one name form together. Zero it to begin. */
struct ws__http_list {
    int next;             /* private: index of the first field that is not begun */
    struct ws__text rest; /* private: what is left of the field before it */
};

/* Takes the next element of the comma-separated list that all fields called `name` form together
 * (RFC 9110 5.3); see ws__text_next_element. Returns false at the end. */
bool ws__http_next_element(const struct ws__http_head *head, const char *bytes, const char *name,
                           struct ws__http_list *list, struct ws__text *element);

/* Returns true if that list contains `token`, in any case. */
bool ws__http_list_has(const struct ws__http_head *head, const char *bytes, const char *name,
                       const char *token);

/* Returns true if the connection persists after this request (RFC 9112 9.3). */
bool ws__http_keep_alive(const struct ws__http_head *head, const char *bytes);

/* Returns the standard reason phrase of a status, or "Unknown" if it has none. */
__attribute__((cold)) const char *ws__http_reason(int status);

/* Writes a Unix time as IMF-fixdate (RFC 9110 5.6.7): 29 characters and NUL. */
__attribute__((cold)) void ws__http_date(int64_t unix_seconds, char out[30]);

#endif
