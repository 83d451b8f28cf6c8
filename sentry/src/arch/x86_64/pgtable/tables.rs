//! The tables themselves: spare ones, and those of the kernel half, which all address spaces share.

use super::{ADDRESS, HUGE, NO_EXEC, PRESENT, TABLE, USER, WRITE, entry, load, store};
use crate::arch::x86_64::port::{self, Flavour};
use crate::mm::frames::{self, physmap};
use crate::sync::{Once, SpinLock};
use abi::boot::KVM_STACKS;
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use alloc::vec::Vec;

struct Master {
    root: u64,
}

static MASTER: Once<Master> = Once::new();

/// Begins with the tables that the VMM made.
pub(in super::super) fn init(boot_pgd: u64) {
    let _ = MASTER.set(Master { root: boot_pgd & ADDRESS });
    if port::flavour() != Flavour::Systrap {
        // The top-level entries of the kernel half are all made now: address spaces copy them.
        for va in [abi::boot::KVM_PHYSMAP, KVM_STACKS] {
            let _ = kernel_table(va, 2);
        }
        fill_reserve();
    }
}

/// Top-level table of the kernel alone.
pub(in super::super) fn master_root() -> u64 {
    MASTER.get().map_or(0, |m| m.root)
}

/// Tables that are not in use, all zeros. They are never given back: a hypervisor that shadows page tables keeps a
/// page write-protected after its last use as one, and a `rep stos` or `rep movs` over it is then emulated a byte at
/// a time (1.5 ms a page). Here no table is ever cleared at large: entries are cleared one by one as they go.
pub(super) static SPARE_TABLES: SpinLock<Vec<u64>> = SpinLock::new(Vec::new());
/// Top-level tables (pairs) that are not in use, with the tables below them but nothing mapped. Forks of one process
/// use the same tables one after the other, so that a shadowing hypervisor has nothing to build anew.
pub(super) static SPARE_SPACES: SpinLock<Vec<Spare>> = SpinLock::new(Vec::new());
/// Most of those that are kept.
pub(super) const MAX_SPARE_SPACES: usize = 32;
/// Most tables of one that is kept.
pub(super) const MAX_SPARE_TABLES: u32 = 48;

pub(super) struct Spare {
    pub(super) root: u64,
    pub(super) kin: u64,
    pub(super) tables: u32,
}

pub(super) fn new_table() -> Option<u64> {
    new_table_by(frames::alloc_kernel)
}

/// A table for a program that touches its memory: nothing is taken of what is kept for the sentry, which a program could use
/// up with nothing but loads.
pub(super) fn new_table_or_fail() -> Option<u64> {
    new_table_by(frames::alloc_kernel_or_fail)
}

fn new_table_by(alloc: impl Fn(u8) -> Option<*mut u8>) -> Option<u64> {
    let spare = SPARE_TABLES.lock().pop();
    if spare.is_some() {
        return spare;
    }
    let va = alloc(0)?;
    // SAFETY: a page of our own.
    unsafe { core::ptr::write_bytes(va, 0, PAGE_SIZE as usize) };
    Some(frames::gpa_of(va))
}

pub(super) fn new_root() -> Option<u64> {
    // A pair: on pvm the second is the top-level table of ring 3. 8 KiB-aligned by the allocator.
    let va = frames::alloc_kernel(1)?;
    let root = frames::gpa_of(va);
    // SAFETY: two pages of our own.
    unsafe { core::ptr::write_bytes(va, 0, 2 * PAGE_SIZE as usize) };
    if port::flavour() != Flavour::Systrap
        && let Some(master) = MASTER.get()
    {
        for index in 256..512u64 {
            let va = index << 39;
            store(entry(root, va, 3), load(entry(master.root, va, 3)));
        }
    }
    Some(root)
}

fn kernel_flags() -> u64 {
    // On pvm ring 0 runs at CPL 3: every level has U set.
    if port::flavour() == Flavour::Pvm { TABLE } else { TABLE & !USER }
}

/// Table of `level` that covers `va` in the kernel half, made where it is missing.
fn kernel_table(va: u64, level: u32) -> Option<u64> {
    let mut table = MASTER.get()?.root;
    for l in (level + 1..=3).rev() {
        let e = entry(table, va, l);
        if load(e) & PRESENT == 0 {
            store(e, reserved_table()? | kernel_flags());
        }
        table = load(e) & ADDRESS;
    }
    Some(table)
}

