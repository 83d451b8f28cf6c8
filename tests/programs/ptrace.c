/* ptrace(2): who may trace whom, stops at signals, calls and events, registers, memory, seized and stopped tracees. */
#include "check.h"
#include <elf.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define PT(request, pid, addr, data) syscall(SYS_ptrace, request, pid, addr, data)

static int status;
/* Waits for a child and tells what happened to it. */
static pid_t await(pid_t pid) {
    pid_t got = waitpid(pid, &status, __WALL);
    if (got < 0)
        printf("wait: %s\n", strerrorname_np(errno));
    else if (WIFEXITED(status))
        printf("exited %d\n", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        printf("killed %d\n", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        printf("stopped %d%s event %d\n", WSTOPSIG(status) & 0x7f, WSTOPSIG(status) & 0x80 ? " at a call" : "", status >> 16);
    return got;
}

static pid_t child(void (*f)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        f();
        _exit(0);
    }
    return pid;
}

static void trace_me(void) {
    if (PT(PTRACE_TRACEME, 0, 0, 0) < 0)
        _exit(99);
}
static void stop_self(void) {
    trace_me();
    raise(SIGSTOP);
}

static volatile long word = 0x1122334455667788;
static volatile int caught;
static void handler(int s) { caught = s; }

static void calls(void) {
    stop_self();
    syscall(SYS_getppid);
    syscall(SYS_close, 77);
    _exit(word == 5 ? 6 : 7);
}

static void info(pid_t pid) {
    struct __ptrace_syscall_info i;
    memset(&i, 0, sizeof i);
    long n = PT(PTRACE_GET_SYSCALL_INFO, pid, sizeof i, &i);
    printf("info %ld: op %d arch %d", n, i.op, i.arch == AUDIT_ARCH_X86_64);
    if (i.op == PTRACE_SYSCALL_INFO_ENTRY)
        printf(" call %lu(%lu)", i.entry.nr, i.entry.nr == SYS_close ? i.entry.args[0] : 0);
    if (i.op == PTRACE_SYSCALL_INFO_EXIT)
        printf(" returns %s%ld", i.exit.is_error ? "error " : "", i.exit.is_error ? i.exit.rval : 0);
    puts("");
}

static void trace_calls(void) {
    pid_t pid = child(calls);
    await(pid);
    OK(PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_SETOPTIONS, pid, 0, 0x80000000ul));
    info(pid);
    for (int i = 0; i < 6; i++) {
        PT(PTRACE_SYSCALL, pid, 0, 0);
        if (await(pid) < 0 || !WIFSTOPPED(status))
            break;
        info(pid);
        struct user_regs_struct regs;
        PT(PTRACE_GETREGS, pid, 0, &regs);
        if (i == 0)
            printf("entry: %lld %lld cs %llx ss %llx\n", regs.orig_rax, regs.rax, regs.cs, regs.ss);
        if (i == 1) {
            printf("exit: %d\n", (pid_t)regs.rax == getpid());
            regs.rax = 12345;
            OK(PT(PTRACE_SETREGS, pid, 0, &regs));
        }
        if (i == 2) {
            /* The call is replaced by one that is not there. */
            OK(PT(PTRACE_POKEUSER, pid, offsetof(struct user, regs.orig_rax), -1l));
        }
    }
    long value = 0;
    OK(PT(PTRACE_PEEKDATA, pid, &word, &value));
    printf("%lx\n", value);
    OK(PT(PTRACE_POKEDATA, pid, &word, 5));
    OK(PT(PTRACE_PEEKDATA, pid, 8, &value));
    OK(PT(PTRACE_PEEKUSER, pid, 3, &value));
    OK(PT(PTRACE_PEEKUSER, pid, 928, &value));
    OK(PT(PTRACE_PEEKUSER, pid, 920, &value));
    OK(PT(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg), &value));
    OK(PT(PTRACE_POKEUSER, pid, offsetof(struct user, regs.fs_base), -1l));
    OK(PT(77, pid, 0, 0));
    OK(PT(PTRACE_CONT, pid, 0, 65));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    await(pid);
}

static void refused(void) {
    OK(PT(PTRACE_ATTACH, getpid(), 0, 0));
    OK(PT(PTRACE_ATTACH, 999999, 0, 0));
    OK(PT(PTRACE_SEIZE, 999999, 0, 0));
    OK(PT(PTRACE_CONT, getpid(), 0, 0));
    pid_t pid = child((void (*)(void))pause);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    OK(PT(PTRACE_SEIZE, pid, 1, 0));
    OK(PT(PTRACE_SEIZE, pid, 0, 0x80000000ul));
    OK(PT(PTRACE_SEIZE, pid, 0, 0));
    OK(PT(PTRACE_SEIZE, pid, 0, 0));
    OK(PT(PTRACE_ATTACH, pid, 0, 0));
    OK(PT(PTRACE_GETREGS, pid, 0, 0));
    OK(PT(PTRACE_DETACH, pid, 0, 0));
    kill(pid, SIGKILL);
    await(pid);
}

