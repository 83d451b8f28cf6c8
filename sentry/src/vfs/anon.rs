//! Objects that are in no tree: pipes, sockets, epoll instances and the like.

use super::dentry::Dentry;
use super::file::{FileOps, OpenFile, OpenRequest};
use super::inode::{Attr, Inode, InodeExtra, PlainFs, Stat, SuperBlock, Time, anonymous_dev};
use super::mount::Mount;
use super::path::Path;
use crate::errno::{Errno, Result};
use crate::sync::Once;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// What opening the object again through /proc/PID/fd gives.
type Reopen = dyn Fn(&OpenRequest<'_>) -> Result<Arc<dyn FileOps>> + Send + Sync;

/// The inode of such an object.
pub struct AnonInode {
    dev: u64,
    ino: u64,
    attr: Attr,
    stat: Option<Stat>,
    made: Time,
    reopen: Option<alloc::boxed::Box<Reopen>>,
    extra: InodeExtra,
}

impl Inode for AnonInode {
    fn attr(&self) -> Attr {
        self.attr
    }
    fn stat(&self) -> Result<Stat> {
        Ok(self.stat.unwrap_or(Stat {
            dev: self.dev,
            ino: self.ino,
            mode: self.attr.mode,
            nlink: 1,
            uid: self.attr.uid,
            gid: self.attr.gid,
            blksize: 4096,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            btime: self.made,
            ..Stat::default()
        }))
    }
    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        match &self.reopen {
            Some(reopen) => reopen(request),
            None => Err(Errno::ENXIO),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

static MOUNT: Once<Arc<Mount>> = Once::new();
static NEXT_INO: AtomicU64 = AtomicU64::new(1000);

fn make_mount() -> Arc<Mount> {
    let dev = anonymous_dev();
    let root = AnonInode {
        dev,
        ino: 1,
        attr: Attr { mode: c::S_IFDIR | 0o500, uid: 0, gid: 0 },
        stat: None,
        made: Time::now(),
        reopen: None,
        extra: InodeExtra::new(),
    };
    Mount::anonymous(Arc::new(SuperBlock {
        dev,
        fstype: "anon_inodefs",
        magic: u64::from(c::ANON_INODE_FS_MAGIC),
        readonly: AtomicBool::new(false),
        fs: Arc::new(PlainFs),
        root: Dentry::root(Arc::new(root)),
    }))
}

/// The mount that such objects are in.
pub fn mount() -> Arc<Mount> {
    if let Some(mount) = MOUNT.get() {
        return mount.clone();
    }
    let _ = MOUNT.set(make_mount());
    // Where another was quicker and is not done yet, a mount of one's own does as well.
    MOUNT.get().cloned().unwrap_or_else(make_mount)
}

/// A number for an object.
pub fn new_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// A place for an object: its type and permissions, owner, how it shows in /proc/PID/fd.
pub fn path(
    ino: u64,
    attr: Attr,
    name: &[u8],
    stat: Option<Stat>,
    reopen: Option<alloc::boxed::Box<Reopen>>,
) -> Path {
    let mnt = mount();
    let inode =
        AnonInode { dev: mnt.sb.dev, ino, attr, stat, made: Time::now(), reopen, extra: InodeExtra::new() };
    Path { dentry: Dentry::anonymous(Arc::new(inode), name), mnt }
}

/// A description of an object of the kernel's own kind, `anon_inode:[name]`.
pub fn file(name: &str, ops: Arc<dyn FileOps>, flags: u32) -> Arc<OpenFile> {
    let name = alloc::format!("anon_inode:[{name}]");
    let at = path(new_ino(), Attr { mode: 0o600, uid: 0, gid: 0 }, name.as_bytes(), None, None);
    OpenFile::new(at, ops, flags)
}
