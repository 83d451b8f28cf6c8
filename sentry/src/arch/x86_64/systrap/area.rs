//! The memory of a stub: the area that it shares with its vCPU, and what its process costs the host.

use crate::mm::frames::{self, Lent};
use abi::systrap::STUB_AREA_ORDER;

/// What a process costs the host's kernel, as an order of frames: 128 KiB. A process of its own takes some 50 KiB, its
/// page tables and areas of memory the rest.
const HOST_ORDER: u8 = 5;

/// The memory of one stub.
pub struct Area {
    gpa: u64,
    #[expect(dead_code, reason = "kept as long as the stub is there")]
    host: Lent,
}

impl Area {
    /// Takes it; `None` where memory is short.
    pub(super) fn new() -> Option<Self> {
        let host = Lent::take(HOST_ORDER)?;
        Some(Self { gpa: frames::alloc_area(STUB_AREA_ORDER)?, host })
    }

    /// Guest-physical address of what both share.
    pub(super) fn gpa(&self) -> u64 {
        self.gpa
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        frames::free_area(self.gpa, STUB_AREA_ORDER);
    }
}
