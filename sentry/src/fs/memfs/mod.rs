//! The file system in memory: tmpfs(5), and with a lower tree below it the root of a container.
//!
//! A node that came from the lower tree shows its attributes and pages until they are changed; a change is kept
//! in the node, so nothing is ever copied as a whole and identity stays: open descriptions, hard links and
//! mappings see what is written. Directories know which names of the lower directory are gone.

mod data;
mod dir;
mod node;

pub use data::Data;
pub use node::{Node, SEALS_ALL};

use super::lower::{Lower, LowerNode};
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{FileSystem, Inode, StatFs, SuperBlock, anonymous_dev};
use abi::hostcall::FileStat;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hashbrown::HashMap;
use linux_raw_sys::general as c;

/// What a file system may use and uses.
pub struct Account {
    max_pages: AtomicU64,
    pages: AtomicU64,
    max_inodes: AtomicU64,
    inodes: AtomicU64,
}

impl Account {
    fn take(used: &AtomicU64, max: &AtomicU64, n: u64) -> Result<()> {
        let max = max.load(Ordering::Relaxed);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |u| u.checked_add(n).filter(|u| *u <= max))
            .map(drop)
            .map_err(|_| Errno::ENOSPC)
    }

    /// Charges pages.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn charge(&self, pages: u64) -> Result<()> {
        Self::take(&self.pages, &self.max_pages, pages)
    }

    /// Gives pages back.
    pub fn uncharge(&self, pages: u64) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
    }

    fn charge_inode(&self) -> Result<()> {
        Self::take(&self.inodes, &self.max_inodes, 1)
    }

    fn uncharge_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Options of a mount: `size=`, `nr_inodes=`, `mode=`, `uid=`, `gid=`.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most bytes.
    pub size: u64,
    /// Most inodes.
    pub inodes: u64,
    /// Mode of the root.
    pub mode: u32,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
}

impl Default for Options {
    /// Half of the memory, as Linux.
    fn default() -> Self {
        let pages = crate::mm::frames::usage().1.max(16) as u64;
        Self {
            size: pages / 2 * abi::PAGE_SIZE,
            inodes: (pages / 2).max(65_536),
            mode: 0o1777,
            uid: 0,
            gid: 0,
        }
    }
}

/// Options that mean nothing to a file system in memory of this kind: those of every mount, and those of tmpfs(5) about
/// swap, huge pages, memory policy, labels, quotas and the width of inode numbers.
const IGNORED: &[&[u8]] = &[
    b"",
    b"ro",
    b"rw",
    b"suid",
    b"nosuid",
    b"dev",
    b"nodev",
    b"exec",
    b"noexec",
    b"atime",
    b"noatime",
    b"diratime",
    b"nodiratime",
    b"relatime",
    b"norelatime",
    b"strictatime",
    b"nostrictatime",
    b"lazytime",
    b"nolazytime",
    b"symfollow",
    b"nosymfollow",
    b"sync",
    b"async",
    b"dirsync",
    b"mand",
    b"nomand",
    b"iversion",
    b"noiversion",
    b"silent",
    b"loud",
    b"acl",
    b"noacl",
    b"noswap",
    b"huge",
    b"mpol",
    b"inode32",
    b"inode64",
    b"quota",
    b"usrquota",
    b"grpquota",
    b"context",
    b"fscontext",
    b"defcontext",
    b"rootcontext",
    b"source",
];

/// A number with an optional suffix k, m, g or %, of `whole`.
fn parse_size(text: &[u8], whole: u64) -> Result<u64> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let digits = text.trim_end_matches(|ch: char| !ch.is_ascii_digit());
    let n: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let scaled = match text.get(digits.len()..).unwrap_or_default() {
        "" => Some(n),
        "k" | "K" => n.checked_mul(1 << 10),
        "m" | "M" => n.checked_mul(1 << 20),
        "g" | "G" => n.checked_mul(1 << 30),
        "%" => whole.checked_mul(n).map(|v| v / 100),
        _ => None,
    };
    scaled.ok_or(Errno::EINVAL)
}

