/* seccomp_unotify(2): listeners, what they receive and answer, descriptors they give, signals, ends, threads. */
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RET(value) BPF_STMT(BPF_RET | BPF_K, value)
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND 2
#endif

static int answer(int nr, unsigned value, unsigned flags) {
    struct sock_filter code[] = {LOAD(nr), EQUAL(nr, 0, 1), RET(value), RET(SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {4, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
static int listen_to(int nr) { return answer(nr, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER); }

static void send_fd(int to, int fd) {
    char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    sendmsg(to, &m, 0);
}
static int receive_fd(int from) {
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr m = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    int fd = -1;
    if (recvmsg(from, &m, 0) == 1)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static pid_t target;
static int listener;
static struct seccomp_notif got;

/* Starts a process that has a filter for `nr` and then does `f`; its listener comes here. */
static void begin(int nr, void (*f)(void)) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    fflush(stdout);
    target = fork();
    if (target == 0) {
        int fd = listen_to(nr);
        send_fd(pair[1], fd);
        close(fd), close(pair[0]), close(pair[1]);
        f();
        fflush(stdout);
        _exit(0);
    }
    listener = receive_fd(pair[0]);
    close(pair[0]), close(pair[1]);
}
static void finish(const char *what) {
    int status;
    waitpid(target, &status, 0);
    printf("%s: status %x\n", what, status);
    fflush(stdout);
}
static int receive(void) {
    memset(&got, 0, sizeof got);
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got);
}
static int reply(unsigned long long id, long long val, int error, unsigned flags) {
    struct seccomp_notif_resp resp = {id, val, error, flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}
static int valid(void) { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &got.id); }
static void ready(const char *what, int wait) {
    struct pollfd p = {listener, POLLIN | POLLOUT, 0};
    int n = poll(&p, 1, wait);
    printf("%s: %d %x\n", what, n, p.revents);
}

static void install_errors(void) {
    unsigned action = SECCOMP_RET_USER_NOTIF;
    OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
    OK(answer(SYS_getppid, action, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC));
    /* Without a listener. */
    OK(answer(SYS_getpgrp, action, 0));
    OK(syscall(SYS_getpgrp));
    int fd = listen_to(SYS_getppid);
    printf("a descriptor: %d, flags %d %x\n", fd > 2, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL) & O_ACCMODE);
    char path[64], name[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, name, sizeof name - 1) > 0)
        puts(name);
    OK(listen_to(SYS_getppid));
    OK(ioctl(fd, 0x2142, 0));
    OK(read(fd, name, 1));
    close(fd);
    OK(syscall(SYS_getppid));
    fd = listen_to(SYS_getppid);
    printf("again: %d\n", fd > 2);
    struct rlimit none = {0, 64};
    setrlimit(RLIMIT_NOFILE, &none);
    close(fd);
    OK(listen_to(SYS_getuid));
}

static void calls(void) {
    for (int i = 0; i < 4; i++)
        OK(syscall(SYS_mkdir, "/nosuch/dir", 0700 + i, 3, 4, 5, 0x123456789abcLL));
}
static void answers(void) {
    begin(SYS_mkdir, calls);
    OK(receive());
    printf("%d %d %x %d %llx %llu %llu %llu %llx\n", got.pid == (unsigned)target, got.flags, got.data.arch, got.data.nr,
        got.data.args[1], got.data.args[2], got.data.args[3], got.data.args[4], got.data.args[5]);
    printf("text: %d\n", got.data.args[0] != 0 && got.data.instruction_pointer != 0);
    OK(valid());
    OK(reply(got.id + 1, 0, 0, 0));
    OK(reply(got.id, 0, 0, 2));
    OK(reply(got.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    OK(reply(got.id, 0, -1, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    OK(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, (void *)8));
    OK(reply(got.id, 4711, 0, 0));
    OK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &got));
    OK(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, (void *)8));
    OK(receive());
    OK(reply(got.id, 99, -EXDEV, 0));
    OK(receive());
    OK(reply(got.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
    OK(receive());
    OK(reply(got.id, -3, 0, 0));
    finish("answers");
    close(listener);
}

static void one_call(void) {
    OK(syscall(SYS_getppid));
}
static void readiness(void) {
    begin(SYS_getppid, one_call);
    ready("called", 5000);
    OK(valid());
    OK(reply(got.id, 0, 0, 0));
    OK(receive());
    ready("received", 5000);
    OK(reply(got.id, 5, 0, 0));
    finish("readiness");
    ready("ended", 5000);
    close(listener);
}

static void opens(void) {
    struct stat st;
    for (int i = 0; i < 3; i++) {
        long fd = syscall(SYS_openat, AT_FDCWD, "/nosuch", O_RDONLY, 0);
        printf("opened %ld: %d %d %c\n", fd, fstat(fd, &st), fcntl(fd, F_GETFD), read(fd, &st, 1) == 1 ? *(char *)&st : '-');
    }
    printf("77: %d\n", fcntl(77, F_GETFD));
}
static int add(int fd, unsigned flags, unsigned at, unsigned at_flags) {
    struct seccomp_notif_addfd a = {got.id, flags, fd, at, at_flags};
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &a);
}
static void descriptors(void) {
    int p[2];
    pipe(p);
    write(p[1], "abcdef", 6);
    begin(SYS_openat, opens);
    OK(add(p[0], 0, 0, 0));
    OK(receive());
    OK(add(p[0], 4, 0, 0));
    OK(add(p[0], 0, 5, 0));
    OK(add(p[0], 0, 0, O_NONBLOCK));
    OK(add(999, 0, 0, 0));
    OK(add(p[0], SECCOMP_ADDFD_FLAG_SETFD, 100000000, 0));
    unsigned long long big[5] = {got.id, (unsigned long long)p[0] << 32, 0, 0, 1};
    OK(ioctl(listener, _IOC(_IOC_WRITE, '!', 3, 40), big));
    OK(ioctl(listener, _IOC(_IOC_WRITE, '!', 3, 16), big));
    int fd = add(p[0], 0, 0, O_CLOEXEC);
    printf("added: %d\n", fd > 2);
    OK(reply(got.id, fd, 0, 0));
    OK(receive());
    OK(add(p[0], SECCOMP_ADDFD_FLAG_SETFD, 77, 0));
    OK(reply(got.id, 77, 0, 0));
    OK(receive());
    int sent = add(p[0], SECCOMP_ADDFD_FLAG_SEND, 0, 0);
    printf("sent: %d\n", sent > 2);
    OK(valid());
    finish("descriptors");
    OK(add(p[0], 0, 0, 0));
    close(listener), close(p[0]), close(p[1]);
}

static void on_signal(int n) { (void)n; }
static void interrupted_call(void) {
    struct sigaction a = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &a, NULL);
    a.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &a, NULL);
    OK(syscall(SYS_getppid));
    OK(syscall(SYS_getppid));
}
static void signals(void) {
    begin(SYS_getppid, interrupted_call);
    OK(receive());
    kill(target, SIGUSR1);
    while (valid() == 0)
        usleep(1000);
    OK(valid());
    OK(reply(got.id, 1, 0, 0));
    OK(receive());
    unsigned long long first = got.id;
    kill(target, SIGUSR2);
    OK(receive());
    printf("another: %d\n", got.id != first);
    OK(reply(first, 1, 0, 0));
    OK(reply(got.id, 42, 0, 0));
    finish("signals");
    close(listener);
    begin(SYS_getppid, one_call);
    OK(receive());
    kill(target, SIGKILL);
    finish("killed");
    OK(valid());
    close(listener);
}

