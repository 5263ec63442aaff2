/*
 * publish.c: subscriptions of connections, and messages to all subscribers of a topic.
 * A published frame is built once for each form that its receivers take (plain, or compressed with
 * one window size) and appended to hub->published. A receiver whose kernel buffer is not full gets
 * nothing copied: it notes the range of that buffer which is its own, and the end of the turn
 * writes queue and range in one call. Where the range would get a gap, where the connection is sent
 * something else, or where the kernel takes less, the bytes move to its queue (ws__send_own).
 */
#include "conn.h"
#include "frame.h"

#include <string.h>

/* The forms of a message: plain, and one for each window of a shared compressor. */
enum { PLAIN = 0, FORMS = 16 };

/* A frame in hub->published. */
struct form {
    uint32_t from, to; /* to 0: it could not be built, or is no use */
    bool tried;
};

/* A receiver to whom ws__send_conclude is owed, once everybody has got the message. */
struct owed {
    ws_conn *conn;
    int result;
};

struct publication {
    struct ws__hub *hub;
    const void *data;
    size_t length;
    int opcode; /* also with WS_COMPRESS */
    struct form forms[FORMS]; /* by window bits */
    struct owed *owed;
    size_t owed_count, owed_capacity;
    bool delivered; /* to one at least */
};

/* ---- subscriptions ---- */

static void report_subscription(ws_conn *c, const struct ws__topic *topic, uint32_t before)
{
    const ws_behavior *b = &c->target->behavior;
    WS__CALL(c->hub, b->on_subscription, c, topic->name, topic->length, topic->count, before,
             b->user);
}

static uint32_t subscriptions(const ws_conn *c)
{
    return c->extra ? c->extra->subscriber.count : 0;
}

static void leave(ws_conn *c, uint32_t position)
{
    struct ws__topics *topics = &c->hub->topics;
    struct ws__subscriber *subscriber = &c->extra->subscriber;
    struct ws__topic *topic = subscriber->list[position].topic;
    ws__topics_pin(topic);
    ws__topics_unsubscribe(topics, subscriber, position);
    report_subscription(c, topic, topic->count + 1);
    ws__topics_unpin(topics, topic);
}

void ws__publish_leave(ws_conn *c)
{
    while (subscriptions(c))
        leave(c, subscriptions(c) - 1);
}

/* Its position in the connection's list; the list's length: not there. */
static uint32_t find(const ws_conn *c, const char *topic, size_t length)
{
    uint32_t count = subscriptions(c);
    const struct ws__topic *found =
        count ? ws__topics_find(&c->hub->topics, topic, length) : NULL;
    return found ? ws__topics_position(&c->extra->subscriber, found) : count;
}

int ws_conn_subscribe(ws_conn *conn, const char *topic, size_t length)
{
    const ws_behavior *b = &conn->target->behavior;
    struct ws__topics *topics = &conn->hub->topics;
    struct ws__topic *joined;
    if (length > b->max_topic_length)
        return WS_EINVAL;
    if (conn->state != WS__OPEN)
        return WS_ECLOSED;
    if (subscriptions(conn) >= b->max_topics) {
        if (ws_conn_is_subscribed(conn, topic, length))
            return 0;
        if (!conn->topics_full)
            ws__hub_log(conn->hub, WS_LOG_WARNING, "a connection wants more than max_topics %u",
                        (unsigned)b->max_topics);
        conn->topics_full = true;
        return WS_ELIMIT;
    }
    struct ws__extra *extra = ws__conn_extra(conn);
    int result = extra ? ws__topics_subscribe(topics, &extra->subscriber, topic, length, &joined)
                       : WS_ENOMEM;
    if (result <= 0)
        return result;
    ws__topics_pin(joined);
    report_subscription(conn, joined, joined->count - 1);
    ws__topics_unpin(topics, joined);
    return 1;
}

int ws_conn_unsubscribe(ws_conn *conn, const char *topic, size_t length)
{
    if (conn->state != WS__OPEN)
        return WS_ECLOSED;
    uint32_t position = find(conn, topic, length);
    if (position == subscriptions(conn))
        return 0;
    leave(conn, position);
    return 1;
}

