/* POSIX message queues: priorities, waiting, time-outs, polling, notification by signal and thread, limits, the file system. */
#include "check.h"
#include <grp.h>
#include <mqueue.h>
#include <sys/mount.h>
static char name[64], other[64];
static void show(mqd_t q) { struct mq_attr a; if (mq_getattr(q, &a)) printf("attr %s\n", strerrorname_np(errno)); else printf("flags %lo max %ld size %ld now %ld\n", a.mq_flags, a.mq_maxmsg, a.mq_msgsize, a.mq_curmsgs); }
static void take(mqd_t q) { char b[9000]; unsigned p = 99; errno = 0; int n = mq_receive(q, b, sizeof b, &p); if (n < 0) printf("got %s\n", strerrorname_np(errno)); else printf("got %d %.*s priority %u\n", n, n, b, p); }
static volatile int signals, code, value, sender, ran;
static void info(int s, siginfo_t *i, void *u) { (void)s; (void)u; signals++; code = i->si_code; value = i->si_value.sival_int; sender = i->si_pid; }
static void nothing(int s) { (void)s; }
static void thread(union sigval v) { ran = v.sival_int; }
static struct timespec in_ms(int ms) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_nsec += ms * 1000000L; t.tv_sec += t.tv_nsec / 1000000000; t.tv_nsec %= 1000000000; return t; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	snprintf(name, sizeof name, "/test.%d", getpid()); snprintf(other, sizeof other, "/other.%d", getpid());
	int st; pid_t p; char b[64], line[200];
	OK(mq_open(name, O_RDWR)); OK(mq_open("noslash", O_RDWR)); OK(mq_open("/", O_RDWR)); OK(mq_open("/a/b", O_CREAT | O_RDWR, 0600, 0)); OK(mq_unlink(name));
	memset(line, 'x', sizeof line); OK(syscall(SYS_mq_open, ".", O_RDWR, 0, 0)); OK(syscall(SYS_mq_open, (void *)8, O_RDWR, 0, 0));
	char longname[300]; memset(longname, 'x', sizeof longname); longname[0] = '/'; longname[299] = 0; OK(mq_open(longname, O_RDWR | O_CREAT, 0600, 0));
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32}, bad = {.mq_maxmsg = 0, .mq_msgsize = 32}, neg = {.mq_maxmsg = 4, .mq_msgsize = -1};
	OK(mq_open(name, O_CREAT | O_RDWR, 0600, &bad)); OK(mq_open(name, O_CREAT | O_RDWR, 0600, &neg));
	umask(022);
	mqd_t q = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0622, &a); IS(q >= 0); OK(mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &a)); OK(mq_open(name, O_CREAT | O_RDWR, 0600, &bad)); OK(mq_open(name, 3));
	VAL(fcntl(q, F_GETFD)); struct stat s; OK(fstat(q, &s)); printf("mode %o size %ld\n", s.st_mode, (long)s.st_size); show(q);
	OK(mq_send(q, "low", 3, 1)); OK(mq_send(q, "high", 4, 9)); OK(mq_send(q, "mid", 3, 5)); OK(mq_send(q, "mid2", 4, 5)); show(q);
	OK(mq_send(q, b, 33, 0)); OK(mq_send(q, b, 1, 32768)); OK(mq_receive(q, b, 31, 0)); OK(mq_send(-1, b, 1, 0)); OK(mq_send(0, b, 1, 0)); OK(mq_receive(1, b, 64, 0));
	struct pollfd f = {.fd = q, .events = POLLIN | POLLOUT}; VAL(poll(&f, 1, 0)); printf("%x\n", f.revents);
	struct timespec t = in_ms(20), past = {1, 0}, wrong = {0, 1000000000};
	OK(mq_timedsend(q, b, 1, 0, &t)); OK(mq_timedsend(q, b, 1, 0, &past)); OK(mq_timedsend(q, b, 1, 0, &wrong));
	take(q); take(q); take(q); take(q); VAL(poll(&f, 1, 0)); printf("%x\n", f.revents); t = in_ms(20);
	OK(mq_timedreceive(q, b, sizeof b, 0, &t)); OK(mq_timedreceive(q, b, sizeof b, 0, &past)); OK(mq_send(q, "", 0, 32767)); take(q);
	a.mq_flags = O_NONBLOCK; OK(mq_setattr(q, &a, 0)); show(q); take(q); for (int i = 0; i < 5; i++) OK(mq_send(q, "x", 1, 0)); for (int i = 0; i < 5; i++) take(q);
	a.mq_flags = O_APPEND; OK(mq_setattr(q, &a, 0)); a.mq_flags = 0; OK(mq_setattr(q, &a, &bad)); printf("%lo\n", bad.mq_flags); IS(fcntl(q, F_GETFL) == O_RDWR || fcntl(q, F_GETFL) == (O_RDWR | 0100000));
	mqd_t r = mq_open(name, O_RDONLY), w = mq_open(name, O_WRONLY); OK(mq_send(r, "x", 1, 0)); OK(mq_receive(w, b, sizeof b, 0));
	/* Waiting for each other. */
	p = fork(); if (!p) { alarm(20); take(q); fflush(stdout); _exit(0); } usleep(30000); OK(mq_send(w, "wake", 4, 3)); waitpid(p, &st, 0);
	for (int i = 0; i < 4; i++) mq_send(q, "full", 4, 0);
	p = fork(); if (!p) { alarm(20); OK(mq_send(w, "late", 4, 7)); fflush(stdout); _exit(0); } usleep(30000); take(r); waitpid(p, &st, 0); for (int i = 0; i < 4; i++) take(r);
	p = fork(); if (!p) { struct sigaction x = {.sa_handler = nothing}; sigaction(SIGUSR1, &x, 0); alarm(20); take(q); fflush(stdout); _exit(0); } usleep(50000); kill(p, SIGUSR1); waitpid(p, &st, 0);
	p = fork(); if (!p) { struct sigaction x = {.sa_handler = nothing, .sa_flags = SA_RESTART}; sigaction(SIGUSR1, &x, 0); alarm(20); take(q); fflush(stdout); _exit(0); } usleep(50000); kill(p, SIGUSR1); usleep(20000); mq_send(q, "again", 5, 0); waitpid(p, &st, 0);
	/* Notification. */
	struct sigaction x = {.sa_sigaction = info, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR2, &x, 0);
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 77};
	OK(mq_notify(q, &e)); OK(mq_notify(q, &e)); OK(mq_notify(r, &e)); VAL(read(q, line, 7)); 
	lseek(q, 0, SEEK_SET); int n = read(q, line, sizeof line - 1); line[n > 0 ? n : 0] = 0; *strstr(line, "NOTIFY_PID:") = 0; printf("%s\n", line);
	p = fork(); if (!p) { mq_send(q, "n", 1, 0); _exit(0); } waitpid(p, &st, 0); usleep(1000); printf("%d %d %d %s\n", signals, code, value, sender == p ? "sender" : "other");
	mq_send(q, "n", 1, 0); VAL(signals); OK(mq_notify(q, &e)); mq_send(q, "n", 1, 0); VAL(signals); take(q); take(q); take(q); mq_send(q, "n", 1, 0); VAL(signals); take(q);
	OK(mq_notify(q, &e)); OK(mq_notify(q, 0)); OK(mq_notify(q, 0)); mq_send(q, "n", 1, 0); VAL(signals); take(q);
	OK(mq_notify(q, &e)); p = fork(); if (!p) { OK(mq_notify(q, &e)); OK(mq_notify(q, 0)); fflush(stdout); _exit(0); } waitpid(p, 0, 0); close(dup(r)); OK(mq_notify(q, &e));
	p = fork(); if (!p) { OK(mq_notify(q, &e)); fflush(stdout); pause(); _exit(0); } usleep(50000); OK(mq_notify(q, &e)); kill(p, SIGKILL); waitpid(p, 0, 0); OK(mq_notify(q, &e));
	/* With a receiver waiting nobody is told. */
	p = fork(); if (!p) { alarm(20); take(q); fflush(stdout); _exit(0); } usleep(50000); mq_send(q, "r", 1, 0); waitpid(p, 0, 0); VAL(signals); OK(mq_notify(q, 0));
	e.sigev_signo = 65; OK(mq_notify(q, &e)); e.sigev_notify = 99; OK(mq_notify(q, &e)); e.sigev_notify = SIGEV_NONE; OK(mq_notify(q, &e)); OK(mq_notify(q, 0)); OK(mq_notify(0, 0));
	struct sigevent th = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = thread, .sigev_value.sival_int = 88}; OK(mq_notify(q, &th)); lseek(q, 0, SEEK_SET); n = read(q, line, sizeof line - 1); line[n > 0 ? n : 0] = 0; *strstr(line, "NOTIFY_PID:") = 0; printf("%s\n", line); mq_send(q, "t", 1, 0); for (int i = 0; i < 2000 && !ran; i++) usleep(1000); VAL(ran); take(q);
	OK(mq_notify(q, &th)); OK(mq_notify(q, 0));
	/* Limits and permissions. */
	struct rlimit l = {100000, 100000}; p = fork();
	if (!p) { OK(setrlimit(RLIMIT_MSGQUEUE, &l)); a = (struct mq_attr){.mq_maxmsg = 10, .mq_msgsize = 8192}; mqd_t z = mq_open(other, O_CREAT | O_RDWR, 0600, &a); IS(z >= 0); OK(mq_open("/third", O_CREAT | O_RDWR, 0600, 0)); OK(mq_unlink(other)); OK(mq_open("/third", O_CREAT | O_RDWR, 0600, 0)); OK(mq_close(z)); OK(mq_open(other, O_CREAT | O_RDWR, 0600, 0)); OK(mq_unlink(other)); fflush(stdout); _exit(0); }
	waitpid(p, 0, 0);
	p = fork();
	if (!p) { OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000)); OK(mq_open(name, O_RDONLY)); OK(mq_open(name, O_WRONLY)); OK(mq_unlink(name)); a = (struct mq_attr){.mq_maxmsg = 11, .mq_msgsize = 1}; OK(mq_open(other, O_CREAT | O_RDWR, 0600, &a)); a = (struct mq_attr){.mq_maxmsg = 1, .mq_msgsize = 8193}; OK(mq_open(other, O_CREAT | O_RDWR, 0600, &a)); OK(mq_open(other, O_CREAT | O_RDWR, 0600, 0)); OK(mq_unlink(other)); fflush(stdout); _exit(0); }
	waitpid(p, 0, 0);
	/* As files. */
	mkdir("mq", 0755); OK(mount("mqueue", "mq", "mqueue", 0, 0)); snprintf(line, sizeof line, "mq%s", name); OK(stat(line, &s)); printf("mode %o size %ld\n", s.st_mode, (long)s.st_size); OK(chmod(line, 0600)); OK(fstat(q, &s)); printf("mode %o\n", s.st_mode);
	snprintf(line, sizeof line, "mq%s", other); int fd = open(line, O_CREAT | O_RDWR, 0640); IS(fd >= 0); q = mq_open(other, O_RDWR); show(q); OK(mq_send(q, "file", 4, 0)); show(fd); OK(unlink(line)); OK(mq_open(other, O_RDWR)); take(fd); OK(write(fd, "x", 1)); OK(mkdir("mq/dir", 0700)); OK(mq_unlink(name)); OK(stat("mq", &s)); printf("%o\n", s.st_mode); OK(umount("mq")); OK(umount2("mq", MNT_DETACH));
	VAL(epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}));
	return 0;
}
