/* SPDX-License-Identifier: MIT */
/*
 * text.h: the characters and small grammars that header fields are made of (RFC 9110 section 5.6):
 * case, tokens, lists, parameters and quoted strings. A leaf; knows nothing of requests or fields.
 */
#ifndef WS__TEXT_H
#define WS__TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits of ws__text_classes. */
enum ws__text_class {
    WS__TEXT_TOKEN = 0x01,     /* tchar (RFC 9110 5.6.2) */
    WS__TEXT_VALUE = 0x02,     /* field-content (RFC 9110 5.5): tab, SP, VCHAR, obs-text */
    WS__TEXT_PATH = 0x04,      /* VCHAR except "?" and "#" */
    WS__TEXT_QUERY = 0x08,     /* VCHAR except "#" */
    WS__TEXT_AUTHORITY = 0x10, /* authority (RFC 3986 3.2) without userinfo (RFC 9110 4.2.4) */
    WS__TEXT_SCHEME = 0x20,    /* scheme (RFC 3986 3.1) */
    WS__TEXT_BLANK = 0x40      /* SP and tab, of which OWS is made (RFC 9110 5.6.3) */
};

/* The classes that each byte belongs to. */
extern const uint8_t ws__text_classes[256];

static inline bool ws__text_is(enum ws__text_class class, char c)
{
    return ws__text_classes[(uint8_t)c] & class;
}

/* Returns the lower-case form of an ASCII letter, and any other byte as it is. The locale of the
 * process has no influence. */
static inline char ws__text_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool ws__text_is_letter(char c)
{
    return ws__text_lower(c) >= 'a' && ws__text_lower(c) <= 'z';
}

/* Returns true if text[length] equals `other` (NUL-terminated), ignoring the case of ASCII
 * letters. */
bool ws__text_same(const char *text, size_t length, const char *other);

/* Returns true if text[length] is a token (RFC 9110 5.6.2), which is never empty. */
bool ws__text_is_token(const char *text, size_t length);

/* Returns the decimal number text[length], which has digits alone and no leading zero; -1 for any
 * other text, and for a number above `max`. */
int ws__text_number(const char *text, size_t length, int max);

/* Returns true if text[length] can be sent as a field value (RFC 9110 5.5): it has no control
 * character but HTAB. */
bool ws__text_is_value(const char *text, size_t length);

/* A piece of text. The functions below that take from it move its start. */
struct ws__text {
    const char *at;
    size_t length;
};

/* Takes blanks, and the character c if it follows them. Returns false if another one does. */
bool ws__text_skip(struct ws__text *in, char c);

/* Returns the length of the quoted string (RFC 9110 5.6.4) at the start of the text, quotes
 * included, or 0 if it has no end. */
size_t ws__text_quoted_length(const struct ws__text *in);

/* Takes the next element of a comma-separated list (RFC 9110 5.6.1) and trims it. Skips empty
 * elements. A comma inside a quoted string does not separate. Returns false at the end. */
bool ws__text_next_element(struct ws__text *list, struct ws__text *element);

/* Takes a token, after any blanks. It is empty if no character of a token follows. */
struct ws__text ws__text_take_token(struct ws__text *in);

/* A parameter of an extension (RFC 6455 9.1). */
struct ws__text_parameter {
    struct ws__text name;
    struct ws__text value; /* at is NULL without a value; for ws__text_take_unescaped */
};

/* Takes ";", a name, and, if "=" follows, a value: a token, or a quoted string (RFC 9110 5.6.4)
 * that holds one. Returns 1, 0 at the end of the text, or -1 if the text is malformed. */
int ws__text_next_parameter(struct ws__text *in, struct ws__text_parameter *parameter);

/* Takes one character of the inside of a quoted string; a quoted pair counts as the character after
 * its backslash. The string must not be empty. */
char ws__text_take_unescaped(struct ws__text *quoted);

#endif
