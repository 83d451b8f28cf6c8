/* udp(7) over the loopback interface; ioctl of netdevice(7). */
#include "net.h"
#define A (struct sockaddr *)
static char b[100000];
static struct sockaddr_in bound(int fd, const char *ip, int port) { struct sockaddr_in a = in4(ip, port); socklen_t n = sizeof a; OK(bind(fd, A &a, sizeof a)); getsockname(fd, A &a, &n); return a; }
static void names(const char *what, int fd) {
	struct sockaddr_in6 a; char t[64]; for (int peer = 0; peer < 2; peer++) { socklen_t n = sizeof a; memset(&a, 0, sizeof a);
		if (peer ? getpeername(fd, A &a, &n) : getsockname(fd, A &a, &n)) printf("%s %d: %s\n", what, peer, strerrorname_np(errno));
		else { inet_ntop(a.sin6_family, a.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : (void *)&a.sin6_addr, t, sizeof t); printf("%s %d: family %d len %d %s port %s\n", what, peer, a.sin6_family, (int)n, t, a.sin6_port ? "some" : "none"); } }
}
static void received(const char *what, int fd, size_t len, int flags) {
	char c[500], t[64]; struct sockaddr_in6 a; memset(&a, 0, sizeof a); struct iovec v = {b, len}; struct msghdr m = {0}; m.msg_name = &a; m.msg_namelen = sizeof a; m.msg_iov = &v; m.msg_iovlen = 1; m.msg_control = c; m.msg_controllen = sizeof c;
	errno = 0; long r = recvmsg(fd, &m, flags); printf("%s: %ld %s", what, r, r < 0 ? strerrorname_np(errno) : ""); if (r < 0) { puts(""); return; }
	printf(" flags %x name %d port %s", m.msg_flags, m.msg_namelen, a.sin6_port ? "some" : "none");
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
		printf(" [%d %d %d", h->cmsg_level, h->cmsg_type, (int)h->cmsg_len);
		if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) { struct in_pktinfo *p = (void *)CMSG_DATA(h); printf(" if %d %s", p->ipi_ifindex, inet_ntop(AF_INET, &p->ipi_addr, t, sizeof t)); printf(" %s", inet_ntop(AF_INET, &p->ipi_spec_dst, t, sizeof t)); }
		if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO) { struct in6_pktinfo *p = (void *)CMSG_DATA(h); printf(" if %d %s", p->ipi6_ifindex, inet_ntop(AF_INET6, &p->ipi6_addr, t, sizeof t)); }
		if (h->cmsg_type == IP_TTL && h->cmsg_level == IPPROTO_IP) printf(" ttl %d", *(int *)CMSG_DATA(h));
		if (h->cmsg_type == IP_TOS && h->cmsg_level == IPPROTO_IP) printf(" tos %d", *CMSG_DATA(h));
		if (h->cmsg_level == IPPROTO_IPV6 && (h->cmsg_type == IPV6_HOPLIMIT || h->cmsg_type == IPV6_TCLASS)) printf(" %d", *(int *)CMSG_DATA(h));
		printf("]");
	}
	puts("");
}
/* Sends with one control message. */
static long along(int fd, const void *to, socklen_t n, int level, int type, int value, size_t len) {
	char c[CMSG_SPACE(8)]; memset(c, 0, sizeof c); struct iovec v = {b, 1}; struct msghdr m = {0}; m.msg_name = (void *)to; m.msg_namelen = n; m.msg_iov = &v; m.msg_iovlen = 1; m.msg_control = c; m.msg_controllen = CMSG_SPACE(len);
	struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = level; h->cmsg_type = type; h->cmsg_len = CMSG_LEN(len); memcpy(CMSG_DATA(h), &value, 4);
	return sendmsg(fd, &m, 0);
}
/* What headers say: options of the sender, and what goes along with one datagram. */
static void headers(void) {
	struct sockaddr_in a = in4("127.0.0.1", 7200); struct sockaddr_in6 a6 = in6("::1", 7300);
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), c = socket(AF_INET, SOCK_DGRAM, 0); OK(bind(s, A &a, sizeof a)); set(s, IPPROTO_IP, IP_RECVTTL, 1); set(s, IPPROTO_IP, IP_RECVTOS, 1);
	OK(set(c, IPPROTO_IP, IP_TTL, 9)); OK(set(c, IPPROTO_IP, IP_TOS, 0x28)); VAL(sendto(c, "x", 1, 0, A &a, sizeof a)); received("options", s, 9, 0);
	VAL(along(c, &a, sizeof a, IPPROTO_IP, IP_TTL, 3, 4)); received("ttl", s, 9, 0); VAL(along(c, &a, sizeof a, IPPROTO_IP, IP_TOS, 0x10, 4)); received("tos", s, 9, 0); VAL(along(c, &a, sizeof a, IPPROTO_IP, IP_TOS, 0x20, 1)); received("byte", s, 9, 0);
	OK(along(c, &a, sizeof a, IPPROTO_IP, IP_TTL, 0, 4)); OK(along(c, &a, sizeof a, IPPROTO_IP, IP_TTL, 256, 4)); OK(along(c, &a, sizeof a, IPPROTO_IP, IP_TTL, 3, 5)); OK(along(c, &a, sizeof a, IPPROTO_IP, IP_TOS, 256, 4)); OK(along(c, &a, sizeof a, IPPROTO_IP, IP_TOS, 1, 2)); OK(along(c, &a, sizeof a, IPPROTO_IP, 99, 1, 4)); OK(along(c, &a, sizeof a, IPPROTO_IPV6, IPV6_HOPLIMIT, 999, 4)); received("foreign", s, 9, 0); received("nothing", s, 9, 0);
	int s6 = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0), c6 = socket(AF_INET6, SOCK_DGRAM, 0); OK(bind(s6, A &a6, sizeof a6)); set(s6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1); set(s6, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	VAL(sendto(c6, "x", 1, 0, A &a6, sizeof a6)); received("plain 6", s6, 9, 0); OK(set(c6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9)); OK(set(c6, IPPROTO_IPV6, IPV6_TCLASS, 0x28)); VAL(sendto(c6, "x", 1, 0, A &a6, sizeof a6)); received("options 6", s6, 9, 0);
	VAL(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_HOPLIMIT, 2, 4)); received("hops", s6, 9, 0); VAL(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_HOPLIMIT, -1, 4)); received("own hops", s6, 9, 0); VAL(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_TCLASS, 0x10, 4)); received("class", s6, 9, 0);
	OK(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_HOPLIMIT, 256, 4)); OK(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_HOPLIMIT, -2, 4)); OK(along(c6, &a6, sizeof a6, IPPROTO_IPV6, IPV6_TCLASS, 1, 5)); OK(along(c6, &a6, sizeof a6, IPPROTO_IPV6, 199, 1, 4)); received("nothing 6", s6, 9, 0);
	OK(set(c6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -1)); VAL(sendto(c6, "x", 1, 0, A &a6, sizeof a6)); received("default 6", s6, 9, 0);
	close(s); close(c); close(s6); close(c6);
}
static void *later(void *p) { usleep(20000); struct sockaddr_in *a = p; int s = socket(AF_INET, SOCK_DGRAM, 0); sendto(s, "late", 4, 0, A a, sizeof *a); close(s); return 0; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0); own_network(); signal(SIGPIPE, note); struct sockaddr_in a, z; struct sockaddr_in6 a6; socklen_t n; int r; pthread_t t;
	OK(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP)); OK(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP)); int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), c = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	polled("new", s); names("new", s); OK(send(s, "x", 1, 0)); OK(recv(s, b, 1, 0)); OK(listen(s, 1)); OK(accept(s, 0, 0)); OK(shutdown(c, SHUT_WR)); OK(sendto(c, "x", 1, 0, A (a = in4("127.0.0.1", 7), &a), sizeof a)); close(c); c = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	a = bound(s, "127.0.0.1", 0); names("bound", s); OK(bind(s, A &a, sizeof a)); OK(bind(c, A &a, sizeof a)); VAL(sendto(c, "hello", 5, 0, A &a, sizeof a)); names("sender", c); polled("data", s); VAL(ioctl(s, FIONREAD, &r)); VAL(r); n = sizeof z; VAL(recvfrom(s, b, 3, MSG_PEEK, A &z, &n)); VAL(n); VAL(recvfrom(s, b, 3, MSG_TRUNC | MSG_PEEK, A &z, &n)); received("truncated", s, 3, 0); VAL(sendto(c, "", 0, 0, A &a, sizeof a)); received("empty", s, 3, 0); VAL(sendto(s, "back", 4, 0, A &z, n)); VAL(recv(c, b, 99, 0));
	OK(sendto(c, b, 65508, 0, A &a, sizeof a)); VAL(sendto(c, b, 65507, 0, A &a, sizeof a)); VAL(recv(s, b, sizeof b, 0)); VAL(sendto(c, "0", 1, 0, A &a, sizeof a)); VAL(read(s, b, 0)); VAL(recv(s, b, 0, 0)); OK(recv(s, b, 1, 0)); z = in4("127.0.0.1", 0); OK(sendto(c, "x", 1, 0, A &z, sizeof z)); z = in4("8.8.8.8", 53); OK(sendto(c, "x", 1, 0, A &z, sizeof z)); OK(connect(c, A &z, sizeof z)); z.sin_family = AF_INET6; OK(sendto(c, "x", 1, 0, A &z, sizeof z)); OK(sendto(c, "x", 1, 0, A &z, 5));
	/* connected */
	OK(connect(c, A &a, sizeof a)); names("connected", c); VAL(send(c, "x", 1, 0)); VAL(write(c, "yz", 2)); VAL(recv(s, b, 9, 0)); VAL(recv(s, b, 9, 0)); int o = socket(AF_INET, SOCK_DGRAM, 0); n = sizeof z; getsockname(c, A &z, &n); VAL(sendto(o, "stranger", 8, 0, A &z, sizeof z)); OK(recv(c, b, 9, 0)); VAL(sendto(s, "peer", 4, 0, A &z, sizeof z)); VAL(recv(c, b, 9, 0)); OK(shutdown(c, SHUT_WR)); no_signal = 0; OK(send(c, "x", 1, 0)); VAL(no_signal); OK(shutdown(c, SHUT_RD)); polled("shut", c); OK(recv(c, b, 1, 0)); struct sockaddr none = {AF_UNSPEC}; close(c);
	c = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0); z = in4("127.0.0.1", 9); OK(connect(c, A &z, sizeof z)); VAL(send(c, "x", 1, 0)); usleep(2000); polled("refused", c); OK(recv(c, b, 1, 0)); OK(recv(c, b, 1, 0)); VAL(send(c, "x", 1, 0)); usleep(2000); OK(send(c, "x", 1, 0)); usleep(2000); VAL(send(c, "x", 1, 0)); usleep(2000); GET(c, SOL_SOCKET, SO_ERROR); GET(c, SOL_SOCKET, SO_ERROR); OK(connect(c, &none, sizeof none)); names("dissolved", c); OK(send(c, "x", 1, 0)); VAL(sendto(c, "x", 1, 0, A &z, sizeof z)); usleep(2000); GET(c, SOL_SOCKET, SO_ERROR); close(c);
	/* control messages */
	c = socket(AF_INET, SOCK_DGRAM, 0); OK(set(s, IPPROTO_IP, IP_PKTINFO, 1)); OK(set(s, IPPROTO_IP, IP_RECVTTL, 1)); OK(set(s, IPPROTO_IP, IP_RECVTOS, 1)); VAL(sendto(c, "x", 1, 0, A &a, sizeof a)); received("information", s, 9, 0); OK(set(s, SOL_SOCKET, SO_TIMESTAMP, 1)); VAL(sendto(c, "x", 1, 0, A &a, sizeof a)); received("time", s, 9, 0); GET(s, IPPROTO_IP, IP_PKTINFO); struct ip_mreq mr; memset(&mr, 0, sizeof mr); mr.imr_multiaddr.s_addr = inet_addr("224.0.0.1"); OK(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr)); OK(set(c, SOL_SOCKET, SO_BROADCAST, 1)); z = in4("224.0.0.1", 9); OK(sendto(c, "x", 1, 0, A &z, sizeof z)); unsigned char one = 1; OK(setsockopt(c, IPPROTO_IP, IP_MULTICAST_LOOP, &one, 1)); GET(c, IPPROTO_IP, IP_MULTICAST_TTL); GET(c, IPPROTO_IP, IP_MTU_DISCOVER); OK(set(c, IPPROTO_IP, IP_RECVERR, 1)); GET(c, SOL_SOCKET, SO_PROTOCOL); GET(c, SOL_SOCKET, SO_TYPE); GET(c, IPPROTO_UDP, 99);
	/* sharing, wildcards, IPv6 */
	int x = socket(AF_INET, SOCK_DGRAM, 0), y = socket(AF_INET, SOCK_DGRAM, 0); set(x, SOL_SOCKET, SO_REUSEADDR, 1); z = bound(x, "0.0.0.0", 7000); OK(bind(y, A &z, sizeof z)); set(y, SOL_SOCKET, SO_REUSEADDR, 1); OK(bind(y, A &z, sizeof z)); close(x); close(y); x = socket(AF_INET, SOCK_DGRAM, 0); y = socket(AF_INET, SOCK_DGRAM, 0); z = bound(x, "127.0.0.1", 7000); z = bound(y, "127.0.0.3", 7000); VAL(sendto(c, "three", 5, 0, A &z, sizeof z)); VAL(recv(y, b, 9, 0)); close(x); close(y); x = socket(AF_INET, SOCK_DGRAM, 0); z = bound(x, "8.8.8.8", 7000); close(x);
	x = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0); a6 = in6("::", 7100); OK(bind(x, A &a6, sizeof a6)); OK(set(x, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)); z = in4("127.0.0.1", 7100); VAL(sendto(c, "four", 4, 0, A &z, sizeof z)); received("v4 by v6", x, 9, 0); y = socket(AF_INET6, SOCK_DGRAM, 0); a6 = in6("::1", 7100); VAL(sendto(y, "six", 3, 0, A &a6, sizeof a6)); received("v6", x, 9, 0); a6 = in6("::ffff:127.0.0.1", 7100); VAL(sendto(y, "mapped", 6, 0, A &a6, sizeof a6)); received("mapped", x, 9, 0); OK(bind(o, A &z, sizeof z)); a6 = in6("fe80::1", 7100); OK(sendto(y, "x", 1, 0, A &a6, sizeof a6)); OK(sendto(y, "x", 1, 0, A &a6, 20));
	pthread_create(&t, 0, later, &a); fcntl(s, F_SETFL, 0); received("waited for", s, 9, 0); pthread_join(t, 0); struct mmsghdr mm[3]; struct iovec iv[3]; memset(mm, 0, sizeof mm); for (int i = 0; i < 3; i++) { iv[i].iov_base = b; iv[i].iov_len = i + 1; mm[i].msg_hdr.msg_iov = &iv[i]; mm[i].msg_hdr.msg_iovlen = 1; mm[i].msg_hdr.msg_name = &a; mm[i].msg_hdr.msg_namelen = sizeof a; } VAL(sendmmsg(c, mm, 3, 0)); struct sockaddr_in from[3]; for (int i = 0; i < 3; i++) { mm[i].msg_hdr.msg_name = &from[i]; iv[i].iov_len = 9; } VAL(recvmmsg(s, mm, 3, 0, 0)); VAL(mm[2].msg_len); VAL(mm[2].msg_hdr.msg_namelen); int lost = 0; fcntl(s, F_SETFL, O_NONBLOCK); set(s, SOL_SOCKET, SO_RCVBUF, 4000); for (int i = 0; i < 100; i++) lost += sendto(c, b, 1000, 0, A &a, sizeof a) == 1000; VAL(lost); lost = 0; while (recv(s, b, sizeof b, 0) == 1000) lost++; IS(lost > 0 && lost < 50);
	headers();
	/* the interface */
	struct ifreq q; struct ifconf cf; char buf[400]; memset(&q, 0, sizeof q); strcpy(q.ifr_name, "lo"); VAL(ioctl(s, SIOCGIFINDEX, &q)); VAL(q.ifr_ifindex); VAL(ioctl(s, SIOCGIFFLAGS, &q)); printf("%x\n", q.ifr_flags); VAL(ioctl(s, SIOCGIFADDR, &q)); printf("%s\n", inet_ntoa(((struct sockaddr_in *)&q.ifr_addr)->sin_addr)); VAL(ioctl(s, SIOCGIFNETMASK, &q)); printf("%s\n", inet_ntoa(((struct sockaddr_in *)&q.ifr_addr)->sin_addr)); VAL(ioctl(s, SIOCGIFMTU, &q)); VAL(q.ifr_mtu); VAL(ioctl(s, SIOCGIFHWADDR, &q)); VAL(q.ifr_hwaddr.sa_family); q.ifr_ifindex = 1; VAL(ioctl(s, SIOCGIFNAME, &q)); puts(q.ifr_name); q.ifr_ifindex = 99; OK(ioctl(s, SIOCGIFNAME, &q)); strcpy(q.ifr_name, "eth7"); OK(ioctl(s, SIOCGIFADDR, &q)); cf.ifc_len = sizeof buf; cf.ifc_buf = buf; VAL(ioctl(s, SIOCGIFCONF, &cf)); VAL(cf.ifc_len); puts(cf.ifc_req[0].ifr_name); cf.ifc_buf = 0; VAL(ioctl(s, SIOCGIFCONF, &cf)); VAL(cf.ifc_len); OK(ioctl(s, 0x5401, buf));
	return 0;
}
