/* SPDX-License-Identifier: MIT */
/*
 * http.c: a resumable state machine over the bytes of a request head, and the few rules of RFC 9110
 * and RFC 9112 that a server needs to read it safely: fields, lists, message framing.
 * Knows nothing of sockets, routes or WebSocket. Nothing is copied: all results are offsets.
 *
 *   START -> METHOD -> TARGET -> PATH -> QUERY -> VERSION -> LINE_LF -> FIELD -> END_LF -> DONE
 *                      TARGET -> ASTERISK -> VERSION                    FIELD -> NAME -> BLANKS
 *                      TARGET -> SCHEME -> SLASHES -> AUTHORITY         -> VALUE -> VALUE_LF
 *                                (-> PATH, QUERY or VERSION)            -> FIELD
 */
#include "http.h"
#include "words.h"

#include <string.h>

enum head_state {
    START, /* must be 0: the state of a zeroed head */
    START_LF,
    METHOD,
    TARGET,
    ASTERISK,
    SCHEME,
    SLASHES,
    AUTHORITY,
    PATH,
    QUERY,
    VERSION, /* the last state of the request line */
    LINE_LF,
    FIELD,
    NAME,
    BLANKS,
    VALUE,
    VALUE_LF,
    END_LF,
    DONE
};

/* The class of bytes that do not end a state. */
static const uint8_t plain_in[] = {
    [METHOD] = WS__TEXT_TOKEN,
    [SCHEME] = WS__TEXT_SCHEME,
    [AUTHORITY] = WS__TEXT_AUTHORITY,
    [PATH] = WS__TEXT_PATH,
    [QUERY] = WS__TEXT_QUERY,
    [NAME] = WS__TEXT_TOKEN,
    [BLANKS] = WS__TEXT_BLANK,
    [VALUE] = WS__TEXT_VALUE,
    [DONE] = 0,
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static struct ws__text text_at(const char *bytes, struct ws__span span)
{
    return (struct ws__text){bytes + span.offset, span.length};
}

/* Returns true if all bytes of a word are printable ASCII or obs-text: none is below 0x20 or is
 * 0x7f. A byte is below n <= 0x80 if subtracting n sets its top bit, which was not set before. */
static bool word_printable(const char *bytes)
{
    const size_t x = *(const ws__word *)(const void *)bytes, deletes = x ^ WS__EACH_BYTE(0x7f);
    return !((((x - WS__EACH_BYTE(0x20)) & ~x) | ((deletes - WS__EACH_BYTE(1)) & ~deletes)) &
             WS__EACH_BYTE(0x80));
}

static size_t skip_words(const char *bytes, size_t at, size_t limit)
{
    const size_t first = at + ws__word_distance(bytes + at);
    while (at < first && at < limit && (ws__text_classes[(uint8_t)bytes[at]] & WS__TEXT_VALUE))
        at++;
    if (at < first)
        return at;
    while (limit - at >= sizeof(ws__word) && word_printable(bytes + at))
        at += sizeof(ws__word);
    return at;
}

/* Returns the position of the first byte, from `at` on, that is not plain in this state. */
static size_t skip_plain(enum head_state state, const char *bytes, size_t at, size_t limit)
{
    const uint8_t class = plain_in[state];
    if (class == WS__TEXT_VALUE)
        at = skip_words(bytes, at, limit);
    while (at < limit && (ws__text_classes[(uint8_t)bytes[at]] & class))
        at++;
    return at;
}

/* Returns the position where parsing must stop: after the received bytes, or at a limit. */
static size_t limit_of(const struct ws__http_head *head, const char *bytes, size_t length,
                       size_t max_header_size)
{
    size_t limit = length < max_header_size ? length : max_header_size;
    if (head->state <= VERSION) {
        size_t line = head->method.offset + max_header_size / 2;
        if (line < limit && bytes[line] != '\r')
            limit = line;
    }
    return limit;
}

static bool method_is(const struct ws__http_head *head, const char *bytes, const char seven[8])
{
    return head->method.length == 7 && !memcmp(bytes + head->method.offset, seven, 7);
}

static int begin_target(struct ws__http_head *head, const char *bytes, uint32_t at)
{
    const char c = bytes[at];
    head->target.offset = head->path.offset = at;
    if (method_is(head, bytes, "CONNECT"))
        return -400; /* RFC 9112 3.2.3: its target is in authority-form, which is for proxies */
    if (c == '/')
        head->state = PATH;
    else if (c == '*')
        head->state = ASTERISK;
    else if (ws__text_is_letter(c))
        head->state = SCHEME;
    else
        return -400;
    return 0;
}

/* The byte c ends the target, or its path. */
static int end_target(struct ws__http_head *head, char c, uint32_t at)
{
    struct ws__span *part = head->has_query ? &head->query : &head->path;
    if (part->length == 0) /* otherwise slashes() has set the path */
        part->length = at - part->offset;
    if (c == '?' && !head->has_query) {
        head->has_query = true;
        head->query.offset = at + 1;
        head->state = QUERY;
        return 0;
    }
    if (c != ' ')
        return -400;
    head->target.length = at - head->target.offset;
    head->mark = at + 1;
    head->state = VERSION;
    return 0;
}

/* Two slashes follow the colon of the scheme. The second one also becomes the path of a target that
 * has none: "http://host" asks for "/" (RFC 9110 4.2.3). */
static int slashes(struct ws__http_head *head, char c, uint32_t at)
{
    if (c != '/')
        return -400;
    if (at == head->mark + 2) {
        head->path = (struct ws__span){at, 1};
        head->mark = at + 1;
        head->state = AUTHORITY;
    }
    return 0;
}

static int end_authority(struct ws__http_head *head, const char *bytes, uint32_t at)
{
    if (at == head->mark || bytes[head->mark] == ':')
        return -400; /* RFC 9110 4.2.1: an "http" URI "with an empty host identifier" is invalid */
    if (bytes[at] != '/')
        return end_target(head, bytes[at], at);
    head->path = (struct ws__span){at, 0};
    head->state = PATH;
    return 0;
}

/* Handles one byte of "HTTP/1.1" and the CR after it (RFC 9112 2.3). */
static int version(struct ws__http_head *head, const char *bytes, uint32_t at)
{
    static const char shape[] = "HTTP/0.0\r";
    const uint32_t i = at - head->mark;
    const char c = bytes[at];
    if (shape[i] == '0' ? !is_digit(c) : c != shape[i])
        return -400;
    if (i == 5)
        head->major = (uint8_t)(c - '0');
    if (i == 7)
        head->minor = (uint8_t)(c - '0');
    if (c != '\r')
        return 0;
    /* RFC 9112 3.2.4: "*" is for OPTIONS. Another major version, as in the preface of HTTP/2 (RFC
     * 9113 3.4: "PRI * HTTP/2.0"), is refused with 505 instead. */
    if (bytes[head->path.offset] == '*' && head->major == 1 && !method_is(head, bytes, "OPTIONS"))
        return -400;
    head->state = LINE_LF;
    return 0;
}

static int begin_field(struct ws__http_head *head, char c, uint32_t at)
{
    if (c == '\r') {
        head->state = END_LF;
        return 0;
    }
    if (!ws__text_is(WS__TEXT_TOKEN, c))
        return -400; /* among others obs-fold (RFC 9112 5.2) and an empty name */
    if (head->field_count == head->max_fields)
        return -431;
    head->fields[head->field_count].name.offset = at;
    head->state = NAME;
    return 0;
}

static int end_value(struct ws__http_head *head, const char *bytes, uint32_t at)
{
    const uint32_t start = head->fields[head->field_count].value.offset;
    if (bytes[at] != '\r')
        return -400;
    while (at > start && ws__text_is(WS__TEXT_BLANK, bytes[at - 1]))
        at--;
    head->fields[head->field_count++].value.length = at - start;
    head->state = VALUE_LF;
    return 0;
}

static int expect_lf(struct ws__http_head *head, char c, enum head_state next)
{
    if (c != '\n')
        return -400; /* RFC 9112 2.2: a bare CR is "invalid" */
    head->state = (uint8_t)next;
    return 0;
}

/* Handles the byte at `at`, which is not plain in its state. Returns 0 or minus the status. */
static int handle_byte(struct ws__http_head *head, const char *bytes, uint32_t at)
{
    struct ws__http_field *field = &head->fields[head->field_count];
    const char c = bytes[at];
    switch ((enum head_state)head->state) {
    case START:
        head->state = c == '\r' ? START_LF : METHOD;
        return c == '\r' || ws__text_is(WS__TEXT_TOKEN, c) ? 0 : -400;
    case START_LF: /* RFC 9112 2.2: a server "SHOULD ignore at least one empty line (CRLF)" */
        head->method.offset = at + 1;
        return expect_lf(head, c, METHOD);
    case METHOD:
        head->method.length = at - head->method.offset;
        head->state = TARGET;
        return c == ' ' && head->method.length ? 0 : -400;
    case TARGET:
        return begin_target(head, bytes, at);
    case ASTERISK:
        return c == ' ' ? end_target(head, c, at) : -400;
    case SCHEME:
        head->mark = at;
        head->state = SLASHES;
        return c == ':' ? 0 : -400;
    case SLASHES:
        return slashes(head, c, at);
    case AUTHORITY:
        return end_authority(head, bytes, at);
    case PATH:
    case QUERY:
        return end_target(head, c, at);
    case VERSION:
        return version(head, bytes, at);
    case LINE_LF:
        return expect_lf(head, c, FIELD);
    case FIELD:
        return begin_field(head, c, at);
    case NAME:
        field->name.length = at - field->name.offset;
        head->state = BLANKS;
        return c == ':' ? 0 : -400; /* RFC 9112 5.1: "No whitespace is allowed" before the colon */
    case BLANKS:
        field->value.offset = at;
        head->state = VALUE;
        return ws__text_is(WS__TEXT_VALUE, c) ? 0 : end_value(head, bytes, at);
    case VALUE:
        return end_value(head, bytes, at);
    case VALUE_LF:
        return expect_lf(head, c, FIELD);
    case END_LF: /* the version is checked last, after syntax and limits */
        return c == '\n' && head->major != 1 ? -505 : expect_lf(head, c, DONE);
    case DONE:
        break;
    }
    return 0;
}

int ws__http_parse(struct ws__http_head *head, const char *bytes, size_t length,
                   size_t max_header_size)
{
    while (head->state != DONE) {
        size_t limit = limit_of(head, bytes, length, max_header_size);
        const uint8_t state = head->state;
        size_t at = skip_plain((enum head_state)state, bytes, head->position, limit);
        int status;
        if (state == VERSION && at == head->mark && limit - at > 8 &&
            !memcmp(bytes + at, "HTTP/1.1", 8)) {
            head->major = head->minor = 1; /* a shortcut past the bytes before CR */
            at += 8;
        }
        head->position = (uint32_t)at;
        if (at == limit)
            return at == length ? 0 : state <= VERSION ? -414 : -431;
        status = handle_byte(head, bytes, (uint32_t)at);
        if (status) {
            head->state = state; /* so that another call returns the same status */
            return status;
        }
        head->position++;
    }
    return (int)head->position;
}

/* RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request
 * message that lacks a Host header field and to any request message that contains more than one
 * Host header field line or a Host header field with an invalid field value." A request of HTTP/1.0
 * may lack the field, and the health checks of load balancers do. */
static bool host_is_fine(const struct ws__http_head *head, const char *bytes)
{
    const int i = ws__http_find(head, bytes, "host", 0);
    if (i < 0)
        return head->minor == 0;
    if (ws__http_find(head, bytes, "host", i + 1) >= 0)
        return false;
    for (uint32_t k = 0; k < head->fields[i].value.length; k++)
        if (!ws__text_is(WS__TEXT_AUTHORITY, bytes[head->fields[i].value.offset + k]))
            return false;
    return true;
}

/* Checks that the i-th field is the only Content-Length, and an integer below 2^63 (RFC 9112 6.3).
 * A list is refused even if its numbers are equal. */
static int check_length(const struct ws__http_head *head, const char *bytes, int i,
                        uint64_t *body)
{
    const struct ws__span value = head->fields[i].value;
    uint64_t n = 0;
    for (uint32_t k = 0; k < value.length; k++) {
        const char c = bytes[value.offset + k];
        if (!is_digit(c) || n > (uint64_t)INT64_MAX / 10)
            return -400;
        n = n * 10 + (uint64_t)(c - '0');
        if (n > (uint64_t)INT64_MAX)
            return -400;
    }
    *body = n;
    return value.length && ws__http_find(head, bytes, "content-length", i + 1) < 0 ? 0 : -400;
}

/* Checks the list of transfer codings: it must end with chunked, which may occur once and has no
 * parameters (RFC 9112 6.1, 7.1). No other coding is supported. */
static int check_coding(const struct ws__http_head *head, const char *bytes)
{
    struct ws__http_list list = {0};
    struct ws__text coding;
    bool chunked = false, unknown = false, any = false;
    while (ws__http_next_element(head, bytes, "transfer-encoding", &list, &coding)) {
        const struct ws__text name = ws__text_take_token(&coding);
        if (chunked)
            return -400;
        any = true;
        chunked = ws__text_same(name.at, name.length, "chunked");
        unknown |= !chunked;
        if (!name.length || (chunked && coding.length))
            return -400;
    }
    return !any ? -400 : unknown ? -501 : 0;
}

__attribute__((cold)) int
ws__http_check(const struct ws__http_head *head, const char *bytes, uint64_t *body)
{
    const int size = ws__http_find(head, bytes, "content-length", 0);
    const int coding = ws__http_find(head, bytes, "transfer-encoding", 0);
    *body = 0;
    if (!host_is_fine(head, bytes))
        return -400;
    if (coding < 0)
        return size < 0 ? 0 : check_length(head, bytes, size, body);
    *body = WS__HTTP_CHUNKED;
    if (size >= 0 || head->minor == 0)
        return -400; /* RFC 9112 6.1: both fields, or a field that HTTP/1.0 does not have */
    return check_coding(head, bytes);
}

int ws__http_find(const struct ws__http_head *head, const char *bytes, const char *name, int from)
{
    const size_t length = strlen(name); /* few names have it, so few must be compared */
    for (int i = from; i < head->field_count; i++) {
        const struct ws__span field = head->fields[i].name;
        if (field.length == length && ws__text_same(bytes + field.offset, length, name))
            return i;
    }
    return -1;
}

bool ws__http_next_element(const struct ws__http_head *head, const char *bytes, const char *name,
                           struct ws__http_list *list, struct ws__text *element)
{
    while (!ws__text_next_element(&list->rest, element)) {
        const int i = ws__http_find(head, bytes, name, list->next);
        if (i < 0)
            return false;
        list->next = i + 1;
        list->rest = text_at(bytes, head->fields[i].value);
    }
    return true;
}

__attribute__((noinline)) bool
ws__http_list_has(const struct ws__http_head *head, const char *bytes, const char *name,
                  const char *token)
{
    struct ws__http_list list = {0};
    struct ws__text element;
    while (ws__http_next_element(head, bytes, name, &list, &element))
        if (ws__text_same(element.at, element.length, token))
            return true;
    return false;
}

bool ws__http_keep_alive(const struct ws__http_head *head, const char *bytes)
{
    if (ws__http_list_has(head, bytes, "connection", "close"))
        return false;
    return head->minor > 0 || ws__http_list_has(head, bytes, "connection", "keep-alive");
}

/* X(status, reason). The texts lie in one struct: the loader has no pointers to adjust. Those
 * that refuse or redirect an opening handshake remain with -DWS_NO_HTTP. */
#define REASONS_OF_HANDSHAKES(X)                                                                   \
    X(200, "OK")                                                                                   \
    X(301, "Moved Permanently")                                                                    \
    X(302, "Found")                                                                                \
    X(307, "Temporary Redirect")                                                                   \
    X(308, "Permanent Redirect")                                                                   \
    X(400, "Bad Request")                                                                          \
    X(401, "Unauthorized")                                                                         \
    X(403, "Forbidden")                                                                            \
    X(404, "Not Found")                                                                            \
    X(405, "Method Not Allowed")                                                                   \
    X(408, "Request Timeout")                                                                      \
    X(410, "Gone")                                                                                 \
    X(414, "URI Too Long")                                                                         \
    X(417, "Expectation Failed")                                                                   \
    X(426, "Upgrade Required")                                                                     \
    X(429, "Too Many Requests")                                                                    \
    X(431, "Request Header Fields Too Large")                                                      \
    X(500, "Internal Server Error")                                                                \
    X(501, "Not Implemented")                                                                      \
    X(502, "Bad Gateway")                                                                          \
    X(503, "Service Unavailable")                                                                  \
    X(504, "Gateway Timeout")                                                                      \
    X(505, "HTTP Version Not Supported")

#ifdef WS_NO_HTTP
#define REASONS REASONS_OF_HANDSHAKES
#else
#define OTHER_REASONS(X)                                                                           \
    X(100, "Continue")                                                                             \
    X(101, "Switching Protocols")                                                                  \
    X(102, "Processing")                                                                           \
    X(103, "Early Hints")                                                                          \
    X(201, "Created")                                                                              \
    X(202, "Accepted")                                                                             \
    X(203, "Non-Authoritative Information")                                                        \
    X(204, "No Content")                                                                           \
    X(205, "Reset Content")                                                                        \
    X(206, "Partial Content")                                                                      \
    X(207, "Multi-Status")                                                                         \
    X(208, "Already Reported")                                                                     \
    X(226, "IM Used")                                                                              \
    X(300, "Multiple Choices")                                                                     \
    X(303, "See Other")                                                                            \
    X(304, "Not Modified")                                                                         \
    X(305, "Use Proxy")                                                                            \
    X(402, "Payment Required")                                                                     \
    X(406, "Not Acceptable")                                                                       \
    X(407, "Proxy Authentication Required")                                                        \
    X(409, "Conflict")                                                                             \
    X(411, "Length Required")                                                                      \
    X(412, "Precondition Failed")                                                                  \
    X(413, "Content Too Large")                                                                    \
    X(415, "Unsupported Media Type")                                                               \
    X(416, "Range Not Satisfiable")                                                                \
    X(421, "Misdirected Request")                                                                  \
    X(422, "Unprocessable Content")                                                                \
    X(423, "Locked")                                                                               \
    X(424, "Failed Dependency")                                                                    \
    X(425, "Too Early")                                                                            \
    X(428, "Precondition Required")                                                                \
    X(451, "Unavailable For Legal Reasons")                                                        \
    X(506, "Variant Also Negotiates")                                                              \
    X(507, "Insufficient Storage")                                                                 \
    X(508, "Loop Detected")                                                                        \
    X(511, "Network Authentication Required")
#define REASONS(X) REASONS_OF_HANDSHAKES(X) OTHER_REASONS(X)
#endif

#define REASON_MEMBER(status, reason) char of_##status[sizeof reason];
#define REASON_TEXT(status, reason) reason,
#define REASON_PLACE(status, reason) {status, offsetof(struct reason_texts, of_##status)},

static const struct reason_texts {
    REASONS(REASON_MEMBER)
} reason_texts = {REASONS(REASON_TEXT)};

static const struct {
    uint16_t status, offset;
} reasons[] = {REASONS(REASON_PLACE)};

const char *ws__http_reason(int status)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return (const char *)&reason_texts + reasons[i].offset;
    return "Unknown";
}

