//! Memory of unit tests: an arena of the test process, whose addresses begin at 0.

use super::{Extent, Zone, add_extent, init, read_raw, write_raw};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::Once;

/// Bytes of the arena.
const LEN: usize = 512 << 20;

/// Makes the arena where there is none yet.
pub(super) fn ensure_init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        let layout = Layout::from_size_align(LEN, HUGE_PAGE_SIZE as usize).expect("layout");
        // SAFETY: the layout is not empty; the arena is never freed.
        let arena = unsafe { alloc_zeroed(layout) };
        init(arena.expose_provenance() as u64, false, LEN as u64, 0, |_, _| None, || {});
        // Frame 0 is never used.
        add_extent(Extent { gpa: PAGE_SIZE, len: LEN as u64 - PAGE_SIZE, zone: Zone::Kernel as u64 });
    });
}

fn check(gpa: u64, len: usize) {
    ensure_init();
    let end = usize::try_from(gpa).ok().and_then(|at| at.checked_add(len));
    assert!(end.is_some_and(|end| end <= LEN), "{len} bytes at {gpa:#x} are not in the arena");
}

/// Bytes of the arena, as the host would read them.
///
/// # Panics
/// Beyond the arena.
pub fn read(gpa: u64, len: usize) -> Vec<u8> {
    check(gpa, len);
    let mut out = vec![0; len];
    // SAFETY: the range lies in the arena, which is never freed.
    unsafe { read_raw(gpa, &mut out) };
    out
}

/// Writes to the arena, as the host would.
///
/// # Panics
/// Beyond the arena.
pub fn write(gpa: u64, data: &[u8]) {
    check(gpa, data.len());
    // SAFETY: the range lies in the arena, which is never freed.
    unsafe { write_raw(gpa, data) };
}
