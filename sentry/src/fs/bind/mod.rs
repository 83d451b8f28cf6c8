//! A donated host directory or file that is shared both ways (a bind mount).
//!
//! Nothing is kept for long: others change it too. Attributes are asked of the host again after a short while;
//! reads and writes go to the host. Mappings show pages of the sandbox: see [`pages`].

mod fifo;
mod file;
pub mod pages;
pub mod watch;

use self::file::HostFile;
use super::hostfs::join;
use crate::errno::{Errno, Result};
use crate::host::files::{self, Handle};
use crate::sync::SpinLock;
use crate::time;
use crate::vfs::dentry::Dentry;
use crate::vfs::file::{FileOps, OpenRequest};
use crate::vfs::inode::{
    Attr, Create, Inode, InodeExtra, Owner, PlainFs, S_IFMT, SetAttr, Stat, SuperBlock, Time, anonymous_dev,
};
use abi::hostcall::{FileStat, change};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as c;

const PAGE: usize = abi::PAGE_SIZE as usize;
/// How long attributes are believed, ns.
const BELIEVE: u64 = 10_000_000;
/// Pages moved by one read.
const WINDOW: usize = 64;
/// Flag of the host call that opens: a file without a name.
const NAMELESS: u64 = 1 << 11;
/// Flag of the host call that opens: truncate.
const TRUNCATE: u64 = 1 << 10;

struct Known {
    stat: FileStat,
    at: u64,
    /// [`CHANGES`] then.
    changes: u64,
}

impl Known {
    fn new(stat: FileStat) -> Self {
        Self { stat, at: time::monotonic_ns(), changes: CHANGES.load(Ordering::Relaxed) }
    }
}

/// Where a file stands: its directory and its name there; `None` for the donated file itself.
type Place = Option<(Arc<HostNode>, Vec<u8>)>;

/// A host file.
pub struct HostNode {
    me: Weak<HostNode>,
    root: u64,
    dev: u64,
    place: SpinLock<Place>,
    kind: u32,
    known: SpinLock<Known>,
    /// It was removed: only its open descriptions reach it.
    gone: AtomicBool,
    /// What one of those works with.
    opened: SpinLock<Weak<Handle>>,
    /// Of a file that was made without a name, until it is opened.
    nameless: SpinLock<Option<Arc<Handle>>>,
    extra: InodeExtra,
}

/// Makes all attributes that are known be asked for again: somebody changed something.
static CHANGES: AtomicU64 = AtomicU64::new(0);

