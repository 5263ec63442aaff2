/* SPDX-License-Identifier: MIT */
/*
 * ws_cluster.h: topics that span several servers, an addition to ws.h.
 * A *bus* connects the processes of one machine. A *relay* is a part of the application that
 * carries messages to other machines, such as the client of a message broker. The words for
 * ownership, threads and errors are those of ws.h.
 *
 * With -DWS_NO_CLUSTER the library has neither of them, nor labels: these functions return
 * WS_ENOTSUP, except for ws_server_deliver, ws_server_end_topic and ws_server_end_topic_here, and
 * for ws_server_next_topic, which returns NULL.
 */
#ifndef WS_CLUSTER_H
#define WS_CLUSTER_H

#include "ws.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- relay -------------------------------------------------------------------------------- */

/* What a relay learns of a server. Begin with ws_relay_init. Every function may be NULL. Pointers
 * to data are borrowed. The functions run in the middle of other calls: of this header and ws.h
 * they may call only ws_server_defer and ws_server_wakeup. */
typedef struct ws_relay {
    size_t size;
    void *user; /* kept; passed to each function */
    /* A topic has got its first subscriber on this server (exists), or lost its last one. */
    void (*on_topic)(const char *topic, size_t length, bool exists, void *user);
    /* A message was published here, with ws_server_publish or ws_conn_publish. The opcode is
     * WS_TEXT or WS_BINARY, perhaps or-ed with WS_COMPRESS. Runs after the subscribers of this
     * server got the message and before any handler that the publish causes, and also if there are
     * no subscribers here or the server is shutting down. */
    void (*on_publish)(const char *topic, size_t topic_length, const char *data, size_t length,
                       int opcode, void *user);
    /* ws_server_end_topic was called here. Runs before any connection is ended. */
    void (*on_end)(const char *topic, size_t topic_length, int code, const char *reason,
                   size_t length, void *user);
    /* A message is about to be published here; the arguments are those of on_publish. True: the
     * relay takes it over. The message goes to no subscriber, no other member of the bus and not to
     * on_publish, and ws_server_publish and ws_conn_publish return 1; the relay delivers it later
     * (ws_server_deliver), also to the connection that exclude_self named. False, or NULL: the
     * message is published as usual. Also runs while the server is shutting down. */
    bool (*on_take)(const char *topic, size_t topic_length, const char *data, size_t length,
                    int opcode, void *user);
} ws_relay;

/* Fills *relay: no functions. `size` is sizeof(ws_relay) of the caller. Returns WS_OK or WS_EABI.
 * Any thread. */
WS_API int ws_relay_init(ws_relay *relay, size_t size);

/* Sets the relay (copied) in place of the previous one; NULL ends it. For the topics that exist
 * already, see ws_server_next_topic. Returns WS_OK or WS_EABI. */
WS_API int ws_server_set_relay(ws_server *server, const ws_relay *relay);

/* Returns a topic that has subscribers on this server: the first one if `topic` is NULL, otherwise
 * the one after `topic`, in no particular order. Returns NULL after the last one, or if `topic` has
 * no subscribers, and sets *length to 0 then. While no subscription begins or ends, the walk visits
 * every topic once. The result is borrowed until then. */
WS_API const char *ws_server_next_topic(const ws_server *server, const char *topic,
                                        size_t topic_length, size_t *length);

/* Does what ws_server_publish does for the subscribers of this server alone: the message came from
 * another one, or the relay had taken it over. The opcode may be or-ed with WS_LABELLED, also with
 * WS_NOTICE in addition. Returns what ws_server_publish returns. */
WS_API int ws_server_deliver(ws_server *server, const char *topic, size_t topic_length,
                             const void *data, size_t length, int opcode);

/* Ends every connection that is subscribed to the topic, as ws_conn_end does with this code and
 * reason, on all members of the bus and all servers that the relay reaches. A connection that
 * subscribes while this runs stays. Returns the number of connections that were ended on this
 * server, WS_EINVAL (as ws_conn_end) or WS_ENOMEM (nothing was done). */
WS_API int ws_server_end_topic(ws_server *server, const char *topic, size_t topic_length, int code,
                               const char *reason, size_t length);

/* Does the same on this server alone. */
WS_API int ws_server_end_topic_here(ws_server *server, const char *topic, size_t topic_length,
                                    int code, const char *reason, size_t length);

/* ---- labels ------------------------------------------------------------------------------- */

/* A *label* is what the application has to say about a message, such as its number in the topic, to
 * the programs of clients that ask for it. A connection *takes labels* from ws_conn_take_labels on.
 * To such a connection, a data message that begins with a zero byte begins with a label, which ends
 * with the first '\n'; the message proper follows. The server puts an empty label, "\0\n", in front
 * of every other data message that begins with a zero byte, however it is sent, and of a message
 * whose first fragment is empty. So the two cannot be confused. max_backpressure counts labels. */

/* Flags to be or-ed with WS_TEXT or WS_BINARY, perhaps with WS_COMPRESS. */
enum {
    /* For ws_conn_send and ws_server_deliver: the data begins with a label (WS_EINVAL if it does
     * not), in UTF-8 if the message is a text. Connections that take no labels get only what
     * follows the label, and so does on_dropped. */
    WS_LABELLED = 0x200,
    /* For ws_server_deliver, in addition to WS_LABELLED: connections that take no labels get
     * nothing. The data is usually a label alone. */
    WS_NOTICE = 0x400
};

