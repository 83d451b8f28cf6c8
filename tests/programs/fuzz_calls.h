/* What each system call takes. A letter stands for an argument, see `argument`; `=` before them says that the result is
   a descriptor. `ops` are the values of the letter C. Calls that are not here get arguments of any kind. */
#pragma once
#include "fuzz_args.h"

static int fds[64] = {0};
static pid_t children[16];

/* Descriptors by kind, for the calls that want one. */
enum kind { SOCKETS, EPOLLS, TIMERS, WATCHES, QUEUES, PROCESSES, FILES, TERMINALS, PIPES, KINDS };
static int by_kind[KINDS][16];
static int wanted = KINDS;

static int some_fd(void) {
	int fd = wanted < KINDS && !one_in(8) ? by_kind[wanted][below(16)] : 0;
	return fd ? fd : one_in(24) ? (int)number() : fds[below(64)];
}

/* The kind that a call wants, or KINDS. */
static enum kind wanted_by(int nr) {
	switch (nr) {
	case SYS_socket ... SYS_getsockopt: case SYS_accept4: case SYS_sendmmsg: case SYS_recvmmsg: return SOCKETS;
	case SYS_epoll_ctl: case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_epoll_pwait2: case SYS_epoll_create1: return EPOLLS;
	case SYS_timerfd_create: case SYS_timerfd_settime: case SYS_timerfd_gettime: return TIMERS;
	case SYS_inotify_init1: case SYS_inotify_add_watch: case SYS_inotify_rm_watch: return WATCHES;
	case SYS_mq_open ... SYS_mq_getsetattr: return QUEUES;
	case SYS_pidfd_open: case SYS_pidfd_send_signal: case SYS_pidfd_getfd: case SYS_process_madvise: case SYS_process_mrelease: return PROCESSES;
	case SYS_open: case SYS_openat: case SYS_memfd_create: case SYS_pread64: case SYS_pwrite64: case SYS_ftruncate: case SYS_fallocate: case SYS_lseek:
	case SYS_fsetxattr: case SYS_fgetxattr: case SYS_flistxattr: case SYS_copy_file_range: case SYS_getdents64: return FILES;
	case SYS_ioctl: return one_in(2) ? TERMINALS : KINDS;
	case SYS_splice: case SYS_tee: case SYS_vmsplice: return PIPES;
	}
	return KINDS;
}

/* A process: this one, its children, nobody; never the first process or all. */
static int some_pid(void) {
	int pid = one_in(4) ? 0 : one_in(3) ? getpid() : one_in(2) ? children[below(16)] : one_in(4) ? 3000000 : 2 + (int)below(60);
	return pid == 1 || pid == -1 ? 0 : pid;
}

typedef const unsigned long ops_t[];

struct call {
	int number;
	const char *types;
	const unsigned long *ops;
	int count;
};

#define CALL(name, types) {SYS_##name, types, 0, 0}
#define OPS(name, types, ...) {SYS_##name, types, (ops_t){__VA_ARGS__}, sizeof((ops_t){__VA_ARGS__}) / sizeof(long)}

