//! Giving free memory back to the host.

use super::page::KernelPage;
use super::pool;
use abi::hostcall::{GpaRange, MAX_RANGES, MemRelease};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use zerocopy::IntoBytes;

/// Blocks of one host call.
const BATCH: usize = 64;
const _: () = assert!(BATCH as u64 <= MAX_RANGES);

/// Bytes that could be given back: whole free blocks of 2 MiB that were written.
pub fn releasable() -> u64 {
    pool::dirty_blocks() as u64 * HUGE_PAGE_SIZE
}

/// Gives free blocks back, all but `keep` bytes; returns the bytes that were.
pub fn release(keep: u64) -> u64 {
    let Ok(list) = KernelPage::alloc() else { return 0 };
    let mut total = 0;
    loop {
        let mut blocks = [0; BATCH];
        let count = pool::take_dirty((keep / HUGE_PAGE_SIZE) as usize, &mut blocks);
        if count == 0 {
            return total;
        }
        let ranges = blocks.map(|frame| GpaRange { gpa: u64::from(frame) * PAGE_SIZE, len: HUGE_PAGE_SIZE });
        list.write(0, ranges[..count].as_bytes());
        let done = crate::host::call(&MemRelease { ranges_gpa: list.gpa(), count: count as u64 });
        pool::put_back(&blocks[..count], done.is_ok());
        if let Err(e) = done {
            crate::warn!("the host does not take memory back: {}", e.name());
            return total;
        }
        total += count as u64 * HUGE_PAGE_SIZE;
    }
}
