//! Page faults.

use super::frames::FrameRef;
use super::frames::image::{self, copying, is_image};
use super::object::Mappable;
use super::quarantine;
use super::space::{Mm, MmInner};
use super::vma::{Backing, Prot, VmFlags, Vma};
use crate::arch::pgtable::{Access, Mapping};
use crate::arch::port::{self, Flavour};
use crate::errno::Errno;
use crate::sync::Once;
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use smallvec::SmallVec;

/// What the program wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To execute.
    Exec,
}

/// Why it cannot have it: the signal and code of sigaction(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// SIGSEGV, SEGV_MAPERR: nothing is there.
    NotMapped,
    /// SIGSEGV, SEGV_ACCERR: not with these rights.
    NoAccess,
    /// SIGBUS, BUS_ADRERR: beyond the end of the object, or it could not be read.
    Bus,
    /// Out of memory: the OOM killer acts.
    NoMemory,
}

/// Most pages of a fault window.
const MAX_WINDOW: u32 = 64;
/// Pages of fresh memory that a first fault maps, those of an aligned block: where page tables are shadowed, a fault
/// costs several times as much as the clearing of eight pages, and a shadow is filled for eight entries at once.
const FRESH: u64 = 8;
/// Most pages that are copied at once where a program writes one after the other.
const MAX_COPIES: u32 = 16;
/// Pages of an object that are mapped around a fault, where they are in its cache.
const AROUND: u64 = 16;
/// Guard below a growing stack.
const STACK_GAP: u64 = 256 * PAGE_SIZE;

static ZERO_PAGE: Once<FrameRef> = Once::new();

/// The frame that reads of untouched private memory see.
fn zero_page() -> Result<FrameRef, FaultError> {
    if let Some(frame) = ZERO_PAGE.get() {
        return Ok(frame.clone());
    }
    let frame = alloc(FrameRef::alloc_zeroed)?;
    let _ = ZERO_PAGE.set(frame);
    ZERO_PAGE.get().cloned().ok_or(FaultError::NoMemory)
}

/// A frame, if need be of those that wait for their grace period.
fn alloc<E>(kind: impl Fn() -> Result<FrameRef, E>) -> Result<FrameRef, FaultError> {
    kind().or_else(|_| {
        quarantine::hurry();
        kind().map_err(|_| FaultError::NoMemory)
    })
}

fn rights(prot: Prot, write: bool) -> Access {
    Access {
        read: prot.intersects(Prot::READ | Prot::WRITE | Prot::EXEC),
        write: write && prot.contains(Prot::WRITE),
        exec: prot.contains(Prot::EXEC),
    }
}

/// Where a run of faults that began at `page` ends, by what the range has seen: one page, then twice as many each time
/// that the next fault is where the last run ended, up to `most`.
fn run_end(vma: &mut Vma, page: u64, most: u32) -> u64 {
    let next = page == vma.fault_next && vma.fault_window != 0;
    vma.fault_window = if next { (vma.fault_window * 2).min(most) } else { 1 };
    vma.fault_next = (page + u64::from(vma.fault_window) * PAGE_SIZE).min(vma.end);
    vma.fault_next
}

/// Whether pages are given that nobody has asked for yet: where page tables are shadowed, and a fault is dear.
fn gives_ahead() -> bool {
    port::flavour() == Flavour::Pvm
}

/// What to do about a fault once the lock of the ranges is given up.
enum Next {
    Done,
    /// A page of an image is there for all that the tables say: the host may not have it any more.
    Check,
    /// Ask the object for this page, then look again.
    Fetch(Arc<dyn Mappable>, u64, bool),
}

