/* SIGIO by O_ASYNC for pipes, sockets and terminals, owners and signals of F_SETOWN, F_SETOWN_EX and F_SETSIG; SIGURG. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
static volatile int got[65], code, fd_of; static volatile long band;
static void info(int s, siginfo_t *i, void *u) { (void)u; got[s]++; code = i->si_code; fd_of = i->si_fd; band = i->si_band; }
static void wait_for(int s, int n) { for (int i = 0; i < 2000 && got[s] < n; i++) usleep(1000); printf("signal %d: %d\n", s, got[s]); }
static char buf[1 << 16];
static void async(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC); }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct sigaction a = {.sa_sigaction = info, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGIO, &a, 0); sigaction(SIGURG, &a, 0); sigaction(SIGRTMIN, &a, 0);
	int p[2], s[2]; IS(!pipe2(p, O_NONBLOCK));
	VAL(fcntl(p[0], F_GETOWN)); VAL(fcntl(p[0], F_GETSIG)); OK(fcntl(p[0], F_SETOWN, 999999)); OK(fcntl(p[0], F_SETOWN, -999999)); OK(fcntl(p[0], F_SETSIG, 65)); OK(fcntl(p[0], F_SETSIG, -1));
	async(p[0]); IS(fcntl(p[0], F_GETFL) & O_ASYNC); IS(write(p[1], "x", 1) == 1); usleep(10000); VAL(got[SIGIO]);
	IS(read(p[0], buf, 9) == 1);
	OK(fcntl(p[0], F_SETOWN, getpid())); IS(fcntl(p[0], F_GETOWN) == getpid()); IS(write(p[1], "x", 1) == 1); wait_for(SIGIO, 1); printf("code %s\n", code == SI_KERNEL ? "kernel" : "other");
	IS(read(p[0], buf, 9) == 1);
	OK(fcntl(p[0], F_SETSIG, SIGRTMIN)); VAL(fcntl(p[0], F_GETSIG)); IS(write(p[1], "x", 1) == 1); wait_for(SIGRTMIN, 1); printf("%d %lx %s\n", code, band, fd_of == p[0] ? "descriptor" : "other"); IS(read(p[0], buf, 9) == 1);
	OK(fcntl(p[0], F_SETSIG, 0)); got[SIGIO] = 0; fcntl(p[0], F_SETFL, O_NONBLOCK); IS(write(p[1], "x", 1) == 1); usleep(10000); VAL(got[SIGIO]); IS(read(p[0], buf, 9) == 1);
	/* Room in a full pipe. */
	fcntl(p[1], F_SETOWN, getpid()); async(p[1]); while (write(p[1], buf, 4096) > 0) {} usleep(5000); got[SIGIO] = 0; IS(read(p[0], buf, 65536) > 0); wait_for(SIGIO, 1);
	close(p[1]); async(p[0]);
	/* Groups and threads. */
	IS(!pipe(p)); struct f_owner_ex ex = {F_OWNER_TID, gettid()}, o; OK(fcntl(p[0], F_SETOWN_EX, &ex)); OK(fcntl(p[0], F_GETOWN_EX, &o)); IS(o.type == F_OWNER_TID && o.pid == gettid()); async(p[0]); got[SIGIO] = 0; IS(write(p[1], "x", 1) == 1); wait_for(SIGIO, 1);
	ex.type = 99; OK(fcntl(p[0], F_SETOWN_EX, &ex)); ex = (struct f_owner_ex){F_OWNER_TID, 999999}; OK(fcntl(p[0], F_SETOWN_EX, &ex)); OK(fcntl(p[0], F_SETOWN_EX, (void *)8));
	pid_t c = fork(); if (!c) { setpgid(0, 0); got[SIGIO] = 0; fcntl(p[0], F_SETOWN, -getpid()); VAL(fcntl(p[0], F_GETOWN) == -getpid()); if (!fork()) { char x[9]; IS(read(p[0], x, 9) == 1); IS(write(p[1], "y", 1) == 1); wait_for(SIGIO, 1); fflush(stdout); _exit(0); } wait(0); wait_for(SIGIO, 1); fflush(stdout); _exit(0); } waitpid(c, 0, 0);
	/* Not to a process that the setter may not signal. */
	c = fork(); if (!c) { IS(!setresuid(1000, 1000, 1000)); fcntl(p[0], F_SETOWN, getppid()); got[SIGIO] = 0; fflush(stdout); _exit(write(p[1], "z", 1) != 1); } got[SIGIO] = 0; waitpid(c, 0, 0); usleep(10000); VAL(got[SIGIO]);
	/* Sockets. */
	IS(!socketpair(AF_UNIX, SOCK_STREAM, 0, s)); fcntl(s[0], F_SETOWN, getpid()); int on = 1; OK(ioctl(s[0], FIOASYNC, &on)); IS(fcntl(s[0], F_GETFL) & O_ASYNC); got[SIGIO] = 0; IS(write(s[1], "x", 1) == 1); wait_for(SIGIO, 1); int own = 0; OK(ioctl(s[0], 0x8903, &own)); IS(own == getpid()); got[SIGIO] = 0; close(s[1]); wait_for(SIGIO, 1);
	int ls = socket(AF_INET, SOCK_STREAM, 0), cs = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t l = sizeof in; bind(ls, (void *)&in, l); listen(ls, 5); getsockname(ls, (void *)&in, &l);
	fcntl(ls, F_SETOWN, getpid()); async(ls); got[SIGIO] = 0; IS(!connect(cs, (void *)&in, l)); wait_for(SIGIO, 1); int as = accept(ls, 0, 0); IS(as >= 0);
	IS(send(cs, "u", 1, MSG_OOB) == 1); usleep(10000); VAL(got[SIGURG]); fcntl(as, F_SETOWN, getpid()); IS(send(cs, "v", 1, MSG_OOB) == 1); wait_for(SIGURG, 1);
	/* Those that have no such signals. */
	int f = open("file", O_CREAT | O_RDWR, 0600); OK(fcntl(f, F_SETFL, O_ASYNC)); VAL(fcntl(f, F_GETFL) & O_ASYNC); OK(ioctl(f, FIOASYNC, &on)); int e = eventfd(0, 0); OK(fcntl(e, F_SETFL, O_ASYNC)); VAL(fcntl(e, F_GETFL) & O_ASYNC);
	/* A terminal. */
	int m = posix_openpt(O_RDWR | O_NOCTTY); grantpt(m); unlockpt(m); int t = open(ptsname(m), O_RDWR | O_NOCTTY); IS(t >= 0); fcntl(t, F_SETOWN, getpid()); async(t); got[SIGIO] = 0; IS(write(m, "hi\n", 3) == 3); for (int i = 0; i < 2000 && !got[SIGIO]; i++) usleep(1000); IS(got[SIGIO] > 0);
	return 0;
}