impl HostNode {
    fn new(root: u64, dev: u64, place: Place, stat: FileStat) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            root,
            dev,
            place: SpinLock::new(place),
            kind: stat.mode & S_IFMT,
            known: SpinLock::new(Known::new(stat)),
            gone: AtomicBool::new(false),
            opened: SpinLock::new(Weak::new()),
            nameless: SpinLock::new(None),
            extra: InodeExtra::new(),
        })
    }

    /// Its path from the donated directory, as it is now: directories above it may have been renamed.
    fn path(&self) -> Vec<u8> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut place = self.place.lock().clone();
        while let Some((dir, name)) = place {
            names.push(name);
            place = dir.place.lock().clone();
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Its path by the name that a dentry has: it may be one of several.
    fn path_as(&self, dentry: &Dentry) -> Vec<u8> {
        let (parent, name) = dentry.place();
        match parent.as_ref().and_then(|p| p.inode().as_any().downcast_ref::<HostNode>()) {
            Some(dir) if !dentry.is_unlinked() => dir.path_of(&name),
            _ => self.path(),
        }
    }

    /// A path of an entry of this directory.
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path(), name)
    }

    /// An entry of this directory, which the host has.
    fn entry(&self, name: &[u8], stat: FileStat) -> Result<Arc<Self>> {
        let me = self.me.upgrade().ok_or(Errno::ESTALE)?;
        Ok(Self::new(self.root, self.dev, Some((me, name.to_vec())), stat))
    }

    fn change(&self, path: &[u8], other: &[u8], operation: u64, first: u64, second: u64) -> Result<()> {
        let result = files::change(self.root, path, other, operation, first, second);
        watch::nudge();
        result
    }

    fn make_node(&self, path: &[u8], kind: u32, owner: &Owner) -> Result<()> {
        self.change(path, b"", change::MAKE_NODE, (kind | owner.mode).into(), 0)
    }

    fn fresh(&self) -> bool {
        let known = self.known.lock();
        time::monotonic_ns().saturating_sub(known.at) < BELIEVE
            && known.changes == CHANGES.load(Ordering::Relaxed)
    }

    fn learn(&self, stat: FileStat) {
        *self.known.lock() = Known::new(stat);
    }

    fn refresh(&self) -> Result<FileStat> {
        if !self.fresh() {
            if !self.gone.load(Ordering::Relaxed) {
                self.learn(files::stat_at(self.root, &self.path())?);
            } else if let Some(handle) = self.held() {
                self.learn(handle.stat()?);
            }
        }
        Ok(self.known.lock().stat)
    }

    /// What reaches it where it has no name.
    fn held(&self) -> Option<Arc<Handle>> {
        if !self.gone.load(Ordering::Relaxed) {
            return None;
        }
        let nameless = self.nameless.lock().clone();
        nameless.or_else(|| self.opened.lock().upgrade())
    }

    /// Its length has changed.
    fn cut(&self) -> Result<()> {
        let stat = self.known.lock().stat;
        self.forget();
        pages::find(|| Ok(pages::key(&stat))).map_or(Ok(()), |pages| pages.refresh())
    }

    fn forget(&self) {
        self.known.lock().at = 0;
    }

    /// Its name is gone.
    fn remove(&self) {
        self.gone.store(true, Ordering::Relaxed);
        let mut known = self.known.lock();
        known.stat.nlink = known.stat.nlink.saturating_sub(1);
        known.at = 0;
    }
}

impl Drop for HostNode {
    /// Directories that only this one keeps go one by one: kernel stacks are small.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().take();
        while let Some(mut dir) = next.and_then(|(dir, _)| Arc::into_inner(dir)) {
            next = dir.place.get_mut().take();
        }
    }
}

/// A file system over a donated directory or file.
///
/// # Errors
/// What the host says.
pub fn new(root: u32) -> Result<Arc<SuperBlock>> {
    let stat = files::stat_at(root.into(), b"")?;
    let dev = anonymous_dev();
    let node = HostNode::new(root.into(), dev, None, stat);
    Ok(Arc::new(SuperBlock {
        dev,
        fstype: "hostfs",
        magic: u64::from(c::HOSTFS_SUPER_MAGIC),
        readonly: AtomicBool::new(false),
        fs: Arc::new(PlainFs),
        root: Dentry::root(node),
    }))
}

impl Inode for HostNode {
    fn attr(&self) -> Attr {
        let stat = self.known.lock().stat;
        Attr { mode: stat.mode, uid: stat.uid, gid: stat.gid }
    }

