/* SPDX-License-Identifier: MIT */
/*
 * publish.c: subscriptions of connections, and messages to all subscribers of a topic.
 * A published frame is built once for each form that its receivers take (plain, or compressed with
 * one window size, with or without a label) and appended to hub->published, from where share.c
 * sends it.
 */
#include "publish.h"
#ifndef WS_NO_TOPICS
#include "frame.h"
#include "label.h"
#include "relay.h"
#include "send.h"
#include "share.h"

#include <string.h>

/* The forms of a message: plain, and one for each window of a shared compressor. */
enum { PLAIN = 0, FORMS = 16 };

/* A frame in hub->published. */
struct form {
    uint32_t from, to; /* to 0: it could not be built, or is of no use */
    bool tried;
};

/* A receiver for whom ws__send_conclude is still to be called, once every other one has the
 * message. */
struct unconcluded {
    ws_conn *conn;
    enum ws__sent sent;
};

/* What a part of the receivers gets. */
struct variant {
    const void *data;
    size_t length;
    int opcode;               /* also with WS_COMPRESS, WS_LABELLED */
    struct form forms[FORMS]; /* by window bits */
};

struct publication {
    struct ws__hub *hub;
    struct variant plain;
    struct variant *labelled;   /* for those who take labels; NULL: there is no memory for it */
    struct variant *unlabelled; /* for the others; NULL: they get nothing */
    size_t label;               /* length of the label, which is in front of plain.data; 0: none */
    struct unconcluded *unconcluded;
    size_t unconcluded_count, unconcluded_capacity;
    size_t delivered; /* number of connections that get it */
    bool here;        /* for subscribers of this server alone */
};

/* ---- subscriptions ---- */

static void report_subscription(ws_conn *c, const struct ws__topic *topic, uint32_t before)
{
    const ws_behavior *b = &ws__conn_settings(c)->behavior;
    WS__CALL(c->stream.hub, b->on_subscription, c, topic->name, topic->length, topic->count, before,
             b->user);
}

static uint32_t subscriptions(const ws_conn *c)
{
    return c->extra ? c->extra->subscriber.count : 0;
}

static void leave(ws_conn *c, uint32_t position)
{
    struct ws__topics *topics = &c->stream.hub->topics;
    struct ws__subscriber *subscriber = &c->extra->subscriber;
    struct ws__topic *topic = subscriber->list[position].topic;
    ws__topics_pin(topic);
    ws__topics_unsubscribe(topics, subscriber, position);
    if (c->stream.hub->relaying && !topic->count)
        ws__relay_topic(c->stream.hub, topic, false);
    report_subscription(c, topic, topic->count + 1);
    ws__topics_unpin(topics, topic);
}

void ws__publish_leave(ws_conn *c)
{
    while (subscriptions(c))
        leave(c, subscriptions(c) - 1);
}

/* Returns its position in the list of the connection; the length of the list if it is not there.
 * Only a publish needs to be fast. */
__attribute__((noinline)) static uint32_t find(const ws_conn *c, const char *topic, size_t length)
{
    uint32_t count = subscriptions(c);
    const struct ws__topic *found =
        count ? ws__topics_find(&c->stream.hub->topics, topic, length) : NULL;
    return found ? ws__topics_position(&c->extra->subscriber, found) : count;
}

__attribute__((cold)) int ws_conn_subscribe(ws_conn *conn, const char *topic, size_t length)
{
    const ws_behavior *b = &ws__conn_settings(conn)->behavior;
    struct ws__topics *topics = &conn->stream.hub->topics;
    struct ws__topic *joined;
    if (length > b->max_topic_length)
        return WS_EINVAL;
    if (conn->stream.phase != WS__CONN_OPEN)
        return WS_ECLOSED;
    if (subscriptions(conn) >= b->max_topics) {
        if (ws_conn_is_subscribed(conn, topic, length))
            return 0;
        if (!conn->topics_full)
            ws__hub_log(conn->stream.hub, WS_LOG_WARNING,
                        "a connection wants more than max_topics %u", (unsigned)b->max_topics);
        conn->topics_full = true;
        return WS_ELIMIT;
    }
    struct ws__extra *extra = ws__conn_extra(conn);
    int result = extra ? ws__topics_subscribe(topics, &extra->subscriber, topic, length, &joined)
                       : WS_ENOMEM;
    if (result <= 0)
        return result;
    ws__topics_pin(joined);
    if (conn->stream.hub->relaying && joined->count == 1)
        ws__relay_topic(conn->stream.hub, joined, true);
    report_subscription(conn, joined, joined->count - 1);
    ws__topics_unpin(topics, joined);
    return 1;
}

