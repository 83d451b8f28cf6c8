/* Arguments of system calls at random: numbers on borders, memory of every kind, paths, and the structures that the
   kernel follows. Everything comes from one seed for each thread. */
#pragma once
#include "check.h"
#include <linux/filter.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PAGE 4096ul
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define PICK(list) (list)[below(sizeof(list) / sizeof *(list))]

static __thread uint64_t state = 1;

static uint64_t rnd(void) {
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dul;
}

static uint64_t below(uint64_t n) { return (rnd() >> 11) % n; }
static int one_in(uint64_t n) { return !below(n); }

static uint64_t mix(uint64_t a, uint64_t b) {
	uint64_t x = a * 0x9e3779b97f4a7c15ul ^ (b + 0x7f4a7c15) * 0xbf58476d1ce4e5b9ul;
	x ^= x >> 31;
	x *= 0x94d049bb133111ebul;
	return (x ^ x >> 29) | 1;
}

static uint64_t number(void) {
	static const uint64_t list[] = {0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 65, 127, 128, 255, 256, 511, 512, 1000, 1024,
		4095, 4096, 4097, 8192, 65535, 65536, 65537, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffff, 1ul << 40, 1ul << 47, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff800000000000,
		0x7fffffffffffffff, 0x7ffffffffffff000, 0x8000000000000000, -4096ul, -4095ul, -100ul, -2ul, -1ul};
	switch (below(8)) {
	case 0: return rnd();
	case 1: return 1ul << below(64);
	case 2: return (1ul << below(64)) - 1;
	case 3: return below(100);
	case 4: return PICK(list) + below(3) - 1;
	case 5: return (uint32_t)rnd();
	default: return PICK(list);
	}
}

/* The arena: pages that can be written, and behind them one that can be read, one that is closed, one that is not
   there, a page of a shared file that is shorter than its mapping, and one that can be executed. */
#define ARENA ((char *)0x200000000ul)
#define OPEN_PAGES 24ul
#define READ_PAGE (ARENA + OPEN_PAGES * PAGE)
#define CLOSED_PAGE (READ_PAGE + PAGE)
#define HOLE (CLOSED_PAGE + PAGE)
#define FILE_PAGES (HOLE + PAGE)
#define ARENA_PAGES (OPEN_PAGES + 6)

static int arena_file = -1;

static void make_arena(void) {
	int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	mmap(ARENA, OPEN_PAGES * PAGE, PROT_READ | PROT_WRITE, fixed, -1, 0);
	mmap(READ_PAGE, PAGE, PROT_READ, fixed, -1, 0);
	mmap(CLOSED_PAGE, PAGE, PROT_NONE, fixed, -1, 0);
	munmap(HOLE, PAGE);
	if (arena_file < 0) {
		arena_file = memfd_create("arena", 0);
		if (ftruncate(arena_file, PAGE + 100)) return;
	}
	mmap(FILE_PAGES, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena_file, 0);
	mmap(FILE_PAGES + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, fixed, -1, 0);
}

static int some_fd(void);
static char *buffer(void);

/* Words as the kernel's structures have them. */
static void fill(void *at, size_t len) {
	uint8_t *p = at;
	int kind = below(5);
	for (size_t i = 0; i < len; i += 4) {
		uint64_t word = kind == 0 ? 0 : kind == 1 ? rnd() : one_in(3) ? number() : one_in(4) ? some_fd() : below(16);
		if (kind > 2 && i % 8 == 0 && i + 8 <= len && one_in(4)) {
			uint64_t place = (uint64_t)ARENA + below(ARENA_PAGES * PAGE);
			memcpy(p + i, &place, 8);
			i += 4;
		} else {
			memcpy(p + i, &word, len - i < 4 ? len - i : 4);
		}
	}
}

/* Room of `len` bytes in the pages that can be written, sometimes at the very end of them. */
static char *room(size_t len) {
	size_t all = OPEN_PAGES * PAGE;
	if (len > all) len = all;
	return one_in(4) ? ARENA + all - len : ARENA + (below(all - len + 1) & ~7ul);
}

/* An address that is wrong in some way. */
static char *bad(void) {
	switch (below(9)) {
	case 0: return NULL;
	case 1: return READ_PAGE + (below(PAGE) & ~7ul);
	case 2: return CLOSED_PAGE;
	case 3: return HOLE - below(32);
	case 4: return FILE_PAGES + PAGE - below(64);
	case 5: return READ_PAGE - 1 - below(64);
	case 6: return ARENA + below(ARENA_PAGES * PAGE);
	default: return (char *)number();
	}
}

