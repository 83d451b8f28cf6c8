//! Guest memory in a file, and back.
//!
//! The file holds the extents one after the other, with holes where they are zero. A machine that is made of it maps
//! the file privately, so what it never touches is never read; memory in zones, which other processes map, is copied.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use abi::boot::Zone;
use abi::{HUGE_PAGE_SIZE, PAGE_SIZE};

use super::zones::Zones;
use super::{GROW_BASE, GuestMemory, MAX_EXTENTS, Mapped, errno, map_aligned, unmap};
use crate::Error;

/// An extent as a snapshot names it: guest-physical address, length, zone.
pub type SavedExtent = (u64, u64, u64);

/// Most bytes of one transfer: what a system call moves at once.
const MAX_CHUNK: u64 = 1 << 30;

impl GuestMemory {
    /// Writes all extents to `file` and returns what they are. The machine must be frozen.
    ///
    /// # Errors
    /// What writing the file gives.
    pub fn save(&self, file: &File) -> io::Result<Vec<SavedExtent>> {
        let mut at = 0;
        file.set_len(0)?;
        file.set_len(self.total())?;
        let mut extents = Vec::new();
        for mapped in self.iter() {
            save_extent(file, at, mapped)?;
            at += mapped.len;
            extents.push((mapped.gpa, mapped.len, mapped.zone as u64));
        }
        Ok(extents)
    }

    /// Memory as [`save`](Self::save) left it in `file`: privately mapped, or if `zoned` copied into zones. It may grow
    /// up to `limit` bytes; the limit can be raised up to `most` later.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where the extents are not such as `save` returns them or do not fit the file, and
    /// [`Error::Memory`].
    pub fn restore(
        file: &File,
        extents: &[SavedExtent],
        zoned: bool,
        limit: u64,
        most: u64,
    ) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::Snapshot { reason: reason.into() });
        let mut total = 0u64;
        let mut end = 0;
        for &(gpa, len, zone) in extents {
            let aligned =
                gpa.is_multiple_of(HUGE_PAGE_SIZE) && len.is_multiple_of(HUGE_PAGE_SIZE) && len != 0;
            let above = gpa >= end || zoned;
            let (Some(next), Some(sum), true, true, 0 | 1) =
                (gpa.checked_add(len), total.checked_add(len), aligned, above, zone)
            else {
                return refuse("its list of memory is damaged");
            };
            (end, total) = (next, sum);
        }
        if extents.is_empty() || extents.len() > MAX_EXTENTS || extents[0].0 != 0 {
            return refuse("its list of memory is damaged");
        }
        let fail = |source| Error::Memory { bytes: total, source };
        if file.metadata().map_err(fail)?.len() != total {
            return refuse("its memory is not as long as its manifest says");
        }
        let limit = limit.max(total).next_multiple_of(HUGE_PAGE_SIZE);
        let most = most.next_multiple_of(HUGE_PAGE_SIZE).max(limit);
        let zones = if zoned { Some(Zones::new(most)?) } else { None };
        let memory = Self::empty(limit, zones);
        let mut at = 0;
        for &(gpa, len, zone) in extents {
            let kind = if zone == Zone::User as u64 { Zone::User } else { Zone::Kernel };
            let host = match &memory.zones {
                Some(zones) => {
                    let Some((_, host)) = zones.take(kind, len).filter(|(place, _)| *place == gpa) else {
                        return refuse("its list of memory is damaged");
                    };
                    load_extent(file, at, host, len).map_err(fail)?;
                    host
                }
                None => map_file(file, at, len).map_err(fail)?,
            };
            memory.push(Mapped { gpa, len, zone: kind, host, file: !zoned });
            at += len;
        }
        *memory.grow.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = end.max(GROW_BASE);
        Ok(memory)
    }
}

fn is_zero(host: u64) -> bool {
    // SAFETY: callers pass a page of a live mapping. Volatile, since nothing keeps others from writing it but that the
    // machine is frozen.
    (0..PAGE_SIZE / 8).all(|i| unsafe { ((host + 8 * i) as *const u64).read_volatile() } == 0)
}

fn save_extent(file: &File, offset: u64, mapped: &Mapped) -> io::Result<()> {
    let mut start = 0;
    while start < mapped.len {
        if is_zero(mapped.host + start) {
            start += PAGE_SIZE;
            continue;
        }
        let mut end = start + PAGE_SIZE;
        while end < mapped.len && end - start < MAX_CHUNK && !is_zero(mapped.host + end) {
            end += PAGE_SIZE;
        }
        while start < end {
            let part = libc::iovec {
                iov_base: (mapped.host + start) as *mut libc::c_void,
                iov_len: (end - start) as usize,
            };
            // SAFETY: the range lies in a live mapping, which the kernel only reads.
            let done = unsafe { libc::pwritev(file.as_raw_fd(), &part, 1, (offset + start) as libc::off_t) };
            match done {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n if n < 0 => return Err(io::Error::last_os_error()),
                n => start += n as u64,
            }
        }
    }
    Ok(())
}

