//! Contexts of asynchronous input and output, io_setup(2). Operations are served when they are submitted; their results
//! wait in the context.

use crate::errno::{Errno, Result};
use crate::sync::{Events, SpinLock, WaitQueue};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

/// Most results that all contexts together may hold: /proc/sys/fs/aio-max-nr.
pub const MAX_NR: usize = 65_536;

/// What all contexts together may hold: /proc/sys/fs/aio-nr.
static NR: AtomicUsize = AtomicUsize::new(0);

/// struct io_event: what the program gave with the operation, the address of its iocb, and the result.
pub type Event = [u64; 4];

/// A context.
pub struct Context {
    events: SpinLock<VecDeque<Event>>,
    max: usize,
    queue: WaitQueue,
}

impl Context {
    /// A context for `max` results at a time.
    ///
    /// # Errors
    /// EAGAIN: all contexts together would hold too many; ENOMEM.
    pub fn new(max: usize) -> Result<Arc<Self>> {
        let fits = |nr: usize| nr.checked_add(max).filter(|sum| *sum <= MAX_NR);
        NR.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::EAGAIN)?;
        let this = Arc::new(Self { events: SpinLock::new(VecDeque::new()), max, queue: WaitQueue::new() });
        let mut room = VecDeque::new();
        // So that no result is lost for want of memory. What was counted goes with `this`.
        room.try_reserve_exact(max).map_err(|_| Errno::ENOMEM)?;
        *this.events.lock() = room;
        Ok(this)
    }

    /// Whether another operation may be submitted.
    pub fn has_room(&self) -> bool {
        self.events.lock().len() < self.max
    }

    /// Puts a result in, and wakes who waits for it.
    pub fn complete(&self, event: Event) {
        self.events.lock().push_back(event);
        self.queue.wake(Events::IN);
    }

    /// Results that wait.
    pub fn ready(&self) -> usize {
        self.events.lock().len()
    }

    /// Takes a result.
    pub fn take(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    /// Puts a result back that could not be given.
    pub fn put_back(&self, event: Event) {
        self.events.lock().push_front(event);
    }

    /// Woken when a result comes, or the context goes.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        NR.fetch_sub(self.max, Ordering::Relaxed);
    }
}

/// The contexts of an address space, by their ids.
#[derive(Default)]
pub struct Contexts(SpinLock<BTreeMap<u64, Arc<Context>>>);

impl Contexts {
    /// Adds one.
    pub fn insert(&self, id: u64, context: Arc<Context>) {
        let old = self.0.lock().insert(id, context);
        drop(old);
    }

    /// The context with this id.
    ///
    /// # Errors
    /// EINVAL.
    pub fn get(&self, id: u64) -> Result<Arc<Context>> {
        self.0.lock().get(&id).cloned().ok_or(Errno::EINVAL)
    }

    /// Takes one out; who waits in it is woken.
    ///
    /// # Errors
    /// EINVAL.
    pub fn remove(&self, id: u64) -> Result<()> {
        let context = self.0.lock().remove(&id).ok_or(Errno::EINVAL)?;
        context.queue.wake(Events::IN | Events::HUP);
        Ok(())
    }
}
