/* `ticks N`: a line every 20 ms, while other processes and threads work; checks at the end that all of them went on. The
 * lines carry the boot_id, which a restored sandbox has anew. */
#include "check.h"

static volatile unsigned long turns;
static volatile unsigned long *shared;

static void *turner(void *argument) {
    for (;;) { turns++; usleep(1000); }
    return NULL;
}

int main(int argc, char **argv) {
    long count = atol(argv[1]);
    int ends[2], back[2];
    pipe(ends);
    pipe(back);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t echo = fork();
    if (!echo) {
        char byte;
        close(ends[1]);
        while (read(ends[0], &byte, 1) == 1) { byte++; write(back[1], &byte, 1); }
        _exit(9);
    }
    pid_t worker = fork();
    if (!worker) for (;;) shared[0]++;
    close(ends[0]);
    pthread_t thread;
    pthread_create(&thread, NULL, turner, NULL);
    double sum = 0.5;
    struct timespec last = {0};
    for (long i = 0; i < count; i++) {
        char byte = (char)i, id[37] = "";
        write(ends[1], &byte, 1);
        read(back[0], &byte, 1);
        if (byte != (char)(i + 1)) { printf("the other process answered %d\n", byte); return 1; }
        sum = sum * 1.25 + (double)i;
        FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
        fscanf(file, "%36s", id);
        fclose(file);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < last.tv_sec) { puts("time went back"); return 1; }
        last = now;
        printf("%ld %s\n", i, id);
        fflush(stdout);
        usleep(20000);
    }
    double expected = 0.5;
    for (long i = 0; i < count; i++) expected = expected * 1.25 + (double)i;
    kill(worker, SIGKILL);
    close(ends[1]);
    int status = 0;
    int ok = waitpid(worker, &status, 0) == worker && WTERMSIG(status) == SIGKILL;
    ok &= waitpid(echo, &status, 0) == echo && status == 9 << 8;
    ok &= turns > 10 && shared[0] > 10 && sum == expected;
    puts(ok ? "ok" : "wrong");
    return !ok;
}
