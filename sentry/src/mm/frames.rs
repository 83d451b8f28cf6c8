//! Frames: the pages of guest memory, who holds them, and their contents.
//!
//! Every frame has metadata. Free frames are kept by a buddy allocator, one pool for each zone (one for both
//! under `kvm`), in blocks of 2^0 to 2^9 frames; a pool takes memory 2 MiB at a time from its extents, so what was
//! never needed is never touched. Contents are only ever copied, raw: a program may write a frame at any time, so
//! no `&[u8]` to one exists.

pub mod heap;
pub mod page;

use crate::errno::{Errno, Result};
use crate::sync::{Once, SpinLock};
use abi::boot::{Extent, Zone};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Largest order of a block: 2^9 frames, 2 MiB.
pub const MAX_ORDER: u8 = 9;
const CHUNK_FRAMES: usize = 1 << MAX_ORDER;
/// Guest-physical space that is covered: 256 GiB.
const MAX_CHUNKS: usize = 128 * 1024;
const NONE: u32 = 0;

const STATE_UNUSED: u8 = 0;
const STATE_FREE: u8 = 1;
const STATE_USED: u8 = 2;

/// What is known of a frame.
#[repr(C)]
struct Meta {
    refs: AtomicU32,
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

static POOLS: [SpinLock<Pool>; 2] = [SpinLock::new(Pool::new()), SpinLock::new(Pool::new())];
static CHUNKS: [AtomicU64; MAX_CHUNKS] = [const { AtomicU64::new(0) }; MAX_CHUNKS];
static PHYSMAP: AtomicU64 = AtomicU64::new(0);
static USED_FRAMES: AtomicUsize = AtomicUsize::new(0);
static TOTAL_FRAMES: AtomicUsize = AtomicUsize::new(0);
static CONFIG: Once<Config> = Once::new();

struct Config {
    split: bool,
    limit_frames: usize,
    grow: fn(u64, Zone) -> Option<Extent>,
    grown: fn(),
}

/// Sets the allocator up. `split`: the zones are separate memory (`systrap`); `grow` asks the host for an extent, must
/// not allocate, and is followed by `grown` once the extent is in use.
pub fn init(physmap: u64, split: bool, limit: u64, grow: fn(u64, Zone) -> Option<Extent>, grown: fn()) {
    PHYSMAP.store(physmap, Ordering::Relaxed);
    let _ = CONFIG.set(Config { split, limit_frames: (limit / PAGE_SIZE) as usize, grow, grown });
}

fn pool_of(zone: Zone) -> usize {
    match CONFIG.get() {
        Some(c) if c.split => zone as usize,
        _ => 0,
    }
}

/// Adds memory. Metadata is made when a chunk of 2 MiB is first used. Part of a chunk at either end is left out,
/// except that the boot extent's first chunk may begin anywhere.
pub fn add_extent(extent: Extent) {
    let zone = if extent.zone == Zone::User as u64 { Zone::User } else { Zone::Kernel };
    let mut pool = POOLS[pool_of(zone)].lock();
    TOTAL_FRAMES.fetch_add((extent.len / PAGE_SIZE) as usize, Ordering::Relaxed);
    let at = pool.fresh_count;
    if at < pool.fresh.len() {
        pool.fresh[at] = (extent.gpa, extent.gpa + extent.len);
        pool.fresh_count = at + 1;
    }
}

/// Address of guest memory in the sentry's own address space.
#[inline]
pub fn physmap(gpa: u64) -> *mut u8 {
    ptr::with_exposed_provenance_mut((PHYSMAP.load(Ordering::Relaxed) + gpa) as usize)
}

/// Guest-physical address of memory in the map of guest memory.
pub fn gpa_of(va: *const u8) -> u64 {
    va.expose_provenance() as u64 - PHYSMAP.load(Ordering::Relaxed)
}

#[inline]
fn meta(frame: u32) -> *mut Meta {
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

/// Brings a fresh range (within one chunk) into use.
fn activate(pool_index: usize, start: u64, stop: u64) -> bool {
    let chunk = (start / HUGE_PAGE_SIZE) as usize;
    if chunk >= MAX_CHUNKS {
        return false;
    }
    let bytes = (CHUNK_FRAMES * size_of::<Meta>()) as u64;
    let mut first = start;
    // Metadata lies in kernel memory that is in use already, so that chunks stay whole and can serve 2 MiB blocks;
    // where there is none (the first chunk), in the chunk's own head.
    let spare = POOLS[0].lock().take(1);
    let at = match spare {
        Some(frame) => {
            USED_FRAMES.fetch_add(2, Ordering::Relaxed);
            u64::from(frame) * PAGE_SIZE
        }
        None if pool_index == 0 => {
            first += bytes;
            start
        }
        None => match alloc_block(Zone::Kernel, 1) {
            Some((gpa, _)) => gpa,
            None => return false,
        },
    };
    let table = physmap(at).cast::<Meta>();
    for i in 0..CHUNK_FRAMES {
        // SAFETY: `at` names 8 KiB of fresh kernel memory that nothing else uses.
        unsafe {
            table.add(i).write(Meta {
                refs: AtomicU32::new(0),
                next: NONE,
                prev: NONE,
                state: STATE_UNUSED,
                order: 0,
                clean: 1,
                pool: pool_index as u8,
            });
        }
    }
    CHUNKS[chunk].store(table.expose_provenance() as u64, Ordering::Release);
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

/// Takes a block of 2^`order` frames. Returns its address and whether it reads as zeros.
fn alloc_block(zone: Zone, order: u8) -> Option<(u64, bool)> {
    let index = pool_of(zone);
    loop {
        let fresh = {
            let mut pool = POOLS[index].lock();
            if let Some(frame) = pool.take(order) {
                drop(pool);
                let mut clean = true;
                for f in frame..frame + (1 << order) {
                    // SAFETY: the block was just taken off the free lists: its metadata is ours.
                    unsafe {
                        clean &= (*meta(f)).clean == 1;
                        (*meta(f)).clean = 0;
                        (*meta(f)).state = STATE_USED;
                        (*meta(f)).order = 0;
                    }
                }
                USED_FRAMES.fetch_add(1 << order, Ordering::Relaxed);
                return Some((u64::from(frame) * PAGE_SIZE, clean));
            }
            pool.take_fresh()
        };
        match fresh {
            Some((start, stop)) => {
                if !activate(index, start, stop) {
                    return None;
                }
            }
            None => grow(zone)?,
        }
    }
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
    if total >= config.limit_frames {
        return None;
    }
    // Doubling keeps the number of slots small; a slot costs the host kernel 1.85 KiB a MiB (pvm).
    let want = (total as u64 * PAGE_SIZE).clamp(32 << 20, 512 << 20);
    let left = ((config.limit_frames - total) as u64 * PAGE_SIZE).next_multiple_of(HUGE_PAGE_SIZE);
    let extent = (config.grow)(want.min(left) & !(HUGE_PAGE_SIZE - 1), zone)?;
    add_extent(extent);
    drop(guard);
    (config.grown)();
    Some(())
}

fn free_block(gpa: u64, order: u8) {
    let frame = (gpa / PAGE_SIZE) as u32;
    // SAFETY: the caller gives the block up; the pool number never changes.
    let pool = unsafe { (*meta(frame)).pool } as usize;
    USED_FRAMES.fetch_sub(1 << order, Ordering::Relaxed);
    POOLS[pool].lock().give(frame, order);
}

/// Frames in use and frames that there are, the part that was not asked of the host yet included.
pub fn usage() -> (usize, usize) {
    let limit = CONFIG.get().map_or(0, |c| c.limit_frames);
    (USED_FRAMES.load(Ordering::Relaxed), limit.max(TOTAL_FRAMES.load(Ordering::Relaxed)))
}

/// Kernel memory for the heap and for page tables: 2^`order` frames, contents undefined. Returns its address in the
/// map of guest memory.
pub fn alloc_kernel(order: u8) -> Option<*mut u8> {
    ensure_init();
    alloc_block(Zone::Kernel, order).map(|(gpa, _)| physmap(gpa))
}

/// Gives kernel memory back.
///
/// # Safety
/// `va` came from [`alloc_kernel`] with the same order, and nothing refers to it any more.
pub unsafe fn free_kernel(va: *mut u8, order: u8) {
    free_block(gpa_of(va), order);
}

/// A reference to one frame that programs may map; the frame is freed with its last reference.
#[derive(PartialEq, Eq)]
pub struct FrameRef {
    gpa: u64,
}

impl FrameRef {
    /// A frame of zeros.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn alloc_zeroed() -> Result<Self> {
        let (frame, clean) = Self::alloc_raw(0)?;
        if !clean {
            frame.zero(0, PAGE_SIZE as usize);
        }
        Ok(frame)
    }

    /// A frame whose contents the caller overwrites whole.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn alloc_uninit() -> Result<Self> {
        Self::alloc_raw(0).map(|(frame, _)| frame)
    }

    fn alloc_raw(order: u8) -> Result<(Self, bool)> {
        ensure_init();
        let (gpa, clean) = alloc_block(Zone::User, order).ok_or(Errno::ENOMEM)?;
        for i in 0..1u32 << order {
            // SAFETY: the block is ours alone.
            unsafe { (*meta((gpa / PAGE_SIZE) as u32 + i)).refs.store(1, Ordering::Relaxed) };
        }
        Ok((Self { gpa }, clean))
    }

    /// 512 frames of zeros, contiguous and aligned to 2 MiB.
    ///
    /// # Errors
    /// ENOMEM, also where memory is there but in pieces.
    pub fn alloc_huge() -> Result<HugeFrame> {
        let (frame, clean) = Self::alloc_raw(MAX_ORDER)?;
        let gpa = frame.into_raw();
        if !clean {
            // SAFETY: 2 MiB of our own.
            unsafe { ptr::write_bytes(physmap(gpa), 0, HUGE_PAGE_SIZE as usize) };
        }
        Ok(HugeFrame { gpa })
    }

    /// Guest-physical address.
    #[inline]
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Gives the reference away as an address, to be kept in a page-table entry.
    #[inline]
    pub fn into_raw(self) -> u64 {
        let gpa = self.gpa;
        core::mem::forget(self);
        gpa
    }

    /// Takes a reference back that was kept as an address.
    ///
    /// # Safety
    /// The address came from [`FrameRef::into_raw`] or lies in a kept [`HugeFrame`], once for each call of this.
    #[inline]
    pub unsafe fn from_raw(gpa: u64) -> Self {
        Self { gpa }
    }

    /// References to the frame: of page tables, page caches and code.
    #[inline]
    pub fn refs(&self) -> u32 {
        // SAFETY: a frame that is referred to has metadata.
        unsafe { (*meta((self.gpa / PAGE_SIZE) as u32)).refs.load(Ordering::Acquire) }
    }

    /// Copies out of the frame. Panics where the range is not within the page: callers compute it from page offsets.
    pub fn read(&self, offset: usize, buf: &mut [u8]) {
        assert!(offset + buf.len() <= PAGE_SIZE as usize);
        // SAFETY: the range lies in a frame that is held; raw copies tolerate writers.
        unsafe { ptr::copy_nonoverlapping(physmap(self.gpa).add(offset), buf.as_mut_ptr(), buf.len()) };
    }

    /// Copies into the frame; as [`FrameRef::read`].
    pub fn write(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= PAGE_SIZE as usize);
        // SAFETY: as in `read`.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), physmap(self.gpa).add(offset), data.len()) };
    }

