/* SPDX-License-Identifier: MIT */
/*
 * test_random.c: random bytes where the system call, or /dev/urandom, is missing.
 */
#include "random.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the kernel does; these take the place of the C library's. */
static struct {
    int call_error;   /* of getrandom, 0: it works, -1: it gives too little */
    const char *file; /* opened as /dev/urandom; NULL: the real one */
    int opened;
} kernel;

long syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    char *bytes = va_arg(arguments, char *);
    size_t n = va_arg(arguments, size_t);
    va_end(arguments);
    if (number != SYS_getrandom || kernel.call_error > 0) {
        errno = number == SYS_getrandom ? kernel.call_error : ENOSYS;
        return -1;
    }
    n = kernel.call_error ? n - 1 : n;
    memset(bytes, 'c', n);
    return (long)n;
}

int open(const char *path, int flags, ...)
{
    kernel.opened++;
    return openat(AT_FDCWD, kernel.file ? kernel.file : path, flags);
}

/* Two sets of n random bytes; what holds them differs as little as it can. */
static bool differ(size_t n)
{
    static char bytes[256], before[256];
    memset(bytes, 0, sizeof bytes);
    ws__random(bytes, n);
    memcpy(before, bytes, sizeof bytes);
    ws__random(bytes, n);
    bool untouched = true;
    for (size_t i = n; i < sizeof bytes; i++)
        untouched &= !bytes[i];
    return untouched && memcmp(before, bytes, n);
}

static void test_random(void)
{
    char bytes[16];
    ws__random(bytes, sizeof bytes);
    is_mem(bytes, sizeof bytes, "cccccccccccccccc", 16, "the system call, where there is one");
    is_int(kernel.opened, 0, "and no file");
    static const int errors[] = {ENOSYS, EPERM, EAGAIN, -1};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        kernel.call_error = errors[i];
        kernel.opened = 0;
        ok(differ(16) && differ(256), "T88: getrandom fails, %d: /dev/urandom", errors[i]);
        is_int(kernel.opened, 4, "which was opened each time");
    }
    static const char *const files[] = {"/dev/null", "/nowhere", "/"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        kernel.file = files[i];
        ok(differ(16) && differ(256), "no random bytes in it (%s): still not the same twice",
           files[i]);
    }
    kernel.file = NULL;
    kernel.call_error = 0;
}

static void cases(void)
{
    CASE(test_random());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
