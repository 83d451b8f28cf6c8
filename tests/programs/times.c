/* clocks, sleeps, interval timers, POSIX timers. */
#include "check.h"
#include <sys/timerfd.h>
static volatile int rang; static void ring(int s) { (void)s; rang++; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct timespec t, r = {0, 0}; clockid_t bad = 99;
	for (int c = 0; c <= 7; c++) { printf("clock %d ", c); OK(clock_gettime(c, &t)); }
	OK(clock_gettime(bad, &t)); OK(clock_getres(CLOCK_MONOTONIC, &t)); printf("res %ld\n", t.tv_nsec); OK(clock_getres(bad, 0)); OK(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8));
	struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a); syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b); IS(b.tv_sec - a.tv_sec < 2 && (b.tv_sec > a.tv_sec || b.tv_nsec >= a.tv_nsec));
	struct timeval tv; OK(gettimeofday(&tv, 0)); IS(labs(tv.tv_sec - time(0)) < 2);
	t.tv_sec = 0; t.tv_nsec = 20000000; double s = now(); OK(nanosleep(&t, 0)); IS(now() - s >= 0.02 && now() - s < 2); t.tv_nsec = 1000000000; OK(nanosleep(&t, 0)); t.tv_nsec = 0; t.tv_sec = -1; OK(nanosleep(&t, 0)); OK(nanosleep((void *)8, 0));
	clock_gettime(CLOCK_MONOTONIC, &t); t.tv_nsec += 10000000; if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; } VAL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0)); VAL(clock_nanosleep(99, 0, &t, 0));
	signal(SIGALRM, ring); struct itimerval it = {{0, 5000}, {0, 5000}}, old; OK(setitimer(ITIMER_REAL, &it, 0)); while (rang < 3) pause(); memset(&it, 0, sizeof it); OK(setitimer(ITIMER_REAL, &it, &old)); IS(old.it_interval.tv_usec == 5000); OK(setitimer(99, &it, 0)); OK(getitimer(ITIMER_REAL, &old)); IS(old.it_value.tv_usec == 0);
	it.it_value.tv_usec = 20000; rang = 0; setitimer(ITIMER_REAL, &it, 0); t.tv_sec = 5; t.tv_nsec = 0; OK(nanosleep(&t, &r)); IS(rang == 1 && r.tv_sec >= 4);
	timer_t id; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM}; OK(timer_create(CLOCK_MONOTONIC, &e, &id)); struct itimerspec is = {{0, 0}, {0, 3000000}}; rang = 0; OK(timer_settime(id, 0, &is, 0)); while (!rang) usleep(1000); VAL(timer_getoverrun(id)); struct itimerspec left; OK(timer_gettime(id, &left)); IS(left.it_value.tv_nsec == 0); OK(timer_delete(id)); OK(syscall(SYS_timer_delete, 12345)); e.sigev_signo = 99; OK(timer_create(CLOCK_MONOTONIC, &e, &id));
	/* One signal waits, however often the timer expires; what is missed is its overrun. */
	sigset_t set; siginfo_t info; struct timespec no = {0, 0}; sigemptyset(&set); sigaddset(&set, SIGRTMIN); sigprocmask(SIG_BLOCK, &set, 0);
	e.sigev_signo = SIGRTMIN; e.sigev_value.sival_int = 77; OK(timer_create(CLOCK_MONOTONIC, &e, &id)); is = (struct itimerspec){{0, 1000000}, {0, 1000000}}; OK(timer_settime(id, 0, &is, 0)); usleep(40000);
	IS(sigtimedwait(&set, &info, &no) == SIGRTMIN && info.si_code == SI_TIMER && info.si_value.sival_int == 77 && info.si_overrun >= 30); IS(timer_getoverrun(id) == info.si_overrun);
	usleep(40000); is = (struct itimerspec){{0, 0}, {0, 0}}; OK(timer_settime(id, 0, &is, 0)); sigtimedwait(&set, &info, &no); VAL(sigtimedwait(&set, &info, &no)); OK(timer_delete(id));
	/* Signals that are taken late never stop a timer. */
	for (int k = 0; k < 5; k++) { struct itimerval fast = {{0, 60 + k}, {0, 60 + k}}; rang = 0; setitimer(ITIMER_REAL, &fast, 0); while (rang < 200) pause(); } memset(&it, 0, sizeof it); OK(setitimer(ITIMER_REAL, &it, 0));
	/* Hundreds of timers of a microsecond stop nothing: those that nobody reads wait. */
	int fds[300]; is = (struct itimerspec){{0, 1000}, {0, 1000}}; for (int i = 0; i < 300; i++) { fds[i] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); timerfd_settime(fds[i], 0, &is, 0); }
	usleep(20000); uint64_t ticks, all = 0; for (int i = 0; i < 300; i++) if (read(fds[i], &ticks, 8) == 8 && ticks >= 10000) all++; IS(all == 300); usleep(1000); IS(read(fds[7], &ticks, 8) == 8 && ticks >= 500); for (int i = 0; i < 300; i++) close(fds[i]);
	struct rusage ru; OK(getrusage(RUSAGE_SELF, &ru)); OK(getrusage(99, &ru)); s = now(); volatile long x = 0; do { x++; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); } while (!t.tv_sec && t.tv_nsec < 30000000); getrusage(RUSAGE_SELF, &ru); IS(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec + ru.ru_utime.tv_sec > 20000); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); IS(t.tv_sec > 0 || t.tv_nsec > 20000000);
	return 0;
}
