/* SPDX-License-Identifier: MIT */
/*
 * bus.c: the local bus: who is a member, what each of them needs, and what is on its way. Knows
 * nothing of connections: what arrives is handed to functions of ws.h. bus.h draws the states.
 */
#include "bus.h"
#ifndef WS_NO_CLUSTER
#include "interest.h"
#include "net.h"
#include "outbox.h"

#include <errno.h>
#include <string.h>

enum {
    ARRIVED_MAX = 1024 * 1024, /* bytes that were read but not handed out: then reading pauses */
    READ_MAX = 1024,           /* datagrams that are read at a time */
    DRAIN_MAX = 100000,        /* datagrams that a new member discards */
    HASHES = 512,              /* in one record */
    BUFFER_KEPT = 64 * 1024,   /* bytes; a larger one is freed once it is empty */
    PATIENCE = 1000            /* messages, see bus_member.patience */
};

enum bus_state { BUS_UNKNOWN, BUS_SYNCING, BUS_KNOWN, BUS_GONE };

struct bus_member {
    struct ws__outbox out;
    struct ws__record_stream in;
    struct ws__interest interest;
    uint32_t epoch; /* 0: not known */
    uint8_t state;  /* enum bus_state */
    bool sync_due;  /* it must be sent our topics */
    bool sync_asks; /* and be asked for its own */
    bool ask_due;   /* something of it was lost: it must send its topics again */
    /* Its topics did not fit into memory: so many messages more, and it is asked for them again. */
    size_t patience;
};

struct ws__bus {
    ws_bus_options options;
    struct ws__bus_handlers handlers;
    uint64_t first_data;
    ws_bus_stats stats; /* not bytes_out, queued, members */
    struct bus_member *members;
    struct ws__buffer *arrived; /* records that were read: number of the sender (4 bytes), record */
    struct ws__buffer *batch;   /* the same; they are being handed out, before `arrived` */
    char *datagram;             /* space for one */
    bool pending;               /* something is queued, or due */
    bool news;                  /* a line waits to be logged */
    bool unread;                /* there may be more in the inbox */
    bool reading;
    bool left;                  /* said BYE */
    bool complained;            /* malformed input was logged */
};

static bool is_other(const struct ws__bus *bus, uint32_t i)
{
    return i < bus->options.count && i != bus->options.self;
}

static size_t queued_for(const struct bus_member *m)
{
    return ws__outbox_length(&m->out);
}

static void set_epoch(struct bus_member *m, uint32_t epoch)
{
    m->epoch = m->out.head.to_epoch = epoch;
}

/* It is not known any more what the member needs. */
static void doubt_interest(struct ws__hub *hub, struct bus_member *m)
{
    ws__interest_clear(&m->interest, &hub->memory);
    m->state = BUS_UNKNOWN;
    m->patience = 0;
}

/* ---- sending ---- */

/* Its process has ended, or left, or another one takes its place: what it needed is forgotten. */
static void forget_member(struct ws__hub *hub, struct bus_member *m, enum bus_state state)
{
    ws__outbox_unblock(&m->out, hub);
    ws__outbox_clear(&m->out, hub);
    doubt_interest(hub, m);
    m->state = (uint8_t)state;
    m->sync_due = m->sync_asks = m->ask_due = false;
}

/* Queues the hashes of all topics that have subscribers here. */
static int add_topics(struct ws__hub *hub, struct bus_member *m)
{
    uint64_t *hashes = ws__memory_resize(&hub->memory, NULL, 0, HASHES * sizeof *hashes);
    const struct ws__topic *topic = ws__topics_next(&hub->topics, NULL);
    int error = hashes ? WS_OK : WS_ENOMEM;
    while (topic && !error) {
        size_t n = 0;
        for (; topic && n < HASHES; topic = ws__topics_next(&hub->topics, topic))
            if (topic->count)
                hashes[n++] = topic->hash;
        if (n)
            error = ws__outbox_add(&m->out, hub, WS__RECORD_ADD, 0, hashes, n * sizeof *hashes);
    }
    ws__memory_free(&hub->memory, hashes, hashes ? HASHES * sizeof *hashes : 0);
    return error;
}

/* Without memory it stays due, and false is returned. A part of it does no harm, as the member
 * counts as SYNCING then. */
