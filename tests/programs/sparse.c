/* A mapping of 2 GiB of which scattered pages are touched: contents, zeros between, MADV_DONTNEED, a sparse file. */
#include "check.h"
#define SIZE (2L << 30)
#define P 4096L
/* Every 1,021st page: the numbers fall on all positions within tables of 512 entries. */
#define STEP (1021 * P)
static unsigned long mark(long at) { return (unsigned long)at * 0x9e3779b97f4a7c15ul | 1; }
static int count(const char *m, long from, long to) {
	int right = 0;
	for (long at = 0; at < SIZE; at += STEP)
		right += at >= from && at < to && *(unsigned long *)(m + at) == mark(at);
	return right;
}
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	char *m = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	IS(m != MAP_FAILED);
	for (long at = 0; at < SIZE; at += STEP) *(unsigned long *)(m + at) = mark(at);
	VAL(count(m, 0, SIZE));
	int zeros = 0;
	for (long at = STEP / 2; at + 8 < SIZE; at += STEP) zeros += *(unsigned long *)(m + at) == 0;
	VAL(zeros);
	*(unsigned long *)(m + SIZE - 8) = 7;
	OK(madvise(m + SIZE / 2, SIZE / 4, MADV_DONTNEED));
	VAL(count(m, 0, SIZE / 2));
	VAL(count(m, SIZE / 2, SIZE / 4 * 3));
	VAL(count(m, SIZE / 4 * 3, SIZE));
	VAL(*(unsigned long *)(m + SIZE - 8));
	/* A child sees what its parent had, whatever the parent does to it afterwards. */
	int pipes[2];
	OK(pipe(pipes));
	pid_t child = fork();
	if (!child) {
		char go;
		close(pipes[1]);
		if (read(pipes[0], &go, 1) != 0) _exit(1);
		VAL(count(m, 0, SIZE / 2));
		_exit(0);
	}
	OK(madvise(m, SIZE, MADV_DONTNEED));
	VAL(count(m, 0, SIZE));
	close(pipes[0]); close(pipes[1]);
	int status;
	IS(waitpid(child, &status, 0) == child && status == 0);
	OK(munmap(m, SIZE));
	/* A file of the same size has only the pages that were written. */
	int fd = open("holes", O_CREAT | O_RDWR, 0600);
	OK(ftruncate(fd, SIZE));
	m = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	IS(m != MAP_FAILED);
	for (long at = 0; at < SIZE; at += STEP * 16) *(unsigned long *)(m + at) = mark(at);
	unsigned long word = 0;
	VAL(pread(fd, &word, 8, STEP * 16));
	IS(word == mark(STEP * 16));
	VAL(pread(fd, &word, 8, STEP * 16 + P));
	VAL(word);
	struct stat st;
	OK(fstat(fd, &st));
	IS(st.st_size == SIZE && st.st_blocks < 10000);
	OK(munmap(m, SIZE));
	return 0;
}
