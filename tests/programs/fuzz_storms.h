/* What a single call does not reach: processes, threads, programs that are broken, instructions at random, tracing,
   filters, deep structures. Each storm leaves its children to the one that reaps. */
#pragma once
#include "fuzz_calls.h"
#include <elf.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/user.h>

extern volatile uint64_t *words;
static char pool[1 << 16];
static sigjmp_buf again;

/* A child that runs on here with a state of its own; the parent gets its number. */
static pid_t child(void) {
	uint64_t next = rnd();
	pid_t pid = fork();
	if (pid == 0) {
		state = mix(next, 1);
		setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL);
		return 0;
	}
	if (pid > 0) PICK(children) = pid;
	return pid;
}

static void some_calls(int n) {
	if (sigsetjmp(again, 1)) make_arena();
	while (n-- > 0) any_call(words);
}

static void forks(void) {
	if (child()) return;
	if (one_in(2)) for (int n = below(4); n > 0; n--) if (!child()) break;
	some_calls(below(40));
	_exit(0);
}

static void *thread(void *seed) {
	state = mix((uint64_t)seed, 2);
	for (int n = 0; n < 60; n++) any_call(words);
	return NULL;
}

static void threads(void) {
	if (child()) return;
	pthread_t t;
	for (int n = 1 + below(4); n > 0; n--) if (!pthread_create(&t, NULL, thread, (void *)rnd())) pthread_detach(t);
	some_calls(60);
	if (one_in(3)) usleep(5000);
	if (one_in(2)) execl("/proc/self/exe", "fuzz", "ping", NULL);
	_exit(0);
}

static int entered(void *at) {
	(void)at;
	for (int n = below(6); n > 0; n--) any_call(words);
	return 0;
}

/* clone with flags at random, on a stack of its own where memory is shared. */
static void clones(void) {
	if (child()) return;
	static char stack[65536];
	unsigned long bits = flags() & ~(unsigned long)(CLONE_PARENT | CLONE_NEWUSER | CLONE_NEWPID);
	if (one_in(3)) bits |= CLONE_VM | CLONE_SIGHAND | CLONE_THREAD;
	if (one_in(2)) bits = (bits & ~0xfful) | SIGCHLD;
	if (one_in(2)) {
		uint64_t *args = (void *)room(88);
		fill(args, 88);
		args[0] = bits & ~(uint64_t)CLONE_VM;
		args[4] = one_in(4) ? number() : SIGCHLD, args[5] = args[6] = 0;
		if (!one_in(4)) args[8] = args[9] = args[10] = 0;
		if (!syscall(SYS_clone3, args, one_in(4) ? number() : 88)) _exit(0);
	} else if (bits & CLONE_VM) {
		clone(entered, stack + sizeof stack, bits & ~(unsigned long)CLONE_SETTLS, NULL, buffer(), NULL, buffer());
	} else if (!syscall(SYS_clone, bits & ~(unsigned long)CLONE_SETTLS, 0, buffer(), buffer(), 0)) {
		_exit(0);
	}
	_exit(0);
}

/* Programs whose headers are nearly right. */
static void programs(void) {
	if (child()) return;
	char name[32];
	sprintf(name, "x%d", getpid());
	int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0755);
	if (one_in(5)) {
		static const char *const lines[] = {"#!", "#! \n", "#!/proc/self/exe x\n", "#!/dev/null\n", "#!%s\n", "#!/tmp\n", "#!/missing a b c"};
		dprintf(fd, PICK(lines), name);
		if (one_in(2)) for (int i = 0; i < 300; i++) dprintf(fd, "y");
	} else {
		struct { Elf64_Ehdr h; Elf64_Phdr p[4]; char code[16]; } elf = {0};
		memcpy(elf.h.e_ident, "\177ELF\2\1\1", 7);
		elf.h.e_type = one_in(2) ? ET_DYN : ET_EXEC, elf.h.e_machine = EM_X86_64, elf.h.e_version = 1;
		elf.h.e_phoff = sizeof elf.h, elf.h.e_ehsize = sizeof elf.h, elf.h.e_phentsize = sizeof *elf.p, elf.h.e_phnum = 4;
		elf.h.e_entry = 0x400000 + (elf.code - (char *)&elf);
		elf.p[0] = (Elf64_Phdr){PT_LOAD, 5, 0, 0x400000, 0x400000, sizeof elf, sizeof elf, PAGE};
		elf.p[1] = (Elf64_Phdr){PT_LOAD, 6, 0, 0x402000, 0x402000, sizeof elf, 4 * PAGE, PAGE};
		elf.p[2] = (Elf64_Phdr){PICK(((const uint32_t[]){PT_INTERP, PT_GNU_STACK, PT_TLS, PT_NULL, PT_GNU_PROPERTY})), 6, 64, 0, 0, 16, 16, 16};
		elf.p[3] = (Elf64_Phdr){PT_LOAD, 7, PAGE * below(3), 0x500000, 0x500000, 0, PAGE * below(3), PAGE};
		memcpy(elf.code, "\x31\xff\xb8\xe7\0\0\0\x0f\x05", 9);
		for (int n = below(4); n > 0; n--) {
			uint64_t v = number();
			size_t size = 1ul << below(4), at = below(sizeof elf - 8) & ~(size - 1);
			memcpy((char *)&elf + at, &v, size);
		}
		if (write(fd, &elf, one_in(8) ? below(sizeof elf) : sizeof elf) < 0) _exit(1);
	}
	close(fd);
	char *const args[] = {name, NULL};
	execve(name, args, args);
	unlink(name);
	_exit(0);
}

