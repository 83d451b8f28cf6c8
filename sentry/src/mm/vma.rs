//! Ranges of an address space with one set of rights and one backing.

use super::object::Mappable;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

bitflags::bitflags! {
    /// PROT_* of mmap(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Prot: u32 {
        /// PROT_READ
        const READ = 1;
        /// PROT_WRITE
        const WRITE = 2;
        /// PROT_EXEC
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// Properties of a range.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct VmFlags: u32 {
        /// MAP_SHARED
        const SHARED = 1;
        /// MAP_GROWSDOWN: the stack.
        const GROWSDOWN = 1 << 1;
        /// mlock(2)
        const LOCKED = 1 << 2;
        /// MADV_DONTFORK
        const DONTFORK = 1 << 3;
        /// MADV_WIPEONFORK
        const WIPEONFORK = 1 << 4;
        /// MADV_NOHUGEPAGE
        const NOHUGE = 1 << 5;
        /// MADV_HUGEPAGE
        const HUGE = 1 << 6;
        /// The break area.
        const HEAP = 1 << 7;
        /// The vDSO.
        const VDSO = 1 << 8;
        /// The data page of the vDSO.
        const VVAR = 1 << 9;
        /// The file was opened for writing, so a shared mapping may become writable.
        const MAYWRITE = 1 << 10;
        /// MADV_DONTDUMP
        const DONTDUMP = 1 << 11;
        /// The initial stack.
        const STACK = 1 << 12;
    }
}

/// What a range shows.
#[derive(Clone)]
pub enum Backing {
    /// Private zeros.
    Anon,
    /// Pages of an object from `page` on.
    Object {
        /// The object.
        object: Arc<dyn Mappable>,
        /// Its page at the start of the range.
        page: u64,
    },
}

impl Backing {
    fn continues(&self, len: u64, next: &Backing) -> bool {
        match (self, next) {
            (Backing::Anon, Backing::Anon) => true,
            (Backing::Object { object: a, page: p }, Backing::Object { object: b, page: q }) => {
                core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b)) && p + len / abi::PAGE_SIZE == *q
            }
            _ => false,
        }
    }

    fn at(&self, offset: u64) -> Backing {
        match self {
            Backing::Anon => Backing::Anon,
            Backing::Object { object, page } => {
                let object = object.another().unwrap_or_else(|| object.clone());
                Backing::Object { object, page: page + offset / abi::PAGE_SIZE }
            }
        }
    }
}

/// A range. Addresses are page-aligned.
#[derive(Clone)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// End, exclusive.
    pub end: u64,
    /// Rights.
    pub prot: Prot,
    /// Properties.
    pub flags: VmFlags,
    /// What it shows.
    pub backing: Backing,
    /// Address after the last fault window: the next fault there doubles the window.
    pub fault_next: u64,
    /// Pages of the last fault window.
    pub fault_window: u32,
    /// Name given by PR_SET_VMA.
    pub name: Option<Arc<[u8]>>,
}

impl Vma {
    /// A new range.
    pub fn new(start: u64, end: u64, prot: Prot, flags: VmFlags, backing: Backing) -> Self {
        Self { start, end, prot, flags, backing, fault_next: 0, fault_window: 0, name: None }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no bytes (it never has).
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Page of the object that an address shows.
    pub fn page_of(&self, address: u64) -> u64 {
        match &self.backing {
            Backing::Anon => 0,
            Backing::Object { page, .. } => page + (address - self.start) / abi::PAGE_SIZE,
        }
    }
}

/// The ranges of an address space, by their start.
#[derive(Default)]
pub struct VmaSet {
    map: BTreeMap<u64, Vma>,
}

impl VmaSet {
    /// The range that holds an address.
    pub fn find(&self, address: u64) -> Option<&Vma> {
        self.map.range(..=address).next_back().map(|(_, v)| v).filter(|v| address < v.end)
    }

    /// As [`VmaSet::find`], to change what does not move the range.
    pub fn find_mut(&mut self, address: u64) -> Option<&mut Vma> {
        self.map.range_mut(..=address).next_back().map(|(_, v)| v).filter(|v| address < v.end)
    }

    /// The first range that ends after an address.
    pub fn next(&self, address: u64) -> Option<&Vma> {
        self.find(address).or_else(|| self.map.range(address..).next().map(|(_, v)| v))
    }

    /// The last range that begins before an address.
    pub fn previous(&self, address: u64) -> Option<&Vma> {
        self.map.range(..address).next_back().map(|(_, v)| v)
    }

    /// All ranges in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Ranges that share an address with `start..end`.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |v| v.start);
        self.map.range(first..end).map(|(_, v)| v)
    }

