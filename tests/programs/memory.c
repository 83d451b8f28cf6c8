/* mmap, munmap, mprotect, mremap, madvise, mincore, brk, copy on write, shared memory. */
#include "check.h"
#include <setjmp.h>
static sigjmp_buf out; static volatile int code;
static void segv(int s, siginfo_t *i, void *u) { (void)u; code = s * 100 + i->si_code; siglongjmp(out, 1); }
static int touch(volatile char *p, int write) { code = 0; if (!sigsetjmp(out, 1)) { if (write) *p = 1; else (void)*p; } return code; }
#define P 4096L
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct sigaction a = {.sa_sigaction = segv, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &a, 0); sigaction(SIGBUS, &a, 0);
	char *m = mmap(0, 8 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	IS(m != MAP_FAILED && m[0] == 0);
	memset(m, 5, 8 * P);
	OK(munmap(m + P, P));
	printf("hole %d\n", touch(m + P, 0));
	OK(mprotect(m, P, PROT_READ));
	printf("read %d write %d\n", touch(m, 0), touch(m, 1));
	OK(mprotect(m, P, PROT_NONE));
	printf("none %d\n", touch(m, 0));
	OK(mprotect(m, P, PROT_READ | PROT_WRITE));
	IS(m[0] == 5);
	OK(mprotect(m, 3 * P, PROT_READ));
	OK(mprotect(m + 1, P, PROT_READ));
	OK(munmap(m + 1, P));
	OK(munmap(m, 0));
	IS(mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	IS(mmap(0, P, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
	IS(mmap(0, P, PROT_READ, MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	IS(mmap(0, 1L << 48, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
	IS(mmap(m + 2 * P, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED && errno == EEXIST);
	IS(mmap(m + P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == m + P);
	m[P] = 9;
	char *g = mremap(m + 4 * P, 4 * P, 64 * P, MREMAP_MAYMOVE);
	IS(g != MAP_FAILED && g[0] == 5 && g[4 * P - 1] == 5 && g[4 * P] == 0);
	IS(mremap(g, 64 * P, 2 * P, 0) == g);
	printf("shrunk %d\n", touch(g + 2 * P, 0));
	IS(mremap(g, 0, P, MREMAP_MAYMOVE) == MAP_FAILED);
	g[0] = 7;
	OK(madvise(g, P, MADV_DONTNEED));
	VAL(g[0]);
	OK(madvise(g, P, 12345));
	OK(madvise(g + 1, P, MADV_DONTNEED));
	unsigned char v[2];
	g[0] = 1;
	OK(mincore(g, P, v));
	OK(mincore(g + 1, P, v));
	char *s = mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *c = mmap(0, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s[0] = c[0] = 1;
	if (!fork()) { s[0] = 2; c[0] = 2; _exit(0); }
	wait(0);
	printf("shared %d private %d\n", s[0], c[0]);
	int fd = open("file", O_CREAT | O_RDWR, 0600);
	IS(write(fd, "hello", 5) == 5);
	char *f = mmap(0, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *q = mmap(0, P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	IS(!memcmp(f, "hello\0", 6));
	printf("beyond %d\n", touch(f + P, 0));
	f[0] = 'J';
	char b[6] = "";
	IS(pread(fd, b, 5, 0) == 5 && !strcmp(b, "Jello"));
	IS(q[0] == 'J');
	q[1] = 'X';
	IS(f[1] == 'e');
	IS(pwrite(fd, "y", 1, 4) == 1 && f[4] == 'y');
	OK(ftruncate(fd, 0));
	printf("truncated %d\n", touch(f, 0));
	OK(msync(f, P, MS_SYNC));
	OK(msync(f, P, MS_SYNC | MS_ASYNC));
	int ro = open("file", O_RDONLY);
	IS(mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED && errno == EACCES);
	char *r = mmap(0, P, PROT_READ, MAP_SHARED, ro, 0);
	OK(mprotect(r, P, PROT_READ | PROT_WRITE));
	IS(mmap(0, P, PROT_READ, MAP_PRIVATE, ro, 1) == MAP_FAILED && errno == EINVAL);
	char *brk0 = sbrk(0);
	IS(sbrk(1 << 20) == brk0);
	memset(brk0, 3, 1 << 20);
	IS(brk0[(1 << 20) - 1] == 3);
	IS(sbrk(-(1 << 20)) != (void *)-1);
	char *big = mmap(0, 2L << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long sum = 0;
	for (long i = 0; i < 2L << 30; i += 64L << 20) { big[i] = 1; sum += big[i] + big[i + P]; }
	VAL(sum);
	OK(munmap(big, 2L << 30));
	OK(mlock(c, P)); OK(munlock(c, P));
	int mfd = memfd_create("m", MFD_ALLOW_SEALING);
	OK(ftruncate(mfd, P));
	OK(fcntl(mfd, F_ADD_SEALS, F_SEAL_SHRINK));
	OK(ftruncate(mfd, 0));
	printf("null %d, high %d\n", touch(0, 0), touch((char *)0xffff800000000000, 0));
	OK(write(1, (void *)8, 4));
	OK(read(fd, (void *)8, 0));
	return 0;
}