fn map_file(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let host = map_aligned(len)?;
    // SAFETY: replaces the mapping that was just made and that nothing refers to.
    let done = unsafe {
        libc::mmap(
            host as *mut libc::c_void,
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset as libc::off_t,
        )
    };
    if done == libc::MAP_FAILED {
        let error = io::Error::last_os_error();
        unmap(host, len);
        return Err(error);
    }
    Ok(host)
}

/// Maps fresh memory over a part of a file's mapping: dropping the pages would bring the file's back.
pub fn cover(host: u64, len: u64) -> Result<(), i32> {
    if len == 0 {
        return Ok(());
    }
    // SAFETY: the range is part of a mapping that `GuestMemory` owns, and no reference to it exists.
    let done = unsafe {
        libc::mmap(
            host as *mut libc::c_void,
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if done == libc::MAP_FAILED { Err(errno()) } else { Ok(()) }
}

/// Copies what is no hole.
fn load_extent(file: &File, offset: u64, host: u64, len: u64) -> io::Result<()> {
    let end = offset + len;
    let mut at = offset;
    let seek = |from: u64, whence| {
        // SAFETY: takes a descriptor and numbers.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) };
        if found < 0 { Err(io::Error::last_os_error()) } else { Ok(found as u64) }
    };
    while at < end {
        at = match seek(at, libc::SEEK_DATA) {
            Ok(data) if data < end => data,
            Ok(_) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(()),
            Err(e) => return Err(e),
        };
        let hole = seek(at, libc::SEEK_HOLE)?.min(end);
        while at < hole {
            let to = (host + (at - offset)) as *mut libc::c_void;
            let most = (hole - at).min(MAX_CHUNK) as usize;
            // SAFETY: the range lies in a live mapping to which no reference exists.
            let done = unsafe { libc::pread(file.as_raw_fd(), to, most, at as libc::off_t) };
            match done {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n if n < 0 => return Err(io::Error::last_os_error()),
                n => at += n as u64,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::systrap::USER_ZONE_GPA;

    fn file() -> File {
        tempfile::tempfile().expect("a file")
    }

    #[test]
    fn memory_comes_back_and_its_copies_part() {
        let memory = GuestMemory::new(4 << 20, 64 << 20).expect("map");
        let far = memory.grow(2 << 20, Zone::User).expect("grow");
        memory.write(4096, b"kernel").expect("write");
        memory.write(far + 8192, b"user").expect("write");
        let file = file();
        let extents = memory.save(&file).expect("save");
        let again = GuestMemory::restore(&file, &extents, false, 64 << 20, 0).expect("restore");
        let mut out = [0; 6];
        again.read(4096, &mut out).expect("read");
        assert_eq!(&out, b"kernel");
        again.write(far + 8192, b"USER").expect("write");
        let third = GuestMemory::restore(&file, &extents, false, 64 << 20, 0).expect("restore");
        let mut out = [0; 4];
        third.read(far + 8192, &mut out).expect("read");
        assert_eq!(&out, b"user");
        assert_eq!(third.grow(2 << 20, Zone::User), Ok(far + (2 << 20)));
        // What is given back does not come again from the file.
        assert_eq!(third.release(far, 2 << 20), Ok(()));
        third.read(far + 8192, &mut out).expect("read");
        assert_eq!(out, [0; 4]);
    }

    #[test]
    fn zones_come_back() {
        let memory = GuestMemory::zoned(4 << 20, 8 << 20, 32 << 20, 0).expect("zones");
        memory.write(100, b"kernel").expect("write");
        memory.write(USER_ZONE_GPA + (5 << 20), b"frames").expect("write");
        let file = file();
        let extents = memory.save(&file).expect("save");
        let again = GuestMemory::restore(&file, &extents, true, 32 << 20, 0).expect("restore");
        for (gpa, text) in [(100, b"kernel"), (USER_ZONE_GPA + (5 << 20), b"frames")] {
            let mut out = [0; 6];
            again.read(gpa, &mut out).expect("read");
            assert_eq!(&out, text);
        }
    }

    #[test]
    fn damaged_lists_are_refused() {
        let memory = GuestMemory::new(4 << 20, 64 << 20).expect("map");
        let file = file();
        let good = memory.save(&file).expect("save");
        let bad: [&[SavedExtent]; 6] = [
            &[],
            &[(0, 2 << 20, 0)],
            &[(0, 4 << 20, 7)],
            &[(2 << 20, 4 << 20, 0)],
            &[(0, 2 << 20, 0), (1 << 20, 2 << 20, 0)],
            &[(0, !((2u64 << 20) - 1), 0), (u64::MAX - 4095, 4 << 20, 0)],
        ];
        assert!(GuestMemory::restore(&file, &good, false, 0, 0).is_ok());
        for extents in bad {
            assert!(GuestMemory::restore(&file, extents, false, 0, 0).is_err(), "{extents:?}");
        }
    }
}
