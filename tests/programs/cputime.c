/* Timers and sleeps on CPU time, and RLIMIT_CPU. */
#include "check.h"
static volatile int got[65], code, value;
static void count(int s) { got[s]++; }
static void info(int s, siginfo_t *i, void *u) { (void)u; got[s]++; code = i->si_code; value = i->si_value.sival_int; }
static long long cpu(clockid_t c) { struct timespec t; return clock_gettime(c, &t) ? -1 : t.tv_sec * 1000000000LL + t.tv_nsec; }
static void burn(int ms) { long long end = cpu(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000LL; while (cpu(CLOCK_PROCESS_CPUTIME_ID) < end) {} }
static void until(int s, int n) { long long end = cpu(CLOCK_PROCESS_CPUTIME_ID) + 5000000000LL; while (got[s] < n && cpu(CLOCK_PROCESS_CPUTIME_ID) < end) {} printf("signal %d at least %d times: %s\n", s, n, got[s] >= n ? "yes" : "no"); }
static volatile int stop;
static void *spin(void *c) { if (c) pthread_getcpuclockid(pthread_self(), c); while (!stop) {} return 0; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct sigaction a = {.sa_handler = count}, q = {.sa_sigaction = info, .sa_flags = SA_SIGINFO};
	sigaction(SIGVTALRM, &a, 0); sigaction(SIGPROF, &a, 0); sigaction(SIGXCPU, &a, 0); sigaction(SIGUSR1, &q, 0);
	struct itimerval v = {{0, 5000}, {0, 10000}}, o, zero = {{0, 0}, {0, 0}};
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		int s = which == ITIMER_VIRTUAL ? SIGVTALRM : SIGPROF;
		OK(setitimer(which, &v, 0)); OK(getitimer(which, &o)); IS(o.it_interval.tv_usec == 5000 && o.it_value.tv_sec == 0 && o.it_value.tv_usec > 0);
		until(s, 4); OK(setitimer(which, &zero, &o)); IS(o.it_interval.tv_usec == 5000); int n = got[s]; burn(30); IS(got[s] == n);
	}
	OK(setitimer(3, &v, 0)); OK(setitimer(ITIMER_PROF, (void *)8, 0)); OK(setitimer(-1, &v, 0)); v.it_value.tv_usec = 1000000; OK(setitimer(ITIMER_PROF, &v, 0));
	/* Time asleep does not count. */
	v.it_value.tv_usec = 20000; v.it_interval.tv_usec = 0; got[SIGPROF] = 0; setitimer(ITIMER_PROF, &v, 0); usleep(60000); VAL(got[SIGPROF]); until(SIGPROF, 1); burn(30); VAL(got[SIGPROF]);
	/* A child has none of them. */
	v.it_value.tv_usec = 10000; setitimer(ITIMER_PROF, &v, 0); pid_t p = fork(); if (!p) { OK(getitimer(ITIMER_PROF, &o)); printf("%ld %ld\n", o.it_value.tv_sec, o.it_value.tv_usec); fflush(stdout); _exit(0); } waitpid(p, 0, 0); setitimer(ITIMER_PROF, &zero, 0);
	/* POSIX timers. */
	timer_t t; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7}; struct itimerspec i = {{0, 5000000}, {0, 10000000}}, c;
	clockid_t clocks[3] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID}; VAL(clock_getcpuclockid(getpid(), &clocks[2]));
	for (int n = 0; n < 3; n++) {
		got[SIGUSR1] = 0; OK(timer_create(clocks[n], &e, &t)); OK(timer_settime(t, 0, &i, 0)); OK(timer_gettime(t, &c)); IS(c.it_interval.tv_nsec == 5000000 && c.it_value.tv_nsec > 0 && c.it_value.tv_sec == 0);
		until(SIGUSR1, 3); VAL(code); VAL(value); OK(timer_delete(t)); int s = got[SIGUSR1]; burn(20); IS(got[SIGUSR1] == s);
		struct timespec now; clock_gettime(clocks[n], &now); struct itimerspec abs = {{0, 0}, now}; got[SIGUSR1] = 0; timer_create(clocks[n], &e, &t); OK(timer_settime(t, TIMER_ABSTIME, &abs, 0)); until(SIGUSR1, 1); timer_delete(t);
	}
	/* Another process's clock. */
	int pp[2]; IS(!pipe(pp)); p = fork(); if (!p) { char x; alarm(20); if (read(pp[0], &x, 1) == 1) for (;;) {} _exit(0); }
	clockid_t other; VAL(clock_getcpuclockid(p, &other)); got[SIGUSR1] = 0; OK(timer_create(other, &e, &t)); i.it_interval.tv_nsec = 0; OK(timer_settime(t, 0, &i, 0)); usleep(30000); VAL(got[SIGUSR1]); IS(write(pp[1], "x", 1) == 1);
	for (int n = 0; n < 5000 && !got[SIGUSR1]; n++) usleep(1000); VAL(got[SIGUSR1]); timer_delete(t);
	struct timespec ms = {0, 20000000}; long long before = cpu(other); VAL(clock_nanosleep(other, 0, &ms, 0)); IS(cpu(other) - before >= 20000000); kill(p, SIGKILL); waitpid(p, 0, 0);
	VAL(clock_getcpuclockid(p, &other)); OK(timer_create(1234, &e, &t)); OK(timer_create(CLOCK_MONOTONIC_RAW, &e, &t)); OK(timer_create(CLOCK_MONOTONIC_COARSE, &e, &t));
	/* Sleeping on one's own clocks. */
	pthread_t th; clockid_t tc = 0; pthread_create(&th, 0, spin, &tc);
	before = cpu(CLOCK_PROCESS_CPUTIME_ID); VAL(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &ms, 0)); IS(cpu(CLOCK_PROCESS_CPUTIME_ID) - before >= 20000000);
	struct timespec abs; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &abs); abs.tv_sec += abs.tv_nsec > 900000000; abs.tv_nsec = (abs.tv_nsec + 20000000) % 1000000000; VAL(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &abs, 0));
	before = cpu(tc); VAL(clock_nanosleep(tc, 0, &ms, 0)); IS(cpu(tc) - before >= 20000000);
	VAL(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &ms, 0)); VAL(syscall(SYS_clock_nanosleep, -2, 0, &ms, 0)); VAL(syscall(SYS_clock_nanosleep, 77, 0, &ms, 0)); VAL(syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, (void *)8, 0)); VAL(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_COARSE, 0, &ms, 0));
	stop = 1; pthread_join(th, 0);
	/* The limit: SIGXCPU at the soft one and after each second, death at the hard one. */
	p = fork(); if (!p) { struct rlimit l = {1, 3}; got[SIGXCPU] = 0; OK(setrlimit(RLIMIT_CPU, &l)); until(SIGXCPU, 1); getrlimit(RLIMIT_CPU, &l); printf("%ld %ld\n", (long)l.rlim_cur, (long)l.rlim_max); until(SIGXCPU, 2); fflush(stdout); for (;;) {} }
	int st; waitpid(p, &st, 0); printf("ended by %d\n", WIFSIGNALED(st) ? WTERMSIG(st) : 0);
	p = fork(); if (!p) { struct rlimit l = {1, 3}; signal(SIGXCPU, SIG_DFL); struct rlimit core = {0, 0}; setrlimit(RLIMIT_CORE, &core); setrlimit(RLIMIT_CPU, &l); if (!fork()) { for (;;) {} } wait(&st); printf("inner %d\n", WIFSIGNALED(st) ? WTERMSIG(st) : 0); fflush(stdout); _exit(0); } waitpid(p, 0, 0);
	return 0;
}
