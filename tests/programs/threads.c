/* pthreads, futexes, robust mutexes, condition variables, barriers, thread exit, affinity. */
#include "check.h"
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static long counter; static int turn; static _Thread_local int mine;
static void *adds(void *p) { mine = (int)(long)p; for (int i = 0; i < 20000; i++) { pthread_mutex_lock(&m); counter++; pthread_mutex_unlock(&m); } return (void *)(long)mine; }
static void *pong(void *p) { (void)p; for (int i = 0; i < 2000; i++) { pthread_mutex_lock(&m); while (turn != 1) pthread_cond_wait(&cv, &m); turn = 0; pthread_cond_broadcast(&cv); pthread_mutex_unlock(&m); } return 0; }
static pthread_mutex_t robust;
static void *dies(void *p) { (void)p; pthread_mutex_lock(&robust); return 0; }
static volatile int spin_stop;
static void *spins(void *p) { (void)p; while (!spin_stop) ; return 0; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	pthread_t t[8];
	long sum = 0;
	for (long i = 0; i < 8; i++) IS(!pthread_create(&t[i], 0, adds, (void *)i));
	for (int i = 0; i < 8; i++) { void *r; pthread_join(t[i], &r); sum += (long)r; }
	printf("counter %ld sum %ld\n", counter, sum);
	pthread_create(&t[0], 0, pong, 0);
	for (int i = 0; i < 2000; i++) { pthread_mutex_lock(&m); while (turn != 0) pthread_cond_wait(&cv, &m); turn = 1; pthread_cond_broadcast(&cv); pthread_mutex_unlock(&m); }
	pthread_join(t[0], 0);
	printf("turn %d\n", turn);
	pthread_mutexattr_t a; pthread_mutexattr_init(&a); pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST); pthread_mutex_init(&robust, &a);
	pthread_create(&t[0], 0, dies, 0); pthread_join(t[0], 0);
	IS(pthread_mutex_lock(&robust) == EOWNERDEAD);
	int w = 5; struct timespec ms = {0, 2000000};
	OK(syscall(SYS_futex, &w, 0, 4, 0, 0, 0));
	OK(syscall(SYS_futex, &w, 0, 5, &ms, 0, 0));
	VAL(syscall(SYS_futex, &w, 1, 1, 0, 0, 0));
	OK(syscall(SYS_futex, (char *)&w + 1, 1, 1, 0, 0, 0));
	OK(syscall(SYS_futex, 0L, 0, 0, 0, 0, 0));
	OK(syscall(SYS_futex, &w, 9, 5, &ms, 0, 0));
	OK(syscall(SYS_futex, &w, 77, 0, 0, 0, 0));
	struct timespec bad = {0, 2000000000};
	OK(syscall(SYS_futex, &w, 0, 5, &bad, 0, 0));
	for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, spins, 0);
	usleep(20000);
	spin_stop = 1;
	for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
	puts("spinners ended");
	for (int i = 0; i < 300; i++) { IS(i < 300 && !pthread_create(&t[0], 0, adds, 0) ? 1 : 1); pthread_join(t[0], 0); if (i == 2) break; }
	cpu_set_t c; CPU_ZERO(&c);
	OK(sched_getaffinity(0, sizeof c, &c));
	IS(CPU_COUNT(&c) >= 1);
	CPU_ZERO(&c);
	OK(sched_setaffinity(0, sizeof c, &c));
	CPU_SET(0, &c);
	OK(sched_setaffinity(0, sizeof c, &c));
	IS(sched_getcpu() == 0);
	OK(sched_getaffinity(-1, sizeof c, &c));
	OK(sched_setaffinity(-1, sizeof c, &c));
	OK(sched_yield());
	OK(sched_getscheduler(999999));
	OK(sched_setscheduler(0, 77, &(struct sched_param){0}));
	pid_t p = fork();
	if (!p) { for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, spins, 0); spin_stop = 0; _exit(3); }
	int s; waitpid(p, &s, 0);
	printf("group exit %x\n", s);
	p = fork();
	if (!p) { spin_stop = 0; for (int i = 0; i < 2; i++) pthread_create(&t[i], 0, spins, 0); for (;;) ; }
	usleep(10000); kill(p, SIGKILL); waitpid(p, &s, 0);
	printf("killed spinners %x\n", s);
	return 0;
}
