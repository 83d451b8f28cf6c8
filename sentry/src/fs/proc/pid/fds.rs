//! /proc/PID/fd and /proc/PID/fdinfo.

use super::{Of, ino, owned, text_of};
use crate::errno::{Errno, Result};
use crate::fs::proc::number;
use crate::fs::synth::{Dir, Entry, Leads, Synth};
use crate::vfs::hooks::kernel;
use crate::vfs::inode::{Inode, Link};
use crate::vfs::{FdTable, OpenFile};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

/// The descriptors of a task.
pub struct Fds {
    pub of: Of,
    pub info: bool,
}

impl Fds {
    fn table(&self) -> Result<Arc<FdTable>> {
        self.of.may_inspect()?;
        kernel().files(self.of.tid).ok_or(Errno::ENOENT)
    }
}

/// A link to what a descriptor names.
struct FdLink {
    of: Of,
    fd: i32,
}

fn file_of(of: Of, fd: i32) -> Result<Arc<OpenFile>> {
    of.may_inspect()?;
    kernel().files(of.tid).ok_or(Errno::ENOENT)?.get_any(fd).map_err(|_| Errno::ENOENT)
}

impl Leads for FdLink {
    fn text(&self) -> Result<Vec<u8>> {
        Ok(text_of(&file_of(self.of, self.fd)?.path))
    }
    fn link(&self) -> Result<Link> {
        Ok(Link::Path(file_of(self.of, self.fd)?.path.clone()))
    }
}

fn fdinfo(of: Of, fd: i32) -> Result<Vec<u8>> {
    let file = file_of(of, fd)?;
    let table = kernel().files(of.tid).ok_or(Errno::ENOENT)?;
    let mut flags = file.flags();
    if table.cloexec(fd).unwrap_or(false) {
        flags |= c::O_CLOEXEC;
    }
    let pos = if file.ops().can_seek() { *file.position() } else { 0 };
    let ino = file.path.inode().stat().map_or(0, |s| s.ino);
    let mut out =
        format!("pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t{}\nino:\t{ino}\n", file.path.mnt.id).into_bytes();
    file.ops().fdinfo(&mut out);
    Ok(out)
}

impl Dir for Fds {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let fd = number(name).and_then(|n| i32::try_from(n).ok()).ok_or(Errno::ENOENT)?;
        let file = self.table()?.get_any(fd).map_err(|_| Errno::ENOENT)?;
        let of = self.of;
        let info = of.info().map_err(|_| Errno::ENOENT)?;
        let node = if self.info {
            Synth::file(0o400, move || fdinfo(of, fd))
        } else {
            let mut mode = 0;
            if file.can_read() || file.is_path() {
                mode |= 0o500;
            }
            if file.can_write() {
                mode |= 0o300;
            }
            Synth::link(FdLink { of, fd }).with_permissions(mode)
        };
        Ok(owned(node.with_ino(self.number(fd)), &info).inode())
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let kind = if self.info { c::DT_REG } else { c::DT_LNK } as u8;
        Ok(self
            .table()?
            .list()
            .into_iter()
            .map(|fd| (format!("{fd}").into_bytes(), self.number(fd), kind))
            .collect())
    }
}

impl Fds {
    fn number(&self, fd: i32) -> u64 {
        ino(self.of.tid, 0x2000 + u64::from(self.info) * 0x1000 + (fd as u64 & 0xfff))
    }
}
