/* SPDX-License-Identifier: MIT */
/*
 * replay.c: runs a fuzz target without a fuzzing engine: the inputs that are named, then mutations
 * of them. The same seed and count give the same inputs on every machine. What breaks a promise is
 * written to a file and as hex. See README.md.
 *
 *   fuzz_x [-n MUTATIONS] [-t SECONDS] [-s SEED] [-w FOLDER] [FILE or FOLDER]...
 *
 * *.txt are text vectors (tests/vectors/README.md), all other files inputs as they are. -w writes
 * the inputs that were read into a folder, for an engine to start from.
 */
#include "fuzz.h"

#include "tap.h"
#include "vectors.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SEEDS = 4096, MOST_BYTES = 32768, MOST_HEX = 4096, STEPS = 8, VARIANTS = 8 };

static struct {
    uint8_t *bytes;
    size_t length;
} seeds[MOST_SEEDS];
static size_t seed_count;

/* What is being run, for the report. */
static uint8_t current[MOST_BYTES];
static size_t current_length;
static char crash_name[64] = "crash";

/* ---- seeds ---- */

static void add_seed(const uint8_t *bytes, size_t length)
{
    if (seed_count == MOST_SEEDS || length > MOST_BYTES)
        return;
    uint8_t *copy = malloc(length + 1);
    must(copy, "the machine has no memory");
    memcpy(copy, bytes, length);
    seeds[seed_count].bytes = copy;
    seeds[seed_count++].length = length;
}

static void add_vector(const char *file, const struct vector *v)
{
    static uint8_t bytes[FUZZ_HEADER + MOST_BYTES];
    must(!v->broken, "%s: %s: cannot be read", file, v->name);
    if (v->wire.length > MOST_BYTES - FUZZ_HEADER)
        return;
    memset(bytes, 0, FUZZ_HEADER);
    for (int i = 0; i < 3; i++)
        bytes[3 + i] = (uint8_t)(v->limit >> 8 * i);
    memcpy(bytes + FUZZ_HEADER, v->wire.data, v->wire.length);
    add_seed(bytes, FUZZ_HEADER + v->wire.length);
}

static bool add_file(char *path)
{
    static uint8_t bytes[MOST_BYTES + 1];
    const char *dot = strrchr(path, '.');
    if (dot && !strcmp(dot, ".txt"))
        return run_vector_file(path, add_vector);
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    add_seed(bytes, fread(bytes, 1, sizeof bytes, file));
    return !fclose(file);
}

