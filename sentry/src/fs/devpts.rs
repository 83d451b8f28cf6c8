//! The file system of pseudoterminals, devpts. All mounts of it show the same ones.

use super::synth::{self, Dir, Entry, Synth};
use super::tty::{self, Tty};
use crate::errno::{Errno, Result};
use crate::vfs::file::{FileOps, OpenRequest};
use crate::vfs::inode::{
    Attr, FileSystem, Inode, InodeExtra, S_IFMT, SetAttr, Stat, SuperBlock, Time, makedev,
};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as c;

/// Inode of a terminal or of ptmx.
struct Device {
    tty: Option<Arc<Tty>>,
    extra: InodeExtra,
}

impl Inode for Device {
    fn attr(&self) -> Attr {
        match &self.tty {
            Some(tty) => *tty.attr.lock(),
            None => Attr { mode: c::S_IFCHR | 0o666, uid: 0, gid: 0 },
        }
    }
    fn stat(&self) -> Result<Stat> {
        let attr = self.attr();
        let now = Time::now();
        Ok(Stat {
            dev: synth::dev(),
            ino: self.tty.as_ref().map_or(2, |t| u64::from(t.index) + 3),
            mode: attr.mode,
            nlink: 1,
            uid: attr.uid,
            gid: attr.gid,
            rdev: self.tty.as_ref().map_or(makedev(5, 2), |t| t.rdev()),
            blksize: 1024,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Stat::default()
        })
    }
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let Some(tty) = &self.tty else { return Err(Errno::EPERM) };
        let mut attr = tty.attr.lock();
        if let Some(mode) = change.mode {
            attr.mode = attr.mode & S_IFMT | mode & 0o7777;
        }
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        Ok(())
    }
    fn extra(&self) -> Option<&InodeExtra> {
        Some(&self.extra)
    }
    fn cacheable(&self) -> bool {
        self.tty.is_none()
    }
    fn open(self: Arc<Self>, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
        match &self.tty {
            Some(tty) => tty::open_slave(tty),
            None => tty::open_ptmx(request),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The inode of a terminal's slave.
pub fn slave_inode(tty: &Arc<Tty>) -> Arc<dyn Inode> {
    Arc::new(Device { tty: Some(tty.clone()), extra: InodeExtra::new() })
}

struct Root;

impl Dir for Root {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(Arc::new(Device { tty: None, extra: InodeExtra::new() }));
        }
        let index: u32 = core::str::from_utf8(name).ok().and_then(|n| n.parse().ok()).ok_or(Errno::ENOENT)?;
        let tty = tty::by_index(index).ok_or(Errno::ENOENT)?;
        Ok(slave_inode(&tty))
    }
    fn list(&self) -> Result<Vec<Entry>> {
        let mut out = alloc::vec![(b"ptmx".to_vec(), 2, c::DT_CHR as u8)];
        for index in tty::indices() {
            out.push((alloc::format!("{index}").into_bytes(), u64::from(index) + 3, c::DT_CHR as u8));
        }
        Ok(out)
    }
}

struct DevPts;

impl FileSystem for DevPts {
    fn options(&self) -> String {
        String::from(",gid=5,mode=620,ptmxmode=666")
    }
}

/// A mountable instance.
pub fn new() -> Arc<SuperBlock> {
    let root = Synth::dir(0o755, Root).with_ino(1).inode();
    synth::super_block("devpts", c::DEVPTS_SUPER_MAGIC, root, Arc::new(DevPts))
}