static bool sync_member(struct ws__hub *hub, struct bus_member *m)
{
    if (hub->bus->left) {
        m->sync_due = ws__outbox_add(&m->out, hub, WS__RECORD_BYE, 0, NULL, 0);
        return !m->sync_due;
    }
    if (ws__outbox_add(&m->out, hub, WS__RECORD_SYNC, m->sync_asks, NULL, 0) ||
        add_topics(hub, m) || ws__outbox_add(&m->out, hub, WS__RECORD_SYNCED, 0, NULL, 0))
        return false;
    m->sync_due = m->sync_asks = false;
    return true;
}

/* Calls nothing of the application, since it may run while bytes of a stream are being written. */
static void flush_member(struct ws__hub *hub, struct bus_member *m)
{
    bool again = true;
    while (again) {
        if (ws__outbox_write(&m->out, hub)) {
            m->out.error = errno;
            forget_member(hub, m, BUS_GONE);
        }
        if (queued_for(m))
            break;
        bool synced = !m->sync_due || sync_member(hub, m);
        if (m->ask_due)
            m->ask_due = ws__outbox_add(&m->out, hub, WS__RECORD_ASK, 0, NULL, 0);
        again = synced && queued_for(m);
    }
    /* Otherwise the loop comes back to it, or memory has run out and a later turn tries again. */
    if (!m->out.blocked && (queued_for(m) || m->sync_due || m->ask_due))
        hub->bus->pending = true;
    hub->bus->news = hub->bus->news || ws__outbox_has_news(&m->out);
}

static void flush_members(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    hub->before_output = NULL;
    if (!bus->pending)
        return;
    bus->pending = false;
    for (uint32_t i = 0; i < bus->options.count; i++)
        if (is_other(bus, i) && !bus->members[i].out.blocked)
            flush_member(hub, &bus->members[i]);
}

static void report_news(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    if (!bus->news)
        return;
    bus->news = false;
    for (uint32_t i = 0; i < bus->options.count; i++)
        if (is_other(bus, i))
            ws__outbox_report(&bus->members[i].out, hub);
}

void ws__bus_end_turn(struct ws__hub *hub)
{
    flush_members(hub);
    if (!hub->bus->news)
        return;
    report_news(hub);
    flush_members(hub); /* what the log function has caused */
}

/* Something was queued. Between turns it leaves at once. */
static void note_pending(struct ws__hub *hub, bool before_output)
{
    hub->bus->pending = true;
    if (!hub->in_turn)
        flush_members(hub);
    else if (before_output)
        hub->before_output = flush_members;
}

static bool queue_message(struct ws__hub *hub, struct bus_member *m,
                          const struct ws__record *record)
{
    struct ws__bus *bus = hub->bus;
    size_t queued = queued_for(m);
    if ((queued >= m->out.part || queued >= bus->options.max_queue) && !m->out.blocked)
        flush_member(hub, m);
    bool added = m->state != BUS_GONE &&
                 ws__outbox_add_message(&m->out, hub, record, bus->options.max_queue);
    bus->stats.sent += added;
    bus->stats.lost += !added;
    bus->news = bus->news || ws__outbox_has_news(&m->out);
    return added;
}

/* Messages were queued for members. No caller is in the middle of a change here. */
static void send_messages(struct ws__hub *hub, bool before_output)
{
    note_pending(hub, before_output);
    if (!hub->in_turn)
        report_news(hub);
}

/* ---- receiving ---- */

/* Something of its stream is missing, and perhaps an announcement with it. */
static void lose_part(struct ws__hub *hub, struct bus_member *m)
{
    if (m->state != BUS_GONE)
        doubt_interest(hub, m);
    m->ask_due = hub->bus->pending = true;
    hub->bus->stats.lost++;
}

static void complain(struct ws__hub *hub)
{
    if (!hub->bus->complained)
        ws__hub_log(hub, WS_LOG_ERROR, "bus: malformed input");
    hub->bus->complained = true;
}

/* What is not known is taken for interest in everything. Without memory for its topics, a member is
 * asked for them again after as many messages as it has topics, so that this costs little. */
static void change_interest(struct ws__hub *hub, struct bus_member *m,
                            const struct ws__record *record)
{
    if (m->state != BUS_SYNCING && m->state != BUS_KNOWN)
        return;
    for (size_t i = 0; i < record->length; i += sizeof(uint64_t)) {
        uint64_t hash;
        memcpy(&hash, record->data + i, sizeof hash);
        if (record->type == WS__RECORD_REMOVE) {
            ws__interest_remove(&m->interest, &hub->memory, hash);
        } else if (ws__interest_add(&m->interest, &hub->memory, hash)) {
            size_t topics = m->interest.count;
            doubt_interest(hub, m);
            m->patience = topics > PATIENCE ? topics : PATIENCE;
            return;
        }
    }
}