    /// Zeroes a part of the frame.
    pub fn zero(&self, offset: usize, len: usize) {
        assert!(offset + len <= PAGE_SIZE as usize);
        // SAFETY: as in `read`.
        unsafe { ptr::write_bytes(physmap(self.gpa).add(offset), 0, len) };
    }

    /// Copies between frames.
    pub fn copy_from(&self, offset: usize, from: &FrameRef, from_offset: usize, len: usize) {
        assert!(offset + len <= PAGE_SIZE as usize && from_offset + len <= PAGE_SIZE as usize);
        // SAFETY: both ranges lie in frames that are held; `copy` allows them to be the same.
        unsafe { ptr::copy(physmap(from.gpa).add(from_offset), physmap(self.gpa).add(offset), len) };
    }

    /// The aligned 32-bit word at an offset, for futexes.
    ///
    /// # Errors
    /// EINVAL where the offset is not aligned or not in the page.
    pub fn word(&self, offset: usize) -> Result<&AtomicU32> {
        if !offset.is_multiple_of(4) || offset > PAGE_SIZE as usize - 4 {
            return Err(Errno::EINVAL);
        }
        // SAFETY: aligned, in a frame that `self` holds; programs' accesses are atomic to hardware.
        Ok(unsafe { &*physmap(self.gpa).add(offset).cast::<AtomicU32>() })
    }
}

