/* Lengths that end beyond every address: none may be taken, nor looked at page by page. (Older kernels take some.) */
#include "check.h"

#define P 4096L

int main(void) {
	char *g = mmap(0, 2 * P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	g[0] = 5;
	for (int i = 0; i < 4; i++) {
		static const unsigned long lens[] = {0x7fffffffffffffff, 0x600000000000, 0xfffffffffffff000, 1ul << 47};
		OK(mremap(g, lens[i], P, 0));
		OK(mremap(g, lens[i], P, MREMAP_MAYMOVE));
		OK(mremap(g, P, lens[i], 0));
		OK(mremap(g, lens[i], lens[i] - P, MREMAP_MAYMOVE));
		OK(munmap(g, lens[i]));
		OK(msync(g, lens[i], MS_ASYNC));
	}
	VAL(g[0]);
	return 0;
}
