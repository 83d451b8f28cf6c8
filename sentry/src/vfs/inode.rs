//! What a file system provides: inodes, super blocks and their attributes, as inode(7).

use super::dentry::Dentry;
use super::file::{FileOps, OpenRequest};
use super::leases::Leases;
use super::locks::FileLocks;
use super::notify::Watches;
use super::path::Path;
use crate::errno::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// The bits of a mode that hold the type.
pub const S_IFMT: u32 = c::S_IFMT;

/// A point in time, as struct timespec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: u32,
}

impl Time {
    /// CLOCK_REALTIME now.
    pub fn now() -> Self {
        let ns = crate::time::realtime_ns();
        Self { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
    }
}

/// What permission checks need.
#[derive(Debug, Clone, Copy)]
pub struct Attr {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Attributes of a file, as stat(2) and statx(2) show them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stat {
    /// Device that holds the file.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device that it is.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred block size.
    pub blksize: u32,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change of status.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
}

/// A change of attributes; what is `None` stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    /// Permission bits (without the type).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last modification.
    pub mtime: Option<Time>,
}

/// What to create.
#[derive(Debug, Clone, Copy)]
pub enum Create<'a> {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link with this target.
    Symlink(&'a [u8]),
    /// A device, fifo or socket: type bits and device number.
    Node(u32, u64),
}

/// Owner and permissions of what is created.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Permission bits, the umask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Where a symbolic link leads.
pub enum Link {
    /// To a path to be walked.
    Text(Vec<u8>),
    /// To an object (a magic link of proc(5)).
    Path(Path),
}

/// State that any inode may have: locks, watches, writers.
#[derive(Default)]
pub struct InodeExtra {
    /// flock(2) and fcntl(2) locks.
    pub locks: FileLocks,
    /// inotify(7) watches.
    pub watches: Watches,
    /// Descriptions open for writing; negative: programs being executed.
    pub writers: AtomicI32,
    /// Leases of fcntl(2).
    pub leases: Leases,
}

impl InodeExtra {
    /// No locks, watches or writers.
    pub const fn new() -> Self {
        Self {
            locks: FileLocks::new(),
            watches: Watches::new(),
            writers: AtomicI32::new(0),
            leases: Leases::new(),
        }
    }

    fn shift(&self, from_ok: fn(i32) -> bool, by: i32) -> Result<()> {
        self.writers
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| from_ok(n).then(|| n.saturating_add(by)))
            .map(drop)
            .map_err(|_| Errno::ETXTBSY)
    }

    /// Counts a writer.
    ///
    /// # Errors
    /// ETXTBSY while the file is executed.
    pub fn get_write(&self) -> Result<()> {
        self.shift(|n| n >= 0, 1)
    }

    /// Uncounts a writer.
    pub fn put_write(&self) {
        self.writers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts an execution.
    ///
    /// # Errors
    /// ETXTBSY while the file is open for writing.
    pub fn deny_write(&self) -> Result<()> {
        self.shift(|n| n <= 0, -1)
    }

    /// Uncounts an execution.
    pub fn allow_write(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }
}

/// A file of a file system. Directory operations are called with the directory's lock held; permissions, mount
/// flags and name lengths have been checked.
pub trait Inode: Send + Sync + Any {
    /// Type, permissions and owner.
    fn attr(&self) -> Attr;

    /// All attributes.
    ///
    /// # Errors
    /// EIO and the like of file systems that ask the host.
    fn stat(&self) -> Result<Stat>;

    /// Changes attributes.
    ///
    /// # Errors
    /// EPERM where the file system has none to change.
    fn set_attr(&self, _change: &SetAttr) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Locks, watches and writers, where the file system keeps them.
    fn extra(&self) -> Option<&InodeExtra> {
        None
    }

    /// A watch of inotify(7) begins, for these events, or is widened: for file systems that others change too.
    ///
    /// # Errors
    /// ENOSPC and the like.
    fn watch(&self, _mask: u32) -> Result<()> {
        Ok(())
    }

    /// A watch has ended.
    fn unwatch(&self) {}

    /// Notes a read for the access time (relatime).
    fn touch_atime(&self) {}

    /// Whether a dentry of this may be kept; otherwise each lookup asks the directory again.
    fn cacheable(&self) -> bool {
        true
    }

    /// For file systems that others change too: whether a kept dentry with this name still names this inode.
    fn still_valid(&self, _parent: &dyn Inode, _name: &[u8]) -> bool {
        true
    }

