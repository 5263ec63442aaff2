/* SPDX-License-Identifier: MIT */
/*
 * fuzz_body.c: bodies of requests (RFC 9112 6 and 7.1). The bytes are read whole, one by one and in
 * pieces that move: content, result and what is left over must be the same. What is read is at most
 * what was announced, and a body that was read to its end, written anew as one chunk, has the same
 * content.
 * limit: of the content; flags: 1 a body of a length (options, 4 KiB each at most), 2 a short limit
 * for trailers.
 */
#include "fuzz.h"

#include "body.h"
#include "guard.h"

#include <stdio.h>

enum { LENGTH = 1, SHORT_TRAILERS = 2 };

static struct reading {
    int result;
    size_t used, length;
    uint8_t content[GUARD_SIZE];
} whole, cut;

static void begin(struct reading *r, struct ws__body *body, const struct fuzz_input *input)
{
    r->result = WS__BODY_MORE;
    r->used = r->length = 0;
    ws__body_init(body, input->flags & LENGTH ? input->options * 16 : WS__HTTP_CHUNKED,
                  input->limit, input->flags & SHORT_TRAILERS ? 16 : 1024);
    if (ws__body_ended(body))
        r->result = WS__BODY_LAST;
}

/* Reads the next n bytes. */
static void feed(struct reading *r, struct ws__body *body, const struct fuzz_input *input, size_t n)
{
    struct ws__input in = {(char *)guard_copy(input->data + r->used, n), n};
    const char *data = NULL;
    size_t length = 0;
    do {
        const size_t before = in.length;
        r->result = ws__body_next(body, &in, &data, &length);
        must(r->result >= 0 || ws__body_next(body, &in, &data, &length) == r->result,
             "asked again it says something else");
        if (r->result != WS__BODY_PIECE && r->result != WS__BODY_LAST)
            break;
        must(length <= before && r->length + length <= input->limit, "more than the limit");
        must(r->result == WS__BODY_LAST || length, "an empty piece");
        memcpy(r->content + r->length, data, length);
        r->length += length;
    } while (r->result == WS__BODY_PIECE && in.length);
    must(r->result != WS__BODY_MORE || !in.length, "%zu bytes are left", in.length);
    must((r->result == WS__BODY_LAST) == ws__body_ended(body), "an end that is none");
    r->used += n - in.length;
    if (r->result == WS__BODY_PIECE)
        r->result = WS__BODY_MORE;
}

static void run(struct reading *r, struct fuzz_input input, bool bytewise, bool in_one)
{
    struct ws__body body;
    begin(r, &body, &input);
    while (r->result == WS__BODY_MORE && r->used < input.length) {
        const size_t left = input.length - r->used;
        feed(r, &body, &input, in_one ? left : bytewise ? 1 : fuzz_cut(&input, left));
    }
}

static void must_be_the_same(void)
{
    must(whole.result == cut.result, "%d when split, %d when whole", cut.result, whole.result);
    must(whole.used == cut.used, "%zu bytes used when split, %zu when whole", cut.used, whole.used);
    must(whole.length == cut.length && !memcmp(whole.content, cut.content, cut.length),
         "other content when split");
}

static void write_anew(void)
{
    static uint8_t bytes[GUARD_SIZE + 64];
    size_t n = whole.length ? (size_t)sprintf((char *)bytes, "%zx\r\n", whole.length) : 0;
    memcpy(bytes + n, whole.content, whole.length);
    n += whole.length;
    n += (size_t)sprintf((char *)bytes + n, whole.length ? "\r\n0\r\n\r\n" : "0\r\n\r\n");
    if (n > GUARD_SIZE)
        return;
    const struct fuzz_input again = {.limit = whole.length, .data = bytes, .length = n};
    run(&cut, again, false, true);
    must(cut.result == WS__BODY_LAST && cut.used == n && cut.length == whole.length &&
             !memcmp(cut.content, whole.content, cut.length),
         "written anew it is another body");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_read(&input, data, size) || input.length > GUARD_SIZE)
        return 0;
    run(&whole, input, false, true);
    must(whole.result == WS__BODY_MORE || whole.result == WS__BODY_LAST || whole.result == -400 ||
             whole.result == -413 || whole.result == -431,
         "result %d", whole.result);
    run(&cut, input, false, false);
    must_be_the_same();
    run(&cut, input, true, false);
    must_be_the_same();
    if (whole.result == WS__BODY_LAST)
        write_anew();
    return 0;
}
