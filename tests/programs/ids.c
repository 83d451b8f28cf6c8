/* users, groups, capabilities, names. Runs as root and drops. */
#include "check.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/utsname.h>
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	printf("%d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
	gid_t g[3] = {30, 10, 20}, o[8]; OK(setgroups(3, g)); VAL(getgroups(8, o)); printf("groups %d %d %d\n", o[0], o[1], o[2]); OK(getgroups(1, o)); OK(getgroups(-1, o));
	pid_t p = fork();
	if (!p) {
		uid_t r, e, s;
		OK(setresuid(1000, 1001, 1002)); OK(getresuid(&r, &e, &s)); printf("%d %d %d\n", r, e, s); OK(setuid(5)); OK(seteuid(1002)); OK(setreuid(-1, 1000)); OK(setresuid(0, -1, -1)); OK(setgid(0)); OK(setgid(5)); OK(setgroups(0, 0)); VAL(setfsuid(1000)); OK(chown(".", 1, 1)); OK(sethostname("x", 1)); OK(kill(getppid(), 0)); OK(setpriority(PRIO_PROCESS, 0, -5)); OK(chroot(".")); fflush(stdout); _exit(0);
	}
	wait(0);
	int f = open("secret", O_CREAT | O_WRONLY, 0600); close(f); mkdir("closed", 0700); chmod(".", 0755);
	p = fork();
	if (!p) { OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000)); OK(open("secret", O_RDONLY)); OK(access("secret", R_OK)); OK(chdir("closed")); OK(open("new", O_CREAT, 0600)); OK(unlink("secret")); OK(chmod("secret", 0777)); OK(rename("secret", "x")); OK(mkdir("closed/x", 0777)); OK(setuid(0)); fflush(stdout); _exit(0); }
	wait(0);
	struct utsname u; OK(uname(&u)); IS(!strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64")); OK(uname((void *)8));
	VAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); VAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)); OK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); OK(prctl(12345, 0, 0, 0, 0));
	uint32_t h[2] = {0x20080522, 0}, d[6]; OK(syscall(SYS_capget, h, d)); h[0] = 1; OK(syscall(SYS_capget, h, d)); printf("version %x\n", h[0]);
	VAL(getpriority(PRIO_PROCESS, 0)); OK(getpriority(99, 0)); OK(setpriority(PRIO_PROCESS, 0, 5)); VAL(getpriority(PRIO_PROCESS, 0));
	return 0;
}