static char *buffer(void) {
	if (one_in(8)) return bad();
	size_t len = one_in(8) ? 2 * PAGE : 256;
	char *p = room(len);
	fill(p, len < 512 ? len : 512);
	return p;
}

static uint64_t length(void) { return one_in(3) ? number() : one_in(3) ? below(4) * PAGE : below(300); }
static uint64_t flags(void) { uint64_t f = 0; for (int n = below(5); n > 0; n--) f |= 1ul << below(one_in(8) ? 64 : 32); return f; }
static uint64_t offset(void) { return one_in(3) ? number() : below(3 * PAGE); }
static char *pages(void) { return one_in(12) ? (char *)number() : ARENA + below(ARENA_PAGES) * PAGE; }
static uint64_t page_count(void) { return one_in(10) ? number() : below(8) * PAGE; }

static const char *path(void) {
	static const char *const list[] = {".", "..", "/", "a", "b", "c", "d", "d/a", "d/b", "d/..", "l", "loop", "missing/x",
		"fifo", "sock", "", "/tmp", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
		"/dev/ptmx", "/dev/pts", "/dev/pts/0", "/dev/pts/1", "/dev/shm", "/dev/shm/x", "/dev/fd", "/dev/stdin", "/proc", "/proc/self",
		"/proc/self/fd", "/proc/self/exe", "/proc/self/cwd", "/proc/self/root", "/proc/self/maps", "/proc/self/smaps",
		"/proc/self/mem", "/proc/self/stat", "/proc/self/status", "/proc/self/statm", "/proc/self/environ",
		"/proc/self/cmdline", "/proc/self/comm", "/proc/self/limits", "/proc/self/mounts", "/proc/self/mountinfo",
		"/proc/self/task", "/proc/thread-self", "/proc/self/oom_score_adj", "/proc/self/oom_adj", "/proc/self/io",
		"/proc/self/auxv", "/proc/self/cgroup", "/proc/self/ns", "/proc/self/ns/mnt", "/proc/self/ns/pid",
		"/proc/self/fdinfo", "/proc/self/net", "/proc/self/wchan", "/proc/self/timers", "/proc/self/uid_map",
		"/proc/self/loginuid", "/proc/self/setgroups", "/proc/self/syscall", "/proc/self/stack", "/proc/self/pagemap",
		"/proc/self/clear_refs", "/proc/self/coredump_filter", "/proc/1/status", "/proc/1/maps", "/proc/1/stat",
		"/proc/net/tcp", "/proc/net/udp", "/proc/net/unix", "/proc/net/snmp", "/proc/net/dev", "/proc/meminfo",
		"/proc/cpuinfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems",
		"/proc/mounts", "/proc/vmstat", "/proc/interrupts", "/proc/partitions", "/proc/sys", "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/pid_max", "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/sem",
		"/proc/sys/fs/mqueue/msg_max", "/proc/sys/fs/file-max", "/proc/sys/vm/overcommit_memory",
		"/proc/sys/net/core/somaxconn", "/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg", "/sys",
		"/sys/fs/cgroup", "/sys/devices/system/cpu", "/sys/devices/system/cpu/online", "/sys/kernel", "/sys/class/net/lo"};
	char *p;
	switch (below(24)) {
	case 0: return (const char *)bad();
	case 1: /* Long: a name or a path that is too long, or just not. */
		p = room(PAGE + 64);
		memset(p, one_in(2) ? 'n' : '/', PAGE + 63);
		p[PAGE + 63] = 0;
		static const int ends[] = {254, 255, 256, 4094, 4095, 4096, 4159};
		p[PICK(ends)] = 0;
		return p;
	case 2: /* Ends with memory, with no byte 0. */
		p = READ_PAGE - 1 - below(20);
		memset(p, 'z', READ_PAGE - p);
		return p;
	case 3:
		p = room(64);
		sprintf(p, "/proc/self/fd/%d", some_fd());
		return p;
	case 4:
		p = room(64);
		sprintf(p, "%s/%s", PICK(list), PICK(list));
		return p;
	case 5:
		p = room(64);
		sprintf(p, "/proc/%d/%s", (int)below(100) + 2, one_in(2) ? "status" : "fd");
		return p;
	case 6:
		p = room(64);
		fill(p, 63);
		p[63] = 0;
		return p;
	case 7: case 8: case 9: return PICK(list);
	default: return list[below(15)];
	}
}

static struct iovec *vectors(uint64_t *count) {
	int n = one_in(20) ? 1024 + below(3) : below(8);
	struct iovec *v = (void *)room((n + 1) * sizeof *v);
	for (int i = 0; i < n; i++) v[i] = (struct iovec){one_in(10) ? bad() : room(256), one_in(10) ? length() : below(200)};
	*count = one_in(10) ? number() : n;
	return one_in(20) ? (void *)bad() : v;
}