/* Instructions at random, with registers and flags at random. */
static void instructions(void) {
	pid_t pid = child();
	if (pid) return;
	static const char *const list[] = {"\x0f\x05", "\x0f\x05", "\xcd\x80", "\xcd\x20", "\xcd\x03", "\xcc", "\xf1", "\x0f\x34", "\x0f\x0b", "\xf4",
		"\x48\xcf", "\x48\x0f\x07", "\x0f\xa2", "\x0f\x31", "\x9d", "\x9c", "\x0f\x01\xd0", "\x0f\x01\xd1", "\x0f\x01\xf8", "\x0f\x01\xc1", "\x0f\x01\xca",
		"\xf3\x48\x0f\xae\xd0", "\xf3\x48\x0f\xae\xd8", "\x8e\xd8", "\x8e\xc0", "\x8e\xe0", "\x8e\xe8", "\x8e\xd0", "\x0f\x22\xd8", "\x0f\x30", "\x0f\x32",
		"\xfa", "\xfb", "\x0f\x06", "\x0f\xae\x08", "\x0f\xae\x28", "\x48\x0f\xc7\x28", "\xc5\xfc\x77", "\xdb\xe3", "\xd9\xf6", "\xf0\x0f\xc7\xc8", "\xcb", "\x48\xcb", "\xc3",
		"\x0f\xae\x10", "\xe4\x80", "\xe6\x80", "\xec", "\xee", "\x0f\x00\xd8", "\x0f\x00\xc8", "\x0f\x01\x10", "\x0f\x01\x18", "\x0f\x01\xe0", "\x0f\x0d\x00", "\x66\x0f\xae\x38", "\xf3\x0f\xc7\xf8"};
	uint8_t *code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED) _exit(1);
	uint8_t *p = code + (one_in(3) ? PAGE - below(20) : 0);
	for (int n = 1 + below(12); n > 0; n--) {
		if (one_in(3)) {
			*p++ = rnd();
		} else if (one_in(5)) { /* mov of a number to a register */
			uint64_t v = one_in(3) ? (uint64_t)ARENA + below(ARENA_PAGES * PAGE) : number();
			*p++ = 0x48, *p++ = 0xb8 + below(8), memcpy(p, &v, 8), p += 8;
		} else if (one_in(6)) { /* push of flags */
			*p++ = 0x68;
			uint32_t v = one_in(2) ? rnd() : 0x100 << below(12);
			memcpy(p, &v, 4), p += 4, *p++ = 0x9d;
		} else {
			const char *s = PICK(list);
			size_t len = strlen(s);
			if (!len) len = 2;
			memcpy(p, s, len), p += len;
		}
	}
	memcpy(p, "\xb8\xe7\0\0\0\x31\xff\x0f\x05", 9);
	if (one_in(2)) for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
	alarm(1);
	long entry = (long)(code + (p - code >= (long)PAGE ? PAGE - 20 : 0));
	if (one_in(3)) { /* By way of rt_sigreturn, so that all registers are chosen. */
		static struct { ucontext_t uc; } frame;
		fill(&frame, sizeof frame);
		frame.uc.uc_mcontext.gregs[REG_RIP] = one_in(4) ? number() : entry;
		frame.uc.uc_mcontext.gregs[REG_EFL] = one_in(2) ? 0x202 : rnd();
		frame.uc.uc_mcontext.gregs[REG_CSGSFS] = one_in(2) ? 0x2b000000000033 : rnd();
		frame.uc.uc_mcontext.fpregs = one_in(2) ? NULL : one_in(2) ? (void *)bad() : (void *)room(2 * PAGE);
		frame.uc.uc_flags = below(8);
		__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; ud2" : : "r"(&frame) : "memory");
	}
	((void (*)(void))entry)();
	_exit(0);
}

