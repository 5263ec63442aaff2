/* SPDX-License-Identifier: MIT */
/*
 * tls.c: bytes between a session of a TLS library and the socket of a stream. Everything that was
 * received is decrypted at once, because epoll knows only of what is in the kernel: what the
 * protocol cannot handle now is kept as input that is left over. What is sent is encrypted in
 * batches, each of which leaves in one write. Of a batch that the kernel does not take whole, the
 * rest is kept here, and counts as sent.
 */
#include "tls.h"
#ifndef WS_NO_TLS
#include "input.h"
#include "sendfile.h"

enum { BATCH = 4, RECORD_MAX = WS_TLS_CHUNK + WS_TLS_OVERHEAD }; /* records; bytes of one */
enum { UNSENT_MAX = 2 * BATCH * RECORD_MAX }; /* bytes kept for a peer that does not read */

enum stage { HEADER, SHAKING, OPEN, NO_TLS, OVER };

/* Of one stream, after the data of its protocol. */
struct tls {
    const ws_tls *table;
    void *session;             /* NULL until the first byte has arrived */
    struct ws__buffer *unsent; /* encrypted, for the socket; not NULL: the stream is blocked */
    enum stage stage;
    bool ended;  /* the peer has sent close_notify */
    bool failed; /* `write` has, and the stream is broken */
};

/* Of a hub. What `wire` points to is in use only while a function of a session runs, except that
 * bytes which were received wait in `in` while the protocol handles those before them. */
struct ws__tls_room {
    ws_tls_wire wire;
    uint64_t turn;            /* the last one in which a handshake went on */
    char chunk[WS_TLS_CHUNK]; /* bytes for one record that lie in several places */
    char out[BATCH * RECORD_MAX];
    char in[]; /* config.recv_buffer_size bytes */
};

static struct tls *tls_of(const struct ws__stream *s)
{
    return ws__stream_filter_data(s);
}

/* ---- output ---- */

/* Sends what was kept, then what a session has appended. Returns false if the stream is broken. */
static bool put_out(struct ws__stream *s)
{
    struct ws__memory *memory = &s->hub->memory;
    ws_tls_wire *wire = &s->hub->tls->wire;
    struct tls *t = tls_of(s);
    const char *bytes = wire->out;
    size_t n = wire->out_length;
    const bool kept = t->unsent;
    bool starved = kept && ws__buffer_append(memory, &t->unsent, bytes, n);
    wire->out_length = 0;
    if (kept) {
        bytes = ws__buffer_data(t->unsent);
        n = ws__buffer_length(t->unsent);
    }
    if (!n || s->broken)
        return !s->broken;
    const ssize_t result = ws__net_write(s->fd, bytes, n);
    const size_t sent = result > 0 ? (size_t)result : 0;
    if (!kept && sent < n)
        starved = ws__buffer_append(memory, &t->unsent, bytes + sent, n - sent);
    else if (sent < n)
        ws__buffer_consume(t->unsent, sent);
    else
        ws__buffer_free(memory, &t->unsent);
    if (starved || result == WS__NET_ERROR || ws__buffer_length(t->unsent) > UNSENT_MAX)
        ws__stream_break(s, starved); /* half a record cannot be taken back */
    else if (t->unsent)
        ws__stream_block(s);
    return !s->broken;
}

/* Where the bytes to send come from: memory, in several parts, or a file. */
struct source {
    struct iovec parts[3];
    int first, count; /* of parts */
    int file;         /* where there are no parts */
    uint64_t offset;
    size_t left; /* bytes */
};

