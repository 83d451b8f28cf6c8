//! Frames: the pages of guest memory, who holds them, and their contents.
//!
//! Every frame has metadata. Free frames are kept by a buddy allocator, one pool for each zone (one for both
//! under `kvm`), in blocks of 2^0 to 2^9 frames; a pool takes memory 2 MiB at a time from its extents, so what was
//! never needed is never touched. Contents are only ever copied, raw: a program may write a frame at any time, so
//! no `&[u8]` to one exists.

#[cfg(test)]
pub mod arena;
pub mod heap;
pub mod image;
mod lent;
pub mod page;
mod pool;
mod release;

pub use self::lent::Lent;
pub use self::pool::MAX_ORDER;
pub use self::release::{releasable, release};

use self::pool::{CHUNK_FRAMES, alloc_block, free_block, meta};

use crate::errno::{Errno, Result};
use crate::sync::Once;
use abi::boot::{Extent, Zone};
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

static PHYSMAP: AtomicU64 = AtomicU64::new(0);
static USED_FRAMES: AtomicUsize = AtomicUsize::new(0);
/// Noted where a chunk is used for the first time, which is where there is no free one.
static PEAK_FRAMES: AtomicUsize = AtomicUsize::new(0);
static TOTAL_FRAMES: AtomicUsize = AtomicUsize::new(0);
static CONFIG: Once<Config> = Once::new();

/// Most frames that may be had of the host.
static LIMIT_FRAMES: AtomicUsize = AtomicUsize::new(0);
/// Most frames that may be in use, where that is less than those that there are: the limit was set later.
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Config {
    split: bool,
    /// Bytes of the machine that are no frames for use: the image, and what is kept for the sentry.
    fixed: u64,
    /// Bytes that are kept for the sentry alone.
    emergency: u64,
    grow: fn(u64, Zone) -> Option<Extent>,
    grown: fn(),
}

/// Sets the allocator up. `split`: the zones are separate memory (`systrap`); `grow` asks the host for an extent, must
/// not allocate, and is followed by `grown` once the extent is in use.
/// `taken` of the `limit` bytes of the machine are in use before.
pub fn init(
    physmap: u64,
    split: bool,
    limit: u64,
    taken: u64,
    grow: fn(u64, Zone) -> Option<Extent>,
    grown: fn(),
) {
    PHYSMAP.store(physmap, Ordering::Relaxed);
    let emergency = (limit.saturating_sub(taken) / 32).clamp(4 << 20, 32 << 20) & !(HUGE_PAGE_SIZE - 1);
    let fixed = taken + emergency;
    LIMIT_FRAMES.store((limit.saturating_sub(fixed) / PAGE_SIZE) as usize, Ordering::Relaxed);
    let _ = CONFIG.set(Config { split, fixed, emergency, grow, grown });
}

/// Limits the machine to `bytes` from now on, more or fewer than before. Returns `false`, and changes nothing, where
/// more than that is in use.
pub fn set_limit(bytes: u64) -> bool {
    let fixed = CONFIG.get().map_or(0, |c| c.fixed);
    let frames = (bytes.saturating_sub(fixed) / PAGE_SIZE) as usize;
    let before = CEILING.swap(frames, Ordering::SeqCst);
    // What is taken from here on keeps to it.
    if USED_FRAMES.load(Ordering::SeqCst) + SPARE > frames {
        CEILING.store(before, Ordering::SeqCst);
        return false;
    }
    LIMIT_FRAMES.store(frames, Ordering::SeqCst);
    true
}

/// Frames that must be left to set a limit: with fewer nothing would run on.
const SPARE: usize = 256;

/// Adds memory. Metadata is made when a chunk of 2 MiB is first used. Part of a chunk at either end is left out,
/// except that the boot extent's first chunk may begin anywhere.
pub fn add_extent(extent: Extent) {
    pool::add_extent(extent);
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

/// Most frames that were in use at once, to within 2 MiB.
pub fn peak() -> usize {
    let used = USED_FRAMES.load(Ordering::Relaxed);
    PEAK_FRAMES.fetch_max(used, Ordering::Relaxed).max(used)
}

/// Frames in use and frames that there are, the part that was not asked of the host yet included.
pub fn usage() -> (usize, usize) {
    let limit = LIMIT_FRAMES.load(Ordering::Relaxed);
    let there = limit.max(TOTAL_FRAMES.load(Ordering::Relaxed));
    (USED_FRAMES.load(Ordering::Relaxed), there.min(CEILING.load(Ordering::Relaxed)))
}

/// Order of the largest blocks that the sentry needs one after the other: stacks of tasks.
const STACK_ORDER: u8 = 3;
/// Free frames below which memory is short.
const SHORT: usize = 1024;

/// Whether the sentry lives on its emergency memory: something must be given back before more is asked for.
#[inline]
pub fn low() -> bool {
    pool::emergency_used() != 0 && {
        let (used, limit) = usage();
        // Hundreds of tasks may be on their way to ask for some of it, each for what one call takes. What was made of it may
        // stay for long, with other memory free by now.
        used + SHORT > limit
            || pool::emergency_left() < (pool::emergency_own() / 2).max(SPARE)
                && !pool::kernel_has(SPARE, STACK_ORDER)
    }
}

/// Fills the emergency memory up again where there is some, or takes back what it does not need any more.
pub fn replenish() {
    if pool::emergency_used() != 0 || pool::emergency_left() > 0 {
        pool::replenish();
    }
}

/// Kernel memory for the heap and for page tables: 2^`order` frames, contents undefined. Returns its address in the
/// map of guest memory. Where nothing is left it comes from what is kept for the sentry.
pub fn alloc_kernel(order: u8) -> Option<*mut u8> {
    alloc_kernel_or_fail(order).or_else(|| {
        let gpa = if order <= MAX_ORDER { pool::alloc_emergency(order) } else { None };
        gpa.map(physmap)
    })
}

/// The same for those who can do without: nothing is taken of what is kept for the sentry.
pub fn alloc_kernel_or_fail(order: u8) -> Option<*mut u8> {
    ensure_init();
    if order > MAX_ORDER {
        let blocks = 1u32.checked_shl(u32::from(order - MAX_ORDER)).filter(|n| *n <= 1 << 10)?;
        return pool::alloc_run(blocks).map(physmap);
    }
    alloc_block(Zone::Kernel, order).map(|(gpa, _)| physmap(gpa))
}

/// Whether there is a page of kernel memory beside what is kept for the sentry.
pub fn kernel_has_room() -> bool {
    let Some(page) = alloc_kernel_or_fail(0) else { return false };
    // SAFETY: allocated just now with this order; nobody else knows of it.
    unsafe { free_kernel(page, 0) };
    true
}

/// Gives kernel memory back.
///
/// # Safety
/// `va` came from [`alloc_kernel`] or [`alloc_kernel_or_fail`] with the same order, and nothing refers to it any more.
pub unsafe fn free_kernel(va: *mut u8, order: u8) {
    let gpa = gpa_of(va);
    for i in 0..1u64 << order.saturating_sub(MAX_ORDER) {
        free_block(gpa + i * HUGE_PAGE_SIZE, order.min(MAX_ORDER));
    }
}

/// Gives a page of kernel memory back that is all zeros, so that it need not be cleared again.
///
/// # Safety
/// As [`free_kernel`], with order 0.
pub unsafe fn free_zeroed(va: *mut u8) {
    pool::mark_clean(gpa_of(va), 0);
    free_block(gpa_of(va), 0);
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
#[cfg(test)]
use self::arena::ensure_init;

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