/// Pages for kernel tables, kept apart: memory is mapped when there is none left to make a table from. One extent
/// needs at most three.
static RESERVE: SpinLock<[u64; 4]> = SpinLock::new([0; 4]);

fn reserved_table() -> Option<u64> {
    let kept = RESERVE.lock().iter_mut().find(|page| **page != 0).map(core::mem::take);
    kept.or_else(new_table)
}

/// Fills the reserve up, when there is memory.
fn fill_reserve() {
    loop {
        if RESERVE.lock().iter().all(|page| *page != 0) {
            return;
        }
        let Some(page) = new_table() else { return };
        let mut reserve = RESERVE.lock();
        match reserve.iter_mut().find(|page| **page == 0) {
            Some(slot) => *slot = page,
            None => SPARE_TABLES.lock().push(page),
        }
    }
}

static KERNEL_TABLES: SpinLock<()> = SpinLock::new(());

/// Maps a page of the kernel half: no flush is needed, since it was absent.
pub(in super::super) fn map_kernel(va: u64, gpa: u64) -> Option<()> {
    let _guard = KERNEL_TABLES.lock();
    let table = kernel_table(va, 0)?;
    store(entry(table, va, 0), gpa | kernel_flags() | NO_EXEC);
    drop(_guard);
    fill_reserve();
    Some(())
}

/// Extends the map of guest memory by an extent, with 2 MiB leaves.
pub(in super::super) fn map_extent(gpa: u64, len: u64) -> Option<()> {
    map_leaves(gpa, len, kernel_flags())
}

/// The same by a piece of an image, to be read only.
pub(in super::super) fn map_image(gpa: u64, len: u64) -> Option<()> {
    map_leaves(gpa, len, kernel_flags() & !WRITE)?;
    extent_added();
    Some(())
}

fn map_leaves(gpa: u64, len: u64, flags: u64) -> Option<()> {
    if port::flavour() == Flavour::Systrap {
        return Some(());
    }
    let _guard = KERNEL_TABLES.lock();
    let mut at = gpa;
    while at < gpa + len {
        let va = abi::boot::KVM_PHYSMAP + at;
        let table = kernel_table(va, 1)?;
        let e = entry(table, va, 1);
        if load(e) & PRESENT == 0 {
            store(e, at | flags | HUGE | NO_EXEC);
        }
        at += HUGE_PAGE_SIZE;
    }
    Some(())
}

/// After an extent was added: the next one will need tables too.
pub(in super::super) fn extent_added() {
    if port::flavour() != Flavour::Systrap {
        fill_reserve();
    }
}

/// Gives the tables below `table` to the spare ones and clears its entries.
fn free_tables(table: u64, level: u32, range: core::ops::Range<u64>) {
    for index in range {
        let e = physmap(table).cast::<u64>().wrapping_add(index as usize);
        let value = load(e);
        if value == 0 {
            continue;
        }
        store(e, 0);
        if level == 0 || value & PRESENT == 0 || value & HUGE != 0 {
            debug_assert!(false, "an address space ended with a page mapped");
            continue;
        }
        if level == 3 {
            // The twin of a pvm pair.
            store(e.wrapping_add(PAGE_SIZE as usize / 8), 0);
        }
        free_tables(value & ADDRESS, level - 1, 0..512);
        SPARE_TABLES.lock().push(value & ADDRESS);
    }
}

/// Gives tables that wait to be used again back to the frames, all but `keep`, and with 0 whole spaces too: memory is short.
pub fn release_spares(keep: usize) {
    if keep == 0 {
        let spaces = core::mem::take(&mut *SPARE_SPACES.lock());
        spaces.iter().for_each(|space| release_root(space.root));
    }
    loop {
        let table = {
            let mut spare = SPARE_TABLES.lock();
            if spare.len() <= keep {
                return;
            }
            spare.pop()
        };
        let Some(table) = table else { return };
        // SAFETY: allocated in `new_table` with this order; nothing leads to it, and it is all zeros.
        unsafe { frames::free_zeroed(physmap(table)) };
    }
}

/// Gives a top-level table and all below it back. The pair itself goes to the heap's frames, rarely.
pub(super) fn release_root(root: u64) {
    free_tables(root, 3, 0..256);
    // SAFETY: allocated in `new_root` with this order; nobody has it loaded.
    unsafe { frames::free_kernel(physmap(root), 1) };
}
