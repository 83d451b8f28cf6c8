/* inotify(7) in the directory that DIR names: of what this program does itself, or with the argument `others` of what
   somebody else does. */
#include "check.h"
#include <sys/inotify.h>
#include <sys/xattr.h>

static int instance;
/* The other one asks for a look. */
static int asked;
static const char *names[] = {"ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM",
                              "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF", "", "UNMOUNT", "Q_OVERFLOW",
                              "IGNORED"};

/* Prints events; returns whether one of a file called `stop` was among them. Cookies are shown as their order. */
static int drain(const char *what) {
    static unsigned cookies[64];
    static int known;
    _Alignas(struct inotify_event) char buffer[8192];
    int stopped = 0;
    ssize_t got;
    if (what)
        printf("-- %s\n", what);
    while ((got = read(instance, buffer, sizeof buffer)) > 0) {
        for (char *at = buffer; at < buffer + got;) {
            struct inotify_event *e = (void *)at;
            printf("%d", e->wd);
            for (int bit = 0; bit < 16; bit++)
                if (e->mask >> bit & 1)
                    printf(" %s", names[bit]);
            if (e->mask & IN_ISDIR)
                printf(" dir");
            if (e->cookie) {
                int i = 0;
                while (i < known && cookies[i] != e->cookie)
                    i++;
                if (i == known && known < 64)
                    cookies[known++] = e->cookie;
                printf(" cookie %d", i);
            }
            if (e->len)
                printf(" [%s]", e->name);
            printf("\n");
            asked |= e->mask & IN_CLOSE_WRITE && e->len && !strcmp(e->name, "asked");
            stopped |= e->mask & IN_CLOSE_WRITE && e->len && !strcmp(e->name, "stop");
            at += sizeof *e + e->len;
        }
        if (stopped || !what)
            break;
    }
    return stopped;
}

static void put(const char *name, const char *text, int flags) {
    int fd = open(name, O_WRONLY | flags, 0640);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        printf("%s: %s\n", name, strerrorname_np(errno));
    close(fd);
}

static void show(const char *name) {
    struct stat s;
    if (stat(name, &s))
        printf("%s: %s\n", name, strerrorname_np(errno));
    else
        printf("%s: %o %ld bytes\n", name, s.st_mode, S_ISDIR(s.st_mode) ? 0L : (long)s.st_size);
}

static void others(void) {
    instance = inotify_init1(0);
    put("known", "old", O_CREAT);
    mkdir("dir", 0755);
    put("dir/inner", "", O_CREAT);
    show("dir/later");
    VAL(inotify_add_watch(instance, ".", IN_ALL_EVENTS));
    VAL(inotify_add_watch(instance, "known", IN_ALL_EVENTS));
    VAL(inotify_add_watch(instance, "dir", IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF));
    VAL(inotify_add_watch(instance, "dir/inner", IN_CLOSE_WRITE | IN_DELETE_SELF));
    show("known");
    fflush(stdout);
    mkdir("ready", 0700);
    struct pollfd p = {.fd = instance, .events = POLLIN};
    int stop = 0;
    while (!stop) {
        if (poll(&p, 1, 20000) <= 0) {
            printf("nothing comes\n");
            return;
        }
        /* What the event tells of can be seen at once: the other one waits for an answer. */
        stop = drain(NULL);
        if (asked) {
            asked = 0;
            show("known");
            show("dir/later");
            show("dir/inner");
            rename("asked", "answered");
        }
    }
    show("known");
    show("new");
    show("dir");
}

static void own(void) {
    struct stat s;
    instance = inotify_init1(IN_NONBLOCK);
    VAL(inotify_add_watch(instance, ".", IN_ALL_EVENTS));
    put("f", "text", O_CREAT | O_EXCL);
    drain("made");
    VAL(inotify_add_watch(instance, "f", IN_ALL_EVENTS));
    put("f", "more", O_APPEND);
    drain("appended");
    put("f", "x", O_TRUNC);
    drain("cut and written");
    OK(truncate("f", 100));
    drain("truncate");
    OK(chmod("f", 0600));
    drain("chmod");
    OK(chown("f", 5, 6));
    drain("chown");
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    drain("times");
    getxattr("f", "user.none", &s, 4);
    stat("f", &s);
    access("f", R_OK);
    drain("looked at");
    char buffer[64];
    int fd = open("f", O_RDWR);
    drain("open");
    VAL(read(fd, buffer, 64));
    drain("read");
    VAL(pwrite(fd, "abc", 3, 10));
    OK(ftruncate(fd, 5));
    drain("write and cut");
    struct pollfd p = {.fd = instance, .events = POLLIN};
    VAL(poll(&p, 1, 0));
    close(fd);
    VAL(poll(&p, 1, 0));
    int bytes = 0;
    OK(ioctl(instance, FIONREAD, &bytes));
    printf("%d bytes\n", bytes);
    drain("close");
    OK(link("f", "g"));
    drain("link");
    put("g", "by another name", 0);
    drain("written by another name");
    OK(rename("g", "h"));
    drain("rename");
    OK(mkdir("d", 0755));
    OK(symlink("f", "s"));
    OK(mknod("n", S_IFREG | 0644, 0));
    drain("kinds");
    VAL(inotify_add_watch(instance, "d", IN_ALL_EVENTS));
    OK(rename("h", "d/h"));
    OK(rename("d", "e"));
    drain("moved");
    OK(unlink("f"));
    drain("unlink one name");
    fd = open("e/h", O_RDONLY);
    OK(unlink("e/h"));
    drain("unlink the other, open");
    close(fd);
    drain("close");
    OK(rename("s", "n"));
    drain("rename onto");
    OK(rmdir("e"));
    drain("rmdir");
    VAL(inotify_add_watch(instance, "n", IN_ATTRIB | IN_DONT_FOLLOW));
    VAL(inotify_add_watch(instance, ".", IN_CREATE | IN_ONESHOT));
    put("one", "", O_CREAT);
    put("two", "", O_CREAT);
    drain("once");
    VAL(inotify_add_watch(instance, ".", IN_DELETE));
    unlink("one");
    VAL(inotify_rm_watch(instance, 5));
    unlink("two");
    drain("removed");
    setgid(7);
    setuid(8);
    umask(0);
    instance = inotify_init1(IN_NONBLOCK);
    VAL(inotify_add_watch(instance, ".", IN_ALL_EVENTS));
    put("mine", "x", O_CREAT);
    drain("a user's");
}

int main(int argc, char **argv) {
    if (chdir(getenv("DIR")) || chmod(".", 0777))
        return 1;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (argc > 1)
        others();
    else
        own();
    return 0;
}
