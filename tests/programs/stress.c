/* Races and the reuse of memory: `stress MODE SECONDS`. Prints what is wrong, and "MODE: ok" where nothing is. */
#include "check.h"
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/ptrace.h>

#define PAGE 4096
#define WORDS (PAGE / 8)

static time_t end_at;
static atomic_int wrong;

static int over(void) { return time(NULL) >= end_at; }

static void complain(const char *what, uint64_t a, uint64_t b) {
    if (atomic_fetch_add(&wrong, 1) < 5) fprintf(stderr, "%s: %#lx %#lx\n", what, (long)a, (long)b);
}

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static pthread_t spawn(void *(*body)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    if (pthread_create(&thread, &attributes, body, argument)) { perror("pthread_create"); exit(2); }
    return thread;
}

/* Faults of readers are part of the game. */
static __thread sigjmp_buf *escape;

static void on_fault(int signal) {
    if (!escape) _exit(99);
    siglongjmp(*escape, 1);
}

static void catch_faults(void) {
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* ---- words: memory comes and goes in several processes; no word of one is ever seen in another. The last word of
 * each page is for threads that store into a window while it is unmapped: such a store must not land elsewhere. */

struct window {
    uint64_t id;
    char *at;
    size_t most;
    atomic_size_t pages;
};

static uint64_t word(uint64_t id, uint64_t turn, uint64_t page, uint64_t i) {
    return id << 48 | (turn & 0xffff) << 32 | (page & 0xffff) << 16 | i;
}

static void *window_worker(void *argument) {
    struct window *w = argument;
    uint64_t random = w->id * 0x9e3779b97f4a7c15, turn = 0;
    while (!over()) {
        size_t pages = 1 + next(&random) % (next(&random) % 16 ? 48 : w->most);
        turn++;
        char *p = mmap(w->at, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (p == MAP_FAILED) { complain("mmap", errno, pages); break; }
        atomic_store(&w->pages, pages);
        for (size_t page = 0; page < pages; page++)
            for (size_t i = 0; i < WORDS - 1; i++) ((volatile uint64_t *)(p + page * PAGE))[i] = word(w->id, turn, page, i);
        if (next(&random) % 4 == 0) sched_yield();
        for (size_t page = 0; page < pages; page++) {
            volatile uint64_t *words = (volatile uint64_t *)(p + page * PAGE);
            for (size_t i = 0; i < WORDS - 1; i++)
                if (words[i] != word(w->id, turn, page, i)) complain("a word changed", words[i], word(w->id, turn, page, i));
            uint64_t last = words[WORDS - 1];
            if (last && last >> 48 != w->id) complain("a stray store", last, w->id);
        }
        size_t cut = next(&random) % pages;
        switch (next(&random) % 4) {
        case 0: madvise(p + cut * PAGE, (pages - cut) * PAGE, MADV_DONTNEED); break;
        case 1: munmap(p + cut * PAGE, (pages - cut) * PAGE); munmap(p, pages * PAGE); break;
        case 2: mprotect(p, pages * PAGE, PROT_NONE); munmap(p, pages * PAGE); break;
        default: munmap(p, pages * PAGE);
        }
    }
    return NULL;
}

static void *window_reader(void *argument) {
    struct window *w = argument;
    uint64_t random = w->id * 77;
    sigjmp_buf here;
    escape = &here;
    while (!over()) {
        if (sigsetjmp(here, 0)) continue;
        volatile uint64_t *words = (volatile uint64_t *)(w->at + next(&random) % (atomic_load(&w->pages) + 1) * PAGE);
        uint64_t value = words[next(&random) % (WORDS - 1)];
        if (value && value >> 48 != w->id) complain("a stray word", value, w->id);
    }
    return NULL;
}

static void *window_storer(void *argument) {
    struct window *w = argument;
    uint64_t random = w->id * 99;
    sigjmp_buf here;
    escape = &here;
    while (!over()) {
        if (sigsetjmp(here, 0)) continue;
        volatile uint64_t *words = (volatile uint64_t *)(w->at + next(&random) % (atomic_load(&w->pages) + 1) * PAGE);
        words[WORDS - 1] = w->id << 48 | 0xbad;
    }
    return NULL;
}

static void words(void) {
    for (int process = 0; process < 3; process++) {
        if (fork()) continue;
        static struct window windows[2];
        pthread_t threads[6];
        for (int i = 0; i < 2; i++) {
            struct window *w = &windows[i];
            w->id = 1 + process * 2 + i;
            w->most = 1200;
            w->at = mmap(NULL, (w->most + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            threads[3 * i] = spawn(window_worker, w);
            threads[3 * i + 1] = spawn(window_reader, w);
            threads[3 * i + 2] = spawn(window_storer, w);
        }
        for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
        _exit(wrong ? 1 : 0);
    }
    int status;
    while (wait(&status) > 0) if (status) complain("a process", status, 0);
}

/* ---- forks: a child's memory stands still while its parent writes on. */

static volatile uint64_t *counters;

static void *counter_writer(void *argument) {
    for (uint64_t n = 1; !over(); n++) for (size_t page = 0; page < 64; page++) counters[page * WORDS] = n;
    return NULL;
}

static void forks(void) {
    counters = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t a = spawn(counter_writer, NULL), b = spawn(counter_writer, NULL);
    while (!over()) {
        pid_t child = fork();
        if (child == 0) {
            uint64_t seen[64];
            for (size_t page = 0; page < 64; page++) seen[page] = counters[page * WORDS];
            for (int turn = 0; turn < 20; turn++) {
                if (turn % 5 == 0) sched_yield();
                for (size_t page = 0; page < 64; page++) if (counters[page * WORDS] != seen[page]) _exit(1);
            }
            for (size_t page = 0; page < 64; page++) counters[page * WORDS] = ~0ull;
            _exit(0);
        }
        if (child < 0) { complain("fork", errno, 0); break; }
        int status;
        if (waitpid(child, &status, 0) != child || status) complain("a child saw its parent write", status, 0);
        for (size_t page = 0; page < 64; page++) if (counters[page * WORDS] == ~0ull) complain("a parent saw its child write", page, 0);
    }
    pthread_join(a, NULL);
    pthread_join(b, NULL);
}

/* ---- crowd: every thread forks, and none ever runs on the memory of a child. */

struct member { volatile uint64_t *own, *shared; };

static void *crowd_member(void *argument) {
    struct member *me = argument;
    for (uint64_t turn = 0; !over(); turn++) {
        for (int i = 0; i < 200; i++) {
            uint64_t own = ++*me->own, shared = ++*me->shared;
            if (own != shared) { complain("a thread saw other memory", own, shared); return NULL; }
        }
        if (turn % 4) { sched_yield(); continue; }
        pid_t child = fork();
        if (child == 0) {
            for (int i = 0; i < 4; i++) { *me->own = 0; sched_yield(); }
            _exit(0);
        }
        int status;
        if (child < 0) complain("fork", errno, 0);
        else if (waitpid(child, &status, 0) != child || status) complain("a child ended", status, 0);
    }
    return NULL;
}

static void crowd(void) {
    enum { MEMBERS = 8 };
    char *own = mmap(NULL, MEMBERS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *shared = mmap(NULL, MEMBERS * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t threads[MEMBERS];
    struct member members[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        members[i] = (struct member){ (uint64_t *)(own + i * PAGE), (uint64_t *)(shared + i * PAGE) };
        threads[i] = spawn(crowd_member, &members[i]);
    }
    for (int i = 0; i < MEMBERS; i++) pthread_join(threads[i], NULL);
}

/* ---- rights: once a page is read-only nothing is stored into it. */

static atomic_int rights_stop;

static void *rights_storer(void *argument) {
    volatile uint64_t *words = argument;
    sigjmp_buf here;
    escape = &here;
    uint64_t n = 0;
    while (!atomic_load(&rights_stop)) {
        if (sigsetjmp(here, 0)) { sched_yield(); continue; }
        for (int i = 0; i < 1000; i++) words[next((n++, &n)) % WORDS] = n;
    }
    return NULL;
}

static void rights(void) {
    volatile uint64_t *words = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t a = spawn(rights_storer, (void *)words), b = spawn(rights_storer, (void *)words);
    while (!over()) {
        mprotect((void *)words, PAGE, PROT_READ);
        uint64_t seen[WORDS];
        for (int i = 0; i < WORDS; i++) seen[i] = words[i];
        for (int turn = 0; turn < 10; turn++)
            for (int i = 0; i < WORDS; i++) if (words[i] != seen[i]) complain("a store into a read-only page", words[i], seen[i]);
        mprotect((void *)words, PAGE, PROT_READ | PROT_WRITE);
        if (words[0] == 7) sched_yield();
    }
    atomic_store(&rights_stop, 1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
}

/* ---- execs: a thread that executes a program ends all others, whatever they do. */

static void *busy(void *argument) {
    long kind = (long)argument;
    for (uint64_t n = 0;; n++) switch (kind % 4) {
        case 0: getppid(); break;
        case 1: { char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p != MAP_FAILED) { p[0] = 1; munmap(p, 16 * PAGE); } break; }
        case 2: poll(NULL, 0, 1); break;
        default: asm volatile("" ::: "memory");
    }
    return NULL;
}

static void *executor(void *argument) {
    execv("/proc/self/exe", argument);
    _exit(3);
}

static void execs_chain(char **argv) {
    long left = atol(argv[2]);
    if (left == 0) exit(0);
    for (long i = 0; i < 4; i++) spawn(busy, (void *)i);
    char text[20];
    snprintf(text, sizeof text, "%ld", left - 1);
    char *again[] = {argv[0], "chain", text, NULL};
    usleep(left % 5 * 300);
    if (left % 2) executor(again);
    pthread_join(spawn(executor, again), NULL);
    exit(4);
}

static void execs(char **argv) {
    while (!over()) {
        pid_t pid[3];
        for (int i = 0; i < 3; i++) if (!(pid[i] = fork())) {
            char *chain[] = {argv[0], "chain", "8", NULL};
            execv("/proc/self/exe", chain);
            _exit(5);
        }
        for (int i = 0; i < 3; i++) {
            int status;
            if (waitpid(pid[i], &status, 0) != pid[i] || status) complain("a chain of programs", status, 0);
        }
    }
}

/* ---- signals: against computing, allocating, forking, waiting. Registers survive; none of one kind is lost. */

static atomic_ulong handled, timers;

static void on_signal(int signal) { atomic_fetch_add(&handled, 1); volatile double x = 1.5; for (int i = 0; i < 20; i++) x *= 1.0000001; }
static void on_timer(int signal, siginfo_t *info, void *context) { atomic_fetch_add(&timers, 1); }

static void *computer(void *argument) {
    uint64_t tag = (uintptr_t)argument;
    while (!over()) {
        uint64_t in[4] = {tag, tag * 3, tag * 5, tag * 7}, out[4] = {0};
        uint64_t registers = 0;
        asm volatile(
            "vmovdqu %[in], %%ymm5\n vmovdqu %[in], %%ymm14\n mov %[tag], %%r12\n mov %[tag], %%r13\n mov $20000, %%ecx\n"
            "1: add $1, %%r12\n sub $1, %%r12\n dec %%ecx\n jnz 1b\n"
            "vpxor %%ymm5, %%ymm14, %%ymm14\n vpor %%ymm14, %%ymm5, %%ymm5\n vmovdqu %%ymm5, %[out]\n xor %%r12, %%r13\n mov %%r13, %[registers]\n"
            : [out] "=m"(out), [registers] "=r"(registers) : [in] "m"(in), [tag] "r"(tag)
            : "rcx", "r12", "r13", "xmm5", "xmm14", "cc", "memory");
        if (registers) complain("a register changed", registers, tag);
        for (int i = 0; i < 4; i++) if (in[i] != out[i]) complain("a vector register changed", out[i], in[i]);
    }
    return NULL;
}

static void *mixed(void *argument) {
    uint64_t random = (uintptr_t)argument;
    int ends[2];
    if (pipe(ends)) return NULL;
    while (!over()) switch (next(&random) % 4) {
        case 0: {
            char buffer[9000];
            memset(buffer, (int)random, sizeof buffer);
            if (write(ends[1], buffer, sizeof buffer) != sizeof buffer) complain("a write", errno, 0);
            for (size_t got = 0; got < sizeof buffer;) {
                ssize_t n = read(ends[0], buffer, sizeof buffer - got);
                if (n <= 0) { complain("a read", errno, 0); break; }
                for (ssize_t i = 0; i < n; i++) if (buffer[i] != (char)random) { complain("a byte", buffer[i], (char)random); break; }
                got += n;
            }
            break;
        }
        case 1: { pid_t child = fork(); if (!child) _exit(7); int status = 0; while (waitpid(child, &status, 0) < 0 && errno == EINTR); if (status != 7 << 8) complain("a child", status, child); break; }
        case 2: { char *p = mmap(NULL, 40 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(p, 1, 40 * PAGE); munmap(p, 40 * PAGE); break; }
        default: { struct timespec t = {0, 200000}; while (nanosleep(&t, &t) && errno == EINTR); }
    }
    return NULL;
}

static void signals(void) {
    int avx = __builtin_cpu_supports("avx2");
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    struct sigaction timed = {.sa_sigaction = on_timer, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigaction(SIGALRM, &timed, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
    pthread_t threads[5];
    for (long i = 0; i < 5; i++) threads[i] = spawn(i < 2 && avx ? computer : mixed, (void *)(i * 1234567 + 1));
    unsigned long sent = 0, rounds = 0;
    for (; !over(); rounds++) {
        for (int i = 0; i < 5; i++) pthread_kill(threads[i], SIGUSR1), sent++;
        usleep(300);
    }
    for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
    // A machine that is busy enough may give a thread no turn for seconds.
    if ((!handled && rounds > 100) || handled > sent) complain("signals", handled, sent);
    if (!timers && rounds > 100) complain("timers", timers, rounds);
    if (getenv("VERBOSE")) fprintf(stderr, "%lu handled, %lu sent, %lu timers\n", handled, sent, timers);
}

/* Stops that meet SIGCONT and SIGKILL on another CPU: what was continued or killed does not stay stopped. */
static void stops(void) {
    for (unsigned n = 0; !over(); n++) {
        pid_t child = fork();
        if (!child) for (;;) raise(n % 2 ? SIGSTOP : SIGTSTP);
        for (volatile unsigned i = 0; i < n % 64 * 200; i++) ;
        /* Half of the time without SIGCONT: SIGKILL alone has to undo the stop that it races with. */
        for (unsigned i = 0; i < n / 2 % 2 * (n % 5); i++) kill(child, SIGCONT);
        kill(child, SIGKILL);
        int status;
        if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) complain("stops", n, status);
    }
}

/* Waits for a child, or for any (-1), that is about to end. */
static pid_t reap(pid_t which) {
    for (int i = 0; i < 20000; i++) {
        pid_t pid = waitpid(which, NULL, WNOHANG);
        if (pid) return pid;
        usleep(1000);
    }
    return 0;
}

/* Processes that fork, each child in its parent's place, and a SIGKILL for all of their group: none escapes. */
static void killings(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (unsigned n = 0; !over() && !wrong; n++) {
        pid_t leader = fork();
        if (!leader) {
            setpgid(0, 0);
            for (int i = 0; i < 3; i++) if (!fork()) for (;;) if (fork() > 0) _exit(0);
            for (;;) pause();
        }
        setpgid(leader, leader);
        usleep(2000 + n * 7919 % 3000);
        kill(-leader, SIGKILL);
        pid_t pid;
        while ((pid = reap(-1)) > 0) ;
        if (!pid) complain("a process that was not killed", n, 0);
    }
}

/* A process and the one that traces it are killed at once: their parent can wait for both. */
static void tracers(void) {
    for (unsigned n = 0; !over() && !wrong; n++) {
        int told[2];
        if (pipe(told)) complain("pipe", errno, 0);
        pid_t traced = fork();
        if (!traced) for (;;) pause();
        setpgid(traced, traced);
        pid_t tracer = fork();
        if (!tracer) {
            setpgid(0, traced);
            if (n % 2) ptrace(PTRACE_SEIZE, traced, NULL, NULL);
            else ptrace(PTRACE_ATTACH, traced, NULL, NULL), waitpid(traced, NULL, __WALL);
            if (write(told[1], "", 1) < 1) _exit(1);
            if (n % 3 == 0) ptrace(PTRACE_DETACH, traced, NULL, NULL);
            for (;;) pause();
        }
        char byte;
        if (read(told[0], &byte, 1) < 1) complain("a tracer", errno, 0);
        close(told[0]), close(told[1]);
        for (volatile unsigned i = 0; i < n % 64 * 200; i++) ;
        kill(-traced, SIGKILL), kill(tracer, SIGKILL);
        if (reap(tracer) != tracer) complain("a tracer that cannot be waited for", n, 0);
        if (reap(traced) != traced) complain("a tracee that cannot be waited for", n, 0);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    if (!strcmp(argv[1], "chain")) execs_chain(argv);
    end_at = time(NULL) + atol(argv[2]);
    catch_faults();
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(argv[1], "words")) words();
    else if (!strcmp(argv[1], "forks")) forks();
    else if (!strcmp(argv[1], "crowd")) crowd();
    else if (!strcmp(argv[1], "rights")) rights();
    else if (!strcmp(argv[1], "execs")) execs(argv);
    else if (!strcmp(argv[1], "signals")) signals();
    else if (!strcmp(argv[1], "stops")) stops();
    else if (!strcmp(argv[1], "killings")) killings();
    else if (!strcmp(argv[1], "tracers")) tracers();
    else return 2;
    printf("%s: %s\n", argv[1], wrong ? "wrong" : "ok");
    return wrong ? 1 : 0;
}
