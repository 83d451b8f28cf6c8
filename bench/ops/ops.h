// Operations that are measured: each a loop of n turns, with what it needs made before and taken down after.
#ifndef OPS_H
#define OPS_H

struct op {
    const char *name;
    void (*setup)(void);    // may be null
    void (*loop)(long n);
    void (*teardown)(void); // may be null
    long bytes;             // bytes that a turn moves; 0: it is not about throughput
};

// Directory with the files `file` (64 KiB), `program` (this program) and `many` (1,000 small files).
extern const char *data_dir;
// Directory for files that are written.
extern const char *tmp_dir;

// Reports a failed operation to whoever asked for it, and gives it up.
_Noreturn void fail(const char *what);
// Fails unless `ok`.
static inline void need(int ok, const char *what)
{
    if (!ok)
        fail(what);
}
// A path below a directory, in one of two static buffers.
const char *in_data(const char *name);
const char *in_tmp(const char *name);

// Tables, each ended by an entry without a name.
extern const struct op call_ops[], file_ops[], memory_ops[], process_ops[], pair_ops[];

#endif
