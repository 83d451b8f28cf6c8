/* open, read, write, seek, directories, links, rename, permissions, locks, times, descriptors. */
#include "check.h"
#include <dirent.h>
#include <sys/statfs.h>
static int fd_of(const char *n, int f) { return open(n, f, 0644); }
int main(void) {
	setvbuf(stdout, 0, _IOLBF, 0);
	umask(022);
	char b[64] = ""; struct stat s;
	int fd = fd_of("a", O_CREAT | O_EXCL | O_RDWR);
	IS(fd >= 0);
	OK(open("a", O_CREAT | O_EXCL | O_RDWR, 0644)); OK(open("nosuch", O_RDONLY)); OK(open("a/b", O_RDONLY)); OK(open(".", O_WRONLY)); OK(open("a", O_RDONLY | O_DIRECTORY)); OK(open("", O_RDONLY)); OK(open((char *)8, O_RDONLY));
	VAL(write(fd, "0123456789", 10)); VAL(lseek(fd, 3, SEEK_SET)); VAL(read(fd, b, 4)); puts(b);
	OK(lseek(fd, -1, SEEK_SET)); OK(lseek(fd, 0, 99)); VAL(lseek(fd, 100, SEEK_END)); VAL(write(fd, "x", 1)); VAL(lseek(fd, 0, SEEK_HOLE) <= 111);
	OK(fstat(fd, &s)); printf("size %ld mode %o nlink %ld\n", (long)s.st_size, s.st_mode, (long)s.st_nlink);
	VAL(pread(fd, b, 3, 109)); VAL(pread(fd, b, 3, 1000)); OK(pread(fd, b, 3, -1)); OK(ftruncate(fd, 5)); OK(ftruncate(fd, -1)); OK(stat("a", &s)); VAL(s.st_size);
	struct iovec v[2] = {{b, 2}, {b + 2, 2}}; VAL(preadv(fd, v, 2, 0)); OK(preadv(fd, v, -1, 0));
	OK(read(fd_of("a", O_WRONLY), b, 1)); OK(write(fd_of("a", O_RDONLY), b, 1)); OK(read(99, b, 1)); OK(close(99)); OK(dup2(99, 5)); OK(dup3(fd, fd, 0)); VAL(fcntl(fd, F_GETFD)); OK(fcntl(fd, F_SETFD, FD_CLOEXEC)); VAL(fcntl(fd, F_GETFD)); VAL(fcntl(fd, F_GETFL) & O_ACCMODE); OK(fcntl(fd, 9999));
	int d = fcntl(fd, F_DUPFD, 50); VAL(d); VAL(dup2(fd, 60)); OK(syscall(SYS_close_range, 50, 70, 0)); OK(fcntl(60, F_GETFD));
	OK(mkdir("dir", 0777)); OK(mkdir("dir", 0777)); OK(mkdir("no/dir", 0777)); OK(rmdir("a")); OK(unlink("dir")); OK(stat("dir", &s)); printf("dir %o %ld\n", s.st_mode, (long)s.st_nlink);
	OK(link("a", "dir/l")); OK(stat("a", &s)); VAL(s.st_nlink); OK(link("dir", "x")); OK(symlink("a", "sl")); OK(symlink("loop", "loop")); OK(open("loop", O_RDONLY)); OK(open("sl", O_RDONLY | O_NOFOLLOW)); VAL(readlink("sl", b, 64)); OK(readlink("a", b, 64)); OK(lstat("sl", &s)); printf("link %o %ld\n", s.st_mode, (long)s.st_size);
	OK(rename("a", "b")); OK(rename("nosuch", "c")); OK(rename("b", "dir")); OK(rename("dir", "dir/sub")); OK(rmdir("dir")); OK(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "dir/l", 1)); OK(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "sl", 2)); OK(lstat("b", &s)); IS(S_ISLNK(s.st_mode)); OK(rename("sl", "a")); OK(unlink("b"));
	for (int i = 0; i < 200; i++) { sprintf(b, "dir/f%d", i); close(fd_of(b, O_CREAT | O_WRONLY)); }
	DIR *dp = opendir("dir"); int n = 0; struct dirent *e; while ((e = readdir(dp))) n++; VAL(n); rewinddir(dp); n = 0; while ((e = readdir(dp))) { if (e->d_name[0] == 'f') unlinkat(dirfd(dp), e->d_name, 0); n++; } VAL(n); closedir(dp); OK(unlinkat(AT_FDCWD, "dir/l", 0)); OK(unlinkat(AT_FDCWD, "dir", 0)); OK(unlinkat(AT_FDCWD, "dir", AT_REMOVEDIR));
	int u = fd_of("gone", O_CREAT | O_RDWR); IS(write(u, "still", 5) == 5); unlink("gone"); fstat(u, &s); VAL(s.st_nlink); VAL(pread(u, b, 5, 0));
	OK(chmod("a", 04755)); stat("a", &s); printf("mode %o\n", s.st_mode); OK(chmod("nosuch", 0)); OK(chown("a", -1, -1)); OK(access("a", X_OK)); OK(access("a", 99)); OK(faccessat(AT_FDCWD, "nosuch", F_OK, 0));
	struct timespec t[2] = {{1000, 5}, {2000, 6}}; OK(utimensat(AT_FDCWD, "a", t, 0)); stat("a", &s); printf("times %ld.%ld %ld.%ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec); t[0].tv_nsec = -5; OK(utimensat(AT_FDCWD, "a", t, 0));
	int l1 = fd_of("lock", O_CREAT | O_RDWR), l2 = fd_of("lock", O_RDWR); OK(flock(l1, LOCK_EX)); OK(flock(l2, LOCK_EX | LOCK_NB)); OK(flock(l1, LOCK_UN)); OK(flock(l2, LOCK_SH)); OK(flock(l1, 0));
	struct flock k = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10}; OK(fcntl(l1, F_SETLK, &k)); if (!fork()) { k.l_type = F_RDLCK; OK(fcntl(l2, F_SETLK, &k)); k.l_type = F_WRLCK; OK(fcntl(l2, F_GETLK, &k)); printf("held %d by parent %d\n", k.l_type == F_WRLCK, k.l_pid == getppid()); _exit(0); } wait(0);
	int ap = fd_of("app", O_CREAT | O_APPEND | O_RDWR); VAL(write(ap, "ab", 2)); lseek(ap, 0, SEEK_SET); VAL(write(ap, "cd", 2)); VAL(pread(ap, b, 10, 0)); OK(fallocate(ap, 0, 0, 100)); fstat(ap, &s); VAL(s.st_size); OK(fallocate(ap, 0, 0, 0)); OK(fallocate(ap, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2)); VAL(pread(ap, b, 1, 0)); VAL(b[0]);
	char name[300]; memset(name, 'n', 299); name[299] = 0; OK(open(name, O_CREAT, 0600)); name[255] = 0; OK(open(name, O_CREAT, 0600)); char *path = malloc(5000); memset(path, '/', 4999); path[4999] = 0; OK(open(path, O_RDONLY));
	int dd = open(".", O_RDONLY | O_DIRECTORY); OK(openat(dd, "a", O_RDONLY)); OK(openat(99, "a", O_RDONLY)); OK(openat(fd, "a", O_RDONLY)); OK(mkdirat(dd, "sub", 0700)); OK(chdir("sub")); OK(chdir("../a")); IS(getcwd(b, 64) && strstr(b, "/sub")); OK(getcwd(b, 1) ? 0 : -1); OK(chdir("..")); OK(open("a/", O_RDONLY)); OK(mkdir("slash/", 0700)); OK(open("sub/./../a", O_RDONLY)); OK(mkfifo("ff", 0600)); OK(open("ff", O_WRONLY | O_NONBLOCK)); OK(mknod("sub/x", S_IFREG | 0600, 0)); OK(fsync(fd)); OK(fsync(99)); OK(truncate("sub", 0)); OK(truncate("nosuch", 0)); OK(statfs("/nosuch", &(struct statfs){0}));
	int tf = open(".", O_TMPFILE | O_RDWR, 0600); IS(tf >= 0); OK(fstat(tf, &s)); VAL(s.st_nlink); OK(ioctl(fd, 0x5401, b)); OK(open("a", O_PATH)); OK(read(open("a", O_PATH), b, 1));
	return 0;
}