    /// Makes `address` a boundary between ranges.
    fn split_at(&mut self, address: u64) {
        let Some(vma) = self.find_mut(address) else { return };
        if vma.start == address {
            return;
        }
        let mut tail = vma.clone();
        tail.start = address;
        tail.backing = vma.backing.at(address - vma.start);
        vma.end = address;
        self.map.insert(address, tail);
    }

    /// How many areas a change of `start..end` alone would add.
    pub fn splits(&self, start: u64, end: u64) -> usize {
        let cut = |at: u64| self.find(at).is_some_and(|vma| vma.start < at);
        usize::from(cut(start)) + usize::from(cut(end))
    }

    /// Takes out what lies in `start..end`, splitting at the ends.
    pub fn remove(&mut self, start: u64, end: u64) -> alloc::vec::Vec<Vma> {
        self.split_at(start);
        self.split_at(end);
        let keys: alloc::vec::Vec<u64> = self.map.range(start..end).map(|(k, _)| *k).collect();
        keys.iter().filter_map(|k| self.map.remove(k)).collect()
    }

    /// Puts a range into free space, merged with its neighbours where they are alike.
    pub fn insert(&mut self, vma: Vma) {
        let start = vma.start;
        let end = vma.end;
        self.map.insert(start, vma);
        self.merge_at(end);
        self.merge_at(start);
    }

    fn merge_at(&mut self, boundary: u64) {
        let Some(right) = self.map.get(&boundary) else { return };
        let Some((left_start, left)) = self.map.range(..boundary).next_back() else { return };
        if left.end == boundary
            && left.prot == right.prot
            && left.flags == right.flags
            && left.name == right.name
            && left.backing.continues(left.len(), &right.backing)
        {
            let (left_start, end) = (*left_start, right.end);
            self.map.remove(&boundary);
            if let Some(left) = self.map.get_mut(&left_start) {
                left.end = end;
            }
        }
    }

    /// Changes the ranges of `start..end` one by one, splitting at the ends and merging afterwards.
    pub fn update(&mut self, start: u64, end: u64, mut f: impl FnMut(&mut Vma)) {
        for mut vma in self.remove(start, end) {
            f(&mut vma);
            self.insert(vma);
        }
    }

    /// Moves the start of a growing range down.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(mut vma) = self.map.remove(&start) {
            vma.start = new_start;
            self.map.insert(new_start, vma);
        }
    }

    /// A free range of `len` bytes that ends at or below `top`, as high as possible, not below `bottom`.
    pub fn find_free(&self, len: u64, bottom: u64, top: u64) -> Option<u64> {
        let mut end = top;
        for vma in self.map.range(..top).rev().map(|(_, v)| v) {
            if vma.end <= end && end - vma.end >= len {
                return (end - len >= bottom).then_some(end - len);
            }
            end = end.min(vma.start);
            if end < bottom + len {
                return None;
            }
        }
        (end >= bottom && end - bottom >= len).then(|| end - len)
    }

    /// Whether `start..end` is free.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Bytes of all ranges.
    pub fn total(&self) -> u64 {
        self.map.values().map(Vma::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anon(start: u64, end: u64, prot: Prot) -> Vma {
        Vma::new(start, end, prot, VmFlags::empty(), Backing::Anon)
    }

    #[test]
    fn neighbours_merge_and_split() {
        let mut set = VmaSet::default();
        set.insert(anon(0x1000, 0x2000, Prot::READ));
        set.insert(anon(0x3000, 0x4000, Prot::READ));
        set.insert(anon(0x2000, 0x3000, Prot::READ));
        assert_eq!(set.len(), 1);
        set.update(0x2000, 0x3000, |v| v.prot = Prot::WRITE);
        assert_eq!(set.len(), 3);
        set.update(0x2000, 0x3000, |v| v.prot = Prot::READ);
        assert_eq!(set.len(), 1);
        let removed = set.remove(0x1800 & !0xfff, 0x2000);
        assert_eq!(removed.len(), 1);
        assert_eq!(set.find(0x2000).map(|v| (v.start, v.end)), Some((0x2000, 0x4000)));
    }

    #[test]
    fn free_ranges_are_found_from_the_top() {
        let mut set = VmaSet::default();
        set.insert(anon(0x8000, 0x9000, Prot::READ));
        set.insert(anon(0x5000, 0x6000, Prot::READ));
        assert_eq!(set.find_free(0x1000, 0x1000, 0x9000), Some(0x7000));
        assert_eq!(set.find_free(0x3000, 0x1000, 0x9000), Some(0x2000));
        assert_eq!(set.find_free(0x5000, 0x1000, 0x9000), None);
        assert_eq!(set.find_free(0x1000, 0x1000, 0x10000), Some(0xf000));
    }
}
