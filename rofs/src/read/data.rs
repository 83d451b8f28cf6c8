//! Data of files: where a page of it stands in the image, and copies of it.

use super::error::Error;
use super::image::Image;
use super::inode::{FileKind, Inode, Layout};
use super::source::Source;
use crate::format::{self, ChunkIndex};
use zerocopy::little_endian::U32;

/// Where a file's bytes from an offset on are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// In the image, at `image_offset`; at least `len` bytes, within both the file and the image.
    ///
    /// A page of it can be mapped where `image_offset` is a multiple of the page's size and `len` covers the page. The
    /// last page of a file is covered in part: images of `mkrofs` and `mkfs.erofs` have zeros behind the end there,
    /// but only a look at them says so for an image of whoever else.
    Data {
        /// Bytes from the start of the image.
        image_offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Nowhere: zeros. `len` is 0 at and beyond the end of the file, and only there.
    Hole {
        /// How many bytes.
        len: u64,
    },
}

/// How many chunks that stand one after the other are told as one extent.
const MERGED: u32 = 64;

const OUTSIDE: &str = "data beyond the end of the image";

impl<S: Source> Image<S> {
    /// Where the bytes of `inode` from `offset` on are.
    ///
    /// # Errors
    /// [`Error::WrongKind`] for devices, pipes and sockets; [`Error::Corrupt`] if the place is not in the image.
    pub fn map(&self, inode: &Inode, offset: u64) -> Result<Extent, Error> {
        if !matches!(inode.kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink) {
            return Err(Error::WrongKind("file with data"));
        }
        if offset >= inode.size {
            return Ok(Extent::Hole { len: 0 });
        }
        match inode.layout {
            Layout::Plain => self.flat(inode, offset, inode.size),
            Layout::Inline => {
                let tail = self.tail_start(inode);
                if offset < tail { self.flat(inode, offset, tail) } else { self.tail(inode, offset, tail) }
            }
            Layout::Chunked => self.chunk(inode, offset),
        }
    }

    /// Copies bytes of `inode` from `offset` on to `out`, and says how many: less than asked for only at the end.
    ///
    /// # Errors
    /// As [`map`](Self::map), and what the source says.
    pub fn read(&self, inode: &Inode, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0usize;
        // Each extent has at least one byte, so this ends.
        while let Some(rest) = out.get_mut(done..)
            && !rest.is_empty()
        {
            let at = offset.saturating_add(done as u64);
            let take = |len: u64| usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let count = match self.map(inode, at)? {
                Extent::Hole { len: 0 } => break,
                Extent::Hole { len } => {
                    let count = take(len);
                    rest.get_mut(..count).unwrap_or_default().fill(0);
                    count
                }
                Extent::Data { image_offset, len } => {
                    let count = take(len);
                    self.source.read_at(image_offset, rest.get_mut(..count).unwrap_or_default())?;
                    count
                }
            };
            done = done.saturating_add(count);
        }
        Ok(done)
    }

    /// Copies the target of a symbolic link to `out`, and says how long it is: more than `out` has room for, perhaps.
    ///
    /// # Errors
    /// [`Error::WrongKind`], [`Error::Corrupt`] if the target is empty or longer than a page, and as `read`.
    pub fn read_link(&self, inode: &Inode, out: &mut [u8]) -> Result<usize, Error> {
        if inode.kind != FileKind::Symlink {
            return Err(Error::WrongKind("symbolic link"));
        }
        if inode.size == 0 || inode.size > 4095 {
            return Err(Error::Corrupt("a symbolic link of an impossible length"));
        }
        self.read(inode, 0, out)?;
        Ok(usize::try_from(inode.size).unwrap_or(usize::MAX))
    }

    /// Where the last block of a file begins; the file is not empty.
    fn tail_start(&self, inode: &Inode) -> u64 {
        let last = inode.size.saturating_sub(1);
        last & !self.block_size().saturating_sub(1)
    }

