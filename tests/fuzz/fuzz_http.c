/* SPDX-License-Identifier: MIT */
/*
 * fuzz_http.c: request heads (RFC 9112 2 to 5), and what is made of them. The bytes are presented
 * whole, one by one and in pieces that move: the result and all offsets must be the same. Of a
 * whole head every part must lie where it may lie, and hold what it may hold.
 * limit: of the head; flags: 1 with a list of origins, 2 with one of subprotocols, 4 with room for
 * three fields.
 */
#include "fuzz.h"

#include "guard.h"
#include "handshake.h"

enum { ORIGINS = 1, PROTOCOLS = 2, FEW_FIELDS = 4, LEAST = 1024, MOST = 65536, MAX_FIELDS = 100 };

static size_t max_header(const struct fuzz_input *input)
{
    return input->limit < LEAST ? LEAST : input->limit < MOST ? input->limit : MOST;
}

/* ---- the same in every split ---- */

static bool same_span(struct ws__span a, struct ws__span b)
{
    return a.offset == b.offset && a.length == b.length;
}

static bool same_head(const struct ws__http_head *a, const struct ws__http_head *b)
{
    bool same = same_span(a->method, b->method) && same_span(a->target, b->target) &&
                same_span(a->path, b->path) && same_span(a->query, b->query) &&
                a->major == b->major && a->minor == b->minor && a->has_query == b->has_query &&
                a->field_count == b->field_count;
    for (int i = 0; same && i < a->field_count; i++)
        same = same_span(a->fields[i].name, b->fields[i].name) &&
               same_span(a->fields[i].value, b->fields[i].value);
    return same;
}

static struct ws__http_head new_head(const struct fuzz_input *input, struct ws__http_field *fields)
{
    struct ws__http_head head = {.fields = fields};
    head.max_fields = input->flags & FEW_FIELDS ? 3 : MAX_FIELDS;
    return head;
}

static int parse(struct ws__http_head *head, const struct fuzz_input *input, size_t n)
{
    return ws__http_parse(head, (const char *)guard_copy(input->data, n), n, max_header(input));
}

static void run_cut(const struct ws__http_head *whole, int want, const struct fuzz_input *input,
                    bool bytewise)
{
    struct fuzz_input cut = *input;
    struct ws__http_field fields[MAX_FIELDS];
    struct ws__http_head head = new_head(input, fields);
    size_t n = 0;
    int got = 0;
    while (!got && n < input->length) {
        n += bytewise ? 1 : fuzz_cut(&cut, input->length - n);
        got = parse(&head, input, n);
        must(got <= 0 || (size_t)got <= n, "a head of %d bytes out of %zu", got, n);
        must(!bytewise || got <= 0 || (size_t)got == n, "at %zu, not at its end %d", n, got);
    }
    must(got == want, "%d after %zu bytes, %d when whole", got, n, want);
    must(got <= 0 || same_head(whole, &head), "other offsets when split");
    must(!got || parse(&head, input, n) == got, "asked again it says something else");
}

/* ---- a whole head ---- */

static void check_span(struct ws__span span, int length, const char *what)
{
    must(span.offset <= (uint32_t)length && span.length <= (uint32_t)length - span.offset,
         "%s lies outside", what);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void check_trimmed(const char *bytes, struct ws__span span, const char *what)
{
    const char *text = bytes + span.offset;
    must(!span.length || (!is_blank(text[0]) && !is_blank(text[span.length - 1])),
         "%s is not trimmed", what);
}

static void check_fields(const struct ws__http_head *head, const char *bytes, int length)
{
    must(head->field_count <= head->max_fields, "%d fields", head->field_count);
    for (int i = 0; i < head->field_count; i++) {
        const struct ws__span name = head->fields[i].name, value = head->fields[i].value;
        check_span(name, length, "a name");
        check_span(value, length, "a value");
        check_trimmed(bytes, value, "a value");
        must(ws__text_is_token(bytes + name.offset, name.length), "a name is no token");
        must(ws__text_is_value(bytes + value.offset, value.length), "a value has CR, LF or NUL");
        must(name.offset + name.length < value.offset, "a value in front of its name");
        must(bytes[name.offset + name.length] == ':', "no colon after a name");
    }
}

static void check_line(const struct ws__http_head *head, const char *bytes, int length)
{
    check_span(head->method, length, "the method");
    check_span(head->target, length, "the target");
    check_span(head->path, length, "the path");
    check_span(head->query, length, "the query");
    must(ws__text_is_token(bytes + head->method.offset, head->method.length), "the method");
    must(head->path.length && strchr("/*", bytes[head->path.offset]), "the path");
    must(head->has_query || !head->query.length, "a query without one");
    must(head->major == 1 && head->minor <= 9, "version %d.%d", head->major, head->minor);
    must(!memcmp(bytes + length - 4, "\r\n\r\n", 4), "the head does not end with an empty line");
    for (uint32_t i = 0; i < head->target.length; i++)
        must((uint8_t)bytes[head->target.offset + i] > ' ', "a blank in the target");
}

static void check_list(const struct ws__http_head *head, const char *bytes, int length,
                       const char *name)
{
    struct ws__http_list list = {0};
    struct ws__text text;
    uint32_t before = 0;
    while (ws__http_next_element(head, bytes, name, &list, &text)) {
        const struct ws__span element = {(uint32_t)(text.at - bytes), (uint32_t)text.length};
        check_span(element, length, "an element");
        check_trimmed(bytes, element, "an element");
        must(element.length && element.offset >= before, "an element is empty, or out of order");
        before = element.offset + element.length;
    }
}

static bool is_one_of(int value, const int *values)
{
    while (*values && *values != value)
        values++;
    return *values == value;
}

/* RFC 6455 4.2.1 items 3 to 6 */
static void check_fields_of_handshake(const struct ws__http_head *head, const char *bytes)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int key = ws__http_find(head, bytes, "sec-websocket-key", 0);
    int version = ws__http_find(head, bytes, "sec-websocket-version", 0);
    must(key >= 0 && version >= 0, "a handshake without key or version");
    struct ws__span k = head->fields[key].value, v = head->fields[version].value;
    must(v.length == 2 && !memcmp(bytes + v.offset, "13", 2), "another version");
    must(k.length == 24 && !memcmp(bytes + k.offset + 22, "==", 2), "a key of %u", k.length);
    for (uint32_t i = 0; i < 22; i++)
        must(memchr(base64, bytes[k.offset + i], 64), "a key that is not base64");
    must(ws__http_list_has(head, bytes, "connection", "upgrade"), "without Connection: upgrade");
    must(!memcmp(bytes + head->method.offset, "GET ", 4), "not a GET");
}

