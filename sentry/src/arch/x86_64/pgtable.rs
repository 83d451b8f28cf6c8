//! Page tables of programs, in the CPU's format on every platform: under `systrap` they are the record that stub
//! processes are kept in line with.
//!
//! An entry that maps a frame owns one reference to it. Flags of an entry: what the CPU defines, and bit 9 on
//! entries that are not present: a frame that the program may not touch now (PROT_NONE).

mod tables;

pub use self::tables::release_spares;
pub(super) use self::tables::{extent_added, init, map_extent, map_image, map_kernel, master_root};

use self::tables::{
    MAX_SPARE_SPACES, MAX_SPARE_TABLES, SPARE_SPACES, Spare, new_root, new_table, new_table_or_fail,
    release_root,
};
use super::port::{self, Flavour};
use super::systrap::{Holders, Stubs};
use crate::errno::{Errno, Result};
use crate::mm::frames::{self, FrameRef, physmap};
use crate::sync::SpinLock;
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED_DIRTY: u64 = 0x60;
const HUGE: u64 = 1 << 7;
const HIDDEN: u64 = 1 << 9;
const NO_EXEC: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Flags of entries that lead to tables.
const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED_DIRTY;

/// What a program may do with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// It may read (and the page is present).
    pub read: bool,
    /// It may write.
    pub write: bool,
    /// It may execute.
    pub exec: bool,
}

impl Access {
    /// Flags of an entry for a frame. Frames of images are nobody's to write.
    fn flags_for(self, gpa: u64) -> u64 {
        let write = self.write && !frames::image::is_image(gpa);
        Self { write, ..self }.flags()
    }

    fn flags(self) -> u64 {
        if !(self.read || self.write || self.exec) {
            return HIDDEN;
        }
        let mut flags = PRESENT | USER | ACCESSED_DIRTY;
        if self.write {
            flags |= WRITE;
        }
        if !self.exec {
            flags |= NO_EXEC;
        }
        flags
    }
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The frame.
    pub gpa: u64,
    /// Whether the entry is present.
    pub present: bool,
    /// Whether it may be written.
    pub write: bool,
    /// Whether it may be executed.
    pub exec: bool,
    /// Whether the entry maps 2 MiB.
    pub huge: bool,
}

fn entry(table: u64, va: u64, level: u32) -> *mut u64 {
    let index = (va >> (12 + 9 * level)) & 511;
    physmap(table).cast::<u64>().wrapping_add(index as usize)
}

fn load(e: *mut u64) -> u64 {
    // SAFETY: `e` lies in a table of this module; the CPU reads tables too, hence volatile.
    unsafe { e.read_volatile() }
}

