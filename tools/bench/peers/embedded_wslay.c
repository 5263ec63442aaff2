/* SPDX-License-Identifier: MIT */
/* embedded_wslay.c: the echo server that embedded.py measures of wslay, with the least around it.
 */
#include "accept.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

static wslay_event_context_ptr contexts[1024]; /* by descriptor */

static ssize_t on_read(wslay_event_context_ptr ctx, uint8_t *data, size_t size, int flags, void *fd)
{
    ssize_t length = recv((int)(intptr_t)fd, data, size, MSG_DONTWAIT | flags);

    if (length < 0 && errno == EAGAIN)
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
    return length > 0 ? length : -1;
}

static ssize_t on_write(wslay_event_context_ptr ctx, const uint8_t *data, size_t size, int flags,
                        void *fd)
{
    (void)ctx, (void)flags;
    return send((int)(intptr_t)fd, data, size, MSG_NOSIGNAL);
}

static void on_message(wslay_event_context_ptr ctx,
                       const struct wslay_event_on_msg_recv_arg *message, void *fd)
{
    struct wslay_event_msg echo = {message->opcode, message->msg, message->msg_length};

    (void)fd;
    if (!wslay_is_ctrl_frame(message->opcode))
        wslay_event_queue_msg(ctx, &echo);
}

/* Answers an opening handshake, which arrives in one piece. */
static int open_connection(int fd)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_read, .send_callback = on_write, .on_msg_recv_callback = on_message};
    static const char name[] = "Sec-WebSocket-Key: ";
    char head[4096] = "", accept[ACCEPT_LENGTH + 1], *key;

    if (fd < 0 || fd >= 1024 || recv(fd, head, sizeof head - 1, 0) <= 0 ||
        (key = strstr(head, name)) == NULL)
        return -1;
    accept_value(key + strlen(name), accept);
    dprintf(fd,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: %s\r\n\r\n",
            accept);
    return wslay_event_context_server_init(&contexts[fd], &callbacks, (void *)(intptr_t)fd);
}

static void serve(int fd)
{
    if (wslay_event_recv(contexts[fd]) || wslay_event_send(contexts[fd])) {
        wslay_event_context_free(contexts[fd]);
        close(fd);
    }
}

int main(void)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};

    if (bind(listener, (struct sockaddr *)&place, length) || listen(listener, 128) ||
        getsockname(listener, (struct sockaddr *)&place, &length))
        return 1;
    printf("listening on 127.0.0.1:%d\n", ntohs(place.sin_port));
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (epoll_wait(poller, &event, 1, -1) == 1) {
        if (event.data.fd != listener) {
            serve(event.data.fd);
        } else if (open_connection(event.data.fd = accept(listener, NULL, NULL)) == 0) {
            event.events = EPOLLIN;
            epoll_ctl(poller, EPOLL_CTL_ADD, event.data.fd, &event);
        }
    }
    return 1;
}
