//! Structs of system calls, laid out as Linux lays them out.
//!
//! linux-raw-sys has most of them, but not in a form that can be copied without `unsafe`; sizes are checked against
//! it.

use linux_raw_sys::general as c;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! uapi {
    ($($(#[$doc:meta])* $name:ident = $real:ty { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[allow(missing_docs)]
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name { $(pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == size_of::<$real>());
    )*};
}

uapi! {
    /// struct stat of stat(2).
    StatBuf = c::stat {
        dev: u64, ino: u64, nlink: u64, mode: u32, uid: u32, gid: u32, pad: u32, rdev: u64, size: i64,
        blksize: i64, blocks: i64, atime: i64, atime_nsec: u64, mtime: i64, mtime_nsec: u64, ctime: i64,
        ctime_nsec: u64, unused: [u64; 3],
    }
    /// struct statx_timestamp of statx(2).
    StatxTime = c::statx_timestamp { sec: i64, nsec: u32, reserved: i32 }
    /// struct statx of statx(2).
    Statx = c::statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16, spare0: u16, ino: u64,
        size: u64, blocks: u64, attributes_mask: u64, atime: StatxTime, btime: StatxTime, ctime: StatxTime,
        mtime: StatxTime, rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, mnt_id: u64,
        dio_mem_align: u32, dio_offset_align: u32, spare: [u64; 12],
    }
    /// struct statfs of statfs(2).
    StatFsBuf = c::statfs {
        kind: u64, bsize: u64, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, fsid: [u32; 2],
        namelen: u64, frsize: u64, flags: u64, spare: [u64; 4],
    }
    /// struct open_how of openat2(2).
    OpenHowBuf = c::open_how { flags: u64, mode: u64, resolve: u64 }
    /// struct timespec.
    Timespec = c::__kernel_timespec { sec: i64, nsec: i64 }
    /// struct timeval.
    Timeval = c::timeval { sec: i64, usec: i64 }
    /// struct itimerspec of timerfd_settime(2).
    Itimerspec = c::__kernel_itimerspec { interval: Timespec, value: Timespec }
    /// struct pollfd of poll(2).
    PollFd = c::pollfd { fd: i32, events: u16, revents: u16 }
    /// struct flock of fcntl(2).
    Flock = c::flock { kind: i16, whence: i16, pad: u32, start: i64, len: i64, pid: i32, pad2: u32 }
    /// struct f_owner_ex of fcntl(2).
    OwnerEx = c::f_owner_ex { kind: i32, pid: i32 }
    /// struct iovec of readv(2).
    Iovec = c::iovec { base: u64, len: u64 }
    /// struct termios of the kernel, ioctl_tty(2).
    Termios = c::termios {
        iflag: u32, oflag: u32, cflag: u32, lflag: u32, line: u8, cc: [u8; 19],
    }
    /// struct termios2 of the kernel, ioctl_tty(2).
    Termios2 = c::termios2 {
        iflag: u32, oflag: u32, cflag: u32, lflag: u32, line: u8, cc: [u8; 19], ispeed: u32, ospeed: u32,
    }
    /// struct termio of the kernel, ioctl_tty(2): that of System V.
    Termio = c::termio { iflag: u16, oflag: u16, cflag: u16, lflag: u16, line: u8, cc: [u8; 8], pad: u8 }
    /// struct winsize, ioctl_tty(2).
    Winsize = c::winsize { rows: u16, cols: u16, xpixel: u16, ypixel: u16 }
    /// struct mount_attr of mount_setattr(2).
    MountAttr = c::mount_attr { set: u64, clear: u64, propagation: u64, userns_fd: u64 }
}

/// struct epoll_event of epoll_ctl(2), packed on x86-64.
#[repr(C, packed)]
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EpollEvent {
    /// EPOLL* bits.
    pub events: u32,
    /// The program's own.
    pub data: u64,
}

/// struct signalfd_siginfo of signalfd(2); linux-raw-sys has none.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SignalfdInfo {
    pub signo: u32,
    pub errno: i32,
    pub code: i32,
    pub pid: u32,
    pub uid: u32,
    pub fd: i32,
    pub tid: u32,
    pub band: u32,
    pub overrun: u32,
    pub trapno: u32,
    pub status: i32,
    pub int: i32,
    pub ptr: u64,
    pub utime: u64,
    pub stime: u64,
    pub addr: u64,
    pub addr_lsb: u16,
    pub pad2: u16,
    pub syscall: i32,
    pub call_addr: u64,
    pub arch: u32,
    pub pad: [u8; 28],
}

const _: () = assert!(size_of::<SignalfdInfo>() == 128);