bool ws_conn_is_subscribed(const ws_conn *conn, const char *topic, size_t length)
{
    return find(conn, topic, length) < subscriptions(conn);
}

const char *ws_conn_topic_at(const ws_conn *conn, size_t i, size_t *length)
{
    if (i >= subscriptions(conn)) {
        *length = 0;
        return NULL;
    }
    const struct ws__topic *topic = conn->extra->subscriber.list[i].topic;
    *length = topic->length;
    return topic->name;
}

uint32_t ws_server_subscribers(const ws_server *server, const char *topic, size_t length)
{
    const struct ws__hub *hub = ws__hub_of((ws_server *)server);
    const struct ws__topic *found = ws__topics_find(&hub->topics, topic, length);
    return found ? found->count : 0;
}

/* ---- frames, built once ---- */

static void append_frame(struct ws__hub *hub, struct form *form, uint8_t first, const void *data,
                         size_t length)
{
    uint8_t header[WS__FRAME_SEND_MAX];
    size_t n = ws__frame_encode(header, first, length), from = ws__buffer_length(hub->published);
    char *to = from < UINT32_MAX / 4 && length < UINT32_MAX / 2
                   ? ws__buffer_reserve(&hub->memory, &hub->published, n + length)
                   : NULL;
    if (!to)
        return;
    memcpy(to, header, n);
    if (length)
        memcpy(to + n, data, length);
    ws__buffer_commit(hub->published, n + length);
    form->from = (uint32_t)from;
    form->to = (uint32_t)(from + n + length);
}

/* A large message is not worth a copy. */
static const struct form *plain_form(struct publication *p)
{
    struct form *form = &p->forms[PLAIN];
    if (!form->tried && p->length < WS__COPY_LIMIT)
        append_frame(p->hub, form, (uint8_t)(WS__FRAME_FIN | (p->opcode & ~WS_COMPRESS)), p->data,
                     p->length);
    form->tried = true;
    return form;
}

/* As every shared compressor with this window makes it; plain where that is not shorter (RFC 7692
 * 6.1), or where there is no memory. */
static const struct form *compressed_form(struct publication *p,
                                          const struct ws__deflate_terms *terms)
{
    struct form *form = &p->forms[terms->server_bits];
    struct ws__deflate_streams none = {NULL, NULL};
    uint8_t first = (uint8_t)(WS__FRAME_FIN | WS__FRAME_RSV1 | (p->opcode & ~WS_COMPRESS));
    const char *out;
    size_t length;
    if (!form->tried &&
        !ws__deflate_compress(&p->hub->deflate, terms, &none, p->data, p->length, true, true, &out,
                              &length) &&
        length < p->length)
        append_frame(p->hub, form, first, out, length);
    form->tried = true;
    return form->to ? form : plain_form(p);
}

/* ---- one receiver ---- */

/* The frame needs no copy: it is noted, behind what the connection has already. */
static bool note_form(ws_conn *c, const struct form *form)
{
    struct ws__extra *extra = c->extra; /* its subscription is there */
    size_t amount = ws__conn_queued(c) + (form->to - form->from);
    if (c->blocked || c->broken || amount > c->target->cork_limit)
        return false;
    if (extra->published_to != form->from || !ws__conn_published(c)) {
        ws__send_own(c);
        extra->published_from = form->from;
    }
    extra->published_to = form->to;
    if (!c->in_publishing) {
        c->in_publishing = true;
        extra->next_published = c->hub->publishing;
        c->hub->publishing = extra;
    }
    return true;
}

/* The results of ws__send_offer. */
static int offer(struct publication *p, ws_conn *c)
{
    bool compress = ws__send_compresses(c, p->opcode, p->length);
    if (c->state != WS__OPEN || c->ending) /* it is leaving its topics, or will */
        return WS_DROPPED;
    if (c->fragmenting || (compress && !c->terms.server_no_context))
        return ws__send_offer(c, p->data, p->length, p->opcode);
    const struct form *form = compress ? compressed_form(p, &c->terms) : plain_form(p);
    if (!form->to)
        return ws__send_offer(c, p->data, p->length, p->opcode & ~WS_COMPRESS);
    return note_form(c, form) ? WS_SUCCESS : ws__send_published(c, form->from, form->to);
}

