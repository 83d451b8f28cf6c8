//! POSIX message queues and the file system that shows them: mq_overview(7). All mounts show the same queues.

pub mod limits;
mod notify;
mod queue;

pub use notify::{COOKIE, Method, Registration};
pub use queue::{Message, PRIORITIES, Queue, Shape};

use crate::errno::{Errno, Result};
use crate::fs::synth;
use crate::mm::io::Sink;
use crate::sync::{Events, Once, SpinLock};
use crate::vfs::dentry::Dentry;
use crate::vfs::file::{DirSink, FileOps, OpenFile, OpenRequest, Queues};
use crate::vfs::hooks::kernel;
use crate::vfs::inode::{
    Attr, Create, Inode, InodeExtra, Owner, PlainFs, S_IFMT, SetAttr, Stat, SuperBlock, Time, anonymous_dev,
};
use crate::vfs::mount::Mount;
use crate::vfs::open::{OpenHow, open_found};
use crate::vfs::perm::{self, MAY_EXEC, MAY_WRITE};
use crate::vfs::{Ctx, Path, walk};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::AtomicBool;
use limits::{Held, check, default_shape};
use linux_raw_sys::general as c;

const MAGIC: u64 = 0x1980_0202;
/// What stat(2) says of each queue's size.
const FILE_SIZE: u64 = 80;

/// A queue as a file.
pub struct Node {
    dev: u64,
    ino: u64,
    attr: SpinLock<Attr>,
    times: SpinLock<[Time; 3]>,
    made: Time,
    /// The queue.
    pub queue: Queue,
    extra: InodeExtra,
    linked: AtomicBool,
    _held: Held,
}

/// The directory of all queues.
struct Root {
    dev: u64,
    made: Time,
    attr: SpinLock<Attr>,
    nodes: SpinLock<BTreeMap<Vec<u8>, Arc<Node>>>,
    extra: InodeExtra,
}

static SUPER: Once<Arc<SuperBlock>> = Once::new();

fn make() -> Arc<SuperBlock> {
    let dev = anonymous_dev();
    let root = Root {
        dev,
        made: Time::now(),
        attr: SpinLock::new(Attr { mode: c::S_IFDIR | 0o1777, uid: 0, gid: 0 }),
        nodes: SpinLock::new(BTreeMap::new()),
        extra: InodeExtra::new(),
    };
    Arc::new(SuperBlock {
        dev,
        fstype: "mqueue",
        magic: MAGIC,
        readonly: AtomicBool::new(false),
        fs: Arc::new(PlainFs),
        root: Dentry::root(Arc::new(root)),
    })
}

/// The file system.
pub fn super_block() -> Arc<SuperBlock> {
    match SUPER.get() {
        Some(sb) => sb.clone(),
        None => {
            // Where another is quicker, the value that it sets is there by the time of the second look.
            let _ = SUPER.set(make());
            loop {
                if let Some(sb) = SUPER.get() {
                    return sb.clone();
                }
                core::hint::spin_loop();
            }
        }
    }
}

/// A place to walk from that is in no program's tree.
fn root() -> Path {
    static MOUNT: SpinLock<Option<Arc<Mount>>> = SpinLock::new(None);
    MOUNT.lock().get_or_insert_with(|| Mount::anonymous(super_block())).root_path()
}

/// mq_open(3); `shape` for a queue that is made.
///
/// # Errors
/// ENOENT, EEXIST, EACCES, EINVAL, EMFILE, ENOSPC, ENAMETOOLONG.
pub fn open(ctx: &Ctx, name: &[u8], flags: u32, mode: u32, shape: Option<Shape>) -> Result<Arc<OpenFile>> {
    check_name(name)?;
    let root = root();
    let guard = root.dentry.lock_dir();
    let (dentry, created) = match walk::child_locked(&root.dentry, name) {
        Ok(_) if flags & (c::O_CREAT | c::O_EXCL) == c::O_CREAT | c::O_EXCL => return Err(Errno::EEXIST),
        Ok(_) if flags & c::O_ACCMODE == c::O_ACCMODE => return Err(Errno::EINVAL),
        Ok(found) => (found, false),
        Err(Errno::ENOENT) if flags & c::O_CREAT != 0 => {
            let dir = root.inode();
            perm::permission(&ctx.cred, &dir.attr(), MAY_WRITE | MAY_EXEC)?;
            let dir = dir.as_any().downcast_ref::<Root>().ok_or(Errno::ENOENT)?;
            let mode = mode & 0o7777 & !ctx.fs.umask();
            let owner = Owner { mode, uid: ctx.cred.fsuid, gid: ctx.cred.fsgid };
            let node = dir.add(name, &owner, shape)?;
            (root.dentry.add_child(name, node), true)
        }
        Err(e) => return Err(e),
    };
    drop(guard);
    let how = OpenHow { flags: flags & (c::O_ACCMODE | c::O_NONBLOCK), ..OpenHow::default() };
    open_found(ctx, Path { mnt: root.mnt.clone(), dentry }, &how, created)
}

/// mq_unlink(3)
///
/// # Errors
/// ENOENT, EACCES, EPERM, ENAMETOOLONG.
pub fn unlink(ctx: &Ctx, name: &[u8]) -> Result<()> {
    check_name(name)?;
    crate::vfs::namei::remove(ctx, root(), name, false)
}

fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