static const struct call calls[] = {
	CALL(read, "fbn"), CALL(write, "fbn"), CALL(open, "=pOw"), CALL(openat, "=dpOw"), CALL(close, "f"),
	CALL(stat, "pb"), CALL(fstat, "fb"), CALL(lstat, "pb"), CALL(poll, "bct"), CALL(lseek, "foe"),
	OPS(mmap, "ANCmfo", 0, 1, 2, 3, 4, 5, 6, 7, 0x1000003), OPS(mprotect, "ANC", 0, 1, 2, 3, 4, 5, 6, 7),
	CALL(munmap, "AN"), CALL(brk, "A"), CALL(rt_sigaction, "Gbb8"), CALL(rt_sigprocmask, "eSS8"),
	OPS(ioctl, "fCb", 0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5407, 0x5408, 0x5409, 0x540a, 0x540b, 0x540c,
		0x540d, 0x540e, 0x540f, 0x5410, 0x5411, 0x5412, 0x5413, 0x5414, 0x5415, 0x5418, 0x541b, 0x541d, 0x5420, 0x5421,
		0x5422, 0x5423, 0x5424, 0x5429, 0x5450, 0x5451, 0x5452, 0x80045430, 0x40045431, 0x5456, 0x5457, 0x8004667f,
		0x8901, 0x8902, 0x8903, 0x8904, 0x8905, 0x8906, 0x8910, 0x8912, 0x8913, 0x8914, 0x8915, 0x891b, 0x8927, 0x8933,
		0x40086602, 0x80086601, 0x1261, 0x5441, 0x5430, 0x40049409, 0xb701, 0xb702),
	CALL(pread64, "fbno"), CALL(pwrite64, "fbno"), CALL(readv, "fvc"), CALL(writev, "fvc"), CALL(preadv, "fvcoo"),
	CALL(pwritev, "fvcoo"), CALL(preadv2, "fvcoom"), CALL(pwritev2, "fvcoom"), CALL(access, "pe"), CALL(pipe, "b"),
	CALL(pipe2, "bO"), CALL(select, "cbbbT"), CALL(pselect6, "cbbbtb"), CALL(sched_yield, ""), CALL(mremap, "ANNmA"),
	CALL(msync, "ANm"), CALL(mincore, "ANb"), OPS(madvise, "ANC", 0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 100, 101),
	CALL(shmget, "Knm"), CALL(shmat, "KAm"), CALL(shmctl, "Keb"), CALL(shmdt, "A"), CALL(dup, "=f"), CALL(dup2, "=fi"),
	CALL(dup3, "=fiO"), CALL(nanosleep, "tb"), CALL(getitimer, "eb"), CALL(alarm, "e"), CALL(setitimer, "etb"),
	CALL(sendfile, "ffbn"), OPS(socket, "=Cee", 1, 1, 2, 2, 10, 10, 16, 17, 0, 38, 40), CALL(connect, "fal"), CALL(accept, "=faL"),
	CALL(accept4, "=faLO"), CALL(sendto, "fbnmal"), CALL(recvfrom, "fbnmaL"), CALL(sendmsg, "fMm"), CALL(recvmsg, "fMm"),
	CALL(sendmmsg, "fbcm"), CALL(recvmmsg, "fbcmt"), CALL(shutdown, "fe"), CALL(bind, "fal"), CALL(listen, "fi"),
	CALL(getsockname, "faL"), CALL(getpeername, "faL"), OPS(socketpair, "Ceeb", 1, 1, 1, 2),
	OPS(setsockopt, "fCebl", 1, 0, 6, 17, 41, 270), OPS(getsockopt, "fCebL", 1, 0, 6, 17, 41, 270),
	CALL(wait4, "Pebb"), CALL(waitid, "ePbeb"), CALL(kill, "Ps"), CALL(tkill, "Ps"), CALL(tgkill, "PPs"), CALL(uname, "b"),
	CALL(semget, "Kem"), CALL(semop, "Kbc"), CALL(semtimedop, "Kbct"), CALL(semctl, "Keeb"), CALL(msgget, "Km"),
	CALL(msgsnd, "Kbnm"), CALL(msgrcv, "Kbnim"), CALL(msgctl, "Keb"),
	OPS(fcntl, "fCi", 0, 1, 2, 3, 4, 8, 9, 10, 11, 1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038),
	OPS(fcntl, "fCb", 5, 6, 7, 15, 16, 36, 37, 38, 1035, 1036, 1037, 1038), CALL(flock, "fe"), CALL(fsync, "f"), CALL(fdatasync, "f"),
	CALL(truncate, "po"), CALL(ftruncate, "fo"), CALL(getdents, "fbn"), CALL(getdents64, "fbn"), CALL(getcwd, "bn"),
	CALL(chdir, "p"), CALL(fchdir, "f"), CALL(rename, "pp"), CALL(mkdir, "pw"), CALL(rmdir, "p"), CALL(creat, "=pw"),
	CALL(link, "pp"), CALL(unlink, "p"), CALL(symlink, "pp"), CALL(readlink, "pbn"), CALL(chmod, "pw"), CALL(fchmod, "fw"),
	CALL(chown, "puu"), CALL(fchown, "fuu"), CALL(lchown, "puu"), CALL(umask, "w"), CALL(gettimeofday, "bb"),
	CALL(getrlimit, "eb"), CALL(getrusage, "eb"), CALL(sysinfo, "b"), CALL(times, "b"), CALL(syslog, "ebn"),
	CALL(setuid, "u"), CALL(setgid, "u"), CALL(setreuid, "uu"), CALL(getgroups, "cb"), CALL(setgroups, "cb"),
	CALL(setresuid, "uuu"), CALL(getresuid, "bbb"), CALL(setpgid, "PP"), CALL(getpgid, "P"), CALL(getsid, "P"), CALL(setsid, ""),
	CALL(setfsuid, "u"), CALL(capget, "bb"), CALL(capset, "bb"), CALL(rt_sigpending, "S8"), CALL(rt_sigtimedwait, "Sbt8"),
	CALL(rt_sigqueueinfo, "Psb"), CALL(rt_tgsigqueueinfo, "PPsb"), CALL(rt_sigsuspend, "S8"), CALL(sigaltstack, "bb"),
	CALL(utime, "pb"), CALL(utimes, "pT"), CALL(mknod, "pwi"), CALL(mknodat, "dpwi"), CALL(personality, "m"), CALL(statfs, "pb"),
	CALL(fstatfs, "fb"), CALL(getpriority, "eP"), CALL(setpriority, "ePe"), CALL(sched_setparam, "Pb"), CALL(sched_getparam, "Pb"),
	CALL(sched_setscheduler, "Peb"), CALL(sched_getscheduler, "P"), CALL(sched_rr_get_interval, "Pb"), CALL(mlock, "AN"),
	CALL(munlock, "AN"), CALL(mlockall, "e"), CALL(munlockall, ""), CALL(modify_ldt, "ebn"), CALL(pivot_root, "pp"),
	OPS(prctl, "Cbiii", 1, 2, 3, 4, 7, 8, 13, 14, 15, 16, 21, 23, 24, 25, 26, 27, 28, 29, 30, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 45, 47, 53, 59, 65, 66, 67, 0x53564d41, 0x59616d61),
	OPS(prctl, "Ceiii", 1, 3, 4, 8, 22, 23, 24, 28, 29, 35, 36, 37, 38, 41, 47, 53, 62), OPS(arch_prctl, "CA", 0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012, 0x1021, 0x1022, 0x3001),
	CALL(adjtimex, "b"), OPS(setrlimit, "Cb", 1, 3, 4, 5, 8, 10, 11, 12, 13, 14, 15, 16), CALL(chroot, "p"), CALL(mount, "pppmb"), CALL(umount2, "pe"),
	CALL(swapon, "pm"), CALL(sethostname, "bn"), CALL(setdomainname, "bn"), CALL(iopl, "e"), CALL(quotactl, "mpub"), CALL(gettid, ""),
	CALL(readahead, "fon"), CALL(setxattr, "pxbnm"), CALL(lsetxattr, "pxbnm"), CALL(fsetxattr, "fxbnm"), CALL(getxattr, "pxbn"),
	CALL(lgetxattr, "pxbn"), CALL(fgetxattr, "fxbn"), CALL(listxattr, "pbn"), CALL(flistxattr, "fbn"), CALL(removexattr, "px"),
	CALL(fremovexattr, "fx"), CALL(time, "b"), OPS(futex, "bCitbi", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 128, 129, 131, 132, 133, 134, 135, 136, 137, 138, 265, 393),
	CALL(sched_setaffinity, "Pnb"), CALL(sched_getaffinity, "Pnb"), CALL(io_setup, "nb"), CALL(io_destroy, "i"), CALL(io_getevents, "iccbt"),
	CALL(io_submit, "icb"), CALL(io_cancel, "ibb"), CALL(epoll_create, "=i"), CALL(epoll_create1, "=O"), OPS(epoll_ctl, "fCfb", 1, 1, 2, 3, 4),
	CALL(epoll_wait, "fbct"), CALL(epoll_pwait, "fbceS8"), CALL(epoll_pwait2, "fbctS8"), CALL(remap_file_pages, "ANeom"),
	CALL(set_tid_address, "b"), CALL(restart_syscall, ""), CALL(fadvise64, "fone"), CALL(timer_create, "kbb"), CALL(timer_settime, "eetb"),
	CALL(timer_gettime, "eb"), CALL(timer_getoverrun, "e"), CALL(timer_delete, "e"), CALL(clock_settime, "kt"), CALL(clock_gettime, "kb"),
	CALL(clock_getres, "kb"), CALL(clock_nanosleep, "ketb"), CALL(mbind, "ANebnm"), CALL(set_mempolicy, "ebn"), CALL(get_mempolicy, "bbnAm"),
	CALL(mq_open, "=pOwb"), CALL(mq_unlink, "p"), CALL(mq_timedsend, "fbnet"), CALL(mq_timedreceive, "fbnbt"), CALL(mq_notify, "fb"),
	CALL(mq_getsetattr, "fbb"), CALL(add_key, "ppbni"), CALL(keyctl, "ebbbb"), CALL(ioprio_set, "ePi"), CALL(ioprio_get, "eP"),
	CALL(inotify_init1, "=O"), CALL(inotify_add_watch, "fpm"), CALL(inotify_rm_watch, "fe"), CALL(mkdirat, "dpw"),
	CALL(fchownat, "dpuum"), CALL(futimesat, "dpT"), CALL(newfstatat, "dpbm"), CALL(unlinkat, "dpm"), CALL(renameat2, "dpdpe"),
	CALL(linkat, "dpdpm"), CALL(symlinkat, "pdp"), CALL(readlinkat, "dpbn"), CALL(fchmodat, "dpw"), CALL(fchmodat2, "dpwm"),
	CALL(faccessat2, "dpem"), CALL(ppoll, "bctS8"), CALL(unshare, "m"), CALL(setns, "fm"), CALL(set_robust_list, "bn"),
	CALL(get_robust_list, "Pbb"), CALL(splice, "fbfbnm"), CALL(splice, "f0f0ne"), CALL(tee, "ffnm"), CALL(vmsplice, "fvcm"),
	CALL(sync_file_range, "foom"), CALL(utimensat, "dpTm"), CALL(signalfd4, "=fS8O"), CALL(timerfd_create, "=kO"),
	CALL(timerfd_settime, "fetb"), CALL(timerfd_gettime, "fb"), CALL(eventfd2, "=iO"), CALL(fallocate, "fmoo"), CALL(perf_event_open, "=bPiii"),
	CALL(fanotify_init, "=mO"), OPS(prlimit64, "0Cbb", 1, 3, 4, 5, 8, 10, 11, 12, 13, 14, 15, 16), CALL(name_to_handle_at, "dpbbm"),
	CALL(open_by_handle_at, "=dbO"), CALL(syncfs, "f"), CALL(getcpu, "bb"), CALL(process_vm_readv, "Pvcvcm"), CALL(process_vm_writev, "Pvcvcm"),
	CALL(kcmp, "PPeff"), CALL(sched_setattr, "Pbm"), CALL(sched_getattr, "Pbnm"), CALL(getrandom, "bnm"), CALL(memfd_create, "=pm"),
	CALL(bpf, "ebn"), CALL(userfaultfd, "=O"), OPS(membarrier, "Cem", 0, 1, 2, 4, 8, 16, 32, 64, 128, 256), CALL(mlock2, "ANe"),
	CALL(copy_file_range, "fbfbnm"), CALL(copy_file_range, "f0f0nm"), CALL(pkey_mprotect, "ANei"), CALL(pkey_alloc, "ee"), CALL(pkey_free, "e"),
	CALL(statx, "dpmmb"), CALL(rseq, "bnmi"), CALL(pidfd_send_signal, "fsbm"), CALL(io_uring_setup, "=nb"), CALL(pidfd_open, "=Pm"),
	CALL(close_range, "iie"), CALL(openat2, "=dpbn"), CALL(pidfd_getfd, "=ffm"), CALL(process_madvise, "fvcem"), CALL(mount_setattr, "dpmbn"),
	CALL(landlock_create_ruleset, "=bnm"), CALL(memfd_secret, "=O"), CALL(process_mrelease, "fm"), CALL(futex_waitv, "bcmtk"), CALL(seccomp, "emb"),
	CALL(fchdir, "f"), CALL(getxattr, "pxbn"), CALL(exit, "e"), CALL(execve, "pgg"), CALL(execveat, "dpggm"), CALL(ptrace, "ePbb"),
};
#define CALLS (sizeof calls / sizeof *calls)