impl Options {
    /// Takes options as mount(2) gives them, separated by commas; those of the VFS, and those of tmpfs that have no
    /// meaning here, are let by.
    ///
    /// # Errors
    /// EINVAL for an option that tmpfs does not have, and for a value that is none.
    pub fn parse(mut self, text: &[u8]) -> Result<Self> {
        let whole = crate::mm::frames::usage().1 as u64 * abi::PAGE_SIZE;
        let octal = |v: &[u8]| {
            let v = core::str::from_utf8(v).map_err(|_| Errno::EINVAL)?;
            u32::from_str_radix(v, 8).map_err(|_| Errno::EINVAL)
        };
        let number = |v: &[u8]| parse_size(v, 0).and_then(|n| u32::try_from(n).map_err(|_| Errno::EINVAL));
        for option in text.split(|b| *b == b',') {
            let mut parts = option.splitn(2, |b| *b == b'=');
            let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            match key {
                b"size" => {
                    let size = parse_size(value, whole)?;
                    self.size = if size == 0 { u64::MAX / 2 } else { size };
                }
                b"nr_blocks" => self.size = parse_size(value, 0)?.saturating_mul(abi::PAGE_SIZE),
                b"nr_inodes" => {
                    let inodes = parse_size(value, 0)?;
                    self.inodes = if inodes == 0 { u64::MAX / 2 } else { inodes };
                }
                b"mode" => self.mode = octal(value)? & 0o7777,
                b"uid" => self.uid = number(value)?,
                b"gid" => self.gid = number(value)?,
                _ if IGNORED.contains(&key) => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// A file system in memory.
pub struct MemFs {
    me: Weak<MemFs>,
    dev: u64,
    account: Arc<Account>,
    next_ino: AtomicU64,
    lower: Option<Arc<dyn Lower>>,
    /// Lower files with several names, by device and number. They are kept: what was changed through one name must
    /// show through one that is looked at later.
    links: SpinLock<HashMap<(u64, u64), Arc<Node>>>,
    /// Nodes that hold pages of lower files.
    clean: SpinLock<Vec<Weak<Node>>>,
    show_size: AtomicBool,
}

impl MemFs {
    fn make(options: &Options, lower: Option<Arc<dyn Lower>>) -> Arc<Self> {
        // Numbers of new files stay clear of those of the lower tree.
        let first = if lower.is_some() { 1 << 40 } else { 2 };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            dev: anonymous_dev(),
            account: Arc::new(Account {
                max_pages: AtomicU64::new(options.size.div_ceil(abi::PAGE_SIZE)),
                pages: AtomicU64::new(0),
                max_inodes: AtomicU64::new(options.inodes),
                inodes: AtomicU64::new(0),
            }),
            next_ino: AtomicU64::new(first),
            lower,
            links: SpinLock::new(HashMap::new()),
            clean: SpinLock::new(Vec::new()),
            show_size: AtomicBool::new(false),
        })
    }

    /// A tmpfs.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC.
    pub fn tmpfs(options: &Options, fstype: &'static str) -> Result<Arc<SuperBlock>> {
        let fs = Self::make(options, None);
        fs.show_size.store(true, Ordering::Relaxed);
        let root = Node::new_dir(&fs, options.mode, options.uid, options.gid)?;
        let magic = if fstype == "ramfs" { c::RAMFS_MAGIC } else { c::TMPFS_MAGIC };
        Ok(Self::super_block(&fs, root, fstype, magic))
    }

    /// A writable file system over a lower tree.
    ///
    /// # Errors
    /// What the host says of the lower root; ENOTDIR.
    pub fn overlay(options: &Options, lower: Arc<dyn Lower>) -> Result<Arc<SuperBlock>> {
        let (node, stat) = lower.root()?;
        let fs = Self::make(options, Some(lower));
        let root = Node::from_lower(&fs, node, &stat);
        if !root.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        {
            let mut list = OVERLAYS.lock();
            list.retain(|f| f.strong_count() != 0);
            list.push(Arc::downgrade(&fs));
        }
        Ok(Self::super_block(&fs, root, "overlay", c::OVERLAYFS_SUPER_MAGIC))
    }

    fn super_block(fs: &Arc<Self>, root: Arc<Node>, fstype: &'static str, magic: u32) -> Arc<SuperBlock> {
        Arc::new(SuperBlock {
            dev: fs.dev,
            fstype,
            magic: u64::from(magic),
            readonly: AtomicBool::new(false),
            fs: fs.clone(),
            root: Dentry::root(root),
        })
    }

    /// A regular file in no directory, for memfd_create(2) and shared memory.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn unnamed_file(self: &Arc<Self>, mode: u32, uid: u32, gid: u32) -> Result<Arc<Node>> {
        Node::new_file(self, mode, uid, gid, 0)
    }

    /// A file system for files that are in no directory: without a limit of its own.
    pub fn unlimited() -> Arc<Self> {
        Self::make(&Options { size: u64::MAX / 2, inodes: u64::MAX / 2, ..Options::default() }, None)
    }

    fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    fn lower(&self) -> Result<&Arc<dyn Lower>> {
        self.lower.as_ref().ok_or(Errno::EIO)
    }

    /// The node of a lower file; files with several names have one.
    fn load(&self, lower: LowerNode, stat: &FileStat) -> Result<Arc<Node>> {
        let me = self.me.upgrade().ok_or(Errno::EIO)?;
        let shared = stat.nlink > 1 && stat.mode & c::S_IFMT != c::S_IFDIR;
        if !shared {
            return Ok(Node::from_lower(&me, lower, stat));
        }
        let key = (stat.dev, stat.ino);
        let known = self.links.lock().get(&key).cloned();
        if let Some(node) = known {
            return Ok(node);
        }
        let node = Node::from_lower(&me, lower, stat);
        let mut links = self.links.lock();
        if let Some(other) = links.get(&key).cloned() {
            drop(links);
            return Ok(other);
        }
        links.insert(key, node.clone());
        Ok(node)
    }

    fn note_clean(&self, node: &Weak<Node>) {
        self.clean.lock().push(node.clone());
    }
}

impl FileSystem for MemFs {
    fn statfs(&self) -> StatFs {
        let a = &self.account;
        let blocks = a.max_pages.load(Ordering::Relaxed);
        let files = a.max_inodes.load(Ordering::Relaxed);
        StatFs {
            blocks,
            free: blocks.saturating_sub(a.pages.load(Ordering::Relaxed)),
            files,
            files_free: files.saturating_sub(a.inodes.load(Ordering::Relaxed)),
        }
    }

