/* SPDX-License-Identifier: MIT */
/*
 * fake_tls.c: see fake_tls.h.
 */
#include "fake_tls.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MASK = 0x5a, CLOSE_NOTIFY = 0, FATAL = 40 };

struct fake_tls fake_tls;

/* ---- records ---- */

static void mask(char *to, const char *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)(from[i] ^ MASK);
}

size_t fake_record(char *out, int type, const void *bytes, size_t n)
{
    out[0] = (char)type;
    out[1] = (char)(n >> 8);
    out[2] = (char)n;
    mask(out + FAKE_HEAD, bytes, n);
    return FAKE_HEAD + n;
}

static size_t content_length(const char *record)
{
    return (size_t)(unsigned char)record[1] << 8 | (unsigned char)record[2];
}

/* ---- the server's side ---- */

struct session {
    atomic_int *count;
    char record[FAKE_RECORD_MAX]; /* what has arrived of one */
    size_t have;
    size_t next, end;     /* its content that is not handed over */
    size_t flight;        /* bytes of content that are still to be sent */
    size_t answers;       /* to FAKE_UPDATE, due */
    enum { HELLO, FLIGHT, FINISH, TICKET, SHAKEN, CLOSING, FAILED } state;
    bool ended; /* an alert has come */
    const char *why;
};

static void begin_call(const char *name)
{
    if (fake_tls.hook)
        fake_tls.hook(name);
}

static bool fails(atomic_uint *count, unsigned at)
{
    return atomic_fetch_add(count, 1) + 1 == at;
}

static void *fake_open(void *context)
{
    begin_call("open");
    if (fake_tls.fail_open == (unsigned)atomic_fetch_add(&fake_tls.opened, 1) + 1)
        return NULL;
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->flight = fake_tls.flight ? fake_tls.flight : 1000;
    s->count = context;
    atomic_fetch_add(s->count, 1);
    return s;
}

/* Appends one record, as long as there is room; returns false if there is none. */
static bool append(ws_tls_wire *wire, int type, const char *bytes, size_t n)
{
    if (wire->out_size - wire->out_length < FAKE_HEAD + n)
        return false;
    wire->out_length += fake_record(wire->out + wire->out_length, type, bytes, n);
    return true;
}

static int fail(struct session *s, ws_tls_wire *wire, const char *why)
{
    const char alert = FATAL;
    append(wire, FAKE_ALERT, &alert, 1);
    s->state = FAILED;
    s->why = why;
    return WS_TLS_FAILED;
}

/* Returns true once a record is whole. Takes no more than it needs. */
static bool collect(struct session *s, ws_tls_wire *wire)
{
    for (;;) {
        const size_t all = s->have < FAKE_HEAD ? FAKE_HEAD : FAKE_HEAD + content_length(s->record);
        const size_t need = all > sizeof s->record ? 0 : all - s->have;
        const size_t n = need < wire->in_length ? need : wire->in_length;
        if (!need)
            return s->have >= FAKE_HEAD;
        if (!n)
            return false;
        memcpy(s->record + s->have, wire->in, n);
        s->have += n;
        wire->in += n;
        wire->in_length -= n;
        if (s->have == FAKE_HEAD && !content_length(s->record))
            return true;
    }
}

static bool is_record(const struct session *s, int type)
{
    return s->record[0] == type && content_length(s->record) <= 16384;
}

static int send_flight(struct session *s, ws_tls_wire *wire)
{
    char bytes[1000] = {0};
    while (s->flight) {
        const size_t n = s->flight < sizeof bytes ? s->flight : sizeof bytes;
        if (!append(wire, FAKE_HANDSHAKE, bytes, n))
            return WS_TLS_MORE;
        s->flight -= n;
    }
    s->state = FINISH;
    return WS_TLS_MORE;
}

