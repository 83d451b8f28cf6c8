/* Set-user-id and set-group-id programs: ids, capabilities, AT_SECURE, no_new_privs, nosuid mounts, scripts. Copies itself. */
#include "check.h"
#include <sched.h>
#include <grp.h>
#include <sys/auxv.h>
#include <sys/mount.h>
static void show(void) {
	uid_t r, e, s; gid_t rg, eg, sg; getresuid(&r, &e, &s); getresgid(&rg, &eg, &sg);
	printf("uid %d %d %d gid %d %d %d secure %lu aux %lu %lu\n", r, e, s, rg, eg, sg, getauxval(AT_SECURE), getauxval(AT_UID), getauxval(AT_EUID));
	uint32_t h[2] = {0x20080522, 0}, d[6]; syscall(SYS_capget, h, d); char line[128]; unsigned long long bounding = 0; FILE *f = fopen("/proc/self/status", "r"); while (f && fgets(line, sizeof line, f)) sscanf(line, "CapBnd: %llx", &bounding);
	unsigned long long p = d[1] | (unsigned long long)d[4] << 32, x = d[0] | (unsigned long long)d[3] << 32; printf("permitted %s effective %s\n", p == bounding ? "all" : p ? "some" : "none", x == bounding ? "all" : x ? "some" : "none");
	VAL(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}
static void run(const char *what, const char *program, uid_t uid, gid_t gid, int how) {
	printf("-- %s\n", what); fflush(stdout);
	pid_t p = fork(); int st;
	if (!p) {
		if (setgroups(0, 0) || setresgid(gid, gid, gid)) _exit(2);
		if (how == 3) { if (setresuid(-1, uid, -1)) _exit(3); } else if (setresuid(uid, uid, uid)) _exit(3);
		if (how == 1 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(4);
		if (how == 2) { char *v[] = {(char *)program, "show", 0}; char *e[] = {0}; if (!syscall(SYS_clone, CLONE_FS | SIGCHLD, 0, 0, 0, 0)) { usleep(300000); _exit(0); } execve(program, v, e); }
		else execl(program, program, "show", (char *)0);
		printf("exec %s\n", strerrorname_np(errno)); fflush(stdout); _exit(5);
	}
	waitpid(p, &st, 0); printf("status %d\n", WEXITSTATUS(st));
}
static void copy(const char *from, const char *to, uid_t uid, gid_t gid, mode_t mode) { static char b[1 << 20]; int f = open(from, O_RDONLY), t = open(to, O_CREAT | O_WRONLY | O_TRUNC, 0700), n; while ((n = read(f, b, sizeof b)) > 0) if (write(t, b, n) != n) _exit(9); close(f); close(t); if (chown(to, uid, gid) || chmod(to, mode)) _exit(9); }
int main(int argc, char **argv) {
	setvbuf(stdout, 0, _IOLBF, 0);
	if (argc > 1) { show(); return 0; }
	umask(0); chmod(".", 0755); mkdir("d", 0755); OK(mount("tmpfs", "d", "tmpfs", 0, "mode=755"));
	const char *me = "/proc/self/exe";
	copy(me, "d/root", 0, 0, 04755); copy(me, "d/user", 1000, 1000, 04755); copy(me, "d/group", 0, 50, 02755); copy(me, "d/lock", 0, 50, 02745); copy(me, "d/both", 1000, 50, 06755); copy(me, "d/plain", 0, 0, 0755);
	int f = open("d/script", O_CREAT | O_WRONLY, 0755); dprintf(f, "#!%s/d/plain\n", getcwd((char[512]){0}, 512)); close(f); chmod("d/script", 06755);
	run("plain as user", "d/plain", 2000, 2000, 0); run("root's as user", "d/root", 2000, 2000, 0); run("user's as another", "d/user", 2000, 2000, 0); run("user's as root", "d/user", 0, 0, 0); run("group's", "d/group", 2000, 2000, 0); run("group's without x", "d/lock", 2000, 2000, 0); run("both", "d/both", 2000, 2000, 0); run("own", "d/user", 1000, 1000, 0);
	run("no new privileges", "d/root", 2000, 2000, 1); run("no new privileges, group's", "d/group", 2000, 2000, 1); run("shared directories", "d/root", 2000, 2000, 2); run("script", "d/script", 2000, 2000, 0); run("plain with two ids", "d/plain", 2000, 0, 3); run("user's with two ids", "d/user", 2000, 0, 3);
	/* Writing takes the bits away, and so does a change of owner. */
	struct stat s; pid_t p = fork(); chmod("d/user", 06777); if (!p) { if (setresuid(2000, 2000, 2000)) _exit(1); int w = open("d/user", O_WRONLY); _exit(w < 0 || write(w, "\177", 1) != 1); } int st; waitpid(p, &st, 0); OK(stat("d/user", &s)); printf("%o\n", s.st_mode);
	OK(chown("d/both", 3000, 3000)); OK(stat("d/both", &s)); printf("%o\n", s.st_mode);
	OK(mount(0, "d", 0, MS_REMOUNT | MS_NOSUID, 0)); run("nosuid", "d/root", 2000, 2000, 0); run("nosuid, group's", "d/group", 2000, 2000, 0);
	OK(umount2("d", MNT_DETACH));
	return 0;
}
