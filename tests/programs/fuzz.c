/* `fuzz SEED SECONDS [PROCESSES [STORM]]`: system calls at random, alone and in storms, from processes that are replaced when
   they block, end or have done enough. It must be the first process of a container: what is left of the storms comes
   to it, and signals do not end it. Prints how many calls there were, or which process could not be killed.
   `fuzz ping` says that it runs. `fuzz one SEED` runs what one process would, by itself. */
#include "fuzz_storms.h"
#include <dirent.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

/* What the parent sees of a process, on a page of its own: calls made so far, and the last one. */
struct slot {
	volatile uint64_t progress, words[7];
};

static volatile uint64_t spare[7];
volatile uint64_t *words = spare;

static void interrupted(int s) { (void)s; }

static void fault(int s) {
	(void)s;
	siglongjmp(again, 1);
}

static void by_their_kinds(void) {
	static const struct { const char *name; enum kind kind; } names[] = {{"socket:", SOCKETS}, {"anon_inode:[eventpoll]", EPOLLS}, {"anon_inode:[timerfd]", TIMERS},
		{"anon_inode:inotify", WATCHES}, {"/q", QUEUES}, {"anon_inode:[pidfd]", PROCESSES}, {"/tmp/", FILES}, {"/memfd:", FILES}, {"/dev/pts/", TERMINALS}, {"/dev/ptmx", TERMINALS}, {"pipe:", PIPES}};
	int counts[KINDS] = {0};
	for (int i = 3; i < 64; i++) {
		char name[64], link[256] = {0};
		sprintf(name, "/proc/self/fd/%d", fds[i]);
		if (readlink(name, link, sizeof link - 1) < 0) continue;
		for (unsigned k = 0; k < sizeof names / sizeof *names; k++)
			if (!strncmp(link, names[k].name, strlen(names[k].name))) by_kind[names[k].kind][counts[names[k].kind]++ % 16] = fds[i];
	}
	for (int k = 0; k < KINDS; k++) for (int i = counts[k]; counts[k] && i < 16; i++) by_kind[k][i] = by_kind[k][i % counts[k]];
}

static void begin(void) {
	int pair[2];
	mkdir("d", 0777), symlink("a", "l"), symlink("loop", "loop"), mkfifo("fifo", 0600);
	int n = 3;
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	fds[n++] = open("a", O_CREAT | O_RDWR, 0600);
	fds[n++] = open("b", O_CREAT | O_RDWR | O_APPEND, 0600);
	fds[n++] = open(".", O_RDONLY | O_DIRECTORY);
	fds[n++] = open("d", O_PATH);
	fds[n++] = open("/proc/self", O_RDONLY);
	fds[n++] = open("/proc/self/maps", O_RDONLY);
	fds[n++] = open("/proc/self/mem", O_RDWR);
	fds[n++] = open("/proc/meminfo", O_RDONLY);
	fds[n++] = open("/dev/null", O_RDWR);
	fds[n++] = open("/dev/zero", O_RDWR);
	fds[n++] = open("/sys", O_RDONLY);
	fds[n++] = open("fifo", O_RDWR | O_NONBLOCK);
	for (int i = 0; i < 2; i++) if (!pipe2(pair, O_NONBLOCK * i)) fds[n++] = pair[0], fds[n++] = pair[1];
	static const int kinds[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_UNIX, SOCK_SEQPACKET}};
	for (int i = 0; i < 3; i++) if (!socketpair(kinds[i][0], kinds[i][1], 0, pair)) fds[n++] = pair[0], fds[n++] = pair[1];
	static const int single[][2] = {{AF_UNIX, SOCK_STREAM}, {AF_UNIX, SOCK_DGRAM}, {AF_INET, SOCK_STREAM}, {AF_INET, SOCK_STREAM}, {AF_INET, SOCK_DGRAM}, {AF_INET6, SOCK_STREAM}, {AF_INET6, SOCK_DGRAM}, {AF_NETLINK, SOCK_RAW}};
	for (int i = 0; i < 8; i++) fds[n++] = socket(single[i][0], single[i][1] | SOCK_NONBLOCK, 0);
	fds[n++] = epoll_create1(0);
	fds[n++] = epoll_create1(0);
	fds[n++] = eventfd(1, EFD_NONBLOCK);
	fds[n++] = eventfd(1, EFD_SEMAPHORE);
	fds[n++] = timerfd_create(CLOCK_MONOTONIC, 0);
	fds[n++] = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	sigset_t some = {0};
	sigaddset(&some, SIGUSR2);
	fds[n++] = signalfd(-1, &some, SFD_NONBLOCK);
	fds[n++] = inotify_init1(IN_NONBLOCK);
	inotify_add_watch(fds[n - 1], ".", IN_ALL_EVENTS);
	fds[n++] = memfd_create("m", MFD_ALLOW_SEALING);
	fds[n++] = arena_file;
	fds[n++] = syscall(SYS_pidfd_open, getpid(), 0);
	fds[n++] = syscall(SYS_pidfd_open, getppid(), 0);
	char name[16];
	sprintf(name, "/q%d", (int)below(4));
	fds[n++] = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, NULL);
	fds[n] = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (fds[n] > 0) {
		grantpt(fds[n]), unlockpt(fds[n]);
		fds[n + 1] = ioctl(fds[n], 0x5441, O_RDWR | O_NOCTTY | O_NONBLOCK);
		n += 2;
	}
	timer_t timer;
	timer_create(CLOCK_MONOTONIC, &none, &timer);
	by_their_kinds();
}