/* Returns the bytes of the next record: those of a long part where they lie, others gathered. */
static const char *next_chunk(struct source *from, char *chunk, size_t *n)
{
    *n = 0;
    if (!from->count) {
        *n = ws__sendfile_read(from->file, from->offset, chunk,
                               from->left < WS_TLS_CHUNK ? from->left : WS_TLS_CHUNK);
        from->offset += *n;
    }
    while (from->first < from->count && *n < WS_TLS_CHUNK) {
        struct iovec *part = &from->parts[from->first];
        const char *at = part->iov_base;
        const size_t room = WS_TLS_CHUNK - *n, m = part->iov_len < room ? part->iov_len : room;
        const bool alone = !*n && (m == room || from->first == from->count - 1);
        part->iov_base = (char *)part->iov_base + m;
        part->iov_len -= m;
        from->first += !part->iov_len;
        *n += m;
        if (alone)
            return at;
        memcpy(chunk + *n - m, at, m);
    }
    return chunk;
}

/* Sends as many batches as the kernel takes at once, and one more, but only the first one in a turn
 * that is late: encrypting takes much longer than what the kernel does with plain bytes. Returns
 * how many bytes they hold. */
static ssize_t send_all(struct ws__stream *s, struct source *from)
{
    struct tls *t = tls_of(s);
    ws_tls_wire *wire = &s->hub->tls->wire;
    const size_t all = from->left, waiting = wire->in_length;
    bool lost = t->stage != OPEN;
    size_t n = 1;
    wire->in_length = 0;
    from->first = 0;
    while (from->left && n && !t->unsent && !lost &&
           (from->left == all || !ws__hub_is_late(s->hub))) {
        for (int i = 0; i < BATCH && from->left && n; i++) {
            const char *bytes = next_chunk(from, s->hub->tls->chunk, &n);
            from->left -= n;
            if (n && t->table->write(t->session, wire, bytes, n) != WS_TLS_DONE) {
                t->failed = true;
                n = 0;
            }
        }
        lost = !put_out(s) || t->failed;
    }
    if (t->failed) { /* nor may it read any more */
        t->stage = OVER;
        ws__stream_break(s, false);
    }
    wire->in_length = waiting;
    return lost ? WS__NET_ERROR : (ssize_t)(all - from->left);
}

static ssize_t tls_write(struct ws__stream *s, const struct iovec *parts, int count)
{
    struct source from;
    if (tls_of(s)->stage == NO_TLS)
        return ws__net_writev(s->fd, parts, count);
    from.left = 0;
    for (from.count = 0; from.count < count; from.count++) {
        from.parts[from.count] = parts[from.count];
        from.left += parts[from.count].iov_len;
    }
    return send_all(s, &from);
}

static ssize_t tls_write_file(struct ws__stream *s, int file, uint64_t offset, size_t n)
{
    struct source from;
    from.count = 0;
    from.file = file;
    from.offset = offset;
    from.left = n;
    return send_all(s, &from);
}

/* RFC 8446 6.1: "Each party MUST send a "close_notify" alert before closing its write side of the
 * connection, unless it has already sent some error alert." It would be wrong where something was
 * not sent: a response that is cut must not look whole. */
static bool tls_finish(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    ws_tls_wire *wire = &s->hub->tls->wire;
    const size_t waiting = wire->in_length;
    if (t->stage != OPEN || s->out || s->blocked || s->broken || s->awaiting || s->uploading)
        return true;
    t->stage = OVER;
    wire->in_length = 0;
    t->table->close(t->session, wire);
    wire->in_length = waiting;
    put_out(s);
    return !t->unsent;
}

/* ---- input ---- */

/* The peer has got an alert. Where its handshake has failed the stream lingers, so that the alert
 * is not destroyed by a reset. The log function comes last: it may do anything. */
static void fail_session(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    struct ws__hub *hub = s->hub;
    const bool shaking = t->stage == SHAKING;
    const char *why = t->table->error ? t->table->error(t->session) : NULL;
    char peer[WS__NET_PLACE_SIZE];
    ws__net_endpoint_text(&s->peer, peer);
    t->stage = OVER;
    if (shaking) {
        ws__buffer_free(&hub->memory, &s->out); /* a refusal */
        ws__stream_linger(s, hub->linger_queue);
        ws__stream_uncork(s);
    } else {
        ws__stream_drop(s, "TLS failure", true);
    }
    ws__hub_log(hub, WS_LOG_DEBUG, "TLS%s with %s failed: %s", shaking ? " handshake" : "", peer,
                why ? why : "unknown");
}