/// 512 frames with a reference to each, to be mapped as one leaf.
pub struct HugeFrame {
    gpa: u64,
}

impl HugeFrame {
    /// Guest-physical address of the first.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Leaves the references to a page-table entry.
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for HugeFrame {
    fn drop(&mut self) {
        for i in 0..CHUNK_FRAMES as u64 {
            // SAFETY: each of the references is taken back once.
            drop(unsafe { FrameRef::from_raw(self.gpa + i * PAGE_SIZE) });
        }
    }
}

impl Clone for FrameRef {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: a frame that is referred to has metadata.
        unsafe { (*meta((self.gpa / PAGE_SIZE) as u32)).refs.fetch_add(1, Ordering::Relaxed) };
        Self { gpa: self.gpa }
    }
}

impl Drop for FrameRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a frame that is referred to has metadata.
        let before = unsafe { (*meta((self.gpa / PAGE_SIZE) as u32)).refs.fetch_sub(1, Ordering::AcqRel) };
        debug_assert!(before != 0, "frame {:#x} freed twice", self.gpa);
        if before == 1 {
            free_block(self.gpa, 0);
        }
    }
}

impl core::fmt::Debug for FrameRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Frame({:#x})", self.gpa)
    }
}

/// 2^`order` frames of the user zone, zeroed, for a stub's area. Returns the address.
pub fn alloc_area(order: u8) -> Option<u64> {
    let (gpa, clean) = alloc_block(Zone::User, order)?;
    if !clean {
        // SAFETY: the block is ours alone.
        unsafe { ptr::write_bytes(physmap(gpa), 0, (PAGE_SIZE as usize) << order) };
    }
    Some(gpa)
}

