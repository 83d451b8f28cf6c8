//! madvise(2), mincore(2), mlock(2), msync(2).

use super::fault::AccessKind;
use super::map::{MAX_MAP_COUNT, MapLimits};
use super::space::Mm;
use super::vma::{Backing, Prot, VmFlags, Vma};
use crate::errno::{Errno, Result};
use abi::PAGE_SIZE;
use alloc::vec::Vec;
use linux_raw_sys::general as c;

impl Mm {
    fn range(&self, start: u64, len: u64) -> Result<u64> {
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        len.checked_next_multiple_of(PAGE_SIZE).and_then(|l| start.checked_add(l)).ok_or(Errno::EINVAL)
    }

    /// Ranges that cover `start..end`, and whether they do so without holes.
    fn covering(&self, start: u64, end: u64) -> (Vec<Vma>, bool) {
        let inner = self.inner.lock();
        let mut at = start;
        let mut whole = true;
        let mut found = Vec::new();
        for vma in inner.vmas.overlapping(start, end) {
            whole &= vma.start <= at;
            at = vma.end;
            found.push(vma.clone());
        }
        (found, whole && at >= end)
    }

    /// Takes advice about a range.
    ///
    /// # Errors
    /// EINVAL (advice, alignment), ENOMEM (holes), EBADF, EPERM.
    pub fn madvise(&self, start: u64, len: u64, advice: u32) -> Result<()> {
        let end = self.range(start, len)?;
        let known = matches!(
            advice,
            c::MADV_NORMAL
                | c::MADV_RANDOM
                | c::MADV_SEQUENTIAL
                | c::MADV_WILLNEED
                | c::MADV_DONTNEED
                | c::MADV_FREE
                | c::MADV_REMOVE
                | c::MADV_DONTFORK
                | c::MADV_DOFORK
                | c::MADV_WIPEONFORK
                | c::MADV_KEEPONFORK
                | c::MADV_HUGEPAGE
                | c::MADV_NOHUGEPAGE
                | c::MADV_MERGEABLE
                | c::MADV_UNMERGEABLE
                | c::MADV_DONTDUMP
                | c::MADV_DODUMP
                | c::MADV_COLD
                | c::MADV_PAGEOUT
                | c::MADV_POPULATE_READ
                | c::MADV_POPULATE_WRITE
                | c::MADV_DONTNEED_LOCKED
        );
        if !known {
            return Err(Errno::EINVAL);
        }
        if end == start {
            return Ok(());
        }
        let (ranges, whole) = self.covering(start, end);
        match advice {
            c::MADV_DONTNEED | c::MADV_FREE | c::MADV_DONTNEED_LOCKED => {
                for vma in &ranges {
                    if vma.flags.contains(VmFlags::LOCKED) && advice != c::MADV_DONTNEED_LOCKED {
                        return Err(Errno::EINVAL);
                    }
                    if advice == c::MADV_FREE {
                        // Freeing at once is allowed: the contents may vanish at any time.
                        if !matches!(vma.backing, Backing::Anon) {
                            return Err(Errno::EINVAL);
                        }
                    }
                    self.zap(vma.start.max(start), vma.end.min(end))?;
                }
            }
            c::MADV_REMOVE => return Err(Errno::EOPNOTSUPP),
            c::MADV_DONTFORK => self.flag(start, end, VmFlags::DONTFORK, true)?,
            c::MADV_DOFORK => self.flag(start, end, VmFlags::DONTFORK, false)?,
            c::MADV_WIPEONFORK => {
                if ranges.iter().any(|v| !matches!(v.backing, Backing::Anon)) {
                    return Err(Errno::EINVAL);
                }
                self.flag(start, end, VmFlags::WIPEONFORK, true)?;
            }
            c::MADV_KEEPONFORK => self.flag(start, end, VmFlags::WIPEONFORK, false)?,
            c::MADV_HUGEPAGE => {
                self.flag(start, end, VmFlags::HUGE, true)?;
                self.flag(start, end, VmFlags::NOHUGE, false)?;
            }
            c::MADV_NOHUGEPAGE => {
                self.flag(start, end, VmFlags::NOHUGE, true)?;
                self.flag(start, end, VmFlags::HUGE, false)?;
            }
            c::MADV_DONTDUMP => self.flag(start, end, VmFlags::DONTDUMP, true)?,
            c::MADV_DODUMP => self.flag(start, end, VmFlags::DONTDUMP, false)?,
            c::MADV_POPULATE_READ | c::MADV_POPULATE_WRITE => {
                let kind =
                    if advice == c::MADV_POPULATE_WRITE { AccessKind::Write } else { AccessKind::Read };
                for vma in &ranges {
                    self.populate(vma.start.max(start), vma.end.min(end), kind)?;
                }
            }
            // Hints about when pages are wanted change nothing that can be seen.
            _ => {}
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    fn flag(&self, start: u64, end: u64, flag: VmFlags, on: bool) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.vmas.len() + inner.vmas.splits(start, end) > MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        inner.vmas.update(start, end, |vma| vma.flags.set(flag, on));
        drop(inner);
        Ok(())
    }

    /// Faults a range in.
    ///
    /// # Errors
    /// EFAULT, ENOMEM.
    pub fn populate(&self, start: u64, end: u64, kind: AccessKind) -> Result<()> {
        let mut at = start;
        while at < end {
            self.fault(at, kind).map_err(|e| match e {
                super::FaultError::NoMemory => Errno::ENOMEM,
                _ => Errno::EFAULT,
            })?;
            at += PAGE_SIZE;
        }
        Ok(())
    }

    /// Residency of each page, for mincore(2).
    ///
    /// # Errors
    /// EINVAL, ENOMEM.
    pub fn mincore(&self, start: u64, len: u64) -> Result<Vec<u8>> {
        let end = self.range(start, len)?;
        let (_, whole) = self.covering(start, end);
        if !whole && end != start {
            return Err(Errno::ENOMEM);
        }
        let _guard = self.tables.lock();
        let mut out = Vec::new();
        let mut at = start;
        while at < end {
            out.push(u8::from(self.space.lookup(at).is_some()));
            at += PAGE_SIZE;
        }
        Ok(out)
    }

    /// Locks or unlocks a range: pages never leave memory here, so locking is faulting in and accounting.
    ///
    /// # Errors
    /// EINVAL, ENOMEM, EAGAIN.
    pub fn mlock(&self, start: u64, len: u64, lock: bool, on_fault: bool, limits: &MapLimits) -> Result<()> {
        let offset = start % PAGE_SIZE;
        let start = start - offset;
        let end = self.range(start, len.checked_add(offset).ok_or(Errno::EINVAL)?)?;
        if end == start {
            return Ok(());
        }
        let (ranges, whole) = self.covering(start, end);
        {
            let mut inner = self.inner.lock();
            let mut change = 0;
            for vma in &ranges {
                if vma.flags.contains(VmFlags::LOCKED) != lock {
                    change += vma.end.min(end) - vma.start.max(start);
                }
            }
            if inner.vmas.len() + inner.vmas.splits(start, end) > MAX_MAP_COUNT {
                return Err(Errno::ENOMEM);
            }
            if lock {
                if inner.locked.saturating_add(change) > limits.memlock {
                    return Err(Errno::ENOMEM);
                }
                inner.locked += change;
            } else {
                inner.locked = inner.locked.saturating_sub(change);
            }
        }
        self.flag(start, end, VmFlags::LOCKED, lock)?;
        if !whole {
            return Err(Errno::ENOMEM);
        }
        if lock && !on_fault {
            for vma in &ranges {
                if vma.prot.is_empty() {
                    return Err(Errno::ENOMEM);
                }
                let writable = vma.prot.contains(Prot::WRITE) && !vma.flags.contains(VmFlags::SHARED);
                let kind = if writable { AccessKind::Write } else { AccessKind::Read };
                self.populate(vma.start.max(start), vma.end.min(end), kind).map_err(|_| Errno::ENOMEM)?;
            }
        }
        Ok(())
    }

    /// Locks or unlocks everything: mlockall(2) and munlockall(2).
    ///
    /// # Errors
    /// ENOMEM.
    pub fn mlockall(&self, current: bool, future: bool, limits: &MapLimits) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.default_flags.set(VmFlags::LOCKED, future);
        let total = inner.vmas.total();
        if current && total > limits.memlock {
            return Err(Errno::ENOMEM);
        }
        inner.locked = if current { total } else { 0 };
        let top = self.user_top;
        if current || !future {
            inner.vmas.update(0, top, |vma| vma.flags.set(VmFlags::LOCKED, current));
        }
        Ok(())
    }

