//! Queues of those who wait for something.

use super::{Events, SpinLock};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use smallvec::SmallVec;

/// What can be woken: a task, or an epoll instance that watches a file.
pub trait Wake: Send + Sync {
    /// Called without the queue's lock held. May come late, and for nothing.
    fn wake(&self, events: Events);
}

/// Names an entry of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryId(u64);

struct Entry {
    id: EntryId,
    interest: Events,
    exclusive: bool,
    waker: Arc<dyn Wake>,
}

/// Those who wait for a change of one object.
pub struct WaitQueue {
    count: AtomicUsize,
    entries: SpinLock<SmallVec<[Entry; 1]>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { count: AtomicUsize::new(0), entries: SpinLock::new(SmallVec::new_const()) }
    }

    /// Adds a waker for any of `interest` (ERR and HUP always count). An exclusive one is woken alone.
    pub fn add(&self, waker: Arc<dyn Wake>, interest: Events, exclusive: bool) -> EntryId {
        let id = EntryId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let mut entries = self.entries.lock();
        entries.push(Entry { id, interest: interest | Events::ERR | Events::HUP, exclusive, waker });
        self.count.store(entries.len(), Ordering::SeqCst);
        id
    }

    /// Takes an entry out; one that is gone already is no error.
    pub fn remove(&self, id: EntryId) {
        let mut entries = self.entries.lock();
        if let Some(at) = entries.iter().position(|e| e.id == id) {
            // Order is kept: exclusive waiters are served first come, first served.
            let removed = entries.remove(at);
            self.count.store(entries.len(), Ordering::SeqCst);
            drop(entries);
            drop(removed);
        }
    }

    /// Wakes every waiter interested in `events`, and one exclusive one.
    #[inline]
    pub fn wake(&self, events: Events) {
        // The object's state was changed before this: a waiter adds itself before it looks at the state.
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) != 0 {
            self.wake_slow(events, 1);
        }
    }

    /// Wakes the first waiter only, and rotates it to the end.
    pub fn wake_one(&self, events: Events) {
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waker = {
            let mut entries = self.entries.lock();
            let Some(at) = entries.iter().position(|e| e.interest.intersects(events)) else { return };
            let entry = entries.remove(at);
            let waker = entry.waker.clone();
            entries.push(entry);
            waker
        };
        waker.wake(events);
    }

    #[cold]
    fn wake_slow(&self, events: Events, exclusive: usize) {
        let mut wakers: SmallVec<[Arc<dyn Wake>; 4]> = SmallVec::new();
        {
            let mut left = exclusive;
            for entry in self.entries.lock().iter() {
                if !entry.interest.intersects(events) {
                    continue;
                }
                if entry.exclusive {
                    if left == 0 {
                        continue;
                    }
                    left -= 1;
                }
                wakers.push(entry.waker.clone());
            }
        }
        for waker in wakers {
            waker.wake(events);
        }
    }

    /// Whether anyone waits.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "WaitQueue({})", self.count.load(Ordering::Relaxed))
    }
}
