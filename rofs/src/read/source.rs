//! Where the bytes of an image come from.

use super::error::Error;
use zerocopy::{FromBytes, IntoBytes};

/// Why bytes of an image could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// They lie beyond the end.
    OutOfRange,
    /// The host could not read them, or the file became shorter.
    Io,
    /// The chunk that holds them has not been fetched yet.
    Absent,
}

/// The bytes of an image. They may be changed by others at any time: the reader copies before it checks.
pub trait Source {
    /// Length of the image in bytes.
    fn len(&self) -> u64;

    /// Whether there is not one byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills all of `out` with the bytes from `offset` on, or fails.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError>;
}

impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).map_err(|_| SourceError::OutOfRange)?;
        let end = start.checked_add(out.len()).ok_or(SourceError::OutOfRange)?;
        out.copy_from_slice(self.get(start..end).ok_or(SourceError::OutOfRange)?);
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        (**self).read_at(offset, out)
    }
}

/// A file by positioned reads. Its length is asked for each time, so that one that shrinks is seen to.
#[cfg(feature = "std")]
impl Source for std::fs::File {
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |m| m.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        std::os::unix::fs::FileExt::read_exact_at(self, out, offset).map_err(|_| SourceError::Io)
    }
}

/// A structure at `offset`.
pub(super) fn read_struct<T, S>(source: &S, offset: u64) -> Result<T, Error>
where
    T: FromBytes + IntoBytes,
    S: Source + ?Sized,
{
    let mut value = T::new_zeroed();
    source.read_at(offset, value.as_mut_bytes())?;
    Ok(value)
}
