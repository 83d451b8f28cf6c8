//! Images of file systems: files of the host whose pages the guest sees, and cannot write.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use abi::HUGE_PAGE_SIZE;
use abi::boot::{IMAGE_EXTENT, IMAGES_END, IMAGES_GPA, MAX_IMAGES};
use abi::spec::ImageSpec;

use super::{OutOfRange, errno};
use crate::Error;

/// A piece of an image that is mapped now.
pub struct Piece {
    /// Its number among all pieces of all images.
    pub index: u32,
    /// Its guest-physical address.
    pub gpa: u64,
    /// Its bytes, a multiple of 2 MiB.
    pub len: u64,
    /// Where it is mapped in this process.
    pub host: u64,
}

struct Image {
    file: File,
    spec: ImageSpec,
    /// Address that is set aside for all of it, once a piece was mapped; and which pieces are there.
    mapped: Mutex<(Option<u64>, Vec<bool>)>,
    /// Bytes that the file has been seen to have, at least: it may have become shorter.
    left: AtomicU64,
}

impl Image {
    /// Looks at the file. Where it has become shorter, what is gone of the mappings becomes zeros, so that whoever reads
    /// them goes on. Returns the bytes that are gone.
    fn lost(&self) -> u64 {
        let now = self.file.metadata().map_or(0, |meta| meta.size()).min(self.left.load(Ordering::Relaxed));
        // The lock first: a piece that is mapped meanwhile is mapped as it is now.
        let mapped = self.mapped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.left.swap(now, Ordering::Relaxed) != now
            && let Some(base) = mapped.0
        {
            self.cover(base, now, self.extent());
        }
        self.spec.len - now
    }

    /// Maps zeros over a range of the image.
    fn cover(&self, base: u64, start: u64, end: u64) {
        let start = start.next_multiple_of(abi::PAGE_SIZE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        if start < end {
            let (at, len) = ((base + start) as *mut libc::c_void, (end - start) as usize);
            // SAFETY: the range lies in what was set aside for this image, to which no reference exists. Where it fails
            // the old mapping stays.
            unsafe { libc::mmap(at, len, libc::PROT_READ, flags, -1, 0) };
        }
    }

    /// Bytes that its pieces take together.
    fn extent(&self) -> u64 {
        self.spec.len.next_multiple_of(HUGE_PAGE_SIZE)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let extent = self.extent();
        if let Some(base) = self.mapped.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).0 {
            super::unmap(base, extent);
        }
    }
}

/// The images of a sandbox.
pub struct Images {
    list: Vec<Image>,
    /// Tells of changes of the files (inotify), where the host has room for that.
    watch: Option<OwnedFd>,
}

/// Watches files for changes of their contents or lengths. The host's limit of instances is no failure.
fn watch(images: &[Image]) -> Option<OwnedFd> {
    if images.is_empty() {
        return None;
    }
    // SAFETY: takes flags.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a descriptor that was just made and that nobody else knows of.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    for image in images {
        let path = CString::new(format!("/proc/self/fd/{}", image.file.as_raw_fd())).ok()?;
        // SAFETY: the path ends with a NUL.
        unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) };
    }
    Some(fd)
}

impl Images {
    /// Takes open files, and gives each its place in guest-physical space.
    ///
    /// # Errors
    /// Where they are too many, or too large together.
    pub fn new(files: Vec<File>) -> Result<Self, Error> {
        let fail = |bytes, kind: io::ErrorKind| Error::Memory { bytes, source: kind.into() };
        if files.len() > MAX_IMAGES {
            return Err(fail(files.len() as u64, io::ErrorKind::ArgumentListTooLong));
        }
        let mut images = Vec::new();
        let mut next = IMAGES_GPA;
        for file in files {
            let len = file.metadata().map_err(|source| Error::Memory { bytes: 0, source })?.size();
            let spec = ImageSpec { gpa: next, len };
            // One byte more: no page of an image is followed by one of the next.
            let end = len.checked_add(1).and_then(|len| len.checked_next_multiple_of(IMAGE_EXTENT));
            next = end
                .and_then(|len| next.checked_add(len))
                .filter(|end| *end <= IMAGES_END)
                .ok_or_else(|| fail(len, io::ErrorKind::FileTooLarge))?;
            let pieces = len.div_ceil(IMAGE_EXTENT) as usize;
            images.push(Image {
                file,
                spec,
                mapped: Mutex::new((None, vec![false; pieces])),
                left: AtomicU64::new(len),
            });
        }
        let watch = watch(&images);
        Ok(Self { list: images, watch })
    }

    /// What becomes readable when a file changes.
    pub fn watch_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is told there.
    pub fn take_changes(&self) {
        let mut buffer = [0u8; 4096];
        if let Some(fd) = &self.watch {
            // SAFETY: the buffer has the length that is passed.
            while unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
        }
    }

    /// Where they lie, by index.
    pub fn specs(&self) -> Vec<ImageSpec> {
        self.list.iter().map(|image| image.spec).collect()
    }

    /// The files and where they lie, by index.
    pub fn files(&self) -> impl Iterator<Item = (&File, ImageSpec)> {
        self.list.iter().map(|image| (&image.file, image.spec))
    }

