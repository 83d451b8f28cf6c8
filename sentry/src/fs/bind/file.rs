//! Open files of shared host directories.

use super::pages::{self, HostPages, Key};
use super::{HostNode, PAGE, WINDOW};
use crate::errno::{Errno, Result};
use crate::fs::lower::LowerEntry;
use crate::host::files::Handle;
use crate::mm::frames::FrameRef;
use crate::mm::io::{Sink, Source};
use crate::mm::object::Mappable;
use crate::sync::{Mutex, Once};
use crate::vfs::file::{DirSink, FileOps, OpenFile};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use linux_raw_sys::general as c;

/// An open host file.
pub(super) struct HostFile {
    node: Arc<HostNode>,
    handle: Arc<Handle>,
    /// Device and inode number on the host, once they were asked for.
    key: Once<Key>,
    listing: Mutex<Option<Vec<LowerEntry>>>,
    /// Serialises appends.
    end: Mutex<()>,
}

impl HostFile {
    pub(super) fn new(node: Arc<HostNode>, handle: Arc<Handle>) -> Self {
        Self { node, handle, key: Once::new(), listing: Mutex::new(None), end: Mutex::new(()) }
    }

    /// The file's pages, where it is mapped.
    fn pages(&self) -> Option<Arc<HostPages>> {
        pages::find(|| {
            if self.key.get().is_none() {
                let _ = self.key.set(pages::key(&self.handle.stat()?));
            }
            self.key.get().copied().ok_or(Errno::EIO)
        })
    }
}

impl FileOps for HostFile {
    fn read(&self, _file: &OpenFile, sink: &mut dyn Sink, offset: u64) -> Result<usize> {
        if self.node.kind == c::S_IFDIR {
            return Err(Errno::EISDIR);
        }
        if let Some(pages) = self.pages() {
            pages.flush(offset, sink.remaining() as u64)?;
        }
        let mut done = 0;
        while sink.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            // Whole frames are read from the offset itself, so that pages need not be aligned.
            let pages = sink.remaining().div_ceil(PAGE).min(WINDOW);
            let frames: Vec<FrameRef> = (0..pages)
                .map(|_| FrameRef::alloc_uninit())
                .collect::<Result<_>>()
                .or_else(|e| if done == 0 { Err(e) } else { Ok(Vec::new()) })?;
            if frames.is_empty() {
                break;
            }
            let got = match self.handle.read_frames(at, &frames) {
                Ok(n) => n,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            };
            let mut left = got.min(sink.remaining());
            for frame in &frames {
                let n = left.min(PAGE);
                if n == 0 {
                    break;
                }
                match sink.put_frame(frame, 0, n) {
                    Ok(put) => {
                        done += put;
                        left -= put;
                        if put < n {
                            return Ok(done);
                        }
                    }
                    Err(e) if done == 0 => return Err(e),
                    Err(_) => return Ok(done),
                }
            }
            if got < frames.len() * PAGE {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, _file: &OpenFile, source: &mut dyn Source, offset: u64) -> Result<usize> {
        let mut buf = alloc::vec![0; source.remaining().min(64 << 10)];
        let mut done = 0;
        while source.remaining() > 0 {
            let step = source.take(&mut buf).and_then(|n| {
                let data = buf.get(..n).unwrap_or_default();
                let at = offset.saturating_add(done as u64);
                let wrote = match self.pages() {
                    Some(pages) => pages.through(at, n as u64, || self.handle.write(at, data))?,
                    None => self.handle.write(at, data)?,
                };
                Ok((n, wrote))
            });
            match step {
                Ok((n, wrote)) => {
                    done += wrote;
                    if n == 0 || wrote < n {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        self.node.forget();
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut dyn Source) -> Result<(usize, u64)> {
        let _end = self.end.lock();
        let at = self.handle.stat()?.size;
        let done = self.write(file, source, at)?;
        Ok((done, at + done as u64))
    }

    fn can_epoll(&self) -> bool {
        false
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn size(&self) -> u64 {
        if self.node.kind == c::S_IFDIR {
            return i64::MAX as u64;
        }
        self.handle.stat().map_or(0, |s| s.size)
    }

    fn readdir(&self, file: &OpenFile, position: u64, sink: &mut dyn DirSink) -> Result<()> {
        if self.node.kind != c::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let mut listing = self.listing.lock();
        if position == 0 || listing.is_none() {
            let mut entries = self.handle.list()?;
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            *listing = Some(entries);
        }
        let ino = self.node.known.lock().stat.ino;
        let up = file.path.up().and_then(|p| p.inode().stat().ok()).map_or(ino, |s| s.ino);
        let dots: [(&[u8], u64); 2] = [(b".", ino), (b"..", up)];
        let entries = listing.iter().flatten().map(|e| (e.name.as_slice(), e.ino, e.kind));
        let all = dots.into_iter().map(|(name, ino)| (name, ino, c::DT_DIR as u8)).chain(entries);
        for (at, (name, ino, kind)) in (0u64..).zip(all) {
            if at >= position && !sink.entry(name, ino, kind, at + 1) {
                break;
            }
        }
        Ok(())
    }

    fn fsync(&self, _file: &OpenFile) -> Result<()> {
        if let Some(pages) = self.pages() {
            pages.write_back(0..u64::MAX, false)?;
        }
        self.handle.sync()
    }

    fn truncate(&self, _file: &OpenFile, size: u64) -> Result<()> {
        self.handle.truncate(size)?;
        self.node.forget();
        if let Some(pages) = self.pages() {
            pages.refresh()?;
        }
        Ok(())
    }

    fn mappable(&self, _file: &OpenFile, shared: bool, write: bool) -> Result<Arc<dyn Mappable>> {
        if self.node.kind != c::S_IFREG {
            return Err(Errno::ENODEV);
        }
        let writes = shared && self.handle.writes();
        if shared && write && !writes {
            return Err(Errno::EACCES);
        }
        let ino = self.node.known.lock().stat.ino;
        Ok(HostPages::of(&self.handle, (self.node.dev, ino), writes)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
