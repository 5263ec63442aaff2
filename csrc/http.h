/*
 * http.h: request heads (RFC 9112 sections 2-5) and response heads. Sans-IO: bytes in, offsets out.
 * The parser is strict and looks at every byte once, so that a verdict never depends on how the
 * bytes were split: the first byte that cannot be part of a valid head decides.
 */
#ifndef WS__HTTP_H
#define WS__HTTP_H

#include "text.h"

struct ws__span {
    uint32_t offset, length; /* relative to the first byte of the head */
};
struct ws__http_field {
    struct ws__span name, value;
};

struct ws__http_head {
    struct ws__span method, target; /* as sent */
    struct ws__span path, query;    /* of the target; absolute-form is reduced (RFC 9112 3.2.2) */
    uint8_t major, minor;           /* HTTP version */
    bool has_query;
    uint8_t state;                  /* parser: private */
    uint16_t field_count;
    uint32_t position, mark;        /* parser: private */
    uint16_t max_fields;            /* room in fields; both are the caller's */
    struct ws__http_field *fields;
};

/* Zero *head but for its table of fields, then call with all bytes received so far, as often as
 * more arrive: bytes may move between calls. Returns the length of the complete head, 0 when more
 * are needed, or minus the status to answer with: -400, -414 (the request line takes more than half
 * of max_header_size), -431 (more than max_header_size or max_fields), -505. One CRLF before the
 * head is skipped and counted. Checks syntax and limits only. */
int ws__http_parse(struct ws__http_head *head, const char *bytes, size_t length,
                   size_t max_header_size);

/* After a complete parse: Host once, in HTTP/1.0 at most once (RFC 9112 3.2), and how the body is
 * framed (section 6).
 * 0, or -400 or -501. *has_body: Content-Length above 0 or chunked. */
int ws__http_check(const struct ws__http_head *head, const char *bytes, bool *has_body);

/* Returns the index of the first field called `name` (in any case) from index `from` on, or -1. */
int ws__http_find(const struct ws__http_head *head, const char *bytes, const char *name, int from);

/* A position in the list that all fields of one name form together. Zero it to begin. */
struct ws__http_list {
    int next;             /* private: index of the first field that was not begun */
    struct ws__text rest; /* private: of the field before */
};

/* Takes the next element of the comma-separated list that all fields called `name` form together
 * (RFC 9110 5.3); see ws__text_next_element. Returns false at the end. */
bool ws__http_next_element(const struct ws__http_head *head, const char *bytes, const char *name,
                           struct ws__http_list *list, struct ws__text *element);

/* Returns true if that list contains `token`, in any case. */
bool ws__http_list_has(const struct ws__http_head *head, const char *bytes, const char *name,
                       const char *token);

/* True when the connection persists after this request (RFC 9112 section 9.3). */
bool ws__http_keep_alive(const struct ws__http_head *head, const char *bytes);

/* The standard reason phrase; "Unknown" for others. */
const char *ws__http_reason(int status);

/* IMF-fixdate of a Unix time (RFC 9110 5.6.7): 29 characters and NUL. */
void ws__http_date(int64_t unix_seconds, char out[30]);

#endif
