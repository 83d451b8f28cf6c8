//! An open image: its superblock, and what the image as a whole promises.

use super::error::Error;
use super::inode::Nid;
use super::source::{Source, read_struct};
use crate::format::{self, Superblock, incompat};
use zerocopy::IntoBytes;

/// Whether [`Image::open`] checks the superblock's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// A wrong checksum is an error. An image that has none is not.
    Checksum,
    /// It is not looked at.
    No,
}

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Size of a block in bytes, 512 to 65,536.
    pub block_size: u32,
    /// How many blocks the image says to have.
    pub blocks: u32,
    /// How many inodes it says to have.
    pub inodes: u64,
    /// When it was built: seconds since the epoch.
    pub build_time: u64,
    /// And nanoseconds.
    pub build_time_ns: u32,
    /// Identity of the file system.
    pub uuid: [u8; 16],
    /// Its name, padded with NUL.
    pub volume_name: [u8; 16],
    /// Features that need not be known.
    pub feature_compat: u32,
    /// Features that must be.
    pub feature_incompat: u32,
    /// The superblock's checksum, where it has one.
    pub checksum: Option<u32>,
    /// Where inode numbers count from, in bytes.
    pub meta_offset: u64,
    /// Where ids of shared extended attributes count from, in bytes.
    pub xattr_offset: u64,
}

/// An image over a [`Source`]. It holds the superblock's values; all else is read when it is asked for.
#[derive(Debug)]
pub struct Image<S> {
    pub(super) source: S,
    pub(super) info: Info,
    pub(super) block_bits: u8,
    root: Nid,
}

impl<S: Source> Image<S> {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    /// [`Error::NotErofs`], [`Error::Unsupported`] with the first feature that is not there in this reader,
    /// [`Error::Corrupt`] (the checksum among others), or what the source says.
    pub fn open(source: S, verify: Verify) -> Result<Self, Error> {
        let length = source.len();
        let end = format::SUPERBLOCK_OFFSET.saturating_add(size_of::<Superblock>() as u64);
        if length < end {
            return Err(Error::NotErofs);
        }
        let raw: Superblock = read_struct(&source, format::SUPERBLOCK_OFFSET)?;
        if raw.magic.get() != format::MAGIC {
            return Err(Error::NotErofs);
        }
        if !(format::MIN_BLOCK_BITS..=format::MAX_BLOCK_BITS).contains(&raw.block_bits) {
            return Err(Error::Unsupported("blocks that are not of 512 to 65,536 bytes"));
        }
        let block_size = 1u32.checked_shl(u32::from(raw.block_bits)).ok_or(Error::NotErofs)?;
        refuse_features(&raw)?;
        let checksum =
            (raw.feature_compat.get() & format::COMPAT_CHECKSUM != 0).then_some(raw.checksum.get());
        if let (Verify::Checksum, Some(expected)) = (verify, checksum)
            && superblock_checksum(&source, raw, u64::from(block_size))? != expected
        {
            return Err(Error::Corrupt("the superblock's checksum is wrong"));
        }
        let offset = |block: u32| u64::from(block).saturating_mul(u64::from(block_size));
        let (meta_offset, xattr_offset) = (offset(raw.meta_block.get()), offset(raw.xattr_block.get()));
        if meta_offset >= length || xattr_offset > length {
            return Err(Error::Corrupt("metadata beyond the end of the image"));
        }
        let info = Info {
            block_size,
            blocks: raw.blocks.get(),
            inodes: raw.inodes.get(),
            build_time: raw.build_time.get(),
            build_time_ns: raw.build_time_ns.get(),
            uuid: raw.uuid,
            volume_name: raw.volume_name,
            feature_compat: raw.feature_compat.get(),
            feature_incompat: raw.feature_incompat.get(),
            checksum,
            meta_offset,
            xattr_offset,
        };
        Ok(Self { source, info, block_bits: raw.block_bits, root: Nid(u64::from(raw.root_nid.get())) })
    }