static bool tls_drop_failed(struct ws__stream *s)
{
    if (!tls_of(s)->failed)
        return false;
    fail_session(s);
    return true;
}

/* Returns true once the handshake is complete and the stream is open. */
static bool shake(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    ws_tls_wire *wire = &s->hub->tls->wire;
    bool more;
    int result;
    do {
        result = t->table->handshake(t->session, wire);
        more = result == WS_TLS_MORE && wire->out_length;
        if (!put_out(s))
            return false;
    } while (more);
    if (result == WS_TLS_DONE) {
        t->stage = OPEN;
        ws__stream_uncork(s);
    } else if (result == WS_TLS_CLOSED) {
        ws__input_end(s, WS__NET_ERROR);
    } else if (result != WS_TLS_MORE || wire->in_length) {
        fail_session(s);
    }
    return t->stage == OPEN && s->state == WS__STREAM_OPEN;
}

/* Decrypts until the receive buffer is full, which returns DONE, or nothing is left. */
static int decrypt(struct ws__stream *s, size_t *n)
{
    struct tls *t = tls_of(s);
    struct ws__hub *hub = s->hub;
    ws_tls_wire *wire = &hub->tls->wire;
    const size_t room = hub->config.recv_buffer_size;
    size_t got, more;
    *n = 0;
    do {
        got = 0;
        const int result = t->table->read(t->session, wire, hub->recv_buffer + *n, room - *n, &got);
        more = result == WS_TLS_DONE ? got : wire->out_length;
        put_out(s);
        if (result < 0)
            return result;
        *n += got;
        if (!more)
            return result == WS_TLS_DONE || wire->in_length ? WS_TLS_FAILED : WS_TLS_MORE;
    } while (*n < room);
    return WS_TLS_DONE;
}

/* Hands over what was received. After close_notify the socket reads as if FIN had come, once what
 * came before it is handled. RFC 8446 6.1: "Any data received after a closure alert has been
 * received MUST be ignored." */
static void hand_over(struct ws__stream *s)
{
    int result;
    do {
        size_t n;
        result = decrypt(s, &n);
        if (result == WS_TLS_FAILED)
            tls_of(s)->stage = OVER;
        if (n)
            ws__input_take(s, n);
    } while (result == WS_TLS_DONE && s->state == WS__STREAM_OPEN && !tls_of(s)->failed);
    if (result == WS_TLS_CLOSED && s->state != WS__STREAM_DEAD) {
        tls_of(s)->ended = true;
        ws__net_end_input(s->fd);
    } else if (result == WS_TLS_FAILED && s->state == WS__STREAM_OPEN)
        fail_session(s);
}

/* Returns false if the first byte is not that of TLS, or memory ran out. */
static bool open_session(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    const char first = *s->hub->tls->wire.in;
    if (t->session)
        return true;
    if (first >= 'A' && first <= 'Z') { /* of a method */
        t->stage = NO_TLS;
        if (s->state == WS__STREAM_OPEN)
            s->protocol->on_unfiltered(s);
        ws__stream_uncork(s);
        return false;
    }
    t->session = t->table->open(t->table->context);
    if (!t->session)
        ws__stream_break(s, true);
    return t->session;
}

