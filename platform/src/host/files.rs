//! Host calls on files beneath donated directories.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use abi::hostcall::{DirEntryHead, FileStat, GpaRange, MAX_TRANSFER};
use zerocopy::IntoBytes;

use super::changes::OPENING;
use super::notify::Notifier;
use super::{fault, paths};
use crate::memory::{GuestMemory, errno};

/// Most handles that a sandbox may have open.
const MAX_HANDLES: usize = 8192;
/// Most bytes that one read of a directory fetches.
const MAX_DIR_BUFFER: u64 = 64 << 10;
/// Flag of `FileOpen`: create.
const CREATE: u64 = 1 << 8;
/// Flag of `FileOpen`: exclusively.
const EXCLUSIVE: u64 = 1 << 9;
/// Flag of `FileOpen`: truncate.
const TRUNCATE: u64 = 1 << 10;
/// Flag of `FileOpen`: a file without a name.
const NAMELESS: u64 = 1 << 11;
/// Bytes of a `linux_dirent64` before its name.
const DIRENT_NAME: usize = 19;

/// A host directory, or a single file, that a container may see.
pub struct Directory {
    /// Descriptor of it. For a single file one that can be read (and written, if `writable`).
    pub fd: OwnedFd,
    /// Whether it may be changed.
    pub writable: bool,
    /// Whether it is a directory.
    pub directory: bool,
}

struct Handle {
    fd: OwnedFd,
    directory: bool,
    writable: bool,
    /// Beneath a directory that was donated for writing.
    changeable: bool,
}

/// Donated directories and the handles opened beneath them.
pub struct Files {
    roots: Vec<Directory>,
    pub(super) notify: Arc<Notifier>,
    handles: Mutex<Vec<Option<Arc<Handle>>>>,
}

impl Files {
    /// Files beneath `roots`.
    pub fn new(roots: Vec<Directory>) -> Self {
        Self { roots, notify: Arc::default(), handles: Mutex::new(Vec::new()) }
    }

    pub(super) fn root(&self, index: u64) -> Result<&Directory, i32> {
        usize::try_from(index).ok().and_then(|i| self.roots.get(i)).ok_or(libc::EBADF)
    }

    fn table(&self) -> MutexGuard<'_, Vec<Option<Arc<Handle>>>> {
        self.handles.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn handle(&self, index: u64) -> Result<Arc<Handle>, i32> {
        let slot = usize::try_from(index).map_err(|_| libc::EBADF)?;
        self.table().get(slot).and_then(Option::as_ref).map(Arc::clone).ok_or(libc::EBADF)
    }

    /// Works with the descriptor of a handle, and whether that was opened for writing.
    pub(super) fn with_handle<R>(
        &self,
        handle: u64,
        f: impl FnOnce(&OwnedFd, bool) -> Result<R, i32>,
    ) -> Result<R, i32> {
        let handle = self.handle(handle)?;
        f(&handle.fd, handle.writable)
    }

    /// As [`Files::with_handle`], to change what the handle names.
    pub(super) fn to_change<R>(
        &self,
        handle: u64,
        f: impl FnOnce(&OwnedFd) -> Result<R, i32>,
    ) -> Result<R, i32> {
        let handle = self.handle(handle)?;
        if handle.changeable { f(&handle.fd) } else { Err(libc::EROFS) }
    }

