/* System V semaphores: operations all at once or not at all, waiting, hand-over, undo, removal, permissions, limits. */
#include "check.h"
#include <grp.h>
#include <sys/ipc.h>
#include <sys/sem.h>
union semun { int val; struct semid_ds *buf; unsigned short *array; struct seminfo *info; };
static int id;
static int op1(int n, int v, int f) { struct sembuf o = {n, v, f}; return semop(id, &o, 1); }
static void show(void) { unsigned short v[3]; union semun u = {.array = v}; if (semctl(id, 0, GETALL, u) < 0) printf("values: %s\n", strerrorname_np(errno)); else printf("values %d %d %d\n", v[0], v[1], v[2]); }
/* Until so many wait. */
static void until(int n, int cmd, int want) { for (int i = 0; i < 20000 && semctl(id, n, cmd) != want; i++) usleep(500); printf("waiting %d\n", semctl(id, n, cmd)); }
static void nothing(int s) { (void)s; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	key_t key = 0x53000000 | getpid();
	union semun u; struct semid_ds d; pid_t p, q; int st;
	OK(semget(key, 3, 0600)); OK(semget(key, 0, IPC_CREAT | 0600)); OK(semget(key, -1, IPC_CREAT | 0600)); OK(semget(key, 32001, IPC_CREAT | 0600));
	id = semget(key, 3, IPC_CREAT | IPC_EXCL | 0600);
	IS(id >= 0); IS(semget(key, 0, 0) == id); IS(semget(key, 3, 0) == id); OK(semget(key, 4, 0)); OK(semget(key, 3, IPC_CREAT | IPC_EXCL));
	show();
	u.buf = &d; OK(semctl(id, 0, IPC_STAT, u)); printf("%o %lu\n", d.sem_perm.mode, d.sem_nsems); IS(d.sem_otime == 0 && d.sem_ctime != 0);
	unsigned short v[3] = {1, 2, 3}; u.array = v; OK(semctl(id, 0, SETALL, u)); show();
	v[1] = 32768; OK(semctl(id, 0, SETALL, u)); show();
	u.val = 5; OK(semctl(id, 1, SETVAL, u)); u.val = -1; OK(semctl(id, 1, SETVAL, u)); u.val = 32768; OK(semctl(id, 1, SETVAL, u)); u.val = 0; OK(semctl(id, 3, SETVAL, u)); OK(semctl(id, -1, SETVAL, u));
	VAL(semctl(id, 1, GETVAL)); OK(semctl(id, 3, GETVAL)); IS(semctl(id, 1, GETPID) == getpid());
	/* All or nothing. */
	struct sembuf o[3] = {{0, -1, 0}, {1, -5, 0}, {2, -4, IPC_NOWAIT}};
	OK(semop(id, o, 3)); show(); o[2].sem_op = -3; OK(semop(id, o, 3)); show();
	struct sembuf z[2] = {{0, 0, IPC_NOWAIT}, {0, 7, 0}}; OK(semop(id, z, 2)); OK(semop(id, z, 2)); show();
	OK(op1(0, 32767, 0)); show(); OK(op1(3, 1, 0)); OK(op1(0, -8, IPC_NOWAIT)); OK(semop(id, o, 0)); OK(semop(id, o, 501)); OK(semop(-1, o, 1)); OK(semop(id, (void *)8, 1)); OK(semop(id + 1000000, o, 1));
	semctl(id, 0, IPC_STAT, (union semun){.buf = &d}); IS(d.sem_otime != 0);
	struct timespec t = {0, 20000000}, bad = {0, 1000000000}; struct sembuf w = {1, -1, 0};
	OK(semtimedop(id, &w, 1, &t)); OK(semtimedop(id, &w, 1, &bad)); t.tv_nsec = 0; OK(semtimedop(id, &w, 1, &t)); OK(semtimedop(id, &w, 1, (void *)8));
	/* Waiting and hand-over. */
	p = fork(); if (!p) { alarm(20); _exit(op1(1, -1, 0) ? errno : 42); }
	until(1, GETNCNT, 1); OK(op1(1, 1, 0)); VAL(semctl(id, 1, GETVAL)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); IS(semctl(id, 1, GETPID) == p);
	op1(1, 1, 0); p = fork(); if (!p) { alarm(20); _exit(op1(1, 0, 0) ? errno : 43); }
	until(1, GETZCNT, 1); VAL(semctl(id, 1, GETNCNT)); OK(op1(1, -1, 0)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st));
	/* The first who waits gets it, though the giver asks again at once. */
	p = fork(); if (!p) { alarm(20); _exit(op1(1, -1, 0) ? errno : 44); }
	until(1, GETNCNT, 1); op1(1, 1, 0); OK(op1(1, -1, IPC_NOWAIT)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st));
	/* A waiter whose operations need two semaphores, and one that frees another. */
	u.val = 0; for (int i = 0; i < 3; i++) semctl(id, i, SETVAL, u);
	p = fork(); if (!p) { struct sembuf x[2] = {{0, -1, 0}, {1, -1, 0}}; alarm(20); _exit(semop(id, x, 2) ? errno : 45); }
	until(0, GETNCNT, 1);
	q = fork(); if (!q) { struct sembuf x[2] = {{2, -1, 0}, {1, 1, 0}}; alarm(20); _exit(semop(id, x, 2) ? errno : 46); }
	until(2, GETNCNT, 1);
	op1(0, 1, 0); show(); until(1, GETNCNT, 1); op1(2, 1, 0); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); waitpid(q, &st, 0); VAL(WEXITSTATUS(st)); show();
	/* A signal ends the wait, SA_RESTART or not; SETVAL wakes too. */
	p = fork(); if (!p) { struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART}; sigaction(SIGUSR1, &a, 0); alarm(20); _exit(op1(1, -1, 0) ? errno == EINTR ? 47 : 1 : 2); }
	until(1, GETNCNT, 1); kill(p, SIGUSR1); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); VAL(semctl(id, 1, GETNCNT));
	p = fork(); if (!p) { alarm(20); _exit(op1(1, -2, 0) ? errno : 48); }
	until(1, GETNCNT, 1); u.val = 3; OK(semctl(id, 1, SETVAL, u)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); show();
	/* Undo at the end, also of one that is killed; not in a child; forgotten by SETVAL. */
	u.val = 5; for (int i = 0; i < 3; i++) semctl(id, i, SETVAL, u);
	p = fork(); if (!p) { op1(0, -3, SEM_UNDO); op1(1, 4, SEM_UNDO); op1(2, -1, SEM_UNDO); op1(2, 1, SEM_UNDO); show(); fflush(stdout); _exit(0); } waitpid(p, &st, 0); show(); IS(semctl(id, 0, GETPID) == p);
	p = fork(); if (!p) { op1(0, -3, SEM_UNDO); if (!fork()) { op1(1, -1, 0); _exit(0); } wait(0); show(); fflush(stdout); raise(SIGKILL); } waitpid(p, &st, 0); show();
	p = fork(); if (!p) { op1(0, -3, SEM_UNDO); op1(1, -1, SEM_UNDO); u.val = 9; semctl(id, 0, SETVAL, u); _exit(0); } waitpid(p, &st, 0); show();
	p = fork(); if (!p) { op1(2, 3, SEM_UNDO); if (!fork()) { op1(2, -7, 0); _exit(0); } wait(0); _exit(0); } waitpid(p, &st, 0); show();
	u.val = 0; semctl(id, 2, SETVAL, u); p = fork(); if (!p) { OK(op1(2, 32767, SEM_UNDO)); OK(op1(2, -32767, 0)); OK(op1(2, 32767, SEM_UNDO)); show(); fflush(stdout); _exit(0); } waitpid(p, 0, 0); show();
	/* What one process's end gives back wakes another. */
	u.val = 1; semctl(id, 0, SETVAL, u);
	p = fork(); if (!p) { op1(0, -1, SEM_UNDO); pause(); } for (int i = 0; i < 20000 && semctl(id, 0, GETVAL); i++) usleep(500);
	q = fork(); if (!q) { alarm(20); _exit(op1(0, -1, SEM_UNDO) ? errno : 49); } until(0, GETNCNT, 1); kill(p, SIGTERM); waitpid(p, &st, 0); waitpid(q, &st, 0); VAL(WEXITSTATUS(st)); VAL(semctl(id, 0, GETVAL));
	/* Permissions. */
	p = fork();
	if (!p) {
		OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000));
		OK(semget(key, 0, 0)); OK(semget(key, 0, 0600)); OK(op1(0, 1, 0)); OK(op1(0, 0, IPC_NOWAIT)); show(); OK(semctl(id, 0, GETVAL)); u.val = 1; OK(semctl(id, 0, SETVAL, u)); OK(semctl(id, 0, IPC_RMID)); u.buf = &d; OK(semctl(id, 0, IPC_STAT, u)); OK(semctl(id, 0, IPC_SET, u));
		fflush(stdout); _exit(0);
	}
	waitpid(p, 0, 0);
	u.buf = &d; semctl(id, 0, IPC_STAT, u); d.sem_perm.mode = 0604; OK(semctl(id, 0, IPC_SET, u));
	p = fork(); if (!p) { OK(setresuid(1000, 1000, 1000)); OK(op1(0, 1, 0)); OK(op1(2, 0, IPC_NOWAIT)); show(); fflush(stdout); _exit(0); } waitpid(p, 0, 0);
	struct seminfo i; u.info = &i; OK(semctl(0, 0, IPC_INFO, u)); printf("%d %d %d %d %d %d %d %d %d %d\n", i.semmap, i.semmni, i.semmns, i.semmnu, i.semmsl, i.semopm, i.semume, i.semusz, i.semvmx, i.semaem);
	int top = semctl(0, 0, SEM_INFO, u); IS(top >= 0 && i.semusz >= 1 && i.semaem >= 3);
	int found = 0; u.buf = &d; for (int n = 0; n <= top; n++) if (semctl(n, 0, SEM_STAT, u) == id) found++; VAL(found);
	char line[128], want[64]; snprintf(want, sizeof want, "%10d %10d   604          3 ", key, id); found = 0; FILE *f = fopen("/proc/sysvipc/sem", "r"); while (fgets(line, sizeof line, f)) found += !strncmp(line, want, strlen(want)); fclose(f); VAL(found);
	OK(semctl(id, 0, 99)); OK(semctl(id, 0, IPC_STAT, (union semun){.buf = (void *)8}));
	/* Removal wakes. */
	u.val = 0; semctl(id, 0, SETVAL, u); p = fork(); if (!p) { alarm(20); _exit(op1(0, -1, 0) ? errno == EIDRM ? 50 : 1 : 2); }
	until(0, GETNCNT, 1); OK(semctl(id, 0, IPC_RMID)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); OK(op1(0, 1, 0)); OK(semctl(id, 0, IPC_RMID)); show();
	return 0;
}
