//! Frames for what the host's kernel takes on account of this sandbox.

use super::page::KernelPage;
use super::pool;
use abi::PAGE_SIZE;
use abi::boot::Zone;
use abi::hostcall::{GpaRange, MemRelease};
use zerocopy::IntoBytes;

/// Frames that nobody writes, given back to the host: its control group counts what its kernel has for this sandbox
/// (processes, their page tables) together with the sandbox's memory, and would end it where both are too much.
pub struct Lent {
    gpa: u64,
    order: u8,
    /// They read as zeros: the host has them back.
    clean: bool,
}

impl Lent {
    /// Lends 2^`order` frames; `None` where they are not there.
    pub fn take(order: u8) -> Option<Self> {
        let (gpa, clean) = pool::alloc_block(Zone::User, order)?;
        let mut lent = Self { gpa, order, clean };
        if !clean {
            let list = KernelPage::alloc().ok()?;
            list.write(0, GpaRange { gpa, len: PAGE_SIZE << order }.as_bytes());
            let done = crate::host::call(&MemRelease { ranges_gpa: list.gpa(), count: 1 });
            lent.clean = done.is_ok();
        }
        Some(lent)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.clean {
            pool::mark_clean(self.gpa, self.order);
        }
        pool::free_block(self.gpa, self.order);
    }
}
