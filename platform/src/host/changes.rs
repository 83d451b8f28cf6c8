//! Host calls that change what is beneath donated directories: names, attributes, lengths.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use abi::hostcall::change;

use super::files::{Directory, Files};
use super::paths;
use crate::memory::errno;

/// Bytes of the two times that [`change::TIMES`] sets.
const TIMES_LEN: usize = 32;
/// fchmodat2(2), which came with Linux 6.6.
pub(crate) const SYS_FCHMODAT2: libc::c_long = 452;
/// What the opening and closing of a descriptor tells watches.
pub(super) const OPENING: u32 = libc::IN_OPEN | libc::IN_CLOSE;
/// An owner or group that stays.
const KEEP: u32 = u32::MAX;

fn done(result: libc::c_int) -> Result<i64, i32> {
    if result == 0 { Ok(0) } else { Err(errno()) }
}

/// A directory beneath the donated one, and a name in it.
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    pub(super) name: CString,
}

impl Place {
    pub(super) fn of(root: &Directory, path: &[u8]) -> Result<Self, i32> {
        if !root.directory {
            return Err(libc::ENOTDIR);
        }
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        if name.is_empty() || name == b"." || name == b".." {
            return Err(libc::EINVAL);
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = paths::open_beneath(root.fd.as_fd(), &paths::check(dir)?, flags, 0)?;
        Ok(Self { dir, name: CString::new(name).map_err(|_| libc::EINVAL)? })
    }
}

/// A descriptor that only names what `path` names; symbolic links themselves.
fn named(root: &Directory, path: &[u8]) -> Result<OwnedFd, i32> {
    if path.is_empty() && !root.directory {
        return root.fd.try_clone().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO));
    }
    let path = paths::check(if path.is_empty() { b"." } else { path })?;
    paths::open_beneath(root.fd.as_fd(), &path, libc::O_PATH | libc::O_NOFOLLOW, 0)
}

fn set_owner(fd: &OwnedFd, uid: u64, gid: u64) -> Result<i64, i32> {
    let id = |value: u64| u32::try_from(value).unwrap_or(KEEP);
    let empty = c"".as_ptr();
    // SAFETY: the empty path names the descriptor; the rest are numbers.
    done(unsafe { libc::fchownat(fd.as_raw_fd(), empty, id(uid), id(gid), libc::AT_EMPTY_PATH) })
}

/// Sets the mode of what a descriptor names; `None` where the host is older than the call for that.
fn set_mode(fd: &OwnedFd, mode: u64) -> Option<Result<i64, i32>> {
    let (mode, flags) = (mode & 0o7777, libc::AT_EMPTY_PATH);
    // SAFETY: the empty path names the descriptor; the rest are numbers.
    let result = unsafe { libc::syscall(SYS_FCHMODAT2, fd.as_raw_fd(), c"".as_ptr(), mode, flags) };
    match done(result as libc::c_int) {
        Err(libc::ENOSYS) => None,
        other => Some(other),
    }
}

/// The four words of the two times.
fn words(bytes: &[u8]) -> Result<[u64; 4], i32> {
    if bytes.len() != TIMES_LEN {
        return Err(libc::EINVAL);
    }
    Ok([0, 8, 16, 24].map(|at| bytes[at..at + 8].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b))))
}

fn set_times(fd: &OwnedFd, words: [u64; 4]) -> Result<i64, i32> {
    let words = words.map(|word| word as i64);
    let times = [0, 2].map(|at| libc::timespec { tv_sec: words[at], tv_nsec: words[at + 1] });
    // SAFETY: the empty path names the descriptor; the array has the two elements that the call reads.
    done(unsafe { libc::utimensat(fd.as_raw_fd(), c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) })
}

