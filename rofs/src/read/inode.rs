//! Inodes: what `stat` tells, and where the data is.

use super::error::Error;
use super::image::Image;
use super::source::{Source, read_struct};
use crate::format::{self, CompactInode, ExtendedInode};

/// An inode's number: its place in the inode area, in units of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nid(pub u64);

/// What kind of file an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

impl FileKind {
    /// The kind in the upper bits of a mode (`S_IFMT`); `None` if they are none that Linux has.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o120_000 => Self::Symlink,
            _ => return None,
        })
    }

    /// The upper bits of a mode (`S_IFMT`).
    pub const fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Symlink => 0o120_000,
        }
    }

    /// The kind that a directory entry's type stands for; `None` for 0, unknown, and what is not defined.
    pub const fn from_file_type(file_type: u8) -> Option<Self> {
        Some(match file_type {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::CharDevice,
            4 => Self::BlockDevice,
            5 => Self::Fifo,
            6 => Self::Socket,
            7 => Self::Symlink,
            _ => return None,
        })
    }

    /// The type that stands in a directory entry.
    pub const fn file_type(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

/// How a file's data is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Blocks one after the other.
    Plain,
    /// The same, but for the last block, which stands behind the inode.
    Inline,
    /// A table of chunks, which may be holes and may be shared.
    Chunked,
}

/// A device's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// An inode, copied from the image and checked.
#[derive(Clone, Copy, Debug)]
pub struct Inode {
    /// Its number in the image.
    pub nid: Nid,
    /// What kind of file it is.
    pub kind: FileKind,
    /// The whole mode: kind, set-id bits and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub nlink: u32,
    /// Size in bytes, at most `i64::MAX`.
    pub size: u64,
    /// Last modification: seconds since the epoch.
    pub mtime: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub mtime_ns: u32,
    /// The device, if this is one; zeros else.
    pub device: Device,
    /// The number that the image has for `stat` of 32 bits. `nid` is the one that is unique.
    pub ino: u32,
    /// How the data is laid out.
    pub layout: Layout,
    /// First block, or format of chunks.
    pub(super) data: u32,
    /// Where extended attributes begin, in the image.
    pub(super) xattrs: u64,
    /// Their length.
    pub(super) xattr_len: u64,
}

impl Inode {
    /// Where inline data or the table of chunks begins, in the image.
    pub(super) const fn body(&self) -> u64 {
        self.xattrs.saturating_add(self.xattr_len)
    }

    /// Whether there are extended attributes, as far as the inode itself tells.
    pub const fn has_xattrs(&self) -> bool {
        self.xattr_len > 0
    }
}

/// What both forms of inodes hold.
struct Common {
    format: u16,
    xattr_count: u16,
    mode: u16,
    size: u64,
    data: u32,
    ino: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    mtime: u64,
    mtime_ns: u32,
    length: u64,
}

impl<S: Source> Image<S> {
    /// The inode of a number.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there cannot be one, [`Error::Unsupported`] if its data is compressed.
    pub fn inode(&self, nid: Nid) -> Result<Inode, Error> {
        const OUTSIDE: &str = "an inode beyond the end of the image";
        let offset = nid
            .0
            .checked_mul(format::SLOT)
            .and_then(|o| o.checked_add(self.info.meta_offset))
            .ok_or(Error::Corrupt(OUTSIDE))?;
        let compact: CompactInode = self.fetch(offset, OUTSIDE)?;
        let common = if compact.format.get() & format::INODE_EXTENDED == 0 {
            self.compact(&compact)
        } else {
            self.check(offset, size_of::<ExtendedInode>() as u64, OUTSIDE)?;
            extended(&read_struct::<ExtendedInode, _>(&self.source, offset)?)
        };
        if common.format & !format::INODE_FORMAT_ALL != 0 {
            return Err(Error::Unsupported("an inode of an unknown format"));
        }
        let layout = match common.format >> 1 {
            format::LAYOUT_PLAIN => Layout::Plain,
            format::LAYOUT_INLINE => Layout::Inline,
            format::LAYOUT_CHUNKED => Layout::Chunked,
            format::LAYOUT_COMPRESSED_FULL | format::LAYOUT_COMPRESSED_COMPACT => {
                return Err(Error::Unsupported("compressed (LZ4) data"));
            }
            _ => return Err(Error::Unsupported("an unknown layout of data")),
        };
        let kind =
            FileKind::from_mode(u32::from(common.mode)).ok_or(Error::Corrupt("an inode of no known kind"))?;
        if i64::try_from(common.size).is_err() {
            return Err(Error::Corrupt("a size beyond what Linux has"));
        }
        if common.mtime_ns >= 1_000_000_000 {
            return Err(Error::Corrupt("nanoseconds of more than a second"));
        }
        let xattrs = offset.checked_add(common.length).ok_or(Error::Corrupt(OUTSIDE))?;
        let xattr_len = match u64::from(common.xattr_count) {
            0 => 0,
            count => count.saturating_sub(1).saturating_mul(4).saturating_add(12),
        };
        self.check(xattrs, xattr_len, "extended attributes beyond the end of the image")?;
        let device = match kind {
            FileKind::CharDevice | FileKind::BlockDevice => {
                let (major, minor) = format::decode_device(common.data);
                Device { major, minor }
            }
            _ => Device { major: 0, minor: 0 },
        };
        Ok(Inode {
            nid,
            kind,
            mode: common.mode,
            uid: common.uid,
            gid: common.gid,
            nlink: common.nlink,
            size: common.size,
            mtime: common.mtime.cast_signed(),
            mtime_ns: common.mtime_ns,
            device,
            ino: common.ino,
            layout,
            data: common.data,
            xattrs,
            xattr_len,
        })
    }

    /// A compact inode has no time of its own: it has that of the image.
    fn compact(&self, raw: &CompactInode) -> Common {
        Common {
            format: raw.format.get(),
            xattr_count: raw.xattr_count.get(),
            mode: raw.mode.get(),
            size: u64::from(raw.size.get()),
            data: raw.data.get(),
            ino: raw.ino.get(),
            uid: u32::from(raw.uid.get()),
            gid: u32::from(raw.gid.get()),
            nlink: u32::from(raw.nlink.get()),
            mtime: self.info.build_time,
            mtime_ns: self.info.build_time_ns,
            length: size_of::<CompactInode>() as u64,
        }
    }
}

fn extended(raw: &ExtendedInode) -> Common {
    Common {
        format: raw.format.get(),
        xattr_count: raw.xattr_count.get(),
        mode: raw.mode.get(),
        size: raw.size.get(),
        data: raw.data.get(),
        ino: raw.ino.get(),
        uid: raw.uid.get(),
        gid: raw.gid.get(),
        nlink: raw.nlink.get(),
        mtime: raw.mtime.get(),
        mtime_ns: raw.mtime_ns.get(),
        length: size_of::<ExtendedInode>() as u64,
    }
}

// The structures are what the format says, so that a copy is all that reading takes.
const _: () = assert!(size_of::<CompactInode>() == 32 && size_of::<ExtendedInode>() == 64);
const _: () = assert!(size_of::<format::Superblock>() == 128 && size_of::<format::Dirent>() == 12);