    fn stat(&self) -> Result<Stat> {
        let s = self.refresh()?;
        let t = |t: [i64; 2]| Time { sec: t[0], nsec: u32::try_from(t[1]).unwrap_or(0) };
        Ok(Stat {
            dev: self.dev,
            ino: s.ino,
            mode: s.mode,
            nlink: s.nlink,
            uid: s.uid,
            gid: s.gid,
            rdev: s.rdev,
            size: s.size,
            blksize: 4096,
            blocks: s.blocks,
            atime: t(s.atime),
            mtime: t(s.mtime),
            ctime: t(s.ctime),
            btime: t(s.ctime),
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let (path, held) = (self.path(), self.held());
        let set = |operation: u64, values: [u64; 4]| match &held {
            Some(handle) => handle.set_attr(operation, values),
            None if operation == change::TIMES => {
                self.change(&path, values.map(u64::to_le_bytes).as_flattened(), operation, 0, 0)
            }
            None => self.change(&path, b"", operation, values[0], values[1]),
        };
        if change.uid.is_some() || change.gid.is_some() {
            let id = |id: Option<u32>| u64::from(id.unwrap_or(u32::MAX));
            set(change::OWNER, [id(change.uid), id(change.gid), 0, 0])?;
        }
        if let Some(mode) = change.mode {
            set(change::MODE, [mode.into(), 0, 0, 0])?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let words = |time: Option<Time>| {
                time.map_or((0, c::UTIME_OMIT.into()), |t| (t.sec as u64, u64::from(t.nsec)))
            };
            let (atime, mtime) = (words(change.atime), words(change.mtime));
            set(change::TIMES, [atime.0, atime.1, mtime.0, mtime.1])?;
        }
        self.forget();
        self.refresh().map(drop)
    }

    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }

    fn still_valid(&self, parent: &dyn Inode, name: &[u8]) -> bool {
        if self.fresh() {
            return true;
        }
        // By this name: the file may have others.
        let parent = parent.as_any().downcast_ref::<HostNode>();
        let path = parent.map_or_else(|| self.path(), |parent| parent.path_of(name));
        let Ok(now) = files::stat_at(self.root, &path) else { return false };
        let old = self.known.lock().stat;
        let same = now.ino == old.ino && now.dev == old.dev && now.mode & S_IFMT == self.kind;
        if same {
            self.learn(now);
            // That name is good; the one that it was known by may be gone.
            if let Some(dir) = parent.and_then(|parent| parent.me.upgrade()) {
                self.gone.store(false, Ordering::Relaxed);
                let old = self.place.lock().replace((dir, name.to_vec()));
                drop(old);
            }
        }
        same
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let stat = files::stat_at(self.root, &self.path_of(name))?;
        Ok(self.entry(name, stat)?)
    }

    fn create(&self, name: &[u8], what: Create<'_>, owner: &Owner) -> Result<Arc<dyn Inode>> {
        let path = self.path_of(name);
        match what {
            Create::File => self.make_node(&path, c::S_IFREG, owner)?,
            Create::Dir => self.change(&path, b"", change::MAKE_DIRECTORY, owner.mode.into(), 0)?,
            Create::Symlink(target) => self.change(&path, target, change::MAKE_SYMLINK, 0, 0)?,
            // The other end of both is in the sandbox.
            Create::Node(kind @ (c::S_IFIFO | c::S_IFSOCK), _) => self.make_node(&path, kind, owner)?,
            // Devices of the container have no meaning for the host.
            Create::Node(..) => return Err(Errno::EPERM),
        }
        self.forget();
        let mut stat = files::stat_at(self.root, &path)?;
        if (stat.uid, stat.gid) != (owner.uid, owner.gid) {
            self.change(&path, b"new", change::OWNER, owner.uid.into(), owner.gid.into())?;
            stat = files::stat_at(self.root, &path)?;
        }
        Ok(self.entry(name, stat)?)
    }

    fn tmpfile(&self, owner: &Owner) -> Result<Arc<dyn Inode>> {
        let handle = Handle::open(self.root, &self.path(), 2 | NAMELESS, owner.mode.into())?;
        let mut stat = handle.stat()?;
        if (stat.uid, stat.gid) != (owner.uid, owner.gid) {
            handle.set_attr(change::OWNER, [owner.uid.into(), owner.gid.into(), 0, 0])?;
            stat = handle.stat()?;
        }
        let node = self.entry(b"", stat)?;
        node.gone.store(true, Ordering::Relaxed);
        *node.nameless.lock() = Some(Arc::new(handle));
        Ok(node)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = target.as_any().downcast_ref::<HostNode>().ok_or(Errno::EXDEV)?;
        let path = self.path_of(name);
        if let Some(handle) = target.held() {
            handle.link(self.root, &path)?;
            let old = target.place.lock().replace((self.me.upgrade().ok_or(Errno::ESTALE)?, name.to_vec()));
            target.gone.store(false, Ordering::Relaxed);
            drop(old);
        } else {
            self.change(&target.path(), &path, change::MAKE_LINK, 0, 0)?;
        }
        self.forget();
        target.forget();
        Ok(())
    }

    fn unlink(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = target.as_any().downcast_ref::<HostNode>().ok_or(Errno::EXDEV)?;
        let directory = target.kind == c::S_IFDIR;
        let operation = if directory { change::REMOVE_DIRECTORY } else { change::REMOVE };
        self.change(&self.path_of(name), b"", operation, 0, 0)?;
        target.remove();
        self.forget();
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        target: &Arc<dyn Inode>,
        to: &Arc<dyn Inode>,
        to_name: &[u8],
        replaced: Option<&Arc<dyn Inode>>,
        exchange: bool,
    ) -> Result<()> {
        let node = |inode: &Arc<dyn Inode>| {
            inode.clone().into_any().downcast::<HostNode>().map_err(|_| Errno::EXDEV)
        };
        let (target, to) = (node(target)?, node(to)?);
        let me = self.me.upgrade().ok_or(Errno::ESTALE)?;
        let replaced = replaced.map(node).transpose()?;
        let flags = if exchange { c::RENAME_EXCHANGE } else { 0 };
        self.change(&self.path_of(name), &to.path_of(to_name), change::RENAME, flags.into(), 0)?;
        let old = target.place.lock().replace((to.clone(), to_name.to_vec()));
        drop(old);
        match replaced {
            Some(other) if exchange => {
                let old = other.place.lock().replace((me, name.to_vec()));
                drop(old);
                other.forget();
            }
            // Another name of the same file stays what it is.
            Some(other) if !Arc::ptr_eq(&other, &target) => other.remove(),
            _ => {}
        }
        target.forget();
        to.forget();
        self.forget();
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != c::S_IFLNK {
            return Err(Errno::EINVAL);
        }
        files::readlink(self.root, &self.path())
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            c::S_IFREG | c::S_IFDIR => {}
            c::S_IFLNK => return Err(Errno::ELOOP),
            c::S_IFIFO => return fifo::of(pages::key(&self.refresh()?)).open_fifo(request),
            _ => return Err(Errno::ENXIO),
        }
        let mode = match (request.reads(), request.writes()) {
            (true, true) => 2,
            (false, true) => 1,
            _ => 0,
        };
        // As a part of the open, as watches see it.
        let cut = request.flags & c::O_TRUNC != 0 && self.kind == c::S_IFREG && self.refresh()?.size != 0;
        let handle = match self.held().filter(|handle| handle.allows(mode)) {
            Some(handle) => handle,
            None => {
                let path = self.path_as(&request.path.dentry);
                let flags = if cut { mode | TRUNCATE } else { mode };
                let handle = Arc::new(Handle::open(self.root, &path, flags, 0)?);
                if cut {
                    self.cut()?;
                }
                handle
            }
        };
        let old = self.opened.lock().upgrade();
        if old.is_none_or(|old| !old.writes()) {
            *self.opened.lock() = Arc::downgrade(&handle);
        }
        let held = self.nameless.lock().take();
        drop(held);
        Ok(Arc::new(HostFile::new(self.clone(), handle)))
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if size == self.refresh()?.size {
            return Ok(());
        }
        match self.held().filter(|handle| handle.allows(1)) {
            Some(handle) => handle.truncate(size)?,
            None => self.change(&self.path(), b"", change::SIZE, size, 0)?,
        }
        self.cut()?;
        Ok(())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let value = files::get_xattr(self.root, &self.path(), name);
        watch::nudge();
        value
    }

    fn watch(&self, mask: u32) -> Result<()> {
        self.me.upgrade().map_or(Err(Errno::ESTALE), |me| watch::add(&me, mask))
    }

    fn unwatch(&self) {
        watch::remove(self);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
