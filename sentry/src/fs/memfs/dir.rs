//! Directories in memory, over those of the lower tree.

use super::Node;
use crate::errno::{Errno, Result};
use crate::fs::lower::{LowerEntry, LowerNode};
use crate::sync::SpinLock;
use crate::vfs::file::DirSink;
use crate::vfs::inode::dtype;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Single names asked of the lower directory before it is read as a whole.
const PROBES: u8 = 4;

/// Position of the first entry; 0 and 1 are `.` and `..`.
const FIRST: u64 = 2;

enum What {
    /// A node that has been loaded or made.
    Node(Arc<Node>),
    /// An entry of the lower directory that nobody asked for yet.
    Lower { ino: u64, kind: u8 },
    /// A name of the lower directory that was removed, or is known not to exist.
    Absent,
}

struct Entry {
    what: What,
    off: u64,
}

#[derive(Default)]
struct Inner {
    names: HashMap<Arc<[u8]>, Entry>,
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    listed: bool,
    probes: u8,
    subdirs: u32,
}

/// Entries of a directory.
pub struct Dir {
    inner: SpinLock<Inner>,
}

impl Inner {
    fn put(&mut self, name: &[u8], what: What) {
        let name: Arc<[u8]> = name.into();
        let off = self.next;
        self.next += 1;
        if !matches!(what, What::Absent) {
            self.order.insert(off, name.clone());
        }
        if let Some(old) = self.names.insert(name, Entry { what, off }) {
            self.order.remove(&old.off);
        }
    }

    fn is_dir(what: &What) -> bool {
        match what {
            What::Node(node) => node.is_dir(),
            What::Lower { kind, .. } => u32::from(*kind) == linux_raw_sys::general::DT_DIR,
            What::Absent => false,
        }
    }

    /// Takes a name out; where the lower directory may have it, the name stays hidden.
    fn take(&mut self, name: &[u8], hide: bool) {
        let Some(entry) = self.names.remove(name) else { return };
        self.order.remove(&entry.off);
        if Self::is_dir(&entry.what) {
            self.subdirs = self.subdirs.saturating_sub(1);
        }
        if hide {
            self.names.insert(name.into(), Entry { what: What::Absent, off: entry.off });
        }
    }
}

impl Dir {
    /// An empty directory; `lower`: over a lower one, whose names are not known yet.
    pub fn new(lower: bool, nlink: u32) -> Self {
        Self {
            inner: SpinLock::new(Inner {
                next: FIRST,
                listed: !lower,
                subdirs: nlink.saturating_sub(2),
                ..Inner::default()
            }),
        }
    }

    /// Directories in it, for the link count.
    pub fn subdirs(&self) -> u32 {
        self.inner.lock().subdirs
    }

    /// Entries, for the size.
    pub fn len(&self) -> u64 {
        self.inner.lock().order.len() as u64
    }

    fn list(&self, node: &Node) -> Result<()> {
        if self.inner.lock().listed {
            return Ok(());
        }
        let lower = node.lower_node().ok_or(Errno::EIO)?;
        let entries = node.fs().lower()?.list(lower)?;
        let mut inner = self.inner.lock();
        if inner.listed {
            return Ok(());
        }
        for LowerEntry { name, ino, kind } in entries {
            if !inner.names.contains_key(name.as_slice()) {
                inner.put(&name, What::Lower { ino, kind });
            }
        }
        // What is only known not to exist need not be kept any more.
        inner.names.retain(|_, e| !matches!(e.what, What::Absent));
        inner.listed = true;
        Ok(())
    }

    /// Finds an entry.
    pub fn lookup(&self, node: &Node, name: &[u8]) -> Result<Arc<Node>> {
        loop {
            let probe = {
                let mut inner = self.inner.lock();
                match inner.names.get(name) {
                    Some(Entry { what: What::Node(found), .. }) => return Ok(found.clone()),
                    Some(Entry { what: What::Absent, .. }) => return Err(Errno::ENOENT),
                    Some(Entry { what: What::Lower { .. }, .. }) => true,
                    None if inner.listed => return Err(Errno::ENOENT),
                    None => {
                        inner.probes = inner.probes.saturating_add(1);
                        inner.probes <= PROBES
                    }
                }
            };
            if !probe {
                self.list(node)?;
                continue;
            }
            let lower: &LowerNode = node.lower_node().ok_or(Errno::EIO)?;
            let found = match node.fs().lower()?.lookup(lower, name)? {
                Some((child, stat)) => Some(node.fs().load(child, &stat)?),
                None => None,
            };
            let mut inner = self.inner.lock();
            let listed = inner.listed;
            match (inner.names.get_mut(name), found) {
                (Some(entry), Some(found)) if matches!(entry.what, What::Lower { .. }) => {
                    entry.what = What::Node(found);
                }
                // Its host file went away, against the promise: so does the entry.
                (Some(entry), None) if matches!(entry.what, What::Lower { .. }) => inner.take(name, false),
                (Some(_), _) => {}
                (None, Some(found)) => inner.put(name, What::Node(found)),
                (None, None) if !listed => inner.put(name, What::Absent),
                (None, None) => {}
            }
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn insert(&self, name: &[u8], node: Arc<Node>) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.names.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        if node.is_dir() {
            inner.subdirs = inner.subdirs.saturating_add(1);
        }
        inner.put(name, What::Node(node));
        Ok(())
    }

    /// Takes an entry out.
    pub fn remove(&self, name: &[u8]) {
        let gone = {
            let mut inner = self.inner.lock();
            let kept = match inner.names.get(name) {
                Some(Entry { what: What::Node(node), .. }) => Some(node.clone()),
                _ => None,
            };
            let hide = !inner.listed;
            inner.take(name, hide);
            kept
        };
        // The last reference may free pages: not under the lock.
        drop(gone);
    }

    /// Puts another node at a name.
    pub fn replace(&self, name: &[u8], node: Arc<Node>) {
        let old = {
            let mut inner = self.inner.lock();
            let is_dir = node.is_dir();
            let Some(entry) = inner.names.get_mut(name) else { return };
            let old = core::mem::replace(&mut entry.what, What::Node(node));
            let was_dir = Inner::is_dir(&old);
            inner.subdirs =
                inner.subdirs.saturating_add(u32::from(is_dir)).saturating_sub(u32::from(was_dir));
            old
        };
        drop(old);
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self, node: &Node) -> Result<bool> {
        self.list(node)?;
        Ok(self.inner.lock().order.is_empty())
    }

    /// Takes all nodes out: the directory is going away.
    pub fn drain(&mut self) -> Vec<Arc<Node>> {
        let nodes = self.inner.get_mut().names.drain().filter_map(|(_, entry)| match entry.what {
            What::Node(node) => Some(node),
            _ => None,
        });
        nodes.collect()
    }

    /// Gives the entries from a position on (without `.` and `..`).
    pub fn read(&self, node: &Node, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        self.list(node)?;
        let inner = self.inner.lock();
        for (off, name) in inner.order.range(position.max(FIRST)..) {
            let Some(entry) = inner.names.get(name) else { continue };
            let (ino, kind) = match &entry.what {
                What::Node(node) => (node.ino(), dtype(node.kind())),
                What::Lower { ino, kind } => (*ino, *kind),
                What::Absent => continue,
            };
            if !sink.entry(name, ino, kind, off + 1) {
                break;
            }
        }
        Ok(())
    }
}
