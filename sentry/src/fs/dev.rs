//! Character devices: null(4), zero, full(4), random(4), and who serves the others.

use crate::errno::{Errno, Result};
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::mm::object::{Mappable, Mappings, ObjectName};
use crate::sync::SpinLock;
use crate::vfs::file::{FileOps, OpenFile, OpenRequest};
use crate::vfs::inode::{Attr, Stat, anonymous_dev, major, makedev, minor};
use crate::vfs::{anon, hooks};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as c;
use smallvec::SmallVec;

/// Devices of every container: name, major, minor, mode.
pub const STANDARD: &[(&str, u32, u32, u32)] = &[
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
];

/// A device of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mem {
    Null,
    Zero,
    Full,
    Random,
}

/// Opens the device with a number.
///
/// # Errors
/// ENXIO where there is none.
pub fn open(rdev: u64, request: &OpenRequest<'_>) -> Result<Arc<dyn FileOps>> {
    let mem = match (major(rdev), minor(rdev)) {
        (1, 3) => Mem::Null,
        (1, 5) => Mem::Zero,
        (1, 7) => Mem::Full,
        (1, 8 | 9) => Mem::Random,
        (major, minor) => return super::tty::open_device(major, minor, request),
    };
    Ok(Arc::new(MemDevice(mem)))
}

/// Number of /dev/null.
pub const NULL: u64 = makedev(1, 3);

struct MemDevice(Mem);

/// A description of /dev/null that is in no directory.
pub fn null_file(read: bool, write: bool) -> Arc<OpenFile> {
    let flags = match (read, write) {
        (true, true) => c::O_RDWR,
        (false, true) => c::O_WRONLY,
        _ => c::O_RDONLY,
    };
    let attr = Attr { mode: c::S_IFCHR | 0o666, uid: 0, gid: 0 };
    let stat = Stat {
        dev: anonymous_dev(),
        ino: 5,
        mode: attr.mode,
        nlink: 1,
        rdev: NULL,
        blksize: 4096,
        ..Stat::default()
    };
    let reopen = |_: &OpenRequest<'_>| -> Result<Arc<dyn FileOps>> { Ok(Arc::new(MemDevice(Mem::Null))) };
    let path = anon::path(anon::new_ino(), attr, b"/dev/null", Some(stat), Some(Box::new(reopen)));
    OpenFile::new(path, Arc::new(MemDevice(Mem::Null)), flags)
}

fn fill_random(sink: &mut dyn Sink) -> Result<usize> {
    let mut done = 0;
    let mut buf = [0; 256];
    while sink.remaining() > 0 {
        let n = sink.remaining().min(buf.len());
        let Some(part) = buf.get_mut(..n) else { break };
        hooks::kernel().random(part);
        match sink.put(part) {
            Ok(put) => {
                done += put;
                if put < n {
                    break;
                }
            }
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Takes everything from a source and forgets it.
fn swallow(source: &mut dyn Source) -> Result<usize> {
    let mut done = 0;
    let mut buf = [0; 512];
    while source.remaining() > 0 {
        match source.take(&mut buf) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if done == 0 => return Err(e),
            Err(_) => break,
        }
    }
    Ok(done)
}

impl FileOps for MemDevice {
    fn read(&self, _file: &OpenFile, sink: &mut dyn Sink, _offset: u64) -> Result<usize> {
        match self.0 {
            Mem::Null => Ok(0),
            Mem::Zero | Mem::Full => sink.put_zeros(sink.remaining()),
            Mem::Random => fill_random(sink),
        }
    }

    fn write(&self, _file: &OpenFile, source: &mut dyn Source, _offset: u64) -> Result<usize> {
        match self.0 {
            // Linux does not look at the data.
            Mem::Null | Mem::Zero => Ok(source.remaining()),
            Mem::Full => Err(Errno::ENOSPC),
            Mem::Random => swallow(source),
        }
    }

    fn append(&self, file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.write(file, source, 0).map(|n| (n, 0))
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&self, _file: &OpenFile, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }

    fn can_epoll(&self) -> bool {
        self.0 == Mem::Random
    }

    fn ioctl(
        &self,
        task: &crate::kernel::task::CurrentTask,
        _file: &OpenFile,
        request: u32,
        arg: u64,
    ) -> Result<u64> {
        use linux_raw_sys::ioctl::RNDGETENTCNT;
        if self.0 == Mem::Random && request == RNDGETENTCNT {
            task.write_obj(arg, &256i32)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }

    fn mappable(&self, _file: &OpenFile, _shared: bool, _write: bool) -> Result<Arc<dyn Mappable>> {
        match self.0 {
            Mem::Zero => Ok(Arc::new(ZeroMapping::default())),
            _ => Err(Errno::ENODEV),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A mapping of /dev/zero: memory of its own, shared with children.
#[derive(Default)]
struct ZeroMapping {
    frames: SpinLock<BTreeMap<u64, FrameRef>>,
    mappings: Mappings,
}

impl Mappable for ZeroMapping {
    fn frame(&self, index: u64, _write: bool) -> Result<FrameRef> {
        if let Some(frame) = self.frames.lock().get(&index) {
            return Ok(frame.clone());
        }
        let frame = FrameRef::alloc_zeroed()?;
        Ok(self.frames.lock().entry(index).or_insert(frame).clone())
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let frames = self.frames.lock();
        let mut out = SmallVec::new();
        for (next, (at, frame)) in (index..).zip(frames.range(index..)).take(max) {
            if *at != next {
                break;
            }
            out.push(frame.clone());
        }
        out
    }

    fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    fn describe(&self) -> ObjectName {
        ObjectName { path: b"/dev/zero (deleted)".to_vec(), dev: 0, ino: 0 }
    }
}