    /// A regular file or directory, to change it.
    pub(super) fn open_for_change(&self, root: &Directory, path: &[u8], access: i32) -> Result<OwnedFd, i32> {
        if path.is_empty() && !root.directory {
            return root.fd.try_clone().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO));
        }
        let path = paths::check(if path.is_empty() { b"." } else { path })?;
        open_checked(root, &path, access, 0, 0)
    }

    /// A descriptor that names `path` without opening it.
    fn name(root: &Directory, path: &[u8]) -> Result<OwnedFd, i32> {
        let path = paths::check(path)?;
        paths::open_beneath(root.fd.as_fd(), &path, libc::O_PATH | libc::O_NOFOLLOW, 0)
    }

    /// Metadata.
    pub fn stat_at(&self, root: u64, path: &[u8]) -> Result<FileStat, i32> {
        let root = self.root(root)?;
        if path.is_empty() {
            return paths::stat(root.fd.as_fd());
        }
        paths::stat(Self::name(root, path)?.as_fd())
    }

    /// Target of a symbolic link.
    pub fn readlink(&self, root: u64, path: &[u8]) -> Result<Vec<u8>, i32> {
        if path.is_empty() {
            return Err(libc::EINVAL);
        }
        paths::readlink(Self::name(self.root(root)?, path)?.as_fd())
    }

    /// Opens a regular file or directory.
    pub fn open(&self, root: u64, path: &[u8], flags: u64, mode: u64) -> Result<i64, i32> {
        let root = self.root(root)?;
        let access = match flags & 0xff {
            0 => libc::O_RDONLY,
            1 => libc::O_WRONLY,
            2 => libc::O_RDWR,
            _ => return Err(libc::EINVAL),
        };
        if flags & !(0xff | CREATE | EXCLUSIVE | TRUNCATE | NAMELESS) != 0 || mode & !0o7777 != 0 {
            return Err(libc::EINVAL);
        }
        let changes = access != libc::O_RDONLY || flags & (CREATE | TRUNCATE | NAMELESS) != 0;
        if changes && !root.writable {
            return Err(libc::EROFS);
        }
        let fd = if flags & NAMELESS != 0 {
            let path = paths::check(if path.is_empty() { b"." } else { path })?;
            paths::open_beneath(root.fd.as_fd(), &path, access | libc::O_TMPFILE, mode)?
        } else if path.is_empty() && !root.directory {
            let fd = root.fd.try_clone().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
            if flags & TRUNCATE != 0 {
                truncate(fd.as_fd())?;
            }
            fd
        } else {
            let path = paths::check(if path.is_empty() { b"." } else { path })?;
            open_checked(root, &path, access, flags, mode)?
        };
        let kind = paths::stat(fd.as_fd())?.mode & libc::S_IFMT;
        let directory = kind == libc::S_IFDIR;
        if !directory && kind != libc::S_IFREG {
            return Err(libc::EACCES);
        }
        let (writable, changeable) = (access != libc::O_RDONLY, root.writable);
        self.insert(Handle { fd, directory, writable, changeable })
    }

    fn insert(&self, handle: Handle) -> Result<i64, i32> {
        let mut table = self.table();
        let slot = match table.iter().position(Option::is_none) {
            Some(free) => free,
            None if table.len() < MAX_HANDLES => {
                table.push(None);
                table.len() - 1
            }
            None => return Err(libc::EMFILE),
        };
        table[slot] = Some(Arc::new(handle));
        Ok(slot as i64)
    }

    /// Closes a handle.
    pub fn close(&self, handle: u64) -> Result<i64, i32> {
        let slot = usize::try_from(handle).map_err(|_| libc::EBADF)?;
        let closed = self.table().get_mut(slot).and_then(Option::take);
        closed.map(|_| 0).ok_or(libc::EBADF)
    }

    /// Metadata of an open file.
    pub fn stat_handle(&self, handle: u64) -> Result<FileStat, i32> {
        paths::stat(self.handle(handle)?.fd.as_fd())
    }

    /// Reads at an offset into guest memory.
    pub fn read(
        &self,
        memory: &GuestMemory,
        handle: u64,
        offset: u64,
        ranges: &[GpaRange],
    ) -> Result<i64, i32> {
        let handle = self.handle(handle)?;
        if handle.directory {
            return Err(libc::EISDIR);
        }
        let offset = i64::try_from(offset).map_err(|_| libc::EINVAL)?;
        let vectors = vectors(memory, ranges, false)?;
        // SAFETY: every vector names a range of guest memory, which outlives the call and to which no reference
        // exists; their number is at most MAX_RANGES (checked by the caller), far below IOV_MAX.
        let done = unsafe {
            libc::preadv(handle.fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, offset)
        };
        if done < 0 { Err(errno()) } else { Ok(done as i64) }
    }

    /// Opens a regular file, reads from it, and keeps it open where there may be more: see the host call.
    pub fn read_at(
        &self,
        memory: &GuestMemory,
        root: u64,
        path: &[u8],
        offset: u64,
        ranges: &[GpaRange],
    ) -> Result<i64, i32> {
        let handle = self.open(root, path, 0, 0)?;
        let done = self.read(memory, handle as u64, offset, ranges);
        let room: u64 = ranges.iter().map(|range| range.len).sum();
        match done {
            Ok(done) if done as u64 == room => Ok(done | (handle + 1) << 32),
            done => {
                self.close(handle as u64)?;
                done
            }
        }
    }

    /// All entries of a directory, packed; E2BIG where they need more than `room` bytes.
    pub fn list_at(&self, root: u64, path: &[u8], room: u64) -> Result<Vec<u8>, i32> {
        let handle = self.open(root, path, 0, 0)? as u64;
        let all = || {
            let mut entries = Vec::new();
            loop {
                let more = self.read_dir(handle, false, room)?;
                if more.is_empty() {
                    return Ok(entries);
                }
                entries.extend_from_slice(&more);
                if entries.len() as u64 > room {
                    return Err(libc::E2BIG);
                }
            }
        };
        let entries = all();
        self.close(handle)?;
        entries
    }

    /// Writes at an offset from guest memory.
    pub fn write(
        &self,
        memory: &GuestMemory,
        handle: u64,
        offset: u64,
        ranges: &[GpaRange],
    ) -> Result<i64, i32> {
        let handle = self.handle(handle)?;
        if !handle.writable {
            return Err(libc::EBADF);
        }
        let offset = i64::try_from(offset).map_err(|_| libc::EINVAL)?;
        let vectors = vectors(memory, ranges, true)?;
        // SAFETY: as in `read`; the kernel reads the ranges.
        let done = unsafe {
            libc::pwritev(handle.fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, offset)
        };
        if done < 0 { Err(errno()) } else { Ok(done as i64) }
    }

    /// Next entries of a directory, packed as the host interface says; at most `room` bytes.
    pub fn read_dir(&self, handle: u64, rewind: bool, room: u64) -> Result<Vec<u8>, i32> {
        let handle = self.handle(handle)?;
        if !handle.directory {
            return Err(libc::ENOTDIR);
        }
        if room < 512 {
            return Err(libc::EINVAL);
        }
        if rewind {
            paths::seek(handle.fd.as_fd(), 0, libc::SEEK_SET)?;
        }
        let mut raw = vec![0u8; room.min(MAX_DIR_BUFFER) as usize];
        loop {
            let len = paths::getdents(handle.fd.as_fd(), &mut raw)?;
            let packed = pack_entries(&raw[..len]);
            // A read may have given nothing but `.` and `..`.
            if len == 0 || !packed.is_empty() {
                return Ok(packed);
            }
        }
    }

    /// An extended attribute.
    pub fn get_xattr(&self, root: u64, path: &[u8], name: &[u8]) -> Result<Vec<u8>, i32> {
        if !name.starts_with(b"user.") && name != b"security.capability" {
            return Err(libc::EOPNOTSUPP);
        }
        let name = CString::new(name).map_err(|_| libc::EINVAL)?;
        let root = self.root(root)?;
        if path.is_empty() && !root.directory {
            return paths::get_xattr(root.fd.as_fd(), &name);
        }
        let path = paths::check(if path.is_empty() { b"." } else { path })?;
        self.notify.without(OPENING, path.as_bytes(), || {
            let fd = match open_checked(root, &path, libc::O_RDONLY, 0, 0) {
                Err(libc::ELOOP | libc::EACCES) => return Err(libc::ENODATA),
                other => other?,
            };
            paths::get_xattr(fd.as_fd(), &name)
        })
    }
}

