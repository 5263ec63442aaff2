/* SPDX-License-Identifier: MIT */
/*
 * test_wakeup.c: what ends the wait of a server: calls that other threads defer, ws_server_wakeup,
 * signals and a descriptor for interrupts.
 */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

static struct harness h;

static bool descriptor_ready(int ms)
{
    struct pollfd ready = {ws_server_fd(h.server), POLLIN, 0};
    return poll(&ready, 1, ms) == 1;
}

/* ---- other threads ---- */

enum { THREADS = 4, CALLS = 5000 };

struct call {
    int thread, number;
};

static struct call calls[THREADS][CALLS];
static int last_run[THREADS], out_of_order, runs;
static atomic_int accepted;

static void run_call(void *argument)
{
    struct call *call = argument;
    out_of_order += call->number != last_run[call->thread] + 1;
    last_run[call->thread] = call->number;
    runs++;
}

static void *call_often(void *argument)
{
    int thread = (int)(intptr_t)argument;
    for (int i = 0; i < CALLS; i++) {
        calls[thread][i] = (struct call){thread, i + 1};
        int error = ws_server_defer(h.server, run_call, &calls[thread][i]);
        if (error == WS_ESTOPPED)
            return NULL;
        if (!error)
            atomic_fetch_add(&accepted, 1);
    }
    return NULL;
}

static void test_defer(void)
{
    int lost = 0;
    for (int round = 0; round < 20; round++) {
        pthread_t threads[THREADS];
        harness_init(&h);
        h.quiet = true;
        harness_start(&h);
        memset(last_run, 0, sizeof last_run);
        runs = out_of_order = 0;
        atomic_store(&accepted, 0);
        for (int i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, call_often, (void *)(intptr_t)i);
        int enough = round ? round * 500 : THREADS * CALLS;
        for (int i = 0; i < 200 && runs < enough; i++)
            ws_server_step(h.server, round ? 10 : 100);
        if (round == 0)
            for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        ws_server_shutdown(h.server, 1001, NULL, 0, 100);
        if (ws_server_run(h.server))
            ok(false, "run");
        for (int i = 0; round && i < THREADS; i++)
            pthread_join(threads[i], NULL);
        lost += runs != atomic_load(&accepted) || out_of_order;
        if (round == 0)
            is_int(runs, THREADS * CALLS, "T74: all calls from 4 threads run");
        lost += !harness_free(&h);
    }
    is_int(lost, 0, "T74: in order for each thread, what was accepted runs, also at shutdown");
}

static void *wake_soon(void *argument)
{
    usleep(30000);
    ws_server_wakeup(argument);
    return NULL;
}

static void ignore_signal(int number)
{
    (void)number;
}

static void test_wakeup(void)
{
    pthread_t thread;
    harness_init(&h);
    harness_start(&h);
    turns(&h, 3);
    pthread_create(&thread, NULL, wake_soon, h.server);
    is_int(ws_server_step(h.server, 60000), 1, "T81: ws_server_wakeup ends a wait");
    pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = ignore_signal}, old;
    struct itimerval soon = {{0, 0}, {0, 30000}};
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &soon, NULL);
    is_int(ws_server_step(h.server, 60000), 1, "T81: so does a signal, and it is no error");
    sigaction(SIGALRM, &old, NULL);
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC))
        return;
    is_int(ws_server_set_interrupt_fd(h.server, fds[0]), WS_OK, "an interrupt descriptor");
    ok(write(fds[1], "x", 1) == 1, "becomes readable");
    is_int(ws_server_run(h.server), 1, "T72: run returns 1");
    turns(&h, 1);
    ok(!descriptor_ready(0), "it was drained");
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    is_int(ws_server_set_interrupt_fd(h.server, file), WS_ESYSTEM, "a file cannot be watched");
    is_int(ws_server_set_interrupt_fd(h.server, fds[0]), WS_OK, "another descriptor still can");
    close(file);
    ok(write(fds[1], "x", 1) == 1, "becomes readable");
    is_int(ws_server_run(h.server), 1, "run returns 1");
    is_int(ws_server_set_interrupt_fd(h.server, -1), WS_OK, "no longer watched");
    close(fds[0]);
    close(fds[1]);
    harness_stop(&h, "wake-ups");
}

static void cases(void)
{
    CASE(test_defer());
    CASE(test_wakeup());
}

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases);
}