/* Writes n with leading zeros. */
static void put_number(char *out, uint64_t n, int digits)
{
    while (digits--) {
        out[digits] = (char)('0' + n % 10);
        n /= 10;
    }
}

static bool is_leap(uint64_t year)
{
    return year % 4 == 0 && (year % 100 || year % 400 == 0);
}

static uint64_t days_in(size_t month, uint64_t year)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 1 && is_leap(year) ? 29 : days[month];
}

/* gmtime_r will not do, because time_t may have 32 bits. All numbers have one type, because a CPU
 * that cannot divide needs a function of half a kilobyte for each. */
void ws__http_date(int64_t unix_seconds, char out[30])
{
    static const int64_t latest = INT64_C(253402300799); /* the end of the year 9999 */
    const int64_t known = unix_seconds < latest ? unix_seconds : latest;
    const uint64_t seconds = (uint64_t)(known > 0 ? known : 0), time = seconds % 86400;
    const uint64_t weekday = seconds / 86400 % 7; /* 0: Thursday */
    uint64_t day = seconds / 86400, year = 1970, days;
    size_t month = 0;
    for (; day >= (days = is_leap(year) ? 366 : 365); year++)
        day -= days;
    for (; day >= (days = days_in(month, year)); month++)
        day -= days;
    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", 30);
    memcpy(out, &"ThuFriSatSunMonTueWed"[3 * weekday], 3);
    put_number(out + 5, day + 1, 2);
    memcpy(out + 8, &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month], 3);
    put_number(out + 12, year, 4);
    put_number(out + 17, time / 3600, 2);
    put_number(out + 20, time / 60 % 60, 2);
    put_number(out + 23, time % 60, 2);
}
