/* SPDX-License-Identifier: MIT */
/*
 * fuzz_record.c: what members of a local bus send each other, see csrc/record.h. The bytes are a
 * stream of records, which is read in one datagram and cut into many: the records must be the same.
 * They are also read as datagrams, each after a byte of length, and while allocations fail: no
 * record may be more than the bytes that arrived.
 * flags: 1 the second way, with the head of each datagram in the bytes as well; options: which
 * allocation fails, 0 none.
 */
#include "fuzz.h"

#include "guard.h"
#include "record.h"

enum { RAW = 1, MOST = 60000 };

/* What was read, as bytes. */
struct log {
    char bytes[MOST];
    size_t n;
    int result; /* that ended it */
};

/* A record that was read is written as it was. */
static void keep(struct log *log, const struct ws__record *record)
{
    size_t size = ws__record_size(record);
    must(size <= sizeof log->bytes - log->n, "a record of %zu bytes", size);
    ws__record_write(log->bytes + log->n, record);
    log->n += size;
}

static void read_datagram(struct ws__record_stream *stream, struct ws__memory *memory,
                          const struct ws__datagram *head, struct ws__input *in, struct log *log)
{
    struct ws__record record;
    ws__record_stream_begin(stream, memory, head, in);
    do {
        log->result = ws__record_stream_next(stream, memory, in, &record);
        if (log->result > 0)
            keep(log, &record);
    } while (log->result > 0);
    must(!in->length, "%zu bytes are left", in->length);
}

/* Where the first record begins in a part of the stream: as the sender counts it. */
static size_t next_start(const char *stream, size_t n, size_t at)
{
    struct ws__record record;
    int result = at < n ? ws__record_read(stream + at, n - at, &record) : 0;
    return result > 0 ? at + ws__record_size(&record) : n;
}

static void read_cut(const struct fuzz_input *input, bool whole, struct log *log)
{
    struct fuzz_input cut = *input;
    struct fuzz_memory m;
    struct ws__record_stream stream = {0};
    size_t start = 0; /* of the next record */
    fuzz_memory_init(&m, 0);
    log->n = 0;
    log->result = 0;
    uint32_t sequence = 0;
    for (size_t at = 0; at < input->length && log->result >= 0;) {
        size_t n = whole ? input->length : fuzz_cut(&cut, input->length - at);
        size_t first = start - at < n ? start - at : n;
        struct ws__datagram head = {1, 1, 1, sequence++, (uint32_t)first};
        struct ws__input in = {(char *)guard_copy(input->data + at, n), n};
        read_datagram(&stream, &m.memory, &head, &in, log);
        at += n;
        while (start < at)
            start = next_start((const char *)input->data, input->length, start);
    }
    must(log->result < 0 || log->n <= input->length, "more than there was");
    ws__record_stream_clear(&stream, &m.memory);
    must(!m.held && !m.memory.used, "%zu bytes are left", m.held);
}

static void read_raw(const struct fuzz_input *input, struct log *log)
{
    struct fuzz_memory m;
    struct ws__record_stream stream = {0};
    fuzz_memory_init(&m, input->options);
    log->n = 0;
    for (size_t at = 0; at < input->length;) {
        size_t n = input->data[at++];
        struct ws__datagram head;
        n = n < input->length - at ? n : input->length - at;
        struct ws__input in = {(char *)guard_copy(input->data + at, n), n};
        at += n;
        if (ws__record_read_head(&head, &in))
            read_datagram(&stream, &m.memory, &head, &in, log);
        must(log->n <= at, "more than there was");
        must(ws__buffer_length(stream.partial) <= at, "a part is more than there was");
    }
    ws__record_stream_clear(&stream, &m.memory);
    must(!m.held && !m.memory.used, "%zu bytes are left", m.held);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct log whole, cut;
    struct fuzz_input input;
    if (!fuzz_read(&input, data, size) || input.length > MOST)
        return 0;
    if (input.flags & RAW) {
        read_raw(&input, &whole);
        return 0;
    }
    read_cut(&input, true, &whole);
    read_cut(&input, false, &cut);
    must(whole.n == cut.n && !memcmp(whole.bytes, cut.bytes, whole.n), "another record when cut");
    must(!memcmp(whole.bytes, input.data, whole.n), "not the bytes that were sent");
    return 0;
}
