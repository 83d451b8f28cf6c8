//! A spinning lock.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Turns of the loop before the rest of the time slice is given up: the holder's vCPU may be off its CPU.
const SPINS: u32 = 4000;

/// Mutual exclusion by spinning; for sections that never block.
pub struct SpinLock<T: ?Sized> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands out its value to one holder at a time.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock around a value.
    pub const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> SpinGuard<'_, T> {
        if self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow();
        }
        SpinGuard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinGuard<'_, T>> {
        self.locked
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(SpinGuard { lock: self })
    }

    #[cold]
    fn lock_slow(&self) {
        let mut turns = 0;
        let start = crate::time::monotonic_ns();
        loop {
            while self.locked.load(Ordering::Relaxed) {
                core::hint::spin_loop();
                turns += 1;
                if turns == SPINS {
                    turns = 0;
                    crate::arch::relax();
                    stuck(start, "a spinning lock");
                }
            }
            if self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// The value, through exclusive access to the lock itself.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for SpinLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + core::fmt::Debug> core::fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.try_lock() {
            Some(guard) => guard.fmt(f),
            None => f.write_str("<locked>"),
        }
    }
}

/// How long a wait for another vCPU may take before it is told of, ns: the host may be busy, or was stopped.
const LATE_NS: u64 = 10 * crate::time::NS;
/// How long before it is taken for a bug: better a message than a silent loop.
const STUCK_NS: u64 = 300 * crate::time::NS;

/// Called now and then by those who wait for another vCPU since `start`.
pub fn stuck(start: u64, what: &str) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    let now = crate::time::monotonic_ns();
    let waited = now.saturating_sub(start);
    assert!(waited < STUCK_NS, "stuck at {what}");
    if waited > LATE_NS && now.saturating_sub(TOLD.load(Ordering::Relaxed)) > LATE_NS {
        TOLD.store(now, Ordering::Relaxed);
        crate::warn!("a vCPU waits for {what} since {} s", waited / crate::time::NS);
    }
}

/// Holds a [`SpinLock`] until it is dropped.
#[clippy::has_significant_drop]
pub struct SpinGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
}

impl<T: ?Sized> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.locked.store(false, Ordering::Release);
    }
}
