// Processes and threads that are made and waited for.
#define _GNU_SOURCE
#include "ops.h"
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void wait_for(pid_t pid)
{
    int status;
    need(pid > 0 && waitpid(pid, &status, 0) == pid, "waitpid");
    need(status == 0, "the child");
}

static void fork_wait(long n)
{
    while (n--) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        wait_for(pid);
    }
}

static void fork_exec_wait(long n)
{
    const char *path = in_data("program");
    char *args[] = {(char *)path, "exit", 0};
    while (n--) {
        pid_t pid = fork();
        if (pid == 0) {
            execve(path, args, environ);
            _exit(1);
        }
        wait_for(pid);
    }
}

static void posix_spawn_wait(long n)
{
    const char *path = in_data("program");
    char *args[] = {(char *)path, "exit", 0};
    while (n--) {
        pid_t pid;
        need(posix_spawn(&pid, path, 0, 0, args, environ) == 0, "posix_spawn");
        wait_for(pid);
    }
}

static void *same(void *p)
{
    return p;
}

static void thread_create_join(long n)
{
    while (n--) {
        pthread_t thread;
        need(pthread_create(&thread, 0, same, 0) == 0, "pthread_create");
        pthread_join(thread, 0);
    }
}

const struct op process_ops[] = {
    {"thread_create_join", 0, thread_create_join, 0, 0},
    {"fork_wait", 0, fork_wait, 0, 0},
    {"fork_exec_wait", 0, fork_exec_wait, 0, 0},
    {"posix_spawn_wait", 0, posix_spawn_wait, 0, 0},
    {0},
};
