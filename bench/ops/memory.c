// Mapping memory and touching it.
#define _GNU_SOURCE
#include "ops.h"
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };
static const long REGION = 64L << 20;
static char *area;

static char *map(long len)
{
    char *p = mmap(0, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(p != MAP_FAILED, "mmap");
    return p;
}

static void map_pages(long n, int pages)
{
    while (n--) {
        char *p = map((long)pages * PAGE);
        for (int i = 0; i < pages; i++)
            ((volatile char *)p)[i * PAGE] = 1;
        munmap(p, (long)pages * PAGE);
    }
}

static void mmap_1(long n)
{
    map_pages(n, 1);
}

static void mmap_64(long n)
{
    map_pages(n, 64);
}

// First touches in sequence, of small pages: a turn is a page.
static void page_fault(long n)
{
    while (n > 0) {
        long pages = n > REGION / PAGE ? REGION / PAGE : n;
        char *p = map(REGION);
        madvise(p, REGION, MADV_NOHUGEPAGE);
        for (long i = 0; i < pages; i++)
            ((volatile char *)p)[i * PAGE] = 1;
        munmap(p, REGION);
        n -= pages;
    }
}

static void map_area(void)
{
    area = map(16 * PAGE);
    memset(area, 1, 16 * PAGE);
}

static void unmap_area(void)
{
    munmap(area, 16 * PAGE);
}

static void mprotect_twice(long n)
{
    while (n--) {
        mprotect(area, 16 * PAGE, PROT_READ);
        mprotect(area, 16 * PAGE, PROT_READ | PROT_WRITE);
    }
}

const struct op memory_ops[] = {
    {"mmap_touch_munmap", 0, mmap_1, 0, 0},
    {"mmap64_touch_munmap", 0, mmap_64, 0, 0},
    {"page_fault_4k", 0, page_fault, 0, 0},
    {"mprotect_x2", map_area, mprotect_twice, unmap_area, 0},
    {0},
};
