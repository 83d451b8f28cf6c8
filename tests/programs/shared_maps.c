/* Shared mappings of files in the directory that DIR names; with the argument `others` together with somebody else who
   reads and writes the file. */
#include "check.h"
#include <setjmp.h>

#define PAGE 4096

static sigjmp_buf back;

static void caught(int signal) { siglongjmp(back, signal); }

/* What a store to, or a load from, an address comes to. */
static const char *touch(volatile char *at, int store) {
    int signal = sigsetjmp(back, 1);
    if (signal)
        return signal == SIGBUS ? "SIGBUS" : "SIGSEGV";
    if (store)
        *at = 'T';
    else
        (void)*at;
    return "ok";
}

static char *map(int fd, size_t len, int prot, int flags) {
    char *at = mmap(NULL, len, prot, flags, fd, 0);
    if (at == MAP_FAILED)
        printf("mmap: %s\n", strerrorname_np(errno));
    return at;
}

static unsigned sum(int fd) {
    static char buffer[65536];
    unsigned sum = 0;
    ssize_t got;
    for (off_t at = 0; (got = pread(fd, buffer, sizeof buffer, at)) > 0; at += got)
        for (ssize_t i = 0; i < got; i++)
            sum = sum * 31 + (unsigned char)buffer[i];
    return sum;
}

static void coherence(void) {
    int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0644), other = open("f", O_RDONLY);
    char text[16] = {0};
    OK(ftruncate(fd, 3 * PAGE + 100));
    char *m = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    char *r = map(other, 4 * PAGE, PROT_READ, MAP_SHARED), *p = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    strcpy(m + 10, "stored");
    VAL(pread(other, text, 7, 10));
    printf("%s %s %s\n", text, r + 10, p + 10);
    VAL(pwrite(fd, "written", 8, PAGE - 3));
    printf("%s %s %s\n", m + PAGE - 3, r + PAGE - 3, p + PAGE - 3);
    strcpy(p + 10, "private");
    strcpy(m + 2 * PAGE, "page two");
    printf("%s %s %s %s\n", m + 10, p + 10, r + 2 * PAGE, p + 2 * PAGE);
    OK(mprotect(m, PAGE, PROT_READ));
    printf("%s\n", touch(m, 1));
    OK(mprotect(m, PAGE, PROT_READ | PROT_WRITE));
    printf("%s\n", touch(m, 1));
    printf("%c\n", r[0]);
    errno = 0;
    printf("%d", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0) == MAP_FAILED);
    printf(" %s\n", strerrorname_np(errno));
    OK(mprotect(r, PAGE, PROT_READ | PROT_WRITE));
    OK(msync(m, 4 * PAGE, MS_SYNC));
    OK(msync(m, 4 * PAGE, MS_ASYNC));
    close(fd);
    m[20] = 'Z';
    pread(other, text, 1, 20);
    printf("%c\n", text[0]);
    if (!fork()) {
        m[21] = 'C';
        _exit(0);
    }
    wait(NULL);
    pread(other, text, 2, 20);
    printf("%c%c %c\n", text[0], text[1], r[21]);
    OK(munmap(m, 4 * PAGE));
    printf("%u\n", sum(other));
    OK(munmap(r, 4 * PAGE));
    OK(munmap(p, 4 * PAGE));
    printf("%u\n", sum(other));
    close(other);
}

