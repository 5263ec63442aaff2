/* SPDX-License-Identifier: MIT */
/*
 * faults.c: stands between the library and the system calls, see faults.h.
 */
#include "faults.h"

#include "ws_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct faults faults;

static int depth; /* calls of FAULTS_SERVER that are under way */

static const struct {
    const char *name;
    int errors[2];
} known[] = {
#define FAULT_KNOWN(name, error, other) {#name, {error, other}},
    FAULTS(FAULT_KNOWN)
#undef FAULT_KNOWN
};

/* Whether the call fails, with errno. */
static bool fails(const char *name)
{
    if (!depth || ++faults.calls != faults.fail_at)
        return false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) /* "send" comes before "sendmsg" */
        if (!strncmp(name, known[i].name, strlen(known[i].name)))
            errno = known[i].errors[faults.other];
    faults.failed = name;
    return true;
}

/* With --wrap=name, the linker leads calls of name to __wrap_name, and those of __real_name to it.
 * The names with 64 are weak, because not every C library has them. */
#define WRAP_AS(result, attributes, name, parameters, arguments) \
    attributes result __real_##name parameters; \
    result __wrap_##name parameters; \
    result __wrap_##name parameters \
    { \
        return fails(#name) ? (result)-1 : __real_##name arguments; \
    }
#define WRAP(result, name, parameters, arguments) \
    WRAP_AS(result, , name, parameters, arguments)
#define WRAP_64(result, name, parameters, arguments) \
    WRAP_AS(result, __attribute__((weak)), name, parameters, arguments) \
    WRAP_AS(result, __attribute__((weak)), name##64, parameters, arguments)

WRAP(int, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),
     (fd, address, length, flags))
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length))
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode))
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
WRAP(int, epoll_create1, (int flags), (flags))
WRAP(int, epoll_ctl, (int set, int operation, int fd, struct epoll_event *event),
     (set, operation, fd, event))
WRAP(int, epoll_wait, (int set, struct epoll_event *events, int count, int timeout),
     (set, events, count, timeout))
WRAP(int, eventfd, (unsigned count, int flags), (count, flags))
WRAP_64(int, fstat, (int fd, struct stat *status), (fd, status))
WRAP(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length),
     (fd, address, length))
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length),
     (fd, address, length))
WRAP(int, getsockopt, (int fd, int level, int option, void *value, socklen_t *length),
     (fd, level, option, value, length))
WRAP(int, listen, (int fd, int backlog), (fd, backlog))
WRAP_64(int, lstat, (const char *path, struct stat *status), (path, status))
WRAP_64(ssize_t, pread, (int fd, void *bytes, size_t n, off_t offset), (fd, bytes, n, offset))
WRAP(ssize_t, read, (int fd, void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, recv, (int fd, void *bytes, size_t n, int flags), (fd, bytes, n, flags))
WRAP(ssize_t, send, (int fd, const void *bytes, size_t n, int flags), (fd, bytes, n, flags))
WRAP_64(ssize_t, sendfile, (int to, int from, off_t *offset, size_t n), (to, from, offset, n))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t length),
     (fd, level, option, value, length))
WRAP(int, shutdown, (int fd, int how), (fd, how))
WRAP(int, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP(int, timerfd_create, (int clock, int flags), (clock, flags))
WRAP(int, timerfd_settime,
     (int fd, int flags, const struct itimerspec *when, struct itimerspec *before),
     (fd, flags, when, before))
WRAP(int, unlink, (const char *path), (path))
WRAP(ssize_t, write, (int fd, const void *bytes, size_t n), (fd, bytes, n))

/* close() reports errors of earlier writes; the descriptor is closed in any case. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    int result = __real_close(fd), error = errno;
    if (fails("close"))
        return -1;
    errno = error;
    return result;
}

int __real_getaddrinfo(const char *restrict node, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict found);
int __wrap_getaddrinfo(const char *restrict node, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict found);
int __wrap_getaddrinfo(const char *restrict node, const char *restrict service,
                       const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    if (fails("getaddrinfo"))
        return faults.other ? EAI_MEMORY : EAI_AGAIN;
    return __real_getaddrinfo(node, service, hints, found);
}

/* For functions whose third argument is optional: it is always passed on. */
#define WRAP_WITH_ONE(attributes, name, kind, key) \
    attributes int __real_##name(int fd, kind key, ...); \
    int __wrap_##name(int fd, kind key, ...); \
    int __wrap_##name(int fd, kind key, ...) \
    { \
        va_list rest; \
        va_start(rest, key); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        return fails(#name) ? -1 : __real_##name(fd, key, argument); \
    }
WRAP_WITH_ONE(__attribute__((weak)), fcntl, int, command)
WRAP_WITH_ONE(__attribute__((weak)), fcntl64, int, command)
#ifdef __GLIBC__
WRAP_WITH_ONE(, ioctl, unsigned long, request)
#else
WRAP_WITH_ONE(, ioctl, int, request)
#endif

#define WRAP_OPEN(name) \
    __attribute__((weak)) int __real_##name(const char *path, int flags, ...); \
    int __wrap_##name(const char *path, int flags, ...); \
    int __wrap_##name(const char *path, int flags, ...) \
    { \
        va_list rest; \
        va_start(rest, flags); \
        unsigned mode = flags & O_CREAT ? va_arg(rest, unsigned) : 0; \
        va_end(rest); \
        return fails(#name) ? -1 : __real_##name(path, flags, mode); \
    }
WRAP_OPEN(open)
WRAP_OPEN(open64)

/* At most six arguments, which are of one word each. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    return fails("syscall") ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- where calls count ---- */

#define SERVE(name, parameters, arguments) \
    int __real_##name parameters; \
    int __wrap_##name parameters; \
    int __wrap_##name parameters \
    { \
        depth++; \
        int result = __real_##name arguments; \
        depth--; \
        return result; \
    }

SERVE(ws_server_new, (ws_server **server, const ws_config *config), (server, config))
SERVE(ws_server_free, (ws_server *server), (server))
SERVE(ws_server_listen, (ws_server *server, const ws_listen_options *options), (server, options))
SERVE(ws_server_adopt, (ws_server *server, int fd, const void *bytes, size_t length),
      (server, fd, bytes, length))
SERVE(ws_server_step, (ws_server *server, int timeout_ms), (server, timeout_ms))
SERVE(ws_server_watch,
      (ws_server *server, int fd, unsigned events,
       void (*fn)(int fd, unsigned ready, void *user), void *user),
      (server, fd, events, fn, user))
SERVE(ws_server_publish,
      (ws_server *server, const char *topic, size_t topic_length, const void *data, size_t length,
       int opcode),
      (server, topic, topic_length, data, length, opcode))
SERVE(ws_server_defer, (ws_server *server, void (*fn)(void *argument), void *argument),
      (server, fn, argument))
SERVE(ws_server_join, (ws_server *server, const ws_bus_options *options), (server, options))
SERVE(ws_server_tell, (ws_server *server, uint32_t member, const void *data, size_t length),
      (server, member, data, length))
SERVE(ws_server_end_topic,
      (ws_server *server, const char *topic, size_t topic_length, int code, const char *reason,
       size_t length),
      (server, topic, topic_length, code, reason, length))
SERVE(ws_server_drain, (ws_server *server), (server))
SERVE(ws_server_shutdown,
      (ws_server *server, int code, const char *reason, size_t length, uint32_t timeout_ms),
      (server, code, reason, length, timeout_ms))
