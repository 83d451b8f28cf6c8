//! The index of an image: which chunks it consists of.

use crate::build::beside;
use crate::failure::{Context, Failure};
use blake3::Hash;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// Chunks have at least this many bytes.
pub const MIN_CHUNK: u32 = 4096;
/// And at most this many.
pub const MAX_CHUNK: u32 = 64 << 20;
/// A longer file is taken for none.
const MAX_FILE: u64 = 1 << 30;
const FORMAT: &str = "rofs-index";
const VERSION: u32 = 1;

/// An image as chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    length: u64,
    chunk_size: u32,
    image: Hash,
    chunks: Vec<Option<Hash>>,
    /// Numbers of chunks to be fetched before others, the first one first.
    prefetch: Vec<u64>,
}

/// The index as it stands in its file: JSON, digests as hexadecimal digits, `null` for a chunk of zeros.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    version: u32,
    length: u64,
    chunk_size: u32,
    image: String,
    chunks: Vec<Option<String>>,
    #[serde(default)]
    prefetch: Vec<u64>,
}

impl Index {
    /// An index of these chunks, each `None` if it is all zeros. `image` is the digest of the whole.
    ///
    /// # Errors
    /// [`Failure::Input`] if the sizes do not fit together.
    pub fn new(
        length: u64,
        chunk_size: u32,
        image: Hash,
        chunks: Vec<Option<Hash>>,
    ) -> Result<Self, Failure> {
        let index = Self { length, chunk_size, image, chunks, prefetch: Vec::new() };
        index.check().map_err(|reason| Failure::input("index", reason, "choose another size of chunks"))?;
        Ok(index)
    }

    fn check(&self) -> Result<(), String> {
        if !self.chunk_size.is_power_of_two() || !(MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk_size) {
            return Err(format!(
                "chunks of {} bytes: not a power of 2 from 4 KiB to 64 MiB",
                self.chunk_size
            ));
        }
        if self.length.div_ceil(u64::from(self.chunk_size)) != self.chunks.len() as u64 {
            return Err(format!("{} chunks for an image of {} bytes", self.chunks.len(), self.length));
        }
        if let Some(wrong) = self.prefetch.iter().find(|n| **n >= self.chunks.len() as u64) {
            return Err(format!("prefetches chunk {wrong} of {}", self.chunks.len()));
        }
        Ok(())
    }

    /// Reads an index.
    ///
    /// # Errors
    /// What reading says; [`Failure::Input`] if it is none, or of another version.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let bad = |reason: String| {
            Failure::input(path.display().to_string(), reason, "make it again by mkrofs --store")
        };
        let mut text = Vec::new();
        let file = File::open(path).when("open", path)?;
        file.take(MAX_FILE).read_to_end(&mut text).when("read", path)?;
        let stored: Stored =
            serde_json::from_slice(&text).map_err(|e| bad(format!("not an index of an image ({e})")))?;
        if stored.format != FORMAT {
            return Err(bad("not an index of an image".into()));
        }
        if stored.version != VERSION {
            return Err(bad(format!("an index of version {}, not {VERSION}", stored.version)));
        }
        let hash = |text: &str| Hash::from_hex(text).map_err(|_| bad(format!("{text} is not a digest")));
        let chunks = stored.chunks.iter().map(|c| c.as_deref().map(hash).transpose());
        let index = Self {
            length: stored.length,
            chunk_size: stored.chunk_size,
            image: hash(&stored.image)?,
            chunks: chunks.collect::<Result<_, _>>()?,
            prefetch: stored.prefetch,
        };
        index.check().map_err(bad)?;
        Ok(index)
    }

    /// Writes the index beside `path` and gives it this name.
    ///
    /// # Errors
    /// What writing says.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let stored = Stored {
            format: FORMAT.into(),
            version: VERSION,
            length: self.length,
            chunk_size: self.chunk_size,
            image: self.image.to_string(),
            chunks: self.chunks.iter().map(|c| c.map(|h| h.to_string())).collect(),
            prefetch: self.prefetch.clone(),
        };
        let file = beside(path)?;
        let mut out = BufWriter::new(file.as_file());
        let written = serde_json::to_writer(&mut out, &stored).map_err(std::io::Error::from);
        written.and_then(|()| out.flush()).when("write", path)?;
        drop(out);
        file.persist(path).map_err(|e| e.error).when("rename the finished file to", path)?;
        Ok(())
    }

    /// Length of the image in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of a chunk; the last one may be shorter.
    pub const fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Digest of the whole image.
    pub const fn image(&self) -> Hash {
        self.image
    }

    /// Digests of the chunks in order, `None` for one of zeros.
    pub fn chunks(&self) -> &[Option<Hash>] {
        &self.chunks
    }

    /// Chunks to be fetched before others.
    pub fn prefetch(&self) -> &[u64] {
        &self.prefetch
    }

    /// Sets the chunks to be fetched before others.
    ///
    /// # Errors
    /// [`Failure::Input`] for a number that no chunk has.
    pub fn set_prefetch(&mut self, prefetch: Vec<u64>) -> Result<(), Failure> {
        let before = std::mem::replace(&mut self.prefetch, prefetch);
        self.check().map_err(|reason| {
            self.prefetch = before;
            Failure::input("prefetch list", reason, "make the list from a run of this image")
        })
    }

    /// Where a chunk is in the image: offset and length. `None` if there is no such chunk.
    pub fn place(&self, number: u64) -> Option<(u64, u32)> {
        let offset = number.checked_mul(u64::from(self.chunk_size)).filter(|o| *o < self.length)?;
        let len = self.length.saturating_sub(offset).min(u64::from(self.chunk_size));
        Some((offset, u32::try_from(len).ok()?))
    }
}

/// Writes a new prefetch list into the index at `path`.
///
/// # Errors
/// As [`Index::load`], [`Index::set_prefetch`] and [`Index::save`].
pub fn write_prefetch(path: &Path, prefetch: Vec<u64>) -> Result<(), Failure> {
    let mut index = Index::load(path)?;
    index.set_prefetch(prefetch)?;
    index.save(path)
}
