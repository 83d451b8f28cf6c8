/* `shrunk FILE OTHER`: uses a file of an image that becomes shorter meanwhile, when a line comes. */
#include "check.h"
#include <setjmp.h>

enum { GONE = 700 * 4096 };
static sigjmp_buf back;
static void bus(int s) { siglongjmp(back, s); }

static void next(void) {
    char line[16];
    puts("ready");
    if (read(0, line, sizeof line) <= 0) exit(3);
}

static void touch(const char *what, volatile char *p, int write) {
    if (sigsetjmp(back, 1)) { printf("%s: SIGBUS\n", what); return; }
    if (write) *p = 1;
    printf("%s: %d\n", what, *p == 0);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGBUS, bus);
    static char page[4096], before[4096];
    int fd = open(argv[1], O_RDONLY);
    char *p = mmap(NULL, 3 << 20, PROT_READ, MAP_SHARED, fd, 0);
    char *q = mmap(NULL, 3 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED || q == MAP_FAILED || pread(fd, before, 4096, 0) != 4096) return 2;
    touch("mapped", p + GONE, 0), touch("private", q + GONE + 4096, 0);
    next();
    touch("mapped", p + GONE, 0), touch("not mapped", p + GONE + 8192, 0);
    touch("private", q + GONE + 4096, 1), touch("private, not mapped", q + GONE + 40960, 1);
    ssize_t n = pread(fd, page, 4096, GONE + 4096);
    printf("read %zd %s\n", n, strerrorname_np(errno));
    n = pread(fd, page, 4096, 0);
    printf("what is left %zd %d\n", n, memcmp(page, before, 4096));
    int ends[2];
    pipe(ends);
    n = write(ends[1], p + GONE + 4096 * 20, 100);
    printf("from a mapping %zd %s\n", n, strerrorname_np(errno));
    next();
    errno = 0;
    int other = open(argv[2], O_RDONLY);
    puts(other < 0 && (errno == EIO || errno == EUCLEAN) ? "refused" : "not refused");
    touch("mapped", p, 0);
    puts("done");
    return 0;
}
