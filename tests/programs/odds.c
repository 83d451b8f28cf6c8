/* What stressing and fuzzing found: seals and mappings, terminals in the old form, caches, tracers that put nonsense
   into a signal, address spaces of very many ranges. */
#include "check.h"
#include <sys/ptrace.h>
#include <asm/ioctls.h>
#define P 4096L

struct old_termio { unsigned short iflag, oflag, cflag, lflag; unsigned char line, cc[8]; };
struct kernel_termios { unsigned iflag, oflag, cflag, lflag; unsigned char line, cc[19]; };

static void seals(void) {
	puts("-- seals");
	char *s = mmap(0, P, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	OK(mprotect(s, P, PROT_WRITE)); OK(mprotect(s, P, PROT_READ | PROT_WRITE)); s[0] = 1; VAL(s[0]);
	int fd = memfd_create("m", MFD_ALLOW_SEALING);
	OK(ftruncate(fd, P));
	char *w = mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)); VAL(fcntl(fd, F_GET_SEALS));
	w[0] = 3;
	OK(mprotect(w, P, PROT_READ)); OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	OK(munmap(w, P));
	char *p = mmap(0, P, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK)); VAL(fcntl(fd, F_GET_SEALS));
	p[0] = 4; VAL(p[0]);
	IS(mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	OK(write(fd, "x", 1)); OK(ftruncate(fd, 0)); OK(ftruncate(fd, 2 * P));
	int g = memfd_create("f", MFD_ALLOW_SEALING);
	OK(ftruncate(g, P)); char *early = mmap(0, P, PROT_READ | PROT_WRITE, MAP_SHARED, g, 0);
	OK(fcntl(g, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)); early[0] = 5;
	char *r = mmap(0, P, PROT_READ, MAP_SHARED, g, 0);
	IS(r != MAP_FAILED && r[0] == 5); OK(mprotect(r, P, PROT_READ | PROT_WRITE));
	OK(fcntl(g, F_ADD_SEALS, F_SEAL_SEAL)); OK(fcntl(g, F_ADD_SEALS, F_SEAL_GROW));
}

static void terminals(void) {
	puts("-- terminals");
	int m = posix_openpt(O_RDWR | O_NOCTTY); unlockpt(m);
	int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	struct old_termio o = {0}; struct kernel_termios t, l = {0};
	OK(ioctl(s, TCGETA, &o)); OK(ioctl(s, TCGETS, &t));
	IS(o.iflag == (unsigned short)t.iflag && o.lflag == (unsigned short)t.lflag && !memcmp(o.cc, t.cc, 8));
	o.lflag &= ~2; o.cc[0] = 9; OK(ioctl(s, TCSETA, &o)); OK(ioctl(s, TCGETS, &t)); VAL(t.lflag); VAL(t.cc[0]);
	o.cc[0] = 10; OK(ioctl(s, TCSETAW, &o)); o.cc[1] = 11; OK(ioctl(s, TCSETAF, &o)); OK(ioctl(m, TCGETA, &o)); VAL(o.cc[0]); VAL(o.cc[1]);
	OK(ioctl(s, TIOCGLCKTRMIOS, &l)); VAL(l.lflag);
	l.lflag = 8; l.cc[0] = 1; OK(ioctl(s, TIOCSLCKTRMIOS, &l));
	unsigned before = t.lflag & 8; t.lflag ^= 8 | 1; t.cc[0] = 77; t.cc[2] = 78;
	OK(ioctl(s, TCSETS, &t)); OK(ioctl(s, TCGETS, &t)); IS((t.lflag & 8) == before); VAL(t.lflag & 1); VAL(t.cc[0]); VAL(t.cc[2]);
	memset(&l, 0, sizeof l); OK(ioctl(s, TIOCGLCKTRMIOS, &l)); VAL(l.lflag); VAL(l.cc[0]);
	int pipes[2]; pipe(pipes); OK(ioctl(pipes[0], TCGETA, &o)); OK(ioctl(s, TCGETA, 8)); OK(ioctl(s, TCSETA, 8));
}

static long number_in(const char *cache, const char *name) {
	char path[128], text[32] = {0};
	snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/%s/%s", cache, name);
	int fd = open(path, O_RDONLY); long n = read(fd, text, 31); close(fd);
	long v = n > 0 ? strtol(text, 0, 10) : -1; return strchr(text, 'K') ? v * 1024 : v;
}

static void caches(void) {
	puts("-- caches");
	for (int i = 0; i < 3; i++) {
		char name[16]; snprintf(name, sizeof name, "index%d", i);
		long sets = number_in(name, "number_of_sets"), ways = number_in(name, "ways_of_associativity"), line = number_in(name, "coherency_line_size");
		IS(sets < 0 || (ways > 0 && line > 0 && sets * ways * line == number_in(name, "size")));
	}
}

/* A signal goes on as what the tracer says, whatever it wrote into its information. */
static void tracer(int number, int with) {
	pid_t child = fork();
	if (!child) { signal(SIGUSR1, SIG_IGN); ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGUSR1); raise(SIGUSR1); _exit(7); }
	int status; siginfo_t info;
	waitpid(child, &status, 0);
	OK(ptrace(PTRACE_GETSIGINFO, child, 0, &info)); info.si_signo = number;
	OK(ptrace(PTRACE_SETSIGINFO, child, 0, &info)); OK(ptrace(PTRACE_CONT, child, 0, with));
	waitpid(child, &status, 0); printf("signo %d with %d: %x\n", number, with, status);
	ptrace(PTRACE_CONT, child, 0, 0); waitpid(child, &status, 0); printf("then %x\n", status);
}

/* Tens of thousands of ranges: what shows them is longer than any one piece of the kernel's memory. */
static void ranges(void) {
	puts("-- ranges");
	long n = 60000; char *p = mmap(0, n * P, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long made = 0; for (long i = 0; i < n; i += 2) made += !mprotect(p + i * P, P, PROT_READ);
	VAL(made);
	static const char *const names[] = {"maps", "smaps", "stat", "statm", "status"};
	static char buffer[1 << 16]; static long seen[5];
	for (int k = 0; k < 5; k++) {
		char name[64]; snprintf(name, sizeof name, "/proc/self/%s", names[k]);
		int fd = open(name, O_RDONLY); long lines = 0, r;
		while ((r = read(fd, buffer, sizeof buffer)) > 0) for (long i = 0; i < r; i++) lines += buffer[i] == '\n';
		seen[k] = lines; printf("%s: %s\n", names[k], r < 0 ? strerrorname_np(errno) : lines ? "read" : "empty"); close(fd);
	}
	IS(seen[0] >= n); IS(seen[1] >= n * 10);
	munmap(p, n * P);
}

int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	seals(); terminals(); caches();
	puts("-- tracer"); tracer(0, SIGUSR1); tracer(0, SIGUSR2); tracer(1000, SIGUSR1); tracer(-5, SIGUSR1); tracer(SIGUSR2, SIGUSR2); tracer(0, 0);
	ranges();
	return 0;
}
