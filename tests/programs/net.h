/* What tests of sockets share. Natively they run in a network namespace of their own, so that there is nothing but the
   loopback interface, as in the sandbox. */
#include "check.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static void own_network(void) {
	/* Not allowed, and not needed, in the sandbox. */
	if (unshare(CLONE_NEWNET)) return;
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r; memset(&r, 0, sizeof r); strcpy(r.ifr_name, "lo"); r.ifr_flags = IFF_UP;
	if (s >= 0) { ioctl(s, SIOCSIFFLAGS, &r); close(s); }
}

/* An address of the loopback interface. */
static struct sockaddr_in in4(const char *ip, int port) {
	struct sockaddr_in a; memset(&a, 0, sizeof a);
	a.sin_family = AF_INET; a.sin_port = htons(port); inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static struct sockaddr_in6 in6(const char *ip, int port) {
	struct sockaddr_in6 a; memset(&a, 0, sizeof a);
	a.sin6_family = AF_INET6; a.sin6_port = htons(port); inet_pton(AF_INET6, ip, &a.sin6_addr);
	return a;
}

/* What poll says at once. */
static void polled(const char *what, int fd) {
	struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLWRBAND, 0};
	poll(&p, 1, 0);
	printf("poll %s: %x\n", what, p.revents);
}

/* An option that is an int. */
static void option(const char *what, int fd, int level, int name) {
	int v = -12345; socklen_t n = sizeof v; errno = 0;
	if (getsockopt(fd, level, name, &v, &n)) printf("%s: %s\n", what, strerrorname_np(errno));
	else printf("%s: %d (%d)\n", what, v, (int)n);
}
#define GET(fd, level, name) option(#name, fd, level, name)
static int set(int fd, int level, int name, int v) { return setsockopt(fd, level, name, &v, sizeof v); }

static int no_signal;
static void note(int s) { no_signal = s; }
