//! Dentries: names of inodes, kept so that walks of paths stay in memory.

use super::inode::{Inode, S_IFMT};
use crate::sync::{Mutex, MutexGuard, SpinLock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hashbrown::HashMap;
use linux_raw_sys::general as c;

/// Kept children of a directory beyond which the unused ones are dropped.
const PRUNE_AT: usize = 1024;

struct Link {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

struct Children {
    names: HashMap<Box<[u8]>, Arc<Dentry>>,
    prune_at: usize,
}

/// The part that only directories have.
struct DirCache {
    lock: Mutex<()>,
    children: SpinLock<Children>,
}

/// A name of an inode within its parent. A dentry's inode never changes.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    kind: u32,
    mounted: AtomicU32,
    unlinked: AtomicBool,
    link: SpinLock<Link>,
    dir: Option<Box<DirCache>>,
}

impl Dentry {
    fn make(inode: Arc<dyn Inode>, parent: Option<Arc<Dentry>>, name: &[u8]) -> Arc<Self> {
        let kind = inode.attr().mode & S_IFMT;
        let dir = (kind == c::S_IFDIR).then(|| {
            Box::new(DirCache {
                lock: Mutex::new(()),
                children: SpinLock::new(Children { names: HashMap::new(), prune_at: PRUNE_AT }),
            })
        });
        Arc::new(Self {
            inode,
            kind,
            mounted: AtomicU32::new(0),
            unlinked: AtomicBool::new(false),
            link: SpinLock::new(Link { parent, name: name.into() }),
            dir,
        })
    }

    /// The root of a file system.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::make(inode, None, b"/")
    }

    /// A dentry that hangs in no tree, such as a pipe's.
    pub fn anonymous(inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        Self::make(inode, None, name)
    }

    /// A child that is not kept: its parent does not know it.
    pub fn loose(inode: Arc<dyn Inode>, parent: &Arc<Dentry>, name: &[u8]) -> Arc<Self> {
        Self::make(inode, Some(parent.clone()), name)
    }

    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// Type bits of the mode.
    #[inline]
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// Whether it names a directory.
    #[inline]
    pub fn is_dir(&self) -> bool {
        self.kind == c::S_IFDIR
    }

    /// The parent; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.link.lock().parent.clone()
    }

    /// The name.
    pub fn name(&self) -> Box<[u8]> {
        self.link.lock().name.clone()
    }

    /// Name and parent together.
    pub fn place(&self) -> (Option<Arc<Dentry>>, Box<[u8]>) {
        let link = self.link.lock();
        (link.parent.clone(), link.name.clone())
    }

    /// Whether the name has been removed.
    pub fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Acquire)
    }

    /// Marks the name as removed.
    pub fn set_unlinked(&self) {
        self.unlinked.store(true, Ordering::Release);
    }

    /// Whether something may be mounted here, in some mount.
    #[inline]
    pub fn is_mounted(&self) -> bool {
        self.mounted.load(Ordering::Relaxed) != 0
    }

    pub(super) fn add_mount(&self) {
        self.mounted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_mount(&self) {
        self.mounted.fetch_sub(1, Ordering::Relaxed);
    }

    /// The directory's lock: held while its entries change or are asked of the file system.
    pub fn lock_dir(&self) -> Option<MutexGuard<'_, ()>> {
        self.dir.as_ref().map(|d| d.lock.lock())
    }

    /// A kept child.
    #[inline]
    pub fn cached(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.dir.as_ref()?.children.lock().names.get(name).cloned()
    }

    /// Makes and keeps a child; the directory's lock is held.
    pub fn add_child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let keep = inode.cacheable();
        let child = Self::make(inode, Some(self.clone()), name);
        let Some(dir) = self.dir.as_ref().filter(|_| keep) else { return child };
        let mut unused: Vec<Arc<Dentry>> = Vec::new();
        let mut children = dir.children.lock();
        if children.names.len() >= children.prune_at {
            unused.extend(
                children.names.extract_if(|_, d| Arc::strong_count(d) == 1 && d.is_bare()).map(|e| e.1),
            );
            children.prune_at = (children.names.len() * 2).max(PRUNE_AT);
        }
        if children.names.try_reserve(1).is_err() {
            // It is found again where it came from.
            return child;
        }
        let old = children.names.insert(name.into(), child.clone());
        drop(children);
        drop(old);
        drop(unused);
        child
    }

    fn is_bare(&self) -> bool {
        !self.is_mounted() && self.dir.as_ref().is_none_or(|d| d.children.lock().names.is_empty())
    }

    /// Forgets a child; the directory's lock is held.
    pub fn forget_child(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.dir.as_ref()?.children.lock().names.remove(name)
    }

    /// Moves a kept child under a new name or parent; the locks of both directories are held.
    pub fn move_child(self: &Arc<Self>, child: &Arc<Dentry>, to: &Arc<Dentry>, to_name: &[u8]) {
        let old_name = child.name();
        let removed = self.forget_child(&old_name);
        let old_parent = {
            let mut link = child.link.lock();
            link.name = to_name.into();
            link.parent.replace(to.clone())
        };
        let replaced =
            to.dir.as_ref().and_then(|d| d.children.lock().names.insert(to_name.into(), child.clone()));
        drop((removed, old_parent, replaced));
    }

    /// Swaps two kept children; the locks of both directories are held.
    pub fn exchange(a_dir: &Arc<Dentry>, a: &Arc<Dentry>, b_dir: &Arc<Dentry>, b: &Arc<Dentry>) {
        let (a_name, b_name) = (a.name(), b.name());
        a_dir.forget_child(&a_name);
        b_dir.forget_child(&b_name);
        for (child, dir, name) in [(a, b_dir, b_name), (b, a_dir, a_name)] {
            let old = {
                let mut link = child.link.lock();
                link.name = name.clone();
                link.parent.replace(dir.clone())
            };
            let displaced =
                dir.dir.as_ref().and_then(|d| d.children.lock().names.insert(name, child.clone()));
            drop((old, displaced));
        }
    }

    /// Whether `self` is `other` or lies above it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(d) = at {
            if Arc::ptr_eq(self, &d) {
                return true;
            }
            at = d.parent();
        }
        false
    }

    /// Drops every kept dentry below: the file system is being unmounted.
    pub fn forget_tree(self: &Arc<Self>) {
        let mut work: Vec<Arc<Dentry>> = alloc::vec![self.clone()];
        while let Some(d) = work.pop() {
            if let Some(dir) = &d.dir {
                work.extend(dir.children.lock().names.drain().map(|e| e.1));
            }
        }
    }
}

impl Drop for Dentry {
    /// Unlinks long chains of parents one by one, so that a deep tree does not use up the stack.
    fn drop(&mut self) {
        let mut parent = self.link.get_mut().parent.take();
        while let Some(p) = parent {
            parent = Arc::into_inner(p).and_then(|mut d| d.link.get_mut().parent.take());
        }
    }
}