static void signalled(void) {
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    stop_self();
    caught = 0;
    raise(SIGUSR1);
    int first = caught;
    raise(SIGUSR2);
    caught = 0;
    raise(SIGTERM);
    _exit(first == 0 && caught == SIGUSR1 ? 40 : 41);
}
static void signals(void) {
    pid_t pid = child(signalled);
    siginfo_t i;
    await(pid);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    await(pid); /* SIGUSR1: taken away */
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &i));
    printf("%d %d %d\n", i.si_signo, i.si_code, i.si_pid == pid);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    await(pid); /* SIGUSR2, though it is ignored */
    OK(PT(PTRACE_CONT, pid, 0, SIGUSR2));
    await(pid); /* SIGTERM: becomes SIGUSR1 */
    sigset_t set;
    OK(PT(PTRACE_GETSIGMASK, pid, 8, &set));
    OK(PT(PTRACE_GETSIGMASK, pid, 4, &set));
    OK(PT(PTRACE_CONT, pid, 0, SIGUSR1));
    await(pid);
}

static void forks(void) {
    stop_self();
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    int s;
    waitpid(pid, &s, 0);
    pid = vfork();
    if (pid == 0)
        _exit(4);
    waitpid(pid, &s, 0);
    char *argv[] = {"ptrace", "executed", NULL};
    execv("/proc/self/exe", argv);
}
static void events(void) {
    pid_t pid = child(forks);
    await(pid);
    OK(PT(PTRACE_SETOPTIONS, pid, 0,
          PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT |
              PTRACE_O_EXITKILL));
    PT(PTRACE_CONT, pid, 0, 0);
    for (;;) {
        printf("tracee: ");
        if (await(pid) < 0 || !WIFSTOPPED(status))
            break;
        unsigned long message = 0;
        PT(PTRACE_GETEVENTMSG, pid, 0, &message);
        int event = status >> 16, signal = 0;
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
            printf("child: ");
            await(message);
            PT(PTRACE_CONT, (pid_t)message, 0, 0);
            printf("child: ");
            await(message);
            /* It stops at its end too, as its options say. */
            PT(PTRACE_CONT, (pid_t)message, 0, 0);
            printf("child: ");
            await(message);
        } else if (event == PTRACE_EVENT_EXIT)
            printf("message %lx\n", message);
        else if (event == PTRACE_EVENT_EXEC)
            printf("message is pid: %d\n", (pid_t)message == pid);
        else if (event == 0)
            signal = WSTOPSIG(status);
        /* The grandchildren's ends. */
        for (pid_t other; (other = waitpid(-1, &status, WNOHANG | __WALL)) > 0;)
            if (WIFSTOPPED(status))
                PT(PTRACE_CONT, other, 0, 0);
        PT(PTRACE_CONT, pid, 0, signal == SIGCHLD ? 0 : signal);
    }
}

static void sleeps(void) {
    signal(SIGUSR1, handler);
    for (;;)
        pause();
}
static void seized(void) {
    pid_t pid = child(sleeps);
    siginfo_t i;
    usleep(50000);
    OK(PT(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    await(pid);
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &i));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    kill(pid, SIGSTOP);
    await(pid); /* the signal */
    OK(PT(PTRACE_CONT, pid, 0, SIGSTOP));
    await(pid); /* the stop */
    OK(PT(PTRACE_LISTEN, pid, 0, 0));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    kill(pid, SIGCONT);
    await(pid);
    OK(PT(PTRACE_LISTEN, pid, 0, 0));
    OK(PT(PTRACE_INTERRUPT, pid, 0, 0));
    await(pid);
    OK(PT(PTRACE_CONT, pid, 0, 0));
    await(pid); /* SIGCONT itself */
    OK(PT(PTRACE_DETACH, pid, 0, 0));
    OK(PT(PTRACE_DETACH, pid, 0, 0));
    kill(pid, SIGTERM);
    await(pid);
}

static void attached(void) {
    pid_t pid = child(sleeps);
    siginfo_t i;
    usleep(50000);
    OK(PT(PTRACE_ATTACH, pid, 0, 0));
    await(pid);
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &i));
    OK(PT(PTRACE_LISTEN, pid, 0, 0));
    OK(PT(PTRACE_CONT, pid, 0, SIGSTOP));
    await(pid);
    OK(PT(PTRACE_GETSIGINFO, pid, 0, &i));
    /* Detached while stopped it stays so. */
    OK(PT(PTRACE_DETACH, pid, 0, SIGSTOP));
    kill(pid, SIGCONT);
    kill(pid, SIGKILL);
    await(pid);
    pid = child(sleeps);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    OK(PT(PTRACE_ATTACH, pid, 0, 0));
    await(pid);
    OK(PT(PTRACE_KILL, pid, 0, 0));
    await(pid);
}

