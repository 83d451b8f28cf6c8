//! Guest memory in two files, which other processes map: the sentry's own, and what programs may have.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

use abi::boot::{IMAGES_GPA, Zone};
use abi::systrap::USER_ZONE_GPA;

use super::{errno, unmap};
use crate::Error;

/// A zone: a file of fixed size, mapped whole. Pages of it come as they are touched.
struct ZoneFile {
    fd: OwnedFd,
    start: u64,
    len: u64,
    host: u64,
    used: Mutex<u64>,
}

/// Both zones.
pub struct Zones {
    kernel: ZoneFile,
    user: ZoneFile,
}

impl Zones {
    /// Makes both for at most `limit` bytes each.
    pub fn new(limit: u64) -> Result<Self, Error> {
        let kernel = limit.min(USER_ZONE_GPA);
        let user = limit.min(IMAGES_GPA - USER_ZONE_GPA);
        let fail = |source| Error::Memory { bytes: limit, source };
        Ok(Self {
            kernel: ZoneFile::new(c"sentry", 0, kernel).map_err(fail)?,
            user: ZoneFile::new(c"frames", USER_ZONE_GPA, user).map_err(fail)?,
        })
    }

    fn get(&self, zone: Zone) -> &ZoneFile {
        match zone {
            Zone::Kernel => &self.kernel,
            Zone::User => &self.user,
        }
    }

    /// The file of a zone and its length.
    pub fn file(&self, zone: Zone) -> (&OwnedFd, u64) {
        let file = self.get(zone);
        (&file.fd, file.len)
    }

    /// Hands out the next `len` bytes of a zone: guest-physical and host address.
    pub fn take(&self, zone: Zone, len: u64) -> Option<(u64, u64)> {
        let file = self.get(zone);
        let mut used = file.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let end = used.checked_add(len).filter(|end| *end <= file.len)?;
        let at = std::mem::replace(&mut *used, end);
        Some((file.start + at, file.host + at))
    }

    /// Gives the pages of a range, which lies in one zone, back to the host.
    pub fn release(&self, gpa: u64, len: u64) -> Result<(), i32> {
        let file = if gpa >= USER_ZONE_GPA { &self.user } else { &self.kernel };
        let (Ok(at), Ok(len)) = (i64::try_from(gpa - file.start), i64::try_from(len)) else {
            return Err(libc::EINVAL);
        };
        if len == 0 {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: takes a descriptor and numbers. No reference into the memory exists.
        let done = unsafe { libc::fallocate(file.fd.as_raw_fd(), mode, at, len) };
        if done == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl ZoneFile {
    fn new(name: &CStr, start: u64, len: u64) -> io::Result<Self> {
        let fd = memfd(name)?;
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: takes a descriptor and numbers.
        let sized = unsafe {
            libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) == 0
                && libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
        };
        if !sized {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new mapping at an address of the kernel's choice.
        let host = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if host == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, start, len, host: host as u64, used: Mutex::new(0) })
    }
}

impl Drop for ZoneFile {
    fn drop(&mut self) {
        unmap(self.host, self.len);
    }
}

/// An empty memory file that can be sealed and, where the kernel knows how to say so, never be executed as a program.
fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: the name is NUL-terminated.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a descriptor that was just made and that nobody else knows of.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::super::{GuestMemory, OutOfRange};
    use super::*;

    #[test]
    fn zones_lie_apart_and_share_the_limit() {
        let memory = GuestMemory::zoned(4 << 20, 8 << 20, 16 << 20, 0).expect("zones");
        assert_eq!(memory.total(), 12 << 20);
        assert_eq!(memory.write(USER_ZONE_GPA, b"ab"), Ok(()));
        assert_eq!(memory.write((4 << 20) - 1, b"ab"), Err(OutOfRange));
        assert_eq!(memory.write(USER_ZONE_GPA + (8 << 20) - 1, b"ab"), Err(OutOfRange));
        assert_eq!(memory.grow(2 << 20, Zone::User), Ok(USER_ZONE_GPA + (8 << 20)));
        assert_eq!(memory.grow(2 << 20, Zone::Kernel), Ok(4 << 20));
        assert_eq!(memory.grow(2 << 20, Zone::Kernel), Err(libc::ENOMEM));
        memory.raise_limit(32 << 20);
        assert_eq!(memory.grow(8 << 20, Zone::User), Err(libc::ENOMEM), "the zone is full");
        assert_eq!(memory.release(USER_ZONE_GPA, 4096), Ok(()));
        let mut out = [1; 2];
        assert_eq!(memory.read(USER_ZONE_GPA, &mut out), Ok(()));
        assert_eq!(out, [0; 2]);
    }
}
