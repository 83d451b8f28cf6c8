//! An address space.

use super::frames::image::{self, is_image};
use super::object::{Mappings, Unmapper};
use super::quarantine;
use super::vma::{Backing, VmFlags, VmaSet};
use crate::arch::pgtable::{Removed, Space};
use crate::arch::port;
use crate::errno::Result;
use crate::kernel::aio::Contexts;
use crate::sync::{Mutex, SpinLock};
use abi::PAGE_SIZE;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use smallvec::SmallVec;

/// Where the parts of a program lie, for /proc and prctl(PR_SET_MM).
#[derive(Debug, Clone, Default)]
pub struct ProgramLayout {
    /// First code address.
    pub start_code: u64,
    /// End of code.
    pub end_code: u64,
    /// First data address.
    pub start_data: u64,
    /// End of data.
    pub end_data: u64,
    /// First address of the stack's contents at exec.
    pub start_stack: u64,
    /// Arguments.
    pub args: Range<u64>,
    /// Environment.
    pub env: Range<u64>,
    /// Auxiliary vector.
    pub auxv: Vec<u8>,
    /// Path of the executable as /proc/PID/exe shows it.
    pub exe: Vec<u8>,
}

/// Bytes of address space that are unmapped at a time, so that others get at the tables in between and the list of
/// frames stays short.
const ZAP_PIECE: u64 = 64 << 20;

/// An address space: its ranges and its page tables.
pub struct Mm {
    /// The page tables; changed under [`Mm::tables`].
    pub(super) space: Space,
    pub(super) tables: SpinLock<()>,
    pub(super) inner: Mutex<MmInner>,
    pub(super) me: Weak<Mm>,
    /// First address that mmap(2) does not use: below the stack.
    pub(super) mmap_top: AtomicU64,
    /// First address that programs can not use.
    pub user_top: u64,
    /// Soft RLIMIT_STACK, for growth.
    pub stack_limit: AtomicU64,
    /// Pages that were copied on write since the last fork: they are copied at the next fork at once.
    pub(super) hot: SpinLock<SmallVec<[u64; 16]>>,
    /// Page faults served.
    pub faults: AtomicU64,
    /// Contexts of asynchronous input and output.
    pub aio: Contexts,
    /// Tasks that have this address space.
    pub(super) users: AtomicUsize,
    /// [`image::cuts`] as of when it had nothing mapped that was gone.
    cuts: AtomicU64,
}

/// The part of an address space that its lock guards.
#[derive(Default)]
pub struct MmInner {
    /// Ranges.
    pub vmas: VmaSet,
    /// Start of the break area.
    pub brk_start: u64,
    /// The break.
    pub brk: u64,
    /// Bytes of locked ranges.
    pub locked: u64,
    /// Flags of new ranges, from mlockall(2).
    pub default_flags: VmFlags,
    /// Parts of the program.
    pub layout: ProgramLayout,
    /// The executable, for /proc/PID/exe and against writes to it.
    pub exe_file: Option<Arc<crate::vfs::OpenFile>>,
}

impl Mm {
    /// An empty address space.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Arc<Self>> {
        Self::with_kin(0)
    }

    fn with_kin(kin: u64) -> Result<Arc<Self>> {
        let space = Space::new(kin)?;
        let user_top = crate::kernel::boot::user_top();
        Ok(Arc::new_cyclic(|me| Self {
            space,
            tables: SpinLock::new(()),
            inner: Mutex::new(MmInner::default()),
            me: me.clone(),
            mmap_top: AtomicU64::new(user_top),
            user_top,
            stack_limit: AtomicU64::new(8 << 20),
            hot: SpinLock::new(SmallVec::new()),
            faults: AtomicU64::new(0),
            aio: Contexts::default(),
            users: AtomicUsize::new(0),
            cuts: AtomicU64::new(0),
        }))
    }

    /// The page tables, to be loaded.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Works on the ranges under the lock.
    pub fn with<R>(&self, f: impl FnOnce(&mut MmInner) -> R) -> R {
        f(&mut self.inner.lock())
    }

    /// Sets the address below which mmap(2) looks for room.
    pub fn set_mmap_top(&self, top: u64) {
        self.mmap_top.store(top, Ordering::Relaxed);
    }

    /// Removes translations and frees what they led to after the grace period.
    pub(super) fn zap(&self, start: u64, end: u64) -> Result<()> {
        let mut at = start;
        while at < end {
            let stop = (at + ZAP_PIECE).min(end);
            let mut removed = Removed::new();
            let result = {
                let _guard = self.tables.lock();
                self.space.unmap(at, stop, &mut removed)
            };
            quarantine::retire(&self.space, removed);
            result?;
            at = stop;
        }
        Ok(())
    }

    /// Registers this space with an object that it maps.
    pub(super) fn register(&self, backing: &Backing) {
        if let Backing::Object { object, .. } = backing
            && let Some(me) = self.me.upgrade()
        {
            let me: Arc<dyn Unmapper> = me;
            object.mappings().add(&me);
        }
    }

    /// A copy of the address space for fork(2): private pages are shared until one side writes.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let child = Self::with_kin(self.space.id())?;
        let eager = self.hot.lock().clone();
        child.mmap_top.store(self.mmap_top.load(Ordering::Relaxed), Ordering::Relaxed);
        child.stack_limit.store(self.stack_limit.load(Ordering::Relaxed), Ordering::Relaxed);
        let inner = self.inner.lock();
        {
            let mut new = child.inner.lock();
            new.brk_start = inner.brk_start;
            new.brk = inner.brk;
            new.layout = inner.layout.clone();
            new.exe_file = inner.exe_file.clone();
            for vma in inner.vmas.iter() {
                if vma.flags.contains(VmFlags::DONTFORK) {
                    continue;
                }
                let mut copy = vma.clone();
                copy.flags.remove(VmFlags::LOCKED);
                if let Backing::Object { object, .. } = &mut copy.backing
                    && let Some(own) = object.another()
                {
                    *object = own;
                }
                child.register(&copy.backing);
                new.vmas.insert(copy);
                let shared = vma.flags.contains(VmFlags::SHARED);
                // Pages of objects are faulted in again, but for private ones that were copied.
                if vma.flags.contains(VmFlags::WIPEONFORK)
                    || (shared && matches!(vma.backing, Backing::Object { .. }))
                {
                    continue;
                }
                // Long ranges in pieces, so that others get at the tables in between.
                let mut at = vma.start;
                while at < vma.end {
                    let stop = (at + (32 << 20)).min(vma.end);
                    let _guard = self.tables.lock();
                    self.space.share(&child.space, at, stop, shared, &eager)?;
                    at = stop;
                }
            }
        }
        // The parent's other threads must not write through translations from before.
        port::synchronize(&self.space);
        Ok(child)
    }

    /// A task has taken this address space.
    pub fn add_user(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// A task has given it up. With the last one, mappings go whose number programs see.
    pub fn remove_user(&self) {
        if self.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.end_counted();
        }
    }

    /// Pages that are mapped.
    pub fn resident(&self) -> u64 {
        let _guard = self.tables.lock();
        self.space.count(0, self.user_top)
    }

    /// Pages that are mapped in a range.
    pub fn resident_in(&self, start: u64, end: u64) -> u64 {
        let _guard = self.tables.lock();
        self.space.count(start, end)
    }
}

