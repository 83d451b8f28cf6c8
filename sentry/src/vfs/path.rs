//! Paths: a dentry in a mount, and how it is written.

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::Mount;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A place in the tree of mounts.
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mnt: Arc<Mount>,
    /// The dentry in it.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The inode.
    #[inline]
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Whether two paths are the same place.
    #[inline]
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mnt, &other.mnt)
    }

    /// One step up, across mounts; `None` at the top of the tree.
    pub fn up(&self) -> Option<Path> {
        let mut at = self.clone();
        loop {
            if !Arc::ptr_eq(&at.dentry, &at.mnt.root) {
                let parent = at.dentry.parent()?;
                return Some(Path { mnt: at.mnt, dentry: parent });
            }
            at = at.mnt.place()?;
        }
    }

    /// The path as text, as seen from `root`; and whether `root` lies above it.
    fn render(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut names: Vec<alloc::boxed::Box<[u8]>> = Vec::new();
        let mut at = self.clone();
        let reached = loop {
            if at.same(root) {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, &at.mnt.root) {
                match at.mnt.place() {
                    Some(place) => {
                        at = place;
                        continue;
                    }
                    None => break false,
                }
            }
            let (parent, name) = at.dentry.place();
            names.push(name);
            match parent {
                Some(parent) => at.dentry = parent,
                None => break false,
            }
        };
        let mut out = Vec::with_capacity(names.iter().map(|n| n.len() + 1).sum::<usize>() + 1);
        for name in names.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(name);
        }
        if out.is_empty() {
            out.push(b'/');
        }
        (out, reached)
    }

    /// The path as text, as getcwd(2) and /proc show it: ` (deleted)` follows a removed name, and objects that are
    /// in no tree show as `pipe:[5]`.
    pub fn to_bytes(&self, root: &Path) -> Vec<u8> {
        if Arc::ptr_eq(&self.dentry, &self.mnt.root) && self.mnt.is_anonymous() {
            return self.dentry.name().into_vec();
        }
        if self.mnt.is_anonymous() {
            let mut name = self.dentry.name().into_vec();
            if self.dentry.is_unlinked() {
                name.extend_from_slice(b" (deleted)");
            }
            return name;
        }
        let (mut out, _) = self.render(root);
        if self.dentry.is_unlinked() {
            out.extend_from_slice(b" (deleted)");
        }
        out
    }

    /// As [`Path::to_bytes`]; `None` where `root` does not lie above.
    pub fn to_bytes_reachable(&self, root: &Path) -> Option<Vec<u8>> {
        let (out, reached) = self.render(root);
        reached.then_some(out)
    }
}
