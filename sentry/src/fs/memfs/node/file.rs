//! Open files: reading, writing, mapping.

use super::{Body, Node};
use crate::errno::{Errno, Result};
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::vfs::file::{DirSink, FileOps, OpenFile};
use crate::vfs::inode::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as c;
use smallvec::SmallVec;

impl FileOps for Node {
    fn read(&self, file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        let Body::File(data) = &self.body else { return Err(Errno::EISDIR) };
        let done = data.read(sink, offset, &|| self.open_lower())?;
        if file.flags() & c::O_NOATIME == 0 && file.path.mnt.flags() & (c::MS_NOATIME | c::MS_RDONLY) == 0 {
            self.touch_atime();
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, source: &mut dyn Source, offset: u64) -> Result<usize> {
        let done =
            self.data()?.write(source, Some(offset), &|| self.open_lower(), &|end| self.check_write(end))?;
        self.modified();
        Ok(done.0)
    }

    fn append(&self, _file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        let done = self.data()?.write(source, None, &|| self.open_lower(), &|end| self.check_write(end))?;
        self.modified();
        Ok(done)
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn size(&self) -> u64 {
        match &self.body {
            Body::File(data) => data.size(),
            _ => i64::MAX as u64,
        }
    }

    fn seek_data(&self, offset: u64, hole: bool) -> Result<u64> {
        self.data()?.seek(offset, hole)
    }

    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        let dir = self.dir()?;
        // Dentry and directory stay; entries may change while they are read.
        let _guard = file.path.dentry.lock_dir();
        if file.path.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        if position == 0 && !sink.entry(b".", self.ino, c::DT_DIR as u8, 1) {
            return Ok(());
        }
        if position <= 1 {
            let up = file.path.up().and_then(|p| p.inode().stat().ok()).map_or(self.ino, |s| s.ino);
            if !sink.entry(b"..", up, c::DT_DIR as u8, 2) {
                return Ok(());
            }
        }
        self.touch_atime();
        dir.read(self, position, sink)
    }

    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        Ok(())
    }

    fn fallocate(&self, _file: &OpenFile, mode: u32, offset: u64, len: u64) -> Result<()> {
        let data = self.data().map_err(|_| if self.is_dir() { Errno::EISDIR } else { Errno::ENODEV })?;
        let writes = mode & (c::FALLOC_FL_PUNCH_HOLE | c::FALLOC_FL_ZERO_RANGE) != 0;
        data.fallocate(mode, offset, len, &|| self.open_lower(), &|end| {
            if writes { self.check_write(end) } else { self.check_truncate(end.max(data.size())) }
        })?;
        self.modified();
        Ok(())
    }

    fn truncate(&self, _file: &OpenFile, size: u64) -> Result<()> {
        Inode::truncate(self, size)
    }

    fn mappable(&self, _file: &OpenFile, shared: bool, write: bool) -> Result<Arc<dyn Mappable>> {
        self.data().map_err(|_| Errno::ENODEV)?;
        let seals = self.seals.load(Ordering::Acquire);
        if shared && write && seals & (c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        self.touch_atime();
        let me = self.me.upgrade().ok_or(Errno::ENODEV)?;
        Ok(me)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

static NO_MAPPINGS: Mappings = Mappings::new();

impl Mappable for Node {
    fn frame(&self, index: u64, write: bool) -> Result<FrameRef> {
        let frame = self.data()?.frame(index, write, &|| self.open_lower())?;
        if write {
            self.modified();
        }
        Ok(frame)
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        self.data().map(|d| d.present(index, max)).unwrap_or_default()
    }

    fn mappings(&self) -> &Mappings {
        match &self.body {
            Body::File(data) => &data.mappings,
            _ => &NO_MAPPINGS,
        }
    }

    fn describe(&self) -> ObjectName {
        ObjectName { path: Vec::new(), dev: self.fs.dev, ino: self.ino }
    }
}