    /// Maps the piece at an address, if it is not mapped yet.
    ///
    /// # Errors
    /// EFAULT where no piece begins; ENOMEM.
    pub fn map(&self, gpa: u64) -> Result<Piece, i32> {
        let image = self.find(gpa).ok_or(libc::EFAULT)?;
        let at = gpa - image.spec.gpa;
        if !at.is_multiple_of(IMAGE_EXTENT) {
            return Err(libc::EFAULT);
        }
        let len = IMAGE_EXTENT.min(image.extent() - at);
        let mut mapped = image.mapped.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let base = match mapped.0 {
            Some(base) => base,
            None => {
                let base = super::map_aligned(image.extent()).map_err(|_| libc::ENOMEM)?;
                *mapped.0.insert(base)
            }
        };
        let host = base + at;
        let there = mapped.1.get_mut((at / IMAGE_EXTENT) as usize).ok_or(libc::EFAULT)?;
        if !*there {
            let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let fd = image.file.as_raw_fd();
            // SAFETY: the range lies in what was set aside for this image, to which no reference exists; nothing is
            // mapped for writing.
            let done = unsafe {
                libc::mmap(
                    host as *mut libc::c_void,
                    len as usize,
                    libc::PROT_READ,
                    flags,
                    fd,
                    at as libc::off_t,
                )
            };
            if done == libc::MAP_FAILED {
                return Err(if errno() == libc::EAGAIN { libc::EAGAIN } else { libc::ENOMEM });
            }
            *there = true;
            let left = image.left.load(Ordering::Relaxed);
            if left < at + len && left < image.spec.len {
                image.cover(base, left.max(at), at + len);
            }
        }
        let index = ((gpa - IMAGES_GPA) / IMAGE_EXTENT) as u32;
        Ok(Piece { index, gpa, len, host })
    }

    /// Host address of a range of one image, which is mapped for that if need be. It may only be named to the host's
    /// kernel: what the file has lost meanwhile is no memory.
    pub fn host(&self, gpa: u64, len: u64) -> Result<u64, OutOfRange> {
        let image = self.find(gpa).ok_or(OutOfRange)?;
        let end =
            gpa.checked_add(len).filter(|end| *end <= image.spec.gpa + image.extent()).ok_or(OutOfRange)?;
        let at = gpa - image.spec.gpa;
        let first = image.spec.gpa + at / IMAGE_EXTENT * IMAGE_EXTENT;
        let mut host = None;
        for piece in (first..end).step_by(IMAGE_EXTENT as usize) {
            let piece = self.map(piece).map_err(|_| OutOfRange)?;
            host.get_or_insert(piece.host + (gpa - piece.gpa));
        }
        host.ok_or(OutOfRange)
    }

    /// Looks whether files have become shorter. Returns the bytes that are gone of each.
    pub fn lost(&self) -> Vec<u64> {
        self.list.iter().map(Image::lost).collect()
    }

    fn find(&self, gpa: u64) -> Option<&Image> {
        self.list.iter().find(|image| gpa >= image.spec.gpa && gpa - image.spec.gpa < image.extent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_a_file_has_lost_is_zeros() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7; 3 * 4096]).expect("write");
        let images = Images::new(vec![file.try_clone().expect("a copy")]).expect("images");
        let host = images.map(IMAGES_GPA).expect("a piece").host as *const u8;
        // SAFETY: mapped just now, within the file.
        assert_eq!(unsafe { host.add(2 * 4096).read_volatile() }, 7);
        assert_eq!(images.lost(), [0]);
        file.set_len(4096).expect("length");
        assert_eq!(images.lost(), [2 * 4096]);
        // SAFETY: what the file has lost is mapped anew.
        assert_eq!(unsafe { (host.read_volatile(), host.add(2 * 4096).read_volatile()) }, (7, 0));
        file.set_len(1 << 20).expect("length");
        assert_eq!(images.lost(), [2 * 4096], "what was gone stays gone");
    }

    #[test]
    fn pieces_lie_where_their_image_is() {
        let file = |len: u64| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(b"first").expect("write");
            file.set_len(len).expect("length");
            file
        };
        let images = Images::new(vec![file(5000), file(IMAGE_EXTENT), file(1)]).expect("images");
        let specs = images.specs();
        assert_eq!(specs[1].gpa, IMAGES_GPA + IMAGE_EXTENT);
        assert_eq!(specs[2].gpa, IMAGES_GPA + 3 * IMAGE_EXTENT, "a full image is not followed by the next");
        let piece = images.map(specs[1].gpa).expect("a piece");
        assert_eq!((piece.index, piece.len), (1, IMAGE_EXTENT));
        assert_eq!(images.map(specs[0].gpa).expect("a piece").len, HUGE_PAGE_SIZE);
        for bad in [0, specs[0].gpa + 4096, specs[1].gpa + IMAGE_EXTENT, IMAGES_END] {
            assert_eq!(images.map(bad).err(), Some(libc::EFAULT), "{bad:#x}");
        }
        assert_eq!(images.host(specs[0].gpa + HUGE_PAGE_SIZE - 1, 2), Err(OutOfRange));
        let host = images.host(specs[1].gpa + 3, 2).expect("a range");
        assert_eq!(host, piece.host + 3);
        assert!(Images::new((0..=MAX_IMAGES).map(|_| file(1)).collect()).is_err());
        assert!(Images::new(vec![file(IMAGES_END - IMAGES_GPA)]).is_err());
    }
}
