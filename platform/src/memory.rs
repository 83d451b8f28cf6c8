//! Guest memory: extents of host memory at guest-physical addresses.
//!
//! The guest writes this memory while the VMM reads it, so nothing here hands out a reference into it: bytes are
//! copied through raw pointers, or named to the kernel as an `iovec`.

pub mod images;
mod saved;
pub mod zones;

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use abi::HUGE_PAGE_SIZE;
use abi::boot::{Extent, IMAGE_CUTS_GPA, IMAGE_LOST_GPA, IMAGES_GPA, Zone};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use self::images::Images;
use self::zones::Zones;
use crate::Error;

/// Bytes of the extent that is there at boot.
pub const BOOT_EXTENT: u64 = 32 << 20;
/// Most extents of a machine.
pub const MAX_EXTENTS: usize = 512;
/// Where extents beyond the boot extent begin.
const GROW_BASE: u64 = 1 << 30;
/// Guest-physical addresses that belong to interrupt controllers and to KVM itself; no memory is put there.
const HOLE: std::ops::Range<u64> = (3 << 30)..(4 << 30);
/// Most bytes of one extent that is added later.
const MAX_GROW: u64 = 1 << 30;

/// An error of an access: the range is not guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

/// Told of every extent, so that it can be made visible to the machine.
pub trait ExtentSink: Send + Sync {
    /// Makes `extent`, which is mapped at `host` in this process, visible to the guest as slot `slot`.
    fn add(&self, slot: u32, extent: Extent, host: u64) -> io::Result<()>;

    /// The machine may have `limit` bytes from now on, more than before.
    fn limit_raised(&self, limit: u64);
}

struct Mapped {
    gpa: u64,
    len: u64,
    zone: Zone,
    host: u64,
    /// It is a private mapping of a file: what is given back must not come again.
    file: bool,
}

/// Memory of a machine.
pub struct GuestMemory {
    extents: Box<[OnceLock<Mapped>]>,
    count: AtomicUsize,
    total: AtomicU64,
    limit: AtomicU64,
    grow: Mutex<u64>,
    sink: OnceLock<Box<dyn ExtentSink>>,
    /// Where the memory lies in two files that other processes map; else it is anonymous.
    zones: Option<Zones>,
    /// Images of file systems, which are no part of what is saved and cannot be written.
    images: OnceLock<Images>,
}

impl GuestMemory {
    /// Memory with a boot extent of `boot` bytes at address 0 and at most `limit` bytes altogether.
    pub fn new(boot: u64, limit: u64) -> Result<Self, Error> {
        let memory = Self::empty(limit.max(boot), None);
        let host = map_anonymous(boot, false).map_err(|source| Error::Memory { bytes: boot, source })?;
        memory.push(Mapped { gpa: 0, len: boot, zone: Zone::Kernel, host, file: false });
        Ok(memory)
    }

    /// Memory in two zones, each a file that other processes can map, with a boot extent of `kernel` bytes in the
    /// one and of `user` bytes in the other. The limit can be raised up to `most` bytes later.
    pub fn zoned(kernel: u64, user: u64, limit: u64, most: u64) -> Result<Self, Error> {
        let limit = limit.max(kernel + user).next_multiple_of(HUGE_PAGE_SIZE);
        let most = most.next_multiple_of(HUGE_PAGE_SIZE).max(limit);
        let memory = Self::empty(limit, Some(Zones::new(most)?));
        for (zone, len) in [(Zone::Kernel, kernel), (Zone::User, user)] {
            memory
                .grow(len, zone)
                .map_err(|errno| Error::Memory { bytes: len, source: io::Error::from_raw_os_error(errno) })?;
        }
        Ok(memory)
    }

    fn empty(limit: u64, zones: Option<Zones>) -> Self {
        Self {
            extents: (0..MAX_EXTENTS).map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            grow: Mutex::new(GROW_BASE),
            sink: OnceLock::new(),
            zones,
            images: OnceLock::new(),
        }
    }

    /// Adds images of file systems; once.
    pub fn set_images(&self, images: Images) {
        let _ = self.images.set(images);
    }

