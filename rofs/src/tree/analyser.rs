//! Data on its way: zeros are found in it, its digest is made, and what is no hole is handed on.

use std::io;

/// Zeros are looked for in pieces of this many bytes.
const GRAIN: usize = 4096;
/// Fewer zeros than this between data are not worth a hole.
const MIN_HOLE: u64 = 4 * GRAIN as u64;
const ZEROS: [u8; GRAIN] = [0; GRAIN];

/// Bytes of a file that are not a hole. They begin at a multiple of 4,096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in the file.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

impl Run {
    /// The offset behind it.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// What data turned out to be.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Size of the file in bytes.
    pub size: u64,
    /// What is not a hole.
    pub runs: Vec<Run>,
    /// The digest, as [`Content::digest`].
    pub digest: [u8; 32],
}

/// Takes data in order, finds zeros in it, makes the digest, and hands on what is not a hole.
pub struct Analyser<F> {
    sink: F,
    hasher: blake3::Hasher,
    runs: Vec<Run>,
    /// Bytes whose fate is decided, `zeros` among them.
    offset: u64,
    /// Zeros before `offset` that were not handed on.
    zeros: u64,
    partial: Vec<u8>,
}

impl<F: FnMut(&[u8]) -> io::Result<()>> Analyser<F> {
    /// Hands data on to `sink`.
    pub fn new(sink: F) -> Self {
        let hasher = blake3::Hasher::new();
        Self { sink, hasher, runs: Vec::new(), offset: 0, zeros: 0, partial: Vec::new() }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn push(&mut self, mut data: &[u8]) -> io::Result<()> {
        if !self.partial.is_empty() {
            let take = GRAIN.saturating_sub(self.partial.len()).min(data.len());
            let (head, rest) = data.split_at_checked(take).unwrap_or((data, &[]));
            self.partial.extend_from_slice(head);
            data = rest;
            if self.partial.len() < GRAIN {
                return Ok(());
            }
            let whole = core::mem::take(&mut self.partial);
            self.blocks(&whole)?;
        }
        let whole = data.len() & !(GRAIN - 1);
        let (whole, rest) = data.split_at_checked(whole).unwrap_or((data, &[]));
        self.blocks(whole)?;
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// The next `len` bytes are zeros.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn skip(&mut self, len: u64) -> io::Result<()> {
        let fill = if self.partial.is_empty() { 0 } else { GRAIN.saturating_sub(self.partial.len()) as u64 };
        let fill = fill.min(len);
        self.push(ZEROS.get(..usize::try_from(fill).unwrap_or(0)).unwrap_or_default())?;
        let left = len.saturating_sub(fill);
        let whole = left & !(GRAIN as u64 - 1);
        self.zeros = self.zeros.saturating_add(whole);
        self.offset = self.offset.saturating_add(whole);
        let rest = usize::try_from(left.saturating_sub(whole)).unwrap_or(0);
        self.push(ZEROS.get(..rest).unwrap_or_default())
    }

    /// There is no more.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self) -> io::Result<Copied> {
        let partial = core::mem::take(&mut self.partial);
        self.blocks(&partial)?;
        if self.zeros > 0 && self.zeros < MIN_HOLE {
            self.data(&[])?;
        }
        let runs = core::mem::take(&mut self.runs);
        let digest = end_digest(&mut self.hasher, &runs, self.offset);
        Ok(Copied { size: self.offset, runs, digest })
    }

    /// Whole blocks, or the last one.
    fn blocks(&mut self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let zeros = leading(rest, true);
            self.zeros = self.zeros.saturating_add(zeros as u64);
            self.offset = self.offset.saturating_add(zeros as u64);
            rest = rest.get(zeros..).unwrap_or_default();
            let (full, after) = rest.split_at_checked(leading(rest, false)).unwrap_or((rest, &[]));
            if !full.is_empty() {
                self.data(full)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Data that is not zero, after zeros that may be a hole.
    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        let start = if self.zeros < MIN_HOLE {
            let start = self.offset.saturating_sub(self.zeros);
            let zeros = usize::try_from(self.zeros).unwrap_or(0);
            for piece in [ZEROS.len(); 4].iter().scan(zeros, |left, room| {
                let take = (*left).min(*room);
                *left = left.saturating_sub(take);
                ZEROS.get(..take)
            }) {
                self.hasher.update(piece);
                (self.sink)(piece)?;
            }
            start
        } else {
            self.offset
        };
        self.zeros = 0;
        self.hasher.update(data);
        (self.sink)(data)?;
        self.offset = self.offset.saturating_add(data.len() as u64);
        match self.runs.last_mut() {
            Some(run) if run.end() == start => run.len = self.offset.saturating_sub(run.start),
            _ => self.runs.push(Run { start, len: self.offset.saturating_sub(start) }),
        }
        Ok(())
    }
}

/// Ends the digest of data by where it is.
pub(super) fn end_digest(hasher: &mut blake3::Hasher, runs: &[Run], size: u64) -> [u8; 32] {
    for run in runs {
        hasher.update(&run.start.to_le_bytes());
        hasher.update(&run.len.to_le_bytes());
    }
    hasher.update(&size.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// How many bytes at the start are blocks of zeros, or of something else.
fn leading(data: &[u8], zeros: bool) -> usize {
    let blocks = data.chunks(GRAIN).take_while(|block| is_zero(block) == zeros);
    blocks.map(<[u8]>::len).sum()
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks show at once that they are not.
    block.first() == Some(&0) && ZEROS.get(..block.len()) == Some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysed(pieces: &[&[u8]]) -> (Copied, Vec<u8>) {
        let mut out = Vec::new();
        let mut analyser = Analyser::new(|d: &[u8]| {
            out.extend_from_slice(d);
            Ok(())
        });
        pieces.iter().for_each(|p| analyser.push(p).unwrap());
        let copied = analyser.finish().unwrap();
        (copied, out)
    }

    #[test]
    fn holes_are_long_runs_of_zeros() {
        let mut data = vec![1; 5000];
        data.resize(40_000, 0);
        data.extend([2; 10]);
        let (copied, out) = analysed(&[&data]);
        assert_eq!(copied.size, 40_010);
        assert_eq!(copied.runs, [Run { start: 0, len: 8192 }, Run { start: 36_864, len: 3146 }]);
        assert_eq!(out.len(), 8192 + 3146);
        let (again, same) = analysed(&data.chunks(777).collect::<Vec<_>>());
        assert_eq!((again.digest, again.runs, same), (copied.digest, copied.runs, out));
    }

    #[test]
    fn few_zeros_are_data() {
        let mut data = vec![0; 9000];
        let (copied, out) = analysed(&[&data]);
        assert_eq!((copied.runs, out.len()), (vec![Run { start: 0, len: 9000 }], 9000));
        data.resize(20_000, 0);
        let (copied, out) = analysed(&[&data]);
        assert_eq!((copied.size, copied.runs.len(), out.len()), (20_000, 0, 0));
    }

    #[test]
    fn skipped_zeros_are_like_others() {
        let mut data = vec![7; 100];
        data.resize(100_000, 0);
        data.push(9);
        let mut analyser = Analyser::new(|_: &[u8]| Ok(()));
        analyser.push(&[7; 100]).unwrap();
        analyser.skip(99_900).unwrap();
        analyser.push(&[9]).unwrap();
        assert_eq!(analyser.finish().unwrap().digest, analysed(&[&data]).0.digest);
    }
}