/* Messages wait until they are handed out, but announcements take effect at once. */
static void keep_record(struct ws__hub *hub, const struct bus_member *m,
                        const struct ws__record *record)
{
    struct ws__bus *bus = hub->bus;
    uint32_t sender = m->out.member;
    size_t size = ws__record_size(record);
    char *to = ws__buffer_reserve(&hub->memory, &bus->arrived, sizeof sender + size);
    if (!to) {
        bus->stats.lost++;
        return;
    }
    memcpy(to, &sender, sizeof sender);
    ws__record_write(to + sizeof sender, record);
    ws__buffer_commit(bus->arrived, sizeof sender + size);
}

static void take_record(struct ws__hub *hub, struct bus_member *m, const struct ws__record *record)
{
    switch (record->type) {
    case WS__RECORD_SYNC:
        doubt_interest(hub, m);
        if (!hub->bus->left) /* otherwise it will announce nothing more */
            m->state = BUS_SYNCING;
        m->ask_due = false;
        m->sync_due = m->sync_due || record->code;
        hub->bus->pending = true;
        break;
    case WS__RECORD_ADD:
    case WS__RECORD_REMOVE:
        change_interest(hub, m, record);
        break;
    case WS__RECORD_SYNCED:
        if (m->state == BUS_SYNCING)
            m->state = BUS_KNOWN;
        break;
    case WS__RECORD_ASK:
        m->sync_due = hub->bus->pending = true;
        break;
    case WS__RECORD_PUBLISH:
    case WS__RECORD_END:
    case WS__RECORD_MESSAGE:
        keep_record(hub, m, record);
        break;
    case WS__RECORD_BYE:
        forget_member(hub, m, BUS_GONE);
        break;
    case WS__RECORD_GONE:
        complain(hub);
        break;
    }
}

/* From the parent: a process has ended. A newer one may be there already. */
static void take_end(struct ws__hub *hub, const struct ws__input *in)
{
    struct ws__bus *bus = hub->bus;
    struct ws__record record;
    uint32_t body[2];
    if (ws__record_read(in->data, in->length, &record) != 1 || record.type != WS__RECORD_GONE) {
        complain(hub);
        return;
    }
    memcpy(body, record.data, sizeof body);
    if (!is_other(bus, body[0]) || body[1] < bus->members[body[0]].epoch)
        return;
    set_epoch(&bus->members[body[0]], body[1]);
    ws__record_stream_clear(&bus->members[body[0]].in, &hub->memory);
    forget_member(hub, &bus->members[body[0]], BUS_GONE);
}

/* Another process has taken the place of the member. What waits for one that was not known until
 * now may be for this one. */
static void meet_member(struct ws__hub *hub, struct bus_member *m, uint32_t epoch)
{
    if (m->epoch)
        forget_member(hub, m, BUS_UNKNOWN);
    set_epoch(m, epoch);
    ws__record_stream_clear(&m->in, &hub->memory);
}

static void take_datagram(struct ws__hub *hub, struct ws__input in)
{
    struct ws__bus *bus = hub->bus;
    struct ws__datagram head;
    struct ws__record record;
    int result;
    bus->stats.bytes_in += in.length;
    bool valid = ws__record_read_head(&head, &in);
    if (valid && head.sender == WS_ALL_MEMBERS) {
        take_end(hub, &in);
        return;
    }
    if (!valid || !is_other(bus, head.sender) || !head.epoch) {
        complain(hub);
        return;
    }
    struct bus_member *m = &bus->members[head.sender];
    if ((head.to_epoch && head.to_epoch != bus->options.epoch) || head.epoch < m->epoch)
        return; /* for the member that was here before, or from the one that was there */
    if (head.epoch > m->epoch)
        meet_member(hub, m, head.epoch);
    if (!ws__record_stream_begin(&m->in, &hub->memory, &head, &in))
        lose_part(hub, m);
    while ((result = ws__record_stream_next(&m->in, &hub->memory, &in, &record)) > 0)
        take_record(hub, m, &record);
    if (result < 0)
        lose_part(hub, m);
    if (result == WS_EINVAL)
        complain(hub);
}

