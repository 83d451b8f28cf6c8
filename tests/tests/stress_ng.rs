//! Stressors of stress-ng that check what they do (`--verify`): a few rounds of each, all in one sandbox, on each
//! platform. Those that are left out need devices, take long, want what a container has not, or fail natively
//! now and then in so few rounds (pthread: one run in ten).

use runsc_tests::{Bundle, platforms};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Names of stressors.
const STRESSORS: &str = "affinity aio aiol alarm atomic bad-altstack bigheap branch brk bsearch cache cacheline cap chattr \
    chdir chmod chown chroot clock clone close context copy-file cpu crypt daemon dccp dekker dentry \
    dev-shm dir dirdeep dirmany dup dynlib enosys env epoll eventfd exit-group fault fcntl fiemap fifo \
    file-ioctl filename flock flushcache fork fp-error full funccall funcret get getdent getrandom goto \
    hash hdd heapsort hsearch icache inotify io io-uring iomix ioprio itimer jpeg judy kcmp key kill kvm \
    l1cache link list llc-affinity loadavg locka lockbus lockf lockofd longjmp lsearch malloc matrix \
    matrix-3d membarrier memcpy memhotplug memthrash mergesort mincore mknod mlock mmapaddr mmaphuge \
    mmapmany mprotect mq msg msync munmap mutex nanosleep netdev nice nop null numa opcode open pagemove \
    pageswap personality peterson ping-sock pipe pkey poll prctl prefetch priv-instr ptrace pty \
    qsort race-sched ramfs randlist readahead regs remap rename resched revio ring-pipe rlimit rmap \
    rotate rtc schedpolicy sctp seal seccomp seek sem-sysv sendfile session set shm-sysv sigabrt sigchld \
    sigfpe sigio signal signest sigpending sigpipe sigq sigrt sigsegv sigtrap skiplist sleep sock \
    sockabuse sockdiag sockfd sockmany sockpair sparsematrix splice stackmmap str stream switch syncload \
    sysbadaddr syscall sysinfo tee timer timerfd touch udp-flood umount urandom utime vdso vecfp vecmath \
    vecshuf vecwide verity vfork vm-addr vm-rw vm-segv vm-splice wait waitcpu wcs x86cpuid zero zlib \
    zombie";

/// Runs each, and prints those that fail, with what they say. `--verify` makes a wrong result a failure; some report one
/// and end with 0 all the same.
const SCRIPT: &str = "cd /tmp; for name in $STRESSORS; do \
    stress-ng --$name 1 --$name-ops 3 --timeout 30 --verify --oomable --temp-path /tmp >/tmp/out 2>&1; code=$?; \
    if [ $code -ne 0 ] || grep -q 'fail:' /tmp/out; then echo \"$name: $code\"; grep -E 'fail:|error:' /tmp/out; fi; \
    done; echo done";

#[test]
fn stressors_find_nothing_wrong() {
    for platform in platforms() {
        let script = format!("STRESSORS='{STRESSORS}'; {SCRIPT}");
        let mut bundle = Bundle::new(Path::new("/"), &["/bin/bash", "-c", &script]).expect("a bundle");
        bundle.config()["process"]["env"] =
            serde_json::json!(["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/tmp"]);
        let output = bundle.run(platform, b"", LIMIT).expect("the run in the sandbox");
        let text = String::from_utf8_lossy(&output.stdout);
        let more = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text, "done\n", "on {platform}: {more}");
        assert!(output.status.success(), "on {platform}: {more}");
    }
}
