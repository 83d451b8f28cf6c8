//! Tables of objects by id and by key.

use super::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, Perm};
use crate::errno::{Errno, Result};
use crate::kernel::cred::Cred;
use crate::sync::SpinLock;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bits of an id that are the place in the table; above them is its generation.
const INDEX_BITS: u32 = 15;
/// Most objects of a kind.
pub const MAX_OBJECTS: u64 = 1 << INDEX_BITS;
/// Places that are used one after the other before the first is used again.
const CYCLE: u32 = 64;

/// Generation part of an id.
pub fn sequence(id: i32) -> u16 {
    (id >> INDEX_BITS) as u16
}

/// What a table holds.
pub trait Object {
    /// Owner and permissions.
    fn perm(&self) -> Perm;
}

/// An object with its id.
pub type Found<T> = (i32, Arc<T>);

/// A table.
pub struct Ids<T> {
    inner: SpinLock<Inner<T>>,
}

struct Inner<T> {
    slots: BTreeMap<u32, Found<T>>,
    keys: BTreeMap<i32, u32>,
    last: Option<u32>,
    seq: u16,
}

impl<T: Object> Ids<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Self {
            inner: SpinLock::new(Inner { slots: BTreeMap::new(), keys: BTreeMap::new(), last: None, seq: 0 }),
        }
    }

    /// The object with an id.
    ///
    /// # Errors
    /// EINVAL.
    pub fn find(&self, id: i32) -> Result<Arc<T>> {
        let index = id as u32 & ((1 << INDEX_BITS) - 1);
        let inner = self.inner.lock();
        inner.slots.get(&index).filter(|s| s.0 == id).map(|s| s.1.clone()).ok_or(Errno::EINVAL)
    }

    /// The object at a place of the table, for SEM_STAT and its like.
    ///
    /// # Errors
    /// EINVAL.
    pub fn at(&self, index: i32) -> Result<Found<T>> {
        let index = u32::try_from(index).map_err(|_| Errno::EINVAL)? & ((1 << INDEX_BITS) - 1);
        self.inner.lock().slots.get(&index).cloned().ok_or(Errno::EINVAL)
    }

    /// shmget(2) and its like: the id of the object with a key, or of a new one that `make` makes for an id. `fits`
    /// checks an object that is there already.
    ///
    /// # Errors
    /// ENOENT, EEXIST, EACCES, ENOSPC where there are `max` objects, and those of `make` and `fits`.
    pub fn get(
        &self,
        key: i32,
        flags: u32,
        max: u64,
        cred: &Cred,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(i32) -> Result<T>,
    ) -> Result<i32> {
        let mut inner = self.inner.lock();
        let found =
            if key == IPC_PRIVATE { None } else { inner.keys.get(&key).and_then(|i| inner.slots.get(i)) };
        if let Some((id, object)) = found {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            fits(object)?;
            object.perm().check(cred, flags & 0o777)?;
            return Ok(*id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let (index, seq) = inner.place(max)?;
        let id = (u32::from(seq) << INDEX_BITS | index) as i32;
        let object = Arc::new(make(id)?);
        inner.last = Some(index);
        inner.seq = seq;
        inner.slots.insert(index, (id, object));
        if key != IPC_PRIVATE {
            inner.keys.insert(key, index);
        }
        Ok(id)
    }

    /// The object is not found by its key any more.
    pub fn hide(&self, key: i32) {
        self.inner.lock().keys.remove(&key);
    }

    /// Takes an object out of the table.
    pub fn remove(&self, id: i32, key: i32) {
        let index = id as u32 & ((1 << INDEX_BITS) - 1);
        let removed = {
            let mut inner = self.inner.lock();
            if inner.slots.get(&index).is_none_or(|s| s.0 != id) {
                return;
            }
            if inner.keys.get(&key) == Some(&index) {
                inner.keys.remove(&key);
            }
            inner.slots.remove(&index)
        };
        drop(removed);
    }

    /// All objects with their ids.
    pub fn all(&self) -> Vec<Found<T>> {
        self.inner.lock().slots.values().cloned().collect()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.inner.lock().slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Highest place in use, 0 where there is none: what IPC_INFO returns.
    pub fn max_index(&self) -> u64 {
        self.inner.lock().slots.last_key_value().map_or(0, |(index, _)| u64::from(*index))
    }
}

impl<T: Object> Default for Ids<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Inner<T> {
    /// A free place and its generation. Places go round, so that an id is not used again soon.
    fn place(&self, max: u64) -> Result<(u32, u16)> {
        let used = self.slots.len() as u64;
        if used >= max.min(MAX_OBJECTS) {
            return Err(Errno::ENOSPC);
        }
        let range = (used as u32 * 3 / 2).max(CYCLE).min(max.min(MAX_OBJECTS) as u32);
        let from = self.last.map_or(0, |last| last + 1);
        let free = |range: core::ops::Range<u32>| range.into_iter().find(|i| !self.slots.contains_key(i));
        let index = free(from..range).or_else(|| free(0..range)).or_else(|| free(0..1 << INDEX_BITS));
        let index = index.ok_or(Errno::ENOSPC)?;
        let wrapped = self.last.is_some_and(|last| index <= last);
        Ok((index, if wrapped { self.seq.wrapping_add(1) } else { self.seq }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Perm);
    impl Object for Thing {
        fn perm(&self) -> Perm {
            self.0
        }
    }

    fn get(ids: &Ids<Thing>, key: i32, flags: u32, max: u64) -> Result<i32> {
        let cred = Cred::root();
        ids.get(key, flags, max, &cred, |_| Ok(()), |id| Ok(Thing(Perm::new(key, id, &cred, flags))))
    }

    #[test]
    fn ids_are_not_used_again_soon_and_old_ones_are_not_found() {
        let ids = Ids::new();
        let first = get(&ids, 0, 0, 4096).unwrap();
        ids.remove(first, 0);
        let second = get(&ids, 0, 0, 4096).unwrap();
        assert_ne!(first, second);
        for _ in 0..200 {
            let id = get(&ids, 0, 0, 4096).unwrap();
            ids.remove(id, 0);
            assert_ne!(id, first);
            assert!(ids.find(id).is_err());
        }
        assert!(ids.find(second).is_ok() && ids.find(first).is_err());
    }

    #[test]
    fn keys_lead_to_one_object_until_it_is_hidden() {
        let ids = Ids::new();
        assert_eq!(get(&ids, 7, 0o600, 10), Err(Errno::ENOENT));
        let id = get(&ids, 7, IPC_CREAT | 0o600, 10).unwrap();
        assert_eq!(get(&ids, 7, 0o600, 10), Ok(id));
        assert_eq!(get(&ids, 7, IPC_CREAT | IPC_EXCL, 10), Err(Errno::EEXIST));
        ids.hide(7);
        assert_eq!(get(&ids, 7, 0, 10), Err(Errno::ENOENT));
        let other = get(&ids, 7, IPC_CREAT, 10).unwrap();
        assert_ne!(id, other);
        ids.remove(id, 7);
        assert_eq!(get(&ids, 7, 0, 10), Ok(other));
    }

    #[test]
    fn the_limit_holds() {
        let ids = Ids::new();
        for _ in 0..3 {
            get(&ids, 0, 0, 3).unwrap();
        }
        assert_eq!(get(&ids, 0, 0, 3), Err(Errno::ENOSPC));
    }
}