static int fake_handshake(void *session, ws_tls_wire *wire)
{
    struct session *s = session;
    begin_call("handshake");
    fake_tls.misused += s->state >= SHAKEN;
    if (fails(&fake_tls.handshakes, fake_tls.fail_handshake))
        return fail(s, wire, "as the test wants it");
    for (;;) {
        if (s->state == FLIGHT)
            return send_flight(s, wire);
        if (s->have && s->record[0] != FAKE_HANDSHAKE && s->record[0] != FAKE_ALERT)
            return fail(s, wire, "no handshake");
        if (!collect(s, wire))
            return s->have && s->record[0] != FAKE_HANDSHAKE && s->record[0] != FAKE_ALERT
                       ? fail(s, wire, "no handshake")
                       : WS_TLS_MORE;
        s->have = 0;
        if (is_record(s, FAKE_ALERT))
            return WS_TLS_CLOSED;
        if (!is_record(s, FAKE_HANDSHAKE) || !content_length(s->record))
            return fail(s, wire, "no handshake");
        if (s->state == HELLO) {
            s->state = FLIGHT;
        } else {
            append(wire, FAKE_HANDSHAKE, "ticket", 6);
            s->state = SHAKEN;
            return WS_TLS_DONE;
        }
    }
}

static void answer_updates(struct session *s, ws_tls_wire *wire)
{
    static const char zeros[16384];
    const size_t n = fake_tls.answer ? fake_tls.answer : 1;
    while (s->answers && append(wire, FAKE_UPDATE, zeros, n))
        s->answers--;
}

/* The next record. Returns DONE if there may be content. */
static int read_record(struct session *s, ws_tls_wire *wire)
{
    if (!collect(s, wire))
        return WS_TLS_MORE;
    s->have = 0;
    if (content_length(s->record) > 16384)
        return fail(s, wire, "a record is too long");
    switch (s->record[0]) {
    case FAKE_DATA:
        s->next = FAKE_HEAD;
        s->end = FAKE_HEAD + content_length(s->record);
        mask(s->record + s->next, s->record + s->next, s->end - s->next);
        return WS_TLS_DONE;
    case FAKE_UPDATE:
        s->answers++;
        answer_updates(s, wire);
        return s->answers ? WS_TLS_MORE : WS_TLS_DONE;
    case FAKE_ALERT:
        s->ended = true;
        return (s->record[FAKE_HEAD] ^ MASK) == CLOSE_NOTIFY
                   ? WS_TLS_CLOSED
                   : fail(s, wire, "the peer has sent an alert");
    default:
        return fail(s, wire, "no record of this type");
    }
}

static int fake_read(void *session, ws_tls_wire *wire, char *bytes, size_t n, size_t *got)
{
    struct session *s = session;
    begin_call("read");
    fake_tls.misused += s->state < SHAKEN || s->state == FAILED || s->ended || *got || !n;
    if (fails(&fake_tls.reads, fake_tls.fail_read))
        return fail(s, wire, "as the test wants it");
    if (fake_tls.keeps_input)
        return WS_TLS_MORE;
    if (fake_tls.empty)
        return WS_TLS_DONE;
    answer_updates(s, wire);
    if (s->answers)
        return WS_TLS_MORE;
    while (s->next == s->end) {
        const int result = read_record(s, wire);
        if (result != WS_TLS_DONE)
            return result;
    }
    if (fake_tls.piece && n > fake_tls.piece)
        n = fake_tls.piece;
    *got = s->end - s->next < n ? s->end - s->next : n;
    memcpy(bytes, s->record + s->next, *got);
    s->next += *got;
    return fake_tls.lazy || s->next < s->end || wire->in_length ? WS_TLS_DONE : WS_TLS_MORE;
}

static bool fake_pending(void *session)
{
    const struct session *s = session;
    begin_call("pending");
    fake_tls.misused += s->state != SHAKEN;
    return s->have;
}

static int fake_write(void *session, ws_tls_wire *wire, const char *bytes, size_t n)
{
    struct session *s = session;
    begin_call("write");
    fake_tls.misused += s->state != SHAKEN || !n || n > WS_TLS_CHUNK || wire->in_length ||
                    wire->out_size - wire->out_length < n + WS_TLS_OVERHEAD;
    if (fails(&fake_tls.writes, fake_tls.fail_write)) {
        s->why = "as the test wants it";
        s->state = FAILED;
        return WS_TLS_FAILED;
    }
    append(wire, FAKE_DATA, bytes, n);
    return WS_TLS_DONE;
}

static void fake_close(void *session, ws_tls_wire *wire)
{
    struct session *s = session;
    const char alert = CLOSE_NOTIFY;
    begin_call("close");
    fake_tls.misused += s->state != SHAKEN || wire->in_length;
    fake_tls.closes++;
    s->state = CLOSING;
    append(wire, FAKE_ALERT, &alert, 1);
}

static void fake_free(void *session)
{
    begin_call("free");
    atomic_fetch_sub(((struct session *)session)->count, 1);
    free(session);
}

