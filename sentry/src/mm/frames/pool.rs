//! The buddy allocator: free blocks of each zone, and the metadata of frames.

use super::{CEILING, CONFIG, LIMIT_FRAMES, PEAK_FRAMES, TOTAL_FRAMES, USED_FRAMES, physmap};
use crate::sync::SpinLock;
use abi::boot::{Extent, Zone};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Largest order of a block: 2^9 frames, 2 MiB.
pub const MAX_ORDER: u8 = 9;
pub(super) const CHUNK_FRAMES: usize = 1 << MAX_ORDER;
/// Guest-physical space that is covered: 256 GiB.
const MAX_CHUNKS: usize = 128 * 1024;
const NONE: u32 = 0;

const STATE_UNUSED: u8 = 0;
const STATE_FREE: u8 = 1;
const STATE_USED: u8 = 2;
/// A free block of 2 MiB that was written since the host gave it.
const STATE_DIRTY: u8 = 3;

/// Pool of the sentry's own memory; its list of fresh memory serves both where the zones are not apart.
const KERNEL: usize = 0;
/// Pool of what programs may have mapped.
const USER: usize = 1;
/// Pool of the memory that is kept for the sentry alone, for when there is no other.
const EMERGENCY: usize = 2;

/// What is known of a frame.
#[repr(C)]
pub(super) struct Meta {
    pub(super) refs: AtomicU32,
    next: u32,
    prev: u32,
    state: u8,
    order: u8,
    /// The frame has not been written since the host gave it: it reads as zeros.
    clean: u8,
    pool: u8,
}

struct Pool {
    free: [u32; MAX_ORDER as usize + 1],
    /// Extents not yet fully taken: next address and end.
    fresh: [(u64, u64); 64],
    fresh_count: usize,
    free_frames: usize,
}

impl Pool {
    const fn new() -> Self {
        Self { free: [NONE; MAX_ORDER as usize + 1], fresh: [(0, 0); 64], fresh_count: 0, free_frames: 0 }
    }
}

static POOLS: [SpinLock<Pool>; 3] = [const { SpinLock::new(Pool::new()) }; 3];
/// Frames that were moved to the emergency pool, whose own are in use for longer. They count as used.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// Frames that the emergency pool began with.
pub(super) fn emergency_own() -> usize {
    CONFIG.get().map_or(0, |c| (c.emergency / PAGE_SIZE) as usize)
}

/// Frames of the emergency pool that are left.
pub(super) fn emergency_left() -> usize {
    (emergency_own() + LENT.load(Ordering::Relaxed)).saturating_sub(EMERGENCY_USED.load(Ordering::Relaxed))
}

/// Keeps the emergency pool as large as it is to be: what was made of it may live for long. Blocks of 2 MiB are put
/// in while there are some, and taken back once more is free than it began with.
pub(super) fn replenish() {
    let own = emergency_own();
    let moved = |gpa: u64, to: usize| {
        let block = (gpa / PAGE_SIZE) as u32;
        for frame in block..block + CHUNK_FRAMES as u32 {
            // SAFETY: the block was just taken: its metadata is ours.
            unsafe { (*meta(frame)).pool = to as u8 };
        }
    };
    while emergency_left() + CHUNK_FRAMES / 2 < own {
        let Some((gpa, _)) = alloc_block(Zone::Kernel, MAX_ORDER) else { return };
        moved(gpa, EMERGENCY);
        LENT.fetch_add(CHUNK_FRAMES, Ordering::Relaxed);
        POOLS[EMERGENCY].lock().give((gpa / PAGE_SIZE) as u32, MAX_ORDER);
    }
    while LENT.load(Ordering::Relaxed) != 0 && emergency_left() >= own + CHUNK_FRAMES {
        let Some(block) = POOLS[EMERGENCY].lock().take(MAX_ORDER) else { return };
        let gpa = u64::from(block) * PAGE_SIZE;
        claim(block, CHUNK_FRAMES as u32);
        moved(gpa, KERNEL);
        LENT.fetch_sub(CHUNK_FRAMES, Ordering::Relaxed);
        free_block(gpa, MAX_ORDER);
    }
}

/// Frames of the emergency pool that are in use.
static EMERGENCY_USED: AtomicUsize = AtomicUsize::new(0);
/// Free blocks of 2 MiB that the host could have back, of all pools.
static DIRTY: AtomicUsize = AtomicUsize::new(0);
static EMERGENCY_ASKED: AtomicBool = AtomicBool::new(false);
static CHUNKS: [AtomicU64; MAX_CHUNKS] = [const { AtomicU64::new(0) }; MAX_CHUNKS];
#[inline]
pub(super) fn meta(frame: u32) -> *mut Meta {
    let chunk = CHUNKS[frame as usize / CHUNK_FRAMES].load(Ordering::Relaxed);
    debug_assert!(chunk != 0, "frame {frame:#x} has no metadata");
    ptr::with_exposed_provenance_mut::<Meta>(chunk as usize).wrapping_add(frame as usize % CHUNK_FRAMES)
}

