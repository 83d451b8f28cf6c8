//! mmap(2), munmap(2), mprotect(2), mremap(2), brk(2).

use super::object::Mappable;
use super::shm::SharedAnon;
use super::space::{Mm, MmInner};
use super::vma::{Backing, Prot, VmFlags, Vma};
use crate::arch::pgtable::Access;
use crate::arch::port;
use crate::errno::{Errno, Result};
use abi::PAGE_SIZE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};

/// vm.max_map_count.
pub const MAX_MAP_COUNT: usize = 65_530;
/// vm.mmap_min_addr.
pub const MMAP_MIN_ADDR: u64 = 65_536;

/// Limits of the process that apply to its address space, bytes.
#[derive(Debug, Clone, Copy)]
pub struct MapLimits {
    /// RLIMIT_AS
    pub address_space: u64,
    /// RLIMIT_DATA
    pub data: u64,
    /// RLIMIT_MEMLOCK; ignored where the caller may lock what it wants.
    pub memlock: u64,
}

impl MapLimits {
    /// No limits.
    pub const NONE: Self = Self { address_space: u64::MAX, data: u64::MAX, memlock: u64::MAX };
}

/// Where a mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere; the address is a hint (0 for none).
    Hint(u64),
    /// Exactly here, replacing what is there.
    Fixed(u64),
    /// Exactly here, or EEXIST.
    FixedNoReplace(u64),
}

/// What is mapped.
pub enum Content {
    /// Zeros.
    Anon,
    /// An object from a page on.
    Object(Arc<dyn Mappable>, u64),
}

fn page_up(len: u64) -> Result<u64> {
    len.checked_next_multiple_of(PAGE_SIZE).filter(|l| *l != 0).ok_or(Errno::ENOMEM)
}

/// Rights of present pages after a change of their range's.
fn access_after(vma: &Vma, was_writable: bool) -> Access {
    // An object that wants to know of the first store to a page hears of it by a fault.
    let tracked = matches!(&vma.backing, Backing::Object { object, .. } if object.tracks_writes());
    let shared = vma.flags.contains(VmFlags::SHARED) && !tracked;
    Access {
        read: !vma.prot.is_empty(),
        // Private pages that are not writable now may be shared with a child or a file: the next write decides.
        write: vma.prot.contains(Prot::WRITE) && (shared || was_writable),
        exec: vma.prot.contains(Prot::EXEC),
    }
}

impl Mm {
    /// Maps `len` bytes and returns their address. See mmap(2).
    ///
    /// # Errors
    /// EINVAL, ENOMEM, EEXIST, EPERM.
    pub fn mmap(
        &self,
        placement: Placement,
        len: u64,
        prot: Prot,
        mut flags: VmFlags,
        content: Content,
        limits: &MapLimits,
    ) -> Result<u64> {
        let len = page_up(len)?;
        if len > self.user_top {
            return Err(Errno::ENOMEM);
        }
        let mut inner = self.inner.lock();
        flags |= inner.default_flags;
        let start = self.place(&mut inner, placement, len, flags)?;
        if inner.vmas.total().saturating_add(len) > limits.address_space {
            return Err(Errno::ENOMEM);
        }
        if inner.vmas.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        let backing = match content {
            Content::Anon if flags.contains(VmFlags::SHARED) => {
                Backing::Object { object: Arc::new(SharedAnon::new(len / PAGE_SIZE)), page: 0 }
            }
            Content::Anon => Backing::Anon,
            Content::Object(object, page) => {
                page.checked_add(len / PAGE_SIZE).ok_or(Errno::EOVERFLOW)?;
                Backing::Object { object, page }
            }
        };
        self.register(&backing);
        inner.vmas.insert(Vma::new(start, start + len, prot, flags, backing));
        Ok(start)
    }

