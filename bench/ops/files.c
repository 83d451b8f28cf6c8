// Files and directories.
#define _GNU_SOURCE
#include "ops.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int fd = -1;
static char block[4096];

static void open_file(void)
{
    need((fd = open(in_data("file"), O_RDONLY)) >= 0, "file");
}

static void open_written(void)
{
    need((fd = open(in_tmp("written"), O_CREAT | O_RDWR | O_TRUNC, 0600)) >= 0, "written");
}

static void close_file(void)
{
    close(fd);
}

static void close_written(void)
{
    close(fd);
    unlink(in_tmp("written"));
}

static void pread_4k(long n)
{
    while (n--)
        need(pread(fd, block, sizeof block, (n & 15) * sizeof block) == sizeof block, "pread");
}

static void pwrite_4k(long n)
{
    while (n--)
        need(pwrite(fd, block, sizeof block, (n & 255) * sizeof block) == sizeof block, "pwrite");
}

static void open_fstat_close(long n)
{
    const char *path = in_data("file");
    struct stat s;
    while (n--) {
        int f = open(path, O_RDONLY);
        need(f >= 0 && fstat(f, &s) == 0, "file");
        close(f);
    }
}

static void stat_same(long n)
{
    const char *path = in_data("file");
    struct stat s;
    while (n--)
        need(stat(path, &s) == 0, "file");
}

static void stat_missing(long n)
{
    const char *path = in_data("many/missing");
    struct stat s;
    while (n--)
        need(stat(path, &s) != 0, "missing");
}

static const char *one_of_many(long n)
{
    char name[32];
    snprintf(name, sizeof name, "many/f%ld", n % 1000);
    return in_data(name);
}

static void stat_storm(long n)
{
    struct stat s;
    while (n--)
        need(stat(one_of_many(n), &s) == 0, "many");
}

static void open_read_close_storm(long n)
{
    while (n--) {
        int f = open(one_of_many(n), O_RDONLY);
        need(f >= 0 && read(f, block, 64) >= 0, "many");
        close(f);
    }
}

static void readdir_1000(long n)
{
    const char *path = in_data("many");
    while (n--) {
        DIR *dir = opendir(path);
        need(dir != 0, "many");
        int entries = 0;
        while (readdir(dir))
            entries++;
        closedir(dir);
        need(entries >= 1000, "many");
    }
}

static void create_unlink(long n)
{
    char name[32];
    while (n--) {
        snprintf(name, sizeof name, "created%ld", n & 63);
        const char *path = in_tmp(name);
        int f = open(path, O_CREAT | O_RDWR, 0600);
        need(f >= 0, "created");
        close(f);
        unlink(path);
    }
}

const struct op file_ops[] = {
    {"pread_4k_rootfs", open_file, pread_4k, close_file, 0},
    {"pwrite_4k_tmp", open_written, pwrite_4k, close_written, 0},
    {"open_fstat_close", 0, open_fstat_close, 0, 0},
    {"stat_same", 0, stat_same, 0, 0},
    {"stat_missing", 0, stat_missing, 0, 0},
    {"stat_storm", 0, stat_storm, 0, 0},
    {"open_read_close_storm", 0, open_read_close_storm, 0, 0},
    {"readdir_1000", 0, readdir_1000, 0, 0},
    {"create_unlink", 0, create_unlink, 0, 0},
    {0},
};