fn store(e: *mut u64, value: u64) {
    // SAFETY: as in `load`; callers hold the lock of the tables' owner.
    unsafe { e.write_volatile(value) };
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The tables of one address space. Changes need the owner's lock; the identity and counters do not.
pub struct Space {
    root: u64,
    id: u64,
    /// Space that it is a copy of, 0 for a new program: spare tables go to the same kind.
    kin: u64,
    tables: AtomicU32,
    invalidations: AtomicU64,
    /// `systrap`: what was taken away last, and the stubs.
    recent: SpinLock<Recent>,
    stubs: Option<Arc<Stubs>>,
}

/// Ranges of the last invalidations, for stubs that unmap them one by one.
struct Recent {
    ranges: [(u64, u64); RECENT],
}

/// Invalidations that are remembered.
const RECENT: usize = 32;

/// Frames taken out of an address space, to be dropped after the grace period.
pub type Removed = Vec<FrameRef>;

impl Space {
    /// An empty address space. `kin`: identity of the space that it is to be a copy of, 0 for none.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(kin: u64) -> Result<Self> {
        let spare = {
            let mut spares = SPARE_SPACES.lock();
            spares.iter().rposition(|s| s.kin == kin).map(|at| spares.remove(at))
        };
        if let Some(Spare { root, tables, .. }) = spare {
            let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
            return Ok(Self::with_root(root, id, kin, tables));
        }
        let root = new_root().ok_or(Errno::ENOMEM)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Self::with_root(root, id, kin, 0))
    }

    fn with_root(root: u64, id: u64, kin: u64, tables: u32) -> Self {
        Self {
            root,
            id,
            kin,
            tables: AtomicU32::new(tables),
            invalidations: AtomicU64::new(1),
            recent: SpinLock::new(Recent { ranges: [(0, 0); RECENT] }),
            stubs: (port::flavour() == Flavour::Systrap).then(|| Arc::new(Stubs::new())),
        }
    }

    /// Guest-physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// A number that no other address space ever has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How often translations were taken away.
    pub fn invalidations(&self) -> u64 {
        self.invalidations.load(Ordering::SeqCst)
    }

    /// Notes that translations of a range were taken away or lost rights: each vCPU flushes before it runs the
    /// program again.
    pub fn invalidate(&self, start: u64, end: u64) {
        if port::flavour() != Flavour::Systrap {
            self.invalidations.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let mut recent = self.recent.lock();
        let number = self.invalidations.load(Ordering::SeqCst) + 1;
        recent.ranges[number as usize % RECENT] = (start, end);
        self.invalidations.store(number, Ordering::SeqCst);
    }

    /// The ranges invalidated after the first `since`; `None` where that is too long ago.
    pub(super) fn invalidated_since(&self, since: u64) -> Option<Vec<(u64, u64)>> {
        let recent = self.recent.lock();
        let now = self.invalidations.load(Ordering::SeqCst);
        if since == 0 || now - since > RECENT as u64 {
            return None;
        }
        Some((since + 1..=now).map(|n| recent.ranges[n as usize % RECENT]).collect())
    }

    /// `systrap`: nobody runs in this space any more, and its frames are about to be freed.
    pub fn release_stubs(&self) {
        if let Some(stubs) = &self.stubs {
            stubs.release();
        }
    }

    /// `systrap`: its stubs.
    pub(super) fn stubs(&self) -> Option<&Stubs> {
        self.stubs.as_deref()
    }

    /// Who may still reach frames after they were taken out of the tables.
    pub fn holders(&self) -> Holders {
        Holders::new(self.id, self.stubs.clone())
    }

    fn table(&self, va: u64, level: u32, make: bool) -> Result<Option<u64>> {
        let mut table = self.root;
        for l in (level + 1..=3).rev() {
            let e = entry(table, va, l);
            let mut value = load(e);
            if value & (PRESENT | HIDDEN) == 0 {
                if !make {
                    return Ok(None);
                }
                value = new_table_or_fail().ok_or(Errno::ENOMEM)? | TABLE;
                self.tables.fetch_add(1, Ordering::Relaxed);
                store(e, value);
                if l == 3 {
                    // The twin of a pvm pair.
                    store(entry(self.root + PAGE_SIZE, va, 3), value);
                }
            } else if value & HUGE != 0 {
                if !make {
                    return Ok(None);
                }
                self.split(e, value)?;
                value = load(e);
            }
            table = value & ADDRESS;
        }
        Ok(Some(table))
    }

    /// Replaces a 2 MiB leaf by a table of 512 entries; the references of the frames go over.
    fn split(&self, e: *mut u64, value: u64) -> Result<()> {
        let table = new_table().ok_or(Errno::ENOMEM)?;
        let base = value & ADDRESS & !(HUGE_PAGE_SIZE - 1);
        let flags = value & !ADDRESS & !HUGE;
        for i in 0..512 {
            store(entry(table, i * PAGE_SIZE, 0), (base + i * PAGE_SIZE) | flags);
        }
        store(e, table | TABLE);
        // The same frames with the same rights: stubs have nothing to unmap.
        if port::flavour() != Flavour::Systrap {
            self.invalidate(0, 0);
        }
        Ok(())
    }

    fn decode(value: u64, huge: bool) -> Mapping {
        Mapping {
            gpa: value & ADDRESS,
            present: value & PRESENT != 0,
            write: value & WRITE != 0,
            exec: value & NO_EXEC == 0,
            huge,
        }
    }

    /// What is mapped at an address; hidden frames included.
    pub fn lookup(&self, va: u64) -> Option<Mapping> {
        let mut table = self.root;
        for level in (0..=3).rev() {
            let value = load(entry(table, va, level));
            if level == 0 {
                return (value & (PRESENT | HIDDEN) != 0).then(|| Self::decode(value, false));
            }
            if value & (PRESENT | HIDDEN) == 0 {
                return None;
            }
            if value & HUGE != 0 {
                let mut mapping = Self::decode(value, true);
                mapping.gpa =
                    (mapping.gpa & !(HUGE_PAGE_SIZE - 1)) + (va & (HUGE_PAGE_SIZE - 1) & !(PAGE_SIZE - 1));
                return Some(mapping);
            }
            table = value & ADDRESS;
        }
        None
    }

    /// Maps a frame where nothing is mapped; the entry takes the reference.
    ///
    /// # Errors
    /// ENOMEM; the frame is dropped.
    pub fn map(&self, va: u64, frame: FrameRef, access: Access) -> Result<()> {
        let Some(table) = self.table(va, 0, true)? else { return Err(Errno::ENOMEM) };
        let e = entry(table, va, 0);
        debug_assert!(load(e) & (PRESENT | HIDDEN) == 0);
        let gpa = frame.into_raw();
        store(e, gpa | access.flags_for(gpa));
        Ok(())
    }

    /// Replaces the frame of an entry, or maps it where there is none. Returns the frame that was there.
    ///
    /// # Errors
    /// ENOMEM; the frame is dropped.
    pub fn replace(&self, va: u64, frame: FrameRef, access: Access) -> Result<Option<FrameRef>> {
        let Some(table) = self.table(va, 0, true)? else { return Err(Errno::ENOMEM) };
        let e = entry(table, va, 0);
        let old = load(e);
        let gpa = frame.into_raw();
        store(e, gpa | access.flags_for(gpa));
        if old & (PRESENT | HIDDEN) == 0 {
            return Ok(None);
        }
        self.invalidate(va, va + PAGE_SIZE);
        // SAFETY: the entry owned a reference, which it has just lost.
        Ok(Some(unsafe { FrameRef::from_raw(old & ADDRESS) }))
    }

    /// Maps 2 MiB (512 references, from [`FrameRef::alloc_huge`]) at an aligned address, if no table is there yet.
    /// Returns whether it did.
    pub fn map_huge(&self, va: u64, gpa: u64, access: Access) -> bool {
        let Ok(Some(table)) = self.table(va, 1, true) else { return false };
        let e = entry(table, va, 1);
        if load(e) != 0 || !access.read {
            return false;
        }
        store(e, gpa | access.flags() | HUGE);
        true
    }

    /// Whether nothing at all is mapped in the 2 MiB around an address, and no table made.
    pub fn huge_is_free(&self, va: u64) -> bool {
        match self.table(va, 1, false) {
            Ok(Some(table)) => load(entry(table, va, 1)) == 0,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Calls `f` for each entry in a range (2 MiB leaves are split where the range covers a part, and passed whole
    /// otherwise).
    fn for_each(
        &self,
        start: u64,
        end: u64,
        split_whole: bool,
        mut f: impl FnMut(*mut u64, u64, bool),
    ) -> Result<()> {
        let mut va = start;
        while va < end {
            let mut table = self.root;
            let mut level = 3;
            loop {
                let e = entry(table, va, level);
                let value = load(e);
                let size = 1u64 << (12 + 9 * level);
                if level == 0 {
                    if value & (PRESENT | HIDDEN) != 0 {
                        f(e, va, false);
                    }
                    va += PAGE_SIZE;
                    // The rest of the same table without another walk.
                    let mut e = e;
                    while va < end && va & (HUGE_PAGE_SIZE - 1) != 0 {
                        e = e.wrapping_add(1);
                        if load(e) & (PRESENT | HIDDEN) != 0 {
                            f(e, va, false);
                        }
                        va += PAGE_SIZE;
                    }
                    break;
                }
                if value & (PRESENT | HIDDEN) == 0 {
                    va = (va & !(size - 1)).saturating_add(size);
                    break;
                }
                if value & HUGE != 0 {
                    if va & (size - 1) == 0 && end - va >= size && !split_whole {
                        f(e, va, true);
                        va += size;
                        break;
                    }
                    self.split(e, value)?;
                    continue;
                }
                table = value & ADDRESS;
                level -= 1;
            }
        }
        Ok(())
    }

    /// Takes away everything in a range.
    ///
    /// # Errors
    /// ENOMEM where a 2 MiB leaf had to be split.
    pub fn unmap(&self, start: u64, end: u64, removed: &mut Removed) -> Result<()> {
        let before = removed.len();
        self.for_each(start, end, false, |e, _, huge| {
            let value = load(e);
            store(e, 0);
            let gpa = value & ADDRESS;
            let count = if huge { 512 } else { 1 };
            for i in 0..count {
                // SAFETY: the entry owned these references, which it has just lost.
                removed.push(unsafe { FrameRef::from_raw(gpa + i * PAGE_SIZE) });
            }
        })?;
        if removed.len() != before {
            self.invalidate(start, end);
        }
        Ok(())
    }

    /// Changes rights in a range. `access` is asked for each page with what is there, and returns the new rights.
    ///
    /// # Errors
    /// ENOMEM where a 2 MiB leaf had to be split.
    pub fn protect(
        &self,
        start: u64,
        end: u64,
        mut access: impl FnMut(&Mapping, u64) -> Access,
    ) -> Result<()> {
        let mut weaker = false;
        self.for_each(start, end, false, |e, va, huge| {
            let value = load(e);
            let new = access(&Self::decode(value, huge), va);
            let mut flags = new.flags_for(value & ADDRESS);
            if huge {
                flags |= HUGE;
            }
            let next = (value & ADDRESS) | flags;
            if next != value {
                store(e, next);
                weaker |= value & PRESENT != 0;
            }
        })?;
        if weaker {
            self.invalidate(start, end);
        }
        Ok(())
    }

    /// Shares what is mapped in a range with `child`, where nothing is mapped there. `writable`: the child and the
    /// parent keep their rights (shared mappings); otherwise both lose the right to write, so that the next write
    /// copies, but for the pages of `eager`, which are copied now.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn share(&self, child: &Space, start: u64, end: u64, writable: bool, eager: &[u64]) -> Result<()> {
        let mut result = Ok(());
        let mut weaker = false;
        self.for_each(start, end, true, |e, va, _| {
            if result.is_err() {
                return;
            }
            let mut value = load(e);
            if !writable && value & WRITE != 0 && eager.contains(&va) {
                // Both sides are about to write this page: the child gets its copy now.
                result = FrameRef::alloc_uninit().and_then(|copy| {
                    // SAFETY: the parent's entry owns a reference, so the frame is alive.
                    let frame = unsafe { FrameRef::from_raw(value & ADDRESS) };
                    copy.copy_from(0, &frame, 0, PAGE_SIZE as usize);
                    let _ = frame.into_raw();
                    let Some(table) = child.table(va, 0, true)? else { return Err(Errno::ENOMEM) };
                    store(entry(table, va, 0), copy.into_raw() | (value & !ADDRESS));
                    Ok(())
                });
                return;
            }
            if !writable && value & WRITE != 0 {
                value &= !WRITE;
                store(e, value);
                weaker = true;
            }
            match child.table(va, 0, true) {
                Ok(Some(table)) => {
                    // SAFETY: the parent's entry owns a reference, so the frame is alive; the clone is the child's.
                    let frame = unsafe { FrameRef::from_raw(value & ADDRESS) };
                    let own = frame.clone();
                    let _ = frame.into_raw();
                    store(entry(table, va, 0), own.into_raw() | (value & !ADDRESS));
                }
                Ok(None) => result = Err(Errno::ENOMEM),
                Err(error) => result = Err(error),
            }
        })?;
        if weaker {
            self.invalidate(start, end);
        }
        result
    }

    /// Moves entries, as mremap(2) does; the destination is empty.
    ///
    /// # Errors
    /// ENOMEM: some entries have moved, the rest stay.
    pub fn relocate(&self, from: u64, to: u64, len: u64) -> Result<()> {
        let mut result = Ok(());
        self.for_each(from, from + len, true, |e, va, _| {
            if result.is_err() {
                return;
            }
            match self.table(to + (va - from), 0, true) {
                Ok(Some(table)) => {
                    store(entry(table, to + (va - from), 0), load(e));
                    store(e, 0);
                }
                Ok(None) => result = Err(Errno::ENOMEM),
                Err(error) => result = Err(error),
            }
        })?;
        self.invalidate(from, from + len);
        result
    }

    /// Pages mapped in a range.
    pub fn count(&self, start: u64, end: u64) -> u64 {
        let mut pages = 0;
        let mut va = start;
        while va < end {
            match self.table(va, 1, false) {
                Ok(Some(table)) => {
                    let value = load(entry(table, va, 1));
                    if value & HUGE != 0 {
                        let stop = ((va & !(HUGE_PAGE_SIZE - 1)) + HUGE_PAGE_SIZE).min(end);
                        pages += (stop - va) / PAGE_SIZE;
                    } else if value & PRESENT != 0 {
                        let mut at = va;
                        loop {
                            if load(entry(value & ADDRESS, at, 0)) & (PRESENT | HIDDEN) != 0 {
                                pages += 1;
                            }
                            at += PAGE_SIZE;
                            if at >= end || at & (HUGE_PAGE_SIZE - 1) == 0 {
                                break;
                            }
                        }
                    }
                    va = (va & !(HUGE_PAGE_SIZE - 1)) + HUGE_PAGE_SIZE;
                }
                _ => {
                    // Nearly all of an address space has not even a table of the third level.
                    let none = load(entry(self.root, va, 3)) & PRESENT == 0;
                    let step = if none { 1 << 39 } else { 1 << 30 };
                    va = (va & !(step - 1)) + step;
                }
            }
        }
        pages
    }

    /// Raw copy out of a mapped page: at most to its end.
    pub fn copy_out(&self, mapping: &Mapping, offset: u64, buf: &mut [u8]) {
        // SAFETY: the caller holds the lock of this space, so the entry's reference keeps the frame.
        unsafe { frames::read_raw(mapping.gpa + offset, buf) };
    }

    /// Raw copy into a mapped page: at most to its end.
    pub fn copy_in(&self, mapping: &Mapping, offset: u64, data: &[u8]) {
        // SAFETY: as in `copy_out`.
        unsafe { frames::write_raw(mapping.gpa + offset, data) };
    }

    /// A reference of one's own to a mapped frame.
    pub fn frame(&self, mapping: &Mapping) -> FrameRef {
        // SAFETY: the caller holds the lock of this space, so the entry's reference keeps the frame meanwhile.
        let frame = unsafe { FrameRef::from_raw(mapping.gpa) };
        let own = frame.clone();
        let _ = frame.into_raw();
        own
    }
}

impl Drop for Space {
    /// The owner has unmapped everything and no vCPU has the tables loaded.
    fn drop(&mut self) {
        self.release_stubs();
        let tables = self.tables.load(Ordering::Relaxed);
        if tables <= MAX_SPARE_TABLES {
            let mut spares = SPARE_SPACES.lock();
            if spares.len() < MAX_SPARE_SPACES {
                spares.push(Spare { root: self.root, kin: self.kin, tables });
                return;
            }
            // The oldest makes room: its kin may be gone.
            let oldest = spares.remove(0);
            spares.push(Spare { root: self.root, kin: self.kin, tables });
            drop(spares);
            release_root(oldest.root);
            return;
        }
        release_root(self.root);
    }
}
