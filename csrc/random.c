/* SPDX-License-Identifier: MIT */
/* random.c: random bytes from the kernel, of any age. Knows nothing of what they are for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif

#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* glibc before 2.25 has no getrandom(), and the headers of a kernel before 3.17 have no number for
 * the system call. */
#ifndef SYS_getrandom
#define SYS_getrandom (-1)
#endif

static bool random_of_kernel(void *bytes, size_t n)
{
    enum { WITHOUT_BLOCKING = 1 }; /* GRND_NONBLOCK of <linux/random.h> */
    return syscall(SYS_getrandom, bytes, n, WITHOUT_BLOCKING) == (long)n;
}

static bool random_of_device(void *bytes, size_t n)
{
    const int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    ssize_t got;
    if (fd < 0)
        return false;
    do
        got = read(fd, bytes, n);
    while (got < 0 && errno == EINTR);
    close(fd);
    return got == (ssize_t)n;
}

__attribute__((cold)) void ws__random(void *bytes, size_t n)
{
    if (random_of_kernel(bytes, n) || random_of_device(bytes, n))
        return;
    /* Without the system call and /dev, the address of the memory and the time must do. */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t mix = (uint64_t)(uintptr_t)bytes ^ (uint64_t)now.tv_nsec << 20 ^ (uint64_t)getpid();
    for (size_t i = 0; i < n; i++) {
        mix = mix * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)bytes)[i] = (uint8_t)(mix >> 56);
    }
}
