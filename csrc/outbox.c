/* SPDX-License-Identifier: MIT */
/*
 * outbox.c: what is on its way to one member of a local bus.
 */
#include "outbox.h"
#ifndef WS_NO_CLUSTER
#include "net.h"

#include <errno.h>
#include <string.h>

enum { LEAST_PART = 1024 }; /* bytes */

void ws__outbox_init(struct ws__outbox *box, uint32_t member, int fd, uint64_t data)
{
    box->member = member;
    box->fd = fd;
    box->data = data;
    box->part = WS__DATAGRAM_MAX - WS__DATAGRAM_HEAD;
}

int ws__outbox_add(struct ws__outbox *box, struct ws__hub *hub, enum ws__record_type type, int code,
                   const void *data, size_t length)
{
    const struct ws__record record = {.type = type, .code = code, .data = data, .length = length};
    return ws__record_queue_add(&box->queue, &hub->memory, &record);
}

bool ws__outbox_add_message(struct ws__outbox *box, struct ws__hub *hub,
                            const struct ws__record *record, size_t most)
{
    if (ws__outbox_length(box) < most && !ws__record_queue_add(&box->queue, &hub->memory, record))
        return true;
    box->late = true;
    box->lost++;
    return false;
}

static void await_room(struct ws__outbox *box, struct ws__hub *hub)
{
    if (!box->blocked)
        box->blocked = !ws__loop_add(&hub->loop, box->fd, WS__LOOP_WRITE, box->data);
}

/* Returns the result of the system call. */
static ssize_t write_datagram(struct ws__outbox *box, struct ws__hub *hub)
{
    char head[WS__DATAGRAM_HEAD];
    size_t n = ws__outbox_length(box) < box->part ? ws__outbox_length(box) : box->part;
    struct iovec parts[2] = {{head, sizeof head}, {ws__buffer_data(box->queue.bytes), n}};
    box->head.sequence = box->queue.sequence;
    box->head.first = ws__record_queue_first(&box->queue, n);
    ws__record_write_head(head, &box->head);
    ssize_t result = ws__net_writev(box->fd, parts, 2);
    if (result < 0)
        return result;
    box->bytes += sizeof head + n;
    ws__record_queue_sent(&box->queue, &hub->memory, n);
    return result;
}

/* The kernel refuses a datagram that is larger than its buffer. */
int ws__outbox_write(struct ws__outbox *box, struct ws__hub *hub)
{
    while (ws__outbox_length(box) && !box->blocked) {
        ssize_t result = write_datagram(box, hub);
        if (result == WS__NET_AGAIN) {
            await_room(box, hub);
            return WS_OK;
        }
        if (result == WS__NET_ERROR && errno == EMSGSIZE && box->part > LEAST_PART)
            box->part /= 2;
        else if (result == WS__NET_ERROR)
            return WS_ESYSTEM;
    }
    if (!ws__outbox_length(box))
        box->late = false;
    return WS_OK;
}

void ws__outbox_unblock(struct ws__outbox *box, struct ws__hub *hub)
{
    if (box->blocked)
        ws__loop_remove(&hub->loop, box->fd);
    box->blocked = false;
}

void ws__outbox_report(struct ws__outbox *box, struct ws__hub *hub)
{
    int error = box->error;
    box->error = 0;
    if (error)
        ws__hub_log(hub, WS_LOG_ERROR, "bus: cannot write to member %u: %s", (unsigned)box->member,
                    strerror(error));
    if (box->lost && !box->told) {
        box->told = true;
        ws__hub_log(hub, WS_LOG_WARNING,
                    "bus: member %u does not keep up, messages for it are lost",
                    (unsigned)box->member);
    }
    if (box->told && !box->late) {
        uint64_t lost = box->lost;
        box->told = false;
        box->lost = 0;
        ws__hub_log(hub, WS_LOG_WARNING, "bus: member %u keeps up again, %llu messages were lost",
                    (unsigned)box->member, (unsigned long long)lost);
    }
}

void ws__outbox_clear(struct ws__outbox *box, struct ws__hub *hub)
{
    ws__record_queue_clear(&box->queue, &hub->memory);
    box->late = box->told = false;
    box->lost = 0;
}

/* ---- ws_cluster.h ---- */

int ws_bus_options_init(ws_bus_options *options, size_t size)
{
    if (size != sizeof *options)
        return WS_EABI;
    memset(options, 0, sizeof *options);
    options->size = size;
    options->inbox = -1;
    options->max_queue = 16 * 1024 * 1024;
    return WS_OK;
}

int ws_bus_announce_end(const int *inboxes, uint32_t count, uint32_t member, uint32_t epoch)
{
    const uint32_t body[2] = {member, epoch};
    const struct ws__datagram head = {.sender = WS_ALL_MEMBERS};
    const struct ws__record record = {
        .type = WS__RECORD_GONE, .data = (const char *)body, .length = sizeof body};
    char bytes[WS__DATAGRAM_HEAD + 64];
    int result = WS_OK;
    if (member >= count || !epoch)
        return WS_EINVAL;
    ws__record_write_head(bytes, &head);
    ws__record_write(bytes + WS__DATAGRAM_HEAD, &record);
    size_t n = WS__DATAGRAM_HEAD + ws__record_size(&record);
    for (uint32_t i = 0; i < count; i++)
        if (i != member && ws__net_write(inboxes[i], bytes, n) == WS__NET_ERROR)
            result = WS_ESYSTEM;
    return result;
}

#endif
