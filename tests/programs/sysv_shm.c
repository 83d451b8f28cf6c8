/* System V shared memory: get, attach, detach, removal, counts, permissions, limits, fork, exec, /proc. Runs as root and drops. */
#include "check.h"
#include <grp.h>
#include <sys/ipc.h>
#include <sys/shm.h>
static int count(int id) { struct shmid_ds d; return shmctl(id, IPC_STAT, &d) < 0 ? -1 : (int)d.shm_nattch; }
static int in_file(const char *path, const char *what) { char line[512]; int n = 0; FILE *f = fopen(path, "r"); while (f && fgets(line, sizeof line, f)) n += strstr(line, what) != 0; if (f) fclose(f); return n; }
int main(int argc, char **argv) {
	setvbuf(stdout, 0, _IOLBF, 0);
	if (argc > 2) { printf("after exec %d\n", count(atoi(argv[2]))); return 0; }
	key_t key = 0x52000000 | getpid();
	struct shmid_ds d;
	OK(shmget(key, 10000, 0600));
	OK(shmget(key, 0, IPC_CREAT | 0600));
	int id = shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0640);
	IS(id >= 0);
	OK(shmget(key, 10000, IPC_CREAT | IPC_EXCL | 0640));
	IS(shmget(key, 10000, 0) == id);
	IS(shmget(key, 0, 0) == id);
	OK(shmget(key, 10001, 0));
	OK(shmget(IPC_PRIVATE, 0, 0600));
	OK(shmctl(id, IPC_STAT, &d));
	printf("mode %o size %zu nattch %lu\n", d.shm_perm.mode, d.shm_segsz, d.shm_nattch);
	IS(d.shm_cpid == getpid() && d.shm_lpid == 0 && d.shm_atime == 0 && d.shm_dtime == 0 && d.shm_ctime != 0 && d.shm_perm.__key == key);
	char *a = shmat(id, 0, 0), *b = shmat(id, 0, SHM_RDONLY);
	IS(a != (void *)-1 && b != (void *)-1 && a != b);
	VAL(count(id));
	strcpy(a + 9000, "shared");
	IS(!strcmp(b + 9000, "shared") && a[0] == 0 && a[12287] == 0);
	OK(mprotect(b, 4096, PROT_READ | PROT_WRITE));
	OK(mprotect(a, 4096, PROT_READ)); OK(mprotect(a, 4096, PROT_READ | PROT_WRITE));
	OK(shmat(id, (void *)0x1001, 0));
	OK(shmat(id, a, 0));
	OK(shmat(id, 0, SHM_REMAP));
	OK(shmat(-1, 0, 0)); OK(shmat(id + 1000000, 0, 0));
	char *hole = mmap(0, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	IS(shmat(id, hole + 100, SHM_RND | SHM_REMAP) == hole);
	VAL(count(id));
	IS(!strcmp(hole + 9000, "shared"));
	char name[32]; snprintf(name, sizeof name, "/SYSV%08x (deleted)", key);
	VAL(in_file("/proc/self/maps", name));
	OK(shmdt(hole + 4096)); OK(shmdt(hole)); OK(shmdt(hole)); OK(shmdt(a + 1)); OK(shmdt(main));
	VAL(count(id));
	munmap(b, 4096);
	VAL(count(id));
	OK(shmdt(b));
	VAL(count(id));
	int up[2], down[2]; char c; IS(!pipe(up) && !pipe(down));
	pid_t p = fork();
	if (!p) { strcpy(a, "child"); _exit(write(up[1], "x", 1) != 1 || read(down[0], &c, 1) != 1); }
	IS(read(up[0], &c, 1) == 1);
	VAL(count(id)); IS(!strcmp(a, "child"));
	IS(write(down[1], "x", 1) == 1); waitpid(p, 0, 0);
	VAL(count(id));
	shmctl(id, IPC_STAT, &d); IS(d.shm_lpid == p && d.shm_dtime != 0);
	p = vfork(); if (!p) { char t[20]; snprintf(t, sizeof t, "%d", id); execl(argv[0], argv[0], "exec", t, (char *)0); _exit(1); }
	waitpid(p, 0, 0);
	VAL(count(id));
	/* Removal: gone by key at once, by id with the last attachment. */
	OK(shmctl(id, IPC_RMID, 0));
	OK(shmget(key, 0, 0));
	OK(shmctl(id, IPC_STAT, &d)); printf("mode %o key %d\n", d.shm_perm.mode, d.shm_perm.__key);
	b = shmat(id, 0, 0); IS(b != (void *)-1 && !strcmp(b, "child"));
	int again = shmget(key, 4096, IPC_CREAT | 0600); IS(again >= 0 && again != id); OK(shmctl(again, IPC_RMID, 0)); OK(shmctl(again, IPC_STAT, &d));
	OK(shmctl(id, IPC_RMID, 0));
	OK(shmdt(a)); OK(shmctl(id, IPC_STAT, &d)); OK(shmdt(b)); OK(shmctl(id, IPC_STAT, &d)); OK(shmat(id, 0, 0));
	/* Permissions. */
	id = shmget(key, 4096, IPC_CREAT | 0640);
	p = fork();
	if (!p) {
		OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000));
		OK(shmget(key, 0, 0)); OK(shmget(key, 0, 0400)); OK(shmat(id, 0, 0)); OK(shmat(id, 0, SHM_RDONLY)); OK(shmctl(id, IPC_STAT, &d)); OK(shmctl(id, IPC_RMID, 0)); OK(shmctl(id, IPC_SET, &d)); OK(shmctl(id, SHM_LOCK, 0));
		_exit(0);
	}
	waitpid(p, 0, 0);
	shmctl(id, IPC_STAT, &d); d.shm_perm.uid = 1000; d.shm_perm.gid = 100; d.shm_perm.mode = 0444; OK(shmctl(id, IPC_SET, &d));
	p = fork();
	if (!p) {
		OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000));
		OK(shmat(id, 0, 0)); OK(shmat(id, 0, SHM_RDONLY)); OK(shmctl(id, IPC_STAT, &d)); printf("%o %d %d %d %d\n", d.shm_perm.mode, d.shm_perm.uid, d.shm_perm.gid, d.shm_perm.cuid, d.shm_perm.cgid); OK(shmctl(id, IPC_RMID, 0));
		_exit(0);
	}
	waitpid(p, 0, 0);
	OK(shmctl(id, IPC_STAT, &d));
	id = shmget(IPC_PRIVATE, 1 << 20, 0600);
	OK(shmctl(id, SHM_LOCK, 0)); shmctl(id, IPC_STAT, &d); printf("locked %o\n", d.shm_perm.mode); OK(shmctl(id, SHM_UNLOCK, 0));
	OK(shmctl(id, 99, &d)); OK(shmctl(-1, IPC_STAT, &d)); OK(shmctl(id, IPC_STAT, (void *)8)); OK(shmctl(id, IPC_SET, (void *)8));
	struct shminfo i; OK(shmctl(0, IPC_INFO, (void *)&i)); printf("%lu %lu %lu %lu %lu\n", i.shmmax, i.shmmin, i.shmmni, i.shmseg, i.shmall);
	struct shm_info s; int top = shmctl(0, SHM_INFO, (void *)&s); IS(top >= 0 && s.used_ids >= 1 && s.shm_tot >= 256);
	int found = 0; for (int n = 0; n <= top; n++) if (shmctl(n, SHM_STAT, &d) == id) found++; VAL(found);
	found = 0; for (int n = 0; n <= top; n++) if (shmctl(n, SHM_STAT_ANY, &d) == id) found++; VAL(found);
	char line[64]; snprintf(line, sizeof line, "%10d %10d   600 %21d ", 0, id, 1 << 20); VAL(in_file("/proc/sysvipc/shm", line));
	/* Threads of one space are one attachment; the end of a process that is killed detaches. */
	p = fork(); if (!p) { IS(shmat(id, 0, 0) != (void *)-1); fflush(stdout); if (write(up[1], "x", 1) == 1) pause(); _exit(0); }
	IS(read(up[0], &c, 1) == 1); VAL(count(id)); kill(p, SIGKILL); waitpid(p, 0, 0); VAL(count(id));
	OK(shmctl(id, IPC_RMID, 0));
	return 0;
}