impl Root {
    /// Makes a queue; it is known that there is none of the name.
    fn add(&self, name: &[u8], owner: &Owner, shape: Option<Shape>) -> Result<Arc<Node>> {
        let cred = kernel().current_cred().ok_or(Errno::EPERM)?;
        let shape = match shape {
            Some(shape) => check(shape, &cred)?,
            None => default_shape(),
        };
        let held = Held::new(&cred, shape.bytes())?;
        let now = Time::now();
        let node = Arc::new(Node {
            dev: self.dev,
            ino: synth::new_ino(),
            attr: SpinLock::new(Attr { mode: c::S_IFREG | owner.mode, uid: owner.uid, gid: owner.gid }),
            times: SpinLock::new([now; 3]),
            made: now,
            queue: Queue::new(shape),
            extra: InodeExtra::new(),
            linked: AtomicBool::new(true),
            _held: held,
        });
        self.nodes.lock().insert(name.to_vec(), node.clone());
        Ok(node)
    }
}

impl Inode for Root {
    fn attr(&self) -> Attr {
        *self.attr.lock()
    }
    fn stat(&self) -> Result<Stat> {
        let attr = self.attr();
        Ok(Stat {
            dev: self.dev,
            ino: 1,
            mode: attr.mode,
            nlink: 2,
            uid: attr.uid,
            gid: attr.gid,
            size: self.nodes.lock().len() as u64 * 20,
            blksize: 4096,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            btime: self.made,
            ..Stat::default()
        })
    }
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        apply(&mut self.attr.lock(), change);
        Ok(())
    }
    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.nodes.lock().get(name).cloned().map(|n| n as Arc<dyn Inode>).ok_or(Errno::ENOENT)
    }
    fn create(&self, name: &[u8], what: Create<'_>, owner: &Owner) -> Result<Arc<dyn Inode>> {
        match what {
            Create::File => Ok(self.add(name, owner, None)?),
            _ => Err(Errno::EPERM),
        }
    }
    fn unlink(&self, name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        let node = self.nodes.lock().remove(name).ok_or(Errno::ENOENT)?;
        node.linked.store(false, core::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(Listing { root: self }))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

fn apply(attr: &mut Attr, change: &SetAttr) {
    if let Some(mode) = change.mode {
        attr.mode = attr.mode & S_IFMT | mode & 0o7777;
    }
    attr.uid = change.uid.unwrap_or(attr.uid);
    attr.gid = change.gid.unwrap_or(attr.gid);
}

impl Inode for Node {
    fn attr(&self) -> Attr {
        *self.attr.lock()
    }
    fn stat(&self) -> Result<Stat> {
        let attr = self.attr();
        let [atime, mtime, ctime] = *self.times.lock();
        Ok(Stat {
            dev: self.dev,
            ino: self.ino,
            mode: attr.mode,
            nlink: u32::from(self.linked.load(core::sync::atomic::Ordering::Relaxed)),
            uid: attr.uid,
            gid: attr.gid,
            size: FILE_SIZE,
            blksize: 4096,
            atime,
            mtime,
            ctime,
            btime: self.made,
            ..Stat::default()
        })
    }
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        apply(&mut self.attr.lock(), change);
        let mut times = self.times.lock();
        times[0] = change.atime.unwrap_or(times[0]);
        times[1] = change.mtime.unwrap_or(times[1]);
        times[2] = Time::now();
        Ok(())
    }
    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }
    fn open(self: Arc<Self>, _request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(QueueFile { node: self }))
    }
    fn truncate(&self, _size: u64) -> Result<()> {
        // As on Linux nothing of the queue changes.
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The open directory.
struct Listing {
    root: Arc<Root>,
}

impl FileOps for Listing {
    fn can_seek(&self) -> bool {
        true
    }
    fn can_epoll(&self) -> bool {
        false
    }
    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        if position == 0 && !sink.entry(b".", 1, c::DT_DIR as u8, 1) {
            return Ok(());
        }
        if position <= 1 {
            let up = file.path.up().and_then(|p| p.inode().stat().ok()).map_or(1, |s| s.ino);
            if !sink.entry(b"..", up, c::DT_DIR as u8, 2) {
                return Ok(());
            }
        }
        // A name is at the place of its number, so that those that stay are not missed when others go.
        let mut names: Vec<(u64, Vec<u8>)> =
            self.root.nodes.lock().iter().map(|(name, node)| (node.ino, name.clone())).collect();
        names.sort_unstable();
        for (ino, name) in names {
            if ino + 2 >= position && !sink.entry(&name, ino, c::DT_REG as u8, ino + 3) {
                break;
            }
        }
        Ok(())
    }
    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        Ok(())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A message-queue descriptor.
pub struct QueueFile {
    /// The queue's file.
    pub node: Arc<Node>,
}

impl FileOps for QueueFile {
    fn read(&self, _file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        let text = self.node.queue.text();
        match text.get(usize::try_from(offset).unwrap_or(usize::MAX)..) {
            Some(rest) if !rest.is_empty() => sink.put(rest),
            _ => Ok(0),
        }
    }
    fn poll(&self, _file: &OpenFile) -> Events {
        self.node.queue.poll()
    }
    fn queues<'a>(&'a self, _file: &OpenFile, queues: &mut Queues<'a>) {
        queues.push(&self.node.queue.changed);
    }
    fn can_seek(&self) -> bool {
        true
    }
    fn size(&self) -> u64 {
        FILE_SIZE
    }
    fn closed(&self, _file: &OpenFile) {
        if let Some((pid, _)) = kernel().current() {
            self.node.queue.unregister(pid);
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
