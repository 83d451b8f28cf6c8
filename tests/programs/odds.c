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

static void remapped(void) {
	puts("-- remap_file_pages");
	int fd = memfd_create("r", 0); OK(ftruncate(fd, 4 * P));
	char *m = mmap(0, 4 * P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *q = mmap(0, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 4; i++) m[i * P] = 'a' + i;
	OK(syscall(SYS_remap_file_pages, m, P, 0, 3, 0)); OK(syscall(SYS_remap_file_pages, m + 2 * P, 2 * P, 0, 0, 0));
	printf("%c%c%c%c\n", m[0], m[P], m[2 * P], m[3 * P]);
	OK(syscall(SYS_remap_file_pages, m, P, 1, 3, 0)); OK(syscall(SYS_remap_file_pages, q, P, 0, 0, 0)); OK(syscall(SYS_remap_file_pages, m, 0, 0, 0, 0));
	OK(syscall(SYS_remap_file_pages, 8 * P, P, 0, 0, 0)); OK(syscall(SYS_remap_file_pages, m, P, 0, -1L, 0)); OK(syscall(SYS_remap_file_pages, m, -P, 0, 0, 0));
	OK(syscall(SYS_remap_file_pages, m, 4 * P, 0, 0, 0));
	char *s = mmap(0, 2 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	s[0] = '0', s[P] = '1'; OK(syscall(SYS_remap_file_pages, s, P, 0, 1, 0)); VAL(s[0]);
}

struct attr { unsigned size, policy; unsigned long flags; int nice; unsigned priority; unsigned long runtime, deadline, period; unsigned long more[8]; };

static void scheduling(void) {
	puts("-- sched_setattr");
	struct attr a = {.size = 48, .policy = 6, .runtime = 1000000, .deadline = 20000000, .period = 20000000}, b;
	pid_t child = fork();
	if (child) { int status; waitpid(child, &status, 0); printf("child %x\n", status); return; }
	OK(syscall(SYS_sched_setattr, 0, &a, 0)); VAL(syscall(SYS_sched_getscheduler, 0));
	OK(syscall(SYS_sched_getattr, 0, &b, 48, 0)); VAL(b.policy); VAL(b.runtime); VAL(b.deadline); VAL(b.period); VAL(b.flags);
	OK(fork());
	a.flags = 1; OK(syscall(SYS_sched_setattr, 0, &a, 0));
	pid_t grandchild = fork();
	if (!grandchild) { VAL(syscall(SYS_sched_getscheduler, 0)); _exit(0); }
	waitpid(grandchild, 0, 0);
	a.flags = 0; a.runtime = 30000000; OK(syscall(SYS_sched_setattr, 0, &a, 0));
	a.runtime = 100; OK(syscall(SYS_sched_setattr, 0, &a, 0));
	a.runtime = 1000000; a.period = 1000; OK(syscall(SYS_sched_setattr, 0, &a, 0));
	a.size = 40; OK(syscall(SYS_sched_setattr, 0, &a, 0)); VAL(a.size);
	struct attr z = {.size = 0, .nice = 5}; OK(syscall(SYS_sched_setattr, 0, &z, 0)); VAL(getpriority(PRIO_PROCESS, 0));
	z.size = 48; z.policy = -1; OK(syscall(SYS_sched_setattr, 0, &z, 0)); z.policy = 77; OK(syscall(SYS_sched_setattr, 0, &z, 0));
	z.policy = 0; z.flags = 1ul << 40; OK(syscall(SYS_sched_setattr, 0, &z, 0));
	z.flags = 0; OK(syscall(SYS_sched_setattr, 0, &z, 1)); OK(syscall(SYS_sched_setattr, 0, 0, 0)); OK(syscall(SYS_sched_setattr, -1, &z, 0));
	OK(syscall(SYS_sched_getattr, 0, &b, 40, 0)); OK(syscall(SYS_sched_getattr, 0, &b, 48, 1));
	z.policy = 1; z.priority = 10; OK(syscall(SYS_sched_setattr, 0, &z, 0)); OK(syscall(SYS_sched_getattr, 0, &b, 48, 0)); VAL(b.priority);
	z.priority = 0; OK(syscall(SYS_sched_setattr, 0, &z, 0));
	_exit(3);
}

static void descriptors(void) {
	puts("-- descriptors");
	struct rlimit old, limit; getrlimit(RLIMIT_NOFILE, &old); limit = old;
	limit.rlim_cur = old.rlim_max; OK(setrlimit(RLIMIT_NOFILE, &limit));
	int high = (limit.rlim_cur < 400000 ? limit.rlim_cur : 400000) - 1; IS(dup2(0, high) == high);
	int status = 0; pid_t child = fork();
	if (!child) _exit(fcntl(high, F_GETFD) != 0);
	VAL(child > 0 ? (waitpid(child, &status, 0), status) : child); close(high);
	limit.rlim_cur = 20; setrlimit(RLIMIT_NOFILE, &limit); while (dup(0) >= 0) ;
	OK(open("not made", O_CREAT | O_RDWR, 0600)); OK(access("not made", 0)); OK(truncate("kept", 5)); OK(close(19));
	OK(open("made", O_CREAT | O_RDWR, 0600)); OK(access("made", 0)); OK(unlink("made"));
}

int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	seals(); terminals(); caches(); remapped(); scheduling();
	puts("-- tracer"); tracer(0, SIGUSR1); tracer(0, SIGUSR2); tracer(1000, SIGUSR1); tracer(-5, SIGUSR1); tracer(SIGUSR2, SIGUSR2); tracer(0, 0);
	ranges(); descriptors();
	return 0;
}
