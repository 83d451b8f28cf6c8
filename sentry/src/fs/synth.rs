//! File systems whose files are made when they are looked at: proc, sysfs, devpts.

use crate::errno::{Errno, Result};
use crate::mm::io::{Sink, Source};
use crate::sync::{Mutex, SpinLock};
use crate::vfs::dentry::Dentry;
use crate::vfs::file::{DirSink, FileOps, OpenFile, OpenRequest};
use crate::vfs::inode::{
    Attr, FileSystem, Inode, InodeExtra, Link, S_IFMT, SetAttr, Stat, SuperBlock, Time, anonymous_dev, dtype,
};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// An entry of a directory: name, inode number, DT_* type.
pub type Entry = (Vec<u8>, u64, u8);

/// The entries of a directory.
pub trait Dir: Send + Sync {
    /// Finds an entry.
    ///
    /// # Errors
    /// ENOENT.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>>;
    /// All entries.
    ///
    /// # Errors
    /// ENOENT, ESRCH where what it shows is gone.
    fn list(&self) -> Result<Vec<Entry>>;
    /// Where it stands for a process, as the directories of /proc do: its number, or ESRCH where it is gone.
    fn process(&self) -> Option<Result<u32>> {
        None
    }
}

/// The contents of a file.
pub trait Text: Send + Sync {
    /// The whole text, made anew for each reader.
    ///
    /// # Errors
    /// ESRCH and the like.
    fn read(&self) -> Result<Vec<u8>>;

    /// Takes what is written at once.
    ///
    /// # Errors
    /// EACCES where it can not be written; EINVAL.
    fn write(&self, _data: &[u8]) -> Result<()> {
        Err(Errno::EACCES)
    }

    /// Reads at an offset itself, instead of from the text.
    fn read_at(&self, _sink: &mut dyn Sink, _offset: u64) -> Option<Result<usize>> {
        None
    }
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> Text for F {
    fn read(&self) -> Result<Vec<u8>> {
        self()
    }
}

/// What a symbolic link says: its text, and where it leads.
pub trait Leads: Send + Sync {
    /// The text.
    ///
    /// # Errors
    /// ESRCH, EACCES, ENOENT.
    fn text(&self) -> Result<Vec<u8>>;
    /// Where it leads.
    ///
    /// # Errors
    /// As [`Leads::text`].
    fn link(&self) -> Result<Link> {
        self.text().map(Link::Text)
    }
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> Leads for F {
    fn text(&self) -> Result<Vec<u8>> {
        self()
    }
}

enum Body {
    Dir(Box<dyn Dir>),
    File(Box<dyn Text>),
    Link(Box<dyn Leads>),
}

/// An inode of such a file system.
pub struct Synth {
    dev: u64,
    ino: u64,
    attr: SpinLock<Attr>,
    keep: bool,
    made: Time,
    body: Body,
    extra: InodeExtra,
}

static NEXT_INO: AtomicU64 = AtomicU64::new(0x1_0000);

/// A number for an inode.
pub fn new_ino() -> u64 {
    NEXT_INO.fetch_add(1, Ordering::Relaxed)
}

/// The device that they all show.
pub fn dev() -> u64 {
    static DEV: crate::sync::Once<u64> = crate::sync::Once::new();
    if let Some(dev) = DEV.get() {
        return *dev;
    }
    let _ = DEV.set(anonymous_dev());
    DEV.get().copied().unwrap_or(0x3f)
}

impl Synth {
    fn make(mode: u32, body: Body) -> Self {
        Self {
            dev: dev(),
            ino: new_ino(),
            attr: SpinLock::new(Attr { mode, uid: 0, gid: 0 }),
            keep: true,
            made: Time::now(),
            body,
            extra: InodeExtra::new(),
        }
    }

    /// A directory.
    pub fn dir(mode: u32, dir: impl Dir + 'static) -> Self {
        Self::make(c::S_IFDIR | mode, Body::Dir(Box::new(dir)))
    }

    /// A file.
    pub fn file(mode: u32, text: impl Text + 'static) -> Self {
        Self::make(c::S_IFREG | mode, Body::File(Box::new(text)))
    }

    /// A symbolic link.
    pub fn link(leads: impl Leads + 'static) -> Self {
        Self::make(c::S_IFLNK | 0o777, Body::Link(Box::new(leads)))
    }

    /// With a number of its own.
    #[must_use]
    pub fn with_ino(mut self, ino: u64) -> Self {
        self.ino = ino;
        self
    }

    /// With an owner.
    #[must_use]
    pub fn owned(self, uid: u32, gid: u32) -> Self {
        {
            let mut attr = self.attr.lock();
            attr.uid = uid;
            attr.gid = gid;
        }
        self
    }

    /// With other permissions.
    #[must_use]
    pub fn with_permissions(self, mode: u32) -> Self {
        {
            let mut attr = self.attr.lock();
            attr.mode = attr.mode & S_IFMT | mode;
        }
        self
    }

    /// Not kept by the dentry cache.
    #[must_use]
    pub fn fleeting(mut self) -> Self {
        self.keep = false;
        self
    }

    /// The process that a directory stands for ([`Dir::process`]).
    pub fn process(&self) -> Option<Result<u32>> {
        match &self.body {
            Body::Dir(dir) => dir.process(),
            _ => None,
        }
    }

