/* seccomp(2): what is refused, every action, stacked filters, threads, children, strict mode, /proc. */
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <ucontext.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOAD_LOW(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RET(value) BPF_STMT(BPF_RET | BPF_K, value)

static int install(struct sock_filter *code, unsigned short len, unsigned flags) {
    struct sock_fprog program = {len, code};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
#define INSTALL(flags, ...) ({ struct sock_filter c_[] = {__VA_ARGS__}; install(c_, sizeof c_ / sizeof *c_, flags); })
/* A filter with one answer for one call. */
static int answer(int nr, unsigned value, unsigned flags) {
    return INSTALL(flags, LOAD(nr), EQUAL(nr, 0, 1), RET(value), RET(SECCOMP_RET_ALLOW));
}

static void child(const char *what, void (*f)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        f();
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        printf("%s: signal %d\n", what, WTERMSIG(status));
    else
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
}

static void status_lines(const char *path) {
    FILE *f = fopen(path, "r");
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Seccomp", 7) || !strncmp(line, "NoNewPrivs", 10))
            fputs(line, stdout);
    if (f)
        fclose(f);
}

static void refused(void) {
    OK(syscall(SYS_seccomp, 77, 0, NULL));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0x4000, NULL));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
    OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 8));
    OK(install(NULL, 0, 0));
    OK(install(NULL, 5000, 0));
    OK(install((void *)8, 2, 0));
    OK(INSTALL(0, LOAD(nr)));
    OK(INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 3), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_LD | BPF_MEM, 0), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, 2), RET(0)));
    OK(INSTALL(0, BPF_STMT(BPF_JMP | BPF_JA, 1), RET(0)));
    OK(INSTALL(0, EQUAL(0, 0, 1), RET(0)));
    OK(INSTALL(0, BPF_STMT(0xffff, 0), RET(0)));
    OK(prctl(PR_SET_SECCOMP, 7, 0));
    OK(prctl(PR_SET_SECCOMP, 0, 0));
    unsigned actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                          SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x12345678, SECCOMP_RET_ERRNO | 1};
    for (unsigned i = 0; i < sizeof actions / sizeof *actions; i++)
        OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, actions + i));
    OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 1, actions));
    OK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, NULL));
    struct seccomp_notif_sizes sizes = {0};
    OK(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
    printf("%d %d %d\n", sizes.seccomp_notif, sizes.seccomp_notif_resp, sizes.seccomp_data);
    VAL(prctl(PR_GET_SECCOMP));
    status_lines("/proc/self/status");
}

static void unprivileged(void) {
    OK(setresuid(1000, 1000, 1000));
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    OK(getppid());
    status_lines("/proc/self/status");
}

static void errors(void) {
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0));
    OK(syscall(SYS_getppid));
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, SECCOMP_FILTER_FLAG_LOG));
    OK(syscall(SYS_getppid));
    OK(answer(SYS_getpgrp, SECCOMP_RET_ERRNO, 0));
    VAL(syscall(SYS_getpgrp));
    OK(answer(SYS_alarm, SECCOMP_RET_ERRNO | 0xffff, 0));
    errno = 0;
    printf("%ld %d\n", syscall(SYS_alarm, 0), errno);
    OK(answer(SYS_getsid, SECCOMP_RET_TRACE | 5, SECCOMP_FILTER_FLAG_SPEC_ALLOW));
    OK(syscall(SYS_getsid, 0));
    OK(answer(SYS_getuid, SECCOMP_RET_LOG, 0));
    OK(syscall(SYS_getuid));
    /* A call that is not there goes through the filter too. */
    OK(answer(1000, SECCOMP_RET_ERRNO | EBADSLT, 0));
    OK(syscall(1000));
    OK(syscall(1001));
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    VAL(prctl(PR_GET_SECCOMP));
    status_lines("/proc/self/status");
    /* Arguments: lseek of descriptor 5 with any offset that has bit 32. */
    OK(INSTALL(0, LOAD(nr), EQUAL(SYS_lseek, 0, 4), LOAD_LOW(0), EQUAL(5, 0, 2),
               BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 12),
               BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 1, 0), RET(SECCOMP_RET_ALLOW), RET(SECCOMP_RET_ERRNO | EXFULL)));
    OK(lseek(5, 0, SEEK_SET));
    OK(lseek(5, 1L << 32, SEEK_SET));
    OK(lseek(6, 1L << 32, SEEK_SET));
    OK(INSTALL(0, LOAD(arch), EQUAL(AUDIT_ARCH_X86_64, 1, 0), RET(SECCOMP_RET_KILL_PROCESS), RET(SECCOMP_RET_ALLOW)));
    pid_t pid = fork();
    if (pid == 0)
        _exit(syscall(SYS_getppid) == -1 && errno == EDOM ? 3 : 4);
    int status;
    waitpid(pid, &status, 0);
    printf("child %d\n", WEXITSTATUS(status));
}