    /// Blocks one after the other, up to `end` of the file.
    fn flat(&self, inode: &Inode, offset: u64, end: u64) -> Result<Extent, Error> {
        let image_offset =
            self.block_offset(inode.data).checked_add(offset).ok_or(Error::Corrupt(OUTSIDE))?;
        let len = end.saturating_sub(offset);
        self.check(image_offset, len, OUTSIDE)?;
        Ok(Extent::Data { image_offset, len })
    }

    /// The last block, behind the inode. It must lie in one block of the image, as Linux wants it.
    fn tail(&self, inode: &Inode, offset: u64, tail: u64) -> Result<Extent, Error> {
        let body = inode.body();
        let in_block = body & self.block_size().saturating_sub(1);
        if in_block.saturating_add(inode.size.saturating_sub(tail)) > self.block_size() {
            return Err(Error::Corrupt("inline data that crosses a block"));
        }
        let image_offset = body.saturating_add(offset.saturating_sub(tail));
        let len = inode.size.saturating_sub(offset);
        self.check(image_offset, len, OUTSIDE)?;
        Ok(Extent::Data { image_offset, len })
    }

    /// A chunk, and those that follow it in the image as they do in the file.
    fn chunk(&self, inode: &Inode, offset: u64) -> Result<Extent, Error> {
        // The upper half of the field is reserved.
        let format = u16::try_from(inode.data & 0xffff).unwrap_or(u16::MAX);
        if format & !(format::CHUNK_BITS_MASK | format::CHUNK_INDEXES) != 0 {
            return Err(Error::Unsupported("an unknown format of chunks"));
        }
        let bits = u32::from(self.block_bits).saturating_add(u32::from(format & format::CHUNK_BITS_MASK));
        let size = 1u64.checked_shl(bits).ok_or(Error::Corrupt("chunks of an impossible size"))?;
        let indexes = format & format::CHUNK_INDEXES != 0;
        let within = offset & size.saturating_sub(1);
        let mut number = offset >> bits;
        let left = inode.size.saturating_sub(offset);
        let mut len = size.saturating_sub(within).min(left);
        let first = self.chunk_block(inode, number, indexes)?;
        let mut expected = u64::from(first);
        let blocks = size >> self.block_bits;
        for _ in 0..MERGED {
            if len >= left {
                break;
            }
            number = number.saturating_add(1);
            let next = self.chunk_block(inode, number, indexes)?;
            expected = if first == format::NULL_BLOCK { expected } else { expected.saturating_add(blocks) };
            if u64::from(next) != expected {
                break;
            }
            len = len.saturating_add(size).min(left);
        }
        if first == format::NULL_BLOCK {
            return Ok(Extent::Hole { len });
        }
        let image_offset = self.block_offset(first).checked_add(within).ok_or(Error::Corrupt(OUTSIDE))?;
        self.check(image_offset, len, OUTSIDE)?;
        Ok(Extent::Data { image_offset, len })
    }

    /// The first block of a chunk.
    fn chunk_block(&self, inode: &Inode, number: u64, indexes: bool) -> Result<u32, Error> {
        const TABLE: &str = "a table of chunks beyond the end of the image";
        let entry = if indexes { 8u64 } else { 4 };
        let offset = inode
            .body()
            .checked_next_multiple_of(entry)
            .zip(number.checked_mul(entry))
            .and_then(|(table, at)| table.checked_add(at))
            .ok_or(Error::Corrupt(TABLE))?;
        if !indexes {
            return Ok(self.fetch::<U32>(offset, TABLE)?.get());
        }
        let index: ChunkIndex = self.fetch(offset, TABLE)?;
        if index.device.get() != 0 && index.block.get() != format::NULL_BLOCK {
            return Err(Error::Unsupported("data on further devices (multi-device)"));
        }
        Ok(index.block.get())
    }

    /// Where a block begins.
    fn block_offset(&self, block: u32) -> u64 {
        u64::from(block) << self.block_bits
    }
}
