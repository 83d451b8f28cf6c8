//! Frames of images of file systems: memory of the host's page cache, which nobody in the sandbox can write.
//!
//! A piece of an image is asked of the host when something in it is first wanted. Its frames have metadata like all
//! others, with one reference that is never given back: they are not free at any time, and no page of them is anyone's
//! own. Page tables never let a program write one ([`is_image`]).

use super::pool;
use super::{FrameRef, read_raw};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, Once};
use abi::PAGE_SIZE;
use abi::boot::{IMAGE_EXTENT, IMAGES_END, IMAGES_GPA};
use abi::hostcall::ImageMap;
use abi::spec::ImageSpec;
use abi::systrap::STUB_IMAGE_FD;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether a frame is an image's.
#[inline]
pub fn is_image(gpa: u64) -> bool {
    (IMAGES_GPA..IMAGES_END).contains(&gpa)
}

/// The images of this sandbox, by index.
static IMAGES: Once<Vec<ImageSpec>> = Once::new();

/// Notes which images there are; once.
pub fn set_images(images: &[ImageSpec]) {
    let _ = IMAGES.set(images.to_vec());
}

/// The image with an index.
pub fn spec(index: u32) -> Option<ImageSpec> {
    IMAGES.get()?.get(index as usize).copied()
}

/// Where a stub finds a frame of an image: its descriptor of the image's file, and the offset in it.
pub fn file_of(gpa: u64) -> Option<(u64, u64)> {
    if !is_image(gpa) {
        return None;
    }
    let images = IMAGES.get()?;
    let index = images.iter().rposition(|image| image.gpa <= gpa)?;
    images.get(index).map(|image| (STUB_IMAGE_FD + index as u64, gpa - image.gpa))
}

/// An image, as memory.
pub struct Window {
    gpa: u64,
    len: u64,
    /// Which of its pieces are there.
    pieces: Box<[AtomicBool]>,
    mapping: Mutex<()>,
}

impl Window {
    /// The image at a place of guest-physical space.
    pub fn new(spec: ImageSpec) -> Self {
        let pieces = (0..spec.len.div_ceil(IMAGE_EXTENT)).map(|_| AtomicBool::new(false)).collect();
        Self { gpa: spec.gpa, len: spec.len, pieces, mapping: Mutex::new(()) }
    }

    /// Bytes of the image.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sees to it that the piece with an offset is there.
    fn ensure(&self, offset: u64) -> Result<()> {
        let number = offset / IMAGE_EXTENT;
        let piece = usize::try_from(number).ok().and_then(|n| self.pieces.get(n)).ok_or(Errno::EIO)?;
        if piece.load(Ordering::Acquire) {
            return Ok(());
        }
        self.fetch(piece, self.gpa + number * IMAGE_EXTENT)
    }

    #[cold]
    fn fetch(&self, piece: &AtomicBool, gpa: u64) -> Result<()> {
        let _guard = self.mapping.lock();
        if piece.load(Ordering::Acquire) {
            return Ok(());
        }
        let len = crate::host::call(&ImageMap { gpa }).map_err(|_| Errno::EIO)?;
        crate::arch::map_image(gpa, len).ok_or(Errno::ENOMEM)?;
        pool::add_image(gpa, len).ok_or(Errno::ENOMEM)?;
        piece.store(true, Ordering::Release);
        Ok(())
    }

    /// Copies bytes out. The host may have to read them from disk: not under a spinning lock.
    ///
    /// # Errors
    /// EIO where the range does not lie in the image, or the host does not give it; ENOMEM.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len).ok_or(Errno::EIO)?;
        let mut at = offset;
        while at < end {
            self.ensure(at)?;
            let stop = end.min((at / IMAGE_EXTENT + 1) * IMAGE_EXTENT);
            let part = buf.get_mut((at - offset) as usize..(stop - offset) as usize).ok_or(Errno::EIO)?;
            // SAFETY: the range lies in a piece that is mapped, within the image; pieces stay. The copy is raw, since
            // whoever has the file may change it meanwhile.
            unsafe { read_raw(self.gpa + at, part) };
            at = stop;
        }
        Ok(())
    }

    /// The frame at an offset, a multiple of the page size, of which the image has the whole page, or zeros behind its
    /// last byte.
    ///
    /// # Errors
    /// As [`Window::read`].
    pub fn frame(&self, offset: u64) -> Result<FrameRef> {
        if !offset.is_multiple_of(PAGE_SIZE) || offset >= self.len {
            return Err(Errno::EIO);
        }
        self.ensure(offset)?;
        // SAFETY: the piece has metadata now, whose own reference is never given back, so that another can be taken.
        let frame = core::mem::ManuallyDrop::new(unsafe { FrameRef::from_raw(self.gpa + offset) });
        Ok(FrameRef::clone(&frame))
    }
}
