//! What stands on disk: structures, their constants and the bits of the features.
//!
//! All of it is little-endian and has no alignment of its own, so that a structure can be copied from any offset.
//! The names are those of Linux' `fs/erofs`, without its prefixes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where the superblock stands, in bytes from the start of the image.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// The first field of a superblock.
pub const MAGIC: u32 = 0xE0F5_E1E2;
/// Bytes of a slot of the inode area: an inode's number counts these.
pub const SLOT: u64 = 32;
/// The longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;
/// The block address that stands for a hole.
pub const NULL_BLOCK: u32 = u32::MAX;
/// Block sizes are 2 to the power of at least this.
pub const MIN_BLOCK_BITS: u8 = 9;
/// Block sizes are 2 to the power of at most this.
pub const MAX_BLOCK_BITS: u8 = 16;

/// Compatible feature: the checksum of the superblock is set.
pub const COMPAT_CHECKSUM: u32 = 0x1;
/// Compatible feature: times of inodes are those of modification.
pub const COMPAT_MTIME: u32 = 0x2;

/// Incompatible features, by their bits.
pub mod incompat {
    /// Compressed data is padded at its start. Also set in images without any compressed file.
    pub const ZERO_PADDING: u32 = 0x1;
    /// Settings of compression algorithms follow the superblock.
    pub const COMPR_CFGS: u32 = 0x2;
    /// There are files of chunks.
    pub const CHUNKED_FILE: u32 = 0x4;
    /// Further devices hold data; also a second algorithm in a compressed file.
    pub const DEVICE_TABLE: u32 = 0x8;
    /// Compressed tails stand beside their inodes.
    pub const ZTAILPACKING: u32 = 0x10;
    /// Tails of files stand together in one; also compressed data that is shared.
    pub const FRAGMENTS: u32 = 0x20;
    /// Prefixes of names of extended attributes are the image's own.
    pub const XATTR_PREFIXES: u32 = 0x40;
    /// Block addresses of 48 bits.
    pub const WIDE_ADDRESSES: u32 = 0x80;
    /// Metadata in a file of its own, which may be compressed.
    pub const METABOX: u32 = 0x100;
}

/// The superblock.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: U32,
    /// CRC-32C of the first block from the superblock on, with this field zero and without the final inversion.
    pub checksum: U32,
    /// Features that a reader need not know.
    pub feature_compat: U32,
    /// Size of a block, as a power of 2.
    pub block_bits: u8,
    /// Slots of 16 bytes by which the superblock is longer than 128.
    pub extra_slots: u8,
    /// The root directory's inode number.
    pub root_nid: U16,
    /// How many inodes there are.
    pub inodes: U64,
    /// Seconds; the time of compact inodes.
    pub build_time: U64,
    /// Nanoseconds of `build_time`.
    pub build_time_ns: U32,
    /// How many blocks there are.
    pub blocks: U32,
    /// The block from which inode numbers count.
    pub meta_block: U32,
    /// The block from which ids of shared extended attributes count.
    pub xattr_block: U32,
    /// Identity of the file system.
    pub uuid: [u8; 16],
    /// Its name, padded with NUL.
    pub volume_name: [u8; 16],
    /// Features that a reader must know, [`incompat`].
    pub feature_incompat: U32,
    /// Compression algorithms, or the reach of LZ4.
    pub compression: U16,
    /// How many further devices hold data.
    pub extra_devices: U16,
    /// Where their table is.
    pub device_table: U16,
    /// Size of a directory block in blocks, as a power of 2. Always 0.
    pub dir_block_bits: u8,
    /// How many prefixes of extended attributes' names the image has.
    pub xattr_prefixes: u8,
    /// Where these are.
    pub xattr_prefix_start: U32,
    /// A file of fragments.
    pub packed_nid: U64,
    /// Not used by this version of the format.
    pub reserved: [u8; 24],
}

/// `Inode::format`: the inode is an [`ExtendedInode`], not a [`CompactInode`].
pub const INODE_EXTENDED: u16 = 0x1;
/// `Inode::format`: the bits that are defined.
pub const INODE_FORMAT_ALL: u16 = 0xf;
/// Layout: blocks one after the other.
pub const LAYOUT_PLAIN: u16 = 0;
/// Layout: compressed, full index.
pub const LAYOUT_COMPRESSED_FULL: u16 = 1;
/// Layout: blocks one after the other, the last one behind the inode.
pub const LAYOUT_INLINE: u16 = 2;
/// Layout: compressed, compact index.
pub const LAYOUT_COMPRESSED_COMPACT: u16 = 3;
/// Layout: a table of chunks behind the inode.
pub const LAYOUT_CHUNKED: u16 = 4;