/// Opens `path` beneath `root` if it is a regular file or a directory, or may be created as a file. What is there is
/// looked at before it is opened: opening a device or a fifo has effects.
fn open_checked(
    root: &Directory,
    path: &CString,
    access: i32,
    flags: u64,
    mode: u64,
) -> Result<OwnedFd, i32> {
    let mut open = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    match paths::open_beneath(root.fd.as_fd(), path, libc::O_PATH | libc::O_NOFOLLOW, 0) {
        Ok(found) => match paths::stat(found.as_fd())?.mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFDIR => {}
            libc::S_IFLNK => return Err(libc::ELOOP),
            _ => return Err(libc::EACCES),
        },
        Err(libc::ENOENT) if flags & CREATE != 0 => {}
        Err(errno) => return Err(errno),
    }
    for (flag, host) in [(CREATE, libc::O_CREAT), (EXCLUSIVE, libc::O_EXCL), (TRUNCATE, libc::O_TRUNC)] {
        open |= if flags & flag != 0 { host } else { 0 };
    }
    paths::open_beneath(root.fd.as_fd(), path, open, if flags & CREATE != 0 { mode } else { 0 })
}

fn truncate(fd: BorrowedFd<'_>) -> Result<(), i32> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::ftruncate(fd.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(errno()) }
}

/// The ranges as host memory to read into; `source`: to write from, which may lie in an image of a file system.
fn vectors(memory: &GuestMemory, ranges: &[GpaRange], source: bool) -> Result<Vec<libc::iovec>, i32> {
    let mut total = 0u64;
    let host = |gpa, len| if source { memory.host_to_read(gpa, len) } else { memory.host(gpa, len) };
    ranges
        .iter()
        .map(|range| {
            total = total.checked_add(range.len).filter(|t| *t <= MAX_TRANSFER).ok_or(libc::EINVAL)?;
            let host = host(range.gpa, range.len).map_err(fault)?;
            Ok(libc::iovec { iov_base: host as *mut libc::c_void, iov_len: range.len as usize })
        })
        .collect()
}

/// Turns what getdents64(2) gave into packed [`DirEntryHead`]s. Each is no longer than what it is made from.
fn pack_entries(mut raw: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(raw.len());
    while raw.len() > DIRENT_NAME {
        let ino = raw[..8].iter().rev().fold(0, |n, &b| (n << 8) | u64::from(b));
        let reclen = usize::from(u16::from_le_bytes([raw[16], raw[17]]));
        let kind = u32::from(raw[18]);
        let Some((entry, rest)) = raw.split_at_checked(reclen) else { break };
        let Some(name) = entry.get(DIRENT_NAME..).and_then(|name| name.split(|&b| b == 0).next()) else {
            break;
        };
        if name != b"." && name != b".." {
            let head = DirEntryHead { ino, kind, name_len: name.len() as u32 };
            packed.extend_from_slice(head.as_bytes());
            packed.extend_from_slice(name);
            packed.resize(packed.len().next_multiple_of(8), 0);
        }
        raw = rest;
    }
    packed
}
