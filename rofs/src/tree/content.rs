//! Data of regular files: what of it is not zero, its digest, and where to read it again.

use crate::failure::{Context, Failure};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

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

/// Where data can be read again.
#[derive(Clone, Debug)]
enum Place {
    /// In memory, without holes.
    Bytes(Arc<[u8]>),
    /// In a file of the host, at the same offsets.
    File(PathBuf),
    /// In a spool, all runs one after the other.
    Spool { file: Arc<File>, start: u64 },
}

/// A regular file's data. Two with equal digests have equal bytes.
///
/// What is a hole is decided by the bytes alone, so that an image does not depend on how a file was stored.
#[derive(Clone, Debug)]
pub struct Content {
    size: u64,
    runs: Vec<Run>,
    digest: [u8; 32],
    place: Place,
}

impl Content {
    /// Data that is in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        let mut analyser = Analyser::new(|_: &[u8]| Ok(()));
        // A sink that takes everything does not fail.
        let found = analyser.push(&bytes).and_then(|()| analyser.finish());
        let Copied { size, runs, digest } = found.unwrap_or_default();
        Self { size, runs, digest, place: Place::Bytes(bytes) }
    }

    /// Data of a file of the host, which is read now, and again when the image is written.
    ///
    /// # Errors
    /// What opening and reading say. `advance` is told how many bytes were read.
    pub fn from_file(path: PathBuf, advance: &mut dyn FnMut(u64)) -> Result<Self, Failure> {
        let mut file = open_file(&path)?;
        let mut analyser = Analyser::new(|_: &[u8]| Ok(()));
        let copied = read_all(&mut file, &mut analyser, advance)
            .and_then(|()| analyser.finish())
            .when("read", &path)?;
        Ok(Self { size: copied.size, runs: copied.runs, digest: copied.digest, place: Place::File(path) })
    }

    /// Data that was copied to a spool at `start`.
    pub(crate) fn spooled(copied: Copied, file: Arc<File>, start: u64) -> Self {
        let Copied { size, runs, digest } = copied;
        Self { size, runs, digest, place: Place::Spool { file, start } }
    }

    /// Size of the file in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// What is not a hole, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Digest of the data, BLAKE3 of what is not a hole and of where that is.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether there is no hole.
    pub fn is_dense(&self) -> bool {
        match self.runs.as_slice() {
            [] => self.size == 0,
            [run] => run.start == 0 && run.len == self.size,
            _ => false,
        }
    }

    /// Opens the data, to be read by [`Opened::read`].
    ///
    /// # Errors
    /// What opening says.
    pub fn open(&self) -> Result<Opened<'_>, Failure> {
        let file = match &self.place {
            Place::File(path) => Some(open_file(path)?),
            _ => None,
        };
        let mut before = Vec::new();
        if matches!(self.place, Place::Spool { .. }) {
            before.extend(self.runs.iter().scan(0u64, |sum, run| {
                let this = *sum;
                *sum = sum.saturating_add(run.len);
                Some(this)
            }));
        }
        Ok(Opened { content: self, file, before })
    }

    /// Whether the data can change between two readings.
    pub(crate) const fn is_foreign(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// The digest that it has if `hasher` had all of it that is no hole.
    pub(crate) fn digest_of(&self, hasher: &mut blake3::Hasher) -> [u8; 32] {
        end_digest(hasher, &self.runs, self.size)
    }

    /// What to call it in a message.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Bytes(_) => "data in memory".into(),
            Place::Spool { .. } => "spooled data".into(),
        }
    }
}

/// A file's data, open.
#[derive(Debug)]
pub struct Opened<'a> {
    content: &'a Content,
    file: Option<File>,
    /// For each run, how many bytes of a spool the runs before it take.
    before: Vec<u64>,
}

impl Opened<'_> {
    /// Reads all of `out` from `offset` of the file, which lies within run `run`.
    ///
    /// # Errors
    /// What reading says; `UnexpectedEof` if the file became shorter.
    pub fn read(&self, run: usize, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match (&self.content.place, &self.file) {
            (Place::Bytes(bytes), _) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(out.len());
                let bytes = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                out.copy_from_slice(bytes);
                Ok(())
            }
            (Place::Spool { file, start }, _) => {
                let before = self.before.get(run).copied().unwrap_or(0);
                let begin = self.content.runs.get(run).map_or(0, |r| r.start);
                file.read_exact_at(
                    out,
                    start.saturating_add(before).saturating_add(offset.saturating_sub(begin)),
                )
            }
            (Place::File(_), Some(file)) => file.read_exact_at(out, offset),
            (Place::File(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn open_file(path: &PathBuf) -> Result<File, Failure> {
    // What was a regular file may have been replaced: do not follow a link or wait for a pipe.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    File::options().read(true).custom_flags(flags).open(path).when("open", path)
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
fn end_digest(hasher: &mut blake3::Hasher, runs: &[Run], size: u64) -> [u8; 32] {
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

/// Reads a file to its end, and passes over what its file system knows to be holes.
fn read_all<F: FnMut(&[u8]) -> io::Result<()>>(
    file: &mut File,
    analyser: &mut Analyser<F>,
    advance: &mut dyn FnMut(u64),
) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it was a regular file and is none any more"));
    }
    let size = meta.len();
    let sparse = meta.blocks().saturating_mul(512) < size;
    let mut buffer = vec![0; usize::try_from(size.clamp(1, 1 << 20)).unwrap_or(1 << 20)];
    let mut offset = 0u64;
    while offset < size {
        let mut end = size;
        if sparse {
            // A file system without this says that all is data.
            let data = seek(&*file, SeekFrom::Data(offset))
                .unwrap_or_else(|error| if error == rustix::io::Errno::NXIO { size } else { offset });
            let data = data.clamp(offset, size);
            analyser.skip(data.saturating_sub(offset))?;
            offset = data;
            end = seek(&*file, SeekFrom::Hole(offset)).unwrap_or(size).clamp(offset, size);
        }
        while offset < end {
            let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..room).unwrap_or_default();
            let count = file.read_at(piece, offset)?;
            if count == 0 {
                return Err(io::Error::other("it became shorter while it was read"));
            }
            analyser.push(piece.get(..count).unwrap_or_default())?;
            advance(count as u64);
            offset = offset.saturating_add(count as u64);
        }
    }
    Ok(())
}

/// Copies `size` bytes of a stream to the end of a spool, without its holes.
///
/// # Errors
/// Those of reading and of writing; `UnexpectedEof` if there are fewer bytes.
pub fn store_content(
    reader: &mut dyn Read,
    size: u64,
    analyser: &mut Analyser<impl FnMut(&[u8]) -> io::Result<()>>,
) -> io::Result<()> {
    let mut left = size;
    let mut buffer = vec![0; usize::try_from(size.clamp(1, 1 << 18)).unwrap_or(1 << 18)];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = reader.read(buffer.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        analyser.push(buffer.get(..count).unwrap_or_default())?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
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