static char *address(uint64_t *len) {
	struct sockaddr_storage *s = (void *)room(sizeof *s);
	memset(s, 0, sizeof *s);
	switch (below(6)) {
	case 0: case 1: {
		struct sockaddr_un *a = (void *)s;
		a->sun_family = AF_UNIX;
		sprintf(a->sun_path + one_in(2), "%c", "abcs"[below(4)]);
		*len = one_in(3) ? below(sizeof *a + 2) : 2 + 3;
		break;
	}
	case 2: case 3: {
		struct sockaddr_in *a = (void *)s;
		a->sin_family = AF_INET;
		a->sin_port = htons(one_in(4) ? below(65536) : 2000 + below(8));
		a->sin_addr.s_addr = one_in(4) ? rnd() : htonl(one_in(3) ? INADDR_ANY : INADDR_LOOPBACK);
		*len = sizeof *a;
		break;
	}
	case 4: {
		struct sockaddr_in6 *a = (void *)s;
		a->sin6_family = AF_INET6;
		a->sin6_port = htons(2000 + below(8));
		a->sin6_addr = one_in(3) ? in6addr_any : in6addr_loopback;
		if (one_in(3)) a->sin6_addr.s6_addr[10] = a->sin6_addr.s6_addr[11] = 0xff;
		*len = sizeof *a;
		break;
	}
	default:
		fill(s, sizeof *s);
		s->ss_family = PICK(((const short[]){0, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 200}));
		*len = below(sizeof *s + 2);
	}
	if (one_in(12)) *len = number();
	return one_in(16) ? bad() : (char *)s;
}

/* A message with control data: descriptors, credentials, packet information, or nonsense. */
static struct msghdr *message(void) {
	struct msghdr *m = (void *)room(sizeof *m);
	uint64_t n;
	memset(m, 0, sizeof *m);
	if (one_in(3)) m->msg_name = address(&n), m->msg_namelen = n;
	m->msg_iov = vectors(&n), m->msg_iovlen = n;
	if (one_in(2)) {
		size_t len = one_in(16) ? below(2 * PAGE) : 16 + below(120);
		char *c = room(len);
		fill(c, len < 256 ? len : 256);
		if (!one_in(4) && len >= 32) {
			struct cmsghdr *h = (void *)c;
			h->cmsg_len = one_in(4) ? number() : 16 + below(len - 15);
			h->cmsg_level = one_in(4) ? below(300) : SOL_SOCKET;
			h->cmsg_type = one_in(8) ? number() : 1 + below(4);
			for (size_t i = 16; i + 4 <= len; i += 4) *(int *)(c + i) = one_in(20) ? (int)number() : some_fd();
		}
		m->msg_control = one_in(16) ? bad() : c;
		m->msg_controllen = one_in(12) ? number() : len;
	}
	m->msg_flags = one_in(2) ? 0 : flags();
	return one_in(20) ? (void *)bad() : m;
}

/* A time of two words: mostly some milliseconds. */
static void *moment(void) {
	int64_t *t = (void *)room(32);
	t[0] = one_in(8) ? number() : 0, t[1] = one_in(8) ? number() : below(3000000);
	t[2] = one_in(8) ? number() : 0, t[3] = one_in(8) ? number() : below(3000000);
	return one_in(8) ? NULL : one_in(20) ? (void *)bad() : t;
}

/* A filter of classic BPF: mostly well-formed instructions. */
static struct sock_fprog *filter(void) {
	int n = 1 + below(12);
	struct sock_filter *f = (void *)room(n * sizeof *f);
	static const uint16_t codes[] = {0x20, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x14, 0x15, 0x1c, 0x24, 0x25, 0x2c,
		0x34, 0x35, 0x3c, 0x44, 0x45, 0x54, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x80, 0x81, 0x84, 0x87, 0x94, 0xa4, 0x30, 0x28};
	for (int i = 0; i < n; i++) f[i] = (struct sock_filter){one_in(12) ? rnd() : PICK(codes), below(4), below(4), one_in(2) ? below(64) & ~3u : number()};
	static const uint32_t verdicts[] = {0x7fff0000, 0x7fff0000, 0x7fff0000, 0x00050001, 0x00050001, 0x00030000, 0x7ff00000, 0x7ffc0000, 0, 0x80000000, 0x7fc00000};
	f[n - 1] = (struct sock_filter){6, 0, 0, PICK(verdicts)};
	struct sock_fprog *p = (void *)room(sizeof *p);
	p->len = one_in(16) ? number() : n, p->filter = one_in(20) ? (void *)bad() : f;
	return p;
}
