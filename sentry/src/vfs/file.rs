//! Open file descriptions, open(2).

use super::async_io::AsyncLink;
use super::epoll_link::EpollLinks;
use super::inode::InodeExtra;
use super::notify;
use super::path::Path;
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::kernel::task::CurrentTask;
use crate::kernel::wait;
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::sync::{Events, Mutex, SpinLock, WaitQueue};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Queues that a description's readiness depends on.
pub type Queues<'a> = SmallVec<[&'a WaitQueue; 2]>;

/// How a description is opened.
pub struct OpenRequest<'a> {
    /// O_* flags.
    pub flags: u32,
    /// What is opened.
    pub path: &'a Path,
    /// By whom.
    pub cred: &'a Cred,
}

impl OpenRequest<'_> {
    /// Opened for reading.
    pub fn reads(&self) -> bool {
        self.flags & c::O_ACCMODE != c::O_WRONLY
    }

    /// Opened for writing.
    pub fn writes(&self) -> bool {
        self.flags & c::O_ACCMODE != c::O_RDONLY
    }
}

/// Takes the entries of a directory.
pub trait DirSink {
    /// Takes an entry; `next` is the position after it. `false`: it did not fit, stop.
    fn entry(&mut self, name: &[u8], ino: u64, kind: u8, next: u64) -> bool;
}

