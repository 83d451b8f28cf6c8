//! Shared anonymous memory: MAP_SHARED | MAP_ANONYMOUS, /dev/zero.

use super::frames::FrameRef;
use super::object::{Mappable, Mappings, ObjectName};
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

static NEXT_INODE: AtomicU64 = AtomicU64::new(1);

/// Zeros that several address spaces share.
pub struct SharedAnon {
    pages: u64,
    ino: u64,
    frames: SpinLock<BTreeMap<u64, FrameRef>>,
    mappings: Mappings,
}

impl SharedAnon {
    /// An object of this many pages.
    pub fn new(pages: u64) -> Self {
        Self {
            pages,
            ino: NEXT_INODE.fetch_add(1, Ordering::Relaxed),
            frames: SpinLock::new(BTreeMap::new()),
            mappings: Mappings::new(),
        }
    }

    /// Pages that are in memory.
    pub fn resident(&self) -> u64 {
        self.frames.lock().len() as u64
    }
}

impl Mappable for SharedAnon {
    fn frame(&self, index: u64, _write: bool) -> Result<FrameRef> {
        if index >= self.pages {
            return Err(Errno::EFAULT);
        }
        if let Some(frame) = self.frames.lock().get(&index) {
            return Ok(frame.clone());
        }
        let new = FrameRef::alloc_zeroed()?;
        Ok(self.frames.lock().entry(index).or_insert(new).clone())
    }

    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]> {
        let frames = self.frames.lock();
        (index..).take(max).map_while(|i| frames.get(&i).cloned()).collect()
    }

    fn anonymous(&self) -> bool {
        true
    }

    fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    fn describe(&self) -> ObjectName {
        ObjectName { path: b"/dev/zero (deleted)".to_vec(), dev: 1, ino: self.ino }
    }
}