/// Gives an area back, whose stub has ended.
pub fn free_area(gpa: u64, order: u8) {
    free_block(gpa, order);
}

/// Copies raw bytes between guest memory and a buffer of the kernel.
///
/// # Safety
/// `gpa..gpa+buf.len()` lies in guest memory that is not freed meanwhile.
pub unsafe fn read_raw(gpa: u64, buf: &mut [u8]) {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(physmap(gpa), buf.as_mut_ptr(), buf.len()) };
}

/// The counterpart of [`read_raw`].
///
/// # Safety
/// As there.
pub unsafe fn write_raw(gpa: u64, data: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), physmap(gpa), data.len()) };
}

#[cfg(not(test))]
fn ensure_init() {}

/// Natively, memory is an arena of the test process.
#[cfg(test)]
fn ensure_init() {
    static INIT: std::sync::Once = std::sync::Once::new();
    INIT.call_once(|| {
        const LEN: usize = 512 << 20;
        let layout = std::alloc::Layout::from_size_align(LEN, HUGE_PAGE_SIZE as usize).expect("layout");
        // SAFETY: the layout is not empty; the arena is never freed.
        let arena = unsafe { std::alloc::alloc_zeroed(layout) };
        init(arena.expose_provenance() as u64, false, LEN as u64, |_, _| None, || {});
        // Frame 0 is never used.
        add_extent(Extent { gpa: PAGE_SIZE, len: LEN as u64 - PAGE_SIZE, zone: Zone::Kernel as u64 });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_merge_again() {
        let frames: Vec<_> = (0..2000).map(|_| FrameRef::alloc_zeroed().expect("memory")).collect();
        let mut gpas: Vec<_> = frames.iter().map(FrameRef::gpa).collect();
        gpas.sort_unstable();
        gpas.dedup();
        assert_eq!(gpas.len(), 2000);
        drop(frames);
        let huge = FrameRef::alloc_huge().expect("2 MiB");
        assert_eq!(huge.gpa() % HUGE_PAGE_SIZE, 0);
    }

    #[test]
    fn reused_frames_read_as_zeros() {
        let frame = FrameRef::alloc_zeroed().expect("memory");
        frame.write(100, b"secret");
        let copy = frame.clone();
        assert_eq!(frame.refs(), 2);
        drop(frame);
        drop(copy);
        for _ in 0..64 {
            let frame = FrameRef::alloc_zeroed().expect("memory");
            let mut buf = [1; 6];
            frame.read(100, &mut buf);
            assert_eq!(buf, [0; 6]);
        }
    }
}
