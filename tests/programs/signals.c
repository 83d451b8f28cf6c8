/* sigaction, masks, alternate stacks, sigsuspend, sigtimedwait, restart, signalfd, real-time queues. */
#include "check.h"
#include <sys/signalfd.h>
static volatile int got[65], order[8], orders, on_stack;
static char stack[65536];
static void handler(int s) { got[s]++; if (orders < 8) order[orders++] = s; }
static void info(int s, siginfo_t *i, void *u) { (void)u; got[s]++; printf("info %d code %d value %d\n", s, i->si_code, i->si_value.sival_int); }
static void stacked(int s) { char here; on_stack = &here >= stack && &here < stack + sizeof stack; got[s]++; }
static void jump(int s, siginfo_t *i, void *u) { (void)s; ucontext_t *c = u; printf("fault code %d\n", i->si_code); c->uc_mcontext.gregs[REG_RIP] += 2; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct sigaction a = {.sa_handler = handler}, o;
	OK(sigaction(SIGUSR1, &a, 0));
	OK(sigaction(SIGKILL, &a, 0));
	OK(sigaction(0, &a, 0));
	OK(sigaction(65, &a, 0));
	OK(sigaction(SIGUSR1, 0, &o));
	IS(o.sa_handler == handler);
	raise(SIGUSR1);
	VAL(got[SIGUSR1]);
	sigset_t s, old, pend;
	sigemptyset(&s); sigaddset(&s, SIGUSR1); sigaddset(&s, SIGUSR2); sigaddset(&s, SIGRTMIN);
	OK(sigprocmask(SIG_BLOCK, &s, &old));
	sigaction(SIGUSR2, &a, 0);
	raise(SIGUSR2); raise(SIGUSR1); raise(SIGUSR1);
	OK(sigpending(&pend));
	IS(sigismember(&pend, SIGUSR1) && sigismember(&pend, SIGUSR2));
	orders = 0;
	OK(sigprocmask(SIG_SETMASK, &old, 0));
	printf("delivered %d %d, last first %d %d\n", got[SIGUSR1], got[SIGUSR2], order[0], order[1]);
	OK(sigprocmask(77, &s, 0));
	struct sigaction q = {.sa_sigaction = info, .sa_flags = SA_SIGINFO};
	sigaction(SIGRTMIN, &q, 0);
	sigprocmask(SIG_BLOCK, &s, 0);
	for (int i = 1; i <= 3; i++) { union sigval v = {.sival_int = i}; OK(sigqueue(getpid(), SIGRTMIN, v)); }
	sigprocmask(SIG_SETMASK, &old, 0);
	VAL(got[SIGRTMIN]);
	stack_t st = {.ss_sp = stack, .ss_size = sizeof stack}, ost;
	OK(sigaltstack(&st, 0));
	struct sigaction k = {.sa_handler = stacked, .sa_flags = SA_ONSTACK};
	sigaction(SIGHUP, &k, 0);
	raise(SIGHUP);
	VAL(on_stack);
	OK(sigaltstack(0, &ost));
	IS(ost.ss_sp == stack && ost.ss_flags == 0);
	st.ss_size = 100;
	OK(sigaltstack(&st, 0));
	struct sigaction f = {.sa_sigaction = jump, .sa_flags = SA_SIGINFO};
	sigaction(SIGILL, &f, 0);
	__asm__ volatile("ud2");
	sigprocmask(SIG_BLOCK, &s, 0);
	raise(SIGUSR2);
	struct timespec z = {0, 0}, ms = {0, 1000000};
	siginfo_t si;
	IS(sigtimedwait(&s, &si, &z) == SIGUSR2);
	OK(sigtimedwait(&s, &si, &ms));
	pid_t me = getpid(), c = fork();
	if (!c) { usleep(30000); kill(me, SIGUSR1); _exit(0); }
	int before = got[SIGUSR1];
	OK(sigsuspend(&old));
	IS(got[SIGUSR1] == before + 1);
	waitpid(c, 0, 0);
	int fd = signalfd(-1, &s, SFD_NONBLOCK);
	struct signalfd_siginfo sf;
	OK(read(fd, &sf, sizeof sf));
	raise(SIGUSR2);
	IS(read(fd, &sf, sizeof sf) == sizeof sf && sf.ssi_signo == SIGUSR2);
	sigprocmask(SIG_SETMASK, &old, 0);
	int p[2];
	IS(!pipe(p));
	for (int restart = 0; restart < 2; restart++) {
		struct sigaction r = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
		sigaction(SIGALRM, &r, 0);
		c = fork();
		if (!c) { usleep(20000); kill(me, SIGALRM); usleep(40000); if (write(p[1], "x", 1) != 1) _exit(1); _exit(0); }
		char b; errno = 0;
		int n = read(p[0], &b, 1);
		printf("restart %d: %d %s\n", restart, n, n < 0 ? strerrorname_np(errno) : "-");
		waitpid(c, 0, 0);
		if (n < 0) IS(read(p[0], &b, 1) == 1);
	}
	signal(SIGCHLD, SIG_IGN);
	if (!(c = fork())) _exit(0);
	OK(waitpid(c, 0, 0));
	signal(SIGCHLD, SIG_DFL);
	struct sigaction d = {.sa_handler = handler, .sa_flags = SA_RESETHAND};
	sigaction(SIGUSR2, &d, 0);
	raise(SIGUSR2);
	sigaction(SIGUSR2, 0, &o);
	IS(o.sa_handler == SIG_DFL);
	OK(kill(-999999, 0));
	OK(syscall(SYS_tgkill, getpid(), getpid(), 0));
	OK(syscall(SYS_tgkill, getpid(), 999999, 0));
	OK(syscall(SYS_tgkill, -1, 1, 0));
	alarm(100);
	VAL(alarm(0));
	fflush(stdout);
	struct rlimit l = {0, 0}; setrlimit(RLIMIT_CORE, &l);
	signal(SIGTERM, SIG_DFL);
	if (getpid() == 1) { exit(128 + SIGTERM); }
	kill(getpid(), SIGTERM);
	return 0;
}
