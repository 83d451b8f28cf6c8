/* rtnetlink(7) and what the C library makes of it; /proc/net. */
#include "net.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
static char buf[65536];
static int s, seq;
static void ask(const char *what, int type, int flags, void *body, int len) {
	struct { struct nlmsghdr h; char body[200]; } m; memset(&m, 0, sizeof m); m.h.nlmsg_len = NLMSG_LENGTH(len); m.h.nlmsg_type = type; m.h.nlmsg_flags = NLM_F_REQUEST | flags; m.h.nlmsg_seq = ++seq; memcpy(m.body, body, len);
	struct sockaddr_nl k; memset(&k, 0, sizeof k); k.nl_family = AF_NETLINK; if (sendto(s, &m, m.h.nlmsg_len, 0, (void *)&k, sizeof k) < 0) { printf("%s: %s\n", what, strerrorname_np(errno)); return; }
	for (int done = 0; !done;) {
		struct sockaddr_nl f; socklen_t fl = sizeof f; long n = recvfrom(s, buf, sizeof buf, MSG_DONTWAIT, (void *)&f, &fl); if (n < 0) { printf("%s: end %s\n", what, strerrorname_np(errno)); return; } if (f.nl_pid || fl != 12) puts("not the kernel");
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_seq != seq) puts("wrong number");
			printf("%s: type %d multi %d", what, h->nlmsg_type, h->nlmsg_flags & NLM_F_MULTI); struct rtattr *a = 0; int al = 0;
			if (h->nlmsg_type == NLMSG_ERROR) { printf(" %s\n", ((int *)NLMSG_DATA(h))[0] ? strerrorname_np(-((int *)NLMSG_DATA(h))[0]) : "ok"); done = 1; continue; }
			if (h->nlmsg_type == NLMSG_DONE) { puts(" done"); done = 1; continue; }
			if (h->nlmsg_type == RTM_NEWLINK) { struct ifinfomsg *i = NLMSG_DATA(h); printf(" link type %d index %d flags %x", i->ifi_type, i->ifi_index, i->ifi_flags); a = IFLA_RTA(i); al = IFLA_PAYLOAD(h); }
			if (h->nlmsg_type == RTM_NEWADDR) { struct ifaddrmsg *i = NLMSG_DATA(h); printf(" addr %d /%d flags %x scope %d index %d", i->ifa_family, i->ifa_prefixlen, i->ifa_flags, i->ifa_scope, i->ifa_index); a = IFA_RTA(i); al = IFA_PAYLOAD(h); }
			for (; al && RTA_OK(a, al); a = RTA_NEXT(a, al)) {
				if (h->nlmsg_type == RTM_NEWLINK && a->rta_type == IFLA_IFNAME) printf(" name %s", (char *)RTA_DATA(a));
				if (h->nlmsg_type == RTM_NEWLINK && (a->rta_type == IFLA_MTU || a->rta_type == IFLA_TXQLEN)) printf(" [%d]=%u", a->rta_type, *(unsigned *)RTA_DATA(a));
				if (h->nlmsg_type == RTM_NEWADDR && a->rta_type == IFA_ADDRESS) { char t[64]; printf(" %s", inet_ntop(RTA_PAYLOAD(a) == 4 ? AF_INET : AF_INET6, RTA_DATA(a), t, sizeof t)); }
				if (h->nlmsg_type == RTM_NEWADDR && a->rta_type == IFA_LABEL) printf(" label %s", (char *)RTA_DATA(a));
			}
			puts(""); if (!(h->nlmsg_flags & NLM_F_MULTI) && !(flags & NLM_F_ACK)) done = 1;
		}
	}
}
static void file(const char *name, int lines) { char p[64], l[1000]; sprintf(p, "/proc/net/%s", name); FILE *f = fopen(p, "r"); if (!f) { printf("%s: %m\n", p); return; } while (lines-- && fgets(l, sizeof l, f)) printf("%s: %s", name, l); fclose(f); }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0); own_network(); OK(socket(AF_NETLINK, SOCK_STREAM, 0)); OK(socket(AF_NETLINK, SOCK_RAW, 99)); s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); struct sockaddr_nl a; memset(&a, 0, sizeof a); a.nl_family = AF_NETLINK; OK(bind(s, (void *)&a, 4)); OK(bind(s, (void *)&a, sizeof a)); socklen_t n = sizeof a; OK(getsockname(s, (void *)&a, &n)); IS(a.nl_pid != 0 && n == 12); OK(bind(s, (void *)&a, sizeof a)); polled("netlink", s); GET(s, SOL_SOCKET, SO_TYPE); GET(s, SOL_SOCKET, SO_DOMAIN); GET(s, SOL_SOCKET, SO_PROTOCOL); OK(listen(s, 1)); OK(shutdown(s, SHUT_RD));
	struct rtgenmsg g = {AF_UNSPEC}; ask("links", RTM_GETLINK, NLM_F_DUMP, &g, sizeof g); struct ifinfomsg i; memset(&i, 0, sizeof i); i.ifi_index = 1; ask("one", RTM_GETLINK, 0, &i, sizeof i); ask("one, acknowledged", RTM_GETLINK, NLM_F_ACK, &i, sizeof i); i.ifi_index = 77; ask("no such", RTM_GETLINK, 0, &i, sizeof i); ask("addresses", RTM_GETADDR, NLM_F_DUMP, &g, sizeof g); g.rtgen_family = AF_INET; ask("v4", RTM_GETADDR, NLM_F_DUMP, &g, sizeof g); g.rtgen_family = AF_INET6; ask("v6", RTM_GETADDR, NLM_F_DUMP, &g, sizeof g);
	char nm[20]; VAL(if_nametoindex("lo")); OK(if_nametoindex("eth7") ? 0 : -1); puts(if_indextoname(1, nm)); struct if_nameindex *x = if_nameindex(); for (int k = 0; x && x[k].if_index; k++) printf("%d %s\n", x[k].if_index, x[k].if_name); struct ifaddrs *l, *e; OK(getifaddrs(&l)); for (e = l; e; e = e->ifa_next) printf("%s %x %d\n", e->ifa_name, e->ifa_flags, e->ifa_addr ? e->ifa_addr->sa_family : -1);
	int c = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in ad = in4("127.0.0.1", 4660); bind(c, (void *)&ad, sizeof ad); listen(c, 5); char line[300]; FILE *f = fopen("/proc/net/tcp", "r"); fgets(line, sizeof line, f); fgets(line, sizeof line, f); line[55] = 0; puts(line); fclose(f); c = socket(AF_INET6, SOCK_STREAM, 0); struct sockaddr_in6 a6 = in6("::", 4661); bind(c, (void *)&a6, sizeof a6); listen(c, 5); f = fopen("/proc/net/tcp6", "r"); fgets(line, sizeof line, f); fgets(line, sizeof line, f); line[100] = 0; puts(line); fclose(f); c = socket(AF_INET, SOCK_DGRAM, 0); bind(c, (void *)&ad, sizeof ad); f = fopen("/proc/net/udp", "r"); fgets(line, sizeof line, f); fgets(line, sizeof line, f); line[80] = 0; puts(strchr(line, ':')); fclose(f);
	file("if_inet6", 1); file("route", 5); file("tcp", 1); file("udp", 1); file("unix", 1); file("dev", 2);
	return 0;
}