    fn place(&self, inner: &mut MmInner, placement: Placement, len: u64, flags: VmFlags) -> Result<u64> {
        let top = self.mmap_top.load(Ordering::Relaxed);
        match placement {
            Placement::Hint(hint) => {
                let hint = hint & !(PAGE_SIZE - 1);
                if hint >= MMAP_MIN_ADDR
                    && hint
                        .checked_add(len)
                        .is_some_and(|end| end <= self.user_top && inner.vmas.is_free(hint, end))
                {
                    return Ok(hint);
                }
                let align = if len >= abi::HUGE_PAGE_SIZE && !flags.contains(VmFlags::SHARED) {
                    abi::HUGE_PAGE_SIZE
                } else {
                    PAGE_SIZE
                };
                // Large areas on a 2 MiB boundary where there is room, so that they can be mapped in one leaf.
                let padded = len + align - PAGE_SIZE;
                if let Some(at) = inner.vmas.find_free(padded, MMAP_MIN_ADDR, top) {
                    return Ok((at + padded - len) & !(align - 1));
                }
                inner
                    .vmas
                    .find_free(len, MMAP_MIN_ADDR, top)
                    .or_else(|| inner.vmas.find_free(len, MMAP_MIN_ADDR, self.user_top))
                    .ok_or(Errno::ENOMEM)
            }
            Placement::Fixed(at) | Placement::FixedNoReplace(at) => {
                if !at.is_multiple_of(PAGE_SIZE) {
                    return Err(Errno::EINVAL);
                }
                let end = at.checked_add(len).filter(|end| *end <= self.user_top).ok_or(Errno::ENOMEM)?;
                if at < MMAP_MIN_ADDR {
                    return Err(Errno::EPERM);
                }
                if !inner.vmas.is_free(at, end) {
                    if matches!(placement, Placement::FixedNoReplace(_)) {
                        return Err(Errno::EEXIST);
                    }
                    self.unmap_locked(inner, at, end)?;
                }
                Ok(at)
            }
        }
    }

    fn unmap_locked(&self, inner: &mut MmInner, start: u64, end: u64) -> Result<()> {
        let gone = inner.vmas.remove(start, end);
        for vma in &gone {
            if vma.flags.contains(VmFlags::LOCKED) {
                inner.locked = inner.locked.saturating_sub(vma.len());
            }
            self.zap(vma.start, vma.end)?;
        }
        Ok(())
    }

    /// Unmaps a range. See munmap(2).
    ///
    /// # Errors
    /// EINVAL, ENOMEM.
    pub fn munmap(&self, start: u64, len: u64) -> Result<()> {
        if !start.is_multiple_of(PAGE_SIZE) || len == 0 {
            return Err(Errno::EINVAL);
        }
        let end = len
            .checked_next_multiple_of(PAGE_SIZE)
            .and_then(|l| start.checked_add(l))
            .filter(|end| *end <= self.user_top)
            .ok_or(Errno::EINVAL)?;
        let mut inner = self.inner.lock();
        let splits = inner.vmas.find(start).is_some_and(|v| v.start < start && v.end > end);
        if splits && inner.vmas.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        self.unmap_locked(&mut inner, start, end)
    }

    /// Unmaps the attachment of shared memory that begins at `at`. See shmdt(2).
    ///
    /// # Errors
    /// EINVAL.
    pub fn detach(&self, at: u64) -> Result<()> {
        let mut inner = self.inner.lock();
        // Parts of it may have been unmapped: each part that is left still tells where the whole began, and is an
        // object of its own for the same memory.
        let begins = |vma: &Vma| match &vma.backing {
            Backing::Object { object, page } if object.counted() && vma.start == at + page * PAGE_SIZE => {
                Some(core::ptr::from_ref(object.mappings()).addr())
            }
            _ => None,
        };
        let first = inner.vmas.iter().filter(|v| v.start >= at).find_map(begins).ok_or(Errno::EINVAL)?;
        let same = |vma: &&Vma| begins(vma) == Some(first);
        let parts: Vec<(u64, u64)> = inner.vmas.iter().filter(same).map(|v| (v.start, v.end)).collect();
        parts.into_iter().try_for_each(|(start, end)| self.unmap_locked(&mut inner, start, end))
    }

    /// Unmaps everything whose mappings are counted: the last task has left.
    pub(super) fn end_counted(&self) {
        let mut inner = self.inner.lock();
        let counted = |v: &&Vma| matches!(&v.backing, Backing::Object { object, .. } if object.counted());
        let parts: Vec<(u64, u64)> = inner.vmas.iter().filter(counted).map(|v| (v.start, v.end)).collect();
        for (start, end) in parts {
            // Whole ranges: nothing has to be split, so nothing can fail for want of memory.
            let _ = self.unmap_locked(&mut inner, start, end);
        }
    }

