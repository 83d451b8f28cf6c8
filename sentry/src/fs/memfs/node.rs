//! Inodes in memory.

mod file;

use super::MemFs;
use super::data::Data;
use super::dir::Dir;
use crate::errno::{Errno, Result};
use crate::fs::lower::{LowerFile, LowerNode};
use crate::fs::pipe::Pipe;
use crate::sync::SpinLock;
use crate::vfs::file::{FileOps, OpenRequest};
use crate::vfs::inode::{Attr, Create, Inode, InodeExtra, Owner, S_IFMT, SetAttr, Stat, Time};
use abi::hostcall::FileStat;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use linux_raw_sys::general as c;

/// Seals that there are, F_ADD_SEALS of fcntl(2).
pub const SEALS_ALL: u32 = c::F_SEAL_SEAL
    | c::F_SEAL_SHRINK
    | c::F_SEAL_GROW
    | c::F_SEAL_WRITE
    | c::F_SEAL_FUTURE_WRITE
    | c::F_SEAL_EXEC;

/// Most bytes of extended attributes of a file.
const XATTR_MAX: usize = 256 << 10;

struct Fields {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    atime: Time,
    mtime: Time,
    ctime: Time,
    btime: Time,
}

enum Body {
    File(Data),
    Dir(Dir),
    /// A symbolic link; `None`: the lower tree knows the target.
    Symlink(SpinLock<Option<Arc<[u8]>>>),
    Special(u64),
    Fifo(SpinLock<Option<Arc<Pipe>>>),
}

#[derive(Default)]
struct Xattrs {
    set: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names of the lower file that were removed.
    gone: Vec<Vec<u8>>,
    bytes: usize,
}

/// An inode of a file system in memory.
pub struct Node {
    me: Weak<Node>,
    fs: Arc<MemFs>,
    ino: u64,
    kind: u32,
    /// Charged as an inode (made here, not loaded).
    charged: AtomicBool,
    lower: Option<LowerNode>,
    lower_blocks: u64,
    fields: SpinLock<Fields>,
    body: Body,
    seals: AtomicU32,
    noted_clean: AtomicBool,
    xattrs: SpinLock<Option<Box<Xattrs>>>,
    extra: InodeExtra,
}

