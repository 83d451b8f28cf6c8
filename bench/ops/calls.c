// Short system calls, signals and waiting.
#define _GNU_SOURCE
#include "ops.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;
static int fd = -1, epoll = -1, event = -1;

static void cpu_xorshift(long n)
{
    unsigned long x = sink | 1;
    while (n--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    sink = x;
}

static void getpid_(long n)
{
    while (n--)
        syscall(SYS_getpid);
}

static void clock_(long n)
{
    struct timespec t;
    while (n--)
        clock_gettime(CLOCK_MONOTONIC, &t);
}

static void yield(long n)
{
    while (n--)
        syscall(SYS_sched_yield);
}

static void open_zero(void)
{
    need((fd = open("/dev/zero", O_RDONLY)) >= 0, "/dev/zero");
}

static void open_null(void)
{
    need((fd = open("/dev/null", O_WRONLY)) >= 0, "/dev/null");
}

static void close_fd(void)
{
    close(fd);
}

static void read_zero(long n)
{
    char c;
    while (n--)
        need(read(fd, &c, 1) == 1, "read");
}

static void write_null(long n)
{
    char c = 0;
    while (n--)
        need(write(fd, &c, 1) == 1, "write");
}

static void mask(long n)
{
    sigset_t set;
    sigemptyset(&set);
    while (n--)
        sigprocmask(SIG_SETMASK, &set, 0);
}

static void wake_none(long n)
{
    static int word;
    while (n--)
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void caught(int signal)
{
    (void)signal;
    sink++;
}

static void catch_signal(void)
{
    need(signal(SIGUSR1, caught) != SIG_ERR, "signal");
}

static void signal_self(long n)
{
    while (n--)
        syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGUSR1);
}

static void open_epoll(void)
{
    struct epoll_event in = {.events = EPOLLIN};
    need((epoll = epoll_create1(0)) >= 0, "epoll_create1");
    need((event = eventfd(0, 0)) >= 0, "eventfd");
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &in) == 0, "epoll_ctl");
}

static void close_epoll(void)
{
    close(event);
    close(epoll);
}

static void eventfd_epoll(long n)
{
    struct epoll_event got;
    uint64_t value;
    while (n--) {
        value = 1;
        need(write(event, &value, 8) == 8, "write");
        need(epoll_wait(epoll, &got, 1, -1) == 1, "epoll_wait");
        need(read(event, &value, 8) == 8, "read");
    }
}

static void sleep_50us(long n)
{
    struct timespec t = {0, 50000};
    while (n--)
        nanosleep(&t, 0);
}

const struct op call_ops[] = {
    {"cpu_xorshift", 0, cpu_xorshift, 0, 0},
    {"getpid", 0, getpid_, 0, 0},
    {"clock_gettime", 0, clock_, 0, 0},
    {"sched_yield", 0, yield, 0, 0},
    {"read_zero_1", open_zero, read_zero, close_fd, 0},
    {"write_null_1", open_null, write_null, close_fd, 0},
    {"sigprocmask", 0, mask, 0, 0},
    {"futex_wake_none", 0, wake_none, 0, 0},
    {"signal_self", catch_signal, signal_self, 0, 0},
    {"eventfd_epoll_3sys", open_epoll, eventfd_epoll, close_epoll, 0},
    {"nanosleep_50us", 0, sleep_50us, 0, 0},
    {0},
};
