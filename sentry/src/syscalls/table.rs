//! The table of system calls: number, name, handler, level of support, note. It is the source of
//! `runsc help syscalls` and of docs/compatibility.md.

use super::*;

/// How far a call is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As Linux has it.
    Full,
    /// Parts are refused: the note says which.
    Partial,
    /// Refused with EPERM, as to a container without the privilege.
    Refused,
    /// Not there: ENOSYS.
    Missing,
}

/// One system call.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Name.
    pub name: &'static str,
    /// What serves it.
    pub handler: Option<Handler>,
    /// How far it is there.
    pub level: Level,
    /// What is refused.
    pub note: &'static str,
}

/// One more than the highest number.
pub const COUNT: usize = 453;

macro_rules! table {
    ($($nr:literal $name:literal $level:ident $handler:expr, $note:literal;)*) => {
        /// Every system call by its number.
        pub static TABLE: [Option<Entry>; COUNT] = {
            let mut table = [const { None }; COUNT];
            $(table[$nr] = Some(Entry { name: $name, handler: $handler, level: Level::$level, note: $note });)*
            table
        };
    };
}

table! {
    0 "read" Full Some(read_write::read), "";
    1 "write" Full Some(read_write::write), "";
    2 "open" Full Some(open::open), "";
    3 "close" Full Some(open::close), "";
    4 "stat" Full Some(stat::stat), "";
    5 "fstat" Full Some(stat::fstat), "";
    6 "lstat" Full Some(stat::lstat), "";
    7 "poll" Full Some(poll::poll), "";
    8 "lseek" Full Some(read_write::lseek), "";
    9 "mmap" Partial Some(memory::mmap), "MAP_HUGETLB answers ENOMEM: there is no pool of huge pages";
    10 "mprotect" Full Some(memory::mprotect), "";
    11 "munmap" Full Some(memory::munmap), "";
    12 "brk" Full Some(memory::brk), "";
    13 "rt_sigaction" Full Some(signal::rt_sigaction), "";
    14 "rt_sigprocmask" Full Some(signal::rt_sigprocmask), "";
    15 "rt_sigreturn" Full Some(signal::rt_sigreturn), "";
    16 "ioctl" Full Some(ioctl::ioctl), "";
    17 "pread64" Full Some(read_write::pread64), "";
    18 "pwrite64" Full Some(read_write::pwrite64), "";
    19 "readv" Full Some(read_write::readv), "";
    20 "writev" Full Some(read_write::writev), "";
    21 "access" Full Some(stat::access), "";
    22 "pipe" Full Some(pipe::pipe), "";
    23 "select" Full Some(poll::select), "";
    24 "sched_yield" Full Some(sched::sched_yield), "";
    25 "mremap" Full Some(memory::mremap), "";
    26 "msync" Full Some(memory::msync), "";
    27 "mincore" Full Some(memory::mincore), "";
    28 "madvise" Partial Some(memory::madvise), "MADV_REMOVE is refused";
    29 "shmget" Full Some(sysv_shm::shmget), "";
    30 "shmat" Full Some(sysv_shm::shmat), "";
    31 "shmctl" Full Some(sysv_shm::shmctl), "";
    32 "dup" Full Some(fcntl::dup), "";
    33 "dup2" Full Some(fcntl::dup2), "";
    34 "pause" Full Some(signal::pause), "";
    35 "nanosleep" Full Some(time::nanosleep), "";
    36 "getitimer" Full Some(time::getitimer), "";
    37 "alarm" Full Some(time::alarm), "";
    38 "setitimer" Full Some(time::setitimer), "";
    39 "getpid" Full Some(process::getpid), "";
    40 "sendfile" Full Some(pipe::sendfile), "";
    41 "socket" Partial Some(socket::socket), "AF_UNIX, AF_INET and AF_INET6 (TCP, UDP), AF_NETLINK (NETLINK_ROUTE)";
    42 "connect" Full Some(socket::connect), "";
    43 "accept" Full Some(socket::accept), "";
    44 "sendto" Full Some(socket_message::sendto), "";
    45 "recvfrom" Full Some(socket_message::recvfrom), "";
    46 "sendmsg" Full Some(socket_message::sendmsg), "";
    47 "recvmsg" Full Some(socket_message::recvmsg), "";
    48 "shutdown" Full Some(socket::shutdown), "";
    49 "bind" Full Some(socket::bind), "";
    50 "listen" Full Some(socket::listen), "";
    51 "getsockname" Full Some(socket::getsockname), "";
    52 "getpeername" Full Some(socket::getpeername), "";
    53 "socketpair" Full Some(socket::socketpair), "";
    54 "setsockopt" Full Some(socket::setsockopt), "";
    55 "getsockopt" Full Some(socket::getsockopt), "";
    56 "clone" Partial Some(process::clone), "namespaces other than CLONE_NEWNS are refused";
    57 "fork" Full Some(process::fork), "";
    58 "vfork" Full Some(process::vfork), "";
    59 "execve" Full Some(process::execve), "";
    60 "exit" Full Some(process::exit), "";
    61 "wait4" Full Some(wait::wait4), "";
    62 "kill" Full Some(signal::kill), "";
    63 "uname" Full Some(misc::uname), "";
    64 "semget" Full Some(sysv_sem::semget), "";
    65 "semop" Full Some(sysv_sem::semop), "";
    66 "semctl" Full Some(sysv_sem::semctl), "";
    67 "shmdt" Full Some(sysv_shm::shmdt), "";
    68 "msgget" Full Some(sysv_msg::msgget), "";
    69 "msgsnd" Full Some(sysv_msg::msgsnd), "";
    70 "msgrcv" Full Some(sysv_msg::msgrcv), "";
    71 "msgctl" Full Some(sysv_msg::msgctl), "";
    72 "fcntl" Full Some(fcntl::fcntl), "";
    73 "flock" Full Some(fcntl::flock), "";
    74 "fsync" Full Some(read_write::fsync), "";
    75 "fdatasync" Full Some(read_write::fsync), "";
    76 "truncate" Full Some(read_write::truncate), "";
    77 "ftruncate" Full Some(read_write::ftruncate), "";
    78 "getdents" Full Some(dir::getdents), "";
    79 "getcwd" Full Some(path::getcwd), "";
    80 "chdir" Full Some(path::chdir), "";
    81 "fchdir" Full Some(path::fchdir), "";
    82 "rename" Full Some(dir::rename), "";
    83 "mkdir" Full Some(dir::mkdir), "";
    84 "rmdir" Full Some(dir::rmdir), "";
    85 "creat" Full Some(open::creat), "";
    86 "link" Full Some(dir::link), "";
    87 "unlink" Full Some(dir::unlink), "";
    88 "symlink" Full Some(dir::symlink), "";
    89 "readlink" Full Some(stat::readlink), "";
    90 "chmod" Full Some(stat::chmod), "";
    91 "fchmod" Full Some(stat::fchmod), "";
    92 "chown" Full Some(stat::chown), "";
    93 "fchown" Full Some(stat::fchown), "";
    94 "lchown" Full Some(stat::lchown), "";
    95 "umask" Full Some(path::umask), "";
    96 "gettimeofday" Full Some(time::gettimeofday), "";
    97 "getrlimit" Full Some(rlimit::getrlimit), "";
    98 "getrusage" Full Some(wait::getrusage), "";
    99 "sysinfo" Full Some(misc::sysinfo), "";
    100 "times" Full Some(wait::times), "";
    101 "ptrace" Partial Some(ptrace::ptrace), "PTRACE_SYSEMU, PTRACE_SINGLEBLOCK, PTRACE_PEEKSIGINFO and hardware breakpoints are refused";
    102 "getuid" Full Some(ids::getuid), "";
    103 "syslog" Refused Some(misc::not_permitted), "";
    104 "getgid" Full Some(ids::getgid), "";
    105 "setuid" Full Some(ids::setuid), "";
    106 "setgid" Full Some(ids::setgid), "";
    107 "geteuid" Full Some(ids::geteuid), "";
    108 "getegid" Full Some(ids::getegid), "";
    109 "setpgid" Full Some(process::setpgid), "";
    110 "getppid" Full Some(process::getppid), "";
    111 "getpgrp" Full Some(process::getpgrp), "";
    112 "setsid" Full Some(process::setsid), "";
    113 "setreuid" Full Some(ids::setreuid), "";
    114 "setregid" Full Some(ids::setregid), "";
    115 "getgroups" Full Some(ids::getgroups), "";
    116 "setgroups" Full Some(ids::setgroups), "";
    117 "setresuid" Full Some(ids::setresuid), "";
    118 "getresuid" Full Some(ids::getresuid), "";
    119 "setresgid" Full Some(ids::setresgid), "";
    120 "getresgid" Full Some(ids::getresgid), "";
    121 "getpgid" Full Some(process::getpgid), "";
    122 "setfsuid" Full Some(ids::setfsuid), "";
    123 "setfsgid" Full Some(ids::setfsgid), "";
    124 "getsid" Full Some(process::getsid), "";
    125 "capget" Full Some(ids::capget), "";
    126 "capset" Full Some(ids::capset), "";
    127 "rt_sigpending" Full Some(signal::rt_sigpending), "";
    128 "rt_sigtimedwait" Full Some(signal::rt_sigtimedwait), "";
    129 "rt_sigqueueinfo" Full Some(signal::rt_sigqueueinfo), "";
    130 "rt_sigsuspend" Full Some(signal::rt_sigsuspend), "";
    131 "sigaltstack" Full Some(signal::sigaltstack), "";
    132 "utime" Full Some(stat::utime), "";
    133 "mknod" Full Some(dir::mknod), "";
    134 "uselib" Missing None, "";
    135 "personality" Partial Some(misc::personality), "PER_LINUX only";
    136 "ustat" Missing None, "";
    137 "statfs" Full Some(stat::statfs), "";
    138 "fstatfs" Full Some(stat::fstatfs), "";
    139 "sysfs" Missing None, "";
    140 "getpriority" Full Some(sched::getpriority), "";
    141 "setpriority" Partial Some(sched::setpriority), "kept and shown; every task is scheduled alike";
    142 "sched_setparam" Partial Some(sched::sched_setparam), "kept and shown only";
    143 "sched_getparam" Full Some(sched::sched_getparam), "";
    144 "sched_setscheduler" Partial Some(sched::sched_setscheduler), "policies are kept and shown; every task is scheduled alike";
    145 "sched_getscheduler" Full Some(sched::sched_getscheduler), "";
    146 "sched_get_priority_max" Full Some(sched::sched_get_priority_max), "";
    147 "sched_get_priority_min" Full Some(sched::sched_get_priority_min), "";
    148 "sched_rr_get_interval" Full Some(sched::sched_rr_get_interval), "";
    149 "mlock" Full Some(memory::mlock), "";
    150 "munlock" Full Some(memory::munlock), "";
    151 "mlockall" Full Some(memory::mlockall), "";
    152 "munlockall" Full Some(memory::munlockall), "";
    153 "vhangup" Refused Some(misc::not_permitted), "";
    154 "modify_ldt" Missing None, "";
    155 "pivot_root" Full Some(mount::pivot_root), "";
    156 "sysctl" Missing None, "";
    157 "prctl" Partial Some(prctl::prctl), "options that Linux may be built without are refused: docs/limits.md";
    158 "arch_prctl" Full Some(prctl::arch_prctl), "";
    159 "adjtimex" Full Some(time::clock_settime), "";
    160 "setrlimit" Full Some(rlimit::setrlimit), "";
    161 "chroot" Full Some(path::chroot), "";
    162 "sync" Full Some(read_write::sync), "";
    163 "acct" Refused Some(misc::not_permitted), "";
    164 "settimeofday" Full Some(time::clock_settime), "";
    165 "mount" Full Some(mount::mount), "";
    166 "umount2" Full Some(mount::umount2), "";
    167 "swapon" Refused Some(misc::not_permitted), "";
    168 "swapoff" Refused Some(misc::not_permitted), "";
    169 "reboot" Refused Some(misc::not_permitted), "";
    170 "sethostname" Full Some(misc::sethostname), "";
    171 "setdomainname" Full Some(misc::setdomainname), "";
    172 "iopl" Refused Some(misc::not_permitted), "";
    173 "ioperm" Refused Some(misc::not_permitted), "";
    174 "create_module" Missing None, "";
    175 "init_module" Refused Some(misc::not_permitted), "";
    176 "delete_module" Refused Some(misc::not_permitted), "";
    177 "get_kernel_syms" Missing None, "";
    178 "query_module" Missing None, "";
    179 "quotactl" Refused Some(misc::not_permitted), "";
    180 "nfsservctl" Missing None, "";
    181 "getpmsg" Missing None, "";
    182 "putpmsg" Missing None, "";
    183 "afs_syscall" Missing None, "";
    184 "tuxcall" Missing None, "";
    185 "security" Missing None, "";
    186 "gettid" Full Some(process::gettid), "";
    187 "readahead" Full Some(read_write::readahead), "";
    188 "setxattr" Full Some(xattr::setxattr), "";
    189 "lsetxattr" Full Some(xattr::lsetxattr), "";
    190 "fsetxattr" Full Some(xattr::fsetxattr), "";
    191 "getxattr" Full Some(xattr::getxattr), "";
    192 "lgetxattr" Full Some(xattr::lgetxattr), "";
    193 "fgetxattr" Full Some(xattr::fgetxattr), "";
    194 "listxattr" Full Some(xattr::listxattr), "";
    195 "llistxattr" Full Some(xattr::llistxattr), "";
    196 "flistxattr" Full Some(xattr::flistxattr), "";
    197 "removexattr" Full Some(xattr::removexattr), "";
    198 "lremovexattr" Full Some(xattr::lremovexattr), "";
    199 "fremovexattr" Full Some(xattr::fremovexattr), "";
    200 "tkill" Full Some(signal::tkill), "";
    201 "time" Full Some(time::time), "";
    202 "futex" Partial Some(futex::futex), "priority inheritance and FUTEX_WAITV are not there";
    203 "sched_setaffinity" Full Some(sched::sched_setaffinity), "";
    204 "sched_getaffinity" Full Some(sched::sched_getaffinity), "";
    205 "set_thread_area" Missing None, "";
    206 "io_setup" Full Some(aio::io_setup), "";
    207 "io_destroy" Full Some(aio::io_destroy), "";
    208 "io_getevents" Full Some(aio::io_getevents), "";
    209 "io_submit" Partial Some(aio::io_submit), "IOCB_CMD_POLL is refused";
    210 "io_cancel" Full Some(aio::io_cancel), "";
    211 "get_thread_area" Missing None, "";
    212 "lookup_dcookie" Refused Some(misc::not_permitted), "";
    213 "epoll_create" Full Some(epoll::epoll_create), "";
    214 "epoll_ctl_old" Missing None, "";
    215 "epoll_wait_old" Missing None, "";
    216 "remap_file_pages" Full Some(memory::remap_file_pages), "";
    217 "getdents64" Full Some(dir::getdents64), "";
    218 "set_tid_address" Full Some(process::set_tid_address), "";
    219 "restart_syscall" Full Some(time::restart_syscall), "";
    220 "semtimedop" Full Some(sysv_sem::semtimedop), "";
    221 "fadvise64" Full Some(read_write::fadvise64), "";
    222 "timer_create" Full Some(time::timer_create), "";
    223 "timer_settime" Full Some(time::timer_settime), "";
    224 "timer_gettime" Full Some(time::timer_gettime), "";
    225 "timer_getoverrun" Full Some(time::timer_getoverrun), "";
    226 "timer_delete" Full Some(time::timer_delete), "";
    227 "clock_settime" Full Some(time::clock_settime), "";
    228 "clock_gettime" Full Some(time::clock_gettime), "";
    229 "clock_getres" Full Some(time::clock_getres), "";
    230 "clock_nanosleep" Full Some(time::clock_nanosleep), "";
    231 "exit_group" Full Some(process::exit_group), "";
    232 "epoll_wait" Full Some(epoll::epoll_wait), "";
    233 "epoll_ctl" Full Some(epoll::epoll_ctl), "";
    234 "tgkill" Full Some(signal::tgkill), "";
    235 "utimes" Full Some(stat::utimes), "";
    236 "vserver" Missing None, "";
    237 "mbind" Missing None, "";
    238 "set_mempolicy" Missing None, "";
    239 "get_mempolicy" Missing None, "";
    240 "mq_open" Full Some(mqueue::mq_open), "";
    241 "mq_unlink" Full Some(mqueue::mq_unlink), "";
    242 "mq_timedsend" Full Some(mqueue::mq_timedsend), "";
    243 "mq_timedreceive" Full Some(mqueue::mq_timedreceive), "";
    244 "mq_notify" Full Some(mqueue::mq_notify), "";
    245 "mq_getsetattr" Full Some(mqueue::mq_getsetattr), "";
    246 "kexec_load" Refused Some(misc::not_permitted), "";
    247 "waitid" Full Some(wait::waitid), "";
    248 "add_key" Missing None, "";
    249 "request_key" Missing None, "";
    250 "keyctl" Missing None, "";
    251 "ioprio_set" Partial Some(sched::ioprio_set), "accepted, without effect";
    252 "ioprio_get" Partial Some(sched::ioprio_get), "always the default";
    253 "inotify_init" Full Some(inotify::inotify_init), "";
    254 "inotify_add_watch" Full Some(inotify::inotify_add_watch), "";
    255 "inotify_rm_watch" Full Some(inotify::inotify_rm_watch), "";
    256 "migrate_pages" Missing None, "";
    257 "openat" Full Some(open::openat), "";
    258 "mkdirat" Full Some(dir::mkdirat), "";
    259 "mknodat" Full Some(dir::mknodat), "";
    260 "fchownat" Full Some(stat::fchownat), "";
    261 "futimesat" Full Some(stat::futimesat), "";
    262 "newfstatat" Full Some(stat::newfstatat), "";
    263 "unlinkat" Full Some(dir::unlinkat), "";
    264 "renameat" Full Some(dir::renameat), "";
    265 "linkat" Full Some(dir::linkat), "";
    266 "symlinkat" Full Some(dir::symlinkat), "";
    267 "readlinkat" Full Some(stat::readlinkat), "";
    268 "fchmodat" Full Some(stat::fchmodat), "";
    269 "faccessat" Full Some(stat::faccessat), "";
    270 "pselect6" Full Some(poll::pselect6), "";
    271 "ppoll" Full Some(poll::ppoll), "";
    272 "unshare" Missing None, "";
    273 "set_robust_list" Full Some(futex::set_robust_list), "";
    274 "get_robust_list" Full Some(futex::get_robust_list), "";
    275 "splice" Full Some(pipe::splice), "";
    276 "tee" Full Some(pipe::tee), "";
    277 "sync_file_range" Full Some(read_write::sync_file_range), "";
    278 "vmsplice" Full Some(pipe::vmsplice), "";
    279 "move_pages" Missing None, "";
    280 "utimensat" Full Some(stat::utimensat), "";
    281 "epoll_pwait" Full Some(epoll::epoll_pwait), "";
    282 "signalfd" Full Some(signalfd::signalfd), "";
    283 "timerfd_create" Full Some(timerfd::timerfd_create), "";
    284 "eventfd" Full Some(eventfd::eventfd), "";
    285 "fallocate" Full Some(read_write::fallocate), "";
    286 "timerfd_settime" Full Some(timerfd::timerfd_settime), "";
    287 "timerfd_gettime" Full Some(timerfd::timerfd_gettime), "";
    288 "accept4" Full Some(socket::accept4), "";
    289 "signalfd4" Full Some(signalfd::signalfd4), "";
    290 "eventfd2" Full Some(eventfd::eventfd2), "";
    291 "epoll_create1" Full Some(epoll::epoll_create1), "";
    292 "dup3" Full Some(fcntl::dup3), "";
    293 "pipe2" Full Some(pipe::pipe2), "";
    294 "inotify_init1" Full Some(inotify::inotify_init1), "";
    295 "preadv" Full Some(read_write::preadv), "";
    296 "pwritev" Full Some(read_write::pwritev), "";
    297 "rt_tgsigqueueinfo" Full Some(signal::rt_tgsigqueueinfo), "";
    298 "perf_event_open" Refused Some(misc::not_permitted), "";
    299 "recvmmsg" Full Some(socket_message::recvmmsg), "";
    300 "fanotify_init" Missing None, "";
    301 "fanotify_mark" Missing None, "";
    302 "prlimit64" Full Some(rlimit::prlimit64), "";
    303 "name_to_handle_at" Missing None, "";
    304 "open_by_handle_at" Refused Some(misc::not_permitted), "";
    305 "clock_adjtime" Full Some(time::clock_settime), "";
    306 "syncfs" Full Some(read_write::syncfs), "";
    307 "sendmmsg" Full Some(socket_message::sendmmsg), "";
    308 "setns" Missing None, "";
    309 "getcpu" Full Some(sched::getcpu), "";
    310 "process_vm_readv" Full Some(memory::process_vm_readv), "";
    311 "process_vm_writev" Full Some(memory::process_vm_writev), "";
    312 "kcmp" Missing None, "";
    313 "finit_module" Refused Some(misc::not_permitted), "";
    314 "sched_setattr" Partial Some(sched::sched_setattr), "kept and shown only";
    315 "sched_getattr" Full Some(sched::sched_getattr), "";
    316 "renameat2" Full Some(dir::renameat2), "";
    317 "seccomp" Partial Some(seccomp::seccomp), "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is refused";
    318 "getrandom" Full Some(misc::getrandom), "";
    319 "memfd_create" Full Some(open::memfd_create), "";
    320 "kexec_file_load" Refused Some(misc::not_permitted), "";
    321 "bpf" Refused Some(misc::not_permitted), "";
    322 "execveat" Full Some(process::execveat), "";
    323 "userfaultfd" Missing None, "";
    324 "membarrier" Full Some(memory::membarrier), "";
    325 "mlock2" Full Some(memory::mlock2), "";
    326 "copy_file_range" Full Some(pipe::copy_file_range), "";
    327 "preadv2" Full Some(read_write::preadv2), "";
    328 "pwritev2" Full Some(read_write::pwritev2), "";
    329 "pkey_mprotect" Full Some(memory::pkey_mprotect), "";
    330 "pkey_alloc" Partial Some(memory::pkey_alloc), "no keys are offered: ENOSPC";
    331 "pkey_free" Full Some(memory::pkey_free), "";
    332 "statx" Full Some(stat::statx), "";
    333 "io_pgetevents" Full Some(aio::io_pgetevents), "";
    334 "rseq" Full Some(sched::rseq), "";
    424 "pidfd_send_signal" Full Some(signal::pidfd_send_signal), "";
    425 "io_uring_setup" Missing None, "";
    426 "io_uring_enter" Missing None, "";
    427 "io_uring_register" Missing None, "";
    428 "open_tree" Missing None, "";
    429 "move_mount" Missing None, "";
    430 "fsopen" Missing None, "";
    431 "fsconfig" Missing None, "";
    432 "fsmount" Missing None, "";
    433 "fspick" Missing None, "";
    434 "pidfd_open" Full Some(process::pidfd_open), "";
    435 "clone3" Partial Some(process::clone3), "namespaces other than CLONE_NEWNS, set_tid and CLONE_INTO_CGROUP are refused";
    436 "close_range" Full Some(open::close_range), "";
    437 "openat2" Full Some(open::openat2), "";
    438 "pidfd_getfd" Missing None, "";
    439 "faccessat2" Full Some(stat::faccessat2), "";
    440 "process_madvise" Missing None, "";
    441 "epoll_pwait2" Full Some(epoll::epoll_pwait2), "";
    442 "mount_setattr" Missing None, "";
    443 "quotactl_fd" Missing None, "";
    444 "landlock_create_ruleset" Missing None, "";
    445 "landlock_add_rule" Missing None, "";
    446 "landlock_restrict_self" Missing None, "";
    447 "memfd_secret" Missing None, "";
    448 "process_mrelease" Missing None, "";
    449 "futex_waitv" Missing None, "";
    450 "set_mempolicy_home_node" Missing None, "";
    451 "cachestat" Missing None, "";
    452 "fchmodat2" Full Some(stat::fchmodat2), "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_what_the_handlers_do() {
        for (nr, entry) in TABLE.iter().enumerate().filter_map(|(nr, entry)| Some((nr, entry.as_ref()?))) {
            let refuses =
                entry.handler.is_some_and(|h| core::ptr::fn_addr_eq(h, misc::not_permitted as Handler));
            let level = match entry.handler {
                None => Level::Missing,
                Some(_) if refuses => Level::Refused,
                Some(_) if entry.note.is_empty() => Level::Full,
                Some(_) => Level::Partial,
            };
            assert_eq!(entry.level, level, "{} ({nr})", entry.name);
        }
    }
}
