//! Frames that wait for their grace period: a program on another vCPU may still reach them.

use crate::arch::pgtable::{Removed, Space};
use crate::arch::port;
use crate::sync::SpinLock;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Batch {
    space: u64,
    generation: u64,
    frames: Removed,
}

static BATCHES: SpinLock<VecDeque<Batch>> = SpinLock::new(VecDeque::new());
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Waiting frames beyond which the vCPUs that hold them up are kicked.
const KICK_ABOVE: usize = 4096;

/// Takes frames whose translations were removed from `space`; makes the removal visible to other vCPUs and drops
/// the frames once none can reach them.
pub fn retire(space: &Space, frames: Removed) {
    if frames.is_empty() {
        return;
    }
    port::flush_remote(space);
    let generation = port::next_generation();
    if port::grace_passed(space.id(), generation) {
        drop(frames);
        return;
    }
    let waiting = WAITING.fetch_add(frames.len(), Ordering::Relaxed) + frames.len();
    BATCHES.lock().push_back(Batch { space: space.id(), generation, frames });
    if waiting > KICK_ABOVE {
        port::kick_holders(space.id(), generation);
    }
    drain();
}

/// Drops the frames whose grace period has passed.
pub fn drain() {
    while WAITING.load(Ordering::Relaxed) != 0 {
        let batch = {
            let mut batches = BATCHES.lock();
            match batches.front() {
                Some(first) if port::grace_passed(first.space, first.generation) => batches.pop_front(),
                _ => None,
            }
        };
        let Some(batch) = batch else { return };
        WAITING.fetch_sub(batch.frames.len(), Ordering::Relaxed);
        drop(batch.frames);
    }
}

/// Frames that wait.
pub fn waiting() -> usize {
    WAITING.load(Ordering::Relaxed)
}

/// Kicks whoever holds frames up and drops what it can: memory is short.
pub fn hurry() {
    let first = BATCHES.lock().front().map(|b| (b.space, b.generation));
    if let Some((space, generation)) = first {
        port::kick_holders(space, generation);
    }
    drain();
}