/// What serves a description. Offsets are given for files that can seek; others ignore them.
#[allow(unused_variables)]
pub trait FileOps: Send + Sync + Any {
    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// EINVAL where it can not be read; EAGAIN, EINTR, EISDIR, EFAULT.
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at an offset.
    ///
    /// # Errors
    /// EINVAL where it can not be written; EAGAIN, ENOSPC, EPIPE, EFAULT.
    fn write(&self, file: &OpenFile, source: &mut dyn Source, offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes at the end (O_APPEND); returns the count and the offset after it.
    ///
    /// # Errors
    /// As [`FileOps::write`].
    fn append(&self, file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.write(file, source, 0).map(|n| (n, 0))
    }

    /// Readiness now.
    fn poll(&self, file: &OpenFile) -> Events {
        Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM
    }

    /// Queues that are woken when the readiness changes.
    fn queues<'a>(&'a self, file: &OpenFile, queues: &mut Queues<'a>) {}

    /// Whether epoll(7) takes it.
    fn can_epoll(&self) -> bool {
        true
    }

    /// Whether it has an offset.
    fn can_seek(&self) -> bool {
        false
    }

    /// Length for SEEK_END and O_APPEND.
    fn size(&self) -> u64 {
        0
    }

    /// Finds data or a hole from an offset on, lseek(2).
    ///
    /// # Errors
    /// ENXIO beyond the end.
    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64> {
        let size = self.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        Ok(if hole { size } else { offset })
    }

    /// Sets a position itself, in place of the common code (host streams).
    fn seek(&self, file: &OpenFile, offset: i64, whence: u32) -> Option<Result<u64>> {
        None
    }

    /// ioctl(2) requests of the object.
    ///
    /// # Errors
    /// ENOTTY for what it does not know.
    fn ioctl(&self, task: &CurrentTask, file: &OpenFile, request: u32, arg: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// Gives entries of a directory from a position on.
    ///
    /// # Errors
    /// ENOTDIR.
    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// fsync(2).
    ///
    /// # Errors
    /// EINVAL where it means nothing.
    fn fsync(&self, file: &OpenFile) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// EOPNOTSUPP, ENODEV, ENOSPC.
    fn fallocate(&self, file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<()> {
        Err(Errno::ENODEV)
    }

    /// ftruncate(2).
    ///
    /// # Errors
    /// EINVAL where it has no length to set.
    fn truncate(&self, file: &OpenFile, size: u64) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Its pages, for mmap(2).
    ///
    /// # Errors
    /// ENODEV where it can not be mapped; EPERM of seals.
    fn mappable(&self, file: &OpenFile, shared: bool, write: bool) -> Result<Arc<dyn Mappable>> {
        Err(Errno::ENODEV)
    }

    /// Whether it signals readiness: O_ASYNC.
    fn can_async(&self) -> bool {
        false
    }

    /// Whether room in it is news: it had run out of it since this was asked last.
    fn ran_full(&self) -> bool {
        true
    }

    /// Whether a write that answers EPIPE brings SIGPIPE too.
    fn signals_pipe(&self) -> bool {
        true
    }

    /// A process closed a descriptor of it, whatever others there are.
    fn closed(&self, file: &OpenFile) {}

    /// The last reference to the description went away.
    fn release(&self, file: &OpenFile) {}

    /// Status flags were changed by fcntl(2).
    ///
    /// # Errors
    /// EINVAL for flags that it can not have.
    fn set_flags(&self, file: &OpenFile, flags: u32) -> Result<()> {
        Ok(())
    }

    /// Lines for /proc/PID/fdinfo.
    fn fdinfo(&self, out: &mut Vec<u8>) {}

    /// For downcasts.
    fn as_any(&self) -> &dyn Any;

    /// For downcasts of references.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

pub use super::async_io::SignalOwner;

/// Flags of a description that F_SETFL can change.
pub const SETFL: u32 = c::O_APPEND | c::O_NONBLOCK | c::FASYNC | c::O_DIRECT | c::O_NOATIME;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An open file description.
pub struct OpenFile {
    /// Unique number.
    pub id: u64,
    /// What was opened.
    pub path: Path,
    /// What serves it; for O_PATH nothing does.
    ops: Arc<dyn FileOps>,
    flags: AtomicU32,
    pos: Mutex<u64>,
    owner: SpinLock<SignalOwner>,
    counted_writer: bool,
    exec: AtomicBool,
    locked: AtomicBool,
    /// epoll instances that watch this.
    pub epolls: EpollLinks,
    /// Where it waits for what becomes a signal.
    pub(super) async_link: AsyncLink,
}

/// Operations of an O_PATH description: none.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl OpenFile {
    /// A description of an object. `flags` are the O_* flags that it keeps.
    pub fn new(path: Path, ops: Arc<dyn FileOps>, flags: u32) -> Arc<Self> {
        Self::count_open(&path);
        Self::make(path, ops, flags, false)
    }

    /// A description that counts as a writer of its inode (see [`InodeExtra::get_write`]).
    pub fn new_writer(path: Path, ops: Arc<dyn FileOps>, flags: u32) -> Arc<Self> {
        Self::count_open(&path);
        Self::make(path, ops, flags, true)
    }

    /// Leases go by the number of descriptions; those of O_PATH do not count.
    fn count_open(path: &Path) {
        if let Some(extra) = path.inode().extra() {
            extra.leases.opened();
        }
    }

    fn make(path: Path, ops: Arc<dyn FileOps>, flags: u32, counted_writer: bool) -> Arc<Self> {
        let keep = !(c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_CLOEXEC);
        // It says that the file was opened by a name: sockets were not.
        let large = if path.dentry.kind() == c::S_IFSOCK { 0 } else { c::O_LARGEFILE };
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path,
            ops,
            flags: AtomicU32::new(flags & keep | large),
            pos: Mutex::new(0),
            owner: SpinLock::new(SignalOwner::default()),
            counted_writer,
            exec: AtomicBool::new(false),
            locked: AtomicBool::new(false),
            epolls: EpollLinks::new(),
            async_link: AsyncLink::default(),
        })
    }

    /// A description that only names a place (O_PATH).
    pub fn new_path(path: Path, flags: u32) -> Arc<Self> {
        let keep = c::O_DIRECTORY | c::O_NOFOLLOW | c::O_PATH;
        let file = Self::make(path, Arc::new(PathOnly), 0, false);
        file.flags.store(flags & keep, Ordering::Relaxed);
        file
    }

    /// What serves it.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// What serves it, as a type; `None` where it is another.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    /// O_* flags, as F_GETFL shows them.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Sets the flags of [`SETFL`], F_SETFL.
    ///
    /// # Errors
    /// EINVAL for flags that the object can not have.
    pub fn set_flags(self: &Arc<Self>, flags: u32) -> Result<()> {
        let flags = if self.ops.can_async() { flags } else { flags & !c::FASYNC };
        self.ops.set_flags(self, flags & SETFL)?;
        let old = self.flags();
        self.flags.store(old & !SETFL | flags & SETFL, Ordering::Relaxed);
        if (old ^ flags) & c::FASYNC != 0 {
            self.update_async();
        }
        Ok(())
    }

    /// Whether calls must not wait.
    pub fn nonblock(&self) -> bool {
        self.flags() & c::O_NONBLOCK != 0
    }

    /// Whether it only names a place.
    pub fn is_path(&self) -> bool {
        self.flags() & c::O_PATH != 0
    }

    /// Whether it was opened for reading.
    pub fn can_read(&self) -> bool {
        let flags = self.flags();
        flags & c::O_PATH == 0 && flags & c::O_ACCMODE != c::O_WRONLY
    }

    /// Whether it was opened for writing.
    pub fn can_write(&self) -> bool {
        let flags = self.flags();
        flags & c::O_PATH == 0 && matches!(flags & c::O_ACCMODE, c::O_WRONLY | c::O_RDWR)
    }

    /// Locks of its inode, where it has any.
    pub fn extra(&self) -> Option<&InodeExtra> {
        self.path.inode().extra()
    }

    /// The position, locked: for calls that move it.
    pub fn position(&self) -> crate::sync::MutexGuard<'_, u64> {
        self.pos.lock()
    }

