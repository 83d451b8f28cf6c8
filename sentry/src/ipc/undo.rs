//! What semaphores get back when a process ends: SEM_UNDO of semop(2).

use super::{Charge, sem};
use crate::errno::{Errno, Result};
use crate::sync::SpinLock;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Largest adjustment: SEMAEM.
const SEMAEM: i32 = 32_767;
/// What an adjustment of one semaphore takes of the heap, with its share of the tree's nodes.
const ENTRY_BYTES: usize = 64;

/// The sets that a process has operated on with SEM_UNDO. Tasks share one by CLONE_SYSVSEM.
pub struct UndoList {
    /// Its number: sets keep the adjustments by it.
    pub number: u64,
    sets: SpinLock<BTreeSet<i32>>,
}

impl UndoList {
    /// An empty list.
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { number, sets: SpinLock::new(BTreeSet::new()) })
    }

    /// Notes that a set may hold adjustments for this list.
    pub fn note(&self, set: i32) {
        let mut sets = self.sets.lock();
        if sets.insert(set) && sets.len() > 2 * sem::SETS.len() + 64 {
            // Most of these are gone.
            sets.retain(|id| sem::SETS.find(*id).is_ok());
        }
    }

    /// A task gives the list up; where it was the last, all adjustments are made in the name of `pid`.
    pub fn leave(list: Arc<Self>, pid: u32) {
        let Some(list) = Arc::into_inner(list) else { return };
        let sets: Vec<i32> = list.sets.into_inner().into_iter().collect();
        for id in sets {
            if let Ok(set) = sem::SETS.find(id) {
                set.undo(list.number, pid);
            }
        }
    }
}

struct Entry {
    value: i16,
    _charge: Charge,
}

/// Adjustments of one set, by list and semaphore.
#[derive(Default)]
pub struct Adjustments {
    lists: BTreeMap<u64, BTreeMap<u16, Entry>>,
}

impl Adjustments {
    /// Adds to the adjustment of a semaphore and returns the old one.
    ///
    /// # Errors
    /// ERANGE, ENOMEM.
    pub fn add(&mut self, list: u64, semaphore: u16, change: i32) -> Result<i16> {
        let entries = self.lists.entry(list).or_default();
        let old = entries.get(&semaphore).map_or(0, |e| e.value);
        let value = i32::from(old) + change;
        if !(-SEMAEM - 1..=SEMAEM).contains(&value) {
            return Err(Errno::ERANGE);
        }
        self.set(list, semaphore, value as i16)?;
        Ok(old)
    }

    /// Sets the adjustment of a semaphore.
    ///
    /// # Errors
    /// ENOMEM, never for one that is there or for 0.
    pub fn set(&mut self, list: u64, semaphore: u16, value: i16) -> Result<()> {
        let entries = self.lists.entry(list).or_default();
        if let Some(entry) = entries.get_mut(&semaphore) {
            // An entry stays while its process does, so that taking a change back cannot fail.
            entry.value = value;
        } else if value != 0 {
            entries.insert(semaphore, Entry { value, _charge: Charge::new(ENTRY_BYTES)? });
        }
        Ok(())
    }

    /// Takes a list's adjustments out.
    pub fn take(&mut self, list: u64) -> Vec<(u16, i16)> {
        self.lists
            .remove(&list)
            .map(|l| l.into_iter().map(|(n, e)| (n, e.value)).collect())
            .unwrap_or_default()
    }

    /// SETVAL: no list adjusts this semaphore any more.
    pub fn clear_one(&mut self, semaphore: u16) {
        for entries in self.lists.values_mut() {
            entries.remove(&semaphore);
        }
    }

    /// SETALL, IPC_RMID: no list adjusts anything any more.
    pub fn clear(&mut self) {
        self.lists.clear();
    }
}