    /// As an inode.
    pub fn inode(self) -> Arc<dyn Inode> {
        Arc::new(self)
    }
}

impl Inode for Synth {
    fn attr(&self) -> Attr {
        *self.attr.lock()
    }
    fn stat(&self) -> Result<Stat> {
        let attr = self.attr();
        let now = if self.keep { self.made } else { Time::now() };
        let size = match &self.body {
            Body::Link(_) if !self.keep => 64,
            _ => 0,
        };
        Ok(Stat {
            dev: self.dev,
            ino: self.ino,
            mode: attr.mode,
            nlink: if matches!(self.body, Body::Dir(_)) { 2 } else { 1 },
            uid: attr.uid,
            gid: attr.gid,
            size,
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Stat::default()
        })
    }
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }
    fn cacheable(&self) -> bool {
        self.keep
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.body {
            Body::Dir(dir) => dir.lookup(name),
            _ => Err(Errno::ENOTDIR),
        }
    }
    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link(leads) => leads.text(),
            _ => Err(Errno::EINVAL),
        }
    }
    fn follow(&self) -> Result<Link> {
        match &self.body {
            Body::Link(leads) => leads.link(),
            _ => Err(Errno::EINVAL),
        }
    }
    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(SynthFile { node: self, text: Mutex::new(None) }))
    }
    fn truncate(&self, _size: u64) -> Result<()> {
        // O_TRUNC is let by: shells use it for `echo x > /proc/...`.
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// An open file: it keeps the text that its first read saw, until it is read from the start again.
struct SynthFile {
    node: Arc<Synth>,
    text: Mutex<Option<Vec<u8>>>,
}

impl FileOps for SynthFile {
    fn read(&self, _file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Body::File(source) = &self.node.body else { return Err(Errno::EISDIR) };
        if let Some(result) = source.read_at(sink, offset) {
            return result;
        }
        let mut text = self.text.lock();
        if offset == 0 || text.is_none() {
            *text = Some(source.read()?);
        }
        let data = text.as_deref().unwrap_or_default();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        match data.get(from..) {
            Some(rest) if !rest.is_empty() => sink.put(rest),
            _ => Ok(0),
        }
    }

    fn write(&self, _file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        let Body::File(text) = &self.node.body else { return Err(Errno::EISDIR) };
        let mut data = alloc::vec![0; source.remaining().min(64 << 10)];
        let n = source.take(&mut data)?;
        data.truncate(n);
        text.write(&data)?;
        Ok(n)
    }

    fn append(&self, file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.write(file, source, 0).map(|n| (n, n as u64))
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn truncate(&self, _file: &OpenFile, _size: u64) -> Result<()> {
        Ok(())
    }

    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        let Body::Dir(dir) = &self.node.body else { return Err(Errno::ENOTDIR) };
        if position == 0 && !sink.entry(b".", self.node.ino, c::DT_DIR as u8, 1) {
            return Ok(());
        }
        if position <= 1 {
            let up = file.path.up().and_then(|p| p.inode().stat().ok()).map_or(self.node.ino, |s| s.ino);
            if !sink.entry(b"..", up, c::DT_DIR as u8, 2) {
                return Ok(());
            }
        }
        // Names that are numbers (processes) keep their place: their position is the number, after all others.
        let base = 0x1_0000u64;
        let mut at = 2u64;
        for (name, ino, kind) in dir.list()? {
            let number = core::str::from_utf8(&name).ok().and_then(|n| n.parse::<u32>().ok());
            let here = match number {
                Some(n) => base + u64::from(n),
                None => at,
            };
            at = here.max(at) + u64::from(number.is_none());
            if here >= position && !sink.entry(&name, ino, kind, here + 1) {
                break;
            }
        }
        Ok(())
    }

    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        if matches!(self.node.body, Body::Dir(_)) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A directory with fixed entries.
#[derive(Default)]
pub struct Fixed {
    entries: Vec<(Vec<u8>, Arc<dyn Inode>)>,
}

impl Fixed {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    #[must_use]
    pub fn with(mut self, name: &str, node: Synth) -> Self {
        self.entries.push((name.as_bytes().to_vec(), node.inode()));
        self
    }

    /// Adds a file with a text that is made when it is read.
    #[must_use]
    pub fn text(self, name: &str, text: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.with(name, Synth::file(0o444, move || Ok(text())))
    }

    /// Adds a file with a fixed text.
    #[must_use]
    pub fn fixed(self, name: &str, text: &'static str) -> Self {
        self.text(name, move || text.as_bytes().to_vec())
    }

    /// Adds a directory.
    #[must_use]
    pub fn dir(self, name: &str, dir: impl Dir + 'static) -> Self {
        self.with(name, Synth::dir(0o555, dir))
    }
}

impl Dir for Fixed {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.entries.iter().find(|e| e.0 == name).map(|e| e.1.clone()).ok_or(Errno::ENOENT)
    }
    fn list(&self) -> Result<Vec<Entry>> {
        self.entries
            .iter()
            .map(|(name, inode)| {
                let stat = inode.stat()?;
                Ok((name.clone(), stat.ino, dtype(stat.mode)))
            })
            .collect()
    }
}

/// A file system with this root.
pub fn super_block(
    fstype: &'static str,
    magic: u32,
    root: Arc<dyn Inode>,
    fs: Arc<dyn FileSystem>,
) -> Arc<SuperBlock> {
    Arc::new(SuperBlock {
        dev: dev(),
        fstype,
        magic: u64::from(magic),
        readonly: AtomicBool::new(false),
        fs,
        root: Dentry::root(root),
    })
}