/* `unread` is true meanwhile: the log function of the application might publish. */
static void read_inbox(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    if (bus->reading)
        return;
    bus->reading = bus->unread = true;
    for (int i = 0; i < READ_MAX; i++) {
        if (ws__buffer_length(bus->arrived) + ws__buffer_length(bus->batch) >= ARRIVED_MAX)
            break;
        ssize_t n = ws__net_read(bus->options.inbox, bus->datagram, WS__DATAGRAM_MAX);
        bus->unread = n > 0;
        if (n <= 0)
            break;
        take_datagram(hub, (struct ws__input){bus->datagram, (size_t)n});
    }
    bus->reading = false;
}

static void hand_out_one(struct ws__hub *hub, uint32_t sender, const struct ws__record *record)
{
    struct ws__bus *bus = hub->bus;
    switch (record->type) {
    case WS__RECORD_PUBLISH:
        bus->handlers.deliver(hub->server, record->topic, record->topic_length, record->data,
                              record->length, record->code);
        break;
    case WS__RECORD_END:
        if (bus->handlers.end(hub->server, record->topic, record->topic_length, record->code,
                              record->data, record->length) == WS_ENOMEM)
            bus->stats.lost++;
        break;
    default:
        WS__CALL(hub, bus->options.on_message, sender, record->data, record->length,
                 bus->options.user);
        break;
    }
}

/* The batch is empty: its block may serve again. */
static void next_batch(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    struct ws__buffer *empty = bus->batch;
    bus->batch = bus->arrived;
    bus->arrived = empty;
    if (empty && empty->capacity > BUFFER_KEPT)
        ws__buffer_free(&hub->memory, &bus->arrived);
}

/* A handler may publish, which reads the inbox: `arrived` may move then, but not `batch`. */
static void hand_out_arrived(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    for (unsigned handled = 1;; handled++) {
        struct ws__record record;
        uint32_t sender;
        if (!ws__buffer_length(bus->batch))
            next_batch(hub);
        size_t length = ws__buffer_length(bus->batch);
        if (!length)
            break;
        const char *at = ws__buffer_data(bus->batch);
        memcpy(&sender, at, sizeof sender);
        ws__record_read(at + sizeof sender, length - sizeof sender, &record);
        ws__buffer_consume(bus->batch, sizeof sender + ws__record_size(&record));
        bus->stats.received++;
        hand_out_one(hub, sender, &record);
        if (handled % WS__TURN_STEP == 0 && ws__hub_is_late(hub))
            break;
    }
}

bool ws__bus_has_more(const struct ws__bus *bus)
{
    return ws__buffer_length(bus->batch) || ws__buffer_length(bus->arrived);
}

void ws__bus_receive(struct ws__hub *hub, int count)
{
    struct ws__bus *bus = hub->bus;
    uint64_t inbox = bus->first_data + bus->options.self;
    bool ready = hub->loop.full || bus->unread;
    for (int i = 0; i < count && !ready; i++)
        ready = ws__loop_event(&hub->loop, i).data == inbox;
    if (ready)
        read_inbox(hub);
    hand_out_arrived(hub);
}

void ws__bus_on_event(struct ws__hub *hub, uint32_t member)
{
    struct ws__bus *bus = hub->bus;
    if (!is_other(bus, member)) /* the inbox was read at the beginning of the turn */
        return;
    ws__outbox_unblock(&bus->members[member].out, hub);
    flush_member(hub, &bus->members[member]);
}

/* ---- what happens here ---- */

/* Announcements may exceed max_queue, but only as far as all topics once: if the queue is too long,
 * all of them are announced again later instead of this change. */
void ws__bus_announce(struct ws__hub *hub, uint64_t hash, bool exists)
{
    struct ws__bus *bus = hub->bus;
    enum ws__record_type type = exists ? WS__RECORD_ADD : WS__RECORD_REMOVE;
    if (bus->left || hub->forked)
        return;
    for (uint32_t i = 0; i < bus->options.count; i++) {
        struct bus_member *m = &bus->members[i];
        if (!is_other(bus, i) || m->state == BUS_GONE || m->sync_due)
            continue;
        m->sync_due = queued_for(m) >= bus->options.max_queue ||
                      ws__outbox_add(&m->out, hub, type, 0, &hash, sizeof hash);
    }
    note_pending(hub, exists);
}