static bool add_folder(const char *path)
{
    struct dirent **entries;
    char name[4096];
    int n = scandir(path, &entries, NULL, alphasort);
    bool good = n >= 0;
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            good &= add_file(name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return good;
}

static bool add_path(char *path)
{
    struct stat status;
    if (stat(path, &status))
        return false;
    return S_ISDIR(status.st_mode) ? add_folder(path) : add_file(path);
}

static void write_seeds(const char *folder)
{
    char name[4096];
    for (size_t i = 0; i < seed_count; i++) {
        snprintf(name, sizeof name, "%s/seed-%04zu", folder, i);
        FILE *file = fopen(name, "wb");
        must(file, "cannot write %s", name);
        fwrite(seeds[i].bytes, 1, seeds[i].length, file);
        fclose(file);
    }
}

/* ---- mutations ---- */

static uint64_t state;

static size_t roll(size_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (size_t)((state >> 16) % below) : 0;
}

static uint8_t odd_byte(void)
{
    static const uint8_t odd[] = {0x00, 0x01, 0x7f, 0x80, 0x81, 0xfe, 0xff, 0x0a, 0x0d, 0x20,
                                  0x09, '"',  '\\', ',',  ';',  '=',  ':',  '0',  '1',  '9'};
    return roll(3) ? odd[roll(sizeof odd)] : (uint8_t)roll(256);
}

/* Makes room for n bytes at `at`, or takes them out; returns how many it were. */
static size_t open_gap(size_t at, size_t n)
{
    n = n < sizeof current - current_length ? n : sizeof current - current_length;
    memmove(current + at + n, current + at, current_length - at);
    current_length += n;
    return n;
}

static void cut_out(size_t at, size_t n)
{
    n = n < current_length - at ? n : current_length - at;
    memmove(current + at, current + at + n, current_length - at - n);
    current_length -= n;
}

static size_t some(void)
{
    return 1 + roll(roll(4) ? 8 : 200);
}

/* A piece of any seed, put in or over what is there. */
static void graft(size_t at, bool over)
{
    size_t i = roll(seed_count), from = roll(seeds[i].length), n = some();
    n = n < seeds[i].length - from ? n : seeds[i].length - from;
    if (over)
        n = n < current_length - at ? n : current_length - at;
    else
        n = open_gap(at, n);
    memcpy(current + at, seeds[i].bytes + from, n);
}

/* A piece of itself, again. */
static void repeat(size_t at)
{
    static uint8_t piece[256];
    size_t n = some();
    n = n < current_length - at ? n : current_length - at;
    memcpy(piece, current + at, n);
    memcpy(current + at, piece, open_gap(at, n));
}

static void fill(size_t at, uint8_t byte)
{
    memset(current + at, byte, open_gap(at, some()));
}

static void mutate_once(void)
{
    size_t at = roll(current_length + 1);
    if (at == current_length || !roll(8)) {
        graft(at, false);
        return;
    }
    switch (roll(8)) {
    case 0:
        current[at] ^= (uint8_t)(1u << roll(8));
        break;
    case 1:
    case 2:
        current[at] = odd_byte();
        break;
    case 3:
        current[at] = (uint8_t)(current[at] + (roll(2) ? 1 : 255));
        break;
    case 4:
        fill(at, odd_byte());
        break;
    case 5:
        cut_out(at, some());
        break;
    case 6:
        graft(at, true);
        break;
    default:
        repeat(at);
    }
}

static void take_seed(size_t i)
{
    current_length = seeds[i].length;
    memcpy(current, seeds[i].bytes, current_length);
}

/* Any parameters, but for the limit, which seeds choose with care. */
static void roll_parameters(void)
{
    for (size_t i = 0; i < 3 && i < current_length; i++)
        current[i] = (uint8_t)roll(256);
    if (!roll(4) && current_length >= FUZZ_HEADER) {
        current[3] = (uint8_t)roll(256);
        current[4] = (uint8_t)roll(roll(2) ? 2 : 256);
        current[5] = (uint8_t)roll(roll(8) ? 1 : 16);
    }
}

static void mutate(void)
{
    take_seed(roll(seed_count));
    if (roll(4))
        roll_parameters();
    for (size_t i = 1 + roll(STEPS); i > 0; i--)
        mutate_once();
}

/* ---- the run ---- */

static void run(void)
{
    /* As an engine does: in a block of its size, so that a sanitizer sees its end. */
    uint8_t *copy = malloc(current_length + !current_length);
    must(copy, "the machine has no memory");
    memcpy(copy, current, current_length);
    LLVMFuzzerTestOneInput(copy, current_length);
    free(copy);
}

static void run_seeds(void)
{
    for (size_t i = 0; i < seed_count; i++) {
        take_seed(i);
        run();
        for (int k = 1; k < VARIANTS; k++) {
            roll_parameters();
            run();
        }
    }
}

static size_t run_mutations(size_t count, long seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t end = now.tv_sec + seconds;
    size_t done = 0;
    while (seconds ? now.tv_sec < end : done < count) {
        mutate();
        run();
        if (++done % 256 == 0)
            clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return done;
}

static void say(const char *text, size_t n)
{
    ssize_t done = write(STDERR_FILENO, text, n);
    (void)done;
}

/* Only what a signal handler may call. */
static void report(int signal_number)
{
    static char hex[2 * MOST_HEX + 1];
    size_t n = current_length < MOST_HEX ? current_length : MOST_HEX;
    int file = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    ssize_t written = write(file, current, current_length);
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = "0123456789abcdef"[current[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[current[i] & 15];
    }
    hex[2 * n] = '\n';
    say("the input: ", 11);
    say(hex, 2 * n + 1);
    if (written == (ssize_t)current_length) {
        say("is in ", 6);
        say(crash_name, strlen(crash_name));
        say("\n", 1);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* A sanitizer shall abort, so that the input is reported. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static void catch_crashes(const char *program)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    const char *slash = strrchr(program, '/');
    snprintf(crash_name, sizeof crash_name, "crash-%.40s", slash ? slash + 1 : program);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        sigaction(signals[i], NULL, &old);
        if (old.sa_handler == SIG_DFL) /* else a sanitizer looks at it first */
            signal(signals[i], report);
    }
}

int main(int argc, char **argv)
{
    size_t count = 0;
    long seconds = 0;
    uint64_t seed = 1;
    const char *folder = NULL;
    int option;
    bool good = true;
    while ((option = getopt(argc, argv, "n:t:s:w:")) > 0) {
        if (option == '?')
            return 2;
        count = option == 'n' ? strtoul(optarg, NULL, 10) : count;
        seconds = option == 't' ? strtol(optarg, NULL, 10) : seconds;
        seed = option == 's' ? strtoul(optarg, NULL, 10) : seed;
        folder = option == 'w' ? optarg : folder;
    }
    if (getenv("UNDER_VALGRIND"))
        count /= 100;
    catch_crashes(argv[0]);
    for (int i = optind; i < argc; i++)
        good &= add_path(argv[i]);
    ok(good && seed_count, "%zu seeds were read", seed_count);
    if (folder)
        write_seeds(folder);
    state = seed * 0x9e3779b97f4a7c15u | 1;
    run_seeds();
    ok(true, "each seed with %d sets of parameters", VARIANTS);
    if (seed_count && (count || seconds))
        ok(true, "T94 %zu mutations, seed %llu", run_mutations(count, seconds),
           (unsigned long long)seed);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].bytes);
    return done_testing();
}
