/* File leases: who may have one, what breaks it, how the holder is told, and what the other waits for. Runs as root and drops. */
#include "check.h"
#include <grp.h>
static volatile int got[65], fd_of;
static void info(int s, siginfo_t *i, void *u) { (void)u; got[s]++; fd_of = i->si_fd; }
static void wait_for(int s, int n) { for (int i = 0; i < 2000 && got[s] < n; i++) usleep(1000); printf("signal %d: %d\n", s, got[s]); }
static int child(int flags, int op) { pid_t p = fork(); if (!p) { alarm(20); for (int i = 3; i < 30; i++) close(i); int f = op ? truncate("file", 3) : open("file", flags); _exit(f < 0 ? errno : 100); } return p; }
static int end(int p) { int st; waitpid(p, &st, 0); return WEXITSTATUS(st); }
static void ended(int p) { int e = end(p); printf("other: %s\n", e == 100 ? "ok" : strerrorname_np(e)); }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	struct sigaction a = {.sa_sigaction = info, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGIO, &a, 0); sigaction(SIGRTMIN, &a, 0);
	int w = open("file", O_CREAT | O_RDWR, 0666); if (write(w, "contents", 8) != 8) return 1; chmod("file", 0666);
	VAL(fcntl(w, F_GETLEASE)); OK(fcntl(w, F_SETLEASE, F_RDLCK)); OK(fcntl(w, F_SETLEASE, F_WRLCK)); VAL(fcntl(w, F_GETLEASE)); OK(fcntl(w, F_SETLEASE, F_UNLCK)); OK(fcntl(w, F_SETLEASE, F_UNLCK)); OK(fcntl(w, F_SETLEASE, 99));
	int r = open("file", O_RDONLY); OK(fcntl(w, F_SETLEASE, F_WRLCK)); OK(fcntl(r, F_SETLEASE, F_RDLCK)); close(w); OK(fcntl(r, F_SETLEASE, F_RDLCK)); VAL(fcntl(r, F_GETLEASE)); IS(fcntl(r, F_GETOWN) == getpid());
	/* Readers are let in, writers wait. */
	int p = child(O_RDONLY, 0); ended(p); VAL(got[SIGIO]);
	p = child(O_WRONLY | O_NONBLOCK, 0); ended(p); wait_for(SIGIO, 1); VAL(fcntl(r, F_GETLEASE)); OK(fcntl(r, F_SETLEASE, F_UNLCK)); VAL(fcntl(r, F_GETLEASE)); got[SIGIO] = 0;
	OK(fcntl(r, F_SETLEASE, F_RDLCK)); p = child(O_WRONLY, 0); wait_for(SIGIO, 1); usleep(20000); VAL(waitpid(p, 0, WNOHANG)); OK(fcntl(r, F_SETLEASE, F_UNLCK)); ended(p); got[SIGIO] = 0;
	OK(fcntl(r, F_SETLEASE, F_RDLCK)); p = child(0, 1); wait_for(SIGIO, 1); OK(fcntl(r, F_SETLEASE, F_UNLCK)); ended(p); got[SIGIO] = 0; struct stat s; stat("file", &s); VAL(s.st_size);
	/* The end of the description gives the lease up. */
	OK(fcntl(r, F_SETLEASE, F_RDLCK)); p = child(O_RDWR, 0); wait_for(SIGIO, 1); close(r); ended(p); got[SIGIO] = 0;
	/* An exclusive lease goes down for a reader, and away for a writer. */
	w = open("file", O_RDWR); OK(fcntl(w, F_SETSIG, SIGRTMIN)); OK(fcntl(w, F_SETLEASE, F_WRLCK)); p = child(O_RDONLY, 0); wait_for(SIGRTMIN, 1); IS(fd_of == w); VAL(fcntl(w, F_GETLEASE)); close(w); ended(p);
	r = open("file", O_RDONLY); OK(fcntl(r, F_SETLEASE, F_WRLCK)); p = child(O_RDONLY, 0); wait_for(SIGIO, 1); VAL(fcntl(r, F_GETLEASE)); OK(fcntl(r, F_SETLEASE, F_RDLCK)); ended(p); VAL(fcntl(r, F_GETLEASE)); got[SIGIO] = 0;
	p = child(O_WRONLY, 0); wait_for(SIGIO, 1); close(r); ended(p);
	/* Only the owner's files, and only regular ones. */
	int d = open(".", O_RDONLY); OK(fcntl(d, F_SETLEASE, F_RDLCK)); int q[2]; IS(!pipe(q)); OK(fcntl(q[0], F_SETLEASE, F_RDLCK));
	p = fork(); if (!p) { OK(setresuid(1000, 1000, 1000)); r = open("file", O_RDONLY); OK(fcntl(r, F_SETLEASE, F_RDLCK)); fflush(stdout); _exit(0); } waitpid(p, 0, 0);
	return 0;
}