impl Node {
    fn make(fs: &Arc<MemFs>, kind: u32, owner: &Owner, body: Body, nlink: u32) -> Result<Arc<Self>> {
        fs.account.charge_inode()?;
        let now = Time::now();
        let fields = Fields {
            mode: kind | owner.mode & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            nlink,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
        };
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            fs: fs.clone(),
            ino: fs.new_ino(),
            kind,
            charged: AtomicBool::new(true),
            lower: None,
            lower_blocks: 0,
            fields: SpinLock::new(fields),
            body,
            seals: AtomicU32::new(c::F_SEAL_SEAL),
            noted_clean: AtomicBool::new(false),
            xattrs: SpinLock::new(None),
            extra: InodeExtra::new(),
        }))
    }

    /// A new directory.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn new_dir(fs: &Arc<MemFs>, mode: u32, uid: u32, gid: u32) -> Result<Arc<Self>> {
        Self::make(fs, c::S_IFDIR, &Owner { mode, uid, gid }, Body::Dir(Dir::new(false, 2)), 2)
    }

    /// A new regular file.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn new_file(fs: &Arc<MemFs>, mode: u32, uid: u32, gid: u32, nlink: u32) -> Result<Arc<Self>> {
        let data = Data::new(fs.account.clone(), 0);
        Self::make(fs, c::S_IFREG, &Owner { mode, uid, gid }, Body::File(data), nlink)
    }

    /// A node over a lower file.
    pub fn from_lower(fs: &Arc<MemFs>, lower: LowerNode, stat: &FileStat) -> Arc<Self> {
        let kind = stat.mode & S_IFMT;
        let body = match kind {
            c::S_IFREG => {
                let account = fs.account.clone();
                let below =
                    fs.lower().ok().filter(|tree| tree.in_memory()).and_then(|tree| tree.open(&lower).ok());
                Body::File(match below {
                    Some(file) => Data::showing(account, file, stat.size),
                    None => Data::new(account, stat.size),
                })
            }
            c::S_IFDIR => Body::Dir(Dir::new(true, stat.nlink)),
            c::S_IFLNK => Body::Symlink(SpinLock::new(None)),
            c::S_IFIFO => Body::Fifo(SpinLock::new(None)),
            _ => Body::Special(stat.rdev),
        };
        let time = |t: [i64; 2]| Time { sec: t[0], nsec: u32::try_from(t[1]).unwrap_or(0) };
        let fields = Fields {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            atime: time(stat.atime),
            mtime: time(stat.mtime),
            ctime: time(stat.ctime),
            btime: time(stat.ctime),
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            fs: fs.clone(),
            ino: stat.ino,
            kind,
            charged: AtomicBool::new(false),
            lower: Some(lower),
            lower_blocks: stat.blocks,
            fields: SpinLock::new(fields),
            body,
            seals: AtomicU32::new(c::F_SEAL_SEAL),
            noted_clean: AtomicBool::new(false),
            xattrs: SpinLock::new(None),
            extra: InodeExtra::new(),
        })
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == c::S_IFDIR
    }

    pub(super) fn kind(&self) -> u32 {
        self.kind
    }

    pub(super) fn ino(&self) -> u64 {
        self.ino
    }

    pub(super) fn fs(&self) -> &MemFs {
        &self.fs
    }

    pub(super) fn lower_node(&self) -> Option<&LowerNode> {
        self.lower.as_ref()
    }

    pub(super) fn shrink(&self) -> usize {
        match &self.body {
            Body::File(data) => data.shrink(),
            _ => 0,
        }
    }

    fn dir(&self) -> Result<&Dir> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn data(&self) -> Result<&Data> {
        match &self.body {
            Body::File(data) => Ok(data),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open_lower(&self) -> Result<Arc<dyn LowerFile>> {
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        if !self.noted_clean.swap(true, Ordering::Relaxed) {
            self.fs.note_clean(&self.me);
        }
        self.fs.lower()?.open(lower)
    }

    fn modified(&self) {
        let now = Time::now();
        let mut fields = self.fields.lock();
        fields.mtime = now;
        fields.ctime = now;
    }

    fn changed(&self, nlink: i32) {
        let mut fields = self.fields.lock();
        fields.ctime = Time::now();
        fields.nlink = fields.nlink.saturating_add_signed(nlink);
    }

    /// Seals of F_GET_SEALS; `None` where it is no regular file.
    pub fn seals(&self) -> Option<u32> {
        self.data().is_ok().then(|| self.seals.load(Ordering::Acquire))
    }

    /// Starts without seals: memfd_create(2) with MFD_ALLOW_SEALING.
    pub fn allow_seals(&self, seals: u32) {
        self.seals.store(seals, Ordering::Release);
    }

    /// Adds seals, F_ADD_SEALS.
    ///
    /// # Errors
    /// EPERM where sealed against it; EBUSY: it is to be sealed against writing, but shared mappings may write it.
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        let mut seals = seals;
        if seals & c::F_SEAL_EXEC != 0 && self.fields.lock().mode & 0o111 != 0 {
            seals |= c::F_SEAL_SHRINK | c::F_SEAL_GROW | c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE;
        }
        let add = |seals| {
            let more = |old| (old & c::F_SEAL_SEAL == 0).then_some(old | seals);
            self.seals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map_err(|_| Errno::EPERM)
        };
        // Against writing first and alone: a mapping that comes from here on finds it and is refused.
        let against_writing = seals & c::F_SEAL_WRITE;
        let old = add(against_writing)?;
        if against_writing & !old != 0 && self.data()?.mappings.writable() {
            self.seals.fetch_and(!against_writing, Ordering::SeqCst);
            return Err(Errno::EBUSY);
        }
        add(seals).map(drop)
    }

    /// What seals say of a write that leaves the file `end` long at least.
    fn check_write(&self, end: u64) -> Result<()> {
        let seals = self.seals.load(Ordering::Acquire);
        if seals & (c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if seals & c::F_SEAL_GROW != 0 && self.data().is_ok_and(|d| end > d.size()) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    fn check_truncate(&self, size: u64) -> Result<()> {
        let seals = self.seals.load(Ordering::Acquire);
        let old = self.data().map_or(0, Data::size);
        if seals & c::F_SEAL_GROW != 0 && size > old || seals & c::F_SEAL_SHRINK != 0 && size < old {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Writes file contents from the kernel (setup, tests).
    ///
    /// # Errors
    /// ENOSPC.
    pub fn write_bytes(&self, offset: u64, bytes: &[u8]) -> Result<usize> {
        let mut source = crate::mm::io::SliceSource::new(bytes);
        let done = self.data()?.write(&mut source, Some(offset), &|| self.open_lower(), &|_| Ok(()))?;
        Ok(done.0)
    }

    fn target(&self) -> Result<Arc<[u8]>> {
        let Body::Symlink(slot) = &self.body else { return Err(Errno::EINVAL) };
        if let Some(target) = &*slot.lock() {
            return Ok(target.clone());
        }
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let target: Arc<[u8]> = self.fs.lower()?.readlink(lower)?.into();
        Ok(slot.lock().get_or_insert(target).clone())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.charged.load(Ordering::Relaxed) {
            self.fs.account.uncharge_inode();
        }
        // A deep tree is taken apart one by one, so that it does not use up the stack.
        let Body::Dir(dir) = &mut self.body else { return };
        let mut work = dir.drain();
        while let Some(node) = work.pop() {
            if let Some(Body::Dir(dir)) = Arc::into_inner(node).as_mut().map(|n| &mut n.body) {
                work.extend(dir.drain());
            }
        }
    }
}

impl Inode for Node {
    fn attr(&self) -> Attr {
        let fields = self.fields.lock();
        Attr { mode: fields.mode, uid: fields.uid, gid: fields.gid }
    }

    fn stat(&self) -> Result<Stat> {
        let (size, blocks, extra_links) = match &self.body {
            Body::File(data) => {
                let dirty = data.dirty_pages();
                let blocks = if dirty == 0 { self.lower_blocks } else { self.lower_blocks.max(dirty * 8) };
                (data.size(), blocks, 0)
            }
            Body::Dir(dir) => ((dir.len() + 2) * 20, 0, dir.subdirs()),
            Body::Symlink(_) => (self.target()?.len() as u64, 0, 0),
            _ => (0, 0, 0),
        };
        let rdev = if let Body::Special(rdev) = self.body { rdev } else { 0 };
        let fields = self.fields.lock();
        let nlink = match self.kind {
            c::S_IFDIR if fields.nlink == 0 => 0,
            c::S_IFDIR => 2 + extra_links,
            _ => fields.nlink,
        };
        Ok(Stat {
            dev: self.fs.dev,
            ino: self.ino,
            mode: fields.mode,
            nlink,
            uid: fields.uid,
            gid: fields.gid,
            rdev,
            size,
            blksize: 4096,
            blocks,
            atime: fields.atime,
            mtime: fields.mtime,
            ctime: fields.ctime,
            btime: fields.btime,
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if let Some(mode) = change.mode {
            let seals = self.seals.load(Ordering::Acquire);
            if seals & c::F_SEAL_EXEC != 0 && (self.fields.lock().mode ^ mode) & 0o111 != 0 {
                return Err(Errno::EPERM);
            }
        }
        let mut f = self.fields.lock();
        if let Some(mode) = change.mode {
            f.mode = f.mode & S_IFMT | mode & 0o7777;
        }
        f.uid = change.uid.unwrap_or(f.uid);
        f.gid = change.gid.unwrap_or(f.gid);
        f.atime = change.atime.unwrap_or(f.atime);
        f.mtime = change.mtime.unwrap_or(f.mtime);
        f.ctime = Time::now();
        Ok(())
    }

    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }

    fn touch_atime(&self) {
        let mut f = self.fields.lock();
        let now = Time::now();
        // relatime: only where it tells something new, or once a day.
        if f.atime <= f.mtime || f.atime <= f.ctime || now.sec.saturating_sub(f.atime.sec) >= 86_400 {
            f.atime = now;
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.dir()?.lookup(self, name)?)
    }

    fn create(&self, name: &[u8], what: Create<'_>, owner: &Owner) -> Result<Arc<dyn Inode>> {
        let dir = self.dir()?;
        let node = match what {
            Create::File => Node::new_file(&self.fs, owner.mode, owner.uid, owner.gid, 1)?,
            Create::Dir => Node::new_dir(&self.fs, owner.mode, owner.uid, owner.gid)?,
            Create::Symlink(target) => {
                Node::make(&self.fs, c::S_IFLNK, owner, Body::Symlink(SpinLock::new(Some(target.into()))), 1)?
            }
            Create::Node(c::S_IFIFO, _) => {
                Node::make(&self.fs, c::S_IFIFO, owner, Body::Fifo(SpinLock::new(None)), 1)?
            }
            Create::Node(kind, rdev) => Node::make(&self.fs, kind, owner, Body::Special(rdev), 1)?,
        };
        dir.insert(name, node.clone())?;
        self.modified();
        Ok(node)
    }

    fn tmpfile(&self, owner: &Owner) -> Result<Arc<dyn Inode>> {
        self.dir()?;
        Ok(Node::new_file(&self.fs, owner.mode, owner.uid, owner.gid, 0)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let node = super::node_of(target).ok_or(Errno::EXDEV)?;
        self.dir()?.insert(name, node.clone())?;
        node.changed(1);
        self.modified();
        Ok(())
    }

    fn unlink(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let node = super::node_of(target).ok_or(Errno::EXDEV)?;
        if let Body::Dir(dir) = &node.body {
            if !dir.is_empty(&node)? {
                return Err(Errno::ENOTEMPTY);
            }
            node.fields.lock().nlink = 0;
        } else {
            node.changed(-1);
        }
        self.dir()?.remove(name);
        self.modified();
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
        let node = super::node_of(target).ok_or(Errno::EXDEV)?;
        let to = super::node_of(to).ok_or(Errno::EXDEV)?;
        let replaced = match replaced {
            Some(r) => Some(super::node_of(r).ok_or(Errno::EXDEV)?),
            None => None,
        };
        let (from_dir, to_dir) = (self.dir()?, to.dir()?);
        match replaced {
            Some(other) if exchange => {
                to_dir.replace(to_name, node.clone());
                from_dir.replace(name, other.clone());
                other.changed(0);
            }
            Some(other) => {
                if let Body::Dir(dir) = &other.body {
                    if !dir.is_empty(&other)? {
                        return Err(Errno::ENOTEMPTY);
                    }
                    other.fields.lock().nlink = 0;
                } else {
                    other.changed(-1);
                }
                to_dir.replace(to_name, node.clone());
                from_dir.remove(name);
            }
            None => {
                to_dir.insert(to_name, node.clone())?;
                from_dir.remove(name);
            }
        }
        node.changed(0);
        self.modified();
        to.modified();
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.target().map(|t| t.to_vec())
    }

    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        match &self.body {
            Body::File(_) | Body::Dir(_) => Ok(self),
            Body::Symlink(_) => Err(Errno::ELOOP),
            Body::Special(rdev) if self.kind == c::S_IFCHR => crate::fs::dev::open(*rdev, request),
            Body::Special(_) => Err(Errno::ENXIO),
            Body::Fifo(slot) => {
                let pipe = slot.lock().get_or_insert_with(Pipe::fifo).clone();
                pipe.open_fifo(request)
            }
        }
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.data()?.truncate(size, &|| self.open_lower(), &|size| self.check_truncate(size))?;
        self.modified();
        Ok(())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(x) = &*self.xattrs.lock() {
            if let Some(value) = x.set.get(name) {
                return Ok(value.clone());
            }
            if x.gone.iter().any(|g| g == name) {
                return Err(Errno::ENODATA);
            }
        }
        match &self.lower {
            Some(lower) if name.starts_with(b"user.") || name == b"security.capability" => {
                self.fs.lower()?.get_xattr(lower, name)
            }
            _ => Err(Errno::ENODATA),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let exists = match self.get_xattr(name) {
            Ok(_) => true,
            Err(Errno::ENODATA) => false,
            Err(e) => return Err(e),
        };
        match flags {
            c::XATTR_CREATE if exists => return Err(Errno::EEXIST),
            c::XATTR_REPLACE if !exists => return Err(Errno::ENODATA),
            _ => {}
        }
        {
            let mut slot = self.xattrs.lock();
            let x = slot.get_or_insert_default();
            let old = x.set.get(name).map_or(0, |v| v.len() + name.len());
            let bytes = x.bytes - old + value.len() + name.len();
            if bytes > XATTR_MAX {
                return Err(Errno::ENOSPC);
            }
            x.bytes = bytes;
            x.gone.retain(|g| g != name);
            x.set.insert(name.to_vec(), value.to_vec());
        }
        self.changed(0);
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.get_xattr(name)?;
        {
            let mut slot = self.xattrs.lock();
            let x = slot.get_or_insert_default();
            if let Some(old) = x.set.remove(name) {
                x.bytes = x.bytes.saturating_sub(old.len() + name.len());
            }
            if self.lower.is_some() {
                x.gone.push(name.to_vec());
            }
        }
        self.changed(0);
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if let Some(x) = &*self.xattrs.lock() {
            for name in x.set.keys() {
                out.extend_from_slice(name);
                out.push(0);
            }
        }
        Ok(out)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