    /// Finds an entry of a directory.
    ///
    /// # Errors
    /// ENOENT; ENOTDIR where this is no directory.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// Makes an entry; it is known that there is none of the name.
    ///
    /// # Errors
    /// ENOSPC, EPERM and the like.
    fn create(&self, _name: &[u8], _what: Create<'_>, _owner: &Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }

    /// Makes a regular file without a name, for O_TMPFILE.
    ///
    /// # Errors
    /// EOPNOTSUPP where the file system can not.
    fn tmpfile(&self, _owner: &Owner) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a hard link in this directory.
    ///
    /// # Errors
    /// EMLINK, ENOSPC, EPERM.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an entry; of a directory, only where it is empty.
    ///
    /// # Errors
    /// ENOTEMPTY.
    fn unlink(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves an entry to another directory of the file system; `replaced` is what stands there. `exchange` swaps
    /// the two.
    ///
    /// # Errors
    /// ENOTEMPTY, ENOSPC.
    fn rename(
        &self,
        _name: &[u8],
        _target: &Arc<dyn Inode>,
        _to: &Arc<dyn Inode>,
        _to_name: &[u8],
        _replaced: Option<&Arc<dyn Inode>>,
        _exchange: bool,
    ) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Text of a symbolic link.
    ///
    /// # Errors
    /// EINVAL where it is none.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// As [`Inode::readlink`].
    fn follow(&self) -> Result<Link> {
        self.readlink().map(Link::Text)
    }

    /// What serves reads and writes of a new description.
    ///
    /// # Errors
    /// ENXIO, EAGAIN, EINTR of fifos; ENXIO where nothing stands behind a device.
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>>;

    /// Sets the length of a regular file.
    ///
    /// # Errors
    /// EINVAL where it can not be; EFBIG, ENOSPC, EPERM.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Value of an extended attribute.
    ///
    /// # Errors
    /// ENODATA; EOPNOTSUPP where the file system has none.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute; `flags` as setxattr(2).
    ///
    /// # Errors
    /// EEXIST, ENODATA, ENOSPC, EOPNOTSUPP.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// ENODATA, EOPNOTSUPP.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes, each with its NUL.
    ///
    /// # Errors
    /// EIO.
    fn list_xattr(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// For downcasts within a file system.
    fn as_any(&self) -> &dyn Any;

    /// For downcasts of references.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Whether two references name the same inode.
pub fn same_inode(a: &Arc<dyn Inode>, b: &Arc<dyn Inode>) -> bool {
    core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

/// Figures of a file system, as statfs(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct StatFs {
    /// Blocks of 4096 bytes.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// A file system as a whole.
pub trait FileSystem: Send + Sync {
    /// Figures for statfs(2).
    fn statfs(&self) -> StatFs {
        StatFs::default()
    }

    /// Options for /proc/mounts, each with its leading comma.
    fn options(&self) -> String {
        String::new()
    }

    /// Takes new options (remount).
    ///
    /// # Errors
    /// EINVAL.
    fn remount(&self, _options: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Gives back clean pages that nobody uses; returns their number.
    fn shrink(&self) -> usize {
        0
    }
}

/// A file system without figures or options.
pub struct PlainFs;

impl FileSystem for PlainFs {}

/// A mounted instance of a file system.
pub struct SuperBlock {
    /// Device number.
    pub dev: u64,
    /// Type, as in /proc/filesystems.
    pub fstype: &'static str,
    /// Magic number, as statfs(2).
    pub magic: u64,
    /// Read-only as a whole.
    pub readonly: AtomicBool,
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// Its root.
    pub root: Arc<Dentry>,
}

static NEXT_DEV: AtomicU32 = AtomicU32::new(0x20);

/// A device number for a file system that is on none.
pub fn anonymous_dev() -> u64 {
    makedev(0, NEXT_DEV.fetch_add(1, Ordering::Relaxed) & 0xf_ffff)
}

/// A device number from major and minor, makedev(3).
pub const fn makedev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

/// Major number of a device, major(3).
pub const fn major(dev: u64) -> u32 {
    (((dev >> 8) & 0xfff) | ((dev >> 32) & !0xfff)) as u32
}

/// Minor number of a device, minor(3).
pub const fn minor(dev: u64) -> u32 {
    ((dev & 0xff) | ((dev >> 12) & 0xffff_ff00)) as u32
}

/// The DT_* type of a mode.
pub const fn dtype(mode: u32) -> u8 {
    ((mode & S_IFMT) >> 12) as u8
}
