//! Tables of file descriptors.

use super::file::OpenFile;
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use smallvec::SmallVec;

/// Highest limit, /proc/sys/fs/nr_open.
pub const NR_OPEN: usize = 1 << 20;
/// Descriptors that are closed at a time.
const AT_A_TIME: usize = 32;

#[derive(Clone)]
struct Slot {
    file: Arc<OpenFile>,
    cloexec: bool,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// No descriptor below this is free.
    first_free: usize,
}

impl Slots {
    fn lowest_free(&self, from: usize) -> usize {
        let from = from.max(self.first_free);
        self.slots
            .get(from..)
            .and_then(|s| s.iter().position(Option::is_none))
            .map_or(self.slots.len().max(from), |at| from + at)
    }

    fn put(&mut self, fd: usize, slot: Slot) -> Result<Option<Slot>> {
        if fd >= self.slots.len() {
            self.slots.try_reserve(fd + 1 - self.slots.len()).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(fd + 1, || None);
        }
        let place = self.slots.get_mut(fd).ok_or(Errno::EBADF)?;
        let old = place.replace(slot);
        if fd == self.first_free {
            self.first_free = fd + 1;
        }
        Ok(old)
    }

    fn remove(&mut self, fd: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(fd)?.take()?;
        self.first_free = self.first_free.min(fd);
        Some(slot)
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The descriptors of a process.
pub struct FdTable {
    /// Unique number: the owner of POSIX locks.
    pub id: u64,
    slots: SpinLock<Slots>,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    /// An empty table.
    pub fn new() -> Self {
        Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), slots: SpinLock::new(Slots::default()) }
    }

    /// A copy, for fork(2).
    ///
    /// # Errors
    /// ENOMEM.
    pub fn fork(&self) -> Result<Arc<Self>> {
        let mut copy = Slots::default();
        {
            let slots = self.slots.lock();
            let used = slots.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            copy.slots.try_reserve_exact(used).map_err(|_| Errno::ENOMEM)?;
            copy.slots.extend(slots.slots.iter().take(used).cloned());
            copy.first_free = slots.first_free.min(used);
        }
        Ok(Arc::new(Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), slots: SpinLock::new(copy) }))
    }

    /// Whether a description could be installed: to be asked before anything is made that would have to be undone.
    ///
    /// # Errors
    /// EMFILE.
    pub fn check_room(&self, limit: u64) -> Result<()> {
        let fd = self.slots.lock().lowest_free(0);
        if fd as u64 >= limit || fd >= NR_OPEN { Err(Errno::EMFILE) } else { Ok(()) }
    }

    /// The description behind a descriptor, O_PATH ones too.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn get_any(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        match self.slots.lock().slots.get(fd) {
            Some(Some(slot)) => Ok(slot.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// The description behind a descriptor that is not O_PATH.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let file = self.get_any(fd)?;
        if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// Installs a description at the lowest free descriptor from `from` on, below `limit` (RLIMIT_NOFILE).
    ///
    /// # Errors
    /// EMFILE, ENOMEM.
    pub fn install_from(&self, file: Arc<OpenFile>, cloexec: bool, from: usize, limit: u64) -> Result<i32> {
        let mut slots = self.slots.lock();
        let fd = slots.lowest_free(from);
        if fd as u64 >= limit || fd >= NR_OPEN {
            drop(slots);
            return Err(Errno::EMFILE);
        }
        slots.put(fd, Slot { file, cloexec })?;
        i32::try_from(fd).map_err(|_| Errno::EMFILE)
    }

    /// Installs a description at the lowest free descriptor.
    ///
    /// # Errors
    /// As [`FdTable::install_from`].
    pub fn install(&self, file: Arc<OpenFile>, cloexec: bool, limit: u64) -> Result<i32> {
        self.install_from(file, cloexec, 0, limit)
    }

    /// Installs a description at a descriptor, in place of what is there (dup2(2)); returns that.
    ///
    /// # Errors
    /// EBADF beyond the limit.
    pub fn install_at(
        &self,
        fd: i32,
        file: Arc<OpenFile>,
        cloexec: bool,
        limit: u64,
    ) -> Result<Option<Arc<OpenFile>>> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        if fd as u64 >= limit || fd >= NR_OPEN {
            return Err(Errno::EBADF);
        }
        let old = self.slots.lock().put(fd, Slot { file, cloexec })?;
        Ok(old.map(|s| self.closed(s.file)))
    }

    /// POSIX locks go with any descriptor of the file that the process closes, and so does what objects keep for it.
    fn closed(&self, file: Arc<OpenFile>) -> Arc<OpenFile> {
        if let Some(extra) = file.extra() {
            extra.locks.release_owner(self.id);
        }
        file.ops().closed(&file);
        file
    }

    /// Closes a descriptor; the description goes when the result is dropped.
    ///
    /// # Errors
    /// EBADF.
    pub fn close(&self, fd: i32) -> Result<Arc<OpenFile>> {
        let at = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = self.slots.lock().remove(at).ok_or(Errno::EBADF)?;
        Ok(self.closed(slot.file))
    }

    /// Closes a range of descriptors, both ends included, or marks it close-on-exec; close_range(2).
    pub fn close_range(&self, first: u32, last: u32, cloexec: bool) {
        if !cloexec {
            return self.close_if(first as usize, last as usize, |_| true);
        }
        let mut slots = self.slots.lock();
        let end = (last as usize).saturating_add(1).min(slots.slots.len());
        for slot in slots.slots.get_mut(first as usize..end).into_iter().flatten().flatten() {
            slot.cloexec = true;
        }
    }

    /// Closes those of a range, both ends included. A few at a time: how many there are is up to programs, and what
    /// closes them may be the end of a process for want of memory.
    fn close_if(&self, first: usize, last: usize, wanted: impl Fn(&Slot) -> bool) {
        let mut next = first;
        loop {
            let mut gone: SmallVec<[Slot; AT_A_TIME]> = SmallVec::new();
            {
                let mut slots = self.slots.lock();
                let end = last.saturating_add(1).min(slots.slots.len());
                while next < end && gone.len() < AT_A_TIME {
                    if slots.slots.get(next).and_then(Option::as_ref).is_some_and(&wanted) {
                        gone.extend(slots.remove(next));
                    }
                    next += 1;
                }
            }
            if gone.is_empty() {
                return;
            }
            for slot in gone {
                self.closed(slot.file);
            }
        }
    }

    /// Closes what execve(2) closes.
    pub fn close_on_exec(&self) {
        self.close_if(0, usize::MAX, |slot| slot.cloexec);
    }

    /// Close-on-exec of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn cloexec(&self, fd: i32) -> Result<bool> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        self.slots.lock().slots.get(fd).and_then(Option::as_ref).map(|s| s.cloexec).ok_or(Errno::EBADF)
    }

    /// Sets close-on-exec of a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_cloexec(&self, fd: i32, on: bool) -> Result<()> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        let slot = slots.slots.get_mut(fd).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.cloexec = on;
        Ok(())
    }

    /// Open descriptors, in order.
    pub fn list(&self) -> Vec<i32> {
        let slots = self.slots.lock();
        slots
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_some())
            .filter_map(|(i, _)| i32::try_from(i).ok())
            .collect()
    }

    /// Length of the table, FDSize of /proc/PID/status.
    pub fn capacity(&self) -> usize {
        self.slots.lock().slots.len().next_multiple_of(64)
    }

    /// Closes everything: the last task that has the table exits. (Dropping the table does the same.)
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX, false);
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        self.close_all();
    }
}
