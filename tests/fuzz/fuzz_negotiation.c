/* SPDX-License-Identifier: MIT */
/*
 * fuzz_negotiation.c: Sec-WebSocket-Extensions (RFC 6455 9.1, RFC 7692 5 and 7.1). The bytes are
 * judged as one offer, and, a line for each header field, in an opening handshake. A lexer of the
 * grammar says which offer is to be taken; of the answer all that RFC 7692 asks for is checked.
 * options: one of the 90 pairs of compressor and decompressor; flags: 1 odd case of the field name.
 */
#include "fuzz.h"

#include "deflate.h"
#include "guard.h"
#include "handshake.h"

#include <ctype.h>
#include <strings.h>

enum { ODD_CASE = 1, MOST_LINES = 80, MOST_BYTES = 60000, REQUEST = 65536 };

static const unsigned compressors[] = {0, 1, 145, 146, 163, 180, 197, 214, 231, 248};
static const unsigned decompressors[] = {0, 256, 2304, 2560, 2816, 3072, 3328, 3584, 3840};

/* ---- the grammar: "," separates offers, ";" parameters ---- */

enum { END = 0, BAD = 1, TOKEN = 2, QUOTED = 3 }; /* or a character of ",;=" */

struct lexer {
    const char *at, *end;
    int kind;
    char text[40]; /* of a token, cut; of what is quoted, unescaped */
};

static bool is_token_character(char c)
{
    return c && (isalnum((unsigned char)c) || strchr("!#$%&'*+-.^_`|~", c)) && !((uint8_t)c >> 7);
}

static void keep(struct lexer *l, size_t *n, char c)
{
    if (*n + 1 < sizeof l->text)
        l->text[(*n)++] = c;
    l->text[*n] = '\0';
}

static int lex_token(struct lexer *l)
{
    size_t n = 0;
    for (; l->at < l->end && is_token_character(*l->at); l->at++)
        keep(l, &n, *l->at);
    return n ? TOKEN : BAD;
}

/* RFC 6455 9.1: unescaped, it must be a token. */
static int lex_quoted(struct lexer *l)
{
    size_t n = 0;
    for (l->at++; l->at < l->end && *l->at != '"'; l->at++) {
        if (*l->at == '\\' && ++l->at == l->end)
            return BAD;
        if (!is_token_character(*l->at))
            return BAD;
        keep(l, &n, *l->at);
    }
    if (l->at == l->end || !n)
        return BAD;
    l->at++;
    return QUOTED;
}

static int advance(struct lexer *l)
{
    while (l->at < l->end && (*l->at == ' ' || *l->at == '\t'))
        l->at++;
    if (l->at == l->end)
        l->kind = END;
    else if (*l->at == ',' || *l->at == ';' || *l->at == '=')
        l->kind = *l->at++;
    else
        l->kind = *l->at == '"' ? lex_quoted(l) : lex_token(l);
    return l->kind;
}

/* ---- which offers fit ---- */

enum { SERVER_NO, CLIENT_NO, SERVER_BITS, CLIENT_BITS, PARAMETERS };
enum { ABSENT = -1, BARE = 0 }; /* or 8 to 15 */

struct offer {
    bool fits;
    int values[PARAMETERS];
};

static int bits_of(const char *text)
{
    static const char *const all[] = {"8", "9", "10", "11", "12", "13", "14", "15"};
    int i = 0;
    while (i < 8 && strcmp(text, all[i]) != 0)
        i++;
    return i < 8 ? 8 + i : ABSENT;
}

/* value: NULL where there is none. */
static void take_parameter(struct offer *o, const char *name, const char *value)
{
    static const char *const names[] = {"server_no_context_takeover", "client_no_context_takeover",
                                        "server_max_window_bits", "client_max_window_bits"};
    int i = 0;
    while (i < PARAMETERS && strcasecmp(name, names[i]) != 0)
        i++;
    if (i == PARAMETERS || o->values[i] != ABSENT) {
        o->fits = false;
        return;
    }
    o->values[i] = value ? bits_of(value) : BARE;
    bool may_have_none = i != SERVER_BITS, may_have_one = i >= SERVER_BITS;
    o->fits &= value ? may_have_one && o->values[i] != ABSENT : may_have_none;
    o->fits &= i != SERVER_BITS || o->values[i] != 8; /* zlib cannot */
}