int ws_conn_unsubscribe(ws_conn *conn, const char *topic, size_t length)
{
    if (conn->stream.phase != WS__CONN_OPEN)
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
static const struct form *plain_form(struct ws__hub *hub, struct variant *v)
{
    struct form *form = &v->forms[PLAIN];
    if (!form->tried && v->length < hub->copy_limit)
        append_frame(hub, form, (uint8_t)(WS__FRAME_FIN | (v->opcode & WS__FRAME_OPCODE)),
                     v->data, v->length);
    form->tried = true;
    return form;
}

/* As every shared compressor with this window makes it. NULL where that is not shorter (RFC 7692
 * 6.1), or where there is no memory. */
static const struct form *compressed_form(struct ws__hub *hub, struct variant *v,
                                          const struct ws__deflate_terms *terms)
{
    struct form *form = &v->forms[terms->server_bits];
    struct ws__deflate_streams none = {NULL, NULL};
    uint8_t first = (uint8_t)(WS__FRAME_FIN | WS__FRAME_RSV1 | (v->opcode & WS__FRAME_OPCODE));
    const char *out;
    size_t length;
    if (!form->tried &&
        !ws__deflate_compress(&hub->deflate, terms, &none, v->data, v->length, true, true, &out,
                              &length) &&
        length < v->length)
        append_frame(hub, form, first, out, length);
    form->tried = true;
    return form->to ? form : NULL;
}

/* ---- one receiver ---- */

/* What to offer to a connection that takes labels, is between fragments, or will be ended, or where
 * not all get something. NULL: *sent is what happened. */
__attribute__((cold, noinline)) static struct variant *
choose(struct publication *p, ws_conn *c, enum ws__sent *sent)
{
    struct variant *v = c->labels ? p->labelled : p->unlabelled;
    *sent = WS__SENT_DROPPED;
    if (c->ending || (!v && !c->labels)) /* ending: it will leave its topics */
        return NULL;
    if (v && !c->fragmenting)
        return v;
    if (!v) /* it may find memory for a label of its own */
        v = &p->plain;
    *sent = ws__send_message(c, v->data, v->length, v->opcode);
    return NULL;
}

static enum ws__sent offer(struct publication *p, ws_conn *c)
{
    struct variant *v = p->unlabelled;
    enum ws__sent sent;
    if (c->stream.phase != WS__CONN_OPEN) /* it is leaving its topics */
        return WS__SENT_DROPPED;
    if ((c->ending || c->fragmenting || c->labels || !v) && !(v = choose(p, c, &sent)))
        return sent;
    bool compresses = ws__send_compresses(c, v->opcode, v->length);
    if (compresses && !c->terms.server_no_context)
        return ws__send_message(c, v->data, v->length, v->opcode);
    const struct form *form = compresses ? compressed_form(p->hub, v, &c->terms) : NULL;
    if (!form)
        form = plain_form(p->hub, v);
    if (!form->to)
        return ws__send_message(c, v->data, v->length, v->opcode & ~WS_COMPRESS);
    if (ws__share_note(c, form->from, form->to))
        return WS__SENT;
    return ws__send_frame(c, p->hub->published->bytes + form->from, form->to - form->from);
}

/* Handlers run after the last receiver was served, so that none of them sees a later message first,
 * and none of them changes the list of members while it is walked over. */
static void conclude_later(struct publication *p, ws_conn *c, enum ws__sent sent)
{
    if (p->unconcluded_count == p->unconcluded_capacity) {
        size_t one = sizeof *p->unconcluded;
        size_t capacity = p->unconcluded_capacity ? 2 * p->unconcluded_capacity : 16;
        void *grown = ws__memory_resize(&p->hub->memory, p->unconcluded,
                                        p->unconcluded_capacity * one, capacity * one);
        if (!grown) { /* its handler cannot be called later: the connection goes instead */
            ws__stream_break(&c->stream, true);
            return;
        }
        p->unconcluded = grown;
        p->unconcluded_capacity = capacity;
    }
    p->unconcluded[p->unconcluded_count++] = (struct unconcluded){c, sent};
}

static void deliver(struct publication *p, ws_conn *c)
{
    enum ws__sent sent = offer(p, c);
    if (sent == WS__SENT || sent == WS__SENT_QUEUED)
        p->delivered++;
    else if (sent != WS__SENT_DROPPED) /* out of memory: the connection ends, as no caller knows */
        conclude_later(p, c, sent == WS__SENT_NO_MEMORY ? WS__SENT_NOT_COMPRESSED : sent);
}

static void conclude(struct publication *p)
{
    for (size_t i = 0; i < p->unconcluded_count; i++) {
        ws_conn *c = p->unconcluded[i].conn;
        if (c->stream.phase == WS__CONN_OPEN)
            ws__send_conclude(c, p->unconcluded[i].sent, p->plain.data, p->plain.length,
                              p->plain.opcode);
    }
    ws__memory_free(&p->hub->memory, p->unconcluded,
                    p->unconcluded_capacity * sizeof *p->unconcluded);
}

/* ---- all of them ---- */

/* During a shutdown all receivers are about to be closed. If the handlers of each one published to
 * those that remain, as many messages as pairs of them would be sent. */
static void deliver_to_all(struct publication *p, const struct ws__topic *topic,
                           const ws_conn *except)
{
    struct ws__hub *hub = p->hub;
    if (hub->stopping)
        return;
    if (ws__buffer_length(hub->published) >= 4 * (size_t)hub->config.cork_size)
        ws__share_flush(hub);
    for (uint32_t i = 0; i < topic->count; i++) {
        ws_conn *c = ws__publish_receiver(&topic->members[i]);
        if (c != except)
            deliver(p, c);
    }
    hub->stats.messages_out += p->delivered;
}

/* The same for a message that has a label, or needs the empty one. */
__attribute__((cold, noinline)) static void
deliver_labelled(struct publication *p, const struct ws__topic *topic, const ws_conn *except)
{
    struct ws__memory *memory = &p->hub->memory;
    struct variant labelled = p->plain;
    size_t added = p->label ? p->label : WS__LABEL_EMPTY;
    char *copy = p->label ? NULL : ws__label_prepend(memory, labelled.data, labelled.length);
    labelled.data = copy ? copy : (const char *)labelled.data - added;
    labelled.length += added;
    labelled.opcode |= WS_LABELLED;
    p->labelled = p->label || copy ? &labelled : NULL;
    deliver_to_all(p, topic, except);
    ws__memory_free(memory, copy, copy ? labelled.length : 0);
}

/* Takes the label off a message that ws_server_deliver was called with. Returns false if that is
 * not valid. */
__attribute__((cold, noinline)) static bool take_label_off(struct publication *p)
{
    struct variant *plain = &p->plain;
    int opcode = plain->opcode & ~(WS_COMPRESS | WS_NOTICE);
    if (!p->here || plain->length > SIZE_MAX / 2 ||
        (opcode != (WS_TEXT | WS_LABELLED) && opcode != (WS_BINARY | WS_LABELLED)))
        return false;
    p->label = ws__label_length(plain->data, plain->length);
    if (!p->label)
        return false;
    p->unlabelled = plain->opcode & WS_NOTICE ? NULL : plain;
    plain->opcode &= ~(WS_LABELLED | WS_NOTICE);
    plain->data = (const char *)plain->data + p->label;
    plain->length -= p->label;
    return true;
}

/* Other processes get the message before a handler that it causes can publish another one. */
__attribute__((cold)) static int publish(struct publication *p, const char *topic,
                                         size_t topic_length, const ws_conn *except)
{
    struct ws__hub *hub = p->hub;
    struct variant *plain = &p->plain;
    int opcode = plain->opcode & ~WS_COMPRESS;
    bool relays = hub->relaying && !p->here;
    p->labelled = p->unlabelled = plain;
    if (((opcode != WS_TEXT && opcode != WS_BINARY) || plain->length > SIZE_MAX / 2) &&
        !take_label_off(p))
        return WS_EINVAL;
    if (relays && ws__relay_take(hub, topic, topic_length, plain->data, plain->length,
                                 plain->opcode))
        return 1;
    const struct ws__topic *found = ws__topics_find(&hub->topics, topic, topic_length);
    if (found && hub->label_takers &&
        (p->label || ws__label_is_needed(plain->data, plain->length, true)))
        deliver_labelled(p, found, except);
    else if (found)
        deliver_to_all(p, found, except);
    bool elsewhere = relays && ws__relay_message(hub, found, topic, topic_length, plain->data,
                                                 plain->length, plain->opcode);
    if (!hub->in_turn && found)
        ws__share_flush(hub);
    if (p->unconcluded)
        conclude(p);
    return p->delivered || elsewhere;
}

int ws_server_publish(ws_server *server, const char *topic, size_t topic_length, const void *data,
                      size_t length, int opcode)
{
    struct publication p = {.hub = ws__hub_of(server),
                            .plain = {.data = data, .length = length, .opcode = opcode}};
    return publish(&p, topic, topic_length, NULL);
}

int ws_conn_publish(ws_conn *conn, const char *topic, size_t topic_length, const void *data,
                    size_t length, int opcode, bool exclude_self)
{
    struct publication p = {.hub = conn->stream.hub,
                            .plain = {.data = data, .length = length, .opcode = opcode}};
    if (conn->stream.phase != WS__CONN_OPEN)
        return 0;
    return publish(&p, topic, topic_length, exclude_self ? conn : NULL);
}

int ws_server_deliver(ws_server *server, const char *topic, size_t topic_length, const void *data,
                      size_t length, int opcode)
{
    struct publication p = {.hub = ws__hub_of(server),
                            .plain = {.data = data, .length = length, .opcode = opcode},
                            .here = true};
    return publish(&p, topic, topic_length, NULL);
}

#endif
