//! Mounts and mount namespaces, mount_namespaces(7).

use super::dentry::Dentry;
use super::inode::SuperBlock;
use super::path::Path;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, SpinLock};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as c;

/// Flags that each mount has of its own.
pub const MNT_FLAGS: u32 = c::MS_RDONLY
    | c::MS_NOSUID
    | c::MS_NODEV
    | c::MS_NOEXEC
    | c::MS_NOATIME
    | c::MS_NODIRATIME
    | c::MS_RELATIME
    | c::MS_NOSYMFOLLOW;

/// Most mounts in a namespace, as /proc/sys/fs/mount-max.
const MOUNT_MAX: usize = 100_000;

static NEXT_ID: AtomicU64 = AtomicU64::new(20);

/// Serialises changes of the trees of mounts.
static TREE: Mutex<()> = Mutex::new(());

/// A file system, or a part of one, at a place.
pub struct Mount {
    /// Number in /proc/self/mountinfo.
    pub id: u64,
    /// The file system.
    pub sb: Arc<SuperBlock>,
    /// What part of it shows.
    pub root: Arc<Dentry>,
    /// What /proc/mounts names as the source.
    pub source: Vec<u8>,
    flags: AtomicU32,
    place: SpinLock<Option<Path>>,
    children: SpinLock<Vec<Arc<Mount>>>,
    anonymous: bool,
}

impl Mount {
    /// A mount that is attached nowhere yet.
    pub fn new(sb: Arc<SuperBlock>, root: Arc<Dentry>, source: &[u8], flags: u32) -> Arc<Self> {
        Self::make(sb, root, source, flags, false)
    }

    /// The mount of objects that are in no tree.
    pub fn anonymous(sb: Arc<SuperBlock>) -> Arc<Self> {
        let root = sb.root.clone();
        Self::make(sb, root, b"none", 0, true)
    }

    fn make(sb: Arc<SuperBlock>, root: Arc<Dentry>, source: &[u8], flags: u32, anonymous: bool) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            sb,
            root,
            source: source.to_vec(),
            flags: AtomicU32::new(flags & MNT_FLAGS),
            place: SpinLock::new(None),
            children: SpinLock::new(Vec::new()),
            anonymous,
        })
    }

    /// Its root as a path.
    pub fn root_path(self: &Arc<Self>) -> Path {
        Path { mnt: self.clone(), dentry: self.root.clone() }
    }

    /// Whether it holds objects that are in no tree.
    pub fn is_anonymous(&self) -> bool {
        self.anonymous
    }

    /// MS_* flags of the mount.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Sets the MS_* flags.
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags & MNT_FLAGS, Ordering::Relaxed);
    }

    /// Whether files can be changed through it.
    pub fn is_readonly(&self) -> bool {
        self.flags() & c::MS_RDONLY != 0 || self.sb.readonly.load(Ordering::Relaxed)
    }

    /// Checks that files can be changed through it.
    ///
    /// # Errors
    /// EROFS.
    pub fn want_write(&self) -> Result<()> {
        if self.is_readonly() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Where it is mounted.
    pub fn place(&self) -> Option<Path> {
        self.place.lock().clone()
    }

    /// The topmost mount at a dentry of this one.
    pub fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children
            .lock()
            .iter()
            .rev()
            .find(|m| m.place.lock().as_ref().is_some_and(|p| Arc::ptr_eq(&p.dentry, dentry)))
            .cloned()
    }

    /// Whether anything is mounted below.
    pub fn has_children(&self) -> bool {
        !self.children.lock().is_empty()
    }

    fn attach_locked(self: &Arc<Self>, place: &Path) {
        place.dentry.add_mount();
        *self.place.lock() = Some(place.clone());
        place.mnt.children.lock().push(self.clone());
    }

    fn detach_locked(self: &Arc<Self>) {
        let place = self.place.lock().take();
        if let Some(place) = place {
            place.dentry.remove_mount();
            place.mnt.children.lock().retain(|m| !Arc::ptr_eq(m, self));
        }
    }

    /// This mount and all below it, parents first.
    pub fn tree(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let mut all = alloc::vec![self.clone()];
        let mut at = 0;
        while let Some(mount) = all.get(at).cloned() {
            all.extend(mount.children.lock().iter().cloned());
            at += 1;
        }
        all
    }

    /// Copies this mount with another root (a bind mount); `recursive` with what is mounted below that root.
    /// Returns the copies, each with the mount that it copies, the top first.
    fn copy_tree(self: &Arc<Self>, root: &Arc<Dentry>, recursive: bool) -> Vec<(Arc<Mount>, Arc<Mount>)> {
        let copy =
            |m: &Arc<Mount>, root: &Arc<Dentry>| Mount::new(m.sb.clone(), root.clone(), &m.source, m.flags());
        let mut pairs = alloc::vec![(self.clone(), copy(self, root))];
        if !recursive {
            return pairs;
        }
        let mut at = 0;
        while let Some((original, made)) = pairs.get(at).cloned() {
            let children: Vec<Arc<Mount>> = original.children.lock().clone();
            for child in children {
                let Some(place) = child.place() else { continue };
                if at == 0 && !root.is_ancestor_of(&place.dentry) {
                    continue;
                }
                let twin = copy(&child, &child.root);
                twin.attach_locked(&Path { mnt: made.clone(), dentry: place.dentry });
                pairs.push((child, twin));
            }
            at += 1;
        }
        pairs
    }
}