impl Pool {
    fn push(&mut self, frame: u32, order: u8) {
        let head = self.free[order as usize];
        // SAFETY: the pool's lock is held, and `frame` belongs to it: its metadata is the pool's alone.
        unsafe {
            let m = meta(frame);
            (*m).state = STATE_FREE;
            (*m).order = order;
            (*m).next = head;
            (*m).prev = NONE;
            if head != NONE {
                (*meta(head)).prev = frame;
            }
        }
        self.free[order as usize] = frame;
        self.free_frames += 1 << order;
    }

    fn unlink(&mut self, frame: u32, order: u8) {
        // SAFETY: as in `push`; `frame` is on the list of `order`.
        unsafe {
            let m = meta(frame);
            if (*m).prev == NONE {
                self.free[order as usize] = (*m).next;
            } else {
                (*meta((*m).prev)).next = (*m).next;
            }
            if (*m).next != NONE {
                (*meta((*m).next)).prev = (*m).prev;
            }
            if (*m).state == STATE_DIRTY {
                DIRTY.fetch_sub(1, Ordering::Relaxed);
            }
            (*m).state = STATE_USED;
        }
        self.free_frames -= 1 << order;
    }

    fn take(&mut self, order: u8) -> Option<u32> {
        let mut have = order;
        while have <= MAX_ORDER && self.free[have as usize] == NONE {
            have += 1;
        }
        if have > MAX_ORDER {
            return None;
        }
        let frame = self.free[have as usize];
        self.unlink(frame, have);
        while have > order {
            have -= 1;
            self.push(frame + (1 << have), have);
        }
        Some(frame)
    }