    /// Those images.
    pub fn images(&self) -> Option<&Images> {
        self.images.get()
    }

    /// Makes a piece of an image visible to the guest. Returns its bytes.
    ///
    /// # Errors
    /// EFAULT, ENOMEM: see [`Images::map`].
    pub fn map_image(&self, gpa: u64) -> Result<u64, i32> {
        let piece = self.images.get().ok_or(libc::EFAULT)?.map(gpa)?;
        if let Some(sink) = self.sink.get() {
            let extent = Extent { gpa: piece.gpa, len: piece.len, zone: Zone::User as u64 };
            match sink.add(MAX_EXTENTS as u32 + piece.index, extent, piece.host) {
                // It is there already.
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                other => other.map_err(|_| libc::ENOMEM)?,
            }
        }
        Ok(piece.len)
    }

    /// Looks whether images have become shorter, and tells the guest in the shared page. Returns whether one has, at any
    /// time.
    pub fn check_images(&self) -> bool {
        let lost = self.images.get().map(Images::lost).unwrap_or_default();
        let (mut any, mut news) = (false, false);
        for (at, lost) in (IMAGE_LOST_GPA..).step_by(8).zip(lost) {
            any |= lost != 0;
            news |= self.read_struct(at) != Ok(lost) && self.write_struct(at, &lost).is_ok();
        }
        if news {
            // After what it tells of.
            let _ = self.count(IMAGE_CUTS_GPA);
        }
        any
    }

    /// Host address of a range that is only read, and only by the host's kernel: it may lie in an image.
    pub fn host_to_read(&self, gpa: u64, len: u64) -> Result<u64, OutOfRange> {
        self.host(gpa, len).or_else(|_| self.images.get().ok_or(OutOfRange)?.host(gpa, len))
    }

    /// The zones, where the memory lies in such.
    pub fn zones(&self) -> Option<&Zones> {
        self.zones.as_ref()
    }

    /// Sets who is told of extents, and tells of those that are there.
    pub fn attach(&self, sink: Box<dyn ExtentSink>) -> io::Result<()> {
        for (slot, mapped) in self.iter().enumerate() {
            let extent = Extent { gpa: mapped.gpa, len: mapped.len, zone: mapped.zone as u64 };
            sink.add(slot as u32, extent, mapped.host)?;
        }
        let _ = self.sink.set(sink);
        Ok(())
    }

    /// Most bytes of memory, all extents together.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lets the memory grow to `limit` bytes, if that is more than before. Where it lies in zones, these end it.
    pub fn raise_limit(&self, limit: u64) {
        if self.limit.fetch_max(limit, Ordering::Relaxed) < limit
            && let Some(sink) = self.sink.get()
        {
            sink.limit_raised(limit);
        }
    }