/* The connection takes labels from now on, typically from on_open on. What was sent or published to
 * it before has none. Returns WS_OK, also if it does already, or WS_ECLOSED. */
WS_API int ws_conn_take_labels(ws_conn *conn);

/* ---- local bus ---------------------------------------------------------------------------- */

/* The servers of several processes (or threads) of one machine can be *members* of a bus: what is
 * published on one of them reaches the subscribers of all. A message is sent only to the members
 * that have subscribers of its topic. Messages of one member arrive in the order in which they were
 * published, each at most once: if a member does not keep up (it is stopped, or too slow), those
 * beyond max_queue are lost for that member, and counted. Publishing never waits for other members.
 *
 * Whoever subscribes is reached by what is published later on any member: when a client has been
 * sent something after its subscription, the other members know of the subscription. Members that
 * do not keep up learn of it later, and what they publish until then may miss it.
 *
 * Each member has an inbox, which is a pair of connected datagram sockets:
 *
 *     socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)
 *
 * One end is read by the member, the other one is for all others to write to. The parent of the
 * processes makes all pairs before it forks, and keeps both ends open, so that a member that has
 * ended can be replaced. A new member discards what is in its inbox. */

/* Stands for all members but this one, in ws_server_tell. */
#define WS_ALL_MEMBERS UINT32_MAX

/* Begin with ws_bus_options_init. */
typedef struct ws_bus_options {
    size_t size;
    uint32_t self;      /* number of this member, from 0 */
    uint32_t count;     /* of members, 1 to 65536 */
    uint32_t epoch;     /* not 0; larger than that of the member that this one replaces */
    int inbox;          /* reading end of this member's inbox */
    const int *inboxes; /* copied; writing ends of all inboxes; that of this member is not used, and
                           stays the caller's */
    uint64_t key[2];    /* random, the same for all members */
    size_t max_queue;   /* once so many bytes wait for one other member, further messages for it
                           are lost; default 16 MiB */
    /* A member has called ws_server_tell. `data` is borrowed. May call every function that a
     * handler of ws_behavior may call. NULL: such messages are ignored. */
    void (*on_message)(uint32_t member, const char *data, size_t length, void *user);
    void *user; /* kept */
} ws_bus_options;

/* Fills *options with the defaults. `size` is sizeof(ws_bus_options) of the caller. Returns WS_OK
 * or WS_EABI. Any thread. */
WS_API int ws_bus_options_init(ws_bus_options *options, size_t size);

/* Makes the server a member of a bus. The descriptors (but inboxes[self]) belong to the server once
 * the call succeeds: they become non-blocking, and ws_server_free closes them. Returns WS_OK,
 * WS_EINVAL (a value is out of range), WS_EBUSY (the server is a member already, or has
 * subscriptions), WS_EABI, WS_ENOMEM, WS_EFORKED, or WS_ESYSTEM with errno (a descriptor is not a
 * datagram socket). */
WS_API int ws_server_join(ws_server *server, const ws_bus_options *options);

/* Sends data (copied, less than 1 GiB) to one member, or to WS_ALL_MEMBERS but this one, whose
 * on_message gets it, in order with what is published. Returns the number of members that it is on
 * its way to: those that have left, or whose queue is full, are left out. WS_EINVAL: the server is
 * not on a bus, or there is no such other member. */
WS_API int ws_server_tell(ws_server *server, uint32_t member, const void *data, size_t length);

/* What a server has sent to other members, and got from them, since it joined. */
typedef struct ws_bus_stats {
    size_t size;
    uint64_t sent;      /* messages, once for each member that they were queued for; those of
                           ws_server_tell and ws_server_end_topic count */
    uint64_t received;  /* messages that arrived */
    uint64_t lost;      /* messages that a member did not get because its queue was full, or that
                           this one lost because memory ran out */
    uint64_t bytes_out; /* written to sockets */
    uint64_t bytes_in;  /* read from the inbox */
    size_t queued;      /* bytes that wait for other members now */
    uint32_t members;   /* other members that are there now, and have announced their topics */
} ws_bus_stats;

/* Fills *stats: zeros if the server is not on a bus. `size` is sizeof(ws_bus_stats) of the caller.
 * Returns WS_OK or WS_EABI. */
WS_API int ws_server_bus_stats(const ws_server *server, ws_bus_stats *stats, size_t size);

/* Tells all members that the process of `member` with this epoch has ended, so that they send it
 * nothing more. It is for the parent, after it has waited for the process. `inboxes` are the
 * writing ends of all `count` members. Where an inbox is full, nothing is written, and that member
 * learns of the end when the next one joins. To a member that joins later this can be repeated:
 * otherwise it expects `member` to join, and keeps what it publishes for it, up to max_queue.
 * Returns WS_OK, WS_EINVAL or WS_ESYSTEM with errno. Any thread. */
WS_API int ws_bus_announce_end(const int *inboxes, uint32_t count, uint32_t member, uint32_t epoch);

#ifdef __cplusplus
}
#endif
#endif