    /// msync(2): objects that are kept elsewhere write what was stored.
    ///
    /// # Errors
    /// EINVAL, ENOMEM, EBUSY, and what the objects say.
    pub fn msync(&self, start: u64, len: u64, flags: u32) -> Result<()> {
        let both = c::MS_SYNC | c::MS_ASYNC;
        if flags & !(both | c::MS_INVALIDATE) != 0 || flags & both == both {
            return Err(Errno::EINVAL);
        }
        let end = len
            .checked_next_multiple_of(PAGE_SIZE)
            .and_then(|l| start.checked_add(l))
            .ok_or(Errno::ENOMEM)?;
        if !start.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let (ranges, whole) = self.covering(start, end);
        if flags & c::MS_INVALIDATE != 0 && ranges.iter().any(|v| v.flags.contains(VmFlags::LOCKED)) {
            return Err(Errno::EBUSY);
        }
        for vma in ranges.iter().filter(|v| v.flags.contains(VmFlags::SHARED)) {
            if let Backing::Object { object, .. } = &vma.backing {
                let (first, last) = (start.max(vma.start), end.min(vma.end));
                let pages = vma.page_of(first)..vma.page_of(first) + (last - first) / PAGE_SIZE;
                object.write_back(pages, flags & c::MS_SYNC != 0)?;
            }
        }
        if whole || end == start { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}
