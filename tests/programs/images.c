/* Files that come from an image, or from a directory: what is written, mapped, cut and removed must be the same. Works on
   the files that tests/tests/images.rs makes, in the working directory. */
#include "check.h"
#include <setjmp.h>

static unsigned sum(const char *p, long n) {
    unsigned s = 1;
    while (n--) s = s * 31 + (unsigned char)*p++;
    return s;
}

static void show(const char *name) {
    static char buffer[4 << 20];
    int fd = open(name, O_RDONLY);
    long n = read(fd, buffer, sizeof buffer);
    printf("%s: %ld bytes, %u\n", name, n, n < 0 ? 0 : sum(buffer, n));
    close(fd);
}

static char *map(const char *name, long len, int prot, int flags, int *out) {
    int fd = open(name, prot & PROT_WRITE && flags & MAP_SHARED ? O_RDWR : O_RDONLY);
    char *p = mmap(NULL, len, prot, flags, fd, 0);
    if (p == MAP_FAILED) { printf("%s: %s\n", name, strerrorname_np(errno)); exit(1); }
    if (out) *out = fd; else close(fd);
    return p;
}

static sigjmp_buf back;
static void bus(int s) { siglongjmp(back, s); }

static void shared(void) {
    int fd;
    char *p = map("whole", 12288, PROT_READ | PROT_WRITE, MAP_SHARED, &fd), other[4096];
    char *q = map("whole", 12288, PROT_READ, MAP_SHARED, NULL);
    printf("mapped %u\n", sum(p, 12288));
    memset(other, 'w', sizeof other);
    pwrite(fd, other, 4096, 4096);
    printf("after write %u %u\n", sum(p, 12288), sum(q, 12288));
    memset(p + 8192, 'm', 4096);
    pread(fd, other, 4096, 8192);
    printf("after store %u %u\n", sum(other, 4096), sum(q, 12288));
    pid_t child = fork();
    if (!child) { memset(p, 'c', 100); _exit(0); }
    waitpid(child, NULL, 0);
    printf("after the child %u %u\n", sum(p, 12288), sum(q, 12288));
    mprotect(q, 12288, PROT_READ);
    show("whole");
}

static void widened(void) {
    int fd = open("wide", O_RDWR);
    char *p = mmap(NULL, 12288, PROT_READ, MAP_SHARED, fd, 0);
    printf("read only %u\n", sum(p, 12288));
    mprotect(p, 12288, PROT_READ | PROT_WRITE);
    p[5000] = '!';
    printf("widened %u\n", sum(p, 12288));
    show("wide");
    close(fd);
}

static void private(void) {
    char *p = map("copied", 12288, PROT_READ | PROT_WRITE, MAP_PRIVATE, NULL), page[4096];
    p[0] = 'p';
    unsigned before = sum(p, 4096);
    int fd = open("copied", O_RDWR);
    memset(page, 'f', sizeof page);
    pwrite(fd, page, 4096, 0), pwrite(fd, page, 4096, 8192);
    printf("private page %s, other %u\n", sum(p, 4096) == before ? "stays" : "changed", sum(p + 8192, 4096));
    show("copied");
    close(fd);
}

static void cut(void) {
    int fd;
    char *p = map("part", 12288, PROT_READ, MAP_SHARED, &fd);
    printf("part %u\n", sum(p, 10000));
    int w = open("part", O_RDWR);
    ftruncate(w, 5000);
    printf("cut %u\n", sum(p, 8192));
    ftruncate(w, 10000);
    printf("grown %u\n", sum(p, 10000));
    show("part");
    signal(SIGBUS, bus);
    ftruncate(w, 100);
    if (!sigsetjmp(back, 1)) { printf("beyond %d\n", ((volatile char *)p)[4096]); } else puts("SIGBUS");
    show("part");
    close(w), close(fd);
}

static void punched(void) {
    int fd = open("punched", O_RDWR);
    char *p = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0);
    printf("before %u\n", sum(p, 1 << 20));
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 50000);
    printf("punched %u\n", sum(p, 1 << 20));
    show("punched");
    close(fd);
}

static void out(void) {
    int ends[2];
    char *p = map("whole2", 12288, PROT_READ, MAP_PRIVATE, NULL), got[4096];
    pipe(ends);
    write(ends[1], p + 100, 4000), read(ends[0], got, 4000);
    printf("through a pipe %u\n", sum(got, 4000));
    int fd = open("new", O_RDWR | O_CREAT, 0600);
    write(fd, p, 12288), close(fd);
    show("new");
    int null = open("/dev/null", O_WRONLY);
    printf("to a device %zd\n", write(null, p, 12288));
}

static void names(void) {
    struct stat s;
    int fd = open("gone", O_RDWR);
    unlink("gone");
    char text[16] = {0};
    pwrite(fd, "still", 5, 0), pread(fd, text, 10, 0);
    printf("%s %d\n", text, stat("gone", &s));
    close(fd);
    printf("rename %d\n", rename("small", "renamed"));
    fd = open("renamed", O_WRONLY | O_APPEND);
    write(fd, "more", 4), close(fd);
    show("renamed"), show("linked");
    stat("linked", &s);
    printf("links %ld\n", (long)s.st_nlink);
    fd = open("one", O_WRONLY), write(fd, "both", 4), close(fd);
    show("two");
    printf("mkdir %d %d\n", mkdir("dir", 0700) ? errno : 0, mkdir("dir/more", 0700) ? errno : 0);
    printf("rmdir %d\n", rmdir("dir") ? errno : 0);
    char target[64] = {0};
    readlink("sym", target, sizeof target);
    printf("target %s\n", target);
}

/* Another thread writes every page once, while this one looks at them through a mapping: what was written is seen. */
static volatile int done = -1;
static void *writer(void *arg) {
    int fd = open("big", O_WRONLY), one = 1;
    for (int i = 0; i < 768; i++) { pwrite(fd, &one, 4, i * 4096l); __atomic_store_n(&done, i, __ATOMIC_SEQ_CST); }
    return close(fd), NULL;
}

static void race(void) {
    char *p = map("big", 768 * 4096, PROT_READ, MAP_SHARED, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, writer, NULL);
    int stale = 0, last;
    do {
        last = __atomic_load_n(&done, __ATOMIC_SEQ_CST);
        for (int i = last; i >= 0 && i > last - 20; i--) stale += *(volatile int *)(p + i * 4096l) != 1;
        *(volatile int *)(p + (last + 3) % 768 * 4096l);
    } while (last < 767);
    pthread_join(thread, NULL);
    for (int i = 0; i < 768; i++) stale += *(volatile int *)(p + i * 4096l) != 1;
    printf("stale %d\n", stale);
    show("big");
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    static const char *all[] = {"whole", "whole2", "wide", "copied", "part", "small", "empty", "punched", "hole", "big"};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) show(all[i]);
    shared(), widened(), private(), cut(), punched(), out(), names(), race();
    return 0;
}