    /// Lets a shared mapping of a file show the pages from `page` on in `start..end`. See remap_file_pages(2).
    ///
    /// # Errors
    /// EINVAL: there is none, or not all of the range is one; ENOMEM.
    pub fn remap_pages(&self, start: u64, end: u64, page: u64, limits: &MapLimits) -> Result<()> {
        let (object, prot, flags) = {
            let inner = self.inner.lock();
            let first = inner.vmas.find(start).ok_or(Errno::EINVAL)?;
            let Backing::Object { object, .. } = &first.backing else { return Err(Errno::EINVAL) };
            if !first.flags.contains(VmFlags::SHARED) {
                return Err(Errno::EINVAL);
            }
            let mut covered = start;
            for vma in inner.vmas.overlapping(start, end) {
                let same = matches!(&vma.backing, Backing::Object { object: other, .. }
                    if core::ptr::addr_eq(object.mappings(), other.mappings()));
                if vma.start > covered || !same || vma.flags != first.flags {
                    return Err(Errno::EINVAL);
                }
                covered = vma.end;
            }
            if covered < end {
                return Err(Errno::EINVAL);
            }
            (object.another().unwrap_or_else(|| object.clone()), first.prot, first.flags)
        };
        let content = Content::Object(object, page);
        self.mmap(Placement::Fixed(start), end - start, prot, flags, content, limits).map(drop)
    }

    /// Changes the rights of a range. See mprotect(2).
    ///
    /// # Errors
    /// EINVAL, ENOMEM (a part is not mapped), EACCES.
    pub fn mprotect(&self, start: u64, len: u64, prot: Prot, grows_down: bool) -> Result<()> {
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = len
            .checked_next_multiple_of(PAGE_SIZE)
            .and_then(|l| start.checked_add(l))
            .ok_or(Errno::ENOMEM)?;
        let mut inner = self.inner.lock();
        let mut start = start;
        if grows_down {
            let vma = inner.vmas.find(start).ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            start = vma.start;
        }
        // Everything up to the first hole changes, then the call fails.
        let mut covered = start;
        let mut denied = false;
        for vma in inner.vmas.overlapping(start, end) {
            if vma.start > covered {
                break;
            }
            let read_only = vma.flags.contains(VmFlags::SHARED)
                && !vma.flags.contains(VmFlags::MAYWRITE)
                && matches!(vma.backing, Backing::Object { .. });
            if prot.contains(Prot::WRITE) && read_only {
                denied = true;
                break;
            }
            covered = vma.end.min(end);
        }
        if inner.vmas.len() + inner.vmas.splits(start, covered) > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        if covered > start {
            let tables = &self.tables;
            let space = &self.space;
            let mut result = Ok(());
            inner.vmas.update(start, covered, |vma| {
                vma.prot = prot;
                let _guard = tables.lock();
                let r = space.protect(vma.start, vma.end, |page, _| access_after(vma, page.write));
                if r.is_err() {
                    result = r;
                }
            });
            port::flush_remote(&self.space);
            result?;
        }
        match (denied, covered < end) {
            (true, _) => Err(Errno::EACCES),
            (false, true) => Err(Errno::ENOMEM),
            _ => Ok(()),
        }
    }

    /// Sets the break and returns it; on any failure it stays. See brk(2).
    pub fn brk(&self, wanted: u64, limits: &MapLimits) -> u64 {
        let mut inner = self.inner.lock();
        let old = inner.brk;
        if wanted < inner.brk_start || wanted >= self.user_top {
            return old;
        }
        let old_end = old.next_multiple_of(PAGE_SIZE);
        let new_end = wanted.next_multiple_of(PAGE_SIZE);
        if wanted - inner.brk_start > limits.data {
            return old;
        }
        if new_end > old_end {
            let grow = new_end - old_end;
            if !inner.vmas.is_free(old_end, new_end + PAGE_SIZE)
                || inner.vmas.total().saturating_add(grow) > limits.address_space
            {
                return old;
            }
            let flags = VmFlags::HEAP | inner.default_flags;
            inner.vmas.insert(Vma::new(old_end, new_end, Prot::READ | Prot::WRITE, flags, Backing::Anon));
        } else if new_end < old_end && self.unmap_locked(&mut inner, new_end, old_end).is_err() {
            return old;
        }
        inner.brk = wanted;
        wanted
    }

