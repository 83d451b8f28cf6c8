//! Where chunks come from, and images made of them.

use super::index::Index;
use crate::build::beside;
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use blake3::Hash;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Something that has chunks. What it gives is not trusted: see [`fetch_chunk`].
pub trait ChunkSource {
    /// The bytes of a chunk, of which `digest` and place in the image are known.
    ///
    /// # Errors
    /// What keeps it from being had.
    fn get(&self, digest: &Hash, offset: u64, len: u32) -> Result<Vec<u8>, Failure>;

    /// What messages call it.
    fn name(&self) -> String;
}

/// A store's directory.
#[derive(Clone, Debug)]
pub struct DirSource {
    dir: PathBuf,
}

impl DirSource {
    /// The store at `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where a chunk is.
    pub fn path(&self, digest: &Hash) -> PathBuf {
        self.dir.join(relative(digest))
    }
}

/// Where a chunk is in a store.
pub(super) fn relative(digest: &Hash) -> String {
    let hex = digest.to_hex();
    format!("chunks/{}/{hex}", hex.get(..2).unwrap_or_default())
}

impl ChunkSource for DirSource {
    fn get(&self, digest: &Hash, _offset: u64, len: u32) -> Result<Vec<u8>, Failure> {
        let path = self.path(digest);
        let mut data = Vec::new();
        let file = std::fs::File::open(&path).when("open the chunk", &path)?;
        // One byte more shows a chunk that is too long.
        file.take(u64::from(len).saturating_add(1)).read_to_end(&mut data).when("read the chunk", &path)?;
        Ok(data)
    }

    fn name(&self) -> String {
        self.dir.display().to_string()
    }
}

/// A chunk of an image, verified.
///
/// # Errors
/// What the source says; [`Failure::Digest`] if it gives something else; [`Failure::Input`] for a number that no
/// chunk has.
pub fn fetch_chunk(source: &dyn ChunkSource, index: &Index, number: u64) -> Result<Vec<u8>, Failure> {
    let digest = usize::try_from(number).ok().and_then(|n| index.chunks().get(n));
    let (Some(digest), Some((offset, len))) = (digest, index.place(number)) else {
        let reason = format!("chunk {number} of an image of {} chunks", index.chunks().len());
        return Err(Failure::input("index", reason, "use the index of this image"));
    };
    let Some(digest) = digest else { return Ok(vec![0; usize::try_from(len).unwrap_or(0)]) };
    let data = source.get(digest, offset, len)?;
    let found = blake3::hash(&data);
    // The length is part of what is promised, and equal digests mean equal lengths.
    if found != *digest {
        return Err(Failure::Digest {
            object: format!("chunk {number} from {}", source.name()),
            expected: digest.to_string(),
            found: found.to_string(),
        });
    }
    if data.len() as u64 != u64::from(len) {
        let reason = format!("its chunk {number} has {} bytes, not {len}", data.len());
        return Err(Failure::input("index", reason, "make the index again by mkrofs --store"));
    }
    Ok(data)
}

/// Makes an image of its chunks, beside `output` and then renamed.
///
/// # Errors
/// As [`fetch_chunk`]; what writing says; nothing is left behind then.
pub fn assemble(
    source: &dyn ChunkSource,
    index: &Index,
    output: &Path,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    progress.stage("fetching", Some(index.length()));
    let file = beside(output)?;
    let mut hasher = blake3::Hasher::new();
    for number in 0..index.chunks().len() as u64 {
        let data = fetch_chunk(source, index, number)?;
        hasher.update(&data);
        let zero =
            index.chunks().get(usize::try_from(number).unwrap_or(usize::MAX)).is_some_and(Option::is_none);
        if let Some((offset, _)) = index.place(number).filter(|_| !zero) {
            file.as_file().write_all_at(&data, offset).when("write", output)?;
        }
        progress.advance(data.len() as u64);
    }
    file.as_file().set_len(index.length()).when("set the length of", output)?;
    let found = hasher.finalize();
    if found != index.image() {
        return Err(Failure::Digest {
            object: format!("the image from {}", source.name()),
            expected: index.image().to_string(),
            found: found.to_string(),
        });
    }
    file.persist(output).map_err(|e| e.error).when("rename the finished file to", output)?;
    Ok(())
}
