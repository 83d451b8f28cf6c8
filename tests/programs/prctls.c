/* prctl: what there is, and the errno of what is refused. Runs as root. */
#include "check.h"
#include <linux/prctl.h>
#include <linux/securebits.h>
#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif
#define P(...) VAL(prctl(__VA_ARGS__))
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	int v = 0; char name[17] = {0};
	P(PR_SET_NAME, "renamed"); P(PR_GET_NAME, name); printf("%s\n", name); P(PR_SET_NAME, 8);
	P(PR_SET_PDEATHSIG, SIGTERM); P(PR_GET_PDEATHSIG, &v); printf("%d\n", v); P(PR_SET_PDEATHSIG, 65); P(PR_SET_PDEATHSIG, 0);
	P(PR_SET_CHILD_SUBREAPER, 1); P(PR_GET_CHILD_SUBREAPER, &v); printf("%d\n", v); P(PR_SET_CHILD_SUBREAPER, 0);
	P(PR_GET_TIMERSLACK); P(PR_SET_TIMERSLACK, 12345); P(PR_GET_TIMERSLACK); P(PR_SET_TIMERSLACK, 0); P(PR_GET_TIMERSLACK);
	P(PR_GET_DUMPABLE); P(PR_SET_DUMPABLE, 2); P(PR_SET_DUMPABLE, 0); P(PR_GET_DUMPABLE); P(PR_SET_DUMPABLE, 1);
	P(PR_GET_KEEPCAPS); P(PR_SET_KEEPCAPS, 2); P(PR_SET_KEEPCAPS, 1); P(PR_GET_KEEPCAPS); P(PR_GET_SECUREBITS); P(PR_SET_KEEPCAPS, 0);
	P(PR_CAPBSET_READ, 0); P(PR_CAPBSET_READ, 64); P(PR_CAPBSET_DROP, 64); P(PR_CAPBSET_DROP, 13); P(PR_CAPBSET_READ, 13);
	P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 64, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 1, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0); P(PR_CAP_AMBIENT, 9, 0, 0, 0);
	uint32_t h[2] = {0x20080522, 0}, d[6]; syscall(SYS_capget, h, d); d[2] |= 1; d[0] &= ~(1u << 24); d[1] &= ~(1u << 24); VAL(syscall(SYS_capset, h, d)); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, 0, 0, 0); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0);
	P(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE); P(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0); P(PR_SET_SECUREBITS, 1 << 20); P(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED); P(PR_SET_KEEPCAPS, 1); P(PR_SET_SECUREBITS, 0); P(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED | SECBIT_KEEP_CAPS); P(PR_GET_SECUREBITS);
	P(PR_SET_THP_DISABLE, 1, 0, 0, 0); P(PR_GET_THP_DISABLE, 0, 0, 0, 0); pid_t p = fork(); if (!p) { P(PR_GET_THP_DISABLE, 0, 0, 0, 0); fflush(stdout); _exit(0); } waitpid(p, 0, 0); P(PR_GET_THP_DISABLE, 1, 0, 0, 0); P(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	P(PR_GET_TIMING); P(PR_SET_TIMING, 0); P(PR_SET_TIMING, 1); P(PR_GET_TSC, &v); printf("%d\n", v); P(PR_SET_TSC, 1); P(PR_SET_TSC, 3); P(PR_GET_TSC, 8);
	P(PR_MCE_KILL_GET, 0, 0, 0, 0); P(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0); P(PR_MCE_KILL_GET, 0, 0, 0, 0); P(PR_MCE_KILL, PR_MCE_KILL_SET, 9, 0, 0); P(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0); P(PR_MCE_KILL_GET, 0, 0, 0, 0); P(PR_MCE_KILL, 7, 0, 0, 0); P(PR_MCE_KILL_GET, 1, 0, 0, 0);
	P(PR_GET_SPECULATION_CTRL, 9, 0, 0, 0); P(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0); P(PR_SET_SPECULATION_CTRL, 9, 0, 0, 0); P(PR_TASK_PERF_EVENTS_DISABLE); P(PR_TASK_PERF_EVENTS_ENABLE);
	void *tid = 0; P(PR_GET_TID_ADDRESS, &tid); IS(tid != 0);
	P(PR_SET_IO_FLUSHER, 1, 0, 0, 0); P(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
	/* Those of other machines. */
	P(PR_GET_UNALIGN, &v); P(PR_SET_UNALIGN, 0); P(PR_GET_FPEMU, &v); P(PR_GET_FPEXC, &v); P(PR_GET_ENDIAN, &v); P(PR_SET_FP_MODE, 0); P(PR_SVE_GET_VL); P(PR_PAC_RESET_KEYS, 0, 0, 0, 0); P(PR_MPX_ENABLE_MANAGEMENT); P(12345);
	/* The address space. */
	char *a = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); strcpy(a, "other arguments"); unsigned size; P(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0); printf("%u\n", size);
	P(PR_SET_MM, 99, a, 0, 0); P(PR_SET_MM, PR_SET_MM_ARG_START, a, 1, 0); P(PR_SET_MM, PR_SET_MM_MAP, a, 5, 0); P(PR_SET_MM, PR_SET_MM_MAP, 8, 104, 0);
	unsigned long aux[128]; IS(prctl(PR_GET_AUXV, aux, sizeof aux, 0, 0) > 200); int page = 0; for (int i = 0; i < 64 && aux[2 * i]; i++) if (aux[2 * i] == 6) page = aux[2 * i + 1]; VAL(page); P(PR_GET_AUXV, aux, 16, 1, 0);
	P(PR_SET_VMA, 9, a, 4096, "x");
	return 0;
}
