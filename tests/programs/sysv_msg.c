/* System V message queues: types, sizes, copies, waiting on both sides, signals, limits, permissions, removal. */
#include "check.h"
#include <grp.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
struct msg { long type; char text[9000]; };
static int id;
static struct msg m;
static int put(long type, const char *text, int flags) { struct msg s = {.type = type}; strcpy(s.text, text); return msgsnd(id, &s, strlen(text), flags); }
static void get(size_t size, long type, int flags) { memset(&m, 0, sizeof m); errno = 0; int n = msgrcv(id, &m, size, type, flags); if (n < 0) printf("got %s\n", strerrorname_np(errno)); else printf("got %d: %ld %.*s\n", n, m.type, n, m.text); }
static void nothing(int s) { (void)s; }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	key_t key = 0x54000000 | getpid();
	struct msqid_ds d; pid_t p; int st;
	OK(msgget(key, 0)); id = msgget(key, IPC_CREAT | IPC_EXCL | 0640); IS(id >= 0); IS(msgget(key, 0) == id); OK(msgget(key, IPC_CREAT | IPC_EXCL));
	OK(msgctl(id, IPC_STAT, &d)); printf("%o %lu %lu %lu\n", d.msg_perm.mode, d.__msg_cbytes, d.msg_qnum, d.msg_qbytes); IS(d.msg_stime == 0 && d.msg_rtime == 0 && d.msg_lspid == 0);
	get(100, 0, IPC_NOWAIT);
	OK(put(3, "three", 0)); OK(put(1, "one", 0)); OK(put(2, "two", 0)); OK(put(1, "uno", 0)); OK(put(5, "", 0));
	OK(put(0, "x", 0)); OK(put(-1, "x", 0)); OK(msgsnd(id, &m, 8193, 0)); OK(msgsnd(id, &m, -1, 0)); OK(msgsnd(id, (void *)8, 1, 0)); OK(msgsnd(-1, &m, 1, 0)); m.type = 1; OK(msgsnd(id + 1000000, &m, 1, 0));
	msgctl(id, IPC_STAT, &d); printf("%lu %lu\n", d.__msg_cbytes, d.msg_qnum); IS(d.msg_lspid == getpid() && d.msg_stime != 0);
	errno = 0; get(100, 0, MSG_COPY | IPC_NOWAIT); get(100, 3, MSG_COPY | IPC_NOWAIT); get(100, 5, MSG_COPY | IPC_NOWAIT); get(100, 0, MSG_COPY); get(100, 0, MSG_COPY | IPC_NOWAIT | MSG_EXCEPT); get(2, 0, MSG_COPY | IPC_NOWAIT); get(2, 0, MSG_COPY | IPC_NOWAIT | MSG_NOERROR);
	get(2, 2, 0); get(2, 2, MSG_NOERROR); get(100, 2, IPC_NOWAIT); get(100, -2, 0); get(100, 3, MSG_EXCEPT); get(100, -4, 0); get(100, 0, 0); get(100, 0, IPC_NOWAIT); get(-1, 0, 0);
	/* A full queue. */
	static struct msg big = {.type = 1}; for (int i = 0; i < 3; i++) OK(msgsnd(id, &big, 8192, IPC_NOWAIT));
	p = fork(); if (!p) { alarm(20); _exit(msgsnd(id, &big, 100, 0) ? errno : 42); }
	usleep(50000); msgctl(id, IPC_STAT, &d); printf("%lu\n", d.msg_qnum); VAL(msgrcv(id, &m, 8192, 0, 0)); waitpid(p, &st, 0); VAL(WEXITSTATUS(st)); msgctl(id, IPC_STAT, &d); printf("%lu %lu\n", d.__msg_cbytes, d.msg_qnum);
	VAL(msgrcv(id, &m, 9000, 0, 0)); VAL(msgrcv(id, &m, 9000, 0, 0)); IS(d.msg_lspid == p);
	msgctl(id, IPC_STAT, &d); d.msg_qbytes = 4; OK(msgctl(id, IPC_SET, &d)); OK(put(1, "12345", IPC_NOWAIT)); for (int i = 0; i < 5; i++) OK(put(1, "", IPC_NOWAIT)); d.msg_qbytes = 16384; OK(msgctl(id, IPC_SET, &d)); for (int i = 0; i < 4; i++) get(0, 0, IPC_NOWAIT); get(0, 0, IPC_NOWAIT);
	/* Waiting receivers. */
	p = fork(); if (!p) { alarm(20); get(100, 7, 0); fflush(stdout); _exit(0); }
	usleep(30000); OK(put(6, "six", 0)); usleep(10000); long seven = put(7, "seven", 0); waitpid(p, &st, 0); VAL(seven); get(100, 0, IPC_NOWAIT);
	for (int restart = 0; restart < 2; restart++) {
		p = fork(); if (!p) { struct sigaction a = {.sa_handler = nothing, .sa_flags = restart ? SA_RESTART : 0}; sigaction(SIGUSR1, &a, 0); alarm(20); get(100, 0, 0); fflush(stdout); _exit(0); }
		usleep(50000); kill(p, SIGUSR1); waitpid(p, &st, 0);
	}
	/* A stop is no interruption here: the call goes on. */
	p = fork(); if (!p) { alarm(20); get(100, 0, 0); fflush(stdout); _exit(0); }
	usleep(50000); kill(p, SIGSTOP); waitpid(p, &st, WUNTRACED); kill(p, SIGCONT); usleep(20000); put(1, "on", 0); waitpid(p, &st, 0);
	OK(put(1, "kept", 0));
	p = fork();
	if (!p) {
		OK(setresgid(100, 100, 100)); OK(setgroups(0, 0)); OK(setresuid(1000, 1000, 1000));
		OK(msgget(key, 0)); OK(msgget(key, 0400)); OK(put(1, "x", 0)); get(100, 0, IPC_NOWAIT); OK(msgctl(id, IPC_STAT, &d)); OK(msgctl(id, IPC_SET, &d)); OK(msgctl(id, IPC_RMID, 0)); fflush(stdout); _exit(0);
	}
	waitpid(p, 0, 0);
	msgctl(id, IPC_STAT, &d); d.msg_perm.uid = 1000; d.msg_perm.mode = 0600; OK(msgctl(id, IPC_SET, &d));
	p = fork();
	if (!p) { OK(setresuid(1000, 1000, 1000)); OK(put(1, "x", 0)); get(100, 0, IPC_NOWAIT); msgctl(id, IPC_STAT, &d); d.msg_qbytes = 16385; OK(msgctl(id, IPC_SET, &d)); d.msg_qbytes = 100; OK(msgctl(id, IPC_SET, &d)); fflush(stdout); _exit(0); }
	waitpid(p, 0, 0);

	struct msginfo i; OK(msgctl(0, IPC_INFO, (void *)&i)); printf("%d %d %d %d %d %d %d %d\n", i.msgpool, i.msgmap, i.msgmax, i.msgmnb, i.msgmni, i.msgssz, i.msgtql, i.msgseg);
	int top = msgctl(0, MSG_INFO, (void *)&i); IS(top >= 0 && i.msgpool >= 1 && i.msgmap >= 1);
	int found = 0; for (int n = 0; n <= top; n++) if (msgctl(n, MSG_STAT, &d) == id) found++; VAL(found);
	char line[200], want[64]; snprintf(want, sizeof want, "%10d %10d   600           1          1 ", key, id); found = 0; FILE *f = fopen("/proc/sysvipc/msg", "r"); while (fgets(line, sizeof line, f)) found += !strncmp(line, want, strlen(want)); fclose(f); VAL(found);
	OK(msgctl(id, 99, &d)); OK(msgctl(id, IPC_STAT, (void *)8));
	p = fork(); if (!p) { alarm(20); get(100, 77, 0); fflush(stdout); _exit(0); }
	usleep(50000); long removed = msgctl(id, IPC_RMID, 0); waitpid(p, &st, 0); VAL(removed); get(1, 0, IPC_NOWAIT); OK(msgctl(id, IPC_RMID, 0));
	return 0;
}