static char **strings(void) {
	int n = one_in(10) ? 500 : below(4);
	char **list = (void *)room((n + 1) * sizeof *list);
	for (int i = 0; i < n; i++) list[i] = one_in(20) ? bad() : (char *)path();
	list[n] = one_in(20) ? bad() : NULL;
	return one_in(8) ? (void *)bad() : list;
}

/* `f` descriptor, `d` directory, `p` path, `b` memory, `n` length, `i` number, `e` small number, `m` flags, `O` flags of
   open, `w` mode, `P` process, `s` signal that does not end, `G` signal, `t` time in nanoseconds, `T` in microseconds, `v`
   iovecs, `c` their number, `M` message, `a` address, `l` its length, `L` a pointer to it, `A` page, `N` length in pages,
   `o` offset, `u` user, `k` clock, `K` key or id of System V, `x` name of an attribute, `g` arguments of a program, `S`
   signal set, `8` size of it, `0` nothing, `C` one of the call's own values. */
static uint64_t argument(char type, const struct call *call, uint64_t *counted) {
	static const int signals[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGUSR1, SIGALRM, 0, 34, 64};
	static const char *const names[] = {"user.a", "user.b", "user.", "trusted.x", "security.capability", "system.posix_acl_access", "nothing", ""};
	char *p;
	switch (type) {
	case 'f': return some_fd();
	case 'd': return one_in(2) ? AT_FDCWD : some_fd();
	case 'p': return (uint64_t)path();
	case 'b': return (uint64_t)buffer();
	case 'n': return length();
	case 'i': return number();
	case 'e': return one_in(20) ? number() : below(one_in(4) ? 64 : 8);
	case 'm': return one_in(3) ? 0 : flags();
	case 'O': {
		static const int bits[] = {O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC, O_PATH, O_TMPFILE, O_DIRECT, O_SYNC, O_NOCTTY, O_NOATIME, O_ASYNC};
		uint64_t f = below(3) | O_NONBLOCK * !one_in(4);
		for (int n = below(4); n > 0; n--) f |= PICK(bits);
		return one_in(20) ? flags() : f;
	}
	case 'w': return one_in(4) ? number() : PICK(((const int[]){0, 0600, 0755, 0777, 04755, S_IFIFO | 0600, S_IFSOCK | 0600, S_IFCHR | 0600, 01777}));
	case 'P': return some_pid();
	case 's': return one_in(30) ? below(66) : PICK(signals);
	case 'G': return 1 + below(65);
	case 't': case 'T': return (uint64_t)moment();
	case 'v': return (uint64_t)vectors(counted);
	case 'c': { uint64_t n = *counted; *counted = below(8); return one_in(10) ? number() : n; }
	case 'M': return (uint64_t)message();
	case 'a': return (uint64_t)address(counted);
	case 'l': { uint64_t n = *counted; *counted = 4; return one_in(16) ? number() : n; }
	case 'L': p = room(8); *(uint64_t *)p = one_in(10) ? number() : below(200); return one_in(12) ? (uint64_t)bad() : (uint64_t)p;
	case 'A': return (uint64_t)pages();
	case 'N': return page_count();
	case 'o': return offset();
	case 'u': return one_in(4) ? number() : one_in(2) ? 0 : -1;
	case 'k': return one_in(8) ? number() : below(12);
	case 'K': return one_in(8) ? number() : below(12);
	case 'x': return one_in(12) ? (uint64_t)path() : (uint64_t)PICK(names);
	case 'g': return (uint64_t)strings();
	case 'S': p = room(8); *(uint64_t *)p = one_in(4) ? rnd() : 0; return one_in(8) ? (uint64_t)bad() : (uint64_t)p;
	case '8': return one_in(30) ? number() : 8;
	case 'C': return one_in(20) ? number() : call->ops[below(call->count)];
	default: return 0;
	}
}

