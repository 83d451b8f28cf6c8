// Makes each system call that the arguments name, with arguments that no call takes, and prints its errno.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        errno = 0;
        long result = syscall(atol(argv[i]), -1L, -1L, -1L, -1L, -1L, -1L);
        printf("%s %s\n", argv[i], result != -1 ? "0" : errno == ENOSYS ? "ENOSYS" : errno == EPERM ? "EPERM" : "other");
    }
    return 0;
}
