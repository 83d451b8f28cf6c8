//! Which chunks of an image are there: a bitmap that a [`Source`] asks before it touches memory.

use crate::read::{Source, SourceError};
use core::sync::atomic::{AtomicU64, Ordering};

/// A bit for each chunk of an image. The bits may lie in memory that is shared with whoever fetches chunks.
///
/// A bit is set after the chunk's bytes are in their place, and never cleared, so an answer of "there" stays true.
#[derive(Clone, Copy, Debug)]
pub struct Presence<'a> {
    length: u64,
    chunk_bits: u32,
    words: &'a [AtomicU64],
}

impl<'a> Presence<'a> {
    /// How many words a bitmap needs for an image of `length` bytes. `chunk_size` is a power of 2.
    pub const fn words_needed(length: u64, chunk_size: u64) -> Option<u64> {
        if !chunk_size.is_power_of_two() {
            return None;
        }
        Some(length.div_ceil(chunk_size).div_ceil(64))
    }

    /// A bitmap over `words` for an image of `length` bytes in chunks of `chunk_size`.
    ///
    /// `None` if `chunk_size` is not a power of 2 or `words` are too few.
    pub fn new(length: u64, chunk_size: u64, words: &'a [AtomicU64]) -> Option<Self> {
        let needed = Self::words_needed(length, chunk_size)?;
        if (words.len() as u64) < needed {
            return None;
        }
        Some(Self { length, chunk_bits: chunk_size.trailing_zeros(), words })
    }

    /// Bytes of a chunk.
    pub const fn chunk_size(&self) -> u64 {
        1 << self.chunk_bits
    }

    /// How many chunks the image has.
    pub const fn chunks(&self) -> u64 {
        self.length.div_ceil(self.chunk_size())
    }

    /// Whether all of `len` bytes at `offset` are there. What lies beyond the image never is; nothing always is.
    pub fn is_present(&self, offset: u64, len: u64) -> bool {
        match offset.checked_add(len) {
            Some(end) if end <= self.length => self.first_absent(offset, len).is_none(),
            _ => false,
        }
    }

    /// The first chunk of `len` bytes at `offset` that is not there, within the image.
    pub fn first_absent(&self, offset: u64, len: u64) -> Option<u64> {
        if len == 0 || offset >= self.length {
            return None;
        }
        let last = offset.saturating_add(len.saturating_sub(1)).min(self.length.saturating_sub(1));
        let last = last >> self.chunk_bits;
        let mut chunk = offset >> self.chunk_bits;
        while chunk <= last {
            let word = self.word(chunk)?.load(Ordering::Acquire);
            // The bits from this chunk on; a whole word that is there is passed in one step.
            let missing = !word >> (chunk & 63);
            if missing == 0 {
                chunk = (chunk | 63).saturating_add(1);
                continue;
            }
            let found = chunk.saturating_add(u64::from(missing.trailing_zeros()));
            return (found <= last).then_some(found);
        }
        None
    }

    /// Says that a chunk's bytes are in their place. A chunk that the image does not have is left out.
    pub fn mark(&self, chunk: u64) {
        if chunk < self.chunks()
            && let Some(word) = self.word(chunk)
        {
            word.fetch_or(1 << (chunk & 63), Ordering::Release);
        }
    }

    fn word(&self, chunk: u64) -> Option<&'a AtomicU64> {
        self.words.get(usize::try_from(chunk >> 6).ok()?)
    }
}

/// An image that is not all there: a source that answers [`SourceError::Absent`] for what is not.
#[derive(Clone, Copy, Debug)]
pub struct Partial<'a, S> {
    /// The bytes, which are touched only where chunks are there.
    pub source: S,
    /// Which are.
    pub presence: Presence<'a>,
}

impl<S: Source> Source for Partial<'_, S> {
    fn len(&self) -> u64 {
        self.presence.length
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let len = out.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.presence.length) {
            return Err(SourceError::OutOfRange);
        }
        if !self.presence.is_present(offset, len) {
            return Err(SourceError::Absent);
        }
        self.source.read_at(offset, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_touched() {
        let data = [7u8; 8192];
        let words = [AtomicU64::new(2)];
        let presence = Presence::new(8192, 4096, &words).unwrap();
        let partial = Partial { source: &data[..], presence };
        let mut out = [0; 10];
        assert_eq!(partial.read_at(4090, &mut out), Err(SourceError::Absent));
        assert_eq!(partial.read_at(8190, &mut out), Err(SourceError::OutOfRange));
        assert_eq!((partial.read_at(4096, &mut out), out), (Ok(()), [7; 10]));
    }

    #[test]
    fn chunks_are_there_once_marked() {
        let words: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let map = Presence::new(4096 * 150 - 7, 4096, &words).unwrap();
        assert_eq!(map.chunks(), 150);
        assert!(!map.is_present(0, 1) && map.is_present(0, 0));
        (0..150).filter(|c| *c != 77).for_each(|c| map.mark(c));
        map.mark(150);
        map.mark(u64::MAX);
        assert!(map.is_present(0, 77 * 4096) && !map.is_present(0, 77 * 4096 + 1));
        assert!(map.is_present(78 * 4096, 72 * 4096 - 7));
        assert!(!map.is_present(78 * 4096, 72 * 4096), "beyond the image");
        assert!(!map.is_present(u64::MAX, 2));
        assert_eq!(map.first_absent(3, u64::MAX), Some(77));
        map.mark(77);
        assert_eq!(map.first_absent(0, u64::MAX), None);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(Presence::new(1, 3000, &[]).is_none());
        assert!(Presence::new(1, 4096, &[]).is_none());
        assert!(Presence::new(0, 4096, &[]).is_some());
    }
}
