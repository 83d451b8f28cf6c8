// Measures operations on request, so that several of these programs, natively and in sandboxes, can take turns.
//
// Requests are lines of standard input, answers lines of standard output:
//   open NAME MS   makes ready, and finds how many turns take about MS milliseconds  -> open NAME TURNS BYTES
//   run TURNS      runs the loop                                                     -> run NS (of one turn)
//   close          takes down                                                        -> close
// An operation that cannot be done here answers `failed REASON` to the request, and is closed then.
#define _GNU_SOURCE
#include "ops.h"
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *data_dir, *tmp_dir;
static jmp_buf failed;
static char reason[256];

void fail(const char *what)
{
    snprintf(reason, sizeof reason, "%s: %s", what, strerror(errno));
    longjmp(failed, 1);
}

static const char *join(char *out, size_t size, const char *dir, const char *name)
{
    snprintf(out, size, "%s/%s", dir, name);
    return out;
}

const char *in_data(const char *name)
{
    static char path[4096];
    return join(path, sizeof path, data_dir, name);
}

const char *in_tmp(const char *name)
{
    static char path[4096];
    return join(path, sizeof path, tmp_dir, name);
}

static void nothing(long n)
{
    (void)n;
}

// What a request itself costs.
static const struct op none = {"nothing", 0, nothing, 0, 0};

static const struct op *find(const char *name)
{
    const struct op *tables[] = {call_ops, file_ops, memory_ops, process_ops, pair_ops};
    if (!strcmp(name, none.name))
        return &none;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct op *op = tables[t]; op->name; op++)
            if (!strcmp(op->name, name))
                return op;
    return 0;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static double timed(const struct op *op, long n)
{
    double start = now();
    op->loop(n);
    return now() - start;
}

// Turns that take about `target` ns: more and more until the time can be told.
static long turns(const struct op *op, double target)
{
    const long most = 1L << 30;
    if (op == &none)
        return 1;
    for (long n = 1;; n = n * 4 < most ? n * 4 : most) {
        double spent = timed(op, n);
        if (spent > target / 8 || n == most) {
            double fit = n * target / spent;
            return fit < 1 ? 1 : fit > most ? most : (long)fit;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "sleep"))
        for (;;)
            pause();
    if (argc == 2 && !strcmp(argv[1], "exit"))
        return 0;
    if (argc != 3) {
        fprintf(stderr, "usage: %s DATA TMP, or %s exit|sleep\n", argv[0], argv[0]);
        return 2;
    }
    data_dir = argv[1];
    tmp_dir = argv[2];
    setvbuf(stdout, 0, _IOLBF, 0);
    puts("ready");
    const struct op *volatile open = 0;
    char line[256], name[64];
    double ms;
    long n;
    while (fgets(line, sizeof line, stdin)) {
        if (setjmp(failed)) {
            printf("failed %s\n", reason);
            open = 0;
            continue;
        }
        if (sscanf(line, "open %63s %lf", name, &ms) == 2) {
            errno = 0;
            open = find(name);
            need(open != 0, "no such operation");
            if (open->setup)
                open->setup();
            printf("open %s %ld %ld\n", name, turns(open, ms * 1e6), open->bytes);
        } else if (sscanf(line, "run %ld", &n) == 1 && open) {
            printf("run %.2f\n", timed(open, n) / n);
        } else if (!strcmp(line, "close\n")) {
            if (open && open->teardown)
                open->teardown();
            open = 0;
            puts("close");
        } else {
            errno = EINVAL;
            fail("request");
        }
    }
    return 0;
}