/// A tree of mounts that processes share.
pub struct MountNs {
    /// Number, as in /proc/self/ns/mnt.
    pub id: u64,
    root: SpinLock<Arc<Mount>>,
}

static NEXT_NS: AtomicU64 = AtomicU64::new(0xF000_0000);

impl MountNs {
    /// A namespace with this root.
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        Arc::new(Self { id: NEXT_NS.fetch_add(1, Ordering::Relaxed), root: SpinLock::new(root) })
    }

    /// The mount at the top.
    pub fn root(&self) -> Arc<Mount> {
        self.root.lock().clone()
    }

    /// All mounts, parents first.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.root().tree()
    }

    fn contains(&self, mount: &Arc<Mount>) -> bool {
        let mut at = mount.clone();
        while let Some(place) = at.place() {
            at = place.mnt;
        }
        Arc::ptr_eq(&at, &self.root())
    }

    /// Attaches a new mount.
    ///
    /// # Errors
    /// EINVAL where the place is not in this namespace, ENOTDIR, ENOENT for a removed place, ENOSPC.
    pub fn attach(&self, mount: &Arc<Mount>, place: &Path) -> Result<()> {
        let _tree = TREE.lock();
        self.check_place(place, mount.root.is_dir())?;
        mount.attach_locked(place);
        Ok(())
    }

    fn check_place(&self, place: &Path, dir: bool) -> Result<()> {
        if !self.contains(&place.mnt) {
            return Err(Errno::EINVAL);
        }
        if place.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if place.dentry.is_dir() != dir {
            return Err(Errno::ENOTDIR);
        }
        if self.mounts().len() >= MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Mounts a part of the tree at another place (MS_BIND).
    ///
    /// # Errors
    /// As [`MountNs::attach`].
    pub fn bind(&self, from: &Path, to: &Path, recursive: bool) -> Result<Arc<Mount>> {
        let _tree = TREE.lock();
        self.check_place(to, from.dentry.is_dir())?;
        let pairs = from.mnt.copy_tree(&from.dentry, recursive);
        let top = pairs.first().map(|p| p.1.clone()).ok_or(Errno::EINVAL)?;
        top.attach_locked(to);
        Ok(top)
    }

    /// Moves a mount (MS_MOVE).
    ///
    /// # Errors
    /// EINVAL where `from` is no mount's root or is the namespace's root; ELOOP into itself.
    pub fn move_mount(&self, from: &Path, to: &Path) -> Result<()> {
        let _tree = TREE.lock();
        if !Arc::ptr_eq(&from.dentry, &from.mnt.root) || from.mnt.place().is_none() {
            return Err(Errno::EINVAL);
        }
        self.check_place(to, from.dentry.is_dir())?;
        let mut at = Some(to.mnt.clone());
        while let Some(m) = at {
            if Arc::ptr_eq(&m, &from.mnt) {
                return Err(Errno::ELOOP);
            }
            at = m.place().map(|p| p.mnt);
        }
        from.mnt.detach_locked();
        from.mnt.attach_locked(to);
        Ok(())
    }

    /// Unmounts; `detach` at once with all below (MNT_DETACH).
    ///
    /// # Errors
    /// EBUSY where it is in use (mounts below, or paths held), EINVAL where it is not in this namespace.
    pub fn unmount(&self, mount: &Arc<Mount>, detach: bool) -> Result<()> {
        let gone = {
            let _tree = TREE.lock();
            if !self.contains(mount) || mount.place().is_none() {
                return Err(Errno::EINVAL);
            }
            if !detach {
                // Its parent's list and the caller's reference: whatever is more is in use.
                if mount.has_children() || Arc::strong_count(mount) > 2 {
                    return Err(Errno::EBUSY);
                }
            }
            let tree = mount.tree();
            for m in tree.iter().rev() {
                m.detach_locked();
            }
            tree
        };
        for m in gone {
            forget_if_last(&m);
        }
        Ok(())
    }

    /// Makes `new_root` the root and puts the old one at `put_old`, pivot_root(2). `root` is the caller's root.
    ///
    /// # Errors
    /// EINVAL, EBUSY as there.
    pub fn pivot(&self, root: &Path, new_root: &Path, put_old: &Path) -> Result<()> {
        let _tree = TREE.lock();
        if !self.contains(&new_root.mnt) || !self.contains(&root.mnt) || !self.contains(&put_old.mnt) {
            return Err(Errno::EINVAL);
        }
        if Arc::ptr_eq(&new_root.mnt, &root.mnt) || Arc::ptr_eq(&put_old.mnt, &root.mnt) {
            return Err(Errno::EBUSY);
        }
        if !Arc::ptr_eq(&root.dentry, &root.mnt.root) || !Arc::ptr_eq(&new_root.dentry, &new_root.mnt.root) {
            return Err(Errno::EINVAL);
        }
        let mut at = put_old.clone();
        while !at.same(new_root) {
            at = at.up().ok_or(Errno::EINVAL)?;
        }
        let old_place = root.mnt.place();
        new_root.mnt.detach_locked();
        root.mnt.detach_locked();
        match old_place {
            Some(place) => new_root.mnt.attach_locked(&place),
            None => *self.root.lock() = new_root.mnt.clone(),
        }
        // Where put_old is the new root itself, the old root is mounted on top of it.
        root.mnt.attach_locked(put_old);
        Ok(())
    }

    /// A copy of the whole tree for unshare(2) and clone(2) with CLONE_NEWNS; `translate` maps paths of the old
    /// namespace (root and working directory) to the new.
    pub fn copy(&self) -> (Arc<MountNs>, impl Fn(&Path) -> Path + use<>) {
        let _tree = TREE.lock();
        let root = self.root();
        let pairs = root.copy_tree(&root.root, true);
        let top = pairs.first().map_or(root, |p| p.1.clone());
        let ns = MountNs::new(top);
        let translate = move |path: &Path| match pairs.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mnt)) {
            Some((_, new)) => Path { mnt: new.clone(), dentry: path.dentry.clone() },
            None => path.clone(),
        };
        (ns, translate)
    }
}

impl Drop for MountNs {
    fn drop(&mut self) {
        let tree = {
            let _tree = TREE.lock();
            let tree = self.root().tree();
            for m in tree.iter().rev() {
                m.detach_locked();
            }
            tree
        };
        for m in tree {
            forget_if_last(&m);
        }
    }
}

/// Lets go of the dentries of a file system whose last mount went away.
fn forget_if_last(mount: &Arc<Mount>) {
    // One reference is the mount's; more are other mounts of the same file system or its owner.
    if Arc::strong_count(&mount.sb) == 1 {
        mount.sb.root.forget_tree();
    }
}
