//! A donated host directory or file that is shared both ways (a bind mount).
//!
//! Nothing is kept for long: others change it too. Attributes are asked of the host again after a short while;
//! reads and writes go to the host; a mapping shows the pages as they were when they were first touched.

use super::hostfs::join;
use crate::errno::{Errno, Result};
use crate::host::files::{self, Handle};
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::sync::{Mutex, SpinLock};
use crate::time;
use crate::vfs::dentry::Dentry;
use crate::vfs::file::{DirSink, FileOps, OpenFile, OpenRequest};
use crate::vfs::inode::{
    Attr, Create, Inode, InodeExtra, Owner, PlainFs, S_IFMT, SetAttr, Stat, SuperBlock, Time, anonymous_dev,
};
use abi::hostcall::{FileStat, change};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as c;
use smallvec::SmallVec;

const PAGE: usize = abi::PAGE_SIZE as usize;
/// How long attributes are believed, ns.
const BELIEVE: u64 = 10_000_000;
/// Pages moved by one read.
const WINDOW: usize = 64;

struct Known {
    stat: FileStat,
    at: u64,
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
    /// One of those.
    opened: SpinLock<Weak<HostFile>>,
    extra: InodeExtra,
}

impl HostNode {
    fn new(root: u64, dev: u64, place: Place, stat: FileStat) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            root,
            dev,
            place: SpinLock::new(place),
            kind: stat.mode & S_IFMT,
            known: SpinLock::new(Known { stat, at: time::monotonic_ns() }),
            gone: AtomicBool::new(false),
            opened: SpinLock::new(Weak::new()),
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
        files::change(self.root, path, other, operation, first, second)
    }

    fn fresh(&self) -> bool {
        time::monotonic_ns().saturating_sub(self.known.lock().at) < BELIEVE
    }

    fn learn(&self, stat: FileStat) {
        *self.known.lock() = Known { stat, at: time::monotonic_ns() };
    }

    fn refresh(&self) -> Result<FileStat> {
        if !self.fresh() {
            if !self.gone.load(Ordering::Relaxed) {
                self.learn(files::stat_at(self.root, &self.path())?);
            } else if let Some(file) = self.opened.lock().upgrade() {
                self.learn(file.handle.stat()?);
            }
        }
        Ok(self.known.lock().stat)
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
        let path = self.path();
        if change.uid.is_some() || change.gid.is_some() {
            let id = |id: Option<u32>| u64::from(id.unwrap_or(u32::MAX));
            self.change(&path, b"", change::OWNER, id(change.uid), id(change.gid))?;
        }
        if let Some(mode) = change.mode {
            self.change(&path, b"", change::MODE, mode.into(), 0)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let mut times = [0; 32];
            for (half, time) in times.as_chunks_mut::<16>().0.iter_mut().zip([change.atime, change.mtime]) {
                let (sec, nsec) = time.map_or((0, i64::from(c::UTIME_OMIT)), |t| (t.sec, i64::from(t.nsec)));
                half[..8].copy_from_slice(&sec.to_le_bytes());
                half[8..].copy_from_slice(&nsec.to_le_bytes());
            }
            self.change(&path, &times, change::TIMES, 0, 0)?;
        }
        self.learn(files::stat_at(self.root, &path)?);
        Ok(())
    }

    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }

    fn still_valid(&self, _parent: &dyn Inode, _name: &[u8]) -> bool {
        if self.fresh() {
            return true;
        }
        let Ok(now) = files::stat_at(self.root, &self.path()) else { return false };
        let old = self.known.lock().stat;
        let same = now.ino == old.ino && now.dev == old.dev && now.mode & S_IFMT == self.kind;
        if same {
            self.learn(now);
        }
        same
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let stat = files::stat_at(self.root, &self.path_of(name))?;
        Ok(self.entry(name, stat)?)
    }

    fn create(&self, name: &[u8], what: Create<'_>, owner: &Owner) -> Result<Arc<dyn Inode>> {
        /// Write, create, exclusively.
        const FLAGS: u64 = 1 | 1 << 8 | 1 << 9;
        let path = self.path_of(name);
        match what {
            Create::File => drop(Handle::open(self.root, &path, FLAGS, owner.mode.into())?),
            Create::Dir => self.change(&path, b"", change::MAKE_DIRECTORY, owner.mode.into(), 0)?,
            Create::Symlink(target) => self.change(&path, target, change::MAKE_SYMLINK, 0, 0)?,
            // Devices, fifos and sockets of the container have no meaning for the host.
            Create::Node(..) => return Err(Errno::EPERM),
        }
        self.forget();
        let mut stat = files::stat_at(self.root, &path)?;
        if (stat.uid, stat.gid) != (owner.uid, owner.gid) {
            self.change(&path, b"", change::OWNER, owner.uid.into(), owner.gid.into())?;
            stat = files::stat_at(self.root, &path)?;
        }
        Ok(self.entry(name, stat)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = target.as_any().downcast_ref::<HostNode>().ok_or(Errno::EXDEV)?;
        self.change(&target.path(), &self.path_of(name), change::MAKE_LINK, 0, 0)?;
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
            _ => return Err(Errno::ENXIO),
        }
        let mode = match (request.reads(), request.writes()) {
            (true, true) => 2,
            (false, true) => 1,
            _ => 0,
        };
        let handle = Handle::open(self.root, &self.path(), mode, 0)?;
        let file = Arc::new(HostFile::new(self.clone(), handle));
        *self.opened.lock() = Arc::downgrade(&file);
        Ok(file)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if size == self.refresh()?.size {
            return Ok(());
        }
        self.change(&self.path(), b"", change::SIZE, size, 0)?;
        self.forget();
        Ok(())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        files::get_xattr(self.root, &self.path(), name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// An open host file.
struct HostFile {
    node: Arc<HostNode>,
    handle: Handle,
    listing: Mutex<Option<Vec<super::lower::LowerEntry>>>,
    /// Serialises appends.
    end: Mutex<()>,
    pages: SpinLock<BTreeMap<u64, FrameRef>>,
    mappings: Mappings,
}

impl HostFile {
    fn new(node: Arc<HostNode>, handle: Handle) -> Self {
        Self {
            node,
            handle,
            listing: Mutex::new(None),
            end: Mutex::new(()),
            pages: SpinLock::new(BTreeMap::new()),
            mappings: Mappings::new(),
        }
    }
}

impl FileOps for HostFile {
    fn read(&self, _file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        if self.node.kind == c::S_IFDIR {
            return Err(Errno::EISDIR);
        }
        let mut done = 0;
        while sink.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            // Whole frames are read from the offset itself, so that pages need not be aligned.
            let pages = sink.remaining().div_ceil(PAGE).min(WINDOW);
            let frames: Vec<FrameRef> = (0..pages)
                .map(|_| FrameRef::alloc_uninit())
                .collect::<Result<_>>()
                .or_else(|e| if done == 0 { Err(e) } else { Ok(Vec::new()) })?;
            if frames.is_empty() {
                break;
            }
            let got = match self.handle.read_frames(at, &frames) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let mut left = got.min(sink.remaining());
            for frame in &frames {
                let n = left.min(PAGE);
                if n == 0 {
                    break;
                }
                match sink.put_frame(frame, 0, n) {
                    Ok(put) => {
                        done += put;
                        left -= put;
                        if put < n {
                            return Ok(done);
                        }
                    }
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => return Ok(done),
                }
            }
            if got < frames.len() * PAGE {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, source: &mut dyn Source, offset: u64) -> Result<usize> {
        let mut buf = alloc::vec![0; source.remaining().min(64 << 10)];
        let mut done = 0;
        while source.remaining() > 0 {
            let step = source.take(&mut buf).and_then(|n| {
                let data = buf.get(..n).unwrap_or_default();
                Ok((n, self.handle.write(offset.saturating_add(done as u64), data)?))
            });
            match step {
                Ok((n, wrote)) => {
                    done += wrote;
                    if n == 0 || wrote < n {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        self.node.forget();
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        let _end = self.end.lock();
        let at = self.handle.stat()?.size;
        let done = self.write(file, source, at)?;
        Ok((done, at + done as u64))
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn size(&self) -> u64 {
        if self.node.kind == c::S_IFDIR {
            return i64::MAX as u64;
        }
        self.handle.stat().map_or(0, |s| s.size)
    }

    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        if self.node.kind != c::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let mut listing = self.listing.lock();
        if position == 0 || listing.is_none() {
            let mut entries = self.handle.list()?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            *listing = Some(entries);
        }
        let ino = self.node.known.lock().stat.ino;
        let up = file.path.up().and_then(|p| p.inode().stat().ok()).map_or(ino, |s| s.ino);
        let dots: [(&[u8], u64); 2] = [(b".", ino), (b"..", up)];
        let entries = listing.iter().flatten().map(|e| (e.name.as_slice(), e.ino, e.kind));
        let all = dots.into_iter().map(|(name, ino)| (name, ino, c::DT_DIR as u8)).chain(entries);
        for (at, (name, ino, kind)) in (0u64..).zip(all) {
            if at >= position && !sink.entry(name, ino, kind, at + 1) {
                break;
            }
        }
        Ok(())
    }

    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        self.handle.sync()
    }

    fn truncate(&self, _file: &OpenFile, size: u64) -> Result<()> {
        self.handle.truncate(size)?;
        self.node.forget();
        Ok(())
    }

    fn mappable(&self, file: &OpenFile, shared: bool, write: bool) -> Result<Arc<dyn Mappable>> {
        if shared && write {
            return Err(Errno::ENODEV);
        }
        // The pages belong to this description.
        let _ = file;
        let handle = Handle::open(self.node.root, &self.node.path(), 0, 0)?;
        Ok(Arc::new(HostFile::new(self.node.clone(), handle)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl Mappable for HostFile {
    fn frame(&self, index: u64, _write: bool) -> Result<FrameRef> {
        if let Some(frame) = self.pages.lock().get(&index) {
            return Ok(frame.clone());
        }
        let size = self.handle.stat()?.size;
        let last = size.div_ceil(PAGE as u64);
        if index >= last {
            return Err(Errno::EFAULT);
        }
        let count = (last - index).min(WINDOW as u64);
        let frames: Vec<FrameRef> = (0..count).map(|_| FrameRef::alloc_zeroed()).collect::<Result<_>>()?;
        self.handle.read_frames(index * PAGE as u64, &frames)?;
        let mut pages = self.pages.lock();
        for (at, frame) in (index..).zip(frames) {
            pages.entry(at).or_insert(frame);
        }
        pages.get(&index).cloned().ok_or(Errno::EIO)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let pages = self.pages.lock();
        let mut out = SmallVec::new();
        for (next, (at, frame)) in (index..).zip(pages.range(index..)).take(max) {
            if *at != next {
                break;
            }
            out.push(frame.clone());
        }
        out
    }

    fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    fn describe(&self) -> ObjectName {
        ObjectName { path: Vec::new(), dev: self.node.dev, ino: self.node.known.lock().stat.ino }
    }
}