static void note_fd(int fd) {
	if (fd < 3) return;
	if (wanted < KINDS) PICK(by_kind[wanted]) = fd;
	int *slot = &fds[below(64)];
	if (*slot > 2 && one_in(2)) close(*slot);
	*slot = fd;
}

/* Calls that end or divide the caller, or wait for a signal for good: those that storms make, or none. */
static int left_out(int nr) {
	switch (nr) {
	case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_clone3: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_reboot: case SYS_pause:
		return 1;
	}
	return 0;
}

/* One call at random. What it was is left in `words`: the number, then the arguments. */
static void any_call(volatile uint64_t *words) {
	static const char any[] = "fdpbniemOwPsvcaAoKSe0";
	const struct call *call = &calls[below(CALLS)];
	const char *types = call->types;
	struct call other = {below(470), "", 0, 0};
	char made[7] = {0};
	if (one_in(12) && !left_out(other.number) && other.number != SYS_kill && other.number != SYS_tkill && other.number != SYS_tgkill && other.number != SYS_prlimit64 &&
	    other.number != SYS_rt_sigqueueinfo && other.number != SYS_rt_tgsigqueueinfo && other.number != SYS_setrlimit) {
		for (int i = 0; i < 6; i++) made[i] = any[below(sizeof any - 1)];
		call = &other, types = made;
	}
	if ((call->number == SYS_exit || call->number == SYS_execve || call->number == SYS_execveat) && !one_in(20)) return;
	uint64_t a[6] = {0}, counted = below(8);
	wanted = wanted_by(call->number);
	int descriptor = *types == '=';
	for (int i = 0; i < 6 && types[descriptor + i]; i++) a[i] = argument(types[descriptor + i], call, &counted);
	if (call->number == SYS_select || call->number == SYS_pselect6) a[0] &= 0xffff;
	words[0] = call->number;
	for (int i = 0; i < 6; i++) words[1 + i] = a[i];
	long r = syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (descriptor && r >= 0) note_fd(r);
}