/* Returns true if the header of the proxy has ended in what was received, and TLS follows. */
static bool take_header(struct ws__stream *s)
{
    ws_tls_wire *wire = &s->hub->tls->wire;
    if (ws__buffer_append(&s->hub->memory, &s->in, wire->in, wire->in_length)) {
        ws__stream_break(s, true);
        return false;
    }
    const size_t before = ws__buffer_length(s->in);
    struct ws__input in = {ws__buffer_data(s->in), before};
    s->protocol->on_input(s, &in);
    if (s->state == WS__STREAM_DEAD || in.length == before)
        return false;
    wire->in += wire->in_length - in.length;
    wire->in_length = in.length;
    tls_of(s)->stage = SHAKING;
    ws__buffer_free(&s->hub->memory, &s->in);
    return in.length;
}

/* A handshake takes long. Once the turn is late, one more may go on in it, and the others wait in
 * the kernel for the next turn. */
static bool must_wait(struct ws__hub *hub)
{
    if (ws__hub_is_late(hub) && hub->tls->turn == hub->stats.turns)
        return true;
    hub->tls->turn = hub->stats.turns;
    return false;
}

static void tls_read(struct ws__stream *s)
{
    const enum stage stage = tls_of(s)->stage;
    struct ws__hub *hub = s->hub;
    ws_tls_wire *wire = &hub->tls->wire;
    if (stage > SHAKING && s->state == WS__STREAM_LINGERING) {
        ws__input_discard(s);
        return;
    }
    if (s->more || stage > OPEN || (stage < OPEN && must_wait(hub)))
        return;
    const ssize_t n = ws__net_read(s->fd, hub->tls->in, ws__input_room(s, 0));
    if (n <= 0) {
        ws__input_end(s, n == 0 && stage < OPEN ? WS__NET_ERROR : n);
        return;
    }
    wire->in = hub->tls->in;
    wire->in_length = (size_t)n;
    if (stage == HEADER && !take_header(s))
        return;
    if (stage == OPEN ? !tls_of(s)->ended : open_session(s) && shake(s))
        hand_over(s);
}

/* The kernel has room for what was kept. The queue waits until the handshake is complete. */
static bool tls_resume(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    if (t->unsent && s->protocol->on_sent)
        s->protocol->on_sent(s);
    put_out(s);
    return t->stage != SHAKING;
}

static bool tls_holds(const struct ws__stream *s)
{
    const struct tls *t = tls_of(s);
    return t->stage == OPEN ? t->table->pending(t->session) : t->stage == SHAKING && t->session;
}

/* ---- life cycle ---- */

static void tls_release(struct ws__stream *s)
{
    struct tls *t = tls_of(s);
    if (t->session)
        t->table->free(t->session);
    ws__buffer_free(&s->hub->memory, &t->unsent);
}

static const struct ws__stream_filter filter = {
    .size = sizeof(struct tls),
    .read = tls_read,
    .write = tls_write,
    .write_file = tls_write_file,
    .resume = tls_resume,
    .finish = tls_finish,
    .holds = tls_holds,
    .drop_failed = tls_drop_failed,
    .release = tls_release,
};

static size_t room_size(const struct ws__hub *hub)
{
    return sizeof(struct ws__tls_room) + hub->config.recv_buffer_size;
}

int ws__tls_prepare(struct ws__hub *hub, const ws_tls *table)
{
    if (table->size != sizeof *table)
        return WS_EABI;
    if (!hub->tls && !(hub->tls = ws__memory_zalloc(&hub->memory, room_size(hub))))
        return WS_ENOMEM;
    hub->tls->wire.out = hub->tls->out;
    hub->tls->wire.out_size = sizeof hub->tls->out;
    hub->filter = &filter;
    return WS_OK;
}

void ws__tls_deinit(struct ws__hub *hub)
{
    ws__memory_free(&hub->memory, hub->tls, room_size(hub));
}

void ws__tls_begin(struct ws__stream *s, const ws_tls *table, bool header)
{
    struct tls *t = tls_of(s);
    t->table = table;
    t->stage = header ? HEADER : SHAKING;
    s->peer.secure = true;
    s->corked = 1;
}

void *ws__tls_session(const struct ws__stream *s)
{
    return s->filtered ? tls_of(s)->session : NULL;
}

#endif