/// Chunk format: size of a chunk in blocks, as a power of 2.
pub const CHUNK_BITS_MASK: u16 = 0x1f;
/// Chunk format: the table has [`ChunkIndex`] entries, not block addresses of 4 bytes.
pub const CHUNK_INDEXES: u16 = 0x20;

/// The short form of an inode.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CompactInode {
    /// [`INODE_EXTENDED`] and, from bit 1, the layout.
    pub format: U16,
    /// Size of the extended attributes: none if 0, else a header of 12 bytes and 4 bytes for each above 1.
    pub xattr_count: U16,
    /// Type and permissions.
    pub mode: U16,
    /// Hard links.
    pub nlink: U16,
    /// Size in bytes.
    pub size: U32,
    /// Zero.
    pub reserved: U32,
    /// First block, device number or format of chunks.
    pub data: U32,
    /// The inode's number for `stat`.
    pub ino: U32,
    /// Owner.
    pub uid: U16,
    /// Group.
    pub gid: U16,
    /// Zero.
    pub reserved2: U32,
}

/// The complete form of an inode.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtendedInode {
    /// [`INODE_EXTENDED`] and, from bit 1, the layout.
    pub format: U16,
    /// Size of the extended attributes: none if 0, else a header of 12 bytes and 4 bytes for each above 1.
    pub xattr_count: U16,
    /// Type and permissions.
    pub mode: U16,
    /// Zero.
    pub reserved: U16,
    /// Size in bytes.
    pub size: U64,
    /// First block, device number or format of chunks.
    pub data: U32,
    /// The inode's number for `stat`.
    pub ino: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Seconds of the last modification.
    pub mtime: U64,
    /// Its nanoseconds.
    pub mtime_ns: U32,
    /// Hard links.
    pub nlink: U32,
    /// Zero.
    pub reserved2: [u8; 16],
}

/// An entry of the table of a chunked file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChunkIndex {
    /// Zero.
    pub advise: U16,
    /// Zero: this image.
    pub device: U16,
    /// First block of the chunk, or [`NULL_BLOCK`].
    pub block: U32,
}

/// An entry of a directory block. The name begins at `name_offset` of the block and ends where the next one begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Dirent {
    /// The inode's number.
    pub nid: U64,
    /// Where the name is; that of a block's first entry also says how many entries there are.
    pub name_offset: U16,
    /// Type of the file, 1 to 7.
    pub file_type: u8,
    /// Zero.
    pub reserved: u8,
}

/// What the extended attributes behind an inode begin with; ids of shared ones follow, then inline entries.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrHeader {
    /// A bit for each name that is not there; unused here.
    pub name_filter: U32,
    /// How many shared attributes there are.
    pub shared_count: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// An extended attribute; its name follows, then its value, padded to 4 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrHead {
    /// Length of the name without its prefix.
    pub name_len: u8,
    /// Which prefix, [`XATTR_PREFIXES`].
    pub name_index: u8,
    /// Length of the value.
    pub value_size: U16,
}

/// Prefixes of names of extended attributes, with their numbers.
pub const XATTR_PREFIXES: [(u8, &str); 5] = [
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
];

/// Device number as inodes hold it.
///
/// `None` for a number that Linux does not have: major above 12 bits, minor above 20.
pub const fn encode_device(major: u32, minor: u32) -> Option<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        return None;
    }
    Some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Major and minor number of what an inode holds.
pub const fn decode_device(raw: u32) -> (u32, u32) {
    ((raw >> 8) & 0xfff, (raw & 0xff) | ((raw >> 12) & 0xf_ff00))
}

/// Checksum of a superblock: `block` is the first block from the superblock on, with the checksum field zero.
pub fn checksum(block: &[u8]) -> u32 {
    checksum_end(checksum_begin(), block)
}

/// A checksum that is made in pieces.
pub(crate) type Digest = crc::Digest<'static, u32>;

/// Begins a checksum of pieces.
pub(crate) fn checksum_begin() -> Digest {
    static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    CRC.digest()
}

/// Takes the last piece and gives the checksum as the superblock holds it: without the algorithm's last inversion.
pub(crate) fn checksum_end(mut digest: Digest, last: &[u8]) -> u32 {
    digest.update(last);
    !digest.finalize()
}

/// How many bytes from the superblock on the checksum covers.
pub const fn checksum_length(block_size: u64) -> u64 {
    if block_size > SUPERBLOCK_OFFSET { block_size - SUPERBLOCK_OFFSET } else { block_size }
}