/* One process: a few thousand calls, then it ends. */
static void work(struct slot *slot, uint64_t seed) {
	static char stack[65536];
	state = mix(seed, 3);
	words = slot->words;
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){512, 512});
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	setpgid(0, 0);
	int adj = open("/proc/self/oom_score_adj", O_WRONLY);
	if (write(adj, "500", 3) < 0) _exit(1);
	close(adj);
	make_arena();
	begin();
	if (one_in(4)) setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000);
	volatile int calls = 0;
	while (calls < 3000) {
		if (calls % 64 == 0) {
			sigaltstack(&(stack_t){stack, 0, sizeof stack}, NULL);
			sigset_t none = {0};
			sigprocmask(SIG_SETMASK, &none, NULL);
			struct sigaction a = {.sa_handler = fault, .sa_flags = SA_ONSTACK | SA_NODEFER};
			sigaction(SIGSEGV, &a, NULL), sigaction(SIGBUS, &a, NULL);
			a = (struct sigaction){.sa_handler = interrupted};
			sigaction(SIGALRM, &a, NULL);
			static const int others[] = {SIGPIPE, SIGXFSZ, SIGUSR1, SIGUSR2, SIGIO, SIGHUP, SIGTERM, SIGSYS, 34, 64};
			for (unsigned i = 0; i < sizeof others / sizeof *others; i++) sigaction(others[i], &a, NULL);
			setitimer(ITIMER_REAL, &(struct itimerval){{0, 5000}, {0, 5000}}, NULL);
			while (waitpid(-1, NULL, WNOHANG | __WALL) > 0) ;
		}
		if (calls % 256 == 255) make_arena();
		if (sigsetjmp(again, 1)) make_arena();
		calls++;
		slot->progress++;
		if (only >= 0 || one_in(60)) storm();
		else any_call(slot->words);
	}
	_exit(0);
}

static int64_t milliseconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Kills what storms have left: children of this process that are not its own. */
static void sweep(const pid_t *own, int count) {
	DIR *dir = opendir("/proc");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		int pid = atoi(e->d_name), parent = 0, mine = 0;
		if (pid < 2) continue;
		char name[64], text[512] = {0};
		sprintf(name, "/proc/%d/stat", pid);
		int fd = open(name, O_RDONLY);
		if (fd < 0) continue;
		ssize_t n = read(fd, text, sizeof text - 1);
		close(fd);
		char *end = n > 0 ? strrchr(text, ')') : NULL;
		if (end) sscanf(end + 1, " %*c %d", &parent);
		for (int i = 0; i < count; i++) mine |= own[i] == pid;
		if (parent == 1 && !mine) kill(pid, SIGKILL);
	}
	if (dir) closedir(dir);
}

