/* clone, fork, vfork, exec, exit, wait4, waitid, process groups, sessions, limits. */
#include "check.h"

static int child(void (*f)(void)) {
	pid_t p = fork();
	if (!p) { f(); _exit(99); }
	int s = 0;
	if (waitpid(p, &s, 0) != p) return -1;
	return s;
}
static void exits(void) { _exit(7); }
static void exits_high(void) { _exit(0x1ff); }
static void aborts(void) { struct rlimit l = {0, 0}; setrlimit(RLIMIT_CORE, &l); abort(); }
static void killed(void) { raise(SIGKILL); }
static void faults(void) { struct rlimit l = {0, 0}; setrlimit(RLIMIT_CORE, &l); *(volatile int *)8 = 1; }
static void grandchildren(void) { for (int i = 0; i < 5; i++) if (!fork()) { if (!fork()) _exit(0); wait(0); _exit(0); } int n = 0; while (wait(0) > 0) n++; _exit(n); }

int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	printf("exit %x\n", child(exits));
	printf("exit high %x\n", child(exits_high));
	printf("abort %x\n", child(aborts) & 0x7f);
	printf("kill %x\n", child(killed));
	printf("fault %x\n", child(faults) & 0x7f);
	printf("grandchildren %x\n", child(grandchildren));
	OK(wait(0));
	OK(waitpid(-1, 0, WNOHANG));
	OK(waitpid(999999, 0, 0));
	OK(wait4(-1, 0, 0x10000000, 0));
	int s;
	pid_t p = fork();
	if (!p) { pause(); _exit(0); }
	VAL(waitpid(p, &s, WNOHANG));
	OK(kill(p, 0));
	OK(kill(p, SIGSTOP));
	IS(waitpid(p, &s, WUNTRACED) == p && WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP);
	OK(kill(p, SIGCONT));
	IS(waitpid(p, &s, WCONTINUED) == p && WIFCONTINUED(s));
	OK(kill(p, SIGTERM));
	siginfo_t i = {0};
	IS(!waitid(P_PID, p, &i, WEXITED | WNOWAIT) && i.si_pid == p && i.si_code == CLD_KILLED && i.si_status == SIGTERM);
	IS(waitpid(p, &s, 0) == p && WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM);
	OK(kill(p, 0));
	OK(waitid(P_PID, p, &i, WEXITED));
	OK(waitid(P_ALL, 0, &i, 0));
	p = vfork();
	if (!p) { execl("/nosuch", "nosuch", (char *)0); _exit(errno); }
	IS(waitpid(p, &s, 0) == p && WEXITSTATUS(s) == ENOENT);
	p = fork();
	if (!p) { if (!vfork()) { prctl(PR_SET_PDEATHSIG, SIGKILL); pause(); } _exit(0); }
	usleep(20000);
	OK(kill(p, SIGKILL));
	IS(waitpid(p, &s, 0) == p && WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL);
	OK(execl("/nosuch", "x", (char *)0));
	OK(execl(".", "x", (char *)0));
	int fd = open("notexec", O_CREAT | O_WRONLY, 0644);
	IS(write(fd, "#!/bin/sh\n", 10) == 10);
	close(fd);
	OK(execl("./notexec", "x", (char *)0));
	fd = open("garbage", O_CREAT | O_WRONLY, 0755);
	IS(write(fd, "garbage\n", 8) == 8);
	close(fd);
	OK(execl("./garbage", "x", (char *)0));
	fd = open("short", O_CREAT | O_WRONLY, 0755);
	IS(write(fd, "\177ELF\2\1\1", 7) == 7);
	close(fd);
	OK(execl("./short", "x", (char *)0));
	IS(getpgid(0) == getpgrp());
	OK(setpgid(999999, 0));
	OK(setpgid(0, -1));
	p = fork();
	if (!p) { IS(setsid() == getpid()); IS(getsid(0) == getpid()); OK(setpgid(0, 0)); OK(setsid()); fflush(stdout); _exit(0); }
	waitpid(p, &s, 0);
	struct rlimit l;
	OK(getrlimit(99, &l));
	OK(prlimit(0, RLIMIT_NOFILE, 0, &l));
	l.rlim_cur = 64; l.rlim_max = 32;
	OK(setrlimit(RLIMIT_NOFILE, &l));
	VAL(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0));
	VAL(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0));
	VAL(syscall(SYS_clone3, 0, 1));
	OK(prctl(PR_SET_NAME, "renamed"));
	char name[16] = "";
	OK(prctl(PR_GET_NAME, name));
	IS(!strcmp(name, "renamed"));
	OK(prctl(PR_SET_PDEATHSIG, 99));
	OK(prctl(PR_SET_DUMPABLE, 5));
	int pfd = syscall(SYS_pidfd_open, getpid(), 0);
	IS(pfd >= 0);
	OK(syscall(SYS_pidfd_send_signal, pfd, 0, 0, 0));
	OK(syscall(SYS_pidfd_open, 0, 0));
	char own[32]; sprintf(own, "/proc/%d", getpid());
	int dir = open(own, O_RDONLY | O_DIRECTORY);
	OK(syscall(SYS_pidfd_send_signal, dir, 0, 0, 0));
	OK(syscall(SYS_pidfd_send_signal, open("/proc", O_RDONLY), 0, 0, 0));
	OK(syscall(SYS_pidfd_send_signal, open("/proc/self/task", O_RDONLY), 0, 0, 0));
	OK(syscall(SYS_pidfd_send_signal, open(own, O_PATH), 0, 0, 0));
	OK(syscall(SYS_waitid, 3, dir, 0, WEXITED, 0));
	pid_t gone = fork();
	if (!gone) pause();
	sprintf(own, "/proc/%d", gone); dir = open(own, O_RDONLY);
	OK(syscall(SYS_pidfd_send_signal, dir, SIGKILL, 0, 0));
	VAL(waitpid(gone, &s, 0) == gone && WTERMSIG(s) == SIGKILL);
	OK(syscall(SYS_pidfd_send_signal, dir, 0, 0, 0));
	for (int k = 0; k < 100; k++) if (!fork()) _exit(k);
	int sum = 0;
	while (wait(&s) > 0) sum += WEXITSTATUS(s);
	printf("sum %d\n", sum);
	return 42;
}
