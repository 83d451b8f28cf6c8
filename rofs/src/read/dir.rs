//! Directories: blocks of sorted entries, searched and listed.

use super::data::Extent;
use super::error::Error;
use super::image::Image;
use super::inode::{FileKind, Inode, Nid};
use super::source::{Source, read_struct};
use crate::format::{Dirent, NAME_MAX};
use core::cmp::Ordering;
use core::ops::ControlFlow;

const ENTRY: u64 = size_of::<Dirent>() as u64;
const BAD_BLOCK: &str = "a directory block with an impossible number of entries";
const BAD_NAME: &str = "a directory entry whose name is not one";

/// A directory block: entries, then their names.
struct Block {
    /// Where it begins in the image.
    start: u64,
    /// Its length; the last one's may be less than a block.
    len: u64,
    /// How many entries.
    count: u64,
}

/// An entry and its name, which is copied to a buffer.
struct Entry {
    raw: Dirent,
    name_len: usize,
}

/// Room for a name and for the byte that shows that it is too long.
type NameBuffer = [u8; NAME_MAX + 1];

impl<S: Source> Image<S> {
    /// Finds a name in a directory; "." and ".." too.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if `dir` is no directory, [`Error::Corrupt`], and what the source says.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<(Nid, FileKind)>, Error> {
        let blocks = self.dir_blocks(dir)?;
        if name.is_empty() || name.len() > NAME_MAX {
            return Ok(None);
        }
        let mut buffer: NameBuffer = [0; NAME_MAX + 1];
        // The last block whose first name is not above the one that is looked for.
        let mut found = None;
        let (mut low, mut high) = (0, blocks);
        while low < high {
            let middle = low.midpoint(high);
            let block = self.dir_block(dir, middle)?;
            let entry = self.entry(&block, 0, &mut buffer)?;
            match buffer.get(..entry.name_len).unwrap_or_default().cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Equal => return self.target(&entry).map(Some),
                Ordering::Less => {
                    low = middle.saturating_add(1);
                    found = Some(block);
                }
            }
        }
        let Some(block) = found else { return Ok(None) };
        let (mut low, mut high) = (1, block.count);
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.entry(&block, middle, &mut buffer)?;
            match buffer.get(..entry.name_len).unwrap_or_default().cmp(name) {
                Ordering::Greater => high = middle,
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Equal => return self.target(&entry).map(Some),
            }
        }
        Ok(None)
    }

    /// Lists a directory from `cookie` on: 0, or what an earlier call gave as the next one.
    ///
    /// `each` gets the name, the inode's number, the kind and the cookie of what follows, in the order of the image,
    /// which is that of the bytes of the names; "." and ".." are among them. It ends the listing by `Break`.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if `dir` is no directory, [`Error::Corrupt`], and what the source says.
    pub fn read_dir<F>(&self, dir: &Inode, cookie: u64, mut each: F) -> Result<(), Error>
    where
        F: FnMut(&[u8], Nid, FileKind, u64) -> ControlFlow<()>,
    {
        let blocks = self.dir_blocks(dir)?;
        let mut buffer: NameBuffer = [0; NAME_MAX + 1];
        let mut number = cookie >> self.block_bits;
        let mut index = (cookie & self.block_size().saturating_sub(1)).div_ceil(ENTRY);
        while number < blocks {
            let block = self.dir_block(dir, number)?;
            while index < block.count {
                let entry = self.entry(&block, index, &mut buffer)?;
                let name = buffer.get(..entry.name_len).ok_or(Error::Corrupt(BAD_NAME))?;
                if name.iter().any(|b| matches!(b, b'/' | 0)) {
                    return Err(Error::Corrupt(BAD_NAME));
                }
                let (nid, kind) = self.target(&entry)?;
                index = index.saturating_add(1);
                let next = if index < block.count {
                    (number << self.block_bits).saturating_add(index.saturating_mul(ENTRY))
                } else {
                    number.saturating_add(1) << self.block_bits
                };
                if each(name, nid, kind, next).is_break() {
                    return Ok(());
                }
            }
            index = 0;
            number = number.saturating_add(1);
        }
        Ok(())
    }

    /// How many blocks a directory has. Its data is in the image, so they are no more than the image has bytes.
    fn dir_blocks(&self, dir: &Inode) -> Result<u64, Error> {
        if dir.kind != FileKind::Directory {
            return Err(Error::WrongKind("directory"));
        }
        if dir.size > self.source.len() {
            return Err(Error::Corrupt("a directory larger than the image"));
        }
        Ok(dir.size.div_ceil(self.block_size()))
    }

    fn dir_block(&self, dir: &Inode, number: u64) -> Result<Block, Error> {
        let offset = number << self.block_bits;
        let want = self.block_size().min(dir.size.saturating_sub(offset));
        let start = match self.map(dir, offset)? {
            Extent::Data { image_offset, len } if len >= want => image_offset,
            _ => return Err(Error::Corrupt("a directory with a hole")),
        };
        if want < ENTRY {
            return Err(Error::Corrupt(BAD_BLOCK));
        }
        let first: Dirent = read_struct(&self.source, start)?;
        let names = u64::from(first.name_offset.get());
        if names < ENTRY || names >= want || names.checked_rem(ENTRY) != Some(0) {
            return Err(Error::Corrupt(BAD_BLOCK));
        }
        let count = names.checked_div(ENTRY).unwrap_or(0);
        Ok(Block { start, len: want, count })
    }

    /// Copies an entry and its name. `index` is below the block's count.
    fn entry(&self, block: &Block, index: u64, buffer: &mut NameBuffer) -> Result<Entry, Error> {
        let at = block.start.saturating_add(index.saturating_mul(ENTRY));
        let last = index.saturating_add(1) >= block.count;
        // The next entry says where this one's name ends.
        let (raw, end) = if last {
            (read_struct::<Dirent, _>(&self.source, at)?, block.len)
        } else {
            let [raw, next] = read_struct::<[Dirent; 2], _>(&self.source, at)?;
            (raw, u64::from(next.name_offset.get()))
        };
        let start = u64::from(raw.name_offset.get());
        let names = block.count.saturating_mul(ENTRY);
        if start < names || start >= end || end > block.len {
            return Err(Error::Corrupt(BAD_NAME));
        }
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(buffer.len());
        let name = buffer.get_mut(..len).ok_or(Error::Corrupt(BAD_NAME))?;
        self.source.read_at(block.start.saturating_add(start), name)?;
        let name_len = if last { name.iter().position(|b| *b == 0).unwrap_or(len) } else { len };
        if name_len == 0 || name_len > NAME_MAX {
            return Err(Error::Corrupt(BAD_NAME));
        }
        Ok(Entry { raw, name_len })
    }

    /// What an entry stands for. One without a type has that of its inode.
    fn target(&self, entry: &Entry) -> Result<(Nid, FileKind), Error> {
        let nid = Nid(entry.raw.nid.get());
        let kind = match FileKind::from_file_type(entry.raw.file_type) {
            Some(kind) => kind,
            None => self.inode(nid)?.kind,
        };
        Ok((nid, kind))
    }
}