/* Memory: mappings that split, overlap and move while they are used. */
static void mappings(void) {
	char *base = ARENA + 1024 * PAGE;
	uint64_t span = one_in(8) ? 4096 : 64;
	for (int n = 0; n < 60; n++) {
		char *at = base + below(span) * PAGE;
		uint64_t len = (1 + below(span / 4)) * PAGE;
		switch (below(9)) {
		case 0: case 1: mmap(at, len, below(8), MAP_FIXED | MAP_ANONYMOUS | (one_in(3) ? MAP_SHARED : MAP_PRIVATE) | (one_in(8) ? MAP_GROWSDOWN : 0) | (one_in(8) ? MAP_LOCKED : 0), -1, 0); break;
		case 2: mmap(at, len, below(8), MAP_FIXED | (one_in(2) ? MAP_SHARED : MAP_PRIVATE), some_fd(), offset() & ~(PAGE - 1)); break;
		case 3: munmap(at, len); break;
		case 4: mprotect(at, len, below(8)); break;
		case 5: madvise(at, len, below(26)); break;
		case 6: mremap(at, len, (1 + below(span)) * PAGE, below(8), base + below(span) * PAGE); break;
		case 7: syscall(SYS_process_vm_readv, getpid(), &(struct iovec){at, len}, 1, &(struct iovec){base + below(span) * PAGE, len}, 1, 0); break;
		default: if (!sigsetjmp(again, 1)) memset(at, n, len < 8 * PAGE ? len : 8 * PAGE); break;
		}
	}
	if (one_in(2)) forks();
	munmap(base, span * 2 * PAGE);
}

static void tracing(void) {
	pid_t pid = child();
	if (!pid) {
		if (one_in(2)) ptrace(PTRACE_TRACEME, 0, 0, 0);
		if (one_in(2)) raise(SIGSTOP);
		some_calls(30);
		if (one_in(2)) execl("/proc/self/exe", "fuzz", "ping", NULL);
		_exit(0);
	}
	if (pid < 0) return;
	static const int ops[] = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15, 16, 17, 24, 25, 31, 32, 0x4200, 0x4201, 0x4202, 0x4203, 0x4204, 0x4205, 0x4206, 0x4207, 0x4208, 0x4209, 0x420a, 0x420b, 0x420c, 0x420d, 0x420e, 0x420f};
	static const int sets[] = {1, 2, 0x202, 0x200, 3, 7};
	if (one_in(2)) syscall(SYS_ptrace, one_in(2) ? PTRACE_ATTACH : PTRACE_SEIZE, pid, 0, one_in(2) ? below(256) : 0);
	for (int n = 0; n < 40; n++) {
		int status;
		if (one_in(3)) waitpid(pid, &status, WNOHANG | __WALL);
		if (one_in(6)) usleep(500);
		int op = PICK(ops);
		uint64_t *data = (void *)buffer();
		if (op == PTRACE_SETREGS && !one_in(4)) {
			struct user_regs_struct *r = (void *)room(sizeof *r);
			if (ptrace(PTRACE_GETREGS, pid, 0, r)) continue;
			for (int k = below(3); k > 0; k--) ((uint64_t *)r)[below(27)] = one_in(2) ? number() : (uint64_t)ARENA;
			data = (void *)r;
		}
		if (op == PTRACE_GETREGSET || op == PTRACE_SETREGSET) {
			struct iovec *v = (void *)room(16);
			*v = (struct iovec){one_in(8) ? bad() : room(4096), one_in(6) ? number() : below(4097)};
			syscall(SYS_ptrace, op, pid, PICK(sets), v);
			continue;
		}
		syscall(SYS_ptrace, op, pid, one_in(2) ? (uint64_t)pages() : number(), op == 7 || op == 24 || op == 9 ? (one_in(3) ? below(65) : 0) : (uint64_t)data);
	}
	if (!one_in(4)) kill(pid, SIGKILL);
}