static const char *fake_error(void *session)
{
    begin_call("error");
    return ((struct session *)session)->why;
}

void fake_reset(void)
{
    const int sessions = fake_tls.sessions;
    memset(&fake_tls, 0, sizeof fake_tls);
    fake_tls.sessions = sessions;
    fake_tls.table = (ws_tls){.size = sizeof fake_tls.table,
                              .context = &fake_tls.sessions,
                              .open = fake_open,
                              .handshake = fake_handshake,
                              .read = fake_read,
                              .pending = fake_pending,
                              .write = fake_write,
                              .close = fake_close,
                              .free = fake_free,
                              .error = fake_error};
}

/* ---- a client's side ---- */

static void add(char **to, size_t *length, size_t *capacity, const char *bytes, size_t n)
{
    if (*capacity - *length < n) {
        *capacity = (*length + n) * 2;
        *to = realloc(*to, *capacity);
        if (!*to)
            abort();
    }
    if (n)
        memcpy(*to + *length, bytes, n);
    *length += n;
}

struct fake_peer *fake_peer_new(void)
{
    struct fake_peer *p = calloc(1, sizeof *p);
    char record[FAKE_RECORD_MAX];
    if (!p)
        abort();
    add(&p->out, &p->out_length, &p->out_capacity, record,
        fake_record(record, FAKE_HANDSHAKE, "hello", 5));
    return p;
}

void fake_peer_free(struct fake_peer *peer)
{
    if (!peer)
        return;
    free(peer->out);
    free(peer->later);
    free(peer->raw);
    free(peer);
}

void fake_peer_queue(struct fake_peer *peer, int type, const void *bytes, size_t n, size_t size)
{
    char record[FAKE_RECORD_MAX];
    const char *at = bytes;
    do {
        const size_t part = n < size ? n : size;
        const size_t length = fake_record(record, type, at, part);
        if (peer->answered)
            add(&peer->out, &peer->out_length, &peer->out_capacity, record, length);
        else
            add(&peer->later, &peer->later_length, &peer->later_capacity, record, length);
        at += part;
        n -= part;
    } while (n);
}

bool fake_peer_flush(struct fake_peer *peer, int fd)
{
    size_t sent = 0;
    while (sent < peer->out_length) {
        ssize_t n = send(fd, peer->out + sent, peer->out_length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    peer->out_length -= sent;
    if (sent)
        memmove(peer->out, peer->out + sent, peer->out_length);
    return !peer->out_length;
}

/* The flight ends with a record that is shorter than 1000 bytes, or with one of 1000 where that is
 * all. */
static void take_handshake(struct fake_peer *p, size_t n)
{
    char record[FAKE_RECORD_MAX];
    const size_t flight = fake_tls.flight ? fake_tls.flight : 1000;
    if (p->answered) {
        p->shaken = true;
        return;
    }
    p->records += n; /* counts the flight so far */
    if (p->records < flight)
        return;
    p->records = 0;
    p->answered = true;
    add(&p->out, &p->out_length, &p->out_capacity, record,
        fake_record(record, FAKE_HANDSHAKE, "end", 3));
    add(&p->out, &p->out_length, &p->out_capacity, p->later, p->later_length);
    p->later_length = 0;
}

size_t fake_peer_take(struct fake_peer *peer, const char *bytes, size_t n, char *to)
{
    size_t done = 0, written = 0;
    add(&peer->raw, &peer->raw_length, &peer->raw_capacity, bytes, n);
    while (peer->raw_length - done >= FAKE_HEAD) {
        const char *record = peer->raw + done, *content = record + FAKE_HEAD;
        const size_t length = content_length(record);
        if (peer->raw_length - done < FAKE_HEAD + length)
            break;
        if (record[0] == FAKE_DATA) {
            mask(to + written, content, length);
            written += length;
            peer->records++;
        } else if (record[0] == FAKE_HANDSHAKE) {
            take_handshake(peer, length);
        } else if (record[0] == FAKE_UPDATE) {
            peer->updates++;
        } else if (record[0] == FAKE_ALERT && (*content ^ MASK) == CLOSE_NOTIFY) {
            peer->closed = true;
        } else {
            peer->alert = record[0] == FAKE_ALERT ? *content ^ MASK : -1;
        }
        done += FAKE_HEAD + length;
    }
    peer->raw_length -= done;
    if (done)
        memmove(peer->raw, peer->raw + done, peer->raw_length);
    return written;
}
