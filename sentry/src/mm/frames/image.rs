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
use abi::boot::{IMAGE_CUTS_GPA, IMAGE_EXTENT, IMAGE_LOST_GPA, IMAGES_END, IMAGES_GPA};
use abi::hostcall::{ImageCheck, ImageMap};
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

/// How often images have become shorter so far: what is mapped of them may be gone since. Address spaces that have seen
/// fewer drop what they have of images before their programs run on.
#[inline]
pub fn cuts() -> u64 {
    if cfg!(test) { 0 } else { crate::arch::shared_word(IMAGE_CUTS_GPA).load(Ordering::Relaxed) }
}

/// A page of an image could not be read: lets the host look. Returns whether some image is shorter than it was.
pub fn check() -> bool {
    crate::host::call(&ImageCheck {}).is_ok_and(|cut| cut != 0)
}

/// Copies out of frames of images, or of frames that may be such.
///
/// # Errors
/// EIO where an image lost pages meanwhile: what was copied may be zeros.
pub fn copying<R>(copy: impl FnOnce() -> R) -> Result<R> {
    let before = cuts();
    let copied = copy();
    if cuts() == before {
        return Ok(copied);
    }
    // Under systrap nobody has looked how much is gone yet.
    check();
    Err(Errno::EIO)
}

/// Reads something of a page that may be an image's and is mapped somewhere, so that the host has it in memory.
pub fn touch(gpa: u64) {
    if is_image(gpa) {
        let mut byte = [0];
        // SAFETY: the caller has seen it mapped, so that its piece is; pieces stay.
        unsafe { read_raw(gpa, &mut byte) };
    }
}

/// Bytes of an image that are gone.
fn lost(index: usize) -> u64 {
    let at = IMAGE_LOST_GPA + 8 * index as u64;
    if cfg!(test) { 0 } else { crate::arch::shared_word(at).load(Ordering::Acquire) }
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
    index: usize,
    gpa: u64,
    len: u64,
    /// Which of its pieces are there.
    pieces: Box<[AtomicBool]>,
    mapping: Mutex<()>,
}

impl Window {
    /// The image at a place of guest-physical space.
    ///
    /// # Errors
    /// EIO: there is no image with this index.
    pub fn new(index: u32) -> Result<Self> {
        let spec = IMAGES.get().and_then(|all| all.get(index as usize)).ok_or(Errno::EIO)?;
        let pieces = (0..spec.len.div_ceil(IMAGE_EXTENT)).map(|_| AtomicBool::new(false)).collect();
        Ok(Self { index: index as usize, gpa: spec.gpa, len: spec.len, pieces, mapping: Mutex::new(()) })
    }

    /// Bytes of the image.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are left of it.
    fn left(&self) -> u64 {
        self.len.saturating_sub(lost(self.index))
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
            copying(|| unsafe { read_raw(self.gpa + at, part) })?;
            at = stop;
        }
        // What is gone read as zeros.
        if end <= self.left() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// The frame at an offset, a multiple of the page size, of which the image has the whole page, or zeros behind its
    /// last byte.
    ///
    /// # Errors
    /// As [`Window::read`].
    pub fn frame(&self, offset: u64) -> Result<FrameRef> {
        if !offset.is_multiple_of(PAGE_SIZE)
            || offset >= self.len
            || self.left() < (offset + PAGE_SIZE).min(self.len)
        {
            return Err(Errno::EIO);
        }
        self.ensure(offset)?;
        // SAFETY: the piece has metadata now, whose own reference is never given back, so that another can be taken.
        let frame = core::mem::ManuallyDrop::new(unsafe { FrameRef::from_raw(self.gpa + offset) });
        Ok(FrameRef::clone(&frame))
    }
}
