/* `exhaust MODE`: uses up what a program can make grow. The kernel must refuse or kill, never fail itself. */
#include "check.h"
#include <sys/socket.h>

static char block[1 << 20];

/* A child that takes all memory is killed; its parent goes on. */
static int memory(void) {
    pid_t child = fork();
    if (!child) for (;;) {
        char *p = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) pause();
        memset(p, 1, 16 << 20);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("the child was killed by %d\n", WTERMSIG(status));
    char *p = malloc(8 << 20);
    memset(p, 1, 8 << 20);
    return 0;
}

/* Pipes that are full. */
static int pipes(void) {
    struct rlimit limit = {100000, 100000};
    setrlimit(RLIMIT_NOFILE, &limit);
    int ends[2];
    while (!pipe(ends)) {
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        if (write(ends[1], block, 65536) < 0 && errno != EAGAIN) break;
    }
    puts("refused");
    return 0;
}

/* Small files: each is memory of the kernel. */
static int files(void) {
    mkdir("/tmp/many", 0700);
    for (long i = 0;; i++) {
        char name[64];
        snprintf(name, sizeof name, "/tmp/many/%ld", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        if (fd < 0) { printf("refused\n"); return i < 1000; }
        close(fd);
    }
}

/* A file system in memory. */
static int space(void) {
    int fd = open("/tmp/large", O_CREAT | O_WRONLY, 0600);
    long total = 0;
    for (ssize_t n; (n = write(fd, block, sizeof block)) > 0; total += n);
    printf("refused: %s\n", strerrorname_np(errno));
    unlink("/tmp/large");
    return total == 0;
}

/* Areas of memory, descriptors by high numbers, and what poll(2) must hold. */
static int tables(void) {
    char *p = mmap(NULL, 4096ul * 200000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    long areas = 0;
    while (areas < 100000 && !mprotect(p + 8192 * areas, 4096, PROT_READ)) areas++;
    printf("areas refused: %s\n", strerrorname_np(errno));
    struct rlimit limit = {400000, 400000};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = 1000; fd < 400000; fd = fd * 3 / 2) if (dup2(0, fd) != fd && errno != ENOMEM) return 1;
    static struct pollfd fds[300000];
    for (int i = 0; i < 300000; i++) fds[i] = (struct pollfd){.fd = i, .events = POLLIN};
    int n = poll(fds, 300000, 0);
    if (n < 0 && errno != ENOMEM) return 1;
    return areas < 1000;
}

/* Page tables: a child that does nothing but load, one word of each 2 MiB. */
static int sparse(void) {
    pid_t child = fork();
    if (!child) {
        for (;;) {
            volatile char *p = mmap(NULL, 1ul << 42, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) pause();
            for (unsigned long at = 0; at < 1ul << 42; at += 2 << 20) (void)p[at];
        }
    }
    int status = 0;
    waitpid(child, &status, 0);
    /* There is memory again, for others than the one whose tables they were: soon, as there is much to take down. */
    for (int i = 0, failed = 0; i < 20; i++) {
        child = fork();
        if (!child) _exit(0);
        if (child < 0 && ++failed > 200) return 1;
        if (child < 0) usleep(50000);
        else waitpid(child, NULL, 0);
    }
    printf("the child was killed by %d\n", WTERMSIG(status));
    return 0;
}

/* Processes: either fork(2) refuses or some are killed, this one last. */
static int processes(void) {
    for (int i = 0; i < 20000; i++) {
        pid_t child = fork();
        if (child < 0) break;
        if (!child) { pause(); _exit(0); }
    }
    signal(SIGTERM, SIG_IGN);
    kill(-1, SIGKILL);
    puts("refused");
    return 0;
}

static void handled(int s) { (void)s; }

/* Memory runs out while signals come all the time, with handlers whose stacks are not there yet: who has a signal to
   handle must leave the CPU to who is dying. */
static int alarms(void) {
    for (int i = 0; i < 80; i++) {
        if (fork()) continue;
        signal(SIGALRM, SIG_IGN);
        struct sigaction a = {.sa_handler = handled, .sa_flags = SA_ONSTACK | SA_NODEFER};
        sigaction(SIGALRM, &a, NULL);
        setitimer(ITIMER_REAL, &(struct itimerval){{0, 500}, {0, 500}}, NULL);
        for (;;) {
            char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) pause();
            sigaltstack(&(stack_t){p, 0, 1 << 20}, NULL);
            for (int k = 0; k < 1 << 18; k += 4096) p[k] = 1;
        }
    }
    int killed = 0, status;
    while (wait(&status) > 0) killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    printf("%d children were killed\n", killed);
    return killed < 60;
}

/* Sockets that are in flight over others, in every process, until there is no more memory; then all of them end at
   once, with thousands of sockets to close each. */
static void send_over(int over, int what) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &what, sizeof what);
    sendmsg(over, &message, MSG_DONTWAIT);
}

static int flights(void) {
    struct rlimit limit = {100000, 100000};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < 8; i++) {
        if (fork()) continue;
        int ends[2];
        while (!socketpair(AF_UNIX, i & 1 ? SOCK_STREAM : SOCK_DGRAM, 0, ends))
            send_over(ends[0], ends[0]), send_over(ends[1], ends[0]);
        raise(SIGSTOP);
        _exit(0);
    }
    for (int i = 0, status; i < 8; i++) waitpid(-1, &status, WUNTRACED);
    kill(0, SIGCONT);
    int ended = 0, status;
    while (wait(&status) > 0) ended++;
    printf("refused, and %d ended\n", ended);
    return 0;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc < 2) return 2;
    if (!strcmp(argv[1], "memory")) return memory();
    if (!strcmp(argv[1], "pipes")) return pipes();
    if (!strcmp(argv[1], "files")) return files();
    if (!strcmp(argv[1], "space")) return space();
    if (!strcmp(argv[1], "tables")) return tables();
    if (!strcmp(argv[1], "sparse")) return sparse();
    if (!strcmp(argv[1], "processes")) return processes();
    if (!strcmp(argv[1], "alarms")) return alarms();
    if (!strcmp(argv[1], "flights")) return flights();
    return 2;
}
