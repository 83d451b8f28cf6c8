// Two sides that talk: a byte to and fro, or a stream one way.
#define _GNU_SOURCE
#include "ops.h"
#include <arpa/inet.h>
#include <linux/futex.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHUNK = 64 << 10 };
static char chunk[CHUNK];
static int to = -1, from = -1; // this side's descriptors
static pid_t child = -1;

static void echo(int in, int out)
{
    char c;
    while (read(in, &c, 1) == 1)
        if (write(out, &c, 1) != 1)
            break;
    _exit(0);
}

// Reads whole chunks, and answers each with a byte: no more than one is under way at the end of a loop.
static void drain(int in, int out)
{
    for (;;) {
        for (long got = 0; got < CHUNK;) {
            ssize_t r = read(in, chunk, CHUNK - got);
            if (r <= 0)
                _exit(0);
            got += r;
        }
        if (out >= 0 && write(out, chunk, 1) != 1)
            _exit(0);
    }
}

// Forks the other side: its descriptors are `in` and `out`, this side's `to` and `from` are set already.
static void start(void (*body)(int, int), int in, int out)
{
    need((child = fork()) >= 0, "fork");
    if (child == 0) {
        close(to);
        if (from != to)
            close(from);
        body(in, out);
    }
    close(in);
    if (out >= 0 && out != in)
        close(out);
}

static void stop(void)
{
    close(to);
    if (from != to)
        close(from);
    waitpid(child, 0, 0);
}

static void two_pipes(void (*body)(int, int))
{
    int there[2], back[2];
    need(pipe(there) == 0 && pipe(back) == 0, "pipe");
    to = there[1];
    from = back[0];
    start(body, there[0], back[1]);
}

static void unix_pair(void (*body)(int, int))
{
    int pair[2];
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    to = from = pair[0];
    start(body, pair[1], pair[1]);
}

static int listen_local(struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    need(fd >= 0, "socket");
    need(bind(fd, (void *)at, sizeof *at) == 0 && listen(fd, 128) == 0, "listen");
    need(getsockname(fd, (void *)at, &len) == 0, "getsockname");
    return fd;
}

static int connect_to(const struct sockaddr_in *at)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    need(fd >= 0 && connect(fd, (const void *)at, sizeof *at) == 0, "connect");
    return fd;
}

static void tcp_pair(void (*body)(int, int))
{
    struct sockaddr_in at;
    int one = 1, listener = listen_local(&at), mine = connect_to(&at), theirs = accept(listener, 0, 0);
    need(theirs >= 0, "accept");
    close(listener);
    setsockopt(mine, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    to = from = mine;
    start(body, theirs, theirs);
}

static void pipe_echo(void)
{
    two_pipes(echo);
}

static void unix_echo(void)
{
    unix_pair(echo);
}

static void tcp_echo(void)
{
    tcp_pair(echo);
}

static void pipe_drain(void)
{
    two_pipes(drain);
}

static void unix_drain(void)
{
    unix_pair(drain);
}

static void tcp_drain(void)
{
    tcp_pair(drain);
}

static void ping_pong(long n)
{
    char c = 1;
    while (n--)
        need(write(to, &c, 1) == 1 && read(from, &c, 1) == 1, "the other side");
}

// All chunks are written first, as far as the other side lets them; its answers are taken then.
static void stream(long n)
{
    char c;
    for (long i = 0; i < n; i++) {
        for (long put = 0; put < CHUNK;) {
            ssize_t w = write(to, chunk, CHUNK - put);
            need(w > 0, "write");
            put += w;
        }
        // Every 256th turn, so that the answers never fill their way back.
        if (i % 256 == 255)
            for (int k = 0; k < 256; k++)
                need(read(from, &c, 1) == 1, "read");
    }
    for (long k = n % 256; k > 0; k--)
        need(read(from, &c, 1) == 1, "read");
}

static struct sockaddr_in server;
static int listener = -1;

static void open_listener(void)
{
    listener = listen_local(&server);
}

static void close_listener(void)
{
    close(listener);
}

static void connect_accept(long n)
{
    while (n--) {
        int mine = connect_to(&server), theirs = accept(listener, 0, 0);
        need(theirs >= 0, "accept");
        // No wait for late packets: ports would run out.
        struct linger now = {1, 0};
        setsockopt(mine, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(mine);
        close(theirs);
    }
}

static atomic_int turn;
static atomic_int done;
static pthread_t partner;

static void futex_wait(int value)
{
    syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, 0, 0, 0);
}

static void pass(int value)
{
    turn = value;
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
}

static void *answer(void *unused)
{
    for (;;) {
        while (turn != 1) {
            if (done)
                return unused;
            futex_wait(0);
        }
        pass(0);
    }
}

static void open_partner(void)
{
    turn = done = 0;
    need(pthread_create(&partner, 0, answer, 0) == 0, "pthread_create");
}

static void close_partner(void)
{
    done = 1;
    pass(2);
    pthread_join(partner, 0);
}

static void futex_ping_pong(long n)
{
    while (n--) {
        pass(1);
        while (turn != 0)
            futex_wait(1);
    }
}

const struct op pair_ops[] = {
    {"pipe_pingpong_2proc", pipe_echo, ping_pong, stop, 0},
    {"unix_pingpong_2proc", unix_echo, ping_pong, stop, 0},
    {"tcp_pingpong_2proc", tcp_echo, ping_pong, stop, 0},
    {"tcp_connect_accept", open_listener, connect_accept, close_listener, 0},
    {"futex_pingpong_2thr", open_partner, futex_ping_pong, close_partner, 0},
    {"pipe_64k", pipe_drain, stream, stop, CHUNK},
    {"unix_64k", unix_drain, stream, stop, CHUNK},
    {"tcp_loop_64k", tcp_drain, stream, stop, CHUNK},
    {0},
};
