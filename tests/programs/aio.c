/* io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2). */
#include "check.h"
#include <linux/aio_abi.h>

static aio_context_t context;
static char buffer[8192], other[8192];

static long setup(unsigned n, aio_context_t *c) { return syscall(SYS_io_setup, n, c); }
static long submit(aio_context_t c, long n, struct iocb **list) { return syscall(SYS_io_submit, c, n, list); }
static long getevents(aio_context_t c, long least, long most, struct io_event *e, struct timespec *t) { return syscall(SYS_io_getevents, c, least, most, e, t); }

static void one(const char *what, struct iocb *i) {
	struct iocb *list[] = {i}; struct io_event e = {0}; struct timespec t = {1, 0};
	errno = 0; long r = submit(context, 1, list);
	printf("%s: submit %ld %s", what, r, r < 0 ? strerrorname_np(errno) : "");
	if (r == 1) { long n = getevents(context, 1, 1, &e, &t); printf(" got %ld res %lld res2 %lld data %llx own %d", n, e.res, e.res2, e.data, e.obj == (unsigned long)i); }
	puts("");
}

static struct iocb make(int op, int fd, void *buf, long n, long at) {
	struct iocb i; memset(&i, 0, sizeof i);
	i.aio_data = 0x1234, i.aio_lio_opcode = op, i.aio_fildes = fd, i.aio_buf = (unsigned long)buf, i.aio_nbytes = n, i.aio_offset = at;
	return i;
}

static void handled(int s) { (void)s; }

int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	aio_context_t zero = 0, odd = 5;
	OK(setup(0, &zero)); OK(setup(1, &odd)); OK(setup(1, (void *)8)); OK(setup(0x7fffffff, &zero));
	OK(setup(8, &context)); IS(context != 0); OK(setup(8, &context));
	int fd = open("file", O_CREAT | O_RDWR | O_TRUNC, 0600), ro = open("file", O_RDONLY), p[2]; pipe(p);
	for (int i = 0; i < 8192; i++) buffer[i] = i;
	struct iocb i = make(IOCB_CMD_PWRITE, fd, buffer, 8192, 0); one("write", &i); IS(i.aio_key == 0);
	i = make(IOCB_CMD_PREAD, fd, other, 8192, 4096); one("read", &i); IS(!memcmp(other, buffer + 4096, 4096));
	i = make(IOCB_CMD_PREAD, fd, other, 10, 100000); one("beyond", &i);
	VAL(lseek(fd, 0, SEEK_CUR));
	struct iovec v[2] = {{other, 10}, {other + 20, 10}};
	i = make(IOCB_CMD_PREADV, fd, v, 2, 5); one("readv", &i); IS(!memcmp(other, buffer + 5, 10) && !memcmp(other + 20, buffer + 15, 10));
	i = make(IOCB_CMD_PWRITEV, fd, v, 2, 8192); one("writev", &i);
	i = make(IOCB_CMD_FSYNC, fd, 0, 0, 0); one("fsync", &i); i = make(IOCB_CMD_FDSYNC, fd, 0, 0, 0); one("fdsync", &i); i = make(IOCB_CMD_FSYNC, fd, 0, 1, 0); one("fsync of a range", &i);
	i = make(IOCB_CMD_PREAD, fd, (void *)8, 10, 0); one("nowhere", &i);
	i = make(IOCB_CMD_PREAD, fd, other, 10, -5); one("negative", &i);
	i = make(IOCB_CMD_PREAD, 999, other, 10, 0); one("no file", &i); i = make(IOCB_CMD_PWRITE, ro, other, 10, 0); one("read only", &i);
	i = make(IOCB_CMD_NOOP, fd, 0, 0, 0); one("nothing", &i); i = make(77, fd, 0, 0, 0); one("unknown", &i);
	i = make(IOCB_CMD_PREAD, fd, other, 10, 0); i.aio_reserved2 = 1; one("reserved", &i);
	i = make(IOCB_CMD_PREAD, fd, other, 10, 0); i.aio_flags = 1u << 9; one("flags", &i);
	i = make(IOCB_CMD_PREAD, fd, other, 10, 0); i.aio_rw_flags = 1 << 20; one("rw flags", &i);
	i = make(IOCB_CMD_PWRITE, fd, "end", 3, 0); i.aio_rw_flags = RWF_APPEND; one("append", &i); VAL(lseek(fd, 0, SEEK_END));
	i = make(IOCB_CMD_PWRITE, p[1], "pipe", 4, 0); one("to a pipe", &i); i = make(IOCB_CMD_PREAD, p[0], other, 10, 0); one("from a pipe", &i); IS(!memcmp(other, "pipe", 4));
	int event = eventfd(0, EFD_NONBLOCK); uint64_t count = 0;
	i = make(IOCB_CMD_PREAD, fd, other, 10, 0); i.aio_flags = IOCB_FLAG_RESFD; i.aio_resfd = event; one("counted", &i); one("counted", &i); VAL(read(event, &count, 8)); VAL(count);
	i.aio_resfd = fd; one("not counted", &i); i.aio_resfd = 999; one("not counted", &i);
	puts("-- many");
	struct iocb many[4]; struct iocb *list[4]; struct io_event e[8];
	for (int k = 0; k < 4; k++) many[k] = make(IOCB_CMD_PREAD, k == 2 ? 999 : fd, other, 1 + k, 0), list[k] = &many[k];
	VAL(submit(context, 4, list)); struct timespec none = {0, 0};
	VAL(getevents(context, 0, 8, e, &none)); VAL(e[0].res); VAL(e[1].res); VAL(getevents(context, 1, 8, e, &none)); VAL(getevents(context, 0, 0, e, 0));
	list[1] = (void *)8; VAL(submit(context, 2, list)); VAL(submit(context, 1, list + 1)); VAL(submit(context, 1, (void *)8)); VAL(submit(context, 0, (void *)8)); VAL(submit(context, -1, list)); VAL(submit(77, 1, list));
	VAL(getevents(context, 5, 4, e, 0)); VAL(getevents(context, -1, 4, e, 0)); VAL(getevents(77, 0, 4, e, 0)); VAL(getevents(context, 1, 1, (void *)8, 0)); VAL(getevents(context, 1, 1, e, 0));
	puts("-- waiting");
	struct timespec little = {0, 20000000}; VAL(getevents(context, 1, 1, e, &little));
	struct sigaction a = {.sa_handler = handled}; sigaction(SIGALRM, &a, 0);
	struct itimerval soon = {{0, 0}, {0, 20000}}; setitimer(ITIMER_REAL, &soon, 0); VAL(getevents(context, 1, 1, e, 0));
	if (!fork()) { list[0] = &many[0]; VAL(submit(context, 1, list)); _exit(0); } wait(0);
	many[0].aio_key = 0; OK(syscall(SYS_io_cancel, context, &many[0], e)); OK(syscall(SYS_io_cancel, context, 8, e)); OK(syscall(SYS_io_cancel, 77, &many[0], e));
	uint64_t set = 0; struct { void *set; size_t size; } mask = {&set, 8}, wrong = {&set, 4};
	VAL(syscall(SYS_io_pgetevents, context, 0, 1, e, &none, &mask)); VAL(syscall(SYS_io_pgetevents, context, 0, 1, e, &none, &wrong)); VAL(syscall(SYS_io_pgetevents, context, 0, 1, e, &none, 0));
	OK(syscall(SYS_io_destroy, context)); OK(syscall(SYS_io_destroy, context)); VAL(getevents(context, 0, 1, e, &none));
	return 0;
}