/* Removes what outlives processes: else memory is used up by what nobody knows any more. */
static void clean(void) {
	int last = shmctl(0, SHM_INFO, (void *)&(struct shm_info){0});
	for (int i = 0; i <= last; i++) { int id = shmctl(i, SHM_STAT, &(struct shmid_ds){0}); if (id >= 0) shmctl(id, IPC_RMID, NULL); }
	last = msgctl(0, MSG_INFO, (void *)&(struct msginfo){0});
	for (int i = 0; i <= last; i++) { int id = msgctl(i, MSG_STAT, &(struct msqid_ds){0}); if (id >= 0) msgctl(id, IPC_RMID, NULL); }
	last = semctl(0, 0, SEM_INFO, &(struct seminfo){0});
	for (int i = 0; i <= last; i++) { int id = semctl(i, 0, SEM_STAT, &(struct semid_ds){0}); if (id >= 0) semctl(id, 0, IPC_RMID); }
	for (int i = 0; i < 4; i++) { char name[8]; sprintf(name, "/q%d", i); mq_unlink(name); }
}

int main(int argc, char **argv) {
	if (argc > 1 && !strcmp(argv[1], "ping")) return puts("here"), 0;
	if (argc < 3) return 2;
	uint64_t seed = strtoull(argv[2 - !!strcmp(argv[1], "one")], NULL, 0);
	int count = argc > 3 ? atoi(argv[3]) : 4;
	if (count < 1 || count > 64) return 2;
	if (argc > 4) only = atoi(argv[4]);
	struct slot *slots[64];
	for (int i = 0; i < count; i++) slots[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!strcmp(argv[1], "one")) work(slots[0], seed);
	int64_t end = milliseconds() + 1000 * atoll(argv[2]), swept = 0, sweeps = 0;
	pid_t pids[64] = {0};
	uint64_t seen[64] = {0}, made = 0, total = 0;
	int64_t since[64] = {0}, killed[64] = {0};
	while (milliseconds() < end) {
		usleep(10000);
		int64_t now = milliseconds();
		for (int i = 0; i < count; i++) {
			if (!pids[i]) {
				char name[32];
				sprintf(name, "/tmp/w%d", i);
				mkdir(name, 0777), chmod(name, 0777);
				uint64_t own = mix(seed, ++made);
				/* With mounts of its own: another root or no /proc for this process would leave nothing to do. */
				pids[i] = syscall(SYS_clone, SIGCHLD | CLONE_NEWNS, 0, 0, 0, 0);
				if (!pids[i]) {
					if (chdir(name)) _exit(1);
					work(slots[i], own);
				}
				if (pids[i] < 0) pids[i] = 0;
				since[i] = now, killed[i] = 0;
			}
			if (slots[i]->progress != seen[i]) {
				total += slots[i]->progress - seen[i];
				seen[i] = slots[i]->progress, since[i] = now;
			}
			if (pids[i] && now - since[i] > 500) {
				kill(-pids[i], SIGKILL), kill(pids[i], SIGKILL);
				if (!killed[i]) killed[i] = now;
			}
			if (killed[i] && now - killed[i] > 60000) {
				printf("process %d cannot be killed; last call", pids[i]);
				for (int k = 0; k < 7; k++) printf(" %#lx", (unsigned long)slots[i]->words[k]);
				puts("");
				return 1;
			}
		}
		for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG | __WALL)) > 0;) for (int i = 0; i < count; i++) if (pids[i] == pid) pids[i] = 0;
		if (now - swept > 300) {
			sweep(pids, count);
			if (++sweeps % 8 == 0) clean();
			swept = now;
		}
	}
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0) ;
	printf("%lu calls of %lu processes\n", (unsigned long)total, (unsigned long)made);
	return 0;
}