/* Reads what has arrived since the turn began: perhaps a subscription, of which the client whose
 * message is being published knows, or another process that has taken the place of a member. */
static void look_for_interest(struct ws__hub *hub)
{
    read_inbox(hub);
    if (ws__bus_has_more(hub->bus))
        ws__hub_touch(hub);
}

static bool is_interested(const struct bus_member *m, uint64_t hash)
{
    return m->state != BUS_GONE && (m->state != BUS_KNOWN || ws__interest_has(&m->interest, hash));
}

bool ws__bus_send(struct ws__hub *hub, uint64_t hash, const struct ws__record *record)
{
    struct ws__bus *bus = hub->bus;
    bool any = false;
    if (hub->forked)
        return false;
    look_for_interest(hub);
    for (uint32_t i = 0; i < bus->options.count; i++) {
        struct bus_member *m = &bus->members[i];
        bool interested = is_other(bus, i) && is_interested(m, hash);
        if (interested || (is_other(bus, i) && bus->unread && m->state != BUS_GONE))
            queue_message(hub, m, record);
        if (m->patience && !--m->patience)
            m->ask_due = true;
        any = any || interested;
    }
    send_messages(hub, record->type == WS__RECORD_END);
    return any;
}

/* Says BYE, or announces all topics. What the others need is not known from now on. */
static void say_to_all(struct ws__hub *hub, bool also_gone)
{
    struct ws__bus *bus = hub->bus;
    for (uint32_t i = 0; i < bus->options.count; i++) {
        struct bus_member *m = &bus->members[i];
        m->sync_due = is_other(bus, i) && (also_gone || m->state != BUS_GONE);
        if (m->state != BUS_GONE)
            doubt_interest(hub, m);
    }
    bus->pending = true;
    flush_members(hub);
}

/* The others announce nothing more to this member, which may still publish. */
void ws__bus_say_bye(struct ws__hub *hub)
{
    if (hub->bus->left)
        return;
    hub->bus->left = true;
    say_to_all(hub, false);
}

/* A member that said BYE may have returned meanwhile: if both had left, neither was told. */
void ws__bus_return(struct ws__hub *hub)
{
    if (!hub->bus->left)
        return;
    hub->bus->left = false;
    for (uint32_t i = 0; i < hub->bus->options.count; i++)
        hub->bus->members[i].sync_asks = true;
    say_to_all(hub, true);
}

/* ---- joining and leaving ---- */

static int check_options(const ws_bus_options *o)
{
    if (o->size != sizeof *o)
        return WS_EABI;
    return o->count >= 1 && o->count <= 65536 && o->self < o->count && o->epoch && o->inboxes &&
                   o->max_queue
               ? WS_OK
               : WS_EINVAL;
}

static void free_bus(struct ws__hub *hub, struct ws__bus *bus)
{
    size_t count = bus->options.count;
    for (size_t i = 0; i < count && bus->members; i++) {
        ws__interest_clear(&bus->members[i].interest, &hub->memory);
        ws__outbox_clear(&bus->members[i].out, hub);
        ws__record_stream_clear(&bus->members[i].in, &hub->memory);
    }
    ws__buffer_free(&hub->memory, &bus->arrived);
    ws__buffer_free(&hub->memory, &bus->batch);
    ws__memory_free(&hub->memory, bus->datagram, bus->datagram ? WS__DATAGRAM_MAX : 0);
    ws__memory_free(&hub->memory, bus->members, bus->members ? count * sizeof *bus->members : 0);
    ws__memory_free(&hub->memory, bus, sizeof *bus);
}

static struct ws__bus *new_bus(struct ws__hub *hub, const ws_bus_options *options,
                               uint64_t first_data)
{
    struct ws__bus *bus = ws__memory_zalloc(&hub->memory, sizeof *bus);
    if (!bus)
        return NULL;
    bus->options = *options;
    bus->options.inboxes = NULL; /* copied to the members */
    bus->datagram = ws__memory_resize(&hub->memory, NULL, 0, WS__DATAGRAM_MAX);
    bus->members = ws__memory_zalloc(&hub->memory, options->count * sizeof *bus->members);
    if (!bus->datagram || !bus->members) {
        free_bus(hub, bus);
        return NULL;
    }
    bus->first_data = first_data;
    for (uint32_t i = 0; i < options->count; i++) {
        struct bus_member *m = &bus->members[i];
        ws__outbox_init(&m->out, i, is_other(bus, i) ? options->inboxes[i] : -1, first_data + i);
        m->out.head.sender = options->self;
        m->out.head.epoch = options->epoch;
        m->sync_asks = true;
    }
    return bus;
}

