//! Boot page tables, written into guest memory.

use abi::boot::{KVM_IMAGE_BASE, KVM_PHYSMAP};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};

use super::Flavour;
use crate::Error;
use crate::memory::{GuestMemory, OutOfRange};

/// Present, writable, accessed, dirty.
const KERNEL: u64 = 0x63;
/// The same, and reachable from CPL 3: on pvm, ring 0 runs there too.
const USER: u64 = 0x67;
/// A leaf of 2 MiB.
const LEAF: u64 = 0x80;
/// Mask of the address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Builds page tables from a bump of free guest memory.
pub struct Tables<'a> {
    memory: &'a GuestMemory,
    next: u64,
    flags: u64,
    root: u64,
}

impl<'a> Tables<'a> {
    /// A top-level table (for pvm a pair of them) at or above `free`.
    pub fn new(memory: &'a GuestMemory, flavour: Flavour, free: u64) -> Self {
        let root = free.next_multiple_of(2 * PAGE_SIZE);
        let flags = if flavour == Flavour::Pvm { USER } else { KERNEL };
        Self { memory, next: root + 2 * PAGE_SIZE, flags, root }
    }

    /// Guest-physical address of the top-level table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// First address after the tables.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Entry for `va` at `level` (0: a 4 KiB page), making the tables above it.
    fn entry(&mut self, va: u64, level: u32, flags: u64) -> Result<u64, OutOfRange> {
        let mut table = self.root;
        for depth in ((level + 1)..4).rev() {
            let at = table + ((va >> (12 + 9 * depth)) & 511) * 8;
            let mut entry: u64 = self.memory.read_struct(at)?;
            if entry & 1 == 0 {
                entry = self.next | flags;
                self.next += PAGE_SIZE;
                self.memory.write_struct(at, &entry)?;
            }
            table = entry & ADDRESS;
        }
        Ok(table + ((va >> (12 + 9 * level)) & 511) * 8)
    }

    fn map(&mut self, va: u64, gpa: u64, level: u32, flags: u64) -> Result<(), OutOfRange> {
        let at = self.entry(va, level, flags)?;
        let leaf = if level == 1 { LEAF } else { 0 };
        self.memory.write_struct(at, &(gpa | flags | leaf))
    }

    /// Maps the image and the boot extent.
    pub fn map_kernel(&mut self, image_gpa: u64, image_len: u64, extent_len: u64) -> Result<(), Error> {
        let flags = self.flags;
        (0..image_len / PAGE_SIZE)
            .map(|page| page * PAGE_SIZE)
            .try_for_each(|at| self.map(KVM_IMAGE_BASE + at, image_gpa + at, 0, flags))
            .and_then(|()| {
                (0..extent_len / HUGE_PAGE_SIZE)
                    .map(|page| page * HUGE_PAGE_SIZE)
                    .try_for_each(|at| self.map(KVM_PHYSMAP + at, at, 1, flags))
            })
            .map_err(|_| too_large())
    }

    /// Maps one page for ring 3, in the second top-level table too where there is one.
    pub fn map_user(&mut self, va: u64, gpa: u64) -> Result<(), Error> {
        let top = ((va >> 39) & 511) * 8;
        self.map(va, gpa, 0, USER)
            .and_then(|()| self.memory.read_struct::<u64>(self.root + top))
            .and_then(|entry| self.memory.write_struct(self.root + PAGE_SIZE + top, &entry))
            .map_err(|_| too_large())
    }
}

fn too_large() -> Error {
    Error::Image { reason: "it and its page tables do not fit in the boot memory".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(memory: &GuestMemory, root: u64, va: u64) -> u64 {
        let mut table = root;
        for level in (0..4).rev() {
            let entry: u64 =
                memory.read_struct(table + ((va >> (12 + 9 * level)) & 511) * 8).expect("inside");
            assert_eq!(entry & 1, 1, "{va:x} at level {level}");
            if level == 1 && entry & LEAF != 0 {
                return (entry & ADDRESS) + (va & (HUGE_PAGE_SIZE - 1));
            }
            table = entry & ADDRESS;
        }
        table + (va & (PAGE_SIZE - 1))
    }

    #[test]
    fn maps_image_and_extent() {
        let memory = GuestMemory::new(8 << 20, 8 << 20).expect("map");
        let mut tables = Tables::new(&memory, Flavour::Pvm, 0x50_1000);
        assert_eq!(tables.root() % 8192, 0);
        tables.map_kernel(0x40_0000, 0x3000, 8 << 20).expect("map");
        tables.map_user(0x40_0000, 0x60_0000).expect("map");
        assert_eq!(walk(&memory, tables.root(), KVM_IMAGE_BASE + 0x2010), 0x40_2010);
        assert_eq!(walk(&memory, tables.root(), KVM_PHYSMAP + 0x2f_1234), 0x2f_1234);
        assert_eq!(walk(&memory, tables.root() + 4096, 0x40_0008), 0x60_0008);
    }
}
