//! Images of file systems: files of the host whose pages the guest sees, and cannot write.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

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
}

impl Image {
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
pub struct Images(Vec<Image>);

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
            images.push(Image { file, spec, mapped: Mutex::new((None, vec![false; pieces])) });
        }
        Ok(Self(images))
    }

    /// Where they lie, by index.
    pub fn specs(&self) -> Vec<ImageSpec> {
        self.0.iter().map(|image| image.spec).collect()
    }

    /// The files and where they lie, by index.
    pub fn files(&self) -> impl Iterator<Item = (&File, ImageSpec)> {
        self.0.iter().map(|image| (&image.file, image.spec))
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

    fn find(&self, gpa: u64) -> Option<&Image> {
        self.0.iter().find(|image| gpa >= image.spec.gpa && gpa - image.spec.gpa < image.extent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
