//! The few path-based system calls of the VMM: resolved beneath a descriptor, never through a symbolic link.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use abi::hostcall::FileStat;

use crate::memory::errno;

/// Checks a path of the guest: relative, no NUL, no `..`.
pub fn check(path: &[u8]) -> Result<CString, i32> {
    if path.first() == Some(&b'/') || path.split(|&b| b == b'/').any(|part| part == b"..") {
        return Err(libc::EXDEV);
    }
    CString::new(path).map_err(|_| libc::EINVAL)
}

/// The directory of this process.
pub fn here() -> BorrowedFd<'static> {
    // SAFETY: not a descriptor that could be closed, but the name of the directory; never -1.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// openat2(2) beneath `dir`: no `..`, no symbolic or magic link in any component.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CString, flags: i32, mode: u64) -> Result<OwnedFd, i32> {
    // SAFETY: `open_how` is plain data for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = mode;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path is NUL-terminated and `how` is a valid struct of the size that is passed.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: a descriptor that the kernel just made and nobody else knows of.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// statx(2) of a descriptor.
pub fn stat(fd: BorrowedFd<'_>) -> Result<FileStat, i32> {
    // SAFETY: `statx` is plain data for which all zeros is a valid value.
    let mut raw: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor; `raw` is a valid place for the answer.
    let done = unsafe {
        libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_BASIC_STATS, &mut raw)
    };
    if done != 0 {
        return Err(errno());
    }
    let time = |t: libc::statx_timestamp| [t.tv_sec, i64::from(t.tv_nsec)];
    Ok(FileStat {
        ino: raw.stx_ino,
        dev: libc::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        mode: u32::from(raw.stx_mode),
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: libc::makedev(raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
    })
}

/// readlinkat(2) of a descriptor that names a symbolic link.
pub fn readlink(fd: BorrowedFd<'_>) -> Result<Vec<u8>, i32> {
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: an empty path names the descriptor itself; `target` has the length that is passed.
    let len =
        unsafe { libc::readlinkat(fd.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    // With an empty path the kernel says ENOENT of what is no symbolic link; readlink(2) says EINVAL of it.
    let len =
        usize::try_from(len).map_err(|_| if errno() == libc::ENOENT { libc::EINVAL } else { errno() })?;
    target.truncate(len);
    Ok(target)
}

/// fgetxattr(2).
pub fn get_xattr(fd: BorrowedFd<'_>, name: &CString) -> Result<Vec<u8>, i32> {
    let mut value = vec![0u8; 65536];
    // SAFETY: the name is NUL-terminated and `value` has the length that is passed.
    let len =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(len).map_err(|_| errno())?);
    Ok(value)
}

/// getdents64(2) into `buffer`; returns the bytes filled in.
pub fn getdents(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: `buffer` has the length that is passed.
    let len =
        unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(len).map_err(|_| errno())
}

/// lseek(2).
pub fn seek(fd: BorrowedFd<'_>, offset: i64, whence: i32) -> Result<i64, i32> {
    // SAFETY: takes numbers only.
    let at = unsafe { libc::lseek(fd.as_raw_fd(), offset, whence) };
    if at < 0 { Err(errno()) } else { Ok(at) }
}