    /// Bytes of all extents together.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn iter(&self) -> impl Iterator<Item = &Mapped> {
        self.extents[..self.count.load(Ordering::Acquire)].iter().filter_map(OnceLock::get)
    }

    fn push(&self, mapped: Mapped) {
        let slot = self.count.load(Ordering::Relaxed);
        self.total.fetch_add(mapped.len, Ordering::Relaxed);
        if let Some(cell) = self.extents.get(slot) {
            let _ = cell.set(mapped);
            self.count.store(slot + 1, Ordering::Release);
        }
    }

    /// Adds an extent of `len` bytes and returns its guest-physical address.
    pub fn grow(&self, len: u64, zone: Zone) -> Result<u64, i32> {
        if len == 0 || len > MAX_GROW || !len.is_multiple_of(HUGE_PAGE_SIZE) {
            return Err(libc::EINVAL);
        }
        let mut next = self.grow.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let slot = self.count.load(Ordering::Relaxed);
        if slot >= MAX_EXTENTS || self.total().saturating_add(len) > self.limit() {
            return Err(libc::ENOMEM);
        }
        if let Some(zones) = &self.zones {
            let (gpa, host) = zones.take(zone, len).ok_or(libc::ENOMEM)?;
            self.push(Mapped { gpa, len, zone, host, file: false });
            return Ok(gpa);
        }
        let mut gpa = *next;
        if gpa < HOLE.end && gpa + len > HOLE.start {
            gpa = HOLE.end;
        }
        if gpa + len > IMAGES_GPA {
            return Err(libc::ENOMEM);
        }
        let host = map_anonymous(len, true).map_err(|_| libc::ENOMEM)?;
        if let Some(sink) = self.sink.get() {
            let extent = Extent { gpa, len, zone: zone as u64 };
            if sink.add(slot as u32, extent, host).is_err() {
                unmap(host, len);
                return Err(libc::ENOMEM);
            }
        }
        self.push(Mapped { gpa, len, zone, host, file: false });
        *next = gpa + len;
        Ok(gpa)
    }

    /// Host address of a range that lies within one extent.
    pub fn host(&self, gpa: u64, len: u64) -> Result<u64, OutOfRange> {
        let end = gpa.checked_add(len).ok_or(OutOfRange)?;
        self.iter()
            .find(|m| gpa >= m.gpa && end <= m.gpa + m.len)
            .map(|m| m.host + (gpa - m.gpa))
            .ok_or(OutOfRange)
    }

    /// Copies bytes out of guest memory.
    pub fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutOfRange> {
        let host = self.host(gpa, out.len() as u64)?;
        // SAFETY: `host` to `host + out.len()` is a mapping of this process that lives as long as `self` (extents
        // are never unmapped once pushed) and `out` is a distinct buffer of that length. The guest may write the
        // source meanwhile; no reference to it exists and any bytes are valid `u8`.
        unsafe { std::ptr::copy_nonoverlapping(host as *const u8, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies bytes into guest memory.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let host = self.host(gpa, bytes.len() as u64)?;
        // SAFETY: as in `read`: the destination is a live mapping of this process of at least that length, to which
        // no reference exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), host as *mut u8, bytes.len()) };
        Ok(())
    }

    /// Copies a struct out of guest memory.
    pub fn read_struct<T: FromBytes + IntoBytes>(&self, gpa: u64) -> Result<T, OutOfRange> {
        let mut value = T::new_zeroed();
        self.read(gpa, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies a struct into guest memory.
    pub fn write_struct<T: IntoBytes + Immutable>(&self, gpa: u64, value: &T) -> Result<(), OutOfRange> {
        self.write(gpa, value.as_bytes())
    }

    /// Sets bits in a quadword that the guest exchanges atomically.
    pub fn fetch_or(&self, gpa: u64, bits: u64) -> Result<u64, OutOfRange> {
        if !gpa.is_multiple_of(8) {
            return Err(OutOfRange);
        }
        let host = self.host(gpa, 8)?;
        // SAFETY: `host` is 8-aligned (extents are page-aligned, `gpa` was checked), lies in a live mapping of this
        // process, and both sides access it atomically only.
        let word = unsafe { AtomicU64::from_ptr(host as *mut u64) };
        Ok(word.fetch_or(bits, Ordering::SeqCst))
    }

    /// Counts a quadword up that the guest reads atomically.
    fn count(&self, gpa: u64) -> Result<u64, OutOfRange> {
        let host = self.host(gpa, 8)?;
        // SAFETY: as in `fetch_or`; callers pass an aligned address of the host interface.
        let word = unsafe { AtomicU64::from_ptr(host as *mut u64) };
        Ok(word.fetch_add(1, Ordering::SeqCst))
    }

    /// A word that the guest accesses atomically, such as a futex.
    pub fn word(&self, gpa: u64) -> Result<&AtomicU32, OutOfRange> {
        if !gpa.is_multiple_of(4) {
            return Err(OutOfRange);
        }
        let host = self.host(gpa, 4)?;
        // SAFETY: `host` is 4-aligned, lies in a mapping that lives as long as `self`, and is accessed atomically.
        Ok(unsafe { AtomicU32::from_ptr(host as *mut u32) })
    }

    /// Gives the pages of a range back to the host; they read as zeros afterwards.
    pub fn release(&self, gpa: u64, len: u64) -> Result<(), i32> {
        if !gpa.is_multiple_of(abi::PAGE_SIZE) || !len.is_multiple_of(abi::PAGE_SIZE) {
            return Err(libc::EINVAL);
        }
        let host = self.host(gpa, len).map_err(|_| libc::EFAULT)?;
        if let Some(zones) = &self.zones {
            return zones.release(gpa, len);
        }
        if self.iter().any(|m| m.file && (m.gpa..m.gpa + m.len).contains(&gpa)) {
            return saved::cover(host, len);
        }
        // SAFETY: the range is part of a mapping that this type owns; dropping its contents cannot break Rust's
        // rules because no reference to it exists.
        let done = unsafe { libc::madvise(host as *mut libc::c_void, len as usize, libc::MADV_DONTNEED) };
        if done == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        if self.zones.is_some() {
            return;
        }
        for mapped in self.iter() {
            unmap(mapped.host, mapped.len);
        }
    }
}

/// The last errno.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Maps `len` bytes of anonymous memory at a multiple of 2 MiB; if `huge`, on huge pages where the host has them.
///
/// The boot extent is on small pages: a short command touches little of it, and the first touch of a huge page can
/// take milliseconds where the host is itself a guest whose free memory went back to its own host.
fn map_anonymous(len: u64, huge: bool) -> io::Result<u64> {
    let start = map_aligned(len)?;
    if huge {
        // SAFETY: advice on the mapping just made. It may fail where the host has no huge pages; nothing depends on it.
        unsafe { libc::madvise(start as *mut libc::c_void, len as usize, libc::MADV_HUGEPAGE) };
    }
    Ok(start)
}

fn map_aligned(len: u64) -> io::Result<u64> {
    let padded = (len + HUGE_PAGE_SIZE) as usize;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            padded,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = base as u64;
    let start = base.next_multiple_of(HUGE_PAGE_SIZE);
    unmap(base, start - base);
    unmap(start + len, base + padded as u64 - start - len);
    Ok(start)
}

pub(crate) fn unmap(start: u64, len: u64) {
    if len != 0 {
        // SAFETY: only called for ranges of mappings made by this module that nothing refers to.
        unsafe { libc::munmap(start as *mut libc::c_void, len as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_within_one_extent() {
        let memory = GuestMemory::new(4 << 20, 64 << 20).expect("map");
        assert_eq!(memory.write((4 << 20) - 2, b"ab"), Ok(()));
        assert_eq!(memory.write((4 << 20) - 1, b"ab"), Err(OutOfRange));
        assert_eq!(memory.host(u64::MAX, 2), Err(OutOfRange));
        assert_eq!(memory.host(1 << 30, 1), Err(OutOfRange));
    }

    #[test]
    fn grow_keeps_to_the_limit_and_leaves_the_hole() {
        let memory = GuestMemory::new(2 << 20, 5 << 30).expect("map");
        assert_eq!(memory.grow(1 << 20, Zone::User), Err(libc::EINVAL));
        assert_eq!(memory.grow(1 << 30, Zone::User), Ok(1 << 30));
        assert_eq!(memory.grow(1 << 30, Zone::User), Ok(2 << 30));
        assert_eq!(memory.grow(2 << 20, Zone::User), Ok(4 << 30));
        assert_eq!(memory.grow(1 << 30, Zone::User), Ok((4 << 30) + (2 << 20)));
        assert_eq!(memory.grow(1 << 30, Zone::User), Ok((5 << 30) + (2 << 20)));
        assert_eq!(memory.grow(1 << 30, Zone::User), Err(libc::ENOMEM));
    }

    #[test]
    fn released_pages_read_as_zeros() {
        let memory = GuestMemory::new(2 << 20, 2 << 20).expect("map");
        memory.write(4096, &[7; 4096]).expect("write");
        assert_eq!(memory.release(4097, 4096), Err(libc::EINVAL));
        assert_eq!(memory.release(4096, 4096), Ok(()));
        let mut out = [1; 16];
        memory.read(4096, &mut out).expect("read");
        assert_eq!(out, [0; 16]);
    }
}