static void filters(void) {
	if (child()) return;
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int n = 1 + below(3); n > 0; n--) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, one_in(3) ? flags() : 0, filter());
	some_calls(30);
	_exit(0);
}

/* Chains: what is freed one after the other must not be freed one inside the other. */
static void chains(void) {
	if (child()) return;
	int depth = one_in(6) ? 3000 : 200, pair[2], before = -1;
	switch (below(6)) {
	case 0: /* Directories */
		for (int i = 0; i < depth && !mkdir("deep", 0700) && !chdir("deep"); i++) ;
		if (one_in(2)) any_call(words);
		for (int i = 0; i < depth && !chdir("..") && !rmdir("deep"); i++) ;
		break;
	case 1: /* Sockets, each in the queue of the next */
		for (int i = 0; i < depth && !socketpair(AF_UNIX, one_in(2) ? SOCK_STREAM : SOCK_DGRAM, 0, pair); i++) {
			char control[CMSG_SPACE(8)] = {0}, byte = 0;
			struct iovec v = {&byte, 1};
			struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
			struct cmsghdr *h = CMSG_FIRSTHDR(&m);
			h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(8);
			((int *)CMSG_DATA(h))[0] = before < 0 ? pair[0] : before, ((int *)CMSG_DATA(h))[1] = pair[one_in(2)];
			sendmsg(pair[1], &m, MSG_DONTWAIT);
			close(pair[1]);
			if (before >= 0) close(before);
			before = pair[0];
		}
		break;
	case 2: /* epoll in epoll */
		for (int i = 0; i < 100; i++) {
			int fd = epoll_create1(0);
			if (before >= 0) epoll_ctl(fd, EPOLL_CTL_ADD, before, &(struct epoll_event){EPOLLIN | (one_in(2) ? EPOLLET : 0), {0}});
			before = fd;
		}
		epoll_wait(before, (void *)room(1000), 10, 0);
		break;
	case 3: /* Processes, each the parent of the next */
		for (int i = 0; i < 20; i++) if (child()) break;
		break;
	case 4: /* Links, each to the next */
		for (int i = 0; i < 60; i++) {
			char from[16], to[16];
			sprintf(from, "s%d", i), sprintf(to, "s%d", i + 1);
			symlink(to, from);
		}
		access("s0", 0);
		break;
	case 5: /* Mounts on mounts, in a namespace of its own */
		if (syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0)) break;
		mkdir("m", 0700);
		for (int i = 0; i < 60 && !mount("tmpfs", "m", one_in(8) ? "proc" : "tmpfs", 0, NULL); i++) if (one_in(3)) mount("m", "d", NULL, MS_BIND | MS_REC * one_in(2), NULL);
		some_calls(20);
		umount2("m", MNT_DETACH);
		break;
	}
	_exit(0);
}

/* Signals: handlers, stacks and masks at random, many at once. */
static void quiet(int s) { (void)s; if (one_in(50)) any_call(words); }

static void signals(void) {
	pid_t pid = child();
	if (!pid) {
		for (int n = 0; n < 20; n++) {
			struct sigaction a = {.sa_handler = one_in(5) ? (void *)number() : quiet, .sa_flags = flags() & (SA_NOCLDSTOP | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND)};
			sigaction(1 + below(64), &a, NULL);
		}
		if (one_in(3)) sigaltstack(&(stack_t){one_in(3) ? bad() : room(8192), 0, one_in(4) ? number() : 8192}, NULL);
		for (int n = 0; n < 20; n++) raise(1 + below(64));
		some_calls(20);
		_exit(0);
	}
	for (int n = 0; n < 20 && pid > 0; n++) sigqueue(pid, 1 + below(64), (union sigval){0});
}

/* The only storm to make, or -1: to find what one of them does. */
static int only = -1;

static void storm(void) {
	static void (*const list[])(void) = {forks, forks, threads, clones, programs, programs, instructions, instructions, instructions, mappings, mappings, tracing, filters, chains, signals};
	int n = only >= 0 ? only : below(sizeof list / sizeof *list);
	words[0] = 10000 + n;
	list[n]();
}