/* One element, up to its comma or the end. False: malformed. */
static bool read_offer(struct lexer *l, struct offer *o)
{
    char name[sizeof l->text];
    *o = (struct offer){l->kind == TOKEN && !strcasecmp(l->text, "permessage-deflate"),
                        {ABSENT, ABSENT, ABSENT, ABSENT}};
    if (l->kind != TOKEN)
        return false;
    advance(l);
    while (l->kind == ';') {
        if (advance(l) != TOKEN)
            return false;
        memcpy(name, l->text, sizeof name);
        bool has_value = advance(l) == '=';
        if (has_value && advance(l) != TOKEN && l->kind != QUOTED)
            return false;
        take_parameter(o, name, has_value ? l->text : NULL);
        if (has_value)
            advance(l);
    }
    return l->kind == ',' || l->kind == END;
}

/* One field's value. The first offer that fits stays in *chosen. False: malformed. */
static bool read_list(const char *text, size_t n, struct offer *chosen)
{
    struct lexer l = {.at = text, .end = text + n};
    struct offer o;
    advance(&l);
    while (l.kind != END) {
        if (l.kind == ',') { /* an empty element */
            advance(&l);
            continue;
        }
        if (!read_offer(&l, &o))
            return false;
        if (o.fits && !chosen->fits)
            *chosen = o;
    }
    return true;
}

/* ---- what was agreed ---- */

static void check_client(const struct ws__deflate_terms *t, const struct offer *o,
                         const struct offer *answer, unsigned decompressor)
{
    int offered = o->values[CLIENT_BITS], told = answer->values[CLIENT_BITS];
    int used = offered >= 8 ? offered : 15;
    must(t->client_no_context == (answer->values[CLIENT_NO] == BARE), "client_no_context");
    must(t->client_no_context == (o->values[CLIENT_NO] == BARE || decompressor < 2),
         "client_no_context_takeover is not what both want");
    must(told == ABSENT || (offered != ABSENT && told <= used), "client_max_window_bits=%d", told);
    must(t->client_bits == (told == ABSENT ? used : told), "the client's window is %d",
         t->client_bits);
    must(offered == ABSENT || t->client_no_context || t->client_bits <= (int)decompressor,
         "a window of %d for a decompressor of %u", t->client_bits, decompressor);
}

static void check_server(const struct ws__deflate_terms *t, const struct offer *o,
                         const struct offer *answer, unsigned compressor)
{
    int offered = o->values[SERVER_BITS], told = answer->values[SERVER_BITS];
    bool isolated = o->values[SERVER_NO] == BARE || compressor < 2;
    must(t->server_no_context == (answer->values[SERVER_NO] == BARE), "server_no_context");
    must(t->server_no_context == isolated, "server_no_context_takeover is not what both want");
    must((told == ABSENT) == (offered == ABSENT) && told <= offered, "server_max_window_bits=%d",
         told);
    must(t->server_bits >= 9, "our window is %d", t->server_bits);
    must(offered == ABSENT || t->server_bits == told, "our window is %d", t->server_bits);
    must(isolated || t->server_bits <= compressor >> 4, "our window is %d", t->server_bits);
    must(t->memory_level == (isolated ? 8 : compressor & 15), "memory level %d", t->memory_level);
}

