//! What can be mapped: files and shared memory, page by page.

use super::frames::FrameRef;
use crate::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

use crate::sync::SpinLock;

/// Memory that mappings show. Implemented by the page cache of a file or of shared memory.
pub trait Mappable: Send + Sync {
    /// The frame that holds page `index` (offset / 4096), read in or made as needed. `write`: a shared mapping is
    /// about to write it. May block.
    ///
    /// # Errors
    /// EFAULT or EIO: the program gets SIGBUS (the page lies beyond the end, or could not be read).
    fn frame(&self, index: u64, write: bool) -> Result<FrameRef>;

    /// Frames of pages from `index` on that are there already, up to `max`, ending at the first that is not. Does
    /// not block.
    fn frames_present(&self, index: u64, max: usize) -> SmallVec<[FrameRef; 16]>;

    /// The registry of mappings of this object, told when pages go away.
    fn mappings(&self) -> &Mappings;

    /// Path for /proc/PID/maps, device and inode number.
    fn describe(&self) -> ObjectName;

    /// What a further mapping maps (a child of fork(2), a part of a range that is split), where each mapping is an
    /// object of its own.
    fn another(&self) -> Option<Arc<dyn Mappable>> {
        None
    }

    /// Whether a page is asked for with `write` before the first store through a shared mapping, each time that it is
    /// mapped anew. Elsewhere pages that are read may be mapped for writing at once.
    fn tracks_writes(&self) -> bool {
        false
    }

    /// Where it [`tracks_writes`](Mappable::tracks_writes) and stores go on from page to page up to `index`: frames
    /// of pages from there on that may be mapped for writing too, up to `max`. Does not block.
    fn frames_to_write(&self, _index: u64, _max: usize) -> SmallVec<[FrameRef; 16]> {
        SmallVec::new()
    }

    /// Writes what was stored to these pages to where the object is kept; with `disk` until it is safe there.
    ///
    /// # Errors
    /// ENOSPC, EIO.
    fn write_back(&self, _pages: Range<u64>, _disk: bool) -> Result<()> {
        Ok(())
    }

    /// Whether it is memory without a file behind it.
    fn anonymous(&self) -> bool {
        false
    }

    /// Whether programs see how often the object is mapped: its mappings go with the last task of an address space,
    /// however long the space itself is kept.
    fn counted(&self) -> bool {
        false
    }
}

/// How a mapped object is called in /proc/PID/maps.
#[derive(Debug, Clone, Default)]
pub struct ObjectName {
    /// Path, with ` (deleted)` where it is.
    pub path: Vec<u8>,
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// An address space that maps an object.
pub trait Unmapper: Send + Sync {
    /// Removes the translations of the object's pages in `pages`; `private` also those that were copied on write.
    fn unmap_object(&self, object: &Mappings, pages: Range<u64>);

    /// Removes the translations of frames of images only: the object has frames of its own there now.
    fn unmap_images(&self, object: &Mappings, pages: Range<u64>);

    /// Whether a shared mapping of the object is there through which it may be written, now or after mprotect(2).
    fn may_write_object(&self, object: &Mappings) -> bool;
}

/// Which address spaces map an object.
#[derive(Default)]
pub struct Mappings {
    spaces: SpinLock<Vec<Weak<dyn Unmapper>>>,
    /// How often frames of an image were replaced.
    replacements: AtomicU64,
}

impl Mappings {
    /// No mapping yet.
    pub const fn new() -> Self {
        Self { spaces: SpinLock::new(Vec::new()), replacements: AtomicU64::new(0) }
    }

    /// Notes that an address space maps the object (once for each space is enough).
    pub fn add(&self, space: &Arc<dyn Unmapper>) {
        let mut spaces = self.spaces.lock();
        spaces.retain(|s| s.strong_count() != 0);
        if !spaces.iter().any(|s| core::ptr::addr_eq(s.as_ptr(), Arc::as_ptr(space))) {
            spaces.push(Arc::downgrade(space));
        }
    }

    /// Whether some shared mapping is there through which the object may be written. Call without spinlocks held.
    pub fn writable(&self) -> bool {
        let spaces: SmallVec<[Weak<dyn Unmapper>; 4]> = self.spaces.lock().iter().cloned().collect();
        spaces.iter().filter_map(Weak::upgrade).any(|space| space.may_write_object(self))
    }

    /// How often [`Mappings::replaced`] was called: who maps frames of an image looks whether it was meanwhile.
    pub fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::SeqCst)
    }

    /// Removes translations of an image's frames: the object has its own pages there from now on. As
    /// [`Mappings::invalidate`]; what programs have copied on write stays.
    pub fn replaced(&self, pages: Range<u64>) {
        self.replacements.fetch_add(1, Ordering::SeqCst);
        self.each(|space| space.unmap_images(self, pages.clone()));
    }

    fn each(&self, mut act: impl FnMut(&dyn Unmapper)) {
        let spaces: SmallVec<[Weak<dyn Unmapper>; 4]> = self.spaces.lock().iter().cloned().collect();
        for space in spaces.iter().filter_map(Weak::upgrade) {
            act(&*space);
        }
    }

    /// Removes translations of `pages` everywhere: the object was truncated, or a page replaced. Call without
    /// spinlocks held, after the pages have left the object.
    pub fn invalidate(&self, pages: Range<u64>) {
        self.each(|space| space.unmap_object(self, pages.clone()));
    }
}
