//! File locks: flock(2), and the POSIX and OFD locks of fcntl(2).

use crate::errno::{Errno, Result};
use crate::kernel::wait;
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::vec::Vec;

/// Most ranges of one file.
const MAX_RANGES: usize = 65_536;

/// Who holds a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOwner {
    /// A table of descriptors (POSIX), by its number.
    Process(u64),
    /// A description (OFD), by its number.
    Description(u64),
}

/// A lock of a range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeLock {
    /// Holder.
    pub owner: LockOwner,
    /// Process that F_GETLK shows.
    pub pid: u32,
    /// Exclusive.
    pub write: bool,
    /// First byte.
    pub start: u64,
    /// Last byte; `u64::MAX` to the end of the file, however long.
    pub end: u64,
}

impl RangeLock {
    fn overlaps(&self, other: &RangeLock) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &RangeLock) -> bool {
        self.owner != other.owner && (self.write || other.write) && self.overlaps(other)
    }
}

#[derive(Default)]
struct Held {
    ranges: Vec<RangeLock>,
    /// Holders of flock(2) locks: description and whether exclusively.
    whole: Vec<(u64, bool)>,
}

/// Who waits for whom, to find deadlocks of POSIX locks.
static WAITING: SpinLock<Vec<(u64, u64)>> = SpinLock::new(Vec::new());

/// The locks of an inode.
#[derive(Default)]
pub struct FileLocks {
    held: SpinLock<Held>,
    changed: WaitQueue,
}

impl FileLocks {
    /// No locks.
    pub const fn new() -> Self {
        Self {
            held: SpinLock::new(Held { ranges: Vec::new(), whole: Vec::new() }),
            changed: WaitQueue::new(),
        }
    }

    fn try_flock(&self, description: u64, exclusive: bool) -> Option<()> {
        let mut held = self.held.lock();
        if held.whole.iter().any(|(d, x)| *d != description && (*x || exclusive)) {
            return None;
        }
        match held.whole.iter_mut().find(|(d, _)| *d == description) {
            Some(mine) => mine.1 = exclusive,
            None => held.whole.push((description, exclusive)),
        }
        Some(())
    }

    /// Takes or converts a flock(2) lock.
    ///
    /// # Errors
    /// EAGAIN with `wait` unset, EINTR.
    pub fn flock(&self, description: u64, exclusive: bool, wait: bool) -> Result<()> {
        if self.try_flock(description, exclusive).is_some() {
            // A conversion from exclusive to shared may let others in.
            self.changed.wake(Events::IN);
            return Ok(());
        }
        // A conversion is not atomic: the old lock is given up first.
        self.unlock_flock(description);
        if !wait {
            return Err(Errno::EAGAIN);
        }
        Ok(wait::wait_until(&[(&self.changed, Events::IN)], None, || self.try_flock(description, exclusive))?)
    }

    /// Gives a flock(2) lock up.
    pub fn unlock_flock(&self, description: u64) {
        self.held.lock().whole.retain(|(d, _)| *d != description);
        self.changed.wake(Events::IN);
    }

    /// A lock that stands in the way of another.
    pub fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        self.held.lock().ranges.iter().find(|l| l.conflicts(wanted)).copied()
    }

    fn try_range(&self, wanted: &RangeLock) -> Result<(), Option<RangeLock>> {
        let mut held = self.held.lock();
        if let Some(other) = held.ranges.iter().find(|l| l.conflicts(wanted)) {
            return Err(Some(*other));
        }
        if held.ranges.len() >= MAX_RANGES {
            return Err(None);
        }
        cut(&mut held.ranges, wanted.owner, wanted.start, wanted.end);
        // Neighbours of the same kind become one.
        let mut merged = *wanted;
        held.ranges.retain(|l| {
            let same = l.owner == merged.owner && l.write == merged.write;
            let touch =
                same && l.start <= merged.end.saturating_add(1) && merged.start <= l.end.saturating_add(1);
            if touch {
                merged.start = merged.start.min(l.start);
                merged.end = merged.end.max(l.end);
            }
            !touch
        });
        held.ranges.push(merged);
        Ok(())
    }

    /// Takes a lock of a range, in place of what the owner holds there.
    ///
    /// # Errors
    /// EAGAIN with `wait` unset, EINTR, EDEADLK, ENOLCK.
    pub fn lock_range(&self, wanted: &RangeLock, wait: bool) -> Result<()> {
        let try_lock = || match self.try_range(wanted) {
            Ok(()) => Ok(None),
            Err(None) => Err(Errno::ENOLCK),
            Err(Some(other)) => Ok(Some(other)),
        };
        let Some(mut blocker) = try_lock()? else {
            self.changed.wake(Events::IN);
            return Ok(());
        };
        if !wait {
            return Err(Errno::EAGAIN);
        }
        let waiter = match wanted.owner {
            LockOwner::Process(id) => Some(id),
            LockOwner::Description(_) => None,
        };
        let result = wait::wait_until(&[(&self.changed, Events::IN)], None, || {
            if let (Some(me), LockOwner::Process(other)) = (waiter, blocker.owner)
                && !note_waiting(me, other)
            {
                return Some(Err(Errno::EDEADLK));
            }
            match try_lock() {
                Ok(None) => Some(Ok(())),
                Ok(Some(other)) => {
                    blocker = other;
                    None
                }
                Err(e) => Some(Err(e)),
            }
        });
        if let Some(me) = waiter {
            WAITING.lock().retain(|(w, _)| *w != me);
        }
        result?
    }

    /// Gives a range up.
    pub fn unlock_range(&self, owner: LockOwner, start: u64, end: u64) {
        cut(&mut self.held.lock().ranges, owner, start, end);
        self.changed.wake(Events::IN);
    }

    /// Gives up all POSIX locks of a process.
    pub fn release_owner(&self, table: u64) {
        let mut held = self.held.lock();
        if held.ranges.is_empty() {
            return;
        }
        held.ranges.retain(|l| l.owner != LockOwner::Process(table));
        drop(held);
        self.changed.wake(Events::IN);
    }

    /// Gives up all locks of a description.
    pub fn release_description(&self, id: u64) {
        {
            let mut held = self.held.lock();
            held.whole.retain(|(d, _)| *d != id);
            held.ranges.retain(|l| l.owner != LockOwner::Description(id));
        }
        self.changed.wake(Events::IN);
    }
}

/// Takes a range out of an owner's locks, splitting what it cuts.
fn cut(ranges: &mut Vec<RangeLock>, owner: LockOwner, start: u64, end: u64) {
    let mut pieces: Vec<RangeLock> = Vec::new();
    ranges.retain(|l| {
        if l.owner != owner || l.start > end || l.end < start {
            return true;
        }
        if l.start < start {
            pieces.push(RangeLock { end: start - 1, ..*l });
        }
        if l.end > end {
            pieces.push(RangeLock { start: end + 1, ..*l });
        }
        false
    });
    ranges.extend(pieces);
}

/// Notes that one process waits for another; `false` where that closes a circle.
fn note_waiting(me: u64, other: u64) -> bool {
    let mut waiting = WAITING.lock();
    let mut at = other;
    for _ in 0..64 {
        if at == me {
            return false;
        }
        match waiting.iter().find(|(w, _)| *w == at) {
            Some((_, next)) => at = *next,
            None => break,
        }
    }
    match waiting.iter_mut().find(|(w, _)| *w == me) {
        Some(entry) => entry.1 = other,
        None => waiting.push((me, other)),
    }
    true
}