impl Files {
    /// Serves `FileChange`. `other` is the second text: a path, a target, or times.
    pub fn change(
        &self,
        root: u64,
        path: &[u8],
        other: &[u8],
        operation: u64,
        first: u64,
        second: u64,
    ) -> Result<i64, i32> {
        let root = self.root(root)?;
        if !root.writable {
            return Err(libc::EROFS);
        }
        match operation {
            change::MAKE_DIRECTORY => {
                let at = Place::of(root, path)?;
                let mode = (first & 0o7777) as libc::mode_t;
                // SAFETY: the name is NUL-terminated.
                done(unsafe { libc::mkdirat(at.dir.as_raw_fd(), at.name.as_ptr(), mode) })
            }
            change::MAKE_LINK => {
                let source = named(root, path)?;
                let at = Place::of(root, other)?;
                let (source, dir) = (source.as_raw_fd(), at.dir.as_raw_fd());
                // SAFETY: the names are NUL-terminated; the empty one names the descriptor.
                done(unsafe {
                    libc::linkat(source, c"".as_ptr(), dir, at.name.as_ptr(), libc::AT_EMPTY_PATH)
                })
            }
            change::MAKE_SYMLINK => {
                let at = Place::of(root, path)?;
                let target = CString::new(other).map_err(|_| libc::EINVAL)?;
                // SAFETY: both strings are NUL-terminated.
                done(unsafe { libc::symlinkat(target.as_ptr(), at.dir.as_raw_fd(), at.name.as_ptr()) })
            }
            change::REMOVE | change::REMOVE_DIRECTORY => {
                let at = Place::of(root, path)?;
                let flags = if operation == change::REMOVE { 0 } else { libc::AT_REMOVEDIR };
                // SAFETY: the name is NUL-terminated.
                done(unsafe { libc::unlinkat(at.dir.as_raw_fd(), at.name.as_ptr(), flags) })
            }
            change::RENAME => {
                let (from, to) = (Place::of(root, path)?, Place::of(root, other)?);
                let allowed = u64::from(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE);
                if first & !allowed != 0 {
                    return Err(libc::EINVAL);
                }
                // SAFETY: the names are NUL-terminated.
                done(unsafe {
                    libc::syscall(
                        libc::SYS_renameat2,
                        from.dir.as_raw_fd(),
                        from.name.as_ptr(),
                        to.dir.as_raw_fd(),
                        to.name.as_ptr(),
                        first,
                    ) as libc::c_int
                })
            }
            change::MODE if let Some(done) = set_mode(&named(root, path)?, first) => done,
            // The descriptor that the change needs is the VMM's own affair: watches do not tell of its opening.
            change::MODE => self.notify.without(OPENING, path, || {
                let fd = self.open_for_change(root, path, libc::O_RDONLY)?;
                // SAFETY: takes numbers.
                let changed = done(unsafe { libc::fchmod(fd.as_raw_fd(), (first & 0o7777) as libc::mode_t) });
                drop(fd);
                changed
            }),
            change::OWNER if !other.is_empty() => {
                self.notify.without(libc::IN_ATTRIB, path, || set_owner(&named(root, path)?, first, second))
            }
            change::OWNER => set_owner(&named(root, path)?, first, second),
            change::SIZE => self.notify.without(OPENING, path, || {
                let fd = self.open_for_change(root, path, libc::O_WRONLY)?;
                truncate(&fd, first)
            }),
            change::MAKE_NODE => {
                let at = Place::of(root, path)?;
                let mode = first as libc::mode_t & (libc::S_IFMT | 0o7777);
                if !matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFIFO | libc::S_IFSOCK) {
                    return Err(libc::EPERM);
                }
                // SAFETY: the name is NUL-terminated.
                done(unsafe { libc::mknodat(at.dir.as_raw_fd(), at.name.as_ptr(), mode, 0) })
            }
            change::TIMES => set_times(&named(root, path)?, words(other)?),
            _ => Err(libc::EINVAL),
        }
    }

    /// Changes attributes of an open file.
    pub fn set_attr(&self, handle: u64, operation: u64, values: [u64; 4]) -> Result<i64, i32> {
        self.to_change(handle, |fd| match operation {
            change::MODE => {
                let mode = (values[0] & 0o7777) as libc::mode_t;
                // SAFETY: takes numbers.
                done(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })
            }
            change::OWNER => set_owner(fd, values[0], values[1]),
            change::TIMES => set_times(fd, values),
            _ => Err(libc::EINVAL),
        })
    }

    /// Gives an open file a name.
    pub fn link(&self, handle: u64, root: u64, path: &[u8]) -> Result<i64, i32> {
        let root = self.root(root)?;
        if !root.writable {
            return Err(libc::EROFS);
        }
        let at = Place::of(root, path)?;
        self.with_handle(handle, |fd, _| {
            let (file, dir) = (fd.as_raw_fd(), at.dir.as_raw_fd());
            // SAFETY: the names are NUL-terminated; the empty one names the descriptor.
            done(unsafe { libc::linkat(file, c"".as_ptr(), dir, at.name.as_ptr(), libc::AT_EMPTY_PATH) })
        })
    }

    /// Sets the length of an open file.
    pub fn truncate_handle(&self, handle: u64, size: u64) -> Result<i64, i32> {
        self.with_handle(handle, |fd, writable| if writable { truncate(fd, size) } else { Err(libc::EINVAL) })
    }

    /// Waits until an open file is on its disk. `data`: without what is not needed to read it.
    pub fn sync(&self, handle: u64, data: bool) -> Result<i64, i32> {
        self.with_handle(handle, |fd, _| {
            // SAFETY: both take a number.
            done(unsafe { if data { libc::fdatasync(fd.as_raw_fd()) } else { libc::fsync(fd.as_raw_fd()) } })
        })
    }
}

fn truncate(fd: &OwnedFd, size: u64) -> Result<i64, i32> {
    let size = libc::off_t::try_from(size).map_err(|_| libc::EFBIG)?;
    // SAFETY: takes numbers.
    done(unsafe { libc::ftruncate(fd.as_raw_fd(), size) })
}
