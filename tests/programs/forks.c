// The first process ends while others are in the middle of fork: none of them may keep the container.
// forks PROCESSES MICROSECONDS
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void fork_for_ever(int chain) {
    for (;;) {
        pid_t child = fork();
        // A chain goes on in the child, others in the parent.
        if (chain ? child > 0 : child == 0) _exit(0);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < atoi(argv[1]); i++)
        if (fork() == 0) fork_for_ever(i & 1);
    usleep(atoi(argv[2]));
    return 3;
}
