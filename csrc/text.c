/* SPDX-License-Identifier: MIT */
/*
 * text.c: one table of character classes, and the grammars of RFC 9110 section 5.6 on top of it.
 * Knows nothing of requests or fields. Nothing is copied: all results point into the text.
 */
#include "text.h"

const uint8_t ws__text_classes[256] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x42, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x42, 0x1f, 0x0e, 0x03, 0x1f, 0x1f, 0x1f, 0x1f, 0x1e, 0x1e, 0x1f, 0x3f, 0x1e, 0x3f, 0x3f, 0x0e,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x1e, 0x1e, 0x0e, 0x1e, 0x0e, 0x0a,
    0x0e, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x1e, 0x0e, 0x1e, 0x0f, 0x1f,
    0x0f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x0e, 0x0f, 0x0e, 0x1f, 0x00,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
    0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02, 0x02,
};

bool ws__text_same(const char *text, size_t length, const char *other)
{
    size_t i = 0;
    while (i < length && other[i] && ws__text_lower(text[i]) == ws__text_lower(other[i]))
        i++;
    return i == length && !other[i];
}

bool ws__text_is_token(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length && ws__text_is(WS__TEXT_TOKEN, text[i]))
        i++;
    return length > 0 && i == length;
}

int ws__text_number(const char *text, size_t length, int max)
{
    int number = 0;
    if (!length || (length > 1 && *text == '0'))
        return -1;
    for (size_t i = 0; i < length; i++) {
        const int digit = text[i] - '0';
        if (digit < 0 || digit > 9 || number > (max - digit) / 10)
            return -1;
        number = number * 10 + digit;
    }
    return number <= max ? number : -1;
}

bool ws__text_is_value(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
            return false;
    return true;
}

static void skip(struct ws__text *in, size_t n)
{
    in->at += n;
    in->length -= n;
}

static void skip_blanks(struct ws__text *in)
{
    while (in->length && ws__text_is(WS__TEXT_BLANK, *in->at))
        skip(in, 1);
}

bool ws__text_skip(struct ws__text *in, char c)
{
    skip_blanks(in);
    if (!in->length || *in->at != c)
        return false;
    skip(in, 1);
    return true;
}

size_t ws__text_quoted_length(const struct ws__text *in)
{
    for (size_t i = 1; i < in->length; i++) {
        if (in->at[i] == '"')
            return i + 1;
        if (in->at[i] == '\\')
            i++;
    }
    return 0;
}

/* Returns the length up to the comma that ends the first element. A quoted string without an end
 * takes the rest of the list. */
static size_t element_length(struct ws__text list)
{
    const char *start = list.at;
    while (list.length && *list.at != ',') {
        size_t quoted = *list.at == '"' ? ws__text_quoted_length(&list) : 1;
        skip(&list, quoted ? quoted : list.length);
    }
    return (size_t)(list.at - start);
}

bool ws__text_next_element(struct ws__text *list, struct ws__text *element)
{
    while (list->length) {
        *element = (struct ws__text){list->at, element_length(*list)};
        skip(list, element->length);
        ws__text_skip(list, ',');
        skip_blanks(element);
        while (element->length && ws__text_is(WS__TEXT_BLANK, element->at[element->length - 1]))
            element->length--;
        if (element->length)
            return true;
    }
    return false;
}

struct ws__text ws__text_take_token(struct ws__text *in)
{
    skip_blanks(in);
    struct ws__text token = {in->at, 0};
    while (token.length < in->length && ws__text_is(WS__TEXT_TOKEN, in->at[token.length]))
        token.length++;
    skip(in, token.length);
    return token;
}

/* RFC 6455 9.1: "When using the quoted-string syntax variant, the value after quoted-string
 * unescaping MUST conform to the 'token' ABNF." */
static bool take_quoted_token(struct ws__text *in, struct ws__text *value)
{
    const size_t length = ws__text_quoted_length(in);
    if (length <= 2)
        return false;
    *value = (struct ws__text){in->at + 1, length - 2};
    skip(in, length);
    for (struct ws__text rest = *value; rest.length;)
        if (!ws__text_is(WS__TEXT_TOKEN, ws__text_take_unescaped(&rest)))
            return false;
    return true;
}

static bool take_value(struct ws__text *in, struct ws__text *value)
{
    skip_blanks(in);
    if (in->length && *in->at == '"')
        return take_quoted_token(in, value);
    *value = ws__text_take_token(in);
    return value->length;
}

int ws__text_next_parameter(struct ws__text *in, struct ws__text_parameter *parameter)
{
    skip_blanks(in);
    if (!in->length)
        return 0;
    if (!ws__text_skip(in, ';'))
        return -1;
    *parameter = (struct ws__text_parameter){.name = ws__text_take_token(in)};
    if (!parameter->name.length)
        return -1;
    return !ws__text_skip(in, '=') || take_value(in, &parameter->value) ? 1 : -1;
}

char ws__text_take_unescaped(struct ws__text *quoted)
{
    if (*quoted->at == '\\' && quoted->length > 1)
        skip(quoted, 1);
    const char c = *quoted->at;
    skip(quoted, 1);
    return c;
}
