/* Prints results of system calls in a way that is the same everywhere: values that are not fixed are left out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The result of a call: 0 or more as "ok", failures by the errno's name. */
#define OK(call) do { errno = 0; long r_ = (long)(call); printf("%s: %s\n", #call, r_ < 0 ? strerrorname_np(errno) : "ok"); } while (0)
/* The same with the value. */
#define VAL(call) do { errno = 0; long r_ = (long)(call); if (r_ < 0) printf("%s: %s\n", #call, strerrorname_np(errno)); else printf("%s: %ld\n", #call, r_); } while (0)
/* A condition that must hold everywhere. */
#define IS(condition) printf("%s: %s\n", #condition, (condition) ? "yes" : "no")