/* Handlers run after the last receiver was served, so that none of them sees a later message first,
 * and none of them changes the list of members under way. */
static void owe(struct publication *p, ws_conn *c, int result)
{
    struct ws__memory *memory = &p->hub->memory;
    if (p->owed_count == p->owed_capacity) {
        size_t capacity = p->owed_capacity ? 2 * p->owed_capacity : 16;
        void *owed = ws__memory_resize(memory, p->owed, p->owed_capacity * sizeof *p->owed,
                                       capacity * sizeof *p->owed);
        if (!owed) { /* a handler that cannot be called: the connection goes instead */
            ws__conn_break(c, true);
            return;
        }
        p->owed = owed;
        p->owed_capacity = capacity;
    }
    p->owed[p->owed_count++] = (struct owed){c, result};
}

static void deliver(struct publication *p, ws_conn *c)
{
    int result = offer(p, c);
    if (result == WS_SUCCESS || result == WS_BACKPRESSURE)
        p->delivered = true;
    else if (result != WS_DROPPED)
        owe(p, c, result < 0 ? WS__SEND_NO_MEMORY : result);
}

static void conclude(struct publication *p)
{
    for (size_t i = 0; i < p->owed_count; i++) {
        ws_conn *c = p->owed[i].conn;
        if (c->state == WS__OPEN)
            ws__send_conclude(c, p->owed[i].result, p->data, p->length, p->opcode);
    }
    ws__memory_free(&p->hub->memory, p->owed, p->owed_capacity * sizeof *p->owed);
}

/* ---- all of them ---- */

void ws__publish_flush(struct ws__hub *hub)
{
    struct ws__extra *extra = hub->publishing;
    hub->publishing = NULL;
    while (extra) {
        ws_conn *c = extra->conn;
        extra = extra->next_published;
        c->in_publishing = false;
        if (c->corked)
            ws__send_own(c);
        else if (ws__conn_published(c))
            ws__send_flush(c);
        c->extra->published_from = c->extra->published_to = 0; /* left where it is broken */
    }
    if (hub->published && hub->published->capacity > WS__CORK_SIZE)
        ws__buffer_free(&hub->memory, &hub->published);
    else
        ws__buffer_consume(hub->published, ws__buffer_length(hub->published));
}

static ws_conn *receiver(const struct ws__member *member)
{
    void *extra = (char *)member->subscriber - offsetof(struct ws__extra, subscriber);
    return ((struct ws__extra *)extra)->conn;
}

static int publish(struct ws__hub *hub, const char *topic, size_t topic_length,
                   const ws_conn *except, struct publication *p)
{
    int opcode = p->opcode & ~WS_COMPRESS;
    struct ws__topic *found = ws__topics_find(&hub->topics, topic, topic_length);
    if ((opcode != WS_TEXT && opcode != WS_BINARY) || p->length > SIZE_MAX / 2)
        return WS_EINVAL;
    if (!found)
        return 0;
    if (ws__buffer_length(hub->published) >= WS__PUBLISHED_SIZE)
        ws__publish_flush(hub);
    for (uint32_t i = 0; i < found->count; i++) {
        ws_conn *c = receiver(&found->members[i]);
        if (c != except)
            deliver(p, c);
    }
    if (!hub->in_turn)
        ws__publish_flush(hub);
    conclude(p);
    return p->delivered;
}

int ws_server_publish(ws_server *server, const char *topic, size_t topic_length, const void *data,
                      size_t length, int opcode)
{
    struct ws__hub *hub = ws__hub_of(server);
    struct publication p = {.hub = hub, .data = data, .length = length, .opcode = opcode};
    return publish(hub, topic, topic_length, NULL, &p);
}

int ws_conn_publish(ws_conn *conn, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode, bool exclude_self)
{
    struct ws__hub *hub = conn->hub;
    struct publication p = {.hub = hub, .data = data, .length = length, .opcode = opcode};
    if (conn->state != WS__OPEN)
        return 0;
    return publish(hub, topic, topic_length, exclude_self ? conn : NULL, &p);
}
