//! Data of regular files: what of it is not zero, its digest, and where to read it again.

use super::analyser::{Analyser, Copied, Run, end_digest};
use crate::failure::{Context, Failure};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

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