static void check_handshake(const struct ws__http_head *head, const char *bytes, bool has_body,
                            unsigned flags)
{
    static const char *const origins[] = {"http://a.example", "http://b.example", NULL};
    static const char *const names[] = {"chat", "superchat", NULL};
    static const int statuses[] = {-400, -403, -405, -426, 0};
    const char *why = NULL, *selected;
    char accept[29];
    int status = ws__handshake_check(head, bytes, has_body, flags & ORIGINS ? origins : NULL,
                                     flags & ORIGINS, &why);
    must(is_one_of(status, statuses), "status %d", status);
    must(why && !*why == !status, "why %d?", status);
    if (status)
        return;
    must(!has_body && head->minor, "a handshake with a body, or in HTTP/1.0");
    check_fields_of_handshake(head, bytes);
    ws__handshake_accept(head, bytes, accept);
    must(strlen(accept) == 28 && accept[27] == '=', "Sec-WebSocket-Accept: %s", accept);
    selected = ws__handshake_select(head, bytes, flags & PROTOCOLS ? names : NULL);
    must(!selected || flags & PROTOCOLS, "a subprotocol out of none");
    must(!selected || ws__handshake_offered(head, bytes, selected, strlen(selected)),
         "%s was not offered", selected);
}

static void check_head(const struct ws__http_head *head, const char *bytes, int length,
                       unsigned flags)
{
    static const char *const lists[] = {"upgrade", "connection", "sec-websocket-protocol",
                                        "sec-websocket-extensions", "transfer-encoding"};
    static const int statuses[] = {-400, -501, 0};
    uint64_t body = 0;
    check_line(head, bytes, length);
    check_fields(head, bytes, length);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        check_list(head, bytes, length, lists[i]);
    int status = ws__http_check(head, bytes, &body);
    must(is_one_of(status, statuses), "status %d", status);
    must(status || !head->minor || ws__http_find(head, bytes, "host", 0) >= 0, "fine without Host");
    ws__http_keep_alive(head, bytes);
    if (!status && ws__handshake_is_upgrade(head, bytes))
        check_handshake(head, bytes, body > 0, flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {-400, -414, -431, -505, 0};
    struct fuzz_input input;
    struct ws__http_field fields[MAX_FIELDS];
    if (!fuzz_read(&input, data, size) || input.length > GUARD_SIZE)
        return 0;
    struct ws__http_head head = new_head(&input, fields);
    int length = parse(&head, &input, input.length);
    must(length > 0 || is_one_of(length, statuses), "result %d", length);
    must(length <= 0 || (size_t)length <= input.length, "longer than what is there");
    must(length <= 0 || (size_t)length <= max_header(&input), "larger than it may be");
    must(length <= 0 || head.target.length < max_header(&input) / 2, "a request line as long");
    run_cut(&head, length, &input, false);
    if (input.length < 4096) /* it is quadratic */
        run_cut(&head, length, &input, true);
    if (length > 0)
        check_head(&head, (const char *)guard_copy(input.data, (size_t)length), length,
                   input.flags);
    return 0;
}