    /// What the superblock says.
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// The root directory.
    pub const fn root(&self) -> Nid {
        self.root
    }

    /// Where the bytes come from.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Size of a block.
    pub(super) fn block_size(&self) -> u64 {
        u64::from(self.info.block_size)
    }

    /// Checks that a range lies within the image.
    pub(super) fn check(&self, offset: u64, len: u64, what: &'static str) -> Result<(), Error> {
        match offset.checked_add(len) {
            Some(end) if end <= self.source.len() => Ok(()),
            _ => Err(Error::Corrupt(what)),
        }
    }

    /// A structure at `offset`, which must lie within the image.
    pub(super) fn fetch<T>(&self, offset: u64, what: &'static str) -> Result<T, Error>
    where
        T: zerocopy::FromBytes + IntoBytes,
    {
        self.check(offset, size_of::<T>() as u64, what)?;
        read_struct(&self.source, offset)
    }
}

/// Names the first feature that this reader does not have.
fn refuse_features(raw: &Superblock) -> Result<(), Error> {
    let features = raw.feature_incompat.get();
    let has = |bit: u32| features & bit != 0;
    let name = if has(incompat::COMPR_CFGS) {
        // The field is a set of algorithms here.
        match raw.compression.get() {
            1 => "compressed (LZ4) data",
            2 => "compressed (LZMA) data",
            4 => "compressed (DEFLATE) data",
            8 => "compressed (Zstandard) data",
            _ => "compressed data (several algorithms)",
        }
    } else if has(incompat::DEVICE_TABLE) {
        if raw.extra_devices.get() > 0 {
            "data on further devices (multi-device)"
        } else {
            "compressed data (two algorithms in a file)"
        }
    } else if has(incompat::ZTAILPACKING) {
        "compressed data (tails beside inodes)"
    } else if has(incompat::FRAGMENTS) {
        "compressed data (fragments or shared extents)"
    } else if has(incompat::XATTR_PREFIXES) {
        "long prefixes of extended attributes"
    } else if has(incompat::WIDE_ADDRESSES) {
        "block addresses of 48 bits"
    } else if has(incompat::METABOX) {
        "metadata in a file of its own (metabox)"
    } else if features & !(incompat::ZERO_PADDING | incompat::CHUNKED_FILE) != 0 {
        "an incompatible feature that is newer than this reader"
    } else if raw.compression.get() != 0 {
        // How far LZ4 reaches: images that use it say so here, and need no feature for it.
        "compressed (LZ4) data"
    } else if raw.extra_devices.get() > 0 {
        "data on further devices (multi-device)"
    } else if raw.dir_block_bits != 0 {
        "directory blocks of another size"
    } else {
        return Ok(());
    };
    Err(Error::Unsupported(name))
}

/// The checksum as it should be.
fn superblock_checksum<S: Source>(source: &S, mut raw: Superblock, block_size: u64) -> Result<u32, Error> {
    raw.checksum.set(0);
    let mut digest = format::checksum_begin();
    digest.update(raw.as_bytes());
    let head = size_of::<Superblock>() as u64;
    let mut left = format::checksum_length(block_size).saturating_sub(head);
    let mut offset = format::SUPERBLOCK_OFFSET.saturating_add(head);
    let mut buffer = [0u8; 256];
    while left > 0 {
        let take = left.min(buffer.len() as u64);
        let piece = buffer.get_mut(..usize::try_from(take).unwrap_or(0)).ok_or(Error::Io)?;
        if offset.saturating_add(take) > source.len() {
            return Err(Error::Corrupt("the first block is cut off"));
        }
        source.read_at(offset, piece)?;
        digest.update(piece);
        offset = offset.saturating_add(take);
        left = left.saturating_sub(take);
    }
    Ok(format::checksum_end(digest, &[]))
}
