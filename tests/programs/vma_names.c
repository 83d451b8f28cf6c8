/* Names of anonymous memory: PR_SET_VMA. Shows lines of maps without their addresses. */
#include "check.h"
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#define NAME(at, len, name) OK(prctl(PR_SET_VMA, 0, at, len, name))
static void show(void) { char line[512]; FILE *f = fopen("/proc/self/maps", "r"); while (f && fgets(line, sizeof line, f)) { unsigned long a, b; char rights[8], *name = strstr(line, "[anon"); if (name && sscanf(line, "%lx-%lx %7s", &a, &b, rights) == 3) printf("%lu pages %s %s", (b - a) / 4096, rights, name); } if (f) fclose(f); }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	char *a = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *s = mmap(0, 8192, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NAME(a + 4096, 8192, "my heap"); NAME(s, 8192, "ring"); show();
	NAME(a + 4096, 4096, 0); show(); NAME(a + 1, 4096, "x"); NAME(a, 4096, "a[b]"); NAME(a, 4096, "a\\nb"); char longer[90] = {0}; memset(longer, 'n', 80); NAME(a, 4096, longer); longer[79] = 0; NAME(a, 4096, longer); NAME(a, 4096, (char *)8);
	munmap(a + 8192, 8192); NAME(a, 4 * 4096, "rest"); show(); int f = open("/proc/self/exe", O_RDONLY); char *m = mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 0); NAME(m, 4096, "file");
	pid_t p = fork(); if (!p) { printf("child\n"); show(); fflush(stdout); _exit(0); } waitpid(p, 0, 0);
	return 0;
}
