/* Threads and processes that connect, talk, pass descriptors and close at random; every byte that is received is checked. Prints
   "done" where nothing was lost, nothing hung and nothing came that was not sent. */
#include "net.h"
#define A (struct sockaddr *)
static struct sockaddr_in where; static struct sockaddr_un local; static volatile int stop; static int listeners[2];
static unsigned long served, talked, passed; static __thread unsigned long seed;
static unsigned rnd(unsigned n) { seed = seed * 6364136223846793005ul + 1442695040888963407ul; return (seed >> 33) % n; }
static void die(const char *what) { printf("%s: %s\n", what, strerrorname_np(errno)); _exit(1); }
static void *serve(void *p) {
	/* Echoes until the other side ends; from a socket of its own for each client. */
	int s = *(int *)p; char b[20000];
	while (!stop) {
		int c = accept(s, 0, 0); if (c < 0) { if (stop) return 0; if (errno == ECONNABORTED) continue; die("accept"); }
		long n, w; while ((n = read(c, b, sizeof b)) > 0) for (long at = 0; at < n; at += w) if ((w = send(c, b + at, n - at, MSG_NOSIGNAL)) <= 0) { if (errno == EPIPE || errno == ECONNRESET) goto out; die("echo"); }
		if (n < 0 && errno != ECONNRESET && errno != EPIPE) die("serve"); out: close(c); __sync_fetch_and_add(&served, 1);
	}
	return 0;
}
static void *talk(void *p) {
	seed = (unsigned long)p * 7919 + 1; static __thread char out[60000], in[60000];
	for (int round = 0; round < 150; round++) {
		int tcp = rnd(2), c = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | (rnd(3) ? 0 : SOCK_NONBLOCK), 0); if (c < 0) die("socket");
		struct pollfd f = {c, POLLOUT, 0}; while (connect(c, tcp ? A &where : A &local, tcp ? sizeof where : sizeof local)) { if (errno == EINPROGRESS || errno == EALREADY) poll(&f, 1, -1); else if (errno == EAGAIN) usleep(100); else if (errno == EISCONN) break; else die("connect"); }
		if (!rnd(10)) { close(c); continue; }
		int len = rnd(sizeof out) + 1, sent = 0, got = 0, want = rnd(8) ? len : rnd(len) + 1; for (int i = 0; i < len; i++) out[i] = rnd(256);
		while (got < want) {
			f.events = POLLIN | (sent < len ? POLLOUT : 0); if (poll(&f, 1, 20000) != 1) die("poll hangs");
			long n; if (f.revents & POLLOUT && sent < len) { if ((n = send(c, out + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) sent += n; else if (errno != EAGAIN) die("send"); }
			if (f.revents & POLLIN) { if ((n = recv(c, in + got, sizeof in - got, MSG_DONTWAIT)) > 0) got += n; else if (n == 0) { puts("early end"); _exit(1); } else if (errno != EAGAIN) die("recv"); }
		}
		if (memcmp(in, out, got)) { puts("wrong bytes"); _exit(1); }
		if (got == len && rnd(2)) { shutdown(c, SHUT_WR); long n = 0; f.events = POLLIN; poll(&f, 1, 20000); n = recv(c, in, 1, 0); if (n) die("end"); }
		close(c); __sync_fetch_and_add(&talked, 1);
	}
	return 0;
}
static void *pass(void *p) {
	/* Sockets sent over each other, at random received or forgotten. */
	seed = (unsigned long)p * 104729 + 3;
	for (int round = 0; round < 400; round++) {
		int s[2], t[2], fds[4]; if (socketpair(AF_UNIX, rnd(2) ? SOCK_STREAM : SOCK_DGRAM, 0, s) || socketpair(AF_UNIX, SOCK_STREAM, 0, t)) die("socketpair");
		memcpy(fds, s, 8); memcpy(fds + 2, t, 8); char c[CMSG_SPACE(16)]; struct iovec v = {"x", 1}; struct msghdr m = {0}; m.msg_iov = &v; m.msg_iovlen = 1; m.msg_control = c; m.msg_controllen = sizeof c; struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(16); memcpy(CMSG_DATA(h), fds, 16);
		if (sendmsg(s[0], &m, 0) != 1) die("sendmsg"); int other = rnd(2); if (other && sendmsg(t[0], &m, 0) != 1) die("sendmsg");
		if (rnd(2)) { char d[10]; struct iovec w = {d, sizeof d}; m.msg_iov = &w; m.msg_controllen = sizeof c; if (recvmsg(s[1], &m, 0) != 1) die("recvmsg"); h = CMSG_FIRSTHDR(&m); if (!h || h->cmsg_len != CMSG_LEN(16)) die("no descriptors"); memcpy(fds, CMSG_DATA(h), 16); char y = 0; if (write(fds[2], "y", 1) != 1 || recv(t[1], &y, 1, other ? MSG_DONTWAIT : 0) > 1) die("passed"); for (int i = 0; i < 4; i++) close(fds[i]); }
		close(s[0]); close(s[1]); close(t[0]); close(t[1]); __sync_fetch_and_add(&passed, 1);
	}
	return 0;
}
static void *datagrams(void *p) {
	seed = (unsigned long)p + 11; int s[2]; if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s)) die("socketpair"); int u = socket(AF_INET, SOCK_DGRAM, 0), w = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = in4("127.0.0.1", 0); socklen_t n = sizeof a; bind(u, A &a, n); getsockname(u, A &a, &n); char b[3000], c[3000];
	for (int i = 0; i < 2000; i++) { int len = rnd(sizeof b); memset(b, i, sizeof b); if (send(s[0], b, len, 0) != len || recv(s[1], c, sizeof c, 0) != len || memcmp(b, c, len)) die("record"); if (sendto(w, b, len, 0, A &a, n) != len || recv(u, c, sizeof c, 0) != len || memcmp(b, c, len)) die("datagram"); }
	return 0;
}
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0); own_network(); signal(SIGPIPE, SIG_IGN); unlink("stress.sock"); where = in4("127.0.0.1", 0); local.sun_family = AF_UNIX; strcpy(local.sun_path, "stress.sock");
	listeners[0] = socket(AF_INET, SOCK_STREAM, 0); listeners[1] = socket(AF_UNIX, SOCK_STREAM, 0); socklen_t n = sizeof where; if (bind(listeners[0], A &where, n) || getsockname(listeners[0], A &where, &n) || listen(listeners[0], 2) || bind(listeners[1], A &local, sizeof local) || listen(listeners[1], 2)) die("listen");
	int ready[2]; if (pipe(ready)) die("pipe");
	pid_t k[2]; for (int i = 0; i < 2; i++) if (!(k[i] = fork())) {
		pthread_t t[14]; int c = 0; for (int j = 0; j < 4; j++) pthread_create(&t[c++], 0, serve, &listeners[j % 2]); int servers = c; for (long j = 0; j < 5; j++) pthread_create(&t[c++], 0, talk, (void *)(j + i * 10)); for (long j = 0; j < 2; j++) pthread_create(&t[c++], 0, pass, (void *)(j + i * 10)); pthread_create(&t[c++], 0, datagrams, (void *)(long)i);
		for (int j = servers; j < c; j++) pthread_join(t[j], 0); if (!talked || !passed) puts("nothing happened");
		/* Its servers may have clients of the other process: it stays until both are done. */
		char done = 1; write(ready[1], &done, 1); pause(); _exit(0);
	}
	/* An end of the pipe that nobody has left is an end of both. */
	char done; int finished = 0; close(ready[1]); while (finished < 2 && read(ready[0], &done, 1) == 1) finished++;
	for (int i = 0; i < 2; i++) { kill(k[i], SIGKILL); int status; waitpid(k[i], &status, 0); }
	puts(finished == 2 ? "done" : "a process has ended early"); unlink("stress.sock");
	return finished != 2;
}