    fn options(&self) -> String {
        if !self.show_size.load(Ordering::Relaxed) {
            return String::new();
        }
        alloc::format!(",size={}k", self.account.max_pages.load(Ordering::Relaxed).saturating_mul(4))
    }

    fn remount(&self, options: &[u8]) -> Result<()> {
        let a = &self.account;
        let old = Options {
            size: a.max_pages.load(Ordering::Relaxed).saturating_mul(abi::PAGE_SIZE),
            inodes: a.max_inodes.load(Ordering::Relaxed),
            ..Options::default()
        };
        let new = old.parse(options)?;
        let pages = new.size.div_ceil(abi::PAGE_SIZE);
        if pages < a.pages.load(Ordering::Relaxed) || new.inodes < a.inodes.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        a.max_pages.store(pages, Ordering::Relaxed);
        a.max_inodes.store(new.inodes, Ordering::Relaxed);
        Ok(())
    }

    fn shrink(&self) -> usize {
        let Some(mut clean) = self.clean.try_lock() else { return 0 };
        clean.retain(|n| n.strong_count() != 0);
        clean.iter().filter_map(Weak::upgrade).map(|n| n.shrink()).sum()
    }
}

/// File systems over a lower tree, whose clean pages can be read again.
static OVERLAYS: SpinLock<Vec<Weak<MemFs>>> = SpinLock::new(Vec::new());

/// Gives back clean pages of all file systems; returns their number. Neither waits nor allocates.
pub fn shrink_all() -> usize {
    let Some(list) = OVERLAYS.try_lock() else { return 0 };
    list.iter().filter_map(Weak::upgrade).map(|fs| fs.shrink()).sum()
}

/// The node behind an inode of this kind of file system.
pub fn node_of(inode: &Arc<dyn Inode>) -> Option<Arc<Node>> {
    inode.clone().into_any().downcast().ok()
}
