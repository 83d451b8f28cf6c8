/* pipes, poll, select, epoll, eventfd, timerfd, splice. */
#include "check.h"
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	int p[2]; char b[100] = ""; static char big[100000];
	signal(SIGPIPE, SIG_IGN);
	OK(pipe(p)); OK(pipe((int *)8)); OK(pipe2(p, 0x12345)); OK(pipe2(p, O_NONBLOCK | O_CLOEXEC));
	OK(read(p[0], b, 1)); VAL(write(p[1], "hello", 5)); VAL(read(p[0], b, 100)); OK(lseek(p[0], 0, SEEK_SET)); OK(write(p[0], b, 1)); OK(read(p[1], b, 1));
	long total = 0, n; while ((n = write(p[1], big, sizeof big)) > 0) total += n; VAL(total); OK(write(p[1], b, 1)); VAL(fcntl(p[0], F_GETPIPE_SZ)); while ((n = read(p[0], big, sizeof big)) > 0) total -= n; VAL(total);
	struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {99, POLLIN, 0}}; VAL(poll(f, 3, 0)); printf("poll %x %x %x\n", f[0].revents, f[1].revents, f[2].revents);
	VAL(poll(f, 1, 10)); VAL(write(p[1], "x", 1)); VAL(poll(f, 1, -1)); printf("in %x\n", f[0].revents); VAL(read(p[0], b, 1));
	fd_set r; FD_ZERO(&r); FD_SET(p[0], &r); struct timeval tv = {0, 1000}; VAL(select(p[0] + 1, &r, 0, 0, &tv)); close(50); FD_SET(50, &r); OK(select(51, &r, 0, 0, &tv)); OK(select(-1, 0, 0, 0, 0));
	close(p[1]); VAL(read(p[0], b, 1)); VAL(poll(f, 1, 0)); printf("hup %x\n", f[0].revents);
	int q[2]; IS(!pipe(q)); close(q[0]); OK(write(q[1], b, 1)); f[0].fd = q[1]; f[0].events = POLLOUT; VAL(poll(f, 1, 0)); printf("err %x\n", f[0].revents);
	int e = eventfd(3, EFD_NONBLOCK); uint64_t v = 0; VAL(read(e, &v, 8)); VAL(v); OK(read(e, &v, 8)); v = 5; VAL(write(e, &v, 8)); v = ~0ull; OK(write(e, &v, 8)); OK(read(e, &v, 4)); int se = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK); VAL(read(se, &v, 8)); VAL(v); VAL(read(se, &v, 8)); OK(read(se, &v, 8));
	int ep = epoll_create1(0); IS(ep >= 0); OK(epoll_create1(77)); OK(epoll_create(0)); struct epoll_event ev = {EPOLLIN, {.u32 = 7}}, out[4];
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev)); OK(epoll_ctl(ep, EPOLL_CTL_ADD, e, &ev)); OK(epoll_ctl(ep, EPOLL_CTL_MOD, 1000, &ev)); OK(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev)); OK(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], 0)); int fl = open("f", O_CREAT | O_RDWR, 0600); OK(epoll_ctl(ep, EPOLL_CTL_ADD, fl, &ev)); OK(epoll_wait(ep, out, 0, 0)); OK(epoll_wait(ep, out, 178956971, 0));
	/* More events at once than a page holds. */
	struct rlimit many = {20000, 20000}; OK(setrlimit(RLIMIT_NOFILE, &many)); int crowd = epoll_create1(0), added = 0; static struct epoll_event all[6000]; for (int i = 0; i < 6000; i++) { int one = dup(e); struct epoll_event w = {EPOLLOUT, {.u32 = i}}; added += !epoll_ctl(crowd, EPOLL_CTL_ADD, one, &w); } VAL(added); VAL(epoll_wait(crowd, all, 6000, 0)); VAL(epoll_wait(crowd, all, 5000, 0)); for (int i = 0; i < 7000; i++) if (i != ep && i != e && i != fl && i > fl) close(i);
	VAL(epoll_wait(ep, out, 4, 0)); printf("event %x %u\n", out[0].events, out[0].data.u32); VAL(epoll_wait(ep, out, 4, 0)); ev.events = EPOLLIN | EPOLLET; OK(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev)); VAL(epoll_wait(ep, out, 4, 0)); VAL(epoll_wait(ep, out, 4, 0)); v = 1; VAL(write(e, &v, 8)); VAL(epoll_wait(ep, out, 4, 0)); ev.events = EPOLLIN | EPOLLONESHOT; OK(epoll_ctl(ep, EPOLL_CTL_MOD, e, &ev)); VAL(epoll_wait(ep, out, 4, 0)); VAL(epoll_wait(ep, out, 4, 5)); OK(epoll_ctl(ep, EPOLL_CTL_DEL, e, 0)); VAL(epoll_wait(ep, out, 4, 5));
	int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); OK(read(t, &v, 8)); struct itimerspec it = {{0, 0}, {0, 5000000}}, old; OK(timerfd_settime(t, 0, &it, 0)); f[0].fd = t; f[0].events = POLLIN; VAL(poll(f, 1, 1000)); VAL(read(t, &v, 8)); VAL(v); OK(timerfd_gettime(t, &old)); IS(old.it_value.tv_nsec == 0); OK(timerfd_create(99, 0)); it.it_value.tv_nsec = -1; OK(timerfd_settime(t, 0, &it, 0));
	int a[2], c[2]; IS(!pipe(a) && !pipe(c)); VAL(write(a[1], "splice", 6)); VAL(tee(a[0], c[1], 100, 0)); VAL(splice(a[0], 0, c[1], 0, 3, 0)); VAL(read(c[0], b, 100)); IS(!strncmp(b, "splicespl", 9)); OK(splice(fl, 0, fl, 0, 10, 0)); VAL(write(fl, "filedata", 8)); loff_t off = 4; VAL(splice(fl, &off, c[1], 0, 100, 0)); VAL(read(c[0], b, 100)); struct iovec iv = {"vm", 2}; VAL(vmsplice(c[1], &iv, 1, 0)); VAL(read(c[0], b, 100));
	pid_t k = fork(); if (!k) { usleep(10000); _exit(write(c[1], "late", 4) != 4); } VAL(read(c[0], b, 100)); waitpid(k, 0, 0);
	int s = open("s", O_CREAT | O_RDWR, 0600); off_t o = 0; syscall(SYS_sendfile, s, fl, &o, 8); VAL(o); VAL(pread(s, b, 100, 0)); OK(syscall(SYS_copy_file_range, fl, 0, fl, 0, 1, 1));
	return 0;
}
