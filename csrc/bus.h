/* SPDX-License-Identifier: MIT */
/*
 * bus.h: the local bus: what the servers of one application, each in its own process, send each
 * other. A member announces which topics have subscribers there, so that the others send it only
 * what it needs. A datagram socket for each member carries what the others send it, see record.h.
 *
 *                   the first datagram of a new member         SYNC           SYNCED
 *    GONE, KNOWN … ────────────────────────────────▶ UNKNOWN ─────▶ SYNCING ─────────▶ KNOWN
 *           any state, with BYE or GONE ─▶ GONE         any state, after a gap ─▶ UNKNOWN
 *
 * UNKNOWN and SYNCING members are sent everything, because what they need is not known (yet); GONE
 * ones nothing. One whose topics did not fit into memory is UNKNOWN, and is asked for them later. A
 * server that has said BYE itself counts the others as UNKNOWN: they announce nothing more to it.
 */
#ifndef WS__BUS_H
#define WS__BUS_H

#include "hub.h"
#include "record.h"

/* What the bus does with messages that arrive: functions of ws.h. */
struct ws__bus_handlers {
    int (*deliver)(ws_server *server, const char *topic, size_t topic_length, const void *data,
                   size_t length, int opcode);
    int (*end)(ws_server *server, const char *topic, size_t topic_length, int code,
               const char *reason, size_t length);
};

/* These functions are for a server that is on a bus. They are called by hub->bus_calls, so that a
 * program which is linked statically and never joins a bus does not contain them. */

/* Sends what is queued, as far as the others have room, and writes the log lines that have waited:
 * in the middle of a turn, the log function could change what its caller is working on. */
void ws__bus_end_turn(struct ws__hub *hub);
/* Returns true if something is left to be handled in the next turn. */
bool ws__bus_has_more(const struct ws__bus *bus);
/* At the beginning of a turn: reads what the others have sent, and hands it out until the turn is
 * late. */
void ws__bus_receive(struct ws__hub *hub, int count);
/* The socket of a member has room again. */
void ws__bus_on_event(struct ws__hub *hub, uint32_t member);

/* A topic has got its first subscriber here, or has lost its last one. */
void ws__bus_announce(struct ws__hub *hub, uint64_t hash, bool exists);
/* Something was published here: a record of type PUBLISH or END goes to every member that may need
 * it. Returns true if there is one. */
bool ws__bus_send(struct ws__hub *hub, uint64_t hash, const struct ws__record *record);
/* The server shuts down, and wants nothing more. */
void ws__bus_say_bye(struct ws__hub *hub);
/* The server starts again after a shutdown. */
void ws__bus_return(struct ws__hub *hub);

/* Leaves the bus, and closes the sockets. */
void ws__bus_free(struct ws__hub *hub);

struct ws__bus_calls {
    void (*end_turn)(struct ws__hub *hub);
    bool (*has_more)(const struct ws__bus *bus);
    void (*receive)(struct ws__hub *hub, int count);
    void (*on_event)(struct ws__hub *hub, uint32_t member);
    void (*announce)(struct ws__hub *hub, uint64_t hash, bool exists);
    bool (*send)(struct ws__hub *hub, uint64_t hash, const struct ws__record *record);
    void (*say_bye)(struct ws__hub *hub);
    void (*come_back)(struct ws__hub *hub);
    void (*free)(struct ws__hub *hub);
};

/* See ws_server_join. The loop reports what happens to the sockets with the values `first_data` to
 * first_data + options->count - 1. */
int ws__bus_join(struct ws__hub *hub, const ws_bus_options *options, uint64_t first_data,
                 const struct ws__bus_handlers *handlers);

#endif