static void executes(void) {
    char *argv[] = {"filters", "executed", NULL};
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, 0));
    fflush(stdout);
    execv("/proc/self/exe", argv);
    printf("not executed\n");
}

static void kills_process(void) {
    answer(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
}
static void kills_thread(void) {
    answer(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    syscall(SYS_getppid);
}
static void unknown_action(void) {
    answer(SYS_getppid, 0x12340000, 0);
    syscall(SYS_getppid);
}

static void *calls_getppid(void *p) {
    (void)p;
    syscall(SYS_getppid);
    return NULL;
}
static void kills_one_thread(void) {
    answer(SYS_getppid, SECCOMP_RET_KILL_THREAD, 0);
    pthread_t t;
    pthread_create(&t, NULL, calls_getppid, NULL);
    usleep(100000);
    printf("the others live\n");
}
static void kills_all_threads(void) {
    answer(SYS_getppid, SECCOMP_RET_KILL_PROCESS, 0);
    pthread_t t;
    pthread_create(&t, NULL, calls_getppid, NULL);
    sleep(5);
    printf("the others live\n");
}

static volatile int trapped, trap_number, trap_code, trap_errno, trap_arch_right, trap_address_right;
static void on_trap(int signo, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    trapped = signo, trap_number = info->si_syscall, trap_code = info->si_code, trap_errno = info->si_errno;
    trap_arch_right = info->si_arch == AUDIT_ARCH_X86_64;
    trap_address_right = (greg_t)info->si_call_addr == u->uc_mcontext.gregs[REG_RIP];
    u->uc_mcontext.gregs[REG_RAX] += 1000;
}
static void traps(void) {
    struct sigaction a = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &a, NULL);
    OK(answer(SYS_getppid, SECCOMP_RET_TRAP | 77, 0));
    VAL(syscall(SYS_getppid));
    printf("%d %d %d %d %d %d\n", trapped, trap_number == SYS_getppid, trap_code, trap_errno, trap_arch_right,
           trap_address_right);
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fflush(stdout);
    syscall(SYS_getppid);
    printf("a blocked trap does not kill\n");
}

static void strict(void) {
    OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    write(1, "still writes\n", 13);
    syscall(SYS_exit, 9);
}
static void strict_kills(void) {
    fflush(stdout);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    syscall(SYS_getpid);
}

static pthread_barrier_t barrier;
static void *waits(void *p) {
    (void)p;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return (void *)(long)(syscall(SYS_getppid) == -1 ? errno : 0);
}
static void *has_its_own(void *p) {
    (void)p;
    answer(SYS_getppid, SECCOMP_RET_ERRNO | EDOM, 0);
    return waits(NULL);
}
static void threads(void) {
    pthread_t t;
    void *result;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&t, NULL, waits, NULL);
    pthread_barrier_wait(&barrier);
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, SECCOMP_FILTER_FLAG_TSYNC));
    pthread_barrier_wait(&barrier);
    pthread_join(t, &result);
    printf("all alike: %s\n", strerrorname_np((long)result));
    pthread_create(&t, NULL, has_its_own, NULL);
    pthread_barrier_wait(&barrier);
    IS(answer(SYS_getppid, SECCOMP_RET_ERRNO | EIO, SECCOMP_FILTER_FLAG_TSYNC) > 0);
    OK(answer(SYS_getppid, SECCOMP_RET_ERRNO | EIO, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH));
    pthread_barrier_wait(&barrier);
    pthread_join(t, &result);
    printf("its own: %s\n", strerrorname_np((long)result));
    OK(syscall(SYS_getppid));
}

static void many(void) {
    static struct sock_filter code[BPF_MAXINSNS];
    for (int i = 0; i < BPF_MAXINSNS; i++)
        code[i] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
    int n = 0;
    while (install(code, BPF_MAXINSNS, 0) == 0)
        n++;
    printf("%d long filters, then %s\n", n, strerrorname_np(errno));
    n = 0;
    while (install(code, 1, 0) == 0)
        n++;
    printf("%d short filters, then %s\n", n, strerrorname_np(errno));
    status_lines("/proc/thread-self/status");
}

int main(int argc, char **argv) {
    if (argc > 1) {
        printf("%s: %s\n", argv[1], syscall(SYS_getppid) == -1 ? strerrorname_np(errno) : "ok");
        return 0;
    }
    child("refused", refused);
    child("unprivileged", unprivileged);
    child("errors", errors);
    child("executes", executes);
    child("kills the process", kills_process);
    child("kills the thread", kills_thread);
    child("an unknown action", unknown_action);
    child("kills one thread", kills_one_thread);
    child("kills all threads", kills_all_threads);
    child("traps", traps);
    child("strict", strict);
    child("strict kills", strict_kills);
    child("threads", threads);
    child("many", many);
    return 0;
}