static void check_terms(const struct ws__deflate_terms *t, const struct offer *o, unsigned options)
{
    char answer[WS__DEFLATE_ANSWER_MAX], again[WS__DEFLATE_ANSWER_MAX];
    struct ws__deflate_terms same;
    struct offer told = {0};
    size_t n = ws__deflate_answer(t, answer);
    must(n == strlen(answer) && n < sizeof answer, "an answer of %zu", n);
    must(read_list(answer, n, &told) && told.fits && !strchr(answer, ','), "answers %s", answer);
    check_server(t, o, &told, options & 255);
    check_client(t, o, &told, options >> 8);
    /* What we answered, offered, is answered with the same. */
    must(ws__deflate_accept(answer, n, options, &same), "declines its own answer %s", answer);
    ws__deflate_answer(&same, again);
    must(!strcmp(answer, again), "answers %s with %s", answer, again);
}

/* ---- two levels ---- */

static void judge_offer(const struct fuzz_input *input, unsigned options)
{
    const char *text = (const char *)input->data;
    struct offer wanted = {0};
    struct ws__deflate_terms t = {.memory_level = 15};
    bool fits = !memchr(text, ',', input->length) && read_list(text, input->length, &wanted) &&
                wanted.fits && options;
    bool got = ws__deflate_accept((const char *)guard_copy(text, input->length), input->length,
                                  options, &t);
    must(got == fits, "one offer: %d, not %d", got, fits);
    must(got || t.memory_level == 15, "declined, but the terms were changed");
    if (got)
        check_terms(&t, &wanted, options);
}

struct request {
    char bytes[REQUEST];
    size_t n;
    bool printable, malformed; /* what is to come of it */
    struct offer wanted;
};

static void put(struct request *r, const char *text, size_t n)
{
    memcpy(r->bytes + r->n, text, n);
    r->n += n;
}

static void put_line(struct request *r, const char *text, size_t n, unsigned flags)
{
    const char *name =
        flags & ODD_CASE ? "SEC-webSocket-eXtensions:" : "Sec-WebSocket-Extensions: ";
    put(r, name, strlen(name));
    put(r, text, n);
    put(r, "\r\n", 2);
    for (size_t i = 0; i < n; i++) /* RFC 9110 5.5 */
        r->printable &= ((uint8_t)text[i] >= ' ' && text[i] != 0x7f) || text[i] == '\t';
    r->malformed |= !read_list(text, n, &r->wanted);
}

static void build(struct request *r, const struct fuzz_input *input)
{
    static const char start[] = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const char *at = (const char *)input->data, *end = at + input->length;
    r->n = 0;
    r->printable = true;
    r->malformed = false;
    r->wanted = (struct offer){0};
    put(r, start, sizeof start - 1);
    for (int i = 0; i < MOST_LINES && at < end; i++) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((line_end ? line_end : end) - at);
        put_line(r, at, n, input->flags);
        at += n + (line_end != NULL);
    }
    put(r, "\r\n", 2);
}

static void judge_request(const struct fuzz_input *input, unsigned options)
{
    static struct request r;
    static struct ws__http_field fields[100];
    static struct ws__http_head head;
    struct ws__deflate_terms t;
    const char *why;
    uint64_t body;
    build(&r, input);
    const char *bytes = (const char *)guard_copy(r.bytes, r.n);
    head = (struct ws__http_head){.fields = fields, .max_fields = 100};
    int length = ws__http_parse(&head, bytes, r.n, REQUEST);
    must(length == (r.printable ? (int)r.n : -400), "a head of %d bytes", length);
    if (length < 0)
        return;
    must(!ws__http_check(&head, bytes, &body) && !body, "refused before the handshake");
    int status = ws__handshake_check(&head, bytes, body > 0, NULL, false, &why);
    must(status == (r.malformed ? -400 : 0), "status %d: %s", status, why);
    if (status)
        return;
    bool got = ws__handshake_deflate(&head, bytes, options, &t);
    must(got == (r.wanted.fits && options), "all offers: %d, not %d", got, !got);
    if (got)
        check_terms(&t, &r.wanted, options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_read(&input, data, size) || input.length > MOST_BYTES)
        return 0;
    unsigned options = compressors[input.options % 10] | decompressors[input.options / 10 % 9];
    must(ws__deflate_options_valid(options), "%u is invalid", options);
    judge_offer(&input, options);
    judge_request(&input, options);
    return 0;
}