    fn give(&mut self, mut frame: u32, mut order: u8) {
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            // SAFETY: the buddy lies in the same chunk, whose metadata is there and guarded by the pool's lock.
            let free = unsafe {
                let m = meta(buddy);
                (*m).state == STATE_FREE && (*m).order == order
            };
            if !free {
                break;
            }
            self.unlink(buddy, order);
            frame = frame.min(buddy);
            order += 1;
        }
        self.push(frame, order);
        if order == MAX_ORDER {
            // SAFETY: as in `push`.
            unsafe { (*meta(frame)).state = STATE_DIRTY };
            DIRTY.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the 2 MiB that begin with `frame` are a free block of the pool with this number, whose lock is held.
    fn is_free_block(pool: u8, frame: u32) -> bool {
        let chunk = CHUNKS.get(frame as usize / CHUNK_FRAMES).map_or(0, |c| c.load(Ordering::Acquire));
        // SAFETY: the chunk has metadata; a block of this pool goes over to another only under its lock, and the rest is
        // guarded by it.
        chunk != 0
            && unsafe {
                let m = meta(frame);
                (*m).pool == pool
                    && ((*m).state == STATE_FREE || (*m).state == STATE_DIRTY)
                    && (*m).order == MAX_ORDER
            }
    }

    /// Takes `count` blocks of 2 MiB that lie side by side.
    fn take_run(&mut self, count: u32) -> Option<u32> {
        let step = CHUNK_FRAMES as u32;
        let mut at = self.free[MAX_ORDER as usize];
        while at != NONE {
            // SAFETY: `at` is on this pool's list.
            let (pool, next) = unsafe { ((*meta(at)).pool, (*meta(at)).next) };
            let mine = |frame: u32| Self::is_free_block(pool, frame);
            if (1..count).all(|i| at.checked_add(i * step).is_some_and(mine)) {
                (0..count).for_each(|i| self.unlink(at + i * step, MAX_ORDER));
                return Some(at);
            }
            at = next;
        }
        None
    }

    /// Adds memory that nothing has touched.
    pub(super) fn add_fresh(&mut self, start: u64, end: u64) {
        if let Some(slot) = self.fresh.get_mut(self.fresh_count) {
            *slot = (start, end);
            self.fresh_count += 1;
        }
    }

    /// Takes up to the next multiple of 2 MiB of a fresh extent; returns its range.
    fn take_fresh(&mut self) -> Option<(u64, u64)> {
        for i in 0..self.fresh_count {
            let (next, end) = self.fresh[i];
            if next < end {
                let stop = ((next / HUGE_PAGE_SIZE + 1) * HUGE_PAGE_SIZE).min(end);
                self.fresh[i].0 = stop;
                return Some((next, stop));
            }
        }
        None
    }
}

/// Makes the metadata of a chunk's frames in kernel memory, and puts it in its place.
///
/// # Safety
/// `at` is the address of room for it that is used for nothing else; the place is empty.
unsafe fn make_metadata(place: &AtomicU64, at: u64, refs: u32, state: u8, pool: usize) {
    let table = physmap(at).cast::<Meta>();
    for i in 0..CHUNK_FRAMES {
        let clean = u8::from(state == STATE_UNUSED);
        let refs = AtomicU32::new(refs);
        // SAFETY: the caller's promise.
        unsafe {
            table.add(i).write(Meta {
                refs,
                next: NONE,
                prev: NONE,
                state,
                order: 0,
                clean,
                pool: pool as u8,
            });
        }
    }
    place.store(table.expose_provenance() as u64, Ordering::Release);
}

/// Brings a fresh range (within one chunk) into use.
fn activate(pool_index: usize, start: u64, stop: u64) -> bool {
    let chunk = (start / HUGE_PAGE_SIZE) as usize;
    if chunk >= MAX_CHUNKS {
        return false;
    }
    PEAK_FRAMES.fetch_max(USED_FRAMES.load(Ordering::Relaxed), Ordering::Relaxed);
    let bytes = (CHUNK_FRAMES * size_of::<Meta>()) as u64;
    let mut first = start;
    // Metadata lies in kernel memory that is in use already, so that chunks stay whole and can serve 2 MiB blocks;
    // where there is none (the first chunk), in the chunk's own head.
    let spare = if pool_index == EMERGENCY { None } else { POOLS[KERNEL].lock().take(1) };
    let at = match spare {
        Some(frame) => {
            USED_FRAMES.fetch_add(2, Ordering::Relaxed);
            u64::from(frame) * PAGE_SIZE
        }
        None if pool_index != USER => {
            first += bytes;
            start
        }
        None => match alloc_block(Zone::Kernel, 1) {
            Some((gpa, _)) => gpa,
            None => return false,
        },
    };
    // SAFETY: `at` names 8 KiB of fresh kernel memory that nothing else uses.
    unsafe { make_metadata(&CHUNKS[chunk], at, 0, STATE_UNUSED, pool_index) };
    let mut pool = POOLS[pool_index].lock();
    let mut frame = (first / PAGE_SIZE) as u32;
    let end = (stop / PAGE_SIZE) as u32;
    while frame < end {
        let mut order = (frame.trailing_zeros() as u8).min(MAX_ORDER);
        while frame + (1 << order) > end {
            order -= 1;
        }
        pool.push(frame, order);
        frame += 1 << order;
    }
    true
}

/// Makes metadata for memory that is never allocated: each frame has a reference that is not given back.
pub(super) fn add_image(gpa: u64, len: u64) -> Option<()> {
    for start in (gpa..gpa.checked_add(len)?).step_by(HUGE_PAGE_SIZE as usize) {
        let cell = CHUNKS.get((start / HUGE_PAGE_SIZE) as usize)?;
        if cell.load(Ordering::Acquire) != 0 {
            continue;
        }
        let (at, _) = alloc_block(Zone::Kernel, 1)?;
        // SAFETY: 8 KiB of kernel memory that was just taken.
        unsafe { make_metadata(cell, at, 1, STATE_USED, KERNEL) };
    }
    Some(())
}

/// The pool of a zone, and whether memory of the other may go over to it: not where the zones are apart. They are
/// two everywhere, so that the sentry's pages do not lie scattered among those of programs, whose 2 MiB would never be
/// free as a whole again.
fn pool_of(zone: Zone) -> (usize, bool) {
    let index = if zone == Zone::User { USER } else { KERNEL };
    (index, CONFIG.get().is_none_or(|config| !config.split))
}

/// Adds an extent: to its zone where the zones are apart, else to what both take from.
pub(super) fn add_extent(extent: Extent) {
    let zone = if extent.zone == Zone::User as u64 { Zone::User } else { Zone::Kernel };
    let (index, shared) = pool_of(zone);
    let mut pool = POOLS[if shared { KERNEL } else { index }].lock();
    TOTAL_FRAMES.fetch_add((extent.len / PAGE_SIZE) as usize, Ordering::Relaxed);
    pool.add_fresh(extent.gpa, extent.gpa + extent.len);
}

/// Marks the frames of a block that was just taken as used; returns whether it reads as zeros.
fn claim(frame: u32, count: u32) -> bool {
    let mut clean = true;
    for f in frame..frame + count {
        // SAFETY: the block was just taken off the free lists: its metadata is ours.
        unsafe {
            clean &= (*meta(f)).clean == 1;
            (*meta(f)).clean = 0;
            (*meta(f)).state = STATE_USED;
            (*meta(f)).order = 0;
        }
    }
    clean
}

/// Takes a block of 2^`order` frames. Returns its address and whether it reads as zeros.
pub(super) fn alloc_block(zone: Zone, order: u8) -> Option<(u64, bool)> {
    alloc_with(zone, 1 << order, |pool| pool.take(order))
}

/// Takes `count` blocks of 2 MiB of kernel memory that lie side by side; returns the address.
pub(super) fn alloc_run(count: u32) -> Option<u64> {
    alloc_with(Zone::Kernel, count * CHUNK_FRAMES as u32, |pool| pool.take_run(count)).map(|(gpa, _)| gpa)
}

fn alloc_with(zone: Zone, frames: u32, take: impl Fn(&mut Pool) -> Option<u32>) -> Option<(u64, bool)> {
    let (index, shared) = pool_of(zone);
    let other = if shared { Some(KERNEL + USER - index) } else { None };
    let done = |frame: u32| {
        let clean = claim(frame, frames);
        USED_FRAMES.fetch_add(frames as usize, Ordering::Relaxed);
        Some((u64::from(frame) * PAGE_SIZE, clean))
    };
    if USED_FRAMES.load(Ordering::Relaxed) + frames as usize > CEILING.load(Ordering::Relaxed) {
        return None;
    }
    loop {
        let own = take(&mut POOLS[index].lock());
        if let Some(frame) = own {
            return done(frame);
        }
        let fresh = POOLS[if shared { KERNEL } else { index }].lock().take_fresh();
        if let Some((start, stop)) = fresh {
            if !activate(index, start, stop) {
                return None;
            }
        } else if !other.is_some_and(|other| adopt(other, index)) && grow(zone).is_none() {
            // The last resort: a piece among the other's.
            let piece = take(&mut POOLS[other?].lock());
            return done(piece?);
        }
    }
}

/// Moves a free block of 2 MiB from one pool to another; `false` where there is none.
fn adopt(from: usize, to: usize) -> bool {
    let Some(block) = POOLS[from].lock().take(MAX_ORDER) else { return false };
    let mut dirty = false;
    for frame in block..block + CHUNK_FRAMES as u32 {
        // SAFETY: the block was just taken off the list: its metadata is ours.
        unsafe {
            (*meta(frame)).pool = to as u8;
            dirty |= (*meta(frame)).clean == 0;
        }
    }
    let mut pool = POOLS[to].lock();
    if dirty {
        pool.give(block, MAX_ORDER);
    } else {
        pool.push(block, MAX_ORDER);
    }
    true
}

/// Takes a block of the emergency pool: for what the sentry cannot do without. From then on somebody must give memory
/// back: see [`super::low`].
pub(super) fn alloc_emergency(order: u8) -> Option<u64> {
    let config = CONFIG.get()?;
    let mut asked = false;
    loop {
        let fresh = {
            let mut pool = POOLS[EMERGENCY].lock();
            if let Some(frame) = pool.take(order) {
                drop(pool);
                claim(frame, 1 << order);
                EMERGENCY_USED.fetch_add(1 << order, Ordering::Relaxed);
                return Some(u64::from(frame) * PAGE_SIZE);
            }
            pool.take_fresh()
        };
        match fresh {
            Some((start, stop)) => {
                if !activate(EMERGENCY, start, stop) {
                    return None;
                }
            }
            None if asked => return None,
            None => {
                asked = true;
                let _guard = GROWING.lock();
                // Another vCPU may just have asked; it is asked for once.
                if EMERGENCY_ASKED.swap(true, Ordering::SeqCst) {
                    continue;
                }
                let extent = (config.grow)(config.emergency, Zone::Kernel)?;
                POOLS[EMERGENCY].lock().add_fresh(extent.gpa, extent.gpa + extent.len);
            }
        }
    }
}

/// Whether the kernel has `frames` frames left, and a block of 2^`order` among them, without the emergency pool and without
/// asking the host.
pub(super) fn kernel_has(frames: usize, order: u8) -> bool {
    let (_, shared) = pool_of(Zone::Kernel);
    let pools = if shared { KERNEL..USER + 1 } else { KERNEL..KERNEL + 1 };
    let (mut free, mut block) = (0, false);
    for pool in &POOLS[pools] {
        let pool = pool.lock();
        let fresh: u64 = pool.fresh[..pool.fresh_count].iter().map(|(next, end)| end - next).sum();
        free += pool.free_frames + (fresh / PAGE_SIZE) as usize;
        block |= fresh >= HUGE_PAGE_SIZE || pool.free[order as usize..].iter().any(|first| *first != NONE);
    }
    free >= frames && block
}

/// Frames of the emergency pool that are in use.
pub(super) fn emergency_used() -> usize {
    EMERGENCY_USED.load(Ordering::Relaxed)
}

/// Held while an extent is asked for, so that vCPUs that run out together ask once.
static GROWING: SpinLock<()> = SpinLock::new(());

fn grow(zone: Zone) -> Option<()> {
    let config = CONFIG.get()?;
    let before = TOTAL_FRAMES.load(Ordering::Relaxed);
    let guard = GROWING.lock();
    let total = TOTAL_FRAMES.load(Ordering::Relaxed);
    if total != before {
        return Some(());
    }
    let limit = LIMIT_FRAMES.load(Ordering::Relaxed);
    if total >= limit {
        return None;
    }
    // Doubling keeps the number of slots small; a slot costs the host kernel 1.85 KiB a MiB (pvm).
    let want = (total as u64 * PAGE_SIZE).clamp(32 << 20, 512 << 20);
    let left = ((limit - total) as u64 * PAGE_SIZE).next_multiple_of(HUGE_PAGE_SIZE);
    let extent = (config.grow)(want.min(left) & !(HUGE_PAGE_SIZE - 1), zone)?;
    add_extent(extent);
    drop(guard);
    (config.grown)();
    Some(())
}

/// Gives a block of 2^`order` frames back.
pub(super) fn free_block(gpa: u64, order: u8) {
    let frame = (gpa / PAGE_SIZE) as u32;
    // SAFETY: the caller gives the block up; only free blocks go over to another pool.
    let pool = unsafe { (*meta(frame)).pool } as usize;
    let used = if pool == EMERGENCY { &EMERGENCY_USED } else { &USED_FRAMES };
    used.fetch_sub(1 << order, Ordering::Relaxed);
    POOLS[pool].lock().give(frame, order);
}

/// Notes of a block in use, which is the caller's, that it reads as zeros.
pub(super) fn mark_clean(gpa: u64, order: u8) {
    let frame = (gpa / PAGE_SIZE) as u32;
    for frame in frame..frame + (1 << order) {
        // SAFETY: the block is in use: its metadata is its owner's.
        unsafe { (*meta(frame)).clean = 1 };
    }
}

/// Free blocks of 2 MiB that the host could have back.
pub(super) fn dirty_blocks() -> usize {
    DIRTY.load(Ordering::Relaxed)
}

/// Takes dirty free blocks off the lists, all but `keep` of those that would be used next; returns how many stand in
/// `out` as frame numbers.
pub(super) fn take_dirty(keep: usize, out: &mut [u32]) -> usize {
    let mut count = 0;
    for pool in &POOLS {
        let mut pool = pool.lock();
        let mut kept = 0;
        let mut at = pool.free[MAX_ORDER as usize];
        while at != NONE && count < out.len() {
            // SAFETY: `at` is on the list of the pool, whose lock is held.
            let (state, next) = unsafe { ((*meta(at)).state, (*meta(at)).next) };
            if state == STATE_DIRTY {
                kept += 1;
                if kept > keep {
                    pool.unlink(at, MAX_ORDER);
                    out[count] = at;
                    count += 1;
                }
            }
            at = next;
        }
    }
    count
}

/// Puts blocks back that [`take_dirty`] took: behind those that would be used next. `clean`: they read as zeros now.
pub(super) fn put_back(blocks: &[u32], clean: bool) {
    for &frame in blocks {
        // SAFETY: the block is on no list: its metadata is ours.
        let index = unsafe {
            if clean {
                (frame..frame + CHUNK_FRAMES as u32).for_each(|f| (*meta(f)).clean = 1);
            }
            (*meta(frame)).pool as usize
        };
        let mut pool = POOLS[index].lock();
        let mut last = NONE;
        let mut at = pool.free[MAX_ORDER as usize];
        while at != NONE {
            last = at;
            // SAFETY: as in `take_dirty`.
            at = unsafe { (*meta(at)).next };
        }
        if last == NONE {
            pool.push(frame, MAX_ORDER);
            continue;
        }
        // SAFETY: as in `push`.
        unsafe {
            let m = meta(frame);
            ((*m).state, (*m).order, (*m).next, (*m).prev) = (STATE_FREE, MAX_ORDER, NONE, last);
            (*meta(last)).next = frame;
        }
        pool.free_frames += CHUNK_FRAMES;
    }
}
