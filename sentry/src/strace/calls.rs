//! What the arguments of each system call are, as its manual page has them.

use super::flags::*;
use linux_raw_sys::general as c;

/// What an argument is. Numbers name other arguments by their place.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A signed number, 32 bits.
    Int,
    /// A signed number, 64 bits.
    Long,
    /// A number without sign.
    Size,
    /// An address, or what is not looked at.
    Ptr,
    /// A mode in octal.
    Mode,
    /// A mode where the flags in the argument before create a file, else nothing.
    ModeIfCreates,
    /// A file descriptor, or AT_FDCWD.
    Fd,
    /// A string of the program.
    Str,
    /// Flags of these names.
    Flags(Names),
    /// One of these names.
    One(Names),
    /// A number of these names in the bits of the mask, and flags above it.
    Low(Names, u64, Names),
    /// Flags of clone(2) with a signal in the low byte.
    Clone,
    /// Flags of open(2), whose access mode is no flag.
    Open,
    /// A signal.
    Signal,
    /// Bytes that the call reads, as many as this argument says.
    In(usize),
    /// Bytes that the call has written, as many as it returns.
    Out,
    /// An array of buffers that the call reads; their number.
    IovIn(usize),
    /// An array of buffers that the call has written; their number.
    IovOut(usize),
    /// A socket address that the call reads; its length.
    Addr(usize),
    /// A socket address that the call has written; where its length stands.
    AddrOut(usize),
    /// A message: its name, buffers and control data.
    Msg(bool),
    /// A struct.
    In1(Struct),
    /// A struct that the call has written.
    Out1(Struct),
    /// An array of structs that the call reads; their number.
    InN(Struct, usize),
    /// An array of structs that the call has written, as many as it returns.
    OutN(Struct),
    /// Strings up to a null pointer.
    StrVec,
}

/// Structs that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Struct {
    /// struct timespec.
    Timespec,
    /// struct timeval.
    Timeval,
    /// struct itimerspec.
    Itimerspec,
    /// struct itimerval.
    Itimerval,
    /// A set of signals.
    Sigset,
    /// struct sigaction of the kernel.
    Sigaction,
    /// struct stat.
    Stat,
    /// struct statx.
    Statx,
    /// struct pollfd.
    Pollfd,
    /// struct epoll_event.
    EpollEvent,
    /// Status of wait(2).
    WaitStatus,
    /// struct rlimit.
    Rlimit,
    /// Two file descriptors.
    FdPair,
    /// struct utsname.
    Utsname,
    /// A 32-bit number.
    U32,
    /// A 64-bit number.
    U64,
    /// struct clone_args.
    CloneArgs,
    /// struct open_how.
    OpenHow,
}

use self::Kind::*;
use self::Struct as S;

/// Whether a call's result is an address.
pub fn returns_address(nr: u64) -> bool {
    matches!(nr as u32, c::__NR_mmap | c::__NR_brk | c::__NR_mremap | c::__NR_shmat)
}

/// Whether the arguments of a call are known here.
#[cfg(test)]
pub fn known(nr: u64) -> bool {
    find(nr).is_some()
}

/// What the arguments of a call are; of one that is not known, six addresses.
pub fn signature(nr: u64) -> &'static [Kind] {
    find(nr).unwrap_or(&[Ptr; 6])
}

