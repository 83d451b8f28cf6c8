//! A donated host directory that does not change, as the lower tree of a root.

use super::lower::{Lower, LowerEntry, LowerFile, LowerNode};
use crate::errno::{Errno, Result};
use crate::host::files;
use crate::mm::frames::FrameRef;
use abi::hostcall::FileStat;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Most host files that are kept open between reads.
const KEEP_OPEN: usize = 256;
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A donated directory.
pub struct HostLower {
    root: u64,
}

impl HostLower {
    /// The donated directory with an index.
    pub fn new(root: u32) -> Self {
        Self { root: u64::from(root) }
    }
}

/// Joins a path of the donated directory and a name.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + name.len() + 1);
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Lower for HostLower {
    fn root(&self) -> Result<(LowerNode, FileStat)> {
        let stat = files::stat_at(self.root, b"")?;
        Ok((LowerNode { path: Arc::from(&b""[..]), id: stat.ino }, stat))
    }

    fn lookup(&self, dir: &LowerNode, name: &[u8]) -> Result<Option<(LowerNode, FileStat)>> {
        let path = join(&dir.path, name);
        match files::stat_at(self.root, &path) {
            Ok(stat) => Ok(Some((LowerNode { path: path.into(), id: stat.ino }, stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &LowerNode) -> Result<Vec<LowerEntry>> {
        files::list_at(self.root, &dir.path)
    }

    fn readlink(&self, node: &LowerNode) -> Result<Vec<u8>> {
        files::readlink(self.root, &node.path)
    }

    fn open(&self, node: &LowerNode) -> Result<Arc<dyn LowerFile>> {
        let file =
            HostFile { root: self.root, path: node.path.clone(), handle: crate::sync::Mutex::new(None) };
        Ok(Arc::new(file))
    }

    fn get_xattr(&self, node: &LowerNode, name: &[u8]) -> Result<Vec<u8>> {
        files::get_xattr(self.root, &node.path, name)
    }
}

/// A file of the directory; its host file is opened for a read, and kept open where few are.
struct HostFile {
    root: u64,
    path: Arc<[u8]>,
    handle: crate::sync::Mutex<Option<files::Handle>>,
}

impl LowerFile for HostFile {
    fn read_pages(&self, index: u64, frames: &[FrameRef]) -> Result<usize> {
        let mut kept = self.handle.lock();
        if let Some(handle) = &*kept {
            return handle.read_frames(index * abi::PAGE_SIZE, frames);
        }
        let (done, handle) = files::read_at(self.root, &self.path, index * abi::PAGE_SIZE, frames)?;
        if handle.is_some() && OPEN.load(Ordering::Relaxed) < KEEP_OPEN {
            OPEN.fetch_add(1, Ordering::Relaxed);
            *kept = handle;
        }
        Ok(done)
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if self.handle.get_mut().is_some() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