static void lengths(void) {
    int fd = open("f", O_RDWR);
    OK(ftruncate(fd, PAGE + 100));
    char *m = map(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    printf("%s %s\n", touch(m + PAGE + 50, 1), touch(m + 2 * PAGE, 1));
    m[PAGE + 200] = 'X';
    OK(ftruncate(fd, 3 * PAGE));
    /* What was stored behind the end: file systems differ. */
    IS(m[PAGE + 200] == 0 || m[PAGE + 200] == 'X');
    m[PAGE + 200] = 0;
    printf("%s %s\n", touch(m + 2 * PAGE, 1), touch(m + 3 * PAGE, 0));
    OK(ftruncate(fd, 50));
    printf("%s %s %d\n", touch(m, 1), touch(m + PAGE, 0), m[60]);
    OK(truncate("f", 2 * PAGE));
    printf("%d %s\n", m[PAGE + 50], touch(m + PAGE, 1));
    VAL(pwrite(fd, "end", 3, 4 * PAGE - 3));
    printf("%.3s %s\n", m + 4 * PAGE - 3, touch(m + 3 * PAGE, 1));
    printf("%u\n", sum(fd));
    int cut = open("f", O_WRONLY | O_TRUNC);
    printf("%s\n", touch(m, 0));
    close(cut);
    VAL(pwrite(fd, "anew", 4, 0));
    printf("%.4s\n", m);
    OK(unlink("f"));
    m[1] = 'N';
    char text[5] = {0};
    VAL(pread(fd, text, 4, 0));
    printf("%s\n", text);
    char *again = map(fd, PAGE, PROT_READ, MAP_SHARED);
    printf("%.4s\n", again);
    munmap(again, PAGE);
    munmap(m, 4 * PAGE);
    close(fd);
}

/* Two processes with mappings of their own see each other's stores without a call between. */
static void processes(void) {
    int fd = open("g", O_RDWR | O_CREAT, 0644);
    OK(ftruncate(fd, 64 * PAGE));
    OK(link("g", "h"));
    pid_t child = fork();
    int mine = open(child ? "g" : "h", O_RDWR);
    _Atomic unsigned *m = (void *)map(mine, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (unsigned i = 0; i < 300; i++) {
        while (m[0] != 2 * i + !child)
            sched_yield();
        unsigned at = 1 + i * 7 % (64 * PAGE / 4 - 1);
        m[at] = m[at] + i + !child;
        m[0]++;
    }
    if (!child)
        _exit(0);
    wait(NULL);
    printf("%u\n", sum(fd));
    munmap((void *)m, 64 * PAGE);
    printf("%u\n", sum(fd));
    close(mine);
    close(fd);
}

/* Stores, reads and writes in any order are what one copy of the bytes would be. */
static void any_order(void) {
    size_t len = 300 * PAGE;
    int fd = open("any", O_RDWR | O_CREAT, 0644);
    OK(ftruncate(fd, len));
    unsigned char *m = (void *)map(fd, len, PROT_READ | PROT_WRITE, MAP_SHARED), *copy = calloc(1, len), text[5000];
    unsigned seed = 7, wrong = 0;
    for (int i = 0; i < 30000; i++) {
        seed = seed * 1103515245 + 12345;
        size_t at = (seed >> 4) % (len - 5000), n = (seed >> 9) % 5000;
        switch (i % 8) {
        case 0:
            memset(text, i, n);
            memset(copy + at, i, n);
            if (i % 16)
                wrong += pwrite(fd, text, n, at) != (ssize_t)n;
            else
                memset(m + at, i, n);
            break;
        case 1:
            wrong += pread(fd, text, n, at) != (ssize_t)n || memcmp(text, copy + at, n);
            break;
        default:
            m[at] = copy[at] = i;
            wrong += m[at + 1] != copy[at + 1];
        }
        if (i % 5000 == 0)
            msync(m, len, MS_ASYNC);
    }
    printf("%u wrong, %d\n", wrong, memcmp(m, copy, len));
    munmap(m, len);
    m = (void *)map(fd, len, PROT_READ, MAP_SHARED);
    printf("%d\n", memcmp(m, copy, len));
    munmap(m, len);
    close(fd);
}

static void await(volatile char *at, char what) {
    while (*at != what)
        usleep(1000);
}

static void others(void) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    OK(ftruncate(fd, 3 * PAGE));
    char *m = map(fd, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
    strcpy(m + 100, "synced");
    OK(msync(m, PAGE, MS_SYNC));
    m[0] = '1';
    /* Without a call: within a while. */
    await(m + PAGE, '2');
    printf("%s %s\n", m + 100, m + PAGE + 1);
    strcpy(m + 2 * PAGE, "the end");
    m[0] = '3';
    while (lseek(fd, 0, SEEK_END) != PAGE)
        usleep(1000);
    while (strcmp(touch(m + PAGE, 0), "SIGBUS"))
        usleep(1000);
    printf("cut\n");
    m[200] = 'L';
    fflush(stdout);
    kill(getpid(), SIGKILL);
}

int main(int argc, char **argv) {
    if (chdir(getenv("DIR")))
        return 1;
    signal(SIGBUS, caught);
    signal(SIGSEGV, caught);
    if (argc > 1) {
        int status;
        if (!fork())
            others();
        wait(&status);
        printf("%d\n", WTERMSIG(status));
        return 0;
    }
    coherence();
    lengths();
    processes();
    any_order();
    return 0;
}