static void steps(void) {
    stop_self();
    __asm__ volatile("nop\n nop\n" ::: "memory");
    syscall(SYS_getppid);
    __asm__ volatile("int3");
    _exit(8);
}
static void stepping(void) {
    pid_t pid = child(steps);
    await(pid);
    struct user_regs_struct before, after;
    int moved = 0, other = 0, made = 0;
    for (int i = 0; i < 400 && !made; i++) {
        PT(PTRACE_GETREGS, pid, 0, &before);
        long code = 0;
        PT(PTRACE_PEEKTEXT, pid, before.rip, &code);
        made = (code & 0xffff) == 0x050f && before.rax == SYS_getppid;
        PT(PTRACE_SINGLESTEP, pid, 0, 0);
        waitpid(pid, &status, 0);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
            other++;
            break;
        }
        PT(PTRACE_GETREGS, pid, 0, &after);
        moved += after.rip != before.rip;
    }
    printf("steps: %d, other stops %d, over a call %d\n", moved > 10, other, made && after.rip == before.rip + 2);
    PT(PTRACE_CONT, pid, 0, 0);
    await(pid);
    /* A breakpoint in code that the program may not write. */
    long old = 0;
    PT(PTRACE_PEEKTEXT, pid, (void *)handler, &old);
    OK(PT(PTRACE_POKETEXT, pid, (void *)handler, (old & ~0xffl) | 0xcc));
    PT(PTRACE_GETREGS, pid, 0, &after);
    struct user_regs_struct jump = after;
    jump.rip = (long)handler;
    OK(PT(PTRACE_SETREGS, pid, 0, &jump));
    OK(PT(PTRACE_CONT, pid, 0, 0));
    await(pid);
    PT(PTRACE_GETREGS, pid, 0, &jump);
    printf("at the breakpoint: %d\n", jump.rip == (unsigned long)handler + 1);
    OK(PT(PTRACE_POKETEXT, pid, (void *)handler, old));
    PT(PTRACE_SETREGS, pid, 0, &after);
    struct iovec iov = {&jump, sizeof jump};
    OK(PT(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov));
    printf("%zu %d\n", iov.iov_len, jump.rip == after.rip);
    static char area[65536];
    struct user_fpregs_struct fp;
    OK(PT(PTRACE_GETFPREGS, pid, 0, &fp));
    OK(PT(PTRACE_SETFPREGS, pid, 0, &fp));
    iov = (struct iovec){area, sizeof area};
    OK(PT(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov));
    OK(PT(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov));
    iov = (struct iovec){area, 8};
    OK(PT(PTRACE_GETREGSET, pid, 0x777, &iov));
    PT(PTRACE_CONT, pid, 0, 0);
    await(pid);
}

static void filtered(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 9),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    stop_self();
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    long r = syscall(SYS_getppid);
    _exit(r == 0 ? 1 : r == -1 ? 2 : 3);
}
static void filter_events(void) {
    pid_t pid = child(filtered);
    await(pid);
    PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP);
    PT(PTRACE_CONT, pid, 0, 0);
    await(pid);
    unsigned long message = 0;
    PT(PTRACE_GETEVENTMSG, pid, 0, &message);
    printf("message %lu\n", message);
    PT(PTRACE_CONT, pid, 0, 0);
    await(pid);
}

static volatile pid_t thread_id;
static void *thread(void *p) {
    thread_id = gettid();
    return p;
}
static void threads_of(void) {
    stop_self();
    pthread_t t;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
    /* Not until it has quite ended: it would take this status as its own. */
    while (syscall(SYS_tgkill, getpid(), thread_id, 0) == 0)
        usleep(1000);
    _exit(12);
}
static void threads(void) {
    pid_t pid = child(threads_of);
    await(pid);
    PT(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE);
    PT(PTRACE_CONT, pid, 0, 0);
    await(pid);
    unsigned long tid = 0;
    PT(PTRACE_GETEVENTMSG, pid, 0, &tid);
    printf("thread: ");
    await(tid);
    PT(PTRACE_CONT, (pid_t)tid, 0, 0);
    printf("thread: ");
    fflush(stdout);
    PT(PTRACE_CONT, pid, 0, 0);
    await(tid);
    await(pid);
}

static void tracer(void) {
    pid_t pid = child(sleeps);
    usleep(20000);
    PT(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL);
    _exit(9);
}
static void tracer_ends(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    await(child(tracer));
    /* Its tracee was killed, and is a child of this process now. */
    await(-1);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void killed(void) {
    pid_t pid = child(stop_self);
    await(pid);
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        if (!strncmp(line, "State", 5))
            fputs(line, stdout);
        if (!strncmp(line, "TracerPid:", 10))
            printf("tracer is this: %d\n", atoi(line + 10) == getpid());
    }
    fclose(f);
    kill(pid, SIGKILL);
    await(pid);
    OK(PT(PTRACE_CONT, pid, 0, 0));
}

int main(int argc, char **argv) {
    if (argc > 1)
        return 17;
#define RUN(f) puts("== " #f), f(), fflush(stdout)
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(refused);
    RUN(trace_calls);
    RUN(signals);
    RUN(seized);
    RUN(attached);
    RUN(stepping);
    RUN(filter_events);
    RUN(threads);
    RUN(events);
    RUN(tracer_ends);
    RUN(killed);
    (void)argv;
    return 0;
}
