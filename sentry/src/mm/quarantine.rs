//! Frames that wait for their grace period: a program may still reach them, on another vCPU or, under `systrap`, in a
//! stub that has not unmapped them yet.

use crate::arch::pgtable::{Removed, Space};
use crate::arch::port;
use crate::arch::systrap::Holders;
use crate::sync::SpinLock;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Batch {
    holders: Holders,
    generation: u64,
    frames: Removed,
}

static BATCHES: SpinLock<VecDeque<Batch>> = SpinLock::new(VecDeque::new());
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Waiting frames beyond which those who hold them up are hurried.
const HURRY_ABOVE: usize = 4096;
/// Batches that are looked at in vain at a time.
const MAX_VAIN: usize = 8;

/// Takes frames whose translations were removed from `space`; makes the removal visible to other vCPUs and drops
/// the frames once none can reach them.
pub fn retire(space: &Space, frames: Removed) {
    if frames.is_empty() {
        return;
    }
    port::flush_remote(space);
    let generation = port::next_generation();
    let holders = space.holders();
    if holders.gone(generation) {
        drop(frames);
        return;
    }
    let waiting = WAITING.fetch_add(frames.len(), Ordering::Relaxed) + frames.len();
    if waiting > HURRY_ABOVE {
        holders.hurry(generation, false);
    }
    BATCHES.lock().push_back(Batch { holders, generation, frames });
    drain();
}

/// Drops the frames whose grace period has passed.
pub fn drain() {
    let mut vain = 0;
    while vain < MAX_VAIN && WAITING.load(Ordering::Relaxed) != 0 {
        let batch = {
            let mut batches = BATCHES.lock();
            let Some(batch) = batches.pop_front() else { return };
            if !batch.holders.gone(batch.generation) {
                // The others do not wait for this one.
                batches.push_back(batch);
                vain += 1;
                continue;
            }
            batch
        };
        WAITING.fetch_sub(batch.frames.len(), Ordering::Relaxed);
        drop(batch.frames);
    }
}

/// Frames that wait.
pub fn waiting() -> usize {
    WAITING.load(Ordering::Relaxed)
}

/// Hurries whoever holds frames up and drops what it can: memory is short.
pub fn hurry() {
    for _ in 0..MAX_VAIN {
        let Some(batch) = BATCHES.lock().pop_front() else { return };
        batch.holders.hurry(batch.generation, true);
        BATCHES.lock().push_back(batch);
    }
    drain();
}