    /// Notes that flock(2) or OFD locks were taken through it.
    pub fn note_locked(&self) {
        self.locked.store(true, Ordering::Relaxed);
    }

    /// Makes it the program of a process: while it is open, the file can not be written.
    ///
    /// # Errors
    /// ETXTBSY.
    pub fn deny_write(&self) -> Result<()> {
        if let Some(extra) = self.extra() {
            extra.deny_write()?;
            self.exec.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Who gets SIGIO.
    pub fn signal_owner(&self) -> SignalOwner {
        *self.owner.lock()
    }

    /// Sets who gets SIGIO.
    pub fn set_signal_owner(&self, owner: SignalOwner) {
        *self.owner.lock() = owner;
    }

    /// Readiness now.
    pub fn poll(&self) -> Events {
        self.ops.poll(self)
    }

    /// Queues that are woken when the readiness changes.
    pub fn queues(&self) -> Queues<'_> {
        let mut queues = Queues::new();
        self.ops.queues(self, &mut queues);
        queues
    }

    /// Waits until an operation does something else than EAGAIN; with O_NONBLOCK it is tried once.
    ///
    /// # Errors
    /// What the operation says, or EINTR.
    pub fn block_on<T>(&self, events: Events, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(Errno::EAGAIN) if !self.nonblock() => {}
            other => return other,
        }
        let queues = self.queues();
        let queues: SmallVec<[(&WaitQueue, Events); 2]> = queues.iter().map(|q| (*q, events)).collect();
        wait::wait_until(&queues, None, || match attempt() {
            Err(Errno::EAGAIN) => None,
            other => Some(other),
        })?
    }

    /// Reads without a user buffer, for the loader.
    ///
    /// # Errors
    /// As read(2).
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.ops.read(self, &mut crate::mm::io::SliceSink::new(buf), offset)
    }

    /// Its pages, named by its path: what a mapping keeps.
    ///
    /// # Errors
    /// ENODEV where it can not be mapped; EPERM of seals.
    pub fn mappable(self: &Arc<Self>, shared: bool, write: bool) -> Result<Arc<dyn Mappable>> {
        let object = self.ops.mappable(self, shared, write)?;
        Ok(Arc::new(FileMapping { file: self.clone(), object }))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.epolls.close(self);
        self.leave_async();
        self.ops.release(self);
        if !self.is_path() {
            let written = self.can_write();
            notify::dentry_event(
                &self.path.dentry,
                if written { c::IN_CLOSE_WRITE } else { c::IN_CLOSE_NOWRITE },
            );
        }
        if let Some(extra) = self.path.inode().extra() {
            if !self.is_path() {
                extra.leases.closed(self.id);
            }
            if self.counted_writer {
                extra.put_write();
            }
            if self.exec.load(Ordering::Relaxed) {
                extra.allow_write();
            }
            if self.locked.load(Ordering::Relaxed) {
                extra.locks.release_description(self.id);
            }
        }
    }
}

/// A file's pages together with the description that they were mapped through.
struct FileMapping {
    file: Arc<OpenFile>,
    object: Arc<dyn Mappable>,
}

impl Mappable for FileMapping {
    fn frame(&self, index: u64, write: bool) -> Result<FrameRef> {
        self.object.frame(index, write)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        self.object.frames_present(index, max)
    }

    fn mappings(&self) -> &Mappings {
        self.object.mappings()
    }

    fn tracks_writes(&self) -> bool {
        self.object.tracks_writes()
    }

    fn frames_to_write(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        self.object.frames_to_write(index, max)
    }

    fn write_back(&self, pages: Range<u64>, disk: bool) -> Result<()> {
        self.object.write_back(pages, disk)
    }

    fn describe(&self) -> ObjectName {
        let mut name = self.object.describe();
        let mut root = self.file.path.mnt.root_path();
        while let Some(place) = root.mnt.place() {
            root = place.mnt.root_path();
        }
        name.path = self.file.path.to_bytes(&root);
        name
    }
}