impl MmInner {
    /// Where pages of an object are mapped: start and end.
    fn shown(&self, target: &Mappings, pages: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        self.vmas.iter().filter_map(move |vma| {
            let Backing::Object { object, page } = &vma.backing else { return None };
            if !core::ptr::eq(core::ptr::from_ref(object.mappings()), core::ptr::from_ref(target)) {
                return None;
            }
            let first = pages.start.max(*page);
            let last = pages.end.min(page + vma.len() / PAGE_SIZE);
            let start = vma.start + first.saturating_sub(*page) * PAGE_SIZE;
            (first < last).then(|| (start, start + (last - first) * PAGE_SIZE))
        })
    }
}

impl Mm {
    /// Unmaps all frames of images, where some have become shorter: what is still there is found again. Returns whether
    /// that was so.
    pub fn drop_cut_images(&self) -> bool {
        if self.cuts.load(Ordering::Relaxed) == image::cuts() {
            return false;
        }
        // Under systrap nobody may have looked yet how much is gone.
        image::check();
        let cuts = image::cuts();
        let inner = self.inner.lock();
        for vma in inner.vmas.iter().filter(|vma| matches!(vma.backing, Backing::Object { .. })) {
            self.zap_images(vma.start, vma.end);
        }
        self.cuts.store(cuts, Ordering::Relaxed);
        true
    }

    /// Unmaps the frames of images in a range; the caller has the lock of the ranges.
    pub(super) fn zap_images(&self, start: u64, end: u64) {
        for page in (start..end).step_by(PAGE_SIZE as usize) {
            let image = {
                let _guard = self.tables.lock();
                self.space.lookup(page).is_some_and(|mapping| is_image(mapping.gpa))
            };
            if image {
                // Never a part of a large page.
                let _ = self.zap(page, page + PAGE_SIZE);
            }
        }
    }
}

impl Unmapper for Mm {
    fn unmap_object(&self, target: &Mappings, pages: Range<u64>) {
        let inner = self.inner.lock();
        for (start, end) in inner.shown(target, &pages) {
            // Without memory to split a large page the translation stays; objects are never mapped large.
            let _ = self.zap(start, end);
        }
    }

    fn unmap_images(&self, target: &Mappings, pages: Range<u64>) {
        let inner = self.inner.lock();
        for (start, end) in inner.shown(target, &pages) {
            self.zap_images(start, end);
        }
    }

    fn may_write_object(&self, target: &Mappings) -> bool {
        let shared = VmFlags::SHARED | VmFlags::MAYWRITE;
        self.inner.lock().vmas.iter().filter(|vma| vma.flags.contains(shared)).any(|vma| {
            let Backing::Object { object, .. } = &vma.backing else { return false };
            core::ptr::eq(core::ptr::from_ref(object.mappings()), core::ptr::from_ref(target))
        })
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // Nobody runs in it any more: the last vCPU that did has loaded another space since.
        self.space.release_stubs();
        for vma in self.inner.get_mut().vmas.iter() {
            let mut at = vma.start;
            while at < vma.end {
                let stop = (at + ZAP_PIECE).min(vma.end);
                let mut removed = Removed::new();
                let _ = self.space.unmap(at, stop, &mut removed);
                at = stop;
            }
        }
    }
}

impl Mm {
    /// Identity of the shared object behind an address and the place in it, for futexes between processes; `None`
    /// where the memory is private.
    pub fn shared_place(&self, address: u64) -> Option<(usize, u64)> {
        let inner = self.inner.lock();
        let vma = inner.vmas.find(address)?;
        if !vma.flags.contains(VmFlags::SHARED) {
            return None;
        }
        match &vma.backing {
            Backing::Anon => None,
            Backing::Object { object, .. } => {
                let identity = core::ptr::from_ref(object.mappings()).addr();
                Some((identity, vma.page_of(address) * PAGE_SIZE + address % PAGE_SIZE))
            }
        }
    }
}