impl Mm {
    /// Serves a fault at an address.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn fault(&self, address: u64, kind: AccessKind) -> Result<(), FaultError> {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let page = address & !(PAGE_SIZE - 1);
        let mut fetched: Option<(Arc<dyn Mappable>, u64, FrameRef)> = None;
        loop {
            let next = {
                let mut inner = self.inner.lock();
                self.fault_locked(&mut inner, page, kind, fetched.take())?
            };
            match next {
                Next::Done => return Ok(()),
                Next::Check => {
                    // Where it is gone, the address space drops it before the program runs on.
                    image::check();
                    return Ok(());
                }
                Next::Fetch(object, index, write) => {
                    // Without the lock: the object may have to read from the host, and its own locks come first.
                    let frame = object.frame(index, write).map_err(|e| match e {
                        Errno::ENOMEM => FaultError::NoMemory,
                        _ => FaultError::Bus,
                    })?;
                    fetched = Some((object, index, frame));
                }
            }
        }
    }

    fn fault_locked(
        &self,
        inner: &mut MmInner,
        page: u64,
        kind: AccessKind,
        fetched: Option<(Arc<dyn Mappable>, u64, FrameRef)>,
    ) -> Result<Next, FaultError> {
        if page >= self.user_top {
            return Err(FaultError::NotMapped);
        }
        if inner.vmas.find(page).is_none() {
            self.grow_stack(inner, page)?;
        }
        let vma = inner.vmas.find_mut(page).ok_or(FaultError::NotMapped)?;
        let needed = match kind {
            AccessKind::Read => Prot::READ,
            AccessKind::Write => Prot::WRITE,
            AccessKind::Exec => Prot::EXEC,
        };
        // On x86 what may be written or executed may be read too.
        let allowed = match kind {
            AccessKind::Read => !vma.prot.is_empty(),
            _ => vma.prot.contains(needed),
        };
        if !allowed {
            return Err(FaultError::NoAccess);
        }
        let write = kind == AccessKind::Write;
        let present = {
            let _guard = self.tables.lock();
            self.space.lookup(page)
        };
        if let Some(mapping) = present {
            if mapping.present && (!write || mapping.write) && (kind != AccessKind::Exec || mapping.exec) {
                return Ok(if is_image(mapping.gpa) { Next::Check } else { Next::Done });
            }
            if let Backing::Object { object, .. } = &vma.backing
                && write
                && vma.flags.contains(VmFlags::SHARED)
                && (object.tracks_writes() || is_image(mapping.gpa))
            {
                let index = vma.page_of(page);
                return match fetched {
                    Some((from, at, frame))
                        if at == index && core::ptr::addr_eq(Arc::as_ptr(&from), Arc::as_ptr(object)) =>
                    {
                        self.fault_tracked(vma, page, frame, &mapping).map(|()| Next::Done)
                    }
                    _ => Ok(Next::Fetch(object.clone(), index, true)),
                };
            }
            return self.fault_present(vma, page, write, &mapping).map(|()| Next::Done);
        }
        match &vma.backing {
            Backing::Anon => self.fault_anon(vma, page, write).map(|()| Next::Done),
            Backing::Object { object, .. } => {
                let index = vma.page_of(page);
                match fetched {
                    Some((from, at, frame))
                        if at == index && core::ptr::addr_eq(Arc::as_ptr(&from), Arc::as_ptr(object)) =>
                    {
                        self.fault_object(vma, page, write, frame).map(|()| Next::Done)
                    }
                    _ => {
                        let shared_write = write && vma.flags.contains(VmFlags::SHARED);
                        Ok(Next::Fetch(object.clone(), index, shared_write))
                    }
                }
            }
        }
    }

    /// A frame is there but the program may not do this with it: copy on write, or rights that were widened.
    fn fault_present(
        &self,
        vma: &mut Vma,
        page: u64,
        write: bool,
        mapping: &Mapping,
    ) -> Result<(), FaultError> {
        if !write || vma.flags.contains(VmFlags::SHARED) {
            let access = rights(vma.prot, vma.flags.contains(VmFlags::SHARED));
            let _guard = self.tables.lock();
            return self
                .space
                .protect(page, page + PAGE_SIZE, |_, _| access)
                .map_err(|_| FaultError::NoMemory);
        }
        {
            let mut hot = self.hot.lock();
            if hot.len() < hot.inline_size() && !hot.contains(&page) {
                hot.push(page);
            }
        }
        let access = rights(vma.prot, true);
        let end = run_end(vma, page, self.most_copies());
        let mut retired = Vec::new();
        let mut at = page;
        let mut expected = Some(mapping.gpa);
        let result = loop {
            match self.copy_page(at, expected.take(), access, &mut retired) {
                // What follows is a favour only: the program has not asked for it yet.
                Err(_) if at != page => break Ok(()),
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
            at += PAGE_SIZE;
            if at >= end {
                break Ok(());
            }
        };
        if !retired.is_empty() {
            quarantine::retire(&self.space, retired);
        }
        result
    }

    /// Most pages that are copied at once. Where other tasks use the address space, another vCPU may be about to use an
    /// old translation of the pages around, which on pvm can outlast a flush, until that vCPU enters the kernel.
    fn most_copies(&self) -> u32 {
        if gives_ahead() && self.users.load(Ordering::SeqCst) <= 1 { MAX_COPIES } else { 1 }
    }

    /// Makes the frame of a private page the program's own. `expected`: where it was when the program wanted to write.
    /// `false`: there is none, or no longer that one.
    fn copy_page(
        &self,
        page: u64,
        expected: Option<u64>,
        access: Access,
        retired: &mut Vec<FrameRef>,
    ) -> Result<bool, FaultError> {
        let new = match expected {
            Some(_) => alloc(FrameRef::alloc_uninit)?,
            None => FrameRef::alloc_uninit().map_err(|_| FaultError::NoMemory)?,
        };
        // What the host has to read from disk is not waited for under the lock.
        expected.inspect(|gpa| image::touch(*gpa));
        let cuts = image::cuts();
        let _guard = self.tables.lock();
        let Some(now) = self.space.lookup(page).filter(|now| now.present) else { return Ok(false) };
        if expected.is_some_and(|gpa| gpa != now.gpa) || (expected.is_none() && now.write) {
            return Ok(false);
        }
        let old = self.space.frame(&now);
        // One reference is the entry's, the other is ours: nobody else has it.
        if old.refs() == 2 {
            self.space.protect(page, page + PAGE_SIZE, |_, _| access).map_err(|_| FaultError::NoMemory)?;
            return Ok(true);
        }
        new.copy_from(0, &old, 0, PAGE_SIZE as usize);
        if image::cuts() != cuts && is_image(now.gpa) {
            // It may be zeros that the image does not have: the program faults again, and hears of it.
            return Ok(false);
        }
        drop(old);
        retired.extend(self.space.replace(page, new, access).map_err(|_| FaultError::NoMemory)?);
        Ok(true)
    }

    /// The first store to a page that is mapped for reading, of an object that has been told now.
    fn fault_tracked(
        &self,
        vma: &Vma,
        page: u64,
        frame: FrameRef,
        mapping: &Mapping,
    ) -> Result<(), FaultError> {
        let access = rights(vma.prot, true);
        let old = {
            let _guard = self.tables.lock();
            let Some(now) = self.space.lookup(page).filter(|now| now.gpa == mapping.gpa) else {
                return Ok(());
            };
            if now.gpa == frame.gpa() {
                return self
                    .space
                    .protect(page, page + PAGE_SIZE, |_, _| access)
                    .map_err(|_| FaultError::NoMemory);
            }
            // The object has another frame there now.
            self.space.replace(page, frame, access).map_err(|_| FaultError::NoMemory)?
        };
        if let Some(old) = old {
            quarantine::retire(&self.space, alloc::vec![old]);
        }
        Ok(())
    }

    fn fault_anon(&self, vma: &mut Vma, page: u64, write: bool) -> Result<(), FaultError> {
        if !write {
            let frame = zero_page()?;
            let _guard = self.tables.lock();
            if self.space.lookup(page).is_none() {
                self.space.map(page, frame, rights(vma.prot, false)).map_err(|_| FaultError::NoMemory)?;
            }
            return Ok(());
        }
        let access = rights(vma.prot, true);
        let sequential = page == vma.fault_next && vma.fault_window != 0;
        let fresh = if gives_ahead() { FRESH } else { 1 };
        let window = if sequential { (vma.fault_window * 2).min(MAX_WINDOW) } else { fresh as u32 };
        let huge_start = page & !(HUGE_PAGE_SIZE - 1);
        let fits = huge_start >= vma.start && huge_start + HUGE_PAGE_SIZE <= vma.end;
        let wanted = vma.flags.contains(VmFlags::HUGE)
            || (vma.fault_window >= MAX_WINDOW && window == MAX_WINDOW && page == huge_start);
        if fits && wanted && !vma.flags.contains(VmFlags::NOHUGE) && self.map_huge(huge_start, access) {
            vma.fault_next = huge_start + HUGE_PAGE_SIZE;
            return Ok(());
        }
        let first = if sequential { page } else { page & !(fresh * PAGE_SIZE - 1) };
        let end = (first + u64::from(window) * PAGE_SIZE).min(vma.end).min(huge_start + HUGE_PAGE_SIZE);
        vma.fault_window = window;
        vma.fault_next = end;
        self.map_fresh(page, alloc(FrameRef::alloc_zeroed)?, access)?;
        // The rest is a favour, as long as there is memory.
        for at in (first.max(vma.start)..end).step_by(PAGE_SIZE as usize) {
            let there = at == page || {
                let _guard = self.tables.lock();
                self.space.lookup(at).is_some()
            };
            if there {
                continue;
            }
            let Ok(frame) = FrameRef::alloc_zeroed() else { break };
            if self.map_fresh(at, frame, access).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn map_fresh(&self, page: u64, frame: FrameRef, access: Access) -> Result<(), FaultError> {
        let _guard = self.tables.lock();
        if self.space.lookup(page).is_none() {
            self.space.map(page, frame, access).map_err(|_| FaultError::NoMemory)?;
        }
        Ok(())
    }

    fn map_huge(&self, start: u64, access: Access) -> bool {
        {
            let _guard = self.tables.lock();
            if !self.space.huge_is_free(start) {
                return false;
            }
        }
        let Ok(frames) = FrameRef::alloc_huge() else { return false };
        let mapped = {
            let _guard = self.tables.lock();
            self.space.map_huge(start, frames.gpa(), access)
        };
        if mapped {
            frames.keep();
        }
        mapped
    }

    fn fault_object(&self, vma: &mut Vma, page: u64, write: bool, frame: FrameRef) -> Result<(), FaultError> {
        let shared = vma.flags.contains(VmFlags::SHARED);
        if write && !shared {
            let access = rights(vma.prot, true);
            let end = run_end(vma, page, self.most_copies());
            let Backing::Object { object, .. } = &vma.backing else { return Err(FaultError::Bus) };
            let copy = FrameRef::alloc_uninit().map_err(|_| FaultError::NoMemory)?;
            copying(|| copy.copy_from(0, &frame, 0, PAGE_SIZE as usize)).map_err(|_| FaultError::Bus)?;
            self.map_fresh(page, copy, access)?;
            let more = ((end - page) / PAGE_SIZE - 1) as usize;
            let next =
                if more == 0 { SmallVec::new() } else { object.frames_present(vma.page_of(page) + 1, more) };
            for (at, frame) in (page + PAGE_SIZE..end).step_by(PAGE_SIZE as usize).zip(next) {
                let Ok(copy) = FrameRef::alloc_uninit() else { break };
                if copying(|| copy.copy_from(0, &frame, 0, PAGE_SIZE as usize)).is_err() {
                    break;
                }
                if self.map_fresh(at, copy, access).is_err() {
                    break;
                }
            }
            return Ok(());
        }
        let Backing::Object { object, .. } = &vma.backing else { return Err(FaultError::Bus) };
        let replacements = object.mappings().replacements();
        let image = is_image(frame.gpa());
        if image && object.frames_present(vma.page_of(page), 1).first() != Some(&frame) {
            // It has been replaced: the program faults again.
            return Ok(());
        }
        let tracked = object.tracks_writes();
        let access = rights(vma.prot, shared && (write || !tracked));
        let stores = write && tracked;
        let access_around = rights(vma.prot, shared && (stores || !tracked));
        // Around the fault: pages that the object has at hand.
        let first = (page & !(AROUND * PAGE_SIZE - 1)).max(vma.start);
        let last = ((page & !(AROUND * PAGE_SIZE - 1)) + AROUND * PAGE_SIZE).min(vma.end);
        let index = vma.page_of(page);
        let (ahead, behind) = ((page - first) / PAGE_SIZE, (last - page) / PAGE_SIZE - 1);
        let (before, after) = if stores {
            (SmallVec::new(), object.frames_to_write(index + 1, behind as usize))
        } else {
            let before = object.frames_present(vma.page_of(first), ahead as usize);
            (before, object.frames_present(index + 1, behind as usize))
        };
        let _guard = self.tables.lock();
        let around = before
            .into_iter()
            .enumerate()
            .map(|(i, f)| (first + i as u64 * PAGE_SIZE, f))
            .chain(core::iter::once((page, frame)))
            .chain(after.into_iter().enumerate().map(|(i, f)| (page + (1 + i as u64) * PAGE_SIZE, f)));
        for (at, frame) in around {
            if self.space.lookup(at).is_none() {
                let access = if at == page { access } else { access_around };
                self.space.map(at, frame, access).map_err(|_| FaultError::NoMemory)?;
            }
        }
        drop(_guard);
        if object.mappings().replacements() != replacements {
            // Some of what was mapped may have been replaced before it was.
            self.zap_images(first, last);
        }
        Ok(())
    }

    /// The frame of a private page as nobody else's, for a debugger to write to whatever the program may do itself.
    ///
    /// # Errors
    /// EFAULT: nothing that can be read is mapped there, or it is shared; ENOMEM.
    pub fn private_copy(&self, address: u64) -> crate::errno::Result<FrameRef> {
        let page = address & !(PAGE_SIZE - 1);
        loop {
            self.fault(address, AccessKind::Read).map_err(|e| match e {
                FaultError::NoMemory => Errno::ENOMEM,
                _ => Errno::EFAULT,
            })?;
            let new = alloc(FrameRef::alloc_uninit).map_err(|_| Errno::ENOMEM)?;
            let inner = self.inner.lock();
            let vma = inner.vmas.find(page).ok_or(Errno::EFAULT)?;
            if vma.flags.contains(VmFlags::SHARED) {
                return Err(Errno::EFAULT);
            }
            let old = {
                let _guard = self.tables.lock();
                let Some(now) = self.space.lookup(page) else { continue };
                let old = self.space.frame(&now);
                // One reference is the entry's, the other is ours.
                if old.refs() == 2 {
                    return Ok(old);
                }
                new.copy_from(0, &old, 0, PAGE_SIZE as usize);
                drop(old);
                self.space.replace(page, new.clone(), rights(vma.prot, true)).map_err(|_| Errno::ENOMEM)?
            };
            drop(inner);
            if let Some(old) = old {
                quarantine::retire(&self.space, alloc::vec![old]);
            }
            return Ok(new);
        }
    }

    fn grow_stack(&self, inner: &mut MmInner, page: u64) -> Result<(), FaultError> {
        let Some(above) = inner.vmas.next(page) else { return Err(FaultError::NotMapped) };
        if !above.flags.contains(VmFlags::GROWSDOWN)
            || above.end - page > self.stack_limit.load(Ordering::Relaxed).max(PAGE_SIZE)
        {
            return Err(FaultError::NotMapped);
        }
        let start = above.start;
        let gap = inner.vmas.previous(start).map_or(u64::MAX, |below| page.saturating_sub(below.end));
        if gap < STACK_GAP {
            return Err(FaultError::NotMapped);
        }
        inner.vmas.grow_down(start, page);
        Ok(())
    }
}

impl Mm {
    /// Maps what an object has at hand of a range, before it is touched: for exec. Private writable pages of the
    /// first `copies` are copied too, since a program's data is written at its start.
    pub fn premap(&self, start: u64, end: u64, copies: u64) {
        let inner = self.inner.lock();
        let Some(vma) = inner.vmas.find(start) else { return };
        let Backing::Object { object, .. } = &vma.backing else { return };
        let end = end.min(vma.end);
        let pages = ((end - start) / PAGE_SIZE) as usize;
        let frames = object.frames_present(vma.page_of(start), pages);
        let private_write = vma.prot.contains(Prot::WRITE) && !vma.flags.contains(VmFlags::SHARED);
        for (i, frame) in frames.into_iter().enumerate() {
            let page = start + i as u64 * PAGE_SIZE;
            let (frame, access) = if private_write && (i as u64) < copies {
                let Ok(copy) = FrameRef::alloc_uninit() else { return };
                if copying(|| copy.copy_from(0, &frame, 0, PAGE_SIZE as usize)).is_err() {
                    return;
                }
                (copy, rights(vma.prot, true))
            } else {
                (frame, rights(vma.prot, false))
            };
            let _guard = self.tables.lock();
            if self.space.lookup(page).is_none() && self.space.map(page, frame, access).is_err() {
                return;
            }
        }
    }
}