static void two_calls(void) {
    OK(syscall(SYS_getppid));
    OK(syscall(SYS_getppid));
}
static void closed(void) {
    begin(SYS_getppid, two_calls);
    OK(receive());
    close(listener);
    finish("closed");
}

static void *call_often(void *sum) {
    for (long i = 1; i <= 200; i++)
        *(long *)sum += syscall(SYS_getpgid, i);
    return NULL;
}
static void many(void) {
    pthread_t threads[4];
    long sums[4] = {0};
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, call_often, &sums[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        printf("sum %ld\n", sums[i]);
    }
}
static void threads(void) {
    begin(SYS_getpgid, many);
    int failed = 0;
    for (int i = 0; i < 800; i++)
        failed += receive() != 0 || reply(got.id, got.data.args[0] * 3, 0, 0) != 0;
    printf("failed %d\n", failed);
    finish("threads");
    close(listener);
}

static void stacked_calls(void) {
    OK(answer(SYS_getppid, SECCOMP_RET_ALLOW, 0));
    OK(syscall(SYS_getppid));
    OK(answer(SYS_getppid, SECCOMP_RET_TRACE, 0));
    OK(syscall(SYS_getppid));
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | 44, 0));
    OK(syscall(SYS_getppid));
    if (fork() == 0)
        _exit(syscall(SYS_getuid) & 1);
}
static void stacked(void) {
    begin(SYS_getppid, stacked_calls);
    for (int i = 0; i < 2; i++) {
        OK(receive());
        OK(reply(got.id, 60 + i, 0, 0));
    }
    finish("stacked");
    close(listener);
}

int main(void) {
    /* A process prints all at its end, its parent what it found after that. */
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    fflush(stdout);
    target = fork();
    if (target == 0) {
        install_errors();
        fflush(stdout);
        _exit(0);
    }
    finish("install");
    answers();
    readiness();
    descriptors();
    signals();
    closed();
    threads();
    stacked();
    return 0;
}