#[rustfmt::skip]
fn find(nr: u64) -> Option<&'static [Kind]> {
    Some(match u32::try_from(nr).ok()? {
        c::__NR_read => &[Fd, Out, Size],
        c::__NR_write => &[Fd, In(2), Size],
        c::__NR_pread64 => &[Fd, Out, Size, Long],
        c::__NR_pwrite64 => &[Fd, In(2), Size, Long],
        c::__NR_readv => &[Fd, IovOut(2), Int],
        c::__NR_writev => &[Fd, IovIn(2), Int],
        c::__NR_preadv => &[Fd, IovOut(2), Int, Long],
        c::__NR_pwritev => &[Fd, IovIn(2), Int, Long],
        c::__NR_preadv2 => &[Fd, IovOut(2), Int, Long, Long, Flags(RWF)],
        c::__NR_pwritev2 => &[Fd, IovIn(2), Int, Long, Long, Flags(RWF)],
        c::__NR_open => &[Str, Open, ModeIfCreates],
        c::__NR_openat => &[Fd, Str, Open, ModeIfCreates],
        c::__NR_openat2 => &[Fd, Str, In1(S::OpenHow), Size],
        c::__NR_creat => &[Str, Mode],
        c::__NR_close | c::__NR_fsync | c::__NR_fdatasync | c::__NR_fchdir | c::__NR_dup
            | c::__NR_syncfs | c::__NR_epoll_create | c::__NR_timer_getoverrun
            | c::__NR_timer_delete => &[Fd],
        c::__NR_close_range => &[Size, Size, Flags(CLOSE_RANGE)],
        c::__NR_stat | c::__NR_lstat => &[Str, Out1(S::Stat)],
        c::__NR_fstat => &[Fd, Out1(S::Stat)],
        c::__NR_newfstatat => &[Fd, Str, Out1(S::Stat), Flags(AT)],
        c::__NR_statx => &[Fd, Str, Flags(AT), Ptr, Out1(S::Statx)],
        c::__NR_statfs => &[Str, Ptr],
        c::__NR_fstatfs => &[Fd, Ptr],
        c::__NR_poll => &[InN(S::Pollfd, 1), Size, Int],
        c::__NR_ppoll => &[InN(S::Pollfd, 1), Size, In1(S::Timespec), In1(S::Sigset), Size],
        c::__NR_select => &[Int, Ptr, Ptr, Ptr, In1(S::Timeval)],
        c::__NR_pselect6 => &[Int, Ptr, Ptr, Ptr, In1(S::Timespec), Ptr],
        c::__NR_lseek => &[Fd, Long, One(SEEK)],
        c::__NR_mmap => &[Ptr, Size, Flags(PROT), Flags(MAP), Fd, Long],
        c::__NR_mprotect => &[Ptr, Size, Flags(PROT)],
        c::__NR_pkey_mprotect => &[Ptr, Size, Flags(PROT), Int],
        c::__NR_pkey_alloc => &[Size, Size],
        c::__NR_pkey_free => &[Int],
        c::__NR_munmap | c::__NR_mlock | c::__NR_munlock => &[Ptr, Size],
        c::__NR_mlock2 => &[Ptr, Size, Ptr],
        c::__NR_mlockall => &[Flags(MLOCKALL)],
        c::__NR_brk => &[Ptr],
        c::__NR_mremap => &[Ptr, Size, Size, Flags(MREMAP), Ptr],
        c::__NR_msync => &[Ptr, Size, Flags(MSYNC)],
        c::__NR_mincore => &[Ptr, Size, Ptr],
        c::__NR_madvise => &[Ptr, Size, One(MADVISE)],
        c::__NR_membarrier => &[Int, Int, Int],
        c::__NR_rt_sigaction => &[Signal, In1(S::Sigaction), Out1(S::Sigaction), Size],
        c::__NR_rt_sigprocmask => &[One(SIGMASK), In1(S::Sigset), Out1(S::Sigset), Size],
        c::__NR_rt_sigpending => &[Out1(S::Sigset), Size],
        c::__NR_rt_sigsuspend => &[In1(S::Sigset), Size],
        c::__NR_rt_sigtimedwait => &[In1(S::Sigset), Ptr, In1(S::Timespec), Size],
        c::__NR_rt_sigqueueinfo => &[Int, Signal, Ptr],
        c::__NR_rt_tgsigqueueinfo => &[Int, Int, Signal, Ptr],
        c::__NR_sigaltstack => &[Ptr, Ptr],
        c::__NR_kill | c::__NR_tkill => &[Int, Signal],
        c::__NR_tgkill => &[Int, Int, Signal],
        c::__NR_pidfd_send_signal => &[Fd, Signal, Ptr, Ptr],
        c::__NR_pidfd_open => &[Int, Ptr],
        c::__NR_signalfd => &[Fd, In1(S::Sigset), Size],
        c::__NR_signalfd4 => &[Fd, In1(S::Sigset), Size, Flags(CLOEXEC)],
        c::__NR_ioctl => &[Fd, One(IOCTL), Ptr],
        c::__NR_access => &[Str, Flags(ACCESS)],
        c::__NR_faccessat => &[Fd, Str, Flags(ACCESS)],
        c::__NR_faccessat2 => &[Fd, Str, Flags(ACCESS), Flags(AT)],
        c::__NR_pipe => &[Out1(S::FdPair)],
        c::__NR_pipe2 => &[Out1(S::FdPair), Flags(CLOEXEC)],
        c::__NR_dup2 => &[Fd, Fd],
        c::__NR_dup3 => &[Fd, Fd, Flags(CLOEXEC)],
        c::__NR_fcntl => &[Fd, One(FCNTL), Ptr],
        c::__NR_flock => &[Fd, Flags(FLOCK)],
        c::__NR_nanosleep => &[In1(S::Timespec), Out1(S::Timespec)],
        c::__NR_clock_nanosleep => &[One(CLOCK), Int, In1(S::Timespec), Out1(S::Timespec)],
        c::__NR_clock_gettime | c::__NR_clock_getres => &[One(CLOCK), Out1(S::Timespec)],
        c::__NR_clock_settime => &[One(CLOCK), In1(S::Timespec)],
        c::__NR_clock_adjtime => &[One(CLOCK), Ptr],
        c::__NR_gettimeofday => &[Out1(S::Timeval), Ptr],
        c::__NR_settimeofday => &[In1(S::Timeval), Ptr],
        c::__NR_adjtimex | c::__NR_time | c::__NR_times => &[Ptr],
        c::__NR_getitimer => &[Int, Out1(S::Itimerval)],
        c::__NR_setitimer => &[Int, In1(S::Itimerval), Out1(S::Itimerval)],
        c::__NR_alarm => &[Size],
        c::__NR_timer_create => &[One(CLOCK), Ptr, Out1(S::U32)],
        c::__NR_timer_settime => &[Int, Int, In1(S::Itimerspec), Out1(S::Itimerspec)],
        c::__NR_timer_gettime => &[Int, Out1(S::Itimerspec)],
        c::__NR_timerfd_create => &[One(CLOCK), Flags(CLOEXEC)],
        c::__NR_timerfd_settime => &[Fd, Int, In1(S::Itimerspec), Out1(S::Itimerspec)],
        c::__NR_timerfd_gettime => &[Fd, Out1(S::Itimerspec)],
        c::__NR_sendfile => &[Fd, Fd, In1(S::U64), Size],
        c::__NR_splice => &[Fd, In1(S::U64), Fd, In1(S::U64), Size, Ptr],
        c::__NR_tee => &[Fd, Fd, Size, Ptr],
        c::__NR_vmsplice => &[Fd, IovIn(2), Size, Ptr],
        c::__NR_copy_file_range => &[Fd, In1(S::U64), Fd, In1(S::U64), Size, Ptr],
        c::__NR_socket => &[One(FAMILY), Low(SOCKET_TYPE, 0xf, SOCKET_FLAGS), Int],
        c::__NR_socketpair => &[One(FAMILY), Low(SOCKET_TYPE, 0xf, SOCKET_FLAGS), Int, Out1(S::FdPair)],
        c::__NR_connect | c::__NR_bind => &[Fd, Addr(2), Int],
        c::__NR_accept => &[Fd, AddrOut(2), Ptr],
        c::__NR_accept4 => &[Fd, AddrOut(2), Ptr, Flags(SOCKET_FLAGS)],
        c::__NR_listen => &[Fd, Int],
        c::__NR_shutdown => &[Fd, One(SHUTDOWN)],
        c::__NR_getsockname | c::__NR_getpeername => &[Fd, AddrOut(2), Ptr],
        c::__NR_sendto => &[Fd, In(2), Size, Flags(MSG), Addr(5), Int],
        c::__NR_recvfrom => &[Fd, Out, Size, Flags(MSG), AddrOut(5), Ptr],
        c::__NR_sendmsg => &[Fd, Msg(false), Flags(MSG)],
        c::__NR_recvmsg => &[Fd, Msg(true), Flags(MSG)],
        c::__NR_sendmmsg => &[Fd, Ptr, Size, Flags(MSG)],
        c::__NR_recvmmsg => &[Fd, Ptr, Size, Flags(MSG), In1(S::Timespec)],
        c::__NR_setsockopt => &[Fd, One(LEVEL), Int, In(4), Int],
        c::__NR_getsockopt => &[Fd, One(LEVEL), Int, Out1(S::U32), Ptr],
        c::__NR_clone => &[Clone, Ptr, Ptr, Ptr, Ptr],
        c::__NR_clone3 => &[In1(S::CloneArgs), Size],
        c::__NR_unshare => &[Flags(CLONE)],
        c::__NR_setns => &[Fd, Flags(CLONE)],
        c::__NR_execve => &[Str, StrVec, Ptr],
        c::__NR_execveat => &[Fd, Str, StrVec, Ptr, Flags(AT)],
        c::__NR_exit | c::__NR_exit_group => &[Int],
        c::__NR_wait4 => &[Int, Out1(S::WaitStatus), Flags(WAIT), Ptr],
        c::__NR_waitid => &[Int, Int, Ptr, Flags(WAIT), Ptr],
        c::__NR_getrusage => &[Int, Ptr],
        c::__NR_uname => &[Out1(S::Utsname)],
        c::__NR_truncate => &[Str, Long],
        c::__NR_ftruncate => &[Fd, Long],
        c::__NR_fallocate => &[Fd, Ptr, Long, Long],
        c::__NR_fadvise64 => &[Fd, Long, Long, Int],
        c::__NR_readahead => &[Fd, Long, Size],
        c::__NR_sync_file_range => &[Fd, Long, Long, Ptr],
        c::__NR_getdents | c::__NR_getdents64 => &[Fd, Ptr, Size],
        c::__NR_getcwd => &[Out, Size],
        c::__NR_chdir | c::__NR_rmdir | c::__NR_unlink | c::__NR_chroot => &[Str],
        c::__NR_rename | c::__NR_link | c::__NR_symlink | c::__NR_pivot_root => &[Str, Str],
        c::__NR_renameat => &[Fd, Str, Fd, Str],
        c::__NR_renameat2 => &[Fd, Str, Fd, Str, Flags(RENAME)],
        c::__NR_linkat => &[Fd, Str, Fd, Str, Flags(AT)],
        c::__NR_symlinkat => &[Str, Fd, Str],
        c::__NR_unlinkat => &[Fd, Str, Flags(AT)],
        c::__NR_mkdir | c::__NR_chmod => &[Str, Mode],
        c::__NR_mkdirat | c::__NR_fchmodat => &[Fd, Str, Mode],
        c::__NR_fchmodat2 => &[Fd, Str, Mode, Flags(AT)],
        c::__NR_fchmod => &[Fd, Mode],
        c::__NR_mknod => &[Str, Mode, Ptr],
        c::__NR_mknodat => &[Fd, Str, Mode, Ptr],
        c::__NR_chown | c::__NR_lchown => &[Str, Int, Int],
        c::__NR_fchown => &[Fd, Int, Int],
        c::__NR_fchownat => &[Fd, Str, Int, Int, Flags(AT)],
        c::__NR_umask => &[Mode],
        c::__NR_readlink => &[Str, Out, Size],
        c::__NR_readlinkat => &[Fd, Str, Out, Size],
        c::__NR_utime | c::__NR_utimes => &[Str, Ptr],
        c::__NR_futimesat => &[Fd, Str, Ptr],
        c::__NR_utimensat => &[Fd, Str, Ptr, Flags(AT)],
        c::__NR_mount => &[Str, Str, Str, Ptr, Ptr],
        c::__NR_umount2 => &[Str, Ptr],
        c::__NR_setxattr | c::__NR_lsetxattr => &[Str, Str, In(3), Size, Int],
        c::__NR_fsetxattr => &[Fd, Str, In(3), Size, Int],
        c::__NR_getxattr | c::__NR_lgetxattr => &[Str, Str, Out, Size],
        c::__NR_fgetxattr => &[Fd, Str, Out, Size],
        c::__NR_listxattr | c::__NR_llistxattr => &[Str, Out, Size],
        c::__NR_flistxattr => &[Fd, Out, Size],
        c::__NR_removexattr | c::__NR_lremovexattr => &[Str, Str],
        c::__NR_fremovexattr => &[Fd, Str],
        c::__NR_inotify_init | c::__NR_sched_yield | c::__NR_pause | c::__NR_getpid | c::__NR_fork | c::__NR_vfork
            | c::__NR_getuid | c::__NR_getgid | c::__NR_geteuid | c::__NR_getegid | c::__NR_getppid
            | c::__NR_getpgrp | c::__NR_setsid | c::__NR_gettid | c::__NR_sync | c::__NR_munlockall
            | c::__NR_restart_syscall | c::__NR_rt_sigreturn => &[],
        c::__NR_inotify_init1 => &[Flags(CLOEXEC)],
        c::__NR_inotify_add_watch => &[Fd, Str, Ptr],
        c::__NR_inotify_rm_watch => &[Fd, Int],
        c::__NR_epoll_create1 => &[Flags(CLOEXEC)],
        c::__NR_epoll_ctl => &[Fd, One(EPOLL_OP), Fd, In1(S::EpollEvent)],
        c::__NR_epoll_wait => &[Fd, OutN(S::EpollEvent), Int, Int],
        c::__NR_epoll_pwait => &[Fd, OutN(S::EpollEvent), Int, Int, In1(S::Sigset), Size],
        c::__NR_epoll_pwait2 => &[Fd, OutN(S::EpollEvent), Int, In1(S::Timespec), In1(S::Sigset), Size],
        c::__NR_eventfd => &[Size],
        c::__NR_eventfd2 => &[Size, Flags(CLOEXEC)],
        c::__NR_io_setup => &[Int, Ptr],
        c::__NR_io_destroy => &[Ptr],
        c::__NR_io_submit => &[Ptr, Long, Ptr],
        c::__NR_io_cancel => &[Ptr, Ptr, Ptr],
        c::__NR_io_getevents => &[Ptr, Long, Long, Ptr, In1(S::Timespec)],
        c::__NR_io_pgetevents => &[Ptr, Long, Long, Ptr, In1(S::Timespec), Ptr],
        c::__NR_remap_file_pages => &[Ptr, Size, Ptr, Size, Ptr],
        c::__NR_memfd_create => &[Str, Ptr],
        c::__NR_futex => &[Ptr, Low(FUTEX, 0x7f, FUTEX_FLAGS), Int, In1(S::Timespec), Ptr, Ptr],
        c::__NR_set_robust_list => &[Ptr, Size],
        c::__NR_get_robust_list => &[Int, Ptr, Ptr],
        c::__NR_set_tid_address => &[Ptr],
        c::__NR_rseq => &[Ptr, Size, Int, Ptr],
        c::__NR_getrlimit => &[One(RLIMIT), Out1(S::Rlimit)],
        c::__NR_setrlimit => &[One(RLIMIT), In1(S::Rlimit)],
        c::__NR_prlimit64 => &[Int, One(RLIMIT), In1(S::Rlimit), Out1(S::Rlimit)],
        c::__NR_sysinfo => &[Ptr],
        c::__NR_getrandom => &[Ptr, Size, Flags(GETRANDOM)],
        c::__NR_setuid | c::__NR_setgid | c::__NR_setfsuid | c::__NR_setfsgid | c::__NR_getpgid | c::__NR_getsid
            | c::__NR_sched_getscheduler | c::__NR_sched_get_priority_max
            | c::__NR_sched_get_priority_min => &[Int],
        c::__NR_setreuid | c::__NR_setregid | c::__NR_setpgid | c::__NR_getpriority | c::__NR_ioprio_get => &[Int, Int],
        c::__NR_setresuid | c::__NR_setresgid | c::__NR_setpriority | c::__NR_ioprio_set => &[Int, Int, Int],
        c::__NR_getresuid | c::__NR_getresgid => &[Out1(S::U32), Out1(S::U32), Out1(S::U32)],
        c::__NR_getgroups | c::__NR_setgroups => &[Int, Ptr],
        c::__NR_capget | c::__NR_capset => &[Ptr, Ptr],
        c::__NR_sethostname | c::__NR_setdomainname => &[In(1), Size],
        c::__NR_personality => &[Ptr],
        c::__NR_prctl => &[One(PRCTL), Ptr, Ptr, Ptr, Ptr],
        c::__NR_arch_prctl => &[One(ARCH_PRCTL), Ptr],
        c::__NR_sched_setparam | c::__NR_sched_getparam => &[Int, In1(S::U32)],
        c::__NR_sched_setscheduler => &[Int, Int, In1(S::U32)],
        c::__NR_sched_rr_get_interval => &[Int, Out1(S::Timespec)],
        c::__NR_sched_setaffinity => &[Int, Size, In1(S::U64)],
        c::__NR_sched_getaffinity => &[Int, Size, Out1(S::U64)],
        c::__NR_sched_setattr => &[Int, Ptr, Ptr],
        c::__NR_sched_getattr => &[Int, Ptr, Size, Ptr],
        c::__NR_getcpu => &[Out1(S::U32), Out1(S::U32), Ptr],
        c::__NR_process_vm_readv | c::__NR_process_vm_writev => &[Int, Ptr, Size, Ptr, Size, Ptr],
        c::__NR_mq_open => &[Str, Open, ModeIfCreates, Ptr],
        c::__NR_mq_unlink => &[Str],
        c::__NR_mq_timedsend => &[Fd, In(2), Size, Size, In1(S::Timespec)],
        c::__NR_mq_timedreceive => &[Fd, Out, Size, Out1(S::U32), In1(S::Timespec)],
        c::__NR_mq_notify => &[Fd, Ptr],
        c::__NR_mq_getsetattr => &[Fd, Ptr, Ptr],
        c::__NR_shmget => &[Int, Size, Mode],
        c::__NR_shmat => &[Int, Ptr, Ptr],
        c::__NR_shmdt => &[Ptr],
        c::__NR_shmctl => &[Int, One(IPC), Ptr],
        c::__NR_semget => &[Int, Int, Mode],
        c::__NR_semop => &[Int, Ptr, Size],
        c::__NR_semtimedop => &[Int, Ptr, Size, In1(S::Timespec)],
        c::__NR_semctl => &[Int, Int, One(SEMCTL), Ptr],
        c::__NR_msgget => &[Int, Mode],
        c::__NR_msgsnd => &[Int, Ptr, Size, Mode],
        c::__NR_msgrcv => &[Int, Ptr, Size, Long, Mode],
        c::__NR_msgctl => &[Int, One(IPC), Ptr],
        c::__NR_ptrace => &[One(PTRACE), Int, Ptr, Ptr],
        c::__NR_kcmp => &[Int, Int, Int, Ptr, Ptr],
        c::__NR_seccomp => &[Int, Ptr, Ptr],
        _ => return None,
    })
}
