/* Files without a name, fifos and sockets in the directory that DIR names. */
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>

static void show(const char *what, int fd, const char *name) {
    struct stat s;
    if (fd >= 0 ? fstat(fd, &s) : lstat(name, &s))
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %o %ld bytes %ld links %d:%d %ld\n", what, s.st_mode, (long)s.st_size, (long)s.st_nlink, s.st_uid,
               s.st_gid, (long)s.st_mtime % 1000003 * (s.st_mtime < 1000000));
}

static void nameless(void) {
    char path[64], text[32] = {0};
    int fd = open(".", O_TMPFILE | O_RDWR, 0640);
    if (fd < 0) {
        printf("O_TMPFILE: %s\n", strerrorname_np(errno));
        return;
    }
    VAL(write(fd, "contents", 8));
    show("nameless", fd, NULL);
    OK(fchmod(fd, 0604));
    OK(futimens(fd, (struct timespec[]){{5, 0}, {77, 0}}));
    show("changed", fd, NULL);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    show("linked", fd, NULL);
    show("by name", -1, "named");
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    OK(link("named", "second"));
    OK(unlink("named"));
    int other = open("second", O_RDONLY);
    VAL(pwrite(fd, "C", 1, 0));
    VAL(read(other, text, 31));
    printf("%s\n", text);
    OK(unlink("second"));
    show("unlinked", fd, NULL);
    OK(fchmod(fd, 0600));
    OK(ftruncate(fd, 3));
    show("changed", fd, NULL);
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "third", AT_SYMLINK_FOLLOW));
    int again = open(path, O_RDONLY);
    VAL(read(again, text, 31));
    char *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    m[1] = 'M';
    VAL(pread(other, text, 3, 0));
    printf("%.3s\n", text);
    munmap(m, 4096);
    close(again);
    close(other);
    close(fd);
    fd = open(".", O_TMPFILE | O_WRONLY, 0600);
    if (geteuid() == 0)
        OK(linkat(fd, "", AT_FDCWD, "empty path", AT_EMPTY_PATH));
    close(fd);
    show("empty path", -1, "empty path");
    OK(unlink("empty path"));
    OK(open(".", O_TMPFILE | O_RDONLY, 0600));
    OK(open("none", O_TMPFILE | O_RDWR, 0600));
}

static void fifos(void) {
    char text[16] = {0};
    OK(mkfifo("fifo", 0620));
    OK(mkfifo("fifo", 0620));
    show("fifo", -1, "fifo");
    OK(chmod("fifo", 0666));
    OK(open("fifo", O_WRONLY | O_NONBLOCK));
    OK(link("fifo", "fifo2"));
    if (!fork()) {
        int out = open("fifo2", O_WRONLY);
        write(out, "through", 7);
        _exit(0);
    }
    int in = open("fifo", O_RDONLY);
    VAL(read(in, text, 15));
    printf("%s\n", text);
    wait(NULL);
    VAL(read(in, text, 15));
    close(in);
    show("fifo", -1, "fifo");
    OK(rename("fifo2", "moved"));
    OK(unlink("fifo"));
    show("moved", -1, "moved");
    OK(unlink("moved"));
    OK(mknod("device", S_IFSOCK | 0600, 0));
    OK(open("device", O_RDWR));
    OK(unlink("device"));
}

static void sockets(void) {
    struct sockaddr_un name = {AF_UNIX, "socket"};
    char text[16] = {0};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    OK(bind(listener, (void *)&name, sizeof name));
    OK(bind(client, (void *)&name, sizeof name));
    OK(connect(client, (void *)&name, sizeof name));
    OK(listen(listener, 4));
    OK(chmod("socket", 0777));
    show("socket", -1, "socket");
    OK(connect(client, (void *)&name, sizeof name));
    int served = accept(listener, NULL, NULL);
    VAL(write(client, "hello", 5));
    VAL(read(served, text, 15));
    printf("%s\n", text);
    OK(open("socket", O_RDONLY));
    close(listener);
    close(client);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    OK(connect(client, (void *)&name, sizeof name));
    OK(unlink("socket"));
    OK(connect(client, (void *)&name, sizeof name));
    close(client);
    close(served);
}

int main(void) {
    if (chdir(getenv("DIR")) || chmod(".", 0777))
        return 1;
    umask(0);
    for (int round = 0; round < 2; round++) {
        nameless();
        fifos();
        sockets();
        fflush(stdout);
        setgid(7);
        setuid(8);
    }
    return 0;
}