/* Prepares all sockets, discards what was sent to the member that this one replaces, and watches
 * the inbox. */
static int open_sockets(struct ws__hub *hub, const struct ws__bus *bus)
{
    for (uint32_t i = 0; i < bus->options.count; i++) {
        int fd = is_other(bus, i) ? bus->members[i].out.fd : bus->options.inbox;
        if (!ws__net_prepare_datagrams(fd))
            return WS_ESYSTEM;
    }
    for (int i = 0; i < DRAIN_MAX; i++)
        if (ws__net_read(bus->options.inbox, bus->datagram, WS__DATAGRAM_MAX) < 0)
            break;
    return ws__loop_add(&hub->loop, bus->options.inbox, WS__LOOP_READ,
                        bus->first_data + bus->options.self);
}

void ws__bus_free(struct ws__hub *hub)
{
    struct ws__bus *bus = hub->bus;
    if (!hub->forked) {
        ws__bus_say_bye(hub);
        flush_members(hub);
        ws__loop_remove(&hub->loop, bus->options.inbox);
    }
    hub->before_output = NULL;
    for (uint32_t i = 0; i < bus->options.count; i++) {
        if (!hub->forked)
            ws__outbox_unblock(&bus->members[i].out, hub);
        ws__net_close(is_other(bus, i) ? bus->members[i].out.fd : bus->options.inbox);
    }
    hub->bus = NULL;
    free_bus(hub, bus);
}

int ws__bus_join(struct ws__hub *hub, const ws_bus_options *options, uint64_t first_data,
                 const struct ws__bus_handlers *handlers)
{
    static const struct ws__bus_calls calls = {
        .end_turn = ws__bus_end_turn, .has_more = ws__bus_has_more, .receive = ws__bus_receive,
        .on_event = ws__bus_on_event, .announce = ws__bus_announce, .send = ws__bus_send,
        .say_bye = ws__bus_say_bye, .come_back = ws__bus_return, .free = ws__bus_free};
    int error = check_options(options);
    if (error)
        return error;
    if (ws__loop_is_shared(&hub->loop))
        return WS_EFORKED;
    if (hub->bus || hub->topics.topic_count)
        return WS_EBUSY;
    struct ws__bus *bus = new_bus(hub, options, first_data);
    if (!bus)
        return WS_ENOMEM;
    bus->handlers = *handlers;
    error = open_sockets(hub, bus);
    if (error) {
        free_bus(hub, bus);
        return error;
    }
    ws__topics_set_seed(&hub->topics, options->key);
    hub->bus = bus;
    hub->bus_calls = &calls;
    hub->relaying = true;
    say_to_all(hub, false);
    return WS_OK;
}

/* ---- ws_cluster.h ---- */

int ws_server_tell(ws_server *server, uint32_t member, const void *data, size_t length)
{
    struct ws__hub *hub = ws__hub_of(server);
    struct ws__bus *bus = hub->bus;
    const struct ws__record record = {.type = WS__RECORD_MESSAGE, .data = data, .length = length};
    int count = 0;
    if (!bus || (member != WS_ALL_MEMBERS && !is_other(bus, member)) ||
        ws__record_size(&record) == SIZE_MAX)
        return WS_EINVAL;
    for (uint32_t i = 0; i < bus->options.count; i++) {
        struct bus_member *m = &bus->members[i];
        if (is_other(bus, i) && (member == i || member == WS_ALL_MEMBERS) && m->state != BUS_GONE)
            count += queue_message(hub, m, &record);
    }
    send_messages(hub, false);
    return count;
}

int ws_server_bus_stats(const ws_server *server, ws_bus_stats *stats, size_t size)
{
    const struct ws__bus *bus = ws__hub_of((ws_server *)server)->bus;
    if (size != sizeof *stats)
        return WS_EABI;
    *stats = bus ? bus->stats : (ws_bus_stats){0};
    stats->size = size;
    for (uint32_t i = 0; bus && i < bus->options.count; i++) {
        stats->bytes_out += bus->members[i].out.bytes;
        stats->queued += queued_for(&bus->members[i]);
        stats->members += is_other(bus, i) && bus->members[i].state == BUS_KNOWN;
    }
    return WS_OK;
}
#endif