    /// Resizes or moves a mapping. See mremap(2).
    ///
    /// # Errors
    /// EINVAL, EFAULT, ENOMEM.
    pub fn mremap(
        &self,
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        to: u64,
        limits: &MapLimits,
    ) -> Result<u64> {
        let may_move = flags & MREMAP_MAYMOVE != 0;
        let fixed = flags & MREMAP_FIXED != 0;
        let keep = flags & MREMAP_DONTUNMAP != 0;
        if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0
            || ((fixed || keep) && !may_move)
            || (keep && old_len != new_len)
            || !old.is_multiple_of(PAGE_SIZE)
        {
            return Err(Errno::EINVAL);
        }
        let old_len = old_len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        let new_len = new_len.checked_next_multiple_of(PAGE_SIZE).filter(|l| *l != 0).ok_or(Errno::EINVAL)?;
        if new_len > self.user_top {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.inner.lock();
        if fixed {
            let end = to.checked_add(new_len).filter(|e| *e <= self.user_top).ok_or(Errno::EINVAL)?;
            if !to.is_multiple_of(PAGE_SIZE) || (to < old.saturating_add(old_len) && old < end) {
                return Err(Errno::EINVAL);
            }
        }
        let vma = inner.vmas.find(old).cloned().ok_or(Errno::EFAULT)?;
        if old_len == 0 {
            if !vma.flags.contains(VmFlags::SHARED) {
                return Err(Errno::EINVAL);
            }
            return self.remap_copy(&mut inner, &vma, old, new_len, fixed.then_some(to));
        }
        let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if !fixed && !keep && new_len <= old_len {
            if new_len < old_len {
                if old_end > self.user_top {
                    return Err(Errno::EINVAL);
                }
                self.unmap_locked(&mut inner, old + new_len, old_end)?;
            }
            return Ok(old);
        }
        if old_end > vma.end {
            return Err(Errno::EFAULT);
        }
        if new_len > old_len && inner.vmas.total().saturating_add(new_len - old_len) > limits.address_space {
            return Err(Errno::ENOMEM);
        }
        if !fixed && !keep && old_end == vma.end {
            let end = old.checked_add(new_len).filter(|e| *e <= self.user_top);
            if let Some(end) = end
                && inner.vmas.is_free(old_end, end)
            {
                let mut more = vma.clone();
                more.start = old_end;
                more.end = end;
                if let Backing::Object { object, .. } = &vma.backing {
                    more.backing = Backing::Object { object: object.clone(), page: vma.page_of(old_end) };
                }
                if more.flags.contains(VmFlags::LOCKED) {
                    inner.locked += end - old_end;
                }
                inner.vmas.insert(more);
                return Ok(old);
            }
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let moved = old_len.min(new_len);
        if fixed && new_len < old_len {
            self.unmap_locked(&mut inner, old + new_len, old_end)?;
        }
        let placement = if fixed { Placement::Fixed(to) } else { Placement::Hint(if keep { to } else { 0 }) };
        let at = self.place(&mut inner, placement, new_len, vma.flags)?;
        let mut target = vma.clone();
        target.start = at;
        target.end = at + new_len;
        if let Backing::Object { object, .. } = &vma.backing {
            target.backing = Backing::Object { object: object.clone(), page: vma.page_of(old) };
        }
        {
            let _guard = self.tables.lock();
            self.space.relocate(old, at, moved)?;
        }
        // The old translations must be gone everywhere before the program goes on.
        port::synchronize(&self.space);
        if !keep {
            inner.vmas.remove(old, old + moved);
        }
        inner.vmas.insert(target);
        Ok(at)
    }

    /// mremap with an old size of 0: a second mapping of shared pages.
    fn remap_copy(&self, inner: &mut MmInner, vma: &Vma, old: u64, len: u64, to: Option<u64>) -> Result<u64> {
        let placement = to.map_or(Placement::Hint(0), Placement::Fixed);
        let at = self.place(inner, placement, len, vma.flags)?;
        let mut copy = vma.clone();
        copy.start = at;
        copy.end = at + len;
        if let Backing::Object { object, .. } = &vma.backing {
            let object = object.another().unwrap_or_else(|| object.clone());
            copy.backing = Backing::Object { object, page: vma.page_of(old) };
        }
        inner.vmas.insert(copy);
        Ok(at)
    }

    /// All ranges, for /proc/PID/maps.
    pub fn ranges(&self) -> Vec<Vma> {
        self.inner.lock().vmas.iter().cloned().collect()
    }
}
